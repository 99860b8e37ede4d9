"""Asking a graph inside a node what it gives back, in words that mean something outside.

A body has names of its own for sizes: those that it declares for its inputs mean another size in each turn of a loop,
or for each element of a sequence, and must not get out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gesher.ir import DimLike, Graph, SparseTensorType, TensorType, Type
from gesher.symbolic import Dim, is_symbol, substitute

from .fact import Fact
from .rules import InferNode


def shape_of(type: Type | None) -> Any:
    """The shape of a tensor type; None for any other type, or where it is unknown."""
    return type.shape if isinstance(type, (TensorType, SparseTensorType)) else None


def with_shape(type: Type | None, shape: Sequence[DimLike | None]) -> Type:
    """A tensor type of the same kind with that shape."""
    assert isinstance(type, (TensorType, SparseTensorType))
    return type.__class__(type.dtype, tuple(shape))


def symbols_in(sizes: Iterable[Any]) -> frozenset[Dim]:
    """All symbols in a list of sizes, of which some may be None."""
    return frozenset(s for d in sizes if isinstance(d, Dim) for s in d.symbols())


def ask(node: InferNode, body: Graph, facts: Sequence[Fact | None]) -> list[Fact | None]:
    """What a body gives back when its inputs are `facts`, with the names it has for their sizes put back."""
    names: dict[Dim, DimLike] = {}
    for formal, fact in zip(body.inputs, facts):
        declared, given = shape_of(formal.type), shape_of(None if fact is None else fact.type)
        if declared is None or given is None or len(declared) != len(given):
            continue
        for name, d in zip(declared, given):
            if is_symbol(name) and d is not None and name is not d:
                names.setdefault(name, d)
    answers = node.infer_graph(body, facts)
    return answers if not names else [None if f is None else _renamed(f, names) for f in answers]


def _renamed(fact: Fact, names: dict[Dim, DimLike]) -> Fact:
    shape, value = shape_of(fact.type), fact.value
    if shape is None or not symbols_in((*shape, *(() if value is None else value.reshape(-1).tolist()))) & names.keys():
        return fact

    def rename(d: Any) -> Any:
        return substitute(d, names) if isinstance(d, Dim) else d

    renamed = None
    if value is not None:
        renamed = np.empty(value.shape, object)
        renamed.reshape(-1)[:] = [rename(d) for d in value.reshape(-1).tolist()]
    return Fact(with_shape(fact.type, [rename(d) for d in shape]), renamed, why=fact.why)


def names_declared_in(body: Graph) -> frozenset[Dim]:
    """The symbols that a body writes into the types of its own values."""
    values = [*body.inputs, *body.outputs, *(o for n in body.nodes for o in n.outputs if o is not None)]
    return symbols_in(d for v in values for d in shape_of(v.type) or ())
