"""Convolutions: odd pictures, strides, dilations, pads on either side, groups, ranks, transposed, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import FOLLOW, ISAS, call, close, guarded, scratch

from gesher.compiler.kernels import meanings

SOURCE = '#include "gs_conv_f32.h"' + FOLLOW + """
static GsConv fill(const int64_t* shape, const float* x, const float* w, const float* bias, float* y, int64_t after,
                   float* scratch) {
  GsConv v = {.rank = shape[0], .N = shape[1], .C = shape[2], .O = shape[3], .group = shape[4], .x = x, .w = w,
              .bias = bias, .y = y, .epilogue = after ? follow : 0, .scratch = scratch};
  int64_t* lists[6] = {v.in, v.out, v.kernel, v.stride, v.dilation, v.pad};
  for (int i = 0; i < 6; i++) memcpy(lists[i], shape + 5 + i * v.rank, (size_t)v.rank * sizeof(int64_t));
  return v;
}
#define ARGS GsPool* pool, const int64_t* shape, const float* x, const float* w, const float* bias, float* y, \\
  int64_t after, float* scratch
#define KERNEL(name, kernel, size) \\
  GS_EXPORT void name(ARGS) { GsConv v = fill(shape, x, w, bias, y, after, scratch); kernel(&v, pool); } \\
  GS_EXPORT int64_t name##_need(ARGS) { GsConv v = fill(shape, x, w, bias, y, after, scratch); (void)v; return size; }
KERNEL(plain, gs_conv_f32_plain, 0)
KERNEL(fast, gs_conv2d_f32, gs_conv2d_f32_scratch(&v, gs_pool_size(pool)))
KERNEL(depthwise, gs_depthwise2d_f32, gs_depthwise2d_f32_scratch(&v, gs_pool_size(pool)))
KERNEL(transposed_plain, gs_conv_transpose_f32_plain, 0)
KERNEL(transposed, gs_conv_transpose2d_f32, gs_conv_transpose2d_f32_scratch(&v, gs_pool_size(pool)))
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def output_size(size, kernel, stride, dilation, before, after):
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


