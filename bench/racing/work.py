"""How much arithmetic a model asks for: multiplications and additions of its products, as their definitions have them.

Counted from inferred shapes, for convolutions, matrix products and recurrences, floating and integer; what is
elementwise is left out. Work inside loops and branches is not counted.
"""

from __future__ import annotations

import tempfile
from math import prod
from pathlib import Path
from typing import Any

import onnx

import gesher
from gesher.ir import Model, Node, TensorType
from gesher.symbolic import Dim

_PRODUCTS = {"MatMul": (0, 1), "Gemm": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3), "QGemm": (0, 3),
             "MatMulIntegerToFloat": (0, 1), "DynamicQuantizeMatMul": (0, 1), "FusedMatMul": (0, 1)}
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}


def flops_of(path: Path, feeds: dict[str, Any]) -> float:
    """Operations of one run with such feeds, a multiplication with its addition counted as two."""
    with tempfile.TemporaryDirectory(prefix="gesher-bench-") as folder:
        model = gesher.load(path)
        if is_free(model):
            model = gesher.load(specialised(path, feeds, Path(folder)))
        return _flops(model)


def _flops(model: Model) -> float:
    facts = gesher.infer(model)

    def shape(node: Node, values: Any, i: int) -> list[int] | None:
        value = values[i] if i < len(values) else None
        fact = facts.get(value) if value is not None else None
        found = fact.type.shape if fact is not None and isinstance(fact.type, TensorType) else None
        return None if found is None or any(isinstance(d, Dim) or d is None for d in found) else [int(d) for d in found]

    total = 0.0
    for node in model.graph.nodes:
        out = shape(node, node.outputs, 0)
        if node.op_type in _PRODUCTS:
            a = shape(node, node.inputs, _PRODUCTS[node.op_type][0])
            if out is not None and a:
                transposed = node.op_type == "Gemm" and bool(node.attr("transA"))
                total += 2.0 * prod(out) * (a[0] if transposed else a[-1])
        elif node.op_type in _CONVOLUTIONS:
            w = shape(node, node.inputs, _CONVOLUTIONS[node.op_type])
            if out is not None and w is not None:
                total += 2.0 * prod(out) * prod(w[1:])
        elif node.op_type == "ConvTranspose":
            x, w = shape(node, node.inputs, 0), shape(node, node.inputs, 1)
            if x is not None and w is not None:
                total += 2.0 * prod(x) * prod(w[1:])
        elif node.op_type in ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"):
            x, w, r = (shape(node, node.inputs, i) for i in range(3))
            if x is not None and w is not None and r is not None:
                total += 2.0 * x[0] * x[1] * (prod(w) + prod(r))
    return total


def is_free(model: Model) -> bool:
    """Whether an input has a size that is not a number."""
    shapes = [v.type.shape for v in model.graph.inputs if isinstance(v.type, TensorType)]
    return any(shape is None or any(not isinstance(d, int) for d in shape) for shape in shapes)


def specialised(path: Path, feeds: dict[str, Any], folder: Path) -> Path:
    """The model with its free sizes fixed to those of the feeds, as a file in `folder`."""
    model = onnx.load(path)
    for v in model.graph.input:
        if v.name in feeds:
            v.type.tensor_type.ClearField("shape")
            for n in feeds[v.name].shape:
                v.type.tensor_type.shape.dim.add(dim_value=n)
    # What was said of values on the way and of outputs is inferred again.
    del model.graph.value_info[:]
    for v in model.graph.output:
        v.type.tensor_type.ClearField("shape")
    made = folder / f"{path.stem}-{'-'.join(str(n) for x in feeds.values() for n in x.shape)[:60]}.onnx"
    onnx.save(model, made)
    return made


def touched_bytes(path: Path, feeds: dict[str, Any], outputs: list[Any]) -> float:
    """Bytes that a run cannot avoid: the model's weights once, its inputs and outputs (as large as the file, about)."""
    return float(path.stat().st_size + sum(x.nbytes for x in feeds.values()) + sum(y.nbytes for y in outputs))
