"""Compiled sessions: a model as segments of native code, with reference rules for what has no lowering, behind one `run`.

    session = compile(model, Options(threads=2))
    session.run({"x": x})["y"]

What a reader would guess wrong:

- Bodies of If, Loop and Scan are compiled when they first run, each once, and stay with the session.
- A plan may take things for granted: that a small integer input holds sizes, that inference is right about what a body is
  given. Where a run finds otherwise, the graph is planned again with nothing taken for granted, and that plan serves too.
- One call runs at a time; calls from several threads wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError, RunError
from gesher.evaluator.feeds import Feeds
from gesher.evaluator.plan import Plan as GraphSteps
from gesher.evaluator.plan import make_plans
from gesher.inference import Facts, infer
from gesher.ir import Graph, Model, Node, TensorType, Value
from gesher.ops import Run
from gesher.ops.rules import attributes_of
from gesher.primitives import Expr
from gesher.primitives.simplify import replace
from gesher.symbolic import Dim, Equalities, evaluate, fresh

from . import plan as planning
from .inline import inlined
from .lower import Fallback, Lowered, Lowering, Stage, captured_by
from .plan import KernelStep, LoopStep, NestStep, Program
from .segment import Module, Segment

Env = dict[Value, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """How a session shall run.

    Attributes:
        threads: how many at the most; 0 is every core that this process may use.
        seed: of the random operators.
    """

    threads: int = 0
    seed: int = 0


def compile(model: Model, options: Options | None = None) -> CompiledSession:  # noqa: A001  (the verb is the right one)
    """Make a model ready to run as native code.

    Raises:
        UnsupportedError: some operator has neither a lowering nor a reference rule, or there is no C compiler.
        CompileError: the generated C does not compile; its bundle replays it.
        ModelError: the model is not a right one.
    """
    return CompiledSession(model, options or Options())


class CompiledSession:
    """A compiled model. `inputs` and `outputs` are names, in the model's order."""

    def __init__(self, model: Model, options: Options):
        self.model, self.options = model, options
        whole = inlined(model)
        self._whole = whole
        self.facts = infer(whole)
        self.steps = make_plans(whole)
        self.opsets = whole.opsets
        self._feeds = Feeds(whole.graph, whole.ir_version)
        self.inputs = list(self._feeds.required)
        self.outputs = [v.name for v in model.graph.outputs]
        self.lock = threading.RLock()
        self._bodies: dict[Any, GraphSession] = {}
        self._main = GraphSession(self, self.steps[whole.graph], {}, trusting=True)
        self._careful: GraphSession | None = None
        self._quick = _Quick.of(self)
        self.random = np.random.default_rng(options.seed)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, fresh arrays, for the inputs by name.

        Raises:
            RunError: the inputs do not fit the model, or a node failed.
        """
        with self.lock:
            if self._quick is not None:
                results = self._quick.run(feeds)
                if results is not None:
                    return dict(zip(self.outputs, results))
            try:
                env: Env = self._feeds.check(feeds)
                self.random = np.random.default_rng(self.options.seed)
                return dict(zip(self.outputs, map(_given_out, self._run(env))))
            except GesherError as e:
                raise e.within(self.model.place) if not e.place or e.place[0] != self.model.place else e

    def _run(self, env: Env) -> list[Any]:
        if self._careful is None:
            try:
                return self._main.run(env)
            except NotAsTaken as e:
                if not self._main.takes_things_for_granted:
                    raise RunError(str(e)) from e
                knobs.debug(1, f"compiled again without taking for granted: {e}")
        if self._careful is None:
            self._careful = GraphSession(self, self.steps[self._whole.graph], {}, trusting=False)
        try:
            return self._careful.run(env)
        except NotAsTaken as e:
            raise RunError(str(e)) from e

    def body(self, graph: Graph, inputs: Sequence[Any], outer: Env) -> list[Any]:
        """Run a nested graph for the reference rule of the node that holds it."""
        steps = self.steps[graph]
        if len(inputs) != len(graph.inputs):
            raise RunError(f"{graph.place} has {len(graph.inputs)} inputs, {len(inputs)} are given")
        env: Env = {v: outer[v] for v in steps.captures if v in outer}
        env.update(zip(graph.inputs, inputs))
        made = self._bodies.get(graph)
        if made is None:
            made = self._bodies[graph] = GraphSession(self, steps, {}, trusting=True)
        if not made.outdated:
            try:
                return made.run(env)
            except NotAsTaken as e:
                made.outdated = True
                knobs.debug(1, f"{graph.place} is compiled again: {e}")
        # Types as they come, sizes open.
        given = {v: TensorType(dtypes.from_numpy(x.dtype), tuple(fresh(f"a size of '{v.name}'") for _ in x.shape))
                 for v, x in env.items() if isinstance(x, np.ndarray)}
        key = (graph, tuple((v, t.dtype, len(t.shape or ())) for v, t in given.items()))
        careful = self._bodies.get(key)
        if careful is None:
            careful = self._bodies[key] = GraphSession(self, steps, given, trusting=False)
        try:
            return careful.run(env)
        except NotAsTaken as e:
            raise RunError(str(e), place=(graph.place,)) from e

    def graphs(self) -> list[GraphSession]:
        """What has been compiled so far: the main graph, then bodies."""
        return [self._main, *([self._careful] if self._careful else []), *self._bodies.values()]

    def explain(self) -> str:
        """What is compiled and what is not, and why; kernels and loop nests in order."""
        lines: list[str] = []
        for g in self.graphs():
            lines += g.explain()
        bodies = [g for g in self.steps if g is not self._whole.graph and g.parent is not None
                  and not any(b.graph is g for b in self._bodies.values())]
        lines += [f"{g.place} of {g.parent.place}: compiled when it first runs" for g in bodies if g.parent is not None]
        return "\n".join(lines)

    def close(self) -> None:
        """Stop the threads. The session cannot run afterwards."""
        with self.lock:
            for g in self.graphs():
                g.close()


class NotAsTaken(Exception):  # noqa: N818  (what happened, not a fault)
    """What a plan took for granted does not hold in this run."""


class GraphSession:
    """One graph, planned and compiled."""

    def __init__(self, session: CompiledSession, steps: GraphSteps, given: dict[Value, TensorType], trusting: bool):
        self.session, self.graph = session, steps.graph
        self.outdated = False
        facts: Facts = session.facts
        self.lowered: Lowered = Lowering(steps, facts, given, trusting).run()
        self.takes_things_for_granted = bool(self.lowered.learned) or not given
        self.programs: list[Program] = []
        self.stages: list[_Stage] = []
        for stage in self.lowered.stages:
            self.stages.append(self._staged(stage))
        self.module: Module | None = None
        if self.programs:
            title = f"{session.model.place}, {self.graph.place}"
            self.module = Module(self.programs, title, session.options.threads)
            for ready in self.stages:
                if ready.number >= 0:
                    ready.segment = self.module.segments[ready.number]
        self._plan_lives()

    def _staged(self, stage: Stage) -> _Stage:
        """Plan a stage's segment, where it computes anything."""
        if not stage.outputs:
            return _Stage(stage, -1, [], [])
        builder = next(iter(stage.outputs.values())).builder
        by_expr: dict[Expr, Value] = {e: v for v, e in self.lowered.leaves.items()}
        # What earlier segments gave out is fed to this one.
        entering: dict[Expr, Expr] = {}
        for earlier in self.lowered.stages:
            if earlier is stage:
                break
            for v, e in earlier.outputs.items():
                leaf = builder.input(f"{v.name or 'value'} (segment)", e.dtype, e.shape) \
                    if e not in entering else entering[e]
                while leaf in by_expr:
                    leaf = builder.input(leaf.params["name"] + "'", e.dtype, e.shape)
                leaf.name = v.name
                entering[e] = leaf
                by_expr[leaf] = v
        roots = planning.prepared(replace(list(stage.outputs.values()), entering))
        from gesher.primitives import walk

        leaves = [e for e in walk(roots) if e.prim == "input"]
        program = planning.build(f"segment {len(self.programs)}", leaves, roots, [v.name for v in stage.outputs])
        self.programs.append(program)
        return _Stage(stage, len(self.programs) - 1, [by_expr[e] for e in leaves], list(stage.outputs))

    def _plan_lives(self) -> None:
        """After which stage each value is read no more."""
        last: dict[Value, int] = {}
        for at, ready in enumerate(self.stages):
            for v in ready.reads():
                last[self._source(v)] = at
        keep = {self._source(v) for v in self.graph.outputs}
        for v, at in last.items():
            if v not in keep:
                self.stages[at].frees.append(v)

    def _source(self, v: Value) -> Value:
        while isinstance(found := self.lowered.aliases.get(v), Value):
            v = found
        return v

    # Running

    def run(self, env: Env) -> list[Any]:
        """The outputs of the graph, where `env` holds its inputs and what it captures.

        Raises:
            NotAsTaken: something that was taken for granted does not hold.
        """
        sizes: dict[Dim, int] = {}
        waiting: list[tuple[Value, Any, int]] = []
        for v, e in self.lowered.leaves.items():
            x = env.get(v)
            if x is None and v.constant is not None and v not in env:
                x = env[v] = v.constant.numpy()
            if x is not None:
                self._bind(v, e, x, sizes, waiting)
        self._bind_rest(waiting, sizes)
        for ready in self.stages:
            if ready.segment is not None:
                arrays = [np.ascontiguousarray(self.get(v, env)) for v in ready.inputs]
                for v, y in zip(ready.outputs, ready.segment.run(arrays, sizes)):
                    env[v] = y
            for f in ready.stage.fallbacks:
                self._fall_back(f, env)
                waiting = []
                for v in f.node.outputs:
                    e = self.lowered.leaves.get(v) if v is not None else None
                    if v is not None and e is not None:
                        self._bind(v, e, env[v], sizes, waiting)
                self._bind_rest(waiting, sizes)
            for v in ready.frees:
                env.pop(v, None)
        return [self.get(v, env) for v in self.graph.outputs]

    def get(self, v: Value, env: Env) -> Any:
        """The value of `v` in this run."""
        while v not in env:
            found = self.lowered.aliases.get(v)
            if isinstance(found, np.ndarray):
                return found
            if found is None:
                if v.constant is not None:
                    return v.constant.numpy()
                raise RunError(f"the value '{v.name}' was not computed")
            v = found
        return env[v]

    def _bind(self, v: Value, e: Expr, x: Any, sizes: dict[Dim, int], waiting: list[tuple[Value, Any, int]]) -> None:
        """Hold an array to the type that its leaf has, and learn sizes from it."""
        if not isinstance(x, np.ndarray):
            raise NotAsTaken(f"'{v.name}' is no tensor")
        if x.dtype != e.dtype.numpy or x.ndim != e.rank:
            raise NotAsTaken(f"'{v.name}' is {x.dtype}{list(x.shape)}, it was taken to be {e.dtype.name}"
                             f"({','.join(map(str, e.shape))})")
        for d, n in zip(e.shape, x.shape):
            if not isinstance(d, Dim):
                if d != n:
                    raise NotAsTaken(f"'{v.name}' has a size {n}, it was taken to be {d}")
            elif d.op == "sym":
                if sizes.setdefault(d, n) != n:
                    raise NotAsTaken(f"'{v.name}' has a size {n}, where '{d}' is {sizes[d]}")
                _inside(d, n, v)
            else:
                waiting.append((v, d, n))
        learned = self.lowered.learned.get(v)
        if learned is not None:
            for s, number in zip(learned, x.reshape(-1).tolist()):
                _inside(s, number, v)
                sizes[s] = number

    def _bind_rest(self, waiting: list[tuple[Value, Any, int]], sizes: dict[Dim, int]) -> None:
        """Check sizes that are expressions; learn the one symbol that is open in any."""
        for v, d, n in waiting:
            if not d.symbols() <= sizes.keys():
                known = Equalities()
                for s in d.symbols():
                    if s in sizes:
                        known.unify(s, sizes[s])
                try:
                    known.unify(d, n)
                except GesherError as e:
                    raise NotAsTaken(f"'{v.name}' has a size {n}, which {d} cannot be") from e
                for s in d.symbols():
                    found = known.resolve(s)
                    if isinstance(found, int):
                        sizes[s] = found
            if d.symbols() <= sizes.keys() and evaluate(d, sizes) != n:
                raise NotAsTaken(f"'{v.name}' has a size {n}, it was taken to be {d} = {evaluate(d, sizes)}")

    def _fall_back(self, f: Fallback, env: Env) -> None:
        """Run a node by its reference rule."""
        step, session = f.step, self.session
        inputs = [None if v is None else self.get(v, env) for v in step.inputs]
        assert step.rule is not None and step.schema is not None
        attributes = dict(step.attributes if step.attributes is not None else attributes_of(step.node, step.schema))
        if step.rule.takes_run:
            def run_graph(graph: Graph, values: Sequence[Any]) -> list[Any]:
                outer = {v: self.get(v, env) for v in captured_by(graph)}
                return session.body(graph, values, outer)

            attributes["run"] = Run(step.node, step.schema, run_graph=run_graph, random=session.random,
                                    budget=knobs.BUDGET_MB.number << 20, opsets=session.opsets, functions={})
        try:
            with np.errstate(all="ignore"):
                result = step.rule.function(*inputs, **attributes)
        except GesherError as e:
            raise e.within(self.graph.place, step.node.place)
        except NotAsTaken:
            raise
        except Exception as e:
            raise RunError(f"{step.node.op_type} failed: {type(e).__name__}: {e}",
                           place=(self.graph.place, step.node.place)) from e
        results = list(result) if isinstance(result, tuple) else [result]
        for v, y in zip(step.node.outputs, results):
            if v is not None:
                env[v] = np.asarray(y) if isinstance(y, (np.generic, int, float, bool, str)) else y

    # For people

    def explain(self) -> list[str]:
        """What became of each node, stage by stage."""
        nodes = sum(len(s.nodes) for s in self.lowered.stages)
        fallbacks = [f for s in self.lowered.stages for f in s.fallbacks]
        lines = [f"{self.graph.place}: {nodes} nodes compiled into {len(self.programs)} segments, "
                 f"{len(fallbacks)} by reference rules"]
        for ready in self.stages:
            if ready.number >= 0:
                program = self.programs[ready.number]
                lines.append(f"  segment {ready.number}: {len(ready.stage.nodes)} nodes, "
                             f"{sum(1 for _ in program.all_steps())} steps, {len(program.weights)} weights")
                lines += [f"    {line}" for line in _steps_told(program.steps)]
            for f in ready.stage.fallbacks:
                lines.append(f"  reference: {f.node.place}: {f.reason}")
        return lines

    def close(self) -> None:
        if self.module is not None:
            self.module.close()
        self.stages = []


