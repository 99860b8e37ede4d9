// Convolutions over blocked channels of which few outputs come: the heads of networks.
//
// Of a block of outputs almost all lanes would be empty. Here vectors run over the channels of a place, as they stand
// in the picture, and are summed across their lanes at last: C / b vectors a tap and output, instead of C. A picture is
// cut as in gs_blocked_f32.h, whose tiles, strips and ends these are.
//
// One group, no gate, no plain_x, at most GS_FEW_MOST outputs. w packed: [C / b rounded up][tap][output][b], with 0 in
// the lanes beyond the last channel (those of x may hold NaN, and are not read).

#include "gs_blocked_f32.h"

#define GS_FEW_MOST 4

GS_INLINE void gs_few_micro(const int places, const int outputs, const GsBlockedTile* t) {
  gs_vf sum[GS_BLOCKED_MR][GS_FEW_MOST];
#pragma GCC unroll 16
  for (int i = 0; i < places; i++)
#pragma GCC unroll 4
    for (int o = 0; o < outputs; o++) sum[i][o] = (gs_vf){0};
  const float* w = t->w;
  const int64_t* segment = t->segments;
  for (int64_t s = t->count[0]; s > 0; s--) {
    const float* p = t->x + *segment++;
    for (const float* end = p + t->length[0]; p < end; p += GS_W, w += outputs * GS_W)
#pragma GCC unroll 16
      for (int i = 0; i < places; i++) {
        gs_vf x = gs_load(p + t->at[i]);
#pragma GCC unroll 4
        for (int o = 0; o < outputs; o++) sum[i][o] += x * gs_load(w + o * GS_W);
      }
  }
  for (int64_t s = t->count[1]; s > 0; s--, w += outputs * GS_W) {
    const float* p = t->x + *segment++;
#pragma GCC unroll 16
    for (int i = 0; i < places; i++) {
      gs_vf x = gs_load_n(p + t->at[i], t->length[1]);
#pragma GCC unroll 4
      for (int o = 0; o < outputs; o++) sum[i][o] += x * gs_load(w + o * GS_W);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < places; i++) {
    gs_vf y = {0};
#pragma GCC unroll 4
    for (int o = 0; o < outputs; o++) y[o] = gs_sum_lanes(sum[i][o]);
    y += t->bias[0];
    if (t->residual) y += gs_load(t->residual + i * GS_W);
    if (t->bounds) y = gs_blocked_clamped(y, t->bounds[0], t->bounds[1]);
    gs_store(t->y + i * GS_W, y);
  }
}

// Sums that stay in registers, by the number of outputs: 1, 2, 3, 4.
#define GS_FEW_MICRO(places, outputs) \
  GS_NOINLINE void gs_few_micro_##places##x##outputs(const GsBlockedTile* t) { gs_few_micro(places, outputs, t); }
#define GS_FEW_NAME(places, outputs) gs_few_micro_##places##x##outputs,
#define GS_FEW_3(X, outputs) X(1, outputs) X(2, outputs) X(3, outputs)
#if GS_BLOCKED_MR == 14
#define GS_FEW_SHORT(X, outputs) GS_BLOCKED_6(X, outputs)
enum { GS_FEW_PLACES = 14, GS_FEW_PLACES_SHORT = 6 };
#else
#define GS_FEW_SHORT GS_FEW_3
enum { GS_FEW_PLACES = 6, GS_FEW_PLACES_SHORT = 3 };
#endif
GS_BLOCKED_ALL(GS_FEW_MICRO, 1)
GS_BLOCKED_ALL(GS_FEW_MICRO, 2)
GS_FEW_SHORT(GS_FEW_MICRO, 3)
GS_FEW_SHORT(GS_FEW_MICRO, 4)
static const GsBlockedMicro gs_few_micros[GS_FEW_MOST][GS_FEW_PLACES] __attribute__((unused)) = {
  {GS_BLOCKED_ALL(GS_FEW_NAME, 1)}, {GS_BLOCKED_ALL(GS_FEW_NAME, 2)},
  {GS_FEW_SHORT(GS_FEW_NAME, 3)}, {GS_FEW_SHORT(GS_FEW_NAME, 4)}};

GS_LOCAL void gs_few_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedJob* job = arg;
  gs_blocked_units(job, begin, end, thread, job->v->O > 2 ? GS_FEW_PLACES_SHORT : GS_FEW_PLACES,
                   gs_few_micros[job->v->O - 1]);
}

GS_LOCAL int64_t gs_blocked_few_f32_scratch(const GsBlocked* v, int threads) {
  return gs_blocked_conv_f32_scratch(v, threads);
}

GS_LOCAL void gs_blocked_few_f32(const GsBlocked* v, GsPool* pool) { gs_blocked_conv_by(v, pool, gs_few_task); }

GS_LOCAL void gs_few_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
  int64_t places = v->out[0] * v->out[1], taps = v->kernel[0] * v->kernel[1];
  for (int64_t n = begin; n < end; n++) {
    float* y = v->y + n * places * GS_W;
    for (int64_t p = 0; p < places; p++)
      for (int64_t o = 0; o < GS_W; o++) {
        double sum = o < v->O ? gs_blocked_bias_one(v, o) : 0;
        for (int64_t tap = 0; tap < taps && o < v->O; tap++) {
          int64_t iy = p / v->out[1] * v->stride[0] + tap / v->kernel[1] * v->dilation[0] - v->pad[0];
          int64_t ix = p % v->out[1] * v->stride[1] + tap % v->kernel[1] * v->dilation[1] - v->pad[1];
          if (iy < 0 || iy >= v->in[0] || ix < 0 || ix >= v->in[1]) continue;
          for (int64_t c = 0; c < v->C; c++)
            sum += (double)gs_blocked_channel(v, n, c)[(iy * v->in[1] + ix) * GS_W]
                 * (double)v->w[((c / GS_W * taps + tap) * v->O + o) * GS_W + c % GS_W];
        }
        y[p * GS_W + o] = gs_blocked_done_one(v, (float)sum, (n * places + p) * GS_W + o);
      }
    if (v->epilogue) v->epilogue(v->context, y, GS_W, n, 0, 0, places, GS_W);
  }
}

GS_LOCAL void gs_blocked_few_f32_plain(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] > 0 && v->out[1] > 0) gs_parallel_for(pool, v->N, gs_few_plain_task, (void*)v);
}
