"""What runs natively in place of a reference rule answers as the rule does, to the last bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import gesher
from gesher.base.errors import RunError
from gesher.compiler import cpu, natives, toolchain
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph
from gesher.ops.core.ordering import non_max_suppression, unique
from gesher.ops.core.regions import max_roi_pool, roi_align

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def boxes_of(rng, images: int, count: int, centred: int) -> np.ndarray:
    """Boxes on a coarse grid: many share sides, some are the same, some have no area."""
    a, b = rng.integers(0, 12, (2, images, count, 2)) / np.float32(3)
    if centred:
        return np.concatenate([a, np.abs(b)], 2).astype(np.float32)
    return np.concatenate([a, b], 2).astype(np.float32)


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
@pytest.mark.parametrize("centred", [0, 1])
def test_boxes_that_stay(isa, centred):
    rng = np.random.default_rng(centred)
    kept = 0
    for images, classes, count, most, overlap, least in [
            (1, 1, 1, 5, 0.5, None), (2, 3, 50, 7, 0.3, 0.4), (1, 2, 300, 300, 0.0, None), (1, 1, 700, 40, 0.7, 0.1),
            (2, 1, 33, 0, 0.5, None), (1, 1, 40, 9, None, 0.5), (1, 2, 0, 3, 0.5, None), (1, 1, 60, 60, 1.0, -1.0)]:
        boxes = boxes_of(rng, images, count, centred)
        scores = (rng.integers(-3, 20, (images, classes, count)) / np.float32(20)).astype(np.float32)
        if count:
            for odd in (np.nan, -0.0, 0.0, np.inf, -np.inf):
                scores.reshape(-1)[rng.integers(scores.size)] = odd
            boxes.reshape(-1)[rng.integers(boxes.size)] = np.nan
        given = [np.int64([most]), None if overlap is None else np.float32([overlap]),
                 None if least is None else np.float32([least])]
        want = non_max_suppression(boxes, scores, *given, center_point_box=centred)
        got = natives._non_max_suppression(boxes, scores, *given, center_point_box=centred, isa=isa)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
        kept += len(got)
    assert kept > 100


def test_views_and_missing_limits():
    rng = np.random.default_rng(5)
    boxes, scores = boxes_of(rng, 1, 40, 0)[:, ::2], rng.random((1, 1, 40)).astype(np.float32)[:, :, 1::2]
    want = non_max_suppression(boxes, scores, np.int64([10]), center_point_box=0)
    np.testing.assert_array_equal(natives._non_max_suppression(boxes, scores, np.int64([10]), center_point_box=0), want)
    # Without a limit none is asked for.
    assert natives._non_max_suppression(boxes, scores, center_point_box=0).shape == (0, 3)


def test_other_types_are_left_to_the_rule():
    boxes, scores = np.zeros((1, 2, 4)), np.zeros((1, 1, 2))
    assert natives._non_max_suppression(boxes, scores, center_point_box=0) is None


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.uint64, np.int8,
                                   np.uint8, np.int32, np.bool_], ids=lambda t: t.__name__)
def test_rows_that_differ(isa, dtype):
    rng = np.random.default_rng(6)
    wide = rng.integers(0, 1 << 63, 300).astype(np.uint64).view(np.int64)
    for x, axis in ((rng.integers(-3, 4, 200), None), (wide, None), (rng.integers(0, 3, (60, 3)), 0),
                    (rng.integers(0, 2, (2, 30, 4)), 1), (rng.integers(0, 9, (5, 7)), -1),
                    (rng.integers(0, 3, (90, 11)) // 2 * rng.integers(0, 2, (90, 1)), 0), (np.zeros((0,)), None),
                    (np.zeros((3, 0)), 0), (np.zeros((0, 2)), 0), (np.ones((1, 1)), None)):
        with np.errstate(all="ignore"):
            x = x.astype(dtype)
        if x.size > 30 and x.dtype.kind in "fV":
            x.reshape(-1)[[3, 9, 17]] = np.nan, -0.0, np.nan
            x.reshape(-1)[[4, 8]] = np.inf, -np.inf
        for rising in (0, 1):
            for got, want in zip(natives._unique(x, axis=axis, sorted=rising, isa=isa), unique(x, axis=axis,
                                                                                            sorted=rising)):
                assert got.dtype == want.dtype and got.shape == want.shape
                assert got.tobytes() == want.tobytes()


def test_rows_that_are_left_to_the_rule():
    assert natives._unique(np.array(["a"], object), axis=None, sorted=1) is None
    assert natives._unique(np.zeros(2, np.complex64), axis=None, sorted=1) is None


def regions_of(rng, count: int, size: int) -> np.ndarray:
    """Regions inside, over the edges, beside the picture, of no extent and turned around; on halves and anywhere."""
    regions = rng.uniform(-4, size + 4, (count, 4)).astype(np.float32)
    regions[::3] = np.round(2 * regions[::3]) / 2
    regions[1::4, 2:] = regions[1::4, :2] + rng.uniform(0, 1.5 * size, regions[1::4, 2:].shape)
    regions[::5] += size * 2
    return regions.astype(np.float32)


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
@pytest.mark.parametrize("how", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_whose_samples_follow_from_their_size(isa, mode, how):
    rng = np.random.default_rng(3)
    for shape, out, scale, dtype in [
            ((2, 3, 17, 23), (7, 7), 1.0, np.float32), ((1, 1, 1, 1), (1, 2), 0.5, np.float32),
            ((3, 2, 40, 5), (3, 1), 0.7, np.float32), ((2, 5, 9, 33), (2, 3), 0.25, np.float16),
            ((1, 2, 6, 6), (2, 2), 1.0, ml_dtypes.bfloat16)]:
        x = rng.standard_normal(shape).astype(dtype)
        if dtype is np.float32 and x.size > 1:
            # (An infinity that a mean sees with the weight 0, too, is NaN by the rule; weights are added up here.)
            x.reshape(-1)[rng.integers(x.size, size=3)] = [np.nan, np.inf if mode == "max" else 1, -0.0]
        regions = (regions_of(rng, 40, max(shape[2:])) / scale).astype(dtype)
        at = {"mode": mode, "output_height": out[0], "output_width": out[1], "sampling_ratio": 0,
              "spatial_scale": scale, "coordinate_transformation_mode": how}
        batch = rng.integers(0, shape[0], len(regions))
        with np.errstate(all="ignore"):
            want = roi_align(x, regions, batch, **at)
        got = natives._roi_align(x, regions, batch, **at, isa=isa)
        assert got.dtype == want.dtype
        got, want = got.astype(np.float32), want.astype(np.float32)
        rounding = 1e-5 if dtype is np.float32 else 2e-3 if dtype is np.float16 else 1e-2
        near = {"rtol": rounding, "atol": rounding} if mode == "avg" else {"rtol": 0}
        np.testing.assert_allclose(got, want, **near)


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
def test_the_largest_of_regions(isa):
    rng = np.random.default_rng(4)
    for shape, out, scale, dtype in [
            ((2, 3, 17, 23), (7, 7), 1.0, np.float32), ((1, 1, 1, 1), (1, 2), 0.5, np.float32),
            ((3, 2, 40, 5), (3, 1), 0.7, np.float32), ((2, 5, 9, 33), (9, 40), 1.0, np.float16)]:
        x = rng.standard_normal(shape).astype(dtype)
        if dtype is np.float32 and x.size > 1:
            x.reshape(-1)[rng.integers(x.size, size=3)] = [np.nan, np.inf, -0.0]
        regions = regions_of(rng, 40, max(shape[2:])) / np.float32(scale)
        rois = np.concatenate([rng.integers(0, shape[0], (40, 1)), regions], 1).astype(dtype)
        want = max_roi_pool(x, rois, pooled_shape=out, spatial_scale=scale)
        got = natives._max_roi_pool(x, rois, pooled_shape=out, spatial_scale=scale, isa=isa)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.view(f"u{dtype().itemsize}"), want.view(f"u{dtype().itemsize}"))


def test_regions_that_are_left_to_the_rule():
    x, at = np.zeros((1, 1, 4, 4), np.float32), {"pooled_shape": [2, 2], "spatial_scale": 1.0}
    for roi in ([1, 0, 0, 2, 2], [-1, 0, 0, 2, 2], [0, 0, 0, np.nan, 2], [0, 0, 0, 1e30, 2]):
        assert natives._max_roi_pool(x, np.float32([roi]), **at) is None
    assert natives._max_roi_pool(x.astype(np.float64), np.float64([[0, 0, 0, 2, 2]]), **at) is None


@pytest.mark.parametrize("fed", [False, True])
def test_a_model_of_one_native_node_answers_as_its_rule_at_every_call(fed):
    """Known shapes go a short way, unless a number that is fed decides."""
    b = Graph({"": 21}, "boxes")
    limit = b.input("most", "int64", (1,)) if fed else b.constant(np.int64([3]))
    b.output(b.op("NonMaxSuppression", b.input("boxes", "float32", (1, "n", 4)),
                  b.input("scores", "float32", (1, 2, "n")), limit, b.constant(np.float32([0.4]))), "y")
    model = b.model()
    session, truth = gesher.session(model, "compiled"), Evaluator(model)
    rng = np.random.default_rng(3)
    for turn, count in enumerate((30, 30, 30, 5, 30, 0, 0)):
        feeds = {"boxes": boxes_of(rng, 1, count, 0), "scores": rng.random((1, 2, count)).astype(np.float32)}
        if fed:
            feeds["most"] = np.int64([turn])
        np.testing.assert_array_equal(session.run(feeds)["y"], truth.run(feeds)["y"])
    with pytest.raises(RunError):
        session.run({**feeds, "scores": rng.random((1, 2, 7)).astype(np.float32)})


def test_several_results_of_a_native_node():
    b = Graph({"": 21}, "unique")
    y, _, inverse, counts = b.op("Unique", b.input("x", "float32", (4, "n")), outputs=4, axis=1)
    for name, v in (("counts", counts), ("y", y), ("inverse", inverse)):
        b.output(v, name)
    model = b.model()
    session, truth = gesher.session(model, "compiled"), Evaluator(model)
    for seed in (1, 2, 3):
        x = np.random.default_rng(seed).integers(0, 2, (4, 30)).astype(np.float32)
        got, want = session.run({"x": x}), truth.run({"x": x})
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
            assert got[name].dtype == want[name].dtype
