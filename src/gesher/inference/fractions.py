"""Sizes on their way through floats: PyTorch computes those of upsampled pictures as `floor(float(h) * 0.5)`.

Such a number is followed as a quotient of a size expression and an integer, and only as long as the float holds exactly
that number: products with few bits, quotients by powers of two. A quotient by any other integer is rounded, but below
2**24 (float) and 2**53 (double) never across a whole number, so that its floor is the floor of the exact one; anything
else that is done with it loses it. `h * 0.1` is lost at once: float32 rounds 0.1 by itself, and the product again.

How large a size becomes no file says. It is taken to be at most `LONGEST` elements along an axis here; a product of
height and width does not fit a float32 then, and is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import GesherError
from gesher.ir import DimLike, Node, TensorType, Value
from gesher.ops import Fact, Run, run_node
from gesher.ops.fact import VALUE_LIMIT
from gesher.ops.known import is_symbolic
from gesher.ops.schema import Operator, Schema
from gesher.symbolic import (
    Dim,
    Equalities,
    bounds,
    ceil_div,
    decide_eq,
    floordiv,
    fresh,
    substitute,
    trunc_div,
)

LONGEST = 1 << 16
"""Sizes that pass through floats are taken to be no larger than this."""

_DIGITS = {dtypes.FLOAT: 24, dtypes.DOUBLE: 53}


class Ratio(NamedTuple):
    """The number over / by; `by` is above 0."""

    over: DimLike
    by: int


Numbers = NDArray[Any]


class Fractions:
    """The values of one graph that hold such numbers, as object arrays of `Ratio`."""

    def __init__(self) -> None:
        self._known: dict[Value, Numbers] = {}

    def follow(self, node: Node, operator: Operator, schema: Schema, inputs: Sequence[Fact | None],
               outputs: list[Fact | None], equalities: Equalities) -> None:
        """Take one node: a cast into integers gives its output a value, whatever else is kept for later nodes."""
        if self._known:
            for o in node.outputs:
                if o is not None:
                    self._known.pop(o, None)
        fact = outputs[0] if outputs else None
        if operator.domain or fact is None or not isinstance(fact.type, TensorType) or not _small(fact):
            return
        if operator.name in ("Cast", "CastLike"):
            self._cast(node, inputs, outputs, equalities)
        elif self._known and any(v in self._known for v in node.inputs if v is not None):
            if operator.name in _MAPS:
                self._map(node, operator.name, inputs, fact, equalities)
            elif operator.name in _MOVES:
                self._move(node, operator, schema, inputs, outputs)

    def _cast(self, node: Node, inputs: Sequence[Fact | None], outputs: list[Fact | None], equalities: Equalities
              ) -> None:
        source, fact = inputs[0], outputs[0]
        assert fact is not None
        out, given = node.outputs[0], node.inputs[0]
        if out is None or given is None or source is None:
            return
        held = self._ratios(given, equalities)
        if fact.dtype in _DIGITS:
            if held is None and is_symbolic(source) and source.dtype.is_integer:
                assert source.value is not None
                held = _each(lambda x: Ratio(x if isinstance(x, Dim) else int(x), 1), source.value)
            self._keep(out, held, fact.dtype)
        elif held is not None and fact.dtype.is_integer and fact.dtype.bits >= 32:
            outputs[0] = Fact(fact.type, _each(lambda r: trunc_div(r.over, r.by), held), why=fact.why)

    def _map(self, node: Node, name: str, inputs: Sequence[Fact | None], fact: Fact, equalities: Equalities) -> None:
        arrays = []
        for v, given in zip(node.inputs, inputs):
            array = None if v is None else self._ratios(v, equalities)
            if array is None and given is not None:
                array = _constants(given)
            if array is None:
                return
            arrays.append(array)
        if fact.dtype not in _DIGITS or len(arrays) != _ARITY[name] or node.outputs[0] is None:
            return
        digits = _DIGITS[fact.dtype]
        try:
            result = np.frompyfunc(lambda *rs: _MAPS[name](digits, *rs), len(arrays), 1)(
                *(_boxed(a) for a in arrays))
        except ValueError:
            return  # the shapes do not broadcast, which the rule has told
        self._keep(node.outputs[0], _unboxed(np.asarray(result, object)), fact.dtype)

    def _move(self, node: Node, operator: Operator, schema: Schema, inputs: Sequence[Fact | None],
              outputs: list[Fact | None]) -> None:
        """Operators that only put elements elsewhere are run on the elements' numbers instead of the elements."""
        pool: list[Ratio] = []
        arrays: list[Any] = []
        for i, (v, fact) in enumerate(zip(node.inputs, inputs)):
            held = None if v is None else self._known.get(v)
            if held is None and fact is not None and (i == 0 or operator.name == "Concat"):
                held = _constants(fact)
            if held is not None:
                arrays.append(np.arange(len(pool), len(pool) + held.size, dtype=np.int64).reshape(held.shape))
                pool += held.reshape(-1).tolist()
                continue
            large = fact is not None and fact.constant is not None and fact.constant.size > VALUE_LIMIT
            number = None if fact is None or large else fact.numbers()
            if v is not None and number is None:
                return
            arrays.append(number)
        run = Run(node, schema, run_graph=_no_graphs, random=np.random.default_rng(0), budget=1 << 20, opsets={})
        try:
            results = run_node(node, operator, schema, arrays, run)
        except GesherError:
            return  # what is wrong with the node its rule has told, or running it will
        for out, fact, result in zip(node.outputs, outputs, results):
            if out is not None and fact is not None and isinstance(result, np.ndarray) and result.shape == fact.shape:
                self._keep(out, _each(lambda i: pool[int(i)], result), fact.dtype)

    def _ratios(self, value: Value, equalities: Equalities) -> Numbers | None:
        held = self._known.get(value)
        return None if held is None else _each(
            lambda r: Ratio(equalities.resolve(r.over), r.by) if isinstance(r.over, Dim) else r, held)

    def _keep(self, value: Value, numbers: Numbers | None, dtype: DType) -> None:
        digits = _DIGITS.get(dtype)
        if numbers is None or digits is None:
            return
        flat = numbers.reshape(-1)
        if all(r is not None and _held(r, digits) for r in flat):
            self._known[value] = numbers


