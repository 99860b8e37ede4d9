"""GridSample and AffineGrid: onnx's cases, ONNX Runtime on random places, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("GridSample", "AffineGrid")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    if case.op == "AffineGrid":
        check(case, want, rtol=rtol, atol=max(atol, 1e-6), known=[1])
    else:
        check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols={(0, 0): "n", (1, 0): "n", (0, 2): "h", (1, 1): "k"})


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(48))
def test_grid_sample_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [16, 20, 22][seed % 3]
    spatial = 3 if version >= 20 and seed % 2 else 2
    mode = str(rng.choice(["nearest", "linear", "cubic"] if spatial == 2 else ["nearest", "linear"]))
    padding = str(rng.choice(["zeros", "border", "reflection"]))
    if mode == "cubic" and padding == "border":
        # One axis outside makes ONNX Runtime move the others too, as the text does not say.
        padding = "zeros"
    sizes, out = rng.integers(2, 6, spatial), rng.integers(1, 5, spatial)
    x = reals(rng, 2, 3, *sizes)
    grid = rng.uniform(-1.6, 1.6, (2, *out, spatial)).astype(np.float32)
    told = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode) if version == 16 else mode
    check(Case("GridSample", version, [x, grid], {"mode": told, "padding_mode": padding,
                                                  "align_corners": int(rng.integers(0, 2))}),
          rtol=1e-3, atol=1e-4, symbols={(0, 0): "n", (1, 0): "n", (0, 2): "h", (0, 3): "w", (1, 2): "k"})


def test_the_nearest_of_every_type_is_taken_as_it_is() -> None:
    grid = np.float32([[[[-0.5, -0.5], [0.5, -0.5], [9, 9]]]])
    for x, nothing in ((np.array([["a", "b"], ["c", "d"]], object), ""), (np.array([[1, 2], [3, 4]], np.int16), 0),
                       (np.array([[True, True], [True, True]]), False)):
        case = Case("GridSample", 20, [x[None, None], grid], {"mode": "nearest"})
        assert case.reference()[0].tolist() == [[[[x[0, 0], x[0, 1], nothing]]]]
        check(case, "nobody", lowers=x.dtype != object)


def test_integers_are_interpolated_and_cut() -> None:
    x = np.int32([[[[0, 10]]]])
    check(Case("GridSample", 20, [x, np.float32([[[[0.1, 0]]]])], {"align_corners": 1}), [np.int32([[[[5]]]])])


def test_far_places_are_thrown_back_again_and_again() -> None:
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5)
    grid = np.float32([[[[v, 0] for v in (-3, -5, 3, 4, 7)]]])
    check(Case("GridSample", 20, [x, grid], {"align_corners": 1, "padding_mode": "reflection"}),
          [np.float32([[[[4, 0, 0, 2, 0]]]])])
    one = np.float32([[[[7]]]])  # an axis of one element has only one place to go
    check(Case("GridSample", 20, [one, np.float32([[[[0.5, 3]]]])], {"align_corners": 1, "padding_mode": "reflection"}),
          [one])


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 2, 3, 4, 2)])
def test_affine_grid_agrees_with_onnxruntime(size: tuple, align: int, kind: type) -> None:
    n = len(size) - 2
    theta = reals(np.random.default_rng(0), size[0], n, n + 1).astype(kind)
    step = 2**-8 if kind is np.float16 else 1e-5
    check(Case("AffineGrid", 20, [theta, np.array(size)], {"align_corners": align}), rtol=step, atol=step, known=[1])


def test_the_grid_is_the_one_that_samples_a_picture_unchanged() -> None:
    x = reals(np.random.default_rng(1), 1, 2, 4, 5)
    theta = np.float32([[[1, 0, 0], [0, 1, 0]]])
    for align in (0, 1):
        grid = Case("AffineGrid", 20, [theta, np.array(x.shape)], {"align_corners": align}).reference()[0]
        np.testing.assert_allclose(Case("GridSample", 20, [x, grid], {"align_corners": align}).reference()[0], x, 1e-5)


@pytest.mark.parametrize(("op", "inputs", "attributes", "what"), [
    ("GridSample", [(1, 2, 3, 3), (1, 4, 4, 3)], {}, "the last axis of the grid"),
    ("GridSample", [(1, 2, 3, 3), (2, 4, 4, 2)], {}, "the batches of X and of the grid"),
    ("GridSample", [(1, 2, 3), (1, 4, 4, 2)], {}, "do not fit"),
    ("GridSample", [(1, 2, 3, 3), (1, 4, 4, 2)], {"mode": "area"}, "mode cannot be 'area'"),
    ("GridSample", [(1, 2, 3, 3), (1, 4, 4, 2)], {"padding_mode": "wrap"}, "padding_mode cannot be 'wrap'"),
])
def test_shapes_that_do_not_fit_are_refused(op: str, inputs: list, attributes: dict, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        Case(op, 20, [np.zeros(s, np.float32) for s in inputs], attributes).infer()


def test_a_grid_whose_size_comes_late_has_a_known_rank_and_does_not_lower() -> None:
    case = Case("AffineGrid", 20, [np.zeros((1, 2, 3), np.float32), np.array([1, 1, 2, 2])])
    facts, _ = case.infer()
    assert facts[0].shape == (None, None, None, 2)
    check(case, "nobody", lowers=False, exact=False)
