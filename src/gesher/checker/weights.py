"""The numbers of weights: NaN and infinities, subnormals, and the same numbers stored twice.

What a reader would guess wrong:

- Unless all are asked for, only the smallest tensors are read, `_BUDGET` bytes together: to check a model of many
  gigabytes must not read it.
- Bits are counted, not numbers: an integer comparison tells NaN from subnormal for every float type alike.
- Bytes of a mapped file count as memory of this process while they are mapped in, so they are let go as they are read.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gesher.base.dtypes import DType
from gesher.base.errors import GesherError
from gesher.ir import ArrayStorage, Graph, LazyStorage, RawStorage, SparseTensor, Tensor

from .context import Context

_BUDGET = 16 << 20
_PIECE = 4 << 20
# Below, a second copy costs nothing worth a line.
_LARGE = 16 << 10
_EDGE = 4096

# Exponent bits all set, and the lowest exponent, as unsigned numbers: (bytes, infinity, smallest normal number).
# float16 is left out of the search for subnormals: they are 1 in 10 of the weights of many a right model.
_LAYOUTS: dict[str, tuple[int, int, int]] = {
    "float":    (4, 0x7F80_0000, 0x0080_0000),
    "double":   (8, 0x7FF0_0000_0000_0000, 0x0010_0000_0000_0000),
    "bfloat16": (2, 0x7F80, 0x0080),
    "float16":  (2, 0x7C00, 0),
    "complex64":  (4, 0x7F80_0000, 0x0080_0000),
    "complex128": (8, 0x7FF0_0000_0000_0000, 0x0010_0000_0000_0000),
}


class _Weight(NamedTuple):
    tensor: Tensor
    place: str
    graph: Graph


def check(context: Context) -> None:
    """Look at the numbers of the initializers, as far as `context.weights` allows."""
    if context.weights is False:
        return
    found = sorted(_weights(context), key=lambda w: w.tensor.nbytes)
    reader = _Reader(None if context.weights else _BUDGET)
    for w in found:
        if w.tensor.dtype.is_float or w.tensor.dtype.kind == "complex":
            _numbers(context, w, reader)
    _duplicates(context, found, reader if context.weights else _Reader(_BUDGET))


def _weights(context: Context) -> Iterator[_Weight]:
    for graph in context.graphs:
        for v in graph.initializers:
            t = v.constant.values if isinstance(v.constant, SparseTensor) else v.constant
            # What lies in no one place, or is of no size, `tensors` tells of.
            if t is not None and _has_numbers(t):
                yield _Weight(t, f"initializer '{v.name}'", graph)
        for node in graph.nodes:
            # Some exporters write weights as Constant nodes.
            if node.op_type == "Constant" and isinstance(t := node.attr("value"), Tensor) and _has_numbers(t):
                yield _Weight(t, node.place, graph)


def _has_numbers(t: Tensor) -> bool:
    return all(d >= 0 for d in t.shape) and t.dtype.kind not in ("none", "string")


class _Reader:
    """Reads the bytes of tensors in pieces, within a budget (None: all)."""

    def __init__(self, budget: int | None):
        self.left = budget
        self._since = 0

    def takes(self, size: int) -> bool:
        """Whether `size` more bytes may be read; they count as read then."""
        if self.left is None:
            return True
        if size > self.left:
            return False
        self.left -= size
        return True

    def pieces(self, tensor: Tensor) -> Iterator[memoryview]:
        """The little-endian bytes of a tensor, a few megabytes at a time; nothing where they cannot be had."""
        try:
            view = tensor.raw()
        except GesherError:
            return  # `tensors` tells
        for start in range(0, len(view), _PIECE):
            yield view[start:start + _PIECE]
            self._since += _PIECE
            if self._since >= 8 * _PIECE:
                self._since = 0
                _let_go(tensor)
        if len(view) > _PIECE:
            _let_go(tensor)


def _let_go(tensor: Tensor) -> None:
    """Unmap what was read of a mapped file; reading it again maps it anew."""
    storage = tensor.storage
    if isinstance(storage, (RawStorage, LazyStorage)):
        source = storage.view.obj
        if isinstance(source, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            source.madvise(mmap.MADV_DONTNEED)


class _Count(NamedTuple):
    all: int
    nan: int
    infinite: int
    subnormal: int
    zero: int


def _numbers(context: Context, w: _Weight, reader: _Reader) -> None:
    tensor = w.tensor
    if not tensor.size or not reader.takes(tensor.nbytes):
        return
    total = _Count(0, 0, 0, 0, 0)
    for piece in reader.pieces(tensor):
        part = _counted(piece, tensor.dtype)
        if part is None:
            return
        total = _Count(*(a + b for a, b in zip(total, part)))
    place = context.place(w.graph, w.place)
    # A single infinity is the bound of a Clip or what a mask is filled with, and meant so.
    if total.nan or (total.infinite and tensor.size > 1):
        told = [f"{n:,} {word}" for n, word in ((total.nan, "NaN"), (total.infinite, "infinite")) if n]
        context.say("weight-not-finite", f"of {total.all:,} numbers {' and '.join(told)}", place)
    if total.subnormal >= 16 and total.subnormal * 100 >= total.all - total.zero:
        context.say("weight-subnormal", f"of {total.all:,} numbers {total.subnormal:,} are subnormal", place)


def _counted(piece: memoryview, dtype: DType) -> _Count | None:
    layout = _LAYOUTS.get(dtype.name)
    if layout is None:
        return _counted_bytes(piece, dtype) if dtype.bits == 8 else None
    size, infinity, smallest = layout
    bits = np.frombuffer(piece, f"<u{size}")
    magnitude = bits & bits.dtype.type((1 << (8 * size - 1)) - 1)
    # Least and greatest are found many times faster than anything can be counted, and mostly are the answer.
    zero = subnormal = infinite = nan = 0
    if not len(bits) or magnitude.min() < max(smallest, 1):
        zero = len(bits) - int(np.count_nonzero(magnitude))
        subnormal = int(np.count_nonzero(magnitude < smallest)) - zero if smallest else 0
    if len(bits) and magnitude.max() >= infinity:
        infinite = int(np.count_nonzero(magnitude == infinity))
        nan = int(np.count_nonzero(magnitude > infinity))
    return _Count(len(bits), nan, infinite, subnormal, zero)


def _counted_bytes(piece: memoryview, dtype: DType) -> _Count:
    """The 8-bit types have too many conventions for a formula, and too few numbers for one to be needed."""
    codes = np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    with np.errstate(all="ignore"):
        meaning: NDArray[Any] = np.arange(256, dtype=np.uint8).view(dtype.numpy).astype(np.float32)
    return _Count(len(piece), int(codes[np.isnan(meaning)].sum()), int(codes[np.isinf(meaning)].sum()), 0,
                  int(codes[meaning == 0].sum()))


def _duplicates(context: Context, weights: list[_Weight], reader: _Reader) -> None:
    alike: dict[Any, list[_Weight]] = {}
    for w in weights:
        if w.tensor.nbytes >= _LARGE:
            alike.setdefault((w.tensor.dtype.name, w.tensor.shape), []).append(w)
    for group in alike.values():
        # First by what can be had of a few pages, then by all.
        for near in _grouped(group, lambda w: _edges(w.tensor)):
            if not reader.takes(near[0].tensor.nbytes * len(near)):
                continue
            for same in _grouped(near, lambda w: _digest(w.tensor, reader)):
                _say_duplicate(context, same)


def _grouped(weights: list[_Weight], key: Any) -> list[list[_Weight]]:
    """The groups of two and more weights for which `key` gives the same; those that give None belong to none."""
    if len(weights) < 2:
        return []
    groups: dict[Any, list[_Weight]] = {}
    for w in weights:
        k = key(w)
        if k is not None:
            groups.setdefault(k, []).append(w)
    return [g for g in groups.values() if len(g) > 1]


def _edges(tensor: Tensor) -> bytes | None:
    if not isinstance(tensor.storage, (RawStorage, LazyStorage, ArrayStorage)):
        return None
    try:
        view = tensor.raw()
    except GesherError:
        return None
    return bytes(view[:_EDGE]) + bytes(view[-_EDGE:])


def _digest(tensor: Tensor, reader: _Reader) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in reader.pieces(tensor):
        digest.update(piece)
    return digest.digest()


def _say_duplicate(context: Context, same: list[_Weight]) -> None:
    places = {_address(w.tensor) for w in same}
    if len(places) < 2:
        return  # one stretch of a file that several names stand for
    first, *rest = same
    shown = ", ".join(w.place for w in rest[:3]) + (", ..." if len(rest) > 3 else "")
    context.say("weight-duplicate", f"the same {first.tensor.nbytes:,} bytes are in {shown}",
                context.place(first.graph, first.place))


def _address(tensor: Tensor) -> int:
    return int(np.frombuffer(tensor.raw(), np.uint8).__array_interface__["data"][0])
