"""Maps made into tensors: CastMap by the order of the keys, DictVectorizer by a vocabulary.

Both give one row, (1, N). For DictVectorizer the text says a vector; ONNX Runtime gives the row, which is what the
models behind it take.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError, RunError
from gesher.ir import MapType, TensorType
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import Attr, Input, Output, op, tensors

from .trees import ML

Array = np.ndarray[Any, Any]

CastMap = op("CastMap", Input("X", "T1"), Output("Y", "T2"), Attr("cast_to", "string", "TO_FLOAT"),
             Attr("map_form", "string", "DENSE"), Attr("max_map", "int", 1), domain=ML,
             T1=frozenset(("map(int64, string)", "map(int64, float)")), T2=tensors("string float int64"))

DictVectorizer = op("DictVectorizer", Input("X", "T1"), Output("Y", "T2"), Attr("string_vocabulary", "strings"),
                    Attr("int64_vocabulary", "ints"), domain=ML,
                    T1=frozenset(f"map({k}, {v})" for k, v in (
                        ("string", "int64"), ("int64", "string"), ("int64", "float"), ("int64", "double"),
                        ("string", "float"), ("string", "double"))),
                    T2=tensors("int64 float double string"))

_TARGETS = {"TO_FLOAT": dtypes.FLOAT, "TO_INT64": dtypes.INT64, "TO_STRING": dtypes.STRING}


def _target(cast_to: str) -> DType:
    if cast_to not in _TARGETS:
        raise ModelError(f"CastMap: cast_to is {cast_to!r}", rule="attribute-value",
                         advice="it is one of " + ", ".join(_TARGETS))
    return _TARGETS[cast_to]


def _dense(map_form: str) -> bool:
    if map_form not in ("DENSE", "SPARSE"):
        raise ModelError(f"CastMap: map_form is {map_form!r}", rule="attribute-value", advice="it is DENSE or SPARSE")
    return map_form == "DENSE"


def _cast(value: Any, dtype: DType) -> Any:
    try:
        if dtype is dtypes.STRING:
            # Six digits behind the point, as C prints a float that is told nothing else.
            return value if isinstance(value, (str, bytes)) else f"{np.float32(value):f}"
        if isinstance(value, bytes):
            value = value.decode()
        return float(value) if dtype is dtypes.FLOAT else int(value)
    except (ValueError, OverflowError) as e:
        raise RunError(f"CastMap: {value!r} cannot be made {dtype.name}") from e


def _row(values: list[Any], dtype: DType) -> Array:
    out = np.empty((1, len(values)), dtype.numpy)
    out[0, :] = values
    return out


@CastMap.infer
def _(node: InferNode) -> None:
    node.set(0, _target(node["cast_to"]), (1, node.fresh("how many keys the map has, is not known")
                                           if _dense(node["map_form"]) else node["max_map"]))


@CastMap.reference
def cast_map(x: dict[Any, Any], *, cast_to: str, map_form: str, max_map: int) -> Array:
    dtype = _target(cast_to)
    if _dense(map_form):
        return _row([_cast(x[k], dtype) for k in sorted(x)], dtype)
    outside = sorted(k for k in x if not 0 <= k < max_map)
    if outside:
        raise RunError(f"CastMap: the key {outside[0]} is outside 0 ... {max_map - 1}",
                       advice="raise max_map, or pack densely")
    # What ONNX Runtime writes for a key that is not there; for strings it is no number.
    nothing = "0.f" if dtype is dtypes.STRING else 0
    return _row([_cast(x[i], dtype) if i in x else nothing for i in range(max_map)], dtype)


def _vocabulary(strings: Any, ints: Any) -> list[Any]:
    if bool(strings) == bool(ints):
        raise ModelError("DictVectorizer: it has " + ("two vocabularies" if strings else "no vocabulary"),
                         rule="attribute-value", advice="give string_vocabulary or int64_vocabulary, as the keys are")
    return list(strings or ints)


@DictVectorizer.infer
def _(node: InferNode) -> None:
    width = len(_vocabulary(node["string_vocabulary"], node["int64_vocabulary"]))
    type = node.type(0)
    if isinstance(type, MapType) and isinstance(type.value, TensorType):
        node.set(0, type.value.dtype, (1, width))


def _dtype_of(run: Run, x: dict[Any, Any]) -> DType:
    """The type of a map's values: as it is declared, else as they look."""
    declared = run.node.inputs[0]
    if declared is not None and isinstance(declared.type, MapType) and isinstance(declared.type.value, TensorType):
        return declared.type.value.dtype
    first = next(iter(x.values()), 0.0)
    if isinstance(first, (str, bytes)):
        return dtypes.STRING
    if isinstance(first, (np.generic, np.ndarray)):
        return dtypes.from_numpy(first.dtype)
    return dtypes.INT64 if isinstance(first, int) else dtypes.FLOAT


@DictVectorizer.reference
def dict_vectorizer(x: dict[Any, Any], *, string_vocabulary: Any, int64_vocabulary: Any, run: Run) -> Array:
    words, dtype = _vocabulary(string_vocabulary, int64_vocabulary), _dtype_of(run, x)
    strange = [k for k in x if isinstance(k, str) != bool(string_vocabulary)]
    if strange:
        raise RunError(f"DictVectorizer: the key {strange[0]!r} is of another kind than the vocabulary")
    # Keys that the vocabulary lacks have no place.
    nothing = "" if dtype is dtypes.STRING else 0
    return _row([x.get(word, nothing) for word in words], dtype)
