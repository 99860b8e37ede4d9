"""Whether the graphs that a node holds take and give as many values as the node asks of them."""

from __future__ import annotations

from gesher.ir import Graph, Node
from gesher.ops.fit import counted

from .context import Context


def check(context: Context) -> None:
    """Look at every If, Loop and Scan."""
    for graph in context.graphs:
        for node in graph.nodes:
            if not node.attributes or node.domain not in ("", "ai.onnx") or context.called(node) is not None:
                continue
            if node.op_type == "If":
                for name in ("then_branch", "else_branch"):
                    _expect(context, graph, node, name, 0, len(node.outputs))
            elif node.op_type == "Loop":
                carried = max(0, len(node.inputs) - 2)
                body = node.attr("body")
                if isinstance(body, Graph):
                    _expect(context, graph, node, "body", 2 + carried, 1 + max(len(node.outputs), carried))
            elif node.op_type == "Scan":
                _scan(context, graph, node)


def _scan(context: Context, graph: Graph, node: Node) -> None:
    version = context.opsets(graph).get("", 0)
    # Version 8 had an optional input in front, for the lengths of sequences.
    inputs = len(node.inputs) - (1 if version < 9 else 0)
    scanned = node.attr("num_scan_inputs")
    if not isinstance(scanned, int) or not 0 < scanned <= inputs:
        if isinstance(scanned, int):
            context.say("attribute-value", f"Scan: num_scan_inputs is {scanned}, the node has "
                        f"{counted(inputs, 'input')}", context.place(graph, node.place))
        return
    _expect(context, graph, node, "body", inputs, len(node.outputs))
    outputs = len(node.outputs) - (inputs - scanned)
    for name, count in (("scan_input_axes", scanned), ("scan_input_directions", scanned),
                        ("scan_output_axes", outputs), ("scan_output_directions", outputs)):
        values = node.attr(name)
        if values and len(values) != count:
            context.say("attribute-lengths", f"Scan: {name} has {len(values)} entries, there are {count} to tell of",
                        context.place(graph, node.place))


def _expect(context: Context, graph: Graph, node: Node, name: str, inputs: int, outputs: int) -> None:
    body = node.attr(name)
    if not isinstance(body, Graph):
        return  # `attributes` tells
    place = context.place(graph, node.place)
    if len(body.inputs) != inputs:
        context.say("subgraph-arity", f"{node.op_type}: its {name} takes {counted(len(body.inputs), 'input')}, it must "
                    f"take {inputs}", place)
    if len(body.outputs) != outputs:
        context.say("subgraph-arity", f"{node.op_type}: its {name} gives "
                    f"{counted(len(body.outputs), 'output')}, it must give {outputs}", place)
