"""The table of scikit-learn's estimators: a sample of it holds, and docs/sklearn.md is what it should be."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sklearn.md"
WHOLE = os.environ.get("GESHER_TEST_ALL") == "1"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import sklearn_coverage

    yield sklearn_coverage
    for name in [n for n in sys.modules if n.startswith("sklearn_") or n.split(".")[0] == "models"]:
        del sys.modules[name]


def test_a_sample_of_the_estimators_is_right_or_refused(coverage: Any) -> None:
    every = list(coverage.cases())
    rng = np.random.default_rng(7)
    chosen = every if WHOLE else [every[i] for i in rng.permutation(len(every))[:5]]
    rows = [o for found in coverage.sweep(chosen) for o in found]
    assert {o.name for o in rows} == {name for _, name in chosen}
    assert [o for o in rows if o.status == "wrong"] == []
    assert all(o.why for o in rows if o.status == "refused")


def test_an_estimator_that_takes_too_long_says_so(coverage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(dtype: Any) -> Any:
        while True:
            sum(range(1000))

    monkeypatch.setattr(coverage, "cases", lambda: {("nested", "endless"): endless})
    ((row,),) = coverage.sweep([("nested", "endless")], limit=0.2)
    assert row.status == "wrong" and "takes more than" in row.why


def test_the_page_names_every_estimator_and_none_that_is_not(coverage: Any) -> None:
    text = PAGE.read_text("utf-8")
    for group, known in (("Estimators", set(coverage.estimators())), ("Nested", set(coverage.nested()))):
        table = text.split(f"\n## {group}\n")[1].split("\n## ")[0]
        named = set(re.findall(r"^\| ([^|]+?) \|", table, re.M)) - {"name"}
        assert named == known
    counts = [list(map(int, re.findall(r"\d+", row.split("|", 3)[3]))) for row in
              re.findall(r"^\| (?:estimators|nested) \|.*$", text, re.M)]
    assert [sum(c) for c in counts] == [len(coverage.estimators())] * 2 + [len(coverage.nested())] * 2
    assert all(c[-1] == text.count("wrong: ") == 0 for c in counts)
