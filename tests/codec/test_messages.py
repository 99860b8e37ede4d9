"""The field table says what ONNX's own descriptors say."""

import onnx
from onnx import onnx_data_pb2, onnx_ml_pb2, onnx_operators_ml_pb2

from gesher.base import dtypes
from gesher.codec.messages import ENUMS, MESSAGES, Message, ModelProto

KINDS = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 9: "string", 11: "message", 12: "bytes",
         14: "enum"}
FILES = (onnx_ml_pb2, onnx_data_pb2, onnx_operators_ml_pb2)


def descriptors():
    pending = [m for f in FILES for m in f.DESCRIPTOR.message_types_by_name.values()]
    while pending:
        m = pending.pop()
        yield m
        pending.extend(m.nested_types)


def enums():
    for f in FILES:
        yield from f.DESCRIPTOR.enum_types_by_name.values()
    for m in descriptors():
        yield from m.enum_types


def plain(full_name):
    return full_name.removeprefix("onnx.")


def theirs(message):
    """Each field as a row that both sides can write."""
    for f in message.fields:
        kind = KINDS[f.type]
        yield (f.number, f.name, plain(f.message_type.full_name) if kind == "message" else kind, f.is_repeated,
               f.is_packed, f.containing_oneof.name if f.containing_oneof else "",
               plain(f.enum_type.full_name) if f.enum_type else "")


def test_every_message_has_the_fields_that_onnx_declares():
    for d in descriptors():
        assert set(MESSAGES[plain(d.full_name)].fields) == set(theirs(d)), d.full_name
    assert len(MESSAGES) == len(list(descriptors()))


def test_every_enum_has_the_numbers_that_onnx_declares():
    declared = {plain(e.full_name): {v.name: v.number for v in e.values} for e in enums()}
    assert declared == ENUMS
    assert ENUMS["Version"]["IR_VERSION"] == onnx.IR_VERSION


def test_data_types_are_those_of_the_table_below():
    assert {n.lower(): c for n, c in ENUMS["TensorProto.DataType"].items()} == {
        d.name: d.code for d in dtypes.BY_CODE.values()}


def test_fields_stand_in_the_order_of_their_numbers_and_slots_hold_no_dict():
    for cls in MESSAGES.values():
        assert list(cls.fields) == sorted(cls.fields)
        assert not hasattr(cls(), "__dict__")
        assert issubclass(cls, Message)


def test_what_is_not_written_is_none_or_empty():
    m = ModelProto(ir_version=0)
    assert m.ir_version == 0 and m.domain is None and m.opset_import == ()
    assert [f.name for f, _ in m.written()] == ["ir_version"]
    assert repr(m) == "ModelProto(ir_version=0)"
