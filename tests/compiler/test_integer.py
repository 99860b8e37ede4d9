"""Integer products and convolutions in graphs: what their kernels take, what is fused behind them, and that all of it
is exactly what it means."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT, INT8, UINT8
from gesher.compiler import cpu, toolchain
from gesher.compiler.segment import compile_exprs
from gesher.compiler.steps import KernelStep, NestStep
from gesher.ops.quantized import convolve_integers, matmul_integers, quantize_expr
from gesher.primitives import Builder, Expr, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")
isas = pytest.mark.parametrize("isa", [None, *cpu.here().isas()], ids=lambda i: i.name if i else "native")
TYPES = [(a, b) for a in (UINT8, INT8) for b in (UINT8, INT8)]
n = sym("n")


def some(rng, shape, dtype):
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype.numpy)


def holds(inputs: list[Expr], roots: list[Expr], feeds: list[np.ndarray], sizes, isa=None, threads: int = 1):
    """Hold the compiled roots to their meaning, exactly; the segment."""
    segment = compile_exprs(inputs, roots, isa=isa, threads=threads)
    want = evaluate(roots, {e.params["name"]: x for e, x in zip(inputs, feeds)})
    for a, b in zip(segment.run(feeds, sizes), want):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    return segment


def kernels(segment) -> list[str]:
    """The kernels that compute; those that change the layout at its borders are left out."""
    ran = [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]
    return [f for f in ran if f != "gs_transpose"]


def counted(p: Builder, rng, y: Expr, dtype=UINT8, zero: int = 3, spread: float = 1e-3) -> Expr:
    """The sums y (N,M,*) with a bias, scaled by channel and counted."""
    shape = (y.shape[1], *(1,) * (y.rank - 2))
    bias = p.constant(rng.integers(-900, 900, shape).astype(np.int32))
    scale = p.constant((rng.random(shape) * spread).astype(np.float32))
    return quantize_expr(p, p.cast(y + bias, FLOAT) * scale, p.constant(np.array(zero, dtype.numpy)), dtype)


def convolved(p: Builder, rng, x: Expr, o: int, k: int, stride: int = 1, groups: int = 1, x_zero=None,
              types=(UINT8, INT8), w_zero: bool = False) -> Expr:
    c, rank = x.shape[1], x.rank - 2
    w = p.constant(some(rng, (o, c // groups, *(k,) * rank), types[1]))
    zero = p.constant(some(rng, (), types[0])) if x_zero is None else x_zero
    zeros = p.constant(some(rng, (o, *(1,) * (rank + 1)), types[1])) if w_zero else None
    return convolve_integers(p, x, zero, w, zeros, (stride,) * rank, [(k // 2, k // 2)] * rank, (1,) * rank, groups)


@isas
@pytest.mark.parametrize("types", TYPES, ids=lambda t: f"{t[0].name}x{t[1].name}")
def test_convolutions_of_all_types(isa, types):
    rng = np.random.default_rng(1)
    p = Builder()
    x = p.input("x", types[0], (n, 12, 9, 8))
    made = [convolved(p, rng, x, o, k, stride, groups, types=types, w_zero=zero) for o, k, stride, groups, zero in
            ((70, 3, 1, 1, False), (8, 3, 2, 4, True), (12, 3, 1, 12, False), (12, 5, 2, 12, True), (5, 1, 1, 1, True))]
    roots = [counted(p, rng, y, types[0]) for y in made]
    ran = kernels(holds([x], roots, [some(rng, (2, 12, 9, 8), types[0])], {n: 2}, isa))
    assert sorted(ran) == ["gs_conv_i8"] * 3 + ["gs_depthwise_i8"] * 2


@isas
@pytest.mark.parametrize("types", TYPES, ids=lambda t: f"{t[0].name}x{t[1].name}")
def test_products_of_all_types(isa, types):
    rng = np.random.default_rng(2)
    p = Builder()
    a, b = p.input("a", types[0], (n, 3, 5, 33)), p.input("b", types[1], (3, 33, 9))
    m = p.input("m", types[0], (7, 33))
    w = p.constant(some(rng, (33, 70), types[1]))
    a_zero, b_zero = p.input("za", types[0], ()), p.input("zb", types[1], ())
    columns, rows = p.constant(some(rng, (70,), types[1])), p.constant(some(rng, (7, 1), types[0]))
    roots = [matmul_integers(p, a, a_zero, w, columns), matmul_integers(p, a, a_zero, b, b_zero),
             matmul_integers(p, m, rows, w, None), matmul_integers(p, a, None, w, b_zero),
             p.cast(matmul_integers(p, m, a_zero, w, None), FLOAT) * 0.5]
    feeds = [some(rng, (2, 3, 5, 33), types[0]), some(rng, (3, 33, 9), types[1]), some(rng, (7, 33), types[0]),
             some(rng, (), types[0]), some(rng, (), types[1])]
    segment = holds([a, b, m, a_zero, b_zero], roots, feeds, {n: 2}, isa)
    assert kernels(segment) == ["gs_gemm_i8"] * 5


@pytest.mark.parametrize("threads", [1, 2])
def test_a_block_with_residual_pool_and_global_mean_stays_channels_last(threads):
    rng = np.random.default_rng(3)
    p = Builder()
    x = p.input("x", UINT8, (n, 3, 32, 32))
    first = counted(p, rng, convolved(p, rng, x, 32, 7, 2))
    pooled = p.window(first, "max", (3, 3), (2, 2), [(1, 1), (1, 1)])
    inner = counted(p, rng, convolved(p, rng, counted(p, rng, convolved(p, rng, pooled, 24, 1)), 32, 3, 1))
    other = counted(p, rng, convolved(p, rng, pooled, 32, 1))
    real = [p.cast(p.cast(e, FLOAT) - 3.0, FLOAT) * s for e, s in ((inner, 0.25), (other, 0.5))]
    total = quantize_expr(p, (real[0] + real[1]) / 0.75, None, UINT8)
    joined = p.concat([total, pooled], 1)
    last = counted(p, rng, convolved(p, rng, joined, 40, 1))
    mean = p.reshape(p.sum(p.cast(last, FLOAT), [2, 3]), (n, 40))
    segment = holds([x], [mean], [some(rng, (2, 3, 32, 32), UINT8)], {n: 2}, threads=threads)
    assert kernels(segment) == ["gs_conv_i8", "gs_window_i8", *["gs_conv_i8"] * 4, "gs_reduce_f32"]
    # No sum of 32 bits and no transpose gets memory: left are the concat's two pieces.
    assert len([s for s in segment.steps if isinstance(s, NestStep)]) == 2
    assert not any(b.dtype.name == "int32" for b in segment.program.buffers)


def test_free_sizes_one_dimension_and_zero_points_that_are_computed():
    rng = np.random.default_rng(4)
    p = Builder()
    h, w = sym("h"), sym("w")
    x, line = p.input("x", INT8, (n, 8, h, w)), p.input("line", UINT8, (n, 6, w))
    zero, other = p.input("zero", INT8, ()), p.input("other", UINT8, ())
    y = counted(p, rng, convolved(p, rng, x, 20, 3, 2, x_zero=zero, types=(INT8, INT8)), INT8)
    z = p.cast(convolved(p, rng, line, 9, 3, x_zero=other), FLOAT) * p.cast(zero, FLOAT)
    segment = compile_exprs([x, line, zero, other], [y, z])
    assert kernels(segment) == ["gs_conv_i8", "gs_conv_i8"]
    for sizes in ((1, 5, 7), (3, 16, 2), (2, 1, 1)):
        feeds = [some(rng, (sizes[0], 8, *sizes[1:]), INT8), some(rng, (sizes[0], 6, sizes[2]), UINT8),
                 some(rng, (), INT8), some(rng, (), UINT8)]
        want = evaluate([y, z], dict(zip(("x", "line", "zero", "other"), feeds)))
        for a, b in zip(segment.run(feeds, dict(zip((n, h, w), sizes))), want):
            np.testing.assert_array_equal(a, b)


def test_what_saturates_and_what_has_no_kernel_keeps_its_meaning():
    rng = np.random.default_rng(5)
    p = Builder()
    x, w = p.input("x", UINT8, (1, 4, 6, 6)), p.input("w", INT8, (5, 4, 3, 3))
    loose = convolve_integers(p, x, None, w, None, (1, 1), [(0, 0)] * 2, (1, 1), 1)
    deep = p.input("deep", UINT8, (1, 2, 4, 4, 4))
    deeper = convolved(p, rng, deep, 3, 3)
    wild = counted(p, rng, convolved(p, rng, x, 8, 3), INT8, -128, 1e6)
    feeds = [some(rng, (1, 4, 6, 6), UINT8), some(rng, (5, 4, 3, 3), INT8), some(rng, (1, 2, 4, 4, 4), UINT8)]
    assert kernels(holds([x, w, deep], [loose, deeper, wild], feeds, {})) == ["gs_conv_i8"]


@isas
def test_quotients_that_are_counted_are_those_of_a_division(isa):
    rng = np.random.default_rng(6)
    for scale in (0.1, 0.0123, 3.7, 1e-3):
        p = Builder()
        x = p.input("x", FLOAT, (n,))
        roots = [quantize_expr(p, x / scale, None, INT8), quantize_expr(p, x / scale + 7.0, None, UINT8)]
        # Halves of a count and their neighbours, what is clipped, and what is no number.
        halves = ((rng.integers(-300, 300, 4000) + 0.5) * np.float64(np.float32(scale))).astype(np.float32)
        up, down = (np.nextafter(halves, np.float32(to)) for to in (np.inf, -np.inf))
        fed = np.concatenate([halves, up, down, np.float32([np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0])])
        holds([x], roots, [fed], {n: fed.size}, isa)
