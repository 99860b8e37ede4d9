"""The walk of the evaluator: order, memory, nested graphs, functions, and what it says when something fails."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tests.ops.models import answers, parsed

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError, UnsupportedError
from gesher.evaluator import Evaluator, run_node
from gesher.ir import Attribute, Function, Graph, Kind, Model, Node, Tensor, TensorType, Value
from gesher.ir.files import from_bytes
from gesher.ops import find
from gesher.ops.schema import Rule
from gesher.symbolic import sym

F = dtypes.FLOAT
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)


def evaluator_of(text: str, **options: Any) -> Evaluator:
    return Evaluator(from_bytes(parsed(text).SerializeToString()), **options)


CHAIN = "main (float[n, 3] x) => (float[n, 3] y, float[n, 3] z) { a = Relu(x)  y = Neg(a)  z = Abs(x) }"


def test_outputs_come_by_name_in_their_order() -> None:
    got = evaluator_of(CHAIN).run({"x": X})
    assert list(got) == ["y", "z"]
    assert (got["y"] == -np.maximum(X, 0)).all() and (got["z"] == np.abs(X)).all()


def test_intermediate_values_can_be_asked_for() -> None:
    got = evaluator_of(CHAIN).run({"x": X}, outputs=["a", "x"])
    assert list(got) == ["a", "x"] and (got["a"] == np.maximum(X, 0)).all() and (got["x"] == X).all()
    with pytest.raises(RunError, match="no value 'b'"):
        evaluator_of(CHAIN).run({"x": X}, outputs=["b"])


def test_every_value_is_shown_to_the_hook_in_order() -> None:
    seen = []
    evaluator_of(CHAIN).run({"x": X}, on_value=lambda node, i, value: seen.append((node.op_type, i, value.sum())))
    assert [s[:2] for s in seen] == [("Relu", 0), ("Neg", 0), ("Abs", 0)]
    assert seen[0][2] == 9


def test_what_is_fed_and_what_is_stored_cannot_be_written_to() -> None:
    fed = X.copy()
    evaluator = evaluator_of("main (float[2, 3] x) => (float[2, 3] y, float[1] c) <float[1] w = {7}> { "
                             "y = Identity(x)  c = Identity(w) }")
    for _ in range(2):
        got = evaluator.run({"x": fed})
        assert got["y"].sum() == X.sum() and got["c"].tolist() == [7]
        got["y"][:] = 0
        got["c"][:] = 0
    assert (fed == X).all()


def test_a_value_is_freed_when_its_last_reader_has_run() -> None:
    alive: list[weakref.ref] = []

    def watch(node: Node, index: int, value: np.ndarray) -> None:
        gc.collect()
        # Of all that was made before, only what this node made itself and its operand are there.
        assert sum(r() is not None for r in alive) <= 2, f"at {node}"
        alive.append(weakref.ref(value))

    graph = Graph("main")
    value = graph.add_input("x", TensorType(F, (sym("n"),)))
    for _ in range(20):
        value = graph.append(Node("Add", [value, value])).output
    graph.add_output(value)
    got = Evaluator(Model(graph, opsets={"": 21}, ir_version=10)).run({"x": [1.0]}, on_value=watch)
    assert got["output_0"].tolist() == [2.0 ** 20]


def test_random_numbers_are_the_same_in_every_run_and_differ_by_seed() -> None:
    text = """main (float[100] x) => (float[100] y) <float ratio = {0.5}, bool training = {1}> {
        y = Dropout(x, ratio, training)
    }"""
    ones = {"x": np.ones(100, np.float32)}
    one, two = evaluator_of(text), evaluator_of(text, seed=1)
    assert (one.run(ones)["y"] == one.run(ones)["y"]).all()
    assert (one.run(ones)["y"] != two.run(ones)["y"]).any()


# Nested graphs

def test_branches_capture_what_stands_around_them() -> None:
    text = """main (bool c, float[n] x) => (float[n] y) <float[1] w = {10}> {
        a = Neg(x)
        y = If (c) <
            then_branch = yes () => (float[n] p) { q = If (c) <
                then_branch = deep () => (float[n] r) { r = Add(a, w) },
                else_branch = other () => (float[n] s) { s = Identity(x) }>
              p = Identity(q) },
            else_branch = no () => (float[n] t) <float[1] v = {5}> { t = Mul(a, v) }
        >
    }"""
    x = np.array([1, 2], np.float32)
    assert answers(text, [True, x])[0].tolist() == [9, 8]
    assert answers(text, [False, x])[0].tolist() == [-5, -10]


def test_a_loop_body_sees_its_own_values_anew_each_time() -> None:
    text = """main (int64 n, float x) => (float y, float[m] all) {
        go = Constant <value = bool {1}> ()
        y, all = Loop (n, go, x) <body = step (int64 i, bool c, float v) => (bool c2, float w, float u) {
            c2 = Identity(c)
            k = Cast <to = 1> (i)
            w = Add(v, k)
            u = Neg(w)
        }>
    }"""
    got = answers(text, [np.int64(4), np.float32(1)])
    assert got[0] == 7 and got[1].tolist() == [-1, -2, -4, -7]


# Functions

def calling(f: Function, *inputs: Value, **attributes: Any) -> Model:
    graph = Graph("main", inputs)
    call = graph.append(Node(f.name, inputs, domain=f.domain, attributes=attributes))
    call.output.name = "y"
    graph.add_output(call.output)
    return Model(graph, opsets={"": 21, f.domain: 1}, ir_version=10, functions=[f])


def test_functions_get_the_attributes_of_their_call_or_their_defaults() -> None:
    a = Value("a")
    node = Node("LeakyRelu", [a], attributes={"alpha": Attribute(Kind.FLOAT, None, ref="slope")})
    f = Function("my", "Leak", [a], [node.output], [node], defaults={"slope": Attribute(Kind.FLOAT, 0.5)},
                 opsets={"": 21})
    x = [-2.0, 4.0]
    assert Evaluator(calling(f, Value("x", TensorType(F, (2,))))).run({"x": x})["y"].tolist() == [-1, 4]
    assert Evaluator(calling(f, Value("x", TensorType(F, (2,))), slope=0.25)).run({"x": x})["y"].tolist() == [-0.5, 4]


def test_without_a_default_an_attribute_left_out_takes_the_operator_s() -> None:
    a = Value("a")
    node = Node("LeakyRelu", [a], attributes={"alpha": Attribute(Kind.FLOAT, None, ref="slope")})
    f = Function("my", "Leak", [a], [node.output], [node], attributes=["slope"], opsets={"": 21})
    got = Evaluator(calling(f, Value("x", TensorType(F, (1,))))).run({"x": [-2.0]})["y"]
    np.testing.assert_allclose(got, [-0.02], rtol=1e-6)


def test_references_reach_into_graphs_inside_functions() -> None:
    a, c = Value("a"), Value("c")
    leak = Node("LeakyRelu", [a], attributes={"alpha": Attribute(Kind.FLOAT, None, ref="slope")})
    same = Node("Identity", [a])
    choose = Node("If", [c], attributes={"then_branch": Graph("t", outputs=[leak.output], nodes=[leak]),
                                         "else_branch": Graph("e", outputs=[same.output], nodes=[same])})
    f = Function("my", "Maybe", [c, a], [choose.output], [choose], attributes=["slope"], opsets={"": 21})
    model = calling(f, Value("c", TensorType(dtypes.BOOL, ())), Value("x", TensorType(F, (1,))), slope=3.0)
    assert Evaluator(model).run({"c": True, "x": [-2.0]})["y"].tolist() == [-6]
    assert Evaluator(model).run({"c": False, "x": [-2.0]})["y"].tolist() == [-2]


def test_a_graph_given_to_a_function_captures_from_its_caller() -> None:
    c = Value("c")
    ref = Attribute(Kind.GRAPH, None, ref="body")
    choose = Node("If", [c], attributes={"then_branch": ref, "else_branch": Attribute(Kind.GRAPH, None, ref="body")})
    f = Function("my", "Choose", [c], [choose.output], [choose], attributes=["body"], opsets={"": 21})
    graph = Graph("main")
    cond = graph.add_input("c", TensorType(dtypes.BOOL, ()))
    x = graph.add_input("x", TensorType(F, (1,)))
    inner = Node("Neg", [x])
    call = graph.append(Node("Choose", [cond], domain="my",
                             attributes={"body": Graph("b", outputs=[inner.output], nodes=[inner])}))
    graph.add_output(call.output)
    model = Model(graph, opsets={"": 21, "my": 1}, ir_version=10, functions=[f])
    assert Evaluator(model).run({"c": True, "x": [2.0]})["output_0"].tolist() == [-2]


def test_an_optional_input_that_a_call_leaves_out_is_left_out_inside() -> None:
    a, low = Value("a"), Value("low")
    node = Node("Clip", [a, low])
    f = Function("my", "AtLeast", [a, low], [node.output], [node], opsets={"": 21})
    assert Evaluator(calling(f, Value("x", TensorType(F, (1,))))).run({"x": [-2.0]})["y"].tolist() == [-2]


def test_calls_nest_without_recursion() -> None:
    functions = []
    for i in range(5000):
        a = Value("a")
        node = Node(f"F{i + 1}", [a], domain="my") if i < 4999 else Node("Neg", [a])
        functions.append(Function("my", f"F{i}", [a], [node.output], [node], opsets={"": 21, "my": 1}))
    model = calling(functions[0], Value("x", TensorType(F, (1,))))
    model.functions.update({f.key: f for f in functions})
    assert Evaluator(model).run({"x": [2.0]})["y"].tolist() == [-2]


# Refusals

def test_recursive_functions_are_refused_before_running() -> None:
    a = Value("a")
    node = Node("Self", [a], domain="my")
    f = Function("my", "Self", [a], [node.output], [node], opsets={"": 21, "my": 1})
    with pytest.raises(ModelError, match="calls itself"):
        Evaluator(calling(f, Value("x", TensorType(F, (1,)))))


def test_all_operators_without_a_reference_are_told_at_once() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(F, (1,)))
    for name in ("Foo", "Bar", "Foo"):
        graph.add_output(graph.append(Node(name, [x], domain="org.example")).output)
    with pytest.raises(UnsupportedError, match=r"2 of the model's operators: org\.example\.Bar, org\.example\.Foo"):
        Evaluator(Model(graph, opsets={"": 21, "org.example": 1}, ir_version=10))


def test_nodes_out_of_order_are_refused() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(F, (1,)))
    first = Node("Neg", [x])
    first.output.name = "late"
    graph.append(Node("Relu", [first.output]))
    graph.append(first)
    graph.add_output(first.output)
    with pytest.raises(ModelError, match="reads 'late' before") as e:
        Evaluator(Model(graph, opsets={"": 21}, ir_version=10))
    assert e.value.rule == "node-order"


def test_an_output_that_nothing_makes_is_refused() -> None:
    graph = Graph("main", outputs=[Value("ghost")])
    with pytest.raises(ModelError, match="ghost"):
        Evaluator(Model(graph, opsets={"": 21}, ir_version=10))


def test_a_failing_node_is_named_with_its_path_and_operands() -> None:
    text = """main (bool c, float[n] x, float[m] y) => (float[k] z) {
        z = If (c) <
            then_branch = yes () => (float[k] p) { p = Add(x, y) },
            else_branch = no () => (float[k] q) { q = Identity(x) }
        >
    }"""
    with pytest.raises(RunError) as e:
        evaluator_of(text).run({"c": True, "x": [1, 2], "y": [1, 2, 3]})
    told = str(e.value)
    assert [part in told for part in ("graph 'main'", "(If)", "graph 'yes'", "(Add)", "float32[2]", "float32[3]")] \
        == [True] * 6, told
    assert told.index("(If)") < told.index("(Add)")


def test_what_numpy_says_of_a_failing_rule_is_kept_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(x: np.ndarray) -> np.ndarray:
        return x.reshape(7)

    relu = find("", "Relu")
    assert relu is not None
    monkeypatch.setitem(relu.rules, "reference", [Rule("reference", 1, rule)])
    with pytest.raises(RunError, match="Relu failed: ValueError: cannot reshape") as e:
        run_node(Node("Relu"), [X], {"": 21})
    assert isinstance(e.value.__cause__, ValueError)


def test_a_tensor_above_the_budget_is_refused_before_it_is_made() -> None:
    text = "main (int64[2] s) => (float[a, b] y) { y = ConstantOfShape(s) }"
    evaluator = evaluator_of(text, budget=1 << 20)
    assert evaluator.run({"s": [3, 3]})["y"].shape == (3, 3)
    with pytest.raises(RunError, match="budget"):
        evaluator.run({"s": [1 << 20, 1 << 20]})


def test_a_rule_that_gives_another_type_than_its_schema_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    relu = find("", "Relu")
    assert relu is not None
    monkeypatch.setitem(relu.rules, "reference", [Rule("reference", 1, lambda x: x.astype(np.float64))])
    with pytest.raises(RunError, match="gives float64"):
        run_node(Node("Relu"), [X], {"": 21})


# One node

def test_one_node_runs_alone() -> None:
    assert run_node(Node("Relu"), [X], {"": 21})[0].tolist() == np.maximum(X, 0).tolist()
    top = run_node(Node("TopK", outputs=2), [X, np.array([1])], {"": 21})
    assert top[0].tolist() == [[3], [5]] and top[1].tolist() == [[2], [1]]


def test_one_node_of_a_graph_runs_without_touching_the_graph() -> None:
    model = from_bytes(parsed(CHAIN).SerializeToString())
    node = model.graph.nodes[1]
    before = (node.inputs, dict(node.inputs[0].uses), node.graph)  # type: ignore[union-attr]
    got = Evaluator(model).run_node(node, [X])
    assert (got[0] == -X).all()
    assert (node.inputs, dict(node.inputs[0].uses), node.graph) == before  # type: ignore[union-attr]


def test_a_left_out_middle_input_comes_as_nothing() -> None:
    got = run_node(Node("Clip"), [X, None, np.float32(2)], {"": 21})
    assert got[0].max() == 2 and got[0].min() == -6


def test_a_sparse_initializer_is_dense_when_read() -> None:
    from gesher.ir import SparseTensor

    graph = Graph("main")
    sparse = Value("w", constant=SparseTensor(Tensor.of(np.array([5], np.float32)), Tensor.of(np.array([1])), (3,)))
    sparse.owner = graph
    graph.initializers[sparse] = None
    node = graph.append(Node("Neg", [sparse]))
    graph.add_output(node.output)
    assert Evaluator(Model(graph, opsets={"": 21}, ir_version=10)).run({})["output_0"].tolist() == [0, -5, 0]


def test_graphs_nested_beyond_reason_are_refused() -> None:
    from tests.inference.test_bodies import nested

    assert Evaluator(nested(50)).run({"c": True, "x": [1, -2, 3]})
    with pytest.raises(ModelError, match="deeper than 64"):
        Evaluator(nested(5000))
