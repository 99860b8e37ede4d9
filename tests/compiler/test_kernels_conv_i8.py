"""Integer convolutions of pictures with channels last: all signs, zero points, strides, pads, groups and edges.

Exactly, in memory that ends where the picture ends, with and without the dot instructions.
"""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.compiler import target
from gesher.compiler.kernels import meanings
from gesher.compiler.kernels.packing_i8 import dot_step, pack_rows, panel_columns, panel_type, segments_of

SOURCE = """
#include "gs_conv_i8.h"
typedef struct { int32_t* y; int64_t row, group; } Where;
// Adds, so that a rectangle left out or visited twice shows.
static void follow(void* context, int32_t* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                   int64_t cols) {
  const Where* w = context;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      w->y[(m + i) * w->row + batch * w->group + n + j] += c[i * ldc + j] * 2 - 7;
}
#define ARGS GsPool* pool, const int64_t* s, const uint8_t* x, const void* w, const int32_t* sums, \\
  const int32_t* w_zero, const uint8_t* x_zero, int32_t* y, uint8_t* scratch
#define FILL \\
  Where where = {y, s[2], s[2] / s[3]}; \\
  GsConvI8 v = {.N = s[0], .C = s[1], .O = s[2], .group = s[3], .H = s[4], .W = s[5], .OH = s[6], .OW = s[7], \\
    .KH = s[8], .KW = s[9], .SH = s[10], .SW = s[11], .DH = s[12], .DW = s[13], .PH = s[14], .PW = s[15], \\
    .x_signed = (int)s[16], .planar = (int)s[17], .x = x, .w = w, .sums = sums, .w_zero = w_zero, \\
    .x_zero_at = x_zero, .y = y, .epilogue = s[18] ? follow : 0, .context = &where, .scratch = scratch}
GS_EXPORT int64_t need(ARGS) {
  FILL;
  return 4 * (s[19] ? gs_depthwise_i8_scratch(&v, gs_pool_size(pool)) : gs_conv_i8_scratch(&v, gs_pool_size(pool)));
}
GS_EXPORT void fast(ARGS) { FILL; if (s[19]) gs_depthwise_i8(&v, pool); else gs_conv_i8(&v, pool); }
GS_EXPORT void plain(ARGS) { FILL; gs_conv_i8_plain(&v, pool); }
GS_EXPORT void window(GsPool* pool, const int64_t* s, const uint8_t* x, uint8_t* y, int64_t plain) {
  GsWindowI8 v = {.N = s[0], .C = s[1], .H = s[4], .W = s[5], .OH = s[6], .OW = s[7], .KH = s[8], .KW = s[9],
    .SH = s[10], .SW = s[11], .DH = s[12], .DW = s[13], .PH = s[14], .PW = s[15], .x_signed = (int)s[16],
    .x = x, .y = y};
  if (plain) gs_window_i8_plain(&v, pool); else gs_window_i8(&v, pool);
}
GS_EXPORT int64_t step(void) { return GS_I8_STEP; }
GS_EXPORT int64_t columns(int64_t n) { return gs_i8_columns(n); }
"""
# None: exactly this processor, whose dot instructions the named instruction sets leave out.
isas = pytest.mark.parametrize("isa", [None, *ISAS], ids=lambda i: i.name if i else "native")


def draw(rng, shape, dtype, extreme=False):
    info = np.iinfo(dtype)
    return (rng.choice([info.min, info.max], shape) if extreme else
            rng.integers(info.min, info.max + 1, shape)).astype(dtype)


