// Matrix products of floats rounded to bfloat16: C[m,n] = sum over k of A[m,k] * B[k,n] in float, then whatever follows,
// for a batch of matrices.
//
// How it runs. As gs_gemm_f32.h, with pairs of k in the place of single ones: the same tile of C in registers, panels of
// as many columns. Constant weights come in panels of pairs; A is rounded here, some rows of a pass at a time, which
// stay in L2 while the panels pass: little work beside what each number is multiplied with.

#include "gs_bf16.h"
#include "gs_gemm_f32.h"

typedef struct GsGemmBf16 {
  int64_t M, N, K, batch;
  const float* a;  // A[m,k] is a[batch * a_batch + m * a_row + k * a_col]
  int64_t a_batch, a_row, a_col;
  const void* b;   // of floats B[k,n] is b[batch * b_batch + k * b_row + n * b_col]; panels of pairs where `b_packed`
  int64_t b_batch, b_row, b_col;  // with panels b_batch counts bfloat16
  int b_packed;
  float* c;        // C[m,n] is c[batch * c_batch + m * c_row + n]
  int64_t c_batch, c_row;
  GsTileFn epilogue;  // NULL for none
  void* context;
  float* scratch;     // gs_gemm_bf16_scratch floats, 64-byte aligned
} GsGemmBf16;

// B[k,n] of one matrix, rounded.
GS_INLINE float gs_gemm_bf16_b(const GsGemmBf16* g, int64_t batch, int64_t k, int64_t n) {
  if (!g->b_packed) return gs_bf16_once(((const float*)g->b)[batch * g->b_batch + k * g->b_row + n * g->b_col]);
  const uint16_t* panels = (const uint16_t*)g->b + batch * g->b_batch;
  int64_t panel = n / GS_GEMM_NR * GS_GEMM_NR * gs_round_up(g->K, 2);
  return gs_f32_of_bf16(panels[panel + (k / 2 * GS_GEMM_NR + n % GS_GEMM_NR) * 2 + k % 2]);
}

GS_LOCAL void gs_gemm_bf16_plain(const GsGemmBf16* g, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < g->batch; i++) {
    float* c = g->c + i * g->c_batch;
    for (int64_t m = 0; m < g->M; m++)
      for (int64_t n = 0; n < g->N; n++) {
        double sum = 0;
        for (int64_t k = 0; k < g->K; k++)
          sum += (double)gs_bf16_once(g->a[i * g->a_batch + m * g->a_row + k * g->a_col])
               * (double)gs_gemm_bf16_b(g, i, k, n);
        c[m * g->c_row + n] = (float)sum;
      }
    if (g->epilogue) g->epilogue(g->context, c, g->c_row, i, 0, 0, g->M, g->N);
  }
}

typedef struct GsBf16Tile {
  int64_t pairs, a_row, c_row;
  const int32_t *a, *b;  // rows of pairs; a panel
  float* c;
  int first;             // C is not read
} GsBf16Tile;

GS_INLINE void gs_bf16_micro(const int rows, const int nv, const GsBf16Tile* t) {
  gs_vf sum[GS_GEMM_MR][GS_GEMM_NV];
  const int32_t *a[GS_GEMM_MR], *b = t->b;
  const int64_t pairs = t->pairs;
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    a[i] = t->a + i * t->a_row;
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) sum[i][j] = t->first ? (gs_vf){0} : gs_load(t->c + i * t->c_row + j * GS_W);
  }
  int64_t k = 0;
  if (rows <= 2) {
    // Few sums are one long chain each; four chains keep the multipliers busy.
    gs_vf more[3][2][GS_GEMM_NV] = {0};
    for (; k + 4 <= pairs; k += 4, b += 4 * GS_GEMM_NR)
#pragma GCC unroll 4
      for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
          gs_vi v = *(const gs_vi_u*)(b + u * GS_GEMM_NR + j * GS_W);
#pragma GCC unroll 2
          for (int i = 0; i < rows; i++) {
            gs_vi x = gs_splat_i(a[i][k + u]);
            if (u == 3) sum[i][j] = gs_bf16_dot(sum[i][j], x, v);
            else more[u][i][j] = gs_bf16_dot(more[u][i][j], x, v);
          }
        }
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < nv; j++) sum[i][j] += (more[0][i][j] + more[1][i][j]) + more[2][i][j];
  }
  for (; k < pairs; k++, b += GS_GEMM_NR) {
    gs_vi v[GS_GEMM_NV];
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) v[j] = *(const gs_vi_u*)(b + j * GS_W);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      gs_vi x = gs_splat_i(a[i][k]);
#pragma GCC unroll 4
      for (int j = 0; j < nv; j++) sum[i][j] = gs_bf16_dot(sum[i][j], x, v[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) gs_store(t->c + i * t->c_row + j * GS_W, sum[i][j]);
}

