// Convolutions of each channel by itself over blocked channels: `group`, C and O of a GsBlocked are the same.
//
// A vector holds the channels of a block at one place. A tile of places in a row stays in registers while the taps run;
// for the usual widths each column is loaded once and goes to all the places that it is a tap of. Where a column is
// outside, its address becomes that of zeros, which costs too little to have other tiles for the inside.
//
// w packed: [C / b][tap][b], zeros beyond the last channel.

#include "gs_blocked_f32.h"

GS_LOCAL void gs_blocked_depthwise_f32_plain(const GsBlocked* v, GsPool* pool) {
  (void)pool;
  int64_t blocks = gs_blocked_count(v->C), H = v->in[0], W = v->in[1], OW = v->out[1], places = v->out[0] * OW;
  int64_t KW = v->kernel[1], taps = v->kernel[0] * KW;
  if (v->out[0] <= 0 || OW <= 0) return;
  for (int64_t i = 0; i < v->N * blocks; i++) {
    for (int64_t p = 0; p < places; p++)
      for (int64_t lane = 0; lane < GS_W; lane++) {
        int64_t c = i % blocks * GS_W + lane;
        double sum = gs_blocked_bias_one(v, c);
        for (int64_t tap = 0; tap < taps; tap++) {
          int64_t iy = p / OW * v->stride[0] + tap / KW * v->dilation[0] - v->pad[0];
          int64_t ix = p % OW * v->stride[1] + tap % KW * v->dilation[1] - v->pad[1];
          if (iy >= 0 && iy < H && ix >= 0 && ix < W)
            sum += (double)v->x[((i * H + iy) * W + ix) * GS_W + lane]
                 * (double)v->w[(c / GS_W * taps + tap) * GS_W + lane];
        }
        int64_t at = (i * places + p) * GS_W + lane;
        v->y[at] = gs_blocked_done_one(v, (float)sum, at);
      }
    if (v->epilogue) v->epilogue(v->context, v->y + i * places * GS_W, GS_W, i, 0, 0, places, GS_W);
  }
}

// The most places of a tile.
#define GS_PLACES 7

// What a tile of places in a row of outputs looks at.
typedef struct GsPlaces {
  int64_t W, KW, k0, k1;    // the picture's width, the kernel's, and which of its rows lie inside: [k0, k1)
  int64_t row;              // floats from a row of taps to the next
  int64_t left, step, tap;  // columns: of the first place's first tap, from place to place, from tap to tap
  const float *x, *outside; // the row that k0 falls on; what stands for places outside
  gs_vf low, high;          // convolutions: outputs are kept between them
  const float* residual;    // what is added to the tile's outputs before that, or NULL
} GsPlaces;

// The vector in column `ix` of a row.
GS_INLINE gs_vf gs_place(const GsPlaces* t, const float* row, int64_t ix) {
  return gs_load((uint64_t)ix < (uint64_t)t->W ? row + ix * GS_W : t->outside);
}

// A tile of `count` places. KW and step are constants where this is inlined, or KW is 0: any, and any dilation.
// `place` is gs_place, or another that reads the picture's numbers.
typedef gs_vf (*GsPlaceFn)(const GsPlaces*, const float*, int64_t);
GS_INLINE void gs_blocked_depthwise_tile(const int count, const int KW, const int step, const GsPlaceFn place,
                                         const GsPlaces* t, const float* w, gs_vf bias, float* y) {
  gs_vf sum[GS_PLACES];
#pragma GCC unroll 7
  for (int i = 0; i < count; i++) sum[i] = bias;
  const float* row = t->x;
  const int64_t left = t->left;
  w += t->k0 * t->KW * GS_W;
  for (int64_t ky = t->k0; ky < t->k1; ky++, row += t->row) {
    if (KW) {
      // Each column is loaded once and goes to all the sums that it is a tap of.
      gs_vf u[7];
#pragma GCC unroll 7
      for (int kx = 0; kx < KW; kx++) u[kx] = gs_load(w + kx * GS_W);
#pragma GCC unroll 32
      for (int j = 0; j < (count - 1) * step + KW; j++) {
        gs_vf x = place(t, row, left + j);
#pragma GCC unroll 7
        for (int kx = KW - 1; kx >= 0; kx--)
          if ((j - kx) % step == 0 && j - kx >= 0 && (j - kx) / step < count) sum[(j - kx) / step] += x * u[kx];
      }
      w += KW * GS_W;
      continue;
    }
    for (int64_t kx = 0; kx < t->KW; kx++, w += GS_W) {
      gs_vf u = gs_load(w);
#pragma GCC unroll 7
      for (int i = 0; i < count; i++) sum[i] += place(t, row, left + i * t->step + kx * t->tap) * u;
    }
  }
#pragma GCC unroll 7
  for (int i = 0; i < count; i++) {
    if (t->residual) sum[i] += gs_load(t->residual + i * GS_W);
    gs_store(y + i * GS_W, gs_blocked_clamped(sum[i], t->low, t->high));
  }
}

#define GS_PLACES_EACH(X, ...) \
  X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__) \
  X(7, __VA_ARGS__)
