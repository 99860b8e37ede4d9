"""Concat and Tile: onnx's cases, ONNX Runtime, symbolic sizes, and values of which only some are known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import inferred, shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("Concat", "Tile")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    symbols = {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}
    check(case, want, rtol=rtol, atol=atol, symbols=symbols, known=[1] if case.op == "Tile" else [])


@pytest.mark.parametrize("version", [1, 4, 11, 13])
def test_concat_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, version])
        rank = int(rng.integers(2 if version < 4 else 1, 5))
        shape, axis = [int(d) for d in rng.integers(1, 4, rank)], int(rng.integers(rank))
        symbols, inputs = {}, []
        for i in range(int(rng.integers(1, 4))):
            shape[axis] = int(rng.integers(0, 4))
            inputs.append(rng.integers(0, 9, shape).astype(np.float32))
            symbols.update({(i, a): f"d{a}" if a != axis else f"part{i}" for a in range(rank)})
        named = axis - rank if version >= 11 and rng.random() < 0.5 else axis
        # Version 1 is unknown to ONNX Runtime.
        want = [np.concatenate(inputs, axis)] if version < 4 else "onnxruntime"
        check(Case("Concat", version, inputs, {"axis": named}), want, symbols=symbols)


def test_concat_1_joins_along_axis_1_where_it_says_nothing() -> None:
    x = np.ones((2, 3), np.float32)
    check(Case("Concat", 1, [x, x]), [np.ones((2, 6), np.float32)], symbols={(0, 1): "n"})


def test_concat_makes_the_other_axes_one() -> None:
    assert shapes("c (float[n, 3] x, float[4, k] y) => (z) { z = Concat<axis = 1>(x, y) }") == ["float(4,k + 3)"]


@pytest.mark.parametrize(("inputs", "says"), [([(2, 3), (3, 3)], "2 and 3 differ"), ([(2, 3), (3,)], "rank 1")])
def test_what_does_not_fit_is_refused(inputs: list[tuple[int, ...]], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Case("Concat", 13, [np.zeros(s) for s in inputs], {"axis": 1 if len(inputs[1]) > 1 else 0}).infer()


def test_unknown_elements_do_not_spoil_the_known_ones() -> None:
    model, facts = inferred("""
        c (float[n, 3] x, int64[1] k) => (sizes) {
          n = Shape<end = 1>(x)
          sizes = Concat<axis = 0>(n, k)
        }""")
    value = facts[model.graph.outputs[0]].value
    assert value is not None and str(value[0]) == "n" and value[1].is_fresh


def test_concat_of_values_of_nothing_known_is_unknown() -> None:
    model, facts = inferred("c (int64[1] a, int64[1] b) => (y) { y = Concat<axis = 0>(a, b) }")
    assert facts[model.graph.outputs[0]].value is None


@pytest.mark.parametrize("version", [6, 13])
def test_tile_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, version])
        shape = tuple(int(d) for d in rng.integers(1, 4, rng.integers(1, 4)))
        x = rng.integers(0, 9, shape).astype(rng.choice([np.float32, np.int64, np.uint8]))
        repeats = rng.integers(0 if seed == 7 else 1, 4, len(shape))
        check(Case("Tile", version, [x, repeats]), symbols={(0, a): f"d{a}" for a in range(len(shape))}, known=[1])


def test_tile_1_repeats_along_one_axis() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    case = Case("Tile", 1, [x, np.array(2, np.float32), np.array(1, np.float32)])
    check(case, [np.tile(x, (1, 2))], symbols={(0, 0): "n"}, known=[1, 2])


def test_tile_by_a_size() -> None:
    assert shapes("""
        t (float[1, 8] x, float[n] like) => (y) {
          n = Shape(like)
          one = Constant<value_ints = [1]>()
          repeats = Concat<axis = 0>(n, one)
          y = Tile(x, repeats)
        }""") == ["float(n,8)"]


def test_a_tile_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="3 repeats"):
        Case("Tile", 13, [np.zeros((2, 3)), np.array([1, 1, 1])]).infer(known=[1])
    with pytest.raises(ModelError, match="negative"):
        Case("Tile", 13, [np.zeros((2, 3)), np.array([1, -1])]).infer(known=[1])
