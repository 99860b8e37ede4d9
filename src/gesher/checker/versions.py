"""IR version and opset imports: whether they are there, whether they were ever published together, whether the model
keeps to them."""

from __future__ import annotations

from gesher.base.dtypes import DType
from gesher.ir import Graph, SparseTensor, TensorType
from gesher.ops import find
from gesher.ops.calls import plain_domain
from gesher.ops.releases import (
    FUNCTIONS,
    INITIALIZERS_APART,
    ML,
    NEWEST,
    OVERLOADS,
    SPARSE_INITIALIZERS,
    ir_for,
    ir_of_opset,
)

from .context import Context

_PUBLISHED = {"": NEWEST.opset, ML: NEWEST.ml}


def check(context: Context) -> None:
    """Look at the model's versions and at what it uses."""
    model = context.model
    place = (model.place,)
    ir = model.ir_version
    if ir < 1:
        context.say("ir-version", f"the IR version is {ir}", place)
    elif ir > NEWEST.ir:
        context.say("ir-unknown", f"the IR version is {ir}, the newest that has been published is {NEWEST.ir}", place)
    _imports(context, model.opsets, place)
    for f in model.functions.values():
        _imports(context, f.opsets, context.place(f))
    _used(context)
    if ir >= 1:
        _features(context, ir)


def _imports(context: Context, opsets: dict[str, int], place: tuple[str, ...]) -> None:
    if not opsets:
        context.say("opset-import", "nothing is imported", place)
    for domain, version in opsets.items():
        shown = domain or "ai.onnx"
        if version < 1:
            context.say("opset-import", f"'{shown}' is imported in version {version}", place)
        elif version > _PUBLISHED.get(domain, version):
            context.say("opset-unknown", f"'{shown}' is imported in version {version}, the newest that is known is "
                        f"{_PUBLISHED[domain]}", place)
        else:
            need = ir_of_opset(domain, version)
            if need is not None and 1 <= context.model.ir_version < need:
                context.say("ir-opset-pair", f"version {version} of '{shown}' came with IR version {need}, this model "
                            f"is of IR version {context.model.ir_version}", place)


def _used(context: Context) -> None:
    """Domains that are used and not imported, and the other way round."""
    used: dict[int, set[str]] = {}
    for graph in context.graphs:
        opsets = context.opsets(graph)
        seen = used.setdefault(id(opsets), set())
        for node in graph.nodes:
            domain = plain_domain(node.domain)
            if domain in opsets:
                seen.add(domain)
                continue
            # Old writers import nothing for the domains of their functions; a call is found by its key alone.
            if context.called(node) is None and (find(domain, node.op_type) is not None or domain == ""):
                context.say("opset-import", f"{node.op_type} is of '{domain or 'ai.onnx'}', which is not imported",
                            context.place(graph, node.place))
    main: Graph = context.model.graph
    for domain in sorted(set(context.model.opsets) - used.get(id(context.opsets(main)), set())):
        # Nearly every exporter imports ai.onnx, and some ai.onnx.ml, whether they use it or not.
        if domain not in ("", ML) and not any(domain in f.opsets or plain_domain(f.domain) == domain
                                              for f in context.model.functions.values()):
            context.say("opset-unused", f"'{domain}' is imported and not used", (context.model.place,))


def _features(context: Context, ir: int) -> None:
    model = context.model
    place = (model.place,)
    if model.functions and ir < FUNCTIONS:
        context.say("ir-feature", f"functions came with IR version {FUNCTIONS}, this model is of {ir}", place)
    if ir < OVERLOADS and any(f.overload for f in model.functions.values()):
        context.say("ir-feature", f"overloads of functions came with IR version {OVERLOADS}, this model is of {ir}",
                    place)
    types: dict[DType, None] = {}
    for graph in context.graphs:
        if ir < INITIALIZERS_APART and graph is model.graph:
            inputs = set(graph.inputs)
            for v in graph.initializers:
                if v not in inputs:
                    context.say("ir-feature", f"the initializer '{v.name}' is no input, which is allowed from IR "
                                f"version {INITIALIZERS_APART}; this model is of {ir}", context.place(graph))
        for v in graph.initializers:
            if isinstance(v.constant, SparseTensor):
                if ir < SPARSE_INITIALIZERS:
                    context.say("ir-feature", f"sparse initializers came with IR version {SPARSE_INITIALIZERS}, this "
                                f"model is of {ir}", context.place(graph))
            elif v.constant is not None:
                types[v.constant.dtype] = None
        for v in (*graph.inputs, *graph.outputs):
            if isinstance(v.type, TensorType):
                types[v.type.dtype] = None
    for t in types:
        need = ir_for({}, (t,))
        if ir < need:
            context.say("ir-feature", f"the data type {t.name} came with IR version {need}, this model is of {ir}",
                        place)


