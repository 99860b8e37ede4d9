// Convolutions of single taps over blocked channels with seven products in place of eight (Strassen's, in Winograd's
// form of fewer additions).
//
// A strip of places is cut in halves, and so are the channels and the outputs: [A11 A12; A21 A22] [B11 B12; B21 B22].
//
//   S1 = A21 + A22   S2 = S1 - A11    S3 = A11 - A21   S4 = A12 - S2      of the picture, once a strip
//   T1 = B12 - B11   T2 = B22 - T1    T3 = B22 - B12   T4 = T2 - B21      of the weights, when they are packed
//
//   t1 = A11 B11     C11 = t1 + A12 B21    u2 = t1 + S2 T2    u3 = u2 + S3 T3    u4 = u2 + S1 T1
//   C12 = u4 + S4 B22                      C21 = u3 - A22 T4                     C22 = u3 + u4 - u2
//
// Sums go from product to product as what the next begins with, so that all additions but those of C22 and the S cost
// next to nothing. What is rounded is rounded relative to the largest of what is mixed: blocked_packing.py looks whether
// the weights are of like sizes, and packs them for gs_blocked_conv_f32 where they are not.
//
// One group, kernel 1 x 1, no pads, no plain_x, no gate; an even number of whole blocks of inputs, a multiple of four
// blocks of outputs. w packed: GS_W numbers of which the first tells whether (1) what follows is, a quad of output
// blocks (two of each half) after the other, [B11, B21, T2, T3, T1, B22, -T4][C / 2][2b], or (0) as gs_blocked_conv_f32
// has it.

#include "gs_blocked_f32.h"

// The most places of a strip, and floats of its input.
#define GS_STRASSEN_PLACES 112
#define GS_STRASSEN_STRIP (64 * 1024)

typedef struct GsStrassenJob {
  const GsBlocked* v;
  GsBlockedPlan p;              // one row of places, in strips of Q; a pair stands for a quad of output blocks
  int64_t half;                 // blocks of a half of the channels
  int64_t most;                 // places of half a strip
  int64_t sums;                 // floats of one S
  int copied;                   // the strip's input is copied, since its places lie apart
  const int64_t *at, *near, *far;  // places side by side; where channels begin in a strip's sums, and in its input
  float* scratch;
  int64_t scratch_floats;       // of a thread
} GsStrassenJob;

GS_INLINE GsStrassenJob gs_strassen_plan(const GsBlocked* v) {
  GsStrassenJob job = {.v = v, .half = gs_blocked_count(v->C) / 2};
  GsBlockedPlan* p = &job.p;
  int64_t places = v->out[0] * v->out[1], fit = GS_STRASSEN_STRIP / v->C / (2 * GS_BLOCKED_MR) * 2 * GS_BLOCKED_MR;
  fit = gs_min_i64(GS_STRASSEN_PLACES, gs_max_i64(4 * GS_BLOCKED_MR, fit));
  p->OH = p->R = p->down = 1;
  p->OW = places;
  p->Q = gs_round_up(gs_ceil_div(places, gs_ceil_div(places, fit)), 2 * GS_BLOCKED_MR);
  p->across = gs_ceil_div(places, p->Q);
  p->pairs = gs_blocked_count(v->O) / 4;
  p->blocks = 2 * p->pairs;
  job.copied = v->stride[0] > 1 || v->stride[1] > 1;
  job.most = gs_ceil_div(p->Q, 2) | 1;  // an odd number of lines: what lies these apart must not fall into few sets
  job.sums = job.half * job.most * GS_W;
  job.scratch_floats = gs_round_up(4 * job.sums + (job.copied ? 2 * job.half * (p->Q | 1) * GS_W : 0)
                                   + 8 * job.most * GS_W, 16);
  return job;
}

GS_INLINE int64_t gs_strassen_tables(const GsStrassenJob* job) {
  return gs_round_up(2 * (GS_BLOCKED_MR + 2 * job->half), 16);
}

GS_LOCAL int64_t gs_blocked_strassen_f32_scratch(const GsBlocked* v, int threads) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0) return 0;
  GsStrassenJob job = gs_strassen_plan(v);
  return gs_max_i64(gs_strassen_tables(&job) + threads * job.scratch_floats, gs_blocked_conv_f32_scratch(v, threads));
}

