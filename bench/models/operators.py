"""Models of one operator: what a call costs, and how near a product comes to the peak of the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .store import Build, Feeds


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def _one(path: Path, op: str, shape: list[int], out: list[int], weight: np.ndarray) -> None:
    graph = helper.make_graph([helper.make_node(op, ["x", "w"], ["y"])], op.lower(),
                              [helper.make_tensor_value_info("x", 1, shape)],
                              [helper.make_tensor_value_info("y", 1, out)], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def add(path: Path) -> None:
    """x (1,64) + w (64)."""
    _one(path, "Add", [1, 64], [1, 64], normal(64))


def gemm(m: int, n: int, k: int) -> Build:
    """x (m,k) times a weight (k,n)."""
    def build(path: Path) -> None:
        _one(path, "MatMul", [m, k], [m, n], normal(k, n, scale=k ** -0.5))
    return build


def pointwise(c: int, out: int, size: int) -> Build:
    """A 1x1 convolution of (1,c,size,size)."""
    def build(path: Path) -> None:
        _one(path, "Conv", [1, c, size, size], [1, out, size, size], normal(out, c, 1, 1, scale=c ** -0.5))
    return build


def pair(path: Path) -> None:
    """The smallest model with a product: x (1,16) times (16,8), plus (8), then a softmax."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=-1)], "small",
        [helper.make_tensor_value_info("x", 1, [1, 16])], [helper.make_tensor_value_info("y", 1, [1, 8])],
        [numpy_helper.from_array(normal(16, 8), "w"), numpy_helper.from_array(normal(8), "b")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def x(*shape: int) -> Feeds:
    return {"x": normal(*shape, seed=1)}
