"""Blocked channels: the parts of a graph around its convolutions, computed with channels in vectors.

A picture x (N,C,*places) is kept as (N, C/b rounded up, *places, b), b being the lanes of a vector: channel c lies in
block c // b at lane c % b. Convolutions, pools and everything elementwise between them work on whole vectors there,
with no copies and no edges; the layout changes only where the graph does something else with the picture.

It is all said in primitives. A blocked convolution is a composite whose meaning is: back to the plain layout, convolve,
and to blocks again; maps, slices, pads and the like are the same primitives on one axis more. What a reader would guess
wrong: lanes beyond C hold anything. The meaning says 0 there and kernels may leave what they like, because every way
back to the plain layout cuts them off; nothing here may therefore sum over channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gesher.base.dtypes import FLOAT
from gesher.ops.places import mixed
from gesher.primitives import MAPS, Builder, Expr
from gesher.primitives.expr import walk
from gesher.primitives.simplify import rebuilt
from gesher.symbolic import DimLike, decide_eq, decide_le, product

from . import lone, target, transposed
from .kernel import composite_of
from .kernels.blocked_choice import LARGEST, Picture, largest_tiles
from .kernels.blocked_packing import NARROW

_ELEMENTWISE = frozenset(("select", "cast", "bitcast", "is_inf", *MAPS))
# Multiplications for each element that changes its layout, from which on rounding them pays for that.
_ALONE_ROUNDED = 64
# What a picture's height or width is taken to be where it is not known.
USUAL = 56


def blocked_layout(roots: Sequence[Expr]) -> list[Expr]:
    """The roots with convolutions and what lies between them in blocked channels, where that pays."""
    order = list(walk(roots))
    convolutions = [e for e in order if eligible(e)]
    if not convolutions:
        return list(roots)
    worthy = _worthy(order, set(convolutions))
    if not worthy:
        return list(roots)
    return _Layout(target.current().width, worthy, _largest_tiles([e for e in order if e in worthy])).run(roots)


def _largest_tiles(convolutions: Sequence[Expr]) -> dict[Expr, int]:
    """The largest of Winograd's tiles that each convolution of 3 x 3 may have."""
    pictures: dict[Expr, Picture] = {}
    others = 0
    for e in convolutions:
        out, channels, *kernel = (int(d) for d in e.args[1].shape if isinstance(d, int))
        if e.prim == "convolve" and kernel == [3, 3] and e.params["groups"] == 1:
            places = [d if isinstance(d, int) else USUAL for d in e.shape[2:]]
            pictures[e] = Picture(out, channels, kernel, e.params["strides"], e.params["dilations"], places)
        else:
            others += 4 * out * channels * math.prod(kernel)
    return dict(zip(pictures, largest_tiles(list(pictures.values()), others, target.threads(),
                                            target.current().width, together())))


def together() -> int:
    """The products that the direct way adds up in one instruction."""
    return 2 if target.bf16() and target.multiplies_bf16() else 1


