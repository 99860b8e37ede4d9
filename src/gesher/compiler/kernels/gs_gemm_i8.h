// Products of 8-bit integers in 32: C[m,n] = sum over k of (A[m,k] - a_zero[m]) * (B[k,n] - b_zero[n]), then what
// follows.
//
// A is made unsigned and B signed by moving their zeros by 128, whatever they were: the processors' dot instructions
// want that, and sum(a - p)(b - q) = sum(ab) - q sum(a) - p sum(b) + K p q takes the zeros out again. Where there is
// such an instruction (VNNI), four of k go in one step; elsewhere two, widened to 16 bits, which cannot saturate.

#include "gs_pool.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// The rectangle C[m .. m+rows, n .. n+cols] of the matrix `batch` is finished and lies at `c`, rows `ldc` apart.
typedef void (*GsTileI32Fn)(void* context, int32_t* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                            int64_t cols);

typedef struct GsGemmI8 {
  int64_t M, N, K, batch;
  const uint8_t *a, *b;       // int8_t where signed
  int a_signed, b_signed;
  int64_t a_batch, a_row, a_col, b_batch, b_row, b_col;
  const uint8_t* b_packed;    // B as gs_gemm_i8_pack makes it, one after the other for each; NULL: packed here
  const int32_t *a_zero, *b_zero;  // a_zero[m * a_zero_step], b_zero[n * b_zero_step]; NULL: 0
  int64_t a_zero_step, b_zero_step;
  int32_t* c;
  int64_t c_batch, c_row;
  GsTileI32Fn epilogue;
  void* context;
  uint8_t* scratch;           // gs_gemm_i8_scratch bytes, 64-byte aligned
} GsGemmI8;

GS_INLINE int32_t gs_byte(const uint8_t* p, int is_signed) { return is_signed ? (int8_t)*p : *p; }

GS_LOCAL void gs_gemm_i8_plain(const GsGemmI8* g, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < g->batch; i++) {
    int32_t* c = g->c + i * g->c_batch;
    for (int64_t m = 0; m < g->M; m++)
      for (int64_t n = 0; n < g->N; n++) {
        int32_t p = g->a_zero ? g->a_zero[m * g->a_zero_step] : 0, q = g->b_zero ? g->b_zero[n * g->b_zero_step] : 0;
        uint32_t sum = 0;  // wraps around where a long sum leaves 32 bits, as the quick one does
        for (int64_t k = 0; k < g->K; k++)
          sum += (uint32_t)((gs_byte(g->a + i * g->a_batch + m * g->a_row + k * g->a_col, g->a_signed) - p)
                          * (gs_byte(g->b + i * g->b_batch + k * g->b_row + n * g->b_col, g->b_signed) - q));
        c[m * g->c_row + n] = (int32_t)sum;
      }
    if (g->epilogue) g->epilogue(g->context, c, g->c_row, i, 0, 0, g->M, g->N);
  }
}

