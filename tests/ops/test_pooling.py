"""Pooling: onnx's cases, ONNX Runtime on random attributes in every version it has, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.ir.types import print_shape

OURS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
VERSIONS = {"MaxPool": [1, 8, 10, 11, 12, 22], "AveragePool": [7, 10, 11, 19, 22], "LpPool": [2, 11, 18, 22]}


def symbols(rank: int) -> dict[tuple[int, int], str]:
    return {(0, a): f"d{a}" for a in range(rank)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases(*OURS)])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols=symbols(case.inputs[0].ndim))


def drawn(rng: np.random.Generator, op: str, version: int) -> tuple[tuple, dict]:
    """A shape of x, and attributes that fit it and the version."""
    rank = int(rng.integers(1, 4))
    kernel = [int(k) for k in rng.integers(1, 4, rank)]
    dilated = version >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op] and rng.random() < 0.5
    dilations = [int(d) for d in rng.integers(1, 3, rank)] if dilated else [1] * rank
    attributes: dict = {"kernel_shape": kernel}
    if dilated:
        attributes["dilations"] = dilations
    if rng.random() < 0.8:
        attributes["strides"] = [int(s) for s in rng.integers(1, 4, rank)]
    mode = str(rng.choice(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode != "NOTSET" and not dilated:
        attributes["auto_pad"] = mode
        # ONNX Runtime refuses SAME_* where a stride is larger than the kernel.
        if mode.startswith("SAME") and "strides" in attributes:
            attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel)]
    else:
        # Paddings of the whole kernel and more make windows that see nothing; ONNX Runtime refuses them.
        attributes["pads"] = [int(rng.integers(0, k)) for k in kernel + kernel]
    if version >= {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[op] and not mode.startswith("SAME"):
        attributes["ceil_mode"] = int(rng.integers(0, 2))
    sizes = [d * (k - 1) + 1 + int(rng.integers(0, 6)) for k, d in zip(kernel, dilations)]
    return (int(rng.integers(1, 3)), int(rng.integers(1, 3)), *sizes), attributes


@pytest.mark.parametrize("seed", range(48))
def test_max_pool_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = VERSIONS["MaxPool"][seed % 6]
    shape, attributes = drawn(rng, "MaxPool", version)
    dtype = rng.choice([np.float32, np.uint8, np.int8]) if version >= 12 else np.float32
    # Few different numbers, so that there are equals among which the first must be found.
    x = rng.integers(0, 5, shape).astype(dtype)
    outputs = 2 if version >= 8 and rng.random() < 0.7 else 1
    if outputs == 2 and rng.random() < 0.5:
        attributes["storage_order"] = 1
    check(Case("MaxPool", version, [x], attributes, outputs), rtol=0, atol=0, symbols=symbols(len(shape)))


@pytest.mark.parametrize("seed", range(40))
def test_average_pool_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = VERSIONS["AveragePool"][seed % 5]
    shape, attributes = drawn(rng, "AveragePool", version)
    if rng.random() < 0.5:
        attributes["count_include_pad"] = 1
    check(Case("AveragePool", version, [rng.standard_normal(shape).astype(np.float32)], attributes),
          symbols=symbols(len(shape)))


@pytest.mark.parametrize("seed", range(24))
def test_lp_pool_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = VERSIONS["LpPool"][seed % 4]
    shape, attributes = drawn(rng, "LpPool", version)
    if rng.random() < 0.7:
        attributes["p"] = int(rng.integers(1, 4))
    check(Case("LpPool", version, [rng.standard_normal(shape).astype(np.float32)], attributes),
          symbols=symbols(len(shape)))


@pytest.mark.parametrize(("op", "version"), [("GlobalAveragePool", 1), ("GlobalMaxPool", 1), ("GlobalLpPool", 2),
                                             ("GlobalAveragePool", 22), ("GlobalMaxPool", 22)])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 4, 3), (2, 1, 2, 3, 2)])
def test_global_pools_agree_with_onnxruntime(op: str, version: int, shape: tuple) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    attributes = {"p": 3} if op == "GlobalLpPool" else {}
    check(Case(op, version, [x], attributes), symbols=symbols(len(shape)))


def test_lp_pools_of_version_1_take_a_fraction() -> None:
    x = np.array([[[1.0, -2.0, 3.0]]], np.float32)
    want = np.float32([[[(1 + 2**1.5) ** (1 / 1.5), (2**1.5 + 3**1.5) ** (1 / 1.5)]]])
    check(Case("LpPool", 1, [x], {"kernel_shape": [2], "p": 1.5}), [want])
    check(Case("GlobalLpPool", 1, [x], {"p": 0.5}), [np.float32([[[(1 + 2**0.5 + 3**0.5) ** 2]]])])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("op", OURS)
def test_other_floats_are_rounded_once(op: str, dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    x = np.random.default_rng(2).standard_normal((2, 2, 6, 5)).astype(kind)
    attributes = {} if op.startswith("Global") else {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1]}
    wide = Case(op, 22, [x.astype(np.float64)], attributes).reference()[0]
    step = {"float16": 2**-11, "bfloat16": 2**-8, "float64": 2**-50}[dtype]
    check(Case(op, 22, [x], attributes), [wide.astype(kind)], rtol=2 * step, atol=step)


def test_a_maximum_keeps_nan_and_tells_where_it_stood() -> None:
    x = np.array([[[1.0, np.nan, 3.0, 0.0]]], np.float32)
    case = Case("MaxPool", 12, [x], {"kernel_shape": [2]}, 2)
    y, places = case.reference()
    assert np.isnan(y[0, 0, :2]).all() and y[0, 0, 2] == 3
    assert places.tolist() == [[[1, 1, 2]]]
    check(case, "nobody")


def test_padding_is_never_the_maximum() -> None:
    x = np.full((1, 1, 2), -np.inf, np.float32)
    case = Case("MaxPool", 12, [x], {"kernel_shape": [2], "pads": [1, 1]}, 2)
    assert case.reference()[1].tolist() == [[[0, 0, 1]]]
    check(case, "nobody")


def test_a_window_that_would_start_in_the_padding_behind_is_left_out() -> None:
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5)
    at = {"kernel_shape": [2], "strides": [3], "pads": [1, 1], "ceil_mode": 1}
    for version in (10, 12, 22):
        assert Case("MaxPool", version, [x], at).reference()[0].tolist() == [[[1, 4]]]
    facts, _ = Case("MaxPool", 22, [x], at).infer({(0, 2): "w"})
    assert print_shape(facts[0].shape) == "(1,1,w//3 + 1)"


def test_what_hangs_over_the_padded_end_is_not_counted() -> None:
    x = np.full((1, 1, 4), 6, np.float32)
    at = {"kernel_shape": [3], "strides": [3], "ceil_mode": 1, "count_include_pad": 1}
    check(Case("AveragePool", 19, [x], at), [np.float32([[[6, 6]]])])
    # Of the last window one element is data, one padding, one neither.
    at["pads"] = [0, 1]
    check(Case("AveragePool", 19, [x], at), [np.float32([[[6, 3]]])])


@pytest.mark.parametrize(("op", "version", "attributes", "what"), [
    ("LpPool", 1, {}, "it needs kernel_shape"),
    ("MaxPool", 22, {"kernel_shape": [3]}, "the kernel has 1 spatial axes, the data 2"),
    ("MaxPool", 22, {"kernel_shape": [9, 3]}, "a window of 9 does not fit into 4 elements"),
    ("AveragePool", 22, {"kernel_shape": [2, 2], "pads": [0, -1, 0, 0]}, "negative"),
])
def test_attributes_that_contradict_are_refused(op: str, version: int, attributes: dict, what: str) -> None:
    case = Case(op, version, [np.zeros((1, 1, 4, 4), np.float32)], attributes)
    with pytest.raises(ModelError, match=what):
        case.infer()
    with pytest.raises(ModelError, match=what):
        case.reference()
