// Products of 8-bit integers in 32: C[m,n] = sum over k of (A[m,k] - a_zero[m]) * (B[k,n] - b_zero[n]), then what
// follows, which finds each finished rectangle in L1 and puts its own results where they belong. How bytes are
// multiplied stands in gs_dot_i8.h. B comes packed with its weights, or is packed here.

#include "gs_dot_i8.h"

typedef struct GsGemmI8 {
  int64_t M, N, K, batch;
  const uint8_t *a, *b;       // int8_t where signed
  int a_signed, b_signed;
  int64_t a_batch, a_row, a_col, b_batch, b_row, b_col;
  const void* b_packed;       // B in panels, one matrix after the other where b_batch is not 0; NULL: packed here
  const int32_t* b_sums;      // with b_packed: the sums of its columns, N for each matrix
  int32_t a_zero, b_zero;     // the zero points, where the pointers below are NULL
  const uint8_t *a_zero_at, *b_zero_at;  // of the types of a and b: a_zero_at[m * a_zero_step], b_zero_at[n * ...]
  int64_t a_zero_step, b_zero_step;
  int32_t* c;                 // written where there is no epilogue
  int64_t c_batch, c_row;
  GsTileI32Fn epilogue;
  void* context;
  uint8_t* scratch;           // 4 * gs_gemm_i8_scratch bytes, 64-byte aligned
} GsGemmI8;

GS_LOCAL void gs_gemm_i8_plain(const GsGemmI8* g, GsPool* pool) {
  (void)pool;
  int32_t room[64], *tile;
  for (int64_t i = 0; i < g->batch; i++)
    for (int64_t m = 0; m < g->M; m++)
      for (int64_t n0 = 0; n0 < g->N; n0 += 64) {
        int64_t n1 = gs_min_i64(n0 + 64, g->N);
        tile = g->epilogue ? room : g->c + i * g->c_batch + m * g->c_row + n0;
        for (int64_t n = n0; n < n1; n++) {
          int32_t p = gs_zero_of(g->a_zero, g->a_zero_at ? g->a_zero_at + m * g->a_zero_step : 0, g->a_signed);
          int32_t q = gs_zero_of(g->b_zero, g->b_zero_at ? g->b_zero_at + n * g->b_zero_step : 0, g->b_signed);
          uint32_t sum = 0;  // wraps around where a long sum leaves 32 bits, as the quick one does
          for (int64_t k = 0; k < g->K; k++)
            sum += (uint32_t)((gs_byte(g->a + i * g->a_batch + m * g->a_row + k * g->a_col, g->a_signed) - p)
                            * (gs_byte(g->b + i * g->b_batch + k * g->b_row + n * g->b_col, g->b_signed) - q));
          tile[n - n0] = (int32_t)sum;
        }
        if (g->epilogue) g->epilogue(g->context, tile, 64, i, m, n0, 1, n1 - n0);
      }
}

// Bytes of one B packed.
GS_LOCAL int64_t gs_gemm_i8_packed(int64_t K, int64_t N) {
  int64_t wide = gs_i8_columns(N);
  return gs_ceil_div(N, wide) * gs_i8_panel(wide, 1, gs_max_i64(K, 1));
}

// Pack the panels first .. last of one B, and the sums of their columns.
GS_LOCAL void gs_gemm_i8_pack(int64_t K, int64_t N, const uint8_t* b, int is_signed, int64_t b_row, int64_t b_col,
                              void* out, int32_t* sums, int64_t first, int64_t last) {
  int64_t wide = gs_i8_columns(N), panel = gs_i8_panel(wide, 1, gs_max_i64(K, 1));
  const uint8_t flip = is_signed ? 0 : 0x80;
  for (int64_t p = first; p < last; p++) {
    gs_i8_b* to = (gs_i8_b*)((uint8_t*)out + p * panel);
    int32_t total[GS_I8_NR] = {0};
    int64_t n0 = p * wide, cols = gs_min_i64(wide, N - n0);
    memset(to, 0, (size_t)panel);
    for (int64_t k = 0; k < K; k++) {
      const uint8_t* from = b + k * b_row + n0 * b_col;
      gs_i8_b* line = to + k / GS_I8_STEP * wide * GS_I8_STEP + k % GS_I8_STEP;
      for (int64_t j = 0; j < cols; j++) {
        int32_t v = (int8_t)(from[j * b_col] ^ flip);
        line[j * GS_I8_STEP] = (gs_i8_b)v;
        total[j] += v;
      }
    }
    memcpy(sums + n0, total, (size_t)cols * 4);
  }
}

