// Matrix products in float: C[m,n] = sum over k of A[m,k] * B[k,n], + bias, then whatever follows, for a batch of
// matrices.
//
// How it runs. A tile of MR rows by NR columns of C stays in registers while k runs; per k that costs MR broadcasts
// of A and NV loads of B for MR * NV multiplications, so the multipliers are the limit and not the loads. B comes in
// panels of NR columns, each row of a panel side by side: from constant weights packed at compile time, else packed
// on the way. KC rows of a few panels fit L2, MR rows of A fit L1. A is read where it stands, for its rows are read
// in order; only a transposed A is copied.
//
// What follows a product (activation, residual, ...) is a function that is called with each finished rectangle of C
// while that is still in L1: plain loops over it cost next to nothing, so nothing has to be spliced into the kernel.

#include "gs_pool.h"

// The rectangle C[m .. m+rows, n .. n+cols] of the matrix `batch` is finished and lies at `c`, rows `ldc` apart.
typedef void (*GsTileFn)(void* context, float* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                         int64_t cols);

typedef struct GsGemm {
  int64_t M, N, K, batch;
  const float* a;  // A[m,k] is a[batch * a_batch + m * a_row + k * a_col]
  int64_t a_batch, a_row, a_col;
  const float* b;  // B[k,n] is b[batch * b_batch + k * b_row + n * b_col]; packed panels where `b_packed`
  int64_t b_batch, b_row, b_col;
  int b_packed;
  float* c;        // C[m,n] is c[batch * c_batch + m * c_row + n]
  int64_t c_batch, c_row;
  int accumulate;       // the product is added to what C holds
  const float* bias_m;  // added to every row m: bias_m[m]; NULL for none
  const float* bias_n;  // added to every column n
  GsTileFn epilogue;    // NULL for none
  void* context;
  float* scratch;       // gs_gemm_f32_scratch floats, 64-byte aligned
} GsGemm;

// The plain version: the meaning, and the truth of the tests. (The order of a sum is not part of the meaning.)
GS_LOCAL void gs_gemm_f32_plain(const GsGemm* g, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < g->batch; i++) {
    float* c = g->c + i * g->c_batch;
    for (int64_t m = 0; m < g->M; m++)
      for (int64_t n = 0; n < g->N; n++) {
        double sum = g->accumulate ? (double)c[m * g->c_row + n] : 0;
        sum += (g->bias_m ? (double)g->bias_m[m] : 0) + (g->bias_n ? (double)g->bias_n[n] : 0);
        for (int64_t k = 0; k < g->K; k++)
          sum += (double)g->a[i * g->a_batch + m * g->a_row + k * g->a_col]
               * (double)g->b[i * g->b_batch + k * g->b_row + n * g->b_col];
        c[m * g->c_row + n] = (float)sum;
      }
    if (g->epilogue) g->epilogue(g->context, c, g->c_row, i, 0, 0, g->M, g->N);
  }
}

// Registers decide the tile: 24 sums + 3 of B + 1 of A of 32 registers, or 12 + 2 + 1 of 16.
#ifndef GS_GEMM_MR
#if defined(__AVX512F__) || defined(__aarch64__)
#define GS_GEMM_MR 8
#define GS_GEMM_NV 3
#else
#define GS_GEMM_MR 6
#define GS_GEMM_NV 2
#endif
#endif
#define GS_GEMM_NR (GS_GEMM_NV * GS_W)
// Rows of B per pass, and floats of B that stay in L2 meanwhile.
#ifndef GS_GEMM_KC
#define GS_GEMM_KC 768
#define GS_GEMM_L2 (80 * 1024)
#endif
// A pass may be somewhat longer where that spares one: each reads and writes C. Floats of A that stay in L2.
#define GS_GEMM_KC_MOST (GS_GEMM_KC + GS_GEMM_KC / 2)
#define GS_GEMM_L2_A (128 * 1024)

typedef struct GsGemmTile {
  int64_t K, a_row, b_row, c_row;
  const float *a, *b, *bias_m, *bias_n;  // bias_n reaches over whole vectors
  float* c;
  int first;  // C is not read
} GsGemmTile;

