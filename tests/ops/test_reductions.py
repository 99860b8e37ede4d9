"""Reductions, ArgMax and ArgMin: axes as attribute and as input, kept and dropped, empty sets, every type."""

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

NAMES = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceSumSquare"]


def _case(name: str, version: int, x: Any, axes: Any, **attributes: Any) -> Case:
    """A reduction with its axes where that version has them."""
    if version >= (13 if name == "ReduceSum" else 18):
        return Case(name, version, [x] if axes is None else [x, np.array(axes, np.int64)], attributes)
    return Case(name, version, [x], attributes if axes is None else {"axes": axes, **attributes})


@pytest.mark.parametrize(("name", "schema"), versions_of(*NAMES), ids=label)
def test_rules_agree(name: str, schema: Any) -> None:
    for dtype in types_of(schema):
        low = 0.1 if name == "ReduceLogSum" else -2
        x = draw(generator(name, dtype.name), dtype, (2, 3, 4), special=False, low=low)
        if dtype.is_integer and name == "ReduceLogSum":
            x = np.abs(x) + x.dtype.type(1)
        for axes in (None, [1], [0, 2], [-1], [2, -2]):
            for keepdims in (0, 1):
                if axes and min(axes) < 0 and schema.version < 11:
                    continue
                case = _case(name, schema.version, x, axes, keepdims=keepdims)
                check(case, "nobody", symbols={(0, 0): "n", (0, 2): "m"}, known=[1], **tolerance(dtype))


@pytest.mark.parametrize(("name", "schema"), [v for v in versions_of(*NAMES) if 7 < v[1].version < 28], ids=label)
def test_reference_agrees_with_onnxruntime(name: str, schema: Any) -> None:
    low = 0.1 if name == "ReduceLogSum" else -2
    x = draw(generator(name), dtypes.FLOAT, (3, 4, 5), special=False, low=low)
    for axes in (None, [1], [0, -1]):
        check(_case(name, schema.version, x, axes, keepdims=0), rtol=1e-5, atol=1e-5, known=[1])
    i = draw(generator(name), dtypes.INT32, (3, 4), special=False, low=1, high=9)
    check(_case(name, schema.version, i, [1]), rtol=0, atol=1 if name == "ReduceLogSumExp" else 0, known=[1])


@pytest.mark.parametrize("name", NAMES)
def test_special_values_go_through(name: str) -> None:
    rows = np.array([[1, np.nan, 2], [1, np.inf, 2], [1, -np.inf, 2], [-np.inf, -np.inf, -np.inf],
                     [np.inf, -np.inf, 1]])
    case = Case(name, 18 if name != "ReduceSum" else 13, [rows, np.array([1])], {"keepdims": 0})
    direct: dict[str, Any] = {
        "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod,
        "ReduceL1": lambda r, a: np.sum(np.abs(r), a), "ReduceL2": lambda r, a: np.sqrt(np.sum(r * r, a)),
        "ReduceLogSum": lambda r, a: np.log(np.sum(r, a)), "ReduceLogSumExp": lambda r, a: np.log(np.sum(np.exp(r), a)),
        "ReduceSumSquare": lambda r, a: np.sum(r * r, a)}
    with np.errstate(all="ignore"):
        want = direct[name](rows, 1)
    check(case, [want], known=[1], rtol=1e-12, atol=0)


EMPTY = [("ReduceSum", 0.0), ("ReduceMean", np.nan), ("ReduceMax", -np.inf), ("ReduceMin", np.inf), ("ReduceProd", 1.0),
         ("ReduceL1", 0.0), ("ReduceL2", 0.0), ("ReduceLogSum", -np.inf), ("ReduceLogSumExp", -np.inf),
         ("ReduceSumSquare", 0.0)]


@pytest.mark.parametrize(("name", "want"), EMPTY)
def test_the_empty_set(name: str, want: float) -> None:
    case = _case(name, 20, np.zeros((2, 0, 3), np.float32), [1], keepdims=1)
    check(case, [np.full((2, 1, 3), want, np.float32)], known=[1], symbols={(0, 1): "n"})


def test_the_empty_set_of_integers_and_booleans() -> None:
    for dtype, name, want in (
            (np.int32, "ReduceMax", -2**31), (np.uint8, "ReduceMin", 255), (np.bool_, "ReduceMax", False),
            (np.bool_, "ReduceMin", True), (np.int64, "ReduceMean", 0)):
        check(_case(name, 20, np.zeros((2, 0), dtype), [1], keepdims=0), [np.full(2, want, dtype)], known=[1])


@pytest.mark.parametrize(("name", "want"), [
    ("ReduceSum", lambda x: x), ("ReduceMean", lambda x: x), ("ReduceMax", lambda x: x), ("ReduceMin", lambda x: x),
    ("ReduceProd", lambda x: x), ("ReduceL1", np.abs), ("ReduceL2", np.abs), ("ReduceSumSquare", np.square),
    ("ReduceLogSum", np.log), ("ReduceLogSumExp", lambda x: x)])
def test_noop_with_empty_axes_still_does_what_is_beside_folding(name: str, want: Any) -> None:
    x = draw(generator(name), dtypes.DOUBLE, (3, 4), special=False, low=0.5)
    for axes in (None, []):
        check(_case(name, 18, x, axes, noop_with_empty_axes=1), [want(x)], known=[1], symbols={(0, 0): "n"}, rtol=1e-12)
        everything = _case(name, 18, x, None).reference()[0]
        check(_case(name, 18, x, axes), [everything], known=[1])


