"""Sessions by the file of their model: read back without reading the file, and never for another file."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import FLOAT, INT64
from gesher.base.errors import ModelError
from gesher.compiler import faces, toolchain
from gesher.engines import compiled as engine
from gesher.ops.build import Builder

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")
AGO = time.time_ns() - 60_000_000_000


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GESHER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read, one after another."""
    found: list[Path] = []
    for module in (gesher.engines, faces):
        real = module.load
        monkeypatch.setattr(module, "load", lambda file, real=real: (found.append(Path(file)), real(file))[1])
    return found


def written(file: Path, factor: float = 2.0, external: bool = False, age: int = AGO) -> Path:
    """A model that multiplies rows by a matrix, as a file of some age."""
    b = Builder({"": 21})
    x = b.input("x", FLOAT, ["n", 12])
    b.output(b.MatMul(x, b.constant(np.full((12, 40), factor, np.float32))), "y")
    b.output(b.Shape(x), "sizes")
    model = b.model()
    model.metadata["about"] = "a matrix"
    gesher.save(model, file, external="weights.bin" if external else None)
    for each in (file, *([file.parent / "weights.bin"] if external else [])):
        os.utime(each, ns=(age, age))
    return file


def session(file: Path, **options: int) -> engine.CompiledSession:
    return gesher.session(file, "compiled", threads=1, **options)


def answer(file: Path, n: int = 3) -> float:
    found = session(file).run({"x": np.ones((n, 12), np.float32)})
    np.testing.assert_array_equal(found["sizes"], [n, 12])
    assert found["y"].shape == (n, 40) and found["y"].std() == 0
    return float(found["y"][0, 0])


@pytest.mark.parametrize("external", [False, True])
def test_the_file_is_read_once(tmp_path: Path, reads: list[Path], external: bool) -> None:
    file = written(tmp_path / "m.onnx", external=external)
    assert answer(file) == answer(file, 5) == answer(file) == 24
    assert reads == [file]
    first, again = session(file), gesher.engines.prepare(gesher.load(file), "compiled")
    assert first.inputs == again.inputs and first.outputs == again.outputs
    assert "nest sizes" in first.explain() and reads == [file, file]


def test_another_file_in_its_place_is_another_model(tmp_path: Path, reads: list[Path]) -> None:
    file = written(tmp_path / "m.onnx")
    assert answer(file) == 24
    written(file, 3.0, age=AGO + 1_000)
    assert answer(file) == 36
    assert len(reads) == 2


def test_the_same_name_in_another_folder_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, factor in (("a", 2.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "m.onnx", factor)
    found = []
    for name in "abab":
        monkeypatch.chdir(tmp_path / name)
        found.append(answer(Path("m.onnx")))
    assert found == [24, 36, 24, 36]


def test_other_weights_beside_the_file_are_another_model(tmp_path: Path) -> None:
    file = written(tmp_path / "m.onnx", external=True)
    assert answer(file) == 24
    stamp = file.stat()
    written(file, 3.0, external=True, age=AGO + 1_000)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert answer(file) == 36


def test_a_file_of_this_moment_is_read_each_time(tmp_path: Path, reads: list[Path]) -> None:
    file = written(tmp_path / "m.onnx", age=time.time_ns())
    assert answer(file) == answer(file) == 24
    assert reads == [file, file]


def test_what_was_edited_does_not_go_by_the_name_of_its_file(tmp_path: Path, reads: list[Path]) -> None:
    file = written(tmp_path / "m.onnx")
    model = gesher.load(file)
    model.graph.outputs[0].name = "z"
    with gesher.session(model, "compiled", threads=1) as edited:
        assert [p.name for p in edited.outputs] == ["z", "sizes"]
    assert answer(file) == 24 and reads == [file]


def test_a_file_that_changed_under_its_session_is_not_planned_from(tmp_path: Path) -> None:
    file = written(tmp_path / "m.onnx")
    answer(file)
    opened = session(file)
    written(file, 3.0, age=AGO + 1_000)
    assert opened.run({"x": np.ones((1, 12), np.float32)})["y"][0, 0] == 24
    with pytest.raises(ModelError, match="changed since the session was made"):
        opened.explain()


def test_a_damaged_face_is_no_face(tmp_path: Path, reads: list[Path]) -> None:
    file = written(tmp_path / "m.onnx")
    answer(file)
    (face,) = (tmp_path / "cache" / "faces").iterdir()
    (face / faces.FACE).write_text("{}")
    assert answer(file) == 24 and len(reads) == 2
    shutil.rmtree(tmp_path / "cache" / "sessions")
    assert answer(file) == 24 and len(reads) == 3


def test_inputs_with_defaults_have_no_face(tmp_path: Path, reads: list[Path]) -> None:
    b = Builder({"": 21})
    x = b.input("x", FLOAT, [3])
    k = b.input("k", INT64, [1])
    b.output(b.Mul(x, b.Cast(k, to=1)), "y")
    model = b.model()
    model.graph.inputs[1].constant = gesher.ir.Tensor.of(np.array([2]))
    model.graph.initializers[model.graph.inputs[1]] = None
    file = tmp_path / "m.onnx"
    gesher.save(model, file)
    os.utime(file, ns=(AGO, AGO))
    for _ in range(2):
        np.testing.assert_array_equal(session(file).run({"x": np.ones(3, np.float32)})["y"], np.full(3, 2))
    assert len(reads) == 2


def test_conditions_that_a_run_settled_are_read_back_without_the_file(tmp_path: Path, reads: list[Path]) -> None:
    b = Builder({"": 21})
    x, k = b.input("x", FLOAT, ["n", 12]), b.input("k", INT64, [])
    y = b.MatMul(x, b.constant(np.ones((12, 40), np.float32)))
    then, other = b.subgraph("then"), b.subgraph("other")
    then.output(then.Add(y, 1.0))
    other.output(other.Neg(y))
    b.output(b.If(b.Equal(k, 16), then_branch=then.graph, else_branch=other.graph), "y")
    file = tmp_path / "m.onnx"
    gesher.save(b.model(), file)
    os.utime(file, ns=(AGO, AGO))

    def run(k: int) -> float:
        return float(session(file).run({"x": np.ones((2, 12), np.float32), "k": np.array(k)})["y"][0, 0])

    assert [run(16), run(16)] == [13, 13] and reads == [file]
    # What no run has settled yet is planned, of the file; and kept.
    assert [run(3), run(3), run(16)] == [-12, -12, 13] and reads == [file, file]
