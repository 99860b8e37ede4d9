"""The builder: nodes are checked when made, numbers become constants, models get their lowest IR version."""

import numpy as np
import onnx
import onnx.helper
import pytest

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.checker import check
from gesher.evaluator import Evaluator
from gesher.ir import Attribute, Function, Kind, Model, Node, SequenceType, Tensor, TensorType, Value
from gesher.ir.files import from_bytes, to_bytes
from gesher.ops.build import Builder
from gesher.symbolic import sym

F = dtypes.FLOAT
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def fresh_builder(opset: int = 21) -> tuple[Builder, Value]:
    b = Builder({"": opset})
    return b, b.input("x", F, ("n", 3))


def run(b: Builder, *outputs: Value, **feeds: object) -> list[np.ndarray]:
    for i, v in enumerate(outputs):
        b.output(v, f"out{i}")
    model = from_bytes(to_bytes(b.model()))
    assert check(model).ok, str(check(model))
    return list(Evaluator(model).run(feeds or {"x": X}).values())


def test_a_model_is_built_checked_saved_and_run() -> None:
    b, x = fresh_builder()
    y = b.Softmax(b.Add(b.MatMul(x, np.ones((3, 4), np.float32)), [0.0, 1.0, 2.0, 3.0]), axis=-1)
    assert b.shape(y) == (sym("n"), 4) and b.dtype(y) is F
    got = run(b, y)[0]
    np.testing.assert_allclose(got.sum(1), [1, 1], rtol=1e-6)
    assert got[0].argmax() == 3


def test_onnx_s_own_checker_accepts_what_is_built() -> None:
    b, x = fresh_builder()
    cond = b.Greater(b.ReduceSum(x, keepdims=0), 3.0)
    yes, no = b.subgraph("yes"), b.subgraph("no")
    yes.output(yes.Mul(x, 2.0))
    no.output(no.Identity(x))
    values, indices = b.TopK(b.If(cond, then_branch=yes, else_branch=no), [1], outputs=2)
    b.output(values, "top")
    b.output(indices, "where")
    onnx.checker.check_model(onnx.load_from_string(to_bytes(b.model())), full_check=True)


# Constants

@pytest.mark.parametrize("dtype", [dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.INT64])
def test_numbers_take_the_type_of_the_other_operand(dtype: dtypes.DType) -> None:
    b = Builder()
    x = b.input("x", dtype, (2,))
    assert b.dtype(b.Add(x, 1)) is dtype
    assert b.dtype(b.Sub(3, x)) is dtype


def test_numbers_take_the_only_type_that_the_schema_allows() -> None:
    b, x = fresh_builder()
    assert b.shape(b.Reshape(x, [0, 3, 1])) == (sym("n"), 3, 1)
    assert b.shape(b.Expand(b.constant(np.float32(1)), (2, 5))) == (2, 5)


@pytest.mark.parametrize("number", [1.5, 300, -1, [1, 2.5], float("nan")])
def test_a_number_that_the_type_cannot_hold_is_refused(number: object) -> None:
    b = Builder()
    x = b.input("x", dtypes.UINT8, (2,))
    with pytest.raises(ModelError, match="no constant of uint8"):
        b.Add(x, number)


def test_numpy_arrays_keep_their_type() -> None:
    b, x = fresh_builder()
    with pytest.raises(ModelError, match=r"tensor\(double\)"):
        b.Add(x, np.ones(3))


def test_equal_constants_are_made_once_and_different_ones_are_not() -> None:
    b, x = fresh_builder()
    y = b.Add(b.Add(x, 1.0), np.float32(1.0))
    y = b.Add(b.Add(y, [1.0]), 2.0)
    # 0.0 and -0.0 are equal and not the same; so are 1.0 and [1.0], by their shapes.
    b.output(b.Add(b.Add(y, 0.0), -0.0))
    assert len(b.graph.initializers) == 5


def test_a_named_constant_keeps_its_name() -> None:
    b, _ = fresh_builder()
    one = b.constant(np.float32(1), "one")
    other = b.constant(np.float32(1), "one")
    assert one is not other and (one.name, other.name) == ("one", "one_1")


def test_strings_are_constants_too() -> None:
    b = Builder()
    x = b.input("x", dtypes.STRING, ("n",))
    got = run(b, b.Equal(x, "b"), x=["a", "b"])[0]
    assert got.tolist() == [False, True]


# Nodes that do not fit

