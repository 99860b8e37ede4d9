"""Nodes that give what they take."""

from __future__ import annotations

from typing import Any

from gesher.ir import Node, TensorType
from gesher.rewriter import Rewrite, Work, rule


@rule("drop_identity", "Identity", current=False, reach=0, same=True)
def _identity(work: Work, node: Node) -> Any:
    return node.inputs[0]


@rule("drop_same_shape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice", "Pad", reach=1)
def _same_shape(work: Work, node: Node) -> Any:
    """Data that keeps its shape is not moved by these: nothing is cut, added, or in another order."""
    x = node.inputs[0]
    if x is None or not work.same_shape(work.shape(x), work.shape(node.output)):
        return None
    if node.op_type == "Slice":
        steps = work.ints(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
        if steps is None or any(s != 1 for s in steps):
            return "it may turn an axis around"
    if node.op_type == "Pad":
        # Adding two in front and taking two behind keeps the shape, too.
        pads = work.ints(node.inputs[1])
        if pads is None or any(pads):
            return "its pads may be other than 0"
    if node.op_type == "Tile":
        shape = work.shape(x)
        if shape is not None and 0 in shape:
            return "there is nothing in it"
    return x


@rule("drop_same_type", "Cast", "CastLike", current=False, reach=0)
def _same_type(work: Work, node: Node) -> Any:
    x = node.inputs[0]
    if x is None or work.dtype(x) is not work.dtype(node.output) or not isinstance(work.fact(x).type, TensorType):
        return None
    return x


@rule("drop_still_transpose", "Transpose", reach=0)
def _still(work: Work, node: Node) -> Any:
    perm = node.attr("perm")
    if perm is None:
        shape = None if node.inputs[0] is None else work.shape(node.inputs[0])
        perm = () if shape is None else tuple(reversed(range(len(shape))))
        if shape is None:
            return None
    return node.inputs[0] if list(perm) == list(range(len(perm))) else None


@rule("drop_single", "Concat", "Sum", "Max", "Min", "Mean", reach=0)
def _single(work: Work, node: Node) -> Any:
    return node.inputs[0] if len(node.inputs) == 1 else None


@rule("drop_empty_parts", "Concat", reach=1)
def _empty_parts(work: Work, node: Node) -> Any:
    """Parts of size 0 along the axis add nothing."""
    axis = node.attr("axis")
    kept = []
    for v in node.inputs:
        shape = None if v is None else work.shape(v)
        if shape is None:
            return None
        if shape[axis] != 0:
            kept.append(v)
    if not kept or len(kept) == len(node.inputs):
        return None
    return work.op("Concat", *kept, axis=axis)


@rule("drop_single_part", "Split", reach=0)
def _single_part(work: Work, node: Node) -> Any:
    return node.inputs[0] if len(node.outputs) == 1 else None


@rule("drop_open_clip", "Clip", reach=0)
def _open_clip(work: Work, node: Node) -> Any:
    return node.inputs[0] if all(v is None for v in node.inputs[1:]) else None


@rule("settled_where", "Where", reach=1)
def _settled_where(work: Work, node: Node) -> Any:
    c, a, b = node.inputs
    if c is None:
        return None
    numbers = work.numbers(c)
    if numbers is None or not numbers.size or not (numbers.all() or not numbers.any()):
        return None
    return a if numbers.all() else b


@rule("settled_if", "If", current=False, reach=1, same=True)
def _settled_if(work: Work, node: Node) -> Any:
    """The branch that is always taken stands in the place of its node."""
    condition = None if node.inputs[0] is None else work.scalar(node.inputs[0])
    if condition is None:
        return None
    branch = node.attr("then_branch" if condition else "else_branch")
    for inner in list(branch.nodes):
        work.edit.move(inner, before=node)
    return list(branch.outputs)


@rule("drop_single_window", "MaxPool", "AveragePool", reach=0)
def _single_window(work: Work, node: Node) -> Any:
    """A window of one element, moved by one, without a border."""
    if any(o is not None and o.uses for o in node.outputs[1:]) or node.attr("auto_pad", "NOTSET") != "NOTSET":
        return None
    plain = all(v == 1 for v in node.attr("kernel_shape")) and all(v == 1 for v in node.attr("strides") or (1,)) \
        and not any(node.attr("pads") or ())
    return [node.inputs[0]] if plain else None


@rule("relu_twice", "Relu", "Clip", reach=2)
def _relu_twice(work: Work, node: Node) -> Any:
    """A Relu that reads a Relu does nothing, nor one in front of a Clip from 0 on."""
    first = work.producer(node.inputs[0], "Relu")
    if first is None:
        return None
    if node.op_type == "Relu":
        return node.inputs[0]
    low = work.scalar(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if low is None or low < 0:
        return "the Clip may let numbers below 0 through"
    return work.op("Clip", first.inputs[0], *node.inputs[1:])


RULES: tuple[Rewrite, ...] = (_identity, _same_shape, _same_type, _still, _single, _empty_parts, _single_part,
                              _open_clip, _settled_where, _settled_if, _single_window, _relu_twice)
