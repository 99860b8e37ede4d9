"""Random graphs of primitives with arrays to feed them: for the interpreter, the simplifier and the compiler alike.

A graph grows by picking a primitive and operands that fit it from what is there, so every draw is a right graph. Sizes
are small and odd, some are 0 or 1, and some axes are symbolic; `draw` gives the same graph for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.primitives import Builder, Expr
from gesher.symbolic import Dim, decide_eq, evaluate, product, sym

FLOATS = (dtypes.FLOAT, dtypes.FLOAT, dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.BFLOAT16)
INTS = (dtypes.INT64, dtypes.INT32, dtypes.INT8, dtypes.UINT8, dtypes.INT16, dtypes.UINT16, dtypes.UINT32,
        dtypes.UINT64)


@dataclass
class Drawn:
    """A random graph: its inputs, what it computes, and the values of its symbols."""

    builder: Builder
    inputs: list[Expr] = field(default_factory=list)
    roots: list[Expr] = field(default_factory=list)
    sizes: dict[Dim, int] = field(default_factory=dict)

    def feeds(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {e.params["name"]: numbers(rng, e.dtype, [evaluate(d, self.sizes) for d in e.shape])
                for e in self.inputs}


def numbers(rng: np.random.Generator, dtype: DType, shape: list[int]) -> np.ndarray:
    """Numbers that are tame for arithmetic, with a few that are not."""
    if dtype is dtypes.BOOL:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        low = 0 if dtype.kind == "uint" else -7
        return rng.integers(low, 8, shape).astype(dtype.numpy)
    x = np.asarray(rng.standard_normal(shape) * 2)
    if x.size and rng.random() < 0.3:
        flat = x.reshape(-1)
        flat[rng.integers(flat.size)] = rng.choice([0.0, -0.0, 1e-40, 80.0])
    return x.astype(dtype.numpy)


class Grower:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.p = Builder()
        self.drawn = Drawn(self.p)
        self.pool: list[Expr] = []
        n, m = sym("n", min=1), sym("m")
        self.drawn.sizes = {n: int(self.rng.integers(1, 6)), m: int(self.rng.choice([0, 1, 2, 3, 7]))}
        self.dims: list[Any] = [1, 1, 2, 3, 4, 5, 7, n, n, m, 17] if self.rng.random() < 0.6 else [0, 1, 2, 3, 4, 5, 9]

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def shape(self, rank: int | None = None) -> tuple[Any, ...]:
        rank = int(self.rng.integers(0, 5)) if rank is None else rank
        return tuple(self.pick(self.dims) for _ in range(rank))

    def size_of(self, d: Any) -> int:
        return evaluate(d, self.drawn.sizes)

    def fresh(self, dtype: DType, shape: tuple[Any, ...]) -> Expr:
        """A new input or constant."""
        if self.rng.random() < 0.3 and all(isinstance(d, int) for d in shape):
            return self.p.constant(numbers(self.rng, dtype, list(shape)), dtype)
        e = self.p.input(f"x{len(self.drawn.inputs)}", dtype, shape)
        self.drawn.inputs.append(e)
        return e

    def some(self, kinds: str = "f", rank: int | None = None, least: int = 0) -> Expr:
        """An expression of one of these kinds: float, int, bool."""
        fits = [e for e in self.pool if (("f" in kinds and e.dtype.is_float) or ("i" in kinds and e.dtype.is_integer)
                                         or ("b" in kinds and e.dtype is dtypes.BOOL))
                and (rank is None or e.rank == rank) and e.rank >= least]
        if fits and self.rng.random() < 0.8:
            return self.pick(fits[-6:])
        kind = self.pick(kinds)
        dtype = self.pick(FLOATS) if kind == "f" else self.pick(INTS) if kind == "i" else dtypes.BOOL
        made = self.fresh(dtype, self.shape(rank if rank is not None else max(least, int(self.rng.integers(0, 4)))))
        self.pool.append(made)
        return made

    def like(self, e: Expr) -> Expr:
        """Something of the type of `e` that broadcasts with it."""
        shape = list(e.shape)
        for i in range(len(shape)):
            if self.rng.random() < 0.3:
                shape[i] = 1
        if shape and self.rng.random() < 0.3:
            shape = shape[int(self.rng.integers(len(shape))):]
        fits = [x for x in self.pool if x.dtype is e.dtype and x.shape == e.shape]
        return self.pick(fits) if fits and self.rng.random() < 0.5 else self.fresh(e.dtype, tuple(shape))

    def axis(self, e: Expr) -> int:
        return int(self.rng.integers(e.rank))

    def static(self, e: Expr) -> bool:
        return all(isinstance(d, int) for d in e.shape)

    # One method a kind of step; each gives an expression.

    def unary(self) -> Expr:
        x = self.some("fi")
        if x.dtype.is_integer:
            return self.p.map(self.pick(["neg", "abs", "sign", "bit_not"]), x)
        return self.p.map(self.pick(["neg", "abs", "sign", "exp", "sigmoid", "tanh", "floor", "ceil", "round", "trunc",
                                     "erf", "sin", "sqrt", "log", "reciprocal"]), x)

    def binary(self) -> Expr:
        x = self.some("fi")
        names = ["add", "sub", "mul", "min", "max", "div"]
        if x.dtype.is_integer:
            names += ["mod", "fmod", "bit_and", "bit_or", "bit_xor"]
            if x.dtype.kind == "uint":
                names += ["shift_left", "shift_right"]
        y = self.like(x) if self.rng.random() < 0.8 else int(self.rng.integers(1, 4))
        return self.p.map(self.pick(names), *((x, y) if self.rng.random() < 0.5 or not isinstance(y, Expr) else (y, x)))

    def compare(self) -> Expr:
        x = self.some("fi")
        return self.p.map(self.pick(["eq", "ne", "lt", "le", "gt", "ge"]), x, self.like(x))

    def logic(self) -> Expr:
        x = self.some("b")
        return self.p.not_(x) if self.rng.random() < 0.3 else self.p.map(self.pick(["and_", "or_", "xor"]), x,
                                                                         self.like(x))

    def select(self) -> Expr:
        x = self.some("fib")
        return self.p.select(self.fresh(dtypes.BOOL, x.shape), x, self.like(x))

    def cast(self) -> Expr:
        return self.p.cast(self.some("fib"), self.pick([*FLOATS, *INTS, dtypes.BOOL]))

    def test(self) -> Expr:
        x = self.some("f")
        return self.p.is_nan(x) if self.rng.random() < 0.5 else self.p.is_inf(x, bool(self.rng.random() < 0.5), True)

    def transpose(self) -> Expr:
        x = self.some("fib")
        return self.p.transpose(x, self.rng.permutation(x.rank).tolist())

    def reshape(self) -> Expr:
        x = self.some("fib")
        if x.rank and self.rng.random() < 0.5:
            cut = int(self.rng.integers(x.rank + 1))
            return self.p.reshape(x, (product(x.shape[:cut]), product(x.shape[cut:])))
        if self.static(x):
            size = int(np.prod([int(d) for d in x.shape]))
            split = next((d for d in (2, 3, 5, 7) if size % d == 0), 1)
            return self.p.reshape(x, (split, size // split) if self.rng.random() < 0.5 else (size // split, 1, split))
        return self.p.expand_dims(x, [int(self.rng.integers(x.rank + 1))])

    def slice(self) -> Expr:
        x = self.some("fib", least=1)
        axis = self.axis(x)
        d = x.shape[axis]
        if isinstance(d, int) and d > 1:
            a, b = sorted(self.rng.integers(0, d + 1, 2).tolist())
            step = int(self.rng.integers(1, 4))
            if self.rng.random() < 0.3:
                return self.p.take(x, axis, d - 1, -1, -step)
            return self.p.take(x, axis, a, b, step)
        return self.p.take(x, axis, 0, d) if self.rng.random() < 0.5 else self.p.take(x, axis, d - 1, -1, -1)

    def pad(self) -> Expr:
        x = self.some("fi", least=1)
        low, high = (self.rng.integers(0, 3, x.rank).tolist() for _ in range(2))
        return self.p.pad(x, low, high, int(self.rng.integers(0, 3)))

    def concat(self) -> Expr:
        x = self.some("fib", least=1)
        axis = self.axis(x)
        others = []
        for _ in range(int(self.rng.integers(1, 3))):
            shape = list(x.shape)
            shape[axis] = self.pick(self.dims)
            others.append(self.fresh(x.dtype, tuple(shape)))
        return self.p.concat([x, *others, x][:int(self.rng.integers(2, 5))], axis)

    def broadcast(self) -> Expr:
        x = self.some("fib")
        shape = [self.pick(self.dims) if decide_eq(d, 1) else d for d in x.shape]
        return self.p.broadcast_to(x, (*self.shape(int(self.rng.integers(0, 2))), *shape))

    def reduce(self) -> Expr:
        x = self.some("fi", least=1)
        axes = self.rng.permutation(x.rank)[:int(self.rng.integers(1, x.rank + 1))].tolist()
        keep = bool(self.rng.random() < 0.5)
        made = self.pick([self.p.sum, self.p.amax, self.p.amin, self.p.mean, self.p.prod])(x, axes, keep)
        if keep and made.dtype is x.dtype and x.dtype.is_float and self.rng.random() < 0.6:
            return x - made
        return made

    def any_all(self) -> Expr:
        x = self.some("b", least=1)
        return self.pick([self.p.any, self.p.all])(x, [self.axis(x)])

    def argreduce(self) -> Expr:
        x = self.some("fi", least=1)
        axis = self.axis(x)
        if self.size_of(x.shape[axis]) == 0 or decide_eq(x.shape[axis], 0) is not False:
            return self.unary()
        return self.pick([self.p.argmax, self.p.argmin])(x, axis, bool(self.rng.random() < 0.5),
                                                         bool(self.rng.random() < 0.5))

    def cumulate(self) -> Expr:
        x = self.some("fi", least=1)
        return self.p.cumulate(x, self.axis(x), self.pick(["sum", "max", "min"]), bool(self.rng.random() < 0.5),
                               bool(self.rng.random() < 0.5))

    def indices(self, shape: tuple[Any, ...], size: int) -> Expr:
        """A constant or computed tensor of indices that are inside."""
        real = [self.size_of(d) for d in shape]
        value = self.rng.integers(-size, size, real)
        if all(isinstance(d, int) for d in shape):
            return self.p.constant(value.astype(np.int64))
        return self.p.broadcast_to(self.p.constant(np.int64(int(value.reshape(-1)[0]) if value.size else 0)), shape)

    def gather(self) -> Expr:
        x = self.some("fib", least=1)
        axis = self.axis(x)
        size = self.size_of(x.shape[axis])
        if not size or not isinstance(x.shape[axis], int):
            return self.unary()
        return self.p.gather(x, self.indices(self.shape(int(self.rng.integers(0, 3))), size), axis)

    def gather_along(self) -> Expr:
        x = self.some("fib", least=1)
        axis = self.axis(x)
        size = self.size_of(x.shape[axis])
        if not size or not isinstance(x.shape[axis], int):
            return self.unary()
        shape = list(x.shape)
        shape[axis] = self.pick([1, 2, 5])
        return self.p.gather_along(x, self.indices(tuple(shape), size), axis)

    def scatter(self) -> Expr:
        x = self.some("fi", least=1)
        axis = self.axis(x)
        size = self.size_of(x.shape[axis])
        if not size or not self.static(x):
            return self.unary()
        shape = list(x.shape)
        shape[axis] = self.pick([1, 2, 3])
        indices = self.indices(tuple(shape), size)
        return self.p.scatter_along(x, indices, self.fresh(x.dtype, tuple(shape)), axis,
                                    self.pick(["none", "none", "add", "max", "min"]))

    def nd(self) -> Expr:
        x = self.some("fi", least=2)
        sizes = [self.size_of(d) for d in x.shape[:2]]
        if not self.static(x) or not all(sizes):
            return self.unary()
        at = np.stack([self.rng.integers(-s, s, (3, 2)) for s in sizes], -1).astype(np.int64)
        if self.rng.random() < 0.5:
            return self.p.gather_nd(x, self.p.constant(at), 0)
        return self.p.scatter_nd(x, self.p.constant(at), self.fresh(x.dtype, (3, 2, *x.shape[2:])),
                                 self.pick(["none", "add", "mul"]))

    def contract(self) -> Expr:
        x = self.some("ffi", least=1)
        axis = self.axis(x)
        batch = [i for i in range(x.rank) if i != axis and self.rng.random() < 0.4]
        rest = self.shape(int(self.rng.integers(0, 3)))
        order = [*(x.shape[i] for i in batch), x.shape[axis], *rest]
        places = self.rng.permutation(len(order)).tolist()
        y = self.fresh(x.dtype, tuple(order[i] for i in places))
        where = [places.index(i) for i in range(len(order))]
        return self.p.contract(x, y, [axis], [where[len(batch)]], batch, where[:len(batch)])

    def matmul(self) -> Expr:
        x = self.some("f", least=2)
        lead = x.shape[:-2] if self.rng.random() < 0.5 else ()
        return self.p.matmul(x, self.fresh(x.dtype, (*lead, x.shape[-1], self.pick(self.dims))))

    def convolve(self) -> Expr:
        n = int(self.rng.integers(1, 4))
        dtype = self.pick([dtypes.FLOAT, dtypes.FLOAT, dtypes.DOUBLE])
        groups = self.pick([1, 1, 2, 4])
        x = self.fresh(dtype, (self.pick([1, 2, self.dims[-4]]), 4, *(self.pick([5, 7, 9]) for _ in range(n))))
        kernel = tuple(self.pick([1, 2, 3]) for _ in range(n))
        strides, dilations = ([self.pick([1, 1, 2]) for _ in range(n)] for _ in range(2))
        pads = [tuple(self.rng.integers(0, 3, 2).tolist()) for _ in range(n)]
        if self.rng.random() < 0.3:
            w = self.fresh(dtype, (4, self.pick([1, 2]), *kernel))
            return self.p.convolve_transposed(x, w, strides, [(0, int(self.rng.integers(2))) for _ in range(n)],
                                              dilations, groups, [0] * n)
        w = self.fresh(dtype, (self.pick([4, 8]), 4 // groups, *kernel))
        return self.p.convolve(x, w, strides, pads, dilations, groups)

    def window(self) -> Expr:
        n = int(self.rng.integers(1, 3))
        dtype = self.pick([dtypes.FLOAT, dtypes.DOUBLE, dtypes.INT32])
        x = self.fresh(dtype, (*self.shape(1), *[self.pick([4, 5, 7])] * n))
        size = [self.pick([1, 2, 3]) for _ in range(n)]
        pads = [tuple(self.rng.integers(0, 3, 2).tolist()) for _ in range(n)]
        return self.p.window(x, self.pick(["max", "sum", "min"]), size, [self.pick([1, 2]) for _ in range(n)], pads,
                             [self.pick([1, 1, 2]) if all(k < 3 for k in size) else 1 for _ in range(n)])

    def order(self) -> Expr:
        x = self.some("fi", least=1)
        axis = self.axis(x)
        if self.rng.random() < 0.5 and isinstance(x.shape[axis], int):
            values, where = self.p.top_k(x, min(2, x.shape[axis]), axis, bool(self.rng.random() < 0.5))
        else:
            values, where = self.p.sort(x, axis, bool(self.rng.random() < 0.5))
        return values if self.rng.random() < 0.5 else where

    def softmax(self) -> Expr:
        x = self.some("f", least=1)
        axis = self.axis(x)

        def meaning(p: Builder, x: Expr, *, axis: int) -> Expr:
            e = p.exp(x - p.amax(x, axis, keepdims=True))
            return e / p.sum(e, axis, keepdims=True)

        return self.p.composite("softmax", meaning, x, axis=axis)

    def loop(self) -> Expr:
        x = self.some("f", least=1)
        y = self.like(x)
        state = self.p.full(x.shape[1:], 0.5, x.dtype)

        def body(p: Builder, i: Expr, carried: Any, slices: Any) -> Any:
            (h,), (s,) = carried, slices
            step = p.tanh(h * 0.5 + s) + p.cast(i, x.dtype)
            return [step], [step * 2.0 - p.sum(y)]

        (last,), (rows,) = self.p.loop(x.shape[0], [state], body, [x])
        return last if self.rng.random() < 0.5 else rows

    def branch(self) -> Expr:
        x = self.some("f")
        y = self.p.broadcast_to(self.like(x), x.shape)
        return self.p.branch(self.fresh(dtypes.BOOL, ()), lambda: [self.p.exp(x) + 1.0], lambda: [x * y])[0]

    def leaf(self) -> Expr:
        return self.pick([lambda: self.p.iota(self.shape(2), 1, self.pick(INTS)),
                          lambda: self.p.cast(self.p.size(self.pick(self.dims)), self.pick([*FLOATS, *INTS])),
                          lambda: self.p.full(self.shape(), 2, self.pick(FLOATS))])()


STEPS: tuple[str, ...] = (
    "unary", "unary", "binary", "binary", "binary", "compare", "logic", "select", "cast", "test", "transpose",
    "reshape", "reshape", "slice", "slice", "pad", "concat", "broadcast", "reduce", "reduce", "any_all",
    "argreduce", "cumulate", "gather", "gather_along", "scatter", "nd", "contract", "matmul", "convolve", "window",
    "order", "softmax", "loop", "branch", "leaf",
)


def draw(seed: int, steps: int = 8) -> Drawn:
    """A random graph of about `steps` primitives."""
    g = Grower(seed)
    for _ in range(steps):
        made: Callable[[], Expr] = getattr(g, g.pick(STEPS))
        e = made()
        size = product(e.shape)
        if g.size_of(size) <= 20_000 and e.rank <= 6:
            g.pool.append(e)
    g.drawn.roots = list(dict.fromkeys(g.pool[-int(g.rng.integers(1, 4)):]))
    return g.drawn
