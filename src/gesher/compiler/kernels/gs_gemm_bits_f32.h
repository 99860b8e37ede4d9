// Products of floats with weights of 4 or 8 bits that share a scale, and perhaps a zero point, by blocks along k:
// y[m,n] = sum over k of a[m,k] * (q[n,k] - zero[n,block]) * scale[n,block], + bias, then whatever follows.
//
// How it runs. Columns go in panels as those of gs_gemm_f32. A word of 32 bits has 8 (or 4) neighbours along k of one
// column, whose middle (8 or 128) was taken off already, so that they are signed; the words of a panel's columns lie
// side by side, and two shifts and a conversion make a vector of numbers of them. With few rows that is done as they
// are multiplied, and scales come in once a block: memory is the limit, and it is read once. With many rows a panel is
// made into floats once, and the product of floats does the rest.

#include "gs_gemm_f32.h"

typedef struct GsGemmBits {
  int64_t M, N, K, block;  // block: a multiple of 16
  int bits;                // 4 or 8
  const float* a;          // a[m * a_row + k]
  int64_t a_row;
  const uint32_t* words;   // [panel][word of k][column], of blocks that are whole
  const float* scale;      // [panel][block][column]
  const float* shift;      // the same: (middle - zero point) * scale; NULL where the zero point is the middle
  const float* bias;       // one a column, NULL for none
  float* y;
  int64_t y_row;
  GsTileFn epilogue;       // NULL for none
  void* context;
  float* scratch;          // gs_gemm_bits_f32_scratch floats, 64-byte aligned
} GsGemmBits;

GS_INLINE int64_t gs_gemm_bits_blocks(const GsGemmBits* g) { return gs_ceil_div(g->K, g->block); }
GS_INLINE float gs_gemm_bits_weight(const GsGemmBits* g, int64_t n, int64_t k) {
  int64_t per = 32 / g->bits, words = gs_gemm_bits_blocks(g) * g->block / per;
  uint32_t word = g->words[(n / GS_GEMM_NR * words + k / per) * GS_GEMM_NR + n % GS_GEMM_NR];
  int32_t q = (int32_t)(word << (32 - g->bits - g->bits * (k % per))) >> (32 - g->bits);
  int64_t at = (n / GS_GEMM_NR * gs_gemm_bits_blocks(g) + k / g->block) * GS_GEMM_NR + n % GS_GEMM_NR;
  return (float)q * g->scale[at] + (g->shift ? g->shift[at] : 0);
}

// The plain version: the meaning, and the truth of the tests.
GS_LOCAL void gs_gemm_bits_f32_plain(const GsGemmBits* g, GsPool* pool) {
  (void)pool;
  for (int64_t m = 0; m < g->M; m++)
    for (int64_t n = 0; n < g->N; n++) {
      double sum = g->bias ? (double)g->bias[n] : 0;
      for (int64_t k = 0; k < g->K; k++) sum += (double)g->a[m * g->a_row + k] * (double)gs_gemm_bits_weight(g, n, k);
      g->y[m * g->y_row + n] = (float)sum;
    }
  if (g->epilogue) g->epilogue(g->context, g->y, g->y_row, 0, 0, 0, g->M, g->N);
}

// Rows that share what is made of a word, and rows from which on panels are made into floats.
#if GS_GEMM_MR == 8
#define GS_BITS_ROWS 4
#else
#define GS_BITS_ROWS 2
#endif
#define GS_BITS_MANY 16

