"""Inference over whole models: sizes from the inputs to the outputs, and what is said where it cannot be."""

import numpy as np
import pytest
from tests.ops.models import inferred, parsed, shapes

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.inference import annotate, infer
from gesher.ir import Edit, Graph, Model, Node, SparseTensor, Tensor, TensorType, Value
from gesher.ir.files import from_bytes
from gesher.symbolic import sym


def model_of(text: str, opset: int = 21) -> Model:
    return from_bytes(parsed(text, opset).SerializeToString())


def values(model: Model) -> dict[str, Value]:
    found = {v.name: v for g in model.graphs() for v in (*g.inputs, *g.initializers)}
    found.update({o.name: o for g in model.graphs() for n in g.nodes for o in n.outputs if o is not None})
    return found


def test_sizes_flow_through_shape_arithmetic() -> None:
    assert shapes("""main (float[batch, 3, 8, 8] x) => (float[?, ?] y)
        <int64[1] zero = {0}, int64[1] rest = {-1}> {
            s = Shape(x)
            n = Gather(s, zero)
            wanted = Concat <axis = 0> (n, rest)
            y = Reshape(x, wanted)
        }""") == ["float(batch,192)"]


def test_an_expression_of_two_symbols() -> None:
    assert shapes("""main (float[a, 4] x, float[b, 4] y) => (float[?, ?] z) {
        z = Concat <axis = 0> (x, y)
    }""") == ["float(a + b,4)"]


def test_dims_given_by_the_caller_are_put_in() -> None:
    text = "main (float[batch, seq] x) => (float[batch, seq] y) { y = Relu(x) }"
    assert shapes(text, dims={"batch": 2}) == ["float(2,seq)"]


def test_a_size_for_a_name_that_is_nowhere_is_refused() -> None:
    model = model_of("main (float[batch] x) => (float[batch] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match="'bach', which no shape") as e:
        infer(model, dims={"bach": 2})
    assert "batch" in (e.value.advice or "")


def test_values_given_by_the_caller_decide_shapes() -> None:
    text = "main (float[6] x, int64[2] s) => (float[?, ?] y) { y = Reshape(x, s) }"
    assert shapes(text, values={"s": [2, 3]}) == ["float(2,3)"]
    model = model_of(text)
    assert [d.is_fresh for d in infer(model)[model.graph.outputs[0]].shape or ()] == [True, True]


@pytest.mark.parametrize("wrong", [np.zeros(3, np.int64), [[1, 2]]])
def test_a_given_value_must_fit_its_input(wrong: object) -> None:
    model = model_of("main (float[6] x, int64[2] s) => (float[?, ?] y) { y = Reshape(x, s) }")
    with pytest.raises(ModelError, match="given for 's' does not fit"):
        infer(model, values={"s": wrong})


def test_a_value_for_no_input_is_refused() -> None:
    model = model_of("main (float[6] x) => (float[6] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match="no input"):
        infer(model, values={"nobody": 1})


def test_initializers_are_constants_and_overridable_ones_are_not() -> None:
    graph = Graph("main")
    fixed = graph.add_initializer(Tensor.of(np.array([2, 3])), "fixed")
    free = graph.add_input("free", TensorType(dtypes.INT64, (2,)))
    free.constant = Tensor.of(np.array([3, 2]))
    graph.initializers[free] = None
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (6,)))
    nodes = [graph.append(Node("Reshape", [x, s])) for s in (fixed, free)]
    for n in nodes:
        graph.add_output(n.output)
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert facts.shape(nodes[0].output) == (2, 3)
    assert not facts.is_exact(nodes[1].output)
    assert facts[free].type == TensorType(dtypes.INT64, (2,))
    # Before IR version 4 every initializer stood among the inputs, and none could be overruled.
    assert infer(Model(graph, opsets={"": 21}, ir_version=3)).shape(nodes[1].output) == (3, 2)


def test_a_sparse_initializer_is_read_as_the_dense_tensor() -> None:
    graph = Graph("main")
    shape = Value("shape", constant=SparseTensor(Tensor.of(np.array([2, 3])), Tensor.of(np.array([0, 2])), (3,)))
    shape.owner = graph
    graph.initializers[shape] = None
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (6, 0)))
    node = graph.append(Node("Reshape", [x, shape], attributes={"allowzero": 1}))
    graph.add_output(node.output)
    assert infer(Model(graph, opsets={"": 21}, ir_version=10)).shape(node.output) == (2, 0, 3)


