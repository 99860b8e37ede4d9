"""Operators on strings: onnx's cases, ONNX Runtime, and RE2's syntax held to re2's own meaning by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError
from gesher.ops.core.strings import re2_pattern


def strings(*words: str) -> np.ndarray:
    return np.array(words, object)


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name)
    for c in onnx_cases("StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    case.inputs = [x.astype(object) for x in case.inputs]
    symbols = {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}
    exact = case.op in ("StringConcat", "RegexFullMatch")
    check(case, [w.astype(object) if w.dtype.kind in "US" else w for w in want], symbols=symbols, lowers=False,
          exact=exact)


def test_concat_broadcasts() -> None:
    x, y = strings("a", "b").reshape(2, 1), strings("ü", "", "גשר")
    want = np.array([["aü", "a", "aגשר"], ["bü", "b", "bגשר"]], object)
    check(Case("StringConcat", 20, [x, y]), [want], symbols={(0, 0): "n"}, lowers=False)
    check(Case("StringConcat", 20, [x, y]), symbols={(0, 0): "n"}, lowers=False)


@pytest.mark.parametrize("attributes", [
    {}, {"delimiter": ""}, {"delimiter": ","}, {"delimiter": ",,"}, {"delimiter": ",", "maxsplit": 1},
    {"maxsplit": 1}, {"maxsplit": 2}])
def test_split_agrees_with_onnxruntime(attributes: dict) -> None:
    # Of an empty string ONNX Runtime makes no part, where ONNX has one: an empty one.
    last = "," if attributes.get("delimiter") else ""
    x = strings("a,b,,c", ",", "no", " two  words ", "x ,, y", last).reshape(2, 3)
    check(Case("StringSplit", 20, [x], attributes, 2), symbols={(0, 0): "n"}, lowers=False, exact=False)


def test_split_of_no_strings_has_no_parts() -> None:
    check(Case("StringSplit", 20, [np.zeros((0, 2), object)], {}, 2),
          [np.zeros((0, 2, 0), object), np.zeros((0, 2), np.int64)], lowers=False, exact=False)


def test_a_limited_split_has_a_bounded_width() -> None:
    from gesher.symbolic import bounds
    facts, _ = Case("StringSplit", 20, [strings("a b c")], {"maxsplit": 3}, 2).infer()
    assert facts[0] is not None and facts[0].shape is not None and bounds(facts[0].shape[1]) == (0, 4)


@pytest.mark.parametrize("attributes", [
    {}, {"case_change_action": "LOWER"}, {"case_change_action": "UPPER", "stopwords": ["monday"]},
    {"stopwords": ["Monday"], "is_case_sensitive": 1}, {"stopwords": ["monday", "TUESDAY"], "is_case_sensitive": 0},
    {"stopwords": ["Monday", "tuesday", "Friday"], "is_case_sensitive": 1, "case_change_action": "UPPER"}])
@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_normalizer_agrees_with_onnxruntime(attributes: dict, shape: tuple[int, ...]) -> None:
    # The plain locale is the only one that every machine has.
    x = strings("Monday", "tuesday", "Friday").reshape(shape)
    check(Case("StringNormalizer", 10, [x], {**attributes, "locale": "C"}), lowers=False, exact=False)


def test_cases_change_in_every_alphabet() -> None:
    attributes = {"case_change_action": "LOWER", "stopwords": ["ÄRGER"]}
    case = Case("StringNormalizer", 10, [strings("Ärger", "ΣΟΦΙΑ")], attributes)
    check(case, [strings("σοφια")], lowers=False, exact=False)


def test_a_normalizer_takes_one_row_of_words() -> None:
    with pytest.raises(ModelError, match=r"\[C\] or \[1, C\]"):
        Case("StringNormalizer", 10, [strings("a", "b").reshape(2, 1)]).infer()
    with pytest.raises(RunError, match=r"\[C\] or \[1, C\]"):
        Case("StringNormalizer", 10, [strings("a", "b").reshape(2, 1)]).reference()


PATTERNS = [
    (r"[a-z]+\d*", ["abc1", "abc", "1", "abc\n", ""]), (r"(www\.[\w.-]+\.[a-z]{2,3})", ["www.a.de", "www..x"]),
    (r"\d+", ["12", "٣"]), (r"\w+", ["ab_1", "ä"]), (r"(?i)gesher", ["GesHer", "gesherx"]), (r"a|b*", ["a", "bb"]),
    (r"[[:alpha:]]+", ["abc", "a1"]), (r"[^[:space:][:punct:]]+", ["ab", "a b", "a-b"]), (r"[]a]+", ["]a", "b"]),
    (r"[^]a]+", ["xy", "x]"]), (r"\Qa.b\E+", ["a.b", "a.bbb", "axb"]), (r"ab\z", ["ab", "abc"]), (r"\Aab$", ["ab"]),
    (r".*", ["one", "two\nlines"]), (r"(?s).*", ["two\nlines"]), (r"x{2,3}", ["x", "xxxx"]), (r"[a[]+", ["a[", "b"]),
    (r"(?P<name>a)b", ["ab"]), (r"a+?b", ["aab"]), (r"\x{61}|\x41", ["a", "A", "b"]), (r"", ["", "a"]),
]


@pytest.mark.parametrize(("pattern", "words"), PATTERNS, ids=[p for p, _ in PATTERNS])
def test_patterns_agree_with_onnxruntime(pattern: str, words: list[str]) -> None:
    check(Case("RegexFullMatch", 20, [strings(*words)], {"pattern": pattern}), lowers=False)


@pytest.mark.parametrize("pattern", [r"(?=a)a", r"(a)\1", r"(?<!a)b", r"\p{Greek}", r"[[:letters:]]", r"(", r"a\Cb"])
def test_what_re2_or_we_do_not_know_is_refused(pattern: str) -> None:
    with pytest.raises(RunError):
        re2_pattern(pattern)


def test_matching_keeps_the_shape() -> None:
    assert shapes('r (string[n, 2] x) => (y) { y = RegexFullMatch<pattern = "a+">(x) }') == ["bool(n,2)"]
