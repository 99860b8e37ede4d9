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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError, RunError
from gesher.evaluator.feeds import Feeds
from gesher.evaluator.plan import Plan as GraphSteps
from gesher.evaluator.tables import layout_of
from gesher.ir import Graph, Model, Node, TensorType, Value
from gesher.symbolic import fresh

from . import cpu, faces, frozen, target
from .faces import Face
from .lowered import NeedsOracle
from .quick import NotAsTaken, Quick
from .variant import Env, Variant

if TYPE_CHECKING:
    from gesher.inference import Facts
    from gesher.rewriter.inline import Inlined

    from .profile import Profile

# What plans (inference, lowering, the optimiser, the book of operators) is imported where something is planned: a
# session that is read back opens none of it.

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


def read_back(model: Model | Path, options: Options, prepare: Prepare | None = None) -> CompiledSession | None:
    """The session of a model that was kept, None where there is none. Of a path, the file is not read (`faces`)."""
    told = _told(options, prepare)
    if told is None:
        return None
    face = None
    if isinstance(model, Path):
        face = faces.find(model, told)
        if face is None:
            return None
        model, key = face.model, face.key
    else:
        key = frozen.key_for(model, told)
    kept = frozen.thaw(model, key)
    return None if kept is None else CompiledSession(model, options, prepare, (key, kept), face)


def _told(options: Options, prepare: Prepare | None) -> dict[str, str] | None:
    """What names the session beside its model; None where it is not kept."""
    # Steps are told and timed of what was planned here.
    if not options.kept or options.timed or knobs.DEBUG.number >= 2:
        return None
    return frozen.told(prepare.__qualname__ if prepare else "", options.isa, options.precision,
                       target.about(options.threads or cpu.threads()))


class CompiledSession:
    """A compiled model. `inputs` and `outputs` are names, in the model's order."""

    # What planning finds; a session that was read back has none of it until it must plan after all.
    facts: Facts
    steps: dict[Graph, GraphSteps]
    opsets: dict[str, int]
    own_opsets: dict[Node, dict[str, int]]
    whole: Model

    def __init__(self, model: Model, options: Options, prepare: Prepare | None = None,
                 read: tuple[str, frozen.Frozen] | None = None, face: Face | None = None):
        self.model, self.options, self._prepare = model, options, prepare
        # The model is only its face as long as this is there.
        self._face = face
        self._opened = 0
        self.isa = cpu.isa(options.isa) if options.isa else None
        self.outputs = [v.name for v in model.graph.outputs]
        self.lock = threading.RLock()
        self._closed = False
        self._bodies: dict[Any, GraphSession] = {}
        self._careful: GraphSession | None = None
        self._trust = _TRUST
        self._random: np.random.Generator | None = None
        kept: frozen.Frozen | None
        if read is not None:
            self.key, kept = read
        else:
            told = _told(options, prepare)
            self.key = "" if told is None else frozen.key_for(model, told)
            kept = frozen.thaw(model, self.key) if self.key else None
        self.planned = kept is None
        if kept is None:
            self._plan()
        else:
            self.whole = model
            self._feeds = Feeds(model.graph, model.ir_version, layout_of(model))
            self._main = GraphSession.read_back(self, kept)
            self._quick = Quick(self)
        self.inputs = list(self._feeds.required)

    def _plan(self) -> None:
        """Infer, lower and compile the model."""
        from gesher.evaluator.plan import make_plans
        from gesher.inference import infer
        from gesher.rewriter.inline import inlined

        if self._face is not None:
            self.model, self._face = self._face.read(), None
        put_in_place = (self._prepare or inlined)(self.model)
        self.whole, self.own_opsets = put_in_place.model, put_in_place.opsets
        self.facts = infer(self.whole, opsets=self.own_opsets)
        self.steps = make_plans(self.whole, self.own_opsets)
        self.opsets = self.whole.opsets
        self._feeds = Feeds(self.whole.graph, self.whole.ir_version, layout_of(self.model))
        self._main = GraphSession(self, self.steps[self.whole.graph], {}, trusting=True)
        self._quick = Quick(self)
        self.planned = True
        for variant in self._main.variants:
            self.keep(variant)

    def keep_face(self, opened: int) -> None:
        """Let the next session of this model's file be read back without reading the file.

        For a model that is exactly as its file has it: what was edited since must not go by the file's name.

        Args:
            opened: when the file was, in nanoseconds of `time.time_ns`, or earlier.
        """
        told = _told(self.options, self._prepare)
        if told is not None and self._face is None and not faces.keep(self.model, self.key, told, opened):
            # Perhaps when a run has settled conditions, and there is a session to keep.
            self._opened = opened

    def keep(self, variant: Variant) -> None:
        """Keep a way of running the main graph, where this session is kept."""
        if self.key and frozen.freeze(self, variant, self.key) and self._opened:
            opened, self._opened = self._opened, 0
            self.keep_face(opened)

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
        with target.building_for(session.isa, session.options.precision, session.options.threads or cpu.threads()):
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


def _given_out(x: Any) -> Any:
    """What a run gives out shares no memory with feeds or weights."""
    if isinstance(x, np.ndarray):
        return x if x.flags.writeable and x.base is None else x.copy()
    if isinstance(x, list):
        return [_given_out(y) for y in x]
    return x


__all__ = ["CompiledSession", "Node", "Options", "compile"]
