"""Where the time of a compiled session went: each step with its time, GFLOP/s where countable, and GB/s.

Steps are timed only in libraries that were built for it (`GESHER_DEBUG=2` when the session is made): the clock is read
twice a step, which a small model would feel.

What a reader would guess wrong: bytes are those of the operands and results, each counted once. What a kernel reads
again from the cache, or an epilogue finds in registers, is not in them, so GB/s may lie above or below what a memory
counter says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gesher.symbolic import Dim, DimLike, evaluate

from .steps import BranchStep, KernelStep, LoopStep, Program, Step, step_text

FLAG = "-DGS_TIMED"
"""What a library is built with whose steps are timed."""


@dataclass(slots=True)
class Profile:
    """One segment's times.

    Attributes:
        title: of the segment.
        program: what it runs.
        times: for each step its nanoseconds and how often it ran, one behind the other; C adds to it.
        runs: how often the segment ran with which sizes, in the order of `program.symbols`.
    """

    title: str
    program: Program
    times: Any
    runs: dict[tuple[int, ...], int] = field(default_factory=dict)

    def text(self) -> str:
        """The table, the steps in their order; "" where nothing has run."""
        count = sum(self.runs.values())
        steps = list(self.program.all_steps())
        total = sum(self.times[2 * i] for i in range(len(steps)))
        if not count or not total:
            return ""
        lines = [f"{self.title}: {count} runs, {total / count / 1e6:.3f} ms each in steps",
                 "         ms       %  GFLOP/s     GB/s"]
        for i, step in enumerate(steps):
            nanoseconds, turns = self.times[2 * i], self.times[2 * i + 1]
            if isinstance(step, (LoopStep, BranchStep)) or not turns:
                continue
            flops, moved = (self._sum(work) * turns / count for work in (flops_of(step), bytes_of(step)))
            rate = f"{flops / nanoseconds:8.1f}" if flops and nanoseconds else f"{'-':>8}"
            lines.append(f"  {nanoseconds / count / 1e6:9.4f}  {100 * nanoseconds / total:5.1f} {rate} "
                         f"{moved / max(nanoseconds, 1):8.1f}  {step_text(step)}")
        return "\n".join(lines)

    def _sum(self, work: DimLike | None) -> float:
        """`work` over all runs, 0 where it cannot be counted."""
        if work is None:
            return 0.0
        total = 0.0
        for key, times in self.runs.items():
            sizes: Mapping[Dim, int] = dict(zip(self.program.symbols, key))
            if isinstance(work, Dim) and not work.symbols() <= sizes.keys():
                return 0.0
            total += times * evaluate(work, sizes)
        return total


def flops_of(step: Step) -> DimLike | None:
    """Floating-point operations of one turn of a step, where a kernel can count them."""
    return step.kernel.flops() if isinstance(step, KernelStep) else None


def bytes_of(step: Step) -> DimLike:
    """Bytes of a step's operands and results."""
    total: DimLike = 0
    for b in step.reads | step.writes:
        total = total + b.size * b.dtype.numpy.itemsize
    return total
