"""What a value can be: a tensor, a sparse tensor, a sequence, an optional, a map, or opaque.

A shape is a tuple of dims, each an `int`, a symbolic `Dim`, or `None` where nothing is known of it; a shape that is
`None` itself has an unknown rank. Types are immutable and compare by value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from gesher.base.dtypes import DType
from gesher.symbolic import Dim

DimLike = Union[int, Dim]  # noqa: UP007  (a Dim may be a C type without | one day)
Shape = tuple["DimLike | None", ...]


def print_shape(shape: Shape | None) -> str:
    """`(batch,3,224,?)`; an unknown rank is `(...)`.

    >>> print_shape((1, None, 3))
    '(1,?,3)'
    """
    if shape is None:
        return "(...)"
    return "(" + ",".join("?" if d is None else str(d) for d in shape) + ")"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor. `dtype` is `UNDEFINED` where the file does not say."""

    dtype: DType
    shape: Shape | None = None

    def __str__(self) -> str:
        return f"{self.dtype.name}{print_shape(self.shape)}"


@dataclass(frozen=True, slots=True)
class SparseTensorType:
    """A sparse tensor of the same dense shape."""

    dtype: DType
    shape: Shape | None = None

    def __str__(self) -> str:
        return f"sparse({self.dtype.name}{print_shape(self.shape)})"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A list of values of one type; `element` is None where it is unknown."""

    element: Type | None

    def __str__(self) -> str:
        return f"seq({self.element or '?'})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be missing."""

    element: Type | None

    def __str__(self) -> str:
        return f"optional({self.element or '?'})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A dictionary from an integer or string type to values of one type."""

    key: DType
    value: Type | None

    def __str__(self) -> str:
        return f"map({self.key.name},{self.value or '?'})"


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A type of some runtime's own (ai.onnx.ml)."""

    domain: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"opaque({self.domain},{self.name})"


Type = Union[TensorType, SparseTensorType, SequenceType, OptionalType, MapType, OpaqueType]  # noqa: UP007
