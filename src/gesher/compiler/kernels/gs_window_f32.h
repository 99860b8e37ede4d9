// Pooling in float: the maximum or the mean of a window of each plane, of any rank; rank 2 by vectors.
//
// Places outside the picture never count for a maximum. For a mean they count in the divisor where `count_pad`, but
// only as far as the stated padding reaches: what ceil rounding adds beyond it does not.

#include "gs_conv_f32.h"
#include "gs_rows_f32.h"

typedef struct GsWindow {
  int64_t rank, planes;  // planes = N * C
  int64_t in[GS_MAX_RANK], out[GS_MAX_RANK], kernel[GS_MAX_RANK];
  int64_t stride[GS_MAX_RANK], dilation[GS_MAX_RANK], pad[GS_MAX_RANK], pad_end[GS_MAX_RANK];
  int mean, count_pad;  // mean: 1; the bare sum: 2, of rank 2 only
  const float* x;    // (planes, in...)
  float* y;          // (planes, out...)
  int64_t* indices;  // the place of each maximum in the whole of x, counted in C order; NULL where not wanted
  int column_major;  // indices: the last axis counts in the largest steps within a plane
  const float* scale;  // (out...): what each place of every plane is multiplied with; NULL: nothing
  float* scratch;      // of gs_window2d_f32: gs_window2d_f32_scratch(v, threads) floats
  GsTileFn epilogue;   // called with each plane as a tile, where not NULL
  void* context;
} GsWindow;

GS_LOCAL void gs_window_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWindow* v = arg;
  (void)thread;
  int64_t in = gs_product(v->in, v->rank), out = gs_product(v->out, v->rank), taps = gs_product(v->kernel, v->rank);
  for (int64_t plane = begin; plane < end; plane++) {
    const float* x = v->x + plane * in;
    int64_t p[GS_MAX_RANK] = {0};
    for (int64_t j = 0; j < out; j++, gs_next_index(p, v->out, v->rank)) {
      double sum = 0;
      float most = -__builtin_inff();
      int64_t count = 0, place = -1, k[GS_MAX_RANK] = {0};
      for (int64_t t = 0; t < taps; t++, gs_next_index(k, v->kernel, v->rank)) {
        int64_t at = 0, inside = 1, padded = 1, column = 0, step = 1;
        for (int64_t d = 0; d < v->rank; d++) {
          int64_t q = p[d] * v->stride[d] + k[d] * v->dilation[d] - v->pad[d];
          inside &= q >= 0 && q < v->in[d];
          padded &= q >= -v->pad[d] && q < v->in[d] + v->pad_end[d];
          at = at * v->in[d] + q;
          column += q * step;
          step *= v->in[d];
        }
        count += inside || (v->count_pad && padded);
        if (!inside) continue;
        sum += (double)x[at];
        // The first of equals; NaN is the largest of all.
        if (place < 0 || x[at] > most || (x[at] != x[at] && most == most)) {
          most = x[at];
          place = plane * in + (v->column_major ? column : at);
        }
      }
      float y = v->mean == 2 ? (float)sum : v->mean ? (float)(sum / (double)count) : most;
      v->y[plane * out + j] = v->scale ? y * v->scale[j] : y;
      if (v->indices) v->indices[plane * out + j] = place;
    }
  }
}

GS_LOCAL void gs_window_f32_plain(const GsWindow* v, GsPool* pool) {
  if (gs_product(v->out, v->rank) > 0) gs_parallel_for(pool, v->planes, gs_window_plain_task, (void*)v);
}

// Rank 2: rows are folded into one, and that along itself, which for a maximum or a sum is the same with far fewer steps.
// The folded row lies in `scratch` between what counts for nothing, so that edges need no code of their own.
//
// Several rows are folded before the first is folded along itself: what was just stored cannot be loaded at another
// place until it has left the store buffer.
#define GS_WINDOW_ROWS 8
#define GS_WINDOW_STEP 5  // the largest window of gs_window_steps
#define GS_WINDOW_FOLD(r, a) (sum ? (r) + (a) : gs_maxv(r, a))

// Floats of the folded row with its borders and room to read on; then, for a mean, the columns that count for each output.
GS_INLINE int64_t gs_window_width(const GsWindow* v) {
  return gs_round_up((v->out[1] + 2 * GS_W) * v->stride[1] + (v->kernel[1] - 1) * v->dilation[1] + 2 * GS_W, GS_W);
}
GS_LOCAL int64_t gs_window2d_f32_scratch(const GsWindow* v, int threads) {
  return threads * ((GS_WINDOW_ROWS + GS_WINDOW_STEP - 1) * gs_window_width(v) + (v->mean == 1 ? gs_round_up(v->out[1], GS_W) + GS_W : 0));
}

