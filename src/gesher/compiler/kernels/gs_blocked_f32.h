// Convolutions over blocked channels: x (N, C / b rounded up, H, W, b) with channel c in lane c % b of block c / b, b =
// GS_W. y[n,o,p] = bias[o] + sum over c, k of w[o,c,k] * x[n, group's c, p * stride + k * dilation - pad].
//
// Lanes beyond the last channel hold anything, NaN too: sums never read them. Lanes that are written beyond the last
// output are initialised and mean nothing.
//
// How it runs. Tiles of places by two blocks of outputs are made in registers (gs_blocked_tile_f32.h). A strip of the
// picture stays in L2 while all outputs are made from it; where taps reach over the picture's edges, the strip is a
// copy with the zeros around it.
//
// w packed, a group after the other: pairs of blocks [K][2b], the last block of an odd number [K][b], where K runs over
// [C / b][tap][c in the block]; with plain_x over [C][tap]. kernels/blocked_packing.py makes it.
//
// With a gate, each image has weights of its own, w[o,c,k] * gate[n,c]: that is cheaper than to gate the picture where
// this has more places than there are outputs.

#include "gs_blocked_tile_f32.h"
#include "gs_gemm_f32.h"
#include "gs_math.h"

typedef struct GsBlocked {
  int64_t N, C, O, group;  // real channels over all groups; more than one group: C / group, O / group multiples of b
  int64_t in[2], out[2], kernel[2], stride[2], dilation[2];
  int64_t pad[2];          // at the beginning, may be negative; the padding at the end follows from `out`
  const float* x;          // blocked
  int plain_x;             // x is (N,C,H,W) instead, as a model's input is; then C / group may be any
  const float* w;          // packed
  const float* bias;       // filled up to whole blocks, or NULL
  const float* bias_too;   // a second one: a residual often brings its own; with `bias` only
  int clamp;               // outputs are then kept between low and high (NaN stays NaN)
  float low, high;
  int silu;                // outputs t become t / (1 + e^-t) instead
  const float* residual;   // of y's form, or NULL: added before outputs are clamped, or after their silu
  const float* gate;       // (N, C / b rounded up, b), or NULL: what x is multiplied by; of the direct way alone
  float* y;                // (N, O / b rounded up, OH, OW, b)
  int tile;                // Winograd: outputs on a tile's side, 2 or 4
  int x_bf16, y_bf16;      // whether x and y are bfloat16 in memory: of the kernels of bfloat16 alone, without a gate
  // With each finished run of places: batch = n * blocks + block, m = the first place in the picture, rows = places,
  // n = 0, cols = ldc = b.
  GsTileFn epilogue;
  void* context;
  float* scratch;          // as many floats as the kernel's _scratch says, 64-byte aligned
} GsBlocked;

// Between which numbers outputs are kept.
GS_INLINE gs_vf gs_blocked_low(const GsBlocked* v) { return gs_splat(v->clamp ? v->low : -__builtin_inff()); }
GS_INLINE gs_vf gs_blocked_high(const GsBlocked* v) { return gs_splat(v->clamp ? v->high : __builtin_inff()); }
GS_INLINE float gs_blocked_clamped_one(const GsBlocked* v, float x) {
  return !v->clamp ? x : x < v->low ? v->low : x > v->high ? v->high : x;
}

// What the sums of a block begin with, and that of one output.
GS_INLINE gs_vf gs_blocked_bias(const GsBlocked* v, int64_t block) {
  gs_vf bias = v->bias ? gs_load(v->bias + block * GS_W) : (gs_vf){0};
  return v->bias_too ? bias + gs_load(v->bias_too + block * GS_W) : bias;
}
GS_INLINE double gs_blocked_bias_one(const GsBlocked* v, int64_t o) {
  return (v->bias ? (double)v->bias[o] : 0) + (v->bias_too ? (double)v->bias_too[o] : 0);
}

// What becomes of a sum that is to be output i of y.
GS_INLINE float gs_blocked_done_one(const GsBlocked* v, float x, int64_t i) {
  float residual = v->residual ? v->residual[i] : 0;
  return v->silu ? x * gs_sigmoidf(x) + residual : gs_blocked_clamped_one(v, x + residual);
}