# Object arrays of tuples: numpy must be kept from looking into them.


def _each(function: Callable[[Any], Any], array: Numbers) -> Numbers:
    result = np.empty(array.shape, object)
    flat = result.reshape(-1)
    for i, x in enumerate(array.reshape(-1)):
        flat[i] = function(x)
    return result


class _Box:
    __slots__ = ("ratio",)

    def __init__(self, ratio: Ratio):
        self.ratio = ratio


def _boxed(array: Numbers) -> Numbers:
    return _each(_Box, array)


def _unboxed(array: Numbers) -> Numbers:
    return _each(lambda b: b.ratio if isinstance(b, _Box) else None, array)


def _constants(fact: Fact) -> Numbers | None:
    """Known floats as exact quotients."""
    if fact.dtype not in _DIGITS or (fact.constant is not None and fact.constant.size > VALUE_LIMIT):
        return None
    numbers = fact.numbers()
    if numbers is None or not all(map(isfinite, numbers.reshape(-1).tolist())):
        return None
    return _each(lambda x: Ratio(*float(x).as_integer_ratio()), numbers)


def _small(fact: Fact) -> bool:
    size = 1
    for d in fact.shape if fact.shape is not None else (None,):
        if d.__class__ is not int:
            return False
        size *= d
    return size <= VALUE_LIMIT


# What a float holds


def _held(r: Ratio, digits: int) -> bool:
    """Whether a float of `digits` binary digits holds the number, or its rounding floors and ceils alike."""
    return _largest(r.over) < 1 << digits and r.by < 1 << digits


def _is_exact(r: Ratio) -> bool:
    return r.by & (r.by - 1) == 0


def _largest(d: DimLike) -> float:
    """The largest magnitude that an expression can have, with no size above `LONGEST`."""
    if not isinstance(d, Dim):
        return abs(d)
    short: dict[Dim, DimLike] = {}
    for s in d.symbols():
        low, high = bounds(s)
        if high is None or high > LONGEST:
            short[s] = fresh(s.name, min=min(low or 0, LONGEST), max=LONGEST)
    found = substitute(d, short) if short else d
    low, high = bounds(found) if isinstance(found, Dim) else (found, found)
    return float("inf") if low is None or high is None else max(abs(low), abs(high))


# What operators do to it; None where it is lost


def _reduced(over: DimLike, by: int) -> _Box | None:
    if by == 1:
        return _Box(Ratio(over, 1))
    whole = floordiv(over, by)
    return _Box(Ratio(whole, 1) if decide_eq(whole * by, over) is True else Ratio(over, by))


def _product(digits: int, a: _Box, b: _Box) -> _Box | None:
    x, y = a.ratio, b.ratio
    return _reduced(x.over * y.over, x.by * y.by) if _is_exact(x) and _is_exact(y) else None


def _quotient(digits: int, a: _Box, b: _Box) -> _Box | None:
    x, y = a.ratio, b.ratio
    if not (_is_exact(x) and _is_exact(y)) or isinstance(y.over, Dim) or not y.over:
        return None
    over = x.over * y.by
    # The proof that rounding crosses no whole number needs the dividend itself to be below.
    if _largest(over) >= 1 << digits:
        return None
    return _reduced(over if y.over > 0 else -over, x.by * abs(y.over))


def _sum(sign: int) -> Callable[[int, _Box, _Box], _Box | None]:
    def add(digits: int, a: _Box, b: _Box) -> _Box | None:
        x, y = a.ratio, b.ratio
        if not (_is_exact(x) and _is_exact(y)):
            return None
        by = max(x.by, y.by)
        return _reduced(x.over * (by // x.by) + sign * y.over * (by // y.by), by)

    return add


def _rounded(digits: int, a: _Box) -> _Box | None:
    return a if a.ratio.by == 1 else None


_MAPS: dict[str, Callable[..., _Box | None]] = {
    "Mul": _product, "Div": _quotient, "Add": _sum(1), "Sub": _sum(-1),
    "Floor": lambda digits, a: _Box(Ratio(floordiv(a.ratio.over, a.ratio.by), 1)),
    "Ceil": lambda digits, a: _Box(Ratio(ceil_div(a.ratio.over, a.ratio.by), 1)),
    "Neg": lambda digits, a: _Box(Ratio(-a.ratio.over, a.ratio.by)),
    "Round": _rounded,
}
_ARITY = {name: 1 if name in ("Floor", "Ceil", "Neg", "Round") else 2 for name in _MAPS}
_MOVES = frozenset(("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
                    "Transpose", "Unsqueeze"))


def _no_graphs(graph: Any, inputs: Any) -> Any:
    raise AssertionError("operators that move elements hold no graphs")
