"""Which expressions get memory of their own, and which are computed on the way.

Everything elementwise is computed where it is needed, unless it would be computed often: it has several readers, it is
repeated by a broadcast or a gather, or a kernel wants it in memory. A kernel's result that only feeds elementwise steps
of its own shape is not kept itself: the last of those steps is, and the steps run on each finished tile of the kernel.

The costs are counted in additions per element. What costs no more than `CHEAP` is rather computed again than kept:
reading it back from memory would cost as much.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from gesher.primitives import MAPS, Expr
from gesher.symbolic import DimLike, decide_eq, decide_lt, product

from .kernel import Kernel
from .matching import match
from .moves import Transpose

CHEAP = 3
# A transposition with fewer elements on its innermost axes, or fewer bytes in all, is read in large steps at no great
# cost: few lines of the cache are in turn.
_FEW_LINES = 16
_FEW_BYTES = 32768
# What an element costs at least, in additions, and is computed where it lies side by side with this many others.
_DEAR = 16
_RUN = 256
_FEW = 256
LARGEST = 40  # primitives in one nest: more are cut, for the compiler's sake and the reader's

_ELEMENTWISE = frozenset(("select", "cast", "bitcast", "is_inf", *MAPS))
_MOVES = frozenset(("broadcast", "reshape", "transpose", "slice"))
# Computed by nests of their own, never on the way.
_ALONE = frozenset(("concat", "scatter_along", "scatter_nd", "cumulate", "sort_order", "contract", "convolve",
                    "convolve_transposed", "window", "argreduce", "item", "loop", "branch"))
_FREE = frozenset(("size", "iota"))
# What may read little of its operand, or reads it in an order of its own.
_PARTLY = frozenset(("slice", "gather", "gather_along", "gather_nd", "reduce"))


@dataclass(slots=True)
class Fusion:
    """The decisions for one block of expressions.

    Attributes:
        order: what is computed, operands first.
        kept: those of them that get a buffer, in order.
        kernels: the kernel for each kept expression that has one.
        epilogues: for a kernel's expression that is not kept, the kept one that its tiles are turned into.
        given: values known from sizes alone.
    """

    order: list[Expr]
    kept: list[Expr] = field(default_factory=list)
    kernels: dict[Expr, Kernel] = field(default_factory=dict)
    epilogues: dict[Expr, Expr] = field(default_factory=dict)
    given: set[Expr] = field(default_factory=set)


def is_scalar_constant(e: Expr) -> bool:
    return e.prim == "constant" and decide_eq(product(e.shape), 1) is True


def needs(e: Expr, given: Container[Expr] = ()) -> tuple[Expr, ...]:
    """What must be known before `e`: its operands, and for a bundle's part those of the bundle."""
    if e in given:
        return ()
    if e.prim == "item":
        return e.args[0].args
    return e.args


def order_of(roots: Sequence[Expr], leaves: Iterable[Expr], given: set[Expr],
             kernels: dict[Expr, Kernel] | None = None) -> list[Expr]:
    """Every expression to be computed for `roots`, operands first; `leaves` are there already.

    With `kernels`, those found on the way are put there, and what they read counts instead of the operands: a kernel
    may look through a reshape, or ask for a copy in another order.
    """
    seen = set(leaves)
    order: list[Expr] = []
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        e, ready = stack.pop()
        if ready:
            order.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            below: Sequence[Expr] = needs(e, given)
            kernel = match(e) if kernels is not None and e not in given else None
            if kernels is not None and kernel is not None:
                kernels[e] = kernel
                below = kernel.operands
            stack.extend((a, False) for a in reversed(below) if a not in seen)
    return order


def fuse(roots: Sequence[Expr], leaves: set[Expr], given: set[Expr], extra: Sequence[Expr] = ()) -> Fusion:
    """Decide for the expressions that `roots` need.

    Args:
        roots: what must lie in memory at the end.
        leaves: what lies in memory already.
        given: integer expressions whose values are known from sizes.
        extra: what bodies of loops read from here.
    """
    kernels: dict[Expr, Kernel] = {}
    order = order_of([*roots, *extra], leaves, given, kernels)
    forced: set[Expr] = {*roots, *extra}
    for e in order:
        if e in kernels:
            forced.update(kernels[e].operands)
        elif e.prim == "item":
            # Loops and branches read and write whole tensors.
            forced.update(e.args[0].args)
    users = _users(order, kernels, given)
    for e in order:
        if e not in kernels and e not in given and (moved := _far(e, users.get(e, ()))) is not None:
            forced.update((e, *moved.operands))
    costs = _costs(order, leaves, given)
    fusion = Fusion(order, given=given, kernels=kernels)
    kept: set[Expr] = set()
    nest_of: dict[Expr, Expr] = {}
    sizes: dict[Expr, int] = {}
    for e in reversed(order):
        if (e.prim in _FREE or is_scalar_constant(e)) and e not in forced:
            continue
        readers = users.get(e, [])
        nests = {r if r in kept else nest_of.get(r) for r in readers}
        if e in forced or e in kernels or e.prim in _ALONE or len(nests) != 1 or None in nests \
                or (e in given and decide_eq(product(e.shape), 1) is not True) \
                or _repeated(e, readers, users, kept, costs) or _in_pieces(e, users, costs):
            kept.add(e)
            sizes[e] = 1
            continue
        nest = next(iter(nests))
        assert nest is not None
        if sizes[nest] >= LARGEST or (len(readers) > 1 and costs[e] > CHEAP and not _aligned(e, readers, kept, nest)):
            kept.add(e)
            sizes[e] = 1
            continue
        nest_of[e] = nest
        sizes[nest] += 1
    # Cheap steps with several nests among their readers are computed again in each.
    for e in reversed(order):
        if e in kept and e not in forced and e not in kernels and e.prim not in _ALONE and e not in given \
                and e.prim in (_ELEMENTWISE | _MOVES) and costs[e] <= CHEAP and users.get(e) \
                and not _repeated(e, users[e], users, kept, costs) and not _in_pieces(e, users, costs):
            kept.discard(e)
    _find_epilogues(fusion, kept, users, forced)
    fusion.kept = [e for e in order if e in kept and e not in fusion.epilogues]
    return fusion


