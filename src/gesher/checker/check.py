"""`check`: all checks over one model, one after another, so that one answer holds everything."""

from __future__ import annotations

from collections.abc import Callable

from gesher.base.errors import GesherError, ModelError
from gesher.base.report import Report
from gesher.inference import infer
from gesher.ir import Model

from . import (
    attributes,
    constants,
    functions,
    metadata,
    names,
    operators,
    structure,
    subgraphs,
    tensors,
    types,
    versions,
    weights,
)
from .context import Context
from .rules import RULES

# In the order of a reader's interest: what the file is, what it is made of, whether that fits together.
_CHECKS: tuple[Callable[[Context], None], ...] = (
    versions.check, metadata.check, structure.check, functions.check, operators.check, attributes.check,
    subgraphs.check, tensors.check, types.check, constants.check, weights.check, names.check,
)

# What inference says of a node that another check says too, and better.
_SAID_ELSEWHERE = frozenset((
    "operator-unknown", "operator-version", "opset-import", "input-count", "output-count", "input-missing",
    "attribute-unknown", "attribute-missing", "attribute-kind", "function-arity", "function-recursion",
    "undefined-value", "node-order", "tensor-data", "tensor-dims",
))


def check(model: Model, *, strict: bool = False, weights: bool | None = None) -> Report:
    """Everything that is wrong with `model`, and what is odd about it. The model is not changed.

    A report is `ok` where no finding is an error. See `RULES` for what a model is held to.

    Args:
        strict: hold names to what ONNX's text asks of them, which few exporters do.
        weights: look at the numbers of all weights (True), of none (False), or of the smallest, 16 MiB together (None).
            All of them are read once, in pieces, so that memory stays small however large they are.

    >>> from gesher.ir import Graph, Model, Node, Value
    >>> graph = Graph("main", nodes=[Node("Relu", [Value("x")], [Value("y")])])
    >>> [f.rule for f in check(Model(graph, opsets={"": 21}, ir_version=10)).errors]
    ['no-outputs', 'undefined-value']
    """
    context = Context(model, strict=strict, weights=weights)
    _infer(context)
    for one in _CHECKS:
        one(context)
    _sayings_of_inference(context)
    return context.report


def _infer(context: Context) -> None:
    try:
        context.facts = infer(context.model)
    except GesherError as e:
        # The whole of inference gave up: functions that call themselves, mostly, which has a check of its own.
        rule = e.rule if isinstance(e, ModelError) else ""
        if rule not in _SAID_ELSEWHERE:
            context.say_error("inference-rule", e, e.place)


def _sayings_of_inference(context: Context) -> None:
    if context.facts is None:
        return
    for f in context.facts.findings:
        if f.rule in _SAID_ELSEWHERE:
            continue
        rule = f.rule if f.rule in RULES else "shape-inference"
        context.say(rule, f.message, f.place, f.advice)


