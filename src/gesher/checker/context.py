"""What all checks work on: the model, its graphs with their places, what each node means, and the report."""

from __future__ import annotations

from gesher.base.errors import GesherError, ModelError
from gesher.base.report import Finding, Report
from gesher.inference import Facts
from gesher.ir import Function, Graph, Model, Node
from gesher.ops import find, resolve
from gesher.ops.calls import called, function_table, plain_domain
from gesher.ops.schema import Operator, Schema

from .rules import RULES

# Places of deeply nested graphs name this many levels, the innermost ones.
_LEVELS = 12


class Context:
    """One check of one model.

    Attributes:
        graphs: the main graph, the functions, and all graphs nested in them, outer before inner.
        facts: what inference found; None until it has run.
        strict, weights: what was asked for, see `check`.
    """

    def __init__(self, model: Model, *, strict: bool = False, weights: bool | None = None):
        self.model, self.strict, self.weights = model, strict, weights
        self.report = Report()
        self.graphs: list[Graph] = list(model.graphs())
        self.functions = function_table(model.functions.values())
        self.facts: Facts | None = None
        self._opsets: dict[Graph, dict[str, int]] = {}
        for g in self.graphs:
            # Outer graphs come first, so a nested one need not climb.
            outer = g.parent.graph if g.parent is not None else None
            known = self._opsets.get(outer) if outer is not None else None
            self._opsets[g] = known if known is not None else model.opsets_of(g)
        self._meanings: dict[tuple[int, str, str], tuple[Operator, Schema] | None] = {}
        self._said: set[Finding] = set()

    def opsets(self, graph: Graph) -> dict[str, int]:
        """The imports that hold inside a graph."""
        return self._opsets[graph]

    def say(self, rule: str, message: str, place: tuple[str, ...], advice: str | None = None) -> None:
        """Report a broken rule. Without `advice` the rule's own is given."""
        row = RULES[rule]
        finding = Finding(row.severity, rule, message, place, row.advice if advice is None else advice)
        if finding not in self._said:
            self._said.add(finding)
            self.report.findings.append(finding)

    def say_error(self, rule: str, error: GesherError, place: tuple[str, ...]) -> None:
        """Report an error that was raised, by its own rule where it names one that we have."""
        own = error.rule if isinstance(error, ModelError) else ""
        self.say(own if own in RULES else rule, error.what, place, error.advice)

    def place(self, graph: Graph, *inner: str) -> tuple[str, ...]:
        """The place of a graph, or of something inside it: from the file inwards."""
        parts: list[str] = list(reversed(inner))
        parts.append(graph.place)
        levels = 0
        while graph.parent is not None and graph.parent.graph is not None:
            levels += 1
            if levels > _LEVELS:
                parts.append("...")
                break
            parts.append(graph.parent.place)
            graph = graph.parent.graph
            parts.append(graph.place)
        parts.append(self.model.place)
        return tuple(reversed(parts))

    def called(self, node: Node) -> Function | None:
        """The model-local function that a node calls."""
        return called(node, self.functions)

    def schema(self, node: Node, graph: Graph) -> Schema | None:
        """The schema that a node's operator has here; None where it has none or calls a function."""
        meaning = self.meaning(node, graph)
        return None if meaning is None else meaning[1]

    def meaning(self, node: Node, graph: Graph) -> tuple[Operator, Schema] | None:
        """The operator and schema of a node; None where there is none or it calls a function."""
        if self.called(node) is not None:
            return None
        opsets = self._opsets[graph]
        key = (id(opsets), node.domain, node.op_type)
        if key not in self._meanings:
            try:
                self._meanings[key] = resolve(node, opsets) if find(plain_domain(node.domain), node.op_type) else None
            except ModelError:
                self._meanings[key] = None
        return self._meanings[key]
