"""Convolutions over blocked channels: odd pictures and channel counts, strides, dilations, pads, groups, threads."""

import numpy as np
import pytest
from tests.compiler import blocked_calls
from tests.compiler.kernel_calls import ISAS, call, close, guarded

from gesher.compiler.kernels import blocked_packing, meanings

SOURCE = '#include "gs_blocked_f32.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_conv_f32_plain, 0)
KERNEL(fast, gs_blocked_conv_f32, gs_blocked_conv_f32_scratch(&v, gs_pool_size(pool)))
"""
# With v.out places, C and O alone told: where parts of the work begin, in units, and what the units before them cost.
SHARES = """
#include "gs_blocked_f32.h"
GS_EXPORT int64_t shares(int64_t C, int64_t O, int64_t side, int64_t k, int64_t stride, int64_t parts, int64_t* begin,
                         int64_t* before) {
  int64_t pad = k / 2, out = (side + 2 * pad - k) / stride + 1;
  GsBlocked v = {.N = 1, .C = C, .O = O, .group = 1, .in = {side, side}, .out = {out, out}, .kernel = {k, k},
                 .stride = {stride, stride}, .dilation = {1, 1}, .pad = {pad, pad}};
  GsBlockedPlan p = gs_blocked_plan(&v);
  gs_blocked_share(&v, &p, (int)parts);
  for (int64_t i = 0; i <= parts; i++) begin[i] = gs_blocked_first_unit(&p, 1, i, parts, before + i);
  return p.down * p.across * p.pairs;
}
"""
MOVES = """
#include "gs_blocked_move_f32.h"
#define MOVE(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, int64_t N, int64_t C, int64_t places, const float* x, float* y) { \\
    GsBlockedMove v = {N, C, places, x, y}; kernel(&v, pool); }
