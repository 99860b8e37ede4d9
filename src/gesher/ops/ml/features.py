"""What stands in front of a model: scaling, normalising, filling in, thresholds, encoding, picking columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ops.rules import InferNode
from gesher.ops.schema import STRING, Attr, Input, Output, op
from gesher.ops.sizes import from_front
from gesher.symbolic import product

from .trees import INPUTS, ML

Array = np.ndarray[Any, Any]

Scaler = op("Scaler", Input("X"), Output("Y", "tensor(float)"), Attr("offset", "floats"), Attr("scale", "floats"),
            domain=ML, T=INPUTS)
Normalizer = op("Normalizer", Input("X"), Output("Y", "tensor(float)"), Attr("norm", "string", "MAX"),
                domain=ML, T=INPUTS)
Imputer = op("Imputer", Input("X"), Output("Y"), Attr("imputed_value_floats", "floats"),
             Attr("replaced_value_float", "float", 0.0), Attr("imputed_value_int64s", "ints"),
             Attr("replaced_value_int64", "int", 0), domain=ML, T=INPUTS)
Binarizer = op("Binarizer", Input("X"), Output("Y"), Attr("threshold", "float", 0.0), domain=ML, T=INPUTS)
OneHotEncoder = op("OneHotEncoder", Input("X"), Output("Y", "tensor(float)"), Attr("cats_int64s", "ints"),
                   Attr("cats_strings", "strings"), Attr("zeros", "int", 1), domain=ML, T=INPUTS | STRING)
FeatureVectorizer = op("FeatureVectorizer", Input("X", "T1", variadic=True), Output("Y", "tensor(float)"),
                       Attr("inputdimensions", "ints"), domain=ML, T1=INPUTS)
ArrayFeatureExtractor = op("ArrayFeatureExtractor", Input("X"), Input("Y", "tensor(int64)"), Output("Z"),
                           domain=ML, T=INPUTS | STRING)


def _per_feature(values: Any, features: Any, what: str) -> Array:
    """One number for all features, or one for each."""
    array = np.asarray(values, np.float32)
    if len(array) != 1 and isinstance(features, int) and len(array) != features:
        raise ModelError(f"{what} has {len(array)} elements, X has {features} features", rule="attribute-length")
    return array


def _features(node: InferNode, *attributes: str) -> None:
    """Refuse an X that has no features, and attributes that are neither one number nor one for each of them."""
    shape = node.shape(0)
    if shape is None:
        return
    if not shape:
        node.fail("X is one number, and has no features", "it is (C) or (N,C)")
    for name in attributes:
        if node[name] is not None and len(node[name]) > 1:
            node.unify(shape[-1], len(node[name]), f"the features of X and the elements of {name}")


def _has_features(name: str, x: Array) -> Any:
    if not x.ndim:
        raise ModelError(f"{name}: X is one number, and has no features", rule="shape-inference",
                         advice="it is (C) or (N,C)")
    return x.shape[-1]


@Scaler.infer
@Normalizer.infer
def _(node: InferNode) -> None:
    if node.operator is Scaler:
        _features(node, "offset", "scale")
    node.set(0, dtypes.FLOAT, node.shape(0))


@Scaler.reference
def scaler(x: Array, *, offset: Any, scale: Any) -> Array:
    features = _has_features("Scaler", x)
    kind: Any = np.float64 if x.dtype == np.float64 else np.float32
    less = _per_feature(offset or (0.0,), features, "Scaler's offset").astype(kind)
    times = _per_feature(scale or (1.0,), features, "Scaler's scale").astype(kind)
    return ((x.astype(kind) - less) * times).astype(np.float32)


@Scaler.lower
def _(p: Any, x: Any, *, offset: Any, scale: Any) -> Any:
    if x.dtype is not dtypes.DOUBLE:
        x = p.cast(x, dtypes.FLOAT)
    features, kind = x.shape[-1] if x.shape else 1, x.dtype.numpy
    less = p.constant(_per_feature(offset or (0.0,), features, "Scaler's offset").astype(kind))
    times = p.constant(_per_feature(scale or (1.0,), features, "Scaler's scale").astype(kind))
    return p.cast((x - less) * times, dtypes.FLOAT)


def _norm_of(norm: str) -> str:
    if norm not in ("MAX", "L1", "L2"):
        raise ModelError(f"Normalizer: there is no norm {norm!r}", rule="attribute-value",
                         advice="it is MAX, L1 or L2")
    return norm


@Normalizer.reference
def normalizer(x: Array, *, norm: str) -> Array:
    wide = x.astype(np.float64)
    if _norm_of(norm) == "MAX":
        size = wide.max(-1, keepdims=True)      # of the values as they are, not of their sizes: so the text has it
    elif norm == "L1":
        size = np.abs(wide).sum(-1, keepdims=True)
    else:
        size = np.sqrt((wide * wide).sum(-1, keepdims=True))
    # A row of zeros stays what it is.
    return (wide / np.where(size == 0, 1, size)).astype(np.float32)


@Normalizer.lower
def _(p: Any, x: Any, *, norm: str) -> Any:
    if x.dtype is not dtypes.DOUBLE:
        x = p.cast(x, dtypes.FLOAT)
    last = (len(x.shape) - 1,)
    if _norm_of(norm) == "MAX":
        size = p.amax(x, last, keepdims=True)
    elif norm == "L1":
        size = p.sum(p.abs(x), last, keepdims=True)
    else:
        size = p.sqrt(p.sum(x * x, last, keepdims=True))
    return p.cast(x / p.select(p.eq(size, 0.0), p.scalar(1, x.dtype), size), dtypes.FLOAT)


@Imputer.infer
@Binarizer.infer
def _(node: InferNode) -> None:
    if node.operator is Imputer:
        integers = node.dtype(0) in (dtypes.INT64, dtypes.INT32)
        if node.dtype(0) is not dtypes.UNDEFINED:
            _features(node, "imputed_value_int64s" if integers else "imputed_value_floats")
    node.set(0, node.dtype(0), node.shape(0))


def _imputed(x_dtype: Any, features: Any, a: dict[str, Any]) -> tuple[Array, Any]:
    """What stands in for each feature, and the value that is replaced (a NaN matches every NaN)."""
    integers = np.dtype(x_dtype).kind == "i"
    values = a["imputed_value_int64s"] if integers else a["imputed_value_floats"]
    if not values:
        raise ModelError("Imputer: there is no value to put in", rule="attribute-missing",
                         advice=f"give imputed_value_{'int64s' if integers else 'floats'}")
    array = np.asarray(values, x_dtype)
    if len(array) not in (1, features) and isinstance(features, int):
        raise ModelError(f"Imputer: {len(array)} values for {features} features", rule="attribute-length")
    return array, a["replaced_value_int64"] if integers else a["replaced_value_float"]


@Imputer.reference
def imputer(x: Array, **a: Any) -> Array:
    values, replaced = _imputed(x.dtype, _has_features("Imputer", x), a)
    gone = np.isnan(x) if replaced != replaced else x == np.asarray(replaced, x.dtype)
    return np.where(gone, values, x).astype(x.dtype)


@Imputer.lower
def _(p: Any, x: Any, **a: Any) -> Any:
    values, replaced = _imputed(x.dtype.numpy, x.shape[-1] if x.shape else 1, a)
    gone = p.is_nan(x) if replaced != replaced else p.eq(x, replaced)
    return p.select(gone, p.constant(values), x)


@Binarizer.reference
def binarizer(x: Array, *, threshold: float) -> Array:
    return (x > np.asarray(threshold, x.dtype if x.dtype.kind == "f" else np.float32)).astype(x.dtype)


@Binarizer.lower
def _(p: Any, x: Any, *, threshold: float) -> Any:
    # Integers compare as floats: a threshold of 0.5 must part 0 from 1.
    y = x if x.dtype.is_float else p.cast(x, dtypes.FLOAT)
    return p.cast(p.gt(y, threshold), x.dtype)


@OneHotEncoder.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    classes = len(node["cats_int64s"] or node["cats_strings"] or ())
    node.set(0, dtypes.FLOAT, None if shape is None else (*shape, classes))


@OneHotEncoder.reference
def one_hot_encoder(x: Array, *, cats_int64s: Any, cats_strings: Any, zeros: int) -> Array:
    strings = x.dtype == object
    if strings != bool(cats_strings):
        raise ModelError(f"OneHotEncoder: X holds {'strings' if strings else 'numbers'}, the categories do not",
                         rule="attribute-value")
    categories = list(cats_strings if strings else cats_int64s or ())
    # Of one that is listed twice, the first counts.
    index = {c: i for i, c in reversed(list(enumerate(categories)))}
    out = np.zeros((x.size, len(categories)), np.float32)
    for row, value in enumerate(x.reshape(-1)):
        at = index.get(value if strings else int(value) if value == value else None)
        if at is not None:
            out[row, at] = 1
        elif not zeros:
            raise ModelError(f"OneHotEncoder: {value!r} is no known category", rule="unknown-category",
                             advice="with zeros=1 it would become a row of zeros")
    return out.reshape(*x.shape, len(categories))


@OneHotEncoder.lower
def _(p: Any, x: Any, *, cats_int64s: Any, cats_strings: Any, zeros: int) -> Any:
    from gesher.primitives import CannotLower

    if x.dtype is dtypes.STRING:
        raise CannotLower("string categories")
    if not zeros:
        raise CannotLower("an unknown category must be an error (zeros=0)")
    whole = x if x.dtype is dtypes.INT64 else p.cast(p.trunc(x) if x.dtype.is_float else x, dtypes.INT64)
    listed = list(cats_int64s or ())
    hot = p.eq(p.expand_dims(whole, (len(x.shape),)), p.constant(np.asarray(listed, np.int64)))
    if len(set(listed)) < len(listed):
        hot = p.and_(hot, p.constant(np.array([c not in listed[:i] for i, c in enumerate(listed)])))
    if x.dtype.is_float:
        hot = p.and_(hot, p.not_(p.expand_dims(p.is_nan(x), (len(x.shape),))))
    return p.cast(hot, dtypes.FLOAT)


def _parts(widths: list[Any], dims: Any) -> list[Any]:
    """How many features each input of FeatureVectorizer gives: its own, cut or filled up to inputdimensions."""
    return list(dims) if dims else widths


@FeatureVectorizer.infer
def _(node: InferNode) -> None:
    shapes = [node.shape(i) for i in range(len(node.inputs))]
    if any(s is None for s in shapes):
        return
    rows = shapes[0][0] if len(shapes[0]) == 2 else 1       # type: ignore[arg-type,index]
    widths = [s[-1] for s in shapes]                        # type: ignore[index]
    node.set(0, dtypes.FLOAT, (rows, sum(_parts(widths, node["inputdimensions"]), start=0)))


@FeatureVectorizer.reference
def feature_vectorizer(*xs: Array, inputdimensions: Any) -> Array:
    matrices = [x.reshape(1, -1) if x.ndim == 1 else x for x in xs]
    widths = _parts([m.shape[1] for m in matrices], inputdimensions)
    if len(widths) != len(matrices):
        raise ModelError(f"FeatureVectorizer: {len(widths)} inputdimensions for {len(matrices)} inputs",
                         rule="attribute-length")
    out = []
    for m, width in zip(matrices, widths):
        part = np.zeros((len(m), width), np.float32)
        part[:, :min(width, m.shape[1])] = m[:, :width]
        out.append(part)
    return np.concatenate(out, 1)


@FeatureVectorizer.lower
def _(p: Any, *xs: Any, inputdimensions: Any) -> Any:
    parts = []
    for i, x in enumerate(xs):
        x = p.cast(x if len(x.shape) == 2 else p.expand_dims(x, (0,)), dtypes.FLOAT)
        have, want = x.shape[1], inputdimensions[i] if inputdimensions else x.shape[1]
        if inputdimensions and not isinstance(have, int):
            from gesher.primitives import CannotLower

            raise CannotLower(f"the features of input {i} are not counted before the run")
        if want < have:
            x = p.slice(x, (0, 0), (x.shape[0], want), (1, 1))
        elif want > have:
            x = p.pad(x, (0, 0), (0, want - have), 0.0)
        parts.append(x)
    return p.concat(parts, 1)


@ArrayFeatureExtractor.infer
def _(node: InferNode) -> None:
    x, y = node.shape(0), node.shape(1)
    if x is None or y is None:
        return
    node.set(0, node.dtype(0), (*(x[:-1] if len(x) > 1 else (1,)), product(y)))


@ArrayFeatureExtractor.reference
def array_feature_extractor(x: Array, y: Array) -> Array:
    columns = y.reshape(-1)
    if columns.size and (columns.min() < 0 or columns.max() >= x.shape[-1]):
        raise ModelError(f"ArrayFeatureExtractor: there is no column {int(columns.max())}, X has {x.shape[-1]}",
                         rule="index-range")
    picked = x[..., columns]
    return picked.reshape(1, -1) if x.ndim == 1 else picked


@ArrayFeatureExtractor.lower
def _(p: Any, x: Any, y: Any) -> Any:
    places = from_front(p, p.reshape(y, (product(y.shape),)), x.shape[-1])
    picked = p.gather(x, places, len(x.shape) - 1)
    return p.expand_dims(picked, (0,)) if len(x.shape) == 1 else picked
