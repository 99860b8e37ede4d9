"""Every golden pair: the left side becomes the right, and means the same on random numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rewriter.golden import Pair, hold, pairs

from gesher.optimizer import FOR_COMPILER

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize(("pair", "file"), [pytest.param(p, f, id=f"{f.stem}-{p}") for f in FILES for p in pairs(f)])
def test_pair(pair: Pair, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESHER_VERIFY", "4")
    hold(pair, FOR_COMPILER)
