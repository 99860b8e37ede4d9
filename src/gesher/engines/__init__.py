"""The engines, by name, imported when first asked for: ours from the table, others through the entry points
`gesher.engines` of the packages that bring them.

What a reader would guess wrong: ours are no entry points, because reading those of all installed packages takes ten
times as long as loading a kept session.
"""

from __future__ import annotations

import importlib
import time
from functools import cache
from os import PathLike
from pathlib import Path

from gesher.base.errors import UnsupportedError
from gesher.ir import Model
from gesher.ir.files import load

from .protocol import Engine, Options, Port, Session

__all__ = ["Engine", "Options", "Port", "Session", "choose", "engine", "names", "prepare"]

# Where ours are, the class by the engine's name.
OURS = {
    "reference": "gesher.engines.reference:ReferenceEngine",
    "compiled": "gesher.engines.compiled:CompiledEngine",
    "onnxruntime": "gesher.engines.onnxruntime:OnnxRuntimeEngine",
    "openvino": "gesher.engines.openvino:OpenVinoEngine",
    "torch": "gesher.engines.torch:TorchEngine",
}
# `auto` takes the first of these that is there and does not refuse the model.
AUTO_ORDER = ("compiled", "onnxruntime", "openvino", "reference")


@cache
def names() -> tuple[str, ...]:
    """Every known engine, present or not: ours first, then those of plug-ins."""
    from importlib.metadata import entry_points

    return (*OURS, *sorted({p.name for p in entry_points(group="gesher.engines")} - set(OURS)))


@cache
def engine(name: str) -> Engine:
    """The engine of that name, present or not.

    Raises:
        UnsupportedError: no such engine is known.
    """
    if name in OURS:
        module, _, kind = OURS[name].partition(":")
        ours: Engine = getattr(importlib.import_module(module), kind)()
        return ours
    from importlib.metadata import entry_points

    for point in entry_points(group="gesher.engines"):
        if point.name == name:
            made: Engine = point.load()()
            return made
    raise UnsupportedError(f"there is no engine '{name}'", who="gesher",
                           advice="the engines are " + ", ".join(names()) + "; `gesher engines` tells more")


def choose(model: Model) -> Engine:
    """The engine that `auto` means for this model."""
    tried = []
    for name in (*AUTO_ORDER, *(n for n in names() if n not in AUTO_ORDER)):
        if name not in names():
            continue
        candidate = engine(name)
        why = candidate.missing() or "; ".join(candidate.refuses(model))
        if not why:
            return candidate
        tried.append(f"{name}: {why}")
    raise UnsupportedError(f"no engine here can run {model.place}", advice=" | ".join(tried))


def prepare(model: Model | str | PathLike[str], name: str = "auto", options: Options | None = None) -> Session:
    """A session of `model`, or of the file of one, on the engine `name`.

    Raises:
        UnsupportedError: the engine is unknown, missing here, or refuses the model.
        FormatError: there is no such file, or it is no model.
    """
    options = options or Options()
    if not isinstance(model, (str, PathLike)):
        return _prepared(model, name, options)
    kept = _first(name).read_back(Path(model), options)
    if kept is None:
        opened = time.time_ns()
        kept = _prepared(load(model), name, options)
        kept.made_of_file(opened)
    return kept


def _first(name: str) -> Engine:
    """The engine that `auto` tries first, or the one of that name."""
    return engine(AUTO_ORDER[0] if name == "auto" else name)


def _prepared(model: Model, name: str, options: Options) -> Session:
    # A session that was kept runs: nothing else need be asked.
    kept = _first(name).read_back(model, options)
    if kept is not None:
        return kept
    chosen = choose(model) if name == "auto" else engine(name)
    why = chosen.missing()
    if why:
        raise UnsupportedError(f"the engine '{chosen.name}' cannot run here: {why}", who=chosen.name)
    reasons = chosen.refuses(model)
    if reasons:
        raise UnsupportedError(f"the engine '{chosen.name}' does not take this model: " + "; ".join(reasons),
                               who=chosen.name, place=(model.place,))
    return chosen.prepare(model, options)
