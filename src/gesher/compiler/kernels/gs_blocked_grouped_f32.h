// Convolutions over blocked channels with narrow groups, several of which share a block: of 4 or 8 channels and outputs.
//
// As gs_blocked_depthwise_f32.h does it, whose rows and places these are: a vector holds the channels of a block at one
// place. Each output is made of all channels of its group, so each vector is turned into one for every number of a
// channel in its group, which repeats that channel over the group's lanes.
//
// C and O are the same. w packed: [C / b][tap][channel in the group][b], an output a lane, zeros beyond the last.

#include "gs_blocked_depthwise_f32.h"

GS_LOCAL void gs_blocked_grouped_f32_plain(const GsBlocked* v, GsPool* pool) {
  (void)pool;
  int64_t blocks = gs_blocked_count(v->C), H = v->in[0], W = v->in[1], OW = v->out[1], places = v->out[0] * OW;
  int64_t KW = v->kernel[1], taps = v->kernel[0] * KW, width = v->C / v->group;
  if (v->out[0] <= 0 || OW <= 0) return;
  for (int64_t i = 0; i < v->N * blocks; i++) {
    for (int64_t p = 0; p < places; p++)
      for (int64_t lane = 0; lane < GS_W; lane++) {
        int64_t block = i % blocks, at = (i * places + p) * GS_W + lane;
        double sum = gs_blocked_bias_one(v, block * GS_W + lane);
        for (int64_t tap = 0; tap < taps; tap++) {
          int64_t iy = p / OW * v->stride[0] + tap / KW * v->dilation[0] - v->pad[0];
          int64_t ix = p % OW * v->stride[1] + tap % KW * v->dilation[1] - v->pad[1];
          if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
          for (int64_t j = 0; j < width; j++)
            sum += (double)v->x[((i * H + iy) * W + ix) * GS_W + lane / width * width + j]
                 * (double)v->w[((block * taps + tap) * width + j) * GS_W + lane];
        }
        v->y[at] = gs_blocked_done_one(v, (float)sum, at);
      }
    if (v->epilogue) v->epilogue(v->context, v->y + i * places * GS_W, GS_W, i, 0, 0, places, GS_W);
  }
}

// Lane j of each `width` lanes, in all of these; both are constants where this is inlined.
#if GS_W == 16 && (defined(__clang__) || __GNUC__ >= 12)
#define GS_WITHIN(x, j, d) __builtin_shufflevector(x, x, j, j, j, j, j + d, j + d, j + d, j + d, j + 8, j + 8, j + 8, \
                                                   j + 8, j + d + 8, j + d + 8, j + d + 8, j + d + 8)
#elif GS_W == 8 && (defined(__clang__) || __GNUC__ >= 12)
#define GS_WITHIN(x, j, d) __builtin_shufflevector(x, x, j, j, j, j, j + d, j + d, j + d, j + d)
#endif
GS_INLINE gs_vf gs_within(gs_vf x, const int width, const int j) {
#ifdef GS_WITHIN
#define GS_WITHIN_ONE(n) \
  if (width == 4 && j == n) return GS_WITHIN(x, n % 4, 4); \
  if (width == 8 && j == n) return GS_WITHIN(x, n, 0);
  GS_WITHIN_ONE(0) GS_WITHIN_ONE(1) GS_WITHIN_ONE(2) GS_WITHIN_ONE(3)
  GS_WITHIN_ONE(4) GS_WITHIN_ONE(5) GS_WITHIN_ONE(6) GS_WITHIN_ONE(7)
#endif
  gs_vf y;
  for (int i = 0; i < GS_W; i++) y[i] = x[i / width * width + j];
  return y;
}

