"""Protobuf's wire, as far as it knows nothing of ONNX: varints, runs of numbers, what is skipped, what is refused.

A message is a row of records, each a tag (field number and wire type) and a payload. The wire is looser than a reader
expects: fields come in any order, a number may be written in more bytes than it needs, a list of numbers may be
packed into one record or not or both, and a message may come in several pieces that are to be joined. All of that is
accepted.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from gesher.base.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .messages import Message

# What protobuf's own readers allow; a deeper file could be read by nobody else.
DEPTH_LIMIT = 100

WIRE_NAMES = {0: "a varint", 1: "eight bytes", 2: "a length and bytes", 3: "the start of a group",
              4: "the end of a group", 5: "four bytes"}


class Source:
    """The bytes that a message is read from: `buf` for walking, `view` for slices that are not copied.

    Attributes:
        buf: bytes, or the memory map of a file; both give ints by index and bytes by slice.
        view: the same as a read-only memoryview.
        path: where it came from, if from a file.
        stamp: (device, inode, size, time of change) of the file when it was opened.
        shared: messages of fields that repeat, by their bytes.
    """

    __slots__ = ("buf", "path", "shared", "stamp", "view")

    def __init__(self, buf: bytes | mmap.mmap, path: Path | None = None, stamp: tuple[int, ...] | None = None):
        self.buf = buf
        self.view = memoryview(buf).toreadonly()
        self.path = path
        self.stamp = stamp
        self.shared: dict[bytes, Message] = {}

    def __len__(self) -> int:
        return len(self.view)

    @property
    def name(self) -> str:
        return self.path.name if self.path is not None else "these bytes"


def varint(buf: Any, pos: int, end: int) -> tuple[int, int]:
    """The unsigned number at `pos` and the position behind it.

    Raises:
        FormatError: it runs past `end`, or past 64 bits.
    """
    start, shift, value = pos, 0, 0
    while True:
        if pos >= end:
            raise FormatError("a number is cut off by the end of its message", offset=start)
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise FormatError("a number takes more than ten bytes", offset=start)
    if value >> 64:
        raise FormatError("a number takes more than 64 bits", offset=start)
    return value, pos


def int32(value: int) -> int:
    """The low 32 bits of a varint as a signed number, which is how protobuf cuts one that is too long."""
    value &= 0xFFFFFFFF
    return value - 0x1_0000_0000 if value > 0x7FFFFFFF else value


def overrun(start: int, size: int, end: int) -> FormatError:
    """The error for a payload that ends behind the message (or file) that holds it."""
    left = max(end - start, 0)
    return FormatError(f"a field says that it is {size} bytes long, but {left} are left",
                       offset=start, advice="the file is cut, or it is not an ONNX model")


def stray(source: Source, cls: type[Message], tag: int, at: int, pos: int, end: int,
          unknown: Sequence[bytes | memoryview]) -> tuple[int, list[bytes | memoryview]]:
    """Step over the record at `at` that the table of `cls` does not know; its payload starts at `pos`.

    Returns the position behind it, and the unknown fields with this one.

    Raises:
        FormatError: the field is known, but not with this wire type; or this is no record.
    """
    number, wire = tag >> 3, tag & 7
    if wire > 5 or number == 0 or tag > 0xFFFFFFFF:
        raise FormatError(f"no field can start with the tag {tag}", offset=at,
                          advice="the file is damaged, or it is not an ONNX model")
    known = cls.by_number.get(number)
    if known is not None:
        raise FormatError(f"{cls.full_name}.{known.name} is written as {WIRE_NAMES[wire]}, but it is {known.kind}",
                          offset=at, advice="the file is damaged, or it is not an ONNX model")
    pos = skip(source.buf, tag, at, pos, end)
    kept = list(unknown) if not isinstance(unknown, list) else unknown
    # A large one stays in the file; a small one is not worth keeping the file for.
    kept.append(source.view[at:pos] if pos - at > 4096 else bytes(source.view[at:pos]))
    return pos, kept


def skip(buf: Any, tag: int, at: int, pos: int, end: int) -> int:
    """The position behind the payload at `pos` of a record whose tag is known; groups are stepped over whole."""
    open_groups: list[int] = []
    while True:
        wire = tag & 7
        if wire == 0:
            _, pos = varint(buf, pos, end)
        elif wire == 1:
            pos += 8
        elif wire == 5:
            pos += 4
        elif wire == 2:
            size, start = varint(buf, pos, end)
            if start + size > end:
                raise overrun(start, size, end)
            pos = start + size
        elif wire == 3:
            if len(open_groups) >= DEPTH_LIMIT:
                raise FormatError(f"groups are nested more than {DEPTH_LIMIT} deep", offset=at)
            open_groups.append(tag >> 3)
        elif wire == 4:
            if not open_groups or open_groups.pop() != tag >> 3:
                raise FormatError("the end of a group that was not begun", offset=at)
        else:
            raise FormatError(f"no field can start with the tag {tag}", offset=at)
        if pos > end:
            raise overrun(at, pos - at, end)
        if not open_groups:
            return pos
        at = pos
        tag, pos = varint(buf, pos, end)


def records(buf: Any, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The records of a message that was read before: (tag, where it starts, where its payload starts and ends)."""
    pos = start
    while pos < end:
        at = pos
        tag, pos = varint(buf, pos, end)
        payload = pos
        if tag & 7 == 2:
            size, payload = varint(buf, pos, end)
            pos = payload + size
        else:
            pos = skip(buf, tag, at, pos, end)
        yield tag, at, payload, pos


