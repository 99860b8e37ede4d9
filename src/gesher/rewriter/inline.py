"""Calls of model-local functions put in place, so that fusion sees through them.

The model is not touched: what has functions is copied first, nodes and values anew, tensors shared. Reference
attributes get what the call says; bodies of If, Loop and Scan are copied with the values that they capture.

What a reader would guess wrong: a function may import other versions than the model. Its nodes keep their own, in a
table beside the model, so the copy alone does not say what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gesher.base.errors import ModelError
from gesher.ir import Attribute, Function, Graph, Kind, Model, Node, Value
from gesher.ops.calls import FunctionTable, bind, bindings_of, called, function_table

DEEPEST = 200
"""Calls within calls, deeper than which we do not follow."""


@dataclass(frozen=True, slots=True)
class Inlined:
    """A model without calls of functions, and the imports of those nodes for which the model's do not hold."""

    model: Model
    opsets: dict[Node, dict[str, int]] = field(default_factory=dict)


def inlined(model: Model, *, private: bool = False) -> Inlined:
    """A copy without calls of functions; `model` itself where it has none and no `private` copy is asked for.

    Raises:
        ModelError: functions call each other in a circle, or too deep.
    """
    if not model.functions and not private:
        return Inlined(model)
    copy = _Copy(model)
    graph = copy.graph(model.graph, {}, None, 0)
    opsets = dict(model.opsets)
    for function in model.functions.values():
        for domain, version in function.opsets.items():
            opsets.setdefault(domain, version)
    whole = Model(graph, opsets=opsets, ir_version=model.ir_version, path=model.path,
                  producer_name=model.producer_name, producer_version=model.producer_version)
    return Inlined(whole, {node: held for node, held in copy.imports.items()
                           if any(opsets.get(domain) != version for domain, version in held.items())})


class _Copy:
    def __init__(self, model: Model):
        self.functions: FunctionTable = function_table(model.functions.values())
        self.imports: dict[Node, dict[str, int]] = {}
        self.now = model.opsets    # the imports of what is being copied

    def graph(self, graph: Graph, outer: Mapping[Value, Value | None], bindings: Mapping[str, Attribute] | None,
              depth: int) -> Graph:
        """A copy of a graph; `outer` says what the values around it are in the copy."""
        values: dict[Value, Value | None] = dict(outer)
        inputs = [self._value(v) for v in graph.inputs]
        values.update(zip(graph.inputs, inputs))
        made = Graph(graph.name, inputs)
        for v in graph.initializers:
            kept = values.get(v)
            if kept is None:
                kept = values[v] = self._value(v)
                kept.owner = made
            made.initializers[kept] = None
        self._nodes(graph, made, values, bindings, depth)
        for o in graph.outputs:
            found = values.get(o)
            if found is None:
                raise ModelError(f"the output '{o.name}' is left out by the function that should make it",
                                 rule="function-output", place=(graph.place,))
            if found.name != o.name:
                # An output keeps its name, whatever made it.
                passed = self._value(o)
                made.append(Node("Identity", [found], [passed]))
                found = passed
            made.add_output(found)
        return made

    @staticmethod
    def _value(v: Value) -> Value:
        return Value(v.name, v.type, constant=v.constant)

    def _nodes(self, graph: Graph, made: Graph, values: dict[Value, Value | None],
               bindings: Mapping[str, Attribute] | None, depth: int) -> None:
        if depth > DEEPEST:
            raise ModelError("functions call each other in a circle, or too deep", rule="function-recursion",
                             place=(graph.place,))
        for node in graph.nodes:
            bound = bind(node, bindings)
            inputs = [None if v is None else values.get(v, v) for v in node.inputs]
            function = called(bound, self.functions)
            if function is not None:
                self._call(bound, function, inputs, made, values, depth)
                continue
            attributes = {k: self._attribute(a, values, bindings, depth) for k, a in bound.attributes.items()
                          if not a.ref}
            outputs: list[Value | None] = [None if o is None else self._value(o) for o in node.outputs]
            copy = Node(node.op_type, inputs, outputs, attributes, domain=node.domain, overload=node.overload,
                        name=node.name)
            made.append(copy)
            # A graph that a call hands in was copied before, and has its caller's imports.
            self.imports[copy] = self.imports.get(node, self.now)
            values.update((o, c) for o, c in zip(node.outputs, outputs) if o is not None)

    def _call(self, call: Node, function: Function, inputs: list[Value | None], made: Graph,
              values: dict[Value, Value | None], depth: int) -> None:
        inside: dict[Value, Value | None] = {}
        for i, v in enumerate(function.inputs):
            inside[v] = inputs[i] if i < len(inputs) else None
        for v in function.initializers:
            inside[v] = self._value(v)
            made.initializers[inside[v]] = None  # type: ignore[index]
        bindings = dict(bindings_of(call, function))
        for name, a in bindings.items():
            # A graph that the call hands in captures from around the call.
            bindings[name] = self._attribute(a, values, None, depth)
        around, self.now = self.now, function.opsets
        self._nodes(function, made, inside, bindings, depth + 1)
        self.now = around
        for o, given in zip(function.outputs, call.outputs):
            if given is not None:
                values[given] = inside.get(o)

    def _attribute(self, a: Attribute, values: Mapping[Value, Value | None],
                   bindings: Mapping[str, Attribute] | None, depth: int) -> Attribute:
        if a.kind == Kind.GRAPH:
            return Attribute(a.kind, self.graph(a.value, values, bindings, depth + 1))
        if a.kind == Kind.GRAPHS:
            return Attribute(a.kind, tuple(self.graph(g, values, bindings, depth + 1) for g in a.value))
        return a