// The silu of outputs that are finished but for it, while they are in L1.
GS_NOINLINE void gs_blocked_silu(const GsBlocked* v, float* y, int64_t floats) {
  const float* residual = v->residual ? v->residual + (y - v->y) : 0;
  for (int64_t i = 0; i < floats; i += GS_W) {
    gs_vf x = gs_load(y + i), z = x * gs_sigmoidv(x);
    gs_store(y + i, residual ? z + gs_load(residual + i) : z);
  }
}

// All of some memory will be wanted soon.
GS_INLINE void gs_blocked_soon(const float* from, int64_t floats) {
  for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(from + i);
}

GS_INLINE int64_t gs_blocked_count(int64_t channels) { return gs_ceil_div(channels, GS_W); }

// Where x's channel c of image n begins, and how many floats a place takes there.
GS_INLINE const float* gs_blocked_channel(const GsBlocked* v, int64_t n, int64_t c) {
  int64_t places = v->in[0] * v->in[1];
  if (v->plain_x) return v->x + (n * v->C + c) * places;
  return v->x + (n * gs_blocked_count(v->C) + c / GS_W) * places * GS_W + c % GS_W;
}

// The weight of output o (of all), input c (within its group) and tap, of `taps`.
GS_INLINE float gs_blocked_weight(const GsBlocked* v, int64_t o, int64_t c, int64_t tap, int64_t taps) {
  int64_t Cg = v->C / v->group, Og = v->O / v->group, g = o / Og, blocks = gs_blocked_count(Og), K = Cg * taps;
  int64_t block = o % Og / GS_W, paired = (block ^ 1) < blocks, width = paired ? 2 * GS_W : GS_W;
  int64_t first = c / GS_W * GS_W, held = gs_min_i64(GS_W, Cg - first);
  int64_t k = v->plain_x ? c * taps + tap : first * taps + tap * held + c % GS_W;
  return v->w[(g * blocks + block / 2 * 2) * GS_W * K + k * width + (paired ? block % 2 * GS_W : 0) + o % Og % GS_W];
}

GS_LOCAL void gs_blocked_conv_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
  int64_t places = v->out[0] * v->out[1], taps = v->kernel[0] * v->kernel[1], blocks = gs_blocked_count(v->O);
  int64_t Cg = v->C / v->group, Og = v->O / v->group, pixel = v->plain_x ? 1 : GS_W;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = i / blocks, block = i % blocks;
    float* y = v->y + i * places * GS_W;
    for (int64_t p = 0; p < places; p++)
      for (int64_t lane = 0; lane < GS_W; lane++) {
        int64_t o = block * GS_W + lane;
        double sum = o < v->O ? gs_blocked_bias_one(v, o) : 0;
        for (int64_t tap = 0; tap < taps && o < v->O; tap++) {
          int64_t iy = p / v->out[1] * v->stride[0] + tap / v->kernel[1] * v->dilation[0] - v->pad[0];
          int64_t ix = p % v->out[1] * v->stride[1] + tap % v->kernel[1] * v->dilation[1] - v->pad[1];
          if (iy < 0 || iy >= v->in[0] || ix < 0 || ix >= v->in[1]) continue;
          for (int64_t c = 0; c < Cg; c++)
            sum += (double)gs_blocked_channel(v, n, o / Og * Cg + c)[(iy * v->in[1] + ix) * pixel]
                 * (v->gate ? (double)v->gate[n * gs_round_up(v->C, GS_W) + c] : 1)
                 * (double)gs_blocked_weight(v, o, c, tap, taps);
        }
        y[p * GS_W + lane] = gs_blocked_done_one(v, (float)sum, (i * places + p) * GS_W + lane);
      }
    if (v->epilogue) v->epilogue(v->context, y, GS_W, i, 0, 0, places, GS_W);
  }
}

GS_LOCAL void gs_blocked_conv_f32_plain(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] > 0 && v->out[1] > 0) gs_parallel_for(pool, v->N * gs_blocked_count(v->O), gs_blocked_conv_plain_task,
                                                      (void*)v);
}

