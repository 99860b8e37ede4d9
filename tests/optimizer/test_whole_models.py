"""Optimised models on the reference answer as the models they were made from: ONNX's suite, and models of real use."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.suites.conformance import Case, cases, hold
from tests.suites.real import Case as RealCase
from tests.suites.real import cases as real_cases
from tests.suites.test_conformance import GAPS, lacking

from gesher.evaluator import Evaluator
from gesher.evaluator.difference import difference
from gesher.ir import Model
from gesher.ir.files import load
from gesher.optimizer import for_compiler

SAMPLED = 300


def optimised(model: Model, seed: int) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    whole = for_compiler(model)
    evaluator = Evaluator(whole.model, opsets=whole.opsets, seed=seed)

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        results = evaluator.values(feeds, whole.model.graph.outputs)
        return dict(zip((v.name for v in model.graph.outputs), results))

    return run


def _sample(run_all: bool) -> list[Case]:
    fit = [c for c in cases() if str(c) not in GAPS["reference"] and not lacking(c)]
    return fit if run_all else random.Random(7).sample(fit, SAMPLED)


def test_the_conformance_suite(run_all: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESHER_VERIFY", "2")
    wrong = []
    for case in _sample(run_all):
        try:
            hold(case, optimised)
        except Exception as e:
            wrong.append(f"{case}: {type(e).__name__}: {str(e)[:300]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("case", real_cases(), ids=str)
def test_models_of_real_use(case: RealCase) -> None:
    model = load(case.path)
    run = optimised(model, 0)
    for size in (0, 1):
        feeds = case.feeds(size)
        got = run(feeds)
        for name, want in Evaluator(model).run(feeds).items():
            d = difference(got[name], want, atol=case.atol, rtol=case.rtol)
            assert d.ok, f"{name}: {d.max_abs}"


@pytest.mark.parametrize("case", real_cases(), ids=str)
def test_models_of_real_use_have_fewer_nodes(case: RealCase) -> None:
    model = load(case.path)
    before = sum(map(len, model.graphs()))
    after = sum(map(len, for_compiler(model).model.graphs()))
    # One of them was optimised by its makers.
    assert after <= before if "ifless" in case.name else after < 0.95 * before
