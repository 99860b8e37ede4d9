"""ONNX's conformance suite on our engines: all 2033 cases on `reference`, a sample of them on `compiled`.

What does not pass is listed in `gaps_reference.txt` and `gaps_compiled.txt`, each with the reason. The lists may only
shrink: a case on one that passes fails here. Cases of operators that the book lacks are no lines of these lists but
follow from `ops.unwritten`; they must be refused, not answered.

Every case on `reference` also holds inference: what it says of the outputs must be so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.suites.conformance import GROUPS, RANDOM, Case, Engine, cases, gaps, hold, on

from gesher import engines
from gesher.base import dtypes
from gesher.base.errors import GesherError, UnsupportedError
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir import TensorType
from gesher.ops.unwritten import UNWRITTEN

GAPS = {engine: gaps(Path(__file__).parent / f"gaps_{engine}.txt") for engine in ("reference", "compiled")}

# Cases on `compiled`; each costs a third of a second, nearly all of it the C compiler's.
SAMPLED = 240


def lacking(case: Case) -> set[str]:
    """Operators of a case that the book does not have."""
    model = case.proto()
    own = {(f.domain, f.name) for f in model.functions}

    def operators(nodes: Any) -> Iterator[tuple[str, str]]:
        for n in nodes:
            yield n.domain, n.op_type
            for a in n.attribute:
                yield from operators(a.g.node)

    used = {o for nodes in (model.graph.node, *(f.node for f in model.functions)) for o in operators(nodes)}
    return {name for domain, name in (used & UNWRITTEN) - own}


def _hold(case: Case, name: str, engine: Engine) -> None:
    """Hold a case to the suite, or to its line in the list of gaps."""
    if lacking(case):
        with pytest.raises(UnsupportedError):
            hold(case, engine)
    elif str(case) in GAPS[name]:
        try:
            hold(case, engine)
        except (AssertionError, GesherError):
            return
        pytest.fail(f"{case} passes now: take it off gaps_{name}.txt")
    else:
        outputs = hold(case, engine)
        if name == "reference":
            _infers(case, outputs)


def _infers(case: Case, outputs: list[Any]) -> None:
    model = case.opened()
    facts = infer(model)
    for value in model.graph.outputs:
        fact = facts[value]
        for got in (o[value.name] for o in outputs):
            if isinstance(got, np.ndarray) and isinstance(fact.type, TensorType):
                told = f"{value.name}: inference says {fact.type}, it is {got.dtype}{list(got.shape)}"
                assert fact.dtype is dtypes.from_numpy(got.dtype), told
                if fact.shape is not None:
                    assert len(fact.shape) == got.ndim, told
                    assert all(d == n for d, n in zip(fact.shape, got.shape) if isinstance(d, int)), told


def _reference(model: Any, seed: int) -> Any:
    return Evaluator(model, seed=seed).run


@pytest.mark.parametrize("case", cases(), ids=str)
def test_reference_conforms(case: Case) -> None:
    _hold(case, "reference", _reference)


@cache
def sampled() -> frozenset[Case]:
    """Some cases of every group, the same in every run."""
    rng, drawn = random.Random(20260), set()
    for group in GROUPS:
        # The real models cost seconds each; `./dev test --all` runs them.
        found = [c for c in cases() if c.group == group and not lacking(c) and group != "real"]
        drawn |= set(rng.sample(found, min(len(found), max(10, SAMPLED * len(found) // len(cases())))))
    return frozenset(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_compiled_conforms(group: str, run_all: bool) -> None:
    why = engines.engine("compiled").missing()
    if why:
        pytest.skip(why)
    failed = []
    for case in cases():
        if case.group == group and (run_all or case in sampled()):
            try:
                _hold(case, "compiled", on("compiled"))
            except (AssertionError, GesherError, pytest.fail.Exception) as e:
                failed.append(f"{case}: {str(e).strip()[:600]}")
    assert not failed, "\n".join(failed)


def test_the_suite_is_whole() -> None:
    """As many cases as onnx 1.23 publishes; a newer onnx in the environment says so here."""
    count = {g: sum(c.group == g for c in cases()) for g in GROUPS}
    assert count == {"node": 1404, "node-expanded": 480, "simple": 23, "pytorch-operator": 35,
                     "pytorch-converted": 82, "real": 9}
    assert {c.name for c in cases()} >= RANDOM


@pytest.mark.parametrize("engine", GAPS)
def test_gaps_name_cases_that_exist_and_say_why(engine: str) -> None:
    assert set(GAPS[engine]) <= {str(c) for c in cases()}
    assert all(len(reason) > 10 for reason in GAPS[engine].values())


def test_every_data_set_feeds_and_expects_something() -> None:
    for case in cases():
        assert case.data(), str(case)
        for feeds, wanted in case.data():
            assert wanted, str(case)
            assert set(feeds) <= {v.name for v in case.proto().graph.input}, str(case)


@pytest.mark.parametrize("spoil", [lambda y: y + 1, lambda y: y[:, :1], lambda y: y.astype(np.float64)],
                         ids=["numbers", "shape", "type"])
def test_a_wrong_answer_is_seen(spoil: Any) -> None:
    case = next(c for c in cases() if c.name == "test_add")
    with pytest.raises(AssertionError):
        hold(case, lambda model, _: lambda feeds: {n: spoil(y) for n, y in Evaluator(model).run(feeds).items()})


def test_wrong_odds_are_seen() -> None:
    """Numbers that are 0 and 1, but not with the input's probabilities."""
    case = next(c for c in cases() if c.name == "test_bernoulli")

    def inverted(model: Any, seed: int) -> Any:
        return lambda feeds: Evaluator(model, seed=seed).run({"x": 1 - feeds["x"]})

    with pytest.raises(AssertionError, match="standard deviations"):
        hold(case, inverted)
