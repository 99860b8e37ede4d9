"""Small models, written in ONNX's text syntax, for what needs more than one node: chains of sizes, graphs in graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.parser
from tests.ops.single_node import session

from gesher.evaluator import Evaluator
from gesher.inference import Facts, infer
from gesher.ir import Model
from gesher.ir.files import from_bytes


def parsed(text: str, opset: int = 21) -> onnx.ModelProto:
    """A model from the text of its main graph; `text` may hold functions behind it."""
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')


def inferred(text: str, opset: int = 21, **options: Any) -> tuple[Model, Facts]:
    """The model, and what inference finds of it; any contradiction is an error."""
    model = from_bytes(parsed(text, opset).SerializeToString())
    facts = infer(model, **options)
    assert not facts.findings.errors, str(facts.findings)
    return model, facts


def shapes(text: str, opset: int = 21, **options: Any) -> list[str]:
    """The inferred types of the outputs, as text; what nobody knows is a `?` without its number."""
    import re

    model, facts = inferred(text, opset, **options)
    return [re.sub(r"\?\d+", "?", str(facts[o].type)) for o in model.graph.outputs]


def answers(text: str, feeds: Sequence[Any], opset: int = 21) -> list[Any]:
    """What the evaluator gives for the inputs in their order; inference must agree with it."""
    model, facts = inferred(text, opset)
    named = {v.name: np.asarray(x) if not isinstance(x, list) and x is not None else x
             for v, x in zip(model.graph.inputs, feeds)}
    results = Evaluator(model).run(named)
    for value in model.graph.outputs:
        got, fact = results[value.name], facts[value]
        if isinstance(got, np.ndarray) and fact.shape is not None:
            assert len(fact.shape) == got.ndim, f"{value.name}: {fact} for {got.shape}"
            assert all(d == n for d, n in zip(fact.shape, got.shape) if isinstance(d, int)), f"{fact} for {got.shape}"
    return list(results.values())


def onnxruntime(text: str, feeds: Sequence[Any], opset: int = 21) -> list[Any]:
    """What ONNX Runtime gives."""
    model = parsed(text, opset)
    return session(model.SerializeToString()).run(None, {v.name: x for v, x in zip(model.graph.input, feeds)})
