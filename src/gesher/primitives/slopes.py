"""Slopes: for each primitive, the gradients of its operands from that of its result.

What a reader would guess wrong:

- Where a function has a corner, one of its slopes is taken: abs gives 0 at 0; of equal largest elements each gets its
  share, and of two equal operands of `max` half, but the whole stays with the other where one is not asked about (so
  relu gives 0 at 0). A window gives all to its first largest.
- Rounding, comparing, sorting and casts to integers let nothing through; what is made of them counts as constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gesher.symbolic import Dim, decide_eq, maximum, product

from .builder import Builder
from .expr import CannotLower, DimLike, Expr, Shape
from .table import identity

Grads = Sequence[Expr | None]

# Windows of more places than this are not differentiated place by place.
_MOST_PLACES = 1024


def zeros(p: Builder, like: Expr) -> Expr:
    """Zeros of the type and shape of another expression."""
    return p.full(like.shape, 0, like.dtype)


def flipped(p: Builder, x: Expr, axis: int) -> Expr:
    """x backward along an axis."""
    return p.take(x, axis, x.shape[axis] - 1, -1, -1)


# Maps: rule(p, e, g, x...) gives the gradient of the one operand, or of each

def _slope(function: Callable[[Builder, Expr, Expr], Expr]) -> Any:
    """A rule of a map of one operand from its derivative: function(p, x, result)."""
    return lambda p, e, g, asked: (g * function(p, e.args[0], e),)


def _unary_slopes() -> dict[str, Any]:
    def one_less_square(p: Builder, x: Expr) -> Expr:
        return (1.0 - x) * (1.0 + x)

    return {
        "neg": lambda p, x, y: p.full(x.shape, -1, x.dtype),
        "abs": lambda p, x, y: p.sign(x),
        "exp": lambda p, x, y: y,
        "expm1": lambda p, x, y: p.exp(x),
        "log": lambda p, x, y: p.reciprocal(x),
        "log1p": lambda p, x, y: p.reciprocal(x + 1.0),
        "sqrt": lambda p, x, y: 0.5 / y,
        "reciprocal": lambda p, x, y: -(y * y),
        "sin": lambda p, x, y: p.cos(x),
        "cos": lambda p, x, y: -p.sin(x),
        "tan": lambda p, x, y: y * y + 1.0,
        "asin": lambda p, x, y: p.reciprocal(p.sqrt(one_less_square(p, x))),
        "acos": lambda p, x, y: -p.reciprocal(p.sqrt(one_less_square(p, x))),
        "atan": lambda p, x, y: p.reciprocal(x * x + 1.0),
        "sinh": lambda p, x, y: p.cosh(x),
        "cosh": lambda p, x, y: p.sinh(x),
        "tanh": lambda p, x, y: one_less_square(p, y),
        "asinh": lambda p, x, y: p.reciprocal(p.sqrt(x * x + 1.0)),
        "acosh": lambda p, x, y: p.reciprocal(p.sqrt((x - 1.0) * (x + 1.0))),
        "atanh": lambda p, x, y: p.reciprocal(one_less_square(p, x)),
        "erf": lambda p, x, y: p.exp(-(x * x)) * (2 / math.sqrt(math.pi)),
        "sigmoid": lambda p, x, y: y * (1.0 - y),
    }


def _pow(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    a, b = e.args
    flat = p.eq(b, 0.0)
    # x ** 0 is 1 for every x, so its slope is 0, where b * x ** (b - 1) would be 0 * inf.
    by_base = p.select(flat, p.scalar(0, e.dtype), g * b * p.pow(a, p.select(flat, p.scalar(1, e.dtype), b) - 1.0))
    if not asked[1]:
        return by_base, None
    # 0 ** b stays 0 for positive b.
    still = p.and_(p.eq(a, 0.0), b >= 0.0)
    safe = p.select(still, p.scalar(1, e.dtype), a)
    return by_base, p.select(still, p.scalar(0, e.dtype), g * e * p.log(safe))


def _extreme(wins: str) -> Any:
    def rule(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
        a, b = e.args
        zero = p.scalar(0, e.dtype)
        # A tie is shared where both are asked about; else it goes to the one that nobody asks about.
        tied = p.select(p.eq(a, b), g * 0.5, zero) if all(asked) else zero
        return (p.select(p.map(wins, a, b), g, tied), p.select(p.map(wins, b, a), g, tied))

    return rule


def _select(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    zero = p.scalar(0, e.dtype)
    return None, p.select(e.args[0], g, zero), p.select(e.args[0], zero, g)


def _cast(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    return (p.cast(g, e.args[0].dtype),)


def _nothing(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    return (None,) * len(e.args)


# Rules of structure

def _broadcast(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    [x] = e.args
    lead = e.rank - x.rank
    repeated = [i + lead for i, d in enumerate(x.shape) if decide_eq(d, e.shape[i + lead]) is not True]
    for i in repeated:
        if decide_eq(x.shape[i - lead], 1) is not True:
            raise CannotLower(f"whether the axis of size {x.shape[i - lead]} is repeated, is not known")
    return (p.reshape(p.sum(g, [*range(lead), *repeated]), x.shape),)


def _reshape(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    return (p.reshape(g, e.args[0].shape),)


def _transpose(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    return (p.transpose(g, np.argsort(e.params["perm"]).tolist()),)


def _slice(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    return (_spread(p, g, e.args[0].shape, e.params["starts"], e.params["steps"]),)


def _spread(p: Builder, g: Expr, shape: Shape, starts: Sequence[DimLike], steps: Sequence[DimLike]) -> Expr:
    """Zeros of `shape` with `g` on the places that a slice takes."""
    if any(d == 0 for d in g.shape if isinstance(d, int)):
        return p.full(shape, 0, g.dtype)
    low: list[DimLike] = []
    high: list[DimLike] = []
    for axis, (start, step) in enumerate(zip(starts, steps)):
        n = g.shape[axis]
        if not isinstance(step, int):
            raise CannotLower(f"the slice step {step} is not known")
        if step < 0:
            g, start, step = flipped(p, g, axis), start + (n - 1) * step, -step
        if step > 1:
            # Behind each element the zeros up to the next.
            wide = p.expand_dims(g, [axis + 1])
            after = [0] * wide.rank
            after[axis + 1] = step - 1
            wide = p.pad(wide, [0] * wide.rank, after)
            g = p.reshape(wide, (*g.shape[:axis], n * step, *g.shape[axis + 1:]))
            g = p.take(g, axis, 0, maximum((n - 1) * step + 1, 0))
        low.append(start)
        high.append(shape[axis] - start - g.shape[axis])
    return p.pad(g, low, high)


def _pad(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    x, low = e.args[0], e.params["low"]
    own = p.slice(g, low, [a + d for a, d in zip(low, x.shape)])
    return own, p.sum(g) - p.sum(own) if asked[1] else None


def _concat(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    axis = e.params["axis"]
    return p.split(g, [a.shape[axis] for a in e.args], axis)


# Rules of indexed reading and writing

def _gather(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    x, indices = e.args
    axis, r = e.params["axis"], indices.rank
    # The axis first: then rows are added where they were read.
    rows = p.transpose(g, [*range(axis, axis + r), *range(axis), *range(axis + r, g.rank)])
    order = [axis, *(i for i in range(x.rank) if i != axis)]
    empty = p.full([x.shape[i] for i in order], 0, x.dtype)
    summed = p.scatter_nd(empty, p.expand_dims(indices, [r]), rows, "add")
    return p.transpose(summed, np.argsort(order).tolist()), None


def _gather_along(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    x, indices = e.args
    return p.scatter_along(zeros(p, x), indices, g, e.params["axis"], "add"), None


def _gather_nd(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    x, indices = e.args
    batch = e.params["batch_dims"]
    lead = (*indices.shape[:-1], 1)
    places = [p.iota(lead, i, indices.dtype) for i in range(batch)]
    return p.scatter_nd(zeros(p, x), p.concat([*places, indices], indices.rank - 1), g, "add"), None


def _scatter(read: Callable[[Builder, Expr, Expr], Expr], write: Callable[..., Expr]) -> Any:
    """The rule of scatter_along or scatter_nd: `read(p, e, x)` reads where it writes, `write(p, e, x, u, how)`."""

    def rule(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
        x, _, updates = e.args
        how, zero, one = e.params["reduction"], p.scalar(0, e.dtype), p.scalar(1, e.dtype)
        if how == "add":
            return g, None, read(p, e, g)
        if how == "none":
            # Of equal places only the last write shows: who it was, stands where its number does.
            numbers = p.reshape(p.iota((product(updates.shape),), 0), updates.shape)
            nobody = p.full(x.shape, -1, numbers.dtype)
            writer = write(p, e, nobody, numbers, "none")
            shown = p.eq(read(p, e, writer), numbers)
            return p.select(writer < 0, g, zero), None, p.select(shown, read(p, e, g), zero)
        if how in ("max", "min"):
            own, theirs = p.eq(x, e), p.eq(updates, read(p, e, e))
            equals = write(p, e, p.cast(own, e.dtype), p.cast(theirs, e.dtype), "add")
            share = g / p.max(equals, 1.0)
            return p.select(own, share, zero), None, p.select(theirs, read(p, e, share), zero)
        # A product without one of its factors: divided by it, or the product of the others where it is the only zero.
        rest = write(p, e, p.select(p.eq(x, 0.0), one, x), p.select(p.eq(updates, 0.0), one, updates), "mul")
        zeros = write(p, e, p.cast(p.eq(x, 0.0), e.dtype), p.cast(p.eq(updates, 0.0), e.dtype), "add")

        def without(factor: Expr, rest: Expr, zeros: Expr) -> Expr:
            alone = p.select(p.eq(factor, 0.0), p.eq(zeros, 1.0), p.eq(zeros, 0.0))
            return p.select(alone, rest / p.select(p.eq(factor, 0.0), one, factor), zero)

        return g * without(x, rest, zeros), None, read(p, e, g) * without(updates, read(p, e, rest), read(p, e, zeros))

    return rule


_scatter_along = _scatter(lambda p, e, x: p.gather_along(x, e.args[1], e.params["axis"]),
                          lambda p, e, x, u, how: p.scatter_along(x, e.args[1], u, e.params["axis"], how))
_scatter_nd = _scatter(lambda p, e, x: p.gather_nd(x, e.args[1]),
                       lambda p, e, x, u, how: p.scatter_nd(x, e.args[1], u, how))


# Rules of reductions

def _reduce(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    [x], op, axes = e.args, e.params["op"], e.params["axes"]
    wide = p.broadcast_to(p.expand_dims(g, axes), x.shape)
    if op == "sum":
        return (wide,)
    if op in ("max", "min"):
        hit = p.eq(x, p.expand_dims(e, axes))
        share = wide / p.max(p.sum(p.cast(hit, x.dtype), axes, keepdims=True), 1.0)
        return (p.select(hit, share, p.scalar(0, x.dtype)),)
    # The product of all others: of those before times of those behind, along all axes at once.
    order = [*(i for i in range(x.rank) if i not in axes), *axes]
    kept = e.rank
    lined = p.transpose(x, order)
    flat = p.reshape(lined, (*lined.shape[:kept], product(lined.shape[kept:])))
    others = p.cumulate(flat, kept, "prod", exclusive=True) * p.cumulate(flat, kept, "prod", exclusive=True,
                                                                         reverse=True)
    return (wide * p.transpose(p.reshape(others, lined.shape), np.argsort(order).tolist()),)


def _cumulate(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    [x], op, axis, exclusive, backward = e.args, *(e.params[k] for k in ("op", "axis", "exclusive", "reverse"))
    if op == "sum":
        return (p.cumulate(g, axis, "sum", exclusive, not backward),)
    # Pairs of places (j, i) in two last axes: how result i hangs on x j.
    last = x.rank - 1
    order = [*(i for i in range(x.rank) if i != axis), axis]
    lined, given, made = (p.transpose(v, order) for v in (x, g, e))
    n = x.shape[axis]
    j, i = p.iota((n, n), 0), p.iota((n, n), 1)
    earlier = (j > i if exclusive else j >= i) if backward else (j < i if exclusive else j <= i)
    rows, columns = p.expand_dims(lined, [last + 1]), p.expand_dims(lined, [last])
    if op == "prod":
        others = p.select(p.eq(j, i), p.scalar(1, x.dtype), columns)
        hangs = p.cumulate(others, last + 1, "prod", exclusive, backward)
    else:
        equal = p.and_(earlier, p.eq(rows, p.expand_dims(made, [last])))
        hit = p.cast(equal, x.dtype)
        hangs = hit / p.max(p.sum(hit, [last], keepdims=True), 1.0)
    weight = p.select(earlier, hangs, p.scalar(0, x.dtype))
    summed = p.sum(weight * p.expand_dims(given, [last]), [last + 1])
    return (p.transpose(summed, np.argsort(order).tolist()),)


# Rules of products and windows

def _contract(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    (a, b), q = e.args, e.params
    n = len(q["a_batch"])
    a_rest = [i for i in range(a.rank) if i not in q["a_axes"] and i not in q["a_batch"]]
    b_rest = [i for i in range(b.rank) if i not in q["b_axes"] and i not in q["b_batch"]]
    rows, columns = range(n, n + len(a_rest)), range(n + len(a_rest), e.rank)

    def of(axes: Any, batch: Any, rest: Any, summed: Any, other: Expr, other_axes: Any, other_batch: Any,
           other_rest: Any) -> Expr:
        made = p.contract(g, other, list(summed), other_rest, range(n), other_batch)
        # Its axes: the batch, what is left of mine, and the axes of the other that were summed over, ascending there.
        paired = [axes[other_axes.index(i)] for i in sorted(other_axes)]
        return p.transpose(made, np.argsort([*batch, *rest, *paired]).tolist())

    return (of(q["a_axes"], q["a_batch"], a_rest, columns, b, q["b_axes"], q["b_batch"], b_rest) if asked[0] else None,
            of(q["b_axes"], q["b_batch"], b_rest, rows, a, q["a_axes"], q["a_batch"], a_rest) if asked[1] else None)


def _is_empty(shape: Shape) -> bool:
    return any(isinstance(d, int) and d == 0 for d in shape)


def _whole(d: DimLike, what: str) -> int:
    if isinstance(d, Dim):
        raise CannotLower(f"{what} is {d}, which is no number before the run")
    return d


def _leftover(x: Sequence[DimLike], out: Sequence[DimLike], size: Sequence[DimLike], q: Mapping[str, Any]) -> list[int]:
    """How much of each axis of x lies behind the last window."""
    return [_whole(d + lo + hi - ((o - 1) * s + (k - 1) * dil + 1), "what a window leaves over")
            for d, o, k, s, (lo, hi), dil in zip(x, out, size, q["strides"], q["pads"], q["dilations"])]


def _by_weight(p: Builder, x: Expr, g: Expr, w: Expr, q: Mapping[str, Any]) -> Expr:
    """The gradient of a correlation of x (N,C,*) that gave g (N,M,*), by its weight (M,C/groups,*)."""
    groups, space = q["groups"], list(range(2, x.rank))
    n, c, m = x.shape[0], w.shape[1], g.shape[1]
    # Channels and samples change places: then it is a correlation again, summed over samples.
    left = p.reshape(x, (n, groups, c, *x.shape[2:]))
    left = p.reshape(p.transpose(left, [2, 1, 0, *(i + 1 for i in space)]), (c, n * groups, *x.shape[2:]))
    right = p.transpose(g, [1, 0, *space])
    made = p.convolve(left, right, q["dilations"], q["pads"], q["strides"], groups)
    cut = p.slice(made, [0] * x.rank, (c, m, *w.shape[2:]))
    return p.transpose(cut, [1, 0, *space])


def _convolve(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    (x, w), q = e.args, e.params
    if _is_empty(e.shape):
        return zeros(p, x), zeros(p, w)
    by_x = None
    if asked[0]:
        extra = _leftover(x.shape[2:], e.shape[2:], w.shape[2:], q)
        by_x = p.convolve_transposed(g, w, q["strides"], q["pads"], q["dilations"], q["groups"], extra)
    return by_x, _by_weight(p, x, g, w, q) if asked[1] else None


def _convolve_transposed(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    (x, w), q = e.args, e.params
    if _is_empty(e.shape) or _is_empty(x.shape):
        return zeros(p, x), zeros(p, w)
    by_x = None
    if asked[0]:
        made = p.convolve(g, w, q["strides"], q["pads"], q["dilations"], q["groups"])
        by_x = p.slice(made, [0] * x.rank, x.shape)
    return by_x, _by_weight(p, g, x, w, q) if asked[1] else None


def _window(p: Builder, e: Expr, g: Expr, asked: Sequence[bool]) -> Grads:
    [x], q = e.args, e.params
    size, n = q["size"], len(q["size"])
    if _is_empty(e.shape):
        return (zeros(p, x),)
    lead, space, out = x.shape[:x.rank - n], x.shape[x.rank - n:], e.shape[x.rank - n:]
    if q["op"] == "sum":
        ones = p.full((1, 1, *size), 1, x.dtype)
        flat = p.reshape(g, (product(lead), 1, *out))
        extra = _leftover(space, out, size, q)
        spread = p.convolve_transposed(flat, ones, q["strides"], q["pads"], q["dilations"], 1, extra)
        return (p.reshape(spread, x.shape),)
    if math.prod(size) > _MOST_PLACES:
        raise CannotLower(f"a window of {math.prod(size)} places has no gradient")
    low, high = ([0] * len(lead) + [pad[side] for pad in q["pads"]] for side in (0, 1))
    padded = p.pad(x, low, high, identity(q["op"], x.dtype))
    steps = (1,) * len(lead) + tuple(q["strides"])
    zero, total, taken = p.scalar(0, x.dtype), None, None
    for place in np.ndindex(*size):
        starts = (*(0,) * len(lead), *(i * d for i, d in zip(place, q["dilations"])))
        stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, e.shape, steps)]
        hit = p.eq(p.slice(padded, starts, stops, steps), e)
        if taken is not None:
            hit, taken = p.and_(hit, p.not_(taken)), p.or_(taken, hit)
        else:
            taken = hit
        part = _spread(p, p.select(hit, g, zero), padded.shape, starts, steps)
        total = part if total is None else total + part
    assert total is not None
    return (p.slice(total, low, [a + d for a, d in zip(low, x.shape)]),)


Rule = Callable[[Builder, Expr, Expr, Sequence[bool]], Grads]

RULES: dict[str, Rule] = {
    **{name: _slope(f) for name, f in _unary_slopes().items()},
    "add": lambda p, e, g, asked: (g, g),
    "sub": lambda p, e, g, asked: (g, -g),
    "mul": lambda p, e, g, asked: (g * e.args[1], g * e.args[0]),
    "div": lambda p, e, g, asked: (g / e.args[1], -(g * e / e.args[1])),
    "mod": lambda p, e, g, asked: (g, -(g * p.floor(e.args[0] / e.args[1]))),
    "fmod": lambda p, e, g, asked: (g, -(g * p.trunc(e.args[0] / e.args[1]))),
    "atan2": lambda p, e, g, asked: tuple(
        g * v / (e.args[0] * e.args[0] + e.args[1] * e.args[1]) for v in (e.args[1], -e.args[0])),
    "pow": _pow, "max": _extreme("gt"), "min": _extreme("lt"), "select": _select, "cast": _cast,
    **dict.fromkeys(("sign", "floor", "ceil", "round", "trunc"), _nothing),
    "broadcast": _broadcast, "reshape": _reshape, "transpose": _transpose, "slice": _slice, "pad": _pad,
    "hold": lambda p, e, g, asked: (g,),
    "concat": _concat, "gather": _gather, "gather_along": _gather_along, "gather_nd": _gather_nd,
    "scatter_along": _scatter_along, "scatter_nd": _scatter_nd, "reduce": _reduce, "cumulate": _cumulate,
    "contract": _contract, "convolve": _convolve, "convolve_transposed": _convolve_transposed, "window": _window,
}
"""Per primitive: rule(p, e, g, asked) gives the gradients of e's operands from that of its result; `asked` tells which
of them anybody wants. Loops, branches and parts of bundles are the business of `_Flow`; what else is missing here gives
integers or bools, or (`bitcast`) has no slope."""