typedef struct GsGemmI8Run {
  const GsGemmI8* g;
  GsI8Rows rows;
  int64_t block, m_parts, n_parts, n_step, thread_bytes, copied;
  uint8_t *packed, *work;
  int32_t *sums, *init, *q;
} GsGemmI8Run;

GS_LOCAL void gs_gemm_i8_pack_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmI8Run* r = arg;
  const GsGemmI8* g = r->g;
  (void)thread;
  int64_t panels = gs_ceil_div(g->N, gs_i8_columns(g->N));
  for (int64_t i = begin; i < end; i++)
    gs_gemm_i8_pack(g->K, g->N, g->b + i / panels * g->b_batch, g->b_signed, g->b_row, g->b_col,
                    r->packed + i / panels * gs_gemm_i8_packed(g->K, g->N), r->sums + i / panels * g->N, i % panels,
                    i % panels + 1);
}

GS_LOCAL void gs_gemm_i8_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGemmI8Run* r = arg;
  const GsGemmI8* g = r->g;
  int64_t K = g->K, depth = gs_round_up(gs_max_i64(K, 1), 4);
  uint8_t *work = r->work + thread * r->thread_bytes, *copies = work;
  if (r->copied) work += gs_round_up(r->block * depth, 64);
  const uint8_t* rows[GS_I8_BLOCK];
  for (int64_t i = begin; i < end; i++) {
    int64_t batch = i / (r->m_parts * r->n_parts), part = i % (r->m_parts * r->n_parts);
    int64_t m0 = part % r->m_parts * r->block, count = gs_min_i64(r->block, g->M - m0);
    int64_t n0 = part / r->m_parts * r->n_step, n1 = gs_min_i64(n0 + r->n_step, g->N);
    int64_t matrix = g->b_batch ? batch : 0;
    GsI8Rows now = r->rows;
    now.b = (const gs_i8_b*)(r->packed + matrix * gs_gemm_i8_packed(K, g->N));
    now.init = r->init + matrix * g->N;
    now.c = g->c + batch * g->c_batch;
    for (int64_t j = 0; j < count; j++) {
      const uint8_t* a = g->a + batch * g->a_batch + (m0 + j) * g->a_row;
      if (r->copied) {
        uint8_t* to = copies + j * depth;
        if (g->a_col == 1) memcpy(to, a, (size_t)K);
        else for (int64_t k = 0; k < K; k++) to[k] = a[k * g->a_col];
        a = to;
      }
      rows[j] = a;
    }
    if (g->a_zero_at && g->a_zero_step) {
      // A zero point for each row: they go one by one, each with what its sums start from.
      int32_t* init = (int32_t*)(work + gs_round_up(gs_i8_block_bytes(r->block, 1, K), 64));
      now.init = init;
      for (int64_t j = 0; j < count; j++) {
        int32_t p = gs_byte(g->a_zero_at + (m0 + j) * g->a_zero_step, g->a_signed) + gs_i8_shift(g->a_signed);
        gs_i8_start(init, g->N, K, p, r->sums + matrix * g->N, r->rows.q, r->rows.q_step);
        gs_i8_rows(&now, batch, m0 + j, 1, rows + j, n0, n1, work);
      }
    } else {
      gs_i8_rows(&now, batch, m0, count, rows, n0, n1, work);
    }
  }
}

// Rows that go through the panels together: as many as stay in half of L2.
GS_INLINE int64_t gs_gemm_i8_block(const GsGemmI8* g) {
  int64_t fit = 200000 / gs_max_i64(g->K, 1) / GS_I8_MR * GS_I8_MR;
  return gs_min_i64(gs_max_i64(fit, GS_I8_MR), gs_min_i64(GS_I8_BLOCK, gs_round_up(g->M, GS_I8_MR)));
}

