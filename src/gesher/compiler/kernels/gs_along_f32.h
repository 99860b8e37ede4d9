// Along one axis of (outer, n, inner): where the largest or smallest stands, and running sums over rows.
//
// NaN counts as larger, and as smaller, than any number. Of equal ones the first or the last is told.

#include "gs_rows_f32.h"

typedef struct GsAlong {
  int64_t outer, n, inner;
  const float* x;     // (outer, n, inner)
  int64_t* place;     // gs_argmax_f32: (outer, inner)
  float* y;           // gs_cumsum_f32: (outer, n, inner)
  int smallest, last, exclusive, reverse;
} GsAlong;

GS_LOCAL void gs_argmax_f32_plain(const GsAlong* a, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < a->outer; i++)
    for (int64_t j = 0; j < a->inner; j++) {
      const float* x = a->x + i * a->n * a->inner + j;
      int64_t best = 0;
      for (int64_t k = 1; k < a->n; k++) {
        float v = x[k * a->inner], b = x[best * a->inner];
        int wins = v != v ? b == b || a->last : b == b && (a->smallest ? v < b : v > b);
        if (a->last && v == b) wins = 1;
        if (wins) best = k;
      }
      a->place[i * a->inner + j] = best;
    }
}

// One row. The value first, then its place: both loops are vectors.
GS_INLINE int64_t gs_argmax_row(const float* x, int64_t n, const int smallest, const int last) {
  gs_vf sign = gs_splat(smallest ? -1.0f : 1.0f), most = gs_splat(-__builtin_inff()), more = most;
  gs_vi nan = {0};
  int64_t k = 0;
  for (; k + 2 * GS_W <= n; k += 2 * GS_W) {
    gs_vf v = gs_load(x + k) * sign, w = gs_load(x + k + GS_W) * sign;
    nan |= (v != v) | (w != w);
    most = gs_vmax(v, most), more = gs_vmax(w, more);
  }
  for (; k < n; k += GS_W) {
    int64_t lanes = gs_min_i64(GS_W, n - k);
    gs_vf v = gs_load_some(x + k, lanes) * sign;
    if (lanes < GS_W)
      for (int64_t l = lanes; l < GS_W; l++) v[l] = -__builtin_inff();
    nan |= v != v;
    most = gs_vmax(v, most);
  }
  int any = 0;
  for (int l = 0; l < GS_W; l++) any |= nan[l];
  float best = gs_max_lanes(gs_vmax(most, more)) * (smallest ? -1.0f : 1.0f);
  if (last) {
    for (k = n - 1; k > 0; k--)
      if (any ? x[k] != x[k] : x[k] == best) break;
    return k;
  }
  for (k = 0; k + GS_W <= n; k += GS_W) {
    gs_vf v = gs_load(x + k);
    gs_vi hit = any ? v != v : v == gs_splat(best);
    int here = 0;
    for (int l = 0; l < GS_W; l++) here |= hit[l];
    if (here) break;
  }
  while (k < n - 1 && !(any ? x[k] != x[k] : x[k] == best)) k++;
  return k;
}

GS_LOCAL void gs_argmax_row_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsAlong* a = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    const float* x = a->x + i * a->n;
    a->place[i] = a->smallest ? (a->last ? gs_argmax_row(x, a->n, 1, 1) : gs_argmax_row(x, a->n, 1, 0))
                              : (a->last ? gs_argmax_row(x, a->n, 0, 1) : gs_argmax_row(x, a->n, 0, 0));
  }
}

