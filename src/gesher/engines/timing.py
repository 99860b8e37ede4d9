"""Timing engines against each other: one process each, their runs interleaved, so that all meet the same weather.

A worker process loads the model, says how long that took and what memory it used, and then runs as often as it is told.
The parent goes round the workers in turn.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gesher.base.errors import GesherError, RunError


@dataclass(slots=True)
class Timing:
    """One engine's figures: seconds of every run, of loading, and the peak memory in MB (None: not known here)."""

    engine: str
    load: float = 0.0
    memory: float | None = None
    runs: list[float] = field(default_factory=list)
    failed: str = ""

    @property
    def median(self) -> float:
        ordered = sorted(self.runs)
        return ordered[len(ordered) // 2] if ordered else float("nan")

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and the 90th percentile."""
        ordered = sorted(self.runs)
        if not ordered:
            return float("nan"), float("nan")
        return ordered[len(ordered) // 10], ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]


def _peak_memory() -> float | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def _work(pipe: Any, path: str, engine: str, threads: int, precision: str, feeds: dict[str, Any]) -> None:
    try:
        import gesher
        from gesher.engines import Options, prepare

        before = _peak_memory()
        start = time.perf_counter()
        session = prepare(gesher.load(path), engine, Options(threads=threads, precision=precision))
        load = time.perf_counter() - start
        session.run(feeds)
        peak = _peak_memory()
        pipe.send(("ready", load, None if peak is None or before is None else peak - before))
        while (count := pipe.recv()) is not None:
            times = []
            for _ in range(count):
                start = time.perf_counter()
                session.run(feeds)
                times.append(time.perf_counter() - start)
            pipe.send(("ran", times))
    except GesherError as e:
        pipe.send(("failed", str(e)))
    except EOFError:
        return
    except BaseException as e:
        pipe.send(("failed", f"{type(e).__name__}: {e}"))


def measure(path: Path | str, engines: Sequence[str], feeds: Mapping[str, Any], *, threads: int = 1,
            seconds: float = 3.0, least: int = 5, precision: str = "f32",
            progress: Callable[[str, float | None], None] | None = None) -> list[Timing]:
    """Time the model at `path` on each engine for about `seconds` each, at least `least` runs, interleaved.

    Raises:
        RunError: no engine could run it.
    """
    context = mp.get_context("spawn")
    timings = [Timing(e) for e in engines]
    workers: dict[str, tuple[Any, Any]] = {}
    try:
        for t in timings:
            if progress:
                progress(f"loading on {t.engine}", None)
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, str(path), t.engine, threads, precision,
                                                           dict(feeds)), daemon=True)
            process.start()
            there.close()
            workers[t.engine] = (process, here)
            # One loads after the other, so that their load times do not disturb each other.
            try:
                answer = here.recv()
            except EOFError:
                answer = ("failed", f"its process died with exit code {_exit_code(process)}")
            if answer[0] == "failed":
                t.failed = answer[1]
            else:
                t.load, t.memory = answer[1], answer[2]
        alive = [t for t in timings if not t.failed]
        if not alive:
            raise RunError("no engine could run the model: " + "; ".join(f"{t.engine}: {t.failed}" for t in timings))
        begun = time.perf_counter()
        end = begun + seconds * len(alive)
        batch = dict.fromkeys((t.engine for t in alive), 1)
        while alive and (time.perf_counter() < end or any(len(t.runs) < least for t in alive)):
            for t in alive:
                pipe = workers[t.engine][1]
                pipe.send(batch[t.engine])
                try:
                    answer = pipe.recv()
                except EOFError:
                    answer = ("failed", "its process died while running")
                if answer[0] == "failed":
                    t.failed = answer[1]
                    continue
                t.runs += answer[1]
                # Short runs go in batches of some milliseconds, or the turn-taking itself would be measured.
                batch[t.engine] = max(1, min(1000, int(0.02 / max(min(answer[1]), 1e-7))))
            alive = [t for t in alive if not t.failed]
            if progress:
                left = max(0.0, end - time.perf_counter())
                progress(f"{sum(len(t.runs) for t in timings)} runs", 1 - left / (end - begun))
    finally:
        for process, pipe in workers.values():
            with contextlib.suppress(BrokenPipeError, OSError):  # one that died was reported above
                pipe.send(None)
            process.join(5)
            if process.is_alive():
                process.terminate()
    return timings


def _exit_code(process: Any) -> Any:
    process.join(5)
    return process.exitcode
