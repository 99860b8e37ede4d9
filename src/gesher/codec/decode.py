"""From bytes to messages: for each row of the field table, the code that reads it.

A decoder per message is put together as Python text when it is first needed, because a loop that knows its fields by
name runs three times as fast as one that looks them up. To see one: `print(decode.text_of(NodeProto))`.

Nothing is left for later that could fail: every length, wire type and number is checked here, so that an error in the
bytes is told when the file is opened. Bytes of tensors stay where they are, as views; packed rows of numbers are
checked and decoded when first read.
"""

from __future__ import annotations

import struct
from copy import deepcopy
from typing import Any

from gesher.base.errors import FormatError

from . import wire
from .messages import MESSAGES, Field, Message
from .wire import Source

# The fields whose bytes may be the bulk of a file, and so are views of it.
VIEWS = {("TensorProto", "raw_data")}
# The fields that repeat few values often: equal bytes give the same message object, which is not to be written to.
SHARED = {("ValueInfoProto", "type")}


def decode(cls: type[Message], source: Source | bytes, start: int = 0, end: int | None = None) -> Any:
    """The message of type `cls` in `source[start:end]`.

    Raises:
        FormatError: the bytes are no such message; with the offset and the path of fields down to it.

    >>> from gesher.codec.messages import OperatorSetIdProto
    >>> decode(OperatorSetIdProto, bytes([0x10, 21])).version
    21
    """
    if not isinstance(source, Source):
        source = Source(source)
    try:
        return _decoder(cls.full_name)(source, start, len(source) if end is None else end, 0)
    finally:
        source.shared.clear()


def merge(into: Message, other: Message) -> Message:
    """Join a further piece of a message that a file wrote in several: later scalars win, lists grow."""
    for f in other.fields:
        value = getattr(other, f.name)
        if value is None or (f.repeated and len(value) == 0):
            continue
        old = getattr(into, f.name)
        if f.oneof:
            for g in into.fields:
                if g.oneof == f.oneof and g.name != f.name:
                    setattr(into, g.name, None)
        if f.repeated and len(old):
            old.extend(value)
            value = old
        elif f.is_message and not f.repeated and old is not None:
            value = merge(old, value)
        setattr(into, f.name, value)
    if other.unknown:
        into.unknown = into.unknown if isinstance(into.unknown, list) else []
        into.unknown.extend(other.unknown)
    into.until = -1
    return into


# Below: the making of decoders.

_namespace: dict[str, Any] = {}


def _decoder(full_name: str) -> Any:
    """The decode function of a message, built when first asked for."""
    name = _function(full_name)
    found = _namespace.get(name)
    if found is None or found.__name__ != name:
        if not _namespace:
            _namespace.update(
                new=object.__new__, varint=wire.varint, int32=wire.int32, overrun=wire.overrun, stray=wire.stray,
                encode_varint=wire.encode_varint, check_packed=wire.check_packed, packed_list=wire.packed_list,
                Numbers=wire.Numbers, run_of_varints=wire.run_of_varints, run_of_fixed=wire.run_of_fixed,
                run_of_bytes=wire.run_of_bytes, merge=merge,
                deepcopy=deepcopy, FormatError=FormatError, located=_located, too_deep=_too_deep,
                DEPTH_LIMIT=wire.DEPTH_LIMIT, unpack_float=struct.Struct("<f").unpack_from,
                unpack_double=struct.Struct("<d").unpack_from)
        cls = MESSAGES[full_name]
        _namespace[_class(full_name)] = cls
        for f in cls.fields:
            if f.is_message:
                _namespace.setdefault(_function(f.kind), _later(f.kind))
        exec(compile(text_of(cls), f"<decoder of {full_name}>", "exec"), _namespace)
        found = _namespace[name]
    return found


def _later(full_name: str) -> Any:
    def build_and_call(*args: Any) -> Any:
        return _decoder(full_name)(*args)

    return build_and_call


def _function(full_name: str) -> str:
    return "decode_" + full_name.replace(".", "_")


def _class(full_name: str) -> str:
    return full_name.replace(".", "_")


def _too_deep(offset: int) -> FormatError:
    return FormatError(f"messages are nested more than {wire.DEPTH_LIMIT} deep", offset=offset,
                       advice="no protobuf reader takes such a file")


