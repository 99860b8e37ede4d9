"""Tables: inputs by columns, each of a type of its own, and the frames that feed them.

A `Table` is what a translator sees of a frame: a value (rows, 1) for each column. `Rows` are the examples on the other
side, a matrix or a frame, that scikit-learn is asked with and the model is fed from.

What a reader would guess wrong: ONNX's strings cannot be missing. None, NaN and NA among strings are fed as "".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

Array = np.ndarray[Any, Any]
MISSING_STRING = ""
"""What is fed in the place of a missing string."""


@dataclass(slots=True)
class Table:
    """Columns (rows, 1) beside each other; in the place of one that ONNX has no type for stands the reason.

    Attributes:
        apart: each is an output of its own, under its name, also where all of them would make one matrix.
    """

    columns: list[Value | str]
    names: list[str]
    apart: bool = False

    def take(self, positions: Iterable[int]) -> Table:
        at = [int(i) for i in positions]
        return Table([self.columns[i] for i in at], [self.names[i] for i in at])

    def value(self, i: int) -> Value:
        """The column.

        Raises:
            UnsupportedError: ONNX has no type for what is in it.
        """
        column = self.columns[i]
        if isinstance(column, str):
            raise UnsupportedError(f"the column '{self.names[i]}' {column}", who="sklearn")
        return column

    def values(self) -> list[Value]:
        return [self.value(i) for i in range(len(self.columns))]


def is_missing(x: Any) -> bool:
    """True for None, NaN and pandas' NA and NaT."""
    if x is None:
        return True
    if isinstance(x, (float, np.floating)):
        return bool(x != x)
    return type(x).__name__ in ("NAType", "NaTType")


def is_frame(x: Any) -> bool:
    """True for a DataFrame of pandas or polars."""
    return type(x).__name__ == "DataFrame" and type(x).__module__.split(".")[0] in ("pandas", "polars")


def column_array(values: Any) -> tuple[Array | None, str]:
    """A column as an array of a type that ONNX has, or None and the reason.

    Numbers with gaps become float64 with NaN, strings with gaps get `MISSING_STRING`.
    """
    kind = str(getattr(values, "dtype", ""))
    if any(word in kind.lower() for word in ("date", "time", "duration", "period")):
        return None, ("holds dates or times, which ONNX has no type for; turn them into numbers (days, months, hours) "
                      "before the pipeline")
    array = values if isinstance(values, np.ndarray) else np.asarray(
        values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.dtype.kind in "iu" and array.dtype != np.uint64:
        return array.astype(np.int64), ""
    if array.dtype.kind == "b":
        return array, ""
    if array.dtype.kind == "f":
        return array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32), ""
    if array.dtype.kind in "US":
        return array.astype(str).astype(object), ""
    if array.dtype.kind == "M":
        return None, "holds dates, which ONNX has no type for; turn them into numbers before the pipeline"
    gone = np.array([is_missing(v) for v in array.reshape(-1)], bool)
    there = array.reshape(-1)[~gone]
    if all(isinstance(v, str) for v in there):
        out = np.full(array.size, MISSING_STRING, object)
        out[~gone] = [str(v) for v in there]
        return out.reshape(array.shape), ""
    if all(isinstance(v, (bool, np.bool_)) for v in there) and not gone.any():
        return array.astype(bool), ""
    if all(isinstance(v, (bool, np.bool_, int, np.integer, float, np.floating)) for v in there):
        if not gone.any() and all(isinstance(v, (int, np.integer)) for v in there):
            return array.astype(np.int64), ""
        numbers = np.full(array.size, np.nan)
        numbers[~gone] = there.astype(float)
        return numbers.reshape(array.shape), ""
    found = sorted({type(v).__name__ for v in there})
    return None, f"holds {', '.join(found)}, which have no one type in ONNX"