GS_INLINE void gs_gemm_micro(const int rows, const int nv, const GsGemmTile* t) {
  gs_vf sum[GS_GEMM_MR][GS_GEMM_NV];
  const float *a[GS_GEMM_MR], *b = t->b;
  const int64_t b_row = t->b_row;
  // What is written comes from afar too, and stores would wait for it one by one.
  if (t->first) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < nv; j++) __builtin_prefetch(t->c + i * t->c_row + j * GS_W, 1);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    a[i] = t->a + i * t->a_row;
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) {
      sum[i][j] = t->first ? (gs_vf){0} : gs_load(t->c + i * t->c_row + j * GS_W);
      if (t->bias_m) sum[i][j] += t->bias_m[i];
      if (t->bias_n) sum[i][j] += gs_load(t->bias_n + j * GS_W);
    }
  }
  int64_t k = 0;
  if (rows <= 2) {
    // Few sums are one long chain each; four chains keep the multipliers busy.
    gs_vf more[3][2][GS_GEMM_NV] = {0};
    for (; k + 4 <= t->K; k += 4, b += 4 * b_row)
#pragma GCC unroll 4
      for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
          gs_vf v = gs_load(b + u * b_row + j * GS_W);
#pragma GCC unroll 2
          for (int i = 0; i < rows; i++) {
            if (u == 3) sum[i][j] += a[i][k + u] * v;
            else more[u][i][j] += a[i][k + u] * v;
          }
        }
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < nv; j++) sum[i][j] += (more[0][i][j] + more[1][i][j]) + more[2][i][j];
  }
  for (; k < t->K; k++, b += b_row) {
    gs_vf v[GS_GEMM_NV];
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) v[j] = gs_load(b + j * GS_W);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      gs_vf x = gs_splat(a[i][k]);
#pragma GCC unroll 4
      for (int j = 0; j < nv; j++) sum[i][j] += x * v[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) gs_store(t->c + i * t->c_row + j * GS_W, sum[i][j]);
}

// One function for every height and width of a tile, so that edges cost only what they hold.
#define GS_GEMM_MICRO(rows, nv) \
  GS_NOINLINE void gs_gemm_micro_##rows##x##nv(const GsGemmTile* t) { gs_gemm_micro(rows, nv, t); }
#define GS_GEMM_ROWS_6(X, nv) X(1, nv) X(2, nv) X(3, nv) X(4, nv) X(5, nv) X(6, nv)
#define GS_GEMM_NAME(rows, nv) gs_gemm_micro_##rows##x##nv,
#if GS_GEMM_MR == 8
#define GS_GEMM_ROWS(X, nv) GS_GEMM_ROWS_6(X, nv) X(7, nv) X(8, nv)
#else
#define GS_GEMM_ROWS(X, nv) GS_GEMM_ROWS_6(X, nv)
#endif
GS_GEMM_ROWS(GS_GEMM_MICRO, 1)
GS_GEMM_ROWS(GS_GEMM_MICRO, 2)
#if GS_GEMM_NV == 3
GS_GEMM_ROWS(GS_GEMM_MICRO, 3)
#endif
static void (*const gs_gemm_micros[GS_GEMM_NV][GS_GEMM_MR])(const GsGemmTile*) __attribute__((unused)) = {
  {GS_GEMM_ROWS(GS_GEMM_NAME, 1)},
  {GS_GEMM_ROWS(GS_GEMM_NAME, 2)},
#if GS_GEMM_NV == 3
  {GS_GEMM_ROWS(GS_GEMM_NAME, 3)},
#endif
};

// Floats of B packed: panels of NR columns, the last filled up with zeros.
GS_LOCAL int64_t gs_gemm_f32_packed(int64_t K, int64_t N) { return gs_round_up(N, GS_GEMM_NR) * K; }

#if defined(__clang__) || __GNUC__ >= 12
#define GS_GEMM_PACK_FOURS 1
typedef float gs_v4 __attribute__((vector_size(16)));
typedef float gs_v4_u __attribute__((vector_size(16), aligned(4), may_alias));

