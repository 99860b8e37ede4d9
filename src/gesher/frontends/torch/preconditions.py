"""What a captured program takes for granted of its sizes: the branches that it took while it was captured.

A guard is a condition over sizes, with the line of source that asked for it: `sequence > 1 (sdpa_attention.py:148)`. A
model keeps them in its metadata. Each size that verification tries is held against them: a guard that fails at a size
where module and model agree all the same was harmless; where they differ, it is the reason.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gesher.base.errors import RunError
from gesher.frontends.protocol import Assumption
from gesher.ir import DimLike
from gesher.symbolic import Dim, evaluate

_RELATIONS = {"Equality": "==", "Unequality": "!=", "LessThan": "<=", "StrictLessThan": "<", "GreaterThan": ">=",
              "StrictGreaterThan": ">"}
_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<=": lambda a, b: a <= b, "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b, ">": lambda a, b: a > b}


@dataclass(frozen=True, slots=True)
class Precondition:
    """A condition over named sizes.

    Attributes:
        text: as people read it.
        where: the file and line that asked, without folders; "" where PyTorch does not tell.
        equal: the two sides, where it says that sizes are equal.
        most: (symbol, greatest size), where that is what it says.
    """

    text: str
    where: str
    holds: Callable[[Mapping[str, int]], bool | None]
    equal: tuple[DimLike, DimLike] | None = None
    most: tuple[str, int] | None = None

    @property
    def assumption(self) -> Assumption:
        return Assumption(self.text, self.where)


Said = Callable[[Any], DimLike]
"""Our dim for an expression of PyTorch's."""


def precondition(guard: Any, said: Said, where: str) -> Precondition | None:
    """Our form of a guard; None where it holds by itself.

    Raises:
        Exception: what `said` raises for an expression that has no form of ours.
    """
    kind = type(guard).__name__
    if kind in ("BooleanTrue", "bool"):
        return None
    if kind in _RELATIONS:
        return relation(_RELATIONS[kind], said(guard.args[0]), said(guard.args[1]), where)
    parts = [precondition(a, said, where) for a in guard.args]
    if kind == "Not" and parts[0] is not None:
        inner = parts[0]
        return Precondition(f"not ({inner.text})", where, lambda sizes: _negated(inner.holds(sizes)))
    kept = [p for p in parts if p is not None]
    if kind == "And":
        if not kept:
            return None
        return Precondition(" and ".join(p.text for p in kept), where,
                            lambda sizes: _all([p.holds(sizes) for p in kept]))
    if kind == "Or":
        if len(kept) < len(parts):
            return None
        return Precondition(" or ".join(p.text for p in kept), where,
                            lambda sizes: _negated(_all([_negated(p.holds(sizes)) for p in kept])))
    raise TypeError(f"a guard of kind {kind}")


def relation(op: str, a: DimLike, b: DimLike, where: str) -> Precondition | None:
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return None if _HOLDS[op](a, b) else Precondition("never", where, lambda _: False)
    if op == "==" and isinstance(a, Dim) and isinstance(b, Dim) and a == b:
        return None

    def holds(sizes: Mapping[str, int]) -> bool | None:
        try:
            return _HOLDS[op](evaluate(a, sizes), evaluate(b, sizes))
        except (RunError, ArithmeticError):    # a size that only the data tell
            return None

    most = None
    if isinstance(a, Dim) and a.op == "sym" and isinstance(b, int) and op in ("<=", "<"):
        most = (a.name, b - (op == "<"))
    if op == "==":
        most = most or _limit(a, b) or _limit(b, a)
    return Precondition(f"{a} {op} {b}", where, holds, (a, b) if op == "==" else None, most)


def _limit(a: DimLike, b: DimLike) -> tuple[str, int] | None:
    """`min(64, s) == s` says that s is 64 at the most."""
    if isinstance(a, Dim) and a.op == "min" and isinstance(b, Dim) and b.op == "sym" and any(x is b for x in a.args):
        rest = [x for x in a.args if x is not b]
        if len(rest) == 1 and isinstance(rest[0], int):
            return b.name, rest[0]
    return None


def _negated(x: bool | None) -> bool | None:
    return None if x is None else not x


def _all(xs: list[bool | None]) -> bool | None:
    if any(x is False for x in xs):
        return False
    return None if any(x is None for x in xs) else True


# Where guards come from

_TORCH = os.path.dirname(torch.__file__) + os.sep
_OURS = os.path.dirname(__file__) + os.sep


@contextmanager
def lines_of_users() -> Iterator[None]:
    """While this is entered, PyTorch notes with a guard the innermost line outside of PyTorch and of this package."""
    from torch.fx.experimental import symbolic_shapes

    env: Any = symbolic_shapes.ShapeEnv
    original = getattr(env, "_get_user_frame", None)

    def frame(self: Any) -> Any:
        f = inspect.currentframe()
        f = f.f_back if f is not None else None
        while f is not None:
            name = f.f_code.co_filename
            if not name.startswith((_TORCH, _OURS, "<")) and os.path.basename(name) != "contextlib.py":
                return f
            f = f.f_back
        return original(self) if original is not None else None

    if original is None:    # a PyTorch that notes lines in another way
        yield
        return
    env._get_user_frame = frame
    try:
        yield
    finally:
        env._get_user_frame = original


def line_of(sloc: Any) -> str:
    """`modeling_bert.py:95`, from what PyTorch noted with a guard; without folders, which are the machine's own."""
    loc = getattr(sloc, "framework_loc", None)
    name, line = getattr(loc, "filename", ""), getattr(loc, "lineno", None)
    return f"{os.path.basename(name)}:{line}" if name else ""
