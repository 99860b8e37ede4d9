"""`gesher run`: run a model on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .console import human_time, json_text, say, say_json, table, working
from .inputs import (
    engine_name,
    feeds_options,
    json_option,
    make_feeds,
    model_argument,
    precision_option,
    threads_option,
)


@click.command()
@model_argument
@feeds_options
@click.option("--random", is_flag=True, help="Make random inputs for all that are not given.")
@click.option("--engine", default="auto", show_default=True, callback=engine_name, help="See `gesher engines`.")
@threads_option
@precision_option
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              help="Folder that gets one NAME.npy an output (lists of arrays: NAME.npz, maps: NAME.json).")
@json_option
def command(model: Path, given: tuple[str, ...], dims: tuple[str, ...], shapes: tuple[str, ...], seed: int,
            random: bool, engine: str, threads: int, precision: str, output: Path | None, as_json: bool) -> None:
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
        session = gesher.session(loaded, engine, threads=threads, precision=precision, seed=seed)
    with session, working(f"running {model.name}"):
        start = time.perf_counter()
        results = session.run(feeds)
        took = time.perf_counter() - start
    written: dict[str, str] = {}
    taken: set[str] = set()
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, value in results.items():
            written[name] = str(write_output(output, free_name(name, taken), value))
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


def free_name(name: str, taken: set[str]) -> str:
    """A file name for an output: characters that one cannot hold become `_`, and none is given twice."""
    safe = "".join(c if c.isalnum() or c in "-_.()" else "_" for c in name).lstrip(".")[:100] or "output"
    free, n = safe, 1
    # Without regard to case, as some file systems are.
    while free.lower() in taken:
        n += 1
        free = f"{safe}-{n}"
    taken.add(free.lower())
    return free


def write_output(folder: Path, name: str, value: Any) -> Path:
    """Write one output, whole or not at all."""
    import numpy as np

    arrays = isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value)
    path = folder / f"{name}.{'npy' if isinstance(value, np.ndarray) else 'npz' if arrays else 'json'}"
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as f:
            if isinstance(value, np.ndarray):
                np.save(f, storable(value), allow_pickle=False)
            elif arrays:
                np.savez(f, allow_pickle=False, **{str(i): storable(v) for i, v in enumerate(value)})
            else:
                f.write(json_text(value).encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def storable(array: Any) -> Any:
    """The array in a type that .npy files know: narrow numbers in the next wider one, which holds each exactly."""
    import numpy as np

    if array.dtype == object:
        return array.astype(str)
    if array.dtype.isbuiltin == 2:    # registered by ml_dtypes
        return array.astype(np.int8 if "int" in array.dtype.name else np.float32)
    return array
