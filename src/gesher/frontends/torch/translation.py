"""What a translator of an ATen operator works with, and the table of translators.

A translator is a function `(t, *arguments)` found by ATen name: it gets every argument of the operator's schema in
order, defaults filled in, tensors as values of the graph, symbolic integers as dims. `t.out` is what PyTorch says of
the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Tensor, Value
from gesher.ops.build import Builder
from gesher.symbolic import Dim, bounds

from .sizes import Sizes

DTYPES: dict[torch.dtype, DType] = {
    torch.float32: dtypes.FLOAT, torch.float64: dtypes.DOUBLE, torch.float16: dtypes.FLOAT16,
    torch.bfloat16: dtypes.BFLOAT16, torch.int8: dtypes.INT8, torch.int16: dtypes.INT16, torch.int32: dtypes.INT32,
    torch.int64: dtypes.INT64, torch.uint8: dtypes.UINT8, torch.uint16: dtypes.UINT16, torch.uint32: dtypes.UINT32,
    torch.uint64: dtypes.UINT64, torch.bool: dtypes.BOOL, torch.float8_e4m3fn: dtypes.FLOAT8E4M3FN,
    torch.float8_e5m2: dtypes.FLOAT8E5M2, torch.float8_e4m3fnuz: dtypes.FLOAT8E4M3FNUZ,
    torch.float8_e5m2fnuz: dtypes.FLOAT8E5M2FNUZ}


def narrow_float(dtype: DType) -> bool:
    """Whether a type is one that PyTorch computes with in float32, and rounds once."""
    return dtype in (dtypes.FLOAT16, dtypes.BFLOAT16)


# Complex numbers cross as pairs of these, along a last axis of two.
PARTS: dict[torch.dtype, torch.dtype] = {torch.complex64: torch.float32, torch.complex128: torch.float64,
                                         torch.complex32: torch.float16}


def dtype_of(d: torch.dtype) -> DType:
    """ONNX's type for PyTorch's; for complex numbers that of their parts.

    Raises:
        UnsupportedError: ONNX has none.
    """
    d = PARTS.get(d, d)
    if d not in DTYPES:
        raise UnsupportedError(f"ONNX has no data type for {d}", who="torch")
    return DTYPES[d]


def shape_of(fake: Any) -> tuple[Any, ...]:
    """The shape of a value for what PyTorch says of it: complex numbers are pairs along one axis more."""
    return (*fake.shape, 2) if fake.dtype in PARTS else tuple(fake.shape)


class Pair:
    """A complex value: (..., 2) reals. Translators of complex operators are given and give these."""

    __slots__ = ("value",)

    def __init__(self, value: Value):
        self.value = value


class Translation:
    """One program being translated."""

    def __init__(self, b: Builder, sizes: Sizes):
        self.b, self.sizes = b, sizes
        self.out: Any = None
        self.fakes: list[Any] = []
        self.target = ""
        self.transposed: dict[Value, Value] = {}
        # What packed sequences are, padded (see `packed`).
        self.padded: dict[Value, Any] = {}
        # Translates a graph of PyTorch's inside another (a branch, the body of a loop); set by who walks the program.
        self.body: Callable[[Translation, Any, Sequence[Any]], list[Any]] = _no_bodies
        # Told what a translation takes for granted of sizes: ("!=", a, b) means that a is never b.
        self.assume: Callable[[str, DimLike, DimLike], None] = _assume_nothing

    def within(self, b: Builder) -> Translation:
        """A translation of an inner graph: it sees what was made outside, and what it makes stays inside."""
        made = Translation(b, self.sizes.within(b))
        made.transposed, made.padded = dict(self.transposed), dict(self.padded)
        made.body, made.assume = self.body, self.assume
        return made

    # Types and shapes

    def dtype(self, v: Value) -> DType:
        return self.b.dtype(v)

    def shape(self, v: Value) -> tuple[DimLike, ...]:
        """The shape; every value that PyTorch told of has one."""
        shape = self.b.shape(v)
        assert shape is not None, f"the rank of '{v.name}' is unknown"
        self.sizes.learn_unknown(v, shape)
        return shape    # type: ignore[return-value]

    def rank(self, v: Value) -> int:
        return len(self.shape(v))

    @property
    def out_dtype(self) -> DType:
        """The type of the (first) result, as PyTorch says it."""
        out = self.out[0] if isinstance(self.out, (tuple, list)) else self.out
        return dtype_of(out.dtype)

    @property
    def out_shape(self) -> tuple[DimLike, ...]:
        """The shape of the (first) result, as PyTorch says it."""
        out = self.out[0] if isinstance(self.out, (tuple, list)) else self.out
        return self.sizes.shape(shape_of(out))

    # Values

    def constant(self, values: Any, dtype: DType | None = None) -> Value:
        if dtype is not None:
            return self.b.constant(Tensor.of(np.asarray(values).astype(dtype.numpy)))
        return self.b.constant(np.asarray(values))

    def ints(self, values: Iterable[int]) -> Value:
        """A 1-D int64 constant."""
        return self.b.constant(np.array(list(values), np.int64))

    def cast(self, v: Value, dtype: DType) -> Value:
        return v if self.dtype(v) is dtype else self.b.Cast(v, to=dtype.code)

    def value(self, x: Any, dtype: DType | None = None) -> Value:
        """A value in `dtype` from a value, a number, or a dim."""
        if isinstance(x, Value):
            return x if dtype is None else self.cast(x, dtype)
        if isinstance(x, Dim):
            scalar = self.b.Squeeze(self.sizes.value(x), self.ints([0]))
            return scalar if dtype is None else self.cast(scalar, dtype)
        if dtype is None:
            dtype = dtypes.BOOL if isinstance(x, bool) else dtypes.INT64 if isinstance(x, int) else dtypes.FLOAT
        return self.constant(x, dtype)

    def scalar(self, x: Any, like: Value) -> Value:
        """A number in the type of `like`."""
        return self.value(x, self.dtype(like))

    def promoted(self, *operands: Any) -> list[Value]:
        """The operands in the one type that PyTorch computes with."""
        fakes = [torch.empty((1,) * self.rank(x), dtype=_TORCH[self.dtype(x)], device="meta")
                 if isinstance(x, Value) else (x if not isinstance(x, Dim) else 1) for x in operands]
        common = torch.result_type(fakes[0], fakes[1])
        for f in fakes[2:]:
            common = torch.promote_types(common, torch.result_type(f, f))
        dtype = dtype_of(common)
        return [self.value(x, dtype) for x in operands]

    # Shapes as PyTorch means them

    def axis(self, dim: int, rank: int) -> int:
        """A dim counted from the front; a scalar has one that counts as 0."""
        return dim % max(rank, 1)

    def reshape(self, v: Value, shape: Sequence[DimLike]) -> Value:
        """`v` in a shape of the same elements. Sizes that the input has in the same place need not be computed."""
        old = self.shape(v)
        if len(old) == len(shape) and all(_same(a, b) for a, b in zip(old, shape)):
            return v
        entries: list[DimLike] = list(shape)
        symbolic = [i for i, s in enumerate(entries) if isinstance(s, Dim)]
        # A 0 in the shape means to copy, unless it is said to mean itself: what may be 0 when running has to say so.
        zeros = any(not self._positive(s) for i, s in enumerate(entries)
                    if not (i < len(old) and _same(old[i], s)) or s == 0)
        if self.b.opsets[""] < 14 and 0 not in entries:    # which older ones cannot
            zeros = False
        if symbolic and not zeros:
            # Copied dims are 0, one may be -1: most reshapes need no computed size at all.
            for i in symbolic:
                if i < len(old) and _same(old[i], entries[i]):
                    entries[i] = 0
            left = [i for i in symbolic if isinstance(entries[i], Dim)]
            # -1 has no answer where another dim is 0.
            if len(left) == 1 and all(self._positive(s) for i, s in enumerate(shape) if i != left[0]):
                entries[left[0]] = -1
        return self.b.Reshape(v, self.sizes.vector(entries), allowzero=1 if zeros else None)

    def _positive(self, size: DimLike) -> bool:
        """True where a size is surely not 0."""
        low, _ = bounds(size)
        return low is not None and low > 0

    def expand(self, v: Value, shape: Sequence[DimLike]) -> Value:
        """Broadcast to `shape`."""
        old = self.shape(v)
        if len(old) == len(shape) and all(_same(a, b) for a, b in zip(old, shape)):
            return v
        # Expand broadcasts both ways, so a size that is there already can be said as 1.
        offset = len(shape) - len(old)
        target = [1 if i >= offset and _same(old[i - offset], s) else s for i, s in enumerate(shape)]
        return self.b.Expand(v, self.sizes.vector(target))

    def unsqueeze(self, v: Value, axes: Sequence[int]) -> Value:
        if not axes:
            return v
        return self.b.Unsqueeze(v, self.ints(axes)) if self.b.opsets[""] >= 13 else self.b.Unsqueeze(v, axes=list(axes))

    def squeeze(self, v: Value, axes: Sequence[int]) -> Value:
        if not axes:
            return v
        return self.b.Squeeze(v, self.ints(axes)) if self.b.opsets[""] >= 13 else self.b.Squeeze(v, axes=list(axes))

    def transpose(self, v: Value, perm: Sequence[int]) -> Value:
        return v if list(perm) == list(range(len(perm))) else self.b.Transpose(v, perm=list(perm))

    def matrix_t(self, w: Value) -> Value:
        """A matrix turned over, once for each matrix."""
        if w not in self.transposed:
            self.transposed[w] = self.b.Transpose(w, perm=[1, 0])
        return self.transposed[w]

    def reduce(self, op: str, v: Value, axes: Sequence[int] | None, keepdim: bool) -> Value:
        """A reduction over `axes` (None: all), in whichever form the opset has."""
        rank = self.rank(v)
        listed = list(range(rank)) if axes is None or not len(axes) else [self.axis(a, rank) for a in axes]
        if rank == 0:
            return v if op not in ("ReduceL1", "ReduceL2", "ReduceSumSquare") else self.b.Abs(v)
        shape = self.shape(v)
        if op == "ReduceMean" and any(shape[a] == 0 for a in listed):
            # Of nothing: NaN, which ONNX leaves open.
            left = [1 if i in listed else s for i, s in enumerate(shape) if keepdim or i not in listed]
            return self.expand(self.scalar(np.nan, v), left)
        if self.b.opsets[""] >= (13 if op == "ReduceSum" else 18):
            return self.b.op(op, v, self.ints(listed), keepdims=int(keepdim))
        return self.b.op(op, v, axes=listed, keepdims=int(keepdim))

    def slice(self, v: Value, axis: int, start: DimLike, end: DimLike, step: int = 1) -> Value:
        """`v[start:end:step]` along one axis."""
        return self.b.Slice(v, self.sizes.vector([start]), self.sizes.vector([end]), self.ints([axis]),
                            None if step == 1 else self.ints([step]))


def _same(a: DimLike | None, b: DimLike | None) -> bool:
    return a is not None and b is not None and type(a) is type(b) and a == b


_TORCH = {v: k for k, v in DTYPES.items()}


def _assume_nothing(op: str, a: DimLike, b: DimLike) -> None:
    """Where nobody wants to know."""


def _no_bodies(t: Translation, graph: Any, operands: Sequence[Any]) -> list[Any]:
    raise UnsupportedError("a graph inside a graph has no way to ONNX here", who="torch")


Translator = Callable[..., Any]
TABLE: dict[str, Translator] = {}


# For nodes that take or give complex numbers.
COMPLEX: dict[str, Translator] = {}


def aten(*names: str, table: dict[str, Translator] = TABLE) -> Callable[[Translator], Translator]:
    """Register a translator for ATen operators: `add.Tensor`, `relu` (its `default` overload).

    An operator of another namespace is written with it: `gesher::lstm`; one that holds graphs as `higher_order::cond`.
    """
    def keep(f: Translator) -> Translator:
        for name in names:
            namespace, _, op = name.rpartition("::")
            overload = "" if "." in op or namespace == "higher_order" else ".default"
            table[f"{namespace or 'aten'}.{op}{overload}"] = f
        return f

    return keep


def name_of(target: Any) -> str:
    """`aten.add.Tensor`, `higher_order.cond`; Python functions by their own name."""
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.name()}"
    if hasattr(target, "_schema"):
        namespace, _, op = target._schema.name.partition("::")
        return f"{namespace}.{op}.{target._overloadname}"
    return getattr(target, "__name__", str(target))
