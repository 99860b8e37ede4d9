"""A sparse matrix times a dense one, as ONNX Runtime has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from tests.ops.contrib.nodes import MS
from tests.ops.single_node import session

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.evaluator.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir.files import from_bytes

RNG = np.random.default_rng(36)
TURNS = [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1}]


def model(dtype: Any, a: Any, b: Any, **attributes: Any) -> bytes:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("SparseToDenseMatMul", ["a", "b"], ["y"], domain=MS, **attributes)
    graph = helper.make_graph([node], "sparse", [helper.make_sparse_tensor_value_info("a", code, a),
                                                 helper.make_tensor_value_info("b", code, b)],
                              [helper.make_tensor_value_info("y", code, None)])
    made: onnx.ModelProto = helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)])
    return made.SerializeToString()


def theirs(proto: bytes, a: Any, b: Any, by_row: bool) -> Any:
    cpu = ort.OrtDevice.make("cpu", 0)
    rows, columns = (i.astype(np.int64) for i in np.nonzero(a))
    size, values = np.array(a.shape, np.int64), a[rows, columns]
    if by_row:
        ends = np.concatenate([[0], np.cumsum((a != 0).sum(1))]).astype(np.int64)
        sparse = ort.SparseTensor.sparse_csr_from_numpy(size, values, columns, ends, cpu)
    else:
        sparse = ort.SparseTensor.sparse_coo_from_numpy(size, values, np.stack([rows, columns], 1), cpu)
    feeds = {"a": ort.OrtValue.ort_value_from_sparse_tensor(sparse), "b": ort.OrtValue.ortvalue_from_numpy(b)}
    return session(proto).run_with_ort_values(None, feeds)[0].numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("turn", TURNS)
def test_products(turn: dict[str, int], by_row: bool, dtype: Any) -> None:
    shape = (4, 3) if turn.get("transA") else (3, 4)
    a = (RNG.integers(1, 9, shape) * (RNG.random(shape) < 0.5)).astype(dtype)
    b = RNG.integers(0, 9, (5, 4) if turn.get("transB") else (4, 5)).astype(dtype)
    # Sizes without numbers: ONNX Runtime's own inference forgets that matrices may be turned.
    proto = model(dtype, ["p", "q"], ["r", "s"], **turn)
    ours = Evaluator(from_bytes(proto)).run({"a": a, "b": b})["y"]
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, theirs(proto, a, b, by_row))


def test_a_factor() -> None:
    """ONNX Runtime multiplies products of float by it, and forgets it for the other types."""
    a, b = np.array([[0, 2], [3, 0]]), np.array([[1, 4], [5, 6]])
    for dtype in (np.float32, np.float64, np.int64):
        proto = model(dtype, (2, 2), (2, 2), alpha=2.5)
        ours = Evaluator(from_bytes(proto)).run({"a": a.astype(dtype), "b": b.astype(dtype)})["y"]
        np.testing.assert_array_equal(ours, np.array([[25, 30], [7.5, 30]]).astype(dtype))
        if dtype is np.float32:
            np.testing.assert_array_equal(ours, theirs(proto, a.astype(dtype), b.astype(dtype), False))


@pytest.mark.parametrize("turn", TURNS)
def test_sizes(turn: dict[str, int]) -> None:
    loaded = from_bytes(model(np.float64, ["k", "m"] if turn.get("transA") else ["m", "k"],
                              ["n", "k"] if turn.get("transB") else ["k", "n"], **turn))
    fact = infer(loaded)[loaded.graph.outputs[0]]
    assert fact.dtype is dtypes.DOUBLE
    assert [str(d) for d in fact.shape or ()] == ["m", "n"]


def test_what_does_not_fit_is_refused() -> None:
    loaded = from_bytes(model(np.float32, (2, 3), (4, 5)))
    found = infer(loaded).findings
    assert any("columns of A and the rows of B" in f.message for f in found), found
    with pytest.raises(RunError, match=r"columns of A and the rows of B|do not fit each other"):
        Evaluator(loaded).run({"a": np.zeros((2, 3), np.float32), "b": np.zeros((4, 5), np.float32)})
