"""The attention kernel: odd sizes, all layouts, heads that share keys, windows, long keys, hidden keys, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded, scratch

from gesher.compiler.kernels import meanings

# What changes the scores of the test: a slope along the keys that differs by head and query.
SOURCE = """
#define GS_ATTENTION_KEYS 100
#include "gs_attention_f32.h"
static void follow(void* context, float* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                   int64_t cols) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      c[i * ldc + j] += 0.01f * (float)((batch * 7 + (m + i) * 3 + (n + j)) % 50);
}
#define ARGS const int64_t* s, const float* q, const float* k, const float* v, float* y, const int64_t* lengths, \\
  float scale, float* scratch
#define FILL {.batch = s[0], .groups = s[1], .each = s[2], .S = s[3], .T = s[4], .D = s[5], .E = s[6], .q = q, \\
  .k = k, .v = v, .k_batch = s[15], .q_batch = s[10], .q_group = s[11], .q_each = s[12], .q_row = s[13], \\
  .q_col = s[14], .k_group = s[16], .k_row = s[17], .k_col = s[18], .v_batch = s[19], .v_group = s[20], \\
  .v_row = s[21], .v_col = s[22], .y = y, .y_batch = s[23], .y_group = s[24], .y_each = s[25], .y_row = s[26], \\
  .scale = scale, .past = s[7], .left = s[8], .right = s[9], .lengths = lengths, .blind = (int)s[27], \\
  .epilogue = s[28] ? follow : 0, .scratch = scratch}
GS_EXPORT int64_t need(GsPool* pool, ARGS) {
  GsAttention a = FILL;
  return gs_max_i64(gs_attention_f32_scratch(&a, gs_pool_size(pool)), s[4]);
}
GS_EXPORT void fast(GsPool* pool, ARGS) { GsAttention a = FILL; gs_attention_f32(&a, pool); }
GS_EXPORT void plain(GsPool* pool, ARGS) { GsAttention a = FILL; gs_attention_f32_plain(&a, pool); }
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def stored(x, together):
    """A copy of x (B,G,I,rows,columns) and its strides in floats: as it is, or with the heads side by side."""
    laid = guarded(x.transpose(0, 3, 1, 2, 4) if together else x)
    strides = [s // 4 for s in (laid.transpose(0, 2, 3, 1, 4) if together else laid).strides]
    return laid, strides


def attend(isa, name, q, k, v, *, past=0, left=-1, right=-1, lengths=None, scale=0.3, blind=False, follow=False,
           together=False, turned=False, threads=1, source=SOURCE):
    """q (B,G,I,S,D), k (B,G,T,D), v (B,G,T,E); the result (B,G,I,S,E). `turned`: keys and values stand transposed."""
    (B, G, I, S, D), (T, E) = q.shape, v.shape[2:]
    q_, qs = stored(q, together)
    k_, v_ = k[:, :, None], v[:, :, None]
    if turned:
        k_, v_ = k_.swapaxes(3, 4), v_.swapaxes(3, 4)
    (k_, ks), (v_, vs) = stored(k_, together and not turned), stored(v_, together and not turned)
    if turned:
        ks, vs = [*ks[:3], ks[4], ks[3]], [*vs[:3], vs[4], vs[3]]
    y, ys = stored(np.full((B, G, I, S, E), 7, np.float32), together)
    s = np.array([B, G, I, S, T, D, E, past, left, right, *qs, ks[0], ks[1], *ks[3:], vs[0], vs[1], *vs[3:], *ys[:4],
                  blind, follow], np.int64)
    arguments = [s, q_, k_, v_, y, guarded(lengths), float(scale)]
    floats = call(source, isa, "need", *arguments, None, threads=threads)
    call(source, isa, name, *arguments, scratch(floats), threads=threads)
    return y.transpose(0, 2, 3, 1, 4) if together else y


def seen_of(S, T, past, left, right, lengths):
    place = np.arange(S)[:, None] + (past if lengths is None else (lengths - S)[:, None, None, None, None])
    key = np.arange(T)
    seen = (key >= (place - left if left >= 0 else 0)) & (key < (place + right + 1 if right >= 0 else T))
    return seen if lengths is None else seen & (key < lengths[:, None, None, None, None])


def check(isa, B, G, I, S, T, D, E, name="fast", **options):
    rng = np.random.default_rng(S * 1000 + T)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((B, G, I, S, D), (B, G, T, D), (B, G, T, E)))
    got = attend(isa, name, q, k, v, **options)
    seen = seen_of(S, T, *(options.get(x, d) for x, d in (("past", 0), ("left", -1), ("right", -1), ("lengths", None))))
    want = meanings.attention(q, k[:, :, None], v[:, :, None], 0.3, seen, options.get("blind", False))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=3e-5, atol=3e-6)


