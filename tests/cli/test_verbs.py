"""The command line: every verb's answer, its JSON, its exit codes, its help."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import gesher
from gesher.base.dtypes import COMPLEX64, FLOAT
from gesher.cli.main import VERBS, root
from gesher.ir import attribute
from gesher.ops.build import Builder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = relu(x @ w) over a free batch, with metadata."""
    b = Builder({"": 17}, "small")
    x = b.input("x", FLOAT, ("batch", 4))
    w = b.constant(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "w")
    b.output(b.Relu(b.MatMul(x, w)), "y")
    path = tmp_path / "small.onnx"
    gesher.save(b.model(producer_name="a test", metadata={"who": "me"}), path)
    return path


def call(*arguments: Any, code: int = 0) -> str:
    """Run a verb; its output, with its exit code checked. Errors of ours end with code 1, as in the program."""
    result = CliRunner().invoke(root, [str(a) for a in arguments])
    got = 1 if isinstance(result.exception, gesher.GesherError) else result.exit_code
    assert got == code, f"{result.output}\n{result.exception!r}"
    return result.output + (str(result.exception) if isinstance(result.exception, gesher.GesherError) else "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    text = call(verb, "--help")
    assert f"gesher {verb}" in text and "Example" in text


def test_help_lists_every_verb() -> None:
    text = call("--help")
    for verb, does in VERBS.items():
        assert verb in text and does.split(":")[0][:30] in text


def test_show(model: Path) -> None:
    text = call("show", model, "--nodes", "--weights")
    for part in ("float(batch,4)", "ai.onnx 17", "MatMul 1", "12 parameters", "who", "a test", "%w", "4x3"):
        assert part in text, part
    facts = json.loads(call("show", model, "--json"))
    assert facts["operators"] == {"MatMul": 1, "Relu": 1} and facts["parameters"] == 12
    assert facts["outputs"] == [{"name": "y", "type": "float(batch,3)"}]


def test_show_in_onnx_text_syntax(model: Path) -> None:
    assert "small (float[batch,4] x) => (float[batch,3] y)" in call("show", model, "--text")


def test_check_finds_nothing_on_a_right_model_and_all_on_a_wrong_one(model: Path, tmp_path: Path) -> None:
    assert "no findings" in call("check", model)
    wrong = gesher.load(model)
    wrong.graph.first.op_type = "MatMull"
    wrong.graph.last.attributes["alpha"] = attribute(0.5)
    path = tmp_path / "wrong.onnx"
    gesher.save(wrong, path)
    text = call("check", path, code=1)
    assert "MatMull" in text and "alpha" in text
    findings = json.loads(call("check", path, "--json", code=1))[0]["findings"]
    assert len(findings) >= 2 and all({"rule", "place", "advice"} <= set(f) for f in findings)


def test_check_of_a_broken_file_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff\xff\xff this is no model")
    assert "error" in call("check", path, code=1)


def test_run_with_files_and_with_random_inputs(model: Path, tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", x)
    call("run", model, "--input", f"x={tmp_path / 'x.npy'}", "--engine", "reference", "-o", tmp_path / "out")
    w = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "y.npy"), np.maximum(x @ w, 0), rtol=1e-6)
    facts = json.loads(call("run", model, "--random", "--seed", "3", "--dim", "batch=5", "--engine", "reference",
                            "--json"))
    assert facts["outputs"]["y"]["type"] == "float32[5,3]"


def test_run_says_what_is_missing(model: Path) -> None:
    text = call("run", model, "--engine", "reference", code=2)
    assert "'x'" in text and "--random" in text
    assert "no dim 'seq'" in call("run", model, "--random", "--dim", "seq=2", code=2)


def test_compare_agrees_and_differs(model: Path) -> None:
    text = call("compare", model, "--engines", "reference,onnxruntime", "--dim", "batch=3")
    assert "agrees" in text
    text = call("compare", model, "--engines", "reference,onnxruntime", "--atol", "-1", "--layers", code=1)
    assert "differs" in text and "first differs at" in text
    facts = json.loads(call("compare", model, "--engines", "reference,onnxruntime", "--json"))
    assert facts["ok"] and facts["rows"][0]["engine"] == "onnxruntime"


def test_bench_gives_a_row_an_engine(model: Path) -> None:
    rows = json.loads(call("bench", model, "--engines", "onnxruntime,reference", "--seconds", "0.1", "--json"))
    assert [r["engine"] for r in rows] == ["onnxruntime", "reference"] and rows[0]["ratio"] == 1


