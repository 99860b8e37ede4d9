"""Convolutions of single taps by Strassen's seven products: places, strides, ends, threads, what is not finite."""

import numpy as np
import pytest
from tests.compiler import blocked_calls
from tests.compiler.kernel_calls import ISAS, close

from gesher.compiler.kernels import blocked_packing as packing
from gesher.compiler.kernels import meanings

SOURCE = '#include "gs_blocked_strassen_f32.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_strassen_f32_plain, 0)
KERNEL(fast, gs_blocked_strassen_f32, gs_blocked_strassen_f32_scratch(&v, gs_pool_size(pool)))
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def pack(w, b, seven=True):
    packed = packing.pack_strassen(w, b)
    assert packed.shape == packing.strassen_shape(*w.shape[:2], b) and packed[0] == seven
    return packed


def run(isa, name, seed, C, O, packing_=pack, **problem):
    """C and O count blocks."""
    b = isa.width
    O = O * b - problem.pop("less", 0)
    return blocked_calls.run(SOURCE, isa, name, packing_, seed, C=C * b, O=O, kernel=(1, 1),
                             **problem)


def check(isa, name, seed, C=2, O=4, **problem):
    """Sums of products of sums: some four times the roundings."""
    close(*run(isa, name, seed, C, O, **problem), 4 * C * isa.width)


@isas
def test_pictures_of_all_sizes(isa):
    for seed, size in enumerate([(1, 1), (1, 2), (3, 1), (5, 5), (4, 7), (15, 15), (14, 16), (1, 339)]):
        check(isa, "fast", seed, size=size, after=seed % 2, N=1 + seed % 3, less=seed % isa.width, threads=1 + seed % 3)
    check(isa, "plain", 9, size=(5, 6), N=2, less=1, after=True)


@isas
def test_channels_and_outputs(isa):
    for C, O in ((4, 4), (6, 8), (2, 12), (40, 8)):
        check(isa, "fast", C, C, O, size=(9, 9), bias=C != 6, after=O == 12, threads=2)


@isas
def test_strides_skip_places(isa):
    for stride in ((2, 2), (1, 3), (2, 1)):
        check(isa, "fast", 3, 4, 8, size=(17, 18), stride=stride, N=2, threads=2)
    check(isa, "plain", 4, size=(7, 8), stride=(2, 2))


@isas
@pytest.mark.parametrize("ends", blocked_calls.ENDS, ids=lambda e: "+".join(e))
def test_what_follows_is_the_kernels_own(isa, ends):
    check(isa, "fast", 5, 2, 8, size=(11, 12), N=2, **ends)
    check(isa, "plain", 5, 2, 4, size=(3, 4), **ends)


@isas
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_at_its_place(isa, value):
    def spoil(x):
        x[0, 1, 2, 3] = value

    for name in ("plain", "fast"):
        with np.errstate(all="ignore"):
            y, expected = run(isa, name, 6, 2, 4, size=(9, 9), spoil=spoil)
            expected = expected.astype(np.float32)
        elsewhere = np.ones((9, 9), bool)
        elsewhere[2, 3] = False
        close(y[..., elsewhere], expected[..., elsewhere], 8 * isa.width)
        np.testing.assert_allclose(y[..., 2, 3], expected[..., 2, 3], rtol=1e-3)


@isas
def test_weights_that_are_not_mixed_are_summed_directly(isa):
    def unmixed(w, b):
        out = np.full(packing.strassen_shape(*w.shape[:2], b), np.nan, np.float32)
        direct = packing.pack_blocked(w, 1, b)
        out[0], out[b:b + direct.size] = 0, direct
        return out

    for name in ("plain", "fast"):
        check(isa, name, 7, 2, 4, packing_=unmixed, size=(5, 5), threads=2, stride=(2, 1))


def test_zeros_and_unlike_outputs_are_told():
    w = np.random.default_rng(8).standard_normal((64, 32, 1, 1)).astype(np.float32)
    assert packing.pack_strassen(w, 16)[0] == 1
    for part in ((3,), (40,), (slice(None), 5)):
        for factor, seven in ((0, 0), (1e-3, 0), (1e3, 0), (0.1, 1)):
            other = w.copy()
            other[part] *= factor
            assert packing.pack_strassen(other, 16)[0] == seven


@isas
def test_the_error_is_that_of_a_few_roundings(isa):
    y, _ = run(isa, "fast", 9, 512 // isa.width, 128 // isa.width, size=(14, 14), bias=False)
    rng = np.random.default_rng(9)
    x = rng.standard_normal((1, 512, 14, 14)).astype(np.float32)
    w = rng.standard_normal((128, 512, 1, 1)).astype(np.float32)
    exact = meanings.convolution(x.astype(np.float64), w.astype(np.float64), None, (14, 14), (1, 1), (1, 1), (0, 0), 1)
    assert np.linalg.norm(y - exact) <= 3e-6 * np.linalg.norm(exact)


@isas
def test_no_pictures(isa):
    check(isa, "fast", 1, size=(3, 3), N=0)
