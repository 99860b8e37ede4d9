"""Writing what was inferred into the model, so that other tools and people see it."""

from __future__ import annotations

from gesher.ir import (
    Edit,
    Model,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from gesher.ops.fact import sayable
from gesher.symbolic import Dim

from .facts import Facts


def annotate(model: Model, facts: Facts, edit: Edit | None = None) -> int:
    """Write the inferred types to the model's values; gives how many changed.

    Inputs and initializers keep what they declare. Sizes that nobody can name are left unsaid (None). A value of which
    less was inferred than the file declares keeps its declaration.

    >>> from gesher.inference import infer
    >>> from gesher.ir import Graph, Model
    >>> model = Model(Graph("main"), opsets={"": 21})
    >>> annotate(model, infer(model))
    0
    """
    edit = Edit(model) if edit is None else edit
    changed = 0
    with edit.rule("annotate"):
        for value in facts:
            if value.producer is None:
                continue
            type = sayable(facts[value].type)
            if type is None or type == value.type:
                continue
            if value.type is not None and _known(type) < _known(value.type):
                continue
            edit.set_type(value, type)
            changed += 1
    return changed


def _known(type: Type | None) -> int:
    """How much a type says: more for a known rank, and for each known size."""
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    if not isinstance(type, (TensorType, SparseTensorType)):
        return 0
    if type.shape is None:
        return 1
    return 2 + sum(1 if isinstance(d, Dim) else 2 for d in type.shape if d is not None)