// Fold the rows of the picture under row `oy` of the output into `to`; gives how many count.
GS_INLINE float gs_window_down(const GsWindow* v, const float* x, int64_t oy, float* to, const int sum,
                              const int64_t taps) {
  int64_t H = v->in[0], W = v->in[1], KH = taps ? taps : v->kernel[0], dy = v->dilation[0];
  int64_t columns = gs_min_i64(W, (v->out[1] - 1) * v->stride[1] + (v->kernel[1] - 1) * v->dilation[1] + 1 - v->pad[1]);
  int64_t top = oy * v->stride[0] - v->pad[0];
  // Taps [k0, k1) lie inside, [0, kp) within picture and padding.
  int64_t k0 = top < 0 ? gs_min_i64(KH, gs_ceil_div(-top, dy)) : 0;
  int64_t k1 = top >= H ? k0 : gs_max_i64(k0, gs_min_i64(KH, gs_ceil_div(H - top, dy)));
  int64_t beyond = H + v->pad_end[0] - top, kp = beyond <= 0 ? 0 : gs_min_i64(KH, gs_ceil_div(beyond, dy));
  const int whole = taps && k0 == 0 && k1 == taps;
  for (int64_t i = 0; i < columns; i += GS_W) {
    const float* p = x + (top + k0 * dy) * W + i;
    int64_t lanes = gs_min_i64(GS_W, columns - i);
    gs_vf r = sum ? (gs_vf){0} : gs_splat(-__builtin_inff());
    // What lies behind a row's end is loaded where it is the next row's, and not stored.
    if (whole && (lanes == GS_W || (top + (taps - 1) * dy) * W + i + GS_W <= H * W)) {
      r = gs_load(p);
      for (int64_t ky = 1; ky < taps; ky++) r = GS_WINDOW_FOLD(r, gs_load(p + ky * dy * W));
    } else {
      for (int64_t ky = k0; ky < k1; ky++, p += dy * W) {
        gs_vf a = gs_load_some(p, lanes);
        r = ky == k0 ? a : GS_WINDOW_FOLD(r, a);
      }
    }
    gs_store_some(to + v->pad[1] + i, r, lanes);
  }
  return (float)(v->count_pad ? kp : k1 - k0);
}

// Fold a row along itself into a row of the output.
GS_INLINE void gs_window_along(const GsWindow* v, const float* row, float* y, float rows, const float* counts,
                               const float* scale, const int sum, const int64_t taps) {
  int64_t OW = v->out[1], KW = taps ? taps : v->kernel[1], s = v->stride[1], dx = v->dilation[1];
  for (int64_t ox = 0; ox < OW; ox += GS_W) {
    const float* p = row + ox * s;
    gs_vf r;
    if (s == 1) {
      r = gs_load(p);
      for (int64_t kx = 1; kx < KW; kx++) r = GS_WINDOW_FOLD(r, gs_load(p + kx * dx));
    } else if (s == 2) {
      r = gs_load_even(p);
      for (int64_t kx = 1; kx < KW; kx++) r = GS_WINDOW_FOLD(r, gs_load_even(p + kx * dx));
    } else {
      float lanes[GS_W];
      for (int64_t i = 0; i < GS_W; i++) {
        float a = p[i * s];
        for (int64_t kx = 1; kx < KW; kx++) a = sum ? a + p[i * s + kx * dx] : gs_maxf(a, p[i * s + kx * dx]);
        lanes[i] = a;
      }
      r = gs_load(lanes);
    }
    int64_t lanes = gs_min_i64(GS_W, OW - ox);
    if (counts) r = r / (rows * gs_load(counts + ox));
    if (scale) r *= gs_load_some(scale + ox, lanes);
    gs_store_some(y + ox, r, lanes);
  }
}

// Each in a function of its own: together their loops have more to count than there are registers.
#define GS_WINDOW(name, sum, taps)                                                                                  \
  GS_LOCAL __attribute__((noinline)) float gs_window_down_##name(const GsWindow* v, const float* x, int64_t oy,     \
                                                                 float* to) {                                       \
    return gs_window_down(v, x, oy, to, sum, taps);                                                                 \
  }                                                                                                                 \
  GS_LOCAL __attribute__((noinline)) void gs_window_along_##name(const GsWindow* v, const float* row, float* y,     \
                                                                 float rows, const float* counts, const float* scale) { \
    gs_window_along(v, row, y, rows, counts, scale, sum, taps);                                                     \
  }
