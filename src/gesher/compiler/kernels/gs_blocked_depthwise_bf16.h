// Convolutions of each channel by itself over blocked channels whose input or output is bfloat16 in memory, as the
// convolutions around them round it: see gs_blocked_depthwise_f32.h. They multiply in float all the same: this saves
// memory, no arithmetic.

#include "gs_blocked_bf16.h"
#include "gs_blocked_depthwise_f32.h"

// Number i of x.
GS_INLINE float gs_blocked_half_one(const GsBlocked* v, int64_t i) {
  return v->x_bf16 ? gs_f32_of_bf16(((const uint16_t*)v->x)[i]) : v->x[i];
}

GS_LOCAL void gs_blocked_depthwise_bf16_plain(const GsBlocked* v, GsPool* pool) {
  (void)pool;
  int64_t blocks = gs_blocked_count(v->C), H = v->in[0], W = v->in[1], OW = v->out[1], places = v->out[0] * OW;
  int64_t KW = v->kernel[1], taps = v->kernel[0] * KW;
  if (v->out[0] <= 0 || OW <= 0) return;
  for (int64_t i = 0; i < v->N * blocks; i++) {
    for (int64_t at = i * places * GS_W; at < (i + 1) * places * GS_W; at++) {
      int64_t lane = at % GS_W, p = at / GS_W % places, c = i % blocks * GS_W + lane;
      double sum = gs_blocked_bias_one(v, c);
      for (int64_t tap = 0; tap < taps; tap++) {
        int64_t iy = p / OW * v->stride[0] + tap / KW * v->dilation[0] - v->pad[0];
        int64_t ix = p % OW * v->stride[1] + tap % KW * v->dilation[1] - v->pad[1];
        if (iy >= 0 && iy < H && ix >= 0 && ix < W)
          sum += (double)gs_blocked_half_one(v, ((i * H + iy) * W + ix) * GS_W + lane)
               * (double)v->w[(c / GS_W * taps + tap) * GS_W + lane];
      }
      float y = gs_blocked_done_one(v, (float)sum, at);
      if (v->y_bf16) ((uint16_t*)v->y)[at] = gs_bf16_of_f32(y);
      else v->y[at] = y;
    }
    if (v->epilogue) v->epilogue(v->context, v->y + i * places * GS_W, GS_W, i, 0, 0, places, GS_W);
  }
}

// As gs_place, of a row of bfloat16. `outside` is as many zeros.
GS_INLINE gs_vf gs_half_place(const GsPlaces* t, const float* row, int64_t ix) {
  const uint16_t* at = (const uint16_t*)((uint64_t)ix < (uint64_t)t->W ? row + ix * (GS_W / 2) : t->outside);
  return (gs_vf)(__builtin_convertvector(*(const gs_bf16_h_u*)at, gs_bf16_u) << 16);
}

#define GS_HALF_DEPTHWISE(count, KW, step) \
  GS_NOINLINE void gs_half_depthwise_##count##_##KW##_##step(const GsPlaces* t, const float* w, gs_vf bias, float* y) { \
    gs_blocked_depthwise_tile(count, KW, step, gs_half_place, t, w, bias, y); }
#define GS_HALF_DEPTHWISE_NAME(count, KW, step) gs_half_depthwise_##count##_##KW##_##step,
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 0, 0)
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 3, 1)
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 3, 2)
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 5, 1)
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 5, 2)
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 7, 1)
GS_PLACES_EACH(GS_HALF_DEPTHWISE, 7, 2)
static void (*const gs_half_depthwises[7][GS_PLACES])(const GsPlaces*, const float*, gs_vf, float*)
  __attribute__((unused)) = {
    {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 0, 0)},
    {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 3, 1)}, {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 3, 2)},
    {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 5, 1)}, {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 5, 2)},
    {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 7, 1)}, {GS_PLACES_EACH(GS_HALF_DEPTHWISE_NAME, 7, 2)}};

// What becomes of a tile's sums: y from number `at` on.
GS_INLINE void gs_half_done(const GsBlocked* v, const float* made, int64_t at, int64_t count) {
  const float* residual = v->silu ? v->residual : 0;
  for (int64_t i = 0; i < count; i += GS_W) {
    gs_vf x = gs_load(made + i);
    if (v->silu) x *= gs_sigmoidv(x);
    if (residual) x += gs_load(residual + at + i);
    if (v->y_bf16) gs_bf16_store((uint16_t*)v->y + at + i, x);
    else gs_store(v->y + at + i, x);
  }
}

// A task is a row of outputs of a block.
GS_LOCAL void gs_blocked_depthwise_bf16_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
  static const float zeros[GS_W];
  int64_t blocks = gs_blocked_count(v->C), H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], s = v->stride[1];
  int64_t KH = v->kernel[0], KW = v->kernel[1], size_of_x = v->x_bf16 ? 2 : 4, size_of_y = v->y_bf16 ? 2 : 4;
  int64_t tiles = gs_ceil_div(OW, GS_PLACES), size = OW / tiles, larger = OW % tiles;
  int quick = (KW == 3 || KW == 5 || KW == 7) && s <= 2 && v->dilation[1] == 1 ? (int)((KW - 3) + s) : 0;
  GsPlaces t = {.W = W, .KW = KW, .row = v->dilation[0] * W * GS_W * size_of_x / 4, .step = s, .tap = v->dilation[1],
                .outside = zeros, .low = gs_blocked_low(v), .high = gs_blocked_high(v)};
  float made[GS_PLACES * GS_W];
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / OH, oy = i % OH, block = image % blocks, top = oy * v->stride[0] - v->pad[0];
    gs_taps_inside(top, H, KH, v->dilation[0], &t.k0, &t.k1);
    t.x = (const float*)((const char*)v->x + (image * H + top + t.k0 * v->dilation[0]) * W * GS_W * size_of_x);
    for (int64_t j = 0, ox = 0; j < tiles; j++) {
      int64_t count = size + (j < larger), at = (i * OW + ox) * GS_W;
      gs_blocked_soon((const float*)((char*)v->y + at * size_of_y), count * GS_W * size_of_y / 4);
      t.residual = v->residual && !v->silu ? v->residual + at : 0;
      t.left = ox * s - v->pad[1];
      (v->x_bf16 ? gs_half_depthwises : gs_blocked_depthwises)[quick][count - 1](
          &t, v->w + block * KH * KW * GS_W, gs_blocked_bias(v, block), made);
      gs_half_done(v, made, at, count * GS_W);
      ox += count;
    }
    if (v->epilogue) v->epilogue(v->context, v->y + i * OW * GS_W, GS_W, image, oy * OW, 0, OW, GS_W);
  }
}

GS_LOCAL void gs_blocked_depthwise_bf16(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->C <= 0) return;
  int64_t rows = v->N * gs_blocked_count(v->C) * v->out[0];
  if (rows * v->out[1] * v->kernel[0] * v->kernel[1] < 60000) pool = 0;
  gs_parallel_for(pool, rows, gs_blocked_depthwise_bf16_task, (void*)v);
}
