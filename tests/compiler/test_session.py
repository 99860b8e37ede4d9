"""Compiled sessions: shapes open at run time, fallbacks, nested graphs, functions, bad feeds."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.dtypes import BOOL, FLOAT, INT64
from gesher.base.errors import RunError
from gesher.compiler import toolchain
from gesher.compiler.session import CompiledSession, Options, compile
from gesher.evaluator import Evaluator
from gesher.ir import Attribute, Function, Graph, Kind, Model, Node, Tensor, TensorType, Value
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

n, m = sym("n"), sym("m")


class Net:
    """A small model in the making."""

    def __init__(self, **inputs: TensorType):
        self.graph = Graph("main")
        self.values = {k: self.graph.add_input(k, t) for k, t in inputs.items()}

    def __getattr__(self, name: str) -> Value:
        return self.values[name]

    def weight(self, name: str, values) -> Value:
        return self.graph.add_initializer(Tensor.of(np.asarray(values), name))

    def add(self, op: str, *inputs, outputs: int = 1, name: str = "", **attributes):
        node = Node(op, inputs, outputs, attributes)
        for i, o in enumerate(node.outputs):
            o.name = f"{name or op}_{len(self.graph)}_{i}"
        self.graph.append(node)
        return node.outputs[0] if outputs == 1 else node.outputs

    def model(self, *outputs: Value, opset: int = 20, functions=()) -> Model:
        for o in outputs:
            self.graph.add_output(o)
        return Model(self.graph, opsets={"": opset, "my": 1}, ir_version=9, functions=functions)


def f32(*shape) -> TensorType:
    return TensorType(FLOAT, shape)


def agrees(model: Model, *feeds: dict, rtol: float = 1e-4) -> CompiledSession:
    """Hold the session to the reference on each of these feeds; the session, for more questions."""
    session = compile(model, Options(threads=1))
    reference = Evaluator(model)
    for fed in feeds:
        want, got = reference.run(fed), session.run(fed)
        assert list(got) == list(want)
        for k in want:
            assert got[k].dtype == want[k].dtype and got[k].shape == want[k].shape, k
            if want[k].dtype == object:
                assert (got[k] == want[k]).all()
            else:
                np.testing.assert_allclose(got[k].astype(np.float64), want[k].astype(np.float64), rtol=rtol, atol=1e-5)
    return session


def fallbacks(session: CompiledSession) -> list[str]:
    return [f.node.op_type for v in session._main.variants for s in v.lowered.stages for f in s.fallbacks]


def test_one_compilation_serves_all_sizes():
    net = Net(x=f32(n, 6))
    w, b = net.weight("w", np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)), net.weight(
        "b", np.float32([1, 2, 3, 4]))
    y = net.add("Softmax", net.add("Relu", net.add("Add", net.add("MatMul", net.x, w), b)))
    rng = np.random.default_rng(1)
    session = agrees(net.model(y), *({"x": rng.standard_normal((k, 6)).astype(np.float32)} for k in (3, 1, 100, 0, 3)))
    assert len(session._main.variants) == 1 and not fallbacks(session)


def test_bias_and_activation_run_inside_the_product():
    net = Net(x=f32(n, 6))
    w, b = net.weight("w", np.ones((6, 4), np.float32)), net.weight("b", np.float32([1, 2, 3, 4]))
    session = compile(net.model(net.add("Relu", net.add("Add", net.add("MatMul", net.x, w), b))))
    steps = list(session._main.variants[0].programs[0].all_steps())
    assert len(steps) == 1 and steps[0].tile is not None


def test_outputs_are_fresh_arrays():
    net = Net(x=f32(2, 2))
    session = compile(net.model(net.add("Identity", net.x), net.weight("w", np.float32([1, 2]))))
    x = np.ones((2, 2), np.float32)
    first, second = session.run({"x": x}), session.run({"x": x})
    for k in first:
        assert first[k].flags.writeable and not np.shares_memory(first[k], second[k])
        assert not np.shares_memory(first[k], x)


@pytest.mark.parametrize("fed, what", [
    ({}, "x"), ({"x": np.zeros((2, 6), np.float32), "z": np.zeros(1)}, "z"), ({"x": np.zeros((2, 6))}, "float"),
    ({"x": np.zeros((2, 5), np.float32)}, "6"), ({"x": np.zeros(6, np.float32)}, "dims"),
    ({"x": np.array([["a"] * 6])}, "x"),
], ids=["missing", "unknown", "type", "size", "rank", "strings"])
def test_feeds_that_do_not_fit_are_refused_by_name(fed, what):
    net = Net(x=f32(n, 6))
    session = compile(net.model(net.add("Relu", net.x)))
    session.run({"x": np.zeros((2, 6), np.float32)})
    with pytest.raises(RunError, match=what):
        session.run(fed)


def test_sizes_of_one_name_must_agree():
    net = Net(x=f32(n), y=f32(n))
    session = compile(net.model(net.add("Add", net.x, net.y)))
    with pytest.raises(RunError, match="'n' is 2"):
        session.run({"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)})


def test_sizes_of_two_names_may_broadcast_or_not():
    net = Net(x=f32(n), y=f32(m))
    model = net.model(net.add("Add", net.x, net.y))
    a, b = np.float32([1, 2, 3]), np.float32([10])
    session = agrees(model, {"x": a, "y": b}, {"x": b, "y": a}, {"x": a, "y": a})
    with pytest.raises(RunError):
        session.run({"x": a, "y": np.zeros(2, np.float32)})


def test_arrays_that_are_not_contiguous_are_read_right():
    net = Net(x=f32(n, m))
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    agrees(net.model(net.add("Neg", net.x)), {"x": x.T}, {"x": x[::2, ::-1]}, {"x": np.broadcast_to(x[0], (3, 6))})


def test_an_index_outside_ends_the_run_with_an_error():
    net = Net(x=f32(n, 3), i=TensorType(INT64, (m,)))
    model = net.model(net.add("Gather", net.x, net.i))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    session = agrees(model, {"x": x, "i": np.int64([1, -2])}, {"x": x, "i": np.int64([])})
    with pytest.raises(RunError, match="outside"):
        session.run({"x": x, "i": np.int64([0, 2])})
    agrees(model, {"x": x, "i": np.int64([0])})


def test_nodes_without_a_lowering_run_in_between():
    net = Net(x=f32(n, 3))
    places = net.add("NonZero", net.add("Relu", net.x))
    y = net.add("Mul", net.add("Cast", places, to=1), net.weight("two", np.float32(2)))
    session = agrees(net.model(y, net.add("Exp", net.x)), {"x": np.float32([[1, -1, 2], [0, 3, -5]])},
                     {"x": np.float32([[-1, -1, -2]])})
    assert fallbacks(session) == ["NonZero"]
    assert "NonZero" in session.explain()


def test_strings_pass_through_fallbacks():
    net = Net(x=TensorType(dtypes.STRING, (n,)))
    agrees(net.model(net.add("Identity", net.x)), {"x": np.array(["a", "b"], object)})


def test_sizes_that_are_fed_as_numbers_are_compiled():
    net = Net(x=f32(n, 4), shape=TensorType(INT64, (2,)))
    y = net.add("Exp", net.add("Expand", net.x, net.shape))
    session = agrees(net.model(y), {"x": np.ones((1, 4), np.float32), "shape": np.int64([3, 4])},
                     {"x": np.ones((5, 4), np.float32), "shape": np.int64([1, 4])})
    assert not fallbacks(session)


def test_numbers_that_are_no_sizes_are_served_all_the_same():
    net = Net(x=f32(n, 4), shape=TensorType(INT64, (2,)))
    y = net.add("Exp", net.add("Reshape", net.x, net.shape))
    x = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
    agrees(net.model(y), {"x": x, "shape": np.int64([2, 6])}, {"x": x, "shape": np.int64([-1, 6])},
           {"x": x, "shape": np.int64([6, 2])})


def branch(name: str, *nodes: Node) -> Graph:
    out = nodes[-1].output
    out.name = f"{name}_out"
    return Graph(name, [], [out], nodes)


def if_model(condition_of) -> Model:
    net = Net(x=f32(n, 3), flag=TensorType(BOOL, ()), k=TensorType(INT64, ()))
    doubled = net.add("Add", net.x, net.x)
    then, other = branch("then", Node("Exp", [doubled])), branch("other", Node("Neg", [doubled]), )
    y = net.add("If", condition_of(net), then_branch=then, else_branch=other)
    return net.model(net.add("Abs", y))


def test_the_branch_of_an_if_on_sizes_is_put_in_place():
    def condition(net):
        return net.add("Equal", net.add("Gather", net.add("Shape", net.x), net.weight("i", np.int64(0))),
                       net.weight("one", np.int64(1)))

    feeds = [{"x": np.ones((k, 3), np.float32), "flag": np.array(True), "k": np.int64(0)} for k in (1, 2, 5, 1)]
    session = agrees(if_model(condition), *feeds)
    assert len(session._main.variants) == 2 and not fallbacks(session)


def test_the_branch_of_an_if_on_a_small_number_is_put_in_place():
    feeds = [{"x": np.ones((2, 3), np.float32), "flag": np.array(True), "k": np.int64(k)} for k in (8, 16, 8)]
    session = agrees(if_model(lambda net: net.add("Equal", net.k, net.weight("rate", np.int64(16)))), *feeds)
    assert len(session._main.variants) == 2 and not fallbacks(session)


def test_an_if_on_data_is_a_branch_of_the_segment():
    def condition(net):
        return net.add("Greater", net.add("ReduceSum", net.x, keepdims=0), net.weight("zero", np.float32(0)))

    x = np.ones((2, 3), np.float32)
    session = agrees(if_model(condition), *({"x": s * x, "flag": np.array(True), "k": np.int64(0)} for s in (1, -1)))
    assert not fallbacks(session)


def test_a_loop_runs_its_body_compiled_even_when_shapes_grow():
    net = Net(x=f32(2), count=TensorType(INT64, ()))
    body = Graph("body")
    body.add_input("i", TensorType(INT64, ()))
    go, carried = body.add_input("go", TensorType(BOOL, ())), body.add_input("c", f32(None))
    grown = body.append(Node("Concat", [carried, net.x], attributes={"axis": 0}))
    same = body.append(Node("Identity", [go]))
    item = body.append(Node("ReduceSum", [grown.output], attributes={"keepdims": 0}))
    for v, name in ((same.output, "go_out"), (grown.output, "c_out"), (item.output, "sum_out")):
        v.name = name
        body.add_output(v)
    outputs = net.add("Loop", net.count, net.weight("true", np.array(True)), net.x, outputs=2, body=body)
    agrees(net.model(*outputs), *({"x": np.float32([1, 2]), "count": np.int64(k)} for k in (3, 0, 1)))


def test_functions_are_put_in_place():
    x, out = Value("a"), Value("b")
    inner = Function("my", "Scaled", [x], [out], attributes=["by"])
    scale = inner.append(Node("Constant"))
    scale.attributes["value_float"] = Attribute(Kind.FLOAT, None, ref="by")
    inner.append(Node("Mul", [x, scale.output], [out]))
    inner.opsets = {"": 20}
    net = Net(x=f32(n))
    call = Node("Scaled", [net.x], 1, {"by": 3.0}, domain="my")
    again = Node("Scaled", [call.output], 1, {"by": 0.5}, domain="my")
    net.graph.append(call)
    net.graph.append(again)
    again.output.name = "y"
    model = net.model(again.output, functions=[inner])
    session = agrees(model, {"x": np.float32([1, 2, 3])})
    assert not fallbacks(session) and len(model.graph) == 2  # the model itself is not touched


def test_an_input_with_a_default_may_be_left_out():
    net = Net(x=f32(2))
    default = net.weight("y", np.float32([5, 6]))
    net.graph.inputs.append(default)
    agrees(net.model(net.add("Add", net.x, default)), {"x": np.float32([1, 2])},
           {"x": np.float32([1, 2]), "y": np.float32([0, 1])})


def test_narrow_and_wide_types_are_compiled():
    for dtype in (dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.DOUBLE, dtypes.INT8, dtypes.UINT64):
        net = Net(x=TensorType(dtype, (n,)))
        session = agrees(net.model(net.add("Add", net.x, net.x), opset=14),
                         {"x": np.arange(5).astype(dtype.numpy)}, rtol=1e-2)
        assert not fallbacks(session), dtype


def test_a_session_may_be_called_from_several_threads():
    net = Net(x=f32(n, 64))
    w = net.weight("w", np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32))
    session = compile(net.model(net.add("Tanh", net.add("MatMul", net.x, w))), Options(threads=2))
    xs = [np.full((k + 1, 64), k, np.float32) for k in range(8)]
    want = [session.run({"x": x}) for x in xs]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(20):
            got = session.run({"x": xs[k]})
            if not all(np.array_equal(got[o], want[k][o]) for o in got):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_same_model_compiled_again_comes_from_the_cache():
    def make(scale: float) -> Model:
        net = Net(x=f32(n, 3))
        return net.model(net.add("MatMul", net.x, net.weight("w", np.full((3, 2), scale, np.float32))))

    first, second = compile(make(1.0)), compile(make(2.0))
    x = {"x": np.ones((1, 3), np.float32)}
    # Weights are no part of the code: one library serves both.
    assert first._main.variants[0].module.entry.folder == second._main.variants[0].module.entry.folder
    assert next(iter(first.run(x).values())).tolist() == [[3, 3]]
    assert next(iter(second.run(x).values())).tolist() == [[6, 6]]


def test_a_tensor_that_no_memory_holds_is_an_error_of_the_run():
    net = Net(x=f32(n, 1), y=f32(1, m))
    session = compile(net.model(net.add("Exp", net.add("Add", net.x, net.y))))
    # Views of one number: the inputs take no room, what they make would take 4 exabytes.
    huge = np.broadcast_to(np.float32(1), (1 << 30, 1))
    with pytest.raises(RunError, match="no memory"):
        session._main.variants[0].stages[0].segment.run([huge, huge.T], {n: 1 << 30, m: 1 << 30})


def test_weights_are_not_copied():
    w = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    net = Net(x=f32(n, 200))
    session = compile(net.model(net.add("Add", net.x, net.weight("w", w))))
    held = session._main.variants[0].stages[0].segment.weights
    assert any(np.shares_memory(h, w) for h in held)


def test_a_closed_session_says_so():
    net = Net(x=f32(n, 3))
    session = compile(net.model(net.add("Relu", net.x)), Options(threads=2))
    feeds = {"x": np.ones((2, 3), np.float32)}
    session.run(feeds)
    session.run(feeds)
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run(feeds)


def test_the_short_way_keeps_the_order_of_inputs_and_outputs():
    net = Net(x=f32(n, 3), y=f32(n, 3), z=f32(n, 3))
    late, early = net.add("Sub", net.z, net.x), net.add("Neg", net.y)
    session = agrees(net.model(early, late), *({k: np.full((rows, 3), i, np.float32) for i, k in enumerate("xyz", 1)}
                                               for rows in (2, 5, 2, 5)))
    fed = {k: np.arange(6, dtype=np.float32).reshape(3, 2).T * i for i, k in enumerate("xyz", 1)}
    assert np.array_equal(list(session.run(fed).values())[1], fed["z"] - fed["x"])


def test_what_is_only_reshaped_at_the_end_is_computed_where_it_goes():
    """Also where another reads it, where it is given out in two shapes, and where it is given out itself."""
    for more in ("nothing", "a reader", "another shape", "itself"):
        net = Net(x=f32(n, 6))
        w = net.weight("w", np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32))
        made = net.add("MatMul", net.x, w)
        outputs = [net.add("Reshape", made, net.weight("shape", np.int64([-1, 3])))]
        if more == "a reader":
            outputs.append(net.add("Exp", made))
        elif more == "another shape":
            outputs.append(net.add("Reshape", made, net.weight("other", np.int64([2, -1]))))
        elif more == "itself":
            outputs.append(made)
        session = agrees(net.model(*outputs), {"x": np.ones((1, 6), np.float32)},
                         {"x": np.arange(24, dtype=np.float32).reshape(4, 6) / 9})
        steps = session._main.variants[0].programs[0].steps
        assert not fallbacks(session) and len(steps) == 1 + (more != "nothing")


def test_results_that_are_known_given_twice_or_only_handed_on_go_the_short_way():
    net = Net(x=f32(n, 3))
    y = net.add("Exp", net.x)
    same = net.add("Identity", y)
    session = agrees(net.model(net.add("Shape", net.x), y, same, net.add("Identity", net.x)),
                     {"x": np.ones((2, 3), np.float32)}, {"x": np.zeros((5, 3), np.float32)})
    for k in (4, 4, 4):
        feeds = {"x": np.full((k, 3), 2, np.float32)}
        got = list(session.run(feeds).values())
        assert got[0].tolist() == [k, 3] and np.array_equal(got[1], got[2]) and np.array_equal(got[3], feeds["x"])
        assert not any(np.shares_memory(a, b) for i, a in enumerate(got) for b in (feeds["x"], *got[:i]))
    assert session._quick.direct.function(feeds) is not None


def test_numbers_taken_for_sizes_are_remembered_with_their_values():
    net = Net(x=f32(), count=TensorType(INT64, ()))
    y = net.add("Add", net.add("Range", net.weight("zero", np.int64(0)), net.count, net.weight("one", np.int64(1))),
                net.count)
    x = np.zeros((), np.float32)
    session = agrees(net.model(y), *({"x": x, "count": np.array(k)} for k in (3, 5, 3, 3, 0, 5, -2, 3)))
    assert session._quick.direct.function({"x": x, "count": np.array(3)}) is not None


def test_a_single_element_is_taken_between_dear_steps():
    net = Net(x=f32(n), at=TensorType(INT64, ()))
    y = net.add("Exp", net.add("Gather", net.add("Tanh", net.x), net.at))
    session = agrees(net.model(y), {"x": np.float32([1, 2, 3]), "at": np.array(-1)}, {"x": np.float32([1, 2]),
                                                                                    "at": np.array(0)})
    assert not fallbacks(session)
