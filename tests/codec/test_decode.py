"""Reading and writing messages agrees with protobuf's own reader and writer, whatever the writer did."""

import random

import onnx
import pytest
from onnx import onnx_data_pb2, onnx_ml_pb2, onnx_operators_ml_pb2
from tests.codec.wire_cases import UNKNOWN, odd_bytes, random_message

from gesher.base.errors import FormatError, ModelError
from gesher.codec import Numbers, decode, encode
from gesher.codec.decode import text_of
from gesher.codec.faithful import same
from gesher.codec.messages import (
    MESSAGES,
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    StringStringEntryProto,
    TensorProto,
    TypeProto,
)


def their_class(name):
    for file in (onnx_ml_pb2, onnx_data_pb2, onnx_operators_ml_pb2):
        outer, _, inner = name.partition(".")
        if hasattr(file, outer):
            return getattr(getattr(file, outer), inner) if inner else getattr(file, outer)
    raise KeyError(name)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_random_messages_are_written_and_read_as_protobuf_does(name):
    rng = random.Random(name)
    for _ in range(25):
        m = random_message(rng, MESSAGES[name])
        data = encode(m)
        assert data == their_class(name).FromString(data).SerializeToString()
        back = decode(MESSAGES[name], data)
        assert same(back, m)
        assert encode(back) == data


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_odd_ways_to_write_mean_what_protobuf_reads(name):
    rng = random.Random(name + "odd")
    for _ in range(25):
        data = odd_bytes(rng, random_message(rng, MESSAGES[name]))
        again = encode(decode(MESSAGES[name], data))
        read = their_class(name).FromString
        # Once through their reader, because packed numbers keep a length that they need not have.
        assert read(again).SerializeToString() == read(data).SerializeToString()


def test_pieces_of_a_message_are_joined_as_protobuf_joins_them():
    rng = random.Random(5)
    for _ in range(300):
        data = b"".join(encode(random_message(rng, ModelProto)) for _ in range(3))
        assert encode(decode(ModelProto, data)) == onnx.ModelProto.FromString(data).SerializeToString()
    for _ in range(300):
        data = b"".join(encode(random_message(rng, TypeProto)) for _ in range(3))
        assert encode(decode(TypeProto, data)) == onnx.TypeProto.FromString(data).SerializeToString()


def test_unknown_fields_survive_with_their_bytes():
    for junk in UNKNOWN:
        m = decode(NodeProto, b"\x0a\x01x" + junk + b"\x22\x04Relu")
        assert m.input == ["x"] and m.op_type == "Relu" and list(m.unknown) == [junk]
        assert encode(m) == b"\x0a\x01x\x22\x04Relu" + junk


def test_bytes_of_tensors_are_views_of_the_file():
    data = encode(TensorProto(data_type=1, dims=[3], raw_data=b"abcdefghijkl"))
    m = decode(TensorProto, data)
    assert isinstance(m.raw_data, memoryview) and m.raw_data.obj is data and bytes(m.raw_data) == b"abcdefghijkl"
    m = decode(TensorProto, encode(TensorProto(float_data=[1.0, 2.0])))
    assert isinstance(m.float_data, Numbers) and m.float_data.numpy().base is not None


def test_where_a_message_lies_in_the_file_is_known():
    data = encode(GraphProto(node=[NodeProto(op_type="A"), NodeProto(op_type="B")]))
    nodes = decode(GraphProto, data).node
    assert [data[n.at:n.until] for n in nodes] == [b"\x22\x01A", b"\x22\x01B"]


def test_text_that_is_no_utf8_keeps_its_bytes():
    data = b"\x0a\x03a\xff\xfe\x12\x02\xed\xa0"
    m = decode(StringStringEntryProto, data)
    assert m.key == "a\udcff\udcfe" and encode(m) == data


