"""What is XGBoost's own: files without the library, base scores, categories, rows on thresholds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.booster_zoo import data
from tests.frontends.test_boosters import boundary_rows, leaves_apart

import gesher
from gesher.base.errors import FormatError, UnsupportedError
from gesher.frontends import ranges
from gesher.frontends.boosters import ubjson
from gesher.frontends.forest import LEQ, LT, Ranges, Trees, round_down, round_up

xgb = pytest.importorskip("xgboost")
sklearn_pipeline = pytest.importorskip("sklearn.pipeline")
D = data()


def test_no_row_takes_another_branch() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, 6)).astype(np.float32)
    booster = xgb.XGBRegressor(n_estimators=60, max_depth=7, n_jobs=1).fit(x, leaves_apart(x))
    model = gesher.export(booster, x)
    rows = np.concatenate([rng.normal(size=(20000, 6)).astype(np.float32), boundary_rows(model, x, 5000)])
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"X": rows})["prediction"]
    # Another branch would move a prediction by about a leaf, which is 0.01 and more.
    assert np.abs(got - booster.predict(rows)).max() < 5e-6


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_files_cross_without_the_library(tmp_path: Path, kind: str) -> None:
    booster = xgb.XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1, enable_categorical=True,
                                feature_types=["q", "c", "c"]).fit(D.categories, D.of_categories)
    path = tmp_path / f"model.{kind}"
    booster.save_model(path)
    code = ("import sys, gesher\n"
            "m = gesher.export(sys.argv[1])\n"
            "gesher.save(m, sys.argv[1] + '.onnx')\n"
            "assert not {'xgboost', 'sklearn', 'scipy', 'pandas'} & set(sys.modules), 'a library was imported'\n")
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with gesher.session(str(path) + ".onnx", "reference") as session:
        got = session.run({"X": D.categories})
    assert (got["label"] == booster.predict(D.categories)).all()
    np.testing.assert_allclose(got["probabilities"], booster.predict_proba(D.categories), atol=2e-6)


def test_a_verification_without_the_library_would_see_a_wrong_leaf(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.json"
    xgb.XGBRegressor(n_estimators=3, max_depth=3).fit(D.x, D.real).save_model(path)
    right = Trees.add

    def wrong(self: Trees, feature: Any, split: Any, yes: Any, no: Any, *rest: Any) -> None:
        right(self, feature, split, no, yes, *rest)

    monkeypatch.setattr(Trees, "add", wrong)
    with pytest.raises(gesher.ModelError, match="answers differently"):
        gesher.export(path)


def test_names_of_features_are_kept_and_frames_are_read_by_them() -> None:
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": D.x[:, 0], "town": pd.Categorical(rng.choice(list("pqrs"), len(D.x)))})
    booster = xgb.XGBRegressor(n_estimators=4, enable_categorical=True).fit(frame, D.real + (frame.town == "q"))
    model = gesher.export(booster, frame)
    assert model.metadata["gesher.columns"] == '["age", "town"]'
    codes = np.stack([frame.age, frame.town.cat.codes], 1).astype(np.float32)
    with gesher.session(model, "reference") as session:
        np.testing.assert_allclose(session.run({"X": codes})["prediction"], booster.predict(frame), atol=1e-5)


def test_a_booster_within_a_pipeline_crosses() -> None:
    from sklearn.preprocessing import StandardScaler

    pipeline = sklearn_pipeline.make_pipeline(StandardScaler(), xgb.XGBClassifier(n_estimators=5, n_jobs=1))
    x = np.nan_to_num(D.x)
    model = gesher.export(pipeline.fit(x, D.classes), x)
    assert [v.name for v in model.graph.outputs] == ["label", "probabilities"]


@pytest.mark.parametrize("obj, why", [
    (lambda: xgb.XGBClassifier(), "is not fitted"),
    (lambda: type("Mine", (xgb.XGBRegressor,), {})(n_estimators=1).fit(D.x, D.real), "may predict anything"),
    (lambda: xgb.DMatrix(D.x), "no way to ONNX"),
], ids=["unfitted", "subclass", "matrix"])
def test_what_cannot_cross_is_refused_by_name(obj: Any, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        gesher.export(obj(), D.x)


def test_unknown_settings_and_rounds_are_refused() -> None:
    booster = xgb.XGBRegressor(n_estimators=2).fit(D.x, D.real)
    with pytest.raises(UnsupportedError, match="no setting treelimit"):
        gesher.export(booster, D.x, treelimit=3)
    with pytest.raises(UnsupportedError, match="rounds 1 to 9"):
        gesher.export(booster, D.x, iteration_range=(1, 9))


def test_broken_files_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "model.ubj"
    xgb.XGBRegressor(n_estimators=2).fit(D.x, D.real).save_model(path)
    data = path.read_bytes()
    for name, content in (("cut.ubj", data[:len(data) // 2]), ("other.json", b'{"a": 1}'), ("text.json", b"{nonsense"),
                          ("binary.ubj", b"binf\x00\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError):
            gesher.export(tmp_path / name)


def test_ubjson_reads_untyped_and_counted_containers() -> None:
    assert ubjson.parse(b"[i\x01U\xffSi\x02abZTF]") == [1, 255, "ab", None, True, False]
    assert ubjson.parse(b"{#i\x01i\x01k[#i\x02d\x3f\x80\x00\x00Ci\x7f") is not None
    assert ubjson.parse(b"[$l#i\x02\x00\x00\x00\x01\xff\xff\xff\xff").tolist() == [1, -1]
    with pytest.raises(FormatError, match="ends"):
        ubjson.parse(b"[$l#i\x02\x00\x00")


def test_thresholds_round_to_the_side_that_decides_alike() -> None:
    t = np.random.default_rng(0).normal(size=1000)
    near = np.concatenate([np.nextafter(t.astype(np.float32), np.float32(s)) for s in (-9, 9)] + [t.astype(np.float32)])
    for exact, x in zip(np.tile(t, 3), near):
        down, up = round_down(np.array([exact]))[0], round_up(np.array([exact]))[0]
        assert (x <= down) == (float(x) <= exact) and (x < up) == (float(x) < exact)


@pytest.mark.parametrize("growth", [6, -99], ids=["searched", "looked up"])
@pytest.mark.parametrize("mode", [LT, LEQ])
@pytest.mark.parametrize("missing_yes", [True, False])
@pytest.mark.parametrize("yes", [[False], [True, False], [False, True, False], [True, False, True, False, True],
                                 [True, True]])
def test_ranges_send_every_number_where_its_interval_says(mode: int, missing_yes: bool, yes: list[bool], growth: int,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    from gesher.base.dtypes import FLOAT
    from gesher.ops.build import Builder

    monkeypatch.setattr(ranges, "_GROWTH", growth)
    cuts = np.arange(len(yes) - 1, dtype=float)
    trees = Trees(mode, 1)
    trees.add([0, 0, 0], [0, 0, 0], [1, -1, -1], [2, -1, -1], [False] * 3, [0, 1, 2],
              ranges={0: Ranges(cuts, np.array(yes), missing_yes)})
    b = Builder(21)
    b.output(trees.votes(b, b.input("X", FLOAT, ("rows", 1))), "y")
    x = np.array([-5, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 99, np.nan], np.float32)
    want = [1 if (missing_yes if np.isnan(v) else yes[int(np.searchsorted(cuts, v, "right" if mode == LT else "left"))])
            else 2 for v in x]
    for engine in ("reference", "onnxruntime"):
        with gesher.session(b.model(), engine) as session:
            assert session.run({"X": x[:, None]})["y"][:, 0].tolist() == want, engine


def test_a_pipeline_in_float64_allows_what_its_booster_rounds() -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(300, 4))
    model = make_pipeline(StandardScaler(), xgb.XGBClassifier(n_estimators=40)).fit(x, x[:, 0] > x[:, 1] ** 2)
    with gesher.session(gesher.export(model, x), "reference") as session:
        assert np.abs(session.run({"X": x})["probabilities"] - model.predict_proba(x)).max() < 1e-6
