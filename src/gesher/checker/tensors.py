"""Tensors: dims that are no dims, data that does not fill them, data that is nowhere. No number is looked at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import FormatError, GesherError
from gesher.ir import ArrayStorage, Graph, Kind, LazyStorage, RawStorage, SparseTensor, Tensor, TypedStorage

from .context import Context


def check(context: Context) -> None:
    """Look at every initializer and every tensor in an attribute."""
    for graph in context.graphs:
        for tensor, where in _tensors(graph):
            place = context.place(graph, where)
            if isinstance(tensor, SparseTensor):
                _sparse(context, tensor, place)
            else:
                _dense(context, tensor, place)


def _tensors(graph: Graph) -> Iterator[tuple[Tensor | SparseTensor, str]]:
    for v in graph.initializers:
        if v.constant is not None:
            yield v.constant, f"initializer '{v.name}'"
    for node in graph.nodes:
        for name, a in node.attributes.items():
            if a.kind in (Kind.TENSOR, Kind.SPARSE_TENSOR) and a.value is not None:
                yield a.value, f"{node.place}, attribute '{name}'"
            elif a.kind in (Kind.TENSORS, Kind.SPARSE_TENSORS):
                for t in a.value or ():
                    yield t, f"{node.place}, attribute '{name}'"


def _dense(context: Context, tensor: Tensor, place: tuple[str, ...]) -> bool:
    """Report what is wrong with a tensor; True where nothing is."""
    if any(d < 0 for d in tensor.shape):
        context.say("tensor-dims", f"the dims are {list(tensor.shape)}", place)
        return False
    if tensor.dtype is dtypes.UNDEFINED:
        context.say("tensor-type", "the tensor has no data type", place)
        return False
    try:
        return _filled(context, tensor, place)
    except GesherError as e:
        context.say_error("external-data" if isinstance(tensor.storage, LazyStorage) else "tensor-data", e, place)
        return False


def _filled(context: Context, tensor: Tensor, place: tuple[str, ...]) -> bool:
    storage, dtype, size = tensor.storage, tensor.dtype, tensor.size
    if isinstance(storage, RawStorage):
        want, have, unit = dtype.file_bytes(size), len(storage.view), "bytes"
    elif isinstance(storage, TypedStorage):
        per = 2 if dtype.kind == "complex" else 1
        want, have, unit = size * per, len(storage.values), f"entries of {dtype.field}"
        if dtype.packed:
            want = dtype.file_bytes(size)
    elif isinstance(storage, ArrayStorage):
        array = storage.values
        if tuple(array.shape) != tensor.shape or array.dtype != dtype.numpy:
            context.say("tensor-data", f"a tensor {dtype.name}{list(tensor.shape)} holds an array {array.dtype}"
                        f"{list(array.shape)}", place)
            return False
        return True
    elif isinstance(storage, LazyStorage):
        # Finding the file and its length opens nothing large: data files are mapped.
        want, have, unit = dtype.file_bytes(size), len(storage.view), "bytes"
    else:
        tensor.raw() if dtype is not dtypes.STRING else tensor.numpy()
        return True
    if want != have:
        context.say("tensor-data", f"a tensor {dtype.name}{list(tensor.shape)} takes {want:,} {unit}, it has {have:,}",
                    place)
        return False
    return True


def _sparse(context: Context, tensor: SparseTensor, place: tuple[str, ...]) -> None:
    if any(d < 0 for d in tensor.shape):
        context.say("tensor-dims", f"the dims are {list(tensor.shape)}", place)
        return
    if not (_dense(context, tensor.values, place) and _dense(context, tensor.indices, place)):
        return
    values, indices = tensor.values.shape, tensor.indices.shape
    if len(values) != 1 or not indices or indices[0] != values[0] or len(indices) > 2 \
            or (len(indices) == 2 and indices[1] != len(tensor.shape)):
        context.say("sparse-tensor", f"values {list(values)} and indices {list(indices)} do not make a sparse tensor "
                    f"of dims {list(tensor.shape)}", place)
        return
    if tensor.indices.dtype is not dtypes.INT64:
        context.say("sparse-tensor", f"the indices are {tensor.indices.dtype.name}, they must be int64", place)
        return
    try:
        index = tensor.indices.numpy()
    except (GesherError, FormatError) as e:
        context.say_error("sparse-tensor", e, place)
        return
    if not index.size:
        return
    if index.ndim == 1:
        size = 1
        for d in tensor.shape:
            size *= d
        wrong = int(index.min()) < 0 or int(index.max()) >= size
    else:
        wrong = bool(np.any(index < 0)) or any(int(index[:, i].max()) >= d for i, d in enumerate(tensor.shape))
    if wrong:
        context.say("sparse-tensor", f"an index lies outside the dims {list(tensor.shape)}", place)