def eligible(e: Expr) -> bool:
    """Whether there is a blocked kernel for this convolution."""
    if e.prim not in ("convolve", "convolve_transposed") or e.dtype is not FLOAT or e.rank not in (3, 4) or e.scopes:
        return False
    x, w = e.args
    if w.prim != "constant" or not isinstance(x.shape[1], int) or not all(isinstance(d, int) for d in w.shape):
        return False
    b, groups = target.current().width, e.params["groups"]
    channels, out = x.shape[1], w.shape[0]
    if not channels or not out or 0 in w.shape:
        return False
    if e.prim == "convolve_transposed":
        return transposed.possible(e)
    return groups == 1 or is_depthwise(channels, groups, w) or is_narrow(channels, groups, w, b) \
        or (channels // groups % b == 0 and out // groups % b == 0)


def is_depthwise(channels: DimLike, groups: int, w: Expr) -> bool:
    """Whether weights (O,C/groups,*) take each channel by itself to one output."""
    return groups > 1 and channels == groups and w.shape[:2] == (groups, 1)


def is_narrow(channels: DimLike, groups: int, w: Expr, lanes: int) -> bool:
    """Whether weights (O,C/groups,*) take groups of few channels, several of them in a block, to as many outputs."""
    width = w.shape[1]
    return groups > 1 and width in NARROW and isinstance(width, int) and width < lanes and w.shape[0] == channels \
        and channels == width * groups


def _worthy(order: Sequence[Expr], eligible_ones: set[Expr]) -> set[Expr]:
    """The convolutions that are better off in blocks: those that hand pictures to each other, and others that gain."""
    # Which eligible convolutions a picture comes from, through steps that keep the layout.
    sources: dict[Expr, frozenset[Expr]] = {}
    linked: set[Expr] = set()
    for e in order:
        if e in eligible_ones:
            found = sources.get(e.args[0], frozenset())
            if found:
                linked |= found
                linked.add(e)
            sources[e] = frozenset((e,))
        elif e.prim in _ELEMENTWISE or e.prim in ("window", "concat", "pad", "slice", "gather"):
            # A few names are enough: whoever is linked to one of them is linked.
            found = frozenset[Expr]().union(*(sources.get(a, ()) for a in e.args if a.rank == e.rank))
            if found:
                sources[e] = frozenset(list(found)[:4])
        elif (bundle := _mixing(e)) is not None and bundle.args[0] in sources:
            sources[e] = sources[bundle.args[0]]
    return linked | {e for e in eligible_ones if _gains_by_rounding(e) or lone.gains(e, _by_channel(e))}


def _by_channel(e: Expr) -> bool:
    return e.prim == "convolve" and is_depthwise(e.args[0].shape[1], e.params["groups"], e.args[1])


def _mixing(e: Expr) -> Expr | None:
    """The composite that `e` is, where that mixes elements along an axis of places (`ops.places.mixed`)."""
    bundle = composite_of(e, "mixed")
    return bundle if bundle is not None and dict(bundle.params["of"])["axis"] >= 2 else None


def _gains_by_rounding(e: Expr) -> bool:
    """Whether a convolution by itself has so many multiplications for each element that changes its layout that doing
    them in bfloat16 pays for that: only blocks have a kernel for it."""
    if not target.bf16() or not target.multiplies_bf16() or e.prim != "convolve" or e.params["groups"] != 1:
        return False
    out, channels, *kernel = (int(d) for d in e.args[1].shape if isinstance(d, int))
    lanes = target.current().width
    # For each place of the output; few channels are read where they lie.
    moved = out + (0 if channels < lanes else channels * math.prod(e.params["strides"]))
    return out >= lanes and out * channels * math.prod(kernel) >= _ALONE_ROUNDED * moved


class _Layout:
    def __init__(self, lanes: int, worthy: set[Expr], largest: Mapping[Expr, int]):
        self.lanes, self.worthy, self.largest = lanes, worthy, largest
        self.plain: dict[Expr, Expr] = {}
        self.blocks: dict[Expr, Expr] = {}

    def run(self, roots: Sequence[Expr]) -> list[Expr]:
        for e in walk(roots, meanings=True):
            if e in self.worthy and e.prim == "convolve_transposed":
                self.transposed(e)
                continue
            made = None if e.scopes else self.blocked(e)
            if made is not None:
                made.name = made.name or e.name
                self.blocks[e] = made
                self.plain[e] = to_plain(made, e.shape)
                self.plain[e].name = e.name
                continue
            direct = None if e.scopes else self.leaving(e)
            self.plain[e] = direct if direct is not None else rebuilt(e, self.plain)
        return [self.plain[r] for r in roots]

    # What has a blocked form

    def blocked(self, e: Expr) -> Expr | None:
        """`e` in blocks, where it is better computed there."""
        if e in self.worthy:
            return self.convolution(e)
        if (bundle := _mixing(e)) is not None:
            x, index, weights = bundle.args
            if x not in self.blocks:
                return None
            return mixed(e.builder, self.of(x), self.plain[index], self.plain[weights],
                         dict(bundle.params["of"])["axis"])
        if not any(a in self.blocks for a in e.args) and not (e.prim in _ELEMENTWISE and any(
                a.prim == "broadcast" and a.args[0] in self.blocks for a in e.args)):
            return None
        if e.prim in _ELEMENTWISE:
            return self.elementwise(e)
        rule = getattr(self, "_" + e.prim, None)
        made: Expr | None = rule(e, e.builder) if rule is not None else None
        return made

    def of(self, e: Expr) -> Expr:
        """The blocks of a picture, made from its plain layout where it has no other."""
        found = self.blocks.get(e)
        if found is None:
            found = self.blocks[e] = to_blocks(self.plain[e], self.lanes)
        return found

    def transposed(self, e: Expr) -> None:
        """A transposed convolution as one of all its phases. Few channels would leave lanes of each phase empty: then
        the phases share blocks, and are laid between each other in the plain layout."""
        p, x, ones = e.builder, e.args[0], (1,) * (e.rank - 2)
        few = not self.fills(e)
        found = transposed.phases(e, 1 if few else self.lanes)
        made: Expr = p.composite("blocked_convolve", _convolve, self.of(x), found.weights, channels=x.shape[1],
                                 lanes=self.lanes, plain_x=False, largest=LARGEST, strides=ones, pads=found.pads,
                                 dilations=ones, groups=1)
        if few:
            plain = to_plain(made, (made.shape[0], found.weights.shape[0], *made.shape[2:-1]))
            self.plain[e] = transposed.shuffled(p, plain, found.strides, e.params["pads"], e.shape[2:])
            return
        self.blocks[e] = transposed.interleaved(p, made, found.strides, e.params["pads"], e.shape[2:])
        self.plain[e] = to_plain(self.blocks[e], e.shape)

    def fills(self, e: Expr) -> bool:
        """Whether the channels of a picture fill half of their blocks' lanes or more."""
        channels = e.shape[1]
        return isinstance(channels, int) and 2 * channels >= -(-channels // self.lanes) * self.lanes

    def convolution(self, e: Expr) -> Expr:
        p, (x, w) = e.builder, e.args
        plain_x = x not in self.blocks and x.shape[1] < self.lanes and e.params["groups"] == 1  # type: ignore[operator]
        operand = self.plain[x] if plain_x else self.of(x)
        made = p.composite("blocked_convolve", _convolve, operand, w, channels=x.shape[1], lanes=self.lanes,
                           plain_x=plain_x, largest=self.largest.get(e, LARGEST), **e.params)
        made.name = e.name
        return made

    def elementwise(self, e: Expr) -> Expr | None:
        """A map of blocks. All operands have its shape; at least one of them comes in blocks without a change."""
        if not any(a in self.blocks and a.shape == e.shape for a in e.args) or e.rank < 3 or not self.fills(e):
            return None
        args: list[Expr] = []
        for a in e.args:
            made = self.of(a) if a in self.blocks or a.prim != "broadcast" else self.broadcast(a)
            if made is None:
                return None
            args.append(made)
        shape = args[0].shape
        return e.builder.make(e.prim, args, e.params, e.dtype, shape)

    def broadcast(self, e: Expr) -> Expr | None:
        """A repeated operand: what it repeats comes in blocks, and is repeated then."""
        p, y = e.builder, e.args[0]
        shape = blocked_shape(e.shape, self.lanes)
        if decide_eq(product(y.shape), 1):
            return p.broadcast_to(p.reshape(self.plain[y], ()), shape)
        whole = (*(1,) * (e.rank - y.rank), *y.shape)
        if decide_eq(whole[1], 1):
            return p.broadcast_to(p.expand_dims(p.reshape(self.plain[y], whole), -1), shape)
        if whole[1] != e.shape[1]:
            return None
        found = self.blocks.get(y) if y.rank == e.rank else None
        if found is None:
            found = to_blocks(p.reshape(self.plain[y], whole), self.lanes)
        return p.broadcast_to(found, shape)

    def _window(self, e: Expr, p: Builder) -> Expr | None:
        params = e.params
        if len(params["size"]) != e.rank - 2:
            return None
        x = self.of(e.args[0])
        made: Expr = p.composite("blocked_window", _window, x, **params)
        return made

    def _concat(self, e: Expr, p: Builder) -> Expr | None:
        axis = e.params["axis"]
        if axis == 1:
            # Pieces must end where a block ends, and most should come in blocks.
            sizes = [a.shape[1] for a in e.args]
            if any(not isinstance(s, int) for s in sizes) or any(
                    s % self.lanes for s in sizes[:-1]):
                return None
        elif axis < 2:
            return None
        return p.concat([self.of(a) for a in e.args], axis)

    def _slice(self, e: Expr, p: Builder) -> Expr | None:
        x = e.args[0]
        starts, steps = list(e.params["starts"]), list(e.params["steps"])
        channels = x.shape[1]
        assert isinstance(channels, int)
        if decide_eq(e.shape[1], channels) is not True or decide_eq(starts[1], 0) is not True or steps[1] != 1:
            if not isinstance(starts[1], int) or not isinstance(e.shape[1], int) or steps[1] != 1 \
                    or starts[1] % self.lanes:
                return None
            starts[1] //= self.lanes
        if not all(isinstance(s, int) for s in steps):
            return None
        made = blocked_shape(e.shape, self.lanes)
        starts, steps = [*starts, 0], [*steps, 1]
        # The sizes are known; `slice` would only find them again.
        stops = tuple(a + (n - 1) * s + (1 if s > 0 else -1) for a, n, s in zip(starts, made, steps))
        return p.make("slice", (self.of(x),), {"starts": tuple(starts), "stops": stops, "steps": tuple(steps)},
                      e.dtype, made)

    def _pad(self, e: Expr, p: Builder) -> Expr | None:
        x, fill = e.args
        low, high = e.params["low"], e.params["high"]
        if decide_eq(low[1], 0) is not True or decide_eq(high[1], 0) is not True or x not in self.blocks:
            return None
        return p.make("pad", (self.of(x), self.plain[fill]), {"low": (*low, 0), "high": (*high, 0)}, e.dtype,
                      blocked_shape(e.shape, self.lanes))

    def _gather(self, e: Expr, p: Builder) -> Expr | None:
        x, indices = e.args
        if x not in self.blocks or e.params["axis"] < 2 or indices.rank != 1:
            return None
        return p.gather(self.of(x), self.plain[indices], e.params["axis"])

    # What takes blocks and gives a plain layout

    def leaving(self, e: Expr) -> Expr | None:
        """`e` in the plain layout, straight from the blocks of its operand."""
        if not e.args or e.args[0] not in self.blocks:
            return None
        p, x = e.builder, e.args[0]
        blocks = self.blocks[x]
        if e.prim == "reduce" and e.params["axes"] == tuple(range(2, x.rank)):
            # Over all places: what is left has few elements.
            made = p.make("reduce", (blocks,), e.params, e.dtype, (blocks.shape[0], blocks.shape[1], self.lanes))
            flat = p.reshape(made, (blocks.shape[0], blocks.shape[1] * self.lanes))
            return p.reshape(p.take(flat, 1, 0, x.shape[1]), e.shape)
        if e.prim == "transpose" and e.params["perm"] == (0, *range(2, x.rank), 1):
            last = p.transpose(blocks, (0, *range(2, x.rank), 1, x.rank))
            flat = p.reshape(last, (x.shape[0], *x.shape[2:], blocks.shape[1] * self.lanes))
            return p.reshape(p.take(flat, x.rank - 1, 0, x.shape[1]), e.shape)
        return None


# The layout in primitives

def blocked_shape(shape: Sequence[DimLike], lanes: int) -> tuple[DimLike, ...]:
    """The shape in blocks of (N,C,*places)."""
    n, channels, *places = shape
    return (n, -(-channels // lanes), *places, lanes)


def to_blocks(x: Expr, lanes: int) -> Expr:
    """x (N,C,*places) as (N, C/lanes rounded up, *places, lanes), zeros beyond C."""
    if x.dtype is not FLOAT or decide_le(product(x.shape[2:]), 1):
        return _to_blocks(x.builder, x, lanes=lanes)
    made: Expr = x.builder.composite("to_blocks", _to_blocks, x, lanes=lanes)
    return made


def to_plain(blocks: Expr, shape: Sequence[DimLike]) -> Expr:
    """Blocks as the picture of that shape."""
    assert isinstance(shape[1], int)
    if blocks.dtype is not FLOAT or decide_le(product(shape[2:]), 1):
        return _to_plain(blocks.builder, blocks, channels=shape[1])
    made: Expr = blocks.builder.composite("to_plain", _to_plain, blocks, channels=shape[1])
    return made


def _to_blocks(p: Builder, x: Expr, *, lanes: int) -> Expr:
    n, channels, *places = x.shape
    blocks = -(-channels // lanes)
    if channels % lanes:
        x = p.pad(x, [0] * x.rank, [0, blocks * lanes - channels, *[0] * len(places)])
    x = p.reshape(x, (n, blocks, lanes, *places))
    return p.transpose(x, (0, 1, *range(3, x.rank), 2))


def _to_plain(p: Builder, x: Expr, *, channels: int) -> Expr:
    n, blocks, *places, lanes = x.shape
    plain = p.reshape(p.transpose(x, (0, 1, x.rank - 1, *range(2, x.rank - 1))), (n, blocks * lanes, *places))
    return p.take(plain, 1, 0, channels) if channels != blocks * lanes else plain


def _convolve(p: Builder, x: Expr, w: Expr, *, channels: int, lanes: int, plain_x: bool, largest: int,
              strides: Sequence[int], pads: Sequence[tuple[int, int]], dilations: Sequence[int], groups: int) -> Expr:
    """What a blocked convolution means, whatever the `largest` tile that it may be made with."""
    plain = x if plain_x else _to_plain(p, x, channels=channels)
    return _to_blocks(p, p.convolve(plain, w, strides, pads, dilations, groups), lanes=lanes)


def _window(p: Builder, x: Expr, *, op: str, size: Sequence[int], strides: Sequence[int],
            pads: Sequence[tuple[int, int]], dilations: Sequence[int]) -> Expr:
    """Windows over the places of blocks."""
    return p.window(x, op, (*size, 1), (*strides, 1), (*pads, (0, 0)), (*dilations, 1))
