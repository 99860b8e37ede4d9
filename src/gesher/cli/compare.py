"""`gesher compare`: the same inputs through several engines."""

from __future__ import annotations

from pathlib import Path

import click

from .console import FOUND_WRONG, say, say_json, table, working
from .inputs import (
    engine_list,
    feeds_options,
    json_option,
    make_feeds,
    model_argument,
    precision_option,
    threads_option,
)


@click.command()
@model_argument
@click.option("--engines", callback=engine_list, metavar="A,B,...", show_default="all that are here",
              help="The first is what the others are held against.")
@feeds_options
@click.option("--rtol", type=float, help="Relative difference allowed.")
@click.option("--atol", type=float, help="Absolute difference allowed.")
@click.option("--layers", is_flag=True, help="Where outputs differ, find the first value that does.")
@threads_option
@precision_option
@json_option
def command(model: Path, engines: list[str] | None, given: tuple[str, ...], dims: tuple[str, ...],
            shapes: tuple[str, ...], seed: int, rtol: float | None, atol: float | None, layers: bool, threads: int,
            precision: str, as_json: bool) -> None:
    """Run the same inputs through several engines, and show the largest differences from the first.

    Inputs that are not given are random. Exit code 1 where an engine differs or cannot run the model.

    \b
    Example:
      gesher compare model.onnx --engines reference,compiled,onnxruntime --dim batch=4 --layers
    """
    import gesher

    if engines is not None and len(engines) < 2:
        raise click.BadParameter("comparing takes two engines or more", param_hint="--engines")
    loaded = gesher.load(model)
    feeds = make_feeds(loaded, given, dims, shapes, seed, random=True)
    with working(f"comparing {model.name}"):
        result = gesher.compare(loaded, engines, feeds, rtol=rtol, atol=atol, threads=threads, precision=precision,
                                layers=layers)
    if as_json:
        say_json(result.as_json())
    else:
        say(f"held against {result.baseline}:")
        table(["engine", "output", "max abs", "max rel", "outside", "verdict"],
              [(r.engine, r.output, f"{r.max_abs:.3g}", f"{r.max_rel:.3g}", f"{r.mismatches}/{r.size}",
                "agrees" if r.ok else r.why or "differs") for r in result.rows], right=(2, 3, 4))
        for engine, why in result.failed.items():
            say(f"{engine} could not run it: {why}")
        for engine, (place, d) in result.first_layer.items():
            say(f"{engine} first differs at {place}, value '{d.output}': by {d.max_abs:.3g} in {d.mismatches} "
                f"of {d.size} elements{' (' + d.why + ')' if d.why else ''}")
    if not result.ok:
        raise SystemExit(FOUND_WRONG)
