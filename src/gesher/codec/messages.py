"""Every message of an ONNX file, as a table of fields: number, name, kind.

One row here is what one line of ONNX's `.proto` files says (IR version 14); the decoder, the encoder, the text syntax
and the tests are all made from these rows. A kind ending in `*` is repeated, `* packed` is repeated and written in
one piece; a kind that is not a scalar names a message. Enums are plain ints, so that a number that ONNX learns later
survives.

What a reader would guess wrong: presence counts. A singular field that the file does not write is `None`, which is
not the same as an explicit 0 or ""; a repeated field that is not written is the empty tuple. Strings that are not
UTF-8 hold their odd bytes as surrogates, and so are written back as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

# Scalar kinds, and the wire type that one of them has: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
WIRE = {"int64": 0, "int32": 0, "uint64": 0, "enum": 0, "double": 1, "string": 2, "bytes": 2, "float": 5}


class Field(NamedTuple):
    """One field of a message.

    `kind` is a key of `WIRE`, or the full name of a message; `enum` names the enum of an enum field; `oneof` is the
    name of the group of which only one may be set, or "".
    """

    number: int
    name: str
    kind: str
    repeated: bool = False
    packed: bool = False
    oneof: str = ""
    enum: str = ""

    @property
    def is_message(self) -> bool:
        return self.kind not in WIRE

    @property
    def wire(self) -> int:
        """The wire type of one element, unpacked."""
        return WIRE.get(self.kind, 2)


class Message:
    """What all messages share.

    Attributes:
        unknown: fields of the file that the table does not know, each as its bytes, tag included.
        at, until: where the payload lies in the source that it was read from; -1, -1 for a message that was made in
            memory, and until = -1 for one that the file wrote in several pieces.
        origin: (source, at) of the message in a file whose bytes this one should keep, where it still says the
            same; a source of None is no file.
    """

    __slots__ = ("at", "origin", "unknown", "until")

    fields: ClassVar[tuple[Field, ...]] = ()
    by_name: ClassVar[dict[str, Field]] = {}
    by_number: ClassVar[dict[int, Field]] = {}
    full_name: ClassVar[str] = ""

    unknown: Sequence[bytes | memoryview]
    at: int
    until: int
    origin: tuple[Any, int] | None

    def __init__(self, **values: Any):
        for f in self.fields:
            setattr(self, f.name, () if f.repeated else None)
        self.unknown = ()
        self.at = self.until = -1
        self.origin = None
        for name, value in values.items():
            setattr(self, name, value)

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def written(self) -> list[tuple[Field, Any]]:
        """The fields that are present, in the order of their numbers."""
        pairs = []
        for f in self.fields:
            value = getattr(self, f.name)
            if value is not None and not (f.repeated and len(value) == 0):
                pairs.append((f, value))
        return pairs

    def __repr__(self) -> str:
        inner = ", ".join(f"{f.name}={_brief(v)}" for f, v in self.written())
        return f"{self.full_name}({inner})"


def _brief(value: Any) -> str:
    if isinstance(value, (bytes, memoryview)) and len(value) > 40:
        return f"<{len(value)} bytes>"
    if isinstance(value, Message):
        return value.full_name + "(...)"
    if not isinstance(value, (str, bytes)) and hasattr(value, "__len__") and len(value) > 8:
        return f"<{len(value)} elements>"
    return repr(value)


MESSAGES: dict[str, type[Message]] = {}


def _message(full_name: str, *rows: tuple[int, str, str], oneofs: dict[str, tuple[str, ...]] | None = None) -> Any:
    group = {name: oneof for oneof, names in (oneofs or {}).items() for name in names}
    fields = []
    for number, name, kind in sorted(rows):
        base, star, packed = kind.partition("*")
        enum = base if base in ENUMS else ""
        fields.append(Field(number, name, "enum" if enum else base, bool(star), bool(packed), group.get(name, ""),
                            enum))
    # TensorProto.Segment has an `end`: what all messages share must not be called like a field.
    assert not {f.name for f in fields} & set(Message.__slots__), full_name
    cls = type(full_name.replace(".", "_"), (Message,), {
        "__slots__": tuple(f.name for f in fields),
        "__module__": __name__,
        "__doc__": f"`onnx.{full_name}`.",
        "fields": tuple(fields),
        "by_name": {f.name: f for f in fields},
        "by_number": {f.number: f for f in fields},
        "full_name": full_name,
    })
    MESSAGES[full_name] = cls
    outer, _, inner = full_name.rpartition(".")
    if outer:
        setattr(MESSAGES[outer], inner, cls)
    return cls


ENUMS: dict[str, dict[str, int]] = {
    "Version": {
        "_START_VERSION": 0, "IR_VERSION_2017_10_10": 1, "IR_VERSION_2017_10_30": 2, "IR_VERSION_2017_11_3": 3,
        "IR_VERSION_2019_1_22": 4, "IR_VERSION_2019_3_18": 5, "IR_VERSION_2019_9_19": 6, "IR_VERSION_2020_5_8": 7,
        "IR_VERSION_2021_7_30": 8, "IR_VERSION_2023_5_5": 9, "IR_VERSION_2024_3_25": 10, "IR_VERSION_2025_05_12": 11,
        "IR_VERSION_2025_08_26": 12, "IR_VERSION_2025_11_06": 13, "IR_VERSION": 14,
    },
    "OperatorStatus": {"EXPERIMENTAL": 0, "STABLE": 1},
    "AttributeProto.AttributeType": {
        "UNDEFINED": 0, "FLOAT": 1, "INT": 2, "STRING": 3, "TENSOR": 4, "GRAPH": 5, "FLOATS": 6, "INTS": 7,
        "STRINGS": 8, "TENSORS": 9, "GRAPHS": 10, "SPARSE_TENSOR": 11, "SPARSE_TENSORS": 12, "TYPE_PROTO": 13,
        "TYPE_PROTOS": 14,
    },
    "TensorProto.DataType": {
        "UNDEFINED": 0, "FLOAT": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7,
        "STRING": 8, "BOOL": 9, "FLOAT16": 10, "DOUBLE": 11, "UINT32": 12, "UINT64": 13, "COMPLEX64": 14,
        "COMPLEX128": 15, "BFLOAT16": 16, "FLOAT8E4M3FN": 17, "FLOAT8E4M3FNUZ": 18, "FLOAT8E5M2": 19,
        "FLOAT8E5M2FNUZ": 20, "UINT4": 21, "INT4": 22, "FLOAT4E2M1": 23, "FLOAT8E8M0": 24, "UINT2": 25, "INT2": 26,
        "FLOAT6E2M3": 27, "FLOAT6E3M2": 28,
    },
    "TensorProto.DataLocation": {"DEFAULT": 0, "EXTERNAL": 1},
    "SequenceProto.DataType": {
        "UNDEFINED": 0, "TENSOR": 1, "SPARSE_TENSOR": 2, "SEQUENCE": 3, "MAP": 4, "OPTIONAL": 5,
    },
    "OptionalProto.DataType": {
        "UNDEFINED": 0, "TENSOR": 1, "SPARSE_TENSOR": 2, "SEQUENCE": 3, "MAP": 4, "OPTIONAL": 5,
    },
}

# The model, from the outside in.

ModelProto = _message(
    "ModelProto",
    (1,  "ir_version",       "int64"),
    (2,  "producer_name",    "string"),
    (3,  "producer_version", "string"),
    (4,  "domain",           "string"),
    (5,  "model_version",    "int64"),
    (6,  "doc_string",       "string"),
    (7,  "graph",            "GraphProto"),
    (8,  "opset_import",     "OperatorSetIdProto*"),
    (14, "metadata_props",   "StringStringEntryProto*"),
    (20, "training_info",    "TrainingInfoProto*"),
    (25, "functions",        "FunctionProto*"),
    (26, "configuration",    "DeviceConfigurationProto*"),
)
GraphProto = _message(
    "GraphProto",
    (1,  "node",                    "NodeProto*"),
    (2,  "name",                    "string"),
    (5,  "initializer",             "TensorProto*"),
    (10, "doc_string",              "string"),
    (11, "input",                   "ValueInfoProto*"),
    (12, "output",                  "ValueInfoProto*"),
    (13, "value_info",              "ValueInfoProto*"),
    (14, "quantization_annotation", "TensorAnnotation*"),
    (15, "sparse_initializer",      "SparseTensorProto*"),
    (16, "metadata_props",          "StringStringEntryProto*"),
)
FunctionProto = _message(
    "FunctionProto",
    (1,  "name",            "string"),
    (4,  "input",           "string*"),
    (5,  "output",          "string*"),
    (6,  "attribute",       "string*"),
    (7,  "node",            "NodeProto*"),
    (8,  "doc_string",      "string"),
    (9,  "opset_import",    "OperatorSetIdProto*"),
    (10, "domain",          "string"),
    (11, "attribute_proto", "AttributeProto*"),
    (12, "value_info",      "ValueInfoProto*"),
    (13, "overload",        "string"),
    (14, "metadata_props",  "StringStringEntryProto*"),
)
NodeProto = _message(
    "NodeProto",
    (1,  "input",                 "string*"),
    (2,  "output",                "string*"),
    (3,  "name",                  "string"),
    (4,  "op_type",               "string"),
    (5,  "attribute",             "AttributeProto*"),
    (6,  "doc_string",            "string"),
    (7,  "domain",                "string"),
    (8,  "overload",              "string"),
    (9,  "metadata_props",        "StringStringEntryProto*"),
    (10, "device_configurations", "NodeDeviceConfigurationProto*"),
)
AttributeProto = _message(
    "AttributeProto",
    (1,  "name",           "string"),
    (2,  "f",              "float"),
    (3,  "i",              "int64"),
    (4,  "s",              "bytes"),
    (5,  "t",              "TensorProto"),
    (6,  "g",              "GraphProto"),
    (7,  "floats",         "float*"),
    (8,  "ints",           "int64*"),
    (9,  "strings",        "bytes*"),
    (10, "tensors",        "TensorProto*"),
    (11, "graphs",         "GraphProto*"),
    (13, "doc_string",     "string"),
    (14, "tp",             "TypeProto"),
    (15, "type_protos",    "TypeProto*"),
    (20, "type",           "AttributeProto.AttributeType"),
    (21, "ref_attr_name",  "string"),
    (22, "sparse_tensor",  "SparseTensorProto"),
    (23, "sparse_tensors", "SparseTensorProto*"),
)
ValueInfoProto = _message(
    "ValueInfoProto",
    (1, "name",           "string"),
    (2, "type",           "TypeProto"),
    (3, "doc_string",     "string"),
    (4, "metadata_props", "StringStringEntryProto*"),
)
OperatorSetIdProto = _message(
    "OperatorSetIdProto",
    (1, "domain",  "string"),
    (2, "version", "int64"),
)
StringStringEntryProto = _message(
    "StringStringEntryProto",
    (1, "key",   "string"),
    (2, "value", "string"),
)
TensorAnnotation = _message(
    "TensorAnnotation",
    (1, "tensor_name",                  "string"),
    (2, "quant_parameter_tensor_names", "StringStringEntryProto*"),
)
TrainingInfoProto = _message(
    "TrainingInfoProto",
    (1, "initialization",         "GraphProto"),
    (2, "algorithm",              "GraphProto"),
    (3, "initialization_binding", "StringStringEntryProto*"),
    (4, "update_binding",         "StringStringEntryProto*"),
)

# Tensors.

TensorProto = _message(
    "TensorProto",
    (1,  "dims",           "int64*"),
    (2,  "data_type",      "int32"),
    (3,  "segment",        "TensorProto.Segment"),
    (4,  "float_data",     "float* packed"),
    (5,  "int32_data",     "int32* packed"),
    (6,  "string_data",    "bytes*"),
    (7,  "int64_data",     "int64* packed"),
    (8,  "name",           "string"),
    (9,  "raw_data",       "bytes"),
    (10, "double_data",    "double* packed"),
    (11, "uint64_data",    "uint64* packed"),
    (12, "doc_string",     "string"),
    (13, "external_data",  "StringStringEntryProto*"),
    (14, "data_location",  "TensorProto.DataLocation"),
    (16, "metadata_props", "StringStringEntryProto*"),
)
TensorProtoSegment = _message(
    "TensorProto.Segment",
    (1, "begin", "int64"),
    (2, "end",   "int64"),
)
SparseTensorProto = _message(
    "SparseTensorProto",
    (1, "values",  "TensorProto"),
    (2, "indices", "TensorProto"),
    (3, "dims",    "int64*"),
)

# Types.

TypeProto = _message(
    "TypeProto",
    (1, "tensor_type",        "TypeProto.Tensor"),
    (4, "sequence_type",      "TypeProto.Sequence"),
    (5, "map_type",           "TypeProto.Map"),
    (6, "denotation",         "string"),
    (7, "opaque_type",        "TypeProto.Opaque"),
    (8, "sparse_tensor_type", "TypeProto.SparseTensor"),
    (9, "optional_type",      "TypeProto.Optional"),
    oneofs={"value": ("tensor_type", "sequence_type", "map_type", "optional_type", "sparse_tensor_type",
                      "opaque_type")},
)
TypeProtoTensor = _message(
    "TypeProto.Tensor",
    (1, "elem_type", "int32"),
    (2, "shape",     "TensorShapeProto"),
)
TypeProtoSequence = _message(
    "TypeProto.Sequence",
    (1, "elem_type", "TypeProto"),
)
TypeProtoMap = _message(
    "TypeProto.Map",
    (1, "key_type",   "int32"),
    (2, "value_type", "TypeProto"),
)
TypeProtoOptional = _message(
    "TypeProto.Optional",
    (1, "elem_type", "TypeProto"),
)
TypeProtoSparseTensor = _message(
    "TypeProto.SparseTensor",
    (1, "elem_type", "int32"),
    (2, "shape",     "TensorShapeProto"),
)
TypeProtoOpaque = _message(
    "TypeProto.Opaque",
    (1, "domain", "string"),
    (2, "name",   "string"),
)
TensorShapeProto = _message(
    "TensorShapeProto",
    (1, "dim", "TensorShapeProto.Dimension*"),
)
TensorShapeProtoDimension = _message(
    "TensorShapeProto.Dimension",
    (1, "dim_value",  "int64"),
    (2, "dim_param",  "string"),
    (3, "denotation", "string"),
    oneofs={"value": ("dim_value", "dim_param")},
)

# Devices that parts of a model are meant for.

DeviceConfigurationProto = _message(
    "DeviceConfigurationProto",
    (1, "name",        "string"),
    (2, "num_devices", "int32"),
    (3, "device",      "string*"),
)
NodeDeviceConfigurationProto = _message(
    "NodeDeviceConfigurationProto",
    (1, "configuration_id", "string"),
    (2, "sharding_spec",    "ShardingSpecProto*"),
    (3, "pipeline_stage",   "int32"),
)
ShardingSpecProto = _message(
    "ShardingSpecProto",
    (1, "tensor_name",               "string"),
    (2, "device",                    "int64*"),
    (3, "index_to_device_group_map", "IntIntListEntryProto*"),
    (4, "sharded_dim",               "ShardedDimProto*"),
)
IntIntListEntryProto = _message(
    "IntIntListEntryProto",
    (1, "key",   "int64"),
    (2, "value", "int64*"),
)
ShardedDimProto = _message(
    "ShardedDimProto",
    (1, "axis",            "int64"),
    (2, "simple_sharding", "SimpleShardedDimProto*"),
)
SimpleShardedDimProto = _message(
    "SimpleShardedDimProto",
    (1, "dim_value",  "int64"),
    (2, "dim_param",  "string"),
    (3, "num_shards", "int64"),
    oneofs={"dim": ("dim_value", "dim_param")},
)

# What test data and operator sets are written in.

SequenceProto = _message(
    "SequenceProto",
    (1, "name",                 "string"),
    (2, "elem_type",            "int32"),
    (3, "tensor_values",        "TensorProto*"),
    (4, "sparse_tensor_values", "SparseTensorProto*"),
    (5, "sequence_values",      "SequenceProto*"),
    (6, "map_values",           "MapProto*"),
    (7, "optional_values",      "OptionalProto*"),
)
MapProto = _message(
    "MapProto",
    (1, "name",        "string"),
    (2, "key_type",    "int32"),
    (3, "keys",        "int64*"),
    (4, "string_keys", "bytes*"),
    (5, "values",      "SequenceProto"),
)
OptionalProto = _message(
    "OptionalProto",
    (1, "name",                "string"),
    (2, "elem_type",           "int32"),
    (3, "tensor_value",        "TensorProto"),
    (4, "sparse_tensor_value", "SparseTensorProto"),
    (5, "sequence_value",      "SequenceProto"),
    (6, "map_value",           "MapProto"),
    (7, "optional_value",      "OptionalProto"),
)
OperatorProto = _message(
    "OperatorProto",
    (1,  "op_type",       "string"),
    (2,  "since_version", "int64"),
    (3,  "status",        "OperatorStatus"),
    (10, "doc_string",    "string"),
)
OperatorSetProto = _message(
    "OperatorSetProto",
    (1, "magic",                 "string"),
    (2, "ir_version",            "int64"),
    (3, "ir_version_prerelease", "string"),
    (4, "domain",                "string"),
    (5, "opset_version",         "int64"),
    (6, "doc_string",            "string"),
    (7, "ir_build_metadata",     "string"),
    (8, "operator",              "OperatorProto*"),
    (9, "functions",             "FunctionProto*"),
)
