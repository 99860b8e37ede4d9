"""Functions put in place: each node keeps the opset of the function that it stood in."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.test_session import Net, agrees, f32, fallbacks, n

from gesher.compiler import toolchain
from gesher.ir import Function, Graph, Kind, Model, Node, TensorType, Value
from gesher.ir.attributes import Attribute
from gesher.rewriter.inline import inlined

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

X = np.random.default_rng(4).standard_normal((2, 3, 4)).astype(np.float32)


def function(name: str, opset: int, *nodes: Node, given: Value, made: Value, **more) -> Function:
    found = Function("my", name, [given], [made], **more)
    for node in nodes:
        found.append(node)
    found.opsets = {"": opset}
    return found


def old_softmax() -> Function:
    """Softmax 11 takes all axes from `axis` on together, Softmax 13 one axis."""
    a, b = Value("a"), Value("b")
    return function("Old", 11, Node("Softmax", [a], [b], {"axis": 1}), given=a, made=b)


def calling(name: str, x: Value, domain: str = "my", **attributes) -> Node:
    call = Node(name, [x], 1, attributes, domain=domain)
    call.output.name = f"{name}_of_{x.name}"
    return call


def test_a_function_of_an_older_opset_means_what_it_meant():
    net = Net(x=f32(n, 3, 4))
    net.graph.append(call := calling("Old", net.x))
    session = agrees(net.model(call.output, net.add("Softmax", net.x, axis=1), functions=[old_softmax()]), {"x": X})
    assert not fallbacks(session)
    old, new = session.run({"x": X}).values()
    assert np.allclose(old.sum((1, 2)), 1) and np.allclose(new.sum(1), 1)


def test_functions_of_three_opsets_call_each_other():
    a, b = Value("a"), Value("b")
    call = calling("Old", a)
    # ReduceSum takes its axes as an attribute until 12, as an input from 13 on.
    middle = function("Middle", 12, call, Node("ReduceSum", [call.output], [b], {"axes": [2], "keepdims": 0}),
                      given=a, made=b)
    middle.opsets = {"": 12, "my": 1}
    net = Net(x=f32(n, 3, 4))
    net.graph.append(outer := calling("Middle", net.x))
    total = net.add("ReduceSum", outer.output, net.weight("axes", np.int64([1])), keepdims=0)
    session = agrees(net.model(total, functions=[middle, old_softmax()]), {"x": X})
    assert not fallbacks(session)
    assert np.allclose(session.run({"x": X})[total.name], 1)


def test_a_branch_inside_a_function_has_the_functions_opset():
    a, b = Value("a"), Value("b")
    branches = {}
    for name, axis in (("then_branch", 1), ("else_branch", 2)):
        branch = Graph(name)
        node = branch.append(Node("Softmax", [a], 1, {"axis": axis}))
        node.output.name = name
        branch.add_output(node.output)
        branches[name] = branch
    top = Node("ReduceMax", [a], 1, {"keepdims": 0})
    zero = Node("Constant", [], 1)
    zero.attributes["value"] = Attribute(Kind.TENSOR, Net().weight("zero", np.float32(0)).constant)
    condition = Node("Greater", [top.output, zero.output], 1)
    body = function("Chosen", 11, top, zero, condition, Node("If", [condition.output], [b], branches), given=a, made=b)
    net = Net(x=f32(n, 3, 4))
    net.graph.append(call := calling("Chosen", net.x))
    # Both outcomes: softmax over the axes 1 and 2 together, and over the last.
    agrees(net.model(call.output, functions=[body]), {"x": X}, {"x": -np.abs(X)})


def test_only_nodes_of_other_opsets_are_in_the_table():
    net = Net(x=f32(n, 3, 4))
    same = old_softmax()
    same.opsets = {"": 20}
    net.graph.append(call := calling("Old", net.x))
    model: Model = net.model(call.output, functions=[same])
    assert not inlined(model).opsets
    same.opsets = {"": 11}
    assert [node.op_type for node in inlined(model).opsets] == ["Softmax"]


@pytest.mark.parametrize(("op", "x", "given"), [
    ("ReduceSum", (2, 3, 4), {"axes": [0, 2]}),
    ("ReduceMean", (2, 3, 4), {"axes": [-1]}),
    ("Squeeze", (1, 3, 1), {"axes": [0, 2]}),
    ("Unsqueeze", (2, 3), {"axes": [0, -1]}),
    ("Slice", (4, 5), {"starts": [1, -3], "ends": [4, 5], "axes": [0, 1], "steps": [2, 1]}),
    ("Slice", (4, 5), {"starts": [3], "ends": [-5], "axes": [0], "steps": [-1]}),
    ("Reshape", (4, 6), {"shape": [2, -1, 3]}),
    ("Expand", (3, 1), {"shape": [2, 1, 4]}),
    ("Tile", (2, 3), {"repeats": [2, 3]}),
    ("Pad", (2, 3), {"pads": [1, 0, 0, 2]}),
])
def test_numbers_that_shape_the_result_may_be_fed(op, x, given):
    from gesher.base.dtypes import INT64

    for shape in (tuple(f32(*x).shape), None, (n, *x[1:])):
        net = Net(x=TensorType(f32().dtype, shape), **{k: TensorType(INT64, (len(v),)) for k, v in given.items()})
        model = net.model(net.add(op, net.x, *(net.values[k] for k in given)))
        fed = {"x": np.arange(np.prod(x), dtype=np.float32).reshape(x)}
        agrees(model, {**fed, **{k: np.int64(v) for k, v in given.items()}})
