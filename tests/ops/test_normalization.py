"""The normalizations: onnx's cases, ONNX Runtime on random attributes, and by hand."""

import ml_dtypes
import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError

OURS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "LRN",
        "LpNormalization", "MeanVarianceNormalization")


def symbols(rank: int, *, but: int = -1) -> dict[tuple[int, int], str]:
    return {(0, a): f"d{a}" for a in range(rank) if a != but}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases(*OURS)])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols={(0, 0): "n"})


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_instance_normalization_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c = int(rng.integers(1, 4))
    x = reals(rng, int(rng.integers(1, 3)), c, *rng.integers(2, 5, rng.integers(1, 4)))
    check(Case("InstanceNormalization", [6, 22][seed % 2], [x, reals(rng, c), reals(rng, c)],
               {"epsilon": float(np.float32(rng.uniform(0.001, 0.1)))}), symbols=symbols(x.ndim, but=1))


def test_instance_normalization_of_version_1_ignores_consumed_inputs() -> None:
    x = reals(np.random.default_rng(0), 1, 2, 3, 3)
    at = [x, np.ones(2, np.float32), np.zeros(2, np.float32)]
    check(Case("InstanceNormalization", 1, at, {"consumed_inputs": [0, 0, 0]}),
          Case("InstanceNormalization", 6, at).onnxruntime())


@pytest.mark.parametrize("seed", range(12))
def test_group_normalization_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    c = groups * int(rng.integers(1, 4))
    x = reals(rng, int(rng.integers(1, 3)), c, *rng.integers(2, 5, rng.integers(1, 3)))
    version = [18, 21][seed % 2]
    of = groups if version == 18 else c
    # What 18 holds for a group, 21 holds for each of its channels.
    check(Case("GroupNormalization", version, [x, reals(rng, of), reals(rng, of)], {"num_groups": groups}),
          symbols={**symbols(x.ndim, but=1)})


@pytest.mark.parametrize("seed", range(16))
def test_layer_normalization_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = reals(rng, *rng.integers(1, 5, rng.integers(1, 4)))
    axis = int(rng.integers(-x.ndim, x.ndim))
    inputs = [x, reals(rng, *x.shape[axis % x.ndim:])]
    if rng.random() < 0.6:
        inputs.append(reals(rng, *x.shape[axis % x.ndim:]))
    names = symbols(x.ndim) if axis % x.ndim else None
    names = {k: v for k, v in (names or {}).items() if k[1] < axis % x.ndim} or None
    check(Case("LayerNormalization", 17, inputs, {"axis": axis, "epsilon": 0.01}, int(rng.choice([1, 3]))),
          symbols=names)


@pytest.mark.parametrize("seed", range(8))
def test_rms_normalization_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = reals(rng, *rng.integers(1, 5, rng.integers(1, 4)))
    axis = int(rng.integers(-x.ndim, x.ndim))
    check(Case("RMSNormalization", 23, [x, reals(rng, *x.shape[axis % x.ndim:])], {"axis": axis}),
          symbols={(0, a): f"d{a}" for a in range(axis % x.ndim)} or None)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("version", [1, 13])
def test_lrn_agrees_with_onnxruntime(version: int, size: int) -> None:
    x = reals(np.random.default_rng(size), 2, 5, 3, 2)
    check(Case("LRN", version, [x], {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 1.5}), symbols=symbols(4, but=1))


def test_an_even_window_of_channels_reaches_further_behind() -> None:
    x = np.float32([1, 2, 3]).reshape(1, 3)  # and it needs no spatial axes, which ONNX Runtime insists on
    sums = np.float32([[1 + 4, 4 + 9, 9]])
    check(Case("LRN", 13, [x], {"size": 2, "alpha": 2.0, "beta": 1.0}), [x / (1 + sums)])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("version", [1, 22])
def test_lp_normalization_agrees_with_onnxruntime(version: int, axis: int, p: int) -> None:
    x = reals(np.random.default_rng(0), 3, 4, 2)
    x[:, 1] = 0
    check(Case("LpNormalization", version, [x], {"axis": axis, "p": p}), symbols=symbols(3))


def test_a_norm_of_zero_gives_zeros() -> None:
    check(Case("LpNormalization", 22, [np.float32([[0, 0], [3, 4]])]), [np.float32([[0, 0], [0.6, 0.8]])])


