"""What patterns match, and what they bind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT, FLOAT16
from gesher.ir import Node
from gesher.ops.build import Builder
from gesher.rewriter import ANY, Rule, Work, attr, either, maybe, one_of, op


def matched(b: Builder, y: Any, rule: Rule) -> Any:
    """What a rule says at the node that makes `y`."""
    b.output(y, "result")
    work = Work(b.model())
    node = work.model.graph.outputs[-1].producer
    assert node is not None
    work.at = node
    return rule.apply(work, node)


def finding(find: Any, when: Any = None) -> Rule:
    """A rule that answers with its first variable, made anew so that something changes."""
    return Rule("test", find=find, make=lambda x: op.Neg(x), when=when)


@pytest.fixture
def b() -> Builder:
    return Builder({"": 21})


def floats(b: Builder, name: str, *shape: int | str) -> Any:
    return b.input(name, FLOAT, shape)


def test_sums_and_products_match_in_every_order(b: Builder) -> None:
    x = floats(b, "x", "n")
    rule = finding(lambda x: (op.Exp(x) + 1.0) * op.Sin(x))
    assert matched(b, b.Mul(b.Sin(x), b.Add(1.0, b.Exp(x))), rule)


def test_quotients_do_not(b: Builder) -> None:
    x = floats(b, "x", "n")
    assert matched(b, b.Div(1.0, b.Exp(x)), finding(lambda x: op.Exp(x) / 1.0)) == ""


def test_the_other_order_is_tried_where_the_condition_refuses_the_first(b: Builder) -> None:
    x = floats(b, "x", "n")
    rule = finding(lambda x, c: x * c, when=lambda c: c.is_constant or "no constant")
    assert isinstance(matched(b, b.Mul(2.0, x), rule), dict)


def test_a_variable_that_stands_twice_is_one_value_or_equal_constants(b: Builder) -> None:
    x = floats(b, "x", "n")
    rule = finding(lambda x, c: op.Exp(x + c) * op.Sin(x + c))
    first, second = (b.constant(np.float32([1]), name) for name in ("one", "two"))
    assert matched(b, b.Mul(b.Exp(b.Add(x, first)), b.Sin(b.Add(x, second))), rule)
    b2 = Builder(21)
    x, y = floats(b2, "x", "n"), floats(b2, "y", "n")
    assert matched(b2, b2.Mul(b2.Exp(b2.Add(x, 1.0)), b2.Sin(b2.Add(y, 1.0))), rule) == ""


@pytest.mark.parametrize(("dtype", "number", "near"), [
    (FLOAT, 1.4142135, True), (FLOAT, 1.41421, False), (FLOAT16, 1.4142135, True), (FLOAT16, 1.42, False)])
def test_numbers_match_within_the_roundings_of_their_type(b: Builder, dtype: Any, number: float, near: bool) -> None:
    x = b.input("x", dtype, ("n",))
    assert bool(matched(b, b.Div(x, number), finding(lambda x: x / 1.4142135623730951))) is near


def test_attributes_that_are_not_spoken_of_have_their_default(b: Builder) -> None:
    x = floats(b, "x", "n", 4)
    assert matched(b, b.Softmax(x, axis=-1), finding(lambda x: op.Softmax(x)))


def _softmax(axis: int) -> tuple[Builder, Any]:
    b = Builder(21)
    return b, b.Softmax(floats(b, "x", "n", 4), axis=axis)


def test_attributes_may_be_of_any_value_or_asked_for() -> None:
    assert matched(*_softmax(0), finding(lambda x: op.Softmax(x))) == ""
    assert matched(*_softmax(0), finding(lambda x: op.Softmax(x, axis=ANY)))
    assert matched(*_softmax(0), finding(lambda x: op.Softmax(x, axis=lambda a: a == 0)))
    seen: list[int] = []
    rule = finding(lambda x: op.Softmax(x, axis=attr("axis")), when=lambda axis: seen.append(axis) or True)
    assert matched(*_softmax(0), rule) and seen == [0]


def test_alternatives_and_what_may_be_missing() -> None:
    rule = finding(lambda x: op.Exp(maybe(op.Cast, either(op.Relu(x), op.Abs(x)), to=ANY)))
    for inner in ("Relu", "Abs"):
        for cast in (False, True):
            b = Builder(21)
            v = b.op(inner, floats(b, "x", "n"))
            assert matched(b, b.Exp(b.Cast(v, to=FLOAT) if cast else v), rule)
    b = Builder(21)
    assert matched(b, b.Exp(b.Neg(floats(b, "x", "n"))), rule) == ""


def test_one_of_several_operators_and_the_node_itself(b: Builder) -> None:
    seen: list[Node] = []
    rule = finding(lambda x: one_of("Sin", "Cos")(x).named("wave"), when=lambda wave: seen.append(wave) or True)
    assert matched(b, b.Cos(floats(b, "x", "n")), rule)
    assert [n.op_type for n in seen] == ["Cos"]


def test_the_rest_of_the_inputs(b: Builder) -> None:
    xs = [floats(b, name, "n") for name in "xyz"]
    seen: list[int] = []
    rule = finding(lambda x, *rest: op.Concat(x, *rest, axis=ANY), when=lambda rest: seen.append(len(rest)) or True)
    assert matched(b, b.Concat(*xs, axis=0), rule) and seen == [2]


def test_left_out_inputs_and_further_ones(b: Builder) -> None:
    x = floats(b, "x", "n")
    low = finding(lambda x: op.Clip(x, 0.0, None))
    assert matched(b, b.Clip(x, 0.0), low)
    b = Builder(21)
    assert matched(b, b.Clip(floats(b, "x", "n"), 0.0, 6.0), low) == ""
    b = Builder(21)
    assert matched(b, b.Clip(floats(b, "x", "n"), 0.0, 6.0), finding(lambda x: op.Clip(x, 0.0, ...)))


def test_an_inner_value_that_others_read_is_refused_with_its_name(b: Builder) -> None:
    e = b.op("Exp", floats(b, "x", "n"), name="inner")
    b.output(b.Neg(e), "other")
    assert "'inner' is read elsewhere" in matched(b, b.Sin(e), finding(lambda x: op.Sin(op.Exp(x))))


def test_older_meanings_are_not_matched() -> None:
    b = Builder({"": 11})
    assert matched(b, b.Softmax(floats(b, "x", "n", 4), axis=-1), finding(lambda x: op.Softmax(x, axis=ANY))) == ""
