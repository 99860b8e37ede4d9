"""What is known of a value that comes from one of several places: the branches of an If, the turns of a Loop.

A dim that differs becomes whatever the caller says: a fresh symbol for one value of unknown size, None for the elements
of a sequence, which need not be alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike, MapType, OptionalType, SequenceType, Shape, SparseTensorType, TensorType, Type
from gesher.symbolic import decide_eq

from .fact import Fact

Differing = Callable[[int], "DimLike | None"]


class Unlike(Exception):  # noqa: N818  (a verdict; the rule that asked says what is wrong)
    """Two types that cannot be one."""


def merge_types(a: Type | None, b: Type | None, differing: Differing) -> Type | None:
    """The type of what is one of the two; None where either is unknown.

    Args:
        differing: gives the dim for an axis on which the two differ.

    Raises:
        Unlike: they are of different kinds or hold different data types.
    """
    if a is None or b is None:
        return None
    if isinstance(a, (TensorType, SparseTensorType)) and type(a) is type(b):
        assert isinstance(b, (TensorType, SparseTensorType))
        return type(a)(_merge_dtypes(a.dtype, b.dtype), merge_shapes(a.shape, b.shape, differing))
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        return SequenceType(merge_types(a.element, b.element, lambda axis: None))
    if isinstance(a, OptionalType) and isinstance(b, OptionalType):
        return OptionalType(merge_types(a.element, b.element, differing))
    if isinstance(a, MapType) and isinstance(b, MapType) and a.key is b.key:
        return MapType(a.key, merge_types(a.value, b.value, lambda axis: None))
    if a == b:
        return a
    raise Unlike(f"{a} and {b} are not the same type")


def _merge_dtypes(a: dtypes.DType, b: dtypes.DType) -> dtypes.DType:
    if a is b:
        return a
    if dtypes.UNDEFINED in (a, b):
        return b if a is dtypes.UNDEFINED else a
    raise Unlike(f"{a.name} and {b.name} are not the same data type")


def merge_shapes(a: Shape | None, b: Shape | None, differing: Differing) -> Shape | None:
    """The shape of what has one of the two; None where the ranks differ or are unknown."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if _same(x, y) else differing(i) for i, (x, y) in enumerate(zip(a, b)))


def _same(a: DimLike | None, b: DimLike | None) -> bool:
    return a is not None and b is not None and decide_eq(a, b) is True


def merge_values(a: Fact, b: Fact) -> Any:
    """The value that both surely have; None where there is none."""
    x, y = a.value, b.value
    if x is None or y is None or x.shape != y.shape:
        return None
    return x if x is y or all(map(_same_element, x.reshape(-1).tolist(), y.reshape(-1).tolist())) else None


def _same_element(x: Any, y: Any) -> bool:
    # Structural for symbols, and a NaN is itself here.
    return x == y or (isinstance(x, float) and isinstance(y, float) and np.isnan(x) and np.isnan(y))


def merge_facts(a: Fact | None, b: Fact | None, differing: Differing) -> Fact:
    """What is known of a value that is either of the two.

    Raises:
        Unlike: their types cannot be one.
    """
    if a is None or b is None or a.type is None or b.type is None:
        why = next((f.why for f in (a, b) if f is not None and f.type is None and f.why), "")
        return Fact(None, why=why or "it is not known of every place that it may come from")
    merged = merge_types(a.type, b.type, differing)
    return Fact(merged, merge_values(a, b), why=a.why or b.why)
