"""`Dim`: an integer expression over the sizes that are not known yet.

A `Dim` is never a plain number: an operation whose result is a constant returns an `int`, so `DimLike = int | Dim`
is the type of every size. Expressions are kept as polynomials with integer coefficients over *atoms*; an atom is a
symbol, or a `floordiv`, `mod`, `min`, `max` or `bcast` of other expressions. Equal polynomials are the same object,
so `==` is cheap and structural. What a reader would guess wrong:

- `==` answers "written alike", not "equal for all values"; `decide_eq` answers the latter, as True, False or None.
- A truth value does not exist (`if n:` raises); compare with `decide_lt` and its sisters.
- Rewrites hold for every value within the symbols' bounds. A division whose divisor may be 0 is not cancelled:
  `n*m // m` stays until `m >= 1` is known. What stands inside a sum, a product or another division is taken as
  defined, though: `n//m - n//m` is 0, and so is `(n % m) // m`.

The structure that a code generator sees, `d.op` and `d.args` (each argument an `int` or a `Dim`):

    sym       ()                  a symbol; `d.name`
    add       (x, y, ...)         terms; a constant stands last
    mul       (x, y, ...)         factors; a constant stands first; a square is a factor twice
    floordiv  (x, y)              toward minus infinity
    mod       (x, y)              with the sign of y, so x == (x // y) * y + x % y
    min, max  (x, y, ...)         two or more
    bcast     (x, y, ...)         the size that x, y, ... broadcast to: the first that is not 1, else 1

Expressions share their parts, so they are graphs: `walk` visits each part once, arguments first. Printing one as C:

    def c(d):
        done = {}
        for part in walk(d):
            xs = [str(x) if isinstance(x, int) else done[x] for x in part.args]
            match part.op:
                case "sym": text = part.name
                case "add": text = "(" + " + ".join(xs) + ")"
                case "mul": text = "(" + " * ".join(xs) + ")"
                case "floordiv": text = f"floordiv({xs[0]}, {xs[1]})"   # C's own / rounds toward zero
                case "mod": text = f"mod({xs[0]}, {xs[1]})"
                case "min" | "max": text = reduce(lambda x, y: f"{part.op}({x}, {y})", xs)
                case "bcast": text = reduce(lambda y, x: f"({x} == 1 ? {y} : {x})", reversed(xs))
            done[part] = text
        return done[d]
"""

from __future__ import annotations

import itertools
import operator
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

OPS = ("sym", "add", "mul", "floordiv", "mod", "min", "max", "bcast")
_OP_RANK = {op: i for i, op in enumerate(OPS)}
_LARGEST_SIZE = 1 << 40

Monomial: TypeAlias = "tuple[Dim, ...]"
Terms: TypeAlias = "dict[Monomial, int]"


class Dim:
    """An immutable integer expression that is not a constant. Made by `sym`, `fresh`, `parse` and the operators.

    Attributes:
        op: one of `OPS`.
        args: the operands, each an `int` or a `Dim`; empty for a symbol.
        name: a symbol's name; `""` for what is not a symbol.
        is_fresh: whether this is an anonymous symbol.
        reason: why an anonymous symbol had to be made; `""` otherwise.
        size: how many nodes it has when written out as a tree (shared parts counted each time; stops at 2**40).
    """

    __slots__ = ("__weakref__", "_bounds", "_identity", "_key", "_symbols", "_terms", "args", "is_fresh", "name", "op",
                 "reason", "size")

    op: str
    args: tuple[DimLike, ...]
    name: str
    is_fresh: bool
    reason: str
    size: int
    _identity: int
    _key: tuple[int, int, str, int, int]
    _terms: Terms | None
    _bounds: tuple[float, float] | None
    _symbols: frozenset[Dim] | None

    def __init__(self) -> None:
        raise TypeError("a Dim is made by sym(), fresh(), parse() or arithmetic on one")

    # Neither __eq__ nor __hash__: equal expressions are the same object (`_node`), so identity decides, at full speed.

    def __bool__(self) -> bool:
        raise TypeError(f"the symbolic dimension {self} is neither true nor false; ask decide_eq, decide_lt, ... "
                        f"which answer True, False or None")

    def __copy__(self) -> Dim:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Dim:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.is_fresh:
            return _restored_fresh, (self._identity, self.reason, *_finite(self._bounds))
        if self.op == "sym":
            lo, hi = _finite(self._bounds)
            return _symbol, (self.name, lo, hi)
        return _restored, (self.op, self.args)

    def symbols(self) -> frozenset[Dim]:
        """The symbols that occur anywhere in it."""
        if self.op == "sym":
            return frozenset((self,))
        if self._symbols is None:
            # Down to the parts that have been asked before, so that growing an expression step by step stays cheap.
            stack = [self]
            while stack:
                part = stack[-1]
                below = [x for x in part.args if isinstance(x, Dim) and x.op != "sym"]
                unasked = [x for x in below if x._symbols is None]
                if unasked:
                    stack.extend(unasked)
                    continue
                stack.pop()
                if part._symbols is None:
                    own = [x for x in part.args if isinstance(x, Dim) and x.op == "sym"]
                    part._symbols = frozenset(own).union(*(x._symbols or () for x in below))
            assert self._symbols is not None
        return self._symbols

    def __str__(self) -> str:
        return printing.write(self)

    def __repr__(self) -> str:
        return f"Dim({printing.write(self)!r})"

    def __add__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return polynomial.add(self, y)

    __radd__ = __add__

    def __sub__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return polynomial.subtract(self, y)

    def __rsub__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return polynomial.subtract(y, self)

    def __mul__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return polynomial.multiply(self, y)

    __rmul__ = __mul__

    def __neg__(self) -> DimLike:
        return polynomial.negate(self)

    def __pos__(self) -> DimLike:
        return self

    def __pow__(self, exponent: int) -> DimLike:
        if not isinstance(exponent, int):
            return NotImplemented
        return polynomial.power(self, exponent)

    def __floordiv__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return division.floordiv(self, y)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return division.floordiv(y, self)

    def __mod__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return division.mod(self, y)

    def __rmod__(self, other: DimLike) -> DimLike:
        if (y := _operand(other)) is None:
            return NotImplemented
        return division.mod(y, self)


