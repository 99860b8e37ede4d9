"""The instructions that code is being made for, so that layouts and variants are chosen for them.

Lowering, matching and packing ask `current()`; a session sets it around everything that it plans and builds. None of
them takes it as an argument, because nearly none of them asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import cpu

_CHOSEN: ContextVar[cpu.Isa | None] = ContextVar("isa", default=None)


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


@contextmanager
def building_for(isa: cpu.Isa | None) -> Iterator[None]:
    """Within, code is made for `isa`; None: for this processor."""
    token = _CHOSEN.set(isa)
    try:
        yield
    finally:
        _CHOSEN.reset(token)
