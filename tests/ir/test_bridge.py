"""Messages become a graph and a graph messages: nothing is lost, edits are written, the rest keeps its bytes."""

import random
import struct

import onnx
import pytest
from onnx import TensorProto, helper
from tests.codec.wire_cases import odd_bytes
from tests.ir.model_cases import a_model
from tests.real_models import model_files, short

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import Attribute, Edit, Graph, Kind, Model, Node, Tensor, TensorType, Value
from gesher.ir.files import from_bytes, load, to_bytes

FILES = model_files()


def read(text: str) -> Model:
    return from_bytes(onnx.parser.parse_model(text).SerializeToString())


def written(model: Model) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(to_bytes(model))


def test_there_are_files_to_read():
    assert len(FILES) >= 155


@pytest.mark.parametrize("path", FILES, ids=short)
def test_load_and_save_untouched_gives_the_same_bytes(path):
    assert to_bytes(load(path)) == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=short)
def test_an_edit_changes_what_it_says_and_nothing_else(path):
    model = load(path)
    nodes = list(model.graph.nodes)
    want = onnx.load(path, load_external_data=False)
    if nodes:
        middle = len(nodes) // 2
        nodes[middle].name = want.graph.node[middle].name = "renamed by an edit"
    x = model.graph.outputs[0]
    added = Node("Identity", [x], name="added by an edit")
    added.output.name = "a new value"
    model.graph.append(added)
    want.graph.node.append(helper.make_node("Identity", [x.name], ["a new value"], name="added by an edit"))
    assert written(model) == want


def test_random_files_in_odd_encodings_come_back_byte_for_byte():
    rng = random.Random(1)
    for _ in range(150):
        data = odd_bytes(rng, a_model(rng), junk=0.3)
        assert to_bytes(from_bytes(data)) == data


def test_after_an_edit_all_else_of_an_odd_file_stands():
    rng = random.Random(2)
    for _ in range(150):
        data = odd_bytes(rng, a_model(rng), junk=0.3)
        model, want = from_bytes(data), onnx.ModelProto.FromString(data)
        node = rng.choice(list(model.graph.nodes))
        position = list(model.graph.nodes).index(node)
        edit = Edit(model)
        match rng.randrange(7):
            case 0:
                node.name = want.graph.node[position].name = "renamed"
            case 1:
                edit.set_attribute(node, "a new one", 7)
                want.graph.node[position].attribute.append(helper.make_attribute("a new one", 7))
            case 2:
                edit.set_op(node, "Other")
                want.graph.node[position].op_type = "Other"
            case 3:
                edit.insert(Node("New", [], 0), before=node)
                want.graph.node.insert(position, onnx.NodeProto(op_type="New"))
            case 4:
                model.metadata["k9"] = "v"
                want.metadata_props.add(key="k9", value="v")
            case 5:
                model.doc = want.doc_string = "told"
            case 6 if model.graph.initializers:
                v = next(iter(model.graph.initializers))
                v.constant = Tensor.of([1.5, 2.5], dtype=dtypes.FLOAT)
                t = next(t for t in want.graph.initializer if t.name == v.name)
                t.CopyFrom(onnx.numpy_helper.from_array(v.constant.numpy(), v.name))
        got = written(model)
        # Where the new record of a field stands among fields nobody knows means nothing: compare what is known.
        assert known(got) == known(want)
        assert unknown_count(to_bytes(model)) >= unknown_count(data) - (6 if model.graph.initializers else 0)


def known(m):
    m.DiscardUnknownFields()
    return m


def unknown_count(data: bytes) -> int:
    return sum(data.count(mark) for mark in (b"\xc0\xb2\x04\x07", b"\xca\xb2\x04\x03abc", b"abcdefgh"))


def test_dropping_and_moving_nodes_is_written():
    m = read("""<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { [n0] a = Relu(x)  [n1] b = Abs(x)  [n2] y = Add(a, b)  [n3] c = Neg(b) }""")
    edit = Edit(m)
    n0, n1, _, n3 = m.graph.nodes
    edit.move(n1, before=n0)
    edit.drop(n3)
    assert [n.name for n in written(m).graph.node] == ["n1", "n0", "n2"]


