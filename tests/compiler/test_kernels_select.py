"""Sorting and top-k: every type, ties, NaN and zeros of both signs, any axis, threads."""

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.compiler.kernels import meanings

TYPES = [np.float32, np.float64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
         np.float16, ml_dtypes.bfloat16]
SOURCE = """
#include "gs_select.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const void* x, void* values, int64_t* places, \\
                      uint64_t* scratch) { \\
    GsSelect g = {s[0], s[1], s[2], s[3], (int)s[4], x, values, places, (int)s[5], scratch}; kernel(&g, pool); }
KERNEL(plain, gs_select_plain)
KERNEL(fast, gs_select_run)
GS_EXPORT int64_t need(GsPool* pool, const int64_t* s) {
  GsSelect g = {s[0], s[1], s[2], s[3], (int)s[4]}; return gs_select_scratch(&g, gs_pool_size(pool)); }
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def select(isa, name, x, k, largest, threads=1):
    outer, n, inner = x.shape
    s = np.array([outer, n, inner, k, TYPES.index(x.dtype.type), largest], np.int64)
    values, places = guarded(np.zeros((outer, k, inner), x.dtype)), guarded(np.full((outer, k, inner), -1, np.int64))
    words = guarded(np.zeros(call(SOURCE, isa, "need", s, threads=threads), np.uint64))
    call(SOURCE, isa, name, s, guarded(x), values, places, words, threads=threads)
    return values, places


def check(isa, name, x, k, largest, threads=1):
    values, places = select(isa, name, x, k, largest, threads)
    with np.errstate(invalid="ignore"):  # NaN that signal
        plain = x.astype(np.float64) if x.dtype.kind in "fV" else x
    expected = meanings.select(plain, k, largest)[1]
    assert np.array_equal(places, expected)
    assert values.tobytes() == np.take_along_axis(x, expected, axis=1).tobytes()


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_a_selection_a_person_can_check(isa, name):
    x = np.float32([3, np.nan, 1, 3, -0.0, 0.0, np.inf]).reshape(1, 7, 1)
    assert select(isa, name, x, 4, True)[1].ravel().tolist() == [1, 6, 0, 3]
    assert select(isa, name, x, 7, False)[1].ravel().tolist() == [4, 5, 2, 0, 3, 6, 1]


@isas
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_every_type(isa, name, dtype):
    rng = np.random.default_rng(1)
    for shape in ((2, 1, 3), (3, 9, 1), (1, 40, 5), (2, 150, 1)):
        raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
        x = raw.view(dtype).reshape(shape)
        if shape[1] == 40:  # many equal ones
            x = (rng.integers(0, 5, shape) - (2 if np.dtype(dtype).kind != "u" else 0)).astype(dtype)
        for k in sorted({1, shape[1] // 2, shape[1]} - {0}):
            for largest in (False, True):
                check(isa, name, x, k, largest)


@isas
def test_threads_share_the_rows(isa):
    x = np.random.default_rng(2).integers(0, 50, (40, 300, 3)).astype(np.float32)
    for threads in (2, 3):
        check(isa, "fast", x, 17, True, threads)
        check(isa, "fast", x, 300, False, threads)


@isas
@pytest.mark.parametrize("shape", [(2, 700, 1), (1, 300, 3), (3, 5000, 1)])
def test_many_of_long_rows(isa, shape):
    rng = np.random.default_rng(3)
    for coarse in (False, True):
        x = rng.standard_normal(shape).astype(np.float32)
        x = np.round(x) if coarse else x
        for odd in (np.nan, -np.nan, np.inf, -np.inf, -0.0):
            x[rng.random(shape) < 0.02] = odd
        for k in (3, 65, 100, shape[1]):
            for largest in (False, True):
                check(isa, "fast", x, k, largest, threads=2)


@isas
def test_none_of_nothing(isa):
    assert select(isa, "fast", np.zeros((2, 0, 3), np.float32), 0, True)[0].shape == (2, 0, 3)


@isas
@pytest.mark.parametrize("inner", [1, 21])
def test_rows_in_which_every_element_comes_before_all_so_far(isa, inner):
    for n, k in ((3000, 20), (9000, 100), (300, 3)):
        rising = np.arange(n, dtype=np.float32) - 50
        for largest in (False, True):
            x = np.repeat((rising if largest else -rising)[None, :, None], inner, 2)
            x[0, ::7, -1] = np.nan
            check(isa, "fast", x, k, largest)


@isas
@pytest.mark.parametrize("shape", [(2, 40, 16), (1, 300, 37), (3, 5, 9), (1, 1, 8)])
def test_few_of_columns_side_by_side(isa, shape):
    rng = np.random.default_rng(4)
    for coarse in (False, True):
        x = rng.standard_normal(shape).astype(np.float32)
        x = np.round(x) if coarse else x
        for odd in (np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0):
            x[rng.random(shape) < 0.05] = odd
        for k in sorted({1, 3, 16, 17}):
            for largest in (False, True):
                check(isa, "fast", x, min(k, shape[1]), largest, threads=2)


@isas
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
def test_long_rows_of_every_type(isa, dtype):
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 256, (2, 700, 1, np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype).reshape(2, 700, 1)
    few = (rng.integers(0, 50, (2, 700, 1)) - (25 if np.dtype(dtype).kind != "u" else 0)).astype(dtype)
    for x in (raw, few):
        for k in (5, 100, 700):
            for largest in (False, True):
                check(isa, "fast", x, k, largest)
