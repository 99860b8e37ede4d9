"""Models that the benchmarks open: written by the onnx package, so that no file is of our own making."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def chain(path: Path, nodes: int) -> None:
    """A graph of `nodes` nodes: elementwise, transposes and weights in turn, all of it one long chain."""
    made, weights, before = [], [], "x"
    rng = np.random.default_rng(0)
    for i in range(nodes):
        out = f"v{i}"
        if i % 4 == 0:
            weights.append(numpy_helper.from_array(rng.standard_normal(8).astype(np.float32), f"w{i}"))
            made.append(helper.make_node("Add", [before, f"w{i}"], [out], name=f"n{i}"))
        elif i % 4 == 1:
            made.append(helper.make_node("Relu", [before], [out], name=f"n{i}"))
        else:
            made.append(helper.make_node("Transpose", [before], [out], name=f"n{i}", perm=[1, 0]))
        before = out
    graph = helper.make_graph(made, "chain", [helper.make_tensor_value_info("x", 1, ["b", 8])],
                              [helper.make_tensor_value_info(before, 1, None)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def external(path: Path, megabytes: int) -> None:
    """A model whose weights, `megabytes` of them, lie in a file beside it (sparse where the disk allows)."""
    count, size = 24, megabytes * (1 << 20) // 24 // 4096 * 4096
    data = path.with_suffix(".data")
    with data.open("wb") as f:
        f.truncate(count * size)
    nodes, weights, before = [], [], "x"
    for i in range(count):
        t = onnx.TensorProto(name=f"w{i}", data_type=1, dims=[size // 4096, 1024],
                             data_location=onnx.TensorProto.EXTERNAL)
        for key, value in (("location", data.name), ("offset", str(i * size)), ("length", str(size))):
            t.external_data.add(key=key, value=value)
        weights.append(t)
        nodes.append(helper.make_node("MatMul" if i == 0 else "Add", [before, f"w{i}"], [f"v{i}"]))
        before = f"v{i}"
    graph = helper.make_graph(nodes, "external",
                              [helper.make_tensor_value_info("x", 1, ["b", size // 4096])],
                              [helper.make_tensor_value_info(before, 1, None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())


def bert(path: Path, layers: int = 12, hidden: int = 768, vocabulary: int = 30522) -> None:
    """BERT-base's tensors in one file: 436 MB with an embedding of 30,522 words and 12 layers."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((hidden, 4 * hidden)).astype(np.float32)
    nodes, weights = [], []

    def weight(name: str, shape: tuple[int, ...]) -> str:
        values = np.resize(block, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    nodes.append(helper.make_node("Gather", [weight("words", (vocabulary, hidden)), "input_ids"], ["h0"]))
    for i in range(layers):
        h = f"h{i}"
        for part in ("q", "k", "v", "o"):
            nodes.append(helper.make_node("MatMul", [h, weight(f"{i}.{part}.w", (hidden, hidden))], [f"{i}.{part}m"]))
            nodes.append(helper.make_node("Add", [f"{i}.{part}m", weight(f"{i}.{part}.b", (hidden,))], [f"{i}.{part}"]))
        nodes.append(helper.make_node("Mul", [f"{i}.q", f"{i}.k"], [f"{i}.qk"]))
        nodes.append(helper.make_node("Add", [f"{i}.qk", f"{i}.v"], [f"{i}.qkv"]))
        nodes.append(helper.make_node("Add", [f"{i}.qkv", f"{i}.o"], [f"{i}.a"]))
        nodes.append(helper.make_node("MatMul", [f"{i}.a", weight(f"{i}.up", (hidden, 4 * hidden))], [f"{i}.u"]))
        nodes.append(helper.make_node("Relu", [f"{i}.u"], [f"{i}.r"]))
        nodes.append(helper.make_node("MatMul", [f"{i}.r", weight(f"{i}.down", (4 * hidden, hidden))], [f"h{i + 1}"]))
    graph = helper.make_graph(nodes, "bert", [helper.make_tensor_value_info("input_ids", 7, ["batch", "sequence"])],
                              [helper.make_tensor_value_info(f"h{layers}", 1, ["batch", "sequence", hidden])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
