"""`gesher bench`: time a model on several engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import FOUND_WRONG, human_time, say, say_json, table, working
from .inputs import engine_list, feeds_options, json_option, make_feeds, model_argument, precision_option

if TYPE_CHECKING:
    from gesher.ir import Model


@click.command()
@model_argument
@click.option("--engines", callback=engine_list, metavar="A,B,...", show_default="all that are here but reference",
              help="Ratios are to the first that runs.")
@feeds_options
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each engine.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True,
              help="How long to run each engine, about.")
@click.option("--profile", is_flag=True, help="Time each kernel and loop nest of the compiled engine instead, and hold "
                                              "it to the peak of this machine.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path),
              help="With --profile: write a page of it into this file.")
@precision_option
@json_option
def command(model: Path, engines: list[str] | None, given: tuple[str, ...], dims: tuple[str, ...],
            shapes: tuple[str, ...], seed: int, threads: int, seconds: float, profile: bool, html: Path | None,
            precision: str, as_json: bool) -> None:
    """Time a model on several engines: a process each, their runs interleaved; load time and memory too.

    \b
    Example:
      gesher bench model.onnx --engines onnxruntime,compiled --threads 2 --dim batch=1
      gesher bench model.onnx --profile --html model.html
    """
    import gesher

    if html is not None and not profile:
        raise click.UsageError("--html is for --profile")
    if profile:
        if engines not in (None, ["compiled"]):
            raise click.UsageError("--profile is for the compiled engine")
        loaded = gesher.load(model)
        profile_compiled(model, loaded, make_feeds(loaded, given, dims, shapes, seed, random=True), threads, seconds,
                         html, as_json, precision)
        return
    from gesher.engines import names
    from gesher.engines.compare import present
    from gesher.engines.timing import measure

    chosen = engines or [n for n in present(names()) if n != "reference"] or ["reference"]
    feeds = make_feeds(gesher.load(model), given, dims, shapes, seed, random=True)
    with working("starting") as tell:
        timings = measure(model, chosen, feeds, threads=threads, seconds=seconds, progress=tell,
                          precision=precision)
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


def profile_compiled(path: Path, model: Model, feeds: Mapping[str, Any], threads: int, seconds: float,
                     html: Path | None, as_json: bool, precision: str = "f32") -> None:
    """Each step of the compiled model with its time and rates: as text, as JSON, or as a page."""
    from gesher.compiler import peak

    from .profiling import as_data, page_of, print_profile, profiled

    with working("compiling and timing"):
        limits = peak.here(threads)
        session = profiled(model, feeds, threads, seconds, precision)
    try:
        if html is not None:
            runs = max((p.count() for p in session.profiles()), default=0)
            facts = [f"compiled by gesher, {threads} thread{'s' * (threads > 1)}, 10th percentiles of {runs} runs"]
            html.write_text(page_of(session, path.name, facts, limits), encoding="utf-8")
            say(f"{html} written")
        elif as_json:
            say_json(as_data(session.profiles(), limits))
        else:
            print_profile(session.profiles(), limits)
    finally:
        session.close()
