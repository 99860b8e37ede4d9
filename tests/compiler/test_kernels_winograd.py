"""Winograd's convolutions: odd pictures and channel counts, pads, threads, both tiles, and how exact they are."""

import numpy as np
import pytest
from tests.compiler import blocked_calls
from tests.compiler.kernel_calls import ISAS

from gesher.compiler.kernels import blocked_packing

SOURCE = '#include "gs_winograd_f32.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_winograd_f32_plain, 0)
KERNEL(fast, gs_blocked_winograd_f32, gs_blocked_winograd_f32_scratch(&v, gs_pool_size(pool)))
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
# The outputs on a tile's side, and the stride.
tiles = pytest.mark.parametrize(("tile", "stride"), [(2, 1), (4, 1), (4, 2)])


def errors(isa, name, seed, tile, stride, **problem):
    def pack(w, b):
        packed = blocked_packing.pack_winograd(w, b, tile, stride)
        assert packed.shape == blocked_packing.winograd_shape(*w.shape[:2], b, tile, stride)
        return packed

    y, expected = blocked_calls.run(SOURCE, isa, name, pack, seed, tile=tile, stride=(stride, stride), **problem)
    assert np.all(np.isfinite(y))
    return y - expected, max(float(np.max(np.abs(expected), initial=0)), 1e-30)


def check(isa, name, seed, tile, stride, **problem):
    difference, scale = errors(isa, name, seed, tile, stride, **problem)
    # Some 8 times what is expected in the mean: the largest of thousands of elements.
    worst = float(np.max(np.abs(difference), initial=0)) / scale
    assert worst <= 8 * blocked_packing.winograd_error(problem.get("C", 3), tile, stride), (worst, problem)


@isas
@tiles
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_sizes_and_pads(isa, name, tile, stride):
    for seed, (size, before, beyond) in enumerate([
        ((3, 3), (0, 0), (0, 0)), ((7, 7), (1, 1), (1, 1)), ((9, 14), (1, 1), (1, 1)), ((8, 10), (0, 1), (2, 0)),
        ((13, 6), (-1, 2), (1, -2)), ((1, 1), (1, 1), (1, 1)), ((5, 31), (4, 5), (6, 7)), ((2, 70), (1, 0), (1, 0)),
    ]):
        C, O = (3, 5) if name == "plain" else (21, 37)
        check(isa, name, seed, tile, stride, C=C, O=O, size=size, before=before, beyond=beyond, after=seed % 2,
              bias=seed % 3 > 0)


@isas
@tiles
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_what_follows_the_sums(isa, name, tile, stride):
    for seed, end in enumerate(blocked_calls.ENDS):
        C, O = (3, 5) if name == "plain" else (21, 37)
        check(isa, name, seed, tile, stride, C=C, O=O, size=(7, 9), before=(1, 1), after=seed % 2, **end)


@isas
@tiles
def test_what_is_not_finite_stays_where_it_belongs(isa, tile, stride):
    for seed, spoiled in enumerate([{(0, 3, 5, 6): np.inf}, {(1, 0, 0, 0): np.nan, (1, 20, 18, 20): -np.inf},
                                    {(0, 7, 9, 9): 8e37}]):
        def spoil(x, spoiled=spoiled):
            for at, value in spoiled.items():
                x[at] = value

        for end in ({}, {"residual": True}, {"silu": True})[:3 if seed < 2 else 1]:
            y, expected = blocked_calls.run(
                SOURCE, isa, "fast", lambda w, b: blocked_packing.pack_winograd(w, b, tile, stride), seed, N=2, C=21,
                O=37, size=(19, 21), before=(1, 1), tile=tile, stride=(stride, stride), spoil=spoil, **end)
            assert np.array_equal(np.isnan(y), np.isnan(expected))
            infinite = np.isinf(expected)
            assert np.array_equal(y[infinite], expected[infinite])
            plain = np.isfinite(expected)
            # What is transformed may be too large for a float where no sum is.
            worst = np.abs(y[plain] - expected[plain]).max() / np.abs(expected[plain]).max()
            assert worst <= 8 * blocked_packing.winograd_error(21, tile, stride)


@isas
@tiles
def test_all_numbers_of_channels(isa, tile, stride):
    for C in (1, 4, 15, 16, 17, 40):
        for O in (1, 7, 8, 16, 24, 32, 33, 50):
            check(isa, "fast", C * O, tile, stride, C=C, O=O, size=(6, 9), before=(1, 1), after=O % 2)


@isas
@tiles
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_work(isa, tile, stride, threads):
    for seed, (N, C, O, size) in enumerate([(1, 40, 50, (7, 7)), (2, 35, 40, (14, 14)), (3, 64, 16, (7, 8)),
                                            (1, 20, 70, (40, 41)), (1, 130, 33, (57, 60))]):
        check(isa, "fast", seed, tile, stride, N=N, C=C, O=O, size=size, before=(1, 1), threads=threads, after=True)


@isas
@tiles
def test_an_empty_output_is_left_alone(isa, tile, stride):
    for name in ("plain", "fast"):
        check(isa, name, 1, tile, stride, size=(2, 9))
        check(isa, name, 2, tile, stride, N=0)


@isas
@tiles
def test_random_convolutions(isa, tile, stride):
    rng = np.random.default_rng(5)
    for seed in range(40):
        before, beyond = (tuple(int(v) for v in rng.integers(-1, 4, 2)) for _ in range(2))
        check(isa, "fast", seed, tile, stride, N=int(rng.integers(1, 4)), C=int(rng.integers(1, 50)),
              O=int(rng.integers(1, 70)), size=tuple(int(v) for v in rng.integers(4, 40, 2)), before=before,
              beyond=beyond, bias=rng.random() < .5, after=rng.random() < .5, threads=int(rng.integers(1, 4)))


@tiles
def test_the_error_is_as_expected(tile, stride):
    for C in (16, 128, 512):
        difference, _ = errors(ISAS[0], "fast", C, tile, stride, C=C, O=32, size=(20, 20), before=(1, 1), bias=False)
        # The exact sums of 9 * C products of independent standard normals.
        relative = float(np.sqrt(np.mean(difference ** 2))) / (9 * C * 0.9) ** 0.5
        expected = blocked_packing.winograd_error(C, tile, stride)
        assert expected / 3 <= relative <= 1.5 * expected <= 1e-4, (C, relative, expected)


@tiles
def test_the_matrices_make_a_correlation(tile, stride):
    B, G, A = blocked_packing.winograd_matrices(tile, stride)
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(len(B)), rng.standard_normal(3)
    values = np.zeros(A.shape[1])
    np.add.at(values, np.arange(len(B)) % len(values), (G @ w) * (B @ x))
    assert np.allclose(A @ values, np.correlate(x, w, "valid")[::stride])