def test_unknown_fields_stay_with_the_node_that_was_edited():
    node = b"\x0a\x01x\x12\x01y\x22\x04Relu\xca\xb2\x04\x03abc"
    graph = b"\x0a" + bytes([len(node)]) + node + b"\x12\x01g\x5a\x03\x0a\x01x\x62\x03\x0a\x01y"
    data = b"\x08\x08\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11"
    model = from_bytes(data)
    model.graph.first.name = "now it has one"
    assert b"\xca\xb2\x04\x03abc" in to_bytes(model) and written(model).graph.node[0].name == "now it has one"


def test_a_graph_in_several_pieces_keeps_all_that_it_says():
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (y) { [a] t = Relu(x)  [b] y = Abs(t) }'
    whole = onnx.parser.parse_model(text)
    junk = b"\xca\xb2\x04\x03abc"
    pieces = []
    for i in range(2):
        part = onnx.GraphProto(node=[whole.graph.node[i]])
        if i:
            part.MergeFrom(onnx.GraphProto(name="g", input=whole.graph.input, output=whole.graph.output))
        part = part.SerializeToString() + junk
        pieces.append(b"\x3a" + bytes([len(part)]) + part)
    whole.ClearField("graph")
    data = pieces[0] + whole.SerializeToString() + pieces[1]
    model, want = from_bytes(data), onnx.ModelProto.FromString(data)
    assert to_bytes(model) == data
    model.graph.first.name = want.graph.node[0].name = "edited"
    assert written(model) == want and to_bytes(model).count(junk) == 2


def test_a_value_that_does_not_fit_is_told_with_its_place(tmp_path):
    m = read('<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (y) { y = Op <a = 1.0, b = 2> (x) }')
    for name, value in (("a", 1e39), ("b", 1 << 63), ("b", 1.5)):
        before = m.graph.first.attributes[name].value
        m.graph.first.attributes[name].value = value
        with pytest.raises(ModelError, match="does not fit") as e:
            to_bytes(m)
        index = "ab".index(name)
        assert e.value.place[:3] == ("graph", "node[0]", f"attribute[{index}]")
        m.graph.first.attributes[name].value = before


def test_a_node_from_another_file_brings_its_own_bytes():
    node = b"\x0a\x01x\x12\x01y\x22\x04Relu\xca\xb2\x04\x03abc"
    graph = b"\x0a" + bytes([len(node)]) + node + b"\x12\x01g\x5a\x03\x0a\x01x\x62\x03\x0a\x01y"
    there = from_bytes(b"\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11")
    here = read('<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Abs(x) }')
    guest = there.graph.first
    Edit(there).set_graph_outputs(there.graph, [])
    Edit(there).drop(guest)
    guest.inputs = ()  # it let go of them when it was dropped
    edit = Edit(here)
    edit.insert(guest, before=here.graph.first)
    edit.set_inputs(guest, [here.graph.inputs[0]])
    guest.output.name = "z"
    assert b"\xca\xb2\x04\x03abc" in to_bytes(here)
    nodes = [(n.op_type, *n.input, *n.output) for n in written(here).graph.node]
    assert nodes == [("Relu", "x", "z"), ("Abs", "x", "y")]


# Names and scopes.


def test_uses_and_producers_are_filled():
    m = read("""<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { a = Add(x, w)  y = Mul(a, a) }""")
    x, (w,) = m.graph.inputs[0], m.graph.initializers
    add, mul = m.graph.nodes
    a = add.output
    assert a.uses == {mul: 2} and x.uses == {add: 1} and w.uses == {add: 1}
    assert a.producer is add and x.producer is None and x.owner is m.graph is w.owner
    assert m.graph.outputs == [mul.output] and mul.output.uses == {m.graph: 1}
    assert w.constant.numpy().tolist() == [1, 2] and w.type == TensorType(dtypes.FLOAT, (2,))
    assert x.type == TensorType(dtypes.FLOAT, (2,)) and add.next is mul and mul.prev is add and len(m.graph) == 2