def test_bench_goes_on_where_the_first_engine_fails(tmp_path: Path) -> None:
    b = Builder({"": 21}, "complex")
    b.output(b.Identity(b.input("x", COMPLEX64, (2,))), "y")
    gesher.save(b.model(), tmp_path / "m.onnx")
    rows = json.loads(call("bench", tmp_path / "m.onnx", "--engines", "onnxruntime,reference", "--seconds", "0.1",
                           "--json", code=1))
    assert rows[0]["failed"] and "median_s" not in rows[0] and rows[1]["ratio"] == 1


def test_comparing_one_engine_is_wrong_use(model: Path) -> None:
    assert "two engines" in call("compare", model, "--engines", "reference", code=2)


def test_engines_and_ops() -> None:
    assert "ai.onnx.ml" in call("ops", "--domain", "nowhere", code=1)
    assert "reference" in call("engines")
    rows = json.loads(call("engines", "--json"))
    assert next(r for r in rows if r["engine"] == "reference")["present"]
    table = json.loads(call("ops", "--json"))
    assert next(r for r in table if r["name"] == "Softmax")["versions"] == [1, 11, 13]
    assert "one axis" in call("ops", "Softmax") or "meaning" in call("ops", "Softmax")
    assert "did you mean Softmax" in call("ops", "softmax", code=1)


def test_check_holds_names_and_reads_weights_when_asked(tmp_path: Path) -> None:
    b = Builder({"": 17}, "named")
    large = np.zeros((1024, 5000), np.float32)
    large[0, 0] = np.nan
    b.output(b.Add(b.input("a.b", FLOAT, (5000,)), b.constant(large, "w")), "y")
    path = tmp_path / "m.onnx"
    gesher.save(b.model(), path)
    assert "no findings" in call("check", path)
    assert "name-identifier" in call("check", path, "--strict", code=1)
    assert "weight-not-finite" in call("check", path, "--weights")
    [answer] = json.loads(call("check", path, "--strict", "--weights", "--json", code=1))
    assert answer["ok"] and {f["rule"] for f in answer["findings"]} == {"name-identifier", "weight-not-finite"}


@pytest.mark.parametrize("arguments", [
    ["show"], ["show", "nowhere.onnx"], ["nothing"], ["compare", "x", "--engines", "tpu"],
])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    call(*arguments, code=2)


@pytest.mark.parametrize("option", [["--input", "x"], ["--dim", "batch"], ["--dim", "batch=many"],
                                    ["--dim", "batch=-1"]])
def test_wrong_options_exit_with_2(model: Path, option: list[str]) -> None:
    call("run", model, "--random", *option, code=2)


def test_export_from_joblib_and_from_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    x, y = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=300).fit(x, y), tmp_path / "model.joblib")
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    text = call("export", tmp_path / "model.joblib", "--trust", "--example", tmp_path / "x.npy", "-o",
                tmp_path / "a.onnx")
    assert "verified" in text and gesher.check(tmp_path / "a.onnx").ok
    (tmp_path / "mine.py").write_text("import torch\nnet = torch.nn.Linear(4, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert "verified" in call("export", "mine:net", "--example", tmp_path / "x.npy", "--dynamic", "-o",
                              tmp_path / "b.onnx")
    assert "no 'nat'" in call("export", "mine:nat", "-o", tmp_path / "c.onnx", code=1)
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs a system where files have owners")
def test_a_pickle_that_others_could_have_written_needs_trust(tmp_path: Path) -> None:
    import joblib

    path = tmp_path / "model.joblib"
    joblib.dump({"a": 1}, path)
    path.chmod(0o666)
    assert "--trust" in call("export", path, "-o", tmp_path / "m.onnx", code=1)


def test_export_refuses_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "fails_at_once.py").write_text("\n1 / 0\n")
    text = call("export", "fails_at_once:net", "-o", "m.onnx", code=1)
    assert "ZeroDivisionError" in text and "fails_at_once.py:2" in text
    assert "no folder" in call("export", "fails_at_once:net", "-o", "nowhere/m.onnx", code=2)
    assert "99" in call("export", "fails_at_once:net", "-o", "m.onnx", "--opset", "99", code=2)


