"""Optionals: values that may be missing. At run time a missing one is None, a present one is the value itself.

They stay with the reference rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import OptionalType, SequenceType, TensorType, Type

from ..fact import Fact
from ..rules import InferNode
from ..schema import ALL, BOOL, Attr, Input, Output, every, op, optionals, sequences

_THINGS = ALL | sequences(ALL)
_MORE_THINGS = every(28) | sequences(every(28))

Optional = (op("Optional", Input("input", "V", optional=True), Output("output", "O"), Attr("type", "type"), since=15,
               V=_THINGS, O=optionals(_THINGS))
            .since(28, V=_MORE_THINGS, O=optionals(_MORE_THINGS)))
OptionalGetElement = (op("OptionalGetElement", Input("input", "O"), Output("output", "V"), since=15, V=_THINGS,
                         O=optionals(_THINGS))
                      .since(18, O=optionals(_THINGS) | _THINGS)
                      .since(28, V=_MORE_THINGS, O=optionals(_MORE_THINGS) | _MORE_THINGS))
OptionalHasElement = (op("OptionalHasElement", Input("input", "O"), Output("output", "B"), since=15,
                         O=optionals(_THINGS), B=BOOL)
                      .since(18, Input("input", "O", optional=True), O=optionals(_THINGS) | _THINGS)
                      .since(28, O=optionals(_MORE_THINGS) | _MORE_THINGS))


@Optional.infer
def _(node: InferNode) -> None:
    if not node.has(0):
        if node["type"] is None:
            node.fail("without an input, the attribute 'type' must say what is missing")
        node.set_fact(0, Fact(OptionalType(node["type"])))
        return
    t = node.type(0)
    if t is None:
        t = node["type"]
    node.set_fact(0, Fact(OptionalType(t)))


@Optional.reference
def optional(x: Any = None, *, type: Type | None) -> Any:
    return x


@OptionalGetElement.infer
def _(node: InferNode) -> None:
    fact = node.input(0)
    t = None if fact is None else fact.type
    if not isinstance(t, OptionalType):
        if node.version < 18 and t is not None:
            node.fail(f"its input is {t}, not an optional")
        node.set_fact(0, fact)
        return
    element = t.element
    if isinstance(element, TensorType) and element.shape is not None:
        element = TensorType(element.dtype, tuple(node.fresh(f"axis {i} of the optional's element is unknown")
                                                  if d is None else d for i, d in enumerate(element.shape)))
    node.set_fact(0, Fact(element))


@OptionalGetElement.reference
def optional_get_element(x: Any) -> Any:
    if x is None:
        raise RunError("OptionalGetElement: the optional is empty", advice="ask OptionalHasElement first")
    return x


@OptionalHasElement.infer
def _(node: InferNode) -> None:
    t = node.type(0)
    # Of an optional nobody knows before running; of anything else, and of nothing, it is plain.
    known: Any = None
    if not node.has(0):
        known = np.array(False)
    elif isinstance(t, (TensorType, SequenceType)):
        known = np.array(True)
    node.set(0, dtypes.BOOL, (), known)


@OptionalHasElement.reference
def optional_has_element(x: Any = None) -> Any:
    return np.array(x is not None)
