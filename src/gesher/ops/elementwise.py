"""Elementwise operators from rows: what rows of a table share is written here once.

`unary`, `binary` and `variadic` put an operator into the book with all its rules. Two laws of ONNX's history are built
in: an operator that has both a version 1 and a version 6 lost the meaningless attribute `consumed_inputs` at 6, and one
with an attribute `broadcast` lost it at 7, when numpy's broadcasting came (to variadic ones at 8, by widening).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes

from .arithmetic import computed, lowered
from .broadcasting import broadcast_inputs, infer_laid, laying, lowering_laid, same_shapes
from .known import Symbolic, each, symbolic_value
from .rules import InferNode
from .schema import Attr, Change, Drop, Input, Operator, Output, Types, op

Versions = dict[int, Types]

CONSUMED = Attr("consumed_inputs", "ints")


def primitive(name: str) -> Callable[..., Any]:
    """The lowering to one primitive, which rounds narrow floats once by itself."""
    return lambda p, *inputs, consumed_inputs=None: getattr(p, name)(*inputs)


def infer_same(node: InferNode, symbolic: Symbolic | None = None) -> None:
    """The output has the type of the first input."""
    fact = node.input(0)
    if fact is not None and fact.type is not None:
        node.set(0, fact.dtype, fact.shape, symbolic_value(node, fact.shape, symbolic))


def infer_bool(node: InferNode, symbolic: Symbolic | None = None) -> None:
    """The output has the shape of the first input, and is boolean."""
    fact = node.input(0)
    shape = None if fact is None else fact.shape
    node.set(0, dtypes.BOOL, shape, symbolic_value(node, shape, symbolic))


def unary(name: str, x: str, y: str, versions: Versions, compute: Callable[..., Any], lower: Callable[..., Any] | str,
          *attributes: Attr, gives: Types | None = None, symbolic: Callable[..., Any] | None = None,
          changes: dict[int, Sequence[Change]] | None = None) -> Operator:
    """Put an operator of one input into the book.

    Args:
        name, x, y: of the operator, its input and its output.
        versions: the types of the input by version.
        compute: the numpy meaning, `compute(x, **attributes)`, on float32 or wider.
        lower: the meaning in primitives, `lower(p, x, **attributes)`, on float32 or wider; or one primitive's name.
        gives: BOOL where the output is boolean; None where it has the type of the input.
        symbolic: the meaning on a single size, where sizes may pass through it.
        changes: what else a version changes.
    """
    first = min(versions)
    changes = changes or {}
    consumes = 1 in versions and 6 in versions
    types: dict[str, Any] = {"T1": versions[first], "T2": gives} if gives is not None else {"T": versions[first]}
    operator = op(name, Input(x, "T" if gives is None else "T1"), Output(y, "T" if gives is None else "T2"),
                  *attributes, *((CONSUMED,) if consumes else ()), since=first, **types)
    for version in sorted(versions)[1:]:
        operator.since(version, *((Drop("consumed_inputs"),) if consumes and version == 6 else ()),
                       *changes.get(version, ()), **dict[str, Any]({"T" if gives is None else "T1": versions[version]}))
    values = None if symbolic is None else each(symbolic)
    operator.infer(lambda node: (infer_same if gives is None else infer_bool)(node, values))
    operator.reference(computed(compute, None if gives is None else np.bool_))
    operator.lower(primitive(lower) if isinstance(lower, str) else lowered(lower))
    return operator


def infer_broadcast(node: InferNode, gives_bool: bool = False, symbolic: Symbolic | None = None) -> None:
    """The output has the shape that the inputs broadcast to."""
    shape = broadcast_inputs(node)
    _set_broadcast(node, shape, gives_bool, symbolic)


def _set_broadcast(node: InferNode, shape: Any, gives_bool: bool, symbolic: Symbolic | None) -> None:
    dtype = dtypes.BOOL if gives_bool else next(
        (d for i in range(len(node.inputs)) if (d := node.dtype(i)) is not dtypes.UNDEFINED), dtypes.UNDEFINED)
    node.set(0, dtype, shape, symbolic_value(node, shape, symbolic))


def binary(name: str, versions: Versions, compute: Callable[..., Any], lower: str, *attributes: Attr,
           gives: Types | None = None, formals: tuple[str, str, str] = ("A", "B", "C"),
           symbolic: Callable[..., Any] | None = None) -> Operator:
    """Put an operator of two inputs that broadcast into the book.

    The arguments are as in `unary`; `lower` names a primitive.
    """
    first = min(versions)
    a, b, c = formals
    types: dict[str, Any] = {"T": versions[first]} if gives is None else {"T": versions[first], "T1": gives}
    consumes = 1 in versions and 6 in versions
    lays = first < 7
    operator = op(name, Input(a), Input(b), Output(c, "T" if gives is None else "T1"), *attributes,
                  *(LAYING if lays else ()), *((CONSUMED,) if consumes else ()), since=first, **types)
    for version in sorted(versions)[1:]:
        if lays and version == 7:
            operator.since(7, Drop("axis"), Drop("broadcast"), T=versions[7], behaviour=NUMPY_BROADCASTING)
        else:
            operator.since(version, *((Drop("consumed_inputs"),) if consumes and version == 6 else ()),
                           T=versions[version])
    values = None if symbolic is None else each(symbolic)
    add_binary_rules(operator, compute, primitive(lower), gives is not None, values)
    return operator


LAYING = (Attr("axis", "int"), Attr("broadcast", "int", 0))
NUMPY_BROADCASTING = "broadcasts as numpy does, instead of by axis and broadcast"


def add_binary_rules(operator: Operator, compute: Callable[..., Any], lower: Callable[..., Any],
                     gives_bool: bool = False, symbolic: Symbolic | None = None) -> None:
    """The rules of an operator of two inputs, those of before opset 7 included where it is as old."""
    reference = computed(compute, np.bool_ if gives_bool else None)
    modern = operator.versions[0].version
    if modern < 7:
        operator.infer(lambda node: _set_broadcast(node, infer_laid(node), gives_bool, symbolic))
        operator.reference(laying(reference))
        operator.lower(lowering_laid(lower))
        modern = 7
    operator.infer(since=modern)(lambda node: infer_broadcast(node, gives_bool, symbolic))
    operator.reference(since=modern)(reference)
    operator.lower(since=modern)(lower)


def variadic(name: str, y: str, versions: Versions, compute: Callable[..., Any], lower: Callable[..., Any], *,
             symbolic: Callable[..., Any] | None = None) -> Operator:
    """Put an operator of any number of inputs into the book; before opset 8 they all have one shape."""
    operator = op(name, Input("data_0", variadic=True), Output(y), CONSUMED, T=versions[1])
    for version in sorted(versions)[1:]:
        operator.since(version, *((Drop("consumed_inputs"),) if version == 6 else ()), T=versions[version],
                       note="the inputs broadcast as numpy's do" if version == 8 else "")
    values = None if symbolic is None else each(symbolic)
    operator.infer(lambda node: _set_broadcast(node, same_shapes(node), False, values))
    operator.infer(since=8)(lambda node: infer_broadcast(node, False, values))

    def of_one_shape(*xs: Any) -> Any:
        if any(x.shape != xs[0].shape for x in xs):
            raise ValueError("opset 8 was the first to broadcast here")
        return compute(*xs)

    operator.reference(computed(of_one_shape))
    operator.reference(since=8)(computed(compute))
    operator.lower(lowered(lower))
    return operator

