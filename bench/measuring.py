"""How the benchmarks measure: each thing in a process of its own, repeated, interleaved with its rival.

A measured snippet is Python source that defines `run()`; the child times it, and reports seconds and peak memory above
what the imports took.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from statistics import median


def versions(*packages: str) -> str:
    """The packages with their versions, those that are not installed told as such."""
    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "(not installed)"

    return ", ".join(f"{n} {version(n)}" for n in packages)


# getrusage counts what the parent held when it forked, so a child of a large process would seem large.
_PEAK = """
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
"""
_CHILD = _PEAK + """
import json, sys, time
{setup}
before, cpu = peak(), time.process_time()
start = time.perf_counter()
{run}
took = time.perf_counter() - start
print(json.dumps([took, peak() - before, time.process_time() - cpu]))
"""


@dataclass
class Figure:
    """Seconds, megabytes and seconds of the processor of one thing, over several runs."""

    seconds: list[float]
    megabytes: list[float]
    busy: list[float]

    @property
    def time(self) -> float:
        return median(self.seconds)

    @property
    def cpu(self) -> float:
        """Seconds of the processor: what others do on the machine hardly changes them."""
        return median(self.busy)

    @property
    def memory(self) -> float:
        return max(self.megabytes)


def child(setup: str, run: str) -> tuple[float, float, float]:
    """One run in a fresh process: seconds, peak megabytes and processor seconds of `run` after `setup`."""
    code = _CHILD.format(setup=setup, run=run)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a measured process failed:\n{run}\n{done.stderr}")
    seconds, megabytes, busy = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, megabytes, busy


def peak_of(code: str) -> float:
    """The peak resident memory of a process that runs `code`, interpreter and mapped files included, in megabytes."""
    done = subprocess.run([sys.executable, "-c", f"{_PEAK}\n{code}\nprint(peak())"], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise SystemExit(f"a measured process failed:\n{code}\n{done.stderr}")
    return float(done.stdout.strip().splitlines()[-1])


def interleaved(cases: dict[str, tuple[str, str]], repeat: int = 5) -> dict[str, Figure]:
    """Each case (setup, run) `repeat` times, turn about."""
    figures = {name: Figure([], [], []) for name in cases}
    for _ in range(repeat):
        for name, (setup, run) in cases.items():
            seconds, megabytes, busy = child(setup, run)
            figures[name].seconds.append(seconds)
            figures[name].megabytes.append(megabytes)
            figures[name].busy.append(busy)
    return figures


def whole_process(command: list[str], repeat: int = 7) -> float:
    """The median wall time of a command from start to end."""
    import time

    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return median(times)


def row(question: str, ours: str, rival: str, ratio: float | None, goal: str, ok: bool) -> None:
    """Print one line of a result table."""
    shown = "-" if ratio is None else f"{ratio:.3f}"
    print(f"{question:52} {ours:>22} {rival:>28} {shown:>8}  {goal:24} {'reached' if ok else 'MISSED'}", flush=True)
