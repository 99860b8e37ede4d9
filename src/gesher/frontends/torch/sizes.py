"""Sizes: PyTorch's symbolic integers as our dims, and our dims as values that a graph can compute.

Each size is computed once. A plain symbol is read off the shape of an input; a sum, product or quotient is computed
from those with integer operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Value
from gesher.ops.build import Builder
from gesher.symbolic import Dim, bounds, ceil_div, maximum, minimum, product, substitute, sym, total


class Sizes:
    """The symbolic sizes of one program.

    Args:
        b: the builder.
        names: what each of PyTorch's symbols is.
        equal: pairs of sizes of which the second says the same in less.
    """

    def __init__(self, b: Builder, names: Mapping[str, DimLike], equal: Sequence[tuple[DimLike, DimLike]] = ()):
        self.b, self.names, self.equal = b, names, equal
        self._sources: dict[DimLike, Callable[[], Value]] = {}
        self._made: dict[DimLike, Value] = {}
        # Tensors by their shapes, where a shape has more symbols than one: it is read off whole.
        self._shown: dict[tuple[DimLike, ...], Value] = {}
        self._symbols: dict[str, DimLike] = {}
        self._expressions: dict[Any, DimLike] = {}

    def within(self, b: Builder) -> Sizes:
        """The same for an inner graph: what was computed outside is there, what it computes stays inside."""
        made = Sizes(b, self.names, self.equal)
        made._sources, made._made = dict(self._sources), dict(self._made)
        made._shown = dict(self._shown)
        made._symbols, made._expressions = self._symbols, self._expressions
        return made

    def symbol(self, name: str) -> DimLike:
        """Our dim for one of PyTorch's symbols."""
        if name not in self._symbols:
            known = self.names.get(name)
            # A size that only the data tell keeps PyTorch's name for it.
            self._symbols[name] = sym(name) if known is None else known
        return self._symbols[name]

    def dim(self, size: Any) -> DimLike:
        """Our dim for an int or SymInt."""
        if isinstance(size, (int, np.integer)):
            return int(size)
        return self.expression(size.node.expr)

    def shape(self, sizes: Sequence[Any]) -> tuple[DimLike, ...]:
        return tuple(self.dim(s) for s in sizes)

    def expression(self, e: Any) -> DimLike:
        """Our dim for an expression over PyTorch's symbols. What has no form of ours is a symbol that is computed."""
        if e in self._expressions:
            return self._expressions[e]
        try:
            made = said(e, self.symbol)
        except UnsupportedError:
            made = sym(f"size_{len(self._expressions)}")
            self._sources[made] = partial(self._by_floats, e)
        for a, b in self.equal:
            made = b if made == a else made
        self._expressions[e] = made
        return made

    def learn(self, value: Value, sizes: Sequence[Any]) -> None:
        """Remember where symbols can be read: each dim of `value` that is a plain symbol."""
        for axis, size in enumerate(sizes):
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                self._learn(self.symbol(str(size.node.expr)), partial(self._read, value, axis))
        shape = self.b.shape(value)
        if shape is not None and len(shape) == len(sizes) and None not in shape and \
                sum(isinstance(s, Dim) for s in shape) > 1:
            self._shown.setdefault(tuple(shape), value)    # type: ignore[arg-type]

    def learn_unknown(self, value: Value, shape: Sequence[DimLike | None]) -> None:
        """Remember where sizes that hang on the data can be read, for which PyTorch has another name or none."""
        for axis, size in enumerate(shape):
            if isinstance(size, Dim) and size.op == "sym" and size.name.startswith("?"):
                self._learn(size, partial(self._read, value, axis))

    def learn_number(self, value: Value, size: Any) -> None:
        """Remember that the number in `value` (a tensor of one element) is `size`."""
        if not isinstance(size, int) and size.node.expr.is_Symbol:
            self._learn(self.symbol(str(size.node.expr)), lambda: self._as_vector(value))

    def _learn(self, size: DimLike, source: Callable[[], Value]) -> None:
        if isinstance(size, Dim):
            self._sources.setdefault(size, source)

    def _as_vector(self, value: Value) -> Value:
        wide = self.b.Cast(value, to=7)
        return self.b.Reshape(wide, self.b.constant(np.array([1], np.int64)))

    def _read(self, value: Value, axis: int) -> Value:
        if self.b.opsets[""] >= 15:
            return self.b.Shape(value, start=axis, end=axis + 1)
        return self.b.Gather(self.b.Shape(value), self.b.constant(np.array([axis], np.int64)))

    def vector(self, sizes: Sequence[DimLike]) -> Value:
        """A 1-D int64 value of these sizes, a constant where all are numbers."""
        if all(isinstance(s, int) for s in sizes):
            return self.b.constant(np.array(sizes, np.int64))
        shown = self._shown.get(tuple(sizes))
        if shown is not None:
            return self.b.Shape(shown)
        parts: list[Value] = []
        run: list[int] = []
        for s in [*sizes, None]:
            if isinstance(s, int):
                run.append(s)
                continue
            if run:
                parts.append(self.b.constant(np.array(run, np.int64)))
                run = []
            if s is not None:
                parts.append(self.value(s))
        return parts[0] if len(parts) == 1 else self.b.Concat(*parts, axis=0)

    def value(self, size: DimLike) -> Value:
        """A 1-D int64 value of one element holding `size`.

        Raises:
            UnsupportedError: it depends on a symbol that no tensor shows.
        """
        if isinstance(size, int):
            return self.b.constant(np.array([size], np.int64))
        found = self._made.get(size)
        if found is None:
            found = self._made[size] = self._compute(size)
        return found

    def _compute(self, size: Dim) -> Value:
        source = self._sources.get(size)
        if source is not None:
            return source()
        if size.op == "sym":
            return self._from_sum(size)
        args = [self.value(a) for a in size.args]
        operators = {"add": "Add", "mul": "Mul", "mod": "Mod", "min": "Min", "max": "Max"}
        if size.op in operators:
            made = args[0]
            for a in args[1:]:
                made = self.b.op(operators[size.op], made, a)
            return made
        if size.op == "floordiv":
            # Where nothing is negative floor and truncation are the same. A difference may be, so it is corrected: the
            # remainder by Python's rule, taken off, leaves a multiple of the divisor.
            over, under = (bounds(a)[0] for a in size.args)
            if over is not None and under is not None and over >= 0 and under > 0:
                return self.b.Div(args[0], args[1])
            rest = self.b.Mod(args[0], args[1])
            return self.b.Div(self.b.Sub(args[0], rest), args[1])
        raise UnsupportedError(f"the size {size} cannot be computed in ONNX", who="torch")

    def _from_sum(self, symbol: Dim) -> Value:
        """A symbol that no dim shows by itself, from one that is linear in it.

        past = (past + sequence) - sequence; blocks = (4*blocks) // 4.
        """
        for shown, source in list(self._sources.items()):
            if not isinstance(shown, Dim) or symbol not in shown.symbols():
                continue
            # At two sizes that the symbol may have: what it is between them, it is everywhere if it is linear.
            low, high = bounds(symbol)
            low = low or 0
            if high is not None and high <= low:
                continue
            at = substitute(shown, {symbol: low})
            times = substitute(shown, {symbol: low + 1}) - at
            rest = at - times * low
            if not isinstance(times, int) or times < 1 or shown != rest + times * symbol:
                continue
            share = source() if isinstance(rest, int) and rest == 0 else self.b.Sub(source(), self.value(rest))
            return share if times == 1 else self.b.Div(share, self.value(times))
        raise UnsupportedError(f"the size '{symbol}' is not the dim of any tensor at hand", who="torch")

    # Sizes that go through fractions, as torch computes them: in float64

    def _by_floats(self, e: Any) -> Value:
        return self.b.Cast(self._float(e), to=7)

    def number(self, e: Any) -> Value:
        """A 1-D float64 value of one element holding an expression that may be a fraction (a SymFloat).

        Raises:
            UnsupportedError: ONNX has no operator for a part of it.
        """
        return self._float(e)

    def _float(self, e: Any) -> Value:
        kind = type(e).__name__
        if e.is_Number:
            return self.b.constant(np.array([float(e)]))
        if e.is_Symbol:
            return self.b.Cast(self.value(self.expression(e)), to=11)
        args = [self._float(a) for a in e.args]
        if kind in ("FloorDiv", "CleanDiv", "CeilDiv"):
            return self.b.op("Ceil" if kind == "CeilDiv" else "Floor", self.b.Div(*args))
        if kind in ("Mod", "PythonMod"):
            return self.b.Sub(args[0], self.b.Mul(args[1], self.b.Floor(self.b.Div(*args))))
        if kind in _FLOATS:
            made = args[0]
            for a in args[1:]:
                made = self.b.op(_FLOATS[kind], made, a)
            return made
        if kind in _FLOAT_MAPS:
            for op in _FLOAT_MAPS[kind]:
                args = [self.b.op(op, args[0]) if op != "Cast" else self.b.Cast(self.b.Cast(args[0], to=7), to=11)]
            return args[0]
        raise UnsupportedError(f"the size {e} cannot be said in ONNX", who="torch",
                               advice="sizes may be sums, products, quotients, powers, roots, extremes of dims")