GS_WINDOW(max, 0, 0)
GS_WINDOW(max2, 0, 2)
GS_WINDOW(max3, 0, 3)
GS_WINDOW(sum, 1, 0)
GS_WINDOW(sum2, 1, 2)
GS_WINDOW(sum3, 1, 3)

typedef struct GsWindowWay {
  float (*down)(const GsWindow*, const float*, int64_t, float*);
  void (*along)(const GsWindow*, const float*, float*, float, const float*, const float*);
} GsWindowWay;

GS_INLINE void gs_window_plane(const GsWindow* v, int64_t plane, float* rows, const float* counts, GsWindowWay way) {
  const float* x = v->x + plane * v->in[0] * v->in[1];
  float* y = v->y + plane * v->out[0] * v->out[1];
  int64_t width = gs_window_width(v);
  for (int64_t oy = 0; oy < v->out[0]; oy += GS_WINDOW_ROWS) {
    int64_t count = gs_min_i64(GS_WINDOW_ROWS, v->out[0] - oy);
    float counted[GS_WINDOW_ROWS];
    for (int64_t i = 0; i < count; i++) counted[i] = way.down(v, x, oy + i, rows + i * width);
    for (int64_t i = 0; i < count; i++)
      way.along(v, rows + i * width, y + (oy + i) * v->out[1], counted[i], counts,
                v->scale ? v->scale + (oy + i) * v->out[1] : 0);
  }
}

// Windows of `taps` x `taps`, a step apart, of a plane: rows are copied between what counts for nothing, each is folded
// along itself once, in registers, and what comes of `taps` of them is folded into a row of the output.
//
// A row's last vector is stored whole: what it writes beyond the row is written again. So columns are taken from the
// last to the first, rows from the first to the last.
GS_INLINE void gs_window_steps(const GsWindow* v, int64_t plane, float* rows, const int sum, const int taps) {
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], width = gs_window_width(v), pad = v->pad[1];
  const float* x = v->x + plane * H * W;
  float* y = v->y + plane * OH * OW;
  int64_t columns = gs_min_i64(W, OW + taps - 1 - pad);
  const gs_vf nothing = sum ? (gs_vf){0} : gs_splat(-__builtin_inff());
  int32_t in_tail[GS_W];
  for (int i = 0; i < GS_W; i++) in_tail[i] = -(i < columns - (columns - 1) / GS_W * GS_W);
  gs_vi tail;
  memcpy(&tail, in_tail, sizeof tail);
  for (int64_t oy = 0; oy < OH; oy += GS_WINDOW_ROWS) {
    int64_t count = gs_min_i64(GS_WINDOW_ROWS, OH - oy);
    for (int64_t i = 0; i < count + taps - 1; i++) {
      int64_t from = oy + i - v->pad[0];
      float* to = rows + i * width + pad;
      int inside = from >= 0 && from < H;
      for (int64_t c = 0; c < columns; c += GS_W) {
        gs_vf a = nothing;
        if (inside) {
          int64_t left = H * W - from * W - c;
          a = left >= GS_W ? gs_load(x + from * W + c) : gs_load_n(x + from * W + c, left);
          if (columns - c < GS_W) a = gs_select(tail, a, nothing);
        }
        gs_store(to + c, a);
      }
    }
    for (int64_t ox = (OW - 1) / GS_W * GS_W; ox >= 0; ox -= GS_W) {
      gs_vf h[GS_WINDOW_STEP];
      // (More than `count` rows lie there, from the last time: they are read, and not stored.)
#pragma GCC unroll 16
      for (int i = 0; i < GS_WINDOW_ROWS + taps - 1; i++) {
        const float* p = rows + i * width + ox;
        gs_vf a = gs_load(p);
#pragma GCC unroll 8
        for (int k = 1; k < taps; k++) a = GS_WINDOW_FOLD(a, gs_load(p + k));
        h[i % taps] = a;
        int64_t row = i - taps + 1, at = (oy + row) * OW + ox;
        if (row < 0) continue;
        if (row >= count) break;
        a = h[row % taps];
#pragma GCC unroll 8
        for (int k = 1; k < taps; k++) a = GS_WINDOW_FOLD(a, h[(row + k) % taps]);
        if (at + GS_W <= OH * OW) {
          if (v->scale) a *= gs_load(v->scale + at);
          gs_store(y + at, a);
        } else {
          int64_t lanes = gs_min_i64(GS_W, OW - ox);
          if (v->scale) a *= gs_load_some(v->scale + at, lanes);
          gs_store_some(y + at, a, lanes);
        }
      }
    }
  }
}