@pytest.mark.parametrize("version", [9, 13])
@pytest.mark.parametrize("axes", [None, [0, 1], [2], [0, 1, 2, 3]])
def test_mean_variance_normalization_agrees_with_onnxruntime(version: int, axes: list | None) -> None:
    x = reals(np.random.default_rng(3), 2, 3, 4, 5)
    # ONNX Runtime has the two sets of axes that Caffe2 had; onnx's function says the rest.
    want = "onnxruntime" if axes is None else [
        (x - x.mean(tuple(axes), keepdims=True)) / (x.std(tuple(axes), keepdims=True) + np.float32(1e-9))]
    check(Case("MeanVarianceNormalization", version, [x], {} if axes is None else {"axes": axes}), want,
          symbols=symbols(4))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_normalized_rows_of_narrow_floats_are_rounded_before_the_scale(dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    rng = np.random.default_rng(4)
    x, scale, b = (reals(rng, *s).astype(kind) for s in ((3, 8), (8,), (8,)))
    wide = x.astype(np.float32)
    rows = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + np.float32(1e-5))
    want = rows.astype(kind) * scale + b
    step = 2.0**-10 if dtype == "float16" else 2.0**-7
    case = Case("LayerNormalization", 17, [x, scale, b], {}, 3)
    check(case, [want, wide.mean(1, keepdims=True), 1 / np.sqrt(wide.var(1, keepdims=True) + np.float32(1e-5))],
          rtol=step, atol=step)
    in_bf16 = Case("LayerNormalization", 17, [x, scale, b], {"stash_type": 16}, 3)
    assert [o.dtype.name for o in in_bf16.reference()] == [dtype, "bfloat16", "bfloat16"]
    check(in_bf16, "nobody", rtol=step, atol=step)
    rms = wide / np.sqrt((wide * wide).mean(1, keepdims=True) + np.float32(1e-5))
    check(Case("RMSNormalization", 23, [x, scale]), [rms.astype(kind) * scale], rtol=step, atol=step)


def test_doubles_are_stashed_in_float32_unless_told() -> None:
    x = np.random.default_rng(5).standard_normal((2, 6)) + 1e4
    ones = np.ones(6)
    exact = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    told = Case("LayerNormalization", 17, [x, ones], {"stash_type": 11})
    np.testing.assert_allclose(told.reference()[0], exact, 1e-9)
    rough = Case("LayerNormalization", 17, [x, ones]).reference()[0]
    assert 1e-5 < np.abs(rough - exact).max() < 1e-2


def test_scales_of_another_type_give_the_type_of_the_result() -> None:
    x = np.random.default_rng(6).standard_normal((2, 6)).astype(np.float16)
    case = Case("RMSNormalization", 23, [x, np.ones(6, np.float32)])
    assert case.reference()[0].dtype == np.float32
    check(case, "nobody")


@pytest.mark.parametrize(("op", "shapes", "attributes", "what"), [
    ("InstanceNormalization", [(1, 3, 4), (2,), (3,)], {}, "the channels of the data and the scale: 3 and 2 differ"),
    ("InstanceNormalization", [(1, 3), (3,), (3,)], {}, "spatial axes"),
    ("GroupNormalization", [(1, 4, 2), (4,), (4,)], {"num_groups": 3}, "4 channels do not divide into 3 groups"),
    ("GroupNormalization", [(1, 4, 2), (2,), (4,)], {"num_groups": 2}, "channels of the data and the scale"),
    ("LayerNormalization", [(2, 4), (3,)], {}, "the scale (3) laid into (2,4)"),
    ("LayerNormalization", [(2, 4), (4,)], {"axis": 2}, "axis 2 is not within"),
    ("LpNormalization", [(2, 4)], {"p": 3}, "p is 1 or 2, not 3"),
    ("LRN", [(2, 4, 1, 1)], {"size": 0}, "size is 0"),
    ("MeanVarianceNormalization", [(2, 4)], {"axes": [0, 2]}, "not within"),
])
def test_shapes_that_do_not_fit_are_refused(op: str, shapes: list, attributes: dict, what: str) -> None:
    with pytest.raises(ModelError) as refused:
        Case(op, 22, [np.zeros(s, np.float32) for s in shapes], attributes).infer()
    assert what in refused.value.what
