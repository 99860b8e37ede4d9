"""What code is being made for: instructions, precision, threads; layouts and variants are chosen for them.

Lowering, matching and packing ask `current()`; a session sets it around everything that it plans and builds. None of
them takes it as an argument, because nearly none of them asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gesher.base.errors import UnsupportedError

from . import cpu

_CHOSEN: ContextVar[cpu.Isa | None] = ContextVar("isa", default=None)
_PRECISION: ContextVar[str] = ContextVar("precision", default="f32")
_THREADS: ContextVar[int] = ContextVar("threads", default=1)

PRECISIONS = ("f32", "bf16")


def chosen() -> cpu.Isa | None:
    """What was asked for; None: exactly this processor, with all that it has."""
    return _CHOSEN.get()


def current() -> cpu.Isa:
    """The instruction set that is built for."""
    return _CHOSEN.get() or cpu.here().isa


def features() -> frozenset[str]:
    """The processor features that code may use: of a named instruction set its own, else all of this processor."""
    isa = _CHOSEN.get()
    return cpu.here().features if isa is None else isa.needs


def bf16() -> bool:
    """Whether products of floats may round what they multiply to bfloat16; they sum in float32 in any case."""
    return _PRECISION.get() == "bf16"


def multiplies_bf16() -> bool:
    """Whether the processor has an instruction for such products; else they are multiplied as float32."""
    return bool({"avx512_bf16", "bf16"} & features()) and current().name in ("avx512", "neon")


def told_bf16() -> str:
    """What people are told of a kernel whose products are bfloat16."""
    return ", bf16" if multiplies_bf16() else ", bf16 by float32: no instruction for it here"


def threads() -> int:
    """How many threads will work at once, about: a power of two. They share what the memory brings."""
    return _THREADS.get()


def about(threads: int) -> int:
    """The number of threads that code is made for where `threads` will run it: code for every number would fill caches.

    >>> [about(n) for n in (1, 2, 3, 12)]
    [1, 2, 2, 8]
    """
    return 1 << max(threads, 1).bit_length() - 1


@contextmanager
def building_for(isa: cpu.Isa | None, precision: str = "f32", threads: int = 1) -> Iterator[None]:
    """Within, code is made for `isa` (None: for this processor) with products of that precision, to be run by about
    that many threads; it is right with any number.

    Raises:
        UnsupportedError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UnsupportedError(f"there is no precision {precision!r}", who="compiler",
                               advice="one of " + ", ".join(PRECISIONS))
    chosen_before, precision_before = _CHOSEN.set(isa), _PRECISION.set(precision)
    threads_before = _THREADS.set(about(threads))
    try:
        yield
    finally:
        _THREADS.reset(threads_before)
        _CHOSEN.reset(chosen_before)
        _PRECISION.reset(precision_before)