def _located(error: FormatError, cls: type[Message], tag: int, counts: dict[int, int]) -> FormatError:
    f = cls.by_number.get(tag >> 3)
    if f is None:
        return error
    return error.within(f"{f.name}[{counts[f.number]}]" if f.repeated else f.name)


def text_of(cls: type[Message]) -> str:
    """The Python text of the decoder of `cls`: `decode_X(source, pos, end, depth)`."""
    by_wire: dict[int, list[str]] = {0: [], 1: [], 2: [], 5: []}
    for f in cls.fields:
        if f.wire == 2 or f.repeated:
            by_wire[2] += _branch(f, 2, _length_delimited(cls, f))
        if f.wire != 2:
            by_wire[f.wire] += _branch(f, f.wire, _number(cls, f))

    lines = [
        f"def {_function(cls.full_name)}(source, pos, end, depth):",
        "    if depth > DEPTH_LIMIT:",
        "        raise too_deep(pos)",
        "    buf = source.buf",
        "    start = pos",
        "    tag = 0",
    ]
    singular = [f"_{f.name}" for f in cls.fields if not f.repeated]
    repeated = [f"_{f.name}" for f in cls.fields if f.repeated]
    if singular:
        lines.append(f"    {' = '.join(singular)} = None")
    lines.append(f"    {' = '.join([*repeated, 'unknown'])} = ()")
    lines += [
        "    try:",
        "        while pos < end:",
        "            at = pos",
        "            tag = buf[pos]",
        "            pos += 1",
        "            if tag > 127:",
        "                byte = buf[pos]",
        "                if byte < 128:",
        "                    tag += (byte << 7) - 128",
        "                    pos += 1",
        "                else:",
        "                    tag, pos = varint(buf, at, end)",
        "            wire = tag & 7",
        "            if wire == 2:",
        "                size = buf[pos]",
        "                pos += 1",
        "                if size > 127:",
        "                    size, pos = varint(buf, pos - 1, end)",
        "                stop = pos + size",
        "                if stop > end:",
        "                    raise overrun(pos, size, end)",
        *_chain(cls, by_wire[2], "                "),
    ]
    if by_wire[0]:
        lines += [
            "            elif wire == 0:",
            "                value = buf[pos]",
            "                pos += 1",
            "                if value > 127:",
            "                    value, pos = varint(buf, pos - 1, end)",
            *_chain(cls, by_wire[0], "                "),
        ]
    for number, width in ((5, 4), (1, 8)):
        if by_wire[number]:
            lines += [
                f"            elif wire == {number}:",
                f"                stop = pos + {width}",
                "                if stop > end:",
                f"                    raise overrun(pos, {width}, end)",
                *_chain(cls, by_wire[number], "                "),
            ]
    klass = _class(cls.full_name)
    lines += [
        "            else:",
        f"                pos, unknown = stray(source, {klass}, tag, at, pos, end, unknown)",
        "        if pos > end:",
        "            raise overrun(at, pos - at, end)",
        "    except FormatError as e:",
        f"        counts = {{{', '.join(f'{f.number}: len(_{f.name})' for f in cls.fields if f.repeated)}}}",
        f"        raise located(e, {klass}, tag, counts) from None",
        "    except IndexError:",
        f"        raise FormatError('the file ends in the middle of {cls.full_name}', offset=len(source)) from None",
        f"    m = new({klass})",
        *(f"    m.{f.name} = _{f.name}" for f in cls.fields),
        "    m.unknown = unknown",
        "    m.at = start",
        "    m.until = end",
        "    m.origin = None",
        "    return m",
    ]
    return "\n".join(lines)


def _branch(f: Field, wire_type: int, body: list[str]) -> list[str]:
    return [f"if tag == {f.number << 3 | wire_type}:", *("    " + line for line in body)]


def _chain(cls: type[Message], branches: list[str], indent: str) -> list[str]:
    """Branches as one chain of elif, ending in the step over what is not known."""
    out, first = [], True
    for line in branches:
        if line.startswith("if tag"):
            line, first = (line if first else "el" + line), False
        out.append(indent + line)
    # `stray` wants the position behind the tag, and the chain has gone past a length or a number already.
    last = ["_, pos = varint(buf, at, end)",
            f"pos, unknown = stray(source, {_class(cls.full_name)}, tag, at, pos, end, unknown)"]
    if first:
        return [indent + line for line in last]
    return [*out, indent + "else:", *(indent + "    " + line for line in last)]


