"""Operators that mean what another one means: rules lent from one to the other, and axes moved before and after.

Other domains repeat ONNX's operators under old names, with types of their own, or with the channels last. Their rules
are those of the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gesher.ir import TensorType

from .fact import Fact
from .rules import InferNode
from .schema import Operator, RuleKind

ALL_RULES: tuple[RuleKind, ...] = ("infer", "reference", "lower")


def rule_of(source: Operator, kind: RuleKind, version: int) -> Callable[..., Any]:
    """The rule that `source` has at a version; it must have one."""
    rule = source.rule(kind, version)
    assert rule is not None, f"{source} has no {kind} rule at {version}"
    return rule.function


def borrow(to: Operator, source: Operator, version: int, kinds: Sequence[RuleKind] = ALL_RULES) -> None:
    """Give an operator the rules that another has at a version."""
    for kind in kinds:
        getattr(to, kind)(rule_of(source, kind, version))


def channels_first(rank: int) -> tuple[int, ...]:
    """The permutation from (N,*,C) to (N,C,*)."""
    return (0, rank - 1, *range(1, rank - 1))


def channels_last(rank: int) -> tuple[int, ...]:
    """The permutation from (N,C,*) to (N,*,C)."""
    return (0, *range(2, rank), 1)


def infer_channels_last(node: InferNode, rule: Callable[[InferNode], None], *moved: int) -> None:
    """Run an inference rule for (N,C,*) where the inputs at `moved`, and output 0, have their channels last."""
    facts = [_moved(f, channels_first) if i in moved else f for i, f in enumerate(node.inputs)]
    seen = InferNode(node.node, node.operator, node.schema, facts, node.equalities, node.infer_body)
    rule(seen)
    node.outputs = [_moved(f, channels_last) if i == 0 else f for i, f in enumerate(seen.outputs)]


def _moved(fact: Fact | None, order: Callable[[int], tuple[int, ...]]) -> Fact | None:
    if fact is None or fact.shape is None or len(fact.shape) < 3:
        return fact
    return Fact(TensorType(fact.dtype, tuple(fact.shape[i] for i in order(len(fact.shape)))), why=fact.why)
