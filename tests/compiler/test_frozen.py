"""Sessions read back from the cache: the same answers without planning, and planned anew whenever anything changed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import FLOAT, INT64
from gesher.base.errors import RunError
from gesher.compiler import cache, frozen, toolchain
from gesher.compiler.digest import digest
from gesher.compiler.session import Options, compile
from gesher.ir import Attribute, Kind, Model
from gesher.ops.build import Builder

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

KEPT = Options(threads=1, kept=True)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GESHER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def path(tmp_path):
    """A file with weights that lie in it."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((12, 40)).astype(np.float32)
    model = _model(w)
    file = tmp_path / "model.onnx"
    gesher.save(model, file)
    return file


def _model(w: np.ndarray) -> Model:
    b = Builder({"": 21})
    x = b.input("x", FLOAT, ["n", 12])
    y = b.Relu(b.MatMul(x, b.constant(w)))
    b.output(y, "y")
    b.output(b.Transpose(y, perm=[1, 0]), "turned")
    return b.model()


def test_a_session_is_read_back_and_answers_alike(path):
    first = compile(gesher.load(path), KEPT)
    second = compile(gesher.load(path), KEPT)
    assert first.planned and not second.planned
    for n in (1, 5, 3):
        x = np.random.default_rng(n).standard_normal((n, 12)).astype(np.float32)
        a, b = first.run({"x": x}), second.run({"x": x})
        assert list(a) == list(b) == ["y", "turned"]
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_errors_are_the_same(path):
    compile(gesher.load(path), KEPT)
    again = compile(gesher.load(path), KEPT)
    assert not again.planned
    with pytest.raises(RunError, match="12"):
        again.run({"x": np.zeros((2, 13), np.float32)})
    with pytest.raises(RunError):
        again.run({"z": np.zeros((2, 12), np.float32)})


def test_what_is_not_asked_for_is_not_kept(path):
    compile(gesher.load(path), Options(threads=1))
    assert compile(gesher.load(path), KEPT).planned


def test_another_model_another_session(path, tmp_path):
    compile(gesher.load(path), KEPT)
    w = gesher.load(path)
    changed = _model(np.ones((12, 40), np.float32))
    gesher.save(changed, tmp_path / "other.onnx")
    other = compile(gesher.load(tmp_path / "other.onnx"), KEPT)
    assert other.planned and digest(w) != digest(gesher.load(tmp_path / "other.onnx"))
    x = np.ones((1, 12), np.float32)
    np.testing.assert_array_equal(other.run({"x": x})["y"], np.full((1, 40), 12, np.float32))


def test_a_change_in_memory_counts(path):
    model = gesher.load(path)
    before = digest(model)
    next(iter(model.graph.nodes)).attributes["alpha"] = Attribute(Kind.FLOAT, 0.5)
    assert digest(model) != before


def test_equal_models_in_memory_share_a_session():
    w = np.random.default_rng(1).standard_normal((12, 40)).astype(np.float32)
    assert compile(_model(w), KEPT).planned
    assert not compile(_model(w.copy()), KEPT).planned
    assert compile(_model(w + 1), KEPT).planned


@pytest.mark.parametrize("damage", ["cut", "form", "library"])
def test_what_is_damaged_is_planned_again(path, damage):
    first = compile(gesher.load(path), KEPT)
    key = first.key
    folder = cache.find(key, frozen.SESSIONS).folder
    plan = folder / frozen.PLAN
    if damage == "cut":
        plan.write_text(plan.read_text()[:50])
    elif damage == "form":
        told = json.loads(plan.read_text())
        del told["results"]
        _rewrite(folder, json.dumps(told))
    else:
        told = json.loads(plan.read_text())
        told["library"] = "0" * 64
        _rewrite(folder, json.dumps(told))
    again = compile(gesher.load(path), KEPT)
    assert again.planned
    x = np.ones((2, 12), np.float32)
    np.testing.assert_array_equal(again.run({"x": x})["y"], first.run({"x": x})["y"])


def _rewrite(folder, text: str) -> None:
    """Change the plan so that its checksum is right again."""
    (folder / frozen.PLAN).write_text(text)
    cache._write_meta(folder, folder.name, {}, frozen.SESSIONS)


def test_explaining_plans_again(path):
    told = compile(gesher.load(path), KEPT).explain()
    again = compile(gesher.load(path), KEPT)
    assert not again.planned and again.explain() == told and again.planned
    assert again.run({"x": np.ones((2, 12), np.float32)})["y"].shape == (2, 40)