// ---- any convolution, directly

// Floats of a strip that stays in L2 while all outputs are made from it.
#ifndef GS_BLOCKED_STRIP
#define GS_BLOCKED_STRIP (64 * 1024)
#endif
// An epilogue is called with about so many places at a time: few calls, and y still in L1.
#define GS_BLOCKED_RUN 56

// How a convolution is cut. Strips are R rows of Q columns of outputs, and either all columns or one row.
typedef struct GsBlockedPlan {
  int64_t H, W, OH, OW;       // a convolution of single places is one of a single row
  int64_t pixel, planes;      // floats a place, and pictures (blocks, or channels of a plain x) a group
  int64_t row, plane;         // floats from row to row, picture to picture where the taps read
  int64_t R, Q, down, across, pairs, blocks;  // pairs and blocks of outputs of a group
  int64_t in_rows, in_cols;   // of a strip
  int64_t count[2], length[2];
  int copied;
} GsBlockedPlan;

GS_INLINE int64_t gs_blocked_reach(int64_t outputs, int64_t stride, int64_t kernel, int64_t dilation) {
  return (outputs - 1) * stride + (kernel - 1) * dilation + 1;
}

GS_INLINE int64_t gs_blocked_in_rows(const GsBlocked* v, int64_t R) {
  return gs_blocked_reach(R, v->stride[0], v->kernel[0], v->dilation[0]);
}
GS_INLINE int64_t gs_blocked_in_cols(const GsBlocked* v, int64_t Q) {
  return gs_blocked_reach(Q, v->stride[1], v->kernel[1], v->dilation[1]);
}

// Floats of input that R rows of Q columns of outputs see: strides may leave some of it out.
GS_INLINE int64_t gs_blocked_seen(const GsBlocked* v, const GsBlockedPlan* p, int64_t R, int64_t Q) {
  int64_t rows = gs_blocked_in_rows(v, R), cols = gs_blocked_in_cols(v, Q);
  if (!p->copied) rows = gs_min_i64(rows, R * v->kernel[0]), cols = gs_min_i64(cols, Q * v->kernel[1]);
  return p->planes * p->pixel * rows * cols;
}

