"""Models made to hurt: the checker answers in about a second, and grows with the file, not with what it describes."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.checker.broken_models import Parts
from tests.inference.test_scale import chain

from gesher.base import dtypes
from gesher.base.report import Report
from gesher.checker import check
from gesher.ir import Function, Graph, Model, Node, RawStorage, Tensor, TensorType, Value

# Of the processor, and generous: each takes well under one second on a quiet machine.
SECONDS = 5


def timed(model: Model) -> Report:
    start = time.process_time()
    report = check(model)
    assert time.process_time() - start < SECONDS
    return report


def doubling(levels: int, last: str) -> Model:
    p = Parts()
    for i in range(levels):
        a = Value("a")
        if i == levels - 1:
            nodes = [Node(last, [a])]
        else:
            first = Node(f"F{i + 1}", [a], domain="my")
            nodes = [first, Node(f"F{i + 1}", [first.output], domain="my")]
        f = Function("my", f"F{i}", [a], [nodes[-1].output], nodes, opsets={"": 21, "my": 1})
        p.model.functions[f.key] = f
    p.model.opsets["my"] = 1
    p.append("F0", [p.x], domain="my")
    return p.model


def test_functions_that_double_26_times() -> None:
    assert timed(doubling(26, "Relu")).ok
    assert timed(doubling(26, "NonZero")) is not None


def test_functions_that_call_each_other_in_a_large_circle() -> None:
    p = Parts()
    for i in range(5000):
        a = Value("a")
        node = Node(f"F{(i + 1) % 5000}", [a], domain="my")
        f = Function("my", f"F{i}", [a], [node.output], [node], opsets={"": 21, "my": 1})
        p.model.functions[f.key] = f
    p.model.opsets["my"] = 1
    p.append("F0", [p.x], domain="my")
    assert "function-recursion" in {f.rule for f in timed(p.model)}


def test_graphs_nested_ten_thousand_deep() -> None:
    p = Parts()
    c = p.graph.add_input("c", TensorType(dtypes.BOOL, ()))
    inner = Node("Identity", [p.x])
    graph = Graph("g", outputs=[inner.output], nodes=[inner])
    for i in range(10_000):
        node = Node("If", [c], attributes={"then_branch": graph, "else_branch": Graph(f"e{i}", outputs=[p.x])})
        graph = Graph(f"g{i}", outputs=[node.output], nodes=[node])
    p.append("If", [c], 1, {"then_branch": graph, "else_branch": Graph("e", outputs=[p.x])})
    assert "nesting-depth" in {f.rule for f in timed(p.model)}


def test_one_circle_of_all_nodes() -> None:
    p = Parts()
    first = Value("first")
    value = first
    for i in range(20_000):
        last = i == 19_999
        node = p.graph.append(Node("Neg", [value], [first] if last else 1))
        value = node.output
    report = timed(p.model)
    cycles = [f for f in report if f.rule == "cycle"]
    assert len(cycles) == 1 and "20000 nodes" in cycles[0].message
    assert len(cycles[0].message) < 1000


def test_nodes_in_reverse_order() -> None:
    p = Parts()
    nodes = list(chain(5_000).graph.nodes)
    for n in reversed(nodes):
        p.graph.append(n)
    report = timed(p.model)
    assert {"node-order"} <= {f.rule for f in report} and "cycle" not in {f.rule for f in report}


def test_a_tensor_of_an_exabyte() -> None:
    p = Parts()
    shape = p.graph.add_initializer(Tensor.of(np.array([1 << 40, 1 << 20])), "shape")
    p.append("ConstantOfShape", [shape])
    p.append("Expand", [p.w, p.graph.add_initializer(Tensor.of(np.array([1 << 40, 1 << 20, 3])), "wide")])
    assert timed(p.model).ok


def test_dims_beyond_all_numbers() -> None:
    p = Parts()
    v = Value("t", constant=Tensor(dtypes.FLOAT, (1 << 62,) * 8, RawStorage(b"")))
    v.owner = p.graph
    p.graph.initializers[v] = None
    p.append("Neg", [v])
    p.append("Size", [v])
    assert "tensor-data" in {f.rule for f in timed(p.model)}


@pytest.mark.parametrize("make", [lambda: chain(20_000)])
def test_twenty_thousand_nodes(make: Callable[[], Model]) -> None:
    model = make()
    model.graph.outputs[0].name, model.graph.outputs[0].type = "y", TensorType(dtypes.FLOAT)
    assert timed(model).ok


def test_a_value_read_twenty_thousand_times() -> None:
    p = Parts()
    values = [p.graph.append(Node("Neg", [p.x])).output for _ in range(10_000)]
    p.append("Sum", values)
    assert timed(p.model).ok
