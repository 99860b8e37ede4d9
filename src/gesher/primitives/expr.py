"""Primitive expressions: the mathematics of a model as ~40 primitives on whole tensors.

An `Expr` is immutable and pure; its builder makes equal ones the same object, so sharing is by identity and `==` is not
overloaded. What a reader would guess wrong:

- An expression has one result. What gives several (`loop`, `branch`, `composite`) is a bundle, whose parts are taken
  with the primitive `item`; a bundle has the dtype UNDEFINED and its parts' types in `params["types"]`.
- A `composite` holds its meaning over the very same arguments (`params["meaning"]`): expanding it is picking a part.
- Bodies of loops refer to outer expressions just by using them. `scopes` tells which loops' parameters an expression
  depends on; what depends on none is computed once, outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gesher.base.dtypes import DType
from gesher.symbolic import Dim

if TYPE_CHECKING:
    from .builder import Builder

DimLike = int | Dim
Shape = tuple[DimLike, ...]
Type = tuple[DType, Shape]

NO_SCOPES: frozenset[int] = frozenset()


class CannotLower(Exception):  # noqa: N818  (a verdict, not a fault)
    """An operator has no lowering in this form; the reason is told, and the engine runs its reference rule."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Expr:
    """One primitive applied to expressions.

    Attributes:
        prim: the name of the primitive.
        args: the operands.
        params: everything else that it means: axes, sizes, names (ints, Dims, strings, tuples of those, arrays).
        dtype, shape: of the result; dims are ints or Dims.
        builder: who made it.
        scopes: numbers of the loops whose parameters it depends on.
        name: a hint for people, used in printed and generated code.
    """

    __slots__ = ("__weakref__", "args", "builder", "dtype", "name", "params", "prim", "scopes", "shape")

    def __init__(self, prim: str, args: tuple[Expr, ...], params: dict[str, Any], dtype: DType, shape: Shape,
                 builder: Builder, scopes: frozenset[int] = NO_SCOPES):
        self.prim, self.args, self.params, self.dtype, self.shape = prim, args, params, dtype, shape
        self.builder, self.scopes = builder, scopes
        self.name = ""

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __add__(self, other: Any) -> Expr:
        return self.builder.add(self, other)

    def __radd__(self, other: Any) -> Expr:
        return self.builder.add(other, self)

    def __sub__(self, other: Any) -> Expr:
        return self.builder.sub(self, other)

    def __rsub__(self, other: Any) -> Expr:
        return self.builder.sub(other, self)

    def __mul__(self, other: Any) -> Expr:
        return self.builder.mul(self, other)

    def __rmul__(self, other: Any) -> Expr:
        return self.builder.mul(other, self)

    def __truediv__(self, other: Any) -> Expr:
        return self.builder.div(self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return self.builder.div(other, self)

    def __pow__(self, other: Any) -> Expr:
        return self.builder.pow(self, other)

    def __rpow__(self, other: Any) -> Expr:
        return self.builder.pow(other, self)

    def __neg__(self) -> Expr:
        return self.builder.neg(self)

    def __lt__(self, other: Any) -> Expr:
        return self.builder.lt(self, other)

    def __le__(self, other: Any) -> Expr:
        return self.builder.le(self, other)

    def __gt__(self, other: Any) -> Expr:
        return self.builder.gt(self, other)

    def __ge__(self, other: Any) -> Expr:
        return self.builder.ge(self, other)

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth value; use p.select, p.branch or p.known")

    def __repr__(self) -> str:
        return f"<{self.prim} {print_type(self)}{' ' + self.name if self.name else ''}>"


def inner(expr: Expr) -> Iterator[Expr]:
    """The expressions in the parameters: bodies of loops, arms of branches; not the meanings of composites."""
    for key in ("carried_out", "stacked_out", "then", "other"):
        yield from expr.params.get(key, ())


def walk(roots: Iterable[Expr], *, meanings: bool = False) -> Iterator[Expr]:
    """Every expression below `roots` once, operands before users, bodies before loops. Deep expressions are fine.

    With `meanings`, also what composites mean.
    """
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        expr, ready = stack.pop()
        if ready:
            yield expr
        elif expr not in seen:
            seen.add(expr)
            stack.append((expr, True))
            means = expr.params["meaning"] if meanings and expr.prim == "composite" else ()
            below = [*expr.args, *inner(expr), *means]
            stack.extend((a, False) for a in reversed(below) if a not in seen)


def print_type(expr: Expr) -> str:
    """`float(n,3)`; for a bundle the types of its parts."""
    types = expr.params.get("types")
    if types is not None:
        return "(" + ", ".join(f"{d.name}({','.join(map(str, s))})" for d, s in types) + ")"
    return f"{expr.dtype.name}({','.join(map(str, expr.shape))})"


def print_exprs(roots: Iterable[Expr]) -> str:
    """The expressions as text, one to a line, operands first.

        %0 = input x                 : float(n,3)
        %1 = exp %0                  : float(n,3)
    """
    numbers: dict[Expr, str] = {}
    lines: list[str] = []
    for expr in walk(roots):
        numbers[expr] = f"%{len(numbers)}"
        words = [expr.prim]
        words += [numbers[a] for a in expr.args]
        words += [f"{k}={_print_param(v, numbers)}" for k, v in expr.params.items() if k not in ("types", "meaning")]
        lines.append(f"{numbers[expr]} = {' '.join(words)} : {print_type(expr)}")
    return "\n".join(lines)


def _print_param(value: Any, numbers: dict[Expr, str]) -> str:
    if isinstance(value, Expr):
        return numbers[value]
    if isinstance(value, tuple):
        return "(" + ",".join(_print_param(v, numbers) for v in value) + ")"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        size = 1
        for d in value.shape:
            size *= int(d)
        return f"<{'x'.join(map(str, value.shape))} numbers>" if size > 8 else str(_numbers(value)).replace("\n", "")
    return str(value)


def _numbers(value: Any) -> Any:
    return (value.numpy() if hasattr(value, "numpy") and callable(value.numpy) else value).tolist()
