"""Softmax, normalisation and reductions: every length around a vector's, any axis, special values, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.compiler.kernels import meanings

SOURCE = """
#include "gs_reduce_f32.h"
static void follow(void* context, float* y, int64_t row, int64_t n) {
  for (int64_t k = 0; k < n; k++) y[k] += row * 10 + k;
}
#define ROWS(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, int64_t outer, int64_t n, int64_t inner, const float* x, float* y, int64_t log, \\
      const float* scale, const float* shift, float epsilon, int64_t centred, float* mean, float* inverse, \\
      int64_t after) { \\
    GsRows r = {.outer = outer, .n = n, .inner = inner, .x = x, .y = y, .log = (int)log, .scale = scale, \\
      .shift = shift, .epsilon = epsilon, .centred = (int)centred, .mean = mean, .inverse = inverse, \\
      .epilogue = after ? follow : 0}; \\
    kernel(&r, pool); }
ROWS(softmax_plain, gs_softmax_f32_plain)
ROWS(softmax, gs_softmax_f32)
ROWS(layer_norm_plain, gs_layer_norm_f32_plain)
ROWS(layer_norm, gs_layer_norm_f32)
#define REDUCE(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, int64_t op, int64_t outer, int64_t n, int64_t inner, const float* x, float* y) { \\
    GsReduce r = {(int)op, outer, n, inner, x, y}; kernel(&r, pool); }
REDUCE(reduce_plain, gs_reduce_f32_plain)
REDUCE(reduce, gs_reduce_f32)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 1000]


def softmax(isa, x, log=False, name="softmax", threads=1, after=False):
    y = guarded(np.full(x.shape, 7, np.float32))
    call(SOURCE, isa, name, *x.shape, guarded(x), y, int(log), None, None, 0.0, 0, None, None, int(after),
         threads=threads)
    return y


@isas
@pytest.mark.parametrize("name", ["softmax_plain", "softmax"])
@pytest.mark.parametrize("log", [False, True])
def test_softmax_of_any_length_and_axis(isa, name, log):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        for outer, inner in ((3, 1), (2, 5), (1, 16), (2, 37)):
            x = (rng.standard_normal((outer, n, inner)) * 10).astype(np.float32)
            expected = meanings.softmax(x, log)
            # The exponential of a distance d carries d's rounding: |d| units; d stays below 80 here.
            assert np.allclose(softmax(isa, x, log, name), expected, rtol=1e-5, atol=2e-6 if log else 1e-30)


@isas
def test_softmax_of_special_values(isa):
    inf, nan = np.inf, np.nan
    rows = np.float32([[-inf, 0, 0, -inf], [1e30, -1e30, 0, 1e30], [0, nan, 0, 0], [88, 89, 90, -200], [-inf] * 4,
                       [inf, 0, 0, 0]])
    for x in (rows[:, :, None], np.tile(rows[:, :, None], (1, 1, 17))):
        for name in ("softmax_plain", "softmax"):
            assert np.allclose(softmax(isa, x, name=name), meanings.softmax(x, False), rtol=1e-5, equal_nan=True)


@isas
def test_rows_of_softmax_are_followed_and_shared(isa):
    x = np.random.default_rng(2).standard_normal((301, 45, 1)).astype(np.float32)
    expected = meanings.softmax(x, False) + np.arange(301)[:, None, None] * 10 + np.arange(45)[None, :, None]
    for threads in (1, 3):
        assert np.allclose(softmax(isa, x, threads=threads, after=True), expected, rtol=1e-5)
        wide = np.ascontiguousarray(np.broadcast_to(x[:20], (20, 45, 33)))
        assert np.allclose(softmax(isa, wide, threads=threads), meanings.softmax(wide, False), rtol=1e-5)


