"""Every rule finds what breaks it, with place and advice, and nothing in a model that is right."""

from collections.abc import Callable

import pytest
from tests.checker.broken_models import MODELS, Parts, right

from gesher.checker import RULES, check, table
from gesher.ir import Model, Node

BROKEN = [pytest.param(rule, make, id=f"{rule}-{name}") for rule, makers in MODELS.items() for name, make in makers]
# What only a file can show, or only a fault of our own: held by tests of their own.
ELSEWHERE = {"external-data", "inference-rule", "operator-unwritten", "dim-contradiction"}


@pytest.mark.parametrize(("rule", "make"), BROKEN)
def test_a_broken_rule_is_found(rule: str, make: Callable[[], Model]) -> None:
    report = check(make())
    found = [f for f in report if f.rule == rule]
    assert found, f"found only:\n{report}"
    for f in found:
        assert f.severity == RULES[rule].severity
        assert f.place and f.place[0] == "model" and f.message and f.advice


@pytest.mark.parametrize(("rule", "make"), BROKEN)
def test_one_fault_is_told_in_few_words(rule: str, make: Callable[[], Model]) -> None:
    # A fault may well break a second rule (an unknown value is also of no type), but not bury the reader.
    report = check(make())
    assert len(report) <= 4, str(report)
    assert len(set(report)) == len(report)


def test_the_right_model_has_nothing_to_find() -> None:
    assert not check(right()).findings
    p = Parts()
    p.function()
    assert not check(p.model).findings


def test_every_rule_has_a_model_that_breaks_it() -> None:
    assert set(RULES) - set(MODELS) == ELSEWHERE


def test_everything_wrong_is_found_in_one_pass() -> None:
    p = Parts(ir_version=8)
    p.append("Reluu", [p.x])
    p.append("Softmax", [p.x], 1, {"axs": 1})
    p.append("Not", [p.x])
    p.graph.append(Node("Neg", [p.x]))
    found = [f.rule for f in check(p.model)]
    assert sorted(found) == ["attribute-unknown", "dead-node", "ir-opset-pair", "operator-unknown", "type-constraint"]


def test_checking_changes_nothing() -> None:
    p = Parts()
    before = (repr(p.model), [repr(n) for n in p.graph.nodes], dict(p.x.uses))
    check(p.model)
    assert (repr(p.model), [repr(n) for n in p.graph.nodes], dict(p.x.uses)) == before


def test_the_table_names_every_rule_once() -> None:
    lines = table().splitlines()[2:]
    assert len(lines) == len(RULES)
    assert all(line.count("|") == 5 for line in lines)
    for name, rule in RULES.items():
        assert name == rule.name and rule.what.endswith(".") and rule.advice and not rule.advice.endswith(".")