@pytest.mark.parametrize(("cls", "data", "says", "offset"), [
    (NodeProto, b"\x0a\x05abc", "5 bytes long, but 3 are left", 2),
    (NodeProto, b"\x0a\x80", "cut off", 1),
    (NodeProto, b"\x0a", "ends in the middle", 1),
    (NodeProto, b"\x08\x01", "NodeProto.input is written as a varint, but it is string", 0),
    (NodeProto, b"\x00\x00", "no field can start", 0),
    (NodeProto, b"\x0f\x00", "no field can start", 0),
    (NodeProto, b"\x80\x80\x80\x80\x80\x80\x01", "no field can start", 0),
    (ModelProto, b"\x08" + b"\x80" * 10 + b"\x01", "more than ten bytes", 1),
    (ModelProto, b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits", 1),
    (ModelProto, b"\x0d\x00\x00\x00\x00", "written as four bytes", 0),
    (AttributeProto, b"\x15\x00\x00", "4 bytes long, but 2 are left", 1),
    (TensorProto, b"\x22\x03abc", "no row of float", 2),
    (TensorProto, b"\x52\x04abcd", "no row of double", 2),
    (TensorProto, b"\x3a\x02\x01\x80", "cut off", 2),
    (TensorProto, b"\x3a\x0b\x01" + b"\xff" * 9 + b"\x02", "more than 64 bits", 3),
    (NodeProto, b"\xc4\x3e", "the end of a group", 0),
    (NodeProto, b"\xc3\x3e\xcc\x3e", "the end of a group", 2),
    (NodeProto, b"\xc3\x3e", "cut off", 2),
    (NodeProto, b"\xc3\x3e" * 5000, "nested", 200),
])
def test_damage_is_told_with_its_offset(cls, data, says, offset):
    with pytest.raises(FormatError, match=says) as e:
        decode(cls, data)
    assert e.value.offset == offset


def test_damage_is_told_with_the_path_of_fields():
    bad = b"\x32\x02\x12\x15"  # AttributeProto.g, whose name is cut off
    graph = b"\x0a\x00" + b"\x0a" + bytes([len(bad) + 2]) + b"\x2a" + bytes([len(bad)]) + bad
    with pytest.raises(FormatError) as e:
        decode(ModelProto, b"\x3a" + bytes([len(graph)]) + graph)
    assert e.value.place == ("graph", "node[1]", "attribute[0]", "g", "name")


def nested(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            size, head = len(data), bytearray()
            while size > 127:
                head.append(size & 127 | 128)
                size >>= 7
            data = bytes((tag, *head, size)) + data
    return data


def test_nesting_is_taken_as_deep_as_protobuf_takes_it_and_no_deeper():
    assert decode(GraphProto, nested(33)).node[0].attribute[0].g is not None
    with pytest.raises(FormatError, match="nested more than 100 deep"):
        decode(GraphProto, nested(34))
    with pytest.raises(FormatError, match="nested more than 100 deep"):
        decode(GraphProto, nested(10_000))


def test_writing_refuses_what_no_reader_would_take():
    graph = GraphProto()
    for _ in range(34):
        graph = GraphProto(node=[NodeProto(attribute=[AttributeProto(g=graph)])])
    with pytest.raises(ModelError, match="nested more than 100"):
        encode(graph)


@pytest.mark.parametrize(("message", "place"), [
    (AttributeProto(f=1e39), ("f",)),
    (AttributeProto(i=1 << 63), ("i",)),
    (AttributeProto(i=1.5), ("i",)),
    (TensorProto(int32_data=[1 << 31]), ("int32_data",)),
    (GraphProto(node=[NodeProto(), NodeProto(op_type="\ud800")]), ("node", "[1]", "op_type")),
    (NodeProto(op_type=b"Relu"), ("op_type",)),
])
def test_a_value_that_does_not_fit_its_field_is_refused(message, place):
    with pytest.raises(ModelError) as e:
        encode(message)
    assert e.value.place == place


def test_numbers_are_a_sequence_and_an_array():
    import numpy as np

    values = [0, 1, -1, 1 << 40, -(1 << 63), (1 << 63) - 1, 127, 128] * 40
    row = decode(TensorProto, encode(TensorProto(int64_data=values))).int64_data
    assert len(row) == len(values) and list(row) == values and row == values
    assert row[3] == 1 << 40 and row[-2:] == [127, 128]
    assert np.asarray(row).dtype == np.int64 and np.asarray(row).tolist() == values
    assert encode(TensorProto(int64_data=np.array(values))) == encode(TensorProto(int64_data=values))
    unsigned = [0, (1 << 64) - 1, 1 << 63]
    row = decode(TensorProto, encode(TensorProto(uint64_data=np.array(unsigned, np.uint64)))).uint64_data
    assert row.tolist() == unsigned and row.numpy().tolist() == unsigned
    row = decode(TensorProto, encode(TensorProto(int32_data=[-1, 5] * 200))).int32_data
    assert row.tolist() == [-1, 5] * 200


def test_a_decoder_is_text_that_a_person_can_read():
    text = text_of(NodeProto)
    assert "def decode_NodeProto(source, pos, end, depth):" in text


@pytest.mark.parametrize("size", [63, 65, 300, 5000, 60_000])
@pytest.mark.parametrize("most", [6, 20, 40, 63])
def test_long_lists_are_read_and_written_as_protobuf_does(size, most):
    rng = random.Random(size * most)
    a = onnx.AttributeProto(name="n", type=7)
    a.ints.extend(rng.getrandbits(most) - rng.choice((0, 0, 0, 1 << most)) for _ in range(size))
    a.floats.extend(rng.choice((0.0, -0.0, 1.5, float("inf"), rng.gauss(0, 1e30))) for _ in range(size))
    a.strings.extend(rng.choice((b"", b"LEQ", b"x" * 127, b"y" * 128, rng.randbytes(5))) for _ in range(size))
    data = a.SerializeToString()
    ours = decode(AttributeProto, data)
    assert ours.ints == list(a.ints) and ours.floats == list(a.floats) and ours.strings == list(a.strings)
    assert encode(ours) == data
    for cut in rng.sample(range(len(data)), 30):
        try:
            theirs = onnx.AttributeProto.FromString(data[:cut]).SerializeToString()
        except Exception:
            with pytest.raises(FormatError):
                decode(AttributeProto, data[:cut])
        else:
            assert encode(decode(AttributeProto, data[:cut])) == theirs


@pytest.mark.parametrize("bad", [1 << 63, -(1 << 63) - 1, 1.5])
def test_one_number_of_many_that_does_not_fit_is_refused(bad):
    with pytest.raises(ModelError, match="does not fit"):
        encode(AttributeProto(ints=[1] * 500 + [bad]))
    with pytest.raises(ModelError, match="does not fit"):
        encode(AttributeProto(floats=[1.0] * 500 + [1e39]))


def test_a_number_of_many_that_is_too_long_is_told_where_it_stands():
    data = b"\x40\x05" * 3000 + b"\x40" + b"\xff" * 9 + b"\x02" + b"\x40\x05" * 3000
    with pytest.raises(FormatError, match="64 bits") as e:
        decode(AttributeProto, data)
    assert e.value.offset == 6001 and e.value.place == ("ints[3000]",)