# Numbers in a row.

_WIDTH = {"float": 4, "double": 8}
_NUMPY = {"float": "<f4", "double": "<f8", "int64": "<i8", "int32": "<i4", "uint64": "<u8", "enum": "<i4"}
# Nine bytes that go on, then one that goes on too or does not fit into what is left of 64 bits.
_TOO_LONG = re.compile(rb"[\x80-\xff]{9}[\x02-\xff]")
_ONE_FLOAT = struct.Struct("<xf")
_ONE_DOUBLE = struct.Struct("<xd")


def check_packed(source: Source, kind: str, start: int, end: int) -> None:
    """Raise `FormatError` where these bytes are not a row of numbers; nothing is decoded."""
    width = _WIDTH.get(kind)
    if width is not None:
        if (end - start) % width:
            raise FormatError(f"{end - start} bytes are no row of {kind} numbers of {width} bytes", offset=start)
        return
    if end > start and source.buf[end - 1] > 0x7F:
        raise FormatError("the last number of a row is cut off", offset=start)
    bad = _TOO_LONG.search(source.buf, start, end)
    if bad is not None:
        raise FormatError("a number takes more than 64 bits", offset=bad.start())


class Numbers(Sequence[Any]):
    """A row of numbers as the file holds it, decoded when first read; `numpy()` gives it as an array.

    Attributes:
        kind: `int64`, `int32`, `uint64`, `float` or `double`.
    """

    __slots__ = ("_array", "_pieces", "kind")

    def __init__(self, kind: str, piece: memoryview | bytes | bytearray = b""):
        self.kind = kind
        self._pieces: list[Any] = [piece] if len(piece) else []
        self._array: Any = None

    def add_packed(self, source: Source, start: int, end: int) -> None:
        """Join a further packed record, already checked."""
        if end - start < 4096:
            self.add_one(source.buf[start:end])
        else:
            self._pieces.append(source.view[start:end])
        self._array = None

    def add_one(self, number: bytes) -> None:
        """Join one number that was written by itself, as its payload (or a few)."""
        if not self._pieces or not isinstance(self._pieces[-1], bytearray):
            self._pieces.append(bytearray())
        self._pieces[-1] += number
        self._array = None

    def extend(self, other: Numbers) -> None:
        """Join another row of the same kind."""
        self._pieces.extend(other._pieces)
        self._array = None

    @property
    def data(self) -> memoryview:
        """The packed bytes in one piece."""
        if len(self._pieces) == 1 and isinstance(self._pieces[0], memoryview):
            return self._pieces[0]
        whole = memoryview(b"".join(self._pieces))
        self._pieces = [whole]
        return whole

    def numpy(self) -> NDArray[Any]:
        """The numbers as an array; floats are a view of the file."""
        if self._array is None:
            import numpy as np

            if self.kind in _WIDTH:
                self._array = np.frombuffer(self.data, _NUMPY[self.kind])
            else:
                self._array = _varints(self.data, self.kind)
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy()
        return array.astype(dtype) if dtype is not None and dtype != array.dtype else array

    def __bool__(self) -> bool:
        # Without counting: every piece holds at least one number.
        return bool(self._pieces)

    def __len__(self) -> int:
        width = _WIDTH.get(self.kind)
        return len(self.data) // width if width else len(self.numpy())

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.numpy()[index].tolist()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def tolist(self) -> list[Any]:
        """The numbers as Python's; short rows do not need numpy."""
        data = self.data
        if self.kind in _WIDTH or len(data) > 256:
            return self.numpy().tolist()
        pos, end, out = 0, len(data), []
        while pos < end:
            value, pos = varint(data, pos, end)
            out.append(value)
        if self.kind == "int64":
            return [v - (1 << 64) if v >> 63 else v for v in out]
        return out if self.kind == "uint64" else [int32(v) for v in out]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Numbers):
            return self.kind == other.kind and (self.data == other.data or self.tolist() == other.tolist())
        return isinstance(other, (list, tuple)) and self.tolist() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Numbers({self.kind}, {len(self)})"


def _varints(data: memoryview, kind: str) -> NDArray[Any]:
    import numpy as np

    raw = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(raw < 0x80)
    first = np.empty_like(last)
    if len(last):
        first[0] = 0
        first[1:] = last[:-1] + 1
    return _numbers_at(raw, first, last, kind)


def _numbers_at(raw: NDArray[Any], first: NDArray[Any], last: NDArray[Any], kind: str) -> NDArray[Any]:
    """The varints that reach from `first` to `last` each."""
    import numpy as np

    length = last - first
    out = (raw[first] & 0x7F).astype(np.uint64)
    for k in range(1, int(length.max(initial=0)) + 1):
        longer = np.flatnonzero(length >= k)
        out[longer] |= (raw[first[longer] + k] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * k)
    if kind == "int64":
        return out.view(np.int64)
    return out if kind == "uint64" else out.astype(np.uint32).view(np.int32)


