"""Cast, CastLike and BitCast: every pair of types that a version allows, and the tables of the narrow floats."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.ops.drawing import draw, generator, label, types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError, RunError
from gesher.ir import Node, Value
from gesher.ops import Fact, infer_node
from gesher.symbolic import sym

NARROW_INTS = [d for d in dtypes.all_dtypes() if d.is_integer and d.packed]


def _source(dtype: DType, target: DType) -> np.ndarray:
    """Numbers whose cast is defined: floats fit the integer, and negative ones do not meet unsigned types."""
    rng = generator(dtype.name, target.name)
    if dtype is dtypes.STRING:
        texts = ["1", "0", "3", "2"] if target.is_integer or target is dtypes.BOOL else ["1.5", "-1e2", "NaN", "INF"]
        out = np.empty(4, object)
        out[:] = texts
        return out
    special = dtype.is_integer and not target.is_float
    low = 0 if target.kind == "uint" or dtypes.FLOAT8E8M0 in (target, dtype) else -6
    if dtype is dtypes.FLOAT8E8M0:
        return np.array([120, 127, 128, 129], np.uint8).view(dtype.numpy)
    return draw(rng, dtype, (6, 4), special=special, low=low, high=6)


def _cast(x: np.ndarray, target: DType, opset: int = 28, **attributes: Any) -> Case:
    return Case("Cast", opset, [x], {"to": target.code, **attributes})


@pytest.mark.parametrize(("name", "schema"), versions_of("Cast", "CastLike"), ids=label)
def test_every_pair_of_types(name: str, schema: Any) -> None:
    for source in types_of(schema):
        for target in types_of(schema, 1) if name == "CastLike" else [
                d for d in dtypes.all_dtypes() if f"tensor({d.name})" in schema.types["T2"]]:
            x = _source(source, target)
            if name == "CastLike":
                like = np.zeros(1, target.numpy) if target is not dtypes.STRING else np.array(["a"], object)
                case = Case(name, schema.version, [x, like])
            else:
                to: Any = target.name.upper() if schema.version < 6 else target.code
                case = Case(name, schema.version, [x], {"to": to})
            lowers = source is target or dtypes.STRING not in (source, target)
            check(case, "nobody", symbols={(0, 0): "n"}, lowers=lowers, rtol=0, atol=0)


_PLAIN = [d for d in dtypes.all_dtypes() if d.bits >= 8 and d.kind in ("float", "int", "uint", "bool")
          and d not in (dtypes.BFLOAT16, dtypes.FLOAT8E8M0) and not (d.is_float and d.bits < 16)]


@pytest.mark.parametrize("source", _PLAIN, ids=str)
def test_plain_types_as_onnxruntime(source: DType) -> None:
    for target in _PLAIN:
        check(_cast(_source(source, target), target, 13), rtol=0, atol=0)


def test_integers_lose_their_high_bits() -> None:
    check(_cast(np.int16([200, -129, 256]), dtypes.INT8), [np.int8([-56, 127, 0])])
    check(_cast(np.int64([17, -1, 9]), dtypes.INT4), [np.array([1, -1, -7], ml_dtypes.int4)])
    check(_cast(np.int64([17, -1, 9]), dtypes.UINT4), [np.array([1, 15, 9], ml_dtypes.uint4)])
    check(_cast(np.int8([5, -1, 2]), dtypes.INT2), [np.array([1, -1, -2], ml_dtypes.int2)])


def test_floats_are_cut_for_wide_integers_and_rounded_for_narrow_ones() -> None:
    x = np.float32([1.5, 2.5, -1.5, 0.6])
    check(_cast(x, dtypes.INT32), [np.int32([1, 2, -1, 0])])
    check(_cast(x, dtypes.INT4), [np.array([2, 2, -2, 1], ml_dtypes.int4)])
    check(_cast(np.float16([1.5, 2.5, 0.5]), dtypes.UINT4), [np.array([2, 2, 0], ml_dtypes.uint4)])


def test_everything_but_zero_is_true() -> None:
    want = np.array([False, False, True, True, True])
    check(_cast(np.float32([0, -0.0, 1e-30, np.nan, -np.inf]), dtypes.BOOL), [want])


# The tables of the operator's text: what becomes of the values that do not fit.
_INF, _NAN = np.inf, np.nan
FLOAT8_TABLE = [
    # x           e4m3fn saturated, not      e4m3fnuz            e5m2                  e5m2fnuz
    (0.0,        (0.0, 0.0),                (0.0, 0.0),         (0.0, 0.0),           (0.0, 0.0)),
    (_NAN,       (_NAN, _NAN),              (_NAN, _NAN),       (_NAN, _NAN),         (_NAN, _NAN)),
    (_INF,       (448.0, _NAN),             (240.0, _NAN),      (57344.0, _INF),      (57344.0, _NAN)),
    (-_INF,      (-448.0, _NAN),            (-240.0, _NAN),     (-57344.0, -_INF),    (-57344.0, _NAN)),
    (1e6,        (448.0, _NAN),             (240.0, _NAN),      (57344.0, _INF),      (57344.0, _NAN)),
    (-1e6,       (-448.0, _NAN),            (-240.0, _NAN),     (-57344.0, -_INF),    (-57344.0, _NAN)),
    (1.0625,     (1.0, 1.0),                (1.0, 1.0),         (1.0, 1.0),           (1.0, 1.0)),
    (1.1875,     (1.25, 1.25),              (1.25, 1.25),       (1.25, 1.25),         (1.25, 1.25)),
]


@pytest.mark.parametrize("row", FLOAT8_TABLE, ids=lambda r: str(r[0]))
def test_float8_saturates_or_not(row: Any) -> None:
    types = (dtypes.FLOAT8E4M3FN, dtypes.FLOAT8E4M3FNUZ, dtypes.FLOAT8E5M2, dtypes.FLOAT8E5M2FNUZ)
    for target, wants in zip(types, row[1:]):
        for saturate, want in zip((1, 0), wants):
            for source in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
                if abs(row[0]) == 1e6 and source == np.float16:
                    continue  # float16 has no such number
                case = _cast(np.array([row[0]], source), target, 19, saturate=saturate)
                check(case, [np.array([want]).astype(target.numpy)])


def test_the_sign_of_zero_lives_where_the_type_has_it() -> None:
    for target, lives in ((dtypes.FLOAT8E4M3FN, True), (dtypes.FLOAT8E4M3FNUZ, False)):
        got = _cast(np.float32([-0.0]), target, 19).reference()[0].astype(np.float32)
        assert np.signbit(got[0]) == lives and got[0] == 0


E8M0_TABLE = [
    # x         up, saturated  nearest, not   down, saturated
    (1.0,       1.0,           1.0,           1.0),
    (1.1,       2.0,           1.0,           1.0),
    (1.5,       2.0,           2.0,           1.0),
    (0.3,       0.5,           0.25,          0.25),
    (0.0,       2.0**-127,     _NAN,          2.0**-127),
    (_INF,      2.0**127,      _NAN,          2.0**127),
    (_NAN,      _NAN,          _NAN,          _NAN),
    (1e-40,     2.0**-127,     _NAN,          2.0**-127),
    (-1.0,      _NAN,          _NAN,          _NAN),
]


@pytest.mark.parametrize(("x", "up", "nearest", "down"), E8M0_TABLE)
def test_float8e8m0_holds_powers_of_two(x: float, up: float, nearest: float, down: float) -> None:
    for mode, saturate, want in (("up", 1, up), ("nearest", 0, nearest), ("down", 1, down)):
        case = _cast(np.array([x]), dtypes.FLOAT8E8M0, 24, round_mode=mode, saturate=saturate)
        for got in (case.reference()[0], case.lowered()[0]):
            np.testing.assert_equal(got.astype(np.float64), [want])
    assert _cast(np.array([3e38]), dtypes.FLOAT8E8M0, 24).reference()[0].astype(np.float64)[0] == 2.0**127
    with pytest.raises(RunError, match="round_mode"):
        _cast(np.array([1.0]), dtypes.FLOAT8E8M0, 24, round_mode="sideways").reference()


@pytest.mark.parametrize("mode", ["up", "nearest", "down"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_every_exponent_of_float16_and_float32_as_a_power_of_two(saturate: int, mode: str) -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 1 << 32, 4000, np.uint64).astype(np.uint32)
    for x in (words.view(np.float32), words.view(np.float16)):
        case = _cast(x, dtypes.FLOAT8E8M0, 24, round_mode=mode, saturate=saturate)
        np.testing.assert_array_equal(case.lowered()[0].view(np.uint8), case.reference()[0].view(np.uint8))


# Strings

def _strings(*texts: str) -> np.ndarray:
    out = np.empty(len(texts), object)
    out[:] = texts
    return out


def test_strings_are_read_as_numbers() -> None:
    texts = _strings("3.14", "1e-5", "1E8", "+INF", "inf", "-INF", "NaN", " 7 ")
    numbers = np.float32([3.14, 1e-5, 1e8, _INF, _INF, -_INF, _NAN, 7])
    check(_cast(texts, dtypes.FLOAT, 9), [numbers], lowers=False)
    check(_cast(_strings("3", "-4", "100.5"), dtypes.INT32, 9), [np.int32([3, -4, 100])], lowers=False)
    check(_cast(_strings("18446744073709551615", "-1"), dtypes.UINT64, 9), [np.uint64([2**64 - 1] * 2)], lowers=False)
    want = np.array([True, False, True, False])
    check(_cast(_strings("1", "0", "true", "False"), dtypes.BOOL, 9), [want], lowers=False)


@pytest.mark.parametrize("text", ["Hello World!", "", "1_000", "0x10"])
def test_a_string_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(RunError, match="no number"):
        _cast(_strings(text), dtypes.FLOAT, 13).reference()


def test_infinity_is_no_integer() -> None:
    with pytest.raises(RunError, match="no integer"):
        _cast(_strings("INF"), dtypes.INT32, 13).reference()


def test_numbers_are_spelled_out() -> None:
    check(_cast(np.float32([0.1, 314.15927, _NAN, _INF, -_INF]), dtypes.STRING, 9),
          [_strings("0.1", "314.15927", "NaN", "INF", "-INF")], lowers=False)
    check(_cast(np.int64([-5, 2**62]), dtypes.STRING, 9), [_strings("-5", str(2**62))], lowers=False)
    check(_cast(np.array([True, False]), dtypes.STRING, 9), [_strings("1", "0")], lowers=False)
    check(_cast(np.array([-5, 3], ml_dtypes.int4), dtypes.STRING), [_strings("-5", "3")], lowers=False)


@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_what_is_spelled_out_is_read_back(source: Any) -> None:
    x = draw(generator("spell"), dtypes.from_numpy(source), (40,), low=-400, high=400)
    text = _cast(x, dtypes.STRING).reference()[0]
    back = _cast(text, dtypes.from_numpy(source)).reference()[0]
    np.testing.assert_equal(back.astype(np.float64), x.astype(np.float64))


# Inference

def test_sizes_pass_through_casts_to_wide_integers() -> None:
    n = sym("n")

    def value(to: int) -> Any:
        node = Node("Cast", [Value("x")], attributes={"to": to})
        fact = infer_node(node, {"": 13}, [Fact.tensor(dtypes.INT64, (2,), [n, 3])])[0]
        assert fact is not None and fact.dtype.code == to
        return None if fact.value is None else fact.value.tolist()

    assert value(dtypes.INT32.code) == [n, 3]
    assert value(dtypes.INT8.code) is None
    assert value(dtypes.FLOAT.code) is None


@pytest.mark.parametrize(("opset", "to"), [(1, "FLOAT33"), (13, 99), (13, 0)])
def test_a_type_that_does_not_exist_is_refused(opset: int, to: Any) -> None:
    case = Case("Cast", opset, [np.float32([1])], {"to": to})
    with pytest.raises(ModelError, match="names no data type"):
        case.infer()
    with pytest.raises(RunError, match="names no data type"):
        case.reference()


def test_cast_like_something_unknown_keeps_the_shape() -> None:
    node = Node("CastLike", [Value("x"), Value("like")])
    fact = infer_node(node, {"": 15}, [Fact.tensor(dtypes.INT64, (2,)), None])[0]
    assert fact is not None and fact.shape == (2,) and fact.dtype is dtypes.UNDEFINED


# BitCast

def test_bitcast_over_every_pair_of_one_width() -> None:
    schema = versions_of("BitCast")[0][1]
    for source in types_of(schema):
        for target in types_of(schema):
            if source.bits != target.bits:
                continue
            x = draw(generator("bits", source.name), source, (6, 4), special=source is not dtypes.BOOL)
            case = Case("BitCast", 26, [x], {"to": target.code})
            [got] = case.reference()
            if dtypes.BOOL not in (source, target):
                back = Case("BitCast", 26, [got], {"to": source.code}).reference()[0]
                assert np.ascontiguousarray(back).tobytes() == x.tobytes(), (source, target)
            if "complex" in (source.kind, target.kind):
                check(case, "nobody", lowers=False)
            else:
                check(case, "nobody", symbols={(0, 0): "n"}, rtol=0, atol=0)


def test_bits_are_kept() -> None:
    check(Case("BitCast", 26, [np.float32([1, -0.0])], {"to": dtypes.UINT32.code}), [np.uint32([0x3F800000, 1 << 31])])
    check(Case("BitCast", 26, [np.array([-1, 7], ml_dtypes.int4)], {"to": dtypes.UINT4.code}),
          [np.array([15, 7], ml_dtypes.uint4)])
    check(Case("BitCast", 26, [np.uint8([0, 1, 2])], {"to": dtypes.BOOL.code}), [np.array([False, True, True])])


def test_bitcast_between_widths_is_refused() -> None:
    case = Case("BitCast", 26, [np.float32([1])], {"to": dtypes.INT64.code})
    with pytest.raises(ModelError, match="bits"):
        case.infer()
    with pytest.raises(RunError, match="bits"):
        case.reference()
