// Attention whose two products multiply numbers rounded to bfloat16 and sum in float: see gs_attention_f32.h. Scores and
// softmax stay floats; the weights that come of it are rounded for the product with the values.
//
// How it runs. As gs_attention_f32.h; keys and values are packed in pairs (of neighbours in a key, and of neighbouring
// keys). Few queries would not pay for that: they go the way of floats.

#include "gs_attention_f32.h"
#include "gs_gemm_bf16.h"

GS_LOCAL void gs_attention_bf16_plain(const GsAttention* a, GsPool* pool) {
  (void)pool;
  float* x = a->scratch;
  for (int64_t head = 0; head < a->batch * a->groups * a->each; head++) {
    int64_t b = head / (a->groups * a->each), g = head / a->each % a->groups, i = head % a->each;
    for (int64_t s = 0; s < a->S; s++) {
      const float* q = a->q + b * a->q_batch + g * a->q_group + i * a->q_each + s * a->q_row;
      float* y = a->y + b * a->y_batch + g * a->y_group + i * a->y_each + s * a->y_row;
      const float *k = a->k + b * a->k_batch + g * a->k_group, *v = a->v + b * a->v_batch + g * a->v_group;
      for (int64_t t = 0; t < a->T; t++) {
        double sum = 0;
        for (int64_t d = 0; d < a->D; d++)
          sum += (double)gs_bf16_once(q[d * a->q_col] * a->scale) * (double)gs_bf16_once(k[t * a->k_row + d * a->k_col]);
        x[t] = (float)sum;
      }
      if (a->epilogue) a->epilogue(a->context, x, a->T, head, s, 0, 1, a->T);
      int64_t low, high;
      gs_attention_sees(a, b, s, &low, &high);
      float most = -__builtin_inff();
      for (int64_t t = low; t < high; t++) most = gs_maxf(most, x[t]);
      double total = 0;
      int nothing = most == -__builtin_inff();
      for (int64_t t = low; t < high; t++) total += x[t] = (float)exp((double)x[t] - (nothing ? 0 : most));
      for (int64_t e = 0; e < a->E; e++) {
        double sum = 0;
        for (int64_t t = low; t < high; t++)
          sum += (double)gs_bf16_once(x[t]) * (double)gs_bf16_once(v[t * a->v_row + e * a->v_col]);
        y[e] = total == 0 && (a->blind || a->T == 0) ? 0.0f : (float)(sum / total);
      }
    }
  }
}

typedef struct GsAttentionBf16Run {
  const GsAttention* a;
  int64_t blocks, keys;        // blocks of rows in a group; keys taken at a time, a multiple of a panel
  int64_t wide, e_wide;        // floats between rows of scores and of sums
  int64_t x_pairs, q_pairs;    // pairs between rows of rounded weights and queries
  int64_t k_floats, v_floats;  // packed keys and values
  int64_t thread_floats;
} GsAttentionBf16Run;

// Whether the queries of a group are too few to pay for packing keys and values.
GS_INLINE int gs_attention_bf16_few(const GsAttention* a) { return a->each * a->S < GS_ATTENTION_ROWS; }

GS_INLINE GsAttentionBf16Run gs_attention_bf16_run(const GsAttention* a) {
  GsAttentionBf16Run r = {.a = a};
  int64_t rows = a->each * a->S, parts = gs_max_i64(gs_ceil_div(a->T, GS_ATTENTION_KEYS), 1);
  r.blocks = gs_ceil_div(rows, GS_ATTENTION_ROWS);
  r.keys = gs_round_up(gs_max_i64(gs_ceil_div(a->T, parts), 1), GS_GEMM_NR);
  r.wide = r.keys + GS_W;  // rows begin in different sets of the cache
  r.e_wide = gs_round_up(a->E, GS_W);
  r.x_pairs = r.keys / 2 + 16;
  r.q_pairs = gs_round_up(gs_ceil_div(a->D, 2), 16);
  r.k_floats = gs_round_up(gs_gemm_bf16_packed(a->D, a->T), 16);
  r.v_floats = gs_round_up(gs_gemm_bf16_packed(a->T, a->E), 16);
  r.thread_floats = r.k_floats + r.v_floats
      + gs_round_up(GS_ATTENTION_ROWS * (r.wide + r.e_wide + r.x_pairs + r.q_pairs), 16);
  return r;
}

