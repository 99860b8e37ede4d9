"""The domain of these operators, and the type sets that their schemas share."""

from __future__ import annotations

from gesher.ops.schema import tensors

MS = "com.microsoft"

FLOAT = tensors("float")
HALVES = tensors("float float16")
REALS = tensors("float float16 bfloat16")
BYTES = tensors("int8 uint8")
INT32 = tensors("int32")
INDEX = tensors("int32 int64")