// The four S of a strip: `count` places, the first half of which are `h`. Whether all are finite.
GS_NOINLINE int gs_strassen_sums(const GsStrassenJob* job, const float* x, int64_t plane, int64_t h, int64_t count,
                                 float* S) {
  gs_vf odd = {0};  // becomes NaN
  const float* lower = x + job->half * plane;
  for (int64_t c = 0; c < job->half; c++, x += plane, lower += plane)
    for (int64_t i = 0; i < h; i++) {
      // The second half may have a place less; nobody looks at what comes of it.
      int64_t j = gs_min_i64(h + i, count - 1);
      gs_vf a11 = gs_load(x + i * GS_W), a12 = gs_load(lower + i * GS_W);
      gs_vf a21 = gs_load(x + j * GS_W), a22 = gs_load(lower + j * GS_W);
      gs_vf s1 = a21 + a22, s2 = s1 - a11, s4 = a12 - s2;
      odd += 0 * s4;
      float* to = S + (c * job->most + i) * GS_W;
      gs_store(to, s1);
      gs_store(to + job->sums, s2);
      gs_store(to + 2 * job->sums, a11 - a21);
      gs_store(to + 3 * job->sums, s4);
    }
  return gs_sum_lanes(odd) == 0;
}

// The places of a strip side by side.
GS_LOCAL void gs_strassen_fill(const GsStrassenJob* job, const float* x, int64_t first, int64_t count, float* to) {
  const GsBlocked* v = job->v;
  int64_t OW = v->out[1], plane = v->in[0] * v->in[1] * GS_W;
  for (int64_t c = 0; c < 2 * job->half; c++, x += plane, to += (job->p.Q | 1) * GS_W)
    for (int64_t i = 0; i < count; i++) {
      int64_t place = first + i;
      gs_store(to + i * GS_W,
               gs_load(x + (place / OW * v->stride[0] * v->in[1] + place % OW * v->stride[1]) * GS_W));
    }
}

// The outputs of a quad once more, as sums over the inputs that they see: an infinite or NaN input would spoil others'
// places, and large ones overflow. Slow, and seldom wanted. B12 is T1 + B11.
GS_NOINLINE void gs_strassen_again(const GsBlocked* v, const float* w, const float* x, int64_t plane, int64_t count,
                                   const gs_vf* bias, float* y, int64_t y_block, int64_t y_half) {
  int64_t half = v->C / 2, piece = half * 2 * GS_W;
  for (int64_t i = 0; i < count; i++)
    for (int64_t b = 0; b < 4; b++) {
      gs_vf sum = bias[b];
      float* to = y + b / 2 * y_half + b % 2 * y_block + i * GS_W;
      for (int64_t c = 0; c < v->C; c++) {
        const float* row = w + c % half * 2 * GS_W + b % 2 * GS_W;
        gs_vf u = c < half ? gs_load(row) : gs_load(row + (b < 2 ? 1 : 5) * piece);
        if (c < half && b >= 2) u += gs_load(row + 4 * piece);
        sum += gs_splat(x[c / GS_W * plane + i * GS_W + c % GS_W]) * u;
      }
      if (v->residual && !v->silu) sum += gs_load(v->residual + (to - v->y));
      gs_store(to, gs_blocked_clamped(sum, gs_blocked_low(v), gs_blocked_high(v)));
    }
}

// One product of a quad for `count` places: begun + x w goes to y.
typedef struct GsStrassenProduct {
  const float* x;
  const int64_t* segments;
  const float* begun;
  float* y;
  int64_t y_block;
  gs_vf bias[2];
  int ends;               // whether these are outputs, which are finished then
} GsStrassenProduct;

