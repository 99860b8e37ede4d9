// Convolutions over blocked channels with inputs and weights rounded to bfloat16, summed in float: see gs_blocked_f32.h.
//
// How it runs. As gs_blocked_f32.h does it directly, with pairs of channels in the place of single ones. A strip of the
// picture is always a copy: rounded, with the zeros around it, and with its channels side by side where they come one
// picture after the other (plain_x). It stays in L2 while all outputs are made from it, so what rounding costs is shared
// by them. Only a picture that is bfloat16 already and has no edges is read where it lies.
//
// w packed, a group after the other: pairs of blocks [K / 2][2b][2], the last block of an odd number [K / 2][b][2],
// where K runs over [C / b][tap][c in the block], the last block's channels filled up to an even number.
// kernels/packing_bf16.py makes it.

#include "gs_bf16.h"
#include "gs_blocked_f32.h"

GS_INLINE const uint16_t* gs_blocked_bf16_weights(const GsBlocked* v) { return (const uint16_t*)v->w; }

// The input of channel c at a place, rounded, and the weight of output o (of all), input c (within its group) and tap.
GS_INLINE float gs_blocked_bf16_x(const GsBlocked* v, int64_t n, int64_t c, int64_t place) {
  int64_t places = v->in[0] * v->in[1];
  if (v->plain_x) return gs_bf16_once(v->x[(n * v->C + c) * places + place]);
  int64_t at = ((n * gs_blocked_count(v->C) + c / GS_W) * places + place) * GS_W + c % GS_W;
  if (v->x_bf16) return gs_f32_of_bf16(((const uint16_t*)v->x)[at]);
  return gs_bf16_once(v->x[at] * (v->gate ? v->gate[n * gs_round_up(v->C, GS_W) + c] : 1));
}
GS_INLINE int64_t gs_blocked_bf16_K(const GsBlocked* v) {
  int64_t Cg = v->C / v->group;
  return gs_round_up(Cg, 2) * v->kernel[0] * v->kernel[1];
}
GS_INLINE float gs_blocked_bf16_w(const GsBlocked* v, int64_t o, int64_t c, int64_t tap, int64_t taps) {
  int64_t Cg = v->C / v->group, Og = v->O / v->group, g = o / Og, blocks = gs_blocked_count(Og);
  int64_t block = o % Og / GS_W, paired = (block ^ 1) < blocks, width = paired ? 2 * GS_W : GS_W;
  int64_t first = c / GS_W * GS_W, held = gs_round_up(gs_min_i64(GS_W, Cg - first), 2);
  int64_t k = first * taps + tap * held + c % GS_W, column = (paired ? block % 2 * GS_W : 0) + o % Og % GS_W;
  return gs_f32_of_bf16(gs_blocked_bf16_weights(v)[(g * blocks + block / 2 * 2) * GS_W * gs_blocked_bf16_K(v) + (k / 2 * width + column) * 2
                             + k % 2]);
}

GS_LOCAL void gs_blocked_conv_bf16_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
  int64_t places = v->out[0] * v->out[1], taps = v->kernel[0] * v->kernel[1], blocks = gs_blocked_count(v->O);
  int64_t Cg = v->C / v->group, Og = v->O / v->group;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = i / blocks, block = i % blocks;
    for (int64_t p = 0; p < places; p++)
      for (int64_t lane = 0; lane < GS_W; lane++) {
        int64_t o = block * GS_W + lane, at = (i * places + p) * GS_W + lane;
        double sum = o < v->O ? gs_blocked_bias_one(v, o) : 0;
        for (int64_t tap = 0; tap < taps && o < v->O; tap++) {
          int64_t iy = p / v->out[1] * v->stride[0] + tap / v->kernel[1] * v->dilation[0] - v->pad[0];
          int64_t ix = p % v->out[1] * v->stride[1] + tap % v->kernel[1] * v->dilation[1] - v->pad[1];
          if (iy < 0 || iy >= v->in[0] || ix < 0 || ix >= v->in[1]) continue;
          for (int64_t c = 0; c < Cg; c++)
            sum += (double)gs_blocked_bf16_x(v, n, o / Og * Cg + c, iy * v->in[1] + ix)
                 * (double)gs_blocked_bf16_w(v, o, c, tap, taps);
        }
        float y = gs_blocked_done_one(v, (float)sum, at);
        if (v->y_bf16) ((uint16_t*)v->y)[at] = gs_bf16_of_f32(y);
        else v->y[at] = y;
      }
    if (v->epilogue) v->epilogue(v->context, v->y + i * places * GS_W, GS_W, i, 0, 0, places, GS_W);
  }
}

