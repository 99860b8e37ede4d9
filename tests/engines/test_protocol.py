"""Engines behind one protocol: what is here, what is refused, what an error says."""

from typing import Any

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import (
    BFLOAT16,
    BOOL,
    DOUBLE,
    FLOAT,
    FLOAT8E4M3FN,
    FLOAT8E5M2,
    FLOAT16,
    INT4,
    INT64,
    STRING,
    UINT8,
    DType,
)
from gesher.engines import choose, engine, names
from gesher.engines.compare import compare, first_difference
from gesher.engines.timing import measure
from gesher.evaluator.random_feeds import random_feeds
from gesher.ops.build import Builder

HERE = [n for n in ("reference", "compiled", "onnxruntime", "openvino", "torch") if engine(n).missing() is None]


def small() -> gesher.Model:
    """softmax(x @ w + b) over a free batch."""
    b = Builder({"": 17})
    x = b.input("x", FLOAT, ("batch", 4))
    w = b.constant(np.arange(12, dtype=np.float32).reshape(4, 3) / 10, "w")
    b.output(b.Softmax(b.Add(b.MatMul(x, w), [0.1, 0.2, 0.3]), axis=-1), "y")
    return b.model()


def test_all_five_engines_are_declared() -> None:
    assert names()[:5] == ("reference", "compiled", "onnxruntime", "openvino", "torch")
    assert engine("reference").missing() is None


def test_an_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(gesher.UnsupportedError, match="there is no engine 'tpu'") as e:
        gesher.session(small(), "tpu")
    assert "reference" in str(e.value)


@pytest.mark.parametrize("name", HERE)
def test_engines_agree_on_a_small_model_at_several_sizes(name: str) -> None:
    model = small()
    with gesher.session(model, name, threads=1) as session:
        assert [p.name for p in session.inputs] == ["x"] and [p.name for p in session.outputs] == ["y"]
        for n in (1, 5, 2):
            x = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
            scores = x @ (np.arange(12).reshape(4, 3) / 10) + [0.1, 0.2, 0.3]
            e = np.exp(scores - scores.max(-1, keepdims=True))
            got = session.run({"x": x})["y"]
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, e / e.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(("feeds", "says"), [
    ({}, "'x'"),
    ({"x": np.zeros((2, 4), np.float32), "z": np.zeros(1)}, "no input 'z'"),
    ({"x": np.zeros((2, 4))}, "float64"),
    ({"x": np.zeros((2, 5), np.float32)}, "5"),
    ({"x": np.zeros(4, np.float32)}, "1 dims"),
])
def test_inputs_that_do_not_fit_are_refused_by_name(name: str, feeds: dict[str, Any], says: str) -> None:
    with gesher.session(small(), name) as session, pytest.raises(gesher.RunError) as e:
        session.run(feeds)
    assert says in str(e.value)


def test_auto_takes_the_compiled_engine_where_it_is() -> None:
    assert choose(small()).name == HERE[1 if "compiled" in HERE else 0]


def test_compare_finds_agreement_and_difference() -> None:
    model = small()
    result = gesher.compare(model, HERE, dims={"batch": 3})
    assert result.ok and {r.engine for r in result.rows} == set(HERE[1:])
    x = {"x": np.ones((1, 4), np.float32)}
    strict = compare(model, HERE[:2], x, rtol=0, atol=-1.0)
    assert not strict.ok and strict.rows[0].mismatches == 3


def test_layers_find_the_first_value_that_differs() -> None:
    found = first_difference(small(), HERE[0], HERE[1], {"x": np.ones((1, 4), np.float32)}, rtol=0, atol=-1.0)
    assert found is not None and "MatMul" in found[0]
    assert first_difference(small(), HERE[0], HERE[1], {"x": np.ones((1, 4), np.float32)}) is None