def test_an_equality_found_late_is_seen_everywhere() -> None:
    model, facts = inferred("""main (float[n, 4] x, float[m, 4] y) => (float[?, ?] z, float[?, ?] t) {
        t = Relu(y)
        u = Relu(x)
        z = Gemm <transA = 1> (u, t)
    }""")
    # x and y are contracted over their first axes, so n == m, also for what was inferred before that was known.
    t, u = values(model)["t"], values(model)["u"]
    assert facts.shape(t) == facts.shape(u)
    assert facts.equalities.decide_eq(sym("n"), sym("m")) is True


def test_a_contradiction_names_both_places() -> None:
    model = model_of("""main (float[n, 4] x, float[5, 6] w) => (float[n, 6] y) { y = MatMul(x, w) }""")
    findings = infer(model).findings.errors
    assert len(findings) == 1
    assert "MatMul" in findings[0].place[-1]
    assert "4" in findings[0].message and "5" in findings[0].message
    with pytest.raises(ModelError):
        infer(model, strict=True)


def test_what_stands_behind_a_contradiction_is_still_inferred() -> None:
    model = model_of("""main (float[n, 4] x, float[5, 6] w) => (float[n, 6] y, int64[2] s) {
        y = MatMul(x, w)
        s = Shape(x)
    }""")
    assert str(infer(model)[values(model)["s"]].type) == "int64(2)"


def test_an_unknown_operator_says_why_and_goes_on() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    odd = graph.append(Node("Frobnicate", [x], domain="org.example"))
    after = graph.append(Node("Relu", [odd.output]))
    graph.add_output(after.output)
    model = Model(graph, opsets={"": 21, "org.example": 1}, ir_version=10)
    facts = infer(model)
    assert "Frobnicate" in facts[odd.output].why
    assert [f.severity for f in facts.findings] == ["warning"]
    assert odd.output in facts.reasons()
    with pytest.raises(UnsupportedError, match="Frobnicate"):
        infer(model, strict=True)


def test_an_unknown_operator_s_declared_type_is_taken() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    odd = graph.append(Node("Frobnicate", [x], domain="org.example"))
    odd.output.type = TensorType(dtypes.FLOAT, (sym("k"), 4))
    after = graph.append(Node("Shape", [odd.output]))
    graph.add_output(after.output)
    facts = infer(Model(graph, opsets={"": 21, "org.example": 1}, ir_version=10))
    assert [str(d) for d in facts[after.output].ints() or ()] == ["k", "4"]


def test_a_misfit_is_told_and_its_rule_is_not_run() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    node = graph.append(Node("MatMul", [x]))
    graph.add_output(node.output)
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert [f.rule for f in facts.findings] == ["input-count"]
    assert facts[node.output].type is None


def test_nodes_out_of_order_leave_unknowns_and_a_reason() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    first = Node("Relu", [x])
    second = Node("Relu", [first.output])
    first.output.name = "late"
    graph.append(second)
    graph.append(first)
    graph.add_output(second.output)
    model = Model(graph, opsets={"": 21}, ir_version=10)
    facts = infer(model)
    assert facts[second.output].shape is None
    assert facts.shape(first.output) == (3,)
    with pytest.raises(ModelError, match="before anything has made it"):
        infer(model, strict=True)


def test_annotate_writes_types_through_the_journal() -> None:
    model = model_of("""main (float[batch, 4] x) => (float[batch, ?] y, int64[?, ?] z) {
        y = Relu(x)
        z = NonZero(y)
    }""")
    facts = infer(model)
    edit = Edit(model)
    assert annotate(model, facts, edit) == 2
    # How many are not zero nobody can name, so it is left unsaid.
    assert [str(values(model)[n].type) for n in "yz"] == ["float(batch,4)", "int64(2,?)"]
    assert {s.rule for s in edit.steps} == {"annotate"}
    assert annotate(model, facts) == 0
    edit.undo()
    assert str(values(model)["y"].type) == "float(batch,?)"


def test_annotate_keeps_a_declaration_that_says_more() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(dtypes.FLOAT, None))
    node = graph.append(Node("Relu", [x]))
    graph.add_output(node.output)
    node.output.type = TensorType(dtypes.FLOAT, (sym("n"), 3))
    model = Model(graph, opsets={"": 21}, ir_version=10)
    annotate(model, infer(model))
    assert node.output.type == TensorType(dtypes.FLOAT, (sym("n"), 3))
