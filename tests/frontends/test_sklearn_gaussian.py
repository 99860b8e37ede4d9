"""Gaussian processes that classify, centroids with priors, scalers' ways back: as scikit-learn, on three engines."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern, WhiteKernel
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

import gesher

X, KINDS = load_iris(return_X_y=True)
X = X[::2] + np.random.default_rng(0).uniform(0, 0.01, X[::2].shape)
WORDS = np.array(["a", "b", "c"])[KINDS[::2]]
ENGINES = ("reference", "compiled", "onnxruntime")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "rows", "pairs"), [
    (None, 50, False), (1.3 * RBF([0.7, 1, 2, 3]) + WhiteKernel(0.1) * DotProduct(0.5), 75, False),
    (2.0 * Matern(nu=1.5) ** 2, 75, False), (None, 75, True)])
def test_gaussian_processes_classify(kernel: Any, rows: int, pairs: bool, dtype: Any) -> None:
    x = X[:rows].astype(dtype)
    model = GaussianProcessClassifier(kernel, optimizer=None, multi_class="one_vs_one" if pairs else "one_vs_rest")
    model.fit(x, WORDS[:rows])
    exported = gesher.export(model, x)
    shown = (x + np.random.default_rng(1).uniform(-0.3, 0.3, x.shape)).astype(dtype)
    for engine in ENGINES:
        with gesher.session(exported, engine) as session:
            got = session.run({"X": shown})
        assert (got["label"] == model.predict(shown)).all()
        assert ("probabilities" in got) is not pairs
        if not pairs:
            tight = 1e-9 if dtype is np.float64 else 1e-6
            assert np.allclose(got["probabilities"], model.predict_proba(shown), rtol=0, atol=tight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaler", [
    StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False), RobustScaler(),
    RobustScaler(with_scaling=False), MinMaxScaler((-1, 3), clip=True), MaxAbsScaler()], ids=str)
def test_scalers_go_back(scaler: Any, dtype: Any) -> None:
    x = X.astype(dtype)
    exported = gesher.export(scaler.fit(x), x, methods=["inverse_transform"])
    for engine in ENGINES:
        with gesher.session(exported, engine) as session:
            (got,) = session.run({"X": x}).values()
        assert np.allclose(got, scaler.inverse_transform(x), rtol=1e-6 if dtype is np.float32 else 1e-13)


@pytest.mark.parametrize("rows", [50, 75])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
@pytest.mark.parametrize("priors", ["uniform", [0.2, 0.5, 0.3]], ids=str)
def test_centroids_tell_by_priors_and_spread(priors: Any, metric: str, dtype: Any, rows: int) -> None:
    x, words = X[:rows].astype(dtype), WORDS[:rows]
    priors = [0.3, 0.7] if rows == 50 and priors != "uniform" else priors
    model = NearestCentroid(metric=metric, priors=priors).fit(x, words)
    methods = ["predict", "predict_proba", "decision_function", "predict_log_proba"][:4 if metric == "euclidean" else 1]
    exported = gesher.export(model, x, methods=methods)
    names = {"predict_proba": "probabilities", "decision_function": "scores", "predict_log_proba": "log_probabilities"}
    for engine in ENGINES:
        with gesher.session(exported, engine) as session:
            got = session.run({"X": x})
        assert (got["label"] == model.predict(x)).all()
        for method in methods[1:]:
            answer = getattr(model, method)(x)
            assert np.allclose(got[names[method]].reshape(answer.shape), answer, rtol=1e-5, atol=1e-5)
