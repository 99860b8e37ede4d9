"""What inference knows of a value: its type, its numbers where they are known, and why not where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.ir import (
    DimLike,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    Tensor,
    TensorType,
    Type,
)
from gesher.symbolic import Dim, fresh

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Known values are carried up to this many elements; beyond, only a constant's tensor itself is.
VALUE_LIMIT = 4096


class Fact:
    """What is known of one value.

    Attributes:
        type: its `Type`; None where it is unknown.
        constant: the tensor of a value that is the same in every run (any size, not read until asked).
        why: the reason where the type, a dim or the value is unknown.

    `value` holds known numbers: a plain array where all are numbers, or an object array of `int` and `Dim` where some
    depend on symbols. It is None where they are unknown or too many (`VALUE_LIMIT`).
    """

    __slots__ = ("_value", "constant", "type", "why")

    def __init__(self, type: Type | None, value: NDArray[Any] | None = None, *, constant: Tensor | None = None,
                 why: str = ""):
        self.type = type
        self.constant = constant
        self.why = why
        self._value = value if value is None or value.size <= VALUE_LIMIT else None

    @classmethod
    def tensor(cls, dtype: DType, shape: Sequence[DimLike | None] | None, value: Any = None, why: str = "") -> Fact:
        """A tensor's fact. `value` may be an array or a (nested) list of ints and dims."""
        if value is not None and not isinstance(value, np.ndarray):
            array = np.empty(np.shape(value) if not isinstance(value, Dim) else (), object)
            array[...] = value
            value = array
        return cls(TensorType(dtype, None if shape is None else tuple(shape)), value, why=why)

    @classmethod
    def of(cls, tensor: Tensor) -> Fact:
        """The fact of a constant."""
        return cls(TensorType(tensor.dtype, tensor.shape), constant=tensor)

    @property
    def dtype(self) -> DType:
        """The data type of a tensor; UNDEFINED for anything else or where it is unknown."""
        return self.type.dtype if isinstance(self.type, TensorType) else dtypes.UNDEFINED

    @property
    def shape(self) -> Shape | None:
        return self.type.shape if isinstance(self.type, TensorType) else None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def value(self) -> NDArray[Any] | None:
        """The known numbers, or None."""
        if self._value is None and self.constant is not None and self.constant.size <= VALUE_LIMIT:
            self._value = self.constant.numpy()
        return self._value

    def ints(self) -> list[DimLike] | None:
        """The known value as a flat list of ints and dims; None where it is not known or no integers."""
        v = self.value
        if v is None or v.dtype.kind not in "iubO":
            return None
        return [x if isinstance(x, Dim) else int(x) for x in v.reshape(-1).tolist()]

    def numbers(self) -> NDArray[Any] | None:
        """The known value as a plain numeric array; None where any element is symbolic or unknown."""
        v = self.value
        if v is None and self.constant is not None:
            return self.constant.numpy()
        if v is None:
            return None
        if v.dtype == object and self.dtype is not dtypes.STRING:
            if any(isinstance(x, Dim) for x in v.reshape(-1)):
                return None
            return v.astype(self.dtype.numpy)
        return v

    def with_sizes(self, name: str) -> Fact:
        """The same with a symbol for each unknown size, so that all who read the value see one and the same."""
        type = self.type
        if not isinstance(type, (TensorType, SparseTensorType)) or type.shape is None or None not in type.shape:
            return self
        shape = tuple(fresh(self.why or f"dim {i} of '{name}' is unknown") if d is None else d
                      for i, d in enumerate(type.shape))
        return Fact(type.__class__(type.dtype, shape), self._value, constant=self.constant, why=self.why)

    def __repr__(self) -> str:
        known = "" if self._value is None else f" = {self._value.tolist()}"
        return f"Fact({self.type}{known}{' constant' if self.constant is not None else ''}" \
               f"{'; ' + self.why if self.why else ''})"


def sayable(type: Type | None) -> Type | None:
    """`type` as a file can say it, with None for sizes that have no name; None where it has no data type to say."""
    if isinstance(type, (TensorType, SparseTensorType)):
        if type.dtype is dtypes.UNDEFINED:
            return None
        if type.shape is None:
            return type
        return type.__class__(type.dtype, tuple(
            None if isinstance(d, Dim) and any(s.is_fresh for s in d.symbols()) else d for d in type.shape))
    if isinstance(type, (SequenceType, OptionalType)):
        element = sayable(type.element)
        return None if element is None else type.__class__(element)
    return type
