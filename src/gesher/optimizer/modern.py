"""Older spellings brought up to date, so that every other rule knows one: the newest.

Axes, sizes and bounds that were attributes become inputs. Whatever merely widened needs no rule (`Work.is_current`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Node
from gesher.rewriter import Rewrite, Work, rule

_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
               "ReduceProd", "ReduceSum", "ReduceSumSquare")


@rule("axes_as_input", *_REDUCTIONS, current=False, reach=0)
def _reduction(work: Work, node: Node) -> Any:
    if work.is_current(node) or work.version(node) < 1 or len(node.inputs) != 1:
        return None
    axes = node.attr("axes")
    return work.op(node.op_type, node.inputs[0], None if axes is None else list(axes),
                   keepdims=work.attribute(node, "keepdims"))


@rule("squeezed_axes_as_input", "Squeeze", "Unsqueeze", current=False, reach=0)
def _squeeze(work: Work, node: Node) -> Any:
    if work.is_current(node) or len(node.inputs) != 1:
        return None
    axes = node.attr("axes")
    return work.op(node.op_type, node.inputs[0], None if axes is None else list(axes))


@rule("softmax_along_one_axis", "Softmax", "LogSoftmax", "Hardmax", current=False, reach=0)
def _softmax(work: Work, node: Node) -> Any:
    x = node.inputs[0]
    if work.is_current(node) or x is None:
        return None
    shape, axis = work.shape(x), work.attribute(node, "axis")
    if shape is None:
        return "the rank is not known, and until opset 12 all axes from `axis` on count"
    axis += len(shape) if axis < 0 else 0
    # Axes of size 1 make no difference.
    if any(d != 1 for d in shape[axis + 1:]) or axis >= len(shape):
        if any(d != 1 for d in shape[axis:-1]):
            return "it runs along several axes at once"
        axis = len(shape) - 1
    return work.op(node.op_type, x, axis=axis)


@rule("slice_by_inputs", "Slice", current=False, reach=0)
def _slice(work: Work, node: Node) -> Any:
    if work.is_current(node) or len(node.inputs) != 1:
        return None
    starts, ends, axes = node.attr("starts"), node.attr("ends"), node.attr("axes")
    return work.op("Slice", node.inputs[0], list(starts), list(ends), None if axes is None else list(axes))


@rule("bounds_as_inputs", "Clip", current=False, reach=0)
def _clip(work: Work, node: Node) -> Any:
    x = node.inputs[0]
    if x is None or work.is_current(node) or not 6 <= work.version(node) < 11:
        return None
    dtype = work.dtype(x)
    if not dtype.is_float:
        return f"the bounds are of {dtype.name}"
    low, high = (np.asarray(work.attribute(node, k)).astype(dtype.numpy) for k in ("min", "max"))
    return work.op("Clip", x, low, high)


@rule("padding_by_inputs", "Pad", current=False, reach=0)
def _pad(work: Work, node: Node) -> Any:
    x = node.inputs[0]
    if x is None or work.is_current(node) or not 2 <= work.version(node) < 11:
        return None
    value = np.asarray(work.attribute(node, "value")).astype(work.dtype(x).numpy)
    return work.op("Pad", x, list(node.attr("pads")), value, mode=work.attribute(node, "mode"))


@rule("sizes_as_input", "Split", current=False, reach=0)
def _split(work: Work, node: Node) -> Any:
    x, axis = node.inputs[0], work.attribute(node, "axis")
    if x is None or work.is_current(node) or work.version(node) < 2:
        return None
    outputs = len(node.outputs)
    sizes = node.attr("split") if len(node.inputs) < 2 else node.inputs[1]
    if sizes is None:
        shape = work.shape(x)
        size = None if shape is None else shape[axis]
        if not isinstance(size, int) or size % outputs:
            return "that it splits evenly is not known"
        sizes = [size // outputs] * outputs
    return work.op("Split", x, list(sizes) if isinstance(sizes, tuple) else sizes, axis=axis, outputs=outputs)


@rule("dropout_that_only_infers", "Dropout", current=False, reach=0)
def _dropout(work: Work, node: Node) -> Any:
    version = work.version(node)
    if version >= 12:
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if training is not None and work.scalar(training) is not False:
            return "it may train"
    elif version < 7 and not work.attribute(node, "is_test"):
        return "it trains"
    if len(node.outputs) > 1 and node.outputs[1] is not None and node.outputs[1].uses:
        return "its mask is read"
    return node.inputs[0]


@rule("batch_norm_that_only_infers", "BatchNormalization", current=False, reach=0)
def _batch_norm(work: Work, node: Node) -> Any:
    version = work.version(node)
    if work.is_current(node) or not version or any(o is not None and o.uses for o in node.outputs[1:]):
        return None
    # Until opset 6 an attribute says that it does not train, from 7 on that there is but one output.
    if len(node.outputs) > 1 if version >= 7 else not work.attribute(node, "is_test"):
        return "it trains"
    if version < 9 and not work.attribute(node, "spatial"):
        return "every place has statistics of its own"
    return work.op("BatchNormalization", *node.inputs, epsilon=work.attribute(node, "epsilon"),
                   momentum=work.attribute(node, "momentum"))


@rule("top_k_by_input", "TopK", current=False, reach=0)
def _top_k(work: Work, node: Node) -> Any:
    if work.is_current(node) or work.version(node) != 1:
        return None
    return work.op("TopK", node.inputs[0], [node.attr("k")], axis=work.attribute(node, "axis"), outputs=2)


@rule("scatter_elements", "Scatter", current=False, reach=0)
def _scatter(work: Work, node: Node) -> Any:
    return work.op("ScatterElements", *node.inputs, axis=work.attribute(node, "axis"))


RULES: tuple[Rewrite, ...] = (_reduction, _squeeze, _softmax, _slice, _clip, _pad, _split, _dropout, _batch_norm,
                              _top_k, _scatter)
