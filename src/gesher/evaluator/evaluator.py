"""`Evaluator`: runs a model node by node with the reference rules. Slow and plain; the answer that others are held to.

What a reader would guess wrong:

- Every run with the same seed gives the same random numbers; the generator starts anew with each run.
- Values are freed when their last reader has run, so a run needs little more memory than the widest place of the graph.
- Feeds and weights reach the rules as read-only arrays; what a run gives out can be written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base.errors import GesherError, RunError
from gesher.base.knobs import BUDGET_MB
from gesher.ir import Attribute, Function, Graph, Kind, Model, Node, Value
from gesher.ops import Run
from gesher.ops.calls import bind, bindings_of
from gesher.ops.rules import attributes_of

from .feeds import Feeds, unknown_names
from .fitting import hold_results, told_of
from .plan import Made, Plan, Step, make_plans
from .tables import layout_of

OnValue = Callable[[Node, int, Any], None]
Env = dict[Value, Any]


class Evaluator:
    """Runs one model.

    Args:
        model: the model; it must not be edited while the evaluator is in use.
        budget: the largest tensor, in bytes, that a rule may make (default: `GESHER_BUDGET_MB`).
        seed: of the random operators.
        opsets: imports of single nodes, where those of the graph they stand in do not hold for them.

    Raises:
        UnsupportedError: operators without a reference rule, all of them named at once.
        ModelError: values are read before they are made, functions are recursive.

    >>> from gesher.base.dtypes import FLOAT
    >>> from gesher.ir import Graph, Node, TensorType
    >>> graph = Graph("main")
    >>> x = graph.add_input("x", TensorType(FLOAT, ()))
    >>> graph.add_output(x)
    >>> Evaluator(Model(graph, opsets={"": 21})).run({"x": 2.0})
    {'x': array(2., dtype=float32)}
    """

    def __init__(self, model: Model, *, budget: int | None = None, seed: int = 0,
                 opsets: Mapping[Node, dict[str, int]] | None = None):
        self.model, self.seed = model, seed
        self.budget = BUDGET_MB.number << 20 if budget is None else budget
        self._plans = make_plans(model, opsets)
        self._feeds = Feeds(model.graph, model.ir_version, layout_of(model))
        self._named: dict[str, Value] | None = None

    @property
    def inputs(self) -> list[str]:
        """The names that must be fed."""
        return list(self._feeds.required)

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        return [v.name for v in self.model.graph.outputs]

    @property
    def graphs(self) -> list[Graph]:
        """The main graph and all that can be reached from it: bodies and functions."""
        return list(self._plans)

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None,
            on_value: OnValue | None = None) -> dict[str, Any]:
        """Run the model; gives its outputs by name, in their order.

        Args:
            feeds: an array for each input by name (a list for a sequence, a dict for a map, None for an empty
                optional). Inputs that have an initializer may be left out.
            outputs: names of values of the main graph to give out, intermediate ones too (default: its outputs).
            on_value: called with (node, index of the output, value) for everything that a node makes, in order, inside
                functions and nested graphs too.

        Raises:
            RunError: the feeds do not fit, or a node failed.
        """
        wanted = self.model.graph.outputs if outputs is None else self._wanted(outputs)
        try:
            env = self._feeds.check(feeds)
            results = Running(self, on_value).run(self._plans[self.model.graph], env, wanted)
        except GesherError as e:
            e.within(self.model.place)
            raise
        return {v.name or f"output_{i}": _given_out(r) for i, (v, r) in enumerate(zip(wanted, results))}

    def values(self, feeds: Mapping[str, Any], wanted: Sequence[Value]) -> list[Any]:
        """As `run`, but gives any values of the main graph, by identity instead of by name."""
        return Running(self, None).run(self._plans[self.model.graph], self._feeds.check(feeds), wanted)

    def run_node(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        """Run one node of the model's opsets on `inputs` (arrays, None for those left out).

        Raises:
            RunError: it failed. UnsupportedError: it has no reference rule.
        """
        return run_node(node, inputs, self.model.opsets, budget=self.budget, seed=self.seed)

    def _wanted(self, names: Sequence[str]) -> list[Value]:
        if self._named is None:
            graph = self.model.graph
            self._named = {v.name: v for v in (*graph.initializers, *graph.inputs)}
            self._named.update((o.name, o) for n in graph.nodes for o in n.outputs if o is not None)
        unknown = unknown_names(names, self._named)
        if unknown:
            raise RunError(f"the graph has no value {', '.join(repr(n) for n in unknown)}", place=(self.model.place,),
                           advice=f"its outputs are {', '.join(self.outputs)}")
        return [self._named[n] for n in names]


def run_node(node: Node, inputs: Sequence[Any], opsets: dict[str, int], *, budget: int | None = None,
             seed: int = 0) -> list[Any]:
    """Run one node alone; its nested graphs must capture nothing.

    Raises:
        RunError: it failed. UnsupportedError: it has no reference rule.

    >>> run_node(Node("Identity"), [np.float32(2)], {"": 21})
    [array(2., dtype=float32)]
    """
    # Values that only this run knows, so that the node's own are not touched.
    values = [None if x is None else Value(v.name if v is not None else "") for x, v in
              zip(inputs, (*node.inputs, *[None] * len(inputs)))]
    graph = Graph("run_node", [v for v in values if v is not None])
    copy = object.__new__(Node)
    for slot in Node.__slots__:
        setattr(copy, slot, getattr(node, slot))
    copy.inputs, copy.graph, copy.prev, copy.next = tuple(values), graph, None, None
    graph.first = graph.last = copy
    model = Model(graph, opsets=opsets)
    evaluator = Evaluator(model, budget=budget, seed=seed)
    env = {v: np.asarray(x) if isinstance(x, np.generic) else x for v, x in zip(values, inputs) if v is not None}
    wanted = [o for o in copy.outputs if o is not None]
    results = iter(Running(evaluator, None).run(evaluator._plans[graph], env, wanted))
    return [None if o is None else _given_out(next(results)) for o in copy.outputs]


class Frame:
    """A graph being run."""

    __slots__ = ("at", "bindings", "call", "closures", "env", "plan")

    def __init__(self, plan: Plan, env: Env, bindings: Mapping[str, Attribute] | None,
                 closures: dict[Graph, Frame] | None, call: Step | None = None):
        self.plan, self.env, self.bindings, self.call = plan, env, bindings, call
        # Graphs that a call hands to a function as attributes: they capture from the caller.
        self.closures = closures
        self.at = 0


class Running:
    """One run: its random numbers, its hook. Who computes nodes in another way overrides `applied` and `constants`."""

    def __init__(self, evaluator: Evaluator, on_value: OnValue | None):
        self.evaluator, self.on_value = evaluator, on_value
        self.plans, self.budget = evaluator._plans, evaluator.budget
        self.functions = evaluator.model.functions
        self.random = np.random.default_rng(evaluator.seed)
        self.kept: frozenset[Value] = frozenset()

    def run(self, plan: Plan, env: Env, wanted: Sequence[Value]) -> list[Any]:
        self.kept = frozenset(wanted)
        # What is fed wins over an initializer of the same input.
        env = {**self.constants(plan), **env}
        with np.errstate(all="ignore"):
            self._walk(Frame(plan, env, None, None))
        return [env[v] for v in wanted]

    def constants(self, plan: Plan) -> Mapping[Value, Any]:
        """The initializers of a graph."""
        return plan.constants

    def _walk(self, first: Frame) -> None:
        """Run a graph to its end. Calls of functions stand on a stack of ours, so they may nest deep."""
        stack = [first]
        while stack:
            frame = stack[-1]
            steps = frame.plan.steps
            while frame.at < len(steps):
                step = steps[frame.at]
                frame.at += 1
                if step.function is not None:
                    stack.append(self._called(step, step.function, frame))
                    break
                self._step(step, frame)
            else:
                stack.pop()
                if frame.call is not None:
                    self._finish(frame.call, [frame.env[o] for o in frame.plan.graph.outputs], stack[-1])

    def _step(self, step: Step, frame: Frame) -> None:
        env = frame.env
        inputs = [None if v is None else env[v] for v in step.inputs]
        try:
            results = self.applied(step, inputs, frame)
        except GesherError as e:
            if e.advice is None and not e.place:
                e.advice = told_of(inputs)
            _place(e, step.node, frame.plan.graph)
            raise
        except Exception as e:
            raise RunError(f"{step.node.op_type} failed: {type(e).__name__}: {e}",
                           place=(frame.plan.graph.place, step.node.place),
                           advice=told_of(inputs)) from e
        self._finish(step, results, frame)

    def applied(self, step: Step, inputs: list[Any], frame: Frame) -> list[Any]:
        """What a node that calls no function makes of its inputs: a value for each output."""
        assert step.rule is not None and step.schema is not None and step.fitting is not None
        node = step.node
        attributes = step.attributes
        if attributes is None:
            node = bind(node, frame.bindings)
            attributes = attributes_of(node, step.schema)
        told = step.fitting.hold(node, inputs, self.budget, step.attributes is not None)
        if step.rule.takes_run:
            def run_graph(graph: Graph, values: Sequence[Any]) -> list[Any]:
                return self.body(graph, values, frame)

            run = Run(node, step.schema, run_graph=run_graph, random=self.random, budget=self.budget,
                      opsets=self.evaluator.model.opsets_of(frame.plan.graph), functions=self.functions,
                      kept=step.kept)
            result = step.rule.function(*inputs, run=run, **attributes)
        else:
            result = step.rule.function(*inputs, **attributes)
        results = list(result) if isinstance(result, tuple) else [result]
        for i, (value, made) in enumerate(zip(node.outputs, step.made)):
            if value is not None:
                if i >= len(results):
                    raise RunError(f"the reference rule of {node.op_type} gives {len(results)} outputs, the node has "
                                   f"{len(node.outputs)}")
                results[i] = _settled(results[i], made, inputs, node.op_type)
        hold_results(told, results, node.op_type)
        return results

    def _finish(self, step: Step, results: list[Any], frame: Frame) -> None:
        env = frame.env
        for i, value in enumerate(step.node.outputs):
            if value is not None:
                env[value] = results[i]
                if self.on_value is not None:
                    self.on_value(step.node, i, results[i])
        for value in step.frees:
            if value not in self.kept:
                del env[value]

    def _called(self, step: Step, function: Function, frame: Frame) -> Frame:
        call = bind(step.node, frame.bindings)
        plan = self.plans[function]
        env: Env = dict(self.constants(plan))
        for i, value in enumerate(function.inputs):
            given = step.inputs[i] if i < len(step.inputs) else None
            env[value] = None if given is None else frame.env[given]
        closures = {g: frame for a in call.attributes.values() if a.kind in (Kind.GRAPH, Kind.GRAPHS)
                    for g in (a.value if a.kind == Kind.GRAPHS else (a.value,))}
        if closures and frame.closures:
            closures = {g: frame.closures.get(g, f) for g, f in closures.items()}
        return Frame(plan, env, bindings_of(call, function), closures or None, step)

    def body(self, graph: Graph, inputs: Sequence[Any], outer: Frame) -> list[Any]:
        """Run a nested graph. What it captures comes from the frame around it."""
        if outer.closures:
            outer = outer.closures.get(graph, outer)
        plan = self.plans[graph]
        if len(inputs) != len(graph.inputs):
            raise RunError(f"{graph.place} has {len(graph.inputs)} inputs, {len(inputs)} are given")
        env: Env = dict(self.constants(plan))
        for value in plan.captures:
            env[value] = outer.env[value]
        env.update(zip(graph.inputs, inputs))
        self._walk(Frame(plan, env, outer.bindings, outer.closures))
        return [env[o] for o in graph.outputs]


def _place(error: GesherError, node: Node, graph: Graph) -> None:
    # Rules that know their node name it themselves, some with its opset.
    named = bool(error.place) and error.place[0].startswith(node.place[:-1])
    error.within(*((graph.place,) if named else (graph.place, node.place)))


def _settled(result: Any, made: Made, inputs: Sequence[Any], op_type: str) -> Any:
    """`result` as the schema demands it; a rule that gives another type is at fault and is told so."""
    if isinstance(result, np.generic) or result.__class__ in (int, float, bool, complex, str):
        result = np.asarray(result)
    if isinstance(result, np.ndarray):
        if result.dtype.kind in "US":
            result = result.astype(object)
        expected = None
        for i in made.like:
            x = inputs[i] if i < len(inputs) else None
            if isinstance(x, np.ndarray):
                expected = x.dtype
                break
        if made.allowed and expected is not None and result.dtype == expected and result.dtype not in made.allowed:
            raise RunError(f"{op_type} is fed {result.dtype}, which its schema does not take",
                           advice=f"'{made.formal.name}' may be {', '.join(sorted(map(str, made.allowed)))}")
        if (expected is not None and result.dtype != expected) or (made.allowed and result.dtype not in made.allowed):
            raise RunError(f"the reference rule of {op_type} gives {result.dtype} for '{made.formal.name}', where the "
                           f"schema demands {expected or made.formal.type}", advice="this is a fault in gesher")
        return result
    if isinstance(result, list):
        return [np.asarray(x) if isinstance(x, np.generic) else x for x in result]
    return result


def _given_out(result: Any) -> Any:
    """What a run gives out shares no memory with feeds or weights."""
    if isinstance(result, np.ndarray):
        return result if result.flags.writeable else result.copy()
    if isinstance(result, list):
        return [_given_out(x) for x in result]
    return result
