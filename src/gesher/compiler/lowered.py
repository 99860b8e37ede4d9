"""What lowering makes of a graph: stages of nodes that were lowered, and between them those that were not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.evaluator.plan import Step as NodeStep
from gesher.ir import Graph, Node, Value
from gesher.primitives import Expr
from gesher.symbolic import Dim

from .conditions import settle


@dataclass(slots=True)
class Fallback:
    """A node that runs by its reference rule, and why. `fault`: its lowering tripped, which is ours to mend."""

    step: NodeStep
    reason: str
    fault: bool = False

    @property
    def node(self) -> Node:
        return self.step.node


@dataclass(slots=True)
class Stage:
    """A segment and the fallback nodes behind it.

    Attributes:
        nodes: what was lowered into the segment.
        inputs: the values that it reads from outside, with their expressions.
        outputs: the values that it must give out, with their expressions.
        fallbacks: in order.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[Value, Expr] = field(default_factory=dict)
    outputs: dict[Value, Expr] = field(default_factory=dict)
    fallbacks: list[Fallback] = field(default_factory=list)


@dataclass(slots=True)
class Lowered:
    """A graph cut into stages.

    Attributes:
        stages: in order.
        leaves: what enters as arrays (inputs, captured values, what fallback nodes make), and the expressions that say
            which shapes they must have.
        aliases: values that are another value or a constant.
        learned: small integer arrays, and the symbols that their elements are bound to.
        guards: conditions of Ifs that were settled, and what they were taken to be.
        symbols: the sizes that are known when a segment starts.
    """

    graph: Graph
    stages: list[Stage]
    leaves: dict[Value, Expr]
    aliases: dict[Value, Value | np.ndarray]
    learned: dict[Value, list[Dim]]
    guards: list[tuple[Expr, bool]]
    symbols: set[Dim]

    def holds(self, env: Mapping[Value, Any], sizes: Mapping[Dim, int]) -> bool:
        """Whether the conditions that were settled come out the same for these arrays and sizes."""
        by_expr = {e: v for v, e in self.leaves.items()}
        for condition, taken in self.guards:
            value = settle(condition, by_expr, env, sizes)
            if value is None or bool(value) is not taken:
                return False
        return True


class NeedsOracle(Exception):  # noqa: N818  (a question, not a fault)
    """A condition hangs on sizes: the graph is best lowered when a run tells them."""


def captured_by(graph: Graph) -> list[Value]:
    """The values that a nested graph reads from those around it, those of graphs nested in it among them."""
    own: set[Value] = set()
    read: dict[Value, None] = {}
    pending = [graph]
    while pending:
        g = pending.pop()
        own.update(g.inputs)
        own.update(g.initializers)
        for node in g.nodes:
            own.update(o for o in node.outputs if o is not None)
            read.update(dict.fromkeys(v for v in node.inputs if v is not None))
            pending.extend(node.subgraphs())
        read.update(dict.fromkeys(g.outputs))
    return [v for v in read if v not in own]