def test_a_subgraph_captures_values_from_outside():
    m = read("""<ir_version: 8, opset_import: ["": 17]>
        g (bool c, float[2] x) => (float[2] y) {
            a = Relu(x)
            y = If(c) <then_branch = t () => (float[2] r) { r = Abs(a) },
                       else_branch = e () => (float[2] r) { r = Neg(x) }>
        }""")
    relu, branch = m.graph.nodes
    then, other = branch.subgraphs()
    assert then.first.inputs == (relu.output,) and relu.output.uses == {then.first: 1}
    assert other.first.inputs == (m.graph.inputs[1],) and then.parent is branch
    assert then.outputs[0] is not other.outputs[0]


def raw_model(nodes, inputs=("x",), outputs=("y",), initializers=(), functions=()):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, 1, None) for n in inputs],
        [helper.make_tensor_value_info(n, 1, None) for n in outputs], list(initializers))
    return from_bytes(helper.make_model(graph, functions=list(functions)).SerializeToString())


def test_nodes_in_any_order_and_cycles_can_be_loaded():
    m = raw_model([helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Abs", ["x"], ["a"])])
    relu, absolute = m.graph.nodes
    assert relu.inputs == (absolute.output,) and absolute.output.uses == {relu: 1}
    m = raw_model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])])
    add, relu = m.graph.nodes
    assert add.inputs[1] is relu.output and relu.inputs == (add.output,)


def test_a_subgraph_may_read_what_the_outer_graph_makes_later():
    inner = helper.make_graph([helper.make_node("Neg", ["later"], ["r"])], "t", [],
                              [helper.make_tensor_value_info("r", 1, None)])
    m = raw_model([helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
                   helper.make_node("Abs", ["x"], ["later"])])
    branch, later = m.graph.nodes
    assert all(g.first.inputs == (later.output,) for g in branch.subgraphs())


def test_a_name_that_nothing_makes_is_a_value_without_home():
    m = raw_model([helper.make_node("Add", ["x", "ghost"], ["y"])], outputs=("y", "phantom"))
    ghost = m.graph.first.inputs[1]
    assert ghost.name == "ghost" and ghost.producer is None and ghost.owner is None and ghost.graph is None
    assert m.graph.outputs[1].graph is None and m.graph.outputs[1].name == "phantom"


def test_a_name_made_twice_is_two_values_and_readers_see_the_last():
    m = raw_model([helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["a"]),
                   helper.make_node("Relu", ["a"], ["y"])])
    first, second, relu = m.graph.nodes
    assert first.output is not second.output and relu.inputs == (second.output,) and not first.output.uses
    # Told apart by name as soon as the file is written anew.
    relu.name = "edited"
    names = [n.output[0] for n in written(m).graph.node]
    assert len(set(names)) == 3 and written(m).graph.node[2].input[0] == names[1]


def test_an_inner_name_that_would_hide_a_captured_value_is_changed():
    x, c = Value("x", TensorType(dtypes.FLOAT, (2,))), Value("c", TensorType(dtypes.BOOL, ()))
    outer = Node("Abs", [x])
    outer.output.name = "a"
    first = Node("Neg", [outer.output])
    first.output.name = "a"
    second = Node("Add", [outer.output, first.output])
    branch = Graph("t", [], [second.output], [first, second])
    top = Node("If", [c], attributes={"then_branch": branch, "else_branch": Attribute(Kind.GRAPH, branch)})
    m = Model(Graph("g", [x, c], [top.output], [outer, top]), opsets={"": 17})
    inner = written(m).graph.node[1].attribute[0].g
    assert inner.node[0].input[0] == "a" and inner.node[0].output[0] != "a"
    assert list(inner.node[1].input) == ["a", inner.node[0].output[0]]


