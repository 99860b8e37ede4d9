"""Model-local functions: inferred for each kind of call, with the attributes of the call; circles refused."""

import time

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.inference import infer
from gesher.ir import Attribute, Function, Graph, Kind, Model, Node, TensorType, Value
from gesher.symbolic import sym

FLOAT = dtypes.FLOAT


def function(name: str, nodes: list[Node], inputs: list[Value], output: Value, **options: object) -> Function:
    return Function("my", name, inputs, [output], nodes, opsets={"": 21, "my": 1}, **options)  # type: ignore[arg-type]


def model_of(graph: Graph, *functions: Function) -> Model:
    return Model(graph, opsets={"": 21, "my": 1}, ir_version=10, functions=functions)


def ref(kind: Kind, name: str) -> Attribute:
    return Attribute(kind, None, ref=name)


def test_each_call_is_inferred_for_its_own_types() -> None:
    a = Value("a")
    body = Node("Transpose", [a])
    f = function("Flip", [body], [a], body.output)
    graph = Graph("main")
    calls = [graph.append(Node("Flip", [graph.add_input(n, TensorType(d, s))], domain="my"))
             for n, d, s in (("x", FLOAT, (sym("n"), 3)), ("y", dtypes.INT64, (2, 5, 7)))]
    for c in calls:
        graph.add_output(c.output)
    facts = infer(model_of(graph, f))
    assert [str(facts[c.output].type) for c in calls] == ["float(3,n)", "int64(7,5,2)"]
    assert a not in facts, "values inside functions differ from call to call"


def test_attributes_of_the_call_reach_the_body_and_defaults_fill_in() -> None:
    a = Value("a")
    body = Node("Transpose", [a], attributes={"perm": ref(Kind.INTS, "order")})
    f = function("Order", [body], [a], body.output, defaults={"order": Attribute(Kind.INTS, (2, 0, 1))})
    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (2, 3, 4)))
    calls = [graph.append(Node("Order", [x], domain="my", attributes=a)) for a in ({}, {"order": [1, 0, 2]})]
    for c in calls:
        graph.add_output(c.output)
    facts = infer(model_of(graph, f))
    assert [facts.shape(c.output) for c in calls] == [(4, 2, 3), (3, 2, 4)]


def test_an_attribute_that_the_call_leaves_out_is_left_out_inside() -> None:
    a = Value("a")
    body = Node("Transpose", [a], attributes={"perm": ref(Kind.INTS, "order")})
    f = function("Order", [body], [a], body.output, attributes=["order"])
    graph = Graph("main")
    call = graph.append(Node("Order", [graph.add_input("x", TensorType(FLOAT, (2, 3, 4)))], domain="my"))
    graph.add_output(call.output)
    # Without perm, Transpose turns all axes around.
    assert infer(model_of(graph, f)).shape(call.output) == (4, 3, 2)


def test_attributes_go_through_calls_in_calls() -> None:
    a, b = Value("a"), Value("b")
    inner_node = Node("Softmax", [a], attributes={"axis": ref(Kind.INT, "along")})
    concat = Node("Concat", [inner_node.output, a], attributes={"axis": ref(Kind.INT, "along")})
    inner = function("Inner", [inner_node, concat], [a], concat.output, attributes=["along"])
    call = Node("Inner", [b], domain="my", attributes={"along": ref(Kind.INT, "axis")})
    outer = function("Outer", [call], [b], call.output, attributes=["axis"])
    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (2, 3)))
    calls = [graph.append(Node("Outer", [x], domain="my", attributes={"axis": i})) for i in (0, 1)]
    for c in calls:
        graph.add_output(c.output)
    facts = infer(model_of(graph, inner, outer))
    assert [facts.shape(c.output) for c in calls] == [(4, 3), (2, 6)]


def test_known_values_enter_functions() -> None:
    a, s = Value("a"), Value("s")
    body = Node("Reshape", [a, s])
    f = function("As", [body], [a, s], body.output)
    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (12,)))
    from gesher.ir import Tensor

    shapes = [graph.add_initializer(Tensor.of(np.array(d)), f"s{i}") for i, d in enumerate(([3, 4], [2, 6]))]
    calls = [graph.append(Node("As", [x, v], domain="my")) for v in shapes]
    for c in calls:
        graph.add_output(c.output)
    facts = infer(model_of(graph, f))
    assert [facts.shape(c.output) for c in calls] == [(3, 4), (2, 6)]


def test_unknown_sizes_of_two_calls_are_not_the_same() -> None:
    a = Value("a")
    body = Node("NonZero", [a])
    f = function("Hits", [body], [a], body.output)
    graph = Graph("main")
    x, y = (graph.add_input(n, TensorType(FLOAT, (4,))) for n in "xy")
    calls = [graph.append(Node("Hits", [v], domain="my")) for v in (x, y)]
    for c in calls:
        graph.add_output(c.output)
    facts = infer(model_of(graph, f))
    first, second = (facts.shape(c.output) for c in calls)
    assert first is not None and second is not None
    assert first[1] != second[1], "each call finds as many hits as its own input has"


