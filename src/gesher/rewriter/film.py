"""A graph as lines of text, and the difference between two of them: what `GESHER_DEBUG=5` shows after each pass."""

from __future__ import annotations

from difflib import unified_diff

from gesher.ir import Graph, Model, Node, Tensor, Value


def listing(model: Model) -> list[str]:
    """The nodes of a model, a line each, inner graphs indented. Values without a name are numbered as they come."""
    names: dict[Value, str] = {}

    def name(v: Value | None) -> str:
        if v is None:
            return "_"
        if v not in names:
            names[v] = v.name or f"%{len(names)}"
        constant = v.constant
        if constant is not None and v.producer is None:
            if isinstance(constant, Tensor) and constant.size == 1:
                return str(constant.numpy().reshape(-1)[0])
            return f"{constant.name or 'constant'}{list(constant.shape)}"
        return names[v]

    lines: list[str] = []

    def graph(g: Graph, indent: str) -> None:
        for n in g.nodes:
            node(n, indent)
        lines.append(f"{indent}give {', '.join(map(name, g.outputs))}")

    def node(n: Node, indent: str) -> None:
        plain = [f" {k}={a.value!r}" for k, a in n.attributes.items() if not isinstance(a.value, Graph)]
        domain = f"{n.domain}." if n.domain else ""
        lines.append(f"{indent}{', '.join(map(name, n.outputs))} = {domain}{n.op_type}"
                     f"({', '.join(map(name, n.inputs))}){''.join(plain)}")
        for g in n.subgraphs():
            graph(g, indent + "  ")

    graph(model.graph, "")
    return lines


def told_apart(before: list[str], after: list[str]) -> str:
    """What changed, as a diff without context."""
    return "\n".join(unified_diff(before, after, "before", "after", lineterm="", n=0))