def check(isa, seed, n=1, c=8, o=16, group=1, size=(7, 6), kernel=(3, 3), stride=(1, 1), dilation=(1, 1), pad=(1, 1),
          more=(1, 1), signed=False, zero=True, w_zero=False, planar=False, after=True, threads=1, name="fast",
          extreme=False):
    rng = np.random.default_rng(seed)
    dtype = np.int8 if signed else np.uint8
    x, w = draw(rng, (n, c, *size), dtype, extreme), draw(rng, (o, c // group, *kernel), np.int8, extreme)
    x_zero = draw(rng, 1, dtype, extreme) if zero else np.zeros(1, dtype)
    zeros = draw(rng, o, np.int8).astype(np.int32) if w_zero else None
    out = [(h + p + q - (k - 1) * d - 1) // s + 1
           for h, p, q, k, s, d in zip(size, pad, more, kernel, stride, dilation)]
    assert min(out) > 0
    depthwise = name == "fast" and group == c == o and group > 1
    with target.building_for(isa):
        step, columns, packed = dot_step(), panel_columns(o // group), panel_type().numpy
    if name == "plain":
        panels = w
    elif depthwise:
        panels = np.ascontiguousarray(w.reshape(o, -1).T)
    else:
        assert (step, columns) == (call(SOURCE, isa, "step"), call(SOURCE, isa, "columns", o // group))
        merged = group == 1 and dilation[1] == 1
        parts = w.astype(packed).reshape(group, o // group, *w.shape[1:])
        panels = np.concatenate([pack_rows(segments_of(part, merged, planar), step, columns) for part in parts])
    s = np.array([n, c, o, group, *size, *out, *kernel, *stride, *dilation, *pad, signed, planar, after, depthwise],
                 np.int64)
    y = guarded(np.full((n, *out, o), 0 if name == "plain" else 7, np.int32))
    arguments = [s, guarded(x if planar else np.moveaxis(x, 1, -1)), guarded(panels),
                 guarded(w.reshape(o, -1).sum(1, dtype=np.int32)), guarded(zeros), guarded(x_zero), y]
    room = np.zeros((max(1, call(SOURCE, isa, "need", *arguments, None, threads=threads)) + 63) // 64 * 64, np.uint8)
    call(SOURCE, isa, name, *arguments, guarded(room), threads=threads)
    whole = w.astype(np.int64) - (0 if zeros is None else zeros.reshape(-1, 1, 1, 1))
    expected = meanings.convolution(x.astype(np.int64) - x_zero.astype(np.int64), whole, None, out, stride, dilation,
                                    pad, group)
    expected = np.moveaxis(expected, 1, -1).astype(np.int64).astype(np.int32)
    # The plain one works in the result's memory.
    expected = (expected * 3 - 7 if name == "plain" else expected * 2) if after else expected
    assert np.array_equal(y, expected), (y - expected, seed)


def drawn(seed):
    """A convolution drawn by lot: odd sizes, strides, dilations, pads, groups, types."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["dense", "grouped", "depthwise", "planar"])
    group, c, o = 1, int(rng.integers(1, 40)), int(rng.integers(1, 90))
    if kind == "grouped":
        group = int(rng.integers(2, 5))
        c, o = group * int(rng.integers(1, 9)), group * int(rng.integers(1, 20))
    elif kind == "depthwise":
        group = c = o = int(rng.integers(2, 150))
    elif kind == "planar":
        c = int(rng.integers(1, 5))
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, top, 2))) for top in (5, 4, 3))
    if kind == "planar":
        dilation = (dilation[0], 1)
    pad, more = (tuple(map(int, rng.integers(0, 3, 2))) for _ in range(2))
    size = tuple(max(1, (k - 1) * d + 1 + int(rng.integers(-2, 9))) for k, d in zip(kernel, dilation))
    size = tuple(max(h, (k - 1) * d + 1 - p - q) for h, k, d, p, q in zip(size, kernel, dilation, pad, more))
    return {"n": int(rng.integers(1, 3)), "c": c, "o": o, "group": group, "size": size, "kernel": kernel,
            "stride": stride, "dilation": dilation, "pad": pad, "more": more, "planar": kind == "planar",
            **{k: bool(rng.random() < .5) for k in ("signed", "zero", "w_zero", "after", "extreme")}}


@isas
def test_convolutions_drawn_by_lot(isa):
    for seed in range(80):
        check(isa, seed, **drawn(seed))


def test_the_plain_version_means_the_same():
    for seed in range(25):
        check(None, seed, name="plain", **drawn(seed))


@isas
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_cut_places_columns_and_groups(isa, threads):
    check(isa, 1, c=32, o=200, size=(20, 20), threads=threads)
    check(isa, 2, c=256, o=900, size=(3, 3), kernel=(1, 1), pad=(0, 0), more=(0, 0), threads=threads)
    check(isa, 3, c=64, o=64, group=2, size=(20, 20), threads=threads, w_zero=True)
    check(isa, 4, c=130, o=130, group=130, size=(25, 25), threads=threads)


@isas
def test_a_picture_that_is_read_where_it_lies_is_not_read_beyond(isa):
    for c, group in ((16, 1), (64, 4), (70, 70), (64, 64)):
        check(isa, c, n=2, c=c, o=c, group=group, size=(9, 9), pad=(0, 0), more=(0, 0), stride=(2, 2), signed=True)
    # Padding that cuts off.
    check(isa, 5, c=4, o=3, size=(9, 9), pad=(-1, -2), more=(0, -1))


@isas
def test_maxima_over_windows(isa):
    for seed in range(20):
        d = drawn(seed)
        rng = np.random.default_rng(seed)
        x = draw(rng, (d["n"], d["c"], *d["size"]), np.int8 if d["signed"] else np.uint8)
        out = [(h + p + q - (k - 1) * e - 1) // s + 1 for h, p, q, k, s, e in
               zip(d["size"], d["pad"], d["more"], d["kernel"], d["stride"], d["dilation"])]
        s = np.array([d["n"], d["c"], 0, 1, *d["size"], *out, *d["kernel"], *d["stride"], *d["dilation"], *d["pad"],
                      d["signed"]], np.int64)
        want, _ = meanings.pooling(x.reshape(-1, *d["size"]), d["kernel"], d["stride"], d["dilation"], d["pad"],
                                   d["more"], out, False, False)
        want = np.maximum(want, np.iinfo(x.dtype).min).reshape(d["n"], d["c"], *out).astype(x.dtype)
        for plain in (0, 1):
            y = guarded(np.full((d["n"], *out, d["c"]), 3, x.dtype))
            call(SOURCE, isa, "window", s, guarded(np.moveaxis(x, 1, -1)), y, plain, threads=2)
            assert np.array_equal(np.moveaxis(y, -1, 1), want)
