"""Models on disk: data files, sizes, what is left when saving fails."""

import os
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gesher.base import dtypes
from gesher.base.errors import FormatError, ModelError
from gesher.ir import Graph, Model, Node, Tensor, TensorType, Value
from gesher.ir.bridge import no_collection
from gesher.ir.files import from_bytes, load, save, tensors_of, to_bytes


def a_model(count=3, size=1000, seed=0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = [numpy_helper.from_array(rng.standard_normal(size).astype(np.float32), f"w{i}") for i in range(count)]
    nodes = [helper.make_node("Add", ["x" if i == 0 else f"v{i - 1}", f"w{i}"], [f"v{i}"]) for i in range(count)]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [info("x", 1, [size])], [info(f"v{count - 1}", 1, [size])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def external(tmp_path):
    """A model of onnx's own making, with a data file."""
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "m.onnx"
    onnx.save(a_model(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def weights(model: Model) -> list:
    return [t.numpy().tolist() for t in tensors_of(model)]


def test_data_files_of_onnx_are_read(external):
    model = load(external)
    want = [numpy_helper.to_array(t).tolist() for t in a_model().graph.initializer]
    assert weights(model) == want
    assert to_bytes(model) == external.read_bytes()
    assert onnx.ModelProto.FromString(to_bytes(model, external=False)) == a_model()


def test_saving_into_another_folder_takes_the_data_along(external, tmp_path):
    (tmp_path / "here").mkdir()
    save(load(external), tmp_path / "here" / "n.onnx")
    assert (tmp_path / "here" / "n.onnx").read_bytes() == external.read_bytes()
    assert (tmp_path / "here" / "m.data").read_bytes() == (external.parent / "m.data").read_bytes()
    assert weights(load(tmp_path / "here" / "n.onnx")) == weights(load(external))


def test_saving_in_place_leaves_the_data_alone(external):
    before = (external.parent / "m.data").stat()
    model = load(external)
    model.doc = "edited"
    save(model, external)
    after = (external.parent / "m.data").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert onnx.load(external).doc_string == "edited" and weights(load(external)) == weights(from_bytes(
        a_model().SerializeToString()))


@pytest.mark.parametrize(("name", "file"), [(True, "m.onnx.data"), ("w.bin", "w.bin"), ("sub/w.bin", "sub/w.bin")])
def test_weights_go_into_a_file_of_their_own(tmp_path, name, file):
    path = tmp_path / "m.onnx"
    save(from_bytes(a_model().SerializeToString()), path, external=name)
    assert path.stat().st_size < 1000 and (tmp_path / file).stat().st_size > 12000
    onnx.checker.check_model(path)
    assert onnx.load(path).graph.node == a_model().graph.node
    assert [t.raw_data for t in onnx.load(path).graph.initializer] == [t.raw_data for t in a_model().graph.initializer]
    assert weights(load(path)) == weights(from_bytes(a_model().SerializeToString()))


def test_small_tensors_and_strings_stay_inside(tmp_path):
    m = a_model()
    m.graph.initializer.append(helper.make_tensor("s", 8, [1000], [b"text"] * 1000))
    m.graph.initializer.append(helper.make_tensor("small", 1, [2], [1.0, 2.0]))
    save(from_bytes(m.SerializeToString()), tmp_path / "m.onnx", external=True)
    inside = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert [t.name for t in inside.graph.initializer if not t.external_data] == ["s", "small"]


def test_data_can_be_laid_anew_over_the_file_it_is_read_from(external):
    model = load(external)
    save(model, external, external="m.data")
    assert weights(load(external)) == weights(model) == weights(from_bytes(a_model().SerializeToString()))
    save(load(external), external, external=False)
    assert weights(from_bytes(external.read_bytes())) == weights(model)


def test_weights_of_inner_graphs_go_outside_too(tmp_path):
    inner = a_model().graph
    inner.name = "inner"
    inner.ClearField("input")
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    info = helper.make_tensor_value_info
    graph = helper.make_graph([branch], "g", [info("c", 9, []), info("x", 1, [1000])], [info("y", 1, [1000])])
    save(from_bytes(helper.make_model(graph).SerializeToString()), tmp_path / "m.onnx", external=True)
    assert (tmp_path / "m.onnx").stat().st_size < 2000
    assert weights(load(tmp_path / "m.onnx")) == 2 * weights(from_bytes(a_model().SerializeToString()))


def test_saving_over_the_file_that_is_mapped(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(a_model(5, 400_000), path)
    model = load(path)
    model.graph.first.name = "edited"
    save(model, path)
    assert onnx.load(path).graph.node[0].name == "edited" and weights(load(path)) == weights(model)
    again = load(path)
    save(again, path)
    assert weights(again) == weights(model)


def test_a_model_that_is_written_is_not_built_in_memory(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(a_model(8, 1_000_000), path)
    tracemalloc.start()
    try:
        model = load(path)
        model.graph.first.name = "edited"
        save(model, tmp_path / "n.onnx")
        save(model, tmp_path / "o.onnx", external=True)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    want = [t.raw_data for t in onnx.load(path).graph.initializer]
    assert all([t.raw_data for t in onnx.load(tmp_path / n).graph.initializer] == want for n in ("n.onnx", "o.onnx"))


def test_a_file_beyond_two_gigabytes_is_refused_with_the_way_out(tmp_path):
    shared = np.zeros(150_000_000, np.float32)  # pages of zeros that are never touched
    values = [Value(f"w{i}", constant=Tensor.of(shared)) for i in range(4)]
    model = Model(Graph("g", [], [values[0]], [], values), opsets={"": 17})
    with pytest.raises(ModelError, match=r"2,400,000,\d+ bytes.*protobuf") as e:
        save(model, tmp_path / "m.onnx")
    assert "external=True" in e.value.advice and not list(tmp_path.iterdir())


def test_a_data_file_that_is_missing_is_told_when_it_is_read(external, tmp_path):
    (external.parent / "m.data").unlink()
    model = load(external)
    with pytest.raises(ModelError, match="cannot be opened") as e:
        next(tensors_of(model)).numpy()
    assert "tensor 'w0'" in e.value.place
    (tmp_path / "here").mkdir()
    with pytest.raises(ModelError):
        save(model, tmp_path / "here" / "n.onnx")
    assert not list((tmp_path / "here").iterdir())


def test_a_failing_save_leaves_the_model_and_its_data(external, tmp_path, monkeypatch):
    before = {p.name: p.read_bytes() for p in external.parent.iterdir()}
    model = load(external)
    monkeypatch.setattr("gesher.codec.file.os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(FormatError, match="full"):
        save(model, external, external="m.data")
    assert {p.name: p.read_bytes() for p in external.parent.iterdir()} == before


def test_two_data_files_of_one_name_are_not_mixed_up(external, tmp_path):
    (tmp_path / "other").mkdir()
    onnx.save(a_model(seed=1), tmp_path / "other" / "m.onnx", save_as_external_data=True, location="m.data",
              size_threshold=0)
    model, other = load(external), load(tmp_path / "other" / "m.onnx")
    model.graph.add_initializer(next(tensors_of(other)), "guest")
    with pytest.raises(ModelError, match=r"both called 'm\.data'"):
        save(model, tmp_path / "n.onnx")
    save(model, tmp_path / "n.onnx", external="all.data")
    assert weights(load(tmp_path / "n.onnx")) == weights(model)


def test_errors_say_which_file(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\x3a\x05abc")
    with pytest.raises(FormatError) as e:
        load(tmp_path / "broken.onnx")
    assert e.value.place[0] == "broken.onnx" and e.value.offset == 2 and "broken.onnx" in str(e.value)


def test_a_mapped_file_that_was_changed_in_place_is_not_saved_from(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(a_model(5, 400_000), path)
    model = load(path)
    with open(path, "r+b") as f:
        f.seek(100)
        f.write(b"zzz")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelError, match="changed in place"):
        save(model, tmp_path / "n.onnx")


def test_file_objects_and_bytes(tmp_path):
    data = a_model().SerializeToString()
    with open(tmp_path / "m.onnx", "w+b") as f:
        save(from_bytes(data), f)
        f.seek(0)
        assert to_bytes(load(f)) == data
        with pytest.raises(ModelError, match="no folder"):
            save(from_bytes(data), f, external=True)
    with pytest.raises(ModelError, match="no data file"):
        to_bytes(from_bytes(data), external=True)


def test_bytes_find_their_data_files_in_the_folder_that_is_given(external):
    model = from_bytes(external.read_bytes(), folder=external.parent)
    assert weights(model) == weights(load(external))


def test_the_garbage_collector_is_as_it_was():
    import gc

    assert gc.isenabled()
    with no_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_model_without_a_file_is_saved(tmp_path):
    x = Value("x", TensorType(dtypes.FLOAT, (2,)))
    n = Node("Relu", [x])
    n.output.name, n.output.type = "y", x.type
    save(Model(Graph("g", [x], [n.output], [n]), opsets={"": 17}), tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)


def test_models_are_read_and_written_as_text(tmp_path):
    path = tmp_path / "m.onnxtxt"
    path.write_text('<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }')
    model = load(path)
    assert model.graph.first.op_type == "Relu" and model.path == path
    save(model, path)
    assert "y = Relu (x)" in path.read_text()
    path.write_text("g (x y) => (y) {}")
    with pytest.raises(FormatError) as e:
        load(path)
    assert e.value.place == ("m.onnxtxt", "line 1, column 6")


def test_a_single_file_beyond_all_limits_is_read(tmp_path):
    """Five gigabytes that are mostly a hole: nothing of it is read before someone asks."""
    size = 5 << 30

    def field(number, length):
        from gesher.codec.wire import encode_varint

        return encode_varint(number << 3 | 2) + encode_varint(length)

    head = onnx.TensorProto(name="w", data_type=2, dims=[size]).SerializeToString()
    raw = field(9, size)
    graph_head = b"\x12\x01g" + field(5, len(head) + len(raw) + size)
    path = tmp_path / "m.onnx"
    with open(path, "wb") as f:
        f.write(b"\x08\x08" + field(7, len(graph_head) + len(head) + len(raw) + size) + graph_head + head + raw)
        f.seek(size - 1, os.SEEK_CUR)
        f.write(b"\x07")
    model = load(path)
    (w,) = model.graph.initializers
    assert w.constant.numpy().shape == (size,) and w.constant.numpy()[-1] == 7
    model.doc = "edited"
    with pytest.raises(ModelError, match="protobuf"):
        save(model, tmp_path / "n.onnx")
