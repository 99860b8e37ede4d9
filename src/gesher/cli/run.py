"""`gesher run`: run a model on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .console import human_time, say, say_json, table, working
from .inputs import feeds_options, json_option, make_feeds, model_argument, threads_option


@click.command()
@model_argument
@feeds_options
@click.option("--random", is_flag=True, help="Make random inputs for all that are not given.")
@click.option("--engine", default="auto", show_default=True, help="See `gesher engines`.")
@threads_option
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              help="Folder that gets one NAME.npy an output.")
@json_option
def command(model: Path, given: tuple[str, ...], dims: tuple[str, ...], shapes: tuple[str, ...], seed: int,
            random: bool, engine: str, threads: int, output: Path | None, as_json: bool) -> None:
    """Run a model, on inputs from files or on random ones.

    \b
    Example:
      gesher run model.onnx --input x=x.npy --engine compiled -o answers
      gesher run model.onnx --random --seed 1 --dim batch=4
    """
    import time

    import gesher

    loaded = gesher.load(model)
    feeds = make_feeds(loaded, given, dims, shapes, seed, random=random)
    with working(f"preparing {model.name}"):
        session = gesher.session(loaded, engine, threads=threads, seed=seed)
    with session, working(f"running {model.name}"):
        start = time.perf_counter()
        results = session.run(feeds)
        took = time.perf_counter() - start
    written = {}
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, value in results.items():
            written[name] = str(write_array(output, name, value))
    if as_json:
        say_json({"seconds": took, "outputs": {n: {**describe(v), "file": written.get(n)}
                                               for n, v in results.items()}})
        return
    rows = []
    for name, value in results.items():
        d = describe(value)
        rows.append((name, d["type"], d.get("min", ""), d.get("max", ""), d.get("mean", ""), written.get(name, "")))
    table(["output", "type", "min", "max", "mean", "file"], rows, right=(2, 3, 4))
    say(f"took {human_time(took)}")


def describe(value: Any) -> dict[str, Any]:
    """What a person wants to know of an output at a glance."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return {"type": f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else str(value)}
    facts: dict[str, Any] = {"type": f"{value.dtype}[{','.join(map(str, value.shape))}]"}
    if value.size and value.dtype.kind not in "OUSc":
        wide = value.astype(np.float64)
        facts |= {"min": float(f"{wide.min():.6g}"), "max": float(f"{wide.max():.6g}"),
                  "mean": float(f"{wide.mean():.6g}")}
    return facts


def write_array(folder: Path, name: str, value: Any) -> Path:
    """Write one output; characters that a file name cannot hold become `_`."""
    import numpy as np

    safe = "".join(c if c.isalnum() or c in "-_.()" else "_" for c in name).lstrip(".") or "output"
    path = folder / f"{safe}.npy"
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype == object and all(isinstance(x, str) for x in array.ravel()):
        array = array.astype(str)
    if array.dtype == object:
        raise click.ClickException(f"the output '{name}' is a {type(value).__name__}, which .npy cannot hold plainly; "
                                   "leave out -o")
    # numpy does not know the narrow float types; they are written as float32, which holds each exactly.
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as f:
        np.save(f, array, allow_pickle=False)
    temporary.replace(path)
    return path
