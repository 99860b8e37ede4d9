"""Compiled sessions: a model as segments of native code, with reference rules for what has no lowering.

    session = compile(model, Options(threads=2))
    session.run({"x": x})["y"]

What a reader would guess wrong:

- Bodies of If, Loop and Scan are compiled when they first run, each once, and stay with the session.
- A plan may take things for granted: that a small integer input holds sizes, that inference is right about what a body
  is given. Where a run finds otherwise, the graph is planned again with nothing taken for granted.
- One call runs at a time; calls from several threads wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError, RunError
from gesher.evaluator.feeds import Feeds
from gesher.evaluator.plan import Plan as GraphSteps
from gesher.evaluator.plan import read_only
from gesher.evaluator.tables import columns_of
from gesher.ir import Graph, Model, Node, TensorType, Value
from gesher.primitives import Expr
from gesher.symbolic import Dim, Equalities, evaluate, fresh

from . import cpu, frozen, natives, target
from .conditions import sizes_of
from .demands import Misfit
from .lowered import Fallback, Lowered, NeedsOracle, Stage, captured_by
from .quick import NotAsTaken, Quick
from .segment import Module, Segment
from .steps import Program

if TYPE_CHECKING:
    from gesher.inference import Facts
    from gesher.rewriter.inline import Inlined

    from .profile import Profile

# What plans (inference, lowering, the optimiser, the book of operators) is imported where something is planned: a
# session that is read back opens none of it.

Env = dict[Value, Any]
Prepare = Callable[[Model], "Inlined"]

# Runs in a row that find otherwise than was taken for granted, after which nothing is any more.
_TRUST = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How a session shall run.

    Attributes:
        threads: how many at the most; 0 is every core that this process may use.
        seed: of the random operators.
        isa: the instruction set to build for, by its name in `cpu.ISAS`; "" is exactly this processor.
        precision: "f32", or "bf16": products of float32 round what they multiply to bfloat16, and sum in float32.
        timed: whether each step is timed, for `CompiledSession.profiles`.
        kept: whether a session that was planned before may be read back from the cache, and this one kept there.
    """

    threads: int = 0
    seed: int = 0
    isa: str = ""
    precision: str = "f32"
    timed: bool = False
    kept: bool = False


def compile(model: Model, options: Options | None = None, prepare: Prepare | None = None) -> CompiledSession:
    """Make a model ready to run as native code.

    Args:
        prepare: gives what to compile in the model's place: the same meaning, with its functions put in place (None:
            just that). A model whose session was kept is not prepared again.

    Raises:
        UnsupportedError: some operator has neither a lowering nor a reference rule, or there is no C compiler.
        CompileError: the generated C does not compile; its bundle replays it.
        ModelError: the model is not a right one.
    """
    return CompiledSession(model, options or Options(), prepare)


def read_back(model: Model, options: Options, prepare: Prepare | None = None) -> CompiledSession | None:
    """The session of a model that was kept, None where there is none."""
    key = _key(model, options, prepare)
    kept = frozen.thaw(model, key) if key else None
    return None if kept is None else CompiledSession(model, options, prepare, kept)


def _key(model: Model, options: Options, prepare: Prepare | None) -> str:
    """The name under which the session is kept; "" where it is not."""
    # Steps are told and timed of what was planned here.
    wanted = options.kept and not options.timed and knobs.DEBUG.number < 2
    return frozen.key_for(model, prepare.__qualname__ if prepare else "", options.isa, options.precision) \
        if wanted else ""


