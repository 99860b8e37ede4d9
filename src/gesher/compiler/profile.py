"""Where the time of a compiled session went: each step with its time, GFLOP/s and GB/s, and how near they come to the
machine's peak.

Steps are timed only in libraries that were built for it (`Options.timed`, or `GESHER_DEBUG=2` when the session is
made): the clock is read twice a step, which a small model would feel. It is the clock on the wall, since the threads of
a step work side by side: what else the machine did meanwhile is in the times. What counts as work says `work.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gesher.symbolic import Dim, DimLike

from .peak import Peak
from .steps import KernelStep, Program
from .work import Work, number_of, works

FLAG = "-DGS_TIMED"
"""What a library is built with whose steps are timed."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One step of a profile, averaged over the runs.

    Attributes:
        work: what it is.
        seconds: of a run, all its turns together.
        turns: in a run.
        flops, bytes: of a run; 0 where nobody counts them.
        sizes: of the newest run, for what hangs on symbols.
    """

    work: Work
    seconds: float
    turns: float
    flops: float
    bytes: float
    sizes: Mapping[Dim, int]

    @property
    def gflops(self) -> float | None:
        return self.flops / self.seconds / 1e9 if self.flops and self.seconds else None

    @property
    def gbytes(self) -> float | None:
        return self.bytes / self.seconds / 1e9 if self.bytes and self.seconds else None

    def of_peak(self, peak: Peak) -> tuple[float | None, float | None]:
        """Parts of the peaks of arithmetic and of reading memory. Integer and bf16 kernels are held to theirs."""
        of_bytes = any(b.dtype.name in ("int8", "uint8") for b in self.work.reads)
        rounded = isinstance(self.work.step, KernelStep) and bool(self.work.step.kernel.precision)
        limit = (peak.int8 if of_bytes else peak.bf16 if rounded else 0) or peak.flops
        return (None if self.gflops is None else self.gflops * 1e9 / limit,
                None if self.gbytes is None else self.gbytes * 1e9 / peak.bytes)


@dataclass(slots=True)
class Profile:
    """One segment's times.

    Attributes:
        title: of the segment.
        program: what it runs.
        times: for each step its nanoseconds and how often it ran, one behind the other; C adds to it.
        threads: of the session.
        runs: how often the segment ran with which sizes, in the order of `program.symbols`.
        samples: nanoseconds of each step in each run, where `sample` was called after it.
    """

    title: str
    program: Program
    times: Any
    threads: int = 1
    runs: dict[tuple[int, ...], int] = field(default_factory=dict)
    samples: list[list[int]] = field(default_factory=list)
    _before: list[int] = field(default_factory=list)

    def count(self) -> int:
        """The runs so far."""
        return sum(self.runs.values())

    def total(self) -> float:
        """Seconds of all steps in all runs; 0 where nothing has run."""
        return sum(t.seconds for t in self.steps()) * self.count()

    def reset(self) -> None:
        """Forget all runs, for example those that warmed up."""
        self.runs.clear()
        self.samples.clear()
        self._before = []
        for i in range(2 * sum(1 for _ in self.program.all_steps())):
            self.times[i] = 0

    def sample(self) -> None:
        """Keep the times of the run that just was. With samples, a step's time is the 10th percentile of its times, as
        on a quiet machine; without, the mean."""
        now = [self.times[2 * i] for i, _ in enumerate(self.program.all_steps())]
        self.samples.append([a - b for a, b in zip(now, self._before or [0] * len(now))])
        self._before = now

    def steps(self) -> list[Timed]:
        """Every step that ran, in order; loops and branches are in what they hold."""
        count = self.count()
        low = [sorted(column)[len(column) // 10] for column in zip(*self.samples)]
        sizes = dict(zip(self.program.symbols, next(reversed(self.runs), ())))
        found = []
        for i, w in enumerate(works(self.program)):
            nanoseconds, turns = self.times[2 * i], self.times[2 * i + 1]
            if w.kind in ("kernel", "nest") and turns and count:
                found.append(Timed(w, (low[i] if low else nanoseconds / count) / 1e9, turns / count,
                                   self.sum(w.flops) * turns / count ** 2, self.sum(w.bytes) * turns / count ** 2,
                                   sizes))
        return found

    def sum(self, work: DimLike | None) -> float:
        """`work` of one turn, over all runs; 0 where it cannot be counted."""
        total = 0.0
        for key, times in self.runs.items():
            n = number_of(work, dict(zip(self.program.symbols, key)))
            if n is None:
                return 0.0
            total += times * n
        return total

    def text(self, peak: Peak | None = None) -> str:
        """The table, the steps in their order; "" where nothing has run."""
        steps = self.steps()
        whole = sum(t.seconds for t in steps)
        if not whole:
            return ""
        lines = [f"{self.title}: {self.count()} runs, {whole * 1e3:.3f} ms each in steps by the wall clock"]
        if peak is not None:
            lines.append(f"peaks of {peak.threads} thread{'s' * (peak.threads > 1)}: {peak.flops / 1e9:.1f} GFLOP/s, "
                         f"{peak.bytes / 1e9:.1f} GB/s from memory")
        lines.append("         ms       %  GFLOP/s  % peak     GB/s  % peak")
        for t in steps:
            arithmetic, memory = t.of_peak(peak) if peak is not None else (None, None)
            lines.append(f"  {t.seconds * 1e3:9.4f}  {100 * t.seconds / whole:5.1f} {_cell(t.gflops, 8, 1)} "
                         f"{_cell(arithmetic, 7, 0, 100)} {_cell(t.gbytes, 8, 1)} {_cell(memory, 7, 0, 100)}  "
                         f"{t.work.text(t.sizes)}")
        return "\n".join(lines)


def _cell(value: float | None, width: int, digits: int, scale: float = 1.0) -> str:
    return f"{'-':>{width}}" if value is None else f"{scale * value:{width}.{digits}f}"


def by_kernel(steps: list[Timed]) -> list[tuple[str, int, float, float]]:
    """(kernel or "loop nests", steps, seconds, operations) of steps taken together, the slowest first."""
    found: dict[str, tuple[int, float, float]] = {}
    for t in steps:
        name = t.work.what.split()[0] if t.work.kind == "kernel" else "loop nests"
        n, seconds, flops = found.get(name, (0, 0.0, 0.0))
        found[name] = (n + 1, seconds + t.seconds, flops + t.flops)
    return sorted(((name, *v) for name, v in found.items()), key=lambda row: -row[2])
