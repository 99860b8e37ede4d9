"""Convolutions over blocked channels of which few outputs come: all numbers of them, odd channels, pads, threads."""

import pytest
from tests.compiler import blocked_calls
from tests.compiler.kernel_calls import ISAS, close

from gesher.compiler.kernels import blocked_packing

SOURCE = '#include "gs_blocked_few_f32.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_few_f32_plain, 0)
KERNEL(fast, gs_blocked_few_f32, gs_blocked_few_f32_scratch(&v, gs_pool_size(pool)))
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def check(isa, name, seed, **problem):
    def pack(w, b):
        packed = blocked_packing.pack_few(w, b)
        assert packed.shape == blocked_packing.few_shape(*w.shape, b)
        return packed

    y, expected = blocked_calls.run(SOURCE, isa, name, pack, seed, **problem)
    kernel = problem.get("kernel", (3, 3))
    close(y, expected, problem.get("C", 3) * kernel[0] * kernel[1])


@isas
@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
def test_channels_and_pictures(isa, outputs):
    for seed, (C, kernel, size, before) in enumerate([
            (3, (3, 3), (9, 10), (1, 1)), (16, (1, 1), (5, 7), (0, 0)), (33, (7, 3), (31, 20), (3, 1)),
            (64, (3, 3), (17, 9), (1, 1)), (8, (5, 5), (12, 40), (2, 2)), (47, (1, 1), (1, 1), (0, 0))]):
        check(isa, "fast", seed, C=C, O=outputs, kernel=kernel, size=size, before=before, N=1 + seed % 2,
              after=seed % 2)
    check(isa, "plain", 9, C=20, O=outputs, size=(4, 5), before=(1, 0), after=True)


@isas
def test_strides_dilations_and_pads(isa):
    for seed, (stride, dilation, before, beyond) in enumerate([
            ((2, 2), (1, 1), (0, 1), (1, 0)), ((1, 3), (2, 1), (2, 2), (0, 3)), ((2, 1), (1, 2), (5, 6), (4, 7)),
            ((1, 1), (1, 1), (-1, -2), (0, 1)), ((3, 2), (3, 2), (3, 0), (3, 1))]):
        check(isa, "fast", seed, C=18, O=1 + seed % 4, size=(9, 25), stride=stride, dilation=dilation, before=before,
              beyond=beyond, after=seed % 2)


@isas
def test_ends_and_threads(isa):
    for seed, end in enumerate(blocked_calls.ENDS):
        check(isa, "fast", seed, C=40, O=1 + seed % 4, size=(13, 60), before=(1, 1), threads=1 + seed % 3, **end)
    check(isa, "fast", 7, C=70, O=2, N=3, size=(40, 41), before=(1, 1), threads=2, after=True)