GS_LOCAL void gs_blocked_conv_bf16_plain(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] > 0 && v->out[1] > 0)
    gs_parallel_for(pool, v->N * gs_blocked_count(v->O), gs_blocked_conv_bf16_plain_task, (void*)v);
}

// ---- a tile in registers

typedef struct GsBlockedBf16Tile {
  const int32_t *x, *w;       // pairs
  gs_vf bias[2];              // what the sums of both blocks begin with
  const int64_t* at;          // where each place's input begins, from x, in pairs
  const int64_t* segments;    // runs of x that w's rows go with, from there: first count[0] of length[0], then [1]
  int64_t count[2], length[2];
  const float* residual;      // of y's form: what is added to outputs, or NULL
  const gs_vf* bounds;        // low and high, between which outputs are kept; NULL for none
  void* y;                    // places of a block stand side by side
  int64_t y_block;            // from a block to the next, in numbers
  int y_bf16;
} GsBlockedBf16Tile;

GS_INLINE void gs_blocked_bf16_micro(const int places, const int blocks, const GsBlockedBf16Tile* t) {
  gs_vf sum[GS_BLOCKED_MR][2];
  int64_t at[GS_BLOCKED_MR];
#pragma GCC unroll 16
  for (int i = 0; i < places; i++) {
    at[i] = t->at[i];
#pragma GCC unroll 2
    for (int j = 0; j < blocks; j++) sum[i][j] = t->bias[j];
  }
  const int32_t* w = t->w;
  const int64_t y_block = t->y_block;
  const int64_t* segment = t->segments;
  for (int part = 0; part < 2; part++)
    for (int64_t s = t->count[part]; s > 0; s--) {
      const int32_t* p = t->x + *segment++;
      for (const int32_t* end = p + t->length[part]; p < end; p++, w += blocks * GS_W) {
        gs_vi u[2];
#pragma GCC unroll 2
        for (int j = 0; j < blocks; j++) u[j] = *(const gs_vi_u*)(w + j * GS_W);
#pragma GCC unroll 16
        for (int i = 0; i < places; i++) {
          gs_vi a = gs_splat_i(p[at[i]]);
#pragma GCC unroll 2
          for (int j = 0; j < blocks; j++) sum[i][j] = gs_bf16_dot(sum[i][j], a, u[j]);
        }
      }
    }
  if (t->residual) {
#pragma GCC unroll 16
    for (int i = 0; i < places; i++)
#pragma GCC unroll 2
      for (int j = 0; j < blocks; j++) sum[i][j] += gs_load(t->residual + j * y_block + i * GS_W);
  }
  if (t->bounds) {
    const gs_vf low = t->bounds[0], high = t->bounds[1];
#pragma GCC unroll 16
    for (int i = 0; i < places; i++)
#pragma GCC unroll 2
      for (int j = 0; j < blocks; j++) sum[i][j] = gs_blocked_clamped(sum[i][j], low, high);
  }
  if (t->y_bf16) {
#pragma GCC unroll 16
    for (int i = 0; i < places; i++)
#pragma GCC unroll 2
      for (int j = 0; j < blocks; j++) gs_bf16_store((uint16_t*)t->y + j * y_block + i * GS_W, sum[i][j]);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < places; i++)
#pragma GCC unroll 2
    for (int j = 0; j < blocks; j++) gs_store((float*)t->y + j * y_block + i * GS_W, sum[i][j]);
}

