"""One way of running a graph: lowered, planned and compiled, or read back from the cache; its stages run in order.

What a reader would guess wrong: what was taken for granted while planning is asked of each run's arrays, when sizes are
bound to symbols; `NotAsTaken` tells the session to plan otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError, RunError
from gesher.evaluator.plan import read_only
from gesher.ir import Graph, TensorType, Value
from gesher.primitives import Expr
from gesher.symbolic import Dim, Equalities, evaluate

from . import frozen, natives
from .conditions import sizes_of
from .demands import Misfit
from .lowered import Fallback, Lowered, Stage, captured_by
from .quick import NotAsTaken
from .segment import Module, Segment
from .steps import Program

if TYPE_CHECKING:
    from .session import CompiledSession

Env = dict[Value, Any]


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
        # Strings are no leaves, and a stage may ask for their sizes before a leaf has them.
        for v in self.graph.inputs:
            x = env.get(v)
            if isinstance(v.type, TensorType) and v.type.dtype is dtypes.STRING and isinstance(x, np.ndarray):
                for d, n in zip(v.type.shape or (), x.shape):
                    if isinstance(d, Dim) and d in self.lowered.symbols and sizes.setdefault(d, n) != n:
                        raise NotAsTaken(f"'{v.name}' has a size {n}, where '{d}' is {sizes[d]}")
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
            # What a body captures is the same in every round of a loop.
            captured: dict[Graph, Env] = {}

            def run_graph(graph: Graph, values: Sequence[Any]) -> list[Any]:
                outer = captured.get(graph)
                if outer is None:
                    outer = captured[graph] = {v: self.get(v, env) for v in captured_by(graph)}
                return session.body(graph, values, outer)

            attributes["run"] = Run(step.node, step.schema, run_graph=run_graph, random=session.random,
                                    budget=knobs.BUDGET_MB.number << 20,
                                    opsets=session.own_opsets.get(step.node, session.opsets), functions={},
                                    kept=step.kept)
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