// Four columns of B, each side by side along k, as rows of a panel: 4 x 4 numbers at a time change their places.
GS_INLINE void gs_gemm_pack_four(int64_t K, const float* b, int64_t b_col, float* to) {
  int64_t k = 0;
  for (; k + 4 <= K; k += 4) {
    gs_v4 a0 = *(const gs_v4_u*)(b + k), a1 = *(const gs_v4_u*)(b + b_col + k);
    gs_v4 a2 = *(const gs_v4_u*)(b + 2 * b_col + k), a3 = *(const gs_v4_u*)(b + 3 * b_col + k);
    gs_v4 low01 = __builtin_shufflevector(a0, a1, 0, 4, 1, 5), high01 = __builtin_shufflevector(a0, a1, 2, 6, 3, 7);
    gs_v4 low23 = __builtin_shufflevector(a2, a3, 0, 4, 1, 5), high23 = __builtin_shufflevector(a2, a3, 2, 6, 3, 7);
    *(gs_v4_u*)(to + k * GS_GEMM_NR) = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    *(gs_v4_u*)(to + (k + 1) * GS_GEMM_NR) = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    *(gs_v4_u*)(to + (k + 2) * GS_GEMM_NR) = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    *(gs_v4_u*)(to + (k + 3) * GS_GEMM_NR) = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
  }
  for (; k < K; k++)
    for (int j = 0; j < 4; j++) to[k * GS_GEMM_NR + j] = b[k + j * b_col];
}
#endif

// Pack the panels first .. last of one B to `out`: out[panel][k][column].
GS_LOCAL void gs_gemm_f32_pack(int64_t K, int64_t N, const float* b, int64_t b_row, int64_t b_col, float* out,
                               int64_t first, int64_t last) {
  for (int64_t p = first; p < last; p++) {
    int64_t n = p * GS_GEMM_NR, cols = gs_min_i64(GS_GEMM_NR, N - n);
    float* to = out + p * GS_GEMM_NR * K;
    const float* from = b + n * b_col;
    if (b_col == 1 && cols == GS_GEMM_NR) {
      for (int64_t k = 0; k < K; k++) memcpy(to + k * GS_GEMM_NR, from + k * b_row, GS_GEMM_NR * sizeof(float));
    } else if (b_col == 1) {
      for (int64_t k = 0; k < K; k++) {
        memcpy(to + k * GS_GEMM_NR, from + k * b_row, (size_t)cols * sizeof(float));
        memset(to + k * GS_GEMM_NR + cols, 0, (size_t)(GS_GEMM_NR - cols) * sizeof(float));
      }
    } else {
      // Columns lie apart: walk 16 of k at a time, so that a line that was read is used up.
      for (int64_t k0 = 0; k0 < K; k0 += 16) {
        int64_t k1 = gs_min_i64(k0 + 16, K);
        int64_t j = 0;
#ifdef GS_GEMM_PACK_FOURS
        for (; b_row == 1 && j + 4 <= cols; j += 4)
          gs_gemm_pack_four(k1 - k0, from + j * b_col + k0, b_col, to + k0 * GS_GEMM_NR + j);
#endif
        for (; j < cols; j++)
          for (int64_t k = k0; k < k1; k++) to[k * GS_GEMM_NR + j] = from[k * b_row + j * b_col];
        for (int64_t k = k0; k < k1; k++)
          for (int64_t j = cols; j < GS_GEMM_NR; j++) to[k * GS_GEMM_NR + j] = 0;
      }
    }
  }
}

