"""Universal Binary JSON, draft 12, as far as XGBoost writes it: values big-endian, arrays of one type in a row.

Source: https://ubjson.org. Arrays of numbers that name their type and count come as numpy arrays, all else as what the
`json` module would give.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from gesher.base.errors import FormatError

_NUMBERS = {"i": "b", "U": "B", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}
_ARRAYS = {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_WORDS = {"Z": None, "T": True, "F": False}
_DEEPEST = 200


def parse(data: bytes | bytearray | memoryview) -> Any:
    """The value that the bytes say.

    Raises:
        FormatError: they are no UBJSON.

    >>> parse(b"{i" + bytes([1]) + b"a[$U#U" + bytes([2, 7, 8]) + b"}")
    {'a': array([7, 8], dtype=uint8)}
    """
    reader = _Reader(memoryview(data))
    try:
        value = reader.value(reader.mark(), 0)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise FormatError("the UBJSON ends, or breaks off, in the middle of a value", offset=reader.at) from None
    return value


class _Reader:
    def __init__(self, data: memoryview):
        self.data, self.at = data, 0

    def mark(self) -> str:
        """The next type marker; no-ops are skipped."""
        while True:
            found = chr(self.data[self.at])
            self.at += 1
            if found != "N":
                return found

    def number(self, mark: str) -> Any:
        code = _NUMBERS.get(mark)
        if code is None:
            raise FormatError(f"there is no UBJSON type {mark!r}", offset=self.at - 1)
        (value,) = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def text(self) -> str:
        size = self.length()
        raw = bytes(self.data[self.at:self.at + size])
        if len(raw) != size:
            raise IndexError
        self.at += size
        return raw.decode("utf-8")

    def length(self) -> int:
        mark = self.mark()
        if mark not in "iUIlL":
            raise FormatError(f"a length has the UBJSON type {mark!r}, which is no integer", offset=self.at - 1)
        size = int(self.number(mark))
        if size < 0:
            raise FormatError(f"a length is {size}", offset=self.at)
        return size

    def shape(self) -> tuple[str | None, int | None]:
        """The type and count that a container may announce."""
        kind = count = None
        if chr(self.data[self.at]) == "$":
            kind = chr(self.data[self.at + 1])
            self.at += 2
        if chr(self.data[self.at]) == "#":
            self.at += 1
            count = self.length()
        elif kind is not None:
            raise FormatError("a container names its type and no count", offset=self.at)
        return kind, count

    def value(self, mark: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise FormatError(f"containers are nested deeper than {_DEEPEST}", offset=self.at)
        if mark == "S" or mark == "H":
            return self.text()
        if mark == "C":
            self.at += 1
            return chr(self.data[self.at - 1])
        if mark in _WORDS:
            return _WORDS[mark]
        if mark == "[":
            return self.array(depth)
        if mark == "{":
            return self.object(depth)
        return self.number(mark)

    def array(self, depth: int) -> Any:
        kind, count = self.shape()
        if kind in _ARRAYS and count is not None:
            dtype = np.dtype(_ARRAYS[kind])
            end = self.at + count * dtype.itemsize
            if end > len(self.data):
                raise IndexError
            found = np.frombuffer(self.data[self.at:end], dtype).astype(dtype.newbyteorder("="))
            self.at = end
            return found
        items: list[Any] = []
        while count is None or len(items) < count:
            mark = kind or self.mark()
            if count is None and mark == "]":
                break
            items.append(self.value(mark, depth + 1))
        return items

    def object(self, depth: int) -> dict[str, Any]:
        kind, count = self.shape()
        items: dict[str, Any] = {}
        left = count
        while left is None or left > 0:
            if left is None and chr(self.data[self.at]) == "}":
                self.at += 1
                break
            key = self.text()
            items[key] = self.value(kind or self.mark(), depth + 1)
            left = None if left is None else left - 1
        return items
