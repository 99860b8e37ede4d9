"""The inputs of a model, from its example: a matrix, a table by columns, or texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.ops.build import Builder
from gesher.symbolic import sym

from .records import Records, read_records, takes_records
from .tables import Array, Frame, Matrix, Rows, Table, as_frame, column_array, is_frame

# They take labels or texts (rows,), one for each row, and not a matrix.
VECTORS = ("LabelEncoder", "LabelBinarizer", "CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
TEXTS = VECTORS[2:]


@dataclass(slots=True)
class Source:
    """What an estimator is shown: rows (None without an example), the types of the model, its first value.

    Attributes:
        dtype: what the model computes in.
        types: the type of each input, by the frame's column or, for a matrix, under its name.
        count: the name of the number of rows.
    """

    rows: Rows | None
    dtype: DType
    types: dict[Any, DType]
    names: dict[Any, str]
    shape: tuple[int, ...] = ()
    count: str = "rows"

    def enter(self, b: Builder) -> Value | Table:
        """Declare the inputs."""
        if isinstance(self.rows, Records):
            keys = list(self.types)
            return Table([b.input(self.names[k], self.types[k], (sym(self.count), 1)) for k in keys], keys)
        if not isinstance(self.rows, Frame):
            (key, kind), = self.types.items()
            return b.input(self.names[key], kind, (sym(self.count), *self.shape))
        columns: list[Value | str] = []
        for column in self.rows.frame.columns:
            if column in self.types:
                columns.append(b.input(self.names[column], self.types[column], (sym(self.count), 1)))
            else:
                columns.append(column_array(self.rows.frame[column])[1])
        return Table(columns, [str(c) for c in self.rows.frame.columns])


def first_of(estimator: Any) -> Any:
    """The estimator that sees the input first: down pipelines and searches, and nothing else."""
    while True:
        if type(estimator).__name__ == "Pipeline" and estimator.steps:
            estimator = next((s for _, s in estimator.steps if s is not None and not isinstance(s, str)), None)
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif type(estimator).__name__ == "FeatureUnion" and estimator.transformer_list:
            estimator = estimator.transformer_list[0][1]
        else:
            return estimator


def read_example(estimator: Any, example: Any, wished: str | None, dtype: Any = None) -> Source:
    """What the example says about the inputs.

    Args:
        wished: a name for the input, where it is a matrix.
        dtype: "float32" or "float64", to compute in; None is the example's.

    Raises:
        UnsupportedError: the estimator is not fitted, or the example does not fit it.
    """
    name = wished or "X"
    if example is not None and takes_records(first_of(estimator)) and not is_frame(example):
        rows = read_records(first_of(estimator), example)
        only = set(rows.kinds.values()) - {dtypes.STRING}
        return in_type(Source(rows, dtypes.FLOAT if only == {dtypes.FLOAT} else dtypes.DOUBLE, dict(rows.kinds),
                              {k: k for k in rows.kinds}), dtype)
    if isinstance(example, dict):
        if len(example) == 1 and not hasattr(estimator, "feature_names_in_"):
            name, example = next(iter(example.items()))
        else:
            example = as_frame(example)
    if is_frame(example):
        source = of_frame(_wanted(estimator, example))
    else:
        source = _of_array(estimator, example, name)
    return in_type(source, dtype)


def in_type(source: Source, dtype: Any) -> Source:
    """The source of a model that computes in `dtype`, "float32" or "float64"; None leaves it as it is."""
    if dtype is not None:
        source.dtype = dtypes.from_numpy(np.dtype(dtype))
        if source.dtype not in (dtypes.FLOAT, dtypes.DOUBLE):
            raise UnsupportedError(f"a scikit-learn model cannot compute in {source.dtype.name}", who="sklearn",
                                   advice="take float32 or float64")
    return source


def _wanted(estimator: Any, frame: Any) -> Any:
    """The columns that the estimator was fitted with, in their order."""
    wanted = getattr(estimator, "feature_names_in_", None)
    if wanted is not None:
        lacking = [str(c) for c in wanted if c not in frame.columns]
        if lacking:
            raise UnsupportedError(f"the example has no column {', '.join(map(repr, lacking))}, which "
                                   f"{type(estimator).__name__} was fitted with", who="sklearn")
        return frame[list(wanted)]
    n = getattr(estimator, "n_features_in_", len(frame.columns))
    if n != len(frame.columns):
        raise UnsupportedError(f"the example has {len(frame.columns)} features, {type(estimator).__name__} takes {n}",
                               who="sklearn")
    return frame


def of_frame(frame: Any) -> Source:
    """A frame's columns as inputs."""
    if len({str(c) for c in frame.columns}) < len(frame.columns):
        raise UnsupportedError("the example has two columns of one name", who="sklearn")
    types: dict[Any, DType] = {}
    for column in frame.columns:
        array, _ = column_array(frame[column])
        if array is not None:
            types[column] = dtypes.STRING if array.dtype == object else dtypes.from_numpy(array.dtype)
    numbers = {k for k in types.values() if k is not dtypes.STRING}
    dtype = dtypes.FLOAT if numbers == {dtypes.FLOAT} else dtypes.DOUBLE
    names = {c: str(c) for c in types}
    return Source(Frame(frame, names, types), dtype, types, names)


