"""What a model says beside its graph: metadata and quantization annotations."""

from __future__ import annotations

from gesher.ir import Graph

from .context import Context


def check(context: Context) -> None:
    """Look at the metadata of the model and of everything in it."""
    model = context.model
    _keys(context, model.metadata, (model.place,))
    for graph in context.graphs:
        _keys(context, graph.metadata, context.place(graph))
        for node in graph.nodes:
            if node.metadata:
                _keys(context, node.metadata, context.place(graph, node.place))
        if graph.quantization:
            _annotations(context, graph)


def _keys(context: Context, entries: dict[str, str] | None, place: tuple[str, ...]) -> None:
    if entries and "" in entries:
        context.say("metadata-key", "a metadata entry has no key", place)


def _annotations(context: Context, graph: Graph) -> None:
    names = {v.name for v in (*graph.inputs, *graph.initializers)}
    names.update(o.name for n in graph.nodes for o in n.outputs if o is not None)
    for about, entries in graph.quantization:
        for name in (about, *entries.values()):
            if name not in names:
                context.say("quantization-annotation", f"a quantization annotation names '{name}', which is not there",
                            context.place(graph))
