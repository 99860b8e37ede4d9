"""Slice and Split: onnx's cases, ONNX Runtime on random ends, and symbolic lengths held to numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.models import inferred, shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError
from gesher.ops.core.slicing import cut
from gesher.symbolic import Dim, sym
from gesher.symbolic import evaluate as number_of


def every_dim(case: Case) -> dict[tuple[int, int], str]:
    return {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("Slice", "Split")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, symbols=every_dim(case), known=range(1, len(case.inputs)))


def drawn_slice(rng: np.random.Generator, version: int) -> Case:
    shape = tuple(int(d) for d in rng.integers(1, 6, rng.integers(1, 4)))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rank = len(shape)
    axes = [int(a) for a in rng.permutation(rank)[:rng.integers(1, rank + 1)]]
    far = [2**31 - 1, 2**63 - 1, -2**31, -2**63 + 1]
    ends = [[int(v) if rng.random() < 0.85 else int(rng.choice(far)) for v in rng.integers(-8, 9, len(axes))]
            for _ in range(2)]
    steps = [int(s) for s in rng.choice([1, 1, 2, 3, -1, -2, -3], len(axes))]
    # Going backward, ONNX Runtime takes the largest integer as an end for the smallest one, which ONNX does not.
    ends[1] = [-abs(e) + 1 if e > 9 and step < 0 else e for e, step in zip(ends[1], steps)]
    if version < 10:
        return Case("Slice", version, [x], {"starts": ends[0], "ends": ends[1], "axes": axes})
    axes = [a - rank if version >= 11 and rng.random() < 0.5 else a for a in axes]
    wide = np.int64 if any(abs(e) > 2**31 - 1 for row in ends for e in row) else rng.choice([np.int32, np.int64])
    lists = [np.array(row, wide) for row in (*ends, axes, steps)]
    return Case("Slice", version, [x, *lists[:4 if rng.random() < 0.8 else 3]])


@pytest.mark.parametrize("version", [1, 10, 11, 13])
def test_slice_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(40):
        case = drawn_slice(np.random.default_rng([seed, version]), version)
        check(case, symbols=every_dim(case), known=range(1, len(case.inputs)))


def test_slice_without_axes_takes_the_first_ones() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    check(Case("Slice", 13, [x, np.array([0, 1]), np.array([1, 3])]), [x[:1, 1:3]], symbols={(0, 2): "n"}, known=[1, 2])
    check(Case("Slice", 1, [x], {"starts": [1], "ends": [2]}), [x[1:2]])


def test_cut_is_what_a_slice_takes_for_every_size() -> None:
    n = sym("n")
    for step in (1, 2, 3, -1, -2):
        for start in range(-7, 8):
            for stop in (*range(-7, 8), 2**31 - 1, -2**31):
                found = cut(start, stop, step, n)
                assert found is not None
                for size in range(8):
                    first = 0 if step < 0 and start < -size else start
                    want = len(range(*slice(first, stop, step).indices(size))) if size else 0
                    assert value(found.size, size) == want, (start, stop, step, size, found.size)
                    if want:
                        taken = range(value(found.start, size), value(found.stop, size), step)
                        assert list(taken) == list(range(size))[first:stop:step]


def value(d: Any, n: int) -> int:
    return number_of(d, {"n": n}) if isinstance(d, Dim) else d


@pytest.mark.parametrize(("slice_", "length"), [
    ((0, 2**63 - 1, 1), "n"), ((1, 2**31 - 1, 1), "max(n, 1) - 1"), ((0, -1, 1), "max(n, 1) - 1"),
    ((-5, 2**63 - 1, 1), "min(n, 5)"), ((0, 5, 1), "min(n, 5)"), ((0, 2**63 - 1, 2), "(n + 1)//2"),
    ((-1, -2**63, -1), "n"), ((-1, 2**63 - 1, 1), "min(n, 1)"),
])
def test_symbolic_lengths_read_well(slice_: tuple[int, int, int], length: str) -> None:
    start, stop, step = slice_
    found = cut(start, stop, step, sym("n"))
    assert found is not None and str(found.size) == length


def test_the_end_may_be_a_size() -> None:
    # x[:, :s] of a table of positions
    assert shapes("""
        positions (float[1, 512, 64] table, float[b, s] ids) => (y) {
          s = Shape<start = 1>(ids)
          zero = Constant<value_ints = [0]>()
          one = Constant<value_ints = [1]>()
          y = Slice(table, zero, s, one)
        }""") == ["float(1,min(s, 512),64)"]


def test_the_last_element_by_its_size() -> None:
    # x[n - 1:n] of an axis of n
    assert shapes("""
        last (float[n, 4] x) => (y) {
          n = Shape<end = 1>(x)
          one = Constant<value_ints = [1]>()
          zero = Constant<value_ints = [0]>()
          before = Sub(n, one)
          y = Slice(x, before, n, zero)
        }""") == ["float(min(n, 1),4)"]


def test_unknown_ends_bound_the_length_and_spare_the_other_axes() -> None:
    model, facts = inferred("""
        u (float[8, n] x, int64[1] start) => (y) {
          nine = Constant<value_ints = [9]>()
          zero = Constant<value_ints = [0]>()
          y = Slice(x, start, nine, zero)
        }""")
    shape = facts[model.graph.outputs[0]].shape
    assert shape is not None and str(shape[1]) == "n"
    from gesher.symbolic import bounds
    assert bounds(shape[0]) == (0, 8)


def test_parts_of_a_known_shape_are_known() -> None:
    model, facts = inferred("""
        p (float[n, 3, h, w] x) => (y) {
          s = Shape(x)
          two = Constant<value_ints = [2]>()
          far = Constant<value_ints = [9]>()
          y = Slice(s, two, far)
        }""")
    fact = facts[model.graph.outputs[0]]
    assert [str(d) for d in fact.value] == ["h", "w"]


def test_a_step_of_nothing_is_refused() -> None:
    case = Case("Slice", 13, [np.zeros(3), *(np.array([v]) for v in (0, 2, 0, 0))])
    with pytest.raises(ModelError, match="step is 0"):
        case.infer(known=[1, 2, 3, 4])
    with pytest.raises(RunError, match="step is 0"):
        case.reference()


def drawn_split(rng: np.random.Generator, version: int) -> Case:
    shape = [int(d) for d in rng.integers(1, 5, rng.integers(1, 4))]
    axis = int(rng.integers(0, len(shape)))
    named = axis - len(shape) if version >= 11 and rng.random() < 0.5 else axis
    parts = int(rng.integers(1, 5))
    sizes = [int(s) for s in rng.integers(0 if version >= 13 else 1, 4, parts)]
    if rng.random() < 0.5:
        sizes = [max(sizes[0], 1)] * parts
    shape[axis] = sum(sizes)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    given = len(set(sizes)) > 1 or rng.random() < 0.4
    if version < 13:
        return Case("Split", version, [x], {"axis": named, **({"split": sizes} if given else {})}, parts)
    if given:
        return Case("Split", version, [x, np.array(sizes)], {"axis": named}, parts)
    return Case("Split", version, [x], {"axis": named, **({"num_outputs": parts} if version >= 18 else {})}, parts)


@pytest.mark.parametrize("version", [2, 11, 13, 18])
def test_split_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(16):
        case = drawn_split(np.random.default_rng([seed, version]), version)
        check(case, symbols=every_dim(case), known=[1] if len(case.inputs) > 1 else [])


def test_split_18_gives_the_rest_to_the_last() -> None:
    x = np.arange(7)
    case = Case("Split", 18, [x], {"num_outputs": 3}, 3)
    check(case, [x[:3], x[3:6], x[6:]], symbols={(0, 0): "n"})


def test_split_1_may_be_told_its_sizes_by_an_input() -> None:
    x = np.arange(5, dtype=np.float32)
    check(Case("Split", 1, [x, np.array([2, 3], np.float32)], {"axis": 0}, 2), [x[:2], x[2:]], known=[1], lowers=False)
    check(Case("Split", 1, [x], {"axis": 0, "split": [1, 4]}, 2), [x[:1], x[1:]])


@pytest.mark.parametrize(("case", "says"), [
    (Case("Split", 13, [np.zeros(5)], {}, 2), "does not split into 2"),
    (Case("Split", 13, [np.zeros(5), np.array([2, 2])], {}, 2), "fill axis 0"),
    (Case("Split", 13, [np.zeros(5), np.array([2, 3])], {}, 3), "2 sizes for 3"),
    (Case("Split", 18, [np.zeros(5)], {"num_outputs": 4}, 4), "nothing left"),
    (Case("Split", 18, [np.zeros(6)], {"num_outputs": 3}, 2), "num_outputs is 3"),
])
def test_a_split_that_does_not_fit_is_refused(case: Case, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        case.infer(known=[1])


def test_split_of_sizes_keeps_their_values() -> None:
    model, facts = inferred("""
        s (float[n, 3, h, w] x) => (a, b) {
          shape = Shape(x)
          sizes = Constant<value_ints = [1, 3]>()
          a, b = Split(shape, sizes)
        }""")
    assert [[str(d) for d in facts[o].value] for o in model.graph.outputs] == [["n"], ["3", "h", "w"]]
