"""Maps of two and of many tensors, comparisons and logic: every rule of every version over every type and shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.drawing import draw, generator, label, tolerance, types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ir import Node, Value
from gesher.ops import Fact, infer_node
from gesher.symbolic import Dim, Equalities, sym

ARITHMETIC = ["Add", "Sub", "Mul", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]
COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"]

# Shapes that broadcast as numpy does, and the axes that get a symbol.
NUMPY_SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], dict[tuple[int, int], str]]] = [
    ((3, 4), (3, 4), {(0, 0): "n", (1, 0): "n"}),
    ((2, 3, 4), (4,), {(0, 1): "n"}),
    ((5,), (2, 1, 5), {(1, 0): "n"}),
    ((2, 1, 4), (3, 1), {(0, 0): "n", (1, 0): "m"}),
    ((), (3,), {(1, 0): "n"}),
    ((0, 3), (1, 3), {(0, 0): "n"}),
]


def _pair(name: str, dtype: Any, a: tuple[int, ...], b: tuple[int, ...]) -> list[np.ndarray]:
    rng = generator(name, dtype.name, a, b)
    return [draw(rng, dtype, a), draw(rng, dtype, b)]


@pytest.mark.parametrize(("name", "schema"), versions_of(*ARITHMETIC, *COMPARISONS, "SwiGLU"),
                         ids=label)
def test_rules_agree_over_types_and_shapes(name: str, schema: Any) -> None:
    modern = schema.version >= 7
    for dtype in types_of(schema):
        for a, b, symbols in NUMPY_SHAPES:
            if a != b and (not modern or name == "SwiGLU"):
                continue
            attributes = {"fmod": 1} if name == "Mod" and dtype.is_float else {}
            inputs = _pair(name, dtype, a, b)
            if dtype is dtypes.STRING:
                want = np.equal(*inputs).astype(bool)
                check(Case(name, schema.version, inputs), [want], symbols=symbols, lowers=False)
            else:
                check(Case(name, schema.version, inputs, attributes), "nobody", symbols=symbols, **tolerance(dtype))


@pytest.mark.parametrize(("name", "schema"), versions_of(*ARITHMETIC, *COMPARISONS),
                         ids=label)
def test_reference_agrees_with_onnxruntime(name: str, schema: Any) -> None:
    if not 7 <= schema.version <= 22:
        return
    for dtype in types_of(schema):
        if dtype not in (dtypes.FLOAT, dtypes.INT32, dtypes.INT64, dtypes.BOOL):
            continue
        rng = generator(name)
        # ONNX Runtime divides by zero with a crash, and its Mod of floats needs fmod.
        inputs = [draw(rng, dtype, (2, 3), special=False), draw(rng, dtype, (4, 1, 3), special=False, low=1)]
        attributes = {"fmod": 1} if name == "Mod" and dtype.is_float else {}
        check(Case(name, schema.version, inputs, attributes), rtol=1e-6, atol=1e-6)


# Before opset 7

LAID = [
    # a, b, axis: how b lies in a
    ((2, 3, 4, 5), (), None), ((2, 3, 4, 5), (1, 1), None), ((2, 3, 4, 5), (5,), None), ((2, 3, 4, 5), (4, 5), None),
    ((2, 3, 4, 5), (3, 4), 1), ((2, 3, 4, 5), (2,), 0), ((2, 3, 4, 5), (2, 3, 4, 5), None), ((2, 3), (3,), -1),
]


@pytest.mark.parametrize(("a", "b", "axis"), LAID)
@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"])
def test_before_7_the_second_is_laid_into_the_first(name: str, a: Any, b: Any, axis: int | None) -> None:
    dtype = dtypes.BOOL if name in ("And", "Or", "Xor") else dtypes.INT32 if name == "Equal" else dtypes.FLOAT
    x, y = _pair(name, dtype, a, b)
    start = len(a) - len(b) if axis is None else axis % len(a)
    spread = y.reshape(()) if y.size == 1 else y.reshape(b + (1,) * (len(a) - start - len(b)))
    want = Case(name, 7, [x, np.broadcast_to(spread, a)]).reference()
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    symbols = {(0, 0): "n"} | ({(1, 0): "n"} if b[:1] == (2,) else {})
    for opset in (1, 6):
        check(Case(name, opset, [x, y], attributes), want, symbols=symbols, rtol=0, atol=0, lower_rtol=1e-6)


def test_before_7_nothing_broadcasts_unasked() -> None:
    case = Case("Add", 6, [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)])
    with pytest.raises(RunError, match="broadcast is 0"):
        case.reference()
    with pytest.raises(ModelError, match="differ"):
        case.infer()
    case = Case("Add", 6, [np.zeros((2, 3), np.float32), np.zeros(2, np.float32)], {"broadcast": 1})
    with pytest.raises(RunError, match="do not fit"):
        case.reference()
    with pytest.raises(ModelError, match="laid"):
        case.infer()
    with pytest.raises(ModelError, match="at axis 1"):
        Case("Add", 6, [np.zeros((2, 3)), np.zeros((2, 3))], {"broadcast": 1, "axis": 1}).infer()


# Shapes with symbols

def _inferred(op: str, opset: int, *shapes: tuple[Any, ...]) -> tuple[Any, Equalities]:
    equalities = Equalities()
    node = Node(op, [Value(f"x{i}") for i in range(len(shapes))])
    facts = infer_node(node, {"": opset}, [Fact.tensor(dtypes.FLOAT, s) for s in shapes], equalities)
    return facts[0].shape, equalities  # type: ignore[union-attr]


def test_symbols_broadcast() -> None:
    n, m = sym("n"), sym("m")
    assert _inferred("Add", 14, (n, 1), (m,))[0] == (n, m)
    assert _inferred("Add", 14, (n, 4), (1, 1))[0] == (n, 4)
    assert _inferred("Add", 14, (n,), (5,))[0] == (5,)
    assert str(_inferred("Add", 14, (n,), (m,))[0][0]) == "bcast(m, n)"
    assert _inferred("Max", 13, (n, 1), (m,), (1, 1, 1))[0] == (1, n, m)


def test_sizes_that_cannot_be_1_become_equal() -> None:
    big = sym("k", min=2)
    shape, equalities = _inferred("Add", 14, (big,), (7,))
    assert shape == (7,) and equalities.resolve(big) == 7
    with pytest.raises(ModelError, match="do not broadcast"):
        _inferred("Add", 14, (3,), (4,))


def test_an_unknown_rank_stays_unknown() -> None:
    node = Node("Add", [Value("a"), Value("b")])
    fact = infer_node(node, {"": 14}, [Fact.tensor(dtypes.FLOAT, None), Fact.tensor(dtypes.FLOAT, (3,))])[0]
    assert fact is not None and fact.shape is None and fact.dtype is dtypes.FLOAT
    fact = infer_node(node, {"": 14}, [None, Fact.tensor(dtypes.FLOAT, (3,))])[0]
    assert fact is not None and fact.dtype is dtypes.FLOAT


def _value(op: str, *values: Any, opset: int = 18, **attributes: Any) -> Any:
    """The symbolic value of an operator on lists of sizes; None where it is not known."""
    node = Node(op, [Value(f"x{i}") for i in range(len(values))], attributes=attributes)
    facts = [Fact.tensor(dtypes.BOOL if isinstance(v[0], bool) else dtypes.INT64, (len(v),), v) for v in values]
    fact = infer_node(node, {"": opset}, facts)[0]
    assert fact is not None
    return None if fact.value is None else fact.value.tolist()


def test_sizes_pass_through_arithmetic() -> None:
    n, m = sym("n"), sym("m")
    assert _value("Add", [n, 2], [1, 2]) == [n + 1, 4]
    assert _value("Sub", [n], [n]) == [0]
    assert _value("Mul", [n, m], [2]) == [2 * n, 2 * m]
    assert _value("Div", [4 * n, n], [2, 2]) == [2 * n, n // 2]
    assert _value("Mod", [4 * n + 1], [4]) == [1]
    assert _value("Pow", [n], [2]) == [n**2]
    assert _value("Neg", [n]) == [-n]
    assert _value("Abs", [n]) == [n]
    assert _value("Max", [n], [0], [1]) == [_value("Max", [n], [1])[0]]
    assert _value("Relu", [n - 3], opset=14) == [_value("Max", [n - 3], [0])[0]]
    assert _value("Min", [n, 3], [n + 1, 2]) == [n, 2]
    assert _value("Sign", [n + 1]) == [1]


def test_a_negative_size_is_divided_toward_zero() -> None:
    n = sym("n")
    [quotient] = _value("Div", [-n], [2])
    assert isinstance(quotient, Dim)
    from gesher.symbolic import evaluate

    assert evaluate(quotient, {"n": 5}) == -2


def test_sizes_are_compared_where_that_is_decided() -> None:
    n = sym("n")
    assert _value("Equal", [n, n], [-1, n]) == [False, True]
    assert _value("Equal", [n], [3]) is None
    assert _value("GreaterOrEqual", [n], [0]) == [True]
    assert _value("Less", [n], [n + 1]) == [True]
    assert _value("Where", [True, False], [n, 1], [2, n + 1]) == [n, n + 1]


def test_division_of_sizes_by_zero_is_not_known() -> None:
    assert _value("Div", [sym("n")], [0]) is None
    assert _value("Mod", [sym("n")], [0]) is None


# Integers

def test_integer_division_cuts_toward_zero_and_gives_0_for_0() -> None:
    a, b = np.array([7, -7, 7, -7, 5, -128], np.int8), np.array([2, 2, -2, -2, 0, -1], np.int8)
    check(Case("Div", 14, [a, b]), [np.array([3, -3, -3, 3, 0, -128], np.int8)], rtol=0, atol=0)


def test_mod_has_the_sign_of_the_divisor_and_fmod_of_the_dividend() -> None:
    a, b = np.array([-4, 7, 5, 4, -7, 8], np.int32), np.array([2, -3, 8, -2, 3, 5], np.int32)
    check(Case("Mod", 13, [a, b]), [np.array([0, -2, 5, 0, 2, 3], np.int32)])
    check(Case("Mod", 13, [a, b], {"fmod": 1}), [np.array([0, 1, 5, 0, -1, 3], np.int32)])


def test_mod_of_floats() -> None:
    x = np.array([5.3, -5.3, np.inf, 1.0, -1.0, 1.0], np.float32)
    y = np.array([3.0, 3.0, 2.0, np.inf, np.inf, 0.0], np.float32)
    check(Case("Mod", 13, [x, y], {"fmod": 1}), [np.array([2.3, -2.3, np.nan, 1, -1, np.nan], np.float32)], rtol=1e-6)
    check(Case("Mod", 28, [x, y]), [np.array([2.3, 0.7, np.nan, 1, np.inf, np.nan], np.float32)], rtol=1e-6)
    with pytest.raises(RunError, match="fmod=1"):
        Case("Mod", 13, [x, y]).reference()
    with pytest.raises(ModelError, match="fmod=1"):
        Case("Mod", 13, [x, y]).infer()


@pytest.mark.parametrize("name", ["uint8", "uint16", "uint32", "uint64"])
def test_bits_shifted_out_are_gone(name: str) -> None:
    bits = dtypes.BY_NAME[name].bits
    x = np.array([1, 200, 255, 7, 3], name)
    y = np.array([bits - 1, 3, bits, 0, bits + 9], name)
    for direction in ("LEFT", "RIGHT"):
        shifted = [int(v) << int(s) if direction == "LEFT" else int(v) >> int(s) for v, s in zip(x, y)]
        want = np.array([v & ((1 << bits) - 1) for v in shifted], name)
        check(Case("BitShift", 11, [x, y], {"direction": direction}), [want], rtol=0, atol=0,
              symbols={(0, 0): "n", (1, 0): "n"})


@pytest.mark.parametrize("name", ["int8", "int16", "int32", "int64"])
def test_signed_shifts_keep_the_sign(name: str) -> None:
    bits = dtypes.BY_NAME[name].bits
    x = np.array([-8, -8, -8, 5, 5, -1, 100], name)
    y = np.array([1, bits, -1, -1, bits, bits - 1, 2], name)
    right = np.array([-4, -1, -1, 0, 0, -1, 25], name)
    check(Case("BitShift", 28, [x, y], {"direction": "RIGHT"}), [right], rtol=0, atol=0)
    left = np.array([-16, 0, 0, 0, 0, -(1 << (bits - 1)), -112 if bits == 8 else 400], name)
    check(Case("BitShift", 28, [x, y], {"direction": "LEFT"}), [left], rtol=0, atol=0)


def test_a_shift_needs_a_direction() -> None:
    case = Case("BitShift", 11, [np.uint8([1]), np.uint8([1])], {"direction": "UP"})
    with pytest.raises(ModelError, match="not LEFT or RIGHT"):
        case.infer()
    with pytest.raises(RunError, match="not LEFT or RIGHT"):
        case.reference()


# Pow

def test_power_has_the_type_of_the_base() -> None:
    for base in (dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.INT32, dtypes.INT64):
        for exponent in types_of(Case("Pow", 15, [np.float32(1), np.float32(1)]).node()[2], 1):
            x = draw(generator(base.name), base, (4, 3), special=False, low=1)
            y = draw(generator(exponent.name), exponent, (3,), special=False, low=0, high=3)
            want = np.power(x.astype(np.float64), y.astype(np.float64)).astype(base.numpy)
            near = {"rtol": 2e-2 if base is dtypes.BFLOAT16 else 2e-3 if base is dtypes.FLOAT16 else 1e-6, "atol": 0}
            check(Case("Pow", 15, [x, y]), [want], symbols={(0, 0): "n"}, **near)
            check(Case("Pow", 15, [x, y]), [want], known=[1], **near)


@pytest.mark.parametrize("opset", [7, 12, 13, 15])
def test_power_of_floats_as_onnxruntime(opset: int) -> None:
    rng = generator("Pow", opset)
    x, y = draw(rng, dtypes.FLOAT, (3, 4), low=0.1), draw(rng, dtypes.FLOAT, (4,))
    check(Case("Pow", opset, [x, y]), rtol=1e-5, atol=0, symbols={(0, 0): "n"})


def test_integer_powers_wrap_and_negative_ones_are_cut() -> None:
    x, y = np.array([2, 3, -1, -1, 1, 7, 0, 2], np.int32), np.array([31, 40, -3, -4, -9, -1, 0, 64], np.int64)
    want = np.array([2**31 - 2**32, pow(3, 40, 2**32) - 2**32 * (pow(3, 40, 2**32) >> 31), -1, 1, 1, 0, 1, 0], np.int32)
    check(Case("Pow", 12, [x, y]), [want], rtol=0, atol=0)


def test_an_odd_exponent_beyond_float32_stays_odd() -> None:
    check(Case("Pow", 12, [np.float32([-1, -1]), np.int32([2**24 + 1, 2**24])]), [np.float32([-1, 1])])


# PRelu

@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("slope", [(), (1,), (3,)])
def test_before_7_prelu_has_a_slope_for_each_channel(opset: int, slope: tuple[int, ...]) -> None:
    x = draw(generator("PRelu"), dtypes.FLOAT, (2, 3, 4, 4))
    s = draw(generator(slope), dtypes.FLOAT, slope, special=False)
    by_channel = s.reshape(()) if s.size == 1 else s.reshape(1, 3, 1, 1)
    want = np.where(x < 0, x * by_channel, x)
    check(Case("PRelu", opset, [x, s]), [want], symbols={(0, 0): "n", (0, 2): "h"}, rtol=0)


@pytest.mark.parametrize(("name", "schema"), [v for v in versions_of("PRelu") if v[1].version >= 7],
                         ids=label)
def test_prelu_broadcasts_its_slope(name: str, schema: Any) -> None:
    for dtype in types_of(schema):
        x = draw(generator(dtype.name), dtype, (2, 3, 4))
        for slope in ((4,), (3, 1), (1,), (), (2, 3, 4)):
            s = draw(generator(dtype.name, slope), dtype, slope, special=False)
            symbols = {(0, 0): "n"} | ({(1, 0): "n"} if len(slope) == 3 else {})
            check(Case(name, schema.version, [x, s]), "nobody", symbols=symbols, **tolerance(dtype))
    x, s = draw(generator("ort"), dtypes.FLOAT, (2, 3, 4)), draw(generator("s"), dtypes.FLOAT, (3, 1), special=False)
    check(Case(name, schema.version, [x, s]), rtol=1e-6)


def test_a_slope_may_not_widen_the_input() -> None:
    case = Case("PRelu", 16, [np.zeros((3, 1), np.float32), np.zeros((3, 4), np.float32)])
    with pytest.raises(RunError, match="do not fit"):
        case.reference()
    with pytest.raises(ModelError, match="slope"):
        case.infer()


# Where, SwiGLU

@pytest.mark.parametrize(("name", "schema"), versions_of("Where"), ids=label)
def test_where_over_types(name: str, schema: Any) -> None:
    for dtype in types_of(schema, 1):
        rng = generator(dtype.name)
        inputs = [draw(rng, dtypes.BOOL, (3, 1)), draw(rng, dtype, (2, 1, 4)), draw(rng, dtype, (3, 4))]
        want = np.where(*inputs)
        check(Case(name, schema.version, inputs), [want], rtol=0, atol=0,
              symbols={(1, 0): "n", (0, 0): "m", (2, 0): "m"})


def test_swiglu_does_not_broadcast() -> None:
    case = Case("SwiGLU", 28, [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)])
    with pytest.raises(RunError, match="must be the same"):
        case.reference()
    with pytest.raises(ModelError, match="differ"):
        case.infer()


# Max, Min, Sum, Mean

VARIADIC = ["Max", "Min", "Sum", "Mean"]


@pytest.mark.parametrize(("name", "schema"), versions_of(*VARIADIC), ids=label)
def test_variadic_maps_over_types(name: str, schema: Any) -> None:
    for dtype in types_of(schema):
        rng = generator(name, dtype.name)
        shapes = [(2, 3, 4), (3, 1), (4,)] if schema.version >= 8 else [(3, 4)] * 3
        symbols = {(0, 0): "n"} if schema.version >= 8 else {(i, 0): "n" for i in range(3)}
        inputs = [draw(rng, dtype, s) for s in shapes]
        check(Case(name, schema.version, inputs), "nobody", symbols=symbols, **tolerance(dtype))
        check(Case(name, schema.version, inputs[:1]), [inputs[0]], symbols={(0, 0): "n"}, rtol=0, atol=0)
    if schema.version > 7:
        inputs = [draw(generator("v", i), dtypes.FLOAT, (4, 3), special=False) for i in range(3)]
        check(Case(name, schema.version, inputs), rtol=1e-6, atol=1e-6)


def test_nan_wins_in_max_and_min() -> None:
    a, b = np.array([np.nan, 1, 2], np.float32), np.array([1, np.nan, 3], np.float32)
    check(Case("Max", 13, [a, b]), [np.array([np.nan, np.nan, 3], np.float32)])
    check(Case("Min", 13, [a, b]), [np.array([np.nan, np.nan, 2], np.float32)])


def test_before_8_variadic_maps_take_one_shape() -> None:
    case = Case("Sum", 6, [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)])
    with pytest.raises(RunError, match="opset 8"):
        case.reference()
    with pytest.raises(ModelError, match="differ"):
        case.infer()
