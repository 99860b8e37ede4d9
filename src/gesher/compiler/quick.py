"""The short way through a session, for small models that run in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import GesherError
from gesher.ir import TensorType

from .conditions import is_small_integer
from .direct import Direct
from .segment import Segment

if TYPE_CHECKING:
    from .session import CompiledSession

# Shapes that are remembered.
_REMEMBERED = 256


class NotAsTaken(Exception):  # noqa: N818  (what happened, not a fault)
    """What a plan took for granted does not hold in this run."""


class Quick:
    """The short way where a model is one segment from inputs to outputs: a look-up by shapes, and the call.

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
        self.known: dict[Any, _Ready | None] = {}
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
            self._directly(ready, arrays)
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

    def _prepared(self, arrays: list[np.ndarray]) -> _Ready | None:
        """The segment for these inputs, where one alone does all."""
        session = self.session
        if not session._trust or session._main.outdated:
            return None
        try:
            env = session._feeds.check(dict(zip(self.order, arrays)))
            variant = session._main.variant(env)
        except (GesherError, NotAsTaken):
            return None  # the long way tells what is wrong, or plans
        lowered = variant.lowered
        if len(variant.stages) != 1 or variant.stages[0].segment is None or variant.stages[0].stage.fallbacks:
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
