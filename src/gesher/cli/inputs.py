"""Options that several verbs share: the model, its inputs, dims, engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gesher.ir import Model

F = TypeVar("F", bound=Callable[..., Any])

model_argument = click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
threads_option = click.option("--threads", type=click.IntRange(min=0), default=0, show_default="all cores",
                              help="Threads of each session at the most.")
precision_option = click.option("--precision", type=click.Choice(["f32", "bf16"]), default="f32", show_default=True,
                                help="Of products of float32: bf16 rounds what they multiply, on engines that can.")


def feeds_options(f: F) -> F:
    """The options that `make_feeds` reads."""
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of random inputs."),
        click.option("--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224",
                     help="Shape of a random input; may be given again."),
        click.option("--dim", "dims", multiple=True, metavar="NAME=N",
                     help="Size of a symbolic dimension; may be given again."),
        click.option("--input", "given", multiple=True, metavar="NAME=FILE",
                     help="An input from a .npy file, or all of an .npz (FILE.npz without NAME=)."),
    ):
        f = option(f)
    return f


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary; the last `=` parts them, since names may hold one."""
    found = {}
    for text in texts:
        name, mark, value = text.rpartition("=")
        if not mark or not name:
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", param_hint=option)
        found[name] = value
    return found


def _number(text: str, option: str) -> int:
    try:
        n = int(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a whole number", param_hint=option) from None
    if n < 0:
        raise click.BadParameter(f"a size cannot be {n}", param_hint=option)
    return n


def read_given(given: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of `--input`."""
    found: dict[str, Any] = {}
    for text in given:
        name, path = _name_and_file(text)
        read = _read_arrays(path)
        if isinstance(read, dict):
            if name is not None:
                raise click.BadParameter(f"'{path}' holds several arrays; give it without NAME=", param_hint="--input")
            found |= read
        elif name is None:
            raise click.BadParameter(f"'{text}' is not NAME=FILE", param_hint="--input")
        else:
            found[name] = read
    return found


def _name_and_file(text: str) -> tuple[str | None, Path]:
    """`NAME=FILE` or `FILE`; names and files may hold a `=` themselves, so the part that is a file decides."""
    if Path(text).is_file():
        return None, Path(text)
    name, mark, file = text.rpartition("=")
    last = file
    while mark:
        if name and Path(file).is_file():
            return name, Path(file)
        name, mark, more = name.rpartition("=")
        file = f"{more}={file}"
    raise click.BadParameter(f"there is no file '{last}'", param_hint="--input")


def _read_arrays(path: Path) -> Any:
    """The array of a .npy file, or the arrays of an .npz by name."""
    import numpy as np

    try:
        read = np.load(path, allow_pickle=False)
        return {k: read[k] for k in read.files} if isinstance(read, np.lib.npyio.NpzFile) else read
    except Exception as e:  # numpy tells of broken files by errors of every kind
        why = "it holds pickled objects, or is another kind of file" if "allow_pickle" in str(e) else str(e)
        raise click.BadParameter(f"'{path}' is no .npy or .npz file of plain arrays: {why}",
                                 param_hint="--input") from None


def make_feeds(model: Model, given: tuple[str, ...], dims: tuple[str, ...], shapes: tuple[str, ...], seed: int,
               *, random: bool) -> Mapping[str, Any]:
    """The inputs of a run: those given, and, where `random`, random ones for the rest.

    Inputs that do not fit what the model declares are wrong use, so they end with exit code 2.
    """
    from gesher.base.errors import RunError
    from gesher.evaluator.feeds import Feeds
    from gesher.evaluator.random_feeds import random_feeds

    fixed = read_given(given)
    sizes = {k: _number(v, "--dim") for k, v in pairs(dims, "--dim").items()}
    wholes = {k: [_number(n, "--shape") for n in v.split("x") if n] for k, v in pairs(shapes, "--shape").items()}
    if not random and (sizes or wholes):
        raise click.UsageError("--dim and --shape are for random inputs: say --random too")
    try:
        feeds = random_feeds(model, seed=seed, fixed=fixed, dims=sizes, shapes=wholes) if random else fixed
        Feeds(model.graph, model.ir_version).check(feeds)
    except RunError as e:
        more = "" if random else "\n  --random makes inputs that are not given"
        raise click.UsageError(f"{e}{more if 'nothing is fed' in e.what else ''}") from None
    return feeds


def engine_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """One known engine, or `auto`."""
    from gesher.engines import names

    if value != "auto" and value not in names():
        raise click.BadParameter(f"there is no engine '{value}'; there are auto, {', '.join(names())}")
    return value


def engine_list(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """`a,b,c` as a list of known engines."""
    if value is None:
        return None
    from gesher.engines import names

    chosen = [v.strip() for v in value.split(",") if v.strip()]
    for name in chosen:
        if name not in names():
            raise click.BadParameter(f"there is no engine '{name}'; there are {', '.join(names())}")
    return chosen
