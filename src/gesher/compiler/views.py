"""Tensors that lie in another one's memory: an offset and a stride an axis, so that kernels need no copies.

`view_of` follows transposes, slices, broadcasts and reshapes down to what has memory of its own. Where a reshape would
merge axes that do not lie one behind the other, there is no view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gesher.primitives import Expr
from gesher.symbolic import DimLike, decide_eq

from .indexing import groups


@dataclass(frozen=True, slots=True)
class View:
    """Element [i, j, ...] of the view is element offset + i*strides[0] + j*strides[1] + ... of `base`."""

    base: Expr
    shape: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]
    offset: DimLike = 0


def contiguous(shape: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """Row-major strides."""
    strides: list[DimLike] = []
    step: DimLike = 1
    for d in reversed(shape):
        strides.append(step)
        step = step * d
    return tuple(reversed(strides))


def view_of(e: Expr) -> View:
    """`e` as a view of the nearest expression that needs memory of its own (`e` itself at the least)."""
    chain: list[Expr] = []
    below = e
    while below.prim in ("transpose", "slice", "reshape", "broadcast"):
        chain.append(below)
        below = below.args[0]
    # What lies deeper may stand behind a step that is no view; then the nearest one above it is kept.
    for start in range(len(chain), -1, -1):
        root = chain[start - 1].args[0] if start else e
        view: View | None = View(root, root.shape, contiguous(root.shape))
        for step in reversed(chain[:start]):
            view = None if view is None else _through(step, view)
        if view is not None:
            return view
    raise AssertionError("an expression is a view of itself")


def _through(step: Expr, v: View) -> View | None:
    if step.prim == "transpose":
        return View(v.base, step.shape, tuple(v.strides[a] for a in step.params["perm"]), v.offset)
    if step.prim == "slice":
        offset = v.offset
        for start, stride in zip(step.params["starts"], v.strides):
            offset = offset + start * stride
        return View(v.base, step.shape, tuple(s * k for s, k in zip(v.strides, step.params["steps"])), offset)
    if step.prim == "broadcast":
        skip = step.rank - len(v.shape)
        strides: list[DimLike] = [0] * skip
        for d, t, s in zip(v.shape, step.shape[skip:], v.strides):
            if decide_eq(d, t):
                strides.append(s)
            elif decide_eq(d, 1):
                strides.append(0)
            else:
                return None  # whether it repeats is known only at run time
        return View(v.base, step.shape, tuple(strides), v.offset)
    return _reshaped(step, v)


def _reshaped(step: Expr, v: View) -> View | None:
    strides: list[DimLike] = [0] * step.rank
    for a, b in groups(v.shape, step.shape):
        merged = merge([v.shape[i] for i in a], [v.strides[i] for i in a])
        if merged is None:
            return None
        inner = merged
        for j in reversed(b):
            strides[j] = inner
            inner = inner * step.shape[j]
    return View(v.base, step.shape, tuple(strides), v.offset)


def merge(shape: Sequence[DimLike], strides: Sequence[DimLike]) -> DimLike | None:
    """The one stride with which to walk axes as one, or None where they do not lie so."""
    step: DimLike | None = None
    reach: DimLike = 1
    for d, s in zip(reversed(shape), reversed(strides)):
        if decide_eq(d, 1):
            continue
        if step is None:
            step, reach = s, s * d
        elif decide_eq(s, reach):
            reach = reach * d
        else:
            return None
    return 1 if step is None else step


def same_memory(e: Expr) -> Expr:
    """The expression whose elements in row-major order are those of `e`: reshapes taken away."""
    while e.prim == "reshape":
        e = e.args[0]
    return e