@pytest.mark.parametrize(("build", "rule", "says"), [
    (lambda b, x: b.Relu(x, x), "input-count", "takes 1 input, here are 2"),
    (lambda b, x: b.Add(x), "input-count", "takes 2 inputs, here are 1"),
    (lambda b, x: b.Add(None, x), "input-missing", "its input 'A'"),
    (lambda b, x: b.op("Relu", x, outputs=2), "output-count", "makes 1 output, here are 2"),
    (lambda b, x: b.Softmax(x, axs=1), "attribute-unknown", "no attribute 'axs'"),
    (lambda b, x: b.Softmax(x, axis="last"), "attribute-kind", "cannot be 'last'"),
    (lambda b, x: b.Softmax(x, axis=[1]), "attribute-kind", "cannot be"),
    (lambda b, x: b.Concat(x, x), "attribute-missing", "'axis' is required"),
    (lambda b, x: b.Not(x), "type-constraint", "is tensor(float)"),
    (lambda b, x: b.Add(x, b.Shape(x)), "type-binding", "tensor(int64)"),
    (lambda b, x: b.MatMul(x, np.ones((4, 2), np.float32)), "shape-inference", "3"),
])
def test_what_does_not_fit_is_refused_at_once_and_leaves_no_trace(build: object, rule: str, says: str) -> None:
    b, x = fresh_builder()
    uses = dict(x.uses)
    with pytest.raises(ModelError) as e:
        build(b, x)  # type: ignore[operator]
    assert e.value.rule == rule and says in e.value.what, str(e.value)
    shapes = sum(n.op_type == "Shape" for n in b.graph.nodes)
    assert len(b.graph) == shapes and len(x.uses) == len(uses) + shapes
    # The builder goes on, and what was refused is not in the model.
    b.output(b.Relu(x), "y")
    assert check(b.model()).ok


def test_unknown_operators_and_newer_ones_are_refused() -> None:
    b, x = fresh_builder(13)
    with pytest.raises(UnsupportedError, match="Reluu"):
        b.Reluu(x)
    with pytest.raises(ModelError, match="came with opset 20"):
        b.Gelu(x)


def test_values_of_another_builder_are_refused() -> None:
    b, _ = fresh_builder()
    _, y = fresh_builder()
    with pytest.raises(ModelError, match="not made by this builder"):
        b.Relu(y)


def test_names_that_are_taken_are_refused() -> None:
    b, x = fresh_builder()
    with pytest.raises(ModelError, match="'x' is taken"):
        b.input("x", F, ())
    with pytest.raises(ModelError, match="'x' is taken"):
        b.output(b.Relu(x), "x")


# Attributes

def test_attributes_are_written_as_the_schema_wants_them() -> None:
    b, x = fresh_builder()
    y = b.LeakyRelu(x, alpha=1)
    assert y.producer is not None and y.producer.attributes["alpha"].kind is Kind.FLOAT
    z = b.Cast(x, to=dtypes.INT64)
    assert b.dtype(z) is dtypes.INT64
    w = b.Transpose(x, perm=np.array([1, 0]))
    assert b.shape(w) == (3, sym("n"))
    c = b.Constant(value_ints=[])
    assert b.shape(c) == (0,)
    k = b.Constant(value=np.ones((2, 2), np.float32))
    assert b.shape(k) == (2, 2)
    assert "axis" not in b.Softmax(x, axis=None).producer.attributes  # type: ignore[union-attr]


# Names

def test_nodes_and_values_have_different_readable_names() -> None:
    b, x = fresh_builder()
    first, second = b.Relu(x), b.Relu(x)
    third = b.Relu(x, name="layer1.relu")
    fourth = b.Relu(x, name="layer1.relu")
    assert [v.name for v in (first, second, third, fourth)] == ["Relu", "Relu_1", "layer1.relu", "layer1.relu_1"]
    values, indices = b.TopK(x, [2], outputs=2, name="best")
    assert (values.name, indices.name) == ("best_Values", "best_Indices")
    b.output(first, "y")
    assert first.name == "y"


def test_outputs_that_cannot_take_a_name_get_one_through_identity() -> None:
    b, x = fresh_builder()
    y = b.Relu(x)
    got = run(b, x, y, y, b.constant(np.float32(7)))
    assert [v.name for v in b.graph.outputs] == ["out0", "out1", "out2", "out3"]
    assert (got[0] == X).all() and (got[1] == got[2]).all() and got[3] == 7


# Inner graphs

def test_a_loop_is_built() -> None:
    b = Builder()
    x = b.input("x", F, ("n",))
    body = b.subgraph("body", [("i", dtypes.INT64, ()), ("go", dtypes.BOOL, ()), ("v", F, ("n",))])
    i, go, v = body.graph.inputs
    body.output(body.Identity(go))
    body.output(body.Add(v, body.Cast(i, to=F)))
    body.output(body.Neg(v))
    last, every = b.Loop(3, True, x, body=body, outputs=2)
    assert b.shape(last) == (sym("n"),) and b.shape(every)[1:] == (sym("n"),)  # type: ignore[index]
    got = run(b, last, every, x=[1.0, 2.0])
    assert got[0].tolist() == [4, 5] and got[1].tolist() == [[-1, -2], [-1, -2], [-2, -3]]


