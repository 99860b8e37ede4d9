"""What `gesher ops NAME` says of an operator, made from the book."""

from __future__ import annotations

import pytest

from gesher.ops import find, operators
from gesher.ops.describe import about, describe, explain, short_types
from gesher.ops.schema import tensors


def told(name: str, domain: str = "") -> str:
    operator = find(domain, name)
    assert operator is not None
    return " ".join(describe(operator).split())


@pytest.mark.parametrize(("name", "words"), [
    ("Softmax", "11 an axis may be counted from the end"),
    ("Softmax", "13 attribute axis: int = -1, before int = 1; T takes bfloat16 too; meaning: runs along one axis"),
    ("Softmax", "a row of scores becomes a row of weights"),
    ("BatchNormalization", "attribute epsilon: float = 1e-05"),
    ("BatchNormalization", "input mean is called input_mean"),
    ("BatchNormalization", "15 scale, B need not have the type of X"),
    ("Max", "8 the inputs broadcast as numpy's do"),
    ("Identity", "14 input takes seq of float"),
    ("Conv", "takes B: T (optional)"),
    ("Clip", "where T is float uint8 int8"),
    ("Clip", "11 new input min; new input max; no attribute min"),
    ("Upsample", "deprecated"),
])
def test_an_operator_is_explained(name: str, words: str) -> None:
    assert words in told(name), told(name)


def test_every_operator_has_a_family_that_says_what_it_is() -> None:
    silent = [o.name for o in operators() if len(about(o)) < 20]
    assert silent == []


def test_explanations_are_data_too() -> None:
    operator = find("com.microsoft", "MatMulNBits")
    assert operator is not None
    data = explain(operator)
    assert data["family"] == "contrib.blockwise"
    assert "zero_points: T3 (optional)" in data["inputs"]
    assert "block_size: int (required)" in data["attributes"]
    assert data["types"]["T2"] == "uint8"


def test_types_are_told_in_few_words() -> None:
    assert short_types(tensors("double float")) == "float double"
    assert short_types(tensors("float") | {"seq(tensor(int64))", "optional(seq(tensor(bool)))"}) == \
        "float, seq of int64, optional of seq of bool"
    assert short_types(frozenset({"seq(map(int64, float))"})) == "seq(map(int64, float))"
    assert short_types(frozenset({"sparse_tensor(float)"})) == "sparse_tensor(float)"


def test_hardly_any_version_changes_nothing_that_can_be_told() -> None:
    silent = [f"{o.name} {v['version']}" for o in operators() for v in explain(o)["changes"]
              if not v["changes"] and not v["meaning"]]
    assert len(silent) <= 13, silent
