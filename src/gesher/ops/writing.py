"""Attributes as people write them, made into what a schema wants: an int for a float, an empty list, a data type."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.dtypes import DType
from gesher.ir import Attribute, Kind, Tensor, attribute


def as_attribute(value: Any, kind: Kind | None) -> Attribute:
    """An attribute of `kind` (None: what the value looks like).

    Raises:
        TypeError, ValueError: the value cannot be one.

    >>> as_attribute(1, Kind.FLOAT).value, as_attribute([], Kind.INTS).value
    (1.0, ())
    """
    if isinstance(value, Attribute):
        return value
    if isinstance(value, DType):
        value = value.code
    elif isinstance(value, np.ndarray) and kind is not None and kind.is_list:
        value = value.tolist()
    if kind is None:
        return attribute(value)
    if kind.is_list:
        items = list(value) if isinstance(value, (list, tuple, range)) else None
        if items is None:
            raise TypeError("it is no list")
        one = Kind(_ONE_OF[kind])
        return Attribute(kind, tuple(as_attribute(v, one).value for v in items))
    if kind is Kind.FLOAT and isinstance(value, (int, float, np.floating, np.integer)):
        return Attribute(kind, float(value))
    if kind is Kind.INT and isinstance(value, (int, np.integer, np.bool_)):
        return Attribute(kind, int(value))
    if kind is Kind.TENSOR and not isinstance(value, Tensor):
        return Attribute(kind, Tensor.of(value))
    made = attribute(value)
    if made.kind is not kind:
        raise TypeError(f"it must be of the kind {kind.name.lower()}")
    return made


_ONE_OF = {Kind.FLOATS: Kind.FLOAT, Kind.INTS: Kind.INT, Kind.STRINGS: Kind.STRING, Kind.TENSORS: Kind.TENSOR,
           Kind.GRAPHS: Kind.GRAPH, Kind.SPARSE_TENSORS: Kind.SPARSE_TENSOR, Kind.TYPES: Kind.TYPE}