// One panel times a few rows: a (rows, whole blocks), sums of its blocks, y (rows, NR) side by side.
GS_INLINE void gs_gemm_bits_rows(const int rows, const int bits, const GsGemmBits* g, const float* a, int64_t a_row,
                                 const float* sums, int64_t panel, float* y) {
  const int64_t blocks = gs_gemm_bits_blocks(g), per = 32 / bits, each = g->block / per;
  const uint32_t* words = g->words + panel * blocks * each * GS_GEMM_NR;
  const float* scale = g->scale + panel * blocks * GS_GEMM_NR;
  const float* shift = g->shift ? g->shift + panel * blocks * GS_GEMM_NR : 0;
  gs_vf total[GS_BITS_ROWS][GS_GEMM_NV] = {0};
  for (int64_t block = 0; block < blocks; block++) {
    gs_vf part[GS_BITS_ROWS][GS_GEMM_NV] = {0};
    for (int64_t w = 0; w < each; w++, words += GS_GEMM_NR) {
      gs_vi v[GS_GEMM_NV];
      const float* x = a + block * g->block + w * per;
      __builtin_prefetch((const char*)words + 2048, 0, 3);
      __builtin_prefetch((const char*)words + 2112, 0, 3);
      __builtin_prefetch((const char*)words + 2176, 0, 3);
#pragma GCC unroll 4
      for (int j = 0; j < GS_GEMM_NV; j++) v[j] = *(const gs_vi_u*)(words + j * GS_W);
#pragma GCC unroll 8
      for (int u = 0; u < 32 / bits; u++)
#pragma GCC unroll 4
        for (int j = 0; j < GS_GEMM_NV; j++) {
          gs_vf q = __builtin_convertvector((v[j] << (32 - bits - bits * u)) >> (32 - bits), gs_vf);
#pragma GCC unroll 4
          for (int i = 0; i < rows; i++) part[i][j] += x[i * a_row + u] * q;
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < GS_GEMM_NV; j++) {
      gs_vf s = gs_load(scale + block * GS_GEMM_NR + j * GS_W);
#pragma GCC unroll 4
      for (int i = 0; i < rows; i++) total[i][j] += s * part[i][j];
      if (shift) {
        gs_vf z = gs_load(shift + block * GS_GEMM_NR + j * GS_W);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) total[i][j] += sums[i * blocks + block] * z;
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < GS_GEMM_NV; j++) gs_store(y + i * GS_GEMM_NR + j * GS_W, total[i][j]);
}
#define GS_BITS_OF(rows, bits) \
  GS_NOINLINE void gs_gemm_bits_##bits##_##rows(const GsGemmBits* g, const float* a, int64_t a_row, const float* sums, \
                                                int64_t panel, float* y) { \
    gs_gemm_bits_rows(rows, bits, g, a, a_row, sums, panel, y); \
  }
GS_BITS_OF(1, 4)
GS_BITS_OF(2, 4)
GS_BITS_OF(1, 8)
GS_BITS_OF(2, 8)
#if GS_BITS_ROWS == 4
GS_BITS_OF(3, 4)
GS_BITS_OF(4, 4)
GS_BITS_OF(3, 8)
GS_BITS_OF(4, 8)
#endif
static void (*const gs_gemm_bits_table[2][GS_BITS_ROWS])(const GsGemmBits*, const float*, int64_t, const float*, int64_t,
                                                         float*) __attribute__((unused)) = {
#if GS_BITS_ROWS == 4
  {gs_gemm_bits_4_1, gs_gemm_bits_4_2, gs_gemm_bits_4_3, gs_gemm_bits_4_4},
  {gs_gemm_bits_8_1, gs_gemm_bits_8_2, gs_gemm_bits_8_3, gs_gemm_bits_8_4},
#else
  {gs_gemm_bits_4_1, gs_gemm_bits_4_2},
  {gs_gemm_bits_8_1, gs_gemm_bits_8_2},
#endif
};

typedef struct GsBitsRun {
  const GsGemmBits* g;
  const float *a, *sums;  // rows of whole blocks, and the sums of their blocks
  int64_t a_row, thread_floats;
  float* own;             // the threads' panels
} GsBitsRun;

GS_LOCAL void gs_gemm_bits_few_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBitsRun* r = arg;
  const GsGemmBits* g = r->g;
  int64_t blocks = gs_gemm_bits_blocks(g);
  (void)thread;
  for (int64_t panel = begin; panel < end; panel++) {
    int64_t n = panel * GS_GEMM_NR, cols = gs_min_i64(GS_GEMM_NR, g->N - n);
    for (int64_t m = 0; m < g->M; m += GS_BITS_ROWS) {
      int64_t rows = gs_min_i64(GS_BITS_ROWS, g->M - m);
      float y[GS_BITS_ROWS * GS_GEMM_NR];
      gs_gemm_bits_table[g->bits == 8][rows - 1](g, r->a + m * r->a_row, r->a_row, r->sums + m * blocks, panel, y);
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
          g->y[(m + i) * g->y_row + n + j] = y[i * GS_GEMM_NR + j] + (g->bias ? g->bias[n + j] : 0);
      if (g->epilogue) g->epilogue(g->context, g->y + m * g->y_row + n, g->y_row, 0, m, n, rows, cols);
    }
  }
}

