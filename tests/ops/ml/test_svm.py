"""Support vector machines answer as ONNX Runtime does, and as scikit-learn, whose numbers they carry."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from tests.ops.ml.nodes import by_onnxruntime, by_reference, lowering_agrees

from gesher import ModelError

F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]


def rows(n: int = 30, dtype: Any = np.float32) -> np.ndarray:
    x = np.random.default_rng(3).normal(0, 1.5, (n, 3))
    return x.round().astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def classifier(classes: int, kernel: str, *, prob: bool = False, strings: bool = False, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(classes)
    counts = [2 + i % 3 for i in range(classes)]
    pairs = classes * (classes - 1) // 2
    a: dict[str, Any] = {
        "kernel_type": kernel, "kernel_params": [0.3, 0.4, 3.0], "vectors_per_class": counts,
        "support_vectors": rng.normal(0, 1, 3 * sum(counts)).tolist(),
        "coefficients": rng.normal(0, 1, (classes - 1) * sum(counts)).tolist(), "rho": rng.normal(0, 1, pairs).tolist()}
    if prob:
        a |= {"prob_a": (-rng.uniform(0.5, 2, pairs)).tolist(), "prob_b": rng.normal(0, 0.3, pairs).tolist()}
    a |= {"classlabels_strings": list("dbac")[:classes]} if strings else {"classlabels_ints": [7, 3, 9, 1][:classes]}
    return a | more


def both(op: str, x: np.ndarray, kinds: list[int], a: dict[str, Any], *, lowers: bool = True) -> list[Any]:
    # PROBIT cancels near 1/2 in float32.
    atol = 1e-4 if a.get("post_transform") == "PROBIT" else 2e-5
    want = by_onnxruntime(op, x, [(f"y{i}", k) for i, k in enumerate(kinds)], 1, a)
    got = by_reference(op, x, len(kinds), 1, a)
    for g, w in zip(got, want):
        assert g.shape == w.shape
        if w.dtype.kind == "f":
            # Kernels in float32 there and float64 here, and cubes of sums.
            np.testing.assert_allclose(g, w, rtol=2e-4, atol=atol)
        else:
            assert g.tolist() == w.tolist()
    assert lowering_agrees(op, x, got, 1, a, atol) == lowers
    return got


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("prob", [False, True])
def test_classifier_by_votes(kernel: str, classes: int, prob: bool) -> None:
    both("SVMClassifier", rows(), [I, F], classifier(classes, kernel, prob=prob))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("classes", "prob"), [(2, True), (3, True), (2, False), (3, False)])
def test_classifier_transforms_its_scores(transform: str, classes: int, prob: bool) -> None:
    a = classifier(classes, "RBF", prob=prob, post_transform=transform)
    if transform == "PROBIT" and not prob:
        # Scores are no probabilities: ONNX Runtime leaves half of the output unwritten, or gives NaN for the rest.
        if classes == 2:
            with pytest.raises(ModelError, match="PROBIT of the one score"):
                by_reference("SVMClassifier", rows(), 2, 1, a)
        return
    both("SVMClassifier", rows(), [I, F], a)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_classifier_takes_every_type(dtype: Any) -> None:
    both("SVMClassifier", rows(dtype=dtype), [I, F], classifier(3, "POLY"))


def test_string_labels_stay_with_the_reference() -> None:
    both("SVMClassifier", rows(), [S, F], classifier(3, "RBF", strings=True), lowers=False)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("positive", [False, True])
def test_classifier_without_vectors_is_linear(classes: int, transform: str, positive: bool) -> None:
    weights = np.random.default_rng(5).normal(0, 1, 3 * classes)
    a = {"coefficients": (np.abs(weights) if positive else weights).tolist(), "rho": [0.25],
         "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 0.0], "classlabels_ints": [4, 2, 5][:classes],
         "post_transform": transform}
    both("SVMClassifier", rows(), [I, F], a)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_regressor(kernel: str, one_class: int) -> None:
    rng = np.random.default_rng(6)
    a = {"kernel_type": kernel, "kernel_params": [0.3, 0.4, 2.0], "n_supports": 5, "one_class": one_class,
         "support_vectors": rng.normal(0, 1, 15).tolist(), "coefficients": rng.normal(0, 1, 5).tolist(), "rho": [0.1]}
    both("SVMRegressor", rows(), [F], a)


def test_regressor_without_vectors_is_linear() -> None:
    a = {"coefficients": [1.0, -2.0, 0.5], "rho": [0.25], "kernel_params": [0.0, 0.0, 0.0]}
    got = both("SVMRegressor", np.float32([[1, 1, 2]]), [F], a)
    assert got[0].tolist() == [[0.25]]


def test_regressor_leaves_its_score_alone() -> None:
    a = {"coefficients": [1.0, -2.0, 0.5], "rho": [0.25], "post_transform": "LOGISTIC",
         "kernel_params": [0.0, 0.0, 0.0]}
    both("SVMRegressor", rows(), [F], a)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(classes: int) -> None:
    """A fitted SVC: same labels, and probabilities as the one model that is written down tells them."""
    from sklearn.svm import SVC

    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(c, 1, (30, 3)) for c in range(classes)]).astype(np.float32)
    y = np.repeat(np.arange(classes), 30)
    svc = SVC(kernel="rbf", gamma=0.4).fit(x, y)
    # scikit-learn turns the sign of a machine of two classes.
    sign = -1 if classes == 2 else 1
    a = {"kernel_type": "RBF", "kernel_params": [0.4, 0.0, 0.0], "vectors_per_class": svc.n_support_.tolist(),
         "support_vectors": svc.support_vectors_.ravel().tolist(),
         "coefficients": (sign * svc.dual_coef_).ravel().tolist(), "rho": (sign * svc.intercept_).tolist(),
         "classlabels_ints": list(range(classes))}
    labels, _ = both("SVMClassifier", x, [I, F], a)
    assert (labels == svc.predict(x)).mean() == 1.0


def test_two_pairs_of_vectors_by_hand() -> None:
    """One vector a class at -1 and 1, weights 1 and -1: the machine says -2 x, and whoever is nearer wins."""
    a = {"kernel_type": "LINEAR", "vectors_per_class": [1, 1], "support_vectors": [-1.0, 1.0],
         "coefficients": [1.0, -1.0], "rho": [0.0], "classlabels_ints": [10, 20], "kernel_params": [0.0, 0.0, 0.0]}
    labels, scores = by_reference("SVMClassifier", np.float32([[-3.0], [2.0]]), 2, 1, a)
    assert labels.tolist() == [10, 20]
    assert scores.tolist() == [[-6.0, 6.0], [4.0, -4.0]]


@pytest.mark.parametrize(("change", "told"), [
    ({"kernel_type": "COSINE"}, "there is no kernel"), ({"kernel_params": [1.0]}, "gamma, coef0 and degree"),
    ({"vectors_per_class": [1, 2]}, "for 3 classes"), ({"rho": [1.0]}, "prob_a and prob_b"),
    ({"coefficients": None}, "needs labels"), ({"prob_a": [1.0]}, "prob_b 0"),
    ({"support_vectors": [1.0, 2.0]}, "do not part"), ({"post_transform": "CUBE"}, "no post transform"),
    ({"classlabels_ints": None}, "needs labels")])
def test_what_does_not_fit_is_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        a = {k: v for k, v in (classifier(3, "RBF") | change).items() if v is not None}
        by_reference("SVMClassifier", rows(), 2, 1, a)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ModelError, match="takes 3"):
        by_reference("SVMClassifier", np.zeros((1, 4), np.float32), 2, 1, classifier(3, "RBF"))
    with pytest.raises(ModelError, match="5 coefficients for 4"):
        by_reference("SVMRegressor", rows(), 1, 1, {"coefficients": [1.0] * 5, "n_supports": 4, "rho": [0.0],
                                                    "support_vectors": [1.0] * 12})
