"""Rows that are dictionaries: a column for each key, as DictVectorizer and FeatureHasher read them.

A key that a row has not got is fed as 0, which changes nothing; a string that it has not got as "". The keys are the
example's: a row of other keys needs another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .tables import MISSING_STRING, Array, Rows, Table
from .translation import Outputs, Translation, columnwise, inverts, refuse, translates

columnwise("feature_extraction.DictVectorizer")


@dataclass(slots=True)
class Records(Rows):
    """Dictionaries; `kinds` tells the type that each key's column is fed as.

    Attributes:
        pairs: the estimator takes lists of pairs in their place.
    """

    rows: list[Mapping[str, Any]]
    kinds: Mapping[str, DType]
    pairs: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Array) -> Records:
        return Records([self.rows[int(i)] for i in np.asarray(index)], self.kinds, self.pairs)

    def mixed(self, rng: np.random.Generator, count: int) -> Records:
        made: list[dict[str, Any]] = [{} for _ in range(count)]
        for key in self.kinds:
            for row, i in zip(made, rng.integers(0, len(self.rows), count)):
                if key in self.rows[i]:
                    row[key] = self.rows[i][key]
        return Records(list(made), self.kinds, self.pairs)

    def given(self, in_float64: bool = False) -> Any:
        return [list(r.items()) for r in self.rows] if self.pairs else [dict(r) for r in self.rows]

    def feeds(self) -> dict[str, Array]:
        fed = {}
        for key, kind in self.kinds.items():
            if kind is dtypes.STRING:
                column = np.array([r.get(key, MISSING_STRING) for r in self.rows], object)
            else:
                held = [r.get(key, 0) for r in self.rows]
                column = np.array([np.nan if v is None else v for v in held]).astype(kind.numpy)
            fed[key] = column.reshape(-1, 1)
        return fed

    def strange(self) -> Records | None:
        """A few rows with strings that training has not seen, and without a key each."""
        keys = list(self.kinds)
        made = []
        for i, row in enumerate(self.rows[:max(6, len(keys))]):
            key = keys[i % len(keys)]
            made.append({k: "?unseen?" if k != key and isinstance(v, str) else v for k, v in row.items() if k != key})
        return Records(list(made), self.kinds, self.pairs)


def takes_records(estimator: Any) -> bool:
    """True where an estimator's rows are dictionaries, or lists of pairs."""
    return type(estimator).__name__ == "DictVectorizer" or (
        type(estimator).__name__ == "FeatureHasher" and estimator.input_type != "string")


def read_records(estimator: Any, example: Any) -> Records:
    """The example's rows, whose keys are all that the model will know.

    Raises:
        UnsupportedError: they are no dictionaries of strings to numbers or strings, or a key has both.
    """
    name = type(estimator).__name__
    pairs = getattr(estimator, "input_type", "dict") == "pair"
    if isinstance(example, Mapping) and any(np.ndim(v) for v in example.values()):
        example = [dict(zip(example, values)) for values in zip(*example.values())]
    rows = [example] if isinstance(example, Mapping) else list(example)
    try:
        dictionaries = [dict(r) for r in rows]
    except (TypeError, ValueError) as e:
        raise UnsupportedError(f"the example of {name} is no list of {'lists of pairs' if pairs else 'dictionaries'}: "
                               f"{e}", who="sklearn", advice="give rows as the estimator takes them") from e
    if any(len(d) < len(r) for d, r in zip(dictionaries, rows)):
        raise UnsupportedError(f"a row of the example of {name} has a name twice, and a column has one value a row",
                               who="sklearn", advice="add the values up")
    kinds: dict[str, DType] = {}
    for key in dict.fromkeys(k for d in dictionaries for k in d):
        if not isinstance(key, str):
            raise UnsupportedError(f"the key {key!r} of the example of {name} is no string", who="sklearn",
                                   advice="keys become the model's inputs, whose names are strings")
        held = [d[key] for d in dictionaries if key in d]
        if all(isinstance(v, str) for v in held):
            kinds[key] = dtypes.STRING
            if MISSING_STRING in held:
                raise UnsupportedError(f"'{key}' is an empty string in the example of {name}, which stands for a key "
                                       "that a row has not got", who="sklearn", advice="give it a name, as 'none'")
        elif all(v is None or (isinstance(v, (Number, np.number, np.bool_)) and not isinstance(v, complex))
                 for v in held):
            kinds[key] = dtypes.FLOAT if all(isinstance(v, np.float32) for v in held) else dtypes.DOUBLE
        else:
            found = ", ".join(sorted({type(v).__name__ for v in held}))
            raise UnsupportedError(f"'{key}' holds {found} in the example of {name}, which has no one type in ONNX",
                                   who="sklearn", advice="give numbers or strings under one key; a list becomes keys "
                                                         "of its own, as {'genre=drama': 1}")
    if not kinds:
        raise UnsupportedError(f"the example of {name} has no keys", who="sklearn", advice="give rows with all keys")
    return Records(list(dictionaries), kinds, pairs)


@translates("feature_extraction.DictVectorizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    """A number goes to the column of its key, a string marks the column of key and string."""
    table, sums = t.table(x), dict[str, list[Value]]()
    known, explained = model.vocabulary_, set[str]()
    for column, key in zip(table.values(), table.names):
        if t.b.dtype(column) is not dtypes.STRING:
            sums.setdefault(key, []).append(_as_kept(t, model, t.matrix(column)))
            explained.add(key)
            continue
        start = f"{key}{model.separator}"
        for feature in known:
            if feature.startswith(start):
                word = t.b.constant(np.array([[feature[len(start):]]], object))
                sums.setdefault(feature, []).append(t.number(t.b.Equal(column, word)))
                explained.add(feature)
    lacking = [f for f in model.feature_names_ if f not in explained]
    if lacking:
        raise refuse(model, f" on an example without a key for the feature '{lacking[0]}'",
                     "give rows that have every key: keys become the model's inputs")
    columns = []
    for feature in model.feature_names_:
        first, *more = sums[feature]
        for value in more:
            first = t.b.Add(first, value)
        columns.append(first)
    return Outputs(transformed=t.join(columns))


def _as_kept(t: Translation, model: Any, x: Value) -> Value:
    """Numbers as the type that the vectorizer keeps them in."""
    kind = np.dtype(model.dtype)
    if kind == np.float64:
        return x
    if kind not in (np.float32, np.int64, np.int32):
        raise refuse(model, f"(dtype={kind.name})", "float32, float64, int32 and int64 have")
    return t.number(t.b.Cast(x, to=dtypes.from_numpy(kind).code))


@inverts("feature_extraction.DictVectorizer")
def _(t: Translation, model: Any, x: Any) -> Table:
    """A column for each feature; 0 where a row's dictionary has not got it."""
    matrix, width = t.matrix(x, model), len(model.feature_names_)
    if (t.b.shape(matrix) or (0, None))[1] != width:
        raise refuse(model, f".inverse_transform of anything but {width} columns")
    return Table([t.column(matrix, i) for i in range(width)], list(model.feature_names_), apart=True)
