"""`gesher bench`: time a model on several engines."""

from __future__ import annotations

from pathlib import Path

import click

from .console import FOUND_WRONG, human_time, say, say_json, table, working
from .inputs import engine_list, feeds_options, json_option, make_feeds, model_argument


@click.command()
@model_argument
@click.option("--engines", callback=engine_list, metavar="A,B,...", show_default="all that are here but reference",
              help="Ratios are to the first that runs.")
@feeds_options
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each engine.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True,
              help="How long to run each engine, about.")
@json_option
def command(model: Path, engines: list[str] | None, given: tuple[str, ...], dims: tuple[str, ...],
            shapes: tuple[str, ...], seed: int, threads: int, seconds: float, as_json: bool) -> None:
    """Time a model on several engines: a process each, their runs interleaved; load time and memory too.

    \b
    Example:
      gesher bench model.onnx --engines onnxruntime,compiled --threads 2 --dim batch=1
    """
    import gesher
    from gesher.engines import names
    from gesher.engines.compare import present
    from gesher.engines.timing import measure

    chosen = engines or [n for n in present(names()) if n != "reference"] or ["reference"]
    feeds = make_feeds(gesher.load(model), given, dims, shapes, seed, random=True)
    with working("starting") as tell:
        timings = measure(model, chosen, feeds, threads=threads, seconds=seconds, progress=tell)
    base = next(t.median for t in timings if not t.failed)
    if as_json:
        say_json([{"engine": t.engine, "failed": t.failed} if t.failed else
                  {"engine": t.engine, "failed": "", "median_s": t.median, "p10_s": t.spread[0],
                   "p90_s": t.spread[1], "runs": len(t.runs), "ratio": t.median / base, "load_s": t.load,
                   "memory_mb": t.memory} for t in timings])
    else:
        rows = []
        for t in timings:
            if t.failed:
                rows.append((t.engine, "-", "-", "-", "-", "-", "-"))
                continue
            low, high = t.spread
            rows.append((t.engine, human_time(t.median), f"{human_time(low)} .. {human_time(high)}", str(len(t.runs)),
                         f"{t.median / base:.2f}", human_time(t.load),
                         "-" if t.memory is None else f"{t.memory:.0f} MB"))
        table(["engine", "median", "10 % .. 90 %", "runs", "ratio", "load", "memory"], rows, right=(1, 2, 3, 4, 5, 6))
        for t in timings:
            if t.failed:
                say(f"{t.engine} failed: {t.failed}")
    if any(t.failed for t in timings):
        raise SystemExit(FOUND_WRONG)