@dataclass(slots=True)
class _Stage:
    """A stage made ready: its segment's number (-1: none), what it reads and gives, what is not needed behind it."""

    stage: Stage
    number: int
    inputs: list[Value]
    outputs: list[Value]
    segment: Segment | None = None
    frees: list[Value] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.frees = []

    def reads(self) -> list[Value]:
        read = list(self.inputs)
        for f in self.stage.fallbacks:
            read += [v for v in f.step.inputs if v is not None]
            for g in f.node.subgraphs():
                read += captured_by(g)
        return read


class _Quick:
    """The short way for a model that is one segment from inputs to outputs: nothing but checks and the call."""

    def __init__(self, session: CompiledSession, segment: Segment, order: list[str], outputs: list[int]):
        self.segment, self.order, self.outputs = segment, order, outputs
        self.shapes: dict[Any, dict[Dim, int]] = {}
        self.dtypes = [b.dtype.numpy for b in segment.program.inputs]
        self.main = session._main
        self.names = frozenset(order)

    @classmethod
    def of(cls, session: CompiledSession) -> _Quick | None:
        main = session._main
        if len(main.stages) != 1 or main.stages[0].segment is None or main.stages[0].stage.fallbacks \
                or main.lowered.learned:
            return None
        stage = main.stages[0]
        assert stage.segment is not None
        inputs = main.graph.inputs
        names = [v.name for v in inputs if v.constant is None]
        # Every input must be read by the segment, so that all that is fed is checked by the same few lines.
        if any(v.constant is not None for v in inputs) or {v.name for v in stage.inputs} != set(names) \
                or len(set(names)) != len(names):
            return None
        at = {v: i for i, v in enumerate(stage.outputs)}
        if any(v not in at for v in main.graph.outputs) or len(set(main.graph.outputs)) != len(main.graph.outputs):
            return None
        return cls(session, stage.segment, [v.name for v in stage.inputs], [at[v] for v in main.graph.outputs])

    def run(self, feeds: Mapping[str, Any]) -> list[np.ndarray] | None:
        """The outputs; None where something is unusual and the long way must look at it."""
        if feeds.keys() != self.names:
            return None
        arrays: list[np.ndarray] = []
        key: list[Any] = []
        for name, dtype in zip(self.order, self.dtypes):
            x = feeds[name]
            if type(x) is not np.ndarray or x.dtype != dtype:
                return None
            key.append(x.shape)
            arrays.append(x if x.flags.c_contiguous and x.flags.aligned else np.require(x, requirements=["C", "A"]))
        shape_key = tuple(key)
        sizes = self.shapes.get(shape_key)
        if sizes is None:
            sizes = {}
            waiting: list[tuple[Value, Any, int]] = []
            try:
                for v, x in zip(self.main.stages[0].inputs, arrays):
                    self.main._bind(v, self.main.lowered.leaves[v], x, sizes, waiting)
                self.main._bind_rest(waiting, sizes)
            except NotAsTaken:
                return None
            if len(self.shapes) > 256:
                self.shapes.clear()
            self.shapes[shape_key] = sizes
        results = self.segment.run(arrays, sizes)
        return [results[i] for i in self.outputs]


