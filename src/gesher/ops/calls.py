"""Calls of model-local functions: which function a node calls, and what its attributes are inside.

A node inside a function may carry a reference attribute, which stands for an attribute of the calling node. `bind`
gives the node as it is in one call: a view that shares everything with the original but its attributes, and that stands
in no graph's use lists, so it may be thrown away freely.

A function and an operator of the book may share a name. The function wins, since the model that carries it says what it
means by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gesher.ir import Attribute, Function, Node

FunctionTable = dict[tuple[str, str, str], Function]


def function_table(functions: Iterable[Function]) -> FunctionTable:
    """Functions by (domain, name, overload), the domain 'ai.onnx' written as ''."""
    return {(plain_domain(f.domain), f.name, f.overload): f for f in functions}


def plain_domain(domain: str) -> str:
    """The domain with its one synonym settled: 'ai.onnx' is ''."""
    return "" if domain == "ai.onnx" else domain


def called(node: Node, functions: FunctionTable) -> Function | None:
    """The function that `node` calls, or None where it applies an operator."""
    if not functions:
        return None
    return functions.get((plain_domain(node.domain), node.op_type, node.overload))


def bind(node: Node, bindings: Mapping[str, Attribute] | None) -> Node:
    """`node` with its reference attributes replaced by what `bindings` says; those that nobody gives are left out.

    `bindings` is None outside functions, where a reference stands for nothing.
    """
    for a in node.attributes.values():
        if a.ref:
            break
    else:
        return node
    attributes: dict[str, Attribute] = {}
    for name, a in node.attributes.items():
        if not a.ref:
            attributes[name] = a
        elif bindings is not None and a.ref in bindings:
            attributes[name] = bindings[a.ref]
    view = object.__new__(Node)
    for slot in Node.__slots__:
        setattr(view, slot, getattr(node, slot))
    view.attributes = attributes
    return view


def bindings_of(call: Node, function: Function) -> dict[str, Attribute]:
    """What the attributes of `function` are in this (bound) call: as the call writes them, else their defaults."""
    bindings = dict(function.defaults)
    for name in (*function.attributes, *function.defaults):
        written = call.attributes.get(name)
        if written is not None and not written.ref:
            bindings[name] = written
    return bindings