GS_INLINE int64_t gs_gemm_i8_thread_bytes(const GsGemmI8* g) {
  int64_t block = gs_gemm_i8_block(g);
  return gs_round_up(block * gs_round_up(gs_max_i64(g->K, 1), 4), 64)
       + gs_round_up(gs_i8_block_bytes(block, 1, gs_max_i64(g->K, 1)), 64) + gs_round_up(g->N * 4, 64);
}

// 32-bit numbers of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_gemm_i8_scratch(const GsGemmI8* g, int threads) {
  int64_t matrices = g->b_batch ? g->batch : 1, columns = gs_round_up(matrices * g->N * 4, 64);
  return (threads * gs_gemm_i8_thread_bytes(g) + columns + gs_round_up(g->N * 4, 64)
          + (g->b_packed ? 0 : columns + gs_round_up(matrices * gs_gemm_i8_packed(g->K, g->N), 64))) / 4;
}

GS_LOCAL void gs_gemm_i8(const GsGemmI8* g, GsPool* pool) {
  if (g->M <= 0 || g->N <= 0 || g->batch <= 0) return;
  if ((double)g->M * (double)g->N * (double)g->K * (double)g->batch < 60000.0 * GS_W) pool = 0;
  int threads = gs_pool_size(pool);
  GsGemmI8Run r = {.g = g, .thread_bytes = gs_gemm_i8_thread_bytes(g), .work = g->scratch,
                   .block = gs_gemm_i8_block(g)};
  int64_t matrices = g->b_batch ? g->batch : 1, columns = gs_round_up(matrices * g->N * 4, 64);
  int64_t panels = gs_ceil_div(g->N, gs_i8_columns(g->N));
  r.copied = g->a_col != 1 || g->K % 4 || g->K == 0;
  r.init = (int32_t*)(g->scratch + threads * r.thread_bytes);
  r.q = (int32_t*)((uint8_t*)r.init + columns);
  r.sums = (int32_t*)((uint8_t*)r.q + gs_round_up(g->N * 4, 64));
  if (g->b_packed) {
    r.packed = (uint8_t*)g->b_packed;
    r.sums = (int32_t*)g->b_sums;
  } else {
    r.packed = (uint8_t*)r.sums + columns;
    gs_parallel_for(pool, matrices * panels, gs_gemm_i8_pack_task, &r);
  }
  int any = 0;
  for (int64_t n = 0; n < g->N; n++) {
    r.q[n] = gs_zero_of(g->b_zero, g->b_zero_at ? g->b_zero_at + n * g->b_zero_step : 0, g->b_signed)
           - (g->b_signed ? 0 : 128);
    any |= r.q[n];
  }
  static const int64_t none[1] = {0};
  r.rows = (GsI8Rows){.walk = {1, g->K, g->K ? gs_ceil_div(g->K, GS_I8_STEP) : 0, none, gs_i8_flip(g->a_signed)},
                      .q = any ? r.q : 0, .q_step = 1, .N = g->N, .ldc = g->c_row, .epilogue = g->epilogue,
                      .context = g->context};
  int32_t p = gs_zero_of(g->a_zero, g->a_zero_at, g->a_signed) + gs_i8_shift(g->a_signed);
  if (!(g->a_zero_at && g->a_zero_step))
    for (int64_t i = 0; i < matrices; i++)
      gs_i8_start(r.init + i * g->N, g->N, g->K, p, r.sums + i * g->N, r.rows.q, 1);
  // Few rows: the panels are dealt out. Many: blocks of rows, as many for each thread.
  int64_t wanted = gs_ceil_div(threads, g->batch);
  r.m_parts = gs_ceil_div(g->M, r.block);
  if (wanted > 1 && g->M >= 4 * GS_I8_MR * wanted) {
    r.m_parts = gs_round_up(r.m_parts, wanted);
    r.block = gs_round_up(gs_ceil_div(g->M, r.m_parts), GS_I8_MR);
    r.m_parts = gs_ceil_div(g->M, r.block);
    r.n_parts = 1;
  } else {
    r.n_parts = gs_min_i64(panels, wanted);
  }
  r.n_step = gs_ceil_div(panels, r.n_parts) * gs_i8_columns(g->N);
  r.n_parts = gs_ceil_div(g->N, r.n_step);
  gs_parallel_for(pool, g->batch * r.m_parts * r.n_parts, gs_gemm_i8_task, &r);
}
