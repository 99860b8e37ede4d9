"""SparseToDenseMatMul: a sparse matrix times a dense one.

Within a run a sparse tensor is the dense one that it stands for, so that this is a product like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import DimLike, SparseTensorType, TensorType
from gesher.ir.types import print_shape
from gesher.ops.rules import InferNode
from gesher.ops.schema import Attr, Input, Output, op, tensors

from .types import MS

_NUMBERS = "float double int64 int32 uint64 uint32"
SparseToDenseMatMul = op("SparseToDenseMatMul", Input("A"), Input("B", "T1"), Output("Y", "T1"),
                         Attr("alpha", "float", 1.0), Attr("transA", "int", 0), Attr("transB", "int", 0), domain=MS,
                         T=frozenset(f"sparse_tensor({n})" for n in _NUMBERS.split()), T1=tensors(_NUMBERS))


def _matrix(node: InferNode, index: int, name: str) -> tuple[DimLike | None, ...] | None:
    """The shape of an input, turned where its attribute says so."""
    type = node.type(index)
    shape = type.shape if isinstance(type, (TensorType, SparseTensorType)) else None
    if shape is None:
        return None
    if len(shape) != 2:
        node.fail(f"{name} is a matrix, not {print_shape(shape)}")
    return shape[::-1] if node[f"trans{name}"] else shape


@SparseToDenseMatMul.infer
def _(node: InferNode) -> None:
    a, b = _matrix(node, 0, "A"), _matrix(node, 1, "B")
    if a is not None and b is not None:
        node.unify(a[1], b[0], "the columns of A and the rows of B")
    type = node.type(0)
    dtype = node.dtype(1)
    if dtype is dtypes.UNDEFINED and isinstance(type, SparseTensorType):
        dtype = type.dtype
    node.set(0, dtype, (None if a is None else a[0], None if b is None else b[1]), why="a shape is unknown")


@SparseToDenseMatMul.reference
def sparse_to_dense_matmul(a: Any, b: Any, *, alpha: float, transA: int, transB: int) -> Any:
    if a.ndim != 2 or b.ndim != 2:
        raise RunError(f"A {print_shape(a.shape)} and B {print_shape(b.shape)} are no two matrices")
    a, b = (a.T if transA else a), (b.T if transB else b)
    if a.shape[1] != b.shape[0]:
        raise RunError(f"A {print_shape(a.shape)} and B {print_shape(b.shape)} do not fit each other")
    y = a @ b
    # Of integers, too, the factor is a float.
    return y if alpha == 1 else (y * np.asarray(alpha, y.dtype if y.dtype.kind == "f" else np.float64)).astype(y.dtype)