// C[m0 .. m1, n0 .. n1] of one matrix; n0 is a multiple of NR. `panels`: all of B packed, or NULL: B is read where it
// stands (columns side by side), except the last panel where it is not full: that one is packed at `tail`.
GS_LOCAL void gs_gemm_rows(const GsGemm* g, int64_t batch, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
                           int64_t kc_most, const float* panels, const float* tail) {
  const float* a0 = g->a + batch * g->a_batch;
  const float* b0 = g->b + batch * g->b_batch;
  float* c0 = g->c + batch * g->c_batch;
  float edge[GS_GEMM_MR * GS_GEMM_NR], bias_edge[GS_GEMM_NR], copied[GS_GEMM_MR * GS_GEMM_KC_MOST];
  int64_t K = g->K;
  int64_t nc = gs_max_i64(GS_GEMM_L2 / gs_max_i64(kc_most, 1) / GS_GEMM_NR, 1) * GS_GEMM_NR;
  for (int64_t nb = n0; nb < n1; nb += nc) {
    int64_t ne = gs_min_i64(nb + nc, n1);
    // An empty sum is still a bias: the loop runs once for K = 0.
    for (int64_t k0 = 0; k0 == 0 || k0 < K; k0 += kc_most) {
      int64_t kc = gs_min_i64(kc_most, K - k0);
      int last = k0 + kc >= K;
      for (int64_t m = m0; m < m1; m += GS_GEMM_MR) {
        int64_t rows = gs_min_i64(GS_GEMM_MR, m1 - m);
        GsGemmTile t = {.K = kc, .a = a0 + m * g->a_row + k0, .a_row = g->a_row, .first = k0 == 0 && !g->accumulate,
                        .bias_m = k0 == 0 && g->bias_m ? g->bias_m + m : 0};
        if (g->a_col != 1) {
          for (int64_t k = 0; k < kc; k++)
            for (int64_t i = 0; i < rows; i++)
              copied[i * GS_GEMM_KC_MOST + k] = a0[(m + i) * g->a_row + (k0 + k) * g->a_col];
          t.a = copied;
          t.a_row = GS_GEMM_KC_MOST;
        }
        for (int64_t n = nb; n < ne; n += GS_GEMM_NR) {
          int64_t cols = gs_min_i64(GS_GEMM_NR, g->N - n), nv = gs_ceil_div(cols, GS_W);
          int whole = cols == nv * GS_W;
          t.b_row = GS_GEMM_NR;
          if (panels) {
            t.b = panels + n * K + k0 * GS_GEMM_NR;
          } else if (cols < GS_GEMM_NR) {
            t.b = tail + k0 * GS_GEMM_NR;
          } else {
            t.b = b0 + k0 * g->b_row + n;
            t.b_row = g->b_row;
          }
          t.bias_n = k0 == 0 && g->bias_n ? g->bias_n + n : 0;
          t.c = c0 + m * g->c_row + n;
          t.c_row = g->c_row;
          if (!whole) {
            // The last vector reaches beyond the matrix: the tile is made beside it and copied.
            t.c = edge;
            t.c_row = GS_GEMM_NR;
            if (!t.first)
              for (int64_t i = 0; i < rows; i++)
                memcpy(edge + i * GS_GEMM_NR, c0 + (m + i) * g->c_row + n, (size_t)cols * sizeof(float));
            if (t.bias_n) {
              memcpy(bias_edge, t.bias_n, (size_t)cols * sizeof(float));
              t.bias_n = bias_edge;
            }
          }
          gs_gemm_micros[nv - 1][rows - 1](&t);
          if (!whole)
            for (int64_t i = 0; i < rows; i++)
              memcpy(c0 + (m + i) * g->c_row + n, edge + i * GS_GEMM_NR, (size_t)cols * sizeof(float));
        }
        if (last && g->epilogue)
          g->epilogue(g->context, c0 + m * g->c_row + nb, g->c_row, batch, m, nb, rows, ne - nb);
      }
    }
  }
}

// The same, so many rows at a time that A stays in L2 while all of B passes.
GS_LOCAL void gs_gemm_block(const GsGemm* g, int64_t batch, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
                            const float* panels, const float* tail) {
  int64_t parts = gs_max_i64(gs_ceil_div(g->K, GS_GEMM_KC_MOST), 1);
  int64_t kc_most = gs_max_i64(gs_round_up(gs_ceil_div(g->K, parts), 4), 4);
  int64_t rows = gs_max_i64(GS_GEMM_L2_A / kc_most / GS_GEMM_MR, 8) * GS_GEMM_MR;
  // Chunks of equal length: a short last one would read all of B for little.
  int64_t chunks = gs_max_i64(gs_ceil_div(m1 - m0, rows + rows / 2), 1);
  rows = gs_round_up(gs_ceil_div(m1 - m0, chunks), GS_GEMM_MR);
  for (int64_t m = m0; m < m1; m += rows)
    gs_gemm_rows(g, batch, m, gs_min_i64(m + rows, m1), n0, n1, kc_most, panels, tail);
}