#define GS_BF16_MICRO(rows, nv) \
  GS_NOINLINE void gs_bf16_micro_##rows##x##nv(const GsBf16Tile* t) { gs_bf16_micro(rows, nv, t); }
#define GS_BF16_NAME(rows, nv) gs_bf16_micro_##rows##x##nv,
GS_GEMM_ROWS(GS_BF16_MICRO, 1)
GS_GEMM_ROWS(GS_BF16_MICRO, 2)
#if GS_GEMM_NV == 3
GS_GEMM_ROWS(GS_BF16_MICRO, 3)
#endif
static void (*const gs_bf16_micros[GS_GEMM_NV][GS_GEMM_MR])(const GsBf16Tile*) __attribute__((unused)) = {
  {GS_GEMM_ROWS(GS_BF16_NAME, 1)},
  {GS_GEMM_ROWS(GS_BF16_NAME, 2)},
#if GS_GEMM_NV == 3
  {GS_GEMM_ROWS(GS_BF16_NAME, 3)},
#endif
};

// Pairs of one B packed.
GS_INLINE int64_t gs_gemm_bf16_packed(int64_t K, int64_t N) {
  return gs_round_up(N, GS_GEMM_NR) * gs_ceil_div(K, 2);
}

// Pack the panels first .. last of one B to `out`: out[panel][pair of k][column].
GS_LOCAL void gs_gemm_bf16_pack(int64_t K, int64_t N, const float* b, int64_t b_row, int64_t b_col, int32_t* out,
                                int64_t first, int64_t last) {
  int64_t pairs = gs_ceil_div(K, 2);
  for (int64_t p = first; p < last; p++) {
    int64_t n = p * GS_GEMM_NR, cols = gs_min_i64(GS_GEMM_NR, N - n);
    int32_t* to = out + p * GS_GEMM_NR * pairs;
    const float* from = b + n * b_col;
    int64_t j = 0;
    if (b_col == 1) {
      for (int64_t k = 0; k < pairs; k++)
        for (j = 0; j < cols; j += GS_W) {
          int64_t some = gs_min_i64(GS_W, cols - j);
          const float* x = from + 2 * k * b_row + j;
          int whole = some == GS_W, two = 2 * k + 1 < K;
          gs_vf even = whole ? gs_load(x) : gs_load_n(x, some), odd = {0};
          if (two) odd = whole ? gs_load(x + b_row) : gs_load_n(x + b_row, some);
          *(gs_vi_u*)(to + k * GS_GEMM_NR + j) = gs_bf16_pairs(even, odd);
        }
      j = gs_min_i64(gs_round_up(cols, GS_W), GS_GEMM_NR);
    } else {
      // Columns lie apart: each becomes a row of pairs first, which then change their places four by four.
      int32_t rows[4][16];
      for (; j < cols; j += 4) {
        int64_t some = gs_min_i64(4, cols - j);
        for (int64_t k = 0; k < pairs; k += 16) {
          int64_t length = gs_min_i64(16, pairs - k);
          for (int64_t i = 0; i < some; i++)
            gs_bf16_row(from + (j + i) * b_col + 2 * k * b_row, b_row, gs_min_i64(32, K - 2 * k), 1, rows[i]);
          int32_t* at = to + k * GS_GEMM_NR + j;
#ifdef GS_GEMM_PACK_FOURS
          if (some == 4) {
            gs_gemm_pack_four(length, (const float*)rows[0], 16, (float*)at);
            continue;
          }
#endif
          for (int64_t i = 0; i < some; i++)
            for (int64_t u = 0; u < length; u++) at[u * GS_GEMM_NR + i] = rows[i][u];
        }
      }
      j = cols;
    }
    for (int64_t k = 0; k < pairs && j < GS_GEMM_NR; k++)
      memset(to + k * GS_GEMM_NR + j, 0, (size_t)(GS_GEMM_NR - j) * sizeof(int32_t));
  }
}

// How A is taken: pairs of k a pass, rows rounded at a time and how many of them at the most, int32_t from row to row.
typedef struct GsBf16Cut {
  int64_t pairs, kc, rows, most, a_row;
} GsBf16Cut;