#define GS_BLOCKED_BF16_MICRO(places, blocks) \
  GS_NOINLINE void gs_blocked_bf16_micro_##places##x##blocks(const GsBlockedBf16Tile* t) { \
    gs_blocked_bf16_micro(places, blocks, t); \
  }
#define GS_BLOCKED_BF16_NAME(places, blocks) gs_blocked_bf16_micro_##places##x##blocks,
GS_BLOCKED_ALL(GS_BLOCKED_BF16_MICRO, 1)
GS_BLOCKED_ALL(GS_BLOCKED_BF16_MICRO, 2)
static void (*const gs_blocked_bf16_micros[2][GS_BLOCKED_MR])(const GsBlockedBf16Tile*) __attribute__((unused)) = {
  {GS_BLOCKED_ALL(GS_BLOCKED_BF16_NAME, 1)},
  {GS_BLOCKED_ALL(GS_BLOCKED_BF16_NAME, 2)},
};

// ---- strips

// Numbers of a strip that stays in L2 while all outputs are made from it.
#define GS_BLOCKED_BF16_STRIP (2 * GS_BLOCKED_STRIP)

// A convolution of single places that leaves places out: only those that it sees are rounded, and stand side by side.
GS_INLINE int gs_blocked_bf16_thin(const GsBlocked* v) {
  return v->kernel[0] == 1 && v->kernel[1] == 1 && (v->stride[0] > 1 || v->stride[1] > 1) && !v->plain_x;
}

// The convolution of the strips: of one that is thin, that of the places that it sees.
GS_INLINE GsBlocked gs_blocked_bf16_seen(const GsBlocked* v) {
  GsBlocked s = *v;
  for (int d = 0; d < 2 && gs_blocked_bf16_thin(v); d++) s.in[d] = s.out[d], s.stride[d] = 1, s.pad[d] = 0;
  return s;
}

// How to cut `v` as strips see it. `row`, `plane`, `pixel`, `length` count numbers, two in what a tile counts.
GS_LOCAL GsBlockedPlan gs_blocked_bf16_plan(const GsBlocked* v, int thin) {
  GsBlockedPlan p = {.H = v->in[0], .W = v->in[1], .OH = v->out[0], .OW = v->out[1]};
  int64_t Cg = v->C / v->group, taps = v->kernel[0] * v->kernel[1], merged = v->dilation[1] == 1 || v->kernel[1] == 1;
  p.blocks = gs_blocked_count(v->O / v->group);
  p.pairs = gs_ceil_div(p.blocks, 2);
  p.pixel = v->plain_x ? gs_round_up(v->C, 2) : GS_W;
  p.planes = v->plain_x ? 1 : gs_blocked_count(Cg);
  if (taps == 1 && v->stride[0] == 1 && v->stride[1] == 1 && !v->pad[0] && !v->pad[1] && p.OH == p.H && p.OW == p.W) {
    p.OW *= p.OH;
    p.W *= p.H;
    p.OH = p.H = 1;
  }
  // Lanes behind the last channel of an odd number must be 0.
  p.copied = thin || !v->x_bf16 || Cg % 2;
  for (int d = 0; d < 2; d++)
    p.copied |= v->pad[d] > 0
             || gs_blocked_reach(v->out[d], v->stride[d], v->kernel[d], v->dilation[d]) - v->pad[d] > v->in[d];
  // Whole blocks, the rows of their taps in one where these stand side by side; then the channels that are left.
  int64_t whole = v->plain_x ? 0 : Cg / GS_W, rest = v->plain_x ? Cg : Cg % GS_W, row_taps = merged ? v->kernel[1] : 1;
  p.count[0] = whole * (taps / row_taps);
  p.length[0] = row_taps * GS_W;
  int64_t together = rest && gs_round_up(rest, 2) == p.pixel ? row_taps : 1;
  p.count[1] = rest ? taps / together : 0;
  p.length[1] = together * gs_round_up(rest, 2);
  int64_t a_row = p.planes * p.pixel * gs_blocked_in_rows(v, 1);
  p.R = 1;
  p.Q = p.OW;
  if (a_row * gs_blocked_in_cols(v, p.OW) <= GS_BLOCKED_BF16_STRIP) {
    while (p.R < p.OH && p.planes * p.pixel * gs_blocked_in_rows(v, p.R + 1) * gs_blocked_in_cols(v, p.OW)
                             <= GS_BLOCKED_BF16_STRIP) p.R++;
  } else {
    int64_t fits = (GS_BLOCKED_BF16_STRIP / a_row - (v->kernel[1] - 1) * v->dilation[1] - 1) / v->stride[1] + 1;
    p.Q = gs_min_i64(p.OW, gs_max_i64(fits, 2 * GS_BLOCKED_MR) / GS_BLOCKED_MR * GS_BLOCKED_MR);
  }
  p.down = gs_ceil_div(p.OH, p.R);
  p.across = gs_ceil_div(p.OW, p.Q);
  p.R = gs_ceil_div(p.OH, p.down);
  p.Q = gs_ceil_div(p.OW, p.across);
  p.in_rows = gs_blocked_in_rows(v, p.R);
  p.in_cols = gs_blocked_in_cols(v, p.Q);
  return p;
}

