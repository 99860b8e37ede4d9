// Pooling over blocked channels: the maximum, mean or sum of a window, as gs_window_f32.h has it without indices:
// places outside the picture never count for a maximum, NaN is the largest of all; for a mean they count in the divisor
// where `count_pad`, but only as far as the stated padding reaches.

#include "gs_blocked_depthwise_f32.h"
#include "gs_math.h"

typedef struct GsBlockedWindow {
  int64_t N, blocks;
  int64_t in[2], out[2], kernel[2], stride[2], dilation[2], pad[2], pad_end[2];
  int mean, count_pad;  // mean: 1 the mean instead of the maximum, 2 the sum
  const float* x;  // (N, blocks, H, W, b)
  float* y;        // (N, blocks, OH, OW, b)
} GsBlockedWindow;

// How many taps count for a mean along one axis.
GS_INLINE int64_t gs_blocked_counted(const GsBlockedWindow* v, int d, int64_t o) {
  int64_t first = o * v->stride[d] - v->pad[d], begin, end;
  if (!v->count_pad) gs_taps_inside(first, v->in[d], v->kernel[d], v->dilation[d], &begin, &end);
  else gs_taps_inside(first + v->pad[d], v->in[d] + v->pad[d] + v->pad_end[d], v->kernel[d], v->dilation[d], &begin,
                      &end);
  return end - begin;
}

GS_LOCAL void gs_blocked_window_f32_plain(const GsBlockedWindow* v, GsPool* pool) {
  (void)pool;
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], i = 0;
  if (OH <= 0 || OW <= 0) return;
  for (int64_t image = 0; image < v->N * v->blocks; image++)
    for (int64_t p = 0; p < OH * OW; p++)
      for (int64_t lane = 0; lane < GS_W; lane++, i++) {
        double sum = 0;
        float most = -__builtin_inff();
        for (int64_t tap = 0; tap < v->kernel[0] * v->kernel[1]; tap++) {
          int64_t iy = p / OW * v->stride[0] + tap / v->kernel[1] * v->dilation[0] - v->pad[0];
          int64_t ix = p % OW * v->stride[1] + tap % v->kernel[1] * v->dilation[1] - v->pad[1];
          if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
          float x = v->x[((image * H + iy) * W + ix) * GS_W + lane];
          sum += (double)x;
          most = gs_maxf(most, x);
        }
        double count = (double)(gs_blocked_counted(v, 0, p / OW) * gs_blocked_counted(v, 1, p % OW));
        v->y[i] = v->mean ? (float)(v->mean == 1 ? sum / count : sum) : most;
      }
}

// The sum or maximum of one window of any width.
GS_INLINE void gs_blocked_window_place(const int mean, const GsPlaces* t, float* y) {
  gs_vf a = gs_load(t->outside);
  const float* row = t->x;
  for (int64_t ky = t->k0; ky < t->k1; ky++, row += t->row)
    for (int64_t kx = 0; kx < t->KW; kx++) {
      gs_vf b = gs_place(t, row, t->left + kx * t->tap);
      a = mean ? a + b : gs_maxv(a, b);
    }
  gs_store(y, a);
}

// The same for as many places as have their columns in GS_WINDOW_COLUMNS, which all usual windows fit: columns first,
// each once, then these along the row.
#define GS_WINDOW_COLUMNS 64

// The sums or maxima of `count` vectors each, from[i * step + k * apart] in vectors, k < taps.
GS_INLINE void gs_blocked_window_run(const int mean, const float* from, int64_t step, int64_t taps, int64_t apart,
                                     int64_t count, float* to) {
  gs_vf none = mean ? (gs_vf){0} : gs_splat(-__builtin_inff());
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    gs_vf a[4] = {none, none, none, none};
    const float* p = from + i * step * GS_W;
    for (int64_t k = 0; k < taps; k++, p += apart * GS_W)
#pragma GCC unroll 4
      for (int u = 0; u < 4; u++) {
        gs_vf b = gs_load(p + u * step * GS_W);
        a[u] = mean ? a[u] + b : gs_maxv(a[u], b);
      }
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) gs_store(to + (i + u) * GS_W, a[u]);
  }
  for (; i < count; i++) {
    gs_vf a = none;
    for (int64_t k = 0; k < taps; k++) {
      gs_vf b = gs_load(from + (i * step + k * apart) * GS_W);
      a = mean ? a + b : gs_maxv(a, b);
    }
    gs_store(to + i * GS_W, a);
  }
}

