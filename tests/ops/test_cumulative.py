"""CumSum and CumProd: from either end, with the element itself or without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.drawing import draw, generator, label, tolerance, types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import Node, Value
from gesher.ops import Fact, infer_node
from gesher.symbolic import sym


@pytest.mark.parametrize(("name", "schema"), versions_of("CumSum", "CumProd"), ids=label)
def test_rules_agree(name: str, schema: Any) -> None:
    for dtype in types_of(schema):
        x = draw(generator(name, dtype.name), dtype, (2, 3, 4), special=dtype.is_integer, low=-2, high=2)
        for axis in (np.int32(1), np.int64(-1), np.array([0])):
            for flags in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
                case = Case(name, schema.version, [x, axis], flags)
                check(case, "nobody", symbols={(0, 0): "n", (0, 1): "m"}, known=[1], **tolerance(dtype))
                if name == "CumSum" and dtype in (dtypes.FLOAT, dtypes.INT64):
                    check(case, rtol=1e-5, known=[1])


def test_all_four_ways() -> None:
    x, axis = np.array([1.0, 2, 3]), np.array(0)
    for op, flags, want in (
            ("CumSum", {}, [1, 3, 6]), ("CumSum", {"exclusive": 1}, [0, 1, 3]), ("CumSum", {"reverse": 1}, [6, 5, 3]),
            ("CumSum", {"exclusive": 1, "reverse": 1}, [5, 3, 0]), ("CumProd", {}, [1, 2, 6]),
            ("CumProd", {"exclusive": 1}, [1, 1, 2]), ("CumProd", {"reverse": 1}, [6, 6, 3]),
            ("CumProd", {"exclusive": 1, "reverse": 1}, [6, 3, 1])):
        check(Case(op, 26, [x, axis], flags), [np.array(want, np.float64)], known=[1])


def test_of_nothing_comes_nothing() -> None:
    check(Case("CumSum", 14, [np.zeros((2, 0)), np.array(1)], {"exclusive": 1}), [np.zeros((2, 0))], known=[1])


def test_the_axis_must_exist_and_be_known() -> None:
    case = Case("CumSum", 14, [np.zeros((2, 3)), np.array(2)])
    with pytest.raises(ModelError, match="axis"):
        case.infer(known=[1])
    with pytest.raises(ModelError, match="axis"):
        case.reference()
    check(Case("CumSum", 14, [np.ones((2, 3)), np.array(0)]), [np.float64([[1, 1, 1], [2, 2, 2]])], lowers=False)


def test_sizes_are_summed() -> None:
    n = sym("n")
    facts = [Fact.tensor(dtypes.INT64, (3,), [n, 2, n]), Fact.tensor(dtypes.INT64, (), 0)]
    node = Node("CumSum", [Value("x"), Value("axis")], attributes={"exclusive": 1})
    fact = infer_node(node, {"": 14}, facts)[0]
    assert fact is not None and fact.value is not None and fact.value.tolist() == [0, n, n + 2]
