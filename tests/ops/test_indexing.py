"""Gather and its sisters, Compress, NonZero: onnx's cases, ONNX Runtime, values and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.models import answers, inferred, shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ops import find
from gesher.primitives import Builder, CannotLower, evaluate
from gesher.symbolic import bounds, sym


def every_dim(case: Case) -> dict[tuple[int, int], str]:
    return {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("Gather", "GatherElements", "GatherND")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    batch = case.attributes.get("batch_dims", 0)
    # The batch axes of GatherND are those of the indices, which are numbers here.
    check(case, want, rtol=rtol, atol=atol, symbols={k: v for k, v in every_dim(case).items() if k[1] >= batch})


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("Compress", "NonZero")])
def test_onnx_case_whose_size_hangs_on_the_data(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, symbols=every_dim(case), lowers=False, exact=False)
    check(case, want, rtol=rtol, atol=atol, known=[0, 1], lowers=False)


def tensor(rng: np.random.Generator, shape: Any) -> np.ndarray:
    return rng.integers(0, 99, shape).astype(rng.choice([np.float32, np.int64, np.uint8]))


def shape_of(rng: np.random.Generator, least: int = 1) -> tuple[int, ...]:
    return tuple(int(d) for d in rng.integers(1, 5, rng.integers(least, 5)))


@pytest.mark.parametrize("version", [1, 11, 13])
def test_gather_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, version])
        shape = shape_of(rng)
        axis = int(rng.integers(-len(shape) if version >= 11 else 0, len(shape)))
        low = -shape[axis] if version >= 11 else 0
        indices = rng.integers(low, shape[axis], rng.integers(1, 4, rng.integers(0, 3)))
        case = Case("Gather", version, [tensor(rng, shape), indices.astype(rng.choice([np.int32, np.int64]))],
                    {"axis": axis})
        check(case, symbols={**every_dim(case), **{(1, a): f"i{a}" for a in range(indices.ndim)}})


@pytest.mark.parametrize("version", [11, 13])
def test_gather_elements_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, version])
        shape = shape_of(rng)
        axis = int(rng.integers(-len(shape), len(shape)))
        place = [int(rng.integers(1, d + 1)) for d in shape]
        place[axis] = int(rng.integers(1, 6))
        indices = rng.integers(-shape[axis], shape[axis], place)
        case = Case("GatherElements", version, [tensor(rng, shape), indices], {"axis": axis})
        check(case, symbols={(1, a): f"i{a}" for a in range(indices.ndim)})


@pytest.mark.parametrize("version", [11, 12, 13])
def test_gather_nd_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, version])
        shape = shape_of(rng, 2)
        batch = int(rng.integers(0, len(shape))) if version >= 12 else 0
        depth = int(rng.integers(1, len(shape) - batch + 1))
        lead = [*shape[:batch], *(int(d) for d in rng.integers(1, 4, rng.integers(0, 3)))]
        indices = np.stack([rng.integers(-n, n, lead) for n in shape[batch:batch + depth]], -1)
        case = Case("GatherND", version, [tensor(rng, shape), indices], {"batch_dims": batch} if version >= 12 else {})
        named = {(1, a): f"d{a}" if a < batch else f"i{a}" for a in range(len(lead))}
        check(case, symbols={**every_dim(case), **named})


@pytest.mark.parametrize(("op", "inputs", "attributes"), [
    ("Gather", [np.arange(3), np.array([3])], {}), ("GatherElements", [np.arange(3), np.array([-4])], {}),
    ("GatherND", [np.arange(3), np.array([[3]])], {})])
def test_an_index_outside_is_an_error(op: str, inputs: list, attributes: dict) -> None:
    with pytest.raises(RunError, match="not within"):
        Case(op, 13, inputs, attributes).reference()


def test_a_constant_index_outside_is_seen_before_running() -> None:
    with pytest.raises(ModelError, match=r"not within \[-3, 2\]"):
        Case("Gather", 13, [np.arange(3), np.array([3])]).infer(known=[1])


def test_indices_that_reach_beyond_the_data_are_refused() -> None:
    case = Case("GatherElements", 13, [np.zeros((2, 2)), np.zeros((2, 3), np.int64)])
    with pytest.raises(ModelError, match="reach beyond"):
        case.infer()
    with pytest.raises(RunError, match="reach beyond"):
        case.reference()


@pytest.mark.parametrize("gather", [
    "y = Gather(s, i)", "y = GatherElements(s, i)", "i2 = Unsqueeze(i, last)\n y = GatherND(s, i2)"])
def test_sizes_can_be_picked_from_a_shape(gather: str) -> None:
    model, facts = inferred(f"""
        g (float[n, 3, h, w] x) => (y) {{
          s = Shape(x)
          i = Constant<value_ints = [2, -1]>()
          last = Constant<value_ints = [-1]>()
          {gather}
        }}""")
    assert [str(d) for d in facts[model.graph.outputs[0]].value] == ["h", "w"]


@pytest.mark.parametrize("version", [9, 11])
def test_compress_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, version])
        shape = shape_of(rng)
        x = tensor(rng, shape)
        axis = None if rng.random() < 0.4 else int(rng.integers(-len(shape) if version >= 11 else 0, len(shape)))
        size = x.size if axis is None else shape[axis]
        condition = rng.random(int(rng.integers(1, size + 1))) < 0.5
        case = Case("Compress", version, [x, condition], {} if axis is None else {"axis": axis})
        check(case, symbols=every_dim(case), lowers=False, exact=False)
        check(case, known=[1], lowers=False)


def test_compress_ignores_what_lies_beyond_the_end() -> None:
    case = Case("Compress", 11, [np.arange(2), np.array([True, False, True])])
    check(case, [np.array([0])], known=[1], lowers=False)


@pytest.mark.parametrize("version", [9, 13])
def test_non_zero_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(6):
        rng = np.random.default_rng([seed, version])
        x = (tensor(rng, shape_of(rng)) % 3).astype(rng.choice([np.float32, np.int64, np.bool_]))
        case = Case("NonZero", version, [x])
        check(case, symbols=every_dim(case), lowers=False, exact=False)


def test_a_scalar_has_no_coordinates() -> None:
    check(Case("NonZero", 13, [np.array(5)]), [np.zeros((0, 1), np.int64)], known=[0], lowers=False)
    check(Case("NonZero", 13, [np.array(0)]), [np.zeros((0, 0), np.int64)], known=[0], lowers=False)


def test_counts_that_hang_on_the_data_are_bounded() -> None:
    model, facts = inferred("""
        b (float[4, 6] x, bool[3] c) => (places, kept, flat) {
          places = NonZero(x)
          kept = Compress<axis = 1>(x, c)
          flat = Compress(x, c)
        }""")
    found = [[bounds(d) for d in facts[o].shape] for o in model.graph.outputs]
    assert found == [[(2, 2), (0, 24)], [(4, 4), (0, 3)], [(0, 3)]]


def test_two_nodes_do_not_share_their_unknown_counts() -> None:
    model, facts = inferred("b (float[n] x, float[n] y) => (p, q) { p = NonZero(x)\n q = NonZero(y) }")
    a, b = (facts[o].shape for o in model.graph.outputs)
    assert a[1] != b[1]


def test_counting_by_the_places_of_ones() -> None:
    # What torch wrote for arange(n) before there was a Range.
    text = """
        arange (float[n, 4] x) => (y, z) {
          n = Shape<end = 1>(x)
          ones = ConstantOfShape<value = int64[1] {1}>(n)
          places = NonZero(ones)
          turned = Transpose(places)
          axes = Constant<value_ints = [1]>()
          y = Squeeze(turned, axes)
          both = Shape(x)
          filled = ConstantOfShape<value = int64[1] {7}>(both)
          z = NonZero(filled)
        }"""
    assert shapes(text) == ["int64(n)", "int64(2,4*n)"]
    got = answers(text, [np.zeros((3, 4), np.float32)])
    assert got[0].tolist() == [0, 1, 2] and got[1].shape == (2, 12)


def test_the_places_of_ones_are_lowered() -> None:
    p = Builder(version=13)
    n = sym("n")
    ones = p.full((n, 3), 1, dtypes.INT64)
    rule = find("", "NonZero").rule("lower", 13)  # type: ignore[union-attr]
    places = rule.function(p, ones)  # type: ignore[union-attr]
    assert evaluate([places], {}, {"n": 2})[0].tolist() == np.array(np.nonzero(np.ones((2, 3)))).tolist()
    with pytest.raises(CannotLower):
        rule.function(p, p.full((n, 3), 0, dtypes.INT64))  # type: ignore[union-attr]


def test_masks_pick_rows_through_a_chain() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    got = answers("""
        rows (float[n, 3] x, bool[n] keep) => (y) {
          places = NonZero(keep)
          axes = Constant<value_ints = [0]>()
          flat = Squeeze(places, axes)
          y = Gather(x, flat)
        }""", [x, np.array([True, False, True, True])])
    assert got[0].tolist() == x[[0, 2, 3]].tolist()
