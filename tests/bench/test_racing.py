"""The race of the engines: its arithmetic, its table, and that a worker times and reports what it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from gesher.compiler import toolchain

HERE = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in [n for n in sys.modules if n.split(".")[0] in ("racing", "models", "engines")]:
        del sys.modules[name]


def row(name: str, ratio: float | None, kind: str = "fp32", group: str = "vision", threads: int = 1, **more) -> dict:
    return {"figure": "race", "name": name, "kind": kind, "group": group, "threads": threads, "ratio": ratio,
            "clean_ratio": ratio, "medians": {"compiled": 0.012, "onnxruntime": 0.02}, "failed": {}, **more}


def test_the_ratio_is_to_the_faster_rival() -> None:
    from racing.goals import geometric_mean, ratio_of

    assert ratio_of({"compiled": 3.0, "onnxruntime": 6.0, "openvino": 4.0}) == 0.75
    assert ratio_of({"compiled": 3.0, "onnxruntime": 6.0}) == 0.5
    assert ratio_of({"compiled": 3.0}) is None and ratio_of({"onnxruntime": 3.0}) is None
    assert geometric_mean([0.25, 1.0]) == pytest.approx(0.5) and geometric_mean([]) is None


def test_goals_take_the_rows_that_are_theirs() -> None:
    from racing.goals import Goal

    rows = [row("a", 0.5), row("b", 2.0), row("c", 0.1, kind="int8"), row("d", None), row("e", 0.8, group="other")]
    assert Goal("", 1, 1, kinds=("fp32",), how="mean").value(rows) == pytest.approx(0.8 ** (1 / 3))
    worst = Goal("", 1.0, 0.5, kinds=("fp32",), groups=("other",))
    assert worst.value(rows) == 0.8 and worst.reached(0.8) and not worst.aimed(0.8)
    least = Goal("", 0.9, 0.95, names=("b",), how="least")
    assert least.value(rows) == 2.0 and least.aimed(2.0) and not least.reached(0.5)
    assert Goal("", 1, 1, names=("nobody",)).value(rows) is None


def test_the_section_has_every_row_lost_ones_too() -> None:
    from racing import table

    rows = [row("won", 0.6, error=1e-6, gflops=50.0, of_peak=0.45), row("lost", 1.3, failed={"openvino": "no Conv"}),
            row("two", 0.7, threads=2),
            {"figure": "kernels", "name": "k", "threads": 1, "kernels": [
                {"kernel": "gemm", "steps": 3, "seconds": 2e-3, "part": 0.5, "of_peak": 0.9},
                {"kernel": "loop nests", "steps": 1, "seconds": 2e-3, "part": 0.5, "of_peak": None}]}]
    text = table.section(rows, ["- a processor"])
    assert text.startswith(table.BEGIN) and text.rstrip().endswith(table.END)
    assert "| won | 12.0 ms | 20.0 ms | - | 0.60 | 0.60 | won | 50.0 | 45 % | - | 1e-06 |" in text
    assert "| lost | 12.0 ms | 20.0 ms | cannot | 1.30 | 1.30 | **lost** |" in text
    assert "| k | 1 | gemm | 3 | 2.00 ms | 50.0 % | 90 % |" in text
    assert "| k | 1 | loop nests | 1 | 2.00 ms | 50.0 % | - |" in text
    assert "- lost on openvino: no Conv" in text and "### 2 threads" in text and "| fp32 | 2 | 0.88 |" in text


def test_a_section_leaves_the_rest_of_the_file_alone(tmp_path: Path) -> None:
    from racing import table

    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\n## Others\n\nkept\n")
    table.put(path, f"{table.BEGIN}\nfirst\n{table.END}\n")
    path.write_text(path.read_text() + "\n## Behind\n")
    table.put(path, f"{table.BEGIN}\nsecond\n{table.END}\n")
    text = path.read_text()
    assert text.count(table.BEGIN) == 1 and "second" in text and "first" not in text
    assert text.startswith("# Results\n\n## Others\n\nkept\n") and text.endswith("\n## Behind\n")


def test_work_counts_the_products_of_a_model(tmp_path: Path) -> None:
    from models import operators
    from racing.work import flops_of

    operators.gemm(3, 5, 7)(tmp_path / "gemm.onnx")
    operators.pointwise(4, 6, 5)(tmp_path / "conv.onnx")
    assert flops_of(tmp_path / "gemm.onnx", operators.x(3, 7)) == 2 * 3 * 5 * 7
    assert flops_of(tmp_path / "conv.onnx", operators.x(1, 4, 5, 5)) == 2 * 6 * 25 * 4


def test_relative_error_sees_wrong_shapes_and_not_a_number() -> None:
    from racing.timing import relative_error

    x = np.float32([3, 4])
    assert relative_error([x], [x]) == 0 and relative_error([x * 1.01], [x]) == pytest.approx(0.01, rel=1e-3)
    assert relative_error([x], [x[:1]]) == relative_error([x, x], [x]) == float("inf")
    assert relative_error([np.float32([np.nan, 4])], [x]) == float("inf")


@pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")
def test_engines_race_and_agree(tmp_path: Path) -> None:
    from models import operators
    from racing.timing import race, relative_error

    operators.pair(tmp_path / "pair.onnx")
    found = race(tmp_path / "pair.onnx", operators.x(1, 16), ["compiled", "onnxruntime"], 1, 0.01)
    for timing in found.values():
        assert not timing.failed and len(timing.runs) >= 5 and timing.load["peak_mb"] > 10
        assert 0 < timing.undisturbed <= timing.median
    assert relative_error(found["compiled"].outputs, found["onnxruntime"].outputs) < 1e-6


def test_a_worker_that_cannot_load_says_why(tmp_path: Path) -> None:
    from racing.timing import race

    (tmp_path / "broken.onnx").write_bytes(b"no model")
    found = race(tmp_path / "broken.onnx", {"x": np.zeros(1, np.float32)}, ["onnxruntime"], 1, 0.01)
    assert "onnxruntime" in found and found["onnxruntime"].failed and not found["onnxruntime"].runs


def test_what_is_built_is_built_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import store

    monkeypatch.setenv("GESHER_BENCH_CACHE", str(tmp_path))
    built = []

    def build(path: Path) -> None:
        built.append(path)
        path.write_bytes(b"model")

    first = store.built("m", build, "1")
    assert store.built("m", build, "1") == first and len(built) == 1 and first.read_bytes() == b"model"
    assert store.built("m", build, "2") != first and len(built) == 2

    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        store.built("n", fails, "1")
    assert not list(tmp_path.glob("n*"))


def test_every_row_of_the_race_is_there_once() -> None:
    from models import FREE, MODELS, chosen
    from racing.goals import RACE_GOALS

    names = [m.name for m in MODELS]
    assert len(set(names)) == len(names)
    assert [m.name for m in chosen("resnet50*", ("int8",))] == ["resnet50_qdq", "resnet50_qoperator",
                                                              "resnet50_dynamic"]
    assert "silero_vad" in [m.name for m in chosen("*", ("small",))] and len(FREE) >= 3
    # A goal that no row could ever meet would never be missed.
    for goal in RACE_GOALS:
        assert any((not goal.groups or m.group in goal.groups) and (not goal.kinds or m.kind in goal.kinds)
                   and (not goal.names or m.name in goal.names) for m in MODELS), goal.figure
