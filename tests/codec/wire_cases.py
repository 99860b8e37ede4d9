"""Messages drawn at random, and the many ways to write the same message that protobuf allows."""

import random
import struct

from gesher.codec.messages import Field, Message
from gesher.codec.wire import encode_varint


def random_bytes(rng: random.Random, most: int = 12) -> bytes:
    return rng.randbytes(rng.randint(0, most))


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice("abcXYZ_/.:0189 é漢🙂\n") for _ in range(rng.randint(0, 10)))


def random_number(rng: random.Random, kind: str, enum: str = ""):
    bits = rng.choice((1, 7, 8, 14, 31, 63))
    if kind == "int64":
        return rng.getrandbits(bits) - rng.choice((0, 1 << bits))
    if kind == "uint64":
        return rng.getrandbits(bits + 1)
    if kind == "int32":
        return max(-(1 << 31), rng.getrandbits(min(bits, 31)) - rng.choice((0, 1 << min(bits, 31))))
    if kind == "enum":
        return rng.randint(0, 5 if "AttributeType" in enum else 1)
    return struct.unpack("<f", struct.pack("<f", rng.choice((0.0, -0.0, 1.5, rng.gauss(0, 1e10), float("inf")))))[0]


def random_value(rng: random.Random, f: Field, depth: int):
    from gesher.codec.messages import MESSAGES

    if f.is_message:
        return random_message(rng, MESSAGES[f.kind], depth + 1)
    if f.kind == "string":
        return random_text(rng)
    if f.kind == "bytes":
        return random_bytes(rng)
    return random_number(rng, f.kind, f.enum)


def random_message(rng: random.Random, cls: type[Message], depth: int = 0) -> Message:
    """A message with some of its fields set, at most one of each oneof."""
    m = cls()
    taken = set()
    for f in rng.sample(cls.fields, len(cls.fields)):
        if (f.is_message and depth > 3) or rng.random() < 0.55 or f.oneof in taken:
            continue
        if f.oneof:
            taken.add(f.oneof)
        value = [random_value(rng, f, depth) for _ in range(rng.choice((1, 2, 3, 20 if not f.is_message else 2)))] \
            if f.repeated else random_value(rng, f, depth)
        setattr(m, f.name, value)
    return m


def long_varint(rng: random.Random, value: int, most: int = 5) -> bytes:
    """A varint in more bytes than it needs, at times; protobuf takes five for tags and lengths, ten for numbers."""
    plain = encode_varint(value)
    spare = most - len(plain)
    if spare <= 0 or rng.random() < 0.7:
        return plain
    more = rng.randint(1, spare)
    return plain[:-1] + bytes((plain[-1] | 0x80,)) + b"\x80" * (more - 1) + b"\x00"


def odd_bytes(rng: random.Random, m: Message, junk: float = 0.0) -> bytes:
    """The message as a writer might who does everything otherwise: order, packing, length of numbers.

    With `junk`, that share of all messages has a field that nobody knows.
    """
    out = []

    def add(number, wire, payload):
        out.append((number, long_varint(rng, number << 3 | wire) + payload))

    def sized(payload):
        return long_varint(rng, len(payload)) + payload

    def one(f, v):
        if f.is_message:
            return sized(odd_bytes(rng, v, junk))
        if f.kind == "string":
            return sized(v.encode())
        if f.kind == "bytes":
            return sized(v)
        if f.kind == "float":
            return struct.pack("<f", v)
        if f.kind == "double":
            return struct.pack("<d", v)
        return long_varint(rng, v & 0xFFFFFFFFFFFFFFFF, 10)

    for f, value in m.written():
        if f.repeated and f.wire != 2:
            rest = list(value)
            while rest:
                n = rng.randint(1, len(rest))
                part, rest = rest[:n], rest[n:]
                if rng.random() < 0.5:
                    add(f.number, 2, sized(b"".join(one(f, v) for v in part)))
                else:
                    for v in part:
                        add(f.number, f.wire, one(f, v))
        elif f.repeated:
            for v in value:
                add(f.number, f.wire, one(f, v))
        else:
            if not f.is_message and not f.oneof and rng.random() < 0.2:
                add(f.number, f.wire, one(f, random_value(rng, f, 9)))  # an earlier one, which loses
            add(f.number, f.wire, one(f, value))
    if rng.random() < junk:
        out.append((0, rng.choice(UNKNOWN)))
    # Records of different fields may stand in any order; those of one field keep theirs.
    by_number: dict[int, list[bytes]] = {}
    for number, record in out:
        by_number.setdefault(number, []).append(record)
    order = [number for number, _ in out]
    rng.shuffle(order)
    return b"".join(by_number[n].pop(0) for n in order)


UNKNOWN = (
    encode_varint(9000 << 3) + b"\x07",
    encode_varint(9001 << 3 | 2) + b"\x03abc",
    encode_varint(9002 << 3 | 5) + b"abcd",
    encode_varint(9003 << 3 | 1) + b"abcdefgh",
    encode_varint(9004 << 3 | 3) + encode_varint(1 << 3) + b"\x01" + encode_varint(9005 << 3 | 3)
    + encode_varint(9005 << 3 | 4) + encode_varint(9004 << 3 | 4),
)
