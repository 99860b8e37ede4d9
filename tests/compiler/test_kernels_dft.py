"""The discrete Fourier transform: every length and way against numpy's, and through the operators."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

import gesher
from gesher.base.dtypes import FLOAT
from gesher.compiler.kernels import meanings
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder

SOURCE = """
#include "gs_dft.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const double* x, double* y, const double* waves) { \\
    GsDft v = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], (int)s[7], (int)s[8], x, y, waves, 0}; \\
    v.scratch = malloc(sizeof(float) * (size_t)gs_dft_scratch(&v, gs_pool_size(pool))); \\
    kernel(&v, pool); \\
    free(v.scratch); }
KERNEL(plain, gs_dft_plain)
KERNEL(fast, gs_dft)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("onesided", [False, True])
def test_every_length(isa, name, inverse, onesided):
    rng = np.random.default_rng(0)
    large = [400, 1000] if name == "fast" else []
    for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 25, 31, 32, 49, 60, 64, 77, 101, 128, *large):
        for size, parts, inner, own in ((n, 2, 1, True), (n + 3, 2, 3, False), (max(n // 2, 1), 1, 2, True)):
            if onesided and inverse and parts == 1:
                continue
            x = rng.standard_normal((3, size, inner, parts))
            taken = min(size, n // 2 + 1 if inverse and onesided else n)
            seen = x[..., :1] if onesided and not inverse else x
            want = meanings.dft(seen, n, inverse, onesided)
            y = guarded(np.zeros(want.shape))
            sizes = np.array([3, size, inner, seen.shape[-1], taken, n, want.shape[1], inverse, onesided], np.int64)
            angle = 2 * np.pi * np.arange(n) / n
            waves = np.stack([np.cos(angle), np.sin(angle)]) if own else None
            call(SOURCE, isa, name, sizes, guarded(np.ascontiguousarray(seen)), y,
                 None if waves is None else guarded(waves), threads=2 if own else 1)
            np.testing.assert_allclose(y, want, rtol=1e-11, atol=1e-11 * n)


@pytest.mark.parametrize(("shape", "attributes"), [
    ((2, 40, 1), {}), ((2, 40, 1), {"onesided": 1}), ((2, 21, 2), {"inverse": 1}), (("n", "t", 2), {}),
    (("n", "t", 1), {"onesided": 1})])
def test_the_operator_is_the_kernel(shape, attributes):
    b = Builder({"": 20})
    b.output(b.op("DFT", b.input("x", FLOAT, shape), None, np.int64(1), **attributes), "y")
    model = b.model()
    with gesher.session(model, "compiled", threads=1) as session:
        for t in (40, 17):
            if "t" not in shape and t == 17:
                continue
            fed = {"x": np.random.default_rng(1).standard_normal([{"n": 2, "t": t}.get(d, d) for d in shape]).astype(
                np.float32)}
            np.testing.assert_allclose(session.run(fed)["y"], Evaluator(model).run(fed)["y"], rtol=1e-5, atol=1e-5)
        assert "gs_dft" in session.explain()