// sum of x[k] * y[k]
GS_LOCAL float gs_dot_f32(int64_t K, const float* x, const float* y) {
  gs_vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
  int64_t k = 0;
  for (; k + 4 * GS_W <= K; k += 4 * GS_W) {
    s0 += gs_load(x + k) * gs_load(y + k);
    s1 += gs_load(x + k + GS_W) * gs_load(y + k + GS_W);
    s2 += gs_load(x + k + 2 * GS_W) * gs_load(y + k + 2 * GS_W);
    s3 += gs_load(x + k + 3 * GS_W) * gs_load(y + k + 3 * GS_W);
  }
  for (; k + GS_W <= K; k += GS_W) s0 += gs_load(x + k) * gs_load(y + k);
  float sum = gs_sum_lanes((s0 + s1) + (s2 + s3));
  for (; k < K; k++) sum += x[k] * y[k];
  return sum;
}

typedef struct GsGemmRun {
  const GsGemm* g;
  int64_t batch, m_step, n_step, m_parts, panel_floats;
  float* packed;  // shared, or where the threads' own begin
  int direct;     // B is read where it stands but for its last panel
} GsGemmRun;

GS_LOCAL void gs_gemm_pack_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmRun* r = arg;
  const GsGemm* g = r->g;
  (void)thread;
  gs_gemm_f32_pack(g->K, g->N, g->b + r->batch * g->b_batch, g->b_row, g->b_col, r->packed, begin, end);
}

GS_LOCAL void gs_gemm_block_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmRun* r = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    int64_t m = i % r->m_parts * r->m_step, n = i / r->m_parts * r->n_step;
    const float* panels = r->direct ? 0 : r->g->b_packed ? r->g->b + r->batch * r->g->b_batch : r->packed;
    gs_gemm_block(r->g, r->batch, m, gs_min_i64(m + r->m_step, r->g->M), n, gs_min_i64(n + r->n_step, r->g->N), panels,
                  r->packed);
  }
}

// One last panel that is not full, packed by itself.
GS_INLINE void gs_gemm_pack_tail(const GsGemm* g, int64_t batch, float* tail) {
  int64_t n = g->N / GS_GEMM_NR * GS_GEMM_NR;
  if (n < g->N) gs_gemm_f32_pack(g->K, g->N - n, g->b + batch * g->b_batch + n, g->b_row, 1, tail, 0, 1);
}

GS_LOCAL void gs_gemm_batch_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmRun* r = arg;
  const GsGemm* g = r->g;
  float* packed = r->packed + thread * r->panel_floats;
  for (int64_t i = begin; i < end; i++) {
    const float* panels = g->b_packed ? g->b + i * g->b_batch : r->direct ? 0 : packed;
    // Matrices of a batch that share one B are packed once per thread.
    if (r->direct) gs_gemm_pack_tail(g, i, packed);
    else if (panels == packed && (i == begin || g->b_batch != 0))
      gs_gemm_f32_pack(g->K, g->N, g->b + i * g->b_batch, g->b_row, g->b_col, packed, 0, gs_ceil_div(g->N, GS_GEMM_NR));
    gs_gemm_block(g, i, 0, g->M, 0, g->N, panels, packed);
  }
}

