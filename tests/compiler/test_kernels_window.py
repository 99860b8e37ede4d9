"""Pooling: windows over edges, dilated, ceil-rounded, of any rank; what counts for a mean; places of maxima."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.compiler.kernels import meanings

SOURCE = """
#include "gs_window_f32.h"
#define KERNEL(name, kernel_) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* shape, int64_t mean, int64_t count_pad, const float* x, float* y, \\
                      int64_t* indices, int64_t column_major, const float* scale) { \\
    GsWindow v = {.rank = shape[0], .planes = shape[1], .mean = (int)mean, .count_pad = (int)count_pad, .x = x, \\
                  .y = y, .indices = indices, .column_major = (int)column_major, .scale = scale}; \\
    int64_t* lists[7] = {v.in, v.out, v.kernel, v.stride, v.dilation, v.pad, v.pad_end}; \\
    for (int i = 0; i < 7; i++) memcpy(lists[i], shape + 2 + i * v.rank, (size_t)v.rank * sizeof(int64_t)); \\
    v.scratch = malloc(sizeof(float) * (size_t)gs_window2d_f32_scratch(&v, gs_pool_size(pool))); \\
    kernel_(&v, pool); \\
    free(v.scratch); }
KERNEL(plain, gs_window_f32_plain)
KERNEL(fast, gs_window2d_f32)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def out_size(n, k, s, d, b, e, ceil):
    span = n + b + e - (k - 1) * d - 1
    return (-(-span // s) if ceil else span // s) + 1


def pool(isa, name, x, kernel, stride=None, dilation=None, pad=None, pad_end=None, ceil=False, mean=False,
         count_pad=False, indices=False, column_major=False, threads=1, scaled=False, summed=False):
    rank = x.ndim - 1
    stride, dilation, pad = stride or (1,) * rank, dilation or (1,) * rank, pad or (0,) * rank
    pad_end = pad_end or pad
    size = x.shape[1:]
    out = tuple(out_size(*parts, ceil) for parts in zip(size, kernel, stride, dilation, pad, pad_end))
    shape = np.array([rank, len(x), *size, *out, *kernel, *stride, *dilation, *pad, *pad_end], np.int64)
    y = guarded(np.full((len(x), *out), 7, np.float32))
    places = guarded(np.zeros(y.shape, np.int64)) if indices else None
    scale = guarded(np.random.default_rng(1).standard_normal(out).astype(np.float32)) if scaled else None
    call(SOURCE, isa, name, shape, 2 if summed else int(mean), int(count_pad), guarded(x), y, places,
         int(column_major), scale, threads=threads)
    expected, where = meanings.pooling(x, kernel, stride, dilation, pad, pad_end, out, mean, count_pad)
    expected = expected * (scale if scaled else 1) * (np.prod(kernel) if summed else 1)
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    if indices and not column_major:
        assert np.array_equal(places, where)
    return y, places


def picture(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_a_pooling_a_person_can_check(isa, name):
    x = np.float32([[[1, 5, 2], [3, 4, 0], [9, 6, 7]]])
    assert pool(isa, name, x, (2, 2))[0].tolist() == [[[5, 5], [9, 7]]]
    assert pool(isa, name, x, (2, 2), mean=True)[0].tolist() == [[[3.25, 2.75], [5.5, 4.25]]]


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
@pytest.mark.parametrize("mean", [False, True])
def test_windows_of_all_kinds(isa, name, mean):
    for seed, size in enumerate([(7, 9), (12, 50), (5, 130)]):
        x = picture(2, *size, seed=seed)
        for count_pad in (False, True) if mean else (False,):
            options = {"mean": mean, "count_pad": count_pad, "threads": seed + 1}
            pool(isa, name, x, (2, 2), (2, 2), **options)
            pool(isa, name, x, (3, 3), (2, 2), pad=(1, 1), **options)
            pool(isa, name, x, (3, 3), (1, 1), pad=(1, 1), **options)
            pool(isa, name, x, (3, 2), (2, 1), pad=(1, 0), pad_end=(2, 1), **options)
            pool(isa, name, x, (3, 2), (3, 3), ceil=True, **options)
            pool(isa, name, x, (3, 3), (2, 2), pad=(1, 1), ceil=True, **options)
            pool(isa, name, x, (2, 3), (1, 2), (2, 2), pad=(1, 2), **options)
            pool(isa, name, x, size, **options)


@isas
def test_other_ranks_and_indices(isa):
    pool(isa, "plain", picture(3, 11), (3,), (2,), pad=(1,), indices=True)
    pool(isa, "plain", picture(2, 4, 5, 6), (2, 3, 2), (1, 2, 2), pad=(1, 0, 1), indices=True)
    pool(isa, "plain", picture(2, 4, 5, 6), (2, 3, 2), (1, 2, 2), (1, 1, 2), mean=True, count_pad=True)
    pool(isa, "plain", np.zeros((2, 5, 5), np.float32), (3, 3), pad=(1, 1), indices=True)  # the first of equals


@isas
def test_indices_may_count_columns_first(isa):
    x = np.float32([[[1, 5, 2], [3, 4, 0]], [[0, 0, 0], [0, 8, 0]]])
    assert pool(isa, "plain", x, (2, 3), indices=True, column_major=True)[1].tolist() == [[[2]], [[6 + 3]]]


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_nan_is_the_largest(isa, name):
    x = np.zeros((1, 9, 40), np.float32)
    x[0, 4, 20] = np.nan
    y, _ = pool(isa, name, x, (3, 3))
    assert np.isnan(y).sum() == 9


@isas
def test_random_windows(isa):
    rng = np.random.default_rng(8)
    for seed in range(100):
        kernel, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (5, 4, 3))
        pad, pad_end = (tuple(int(rng.integers(0, k)) for k in kernel) for _ in range(2))
        size = tuple(int(rng.integers(1, 45)) + (k - 1) * d for k, d in zip(kernel, dilation))
        pool(isa, "fast", picture(2, *size, seed=seed), kernel, stride, dilation, pad, pad_end, ceil=rng.random() < .5,
             mean=rng.random() < .5, count_pad=rng.random() < .5, scaled=seed % 3 == 0, threads=int(rng.integers(1, 3)))


@isas
@pytest.mark.parametrize("taps", [2, 3, 5])
def test_windows_a_step_apart_of_all_sizes(isa, taps):
    rng = np.random.default_rng(taps)
    for height, width in [(1, 1), (5, 5), (8, 17), (9, 16), (13, 7), (12, 33), (31, 3), (17, 48)]:
        x = picture(3, height, width, seed=height)
        x.reshape(-1)[rng.integers(x.size, size=1 + x.size // 40)] = np.nan
        x.reshape(-1)[rng.integers(x.size, size=2)] = [-np.inf, np.inf]
        for pad, pad_end in [((taps - 1,) * 2, (taps - 1, taps)), ((taps // 2, taps - 1), (taps - 1, taps // 2)),
                             ((0, 0), (0, 0)), ((1, 0), (0, 1))]:
            if all(n + b + e >= taps for n, b, e in zip((height, width), pad, pad_end)):
                at = {"pad": pad, "pad_end": pad_end, "threads": 2}
                pool(isa, "fast", x, (taps, taps), **at)
                pool(isa, "fast", x, (taps, taps), mean=True, count_pad=True, summed=True, scaled=True, **at)
