"""Nodes that compute the same twice, and nodes that nothing reads."""

from __future__ import annotations

from typing import Any

from gesher.base import dtypes
from gesher.inference.answers import attribute_signature
from gesher.ir import Graph, Node, SparseTensor, Value
from gesher.rewriter import Work
from gesher.rewriter.passes import drop_unread

# Constants up to this many bytes are compared by their bytes; larger ones only by where they lie.
_COMPARED = 4096


def merge_duplicates(work: Work) -> int:
    """Let readers of a node read an earlier one that computes the same; inner graphs may read outer ones."""
    before = work.rewrites
    _constants(work)
    pending: list[tuple[Graph, dict[Any, list[Node]]]] = [(work.model.graph, {})]
    while pending:
        graph, seen = pending.pop()
        for node in graph.nodes:
            pending.extend((g, {k: list(nodes) for k, nodes in seen.items()}) for g in node.subgraphs())
            key = _signature(work, node)
            if key is None:
                continue
            # Most nodes have no sister at all, and attributes can be long: a forest's are its trees.
            sisters = seen.setdefault(key, [])
            own = _attributes(node) if sisters else None
            twin = next((n for n in sisters if _attributes(n) == own), None)
            if twin is None:
                sisters.append(node)
            elif _merge(work, node, twin):
                drop_unread(work, node)
                work.count("merge_duplicates")
    return work.rewrites - before


def _signature(work: Work, node: Node) -> Any:
    """Equal for nodes that compute the same but for their attributes; None for those that may not be merged."""
    if any(True for _ in node.subgraphs()) or not work.repeatable(node):
        return None
    return (node.domain, node.op_type, work.version(node), node.inputs, len(node.outputs))


def _attributes(node: Node) -> list[Any]:
    return [(k, attribute_signature(a)) for k, a in sorted(node.attributes.items())]


def _merge(work: Work, node: Node, twin: Node) -> bool:
    if any(a is not None and b is None for a, b in zip(node.outputs, twin.outputs)):
        return False
    # Outputs keep their names: both stay where both are given out, or where one is in another graph.
    pairs = [(a, b) for a, b in zip(node.outputs, twin.outputs) if a is not None and b is not None]
    if any(isinstance(u, Graph) and (b.is_output or b.graph is not u) for a, b in pairs for u in a.uses):
        return False
    with work.edit.rule("merge_duplicates"):
        for a, b in pairs:
            work.learn(b, a)
            work.edit.replace(a, b)
    return True


def _constants(work: Work) -> None:
    """One initializer for all that hold the same."""
    seen: dict[Any, Value] = {}
    for graph in work.graphs():
        outermost = graph is work.model.graph
        for v in list(graph.initializers):
            t = v.constant
            if t is None or isinstance(t, SparseTensor) or v.is_input or v in work.kept or t.dtype is dtypes.STRING:
                continue
            key: Any = (t.dtype, t.shape, t.numpy().tobytes()) if t.nbytes <= _COMPARED else id(t.storage)
            twin = seen.get(key)
            if twin is None:
                if outermost:
                    seen[key] = v
            elif twin is not v and not v.is_output:
                with work.edit.rule("merge_constants"):
                    work.edit.replace(v, twin)
                work.count("merge_constants")


def drop_unread_nodes(work: Work) -> int:
    """Take out every node that nothing reads, from the end, and the initializers that are left unread."""
    before = len(work.edit.steps)
    with work.edit.rule("drop_unread"):
        for graph in work.graphs():
            for node in reversed(graph.nodes):
                drop_unread(work, node)
        dropped = len(work.edit.steps) - before
        for graph in work.graphs():
            for v in [v for v in graph.initializers if not v.uses and not v.is_input]:
                work.edit.drop_initializer(v)
    return dropped
