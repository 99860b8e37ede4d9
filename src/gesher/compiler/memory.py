"""One arena for all intermediate tensors, planned ahead: tensors that never live at the same time share a place.

Sizes may be symbolic, so the plan is a list of places, each as large as the largest tensor in it; how large that is,
and where the places begin, the generated code computes at run time. A tensor goes to the free place whose size fits
best, judged with every symbol at `TYPICAL`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gesher.symbolic import DimLike, evaluate

from .loops import Buffer
from .steps import BranchStep, KernelStep, LoopStep, Program, Step

TYPICAL = 16
ALIGNMENT = 64


@dataclass(slots=True)
class Place:
    """A part of the arena: the tensors that lie there, one after the other in time."""

    buffers: list[Buffer] = field(default_factory=list)
    typical: int = 0
    free_after: int = -1


@dataclass(slots=True)
class Arena:
    """The places of a program, in order."""

    places: list[Place]

    def bytes_of(self, dims: dict[object, int]) -> int:
        """Bytes of all places for these sizes, without what kernels need to work in."""
        return sum(max(_round_up(_bytes(b, evaluate(b.size, dims))) for b in p.buffers) for p in self.places)


def plan(program: Program) -> Arena:
    """Give every buffer of the arena a place."""
    first, last = _lives(program)
    places: list[Place] = []
    for buffer in sorted(first, key=lambda b: (first[b], b.slot, b.name)):
        size = _typical(buffer)
        open_places = [p for p in places if p.free_after < first[buffer]]
        chosen = min(open_places, key=lambda p: abs(p.typical - size), default=None)
        # A small tensor in a large place would keep a large one out of it.
        if chosen is None or not size // 4 <= chosen.typical <= max(8 * size, 4096):
            chosen = Place()
            places.append(chosen)
        chosen.buffers.append(buffer)
        chosen.typical = max(chosen.typical, size)
        chosen.free_after = last[buffer]
    return Arena(places)


def _lives(program: Program) -> tuple[dict[Buffer, int], dict[Buffer, int]]:
    """When each buffer of the arena is first and last touched, counting steps, those inside of others among them.

    What a turn of a loop makes for itself alone lives within a turn; everything else that a loop touches, in all.
    """
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    clock = 0

    def use(buffers: Iterable[Buffer], at: int) -> None:
        for buffer in buffers:
            for b in (buffer, *_below(buffer)):
                if b.place == "arena":
                    first[b], last[b] = min(first.get(b, at), at), max(last.get(b, at), at)

    def pass_through(steps: Sequence[Step]) -> None:
        nonlocal clock
        for step in steps:
            clock += 1
            begin, touched = clock, _touched(step)
            if isinstance(step, LoopStep):
                pass_through(step.body)
                touched -= _written(step.body) - step.writes
            elif isinstance(step, BranchStep):
                pass_through(step.then)
                pass_through(step.other)
            clock += 1
            use(touched, begin)
            use(touched, clock)

    pass_through(program.steps)
    return first, last


def _written(steps: Iterable[Step]) -> set[Buffer]:
    """What these steps and those inside them write in the arena."""
    found: set[Buffer] = set()
    for step in steps:
        found |= {b for b in step.writes if b.place == "arena"}
        for name in ("body", "then", "other"):
            found |= _written(getattr(step, name, ()))
    return found


def _below(buffer: Buffer) -> list[Buffer]:
    found: list[Buffer] = []
    pending = list(buffer.over)
    while pending:
        b = pending.pop()
        if b not in found:
            found.append(b)
            pending.extend(b.over)
    return found


def _touched(step: Step) -> set[Buffer]:
    """Everything that a step and the steps inside it read and write."""
    found = set(step.reads) | set(step.writes)
    if isinstance(step, KernelStep):
        return found
    for name in ("body", "then", "other"):
        for inner in getattr(step, name, ()):
            found |= _touched(inner)
    return found


def _typical(buffer: Buffer) -> int:
    symbols = {s: TYPICAL for d in buffer.shape if not isinstance(d, int) for s in d.symbols()}
    size: DimLike
    try:
        size = evaluate(buffer.size, {s: _inside(s, TYPICAL) for s in symbols})
    except Exception:  # a size that no symbol at TYPICAL makes sense of: any guess will do
        size = TYPICAL
    return _bytes(buffer, int(size))


def _inside(symbol: object, value: int) -> int:
    from gesher.symbolic import Dim, bounds

    assert isinstance(symbol, Dim)
    lo, hi = bounds(symbol)
    if lo is not None and value < lo:
        return lo
    return hi if hi is not None and value > hi else value


def _bytes(buffer: Buffer, size: int) -> int:
    return size * buffer.dtype.numpy.itemsize


def _round_up(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