GS_INLINE int64_t gs_blocked_bf16_strip(const GsBlockedPlan* p) {  // two numbers in a float
  return p->copied ? gs_round_up(p->planes * p->in_rows * p->in_cols * p->pixel / 2, 16) : 0;
}

// Floats of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_blocked_conv_bf16_scratch(const GsBlocked* v, int threads) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0) return 0;
  const GsBlocked seen = gs_blocked_bf16_seen(v);
  GsBlockedPlan p = gs_blocked_bf16_plan(&seen, gs_blocked_bf16_thin(v));
  return gs_blocked_tables(&p) + threads * gs_blocked_bf16_strip(&p);
}

// Places of a plain picture, channels side by side.
GS_LOCAL void gs_blocked_bf16_gather(const float* x, int64_t channels, int64_t plane, int64_t places, int32_t* to) {
  int64_t pairs = gs_ceil_div(channels, 2);
  for (int64_t q = 0; q < places; q += GS_W) {
    int64_t some = gs_min_i64(GS_W, places - q);
    int32_t both[2][GS_W];
    for (int64_t c = 0; c < pairs; c++) {
      const float* from = x + 2 * c * plane + q;
      gs_vf even = some == GS_W ? gs_load(from) : gs_load_n(from, some), odd = {0};
      if (2 * c + 1 < channels) odd = some == GS_W ? gs_load(from + plane) : gs_load_n(from + plane, some);
      *(gs_vi_u*)both[c % 2] = gs_bf16_pairs(even, odd);
      if (pairs != 2)
        for (int64_t i = 0; i < some; i++) to[(q + i) * pairs + c] = both[c % 2][i];
    }
    // Three or four channels, as pictures have them: both pairs at once.
    if (pairs == 2 && some == GS_W) {
      for (int i = 0; i < GS_W; i++) to[2 * (q + i)] = both[0][i], to[2 * (q + i) + 1] = both[1][i];
    } else if (pairs == 2) {
      for (int64_t i = 0; i < some; i++) to[2 * (q + i)] = both[0][i], to[2 * (q + i) + 1] = both[1][i];
    }
  }
}

// What the channels of a block are multiplied with before they are rounded; 0 where there is no channel.
typedef struct GsBlockedGate {
  gs_vf gate;
  gs_vi lanes;
  int plain;  // neither
} GsBlockedGate;

