"""The graph: use lists, nested graphs and captures, walks that survive edits, attributes, tensors of every type."""

from typing import Any

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import (
    Attribute,
    Edit,
    Graph,
    Kind,
    Model,
    Node,
    RawStorage,
    SparseTensor,
    Tensor,
    TensorType,
    TypedStorage,
    Value,
    attribute,
    print_shape,
)
from gesher.ir.tensor import pack, unpack
from gesher.symbolic import sym


def chain(*ops: str) -> tuple[Graph, list[Node]]:
    """x -> op -> op -> ... -> output."""
    graph = Graph("main")
    v = graph.add_input("x", TensorType(dtypes.FLOAT, (sym("n"), 3)))
    nodes = []
    for op in ops:
        nodes.append(graph.append(Node(op, [v], name=op.lower())))
        v = nodes[-1].output
    graph.add_output(v)
    return graph, nodes


def state(graph: Graph) -> Any:
    """Everything an edit may touch, to compare before and after."""
    return ([(id(n), n.op_type, n.domain, [id(v) for v in n.inputs], [id(o) for o in n.outputs],
              {k: a.value for k, a in n.attributes.items()}) for n in graph.nodes],
            [id(n) for n in reversed(graph.nodes)], len(graph), [id(v) for v in graph.inputs],
            [(id(v), v.name) for v in graph.outputs], [id(v) for v in graph.initializers],
            {id(v): dict(v.uses) for n in graph.nodes for v in (*n.inputs, *n.outputs) if v is not None})


# Values and uses

def test_uses_count_places_not_users() -> None:
    graph = Graph()
    x = graph.add_input("x")
    add = graph.append(Node("Add", [x, x]))
    graph.add_output(x)
    assert x.uses == {add: 2, graph: 1}
    assert x.users() == [add] and x.is_output and x.is_input
    assert add.output.producer is add and add.output.graph is graph


def test_an_initializer_that_is_an_input_is_no_constant() -> None:
    graph = Graph()
    w = graph.add_initializer(Tensor.of(np.ones(2, np.float32)), "w")
    assert w.is_constant
    graph.inputs.append(w)
    assert w.constant is not None and not w.is_constant


def test_places_and_printing_for_people() -> None:
    graph, (relu, _) = chain("Relu", "Neg")
    relu.output.name = "y"
    assert relu.place == "node 'relu' (Relu)" and repr(relu) == "%y = Relu(%x)"
    assert repr(graph.inputs[0]) == "%x: float(n,3)"
    assert print_shape((1, None, sym("n"))) == "(1,?,n)" and print_shape(None) == "(...)"
    nameless = Node("Relu", [None])
    assert nameless.place == "a node (Relu)"


def test_nested_graphs_are_found_outer_before_inner() -> None:
    inner = Graph("inner")
    middle = Graph("middle", nodes=[Node("If", attributes={"then_branch": inner})])
    outer = Graph("outer", nodes=[Node("If", attributes={"then_branch": middle, "else_branch": Graph("other")})])
    model = Model(outer, opsets={"": 17})
    assert [g.name for g in model.graphs()] == ["outer", "middle", "inner", "other"]
    assert inner.parent is middle.first and middle.parent is outer.first
    assert model.opsets_of(inner) == {"": 17}


# Walks and edits

def test_a_walk_survives_dropping_and_inserting() -> None:
    graph, nodes = chain("A", "B", "C", "D")
    edit = Edit(graph)
    seen = []
    for node in graph.nodes:
        seen.append(node.op_type)
        if node.op_type in ("B", "C"):
            edit.replace(node.output, node.inputs[0])
            edit.drop(node)
        if node.op_type == "A":
            edit.insert(Node("New", [node.output]), after=node)
    assert seen == ["A", "New", "B", "C", "D"]
    assert [n.op_type for n in graph.nodes] == ["A", "New", "D"] and len(graph) == 3
    assert [n.op_type for n in reversed(graph.nodes)] == ["D", "New", "A"]
    assert graph.nodes[-1] is nodes[3] and graph.nodes[0] is nodes[0]
    with pytest.raises(IndexError):
        graph.nodes[3]


def test_replace_reaches_nodes_nested_graphs_and_outputs_and_keeps_an_outputs_name() -> None:
    graph, (a, b) = chain("A", "B")
    b.output.name = "y"
    inner = Graph("inner", nodes=[Node("Neg", [b.output])])
    user = graph.append(Node("If", [b.output], attributes={"then_branch": inner}))
    new = Node("C", [a.output])
    edit = Edit(graph)
    edit.insert(new, before=b)
    edit.replace(b.output, new.output)
    assert user.inputs == (new.output,) and inner.first is not None and inner.first.inputs == (new.output,)
    assert graph.outputs == [new.output] and new.output.name == "y" and b.output.name == ""
    assert not b.output.uses


