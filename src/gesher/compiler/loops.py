"""Loop nests: what is left of a model just before it becomes C. Buffers, index expressions, loops, scalar steps.

Index expressions are `symbolic.Dim`s over sizes and loop variables, so that they simplify as sizes do. Scalars are
computed step by step into named variables; every variable is set once, but for the accumulators of reductions.

What a reader would guess wrong: a variable of type float16 or bfloat16 holds a float; `Apply` rounds it where its
result is of such a type, and only buffers hold the narrow form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gesher.base.dtypes import DType
from gesher.base.errors import CompileError
from gesher.symbolic import Dim, DimLike, decide_eq, decide_ge, decide_lt, product

Place = Literal["input", "weight", "output", "arena", "slice"]


@dataclass(eq=False, slots=True)
class Buffer:
    """A contiguous tensor in memory.

    Attributes:
        name: its C name.
        place: what holds it: the caller's arrays, the weights, the arena, or others (`over`).
        slot: its number among the inputs, outputs or weights.
        over: of a slice: the buffers that it may point into.
    """

    name: str
    dtype: DType
    shape: tuple[DimLike, ...]
    place: Place = "arena"
    slot: int = -1
    over: tuple[Buffer, ...] = ()

    @property
    def size(self) -> DimLike:
        return product(self.shape)

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype.name}({','.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class Var:
    """A scalar that a statement set."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    value: Any
    dtype: DType


@dataclass(frozen=True, slots=True)
class IndexValue:
    """An index expression as a number."""

    dim: DimLike
    dtype: DType


