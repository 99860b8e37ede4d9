"""How far answers may lie apart, and what counts as the same."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gesher.evaluator.difference import difference

F = np.float32


@pytest.mark.parametrize(("a", "b", "ok"), [
    ([1.0, 2.0], [1.0, 2.0], True),
    ([1.0, 2.0], [1.0, 2.01], False),
    ([1.0, 2.0], [1.0, 2.0005], True),
    # A sum of large terms that cancel: its error scales with them.
    ([1000.0, 0.01], [1000.0, 0.05], True),
    ([1000.0, 0.01], [1000.0, 0.5], False),
    # Probabilities near 0 carry the rounding of numbers near 1.
    ([1e-7, 2e-7], [3e-7, 2e-7], True),
    ([1e-4, 2e-7], [2e-4, 2e-7], False),
    ([np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf], True),
    ([np.nan], [0.0], False),
    ([np.inf], [-np.inf], False),
    ([np.inf], [3e38], False),
    ([], [], True),
    (3.0, 3.0, True),
])
def test_floats(a: Any, b: Any, ok: bool) -> None:
    assert difference(np.asarray(a, F), np.asarray(b, F)).ok is ok


def test_the_figures_by_hand() -> None:
    d = difference(np.array([1.0, 2.5, -4.0], F), np.array([1.0, 2.0, -4.0], F), engine="e", output="y")
    assert (d.max_abs, d.max_rel, d.mismatches, d.size, d.ok) == (0.5, 0.25, 1, 3, False)
    assert (d.engine, d.output) == ("e", "y")


def test_types_and_shapes_must_be_the_same() -> None:
    assert "float64 instead of float32" in difference(np.zeros(2), np.zeros(2, F)).why
    assert "shape" in difference(np.zeros((2, 1), F), np.zeros(2, F)).why


@pytest.mark.parametrize(("a", "b", "wrong"), [
    (np.array([1, 2]), np.array([1, 3]), 1),
    (np.array([2**63 - 1]), np.array([-2**63]), 1),
    (np.array([True, False]), np.array([True, True]), 1),
    (np.array(["a", "b"], object), np.array(["a", "c"], object), 1),
    (np.array([7], np.uint8), np.array([7], np.uint8), 0),
])
def test_integers_bools_and_strings_must_be_equal(a: Any, b: Any, wrong: int) -> None:
    d = difference(a, b)
    assert d.mismatches == wrong and d.ok == (wrong == 0)


def test_narrow_floats_have_tolerances_of_their_own() -> None:
    a = np.array([1.0, 3.0], ml_dtypes.bfloat16)
    b = np.array([1.0, 3.02], ml_dtypes.bfloat16)
    assert difference(a, b).ok and not difference(a, b, rtol=1e-4, atol=0).ok


def test_sequences_maps_and_optionals() -> None:
    x = np.ones(2, F)
    assert difference([x, x], [x, x]).ok
    assert not difference([x], [x, x]).ok
    assert not difference([x, x + 1], [x, x]).ok
    assert difference({"a": 0.5}, {"a": 0.5}).ok
    assert not difference({"b": 0.5}, {"a": 0.5}).ok
    assert difference(None, None).ok and not difference(None, x).ok


def test_tolerances_given_win() -> None:
    assert not difference(np.array([1.0], F), np.array([1.0001], F), rtol=0, atol=1e-6).ok
    assert difference(np.array([1.0], F), np.array([2.0], F), rtol=0, atol=1.0).ok
