"""Known values where no inference rule carries them on: the reference rule runs while inferring, if it may."""

import numpy as np
from tests.ops.models import inferred

from gesher.base import dtypes
from gesher.inference import infer
from gesher.ir import Graph, Model, Node, Tensor, TensorType
from gesher.ops.fact import VALUE_LIMIT


def test_small_constants_are_carried_through_float_arithmetic() -> None:
    model, facts = inferred("""main (float[100] x) => (float[?] y) <float[1] half = {0.5}, int64[1] size = {7}> {
        f = Cast <to = 1> (size)
        h = Mul(f, half)
        u = Ceil(h)
        n = Cast <to = 7> (u)
        y = Expand(x, n)
    }""".replace("float[100] x", "float[1] x"))
    # ceil(7 * 0.5) == 4
    assert facts.shape(model.graph.outputs[0]) == (4,)


def test_random_operators_are_not_folded() -> None:
    graph = Graph("main")
    p = graph.add_initializer(Tensor.of(np.full(3, 0.5, np.float32)), "p")
    node = graph.append(Node("Bernoulli", [p]))
    graph.add_output(node.output)
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert facts[node.output].value is None


def test_large_results_are_not_folded() -> None:
    graph = Graph("main")
    one = graph.add_initializer(Tensor.of(np.ones(1, np.float32)), "one")
    shape = graph.add_initializer(Tensor.of(np.array([1 << 20, 1 << 20])), "shape")
    node = graph.append(Node("Expand", [one, shape]))
    graph.add_output(node.output)
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert facts.shape(node.output) == (1 << 20, 1 << 20)
    assert facts[node.output].value is None


def test_values_above_the_limit_are_left_to_the_run() -> None:
    graph = Graph("main")
    many = graph.add_initializer(Tensor.of(np.ones(VALUE_LIMIT + 1, np.float32)), "many")
    node = graph.append(Node("CumSum", [many, graph.add_initializer(Tensor.of(np.array(0)), "axis")]))
    graph.add_output(node.output)
    assert infer(Model(graph, opsets={"": 21}, ir_version=10))[node.output].value is None


def test_a_node_that_must_fail_on_its_constants_is_told() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(dtypes.FLOAT, (3,)))
    data = graph.add_initializer(Tensor.of(np.arange(3.0)), "data")
    far = graph.add_initializer(Tensor.of(np.array([[7]])), "far")
    node = graph.append(Node("GatherND", [data, far]))
    graph.add_output(node.output)
    graph.add_output(graph.append(Node("Relu", [x])).output)
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert {f.rule for f in facts.findings} & {"constant-fails", "shape-inference"}