GS_LOCAL void gs_gemm_dot_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemm* g = ((const GsGemmRun*)arg)->g;
  (void)thread;
  // Of the outputs of one matrix (a column where N is 1, a row where M is 1) each is one dot product.
  int64_t count = g->M * g->N;
  for (int64_t i = begin; i < end;) {
    int64_t batch = i / count, from = i % count, upto = gs_min_i64(count, from + (end - i));
    const float *a = g->a + batch * g->a_batch, *b = g->b + batch * g->b_batch;
    float* c = g->c + batch * g->c_batch;
    int64_t step = g->N == 1 ? g->c_row : 1;
    for (int64_t j = from; j < upto; j++) {
      float sum = g->N == 1 ? gs_dot_f32(g->K, a + j * g->a_row, b) : gs_dot_f32(g->K, a, b + j * g->b_col);
      if (g->accumulate) sum += c[j * step];
      if (g->bias_m) sum += g->bias_m[g->N == 1 ? j : 0];
      if (g->bias_n) sum += g->bias_n[g->N == 1 ? 0 : j];
      c[j * step] = sum;
    }
    if (g->epilogue) {
      if (g->N == 1) g->epilogue(g->context, c + from * g->c_row, g->c_row, batch, from, 0, upto - from, 1);
      else g->epilogue(g->context, c + from, g->c_row, batch, 0, from, 1, upto - from);
    }
    i += upto - from;
  }
}

// As many columns as fit 4 sums each in the registers: a vector holds neighbours of k, of 4 rows of A at a time. For
// B of few columns, each of which lies side by side: the lanes of a vector along n would stay empty.
#define GS_GEMM_NARROW 4
GS_INLINE void gs_gemm_narrow_rows(const int rows, const int cols, const GsGemm* g, const float* a, const float* b,
                                   float* sums) {
  gs_vf s[4][GS_GEMM_NARROW];
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < cols; j++) s[i][j] = (gs_vf){0};
  int64_t k = 0, whole = g->K / GS_W * GS_W;
  for (; k < whole; k += GS_W) {
    gs_vf v[GS_GEMM_NARROW];
#pragma GCC unroll 4
    for (int j = 0; j < cols; j++) v[j] = gs_load(b + j * g->b_col + k);
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
      gs_vf x = gs_load(a + i * g->a_row + k);
#pragma GCC unroll 4
      for (int j = 0; j < cols; j++) s[i][j] += x * v[j];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < cols; j++) {
      float sum = gs_sum_lanes(s[i][j]);
      for (int64_t r = whole; r < g->K; r++) sum += a[i * g->a_row + r] * b[j * g->b_col + r];
      sums[i * GS_GEMM_NARROW + j] = sum;
    }
}
#define GS_GEMM_NARROW_OF(cols) \
  GS_NOINLINE void gs_gemm_narrow_##cols(const GsGemm* g, int64_t rows, const float* a, const float* b, float* sums) { \
    if (rows == 4) gs_gemm_narrow_rows(4, cols, g, a, b, sums); \
    else for (int64_t i = 0; i < rows; i++) \
      gs_gemm_narrow_rows(1, cols, g, a + i * g->a_row, b, sums + i * GS_GEMM_NARROW); \
  }
GS_GEMM_NARROW_OF(2)
GS_GEMM_NARROW_OF(3)
GS_GEMM_NARROW_OF(4)

GS_LOCAL void gs_gemm_narrow_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemm* g = ((const GsGemmRun*)arg)->g;
  (void)thread;
  for (int64_t at = begin; at < end;) {
    int64_t batch = at / g->M, from = at % g->M, upto = gs_min_i64(g->M, from + (end - at));
    const float *a = g->a + batch * g->a_batch, *b = g->b + batch * g->b_batch;
    float* c = g->c + batch * g->c_batch;
    for (int64_t m = from; m < upto; m += 4) {
      float sums[4 * GS_GEMM_NARROW];
      int64_t rows = gs_min_i64(4, upto - m);
      if (g->N == 2) gs_gemm_narrow_2(g, rows, a + m * g->a_row, b, sums);
      else if (g->N == 3) gs_gemm_narrow_3(g, rows, a + m * g->a_row, b, sums);
      else gs_gemm_narrow_4(g, rows, a + m * g->a_row, b, sums);
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < g->N; j++) {
          float sum = sums[i * GS_GEMM_NARROW + j], *to = c + (m + i) * g->c_row + j;
          if (g->accumulate) sum += *to;
          if (g->bias_m) sum += g->bias_m[m + i];
          if (g->bias_n) sum += g->bias_n[j];
          *to = sum;
        }
      if (g->epilogue) g->epilogue(g->context, c + m * g->c_row, g->c_row, batch, m, 0, rows, g->N);
    }
    at += upto - from;
  }
}