def test_a_function_wins_over_an_operator_of_the_same_name() -> None:
    a = Value("a")
    body = Node("Shape", [a])
    f = Function("", "Relu", [a], [body.output], [body], opsets={"": 21})
    graph = Graph("main")
    call = graph.append(Node("Relu", [graph.add_input("x", TensorType(FLOAT, (2, 3)))]))
    graph.add_output(call.output)
    assert str(infer(model_of(graph, f))[call.output].type) == "int64(2)"


def test_a_graph_given_to_a_function_captures_from_the_caller() -> None:
    cond, a = Value("cond"), Value("a")
    choose = Node("If", [cond], attributes={name: ref(Kind.GRAPH, "yes") for name in ("then_branch", "else_branch")})
    f = function("Choose", [choose], [cond, a], choose.output, attributes=["yes"])
    graph = Graph("main")
    c = graph.add_input("c", TensorType(dtypes.BOOL, ()))
    x = graph.add_input("x", TensorType(FLOAT, (sym("n"), 2)))
    inner = Node("Transpose", [x])
    yes = Graph("yes", outputs=[inner.output], nodes=[inner])
    call = graph.append(Node("Choose", [c, c], domain="my", attributes={"yes": yes}))
    graph.add_output(call.output)
    assert str(infer(model_of(graph, f))[call.output].type) == "float(2,n)"


def circle(length: int) -> list[Function]:
    """Functions each of which calls the next, and the last the first."""
    functions = []
    for i in range(length):
        a = Value("a")
        call = Node(f"F{(i + 1) % length}", [a], domain="my")
        functions.append(function(f"F{i}", [call], [a], call.output))
    return functions


@pytest.mark.parametrize("length", [1, 2, 500])
def test_recursion_is_refused(length: int) -> None:
    graph = Graph("main")
    call = graph.append(Node("F0", [graph.add_input("x", TensorType(FLOAT, (2,)))], domain="my"))
    graph.add_output(call.output)
    with pytest.raises(ModelError, match="calls itself") as e:
        infer(model_of(graph, *circle(length)))
    assert e.value.rule == "function-recursion"


def test_a_chain_of_ten_thousand_functions_costs_no_recursion() -> None:
    functions = []
    for i in range(10_000):
        a = Value("a")
        call = Node(f"F{i + 1}", [a], domain="my") if i < 9_999 else Node("Relu", [a])
        functions.append(function(f"F{i}", [call], [a], call.output))
    graph = Graph("main")
    call = graph.append(Node("F0", [graph.add_input("x", TensorType(FLOAT, (sym("n"),)))], domain="my"))
    graph.add_output(call.output)
    assert infer(model_of(graph, *functions)).shape(call.output) == (sym("n"),)


@pytest.mark.parametrize("operator", ["Add", "NonZero"])
def test_functions_that_double_are_inferred_in_a_second(operator: str) -> None:
    # 2**40 applications; with NonZero each has sizes of its own, so that answers cannot be shared, and work is cut off.
    functions = []
    for i in range(40):
        a = Value("a")
        if i == 39:
            last = Node("NonZero", [a]) if operator == "NonZero" else Node("Relu", [a])
            functions.append(function(f"F{i}", [last], [a], last.output))
            continue
        one = Node(f"F{i + 1}", [a], domain="my")
        two = Node(f"F{i + 1}", [one.output], domain="my")
        functions.append(function(f"F{i}", [one, two], [a], two.output))
    graph = Graph("main")
    call = graph.append(Node("F0", [graph.add_input("x", TensorType(FLOAT, (sym("n"), sym("m"))))], domain="my"))
    graph.add_output(call.output)
    start = time.process_time()
    facts = infer(model_of(graph, *functions))
    # Called 2^26 times it would never end.
    assert time.process_time() - start < 60
    if operator == "Add":
        assert facts.shape(call.output) == (sym("n"), sym("m"))


def test_a_call_that_does_not_fit_is_told() -> None:
    a = Value("a")
    body = Node("Relu", [a])
    f = function("F", [body], [a], body.output)
    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (2,)))
    call = graph.append(Node("F", [x, x], domain="my"))
    graph.add_output(call.output)
    facts = infer(model_of(graph, f))
    assert [f.rule for f in facts.findings] == ["function-arity"]


def test_what_a_branch_makes_equal_does_not_leave_it_through_a_function() -> None:
    a = Value("a")
    body = Node("Relu", [a])
    f = function("F", [body], [a], body.output)
    graph = Graph("main")
    c = graph.add_input("c", TensorType(dtypes.BOOL, ()))
    x = graph.add_input("x", TensorType(FLOAT, (2, sym("n"))))
    y = graph.add_input("y", TensorType(FLOAT, (sym("m"), 2)))
    # The product makes n and m equal, and the call behind it sees that.
    product = Node("MatMul", [x, y])
    inside = [Node("F", [v], domain="my") for v in (x, y)]
    then = Graph("then", outputs=[n.output for n in inside], nodes=[product, *inside])
    other = Graph("else", outputs=[x, y])
    choose = graph.append(Node("If", [c], 2, attributes={"then_branch": then, "else_branch": other}))
    outside = [graph.append(Node("F", [v], domain="my")) for v in (x, y)]
    for n in (choose, *outside):
        graph.add_output(n.output)
    facts = infer(model_of(graph, f))
    assert [facts.shape(n.output) for n in outside] == [(2, sym("n")), (sym("m"), 2)]
