"""Conv, ConvTranspose, ConvInteger and QLinearConv: onnx's cases, ONNX Runtime on random attributes, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, close, onnx_cases, session

from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.symbolic import sym

OURS = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv")
SPATIAL = {(0, 0): "n", (0, 2): "h", (0, 3): "w"}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases(*OURS)])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    symbols = {(0, a): f"d{a}" for a in range(case.inputs[0].ndim) if a != 1}
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols=symbols)


def drawn(rng: np.random.Generator, transposed: bool = False, plain: bool = False) -> tuple[tuple, tuple, dict]:
    """Shapes of x and w, and attributes that fit them."""
    rank, group = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    c, m = group * int(rng.integers(1, 4)), group * int(rng.integers(1, 4))
    kernel = [int(k) for k in rng.integers(1, 4, rank)]
    strides = [int(s) for s in rng.integers(1, 4, rank)]
    dilations = [int(d) for d in rng.integers(1, 3, rank)]
    sizes = [d * (k - 1) + 1 + int(rng.integers(0, 6)) for k, d in zip(kernel, dilations)]
    attributes: dict = {"group": group}
    if rng.random() < 0.7:
        attributes["strides"] = strides
    if rng.random() < 0.7:
        attributes["dilations"] = dilations
    if rng.random() < 0.5:
        attributes["kernel_shape"] = kernel
    mode = rng.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if mode == "NOTSET":
        attributes["pads"] = [int(p) for p in rng.integers(0, 2, 2 * rank)]
    else:
        attributes["auto_pad"] = str(mode)
        # ONNX Runtime refuses SAME_* together with dilations.
        if mode.startswith("SAME"):
            attributes.pop("dilations", None)
            # ... and makes less than size * stride where a print is smaller than the stride: against the text.
            if transposed and "strides" in attributes:
                attributes["strides"] = [min(s, k) for s, k in zip(strides, kernel)]
    n = int(rng.integers(1, 3))
    w = (c, m // group, *kernel) if transposed else (m, c // group, *kernel)
    return (n, c, *sizes), w, attributes


@pytest.mark.parametrize("seed", range(24))
def test_conv_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, attributes = drawn(rng)
    bias = [rng.standard_normal(w[0]).astype(np.float32)] if rng.random() < 0.5 else []
    symbols = {(0, a): f"d{a}" for a in range(len(x)) if a != 1}
    check(Case("Conv", int(rng.choice([1, 11, 22])), [rng.standard_normal(x).astype(np.float32),
                                                     rng.standard_normal(w).astype(np.float32), *bias], attributes),
          symbols=symbols)


@pytest.mark.parametrize("seed", range(32))
def test_conv_transpose_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, attributes = drawn(rng, transposed=True)
    rank = len(x) - 2
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    # ONNX Runtime refuses to put as much as a stride behind.
    if rng.random() < 0.5:
        attributes["output_padding"] = [int(rng.integers(0, s)) for s in strides]
    full = [(d - 1) * s + (k - 1) * di + 1 for d, s, k, di in zip(x[2:], strides, w[2:], dilations)]
    if rng.random() < 0.3:
        attributes["output_shape"] = [max(f + int(rng.integers(-2, min(s, 2))), 1) for f, s in zip(full, strides)]
        attributes.pop("pads", None)
        if attributes.get("auto_pad") == "VALID":
            del attributes["auto_pad"]
    elif "pads" in attributes and any(f - p - q < 1 for f, p, q in zip(full, attributes["pads"],
                                                                       attributes["pads"][rank:])):
        attributes.pop("pads")
    m = w[1] * attributes["group"]
    bias = [rng.standard_normal(m).astype(np.float32)] if rng.random() < 0.5 else []
    symbols = {(0, a): f"d{a}" for a in range(len(x)) if a != 1}
    check(Case("ConvTranspose", int(rng.choice([1, 11, 22])),
               [rng.standard_normal(x).astype(np.float32), rng.standard_normal(w).astype(np.float32), *bias],
               attributes), symbols=symbols)


@pytest.mark.parametrize("seed", range(12))
def test_conv_integer_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, attributes = drawn(rng)
    x_dtype, w_dtype = np.uint8, rng.choice([np.uint8, np.int8])
    inputs = [_integers(rng, x, x_dtype), _integers(rng, w, w_dtype)]
    if rng.random() < 0.7:
        inputs.append(_integers(rng, (), x_dtype))
        if rng.random() < 0.5:
            inputs.append(_integers(rng, (), w_dtype))
    check(Case("ConvInteger", 10, inputs, attributes), rtol=0, atol=0, symbols={(0, 0): "n", (0, 2): "h"})


def test_conv_integer_takes_a_zero_point_for_each_output_channel() -> None:
    rng = np.random.default_rng(0)
    x, w = _integers(rng, (1, 2, 4, 4), np.uint8), _integers(rng, (3, 2, 2, 2), np.int8)
    zero = np.array([1, -2, 3], np.int8)
    check(Case("ConvInteger", 10, [x, w, np.uint8(7), zero]), [np.stack([
        Case("ConvInteger", 10, [x, w[i:i + 1], np.uint8(7), zero[i]]).reference()[0][:, 0] for i in range(3)], 1)],
        rtol=0, atol=0)


def _integers(rng: np.random.Generator, shape: tuple, dtype: type) -> np.ndarray:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("seed", range(16))
def test_qlinear_conv_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, attributes = drawn(rng)
    dtype = rng.choice([np.uint8, np.int8])
    w_dtype = np.int8 if dtype == np.int8 else rng.choice([np.uint8, np.int8])
    per_channel = rng.random() < 0.5
    w_scale = rng.uniform(0.001, 0.02, w[0] if per_channel else ()).astype(np.float32)
    # ONNX Runtime takes one zero point for each channel only where all are the same.
    w_zero = np.full(w_scale.shape, 0 if w_dtype == np.int8 else 120, w_dtype)
    inputs = [_integers(rng, x, dtype), np.float32(0.02), _integers(rng, (), dtype), _integers(rng, w, w_dtype),
              w_scale, w_zero, np.float32(rng.uniform(0.02, 0.2)), _integers(rng, (), dtype)]
    if rng.random() < 0.5:
        inputs.append(rng.integers(-500, 500, w[0]).astype(np.int32))
    case = Case("QLinearConv", 10, inputs, attributes)
    # A step of one where the scaled sum lies halfway: ONNX Runtime multiplies the scales in another order.
    check(case, rtol=0, atol=1, symbols={(0, 0): "n", (0, 2): "h"}, lower_atol=0)
    assert np.mean(case.reference()[0] != case.onnxruntime()[0]) < 0.02


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_are_rounded_once(op: str, dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s).astype(kind) for s in [(1, 4, 6, 5), (4, 2, 3, 3), (4,)])
    attributes = {"group": 2} if op == "Conv" else {"group": 2, "strides": [2, 1]}
    wide = Case(op, 22, [v.astype(np.float64) for v in (x, w, b)], attributes).reference()[0]
    case = Case(op, 22, [x, w, b], attributes)
    # Half a step in the last place of each type, and the float32 sums' own error.
    steps = {"float16": 2**-11, "bfloat16": 2**-8, "float64": 2**-52}[dtype]
    check(case, [wide.astype(kind)], rtol=2 * steps, atol=8 * steps)


def test_output_shape_larger_than_the_print_puts_zeros_behind() -> None:
    x, w = np.ones((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)
    y = Case("ConvTranspose", 11, [x, w], {"strides": [2], "output_shape": [7]}).reference()[0]
    assert y.tolist() == [[[1, 1, 1, 1, 0, 0, 0]]]


def test_symbolic_sizes_stay_exact() -> None:
    x, w = np.zeros((1, 3, 224, 224), np.float32), np.zeros((64, 3, 7, 7), np.float32)
    facts, known = Case("Conv", 22, [x, w], {"strides": [2, 2], "pads": [3] * 4}).infer(SPATIAL)
    h = sym("h")
    assert print_shape(tuple(known.resolve(d) for d in facts[0].shape)) == print_shape(
        (sym("n"), 64, (h - 1) // 2 + 1, (sym("w") - 1) // 2 + 1))
    facts, _ = Case("Conv", 22, [x, w], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}).infer(SPATIAL)
    assert print_shape(facts[0].shape) == "(n,64,(h + 1)//2,(w + 1)//2)"


def test_unknown_channels_take_the_size_that_the_weight_has() -> None:
    x, w = np.zeros((1, 3, 8, 8), np.float32), np.zeros((4, 3, 3, 3), np.float32)
    _, known = Case("Conv", 22, [x, w]).infer({(0, 1): "c"})
    assert known.resolve(sym("c")) == 3


def test_wrong_channels_are_refused_with_both_shapes() -> None:
    x, w = np.zeros((1, 4, 224, 224), np.float32), np.zeros((64, 3, 7, 7), np.float32)
    with pytest.raises(ModelError) as refused:
        Case("Conv", 22, [x, w]).infer()
    assert refused.value.what == "Conv: x has 4 channels, the weight takes 3"
    assert refused.value.advice == "x is (1,4,224,224), w is (64,3,7,7); is the picture RGBA?"
    with pytest.raises(ModelError, match="x has 4 channels, the weight takes 3"):
        Case("Conv", 22, [x, w]).reference()


@pytest.mark.parametrize(("attributes", "what"), [
    ({"kernel_shape": [3, 3]}, "kernel_shape"),
    ({"strides": [1]}, "strides has 1 entries for 2 spatial axes"),
    ({"strides": [0, 1]}, "strides must be at least 1"),
    ({"pads": [1, 1]}, "pads has 2 entries"),
    ({"pads": [-1, 0, 0, 0]}, "negative"),
    ({"auto_pad": "SAME"}, "auto_pad cannot be 'SAME'"),
    ({"dilations": [2, 2]}, "a window of 13 does not fit"),
    ({"group": 3}, "channels"),
    ({"group": 0}, "group"),
])
def test_attributes_that_contradict_are_refused(attributes: dict, what: str) -> None:
    x, w = np.zeros((1, 3, 8, 8), np.float32), np.zeros((4, 3, 7, 7), np.float32)
    with pytest.raises(ModelError, match=what):
        Case("Conv", 22, [x, w], attributes).infer()


def test_the_oracle_runs_the_model_it_is_given() -> None:
    """The harness itself: ONNX Runtime sees the node, and a wrong answer would be noticed."""
    case = Case("Conv", 11, [np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32)])
    assert session(case.model().SerializeToString()).get_inputs()[0].shape == [1, 1, 3]
    with pytest.raises(AssertionError):
        close(case.onnxruntime()[0] + 1, case.reference()[0], 1e-4, 1e-5, "shifted")
