"""Model-local functions: no recursion, calls that fit, nothing captured, nothing for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from gesher.ir import Function, Graph
from gesher.ops import find
from gesher.ops.calls import plain_domain
from gesher.ops.fit import counted

from .context import Context


def check(context: Context) -> None:
    """Look at every function and every call."""
    if not context.model.functions:
        return
    used = _calls(context)
    for function in context.model.functions.values():
        _one(context, function, function in used)
    _recursion(context)


def _one(context: Context, function: Function, used: bool) -> None:
    place = context.place(function)
    if not function.name or not function.domain:
        context.say("function-name", f"{function.place} has no {'name' if not function.name else 'domain'}", place)
    if not function.overload and find(plain_domain(function.domain), function.name) is not None:
        context.say("function-shadows", f"{function.place} redefines an operator", place)
    if function.initializers:
        context.say("function-initializers", f"{function.place} has initializers", place)
    if not used:
        context.say("function-unused", f"nothing calls {function.place}", place)
    for v in function.inputs:
        if not v.uses:
            context.say("unused-input", f"{function.place} does not read its input '{v.name}'", place)
    both = set(function.attributes) & set(function.defaults)
    for name in sorted(both):
        context.say("attribute-ref", f"{function.place} lists the attribute '{name}' with and without a default", place)


def _calls(context: Context) -> set[Function]:
    used: set[Function] = set()
    for graph in context.graphs:
        for node in graph.nodes:
            function = context.called(node)
            if function is None:
                continue
            used.add(function)
            place = context.place(graph, node.place)
            if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
                context.say("function-arity", f"{function.place} has {counted(len(function.inputs), 'input')} and "
                            f"{counted(len(function.outputs), 'output')}, the call gives {len(node.inputs)} and takes "
                            f"{len(node.outputs)}", place)
            known = {*function.attributes, *function.defaults}
            for name, a in node.attributes.items():
                if name not in known:
                    context.say("attribute-unknown", f"{function.place} has no attribute '{name}'", place)
                elif name in function.defaults and a.kind and a.kind != function.defaults[name].kind:
                    context.say("attribute-kind", f"the attribute '{name}' of {function.place} is "
                                f"{function.defaults[name].kind.name.lower()}, the call gives {a.kind.name.lower()}",
                                place)
            for name in function.attributes:
                if name not in node.attributes:
                    context.say("function-attribute", f"the call does not give the attribute '{name}' of "
                                f"{function.place}", place)
    return used


def _recursion(context: Context) -> None:
    """Circles among functions, found by a walk in depth with a stack of its own; each circle is told once."""
    callees: dict[Function, list[Function]] = {f: [] for f in context.model.functions.values()}
    for graph in context.graphs:
        root: Graph = graph
        while root.parent is not None and root.parent.graph is not None:
            root = root.parent.graph
        if isinstance(root, Function) and root in callees:
            found = [f for n in graph.nodes if (f := context.called(n)) is not None]
            callees[root].extend(dict.fromkeys(found))
    done: set[Function] = set()
    for start in callees:
        if start in done:
            continue
        active: dict[Function, None] = {start: None}
        stack: list[tuple[Function, Iterator[Function]]] = [(start, iter(callees[start]))]
        while stack:
            function, rest = stack[-1]
            callee = next(rest, None)
            if callee is None:
                stack.pop()
                del active[function]
                done.add(function)
            elif callee in active:
                path = list(active)
                circle = [*path[path.index(callee):], callee]
                shown = " → ".join(f.place for f in circle[:6]) + (" → ..." if len(circle) > 6 else "")
                context.say("function-recursion", f"{callee.place} calls itself: {shown}", context.place(callee))
            elif callee not in done:
                active[callee] = None
                stack.append((callee, iter(callees[callee])))
