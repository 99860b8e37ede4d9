"""Maps of one tensor: every rule of every version over every type; ONNX Runtime; what a person can check."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.ops.drawing import draw, generator, label, tolerance, types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base import dtypes
from gesher.inference.folding import deterministic
from gesher.ir import Node, SequenceType, TensorType, Value
from gesher.ops import Fact, infer_node

MATHEMATICS = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor",
    "Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh",
]
TESTS = ["BitwiseNot", "IsInf", "IsNaN", "Not"]
ACTIVATIONS = [
    "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu", "Shrink",
    "Sigmoid", "Softplus", "Softsign", "Swish", "ThresholdedRelu",
]


@pytest.mark.parametrize(("name", "schema"), versions_of(*MATHEMATICS, *TESTS, *ACTIVATIONS, "Identity"),
                         ids=label)
def test_rules_agree_over_types(name: str, schema: Any) -> None:
    for dtype in types_of(schema):
        x = draw(generator(name, dtype.name), dtype, (5, 4))
        if name in ("Erf", "Shrink") and dtype.is_integer:  # computed in double precision
            x = draw(generator(name), dtype, (5, 4), special=False)
        lowers = name == "Identity" or dtype.kind not in ("string", "complex")
        check(Case(name, schema.version, [x]), "nobody", symbols={(0, 0): "n"}, lowers=lowers, **tolerance(dtype))


@pytest.mark.parametrize(("name", "schema"), [
    (n, s) for n, s in versions_of(*MATHEMATICS, *TESTS, *ACTIVATIONS)
    if 7 <= s.version <= 22], ids=label)
def test_reference_agrees_with_onnxruntime(name: str, schema: Any) -> None:
    dtype = {"Not": dtypes.BOOL, "BitwiseNot": dtypes.INT32}.get(name, dtypes.FLOAT)
    low, high = {"Acosh": (1, 4), "Log": (0.1, 4), "Sqrt": (0, 4), "Atanh": (-0.9, 0.9), "Asin": (-1, 1),
                 "Acos": (-1, 1), "Tan": (-1.4, 1.4)}.get(name, (-4, 4))
    special = name in ("IsInf", "IsNaN", "Round", "Ceil", "Floor", "Neg", "Abs")
    x = draw(generator(name), dtype, (3, 5), special=special, low=low, high=high)
    check(Case(name, schema.version, [x]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "attributes"), [
    ("LeakyRelu", {"alpha": 0.3}), ("Elu", {"alpha": 2.0}), ("Selu", {"alpha": 1.1, "gamma": 2.0}),
    ("Celu", {"alpha": 0.7}), ("HardSigmoid", {"alpha": 0.5, "beta": 0.6}), ("ThresholdedRelu", {"alpha": 2.0}),
    ("Gelu", {"approximate": "tanh"}), ("Gelu", {"approximate": "none"}), ("Shrink", {"lambd": 1.0, "bias": 0.5}),
    ("IsInf", {"detect_negative": 0}), ("IsInf", {"detect_positive": 0}),
    ("IsInf", {"detect_positive": 0, "detect_negative": 0})])
def test_attributes_as_onnxruntime(name: str, attributes: dict[str, Any]) -> None:
    x = draw(generator(name), dtypes.FLOAT, (4, 7), special=name in ("IsInf", "Shrink"))
    check(Case(name, 20, [x], attributes), rtol=1e-5, atol=1e-6, symbols={(0, 1): "n"})


@pytest.mark.parametrize("name", ["Swish", "Celu"])
def test_alpha_by_formula(name: str) -> None:
    x = np.array([-3, -0.5, 0, 0.5, 3], np.float64)
    if name == "Swish":
        check(Case(name, 24, [x], {"alpha": 2.0}), [x / (1 + np.exp(-2 * x))], rtol=1e-12)
    else:
        want = np.maximum(0, x) + np.minimum(0, 2 * (np.exp(x / 2) - 1))
        check(Case(name, 28, [x], {"alpha": 2.0}), [want], rtol=1e-12)


def test_selu_of_opset_1_had_rounder_constants() -> None:
    x = np.array([-1.0, 2.0])
    old, new = Case("Selu", 1, [x]).reference()[0], Case("Selu", 6, [x]).reference()[0]
    np.testing.assert_allclose(old, [1.0507 * 1.6732 * (np.exp(-1) - 1), 1.0507 * 2], rtol=1e-6)
    assert not np.allclose(old, new, rtol=1e-7)


def test_round_goes_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    check(Case("Round", 11, [x]), [np.array([0, 2, 2, -0.0, -2, -2], np.float32)])


def test_signed_zeros_survive() -> None:
    x = np.array([0.0, -0.0], np.float32)
    for name, opset in (("Neg", 13), ("Ceil", 13), ("Floor", 13), ("Round", 11), ("Sin", 7), ("Tanh", 13),
                        ("Sqrt", 13)):
        flip = name == "Neg"
        for got in (Case(name, opset, [x]).reference()[0], Case(name, opset, [x]).lowered()[0]):
            assert np.signbit(got).tolist() == [flip, not flip], name


def test_bfloat16_is_rounded_once() -> None:
    """Mish has three steps; rounding each of them is off by more than one step of bfloat16 somewhere here."""
    x = np.linspace(-4, 4, 801).astype(ml_dtypes.bfloat16)
    exact = Case("Mish", 18, [x.astype(np.float64)]).reference()[0]
    want = exact.astype(np.float32).astype(ml_dtypes.bfloat16)
    for got in (Case("Mish", 22, [x]).reference()[0], Case("Mish", 22, [x]).lowered()[0]):
        assert got.dtype == want.dtype
        # A float32 result on the edge between two may fall to either side.
        assert np.mean(got.astype(np.float32) != want.astype(np.float32)) < 0.01


def test_erf_of_integers_is_cut() -> None:
    check(Case("Erf", 9, [np.array([-9, 0, 1, 9], np.int32)]), [np.array([-1, 0, 0, 1], np.int32)])


def test_sigmoid_and_softplus_do_not_overflow() -> None:
    x = np.array([-1000.0, 0, 1000.0])
    check(Case("Sigmoid", 13, [x]), [np.array([0, 0.5, 1])])
    check(Case("Softplus", 1, [x]), [np.array([0, np.log(2), 1000.0])])


# Clip

def test_clip_keeps_nan_and_infinities_without_bounds() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    check(Case("Clip", 13, [x]), [x])
    check(Case("Clip", 1, [x]), [x])
    check(Case("Clip", 13, [x, np.float32(0)]), [np.array([np.nan, np.inf, 0, 1], np.float32)])


def test_clip_of_opset_6_cuts_infinities_to_the_largest_float32() -> None:
    largest = np.finfo(np.float32).max
    x = np.array([np.inf, -np.inf, 1e300])
    check(Case("Clip", 6, [x]), [np.array([largest, -largest, largest], np.float64)])


def test_clip_with_bounds_crossed_gives_the_upper() -> None:
    x = np.array([0, 5, 9], np.int8)
    check(Case("Clip", 12, [x, np.int8(7), np.int8(3)]), [np.array([3, 3, 3], np.int8)])


def test_clip_leaves_out_the_lower_bound() -> None:
    x = draw(generator("clip"), dtypes.FLOAT16, (3, 4), special=False)
    check(Case("Clip", 12, [x, None, np.float16(1)]), [np.minimum(x, np.float16(1))], symbols={(0, 0): "n"})
    check(Case("Clip", 6, [x], {"min": -1.0, "max": 2.0}), [np.clip(x, -1, 2)], symbols={(0, 0): "n"})


# Identity, Not, Dropout

def test_identity_passes_sequences() -> None:
    x = Value("x")
    node = Node("Identity", [x])
    type = SequenceType(TensorType(dtypes.FLOAT, (2,)))
    assert infer_node(node, {"": 16}, [Fact(type)])[0].type == type  # type: ignore[union-attr]


@pytest.mark.parametrize(("opset", "attributes", "mask"), [
    (1, {"is_test": 1}, np.float32), (6, {"is_test": 1}, np.float32), (7, {}, np.float32), (10, {}, bool),
    (12, {}, bool), (13, {}, bool), (22, {}, bool)])
def test_dropout_in_inference_is_nothing(opset: int, attributes: dict[str, Any], mask: Any) -> None:
    x = draw(generator("dropout"), dtypes.FLOAT, (3, 4), special=False)
    check(Case("Dropout", opset, [x], attributes, outputs=2), [x, np.ones((3, 4), mask)], symbols={(0, 0): "n"})


@pytest.mark.parametrize("case", [
    Case("Dropout", 1, [np.ones((100, 100), np.float32)], {"ratio": 0.25}, outputs=2),
    Case("Dropout", 6, [np.ones((100, 100), np.float32)], {"ratio": 0.25}, outputs=2),
    Case("Dropout", 13, [np.ones((100, 100), ml_dtypes.bfloat16), np.float32(0.25), np.array(True)], outputs=2),
], ids=str)
def test_dropout_in_training_keeps_the_mean(case: Case) -> None:
    y, mask = (a.astype(np.float64) for a in case.reference())
    assert 0.7 < mask.mean() < 0.8
    np.testing.assert_allclose(y, mask / 0.75, rtol=4e-3)
    check(case, "nobody", lowers=False, known=range(1, len(case.inputs)))


@pytest.mark.parametrize(("opset", "attributes", "same"), [(6, {}, False), (6, {"is_test": 1}, True), (7, {}, True)])
def test_dropout_that_trains_is_not_folded(opset: int, attributes: dict[str, Any], same: bool) -> None:
    x = np.ones(3, np.float32)
    node, _, schema = Case("Dropout", opset, [x], attributes).node()
    assert deterministic(node, schema, [x]) is same


def test_dropout_with_a_seed_is_the_same_each_time() -> None:
    case = Case("Dropout", 12, [np.ones(50, np.float32), np.float32(0.5), np.array(True)], {"seed": 7}, outputs=2)
    assert np.array_equal(case.reference()[0], case.reference()[0])


def test_dropout_of_everything_gives_zeros() -> None:
    case = Case("Dropout", 12, [np.ones(9, np.float32), np.float32(1), np.array(True)])
    assert case.reference()[0].tolist() == [0] * 9
