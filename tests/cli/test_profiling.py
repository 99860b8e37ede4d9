"""What a compiled model is made of and where its time goes: `show --engine compiled`, `bench --profile`, pages."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gesher
from gesher.base.dtypes import FLOAT
from gesher.cli.main import root
from gesher.compiler import peak, toolchain
from gesher.compiler.peak import Peak
from gesher.ops.build import Builder

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = softmax(x @ w) over a free batch; the name of its output would be markup."""
    b = Builder({"": 17}, "small")
    x = b.input("x", FLOAT, ("batch", 64))
    w = b.constant(np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32), "w")
    b.output(b.Softmax(b.MatMul(x, w), axis=-1), "<y>")
    path = tmp_path / "small.onnx"
    gesher.save(b.model(), path)
    return path


@pytest.fixture(autouse=True)
def known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "here", lambda threads: Peak(threads, 100e9, 0.0, 10e9))


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(root, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


class Page(HTMLParser):
    """Reads a page back: the cells of each table, and every address that it would fetch from."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.fetched: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data


def test_show_tells_shapes_and_work_of_every_kernel(model: Path) -> None:
    free = call("show", model, "--engine", "compiled")
    assert "batch,64)" in free and "*batch FLOP" in free
    run = call("show", model, "--engine", "compiled", "--dim", "batch=100")
    assert "(100,64)" in run and "410 kFLOP" in run
    told = json.loads(call("show", model, "--engine", "compiled", "--dim", "batch=100", "--json"))
    steps = [s for segment in told["segments"] for s in segment["steps"]]
    assert told["left"] == [] and 2 * 100 * 64 * 32 in [s["flops"] for s in steps]
    assert all(s["bytes"] > 0 and "->" in s["shapes"] for s in steps)


def test_the_page_of_show_stands_by_itself(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert str(path) in call("show", model, "--engine", "compiled", "--dim", "batch=100", "--html", path)
    page = Page(path.read_text())
    assert page.fetched == [] and "<y>" not in path.read_text()
    (head, *rows), = page.tables
    assert head == ["#", "step", "of the model", "shapes", "FLOP", "bytes"]
    assert any("(100,64)" in row[3] and row[4].startswith("410 k") for row in rows)


def test_profile_times_every_step_against_the_peak(model: Path, tmp_path: Path) -> None:
    arguments = ("bench", model, "--profile", "--dim", "batch=100", "--seconds", "0.1")
    text = call(*arguments)
    assert "100.0 GFLOP/s, 10.0 GB/s from memory" in text and re.search(r"^ +\d+\.\d{4} .*kernel ", text, re.M)
    told = json.loads(call(*arguments, "--json"))
    steps = [s for segment in told["segments"] for s in segment["steps"]]
    assert told["segments"][0]["runs"] >= 5 and all(s["seconds"] > 0 for s in steps)
    for s in steps:
        if s["flops"]:
            assert s["of_flop_peak"] == pytest.approx(s["flops"] / s["seconds"] / 100e9)
        assert s["of_memory_peak"] == pytest.approx(s["bytes"] / s["seconds"] / 10e9)
    path = tmp_path / "page.html"
    call(*arguments, "--html", path)
    together, steps_table = Page(path.read_text()).tables
    assert [row[1] for row in together[1:]] and len(steps_table) == len(steps) + 1
    parts = [float(row[8].rstrip(" %")) for row in steps_table[1:]]
    assert sum(parts) == pytest.approx(100, abs=0.1 * len(parts))


def test_wrong_use_is_told(model: Path, tmp_path: Path) -> None:
    assert "for --profile" in call("bench", model, "--html", tmp_path / "x.html", code=2)
    other = ("--profile", "--engines", "onnxruntime", "--dim", "batch=1")
    assert "compiled engine" in call("bench", model, *other, code=2)
    assert "--engine compiled" in call("show", model, "--html", tmp_path / "x.html", code=2)
