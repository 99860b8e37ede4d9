"""`int(x.shape[2])`, `len(x)`, `list(x)` in a module's own source, while it is captured: the size stays a symbol.

Python insists that the first two answer with a number, so PyTorch can only fix a size that is put through them. There
is nothing to compute: a size is whole already, and a quotient of sizes is cut off as `int` cuts off floats. A list of a
tensor's rows need not be counted either (`rows`). So the three names stand for something else for a moment, in the
packages that the module's classes come from, and in no others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .rows import Rows, RowsJoined


class _Stand(type):
    """Looks like a class of Python's to whoever asks whether something is one, or makes one, or has its methods."""

    of: type = object

    def __call__(cls, *args: Any, **named: Any) -> Any:
        return cls.make(*args) if len(args) == 1 and not named else cls.of(*args, **named)

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, cls.of)

    def __subclasscheck__(cls, c: type) -> bool:
        return issubclass(c, cls.of)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.of, name)

    def __getitem__(cls, item: Any) -> Any:
        return cls.of[item]    # type: ignore[index]

    def __eq__(cls, other: object) -> bool:
        return other is cls.of or other is cls

    def __hash__(cls) -> int:
        return hash(cls.of)


class _SizeOrInteger(metaclass=_Stand):
    """Takes the place of `int`."""

    of = int

    @staticmethod
    def make(x: Any) -> Any:
        if isinstance(x, torch.SymInt):
            return x
        return torch.sym_int(x) if isinstance(x, torch.SymFloat) else int(x)


class _RowsOrList(metaclass=_Stand):
    """Takes the place of `list`."""

    of = list

    @staticmethod
    def make(x: Any) -> Any:
        several = isinstance(x, torch.Tensor) and x.ndim > 1 and not isinstance(x.shape[0], int)
        return Rows(x) if several else list(x)


def _length(x: Any) -> Any:
    """Takes the place of `len`."""
    return x.shape[0] if isinstance(x, torch.Tensor) and x.ndim else len(x)


_OURS: dict[str, Any] = {"int": _SizeOrInteger, "len": _length, "list": _RowsOrList}


@contextmanager
def sizes_stay_symbols(module: Any) -> Iterator[None]:
    """While this is entered, `int`, `len` and `list` leave symbolic sizes as they are, in the source of `module`."""
    own = {c.__module__.partition(".")[0] for part in module.modules() for c in type(part).__mro__}
    own -= {"torch", "builtins", "gesher", "abc", "typing"}
    shadowed = []
    for name, source in list(sys.modules.items()):
        names = getattr(source, "__dict__", None)
        if name.partition(".")[0] not in own or not isinstance(names, dict):
            continue
        for builtin, ours in _OURS.items():
            if builtin not in names:
                names[builtin] = ours
                shadowed.append((names, builtin))
    try:
        with RowsJoined():
            yield
    finally:
        for names, builtin in shadowed:
            del names[builtin]