def _inside(symbol: Dim, number: int, v: Value) -> None:
    from gesher.symbolic import bounds

    low, high = bounds(symbol)
    if (low is not None and number < low) or (high is not None and number > high):
        raise NotAsTaken(f"'{v.name}' holds {number}, it was taken to be between {low} and {high}")


def _given_out(x: Any) -> Any:
    """What a run gives out shares no memory with feeds or weights."""
    if isinstance(x, np.ndarray):
        return x if x.flags.writeable and x.base is None else x.copy()
    if isinstance(x, list):
        return [_given_out(y) for y in x]
    return x


def _steps_told(steps: Sequence[Any], indent: str = "") -> list[str]:
    lines = []
    for step in steps:
        if isinstance(step, NestStep):
            lines.append(f"{indent}nest {step.nest.name}: {step.nest.comment}")
        elif isinstance(step, KernelStep):
            tail = f", {step.tile.comment}" if step.tile is not None else ""
            lines.append(f"{indent}kernel {step.kernel.describe()}: {step.comment}{tail}")
        elif isinstance(step, LoopStep):
            lines.append(f"{indent}loop {step.count} times")
            lines += _steps_told(step.body, indent + "  ")
        else:
            lines.append(f"{indent}branch")
            lines += _steps_told(step.then, indent + "  ")
            lines += _steps_told(step.other, indent + "  ")
    return lines


__all__ = ["CompiledSession", "Node", "Options", "compile"]
