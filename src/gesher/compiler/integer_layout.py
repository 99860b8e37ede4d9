"""Channels last for networks of integer convolutions, decided over the whole graph.

The dot instructions take four bytes of neighbouring channels at once, and rows of a product are pixels with their
channels. So each integer convolution of constant weights becomes one over (N,*,C) between two transposes, and the
transposes wander: the one behind it down through everything elementwise, joined, pooled or summed, until it meets the
one before the next convolution. What is left of them stands at the borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gesher.base.dtypes import INT8, UINT8
from gesher.ops.quantized import convolve_meaning
from gesher.primitives import MAPS, Builder, Expr, walk
from gesher.primitives.simplify import fold_constants, rewrite, simplify
from gesher.symbolic import decide_eq

_ELEMENTWISE = frozenset(("select", "cast", "bitcast", "is_inf", *MAPS))


def last(rank: int) -> tuple[int, ...]:
    """The permutation of (N,C,*) to (N,*,C)."""
    return (0, *range(2, rank), 1)


def first(rank: int) -> tuple[int, ...]:
    """The permutation of (N,*,C) to (N,C,*)."""
    return (0, rank - 1, *range(1, rank - 1))


def channels_last(roots: Sequence[Expr]) -> list[Expr]:
    """The roots with integer convolutions over channels that lie last; others as they are."""
    if not any(e.prim == "composite" and e.params["name"] == "integer_conv" for e in walk(roots)):
        return list(roots)
    return rewrite(fold_constants(simplify(roots)), _rule)


def _rule(p: Builder, e: Expr) -> Expr | None:
    if e.prim == "item":
        return _conv(p, e)
    if e.prim in _ELEMENTWISE:
        return _elementwise(p, e)
    rule = _RULES.get(e.prim)
    return rule(p, e) if rule is not None and _behind(e.args[0]) is not None else None


def _conv(p: Builder, e: Expr) -> Expr | None:
    bundle = e.args[0]
    if bundle.prim != "composite" or bundle.params["name"] != "integer_conv":
        return None
    found: list[Expr | None] = [None] * 4
    for i, a in zip(bundle.params["given"], bundle.args):
        found[i] = a
    x, x_zero, w, w_zero = found
    assert x is not None and w is not None
    if w.prim != "constant" or x.rank not in (3, 4) or (w_zero is not None and w_zero.prim != "constant"):
        return None
    laid = _laid(p, x)
    x = p.transpose(x, last(x.rank)) if laid is None else laid
    y = p.composite("integer_conv_last", _conv_meaning, x, x_zero, w, w_zero, **dict(bundle.params["of"]))
    y.name = e.name
    return p.transpose(y, first(e.rank))


def _conv_meaning(p: Builder, x: Expr, x_zero: Expr | None, w: Expr, w_zero: Expr | None, **of: Any) -> Expr:
    return p.transpose(convolve_meaning(p, p.transpose(x, first(x.rank)), x_zero, w, w_zero, **of), last(x.rank))


def _behind(e: Expr) -> Expr | None:
    """What has channels last of which `e` is the transpose with channels first."""
    if e.prim == "transpose" and e.rank >= 3 and e.params["perm"] == first(e.rank):
        return e.args[0]
    return None


def _laid(p: Builder, e: Expr) -> Expr | None:
    """`e` with channels last, where that moves nothing."""
    found = _behind(e)
    if found is not None:
        return found
    order = last(e.rank)
    if e.prim == "broadcast":
        x = e.args[0]
        x = p.reshape(x, (*(1,) * (e.rank - x.rank), *x.shape))
        small = _laid(p, x)
        return None if small is None else p.broadcast_to(small, tuple(e.shape[a] for a in order))
    if e.prim == "reshape" and e.args[0].rank >= 3:
        # A scalar's or list's, mostly; of a transpose it may be what moving axes of 1 became.
        inner = _behind(e.args[0])
        if inner is not None and e.args[0].rank == e.rank and _stays(e.args[0].shape, order):
            return p.reshape(inner, tuple(e.shape[a] for a in order))
    if _stays(e.shape, order):
        return p.reshape(e, tuple(e.shape[a] for a in order))
    return p.transpose(e, order) if e.prim == "constant" else None


def _stays(shape: Sequence[Any], order: Sequence[int]) -> bool:
    """Whether axes of other sizes than 1 keep their order."""
    moving = [a for a in order if decide_eq(shape[a], 1) is not True]
    return moving == sorted(moving)


def _elementwise(p: Builder, e: Expr) -> Expr | None:
    if not any(_behind(a) is not None for a in e.args):
        return None
    args = []
    for a in e.args:
        laid = _laid(p, a)
        if laid is None:
            return None
        args.append(laid)
    made = p.make(e.prim, args, e.params, e.dtype, tuple(e.shape[a] for a in last(e.rank)))
    made.name = e.name
    return p.transpose(made, first(e.rank))


def _concat(p: Builder, e: Expr) -> Expr | None:
    args = [_behind(a) for a in e.args]
    if any(a is None for a in args):
        return None
    axis = last(e.rank).index(e.params["axis"])
    return p.transpose(p.concat([a for a in args if a is not None], axis), first(e.rank))


def _window(p: Builder, e: Expr) -> Expr | None:
    x, of = _behind(e.args[0]), e.params
    assert x is not None
    if of["op"] != "max" or x.dtype not in (INT8, UINT8) or len(of["size"]) != e.rank - 2 or e.rank > 4 \
            or not all(isinstance(n, int) for pads in of["pads"] for n in pads):
        return None
    y = p.composite("integer_window_last", _window_meaning, x, size=of["size"], strides=of["strides"], pads=of["pads"],
                    dilations=of["dilations"])
    return p.transpose(y, first(e.rank))


def _window_meaning(p: Builder, x: Expr, *, size: Any, strides: Any, pads: Any, dilations: Any) -> Expr:
    # Channels before everything: (N,C,*) would be taken for what this stands for.
    y = p.window(p.transpose(x, (x.rank - 1, *range(x.rank - 1))), "max", size, strides, pads, dilations)
    return p.transpose(y, (*range(1, x.rank), 0))


def _reduce(p: Builder, e: Expr) -> Expr | None:
    x, axes, rank = _behind(e.args[0]), e.params["axes"], e.args[0].rank
    assert x is not None
    # Axes of 1 are summed or not, it makes no difference to the order of what is left.
    ones = {a for a in range(rank) if decide_eq(e.args[0].shape[a], 1)}
    if set(axes) | ones not in (set(range(2, rank)) | ones, set(range(rank))):
        return None
    order = last(rank)
    moved = tuple(sorted(order.index(a) for a in axes))
    return p.make("reduce", (x,), {**e.params, "axes": moved}, e.dtype, e.shape)


def _slice(p: Builder, e: Expr) -> Expr | None:
    x, order = _behind(e.args[0]), last(e.rank)
    assert x is not None
    rows = {k: tuple(e.params[k][a] for a in order) for k in ("starts", "stops", "steps")}
    made = p.make("slice", (x,), {**e.params, **rows}, e.dtype, tuple(e.shape[a] for a in order))
    return p.transpose(made, first(e.rank))


def _pad(p: Builder, e: Expr) -> Expr | None:
    x, order = _behind(e.args[0]), last(e.rank)
    assert x is not None
    rows = {k: tuple(e.params[k][a] for a in order) for k in ("low", "high")}
    made = p.make("pad", (x, e.args[1]), {**e.params, **rows}, e.dtype, tuple(e.shape[a] for a in order))
    return p.transpose(made, first(e.rank))


def _transpose(p: Builder, e: Expr) -> Expr | None:
    x = _behind(e.args[0])
    return x if x is not None and e.params["perm"] == last(e.rank) else None


def _reshape(p: Builder, e: Expr) -> Expr | None:
    """A picture of one pixel, flattened: its channels lie in order either way."""
    x, shape = _behind(e.args[0]), e.args[0].shape
    assert x is not None
    return p.reshape(x, e.shape) if _stays(shape, last(len(shape))) else None


_RULES = {"concat": _concat, "window": _window, "reduce": _reduce, "slice": _slice, "pad": _pad,
          "transpose": _transpose, "reshape": _reshape}
