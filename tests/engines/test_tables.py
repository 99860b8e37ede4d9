"""Sessions of tables' models: frames by the names of their columns, and questions as estimators are asked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import DOUBLE, FLOAT, INT64, STRING
from gesher.engines import engine
from gesher.evaluator.tables import COLUMNS
from gesher.ops.build import Builder

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
HERE = [n for n in ("reference", "compiled", "onnxruntime") if engine(n).missing() is None]
frames = pytest.mark.parametrize("frame", [pandas.DataFrame, polars.DataFrame], ids=["pandas", "polars"])
AGES, NAMES = [30, 41, 22], ["Ada", "Bo", "Cy"]


def of_columns() -> gesher.Model:
    """score = 2 age + height; label = name."""
    b = Builder({"": 17}, "columns")
    age, height = b.input("age", INT64, ("rows", 1)), b.input("height", FLOAT, ("rows", 1))
    name = b.input("name", STRING, ("rows",))
    b.output(b.Add(b.Mul(b.Cast(age, to=FLOAT), [2.0]), height), "prediction")
    b.output(b.Identity(name), "label")
    return b.model()


def of_matrix(columns: list[str] | None = None) -> gesher.Model:
    """probabilities = softmax(X w)."""
    b = Builder({"": 17}, "matrix")
    x = b.input("X", FLOAT, ("rows", 3))
    b.output(b.Softmax(b.MatMul(x, np.float32([[1, 0], [0, 1], [1, 1]])), axis=-1), "probabilities")
    return b.model(metadata={COLUMNS: json.dumps(columns)} if columns else None)


def table(frame: Any, **more: Any) -> Any:
    return frame({"height": [1.5, 1.25, 2.0], "name": NAMES, "age": AGES, "unused": [0, 0, 0], **more})


@frames
@pytest.mark.parametrize("name", HERE)
def test_columns_are_fed_by_their_names_and_cast_to_what_the_model_declares(name: str, frame: Any) -> None:
    with gesher.session(of_columns(), name) as session:
        for _ in range(2):
            made = session.run(table(frame))
            assert made["prediction"].ravel().tolist() == [61.5, 83.25, 46.0]
            assert made["label"].tolist() == NAMES


@frames
def test_a_matrix_is_made_of_the_columns_that_the_model_names_in_its_order(frame: Any) -> None:
    rows = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    shuffled = frame({"c": rows[:, 2], "other": rows[:, 0], "a": rows[:, 0], "b": rows[:, 1]})
    with gesher.session(of_matrix(["a", "b", "c"]), "compiled") as session:
        np.testing.assert_array_equal(session.run(shuffled)["probabilities"], session.run({"X": rows})["probabilities"])
        np.testing.assert_array_equal(session.predict_proba(shuffled), session.predict_proba(rows))
        with pytest.raises(gesher.RunError, match="lacks 'b'"):
            session.run(frame({"a": rows[:, 0], "c": rows[:, 2]}))
    with gesher.session(of_matrix(), "compiled") as session, pytest.raises(gesher.RunError, match="4 columns"):
        session.run(shuffled)


@frames
@pytest.mark.parametrize(("columns", "says"), [
    ({"age": [1.5, 2, 3]}, "column 'age' holds numbers that int64 cannot hold"),
    ({"age": [None, 2.0, 3.0]}, "column 'age' has missing"),
    ({"height": NAMES}, "column 'height' holds strings"),
    ({"name": ["Ada", None, "Cy"]}, "column 'name' has no value in row 1"),
    ({"name": [1, 2, 3]}, "column 'name' holds the int"),
])
def test_what_a_column_cannot_be_is_refused_by_its_name(frame: Any, columns: dict[str, Any], says: str) -> None:
    with gesher.session(of_columns(), "reference") as session, pytest.raises(gesher.RunError, match=says):
        session.run(table(frame, **columns))


def test_missing_numbers_are_nan_where_the_model_takes_floats() -> None:
    b = Builder({"": 17}, "floats")
    b.output(b.Identity(b.input("v", DOUBLE, ("rows",))), "v_out")
    model = b.model()
    for frame in (pandas.DataFrame({"v": pandas.array([1, None, 3], "Int64")}), polars.DataFrame({"v": [1, None, 3]})):
        with gesher.session(model, "reference") as session:
            np.testing.assert_array_equal(session.run(frame)["v_out"], [1, np.nan, 3])


def test_dates_and_columns_of_one_name_are_refused() -> None:
    with gesher.session(of_columns(), "reference") as session:
        with pytest.raises(gesher.RunError, match="dates"):
            session.run(table(pandas.DataFrame, age=pandas.to_datetime(["2020-01-01"] * 3)))
        twice = pandas.DataFrame(np.zeros((2, 2)), columns=["age", "age"])
        with pytest.raises(gesher.RunError, match="several columns called 'age'"):
            session.run(twice)


def test_questions_of_estimators_find_their_outputs() -> None:
    with gesher.session(of_columns(), "reference") as session:
        assert session.predict(table(pandas.DataFrame)).tolist() == NAMES
        with pytest.raises(gesher.UnsupportedError, match="predict_proba") as e:
            session.predict_proba(table(pandas.DataFrame))
        assert "prediction, label" in str(e.value)
        with pytest.raises(gesher.RunError, match="3 columns by name"):
            session.predict(np.zeros((2, 2)))
    rows = [[1, 2, 3], [4, 5, 6]]
    with gesher.session(of_matrix(), "compiled") as session:
        assert session.predict_proba(rows).shape == (2, 2)
        np.testing.assert_allclose(session.predict_log_proba(rows), np.log(session.predict_proba(rows)))


def test_exported_estimators_answer_as_themselves() -> None:
    sklearn_linear = pytest.importorskip("sklearn.linear_model")
    frame = pandas.DataFrame(np.random.default_rng(1).standard_normal((40, 3)), columns=["a", "b", "c"])
    label = np.where(frame["a"] + frame["b"] > 0, "yes", "no")
    fitted = sklearn_linear.LogisticRegression().fit(frame, label)
    with gesher.session(gesher.export(fitted, frame.to_numpy()), "compiled") as session:
        backwards = frame[["c", "b", "a"]]
        assert session.predict(backwards).tolist() == fitted.predict(frame).tolist()
        np.testing.assert_allclose(session.predict_proba(backwards), fitted.predict_proba(frame), rtol=1e-5)