GS_INLINE GsBlockedGate gs_blocked_bf16_gate(const GsBlocked* v, int64_t n, int64_t block, int64_t held) {
  GsBlockedGate g = {.gate = gs_splat(1), .plain = !v->gate && held == GS_W};
  for (int i = 0; i < GS_W; i++) g.lanes[i] = i < held ? -1 : 0;
  if (v->gate) g.gate = gs_load(v->gate + (n * gs_blocked_count(v->C) + block) * GS_W);
  return g;
}
// A place of a block, rounded. What lanes without a channel hold must not be seen, NaN neither.
GS_INLINE void gs_blocked_bf16_place(const GsBlockedGate* g, const float* x, uint16_t* to) {
  gs_vf u = gs_load(x);
  gs_bf16_store(to, g->plain ? u : (gs_vf)((gs_vi)(u * g->gate) & g->lanes));
}

// The strip's input from (top, left) with zeros around the picture.
GS_LOCAL void gs_blocked_bf16_fill(const GsBlocked* v, const GsBlockedPlan* p, int64_t n, int64_t g, int64_t top,
                                   int64_t left, uint16_t* to) {
  int64_t first = gs_min_i64(gs_max_i64(-left, 0), p->in_cols);
  int64_t end = gs_max_i64(first, gs_min_i64(p->in_cols, p->W - left));
  int64_t Cg = v->C / v->group, places = v->in[0] * v->in[1];
  for (int64_t i = 0; i < p->planes; i++) {
    int64_t held = v->plain_x ? GS_W : gs_min_i64(GS_W, Cg - i * GS_W), block = g * p->planes + i;
    const GsBlockedGate gate = gs_blocked_bf16_gate(v, n, v->plain_x ? 0 : block, held);
    int64_t picture = (n * v->group * p->planes + block) * places;
    if (gs_blocked_bf16_thin(v)) {
      for (int64_t q = left; q < left + p->in_cols; q++, to += GS_W) {
        int64_t iy = (top + q / v->out[1]) * v->stride[0] - v->pad[0], ix = q % v->out[1] * v->stride[1] - v->pad[1];
        int64_t at = (picture + iy * v->in[1] + ix) * GS_W;
        if (iy < 0 || iy >= v->in[0] || ix < 0 || ix >= v->in[1]) memset(to, 0, GS_W * sizeof(uint16_t));
        else if (!v->x_bf16) gs_blocked_bf16_place(&gate, v->x + at, to);
        else
          for (int64_t c = 0; c < GS_W; c++) to[c] = c < held ? ((const uint16_t*)v->x)[at + c] : 0;
      }
      continue;
    }
    for (int64_t r = 0; r < p->in_rows; r++, to += p->row) {
      int64_t iy = top + r;
      if (iy < 0 || iy >= p->H) {
        memset(to, 0, (size_t)p->row * sizeof(uint16_t));
        continue;
      }
      memset(to, 0, (size_t)(first * p->pixel) * sizeof(uint16_t));
      memset(to + end * p->pixel, 0, (size_t)(p->row - end * p->pixel) * sizeof(uint16_t));
      int64_t from = iy * p->W + left + first;
      if (first == end) continue;
      if (v->plain_x) {
        gs_blocked_bf16_gather(v->x + n * v->C * places + from, v->C, places, end - first,
                               (int32_t*)(to + first * p->pixel));
      } else if (v->x_bf16) {
        memcpy(to + first * GS_W, (const uint16_t*)v->x + (picture + from) * GS_W,
               (size_t)((end - first) * GS_W) * sizeof(uint16_t));
        for (int64_t q = first; q < end && held < GS_W; q++)
          memset(to + q * GS_W + held, 0, (size_t)(GS_W - held) * sizeof(uint16_t));
      } else {
        const float* x = v->x + (picture + from) * GS_W;
        if (gate.plain)
          for (int64_t q = first; q < end; q++, x += GS_W) gs_bf16_store(to + q * GS_W, gs_load(x));
        else
          for (int64_t q = first; q < end; q++, x += GS_W) gs_blocked_bf16_place(&gate, x, to + q * GS_W);
      }
    }
  }
}

