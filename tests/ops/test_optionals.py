"""Optionals: there or not, against ONNX Runtime. onnx's own cases run in tests/suites."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import answers, inferred, onnxruntime, parsed, shapes

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir import Graph, Model, Node, SequenceType, TensorType
from gesher.ir.files import from_bytes

X = np.arange(3, dtype=np.float32)


def test_what_is_put_in_comes_out() -> None:
    text = """
        o (float[n] x) => (y, there) {
          maybe = Optional(x)
          y = OptionalGetElement(maybe)
          there = OptionalHasElement(maybe)
        }"""
    assert shapes(text) == ["float(n)", "bool()"]
    ours, theirs = answers(text, [X]), onnxruntime(text, [X])
    assert ours[0].tolist() == theirs[0].tolist() == X.tolist() and ours[1] == theirs[1] == np.True_


def test_an_optional_of_a_type_alone_is_empty() -> None:
    for kind in (TensorType(dtypes.FLOAT, (2,)), SequenceType(TensorType(dtypes.INT64))):
        graph = Graph("o")
        maybe = graph.append(Node("Optional", attributes={"type": kind}))
        there = graph.append(Node("OptionalHasElement", [maybe.output]))
        there.output.name = "there"
        graph.add_output(there.output)
        model = Model(graph, opsets={"": 18})
        assert str(infer(model)[maybe.output].type) == f"optional({kind})"
        assert Evaluator(model).run({})["there"] == np.False_


@pytest.mark.parametrize("thing", ["x", "s"])
def test_since_18_anything_may_be_asked(thing: str) -> None:
    text = f"""
        o (float[n] x) => (y, there, nothing) {{
          s = SequenceConstruct(x)
          y = OptionalGetElement({thing})
          there = OptionalHasElement({thing})
          nothing = OptionalHasElement()
        }}"""
    model, facts = inferred(text)
    y, there, nothing = (facts[o] for o in model.graph.outputs)
    assert str(y.type) == ("float(n)" if thing == "x" else "seq(float(n))")
    # What can be told before running is.
    assert there.value == np.True_ and nothing.value == np.False_
    got = answers(text, [X])
    assert got[1] == np.True_ and got[2] == np.False_


def test_before_18_only_optionals_may_be_asked() -> None:
    text = "o (float[n] x) => (y) { y = OptionalGetElement(x) }"
    found = infer(from_bytes(parsed(text, 17).SerializeToString())).findings.errors
    assert found and "not an optional" in found[0].message


def test_nothing_cannot_be_taken_out_of_an_empty_optional() -> None:
    text = "o (optional(float[n]) x) => (y) { y = OptionalGetElement(x) }"
    assert answers(text, [X])[0].tolist() == X.tolist()
    with pytest.raises(RunError, match="the optional is empty"):
        answers(text, [None])


def test_an_optional_that_must_be_asked_is_not_told_before() -> None:
    model, facts = inferred("o (optional(float[n]) x) => (there) { there = OptionalHasElement(x) }")
    assert facts[model.graph.outputs[0]].value is None
