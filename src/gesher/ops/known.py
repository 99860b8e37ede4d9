"""Known values through operators: sizes are computed from shapes by ordinary nodes, and inference follows them.

Where all inputs are plain numbers, the reference rule itself gives the value. Where some are symbolic (object arrays of
`int` and `Dim`), an operator has a second meaning on sizes, `symbolic`, which may answer None: not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .fact import VALUE_LIMIT, Fact
from .rules import InferNode, attributes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gesher.ir import Shape

Symbolic = Callable[..., Any]


def known_value(node: InferNode, shape: Shape | None, symbolic: Symbolic | None = None) -> NDArray[Any] | None:
    """The value of a node's first output, where all its inputs are known; else None.

    Args:
        node: the node, of an operator without side effects, randomness or subgraphs.
        shape: the shape of the output; one of more than `VALUE_LIMIT` elements is not worked out.
        symbolic: `symbolic(*object_arrays) -> array | None`, the meaning on sizes; a left-out input comes as None.
    """
    facts = [node.input(i) for i in range(len(node.node.inputs))]
    # First a look at what costs nothing: most nodes read something that only a run can tell.
    if any(node.has(i) and not _may_be_known(f) for i, f in enumerate(facts)) or not _small(shape):
        return None
    values = [None if f is None else f.value for f in facts]
    if any(node.has(i) and v is None for i, v in enumerate(values)):
        return None
    numbers = [None if f is None else f.numbers() for f in facts]
    if all(n is not None or v is None for n, v in zip(numbers, values)):
        return _by_reference(node, numbers)
    if symbolic is None:
        return None
    try:
        result = symbolic(*(None if v is None else v.astype(object) for v in values))
    except ZeroDivisionError:
        return None
    if result is None:
        return None
    result = np.asarray(result, object)
    return None if any(x is None for x in result.flat) else result


def _may_be_known(fact: Fact | None) -> bool:
    if fact is None:
        return False
    return fact.value is not None if fact.constant is None else fact.constant.size <= VALUE_LIMIT


def _small(shape: Shape | None) -> bool:
    if shape is None:
        return False
    size = 1
    for d in shape:
        if not isinstance(d, int):
            return False
        size *= d
    return size <= VALUE_LIMIT


def _by_reference(node: InferNode, numbers: Sequence[Any]) -> NDArray[Any] | None:
    rule = node.operator.rule("reference", node.version)
    if rule is None or rule.takes_run:
        return None
    result = rule.function(*numbers, **attributes_of(node.node, node.schema))
    return result[0] if isinstance(result, tuple) else result


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