// Whether few rows make packing B dearer than what it saves.
GS_INLINE int gs_gemm_direct(const GsGemm* g) { return !g->b_packed && g->b_col == 1 && g->M <= 2 * GS_GEMM_MR; }
GS_INLINE int gs_gemm_is_dots(const GsGemm* g) {
  return !g->b_packed && g->a_col == 1 && g->b_row == 1 && (g->N == 1 || g->M == 1);
}

GS_INLINE int gs_gemm_is_narrow(const GsGemm* g) {
  return !g->b_packed && g->a_col == 1 && g->b_row == 1 && g->N > 1 && g->N <= GS_GEMM_NARROW && g->K >= 2 * GS_W;
}

// Floats of scratch that gs_gemm_f32 may touch with a pool of `threads`.
GS_LOCAL int64_t gs_gemm_f32_scratch(const GsGemm* g, int threads) {
  if (g->b_packed || gs_gemm_is_dots(g) || gs_gemm_is_narrow(g)) return 0;
  int64_t copies = g->batch >= threads ? threads : 1;
  return copies * (gs_gemm_direct(g) ? GS_GEMM_NR * g->K : gs_gemm_f32_packed(g->K, g->N));
}

GS_LOCAL void gs_gemm_f32(const GsGemm* g, GsPool* pool) {
  if (g->M <= 0 || g->N <= 0 || g->batch <= 0) return;
  int threads = gs_pool_size(pool);
  GsGemmRun r = {.g = g, .packed = g->scratch, .direct = gs_gemm_direct(g)};
  double work = (double)g->M * (double)g->N * (double)g->K * (double)g->batch;
  // Waking the others takes microseconds: about what one core needs for this many multiplications.
  if (work < 25000.0 * GS_W) pool = 0, threads = 1;
  if (gs_gemm_is_dots(g)) {
    gs_parallel_for(pool, g->batch * g->M * g->N, gs_gemm_dot_task, &r);
    return;
  }
  if (gs_gemm_is_narrow(g)) {
    gs_parallel_for(pool, g->batch * g->M, gs_gemm_narrow_task, &r);
    return;
  }
  r.panel_floats = r.direct ? GS_GEMM_NR * g->K : gs_gemm_f32_packed(g->K, g->N);
  if (g->batch >= threads && (threads == 1 || g->batch % threads == 0 || g->batch >= 4 * threads)) {
    gs_parallel_for(pool, g->batch, gs_gemm_batch_task, &r);
    return;
  }
  int64_t panels = gs_ceil_div(g->N, GS_GEMM_NR);
  for (r.batch = 0; r.batch < g->batch; r.batch++) {
    if (r.direct) gs_gemm_pack_tail(g, r.batch, r.packed);
    else if (!g->b_packed && (r.batch == 0 || g->b_batch != 0)) gs_parallel_for(pool, panels, gs_gemm_pack_task, &r);
    // Cut rows by whole tiles or columns by whole panels: what leaves the longest part shortest, and if both are
    // alike, what is read least, for each part of one reads all of the other.
    int64_t tiles = gs_ceil_div(g->M, GS_GEMM_MR);
    int64_t by_rows = gs_ceil_div(tiles, threads) * panels, by_columns = gs_ceil_div(panels, threads) * tiles;
    if (by_rows < by_columns || (by_rows == by_columns && g->M > g->N)) {
      r.m_step = gs_ceil_div(tiles, gs_min_i64(tiles, threads)) * GS_GEMM_MR;
      r.n_step = gs_round_up(g->N, GS_GEMM_NR);
    } else {
      r.m_step = gs_round_up(g->M, GS_GEMM_MR);
      r.n_step = gs_ceil_div(panels, gs_min_i64(panels, threads)) * GS_GEMM_NR;
    }
    r.m_parts = gs_ceil_div(g->M, r.m_step);
    gs_parallel_for(pool, r.m_parts * gs_ceil_div(g->N, r.n_step), gs_gemm_block_task, &r);
  }
}
