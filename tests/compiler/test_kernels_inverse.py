"""Inverses of matrices: pivots, matrices without one, NaN, and Inverse as it uses the kernel."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

import gesher
from gesher.base.dtypes import DOUBLE
from gesher.compiler.kernels import meanings
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph
from gesher.ops.contrib.matrices import _eliminated
from gesher.primitives import Builder, evaluate

SOURCE = """
#include "gs_inverse.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, int64_t batch, int64_t n, const double* x, double* y, double* scratch) { \\
    GsInverse v = {batch, n, x, y, scratch}; kernel(&v, pool); }
KERNEL(plain, gs_inverse_plain)
KERNEL(fast, gs_inverse)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def matrices(batch: int, n: int) -> np.ndarray:
    """Any matrices, in which the largest element of a column is seldom on the diagonal; some have no inverse."""
    x = np.random.default_rng(n).standard_normal((batch, n, n))
    for i in range(1, batch, 3):
        x[i] = np.eye(n)[np.random.default_rng(i).permutation(n)] * 3
    for i in range(2, batch, 3):
        x[i, :, n // 2:] = 0
    return x


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_inverses(isa, name):
    for batch, n in ((0, 3), (4, 0), (6, 1), (6, 2), (6, 3), (7, 8), (6, 17), (3, 40)):
        x = matrices(batch, n)
        y, room = guarded(np.full(x.shape, 7.0)), guarded(np.zeros(2 * max(2 * n, 1)))
        call(SOURCE, isa, name, batch, n, guarded(x), y, room, threads=2)
        np.testing.assert_allclose(y, meanings.inverse(x), rtol=1e-7, atol=1e-9)


def test_the_meaning_in_primitives_is_the_same():
    p = Builder()
    x = matrices(6, 5)
    y = evaluate([_eliminated(p, p.input("x", DOUBLE, x.shape))], {"x": x})[0]
    np.testing.assert_allclose(y, meanings.inverse(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_operator_answers_as_its_rule(dtype):
    for shape in ((3, 3), (2, 3, 4, 4), (1, 1), (0, 2, 2)):
        x = (matrices(int(np.prod(shape[:-2])), shape[-1]).reshape(shape)).astype(dtype)
        b = Graph({"": 21, "com.microsoft": 1}, "inverse")
        b.output(b.op("Inverse", b.input("x", dtype, shape), domain="com.microsoft"), "y")
        model = b.model()
        want = Evaluator(model).run({"x": x})["y"]
        got = gesher.session(model, "compiled").run({"x": x})["y"]
        near = {"float16": 5e-2, "float32": 1e-4, "float64": 1e-9}[dtype]
        np.testing.assert_allclose(got, want, rtol=near, atol=near)