GS_INLINE void gs_strassen_product(const GsStrassenJob* job, const GsStrassenProduct* f, const float* w, int64_t count) {
  const GsBlocked* v = job->v;
  const gs_vf bounds[2] = {gs_blocked_low(v), gs_blocked_high(v)};
  int64_t K = job->half * GS_W, tiles = gs_ceil_div(count, GS_BLOCKED_MR), size = count / gs_max_i64(tiles, 1);
  const float* residual = f->ends && !v->silu ? v->residual : 0;
  for (int64_t i = 0, j = 0; i < tiles; i++) {
    int64_t held = size + (i < count % tiles);
    GsBlockedTile t = {.x = f->x + j * GS_W, .w = w, .bias = {f->bias[0], f->bias[1]}, .at = job->at,
                       .segments = f->segments, .count = {job->half, 0}, .length = {GS_W, 0},
                       .begun = f->begun ? f->begun + j * GS_W : 0, .begun_block = job->most * GS_W,
                       .bounds = f->ends && v->clamp ? bounds : 0, .y = f->y + j * GS_W, .y_block = f->y_block,
                       .ahead = w, .ahead_step = 0};
    if (residual) t.residual = residual + (t.y - v->y);
    // The last two ask for the next product's weights, which follow these.
    if (i >= tiles - 2) t.ahead = w + 2 * GS_W * K + (i == tiles - 1 && tiles > 1 ? 16 * K : 0), t.ahead_step = 16;
    if (f->ends)
      for (int b = 0; b < 2; b++) {
        gs_blocked_soon(t.y + b * t.y_block, held * GS_W);
        if (v->residual) gs_blocked_soon(v->residual + (t.y - v->y) + b * t.y_block, held * GS_W);
      }
    gs_blocked_micros[0][1][held - 1](&t);
    j += held;
  }
}

// C22 of `count` places. Whether what it is made of is finite.
GS_NOINLINE int gs_strassen_last(const GsStrassenJob* job, const float* u2, const float* u3, const float* u4,
                                 const gs_vf* bias, int64_t count, float* y, int64_t y_block) {
  const GsBlocked* v = job->v;
  gs_vf low = gs_blocked_low(v), high = gs_blocked_high(v), odd = {0};
  const float* residual = v->silu ? 0 : v->residual;
  for (int b = 0; b < 2; b++)
    for (int64_t i = 0; i < count; i++) {
      int64_t from = (b * job->most + i) * GS_W;
      float* to = y + b * y_block + i * GS_W;
      gs_vf sum = gs_load(u3 + from) + (gs_load(u4 + from) - gs_load(u2 + from));
      odd += 0 * sum;
      sum += bias[b];
      if (residual) sum += gs_load(residual + (to - v->y));
      gs_store(to, gs_blocked_clamped(sum, low, high));
    }
  return gs_sum_lanes(odd) == 0;
}

GS_LOCAL void gs_strassen_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsStrassenJob* job = arg;
  const GsBlocked* v = job->v;
  const GsBlockedPlan* p = &job->p;
  int64_t in_plane = v->in[0] * v->in[1] * GS_W, places = p->OW, blocks = gs_blocked_count(v->O), filled = -1;
  int64_t plane = job->copied ? (p->Q | 1) * GS_W : in_plane, line = job->most * GS_W, finite = 1;
  float *S = job->scratch + thread * job->scratch_floats, *made = S + 4 * job->sums;
  float *t1 = made, *u2 = made + 2 * line, *u3 = made + 4 * line, *u4 = made + 6 * line, *copy = made + 8 * line;
  for (int64_t unit = begin; unit < end; unit++) {
    int64_t quad = unit % p->pairs, which = unit / p->pairs, n = which / p->across, first = which % p->across * p->Q;
    int64_t count = gs_min_i64(p->Q, places - first), h = gs_ceil_div(count, 2), rest = count - h;
    const float* x = v->x + n * 2 * job->half * in_plane;
    if (job->copied && which != filled) gs_strassen_fill(job, x, first, count, copy);
    x = job->copied ? copy : x + first * GS_W;
    if (which != filled) finite = gs_strassen_sums(job, x, plane, h, count, S);
    filled = which;
    const float *w = v->w + GS_W + quad * 7 * job->half * GS_W * 2 * GS_W, *lower = x + job->half * plane;
    int64_t piece = job->half * GS_W * 2 * GS_W, y_block = places * GS_W, y_half = blocks / 2 * y_block;
    float* y = v->y + ((n * blocks + 2 * quad) * places + first) * GS_W;
    gs_vf bias[4];
    for (int b = 0; b < 4; b++) bias[b] = gs_blocked_bias(v, 2 * quad + b / 2 * (blocks / 2) + b % 2);
    int whole = finite;
    if (whole) {
      const GsStrassenProduct products[7] = {
        {x, job->far, 0, t1, line, {{0}, {0}}, 0},
        {lower, job->far, t1, y, y_block, {bias[0], bias[1]}, 1},
        {S + job->sums, job->near, t1, u2, line, {{0}, {0}}, 0},
        {S + 2 * job->sums, job->near, u2, u3, line, {{0}, {0}}, 0},
        {S, job->near, u2, u4, line, {{0}, {0}}, 0},
        {S + 3 * job->sums, job->near, u4, y + y_half, y_block, {bias[2], bias[3]}, 1},
        {lower + h * GS_W, job->far, u3, y + h * GS_W, y_block, {bias[0], bias[1]}, 1}};
      for (int i = 0; i < 7; i++) gs_strassen_product(job, &products[i], w + i * piece, i < 6 ? h : rest);
      whole = gs_strassen_last(job, u2, u3, u4, bias + 2, rest, y + y_half + h * GS_W, y_block);
    }
    if (!whole) gs_strassen_again(v, w, x, plane, count, bias, y, y_block, y_half);
    if (!v->silu && !v->epilogue) continue;
    for (int b = 0; b < 4; b++)
      for (int64_t i = 0, run; i < count; i += run) {
        run = gs_min_i64(GS_BLOCKED_RUN, count - i);
        float* to = y + b / 2 * y_half + b % 2 * y_block + i * GS_W;
        if (v->silu) gs_blocked_silu(v, to, run * GS_W);
        if (v->epilogue)
          v->epilogue(v->context, to, GS_W, n * blocks + 2 * quad + b / 2 * (blocks / 2) + b % 2, first + i, 0, run,
                      GS_W);
      }
  }
}

