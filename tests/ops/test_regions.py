"""RoiAlign and MaxRoiPool: onnx's cases, ONNX Runtime on random regions, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("RoiAlign", "MaxRoiPool")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-5), symbols={(0, 0): "n", (1, 0): "r", (2, 0): "r"})


def regions(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """(x1, y1, x2, y2), some reaching outside the picture."""
    first, extent = rng.uniform(-3, 6, (count, 2)), rng.uniform(0.2, 9, (count, 2))
    return (np.concatenate([first, first + extent], 1) / scale).astype(np.float32)


@pytest.mark.parametrize("seed", range(24))
def test_roi_align_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version, scale = [10, 16][seed % 2], float(rng.choice([1.0, 0.5, 0.25]))
    x = rng.standard_normal((2, 3, 8, 7)).astype(np.float32)
    rois, batch = regions(rng, 4, scale), rng.integers(0, 2, 4)
    attributes = {"mode": str(rng.choice(["avg", "max"])), "output_height": int(rng.integers(1, 4)),
                  "output_width": int(rng.integers(1, 4)), "sampling_ratio": int(rng.integers(0, 4)),
                  "spatial_scale": scale}
    if version >= 16:
        attributes["coordinate_transformation_mode"] = str(rng.choice(["half_pixel", "output_half_pixel"]))
    check(Case("RoiAlign", version, [x, rois, batch], attributes), rtol=1e-3, atol=1e-4,
          symbols={(0, 0): "n", (1, 0): "r", (2, 0): "r", (0, 2): "h"}, lowers=attributes["sampling_ratio"] > 0)


@pytest.mark.parametrize("seed", range(12))
def test_max_roi_pool_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = float(rng.choice([1.0, 0.5]))
    x = rng.standard_normal((2, 3, 8, 7)).astype(np.float32)
    rois = np.concatenate([rng.integers(0, 2, (3, 1)), np.abs(regions(rng, 3, scale))], 1).astype(np.float32)
    check(Case("MaxRoiPool", 1, [x, rois], {"pooled_shape": [int(v) for v in rng.integers(1, 4, 2)],
                                            "spatial_scale": scale}), symbols={(0, 0): "n", (1, 0): "r"}, lowers=False)


def test_a_region_of_nothing_gives_zeros() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    roi = np.float32([[2, 2, 2, 2]])
    at = {"coordinate_transformation_mode": "half_pixel", "output_height": 2, "output_width": 2}
    check(Case("RoiAlign", 16, [x, roi, np.array([0])], at), [np.zeros((1, 1, 2, 2), np.float32)], lowers=False)


def test_narrow_floats_are_rounded_once() -> None:
    rng = np.random.default_rng(3)
    x, roi = rng.standard_normal((1, 1, 6, 6)).astype(np.float16), np.float16([[0.5, 1, 4, 5]])
    at = {"sampling_ratio": 2, "output_height": 2, "output_width": 3}
    want = Case("RoiAlign", 16, [x.astype(np.float32), roi.astype(np.float32), np.array([0])], at).reference()
    check(Case("RoiAlign", 16, [x, roi, np.array([0])], at), [want[0].astype(np.float16)], rtol=2**-10, atol=2**-11)


@pytest.mark.parametrize(("op", "shapes", "attributes", "what"), [
    ("RoiAlign", [(1, 2, 3, 3), (2, 5), (2,)], {}, "the numbers of a region"),
    ("RoiAlign", [(1, 2, 3, 3), (2, 4), (3,)], {}, "the regions and batch_indices"),
    ("RoiAlign", [(1, 2, 3), (2, 4), (2,)], {}, "X is \\(N,C,H,W\\)"),
    ("RoiAlign", [(1, 2, 3, 3), (2, 4), (2,)], {"mode": "sum"}, "mode cannot be 'sum'"),
    ("MaxRoiPool", [(1, 2, 3, 3), (2, 5)], {"pooled_shape": [2]}, "pooled_shape"),
])
def test_shapes_that_do_not_fit_are_refused(op: str, shapes: list, attributes: dict, what: str) -> None:
    inputs = [np.zeros(s, np.int64 if i == 2 else np.float32) for i, s in enumerate(shapes)]
    with pytest.raises(ModelError, match=what):
        Case(op, 22, inputs, attributes).infer()