#define GS_WINDOW_STEPS(name, sum, taps)                                                                          \
  GS_LOCAL __attribute__((noinline)) void gs_window_steps_##name(const GsWindow* v, int64_t plane, float* rows) { \
    gs_window_steps(v, plane, rows, sum, taps);                                                                   \
  }
GS_WINDOW_STEPS(max2, 0, 2)
GS_WINDOW_STEPS(max3, 0, 3)
GS_WINDOW_STEPS(max5, 0, 5)
GS_WINDOW_STEPS(sum2, 1, 2)
GS_WINDOW_STEPS(sum3, 1, 3)
GS_WINDOW_STEPS(sum5, 1, 5)

GS_LOCAL void gs_window_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWindow* v = arg;
  int64_t width = gs_window_width(v), OW = v->out[1], KW = v->kernel[1], dx = v->dilation[1];
  float* row = v->scratch + gs_window2d_f32_scratch(v, thread);
  float* counts = v->mean == 1 ? row + (GS_WINDOW_ROWS + GS_WINDOW_STEP - 1) * width : 0;
  for (int64_t i = 0; i < (GS_WINDOW_ROWS + GS_WINDOW_STEP - 1) * width; i++) row[i] = v->mean ? 0 : -__builtin_inff();
  for (int64_t ox = 0; counts && ox < gs_round_up(OW, GS_W); ox++) {
    int64_t left = ox * v->stride[1] - v->pad[1];
    int64_t c0 = left < 0 ? gs_min_i64(KW, gs_ceil_div(-left, dx)) : 0;
    int64_t c1 = left >= v->in[1] ? c0 : gs_max_i64(c0, gs_min_i64(KW, gs_ceil_div(v->in[1] - left, dx)));
    int64_t far = v->in[1] + v->pad_end[1] - left, cp = far <= 0 ? 0 : gs_min_i64(KW, gs_ceil_div(far, dx));
    counts[ox] = (float)(v->count_pad ? cp : c1 - c0);
  }
  // The usual windows are unrolled.
  static const GsWindowWay ways[2][3] = {
    {{gs_window_down_max, gs_window_along_max}, {gs_window_down_max2, gs_window_along_max2},
     {gs_window_down_max3, gs_window_along_max3}},
    {{gs_window_down_sum, gs_window_along_sum}, {gs_window_down_sum2, gs_window_along_sum2},
     {gs_window_down_sum3, gs_window_along_sum3}}};
  int64_t taps = v->kernel[0] == v->kernel[1] && v->kernel[0] <= 3 ? v->kernel[0] - 1 : 0;
  static void (*const steps[2][6])(const GsWindow*, int64_t, float*) = {
    {0, 0, gs_window_steps_max2, gs_window_steps_max3, 0, gs_window_steps_max5},
    {0, 0, gs_window_steps_sum2, gs_window_steps_sum3, 0, gs_window_steps_sum5}};
  int stepping = v->mean != 1 && KW == v->kernel[0] && KW <= GS_WINDOW_STEP && v->stride[0] == 1 && v->stride[1] == 1 &&
                 v->dilation[0] == 1 && dx == 1;
  void (*step)(const GsWindow*, int64_t, float*) = stepping ? steps[v->mean != 0][KW] : 0;
  for (int64_t plane = begin; plane < end; plane++) {
    if (step) step(v, plane, row);
    else gs_window_plane(v, plane, row, counts, ways[v->mean != 0][taps]);
    if (v->epilogue) v->epilogue(v->context, v->y + plane * v->out[0] * OW, OW, plane, 0, 0, v->out[0], OW);
  }
}

// Rank 2, without indices.
GS_LOCAL void gs_window2d_f32(const GsWindow* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return;
  int64_t work = v->planes * v->out[0] * v->out[1] * (v->kernel[0] + v->kernel[1]);
  gs_parallel_for(work < 2 * GS_ROWS_ALONE ? 0 : pool, v->planes, gs_window_task, (void*)v);
}