def _length_delimited(cls: type[Message], f: Field) -> list[str]:
    var = f"_{f.name}"
    if f.is_message:
        call = f"{_function(f.kind)}(source, pos, stop, depth + 1)"
        if (cls.full_name, f.name) in SHARED:
            # What is joined of pieces is nobody else's: only the first piece may be shared.
            return [f"if {var} is None:",
                    f"    {var} = source.shared.get(buf[pos:stop]) if size < 256 else None",
                    f"    if {var} is None:", f"        {var} = {call}", "        if size < 256:",
                    f"            source.shared[buf[pos:stop]] = {var}",
                    "else:", f"    {var} = merge({var} if {var}.until < 0 else deepcopy({var}), {call})",
                    "pos = stop"]
        if f.repeated:
            return [f"item = {call}", *_append(var, "item"), "pos = stop"]
        return [f"item = {call}", *_others(cls, f), f"{var} = item if {var} is None else merge({var}, item)",
                "pos = stop"]
    if f.kind in ("string", "bytes"):
        if (cls.full_name, f.name) in VIEWS:
            value = "source.view[pos:stop]"
        else:
            value = "buf[pos:stop]" + (".decode('utf-8', 'surrogateescape')" if f.kind == "string" else "")
        if f.repeated and f.kind == "bytes":
            return [*_append(var, value), "pos = stop", "if pos < end and buf[pos] == tag:",
                    f"    pos = run_of_bytes(buf, pos, end, tag, {var})"]
        if f.repeated:
            return [*_append(var, value), "pos = stop"]
        return [*_others(cls, f), f"{var} = {value}", "pos = stop"]
    if f.packed:
        return [
            f"check_packed(source, '{f.kind}', pos, stop)",
            f"if {var}:",
            f"    {var}.add_packed(source, pos, stop)",
            "elif size:",
            f"    {var} = Numbers('{f.kind}', source.view[pos:stop])",
            "pos = stop",
        ]
    return [
        f"item = packed_list(source, '{f.kind}', pos, stop)",
        f"if {var}:",
        f"    {var}.extend(item)",
        "else:",
        f"    {var} = item",
        "pos = stop",
    ]


def _number(cls: type[Message], f: Field) -> list[str]:
    var, tag = f"_{f.name}", f.number << 3 | f.wire
    if f.packed:
        # Some writers do not pack; the payload of each is what a packed row would hold.
        body = [f"if not {var}:", f"    {var} = Numbers('{f.kind}')"]
        if f.wire:
            return [*body, f"{var}.add_one(buf[pos:stop])", "pos = stop"]
        return [*body, f"{var}.add_one(encode_varint(value))"]
    if f.wire == 0:
        cut = {"int64": ["if value > 0x7FFFFFFFFFFFFFFF:", "    value -= 0x10000000000000000"],
               "uint64": []}.get(f.kind, ["if value > 0x7FFFFFFF:", "    value = int32(value)"])
        if f.repeated:
            return [*cut, *_append(var, "value"), "if pos < end and buf[pos] == tag:",
                    f"    pos = run_of_varints(buf, pos, end, {tag}, '{f.kind}', {var})"]
        return [*cut, *_others(cls, f), f"{var} = value"]
    read = f"unpack_{f.kind}(buf, pos)[0]"
    if f.repeated:
        return [*_append(var, read), "pos = stop", "if pos < end and buf[pos] == tag:",
                f"    pos = run_of_fixed(buf, pos, end, {tag}, '{f.kind}', {var})"]
    return [f"{var} = {read}", "pos = stop"]


def _append(var: str, value: str) -> list[str]:
    return [f"if {var}:", f"    {var}.append({value})", "else:", f"    {var} = [{value}]"]


def _others(cls: type[Message], f: Field) -> list[str]:
    """The rest of its oneof is unset when a field of it comes."""
    rest = [f"_{g.name}" for g in cls.fields if g.oneof and g.oneof == f.oneof and g is not f]
    return [f"{' = '.join(rest)} = None"] if rest else []
