"""Integer products: all signs, zero points, layouts and edges, exactly, with and without the dot instructions."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.compiler.kernels import meanings

SOURCE = """
#include "gs_gemm_i8.h"
typedef struct { int32_t* c; int64_t batch, row; } Where;
// Adds, so that a rectangle left out or visited twice shows.
static void follow(void* context, int32_t* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                   int64_t cols) {
  const Where* w = context;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      w->c[batch * w->batch + (m + i) * w->row + n + j] +=
          c[i * ldc + j] * 2 + (int32_t)(batch * 100 + (m + i) * 10 + n + j) - 7;
}
#define ARGS GsPool* pool, const int64_t* s, const uint8_t* a, const uint8_t* b, const void* b_packed, \\
  const int32_t* b_sums, const uint8_t* a_zero, const uint8_t* b_zero, int32_t* c, uint8_t* scratch
#define FILL \\
  Where where = {c, s[0] * s[1], s[1]}; \\
  GsGemmI8 g = {.M = s[0], .N = s[1], .K = s[2], .batch = s[3], .a = a, .b = b, .a_signed = (int)s[4], \\
    .b_signed = (int)s[5], .a_batch = s[6], .a_row = s[7], .a_col = s[8], .b_batch = s[9], .b_row = s[10], \\
    .b_col = s[11], .b_packed = b_packed, .b_sums = b_sums, .a_zero_at = a_zero, .b_zero_at = b_zero, \\
    .a_zero_step = s[12], .b_zero_step = s[13], .c = c, .c_batch = s[0] * s[1], .c_row = s[1], \\
    .epilogue = s[14] ? follow : 0, .context = &where, .scratch = scratch}
GS_EXPORT int64_t need(ARGS) { FILL; return 4 * gs_gemm_i8_scratch(&g, gs_pool_size(pool)); }
GS_EXPORT void fast(ARGS) { FILL; gs_gemm_i8(&g, pool); }
GS_EXPORT void plain(ARGS) { FILL; gs_gemm_i8_plain(&g, pool); }
GS_EXPORT int64_t packed_bytes(int64_t K, int64_t N) { return gs_gemm_i8_packed(K, N); }
GS_EXPORT int64_t step(void) { return GS_I8_STEP; }
GS_EXPORT void pack(const int64_t* s, const uint8_t* b, uint8_t* out, int32_t* sums) {
  for (int64_t i = 0; i < (s[9] ? s[3] : 1); i++)
    gs_gemm_i8_pack(s[2], s[1], b + i * s[9], (int)s[5], s[10], s[11], out + i * gs_gemm_i8_packed(s[2], s[1]),
                    sums + i * s[1], 0, gs_ceil_div(s[1], gs_i8_columns(s[1])));
}
"""
# None: exactly this processor, whose dot instructions the named instruction sets leave out.
isas = pytest.mark.parametrize("isa", [None, *ISAS], ids=lambda i: i.name if i else "native")
TYPES = [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8), (np.int8, np.uint8)]


def check(isa, seed, M, N, K, batch=1, name="fast", types=(np.uint8, np.int8), layout="nn", zeros="none", share_b=False,
          packed=False, after=False, threads=1, extreme=False):
    rng = np.random.default_rng(seed)

    def draw(shape, dtype):
        info = np.iinfo(dtype)
        values = rng.choice([info.min, info.max], shape) if extreme else rng.integers(info.min, info.max + 1, shape)
        return values.astype(dtype)

    a, b = draw((batch, M, K), types[0]), draw((1 if share_b else batch, K, N), types[1])
    a_zero, b_zero = None, None
    if zeros != "none":
        a_zero, b_zero = (draw(n if zeros == "each" else 1, t) for n, t in zip((M, N), types))
    stored_a = guarded(a if layout[0] == "n" else a.transpose(0, 2, 1))
    stored_b = guarded(b if layout[1] == "n" else b.transpose(0, 2, 1))
    a_row, a_col = (K, 1) if layout[0] == "n" else (1, M)
    b_row, b_col = (N, 1) if layout[1] == "n" else (1, K)
    s = np.array([M, N, K, batch, types[0] == np.int8, types[1] == np.int8, M * K, a_row, a_col,
                  0 if share_b else K * N, b_row, b_col, zeros == "each", zeros == "each", after], np.int64)
    panels = sums = None
    if packed:
        panels = guarded(np.zeros(len(b) * call(SOURCE, isa, "packed_bytes", K, N), np.uint8))
        sums = guarded(np.zeros(len(b) * N, np.int32))
        call(SOURCE, isa, "pack", s, stored_b, panels, sums)
    c = guarded(np.full((batch, M, N), 7, np.int32))
    arguments = [s, stored_a, stored_b, panels, sums, guarded(a_zero), guarded(b_zero), c]
    scratch = np.zeros((max(1, call(SOURCE, isa, "need", *arguments, None, threads=threads)) + 63) // 64 * 64, np.uint8)
    call(SOURCE, isa, name, *arguments, guarded(scratch), threads=threads)
    expected = meanings.integer_gemm(a, b, *(np.int32(0) if z is None else z.astype(np.int32) for z in (
        None if a_zero is None else a_zero[:, None], b_zero)))
    if after:
        i, m, n = np.ogrid[:batch, :M, :N]
        expected = expected * 2 + (i * 100 + m * 10 + n)
    assert np.array_equal(c, expected)


@isas
@pytest.mark.parametrize("types", TYPES, ids=lambda t: f"{t[0].__name__}x{t[1].__name__}")
@pytest.mark.parametrize("zeros", ["none", "one", "each"])
def test_all_signs_and_zero_points(isa, types, zeros):
    for seed, (M, N, K) in enumerate([(1, 1, 1), (3, 17, 5), (9, 49, 33), (7, 100, 64), (2, 3, 130)]):
        for name in ("plain", "fast"):
            check(isa, seed, M, N, K, name=name, types=types, zeros=zeros)
        check(isa, seed, M, N, K, types=types, zeros=zeros, extreme=True, packed=True)


@isas
def test_extreme_values_do_not_saturate(isa):
    for types in TYPES:
        check(isa, 1, 4, 20, 1000, types=types, extreme=True, zeros="one")


@isas
def test_edges_layouts_and_threads(isa):
    rng = np.random.default_rng(2)
    for seed in range(60):
        M, N, K = (int(2 ** rng.uniform(0, 6.5)) for _ in range(3))
        check(isa, seed, M, N, K, batch=int(rng.integers(1, 4)), types=TYPES[seed % 4], packed=rng.random() < .5,
              layout=str(rng.choice(["nn", "nt", "tn", "tt"])), zeros=str(rng.choice(["none", "one", "each"])),
              share_b=rng.random() < .5, after=rng.random() < .5)
    for threads in (2, 3):
        check(isa, 1, 100, 200, 300, threads=threads, after=True, zeros="each")
        check(isa, 2, 8, 900, 500, threads=threads, after=True, zeros="each", packed=True)
        check(isa, 3, 60, 70, 200, batch=5, threads=threads, after=True, share_b=True)


@isas
def test_an_empty_sum_is_zero(isa):
    for name in ("plain", "fast"):
        check(isa, 1, 3, 5, 0, name=name, zeros="each", after=True)
        check(isa, 2, 0, 5, 3, name=name)
