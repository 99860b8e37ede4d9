"""What a compiled segment does, in order: steps over buffers, and the program that they make up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike

from .demands import Demand
from .kernel import Kernel
from .loops import Buffer, Nest


@dataclass(eq=False, slots=True)
class NestStep:
    nest: Nest
    reads: set[Buffer]
    writes: set[Buffer]


@dataclass(eq=False, slots=True)
class KernelStep:
    """A kernel's call. `tile` is the nest that finishes its tiles in place, with the symbols of a tile."""

    name: str
    comment: str
    kernel: Kernel
    pointers: dict[Expr, Buffer]
    result: Buffer
    reads: set[Buffer]
    writes: set[Buffer]
    tile: Nest | None = None
    symbols: tuple[Dim, ...] = ()
    tile_buffer: Buffer | None = None


@dataclass(eq=False, slots=True)
class LoopStep:
    """A counted loop. Each carried value is read through a pointer and written into one of two buffers in turns. The
    bool at `going`, where there is one, is asked before each turn whether it goes on."""

    name: str
    count: DimLike
    symbol: Dim
    body: list[Any]
    carried: list[tuple[Buffer, Buffer, Buffer, tuple[Buffer, Buffer]]]   # current, first, next, the two
    slices: list[tuple[Buffer, Buffer]]                                   # a row of what is scanned
    stacked: list[tuple[Buffer, Buffer]]                                  # a row of what is gathered
    reads: set[Buffer]
    writes: set[Buffer]
    going: Buffer | None = None


@dataclass(eq=False, slots=True)
class BranchStep:
    name: str
    condition: Buffer
    then: list[Any]
    other: list[Any]
    reads: set[Buffer]
    writes: set[Buffer]


Step = NestStep | KernelStep | LoopStep | BranchStep


@dataclass(slots=True)
class Program:
    """One segment, ready to be written as C.

    Attributes:
        name: of its C function.
        inputs, outputs: by slot. An input's buffer has the shape it must be fed with.
        weights: the constants by slot, and the arrays or tensors that hold them.
        steps: in order.
        symbols: the sizes that must be known, in the order of `GsCall.dims`.
        buffers: everything in the arena.
        pointers: what is set while running: slices and carried values.
        demands: what sizes must be for it to be right.
    """

    name: str
    inputs: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    weights: list[Buffer] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    symbols: list[Dim] = field(default_factory=list)
    counters: list[Dim] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    pointers: list[Buffer] = field(default_factory=list)
    demands: list[Demand] = field(default_factory=list)

    def all_steps(self) -> Iterable[Step]:
        """Every step, outer before inner."""
        pending: list[Step] = list(reversed(self.steps))
        while pending:
            step = pending.pop()
            yield step
            if isinstance(step, LoopStep):
                pending.extend(reversed(step.body))
            elif isinstance(step, BranchStep):
                pending.extend(reversed([*step.then, *step.other]))
