"""Sizes: PyTorch's symbolic integers as our dims, and our dims as values that a graph can compute.

Each size is computed once. A plain symbol is read off the shape of an input; a sum, product or quotient is computed
from those with integer operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Value
from gesher.ops.build import Builder
from gesher.symbolic import Dim, ceil_div, maximum, minimum, sym


class Sizes:
    """The symbolic sizes of one program.

    Args:
        b: the builder.
        names: the name of each of PyTorch's symbols.
        ranges: the (least, most) that PyTorch allows each, None for no limit.
    """

    def __init__(self, b: Builder, names: dict[str, str], ranges: dict[str, tuple[int, int | None]]):
        self.b, self.names, self.ranges = b, names, ranges
        self._sources: dict[Dim, Callable[[], Value]] = {}
        self._made: dict[DimLike, Value] = {}
        self._symbols: dict[str, Dim] = {}

    def symbol(self, name: str) -> Dim:
        """Our symbol for one of PyTorch's."""
        if name not in self._symbols:
            low, high = self.ranges.get(name, (0, None))
            self._symbols[name] = sym(self.names.get(name, name), min=min(low, 0) if low < 0 else 0, max=high)
        return self._symbols[name]

    def dim(self, size: Any) -> DimLike:
        """Our dim for an int or SymInt."""
        if isinstance(size, (int, np.integer)):
            return int(size)
        return self.expression(size.node.expr)

    def shape(self, sizes: Sequence[Any]) -> tuple[DimLike, ...]:
        return tuple(self.dim(s) for s in sizes)

    def expression(self, e: Any) -> DimLike:
        """Our dim for an expression over PyTorch's symbols, by the names of its functions."""
        kind = type(e).__name__
        if e.is_Integer:
            return int(e)
        if e.is_Symbol:
            return self.symbol(str(e))
        args = [self.expression(a) for a in e.args] if kind != "Pow" else []
        if kind == "Add":
            total: DimLike = 0
            for a in args:
                total = total + a
            return total
        if kind == "Mul":
            made: DimLike = 1
            for a in args:
                made = made * a
            return made
        if kind == "Pow" and e.args[1].is_Integer and int(e.args[1]) > 0:
            base, made = self.expression(e.args[0]), 1
            for _ in range(int(e.args[1])):
                made = made * base
            return made
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
        raise UnsupportedError(f"the size {e} cannot be said in ONNX", who="torch",
                               advice="sizes may be sums, products, quotients, minima and maxima of dims")

    def learn(self, value: Value, sizes: Sequence[Any]) -> None:
        """Remember where symbols can be read: each dim of `value` that is a plain symbol."""
        for axis, size in enumerate(sizes):
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                self._sources.setdefault(self.symbol(str(size.node.expr)), partial(self._read, value, axis))

    def learn_number(self, value: Value, size: Any) -> None:
        """Remember that the number in `value` (a tensor of one element) is `size`."""
        if not isinstance(size, int) and size.node.expr.is_Symbol:
            self._sources.setdefault(self.symbol(str(size.node.expr)), lambda: self._as_vector(value))

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
        if size.op == "sym":
            source = self._sources.get(size)
            if source is None:
                raise UnsupportedError(f"the size '{size}' is not the dim of any tensor at hand", who="torch")
            return source()
        args = [self.value(a) for a in size.args]
        operators = {"add": "Add", "mul": "Mul", "mod": "Mod", "min": "Min", "max": "Max"}
        if size.op in operators:
            made = args[0]
            for a in args[1:]:
                made = self.b.op(operators[size.op], made, a)
            return made
        if size.op == "floordiv":
            # Sizes are not negative, where floor and truncation are the same; a difference may be, so it is corrected:
            # the remainder by Python's rule, taken off, leaves a multiple of the divisor.
            rest = self.b.Mod(args[0], args[1])
            return self.b.Div(self.b.Sub(args[0], rest), args[1])
        raise UnsupportedError(f"the size {size} cannot be computed in ONNX", who="torch")
