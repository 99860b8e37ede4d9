"""Labels: one thing looked up and another put in its place, and maps from labels to scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError
from gesher.ir import MapType, SequenceType, TensorType
from gesher.ops.fact import Fact
from gesher.ops.rules import InferNode
from gesher.ops.schema import STRING, Attr, Drop, Input, Output, op, tensors

from .trees import ML

Array = np.ndarray[Any, Any]

LabelEncoder = (
    op("LabelEncoder", Input("X", "T1"), Output("Y", "T2"), Attr("classes_strings", "strings"),
       Attr("default_int64", "int", -1), Attr("default_string", "string", "_Unused"), domain=ML,
       T1=tensors("int64") | STRING, T2=tensors("int64") | STRING)
    .since(2, Drop("classes_strings"),
           *(Attr(f"{side}_{kind}", kind) for side in ("keys", "values") for kind in ("strings", "floats")),
           Attr("keys_int64s", "ints"), Attr("values_int64s", "ints"), Attr("default_float", "float", -0.0),
           T1=tensors("int64 float") | STRING, T2=tensors("int64 float") | STRING,
           behaviour="any key to any value instead of a list of classes")
    .since(4, Attr("keys_tensor", "tensor"), Attr("values_tensor", "tensor"), Attr("default_tensor", "tensor"),
           T1=tensors("int64 float int32 int16 double") | STRING,
           T2=tensors("int64 float int32 int16 double") | STRING))

CategoryMapper = op("CategoryMapper", Input("X", "T1"), Output("Y", "T2"), Attr("cats_strings", "strings"),
                    Attr("cats_int64s", "ints"), Attr("default_string", "string", "_Unused"),
                    Attr("default_int64", "int", -1), domain=ML,
                    T1=tensors("int64") | STRING, T2=tensors("int64") | STRING)

ZipMap = op("ZipMap", Input("X", "tensor(float)"), Output("Z"), Attr("classlabels_strings", "strings"),
            Attr("classlabels_int64s", "ints"), domain=ML,
            T=frozenset(("seq(map(string, float))", "seq(map(int64, float))")))


def _objects(values: Any) -> Array:
    out = np.empty(len(values), object)
    out[:] = list(values)
    return out


def _table(a: dict[str, Any], side: str) -> tuple[Array, DType]:
    """The keys or values of a LabelEncoder, whichever attribute holds them."""
    if a.get(f"{side}_tensor") is not None:
        t = a[f"{side}_tensor"]
        return t.numpy().reshape(-1), t.dtype
    for kind, dtype in (("int64s", dtypes.INT64), ("floats", dtypes.FLOAT), ("strings", dtypes.STRING)):
        values = a.get(f"{side}_{kind}")
        if values is not None and len(values):
            return (_objects(values) if dtype is dtypes.STRING else np.asarray(values, dtype.numpy)), dtype
    raise ModelError(f"LabelEncoder: it has no {side}", rule="attribute-missing",
                     advice=f"give {side}_strings, {side}_int64s, {side}_floats or {side}_tensor")


def _default(a: dict[str, Any], dtype: DType) -> Any:
    if a.get("default_tensor") is not None:
        return a["default_tensor"].item()
    if dtype is dtypes.STRING:
        return a["default_string"]
    return a["default_float"] if dtype.is_float else a["default_int64"]


def _key(value: Any) -> Any:
    # Every NaN is the same key.
    return "nan" if isinstance(value, (float, np.floating)) and value != value else value


def _look_up(x: Array, keys: Array, values: Array, default: Any, dtype: DType) -> Array:
    # The first of several equal keys wins.
    index: dict[Any, Any] = {}
    strings = keys.dtype == object
    for k, v in zip(keys.tolist(), values.tolist()):
        index.setdefault(k if strings else _key(k), v)
    out = np.empty(x.size, dtype.numpy)
    for i, value in enumerate(x.reshape(-1).tolist()):
        out[i] = index.get(value if strings else _key(value), default)
    return out.reshape(x.shape)


@LabelEncoder.infer
def _(node: InferNode) -> None:
    node.set(0, dtypes.STRING if node.dtype(0) is dtypes.INT64 else dtypes.INT64, node.shape(0))


@LabelEncoder.infer(since=2)
def _(node: InferNode) -> None:
    names = node.schema.attributes
    node.set(0, _table({n: node[n] for n in names}, "values")[1], node.shape(0))


@LabelEncoder.reference
def label_encoder_1(x: Array, *, classes_strings: Any, default_int64: int, default_string: str) -> Array:
    names = _objects(classes_strings or ())
    numbers = np.arange(len(names))
    if x.dtype == object:
        return _look_up(x, names, numbers, default_int64, dtypes.INT64)
    return _look_up(x, numbers, names, default_string, dtypes.STRING)


@LabelEncoder.reference(since=2)
def label_encoder(x: Array, **a: Any) -> Array:
    keys, _kind = _table(a, "keys")
    values, dtype = _table(a, "values")
    if len(keys) != len(values):
        raise ModelError(f"LabelEncoder: {len(keys)} keys for {len(values)} values", rule="attribute-length")
    return _look_up(x, keys, values, _default(a, dtype), dtype)


@LabelEncoder.lower(since=2)
def _(p: Any, x: Any, **a: Any) -> Any:
    from gesher.primitives import CannotLower

    keys, kind = _table(a, "keys")
    values, dtype = _table(a, "values")
    if dtypes.STRING in (kind, dtype):
        raise CannotLower("string labels")
    default = p.scalar(_default(a, dtype), dtype)
    # Of equal keys the first counts, and every NaN is the same key.
    keys, first = np.unique(keys.astype(x.dtype.numpy), return_index=True)
    values = values[first]
    nan = keys != keys
    found_nan, keys, values = values[nan], keys[~nan], values[~nan]
    if not len(keys):
        found = p.broadcast_to(default, x.shape)
    elif x.dtype.is_integer and (span := int(keys[-1]) - int(keys[0]) + 1) <= 4 * len(keys) + 1024:
        # A value for each number between the keys.
        low, high = int(keys[0]), int(keys[-1])
        table = np.full(span, _default(a, dtype), values.dtype)
        table[keys.astype(object).astype(np.int64) - low] = values
        inside = p.and_(x >= low, x <= high)
        at = p.cast(p.select(inside, x, low), dtypes.INT64) - low
        found = p.select(inside, p.gather(p.constant(table), at, 0), default)
    else:
        # Half of what is left, and half again: `at` is the last key that is not above x.
        sorted_keys = p.constant(keys)
        at = p.broadcast_to(p.scalar(0, dtypes.INT64), x.shape)
        step = 1 << (len(keys) - 1).bit_length() >> 1
        while step:
            then = p.min(at + step, len(keys) - 1)
            at = p.select(p.gather(sorted_keys, then, 0) <= x, then, at)
            step >>= 1
        found = p.select(p.eq(p.gather(sorted_keys, at, 0), x), p.gather(p.constant(values), at, 0), default)
    return p.select(p.is_nan(x), p.scalar(found_nan[0].item(), dtype), found) if len(found_nan) else found


@CategoryMapper.infer
def _(node: InferNode) -> None:
    node.set(0, dtypes.INT64 if node.dtype(0) is dtypes.STRING else dtypes.STRING, node.shape(0))


@CategoryMapper.reference
def category_mapper(x: Array, *, cats_strings: Any, cats_int64s: Any, default_string: str,
                    default_int64: int) -> Array:
    names, numbers = _objects(cats_strings or ()), np.asarray(cats_int64s or (), np.int64)
    if len(names) != len(numbers):
        raise ModelError(f"CategoryMapper: {len(names)} strings for {len(numbers)} integers", rule="attribute-length")
    if x.dtype == object:
        return _look_up(x, names, numbers, default_int64, dtypes.INT64)
    return _look_up(x, numbers, names, default_string, dtypes.STRING)


@ZipMap.infer
def _(node: InferNode) -> None:
    key = dtypes.STRING if node["classlabels_strings"] else dtypes.INT64
    node.set_fact(0, Fact(SequenceType(MapType(key, TensorType(dtypes.FLOAT, ())))))


@ZipMap.reference
def zip_map(x: Array, *, classlabels_strings: Any, classlabels_int64s: Any) -> list[dict[Any, Any]]:
    labels = list(classlabels_strings or classlabels_int64s or ())
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    if rows.shape[1] != len(labels):
        raise ModelError(f"ZipMap: X has {rows.shape[1]} columns for {len(labels)} labels", rule="attribute-length")
    return [dict(zip(labels, row.tolist())) for row in rows]