def test_an_empty_list_of_axes_as_attribute_means_all() -> None:
    x = np.arange(6.0).reshape(2, 3)
    check(Case("ReduceSum", 11, [x], {"axes": []}), [np.array([[15.0]])])


def test_integer_sums_wrap_and_means_are_cut() -> None:
    check(_case("ReduceSum", 13, np.int32([2**31 - 1, 1]), None, keepdims=0), [np.array(-2**31, np.int32)])
    check(_case("ReduceMean", 18, np.int32([[-3, -4], [3, 4]]), [1], keepdims=0), [np.int32([-3, 3])], known=[1])


def test_reduce_max_of_uint8_and_bool() -> None:
    check(_case("ReduceMax", 12, np.uint8([[1, 250], [3, 2]]), [0], keepdims=0), [np.uint8([3, 250])])
    check(_case("ReduceMax", 20, np.array([[False, True], [False, False]]), [1], keepdims=0), [np.array([True, False])],
          known=[1])


def test_sums_of_float16_are_rounded_once() -> None:
    x = np.full(4096, 0.1, np.float16)
    want = np.float16(np.float64(np.float16(0.1)) * 4096)
    check(_case("ReduceSum", 13, x, None, keepdims=0), [np.array(want)], rtol=1e-3)


def test_log_sum_exp_does_not_overflow() -> None:
    check(_case("ReduceLogSumExp", 18, np.array([1000.0, 1000.0]), None, keepdims=0), [np.array(1000 + np.log(2))])


def test_axes_that_do_not_exist_are_refused() -> None:
    for case in (_case("ReduceSum", 13, np.zeros((2, 3)), [2]), _case("ReduceMax", 11, np.zeros((2, 3)), [-3])):
        with pytest.raises(ModelError, match="ax"):
            case.infer(known=[1])
        with pytest.raises(ModelError, match="ax"):
            case.reference()
    with pytest.raises(ModelError, match="twice"):
        _case("ReduceSum", 13, np.zeros((2, 3)), [1, -1]).infer(known=[1])


def test_axes_known_only_in_a_run_leave_what_can_be_said() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    axes = np.array([0, 2])
    kept = Case("ReduceSum", 13, [x, axes]).infer()[0][0]
    assert kept is not None and kept.shape == (None, None, None)
    dropped = Case("ReduceSum", 13, [x, axes], {"keepdims": 0}).infer()[0][0]
    assert dropped is not None and dropped.shape == (None,)
    check(Case("ReduceSum", 13, [x, axes]), [np.zeros((1, 3, 1), np.float32)], lowers=False, exact=False)


def test_sizes_pass_through_sums_and_products() -> None:
    n = sym("n")

    def value(op: str, opset: int, **attributes: Any) -> Any:
        node = Node(op, [Value("x")], attributes=attributes)
        fact = infer_node(node, {"": opset}, [Fact.tensor(dtypes.INT64, (2, 2), [[n, 2], [3, n]])])[0]
        assert fact is not None and fact.value is not None
        return fact.value.tolist()

    assert value("ReduceProd", 18, keepdims=0) == 6 * n * n
    assert value("ReduceSum", 11, axes=[1], keepdims=0) == [n + 2, n + 3]
    assert value("ReduceMax", 18, keepdims=1) == [[value("ReduceMax", 18, keepdims=0)]]
    assert value("ReduceSum", 13, noop_with_empty_axes=1) == [[n, 2], [3, n]]


# ArgMax, ArgMin

@pytest.mark.parametrize(("name", "schema"), versions_of("ArgMax", "ArgMin"), ids=label)
def test_arg_rules_agree(name: str, schema: Any) -> None:
    for dtype in types_of(schema):
        x = draw(generator(name, dtype.name), dtype, (3, 5, 2), low=-2, high=2)
        for axis in (0, 1, -1):
            for keepdims in (0, 1):
                attributes = {"axis": axis, "keepdims": keepdims}
                last = [{}] if schema.version < 12 else [{"select_last_index": 0}, {"select_last_index": 1}]
                for more in last:
                    case = Case(name, schema.version, [x], attributes | more)
                    check(case, "nobody", symbols={(0, 0): "n", (0, 1): "m"}, rtol=0, atol=0)
    if schema.version > 7:
        x = draw(generator(name), dtypes.FLOAT, (4, 5), special=False)
        check(Case(name, schema.version, [x], {"axis": 1}))


def test_the_last_of_equals() -> None:
    x = np.float32([[1, 3, 3], [2, 2, 1]])
    check(Case("ArgMax", 12, [x], {"axis": 1, "select_last_index": 1, "keepdims": 0}), [np.array([2, 1])])
    check(Case("ArgMin", 12, [x], {"axis": 1, "select_last_index": 1, "keepdims": 0}), [np.array([0, 2])])
    check(Case("ArgMax", 12, [x], {"axis": 1, "keepdims": 0}), [np.array([1, 0])])


def test_there_is_no_index_on_an_empty_axis() -> None:
    with pytest.raises(ModelError, match="size is 0"):
        Case("ArgMax", 13, [np.zeros((2, 0))], {"axis": 1}).infer()
