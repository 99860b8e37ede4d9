"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: onnx's cases, ONNX Runtime, and by hand."""

import ml_dtypes
import numpy as np
import onnx
import onnx.helper as oh
import pytest
from tests.ops.single_node import Case, check, onnx_cases, session

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.symbolic import sym

OURS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases(*OURS)])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    symbols = {(0, 0): "n"} if case.inputs[0].ndim > 1 and "block_size" not in case.attributes else None
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols=symbols)


def drawn(rng: np.random.Generator, version: int, dtype: type, real: type) -> tuple:
    """Shapes and values of x, its scale and zero point, and attributes, of one of the granularities of the version."""
    shape = tuple(int(d) for d in rng.integers(1, 6, rng.integers(1, 4)))
    axis = int(rng.integers(-len(shape), len(shape)))
    how = rng.choice(["tensor", *(["axis"] if version >= 13 else []), *(["block"] if version >= 21 else [])])
    attributes: dict = {"axis": axis} if version >= 13 else {}
    of: tuple = ()
    if how == "axis":
        of = (shape[axis],)
    elif how == "block":
        block = int(rng.integers(2, 4))
        attributes["block_size"] = block
        of = tuple(-(-d // block) if i == axis % len(shape) else d for i, d in enumerate(shape))
        # A single block is the whole tensor; ONNX Runtime then wants no block_size.
        if set(of) == {1}:
            del attributes["block_size"]
    scale = rng.uniform(0.05, 0.5, of).astype(real)
    limits = np.iinfo(dtype)
    zero = rng.integers(limits.min // 4, limits.max // 4 + 1, of).astype(dtype)
    return shape, scale, zero, attributes


@pytest.mark.parametrize("seed", range(48))
def test_quantize_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [10, 13, 19, 21][seed % 4]
    dtype = rng.choice([np.uint8, np.int8, np.uint16, np.int16] if version >= 21 else [np.uint8, np.int8])
    real = rng.choice([np.float32, np.float16]) if version >= 19 else np.float32
    shape, scale, zero, attributes = drawn(rng, version, dtype, real)
    x = (rng.standard_normal(shape) * 40).astype(real)
    inputs = [x, scale]
    if rng.random() < 0.8:
        inputs.append(zero)
    elif version >= 21:
        attributes["output_dtype"] = dtypes.from_numpy(dtype).code
    # For float16, ONNX Runtime divides in float32; the text says the division is in the type of the scale.
    check(Case("QuantizeLinear", version, inputs, attributes), rtol=0, atol=1 if real == np.float16 else 0,
          symbols={(0, 0): "n"} if scale.ndim == 0 else None, lower_atol=0)


@pytest.mark.parametrize("seed", range(36))
def test_dequantize_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [10, 13, 19, 21][seed % 4]
    dtype = rng.choice([np.uint8, np.int8, np.uint16, np.int16] if version >= 21 else [np.uint8, np.int8])
    real = rng.choice([np.float32, np.float16]) if version >= 19 else np.float32
    shape, scale, zero, attributes = drawn(rng, version, dtype, real)
    limits = np.iinfo(dtype)
    inputs = [rng.integers(limits.min, limits.max + 1, shape).astype(dtype), scale]
    if rng.random() < 0.8:
        inputs.append(zero)
    check(Case("DequantizeLinear", version, inputs, attributes), rtol=1e-3 if real == np.float16 else 1e-6, atol=0,
          symbols={(0, 0): "n"} if scale.ndim == 0 else None, lower_rtol=0)


def test_int32_dequantizes_and_quantizes() -> None:
    x = np.array([-2**31, -7, 0, 5, 2**31 - 1], np.int32)
    check(Case("DequantizeLinear", 13, [x, np.float32(0.5)]), rtol=0, atol=0)
    # This one ONNX Runtime does not have.
    check(Case("QuantizeLinear", 13, [np.array([-7, 0, 5, 600], np.int32), np.float32(3), np.int8(1)]),
          [np.int8([-1, 1, 3, 127])], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_8_bit_floats_saturate_where_told_as_onnxruntime_does(kind: str, saturate: int) -> None:
    dtype = np.dtype(getattr(ml_dtypes, kind))
    x = np.float32([0, 0.3, -17, 1e3, -1e6, 500, 448, 57344, 1e-9, np.nan, np.inf, -np.inf])
    case = Case("QuantizeLinear", 19, [x, np.float32(1), np.zeros((), dtype)], {"saturate": saturate})
    model = case.model()
    code = dtypes.from_numpy(dtype).code
    model.graph.node.append(oh.make_node("Cast", ["y0"], ["real"], to=onnx.TensorProto.FLOAT))
    # The zero point becomes a constant, which ONNX Runtime can be given; a numpy array of that type it cannot.
    del model.graph.input[2]
    model.graph.initializer.append(oh.make_tensor("x2", code, (), b"\0", raw=True))
    del model.graph.output[:]
    model.graph.output.append(oh.make_empty_tensor_value_info("real"))
    want = session(model.SerializeToString()).run(None, {"x0": x, "x1": np.array(1, np.float32)})[0]
    ours = case.reference()[0]
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours.astype(np.float32), want)
    check(case, "nobody")


@pytest.mark.parametrize(("kind", "lowest", "highest"), [("int4", -8, 7), ("uint4", 0, 15), ("int2", -2, 1),
                                                         ("uint2", 0, 3), ("float4_e2m1fn", -6, 6),
                                                         ("float6_e2m3fn", -7.5, 7.5), ("float6_e3m2fn", -28, 28)])
def test_narrow_types_are_clipped(kind: str, lowest: float, highest: float) -> None:
    dtype = np.dtype(getattr(ml_dtypes, kind))
    x = np.float32([-100, -1, 0, 0.5, 1, 1.5, 100])
    case = Case("QuantizeLinear", 28, [x, np.float32(1), np.zeros((), dtype)])
    got = case.reference()[0].astype(np.float32)
    assert (got[0], got[-1]) == (lowest, highest)
    assert got[2] == 0
    check(case, "nobody")
    check(Case("QuantizeLinear", 28, [x, np.float32(1)], {"output_dtype": dtypes.from_numpy(dtype).code}),
          case.reference())
    back = Case("DequantizeLinear", 28, [case.reference()[0], np.float32(0.5)])
    check(back, [got * np.float32(0.5)], rtol=0, atol=0)


def test_a_power_of_two_scale_divides_in_float32() -> None:
    scale = np.array([0.25, 2], ml_dtypes.float8_e8m0fnu)
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    check(Case("QuantizeLinear", 24, [x, scale], {"axis": 0}), [np.uint8([[4, 8, 12], [2, 2, 3]])])
    q = np.int8([[4, 8, 12], [2, 2, 3]])
    check(Case("DequantizeLinear", 24, [q, scale], {"axis": 0, "output_dtype": 1}),
          [np.float32([[1, 2, 3], [4, 4, 6]])])
    with pytest.raises(ModelError, match="no type for the result"):
        Case("DequantizeLinear", 24, [q, scale], {"axis": 0}).infer()


def test_precision_says_where_the_division_rounds() -> None:
    x, scale = np.float32([1000]), np.float32(0.3)
    exact = Case("QuantizeLinear", 23, [x, scale], {"output_dtype": dtypes.UINT16.code})
    rough = Case("QuantizeLinear", 23, [x, scale], {"output_dtype": dtypes.UINT16.code, "precision": 16})
    assert exact.reference()[0].tolist() == [3333]
    assert rough.reference()[0].tolist() == [int(ml_dtypes.bfloat16(1000) / ml_dtypes.bfloat16(0.3))]
    check(exact, "nobody")
    check(rough, "nobody")


def test_rounding_comes_before_the_zero_point() -> None:
    check(Case("QuantizeLinear", 13, [np.float32([0.5, 1.5]), np.float32(1), np.uint8(1)]), [np.uint8([1, 3])])


@pytest.mark.parametrize("x", [[0, 0, 0], [1, 1, 1], [-1, -1], [0.5, 2], [-3, 7, 0.1], [[-5.5, 2], [3, 4]]])
def test_dynamic_quantize_agrees_with_onnxruntime(x: list) -> None:
    x = np.float32(x)
    check(Case("DynamicQuantizeLinear", 11, [x], {}, 3), symbols={(0, 0): "n"})


def test_symbolic_sizes_meet_their_scales() -> None:
    x = np.zeros((2, 3, 8), np.float32)
    _, known = Case("QuantizeLinear", 21, [x, np.ones(3, np.float32)]).infer({(0, 1): "c"})
    assert known.resolve(sym("c")) == 3
    blocks = Case("QuantizeLinear", 21, [x, np.ones((2, 3, 2), np.float32)], {"axis": 2, "block_size": 4})
    _, known = blocks.infer({(0, 0): "n"})
    assert known.resolve(sym("n")) == 2
    check(blocks, "nobody", symbols={(0, 0): "n", (1, 0): "n"})


@pytest.mark.parametrize(("scale", "zero", "attributes", "what"), [
    ((4,), (4,), {}, "axis 1 of x and y_scale: 3 and 4 differ"),
    ((3,), (2,), {}, "the scale \\(3\\) and the zero point \\(2\\)"),
    ((3,), (), {}, "does not have the shape of the scale"),
    ((2, 3), (2, 3), {}, "y_scale is a scalar or a list"),
    ((2, 2), (2, 2), {"block_size": 4}, "3, in blocks|differ"),
    ((2,), (2,), {"axis": 2}, "axis 2 is not within"),
    ((), (), {"output_dtype": 3}, "output_dtype is int8, the zero point is uint8"),
])
def test_granularities_that_do_not_fit_are_refused(scale: tuple, zero: tuple, attributes: dict, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        Case("QuantizeLinear", 21, [np.zeros((2, 3), np.float32), np.ones(scale, np.float32), np.zeros(zero, np.uint8)],
             attributes).infer()