def test_the_program_prints_errors_without_a_trace(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(model.read_bytes()[:-1])
    done = subprocess.run([sys.executable, "-m", "gesher", "run", str(tmp_path / "broken.onnx"), "--random"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FormatError" in done.stderr and "Traceback" not in done.stderr and not done.stdout
    assert "\x1b" not in done.stderr


def test_help_imports_no_numpy() -> None:
    code = "import sys; from gesher.cli.main import root\ntry: root(['--help'])\nexcept SystemExit: pass\n" \
           "print(sorted({'numpy','onnxruntime','torch','sklearn','ml_dtypes','rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_inputs_that_do_not_fit_are_wrong_use(model: Path, tmp_path: Path) -> None:
    for array, says in ((np.zeros((2, 4)), "float64"), (np.zeros((2, 5), np.float32), "not 4"),
                        (np.array([{}], object), "plain arrays")):
        np.save(tmp_path / "x.npy", array, allow_pickle=True)
        assert says in call("run", model, "--input", f"x={tmp_path / 'x.npy'}", code=2)
    assert "no engine 'tpu'" in call("run", model, "--random", "--engine", "tpu", code=2)
    assert "--random" in call("run", model, "--dim", "batch=2", code=2)


def named(tmp_path: Path, *outputs: str) -> Path:
    """A model with inputs and outputs of names that no file could have: the outputs are 1, 2, ... times the input."""
    b = Builder({"": 17}, "named")
    x = b.input("a=b/ü:0", FLOAT, ("n=1",))
    for i, name in enumerate(outputs):
        b.output(b.Mul(x, np.float32(i + 1)), name)
    path = tmp_path / "näme.onnx"
    gesher.save(b.model(), path)
    return path


def test_names_and_files_may_hold_equals_signs(tmp_path: Path) -> None:
    path = named(tmp_path, "y")
    np.save(tmp_path / "lr=1=2.npy", np.ones(3, np.float32))
    given = f"a=b/ü:0={tmp_path / 'lr=1=2.npy'}"
    facts = json.loads(call("run", path, "--input", given, "--engine", "reference", "--json"))
    assert facts["outputs"]["y"]["type"] == "float32[3]"
    facts = json.loads(call("run", path, "--random", "--dim", "n=1=4", "--engine", "reference", "--json"))
    assert facts["outputs"]["y"]["type"] == "float32[4]"


def test_outputs_whose_names_look_alike_as_files_get_files_of_their_own(tmp_path: Path) -> None:
    path = named(tmp_path, "o/1", "o_1", "O:1", "../o")
    out = tmp_path / "out"
    np.save(tmp_path / "x.npy", np.ones(2, np.float32))
    facts = json.loads(call("run", path, "--input", f"a=b/ü:0={tmp_path / 'x.npy'}", "--engine", "reference",
                            "-o", out, "--json"))
    files = [v["file"] for v in facts["outputs"].values()]
    assert len(set(files)) == 4 and sorted(map(str, out.iterdir())) == sorted(files)
    assert [np.load(f)[0] for f in files] == [1, 2, 3, 4]


def test_sequences_and_maps_are_written_too(tmp_path: Path) -> None:
    b = Builder({"": 17, "ai.onnx.ml": 3}, "several")
    x = b.input("x", FLOAT, (2, 2))
    b.output(b.SplitToSequence(x, axis=0), "rows")
    b.output(b.op("ZipMap", x, domain="ai.onnx.ml", classlabels_strings=["no", "yes"]), "named")
    path = tmp_path / "several.onnx"
    gesher.save(b.model(), path)
    np.save(tmp_path / "x.npy", np.arange(4, dtype=np.float32).reshape(2, 2))
    call("run", path, "--input", f"x={tmp_path / 'x.npy'}", "--engine", "reference", "-o", tmp_path / "out")
    with np.load(tmp_path / "out" / "rows.npz") as rows:
        assert rows["1"].tolist() == [[2, 3]]
    assert json.loads((tmp_path / "out" / "named.json").read_text()) == [{"no": 0, "yes": 1}, {"no": 2, "yes": 3}]


def test_the_systems_errors_are_told_without_a_traceback(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = subprocess.run([sys.executable, "-m", "gesher", "run", model, "--random", "--engine", "reference",
                          "-o", tmp_path / "file" / "out"], capture_output=True, text=True)
    assert ran.returncode in (1, 2) and "Traceback" not in ran.stderr and str(tmp_path / "file") in ran.stderr


def test_inputs_too_large_for_the_machine_are_refused(tmp_path: Path) -> None:
    path = named(tmp_path, "y")
    assert "too large" in call("run", path, "--random", "--dim", f"n=1={1 << 60}", code=2)


def test_a_skops_file_crosses_and_types_it_does_not_know_need_trust(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    linear, preprocessing = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    skops.dump(linear.LinearRegression().fit(x, x.sum(1)), tmp_path / "plain.skops")
    call("export", tmp_path / "plain.skops", "-o", tmp_path / "m.onnx")
    with gesher.session(tmp_path / "m.onnx", "reference") as session:
        np.testing.assert_allclose(session.predict(x).ravel(), x.sum(1), atol=1e-5)
    skops.dump(preprocessing.FunctionTransformer(gesher.load).fit(x), tmp_path / "strange.skops")
    assert "gesher" in call("export", tmp_path / "strange.skops", "-o", tmp_path / "n.onnx", code=1)
    (tmp_path / "broken.skops").write_bytes(b"no archive")
    assert "no skops file" in call("export", tmp_path / "broken.skops", "-o", tmp_path / "n.onnx", code=1)