def packed_list(source: Source, kind: str, start: int, end: int) -> list[Any]:
    """A packed record as a list, checked."""
    check_packed(source, kind, start, end)
    if kind == "float":
        return list(struct.unpack(f"<{(end - start) // 4}f", source.view[start:end]))
    if kind == "double":
        return list(struct.unpack(f"<{(end - start) // 8}d", source.view[start:end]))
    return Numbers(kind, source.view[start:end]).tolist()


def run_of_varints(buf: Any, pos: int, end: int, tag: int, kind: str, out: list[int]) -> int:
    """Append the numbers of all records that follow at `pos` with the same one-byte tag; returns where that ends."""
    append = out.append
    many = pos + 256
    while pos < end and buf[pos] == tag:
        value = buf[pos + 1]
        if value < 0x80:
            pos += 2
        else:
            value, pos = varint(buf, pos + 1, end)
            if kind != "uint64":
                value = int32(value) if kind != "int64" else value - (1 << 64) if value >> 63 else value
        append(value)
        if pos > many:
            pos = _long_run(buf, pos, end, tag, kind, out)
            many = end
    return pos


def _long_run(buf: Any, pos: int, end: int, tag: int, kind: str, out: list[int]) -> int:
    """The same, many at a time. What is not plainly right is left for the one who looks at each."""
    import numpy as np

    window = 1024
    while True:
        raw = np.frombuffer(buf[pos:min(end, pos + window)], np.uint8)
        last = np.flatnonzero(raw < 0x80)
        # Tags and values by turns; a tag is a byte of its own, and no value is longer than nine here.
        last = last[:len(last) // 2 * 2]
        first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
        tags, values = first[::2], first[1::2]
        wrong = (raw[tags] != tag) | (last[::2] != tags) | (last[1::2] - values > 8)
        found = int(wrong.argmax()) if wrong.any() else len(wrong)
        if found:
            out += _numbers_at(raw, values[:found], last[1::2][:found], kind).tolist()
            pos += int(last[2 * found - 1]) + 1
        if found < len(wrong) or len(raw) < window:
            return pos
        window = min(2 * window, 1 << 20)


def run_of_bytes(buf: Any, pos: int, end: int, tag: int, out: list[bytes]) -> int:
    """Append the bytes of all short records that follow at `pos` with the same one-byte tag."""
    append = out.append
    while pos < end and buf[pos] == tag:
        size = buf[pos + 1]
        stop = pos + 2 + size
        if size > 0x7F or stop > end:
            return pos
        append(buf[pos + 2:stop])
        pos = stop
    return pos


def run_of_fixed(buf: Any, pos: int, end: int, tag: int, kind: str, out: list[float]) -> int:
    """The same for floats and doubles, which are looked at many at a time."""
    one = _ONE_FLOAT if kind == "float" else _ONE_DOUBLE
    size = one.size
    mark, window = bytes((tag,)), 16
    # The window grows only while it is filled, so that looking ahead costs no more than what is read.
    while True:
        tags = buf[pos:pos + min(window, (end - pos) // size) * size:size]
        found = len(tags) - len(tags.lstrip(mark))
        out.extend(chain.from_iterable(one.iter_unpack(buf[pos:pos + found * size])))
        pos += found * size
        if found < window:
            return pos
        window *= 2


def encode_varint(value: int) -> bytes:
    """A number as its varint; negative ones as ten bytes, as protobuf does.

    >>> encode_varint(300).hex(), encode_varint(-1).hex()
    ('ac02', 'ffffffffffffffffff01')
    """
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_varints(values: Any, tag: bytes = b"") -> bytes:
    """Whole numbers in a row, each behind `tag`; with none, a packed payload."""
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        return b"".join([tag + encode_varint(int(v)) for v in array.tolist()])
    # A million at a time, because each takes ten bytes on the way.
    return b"".join([_encode_varints(array[i:i + 1_000_000], tag) for i in range(0, array.size, 1_000_000)])


def _encode_varints(array: NDArray[Any], tag: bytes = b"") -> bytes:
    """Numbers in a row, each behind `tag`."""
    import numpy as np

    ahead = len(tag)
    rest = array.astype(np.int64).view(np.uint64) if array.dtype.kind == "i" else array.astype(np.uint64)
    if not ahead and rest.max(initial=0) < 0x80:
        return rest.astype(np.uint8).tobytes()
    columns = np.empty((rest.size, ahead + 10), np.uint8)
    columns[:, :ahead] = np.frombuffer(tag, np.uint8)
    length = np.full(rest.size, ahead + 1)
    for k in range(ahead, ahead + 10):
        more = rest > 0x7F
        columns[:, k] = (rest & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
        rest = rest >> np.uint64(7)
        length += more
    return columns[np.arange(ahead + 10) < length[:, None]].tobytes()