@isas
@pytest.mark.parametrize("name", ["layer_norm_plain", "layer_norm"])
def test_layer_norm_of_any_length(isa, name):
    rng = np.random.default_rng(3)
    for n in LENGTHS:
        for centred in (0, 1):
            for scaled, shifted, after, threads in ((0, 0, 0, 1), (1, 1, 1, 3), (1, 0, 0, 1), (0, 1, 0, 2)):
                rows = 70 if threads > 1 and n == 1000 else 3
                x = (rng.standard_normal((rows, n)) + 5).astype(np.float32)
                scale, shift = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
                scale, shift = scale if scaled else None, shift if shifted else None
                y, mean, inverse = (guarded(np.full(s, 7, np.float32)) for s in (x.shape, rows, rows))
                call(SOURCE, isa, name, rows, n, 1, guarded(x), y, 0, guarded(scale), guarded(shift), 1e-3, centred,
                     mean, inverse, after, threads=threads)
                expected = meanings.layer_norm(x, scale, shift, 1e-3, bool(centred))
                followed = expected[0] + after * (np.arange(rows)[:, None] * 10 + np.arange(n))
                # Rounding of the mean (of about 5) against the least deviation, 1 / sqrt(1e-3).
                assert np.allclose(y, followed, rtol=2e-5, atol=1e-4)
                assert np.allclose(mean, expected[1], rtol=1e-6) and np.allclose(inverse, expected[2], rtol=1e-4)


@isas
def test_layer_norm_far_from_zero_keeps_its_digits(isa):
    x = (np.random.default_rng(4).integers(0, 3, (2, 300)) + 10000).astype(np.float32)
    y = np.empty_like(x)
    call(SOURCE, isa, "layer_norm", 2, 300, 1, x, y, 0, None, None, 0.0, 1, None, None, 0, threads=1)
    assert np.allclose(y, meanings.layer_norm(x, None, None, 0, True)[0], atol=2e-3)


@isas
@pytest.mark.parametrize("op", meanings.REDUCTIONS)
@pytest.mark.parametrize("name", ["reduce_plain", "reduce"])
def test_reductions_of_any_length_and_axis(isa, op, name):
    rng, number = np.random.default_rng(5), list(meanings.REDUCTIONS).index(op)
    for n in [0, *LENGTHS, 2500]:
        for outer, inner, threads in ((3, 1, 1), (40, 1, 2), (2, 5, 1), (1, 16, 1), (2, 137, 3), (0, 3, 1)):
            x = rng.uniform(-1, 1, (outer, n, inner)).astype(np.float32)
            if op == "GS_PROD":
                x = (1 + x / 50).astype(np.float32)
            y = guarded(np.full((outer, inner), 7, np.float32))
            call(SOURCE, isa, name, number, outer, n, inner, guarded(x), y, threads=threads)
            # Float lanes add 64 terms before double takes over: one unit of the sum of magnitudes is ample.
            unit = 2.0**-23 * np.abs(x).sum(1, initial=0).max(initial=0)
            assert np.allclose(y, meanings.reduction(op, x), rtol=2e-5 if op == "GS_PROD" else 1e-6, atol=unit,
                               equal_nan=True)


@isas
@pytest.mark.parametrize("op", ["GS_MAX", "GS_MIN", "GS_SUM"])
def test_nan_in_a_row_makes_its_reduction_nan(isa, op):
    number = list(meanings.REDUCTIONS).index(op)
    for n in (3, 16, 70):
        for inner in (1, 20):
            for at in range(n):
                x = np.ones((1, n, inner), np.float32)
                x[0, at, 0] = np.nan
                y = np.empty((1, inner), np.float32)
                call(SOURCE, isa, "reduce", number, 1, n, inner, x, y, threads=1)
                assert np.isnan(y[0, 0]) and not np.any(np.isnan(y[0, 1:]))


@isas
def test_long_sums_keep_their_digits(isa):
    x = np.full((1, 3_000_001, 1), 0.1, np.float32)
    y = np.empty((1, 1), np.float32)
    call(SOURCE, isa, "reduce", 0, 1, 3_000_001, 1, x, y, threads=2)
    assert abs(y[0, 0] / (3_000_001 * float(np.float32(0.1))) - 1) < 1e-6