class CompiledSession:
    """A compiled model. `inputs` and `outputs` are names, in the model's order."""

    # What planning finds; a session that was read back has none of it until it must plan after all.
    facts: Facts
    steps: dict[Graph, GraphSteps]
    opsets: dict[str, int]
    own_opsets: dict[Node, dict[str, int]]
    whole: Model

    def __init__(self, model: Model, options: Options, prepare: Prepare | None = None,
                 kept: frozen.Frozen | None = None):
        self.model, self.options, self._prepare = model, options, prepare
        self.isa = cpu.isa(options.isa) if options.isa else None
        self.outputs = [v.name for v in model.graph.outputs]
        self.lock = threading.RLock()
        self._closed = False
        self._bodies: dict[Any, GraphSession] = {}
        self._careful: GraphSession | None = None
        self._trust = _TRUST
        self._random: np.random.Generator | None = None
        self.key = _key(model, options, prepare)
        if kept is None and self.key:
            kept = frozen.thaw(model, self.key)
        self.planned = kept is None
        if kept is None:
            self._plan()
        else:
            self.whole = model
            self._feeds = Feeds(model.graph, model.ir_version, columns_of(model))
            self._main = GraphSession.read_back(self, kept)
            self._quick = Quick(self)
        self.inputs = list(self._feeds.required)

    def _plan(self) -> None:
        """Infer, lower and compile the model."""
        from gesher.evaluator.plan import make_plans
        from gesher.inference import infer
        from gesher.rewriter.inline import inlined

        put_in_place = (self._prepare or inlined)(self.model)
        self.whole, self.own_opsets = put_in_place.model, put_in_place.opsets
        self.facts = infer(self.whole, opsets=self.own_opsets)
        self.steps = make_plans(self.whole, self.own_opsets)
        self.opsets = self.whole.opsets
        self._feeds = Feeds(self.whole.graph, self.whole.ir_version, columns_of(self.model))
        self._main = GraphSession(self, self.steps[self.whole.graph], {}, trusting=True)
        self._quick = Quick(self)
        self.planned = True
        for variant in self._main.variants:
            self.keep(variant)

    def keep(self, variant: Variant) -> None:
        """Keep a way of running the main graph, where this session is kept."""
        if self.key:
            frozen.freeze(self, variant, self.key)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, fresh arrays, for the inputs by name.

        Raises:
            RunError: the inputs do not fit the model, or a node failed.
        """
        found = self._quick.direct.function(feeds)
        if found is not None:
            return found
        with self.lock:
            try:
                results = self._quick.run(feeds)
                if results is not None:
                    return dict(zip(self.outputs, results))
                if self._closed:
                    raise RunError("the session is closed", advice="prepare the model again")
                env: Env = self._feeds.check(feeds)
                self._random = None
                return dict(zip(self.outputs, map(_given_out, self._run(env))))
            except GesherError as e:
                if not e.place or e.place[0] != self.model.place:
                    e.within(self.model.place)
                raise

    @property
    def random(self) -> np.random.Generator:
        """What the random operators of this run draw from. Made when first asked for: few models have any, and numpy
        imports its generators only then."""
        if self._random is None:
            self._random = np.random.default_rng(self.options.seed)
        return self._random

    def _run(self, env: Env) -> list[Any]:
        if self._trust:
            try:
                results = self._main.run(dict(env))
                self._trust = _TRUST
                return results
            except NotAsTaken as e:
                if not self.planned:
                    # What was kept does not fit this run; the model itself knows more.
                    fed = {v.name: x for v, x in env.items() if v in self.whole.graph.inputs}
                    self._plan()
                    return self._run(self._feeds.check(fed))
                if not self._main.takes_things_for_granted:
                    raise RunError(str(e)) from e
                knobs.debug(1, f"run again without taking for granted: {e}")
                # One feed that does not fit says nothing of the next; many in a row do.
                self._trust -= 1
        if self._careful is None:
            self._careful = GraphSession(self, self.steps[self.whole.graph], {}, trusting=False)
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

    def profiles(self) -> list[Profile]:
        """The times of each segment that was compiled so far; empty unless the session is `timed`."""
        return [p for g in self.graphs() for v in g.variants if v.module is not None for p in v.module.profiles]

    def explain(self) -> str:
        """What is compiled and what is not, and why; kernels and loop nests in order, sizes as expressions or, once
        there was a run, numbers."""
        if not self.planned:
            with self.lock:
                self._plan()
        from .explain import explain

        return explain(self)

    def close(self) -> None:
        """Stop the threads. A run afterwards is an error."""
        with self.lock:
            self._closed = True
            self._quick.close()
            for g in self.graphs():
                g.close()


class GraphSession:
    """One graph, lowered once or, where conditions hang on sizes, once for each way in which they come out."""

    def __init__(self, session: CompiledSession, steps: GraphSteps, given: dict[Value, TensorType], trusting: bool):
        # None where the graph was read back, and is not planned.
        self.steps: GraphSteps | None = steps
        self.session, self.graph = session, steps.graph
        self.given, self.trusting = given, trusting
        self.outdated = False
        self.variants: list[Variant] = []
        try:
            self.variants.append(self._lowered(None, asks=True))
        except NeedsOracle as e:
            knobs.debug(1, f"{self.graph.place}: compiled when a run tells how {e} comes out")

    @classmethod
    def read_back(cls, session: CompiledSession, kept: frozen.Frozen) -> GraphSession:
        """A graph that was planned before."""
        made = cls.__new__(cls)
        made.session, made.graph, made.given, made.trusting = session, kept.lowered.graph, {}, True
        made.outdated, made.steps = False, None
        made.variants = [Variant.read_back(session, kept)]
        return made

    def _lowered(self, oracle: Env | None, asks: bool = False) -> Variant:
        from .lower import Lowering

        session = self.session
        assert self.steps is not None
        with target.building_for(session.isa, session.options.precision):
            lowering = Lowering(self.steps, session.facts, self.given, self.trusting, session.steps, oracle, asks)
            return Variant(session, lowering.run(), bool(lowering.learned) or not self.given)

    @property
    def takes_things_for_granted(self) -> bool:
        return any(v.takes_things_for_granted for v in self.variants)

    def variant(self, env: Env) -> Variant:
        """The variant for these arrays, made where there is none yet.

        Raises:
            NotAsTaken: none that was kept is for them, and the graph must be planned.
        """
        for v in self.variants:
            if v.accepts(env):
                return v
        if self.steps is None:
            return self._kept(env)
        # Sizes that come out in ever new ways are better served by one that settles nothing.
        made = self._lowered(env if len(self.variants) < frozen.MOST_VARIANTS else None)
        self.variants.append(made)
        if self is self.session._main:
            self.session.keep(made)
        return made

    def _kept(self, env: Env) -> Variant:
        """The variant for these arrays among those that were kept and are not read back yet."""
        for key in frozen.variant_keys(self.session.key)[len(self.variants):] if self.session.key else ():
            kept = frozen.thaw(self.session.model, key)
            if kept is None:
                break
            self.variants.append(Variant.read_back(self.session, kept))
            if self.variants[-1].accepts(env):
                return self.variants[-1]
        raise NotAsTaken("conditions come out as in no run that was kept")

    def run(self, env: Env) -> list[Any]:
        """The outputs of the graph, where `env` holds its inputs and what it captures.

        Raises:
            NotAsTaken: something that was taken for granted does not hold.
        """
        return self.variant(env).run(env)

    def close(self) -> None:
        for v in self.variants:
            v.close()
        self.variants = []


class Variant:
    """One lowering of a graph, planned and compiled."""

    def __init__(self, session: CompiledSession, lowered: Lowered, takes_things_for_granted: bool):
        self.session, self.lowered, self.graph = session, lowered, lowered.graph
        self.takes_things_for_granted = takes_things_for_granted
        self.programs: list[Program] = []
        self._identifiers: set[str] = set()
        self.stages: list[_Stage] = []
        for stage in self.lowered.stages:
            self.stages.append(self._staged(stage))
        self.module: Module | None = None
        if self.programs:
            title = f"{session.model.place}, {self.graph.place}"
            self.module = Module(self.programs, title, session.options.threads, timed=session.options.timed)
            for ready in self.stages:
                if ready.number >= 0:
                    ready.segment = self.module.segments[ready.number]
        self._plan_lives()

    @classmethod
    def read_back(cls, session: CompiledSession, kept: frozen.Frozen) -> Variant:
        """A variant that was planned before: one segment."""
        made = cls.__new__(cls)
        made.session, made.lowered, made.graph = session, kept.lowered, kept.lowered.graph
        made.takes_things_for_granted = True
        made.programs = [kept.program]
        made.module = Module([kept.program], "", session.options.threads, entry=kept.entry)
        made.stages = [_Stage(kept.lowered.stages[0], 0, kept.inputs, kept.outputs, made.module.segments[0])]
        made._plan_lives()
        return made

    def accepts(self, env: Env) -> bool:
        """Whether the conditions that were settled when this was lowered come out the same."""
        if not self.lowered.guards:
            return True
        return self.lowered.holds(env, sizes_of(self.lowered.leaves, env))

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
        from gesher.primitives.simplify import replace

        from . import plan as planning
        from .demands import demands

        whole = replace(list(stage.outputs.values()), entering)
        roots = planning.prepared(whole)
        from gesher.primitives import walk

        leaves = [e for e in walk(roots) if e.prim == "input"]
        program = planning.build(f"segment {len(self.programs)}", leaves, roots, [v.name for v in stage.outputs],
                                 self._identifiers, demands(whole, self.lowered.symbols))
        self.programs.append(program)
        return _Stage(stage, len(self.programs) - 1, [by_expr[e] for e in leaves], list(stage.outputs))

    def _plan_lives(self) -> None:
        """After which stage each value is read no more."""
        last: dict[Value, int] = {}
        for at, ready in enumerate(self.stages):
            for v in ready.reads():
                last[self.source(v)] = at
        keep = {self.source(v) for v in self.graph.outputs}
        for v, at in last.items():
            if v not in keep:
                self.stages[at].frees.append(v)

    def source(self, v: Value) -> Value:
        """The value that `v` is only another name of."""
        while isinstance(found := self.lowered.aliases.get(v), Value):
            v = found
        return v

    # Running

    def run(self, env: Env) -> list[Any]:
        """The outputs of the graph, where `env` holds its inputs and what it captures.

        Raises:
            NotAsTaken: something that was taken for granted does not hold.
        """
        sizes = self.sizes(env)
        for ready in self.stages:
            if ready.segment is not None:
                arrays = [np.ascontiguousarray(self.get(v, env)) for v in ready.inputs]
                try:
                    results = ready.segment.run(arrays, sizes)
                except Misfit as e:
                    # Where numbers were taken for sizes, the reference rules have the last word.
                    if self.lowered.learned:
                        raise NotAsTaken(e.what) from e
                    raise
                env.update(zip(ready.outputs, results))
            for f in ready.stage.fallbacks:
                self._fall_back(f, env)
                waiting: list[tuple[Value, Any, int]] = []
                for made in f.node.outputs:
                    if made is not None and made in self.lowered.leaves:
                        self._bind(made, self.lowered.leaves[made], env[made], sizes, waiting)
                self._bind_rest(waiting, sizes)
            for v in ready.frees:
                env.pop(v, None)
        return [self.get(v, env) for v in self.graph.outputs]

    def sizes(self, env: Env) -> dict[Dim, int]:
        """What the symbols are, by the arrays that enter the graph.

        Raises:
            NotAsTaken: an array is not of the type that it was taken to have.
        """
        sizes: dict[Dim, int] = {}
        waiting: list[tuple[Value, Any, int]] = []
        for v, e in self.lowered.leaves.items():
            x = env.get(v)
            if x is None and v.constant is not None and v not in env:
                x = env[v] = read_only(v.constant.numpy())
            if x is not None:
                self._bind(v, e, x, sizes, waiting)
        self._bind_rest(waiting, sizes)
        return sizes

    def get(self, v: Value, env: Env) -> Any:
        """The value of `v` in this run."""
        while v not in env:
            found = self.lowered.aliases.get(v)
            if isinstance(found, np.ndarray):
                return read_only(found)
            if found is None:
                if v.constant is not None:
                    return read_only(v.constant.numpy())
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
        from gesher.ops import Run
        from gesher.ops.rules import attributes_of

        step, session = f.step, self.session
        inputs = [None if v is None else self.get(v, env) for v in step.inputs]
        assert step.rule is not None and step.schema is not None and step.fitting is not None
        try:
            step.fitting.hold(step.node, inputs, knobs.BUDGET_MB.number << 20, step.attributes is not None)
        except GesherError as e:
            e.within(self.graph.place, step.node.place)
            raise
        attributes = dict(step.attributes if step.attributes is not None else attributes_of(step.node, step.schema))
        if step.rule.takes_run:
            def run_graph(graph: Graph, values: Sequence[Any]) -> list[Any]:
                outer = {v: self.get(v, env) for v in captured_by(graph)}
                return session.body(graph, values, outer)

            attributes["run"] = Run(step.node, step.schema, run_graph=run_graph, random=session.random,
                                    budget=knobs.BUDGET_MB.number << 20,
                                    opsets=session.own_opsets.get(step.node, session.opsets), functions={})
        try:
            with np.errstate(all="ignore"):
                result = natives.run(step.node, step.rule.function, inputs, attributes)
        except GesherError as e:
            e.within(self.graph.place, step.node.place)
            raise
        except NotAsTaken:
            raise
        except Exception as e:
            raise RunError(f"{step.node.op_type} failed: {type(e).__name__}: {e}",
                           place=(self.graph.place, step.node.place)) from e
        results = list(result) if isinstance(result, tuple) else [result]
        for v, y in zip(step.node.outputs, results):
            if v is not None:
                env[v] = np.asarray(y) if isinstance(y, (np.generic, int, float, bool, str)) else y

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


__all__ = ["CompiledSession", "Node", "Options", "compile"]
