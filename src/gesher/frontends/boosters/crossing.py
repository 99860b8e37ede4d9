"""What the boosters' frontends share: the example as a matrix, the graph's ends, and the rows to be verified with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.evaluator.tables import COLUMNS
from gesher.frontends.boundaries import on_thresholds
from gesher.frontends.forest import ML, Trees, ml_version
from gesher.frontends.protocol import Exported, ExportOptions, Trial
from gesher.frontends.sklearn.translation import Translation
from gesher.ir import Model, Value
from gesher.ops.build import Builder
from gesher.symbolic import sym

Array = np.ndarray[Any, Any]

DEFAULT_OPSET = 21
# Rows of all trials times the comparisons that one costs: some tens of milliseconds on the reference engine. However
# much a row costs, there are some.
_BUDGET = 600_000
_ROWS = range(240, 1500)
# What share of the rows a trial has.
_SHARES = {"example": 0.4, "columns shuffled": 0.2, "rows on thresholds": 0.3, "missing values": 0.1}


@dataclass(slots=True)
class Crossing:
    """One export on its way: the builder, and what the caller gave.

    Attributes:
        who: the frontend's name.
        features: how many columns a row has.
        rows: the example as a matrix of float32 or float64, or None.
        dtype: of the input, FLOAT or DOUBLE.
    """

    who: str
    title: str
    features: int
    rows: Array | None
    dtype: DType
    options: ExportOptions
    b: Builder = field(init=False)
    x: Value = field(init=False)

    def begin(self, *, shared: bool = False, wide: bool | None = None) -> Translation:
        """Make the graph's input, and a translation that computes in the input's type (float32 where not `wide`)."""
        wide = self.dtype is dtypes.DOUBLE if wide is None else wide
        opset = self.options.opset or DEFAULT_OPSET
        self.b = Builder({"": opset, ML: ml_version(opset, wide, shared, self.who)}, self.title)
        self.x = self.b.input(self.input_name, self.dtype, (sym("rows"), self.features))
        if self.dtype is dtypes.DOUBLE and not wide:
            self.x = self.b.Cast(self.x, to=dtypes.FLOAT.code)
        return Translation(self.b, dtypes.DOUBLE if wide else dtypes.FLOAT)

    @property
    def input_name(self) -> str:
        return (self.options.names.get("inputs") or ["X"])[0]

    def end(self, outputs: Mapping[str, Value], source: str, names: Sequence[str], trials: Iterable[Trial]) -> Exported:
        """The model with these outputs.

        Args:
            source: the library and its version, or what file it was read from.
            names: of the features; they are kept as metadata.
            trials: with answers by the outputs' own names.
        """
        given = list(self.options.names.get("outputs") or outputs)
        renamed = dict(zip(outputs, given))
        for name, value in outputs.items():
            if name in renamed:
                self.b.output(value, renamed[name])
        metadata = {"gesher.source": source}
        if names:
            metadata[COLUMNS] = json.dumps(list(names))
        model: Model = self.b.model(producer_name="gesher", metadata=metadata)

        def kept(values: Mapping[str, Any]) -> dict[str, Any]:
            return {renamed[k]: v for k, v in values.items() if k in renamed}

        return Exported(model, [Trial(t.name, t.feeds, kept(t.answers), rtol=kept(t.rtol), atol=kept(t.atol))
                                for t in trials])


def crossing(who: str, title: str, features: int, example: Any, options: ExportOptions,
             names: Sequence[str] = ()) -> Crossing:
    """Look at the example.

    Raises:
        UnsupportedError: it is no matrix of numbers, or not of the model's width.
    """
    if isinstance(example, dict):
        if len(example) != 1:
            raise UnsupportedError(f"a model of {who} takes one matrix, the example has {len(example)}", who=who)
        example = next(iter(example.values()))
    rows = None if example is None else as_matrix(example, who, names)
    if rows is not None and rows.shape[1] != features:
        raise UnsupportedError(f"the example has {rows.shape[1]} features, the model takes {features}", who=who)
    dtype = dtypes.DOUBLE if rows is not None and rows.dtype == np.float64 else dtypes.FLOAT
    return Crossing(who, title, features, rows, dtype, options)


def as_matrix(example: Any, who: str, names: Sequence[str] = ()) -> Array:
    """Rows as a matrix of float64 where the example's numbers are that, else of float32.

    Frames give their columns in the model's order where it has names; categories become their codes, and what is
    missing becomes NaN.
    """
    if hasattr(example, "columns") and hasattr(example, "__getitem__"):
        wanted = list(names) if names and set(names) == set(map(str, example.columns)) else list(example.columns)
        by_name = {str(c): c for c in example.columns}
        columns = [_column(example[by_name[str(c)]], str(c), who) for c in wanted]
        if not columns:
            raise UnsupportedError("the example has no columns", who=who)
        kind = np.float64 if any(c.dtype == np.float64 for c in columns) else np.float32
        return np.stack([c.astype(kind) for c in columns], 1)
    dense = example.toarray() if hasattr(example, "toarray") else np.asarray(example)
    if dense.ndim != 2 or dense.dtype.kind not in "fiub":
        raise UnsupportedError(f"the example is no matrix of numbers: its shape is {dense.shape}, its type "
                               f"{dense.dtype}", who=who)
    return np.asarray(dense, dense.dtype if dense.dtype == np.float64 else np.float32)


def _column(column: Any, name: str, who: str) -> Array:
    codes = getattr(getattr(column, "cat", None), "codes", None)
    if codes is not None:
        found = np.asarray(codes, np.float32)
        return np.where(found < 0, np.float32(np.nan), found)
    values = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if values.dtype.kind in "iub":
        return values.astype(np.float32)
    if values.dtype.kind != "f":
        raise UnsupportedError(f"the column '{name}' of the example has the type {values.dtype}, which is no number",
                               who=who, advice="make it a column of numbers, or of pandas' categories")
    return values if values.dtype == np.float64 else values.astype(np.float32)


def trial_rows(c: Crossing, forests: Sequence[Trees], steps: int, *, missing: bool = True,
               linear: bool = False) -> dict[str, Array]:
    """The example's rows, rows of columns mixed, one row, and rows on thresholds and a rounding beside them; none where
    nobody wants to verify.

    Args:
        forests: whose thresholds are tried.
        steps: the comparisons that a row costs.
        missing: put NaN here and there.
        linear: numbers are weighed, too, so that they shall not be extreme.
    """
    if not c.options.verify:
        return {}
    thresholds = _thresholds_of(forests)
    rng = np.random.default_rng(0)
    kind = c.dtype.numpy
    rows = int(np.clip(_BUDGET // max(steps, 1), _ROWS.start, _ROWS.stop))
    most = {title: int(rows * share) for title, share in _SHARES.items()}
    if c.rows is not None and len(c.rows):
        real = c.rows[:most["example"]].astype(kind)
        some = c.rows[rng.integers(0, len(c.rows), 5000)] if len(c.rows) > 5000 else c.rows
        mixed = np.stack([rng.choice(some[:, j], most["columns shuffled"]) for j in range(c.features)], 1).astype(kind)
        sets = {"example": real, "columns shuffled": mixed, "one row": real[:1]}
    else:
        columns = []
        for j in range(c.features):
            at = np.asarray(thresholds.get(j, np.zeros(1)), np.float64)
            at = at[np.isfinite(at)]
            at = at if len(at) else np.zeros(1)
            noise = rng.standard_normal(most["example"]) * (at.std() * 0.3 + 0.1)
            columns.append(rng.choice(at, len(noise)) + noise)
        sets = {"random rows": np.stack(columns, 1).astype(kind)}
        sets["one row"] = sets["random rows"][:1]
    if thresholds and not linear:
        some = next(iter(sets.values()))
        sets["rows on thresholds"] = on_thresholds(some, thresholds, most["rows on thresholds"], rng)
    if missing:
        holes = np.resize(next(iter(sets.values())), (most["missing values"], c.features)).copy()
        holes[rng.random(holes.shape) < 0.3] = np.nan
        holes[-1] = np.nan
        sets["missing values"] = holes
    return sets


def trials(c: Crossing, sets: Mapping[str, Array], answer: Callable[[Array], Mapping[str, Array]], rounding: float,
           near: Callable[[Mapping[str, Array]], Array] | None = None) -> list[Trial]:
    """Ask the library.

    Args:
        answer: what the library says to rows, by output.
        rounding: the relative difference that the order of its own sums explains.
        near: for given answers, True for the rows whose label is a toss-up of that rounding.
    """
    out: list[Trial] = []
    if not sets:
        return out
    # Asked at once, since a library takes its time before the first row.
    whole, end = dict(answer(np.concatenate(list(sets.values())))), 0
    if "label" in whole and whole["label"].dtype.kind == "f":
        # Labels that are no whole numbers come in the type that the model computes in.
        whole["label"] = whole["label"].astype(c.dtype.numpy)
    for title, x in sets.items():
        said, end = {k: v[end:end + len(x)] for k, v in whole.items()}, end + len(x)
        if near is not None:
            keep = ~near(said)
            if not keep.any():
                continue
            x, said = x[keep], {k: v[keep] for k, v in said.items()}
        limits = {k: rounding for k, v in said.items() if v.dtype.kind == "f"}
        floors = {k: rounding * float(np.abs(v[np.isfinite(v)]).max(initial=1e-6)) for k, v in said.items()
                  if v.dtype.kind == "f"}
        out.append(Trial(title, {c.input_name: x}, said, rtol=limits, atol=floors))
    return out


def toss_up(said: Mapping[str, Array], gap: float) -> Array:
    """True for the rows whose label the last digits of the scores decide."""
    shares = said.get("probabilities")
    if shares is None:
        return np.zeros(len(next(iter(said.values()))), bool)
    if said["label"].ndim == 2:
        return np.asarray((np.abs(shares - 0.5) < gap).any(1))
    best = np.sort(shares, 1)
    near: Array = best[:, -1] - best[:, -2] < gap
    return near


def as_label(values: Array) -> Array:
    """Labels in a type that they have in ONNX."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    return values.astype(str).astype(object) if values.dtype.kind in "USO" else values


def _thresholds_of(forests: Iterable[Trees]) -> dict[int, Array]:
    """What each feature is compared with, over several forests."""
    found: dict[int, list[Array]] = {}
    for forest in forests:
        for f, values in forest.thresholds():
            found.setdefault(f, []).append(values)
    return {f: np.unique(np.concatenate(v)) for f, v in found.items()}
