"""From messages to bytes, the way ONNX's own writer lays them out: fields by number, what is unknown behind them.

The result is a row of pieces instead of one string of bytes: the bytes of large tensors are handed on as the views
that they are, so that a model of any size is written without being built in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from gesher.base.errors import GesherError, ModelError

from .messages import Field, Message
from .wire import DEPTH_LIMIT, Numbers, encode_varint, encode_varints

Piece = bytes | memoryview

# Below this a piece is copied into its neighbour; above, it stays a view.
_SMALL = 1 << 16
# Lists longer than this are encoded all at once.
_MANY = 64


def encode(message: Message) -> bytes:
    """The bytes of a message, in one string.

    Raises:
        ModelError: a value does not fit its field; with the path of fields down to it.

    >>> from gesher.codec.messages import OperatorSetIdProto
    >>> encode(OperatorSetIdProto(domain="", version=21)).hex()
    '0a001015'
    """
    return b"".join(encode_pieces(message))


def encode_pieces(message: Message, depth: int = 0) -> list[Piece]:
    """The bytes of a message, in pieces to be written one after another."""
    if depth > DEPTH_LIMIT:
        raise too_deep()
    out: list[Piece] = []
    for f, value in message.written():
        try:
            out += encode_field(f, value, depth)
        except GesherError as e:
            raise e.within(f.name) from None
    out += message.unknown
    return joined(out)


def too_deep() -> ModelError:
    return ModelError(f"the model is nested more than {DEPTH_LIMIT} messages deep", rule="nesting",
                      advice="no protobuf reader would take such a file; inline the inner graphs")


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same bytes with small pieces put together."""
    if sum(map(len, pieces)) < _SMALL:
        return [b"".join(pieces)] if pieces else []
    out: list[Piece] = []
    small: list[Piece] = []
    for p in pieces:
        if len(p) >= _SMALL:
            if small:
                out.append(b"".join(small))
                small = []
            out.append(p)
        else:
            small.append(p)
    if small:
        out.append(b"".join(small))
    return out


def record(number: int, content: Iterable[Piece]) -> list[Piece]:
    """A length-delimited record of a field with these bytes."""
    content = list(content)
    return [encode_varint(number << 3 | 2) + encode_varint(sum(map(len, content))), *content]


def encode_field(f: Field, value: Any, depth: int = 0) -> list[Piece]:
    """All records of one field, tags included."""
    if f.packed:
        return record(f.number, [_packed(f, value)])
    if not f.repeated:
        return _record_of(f, value, depth)
    if f.kind == "bytes" and len(value) > _MANY and all(type(v) is bytes for v in value):
        # Long lists of few different strings are common: modes of tree nodes, labels.
        records = {v: b"".join(record(f.number, [v])) for v in set(value)}
        return [b"".join([records[v] for v in value])]
    if f.is_message or f.wire == 2:
        out: list[Piece] = []
        for i, v in enumerate(value):
            try:
                out += _record_of(f, v, depth)
            except GesherError as e:
                raise e.within(f"[{i}]") from None
        return out
    tag = encode_varint(f.number << 3 | f.wire)
    if len(value) > _MANY:
        quick = _many(f, value, tag)
        if quick is not None:
            return [quick]
    if f.wire == 0:
        return [b"".join([tag + encode_varint(_whole(f, v)) for v in value])]
    return [b"".join([tag + _fixed(f, v) for v in value])]


def _many(f: Field, value: Any, tag: bytes) -> bytes | None:
    """Records of many numbers at once; None where some of them do not fit, for the one who tells which."""
    import numpy as np

    try:
        array = np.asarray(value, "<f8" if f.wire else "<i8")
    except (OverflowError, ValueError, TypeError):
        return None
    if f.wire == 0:
        low, high = _LIMITS[f.kind]
        # A float would have been cut to a whole number without a word.
        if any(type(v) is not int for v in value) or array.min() < low or array.max() >= min(high, (1 << 63) - 1):
            return None
        return encode_varints(array, tag)
    with np.errstate(over="ignore"):
        numbers = array.astype("<f4" if f.kind == "float" else "<f8")
    if (np.isinf(numbers) & ~np.isinf(array)).any():
        return None
    out = np.empty((len(array), len(tag) + numbers.itemsize), np.uint8)
    out[:, :len(tag)] = np.frombuffer(tag, np.uint8)
    out[:, len(tag):] = numbers.view(np.uint8).reshape(len(array), -1)
    return out.tobytes()


def _record_of(f: Field, value: Any, depth: int) -> list[Piece]:
    if f.is_message:
        return record(f.number, encode_pieces(value, depth + 1))
    if f.wire == 2:
        return record(f.number, [as_bytes(f, value)])
    tag = encode_varint(f.number << 3 | f.wire)
    return [tag + (encode_varint(_whole(f, value)) if f.wire == 0 else _fixed(f, value))]


def as_bytes(f: Field, value: Any) -> Piece:
    """The payload of a string or bytes field."""
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ModelError(f"{value!r} is no text that a file can hold", rule="field-value") from None
    if f.kind == "string":
        raise ModelError(f"{f.name} takes text, not {type(value).__name__}", rule="field-value")
    if isinstance(value, bytes):
        return value
    view = memoryview(value)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


_LIMITS = {"int64": (-(1 << 63), 1 << 63), "uint64": (0, 1 << 64), "int32": (-(1 << 31), 1 << 31),
           "enum": (-(1 << 31), 1 << 31)}


def _whole(f: Field, value: Any) -> int:
    number = int(value)
    low, high = _LIMITS[f.kind]
    if not low <= number < high or number != value:
        raise ModelError(f"{value!r} does not fit into {f.name}, which is {f.kind}", rule="field-value")
    return number


def _fixed(f: Field, value: Any) -> bytes:
    try:
        return struct.pack("<f" if f.kind == "float" else "<d", value)
    except (OverflowError, struct.error):
        raise ModelError(f"{value!r} does not fit into {f.name}, which is {f.kind}", rule="field-value") from None


def _packed(f: Field, value: Any) -> Piece:
    if isinstance(value, Numbers):
        return value.data
    if f.wire:
        import numpy as np

        return np.ascontiguousarray(value, "<f4" if f.kind == "float" else "<f8").data.cast("B")
    if isinstance(value, (list, tuple)):
        return b"".join([encode_varint(_whole(f, v)) for v in value])
    return encode_varints(value)
