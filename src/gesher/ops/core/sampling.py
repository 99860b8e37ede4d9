"""GridSample takes a picture's values at any places; AffineGrid lays out the places of an affine map.

Places run from -1 to 1 over an axis, from the outer edge of the first element to that of the last, or with
`align_corners` from centre to centre. A place names the innermost axis first: (x, y) for a picture of (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import product as total

from ..arithmetic import computed, wide, widen
from ..interpolation import Method, filter_expr, filter_of
from ..places import seen
from ..rules import InferNode
from ..schema import ALL, BF16, FLOATS, Attr, Input, Output, op, tensors

GridSample = (op("GridSample", Input("X", "T1"), Input("grid", "T2"), Output("Y", "T1"),
                 Attr("mode", "string", "bilinear"), Attr("padding_mode", "string", "zeros"),
                 Attr("align_corners", "int", 0), since=16, T1=ALL, T2=FLOATS)
              .since(20, Attr("mode", "string", "linear"), behaviour="bilinear and bicubic are called linear and cubic")
              .since(22, T1=ALL | BF16, T2=FLOATS | BF16))

AffineGrid = op("AffineGrid", Input("theta", "T1"), Input("size", "T2"), Output("grid", "T1"),
                Attr("align_corners", "int", 0), since=20, T1=FLOATS | BF16, T2=tensors("int64"))

_PLAIN = {"bilinear": "linear", "bicubic": "cubic"}
_REACH = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}


def _check_modes(mode: str, padding_mode: str) -> str:
    """The mode by its name since version 20.

    Raises:
        ModelError: a mode is unknown.
    """
    plain = _PLAIN.get(mode, mode)
    if plain not in _REACH:
        raise ModelError(f"mode cannot be '{mode}'", rule="grid-sample", advice="it is nearest, linear or cubic")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ModelError(f"padding_mode cannot be '{padding_mode}'", rule="grid-sample",
                         advice="it is zeros, border or reflection")
    return plain


@GridSample.infer
def _(node: InferNode) -> None:
    x, grid = node.shape(0), node.shape(1)
    try:
        _check_modes(node["mode"], node["padding_mode"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    if x is None or grid is None:
        known = x or grid
        node.set(0, node.dtype(0), None if known is None else (None,) * len(known), why="a shape is unknown")
        return
    if len(x) != len(grid) or len(x) < 3 or (node.version < 20 and len(x) != 4):
        node.fail(f"X {print_shape(x)} and the grid {print_shape(grid)} do not fit",
                  "X is (N,C,H,W) and the grid (N,H',W',2), or alike with other spatial axes from opset 20 on")
    node.unify(grid[-1], len(x) - 2, "the last axis of the grid and the spatial axes of X")
    node.unify(x[0], grid[0], "the batches of X and of the grid")
    node.set(0, node.dtype(0), (*x[:2], *grid[1:-1]))


# Reference

def _reflected(x: Any, low: float, high: float) -> Any:
    """x thrown back at both borders until it lies between them."""
    if high <= low:
        return np.full_like(x, low)
    span = high - low
    off = np.abs(x - low)
    turns = np.floor(off / span)
    rest = off - turns * span
    return np.where(turns % 2 == 0, low + rest, high - rest)


def _borders(size: int, align_corners: int) -> tuple[float, float]:
    return (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)


def _places(grid: Any, sizes: Sequence[int], mode: str, padding_mode: str, align_corners: int) -> list[Any]:
    """Where each place lies on each axis, in elements, moved inside as the padding mode asks."""
    found = []
    for i, size in enumerate(sizes):
        g = grid[..., len(sizes) - 1 - i]
        x = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
        x = np.rint(x) if mode == "nearest" else x
        low, high = _borders(size, align_corners)
        out = (x < low) | (x > high)
        if padding_mode == "border":
            x = np.where(out, np.clip(x, 0, size - 1), x)
        elif padding_mode == "reflection":
            x = np.where(out, _reflected(x, low, high), x)
        found.append(x)
    return found


def _sampled(x: Any, grid: Any, mode: str, padding_mode: str, align_corners: int) -> Any:
    """Sums over the elements around each place; all arrays in floating point but for the nearest."""
    mode = _check_modes(mode, padding_mode)
    sizes = x.shape[2:]
    places = _places(widen(grid), sizes, mode, padding_mode, align_corners)
    near = [np.floor(v) for v in places]
    method = Method("cubic" if mode == "cubic" else "linear")
    channels_last = np.moveaxis(x, 1, -1)
    batch = np.arange(len(x)).reshape(-1, *(1,) * (grid.ndim - 2))
    y: Any = None
    for steps in product(_REACH[mode], repeat=len(sizes)):
        index: list[Any] = []
        inside: Any = np.True_
        weight: Any = np.float32(1)
        for step, low, v, size in zip(steps, near, places, sizes):
            at = low + step
            if mode != "nearest":
                weight = weight * filter_of(at - v, method)
            if padding_mode == "reflection":
                at = np.trunc(_reflected(at, *_borders(size, align_corners)))
            inside = inside & (at >= 0) & (at < size)
            index.append(np.clip(at, 0, size - 1).astype(np.int64))
        seen = channels_last[(batch, *index)]
        if padding_mode == "zeros":
            nothing = "" if seen.dtype == object else seen.dtype.type(0)
            seen = np.where(inside[..., None], seen, nothing)
        if mode == "nearest":
            y = seen
        else:
            part = seen * weight[..., None].astype(x.dtype)
            y = part if y is None else y + part
    return np.moveaxis(y, -1, 1)


@GridSample.reference
def grid_sample(x: Any, grid: Any, *, mode: str, padding_mode: str, align_corners: int) -> Any:
    dtype = dtypes.from_numpy(x.dtype)
    if mode == "nearest":
        return _sampled(x, grid, mode, padding_mode, align_corners)
    if not (dtype.is_float or dtype.is_integer):
        raise ModelError(f"GridSample: {dtype.name} cannot be interpolated, only taken from the nearest",
                         rule="grid-sample")
    with np.errstate(all="ignore"):
        y = _sampled(widen(x) if dtype.is_float else x.astype(np.float64), grid, mode, padding_mode, align_corners)
        return y.astype(x.dtype)


# Lowering

def _reflected_expr(p: Builder, x: Expr, size: DimLike, align_corners: int) -> Expr:
    low, last = (0.0, 1.0) if align_corners else (-0.5, 0.0)
    span = p.size(size, x.dtype) - last
    off = p.abs(x - low)
    # An axis of one element with aligned corners has nowhere to be thrown back to.
    turns = p.select(p.eq(span, 0.0), 0.0, p.floor(off / span))
    rest = p.select(p.eq(span, 0.0), 0.0, off - turns * span)
    even = p.eq(p.mod(turns, 2.0), 0.0)
    return p.select(even, rest + low, span + low - rest)


@GridSample.lower
def _(p: Builder, x: Expr, grid: Expr, *, mode: str, padding_mode: str, align_corners: int) -> Expr:
    mode, dtype = _check_modes(mode, padding_mode), x.dtype
    if mode != "nearest" and not (dtype.is_float or dtype.is_integer):
        raise CannotLower(f"interpolation of {dtype.name}")
    if dtype.kind in ("string", "complex"):
        raise CannotLower(f"sampling of {dtype.name}")
    if dtype.is_float or mode != "nearest":
        x = p.cast(x, dtypes.DOUBLE if not dtype.is_float or dtype is dtypes.DOUBLE else dtypes.FLOAT)
    sizes = x.shape[2:]
    steps = _places_expr(p, grid, sizes, mode, padding_mode, align_corners)
    indices, weights = [], []
    for chosen in product(*steps):
        index, inside, weight = None, None, None
        for (at, here, w), size in zip(chosen, sizes):
            index = at if index is None else index * p.size(size, dtypes.INT32) + at
            inside = here if inside is None else p.and_(inside, here)
            weight = w if weight is None or w is None else weight * w
        assert index is not None and inside is not None
        indices.append(index if padding_mode != "zeros" else p.select(inside, index, -1))
        weights.append(p.full(index.shape, 1, x.dtype) if weight is None else p.cast(weight, x.dtype))
    around = indices[0].shape
    flat = p.reshape(x, (*x.shape[:2], total(sizes)))
    if dtype.is_float or mode != "nearest":
        index, weight = (p.concat([p.reshape(e, (around[0], 1, total(around[1:]))) for e in es], 1)
                         for es in (indices, weights))
        return p.cast(p.reshape(seen(p, flat, index, weight), (*x.shape[:2], *around[1:])), dtype)
    at = p.reshape(indices[0], (around[0], total(around[1:]), 1))
    taken = p.gather_nd(p.transpose(flat, (0, 2, 1)), p.cast(p.max(at, 0), dtypes.INT64), 1)
    taken = p.transpose(p.select(at < 0, p.scalar(0, x.dtype), taken), (0, 2, 1))
    return p.reshape(taken, (*x.shape[:2], *around[1:]))


def _places_expr(p: Builder, grid: Expr, sizes: Sequence[DimLike], mode: str, padding_mode: str, align_corners: int,
                 ) -> list[list[tuple[Expr, Expr, Expr | None]]]:
    """For each axis the steps that a place takes along it: the element's index, moved to the nearest that there is,
    whether it is inside, and its weight, None where that is always 1."""
    widened = wide(p, grid)
    assert widened is not None
    real, n = widened.dtype, len(sizes)
    method = Method("cubic" if mode == "cubic" else "linear")
    steps: list[list[tuple[Expr, Expr, Expr | None]]] = []
    for i, d in enumerate(sizes):
        size = p.size(d, real)
        g = p.squeeze(p.take(widened, -1, n - 1 - i, n - i), [n + 1])
        v = (g + 1.0) / 2.0 * (size - 1.0) if align_corners else ((g + 1.0) * size - 1.0) / 2.0
        v = p.round(v) if mode == "nearest" else v
        low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
        out = p.or_(p.lt(v, low), p.gt(v, high))
        if padding_mode == "border":
            v = p.select(out, p.max(p.min(v, size - 1.0), 0.0), v)
        elif padding_mode == "reflection":
            v = p.select(out, _reflected_expr(p, v, d, align_corners), v)
        near = p.floor(v)
        row: list[tuple[Expr, Expr, Expr | None]] = []
        for step in _REACH[mode]:
            at = near + float(step)
            weight = None if mode == "nearest" else filter_expr(p, at - v, method)
            if padding_mode == "reflection":
                at = p.trunc(_reflected_expr(p, at, d, align_corners))
            here = p.and_(p.ge(at, 0.0), p.lt(at, size))
            row.append((p.cast(p.max(p.min(at, size - 1.0), 0.0), dtypes.INT32), here, weight))
        steps.append(row)
    return steps


# AffineGrid

@AffineGrid.infer
def _(node: InferNode) -> None:
    theta, size = node.shape(0), node.ints(1)
    if theta is not None and len(theta) != 3:
        node.fail(f"theta is (N,2,3) or (N,3,4), not {print_shape(theta)}")
    if size is None:
        known = node.shape(1)
        rank = known[0] if known is not None and len(known) == 1 and isinstance(known[0], int) else None
        node.set(0, node.dtype(0), None if rank is None else (*(None,) * (rank - 1), rank - 2), why="size is not known")
        return
    n = len(size) - 2
    if n not in (2, 3):
        node.fail(f"size is (N,C,H,W) or (N,C,D,H,W), not of {len(size)} numbers")
    if theta is not None:
        for have, want, what in ((theta[0], size[0], "the batches of theta and size"),
                                 (theta[1], n, "the rows of theta"), (theta[2], n + 1, "the columns of theta")):
            node.unify(have, want, what)
    node.set(0, node.dtype(0), (size[0], *size[2:], n))


@AffineGrid.reference
@computed
def affine_grid(theta: Any, size: Any, *, align_corners: int) -> Any:
    sizes = size.tolist()[2:]
    steps = []
    for d in sizes:
        place = np.arange(d, dtype=theta.dtype)
        steps.append(-1 + place * (2 / theta.dtype.type(max(d - 1, 1))) if align_corners else (2 * place + 1) / d - 1)
    # Innermost first, and 1 for the shift.
    around = np.stack([*reversed(np.meshgrid(*steps, indexing="ij")), np.ones(sizes, theta.dtype)], -1)
    return np.einsum("...j,nij->n...i", around, theta)


@AffineGrid.lower
def _(p: Builder, theta: Expr, size: Expr, *, align_corners: int) -> Expr:
    known = p.known(size)
    if known is None:
        raise CannotLower("the size of the grid is not known before running")
    sizes, dtype = known.reshape(-1).tolist()[2:], theta.dtype
    matrix = wide(p, theta)
    assert matrix is not None
    n = len(sizes)
    # For each row of theta: the shift, and a product along each axis.
    rows = []
    for i in range(n):
        def of(j: int, i: int = i) -> Expr:
            return p.reshape(p.slice(matrix, (0, i, j), (matrix.shape[0], i + 1, j + 1)),
                             (matrix.shape[0], *(1,) * n))

        total = of(n)
        for axis, d in enumerate(sizes):
            place = p.reshape(p.iota((d,), 0, matrix.dtype), (*(1,) * (axis + 1), d, *(1,) * (n - 1 - axis)))
            count = p.size(d, matrix.dtype)
            if align_corners:
                place = place * (2.0 / p.max(count - 1.0, 1.0)) - 1.0
            else:
                place = (place * 2.0 + 1.0) / count - 1.0
            total = total + of(n - 1 - axis) * place
        rows.append(p.expand_dims(total, [n + 1]))
    return p.cast(p.concat(rows, n + 1), dtype)
