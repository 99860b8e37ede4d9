// Inverses of square matrices by elimination with the largest element of a column as its pivot, in double and in place.
//
// A matrix with a pivot of 0 has no inverse: NaN stands for it.

#include "gs_pool.h"

typedef struct GsInverse {
  int64_t batch, n;
  const double* x;   // (batch, n, n)
  double* y;         // the same
  double* scratch;   // gs_inverse_scratch of them
} GsInverse;

// Numbers of the row that was a column's pivot, and a column: of each thread.
GS_INLINE int64_t gs_inverse_room(const GsInverse* v) { return 2 * v->n; }
GS_LOCAL int64_t gs_inverse_scratch(const GsInverse* v, int threads) { return threads * gs_inverse_room(v); }

// Which row of column k, from k on, has the largest element; NaN counts as such.
GS_INLINE int64_t gs_inverse_pivot(const double* y, int64_t n, int64_t k) {
  int64_t best = k;
  double most = __builtin_fabs(y[k * n + k]);
  for (int64_t i = k + 1; i < n; i++) {
    double a = __builtin_fabs(y[i * n + k]);
    if (a > most || (a != a && most == most)) most = a, best = i;
  }
  return best;
}

// Elimination of the matrix beside the identity: what the meaning says.
GS_LOCAL void gs_inverse_plain(const GsInverse* v, GsPool* pool) {
  (void)pool;
  const int64_t n = v->n;
  for (int64_t m = 0; m < v->batch; m++) {
    double* y = v->y + m * n * n;
    memcpy(y, v->x + m * n * n, (size_t)(n * n) * sizeof(double));
    double* swapped = v->scratch;
    int64_t k = 0;
    for (; k < n; k++) {
      int64_t p = gs_inverse_pivot(y, n, k);
      swapped[k] = (double)p;
      for (int64_t j = 0; j < n && p != k; j++) {
        double held = y[k * n + j];
        y[k * n + j] = y[p * n + j], y[p * n + j] = held;
      }
      double pivot = y[k * n + k];
      if (pivot == 0) break;
      y[k * n + k] = 1;
      for (int64_t j = 0; j < n; j++) y[k * n + j] /= pivot;
      for (int64_t i = 0; i < n; i++) {
        if (i == k) continue;
        double by = y[i * n + k];
        y[i * n + k] = 0;
        for (int64_t j = 0; j < n; j++) y[i * n + j] -= by * y[k * n + j];
      }
    }
    for (int64_t i = 0; i < n * n && k < n; i++) y[i] = __builtin_nan("");
    // Rows changed places before: columns of the inverse do, backwards.
    for (k--; k >= 0; k--) {
      int64_t p = (int64_t)swapped[k];
      for (int64_t i = 0; i < n && p != k; i++) {
        double held = y[i * n + k];
        y[i * n + k] = y[i * n + p], y[i * n + p] = held;
      }
    }
  }
}

// The same, a vector of a row at a time.
GS_INLINE void gs_inverse_eliminate(double* restrict y, const double* restrict pivot, int64_t n, double by) {
  int64_t j = 0;
  for (; j + GS_W / 2 <= n; j += GS_W / 2) gs_store_d(y + j, gs_load_d(y + j) - gs_load_d(pivot + j) * by);
  for (; j < n; j++) y[j] -= pivot[j] * by;
}

GS_LOCAL void gs_inverse_one(double* y, int64_t n, double* room) {
  double *swapped = room, *row = room + n;
  int64_t k = 0;
  for (; k < n; k++) {
    int64_t p = gs_inverse_pivot(y, n, k);
    swapped[k] = (double)p;
    double *here = y + k * n, *there = y + p * n, pivot = there[k];
    if (pivot == 0) break;
    double inverse = 1 / pivot;
    there[k] = 1;
    // The row that leaves goes where the pivot's was; the pivot's is kept beside, for all others to read.
    for (int64_t j = 0; j < n; j++) {
      row[j] = there[j] * inverse;
      if (p != k) there[j] = here[j];
    }
    memcpy(here, row, (size_t)n * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
      if (i == k) continue;
      double by = y[i * n + k];
      y[i * n + k] = 0;
      gs_inverse_eliminate(y + i * n, row, n, by);
    }
  }
  if (k < n) {
    for (int64_t i = 0; i < n * n; i++) y[i] = __builtin_nan("");
    return;
  }
  for (k--; k >= 0; k--) {
    int64_t p = (int64_t)swapped[k];
    for (int64_t i = 0; i < n && p != k; i++) {
      double held = y[i * n + k];
      y[i * n + k] = y[i * n + p], y[i * n + p] = held;
    }
  }
}

GS_LOCAL void gs_inverse_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsInverse* v = arg;
  const int64_t size = v->n * v->n;
  for (int64_t m = begin; m < end; m++) {
    memcpy(v->y + m * size, v->x + m * size, (size_t)size * sizeof(double));
    gs_inverse_one(v->y + m * size, v->n, v->scratch + thread * gs_inverse_room(v));
  }
}

GS_LOCAL void gs_inverse(const GsInverse* v, GsPool* pool) {
  if (v->batch * v->n * v->n * v->n < 40000) pool = 0;
  gs_parallel_for(pool, v->batch, gs_inverse_task, (void*)v);
}
