"""Broadcasting: how the shapes of several inputs become one, over symbolic dims.

From opset 7 on ONNX broadcasts as numpy does. Before, a second input was laid into the first where `axis` said, and
only if the attribute `broadcast` was 1; the result always had the first's shape. `PRelu` lays its slope into its input
to this day ("unidirectional").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base.errors import RunError
from gesher.ir import DimLike, Shape
from gesher.ir.types import print_shape
from gesher.symbolic import Contradiction, broadcast

from .rules import InferNode

if TYPE_CHECKING:
    from numpy.typing import NDArray


def broadcast_shapes(node: InferNode, shapes: Sequence[Sequence[DimLike] | None]) -> Shape | None:
    """The shape that all of `shapes` broadcast to; None where a rank is unknown.

    Raises:
        ModelError: two of them surely do not fit.
    """
    if not shapes or any(shape is None for shape in shapes):
        return None
    first, *others = (tuple(shape) for shape in shapes if shape is not None)
    result = first
    for shape in others:
        if shape == result:
            continue
        rank = max(len(result), len(shape))
        a, b = (1,) * (rank - len(result)) + result, (1,) * (rank - len(shape)) + shape
        try:
            result = tuple(_broadcast_sizes(node, i, x, y) for i, (x, y) in enumerate(zip(a, b)))
        except Contradiction as e:
            node.fail(f"the shapes {print_shape(result)} and {print_shape(shape)} do not broadcast", str(e))
    return result


def _broadcast_sizes(node: InferNode, axis: int, a: DimLike, b: DimLike) -> DimLike:
    # Most pairs need no thought, and a model has many thousands of them.
    if b.__class__ is int and b == 1:
        return a
    if a.__class__ is int and (a == 1 or a == b):
        return b
    return broadcast(a, b, node.equalities, f"{node.node.place}: axis {axis} of its inputs broadcasts")


def broadcast_inputs(node: InferNode, *indices: int) -> Shape | None:
    """The shape that the inputs at `indices` (all, where none is named) broadcast to."""
    return broadcast_shapes(node, [node.shape(i) for i in indices or range(len(node.node.inputs))])


def broadcast_into(node: InferNode, target: Shape | None, shape: Shape | None, what: str) -> None:
    """Check that `shape` can be laid into `target` as numpy would, without widening `target`.

    Raises:
        ModelError: it surely cannot.
    """
    if target is None or shape is None:
        return
    if len(shape) > len(target):
        node.fail(f"{what} {print_shape(shape)} has more axes than {print_shape(target)}")
    for want, have in zip(reversed(target), reversed(shape)):
        if isinstance(have, int) and have != 1:
            node.unify(want, have, f"{what} {print_shape(shape)} laid into {print_shape(target)}")


def same_shapes(node: InferNode, *indices: int) -> Shape | None:
    """The one shape of inputs that may not be broadcast, as far as any of them is known.

    Raises:
        ModelError: they surely differ.
    """
    result: Shape | None = None
    for i in indices or range(len(node.node.inputs)):
        shape = node.shape(i)
        if shape is None:
            continue
        if result is None:
            result = shape
            continue
        if len(result) != len(shape):
            node.fail(f"the shapes {print_shape(result)} and {print_shape(shape)} differ",
                      f"opset {node.version} does not broadcast here")
        result = tuple(node.unify(a, b, f"axis {k} of inputs of the same shape")
                       for k, (a, b) in enumerate(zip(result, shape)))
    return result


# Before opset 7


def laid_shape(a: Sequence[DimLike | None], b: Sequence[DimLike | None], axis: int | None) -> Shape:
    """What to reshape `b` to before it is laid into `a`: `axis` says where b's first axis goes, None ends b with a.

    Raises:
        ValueError: it does not fit.
    """
    if len(b) <= len(a) and all(isinstance(d, int) and d == 1 for d in b):
        return (1,) * len(a)
    start = len(a) - len(b) if axis is None else axis + len(a) if axis < 0 else axis
    behind = len(a) - len(b) - start
    if start < 0 or behind < 0:
        where = "at the end" if axis is None else f"at axis {axis}"
        raise ValueError(f"{print_shape(tuple(b))} cannot be laid into {print_shape(tuple(a))} {where}")
    return (1,) * start + tuple(b) + (1,) * behind


def infer_laid(node: InferNode) -> Shape | None:
    """The shape of a binary operator before opset 7: that of its first input.

    Raises:
        ModelError: the second input surely does not fit.
    """
    if not node["broadcast"]:
        return same_shapes(node, 0, 1)
    a, b = node.shape(0), node.shape(1)
    if a is not None and b is not None:
        try:
            laid = laid_shape(a, b, node["axis"])
        except ValueError as e:
            node.fail(str(e))
        broadcast_into(node, a, laid, "the second input")
    return a


def laying(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference rule of before opset 7 from one that broadcasts as numpy does."""

    @wraps(function)
    def rule(a: NDArray[Any], b: NDArray[Any], *, axis: int | None, broadcast: int, **attributes: Any) -> Any:
        try:
            if not broadcast and a.shape != b.shape:
                raise ValueError(f"{print_shape(a.shape)} and {print_shape(b.shape)} differ, and broadcast is 0")
            b = np.broadcast_to(b.reshape(laid_shape(a.shape, b.shape, axis)) if broadcast else b, a.shape)  # type: ignore[arg-type]
        except ValueError as e:
            raise RunError(f"the inputs do not fit: {e}") from None
        return function(a, b, **attributes)

    return rule


def lowering_laid(function: Callable[..., Any]) -> Callable[..., Any]:
    """A lowering of before opset 7 from one that broadcasts as numpy does."""

    @wraps(function)
    def rule(p: Any, a: Any, b: Any, *, axis: int | None, broadcast: int, **attributes: Any) -> Any:
        if broadcast:
            b = p.reshape(b, laid_shape(a.shape, b.shape, axis))
        return function(p, a, b, **attributes)

    return rule
