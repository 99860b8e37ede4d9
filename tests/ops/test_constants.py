"""Constant, ConstantOfShape, EyeLike, Range, OneHot: onnx's cases, ONNX Runtime, and what their sizes come from."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import pytest
from tests.ops.models import inferred, shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError
from gesher.ir import SparseTensor, Tensor

KNOWN = {"ConstantOfShape": (0,), "Range": (0, 1, 2), "OneHot": (1,)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("Constant", "ConstantOfShape", "EyeLike", "Range", "OneHot")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    symbols = {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)} if case.op in ("EyeLike", "OneHot") else None
    check(case, want, rtol=rtol, atol=atol, symbols=symbols, known=KNOWN.get(case.op, ()))


@pytest.mark.parametrize(("attributes", "want"), [
    ({"value_int": 3}, np.array(3)),
    ({"value_ints": [3, -4]}, np.array([3, -4])),
    ({"value_float": 0.1}, np.array(0.1, np.float32)),
    ({"value_floats": [0.5, 2.0]}, np.array([0.5, 2], np.float32)),
    ({"value_string": "shalom"}, np.array("shalom", object)),
    ({"value_strings": ["a", "גשר"]}, np.array(["a", "גשר"], object)),
])
def test_constants_as_plain_attributes(attributes: dict, want: np.ndarray) -> None:
    check(Case("Constant", 13, [], attributes), [want], lowers=True)


def test_a_sparse_constant_is_dense_when_used() -> None:
    sparse = SparseTensor(Tensor.of(np.array([7, 8], np.float32)), Tensor.of(np.array([[0, 1], [1, 2]])), (2, 3))
    check(Case("Constant", 13, [], {"sparse_value": sparse}), [np.array([[0, 7, 0], [0, 0, 8]], np.float32)])


def test_a_constant_has_exactly_one_value() -> None:
    for attributes in ({}, {"value_int": 1, "value_float": 1.0}):
        with pytest.raises(ModelError, match="exactly one"):
            Case("Constant", 13, [], attributes).infer()
        with pytest.raises(RunError, match="exactly one"):
            Case("Constant", 13, [], attributes).reference()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64, np.bool_, ml_dtypes.bfloat16,
                                   ml_dtypes.float8_e4m3fn, ml_dtypes.int4])
def test_constant_of_shape_takes_its_type_from_the_value(dtype: type) -> None:
    case = Case("ConstantOfShape", 21, [np.array([2, 0, 3])], {"value": Tensor.of(np.array([1], dtype))})
    check(case, [np.ones((2, 0, 3), dtype)], known=[0])


def test_constant_of_shape_follows_symbols() -> None:
    assert shapes("""
        c (float[n, 3, h] x) => (y) {
          s = Shape(x)
          y = ConstantOfShape(s)
        }""") == ["float(n,3,h)"]


def test_constant_of_shape_refuses_a_list_of_values() -> None:
    with pytest.raises(ModelError, match="must hold one"):
        Case("ConstantOfShape", 21, [np.array([2])], {"value": Tensor.of(np.array([1, 2]))}).infer(known=[0])


@pytest.mark.parametrize("seed", range(12))
def test_eye_like_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.zeros(rng.integers(1, 6, 2), rng.choice([np.float32, np.int64, np.float64, np.int32]))
    attributes = {"k": int(rng.integers(-5, 6))}
    if rng.random() < 0.5:
        attributes["dtype"] = int(rng.choice([1, 7, 11, 6]))
    check(Case("EyeLike", int(rng.choice([9, 22])), [x], attributes), symbols={(0, 0): "n", (0, 1): "m"})


@pytest.mark.parametrize("seed", range(24))
def test_range_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = rng.choice([np.float32, np.float64, np.int16, np.int32, np.int64])
    start, limit = rng.integers(-50, 50, 2)
    delta = rng.integers(1, 9) * rng.choice([-1, 1])
    scale = 1 if np.dtype(dtype).kind == "i" else 0.1
    # ONNX Runtime adds the step again and again instead of multiplying.
    check(Case("Range", 11, [np.array(v * scale, dtype) for v in (start, limit, delta)]), known=[0, 1, 2], rtol=1e-5)


def test_a_range_of_floats_is_counted_in_double() -> None:
    ends = [np.array(v, np.float32) for v in (0.8, -1.6, -0.1)]
    assert (ends[1] - ends[0]) / np.float64(ends[2]) > 24
    check(Case("Range", 11, ends), known=[0, 1, 2], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_range_27_counts_narrow_floats_in_float32(dtype: type) -> None:
    start, limit, delta = (np.array(v, dtype) for v in (0, 4096, 1))
    want = np.arange(4096, dtype=np.float32).astype(dtype)
    check(Case("Range", 27, [start, limit, delta]), [want], known=[0, 1, 2])


def test_range_follows_symbols_up_and_down() -> None:
    assert shapes("""
        r (float[n, m] x) => (up, down, halves) {
          n1 = Shape<end = 1>(x)
          n = Squeeze(n1)
          zero = Constant<value_int = 0>()
          one = Constant<value_int = 1>()
          two = Constant<value_int = 2>()
          minus = Constant<value_int = -1>()
          up = Range(zero, n, one)
          down = Range(n, zero, minus)
          halves = Range(zero, n, two)
        }""") == ["int64(n)", "int64(n)", "int64((n + 1)//2)"]


def test_a_known_range_is_a_known_value() -> None:
    model, facts = inferred("""
        r (float[2] x) => (y) {
          zero = Constant<value_int = 1>()
          three = Constant<value_int = 8>()
          step = Constant<value_int = 3>()
          y = Range(zero, three, step)
        }""")
    value = facts[model.graph.outputs[0]].value
    assert value is not None and value.tolist() == [1, 4, 7]


@pytest.mark.parametrize(("ends", "says"), [((0, 5, 0), "no length"), ((0, np.inf, 1), "no length"),
                                            ((-1e308, 1e308, 1), "no length")])
def test_a_range_without_a_length_is_refused(ends: tuple, says: str) -> None:
    case = Case("Range", 11, [np.array(v, np.float64) for v in ends])
    with pytest.raises(ModelError, match=says):
        case.infer(known=[0, 1, 2])
    with pytest.raises(RunError, match=says):
        case.reference()


def test_a_huge_range_is_inferred_but_not_made() -> None:
    case = Case("Range", 11, [np.array(v, np.float64) for v in (0, 1e15, 1)])
    facts, _ = case.infer(known=[0, 1, 2])
    assert facts[0] is not None and facts[0].shape == (10**15,) and facts[0].value is None
    with pytest.raises(RunError, match="budget"):
        case.reference()


@pytest.mark.parametrize("version", [9, 11])
def test_one_hot_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        shape = tuple(int(d) for d in rng.integers(1, 4, rng.integers(1, 4)))
        depth = int(rng.integers(1, 6))
        # Version 9 leaves negative indices out; ONNX Runtime counts them from the end in both.
        indices = rng.integers(0 if version == 9 else -depth - 2, depth + 2, shape).astype(rng.choice(
            [np.int64, np.float32, np.int32]))
        depth_dtype = np.float32 if indices.dtype == np.float32 else np.int64
        values = np.array([-1, 5], np.float32)
        if indices.dtype == np.int32:
            continue  # ONNX Runtime has no kernel for it with these types
        check(Case("OneHot", version, [indices, np.array([depth], depth_dtype), values],
                   {"axis": int(rng.integers(-len(shape) - 1, len(shape) + 1))}),
              symbols={(0, a): f"d{a}" for a in range(len(shape))}, known=[1])


def test_one_hot_9_has_no_negative_indices() -> None:
    inputs = [np.array([-1, 0]), np.array(2), np.array([0, 1])]
    check(Case("OneHot", 9, inputs), [np.array([[0, 0], [1, 0]])], known=[1])
    check(Case("OneHot", 11, inputs), [np.array([[0, 1], [1, 0]])], known=[1])


def test_values_of_tensor_attributes_come_from_files_too() -> None:
    proto = onnx.helper.make_tensor("v", onnx.TensorProto.INT32, [1], [9])
    check(Case("ConstantOfShape", 9, [np.array([2])], {"value": proto}), [np.array([9, 9], np.int32)], known=[0])