GS_LOCAL void gs_blocked_strassen_f32(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0 || v->N <= 0) return;
  if (v->w[0] == 0) {
    GsBlocked direct = *v;
    direct.w = v->w + GS_W;
    gs_blocked_conv_f32(&direct, pool);
    return;
  }
  if ((double)v->N * (double)v->O * (double)(v->out[0] * v->out[1]) * (double)v->C < 25000.0 * GS_W) pool = 0;
  GsStrassenJob job = gs_strassen_plan(v);
  int64_t *at = (int64_t*)v->scratch, *near = at + GS_BLOCKED_MR, *far = near + job.half;
  for (int64_t i = 0; i < GS_BLOCKED_MR; i++) at[i] = i * GS_W;
  int64_t plane = job.copied ? (job.p.Q | 1) * GS_W : v->in[0] * v->in[1] * GS_W;
  for (int64_t c = 0; c < job.half; c++) near[c] = c * job.most * GS_W, far[c] = c * plane;
  job.at = at;
  job.near = near;
  job.far = far;
  job.scratch = v->scratch + gs_strassen_tables(&job);
  gs_blocked_each_unit(&job.p, v->N, pool, gs_strassen_task, &job);
}

GS_LOCAL void gs_strassen_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
  int64_t blocks = gs_blocked_count(v->O), half = v->C / 2, places = v->out[0] * v->out[1];
  int64_t piece = half * 2 * GS_W;
  for (int64_t i = begin; i < end; i++) {
    int64_t block = i % blocks, part = block / (blocks / 2), within = block % (blocks / 2);
    const float* w = v->w + GS_W + within / 2 * 7 * piece + within % 2 * GS_W;
    for (int64_t p = 0; p < places; p++)
      for (int64_t lane = 0; lane < GS_W; lane++) {
        double sum = gs_blocked_bias_one(v, block * GS_W + lane);
        int64_t from = p / v->out[1] * v->stride[0] * v->in[1] + p % v->out[1] * v->stride[1];
        for (int64_t c = 0; c < v->C; c++) {
          const float* row = w + c % half * 2 * GS_W + lane;
          // B11 or T1 + B11, B21 or B22.
          double u = c < half ? (double)row[0] + (part ? (double)row[4 * piece] : 0) : (double)row[(part ? 5 : 1) * piece];
          sum += u * (double)gs_blocked_channel(v, i / blocks, c)[from * GS_W];
        }
        int64_t at = (i * places + p) * GS_W + lane;
        v->y[at] = gs_blocked_done_one(v, (float)sum, at);
      }
    if (v->epilogue) v->epilogue(v->context, v->y + i * places * GS_W, GS_W, i, 0, 0, places, GS_W);
  }
}

GS_LOCAL void gs_blocked_strassen_f32_plain(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return;
  if (v->w[0] == 0) {
    GsBlocked direct = *v;
    direct.w = v->w + GS_W;
    gs_blocked_conv_f32_plain(&direct, pool);
    return;
  }
  gs_parallel_for(pool, v->N * gs_blocked_count(v->O), gs_strassen_plain_task, (void*)v);
}
