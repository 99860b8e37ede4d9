"""Windows put back into a picture: every kind of overlap, one axis and two, and Col2Im as it uses the kernel."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

import gesher
from gesher.compiler.kernels import meanings
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph

SOURCE = """
#include "gs_col2im.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const float* x, float* y) { \\
    GsCol2Im v = {s[0], {s[1], s[2]}, {s[3], s[4]}, {s[5], s[6]}, {s[7], s[8]}, {s[9], s[10]}, {s[11], s[12]}, x, y}; \\
    kernel(&v, pool); }
KERNEL(plain, gs_col2im_plain)
KERNEL(fast, gs_col2im)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
# Windows, picture, kernel, strides, dilations, pads before: also pictures that cut windows off, or reach beyond them.
CASES = [((5, 7), (7, 9), (3, 3), (1, 1), (1, 1), (0, 0)), ((28, 37), (28, 37), (3, 3), (1, 1), (1, 1), (1, 1)),
         ((1, 40), (1, 44), (1, 5), (1, 1), (1, 1), (0, 0)), ((4, 6), (9, 13), (2, 3), (2, 2), (1, 1), (0, 0)),
         ((6, 5), (12, 33), (3, 2), (2, 1), (1, 30), (1, 2)), ((3, 4), (8, 20), (2, 2), (3, 6), (2, 1), (0, 1)),
         ((2, 50), (3, 16), (2, 2), (1, 1), (1, 1), (0, 20)), ((7, 3), (5, 2), (3, 3), (1, 1), (1, 1), (2, 2))]


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_overlaps_are_added_up(isa, name):
    rng = np.random.default_rng(0)
    for windows, out, kernel, strides, dilations, pads in CASES:
        for planes in (0, 1, 3):
            x = rng.standard_normal((planes, *kernel, *windows)).astype(np.float32)
            y = guarded(np.full((planes, *out), 7, np.float32))
            sizes = np.int64([planes, *windows, *out, *kernel, *strides, *dilations, *pads])
            call(SOURCE, isa, name, sizes, guarded(x), y, threads=2)
            np.testing.assert_allclose(y, meanings.put_back(x, out, strides, dilations, pads), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_operator_answers_as_its_rule(dtype):
    rng = np.random.default_rng(1)
    for shape, image, block, more in [
            ((2, 12, 25), [7, 8], [2, 2], {"pads": [0, 0, 0, 0], "dilations": [2, 3]}),
            ((1, 18, 16), [7, 7], [3, 3], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ((1, 10, 40), [44], [5], {}), ((3, 8, 27), [4, 4, 4], [2, 2, 2], {})]:
        b = Graph({"": 21}, "col2im")
        x = rng.standard_normal(shape).astype(dtype)
        y = b.op("Col2Im", b.input("x", dtype, shape), b.constant(np.int64(image)), b.constant(np.int64(block)), **more)
        b.output(y, "y")
        model = b.model()
        want = Evaluator(model).run({"x": x})["y"]
        got = gesher.session(model, "compiled").run({"x": x})["y"]
        np.testing.assert_allclose(got, want, rtol=2e-3 if dtype == "float16" else 1e-5, atol=1e-3)
        assert got.dtype == want.dtype
