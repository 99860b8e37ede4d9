"""Convolutions of narrow groups over blocked channels: edges, strides, dilations, groups that end within a block."""

import numpy as np
import pytest
from tests.compiler import blocked_calls
from tests.compiler.kernel_calls import ISAS, close

from gesher.compiler.kernels import blocked_packing

SOURCE = '#include "gs_blocked_grouped_f32.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_grouped_f32_plain, 0)
KERNEL(fast, gs_blocked_grouped_f32, 0)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
widths = pytest.mark.parametrize("width", blocked_packing.NARROW)


def check(isa, name, seed, width, groups, kernel=(3, 3), **problem):
    def pack(w, b):
        packed = blocked_packing.pack_grouped(w, b)
        assert packed.shape == blocked_packing.grouped_shape(*w.shape, b)
        return packed

    if width > isa.width:
        pytest.skip(f"blocks of {isa.width} hold no group of {width}")
    C = width * groups
    y, expected = blocked_calls.run(SOURCE, isa, name, pack, seed, C=C, O=C, group=groups, kernel=kernel, **problem)
    close(y, expected, width * kernel[0] * kernel[1])


@isas
@widths
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1), (2, 7)])
def test_windows(isa, width, kernel):
    for seed, (stride, dilation, before, beyond) in enumerate([
        ((1, 1), (1, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (2, 2), (1, 2)), ((2, 1), (1, 2), (1, 0), (3, 9)),
        ((1, 3), (2, 1), (3, 4), (0, 0)), ((1, 1), (1, 1), (-1, -1), (-1, 0)), ((1, 1), (1, 1), (9, 9), (9, 9)),
    ]):
        for groups, size in ((1, (9, 14)), (5, (15, 31))):
            for name in ("plain", "fast")[groups == 5:]:
                check(isa, name, seed, width, groups, kernel, N=2, size=size, stride=stride, dilation=dilation,
                      before=before, beyond=beyond, after=seed % 2, bias=seed % 3 > 0, threads=1 + seed % 2)


@isas
@widths
def test_what_follows_the_sums(isa, width):
    for seed, end in enumerate(blocked_calls.ENDS):
        check(isa, "fast", seed, width, 6, N=2, size=(5, 23), before=(1, 1), after=seed % 2, threads=2, **end)


def test_each_output_lies_in_its_lane():
    w = np.arange(8 * 4 * 2, dtype=np.float32).reshape(8, 4, 1, 2)
    packed = blocked_packing.pack_grouped(w, 16)
    assert packed[0, 1, 2, 5] == w[5, 2, 0, 1] and not packed[..., 8:].any()
