"""Convolutions over volumes as convolutions over pictures: what a kernel sees of the depth becomes channels.

The slices of depth that the taps of a place meet are laid side by side as input channels, one picture for each place
of the result's depth. What a reader would guess wrong: the depth is copied as many times as the kernel is deep, which
costs little beside what the convolution does with each copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from gesher.base.dtypes import FLOAT
from gesher.primitives import Builder, Expr
from gesher.primitives.simplify import rewrite


def as_pictures(roots: Sequence[Expr]) -> list[Expr]:
    """The roots with convolutions of three axes over two."""
    return rewrite(roots, _pictures)


def _pictures(p: Builder, e: Expr) -> Expr | None:
    if e.prim != "convolve" or e.rank != 5 or e.dtype is not FLOAT or e.scopes:
        return None
    (x, w), of = e.args, e.params
    taps, stride, dilation, (low, high) = w.shape[2], of["strides"][0], of["dilations"][0], of["pads"][0]
    if not isinstance(taps, int):
        return None
    # x (N,C,D,H,W), w (M,C/g,kd,kh,kw)
    n, out, depth = e.shape[:3]
    padded = p.pad(x, [0, 0, low, 0, 0], [0, 0, high, 0, 0]) if (low, high) != (0, 0) else x
    seen = [p.take(padded, 2, k * dilation, k * dilation + stride * (depth - 1) + 1, stride) for k in range(taps)]
    stacked = p.concat([p.expand_dims(s, [2]) for s in seen], 2) if taps > 1 else p.expand_dims(seen[0], [2])
    # (N,C,kd,OD,H,W): a picture for each place of the depth
    pictures = p.transpose(stacked, (0, 3, 1, 2, 4, 5))
    pictures = p.reshape(pictures, (n * depth, x.shape[1] * taps, *x.shape[3:]))
    kernel = p.reshape(w, (out, w.shape[1] * taps, *w.shape[3:]))
    y = p.convolve(pictures, kernel, of["strides"][1:], of["pads"][1:], of["dilations"][1:], of["groups"])
    return p.transpose(p.reshape(y, (n, depth, out, *e.shape[3:])), (0, 2, 1, 3, 4))
