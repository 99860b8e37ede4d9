"""Nested graphs: what they capture, what holds only inside, how deep they may nest."""

import pytest
from tests.ops.models import inferred, parsed, shapes

from gesher.base import dtypes
from gesher.inference import infer
from gesher.inference.driver import DEEPEST
from gesher.ir import Graph, Model, Node, TensorType, Value
from gesher.ir.files import from_bytes
from gesher.symbolic import sym


def test_an_if_gives_what_both_branches_agree_on() -> None:
    assert shapes("""main (bool c, float[n, 3] x) => (float[?, ?] y) {
        y = If (c) <
            then_branch = yes () => (float[?, ?] a) { a = Relu(x) },
            else_branch = no () => (float[?, ?] b) { b = Abs(x) }
        >
    }""") == ["float(n,3)"]


def test_values_inside_bodies_have_facts() -> None:
    model, facts = inferred("""main (bool c, float[n, 3] x) => (float[?, ?] y) {
        y = If (c) <
            then_branch = yes () => (float[?, ?] a) { t = Transpose(x)  a = Transpose(t) },
            else_branch = no () => (float[?, ?] b) { b = Abs(x) }
        >
    }""")
    t = next(o for g in model.graphs() for n in g.nodes for o in n.outputs if o is not None and o.name == "t")
    assert str(facts[t].type) == "float(3,n)"


def test_what_is_equal_in_a_branch_is_not_equal_outside() -> None:
    model, facts = inferred("""main (bool c, float[2, n] x, float[m, 2] y) => (float[?, ?] z, float[?, ?] u) {
        z = If (c) <
            then_branch = yes () => (float[?, ?] a) { a = MatMul(x, y) },
            else_branch = no () => (float[?, ?] b) { b = Identity(x) }
        >
        u = Relu(y)
    }""")
    # The product needs n == m, but the branch need not be taken.
    u = model.graph.outputs[1]
    assert facts.shape(u) == (sym("m"), 2)
    assert facts.equalities.decide_eq(sym("n"), sym("m")) is None


def test_a_contradiction_inside_a_body_has_the_whole_path_as_its_place() -> None:
    model = from_bytes(parsed("""main (bool c, float[2, 3] x) => (float[?, ?] y) {
        y = If (c) <
            then_branch = yes () => (float[?, ?] a) { a = MatMul(x, x) },
            else_branch = no () => (float[?, ?] b) { b = Identity(x) }
        >
    }""").SerializeToString())
    findings = infer(model).findings.errors
    assert len(findings) == 1
    place = " > ".join(findings[0].place)
    assert "main" in place and "yes" in place and "MatMul" in place


def test_a_loop_whose_carried_size_grows_is_not_frozen_at_its_first_size() -> None:
    model, facts = inferred("""main (int64 trips, bool go, float[1] x) => (float[?] y) {
        y = Loop (trips, go, x) <body = step (int64 i, bool c, float[?] v) => (bool c2, float[?] w) {
            c2 = Identity(c)
            w = Concat <axis = 0> (v, v)
        }>
    }""")
    shape = facts.shape(model.graph.outputs[0])
    assert shape is not None and shape[0] != 1 and shape[0] != 2


def nested(depth: int) -> Model:
    """An If in an If in an If ..."""
    main = Graph("main")
    c = main.add_input("c", TensorType(dtypes.BOOL, ()))
    x = main.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    inner = Node("Relu", [x])
    graph = Graph(f"g{depth}", nodes=[inner], outputs=[inner.output])
    for i in range(depth - 1, -1, -1):
        other = Node("Abs", [x])
        node = Node("If", [c], attributes={"then_branch": graph, "else_branch": Graph(f"e{i}", nodes=[other],
                                                                                    outputs=[other.output])})
        graph = Graph(f"g{i}", nodes=[node], outputs=[node.output]) if i else main
        if not i:
            main.append(node)
            main.add_output(node.output)
    return Model(main, opsets={"": 21}, ir_version=10)


def test_reasonable_nesting_is_inferred() -> None:
    model = nested(DEEPEST - 2)
    facts = infer(model)
    assert not facts.findings and facts.shape(model.graph.outputs[0]) == (3,)


@pytest.mark.parametrize("depth", [DEEPEST + 5, 5000])
def test_nesting_beyond_reason_is_told_and_survived(depth: int) -> None:
    facts = infer(nested(depth))
    assert "nesting-depth" in {f.rule for f in facts.findings}


def test_a_value_that_stands_nowhere_is_unknown() -> None:
    graph = Graph("main")
    node = graph.append(Node("Relu", [Value("nowhere")]))
    graph.add_output(node.output)
    assert infer(Model(graph, opsets={"": 21}, ir_version=10))[node.output].type is None


def test_a_loop_goes_on_by_a_bool() -> None:
    body = Graph("body")
    body.add_input("turn", TensorType(dtypes.INT64, ()))
    again = body.add_input("again", TensorType(dtypes.BOOL, ()))
    node = body.append(Node("Cast", [again], 1, {"to": 1}))
    body.add_output(node.outputs[0])
    graph = Graph("main")
    count = graph.add_input("count", TensorType(dtypes.INT64, ()))
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    v = body.add_input("v", TensorType(dtypes.FLOAT, (3,)))
    body.add_output(v)
    loop = graph.append(Node("Loop", [count, None, x], 1, {"body": body}))
    graph.add_output(loop.outputs[0])
    [finding] = infer(Model(graph, opsets={"": 21})).findings
    assert "gives float for whether to go on" in finding.message
