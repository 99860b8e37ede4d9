"""Whether nodes fit schemas: types as schemas spell them, type variables, counts of inputs and outputs."""

import onnx.defs
import pytest

from gesher.base import dtypes
from gesher.ir import (
    MapType,
    Node,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
    Value,
)
from gesher.ops import find, operators
from gesher.ops.fit import arity, spelled, types
from gesher.ops.schema import Schema

F, D, I64 = TensorType(dtypes.FLOAT), TensorType(dtypes.DOUBLE), TensorType(dtypes.INT64)


def read(text: str) -> Type:
    """A type from the spelling of onnx's schemas."""
    text = text.replace(" ", "")
    word, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    match word:
        case "tensor":
            return TensorType(dtypes.BY_NAME[inner])
        case "sparse_tensor":
            return SparseTensorType(dtypes.BY_NAME[inner])
        case "seq":
            return SequenceType(read(inner))
        case "optional":
            return OptionalType(read(inner))
        case "map":
            key, value = inner.split(",", 1)
            return MapType(dtypes.BY_NAME[key], read(value))
    return TensorType(dtypes.BY_NAME[text])


def newest(name: str, domain: str = "") -> Schema:
    operator = find(domain, name)
    assert operator is not None
    return operator.versions[-1]


def test_every_type_of_every_schema_of_onnx_is_taken_where_it_is_allowed() -> None:
    seen = set()
    for theirs in onnx.defs.get_all_schemas():
        operator = find(theirs.domain, theirs.name)
        schema = operator.schema(theirs.since_version) if operator is not None else None
        if schema is None:
            continue
        node = Node(theirs.name)
        for i, formal in enumerate(theirs.inputs):
            for text in formal.types:
                inputs: list[Type | None] = [None] * i + [read(text)]
                assert not list(types(node, schema, inputs)), f"{theirs.name} {formal.name} {text}"
                seen.add(text)
    assert len(seen) > 60


def test_a_type_that_is_not_allowed_is_told_with_what_is() -> None:
    found = list(types(Node("Not"), newest("Not"), [F]))
    assert [m.rule for m in found] == ["type-constraint"] and found[0].advice == "allowed: tensor(bool)"


@pytest.mark.parametrize(("op", "inputs", "rules"), [
    ("Add", [F, F], []), ("Add", [F, D], ["type-binding"]), ("Add", [F, None], []),
    ("Add", [F, TensorType(dtypes.UNDEFINED)], []),
    ("Concat", [F, F, D], ["type-binding"]), ("Max", [F, F, F], []),
    ("Where", [TensorType(dtypes.BOOL), F, D], ["type-binding"]),
    ("Gather", [D, I64], []), ("Gather", [D, F], ["type-constraint"]),
    ("Loop", [I64, None, F, D, SequenceType(F)], []), ("SequenceAt", [SequenceType(F), I64], []),
    ("SequenceAt", [F, I64], ["type-constraint"]), ("SequenceInsert", [SequenceType(None), F], []),
])
def test_type_variables_are_one_type(op: str, inputs: list[Type | None], rules: list[str]) -> None:
    assert [m.rule for m in types(Node(op), newest(op), inputs)] == rules


def test_outputs_share_type_variables_with_inputs() -> None:
    assert not list(types(Node("Relu"), newest("Relu"), [F], [F]))
    assert [m.rule for m in types(Node("Relu"), newest("Relu"), [F], [D])] == ["type-binding"]


@pytest.mark.parametrize(("type", "text"), [
    (F, "tensor(float)"), (SequenceType(OptionalType(F)), "seq(optional(tensor(float)))"),
    (MapType(dtypes.STRING, F), "map(string,float)"), (SequenceType(MapType(dtypes.INT64, F)), "seq(map(int64,float))"),
    (SparseTensorType(dtypes.FLOAT), "sparse_tensor(float)"), (SequenceType(None), None),
    (TensorType(dtypes.UNDEFINED), None), (None, None),
])
def test_types_are_spelled_as_schemas_spell_them(type: Type | None, text: str | None) -> None:
    assert spelled(type) == text


def test_every_operator_takes_as_many_inputs_as_onnx_says() -> None:
    for operator in operators():
        for schema in operator.versions:
            try:
                theirs = onnx.defs.get_schema(schema.name, schema.version, schema.domain)
            except onnx.defs.SchemaError:
                continue  # an operator of another domain
            most = min(theirs.max_input, theirs.min_input + 3)
            for count in {theirs.min_input, most}:
                node = Node(schema.name, [Value() for _ in range(count)],
                            [Value() for _ in range(max(1, theirs.min_output))])
                assert not [m for m in arity(node, schema) if m.rule == "input-count"], f"{schema.name} {count}"
            for count in {theirs.min_input - 1, theirs.max_input + 1} - {-1}:
                if count > 1 << 20:
                    continue
                node = Node(schema.name, [Value() for _ in range(count)], 1)
                assert "input-count" in [m.rule for m in arity(node, schema)], f"{schema.name} {count}"
