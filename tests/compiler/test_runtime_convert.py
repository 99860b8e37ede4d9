"""Narrow floats of the runtime against `ml_dtypes` and numpy: every code one way, every tie and edge the other way."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

from gesher.compiler import cpu
from gesher.compiler.build import build
from gesher.compiler.library import Library

SMALL = {
    "f8e4m3fn": ml_dtypes.float8_e4m3fn, "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "f8e5m2": ml_dtypes.float8_e5m2,
    "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz, "f6e2m3": ml_dtypes.float6_e2m3fn, "f6e3m2": ml_dtypes.float6_e3m2fn,
    "f4e2m1": ml_dtypes.float4_e2m1fn,
}
WIDE = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def _loop(name: str, code: str, saturate: str) -> str:
    return f"""
GS_EXPORT void widen_{name}(const {code}* x, float* y, int64_t n) {{
  for (int64_t i = 0; i < n; i++) y[i] = gs_f32_of_{name}(x[i]);
}}
GS_EXPORT void narrow_{name}(const float* x, {code}* y, int64_t n, int saturate) {{
  for (int64_t i = 0; i < n; i++) y[i] = gs_{name}_of_f32(x[i]{saturate});
}}
"""


SOURCE = '#include "gs_convert.h"\n' + "".join(
    [_loop(name, "uint16_t", "") for name in WIDE] + [_loop(name, "uint8_t", ", saturate") for name in SMALL]
) + "GS_EXPORT void widen_f8e8m0(const uint8_t* x, float* y, int64_t n) {" \
    "  for (int64_t i = 0; i < n; i++) y[i] = gs_f32_of_f8e8m0(x[i]); }"


@pytest.fixture(scope="module", params=cpu.here().isas(), ids=lambda i: i.name)
def library(request):
    return Library(build(SOURCE, isa=request.param).library)


def widen(library, name, codes):
    y = np.empty(codes.size, np.float32)
    library.function(f"widen_{name}", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        codes.ctypes.data, y.ctypes.data, codes.size)
    return y


def narrow(library, name, x, code, saturate=0):
    y = np.empty(x.size, code)
    library.function(f"narrow_{name}", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)(
        x.ctypes.data, y.ctypes.data, x.size, saturate)
    return y


def edges(dtype, codes):
    """Floats at, and one step beside, every value of `dtype` and every midpoint of neighbours; then random ones."""
    values = codes.view(dtype).astype(np.float32)
    values = np.unique(values[np.isfinite(values)])
    middles = values[1:] / 2 + values[:-1] / 2
    with np.errstate(over="ignore"):
        beside = values * np.float32(1.03125)
    special = np.float32([np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 1e-45, 3e38, -3e38])
    up, down = np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, -np.float32(np.inf))
    x = np.concatenate([values, middles, up, down, beside, special])
    random = np.random.default_rng(3).integers(0, 2**32, 50000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([x, random]).astype(np.float32)


def same(a, b):
    """Equal in value and sign; NaN equals NaN."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))


@pytest.mark.parametrize("name", WIDE)
def test_sixteen_bit_floats_convert_exactly(library, name):
    codes, dtype = np.arange(2**16, dtype=np.uint16), np.dtype(WIDE[name])
    assert same(widen(library, name, codes), codes.view(dtype))
    x = edges(dtype, codes)
    with np.errstate(all="ignore"):
        assert same(narrow(library, name, x, np.uint16).view(dtype), x.astype(dtype))


@pytest.mark.parametrize("name", SMALL)
def test_small_floats_convert_exactly(library, name):
    dtype = np.dtype(SMALL[name])
    codes = np.arange({"8": 256, "6": 64, "4": 16}[name[1]], dtype=np.uint8)
    assert same(widen(library, name, codes), codes.view(dtype))
    x = edges(dtype, codes)
    if name[1] != "8":
        x = x[~np.isnan(x)]  # a format without NaN: the meaning of converting one is not defined
    with np.errstate(all="ignore"):
        assert same(narrow(library, name, x, np.uint8).view(dtype), x.astype(dtype))


@pytest.mark.parametrize("name", [n for n in SMALL if n[1] == "8"])
def test_saturating_gives_the_largest_finite(library, name):
    dtype = np.dtype(SMALL[name])
    largest = float(ml_dtypes.finfo(dtype).max)
    x = np.float32([largest * 4, -largest * 4, np.inf, -np.inf, 1.0, np.nan])
    y = narrow(library, name, x, np.uint8, saturate=1).view(dtype).astype(np.float32)
    assert np.array_equal(y, np.float32([largest, -largest, largest, -largest, 1, np.nan]), equal_nan=True)


def test_exponents_alone_convert_exactly(library):
    codes = np.arange(256, dtype=np.uint8)
    assert same(widen(library, "f8e8m0", codes), codes.view(ml_dtypes.float8_e8m0fnu))