// A tile of `count` places, as gs_blocked_depthwise_tile: KW and step are constants, or KW is 0.
GS_INLINE void gs_grouped_tile(const int count, const int KW, const int step, const int width, const GsPlaces* t,
                               const float* w, gs_vf bias, float* y) {
  gs_vf sum[GS_PLACES];
#pragma GCC unroll 7
  for (int i = 0; i < count; i++) sum[i] = bias;
  const float* row = t->x;
  const int64_t left = t->left;
  w += t->k0 * t->KW * width * GS_W;
  for (int64_t ky = t->k0; ky < t->k1; ky++, row += t->row) {
    if (KW) {
#pragma GCC unroll 8
      for (int j = 0; j < width; j++) {
        gs_vf u[7];
#pragma GCC unroll 7
        for (int kx = 0; kx < KW; kx++) u[kx] = gs_load(w + (kx * width + j) * GS_W);
#pragma GCC unroll 32
        for (int column = 0; column < (count - 1) * step + KW; column++) {
          gs_vf x = gs_within(gs_place(t, row, left + column), width, j);
#pragma GCC unroll 7
          for (int kx = KW - 1; kx >= 0; kx--)
            if ((column - kx) % step == 0 && column - kx >= 0 && (column - kx) / step < count)
              sum[(column - kx) / step] += x * u[kx];
        }
      }
      w += KW * width * GS_W;
      continue;
    }
    for (int64_t kx = 0; kx < t->KW; kx++, w += width * GS_W)
#pragma GCC unroll 7
      for (int i = 0; i < count; i++) {
        gs_vf x = gs_place(t, row, left + i * t->step + kx * t->tap);
#pragma GCC unroll 8
        for (int j = 0; j < width; j++) sum[i] += gs_within(x, width, j) * gs_load(w + j * GS_W);
      }
  }
#pragma GCC unroll 7
  for (int i = 0; i < count; i++) {
    if (t->residual) sum[i] += gs_load(t->residual + i * GS_W);
    gs_store(y + i * GS_W, gs_blocked_clamped(sum[i], t->low, t->high));
  }
}

#define GS_GROUPED(count, KW, step, width) \
  GS_NOINLINE void gs_grouped_##count##_##KW##_##step##_##width(const GsPlaces* t, const float* w, gs_vf bias, float* y) { \
    gs_grouped_tile(count, KW, step, width, t, w, bias, y); }
#define GS_GROUPED_NAME(count, KW, step, width) gs_grouped_##count##_##KW##_##step##_##width,
#define GS_GROUPED_ALL(width) \
  GS_PLACES_EACH(GS_GROUPED, 0, 0, width) \
  GS_PLACES_EACH(GS_GROUPED, 3, 1, width) \
  GS_PLACES_EACH(GS_GROUPED, 3, 2, width)
#define GS_GROUPED_ANY(width) {GS_PLACES_EACH(GS_GROUPED_NAME, 0, 0, width)}
// Rows of gs_blocked_depthwises; five and seven taps go as any number.
#define GS_GROUPED_ROWS(width) \
  {GS_GROUPED_ANY(width), {GS_PLACES_EACH(GS_GROUPED_NAME, 3, 1, width)}, \
   {GS_PLACES_EACH(GS_GROUPED_NAME, 3, 2, width)}, GS_GROUPED_ANY(width), GS_GROUPED_ANY(width), \
   GS_GROUPED_ANY(width), GS_GROUPED_ANY(width)}
GS_GROUPED_ALL(4)
static GsPlacesTiles gs_grouped_fours __attribute__((unused)) = GS_GROUPED_ROWS(4);
#if GS_W >= 8
GS_GROUPED_ALL(8)
static GsPlacesTiles gs_grouped_eights __attribute__((unused)) = GS_GROUPED_ROWS(8);
#endif

// A task is a row of outputs of a block.
GS_LOCAL void gs_grouped_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
#if GS_W >= 8
  if (v->C / v->group == 8) {
    gs_blocked_rows(v, gs_grouped_eights, 8, begin, end);
    return;
  }
#endif
  gs_blocked_rows(v, gs_grouped_fours, 4, begin, end);
}

GS_LOCAL void gs_blocked_grouped_f32(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->C <= 0) return;
  int64_t rows = v->N * gs_blocked_count(v->C) * v->out[0];
  if (rows * v->out[1] * v->kernel[0] * v->kernel[1] * (v->C / v->group) < 60000) pool = 0;
  gs_parallel_for(pool, rows, gs_grouped_task, (void*)v);
}