# PyTorch's functions of sizes: those of several arguments, and chains of maps (Cast: to integers and back).
_FLOATS = {"Add": "Add", "Mul": "Mul", "Max": "Max", "Min": "Min", "Pow": "Pow", "PowByNatural": "Pow",
           "FloatPow": "Pow", "FloatTrueDiv": "Div", "IntTrueDiv": "Div"}
_FLOAT_MAPS: dict[str, tuple[str, ...]] = {
    "ToFloat": (), "FloorToInt": ("Floor",), "CeilToInt": ("Ceil",), "TruncToInt": ("Cast",), "RoundToInt": ("Round",),
    "floor": ("Floor",), "ceiling": ("Ceil",), "Identity": (), "OpaqueUnaryFn_sqrt": ("Sqrt",),
    "OpaqueUnaryFn_exp": ("Exp",), "OpaqueUnaryFn_log": ("Log",), "OpaqueUnaryFn_sin": ("Sin",),
    "OpaqueUnaryFn_cos": ("Cos",), "Abs": ("Abs",)}


def said(e: Any, symbol: Callable[[str], DimLike]) -> DimLike:
    """Our dim for an expression over PyTorch's symbols, by the names of its functions.

    Raises:
        UnsupportedError: our expressions have no such function.
    """
    kind = type(e).__name__
    if e.is_Integer:
        return int(e)
    if e.is_Symbol:
        return symbol(str(e))
    if kind in ("TruncToInt", "FloorToInt", "CeilToInt") and type(e.args[0]).__name__ == "IntTrueDiv":
        # Fractions of sizes are exact enough in floats for both ways to be the same.
        over, under = (said(a, symbol) for a in e.args[0].args)
        if all((bounds(d)[0] or -1) > 0 for d in (under, over + 1)):
            return ceil_div(over, under) if kind == "CeilToInt" else over // under
    args = [said(a, symbol) for a in e.args] if kind != "Pow" else []
    if kind == "Add":
        return total(args)
    if kind == "Mul":
        return product(args)
    if kind == "Pow" and e.args[1].is_Integer and int(e.args[1]) > 0:
        return product([said(e.args[0], symbol)] * int(e.args[1]))
    if kind == "PowByNatural" and isinstance(args[1], int) and args[1] >= 0:
        return product([args[0]] * args[1])
    if kind in ("FloorDiv", "CleanDiv"):
        return args[0] // args[1]
    if kind in ("Mod", "PythonMod"):
        return args[0] % args[1]
    if kind == "CeilDiv":
        return ceil_div(args[0], args[1])
    if kind == "Max":
        return maximum(*args)
    if kind == "Min":
        return minimum(*args)
    if kind == "Identity":
        return args[0]
    raise UnsupportedError(f"the size {e} cannot be said in ONNX", who="torch",
                           advice="sizes may be sums, products, quotients, minima and maxima of dims")
