// What is done to a row as a whole: softmax, layer normalisation, reductions. In float.
//
// A tensor is seen as (outer, n, inner): the operation runs along n. Where inner is 1 a vector holds neighbours of
// one row; else it holds neighbouring rows, so any axis is as quick as the last. NaN in a row makes its result NaN.

#include "gs_math.h"
#include "gs_pool.h"

typedef void (*GsRowFn)(void* context, float* y, int64_t row, int64_t n);

typedef struct GsRows {
  int64_t outer, n, inner;
  const float* x;
  float* y;
  int log;                     // softmax: its logarithm
  const float *scale, *shift;  // layer normalisation: (n) each, NULL for none
  float epsilon;
  int centred;                 // 0: the root of the mean square alone (RMS normalisation)
  float *mean, *inverse;       // (outer) each: what was subtracted and multiplied; NULL where not wanted
  GsRowFn epilogue;            // called with each finished row while it is in L1; NULL for none; inner must be 1
  void* context;
} GsRows;

// Elements below which waking other threads costs more than it saves.
#define GS_ROWS_ALONE 16384

// ---- softmax

GS_LOCAL void gs_softmax_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRows* r = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    const float* x = r->x + i / r->inner * r->n * r->inner + i % r->inner;
    float* y = r->y + (x - r->x);
    float most = -__builtin_inff();
    double sum = 0;
    for (int64_t k = 0; k < r->n; k++) most = gs_maxf(most, x[k * r->inner]);
    for (int64_t k = 0; k < r->n; k++) sum += exp((double)x[k * r->inner] - most);
    for (int64_t k = 0; k < r->n; k++) {
      double d = (double)x[k * r->inner] - most;
      y[k * r->inner] = (float)(r->log ? d - log(sum) : exp(d) / sum);
    }
    if (r->epilogue) r->epilogue(r->context, y, i, r->n);
  }
}

GS_LOCAL void gs_softmax_f32_plain(const GsRows* r, GsPool* pool) {
  gs_parallel_for(pool, r->outer * r->inner, gs_softmax_plain_task, (void*)r);
}

GS_LOCAL void gs_softmax_row_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRows* r = arg;
  (void)thread;
  int64_t n = r->n, whole = n / GS_W * GS_W, rest = n - whole;
  for (int64_t i = begin; i < end; i++) {
    const float* x = r->x + i * n;
    float* y = r->y + i * n;
    gs_vf most = gs_splat(-__builtin_inff()), sum = {0};
    for (int64_t k = 0; k < whole; k += GS_W) most = gs_vmax(gs_load(x + k), most);
    float top = gs_max_lanes(most);
    for (int64_t k = whole; k < n; k++) top = x[k] > top ? x[k] : top;
    // A vector of the last elements, filled up with -infinity, whose exponential is the 0 that a sum wants.
    gs_vf last = {0};
    if (rest) {
      gs_vi lane = {0};
      for (int j = 0; j < GS_W; j++) lane[j] = j;
      last = gs_select(lane < gs_splat_i((int32_t)rest), gs_load_n(x + whole, rest) - top, gs_splat(-__builtin_inff()));
    }
    if (r->log) {
      for (int64_t k = 0; k < whole; k += GS_W) sum += gs_exp_downv(gs_load(x + k) - top);
      if (rest) sum += gs_exp_downv(last);
      float total = gs_logf(gs_sum_lanes(sum));
      for (int64_t k = 0; k < whole; k += GS_W) gs_store(y + k, gs_load(x + k) - top - total);
      if (rest) gs_store_n(y + whole, last - total, rest);
    } else {
      for (int64_t k = 0; k < whole; k += GS_W) {
        gs_vf e = gs_exp_downv(gs_load(x + k) - top);
        gs_store(y + k, e);
        sum += e;
      }
      if (rest) sum += last = gs_exp_downv(last);
      float total = 1.0f / gs_sum_lanes(sum);
      for (int64_t k = 0; k < whole; k += GS_W) gs_store(y + k, gs_load(y + k) * total);
      if (rest) gs_store_n(y + whole, last * total, rest);
    }
    if (r->epilogue) r->epilogue(r->context, y, i, n);
  }
}

// Part of a vector: all lanes, or the first few.
GS_INLINE gs_vf gs_load_some(const float* p, int64_t lanes) { return lanes == GS_W ? gs_load(p) : gs_load_n(p, lanes); }
GS_INLINE void gs_store_some(float* p, gs_vf v, int64_t lanes) {
  if (lanes == GS_W) gs_store(p, v);
  else gs_store_n(p, v, lanes);
}

