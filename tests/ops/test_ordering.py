"""TopK, Unique, NonMaxSuppression: onnx's cases, ONNX Runtime with equals among the elements, bounds of sizes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import inferred, shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError
from gesher.symbolic import bounds


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [pytest.param(*c, id=c[0].name) for c in onnx_cases("TopK")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, symbols={(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}, known=[1])


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("Unique", "NonMaxSuppression")])
def test_onnx_case_whose_size_hangs_on_the_data(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, lowers=False, exact=False)


@pytest.mark.parametrize("version", [1, 10, 11, 24])
def test_top_k_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng([seed, version])
        shape = [int(d) for d in rng.integers(1, 7, rng.integers(1, 4))]
        axis = int(rng.integers(-len(shape), len(shape)))
        dtype = rng.choice([np.float32, np.int64, np.float64]) if version >= 11 else np.float32
        x = rng.integers(0, 4, shape).astype(dtype)
        k = int(rng.integers(1, shape[axis] + 1))
        attributes: dict = {"axis": axis}
        if version >= 11:
            attributes["largest"] = int(rng.integers(2))
        if version == 1:
            case = Case("TopK", 1, [x], {**attributes, "k": k}, 2)
        else:
            case = Case("TopK", version, [x, np.array([k])], attributes, 2)
        symbols = {(0, a): f"d{a}" for a in range(len(shape)) if a != axis % len(shape)}
        check(case, symbols=symbols, known=[1])


def test_top_k_of_a_symbolic_axis_and_by_a_size() -> None:
    # torch writes min(k, n): TopK by ReduceMin or by Shape itself.
    assert shapes("""
        t (float[b, n] x) => (v, i) {
          n = Shape<start = 1>(x)
          v, i = TopK(x, n)
        }""") == ["float(b,n)", "int64(b,n)"]


def test_top_k_refuses_more_than_there_is() -> None:
    case = Case("TopK", 11, [np.zeros((2, 3)), np.array([4])], {}, 2)
    with pytest.raises(ModelError, match="only 3 elements"):
        case.infer(known=[1])
    with pytest.raises(RunError, match="k is 4"):
        case.reference()


def test_nan_counts_as_the_largest() -> None:
    x = np.array([1, np.nan, 3], np.float32)
    check(Case("TopK", 11, [x, np.array([2])], {}, 2), [np.array([np.nan, 3], np.float32), np.array([1, 2])],
          known=[1])


@pytest.mark.parametrize("seed", range(24))
def test_unique_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = [int(d) for d in rng.integers(1, 6, rng.integers(1, 4))]
    x = rng.integers(0, 3, shape).astype(rng.choice([np.float32, np.int64, np.int8]))
    attributes = {"sorted": int(rng.integers(2))}
    if rng.random() < 0.6:
        attributes["axis"] = int(rng.integers(-len(shape), len(shape)))
    check(Case("Unique", 11, [x], attributes, 4), lowers=False, exact=False)


def test_unique_orders_strings_and_leaves_outputs_out() -> None:
    x = np.array(["b", "a", "b"], object)
    check(Case("Unique", 11, [x], {}, [True, False, True]), [np.array(["a", "b"], object), None, np.array([1, 0, 1])],
          lowers=False, exact=False)


def test_unique_of_nothing_is_nothing() -> None:
    check(Case("Unique", 11, [np.zeros(0, np.float32)], {}, 4),
          [np.zeros(0, np.float32)] + [np.zeros(0, np.int64)] * 3, lowers=False, exact=False)


def test_the_outputs_of_unique_share_their_size() -> None:
    model, facts = inferred("u (float[5, n] x) => (y, i, inv, c) { y, i, inv, c = Unique<axis = 0>(x) }")
    y, i, inverse, counts = (facts[o].shape for o in model.graph.outputs)
    assert bounds(y[0]) == (0, 5) and str(y[1]) == "n" and i == counts == (y[0],) and inverse == (5,)


@pytest.mark.parametrize("seed", range(24))
def test_non_max_suppression_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, classes, count = (int(d) for d in rng.integers(1, 4, 3))
    count *= 4
    center = int(rng.integers(2))
    corners = rng.integers(0, 8, (batch, count, 4)).astype(np.float32)
    if center:
        corners[..., 2:] = rng.integers(1, 6, (batch, count, 2))
    # Few different scores, so that there are equals.
    scores = (rng.integers(0, 10, (batch, classes, count)) / 10).astype(np.float32)
    inputs = [corners, scores, np.array([int(rng.integers(0, 5))])]
    if rng.random() < 0.7:
        inputs.append(np.array([rng.choice([0.0, 0.3, 0.5])], np.float32))
        if rng.random() < 0.7:
            inputs.append(np.array([rng.choice([0.0, 0.25, 0.55])], np.float32))
    case = Case("NonMaxSuppression", int(rng.choice([10, 11])), inputs, {"center_point_box": center})
    check(case, symbols={(0, 0): "n", (1, 0): "n", (0, 1): "boxes", (1, 2): "boxes"}, lowers=False, exact=False)


def test_suppression_is_bounded_by_what_may_be_selected() -> None:
    model, facts = inferred("""
        n (float[2, 100, 4] boxes, float[2, 3, 100] scores) => (y, none) {
          most = Constant<value_ints = [7]>()
          y = NonMaxSuppression(boxes, scores, most)
          none = NonMaxSuppression(boxes, scores)
        }""")
    assert [[bounds(d) for d in facts[o].shape] for o in model.graph.outputs] == [[(0, 42), (3, 3)], [(0, 0), (3, 3)]]


def test_boxes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="a score for each box"):
        Case("NonMaxSuppression", 11, [np.zeros((1, 5, 4)), np.zeros((1, 1, 6))]).infer()
