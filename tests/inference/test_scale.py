"""Large graphs: inference takes time in proportion to their nodes, and no recursion in proportion to their depth."""

import time

import numpy as np

from gesher.base import dtypes
from gesher.inference import infer
from gesher.ir import Graph, Model, Node, Tensor, TensorType
from gesher.symbolic import sym


def chain(nodes: int) -> Model:
    """One chain of products, sums, activations and reshapes; every size is known by arithmetic on symbols."""
    graph = Graph("main")
    value = graph.add_input("x", TensorType(dtypes.FLOAT, (sym("batch"), 8)))
    for i in range(nodes):
        operands = {
            0: lambda i: ("Add", np.ones(8, np.float32)), 1: lambda i: ("Relu", None),
            2: lambda i: ("MatMul", np.ones((8, 8), np.float32)), 3: lambda i: ("Reshape", np.array([-1, 8])),
        }[i % 4](i)
        constant = [] if operands[1] is None else [graph.add_initializer(Tensor.of(operands[1]), f"c{i}")]
        value = graph.append(Node(operands[0], [value, *constant])).output
    graph.add_output(value)
    return Model(graph, opsets={"": 17}, ir_version=8)


def seconds(model: Model) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        facts = infer(model)
        best = min(best, time.process_time() - start)
        assert facts.shape(model.graph.outputs[0]) == (sym("batch"), 8)
    return best


def test_time_is_near_linear_in_the_nodes() -> None:
    seconds(chain(400))  # what is loaded once
    small, large = seconds(chain(4_000)), seconds(chain(20_000))
    # The aim is 5.5; a busy machine is allowed twice that, quadratic time would be 25.
    assert large < 11 * small, f"{small:.3f} s for 4,000 nodes, {large:.3f} s for 20,000"
