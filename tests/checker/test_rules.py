"""Every rule finds what breaks it, with place and advice, and nothing in a model that is right."""

from collections.abc import Callable

import pytest
from tests.checker.broken_models import MODELS, Parts, right

from gesher.checker import RULES, check, table
from gesher.ir import Model, Node
from gesher.ops import find
from gesher.ops.schema import Rule

BROKEN = [pytest.param(rule, make, id=f"{rule}-{name}") for rule, makers in MODELS.items() for name, make in makers]
# What only a file can show, or only a fault of our own, or must be asked for: held by tests of their own.
ELSEWHERE = {"external-data", "inference-rule", "operator-unwritten", "name-identifier"}


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


def test_a_fault_of_an_inference_rule_is_told_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def trips(node: object) -> None:
        raise KeyError("nothing")

    operator = find("", "Relu")
    assert operator is not None
    monkeypatch.setitem(operator.rules, "infer", [Rule("infer", 1, trips)])
    report = check(right())
    assert [f.rule for f in report] == ["inference-rule"] and report.ok
    assert "KeyError" in report.findings[0].message and "relu" in str(report.findings[0].place)


def test_an_operator_that_the_book_does_not_have_yet_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gesher.checker.operators.UNWRITTEN", frozenset({("", "Unheard")}))
    p = Parts()
    p.append("Unheard", [p.x])
    report = check(p.model)
    assert [f.rule for f in report] == ["operator-unwritten"] and report.ok


def test_names_are_held_to_identifiers_when_asked() -> None:
    p = Parts()
    p.add.name, p.add.output.name, p.w.name = "/layer/add", "layer.sum", "0"
    assert not check(p.model).findings
    report = check(p.model, strict=True)
    assert [f.rule for f in report] == ["name-identifier"] * 2 and report.ok
    assert "2 value names are no identifiers: '0', 'layer.sum'" in report.findings[0].message
    assert "node name '/layer/add'" in report.findings[1].message
    assert not check(right(), strict=True).findings


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
