"""Functions over numpy arrays, traced: they are called once with a stand-in that writes down what numpy is asked for.

What a reader would guess wrong: the number of rows is free, so a function that takes it for a number cannot cross; it
may hand it on, as in `x.reshape(x.shape[0], -1)`. Types are those that numpy promotes to, Python's numbers being weak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gesher.base import dtypes
from gesher.base.errors import GesherError, UnsupportedError
from gesher.ir import Value
from gesher.ops.build import Builder

from .translation import Translation


class _NoWayError(Exception):
    """What a function asks for that has no way to ONNX."""


class Rows:
    """The number of rows, which nobody knows."""

    def __index__(self) -> int:
        raise _NoWayError("the number of rows as a number")


def _as_is(name: str) -> Callable[..., Value]:
    return lambda b, *xs: b.op(name, *xs)


def _by_floor(b: Builder, x: Value, y: Value) -> Value:
    return b.Floor(b.Div(x, y)) if b.dtype(x).is_float else b.Cast(
        b.Floor(b.Div(_double(b, x), _double(b, y))), to=b.dtype(x).code)


def _double(b: Builder, x: Value) -> Value:
    return b.Cast(x, to=dtypes.DOUBLE.code)


def _near_zero(make: Callable[[Builder, Value], Value]) -> Callable[[Builder, Value], Value]:
    """In float64, where the plain formula's error is below float32's own."""
    return lambda b, x: b.Cast(make(b, _double(b, x)), to=b.dtype(x).code)


def _number(b: Builder, x: Value, n: float) -> Value:
    return b.constant(np.array(n, b.dtype(x).numpy))


# By the name of numpy's ufunc. Some stand for a few operators.
UFUNCS: dict[str, Callable[..., Value]] = {
    **{numpy: _as_is(ours) for numpy, ours in {
        "negative": "Neg", "absolute": "Abs", "fabs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
        "floor": "Floor", "ceil": "Ceil", "rint": "Round", "tanh": "Tanh", "sin": "Sin", "cos": "Cos", "tan": "Tan",
        "sinh": "Sinh", "cosh": "Cosh", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan", "arcsinh": "Asinh",
        "arccosh": "Acosh", "arctanh": "Atanh", "sign": "Sign", "reciprocal": "Reciprocal", "isnan": "IsNaN",
        "isinf": "IsInf", "logical_not": "Not", "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div",
        "power": "Pow", "maximum": "Max", "minimum": "Min", "greater": "Greater", "less": "Less",
        "greater_equal": "GreaterOrEqual", "less_equal": "LessOrEqual", "equal": "Equal", "logical_and": "And",
        "logical_or": "Or", "logical_xor": "Xor", "matmul": "MatMul", "positive": "Identity"}.items()},
    "not_equal": lambda b, x, y: b.Not(b.Equal(x, y)),
    "square": lambda b, x: b.Mul(x, x),
    "cbrt": lambda b, x: b.Mul(b.Sign(x), b.Pow(b.Abs(x), _number(b, x, 1 / 3))),
    "log1p": _near_zero(lambda b, x: b.Log(b.Add(x, _number(b, x, 1)))),
    "expm1": _near_zero(lambda b, x: b.Sub(b.Exp(x), _number(b, x, 1))),
    "log2": _near_zero(lambda b, x: b.Div(b.Log(x), _number(b, x, np.log(2)))),
    "log10": _near_zero(lambda b, x: b.Div(b.Log(x), _number(b, x, np.log(10)))),
    "exp2": lambda b, x: b.Pow(_number(b, x, 2), x),
    "deg2rad": lambda b, x: b.Mul(x, _number(b, x, np.pi / 180)),
    "radians": lambda b, x: b.Mul(x, _number(b, x, np.pi / 180)),
    "rad2deg": lambda b, x: b.Mul(x, _number(b, x, 180 / np.pi)),
    "degrees": lambda b, x: b.Mul(x, _number(b, x, 180 / np.pi)),
    "trunc": lambda b, x: b.Mul(b.Sign(x), b.Floor(b.Abs(x))),
    "isfinite": lambda b, x: b.Not(b.Or(b.IsNaN(x), b.IsInf(x))),
    "floor_divide": _by_floor,
    "remainder": lambda b, x, y: b.Sub(x, b.Mul(_by_floor(b, x, y), y)),
    "fmod": lambda b, x, y: b.Mod(x, y, fmod=1),
    "hypot": lambda b, x, y: b.Sqrt(b.Add(b.Mul(x, x), b.Mul(y, y))),
}
_OF_TRUTHS = {"logical_not", "logical_and", "logical_or", "logical_xor"}
# `~`, `&`, `|` and `^` of truth values are logical.
_TRUTHS_BITS = {"invert": "logical_not", "bitwise_and": "logical_and", "bitwise_or": "logical_or",
                "bitwise_xor": "logical_xor"}
_UFUNC_REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin"}


class Traced(NDArrayOperatorsMixin):
    """Stands in for an array; `value` is what the model has in its place."""

    def __init__(self, t: Translation, value: Value):
        self.t, self.value = t, value

    # What an array tells of itself

    @property
    def sizes(self) -> tuple[Any, ...]:
        shape = self.t.b.shape(self.value)
        if shape is None:
            raise _NoWayError("an array of unknown rank")
        return tuple(shape)

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(d if isinstance(d, int) else Rows() for d in self.sizes)

    @property
    def ndim(self) -> int:
        return len(self.sizes)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.t.b.dtype(self.value).numpy)

    @property
    def T(self) -> Traced:  # noqa: N802  (numpy's name)
        return FUNCTIONS["transpose"](self)

    def __len__(self) -> int:
        raise _NoWayError("the number of rows as a number")

    def __bool__(self) -> bool:
        raise _NoWayError("a branch that hangs on the data (use np.where)")

    def __iter__(self) -> Any:
        raise _NoWayError("a loop over rows")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise _NoWayError("a function outside numpy, or one that makes an array of its own")

    def __getattr__(self, name: str) -> Any:
        known = {"max": "amax", "min": "amin"}.get(name, name)
        if known in FUNCTIONS and not name.startswith("_"):
            return lambda *args, **kwargs: FUNCTIONS[known](self, *args, **kwargs)
        if name.startswith("__"):
            raise AttributeError(name)
        raise _NoWayError(f"an array's {name}")

    def astype(self, dtype: Any, **kwargs: Any) -> Traced:
        return Traced(self.t, self.t.b.Cast(self.value, to=dtypes.from_numpy(np.dtype(dtype)).code))

    def copy(self, *args: Any) -> Traced:
        return self

    # What numpy asks

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if method == "reduce" and name in _UFUNC_REDUCTIONS:
            return FUNCTIONS[_UFUNC_REDUCTIONS[name]](*inputs, **kwargs)
        if all(np.result_type(x.dtype if isinstance(x, Traced) else x) == np.bool_ for x in inputs):
            name = _TRUTHS_BITS.get(name, name)
        if method != "__call__" or kwargs or name not in UFUNCS:
            given = "".join(f"({k}=...)" for k in kwargs)
            raise _NoWayError(f"numpy.{name}{given}" if method == "__call__" else f"numpy.{name}.{method}")
        kinds: list[Any] = [type(x) if isinstance(x, (bool, int, float)) else
                            x.dtype if isinstance(x, Traced) else np.asarray(x).dtype for x in inputs]
        if name in _OF_TRUTHS:
            return Traced(self.t, UFUNCS[name](self.t.b, *(truth(self.t, x) for x in inputs)))
        found = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))
        if found[0] == np.bool_ and name in ("add", "multiply", "maximum", "minimum"):
            raise _NoWayError(f"numpy.{name} of truth values")
        return Traced(self.t, UFUNCS[name](self.t.b, *(self.cast(x, d) for x, d in zip(inputs, found))))

    def cast(self, x: Any, dtype: Any) -> Value:
        """An operand as a value of the type."""
        if not isinstance(x, Traced):
            return self.t.b.constant(np.asarray(x, dtype))
        return x.value if x.dtype == dtype else x.astype(dtype).value

    def __array_function__(self, func: Any, types: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = func.__name__
        if func is np.linalg.norm:
            name = "linalg.norm"
        if name not in FUNCTIONS:
            raise _NoWayError(f"numpy.{name}")
        try:
            return FUNCTIONS[name](*args, **kwargs)
        except TypeError as e:
            raise _NoWayError(f"numpy.{name} with these arguments ({e})") from e

    def __getitem__(self, key: Any) -> Traced:
        key = key if isinstance(key, tuple) else (key,)
        real = sum(k is not None and k is not Ellipsis for k in key)
        fill = (slice(None),) * (self.ndim - real)
        at = next((i for i, k in enumerate(key) if k is Ellipsis), None)
        key = (*key, *fill) if at is None else (*key[:at], *fill, *key[at + 1:])
        b, made, axis, source = self.t.b, self.value, 0, 0
        for k in key:
            if k is None:
                made, axis = b.Unsqueeze(made, self.t.axes(axis)), axis + 1
                continue
            if isinstance(k, slice) and k == slice(None):
                axis, source = axis + 1, source + 1
                continue
            size = self.sizes[source]
            if not isinstance(size, int):
                raise _NoWayError("a choice among rows")
            if isinstance(k, slice):
                k = np.arange(size)[k]
                made, axis = b.Gather(made, b.constant(k.astype(np.int64)), axis=axis), axis + 1
            elif isinstance(k, (int, np.integer)):
                made = b.Gather(made, b.constant(np.array(np.arange(size)[k], np.int64)), axis=axis)
            elif isinstance(k, (list, np.ndarray)) and np.ndim(k) == 1:
                made, axis = b.Gather(made, b.constant(np.arange(size)[k].astype(np.int64)), axis=axis), axis + 1
            else:
                raise _NoWayError(f"an index of type {type(k).__name__}")
            source += 1
        return Traced(self.t, made)


def truth(t: Translation, x: Any) -> Value:
    if not isinstance(x, Traced):
        return t.b.constant(np.asarray(x, bool))
    return x.value if x.dtype == np.bool_ else t.b.Cast(x.value, to=dtypes.BOOL.code)


FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _of_numpy(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(f: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update(dict.fromkeys(names, f))
        return f

    return keep


def _first(*xs: Any) -> Traced:
    return next(x for x in xs if isinstance(x, Traced))


def _axes(x: Traced, axis: Any) -> list[int]:
    given = range(x.ndim) if axis is None else [axis] if isinstance(axis, (int, np.integer)) else axis
    return [int(a) % x.ndim for a in given]


def _reduction(ours: str, *names: str, promotes: bool = False, floats: bool = False) -> None:
    def reduce(x: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        b, t = x.t.b, x.t
        if x.dtype == np.bool_ and ours in ("ReduceMax", "ReduceMin"):
            raise _NoWayError(f"numpy.{names[0]} of truth values")
        if (promotes and x.dtype.kind in "b") or (floats and x.dtype.kind in "iub"):
            x = x.astype(np.float64 if floats else np.int64)
        axes = _axes(x, axis)
        if ours == "ReduceSum" or b.opsets[""] >= 18:
            return Traced(t, b.op(ours, x.value, t.axes(*axes), keepdims=int(bool(keepdims))))
        return Traced(t, b.op(ours, x.value, axes=axes, keepdims=int(bool(keepdims))))

    _of_numpy(*names)(reduce)


_reduction("ReduceSum", "sum", promotes=True)
_reduction("ReduceProd", "prod", promotes=True)
_reduction("ReduceMax", "max", "amax")
_reduction("ReduceMin", "min", "amin")
_reduction("ReduceMean", "mean", floats=True)


@_of_numpy("var")
def _var(x: Traced, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    axes = _axes(x, axis)
    sizes = [x.sizes[a] for a in axes]
    if ddof and not all(isinstance(s, int) for s in sizes):
        raise _NoWayError("numpy.var(ddof=...) over rows")
    gap = x - FUNCTIONS["mean"](x, tuple(axes), keepdims=True)
    spread = FUNCTIONS["mean"](gap * gap, tuple(axes), keepdims=keepdims)
    n = int(np.prod(sizes)) if ddof else 1
    return spread * (n / (n - ddof)) if ddof else spread


@_of_numpy("std")
def _std(x: Traced, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    return np.sqrt(_var(x, axis, ddof, keepdims))


@_of_numpy("linalg.norm")
def _norm(x: Traced, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord in (None, 2) and (axis is None or isinstance(axis, int)) and not (ord == 2 and axis is None and x.ndim == 2):
        return np.sqrt(FUNCTIONS["sum"](x * x, axis, keepdims=keepdims))
    if isinstance(axis, int) and ord in (1, np.inf):
        return FUNCTIONS["sum" if ord == 1 else "amax"](np.abs(x), axis, keepdims=keepdims)
    raise _NoWayError(f"numpy.linalg.norm(ord={ord}, axis={axis})")


@_of_numpy("where")
def _where(condition: Any, x: Any, y: Any) -> Traced:
    some = _first(condition, x, y)
    kind = np.result_type(*(v.dtype if isinstance(v, Traced) else v for v in (x, y)))
    return Traced(some.t, some.t.b.Where(truth(some.t, condition), some.cast(x, kind), some.cast(y, kind)))


@_of_numpy("clip")
def _clip(x: Any, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None) -> Any:
    low, high = a_min if min is None else min, a_max if max is None else max
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _together(parts: Sequence[Any], axis: int, made: Callable[[Traced], Value] | None = None) -> Traced:
    if not all(isinstance(p, Traced) for p in parts):
        raise _NoWayError("arrays of the function's own beside the data")
    first = parts[0]
    if axis % (first.ndim + (made is not None)) == 0:
        raise _NoWayError("rows beneath rows")
    kind = np.result_type(*(p.dtype for p in parts))
    cast = [Traced(first.t, first.cast(p, kind)) for p in parts]
    return Traced(first.t, first.t.join([p.value if made is None else made(p) for p in cast], axis))


@_of_numpy("concatenate")
def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Traced:
    return _together(arrays, axis)


@_of_numpy("hstack", "column_stack")
def _beside(arrays: Sequence[Any]) -> Traced:
    return _together([a[:, None] if isinstance(a, Traced) and a.ndim == 1 else a for a in arrays], 1)


@_of_numpy("stack")
def _stack(arrays: Sequence[Any], axis: int = 0) -> Traced:
    return _together(arrays, axis, lambda p: p.t.b.Unsqueeze(p.value, p.t.axes(axis)))


@_of_numpy("reshape")
def _reshape(x: Traced, *shape: Any) -> Traced:
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    if any(isinstance(s, Rows) for s in shape[1:]):
        raise _NoWayError("a shape with the rows inside")
    whole = [0 if isinstance(s, Rows) else int(s) for s in shape]
    return Traced(x.t, x.t.b.Reshape(x.value, x.t.b.constant(np.array(whole, np.int64))))


@_of_numpy("transpose")
def _transpose(x: Traced, axes: Any = None) -> Traced:
    order = [*range(x.ndim)][::-1] if axes is None else [int(a) % x.ndim for a in axes]
    return Traced(x.t, x.t.b.Transpose(x.value, perm=order))


@_of_numpy("expand_dims")
def _expand_dims(x: Traced, axis: int) -> Traced:
    return Traced(x.t, x.t.b.Unsqueeze(x.value, x.t.axes(axis)))


@_of_numpy("squeeze")
def _squeeze(x: Traced, axis: int) -> Traced:
    return Traced(x.t, x.t.b.Squeeze(x.value, x.t.axes(axis)))


@_of_numpy("cumsum")
def _cumsum(x: Traced, axis: int) -> Traced:
    x = x.astype(np.int64) if x.dtype == np.bool_ else x
    return Traced(x.t, x.t.b.CumSum(x.value, x.t.b.constant(np.array(axis, np.int64))))


@_of_numpy("diff")
def _diff(x: Traced, n: int = 1, axis: int = -1) -> Any:
    ahead = (slice(None),) * (axis % x.ndim)
    for _ in range(n):
        x = x[(*ahead, slice(1, None))] - x[(*ahead, slice(None, -1))]
    return x


@_of_numpy("nan_to_num")
def _nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    most = np.finfo(x.dtype)
    x = np.where(np.isnan(x), x.dtype.type(nan), x)
    x = np.where(x == np.inf, x.dtype.type(most.max if posinf is None else posinf), x)
    return np.where(x == -np.inf, x.dtype.type(most.min if neginf is None else neginf), x)


@_of_numpy("dot")
def _dot(a: Any, b: Any) -> Any:
    return np.matmul(a, b)


@_of_numpy("einsum")
def _einsum(equation: str, *operands: Any) -> Traced:
    some = _first(*operands)
    kind = np.result_type(*(o.dtype if isinstance(o, Traced) else np.asarray(o).dtype for o in operands))
    return Traced(some.t, some.t.b.Einsum(*(some.cast(o, kind) for o in operands), equation=equation))


@_of_numpy("round", "around")
def _round(x: Traced, decimals: int = 0) -> Any:
    # numpy too multiplies, rounds and divides.
    return np.rint(x) if decimals == 0 else np.rint(x * 10.0**decimals) / 10.0**decimals


@_of_numpy("zeros_like")
def _zeros_like(x: Traced) -> Any:
    return _full_like(x, 0)


@_of_numpy("ones_like")
def _ones_like(x: Traced) -> Any:
    return _full_like(x, 1)


@_of_numpy("full_like")
def _full_like(x: Traced, fill_value: Any) -> Traced:
    b = x.t.b
    return Traced(x.t, b.Expand(b.constant(np.array(fill_value, x.dtype)), b.Shape(x.value)))


def traced(t: Translation, function: Any, x: Value, settings: Any, owner: Any) -> Value:
    """What the function makes of `x`, called with the settings (kw_args).

    Raises:
        UnsupportedError: it asks for what has no way; the first such thing is named.
    """
    who, name = type(owner).__name__, getattr(function, "__name__", type(function).__name__)
    try:
        with np.errstate(all="ignore"):
            made = function(Traced(t, x), **(settings or {}))
    except _NoWayError as e:
        raise UnsupportedError(f"{who}: the function '{name}' asks for {e}, which has no way to ONNX yet",
                               who="sklearn", advice="write it with numpy's functions of whole arrays, or register a "
                                                     "translator of a class of your own") from e
    except GesherError as e:
        raise UnsupportedError(f"{who}: the function '{name}' cannot be said in ONNX: {e.what}", who="sklearn") from e
    except Exception as e:
        raise UnsupportedError(f"{who}: the function '{name}' does not run on what stands in for an array: "
                               f"{type(e).__name__}: {e}", who="sklearn") from e
    if not isinstance(made, Traced):
        raise UnsupportedError(f"{who}: the function '{name}' gives a {type(made).__name__} that is not made of its "
                               "input", who="sklearn")
    shape = t.b.shape(made.value) or ()
    if not shape or isinstance(shape[0], int):
        raise UnsupportedError(f"{who}: what the function '{name}' gives has no rows", who="sklearn")
    return t.matrix(made.value)
