"""Products with weights of few bits, through the compiler, against their meaning in primitives."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.kernel_calls import FOLLOW, ISAS, call, close, guarded, scratch

from gesher.base.dtypes import FLOAT
from gesher.compiler import toolchain
from gesher.compiler.kernels.packing import pack_block_numbers, pack_words, panel_columns
from gesher.compiler.segment import compile_exprs
from gesher.compiler.steps import KernelStep
from gesher.ops import find
from gesher.primitives import Builder, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

n = sym("n")
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
SOURCE = '#include "gs_gemm_bits_f32.h"' + FOLLOW + """
#define ARGS const int64_t* s, const float* a, const uint32_t* words, const float* scale, const float* shift, \\
  const float* bias, float* y, float* scratch
#define FILL {.M = s[0], .N = s[1], .K = s[2], .block = s[3], .bits = (int)s[4], .a = a, .a_row = s[2], \\
  .words = words, .scale = scale, .shift = shift, .bias = bias, .y = y, .y_row = s[1], \\
  .epilogue = s[5] ? follow : 0, .scratch = scratch}
GS_EXPORT int64_t need(GsPool* pool, ARGS) {
  GsGemmBits g = FILL;
  return gs_gemm_bits_f32_scratch(&g, gs_pool_size(pool));
}
GS_EXPORT void fast(GsPool* pool, ARGS) { GsGemmBits g = FILL; gs_gemm_bits_f32(&g, pool); }
GS_EXPORT void plain(GsPool* pool, ARGS) { GsGemmBits g = FILL; gs_gemm_bits_f32_plain(&g, pool); }
"""


@isas
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("K", "block"), [(1, 16), (33, 16), (64, 32), (200, 128), (300, 256)])
def test_the_kernel(isa, bits, K, block):
    rng = np.random.default_rng(K)
    blocks, columns, middle = -(-K // block), panel_columns(isa), 1 << (bits - 1)
    for i, (M, N) in enumerate([(1, 1), (1, 100), (2, 48), (3, 17), (5, 50), (15, 16), (16, 49), (40, 97)]):
        b = rng.integers(0, 256, (N, blocks * block * bits // 8)).astype(np.uint8)
        scale = rng.standard_normal((N, blocks)).astype(np.float32)
        zero = rng.integers(0, 1 << bits, (N, blocks)).astype(np.float32) if i % 2 else np.float32(middle) + 0 * scale
        q = np.stack([b & 15, b >> 4], -1).reshape(N, -1) if bits == 4 else b
        each = np.repeat(np.arange(blocks), block)[:K]
        weight = (q[:, :K] - zero[:, each]).astype(np.float64) * scale[:, each]
        a = rng.standard_normal((M, K)).astype(np.float32)
        bias = rng.standard_normal(N).astype(np.float32) if i % 3 else None
        want = a @ weight.T + (0 if bias is None else bias)
        if i == 4 or i == 6:
            m, j = np.ogrid[:M, :N]
            want = want * 2 + (m * 10 + j)
        for name, threads in (("plain", 1), ("fast", 1 + i % 3)):
            y = guarded(np.full((M, N), 7, np.float32))
            arguments = [np.array([M, N, K, block, bits, i == 4 or i == 6], np.int64), guarded(a),
                         guarded(pack_words(b, bits, columns)), guarded(pack_block_numbers(scale, columns)),
                         guarded(pack_block_numbers((middle - zero) * scale, columns)) if i % 2 else None,
                         guarded(bias), y]
            floats = call(SOURCE, isa, "need", *arguments, None, threads=threads)
            call(SOURCE, isa, name, *arguments, scratch(floats), threads=threads)
            close(y, want, 60 * K)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [None, "counts", "numbers"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_matmul_nbits(bits, zeros, with_bias):
    rng = np.random.default_rng(bits)
    K, N, block = 70, 53, 32
    blocks, p = -(-K // block), Builder()
    a = p.input("a", FLOAT, (2, n, K))
    b = p.constant(rng.integers(0, 256, (N, blocks, block * bits // 8)).astype(np.uint8))
    scales = p.constant(rng.standard_normal(N * blocks).astype(np.float32))
    zero = None if zeros is None else p.constant(
        rng.integers(0, 256, N * -(-blocks * bits // 8)).astype(np.uint8) if zeros == "counts"
        else rng.standard_normal(N * blocks).astype(np.float32))
    bias = p.constant(rng.standard_normal(N).astype(np.float32)) if with_bias else None
    operator = find("com.microsoft", "MatMulNBits")
    assert operator is not None
    p.outputs, p.version = 1, 1
    y = operator.rule("lower", 1).function(p, a, b, scales, zero, None, bias, K=K, N=N, bits=bits, block_size=block,
                                           accuracy_level=0, weight_prepacked=0)
    root = p.max(y, 0.0)
    segment = compile_exprs([a], [root])
    assert [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)] == ["gs_gemm_bits_f32"]
    assert len(segment.steps) == 1, "the maximum is part of the product"
    for m in (1, 3, 20):
        fed = rng.standard_normal((2, m, K)).astype(np.float32)
        want, got = evaluate([root], {"a": fed}, {n: m})[0], segment.run([fed], {n: m})[0]
        assert got.shape == want.shape
        close(got, want, 60 * K)