def test_siblings_may_use_the_same_names():
    text = """<ir_version: 8, opset_import: ["": 17]> g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] r) { r = Abs(x) }, else_branch = e () => (float[2] r) { r = Neg(x) }>
    }"""
    m = read(text)
    m.doc = "edited"
    want = onnx.parser.parse_model(text)
    want.doc_string = "edited"
    assert written(m) == want


def test_values_without_names_get_names_and_promises_keep_theirs():
    x = Value("x", TensorType(dtypes.FLOAT, (2,)))
    a, b = Node("Relu", [x]), Node("Relu", [x])
    last = Node("Add", [a.output, b.output])
    last.output.name, last.output.type = "relu_0", x.type
    m = Model(Graph("g", [x], [last.output], [a, b, last]), opsets={"": 17})
    onnx.checker.check_model(written(m))
    assert [o.name for o in written(m).graph.output] == ["relu_0"]


def test_left_out_operands_are_none_and_come_back():
    m = raw_model([helper.make_node("Clip", ["x", "", "x"], ["y", ""])])
    n = m.graph.first
    assert n.inputs[1] is None and n.outputs[1] is None and n.inputs[0].uses == {n: 2}
    n.name = "edited"
    assert list(written(m).graph.node[0].input) == ["x", "", "x"] and list(written(m).graph.node[0].output) == ["y", ""]


def test_an_input_with_a_default_is_one_value():
    t = helper.make_tensor("x", 1, [1], [2.0])
    m = raw_model([helper.make_node("Relu", ["x"], ["y"])], initializers=[t])
    x = m.graph.inputs[0]
    assert list(m.graph.initializers) == [x] and x.constant.item() == 2.0 and x.is_input and not x.is_constant


# Attributes.


def test_attributes_of_every_kind():
    t = helper.make_tensor("t", 1, [1], [2.0])
    tp = helper.make_tensor_type_proto(1, [2, "n"])
    n = helper.make_node("Custom", ["x"], ["y"], f=0.5, i=3, s="text", t=t, tp=tp, floats=[1.0, 2.0], ints=[1, -1],
                         strings=["a", "b"], tensors=[t, t], type_protos=[tp], odd=b"\xff")
    n.attribute.append(onnx.AttributeProto(name="zero", type=2))
    n.attribute.append(helper.make_attribute("none", [], attr_type=onnx.AttributeProto.INTS))
    got = {k: (a.kind, a.value) for k, a in raw_model([n]).graph.first.attributes.items()}
    assert got["f"] == (Kind.FLOAT, 0.5) and got["i"] == (Kind.INT, 3) and got["s"] == (Kind.STRING, "text")
    assert got["floats"] == (Kind.FLOATS, (1.0, 2.0)) and got["ints"] == (Kind.INTS, (1, -1))
    assert got["strings"] == (Kind.STRINGS, ("a", "b")) and got["odd"] == (Kind.STRING, b"\xff")
    assert got["t"][1].item() == 2.0 and len(got["tensors"][1]) == 2
    assert got["zero"] == (Kind.INT, 0) and got["none"] == (Kind.INTS, ())
    assert str(got["tp"][1]) == "float(2,n)" and [str(x) for x in got["type_protos"][1]] == ["float(2,n)"]


def test_attributes_of_old_files_tell_their_kind_by_their_field():
    n = onnx.NodeProto(op_type="Custom", output=["y"], attribute=[onnx.AttributeProto(name="axis", i=1),
                                                                 onnx.AttributeProto(name="pads", ints=[1, 2])])
    a = raw_model([n]).graph.first.attributes
    assert (a["axis"].kind, a["pads"].kind) == (Kind.INT, Kind.INTS)


@pytest.mark.parametrize(("attributes", "says"), [
    ([onnx.AttributeProto(name="a", type=2, f=1.0)], "its type is INT, but its value is in 'f'"),
    ([onnx.AttributeProto(name="a", i=2, f=1.0)], "values of several types"),
    ([onnx.AttributeProto(name="a", type=4)], "its type is TENSOR, but it has no value"),
    ([onnx.AttributeProto(name="a", type=2, i=1)] * 2, "'a' is written twice"),
])
def test_attributes_that_contradict_themselves_are_refused_with_their_place(attributes, says):
    n = onnx.NodeProto(op_type="Custom", name="n", output=["y"], attribute=attributes)
    with pytest.raises(ModelError, match=says) as e:
        raw_model([n])
    assert "node 'n' (Custom)" in e.value.place and "graph 'g'" in e.value.place


