"""The checker on files: real ones have nothing wrong, and what only a file can show is found."""

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from tests.real_models import model_files, short

from gesher.checker import check
from gesher.ir.files import from_bytes, load


@pytest.mark.parametrize("path", model_files(), ids=short)
def test_a_model_of_the_wild_has_no_error(path: Path) -> None:
    report = check(load(path))
    assert report.ok, str(report)


def model_with(initializer: onnx.TensorProto) -> onnx.ModelProto:
    node = onnx.helper.make_node("Identity", ["t"], ["y"])
    graph = onnx.helper.make_graph([node], "main", [], [onnx.helper.make_tensor_value_info("y", 1, None)],
                                   [initializer])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


def found(model: onnx.ModelProto) -> list[str]:
    return [f.rule for f in check(from_bytes(model.SerializeToString())).errors]


def test_a_tensor_held_in_two_places_is_found() -> None:
    t = onnx.numpy_helper.from_array(np.ones(2, np.float32), "t")
    assert not found(model_with(t))
    t.float_data.extend([1, 1])
    assert found(model_with(t)) == ["tensor-data"]


def test_data_in_the_field_of_another_type_is_found() -> None:
    t = onnx.TensorProto(name="t", dims=[2], data_type=onnx.TensorProto.FLOAT, int64_data=[1, 1])
    assert found(model_with(t)) == ["tensor-data"]


def test_data_in_a_file_that_is_not_there_is_found(tmp_path: Path) -> None:
    t = onnx.TensorProto(name="t", dims=[2], data_type=onnx.TensorProto.FLOAT,
                         data_location=onnx.TensorProto.EXTERNAL)
    t.external_data.add(key="location", value="weights.bin")
    path = tmp_path / "m.onnx"
    path.write_bytes(model_with(t).SerializeToString())
    report = check(load(path))
    assert [f.rule for f in report.errors] == ["external-data"], str(report)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    assert check(load(path)).ok
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4)
    assert not check(load(path)).ok


def test_data_outside_the_model_s_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    (tmp_path / "inner").mkdir()
    t = onnx.TensorProto(name="t", dims=[2], data_type=onnx.TensorProto.FLOAT,
                         data_location=onnx.TensorProto.EXTERNAL)
    t.external_data.add(key="location", value="../weights.bin")
    path = tmp_path / "inner" / "m.onnx"
    path.write_bytes(model_with(t).SerializeToString())
    assert not check(load(path)).ok