#define GS_DEPTHWISE(count, KW, step) \
  GS_NOINLINE void gs_blocked_depthwise_##count##_##KW##_##step(const GsPlaces* t, const float* w, gs_vf bias, \
                                                                float* y) { \
    gs_blocked_depthwise_tile(count, KW, step, gs_place, t, w, bias, y); }
#define GS_DEPTHWISE_NAME(count, KW, step) gs_blocked_depthwise_##count##_##KW##_##step,
GS_PLACES_EACH(GS_DEPTHWISE, 0, 0)
GS_PLACES_EACH(GS_DEPTHWISE, 3, 1)
GS_PLACES_EACH(GS_DEPTHWISE, 3, 2)
GS_PLACES_EACH(GS_DEPTHWISE, 5, 1)
GS_PLACES_EACH(GS_DEPTHWISE, 5, 2)
GS_PLACES_EACH(GS_DEPTHWISE, 7, 1)
GS_PLACES_EACH(GS_DEPTHWISE, 7, 2)
static void (*const gs_blocked_depthwises[7][GS_PLACES])(const GsPlaces*, const float*, gs_vf, float*)
  __attribute__((unused)) = {
    {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 0, 0)},
    {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 3, 1)}, {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 3, 2)},
    {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 5, 1)}, {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 5, 2)},
    {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 7, 1)}, {GS_PLACES_EACH(GS_DEPTHWISE_NAME, 7, 2)}};

// The taps of `kernel`, `dilation` apart from `first` on, that lie in [0, size): [*begin, *end).
GS_INLINE void gs_taps_inside(int64_t first, int64_t size, int64_t kernel, int64_t dilation, int64_t* begin,
                              int64_t* end) {
  *begin = first < 0 ? gs_min_i64(kernel, gs_ceil_div(-first, dilation)) : 0;
  *end = first >= size ? *begin : gs_max_i64(*begin, gs_min_i64(kernel, gs_ceil_div(size - first, dilation)));
}

typedef void (*const GsPlacesTiles[7][GS_PLACES])(const GsPlaces*, const float*, gs_vf, float*);

// Rows of outputs of blocks [begin, end), by `makers` of tiles. `inputs`: the channels that an output is made of.
GS_INLINE void gs_blocked_rows(const GsBlocked* v, GsPlacesTiles makers, int64_t inputs, int64_t begin, int64_t end) {
  static const float zeros[GS_W];
  int64_t blocks = gs_blocked_count(v->C), H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], s = v->stride[1];
  int64_t KH = v->kernel[0], KW = v->kernel[1];
  int64_t tiles = gs_ceil_div(OW, GS_PLACES), size = OW / tiles, larger = OW % tiles, told = 0;
  int quick = (KW == 3 || KW == 5 || KW == 7) && s <= 2 && v->dilation[1] == 1 ? (int)((KW - 3) + s) : 0;
  GsPlaces t = {.W = W, .KW = KW, .row = v->dilation[0] * W * GS_W, .step = s, .tap = v->dilation[1], .outside = zeros,
                .low = gs_blocked_low(v), .high = gs_blocked_high(v)};
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / OH, oy = i % OH, block = image % blocks, top = oy * v->stride[0] - v->pad[0];
    gs_taps_inside(top, H, KH, v->dilation[0], &t.k0, &t.k1);
    t.x = v->x + (image * H + top + t.k0 * v->dilation[0]) * W * GS_W;
    float* y = v->y + i * OW * GS_W;
    for (int64_t j = 0, ox = 0; j < tiles; j++) {
      int64_t count = size + (j < larger);
      gs_blocked_soon(y + ox * GS_W, count * GS_W);
      t.residual = v->residual && !v->silu ? v->residual + (y - v->y) + ox * GS_W : 0;
      t.left = ox * s - v->pad[1];
      makers[quick][count - 1](&t, v->w + block * KH * KW * inputs * GS_W, gs_blocked_bias(v, block), y + ox * GS_W);
      ox += count;
    }
    told += OW;
    if (v->silu) gs_blocked_silu(v, y, OW * GS_W);
    if (v->epilogue && (told >= GS_BLOCKED_RUN || oy + 1 == OH || i + 1 == end)) {
      int64_t first = (oy + 1) * OW - told;
      v->epilogue(v->context, v->y + (image * OH * OW + first) * GS_W, GS_W, image, first, 0, told, GS_W);
      told = 0;
    }
  }
}

// A task is a row of outputs of a block.
GS_LOCAL void gs_blocked_depthwise_task(void* arg, int64_t begin, int64_t end, int thread) {
  (void)thread;
  gs_blocked_rows(arg, gs_blocked_depthwises, 1, begin, end);
}

GS_LOCAL void gs_blocked_depthwise_f32(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->C <= 0) return;
  int64_t rows = v->N * gs_blocked_count(v->C) * v->out[0];
  if (rows * v->out[1] * v->kernel[0] * v->kernel[1] < 60000) pool = 0;
  gs_parallel_for(pool, rows, gs_blocked_depthwise_task, (void*)v);
}
