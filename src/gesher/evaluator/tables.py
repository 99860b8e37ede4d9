"""Frames as feeds: a pandas or polars frame is taken apart by the names of its columns.

Neither library is imported: a frame is whatever has `columns` and gives a column by its name. What a reader would guess
wrong: unlike an array, a frame is cast to what the model declares, because frames hold float64 and int64 whatever was
meant; a cast that would change a whole number, or that would have to invent one, is refused. ONNX's strings cannot be
missing: gaps among them are fed as the mark that the model itself names for the input, and refused where it names none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.ir import Model, TensorType, Type

# Where an exported model keeps the names of the columns of its one matrix, as a JSON list.
COLUMNS = "gesher.columns"
# And what it takes for a missing string, as a JSON object by its inputs' names.
MISSING = "gesher.missing"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model's file tells about the tables that it takes.

    Attributes:
        columns: the names of the columns that its one matrix was trained on; empty where the file does not tell.
        missing: by the input's name, the string that stands for one that is missing.
    """

    columns: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


NO_LAYOUT = Layout()


def layout_of(model: Model) -> Layout:
    """What the model's metadata tells about tables; what is no list or object of strings tells nothing."""
    columns, missing = _told(model, COLUMNS), _told(model, MISSING)
    return Layout(tuple(columns) if isinstance(columns, list) and _are_strings(columns) else (),
                  missing if isinstance(missing, dict) and _are_strings(list(missing.values())) else {})


def _told(model: Model, key: str) -> Any:
    try:
        return json.loads((model.metadata or {}).get(key, "null"))
    except ValueError:
        return None


def _are_strings(values: Sequence[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


def is_table(feeds: Any) -> bool:
    """Whether this is a frame.

    >>> is_table({"x": 1}), is_table(np.zeros((2, 3)))
    (False, False)
    """
    return not isinstance(feeds, Mapping) and hasattr(feeds, "columns") and hasattr(feeds, "__getitem__")


def feeds_of(table: Any, types: Mapping[str, Type | None], required: Sequence[str],
             layout: Layout = NO_LAYOUT) -> dict[str, np.ndarray[Any, Any]]:
    """What a frame feeds: a matrix to a model of one input, or a column to each input of its name.

    Args:
        types: the model's inputs, by name.
        layout: the names of the matrix's columns in their order, and what stands for missing strings, where the model
            tells.

    Raises:
        RunError: columns are missing, or hold what the input cannot take.
    """
    held = [str(c) for c in table.columns]
    if len(set(held)) < len(held):
        twice = sorted({c for c in held if held.count(c) > 1})
        raise RunError(f"the frame has several columns called {', '.join(map(repr, twice))}",
                       advice="a column is found by its name, so rename them")
    by_name = dict(zip(held, table.columns))
    only = next(iter(types)) if len(types) == 1 else None
    if only is not None and only not in by_name and _rank(types[only]) == 2:
        return {only: _matrix(table, by_name, only, types[only], layout)}
    wanted = [n for n in types if n in by_name]
    missing = [n for n in required if n not in by_name]
    if missing:
        raise RunError(f"the frame has no column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}",
                       advice="it has " + ", ".join(map(repr, held[:20])))
    return {n: _shaped(_column(table[by_name[n]], n, _dtype(types[n]), layout.missing.get(n)), types[n])
            for n in wanted}


def _matrix(table: Any, by_name: Mapping[str, Any], name: str, type: Type | None,
            layout: Layout) -> np.ndarray[Any, Any]:
    shape = type.shape if isinstance(type, TensorType) else None
    width = shape[1] if shape is not None and isinstance(shape[1], int) else None
    missing = [c for c in layout.columns if c not in by_name]
    if missing:
        raise RunError(f"the frame lacks {', '.join(map(repr, missing[:10]))}, of the {len(layout.columns)} columns "
                       f"that '{name}' is made of", advice="it has " + ", ".join(map(repr, list(by_name)[:20])))
    chosen = list(layout.columns) or list(by_name)
    if width is not None and len(chosen) != width:
        raise RunError(f"the frame has {len(chosen)} columns, the input '{name}' takes {width}",
                       advice="the model does not tell their names: give just those it was trained on, in their order")
    parts = [_column(table[by_name[c]], c, _dtype(type), layout.missing.get(name)) for c in chosen]
    return np.stack(parts, 1) if parts else np.empty((len(table), 0))


def _rank(type: Type | None) -> int | None:
    return len(type.shape) if isinstance(type, TensorType) and type.shape is not None else None


def _dtype(type: Type | None) -> DType | None:
    return type.dtype if isinstance(type, TensorType) else None


def _shaped(column: np.ndarray[Any, Any], type: Type | None) -> np.ndarray[Any, Any]:
    """A column as (rows,), or as (rows, 1) where the model asks for a matrix."""
    return column[:, None] if _rank(type) == 2 else column


def _column(series: Any, name: str, dtype: DType | None, mark: str | None = None) -> np.ndarray[Any, Any]:
    """A column's values in the model's type; `mark` is fed for a missing string.

    >>> _column(np.array([1.0, 2.0]), "a", dtypes.INT64)
    array([1, 2])
    """
    values = np.asarray(series.to_numpy() if hasattr(series, "to_numpy") else series)
    if values.dtype.kind in "mM":
        raise RunError(f"the column '{name}' holds dates or durations, which ONNX does not know",
                       advice="feed what the model was trained on, in numbers")
    if dtype is None:
        return values.astype(object) if values.dtype.kind in "UST" else values
    if dtype is dtypes.STRING:
        return _strings(values, name, mark)
    if values.dtype.kind in "UST" or any(isinstance(v, str) for v in values.ravel()[:1000] if values.dtype == object):
        raise RunError(f"the column '{name}' holds strings, the model wants {dtype.name}")
    if values.dtype == object:
        # None and pandas' NA; what numbers there are may be of any kind.
        values = np.array([np.nan if _absent(v) else v for v in values.ravel()], np.float64).reshape(values.shape)
    return _cast(values, name, dtype)


def _cast(values: np.ndarray[Any, Any], name: str, dtype: DType) -> np.ndarray[Any, Any]:
    whole = dtype.numpy.kind in "iub"
    if whole and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RunError(f"the column '{name}' has missing or infinite values, which {dtype.name} cannot hold",
                       advice="fill them before, as was done for training")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(dtype.numpy)
    if whole and not np.array_equal(cast.astype(values.dtype), values):
        raise RunError(f"the column '{name}' holds numbers that {dtype.name} cannot hold")
    return cast


def _strings(values: np.ndarray[Any, Any], name: str, mark: str | None) -> np.ndarray[Any, Any]:
    absent = [i for i, v in enumerate(values.ravel()) if _absent(v)]
    if absent and mark is None:
        raise RunError(f"the column '{name}' has no value in row {absent[0]}, ONNX's strings know no missing ones, and "
                       "the model names none that stands for them", advice="fill them before, as was done for training")
    if absent:
        values = values.astype(object)
        values.flat[absent] = mark
    other = next((v for v in values.ravel() if not isinstance(v, (str, bytes))), None)
    if other is not None:
        raise RunError(f"the column '{name}' holds the {type(other).__name__} {other}, the model wants strings")
    return values.astype(object)


def _absent(value: Any) -> bool:
    """None, NaN and pandas' NA, which is equal to nothing and not even false."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return True
