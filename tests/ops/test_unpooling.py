"""MaxUnpool and Col2Im: onnx's cases, ONNX Runtime on random attributes, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("MaxUnpool", "Col2Im")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    known = [i for i in (1, 2) if i < len(case.inputs) and (case.op == "Col2Im" or i == 2)]
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), known=known,
          symbols={(0, 0): "n"} if case.op == "Col2Im" else None)


@pytest.mark.parametrize("seed", range(12))
def test_unpooling_undoes_pooling_as_onnxruntime_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    kernel = [int(k) for k in rng.integers(1, 4, rank)]
    at = {"kernel_shape": kernel, "strides": kernel, "pads": [int(rng.integers(0, k)) for k in kernel + kernel]}
    # Sizes that windows fill exactly, so that the shape pooled is the one that comes back.
    sizes = [k * int(rng.integers(2, 4)) - low - high for k, low, high in zip(kernel, at["pads"], at["pads"][rank:])]
    x = rng.permutation(int(np.prod(sizes)) * 2).astype(np.float32).reshape(1, 2, *sizes) + 1
    y, places = Case("MaxPool", 12, [x], at, 2).reference()
    case = Case("MaxUnpool", int(rng.choice([9, 11])), [y, places], at)
    check(case, symbols={(0, 2): "h", (1, 2): "h"})
    back = case.reference()[0]
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[back > 0], x[back > 0])


def test_a_larger_output_shape_leaves_the_indices_where_they_count() -> None:
    x, places = np.float32([[[[1, 2], [3, 4]]]]), np.array([[[[5, 7], [13, 15]]]])
    want = np.zeros((1, 1, 5, 6), np.float32)
    want[0, 0, 1, 1], want[0, 0, 1, 3], want[0, 0, 3, 1], want[0, 0, 3, 3] = 1, 2, 3, 4
    check(Case("MaxUnpool", 11, [x, places, np.array(want.shape)], {"kernel_shape": [2, 2], "strides": [2, 2]}), [want],
          known=[2])


def test_indices_outside_are_refused() -> None:
    with pytest.raises(ModelError, match="indices run from 16 to 16"):
        Case("MaxUnpool", 11, [np.ones((1, 1, 1, 1), np.float32), np.array([[[[16]]]])],
             {"kernel_shape": [2, 2]}).reference()


def one_by_one(x: np.ndarray, image: list, block: list, counts: list, strides: list, dilations: list, pads: list
               ) -> np.ndarray:
    """Col2Im, an element at a time."""
    columns = x.reshape(len(x), -1, *block, *counts)
    y = np.zeros((len(x), columns.shape[1], *image), x.dtype)
    for tap in np.ndindex(*block):
        for window in np.ndindex(*counts):
            place = [w * s - p + t * d for w, s, p, t, d in zip(window, strides, pads, tap, dilations)]
            if all(0 <= at < size for at, size in zip(place, image)):
                y[(..., *place)] += columns[(..., *tap, *window)]
    return y


@pytest.mark.parametrize("seed", range(16))
def test_col2im_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = 2 + seed % 2
    block, strides, dilations = ([int(v) for v in rng.integers(1, 4, rank)] for _ in range(3))
    pads = [int(v) for v in rng.integers(0, 2, 2 * rank)]
    reach = [d * (k - 1) + 1 for k, d in zip(block, dilations)]
    image = [r + int(rng.integers(0, 5)) for r in reach]
    counts = [(d + pads[i] + pads[rank + i] - reach[i]) // strides[i] + 1 for i, d in enumerate(image)]
    x = rng.standard_normal((2, 3 * int(np.prod(block)), int(np.prod(counts)))).astype(np.float32)
    # In three dimensions, pads that differ make ONNX Runtime put elements elsewhere.
    want = "onnxruntime" if rank == 2 else [one_by_one(x, image, block, counts, strides, dilations, pads)]
    check(Case("Col2Im", 18, [x, np.array(image), np.array(block)], {"strides": strides, "dilations": dilations,
                                                                     "pads": pads}), want, known=[1, 2],
          symbols={(0, 0): "n"})


def test_blocks_of_integers_add_up_in_the_reference() -> None:
    x = np.arange(1, 9, dtype=np.int32).reshape(1, 2, 4)
    check(Case("Col2Im", 18, [x, np.array([1, 5]), np.array([1, 2])]), [np.int32([[[[1, 7, 9, 11, 8]]]])], known=[1, 2],
          lowers=False)


@pytest.mark.parametrize(("op", "inputs", "attributes", "what"), [
    ("MaxUnpool", [np.zeros((1, 1, 2), np.float32), np.zeros((1, 1, 3), np.int64)], {"kernel_shape": [2]}, "axis 2"),
    ("MaxUnpool", [np.zeros((1, 1, 2), np.float32), np.zeros((1, 1, 2), np.int64)], {"kernel_shape": [2, 2]},
     "the kernel has 2"),
    ("Col2Im", [np.zeros((1, 5, 4), np.float32), np.array([4, 4]), np.array([2, 2])], {}, "do not divide into blocks"),
    ("Col2Im", [np.zeros((1, 4, 4), np.float32), np.array([4, 4]), np.array([2, 2])], {}, "the blocks given: |differ"),
])
def test_shapes_that_do_not_fit_are_refused(op: str, inputs: list, attributes: dict, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        Case(op, 22, inputs, attributes).infer(known=[1, 2] if op == "Col2Im" else [])
