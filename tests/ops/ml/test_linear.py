"""Linear models, features and labels answer as ONNX Runtime does."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from tests.ops.ml.nodes import by_onnxruntime, by_reference, lowering_agrees

from gesher import ModelError
from gesher.ir import Tensor

F, D, I32, I, S = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.STRING)
NUMBERS = [(np.float32, F), (np.float64, D), (np.int64, I), (np.int32, I32)]


def rows(dtype: Any, n: int = 40, f: int = 3) -> np.ndarray:
    x = np.random.default_rng(3).normal(0, 2, (n, f))
    return x.round().astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def both(op: str, x: np.ndarray, kinds: list[int], a: dict[str, Any], version: int = 1, *, lowers: bool = True) -> None:
    want = by_onnxruntime(op, x, [(f"y{i}", k) for i, k in enumerate(kinds)], version, a)
    got = by_reference(op, x, len(kinds), version, a)
    for g, w in zip(got, want):
        assert g.shape == w.shape
        if w.dtype.kind == "f":
            # float32 products of three terms, exp in another library
            np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
        else:
            assert g.tolist() == w.tolist()
    assert lowering_agrees(op, x, got, version, a) == lowers


@pytest.mark.parametrize("dtype", [t for t, _ in NUMBERS])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classifier(dtype: Any, transform: str, classes: int) -> None:
    k = 1 if classes == 2 else classes
    rng = np.random.default_rng(4)
    a = {"coefficients": rng.normal(0, 1, 3 * k).tolist(), "intercepts": rng.normal(0, 1, k).tolist(),
         "classlabels_ints": [3, 8, 1][:classes], "post_transform": transform}
    both("LinearClassifier", rows(dtype), [I, F], a)


def test_linear_classifier_with_string_labels_stays_with_the_reference() -> None:
    a = {"coefficients": [1.0, -1.0, 0.5], "intercepts": [0.1], "classlabels_strings": ["no", "yes"],
         "post_transform": "LOGISTIC"}
    both("LinearClassifier", rows(np.float32), [S, F], a, lowers=False)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX"])
def test_linear_regressor(targets: int, transform: str) -> None:
    a = {"coefficients": np.linspace(-1, 1, 3 * targets).tolist(), "intercepts": [0.5] * targets, "targets": targets,
         "post_transform": transform}
    both("LinearRegressor", rows(np.float32), [F], a)


@pytest.mark.parametrize("dtype", [t for t, _ in NUMBERS])
@pytest.mark.parametrize("one", [True, False])
def test_scaler(dtype: Any, one: bool) -> None:
    both("Scaler", rows(dtype), [F], {"offset": [0.5] if one else [0.5, -1.0, 2.0], "scale": [2.0] if one else
                                      [2.0, 0.5, 1.0]})


@pytest.mark.parametrize("dtype", [t for t, _ in NUMBERS])
@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(dtype: Any, norm: str) -> None:
    x = rows(dtype)
    x[0] = 0
    both("Normalizer", x, [F], {"norm": norm})


@pytest.mark.parametrize(("dtype", "kind"), NUMBERS)
def test_binarizer(dtype: Any, kind: int) -> None:
    if dtype is np.float32:
        both("Binarizer", rows(dtype), [kind], {"threshold": 0.25})
    else:  # ONNX Runtime has it for float32 alone
        got = by_reference("Binarizer", np.array([[0, 1, -1]], dtype), 1, 1, {"threshold": 0.25})
        assert got[0].tolist() == [[0, 1, 0]] and got[0].dtype == dtype


def test_imputer_replaces_nan_and_values() -> None:
    x = rows(np.float32)
    x[::3, 1] = np.nan
    both("Imputer", x, [F], {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")})
    both("Imputer", rows(np.int64), [I], {"imputed_value_int64s": [7], "replaced_value_int64": 1})


def test_one_hot_encoder() -> None:
    both("OneHotEncoder", rows(np.int64), [F], {"cats_int64s": [0, 1, -1, 2]})
    both("OneHotEncoder", rows(np.float32).round(), [F], {"cats_int64s": [0, 1, -1, 2]})
    with pytest.raises(ModelError, match="no known category"):
        by_reference("OneHotEncoder", np.array([[9]]), 1, 1, {"cats_int64s": [0, 1], "zeros": 0})


def test_label_encoder_1_goes_both_ways() -> None:
    got = by_reference("LabelEncoder", np.array(["b", "x"], object), 1, 1, {"classes_strings": ["a", "b"]})
    assert got[0].tolist() == [1, -1]
    got = by_reference("LabelEncoder", np.array([1, 5]), 1, 1, {"classes_strings": ["a", "b"]})
    assert got[0].tolist() == ["b", "_Unused"]


@pytest.mark.parametrize("version", [2, 4])
def test_label_encoder(version: int) -> None:
    x = rows(np.int64)
    both("LabelEncoder", x, [F], {"keys_int64s": [0, 1, -1], "values_floats": [0.5, 1.5, 2.5], "default_float": -9.0},
         version)
    both("LabelEncoder", x, [S], {"keys_int64s": [0, 1], "values_strings": ["a", "b"], "default_string": "?"},
         version, lowers=False)
    nan = np.array([[1.0, np.nan, 3.0]], np.float32)
    a = {"keys_floats": [float("nan"), 1.0], "values_int64s": [5, 6]}
    if version == 4:
        both("LabelEncoder", nan, [I], a, version)
    else:  # ONNX Runtime finds a NaN from version 4 on only; ours finds it wherever it is a key
        assert by_reference("LabelEncoder", nan, 1, version, a)[0].tolist() == [[6, 5, -1]]


def test_label_encoder_4_takes_tensors() -> None:
    a = {"keys_tensor": Tensor.of(np.array([1.5, 2.5])), "values_tensor": Tensor.of(np.array([7, 8], np.int16)),
         "default_tensor": Tensor.of(np.array([-3], np.int16))}
    x = np.array([[1.5, 0.0, 2.5]])
    got = by_reference("LabelEncoder", x, 1, 4, a)    # ONNX Runtime has no double to int16
    assert got[0].tolist() == [[7, -3, 8]] and got[0].dtype == np.int16
    assert lowering_agrees("LabelEncoder", x, got, 4, a)


def test_feature_vectorizer_cuts_and_fills() -> None:
    got = by_reference("FeatureVectorizer", np.array([[1, 2, 3]]), 1, 1, {"inputdimensions": [2]})
    assert got[0].tolist() == [[1, 2]] and got[0].dtype == np.float32
    both("FeatureVectorizer", rows(np.float32), [F], {"inputdimensions": [3]})


def test_zip_map_gives_a_dictionary_a_row() -> None:
    x = np.array([[0.25, 0.75]], np.float32)
    a = {"classlabels_strings": ["no", "yes"]}
    assert by_reference("ZipMap", x, 1, 1, a)[0] == [{"no": 0.25, "yes": 0.75}]


def test_category_mapper() -> None:
    a = {"cats_strings": ["a", "b"], "cats_int64s": [10, 20]}
    assert by_reference("CategoryMapper", np.array([20, 1]), 1, 1, a)[0].tolist() == ["b", "_Unused"]
    assert by_reference("CategoryMapper", np.array(["a", "z"], object), 1, 1, a)[0].tolist() == [10, -1]