def test_functions_with_references_and_defaults():
    m = read("""<ir_version: 10, opset_import: ["": 17, "d": 1]> g (float[2] x) => (float[2] y) { y = d.f(x) }
        <domain: "d", opset_import: ["": 17]>
        f <alpha, beta: float = 2.0> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }""")
    f = m.functions["d", "f", ""]
    a = f.first.attributes["alpha"]
    assert f.attributes == ["alpha"] and f.defaults["beta"].value == 2.0 and f.opsets == {"": 17}
    assert (a.kind, a.value, a.ref) == (Kind.FLOAT, None, "alpha") and m.opsets_of(f) == {"": 17}
    assert f.first.inputs == (f.inputs[0],) and f.outputs == [f.first.output]
    f.first.name = "edited"
    assert written(m).functions[0].node[0].name == "edited"


def test_the_same_function_twice_is_refused():
    f = helper.make_function("d", "f", ["x"], ["x"], [], [])
    with pytest.raises(ModelError, match=r"function 'd\.f' twice"):
        raw_model([helper.make_node("f", ["x"], ["y"], domain="d")], functions=[f, f])


# Tensors.


@pytest.mark.parametrize("dtype", list(dtypes.all_dtypes()), ids=str)
def test_tensors_of_every_type_come_back(dtype):
    import numpy as np

    rng = np.random.default_rng(dtype.code)
    if dtype is dtypes.STRING:
        array = np.array([["a", "é"], ["", "🙂"]], object)
    elif dtype.kind == "bool":
        array = rng.integers(0, 2, (3, 5)).astype(bool)
    elif dtype.is_integer:
        array = rng.integers(0, 1 << (dtype.bits - (dtype.kind == "int")), (3, 5), np.uint64).astype(dtype.numpy)
    else:
        array = rng.integers(1, 3, (3, 5)).astype(np.float32).astype(dtype.numpy)
    x = Value("y", constant=Tensor.of(array, dtype=dtype))
    m = Model(Graph("g", [], [x], [], [x]), opsets={"": 21})
    t = written(m).graph.initializer[0]
    assert t.data_type == dtype.code
    theirs = onnx.numpy_helper.to_array(t)
    assert theirs.astype(array.dtype).tolist() == array.tolist()
    again = from_bytes(to_bytes(m)).graph.outputs[0].constant
    assert again.dtype is dtype and again.shape == (array.shape) and again.numpy().tolist() == array.tolist()
    typed = helper.make_tensor("y", dtype.code, array.shape, [s.encode() for s in array.ravel()] if dtype is
                               dtypes.STRING else array.ravel())
    one = from_bytes(onnx.ModelProto(graph=onnx.GraphProto(initializer=[typed])).SerializeToString())
    got = next(iter(one.graph.initializers)).constant
    assert got.numpy().tolist() == array.tolist()


def test_typed_fields_stay_typed_when_something_else_is_edited():
    t = helper.make_tensor("w", TensorProto.FLOAT16, [3], [1.0, 2.0, -3.0])
    m = raw_model([helper.make_node("Relu", ["w"], ["y"])], initializers=[t])
    m.graph.first.name = "edited"
    (w,) = m.graph.initializers
    assert written(m).graph.initializer[0] == t and w.constant.numpy().tolist() == [1.0, 2.0, -3.0]


