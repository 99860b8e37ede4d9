"""The driver: a fixed point in near-linear time, no rule trusted, everything undone, named and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gesher.base.dtypes import BOOL, FLOAT, INT64
from gesher.base.errors import GesherError
from gesher.evaluator import Evaluator
from gesher.ir import Model, Node
from gesher.ops.build import Builder
from gesher.optimizer import FOR_COMPILER, for_compiler
from gesher.rewriter import Pass, Pipeline, Rule, Work, op, rule
from gesher.rewriter.film import listing
from gesher.rewriter.verify import verify

MUL_BY_ONE = Rule("mul_by_one", find=lambda x, c: x * c, make=lambda x: x, when=lambda c: c.is_scalar(1), shared=True)


def chain(n: int) -> Model:
    """x * 1 * 1 ... + 1."""
    b = Builder({"": 21})
    y = b.input("x", FLOAT, ("n", 3))
    for _ in range(n):
        y = b.Mul(y, 1.0)
    b.output(b.Add(y, 1.0), "y")
    return b.model()


@pytest.mark.parametrize("backwards", [False, True])
def test_time_is_linear_in_nodes(backwards: bool) -> None:
    """Each rewrite makes one more possible behind it, or in front of it: the worst that chains can do."""
    tries = 0

    @rule("count", "Mul", "Neg", reach=2)
    def count(work: Work, node: Node) -> Any:
        nonlocal tries
        tries += 1
        if not backwards:
            return node.inputs[0]
        user = work.only_user(node.output)
        return node.inputs[0] if user is not None and user.op_type == "Add" else None

    work = Work(chain(20_000))
    assert Pass("chain", [count]).run(work) == 20_000
    assert len(work.model.graph) == 1
    assert tries <= 20_000 * 6


def test_a_fixed_point_is_reached_and_named() -> None:
    work = Work(chain(5))
    assert Pipeline("test", [Pass("p", [MUL_BY_ONE])]).run(work) == 5
    assert work.fired == {"mul_by_one": 5}
    assert {s.rule for s in work.edit.steps} == {"mul_by_one"}


def test_everything_can_be_taken_back() -> None:
    model = network()
    before = listing(model)
    work = Work(model)
    FOR_COMPILER.run(work)
    assert listing(model) != before
    work.edit.undo()
    assert listing(model) == before
    verify(work, "after undoing")


def network() -> Model:
    """Two layers with a norm, spelled out in opset 13."""
    rng = np.random.default_rng(0)
    b = Builder({"": 13})
    x = b.input("x", FLOAT, ("batch", "n", 8))
    for _ in range(2):
        d = b.Sub(x, b.ReduceMean(x, axes=[-1]))
        n = b.Div(d, b.Sqrt(b.Add(b.ReduceMean(b.Mul(d, d), axes=[-1]), 1e-5)))
        h = b.MatMul(b.Mul(n, 0.5), rng.standard_normal((8, 16)).astype(np.float32))
        h = b.Mul(b.Mul(h, 0.5), b.Add(b.Erf(b.Div(h, 1.4142135)), 1.0))
        x = b.Add(x, b.MatMul(h, rng.standard_normal((16, 8)).astype(np.float32)))
    b.output(x, "y")
    return b.model()


def test_optimising_stops_after_so_many_rewrites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESHER_STOP", "3")
    work = Work(network())
    FOR_COMPILER.run(work)
    assert work.rewrites == 3
    verify(work, "after three")


def test_debug_tells_passes_rules_and_reasons(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                              ) -> None:
    monkeypatch.setenv("GESHER_DEBUG", "5")
    FOR_COMPILER.run(Work(network()))
    told = capsys.readouterr().err
    assert "pass wholes: " in told and "  layer_norm at node" in told
    assert "  gelu at node" in told and "mul_by_one not at node" in told
    assert "= Gelu(" in told and "\n-" in told and "\n+" in told
    assert "nodes became" in told


def test_a_rule_that_changes_a_shape_is_taken_back() -> None:
    b = Builder({"": 21})
    x = b.input("x", FLOAT, ("n",))
    b.output(b.Neg(b.Mul(x, np.ones((1, 1), np.float32))), "y")
    work = Work(b.model())
    before = listing(work.model)
    assert Pass("p", [MUL_BY_ONE]).run(work) == 0
    assert listing(work.model) == before
    verify(work, "after taking back")


def test_a_rule_that_changes_numbers_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESHER_VERIFY", "4")
    wrong = Rule("sin_is_cos", find=lambda x: op.Sin(x), make=lambda x: op.Cos(x))
    b = Builder({"": 21})
    b.output(b.Neg(b.Sin(b.input("x", FLOAT, ("n",)))), "y")
    with pytest.raises(GesherError, match="sin_is_cos"):
        Pipeline("test", [Pass("p", [wrong])]).run(Work(b.model()))


def test_a_rule_that_makes_what_does_not_fit_changes_nothing() -> None:
    misfit = Rule("misfit", find=lambda x: op.Sin(x), make=lambda x: op.MatMul(x, np.ones((5, 5), np.float32)))
    b = Builder({"": 21})
    b.output(b.Sin(b.input("x", FLOAT, ("n", 3))), "y")
    work = Work(b.model())
    assert Pass("p", [misfit]).run(work) == 0
    verify(work, "after a misfit")
    assert not work.model.graph.initializers


def test_rules_that_undo_each_other_are_stopped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Rule("there", find=lambda x: op.Neg(op.Sin(x)), make=lambda x: op.Sin(op.Neg(x)))
    back = Rule("back", find=lambda x: op.Sin(op.Neg(x)), make=lambda x: op.Neg(op.Sin(x)))
    monkeypatch.setenv("GESHER_VERIFY", "1")
    b = Builder({"": 21})
    b.output(b.Exp(b.Neg(b.Sin(b.input("x", FLOAT, ("n",))))), "y")
    with pytest.raises(GesherError, match="in a circle"):
        Pipeline("test", [Pass("p", [there, back])]).run(Work(b.model()))


def test_outputs_keep_their_names() -> None:
    b = Builder({"": 21})
    x = b.input("x", FLOAT, ("n",))
    twice = b.Mul(b.Mul(x, 2.0), 1.0)
    for name in ("first", "second"):
        b.output(b.Identity(twice), name)
    b.output(b.Mul(x, 1.0), "passed")
    whole = for_compiler(b.model())
    assert [v.name for v in whole.model.graph.outputs] == ["first", "second", "passed"]
    got = Evaluator(whole.model, opsets=whole.opsets).run({"x": np.float32([1, 2])})
    assert {k: v.tolist() for k, v in got.items()} == {"first": [2, 4], "second": [2, 4], "passed": [1, 2]}


def test_the_model_itself_is_not_touched() -> None:
    model = network()
    before = listing(model)
    for_compiler(model)
    assert listing(model) == before


def test_bodies_of_loops_are_rewritten_for_every_turn() -> None:
    """What grows from turn to turn has no size that a rule may take for granted."""
    b = Builder({"": 17})
    x, turns = b.input("x", FLOAT, ("n", 2)), b.input("turns", INT64, ())
    body = b.subgraph("body", [("i", INT64, ()), ("go", BOOL, ()), ("grown", FLOAT, (None, 2))])
    grown = body.graph.inputs[2]
    flat = body.Reshape(grown, body.Concat([-1], [2], axis=0))
    more = body.Concat(body.Mul(flat, 1.0), body.Mul(body.Mul(x, 2.0), 3.0), axis=0)
    body.output(body.Identity(body.graph.inputs[1]), "go_on")
    body.output(more, "more")
    body.output(body.ReduceMax(more, axes=[0, 1], keepdims=0), "largest")
    grown_last, largest = b.op("Loop", turns, None, x, outputs=2, body=body)
    b.output(grown_last, "y")
    b.output(largest, "z")
    model = b.model()
    whole = for_compiler(model)
    inner = [n.op_type for g in whole.model.graphs() if g is not whole.model.graph for n in g.nodes]
    assert inner.count("Mul") == 1
    after = Evaluator(whole.model, opsets=whole.opsets)
    for n in (0, 1, 4):
        feeds = {"x": np.float32([[1, -2], [3, 4]]), "turns": np.int64(n)}
        for name, want in Evaluator(model).run(feeds).items():
            np.testing.assert_array_equal(after.run(feeds)[name], want)


def test_functions_are_put_in_place_and_rewritten() -> None:
    from tests.rewriter.test_inline import calling, old_softmax

    from gesher.ir import Graph, TensorType
    from gesher.symbolic import sym

    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (sym("n"), 3, 4)))
    graph.append(call := calling("Old", x))
    graph.add_output(call.output)
    model = Model(graph, opsets={"": 21, "my": 1}, functions=[old_softmax()], ir_version=10)
    whole = for_compiler(model)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)}
    (want,), (got,) = (list(e.run(feeds).values()) for e in (
        Evaluator(model), Evaluator(whole.model, opsets=whole.opsets)))
    np.testing.assert_allclose(got, want)
