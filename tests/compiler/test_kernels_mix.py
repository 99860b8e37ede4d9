"""Elements mixed along an axis: the kernel, and Resize with filters against its reference rule."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded, scratch

import gesher
from gesher.compiler.kernels import meanings
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph

SOURCE = """
#include "gs_mix_f32.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const float* x, const int64_t* index, const float* weights, \\
                      float* y, float* scratch) { \\
    GsMix v = {s[0], s[1], s[2], s[3], s[4], x, index, weights, y, scratch}; kernel(&v, pool); }
KERNEL(plain, gs_mix_f32_plain)
KERNEL(fast, gs_mix_f32)
GS_EXPORT int64_t room(const int64_t* s) { GsMix v = {s[0], s[1], s[2], s[3], s[4]}; return gs_mix_f32_scratch(&v, 2); }
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_axes_of_all_kinds(isa, name):
    rng = np.random.default_rng(0)
    for outer, n, inner, count, taps in ((1, 7, 1, 5, 2), (33, 40, 1, 17, 4), (16, 9, 1, 30, 5), (3, 8, 1, 1, 1),
                                         (2, 9, 3, 4, 3), (3, 20, 50, 7, 4), (2, 5, 64, 9, 2), (40, 31, 1, 70, 3)):
        x = rng.standard_normal((outer, n, inner)).astype(np.float32)
        x[0, n // 2, 0] = np.nan
        index = rng.integers(0, n, (count, taps))
        weights = rng.standard_normal((count, taps)).astype(np.float32)
        sizes = np.array([outer, n, inner, count, taps])
        y = guarded(np.zeros((outer, count, inner), np.float32))
        room = scratch(call(SOURCE, isa, "room", sizes))
        call(SOURCE, isa, name, sizes, guarded(x), guarded(index), guarded(weights), y, room, threads=1 + outer % 2)
        np.testing.assert_allclose(y, meanings.mixed(x, index, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_pictures_made_smaller(mode, antialias):
    rng = np.random.default_rng(1)
    for shape, scales, more in (((1, 3, 40, 37), (1, 1, 0.5, 0.35), {}), ((2, 5, 20, 21), (1, 1, 0.7, 2), {}),
                                ((1, 20, 20, 3), (1, 0.4, 0.5, 1), {"exclude_outside": int(mode == "cubic")}),
                                ((1, 2, 30, 30), (1, 1, 0.2, 0.3), {"coordinate_transformation_mode":
                                                                               "align_corners"})):
        for names in (shape, tuple(f"d{i}" for i in range(4))):
            b = Graph({"": 22})
            fixed = isinstance(names[0], int)
            sizes = [int(d * s) for d, s in zip(shape, scales)]
            at = (None, np.float32(scales)) if fixed else (None, None, np.int64(sizes[2:]))
            over = {} if fixed else {"axes": [2, 3]}
            b.output(b.op("Resize", b.input("x", "float", names), *at, mode=mode, antialias=antialias, **over, **more),
                     "y")
            model, feeds = b.model(), {"x": rng.standard_normal(shape).astype(np.float32)}
            with gesher.session(model, "compiled", threads=1) as session:
                got = session.run(feeds)["y"]
            np.testing.assert_allclose(got, Evaluator(model).run(feeds)["y"], rtol=1e-4, atol=1e-4)