DimLike: TypeAlias = int | Dim


def _operand(x: Any) -> DimLike | None:
    """`x` as a DimLike, integers of other libraries included; None where it is no integer."""
    if type(x) is int or isinstance(x, Dim):
        return x
    try:
        return operator.index(x)
    except TypeError:
        return None


def dimlike(x: Any) -> DimLike:
    """`x` as an `int` or a `Dim`.

    Raises:
        TypeError: it is neither, nor an integer of another library.
    """
    if (y := _operand(x)) is None:
        raise TypeError(f"a dimension is an int or a Dim, not {type(x).__name__}: {x!r}")
    return y


def is_symbol(x: DimLike) -> bool:
    """Whether `x` is a bare symbol, named or fresh."""
    return isinstance(x, Dim) and x.op == "sym"


def walk(d: DimLike) -> Iterator[Dim]:
    """Every distinct part of `d`, arguments before what uses them, `d` itself last. Deep expressions are fine."""
    if not isinstance(d, Dim):
        return
    seen: set[Dim] = set()
    stack: list[tuple[Dim, bool]] = [(d, False)]
    while stack:
        part, ready = stack.pop()
        if ready:
            yield part
        elif part not in seen:
            seen.add(part)
            stack.append((part, True))
            stack.extend((x, False) for x in reversed(part.args) if isinstance(x, Dim) and x not in seen)


_INFINITY = float("inf")
# Weak, so that a server that reads models for months does not keep every expression it ever met.
_pool: WeakValueDictionary[Any, Dim] = WeakValueDictionary()
_pool_lock = threading.Lock()
_serial = itertools.count(1)
_stand_in_serial = itertools.count(1)
# Part of a fresh symbol's identity, so that one unpickled in another process meets no namesake there.
_process = int.from_bytes(os.urandom(8), "big")


def _renew_process() -> None:
    global _process, _pool_lock
    _process = int.from_bytes(os.urandom(8), "big")
    _pool_lock = threading.Lock()  # another thread may have held the old one at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_process)


def _entered(pool_key: Any, d: Dim) -> Dim:
    """`d`, unless another thread entered its equal in the meantime: then that one."""
    with _pool_lock:
        found = _pool.get(pool_key)
        if found is not None:
            return found
        _pool[pool_key] = d
        return d


def _blank(op: str, args: tuple[DimLike, ...], name: str, key: tuple[int, int, str, int, int]) -> Dim:
    d = object.__new__(Dim)
    d.op = op
    d.args = args
    d.name = name
    d.is_fresh = False
    d.reason = ""
    d.size = 1
    d._key = key
    d._terms = None
    d._bounds = None
    d._symbols = None
    return d