// The strips that fit; how they are cut further for threads makes them smaller only, so the scratch holds those too.
GS_LOCAL GsBlockedPlan gs_blocked_plan(const GsBlocked* v) {
  GsBlockedPlan p = {.H = v->in[0], .W = v->in[1], .OH = v->out[0], .OW = v->out[1]};
  int64_t Cg = v->C / v->group, taps = v->kernel[0] * v->kernel[1], merged = v->dilation[1] == 1 || v->kernel[1] == 1;
  p.blocks = gs_blocked_count(v->O / v->group);
  p.pairs = gs_ceil_div(p.blocks, 2);
  p.pixel = v->plain_x ? 1 : GS_W;
  p.planes = v->plain_x ? Cg : gs_blocked_count(Cg);
  if (taps == 1 && v->stride[0] == 1 && v->stride[1] == 1 && !v->pad[0] && !v->pad[1] && p.OH == p.H && p.OW == p.W) {
    p.OW *= p.OH;
    p.W *= p.H;
    p.OH = p.H = 1;
  }
  for (int d = 0; d < 2; d++)
    p.copied |= v->pad[d] > 0
             || gs_blocked_reach(v->out[d], v->stride[d], v->kernel[d], v->dilation[d]) - v->pad[d] > v->in[d];
  // A row of one tap's channels, or of all taps' where these stand side by side.
  int64_t whole = v->plain_x ? Cg : Cg / GS_W, rest = v->plain_x ? 0 : Cg % GS_W, row_taps = merged ? v->kernel[1] : 1;
  p.count[0] = whole * (taps / row_taps);
  p.length[0] = row_taps * p.pixel;
  p.count[1] = rest ? taps : 0;
  p.length[1] = rest;
  p.R = 1;
  p.Q = p.OW;
  if (gs_blocked_seen(v, &p, 1, p.OW) <= GS_BLOCKED_STRIP) {
    while (p.R < p.OH && gs_blocked_seen(v, &p, p.R + 1, p.OW) <= GS_BLOCKED_STRIP) p.R++;
  } else {
    int64_t fits = GS_BLOCKED_STRIP / gs_blocked_seen(v, &p, 1, 1);
    while (fits > 2 * GS_BLOCKED_MR && gs_blocked_seen(v, &p, 1, fits) > GS_BLOCKED_STRIP) fits -= GS_BLOCKED_MR;
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

// What a block of outputs costs of strip `which` of a picture, counted in places: a tile costs more than its own.
GS_INLINE int64_t gs_blocked_cost(const GsBlockedPlan* p, int64_t which) {
  int64_t r0 = which / p->across * p->R, q0 = which % p->across * p->Q;
  return gs_min_i64(p->R, p->OH - r0) * gs_min_i64(p->Q, p->OW - q0) + GS_BLOCKED_MR / 2;
}
GS_INLINE int64_t gs_blocked_image_cost(const GsBlockedPlan* p) {
  int64_t cost = 0;
  for (int64_t i = 0; i < p->down * p->across; i++) cost += gs_blocked_cost(p, i);
  return cost * p->blocks;
}

// The unit that the part `part` of `parts` begins with, nearly equal in cost: the last strip of a picture is smaller,
// and so is the last of an odd number of blocks. *before: what the units before it cost.
GS_LOCAL int64_t gs_blocked_first_unit(const GsBlockedPlan* p, int64_t images, int64_t part, int64_t parts,
                                       int64_t* before) {
  int64_t strips = p->down * p->across, whole = gs_blocked_image_cost(p);
  int64_t target = (int64_t)((double)(images * whole) * (double)part / (double)parts), image = target / whole, i = 0;
  int64_t left = target - image * whole, unit = image * strips * p->pairs;
  *before = image * whole;
  if (image == images) return unit;
  for (int64_t cost; i < strips && (cost = gs_blocked_cost(p, i) * p->blocks) <= left; i++)
    left -= cost, *before += cost, unit += p->pairs;
  int64_t a_pair = i < strips ? 2 * gs_blocked_cost(p, i) : 1, more = (left + a_pair / 2) / a_pair;
  *before += gs_min_i64(2 * more, p->blocks) * (a_pair / 2);
  return unit + gs_min_i64(more, p->pairs);
}

// Cut smaller where that shares the work of few strips better.
GS_LOCAL void gs_blocked_share(const GsBlocked* v, GsBlockedPlan* p, int threads) {
  int64_t images = v->N * v->group, rows = p->OH > 1 && p->across == 1, size = rows ? p->OH : p->OW;
  int64_t parts = rows ? p->down : p->across, best = parts, least = 0;
  for (int64_t i = parts; i <= parts + 2 * threads && i <= size && threads > 1; i++) {
    GsBlockedPlan tried = *p;
    if (rows) tried.R = gs_ceil_div(size, i), tried.down = gs_ceil_div(size, tried.R);
    else tried.Q = gs_ceil_div(size, i), tried.across = gs_ceil_div(size, tried.Q);
    int64_t most = 0, begin = 0, end;
    for (int part = 1; part <= threads; part++, begin = end) {
      gs_blocked_first_unit(&tried, images, part, threads, &end);
      most = gs_max_i64(most, end - begin);
    }
    if (i == parts || (double)most < 0.97 * (double)least) least = most, best = i;
    if (images * tried.down * tried.across * p->pairs >= 32 * threads) break;
  }
  if (rows) p->R = gs_ceil_div(size, best), p->down = gs_ceil_div(size, p->R);
  else p->Q = gs_ceil_div(size, best), p->across = gs_ceil_div(size, p->Q);
  p->in_rows = gs_blocked_in_rows(v, p->R);
  p->in_cols = gs_blocked_in_cols(v, p->Q);
  p->row = (p->copied ? p->in_cols : p->W) * p->pixel;
  p->plane = (p->copied ? p->in_rows : p->H) * p->row;
}

GS_INLINE int64_t gs_blocked_strip(const GsBlockedPlan* p) {
  return p->copied ? gs_round_up(p->planes * p->in_rows * p->in_cols * p->pixel, 16) : 0;
}
// Columns in the table of places: of a single row the first tile's, which serve all its tiles.
GS_INLINE int64_t gs_blocked_listed(const GsBlockedPlan* p) {
  return p->R == 1 ? gs_min_i64(p->Q, GS_BLOCKED_MR) : p->Q;
}
GS_INLINE int64_t gs_blocked_tables(const GsBlockedPlan* p) {  // two floats hold an int64_t
  return gs_round_up(2 * (p->count[0] + p->count[1] + p->R * gs_max_i64(p->Q, GS_BLOCKED_MR)), 16);
}

// Floats of the weights of one image.
GS_INLINE int64_t gs_blocked_gated(const GsBlocked* v) {
  return v->gate ? gs_round_up(gs_blocked_count(v->O) * GS_W * v->C * v->kernel[0] * v->kernel[1], 16) : 0;
}

// Floats of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_blocked_conv_f32_scratch(const GsBlocked* v, int threads) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0) return 0;
  GsBlockedPlan p = gs_blocked_plan(v);
  return gs_blocked_tables(&p) + threads * gs_blocked_strip(&p) + gs_blocked_gated(v);
}

// Units shared by cost: `task` runs with units of `images`.
typedef struct GsBlockedShares {
  const GsBlockedPlan* p;
  int64_t images, parts;
  GsRangeFn task;
  void* arg;
} GsBlockedShares;

GS_LOCAL void gs_blocked_shares_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedShares* s = arg;
  int64_t before, first = gs_blocked_first_unit(s->p, s->images, begin, s->parts, &before);
  int64_t last = gs_blocked_first_unit(s->p, s->images, end, s->parts, &before);
  if (first < last) s->task(s->arg, first, last, thread);
}

