// Elements mixed along an axis, as resizing with filters does: y[o, i, j] = the sum over t of weights[i, t] *
// x[o, index[i, t], j].
//
// Where the axis is not the last, what lies behind it goes into the lanes of vectors. Of the last axis several rows are
// laid side by side first, a vector an element, and the results laid back.

#include "gs_move.h"
#include "gs_rows_f32.h"

typedef struct GsMix {
  int64_t outer, n, inner, count, taps;
  const float* x;        // (outer, n, inner)
  const int64_t* index;  // (count, taps), within n
  const float* weights;  // (count, taps)
  float* y;              // (outer, count, inner)
  float* scratch;        // gs_mix_f32_scratch floats
} GsMix;

GS_LOCAL void gs_mix_f32_plain(const GsMix* v, GsPool* pool) {
  (void)pool;
  for (int64_t o = 0; o < v->outer; o++)
    for (int64_t i = 0; i < v->count; i++)
      for (int64_t j = 0; j < v->inner; j++) {
        float y = 0;
        for (int64_t t = 0; t < v->taps; t++)
          y += v->weights[i * v->taps + t] * v->x[(o * v->n + v->index[i * v->taps + t]) * v->inner + j];
        v->y[(o * v->count + i) * v->inner + j] = y;
      }
}

GS_LOCAL void gs_mix_across_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsMix* v = arg;
  (void)thread;
  for (int64_t row = begin; row < end; row++) {
    int64_t o = row / v->count, i = row % v->count;
    const float *x = v->x + o * v->n * v->inner, *w = v->weights + i * v->taps;
    const int64_t* index = v->index + i * v->taps;
    float* y = v->y + row * v->inner;
    int64_t j = 0;
    for (; j + 2 * GS_W <= v->inner; j += 2 * GS_W) {
      gs_vf a = {0}, b = {0};
      for (int64_t t = 0; t < v->taps; t++) {
        const float* from = x + index[t] * v->inner + j;
        a += w[t] * gs_load(from), b += w[t] * gs_load(from + GS_W);
      }
      gs_store(y + j, a), gs_store(y + j + GS_W, b);
    }
    for (; j < v->inner; j += GS_W) {
      int64_t lanes = gs_min_i64(GS_W, v->inner - j);
      gs_vf a = {0};
      for (int64_t t = 0; t < v->taps; t++) a += w[t] * gs_load_some(x + index[t] * v->inner + j, lanes);
      gs_store_some(y + j, a, lanes);
    }
  }
}

GS_LOCAL void gs_mix_rows_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsMix* v = arg;
  float* in = v->scratch + thread * (v->n + v->count) * GS_W;
  float* out = in + v->n * GS_W;
  for (int64_t task = begin; task < end; task++) {
    int64_t row = task * GS_W, lanes = gs_min_i64(GS_W, v->outer - row);
    // Lanes of no row are never given out, but what lies there must not be slow.
    if (lanes < GS_W) memset(in, 0, (size_t)(v->n * GS_W) * sizeof(float));
    gs_move_words((const char*)(v->x + row * v->n), (char*)in, v->n, lanes, v->n, GS_W);
    for (int64_t i = 0; i < v->count; i++) {
      gs_vf y = {0};
      for (int64_t t = i * v->taps; t < (i + 1) * v->taps; t++) y += v->weights[t] * gs_load(in + v->index[t] * GS_W);
      gs_store(out + i * GS_W, y);
    }
    gs_move_words((const char*)out, (char*)(v->y + row * v->count), lanes, v->count, GS_W,
                  v->count);
  }
}

GS_LOCAL int64_t gs_mix_f32_scratch(const GsMix* v, int threads) {
  return v->inner == 1 ? threads * (v->n + v->count) * GS_W : 0;
}

GS_LOCAL void gs_mix_f32(const GsMix* v, GsPool* pool) {
  int64_t work = v->outer * v->count * v->inner * v->taps;
  if (v->outer * v->count * v->inner <= 0) return;
  if (v->n <= 0) {
    memset(v->y, 0, (size_t)(v->outer * v->count * v->inner) * sizeof(float));
    return;
  }
  GsPool* used = work < 4 * GS_ROWS_ALONE ? 0 : pool;
  if (v->inner == 1) gs_parallel_for(used, gs_ceil_div(v->outer, GS_W), gs_mix_rows_task, (void*)v);
  else gs_parallel_for(used, v->outer * v->count, gs_mix_across_task, (void*)v);
}