def test_sizes_in_data_are_learned_again():
    b = Builder({"": 21})
    x, shape = b.input("x", FLOAT, ["n", 6]), b.input("shape", INT64, [2])
    b.output(b.Reshape(x, shape), "y")
    model = b.model()
    compile(model, KEPT)
    again = compile(model, KEPT)
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    for given in ([3, 4], [-1, 2], [12, 1]):
        np.testing.assert_array_equal(again.run({"x": x, "shape": np.array(given)})["y"], x.reshape(given))


def test_entries_of_all_shelves_are_evicted(monkeypatch, path):
    monkeypatch.setenv("GESHER_CACHE_MB", "0")
    compile(gesher.load(path), KEPT)
    root = cache.private.private_folder("models").parent
    left = [f for shelf in ("models", "sessions", "kernels") if (root / shelf).is_dir()
            for f in (root / shelf).iterdir()]
    assert len(left) <= 1


def test_the_engine_reads_back_before_it_asks_anything(path, monkeypatch):
    x = {"x": np.ones((2, 12), np.float32)}
    with gesher.session(path, threads=1) as first:
        want = first.run(x)["y"]
    monkeypatch.setattr("gesher.engines.compiled.CompiledEngine.refuses", lambda *a: pytest.fail("asked"))
    with gesher.session(path, threads=1) as again:
        np.testing.assert_array_equal(again.run(x)["y"], want)


def test_reading_back_opens_no_book(path):
    """A fresh process that reads a session back imports neither operators nor the optimiser nor what plans."""
    with gesher.session(path, threads=1):
        pass
    code = ("import sys, gesher; s = gesher.session(sys.argv[1], threads=1); "
            "print([m for m in ('gesher.optimizer', 'gesher.compiler.lower', 'gesher.ops.core.softmax') "
            "if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _conditional(path):
    """y = x @ w + 1 where there are more than 4 rows and k is 16, else -(x @ w)."""
    b = Builder({"": 21})
    x, k = b.input("x", FLOAT, ["n", 12]), b.input("k", INT64, [])
    y = b.MatMul(x, b.constant(np.random.default_rng(0).standard_normal((12, 40)).astype(np.float32)))
    asked = b.And(b.Greater(b.Gather(b.Shape(x), 0), 4), b.Equal(k, 16))
    then, other = b.subgraph("then"), b.subgraph("other")
    then.output(then.Add(y, 1.0))
    other.output(other.Neg(y))
    b.output(b.If(asked, then_branch=then.graph, else_branch=other.graph), "y")
    gesher.save(b.model(), path)
    return path


def test_conditions_that_runs_settled_are_kept_with_what_they_chose(tmp_path, path):
    file = _conditional(tmp_path / "conditional.onnx")

    def run(session, n, k):
        x = np.random.default_rng(n).standard_normal((n, 12)).astype(np.float32)
        return session.run({"x": x, "k": np.array(k)})["y"]

    first = compile(gesher.load(file), KEPT)
    want = {case: run(first, *case) for case in ((6, 16), (3, 16), (9, 16), (6, 8))}
    assert first.planned
    again = compile(gesher.load(file), KEPT)
    for case in ((3, 16), (6, 8), (9, 16), (6, 16), (3, 16)):
        np.testing.assert_array_equal(run(again, *case), want[case])
    assert not again.planned
    plain = compile(gesher.load(file), Options(threads=1))
    for case, y in want.items():
        np.testing.assert_array_equal(run(plain, *case), y)


def test_what_no_kept_condition_fits_is_planned_and_kept_then(tmp_path, path):
    file = _conditional(tmp_path / "conditional.onnx")
    fed = [{"x": np.ones((n, 12), np.float32), "k": np.array(16)} for n in (6, 2)]
    want = [compile(gesher.load(file), Options(threads=1)).run(f)["y"] for f in fed]
    compile(gesher.load(file), KEPT).run(fed[0])
    second = compile(gesher.load(file), KEPT)
    assert not second.planned
    np.testing.assert_array_equal(second.run(fed[1])["y"], want[1])
    assert second.planned
    third = compile(gesher.load(file), KEPT)
    for f, y in zip(fed, want):
        np.testing.assert_array_equal(third.run(f)["y"], y)
    assert not third.planned
