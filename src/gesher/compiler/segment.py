"""Compiled segments in memory: the library, the threads, the arena, and how one segment is called.

What a reader would guess wrong: the results of a call are fresh arrays each time, the arena is not: its memory is used
again by the next call, which is why a module runs one call at a time.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import knobs
from gesher.base.dtypes import INT8, UINT8
from gesher.base.errors import RunError
from gesher.symbolic import Dim, evaluate

from . import cache, cpu, peak, target
from .build import build
from .emit import unit
from .library import Call, Library, Pool, address, entry_point
from .loops import Apply, scalars, show, walk, writes
from .packed import array_of
from .profile import FLAG, Profile
from .steps import KernelStep, NestStep, Program

# Sets of sizes whose shapes are remembered.
_REMEMBERED = 256
# What counts in integers rounds to them: a product and a sum that were rounded once would now and then be another
# count.
EXACT = ("-ffp-contract=on",)
# `omp simd` alone: loops are marked as vector loops, no OpenMP runtime is asked for.
FLAGS = ("-fopenmp-simd",)


class Module:
    """Programs compiled into one library.

    Args:
        programs: the segments, by the numbers of their functions.
        title: of the C file, for people.
        threads: how many at the most; 0 for every core that this process may use.
        extra: more flags for the compiler, as the tests' sanitizers.
        timed: whether steps are timed, into `profiles`; with `GESHER_DEBUG=2` they are, and are told at the end.
        entry: the library, where it was made before; the programs then need no steps.

    Raises:
        CompileError: the C does not compile; the bundle replays it.
        UnsupportedError: there is no compiler.
    """

    def __init__(self, programs: Sequence[Program], title: str, threads: int = 0, extra: Sequence[str] = (),
                 timed: bool = False, entry: cache.Entry | None = None):
        tells = entry is None and knobs.DEBUG.number >= 2
        timed = entry is None and (timed or tells)
        self.entry = self._built(programs, title, [*extra, *([FLAG] if timed else [])]) if entry is None else entry
        self.library = Library(self.entry.library)
        self.threads = threads or cpu.threads()
        self.pool: Pool | None = Pool(self.library, self.threads) if self.threads > 1 else None
        self.lock = threading.RLock()
        self._arena = np.empty(0, np.uint8)
        self._arena_at = 0
        self._arena_bytes = 0
        self.segments = [Segment(self, p, i) for i, p in enumerate(programs)]
        self.profiles: list[Profile] = []
        if timed:
            for i, segment in enumerate(self.segments):
                segment.call.profile(True)
                segment.profile = Profile(f"{title}, segment {i}", segment.program, segment.call.times, self.threads)
                self.profiles.append(segment.profile)
        self._finalizer = weakref.finalize(self, _tell, self.profiles if tells else [])

    @staticmethod
    def _built(programs: Sequence[Program], title: str, extra: Sequence[str]) -> cache.Entry:
        written = unit(programs, title)
        if knobs.DEBUG.number >= 4:
            knobs.debug(4, written.text)
        if knobs.DEBUG.number >= 6:
            nests = [s.nest for p in programs for s in p.all_steps() if isinstance(s, NestStep)]
            knobs.debug(6, "\n".join(map(show, nests)))
        return build(written.text, isa=target.chosen(), kernels=written.kernels, extra=[*FLAGS, *extra],
                     own=EXACT if any(counts(p) for p in programs) else ())

    @property
    def source(self) -> str:
        """The C that it was made from."""
        return self.entry.source.read_text(encoding="utf-8")

    def arena(self, nbytes: int) -> int:
        """The address of working memory of that size at the least, aligned to 64 bytes."""
        if nbytes > self._arena_bytes:
            self._arena = _room((nbytes + 64,), np.dtype(np.uint8), "what lies between the nodes")
            self._arena_at = -(-address(self._arena) // 64) * 64
            self._arena_bytes = nbytes
            for segment in self.segments:
                segment.call.arena(self._arena_at)
        return self._arena_at

    def close(self) -> None:
        """Stop the threads; nothing of this can run afterwards."""
        with self.lock:
            if self.pool is not None:
                self.pool.close()
                self.pool = None
            self.segments = []
            self._finalizer()


class Segment:
    """One function of a module."""

    def __init__(self, module: Module, program: Program, index: int):
        self.module, self.program = module, program
        self.weights = [np.require(array_of(v), requirements=["C", "A"]) for v in program.values]
        self.steps = list(program.all_steps())
        self.call = Call(len(program.inputs) + len(self.weights), len(program.outputs), len(program.symbols),
                         2 * len(self.steps))
        self.profile: Profile | None = None
        for i, w in enumerate(self.weights, len(program.inputs)):
            self.call.inputs[i] = address(w)
        self.call.pool(module.pool)
        self._run = entry_point(module.library, f"gs_run_{index}")
        self.entry = ctypes.cast(self._run, ctypes.c_void_p).value
        self._arena_bytes = module.library.function(f"gs_arena_{index}", ctypes.c_int64, ctypes.c_void_p)
        self._dtypes = [b.dtype.numpy for b in program.outputs]
        self._shapes: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def run(self, inputs: Sequence[np.ndarray], sizes: Mapping[Dim, int]) -> list[np.ndarray]:
        """The outputs for these inputs, which must be C-contiguous and of the right types and shapes.

        Raises:
            RunError: an index in the data was outside, or a size is impossible; `Misfit`: sizes do not fit each other.
        """
        key = tuple(map(sizes.__getitem__, self.program.symbols))
        with self.module.lock:
            return self.run_sized(inputs, key, self.shapes(key, sizes))

    def shapes(self, key: tuple[int, ...], sizes: Mapping[Dim, int]) -> list[tuple[int, ...]]:
        """The shapes of the outputs for sizes, `key` being those of `program.symbols`; the arena is made to suffice."""
        # It may have been given up for a larger one since; `arena` keeps all calls right.
        found = self._shapes.get(key)
        return found if found is not None else self._prepare(key, sizes)

    def run_sized(self, inputs: Sequence[np.ndarray], key: tuple[int, ...], shapes: Sequence[tuple[int, ...]]
                  ) -> list[np.ndarray]:
        """A run whose sizes were seen to before, by `shapes`. Nobody else may run the module meanwhile."""
        call = self.call
        if key:
            dims = call.dims
            for i, n in enumerate(key):
                dims[i] = n
        pointers = call.inputs
        for i, x in enumerate(inputs):
            pointers[i] = address(x)
        outputs = []
        pointers = call.outputs
        for i, (shape, dtype) in enumerate(zip(shapes, self._dtypes)):
            outputs.append(y := _room(shape, dtype, "an output"))
            pointers[i] = address(y)
        if self.profile is not None:
            self.profile.runs[key] = self.profile.runs.get(key, 0) + 1
        code = self._run(call.pointer)
        if code:
            call.check(code)
        return outputs

    def sizes(self) -> dict[Dim, int]:
        """What the symbols were in the newest set of sizes; empty before any run."""
        key = next(reversed(self._shapes), ())
        return dict(zip(self.program.symbols, key))

    def _prepare(self, key: tuple[int, ...], sizes: Mapping[Dim, int]) -> list[tuple[int, ...]]:
        """The shapes of the outputs for these sizes, and an arena that is large enough."""
        for demand in self.program.demands:
            demand.check(sizes)
        try:
            shapes = [tuple(evaluate(d, sizes) for d in b.shape) for b in self.program.outputs]
            for buffer in (*self.program.buffers, *self.program.pointers):
                self._check(buffer.name, buffer.shape, sizes)
        except ZeroDivisionError as e:
            raise RunError(f"a size cannot be computed: {e}") from e
        for buffer, shape in zip(self.program.outputs, shapes):
            if any(d < 0 for d in shape):
                raise RunError(f"'{buffer.name}' would have the shape {shape}")
        for i, n in enumerate(key):
            self.call.dims[i] = n
        self.module.arena(self._arena_bytes(self.call.pointer))
        if len(self._shapes) >= _REMEMBERED:
            self._shapes.clear()
        self._shapes[key] = shapes
        return shapes

    @staticmethod
    def _check(name: str, shape: Sequence[Any], sizes: Mapping[Dim, int]) -> None:
        counted = [evaluate(d, sizes) for d in shape if not isinstance(d, Dim) or d.symbols() <= sizes.keys()]
        if any(d < 0 for d in counted):
            raise RunError(f"a tensor on the way ('{name}') would have the sizes {counted}")


def counts(program: Program) -> bool:
    """Whether bytes are multiplied there, or made of floats, so that what stands around them rounds to bytes."""
    for step in program.all_steps():
        if isinstance(step, KernelStep) and step.kernel.apart:
            return True
        nest = step.nest if isinstance(step, NestStep) else step.tile if isinstance(step, KernelStep) else None
        if nest is not None and any(b.dtype in (INT8, UINT8) for b in writes(nest)) \
                and any(isinstance(s, Apply) and s.dtype.is_float for st in walk(nest.body) for s in scalars(st)):
            return True
    return False


def _tell(profiles: Sequence[Profile]) -> None:
    for profile in profiles:
        if profile.total():
            knobs.debug(2, profile.text(peak.here(profile.threads)))


def _room(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> np.ndarray:
    """A new array.

    Raises:
        RunError: there is no memory for it.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as e:
        raise RunError(f"there is no memory for {what} of shape {shape} ({dtype})",
                       advice="smaller inputs, or a machine with more memory") from e


def compile_exprs(inputs: Sequence[Any], roots: Sequence[Any], title: str = "expressions", threads: int = 1,
                  extra: Sequence[str] = (), isa: cpu.Isa | None = None, precision: str = "f32") -> Segment:
    """Compile expressions by themselves: for tests and people. `isa` None: for exactly this processor.

    >>> from gesher.base.dtypes import FLOAT
    >>> from gesher.primitives import Builder
    >>> p = Builder()
    >>> x = p.input("x", FLOAT, (2,))
    >>> compile_exprs([x], [x + 1.0]).run([np.float32([1, 2])], {})[0].tolist()
    [2.0, 3.0]
    """
    with target.building_for(isa, precision):
        return Module([plan_exprs(inputs, roots)], title, threads, extra).segments[0]


def plan_exprs(inputs: Sequence[Any], roots: Sequence[Any]) -> Program:
    """The program of expressions by themselves, for the instruction set that is being built for."""
    from .demands import demands
    from .plan import build as plan
    from .plan import check_types, prepared

    ready = prepared(roots)
    check_types(ready)
    known = {s for e in inputs for d in e.shape if isinstance(d, Dim) for s in d.symbols()}
    return plan("segment", inputs, ready, demands=demands(roots, known))
