"""From a framework's object to a model; every export is held against its source before it is given out."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib import import_module
from typing import Any

from gesher.base.errors import GesherError, ModelError, RunError, UnsupportedError
from gesher.evaluator import Evaluator
from gesher.evaluator.difference import Difference, difference
from gesher.ir import Model
from gesher.ops.releases import NEWEST

from .protocol import Assumption, Exported, ExportOptions, Frontend, Trial, declare
from .sources import read_source

__all__ = ["Assumption", "ExportOptions", "Exported", "Frontend", "Trial", "export", "frontend_for", "frontends",
           "verify"]

OLDEST_OPSET = 7


# Where ours are, the class by the frontend's name; others come through the entry points of their packages.
OURS = {
    "catboost": "gesher.frontends.boosters:CatBoostFrontend",
    "lightgbm": "gesher.frontends.boosters:LightGBMFrontend",
    "sklearn": "gesher.frontends.sklearn:SklearnFrontend",
    "torch": "gesher.frontends.torch:TorchFrontend",
    "xgboost": "gesher.frontends.boosters:XGBoostFrontend",
}


@cache
def frontends() -> tuple[Frontend, ...]:
    """Every known frontend, its framework installed or not."""
    from importlib.metadata import entry_points

    found = {name: _ours(where) for name, where in OURS.items()}
    found |= {p.name: p.load() for p in entry_points(group="gesher.frontends") if p.name not in OURS}
    return tuple(found[name]() for name in sorted(found))


def _ours(where: str) -> type[Frontend]:
    module, _, name = where.partition(":")
    kind: type[Frontend] = getattr(import_module(module), name)
    return kind


def frontend_for(obj: Any) -> Frontend:
    """The frontend that takes `obj`.

    Raises:
        UnsupportedError: none does, or its framework is not installed.
    """
    for f in frontends():
        if f.takes(obj):
            why = f.missing()
            if why:
                raise UnsupportedError(f"the frontend '{f.name}' cannot work here: {why}", who=f.name)
            return f
    raise UnsupportedError(f"no frontend takes a {type(obj).__module__}.{type(obj).__qualname__}",
                           advice="there are frontends for " + ", ".join(f.name for f in frontends()))


def export(obj: Any, example: Any = None, options: ExportOptions | None = None) -> Model:
    """The model of `obj` (or of what the file `obj` holds), verified against it unless the options say otherwise.

    Raises:
        UnsupportedError: parts of it cannot cross.
        ModelError: the result does not answer as the framework does.
    """
    options = options or ExportOptions()
    if options.opset is not None and not OLDEST_OPSET <= options.opset <= NEWEST.opset:
        raise UnsupportedError(f"opset {options.opset} cannot be exported to",
                               advice=f"take one of {OLDEST_OPSET} to {NEWEST.opset}")
    if isinstance(obj, (str, os.PathLike)):
        obj = read_source(os.fspath(obj))
    made = frontend_for(obj).export(obj, example, options)
    if options.verify:
        verify(made)
    return made.model


def verify(made: Exported) -> None:
    """Run the model's trials on the reference engine, and write the outcome into its metadata.

    Raises:
        ModelError: an answer differs from the framework's.
        UnsupportedError: it differs where an assumption of the model does not hold.
    """
    if not made.trials:
        raise ModelError("the export has nothing to be verified with", rule="export-unverified",
                         advice="give an example input, or export with verify=False")
    evaluator = Evaluator(made.model)
    worst: list[Difference] = []
    for trial in made.trials:
        try:
            got = evaluator.run(trial.feeds)
        except RunError as e:
            raise _differs(made, trial, f"it does not run: {e.what}", e.place) from e
        for name, answer in trial.answers.items():
            d = difference(got[name], answer, rtol=trial.rtol.get(name), atol=trial.atol.get(name), output=name)
            if not d.ok:
                raise _differs(made, trial, f"output '{name}' " + (
                    d.why or f"differs in {d.mismatches} of {d.size} elements, by {d.max_abs:.3g} at the most"))
            worst.append(d)
    harmless = {a for t in made.trials for a in t.broken}
    declare(made.model, [a for a in made.assumptions if a not in harmless])
    made.model.metadata["gesher.verified"] = json.dumps({
        "engine": "reference", "trials": [t.name for t in made.trials], "sizes": [dict(t.sizes) for t in made.trials],
        "max_abs": {o: max(d.max_abs for d in worst if d.output == o) for o in {d.output for d in worst}}},
        sort_keys=True)


def _differs(made: Exported, trial: Trial, how: str, place: tuple[str, ...] = ()) -> GesherError:
    """The error for a trial that failed: with the assumption that does not hold there, or the part that differs."""
    sizes = ", ".join(f"{n} {v}" for n, v in trial.sizes.items())
    at = f"the trial '{trial.name}'" + (f" ({sizes})" if sizes else "")
    if trial.broken:
        return UnsupportedError(
            f"the exported model is another function than its source at sizes that were asked for: {how} in {at}, "
            "because it was captured where " + " and ".join(map(str, trial.broken)),
            place=(made.model.place, *place), advice="ask for the sizes for which that holds: ranges={'dim': (least, "
                                                     "greatest)}, or an expression such as '32*height' for a dim")
    if made.ambiguous:
        return UnsupportedError(f"{how} in {at}: {made.ambiguous}", place=(made.model.place, *place),
                                advice="give out what does not hang on that choice (v @ diag(w) @ v.T, abs(v)), make "
                                       "the choice in the module, or export with verify=False")
    where = made.locate(trial) if made.locate is not None else ""
    return ModelError(f"the exported model answers differently from its source: {how} in {at}"
                      + (f"; {where}" if where else ""), rule="export-differs", place=(made.model.place, *place),
                      advice="this is a fault of the export; please report it with the object that you exported")
