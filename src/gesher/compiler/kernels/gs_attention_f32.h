// Attention in float: y = softmax(scale * q k^T, changed by what follows) v, without the scores ever being in memory
// as a whole.
//
// How it runs. Heads that share keys are taken together: their queries are the rows of one product. A few rows at a
// time meet a block of keys; the scores of that block lie in L1, are changed (mask, bias, cap: `epilogue`, the very
// function that other products call with finished tiles), become weights, and meet the values. Where the keys are
// more than one block, the rows' maxima and sums run along, and what was summed for a smaller maximum is scaled down
// (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018). Keys are packed into panels once per group
// of heads; few rows read them where they stand. Keys that no row of a few may see are not touched.

#include "gs_gemm_f32.h"
#include "gs_math.h"

typedef struct GsAttention {
  int64_t batch, groups, each;  // groups * each heads; those of a group share keys and values
  int64_t S, T, D, E;           // queries, keys, numbers of a query and of a value
  const float *q, *k, *v;       // q of a head's query s is q[batch * q_batch + group * q_group + of_group * q_each
  int64_t q_batch, q_group, q_each, q_row, q_col;  //        + s * q_row + d * q_col]; the others likewise
  int64_t k_batch, k_group, k_row, k_col, v_batch, v_group, v_row, v_col;
  float* y;                     // columns side by side
  int64_t y_batch, y_group, y_each, y_row;
  float scale;
  // A query s stands at the place past + s among the keys (where `lengths` tell how many keys of a sample there are:
  // at their number - S + s), and may see up to `left` keys before that and `right` behind it; negative: all.
  int64_t past, left, right;
  const int64_t* lengths;       // one a sample, NULL for none
  int blind;                    // a query that sees nothing gives 0; else NaN
  GsTileFn epilogue;            // changes scaled scores of (batch, group, of group), row m, column n; NULL for none
  void* context;
  float* scratch;               // gs_attention_f32_scratch floats, 64-byte aligned
} GsAttention;

// The keys [*low, *high) that query s of a sample sees.
GS_INLINE void gs_attention_sees(const GsAttention* a, int64_t batch, int64_t s, int64_t* low, int64_t* high) {
  int64_t place = s + (a->lengths ? a->lengths[batch] - a->S : a->past);
  int64_t lo = 0, hi = a->T;
  if (a->lengths) hi = gs_min_i64(hi, a->lengths[batch]);
  if (a->right >= 0) hi = gs_min_i64(hi, place + a->right + 1);
  if (a->left >= 0) lo = gs_max_i64(lo, place - a->left);
  *low = gs_min_i64(lo, a->T);
  *high = gs_max_i64(hi, *low);
}

// The plain version: the meaning, and the truth of the tests.
GS_LOCAL void gs_attention_f32_plain(const GsAttention* a, GsPool* pool) {
  (void)pool;
  float* x = a->scratch;
  for (int64_t head = 0; head < a->batch * a->groups * a->each; head++) {
    int64_t b = head / (a->groups * a->each), g = head / a->each % a->groups, i = head % a->each;
    for (int64_t s = 0; s < a->S; s++) {
      const float* q = a->q + b * a->q_batch + g * a->q_group + i * a->q_each + s * a->q_row;
      float* y = a->y + b * a->y_batch + g * a->y_group + i * a->y_each + s * a->y_row;
      for (int64_t t = 0; t < a->T; t++) {
        double sum = 0;
        for (int64_t d = 0; d < a->D; d++)
          sum += (double)q[d * a->q_col] * (double)a->k[b * a->k_batch + g * a->k_group + t * a->k_row + d * a->k_col];
        x[t] = (float)(sum * (double)a->scale);
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
          sum += (double)x[t] * (double)a->v[b * a->v_batch + g * a->v_group + t * a->v_row + e * a->v_col];
        y[e] = total == 0 && (a->blind || a->T == 0) ? 0.0f : (float)(sum / total);
      }
    }
  }
}

// Rows taken at a time (whole tiles of the product), and keys.
#define GS_ATTENTION_ROWS (2 * GS_GEMM_MR)
#ifndef GS_ATTENTION_KEYS
#define GS_ATTENTION_KEYS 512
#endif
// Rows of a group of heads up to which its keys are not packed.
#define GS_ATTENTION_FEW 4

