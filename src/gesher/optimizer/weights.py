"""Arithmetic on weights alone, done at export: normalisations of batches go into the layer in front of them.

    Conv(x, w, b) |> BatchNormalization        => Conv(x, w', b')      under the names of w and b
    Unsqueeze(w), Transpose(w), w + 1 ...       => a weight

What a reader would guess wrong:

- A weight that others read too stays, and so does what would take more memory than it is made from.
- Numbers are made when they are first asked for, in float64, and rounded once.
- What is moved but not changed keeps the name of its weight; what is computed says how in its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import GesherError
from gesher.ir import Edit, Model, Node, Storage, Tensor, TensorType, Value
from gesher.ops import resolve
from gesher.rewriter.computed import Computed
from gesher.rewriter.work import RANDOM

_MOVES = ("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_KEPT = {"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "Dropout", *RANDOM}
# Weights of so many bytes may be read by others too: a second copy does not matter.
_SMALL = 1 << 16


class _Later(Storage):
    """Numbers that are computed when they are asked for."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], NDArray[Any]]):
        self.make = make

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.ascontiguousarray(self.make().astype(dtype.numpy)).reshape(shape)


def fold_weights(model: Model, weights: Collection[Value]) -> set[Value]:
    """Do what can be done; answers the weights that are left, and those that were made."""
    left = {w for w in weights if w.constant is not None}
    edit = Edit(model)
    nodes = list(model.graph.nodes)
    for node in nodes:
        if node.op_type not in _KEPT and node.domain in ("", "ai.onnx"):
            _computed(model, edit, node, left)
    for node in nodes:
        if node.op_type == "BatchNormalization" and node.graph is model.graph:
            _batch_norm(edit, node, left)
    return {w for w in left if w.uses}


def _constant(value: Value | None) -> Tensor | None:
    found = None if value is None else value.constant
    return found if isinstance(found, Tensor) else None


def _alone(value: Value, node: Node) -> bool:
    """Whether `node` alone reads a value, once."""
    return dict(value.uses) == {node: 1}


# Computed from weights

def _computed(model: Model, edit: Edit, node: Node, weights: set[Value]) -> None:
    given = [v for v in node.inputs if v is not None]
    own = [v for v in given if v in weights]
    if not own or any(_constant(v) is None for v in given) or any(True for _ in node.subgraphs()):
        return
    sizes = [_constant(v).nbytes for v in own]    # type: ignore[union-attr]
    outputs = [o for o in node.outputs if o is not None and o.uses]
    if len(outputs) != 1 or outputs[0].is_output or any(
            n > _SMALL and sum(v.uses.values()) > 1 for v, n in zip(own, sizes)):
        return
    out = outputs[0]
    t = out.type
    if not isinstance(t, TensorType) or t.shape is None or not all(isinstance(d, int) for d in t.shape):
        return
    shape = tuple(int(d) for d in t.shape)    # type: ignore[arg-type]
    if int(np.prod(shape, dtype=np.int64)) * t.dtype.numpy.itemsize > max(sum(sizes), _SMALL):
        return
    try:
        operator, schema = resolve(node, model.opsets)
    except GesherError:
        return
    if operator.rule("reference", schema.version) is None:
        return
    storage = Computed(node, operator, schema, [_constant(v) for v in node.inputs], node.outputs.index(out))
    name = own[0].name if node.op_type in _MOVES else f"{own[0].name}_{node.op_type.lower()}"
    taken = {v.name for v in model.graph.initializers} | {v.name for v in model.graph.inputs}
    if name in taken and not (node.op_type in _MOVES and sum(own[0].uses.values()) == 1):
        name = next(n for n in (f"{name}_{i}" for i in range(2, 1 << 30)) if n not in taken)
    made = edit.add_initializer(model.graph, Tensor(t.dtype, shape, storage), name)
    edit.replace(out, made)
    edit.drop(node)
    for v in dict.fromkeys(own):
        if not v.uses:
            weights.discard(v)
            edit.drop_initializer(v)
    weights.add(made)


# Normalisations of batches

def _batch_norm(edit: Edit, node: Node, weights: set[Value]) -> None:
    """Into the convolution or product in front, where it is the only reader, and all its numbers are weights."""
    y = node.inputs[0]
    layer = None if y is None else y.producer
    if layer is None or y is None or layer.op_type not in ("Conv", "ConvTranspose", "Gemm") or not _alone(y, node) \
            or node.attr("training_mode") or any(o is not None and o.uses for o in node.outputs[1:]):
        return
    tensors = [_constant(v) for v in node.inputs[1:5]]
    w = layer.inputs[1]
    b = layer.inputs[2] if len(layer.inputs) > 2 else None
    weight, bias = _constant(w), _constant(b)
    if w is None or weight is None or not _alone(w, layer) or (b is not None and bias is None) \
            or any(t is None for t in tensors) or weight.dtype not in (dtypes.FLOAT, dtypes.DOUBLE):
        return
    if layer.op_type == "Gemm" and (layer.attr("alpha", 1.0) != 1 or layer.attr("beta", 1.0) != 1
                                    or (bias is not None and len(bias.shape) != 1)):
        return
    norms = node.inputs[1:5]
    scale, shift, mean, var = (t.numpy().astype(np.float64) for t in tensors if t is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + node.attr("epsilon", 1e-5))
    if not (np.isfinite(factor).all() and np.isfinite(shift).all() and np.isfinite(mean).all()):
        return
    group = int(layer.attr("group", 1))
    axis = 0 if layer.op_type == "Conv" or layer.attr("transB", 0) else 1

    def scaled() -> NDArray[Any]:
        given = weight.numpy().astype(np.float64)
        if layer.op_type == "ConvTranspose" and group > 1:
            # (C, M/g, ...): each group of inputs has its own outputs.
            by_group = given.reshape(group, -1, *given.shape[1:])
            return by_group * factor.reshape(group, 1, given.shape[1], *[1] * (given.ndim - 2))
        return given * factor.reshape([-1 if i == axis else 1 for i in range(given.ndim)])

    def shifted() -> NDArray[Any]:
        own = 0.0 if bias is None else bias.numpy().astype(np.float64)
        moved: NDArray[Any] = (own - mean) * factor + shift
        return moved

    edit.set_constant(w, Tensor(weight.dtype, weight.shape, _Later(scaled)))
    moved = Tensor(weight.dtype, factor.shape, _Later(shifted))
    if b is not None and _alone(b, layer):
        edit.set_constant(b, moved)
    else:
        assert layer.graph is not None
        name = f"{w.name.removesuffix('weight').rstrip('.')}.bias".lstrip(".")
        taken = {v.name for v in layer.graph.initializers} | {v.name for v in layer.graph.inputs}
        b = edit.add_initializer(layer.graph, moved, name if name not in taken else f"{name}_folded")
        weights.add(b)
    # A layer of its own, since what the old one made is no longer there.
    assert node.outputs[0] is not None
    whole = Node(layer.op_type, (), [Value(type=node.outputs[0].type)], dict(layer.attributes), name=layer.name)
    whole.metadata = None if layer.metadata is None else dict(layer.metadata)
    edit.insert(whole, before=node)
    edit.set_inputs(whole, [layer.inputs[0], w, b])
    edit.replace(node.outputs[0], whole.output)
    if node.outputs[0].name:    # where it was given out, its name went along
        edit.rename(whole.output, node.outputs[0].name)
    edit.drop(node)
    edit.drop(layer)
    for v in dict.fromkeys(v for v in norms if v is not None):
        if not v.uses:
            weights.discard(v)
            edit.drop_initializer(v)
