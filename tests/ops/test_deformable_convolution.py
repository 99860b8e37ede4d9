"""DeformConv: onnx's cases, a loop over every element, and what it has in common with Conv."""

import itertools

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("DeformConv")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    names = {(i, 0): "n" for i in (0, 2, 4) if i < len(case.inputs) and case.inputs[i] is not None}
    check(case, want, rtol=rtol, atol=max(atol, 1e-5), symbols=names)


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def drawn(rng: np.random.Generator, rank: int) -> tuple[list, dict, list]:
    """Inputs, attributes, and the spatial sizes of the output."""
    group, shared = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    c, m = 2 * group * shared, 2 * group
    kernel, strides, dilations = ([int(v) for v in rng.integers(1, 3, rank)] for _ in range(3))
    pads = [int(v) for v in rng.integers(0, 2, 2 * rank)]
    sizes = [d * (k - 1) + 1 + int(rng.integers(1, 4)) for k, d in zip(kernel, dilations)]
    out = [(s + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
           for i, s in enumerate(sizes)]
    taps = int(np.prod(kernel))
    inputs = [reals(rng, 2, c, *sizes), reals(rng, m, c // group, *kernel),
              1.5 * reals(rng, 2, shared * taps * rank, *out), reals(rng, m) if rng.random() < 0.5 else None,
              rng.random((2, shared * taps, *out)).astype(np.float32) if rng.random() < 0.5 else None]
    at = {"group": group, "offset_group": shared, "strides": strides, "dilations": dilations, "pads": pads}
    return inputs, at, out


def one_by_one(inputs: list, group: int, offset_group: int, strides: list, dilations: list, pads: list, out: list
               ) -> np.ndarray:
    """An element at a time, in double precision."""
    x, w, offset, bias, mask = (None if v is None else v.astype(np.float64) for v in inputs)
    rank, kernel = w.ndim - 2, w.shape[2:]
    taps = list(itertools.product(*map(range, kernel)))
    y = np.zeros((len(x), w.shape[0], *out))
    for n, m, *o in itertools.product(range(len(x)), range(w.shape[0]), *map(range, out)):
        total = 0.0 if bias is None else bias[m]
        for ci in range(w.shape[1]):
            c = (m // (w.shape[0] // group)) * w.shape[1] + ci
            shared = c // (x.shape[1] // offset_group)
            for k, tap in enumerate(taps):
                place = [o[i] * strides[i] - pads[i] + tap[i] * dilations[i]
                         + offset[(n, (shared * len(taps) + k) * rank + i, *o)] for i in range(rank)]
                value = 0.0
                for corner in itertools.product((0, 1), repeat=rank):
                    low = [int(np.floor(p)) + s for p, s in zip(place, corner)]
                    if all(0 <= a < b for a, b in zip(low, x.shape[2:])):
                        value += x[(n, c, *low)] * np.prod([1 - abs(p - a) for p, a in zip(place, low)])
                total += value * w[(m, ci, *tap)] * (1 if mask is None else mask[(n, shared * len(taps) + k, *o)])
        y[(n, m, *o)] = total
    return y.astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_every_element_is_the_sum_of_its_moved_taps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, attributes, out = drawn(rng, rank=[2, 2, 1, 3][seed % 4])
    names = {(i, 0): "n" for i in (0, 2, 4) if inputs[i] is not None}
    check(Case("DeformConv", [19, 22][seed % 2], inputs, attributes), [one_by_one(inputs, out=out, **attributes)],
          rtol=1e-3, atol=1e-4, symbols=names)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_without_offsets_it_is_a_convolution(dtype: str) -> None:
    rng = np.random.default_rng(1)
    x, w = reals(rng, 2, 4, 6, 5).astype(dtype), reals(rng, 6, 2, 3, 2).astype(dtype)
    at = {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 1]}
    want = Case("Conv", 22, [x, w], at).reference()[0]
    offset = np.zeros((2, 12, *want.shape[2:]), dtype)
    step = 2**-9 if dtype == "float16" else 1e-5
    check(Case("DeformConv", 22, [x, w, offset], at), [want], rtol=step, atol=step,
          symbols={(0, 0): "n", (2, 0): "n"})


@pytest.mark.parametrize(("change", "attributes", "what"), [
    ({0: (1, 3, 4, 4)}, {}, "x has 3 channels, the weight takes 2"),
    ({2: (1, 6, 3, 3)}, {}, "axis 1 of the offsets"),
    ({2: (1, 8, 3, 2)}, {}, "axis 3 of the offsets"),
    ({4: (1, 3, 3, 3)}, {}, "axis 1 of the mask"),
    ({}, {"offset_group": 3}, "2 channels do not divide into 3 groups"),
])
def test_shapes_that_do_not_fit_are_refused(change: dict, attributes: dict, what: str) -> None:
    shapes: list = [(1, 2, 4, 4), (1, 2, 2, 2), (1, 8, 3, 3), None, None]
    for i, shape in change.items():
        shapes[i] = shape
    with pytest.raises(ModelError, match=what):
        Case("DeformConv", 19, [None if s is None else np.zeros(s, np.float32) for s in shapes], attributes).infer()
