"""Operators that only move data take every type that their newest schema names, the narrow ones too, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.drawing import draw, generator, types_of
from tests.ops.single_node import Case

from gesher import ops
from gesher.base.dtypes import DType
from gesher.primitives import CannotLower

# Operator, opset, inputs behind the data, attributes, and what numpy says of the same numbers.
MOVERS: list[tuple[str, int, list[Any], dict[str, Any], Any]] = [
    ("Reshape", 25, [np.array([3, -1])], {}, lambda x: x.reshape(3, 2)),
    ("Flatten", 25, [], {}, lambda x: x.reshape(2, 3)),
    ("Unsqueeze", 25, [np.array([0])], {}, lambda x: x[None]),
    ("Squeeze", 25, [np.array([2])], {}, lambda x: x[:, :, 0]),
    ("Expand", 13, [np.array([2, 3, 2])], {}, lambda x: np.broadcast_to(x, (2, 3, 2))),
    ("Transpose", 25, [], {"perm": [1, 0, 2]}, lambda x: x.transpose(1, 0, 2)),
    ("Slice", 13, [np.array([2]), np.array([-9]), np.array([1]), np.array([-2])], {}, lambda x: x[:, ::-2]),
    ("Split", 18, [], {"axis": 1, "num_outputs": 1}, lambda x: x),
    ("Concat", 13, [], {"axis": 0}, lambda x: x),
    ("Tile", 13, [np.array([1, 2, 1])], {}, lambda x: np.tile(x, (1, 2, 1))),
    ("Pad", 25, [np.array([0, 1, 0, 0, 0, 0])], {"mode": "edge"}, lambda x: np.concatenate([x[:, :1], x], 1)),
    ("Gather", 13, [np.array([1, -1])], {}, lambda x: x[[1, 1]]),
    ("GatherElements", 13, [np.zeros((1, 3, 1), np.int64)], {}, lambda x: x[:1]),
    ("GatherND", 13, [np.array([[1, 0]])], {}, lambda x: x[1, 0][None]),
    ("ReverseSequence", 28, [np.array([2, 1, 2])], {}, lambda x: np.stack([x[::-1, 0], x[:, 1], x[::-1, 2]], 1)),
    ("TensorScatter", 24, [], {"axis": 1}, lambda x: x),
    ("ScatterND", 18, [np.array([[0]])], {}, lambda x: x),
    ("ScatterElements", 18, [np.zeros((1, 3, 1), np.int64)], {}, lambda x: x),
]


def bits(x: np.ndarray) -> Any:
    return x.tolist() if x.dtype == object else x.tobytes()


@pytest.mark.parametrize(("op", "opset", "others", "attributes", "want"), MOVERS, ids=[m[0] for m in MOVERS])
def test_every_type_is_moved_bit_for_bit(op: str, opset: int, others: list, attributes: dict, want: Any) -> None:
    operator = ops.find("", op)
    assert operator is not None
    schema = operator.schema(opset)
    assert schema is not None
    found = types_of(schema)
    assert len(found) > 14
    for dtype in found:
        _check(Case(op, opset, _inputs(op, dtype, others), attributes), want)


def _inputs(op: str, dtype: DType, others: list) -> list[np.ndarray]:
    x = draw(generator(op, dtype.name), dtype, (2, 3, 1))
    updates = {"TensorScatter": [x], "ScatterND": [x[:1]], "ScatterElements": [x[:1]]}.get(op, [])
    return [x, *others, *updates]


def _check(case: Case, want: Any) -> None:
    expected = want(case.inputs[0])
    got = case.reference()[0]
    assert got.dtype == expected.dtype and got.shape == expected.shape, str(case)
    assert bits(got) == bits(np.ascontiguousarray(expected)), str(case)
    try:
        lowered = case.lowered({(0, 0): "n"} if case.op == "Transpose" else None, range(1, len(case.inputs)))[0]
    except CannotLower:
        assert expected.dtype.kind in "Oc", f"{case} does not lower"
        return
    assert lowered.dtype == expected.dtype and bits(np.ascontiguousarray(lowered)) == bits(got), f"{case}, lowered"
