"""Reductions: axes are folded into one element, and ArgMax and ArgMin, which tell where it stood.

The axes were an attribute before opset 18 (13 for ReduceSum) and are an input since. Without axes everything is
reduced, unless `noop_with_empty_axes` asks for nothing: then each element is a set of its own, and what a reduction
does beside folding (squares, logarithms) still happens.

Of the empty set, a sum is 0, a product 1, the largest the lowest value of the type, and a mean undefined: NaN, and 0
for integers. Integer sums wrap around; integer means, roots and logarithms are cut toward zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike
from gesher.primitives import CannotLower
from gesher.primitives.table import identity
from gesher.symbolic import Dim, maximum, minimum, product, total

from ..arithmetic import computed, lowered
from ..axes import axes_of, axis_of
from ..known import fold, symbolic_value
from ..rules import InferNode
from ..schema import BF16, BOOL, FLOATS, NUMBERS, Attr, Drop, Input, Operator, Output, Types, op, tensors

_WIDE = FLOATS | tensors("int32 int64 uint32 uint64")
_BYTES = tensors("int8 uint8")

KEEPDIMS = Attr("keepdims", "int", 1)


# The numpy meanings: compute(x, axes) with axes a tuple (counted from the front), every axis kept as 1.

def _sum(x: Any, axes: tuple[int, ...]) -> Any:
    return np.sum(x, axes, dtype=x.dtype, keepdims=True)


def _product(x: Any, axes: tuple[int, ...]) -> Any:
    return np.prod(x, axes, dtype=x.dtype, keepdims=True)


def _lowest(x: Any, want: str) -> Any:
    return identity(want, dtypes.from_numpy(x.dtype)) if x.dtype.kind != "b" else want == "min"


def _largest(x: Any, axes: tuple[int, ...]) -> Any:
    return np.max(x, axes, keepdims=True, initial=_lowest(x, "max"))


def _smallest(x: Any, axes: tuple[int, ...]) -> Any:
    return np.min(x, axes, keepdims=True, initial=_lowest(x, "min"))


def _count(x: Any, axes: tuple[int, ...]) -> int:
    return int(np.prod([x.shape[a] for a in axes], dtype=np.int64))


def _mean(x: Any, axes: tuple[int, ...]) -> Any:
    sums, n = _sum(x, axes), _count(x, axes)
    if x.dtype.kind == "f":
        return sums / x.dtype.type(n)
    # np.fmod has the sign of the sum, so that what is left divides evenly.
    return (sums - np.fmod(sums, x.dtype.type(n))) // x.dtype.type(n)


def _in_double(x: Any) -> Any:
    """Integers as doubles, for what is no integer on the way."""
    return x.astype(np.float64) if x.dtype.kind in "iu" else x


def _log_sum_exp(x: Any, axes: tuple[int, ...]) -> Any:
    x = _in_double(x)
    largest = np.max(x, axes, keepdims=True, initial=-np.inf)
    # An infinite shift would make NaN out of infinities that are answers.
    shift = np.where(np.isfinite(largest), largest, 0)
    return np.log(np.sum(np.exp(x - shift), axes, keepdims=True)) + shift


# In primitives: lower(p, x, axes), as above.

def _p_in_double(p: Any, x: Any) -> Any:
    return p.cast(x, dtypes.DOUBLE) if x.dtype.is_integer else x


def _p_extreme(p: Any, x: Any, axes: Sequence[int], largest: bool) -> Any:
    if x.dtype is dtypes.BOOL:
        return (p.any if largest else p.all)(x, axes, keepdims=True)
    return (p.amax if largest else p.amin)(x, axes, keepdims=True)


def _p_euclidean(p: Any, x: Any, axes: Sequence[int]) -> Any:
    wide = _p_in_double(p, x)
    return p.cast(p.sqrt(p.sum(wide * wide, axes, keepdims=True)), x.dtype)


def _p_log_sum_exp(p: Any, x: Any, axes: Sequence[int]) -> Any:
    wide = _p_in_double(p, x)
    largest = p.amax(wide, axes, keepdims=True)
    shift = p.select(p.or_(p.is_inf(largest), p.is_nan(largest)), 0.0, largest)
    return p.cast(p.log(p.sum(p.exp(wide - shift), axes, keepdims=True)) + shift, x.dtype)


@dataclass(frozen=True, slots=True)
class _Row:
    """A reduction: its types by version, its numpy meaning, its lowering, and its meaning on sizes."""

    name: str
    types: dict[int, Types]
    compute: Callable[[Any, tuple[int, ...]], Any]
    lower: Callable[[Any, Any, Sequence[int]], Any]
    sizes: Callable[..., Any] | None = None


_PLAIN = {1: _WIDE, 11: _WIDE, 13: _WIDE | BF16, 18: _WIDE | BF16}
_FLOATS_28 = _PLAIN | {28: FLOATS | BF16}
_EXTREMES = {1: _WIDE, 11: _WIDE, 12: _WIDE | _BYTES, 13: _WIDE | _BYTES | BF16, 18: _WIDE | _BYTES | BF16,
             20: _WIDE | _BYTES | BF16 | BOOL}

_ROWS = (
    _Row("ReduceSum", {1: _WIDE, 11: _WIDE, 13: _WIDE | BF16}, _sum,
         lambda p, x, axes: p.sum(x, axes, keepdims=True), lambda *xs: total(xs)),
    _Row("ReduceProd", _PLAIN, _product,
         lambda p, x, axes: p.prod(x, axes, keepdims=True), lambda *xs: product(xs)),
    _Row("ReduceMax", _EXTREMES, _largest,
         lambda p, x, axes: _p_extreme(p, x, axes, True), maximum),
    _Row("ReduceMin", _EXTREMES, _smallest,
         lambda p, x, axes: _p_extreme(p, x, axes, False), minimum),
    _Row("ReduceMean", _PLAIN, _mean,
         lambda p, x, axes: p.mean(x, axes, keepdims=True)),
    _Row("ReduceL1", _PLAIN, lambda x, axes: _sum(np.abs(x), axes),
         lambda p, x, axes: p.sum(p.abs(x), axes, keepdims=True)),
    _Row("ReduceL2", _PLAIN, lambda x, axes: np.sqrt(_sum(np.square(_in_double(x)), axes)),
         _p_euclidean),
    _Row("ReduceSumSquare", _PLAIN, lambda x, axes: _sum(np.square(x), axes),
         lambda p, x, axes: p.sum(x * x, axes, keepdims=True)),
    _Row("ReduceLogSum", _FLOATS_28, lambda x, axes: np.log(_sum(_in_double(x), axes)),
         lambda p, x, axes: p.cast(p.log(p.sum(_p_in_double(p, x), axes, keepdims=True)), x.dtype)),
    _Row("ReduceLogSumExp", _FLOATS_28, _log_sum_exp, _p_log_sum_exp),
)


def _put(row: _Row) -> Operator:
    operator = op(row.name, Input("data"), Output("reduced"), Attr("axes", "ints"), KEEPDIMS, T=row.types[1])
    as_input = 13 if row.name == "ReduceSum" else 18
    for version in sorted(row.types)[1:]:
        if version == as_input:
            operator.since(version, Drop("axes"), Input("axes", "tensor(int64)", optional=True),
                           Attr("noop_with_empty_axes", "int", 0), T=row.types[version],
                           behaviour="the axes are an input")
        else:
            operator.since(version, T=row.types[version],
                           note="an axis may be counted from the end" if version == 11 else "")

    @operator.infer
    def _(node: InferNode) -> None:
        _infer(node, list(node["axes"] or ()) or None, row)

    @operator.infer(since=as_input)
    def _(node: InferNode) -> None:
        axes: list[int] | None = None
        if node.has(1):
            ints = node.ints(1)
            if ints is None or any(isinstance(a, Dim) for a in ints):
                _infer_without_axes(node)
                return
            axes = [int(a) for a in ints if not isinstance(a, Dim)]
        _infer(node, axes or ([] if node["noop_with_empty_axes"] else None), row)

    @computed
    def reduced(x: Any, *, axes: Sequence[int] | None, keepdims: int) -> Any:
        places = _places(axes, x.ndim)
        result = row.compute(x, places)
        return result if keepdims else result.reshape([d for i, d in enumerate(x.shape) if i not in places])

    @operator.reference
    def _(data: Any, *, axes: Sequence[int] | None, keepdims: int) -> Any:
        return reduced(data, axes=axes or None, keepdims=keepdims)

    @operator.reference(since=as_input)
    def _(data: Any, axes: Any = None, *, keepdims: int, noop_with_empty_axes: int) -> Any:
        wanted = None if axes is None or not axes.size else [int(a) for a in axes.reshape(-1)]
        return reduced(data, axes=[] if wanted is None and noop_with_empty_axes else wanted, keepdims=keepdims)

    @lowered
    def lowering(p: Any, x: Any, *, axes: Sequence[int] | None, keepdims: int) -> Any:
        places = _places(axes, x.rank)
        result = row.lower(p, x, places)
        return result if keepdims else p.reshape(result, [d for i, d in enumerate(x.shape) if i not in places])

    @operator.lower
    def _(p: Any, data: Any, *, axes: Sequence[int] | None, keepdims: int) -> Any:
        return lowering(p, data, axes=axes or None, keepdims=keepdims)

    @operator.lower(since=as_input)
    def _(p: Any, data: Any, axes: Any = None, *, keepdims: int, noop_with_empty_axes: int) -> Any:
        wanted: Sequence[int] | None = None
        if axes is not None:
            known = p.known(axes)
            if known is None or any(isinstance(a, Dim) for a in known.reshape(-1).tolist()):
                raise CannotLower("the axes are only known in a run")
            wanted = [int(a) for a in known.reshape(-1)] or None
        return lowering(p, data, axes=[] if wanted is None and noop_with_empty_axes else wanted, keepdims=keepdims)

    return operator


def _places(axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else tuple(sorted(axes_of(axes, rank)))


def reduced_shape(shape: Sequence[DimLike | None], places: Sequence[int], keepdims: bool) -> tuple[DimLike | None, ...]:
    """The shape with the axes at `places` made 1, or taken away."""
    return tuple(1 if i in places else d for i, d in enumerate(shape) if keepdims or i not in places)


def _infer(node: InferNode, axes: list[int] | None, row: _Row) -> None:
    fact = node.input(0)
    if fact is None:
        return
    if fact.shape is None:
        node.set(0, fact.dtype, () if axes is None and not node["keepdims"] else None)
        return
    places = tuple(range(len(fact.shape))) if axes is None else tuple(axes_of(axes, len(fact.shape), node))
    shape = reduced_shape(fact.shape, places, bool(node["keepdims"]))

    def on_sizes(values: Any, axes: Any = None) -> Any:
        if row.sizes is None or not all(values.shape[a] for a in places):
            return None
        return fold(values, places, row.sizes, bool(node["keepdims"]))

    node.set(0, fact.dtype, shape, symbolic_value(node, shape, on_sizes))


def _infer_without_axes(node: InferNode) -> None:
    """The axes are only known in a run: the rank stays where dims are kept, else their number may tell."""
    fact = node.input(0)
    if fact is None:
        return
    if fact.rank is None:
        node.set(0, fact.dtype, None)
    elif node["keepdims"]:
        node.set(0, fact.dtype, (None,) * fact.rank, why="the axes are only known in a run")
    else:
        listed = node.shape(1)
        count = listed[0] if listed is not None and len(listed) == 1 else None
        known = isinstance(count, int) and 0 < count <= fact.rank
        node.set(0, fact.dtype, (None,) * (fact.rank - count) if known else None,  # type: ignore[operator]
                 why="the axes are only known in a run")


for _row in _ROWS:
    _put(_row)


# ArgMax and ArgMin. NaN is both the largest and the smallest, as in numpy.

def _put_arg(name: str, largest: bool) -> None:
    operator = (op(name, Input("data"), Output("reduced", "tensor(int64)"), Attr("axis", "int", 0), KEEPDIMS, T=NUMBERS)
                .since(11, note="an axis may be counted from the end")
                .since(12, Attr("select_last_index", "int", 0))
                .since(13, T=NUMBERS | BF16))
    find = np.argmax if largest else np.argmin

    @operator.infer
    def _(node: InferNode) -> None:
        shape = None if (fact := node.input(0)) is None else fact.shape
        if shape is None:
            node.set(0, dtypes.INT64, None)
            return
        place = axis_of(node["axis"], len(shape), node)
        if shape[place] == 0:
            node.fail(f"there is no index on axis {place}, whose size is 0")
        node.set(0, dtypes.INT64, reduced_shape(shape, [place], bool(node["keepdims"])))

    def rule(x: Any, *, axis: int, keepdims: int, select_last_index: int = 0) -> Any:
        place = axis_of(axis, x.ndim)
        if select_last_index:
            found = x.shape[place] - 1 - find(np.flip(x, place), place, keepdims=True)
        else:
            found = find(x, place, keepdims=True)
        return found if keepdims else np.squeeze(found, place)

    operator.reference(computed(rule, np.int64))

    @operator.lower
    def _(p: Any, x: Any, *, axis: int, keepdims: int, select_last_index: int = 0) -> Any:
        search = p.argmax if largest else p.argmin
        return search(x, axis_of(axis, x.rank), keepdims=bool(keepdims), last=bool(select_last_index))


_put_arg("ArgMax", True)
_put_arg("ArgMin", False)
