"""Kernels of rounded products: they agree with exact sums of what was rounded, on every instruction set."""

import numpy as np
import pytest
from tests.compiler import blocked_calls, test_kernels_attention
from tests.compiler.kernel_calls import FOLLOW, ISAS, call, close, guarded, scratch

from gesher.compiler.kernels import meanings
from gesher.compiler.kernels.blocked_packing import pack_depthwise
from gesher.compiler.kernels.packing import panel_columns
from gesher.compiler.kernels.packing_bf16 import (
    bf16_floats,
    bf16_rounded,
    blocked_pairs_shape,
    pack_blocked_pairs,
    pack_pairs,
)

isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
ROUNDING = '#include "gs_bf16.h"' + """
GS_EXPORT void rounded(const float* x, int64_t n, int64_t step, uint16_t* y) {
  gs_bf16_row(x, step, n, 1, (int32_t*)y);
}
GS_EXPORT void pairs(const float* x, const float* y, int32_t* to) {
  *(gs_vi_u*)to = gs_bf16_pairs(gs_load(x), gs_load(y));
}
"""


@isas
@pytest.mark.parametrize("step", [1, 3])
def test_rounding_is_to_the_nearest_and_keeps_what_is_no_number(isa, step):
    rng = np.random.default_rng(0)
    # All exponents and signs; halves between two neighbours, a little more and a little less.
    bits = np.concatenate([rng.integers(0, 2 ** 32, 4001, np.uint32),
                           np.arange(0, 2 ** 32, 2 ** 22, np.uint32)[:, None].repeat(3, 1).ravel()
                           + np.tile(np.uint32([0x7FFF, 0x8000, 0x8001]), 1024)])
    x = bits.view(np.float32)
    # Processors with bfloat16 take numbers below the normal ones for 0.
    x = x[(np.abs(x) >= 2.0 ** -126) | ~(np.abs(x) < 1) | (x == 0)]
    for n in (len(x), 1, 2, 15, 17, 31, 33):
        got = guarded(np.full(n + n % 2, 7, np.uint16))
        call(ROUNDING, isa, "rounded", guarded(np.repeat(x[:n], step)[:n * step - step + 1]), n, step, got)
        assert not got[n:].any()
        np.testing.assert_array_equal(bf16_floats(got[:n]), bf16_rounded(x[:n]))
    w = isa.width
    to = np.zeros(2 * w, np.uint16)
    call(ROUNDING, isa, "pairs", x[:w], x[w:2 * w], to)
    wanted = bf16_rounded(x[:2 * w]).reshape(2, w).T.ravel()
    np.testing.assert_array_equal(bf16_floats(to), wanted)


GEMM = '#include "gs_gemm_bf16.h"' + FOLLOW + """
#define ARGS int64_t M, int64_t N, int64_t K, int64_t batch, const float* a, int64_t a_row, int64_t a_col, \\
  const void* b, int64_t b_batch, int64_t b_row, int64_t b_col, int64_t packed, float* c, int64_t after, float* scratch
#define FILL {.M = M, .N = N, .K = K, .batch = batch, .a = a, .a_batch = M * K, .a_row = a_row, .a_col = a_col, \\
  .b = b, .b_batch = b_batch, .b_row = b_row, .b_col = b_col, .b_packed = (int)packed, .c = c, .c_batch = M * N, \\
  .c_row = N, .epilogue = after ? follow : 0, .scratch = scratch}
GS_EXPORT int64_t need(GsPool* pool, ARGS) { GsGemmBf16 g = FILL; return gs_gemm_bf16_scratch(&g, gs_pool_size(pool)); }
GS_EXPORT void fast(GsPool* pool, ARGS) { GsGemmBf16 g = FILL; gs_gemm_bf16(&g, pool); }
GS_EXPORT void plain(GsPool* pool, ARGS) { GsGemmBf16 g = FILL; gs_gemm_bf16_plain(&g, pool); }
"""