def check(isa, name, seed, *, N=1, C=3, O=4, size=(7, 9), kernel=(3, 3), stride=None, dilation=None, before=None,
          beyond=None, group=1, bias=True, after=False, threads=1, extra=None):
    """Draw a problem, call the kernel, compare with the meaning. `extra`: output padding of the transposed ones."""
    rank = len(size)
    one, zero = (1,) * rank, (0,) * rank
    stride, dilation, before, beyond = stride or one, dilation or one, before or zero, beyond or before or zero
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, C, *size)).astype(np.float32)
    transposed = name.startswith("transposed")
    w = rng.standard_normal((C, O // group, *kernel) if transposed else (O, C // group, *kernel)).astype(np.float32)
    b = rng.standard_normal(O).astype(np.float32) if bias else None
    if transposed:
        out = tuple((i - 1) * s + (k - 1) * d + 1 - p - q + e for i, s, k, d, p, q, e in
                    zip(size, stride, kernel, dilation, before, beyond, extra or zero))
    else:
        out = tuple(map(output_size, size, kernel, stride, dilation, before, beyond))
    assert min(out) >= 0, out
    meaning = meanings.convolution_transposed if transposed else meanings.convolution
    expected = meaning(x, w, b, out, stride, dilation, before, group)
    if after:
        image, m, n = np.ogrid[:N * group, :O // group, :int(np.prod(out))]
        expected = expected * 2 + (image * 100 + m * 10 + n).reshape(expected.shape)
    shape = np.array([rank, N, C, O, group, *size, *out, *kernel, *stride, *dilation, *before], np.int64)
    y = guarded(np.full((N, O, *out), np.nan, np.float32))
    arguments = [shape, guarded(x), guarded(w), guarded(b), y, int(after)]
    floats = call(SOURCE, isa, name + "_need", *arguments, None, threads=threads)
    call(SOURCE, isa, name, *arguments, scratch(floats), threads=threads)
    close(y, expected, w[0].size)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_a_convolution_a_person_can_check(isa, name):
    x, w = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3), np.float32([[[[1, 0], [0, 10]]]])
    y = np.empty((1, 1, 2, 2), np.float32)
    shape = np.array([2, 1, 1, 1, 1, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0], np.int64)
    arguments = [shape, x, w, None, y, 0]
    floats = call(SOURCE, isa, name + "_need", *arguments, None, threads=1)
    call(SOURCE, isa, name, *arguments, scratch(floats), threads=1)
    assert y.tolist() == [[[[40, 51], [73, 84]]]]


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_strides_dilations_and_pads(isa, name):
    for seed, (stride, dilation, before, beyond) in enumerate([
        ((1, 1), (1, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (0, 1), (1, 0)), ((1, 3), (2, 1), (2, 2), (0, 3)),
        ((2, 1), (1, 2), (5, 6), (4, 7)), ((1, 1), (1, 1), (-1, -2), (0, 1)), ((3, 2), (3, 2), (3, 0), (3, 1)),
    ]):
        for size in ((9, 10), (11, 70)):
            check(isa, name, seed, size=size, stride=stride, dilation=dilation, before=before, beyond=beyond,
                  after=seed % 2)


@isas
def test_kernels_of_all_sizes(isa):
    for seed, kernel in enumerate([(1, 1), (1, 5), (5, 1), (2, 4), (7, 7), (9, 10)]):
        check(isa, "fast", seed, C=5, O=9, kernel=kernel, size=(9, 10), before=(kernel[0] // 2, kernel[1] // 2), N=2)


@isas
def test_small_pictures_share_panels(isa):
    for seed, (N, C, O, size, kernel) in enumerate([
            (2, 1, 1, (1, 1), (1, 1)), (7, 3, 5, (4, 4), (3, 3)), (61, 16, 33, (4, 4), (3, 3)),
            (30, 1, 16, (8, 8), (3, 3)), (5, 90, 14, (3, 7), (3, 3)), (97, 2, 3, (1, 5), (1, 3)),
            (3, 600, 9, (2, 3), (1, 1))]):
        for after in (False, True):
            check(isa, "fast", seed, N=N, C=C, O=O, size=size, kernel=kernel, bias=not after,
                  before=tuple(k // 2 for k in kernel), after=after, threads=1 + seed % 2)


@isas
def test_one_by_one_is_a_product(isa):
    for seed, (C, O, size) in enumerate([(1, 1, (1, 1)), (17, 33, (7, 7)), (64, 8, (5, 29)), (800, 3, (4, 5))]):
        check(isa, "fast", seed, C=C, O=O, size=size, kernel=(1, 1), after=True)
        check(isa, "fast", seed, C=C, O=O, size=size, kernel=(1, 1), stride=(2, 2), threads=2)


@isas
def test_many_channels_are_cut_and_joined(isa):
    for C in (85, 86, 171):
        check(isa, "fast", C, C=C, O=10, size=(8, 7), before=(1, 1), after=True)
    check(isa, "fast", 1, C=3, O=4, size=(31, 30), kernel=(29, 28), after=True)  # one channel's taps exceed a block


@isas
def test_groups(isa):
    for name in ("plain", "fast"):
        check(isa, name, 1, C=6, O=9, group=3, N=2, after=True)
        check(isa, name, 2, C=4, O=8, group=4, N=2, before=(1, 1))


@isas
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_share_the_work(isa, threads):
    check(isa, "fast", 1, C=32, O=20, size=(30, 31), before=(1, 1), threads=threads, after=True)
    check(isa, "fast", 2, C=300, O=70, size=(5, 5), before=(1, 1), threads=threads, after=True)
    check(isa, "fast", 3, C=40, O=32, N=3, group=2, size=(20, 20), threads=threads, after=True)
    check(isa, "depthwise", 4, C=40, O=40, group=40, size=(60, 61), before=(1, 1), threads=threads, after=True)
    check(isa, "transposed", 5, C=30, O=20, size=(20, 20), stride=(2, 2), threads=threads, after=True)


@isas
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1), (2, 7)])
def test_depthwise(isa, kernel):
    for seed, (stride, dilation, before) in enumerate([
        ((1, 1), (1, 1), None), ((1, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (2, 2)), ((2, 1), (1, 2), (1, 0)),
        ((1, 3), (2, 1), (3, 4)), ((1, 1), (1, 1), (-1, -1)),
    ]):
        for size in ((9, 14), (17, 33)):
            check(isa, "depthwise", seed, C=3, O=3, group=3, N=2, size=size, kernel=kernel, stride=stride,
                  dilation=dilation, before=before, after=seed % 2)
    check(isa, "depthwise", 9, C=2, O=6, group=2, N=2, size=(9, 14), kernel=kernel, after=True)


@isas
def test_long_rows_of_one_channel(isa):
    """Audio: many taps along a row, strides, rows that are cut, and what sorting columns by phases gets wrong."""
    for seed, (width, taps, stride, before, beyond) in enumerate([
            (300, 64, 1, 0, 0), (301, 64, 2, 31, 32), (5000, 20, 2, 3, 3), (5001, 33, 3, -2, 7), (90, 16, 5, 80, 90),
            (4097, 9, 2, -5, -3), (40, 31, 4, 15, 40), (7, 8, 2, 1, 0), (9000, 12, 4, 200, 0)]):
        for group, per in ((1, 1), (1, 3), (2, 2)):
            check(isa, "depthwise", seed, C=group, O=group * per, group=group, size=(1, width), kernel=(1, taps),
                  stride=(1, stride), before=(0, before), beyond=(0, beyond), after=seed % 2, threads=1 + seed % 3)
    check(isa, "depthwise", 50, C=1, O=2, size=(19, 70), kernel=(4, 9), stride=(2, 2), before=(2, 4), after=True)
    check(isa, "depthwise", 51, C=1, O=1, size=(9, 4200), kernel=(2, 10), stride=(1, 2), dilation=(1, 3), after=True)


@isas
def test_other_ranks_run_plain(isa):
    check(isa, "plain", 1, size=(11,), kernel=(3,), stride=(2,), before=(1,), C=4, group=2, after=True)
    check(isa, "plain", 2, size=(4, 5, 6), kernel=(2, 3, 2), stride=(1, 2, 1), dilation=(2, 1, 1), before=(1, 0, 1))
    check(isa, "transposed_plain", 3, size=(3, 4, 2), kernel=(2, 3, 2), stride=(1, 2, 3), before=(0, 1, 0), N=2)
    check(isa, "transposed_plain", 4, size=(5,), kernel=(3,), stride=(2,), extra=(1,))


@isas
@pytest.mark.parametrize("name", ["transposed_plain", "transposed"])
def test_transposed(isa, name):
    for seed, (stride, dilation, before, extra) in enumerate([
        ((1, 1), (1, 1), None, None), ((2, 2), (1, 1), (1, 1), (1, 1)), ((3, 2), (1, 2), (0, 2), (2, 0)),
        ((1, 2), (2, 1), (-1, 0), None),
    ]):
        check(isa, name, seed, C=4, O=6, group=2, N=2, size=(5, 6), kernel=(3, 2), stride=stride, dilation=dilation,
              before=before, extra=extra, after=seed % 2)
    check(isa, name, 9, C=1, O=1, size=(1, 1), kernel=(1, 1), bias=False)


@isas
def test_an_empty_output_is_left_alone(isa):
    for name in ("plain", "fast"):
        check(isa, name, 1, size=(2, 9), kernel=(3, 3))
        check(isa, name, 2, N=0)


@isas
def test_random_convolutions(isa):
    rng = np.random.default_rng(5)
    for seed in range(80):
        kernel, stride, dilation, before, beyond = (tuple(int(v) for v in rng.integers(low, high, 2)) for low, high in
                                                    ((1, 5), (1, 4), (1, 3), (-1, 4), (-1, 4)))
        size = tuple(int(v) for v in rng.integers(1, 24, 2) + [(k - 1) * d + 2 for k, d in zip(kernel, dilation)])
        group = int(rng.choice([1, 1, 2, 3]))
        check(isa, "fast", seed, N=int(rng.integers(1, 3)), C=group * int(rng.integers(1, 20)),
              O=group * int(rng.integers(1, 20)), size=size, kernel=kernel, stride=stride, dilation=dilation,
              before=before, beyond=beyond, group=group, bias=rng.random() < .5, after=rng.random() < .5,
              threads=int(rng.integers(1, 4)))
