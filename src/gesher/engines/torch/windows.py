"""Convolutions and pools in PyTorch: its own where it has one for the rank and type, else sums over views of windows.

Pads are (before, behind) for each axis and need not be alike; they are put around first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

Tensor = torch.Tensor
Pads = Sequence[Sequence[int]]

_CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_LARGEST: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def padded(x: Tensor, pads: Pads, value: Any = 0) -> Tensor:
    """x with `value` around its trailing axes; negative pads cut off."""
    if all(p == 0 for pair in pads for p in pair):
        return x
    return F.pad(x, [p for pair in reversed(pads) for p in pair], value=value)


def views(x: Tensor, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """Windows over the trailing axes of x: (..., *places, *window)."""
    lead = x.ndim - len(size)
    for i, (k, s, d) in enumerate(zip(size, strides, dilations)):
        x = x.unfold(lead + i, (k - 1) * d + 1, s)
        x = x[..., ::d]
    return x


def convolve(x: Tensor, w: Tensor, strides: Sequence[int], pads: Pads, dilations: Sequence[int], groups: int,
             shape: Sequence[int]) -> Tensor:
    """Correlation of x (N,C,*) with w (M,C/groups,*), zeros around, to `shape` (N,M,*)."""
    n = x.ndim - 2
    if 0 in shape or not x.numel() or not w.numel():
        return x.new_zeros(shape)
    if x.is_floating_point() and n in _CONVOLUTIONS:
        same = all(a == b >= 0 for a, b in pads)
        around = [a for a, _ in pads] if same else [0] * n
        made: Tensor = _CONVOLUTIONS[n](x if same else padded(x, pads), w, None, tuple(strides), tuple(around),
                                        tuple(dilations), groups)
        return made
    seen = views(padded(x, pads), w.shape[2:], strides, dilations)
    seen = seen.reshape(x.shape[0], groups, w.shape[1], *seen.shape[2:2 + n], -1)
    filters = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1)
    # For each group the places (N, C, *places, window) meet the filters (M, C, window) over C and the window.
    made = (seen.unsqueeze(2) * filters.reshape(1, *filters.shape[:3], *(1,) * n, filters.shape[3])).sum(
        (3, -1), dtype=x.dtype)
    return made.reshape(tuple(shape))


def convolve_transposed(x: Tensor, w: Tensor, strides: Sequence[int], pads: Pads, dilations: Sequence[int],
                        groups: int, shape: Sequence[int]) -> Tensor:
    """The gradient of `convolve` by its x: x (N,C,*), w (C,M/groups,*) to `shape` (N,M,*)."""
    n = x.ndim - 2
    if 0 in shape or not x.numel() or not w.numel():
        return x.new_zeros(tuple(shape))
    if n in _TRANSPOSED:
        full: Tensor = _TRANSPOSED[n](x, w, None, tuple(strides), 0, 0, groups, tuple(dilations))
    else:
        full = _spread(x, w, strides, dilations, groups)
    # What lies before is cut away; behind, it is cut to the size or filled with zeros.
    cut = [(-lo, lo + size - have) for (lo, _), size, have in zip(pads, shape[2:], full.shape[2:])]
    return padded(full, cut)


def _spread(x: Tensor, w: Tensor, strides: Sequence[int], dilations: Sequence[int], groups: int) -> Tensor:
    """Transposed convolution of any rank: zeros between the elements, then a convolution with the filters flipped."""
    n = x.ndim - 2
    sparse = x.new_zeros((*x.shape[:2], *((d - 1) * s + 1 for d, s in zip(x.shape[2:], strides))))
    sparse[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    per = w.shape[1]
    turned = w.flip(tuple(range(2, 2 + n))).reshape(groups, w.shape[0] // groups, per, *w.shape[2:]).transpose(1, 2)
    turned = turned.reshape(groups * per, w.shape[0] // groups, *w.shape[2:])
    reach = [(k - 1) * d for k, d in zip(w.shape[2:], dilations)]
    shape = (x.shape[0], groups * per, *(s + r for s, r in zip(sparse.shape[2:], reach)))
    return convolve(sparse, turned, (1,) * n, [(r, r) for r in reach], dilations, groups, shape)


def fold(x: Tensor, op: str, size: Sequence[int], strides: Sequence[int], pads: Pads, dilations: Sequence[int],
         nothing: Any, shape: Sequence[int]) -> Tensor:
    """sum, max or min over windows of the trailing axes; `nothing` is what is padded."""
    if 0 in shape:
        return x.new_zeros(tuple(shape))
    if not x.numel():
        return x.new_full(tuple(shape), nothing)
    n = len(size)
    around = padded(x, pads, nothing)
    if op != "sum" and x.is_floating_point() and n in _LARGEST:
        lead = around.shape[:around.ndim - n]
        flat = around.reshape(-1, 1, *around.shape[around.ndim - n:])
        flat = flat if op == "max" else -flat
        made: Tensor = _LARGEST[n](flat, tuple(size), tuple(strides), 0, tuple(dilations))
        made = made if op == "max" else -made
        return made.reshape(*lead, *made.shape[2:])
    seen = views(around, size, strides, dilations)
    axes = tuple(range(seen.ndim - n, seen.ndim))
    if op == "sum":
        return seen.sum(axes, dtype=x.dtype) if axes else seen
    return seen.amax(axes) if op == "max" else seen.amin(axes)
