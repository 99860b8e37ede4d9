"""One estimator, whole: is all of it known, the inputs, the graph, and the trials that it must pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.evaluator.tables import COLUMNS
from gesher.frontends.protocol import Exported, ExportOptions, Trial
from gesher.ir import Edit, Model
from gesher.ops.build import Builder

from .inputs import Source, read_example
from .inverses import inverse_trials, joined, read_transformed
from .methods import INVERSE, KNOWN, asked_methods, choose
from .tables import MISSING_STRING, Frame
from .translation import (
    INVERTERS,
    TRANSLATORS,
    Outputs,
    Translation,
    find_inverter,
    find_translator,
    inverse_parts,
    members_of,
)
from .trees import WIDE_ML_OPSET, has_shared_leaves
from .trials import trials_of

DEFAULT_OPSET = 21
ML, ML_OPSET = "ai.onnx.ml", 3
# The relative difference that a part which computes in float32 explains.
_FLOAT32 = 1e-5
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
    on_error = options.settings.get("on_error", "fail")
    if on_error not in ("fail", "nan"):
        raise UnsupportedError(f"there is no on_error={on_error!r}", who="sklearn", advice="'fail' and 'nan' there are")
    asked = asked_methods(estimator, options.settings)
    forth = asked is None or asked != [INVERSE]
    back = asked is not None and INVERSE in asked
    inputs, dtype = list(options.names.get("inputs") or []), options.settings.get("dtype")
    _refuse_unknown(estimator, forth, back)
    source = read_example(estimator, example, inputs.pop(0) if inputs else None, dtype) if forth else None
    turned = read_transformed(estimator, example, inputs.pop(0) if inputs else None, dtype, source) if back else None
    wide = source is not None and source.dtype is dtypes.DOUBLE and not any(
        has_shared_leaves(e) for e in _parts(estimator))
    b = Builder({"": options.opset or DEFAULT_OPSET, ML: WIDE_ML_OPSET if wide else ML_OPSET}, type(estimator).__name__)
    raises: list[str] = []
    made = Outputs()
    if source is not None:
        t = Translation(b, source.dtype, raises, on_error)
        made = t.apply(estimator, source.enter(b))
    if turned is not None:
        t = Translation(b, turned.dtype, raises, on_error)
        made.inverse = t.invert(estimator, turned.enter(b))
    outputs = choose(t, estimator, made, asked)
    sources = [s for s in (source, turned) if s is not None]
    taken = {name for s in sources for name in s.names.values()}
    names = options.names.get("outputs") or [f"{o.name}_output" if o.name in taken else o.name for o in outputs]
    for given, output in zip(names, outputs):
        b.output(output.value, given)
    model = b.model(producer_name="gesher", metadata=_metadata(estimator, sources, t, forth))
    _drop_unused(model)
    if not options.verify:
        return Exported(model, [])
    forth_trials: list[Trial] = []
    back_trials: list[Trial] = []
    asks = [(o, n) for o, n in zip(outputs, names) if o.method != INVERSE]
    if source is not None:
        forth_trials = trials_of(b, estimator, source, [o for o, _ in asks], [n for _, n in asks], made.in_float64)
        if made.slack and source.dtype is dtypes.DOUBLE:
            loose = {n: made.slack for o, n in asks if o.kind in made.slack_of}
            forth_trials = [replace(trial, atol=loose) for trial in forth_trials]
        if source.dtype is dtypes.DOUBLE and any(type(e).__module__.startswith("xgboost.") for e in _parts(estimator)):
            forth_trials = [_in_float32(trial) for trial in forth_trials]
    if turned is not None:
        asks = [(o, n) for o, n in zip(outputs, names) if o.method == INVERSE]
        back_trials = inverse_trials(b, estimator, turned, [o for o, _ in asks], [n for _, n in asks], t.doubts)
    return Exported(model, joined(forth_trials, back_trials))


def beyond(estimator: Any, example: Any, options: ExportOptions, error: Exception) -> UnsupportedError:
    """The error for an estimator on which a translator failed: as a rule, what was fitted cannot answer either."""
    name = type(estimator).__name__
    methods = options.settings.get("methods") or KNOWN
    for method in ([methods] if isinstance(methods, str) else methods):
        if method == INVERSE or example is None or not hasattr(estimator, method):
            continue
        try:
            getattr(estimator, method)(example)
        except Exception as e:    # scikit-learn's own, of many kinds
            return UnsupportedError(f"{name}.{method} itself cannot answer for the example: {e}", who="sklearn",
                                    advice="export an estimator that answers for the example that is given")
    return UnsupportedError(f"{name} as it was fitted is beyond its translator: {type(error).__name__}: {error}",
                            who="sklearn", advice="this is a fault of the export; please report it with the object "
                                                  "that you exported")


def _in_float32(trial: Trial) -> Trial:
    """The trial with what sums of float32 are allowed to differ in: a part of the estimator computes in it whatever it
    is given."""
    numbers = {n: np.asarray(a) for n, a in trial.answers.items()}
    numbers = {n: a for n, a in numbers.items() if a.dtype.kind == "f"}
    floors = {n: _FLOAT32 * float(np.abs(a[np.isfinite(a)]).max(initial=1e-6)) for n, a in numbers.items()}
    return replace(trial, rtol=dict(trial.rtol) | dict.fromkeys(numbers, _FLOAT32),
                   atol={n: max(floor, trial.atol.get(n, 0)) for n, floor in floors.items()})


def _refuse_unknown(estimator: Any, forth: bool, back: bool) -> None:
    """All that nobody knows how to translate, at once.

    Raises:
        UnsupportedError: there is something.
    """
    unknown = sorted({type(e).__name__ for e in _parts(estimator) if find_translator(e) is None}) if forth else []
    if unknown:
        raise UnsupportedError(f"{', '.join(unknown)} {'has' if len(unknown) == 1 else 'have'} no way to ONNX yet",
                               who="sklearn",
                               advice="these have: "
                               + ", ".join(sorted(n.split(".")[-1] for n in TRANSLATORS if "._" not in n))
                               + "; gesher.frontends.sklearn.translates registers one of your own")
    unknown = sorted({type(e).__name__ for e in inverse_parts(estimator) if not find_inverter(e)}) if back else []
    if unknown:
        raise UnsupportedError(f"{', '.join(unknown)}.{INVERSE} {'has' if len(unknown) == 1 else 'have'} no way to "
                               "ONNX yet", who="sklearn",
                               advice="these have: " + ", ".join(sorted(n.split(".")[-1] for n in INVERTERS))
                               + "; gesher.frontends.sklearn.inverts registers one of your own")


def _metadata(estimator: Any, sources: list[Source], t: Translation, forth: bool) -> dict[str, str]:
    import sklearn

    said = {"gesher.source": f"scikit-learn {sklearn.__version__}"}
    columns = getattr(estimator, "feature_names_in_", None)
    if columns is not None and forth and len(sources) == 1 and not isinstance(sources[0].rows, Frame):
        said[COLUMNS] = json.dumps([str(c) for c in columns])
    words = [s.names[c] for s in sources for c, kind in s.types.items() if kind is dtypes.STRING]
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
