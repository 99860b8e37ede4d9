"""The race of the boosters: its rows stand where they should, what it calls bad, and its table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import gesher

HERE = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in [n for n in sys.modules if n.split(".")[0] in ("boosters", "booster_rows", "booster_zoo", "models",
                                                               "racing")]:
        del sys.modules[name]


def test_rows_on_thresholds_meet_every_side_of_them() -> None:
    from booster_rows import boundary_rows, held, random_rows, thresholds
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    forest = RandomForestClassifier(5, max_depth=3, random_state=0).fit(x, (x[:, 0] > 0).astype(int))
    model = gesher.export(forest, x)
    known = dict(thresholds(model))
    rows = boundary_rows(model, x, count=300)
    gaps = np.array([min(np.abs(r[f] - splits).min() for f, splits in known.items()) for r in rows])
    assert (gaps == 0).sum() > 20 and ((gaps > 0) & (gaps < 1e-6)).sum() > 20
    assert random_rows(x, 50).shape == (50, 3)
    with gesher.session(model, "reference") as session:
        right = held(session, lambda r: {"label": forest.predict(r), "probabilities": forest.predict_proba(r)}, rows)
        wrong = held(session, lambda r: {"label": 1 - forest.predict(r)}, rows)
    assert right.labels == 0 and right.worst < 1e-15 and wrong.labels == 300


def test_votes_are_summed_exactly() -> None:
    """Half of the trees for each class: which comes first is a matter of the last digit, and so of exact sums."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 2)).astype(np.float32)
    forest = RandomForestClassifier(30, max_depth=4, random_state=0).fit(x, rng.integers(0, 3, 90))
    rows = rng.normal(size=(3000, 2)).astype(np.float32)
    for dtype in (np.float32, np.float64):
        for engine in ("reference", "compiled", "onnxruntime"):
            with gesher.session(gesher.export(forest, x.astype(dtype)), engine) as session:
                got = session.run({"X": rows.astype(dtype)})
            assert (got["label"] == forest.predict(rows)).all()
            gap = np.abs(got["probabilities"] - forest.predict_proba(rows)).max()
            assert gap < (1e-7 if dtype is np.float32 else 1e-14), (dtype, engine)


def test_the_section_tells_what_is_bad() -> None:
    import boosters

    rows = [{"part": "rows", "library": "xgboost", "name": "a", "engine": "compiled", "kind": kind, "dtype": "float64",
             "rows": 9, "labels": labels, "worst": worst, "measured": "now"}
            for kind, labels, worst in (("random", 0, 1e-7), ("thresholds", 2, 0.0))]
    assert [boosters.bad(r) for r in rows] == [False, True]
    assert boosters.bad(rows[0] | {"worst": 1e-5}) and boosters.bad(rows[0] | {"library": "lightgbm"})
    text = boosters.section(rows)
    assert text.startswith(boosters.BEGIN)
    assert "| xgboost | float64 | compiled | 1 | 0 | 2 | 1.0e-07 | 0.0e+00 |" in text