GS_INLINE void gs_blocked_each_unit(const GsBlockedPlan* p, int64_t images, GsPool* pool, GsRangeFn task, void* arg) {
  GsBlockedShares shares = {p, images, gs_pool_size(pool), task, arg};
  gs_parallel_for(pool, shares.parts, gs_blocked_shares_task, &shares);
}

typedef struct GsBlockedJob {
  const GsBlocked* v;
  GsBlockedPlan p;
  const int64_t *segments, *at;
  float* strips;
  int64_t strip_floats, first;  // the unit that a run begins with
  const float* w;
  float* gated;                 // weights of the image that is being made
} GsBlockedJob;

// Few zeros, mostly: no call for these.
GS_INLINE void gs_blocked_zeros(float* to, int64_t count) {
  if (count > 4 * GS_W) memset(to, 0, (size_t)count * sizeof(float));
  else
    for (; count > 0; to += GS_W, count -= GS_W) gs_store_n(to, (gs_vf){0}, gs_min_i64(count, GS_W));
}

// The strip's input from (top, left) with zeros around the picture; x is the group's first picture.
GS_LOCAL void gs_blocked_fill(const GsBlockedPlan* p, const float* x, int64_t top, int64_t left, float* to) {
  int64_t first = gs_min_i64(gs_max_i64(-left, 0), p->in_cols);
  int64_t end = gs_max_i64(first, gs_min_i64(p->in_cols, p->W - left));
  first *= p->pixel;
  end *= p->pixel;
  for (int64_t i = 0; i < p->planes; i++)
    for (int64_t r = 0; r < p->in_rows; r++, to += p->row) {
      int64_t iy = top + r;
      if (iy < 0 || iy >= p->H) {
        memset(to, 0, (size_t)p->row * sizeof(float));
        continue;
      }
      const float* from = x + ((i * p->H + iy) * p->W + left) * p->pixel;
      gs_blocked_zeros(to, first);
      if (first < end) memcpy(to + first, from + first, (size_t)(end - first) * sizeof(float));
      gs_blocked_zeros(to + end, p->row - end);
    }
}

typedef void (*GsBlockedMicro)(const GsBlockedTile*);

