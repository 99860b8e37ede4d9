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
  int mean, count_pad;
  const float* x;    // (planes, in...)
  float* y;          // (planes, out...)
  int64_t* indices;  // the place of each maximum in the whole of x, counted in C order; NULL where not wanted
  int column_major;  // indices: the last axis counts in the largest steps within a plane
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
      v->y[plane * out + j] = v->mean ? (float)(sum / (double)count) : most;
      if (v->indices) v->indices[plane * out + j] = place;
    }
  }
}

GS_LOCAL void gs_window_f32_plain(const GsWindow* v, GsPool* pool) {
  if (gs_product(v->out, v->rank) > 0) gs_parallel_for(pool, v->planes, gs_window_plain_task, (void*)v);
}

GS_LOCAL void gs_window_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWindow* v = arg;
  (void)thread;
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], KH = v->kernel[0], KW = v->kernel[1];
  int64_t s = v->stride[1], dx = v->dilation[1], dy = v->dilation[0];
  // Outputs [low, high) of a row have all their columns inside the picture.
  int64_t low = gs_min_i64(OW, gs_max_i64(0, gs_ceil_div(v->pad[1], s)));
  int64_t reach = W - 1 + v->pad[1] - (KW - 1) * dx;
  int64_t high = reach < 0 ? low : gs_max_i64(low, gs_min_i64(OW, reach / s + 1));
  for (int64_t plane = begin; plane < end; plane++) {
    const float* x = v->x + plane * H * W;
    for (int64_t oy = 0; oy < OH; oy++) {
      float* y = v->y + (plane * OH + oy) * OW;
      int64_t top = oy * v->stride[0] - v->pad[0];
      // Taps [k0, k1) lie inside, [0, kp) within picture and padding.
      int64_t k0 = top < 0 ? gs_min_i64(KH, gs_ceil_div(-top, dy)) : 0;
      int64_t k1 = top >= H ? k0 : gs_max_i64(k0, gs_min_i64(KH, gs_ceil_div(H - top, dy)));
      int64_t beyond = H + v->pad_end[0] - top, kp = beyond <= 0 ? 0 : gs_min_i64(KH, gs_ceil_div(beyond, dy));
      int64_t rows = v->count_pad ? kp : k1 - k0;
      for (int64_t ox = 0; ox < OW;) {
        int64_t left = ox * s - v->pad[1];
        // A vector of outputs; every second of two vectors reads one float further, which must be of this row too.
        int64_t last = left + (GS_W - 1) * s + (KW - 1) * dx + (s == 2);
        if (ox >= low && ox + GS_W <= high && last < W && s <= 2) {
          gs_vf r = v->mean ? (gs_vf){0} : gs_splat(-__builtin_inff());
          for (int64_t ky = k0; ky < k1; ky++)
            for (int64_t kx = 0; kx < KW; kx++) {
              const float* p = x + (top + ky * dy) * W + left + kx * dx;
              gs_vf a = s == 1 ? gs_load(p) : gs_load_even(p);
              r = v->mean ? r + a : gs_maxv(r, a);
            }
          gs_store(y + ox, v->mean ? r / (float)(rows * KW) : r);
          ox += GS_W;
          continue;
        }
        int64_t c0 = left < 0 ? gs_min_i64(KW, gs_ceil_div(-left, dx)) : 0;
        int64_t c1 = left >= W ? c0 : gs_max_i64(c0, gs_min_i64(KW, gs_ceil_div(W - left, dx)));
        int64_t far = W + v->pad_end[1] - left, cp = far <= 0 ? 0 : gs_min_i64(KW, gs_ceil_div(far, dx));
        float r = v->mean ? 0 : -__builtin_inff();
        for (int64_t ky = k0; ky < k1; ky++)
          for (int64_t kx = c0; kx < c1; kx++) {
            float a = x[(top + ky * dy) * W + left + kx * dx];
            r = v->mean ? r + a : gs_maxf(r, a);
          }
        y[ox++] = v->mean ? r / (float)(rows * (v->count_pad ? cp : c1 - c0)) : r;
      }
    }
  }
}

// Rank 2, without indices.
GS_LOCAL void gs_window2d_f32(const GsWindow* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return;
  int64_t work = v->planes * v->out[0] * v->out[1] * v->kernel[0] * v->kernel[1];
  gs_parallel_for(work < 2 * GS_ROWS_ALONE ? 0 : pool, v->planes, gs_window_task, (void*)v);
}