typedef struct GsBlockedBf16Job {
  const GsBlocked *v, *seen;
  GsBlockedPlan p;
  const int64_t *segments, *at;
  float* strips;
  int64_t strip_floats;
} GsBlockedBf16Job;

// Outputs that wait in L1 for their silu, which become y, from number `at` on, in bfloat16.
GS_NOINLINE void gs_blocked_bf16_silu(const GsBlocked* v, const float* made, int64_t at, int64_t count) {
  for (int64_t i = 0; i < count; i += GS_W) {
    gs_vf x = gs_load(made + i), z = x * gs_sigmoidv(x);
    gs_bf16_store((uint16_t*)v->y + at + i, v->residual ? z + gs_load(v->residual + at + i) : z);
  }
}

GS_LOCAL void gs_blocked_bf16_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedBf16Job* job = arg;
  const GsBlocked *v = job->v, *seen = job->seen;
  const GsBlockedPlan* p = &job->p;
  const gs_vf bounds[2] = {gs_blocked_low(v), gs_blocked_high(v)};
  int64_t strips = p->down * p->across, filled = -1, K = gs_blocked_bf16_K(v), size_of_y = v->y_bf16 ? 2 : 4;
  int64_t places = p->OH * p->OW, all_blocks = p->blocks * v->group;
  uint16_t* strip = (uint16_t*)(job->strips + thread * job->strip_floats);
  const int aside = v->y_bf16 && v->silu;
  float made[2 * (GS_BLOCKED_RUN + GS_BLOCKED_MR) * GS_W];
  const float* residual = v->silu ? 0 : v->residual;
  for (int64_t unit = begin; unit < end; unit++) {
    int64_t pair = unit % p->pairs, which = unit / p->pairs, image = which / strips;
    int64_t n = image / v->group, g = image % v->group, blocks = gs_min_i64(2, p->blocks - 2 * pair);
    int64_t r0 = which % strips / p->across * p->R, q0 = which % strips % p->across * p->Q;
    int64_t count = gs_min_i64(p->R, p->OH - r0) * gs_min_i64(p->Q, p->OW - q0);
    int64_t top = r0 * seen->stride[0] - seen->pad[0], left = q0 * seen->stride[1] - seen->pad[1];
    if (p->copied && which != filled) {
      gs_blocked_bf16_fill(v, p, n, g, top, left, strip);
      filled = which;
    }
    const uint16_t* x = strip;
    if (!p->copied)
      x = (const uint16_t*)v->x + (n * v->group + g) * p->planes * p->H * p->W * GS_W + top * p->row + left * GS_W;
    int64_t block = g * p->blocks + 2 * pair, first = r0 * p->OW + q0;
    const int64_t y0 = ((n * all_blocks + block) * places + first) * GS_W, step = places * GS_W;
    GsBlockedBf16Tile t = {.w = (const int32_t*)(gs_blocked_bf16_weights(v) + block * GS_W * K),
                           .bias = {gs_blocked_bias(v, block), blocks > 1 ? gs_blocked_bias(v, block + 1) : (gs_vf){0}},
                           .bounds = v->clamp ? bounds : 0, .segments = job->segments,
                           .count = {p->count[0], p->count[1]}, .length = {p->length[0] / 2, p->length[1] / 2},
                           .y_block = aside ? (GS_BLOCKED_RUN + GS_BLOCKED_MR) * GS_W : step,
                           .y_bf16 = v->y_bf16 && !aside};
    // Tiles of nearly equal size: two of ten go quicker than one of fourteen and one of six.
    int64_t tiles = gs_ceil_div(count, GS_BLOCKED_MR), size = count / tiles, larger = count % tiles, told = 0;
    for (int64_t i = 0, j = 0; i < tiles; i++) {
      int64_t held = size + (i < larger), at = y0 + j * GS_W;
      t.at = job->at + (p->R > 1 ? j : 0);
      t.x = (const int32_t*)(x + (p->R > 1 ? 0 : j * seen->stride[1] * p->pixel));
      t.y = aside ? (char*)(made + (j - told) * GS_W) : (char*)v->y + at * size_of_y;
      t.residual = residual ? residual + at : 0;
      for (int64_t b = 0; b < blocks; b++) {
        // What is written comes from afar too, and stores would wait for it one by one.
        gs_blocked_soon((const float*)((char*)v->y + (at + b * step) * size_of_y), held * GS_W * size_of_y / 4);
        if (v->residual) gs_blocked_soon(v->residual + at + b * step, held * GS_W);
      }
      gs_blocked_bf16_micros[blocks - 1][held - 1](&t);
      j += held;
      if ((v->silu || v->epilogue) && (j - told >= GS_BLOCKED_RUN || j == count)) {
        for (int64_t b = 0; b < blocks; b++) {
          float* run = v->y + y0 + b * step + told * GS_W;
          if (aside) gs_blocked_bf16_silu(v, made + b * t.y_block, y0 + b * step + told * GS_W, (j - told) * GS_W);
          else if (v->silu) gs_blocked_silu(v, run, (j - told) * GS_W);
          if (v->epilogue)
            v->epilogue(v->context, run, GS_W, n * all_blocks + block + b, first + told, 0, j - told, GS_W);
        }
        told = j;
      }
    }
  }
}

