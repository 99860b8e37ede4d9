// Windows of a picture put back into it, what overlaps added up: Col2Im.
//
// With a stride of 1 along a row, vectors of the picture are summed from all taps and written once; otherwise each tap is
// added to what is there.

#include "gs_pool.h"

typedef struct GsCol2Im {
  int64_t planes;              // pictures times channels
  int64_t in[2], out[2];       // windows along each axis; the picture
  int64_t kernel[2], stride[2], dilation[2], pad[2];
  const float* x;              // (planes, kernel[0], kernel[1], in[0], in[1])
  float* y;                    // (planes, out[0], out[1])
} GsCol2Im;

GS_LOCAL void gs_col2im_plain(const GsCol2Im* v, GsPool* pool) {
  (void)pool;
  memset(v->y, 0, (size_t)(v->planes * v->out[0] * v->out[1]) * sizeof(float));
  const float* x = v->x;
  for (int64_t plane = 0; plane < v->planes; plane++)
    for (int64_t a = 0; a < v->kernel[0]; a++)
      for (int64_t b = 0; b < v->kernel[1]; b++)
        for (int64_t i = 0; i < v->in[0]; i++)
          for (int64_t j = 0; j < v->in[1]; j++, x++) {
            int64_t r = i * v->stride[0] + a * v->dilation[0] - v->pad[0];
            int64_t c = j * v->stride[1] + b * v->dilation[1] - v->pad[1];
            if (r >= 0 && r < v->out[0] && c >= 0 && c < v->out[1]) v->y[(plane * v->out[0] + r) * v->out[1] + c] += *x;
          }
}

// The first and the last + 1 window along an axis whose tap at `at` falls into the picture.
GS_INLINE void gs_col2im_inside(const GsCol2Im* v, int axis, int64_t at, int64_t* first, int64_t* end) {
  int64_t s = v->stride[axis];
  *first = gs_max_i64(0, -gs_floor_div(at, s));
  *end = gs_min_i64(v->in[axis], gs_ceil_div(gs_max_i64(v->out[axis] - at, 0), s));
}

// A row of the picture from all taps that reach it, a vector at a time: for windows side by side.
GS_INLINE void gs_col2im_row(const GsCol2Im* v, const float* x, int64_t r, float* y) {
  const int64_t size = v->in[0] * v->in[1];
  for (int64_t c = 0; c < v->out[1]; c += GS_W) {
    gs_vf sum = {0};
    for (int64_t a = 0; a < v->kernel[0]; a++) {
      int64_t down = r + v->pad[0] - a * v->dilation[0], i = v->stride[0] == 1 ? down : down / v->stride[0];
      if (down < 0 || i >= v->in[0] || i * v->stride[0] != down) continue;
      const float* from = x + a * v->kernel[1] * size + i * v->in[1];
      for (int64_t b = 0; b < v->kernel[1]; b++, from += size) {
        int64_t j = c + v->pad[1] - b * v->dilation[1], end = gs_min_i64(v->in[1] - j, GS_W);
        if (j >= 0 && end == GS_W) sum += gs_load(from + j);
        else if (end > 0 && j > -GS_W) sum += gs_load_range(from + j, gs_max_i64(-j, 0), end);
      }
    }
    if (c + GS_W <= v->out[1]) gs_store(y + c, sum);
    else gs_store_n(y + c, sum, v->out[1] - c);
  }
}

GS_LOCAL void gs_col2im_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsCol2Im* v = arg;
  (void)thread;
  const int64_t size = v->in[0] * v->in[1];
  for (int64_t plane = begin; plane < end; plane++) {
    float* y = v->y + plane * v->out[0] * v->out[1];
    const float* x = v->x + plane * v->kernel[0] * v->kernel[1] * size;
    if (v->stride[1] == 1) {
      for (int64_t r = 0; r < v->out[0]; r++) gs_col2im_row(v, x, r, y + r * v->out[1]);
      continue;
    }
    memset(y, 0, (size_t)(v->out[0] * v->out[1]) * sizeof(float));
    for (int64_t a = 0; a < v->kernel[0]; a++)
      for (int64_t b = 0; b < v->kernel[1]; b++, x += size) {
        int64_t down = a * v->dilation[0] - v->pad[0], right = b * v->dilation[1] - v->pad[1];
        int64_t i0, i1, j0, j1;
        gs_col2im_inside(v, 0, down, &i0, &i1);
        gs_col2im_inside(v, 1, right, &j0, &j1);
        for (int64_t i = i0; i < i1; i++) {
          const float* from = x + i * v->in[1];
          float* to = y + (i * v->stride[0] + down) * v->out[1] + right;
          for (int64_t j = j0; j < j1; j++) to[j * v->stride[1]] += from[j];
        }
      }
  }
}

GS_LOCAL void gs_col2im(const GsCol2Im* v, GsPool* pool) {
  int64_t work = v->planes * v->kernel[0] * v->kernel[1] * v->in[0] * v->in[1];
  gs_parallel_for(work < 40000 ? 0 : pool, v->planes, gs_col2im_task, (void*)v);
}