def _of_array(estimator: Any, example: Any, name: str) -> Source:
    kind = type(first_of(estimator)).__name__
    if example is None:
        if kind in TEXTS:
            return Source(None, dtypes.DOUBLE, {name: dtypes.STRING}, {name: name})
        return Source(None, dtypes.FLOAT, {name: dtypes.FLOAT}, {name: name}, (_features(estimator, kind),))
    array = example if isinstance(example, np.ndarray) else plain_array(example, kind)
    if kind in VECTORS:
        array = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
        if array.ndim != 1:
            raise UnsupportedError(f"the example of {kind} is one value for each row, its shape is {array.shape}",
                                   who="sklearn")
    elif kind == "PatchExtractor":
        if array.ndim not in (3, 4):
            raise UnsupportedError(f"the example is no array (pictures, height, width[, channels]), its shape is "
                                   f"{array.shape}", who="sklearn")
    elif array.ndim != 2 and not (kind == "IsotonicRegression" and array.ndim == 1):
        raise UnsupportedError(f"the example is no matrix of rows and features, its shape is {array.shape}",
                               who="sklearn")
    elif array.ndim == 2:
        n = _features(estimator, kind, array.shape[1])
        if array.shape[1] != n:
            raise UnsupportedError(f"the example has {array.shape[1]} features, {type(estimator).__name__} takes {n}",
                                   who="sklearn")
    else:
        array = array[:, None]
    if array.ndim == 2 and array.dtype == object and column_array(array)[0] is None:
        return _of_objects(array)
    return of_matrix(array, name)


def _of_objects(array: Array) -> Source:
    """Columns of several types in one array: an input (rows, 1) each, x0, x1 and so on."""
    columns = as_frame({f"x{i}": array[:, i] for i in range(array.shape[1])})
    source = of_frame(columns)
    lacking = [f"column {i} {column_array(array[:, i])[1]}" for i, c in enumerate(columns.columns)
               if c not in source.types]
    if lacking:
        raise UnsupportedError(f"of the example {'; '.join(lacking)}", who="sklearn",
                               advice="give a DataFrame, whose columns may be of several types")
    assert isinstance(source.rows, Frame)
    source.rows.plain = True
    return source


def of_matrix(array: Array, name: str) -> Source:
    """A matrix (rows, features), or a vector (rows,), as one input."""
    fed, why = (array.astype(np.float32), "") if array.dtype == np.float16 else column_array(array)
    if fed is None:
        raise UnsupportedError(f"the example {why}", who="sklearn",
                               advice="give a DataFrame, whose columns may be of several types")
    shape = fed.shape[1:]
    if fed.dtype == object:
        # The estimator is shown what the model is, with None and NaN in the place of "".
        return Source(Matrix(name, fed), dtypes.DOUBLE, {name: dtypes.STRING}, {name: name}, shape)
    entered = dtypes.from_numpy(fed.dtype)
    dtype = dtypes.FLOAT if entered is dtypes.FLOAT else dtypes.DOUBLE
    return Source(Matrix(name, fed), dtype, {name: entered}, {name: name}, shape)


def plain_array(example: Any, kind: str = "") -> Any:
    """What is no array as one, as the estimator of that class is shown it: dense, and of the types that it holds."""
    if hasattr(example, "toarray"):
        return example.toarray()
    if kind == "MultiLabelBinarizer":
        # Rows of different lengths get their first label again: a label that stands twice changes nothing.
        rows = [list(r) for r in example]
        width = max((len(r) for r in rows), default=0)
        if not all(rows):
            raise UnsupportedError("a row of the example has no label", who="sklearn",
                                   advice="leave it out: such a row is fed as labels that are not known")
        return np.array([r + r[:1] * (width - len(r)) for r in rows])
    values = getattr(example, "to_numpy", lambda: example)()
    if isinstance(values, np.ndarray):
        return values
    try:
        made = np.asarray(values)
    except ValueError as e:
        raise UnsupportedError(f"the example's rows are of several lengths: {e}", who="sklearn",
                               advice="give rows of one length, as an array has them") from e
    if made.dtype.kind in "US" and any(not isinstance(v, str) for v in _leaves(values)):
        # numpy makes strings of numbers that stand among them; they keep their types here.
        return np.asarray(values, object)
    return made


def _leaves(values: Any) -> Any:
    for v in values:
        if isinstance(v, (list, tuple)):
            yield from _leaves(v)
        else:
            yield v


def _features(estimator: Any, kind: str, otherwise: int | None = None) -> int:
    n = getattr(estimator, "n_features_in_", 1 if hasattr(estimator, "X_thresholds_") else None)
    if n is None and kind in ("FunctionTransformer", "MultiLabelBinarizer", "SparseCoder", "FeatureHasher"):
        n = otherwise
    if n is None:
        seen = (estimator, first_of(estimator), *(step for _, step in getattr(estimator, "steps", ())))
        fitted = any(k.endswith("_") and not k.startswith("_") for e in seen for k in getattr(e, "__dict__", {}))
        if fitted and otherwise is not None:
            return otherwise
        raise UnsupportedError(f"{type(estimator).__name__} is not fitted" if not fitted else
                               f"{type(estimator).__name__} does not tell how many features it takes", who="sklearn",
                               advice="give an example" if fitted else "call fit before exporting")
    return int(n)
