"""What it takes before the first answer: compiling cold, loading again, and memory; and what a new shape costs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from .timing import Timing, Worker, take_turns, write_feeds
from .work import specialised


def loading(model: Any, threads: int, repeat: int = 3) -> dict[str, Any]:
    """Seconds of a cold compile on all cores, of loading from the cache, and peak memory, beside ONNX Runtime's.

    Peak memory is that of the whole process, Python and feeds included, as a user meets it.
    """
    row: dict[str, Any] = {"name": model.name, "kind": model.kind, "group": model.group, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="gesher-bench-") as folder:
        fed, cache = write_feeds(model.feeds(), Path(folder)), Path(folder) / "cache"

        def started(engine: str, cpus: list[int] | None = None) -> dict[str, float]:
            w = Worker(engine, model.path(), fed, threads, cache=cache, cpus=cpus)
            w.close()
            if w.failed:
                row["failed"] = f"{engine}: {w.failed}"
                return {}
            return w.ready

        # What the toolchain itself keeps is made by a model of nothing first: it is once a machine, not once a model.
        from models import operators

        nothing = Path(folder) / "add.onnx"
        operators.add(nothing)
        Worker("compiled", nothing, write_feeds(operators.x(1, 64), Path(folder), "nothing"), 1, cache=cache).close()
        cold = started("compiled", sorted(os.sched_getaffinity(0)))
        if not cold:
            return row
        # Bodies are compiled when they first run.
        row |= {"compile_s": cold["load_s"] + cold["first_s"],
                "compile_cpu_s": cold["load_cpu_s"] + cold["first_cpu_s"], "compile_mb": cold["peak_mb"]}
        found: dict[str, list[dict[str, float]]] = {"compiled": [], "onnxruntime": []}
        for _ in range(repeat):
            for engine in found:
                if told := started(engine):
                    found[engine].append(told)
        for engine, figures in found.items():
            if not figures:
                return row
            row[f"{engine}_load_s"] = median(f["load_s"] for f in figures)
            row[f"{engine}_load_cpu_s"] = median(f["load_cpu_s"] for f in figures)
            row[f"{engine}_import_s"] = median(f["import_s"] for f in figures)
            row[f"{engine}_mb"] = median(f["peak_mb"] for f in figures)
        row["load_ratio"] = row["compiled_load_s"] / row["onnxruntime_load_s"]
        row["clean_load_ratio"] = row["compiled_load_cpu_s"] / max(row["onnxruntime_load_cpu_s"], 1e-4)
        row["memory_ratio"] = row["compiled_mb"] / row["onnxruntime_mb"]
    return row


def new_shapes(free: Any, threads: int, seconds: float) -> list[dict[str, Any]]:
    """For each size a row: the session with free sizes against one specialised, and what the first run there cost."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gesher-bench-") as name:
        folder = Path(name)
        cache = folder / "cache"
        fed = [write_feeds(size(), folder, f"feeds{i}") for i, size in enumerate(free.sizes)]
        open_worker = Worker("compiled", free.model.path(), fed[0], threads, cache=cache)
        try:
            for size, path in zip(free.sizes, fed):
                feeds = size()
                row: dict[str, Any] = {"name": free.model.name, "kind": "dynamic", "group": "dynamic",
                                       "threads": threads,
                                       "sizes": ", ".join("x".join(map(str, x.shape)) for x in feeds.values())}
                rows.append(row)
                before = _libraries(cache)
                first = open_worker.ask("feed", str(path)) if not open_worker.failed else None
                if first is None:
                    row["failed"] = open_worker.failed
                    return rows
                row["compiled_again"] = _libraries(cache) - before
                fixed = Worker("compiled", specialised(free.model.path(), feeds, folder), path, threads)
                timings = {"free": Timing("free", threads), "fixed": Timing("fixed", threads)}
                take_turns({"free": open_worker, "fixed": fixed}, timings, seconds)
                fixed.close()
                if fixed.failed or open_worker.failed:
                    row["failed"] = fixed.failed or open_worker.failed
                    return rows
                row |= {"first_s": first, "free_s": timings["free"].median, "fixed_s": timings["fixed"].median,
                        "ratio": timings["free"].median / timings["fixed"].median,
                        "clean_ratio": timings["free"].undisturbed / timings["fixed"].undisturbed}
        finally:
            open_worker.close()
    return rows


def _libraries(cache: Path) -> int:
    models = cache / "models"
    return len(list(models.iterdir())) if models.is_dir() else 0

