"""Arrays drawn for a schema's types: reproducible, small, and with the values that rules get wrong."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher import ops
from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.ops import Schema

_SPECIAL_FLOATS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -0.5, -2.5)


def generator(*seed: Any) -> np.random.Generator:
    """A generator that depends on the words of `seed` alone."""
    return np.random.default_rng(zlib.crc32(repr(seed).encode()))


def draw(rng: np.random.Generator, dtype: DType, shape: Sequence[int], *, special: bool = True, low: float = -4,
         high: float = 4) -> np.ndarray:
    """Numbers between `low` and `high`; with `special`, also NaN, infinities, zeros, halves, extremes of integers."""
    size = int(np.prod(shape))
    if dtype is dtypes.STRING:
        words = np.empty(size, object)
        words[:] = [("", "a", "bc", "ÿ€")[i] for i in rng.integers(0, 4, size)]
        return words.reshape(shape)
    if dtype is dtypes.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "complex":
        return (rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape)).astype(dtype.numpy)
    if dtype.is_integer:
        lowest, highest = _range(dtype)
        values = rng.integers(max(int(low), lowest), min(int(high), highest) + 1, size)
        if special and size >= 4:
            values = values.astype(object)
            values[rng.permutation(size)[:4]] = [lowest, highest, 0, 1]
        if dtype.bits < 8:
            values = values.astype(np.int8 if dtype.kind == "int" else np.uint8)
        return values.astype(dtype.numpy).reshape(shape)
    numbers = rng.uniform(low, high, size)
    if special and size >= len(_SPECIAL_FLOATS):
        numbers[rng.permutation(size)[:len(_SPECIAL_FLOATS)]] = _SPECIAL_FLOATS
    with np.errstate(all="ignore"):
        return numbers.astype(np.float32 if dtype.bits < 64 else np.float64).astype(dtype.numpy).reshape(shape)


def _range(dtype: DType) -> tuple[int, int]:
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def types_of(schema: Schema, index: int = 0) -> list[DType]:
    """The tensor types that input `index` may have, by code."""
    names = schema.allowed(schema.input(index).type)
    found = [dtypes.BY_NAME[t[7:-1]] for t in names if t.startswith("tensor(")]
    return sorted(found, key=lambda d: d.code)


def versions_of(*names: str) -> list[tuple[str, Schema]]:
    """Every version of these operators."""
    found = []
    for name in names:
        operator = ops.find("", name)
        assert operator is not None, name
        found += [(name, schema) for schema in operator.versions]
    return found


# Two ways to compute one number may differ by a few roundings of its type.
TOLERANCE = {"double": 1e-12, "float": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


def tolerance(dtype: DType) -> dict[str, float]:
    """For `check`: how far a lowering may be from the reference rule."""
    near = TOLERANCE.get(dtype.name, 0.0)
    return {"lower_rtol": near, "lower_atol": near}


def label(value: Any) -> str:
    """For `ids` of tests over `versions_of`: the operator's name, the version's number."""
    return str(value.version) if isinstance(value, Schema) else str(value)
