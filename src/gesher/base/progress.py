"""How far long work is, for whoever waits: what works tells, and one listener shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]

_listener: Listener | None = None


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within, `listener(what, done, total)` hears of long work in every thread; `done == total` is the end of it."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def tell(what: str, done: int, total: int) -> None:
    """Say that `done` of `total` parts of `what` are done. Costs nothing where nobody listens."""
    if _listener is not None:
        _listener(what, done, total)