def _users(order: Sequence[Expr], kernels: dict[Expr, Kernel], given: set[Expr]) -> dict[Expr, list[Expr]]:
    users: dict[Expr, list[Expr]] = {}
    for e in order:
        read = kernels[e].operands if e in kernels else needs(e, given)
        for a in dict.fromkeys(read):
            users.setdefault(a, []).append(e)
    return users


def _costs(order: Sequence[Expr], leaves: set[Expr], given: set[Expr]) -> dict[Expr, int]:
    """What an element costs when everything down to memory is computed on the way."""
    costs: dict[Expr, int] = {}
    for e in order:
        if e in given or e.prim in _FREE or e.prim == "constant":
            costs[e] = 0
            continue
        below = sum(costs.get(a, 1) for a in dict.fromkeys(needs(e, given)))
        if e.prim in MAPS:
            own = MAPS[e.prim].cost
        elif e.prim in _MOVES:
            own = 0
        elif e.prim == "reduce":
            own = 1000
        elif e.prim in _ALONE:
            own, below = 1, 0
        elif e.prim in ("gather", "gather_along", "gather_nd", "pad"):
            own = 4
        else:
            own = 1
        costs[e] = min(own + below, 1 << 30)
    return costs


def _repeated(e: Expr, readers: Sequence[Expr], users: dict[Expr, list[Expr]], kept: set[Expr],
              costs: dict[Expr, int]) -> bool:
    """Whether some reader asks for the elements of `e` more often than there are."""
    if costs[e] <= 1:
        return False
    for r in readers:
        if r.prim == "broadcast" and _expands(r) and not _hoists(r, users, kept):
            return True
        if r.prim in ("gather", "gather_nd", "gather_along") and r.args[0] is e and costs[e] > CHEAP:
            return True
        if r.prim == "gather_nd" and r.args[1] is e and costs[e] > CHEAP:
            return True
        if r.prim in ("contract", "convolve", "convolve_transposed", "window"):
            return True
        if r.prim in ("cumulate", "argreduce", "scatter_nd", "concat", "pad") and costs[e] >= 1000:
            return True
    # A reduction under a step that moves indices would loop inside loops that walk another way.
    return e.prim == "reduce" and any(r.prim not in _ELEMENTWISE and r.prim not in ("reshape", "broadcast", "reduce")
                                      for r in readers)


def _in_pieces(e: Expr, users: dict[Expr, list[Expr]], costs: dict[Expr, int]) -> bool:
    """Whether elements that cost much would be computed in runs too short for whole vectors: before a step that moves
    them, or behind it."""
    if decide_lt(product(e.shape), _FEW):    # a step of their own costs more
        return False
    if e.prim in ("transpose", "slice", "pad", "gather", "gather_along"):
        return _short_run(e, e.args[0]) and _is_dear(e, users)
    if e.prim not in _ELEMENTWISE or costs[e] < _DEAR:
        return False
    pending = [(e, r) for r in users.get(e, ())]
    while pending:
        x, r = pending.pop()
        if r.prim == "reshape":
            pending += [(r, then) for then in users.get(r, ())]
        elif r.prim in ("transpose", "concat", "pad") and _short_run(r, x):
            return True
    return False


def _short_run(r: Expr, x: Expr) -> bool:
    """Whether `r` takes elements of `x` from side by side only a few at a time."""
    run: DimLike
    if r.prim == "transpose":
        run = 1 if r.params["perm"][-1] != r.rank - 1 else x.shape[-1]
    elif r.prim == "concat":
        run = product(x.shape[r.params["axis"]:])
    elif r.prim in ("gather", "gather_along"):
        run = r.shape[-1]
    else:
        cut = max((i for i, (d, t) in enumerate(zip(x.shape, r.shape)) if decide_eq(d, t) is not True), default=0)
        run = product(r.shape[cut:] if r.prim == "slice" else x.shape[cut:])
    return bool(decide_lt(run, _RUN))


