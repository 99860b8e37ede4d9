"""One estimator, whole: is all of it known, the inputs, the graph, and the trials that it must pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.evaluator.tables import COLUMNS
from gesher.frontends.protocol import Exported, ExportOptions
from gesher.ir import Edit, Model
from gesher.ops.build import Builder

from .inputs import Source, read_example
from .methods import asked_methods, choose
from .tables import MISSING_STRING, Frame
from .translation import TRANSLATORS, Outputs, Translation, find_translator, members_of
from .trees import WIDE_ML_OPSET, has_shared_leaves
from .trials import trials_of

DEFAULT_OPSET = 21
ML, ML_OPSET = "ai.onnx.ml", 3
SETTINGS = ("methods", "dtype", "on_error")


def translate(estimator: Any, example: Any, options: ExportOptions) -> Exported:
    """The model of a fitted estimator, and its trials.

    Raises:
        UnsupportedError: it is not fitted, or parts of it have no translator; all are named at once.
    """
    for setting in options.settings:
        if setting not in SETTINGS:
            raise UnsupportedError(f"there is no setting '{setting}' for scikit-learn", who="sklearn",
                                   advice="there are " + ", ".join(SETTINGS))
    asked = asked_methods(estimator, options.settings)
    source = read_example(estimator, example, next(iter(options.names.get("inputs") or []), None),
                          options.settings.get("dtype"))
    unknown = sorted({type(e).__name__ for e in _parts(estimator) if find_translator(e) is None})
    if unknown:
        raise UnsupportedError(f"{', '.join(unknown)} {'has' if len(unknown) == 1 else 'have'} no way to ONNX yet",
                               who="sklearn",
                               advice="these have: "
                               + ", ".join(sorted(n.split(".")[-1] for n in TRANSLATORS if "._" not in n))
                               + "; gesher.frontends.sklearn.translates registers one of your own")
    wide = source.dtype is dtypes.DOUBLE and not any(has_shared_leaves(e) for e in _parts(estimator))
    b = Builder({"": options.opset or DEFAULT_OPSET, ML: WIDE_ML_OPSET if wide else ML_OPSET}, type(estimator).__name__)
    on_error = options.settings.get("on_error", "fail")
    if on_error not in ("fail", "nan"):
        raise UnsupportedError(f"there is no on_error={on_error!r}", who="sklearn", advice="'fail' and 'nan' there are")
    t = Translation(b, source.dtype, on_error=on_error)
    x = source.enter(b)
    made = t.apply(estimator, x)
    outputs = choose(t, estimator, made, asked)
    taken = {*source.names.values()}
    names = options.names.get("outputs") or [f"{o.name}_output" if o.name in taken else o.name for o in outputs]
    for given, output in zip(names, outputs):
        b.output(output.value, given)
    model = b.model(producer_name="gesher", metadata=_metadata(estimator, source, t))
    _drop_unused(model)
    trials = trials_of(b, estimator, source, outputs[:len(names)], names, made.in_float64)
    if made.slack and source.dtype is dtypes.DOUBLE:
        loose = {n: made.slack for n, o in zip(names, outputs) if o.kind in ("transformed", "distances")}
        trials = [replace(trial, atol=loose) for trial in trials]
    return Exported(model, trials)


def _metadata(estimator: Any, source: Source, t: Translation) -> dict[str, str]:
    import sklearn

    said = {"gesher.source": f"scikit-learn {sklearn.__version__}"}
    columns = getattr(estimator, "feature_names_in_", None)
    if columns is not None and not isinstance(source.rows, Frame):
        said[COLUMNS] = json.dumps([str(c) for c in columns])
    words = [source.names[c] for c, kind in source.types.items() if kind is dtypes.STRING]
    if words:
        said["gesher.missing"] = json.dumps(dict.fromkeys(words, MISSING_STRING))
    if t.raises:
        said["gesher.raises"] = json.dumps({"how": t.on_error, "where": t.raises})
    return said


def _drop_unused(model: Model) -> None:
    """Take out the nodes whose values nobody asked for, and the constants of theirs."""
    edit, wanted = Edit(model), set(model.graph.outputs)
    for node in reversed(list(model.graph.nodes)):
        if not any(o is not None and (o.uses or o in wanted) for o in node.outputs):
            edit.drop(node)
    for value in list(model.graph.initializers):
        if not value.uses and value not in wanted:
            edit.drop_initializer(value)


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and those that composing ones hold."""
    yield estimator
    for inner in members_of(estimator):
        yield from _parts(inner)


__all__ = ["Outputs", "translate"]
