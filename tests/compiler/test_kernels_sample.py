"""Pictures seen at any places: the kernel, and the operators that use it against their reference rules."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded, scratch

import gesher
from gesher.base.dtypes import FLOAT, INT64
from gesher.base.errors import RunError
from gesher.compiler.kernels import meanings
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph

SOURCE = """
#include "gs_sample_f32.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const float* x, const int64_t* rows, const int32_t* index, \\
                      const float* weights, int64_t largest, float* y, float* scratch) { \\
    GsSample v = {s[0], s[1], s[2], s[3], s[4], s[5], x, rows, index, weights, (int)largest, y, scratch}; \\
    kernel(&v, pool); }
KERNEL(plain, gs_sample_f32_plain)
KERNEL(fast, gs_sample_f32)
GS_EXPORT int64_t room(const int64_t* s) {
  GsSample v = {s[0], s[1], s[2], s[3], s[4], s[5]};
  return gs_sample_f32_scratch(&v, 2);
}
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_places_of_all_kinds(isa, name):
    rng = np.random.default_rng(0)
    for batches, pictures, C, M, taps, places, own in (
            (2, 2, 1, 30, 4, 50, True), (2, 2, 16, 35, 4, 70, True), (3, 3, 19, 33, 1, 129, True),
            (5, 2, 9, 40, 16, 49, False), (1, 1, 35, 5000, 4, 7, True), (4, 3, 8, 6, 3, 64, False),
            (1, 1, 40, 50, 2, 1, True)):
        x = rng.standard_normal((pictures, C, M)).astype(np.float32)
        x[0, 0, M // 2], x[-1, -1, 0] = np.nan, np.inf
        rows = None if own else rng.integers(0, pictures, batches)
        index = rng.integers(-2, M + 2, (batches, taps, places)).astype(np.int32)
        weights = rng.standard_normal(index.shape).astype(np.float32)
        sizes = np.array([batches, pictures, C, M, taps, places])
        room = scratch(call(SOURCE, isa, "room", sizes))
        for largest in (False, True):
            y = guarded(np.zeros((batches, C, places), np.float32))
            call(SOURCE, isa, name, sizes, guarded(x), guarded(rows), guarded(index), guarded(weights), int(largest), y,
                 room, threads=1 + batches % 2)
            with np.errstate(invalid="ignore"):
                want = meanings.sampled(x, rows, index, weights, largest)
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


def agrees(op, feeds, inputs, *, nearest=False, opset=22, **attributes):
    """Compiled as by the reference rule, for given names of the inputs' sizes."""
    b = Graph({"": opset})
    b.output(b.op(op, *(b.input(name, dtype, shape) for name, dtype, shape in inputs), **attributes), "y")
    model = b.model()
    with gesher.session(model, "compiled", threads=1) as session:
        got = session.run(feeds)["y"]
    want = Evaluator(model).run(feeds)["y"]
    if nearest:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample(mode, padding):
    rng = np.random.default_rng(1)
    for channels, size, out, corners in ((1, (7, 9), (5, 6), 0), (20, (5, 11), (9, 4), 1), (6, (1, 3), (3, 3), 1)):
        x = rng.standard_normal((2, channels, *size)).astype(np.float32)
        grid = rng.uniform(-1.4, 1.4, (2, *out, 2)).astype(np.float32)
        grid[0, 0, 0] = 0, -1
        if padding == "zeros":
            x[0, 0, 0, 0] = np.nan
        agrees("GridSample", {"x": x, "grid": grid},
               [("x", FLOAT, ("n", channels, "h", "w")), ("grid", FLOAT, ("n", "oh", "ow", 2))],
               nearest=mode == "nearest", mode=mode, padding_mode=padding, align_corners=corners)


def test_grid_sample_of_volumes_and_of_whole_numbers():
    rng = np.random.default_rng(2)
    grid = rng.uniform(-1.2, 1.2, (1, 3, 4, 5, 3)).astype(np.float32)
    for dtype in (np.float32, np.int64, np.float64, np.float16, np.uint8):
        x = rng.integers(0, 99, (1, 9, 4, 5, 6)).astype(dtype)
        for mode in ("nearest", "linear"):
            b = Graph({"": 22})
            b.output(b.op("GridSample", b.input("x", x.dtype.name, x.shape), b.input("grid", "float", grid.shape),
                          mode=mode), "y")
            model, feeds = b.model(), {"x": x, "grid": grid}
            with gesher.session(model, "compiled", threads=1) as session:
                got, want = session.run(feeds)["y"], Evaluator(model).run(feeds)["y"]
            np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=1e-3, atol=1e-4 if x.dtype.kind ==
                                       "f" else 1)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align(mode):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 18, 12, 15)).astype(np.float32)
    rois = rng.uniform(-3, 18, (7, 4)).astype(np.float32)
    inputs = [("x", FLOAT, ("n", 18, "h", "w")), ("rois", FLOAT, ("r", 4)), ("which", INT64, ("r",))]
    feeds = {"x": x, "rois": rois, "which": rng.integers(0, 3, 7)}
    for how, height, width, samples in (("half_pixel", 3, 4, 2), ("output_half_pixel", 1, 5, 3)):
        agrees("RoiAlign", feeds, inputs, mode=mode, output_height=height, output_width=width, sampling_ratio=samples,
               spatial_scale=0.5, coordinate_transformation_mode=how)


def test_a_picture_that_is_not_there_is_an_error():
    b = Graph({"": 22})
    x, rois = b.input("x", "float", (2, 8, 6, 6)), b.input("rois", "float", (1, 4))
    b.output(b.op("RoiAlign", x, rois, b.input("which", "int64", (1,)), sampling_ratio=2), "y")
    feeds = {"x": np.ones((2, 8, 6, 6), np.float32), "rois": np.float32([[0, 0, 4, 4]]), "which": np.int64([2])}
    with gesher.session(b.model(), "compiled", threads=1) as session, pytest.raises(RunError, match="out of bounds"):
        session.run(feeds)


def test_deformable_convolution():
    rng = np.random.default_rng(4)
    for group, shared, masked in ((1, 1, False), (2, 2, True), (1, 4, True)):
        x = rng.standard_normal((2, 8, 9, 10)).astype(np.float32)
        x[0, 0, 0, 0] = np.nan
        w = rng.standard_normal((6, 8 // group, 3, 2)).astype(np.float32)
        offset = rng.uniform(-3, 3, (2, shared * 12, 5, 6)).astype(np.float32)
        feeds = {"x": x, "w": w, "offset": offset}
        inputs = [("x", FLOAT, ("n", 8, "h", "w")), ("w", FLOAT, w.shape), ("offset", FLOAT, ("n", shared * 12, 5, 6))]
        if masked:
            feeds["mask"] = rng.random((2, shared * 6, 5, 6)).astype(np.float32)
            inputs.append(("mask", FLOAT, ("n", shared * 6, 5, 6)))
        b = Graph({"": 22})
        held = {name: b.input(name, dtype, shape) for name, dtype, shape in inputs}
        b.output(b.op("DeformConv", held["x"], held["w"], held["offset"], None, held.get("mask"), group=group,
                      offset_group=shared, strides=[2, 2], pads=[1, 1, 1, 1]), "y")
        model = b.model()
        with gesher.session(model, "compiled", threads=1) as session:
            got = session.run(feeds)["y"]
        np.testing.assert_allclose(got, Evaluator(model).run(feeds)["y"], rtol=1e-3, atol=1e-4)
