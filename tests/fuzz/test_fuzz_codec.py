"""Whatever the bytes: a model or a GesherError, soon, and in memory that the size of the file bounds.

The budget is fixed in cases and seconds; seeds are fixed, so a failure can be run again.
"""

import random
import time
import tracemalloc

import pytest
from tests.codec.wire_cases import UNKNOWN, odd_bytes
from tests.ir.model_cases import a_model
from tests.real_models import model_files

from gesher.base.errors import GesherError
from gesher.codec import decode
from gesher.codec.messages import MESSAGES, GraphProto, ModelProto
from gesher.codec.text import parse_model, to_text
from gesher.codec.wire import encode_varint
from gesher.ir.bridge import to_message
from gesher.ir.files import from_bytes, tensors_of, to_bytes

SECONDS = 4.0
SMALL = sorted(p for p in model_files("onnx") if p.stat().st_size < 4000)


def digest(data: bytes) -> bool:
    """Do with the bytes all that a user may; True where they are a model."""
    try:
        model = from_bytes(data)
    except GesherError as e:
        assert str(e)
        return False
    for t in tensors_of(model):
        try:
            if t.dtype.kind == "string" or t.nbytes < 1 << 20:
                t.numpy()
        except GesherError as e:
            assert str(e)
    assert to_bytes(model) == data
    model.doc = "edited"
    try:
        again = from_bytes(to_bytes(model))
    except GesherError as e:
        # Only what no file can hold may be refused when it is written.
        assert "nested" in str(e)
        return True
    assert again.doc == "edited"
    to_text(to_message(model))
    return True


def spoil(rng: random.Random, data: bytes) -> bytes:
    """The bytes with one kind of damage."""
    data = bytearray(data)
    match rng.randrange(7):
        case 0:
            del data[rng.randrange(len(data)):]
        case 1:
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        case 3:
            i = rng.randrange(len(data))
            del data[i:i + rng.randint(1, 20)]
        case 4:
            i, j = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
            data[i:i] = data[i:min(j, i + 200)]
        case 5:
            i = rng.randrange(len(data))
            data[i:i] = rng.choice((rng.randbytes(9), encode_varint(rng.getrandbits(63)), rng.choice(UNKNOWN)))
        case 6:
            # A length that lies: some byte that may be one becomes a long number.
            i = rng.randrange(len(data))
            data[i:i + 1] = encode_varint(rng.choice((1 << 31, 1 << 32, 1 << 63, 1 << 20, 200)))
    return bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_models(seed):
    rng = random.Random(seed)
    until = time.monotonic() + SECONDS
    taken = total = 0
    while time.monotonic() < until and total < 4000:
        data = rng.choice(SMALL).read_bytes() if rng.random() < 0.5 else odd_bytes(rng, a_model(rng), junk=0.2)
        for _ in range(10):
            start = time.monotonic()
            taken += digest(spoil(rng, data))
            total += 1
            assert time.monotonic() - start < 1
    # The damage must neither be harmless throughout nor always fatal, or nothing behind the decoder is tried.
    assert total >= 200 and 0.05 < taken / total < 0.95


def test_random_bytes():
    rng = random.Random(10)
    for _ in range(3000):
        digest(rng.randbytes(rng.randint(1, 200)))


def test_random_records():
    """Well-formed records of random numbers and types, so that the fields behind them are reached."""
    rng = random.Random(11)
    for _ in range(3000):
        out = b""
        for _ in range(rng.randint(1, 6)):
            wire = rng.choice((0, 2, 2, 2, 5, 1, 3, 4, 6, 7))
            payload = {0: lambda: encode_varint(rng.getrandbits(64)), 5: lambda: rng.randbytes(4),
                       1: lambda: rng.randbytes(8)}.get(wire, lambda: b"")()
            if wire == 2:
                inner = rng.randbytes(rng.randint(0, 9)) if rng.random() < 0.5 else out
                payload = encode_varint(len(inner)) + inner
            out += encode_varint(rng.randint(1, 26) << 3 | wire) + payload
        for cls in rng.sample(list(MESSAGES.values()), 4):
            try:
                decode(cls, out)
            except GesherError as e:
                assert str(e)
        digest(out)


def test_every_truncation_of_a_model():
    data = odd_bytes(random.Random(12), a_model(random.Random(12)))
    for n in range(1, len(data)):
        digest(data[:n])