typedef struct GsAttentionRun {
  const GsAttention* a;
  int64_t blocks, keys;       // blocks of rows in a group; keys taken at a time, a multiple of a panel
  int64_t wide, e_wide;       // floats between rows of scores and of sums
  int64_t k_floats, v_floats; // packed keys and values
  int64_t thread_floats;
  int few, v_direct;
} GsAttentionRun;

GS_INLINE GsAttentionRun gs_attention_run(const GsAttention* a) {
  GsAttentionRun r = {.a = a};
  int64_t rows = a->each * a->S, parts = gs_max_i64(gs_ceil_div(a->T, GS_ATTENTION_KEYS), 1);
  r.blocks = gs_ceil_div(rows, GS_ATTENTION_ROWS);
  r.keys = gs_round_up(gs_max_i64(gs_ceil_div(a->T, parts), 1), GS_GEMM_NR);
  r.few = rows <= GS_ATTENTION_FEW && a->k_col == 1;
  r.v_direct = a->v_col == 1 && a->E % GS_W == 0;
  r.wide = r.keys + GS_W;  // rows of scores begin in different sets of the cache
  r.e_wide = gs_round_up(a->E, GS_W);
  r.k_floats = r.few ? 0 : gs_round_up(gs_gemm_f32_packed(a->D, a->T), 16);
  r.v_floats = r.v_direct ? 0 : gs_round_up(a->T * r.e_wide, 16);
  r.thread_floats = r.k_floats + r.v_floats
      + gs_round_up(GS_ATTENTION_ROWS * (r.wide + r.e_wide + gs_round_up(a->D, GS_W)), 16);
  return r;
}

// Rows of one matrix times panels of another, by the product's own tiles.
GS_LOCAL void gs_attention_product(int64_t rows, int64_t columns, int64_t K, const float* a, int64_t a_row,
                                   const float* b, int64_t b_row, int64_t b_panel, float* c, int64_t c_row, int first) {
  for (int64_t n = 0; n < columns; n += GS_GEMM_NR) {
    int64_t nv = gs_ceil_div(gs_min_i64(GS_GEMM_NR, columns - n), GS_W);
    for (int64_t m = 0; m < rows; m += GS_GEMM_MR) {
      int64_t count = gs_min_i64(GS_GEMM_MR, rows - m);
      GsGemmTile t = {.K = K, .a = a + m * a_row, .a_row = a_row, .b = b + n / GS_GEMM_NR * b_panel, .b_row = b_row,
                      .c = c + m * c_row + n, .c_row = c_row, .first = first};
      gs_gemm_f32_micros[nv - 1][count - 1](&t);
    }
  }
}

// Scores of few rows with keys where they stand.
GS_LOCAL void gs_attention_few(const GsAttention* a, int64_t rows, const float* q, int64_t q_row, const float* k,
                               int64_t keys, float* x, int64_t wide) {
  GsGemm g = {.K = a->D, .a_row = a->k_row, .b_col = q_row};
  for (int64_t t = 0; t < keys; t += 4) {
    int64_t some = gs_min_i64(4, keys - t);
    float sums[4 * GS_GEMM_NARROW];
    const float* from = k + t * a->k_row;
    if (rows == 1) {
      for (int64_t i = 0; i < some; i++) x[t + i] = gs_gemm_f32_dot(a->D, from + i * a->k_row, q);
      continue;
    }
    if (rows == 2) gs_gemm_f32_narrow_2(&g, some, from, q, sums);
    else if (rows == 3) gs_gemm_f32_narrow_3(&g, some, from, q, sums);
    else gs_gemm_f32_narrow_4(&g, some, from, q, sums);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < some; i++) x[r * wide + t + i] = sums[i * GS_GEMM_NARROW + r];
  }
}

// The scores x of one row with the keys [low, high) of a block become weights, those of the others 0 up to `end`.
// Gives what sums so far must be scaled with; `most` and `total` run along.
GS_INLINE float gs_attention_weigh(float* x, int64_t low, int64_t high, int64_t end, float* most, float* total) {
  for (int64_t t = 0; t < low; t++) x[t] = 0;
  for (int64_t t = high; t < end; t++) x[t] = 0;
  if (high <= low) return 1;
  int64_t whole = low + (high - low) / GS_W * GS_W, rest = high - whole;
  gs_vf top = gs_splat(*most);
  for (int64_t t = low; t < whole; t += GS_W) top = gs_vmax(gs_load(x + t), top);
  float now = gs_max_lanes(top);
  for (int64_t t = whole; t < high; t++) now = x[t] > now ? x[t] : now;
  float base = now == -__builtin_inff() ? 0.0f : now;
  gs_vf sum = {0};
  for (int64_t t = low; t < whole; t += GS_W) {
    gs_vf e = gs_exp_downv(gs_load(x + t) - base);
    gs_store(x + t, e);
    sum += e;
  }
  float added = gs_sum_lanes(sum);
  if (rest) {
    gs_vf e = gs_exp_downv(gs_load_n(x + whole, rest) - base);
    gs_store_n(x + whole, e, rest);
    for (int64_t i = 0; i < rest; i++) added += x[whole + i];
  }
  float scale = 0;
  // Not in the first block of a row, which is the only one of short keys.
  if (*most != -__builtin_inff()) scale = gs_expf(*most - base);
  *total = *total * scale + added;
  *most = now;
  return scale;
}

