"""Floats that become bytes and bytes that become floats: the same bits as the reference, whatever is fed."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT, INT8, INT32, UINT8
from gesher.compiler import cpu, toolchain
from gesher.compiler.segment import compile_exprs
from gesher.primitives import Builder, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")
n = sym("n")
isas = pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)


def samples(scale: float) -> np.ndarray:
    """Ties, their neighbours, what overflows, and what is no number."""
    ties = np.arange(-600, 600, dtype=np.float32) / 2 * np.float32(scale)
    near = np.concatenate([ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf))])
    odd = np.float32([0.0, -0.0, 1e-45, 4e6, -4e6, 8388607.5, 1e30, -1e30, 3.4e38, np.inf, -np.inf, np.nan])
    return np.concatenate([near, odd, np.random.default_rng(1).standard_normal(500).astype(np.float32) * 99])


@isas
@pytest.mark.parametrize("kind", [INT8, UINT8], ids=lambda d: d.name)
def test_bytes_and_back(isa, kind):
    p = Builder()
    x = p.input("x", FLOAT, (n,))
    lowest, highest = (-128.0, 127.0) if kind is INT8 else (0.0, 255.0)
    roots = []
    for zero, low, high in ((0, lowest, highest), (3, lowest, highest), (-128, lowest, highest), (255, lowest, highest),
                            (7, 10.0, 20.0), (0.5, lowest, highest)):
        for inside in (False, True):
            less = p.constant(np.int32(int(zero)))
            for follow in (lambda b: b, lambda b: p.cast(b, INT32) * 3,
                           lambda b, z=less: p.cast(p.cast(b, INT32) - z, FLOAT) * 0.5,
                           lambda b: p.cast(p.cast(b, INT32) - p.constant(np.int32(5)), FLOAT) * 0.5,
                           lambda b: p.cast(p.cast(b, INT32), FLOAT) + 1.0):
                # A scale of its own for each: what two share would lie in memory between them.
                scale = np.float32(0.37 + 0.001 * len(roots))
                count = p.round(x / scale + float(zero)) if inside else p.round(x / scale) + float(zero)
                roots.append(follow(p.cast(p.min(p.max(count, low), high), kind)))
    segment = compile_exprs([x], roots, isa=isa)
    for at in (0, 31):
        fed = samples(0.37 + 0.001 * at)
        real = ~np.isnan(fed)  # a cast of NaN to a byte may give any
        for got, want in zip(segment.run([fed], {n: len(fed)}), evaluate(roots, {"x": fed})):
            assert np.array_equal(got[real], want[real])
