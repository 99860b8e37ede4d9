"""Places of extremes and running sums: lengths around a vector's, NaN and equals, every option, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.base import dtypes
from gesher.base.dtypes import FLOAT
from gesher.compiler.kernels import meanings
from gesher.compiler.segment import compile_exprs
from gesher.primitives import Builder, evaluate

SOURCE = """
#include "gs_along_f32.h"
#include "gs_argmax_f64.h"
#define CALL(name) GS_EXPORT void name(GsPool* pool, const int64_t* how, const float* x, int64_t* place, float* y) { \\
  GsAlong a = {.outer = how[0], .n = how[1], .inner = how[2], .x = x, .place = place, .y = y, \\
               .smallest = (int)how[3], .last = (int)how[4], .exclusive = (int)how[5], \\
               .reverse = (int)how[6]}; gs_##name(&a, pool); }
#define DOUBLE(name) GS_EXPORT void name(GsPool* pool, const int64_t* how, const double* x, int64_t* place) { \\
  GsArgMaxF64 a = {how[0], how[1], how[2], x, place, (int)how[3], (int)how[4]}; gs_##name(&a, pool); }
DOUBLE(argmax_f64) DOUBLE(argmax_f64_plain)
CALL(argmax_f32) CALL(argmax_f32_plain) CALL(cumsum_f32) CALL(cumsum_f32_plain)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
SHAPES = [(1, 1, 1), (3, 5, 1), (2, 16, 1), (2, 33, 1), (1, 257, 1), (2, 3, 7), (1, 20, 64), (2, 9, 130), (1, 4, 700),
          (0, 3, 2), (2, 3, 0)]


@isas
@pytest.mark.parametrize("name", ["argmax_f32", "argmax_f32_plain", "argmax_f64", "argmax_f64_plain"])
def test_where_extremes_stand(isa, name):
    rng = np.random.default_rng(1)
    dtype, rest = (np.float64, ()) if "f64" in name else (np.float32, (None,))
    for shape in SHAPES:
        for odd in ("none", "equal", "nan", "infinite"):
            x = rng.standard_normal(shape).astype(dtype)
            if odd == "equal":
                x = np.round(x)
            elif odd == "nan":
                x[rng.random(shape) < 0.2] = np.nan
            elif odd == "infinite":
                x[:] = rng.choice([np.inf, -np.inf], shape)
            for smallest, last in ((0, 0), (0, 1), (1, 0), (1, 1)):
                place = guarded(np.full((shape[0], shape[2]), -1, np.int64))
                call(SOURCE, isa, name, np.int64([*shape, smallest, last, 0, 0]), guarded(x), place, *rest, threads=2)
                want = meanings.extreme(x, smallest=bool(smallest), last=bool(last))
                np.testing.assert_array_equal(place, want, f"{shape} {odd} {smallest} {last}")


@isas
@pytest.mark.parametrize("name", ["cumsum_f32", "cumsum_f32_plain"])
def test_running_sums(isa, name):
    rng = np.random.default_rng(2)
    for shape in [*SHAPES, (3, 70, 600)]:
        x = rng.standard_normal(shape).astype(np.float32)
        for exclusive, reverse in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y = guarded(np.full(shape, np.nan, np.float32))
            call(SOURCE, isa, name, np.int64([*shape, 0, 0, exclusive, reverse]), guarded(x), None, y, threads=2)
            np.testing.assert_allclose(y, meanings.running_sum(x, exclusive=bool(exclusive), reverse=bool(reverse)),
                                       rtol=1e-5, atol=1e-4)


def test_they_are_chosen():
    p, x = Builder(), np.random.default_rng(3).standard_normal((3, 20, 40)).astype(np.float32)
    e = p.input("x", FLOAT, x.shape)
    roots = [p.argmax(e, 1), p.argmin(e, 2, last=True), p.cumulate(e, 0),
             p.cumulate(e, 1, exclusive=True, reverse=True)]
    segment = compile_exprs([e], roots)
    assert sorted(s.kernel.function for s in segment.steps if hasattr(s, "kernel")) == [
        "gs_argmax_f32"] * 2 + ["gs_cumsum_f32"] * 2
    for got, want in zip(segment.run([x], {}), evaluate(roots, {"x": x})):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
    assert roots[0].dtype is dtypes.INT64