@pytest.mark.parametrize(("tensor", "says"), [
    (onnx.TensorProto(name="w", data_type=1, dims=[2], raw_data=b"1234"), "takes 8 bytes, the file gives 4"),
    (onnx.TensorProto(name="w", data_type=1, dims=[2], float_data=[1.0]), "needs 2 elements"),
    (onnx.TensorProto(name="w", data_type=1, dims=[-1], raw_data=b""), "negative dim"),
    (onnx.TensorProto(name="w", data_type=1, dims=[1 << 62, 1 << 62], raw_data=b"1234"), "takes"),
    (onnx.TensorProto(name="w", data_type=1, dims=[1], raw_data=b"1234", float_data=[1.0]), "several fields"),
    (onnx.TensorProto(name="w", data_type=10, dims=[1], float_data=[1.0]), "belong into int32_data"),
    (onnx.TensorProto(name="w", dims=[1], raw_data=b"1234"), "no data type"),
    (onnx.TensorProto(name="w", data_type=8, dims=[1], raw_data=b"1234"), "strings are in raw_data"),
])
def test_a_tensor_that_contradicts_itself_is_told_when_it_is_opened_and_saved_as_it_is(tensor, says):
    data = onnx.ModelProto(graph=onnx.GraphProto(name="g", initializer=[tensor])).SerializeToString()
    m = from_bytes(data)
    (w,) = m.graph.initializers
    with pytest.raises(ModelError, match=says):
        w.constant.numpy()
    assert to_bytes(m) == data
    m.doc = "edited"
    assert written(m).graph.initializer[0] == tensor


def test_an_unknown_data_type_is_refused():
    with pytest.raises(ModelError, match="99 is no data type"):
        raw_model([], initializers=[onnx.TensorProto(name="w", data_type=99)])


def test_sparse_tensors_come_back():
    values = helper.make_tensor("s", 1, [2], [1.0, 2.0])
    indices = helper.make_tensor("i", 7, [2], [0, 3])
    sparse = helper.make_sparse_tensor(values, indices, [4])
    graph = onnx.GraphProto(name="g", sparse_initializer=[sparse], node=[helper.make_node("Relu", ["s"], ["y"])])
    m = from_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    (s,) = m.graph.initializers
    assert s.name == "s" and s.constant.numpy().tolist() == [1, 0, 0, 2] and m.graph.first.inputs == (s,)
    m.doc = "edited"
    assert written(m).graph.sparse_initializer[0] == sparse


def test_types_of_every_kind_come_back():
    t = helper.make_tensor_type_proto(1, ["n", 2, None])
    types = [t, helper.make_tensor_type_proto(7, None), helper.make_sparse_tensor_type_proto(1, [3]),
             helper.make_sequence_type_proto(t), helper.make_optional_type_proto(helper.make_sequence_type_proto(t)),
             helper.make_map_type_proto(7, t), onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="d", name="n")),
             onnx.TypeProto(sequence_type=onnx.TypeProto.Sequence())]
    graph = onnx.GraphProto(name="g", input=[helper.make_value_info(f"x{i}", t) for i, t in enumerate(types)])
    m = from_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    assert [str(v.type) for v in m.graph.inputs] == [
        "float(n,2,?)", "int64(...)", "sparse(float(3))", "seq(float(n,2,?))", "optional(seq(float(n,2,?)))",
        "map(int64,float(n,2,?))", "opaque(d,n)", "seq(?)"]
    fresh = [Value(v.name, v.type) for v in m.graph.inputs]
    again = onnx.ModelProto.FromString(to_bytes(Model(Graph("g", fresh), opsets={}))).graph
    assert [i.type for i in again.input] == types


