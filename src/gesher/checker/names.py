"""Names by the letter of ONNX: identifiers of C90. Asked for in strict mode only, since few exporters keep to it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gesher.ir import Function, Graph, OptionalType, SequenceType, TensorType, Type
from gesher.symbolic import Dim

from .context import Context

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN = 3


def check(context: Context) -> None:
    """Look at the names of every graph; one finding a graph and kind of name, so that a report stays readable."""
    if not context.strict:
        return
    for graph in context.graphs:
        for kind, names in _names(graph):
            odd = [n for n in names if n and not _IDENTIFIER.fullmatch(n)]
            if odd:
                shown = ", ".join(f"'{n}'" for n in odd[:_SHOWN]) + (", ..." if len(odd) > _SHOWN else "")
                context.say("name-identifier", f"{len(odd)} {kind} are no identifiers: {shown}" if len(odd) > 1 else
                            f"the {kind.removesuffix('s')} {shown} is no identifier", context.place(graph))


def _names(graph: Graph) -> Iterator[tuple[str, dict[str, None]]]:
    if isinstance(graph, Function):
        # Domains are names of the reversed kind, `com.example`, each part of which is one.
        yield "function names", dict.fromkeys((graph.name, *graph.domain.split(".")))
    else:
        yield "graph names", {graph.name: None}
    values = (*graph.inputs, *graph.initializers, *(o for n in graph.nodes for o in n.outputs if o is not None))
    yield "value names", dict.fromkeys(v.name for v in values)
    yield "node names", dict.fromkeys(n.name for n in graph.nodes)
    yield "attribute names", dict.fromkeys(name for n in graph.nodes for name in n.attributes)
    yield "dimension names", dict.fromkeys(s for v in values for s in _symbols(v.type))


def _symbols(type: Type | None) -> Iterator[str]:
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    if isinstance(type, TensorType):
        for d in type.shape or ():
            if isinstance(d, Dim):
                yield from (s.name for s in d.symbols() if not s.is_fresh)