class Rows(ABC):
    """Examples, as scikit-learn takes them and as the model does."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Array) -> Rows:
        """The rows at these places."""

    @abstractmethod
    def mixed(self, rng: np.random.Generator, count: int) -> Rows:
        """Rows whose every column is drawn by itself."""

    @abstractmethod
    def given(self, in_float64: bool = False) -> Any:
        """What the estimator is called with."""

    @abstractmethod
    def feeds(self) -> dict[str, Array]:
        """What the model is fed."""


@dataclass(slots=True)
class Matrix(Rows):
    """An array (rows, features), or texts (rows,), under one input's name."""

    name: str
    array: Array

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: Array) -> Matrix:
        return Matrix(self.name, self.array[index])

    def mixed(self, rng: np.random.Generator, count: int) -> Matrix:
        if self.array.ndim == 1:
            return Matrix(self.name, rng.choice(self.array, count))
        if self.array.ndim > 2:
            return self.take(rng.integers(0, len(self.array), count))
        columns = [rng.choice(self.array[:, j], count) for j in range(self.array.shape[1])]
        return Matrix(self.name, np.stack(columns, 1).astype(self.array.dtype) if columns else self.array)

    def given(self, in_float64: bool = False) -> Any:
        return self.array.astype(np.float64) if in_float64 and self.array.dtype.kind == "f" else self.array

    def feeds(self) -> dict[str, Array]:
        return {self.name: self.array}


@dataclass(slots=True)
class Frame(Rows):
    """A DataFrame; `names` tells each used column's input, `kinds` the type that it is fed as.

    Attributes:
        plain: the estimator takes its values as an array of objects.
    """

    frame: Any
    names: Mapping[Any, str]
    kinds: Mapping[Any, DType]
    plain: bool = False

    def __len__(self) -> int:
        return len(self.frame)

    def _made(self, columns: dict[Any, Any]) -> Frame:
        return Frame(type(self.frame)(columns), self.names, self.kinds, self.plain)

    def _picked(self, column: Any, index: Array) -> Any:
        if type(self.frame).__module__.split(".")[0] == "polars":
            return self.frame[column].gather(np.asarray(index, np.int64).tolist())
        return self.frame[column].iloc[index].reset_index(drop=True)

    def take(self, index: Array) -> Frame:
        return self._made({c: self._picked(c, index) for c in self.frame.columns})

    def mixed(self, rng: np.random.Generator, count: int) -> Frame:
        return self._made({c: self._picked(c, rng.integers(0, len(self.frame), count)) for c in self.frame.columns})

    def given(self, in_float64: bool = False) -> Any:
        if self.plain:
            return self.frame.to_numpy(dtype=object)
        if in_float64 and type(self.frame).__module__.split(".")[0] == "pandas":
            return self.frame.astype({c: np.float64 for c, k in self.kinds.items() if k is dtypes.FLOAT})
        return self.frame

    def feeds(self) -> dict[str, Array]:
        fed = {}
        for column, name in self.names.items():
            array, why = column_array(self.frame[column])
            if array is None:
                raise UnsupportedError(f"the column '{name}' {why}", who="sklearn")
            kind = self.kinds[column]
            if kind is not dtypes.STRING and array.dtype == object:
                # A column of nothing but gaps.
                array = np.full(len(array), np.nan)
            fed[name] = array.reshape(-1, 1).astype(kind.numpy)
        return fed


def as_frame(columns: Mapping[str, Any]) -> Any:
    """A dictionary of columns as a frame, of pandas where it is installed.

    Raises:
        UnsupportedError: neither pandas nor polars is installed, or the columns differ in length.
    """
    flat = {k: np.asarray(v).reshape(-1) if np.ndim(v) != 1 else v for k, v in columns.items()}
    if len({len(v) for v in flat.values()}) > 1:
        raise UnsupportedError("the example's columns differ in length", who="sklearn")
    try:
        import pandas
    except ImportError:
        try:
            import polars
        except ImportError:
            raise UnsupportedError("an example of columns needs pandas or polars, and neither is installed",
                                   who="sklearn", advice="pip install pandas") from None
        return polars.DataFrame(flat)
    return pandas.DataFrame(flat)