@dataclass(frozen=True, slots=True)
class Load:
    """The element of a buffer."""

    buffer: Buffer
    index: DimLike

    @property
    def dtype(self) -> DType:
        return self.buffer.dtype


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise primitive on scalars: a row of `primitives.MAPS`, or select, cast, bitcast, is_inf, inside."""

    op: str
    args: tuple[Any, ...]
    dtype: DType
    params: tuple[tuple[str, Any], ...] = ()


Scalar = Var | Number | IndexValue | Load | Apply


@dataclass(slots=True)
class Let:
    """A new variable; `changes` where later statements assign to it."""

    var: Var
    value: Scalar
    changes: bool = False


@dataclass(slots=True)
class Assign:
    var: Var
    value: Scalar


@dataclass(slots=True)
class Index:
    """A new index variable taken from a scalar: counted from the end where negative; `ok` is false where it is then
    outside 0 ... size-1."""

    symbol: Dim
    value: Scalar
    size: DimLike
    ok: Var


@dataclass(slots=True)
class Fail:
    """Note that an index was outside, where `ok` is false; the run then ends with an error."""

    ok: Var
    message: str


@dataclass(slots=True)
class Store:
    buffer: Buffer
    index: DimLike
    value: Scalar


@dataclass(slots=True)
class For:
    """A loop of `symbol` from 0 to before `extent`.

    `vector`: its turns do not depend on each other, but through `folds`: (variable, reduction) pairs.
    """

    symbol: Dim
    extent: DimLike
    body: list[Any]
    vector: bool = False
    folds: tuple[tuple[Var, str], ...] = ()


@dataclass(slots=True)
class If:
    """`then` where every condition holds: (index expression, low, high) means low <= it < high; a Var is a bool."""

    conditions: tuple[Any, ...]
    then: list[Any]
    other: list[Any] = field(default_factory=list)


Statement = Let | Assign | Index | Fail | Store | For | If


@dataclass(eq=False, slots=True)
class Nest:
    """One loop nest: statements that fill buffers.

    `comment` says in a line what it computes. `parallel` outer loops (perfectly nested) may be cut among threads.
    """

    name: str
    comment: str
    body: list[Statement]
    parallel: int = 0
    cost: int = 1


def walk(statements: Sequence[Any]) -> Iterator[Any]:
    """Every statement, outer before inner."""
    for s in statements:
        yield s
        if isinstance(s, For):
            yield from walk(s.body)
        elif isinstance(s, If):
            yield from walk(s.then)
            yield from walk(s.other)


def scalars(statement: Any) -> Iterator[Scalar]:
    """The scalars that a statement reads, nested ones too."""
    pending = [getattr(statement, "value", None)] if not isinstance(statement, (For, If)) else []
    while pending:
        s = pending.pop()
        if s is None:
            continue
        yield s
        if isinstance(s, Apply):
            pending.extend(s.args)


def reads(nest: Nest) -> set[Buffer]:
    """The buffers that a nest reads."""
    return {s.buffer for st in walk(nest.body) for s in scalars(st) if isinstance(s, Load)}


def writes(nest: Nest) -> set[Buffer]:
    return {st.buffer for st in walk(nest.body) if isinstance(st, Store)}


def dims_of(nest: Nest) -> Iterator[Dim]:
    """Every index expression in a nest."""
    for st in walk(nest.body):
        found: list[Any] = []
        if isinstance(st, For):
            found.append(st.extent)
        elif isinstance(st, If):
            found += [d for c in st.conditions if not isinstance(c, Var) for d in c]
        elif isinstance(st, Index):
            found.append(st.size)
        elif isinstance(st, Store):
            found.append(st.index)
        for s in scalars(st):
            if isinstance(s, Load):
                found.append(s.index)
            elif isinstance(s, IndexValue):
                found.append(s.dim)
        yield from (d for d in found if isinstance(d, Dim))


# For people

def show(nest: Nest) -> str:
    """The nest as text.

        nest add_0: y = add of x and b
          for i1 < 4
            t0 = x[i1]
    """
    names: dict[Dim, str] = {}
    lines = [f"nest {nest.name}: {nest.comment}"]
    _show(nest.body, "  ", names, lines)
    return "\n".join(lines)


def _dim(d: DimLike, names: dict[Dim, str]) -> str:
    if isinstance(d, Dim) and names:
        from gesher.symbolic import substitute, sym

        return str(substitute(d, {s: sym(names[s], min=None) for s in d.symbols() if s in names}))
    return str(d)


def _scalar(s: Scalar, names: dict[Dim, str]) -> str:
    if isinstance(s, Var):
        return s.name
    if isinstance(s, Number):
        return str(s.value)
    if isinstance(s, IndexValue):
        return f"index({_dim(s.dim, names)})"
    if isinstance(s, Load):
        return f"{s.buffer.name}[{_dim(s.index, names)}]"
    return f"{s.op}({', '.join(_scalar(a, names) for a in s.args)})"


def _show(body: Sequence[Any], indent: str, names: dict[Dim, str], lines: list[str]) -> None:
    for s in body:
        if isinstance(s, For):
            names[s.symbol] = f"i{len(names)}"
            folds = "".join(f" folding {v.name} by {op}" for v, op in s.folds)
            lines.append(f"{indent}for {names[s.symbol]} < {_dim(s.extent, names)}"
                         f"{' vector' if s.vector else ''}{folds}")
            _show(s.body, indent + "  ", names, lines)
        elif isinstance(s, If):
            text = " and ".join(c.name if isinstance(c, Var) else
                                f"{_dim(c[1], names)} <= {_dim(c[0], names)} < {_dim(c[2], names)}"
                                for c in s.conditions)
            lines.append(f"{indent}if {text}")
            _show(s.then, indent + "  ", names, lines)
            if s.other:
                lines.append(f"{indent}else")
                _show(s.other, indent + "  ", names, lines)
        elif isinstance(s, Store):
            lines.append(f"{indent}{s.buffer.name}[{_dim(s.index, names)}] = {_scalar(s.value, names)}")
        elif isinstance(s, Index):
            names[s.symbol] = f"j{len(names)}"
            lines.append(f"{indent}{names[s.symbol]}, {s.ok.name} = inside({_scalar(s.value, names)}, "
                         f"{_dim(s.size, names)})")
        elif isinstance(s, Fail):
            lines.append(f"{indent}fail unless {s.ok.name}: {s.message}")
        else:
            lines.append(f"{indent}{s.var.name} {'=' if isinstance(s, Let) else '<-'} {_scalar(s.value, names)}")


# The verifier

def verify(nest: Nest, sizes: frozenset[Dim] | None = None) -> None:
    """Refuse a nest that reads what is not set, mixes types, or surely leaves a buffer.

    Args:
        nest: the nest.
        sizes: the symbols that stand for sizes; None: any symbol that no loop sets.

    Raises:
        CompileError: with the nest as text.
    """
    def fail(what: str) -> None:
        raise CompileError(f"loop nest {nest.name}: {what}\n{show(nest)}")

    def check_dim(d: DimLike, known: set[Dim]) -> None:
        if isinstance(d, Dim) and sizes is not None:
            loose = d.symbols() - known - sizes
            if loose:
                fail(f"the index {d} uses {', '.join(map(str, loose))}, which nothing sets")

    def check_access(buffer: Buffer, index: DimLike, known: set[Dim]) -> None:
        check_dim(index, known)
        if decide_lt(index, 0) or decide_ge(index, buffer.size):
            fail(f"{buffer.name}[{index}] lies outside {buffer.size} elements")

    def check(body: Sequence[Any], variables: dict[str, DType], known: set[Dim], changing: set[str]) -> None:
        for st in body:
            for s in scalars(st):
                if isinstance(s, Var) and variables.get(s.name) is not s.dtype:
                    fail(f"{s.name} is read where it is not set as {s.dtype.name}")
                elif isinstance(s, Load):
                    check_access(s.buffer, s.index, known)
                elif isinstance(s, IndexValue):
                    check_dim(s.dim, known)
            if isinstance(st, For):
                check_dim(st.extent, known)
                if decide_eq(st.extent, 0):
                    continue  # it never runs
                check(st.body, dict(variables), known | {st.symbol}, changing)
            elif isinstance(st, If):
                for c in st.conditions:
                    if isinstance(c, Var):
                        if c.name not in variables:
                            fail(f"{c.name} is asked where it is not set")
                    else:
                        for d in c:
                            check_dim(d, known)
                if not any(decide_ge(c[1], c[2]) for c in st.conditions if not isinstance(c, Var)):
                    check(st.then, dict(variables), set(known), changing)
                check(st.other, dict(variables), set(known), changing)
            elif isinstance(st, Let):
                if st.var.name in variables:
                    fail(f"{st.var.name} is set twice")
                if st.value.dtype is not st.var.dtype:
                    fail(f"{st.var.name} is {st.var.dtype.name}, what it is set to {st.value.dtype.name}")
                variables[st.var.name] = st.var.dtype
                if st.changes:
                    changing.add(st.var.name)
            elif isinstance(st, Assign):
                if st.var.name not in changing or variables.get(st.var.name) is not st.value.dtype:
                    fail(f"{st.var.name} is assigned to, and is no accumulator of type {st.value.dtype.name}")
            elif isinstance(st, Index):
                check_dim(st.size, known)
                known.add(st.symbol)
                variables[st.ok.name] = st.ok.dtype
            elif isinstance(st, Store):
                check_access(st.buffer, st.index, known)
                if st.value.dtype is not st.buffer.dtype:
                    fail(f"a {st.value.dtype.name} is stored into {st.buffer!r}")

    check(nest.body, {}, set(), set())
