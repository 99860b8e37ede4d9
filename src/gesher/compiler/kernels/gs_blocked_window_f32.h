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

// The sums or maxima of a tile. `count` and `mean` are constants where this is inlined.
GS_INLINE void gs_blocked_window_tile(const int count, const int mean, const GsPlaces* t, float* y) {
  gs_vf r[GS_PLACES];
#pragma GCC unroll 7
  for (int i = 0; i < count; i++) r[i] = mean ? (gs_vf){0} : gs_splat(-__builtin_inff());
  const float* row = t->x;
  for (int64_t ky = t->k0; ky < t->k1; ky++, row += t->row)
    for (int64_t kx = 0; kx < t->KW; kx++)
#pragma GCC unroll 7
      for (int i = 0; i < count; i++) {
        gs_vf a = gs_place(t, row, t->left + i * t->step + kx * t->tap);
        r[i] = mean ? r[i] + a : gs_maxv(r[i], a);
      }
#pragma GCC unroll 7
  for (int i = 0; i < count; i++) gs_store(y + i * GS_W, r[i]);
}

#define GS_WINDOW(count, mean) \
  GS_NOINLINE void gs_blocked_window_##count##_##mean(const GsPlaces* t, float* y) { \
    gs_blocked_window_tile(count, mean, t, y); }
#define GS_WINDOW_NAME(count, mean) gs_blocked_window_##count##_##mean,
GS_PLACES_EACH(GS_WINDOW, 0)
GS_PLACES_EACH(GS_WINDOW, 1)
static void (*const gs_blocked_windows[2][GS_PLACES])(const GsPlaces*, float*) __attribute__((unused)) = {
  {GS_PLACES_EACH(GS_WINDOW_NAME, 0)}, {GS_PLACES_EACH(GS_WINDOW_NAME, 1)}};

// A task is a row of outputs of a block.
GS_LOCAL void gs_blocked_window_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedWindow* v = arg;
  (void)thread;
  float outside[GS_W];
  for (int i = 0; i < GS_W; i++) outside[i] = v->mean ? 0 : -__builtin_inff();
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], s = v->stride[1];
  int64_t KW = v->kernel[1], tiles = gs_ceil_div(OW, GS_PLACES), size = OW / tiles;
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
      gs_blocked_windows[v->mean != 0][count - 1](&t, y + ox * GS_W);
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
