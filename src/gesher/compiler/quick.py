"""The short way through a session, for small models that run in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError
from gesher.ir import TensorType, Value

from . import natives
from .conditions import is_small_integer
from .direct import Direct
from .segment import Segment

if TYPE_CHECKING:
    from .session import CompiledSession
    from .variant import Variant

# Integers that may decide on shapes, where a native reads no more of them.
_STEERING = 64
# Shapes that are remembered.
_REMEMBERED = 256


class NotAsTaken(Exception):  # noqa: N818  (what happened, not a fault)
    """What a plan took for granted does not hold in this run."""


class Quick:
    """The short way where a model is one segment, or one native node, from inputs to outputs: a look-up by shapes, and
    the call.

    The long way checks everything and remembers here, by the shapes that were fed (and the values of small integers on
    which conditions hang or that were taken for sizes), which segment runs with which sizes.
    """

    def __init__(self, session: CompiledSession):
        self.session = session
        graph = session.whole.graph
        self.inputs = [v for v in graph.inputs if v.constant is None]
        self.order = [v.name for v in self.inputs]
        types = [v.type.dtype if isinstance(v.type, TensorType) else dtypes.UNDEFINED for v in self.inputs]
        # Strings, sequences and what has defaults go the long way.
        plain = len(self.inputs) == len(graph.inputs) and len(set(self.order)) == len(self.order)
        self.possible = plain and all(t.kind in ("float", "int", "uint", "bool") for t in types)
        self.dtypes = [t.numpy for t in types] if self.possible else []
        self.names = frozenset(self.order)
        self.known: dict[Any, _Ready | _Alone | None] = {}
        self.small: list[int] = []
        self.direct = Direct(session.lock, self.order, self.dtypes, session.outputs)

    def run(self, feeds: Mapping[str, Any]) -> list[np.ndarray] | None:
        """The outputs; None where the long way must look at it."""
        if not self.possible or not isinstance(feeds, Mapping) or feeds.keys() != self.names:
            return None
        arrays: list[np.ndarray] = []
        for name, dtype in zip(self.order, self.dtypes):
            x = feeds[name]
            if type(x) is not np.ndarray or x.dtype != dtype:
                return None
            arrays.append(x)
        key = self._key(arrays)
        ready = self.known.get(key)
        if ready is None:
            if key in self.known:
                return None
            ready = self._prepared(arrays)
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            key = self._key(arrays)
            self.known[key] = ready
            if ready is None:
                return None
            if isinstance(ready, _Ready):
                self._directly(ready, arrays)
        if isinstance(ready, _Alone):
            return ready.run(arrays)
        taken = arrays if ready.inputs is None else [arrays[i] for i in ready.inputs]
        for i, x in enumerate(taken):
            flags = x.flags
            if not (flags.c_contiguous and flags.aligned):
                taken[i] = np.require(x, requirements=["C", "A"])
        # The session's lock is held, and its module is its own.
        results = ready.segment.run_sized(taken, ready.key, ready.shapes)
        return results if ready.outputs is None else [results[i] for i in ready.outputs]

    def close(self) -> None:
        """Leave everything to the long way."""
        self.possible = False
        self.direct.close()
        self.known.clear()

    def _directly(self, ready: _Ready, arrays: list[np.ndarray]) -> None:
        """Let runs like this one go the direct way from now on."""
        read = list(range(len(arrays))) if ready.inputs is None else ready.inputs
        places = list(range(len(ready.shapes))) if ready.outputs is None else ready.outputs
        self.direct.add(ready.segment, [x.shape for x in arrays],
                        [x.tobytes() if i in self.small else None for i, x in enumerate(arrays)],
                        [read.index(i) if i in read else -1 for i in range(len(arrays))], ready.key,
                        [ready.shapes[i] for i in places], places)

    def _key(self, arrays: list[np.ndarray]) -> Any:
        if self.small:
            return (*(x.shape for x in arrays), *(arrays[i].tobytes() for i in self.small))
        return tuple([x.shape for x in arrays])

    def _prepared(self, arrays: list[np.ndarray]) -> _Ready | _Alone | None:
        """The segment or native for these inputs, where one alone does all."""
        session = self.session
        if not session._trust or session._main.outdated:
            return None
        try:
            env = session._feeds.check(dict(zip(self.order, arrays)))
            variant = session._main.variant(env)
        except (GesherError, NotAsTaken):
            return None  # the long way tells what is wrong, or plans
        lowered = variant.lowered
        if len(variant.stages) != 1:
            return None
        if variant.stages[0].segment is None:
            return self._alone(variant, env)
        if variant.stages[0].stage.fallbacks:
            return None
        small = [i for i, v in enumerate(self.inputs) if v in lowered.learned
                 or (lowered.guards and v in lowered.leaves and is_small_integer(lowered.leaves[v]))]
        if set(small) - set(self.small):
            self.known.clear()
            self.direct.forget()
            self.small = sorted({*self.small, *small})
        stage, at = variant.stages[0], {v: i for i, v in enumerate(variant.stages[0].outputs)}
        place = {v: i for i, v in enumerate(self.inputs)}
        outputs = [variant.source(v) for v in variant.graph.outputs]
        if any(v not in at for v in outputs) or len(set(outputs)) != len(outputs) \
                or any(v not in place for v in stage.inputs):
            return None
        segment = stage.segment
        assert segment is not None
        try:
            sizes = variant.sizes(env)
            numbers = tuple(sizes[s] for s in segment.program.symbols)
            shapes = segment.shapes(numbers, sizes)
        except (GesherError, NotAsTaken):
            return None
        inputs, order = [place[v] for v in stage.inputs], [at[v] for v in outputs]
        return _Ready(segment, None if inputs == list(range(len(self.inputs))) else inputs,
                      None if order == list(range(len(stage.outputs))) else order, numbers, shapes)

    def _alone(self, variant: Variant, env: dict[Value, Any]) -> _Alone | None:
        """The one node that is the graph, where it runs natively. What small integers it reads may decide on shapes."""
        fallbacks = variant.stages[0].stage.fallbacks
        native = natives.NATIVES.get((fallbacks[0].node.domain, fallbacks[0].node.op_type)) if fallbacks else None
        if native is None or len(fallbacks) != 1:
            return None
        step = fallbacks[0].step
        if step.attributes is None or step.fitting is None or any(i in self.small for i in range(len(self.inputs))):
            return None
        places = {v: i for i, v in enumerate(self.inputs)}
        outputs = [variant.source(v) for v in variant.graph.outputs]
        if any(v not in step.node.outputs for v in outputs) or len(set(outputs)) != len(outputs):
            return None
        given: list[Any] = []
        try:
            for v in step.inputs:
                x = None if v is None else variant.get(v, env)
                if x is not None and (not isinstance(x, np.ndarray) or (v in places and x.dtype.kind in "iub"
                                                                        and x.size <= _STEERING)):
                    return None
                given.append(places.get(v, x) if v is not None else None)
            # What every run of these shapes is held to.
            step.fitting.hold(step.node, [x if not isinstance(x, int) else env[self.inputs[x]] for x in given],
                              knobs.BUDGET_MB.number << 20, True)
        except GesherError:
            return None
        return _Alone(native, given, dict(step.attributes), [step.node.outputs.index(v) for v in outputs])


@dataclass(slots=True)
class _Alone:
    """A native node by itself.

    Attributes:
        inputs: of each its place among what is fed, or the array that it always is, or None.
        outputs: which of its results are given out.
    """

    native: natives.Native
    inputs: list[Any]
    attributes: dict[str, Any]
    outputs: list[int]

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray] | None:
        """The results; None where the reference rule must do it after all."""
        given = [arrays[x] if isinstance(x, int) else x for x in self.inputs]
        found = self.native(*given, **self.attributes)
        if found is None:
            return None
        results = found if isinstance(found, tuple) else (found,)
        return [results[i] for i in self.outputs]


@dataclass(slots=True)
class _Ready:
    """A segment with the sizes that belong to certain shapes, and where its inputs and outputs stand.

    Attributes:
        inputs, outputs: for each of the segment's inputs its place among the session's, and for each of the session's
            outputs its place among the segment's; None where they stand in the same order.
        key: the sizes, in the order of the program's symbols.
        shapes: of the segment's outputs.
    """

    segment: Segment
    inputs: list[int] | None
    outputs: list[int] | None
    key: tuple[int, ...]
    shapes: list[tuple[int, ...]]