// A panel as floats: out[k][column].
GS_LOCAL void gs_gemm_bits_unpack(const GsGemmBits* g, int64_t panel, float* out) {
  const int64_t blocks = gs_gemm_bits_blocks(g), per = 32 / g->bits, each = g->block / per;
  const uint32_t* words = g->words + panel * blocks * each * GS_GEMM_NR;
  for (int64_t k = 0; k < g->K; k++)
    for (int j = 0; j < GS_GEMM_NV; j++) {
      int64_t at = (panel * blocks + k / g->block) * GS_GEMM_NR + j * GS_W;
      gs_vi v = *(const gs_vi_u*)(words + k / per * GS_GEMM_NR + j * GS_W);
      int up = 32 - g->bits - g->bits * (int)(k % per), down = 32 - g->bits;
      gs_vf q = __builtin_convertvector((v << up) >> down, gs_vf) * gs_load(g->scale + at);
      if (g->shift) q += gs_load(g->shift + at);
      gs_store(out + k * GS_GEMM_NR + j * GS_W, q);
    }
}

GS_LOCAL void gs_gemm_bits_many_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBitsRun* r = arg;
  const GsGemmBits* g = r->g;
  float* panels = r->own + thread * r->thread_floats;
  GsGemm f = {.M = g->M, .N = g->N, .K = g->K, .batch = 1, .a = g->a, .a_row = g->a_row, .a_col = 1, .b_packed = 1,
              .c = g->y, .c_row = g->y_row, .bias_n = g->bias, .epilogue = g->epilogue, .context = g->context};
  for (int64_t panel = begin; panel < end; panel++) {
    int64_t n = panel * GS_GEMM_NR;
    gs_gemm_bits_unpack(g, panel, panels);
    gs_gemm_f32_block(&f, 0, 0, g->M, n, gs_min_i64(n + GS_GEMM_NR, g->N), panels - n * g->K, 0);
  }
}

// Floats of scratch that gs_gemm_bits_f32 may touch with a pool of `threads`.
GS_LOCAL int64_t gs_gemm_bits_f32_scratch(const GsGemmBits* g, int threads) {
  int64_t blocks = gs_gemm_bits_blocks(g);
  if (g->M >= GS_BITS_MANY) return threads * gs_round_up(g->K * GS_GEMM_NR, 16);
  return g->M * blocks * (g->block + 1);
}

GS_LOCAL void gs_gemm_bits_f32(const GsGemmBits* g, GsPool* pool) {
  if (g->M <= 0 || g->N <= 0) return;
  int64_t blocks = gs_gemm_bits_blocks(g), panels = gs_ceil_div(g->N, GS_GEMM_NR);
  if ((double)g->M * (double)g->N * (double)g->K < 20000.0 * GS_W) pool = 0;
  GsBitsRun r = {.g = g, .thread_floats = gs_round_up(g->K * GS_GEMM_NR, 16), .own = g->scratch};
  if (g->M >= GS_BITS_MANY) {
    gs_parallel_for(pool, panels, gs_gemm_bits_many_task, &r);
    return;
  }
  // Rows filled up with zeros to whole blocks, and what their blocks sum up to.
  r.a = g->scratch;
  r.a_row = blocks * g->block;
  r.sums = g->scratch + g->M * r.a_row;
  for (int64_t m = 0; m < g->M; m++) {
    float *to = g->scratch + m * r.a_row, *sums = g->scratch + g->M * r.a_row + m * blocks;
    memcpy(to, g->a + m * g->a_row, (size_t)g->K * sizeof(float));
    memset(to + g->K, 0, (size_t)(r.a_row - g->K) * sizeof(float));
    for (int64_t block = 0; block < blocks && g->shift; block++) {
      float sum = 0;
      for (int64_t k = 0; k < g->block; k++) sum += to[block * g->block + k];
      sums[block] = sum;
    }
  }
  gs_parallel_for(pool, panels, gs_gemm_bits_few_task, &r);
}
