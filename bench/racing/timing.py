"""Interleaved timing: a worker process for each engine, their runs in turns, so that all meet the same weather.

What a reader would guess wrong: runs are taken in slices of some milliseconds, two at the least, because taking turns
costs more than short ones do, and because what the turn before left in the caches spoils the first of a slice. And a
process is halted (SIGSTOP) while it is not its turn: pools of threads go on spinning after their work, and on a machine
whose cores are all raced on they would take from the next one's time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Pipe
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

_LOAD_LIMIT, _RUN_LIMIT = 300.0, 120.0
_SLICE = 0.015


@dataclass
class Timing:
    """One engine's runs in seconds, what loading took, and what it answered.

    Attributes:
        runs: seconds on the clock of each run.
        cpu: seconds of the processor that all its threads took, a run of each slice.
    """

    engine: str
    threads: int = 1
    runs: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    load: dict[str, float] = field(default_factory=dict)
    outputs: list[np.ndarray] = field(default_factory=list)
    failed: str = ""

    @property
    def median(self) -> float:
        return median(self.runs) if self.runs else float("nan")

    @property
    def undisturbed(self) -> float:
        """About what the median would be on a quiet machine.

        On one thread that is the processor's time, which does not run while others have the core; on several, where
        waiting threads spin, the 5th percentile of the clock.
        """
        if not self.runs:
            return float("nan")
        best = sorted(self.runs)[len(self.runs) // 20]
        return min(median(self.cpu), self.median) if self.threads == 1 and self.cpu else best


class Worker:
    """A process that holds one engine with one model.

    Attributes:
        failed: why it cannot go on; "" while it can.
    """

    def __init__(self, engine: str, model: Path, feeds: Path, threads: int, *, precision: str = "f32",
                 cache: Path | None = None, cpus: Sequence[int] | None = None):
        self.engine, self.failed = engine, ""
        task = {"engine": engine, "model": str(model), "feeds": str(feeds), "threads": threads, "precision": precision,
                "cpus": list(cpus) if cpus is not None else sorted(os.sched_getaffinity(0))[:threads]}
        self.pipe, theirs = Pipe()
        environment = {**os.environ, **({"GESHER_CACHE": str(cache)} if cache else {})}
        # Python's own compiled files are kept, as for every user: loading is measured, not Python's parser.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / f"gesher-bench-pycache-{os.getuid()}")
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(task),
                                         str(theirs.fileno())], pass_fds=[theirs.fileno()], env=environment,
                                        stdout=self._printed, stderr=self._printed)
        theirs.close()
        self.ready = self._answer(_LOAD_LIMIT) or {}

    def ask(self, *command: Any) -> Any:
        """The worker's answer; None where it failed. It is awake while it works and halted otherwise."""
        try:
            self.process.send_signal(signal.SIGCONT)
            self.pipe.send(command)
        except OSError as e:
            self.failed = self.failed or f"its process is gone: {e}"
            return None
        return self._answer(_RUN_LIMIT)

    def _answer(self, limit: float) -> Any:
        try:
            if not self.pipe.poll(limit):
                self.failed = f"no answer within {limit:.0f} s"
                self.process.kill()
                return None
            answer = self.pipe.recv()
        except EOFError:
            self._printed.seek(0)
            self.failed = f"its process died ({self.process.wait()}): " \
                          f"{self._printed.read()[-300:].decode(errors='replace').strip()}"
            return None
        if isinstance(answer, dict) and "failed" in answer:
            self.failed = answer["failed"]
            return None
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        with contextlib.suppress(OSError):    # one that died was reported
            self.process.send_signal(signal.SIGCONT)
            self.pipe.send(None)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.pipe.close()
        self._printed.close()


def write_feeds(feeds: Mapping[str, Any], folder: Path, name: str = "feeds") -> Path:
    path = folder / f"{name}.npz"
    np.savez(path, **feeds)
    return path


def take_turns(workers: Mapping[str, Worker], timings: Mapping[str, Timing], seconds: float, least: int = 5) -> None:
    """Run each worker for about `seconds`, in turns, and add to its timing; a slow one runs twice at the least."""
    alive = [name for name in workers if not workers[name].failed]
    counts = dict.fromkeys(alive, 2)
    spent = dict.fromkeys(alive, 0.0)

    def wants(name: str) -> bool:
        runs = len(timings[name].runs)
        return spent[name] < seconds or runs < 2 or (runs < least and spent[name] < 5 * seconds)

    while alive and any(map(wants, alive)):
        for name in list(alive):
            answer = workers[name].ask("run", counts[name])
            if answer is None:
                timings[name].failed = workers[name].failed
                alive.remove(name)
                continue
            times, cpu = answer
            timings[name].cpu.append(cpu)
            spent[name] += sum(times)
            # The first of a slice pays for the turn.
            timings[name].runs += times[1:]
            counts[name] = max(2, min(2000, int(_SLICE / max(median(times), 1e-7))))


def race(model: Path, feeds: Mapping[str, Any], engines: Sequence[str], threads: int, seconds: float, *,
         precision: str = "f32") -> dict[str, Timing]:
    """Time a model on each engine; one that cannot run it says why in `failed`."""
    timings = {e: Timing(e, threads) for e in engines}
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory(prefix="gesher-bench-") as folder:
        fed = write_feeds(feeds, Path(folder))
        try:
            for e in engines:
                workers[e] = w = Worker(e, model, fed, threads, precision=precision)
                timings[e].failed = w.failed
                if not w.failed:
                    timings[e].outputs = w.ready.pop("outputs")
                    timings[e].load = w.ready
            take_turns(workers, timings, seconds)
        finally:
            for w in workers.values():
                w.close()
    return timings


def relative_error(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """The largest relative L2 error over the outputs: |got - want| / |want|; infinite where shapes differ.

    >>> relative_error([np.float32([3, 4])], [np.float32([3, 4.5])]) < 0.1
    True
    """
    if len(got) != len(want):
        return float("inf")
    worst = 0.0
    for g, w in zip(got, want):
        if g.shape != w.shape:
            return float("inf")
        a, b = g.astype(np.float64), w.astype(np.float64)
        scale = float(np.linalg.norm(b))
        off = float(np.linalg.norm(a - b))
        if not np.isfinite(off):
            return float("inf")
        worst = max(worst, off / scale if scale else off)
    return worst


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
