"""Models as ONNX Runtime's quantiser makes them: compiled, they give the counts of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import FLOAT
from gesher.compiler import toolchain
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder
from gesher.optimizer import for_compiler

pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def network(path: Path) -> None:
    """Convolutions dense, depthwise and strided, a residual, pools, products: what quantisers meet in one small net."""
    rng = np.random.default_rng(0)
    b = Builder({"": 17})

    def some(*shape: int):
        return b.constant((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def conv(x, o: int, c: int, k: int, group: int = 1, stride: int = 1):
        return b.op("Conv", x, some(o, c // group, k, k), some(o), pads=[k // 2] * 4, strides=[stride] * 2, group=group)

    x = b.input("x", FLOAT, ["n", 3, 21, 18])
    y = b.op("Relu", conv(x, 20, 3, 5, stride=2))
    y = b.op("MaxPool", y, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    z = b.op("Relu", conv(b.op("Relu", conv(y, 40, 20, 1)), 40, 40, 3, group=40))
    y = b.op("Add", conv(z, 20, 40, 1), y)
    y = b.op("Concat", b.op("Sigmoid", conv(y, 12, 20, 3, group=4)), y, axis=1)
    y = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", conv(y, 70, 32, 3))))
    y = b.op("Gemm", y, some(70, 30), some(30))
    b.output(b.op("MatMul", y, some(30, 9)), "y")
    gesher.save(b.model(), path)


class Few:
    def __init__(self, feeds):
        self.left = iter(feeds)

    def get_next(self):
        return next(self.left, None)


def feeds(n: int, seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((n, 3, 21, 18)).astype(np.float32)}


def quantised(folder: Path, how: str, activations: str, weights: str, per_channel: bool) -> Path:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, ready, made = (folder / f"{name}.onnx" for name in ("plain", "ready", "made"))
    network(plain)
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    kinds = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
    if how == "dynamic":
        quantize_dynamic(str(ready), str(made), weight_type=kinds[weights], per_channel=per_channel)
    else:
        quantize_static(str(ready), str(made), Few([feeds(2, 1), feeds(2, 2)]), per_channel=per_channel,
                        quant_format=QuantFormat.QDQ if how == "qdq" else QuantFormat.QOperator,
                        activation_type=kinds[activations], weight_type=kinds[weights])
    return made


@pytest.mark.parametrize(("how", "activations", "weights", "per_channel"), [
    ("qdq", "u8", "s8", True), ("qdq", "s8", "s8", True), ("qdq", "u8", "u8", False),
    ("qoperator", "u8", "s8", True), ("qoperator", "u8", "u8", False), ("qoperator", "s8", "s8", False),
    ("dynamic", "u8", "s8", False), ("dynamic", "u8", "u8", False)])
def test_counts_are_those_of_the_reference(tmp_path, how, activations, weights, per_channel):
    model = gesher.load(quantised(tmp_path, how, activations, weights, per_channel))
    whole = for_compiler(model)
    types = {n.op_type for n in whole.model.graph.nodes}
    assert not types & {"Conv", "Gemm"}, "something is computed in floats"
    session = gesher.session(model, engine="compiled", threads=1)
    for n, seed in ((1, 5), (3, 6)):
        fed = feeds(n, seed)
        got, exact, plain = session.run(fed)["y"], Evaluator(whole.model, opsets=whole.opsets).run(fed)["y"], \
            Evaluator(model).run(fed)["y"]
        np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-6)
        if how != "qdq":
            # Nothing was put in the place of anything.
            np.testing.assert_allclose(got, plain, rtol=1e-6, atol=1e-6)
        # Sums that are rounded once and not at each step: a count here and there.
        assert np.abs(got - plain).max() <= 0.05 * np.abs(plain).max()
    told = session.explain()
    assert all(kernel in told for kernel in ("gs_conv_i8", "gs_depthwise_i8", "integer gemm")), told
    session.close()


def in_steps(model, fed):
    """For each value of counts that the optimised model shares by name with the model: (elements, differences, largest
    difference), where every node is given what the model itself computed before it."""
    from gesher.evaluator import run_node

    plain = Evaluator(model)
    names = [o.name for n in model.graph.nodes for o in n.outputs if o is not None]
    truth = plain.run(fed, names)
    whole = for_compiler(model)
    env = {v: v.constant.numpy() for v in whole.model.graph.initializers}
    env.update({v: fed[v.name] for v in whole.model.graph.inputs if v.name in fed})
    found = []
    for node in whole.model.graph.nodes:
        opsets = whole.opsets.get(node, whole.model.opsets)
        results = run_node(node, [None if v is None else env[v] for v in node.inputs], opsets)
        for value, got in zip(node.outputs, results):
            want = truth.get(value.name) if value is not None else None
            if want is None or want.shape != got.shape or want.dtype != got.dtype:
                env[value] = got
                continue
            env[value] = want
            if got.dtype.kind in "iu":
                off = np.abs(got.astype(np.int64) - want.astype(np.int64))
                found.append((off.size, np.count_nonzero(off), off.max(initial=0)))
            else:
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return found


@pytest.mark.parametrize(("how", "activations", "weights", "per_channel"), [
    ("qdq", "u8", "s8", True), ("qdq", "s8", "s8", True), ("dynamic", "u8", "u8", False)])
def test_optimised_nodes_count_as_the_model_given_its_values(tmp_path, how, activations, weights, per_channel):
    # Small differences become large ones behind many quantisers; node by node there is at most a tie rounded the other
    # way, one step on a few elements of a million.
    model = gesher.load(quantised(tmp_path, how, activations, weights, per_channel))
    found = in_steps(model, feeds(8, 5))
    assert len(found) >= 8, "hardly any value of counts is common to both"
    assert max(largest for _, _, largest in found) <= 1
    assert sum(off for _, off, _ in found) <= 1e-4 * sum(size for size, _, _ in found)
