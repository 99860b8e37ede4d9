"""The way from independent values to a value y: which nodes make it, and running them forward to be differentiated.

`find_way` looks values up by their names, as Gradient names them, and walks from y back. `Forward` then takes the nodes
one by one. What a reader would guess wrong:

- Forward runs in two manners. With a `Run` every value has its numbers, made by the reference rules, and only what
  hangs on an x is an expression too; so conditions and trip counts are known, and Ifs, Loops and Scans unrolled.
  Without one, while a model is compiled, every value is an expression, and only what is known beforehand is unrolled.
- A name that several values carry is refused: guessing could differentiate the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.ir import Attribute, Function, Graph, Node, SparseTensor, Tensor, Value
from gesher.ops.calls import bind, bindings_of, called
from gesher.ops.rules import Run, Site, attributes_of, run_node
from gesher.ops.rules import resolve as resolve_node
from gesher.ops.schema import Operator, Schema
from gesher.primitives import Builder, CannotLower, Expr

# Turns of a loop that are put one behind the other while compiling.
_MOST_TURNS = 256


@dataclass(frozen=True, slots=True)
class Way:
    """The nodes that make `y` from the independent values (those named in xs, then in zs), in order."""

    independent: tuple[Value, ...]
    y: Value
    nodes: tuple[Node, ...]


def _refuse(what: str, advice: str | None = None) -> ModelError:
    return ModelError(f"Gradient: {what}", rule="gradient", advice=advice)


def find_way(node: Node, names: Sequence[str], y: str) -> Way:
    """The way from the values that `names` name to `y`, in the graph that `node` stands in and those around it.

    Raises:
        ModelError: a name is unknown or ambiguous, or y hangs on an input that is not named.
    """
    if node.graph is None:
        raise _refuse("it stands in no graph, so the names in its attributes mean nothing")
    if len(set(names)) != len(names):
        raise _refuse(f"a name comes twice in {', '.join(names)}", "each independent value is named once, in xs or zs")
    named = _names(node.graph, {*names, y})
    independent = tuple(named[n] for n in names)
    stops, order, pending = set(independent), dict[Node, None](), [(named[y], False)]
    while pending:
        value, ready = pending.pop()
        made_by = value.producer
        if value in stops or made_by in order:
            continue
        if made_by is None:
            if value.constant is None or value.is_input:
                raise _refuse(f"'{y}' hangs on '{value.name}', which is neither in xs nor in zs",
                              f"name '{value.name}' in zs, and give the node its value")
            continue
        if made_by is node:
            raise _refuse(f"'{y}' hangs on the gradient itself")
        if ready:
            order[made_by] = None
            continue
        pending.append((value, True))
        pending.extend((v, False) for v in (*made_by.inputs, *captured(made_by)) if v is not None)
    return Way(independent, named[y], tuple(order))


def _names(graph: Graph, wanted: set[str]) -> dict[str, Value]:
    """The values that names mean in a graph: its own, else those of the graphs around it."""
    found: dict[str, Value] = {}
    here: Graph | None = graph
    while here is not None:
        own: dict[str, Value] = {}
        for value in (*here.inputs, *here.initializers, *(o for n in here.nodes for o in n.outputs if o is not None)):
            if value.name in wanted and value.name not in found and own.setdefault(value.name, value) is not value:
                raise _refuse(f"'{value.name}' names two values", "rename one of them")
        found.update(own)
        here = here.parent.graph if here.parent is not None else None
    missing = sorted(wanted - found.keys())
    if missing:
        raise _refuse(f"the graph has no value '{missing[0]}'", "xs, zs and y name values of the graph it stands in")
    return found


def read_by_name(node: Node) -> list[Value]:
    """The value that a node needs though it is none of its inputs: the y of a Gradient. Whoever looks for dead nodes
    must ask; a name that means nothing gives an empty list."""
    if node.op_type != "Gradient" or node.domain != "ai.onnx.preview.training" or node.graph is None:
        return []
    y = node.attr("y")
    try:
        return [_names(node.graph, {y})[y]] if isinstance(y, str) else []
    except ModelError:
        return []


def captured(node: Node) -> list[Value]:
    """What the graphs inside a node read from around it."""
    own: set[Value] = set()
    read: dict[Value, None] = {}
    pending = list(node.subgraphs())
    while pending:
        graph = pending.pop()
        own.update((*graph.inputs, *graph.initializers))
        for inner in graph.nodes:
            own.update(o for o in inner.outputs if o is not None)
            read.update(dict.fromkeys(v for v in inner.inputs if v is not None))
            pending.extend(inner.subgraphs())
        read.update(dict.fromkeys(graph.outputs))
    return [v for v in read if v not in own]


@dataclass(slots=True)
class Held:
    """A value on the way: its numbers (where there is a run), and its expression (where something flows through it)."""

    numbers: Any = None
    expr: Expr | None = None


class _NoDice:
    """Drawing again would give other numbers than those that y was made with."""

    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError("Gradient: random numbers are drawn on the way to y", who="reference",
                               advice="name what they make in xs or zs, or give the operator a seed")


class Forward:
    """Runs nodes forward, from what is held of the independent values.

    Args:
        p: where expressions are made.
        resolve: what a node of the outermost graph means.
        run: of the Gradient node; None while compiling.
    """

    def __init__(self, p: Builder, resolve: Callable[[Node], tuple[Operator, Schema]], run: Run | None = None):
        self.p, self.resolve, self.run = p, resolve, run
        self.env: dict[Value, Held] = {}
        self.bindings: Mapping[str, Attribute] | None = None
        self.functions = {} if run is None else run.functions
        self.opsets = {} if run is None else run.opsets

    def go(self, way: Way, held: Sequence[Held]) -> Held:
        """What is held of y.

        Raises:
            CannotLower: something that must be an expression cannot be one.
            UnsupportedError: something on the way cannot be run again.
        """
        self.env.update(zip(way.independent, held))
        with self._in_between():
            for node in way.nodes:
                self._node(node)
        return self._of(way.y)

    def through(self, graph: Graph, held: Sequence[Held]) -> list[Held]:
        """What is held of a graph's outputs, from what is held of its inputs. It must capture nothing.

        Raises:
            CannotLower, UnsupportedError: see `go`.
        """
        with self._in_between():
            return self._body(graph, held)

    @contextmanager
    def _in_between(self) -> Iterator[None]:
        """While other nodes are lowered, the builder is told of them; afterwards again of the one around."""
        kept = self.p.site, self.p.outputs, self.p.version
        try:
            yield
        finally:
            self.p.site, self.p.outputs, self.p.version = kept

    # Values

    def _of(self, value: Value) -> Held:
        held = self.env.get(value)
        if held is None:
            constant = value.constant
            if constant is None:
                raise _refuse(f"'{value.name}' is read before it is made")
            held = self.env[value] = self._constant(constant)
        return held

    def _inputs(self, node: Node) -> list[Held | None]:
        """What is held of a node's inputs; None for those left out, by it or by a call around it."""
        held = [None if v is None else self._of(v) for v in node.inputs]
        return [None if h is None or (h.expr is None and h.numbers is None) else h for h in held]

    def _constant(self, constant: Tensor | SparseTensor | np.ndarray[Any, Any]) -> Held:
        if self.run is not None:
            return Held(constant if isinstance(constant, np.ndarray) else constant.numpy())
        tensor = constant if isinstance(constant, (Tensor, np.ndarray)) else constant.numpy()
        if isinstance(tensor, Tensor) and tensor.dtype is dtypes.STRING:
            raise CannotLower(f"'{tensor.name}' holds strings")
        return Held(expr=self.p.constant(tensor))

    def _expr(self, held: Held) -> Expr:
        if held.expr is not None:
            return held.expr
        if not isinstance(held.numbers, np.ndarray) or held.numbers.dtype == object:
            raise CannotLower("sequences, maps, optionals and strings are no expressions")
        return self.p.constant(held.numbers)

    def _known(self, held: Held, what: str) -> Any:
        """The one number of a value that decides what is run."""
        numbers = held.numbers if self.run is not None else self.p.known(held.expr)
        if numbers is None or numbers.dtype == object or numbers.size != 1:
            raise CannotLower(f"{what} is not known before the run")
        return numbers.reshape(-1)[0]

    # Nodes

    def _node(self, node: Node) -> None:
        node = self._bound(node)
        function = called(node, self.functions)
        if function is not None:
            self._call(node, function)
            return
        operator, schema = self.resolve(node)
        unrolled = _UNROLLED.get(node.op_type) if operator.domain == "" else None
        if unrolled is not None and not (node.op_type == "Scan" and schema.version < 9):
            results = unrolled(self, node, attributes_of(node, schema))
        else:
            results = self._applied(node, operator, schema)
        for value, held in zip(node.outputs, results):
            if value is not None:
                self.env[value] = held

    def _bound(self, node: Node) -> Node:
        if self.bindings is None and any(a.ref for a in node.attributes.values()):
            raise UnsupportedError("Gradient: a node on the way has attributes that a call of its function gives",
                                   who="reference", place=(node.place,), advice="put the function's nodes in place")
        return bind(node, self.bindings)

    def _call(self, node: Node, function: Function) -> None:
        inputs = self._inputs(node)
        kept = self.resolve, self.bindings, self.opsets
        self.bindings, self.opsets = bindings_of(node, function), function.opsets
        self.resolve = lambda inner: resolve_node(inner, function.opsets)
        for i, formal in enumerate(function.inputs):
            given = inputs[i] if i < len(inputs) else None
            # None stands for an input that the call leaves out.
            self.env[formal] = Held() if given is None else given
        for inner in function.nodes:
            self._node(inner)
        self.resolve, self.bindings, self.opsets = kept
        for value, result in zip(node.outputs, function.outputs):
            if value is not None:
                self.env[value] = self._of(result)

    def _applied(self, node: Node, operator: Operator, schema: Schema) -> list[Held]:
        held = self._inputs(node)
        if self.run is None:
            return [Held(expr=e) for e in self._lowered(node, operator, schema, held)]
        numbers = self._numbers(node, operator, schema, held)
        flows = node.op_type not in _BY_SHAPE and any(h is not None and h.expr is not None for h in held)
        if any(self.env[v].expr is not None for v in captured(node) if v in self.env):
            raise CannotLower(f"what is differentiated flows into a graph inside {operator.name}")
        if not flows or all(_is_discrete(x) for x in numbers):
            return [Held(x) for x in numbers]
        exprs = self._lowered(node, operator, schema, held)
        return [Held(x, None if _is_discrete(x) else e) for x, e in zip(numbers, exprs)]

    def _numbers(self, node: Node, operator: Operator, schema: Schema, held: Sequence[Held | None]) -> list[Any]:
        assert self.run is not None
        outer = self.run
        run = Run(node, schema, run_graph=self._run_graph, random=_NoDice(),  # type: ignore[arg-type]
                  budget=outer.budget, opsets=self.opsets, functions=outer.functions)
        made = run_node(node, operator, schema, [None if h is None else h.numbers for h in held], run)
        return [np.asarray(x) if isinstance(x, (np.generic, int, float)) else x for x in made]

    def _run_graph(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        return [h.numbers for h in self._body(graph, [Held(x) for x in inputs])]

    def _lowered(self, node: Node, operator: Operator, schema: Schema, held: Sequence[Held | None]) -> list[Expr]:
        rule = operator.rule("lower", schema.version)
        if rule is None:
            raise CannotLower(f"{operator.name} is no expression of primitives")
        p = self.p
        p.site, p.outputs, p.version = Site(node, self.resolve), len(node.outputs), schema.version
        result = rule.function(p, *(None if h is None else self._expr(h) for h in held), **attributes_of(node, schema))
        return list(result) if isinstance(result, (tuple, list)) else [result]

    # Graphs in nodes

    def _body(self, graph: Graph, inputs: Sequence[Held]) -> list[Held]:
        self.env.update(zip(graph.inputs, inputs))
        for inner in graph.nodes:
            self._node(inner)
        return [self._of(o) for o in graph.outputs]

    def _if(self, node: Node, a: Mapping[str, Any]) -> list[Held]:
        condition = node.inputs[0]
        assert condition is not None
        taken = bool(self._known(self._of(condition), "which branch of an If is taken"))
        return self._body(a["then_branch" if taken else "else_branch"], [])

    def _loop(self, node: Node, a: Mapping[str, Any]) -> list[Held]:
        given = self._inputs(node)
        most, condition = (given[i] if i < len(given) else None for i in range(2))
        carried = [h for h in given[2:] if h is not None]
        limit = None if most is None else int(self._known(most, "how often a Loop runs"))
        goes_on = condition is None or bool(self._known(condition, "whether a Loop runs"))
        body, turn = a["body"], 0
        piles: list[list[Held]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
        while goes_on and (limit is None or turn < limit):
            if self.run is None and turn >= _MOST_TURNS:
                raise CannotLower(f"a Loop of more than {_MOST_TURNS} turns is not unrolled")
            results = self._body(body, [self._constant(np.array(turn, np.int64)), self._constant(np.array(True)),
                                        *carried])
            carried = results[1:1 + len(carried)]
            for pile, item in zip(piles, results[1 + len(carried):]):
                pile.append(item)
            goes_on = condition is None or bool(self._known(results[0], "whether a Loop goes on"))
            turn += 1
        return [*carried, *self._stacked(node, piles, [0] * len(piles), len(carried))]

    def _scan(self, node: Node, a: Mapping[str, Any]) -> list[Held]:
        given = [self._of(v) for v in node.inputs if v is not None]
        count = a["num_scan_inputs"]
        states, scanned, body = given[:-count], given[-count:], a["body"]
        axes, backward = (a[k] or [0] * count for k in ("scan_input_axes", "scan_input_directions"))
        length = self._size(scanned[0], axes[0])
        if self.run is None and length > _MOST_TURNS:
            raise CannotLower(f"a Scan of more than {_MOST_TURNS} turns is not unrolled")
        outputs = len(body.outputs) - len(states)
        piles: list[list[Held]] = [[] for _ in range(outputs)]
        for t in range(length):
            slices = [self._slice(h, axis, length - 1 - t if back else t)
                      for h, axis, back in zip(scanned, axes, backward)]
            results = self._body(body, [*states, *slices])
            states = results[:len(states)]
            for pile, item in zip(piles, results[len(states):]):
                pile.append(item)
        out_axes, out_back = (a[k] or [0] * outputs for k in ("scan_output_axes", "scan_output_directions"))
        piles = [pile[::-1] if back else pile for pile, back in zip(piles, out_back)]
        return [*states, *self._stacked(node, piles, out_axes, len(states))]

    def _size(self, held: Held, axis: int) -> int:
        size = held.numbers.shape[axis] if self.run is not None else self._expr(held).shape[axis]
        if not isinstance(size, int):
            raise CannotLower("how often a Scan runs is not known before the run")
        return size

    def _slice(self, held: Held, axis: int, at: int) -> Held:
        numbers = None if self.run is None else np.take(held.numbers, at, axis)
        if held.expr is None:
            return Held(numbers)
        return Held(numbers, self.p.squeeze(self.p.take(held.expr, axis, at, at + 1), [axis]))

    def _stacked(self, node: Node, piles: Sequence[list[Held]], axes: Sequence[int], before: int) -> list[Held]:
        """Items side by side along a new axis; `before` counts the node's outputs in front of them."""
        if any(not pile for pile in piles):
            if self.run is None:
                raise CannotLower(f"what {node.op_type} gives without a turn")
            # Without a turn nothing flows; only what is empty of what, must be told.
            operator, schema = self.resolve(node)
            empty = self._numbers(node, operator, schema, self._inputs(node))
            return [Held(x) for x in empty[before:]]
        made = []
        for pile, axis in zip(piles, axes):
            numbers = None if self.run is None else np.stack([h.numbers for h in pile], axis)
            expr = None
            if any(h.expr is not None for h in pile):
                items = [self._expr(h) for h in pile]
                axis = axis + items[0].rank + 1 if axis < 0 else axis
                expr = self.p.concat([self.p.expand_dims(x, [axis]) for x in items], axis)
            made.append(Held(numbers, expr))
        return made


# They ask their input for its shape only, so nothing flows through them.
_BY_SHAPE = frozenset(("EyeLike", "RandomNormalLike", "RandomUniformLike"))


def _is_discrete(x: Any) -> bool:
    """Whether it is a tensor through which nothing can flow, of integers, bools or strings; not sequences."""
    if not isinstance(x, np.ndarray):
        return False
    return x.dtype == object or dtypes.from_numpy(x.dtype).kind in ("int", "uint", "bool", "string")


_UNROLLED: dict[str, Callable[[Forward, Node, Mapping[str, Any]], list[Held]]] = {
    "If": Forward._if, "Loop": Forward._loop, "Scan": Forward._scan}
