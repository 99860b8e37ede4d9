// Where the largest or smallest double stands along an axis of (outer, n, inner): gs_along_f32.h for floats.
//
// NaN counts as larger, and as smaller, than any number. Of equal ones the first or the last is told.

#include "gs_pool.h"

typedef struct GsArgMaxF64 {
  int64_t outer, n, inner;
  const double* x;    // (outer, n, inner)
  int64_t* place;     // (outer, inner)
  int smallest, last;
} GsArgMaxF64;

GS_LOCAL void gs_argmax_f64_plain(const GsArgMaxF64* a, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < a->outer; i++)
    for (int64_t j = 0; j < a->inner; j++) {
      const double* x = a->x + i * a->n * a->inner + j;
      int64_t best = 0;
      for (int64_t k = 1; k < a->n; k++) {
        double v = x[k * a->inner], b = x[best * a->inner];
        int wins = v != v ? b == b || a->last : b == b && (a->smallest ? v < b : v > b);
        if (a->last && v == b) wins = 1;
        if (wins) best = k;
      }
      a->place[i * a->inner + j] = best;
    }
}

typedef int64_t gs_argmax_mask __attribute__((vector_size(GS_W * 4)));
enum { GS_ARGMAX_LANES = GS_W / 2, GS_ARGMAX_STEP = 4 * (GS_W / 2) };

GS_INLINE gs_vd gs_argmax_select(gs_argmax_mask mask, gs_vd a, gs_vd b) {
  return (gs_vd)((mask & (gs_argmax_mask)a) | (~mask & (gs_argmax_mask)b));
}

// One row. The value first, four vectors at a time, then its place.
GS_INLINE int64_t gs_argmax_f64_row(const double* x, int64_t n, const double sign, const int last) {
  gs_vd most[4];
  gs_argmax_mask nan = {0};
  for (int v = 0; v < 4; v++) most[v] = gs_splat_d(-__builtin_inf());
  int64_t k = 0;
  for (; k + GS_ARGMAX_STEP <= n; k += GS_ARGMAX_STEP)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      gs_vd now = gs_load_d(x + k + v * GS_ARGMAX_LANES) * sign;
      nan |= now != now;
      most[v] = gs_argmax_select(now > most[v], now, most[v]);
    }
  double best = -__builtin_inf();
  int any = 0;
  for (; k < n; k++) {
    double now = x[k] * sign;
    any |= now != now;
    best = now > best ? now : best;
  }
  for (int l = 0; l < GS_ARGMAX_LANES; l++) {
    any |= nan[l] != 0;
    for (int v = 0; v < 4; v++) best = most[v][l] > best ? most[v][l] : best;
  }
  best *= sign;
  if (last) {
    for (k = n - 1; k > 0; k--)
      if (any ? x[k] != x[k] : x[k] == best) break;
    return k;
  }
  for (k = 0; k + GS_ARGMAX_STEP <= n; k += GS_ARGMAX_STEP) {
    gs_argmax_mask hit = {0};
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      gs_vd now = gs_load_d(x + k + v * GS_ARGMAX_LANES);
      hit |= any ? now != now : now == gs_splat_d(best);
    }
    int here = 0;
    for (int l = 0; l < GS_ARGMAX_LANES; l++) here |= hit[l] != 0;
    if (here) break;
  }
  while (k < n - 1 && !(any ? x[k] != x[k] : x[k] == best)) k++;
  return k;
}

GS_LOCAL void gs_argmax_f64_rows(void* arg, int64_t begin, int64_t end, int thread) {
  const GsArgMaxF64* a = arg;
  (void)thread;
  double sign = a->smallest ? -1.0 : 1.0;
  for (int64_t i = begin; i < end; i++) {
    const double* x = a->x + i * a->n;
    a->place[i] = a->last ? gs_argmax_f64_row(x, a->n, sign, 1) : gs_argmax_f64_row(x, a->n, sign, 0);
  }
}

// Columns side by side: the best so far and its place, row after row.
enum { GS_ARGMAX_STRIP = 64 };
GS_INLINE void gs_argmax_f64_strip(const GsArgMaxF64* a, const double* x, int64_t* place, int64_t columns,
                                   const double sign, const int last) {
  double best[GS_ARGMAX_STRIP];
  int64_t where[GS_ARGMAX_STRIP] = {0};
  for (int64_t j = 0; j < columns; j++) best[j] = x[j] * sign;
  for (int64_t k = 1; k < a->n; k++) {
    const double* row = x + k * a->inner;
    for (int64_t j = 0; j < columns; j++) {
      double v = row[j] * sign, b = best[j];
      int wins = last ? (v >= b) | (v != v) : (v > b) | ((v != v) & (b == b));
      best[j] = wins ? v : b;
      where[j] = wins ? k : where[j];
    }
  }
  memcpy(place, where, (size_t)columns * sizeof *where);
}

GS_LOCAL void gs_argmax_f64_columns(void* arg, int64_t begin, int64_t end, int thread) {
  const GsArgMaxF64* a = arg;
  (void)thread;
  int64_t across = gs_ceil_div(a->inner, GS_ARGMAX_STRIP);
  double sign = a->smallest ? -1.0 : 1.0;
  for (int64_t task = begin; task < end; task++) {
    int64_t i = task / across, first = task % across * GS_ARGMAX_STRIP;
    int64_t columns = gs_min_i64(GS_ARGMAX_STRIP, a->inner - first);
    const double* x = a->x + i * a->n * a->inner + first;
    int64_t* place = a->place + i * a->inner + first;
    if (a->last) gs_argmax_f64_strip(a, x, place, columns, sign, 1);
    else gs_argmax_f64_strip(a, x, place, columns, sign, 0);
  }
}

GS_LOCAL void gs_argmax_f64(const GsArgMaxF64* a, GsPool* pool) {
  if (a->outer * a->n * a->inner < 20000) pool = 0;
  if (a->inner == 1) gs_parallel_for(pool, a->outer, gs_argmax_f64_rows, (void*)a);
  else gs_parallel_for(pool, a->outer * gs_ceil_div(a->inner, GS_ARGMAX_STRIP), gs_argmax_f64_columns, (void*)a);
}
