"""The runtime's mathematics, as scalar loops and as vectors, on each instruction set of this machine."""

import ctypes

import numpy as np
import pytest

from gesher.compiler import cpu
from gesher.compiler.build import build
from gesher.compiler.library import Library

FUNCTIONS = {
    # name: (truth in double, units in the last place allowed: those stated in gs_math.inc, rounded up)
    "exp": (np.exp, 1.2),
    "exp_near": (np.exp, 1.2),
    "exp_down": (lambda x: np.where(x < -87, 0, np.exp(x)), 1.2),
    "log": (np.log, 1.2),
    "tanh": (np.tanh, 2.0),
    "sigmoid": (lambda x: np.where(x < 0, np.exp(x), 1.0) / (1.0 + np.exp(-abs(x))), 2.5),
    "erf": (None, 1.5),
}
# Where a function is not for all numbers.
RANGES = {"exp_near": (-87, 88), "exp_down": (-np.inf, 88)}
SOURCE = '#include "gs_math.h"\n' + "".join(f"""
GS_EXPORT void scalar_{name}(const float* x, float* y, int64_t n) {{
  for (int64_t i = 0; i < n; i++) y[i] = gs_{name}f(x[i]);
}}
GS_EXPORT void vector_{name}(const float* x, float* y, int64_t n) {{
  for (int64_t i = 0; i < n; i += GS_W) gs_store(y + i, gs_{name}v(gs_load(x + i)));
}}
""" for name in FUNCTIONS)


def truth(name: str, x: np.ndarray) -> np.ndarray:
    if name == "erf":
        import math

        with np.errstate(invalid="ignore"):
            return np.array([math.erf(v) for v in x.astype(np.float64)])
    with np.errstate(all="ignore"):
        return FUNCTIONS[name][0](x.astype(np.float64))


def samples() -> np.ndarray:
    """Every magnitude of both signs, the working range densely, the special values; a multiple of 16 long."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    dense = np.concatenate([rng.uniform(-r, r, 20000) for r in (0.1, 1, 4, 20, 105)]).astype(np.float32)
    special = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38,
                          88.72283, 88.72284, -87.33655, -103.97207, -103.97208, -104.5, 0.6, 0.93, 4.0, -0.6, -0.93])
    x = np.concatenate([bits, dense, special])
    return np.resize(x, (len(x) + 15) // 16 * 16).astype(np.float32)


def call(library: Library, name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    library.function(name, None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(x.ctypes.data, y.ctypes.data, x.size)
    return y


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", ["scalar", "vector"])
def test_mathematics_is_as_exact_as_it_says(isa, name, form):
    x = samples()
    low, high = RANGES.get(name, (-np.inf, np.inf))
    x[(x < low) | (x > high)] = 1
    y, expected = call(Library(build(SOURCE, isa=isa).library), f"{form}_{name}", x), truth(name, x)
    with np.errstate(all="ignore"):
        rounded = expected.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
    nan = np.isnan(rounded)
    assert np.array_equal(np.isnan(y), nan)
    infinite = np.isinf(rounded)
    assert np.array_equal(y[infinite], rounded[infinite])
    plain = ~nan & ~infinite
    if name == "sigmoid":    # what is below 2^-127 may become 0
        plain &= (y != 0) | (expected >= 2.0 ** -127)
    # At the very end of exp's range the nearest float may be infinity: one unit away all the same.
    error = np.abs(y[plain].astype(np.float64) - expected[plain]) / unit[plain]
    worst = np.argmax(error)
    assert error[worst] <= FUNCTIONS[name][1], (x[plain][worst], y[plain][worst], expected[plain][worst], error[worst])


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_keep_negative_zero(name):
    y = call(Library(build(SOURCE).library), f"vector_{name}", np.full(16, -0.0, np.float32))
    assert np.all(y == 0) and np.all(np.signbit(y))


def test_scalar_loops_become_vector_code():
    if cpu.here().isa.width == 1:
        pytest.skip("this machine has no vectors")
    from gesher.compiler import runtime, toolchain
    from gesher.compiler.private import private_folder

    if cpu.here().arch != "x86_64":
        pytest.skip("the names of vector registers are read for x86-64 only")
    source = private_folder("work") / "vectorised.c"
    source.write_text(runtime.flatten(SOURCE.split("GS_EXPORT void vector_exp")[0]))
    try:
        text = toolchain.find().assembly(source)
    finally:
        source.unlink()
    register = {16: "%zmm", 8: "%ymm", 4: "%xmm"}[cpu.here().isa.width]
    packed = [line for line in text.splitlines() if register in line and "ps" in line.split("\t")[1][-4:]]
    assert len(packed) > 10


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
def test_exp_of_doubles(isa):
    source = ('#include "gs_scalar.h"\nGS_EXPORT void run(const double* x, double* y, int64_t n) '
              "{ for (int64_t i = 0; i < n; i++) y[i] = gs_exp_f64(x[i]); }\n")
    run = Library(build(source, isa=isa).library).function("run", None, *[ctypes.c_void_p] * 2, ctypes.c_int64)
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-746, 710, 20000), rng.uniform(-1, 1, 20000), rng.uniform(-1e-9, 1e-9, 100),
                        [0, -0.0, 709.78, 709.79, -708.4, -745.13, -745.14, 1e300, -1e300, np.inf, -np.inf, np.nan]])
    y = np.empty_like(x)
    run(x.ctypes.data, y.ctypes.data, len(x))
    with np.errstate(all="ignore"):
        want = np.exp(x.astype(np.longdouble))
        # Results below the least normal number are rounded twice, to the right one or its neighbour.
        off = np.abs(y - want)[np.isfinite(y)] / np.maximum(np.spacing(np.abs(want).astype(np.float64)), 5e-324)[
            np.isfinite(y)]
        assert off.max() < 1.1
        expected = want.astype(np.float64)
    assert (np.isnan(y) == np.isnan(x)).all() and (np.isinf(y) == np.isinf(expected)).all()