// Columns side by side, four vectors of them where there are so many.
GS_INLINE void gs_argmax_columns(const GsAlong* a, const float* x, int64_t* place, const int vectors, int64_t lanes,
                                 const int last) {
  const gs_vf sign = gs_splat(a->smallest ? -1.0f : 1.0f);
  gs_vf best[4];
  gs_vi where[4];
  for (int v = 0; v < vectors; v++) {
    best[v] = gs_load_some(x + v * GS_W, v == vectors - 1 ? lanes : GS_W) * sign;
    where[v] = gs_splat_i(0);
  }
  for (int64_t k = 1; k < a->n; k++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      gs_vf now = gs_load_some(x + k * a->inner + v * GS_W, v == vectors - 1 ? lanes : GS_W) * sign;
      gs_vi wins = last ? (now >= best[v]) | (now != now) : (now > best[v]) | ((now != now) & (best[v] == best[v]));
      // Nothing but NaN wins over NaN: comparisons with it do not hold.
      best[v] = gs_select(wins, now, best[v]);
      where[v] = gs_select_i(wins, gs_splat_i((int32_t)k), where[v]);
    }
  for (int v = 0; v < vectors; v++)
    for (int64_t l = 0; l < (v == vectors - 1 ? lanes : GS_W); l++) place[v * GS_W + l] = where[v][l];
}

GS_LOCAL void gs_argmax_column_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsAlong* a = arg;
  (void)thread;
  const int64_t wide = 4 * GS_W, across = gs_ceil_div(a->inner, wide);
  for (int64_t task = begin; task < end; task++) {
    int64_t i = task / across, first = task % across * wide, stop = gs_min_i64(first + wide, a->inner);
    const float* x = a->x + i * a->n * a->inner;
    int64_t* place = a->place + i * a->inner;
    if (stop - first == wide) {
      if (a->last) gs_argmax_columns(a, x + first, place + first, 4, GS_W, 1);
      else gs_argmax_columns(a, x + first, place + first, 4, GS_W, 0);
      continue;
    }
    for (int64_t j = first; j < stop; j += GS_W) {
      int64_t lanes = gs_min_i64(GS_W, stop - j);
      if (a->last) gs_argmax_columns(a, x + j, place + j, 1, lanes, 1);
      else gs_argmax_columns(a, x + j, place + j, 1, lanes, 0);
    }
  }
}

GS_LOCAL void gs_argmax_f32(const GsAlong* a, GsPool* pool) {
  if (a->outer * a->n * a->inner < GS_ROWS_ALONE) pool = 0;
  if (a->inner == 1) gs_parallel_for(pool, a->outer, gs_argmax_row_task, (void*)a);
  else gs_parallel_for(pool, a->outer * gs_ceil_div(a->inner, 4 * GS_W), gs_argmax_column_task, (void*)a);
}

GS_LOCAL void gs_cumsum_f32_plain(const GsAlong* a, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < a->outer; i++)
    for (int64_t j = 0; j < a->inner; j++) {
      float sum = 0;
      for (int64_t k = 0; k < a->n; k++) {
        int64_t at = (i * a->n + (a->reverse ? a->n - 1 - k : k)) * a->inner + j;
        float v = a->x[at];
        a->y[at] = a->exclusive ? sum : sum + v;
        sum += v;
      }
    }
}

// Row after row of a strip of columns: what is added to is the row before.
GS_LOCAL void gs_cumsum_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsAlong* a = arg;
  (void)thread;
  const int64_t strip = 512, across = gs_ceil_div(a->inner, strip);
  for (int64_t task = begin; task < end; task++) {
    int64_t i = task / across, first = task % across * strip, stop = gs_min_i64(first + strip, a->inner);
    for (int64_t k = 0; k < a->n; k++) {
      int64_t row = (i * a->n + (a->reverse ? a->n - 1 - k : k)) * a->inner, back = a->reverse ? a->inner : -a->inner;
      const float *x = a->x + row, *before = a->y + row + back;
      float* y = a->y + row;
      if (a->exclusive) x += back;
      for (int64_t j = first; j < stop; j++) y[j] = (k ? before[j] : 0) + (k || !a->exclusive ? x[j] : 0);
    }
  }
}

GS_LOCAL void gs_cumsum_f32(const GsAlong* a, GsPool* pool) {
  if (a->outer * a->n * a->inner < GS_ROWS_ALONE) pool = 0;
  gs_parallel_for(pool, a->outer * gs_ceil_div(a->inner, 512), gs_cumsum_task, (void*)a);
}