// Rows of pairs times panels of pairs that lie `b_panel` apart.
GS_LOCAL void gs_attention_bf16_product(int64_t rows, int64_t columns, int64_t pairs, const int32_t* a, int64_t a_row,
                                        const int32_t* b, int64_t b_panel, float* c, int64_t c_row, int first) {
  for (int64_t n = 0; n < columns; n += GS_GEMM_NR) {
    int64_t nv = gs_ceil_div(gs_min_i64(GS_GEMM_NR, columns - n), GS_W);
    for (int64_t m = 0; m < rows; m += GS_GEMM_MR) {
      GsBf16Tile t = {.pairs = pairs, .a = a + m * a_row, .a_row = a_row, .b = b + n / GS_GEMM_NR * b_panel,
                      .c = c + m * c_row + n, .c_row = c_row, .first = first};
      gs_bf16_micros[nv - 1][gs_min_i64(GS_GEMM_MR, rows - m) - 1](&t);
    }
  }
}

GS_LOCAL void gs_attention_bf16_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsAttentionBf16Run* r = arg;
  const GsAttention* a = r->a;
  int64_t rows_all = a->each * a->S, heads = a->groups * a->each, d_pairs = gs_ceil_div(a->D, 2);
  int64_t t_pairs = gs_ceil_div(a->T, 2);
  int32_t* packed = (int32_t*)(a->scratch + thread * r->thread_floats);
  int32_t* values = packed + r->k_floats;
  float* x = (float*)(values + r->v_floats);
  float* sums = x + GS_ATTENTION_ROWS * r->wide;
  int32_t* weights = (int32_t*)(sums + GS_ATTENTION_ROWS * r->e_wide);
  int32_t* q = weights + GS_ATTENTION_ROWS * r->x_pairs;
  int64_t have = -1;
  for (int64_t task = begin; task < end; task++) {
    int64_t pair = task / r->blocks, b = pair / a->groups, g = pair % a->groups;
    int64_t row0 = task % r->blocks * GS_ATTENTION_ROWS, rows = gs_min_i64(GS_ATTENTION_ROWS, rows_all - row0);
    const float* v = a->v + b * a->v_batch + g * a->v_group;
    if (pair != have) {
      gs_gemm_bf16_pack(a->D, a->T, a->k + b * a->k_batch + g * a->k_group, a->k_col, a->k_row, packed, 0,
                        gs_ceil_div(a->T, GS_GEMM_NR));
      gs_gemm_bf16_pack(a->T, a->E, v, a->v_row, a->v_col, values, 0, gs_ceil_div(a->E, GS_GEMM_NR));
      have = pair;
    }
    float most[GS_ATTENTION_ROWS], total[GS_ATTENTION_ROWS];
    int64_t low[GS_ATTENTION_ROWS], high[GS_ATTENTION_ROWS], first_key = a->T, last_key = 0;
    for (int64_t i = 0; i < rows; i++) {
      int64_t s = (row0 + i) % a->S, of = (row0 + i) / a->S;
      gs_bf16_row(a->q + b * a->q_batch + g * a->q_group + of * a->q_each + s * a->q_row, a->q_col, a->D, a->scale,
                  q + i * r->q_pairs);
      gs_attention_sees(a, b, s, &low[i], &high[i]);
      if (low[i] < high[i]) {
        first_key = gs_min_i64(first_key, low[i]);
        last_key = gs_max_i64(last_key, high[i]);
      }
      most[i] = -__builtin_inff();
      total[i] = 0;
    }
    int first = 1;
    for (int64_t t0 = first_key / r->keys * r->keys; t0 < last_key; t0 += r->keys) {
      // Of the first block the panels before the first key that is seen are left out, of the last those behind.
      int64_t from = first ? first_key / GS_GEMM_NR * GS_GEMM_NR : t0;
      int64_t keys = gs_min_i64(t0 + r->keys, last_key) - from;
      gs_attention_bf16_product(rows, keys, d_pairs, q, r->q_pairs, packed + from * d_pairs, d_pairs * GS_GEMM_NR, x,
                                r->wide, 1);
      for (int64_t i = 0; a->epilogue && i < rows;) {
        int64_t s = (row0 + i) % a->S, of = (row0 + i) / a->S, some = gs_min_i64(rows - i, a->S - s);
        a->epilogue(a->context, x + i * r->wide, r->wide, b * heads + g * a->each + of, s, from, some, keys);
        i += some;
      }
      for (int64_t i = 0; i < rows; i++) {
        int64_t lo = gs_min_i64(gs_max_i64(low[i] - from, 0), keys), hi = gs_min_i64(gs_max_i64(high[i] - from, lo), keys);
        float scale = gs_attention_weigh(x + i * r->wide, lo, hi, keys, &most[i], &total[i]);
        if (!first && scale != 1)
          for (int64_t e = 0; e < r->e_wide; e++) sums[i * r->e_wide + e] *= scale;
        gs_bf16_row(x + i * r->wide, 1, keys, 1, weights + i * r->x_pairs);
      }
      // The second of the last pair may be a key that nobody sees: it must not be touched.
      int alone = keys % 2 && from + keys < a->T;
      gs_attention_bf16_product(rows, a->E, alone ? keys / 2 : gs_ceil_div(keys, 2), weights, r->x_pairs,
                                values + from / 2 * GS_GEMM_NR, t_pairs * GS_GEMM_NR, sums, r->e_wide, first);
      for (int64_t i = 0; i < rows && alone; i++) {
        float weight = gs_bf16_once(x[i * r->wide + keys - 1]);
        for (int64_t e = 0; e < a->E; e++)
          sums[i * r->e_wide + e] += weight * gs_bf16_once(v[(from + keys - 1) * a->v_row + e * a->v_col]);
      }
      first = 0;
    }
    for (int64_t i = 0; i < rows; i++) {
      int64_t s = (row0 + i) % a->S, of = (row0 + i) / a->S;
      float* y = a->y + b * a->y_batch + g * a->y_group + of * a->y_each + s * a->y_row;
      // Nothing was seen: no block has run perhaps, and 0 / 0 would be NaN.
      if (total[i] == 0) {
        for (int64_t e = 0; e < a->E; e++) y[e] = a->blind || a->T == 0 ? 0.0f : __builtin_nanf("");
        continue;
      }
      float inverse = 1.0f / total[i];
      for (int64_t e = 0; e < a->E; e++) y[e] = sums[i * r->e_wide + e] * inverse;
    }
  }
}

// Floats of scratch that gs_attention_bf16 may touch with a pool of `threads`.
GS_LOCAL int64_t gs_attention_bf16_scratch(const GsAttention* a, int threads) {
  if (gs_attention_bf16_few(a)) return gs_attention_f32_scratch(a, threads);
  return gs_attention_bf16_run(a).thread_floats * threads;
}

GS_LOCAL void gs_attention_bf16(const GsAttention* a, GsPool* pool) {
  if (a->batch <= 0 || a->groups <= 0 || a->each <= 0 || a->S <= 0 || a->E <= 0) return;
  if (gs_attention_bf16_few(a)) {
    gs_attention_f32(a, pool);
    return;
  }
  GsAttentionBf16Run r = gs_attention_bf16_run(a);
  double work = (double)a->batch * (double)a->groups * (double)a->each * (double)a->S * (double)a->T
              * (double)(a->D + a->E);
  gs_parallel_for(work < 120000.0 * GS_W ? 0 : pool, a->batch * a->groups * r.blocks, gs_attention_bf16_task, &r);
}