def multiply(isa, M, N, K, batch=1, *, layout="nn", share_b=False, packed=False, after=False, threads=1, name="fast",
             draw=np.random.Generator.standard_normal):
    """Draw a product and call the kernel: what it wrote and what it should have, both (batch,M,N)."""
    rng = np.random.default_rng(M * 100 + N)
    a, b = (draw(rng, s).astype(np.float32) for s in ((batch, M, K), (1 if share_b else batch, K, N)))
    stored_a = guarded(a if layout[0] == "n" else a.swapaxes(1, 2))
    if packed:
        stored_b = guarded(pack_pairs(b, panel_columns(isa)))
    else:
        stored_b = guarded(b if layout[1] == "n" else b.swapaxes(1, 2))
    c = guarded(np.full((batch, M, N), 7, np.float32))
    arguments = [M, N, K, batch, stored_a, *((K, 1) if layout[0] == "n" else (1, M)), stored_b,
                 0 if share_b else stored_b[0].size, *((N, 1) if layout[1] == "n" else (1, K)), int(packed), c,
                 int(after)]
    floats = call(GEMM, isa, "need", *arguments, None, threads=threads)
    call(GEMM, isa, name, *arguments, scratch(floats), threads=threads)
    expected = meanings.gemm_bf16(a, b)
    if after:
        i, m, n = np.ogrid[:batch, :M, :N]
        expected = expected * 2 + (i * 100 + m * 10 + n)
    return c, expected


@isas
@pytest.mark.parametrize("M", [1, 2, 3, 8, 9, 31])
@pytest.mark.parametrize("N", [1, 15, 17, 33, 48, 49, 97])
def test_all_edges_of_tiles_of_products(isa, M, N):
    for i, (K, packed) in enumerate([(1, False), (5, True), (36, False), (67, True)]):
        close(*multiply(isa, M, N, K, packed=packed, after=i == 2, name="plain" if i == 1 and M < 9 else "fast"), K)


@isas
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_all_layouts_of_products(isa, layout):
    for M, N, K in ((1, 40, 33), (5, 50, 7), (20, 50, 71), (13, 200, 2700)):
        close(*multiply(isa, M, N, K, layout=layout, threads=3, after=True), K)
        close(*multiply(isa, M, N, K, 4, layout=layout, share_b=M == 5), K)


@isas
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_products(isa, threads):
    close(*multiply(isa, 200, 100, 90, threads=threads, packed=True, after=True), 90)
    close(*multiply(isa, 7, 900, 200, threads=threads, packed=True, after=True), 200)
    close(*multiply(isa, 9, 70, 200, 7, threads=threads, packed=True, after=True), 200)
    close(*multiply(isa, 700, 60, 2500, threads=threads), 2500)


@isas
def test_sums_of_large_and_infinite_numbers(isa):
    for value in (np.inf, np.nan, 3.4e38):
        with np.errstate(over="ignore", invalid="ignore"):
            got, want = multiply(isa, 9, 50, 33, draw=lambda rng, s, v=value: np.where(
                rng.random(s) < 0.02, v, rng.standard_normal(s)))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


