"""Whether every node applies an operator that is there, in its version, with the right number of inputs and outputs."""

from __future__ import annotations

from gesher.ir import Graph, Node
from gesher.ops import find
from gesher.ops.calls import plain_domain
from gesher.ops.fit import arity
from gesher.ops.releases import ML, TRAINING
from gesher.ops.unwritten import UNWRITTEN

from .context import Context

_OURS = ("", ML, TRAINING, "ai.onnx.preview")


def check(context: Context) -> None:
    """Look at every node."""
    for graph in context.graphs:
        for node in graph.nodes:
            if node.op_type and context.called(node) is None:
                _one(context, graph, node)


def _one(context: Context, graph: Graph, node: Node) -> None:
    domain = plain_domain(node.domain)
    operator = find(domain, node.op_type)
    if operator is None:
        _unknown(context, graph, node, domain)
        return
    version = context.opsets(graph).get(domain)
    if version is None:
        return  # `versions` tells
    schema = operator.schema(version)
    if schema is None:
        first = operator.versions[0].version
        context.say("operator-version", f"{node.op_type} came with version {first} of '{domain or 'ai.onnx'}', here "
                    f"{version} is imported", context.place(graph, node.place), f"import version {first} or newer")
        return
    if schema.deprecated:
        context.say("operator-deprecated", f"{node.op_type} is deprecated since version {schema.version}, here "
                    f"{version} is imported", context.place(graph, node.place))
    for misfit in arity(node, schema):
        context.say(misfit.rule, misfit.message, context.place(graph, node.place), misfit.advice)


def _unknown(context: Context, graph: Graph, node: Node, domain: str) -> None:
    place = context.place(graph, node.place)
    if node.overload:
        context.say("operator-unknown", f"the model has no function {node.domain}.{node.op_type}:{node.overload}",
                    place)
    elif domain not in _OURS:
        context.say("operator-foreign", f"{node.op_type} belongs to the domain '{node.domain}', which gesher does not "
                    "know and the model does not define", place)
    elif (domain, node.op_type) in UNWRITTEN:
        context.say("operator-unwritten", f"gesher does not have ONNX's operator {node.op_type} yet", place)
    else:
        context.say("operator-unknown", f"'{domain or 'ai.onnx'}' has no operator {node.op_type}", place)