GS_INLINE void gs_blocked_window_columns(const int mean, const GsPlaces* t, int64_t count, float* y) {
  _Alignas(64) float column[GS_WINDOW_COLUMNS * GS_W];
  int64_t columns = (count - 1) * t->step + (t->KW - 1) * t->tap + 1;
  int64_t j0 = gs_min_i64(gs_max_i64(-t->left, 0), columns);
  int64_t j1 = gs_max_i64(j0, gs_min_i64(t->W - t->left, columns));
  for (int64_t j = 0; j < j0; j++) gs_store(column + j * GS_W, gs_load(t->outside));
  if (j0 < j1) gs_blocked_window_run(mean, t->x + (t->left + j0) * GS_W, 1, t->k1 - t->k0, t->row / GS_W, j1 - j0,
                                     column + j0 * GS_W);
  for (int64_t j = j1; j < columns; j++) gs_store(column + j * GS_W, gs_load(t->outside));
  gs_blocked_window_run(mean, column, t->step, t->KW, t->tap, count, y);
}
GS_NOINLINE void gs_blocked_max_columns(const GsPlaces* t, int64_t count, float* y) {
  gs_blocked_window_columns(0, t, count, y);
}
GS_NOINLINE void gs_blocked_sum_columns(const GsPlaces* t, int64_t count, float* y) {
  gs_blocked_window_columns(1, t, count, y);
}

// A task is a row of outputs of a block.
GS_LOCAL void gs_blocked_window_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedWindow* v = arg;
  (void)thread;
  float outside[GS_W];
  for (int i = 0; i < GS_W; i++) outside[i] = v->mean ? 0 : -__builtin_inff();
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], s = v->stride[1];
  int64_t KW = v->kernel[1], reach = (KW - 1) * v->dilation[1] + 1, by_columns = reach <= GS_WINDOW_COLUMNS;
  int64_t most = by_columns ? (GS_WINDOW_COLUMNS - reach) / s + 1 : 1;
  int64_t tiles = gs_ceil_div(OW, most), size = OW / tiles;
  GsPlaces t = {.W = W, .KW = KW, .row = v->dilation[0] * W * GS_W, .step = s, .tap = v->dilation[1],
                .outside = outside};
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / OH, oy = i % OH, top = oy * v->stride[0] - v->pad[0];
    gs_taps_inside(top, H, v->kernel[0], v->dilation[0], &t.k0, &t.k1);
    t.x = v->x + (image * H + top + t.k0 * v->dilation[0]) * W * GS_W;
    float* y = v->y + i * OW * GS_W;
    for (int64_t j = 0, ox = 0; j < tiles; j++) {
      int64_t count = size + (j < OW % tiles);
      t.left = ox * s - v->pad[1];
      if (by_columns) (v->mean ? gs_blocked_sum_columns : gs_blocked_max_columns)(&t, count, y + ox * GS_W);
      else if (v->mean) gs_blocked_window_place(1, &t, y + ox * GS_W);
      else gs_blocked_window_place(0, &t, y + ox * GS_W);
      ox += count;
    }
    if (v->mean != 1) continue;
    int64_t down = gs_blocked_counted(v, 0, oy);
    for (int64_t ox = 0; ox < OW; ox++)
      gs_store(y + ox * GS_W, gs_load(y + ox * GS_W) / gs_splat((float)(down * gs_blocked_counted(v, 1, ox))));
  }
}

GS_LOCAL void gs_blocked_window_f32(const GsBlockedWindow* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return;
  int64_t rows = v->N * v->blocks * v->out[0];
  if (rows * v->out[1] * v->kernel[0] * v->kernel[1] < 60000) pool = 0;
  gs_parallel_for(pool, rows, gs_blocked_window_task, (void*)v);
}
