"""Maps become rows as ONNX Runtime makes them; what it cannot be fed is held to the text."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto as T
from onnx import helper

from gesher import RunError
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir import Model, TensorType
from gesher.ir.files import from_bytes


def model(op: str, key: int, value: int, out: int, a: dict[str, Any]) -> bytes:
    x = helper.make_value_info("x", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, [])))
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **a)
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("y", out, None)])
    return helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]).SerializeToString()


def ours(data: bytes, x: dict[Any, Any]) -> np.ndarray:
    loaded: Model = from_bytes(data)
    got = Evaluator(loaded).run({"x": x})["y"]
    fact = infer(loaded)[loaded.graph.outputs[0]]
    assert isinstance(fact.type, TensorType) and fact.dtype.numpy == got.dtype
    assert fact.shape is not None and all(a == b for a, b in zip(fact.shape, got.shape) if isinstance(a, int))
    return got


@pytest.mark.parametrize(("to", "out"), [("TO_FLOAT", T.FLOAT), ("TO_INT64", T.INT64), ("TO_STRING", T.STRING)])
@pytest.mark.parametrize("form", ["DENSE", "SPARSE"])
def test_cast_map(to: str, out: int, form: str) -> None:
    x = {5: 1.5, 1: -2.75, 2: 1e10, 3: 0.1}
    data = model("CastMap", T.INT64, T.FLOAT, out, {"cast_to": to, "map_form": form, "max_map": 7})
    want = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    got = ours(data, x)
    assert got.dtype == want.dtype and got.tolist() == want.tolist()


def test_cast_map_reads_numbers_from_strings() -> None:
    x = {7: "1.5", 3: "-2"}
    assert ours(model("CastMap", T.INT64, T.STRING, T.FLOAT, {}), x).tolist() == [[-2.0, 1.5]]
    assert ours(model("CastMap", T.INT64, T.STRING, T.STRING, {"cast_to": "TO_STRING"}), x).tolist() == [["-2", "1.5"]]
    with pytest.raises(RunError, match=r"'1\.5' cannot be made int64"):
        ours(model("CastMap", T.INT64, T.STRING, T.INT64, {"cast_to": "TO_INT64"}), x)


def test_cast_map_refuses_keys_that_have_no_place() -> None:
    data = model("CastMap", T.INT64, T.FLOAT, T.FLOAT, {"map_form": "SPARSE", "max_map": 3})
    for key in (3, -1):
        with pytest.raises(RunError, match=f"the key {key} is outside"):
            ours(data, {key: 1.0})
    with pytest.raises(RunError, match="cast_to is"):
        ours(model("CastMap", T.INT64, T.FLOAT, T.FLOAT, {"cast_to": "TO_BOOL"}), {1: 1.0})


@pytest.mark.parametrize("x", [{"a": 4.0, "c": 8.0}, {"q": 1.0, "z": 2.0}])
def test_dict_vectorizer(x: dict[str, float]) -> None:
    data = model("DictVectorizer", T.STRING, T.FLOAT, T.FLOAT, {"string_vocabulary": ["a", "c", "b", "z"]})
    want = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    got = ours(data, x)
    assert got.dtype == want.dtype and got.shape == want.shape and got.tolist() == want.tolist()


@pytest.mark.parametrize(("key", "value", "x", "want"), [
    (T.STRING, T.INT64, {"a": 4, "b": 8}, [[4, 8, 0]]), (T.STRING, T.DOUBLE, {"c": 0.1}, [[0.0, 0.0, 0.1]]),
    (T.INT64, T.STRING, {3: "x"}, [["", "x", ""]]), (T.INT64, T.DOUBLE, {}, [[0.0, 0.0, 0.0]])])
def test_dict_vectorizer_keeps_the_type_of_the_values(key: int, value: int, x: Any, want: Any) -> None:
    words: dict[str, Any] = {"string_vocabulary": list("abc")} if key == T.STRING else {"int64_vocabulary": [9, 3, 5]}
    assert ours(model("DictVectorizer", key, value, value, words), x).tolist() == want


def test_dict_vectorizer_refuses_keys_of_another_kind() -> None:
    with pytest.raises(RunError, match="no vocabulary"):
        ours(model("DictVectorizer", T.STRING, T.FLOAT, T.FLOAT, {}), {"a": 1.0})
