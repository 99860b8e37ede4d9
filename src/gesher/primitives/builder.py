"""The builder makes primitive expressions: it broadcasts, checks types and shapes, and makes equal expressions one.

    p = Builder()
    x = p.input("x", dtypes.FLOAT, (sym("n"), 4))
    e = p.exp(x - p.amax(x, -1, keepdims=True))
    y = e / p.sum(e, -1, keepdims=True)

Dtypes are strict: operands of a map have one dtype; only plain Python numbers take the other's. Shapes may hold
symbolic dims; sizes that surely do not fit are refused, the others are checked when the expression runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import BOOL, FLOAT, INT64, UNDEFINED, DType
from gesher.symbolic import Dim, decide_eq, dimlike, product

from . import known as known_values
from . import shapes
from .expr import NO_SCOPES, CannotLower, DimLike, Expr, Shape
from .shapes import Demanded, fail, told
from .table import MAPS, REDUCTIONS, takes

_SMALL = 64  # constants up to this many elements are made one by their contents, larger ones by identity
_scope_numbers = itertools.count(1)

Pads = Sequence[tuple[DimLike, DimLike]]


def _unary(name: str) -> Callable[[Builder, Any], Expr]:
    def method(self: Builder, x: Any) -> Expr:
        return self.map(name, x)

    method.__name__ = name
    return method


def _binary(name: str) -> Callable[[Builder, Any, Any], Expr]:
    def method(self: Builder, a: Any, b: Any) -> Expr:
        return self.map(name, a, b)

    method.__name__ = name
    return method


class Builder:
    """Makes expressions; see the module.

    Args:
        known: values already known of some expressions: object arrays of ints and Dims, or plain arrays.
        outputs: how many outputs the node being lowered has.
        version: the schema version of the node being lowered.

    `site` is where that node stands, for operators that refer to others by name; whoever lowers sets it.
    """

    def __init__(self, known: dict[Expr, Any] | None = None, *, outputs: int = 1, version: int = 1):
        self._made: dict[Any, Expr] = {}
        self._known: dict[Expr, Any] = dict(known or {})
        self._kept: list[Any] = []  # objects whose identity stands in a key
        self._numbers: dict[Expr, int] = {}
        self.outputs = outputs
        self.version = version
        self.site: Any = None
        # What others have made of expressions, kept as long as these.
        self.derived: dict[Any, Any] = {}

    # Machinery

    def make(self, prim: str, args: Sequence[Expr], params: dict[str, Any], dtype: DType, shape: Sequence[DimLike],
             scopes: frozenset[int] = NO_SCOPES) -> Expr:
        """The one expression of this primitive over these operands and parameters. Types are the caller's word."""
        key = (prim, dtype, tuple(shape), tuple(map(id, args)), tuple((k, self._key(v)) for k, v in params.items()))
        found = self._made.get(key)
        if found is None:
            for a in args:
                scopes = scopes | a.scopes if a.scopes else scopes
            found = Expr(prim, tuple(args), params, dtype, tuple(shape), self, scopes)
            self._made[key] = found
        return found

    def _key(self, value: Any) -> Any:
        if isinstance(value, Expr):
            return id(value)
        if isinstance(value, tuple):
            return tuple(map(self._key, value))
        if isinstance(value, np.ndarray):
            if value.size <= _SMALL and value.dtype != object:
                return (value.dtype.str, value.dtype.name, value.shape, value.tobytes())
            self._kept.append(value)
            return id(value)
        if isinstance(value, float):
            return (repr(value),)  # -0.0 is not 0.0, and NaN is NaN
        try:
            hash(value)
        except TypeError:
            self._kept.append(value)
            return id(value)
        return (type(value), value)

    def known(self, x: Expr | None) -> np.ndarray | None:
        """The value of `x` where it is known before running: numbers, or an object array of ints and Dims."""
        return None if x is None else known_values.value_of(x, self._known)

    def learn(self, x: Expr, value: Any) -> None:
        """Say what the value of `x` is (numbers, or an object array of ints and Dims)."""
        self._known[x] = value

    def forget_unknown(self) -> None:
        """Look anew at what was not known: something was learned that it may follow from."""
        self._known = {e: v for e, v in self._known.items() if v is not None}

    # Leaves

    def input(self, name: str, dtype: DType, shape: Sequence[DimLike]) -> Expr:
        """What the caller feeds under that name."""
        made = self.make("input", (), {"name": name}, dtype, tuple(dimlike(d) for d in shape))
        made.name = made.name or name
        return made

    def constant(self, value: Any, dtype: DType | None = None) -> Expr:
        """A constant from an array, a tensor (not read until needed), or anything numpy makes an array of."""
        if isinstance(value, Expr):
            return value
        if not isinstance(value, (np.ndarray, np.generic)) and hasattr(value, "numpy") and hasattr(value, "dtype"):
            if dtype is None or dtype is value.dtype:
                small = 1
                for d in value.shape:
                    small *= d
                payload = value.numpy() if small <= _SMALL else value
                made = self.make("constant", (), {"value": payload}, value.dtype, value.shape)
                made.name = made.name or getattr(value, "name", "")
                return made
            value = value.numpy()
        if dtype is not None and dtype is not dtypes.STRING:
            array = np.asarray(value)
            array = array.astype(dtype.numpy) if array.dtype != dtype.numpy else array
        else:
            array = np.asarray(value)
            dtype = dtypes.from_numpy(array.dtype)
        return self.make("constant", (), {"value": array}, dtype, array.shape)

    def scalar(self, value: Any, dtype: DType) -> Expr:
        """A constant of rank 0."""
        return self.constant(np.array(value).astype(dtype.numpy), dtype)

    def size(self, dim: DimLike, dtype: DType = INT64) -> Expr:
        """A symbolic dim as a scalar; a plain int gives a constant."""
        dim = dimlike(dim)
        if not isinstance(dim, Dim):
            return self.scalar(dim, dtype)
        made = self.make("size", (), {"dim": dim}, INT64, ())
        return made if dtype is INT64 else self.cast(made, dtype)

    def iota(self, shape: Sequence[DimLike], axis: int = 0, dtype: DType = INT64) -> Expr:
        """0, 1, 2 ... along one axis, repeated along the others."""
        shape = tuple(dimlike(d) for d in shape)
        axis = shapes.axis_of("iota", axis, len(shape))
        return self.make("iota", (), {"axis": axis}, dtype, shape)

    def full(self, shape: Sequence[DimLike], value: Any, dtype: DType) -> Expr:
        """One number (or scalar expression) everywhere."""
        return self.broadcast_to(value if isinstance(value, Expr) else self.scalar(value, dtype), shape)

    # Maps

    def operand(self, value: Any, dtype: DType) -> Expr:
        """`value` as an expression; a Python number becomes a scalar of `dtype`.

        Raises:
            ModelError: the number has a fraction and the type has none.
        """
        if isinstance(value, Expr):
            return value
        if isinstance(value, Dim):
            return self.size(value, dtype)
        if isinstance(value, (bool, int, float, np.generic)):
            if isinstance(value, np.generic):
                value = value.item()
            if isinstance(value, float) and not dtype.is_float and not value.is_integer():
                fail("map", f"{value} is no number of type {dtype.name}")
            return self.scalar(value, dtype)
        return self.constant(value)

    def map(self, name: str, *operands: Any) -> Expr:
        """The elementwise map of that name (a row of `table.MAPS`), operands broadcast."""
        row = MAPS[name]
        dtype = next((o.dtype for o in operands if isinstance(o, Expr)), None)
        if dtype is None:
            fail(name, "at least one operand must be an expression")
        args = [self.operand(o, dtype) for o in operands]
        if any(a.dtype is not dtype for a in args):
            fail(name, f"the operands are {' and '.join(a.dtype.name for a in args)}; cast one")
        if not takes(row, dtype):
            if dtype.kind in ("string", "complex"):
                raise CannotLower(f"{name} of {dtype.name}")
            fail(name, f"it is not defined on {dtype.name}")
        args = self.broadcast(*args, prim=name)
        return self.make(name, args, {}, BOOL if row.gives == "bool" else dtype, args[0].shape)

    def broadcast(self, *xs: Expr, prim: str = "broadcast") -> list[Expr]:
        """All repeated to their common shape."""
        if len(xs) == 1:
            return list(xs)
        shape = shapes.broadcast(prim, *(x.shape for x in xs))
        return [self.broadcast_to(x, shape) for x in xs]

    def is_inf(self, x: Expr, negative: bool = True, positive: bool = True) -> Expr:
        """Whether an element is an infinity of one of the asked signs."""
        if not x.dtype.is_float:
            fail("is_inf", f"it is not defined on {x.dtype.name}")
        return self.make("is_inf", (x,), {"negative": bool(negative), "positive": bool(positive)}, BOOL, x.shape)

    def select(self, cond: Expr, a: Any, b: Any) -> Expr:
        """`a` where `cond` is true, else `b`."""
        if cond.dtype is not BOOL:
            fail("select", f"the condition is {cond.dtype.name}, not bool")
        dtype = next((o.dtype for o in (a, b) if isinstance(o, Expr)), None)
        if dtype is None:
            fail("select", "at least one of the two must be an expression")
        a, b = self.operand(a, dtype), self.operand(b, dtype)
        if a.dtype is not b.dtype:
            fail("select", f"the two are {a.dtype.name} and {b.dtype.name}; cast one")
        cond, a, b = self.broadcast(cond, a, b, prim="select")
        return self.make("select", (cond, a, b), {}, dtype, a.shape)

    def cast(self, x: Expr, dtype: DType, saturate: bool = True) -> Expr:
        """Another type. Floats are cut toward zero for integers; NaN and what does not fit give the lowest integer of
        32 bits (64 for the 64-bit types), whose low bits narrower types take. `saturate` counts for float8 only."""
        if x.dtype is dtype:
            return x
        if dtypes.STRING in (x.dtype, dtype) or x.dtype.kind == "complex" or dtype.kind == "complex":
            raise CannotLower(f"cast from {x.dtype.name} to {dtype.name}")
        return self.make("cast", (x,), {"saturate": bool(saturate)}, dtype, x.shape)

    def bitcast(self, x: Expr, dtype: DType) -> Expr:
        """The same bits as another type of the same width."""
        if x.dtype is dtype:
            return x
        if x.dtype.bits != dtype.bits or dtype.bits == 0:
            fail("bitcast", f"{x.dtype.name} has {x.dtype.bits} bits, {dtype.name} has {dtype.bits}")
        return self.make("bitcast", (x,), {}, dtype, x.shape)

    # Structure

    def broadcast_to(self, x: Expr, shape: Sequence[DimLike]) -> Expr:
        """Repeat axes of size 1 (and missing leading axes) to a shape."""
        shape = tuple(dimlike(d) for d in shape)
        if x.shape == shape:
            return x
        shapes.check_broadcast_to(x.shape, shape)
        return self.make("broadcast", (x,), {}, x.dtype, shape)

    def hold(self, x: Expr, what: str, *demands: Demanded) -> Expr:
        """`x`, in runs whose sizes are as they must be; others are refused.

        For what the sizes of `x` no longer tell: of an axis of 3 that is repeated to n, the result has 3, and n must be
        1 or 3. `demands` are rows of ("same", a, b), ("most", a, b) for a <= b, ("repeats", a, b) for a in (1, b).
        """
        kept = []
        for kind, a, b in demands:
            holds = shapes.demanded(kind, a, b)
            if holds is False:
                fail(what, f"a size of {a} meets one of {b}, and {shapes.DEMANDS[kind]}")
            if holds is None:
                kept.append((kind, a, b))
        return self.make("hold", (x,), {"demands": tuple(kept), "what": what}, x.dtype, x.shape) if kept else x

    def reshape(self, x: Expr, shape: Sequence[DimLike]) -> Expr:
        """The same elements in row-major order in another shape. All sizes must be given (no -1)."""
        shape = tuple(dimlike(d) for d in shape)
        shapes.check_reshape(x.shape, shape)
        if x.shape == shape:
            return x
        return self.make("reshape", (x,), {}, x.dtype, shape)

    def flatten(self, x: Expr, axis: int = 1) -> Expr:
        """A matrix: the axes before `axis`, and those from it on."""
        if not -x.rank <= axis <= x.rank:
            fail("flatten", f"axis {axis} does not exist in rank {x.rank}")
        axis = axis + x.rank if axis < 0 else axis
        return self.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))

    def expand_dims(self, x: Expr, axes: int | Sequence[int]) -> Expr:
        """Put axes of size 1 at these places of the result."""
        axes = [axes] if isinstance(axes, int) else list(axes)
        places = set(shapes.axes_of("expand_dims", axes, x.rank + len(axes)))
        rest = iter(x.shape)
        return self.reshape(x, [1 if i in places else next(rest) for i in range(x.rank + len(axes))])

    def squeeze(self, x: Expr, axes: int | Sequence[int] | None = None) -> Expr:
        """Take axes of size 1 away; None takes all that are surely 1."""
        if axes is None:
            found = tuple(i for i, d in enumerate(x.shape) if decide_eq(d, 1))
        else:
            found = shapes.axes_of("squeeze", axes, x.rank)
            for a in found:
                if decide_eq(x.shape[a], 1) is False:
                    fail("squeeze", f"axis {a} of {told(x.shape)} is not 1")
        return self.reshape(x, shapes.reduced(x.shape, found))

    def transpose(self, x: Expr, perm: Sequence[int] | None = None) -> Expr:
        """Axis i of the result is axis perm[i] of x; None reverses."""
        perm = tuple(range(x.rank))[::-1] if perm is None else tuple(
            shapes.axis_of("transpose", a, x.rank) for a in perm)
        if sorted(perm) != list(range(x.rank)):
            fail("transpose", f"{list(perm)} is no order of {x.rank} axes")
        if perm == tuple(range(x.rank)):
            return x
        return self.make("transpose", (x,), {"perm": perm}, x.dtype, tuple(x.shape[a] for a in perm))

    def slice(self, x: Expr, starts: Sequence[DimLike], stops: Sequence[DimLike],
              steps: Sequence[DimLike] | None = None) -> Expr:
        """Every step-th element from start to before stop, one of each an axis, normalised: not negative, but for the
        stop of a backward step, which may be -1 for 'through the first'."""
        starts = tuple(map(dimlike, starts))
        stops = tuple(map(dimlike, stops))
        steps = (1,) * x.rank if steps is None else tuple(map(dimlike, steps))
        shape = shapes.sliced(x.shape, starts, stops, steps)
        if all(decide_eq(a, 0) and s == 1 and decide_eq(b, d) for a, b, s, d in zip(starts, stops, steps, x.shape)):
            return x
        return self.make("slice", (x,), {"starts": starts, "stops": stops, "steps": steps}, x.dtype, shape)

    def take(self, x: Expr, axis: int, start: DimLike, stop: DimLike, step: DimLike = 1) -> Expr:
        """A slice along one axis."""
        axis = shapes.axis_of("slice", axis, x.rank)
        starts: list[DimLike] = [0] * x.rank
        stops: list[DimLike] = list(x.shape)
        steps: list[DimLike] = [1] * x.rank
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return self.slice(x, starts, stops, steps)

    def split(self, x: Expr, sizes: Sequence[DimLike], axis: int) -> list[Expr]:
        """Pieces of these sizes along an axis, which they must fill."""
        axis = shapes.axis_of("split", axis, x.rank)
        pieces, start = [], dimlike(0)
        for size in sizes:
            pieces.append(self.take(x, axis, start, start + size))
            start = start + size
        shapes.same("split", start, x.shape[axis], "the sizes must fill the axis")
        return pieces

    def pad(self, x: Expr, low: Sequence[DimLike], high: Sequence[DimLike], value: Any = 0) -> Expr:
        """`value` (a number or a scalar expression) put before and behind every axis."""
        low, high = tuple(map(dimlike, low)), tuple(map(dimlike, high))
        shape = shapes.padded(x.shape, low, high)
        if all(decide_eq(p, 0) for p in (*low, *high)):
            return x
        fill = self.operand(value, x.dtype)
        if fill.dtype is not x.dtype or fill.shape != ():
            fail("pad", f"the value is {fill.dtype.name}{told(fill.shape)}, not a {x.dtype.name} scalar")
        return self.make("pad", (x, fill), {"low": low, "high": high}, x.dtype, shape)

    def concat(self, xs: Sequence[Expr], axis: int) -> Expr:
        """One behind the other along an axis."""
        if not xs:
            fail("concat", "there is nothing to join")
        axis = shapes.axis_of("concat", axis, xs[0].rank)
        if any(x.dtype is not xs[0].dtype for x in xs):
            fail("concat", f"the types {', '.join(x.dtype.name for x in xs)} differ")
        shape = shapes.concatenated([x.shape for x in xs], axis)
        return xs[0] if len(xs) == 1 else self.make("concat", xs, {"axis": axis}, xs[0].dtype, shape)

    # Indexed

    def _indices(self, prim: str, indices: Expr) -> Expr:
        if not indices.dtype.is_integer:
            fail(prim, f"the indices are {indices.dtype.name}, not integers")
        return indices

    def gather(self, x: Expr, indices: Expr, axis: int = 0) -> Expr:
        """As numpy's take: the axis is replaced by the axes of `indices`; negative indices count from the end."""
        self._indices("gather", indices)
        axis = shapes.axis_of("gather", axis, x.rank)
        return self.make("gather", (x, indices), {"axis": axis}, x.dtype,
                         (*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]))

    def _along(self, prim: str, x: Expr, indices: Expr, axis: int) -> int:
        self._indices(prim, indices)
        axis = shapes.axis_of(prim, axis, x.rank)
        if indices.rank != x.rank:
            fail(prim, f"the indices {told(indices.shape)} have another rank than {told(x.shape)}")
        for i, (a, b) in enumerate(zip(indices.shape, x.shape)):
            # Beside the axis, fewer rows than x has are allowed: the others are not touched.
            if i != axis and isinstance(a, int) and isinstance(b, int) and a > b:
                fail(prim, f"the indices {told(indices.shape)} reach outside {told(x.shape)}")
        return axis

    def gather_along(self, x: Expr, indices: Expr, axis: int) -> Expr:
        """out[i, j, k] = x[i, indices[i, j, k], k] for axis 1."""
        axis = self._along("gather_along", x, indices, axis)
        return self.make("gather_along", (x, indices), {"axis": axis}, x.dtype, indices.shape)

    def gather_nd(self, x: Expr, indices: Expr, batch_dims: int = 0) -> Expr:
        """The last axis of `indices` holds coordinates into x behind the shared `batch_dims` axes."""
        self._indices("gather_nd", indices)
        depth = indices.shape[-1] if indices.rank else 0
        if not isinstance(depth, int):
            raise CannotLower("the number of coordinates in an index is not known")
        if not 0 <= batch_dims < max(indices.rank, 1) or not 1 <= depth <= x.rank - batch_dims:
            fail("gather_nd", f"indices {told(indices.shape)} do not fit {told(x.shape)} with {batch_dims} batch axes")
        for a, b in zip(x.shape[:batch_dims], indices.shape[:batch_dims]):
            shapes.same("gather_nd", a, b, "batch axes")
        return self.make("gather_nd", (x, indices), {"batch_dims": batch_dims}, x.dtype,
                         (*indices.shape[:-1], *x.shape[batch_dims + depth:]))

    def scatter_along(self, x: Expr, indices: Expr, updates: Expr, axis: int, reduction: str = "none") -> Expr:
        """x with `updates` written (or added ...) where `gather_along` would read; of equal indices the last wins."""
        axis = self._along("scatter_along", x, indices, axis)
        self._reduction("scatter_along", reduction, x, updates)
        for a, b in zip(indices.shape, updates.shape):
            shapes.same("scatter_along", a, b, "indices and updates")
        return self.make("scatter_along", (x, indices, updates), {"axis": axis, "reduction": reduction}, x.dtype,
                         x.shape)

    def scatter_nd(self, x: Expr, indices: Expr, updates: Expr, reduction: str = "none") -> Expr:
        """x with `updates` written (or added ...) where `gather_nd` would read."""
        self._indices("scatter_nd", indices)
        depth = indices.shape[-1] if indices.rank else 0
        if not isinstance(depth, int):
            raise CannotLower("the number of coordinates in an index is not known")
        if not 1 <= depth <= x.rank:
            fail("scatter_nd", f"indices {told(indices.shape)} do not fit {told(x.shape)}")
        self._reduction("scatter_nd", reduction, x, updates)
        want = (*indices.shape[:-1], *x.shape[depth:])
        if len(want) != updates.rank:
            fail("scatter_nd", f"the updates are {told(updates.shape)}, not {told(want)}")
        for a, b in zip(want, updates.shape):
            shapes.same("scatter_nd", a, b, "updates")
        return self.make("scatter_nd", (x, indices, updates), {"reduction": reduction}, x.dtype, x.shape)

    def _reduction(self, prim: str, reduction: str, x: Expr, updates: Expr) -> None:
        if reduction not in ("none", "add", "mul", "max", "min"):
            fail(prim, f"there is no reduction {reduction!r}")
        if updates.dtype is not x.dtype:
            fail(prim, f"the updates are {updates.dtype.name}, x is {x.dtype.name}")
        if reduction != "none" and x.dtype.kind not in ("float", "int", "uint"):
            raise CannotLower(f"{prim} with {reduction} of {x.dtype.name}")

    # Reductions

    def _reduce(self, op: str, x: Expr, axes: int | Sequence[int] | None, keepdims: bool) -> Expr:
        row = REDUCTIONS[op]
        if x.dtype.kind == "complex":
            raise CannotLower(f"{op} of {x.dtype.name}")
        if not (x.dtype.is_float or x.dtype.is_integer) if row.takes == "fi" else x.dtype is not BOOL:
            fail(op, f"it is not defined on {x.dtype.name}")
        found = shapes.axes_of(op, axes, x.rank)
        if not found:
            return x
        made = self.make("reduce", (x,), {"op": op, "axes": found}, x.dtype, shapes.reduced(x.shape, found))
        return self.expand_dims(made, found) if keepdims else made

    def sum(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        """Integers wrap around; narrow floats are added in float32."""
        return self._reduce("sum", x, axes, keepdims)

    def prod(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        return self._reduce("prod", x, axes, keepdims)

    def amax(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        """The largest; NaN where there is one; of nothing the lowest value of the type."""
        return self._reduce("max", x, axes, keepdims)

    def amin(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        return self._reduce("min", x, axes, keepdims)

    def any(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        return self._reduce("any", x, axes, keepdims)

    def all(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        return self._reduce("all", x, axes, keepdims)

    def mean(self, x: Expr, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Expr:
        """The sum divided by how many there are; integers truncate, narrow floats are computed in float32."""
        found = shapes.axes_of("mean", axes, x.rank)
        if not found:
            return x
        wide = self.cast(x, FLOAT) if x.dtype.is_float and x.dtype.bits < 32 else x
        count = self.size(product(x.shape[a] for a in found), wide.dtype)
        return self.cast(self.sum(wide, found, keepdims) / count, x.dtype)

    def _argreduce(self, op: str, x: Expr, axis: int, keepdims: bool, last: bool) -> Expr:
        axis = shapes.axis_of(f"arg{op}", axis, x.rank)
        if not (x.dtype.is_float or x.dtype.is_integer):
            fail(f"arg{op}", f"it is not defined on {x.dtype.name}")
        if decide_eq(x.shape[axis], 0):
            fail(f"arg{op}", f"axis {axis} of {told(x.shape)} is empty")
        made = self.make("argreduce", (x,), {"op": op, "axis": axis, "last": bool(last)}, INT64,
                         shapes.reduced(x.shape, (axis,)))
        return self.expand_dims(made, [axis]) if keepdims else made

    def argmax(self, x: Expr, axis: int, keepdims: bool = False, last: bool = False) -> Expr:
        """Where the largest stands: the first of equals, or the last. NaN counts as larger than all."""
        return self._argreduce("max", x, axis, keepdims, last)

    def argmin(self, x: Expr, axis: int, keepdims: bool = False, last: bool = False) -> Expr:
        """Where the smallest stands. NaN counts as smaller than all."""
        return self._argreduce("min", x, axis, keepdims, last)

    def cumulate(self, x: Expr, axis: int, op: str = "sum", exclusive: bool = False, reverse: bool = False) -> Expr:
        """Running sum, prod, max or min along an axis; `exclusive` leaves out the element itself."""
        axis = shapes.axis_of("cumulate", axis, x.rank)
        if op not in ("sum", "prod", "max", "min"):
            fail("cumulate", f"there is no running {op!r}")
        if not (x.dtype.is_float or x.dtype.is_integer):
            fail("cumulate", f"it is not defined on {x.dtype.name}")
        return self.make("cumulate", (x,), {"axis": axis, "op": op, "exclusive": bool(exclusive),
                                            "reverse": bool(reverse)}, x.dtype, x.shape)

    # Products

    def contract(self, a: Expr, b: Expr, a_axes: Sequence[int], b_axes: Sequence[int], a_batch: Sequence[int] = (),
                 b_batch: Sequence[int] = ()) -> Expr:
        """Products summed over paired axes, one for each place of the paired batch axes. The result's axes are the
        batch axes, what is left of a, what is left of b. Narrow floats are summed in float32."""
        if a.dtype is not b.dtype:
            fail("contract", f"the operands are {a.dtype.name} and {b.dtype.name}; cast one")
        if not (a.dtype.is_float or a.dtype.is_integer):
            fail("contract", f"it is not defined on {a.dtype.name}")
        if len(a_axes) != len(b_axes) or len(a_batch) != len(b_batch):
            fail("contract", "axes come in pairs")
        a_axes, a_batch = (tuple(shapes.axis_of("contract", i, a.rank) for i in s) for s in (a_axes, a_batch))
        b_axes, b_batch = (tuple(shapes.axis_of("contract", i, b.rank) for i in s) for s in (b_axes, b_batch))
        for used in ((*a_axes, *a_batch), (*b_axes, *b_batch)):
            if len(set(used)) != len(used):
                fail("contract", f"an axis comes twice in {list(used)}")
        for i, j in zip(a_axes, b_axes):
            shapes.same("contract", a.shape[i], b.shape[j], f"axis {i} of {told(a.shape)} meets {j} of {told(b.shape)}")
        batch = [shapes.same("contract", a.shape[i], b.shape[j], "batch axes") for i, j in zip(a_batch, b_batch)]
        a_rest = [d for i, d in enumerate(a.shape) if i not in a_axes and i not in a_batch]
        b_rest = [d for i, d in enumerate(b.shape) if i not in b_axes and i not in b_batch]
        return self.make("contract", (a, b), {"a_axes": a_axes, "b_axes": b_axes, "a_batch": a_batch,
                                              "b_batch": b_batch}, a.dtype, (*batch, *a_rest, *b_rest))

    def matmul(self, a: Expr, b: Expr) -> Expr:
        """numpy's matmul: leading axes broadcast, vectors are rows on the left and columns on the right."""
        if not a.rank or not b.rank:
            fail("matmul", "a scalar has no axis to multiply over")
        if a.rank == 1 and b.rank == 1:
            return self.contract(a, b, [0], [0])
        if b.rank == 1:
            return self.contract(a, b, [-1], [0])
        if a.rank == 1:
            return self.contract(a, b, [0], [-2])
        if b.rank == 2:
            return self.contract(a, b, [-1], [0])
        lead = shapes.broadcast("matmul", a.shape[:-2], b.shape[:-2])
        # An axis that is 1 on one side stays out of the batch: the other side's axis is then just a row axis.
        a = self.broadcast_to(a, (*lead, *a.shape[-2:]))
        b = self.broadcast_to(b, (*lead, *b.shape[-2:]))
        n = len(lead)
        return self.contract(a, b, [n + 1], [n], range(n), range(n))

    def convolve(self, x: Expr, w: Expr, strides: Sequence[int], pads: Pads, dilations: Sequence[int],
                 groups: int = 1) -> Expr:
        """Correlation of x (N,C,*) with w (M,C/groups,*), zeros around: (N,M,*)."""
        n = x.rank - 2
        self._windows("convolve", n, strides, pads, dilations)
        if x.dtype is not w.dtype or not (x.dtype.is_float or x.dtype.is_integer):
            fail("convolve", f"x is {x.dtype.name}, w is {w.dtype.name}")
        if w.rank != x.rank:
            fail("convolve", f"x {told(x.shape)} and w {told(w.shape)} have different ranks")
        shapes.same("convolve", x.shape[1], w.shape[1] * groups, "channels of x, and of w times groups")
        if decide_eq(w.shape[0] % groups, 0) is False:
            fail("convolve", f"{w.shape[0]} output channels do not divide into {groups} groups")
        spatial = [shapes.window_size("convolve", *row) for row in
                   zip(x.shape[2:], w.shape[2:], strides, *zip(*pads), dilations)] if n else []
        return self.make("convolve", (x, w), {"strides": tuple(strides), "pads": tuple(map(tuple, pads)),
                                              "dilations": tuple(dilations), "groups": groups},
                         x.dtype, (x.shape[0], w.shape[0], *spatial))

    def convolve_transposed(self, x: Expr, w: Expr, strides: Sequence[int], pads: Pads, dilations: Sequence[int],
                            groups: int = 1, output_padding: Sequence[int] | None = None) -> Expr:
        """The gradient of `convolve` by its x: x (N,C,*), w (C,M/groups,*) give (N,M,*)."""
        n = x.rank - 2
        self._windows("convolve_transposed", n, strides, pads, dilations)
        output_padding = (0,) * n if output_padding is None else tuple(output_padding)
        if x.dtype is not w.dtype or not x.dtype.is_float:
            fail("convolve_transposed", f"x is {x.dtype.name}, w is {w.dtype.name}")
        if w.rank != x.rank or len(output_padding) != n:
            fail("convolve_transposed", f"x {told(x.shape)}, w {told(w.shape)}, output padding {told(output_padding)}")
        shapes.same("convolve_transposed", x.shape[1], w.shape[0], "channels")
        spatial = []
        for d, k, s, (lo, hi), dilation, extra in zip(x.shape[2:], w.shape[2:], strides, pads, dilations,
                                                      output_padding):
            size = (d - 1) * s + (k - 1) * dilation + 1 + extra - lo - hi
            if decide_eq(d, 0) is None:
                size = shapes.maximum(size, 0)
            elif shapes.decide_lt(size, 0):
                fail("convolve_transposed", f"the padding {lo}, {hi} leaves nothing of size {size + lo + hi}")
            spatial.append(size)
        return self.make("convolve_transposed", (x, w),
                         {"strides": tuple(strides), "pads": tuple(map(tuple, pads)), "dilations": tuple(dilations),
                          "groups": groups, "output_padding": output_padding},
                         x.dtype, (x.shape[0], w.shape[1] * groups, *spatial))

    def window(self, x: Expr, op: str, size: Sequence[int], strides: Sequence[int], pads: Pads,
               dilations: Sequence[int] | None = None) -> Expr:
        """sum, max or min over windows of the trailing axes; what is padded counts as nothing."""
        n = len(size)
        dilations = (1,) * n if dilations is None else dilations
        self._windows("window", n, strides, pads, dilations)
        if op not in ("sum", "max", "min") or not (x.dtype.is_float or x.dtype.is_integer):
            fail("window", f"{op} of {x.dtype.name}")
        if n > x.rank:
            fail("window", f"{n} window axes in rank {x.rank}")
        spatial = [shapes.window_size("window", *row) for row in
                   zip(x.shape[x.rank - n:], size, strides, *zip(*pads), dilations)]
        return self.make("window", (x,), {"op": op, "size": tuple(size), "strides": tuple(strides),
                                          "pads": tuple(map(tuple, pads)), "dilations": tuple(dilations)},
                         x.dtype, (*x.shape[:x.rank - n], *spatial))

    def _windows(self, prim: str, n: int, strides: Sequence[int], pads: Pads, dilations: Sequence[int]) -> None:
        if n < 0 or not len(strides) == len(pads) == len(dilations) == n:
            fail(prim, f"{n} axes need as many strides, pads and dilations, not {list(strides)}, {list(pads)}, "
                       f"{list(dilations)}")
        if any(s < 1 for s in (*strides, *dilations)):
            fail(prim, f"strides {list(strides)} and dilations {list(dilations)} must be positive")

    # Order

    def sort_order(self, x: Expr, axis: int = -1, descending: bool = False) -> Expr:
        """The indices that sort along an axis, equals in their order; NaN counts as largest."""
        axis = shapes.axis_of("sort", axis, x.rank)
        if not (x.dtype.is_float or x.dtype.is_integer or x.dtype is BOOL):
            raise CannotLower(f"sort of {x.dtype.name}")
        return self.make("sort_order", (x,), {"axis": axis, "descending": bool(descending)}, INT64, x.shape)

    def sort(self, x: Expr, axis: int = -1, descending: bool = False) -> tuple[Expr, Expr]:
        """Values and indices, sorted along an axis, equals in their order; NaN counts as largest."""
        order = self.sort_order(x, axis, descending)
        return self.gather_along(x, order, axis), order

    def top_k(self, x: Expr, k: DimLike, axis: int = -1, largest: bool = True) -> tuple[Expr, Expr]:
        """The k largest (smallest) and their indices, best first; among equals the lower index first."""
        axis = shapes.axis_of("top_k", axis, x.rank)
        if shapes.decide_le(k, x.shape[axis]) is False:
            fail("top_k", f"there are no {k} elements on axis {axis} of {told(x.shape)}")
        order = self.take(self.sort_order(x, axis, largest), axis, 0, k)
        return self.gather_along(x, order, axis), order

    # Control

    def loop(self, count: Expr | DimLike, carried: Sequence[Expr],
             body: Callable[[Builder, Expr, tuple[Expr, ...], tuple[Expr, ...]], tuple[Sequence[Expr], Sequence[Expr]]],
             scanned: Sequence[Expr] = (), going: int | None = None) -> tuple[list[Expr], list[Expr]]:
        """Run `body(p, i, carried, slices) -> (carried, stacked items)` for i = 0 ... count - 1.

        `slices` are scanned[j][i]; what the body stacks is gathered along a new first axis of `count`. The carried
        values keep their types. With `going`, the carried value of that number, a bool scalar, says before each turn
        whether there is one; nothing can be stacked then, for nobody knows how often.
        """
        if not isinstance(count, Expr):
            count = self.size(count)
        if count.dtype is not INT64 or count.shape != ():
            fail("loop", f"the count is {count.dtype.name}{told(count.shape)}, not an int64 scalar")
        trips = self.known(count)
        if trips is None:
            raise CannotLower("how often a loop runs is not known before running")
        length = dimlike(trips.reshape(-1).tolist()[0])
        for s in scanned:
            if not s.rank:
                fail("loop", "what is scanned needs an axis")
            shapes.same("loop", s.shape[0], length, "what is scanned, and the count")
        scope = next(_scope_numbers)
        mine = frozenset((scope,))

        def parameter(index: int, dtype: DType, shape: Shape) -> Expr:
            return self.make("parameter", (), {"scope": scope, "index": index}, dtype, shape, mine)

        i = parameter(0, INT64, ())
        inside = tuple(parameter(1 + j, c.dtype, c.shape) for j, c in enumerate(carried))
        slices = tuple(parameter(1 + len(inside) + j, s.dtype, s.shape[1:]) for j, s in enumerate(scanned))
        carried_out, stacked = (tuple(part) for part in body(self, i, inside, slices))
        if going is not None and (stacked or carried[going].dtype is not BOOL or carried[going].shape != ()):
            fail("loop", "a loop that ends by a condition needs a bool scalar for it, and stacks nothing")
        if len(carried_out) != len(carried) or any(
                a.dtype is not b.dtype or a.rank != b.rank
                or any(decide_eq(x, y) is False for x, y in zip(a.shape, b.shape))
                for a, b in zip(carried, carried_out)):
            fail("loop", "the body changes the types of what it carries")
        scopes: frozenset[int] = NO_SCOPES
        for e in (*carried_out, *stacked):
            scopes |= e.scopes
        types = (*((c.dtype, c.shape) for c in carried), *((s.dtype, (length, *s.shape)) for s in stacked))
        bundle = self.make("loop", (count, *carried, *scanned),
                           {"scope": scope, "parameters": (i, *inside, *slices), "carried": len(carried),
                            "length": length, "going": going, "carried_out": carried_out, "stacked_out": stacked,
                            "types": types},
                           UNDEFINED, (), scopes - mine)
        parts = self.parts(bundle)
        return parts[:len(carried)], parts[len(carried):]

    def branch(self, cond: Expr, then: Callable[[], Sequence[Expr]], other: Callable[[], Sequence[Expr]]) -> list[Expr]:
        """What `then()` gives where the scalar `cond` is true, else what `other()` gives; of the same types."""
        if cond.dtype is not BOOL or cond.shape != ():
            fail("branch", f"the condition is {cond.dtype.name}{told(cond.shape)}, not a bool scalar")
        yes, no = tuple(then()), tuple(other())
        if len(yes) != len(no):
            fail("branch", f"one arm gives {len(yes)}, the other {len(no)}")
        for a, b in zip(yes, no):
            if a.dtype is not b.dtype or a.rank != b.rank:
                fail("branch", f"the arms give {a!r} and {b!r}")
            if any(decide_eq(x, y) is not True for x, y in zip(a.shape, b.shape)):
                raise CannotLower("the arms of a branch give different shapes")
        scopes: frozenset[int] = NO_SCOPES
        for e in (*yes, *no):
            scopes |= e.scopes
        types = tuple((a.dtype, a.shape) for a in yes)
        bundle = self.make("branch", (cond,), {"then": yes, "other": no, "types": types}, UNDEFINED, (), scopes)
        return self.parts(bundle)

    def parts(self, bundle: Expr) -> list[Expr]:
        """The results of a bundle."""
        return [self.make("item", (bundle,), {"index": i}, d, s) for i, (d, s) in enumerate(bundle.params["types"])]

    def composite(self, name: str, meaning: Callable[..., Any], *args: Expr | None, **params: Any) -> Any:
        """A named whole that a hand-tuned kernel may do at once: one expression, or a tuple, as `meaning` gives.

        `meaning(p, *args, **params)` says it in primitives. Arguments left out are None; `params["given"]` of the
        expression tells which are there.
        """
        result = meaning(self, *args, **params)
        means = result if isinstance(result, tuple) else (result,)
        given = tuple(i for i, a in enumerate(args) if a is not None)
        operands = [a for a in args if a is not None]
        kept = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}
        scopes: frozenset[int] = NO_SCOPES
        for e in means:
            scopes |= e.scopes
        types = tuple((m.dtype, m.shape) for m in means)
        bundle = self.make("composite", operands, {"name": name, "given": given, "of": tuple(kept.items()),
                                                   "meaning": means, "types": types}, UNDEFINED, (), scopes)
        parts = tuple(self.parts(bundle))
        return parts if isinstance(result, tuple) else parts[0]

    # The table's maps, one method each: unary, then binary (numpy broadcasting, Python numbers take the other's type).
    neg, abs, sign = _unary("neg"), _unary("abs"), _unary("sign")
    exp, expm1, log = _unary("exp"), _unary("expm1"), _unary("log")
    log1p, sqrt, reciprocal = _unary("log1p"), _unary("sqrt"), _unary("reciprocal")
    sin, cos, tan = _unary("sin"), _unary("cos"), _unary("tan")
    asin, acos, atan = _unary("asin"), _unary("acos"), _unary("atan")
    sinh, cosh, tanh = _unary("sinh"), _unary("cosh"), _unary("tanh")
    asinh, acosh, atanh = _unary("asinh"), _unary("acosh"), _unary("atanh")
    erf, sigmoid, floor = _unary("erf"), _unary("sigmoid"), _unary("floor")
    ceil, round, trunc = _unary("ceil"), _unary("round"), _unary("trunc")
    not_, bit_not, is_nan = _unary("not_"), _unary("bit_not"), _unary("is_nan")
    add, sub, mul = _binary("add"), _binary("sub"), _binary("mul")
    div, pow, mod = _binary("div"), _binary("pow"), _binary("mod")
    fmod, atan2, min = _binary("fmod"), _binary("atan2"), _binary("min")
    max, and_, or_ = _binary("max"), _binary("and_"), _binary("or_")
    xor, bit_and, bit_or = _binary("xor"), _binary("bit_and"), _binary("bit_or")
    bit_xor, shift_left, shift_right = _binary("bit_xor"), _binary("shift_left"), _binary("shift_right")
    eq, ne, lt = _binary("eq"), _binary("ne"), _binary("lt")
    le, gt, ge = _binary("le"), _binary("gt"), _binary("ge")