def test_random_feeds_name_every_size_that_is_missing() -> None:
    b = Builder({"": 17})
    x = b.input("x", FLOAT, ("batch", "height", 3))
    k = b.input("k", INT64, ("width",))
    b.output(b.Identity(x), "y")
    b.output(b.Identity(k), "l")
    model = b.model()
    with pytest.raises(gesher.RunError, match="dim 1 of 'x'"):
        random_feeds(model)
    feeds = random_feeds(model, dims={"height": 5, "width": 2}, seed=3)
    assert feeds["x"].shape == (1, 5, 3) and feeds["k"].shape == (2,) and feeds["k"].max() <= 1
    assert np.array_equal(feeds["x"], random_feeds(model, dims={"height": 5, "width": 2}, seed=3)["x"])
    with pytest.raises(gesher.RunError, match="no dim 'depth'"):
        random_feeds(model, dims={"depth": 1})


def test_float64_is_refused_where_an_engine_computes_it_otherwise_or_agrees() -> None:
    b = Builder({"": 17})
    x = b.input("x", DOUBLE, ("n",))
    b.output(b.Mul(x, 1 / 3), "y")
    model = b.model()
    feeds = {"x": np.array([1.0, 1e-9])}
    for name in HERE:
        with gesher.session(model, name) as session:
            got = session.run(feeds)["y"]
        assert got.dtype == np.float64
        # OpenVINO computes float64 in float32; comparing tells.
        np.testing.assert_allclose(got, feeds["x"] / 3, rtol=1e-6 if name == "openvino" else 1e-15)


def test_timing_runs_each_engine_in_a_process_of_its_own(tmp_path: Any) -> None:
    path = tmp_path / "small.onnx"
    gesher.save(small(), path)
    timings = measure(path, ["reference", "onnxruntime"], {"x": np.ones((1, 4), np.float32)}, seconds=0.2)
    assert [t.engine for t in timings] == ["reference", "onnxruntime"]
    for t in timings:
        assert not t.failed and len(t.runs) >= 5 and t.median > 0 and t.load > 0


def test_timing_says_which_engine_failed(tmp_path: Any) -> None:
    path = tmp_path / "small.onnx"
    gesher.save(small(), path)
    timings = measure(path, ["reference", "nowhere"], {"x": np.ones((1, 4), np.float32)}, seconds=0.1)
    assert not timings[0].failed and "nowhere" in timings[1].failed


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16, FLOAT8E4M3FN, FLOAT8E5M2, INT4, UINT8, STRING, BOOL],
                         ids=lambda d: d.name)
def test_every_type_crosses_unchanged_or_is_refused(name: str, dtype: DType) -> None:
    b = Builder({"": 21})
    b.output(b.Identity(b.input("x", dtype, ("n", 3))), "y")
    model = b.model()
    feeds = random_feeds(model, dims={"n": 4}, seed=1)
    try:
        with gesher.session(model, name) as session:
            y = session.run(feeds)["y"]
    except gesher.UnsupportedError:
        assert name in ("onnxruntime", "openvino")
        return
    assert y.dtype == dtype.numpy and y.tolist() == feeds["x"].tolist()


@pytest.mark.parametrize("name", HERE)
def test_inputs_that_are_given_out_as_they_are(name: str) -> None:
    """x, y, z in a sequence, of which y is taken out again: one engine calls the input by the output's name then."""
    b = Builder({"": 17})
    x, y, z = (b.input(n, FLOAT, (2, 3)) for n in "xyz")
    b.output(b.SequenceAt(b.SequenceConstruct(x, y, z), np.int64(1)), "out")
    b.output(b.Identity(z), "same")
    model = b.model()
    feeds = random_feeds(model, seed=2)
    try:
        with gesher.session(model, name) as session:
            got = session.run(feeds)
    except gesher.UnsupportedError:
        assert name == "openvino"
        return
    np.testing.assert_array_equal(got["out"], feeds["y"])
    np.testing.assert_array_equal(got["same"], feeds["z"])


@pytest.mark.parametrize("name", HERE)
def test_a_declared_size_of_0_is_made_at_random_as_it_says(name: str) -> None:
    b = Builder({"": 17})
    b.output(b.ReduceSum(b.input("x", FLOAT, (0, 3)), np.array([0]), keepdims=0), "y")
    model = b.model()
    feeds = random_feeds(model)
    assert feeds["x"].shape == (0, 3)
    with gesher.session(model, name) as session:
        assert session.run(feeds)["y"].tolist() == [0, 0, 0]
