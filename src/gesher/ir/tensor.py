"""Tensors: a type, a shape, and numbers that are not touched until someone asks for them.

A tensor's numbers live in a `Storage`: an array in memory, raw little-endian bytes of a file (packed where the type is
narrower than a byte), the typed fields of an old file, strings, or bytes in another file. `tensor.numpy()` makes an
array of them, one element per byte for the narrow types; views of a mapped file stay views (and read-only).
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import FormatError, ModelError
from gesher.base.knobs import BUDGET_MB

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LITTLE = sys.byteorder == "little"


class Storage(ABC):
    """Where numbers lie. `array(dtype, shape)` makes them; `raw` gives them as a file holds them."""

    __slots__ = ()

    @abstractmethod
    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        """The numbers, one element per byte for the narrow types."""

    def raw(self, dtype: DType, shape: tuple[int, ...]) -> memoryview:
        """The little-endian bytes as a file's `raw_data` holds them."""
        return pack(self.array(dtype, shape), dtype)


class ArrayStorage(Storage):
    """Numbers in memory."""

    __slots__ = ("values",)

    def __init__(self, values: NDArray[Any]):
        self.values = values

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        return self.values


class RawStorage(Storage):
    """Little-endian bytes, packed: a view into a file."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview | bytes):
        self.view = memoryview(view)

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        return unpack(self.view, dtype, shape)

    def raw(self, dtype: DType, shape: tuple[int, ...]) -> memoryview:
        want = dtype.file_bytes(count(shape))
        if len(self.view) != want:
            unpack(self.view, dtype, shape)  # raises with the numbers
        return self.view


class TypedStorage(Storage):
    """The elements as `TensorProto`'s typed field `dtype.field` holds them (float16 as its bits in int32, complex as
    pairs, 4-bit types packed two to an int32's low byte)."""

    __slots__ = ("values",)

    def __init__(self, values: Any):
        self.values = values

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        n = count(shape)
        if dtype is dtypes.STRING:
            return _strings(self.values, shape)
        values = np.asarray(self.values)
        if dtype.packed:
            return unpack(values.astype(np.uint8).tobytes(), dtype, shape)
        if dtype.kind == "complex":
            part = np.float32 if dtype.bits == 64 else np.float64
            _same_count(len(values), 2 * n, dtype, shape)
            return np.ascontiguousarray(values.astype(part)).view(dtype.numpy).reshape(shape)
        _same_count(len(values), n, dtype, shape)
        if dtype.is_float and dtype.bits < 32:
            bits = np.uint16 if dtype.bits == 16 else np.uint8
            return values.astype(np.int64).astype(bits).view(dtype.numpy).reshape(shape)
        return values.astype(dtype.numpy).reshape(shape)


class LazyStorage(Storage):
    """Bytes that another place gives when asked, such as an external data file."""

    __slots__ = ("_view", "load")

    def __init__(self, load: Callable[[], memoryview]):
        self.load = load
        self._view: memoryview | None = None

    @property
    def view(self) -> memoryview:
        if self._view is None:
            self._view = self.load()
        return self._view

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        return unpack(self.view, dtype, shape)

    def raw(self, dtype: DType, shape: tuple[int, ...]) -> memoryview:
        want = dtype.file_bytes(count(shape))
        if len(self.view) != want:
            unpack(self.view, dtype, shape)
        return self.view


