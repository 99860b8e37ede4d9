"""Scatter and its sisters, TensorScatter: onnx's cases, ONNX Runtime with every reduction, symbolic sizes, values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.ops.models import inferred
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("Scatter", "ScatterElements", "ScatterND", "TensorScatter")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    symbols = {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)} if case.op != "TensorScatter" else {(0, 2): "n"}
    check(case, want, rtol=rtol, atol=atol, symbols=symbols)


REDUCTIONS = {11: [None], 13: [None], 16: ["none", "add", "mul"], 18: ["none", "add", "mul", "max", "min"]}


def numbers(rng: np.random.Generator, shape: list[int], dtype: type) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize(("version", "reduction"), [(v, r) for v, many in REDUCTIONS.items() for r in many])
def test_scatter_elements_agrees_with_onnxruntime(version: int, reduction: str | None) -> None:
    for seed in range(5):
        rng = np.random.default_rng([seed, version])
        shape = [int(d) for d in rng.integers(1, 5, rng.integers(1, 4))]
        axis = int(rng.integers(-len(shape), len(shape)))
        places = [int(rng.integers(1, d + 1)) for d in shape]
        if reduction in (None, "none"):
            # Without a reduction, equal places are left open: each row gets different ones.
            places[axis] = min(places[axis], shape[axis])
            indices = np.argsort(rng.random([shape[axis] if i == axis % len(shape) else n
                                             for i, n in enumerate(places)]), axis)
            indices = np.take(indices, np.arange(places[axis]), axis)
        else:
            places[axis] = int(rng.integers(1, 7))
            indices = rng.integers(-shape[axis], shape[axis], places)
        dtype = rng.choice([np.float32, np.int64])
        case = Case("ScatterElements", version, [numbers(rng, shape, dtype), indices, numbers(rng, places, dtype)],
                    {"axis": axis, **({"reduction": reduction} if reduction else {})})
        named = {(0, axis % len(shape)): "n"}
        named.update({(i, a): f"u{a}" for i in (1, 2) for a in range(len(shape))})
        check(case, symbols=named)


@pytest.mark.parametrize(("version", "reduction"), [(v, r) for v, many in REDUCTIONS.items() for r in many])
def test_scatter_nd_agrees_with_onnxruntime(version: int, reduction: str | None) -> None:
    for seed in range(5):
        rng = np.random.default_rng([seed, version])
        shape = [int(d) for d in rng.integers(1, 5, rng.integers(1, 4))]
        depth = int(rng.integers(1, len(shape) + 1))
        lead = int(np.prod(shape[:depth]))
        count = int(rng.integers(1, lead + 1))
        flat = rng.permutation(lead)[:count] if reduction in (None, "none") else rng.integers(0, lead, count + 3)
        indices = np.stack(np.unravel_index(flat, shape[:depth]), -1)
        if rng.random() < 0.5:
            indices = indices - np.array(shape[:depth])
        dtype = rng.choice([np.float32, np.int64])
        updates = numbers(rng, [len(flat), *shape[depth:]], dtype)
        case = Case("ScatterND", version, [numbers(rng, shape, dtype), indices, updates],
                    {"reduction": reduction} if reduction else {})
        check(case, symbols={(1, 0): "k", (2, 0): "k", **{(0, a): f"d{a}" for a in range(depth)}})


def test_scatter_is_scatter_elements_of_old() -> None:
    inputs = [np.zeros((1, 4), np.float32), np.array([[1, 3]]), np.array([[1, 2]], np.float32)]
    for version in (9, 11):
        case, want = Case("Scatter", version, inputs, {"axis": 1}), [np.array([[0, 1, 0, 2]], np.float32)]
        check(case, want, symbols={(0, 0): "n", (1, 0): "n", (2, 0): "n"})
        check(case, want, symbols={(0, 1): "n"})


def test_narrow_floats_are_added_in_float32_and_rounded_once() -> None:
    # In bfloat16 alone, 256 + 1 + 1 stays 256.
    for dtype, big in ((ml_dtypes.bfloat16, 256), (np.float16, 2048)):
        data, updates = np.array([big], dtype), np.ones(4, dtype)
        case = Case("ScatterElements", 18, [data, np.zeros(4, np.int64), updates], {"reduction": "add"})
        check(case, [np.array([big + 4], dtype)])


def test_truth_values_are_added_as_or() -> None:
    case = Case("ScatterElements", 18, [np.array([False, True]), np.array([0, 1]), np.array([True, False])],
                {"reduction": "add"})
    check(case, [np.array([True, True])], lowers=False)


@pytest.mark.parametrize(("case", "says"), [
    (Case("ScatterElements", 16, [np.zeros(2), np.array([0]), np.zeros(1)], {"reduction": "max"}), "no reduction"),
    (Case("ScatterElements", 13, [np.zeros(2), np.array([0]), np.zeros(2)]), "axis 0 of indices and updates"),
    (Case("ScatterElements", 13, [np.zeros((2, 2)), np.zeros((1, 3), int), np.zeros((1, 3))]), "reach beyond"),
    (Case("ScatterND", 13, [np.zeros((2, 2)), np.array([[0]]), np.zeros((1, 3))]), "axis 1 of the updates"),
    (Case("ScatterND", 13, [np.zeros(2), np.array([[0, 0]]), np.zeros(1)]), "names 2 axes"),
    (Case("TensorScatter", 24, [np.zeros((1, 2, 3)), np.zeros((1, 4, 3))], {}), "has 4 places"),
    (Case("TensorScatter", 24, [np.zeros((1, 2, 3)), np.zeros((1, 1, 3))], {"axis": 0}), "batch axis"),
])
def test_what_does_not_fit_is_refused(case: Case, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        case.infer()


def test_indices_outside_are_an_error() -> None:
    with pytest.raises(RunError, match="not within"):
        Case("ScatterElements", 13, [np.zeros(2), np.array([2]), np.zeros(1)]).reference()
    with pytest.raises(RunError, match="not within"):
        Case("ScatterND", 13, [np.zeros(2), np.array([[-3]]), np.zeros(1)]).reference()
    with pytest.raises(RunError, match="written to 1"):
        Case("TensorScatter", 24, [np.zeros((1, 2, 1)), np.zeros((1, 2, 1)), np.array([1])]).reference()


def test_a_size_written_into_a_list_is_known() -> None:
    # How older exporters build shapes: a list of ones with the sizes scattered into it.
    model, facts = inferred("""
        s (float[n, 3] x) => (sizes, sizes2) {
          n = Shape<end = 1>(x)
          list = Constant<value_ints = [-1, 12, 7]>()
          two = Constant<value_ints = [2]>()
          sizes = ScatterElements(list, two, n)
          at = Constant<value = int64[1,1] {0}>()
          sizes2 = ScatterND(list, at, n)
        }""")
    assert [[str(d) for d in facts[o].value] for o in model.graph.outputs] == [["-1", "12", "n"], ["n", "12", "7"]]


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_tensor_scatter_is_its_definition(mode: str, axis: int) -> None:
    rng = np.random.default_rng(3)
    cache = rng.normal(size=(3, 4, 5)).astype(np.float32)
    shape = list(cache.shape)
    shape[axis] = 2
    update = rng.normal(size=shape).astype(np.float32)
    starts = np.array([0, 2, 1]) if mode == "linear" else np.array([3, 7, 4])
    want = cache.copy()
    for b in range(3):
        for s in range(2):
            at = [b, slice(None), slice(None)]
            source = [b, slice(None), slice(None)]
            at[axis] = (starts[b] + s) % cache.shape[axis]
            source[axis] = s
            want[tuple(at)] = update[tuple(source)]
    case = Case("TensorScatter", 24, [cache, update, starts], {"mode": mode, "axis": axis})
    check(case, [want], symbols={(0, 0): "b", (1, 0): "b", (2, 0): "b", (0, axis % 3): "m", (1, axis % 3): "s"})