CONVOLUTION = '#include "gs_blocked_bf16.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_conv_bf16_plain, 0)
KERNEL(fast, gs_blocked_conv_bf16, gs_blocked_conv_bf16_scratch(&v, gs_pool_size(pool)))
"""


def convolve(isa, seed, *, name="fast", group=1, **problem):
    """Draw a convolution and hold the kernel to its meaning."""
    def pack(w, b):
        packed = pack_blocked_pairs(w, group, b)
        O, Cg, KH, KW = w.shape
        assert packed.shape == blocked_pairs_shape(O, Cg * group, KH, KW, group, b)
        return packed

    y, expected = blocked_calls.run(CONVOLUTION, isa, name, pack, seed, group=group,
                                    meaning=meanings.convolution_bf16, **problem)
    if problem.get("y_bf16"):
        np.testing.assert_allclose(y, expected, rtol=2.0 ** -8, atol=1e-3)
    else:
        kernel = problem.get("kernel", (3, 3))
        close(y, expected, problem.get("C", 3) // group * kernel[0] * kernel[1])


@isas
@pytest.mark.parametrize("plain_x", [False, True])
def test_strides_dilations_and_pads_of_convolutions(isa, plain_x):
    for seed, (stride, dilation, before, beyond) in enumerate([
        ((1, 1), (1, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (0, 1), (1, 0)), ((1, 3), (2, 1), (2, 2), (0, 3)),
        ((2, 1), (1, 2), (5, 6), (4, 7)), ((1, 1), (1, 1), (-1, -2), (0, 1)), ((1, 1), (1, 1), (0, 0), (0, 0)),
        ((2, 2), (1, 1), (9, 9), (9, 9)),
    ]):
        for C, O, size in ((3, 20, (9, 10)), (4, 33, (7, 31)) if plain_x else (37, 5, (7, 31))):
            convolve(isa, seed, C=C, O=O, size=size, stride=stride, dilation=dilation, before=before, beyond=beyond,
                     after=seed % 2, plain_x=plain_x, x_bf16=seed % 3 == 0 and not plain_x, clamp=seed == 4,
                     name="plain" if seed % 4 == 3 else "fast")


@isas
def test_convolutions_of_all_numbers_of_channels(isa):
    for C in (1, 15, 16, 17, 32, 40):
        for O in (1, 16, 33, 50):
            convolve(isa, C * O, C=C, O=O, size=(5, 6), before=(1, 1), after=O % 2, x_bf16=C % 3 == 0, N=2)
            convolve(isa, C * O, C=C, O=O, size=(5, 6), kernel=(1, 1), y_bf16=True, x_bf16=C % 2 == 0, clamp=O == 50)
    for x_bf16 in (False, True):
        convolve(isa, 1, C=3 * 16, O=3 * 32, group=3, before=(1, 1), x_bf16=x_bf16)


@isas
def test_what_follows_convolutions_and_what_gates_them(isa):
    for name in ("fast", "plain"):
        for seed, ends in enumerate(blocked_calls.ENDS):
            convolve(isa, seed, name=name, C=37, O=40, size=(9, 11), before=(1, 1), x_bf16=seed % 2 == 0,
                     y_bf16=seed % 3 > 0, **ends)
        convolve(isa, 2, name=name, N=2, C=37, O=20, size=(9, 11), gate=True, kernel=(1, 1))
        convolve(isa, 3, name=name, N=2, C=50, O=20, size=(9, 11), gate=True, before=(1, 1))


@isas
def test_single_places_that_leave_places_out(isa):
    for seed, (C, x_bf16) in enumerate(((3, 0), (37, 1), (40, 0), (48, 1), (700, 0))):
        convolve(isa, seed, C=C, O=20, size=(9, 12), kernel=(1, 1), stride=(2, 2), x_bf16=x_bf16, threads=2, N=2)
        convolve(isa, seed, C=C, O=20, size=(9, 70), kernel=(1, 1), stride=(1, 3), before=(1, 2), beyond=(2, 0),
                 x_bf16=x_bf16, after=True, gate=not x_bf16)


@isas
def test_large_convolutions_are_cut(isa):
    for seed, threads in enumerate((1, 3)):
        convolve(isa, seed, C=300, O=5, size=(5, 300), before=(1, 1), after=True, threads=threads)
        convolve(isa, seed, C=300, O=3, size=(3, 900), kernel=(1, 1), after=True, threads=threads)
        convolve(isa, seed, C=140, O=3, size=(4, 400), before=(1, 1), stride=(1, 2), dilation=(1, 3), threads=threads)
        convolve(isa, seed, C=40, O=17, size=(230, 30), before=(1, 1), after=True, threads=threads)
        convolve(isa, seed, C=800, O=20, size=(4, 5), kernel=(1, 1), y_bf16=True, threads=threads, x_bf16=True)


DEPTHWISE = '#include "gs_blocked_depthwise_bf16.h"' + blocked_calls.SOURCE + """
KERNEL(plain, gs_blocked_depthwise_bf16_plain, 0)
KERNEL(fast, gs_blocked_depthwise_bf16, 0)
"""


@isas
def test_depthwise_convolutions_of_pictures_kept_as_bfloat16(isa):
    def exact_of_rounded(x, w, *more):
        return meanings.convolution(bf16_rounded(x), w, *more)

    for seed, (kernel, stride, before, C) in enumerate((((3, 3), (1, 1), (1, 1), 37), ((5, 5), (2, 2), (2, 2), 16),
                                                        ((2, 4), (1, 3), (3, 0), 5), ((7, 7), (2, 1), (9, 3), 40))):
        for name in ("fast", "plain"):
            for x_bf16, y_bf16 in ((True, True), (True, False), (False, True)):
                ends = blocked_calls.ENDS[(2 * seed + y_bf16) % len(blocked_calls.ENDS)]
                y, want = blocked_calls.run(
                    DEPTHWISE, isa, name, pack_depthwise, seed, C=C, O=C, group=C, N=2, kernel=kernel, stride=stride,
                    before=before, size=(9, 17), x_bf16=x_bf16, y_bf16=y_bf16, after=not y_bf16,
                    threads=1 + seed % 2 * 2, meaning=exact_of_rounded if x_bf16 else meanings.convolution, **ends)
                if y_bf16:
                    np.testing.assert_allclose(y, want, rtol=2.0 ** -8, atol=1e-4)
                else:
                    close(y, want, kernel[0] * kernel[1])


ATTENTION = test_kernels_attention.SOURCE.replace("gs_attention_f32", "gs_attention_bf16")


def attend(isa, B, G, I, S, T, D, E, name="fast", **options):
    rng = np.random.default_rng(S * 1000 + T)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((B, G, I, S, D), (B, G, T, D), (B, G, T, E)))
    got = test_kernels_attention.attend(isa, name, q, k, v, source=ATTENTION, **options)
    seen = test_kernels_attention.seen_of(S, T, *(options.get(x, d) for x, d in (
        ("past", 0), ("left", -1), ("right", -1), ("lengths", None))))
    few = I * S < 12 and name == "fast"
    meaning = meanings.attention if few else meanings.attention_bf16
    want = meaning(q, k[:, :, None], v[:, :, None], 0.3, seen, options.get("blind", False))
    # A weight at the middle between two bfloat16 may be rounded to either; in several blocks of keys the weights are
    # rounded beside another largest one.
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-5 if few else 2.0 ** -7)
    return got


@isas
def test_attention_of_all_sizes(isa):
    for S in (1, 16, 21):
        for i, T in enumerate((1, 17, 48, 101, 330)):
            for D, E in ((1, 1), (20, 17), (33, 64))[i % 2:]:
                attend(isa, 1 + i % 2, 2, 1 + i // 4, S, T, D, E, together=i % 2 == 1, turned=i == 2, threads=1 + i % 3)
    attend(isa, 2, 2, 3, 4, 9, 5, 3, name="plain", past=4, right=0, together=True)


@isas
def test_attention_in_windows(isa):
    for past, left, right in ((0, -1, 0), (150, -1, 0), (0, 3, 2), (40, 30, 0), (-5, -1, 0), (400, 3, 3)):
        for S, T in ((60, 60), (20, 211)):
            attend(isa, 1, 2, 2, S, T, 8, 16, past=past, left=left, right=right, blind=past == 0)
    attend(isa, 3, 2, 1, 17, 230, 8, 16, lengths=np.array([230, 27, 0]), blind=True)


@isas
def test_values_that_nobody_sees_are_not_touched(isa):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((1, 1, 1, 16, 8), (1, 1, 40, 8), (1, 1, 40, 16)))
    want = test_kernels_attention.attend(isa, "fast", q, k, v, lengths=np.array([17]), source=ATTENTION)
    k[:, :, 17:], v[:, :, 17:] = np.nan, np.nan
    got = test_kernels_attention.attend(isa, "fast", q, k, v, lengths=np.array([17]), source=ATTENTION)
    np.testing.assert_array_equal(got, want)
