"""Known values that no inference rule carries on: the reference rule is run on them while inferring.

Shapes hang on small integers that pass through many operators (Shape, Gather, Mul, Floor, Cast, Concat, Reshape). Where
all numbers of a node are known and few, running it is exact, and every operator's reference rule is there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn

import numpy as np

from gesher.base.errors import GesherError
from gesher.ir import Graph, Node, Shape, TensorType
from gesher.ops import Fact, Run, run_node
from gesher.ops.fact import VALUE_LIMIT
from gesher.ops.schema import Operator, Schema

# Operators whose answer is another one each time. Dropout is one only in training, which is looked at below.
_RANDOM = frozenset(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                     "RandomUniformLike"))
# A product of two 64 by 64 matrices is folded, the weights of a network are not.
_BYTES = 1 << 20


class Folder:
    """Runs nodes on known numbers, within a budget of elements for the whole model."""

    def __init__(self, budget: int = 50_000_000):
        self.left = budget

    def fold(self, node: Node, operator: Operator, schema: Schema, inputs: Sequence[Fact | None],
             outputs: list[Fact | None]) -> str | None:
        """Give `outputs` their values where they can be known; the answer says why running failed, if it did."""
        if not inputs or operator.domain or not _worthwhile(outputs):
            return None
        arrays: list[Any] = []
        for value, fact in zip(node.inputs, inputs):
            if value is None:
                arrays.append(None)
                continue
            number = fact.numbers() if fact is not None and _small(fact) else None
            if number is None:
                return None
            arrays.append(number)
        if not deterministic(node, schema, arrays):
            return None
        size = sum(prod(int(d) for d in f.shape if isinstance(d, int))
                   for f in outputs if f is not None and f.shape is not None)
        if size > self.left:
            return None
        self.left -= size + 100
        run = Run(node, schema, run_graph=_no_graphs, random=np.random.default_rng(0), budget=_BYTES, opsets={})
        try:
            with np.errstate(all="ignore"):
                results = run_node(node, operator, schema, arrays, run)
        except GesherError as e:
            return e.what
        except Exception as e:
            return f"{type(e).__name__}: {e}"
        for i, (fact, result) in enumerate(zip(outputs, results)):
            if fact is None or not isinstance(fact.type, TensorType):
                continue
            array = np.asarray(result)
            if array.dtype != fact.dtype.numpy or not _fits(array.shape, fact.shape or ()):
                return (f"inference says {fact.type} of its output {i}, running it gave {array.dtype}"
                        f"{list(array.shape)}")
            outputs[i] = Fact(TensorType(fact.dtype, array.shape), array, why=fact.why)
        return None


def deterministic(node: Node, schema: Schema, inputs: Sequence[Any]) -> bool:
    """Whether the node gives the same answer each time it is given these inputs."""
    if schema.name in _RANDOM:
        return False
    if schema.name == "Dropout":
        if schema.version < 7:
            return bool(node.attr("is_test", 0))
        training = inputs[2] if len(inputs) > 2 else None
        return training is None or not bool(np.any(training))
    return not any(True for _ in node.subgraphs())


def _small(fact: Fact) -> bool:
    return fact._value is not None or (fact.constant is not None and fact.constant.size <= VALUE_LIMIT)


def _worthwhile(outputs: Sequence[Fact | None]) -> bool:
    """Whether some value is missing, and every output is a tensor of known type that may be small.

    A size that hangs on the data (of NonZero, Unique, NonMaxSuppression) is no symbol then, but known by running.
    """
    missing = False
    for fact in outputs:
        if fact is None:
            continue
        if not isinstance(fact.type, TensorType) or fact.type.shape is None or fact.type.dtype.kind == "none":
            return False
        size = 1
        for d in fact.type.shape:
            size *= d if isinstance(d, int) else 1
        if size > VALUE_LIMIT:
            return False
        missing = missing or (fact._value is None and fact.constant is None)
    return missing


def _fits(shape: tuple[int, ...], said: Shape) -> bool:
    return len(shape) == len(said) and all(not isinstance(d, int) or d == n for n, d in zip(shape, said))


def _no_graphs(graph: Graph, inputs: Sequence[Any]) -> NoReturn:
    raise AssertionError("a node with subgraphs is not folded")