def field(number: int, payload: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(payload)) + payload


def nested(path: tuple[int, ...], levels: int) -> bytes:
    data = b""
    for i in range(levels):
        data = field(path[-1 - i % len(path)], data)
    return data


DEEP = {
    "graphs": field(7, nested((1, 5, 6), 9_999)),
    "types": field(7, field(11, field(2, nested((4, 1), 10_000)))),
    "lists of graphs": field(7, nested((1, 5, 11), 9_999)),
    "groups": b"\xc3\x3e" * 10_000,
    "groups of unknown fields in a graph": field(7, b"\xc3\x3e" * 10_000 + b"\xc4\x3e" * 10_000),
    "unknown messages": nested((99,), 10_000),
}


@pytest.mark.parametrize("what", DEEP)
def test_deep_nesting(what):
    start = time.monotonic()
    taken = digest(DEEP[what])
    assert time.monotonic() - start < 1
    # What nobody knows is not looked into, however deep it is.
    assert taken == (what == "unknown messages")


SIZE = 1 << 17
LARGE = {
    "zeros": bytes(SIZE),
    "ones": b"\xff" * SIZE,
    "numbers that never end": b"\x80" * SIZE,
    "empty graphs, joined one by one": b"\x3a\x00" * (SIZE // 2),
    "graphs of a node, joined one by one": b"\x3a\x02\x0a\x00" * (SIZE // 4),
    "empty nodes": field(7, b"\x0a\x00" * (SIZE // 2)),
    "empty initializers": field(7, b"\x2a\x00" * (SIZE // 8)),
    "dims": field(7, field(5, b"\x08\x01" * (SIZE // 2))),
    "dims in many packed pieces": field(7, field(5, b"\x0a\x01\x01" * (SIZE // 3))),
    "numbers in many packed pieces": field(7, field(5, b"\x3a\x01\x01" * (SIZE // 3))),
    "numbers one by one": field(7, field(5, b"\x38\x01" * (SIZE // 2))),
    "floats, by turns with others": field(7, field(1, field(5, (b"\x3d\0\0\0\0" + b"\x40\x01") * (SIZE // 7)))),
    "one oneof, set again and again": field(7, field(11, field(2, (b"\x0a\x00" + b"\x22\x00") * (SIZE // 4)))),
    "the type of one value, joined": field(7, field(11, b"\x12\x02\x0a\x00" * (SIZE // 4))),
    "unknown fields": b"\xf8\x3e\x01" * (SIZE // 3),
    "outputs of one node": field(7, field(1, b"\x12\x01a" * (SIZE // 3))),
    "inputs of one node": field(7, field(1, b"\x0a\x01a" * (SIZE // 3))),
    "metadata": field(14, b"") * (SIZE // 2),
}


@pytest.mark.parametrize("what", LARGE)
def test_time_and_memory_are_bounded_by_the_size(what):
    data = LARGE[what]
    start = time.monotonic()
    try:
        from_bytes(data)
    except GesherError as e:
        assert str(e)
    taken = time.monotonic() - start
    tracemalloc.start()
    try:
        from_bytes(data)
    except GesherError as e:
        assert str(e)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Two bytes may stand for a message, which takes some hundred in memory; nothing may take more than that.
    assert taken < 1 and peak < 400 * len(data) + 1_000_000


def test_a_length_of_exabytes_allocates_nothing():
    for cls, number in ((ModelProto, 7), (GraphProto, 1), (GraphProto, 99)):
        data = encode_varint(number << 3 | 2) + encode_varint(1 << 62) + b"abc"
        tracemalloc.start()
        with pytest.raises(GesherError, match="bytes long, but 3 are left"):
            decode(cls, data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


def test_random_text():
    rng = random.Random(13)
    words = ["g", "(", ")", "=>", "{", "}", "<", ">", "[", "]", "=", ",", ":", "float", "seq(", "x", "1", "-2.5", '"s"',
             "@", "?", "if", "ir_version", "#\n", "..", "inf", "int64", "opset_import", ".", "e5", "\\", '"']
    for _ in range(4000):
        try:
            to_text(parse_model(" ".join(rng.choices(words, k=rng.randint(1, 25)))))
        except GesherError as e:
            assert str(e)
