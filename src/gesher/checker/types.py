"""Whether the types that flow into a node are those that its operator takes."""

from __future__ import annotations

from gesher.ir import Type, Value
from gesher.ops.fit import types

from .context import Context


def check(context: Context) -> None:
    """Look at the types of every node's inputs and outputs, inferred where possible, else declared."""
    facts = context.facts

    def type_of(v: Value | None) -> Type | None:
        if v is None:
            return None
        fact = facts.first_found(v) if facts is not None else None
        return fact.type if fact is not None and fact.type is not None else v.type

    for graph in context.graphs:
        for node in graph.nodes:
            schema = context.schema(node, graph)
            if schema is None:
                continue
            # Of outputs inference knows by the same schema; what a file declares of them is held against that there.
            for misfit in types(node, schema, [type_of(v) for v in node.inputs]):
                context.say(misfit.rule, misfit.message, context.place(graph, node.place), misfit.advice)


