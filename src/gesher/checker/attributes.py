"""Attributes: known, there, of the right kind, of an allowed value, of matching lengths, and references only where they
stand for something."""

from __future__ import annotations

from gesher.ir import Attribute, Function, Graph, Node
from gesher.ops.fit import attributes
from gesher.ops.schema import Schema

from .attribute_values import ANY_CASE, CHOICES, FLAGS, lengths
from .context import Context


def check(context: Context) -> None:
    """Look at the attributes of every node."""
    scopes: dict[Graph, Function | None] = {}
    for graph in context.graphs:
        outer = graph.parent.graph if graph.parent is not None else None
        scopes[graph] = graph if isinstance(graph, Function) else scopes.get(outer) if outer is not None else None
        for node in graph.nodes:
            if not node.attributes and context.called(node) is not None:
                continue
            _references(context, graph, node, scopes[graph])
            schema = context.schema(node, graph)
            if schema is None:
                continue
            for misfit in attributes(node, schema):
                context.say(misfit.rule, misfit.message, context.place(graph, node.place), misfit.advice)
            if node.attributes:
                _values(context, graph, node, schema)


def _references(context: Context, graph: Graph, node: Node, function: Function | None) -> None:
    for name, a in node.attributes.items():
        if not a.ref:
            continue
        place = context.place(graph, node.place)
        if function is None:
            context.say("attribute-ref", f"the attribute '{name}' refers to '{a.ref}', but this is no function", place)
        elif a.ref not in function.attributes and a.ref not in function.defaults:
            context.say("attribute-ref", f"the attribute '{name}' refers to '{a.ref}', which {function.place} does not "
                        "have", place)
        elif a.ref in function.defaults and a.kind and function.defaults[a.ref].kind != a.kind:
            context.say("attribute-ref", f"the attribute '{name}' is {a.kind.name.lower()}, but '{a.ref}' of "
                        f"{function.place} is {function.defaults[a.ref].kind.name.lower()}", place)


def _values(context: Context, graph: Graph, node: Node, schema: Schema) -> None:
    written: dict[str, Attribute] = {k: a for k, a in node.attributes.items() if not a.ref and k in schema.attributes
                                     and a.kind == schema.attributes[k].kind_code and a.value is not None}
    for name, a in written.items():
        allowed = CHOICES.get((schema.domain, schema.name, name)) or CHOICES.get(("*", "*", name))
        if allowed is not None:
            values = a.value if isinstance(a.value, tuple) else (a.value,)
            now = {v for v, since in allowed.items() if since <= schema.version}
            folded = {v.casefold() for v in now} if name in ANY_CASE else now
            wrong = next((v for v in values if (v.casefold() if name in ANY_CASE else v) not in folded), None)
            if wrong is not None:
                shown = ", ".join(map(repr, sorted(now, key=str)))
                context.say("attribute-value", f"{node.op_type}: the attribute '{name}' is {wrong!r}",
                            context.place(graph, node.place), f"opset {schema.version} allows {shown}")
        elif name in FLAGS and a.value not in (0, 1):
            context.say("attribute-value", f"{node.op_type}: the attribute '{name}' is {a.value!r}, it must be 0 or 1",
                        context.place(graph, node.place))
    for message in lengths(schema.domain, schema.name, {k: a.value for k, a in written.items()}):
        context.say("attribute-lengths", f"{node.op_type}: {message}", context.place(graph, node.place))