// GS_I8_STEP of k per step; gs_dot_i8(sum, a, b): each 32-bit lane gets the dot product of its part of a and b.
#if (defined(__AVX512VNNI__) && GS_W == 16) || ((defined(__AVXVNNI__) || defined(__AVX512VNNI__)) && GS_W == 8)
#define GS_I8_STEP 4
typedef int8_t gs_i8_b;
typedef uint8_t gs_i8_a;
GS_INLINE gs_vi gs_dot_i8(gs_vi sum, gs_vi a, gs_vi b) {
#if GS_W == 16
  return (gs_vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVXVNNI__)
  return (gs_vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#else
  return (gs_vi)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#endif
}
#else
#define GS_I8_STEP 2
typedef int16_t gs_i8_b;
typedef int16_t gs_i8_a;
GS_INLINE gs_vi gs_dot_i8(gs_vi sum, gs_vi a, gs_vi b) {
#if defined(__AVX512BW__) && GS_W == 16
  return sum + (gs_vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && GS_W == 8
  return sum + (gs_vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && GS_W == 4
  return sum + (gs_vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  // The low and the high half of each lane, sign-extended.
  return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
#define GS_I8_MR 8
#define GS_I8_NV 3
#else
#define GS_I8_MR 6
#define GS_I8_NV 2
#endif
#define GS_I8_NR (GS_I8_NV * GS_W)

GS_INLINE int64_t gs_i8_depth(int64_t K) { return gs_round_up(gs_max_i64(K, 1), GS_I8_STEP); }
// Bytes of one panel: the columns' sums, then [k / STEP][column][STEP].
GS_INLINE int64_t gs_i8_panel(int64_t K) {
  return GS_I8_NR * (int64_t)sizeof(int32_t) + gs_i8_depth(K) * GS_I8_NR * (int64_t)sizeof(gs_i8_b);
}
// Bytes of one B packed.
GS_LOCAL int64_t gs_gemm_i8_packed(int64_t K, int64_t N) { return gs_ceil_div(N, GS_I8_NR) * gs_i8_panel(K); }

// Pack the panels first .. last of one B.
GS_LOCAL void gs_gemm_i8_pack(int64_t K, int64_t N, const uint8_t* b, int is_signed, int64_t b_row, int64_t b_col,
                              uint8_t* out, int64_t first, int64_t last) {
  for (int64_t p = first; p < last; p++) {
    int32_t* sums = (int32_t*)(out + p * gs_i8_panel(K));
    gs_i8_b* to = (gs_i8_b*)(sums + GS_I8_NR);
    memset(sums, 0, (size_t)gs_i8_panel(K));
    int64_t n0 = p * GS_I8_NR, cols = gs_min_i64(GS_I8_NR, N - n0);
    for (int64_t k = 0; k < K; k++)
      for (int64_t j = 0; j < cols; j++) {
        int32_t v = gs_byte(b + k * b_row + (n0 + j) * b_col, is_signed) - (is_signed ? 0 : 128);
        to[(k / GS_I8_STEP * GS_I8_NR + j) * GS_I8_STEP + k % GS_I8_STEP] = (gs_i8_b)v;
        sums[j] += v;
      }
  }
}

GS_INLINE void gs_i8_micro(const int rows, int64_t steps, const gs_i8_a* a, int64_t a_row, const gs_i8_b* b,
                           int32_t out[GS_I8_MR][GS_I8_NR]) {
  gs_vi sum[GS_I8_MR][GS_I8_NV] = {0};
  for (int64_t k = 0; k < steps; k++, a += GS_I8_STEP, b += GS_I8_NR * GS_I8_STEP) {
    gs_vi v[GS_I8_NV];
#pragma GCC unroll 4
    for (int j = 0; j < GS_I8_NV; j++) v[j] = *(const gs_vi_u*)(b + j * GS_W * GS_I8_STEP);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      int32_t few;
      memcpy(&few, a + i * a_row, 4);
      gs_vi x = gs_splat_i(few);
#pragma GCC unroll 4
      for (int j = 0; j < GS_I8_NV; j++) sum[i][j] = gs_dot_i8(sum[i][j], x, v[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < GS_I8_NV; j++) *(gs_vi_u*)&out[i][j * GS_W] = sum[i][j];
}

GS_NOINLINE void gs_i8_tile(int64_t rows, int64_t steps, const gs_i8_a* a, int64_t a_row, const gs_i8_b* b,
                            int32_t out[GS_I8_MR][GS_I8_NR]) {
  switch (rows) {
    case 1: gs_i8_micro(1, steps, a, a_row, b, out); break;
    case 2: gs_i8_micro(2, steps, a, a_row, b, out); break;
    case 3: gs_i8_micro(3, steps, a, a_row, b, out); break;
    case 4: gs_i8_micro(4, steps, a, a_row, b, out); break;
    case 5: gs_i8_micro(5, steps, a, a_row, b, out); break;
#if GS_I8_MR == 8
    case 6: gs_i8_micro(6, steps, a, a_row, b, out); break;
    case 7: gs_i8_micro(7, steps, a, a_row, b, out); break;
#endif
    default: gs_i8_micro(GS_I8_MR, steps, a, a_row, b, out);
  }
}

typedef struct GsGemmI8Run {
  const GsGemmI8* g;
  int64_t m_step, n_step, m_parts, n_parts, thread_bytes;
  uint8_t *packed, *rows;
} GsGemmI8Run;

GS_LOCAL void gs_gemm_i8_pack_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmI8Run* r = arg;
  const GsGemmI8* g = r->g;
  (void)thread;
  int64_t panels = gs_ceil_div(g->N, GS_I8_NR);
  for (int64_t i = begin; i < end; i++)
    gs_gemm_i8_pack(g->K, g->N, g->b + i / panels * g->b_batch, g->b_signed, g->b_row, g->b_col,
                    r->packed + i / panels * panels * gs_i8_panel(g->K), i % panels, i % panels + 1);
}

GS_LOCAL void gs_gemm_i8_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmI8Run* r = arg;
  const GsGemmI8* g = r->g;
  int64_t K = g->K, depth = gs_i8_depth(K), panel = gs_i8_panel(K);
  gs_i8_a* rows_at = (gs_i8_a*)(r->rows + thread * r->thread_bytes);
  int32_t tile[GS_I8_MR][GS_I8_NR], row_sum[GS_I8_MR];
  for (int64_t i = begin; i < end; i++) {
    int64_t batch = i / (r->m_parts * r->n_parts), part = i % (r->m_parts * r->n_parts);
    int64_t m0 = part % r->m_parts * r->m_step, m1 = gs_min_i64(m0 + r->m_step, g->M);
    int64_t n0 = part / r->m_parts * r->n_step, n1 = gs_min_i64(n0 + r->n_step, g->N);
    const uint8_t* packed = r->packed + (g->b_batch ? batch * gs_gemm_i8_packed(K, g->N) : 0);
    const int32_t shift_a = g->a_signed ? 128 : 0, shift_b = g->b_signed ? 0 : -128;
    for (int64_t m = m0; m < m1; m += GS_I8_MR) {
      int64_t rows = gs_min_i64(GS_I8_MR, m1 - m);
      for (int64_t j = 0; j < rows; j++) {
        const uint8_t* a = g->a + batch * g->a_batch + (m + j) * g->a_row;
        gs_i8_a* to = rows_at + j * depth;
        int32_t sum = 0;
        if (g->a_signed) for (int64_t k = 0; k < K; k++) to[k] = (gs_i8_a)((int8_t)a[k * g->a_col] + 128), sum += to[k];
        else for (int64_t k = 0; k < K; k++) to[k] = a[k * g->a_col], sum += to[k];
        for (int64_t k = K; k < depth; k++) to[k] = 0;
        row_sum[j] = sum;
      }
      for (int64_t n = n0; n < n1; n += GS_I8_NR) {
        const int32_t* sums = (const int32_t*)(packed + n / GS_I8_NR * panel);
        gs_i8_tile(rows, K ? depth / GS_I8_STEP : 0, rows_at, depth, (const gs_i8_b*)(sums + GS_I8_NR), tile);
        int64_t cols = gs_min_i64(GS_I8_NR, n1 - n);
        for (int64_t j = 0; j < rows; j++) {
          // Unsigned, because taking the zeros out may wrap around on the way and comes back.
          uint32_t p = (uint32_t)((g->a_zero ? g->a_zero[(m + j) * g->a_zero_step] : 0) + shift_a);
          int32_t* c = g->c + batch * g->c_batch + (m + j) * g->c_row + n;
          if (g->b_zero && g->b_zero_step) {
            for (int64_t l = 0; l < cols; l++) {
              uint32_t q = (uint32_t)(g->b_zero[n + l] + shift_b);
              c[l] = (int32_t)((uint32_t)tile[j][l] - q * (uint32_t)row_sum[j] - p * (uint32_t)sums[l]
                             + (uint32_t)K * p * q);
            }
          } else {
            uint32_t q = (uint32_t)((g->b_zero ? g->b_zero[0] : 0) + shift_b);
            uint32_t row = (uint32_t)K * p * q - q * (uint32_t)row_sum[j];
            for (int64_t l = 0; l < cols; l++) c[l] = (int32_t)((uint32_t)tile[j][l] - p * (uint32_t)sums[l] + row);
          }
        }
      }
      if (g->epilogue)
        g->epilogue(g->context, g->c + batch * g->c_batch + m * g->c_row + n0, g->c_row, batch, m, n0, rows, n1 - n0);
    }
  }
}

GS_INLINE int64_t gs_gemm_i8_rows(int64_t K) {
  return gs_round_up(GS_I8_MR * gs_i8_depth(K) * (int64_t)sizeof(gs_i8_a), 64);
}

// Bytes of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_gemm_i8_scratch(const GsGemmI8* g, int threads) {
  int64_t matrices = g->b_batch ? g->batch : 1;
  return threads * gs_gemm_i8_rows(g->K) + (g->b_packed ? 0 : matrices * gs_gemm_i8_packed(g->K, g->N));
}

GS_LOCAL void gs_gemm_i8(const GsGemmI8* g, GsPool* pool) {
  if (g->M <= 0 || g->N <= 0 || g->batch <= 0) return;
  if ((double)g->M * (double)g->N * (double)g->K * (double)g->batch < 200000.0 * GS_W) pool = 0;
  int threads = gs_pool_size(pool);
  GsGemmI8Run r = {.g = g, .thread_bytes = gs_gemm_i8_rows(g->K), .rows = g->scratch};
  int64_t panels = gs_ceil_div(g->N, GS_I8_NR), tiles = gs_ceil_div(g->M, GS_I8_MR);
  if (g->b_packed) {
    r.packed = (uint8_t*)g->b_packed;
  } else {
    r.packed = g->scratch + threads * r.thread_bytes;
    gs_parallel_for(pool, (g->b_batch ? g->batch : 1) * panels, gs_gemm_i8_pack_task, &r);
  }
  int64_t wanted = gs_ceil_div(threads, g->batch);
  r.m_step = gs_round_up(g->M, GS_I8_MR);
  r.n_step = panels * GS_I8_NR;
  if (tiles >= panels) r.m_step = gs_ceil_div(tiles, gs_min_i64(tiles, wanted)) * GS_I8_MR;
  else r.n_step = gs_ceil_div(panels, gs_min_i64(panels, wanted)) * GS_I8_NR;
  r.m_parts = gs_ceil_div(g->M, r.m_step);
  r.n_parts = gs_ceil_div(g->N, r.n_step);
  gs_parallel_for(pool, g->batch * r.m_parts * r.n_parts, gs_gemm_i8_task, &r);
}