GS_LOCAL void gs_softmax_column_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRows* r = arg;
  (void)thread;
  int64_t columns = gs_ceil_div(r->inner, GS_W), step = r->inner;
  for (int64_t i = begin; i < end; i++) {
    int64_t at = i % columns * GS_W, lanes = gs_min_i64(GS_W, r->inner - at);
    const float* x = r->x + i / columns * r->n * r->inner + at;
    float* y = r->y + (x - r->x);
    gs_vf most = gs_splat(-__builtin_inff()), sum = {0};
    for (int64_t k = 0; k < r->n; k++) most = gs_vmax(gs_load_some(x + k * step, lanes), most);
    for (int64_t k = 0; k < r->n; k++) {
      gs_vf e = gs_exp_downv(gs_load_some(x + k * step, lanes) - most);
      if (!r->log) gs_store_some(y + k * step, e, lanes);
      sum += e;
    }
    gs_vf total = r->log ? gs_logv(sum) : 1.0f / sum;
    for (int64_t k = 0; k < r->n; k++)
      gs_store_some(y + k * step, r->log ? gs_load_some(x + k * step, lanes) - most - total
                                         : gs_load_some(y + k * step, lanes) * total, lanes);
  }
}

GS_LOCAL void gs_softmax_f32(const GsRows* r, GsPool* pool) {
  if (r->outer * r->n * r->inner < GS_ROWS_ALONE / 4) pool = 0;
  if (r->inner == 1) gs_parallel_for(pool, r->outer, gs_softmax_row_task, (void*)r);
  else gs_parallel_for(pool, r->outer * gs_ceil_div(r->inner, GS_W), gs_softmax_column_task, (void*)r);
}

// ---- layer normalisation: (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + shift, inner = 1

GS_LOCAL void gs_layer_norm_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRows* r = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    const float* x = r->x + i * r->n;
    float* y = r->y + i * r->n;
    double mean = 0, square = 0;
    for (int64_t k = 0; k < r->n && r->centred; k++) mean += x[k];
    mean /= (double)r->n;
    for (int64_t k = 0; k < r->n; k++) square += (x[k] - mean) * (x[k] - mean);
    double inverse = 1 / sqrt(square / (double)r->n + (double)r->epsilon);
    for (int64_t k = 0; k < r->n; k++)
      y[k] = (float)((x[k] - mean) * inverse * (r->scale ? r->scale[k] : 1) + (r->shift ? r->shift[k] : 0));
    if (r->mean) r->mean[i] = (float)mean;
    if (r->inverse) r->inverse[i] = (float)inverse;
    if (r->epilogue) r->epilogue(r->context, y, i, r->n);
  }
}

GS_LOCAL void gs_layer_norm_f32_plain(const GsRows* r, GsPool* pool) {
  gs_parallel_for(pool, r->outer, gs_layer_norm_plain_task, (void*)r);
}

GS_LOCAL void gs_layer_norm_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRows* r = arg;
  (void)thread;
  int64_t n = r->n, whole = n / GS_W * GS_W;
  for (int64_t i = begin; i < end; i++) {
    const float* x = r->x + i * n;
    float* y = r->y + i * n;
    float mean = 0;
    if (r->centred) {
      gs_vf a = {0}, b = {0};
      int64_t k = 0;
      for (; k + 2 * GS_W <= n; k += 2 * GS_W) {
        a += gs_load(x + k);
        b += gs_load(x + k + GS_W);
      }
      for (; k < whole; k += GS_W) a += gs_load(x + k);
      mean = gs_sum_lanes(a + b);
      for (; k < n; k++) mean += x[k];
      mean /= (float)n;
    }
    // In two passes: the mean of squares less the square of the mean would lose everything where the mean is large.
    gs_vf a = {0}, b = {0};
    int64_t k = 0;
    for (; k + 2 * GS_W <= n; k += 2 * GS_W) {
      gs_vf p = gs_load(x + k) - mean, q = gs_load(x + k + GS_W) - mean;
      a += p * p;
      b += q * q;
    }
    for (; k < whole; k += GS_W) {
      gs_vf p = gs_load(x + k) - mean;
      a += p * p;
    }
    float square = gs_sum_lanes(a + b);
    for (; k < n; k++) square += (x[k] - mean) * (x[k] - mean);
    float inverse = 1.0f / __builtin_sqrtf(square / (float)n + r->epsilon);
    for (k = 0; k < n; k += GS_W) {
      int64_t lanes = gs_min_i64(GS_W, n - k);
      gs_vf v = (gs_load_some(x + k, lanes) - mean) * inverse;
      if (r->scale) v *= gs_load_some(r->scale + k, lanes);
      if (r->shift) v += gs_load_some(r->shift + k, lanes);
      gs_store_some(y + k, v, lanes);
    }
    if (r->mean) r->mean[i] = mean;
    if (r->inverse) r->inverse[i] = inverse;
    if (r->epilogue) r->epilogue(r->context, y, i, n);
  }
}

GS_LOCAL void gs_layer_norm_f32(const GsRows* r, GsPool* pool) {
  gs_parallel_for(r->outer * r->n < GS_ROWS_ALONE ? 0 : pool, r->outer, gs_layer_norm_task, (void*)r);
}