def test_what_is_still_read_cannot_be_dropped() -> None:
    graph, (a, b) = chain("A", "B")
    edit = Edit(graph)
    with pytest.raises(ModelError, match="still read by node 'b'"):
        edit.drop(a)
    with pytest.raises(ModelError, match="still read by graph 'main'"):
        edit.drop(b)
    w = edit.add_initializer(graph, Tensor.of(np.ones(1)), "w")
    edit.set_input(a, 1, w)
    with pytest.raises(ModelError, match="still read"):
        edit.drop_initializer(w)
    with pytest.raises(ModelError, match="in a graph already"):
        edit.insert(a, before=b)
    with pytest.raises(ModelError, match="nowhere"):
        edit.insert(Node("X"))


def test_dropping_a_node_lets_go_of_what_its_nested_graphs_capture() -> None:
    graph, (a,) = chain("A")
    w = graph.add_initializer(Tensor.of(np.ones(1)), "w")
    inner = Graph("inner", nodes=[Node("Neg", [w])])
    inner.add_output(a.output)
    branch = graph.append(Node("If", attributes={"then_branch": inner}))
    edit = Edit(graph)
    before = state(graph), dict(w.uses)
    edit.drop(branch)
    assert not w.uses and list(a.output.uses) == [graph]
    edit.drop_initializer(w)
    edit.undo()
    assert (state(graph), dict(w.uses)) == before


def test_every_step_can_be_taken_back() -> None:
    graph, (a, b, c) = chain("A", "B", "C")
    model = Model(graph, opsets={"": 17})
    w1 = graph.add_initializer(Tensor.of(np.ones(1)), "w1")
    graph.add_initializer(Tensor.of(np.ones(2)), "w2")
    new = Node("New", [a.output], 2)    # it reads from the moment it is made, before it is in a graph
    edit = Edit(model)
    states = [(state(graph), dict(model.opsets))]

    def step(what: Any, *arguments: Any, **more: Any) -> None:
        what(*arguments, **more)
        states.append((state(graph), dict(model.opsets)))

    with edit.rule("a rule"):
        step(edit.insert, new, before=b)
        step(edit.replace, b.output, new.output)
        step(edit.drop, b)
    step(edit.move, new, before=a)
    step(edit.set_inputs, c, [a.output, None, w1])
    step(edit.set_attribute, c, "axis", 1)
    step(edit.set_attribute, c, "axis", 2)
    step(edit.set_attribute, c, "axis", None)
    step(edit.set_op, c, "Other", "my.domain")
    step(edit.set_inputs, c, [a.output])
    step(edit.drop_initializer, w1)
    step(edit.add_initializer, graph, Tensor.of(np.ones(3)), "w3")
    step(edit.set_outputs, new, [new.outputs[0], None])
    step(edit.set_opset, "", 18)
    step(edit.set_opset, "my.domain", 1)
    step(edit.set_graph_outputs, graph, [a.output, c.output])
    step(edit.rename, a.output, "renamed")
    step(edit.set_type, a.output, TensorType(dtypes.INT64, (1,)))
    step(edit.set_constant, next(iter(graph.initializers)), Tensor.of(np.zeros(2)))
    assert [s.rule for s in edit.steps[:4]] == ["a rule"] * 3 + [""]
    assert [s.number for s in edit.steps] == list(range(1, len(edit.steps) + 1))
    for n in reversed(range(len(states))):
        edit.undo(to=n)
        assert (state(graph), dict(model.opsets)) == states[n], n
    assert a.output.name == "" and a.output.type is None


def test_twenty_thousand_drops_are_near_linear() -> None:
    graph, nodes = chain(*["Relu"] * 20000)
    weights = [graph.add_initializer(Tensor.of(np.ones(1)), f"w{i}") for i in range(20000)]
    edit = Edit(graph)
    for n in nodes:
        edit.replace(n.output, n.inputs[0])    # type: ignore[arg-type]
        edit.drop(n)
    for w in weights:
        edit.drop_initializer(w)
    assert len(graph) == 0 and not graph.initializers and graph.outputs == [graph.inputs[0]]


# Attributes

@pytest.mark.parametrize(("value", "kind"), [
    (1, Kind.INT), (True, Kind.INT), (0.5, Kind.FLOAT), ("a", Kind.STRING), (b"\xff", Kind.STRING),
    ([1, 2], Kind.INTS), ([1, 0.5], Kind.FLOATS), (["a"], Kind.STRINGS), (np.ones(2), Kind.TENSOR),
    (np.int64(3), Kind.INT), (Graph(), Kind.GRAPH), ([Graph()], Kind.GRAPHS),
    (TensorType(dtypes.FLOAT), Kind.TYPE), ([Tensor.of(1)], Kind.TENSORS)])