class Tensor:
    """A constant tensor.

    Attributes:
        name: as the file wrote it; a value's name wins on saving.
        dtype, shape: the type and the dims, all ints.
        storage: where the numbers are.
        doc, metadata: what the file says beside.
        kept: what the file said that the IR has no word for; rules never read it.

    >>> t = Tensor.of([[1.0, 2.0]], "w")
    >>> t.dtype, t.shape, t.numpy().sum()
    (double, (1, 2), np.float64(3.0))
    """

    __slots__ = ("_array", "doc", "dtype", "kept", "metadata", "name", "shape", "storage")

    def __init__(self, dtype: DType, shape: Sequence[int], storage: Storage, name: str = "", *, doc: str = "",
                 metadata: dict[str, str] | None = None, kept: Any = None):
        self.dtype, self.shape, self.storage, self.name = dtype, tuple(shape), storage, name
        self.doc, self.metadata, self.kept = doc, metadata, kept
        self._array: NDArray[Any] | None = None

    @classmethod
    def of(cls, values: Any, name: str = "", dtype: DType | None = None) -> Tensor:
        """A tensor over an array (not copied) or anything that numpy makes an array of."""
        if dtype is None:
            array = np.asarray(values)
            dtype = dtypes.from_numpy(array.dtype)
            if dtype is dtypes.STRING and array.dtype.kind != "O":
                array = array.astype(object)
        else:
            array = np.asarray(values, dtype=dtype.numpy)
        if array.dtype.byteorder not in "=|" and array.dtype.newbyteorder("=") != array.dtype:
            array = array.astype(array.dtype.newbyteorder("="))
        return cls(dtype, array.shape, ArrayStorage(array), name)

    def numpy(self) -> NDArray[Any]:
        """The numbers as an array; do not write to it (it may be a view of the file).

        Raises:
            ModelError: dims and data contradict each other.
        """
        if self._array is None:
            try:
                self._array = self.storage.array(self.dtype, self.shape)
            except (ModelError, FormatError) as e:
                raise e.within(f"tensor {self.name!r}" if self.name else "a tensor") from None
            except ValueError as e:
                # More dims than numpy has, or a size that overflows although one of them is 0.
                raise ModelError(f"no array can have the dims {str(list(self.shape))[:80]}: {e}", rule="tensor-dims",
                                 place=f"tensor {self.name!r}") from e
        return self._array

    @property
    def size(self) -> int:
        """The number of elements."""
        return count(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take in a file; for strings, their UTF-8 lengths together."""
        if self.dtype is dtypes.STRING:
            return sum(len(s if isinstance(s, bytes) else s.encode("utf-8", "surrogateescape"))
                       for s in self.numpy().ravel())
        return self.dtype.file_bytes(self.size)

    def raw(self) -> memoryview:
        """The elements as little-endian `raw_data` (not for strings)."""
        return self.storage.raw(self.dtype, self.shape)

    def item(self) -> Any:
        """The only element, as a Python number or string."""
        return self.numpy().reshape(-1)[0].item() if self.dtype is not dtypes.STRING else self.numpy().reshape(-1)[0]

    def __repr__(self) -> str:
        return f"Tensor({self.dtype.name}{list(self.shape)}{' ' + self.name if self.name else ''})"


class SparseTensor:
    """A sparse constant: `values` of shape (nnz,), `indices` (nnz,) linear or (nnz, rank), and the dense `shape`."""

    __slots__ = ("indices", "kept", "shape", "values")

    def __init__(self, values: Tensor, indices: Tensor, shape: Sequence[int], *, kept: Any = None):
        self.values, self.indices, self.shape, self.kept = values, indices, tuple(shape), kept

    @property
    def name(self) -> str:
        return self.values.name

    def numpy(self) -> NDArray[Any]:
        """The dense array.

        Raises:
            ModelError: indices and values do not match, an index lies outside the dims, or the array would be larger
                than `GESHER_BUDGET_MB`.
        """
        size = count(self.shape) * max(self.values.dtype.numpy.itemsize, 1)
        if size > BUDGET_MB.number << 20:
            # A few bytes of a file must not ask for all the memory there is.
            raise ModelError(f"the dense array of dims {list(self.shape)} would take {size >> 20} MB",
                             rule="sparse-tensor", place=f"sparse tensor {self.name!r}",
                             advice=f"{BUDGET_MB.name} allows {BUDGET_MB.text}")
        indices, values = self.indices.numpy(), self.values.numpy()
        size = count(self.shape)
        limits = np.array(self.shape, np.int64) if indices.ndim == 2 else size
        if values.ndim != 1 or indices.shape not in ((len(values),), (len(values), len(self.shape))) \
                or (indices < 0).any() or (indices >= limits).any():
            raise ModelError(f"the indices {list(indices.shape)} and values {list(values.shape)} of a sparse tensor do "
                             f"not fit each other or its dims {list(self.shape)}", rule="sparse-tensor")
        dense = np.zeros(self.shape, self.values.dtype.numpy)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
        return dense


def count(shape: Sequence[int]) -> int:
    """The number of elements of a shape, in Python's unbounded integers.

    Raises:
        ModelError: a dim is negative.
    """
    n = 1
    for d in shape:
        if d < 0:
            raise ModelError(f"a tensor has the negative dim {d} in {list(shape)}", rule="tensor-dims")
        n *= d
    return n


def _same_count(have: int, want: int, dtype: DType, shape: tuple[int, ...]) -> None:
    if have != want:
        raise ModelError(f"a {dtype.name} tensor of dims {list(shape)} needs {want} elements in {dtype.field}, "
                         f"the file gives {have}", rule="tensor-data")


def _strings(values: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    _same_count(len(values), count(shape), dtypes.STRING, shape)
    out = np.empty(len(values), object)
    for i, v in enumerate(values):
        if isinstance(v, (bytes, memoryview)):
            try:
                out[i] = str(v, "utf-8")
            except UnicodeDecodeError:
                out[i] = bytes(v)
        else:
            out[i] = v
    return out.reshape(shape)


def unpack(view: memoryview | bytes, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array over little-endian file bytes: a view where types are a byte or wider, else one element per byte.

    Raises:
        ModelError: the bytes are not as many as the dims say.
    """
    n = count(shape)
    want = dtype.file_bytes(n)
    if want < 0:
        raise ModelError(f"a {dtype.name} tensor cannot be stored as raw bytes", rule="tensor-data")
    if len(view) != want:
        raise ModelError(f"a {dtype.name} tensor of dims {list(shape)} takes {want} bytes, the file gives {len(view)}",
                         rule="tensor-data", advice="the file is cut, or its dims or data type are wrong")
    if dtype.bits == 6:
        return _unpack_six(view, n).view(dtype.numpy).reshape(shape)
    if not dtype.packed:
        array = np.frombuffer(view, dtype.numpy) if n else np.empty(0, dtype.numpy)
        if not _LITTLE and array.dtype.itemsize > 1:
            array = array.byteswap()
        return array.reshape(shape)
    per, mask = 8 // dtype.bits, (1 << dtype.bits) - 1
    data = np.frombuffer(view, np.uint8)
    parts = np.empty((len(data), per), np.uint8)
    for i in range(per):
        parts[:, i] = (data >> (dtype.bits * i)) & mask
    flat = parts.reshape(-1)[:n]
    if dtype.kind == "int":
        sign = 1 << (dtype.bits - 1)
        return ((flat ^ sign).astype(np.int8) - sign).astype(dtype.numpy).reshape(shape)
    if dtype.kind == "uint":
        return flat.astype(dtype.numpy).reshape(shape)
    return flat.view(dtype.numpy).reshape(shape)


def pack(array: NDArray[Any], dtype: DType) -> memoryview:
    """The little-endian file bytes of an array: the inverse of `unpack`."""
    if dtype is dtypes.STRING:
        raise ModelError("strings cannot be stored as raw bytes", rule="tensor-data")
    array = np.ascontiguousarray(array)
    if dtype.bits == 6:
        return _pack_six(array.reshape(-1).view(np.uint8))
    if not dtype.packed:
        if not _LITTLE and array.dtype.itemsize > 1:
            array = array.byteswap()
        # A view of bytes first: memoryview knows nothing of the ml_dtypes types.
        return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    per, mask = 8 // dtype.bits, (1 << dtype.bits) - 1
    if dtype.is_integer:
        bits = array.reshape(-1).astype(np.int8).view(np.uint8) & mask
    else:
        bits = array.reshape(-1).view(np.uint8) & mask
    padded = np.zeros(-(-bits.size // per) * per, np.uint8)
    padded[:bits.size] = bits
    out = np.zeros(padded.size // per, np.uint8)
    for i in range(per):
        out |= padded[i::per] << (dtype.bits * i)
    return out.data


# Four 6-bit elements take three bytes, as one little-endian number of 24 bits whose lowest six are the first.


def _unpack_six(view: memoryview | bytes, n: int) -> NDArray[Any]:
    groups = np.zeros((-(-n // 4), 3), np.uint32)
    groups.reshape(-1)[:len(view)] = np.frombuffer(view, np.uint8)
    words = groups[:, 0] | groups[:, 1] << 8 | groups[:, 2] << 16
    return (words[:, None] >> np.arange(0, 24, 6, dtype=np.uint32) & 63).astype(np.uint8).reshape(-1)[:n]


def _pack_six(bits: NDArray[Any]) -> memoryview:
    groups = np.zeros((-(-bits.size // 4), 4), np.uint32)
    groups.reshape(-1)[:bits.size] = bits & 63
    words = groups[:, 0] | groups[:, 1] << 6 | groups[:, 2] << 12 | groups[:, 3] << 18
    out = (words[:, None] >> np.arange(0, 24, 8, dtype=np.uint32) & 255).astype(np.uint8).reshape(-1)
    return out[:(bits.size * 6 + 7) // 8].data