GS_INLINE GsBf16Cut gs_gemm_bf16_cut(int64_t K, int64_t rows) {
  GsBf16Cut c = {.pairs = gs_ceil_div(K, 2)};
  int64_t parts = gs_max_i64(gs_ceil_div(c.pairs, GS_GEMM_KC_MOST), 1);
  c.kc = gs_max_i64(gs_round_up(gs_ceil_div(c.pairs, parts), 4), 4);
  // Rows a multiple of 4096 bytes apart would meet in few places of L1.
  c.a_row = gs_round_up(c.kc, 16) + 16;
  int64_t wanted = gs_max_i64(GS_GEMM_L2_A / c.kc / GS_GEMM_MR, 8) * GS_GEMM_MR;
  // Chunks of equal length: a short last one would read all of B for little.
  c.most = gs_round_up(wanted + wanted / 2, GS_GEMM_MR);
  int64_t chunks = gs_max_i64(gs_ceil_div(rows, c.most), 1);
  c.rows = gs_max_i64(gs_round_up(gs_ceil_div(rows, chunks), GS_GEMM_MR), GS_GEMM_MR);
  return c;
}

// C[m0 .. m1, n0 .. n1] of one matrix; n0 is a multiple of NR. `room`: for a chunk of rows of A.
GS_LOCAL void gs_gemm_bf16_block(const GsGemmBf16* g, int64_t batch, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
                                 const int32_t* panels, int32_t* room) {
  GsBf16Cut cut = gs_gemm_bf16_cut(g->K, m1 - m0);
  float edge[GS_GEMM_MR * GS_GEMM_NR];
  int64_t nc = gs_max_i64(GS_GEMM_L2 / cut.kc / GS_GEMM_NR, 1) * GS_GEMM_NR;
  for (int64_t mb = m0; mb < m1; mb += cut.rows) {
    int64_t me = gs_min_i64(mb + cut.rows, m1);
    // An empty sum is 0: the loop runs once for K = 0.
    for (int64_t k0 = 0; k0 == 0 || k0 < cut.pairs; k0 += cut.kc) {
      int64_t kc = gs_min_i64(cut.kc, cut.pairs - k0);
      int last = k0 + kc >= cut.pairs;
      const float* a = g->a + batch * g->a_batch + 2 * k0 * g->a_col;
      for (int64_t m = mb; m < me; m++)
        gs_bf16_row(a + m * g->a_row, g->a_col, gs_min_i64(2 * kc, g->K - 2 * k0), 1, room + (m - mb) * cut.a_row);
      for (int64_t nb = n0; nb < n1; nb += nc) {
        int64_t ne = gs_min_i64(nb + nc, n1);
        for (int64_t m = mb; m < me; m += GS_GEMM_MR) {
          int64_t rows = gs_min_i64(GS_GEMM_MR, me - m);
          float* c = g->c + batch * g->c_batch + m * g->c_row;
          for (int64_t n = nb; n < ne; n += GS_GEMM_NR) {
            int64_t cols = gs_min_i64(GS_GEMM_NR, g->N - n), nv = gs_ceil_div(cols, GS_W);
            int whole = cols == nv * GS_W;
            GsBf16Tile t = {.pairs = kc, .a = room + (m - mb) * cut.a_row, .a_row = cut.a_row,
                            .b = panels + n * cut.pairs + k0 * GS_GEMM_NR, .first = k0 == 0,
                            .c = whole ? c + n : edge, .c_row = whole ? g->c_row : GS_GEMM_NR};
            // Where the last vector reaches beyond the matrix, the tile is made beside it and copied.
            if (!whole && !t.first)
              for (int64_t i = 0; i < rows; i++)
                memcpy(edge + i * GS_GEMM_NR, c + i * g->c_row + n, (size_t)cols * sizeof(float));
            gs_bf16_micros[nv - 1][rows - 1](&t);
            if (!whole)
              for (int64_t i = 0; i < rows; i++)
                memcpy(c + i * g->c_row + n, edge + i * GS_GEMM_NR, (size_t)cols * sizeof(float));
          }
          if (last && g->epilogue) g->epilogue(g->context, c + nb, g->c_row, batch, m, nb, rows, ne - nb);
        }
      }
    }
  }
}

typedef struct GsGemmBf16Run {
  const GsGemmBf16* g;
  int64_t batch, m_step, n_step, m_parts, thread_pairs, b_pairs;
  int32_t *rooms, *packed;
} GsGemmBf16Run;

GS_LOCAL void gs_gemm_bf16_pack_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmBf16Run* r = arg;
  const GsGemmBf16* g = r->g;
  (void)thread;
  gs_gemm_bf16_pack(g->K, g->N, (const float*)g->b + r->batch * g->b_batch, g->b_row, g->b_col, r->packed, begin, end);
}

GS_INLINE const int32_t* gs_gemm_bf16_panels(const GsGemmBf16* g, int64_t batch) {
  return (const int32_t*)((const uint16_t*)g->b + batch * g->b_batch);
}

