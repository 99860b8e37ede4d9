"""Functions of floats that are computed in doubles, and the doubles' own, on each instruction set of this machine."""

import ctypes

import numpy as np
import pytest

from gesher.compiler import cpu
from gesher.compiler.build import build
from gesher.compiler.library import Library

# For truth: numpy's doubles, whose error is a hundredth of what is asked for.
FUNCTIONS = {"expm1": np.expm1, "log1p": np.log1p, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh,
             "acosh": np.arccosh, "atanh": np.arctanh, "atan": np.arctan, "asin": np.arcsin, "acos": np.arccos,
             "sin": np.sin, "cos": np.cos, "tan": np.tan}
SOURCE = '#include "gs_scalar.h"\n' + "".join(f"""
GS_EXPORT void run_{name}(const float* x, float* y, int64_t n) {{
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = gs_{name}_f32(x[i]);
}}
""" for name in FUNCTIONS) + """
GS_EXPORT void run_pow(const float* x, const float* e, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = gs_pow_f32(x[i], e[i]);
}
GS_EXPORT void run_tanh(const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = gs_tanh_f64(x[i]);
}
"""
SPECIAL = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 0.5, -0.5, 1e-45, -1e-45, 1.1754944e-38,
                      3.4028235e38, -3.4028235e38, 88.72284, -103.97208, 16777216, 16777217, 1e10, -1e22,
                      0.999999940395])
isas = pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)


def samples() -> np.ndarray:
    """Every magnitude of both signs, the working ranges densely, floats near multiples of pi/2, special values."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    dense = [rng.uniform(-r, r, 10000) for r in (1e-4, 0.02, 1, 4, 100, 1e6)]
    turns = (rng.integers(1, 2**22, 10000) * (np.pi / 2)).astype(np.float32)
    parts = [bits, *(d.astype(np.float32) for d in dense), turns, np.nextafter(turns, np.float32(np.inf)), SPECIAL]
    return np.concatenate(parts)


def hold(y: np.ndarray, truth: np.ndarray, what: str, most: float) -> None:
    with np.errstate(all="ignore"):
        rounded = truth.astype(y.dtype)
        unit = np.maximum(np.spacing(np.abs(rounded)), np.finfo(y.dtype).smallest_subnormal).astype(np.float64)
        assert np.array_equal(np.isnan(y), np.isnan(rounded)), what
        plain = ~np.isnan(rounded) & np.isfinite(truth) & (np.abs(truth) < np.finfo(y.dtype).max)
        error = np.abs(y.astype(np.float64) - truth)[plain] / unit[plain]
        worst = int(np.argmax(error))
        assert error[worst] <= most, (what, y[plain][worst], truth[plain][worst], error[worst])
        rest = ~plain & ~np.isnan(rounded)
        assert np.array_equal(y[rest], rounded[rest]), what
        zero = rounded == 0
        assert np.array_equal(np.signbit(y[zero]), np.signbit(rounded[zero])), f"{what}: the sign of a zero"


@isas
@pytest.mark.parametrize("name", FUNCTIONS)
def test_floats_are_rounded_once(isa, name):
    x = samples()
    y = np.empty_like(x)
    run = Library(build(SOURCE, isa=isa, extra=["-fopenmp-simd"]).library).function(
        f"run_{name}", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    run(x.ctypes.data, y.ctypes.data, x.size)
    with np.errstate(all="ignore"):
        hold(y, FUNCTIONS[name](x.astype(np.float64)), name, 0.51)


@isas
def test_powers_are_rounded_once(isa):
    rng = np.random.default_rng(3)
    pairs = [np.meshgrid(SPECIAL, np.append(SPECIAL, [3, -3, 4, 0.25])),
             (rng.uniform(0, 5, 20000), rng.uniform(-30, 30, 20000)),
             (rng.uniform(-9, 9, 5000), rng.integers(-30, 30, 5000)),
             (np.exp(rng.uniform(-80, 80, 20000)), rng.uniform(-2, 2, 20000))]
    x, e = (np.concatenate([np.ravel(p[i]) for p in pairs]).astype(np.float32) for i in (0, 1))
    y = np.empty_like(x)
    run = Library(build(SOURCE, isa=isa, extra=["-fopenmp-simd"]).library).function(
        "run_pow", None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    run(x.ctypes.data, e.ctypes.data, y.ctypes.data, x.size)
    with np.errstate(all="ignore"):
        hold(y, np.power(x.astype(np.float64), e.astype(np.float64)), "pow", 0.51)


@isas
def test_the_hyperbolic_tangent_of_doubles(isa):
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(-r, r, 20000) for r in (1e-9, 1e-3, 1, 25)] + [SPECIAL.astype(np.float64)])
    y = np.empty_like(x)
    Library(build(SOURCE, isa=isa, extra=["-fopenmp-simd"]).library).function(
        "run_tanh", None, *[ctypes.c_void_p] * 2, ctypes.c_int64)(x.ctypes.data, y.ctypes.data, x.size)
    hold(y, np.tanh(x), "tanh", 4)


def test_their_loops_become_vector_code():
    if cpu.here().arch != "x86_64" or cpu.here().isa.width == 1:
        pytest.skip("the names of vector registers are read for x86-64 only")
    from gesher.compiler import runtime, toolchain
    from gesher.compiler.private import private_folder

    source = private_folder("work") / "elementary.c"
    source.write_text(runtime.flatten(SOURCE))
    try:
        text = toolchain.find().assembly(source, extra=["-fopenmp-simd"])
    finally:
        source.unlink()
    register = {16: "%zmm", 8: "%ymm", 4: "%xmm"}[cpu.here().isa.width]
    for name in FUNCTIONS:
        body = text.split(f"\nrun_{name}:")[1].split("\nrun_")[0]
        packed = [line for line in body.splitlines() if register in line and "pd" in line.split("\t")[1][-5:]]
        assert len(packed) > 10, name