// The units [begin, end) of a run, by tiles of `most` places; `micros` makes those of 1, 2, .. places, NULL for
// gs_blocked_micros.
GS_INLINE void gs_blocked_units(const GsBlockedJob* job, int64_t begin, int64_t end, int thread, int64_t most,
                                const GsBlockedMicro* micros) {
  const GsBlocked* v = job->v;
  const GsBlockedPlan* p = &job->p;
  int64_t strips = p->down * p->across, filled = -1, K = v->C / v->group * v->kernel[0] * v->kernel[1];
  int64_t places = p->OH * p->OW, all_blocks = p->blocks * v->group;
  float* strip = job->strips + thread * job->strip_floats;
  begin += job->first;
  end += job->first;
  for (int64_t unit = begin; unit < end; unit++) {
    int64_t pair = unit % p->pairs, which = unit / p->pairs, image = which / strips;
    int64_t n = image / v->group, g = image % v->group, blocks = gs_min_i64(2, p->blocks - 2 * pair);
    int half = 2 * pair + blocks == p->blocks && gs_blocked_halved(v->O / v->group);
    int64_t r0 = which % strips / p->across * p->R, q0 = which % strips % p->across * p->Q;
    int64_t count = gs_min_i64(p->R, p->OH - r0) * gs_min_i64(p->Q, p->OW - q0);
    int64_t top = r0 * v->stride[0] - v->pad[0], left = q0 * v->stride[1] - v->pad[1];
    const float* x = v->x + (n * p->planes * v->group + g * p->planes) * p->H * p->W * p->pixel;
    if (p->copied && which != filled) {
      gs_blocked_fill(p, x, top, left, strip);
      filled = which;
    }
    int64_t block = g * p->blocks + 2 * pair, first = r0 * p->OW + q0;
    float* y = v->y + ((n * all_blocks + block) * places + first) * GS_W;
    x = p->copied ? strip : x + top * p->row + left * p->pixel;
    const gs_vf bounds[2] = {gs_blocked_low(v), gs_blocked_high(v)};
    const float* residual = v->silu ? 0 : v->residual;
    GsBlockedTile t = {.w = job->w + block * GS_W * K,
                       .bias = {gs_blocked_bias(v, block), blocks > 1 ? gs_blocked_bias(v, block + 1) : (gs_vf){0}},
                       .bounds = v->clamp ? bounds : 0, .segments = job->segments,
                       .count = {p->count[0], p->count[1]}, .length = {p->length[0], p->length[1]},
                       .y_block = places * GS_W};
    // Tiles of nearly equal size: two of ten go quicker than one of fourteen and one of six.
    int64_t tiles = gs_ceil_div(count, most), size = count / tiles, larger = count % tiles, told = 0;
    // The last two ask for the weights of the next pair, which follow these: the stream from memory then never rests.
    int64_t soon = unit + 1 < end && pair + 1 < p->pairs ? tiles - 2 : tiles;
    for (int64_t i = 0, j = 0; i < tiles; i++) {
      int64_t held = size + (i < larger);
      t.at = job->at + (p->R > 1 ? j : 0);
      t.x = x + (p->R > 1 ? 0 : j * v->stride[1] * p->pixel);
      t.y = y + j * GS_W;
      t.residual = residual ? residual + (t.y - v->y) : 0;
      t.ahead = i < soon ? t.w : t.w + (blocks * GS_W + (i > soon && i > 0 ? 16 : 0)) * K;
      t.ahead_step = i < soon ? 0 : 16;
      for (int64_t b = 0; b < blocks; b++) {
        // What is written comes from afar too, and stores would wait for it one by one.
        gs_blocked_soon(t.y + b * t.y_block, held * GS_W);
        if (v->residual) gs_blocked_soon(v->residual + (t.y - v->y) + b * t.y_block, held * GS_W);
      }
      (micros ? micros : gs_blocked_micros[half][blocks - 1])[held - 1](&t);
      j += held;
      if ((v->silu || v->epilogue) && (j - told >= GS_BLOCKED_RUN || j == count)) {
        for (int64_t b = 0; b < blocks; b++) {
          float* run = y + (b * places + told) * GS_W;
          if (v->silu) gs_blocked_silu(v, run, (j - told) * GS_W);
          if (v->epilogue)
            v->epilogue(v->context, run, GS_W, n * all_blocks + block + b, first + told, 0, j - told, GS_W);
        }
        told = j;
      }
    }
  }
}

