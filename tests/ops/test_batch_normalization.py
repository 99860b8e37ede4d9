"""BatchNormalization in its six versions: onnx's cases, ONNX Runtime, and the formula by hand."""

import ml_dtypes
import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("BatchNormalization")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols={(0, 0): "n", (0, 2): "h"})


def inputs(rng: np.random.Generator, shape: tuple, by_channel: bool = True, dtype: type = np.float32) -> list:
    of = shape[1:2] if by_channel else shape[1:]
    x, scale, b, mean = (rng.standard_normal(s).astype(dtype) for s in (shape, of, of, of))
    return [x, scale, b, mean, rng.uniform(0.5, 2, of).astype(dtype)]


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 5), (2, 3, 4, 5), (2, 1, 2, 3, 2)])
@pytest.mark.parametrize("version", [7, 9, 14, 15])
def test_inference_agrees_with_onnxruntime(version: int, shape: tuple) -> None:
    given = inputs(np.random.default_rng(0), shape)
    names = {(0, a): f"d{a}" for a in range(len(shape)) if a != 1}
    check(Case("BatchNormalization", version, given, {"epsilon": 0.01}), symbols=names)


def test_until_opset_8_every_place_may_have_statistics_of_its_own() -> None:
    given = inputs(np.random.default_rng(1), (2, 3, 2, 2), by_channel=False)
    check(Case("BatchNormalization", 7, given, {"spatial": 0}), symbols={(0, 0): "n"})
    x, scale, b, mean, var = given
    check(Case("BatchNormalization", 6, given, {"spatial": 0, "is_test": 1}),
          [(x - mean) / np.sqrt(var + np.float32(1e-5)) * scale + b])
    y, kept, _, of_batch, spread = Case("BatchNormalization", 6, given, {"spatial": 0}, 5).reference()
    np.testing.assert_allclose(of_batch, x.mean(0), 1e-5)
    np.testing.assert_allclose(spread, x.var(0), 1e-4)
    np.testing.assert_allclose(kept, 0.9 * mean + 0.1 * x.mean(0), 1e-5, 1e-6)
    np.testing.assert_allclose(y.mean(0), b, 1e-4, 1e-4)


def trained(given: list, momentum: float) -> list:
    x, scale, b, mean, var = given
    axes = (0, 2, 3)
    of_batch, spread = x.mean(axes), x.var(axes)
    y = (x - of_batch.reshape(-1, 1, 1)) / np.sqrt(spread.reshape(-1, 1, 1) + np.float32(1e-5))
    y = y * scale.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)
    kept = [old * np.float32(momentum) + new * np.float32(1 - momentum)
            for old, new in ((mean, of_batch), (var, spread))]
    return [y, *kept, of_batch, spread]


@pytest.mark.parametrize(("version", "attributes", "outputs"), [
    (1, {"consumed_inputs": [0] * 5}, 5), (6, {}, 5), (6, {}, 1), (7, {}, 5), (7, {}, 2), (9, {}, 5), (9, {}, 3),
    (14, {"training_mode": 1}, 3), (15, {"training_mode": 1}, 3), (15, {"training_mode": 1}, 1)])
def test_training_uses_the_batch_and_keeps_running_statistics(version: int, attributes: dict, outputs: int) -> None:
    given = inputs(np.random.default_rng(2), (3, 2, 4, 5))
    check(Case("BatchNormalization", version, given, {**attributes, "momentum": 0.75}, outputs),
          trained(given, 0.75)[:outputs], symbols={(0, 0): "n", (0, 2): "h", (0, 3): "w"})


@pytest.mark.parametrize(("version", "attributes"), [(1, {"consumed_inputs": [0] * 5, "is_test": 1}),
                                                     (6, {"is_test": 1}), (7, {}), (9, {}), (14, {}), (15, {})])
def test_testing_uses_the_statistics_given(version: int, attributes: dict) -> None:
    given = inputs(np.random.default_rng(3), (3, 2, 4, 5))
    x, scale, b, mean, var = (v if v.ndim > 1 else v.reshape(-1, 1, 1) for v in given)
    check(Case("BatchNormalization", version, given, attributes),
          [(x - mean) / np.sqrt(var + np.float32(1e-5)) * scale + b])


def test_data_scale_and_statistics_may_have_types_of_their_own() -> None:
    given = inputs(np.random.default_rng(4), (2, 3, 2, 2))
    given[0] = given[0].astype(np.float16)
    given[1:3] = (v.astype(ml_dtypes.bfloat16) for v in given[1:3])
    case = Case("BatchNormalization", 15, given, {"training_mode": 1}, 3)
    assert [o.dtype.name for o in case.reference()] == ["float16", "float32", "float32"]
    check(case, "nobody", rtol=2**-9, atol=2**-9)


def test_data_of_one_axis_is_one_channel() -> None:
    one = np.ones(1, np.float32)
    check(Case("BatchNormalization", 15, [np.float32([1, 2, 3]), 2 * one, one, one, 4 * one], {"epsilon": 0.0}),
          [np.float32([1, 2, 3])])


def test_statistics_that_do_not_fit_are_refused() -> None:
    given = inputs(np.random.default_rng(5), (2, 3, 2, 2))
    with pytest.raises(ModelError, match="mean \\(2\\) and the channels of X \\(2,3,2,2\\)"):
        Case("BatchNormalization", 15, [*given[:3], np.ones(2, np.float32), given[4]]).infer()
    with pytest.raises(ModelError, match="only in training"):
        Case("BatchNormalization", 15, given, {}, 3).infer()
