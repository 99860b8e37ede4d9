"""Answers that calls of a function share: what makes two calls the same, and what may not be shared all the same.

Two calls are alike where no rule can tell their inputs and attributes apart. Their outputs are then of the same types,
but a size that hangs on the data (how many elements are not zero) is another one in each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gesher.ir import (
    Attribute,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from gesher.ops import Fact
from gesher.symbolic import Dim, fresh, substitute


def signature(fact: Fact | None) -> Any:
    """Equal for facts that no rule can tell apart."""
    if fact is None:
        return None
    value = fact._value
    if value is None:
        return fact.type, fact.constant
    if value.dtype == object:
        return fact.type, value.shape, tuple(value.reshape(-1).tolist())
    return fact.type, value.dtype.str, value.shape, value.tobytes()


def attribute_signature(a: Attribute) -> Any:
    value = a.value
    if isinstance(value, float):
        # 0.0 and -0.0 are equal and not the same; so are no two nans, which would never be found again.
        value = np.float64(value).tobytes()
    return int(a.kind), value if not isinstance(value, tuple) else tuple(
        np.float64(v).tobytes() if isinstance(v, float) else v for v in value)


def another_time(asked: Sequence[Fact | None], outputs: Sequence[Fact | None]) -> list[Fact | None]:
    """The same answer for another call: sizes that were unknown in the first one are unknown anew in this."""
    given: set[Dim] = set()
    for fact in asked:
        if fact is not None:
            given |= symbols_of(fact.type) | _value_symbols(fact)
    new: dict[Dim, Any] = {}
    for fact in outputs:
        if fact is not None:
            for s in (symbols_of(fact.type) | _value_symbols(fact)) - given:
                if s.is_fresh and s not in new:
                    new[s] = fresh(s.reason)
    if not new:
        return list(outputs)
    return [None if f is None else _substituted(f, new) for f in outputs]


def _value_symbols(fact: Fact) -> set[Dim]:
    value = fact._value
    if value is None or value.dtype != object:
        return set()
    return {s for x in value.reshape(-1) if isinstance(x, Dim) for s in x.symbols()}


def _substituted(fact: Fact, new: Mapping[Dim, Any]) -> Fact:
    def put(type: Type | None) -> Type | None:
        if isinstance(type, (TensorType, SparseTensorType)) and type.shape is not None:
            return type.__class__(type.dtype, tuple(substitute(d, new) if isinstance(d, Dim) else d
                                                    for d in type.shape))
        if isinstance(type, (SequenceType, OptionalType)):
            return type.__class__(put(type.element))
        return type

    value = fact._value
    if value is not None and value.dtype == object:
        flat = [substitute(x, new) if isinstance(x, Dim) else x for x in value.reshape(-1)]
        value = np.empty(value.shape, object)
        value.reshape(-1)[:] = flat
    return Fact(put(fact.type), value, constant=fact.constant, why=fact.why)


def symbols_of(type: Type | None) -> set[Dim]:
    """The symbols in the sizes of a type."""
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    if not isinstance(type, (TensorType, SparseTensorType)) or type.shape is None:
        return set()
    return {s for d in type.shape if isinstance(d, Dim) for s in d.symbols()}