def _is_dear(e: Expr, users: dict[Expr, list[Expr]]) -> bool:
    """Whether elements of `e` are soon put through a function that costs much."""
    for _ in range(8):
        readers = users.get(e, [])
        if len(readers) != 1 or readers[0].prim not in _ELEMENTWISE | {"reshape"}:
            return False
        e = readers[0]
        if e.prim in MAPS and MAPS[e.prim].cost >= _DEAR:
            return True
    return False


def _far(e: Expr, readers: Sequence[Expr]) -> Transpose | None:
    """How to make `e`, where it is a transposition that a nest would read in large steps: in blocks, from memory."""
    moved = Transpose.of(e)
    if moved is None or any(r.prim in _PARTLY for r in readers):
        return None
    few = any(decide_lt(x.shape[-1], _FEW_LINES) for x in (e, e.args[0]))
    return None if few or decide_lt(product(e.shape), _FEW_BYTES // e.dtype.numpy.itemsize) else moved


def _expands(b: Expr) -> bool:
    """Whether a broadcast repeats anything, beyond putting axes of size 1."""
    x = b.args[0]
    skip = b.rank - x.rank
    return any(decide_eq(d, 1) is not True for d in b.shape[:skip]) or any(
        decide_eq(d, t) is not True for d, t in zip(x.shape, b.shape[skip:]))


def _hoists(b: Expr, users: dict[Expr, list[Expr]], kept: set[Expr]) -> bool:
    """Whether what a broadcast repeats is the same for whole rows of the nest that reads it, so that it is computed
    once a row: it must repeat along the last axes only, and the nest must walk in its order."""
    x = b.args[0]
    skip = b.rank - x.rank
    shape = (*([1] * skip), *x.shape)
    varying = [i for i, d in enumerate(shape) if decide_eq(d, 1) is not True]
    repeated = [i for i, (d, t) in enumerate(zip(shape, b.shape))
                if decide_eq(d, 1) is not False and decide_eq(t, 1) is not True and decide_eq(d, t) is not True]
    if varying and repeated and max(varying) > min(repeated):
        return False
    e = b
    while e not in kept:
        readers = users.get(e, [])
        if len(readers) != 1 or (readers[0].prim not in _ELEMENTWISE and readers[0].prim != "reduce"):
            return False
        e = readers[0]
        if e.prim == "reduce":
            axes = e.params["axes"]
            return axes == tuple(range(b.rank - len(axes), b.rank)) and (
                not repeated or min(repeated) >= b.rank - len(axes))
    return e.prim in _ELEMENTWISE or e.prim == "reduce"


def _aligned(e: Expr, readers: Sequence[Expr], kept: set[Expr], nest: Expr) -> bool:
    """Whether all readers, of one nest, ask for the same element in the same turn, so that it is computed once."""
    return all(r.prim in _ELEMENTWISE and r.shape == e.shape for r in readers) and not any(
        a.prim == "reduce" and a is not nest for a in readers)


def _find_epilogues(fusion: Fusion, kept: set[Expr], users: dict[Expr, list[Expr]], forced: set[Expr]) -> None:
    """Let kernels' results flow into the elementwise steps that follow, where nothing else reads them."""
    taken: set[Expr] = set()
    for e, kernel in fusion.kernels.items():
        if not kernel.tiles or e in forced or e not in kept:
            continue
        end = _sole_end(e, users, kept, fusion.kernels)
        if kernel.apart and (end is None or end in taken):
            # What follows two kernels can be done by one of them; the other hands over bytes instead of sums.
            end = _narrowed(e, users, fusion.kernels)
            if end is not None:
                kept.add(end)
        if end is None or end in taken or (end.dtype is not e.dtype and not kernel.apart):
            continue
        fusion.epilogues[e] = end
        taken.add(end)


def _narrowed(e: Expr, users: dict[Expr, list[Expr]], kernels: dict[Expr, Kernel]) -> Expr | None:
    """Where the elementwise steps that follow `e`, one reader each, first make bytes."""
    shape = e.shape
    while len(readers := users.get(e, [])) == 1:
        e = readers[0]
        if e.prim not in _ELEMENTWISE or e.shape != shape or e in kernels:
            return None
        if e.dtype.bits == 8:
            return e
    return None


def _sole_end(e: Expr, users: dict[Expr, list[Expr]], kept: set[Expr], kernels: dict[Expr, Kernel]) -> Expr | None:
    """The one kept expression into which all elementwise readers of `e`, of its shape, flow."""
    end: Expr | None = None
    pending, seen = [e], {e}
    while pending:
        for r in users.get(pending.pop(), ()):
            if r in seen:
                continue
            seen.add(r)
            if r.prim not in _ELEMENTWISE or r.shape != e.shape or r in kernels:
                return None
            if r in kept:
                if end is not None and end is not r:
                    return None
                end = r
            else:
                pending.append(r)
    return end
