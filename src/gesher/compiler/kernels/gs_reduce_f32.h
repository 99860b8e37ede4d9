// Reductions of floats along n of a tensor seen as (outer, n, inner).
//
// A long sum is made of short ones: 64 steps in float lanes, the results of these in double, so the error does not grow
// with n. The order depends on the shape alone, not on the number of threads.

#include "gs_rows_f32.h"

enum { GS_SUM, GS_MEAN, GS_MAX, GS_MIN, GS_PROD, GS_L1, GS_L2, GS_SUM_SQUARE };

typedef struct GsReduce {
  int op;
  int64_t outer, n, inner;
  const float* x;  // (outer, n, inner)
  float* y;        // (outer, inner)
} GsReduce;

// What an empty reduction gives: the neutral element; the mean of nothing is NaN.
GS_INLINE float gs_reduce_empty(int op) {
  switch (op) {
    case GS_MAX: return -__builtin_inff();
    case GS_MIN: return __builtin_inff();
    case GS_PROD: return 1;
    case GS_MEAN: return __builtin_nanf("");
    default: return 0;
  }
}

GS_LOCAL void gs_reduce_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsReduce* r = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    const float* x = r->x + i / r->inner * r->n * r->inner + i % r->inner;
    double y = r->op == GS_MEAN ? 0 : gs_reduce_empty(r->op);
    for (int64_t k = 0; k < r->n; k++) {
      double v = x[k * r->inner];
      switch (r->op) {
        case GS_SUM: case GS_MEAN: y += v; break;
        case GS_MAX: y = gs_max(y, v); break;
        case GS_MIN: y = gs_min(y, v); break;
        case GS_PROD: y *= v; break;
        case GS_L1: y += fabs(v); break;
        default: y += v * v;
      }
    }
    if (r->op == GS_MEAN) y /= (double)r->n;
    if (r->op == GS_L2) y = sqrt(y);
    r->y[i] = (float)y;
  }
}

GS_LOCAL void gs_reduce_f32_plain(const GsReduce* r, GsPool* pool) {
  gs_parallel_for(pool, r->outer * r->inner, gs_reduce_plain_task, (void*)r);
}

#define GS_REDUCE_STEPS 64

GS_INLINE gs_vf gs_reduce_step(const int op, gs_vf y, gs_vf v) {
  switch (op) {
    case GS_SUM: case GS_MEAN: return y + v;
    case GS_MAX: return gs_maxv(y, v);
    case GS_MIN: return gs_minv(y, v);
    case GS_PROD: return y * v;
    case GS_L1: return y + (gs_vf)((gs_vi)v & 0x7FFFFFFF);
    default: return y + v * v;
  }
}

// Two partial results into one, and the last touch.
GS_INLINE double gs_reduce_join(const int op, double a, double b) {
  return op == GS_MAX ? gs_max(a, b) : op == GS_MIN ? gs_min(a, b) : op == GS_PROD ? a * b : a + b;
}
GS_INLINE float gs_reduce_end(const int op, double y, int64_t n) {
  return (float)(op == GS_MEAN ? y / (double)n : op == GS_L2 ? sqrt(y) : y);
}

GS_INLINE void gs_reduce_rows(const int op, const GsReduce* r, int64_t begin, int64_t end) {
  const float neutral = op == GS_MEAN ? 0 : gs_reduce_empty(op);
  for (int64_t i = begin; i < end; i++) {
    const float* x = r->x + i * r->n;
    double total = neutral;
    int64_t k = 0;
    while (k + GS_W <= r->n) {
      gs_vf y[4];
      for (int j = 0; j < 4; j++) y[j] = gs_splat(neutral);
      int64_t stop = gs_min_i64(r->n, k + 4 * GS_W * GS_REDUCE_STEPS);
      for (; k + 4 * GS_W <= stop; k += 4 * GS_W)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) y[j] = gs_reduce_step(op, y[j], gs_load(x + k + j * GS_W));
      for (; k + GS_W <= stop; k += GS_W) y[0] = gs_reduce_step(op, y[0], gs_load(x + k));
      double lanes[GS_W];
      for (int l = 0; l < GS_W; l++)
        lanes[l] = gs_reduce_join(op, gs_reduce_join(op, y[0][l], y[1][l]), gs_reduce_join(op, y[2][l], y[3][l]));
      for (int l = 0; l < GS_W; l++) total = gs_reduce_join(op, total, lanes[l]);
    }
    for (; k < r->n; k++) {
      double v = x[k];
      total = gs_reduce_join(op, total, op == GS_L1 ? fabs(v) : op == GS_L2 || op == GS_SUM_SQUARE ? v * v : v);
    }
    r->y[i] = gs_reduce_end(op, total, r->n);
  }
}

GS_INLINE void gs_reduce_columns(const int op, const GsReduce* r, int64_t begin, int64_t end) {
  const float neutral = op == GS_MEAN ? 0 : gs_reduce_empty(op);
  int64_t columns = gs_ceil_div(r->inner, GS_W);
  for (int64_t i = begin; i < end; i++) {
    int64_t at = i % columns * GS_W, lanes = gs_min_i64(GS_W, r->inner - at);
    const float* x = r->x + i / columns * r->n * r->inner + at;
    double total[GS_W];
    for (int l = 0; l < GS_W; l++) total[l] = neutral;
    for (int64_t k = 0; k < r->n;) {
      int64_t stop = gs_min_i64(r->n, k + GS_REDUCE_STEPS);
      gs_vf y = gs_splat(neutral);
      if (lanes == GS_W) for (; k < stop; k++) y = gs_reduce_step(op, y, gs_load(x + k * r->inner));
      else for (; k < stop; k++) y = gs_reduce_step(op, y, gs_load_n(x + k * r->inner, lanes));
      for (int l = 0; l < GS_W; l++) total[l] = gs_reduce_join(op, total[l], y[l]);
    }
    for (int64_t l = 0; l < lanes; l++) r->y[i / columns * r->inner + at + l] = gs_reduce_end(op, total[l], r->n);
  }
}

GS_LOCAL void gs_reduce_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsReduce* r = arg;
  (void)thread;
  // Each operation is a loop of its own: the switch stands outside.
#define GS_CASE(op)                                          \
  case op:                                                   \
    if (r->inner == 1) gs_reduce_rows(op, r, begin, end);    \
    else gs_reduce_columns(op, r, begin, end);               \
    break;
  switch (r->op) {
    GS_CASE(GS_SUM) GS_CASE(GS_MEAN) GS_CASE(GS_MAX) GS_CASE(GS_MIN)
    GS_CASE(GS_PROD) GS_CASE(GS_L1) GS_CASE(GS_L2) GS_CASE(GS_SUM_SQUARE)
  }
#undef GS_CASE
}

GS_LOCAL void gs_reduce_f32(const GsReduce* r, GsPool* pool) {
  int64_t tasks = r->inner == 1 ? r->outer : r->outer * gs_ceil_div(r->inner, GS_W);
  gs_parallel_for(r->outer * r->n * r->inner < GS_ROWS_ALONE ? 0 : pool, tasks, gs_reduce_task, (void*)r);
}