GS_LOCAL void gs_gemm_bf16_block_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmBf16Run* r = arg;
  const GsGemmBf16* g = r->g;
  for (int64_t i = begin; i < end; i++) {
    int64_t m = i % r->m_parts * r->m_step, n = i / r->m_parts * r->n_step;
    gs_gemm_bf16_block(g, r->batch, m, gs_min_i64(m + r->m_step, g->M), n, gs_min_i64(n + r->n_step, g->N),
                       g->b_packed ? gs_gemm_bf16_panels(g, r->batch) : r->packed, r->rooms + thread * r->thread_pairs);
  }
}

GS_LOCAL void gs_gemm_bf16_batch_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmBf16Run* r = arg;
  const GsGemmBf16* g = r->g;
  int32_t* packed = r->packed + thread * r->b_pairs;
  for (int64_t i = begin; i < end; i++) {
    // Matrices of a batch that share one B are packed once per thread.
    if (!g->b_packed && (i == begin || g->b_batch != 0))
      gs_gemm_bf16_pack(g->K, g->N, (const float*)g->b + i * g->b_batch, g->b_row, g->b_col, packed, 0,
                        gs_ceil_div(g->N, GS_GEMM_NR));
    gs_gemm_bf16_block(g, i, 0, g->M, 0, g->N, g->b_packed ? gs_gemm_bf16_panels(g, i) : packed,
                       r->rooms + thread * r->thread_pairs);
  }
}

// int32_t that a thread rounds A in.
GS_INLINE int64_t gs_gemm_bf16_room(const GsGemmBf16* g) {
  GsBf16Cut cut = gs_gemm_bf16_cut(g->K, g->M);
  return gs_min_i64(cut.most, gs_round_up(g->M, GS_GEMM_MR)) * cut.a_row;
}

// Floats of scratch that gs_gemm_bf16 may touch with a pool of `threads`.
GS_LOCAL int64_t gs_gemm_bf16_scratch(const GsGemmBf16* g, int threads) {
  if (g->M <= 0 || g->N <= 0 || g->batch <= 0) return 0;
  int64_t packed = g->b_packed ? 0 : gs_round_up(gs_gemm_bf16_packed(g->K, g->N), 16);
  return gs_max_i64(gs_min_i64(g->batch, threads), 1) * packed + threads * gs_gemm_bf16_room(g);
}

GS_LOCAL void gs_gemm_bf16(const GsGemmBf16* g, GsPool* pool) {
  if (g->M <= 0 || g->N <= 0 || g->batch <= 0) return;
  int threads = gs_pool_size(pool);
  GsGemmBf16Run r = {.g = g, .thread_pairs = gs_gemm_bf16_room(g),
                     .b_pairs = gs_round_up(gs_gemm_bf16_packed(g->K, g->N), 16)};
  r.rooms = (int32_t*)g->scratch;
  r.packed = r.rooms + threads * r.thread_pairs;
  double work = (double)g->M * (double)g->N * (double)g->K * (double)g->batch;
  // Waking the others takes microseconds: about what one core needs for this many multiplications.
  if (work < 120000.0 * GS_W) pool = 0, threads = 1;
  if (g->batch >= threads && (threads == 1 || g->batch % threads == 0 || g->batch >= 4 * threads)) {
    gs_parallel_for(pool, g->batch, gs_gemm_bf16_batch_task, &r);
    return;
  }
  int64_t panels = gs_ceil_div(g->N, GS_GEMM_NR), tiles = gs_ceil_div(g->M, GS_GEMM_MR);
  // Cut rows by whole tiles or columns by whole panels: what leaves the longest part shortest, and if both are alike,
  // what is read least, for each part of one reads all of the other.
  int64_t by_rows = gs_ceil_div(tiles, threads) * panels, by_columns = gs_ceil_div(panels, threads) * tiles;
  if (by_rows < by_columns || (by_rows == by_columns && g->M > g->N)) {
    r.m_step = gs_ceil_div(tiles, gs_min_i64(tiles, threads)) * GS_GEMM_MR;
    r.n_step = gs_round_up(g->N, GS_GEMM_NR);
  } else {
    r.m_step = gs_round_up(g->M, GS_GEMM_MR);
    r.n_step = gs_ceil_div(panels, gs_min_i64(panels, threads)) * GS_GEMM_NR;
  }
  r.m_parts = gs_ceil_div(g->M, r.m_step);
  for (r.batch = 0; r.batch < g->batch; r.batch++) {
    if (!g->b_packed && (r.batch == 0 || g->b_batch != 0)) gs_parallel_for(pool, panels, gs_gemm_bf16_pack_task, &r);
    gs_parallel_for(pool, r.m_parts * gs_ceil_div(g->N, r.n_step), gs_gemm_bf16_block_task, &r);
  }
}
