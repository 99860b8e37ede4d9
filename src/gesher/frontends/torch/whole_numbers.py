"""`int(x.shape[2])` and `len(x)` in a module's own source, while the module is captured: the size stays a symbol.

Python insists that both answer with a number, so PyTorch can only fix a size that is put through them. There is nothing
to compute: a size is whole already, and a quotient of sizes is cut off as `int` cuts off floats. So both names stand
for something else for a moment, in the packages that the module's classes come from, and in no others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _Integer(type):
    """Looks like the class `int` to whoever asks whether something is one, or makes one."""

    def __call__(cls, *args: Any, **named: Any) -> Any:
        if len(args) == 1 and not named:
            if isinstance(args[0], torch.SymInt):
                return args[0]
            if isinstance(args[0], torch.SymFloat):
                return torch.sym_int(args[0])
        return int(*args, **named)

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, int)

    def __subclasscheck__(cls, c: type) -> bool:
        return issubclass(c, int)

    def __eq__(cls, other: object) -> bool:
        return other is int or other is cls

    def __hash__(cls) -> int:
        return hash(int)


class _SizeOrInteger(metaclass=_Integer):
    """Takes the place of `int`."""


def _length(x: Any) -> Any:
    """Takes the place of `len`."""
    return x.shape[0] if isinstance(x, torch.Tensor) and x.ndim else len(x)


_OURS: dict[str, Any] = {"int": _SizeOrInteger, "len": _length}


@contextmanager
def sizes_stay_symbols(module: Any) -> Iterator[None]:
    """While this is entered, `int` and `len` give symbolic sizes as they are, in the source that `module` is written
    in."""
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
        yield
    finally:
        for names, builtin in shadowed:
            del names[builtin]
