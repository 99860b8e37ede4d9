"""A graph made ready to run: every node resolved to its rule, every value given its last reader.

Planning looks at each node once. It refuses what could only fail later (a value read before it is made, functions that
call each other in a circle) and collects every operator that has no reference rule, so that all are told together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.inference.driver import DEEPEST
from gesher.ir import Function, Graph, Model, Node, Value
from gesher.ops import resolve
from gesher.ops.calls import FunctionTable, called, function_table
from gesher.ops.rules import attributes_of
from gesher.ops.schema import Input, Operator, Rule, Schema

from .fitting import Fitting


class Step:
    """One node of a plan.

    Attributes:
        node: the node.
        inputs: what it reads, without the optional ones left out at the end.
        frees: values that nobody reads after it.
        function: the model-local function that it calls, or None.
        operator, schema, rule: else, what it applies.
        attributes: by name, defaults filled in; None where they hang on the calling node's.
        made: what the schema demands of each output.
        fitting: holds what reaches the node to what the operator takes.
        kept: what its rule keeps from run to run; None where `attributes` is.
    """

    __slots__ = ("attributes", "fitting", "frees", "function", "inputs", "kept", "made", "node", "operator", "rule",
                 "schema")

    def __init__(self, node: Node, function: Function | None, found: tuple[Operator, Schema, Rule] | None):
        self.node, self.function = node, function
        inputs = node.inputs
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        self.inputs: tuple[Value | None, ...] = inputs
        self.frees: tuple[Value, ...] = ()
        self.operator: Operator | None = None
        self.schema: Schema | None = None
        self.rule: Rule | None = None
        self.attributes: dict[str, Any] | None = None
        self.kept: dict[Any, Any] | None = None
        self.made: tuple[Made, ...] = ()
        self.fitting: Fitting | None = None
        if found is not None:
            self.operator, self.schema, self.rule = found
            if not any(a.ref for a in node.attributes.values()):
                self.attributes, self.kept = attributes_of(node, self.schema), {}
            self.made = tuple(Made(self.schema, i) for i in range(len(node.outputs)))
            self.fitting = Fitting(node, self.operator, self.schema)


class Made:
    """What a schema demands of one output.

    Attributes:
        formal: its declaration.
        allowed: the numpy types that a tensor there may have.
        like: inputs that have the same type variable.
    """

    __slots__ = ("allowed", "formal", "like")

    def __init__(self, schema: Schema, index: int):
        self.formal: Input = schema.output(index)
        self.allowed = _numpy_types(schema.allowed(self.formal.type))
        shared = self.formal.type in schema.types and (self.formal.homogeneous or not self.formal.variadic)
        self.like: tuple[int, ...] = tuple(
            i for i, f in enumerate(schema.inputs)
            if shared and f.type == self.formal.type and (f.homogeneous or not f.variadic))


_NUMPY_TYPES: dict[frozenset[str], frozenset[np.dtype[Any]]] = {}


def _numpy_types(types: frozenset[str]) -> frozenset[np.dtype[Any]]:
    found = _NUMPY_TYPES.get(types)
    if found is None:
        names = {t[7:-1] if t.startswith("tensor(") else t[16:-2] if t.startswith("optional(tensor(") else ""
                 for t in types}
        found = frozenset(dtypes.BY_NAME[n].numpy for n in names if n in dtypes.BY_NAME)
        _NUMPY_TYPES[types] = found
    return found


class Plan:
    """A graph's steps, its constants, and the values that it captures from the graphs around it."""

    __slots__ = ("_constants", "captures", "graph", "steps")

    def __init__(self, graph: Graph, steps: list[Step], captures: tuple[Value, ...]):
        self.graph, self.steps, self.captures = graph, steps, captures
        self._constants: dict[Value, np.ndarray[Any, Any]] | None = None

    @property
    def constants(self) -> dict[Value, np.ndarray[Any, Any]]:
        """The initializers as read-only arrays, made when first asked for."""
        if self._constants is None:
            self._constants = {v: read_only(v.constant.numpy()) for v in self.graph.initializers
                               if v.constant is not None}
        return self._constants


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A view that a rule cannot write to by mistake."""
    view = array.view()
    view.flags.writeable = False
    return view


def make_plans(model: Model, own: Mapping[Node, dict[str, int]] | None = None) -> dict[Graph, Plan]:
    """A plan for the main graph and for everything that can be reached from it.

    Args:
        own: imports of single nodes, where those of the graph they stand in do not hold for them.

    Raises:
        UnsupportedError: naming all operators that have no reference rule, at once.
        ModelError: values read before they are made, recursive functions, unresolvable operators.
    """
    functions = function_table(model.functions.values())
    missing: dict[str, str] = {}
    steps: dict[Graph, list[Step]] = {}
    order: list[Graph] = []
    pending: list[tuple[Graph, int]] = [(model.graph, 0)]
    while pending:
        graph, depth = pending.pop()
        if graph in steps:
            continue
        if depth > DEEPEST:
            raise ModelError(f"graphs are nested deeper than {DEEPEST} levels", rule="nesting-depth",
                             place=(model.place, graph.place), advice="flatten them")
        order.append(graph)
        opsets = model.opsets_of(graph)
        steps[graph] = made = []
        for node in graph.nodes:
            function = called(node, functions)
            held = opsets if own is None else own.get(node, opsets)
            made.append(Step(node, function, None if function else _found(node, held, graph, model, missing)))
            pending.extend((g, depth + 1) for g in node.subgraphs())
            if function is not None:
                pending.append((function, 0))
    if missing:
        raise UnsupportedError(
            f"the reference cannot run {len(missing)} of the model's operators: {', '.join(sorted(missing))}",
            who="reference", place=(model.place,), advice="\n  ".join(f"{k}: {missing[k]}" for k in sorted(missing)))
    _refuse_recursion(model, steps, functions)
    plans: dict[Graph, Plan] = {}
    # Inner graphs were met after their outer ones; what they capture, their node reads.
    for graph in reversed(order):
        plans[graph] = _planned(graph, steps[graph], plans, model)
    return plans


def _found(node: Node, opsets: dict[str, int], graph: Graph, model: Model, missing: dict[str, str]
           ) -> tuple[Operator, Schema, Rule] | None:
    name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    try:
        operator, schema = resolve(node, opsets)
    except UnsupportedError as e:
        missing.setdefault(name, e.what)
        return None
    except ModelError as e:
        e.within(model.place, graph.place)
        raise
    rule = operator.rule("reference", schema.version)
    if rule is None:
        missing.setdefault(f"{name} (opset {schema.version})", "it has no reference rule")
        return None
    return operator, schema, rule


def _planned(graph: Graph, steps: list[Step], plans: dict[Graph, Plan], model: Model) -> Plan:
    """Set what each step frees, and find what the graph captures."""
    made: set[Value] = {*graph.inputs, *graph.initializers}
    captures: dict[Value, None] = {}
    last: dict[Value, int] = {}

    def read(value: Value, at: int, reader: str) -> None:
        if value in made:
            last[value] = at
        elif value.graph is graph or value.graph is None or graph.parent is None:
            raise ModelError(f"it reads '{value.name}' before anything has made it", rule="node-order",
                             place=(model.place, graph.place, reader),
                             advice="nodes must stand behind those whose outputs they read")
        else:
            captures[value] = None

    for at, step in enumerate(steps):
        for v in step.inputs:
            if v is not None:
                read(v, at, step.node.place)
        for inner in step.node.subgraphs():
            for v in plans[inner].captures:
                read(v, at, step.node.place)
        for o in step.node.outputs:
            if o is not None:
                made.add(o)
                last.setdefault(o, at)
    kept = set(graph.outputs)
    for o in graph.outputs:
        if o not in made:
            read(o, len(steps), f"output '{o.name}'")
    frees: dict[int, list[Value]] = {}
    for value, at in last.items():
        if value not in kept and value not in graph.initializers and at < len(steps):
            frees.setdefault(at, []).append(value)
    for at, values in frees.items():
        steps[at].frees = tuple(values)
    return Plan(graph, steps, tuple(captures))


def _refuse_recursion(model: Model, steps: dict[Graph, list[Step]], functions: FunctionTable) -> None:
    """Refuse functions that call themselves, over others or from inner graphs too."""
    if not functions:
        return

    def callees(graph: Graph) -> Iterator[Function]:
        pending = [graph]
        while pending:
            for step in steps.get(pending.pop(), ()):
                if step.function is not None:
                    yield step.function
                pending.extend(step.node.subgraphs())

    done: set[Function] = set()
    active: set[Function] = set()
    stack: list[tuple[Function | None, Iterator[Function]]] = [(None, callees(model.graph))]
    while stack:
        function, rest = stack[-1]
        callee = next(rest, None)
        if callee is None:
            stack.pop()
            if function is not None:
                active.discard(function)
                done.add(function)
        elif callee in active:
            raise ModelError(f"{callee.place} calls itself", rule="function-recursion",
                             place=(model.place, (function or model.graph).place),
                             advice="a model's functions must not be recursive")
        elif callee not in done:
            active.add(callee)
            stack.append((callee, callees(callee)))