def test_attributes_guess_their_kind(value: Any, kind: Kind) -> None:
    made = attribute(value)
    assert made.kind is kind and attribute(made) is made
    assert kind.is_list == isinstance(made.value, tuple)


@pytest.mark.parametrize("value", [[], [1, "a"], object(), None])
def test_attributes_that_cannot_be_guessed_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        attribute(value)


def test_an_empty_list_keeps_the_kind_it_is_given() -> None:
    node = Node("X", attributes={"axes": Attribute(Kind.INTS, ())})
    assert node.attr("axes") == () and node.attr("none", 7) == 7


# Tensors

@pytest.mark.parametrize("dtype", [d for d in dtypes.all_dtypes() if d is not dtypes.STRING], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 5), (7, 3)])
def test_every_type_packs_and_unpacks(dtype: dtypes.DType, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    n = int(np.prod(shape))
    if dtype.kind in ("int", "uint"):
        low, high = (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (
            0, (1 << min(dtype.bits, 63)) - 1)
        values = np.array([int(v) for v in rng.integers(low, high, n, endpoint=True)]).astype(dtype.numpy)
    else:
        values = rng.integers(-3, 4, n).astype(np.float32).astype(dtype.numpy)
    values = values.reshape(shape)
    raw = pack(values, dtype)
    assert len(raw) == dtype.file_bytes(n)
    back = unpack(raw, dtype, shape)
    assert back.dtype == dtype.numpy and back.shape == shape
    assert back.tobytes() == values.tobytes()
    t = Tensor(dtype, shape, RawStorage(raw), "t")
    assert t.numpy().tobytes() == values.tobytes() and bytes(t.raw()) == bytes(raw) and t.nbytes == len(raw)


@pytest.mark.parametrize("dtype", [d for d in dtypes.all_dtypes() if d is not dtypes.STRING], ids=str)
def test_every_type_reads_as_onnx_writes_it(dtype: dtypes.DType) -> None:
    import onnx

    values = np.array([0, 1, 1, 0, 1], np.float32).astype(dtype.numpy)
    raw = onnx.numpy_helper.from_array(values, "t")
    ours = Tensor(dtype, (5,), RawStorage(raw.raw_data))
    assert ours.numpy().tobytes() == values.tobytes()
    typed = onnx.helper.make_tensor("t", dtype.code, [5], values.astype(np.complex64 if dtype.kind == "complex" else
                                                                         np.float32).tolist())
    field = np.asarray(getattr(typed, dtype.field))
    assert Tensor(dtype, (5,), TypedStorage(field)).numpy().tobytes() == values.tobytes()


def test_views_of_a_file_stay_views() -> None:
    buffer = np.arange(6, dtype=np.float32).tobytes()
    t = Tensor(dtypes.FLOAT, (2, 3), RawStorage(memoryview(buffer)))
    assert not t.numpy().flags.owndata and not t.numpy().flags.writeable
    assert t.numpy() is t.numpy()


@pytest.mark.parametrize(("dtype", "shape", "size", "says"), [
    (dtypes.FLOAT, (2, 3), 23, "takes 24 bytes, the file gives 23"),
    (dtypes.INT4, (3,), 1, "takes 2 bytes"),
    (dtypes.FLOAT, (1 << 62, 1 << 62), 4, "takes"),
    (dtypes.FLOAT, (-1,), 4, "negative dim -1"),
])
def test_dims_that_contradict_the_data_are_refused(dtype: dtypes.DType, shape: Any, size: int, says: str) -> None:
    with pytest.raises(ModelError, match=says) as e:
        Tensor(dtype, shape, RawStorage(bytes(size)), "w").numpy()
    assert "w" in str(e.value)


def test_strings_keep_bytes_that_are_no_text() -> None:
    t = Tensor(dtypes.STRING, (2,), TypedStorage([b"caf\xc3\xa9", b"\xff"]))
    assert t.numpy().tolist() == ["café", b"\xff"] and t.nbytes == 6
    with pytest.raises(ModelError, match="strings"):
        t.raw()


def test_sparse_tensors_become_dense() -> None:
    values = Tensor.of(np.array([5.0, 7.0]))
    linear = SparseTensor(values, Tensor.of(np.array([1, 5])), (2, 3))
    pairs = SparseTensor(values, Tensor.of(np.array([[0, 1], [1, 2]])), (2, 3))
    assert linear.numpy().tolist() == pairs.numpy().tolist() == [[0, 5, 0], [0, 0, 7]]


def test_big_endian_arrays_become_native() -> None:
    t = Tensor.of(np.array([1.5], ">f4"))
    assert t.dtype is dtypes.FLOAT and t.numpy().dtype == np.dtype("<f4") and t.item() == 1.5


def test_a_value_prints_without_a_type() -> None:
    assert repr(Value("v")) == "%v"
