"""`Facts`: what inference found of a model's values, and what it had to say on the way.

A fact is stored as its rule gave it; sizes that later turned out to be equal are put in when it is asked for. Values
inside the bodies of model-local functions have no facts here, since they differ from call to call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.report import Report
from gesher.ir import Model, OptionalType, SequenceType, Shape, SparseTensorType, TensorType, Type, Value
from gesher.ops import Fact
from gesher.symbolic import Dim, Equalities


class Facts:
    """The facts of one model.

    Attributes:
        model: what was inferred.
        equalities: sizes that are the same, with the reasons.
        findings: contradictions and doubts, each with its place; empty when all fits.
        input_symbols: the symbols that stand in the shapes of the model's inputs.

    >>> from gesher.ir import Graph, Model, Value
    >>> facts = Facts(Model(Graph(), opsets={"": 21}), {})
    >>> facts[Value("x")].why
    'it was not inferred'
    """

    def __init__(self, model: Model, facts: dict[Value, Fact], equalities: Equalities | None = None,
                 findings: Report | None = None, input_symbols: frozenset[Dim] = frozenset()):
        self.model = model
        self.equalities = equalities if equalities is not None else Equalities()
        self.findings = findings if findings is not None else Report()
        self.input_symbols = input_symbols
        self._facts = facts
        self._resolved: dict[Value, tuple[Fact, Fact]] = {}

    def __getitem__(self, value: Value) -> Fact:
        """The fact of `value`; one that knows nothing where it was not inferred."""
        fact = self.get(value)
        return Fact(None, why="it was not inferred") if fact is None else fact

    def get(self, value: Value) -> Fact | None:
        """The fact of `value`, or None where it was not inferred."""
        raw = self._facts.get(value)
        if raw is None:
            return None
        seen = self._resolved.get(value)
        if seen is not None and seen[0] is raw:
            return seen[1]
        fact = resolved(raw, self.equalities)
        self._resolved[value] = (raw, fact)
        return fact

    def first_found(self, value: Value) -> Fact | None:
        """The fact as its rule gave it, for those who only ask for its data type: what `get` gives, but faster."""
        return self._facts.get(value)

    def __contains__(self, value: Value) -> bool:
        return value in self._facts

    def __iter__(self) -> Iterator[Value]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def dtype(self, value: Value) -> DType:
        """The data type of a tensor; UNDEFINED where it is unknown."""
        fact = self._facts.get(value)
        return dtypes.UNDEFINED if fact is None else fact.dtype

    def shape(self, value: Value) -> Shape | None:
        """The shape of a tensor; None where its rank is unknown."""
        return self[value].shape

    def is_exact(self, value: Value) -> bool:
        """Whether type and shape are wholly known: integers and expressions of the inputs' symbols, nothing else."""
        return _exact(self[value].type, self.input_symbols)

    def reasons(self) -> dict[Value, str]:
        """Why each value that is not exact is not, in the order of inference."""
        return {v: self[v].why or _why_of_dims(self[v].type, self.input_symbols) for v in self._facts
                if not self.is_exact(v)}


def _exact(type: Type | None, symbols: frozenset[Dim]) -> bool:
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    if not isinstance(type, (TensorType, SparseTensorType)):
        return type is not None
    if type.dtype is dtypes.UNDEFINED or type.shape is None:
        return False
    return all(isinstance(d, int) or (isinstance(d, Dim) and d.symbols() <= symbols) for d in type.shape)


def _why_of_dims(type: Type | None, symbols: frozenset[Dim]) -> str:
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    if isinstance(type, (TensorType, SparseTensorType)) and type.shape is not None:
        for d in type.shape:
            if isinstance(d, Dim):
                for s in d.symbols() - symbols:
                    return s.reason or f"the size '{s}' does not follow from the inputs"
            elif d is None:
                return "a dim is unknown"
    return "its type is unknown"


def resolved(fact: Fact, equalities: Equalities) -> Fact:
    """`fact` with every size replaced by what `equalities` knows it to be."""
    type = resolved_type(fact.type, equalities)
    value = fact._value
    if value is not None and value.dtype == object:
        value = _resolved_value(value, equalities)
    if type is fact.type and value is fact._value:
        return fact
    return Fact(type, value, constant=fact.constant, why=fact.why)


def resolved_type(type: Type | None, equalities: Equalities) -> Type | None:
    """`type` with every size resolved; the same object where nothing changes."""
    if isinstance(type, (TensorType, SparseTensorType)):
        shape = type.shape
        if shape is None:
            return type
        for d in shape:
            if isinstance(d, Dim) and equalities.resolve(d) is not d:
                return type.__class__(type.dtype, tuple(
                    equalities.resolve(d) if isinstance(d, Dim) else d for d in shape))
        return type
    if isinstance(type, (SequenceType, OptionalType)):
        element = resolved_type(type.element, equalities)
        return type if element is type.element else type.__class__(element)
    return type


def _resolved_value(value: np.ndarray[Any, Any], equalities: Equalities) -> np.ndarray[Any, Any]:
    new = np.empty(value.shape, object)
    flat, old = new.reshape(-1), value.reshape(-1)
    changed = False
    for i, x in enumerate(old):
        flat[i] = y = equalities.resolve(x) if isinstance(x, Dim) else x
        changed = changed or y is not x
    return new if changed else value
