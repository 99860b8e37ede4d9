"""Symbolic values through operators: sizes are computed from shapes by ordinary nodes, and inference follows them.

Where all inputs are plain numbers, the driver of inference runs the reference rule. Where some are symbolic (object
arrays of `int` and `Dim`), an operator that sizes pass through has a second meaning on them, written with `each` or
`fold`; it may answer None: not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.symbolic import Dim

from .fact import VALUE_LIMIT, Fact
from .rules import InferNode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gesher.ir import Shape

Symbolic = Callable[..., Any]


def symbolic_value(node: InferNode, shape: Shape | None, rule: Symbolic | None) -> NDArray[Any] | None:
    """The value of a node's first output, where all its inputs are known and one of them is symbolic; else None.

    Args:
        node: the node.
        shape: the shape of the output; one of more than `VALUE_LIMIT` elements is not worked out.
        rule: `rule(*object_arrays) -> array | None`, the meaning on sizes; a left-out input comes as None.
    """
    if rule is None or not _small(shape):
        return None
    facts = [node.input(i) for i in range(len(node.node.inputs))]
    # First a look at what costs nothing: most nodes read something that only a run can tell.
    if not any(map(is_symbolic, facts)) or any(node.has(i) and _unknown(f) for i, f in enumerate(facts)):
        return None
    try:
        result = rule(*(None if f is None or f.value is None else f.value.astype(object) for f in facts))
    except ZeroDivisionError:
        return None
    if result is None:
        return None
    result = np.asarray(result, object)
    return None if any(x is None for x in result.flat) else result


def is_symbolic(fact: Fact | None) -> bool:
    """Whether a value is known and depends on symbols."""
    if fact is None or fact.constant is not None or fact.value is None or fact.value.dtype != object:
        return False
    return any(isinstance(x, Dim) for x in fact.value.flat)


def _unknown(fact: Fact | None) -> bool:
    return fact is None or fact.value is None


def _small(shape: Shape | None) -> bool:
    if shape is None:
        return False
    size = 1
    for d in shape:
        if not isinstance(d, int):
            return False
        size *= d
    return size <= VALUE_LIMIT


def each(function: Callable[..., Any]) -> Symbolic:
    """The meaning on sizes of an elementwise operator, from a function on single ints and Dims (None: not known)."""
    def rule(*arrays: Any) -> Any:
        given = [a for a in arrays if a is not None]
        return np.frompyfunc(function, len(given), 1)(*given)

    return rule


def fold(values: NDArray[Any], axes: Sequence[int], function: Callable[..., Any], keepdims: bool) -> NDArray[Any]:
    """An object array with `function(*elements)` in place of all elements along `axes`."""
    kept = [i for i in range(values.ndim) if i not in axes]
    rows = values.transpose([*kept, *axes]).reshape([*(values.shape[i] for i in kept), -1])
    result = np.empty(rows.shape[:-1], object)
    for at in np.ndindex(*result.shape):
        result[at] = function(*rows[at])
    return np.expand_dims(result, tuple(axes)) if keepdims else result