@isas
@pytest.mark.parametrize("name", ["fast", "plain"])
def test_one_query_a_person_can_check(isa, name):
    q, k, v = np.float32([[[[[1]]]]]), np.float32([[[[0], [10]]]]), np.float32([[[[1, 5], [3, 7]]]])
    y = attend(isa, name, q, k, v, scale=0.0)
    assert y.tolist() == [[[[[2, 6]]]]]


@isas
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 48, 49, 99, 100, 101, 205, 330])
@pytest.mark.parametrize("S", [1, 2, 3, 5, 9, 17, 40])
def test_all_sizes(isa, S, T):
    for i, (D, E) in enumerate([(1, 1), (8, 16), (20, 17), (33, 64)]):
        check(isa, 1 + i % 2, 2, 1 + i // 2, S, T, D, E, together=i % 2 == 1, turned=i == 2, threads=1 + i % 3)


@isas
def test_the_plain_version_has_the_same_meaning(isa):
    check(isa, 2, 2, 3, 4, 9, 5, 3, name="plain", past=4, right=0, together=True)
    check(isa, 2, 2, 3, 4, 9, 5, 3, name="plain", lengths=np.array([9, 3]), right=0, left=2, blind=True)


@isas
@pytest.mark.parametrize("name", ["fast", "plain"])
@pytest.mark.parametrize(("past", "left", "right"), [(0, -1, 0), (150, -1, 0), (0, 3, 2), (40, 30, 0), (0, 0, 0),
                                                      (0, 70, 150), (-5, -1, 0), (400, 3, 3)])
def test_windows(isa, name, past, left, right):
    for S, T in ((60, 60), (7, 210), (1, 130)) if name == "fast" else ((7, 30),):
        for blind in (False, True):
            check(isa, 1, 2, 2, S, T, 8, 16, name=name, past=past, left=left, right=right, blind=blind)


@isas
def test_lengths_of_samples(isa):
    for T in (20, 230):
        check(isa, 3, 2, 1, 5, T, 8, 16, lengths=np.array([T, 7, 0]), blind=True)
        check(isa, 3, 2, 1, 5, T, 8, 16, lengths=np.array([T, 7, 3]), right=0, blind=True)


@isas
@pytest.mark.parametrize("options", [{}, {"right": 0, "past": 20}, {"left": 30, "right": 5}], ids=str)
def test_what_changes_the_scores_sees_each_once_and_knows_its_place(isa, options):
    rng = np.random.default_rng(0)
    for S, T, I in ((1, 250, 3), (30, 110, 2), (5, 40, 5)):
        q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((2, 2, I, S, 16), (2, 2, T, 16), (2, 2, T, 20)))
        fast, plain = (attend(isa, name, q, k, v, follow=True, threads=threads, **options)
                       for name, threads in (("fast", 3), ("plain", 1)))
        np.testing.assert_allclose(fast, plain, rtol=3e-5, atol=3e-6)
        assert not np.allclose(plain, attend(isa, "plain", q, k, v, **options), rtol=1e-3)


@isas
def test_nan_and_infinity_stay_in_their_rows(isa):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((1, 1, 1, 20, 8), (1, 1, 150, 8), (1, 1, 150, 16)))
    q[..., 3, 2], q[..., 7, 0], q[..., 11, 1] = np.nan, np.inf, 1e30
    y = attend(isa, "fast", q, k, v)[0, 0, 0]
    assert np.isnan(y[3]).all() and np.isnan(y[7]).all()
    rest = np.delete(np.arange(20), [3, 7])
    np.testing.assert_allclose(y[rest], meanings.attention(q, k[:, :, None], v[:, :, None], 0.3)[0, 0, 0][rest],
                               rtol=3e-5, atol=3e-6)


@isas
def test_no_keys_and_no_queries(isa):
    check(isa, 1, 2, 1, 3, 0, 8, 16)
    check(isa, 1, 2, 1, 0, 3, 8, 16)
