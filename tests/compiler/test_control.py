"""If, Loop and Scan inside a segment: every way to end, to gather and to hand on, against the reference rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import BOOL, FLOAT, INT64
from gesher.base.errors import RunError
from gesher.compiler import toolchain
from gesher.compiler.session import CompiledSession, Options
from gesher.evaluator import Evaluator
from gesher.ir import Model, Value
from gesher.ops.build import Builder

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def holds(model: Model, *feeds: dict[str, Any], lowered: bool = True) -> CompiledSession:
    """Hold a model to its reference rules, each set of feeds twice; whether all of it is one segment."""
    session, truth = CompiledSession(model, Options(threads=1)), Evaluator(model)
    for fed in feeds:
        want = truth.run(fed)
        for _ in range(2):
            got = session.run(fed)
            for name, y in want.items():
                assert got[name].dtype == y.dtype and got[name].shape == y.shape, name
                np.testing.assert_allclose(got[name], y, rtol=1e-5, atol=1e-6, err_msg=name)
    assert ("0 by reference rules" in session.explain().splitlines()[0]) is lowered, session.explain()
    return session


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def looped(turn: Callable[[Builder, Value, Value, list[Value]], tuple[Value, list[Value], list[Value]]],
           carried: list[tuple[str, Any, tuple[Any, ...]]], count: Any = "M", cond: Any = "cond") -> Model:
    """A model of one Loop whose carried values are inputs; `turn(b, i, going, held)` gives (going, held on, items).
    `count` and `cond` are names of inputs, constants, or None."""
    b = Builder({"": 21}, "looped")

    def given(x: Any, dtype: Any) -> Value | None:
        return b.input(x, dtype, []) if isinstance(x, str) else None if x is None else b.constant(
            np.array(x, dtype.numpy))

    start = [b.input(name, dtype, shape) for name, dtype, shape in carried]
    g = b.subgraph("turn", [("i", INT64, []), ("going", BOOL, []), *((f"{n} held", t, s) for n, t, s in carried)])
    i, going, *held = g.graph.inputs
    again, on, items = turn(g, i, going, held)
    for v in (again, *on, *items):
        g.output(v)
    made = b.op("Loop", given(count, INT64), given(cond, BOOL), *start, body=g, outputs=len(on) + len(items))
    for k, v in enumerate(made if isinstance(made, (list, tuple)) else [made]):
        b.output(v, f"y{k}")
    return b.model()


def add_and_halve(g: Builder, i: Value, going: Value, held: list[Value]) -> tuple[Value, list[Value], list[Value]]:
    """Ends when the sum is large; the second value is handed on as it came."""
    x, w = held
    x = g.Mul(g.Add(g.MatMul(x, w), g.Cast(i, to=FLOAT.code)), g.constant(np.float32(0.5)))
    return g.Less(g.ReduceSum(x, keepdims=0), g.constant(np.float32(30))), [x, w], []


def fed(rows: int, **more: Any) -> dict[str, Any]:
    return {"x": np.abs(numbers(rows, 4)), "w": np.abs(numbers(4, 4)), **{k: np.array(v) for k, v in more.items()}}


PAIR = [("x", FLOAT, ("rows", 4)), ("w", FLOAT, (4, 4))]


def test_a_condition_ends_a_loop():
    model = looped(add_and_halve, PAIR)
    holds(model, *(fed(rows, M=m, cond=c) for rows, m, c in ((3, 20, True), (3, 4, True), (1, 1, True), (2, 0, True),
                                                             (2, 9, False), (2, -3, True), (0, 5, True))))


def test_without_a_count_the_condition_alone_ends_a_loop():
    holds(looped(add_and_halve, PAIR, None, True), fed(3), fed(1))
    holds(looped(add_and_halve, PAIR, None, "cond"), fed(3, cond=True), fed(3, cond=False))


def test_without_a_condition_what_the_body_says_of_it_does_not_count():
    def turn(g, i, going, held):
        _, on, _ = add_and_halve(g, i, going, held)
        return g.constant(np.array(False)), on, [g.ReduceMax(on[0], keepdims=0), i]

    holds(looped(turn, PAIR, "M", None), fed(3, M=6), fed(3, M=0), fed(2, M=-1), fed(3, M=1))


@pytest.mark.parametrize("says", ["what it was told", "true"])
def test_items_are_gathered_where_nothing_but_the_count_ends_the_loop(says):
    def turn(g, i, going, held):
        _, on, _ = add_and_halve(g, i, going, held)
        return going if says == "what it was told" else g.constant(np.array(True)), on, [on[0], g.Mul(i, i)]

    holds(looped(turn, PAIR, "M", True), fed(3, M=6), fed(1, M=1))
    holds(looped(turn, [("x", FLOAT, (3, 4)), PAIR[1]], "M", True), fed(3, M=2), fed(3, M=0))
    # Whether it begins is not known here, and so not how many items there are.
    holds(looped(turn, PAIR, "M", "cond"), fed(3, M=6, cond=True), fed(3, M=6, cond=False), lowered=False)


def test_what_changes_its_shape_stays_with_the_reference_rules():
    def turn(g, i, going, held):
        return going, [g.Concat(held[0], held[0], axis=0)], []

    holds(looped(turn, [("x", FLOAT, None)], "M", True), {"x": numbers(2, 3), "M": np.array(3)}, lowered=False)


def test_values_may_change_places():
    def turn(g, i, going, held):
        return going, [held[1], held[0]], [held[0]]

    feeds = {"a": numbers(3), "b": numbers(4)[:3] + 9}
    model = looped(turn, [("a", FLOAT, (3,)), ("b", FLOAT, (3,))], "M", True)
    holds(model, *({**feeds, "M": np.array(m)} for m in (0, 1, 2, 5)))


def test_loops_and_branches_inside_a_loop():
    def turn(g, i, going, held):
        inner = g.subgraph("inner", [("j", INT64, []), ("inner going", BOOL, []), ("z", FLOAT, (2, 3))])
        j, inner_going, z = inner.graph.inputs
        inner.output(inner_going)
        inner.output(inner.Add(inner.Mul(z, held[1]), inner.Cast(inner.Add(i, j), to=FLOAT.code)))
        x = g.op("Loop", g.constant(np.int64(3)), None, held[0], body=inner)
        then, other = g.subgraph("then"), g.subgraph("other")
        then.output(then.Neg(x))
        other.output(other.Add(other.Abs(x), other.Cast(i, to=FLOAT.code)))
        odd = g.Equal(g.Mod(i, g.constant(np.int64(2))), g.constant(np.int64(1)))
        x = g.op("If", odd, then_branch=then, else_branch=other)
        return going, [x, held[1]], [g.ReduceSum(x, keepdims=0)]

    model = looped(turn, [("x", FLOAT, (2, 3)), ("s", FLOAT, (3,))], "M", True)
    holds(model, *({"x": numbers(2, 3), "s": numbers(3) / 9, "M": np.array(m)} for m in (0, 1, 6)))


def test_an_index_that_no_turn_asks_for_is_no_error():
    """A step that is the same in all turns is not done before the first one, where it could fail."""
    def turn(g, i, going, held):
        taken = g.Gather(held[1], held[2])
        return going, [g.Add(held[0], taken), held[1], held[2]], []

    model = looped(turn, [("x", FLOAT, ()), ("table", FLOAT, (5,)), ("at", INT64, ())], "M", True)
    feeds = {"x": numbers(), "table": numbers(5)}
    session = holds(model, *({**feeds, "at": np.array(at), "M": np.array(m)} for at, m in ((4, 3), (9, 0))))
    with pytest.raises(RunError, match="outside"):
        session.run({**feeds, "at": np.array(9), "M": np.array(1)})


def test_what_a_turn_makes_for_itself_shares_memory_but_not_with_what_lasts():
    rng = np.random.default_rng(3)

    def turn(g, i, going, held):
        x = held[0]
        for k in range(4):
            x = g.Softmax(g.MatMul(x, g.constant(rng.standard_normal((16, 16)).astype(np.float32))), axis=k % 2)
        return going, [g.Add(g.Mul(x, held[1]), held[0]), held[1]], [g.Transpose(x, perm=[1, 0])]

    model = looped(turn, [("x", FLOAT, (16, 16)), ("s", FLOAT, (16, 1))], "M", True)
    holds(model, *({"x": numbers(16, 16), "s": numbers(16, 1), "M": np.array(m)} for m in (1, 2, 7)))


def test_a_loop_reads_what_other_loops_and_steps_made():
    def turn(g, i, going, held):
        return going, [g.Add(g.MatMul(held[0], held[1]), g.constant(np.float32(1))), held[1]], []

    b = Builder({"": 21}, "chain")
    x, m = b.input("x", FLOAT, ("rows", 3)), b.input("M", INT64, [])
    table = b.Softmax(b.input("w", FLOAT, (3, 3)), axis=-1)
    for n in range(2):
        g = b.subgraph(f"turn {n}", [("i", INT64, []), ("going", BOOL, []), ("held", FLOAT, ("rows", 3))])
        g.output(g.graph.inputs[1])
        # Captured: a step outside, and what the loop before gave.
        g.output(g.Add(g.Relu(g.MatMul(g.graph.inputs[2], table)), x))
        x = b.op("Loop", m, b.constant(np.array(True)), x, body=g)
    b.output(x, "y")
    holds(b.model(), *({"x": numbers(n, 3), "w": numbers(3, 3), "M": np.array(k)} for n, k in ((2, 3), (4, 0), (1, 1))))


@pytest.mark.parametrize("directions", [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("axes", [(0, 0), (1, 0), (-1, 1), (0, -1)])
def test_scans(axes, directions):
    b = Builder({"": 21}, "scan")
    shape = [2, 2]
    shape.insert(axes[0] % 3, 5)
    s, x, y = b.input("s", FLOAT, (2, 2)), b.input("x", FLOAT, shape), b.input("z", FLOAT, (5, 2))
    g = b.subgraph("turn", [("held", FLOAT, (2, 2)), ("row", FLOAT, (2, 2)), ("z row", FLOAT, (2,))])
    held, row, z_row = g.graph.inputs
    on = g.Add(g.Mul(held, z_row), row)
    g.output(on)
    g.output(g.ReduceSum(on, g.constant(np.int64([0])), keepdims=0))
    g.output(g.Neg(row))
    made = b.op("Scan", s, x, y, body=g, outputs=3, num_scan_inputs=2, scan_input_axes=[axes[0], 0],
                scan_input_directions=[directions[0], 1], scan_output_axes=[axes[1], axes[1]],
                scan_output_directions=[directions[1], 0])
    for k, v in enumerate(made):
        b.output(v, f"y{k}")
    holds(b.model(), {"s": numbers(2, 2), "x": numbers(*shape), "z": numbers(5, 2)})


def test_a_scan_of_any_length():
    b = Builder({"": 21}, "scan")
    s, x = b.input("s", FLOAT, (3,)), b.input("x", FLOAT, ("n", 3))
    g = b.subgraph("turn", [("held", FLOAT, (3,)), ("row", FLOAT, (3,))])
    on = g.Tanh(g.Add(*g.graph.inputs))
    g.output(on)
    g.output(on)
    for k, v in enumerate(b.op("Scan", s, x, body=g, outputs=2, num_scan_inputs=1)):
        b.output(v, f"y{k}")
    holds(b.model(), *({"s": numbers(3), "x": numbers(n, 3)} for n in (1, 5, 0)))


def test_branches_of_one_shape():
    b = Builder({"": 21}, "branches")
    x, w = b.input("x", FLOAT, ("rows", 4)), b.constant(numbers(4, 4))
    large = b.Greater(b.ReduceSum(x, keepdims=0), b.constant(np.float32(0)))
    then, other = b.subgraph("then"), b.subgraph("other")
    then.output(then.Relu(then.MatMul(x, w)))
    then.output(then.ReduceMax(x, keepdims=0))
    other.output(other.Exp(x))
    other.output(other.constant(np.float32(7)))
    for k, v in enumerate(b.op("If", large, then_branch=then, else_branch=other, outputs=2)):
        b.output(v, f"y{k}")
    holds(b.model(), {"x": np.abs(numbers(3, 4))}, {"x": -np.abs(numbers(3, 4))}, {"x": numbers(1, 4) * np.nan})


def test_branches_of_different_shapes_stay_with_the_reference_rule():
    b = Builder({"": 21}, "branches")
    x = b.input("x", FLOAT, (2, 4))
    then, other = b.subgraph("then"), b.subgraph("other")
    then.output(then.Neg(x))
    other.output(other.ReduceSum(x, other.constant(np.int64([0])), keepdims=1))
    b.output(b.op("If", b.Greater(b.ReduceSum(x, keepdims=0), b.constant(np.float32(0))), then_branch=then,
                  else_branch=other), "y")
    holds(b.model(), {"x": np.abs(numbers(2, 4))}, {"x": -np.abs(numbers(2, 4))}, lowered=False)


def test_an_arm_that_is_not_taken_does_not_fail():
    b = Builder({"": 21}, "arms")
    x, at = b.input("x", FLOAT, (5,)), b.input("at", INT64, (3,))
    asked = b.Less(b.ReduceMax(b.Cast(at, to=FLOAT.code), keepdims=0), b.constant(np.float32(5)))
    then, other = b.subgraph("then"), b.subgraph("other")
    then.output(then.Gather(x, at))
    other.output(other.Cast(at, to=FLOAT.code))
    b.output(b.op("If", asked, then_branch=then, else_branch=other), "y")
    holds(b.model(), {"x": numbers(5), "at": np.int64([0, 4, 1])}, {"x": numbers(5), "at": np.int64([0, 9, 1])})


def test_two_threads_and_a_kept_session(tmp_path):
    def turn(g, i, going, held):
        x = g.Relu(g.MatMul(held[0], held[1]))
        return g.Less(g.ReduceMax(x, keepdims=0), g.constant(np.float32(1e6))), [x, held[1]], []

    path = tmp_path / "loop.onnx"
    model = looped(turn, [("x", FLOAT, (200, 64)), ("w", FLOAT, (64, 64))], "M", True)
    gesher.save(model, path)
    feeds = {"x": numbers(200, 64), "w": numbers(64, 64), "M": np.array(9)}
    want = Evaluator(model).run(feeds)["y0"]
    for _ in range(2):
        with gesher.session(path, threads=2) as session:
            np.testing.assert_allclose(session.run(feeds)["y0"], want, rtol=1e-3)
