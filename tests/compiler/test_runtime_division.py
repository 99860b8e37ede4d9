"""Quotients and remainders, made without division instructions: to the last bit, on each instruction set."""

import ctypes

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

TYPES = {"i8": np.int8, "u8": np.uint8, "i16": np.int16, "u16": np.uint16, "i32": np.int32, "u32": np.uint32,
         "i64": np.int64, "u64": np.uint64}
_LOOP = """
GS_EXPORT void {op}_{t}(const {T}* a, const {T}* b, {T}* y, int64_t n) {{
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = {f}(a[i], b[i]);
}}
"""
SOURCE = '#include "gs_scalar.h"\n' + "".join(
    _LOOP.format(op=op, t=t, T=f"{np.dtype(T).name}_t", f=f"gs_{op}_{t}")
    for t, T in TYPES.items() for op in ("div", "mod", "rem")) + _LOOP.format(
        op="rem", t="f32", T="float", f="gs_fmodf") + _LOOP.format(op="mod", t="f32", T="float", f="gs_mod_f32")
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def run(isa, name, a, b):
    y = guarded(np.zeros_like(a))
    call(SOURCE, isa, name, guarded(a), guarded(b), y, len(a), result=ctypes.c_int)
    return y


@isas
@pytest.mark.parametrize("t", TYPES)
def test_whole_numbers(isa, t):
    info, rng = np.iinfo(TYPES[t]), np.random.default_rng(1)
    edges = [v for v in (info.min, info.min + 1, -7, -2, -1, 0, 1, 2, 3, 7, info.max - 1, info.max) if v >= info.min]
    a, b = (x.reshape(-1).astype(object) for x in np.meshgrid(np.array(edges, object), np.array(edges, object)))
    wide = rng.integers(info.min, info.max, (2, 3000), TYPES[t], endpoint=True).astype(object)
    # Neighbours of multiples, where a quotient is nearly whole.
    by = [int(v) for v in rng.integers(1, min(info.max, 1 << 20), 3000)]
    near = [min(max(v * (info.max // v) + int(d), info.min), info.max) for v, d in zip(by, rng.integers(-2, 3, 3000))]
    a, b = np.concatenate([a, wide[0], near]), np.concatenate([b, wide[1], by])

    def want(op, x, y):
        if y == 0:
            return 0
        q = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        # What overflows goes round.
        return {"div": q, "rem": x - q * y, "mod": x % y}[op]

    for op in ("div", "mod", "rem"):
        expected = np.array([want(op, x, y) % (1 << info.bits) for x, y in zip(a, b)], object)
        got = run(isa, f"{op}_{t}", a.astype(TYPES[t]), b.astype(TYPES[t]))
        assert [int(v) % (1 << info.bits) for v in got] == expected.tolist()


@isas
def test_remainders_of_floats(isa):
    rng = np.random.default_rng(2)
    special = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.1, 1e-45, -3e-39, 3.4e38, -3.4e38, 16777216])
    a, b = (x.reshape(-1) for x in np.meshgrid(special, special))
    bits = rng.integers(0, 2**32, (2, 5000), dtype=np.uint32).view(np.float32)
    scaled = rng.standard_normal((2, 5000)).astype(np.float32)
    by = np.abs(rng.standard_normal(5000)).astype(np.float32)
    near = (by * rng.integers(1, 1 << 20, 5000)).astype(np.float32)
    a = np.concatenate([a, bits[0], scaled[0], near, near, near])
    b = np.concatenate([b, bits[1], scaled[1], by, np.nextafter(by, np.float32(9)), -by])
    with np.errstate(all="ignore"):
        want, floored = np.fmod(a, b), np.mod(a, b)
    for name, expected in (("rem_f32", want), ("mod_f32", floored)):
        got = run(isa, name, a, b)
        np.testing.assert_array_equal(got, expected)
        sure = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got[sure]), np.signbit(expected[sure]))
