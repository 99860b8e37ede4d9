"""Values that are known before running: shape arithmetic over symbolic dims, done on small integer expressions.

A known value is an array of numbers, or an object array whose elements are ints and `Dim`s. Only integers and bools of
up to `LIMIT` elements are followed; everything else is computed when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.base.dtypes import BOOL, DType
from gesher.symbolic import (
    Dim,
    decide_eq,
    decide_ge,
    decide_gt,
    decide_le,
    decide_lt,
    evaluate,
    maximum,
    minimum,
    mod,
    product,
    total,
    trunc_div,
)

from .expr import Expr

LIMIT = 4096


class _Unknown(Exception):  # noqa: N818
    """Some element cannot be said."""


def value_of(x: Expr, known: dict[Expr, Any]) -> np.ndarray | None:
    """The value of `x`, given and remembering in `known` (None: looked at, and not known)."""
    if x in known:
        return known[x]
    if not _followed(x.dtype) and x.prim != "constant":
        return None
    stack = [x]
    while stack:
        e = stack[-1]
        if e in known:
            stack.pop()
            continue
        if not _small(e):
            known[e] = None
            continue
        waiting = [a for a in e.args if a not in known] if e.prim in _RULES else []
        if waiting:
            stack.extend(waiting)
            continue
        known[e] = _compute(e, known)
        stack.pop()
    return known[x]


def _followed(dtype: DType) -> bool:
    return dtype.is_integer or dtype is BOOL


def _small(e: Expr) -> bool:
    size = product(e.shape)
    return isinstance(size, int) and size <= LIMIT and (_followed(e.dtype) or e.prim == "constant")


def _compute(e: Expr, known: dict[Expr, Any]) -> np.ndarray | None:
    rule = _RULES.get(e.prim)
    if rule is None:
        return None
    values = [known[a] for a in e.args]
    if any(v is None for v in values):
        return None
    shape = tuple(int(d) if isinstance(d, int) else None for d in e.shape)
    if None in shape:
        return None
    if e.args and e.prim in _MAPS and not _within(e, values):
        return None
    try:
        result = rule(e, *values)
    except (_Unknown, ZeroDivisionError, ValueError):
        return None
    return np.asarray(result).reshape(e.shape)  # type: ignore[arg-type]


def _within(e: Expr, values: list[np.ndarray]) -> bool:
    """Only types in which sizes do not wrap around are computed with symbols."""
    return all(v.dtype != object for v in values) or e.dtype.bits >= 32 or e.dtype is BOOL


def _each(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def rule(e: Expr, *values: np.ndarray) -> np.ndarray:
        out = np.empty(values[0].size, object)
        for i, row in enumerate(zip(*(np.asarray(v).reshape(-1).tolist() for v in values))):
            out[i] = function(*row)
        symbolic = any(isinstance(v, Dim) for v in out)
        if symbolic:
            return out
        if e.dtype.is_integer:
            # Numbers wrap around as the type does.
            bits, signed = e.dtype.bits, e.dtype.kind == "int"
            wrapped = [int(v) & ((1 << bits) - 1) for v in out]
            out = np.array([v - (1 << bits) if signed and v >> (bits - 1) else v for v in wrapped], object)
        return out.astype(e.dtype.numpy)

    return rule


def _decided(answer: bool | None) -> bool:
    if answer is None:
        raise _Unknown
    return answer


def _divide(a: Any, b: Any) -> Any:
    if not isinstance(b, Dim) and b == 0:
        return 0
    return trunc_div(a, b)


def _modulo(a: Any, b: Any) -> Any:
    if not isinstance(b, Dim) and b == 0:
        return 0
    return mod(a, b)


def _absolute(a: Any) -> Any:
    return a if _decided(decide_ge(a, 0)) else -a


def _sign(a: Any) -> Any:
    if decide_gt(a, 0):
        return 1
    return -1 if decide_lt(a, 0) else 0 if _decided(decide_eq(a, 0)) else 1


def _plain_only(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*row: Any) -> Any:
        if any(isinstance(v, Dim) for v in row):
            raise _Unknown
        return function(*row)

    return checked


_MAPS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": _divide, "mod": _modulo,
    "neg": lambda a: -a, "abs": _absolute, "sign": _sign, "min": minimum, "max": maximum,
    "eq": lambda a, b: _decided(decide_eq(a, b)), "ne": lambda a, b: not _decided(decide_eq(a, b)),
    "lt": lambda a, b: _decided(decide_lt(a, b)), "le": lambda a, b: _decided(decide_le(a, b)),
    "gt": lambda a, b: _decided(decide_gt(a, b)), "ge": lambda a, b: _decided(decide_ge(a, b)),
    "and_": _plain_only(lambda a, b: bool(a and b)), "or_": _plain_only(lambda a, b: bool(a or b)),
    "xor": _plain_only(lambda a, b: bool(a) != bool(b)), "not_": _plain_only(lambda a: not a),
}


def _cast(e: Expr, v: np.ndarray) -> np.ndarray:
    if v.dtype != object:
        if v.dtype.kind not in "iub":
            if not np.all(np.isfinite(v)) or not np.all(np.abs(v) < 2.0**31):
                raise _Unknown
            v = np.trunc(v).astype(np.int64)
        return v.astype(e.dtype.numpy)
    if e.dtype.bits < 32:
        raise _Unknown
    return v


def _select(e: Expr, cond: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _each(lambda c, x, y: x if c else y)(e, cond, a, b)


def _pad(e: Expr, v: np.ndarray, fill: np.ndarray) -> np.ndarray:
    out = np.empty(_ints(e.shape), object)
    out[...] = fill.reshape(-1).tolist()[0]
    out[tuple(slice(lo, lo + d) for lo, d in zip(_ints(e.params["low"]), v.shape))] = v
    return out if any(isinstance(x, Dim) for x in out.reshape(-1)) else out.astype(e.dtype.numpy)


def _ints(values: Any) -> tuple[int, ...]:
    if any(isinstance(v, Dim) for v in values):
        raise _Unknown
    return tuple(values)


def _slice(e: Expr, v: np.ndarray) -> np.ndarray:
    rows = zip(_ints(e.params["starts"]), _ints(e.params["stops"]), _ints(e.params["steps"]))
    return v[tuple(slice(a, None if b < 0 else b, s) for a, b, s in rows)]


def _gather(e: Expr, v: np.ndarray, indices: np.ndarray) -> np.ndarray:
    if indices.dtype == object:
        _ints(indices.reshape(-1).tolist())
    indices = indices.astype(np.int64)
    size = v.shape[e.params["axis"]]
    if np.any((indices < -size) | (indices >= size)):
        raise _Unknown
    return np.take(v, indices, e.params["axis"])


def _concat(e: Expr, *values: np.ndarray) -> np.ndarray:
    if any(v.dtype == object for v in values):
        values = tuple(v.astype(object) for v in values)
    return np.concatenate(values, e.params["axis"])


def _reduce(e: Expr, v: np.ndarray) -> np.ndarray:
    folds: dict[str, Callable[..., Any]] = {
        "sum": total, "prod": product, "max": lambda row: maximum(*row), "min": lambda row: minimum(*row),
        "any": _plain_only(any), "all": _plain_only(all)}
    axes = e.params["axes"]
    kept = [i for i in range(v.ndim) if i not in axes]
    rows = np.transpose(v, (*kept, *axes)).reshape(-1, int(np.prod([v.shape[a] for a in axes])))
    if not rows.shape[1]:
        raise _Unknown
    out = np.empty(len(rows), object)
    for i, row in enumerate(rows.tolist()):
        out[i] = folds[e.params["op"]](row)
    if any(isinstance(x, Dim) for x in out):
        return out
    return _each(lambda x: x)(e, out)


def _cumulate(e: Expr, v: np.ndarray) -> np.ndarray:
    if v.ndim != 1 or e.params["op"] not in ("sum", "prod"):
        raise _Unknown
    row = v.tolist()[::-1] if e.params["reverse"] else v.tolist()
    out, running = [], (0 if e.params["op"] == "sum" else 1)
    for x in row:
        after = running + x if e.params["op"] == "sum" else running * x
        out.append(running if e.params["exclusive"] else after)
        running = after
    array = np.empty(len(out), object)
    array[:] = out[::-1] if e.params["reverse"] else out
    return array if any(isinstance(x, Dim) for x in out) else _each(lambda x: x)(e, array)


def _constant(e: Expr) -> np.ndarray:
    value = e.params["value"]
    return value if isinstance(value, np.ndarray) else value.numpy()


def _size(e: Expr) -> np.ndarray:
    out = np.empty((), object)
    out[()] = e.params["dim"]
    return out


def _iota(e: Expr) -> np.ndarray:
    line = np.arange(e.shape[e.params["axis"]])
    shape = [1] * e.rank
    shape[e.params["axis"]] = -1
    return np.broadcast_to(line.reshape(shape), _ints(e.shape)).astype(e.dtype.numpy)


_RULES: dict[str, Callable[..., Any]] = {
    **{name: _each(f) for name, f in _MAPS.items()},
    "constant": _constant, "size": _size, "iota": _iota, "cast": _cast, "select": _select, "pad": _pad, "slice": _slice,
    "gather": _gather, "concat": _concat, "reduce": _reduce, "cumulate": _cumulate,
    "broadcast": lambda e, v: np.broadcast_to(v, e.shape), "reshape": lambda e, v: v.reshape(e.shape),
    "hold": lambda e, v: v,
    "transpose": lambda e, v: np.transpose(v, e.params["perm"]),
}


def known_sizes(value: np.ndarray, symbols: dict[Any, int]) -> np.ndarray:
    """A known value with numbers for its symbols."""
    if value.dtype != object:
        return value
    flat = [evaluate(v, symbols) if isinstance(v, Dim) else int(v) for v in value.reshape(-1).tolist()]
    return np.array(flat, np.int64).reshape(value.shape)
