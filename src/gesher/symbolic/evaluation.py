"""Putting values for symbols: expressions by `substitute`, numbers by `evaluate`."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from gesher.base.errors import RunError

from .broadcasting import bcast
from .dim import Dim, DimLike, dimlike, is_symbol, walk
from .division import floordiv, mod
from .extremes import maximum, minimum
from .intervals import INFINITY, interval
from .polynomial import from_terms, product, terms_of, total

# No size, and no number on the way to one, has that many bits; a power of a power of ... would take all memory.
_MOST_BITS = 4096


def rebuild(op: str, args: tuple[DimLike, ...]) -> DimLike:
    """The expression of this operator over these arguments, simplified."""
    match op:
        case "add":
            return total(args)
        case "mul":
            return product(args)
        case "floordiv":
            return floordiv(*args)
        case "mod":
            return mod(*args)
        case "min":
            return minimum(*args)
        case "max":
            return maximum(*args)
        case "bcast":
            return bcast(*args)
    raise ValueError(f"{op!r} is not an operator of a Dim")


def substitute(d: DimLike, values: Mapping[Dim, DimLike]) -> DimLike:
    """`d` with every symbol of `values` replaced, all at once, and simplified.

    Raises:
        ValueError: a key is not a symbol, or a number lies outside its symbol's bounds.
        ZeroDivisionError: a divisor became 0.

    Example:
        >>> n, m = sym("n"), sym("m")
        >>> substitute(2 * n + m, {n: m, m: 3})
        Dim('2*m + 3')
    """
    new: dict[Dim, DimLike] = {}
    for symbol, value in values.items():
        if not is_symbol(symbol):
            raise ValueError(f"substitute() replaces symbols, and {symbol!r} is none")
        value = dimlike(value)
        if not isinstance(value, Dim):
            lo, hi = interval(symbol)
            if not lo <= value <= hi:
                raise ValueError(f"{value} is no value for {symbol}, which is {_range(lo, hi)}")
        new[symbol] = value
    return replace(d, new)


def replace(d: DimLike, new: Mapping[Dim, DimLike]) -> DimLike:
    """`d` with the parts that are keys of `new` replaced, from the leaves up, and simplified."""
    if not isinstance(d, Dim):
        return d
    terms = terms_of(d)
    if not any(atom.op != "sym" for m in terms for atom in m):
        return total(product([c, *(new.get(atom, atom) for atom in m)]) if not new.keys().isdisjoint(m)
                     else from_terms({m: c}) for m, c in terms.items())
    done: dict[Dim, DimLike] = {}
    for part in walk(d):
        if part.op == "sym":
            done[part] = new.get(part, part)
            continue
        args = tuple(done[x] if isinstance(x, Dim) else x for x in part.args)
        changed = any(x is not y for x, y in zip(args, part.args))
        made = rebuild(part.op, args) if changed else part
        done[part] = new.get(made, made) if isinstance(made, Dim) else made
    return done[d]


def evaluate(d: DimLike, values: Mapping[Any, int]) -> int:
    """The number that `d` is when its symbols have these values.

    Args:
        d: the expression.
        values: keyed by symbol or by name; what does not occur in `d` is ignored.

    Raises:
        RunError: a symbol has no value or one outside its bounds; sizes meet that do not broadcast; a number on the
            way is too large for any size.
        ZeroDivisionError: a divisor is 0.

    Example:
        >>> evaluate(sym("h") // 2 + 1, {"h": 7})
        4
    """
    if not isinstance(d, Dim):
        return d
    done: dict[Dim, int] = {}
    for part in walk(d):
        if part.op == "sym":
            done[part] = _value(part, values, d)
            continue
        args = [done[x] if isinstance(x, Dim) else x for x in part.args]
        done[part] = _apply(part, args)
    return done[d]


def _value(symbol: Dim, values: Mapping[Any, int], whole: Dim) -> int:
    if symbol in values:
        value = operator.index(values[symbol])
    elif symbol.name in values:
        value = operator.index(values[symbol.name])
    else:
        known = ", ".join(sorted(str(k) for k in values)) or "none"
        because = f" ({symbol.reason})" if symbol.reason else ""
        raise RunError(f"dimension {symbol.name!r}{because} has no value, and {whole} needs it",
                       advice=f"values were given for: {known}")
    lo, hi = interval(symbol)
    if not lo <= value <= hi:
        raise RunError(f"dimension {symbol.name!r} is {_range(lo, hi)}, so it cannot be {value}")
    return value


def _apply(part: Dim, args: list[int]) -> int:
    match part.op:
        case "add":
            return sum(args)
        case "mul":
            if sum(x.bit_length() for x in args) > _MOST_BITS:
                raise RunError(f"the product {part} is too large for any size")
            out = 1
            for x in args:
                out *= x
            return out
        case "min":
            return min(args)
        case "max":
            return max(args)
        case "bcast":
            sizes = {x for x in args if x != 1}
            if len(sizes) > 1:
                raise RunError(f"sizes {', '.join(map(str, args))} do not broadcast: {part}")
            return sizes.pop() if sizes else 1
    x, y = args
    if y == 0:
        raise ZeroDivisionError(f"{part}: the divisor {part.args[1]} is 0")
    return x // y if part.op == "floordiv" else x % y


def _range(lo: float, hi: float) -> str:
    if hi == INFINITY:
        return "any number" if lo == -INFINITY else f"at least {lo}"
    return f"at most {hi}" if lo == -INFINITY else f"between {lo} and {hi}"
