"""Arguments by chance: a sample of the draws is right or refused, and a draw is the same draw again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
WHOLE = os.environ.get("GESHER_TEST_ALL") == "1"


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    pytest.importorskip("pandas")
    import sklearn_parameters

    yield sklearn_parameters
    for name in [n for n in sys.modules if n.startswith("sklearn_") or n.split(".")[0] == "models"]:
        del sys.modules[name]


def test_a_sample_of_draws_is_right_or_refused(parameters: Any) -> None:
    every = [(n, i) for n in parameters.names() for i in range(40 if n == parameters.NESTED else 2)]
    rng = np.random.default_rng(5)
    chosen = every if WHOLE else [every[i] for i in rng.permutation(len(every))[:8]]
    found = list(parameters.sweep(chosen, seed=11))
    assert [o for o in found if o.status in parameters.FAULTS] == []
    assert all(o.why for o in found if o.status == "refused")
    assert sum(o.status == "right" for o in found) > len(found) / 2


def test_a_draw_is_the_same_again(parameters: Any) -> None:
    (one, data), (two, again) = (parameters.draw("SVC", 3, 0) for _ in range(2))
    assert one.get_params() == two.get_params() and data.kind == again.kind
    np.testing.assert_array_equal(data.fresh["fresh"], again.fresh["fresh"])
    assert len({str(parameters.draw("SVC", i, 0)[0]) for i in range(8)}) > 4


def test_a_wrong_answer_is_told(parameters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import Ridge

    class Other(Ridge):
        """Answers for fresh rows what its export does not know."""

        def predict(self, x: Any) -> Any:
            return super().predict(x) + 3 * (np.abs(x[:, 0]) > 50)

    Other.__module__, Other.__name__ = "sklearn.linear_model._ridge", "Ridge"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    data = parameters.Data("numbers", x, x[:, 0], x, {"large": x * 100})
    monkeypatch.setattr(parameters, "draw", lambda *_: (Other(), data))
    (found,) = parameters.sweep([("Ridge", 0)], seed=0)
    assert found.status == "wrong" and "large rows" in found.why
