"""Depthwise convolutions and pooling over blocked channels: windows over edges, dilated, ceil-rounded, NaN."""

import numpy as np
import pytest
from tests.compiler import blocked_calls
from tests.compiler.kernel_calls import ISAS, call, close, guarded

from gesher.compiler.kernels import blocked_packing, meanings

SOURCE = '#include "gs_blocked_depthwise_f32.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_depthwise_f32_plain, 0)
KERNEL(fast, gs_blocked_depthwise_f32, 0)
"""
WINDOWS = """
#include "gs_blocked_window_f32.h"
#define WINDOW(name, kernel_) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const float* x, float* y) { \\
    GsBlockedWindow v = {.N = s[0], .blocks = s[1], .mean = (int)s[2], .count_pad = (int)s[3], .x = x, .y = y}; \\
    int64_t* lists[7] = {v.in, v.out, v.kernel, v.stride, v.dilation, v.pad, v.pad_end}; \\
    for (int i = 0; i < 7; i++) memcpy(lists[i], s + 4 + i * 2, 16); \\
    kernel_(&v, pool); }
WINDOW(plain, gs_blocked_window_f32_plain)
WINDOW(fast, gs_blocked_window_f32)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def check(isa, name, seed, C, kernel=(3, 3), **problem):
    def pack(w, b):
        packed = blocked_packing.pack_depthwise(w, b)
        assert packed.shape == blocked_packing.depthwise_shape(C, *kernel, b)
        return packed

    y, expected = blocked_calls.run(SOURCE, isa, name, pack, seed, C=C, O=C, group=C, kernel=kernel, **problem)
    close(y, expected, kernel[0] * kernel[1])


@isas
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1), (2, 7), (4, 6)])
def test_depthwise(isa, kernel):
    for seed, (stride, dilation, before, beyond) in enumerate([
        ((1, 1), (1, 1), (1, 1), (1, 1)), ((1, 1), (1, 1), (0, 0), (0, 0)), ((2, 2), (1, 1), (2, 2), (1, 2)),
        ((2, 1), (1, 2), (1, 0), (3, 9)), ((1, 3), (2, 1), (3, 4), (0, 0)), ((1, 1), (1, 1), (-1, -1), (-1, 0)),
        ((1, 1), (1, 1), (9, 9), (9, 9)),
    ]):
        for C, size in ((3, (9, 14)), (33, (17, 33))):
            for name in ("plain", "fast")[C == 33:]:
                check(isa, name, seed, C, kernel, N=2, size=size, stride=stride, dilation=dilation, before=before,
                      beyond=beyond, after=seed % 2, bias=seed % 3 > 0)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_what_follows_the_sums(isa, name):
    for seed, end in enumerate(blocked_calls.ENDS):
        check(isa, name, seed, 37, N=2, size=(5, 23), before=(1, 1), after=seed % 2, threads=seed % 2 + 1, **end)


@isas
def test_depthwise_on_threads(isa):
    for threads in (2, 3):
        check(isa, "fast", threads, 70, N=2, size=(40, 39), before=(1, 1), threads=threads, after=True)
        check(isa, "fast", threads, 16, (5, 5), size=(1, 7), threads=threads, before=(2, 2), after=True)
    check(isa, "fast", 1, 5, size=(2, 9))  # nothing comes out


def pool(isa, name, x, kernel, stride=(1, 1), dilation=(1, 1), pad=(0, 0), pad_end=None, ceil=False, mean=False,
         count_pad=False, threads=1):
    N, C, *size = x.shape
    b, pad_end = isa.width, pad_end or pad
    spans = [n + p + e - (k - 1) * d - 1 for n, k, d, p, e in zip(size, kernel, dilation, pad, pad_end)]
    out = [(-(-span // s) if ceil else span // s) + 1 for span, s in zip(spans, stride)]
    blocks = -(-C // b)
    shape = np.array([N, blocks, mean, count_pad, *size, *out, *kernel, *stride, *dilation, *pad, *pad_end], np.int64)
    y = guarded(np.full((N, blocks, *out, b), 7, np.float32))
    call(WINDOWS, isa, name, shape, guarded(blocked_calls.with_nan_lanes(x, b)), y, threads=threads)
    got = meanings.unblocked(y, C)
    expected, _ = meanings.pooling(x.reshape(N * C, *size), kernel, stride, dilation, pad, pad_end, out, mean,
                                   count_pad)
    assert np.allclose(got, expected.reshape(got.shape), rtol=1e-5, atol=1e-6, equal_nan=True)
    return got


def picture(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
@pytest.mark.parametrize("mean", [False, True])
def test_windows_of_all_kinds(isa, name, mean):
    for seed, (C, size) in enumerate([(3, (7, 9)), (20, (5, 33))]):
        x = picture(2, C, *size, seed=seed)
        for count_pad in (False, True) if mean else (False,):
            options = {"mean": mean, "count_pad": count_pad, "threads": seed + 1}
            pool(isa, name, x, (2, 2), (2, 2), **options)
            pool(isa, name, x, (3, 3), (2, 2), pad=(1, 1), **options)
            pool(isa, name, x, (3, 2), (2, 1), pad=(1, 0), pad_end=(2, 1), **options)
            pool(isa, name, x, (3, 2), (3, 3), ceil=True, **options)
            pool(isa, name, x, (3, 3), (2, 2), pad=(1, 1), ceil=True, **options)
            pool(isa, name, x, (2, 3), (1, 2), (2, 2), pad=(1, 2), **options)
            pool(isa, name, x, size, **options)
    for threads in (1, 2):  # wider than what is kept of a row
        pool(isa, name, picture(1, 3, 4, 150), (2, 70), (1, 3), pad=(1, 30), mean=mean, threads=threads)
        pool(isa, name, picture(1, 3, 4, 150), (2, 3), (1, 2), (1, 9), pad=(1, 1), mean=mean, threads=threads)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_nan_is_the_largest(isa, name):
    x = np.zeros((1, 2, 9, 40), np.float32)
    x[0, 1, 4, 20] = np.nan
    x[0, 0, 0, 0] = -np.inf
    y = pool(isa, name, x, (3, 3))
    assert np.isnan(y[0, 1]).sum() == 9 and not np.isnan(y[0, 0]).any()


@isas
def test_random_windows(isa):
    rng = np.random.default_rng(8)
    for seed in range(60):
        kernel, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (5, 4, 3))
        pad, pad_end = (tuple(int(rng.integers(0, k)) for k in kernel) for _ in range(2))
        size = tuple(int(rng.integers(1, 25)) + (k - 1) * d for k, d in zip(kernel, dilation))
        pool(isa, "fast", picture(1, int(rng.integers(1, 20)), *size, seed=seed), kernel, stride, dilation, pad,
             pad_end, ceil=rng.random() < .5, mean=rng.random() < .5, count_pad=rng.random() < .5,
             threads=int(rng.integers(1, 3)))
