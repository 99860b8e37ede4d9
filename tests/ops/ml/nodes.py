"""One node of ai.onnx.ml, run by the reference rule, by its lowering, and by ONNX Runtime."""

from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import helper, numpy_helper

from gesher.base import dtypes
from gesher.ir import Node, Tensor, TensorType, Value
from gesher.ops import Fact, find, infer_node, run_node
from gesher.ops.rules import Run, attributes_of
from gesher.primitives import Builder, CannotLower, evaluate
from gesher.symbolic import sym

ML = "ai.onnx.ml"


def by_reference(op: str, x: np.ndarray, outputs: int, version: int, attributes: dict[str, Any]) -> list[Any]:
    operator = find(ML, op)
    assert operator is not None
    schema = operator.schema(version)
    assert schema is not None
    node = Node(op, [Value("x")], outputs, attributes, domain=ML)
    run = Run(node, schema, run_graph=lambda g, i: [], random=np.random.default_rng(0), budget=1 << 30, opsets={})
    return run_node(node, operator, schema, [x], run)


def by_onnxruntime(op: str, x: np.ndarray, outputs: list[tuple[str, int]], version: int,
                   attributes: dict[str, Any]) -> list[Any]:
    made = {k: numpy_helper.from_array(v.numpy()) if isinstance(v, Tensor) else v for k, v in attributes.items()}
    node = helper.make_node(op, ["x"], [n for n, _ in outputs], domain=ML, **made)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(
        "x", helper.np_dtype_to_tensor_dtype(x.dtype), [None, x.shape[1]])],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17),
                                                                   helper.make_opsetid(ML, version)])
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})


def lowering_agrees(op: str, x: np.ndarray, want: list[Any], version: int, attributes: dict[str, Any],
                    atol: float = 1e-5) -> bool:
    """Hold the lowering and the inference rule against the reference's answers; False where there is no lowering."""
    operator = find(ML, op)
    assert operator is not None
    schema = operator.schema(version)
    assert schema is not None
    node = Node(op, [Value("x")], [Value(f"y{i}") for i in range(len(want))], attributes, domain=ML)
    dtype = dtypes.from_numpy(x.dtype)
    n = sym("n")
    facts = infer_node(node, {ML: version}, [Fact.tensor(dtype, (n, *x.shape[1:]))])
    for fact, array in zip(facts, want):
        if isinstance(array, list):
            continue
        assert fact is not None and isinstance(fact.type, TensorType)
        assert fact.dtype is dtypes.from_numpy(array.dtype)
        assert fact.shape is not None
        assert tuple(len(x) if d == n else d for d in fact.shape) == array.shape
    rule = operator.rule("lower", version)
    if rule is None:
        return False
    p = Builder(outputs=len(want), version=version)
    try:
        made = rule.function(p, p.input("x", dtype, (n, *x.shape[1:])), **attributes_of(node, schema))
    except CannotLower:
        return False
    got = evaluate(list(made) if isinstance(made, tuple) else [made], {"x": x})
    for a, b in zip(got, want):
        assert a.dtype == b.dtype and a.shape == b.shape
        if b.dtype.kind == "f":
            # float32 sums in another order
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=atol)
        else:
            assert np.array_equal(a, b)
    return True
