"""Universal Binary JSON, draft 12, as far as XGBoost writes it: values big-endian, arrays of one type in a row.

Source: https://ubjson.org. Arrays of numbers that name their type and count come as numpy arrays, all else as what the
`json` module would give.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from gesher.base.errors import FormatError

_NUMBERS = {ord(m): struct.Struct(code) for m, code in
            {"i": "b", "U": "B", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}.items()}
_ARRAYS = {ord(m): (np.dtype(code), np.dtype(code).newbyteorder("=")) for m, code in
           {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}.items()}
_WORDS = {ord("Z"): None, ord("T"): True, ord("F"): False}
_LENGTHS = frozenset(b"iUIlL")
_DEEPEST = 200


def parse(data: bytes | bytearray | memoryview) -> Any:
    """The value that the bytes say.

    Raises:
        FormatError: they are no UBJSON.

    >>> parse(b"{i" + bytes([1]) + b"a[$U#U" + bytes([2, 7, 8]) + b"}")
    {'a': array([7, 8], dtype=uint8)}
    """
    reader = _Reader(bytes(data))
    try:
        value = reader.value(reader.mark(), 0)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise FormatError("the UBJSON ends, or breaks off, in the middle of a value", offset=reader.at) from None
    return value


class _Reader:
    """Bytes and a place in them; markers are numbers, since bytes give those."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def mark(self) -> int:
        """The next type marker; no-ops are skipped."""
        found = self.data[self.at]
        self.at += 1
        while found == 78:  # N
            found = self.data[self.at]
            self.at += 1
        return found

    def number(self, mark: int) -> Any:
        form = _NUMBERS.get(mark)
        if form is None:
            raise FormatError(f"there is no UBJSON type {chr(mark)!r}", offset=self.at - 1)
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def text(self) -> str:
        size = self.length()
        end = self.at + size
        if end > len(self.data):
            raise IndexError
        raw = self.data[self.at:end]
        self.at = end
        return raw.decode("utf-8")

    def length(self) -> int:
        mark = self.mark()
        if mark not in _LENGTHS:
            raise FormatError(f"a length has the UBJSON type {chr(mark)!r}, which is no integer", offset=self.at - 1)
        size = int(self.number(mark))
        if size < 0:
            raise FormatError(f"a length is {size}", offset=self.at)
        return size

    def shape(self) -> tuple[int | None, int | None]:
        """The type and count that a container may announce."""
        kind = count = None
        if self.data[self.at] == 36:  # $
            kind = self.data[self.at + 1]
            self.at += 2
        if self.data[self.at] == 35:  # #
            self.at += 1
            count = self.length()
        elif kind is not None:
            raise FormatError("a container names its type and no count", offset=self.at)
        return kind, count

    def value(self, mark: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise FormatError(f"containers are nested deeper than {_DEEPEST}", offset=self.at)
        if mark == 91:  # [
            return self.array(depth)
        if mark == 123:  # {
            return self.object(depth)
        if mark == 83 or mark == 72:  # S, H
            return self.text()
        if mark == 67:  # C
            self.at += 1
            return chr(self.data[self.at - 1])
        return _WORDS[mark] if mark in _WORDS else self.number(mark)

    def array(self, depth: int) -> Any:
        kind, count = self.shape()
        if kind is not None and count is not None and kind in _ARRAYS:
            stored, native = _ARRAYS[kind]
            end = self.at + count * stored.itemsize
            if end > len(self.data):
                raise IndexError
            found = np.frombuffer(self.data, stored, count, self.at).astype(native)
            self.at = end
            return found
        items: list[Any] = []
        while count is None or len(items) < count:
            mark = self.mark() if kind is None else kind
            if count is None and mark == 93:  # ]
                break
            items.append(self.value(mark, depth + 1))
        return items

    def object(self, depth: int) -> dict[str, Any]:
        kind, count = self.shape()
        items: dict[str, Any] = {}
        left = count
        while left is None or left > 0:
            if left is None and self.data[self.at] == 125:  # }
                self.at += 1
                break
            key = self.text()
            items[key] = self.value(self.mark() if kind is None else kind, depth + 1)
            left = None if left is None else left - 1
        return items