GS_LOCAL void gs_blocked_conv_bf16(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0 || v->N <= 0) return;
  int64_t KH = v->kernel[0], KW = v->kernel[1];
  double work = (double)v->N * (double)v->O * (double)(v->out[0] * v->out[1]) * (double)(v->C / v->group * KH * KW);
  // Waking the others takes microseconds: about what one core needs for this many multiplications.
  if (work < 120000.0 * GS_W) pool = 0;
  const GsBlocked seen = gs_blocked_bf16_seen(v);
  GsBlockedBf16Job job = {.v = v, .seen = &seen, .p = gs_blocked_bf16_plan(&seen, gs_blocked_bf16_thin(v))};
  GsBlockedPlan* p = &job.p;
  job.strip_floats = gs_blocked_bf16_strip(p);
  job.strips = v->scratch + gs_blocked_tables(p);
  gs_blocked_share(&seen, p, gs_pool_size(pool));
  int64_t *segments = (int64_t*)v->scratch, *at = segments + p->count[0] + p->count[1], s = 0;
  int64_t planes[2] = {v->plain_x ? 0 : v->C / v->group / GS_W, p->planes};
  for (int part = 0; part < 2; part++) {
    // Taps of a row that a segment takes: all of them, or one.
    int64_t step = p->count[part] && p->length[part] > p->pixel ? KW : 1;
    for (int64_t i = part ? planes[0] : 0; i < planes[part] && p->count[part]; i++)
      for (int64_t ky = 0; ky < KH; ky++)
        for (int64_t kx = 0; kx < KW; kx += step)
          segments[s++] = (i * p->plane + ky * v->dilation[0] * p->row + kx * v->dilation[1] * p->pixel) / 2;
  }
  for (int64_t r = 0, i = 0; r < p->R; r++)
    for (int64_t q = 0; q < gs_blocked_listed(p); q++, i++)
      at[i] = (r * seen.stride[0] * p->row + q * seen.stride[1] * p->pixel) / 2;
  job.segments = segments;
  job.at = at;
  gs_blocked_each_unit(p, v->N * v->group, pool, gs_blocked_bf16_task, &job);
}
