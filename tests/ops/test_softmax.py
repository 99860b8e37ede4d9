"""Softmax, LogSoftmax and Hardmax: one axis since opset 13, a matrix cut before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.drawing import draw, generator, label, tolerance, types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base import dtypes
from gesher.base.errors import ModelError

NAMES = ["Softmax", "LogSoftmax", "Hardmax"]


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize(("name", "schema"), versions_of(*NAMES), ids=label)
def test_rules_agree(name: str, schema: Any, axis: int | None) -> None:
    if axis == -1 and schema.version == 1:
        return
    attributes = {} if axis is None else {"axis": axis}
    for dtype in types_of(schema):
        x = draw(generator(name, dtype.name), dtype, (2, 3, 4), special=False)
        case = Case(name, schema.version, [x], attributes)
        check(case, "nobody", symbols={(0, 0): "n", (0, 2): "m"}, **tolerance(dtype))
    if schema.version > 1:
        x = draw(generator(name), dtypes.FLOAT, (3, 4, 5), special=False)
        check(Case(name, schema.version, [x], attributes), rtol=1e-5, atol=1e-6)


def test_softmax_before_13_cuts_a_matrix() -> None:
    x = np.zeros((2, 3, 4))
    check(Case("Softmax", 11, [x]), [np.full((2, 3, 4), 1 / 12)])
    check(Case("Softmax", 13, [x], {"axis": 1}), [np.full((2, 3, 4), 1 / 3)])
    check(Case("Softmax", 1, [x], {"axis": 3}), [np.ones((2, 3, 4))])


@pytest.mark.parametrize(("name", "want"), [("Softmax", [0, 1]), ("LogSoftmax", [-2000, 0]), ("Hardmax", [0, 1])])
def test_large_scores_do_not_overflow(name: str, want: list[float]) -> None:
    check(Case(name, 13, [np.array([[-1000.0, 1000.0]])]), [np.array([want], np.float64)])


def test_hardmax_takes_the_first_of_equals() -> None:
    check(Case("Hardmax", 13, [np.float32([[2, 3, 3], [1, 1, 1]])]), [np.float32([[0, 1, 0], [1, 0, 0]])])


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_nothing_gives_nothing(name: str) -> None:
    x = np.zeros((2, 0), np.float32)
    assert Case(name, 13, [x]).reference()[0].shape == (2, 0)


@pytest.mark.parametrize("opset", [11, 13])
def test_an_axis_out_of_range_is_refused(opset: int) -> None:
    with pytest.raises(ModelError, match="axis"):
        Case("Softmax", opset, [np.zeros((2, 3))], {"axis": -3}).infer()
    with pytest.raises(ModelError, match="axis"):
        Case("Softmax", opset, [np.zeros((2, 3))], {"axis": -3}).reference()
