"""How the tests of kernels over blocked channels draw a problem, call C and compare with the meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.compiler.kernel_calls import call, guarded, scratch

from gesher.compiler.kernels import blocked_packing, meanings
from gesher.compiler.kernels.packing_bf16 import bf16_bits, bf16_floats

# Marks each element with its place, so that a run left out, visited twice or too early shows.
SOURCE = """
static void follow(void* context, float* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                   int64_t cols) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      c[i * ldc + j] = c[i * ldc + j] * 2 + (float)(batch * 100 + (m + i) * 16 + n + j) * (ldc == GS_W ? 1 : 1000);
}
static GsBlocked fill(const int64_t* s, const float* x, const float* w, const float* bias, const float* bias_too,
                      const float* residual, const float* gate, float* y, int64_t after, float* scratch) {
  GsBlocked v = {.N = s[0], .C = s[1], .O = s[2], .group = s[3], .plain_x = (int)s[16], .tile = (int)s[17], .x = x,
                 .w = w, .bias = bias, .bias_too = bias_too, .residual = residual, .gate = gate, .silu = (int)s[18],
                 .clamp = (int)s[19], .low = -0.5f, .high = 8, .y = y, .epilogue = after ? follow : 0,
                 .scratch = scratch, .x_bf16 = (int)s[20], .y_bf16 = (int)s[21]};
  int64_t* lists[6] = {v.in, v.out, v.kernel, v.stride, v.dilation, v.pad};
  for (int i = 0; i < 6; i++) memcpy(lists[i], s + 4 + i * 2, 16);
  return v;
}
#define ARGS GsPool* pool, const int64_t* s, const float* x, const float* w, const float* bias, \\
  const float* bias_too, const float* residual, const float* gate, float* y, int64_t after, float* scratch
#define FILLED GsBlocked v = fill(s, x, w, bias, bias_too, residual, gate, y, after, scratch)
#define KERNEL(name, kernel, size) \\
  GS_EXPORT void name(ARGS) { FILLED; kernel(&v, pool); } \\
  GS_EXPORT int64_t name##_need(ARGS) { FILLED; (void)v; return size; }
"""


# What the kernels themselves do with finished sums, one after the other.
ENDS = ({"residual": True}, {"residual": True, "clamp": True}, {"silu": True}, {"silu": True, "residual": True},
        {"bias_too": True, "residual": True, "clamp": True}, {"bias_too": True, "silu": True})


def output_size(size, kernel, stride, dilation, before, after):
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


def with_nan_lanes(x: np.ndarray, b: int) -> np.ndarray:
    """x (N,C,H,W) in blocks, with NaN in the lanes that hold no channel."""
    out = meanings.blocked(x, b)
    if x.shape[1] % b:
        out[:, -1, ..., x.shape[1] % b:] = np.nan
    return out


def run(source, isa, name, pack: Callable[[np.ndarray, int], np.ndarray], seed, *, N=1, C=3, O=4, size=(7, 9),
        kernel=(3, 3), stride=(1, 1), dilation=(1, 1), before=(0, 0), beyond=None, group=1, bias=True, after=False,
        threads=1, plain_x=False, tile=0, bias_too=False, residual=False, gate=False, silu=False, clamp=False,
        x_bf16=False, y_bf16=False, meaning=meanings.convolution, spoil=None):
    """Draw a convolution and call the kernel: what it wrote and what it should have, both (N,O,OH,OW).

    `clamp` keeps outputs between -0.5 and 8; `spoil` changes the drawn x; with `x_bf16` and `y_bf16` the
    pictures are bfloat16 in memory.
    """
    rng = np.random.default_rng(seed)
    b = isa.width
    x = rng.standard_normal((N, C, *size)).astype(np.float32)
    w = rng.standard_normal((O, C // group, *kernel)).astype(np.float32)
    if spoil is not None:
        spoil(x)
    shift = rng.standard_normal(O).astype(np.float32) if bias else None
    out = tuple(map(output_size, size, kernel, stride, dilation, before, beyond or before))
    assert min(out) >= 0, out
    blocks = blocked_packing.blocks_of(O, b)
    more = rng.standard_normal(O).astype(np.float32) if bias_too else None
    gates = rng.standard_normal((N, C, 1, 1)).astype(np.float32) if gate else None
    add = rng.standard_normal((N, O, *out)).astype(np.float32) if residual else None
    expected = meaning(x if gates is None else x * gates, w, shift, out, stride, dilation, before, group)
    if more is not None:
        expected = expected + more[:, None, None]
    if silu:
        with np.errstate(all="ignore"):
            expected = expected / (1 + np.exp(-expected))
    if add is not None:
        expected = expected + add
    if clamp:
        expected = np.clip(expected, -0.5, 8)
    if after:
        n, o, p = np.ogrid[:N, :O, :int(np.prod(out))]
        expected = expected * 2 + ((n * blocks + o // b) * 100 + p * 16 + o % b).reshape(expected.shape)
    shape = np.array([N, C, O, group, *size, *out, *kernel, *stride, *dilation, *before, plain_x, tile, silu, clamp,
                      x_bf16, y_bf16], np.int64)
    untouched = np.uint16(0xC7C1) if y_bf16 else np.float32(-98765.5)
    y = guarded(np.full((N, blocks, *out, b), untouched))
    fed = x if plain_x else with_nan_lanes(x, b)
    arguments = [shape, guarded(bf16_bits(fed) if x_bf16 else fed), guarded(pack(w, b)),
                 None if shift is None else guarded(blocked_packing.pack_bias(shift, b)),
                 None if more is None else guarded(blocked_packing.pack_bias(more, b)),
                 None if add is None else guarded(with_nan_lanes(add, b)),
                 None if gates is None else guarded(with_nan_lanes(gates, b)), y, int(after)]
    floats = call(source, isa, name + "_need", *arguments, None, threads=threads)
    call(source, isa, name, *arguments, scratch(floats), threads=threads)
    assert not (y == untouched).any()  # lanes without an output are written too
    return meanings.unblocked(bf16_floats(y) if y_bf16 else y, O), expected