MOVE(from_plain, gs_blocked_from_plain_plain)
MOVE(to_plain, gs_blocked_to_plain_plain)
MOVE(from_plain_fast, gs_blocked_from_plain)
MOVE(to_plain_fast, gs_blocked_to_plain)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def check(isa, name, seed, *, group=1, plain_x=False, **problem):
    def pack(w, b):
        packed = blocked_packing.pack_blocked(w, group, b, plain_x)
        O, Cg, KH, KW = w.shape
        assert packed.shape == blocked_packing.blocked_shape(O, Cg * group, KH, KW, group, b)
        return packed

    y, expected = blocked_calls.run(SOURCE, isa, name, pack, seed, group=group, plain_x=plain_x, **problem)
    kernel = problem.get("kernel", (3, 3))
    close(y, expected, problem.get("C", 3) // group * kernel[0] * kernel[1])


@isas
@pytest.mark.parametrize("plain_x", [False, True])
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_strides_dilations_and_pads(isa, name, plain_x):
    for seed, (stride, dilation, before, beyond) in enumerate([
        ((1, 1), (1, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (0, 1), (1, 0)), ((1, 3), (2, 1), (2, 2), (0, 3)),
        ((2, 1), (1, 2), (5, 6), (4, 7)), ((1, 1), (1, 1), (-1, -2), (0, 1)), ((3, 2), (3, 2), (3, 0), (3, 1)),
        ((1, 1), (1, 1), (0, 0), (0, 0)), ((2, 2), (1, 1), (-1, 0), (0, -1)), ((2, 2), (1, 1), (9, 9), (9, 9)),
    ]):
        for C, O, size in ((3, 20, (9, 10)), (33, 5, (7, 31))):
            if name == "fast" or seed % 3 == 0:
                check(isa, name, seed, C=C, O=O, size=size, stride=stride, dilation=dilation, before=before,
                      beyond=beyond, after=seed % 2, plain_x=plain_x)


@isas
def test_kernels_of_all_sizes(isa):
    for seed, kernel in enumerate([(1, 1), (1, 5), (5, 1), (2, 4), (7, 7), (9, 10)]):
        check(isa, "fast", seed, C=5, O=9, kernel=kernel, size=(9, 10), before=(kernel[0] // 2, kernel[1] // 2), N=2)
        check(isa, "fast", seed, C=40, O=35, kernel=kernel, size=(9, 10), N=2, after=True)


@isas
def test_all_numbers_of_channels(isa):
    for C in (1, 4, 15, 16, 17, 32, 40):
        for O in (1, 7, 8, 16, 24, 32, 33, 50):
            check(isa, "fast", C * O, C=C, O=O, size=(5, 6), before=(1, 1), bias=O % 2 == 0, after=O % 2)


@isas
def test_one_by_one(isa):
    for seed, (C, O, size) in enumerate([(1, 1, (1, 1)), (17, 33, (7, 7)), (64, 8, (5, 29)), (800, 3, (4, 5))]):
        check(isa, "fast", seed, C=C, O=O, size=size, kernel=(1, 1), after=True)
        check(isa, "fast", seed, C=C, O=O, size=size, kernel=(1, 1), stride=(2, 2), threads=2)


@isas
def test_long_rows_are_cut_in_columns(isa):
    check(isa, "fast", 1, C=160, O=5, size=(5, 300), before=(1, 1), after=True, threads=2)
    check(isa, "fast", 2, C=300, O=3, size=(3, 900), kernel=(1, 1), after=True, threads=2)
    check(isa, "fast", 3, C=70, O=3, size=(4, 400), before=(1, 1), stride=(1, 2), dilation=(1, 3), after=True)
    check(isa, "fast", 4, C=40, O=17, size=(130, 30), before=(1, 1), after=True)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_what_follows_the_sums(isa, name):
    for seed, end in enumerate(blocked_calls.ENDS):
        check(isa, name, seed, C=17, O=40, size=(9, 8), before=(1, 1), after=seed % 2, threads=seed % 2 + 1, **end)
        check(isa, name, seed, C=3, O=7, N=2, size=(5, 70), plain_x=True, stride=(2, 1), after=True, **end)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_gated_channels(isa, name):
    for seed, (C, O, kernel, size) in enumerate([(5, 3, (1, 1), (6, 7)), (40, 37, (1, 1), (9, 31)),
                                                 (33, 24, (3, 2), (8, 9)), (16, 64, (1, 1), (1, 1))]):
        check(isa, name, seed, N=3, C=C, O=O, kernel=kernel, size=size, gate=True, after=seed % 2)
        check(isa, name, seed, N=2, C=C, O=O, kernel=kernel, size=size, before=(1, 0), gate=True, residual=True,
              clamp=True, threads=2)


@isas
def test_groups_of_whole_blocks(isa):
    b = isa.width
    for name in ("plain", "fast"):
        check(isa, name, 1, C=2 * b, O=4 * b, group=2, N=2, before=(1, 1), after=True, threads=2)
        check(isa, name, 2, C=6 * b, O=3 * b, group=3, N=2, kernel=(1, 1))
    check(isa, "fast", 3, C=6, O=2 * b, group=2, N=2, plain_x=True, after=True)


@isas
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_work(isa, threads):
    check(isa, "fast", 1, C=32, O=20, size=(30, 31), before=(1, 1), threads=threads, after=True)
    check(isa, "fast", 2, C=200, O=120, size=(5, 5), before=(1, 1), threads=threads, after=True)
    check(isa, "fast", 3, C=64, O=48, N=3, size=(20, 20), threads=threads, after=True)
    check(isa, "fast", 4, C=3, O=16, size=(90, 91), stride=(2, 2), threads=threads, plain_x=True, after=True)


@isas
def test_an_empty_output_is_left_alone(isa):
    for name in ("plain", "fast"):
        check(isa, name, 1, size=(2, 9))
        check(isa, name, 2, N=0)


@isas
@pytest.mark.parametrize("of", [(512, 512, 14, 3, 2), (1024, 2048, 14, 1, 2), (64, 80, 28, 1, 1), (3, 16, 40, 5, 1)])
def test_threads_get_like_shares_though_last_strips_are_smaller(isa, of):
    for parts in (1, 2, 3, 5):
        begin, before = np.zeros(parts + 1, np.int64), np.zeros(parts + 1, np.int64)
        units = call(SHARES, isa, "shares", *of, parts, begin, before)
        assert begin[0] == before[0] == 0 and begin[-1] == units and np.all(np.diff(begin) >= 0)
        if units >= 8 * parts:
            assert np.diff(before).max() * parts <= 1.15 * before[-1]


@isas
def test_random_convolutions(isa):
    rng = np.random.default_rng(5)
    for seed in range(60):
        kernel, stride, dilation, before, beyond = (tuple(int(v) for v in rng.integers(low, high, 2)) for low, high in
                                                    ((1, 5), (1, 4), (1, 3), (-1, 4), (-1, 4)))
        size = tuple(int(v) for v in rng.integers(1, 24, 2) + [(k - 1) * d + 2 for k, d in zip(kernel, dilation)])
        check(isa, "fast", seed, N=int(rng.integers(1, 3)), C=int(rng.integers(1, 50)), O=int(rng.integers(1, 70)),
              size=size, kernel=kernel, stride=stride, dilation=dilation, before=before, beyond=beyond,
              bias=rng.random() < .5, after=rng.random() < .5, threads=int(rng.integers(1, 4)),
              plain_x=rng.random() < .3)


@isas
@pytest.mark.parametrize("form", ["", "_fast"])
def test_moves_into_blocks_and_back(isa, form):
    rng = np.random.default_rng(3)
    b = isa.width
    for N, C, places in ((1, 1, 1), (2, 3, 5), (1, 16, 16), (2, 40, 49), (1, 33, 300), (1, 64, 1040)):
        x = rng.standard_normal((N, C, places)).astype(np.float32)
        y = guarded(np.full((N, -(-C // b), places, b), np.nan, np.float32))
        call(MOVES, isa, "from_plain" + form, N, C, places, guarded(x), y, threads=2)
        assert np.array_equal(y, meanings.blocked(x, b))
        back = guarded(np.zeros_like(x))
        call(MOVES, isa, "to_plain" + form, N, C, places, guarded(blocked_calls.with_nan_lanes(x, b)), back, threads=2)
        assert np.array_equal(back, x)
