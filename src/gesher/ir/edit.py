"""The only place that writes a graph in use. Every step goes into a journal and can be taken back.

    edit = Edit(model)
    with edit.rule("fold_batch_norm"):
        edit.insert(new, before=old)
        edit.replace(old.output, new.output)
        edit.drop(old)
    edit.undo(to=0)

A step is a small change with its inverse. `Edit.steps` is the journal; `undo` walks it backwards, which is how an
optimisation is stopped after step n, bisected, or filmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gesher.base.errors import ModelError

from .attributes import attribute
from .graph import Function, Graph, Model, Node, Value, _graphs_of
from .tensor import SparseTensor, Tensor
from .types import Type


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the journal: its number, the rule that made it, what it did where, and how to take it back."""

    number: int
    rule: str
    what: str
    place: str
    back: Callable[[], None]


class Edit:
    """Writes the graphs of one model (or one loose graph), keeping a journal."""

    def __init__(self, target: Model | Graph):
        self.target = target
        self.steps: list[Step] = []
        self._rule = ""
        self._ranks: dict[Graph, dict[Value, int]] = {}

    @contextmanager
    def rule(self, name: str) -> Iterator[None]:
        """Name the rule that the steps inside belong to."""
        before, self._rule = self._rule, name
        try:
            yield
        finally:
            self._rule = before

    def _note(self, what: str, place: str, back: Callable[[], None]) -> None:
        self.steps.append(Step(len(self.steps) + 1, self._rule, what, place, back))

    def undo(self, to: int = 0) -> None:
        """Take back every step after number `to`."""
        while len(self.steps) > to:
            self.steps.pop().back()

    # Nodes

    def insert(self, node: Node, *, before: Node | None = None, after: Node | None = None,
               graph: Graph | None = None) -> Node:
        """Put a new node before or after another, or at the end of `graph`."""
        if node.graph is not None:
            raise ModelError(f"{node.place} is in a graph already", rule="edit-insert",
                             advice="drop it first, or use `move`")
        mark = before if before is not None else after.next if after is not None else None
        home = before.graph if before is not None else after.graph if after is not None else graph
        if home is None:
            raise ModelError(f"{node.place}: nowhere to insert it", rule="edit-insert",
                             advice="give before=, after= (a node in a graph) or graph=")
        _put(home, node, mark)
        self._note("insert", node.place, lambda: home._take_out(node))
        return node

    def drop(self, node: Node) -> None:
        """Take a node out whose outputs nobody reads, and let go of its inputs.

        Raises:
            ModelError: an output is still read.
        """
        home = node.graph
        if home is None:
            raise ModelError(f"{node.place} is in no graph", rule="edit-drop")
        for o in node.outputs:
            if o is not None and o.uses:
                user = next(iter(o.uses))
                raise ModelError(f"{node.place}: its output '{o.name}' is still read by {user.place}",
                                 rule="edit-drop", advice="replace the output first")
        mark = node.next
        home._take_out(node)
        inputs = node.inputs
        for v in inputs:
            if v is not None:
                v._unused_by(node)
        # What the node's own subgraphs capture from outside is let go of too.
        nest = set(_inside(node))
        released: list[tuple[Value, Node | Graph]] = []
        for g in nest:
            released += [(v, n) for n in g.nodes for v in n.inputs if v is not None and v.graph not in nest]
            released += [(v, g) for v in g.outputs if v.graph not in nest]
        for captured, user in released:
            captured._unused_by(user)

        def back() -> None:
            for captured, user in released:
                captured._used_by(user)
            for v in inputs:
                if v is not None:
                    v._used_by(node)
            _put(home, node, mark)

        self._note("drop", node.place, back)

    def move(self, node: Node, *, before: Node) -> None:
        """Move a node in front of another, in the same graph or an outer or inner one."""
        home, mark = node.graph, node.next
        if home is None or before.graph is None:
            raise ModelError(f"{node.place}: only a node in a graph can be moved", rule="edit-move")
        if before is node:
            return
        home._take_out(node)
        _put(before.graph, node, before)
        new_home = before.graph

        def back() -> None:
            new_home._take_out(node)
            _put(home, node, mark)

        self._note("move", node.place, back)

    def set_input(self, node: Node, index: int, value: Value | None) -> None:
        """Let `node` read `value` (None: nothing) at `index`; missing places in between are left out (None)."""
        inputs = list(node.inputs)
        inputs.extend([None] * (index + 1 - len(inputs)))
        inputs[index] = value
        self.set_inputs(node, inputs)

    def set_inputs(self, node: Node, inputs: Sequence[Value | None]) -> None:
        """Let `node` read just these."""
        old = node.inputs
        self._write_inputs(node, tuple(inputs))
        self._note("set_inputs", node.place, lambda: self._write_inputs(node, old))

    @staticmethod
    def _write_inputs(node: Node, inputs: tuple[Value | None, ...]) -> None:
        for v in node.inputs:
            if v is not None:
                v._unused_by(node)
        node.inputs = inputs
        for v in inputs:
            if v is not None:
                v._used_by(node)

    def set_outputs(self, node: Node, outputs: Sequence[Value | None]) -> None:
        """Change which values a node makes; values that it no longer makes must be unread."""
        old, new = node.outputs, tuple(outputs)
        for o in old:
            if o is not None and o.uses and not any(o is v for v in new):
                raise ModelError(f"{node.place}: its output '{o.name}' is still read", rule="edit-outputs")

        def write(outs: tuple[Value | None, ...]) -> None:
            for o in node.outputs:
                if o is not None:
                    o.producer = None
            node.outputs = outs
            for o in outs:
                if o is not None:
                    o.producer = node

        write(new)
        self._note("set_outputs", node.place, lambda: write(old))

    def set_attribute(self, node: Node, name: str, value: Any) -> None:
        """Write an attribute; None takes it away."""
        before = dict(node.attributes)
        if value is None:
            node.attributes.pop(name, None)
        else:
            node.attributes[name] = new = attribute(value)
            for g in _graphs_of(new):
                g.parent = node

        def back() -> None:
            # All of them, because one put back alone would stand behind the others.
            node.attributes.clear()
            node.attributes.update(before)
            for a in before.values():
                for g in _graphs_of(a):
                    g.parent = node

        self._note(f"set_attribute {name}", node.place, back)

    def set_op(self, node: Node, op_type: str, domain: str | None = None) -> None:
        """Change which operator a node applies."""
        old = (node.op_type, node.domain)
        node.op_type, node.domain = op_type, node.domain if domain is None else domain

        def back() -> None:
            node.op_type, node.domain = old

        self._note("set_op", node.place, back)

    # Values

    def replace(self, old: Value, new: Value, *, keep_name: bool = True) -> None:
        """Let everyone who reads `old` read `new`: nodes at any depth, and graph outputs.

        A graph output keeps its name: `new` takes it over where `old` was given out (unless `new` is an input, an
        initializer or an output itself, whose names are promises too).
        """
        if old is new:
            return
        taken = dict(old.uses)
        names = (old.name, new.name)
        swaps: list[tuple[Node | Graph, Any]] = []
        for user in taken:
            if isinstance(user, Node):
                swaps.append((user, user.inputs))
                self._write_inputs(user, tuple(new if v is old else v for v in user.inputs))
            else:
                swaps.append((user, list(user.outputs)))
                _write_outputs(user, [new if v is old else v for v in user.outputs])
        if keep_name and any(isinstance(u, Graph) for u in taken) and new.producer is not None \
                and not any(isinstance(u, Graph) and u not in taken for u in new.uses):
            new.name, old.name = old.name, ""

        def back() -> None:
            for user, before in reversed(swaps):
                if isinstance(user, Node):
                    self._write_inputs(user, before)
                else:
                    _write_outputs(user, before)
            old.name, new.name = names

        self._note(f"replace {names[0]} by {names[1] or 'a new value'}", old.producer.place if old.producer else "",
                   back)

    def set_type(self, value: Value, type: Type | None) -> None:
        """Write what is known of a value's type."""
        old = value.type
        value.type = type

        def back() -> None:
            value.type = old

        self._note("set_type", value.name, back)

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name."""
        old = value.name
        value.name = name

        def back() -> None:
            value.name = old

        self._note(f"rename {old} to {name}", name, back)

    def set_constant(self, value: Value, constant: Tensor | SparseTensor | None) -> None:
        """Change the tensor of an initializer."""
        old = value.constant
        value.constant = constant

        def back() -> None:
            value.constant = old

        self._note("set_constant", value.name, back)

    # Graphs

    def add_initializer(self, graph: Graph, tensor: Tensor, name: str = "") -> Value:
        """A new initializer of `graph`."""
        value = graph.add_initializer(tensor, name)

        def back() -> None:
            del graph.initializers[value]
            value.owner = None

        self._note("add_initializer", value.name, back)
        return value

    def drop_initializer(self, value: Value) -> None:
        """Take away an initializer that nobody reads."""
        graph = value.owner
        if graph is None or value not in graph.initializers:
            raise ModelError(f"'{value.name}' is no initializer", rule="edit-drop")
        if value.uses:
            raise ModelError(f"the initializer '{value.name}' is still read by {next(iter(value.uses)).place}",
                             rule="edit-drop", advice="replace it first")
        # A dict cannot insert in the middle, so the first drop in a graph writes down everyone's rank.
        ranks = self._ranks.setdefault(graph, {})
        if value not in ranks:
            base = len(ranks)
            ranks.update((v, base + i) for i, v in enumerate(graph.initializers) if v not in ranks)
        del graph.initializers[value]
        value.owner = None

        def back() -> None:
            value.owner = graph
            last = len(ranks)
            graph.initializers = dict.fromkeys(
                sorted([*graph.initializers, value], key=lambda v: ranks.get(v, last)))

        self._note("drop_initializer", value.name, back)

    def set_graph_inputs(self, graph: Graph, inputs: Sequence[Value]) -> None:
        """Change what a graph takes."""
        def write(values: list[Value]) -> None:
            for v in graph.inputs:
                if v not in graph.initializers:
                    v.owner = None
            graph.inputs = values
            for v in values:
                v.owner = graph

        old = list(graph.inputs)
        write(list(inputs))
        self._note("set_graph_inputs", graph.place, lambda: write(old))

    def set_graph_outputs(self, graph: Graph, outputs: Sequence[Value]) -> None:
        """Change what a graph gives out."""
        old = list(graph.outputs)
        _write_outputs(graph, list(outputs))
        self._note("set_graph_outputs", graph.place, lambda: _write_outputs(graph, old))

    def add_function(self, function: Function) -> None:
        """Add a model-local function, or replace the one of the same key."""
        model = self._model()
        old = model.functions.get(function.key)
        model.functions[function.key] = function

        def back() -> None:
            if old is None:
                del model.functions[function.key]
            else:
                model.functions[function.key] = old

        self._note("add_function", function.place, back)

    def drop_function(self, function: Function) -> None:
        """Take away a model-local function; that nobody calls it is the caller's to know."""
        model = self._model()
        before = dict(model.functions)
        del model.functions[function.key]

        def back() -> None:
            model.functions = before

        self._note("drop_function", function.place, back)

    def set_opset(self, domain: str, version: int | None, function: Function | None = None) -> None:
        """Change the version of a domain that the model (or a function) imports; None takes the import away."""
        opsets = function.opsets if function is not None else self._model().opsets
        old = opsets.get(domain)

        def write(v: int | None) -> None:
            if v is None:
                opsets.pop(domain, None)
            else:
                opsets[domain] = v

        write(version)
        self._note(f"set_opset {domain or 'ai.onnx'} {version}", "", lambda: write(old))

    def _model(self) -> Model:
        if not isinstance(self.target, Model):
            raise ModelError("this edit was opened on a graph, not on a model", rule="edit-target")
        return self.target


def _put(graph: Graph, node: Node, mark: Node | None) -> None:
    if mark is None:
        graph.append(node)
    else:
        graph._insert_before(mark, node)


def _write_outputs(graph: Graph, outputs: list[Value]) -> None:
    for v in graph.outputs:
        v._unused_by(graph)
    graph.outputs = outputs
    for v in outputs:
        v._used_by(graph)


def _inside(node: Node) -> Iterator[Graph]:
    pending = list(node.subgraphs())
    while pending:
        g = pending.pop()
        yield g
        pending.extend(s for n in g.nodes for s in n.subgraphs())