def test_value_infos_follow_their_values():
    m = read("""<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] a, float[9] nobody> { a = Relu(x)  y = Abs(a) }""")
    a = m.graph.first.output
    assert str(a.type) == "float(2)"
    Edit(m).rename(a, "b")
    assert [i.name for i in written(m).graph.value_info] == ["b", "nobody"]
    Edit(m).set_type(a, TensorType(dtypes.FLOAT, (None,)))
    assert not written(m).graph.value_info[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    Edit(m).rename(a, "nobody")
    assert [i.name for i in written(m).graph.value_info] == ["nobody"]


def test_a_new_model_is_one_that_onnx_accepts():
    x = Value("x", TensorType(dtypes.FLOAT, (2, 3)))
    n = Node("Relu", [x])
    n.output.type = TensorType(dtypes.FLOAT, (2, 3))
    m = Model(Graph("", [x], [n.output], [n]), opsets={"": 21})
    onnx.checker.check_model(written(m), full_check=True)
    assert written(m).ir_version == 10


def test_a_message_made_in_memory_is_written_as_it_stands():
    from gesher.codec import decode
    from gesher.codec.messages import ModelProto
    from gesher.ir.bridge import from_message

    want = onnx.helper.make_model(onnx.helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"], name="n")], "g", [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])], [helper.make_tensor("w", 1, [2], [1.0, 2.0])]),
        opset_imports=[helper.make_opsetid("", 17)])
    assert written(from_message(decode(ModelProto, want.SerializeToString()))) == want


def test_floats_are_told_apart_by_their_bits():
    m = raw_model([helper.make_node("Custom", ["x"], ["y"], a=0.0, b=float("nan"))])
    a = m.graph.first.attributes
    a["a"].value = -0.0
    assert struct.pack("<f", written(m).graph.node[0].attribute[0].f) == b"\0\0\0\x80"


@pytest.mark.parametrize(("dims", "raw"), [([0, 1 << 62, 1 << 62], b""), ([1] * 100, b"1234")])
def test_dims_that_no_array_can_have_are_told(dims, raw):
    t = onnx.TensorProto(name="w", data_type=1, dims=dims, raw_data=raw)
    m = from_bytes(onnx.ModelProto(graph=onnx.GraphProto(name="g", initializer=[t])).SerializeToString())
    (w,) = m.graph.initializers
    with pytest.raises(ModelError, match="no array can have the dims"):
        w.constant.numpy()


@pytest.mark.parametrize(("indices", "shape", "says"), [
    ([0, 9], [4], "not fit"), ([-1, 0], [4], "not fit"), ([0, 1], [1 << 40], "would take"),
    ([0, 1, 2], [4], "not fit"),
])
def test_sparse_tensors_that_contradict_themselves_are_told(indices, shape, says):
    sparse = helper.make_sparse_tensor(helper.make_tensor("s", 1, [2], [1.0, 2.0]),
                                       helper.make_tensor("i", 7, [len(indices)], indices), shape)
    graph = onnx.GraphProto(name="g", sparse_initializer=[sparse])
    (s,) = from_bytes(onnx.ModelProto(graph=graph).SerializeToString()).graph.initializers
    with pytest.raises(ModelError, match=says):
        s.constant.numpy()


def test_edits_that_are_taken_back_leave_the_same_bytes():
    rng = random.Random(6)
    for _ in range(60):
        data = odd_bytes(rng, a_model(rng), junk=0.3)
        model = from_bytes(data)
        edit = Edit(model)
        for _ in range(12):
            graph = rng.choice(list(model.graphs()))
            nodes = list(graph.nodes)
            node = rng.choice(nodes) if nodes else None
            match rng.randrange(8):
                case 0 if node is not None:
                    edit.insert(Node("New", [], 1), before=node)
                case 1 if node is not None and not any(o is not None and o.uses for o in node.outputs):
                    edit.drop(node)
                case 2 if node is not None:
                    edit.move(node, before=rng.choice(nodes))
                case 3 if node is not None:
                    edit.set_attribute(node, rng.choice(["a0", "new"]), rng.choice([None, 1, 2.5, "s"]))
                case 4 if node is not None and node.outputs and node.outputs[0] is not None:
                    edit.rename(node.outputs[0], f"renamed{rng.randrange(5)}")
                case 5 if node is not None and node.inputs:
                    edit.set_input(node, 0, rng.choice([None, *graph.inputs]))
                case 6:
                    edit.add_initializer(graph, Tensor.of([1.0]), "added") if graph.parent is None else None
                case 7:
                    edit.set_opset("new.domain", rng.randint(1, 3))
        onnx.ModelProto.FromString(to_bytes(model))
        edit.undo()
        assert to_bytes(model) == data
