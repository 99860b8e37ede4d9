// The least and the largest of floats, 0 among them; NaN where there is one. What dynamic quantisation asks first.

#include "gs_pool.h"

typedef struct GsRange {
  int64_t n;
  const float* x;
  float* y;        // least, largest
  float* scratch;  // gs_range_f32_scratch floats
} GsRange;

GS_LOCAL void gs_range_f32_plain(const GsRange* r, GsPool* pool) {
  float low = 0, high = 0;
  (void)pool;
  for (int64_t i = 0; i < r->n; i++) {
    if (r->x[i] < low || r->x[i] != r->x[i]) low = r->x[i];
    if (r->x[i] > high || r->x[i] != r->x[i]) high = r->x[i];
    if (low != low) break;
  }
  r->y[0] = low, r->y[1] = high;
}

#define GS_RANGE_PART 16384

GS_LOCAL void gs_range_f32_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRange* r = arg;
  (void)thread;
  for (int64_t part = begin; part < end; part++) {
    int64_t i = part * GS_RANGE_PART, stop = gs_min_i64(i + GS_RANGE_PART, r->n);
    gs_vf low[4] = {0}, high[4] = {0};
    gs_vi odd = {0};
    for (; i + 4 * GS_W <= stop; i += 4 * GS_W)
      for (int j = 0; j < 4; j++) {
        gs_vf x = gs_load(r->x + i + j * GS_W);
        low[j] = gs_vmin(x, low[j]), high[j] = gs_vmax(x, high[j]);
        odd |= x != x;
      }
    for (; i < stop; i += GS_W) {
      gs_vf x = gs_load_n(r->x + i, gs_min_i64(GS_W, stop - i));
      low[0] = gs_vmin(x, low[0]), high[0] = gs_vmax(x, high[0]);
      odd |= x != x;
    }
    float least = 0, most = 0;
    int nan = 0;
    for (int j = 0; j < 4; j++)
      for (int k = 0; k < GS_W; k++) {
        least = low[j][k] < least ? low[j][k] : least;
        most = high[j][k] > most ? high[j][k] : most;
        nan |= odd[k];
      }
    r->scratch[2 * part] = nan ? NAN : least;
    r->scratch[2 * part + 1] = nan ? NAN : most;
  }
}

// Floats of scratch.
GS_LOCAL int64_t gs_range_f32_scratch(const GsRange* r, int threads) {
  (void)threads;
  return 2 * gs_ceil_div(gs_max_i64(r->n, 1), GS_RANGE_PART);
}

GS_LOCAL void gs_range_f32(const GsRange* r, GsPool* pool) {
  int64_t parts = gs_ceil_div(r->n, GS_RANGE_PART);
  gs_parallel_for(parts < 4 ? 0 : pool, parts, gs_range_f32_task, (void*)r);
  float low = 0, high = 0;
  for (int64_t i = 0; i < parts && low == low; i++) {
    float a = r->scratch[2 * i], b = r->scratch[2 * i + 1];
    low = a < low || a != a ? a : low;
    high = b > high || b != b ? b : high;
  }
  r->y[0] = low, r->y[1] = high;
}
