"""Matrix products of floats and doubles: every way of lying in memory, odd sizes, biases, what follows, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import FOLLOW, ISAS, call, close, guarded, scratch

from gesher.compiler.kernels import meanings

SOURCE = '#include "gs_gemm_f32.h"' + FOLLOW + """
#define ARGS int64_t M, int64_t N, int64_t K, int64_t batch, const float* a, int64_t a_batch, int64_t a_row, \\
  int64_t a_col, const float* b, int64_t b_batch, int64_t b_row, int64_t b_col, int64_t packed, float* c, \\
  int64_t c_row, const float* bias_m, const float* bias_n, int64_t after, int64_t accumulate, float* scratch
#define FILL {.M = M, .N = N, .K = K, .batch = batch, .a = a, .a_batch = a_batch, .a_row = a_row, .a_col = a_col, \\
  .b = b, .b_batch = b_batch, .b_row = b_row, .b_col = b_col, .b_packed = (int)packed, .c = c, .c_batch = M * c_row, \\
  .c_row = c_row, .bias_m = bias_m, .bias_n = bias_n, .epilogue = after ? follow : 0, \\
  .accumulate = (int)accumulate, .scratch = scratch}
GS_EXPORT int64_t need(GsPool* pool, ARGS) { GsGemm g = FILL; return gs_gemm_f32_scratch(&g, gs_pool_size(pool)); }
GS_EXPORT void fast(GsPool* pool, ARGS) { GsGemm g = FILL; gs_gemm_f32(&g, pool); }
GS_EXPORT void plain(GsPool* pool, ARGS) { GsGemm g = FILL; gs_gemm_f32_plain(&g, pool); }
GS_EXPORT int64_t packed_numbers(int64_t K, int64_t N) { return gs_gemm_f32_packed(K, N); }
GS_EXPORT void pack(int64_t K, int64_t N, const float* b, float* out) {
  gs_gemm_f32_pack(K, N, b, N, 1, out, 0, gs_ceil_div(N, GS_GEMM_NR));
}
"""
# The same text for doubles, whose panels have half as many columns.
DOUBLES = SOURCE
for word, other in (("float", "double"), ("gs_gemm_f32", "gs_gemm_f64"), ("GsGemm ", "GsGemmF64 "),
                    ("GS_GEMM_NR", "(GS_GEMM_NR / 2)")):
    DOUBLES = DOUBLES.replace(word, other)
SOURCES = {np.float32: SOURCE, np.float64: DOUBLES}
# What is built: for which processor, of which numbers.
isas = pytest.mark.parametrize("isa", [(i, t) for t in SOURCES for i in ISAS],
                               ids=lambda i: f"{i[0].name} {i[1].__name__}")


def multiply(isa, name, a, b, *, layout="nn", share_b=False, packed=False, bias_m=None, bias_n=None, after=False,
             accumulate=False, threads=1, c_gap=0):
    """a (batch,M,K), b (batch,K,N): stored transposed where `layout` says t, called, and given back as (batch,M,N)."""
    (isa, dtype), (batch, M, K), N = isa, a.shape, b.shape[2]
    source = SOURCES[dtype]
    stored_a = guarded(a if layout[0] == "n" else a.transpose(0, 2, 1))
    stored_b = guarded(b[:1] if share_b else b)
    a_row, a_col = (K, 1) if layout[0] == "n" else (1, M)
    b_row, b_col = N, 1
    if packed:
        floats = call(source, isa, "packed_numbers", K, N)
        stored_b = guarded(np.full((1 if share_b else batch, floats), np.nan, dtype))
        for i in range(stored_b.shape[0]):
            call(source, isa, "pack", K, N, np.ascontiguousarray(b[i]), stored_b[i])
    elif layout[1] == "t":
        stored_b = guarded(stored_b.transpose(0, 2, 1))
        b_row, b_col = 1, K
    c = guarded(np.full((batch, M, N + c_gap), 7.0, dtype))
    if M and c_gap:
        c = guarded(np.full(batch * M * (N + c_gap), 7.0, dtype)).reshape(batch, M, N + c_gap)
    b_batch = 0 if share_b else (stored_b[0].size if batch else 0)
    arguments = [M, N, K, batch, stored_a, M * K, a_row, a_col, stored_b, b_batch, b_row, b_col, int(packed), c,
                 N + c_gap, guarded(bias_m), guarded(bias_n), int(after), int(accumulate)]
    floats = call(source, isa, "need", *arguments, None, threads=threads)
    call(source, isa, name, *arguments, scratch(floats * dtype().itemsize // 4), threads=threads)
    assert np.all(c[:, :, N:] == 7.0), "written beyond a row"
    return c[:, :, :N]


def check(isa, seed, M, N, K, batch=1, name="fast", **options):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(s).astype(isa[1]) for s in ((batch, M, K), (batch, K, N)))
    if options.get("share_b"):
        b[1:] = b[:1]
    for bias, size in (("bias_m", M), ("bias_n", N)):
        if options.get(bias):
            options[bias] = rng.standard_normal(size).astype(isa[1])
        else:
            options[bias] = None
    expected = meanings.gemm(a, b, options["bias_m"], options["bias_n"]) + 7 * options.get("accumulate", False)
    if options.get("after"):
        i, m, n = np.ogrid[:batch, :M, :N]
        expected = expected * 2 + (i * 100 + m * 10 + n)
    got = multiply(isa, name, a, b, **options)
    # Doubles: as close again as they have bits more.
    close(got if isa[1] is np.float32 else expected + (got - expected) * 2.0**28, expected, K)


@isas
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_a_product_a_person_can_check(isa, name):
    a, b = isa[1]([[[1, 2], [3, 4], [5, 6]]]), isa[1]([[[1, 0, 2], [0, 1, 1]]])
    c = multiply(isa, name, a, b, bias_n=isa[1]([10, 20, 30]))
    assert c.tolist() == [[[11, 22, 34], [13, 24, 40], [15, 26, 46]]]


@isas
@pytest.mark.parametrize("M", [1, 2, 3, 5, 6, 7, 8, 9, 17, 31])
@pytest.mark.parametrize("N", [1, 3, 15, 16, 17, 31, 33, 47, 48, 49, 97])
def test_all_edges_of_tiles(isa, M, N):
    for i, (K, packed) in enumerate([(1, False), (5, True), (36, False), (64, True)]):
        check(isa, M * 100 + N, M, N, K, packed=packed, bias_n=i % 2, bias_m=i > 1, after=i == 2)


@isas
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("size", [(1, 40, 33), (40, 1, 33), (5, 50, 7), (20, 50, 70), (13, 200, 900)],
                         ids=lambda s: "x".join(map(str, s)))
def test_all_layouts(isa, layout, size):
    M, N, K = size
    for threads in (1, 3):
        check(isa, 5, M, N, K, layout=layout, threads=threads, bias_n=True, after=True)
        check(isa, 6, M, N, K, layout=layout, threads=threads, batch=4, bias_m=True)


@isas
@pytest.mark.parametrize("N", [1, 2, 3, 4, 5])
def test_few_columns(isa, N):
    for i, (M, K) in enumerate([(1, 64), (3, 33), (4, 200), (9, 32), (30, 7), (50, 129)]):
        check(isa, N, M, N, K, 1 + i % 2, layout="nt", threads=1 + i % 3, bias_n=i % 2, bias_m=i > 2, after=i == 2)
        check(isa, N, M, N, K, layout="nt", accumulate=True, c_gap=i)


@isas
def test_long_sums_are_cut_and_joined(isa):
    for K in (767, 768, 769, 1537):
        check(isa, K, 9, 50, K, packed=True, bias_n=True, after=True)
        check(isa, K, 19, 50, K, layout="tt", bias_m=True)


@isas
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_share_the_work(isa, threads):
    check(isa, 1, 200, 100, 90, threads=threads, packed=True, after=True, bias_m=True)
    check(isa, 2, 7, 900, 200, threads=threads, packed=True, after=True, bias_n=True)
    check(isa, 3, 100, 900, 60, threads=threads, after=True)
    check(isa, 4, 30, 70, 60, batch=2, threads=threads, after=True)
    check(isa, 5, 60, 70, 60, batch=11, threads=threads, after=True)
    check(isa, 6, 60, 70, 60, batch=11, threads=threads, share_b=True)
    check(isa, 7, 90, 70, 60, batch=3, threads=threads, share_b=True, packed=True)
    check(isa, 8, 3000, 1, 400, threads=threads, after=True, bias_m=True)
    check(isa, 9, 1, 3000, 400, layout="nt", threads=threads, after=True, bias_n=True)


@isas
def test_rows_may_lie_apart(isa):
    for packed in (False, True):
        check(isa, 1, 20, 33, 12, c_gap=5, packed=packed, after=True)
    check(isa, 2, 40, 1, 12, c_gap=3, after=True)


@isas
def test_an_empty_sum_is_the_bias(isa):
    for name in ("plain", "fast"):
        check(isa, 1, 5, 40, 0, name=name, bias_n=True, after=True)
        check(isa, 2, 5, 1, 0, name=name, bias_m=True)
        check(isa, 3, 0, 4, 3, name=name)


@isas
def test_products_are_added_to_what_is_there(isa):
    for name in ("plain", "fast"):
        check(isa, 1, 9, 50, 20, name=name, accumulate=True, bias_n=True, after=True)
        check(isa, 2, 9, 50, 900, name=name, accumulate=True, bias_m=True, packed=name == "fast")
        check(isa, 3, 30, 1, 20, name=name, accumulate=True)
        check(isa, 4, 9, 5, 0, name=name, accumulate=True)


@isas
def test_nan_and_infinity_stay_in_their_places(isa):
    a, b = np.ones((1, 9, 20), isa[1]), np.ones((1, 20, 50), isa[1])
    a[0, 3, 4], b[0, 7, 11] = np.nan, np.inf
    c = multiply(isa, "fast", a, b)
    assert np.all(np.isnan(c[0, 3])) and np.all(np.isinf(np.delete(c[0, :, 11], 3)))
    rest = np.delete(np.delete(c[0], 3, 0), 11, 1)
    assert np.all(rest == 20)


@isas
def test_the_plain_version_has_the_same_meaning(isa):
    for i, layout in enumerate(["nn", "nt", "tn", "tt"]):
        check(isa, i, 5, 7, 11, batch=3, name="plain", layout=layout, bias_m=True, bias_n=True, after=True)


@isas
def test_random_products(isa):
    rng = np.random.default_rng(11)
    for seed in range(60):
        M, N, K = (int(2 ** rng.uniform(0, 7.5)) for _ in range(3))
        check(isa, seed, M, N, K, batch=int(rng.integers(1, 4)), layout=rng.choice(["nn", "nt", "tn", "tt"]),
              threads=int(rng.integers(1, 4)), bias_m=rng.random() < .5, bias_n=rng.random() < .5,
              after=rng.random() < .5, c_gap=int(rng.integers(0, 3)))
