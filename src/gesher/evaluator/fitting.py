"""Whether what reaches a node fits it: its inference rule is asked with the true types, shapes and small integers.

numpy broadcasts where ONNX does not: a scale of one number for a channel axis of three, a batch of one with a batch of
two. A reference rule alone would answer; the inference rule knows what the operator's text demands. It is asked once
for each set of shapes. What it says of the outputs is held against the budget before anything is made, and against what
the reference rule then gives, so that neither can be wrong alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import GesherError, ModelError, RunError
from gesher.ir import Node, SequenceType, SparseTensorType, TensorType
from gesher.ops import Fact
from gesher.ops.fit import types
from gesher.ops.rules import InferNode, allow
from gesher.ops.schema import Operator, Schema
from gesher.symbolic import Equalities

# Sets of shapes that are remembered for a node.
_REMEMBERED = 64
# Integers that steer a shape: axes, sizes, repeats.
_STEERING = 64

Told = tuple[tuple[int | None, ...] | None, ...]


class Fitting:
    """The question of one node, and the answers so far.

    Args:
        operator, schema: what the node means.
    """

    __slots__ = ("answers", "operator", "rule", "schema", "sparse", "steers", "unsure")

    def __init__(self, node: Node, operator: Operator, schema: Schema):
        self.operator, self.schema = operator, schema
        # Nested graphs are held node by node, when they run.
        self.rule = None if any(True for _ in node.subgraphs()) else operator.rule("infer", schema.version)
        # Inputs that can be nothing but integers say shapes; of others the numbers are data.
        allowed = [schema.allowed(schema.input(i).type) for i in range(len(node.inputs))] if schema.inputs else []
        self.steers = [a <= {"tensor(int64)", "tensor(int32)"} for a in allowed]
        # An optional that is there is fed as what it holds.
        self.unsure = [any(t.startswith("optional") for t in a) for a in allowed]
        # A sparse tensor reaches its reader as the dense one that it stands for.
        self.sparse = [bool(a) and all(t.startswith("sparse_tensor") for t in a) for a in allowed]
        self.answers: dict[Any, Told] = {}

    def hold(self, node: Node, inputs: Sequence[Any], budget: int, remember: bool) -> Told:
        """The shapes that the outputs must have, as far as they can be told.

        Args:
            node: as it is run, its attributes bound.
            budget: how many bytes an output may have.
            remember: whether the same node comes again with the same attributes.

        Raises:
            RunError: the inputs do not fit the operator or each other, or an output would be too large.
        """
        if self.rule is None:
            return ()
        key = tuple([self._key(i, x) for i, x in enumerate(inputs)])
        found = self.answers.get(key) if remember else None
        if found is None:
            found = self._asked(node, inputs, budget)
            if remember:
                if len(self.answers) >= _REMEMBERED:
                    self.answers.clear()
                self.answers[key] = found
        return found

    def _key(self, index: int, x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return None if x is None else type(x)
        if self._is_steering(index, x):
            return x.dtype, x.shape, x.tobytes()
        return x.dtype, x.shape

    def _is_steering(self, index: int, x: Any) -> bool:
        return index < len(self.steers) and self.steers[index] and x.size <= _STEERING and x.dtype.kind == "i"

    def _asked(self, node: Node, inputs: Sequence[Any], budget: int) -> Told:
        assert self.rule is not None
        facts = [None if x is None and i < len(node.inputs) and node.inputs[i] is None else self._fact(i, x)
                 for i, x in enumerate(inputs)]
        misfit = next(types(node, self.schema, [None if f is None else f.type for f in facts]), None)
        if misfit is not None:
            raise RunError(misfit.message, advice=misfit.advice)
        try:
            seen = InferNode(node, self.operator, self.schema, facts, Equalities())
            self.rule.function(seen)
        except ModelError as e:
            advice = "\n  ".join(a for a in (told_of(inputs), e.advice) if a)
            raise RunError(e.what, place=e.place, advice=advice) from e
        except GesherError:
            raise
        except Exception as e:
            raise RunError(f"{node.op_type}: its inference rule failed: {type(e).__name__}: {e}",
                           advice="if the model is right, this is a fault in gesher") from e
        for f in seen.outputs:
            if f is not None and isinstance(f.type, TensorType) and f.shape is not None:
                allow(node, [d for d in f.shape if isinstance(d, int)], f.dtype.numpy if f.dtype.code else np.uint8,
                      budget)
        return tuple(None if f is None or f.shape is None else
                     tuple(d if isinstance(d, int) else None for d in f.shape) for f in seen.outputs)

    def _fact(self, index: int, x: Any) -> Fact:
        if index < len(self.unsure) and self.unsure[index]:
            return Fact(None, why="it may be an optional")
        if isinstance(x, np.ndarray):
            if index < len(self.sparse) and self.sparse[index]:
                return Fact(SparseTensorType(dtypes.from_numpy(x.dtype), x.shape))
            return Fact(TensorType(dtypes.from_numpy(x.dtype), x.shape), x if self._is_steering(index, x) else None)
        if isinstance(x, list) and x and all(isinstance(y, np.ndarray) for y in x):
            same = {y.shape for y in x}
            return Fact(SequenceType(TensorType(dtypes.from_numpy(x[0].dtype), same.pop() if len(same) == 1 else None)))
        return Fact(None, why="it is no tensor")


def hold_results(told: Told, results: Sequence[Any], op_type: str) -> None:
    """Hold what the reference rule gave to what the inference rule said.

    Raises:
        RunError: they contradict each other, so one of them is wrong.
    """
    for want, got in zip(told, results):
        if want is None or not isinstance(got, np.ndarray):
            continue
        if len(want) != got.ndim or any(d is not None and d != n for d, n in zip(want, got.shape)):
            shown = ",".join("?" if d is None else str(d) for d in want)
            raise RunError(f"the reference rule of {op_type} gives the shape {list(got.shape)}, its inference rule "
                           f"says ({shown})", advice="this is a fault in gesher")


def told_of(inputs: Sequence[Any]) -> str:
    """What a node was fed, for people."""
    return f"its inputs are {', '.join(_told(x) for x in inputs) or 'none'}"


def _told(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{list(x.shape)}"
    if isinstance(x, list):
        return f"a sequence of {len(x)}"
    return "nothing" if x is None else f"a {type(x).__name__}"
