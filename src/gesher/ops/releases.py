"""Which versions were published together: IR, ai.onnx, ai.onnx.ml and the training operators.

A model may import an older opset than its IR version allows, and use a newer IR version than it needs. What it cannot
do is to import an opset that came only with a later IR version: no reader of that IR version knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gesher.base import dtypes
from gesher.base.dtypes import DType


class Release(NamedTuple):
    """One release of ONNX: its number, and the newest versions that it knew."""

    onnx: str
    ir: int
    opset: int
    ml: int
    training: int


ML = "ai.onnx.ml"
TRAINING = "ai.onnx.preview.training"

RELEASES: tuple[Release, ...] = tuple(Release(*row) for row in (
    # ONNX    IR  ai.onnx  ml  training
    ("1.0",    3,  1,  1, 0),
    ("1.1",    3,  5,  1, 0),
    ("1.1.2",  3,  6,  1, 0),
    ("1.2",    3,  7,  1, 0),
    ("1.3",    3,  8,  1, 0),
    ("1.4.1",  4,  9,  1, 0),
    ("1.5.0",  5, 10,  1, 0),
    ("1.6.0",  6, 11,  2, 0),
    ("1.7.0",  7, 12,  2, 1),
    ("1.8.0",  7, 13,  2, 1),
    ("1.9.0",  7, 14,  2, 1),
    ("1.10.0", 8, 15,  2, 1),
    ("1.11.0", 8, 16,  3, 1),
    ("1.12.0", 8, 17,  3, 1),
    ("1.13.0", 8, 18,  3, 1),
    ("1.14.0", 9, 19,  3, 1),
    ("1.15.0", 9, 20,  4, 1),
    ("1.16.0", 10, 21, 5, 1),
    ("1.17.0", 10, 22, 5, 1),
    ("1.18.0", 11, 23, 5, 1),
    ("1.19.0", 12, 24, 5, 1),
    ("1.20.0", 13, 25, 5, 1),
    ("1.21.0", 13, 26, 5, 1),
    ("1.22.0", 13, 27, 5, 1),
    ("1.23.0", 14, 28, 5, 1),
))

NEWEST = RELEASES[-1]

# The IR version that brought each data type; those that are not listed were there from the first.
_TYPES: dict[DType, int] = {
    dtypes.BFLOAT16: 4,
    dtypes.FLOAT8E4M3FN: 9, dtypes.FLOAT8E4M3FNUZ: 9, dtypes.FLOAT8E5M2: 9, dtypes.FLOAT8E5M2FNUZ: 9,
    dtypes.UINT4: 10, dtypes.INT4: 10, dtypes.FLOAT4E2M1: 11, dtypes.FLOAT8E8M0: 12,
    dtypes.UINT2: 13, dtypes.INT2: 13, dtypes.FLOAT6E2M3: 14, dtypes.FLOAT6E3M2: 14,
}

# The IR version that brought each part of a model beside operators.
INITIALIZERS_APART = 4
SPARSE_INITIALIZERS = 6
FUNCTIONS = 8
FUNCTION_DEFAULTS = 9
OVERLOADS = 10


def ir_for(opsets: Mapping[str, int], types: Iterable[DType] = (), *, at_least: int = 3) -> int:
    """The lowest IR version that has all these opsets and data types.

    Versions newer than any release count as the newest. Other domains ask for nothing.

    >>> ir_for({"": 17}), ir_for({"": 21, "ai.onnx.ml": 5})
    (8, 10)
    """
    need = at_least
    for domain, version in opsets.items():
        need = max(need, ir_of_opset(domain, version) or NEWEST.ir)
    return max([need, *(_TYPES.get(t, 0) for t in types)])


def ir_of_opset(domain: str, version: int) -> int | None:
    """The lowest IR version that came with this version of a domain; None where it is newer than every release.

    Domains of others ask for no IR version: 0.
    """
    column = {"": "opset", "ai.onnx": "opset", ML: "ml", TRAINING: "training"}.get(domain)
    if column is None:
        return 0
    return next((r.ir for r in RELEASES if getattr(r, column) >= version), None)


def companion(domain: str, opset: int) -> int:
    """The version of another domain that a model of ai.onnx `opset` imports when nobody says which: the one that was
    published with it, and 1 for domains that are not ONNX's own.

    >>> companion("ai.onnx.ml", 21), companion("com.microsoft", 21)
    (5, 1)
    """
    column = {ML: "ml", TRAINING: "training"}.get(domain)
    if column is None:
        return 1
    return max(1, getattr(next((r for r in RELEASES if r.opset >= opset), NEWEST), column))