def _node(op: str, args: tuple[DimLike, ...]) -> Dim:
    """The one node of this operator and these arguments. They must be in canonical form already."""
    pool_key = (op, args)
    d = _pool.get(pool_key)
    if d is not None:
        return d
    size = 1
    first = ""
    digests = [_OP_RANK[op]]
    for x in args:
        if isinstance(x, Dim):
            key = x._key
            size += x.size
            digests.append(key[4])
            if not first or (key[2] and key[2] < first):
                first = key[2]
        else:
            # A number beyond any size counts for its digits, since `printable` goes by size.
            size += 1 + (x.bit_length() >> 6 << 3)
            # Python's hash of -1 is that of -2, so the sign goes into the lowest bit.
            digests.append(2 * x if x >= 0 else 1 - 2 * x)
    size = min(size, _LARGEST_SIZE)
    # Orders terms and arguments the same way in every process: hashes of tuples of integers are not salted.
    key = (2, size, first, _OP_RANK[op], hash(tuple(digests)))
    d = _blank(op, args, "", key)
    d.size = size
    return _entered(pool_key, d)


def _finite(bounds: tuple[float, float] | None) -> tuple[int | None, int | None]:
    assert bounds is not None
    lo, hi = bounds
    return (None if lo == -_INFINITY else int(lo)), (None if hi == _INFINITY else int(hi))


def _interval(min: int | None, max: int | None, what: str) -> tuple[float, float]:
    if min is not None and max is not None and min > max:
        raise ValueError(f"{what} cannot be at least {min} and at most {max}")
    return (-_INFINITY if min is None else min), (_INFINITY if max is None else max)


def sym(name: str, *, min: int | None = 0, max: int | None = None) -> Dim:
    """The symbol of that name and those bounds; asked again, the same object.

    Any non-empty text is a name. The bounds are part of what the symbol is: `sym("n")` and `sym("n", min=1)` differ.

    Args:
        name: as ONNX carries it in `dim_param`.
        min: the smallest value, None where there is none; sizes are at least 0.
        max: the largest value, None where there is none.

    Example:
        >>> 2 * sym("seq") + 1
        Dim('2*seq + 1')
    """
    if not isinstance(name, str):
        raise TypeError(f"a symbol's name is text, not {type(name).__name__}")
    if not name:
        raise ValueError("a symbol's name cannot be empty; fresh() makes an anonymous one")
    return _symbol(name, None if min is None else operator.index(min), None if max is None else operator.index(max))


def _symbol(name: str, lo: int | None, hi: int | None) -> Dim:
    pool_key = (name, lo, hi)
    d = _pool.get(pool_key)
    if d is None:
        bounds = _interval(lo, hi, name)
        told = f"{name}\0{lo}\0{hi}".encode("utf-8", "surrogatepass")
        d = _blank("sym", (), name, (0, 0, name, 0, zlib.crc32(told) << 32 | zlib.crc32(told[::-1])))
        d._bounds = bounds
        d = _entered(pool_key, d)
    return d


def fresh(reason: str = "", *, min: int | None = 0, max: int | None = None) -> Dim:
    """A new anonymous symbol, equal to no other. It prints as `?3` and is saved as a dimension without a name.

    Args:
        reason: why the size is not known, for people who ask.
        min: the smallest value, None where there is none.
        max: the largest value, None where there is none.
    """
    number = next(_serial)
    return _fresh(number, _process << 64 | number, reason, _interval(min, max, "a size"))


def stand_in(min: int | None, max: int | None) -> Dim:
    """An anonymous symbol for use inside a computation. It does not count, so that what people see as `?3` does not
    depend on how many questions were asked before."""
    number = next(_stand_in_serial)
    return _fresh(-number, _process << 64 | 1 << 63 | number, "", _interval(min, max, "a size"))


def _fresh(number: int, identity: int, reason: str, bounds: tuple[float, float]) -> Dim:
    # Ordered by number alone: what is compiled from an expression must be the same text in every process.
    d = _blank("sym", (), f"?{number}", (1, number, "", 0, hash((number,))))
    d.is_fresh = True
    d._identity = identity
    d.reason = reason
    d._bounds = bounds
    return _entered(("fresh", identity), d)


def _restored_fresh(identity: int, reason: str, lo: int | None, hi: int | None) -> Dim:
    d = _pool.get(("fresh", identity))
    return d if d is not None else _fresh(next(_serial), identity, reason, _interval(lo, hi, "a size"))


def _restored(op: str, args: tuple[DimLike, ...]) -> DimLike:
    from .evaluation import rebuild
    return rebuild(op, args)


# At the end, because these build on Dim.
from . import division, polynomial, printing  # noqa: E402