GS_LOCAL void gs_attention_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsAttentionRun* r = arg;
  const GsAttention* a = r->a;
  int64_t d_wide = gs_round_up(a->D, GS_W), rows_all = a->each * a->S, heads = a->groups * a->each;
  float* packed = a->scratch + thread * r->thread_floats;
  float* values = packed + r->k_floats;
  float* x = values + r->v_floats;
  float* sums = x + GS_ATTENTION_ROWS * r->wide;
  float* q = sums + GS_ATTENTION_ROWS * r->e_wide;
  int64_t have = -1;
  for (int64_t task = begin; task < end; task++) {
    int64_t pair = task / r->blocks, b = pair / a->groups, g = pair % a->groups;
    int64_t row0 = task % r->blocks * GS_ATTENTION_ROWS, rows = gs_min_i64(GS_ATTENTION_ROWS, rows_all - row0);
    const float* k = a->k + b * a->k_batch + g * a->k_group;
    const float* v = a->v + b * a->v_batch + g * a->v_group;
    if (pair != have) {
      if (!r->few)
        gs_gemm_f32_pack(a->D, a->T, k, a->k_col, a->k_row, packed, 0, gs_ceil_div(a->T, GS_GEMM_NR));
      for (int64_t t = 0; t < a->T && !r->v_direct; t++)
        for (int64_t e = 0; e < r->e_wide; e++)
          values[t * r->e_wide + e] = e < a->E ? v[t * a->v_row + e * a->v_col] : 0;
      have = pair;
    }
    float most[GS_ATTENTION_ROWS], total[GS_ATTENTION_ROWS];
    int64_t low[GS_ATTENTION_ROWS], high[GS_ATTENTION_ROWS], first_key = a->T, last_key = 0;
    for (int64_t i = 0; i < rows; i++) {
      int64_t s = (row0 + i) % a->S, of = (row0 + i) / a->S;
      const float* from = a->q + b * a->q_batch + g * a->q_group + of * a->q_each + s * a->q_row;
      for (int64_t d = 0; d < a->D; d++) q[i * d_wide + d] = from[d * a->q_col] * a->scale;
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
      if (r->few) gs_attention_few(a, rows, q, d_wide, k + from * a->k_row, keys, x, r->wide);
      else gs_attention_product(rows, keys, a->D, q, d_wide, packed + from * a->D, GS_GEMM_NR, a->D * GS_GEMM_NR, x,
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
      }
      if (r->v_direct)
        gs_attention_product(rows, a->E, keys, x, r->wide, v + from * a->v_row, a->v_row, GS_GEMM_NR, sums, r->e_wide,
                             first);
      else
        gs_attention_product(rows, a->E, keys, x, r->wide, values + from * r->e_wide, r->e_wide, GS_GEMM_NR, sums,
                             r->e_wide, first);
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

// Floats of scratch that gs_attention_f32 may touch with a pool of `threads`.
GS_LOCAL int64_t gs_attention_f32_scratch(const GsAttention* a, int threads) {
  return gs_attention_run(a).thread_floats * threads;
}

GS_LOCAL void gs_attention_f32(const GsAttention* a, GsPool* pool) {
  if (a->batch <= 0 || a->groups <= 0 || a->each <= 0 || a->S <= 0 || a->E <= 0) return;
  GsAttentionRun r = gs_attention_run(a);
  double work = (double)a->batch * (double)a->groups * (double)a->each * (double)a->S * (double)a->T
              * (double)(a->D + a->E);
  gs_parallel_for(work < 25000.0 * GS_W ? 0 : pool, a->batch * a->groups * r.blocks, gs_attention_task, &r);
}
