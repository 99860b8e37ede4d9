"""scikit-learn's models, fitted on made-up tables of 20 columns and written with gesher's exporter, rows free."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .store import Build, Feeds

COLUMNS = 20


def table(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Columns (rows,20) float32, and one of three classes that hangs on them in a crooked way."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    score = x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2]) + np.abs(x[:, 3]) + 0.5 * x[:, 4] + 0.3 * rng.normal(size=rows)
    return x, np.digitize(score, np.quantile(score, [1 / 3, 2 / 3]))


def estimator(kind: str) -> Any:
    """The estimator of that kind, not fitted."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    if kind == "forest":
        return RandomForestClassifier(100, random_state=0, n_jobs=1)
    if kind == "boosting":
        return HistGradientBoostingClassifier(max_iter=300, early_stopping=False, random_state=0)
    if kind == "mlp":
        return MLPClassifier((100, 100), max_iter=5, random_state=0)
    return make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), LogisticRegression(max_iter=300))


def fitted(kind: str) -> Build:
    """Fits and exports the estimator of that kind."""
    def build(path: Path) -> None:
        import gesher

        x, y = table(5000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")    # that it has not converged
            model = estimator(kind).fit(x, y)
        gesher.save(gesher.export(model, x[:64]), path)
    return build


def rows(count: int) -> Feeds:
    """So many rows that were not learned from."""
    return {"X": table(count, seed=1)[0]}
