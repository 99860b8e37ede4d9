"""Algebra on primitives: rewrites that make the same numbers with less work.

Each rule takes an expression whose operands are simplified already and returns one of the same type and meaning, or
None. `simplify` applies them from the leaves up until nothing changes; `fold_constants` computes what depends on
constants alone. Rules keep NaN, infinities and negative zero: `x * 0` stays, and so does `x + 0`, which makes 0 of -0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.symbolic import decide_eq, decide_ge, decide_le, product

from .builder import Builder
from .expr import Expr, inner, walk
from .interpret import evaluate
from .table import MAPS

Rule = Callable[[Builder, Expr], Expr | None]
_MOVES = frozenset(("reshape", "transpose", "slice"))


def rewrite(roots: Sequence[Expr], rule: Rule) -> list[Expr]:
    """The roots with `rule` applied everywhere, from the leaves up, again on what it makes."""
    new: dict[Expr, Expr] = {}
    for e in walk(roots, meanings=True):
        new[e] = _settled(rebuilt(e, new), rule, new)
    return [new[r] for r in roots]


def _settled(e: Expr, rule: Rule, new: dict[Expr, Expr]) -> Expr:
    # What a rule makes may be a new place for another rule, and so may the operands that it made.
    for _ in range(50):
        made = rule(e.builder, e)
        if made is None or made is e:
            return e
        for inner_ in walk([made], meanings=True):
            if inner_ is not made and inner_ not in new:
                new[inner_] = _settled(rebuilt(inner_, new), rule, new)
        e = rebuilt(made, new)
    return e


def rebuilt(e: Expr, new: dict[Expr, Expr]) -> Expr:
    """`e` over what `new` has for its operands and bodies."""
    args = tuple(new.get(a, a) for a in e.args)
    params = e.params
    changed = any(a is not b for a, b in zip(args, e.args))
    for key in ("meaning", "carried_out", "stacked_out", "then", "other"):
        if key in params:
            inside = tuple(new.get(x, x) for x in params[key])
            if any(a is not b for a, b in zip(inside, params[key])):
                params = {**params, key: inside}
                changed = True
    if not changed:
        return e
    made = e.builder.make(e.prim, args, params, e.dtype, e.shape, e.scopes)
    made.name = made.name or e.name
    return made


def replace(roots: Sequence[Expr], new: dict[Expr, Expr]) -> list[Expr]:
    """The roots with some expressions put in place of others; what only the others needed is not looked at."""
    done = dict(new)
    stack = [(r, False) for r in roots]
    while stack:
        e, ready = stack.pop()
        if e in done:
            continue
        if ready:
            done[e] = rebuilt(e, done)
            continue
        stack.append((e, True))
        below = [*e.args, *inner(e), *e.params.get("meaning", ())]
        stack.extend((a, False) for a in below if a not in done)
    return [done[r] for r in roots]


def simplify(roots: Sequence[Expr]) -> list[Expr]:
    """The roots with every rule of this file applied."""
    def rule(p: Builder, e: Expr) -> Expr | None:
        for r in RULES.get(e.prim, ()):
            made = r(p, e)
            if made is not None:
                assert made.dtype is e.dtype and len(made.shape) == len(e.shape), (r, e, made)
                made.name = made.name or e.name
                return made
        return None

    return rewrite(roots, rule)


def expand(roots: Sequence[Expr], keep: Callable[[Expr], bool]) -> list[Expr]:
    """The roots with the composites that `keep` does not want replaced by their meanings."""
    def rule(p: Builder, e: Expr) -> Expr | None:
        if e.prim == "item" and e.args[0].prim == "composite" and not keep(e):
            return e.args[0].params["meaning"][e.params["index"]]
        return None

    return rewrite(roots, rule)


def fold_constants(roots: Sequence[Expr], budget: int = 1 << 26, moved: Rule | None = None) -> list[Expr]:
    """The roots with what depends on constants alone computed.

    What would be larger than its operands, and larger than 4096 bytes, is computed only while the sum of such stays
    within `budget` bytes. Broadcasts stay, since they cost nothing where they are read. `moved` may say how else to
    have a constant of other order or shape (reshape, transpose, slice), whose numbers then are not copied here.
    """
    spent = 0

    def rule(p: Builder, e: Expr) -> Expr | None:
        nonlocal spent
        if not e.args or e.dtype is dtypes.UNDEFINED or e.scopes or e.prim in ("broadcast", "item"):
            return None
        if any(a.prim != "constant" and not _repeats_constant(a) for a in e.args):
            return None
        size = product(e.shape)
        if not isinstance(size, int) or e.dtype is dtypes.STRING:
            return None
        if moved is not None and e.prim in _MOVES and e.args[0].prim == "constant":
            made = moved(p, e)
            if made is not None:
                return made
        nbytes = size * max(e.dtype.numpy.itemsize, 1)
        held = sum(_bytes(a) for a in e.args)
        if nbytes > max(held, 4096):
            if spent + nbytes > budget:
                return None
            spent += nbytes
        made = p.constant(np.array(evaluate([e])[0], order="C"), e.dtype)
        made.name = made.name or e.name
        return made

    return rewrite(roots, rule)


def _repeats_constant(e: Expr) -> bool:
    return e.prim == "broadcast" and e.args[0].prim == "constant" and all(isinstance(d, int) for d in e.shape)


def _bytes(e: Expr) -> int:
    if e.prim == "broadcast":
        e = e.args[0]
    size = product(e.shape)
    return size * e.dtype.numpy.itemsize if isinstance(size, int) and e.dtype.kind != "string" else 0


# Rules by primitive

def _reshape(p: Builder, e: Expr) -> Expr | None:
    x = e.args[0]
    if x.prim == "reshape":
        return p.reshape(x.args[0], e.shape)
    if x.prim == "broadcast" and decide_eq(product(x.args[0].shape), 1):
        return p.broadcast_to(p.reshape(x.args[0], ()), e.shape)
    return None


def _transpose(p: Builder, e: Expr) -> Expr | None:
    x, perm = e.args[0], e.params["perm"]
    if x.prim == "transpose":
        return p.transpose(x.args[0], [x.params["perm"][a] for a in perm])
    # Moving axes of size 1 about moves no element.
    moving = [a for a in perm if decide_eq(x.shape[a], 1) is not True]
    if moving == sorted(moving):
        return p.reshape(x, e.shape)
    if x.prim == "broadcast" and x.args[0].rank == x.rank:
        return p.broadcast_to(p.transpose(x.args[0], perm), e.shape)
    return None


def _broadcast(p: Builder, e: Expr) -> Expr | None:
    x = e.args[0]
    if x.prim == "broadcast":
        return p.broadcast_to(x.args[0], e.shape)
    return None


def _slice(p: Builder, e: Expr) -> Expr | None:
    x = e.args[0]
    starts, steps = e.params["starts"], e.params["steps"]
    if x.prim == "slice":
        inner = x.params
        # Index i of e is starts + i*steps of x, and that is of what lies below: starts' + (...) * steps'.
        first = tuple(a0 + a * s0 for a0, a, s0 in zip(inner["starts"], starts, inner["steps"]))
        step = tuple(s * s0 for s, s0 in zip(steps, inner["steps"]))
        if all(isinstance(s, int) for s in step):
            end = tuple(a + (n - 1) * s + (1 if s > 0 else -1) for a, n, s in zip(first, e.shape, step))
            made = _sliced(p, x.args[0], first, end, step, e)
            if made is not None:
                return made
    if x.prim == "concat":
        return _slice_of_concat(p, e, x)
    if x.prim == "broadcast":
        y = x.args[0]
        if y.rank == x.rank and all(decide_eq(d, 1) or (decide_eq(a, 0) and s == 1 and decide_eq(n, t))
                                    for d, a, s, n, t in zip(y.shape, starts, steps, e.shape, x.shape)):
            return p.broadcast_to(y, e.shape)
    return None


def _sliced(p: Builder, x: Expr, starts: Any, stops: Any, steps: Any, e: Expr) -> Expr | None:
    """A slice, where it surely has the shape of `e`."""
    for a, b, s, d in zip(starts, stops, steps, x.shape):
        # Only where it is surely inside.
        if decide_ge(a, 0) is not True or (s > 0 and decide_le(b, d) is not True) or (
                s < 0 and (decide_ge(b, -1) is not True or decide_le(a, d - 1) is not True)):
            return None
    made = p.slice(x, starts, stops, steps)
    return made if all(decide_eq(a, b) for a, b in zip(made.shape, e.shape)) else None


def _slice_of_concat(p: Builder, e: Expr, x: Expr) -> Expr | None:
    """A slice that takes from one piece only, or from all of them in full but along other axes."""
    axis = x.params["axis"]
    start, stop, step = (e.params[k][axis] for k in ("starts", "stops", "steps"))
    if not isinstance(step, int) or step < 0 or decide_eq(e.shape[axis], 0) is not False:
        return None
    before: Any = 0
    for piece in x.args:
        after = before + piece.shape[axis]
        if decide_ge(start, before) and decide_le(stop, after):
            starts, stops = list(e.params["starts"]), list(e.params["stops"])
            starts[axis], stops[axis] = start - before, stop - before
            return p.slice(piece, starts, stops, e.params["steps"])
        before = after
    return None


def _concat(p: Builder, e: Expr) -> Expr | None:
    axis = e.params["axis"]
    full = [x for x in e.args if decide_eq(x.shape[axis], 0) is not True]
    if full and len(full) < len(e.args):
        return p.concat(full, axis)
    flat: list[Expr] = []
    for x in e.args:
        flat += x.args if x.prim == "concat" and x.params["axis"] == axis else (x,)
    return p.concat(flat, axis) if len(flat) > len(e.args) else None


def _reduce(p: Builder, e: Expr) -> Expr | None:
    x, axes = e.args[0], e.params["axes"]
    real = [a for a in axes if decide_eq(x.shape[a], 1) is not True]
    if len(real) == len(axes):
        return None
    if not real:
        return p.reshape(x, e.shape)
    made = p.make("reduce", (x,), {**e.params, "axes": tuple(real)}, x.dtype,
                  tuple(d for i, d in enumerate(x.shape) if i not in real))
    return p.reshape(made, e.shape)


def _cast(p: Builder, e: Expr) -> Expr | None:
    x = e.args[0]
    # There and back through a type that holds every value of the first.
    if x.prim == "cast" and x.args[0].dtype is e.dtype and _holds(x.dtype, e.dtype):
        return x.args[0]
    if x.prim == "broadcast":
        return p.broadcast_to(p.cast(x.args[0], e.dtype, e.params["saturate"]), e.shape)
    return None


def _holds(wide: dtypes.DType, narrow: dtypes.DType) -> bool:
    """Whether each value of `narrow` is one of `wide`."""
    if wide.is_float and narrow.is_float:
        return wide.bits > narrow.bits and wide.bits >= 32
    if narrow is dtypes.BOOL:
        return True
    if wide.is_integer and narrow.is_integer:
        return wide.bits >= narrow.bits if wide.kind == narrow.kind else wide.kind == "int" and wide.bits > narrow.bits
    if wide.is_float and narrow.is_integer:
        return narrow.bits < {16: 8, 32: 24, 64: 53}.get(wide.bits, 0)
    return False


def _gather(p: Builder, e: Expr) -> Expr | None:
    x, indices = e.args
    axis = e.params["axis"]
    known = p.known(indices)
    if known is None or known.size != 1:
        return None
    i = known.reshape(-1).tolist()[0]
    size = x.shape[axis]
    if decide_ge(i, 0) is not True:
        if decide_ge(i, 0) is not False:
            return None
        i = i + size
    if decide_ge(i, 0) is not True or decide_le(i + 1, size) is not True:
        return None
    return p.reshape(p.take(x, axis, i, i + 1), e.shape)


def _map(p: Builder, e: Expr) -> Expr | None:
    if len(e.args) == 2:
        a, b = e.args
        if e.prim == "mul" and (_is(b, 1) or _is(a, 1)):
            return a if _is(b, 1) else b
        if e.prim == "div" and _is(b, 1):
            return a
        if e.prim == "add" and e.dtype.is_integer and (_is(b, 0) or _is(a, 0)):
            return a if _is(b, 0) else b
        if e.prim == "sub" and _is(b, 0):
            return a
        if e.prim == "add" and e.dtype.is_float and (_is(b, -0.0) or _is(a, -0.0)):
            return a if _is(b, -0.0) else b
    if e.prim == "neg" and e.args[0].prim == "neg":
        return e.args[0].args[0]
    if e.prim == "not_" and e.args[0].prim == "not_":
        return e.args[0].args[0]
    return _lift_broadcast(p, e)


def _lift_broadcast(p: Builder, e: Expr) -> Expr | None:
    """A map of repeated operands is the map of what they repeat, repeated."""
    if not all(a.prim == "broadcast" for a in e.args):
        return None
    below = [a.args[0] for a in e.args]
    widest = max((b.shape for b in below), key=len)
    for b in below:
        if b.shape != widest and decide_eq(product(b.shape), 1) is not True:
            return None
    if decide_eq(product(widest), product(e.shape)):
        return None
    args = [b if b.shape == widest else p.broadcast_to(p.reshape(b, ()), widest) for b in below]
    made = p.make(e.prim, args, e.params, e.dtype, widest)
    return p.broadcast_to(made, e.shape)


def _is(e: Expr, number: float) -> bool:
    """Whether `e` is that number everywhere."""
    if e.prim == "broadcast":
        e = e.args[0]
    if e.prim != "constant" or decide_eq(product(e.shape), 1) is not True:
        return False
    value = e.params["value"]
    if not isinstance(value, np.ndarray):
        value = value.numpy()
    held = float(value.reshape(-1)[0])
    # 0.0 == -0.0, and they are not the same here.
    return held == number and (held != 0 or np.signbit(held) == np.signbit(number) or e.dtype.is_integer)


def _select(p: Builder, e: Expr) -> Expr | None:
    cond, a, b = e.args
    if a is b:
        return a
    if _is_bool(cond, True):
        return a
    if _is_bool(cond, False):
        return b
    return _lift_broadcast(p, e)


def _is_bool(e: Expr, value: bool) -> bool:
    if e.prim == "broadcast":
        e = e.args[0]
    if e.prim != "constant" or decide_eq(product(e.shape), 1) is not True:
        return False
    held = e.params["value"]
    return bool((held if isinstance(held, np.ndarray) else held.numpy()).reshape(-1)[0]) is value


RULES: dict[str, tuple[Rule, ...]] = {
    "reshape": (_reshape,), "transpose": (_transpose,), "broadcast": (_broadcast,), "slice": (_slice,),
    # What sizes must be was read before (see `compiler.demands`).
    "hold": (lambda p, e: e.args[0],),
    "concat": (_concat,), "reduce": (_reduce,), "cast": (_cast,), "gather": (_gather,), "select": (_select,),
    **dict.fromkeys(MAPS, (_map,)),
}