def test_constants_of_inner_graphs_stand_in_the_outermost() -> None:
    b, x = fresh_builder()
    yes, no = b.subgraph("yes"), b.subgraph("no")
    yes.output(yes.Add(x, 1.0))
    no.output(no.Sub(x, 1.0))
    b.output(b.If(True, then_branch=yes, else_branch=no), "y")
    assert not yes.graph.initializers and not no.graph.initializers
    assert Evaluator(b.model()).run({"x": X})["y"].tolist() == (X + 1).tolist()


def test_branches_that_contradict_each_other_are_refused_where_they_stand() -> None:
    b, x = fresh_builder()
    yes, no = b.subgraph("yes"), b.subgraph("no")
    yes.output(yes.Shape(x))
    no.output(no.Relu(x))
    with pytest.raises(ModelError, match="different types"):
        b.If(b.input("c", dtypes.BOOL, ()), then_branch=yes, else_branch=no)


# Models

@pytest.mark.parametrize(("opsets", "dtype", "ir"), [
    ({"": 7}, F, 4), ({"": 9}, F, 4), ({"": 11}, F, 6), ({"": 17}, F, 8), ({"": 19}, F, 9), ({"": 21}, F, 10),
    ({"": 23}, F, 11), ({"": 17, "ai.onnx.ml": 4}, F, 9), ({"": 13}, dtypes.BFLOAT16, 7),
])
def test_a_model_has_the_lowest_ir_version_that_suffices(opsets: dict, dtype: dtypes.DType, ir: int) -> None:
    b = Builder(opsets)
    x = b.input("x", dtype, (2,))
    b.output(b.Identity(b.constant(np.float32(1))), "c")
    b.output(b.Identity(x), "y")
    assert b.model().ir_version == ir


def test_the_newest_data_types_raise_the_ir_version() -> None:
    b = Builder({"": 21})
    x = b.input("x", dtypes.INT4, (2,))
    b.output(b.Identity(x), "y")
    assert b.model().ir_version == 10
    assert Builder({"": 28}).input("x", dtypes.FLOAT6E2M3, (2,)) is not None


def test_a_domain_is_imported_when_it_is_first_used() -> None:
    b, x = fresh_builder(15)
    b.output(b.op("Scaler", x, domain="ai.onnx.ml", offset=[0.0], scale=[2.0]), "y")
    assert b.model().opsets == {"": 15, "ai.onnx.ml": 2}


def test_a_model_that_gives_nothing_is_refused() -> None:
    b, _ = fresh_builder()
    with pytest.raises(ModelError, match="gives nothing out"):
        b.model()


def test_metadata_and_producer_are_written() -> None:
    b, x = fresh_builder()
    b.output(b.Relu(x), "y")
    model = b.model(producer_name="me", producer_version="3", doc="d", metadata={"k": "v"})
    assert (model.producer_name, model.producer_version, model.doc, model.metadata) == ("me", "3", "d", {"k": "v"})


def test_functions_are_called_and_carried() -> None:
    a = Value("a")
    node = Node("LeakyRelu", [a], attributes={"alpha": Attribute(Kind.FLOAT, None, ref="slope")})
    f = Function("my", "Leak", [a], [node.output], [node], attributes=["slope"], opsets={"": 21})
    b, x = fresh_builder()
    b.add_function(f)
    got = run(b, b.op("Leak", b.Neg(x), domain="my", slope=0.5))
    assert got[0].tolist() == (-X * 0.5).tolist()
    with pytest.raises(ModelError, match="takes 1 input"):
        b.op("Leak", x, x, domain="my")


def test_building_inside_a_function_makes_constants_nodes() -> None:
    f = Function("my", "PlusOne", [Value("a")], opsets={"": 21})
    b = Builder({"": 21}, f)
    f.add_output(b.op("Add", f.inputs[0], b.constant(np.float32(1))))
    assert [n.op_type for n in f.nodes] == ["Constant", "Add"] and not f.initializers


def test_a_builder_goes_on_with_a_graph_that_is_there() -> None:
    b, x = fresh_builder()
    y = b.Relu(x)
    more = Builder({"": 21}, b.graph)
    assert more.shape(y) == (sym("n"), 3)
    z = more.Neg(y)
    assert z.name != y.name
    more.output(z, "z")
    assert isinstance(more.model(), Model)


def test_other_types_than_tensors_are_inputs() -> None:
    b = Builder()
    s = b.input("s", SequenceType(TensorType(F, ("k",)[:0])))
    y = b.SequenceLength(s)
    assert b.dtype(y) is dtypes.INT64
    assert isinstance(b.constant(Tensor.of(np.ones(2, np.float32), "t")), Value)