GS_LOCAL void gs_blocked_conv_task(void* arg, int64_t begin, int64_t end, int thread) {
  gs_blocked_units(arg, begin, end, thread, GS_BLOCKED_MR, 0);
}

// The weights of blocks of outputs times the gate of the image that begins with the unit `first`.
GS_LOCAL void gs_blocked_gate_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedJob* job = arg;
  const GsBlocked* v = job->v;
  (void)thread;
  int64_t taps = v->kernel[0] * v->kernel[1], K = v->C * taps;
  int64_t n = job->first / (job->p.down * job->p.across * job->p.pairs);
  const float* gate = v->gate + n * gs_round_up(v->C, GS_W);
  for (int64_t block = begin; block < end; block++) {
    // A pair's rows are of two blocks, the last of an odd number has rows of its own.
    int64_t width = (block ^ 1) < job->p.blocks ? 2 * GS_W : GS_W;
    int64_t at = block / 2 * 2 * GS_W * K + (width > GS_W ? block % 2 * GS_W : 0);
    for (int64_t c0 = 0; c0 < v->C; c0 += GS_W)
      for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t c = c0; c < gs_min_i64(c0 + GS_W, v->C); c++, at += width)
          gs_store(job->gated + at, gate[c] * gs_load(v->w + at));
  }
}

GS_INLINE void gs_blocked_conv_by(const GsBlocked* v, GsPool* pool, void (*task)(void*, int64_t, int64_t, int)) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0 || v->N <= 0) return;
  int64_t KH = v->kernel[0], KW = v->kernel[1];
  double work = (double)v->N * (double)v->O * (double)(v->out[0] * v->out[1]) * (double)(v->C / v->group * KH * KW);
  // Waking the others takes microseconds: about what one core needs for this many multiplications.
  if (work < 25000.0 * GS_W) pool = 0;
  GsBlockedJob job = {.v = v, .p = gs_blocked_plan(v)};
  GsBlockedPlan* p = &job.p;
  job.strip_floats = gs_blocked_strip(p);
  job.strips = v->scratch + gs_blocked_tables(p);
  gs_blocked_share(v, p, gs_pool_size(pool));
  int64_t *segments = (int64_t*)v->scratch, *at = segments + p->count[0] + p->count[1], s = 0;
  int64_t whole = v->plain_x ? v->C / v->group : v->C / v->group / GS_W;
  for (int64_t i = 0; i < p->planes; i++)
    for (int64_t ky = 0; ky < KH; ky++)
      for (int64_t kx = 0; kx < KW; kx += i < whole ? p->length[0] / p->pixel : 1)
        segments[s++] = i * p->plane + ky * v->dilation[0] * p->row + kx * v->dilation[1] * p->pixel;
  for (int64_t r = 0, i = 0; r < p->R; r++)
    for (int64_t q = 0; q < gs_blocked_listed(p); q++, i++)
      at[i] = r * v->stride[0] * p->row + q * v->stride[1] * p->pixel;
  job.segments = segments;
  job.at = at;
  job.w = v->w;
  if (!v->gate) {
    gs_blocked_each_unit(p, v->N * v->group, pool, task, &job);
    return;
  }
  job.gated = job.strips + gs_pool_size(pool) * job.strip_floats;
  job.w = job.gated;
  for (int64_t n = 0; n < v->N; n++) {
    job.first = n * v->group * p->down * p->across * p->pairs;
    gs_parallel_for(pool, p->blocks, gs_blocked_gate_task, &job);
    gs_blocked_each_unit(p, v->group, pool, task, &job);
  }
}

GS_LOCAL void gs_blocked_conv_f32(const GsBlocked* v, GsPool* pool) {
  gs_blocked_conv_by(v, pool, gs_blocked_conv_task);
}
