"""The data types of ONNX tensors: one row each.

A `DType` is a singleton; compare with `is` or `==`. Types narrower than a byte keep one element per byte in
numpy (the `ml_dtypes` types) and are packed only in files and in `ir.Tensor` storage; `bits` is the packed width.
Strings are numpy object arrays of `str` (or `bytes` where a string is not UTF-8).

numpy dtypes are looked up when first asked for, so that reading a file does not import `ml_dtypes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["none", "float", "int", "uint", "bool", "complex", "string"]


class DType:
    """One of ONNX's data types.

    Attributes:
        code: the number in `TensorProto.DataType`.
        name: ONNX's name in lower case, as schemas write it in `tensor(...)`.
        bits: the width of an element in a file (0 for strings).
        kind: float, int, uint, bool, complex, string.
        c: the spelling in generated C (`float`, `int64_t`, `uint16_t` for the storage of float16), empty for none.
        field: the typed field of `TensorProto` that may hold it instead of `raw_data`.
    """

    __slots__ = ("__dict__", "bits", "c", "code", "field", "kind", "name", "numpy_name")

    def __init__(self, code: int, name: str, bits: int, kind: Kind, numpy_name: str, c: str, field: str):
        self.code, self.name, self.bits, self.kind = code, name, bits, kind
        self.numpy_name, self.c, self.field = numpy_name, c, field

    @cached_property
    def numpy(self) -> np.dtype:
        """The numpy dtype of an unpacked array."""
        import numpy as np

        if self.kind == "none":
            raise TypeError("the data type 'undefined' has no array")
        if hasattr(np, self.numpy_name):
            return np.dtype(getattr(np, self.numpy_name))
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, self.numpy_name))

    @property
    def packed(self) -> bool:
        """True where files store several elements in a byte (4 and 2 bits); 6 bits are packed too, but across bytes,
        and only in raw data."""
        return self.bits in (2, 4)

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    def file_bytes(self, count: int) -> int:
        """Bytes that `count` elements take in `raw_data` (strings have none: -1)."""
        if self.kind in ("string", "none"):
            return -1
        return (count * self.bits + 7) // 8

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return (by_code, (self.code,))


_TABLE: tuple[DType, ...] = tuple(DType(*row) for row in (
    # code name              bits kind       numpy                 C            typed field
    (0,  "undefined",         0, "none",    "",                   "",          ""),
    (1,  "float",            32, "float",   "float32",            "float",     "float_data"),
    (2,  "uint8",             8, "uint",    "uint8",              "uint8_t",   "int32_data"),
    (3,  "int8",              8, "int",     "int8",               "int8_t",    "int32_data"),
    (4,  "uint16",           16, "uint",    "uint16",             "uint16_t",  "int32_data"),
    (5,  "int16",            16, "int",     "int16",              "int16_t",   "int32_data"),
    (6,  "int32",            32, "int",     "int32",              "int32_t",   "int32_data"),
    (7,  "int64",            64, "int",     "int64",              "int64_t",   "int64_data"),
    (8,  "string",            0, "string",  "object_",            "",          "string_data"),
    (9,  "bool",              8, "bool",    "bool_",              "uint8_t",   "int32_data"),
    (10, "float16",          16, "float",   "float16",            "uint16_t",  "int32_data"),
    (11, "double",           64, "float",   "float64",            "double",    "double_data"),
    (12, "uint32",           32, "uint",    "uint32",             "uint32_t",  "uint64_data"),
    (13, "uint64",           64, "uint",    "uint64",             "uint64_t",  "uint64_data"),
    (14, "complex64",        64, "complex", "complex64",          "",          "float_data"),
    (15, "complex128",      128, "complex", "complex128",         "",          "double_data"),
    (16, "bfloat16",         16, "float",   "bfloat16",           "uint16_t",  "int32_data"),
    (17, "float8e4m3fn",      8, "float",   "float8_e4m3fn",      "uint8_t",   "int32_data"),
    (18, "float8e4m3fnuz",    8, "float",   "float8_e4m3fnuz",    "uint8_t",   "int32_data"),
    (19, "float8e5m2",        8, "float",   "float8_e5m2",        "uint8_t",   "int32_data"),
    (20, "float8e5m2fnuz",    8, "float",   "float8_e5m2fnuz",    "uint8_t",   "int32_data"),
    (21, "uint4",             4, "uint",    "uint4",              "uint8_t",   "int32_data"),
    (22, "int4",              4, "int",     "int4",               "int8_t",    "int32_data"),
    (23, "float4e2m1",        4, "float",   "float4_e2m1fn",      "uint8_t",   "int32_data"),
    (24, "float8e8m0",        8, "float",   "float8_e8m0fnu",     "uint8_t",   "int32_data"),
    (25, "uint2",             2, "uint",    "uint2",              "uint8_t",   "int32_data"),
    (26, "int2",              2, "int",     "int2",               "int8_t",    "int32_data"),
    (27, "float6e2m3",        6, "float",   "float6_e2m3fn",      "uint8_t",   "int32_data"),
    (28, "float6e3m2",        6, "float",   "float6_e3m2fn",      "uint8_t",   "int32_data"),
))

BY_CODE: dict[int, DType] = {d.code: d for d in _TABLE}
BY_NAME: dict[str, DType] = {d.name: d for d in _TABLE}

(UNDEFINED, FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE, UINT32, UINT64, COMPLEX64,
 COMPLEX128, BFLOAT16, FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ, UINT4, INT4, FLOAT4E2M1, FLOAT8E8M0,
 UINT2, INT2, FLOAT6E2M3, FLOAT6E3M2) = _TABLE


def by_code(code: int) -> DType:
    """The type of a `TensorProto.DataType` number; `KeyError` for a number that ONNX does not know."""
    return BY_CODE[code]


def all_dtypes() -> Iterator[DType]:
    """Every type but `undefined`, by code."""
    return iter(_TABLE[1:])


_FROM_NUMPY: dict[Any, DType] = {}


def from_numpy(dtype: Any) -> DType:
    """The ONNX type of a numpy dtype; string dtypes of any width are STRING.

    Raises:
        TypeError: ONNX has no such type (datetime64, structured, float128...).

    >>> import numpy as np
    >>> from_numpy(np.float32), from_numpy("<U7")
    (float, string)
    """
    import numpy as np

    dtype = np.dtype(dtype)
    found = _FROM_NUMPY.get(dtype)
    if found is None:
        if dtype.kind in "OUST":
            found = STRING
        else:
            native = dtype.newbyteorder("=")
            found = next((d for d in _TABLE[1:] if d.numpy == native), None)
        if found is None:
            raise TypeError(f"ONNX has no data type for numpy's {dtype}")
        _FROM_NUMPY[dtype] = found
    return found
