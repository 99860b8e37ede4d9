"""Elements taken along neighbouring axes: the kernel, where it is found, and Resize to the nearest as it uses it."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

import gesher
from gesher.base.dtypes import FLOAT, INT64, UINT8
from gesher.compiler.kernels import meanings
from gesher.compiler.segment import compile_exprs
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph
from gesher.primitives import Builder
from gesher.symbolic import sym

SOURCE = """
#include "gs_nearest.h"
static void follow(void* context, float* y, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                   int64_t columns) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) y[i * ldc + j] += (float)(batch * 100 + i * 10 + j);
}
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const int64_t* rows, const int64_t* columns, const void* x, \\
                      void* y, int64_t after) { \\
    GsNearest v = {s[0], s[1], s[2], s[3], s[4], s[5], rows, columns, x, y, after ? follow : 0}; kernel(&v, pool); }
KERNEL(plain, gs_nearest_plain)
KERNEL(fast, gs_nearest)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_rows_and_columns_are_taken(isa, name):
    rng = np.random.default_rng(0)
    for inner, dtype in ((1, np.uint8), (1, np.int16), (1, np.float32), (1, np.float64), (3, np.float32),
                         (16, np.float32), (8, np.float32), (4, np.float32)):
        for H, W, rows, columns in ((5, 7, np.arange(10) // 2, np.arange(14) // 2), (1, 40, None, np.arange(80) // 2),
                                    (4, 9, np.arange(12) // 3, np.arange(27) // 3),
                                    (6, 5, np.int64([5, 0, 0, 3]), None),
                                    (9, 33, rng.integers(0, 9, 4), rng.integers(0, 33, 66))):
            x = rng.integers(0, 99, (3, H, W, inner)).astype(dtype)
            want = meanings.nearest(x, rows, columns)
            y = guarded(np.zeros(want.shape, dtype))
            sizes = np.array([3, H, W, *want.shape[1:3], inner * x.itemsize], np.int64)
            follows = inner == 1 and dtype is np.float32
            held = [None if i is None else guarded(np.ascontiguousarray(i)) for i in (rows, columns)]
            call(SOURCE, isa, name, sizes, *held, guarded(x), y, int(follows), threads=2 if H > 5 else 1)
            if follows:
                i, j = np.arange(want.shape[1]), np.arange(want.shape[2])
                want = want + (np.arange(3)[:, None, None] * 100 + i[:, None] * 10 + j)[..., None]
            assert np.array_equal(y, want)


def test_it_is_found_where_places_are_surely_inside():
    p = Builder()
    n = sym("n")
    x, places = p.input("x", FLOAT, (2, 3, 40, 50)), p.input("places", INT64, (60,))
    free = p.input("free", FLOAT, (2, n, 50))

    def kernels(inputs, root):
        return [s.kernel.function for s in compile_exprs(inputs, [root]).program.all_steps() if hasattr(s, "kernel")]

    def constant(*values):
        return p.constant(np.int64(values))

    backwards = p.gather(x, constant(*range(39, -1, -1)), 2)
    assert kernels([x], p.gather(backwards, constant(*range(50)), 3)) == ["gs_nearest"]
    assert kernels([x], p.gather(p.gather(x, constant(0, 39), 1 + 1), constant(*[49] * 99), 3)) == ["gs_nearest"]
    # Data, and what counts from the end.
    assert not kernels([x, places], p.gather(x, places, 3))
    assert not kernels([x], p.gather(x, constant(*[-1] * 60), 3))
    twice = p.iota((2 * n,), 0, INT64) / 2
    assert kernels([free], p.gather(p.gather(free, twice, 1), constant(*range(50)), 2)) == ["gs_nearest"]
    assert not kernels([free], p.gather(free, twice, 1))


@pytest.mark.parametrize("dtype", [FLOAT, UINT8], ids=lambda t: t.name)
@pytest.mark.parametrize(("scales", "attributes"), [
    ((2, 2), {}), ((2, 2), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}), ((3, 2), {}),
    ((0.5, 1.7), {}), ((2, 2), {"coordinate_transformation_mode": "align_corners"}),
    ((2, 2), {"nearest_mode": "ceil"})])
def test_resize_to_the_nearest(dtype, scales, attributes):
    for shape in ((1, 3, 21, 30), (2, 5, "h", "w")):
        if "h" in shape and scales[1] == 1.7:
            continue    # its sizes are no expressions
        b = Graph({"": 18})
        x = b.input("x", dtype, shape)
        y = b.op("Resize", x, None, np.float32([1, 1, *scales]), mode="nearest", **attributes)
        b.output(b.op("Relu", y) if dtype is FLOAT else y, "y")
        model = b.model()
        fed = {"x": np.random.default_rng(1).integers(0, 99, [{"h": 21, "w": 30}.get(d, d) for d in shape]).astype(
            dtype.numpy)}
        with gesher.session(model, "compiled", threads=1) as session:
            np.testing.assert_array_equal(session.run(fed)["y"], Evaluator(model).run(fed)["y"])
