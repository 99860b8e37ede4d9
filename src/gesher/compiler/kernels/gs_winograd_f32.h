// Convolutions of 3 x 3 taps over blocked channels with fewer multiplications: Winograd's F(m x m, 3 x 3) for stride 1,
// and for stride 2 the same of its four phases.
//
// A tile of m x m outputs comes from n x n inputs. Both are looked at as values of polynomials at s points in each
// direction: Y = A' [sum over c of (G w G') * (B' x B)] A, element by element in the brackets. With stride 1, n = s =
// m + 2, and s * s products stand for 9 m * m: 36 for 144 with m = 4, 16 for 36 with m = 2. G w G' is made when the
// weights are packed (blocked_packing.py).
//
// With stride 2 (m = 4, n = 9) the inputs of even number meet the taps 0 and 2, those of odd number tap 1. Both are
// convolutions of stride 1 of at most two taps, so s = 5, and their products are summed before they are transformed
// back; odd inputs give nothing at infinity. 81 products stand for 144.
//
// The points of m = 4 are 0, -+sqrt(1/2), -+sqrt(2) and infinity: the usual 0, -+1, -+2 give twice the error and cost
// the same. Those of m = 2 are 0, -+1 and infinity, those of stride 2 -+1/2, -+3/2 and infinity.
//
// How it runs. A block of tiles that fits L2 is transformed, all channels; then for a pair of output blocks and each of
// the s * s values a matrix product with tiles for places, by the tile in registers of gs_blocked_f32.h; then these are
// transformed back. So each weight is read once a block of tiles. With few tiles, threads share the transformed input
// and take different outputs, else each has its own tiles.
//
// V, what comes of the input, has n * n planes; those that go into one value follow each other: all four phases into
// one of finite points, two where one point is infinity, one where both are.
//
// w packed: pairs of output blocks [value][K][2b], the last of an odd number [value][K][b]. K runs over the value's
// planes and in each over the channels of whole blocks, then over the planes and in each over the channels left.
// `tile` is m. dilation, kernel and group mean nothing here; both strides are the same.

#include "gs_ahead.h"
#include "gs_blocked_f32.h"

// What is known when a function is made for one `step`, the inputs from a tile to the next: 2 or 4, or 8 with stride 2.
GS_INLINE int gs_winograd_step(const GsBlocked* v) { return (int)(v->tile * v->stride[0]); }
GS_INLINE int gs_winograd_m(int step) { return step == 2 ? 2 : 4; }
GS_INLINE int gs_winograd_n(int step) { return step == 8 ? 9 : step + 2; }
GS_INLINE int gs_winograd_s(int step) { return step == 8 ? 5 : step + 2; }

// How many planes go into value k, and which is the first.
GS_INLINE int gs_winograd_phases(int step, int k) {
  return step == 8 ? (k / 5 < 4 ? 2 : 1) * (k % 5 < 4 ? 2 : 1) : 1;
}
GS_INLINE int gs_winograd_first(int step, int k) { return step == 8 ? k / 5 * 18 + k % 5 * (k / 5 < 4 ? 4 : 2) : k; }
// The value that the transformed inputs i down and j across go into, and their plane. Of nine the first five are of
// even inputs, the others of odd ones.
GS_INLINE int gs_winograd_value(int step, int i, int j) {
  return step == 8 ? i % 5 * 5 + j % 5 : i * gs_winograd_s(step) + j;
}
GS_INLINE int gs_winograd_plane(int step, int i, int j) {
  int k = gs_winograd_value(step, i, j);
  return gs_winograd_first(step, k) + (step == 8 ? (i >= 5) * (k % 5 < 4 ? 2 : 1) + (j >= 5) : 0);
}

// The row of packed weights that channel c's transformed input i down and j across meets.
GS_INLINE int64_t gs_winograd_row(int step, int i, int j, int64_t c, int64_t C) {
  int k = gs_winograd_value(step, i, j), first = gs_winograd_first(step, k);
  int64_t whole = C / GS_W * GS_W, rest = C - whole;
  int64_t phases = gs_winograd_phases(step, k), phase = gs_winograd_plane(step, i, j) - first;
  return first * C + (c < whole ? phase * whole + c : phases * whole + phase * rest + c - whole);
}

// The transformations' rows, for the plain version.
static const float gs_winograd_b2[4][4] __attribute__((unused)) = {
  {-1, 0, 1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
static const float gs_winograd_a2[2][4] __attribute__((unused)) = {{1, 1, 1, 0}, {0, 1, -1, 1}};
static const float gs_winograd_b4[6][6] __attribute__((unused)) = {
  {1, 0, -2.5f, 0, 1, 0},
  {0, -1.41421356f, -2, 0.70710678f, 1, 0}, {0, 1.41421356f, -2, -0.70710678f, 1, 0},
  {0, -0.70710678f, -0.5f, 1.41421356f, 1, 0}, {0, 0.70710678f, -0.5f, -1.41421356f, 1, 0},
  {0, 1, 0, -2.5f, 0, 1}};
static const float gs_winograd_a4[4][6] __attribute__((unused)) = {
  {1, 1, 1, 1, 1, 0}, {0, 0.70710678f, -0.70710678f, 1.41421356f, -1.41421356f, 0}, {0, 0.5f, 0.5f, 2, 2, 0},
  {0, 0.35355339f, -0.35355339f, 2.82842712f, -2.82842712f, 1}};
static const float gs_winograd_b8[9][9] __attribute__((unused)) = {
  {-1.125f, 0, -2.25f, 0, 0.5f, 0, 1, 0, 0}, {1.125f, 0, -2.25f, 0, -0.5f, 0, 1, 0, 0},
  {-0.375f, 0, -0.25f, 0, 1.5f, 0, 1, 0, 0}, {0.375f, 0, -0.25f, 0, -1.5f, 0, 1, 0, 0},
  {0.5625f, 0, 0, 0, -2.5f, 0, 0, 0, 1},
  {0, -1.125f, 0, -2.25f, 0, 0.5f, 0, 1, 0}, {0, 1.125f, 0, -2.25f, 0, -0.5f, 0, 1, 0},
  {0, -0.375f, 0, -0.25f, 0, 1.5f, 0, 1, 0}, {0, 0.375f, 0, -0.25f, 0, -1.5f, 0, 1, 0}};
static const float gs_winograd_a8[4][5] __attribute__((unused)) = {
  {1, 1, 1, 1, 0}, {0.5f, -0.5f, 1.5f, -1.5f, 0}, {0.25f, 0.25f, 2.25f, 2.25f, 0},
  {0.125f, -0.125f, 3.375f, -3.375f, 1}};

GS_LOCAL void gs_winograd_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlocked* v = arg;
  (void)thread;
  int step = gs_winograd_step(v), m = gs_winograd_m(step), n = gs_winograd_n(step), s = gs_winograd_s(step);
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], C = v->C;
  int64_t blocks = gs_blocked_count(v->O);
  const float* b = step == 8 ? gs_winograd_b8[0] : step == 4 ? gs_winograd_b4[0] : gs_winograd_b2[0];
  const float* a = step == 8 ? gs_winograd_a8[0] : step == 4 ? gs_winograd_a4[0] : gs_winograd_a2[0];
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / blocks, block = i % blocks, paired = (block ^ 1) < blocks, width = paired ? 2 * GS_W : GS_W;
    const float* w = v->w + block / 2 * 2 * GS_W * C * n * n + (paired ? block % 2 * GS_W : 0);
    float* y = v->y + i * OH * OW * GS_W;
    for (int64_t oy = 0; oy < OH; oy += m)
      for (int64_t ox = 0; ox < OW; ox += m)
        for (int64_t lane = 0; lane < GS_W; lane++) {
          double sum[36] = {0};
          for (int64_t c = 0; c < C; c++)
            for (int j = 0; j < n * n; j++) {
              double value = 0;
              for (int64_t t = 0; t < n * n; t++) {
                int64_t iy = oy * v->stride[0] + t / n - v->pad[0], ix = ox * v->stride[1] + t % n - v->pad[1];
                if (iy >= 0 && iy < H && ix >= 0 && ix < W)
                  value += (double)b[j / n * n + t / n] * (double)b[j % n * n + t % n]
                         * (double)gs_blocked_channel(v, image, c)[(iy * W + ix) * GS_W];
              }
              sum[gs_winograd_value(step, j / n, j % n)] +=
                value * (double)w[gs_winograd_row(step, j / n, j % n, c, C) * width + lane];
            }
          for (int64_t j = 0; j < m * m; j++) {
            double value = gs_blocked_bias_one(v, block * GS_W + lane);
            for (int64_t k = 0; k < s * s; k++)
              value += (double)a[j / m * s + k / s] * (double)a[j % m * s + k % s] * sum[k];
            int64_t at = ((oy + j / m) * OW + ox + j % m) * GS_W + lane;
            if (oy + j / m < OH && ox + j % m < OW) y[at] = gs_blocked_done_one(v, (float)value, y + at - v->y);
          }
        }
    if (v->epilogue) v->epilogue(v->context, y, GS_W, i, 0, 0, OH * OW, GS_W);
  }
}

GS_LOCAL void gs_blocked_winograd_f32_plain(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] > 0 && v->out[1] > 0) gs_parallel_for(pool, v->N * gs_blocked_count(v->O), gs_winograd_plain_task,
                                                      (void*)v);
}

// ---- one row or column through a transformation

// The polynomial of d[0], d[apart], .. d[3 * apart] at -+1/2 and -+3/2 without what vanishes there.
GS_INLINE void gs_winograd_halves(const gs_vf* d, const int apart, gs_vf* o) {
  gs_vf even = d[2 * apart] - 2.25f * d[0], odd = d[3 * apart] - 2.25f * d[apart];
  gs_vf even2 = d[2 * apart] - 0.25f * d[0], odd2 = d[3 * apart] - 0.25f * d[apart];
  o[0] = odd + 0.5f * even;
  o[1] = odd - 0.5f * even;
  o[2] = odd2 + 1.5f * even2;
  o[3] = odd2 - 1.5f * even2;
}

// B' of the inputs d, n of them.
GS_INLINE void gs_winograd_in(const int step, const gs_vf* d, gs_vf* o) {
  if (step == 2) {
    o[0] = d[2] - d[0];
    o[1] = d[2] + d[1];
    o[2] = d[2] - d[1];
    o[3] = d[3] - d[1];
  } else if (step == 4) {
    gs_vf even = d[4] - 2 * d[2], odd = d[3] - 2 * d[1], even2 = d[4] - 0.5f * d[2], odd2 = d[3] - 0.5f * d[1];
    o[0] = (d[0] + d[4]) - 2.5f * d[2];
    o[1] = even + 0.70710678f * odd;
    o[2] = even - 0.70710678f * odd;
    o[3] = even2 + 1.41421356f * odd2;
    o[4] = even2 - 1.41421356f * odd2;
    o[5] = (d[1] + d[5]) - 2.5f * d[3];
  } else {
    gs_winograd_halves(d, 2, o);
    o[4] = (d[8] - 2.5f * d[4]) + 0.5625f * d[0];
    gs_winograd_halves(d + 1, 2, o + 5);
  }
}

// A' of the values d, s of them, to m outputs.
GS_INLINE void gs_winograd_out(const int step, const gs_vf* d, gs_vf* o) {
  const int first = step != 8;  // the value at 0
  gs_vf sum = d[first] + d[first + 1], difference = d[first] - d[first + 1];
  if (step == 2) {
    o[0] = d[0] + sum;
    o[1] = difference + d[3];
    return;
  }
  gs_vf sum2 = d[first + 2] + d[first + 3], difference2 = d[first + 2] - d[first + 3];
  if (step == 4) {
    o[0] = d[0] + (sum + sum2);
    o[1] = 0.70710678f * (difference + 2 * difference2);
    o[2] = 0.5f * (sum + 4 * sum2);
    o[3] = d[5] + 0.35355339f * (difference + 8 * difference2);
  } else {
    o[0] = sum + sum2;
    o[1] = 0.5f * (difference + 3 * difference2);
    o[2] = 0.25f * (sum + 9 * sum2);
    o[3] = d[4] + 0.125f * (difference + 27 * difference2);
  }
}

// ---- how it is cut

// Floats of transformed input that stay in L2 with what goes through it.
#ifndef GS_WINOGRAD_L2
#define GS_WINOGRAD_L2 (96 * 1024)
#endif

typedef struct GsWinogradPlan {
  int64_t down, across, tiles;            // of one picture's height and width; of all images
  int64_t values, inputs, pairs, blocks;  // s * s; blocks of inputs; pairs and blocks of outputs
  int64_t most;                           // tiles of a block
  int64_t v_plane, m_value, V, M;         // floats from one plane or value to the next, and of all
  int shared;
} GsWinogradPlan;

// An odd number of cache lines: what lies these apart must not fall into the same sets of a cache.
GS_INLINE int64_t gs_winograd_apart(int64_t vectors) { return (vectors | 1) * GS_W; }

GS_LOCAL GsWinogradPlan gs_winograd_plan(const GsBlocked* v, int threads) {
  GsWinogradPlan p = {.down = gs_ceil_div(v->out[0], v->tile), .across = gs_ceil_div(v->out[1], v->tile),
                      .inputs = gs_blocked_count(v->C), .blocks = gs_blocked_count(v->O)};
  int64_t n = gs_winograd_n(gs_winograd_step(v)), s = gs_winograd_s(gs_winograd_step(v));
  p.values = s * s;
  p.tiles = v->N * p.down * p.across;
  p.pairs = gs_ceil_div(p.blocks, 2);
  p.shared = threads > 1 && p.pairs > 1 && p.tiles < 2 * threads * GS_BLOCKED_MR;
  int64_t fit = GS_WINOGRAD_L2 / (n * n * p.inputs * GS_W) / GS_BLOCKED_MR * GS_BLOCKED_MR;
  p.most = gs_min_i64(p.tiles, p.shared ? p.tiles : gs_max_i64(2 * GS_BLOCKED_MR, gs_min_i64(fit, 4 * GS_BLOCKED_MR)));
  p.v_plane = gs_winograd_apart(p.inputs * p.most);
  p.m_value = gs_winograd_apart(2 * p.most);
  p.V = n * n * p.v_plane;
  p.M = p.values * p.m_value;
  return p;
}

// Floats of the tables of segments, for values of 1, 2 and 4 planes. Two floats hold an int64_t.
GS_INLINE int64_t gs_winograd_tables(const GsBlocked* v) { return gs_round_up(14 * gs_blocked_count(v->C), 16); }

// Floats of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_blocked_winograd_f32_scratch(const GsBlocked* v, int threads) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0) return 0;
  int64_t most = 0;
  for (int t = 1; t <= threads; t++) {  // the system may give fewer threads than were asked for
    GsWinogradPlan p = gs_winograd_plan(v, t);
    most = gs_max_i64(most, (p.shared ? 1 : t) * p.V + t * p.M);
  }
  return gs_winograd_tables(v) + most;
}

typedef struct GsWinogradJob {
  const GsBlocked* v;
  GsWinogradPlan p;
  const int64_t* segments;
  float *V, *M;  // of all threads, or V of all together
} GsWinogradJob;

// ---- into V

// Transform `count` columns of n inputs down from (iy, ix), which may lie outside: column j goes to o[j * n ...].
GS_INLINE void gs_winograd_columns(const int step, const GsBlocked* v, const float* x, int64_t iy, int64_t ix,
                                   int64_t count, gs_vf* o) {
  const int n = gs_winograd_n(step);
  int64_t H = v->in[0], W = v->in[1];
  const float* from = x + (iy * W + ix) * GS_W;
  if (iy >= 0 && iy + n <= H && ix >= 0 && ix + count <= W) {
    for (int64_t j = 0; j < count; j++, from += GS_W, o += n) {
      gs_vf d[9];
#pragma GCC unroll 9
      for (int i = 0; i < n; i++) d[i] = gs_load(from + i * W * GS_W);
      gs_winograd_in(step, d, o);
    }
    return;
  }
  for (int64_t j = 0; j < count; j++, from += GS_W, o += n) {
    gs_vf d[9];
#pragma GCC unroll 9
    for (int i = 0; i < n; i++) {
      int inside = iy + i >= 0 && iy + i < H && ix + j >= 0 && ix + j < W;
      d[i] = inside ? gs_load(from + i * W * GS_W) : (gs_vf){0};
    }
    gs_winograd_in(step, d, o);
  }
}

// `count` tiles of one row of tiles from (ty, tx) of the picture x, to V and so on.
GS_INLINE void gs_winograd_row_in(const int step, const GsBlocked* v, const float* x, int64_t ty, int64_t tx,
                                  int64_t count, int64_t v_plane, float* V) {
  const int n = gs_winograd_n(step);
  // A tile's columns are `step` of its own and the first ones of the next tile's.
  gs_vf halves[2][8 * 9];
  gs_vf *now = halves[0], *next = halves[1];
  int64_t iy = ty * step - v->pad[0], ix = tx * step - v->pad[1];
  gs_winograd_columns(step, v, x, iy, ix, step, now);
  for (; count > 0; count--, V += GS_W) {
    ix += step;
    gs_winograd_columns(step, v, x, iy, ix, count > 1 ? step : n - step, next);
#pragma GCC unroll 9
    for (int i = 0; i < n; i++) {
      gs_vf d[9], o[9];
#pragma GCC unroll 9
      for (int j = 0; j < n; j++) d[j] = j < step ? now[j * n + i] : next[(j - step) * n + i];
      gs_winograd_in(step, d, o);
#pragma GCC unroll 9
      for (int j = 0; j < n; j++) gs_store(V + gs_winograd_plane(step, i, j) * v_plane, o[j]);
    }
    gs_vf* swap = now;
    now = next;
    next = swap;
  }
}

// Finite only where all are.
GS_INLINE gs_vf gs_winograd_all(const int m, const gs_vf* o) {
  return m == 2 ? o[0] + o[1] : (o[0] + o[1]) + (o[2] + o[3]);
}

// `count` tiles of one row of tiles from (ty, tx), from M on, to the picture y. Whether all sums are finite.
GS_INLINE int gs_winograd_row_out(const int step, const GsBlocked* v, const float* M, int64_t m_value,
                                   gs_vf bias, int64_t ty, int64_t tx, int64_t count, float* y) {
  const int m = gs_winograd_m(step), s = gs_winograd_s(step);
  int64_t OH = v->out[0], OW = v->out[1], oy = ty * m, rows = gs_min_i64(m, OH - oy);
  gs_vf low = gs_blocked_low(v), high = gs_blocked_high(v), odd = {0};  // becomes NaN
  for (int64_t ox = tx * m; count > 0; count--, ox += m, M += GS_W) {
    gs_vf half[4][6];
#pragma GCC unroll 6
    for (int j = 0; j < s; j++) {
      gs_vf d[6], o[4];
#pragma GCC unroll 6
      for (int i = 0; i < s; i++) d[i] = gs_load(M + (i * s + j) * m_value);
      gs_winograd_out(step, d, o);
#pragma GCC unroll 4
      for (int i = 0; i < m; i++) half[i][j] = o[i];
    }
    int64_t cols = gs_min_i64(m, OW - ox);
    float* to = y + (oy * OW + ox) * GS_W;
    const float* residual = v->residual && !v->silu ? v->residual + (to - v->y) : 0;
    if (rows == m && cols == m) {
#pragma GCC unroll 4
      for (int i = 0; i < m; i++) {
        gs_vf o[4];
        gs_winograd_out(step, half[i], o);
        odd += 0 * gs_winograd_all(m, o);
#pragma GCC unroll 4
        for (int j = 0; j < m; j++) {
          gs_vf sum = o[j] + bias;
          if (residual) sum += gs_load(residual + (i * OW + j) * GS_W);
          gs_store(to + (i * OW + j) * GS_W, gs_blocked_clamped(sum, low, high));
        }
      }
      continue;
    }
    for (int64_t i = 0; i < rows; i++) {
      gs_vf o[4];
      gs_winograd_out(step, half[i], o);
      odd += 0 * gs_winograd_all(m, o);
      for (int64_t j = 0; j < cols; j++) {
        gs_vf sum = o[j] + bias;
        if (residual) sum += gs_load(residual + (i * OW + j) * GS_W);
        gs_store(to + (i * OW + j) * GS_W, gs_blocked_clamped(sum, low, high));
      }
    }
  }
  return gs_sum_lanes(odd) == 0;
}

#define GS_WINOGRAD(step) \
  GS_NOINLINE void gs_winograd_row_in_##step(const GsBlocked* v, const float* x, int64_t ty, int64_t tx, \
                                             int64_t count, int64_t v_plane, float* V) { \
    gs_winograd_row_in(step, v, x, ty, tx, count, v_plane, V); } \
  GS_NOINLINE int gs_winograd_row_out_##step(const GsBlocked* v, const float* M, int64_t m_value, gs_vf bias, \
                                              int64_t ty, int64_t tx, int64_t count, float* y) { \
    return gs_winograd_row_out(step, v, M, m_value, bias, ty, tx, count, y); }
GS_WINOGRAD(2)
GS_WINOGRAD(4)
GS_WINOGRAD(8)

// Transform block `c` of the inputs for the tiles [t0, t1); these stand from V on.
GS_LOCAL void gs_winograd_input(const GsBlocked* v, const GsWinogradPlan* p, int64_t c, int64_t t0, int64_t t1,
                                float* V) {
  int step = gs_winograd_step(v);
  V += c * p->most * GS_W;
  for (int64_t t = t0, count; t < t1; t += count, V += count * GS_W) {
    int64_t row = t / p->across, tx = t % p->across, n = row / p->down;
    count = gs_min_i64(p->across - tx, t1 - t);
    const float* x = v->x + (n * p->inputs + c) * v->in[0] * v->in[1] * GS_W;
    (step == 8 ? gs_winograd_row_in_8 : step == 4 ? gs_winograd_row_in_4 : gs_winograd_row_in_2)(
      v, x, row % p->down, tx, count, p->v_plane, V);
  }
}

// ---- where something is not finite

// How a tap's weights come back of two of their transformed ones: factor * (those at `at` - those at `less`, if any).
typedef struct GsWinogradTap {
  int at, less;
  float factor;
} GsWinogradTap;
static const GsWinogradTap gs_winograd_taps[3][3] __attribute__((unused)) = {
  {{0, -1, -1}, {1, 2, 1}, {3, -1, 1}},
  {{0, -1, 1}, {2, 1, 1.06066017f}, {5, -1, 1}},
  {{1, 0, 1}, {6, 5, 1}, {4, -1, 1}}};

// The outputs of `count` tiles of one row of tiles once more, as sums over the inputs that they see: transformed, one
// infinite or NaN input spoils all outputs of its tile, and large ones overflow. Slow, and seldom wanted.
GS_NOINLINE void gs_winograd_again(const GsBlocked* v, int64_t n, int64_t block, gs_vf bias, int64_t ty, int64_t tx,
                                   int64_t count, float* y) {
  int step = gs_winograd_step(v);
  const GsWinogradTap* taps = gs_winograd_taps[step == 8 ? 2 : step == 4 ? 1 : 0];
  int64_t m = v->tile, H = v->in[0], W = v->in[1], OW = v->out[1], s = v->stride[0];
  int64_t y0 = ty * m, y1 = gs_min_i64(y0 + m, v->out[0]), x0 = tx * m, x1 = gs_min_i64(x0 + count * m, OW);
  int64_t width = (block ^ 1) < gs_blocked_count(v->O) ? 2 * GS_W : GS_W;
  const float* w = v->w + block / 2 * 2 * GS_W * v->C * gs_winograd_n(step) * gs_winograd_n(step)
                 + (width > GS_W ? block % 2 * GS_W : 0);
  for (int64_t oy = y0; oy < y1; oy++)
    for (int64_t ox = x0; ox < x1; ox++) gs_store(y + (oy * OW + ox) * GS_W, bias);
  for (int64_t c = 0; c < v->C; c++) {
    const float* x = gs_blocked_channel(v, n, c);
    for (int tap = 0; tap < 9; tap++) {
      GsWinogradTap down = taps[tap / 3], across = taps[tap % 3];
      gs_vf u = {0};
      for (int i = 0; i < 4; i++) {
        int a = i / 2 ? down.less : down.at, b = i % 2 ? across.less : across.at;
        if (a < 0 || b < 0) continue;
        gs_vf part = gs_load(w + gs_winograd_row(step, a, b, c, v->C) * width);
        u = i == 1 || i == 2 ? u - part : u + part;
      }
      u *= down.factor * across.factor;
      for (int64_t oy = y0; oy < y1; oy++) {
        int64_t iy = oy * s + tap / 3 - v->pad[0];
        if (iy < 0 || iy >= H) continue;
        for (int64_t ox = x0; ox < x1; ox++) {
          int64_t ix = ox * s + tap % 3 - v->pad[1];
          float* to = y + (oy * OW + ox) * GS_W;
          if (ix >= 0 && ix < W) gs_store(to, gs_load(to) + gs_splat(x[(iy * W + ix) * GS_W]) * u);
        }
      }
    }
  }
  for (int64_t oy = y0; oy < y1; oy++)
    for (int64_t ox = x0; ox < x1; ox++) {
      float* to = y + (oy * OW + ox) * GS_W;
      gs_vf sum = gs_load(to);
      if (v->residual && !v->silu) sum += gs_load(v->residual + (to - v->y));
      gs_store(to, gs_blocked_clamped(sum, gs_blocked_low(v), gs_blocked_high(v)));
    }
}

// ---- a pair of blocks of outputs

// The products of one pair for the tiles [t0, t1) that stand from V on, and what they give, with the epilogue. Tiles up
// to `upto` come next.
GS_LOCAL void gs_winograd_pair(const GsWinogradJob* job, int64_t pair, int64_t t0, int64_t t1, int64_t upto,
                               const float* V, float* M) {
  const GsBlocked* v = job->v;
  const GsWinogradPlan* p = &job->p;
  int64_t blocks = gs_min_i64(2, p->blocks - 2 * pair), at[GS_BLOCKED_MR], count = t1 - t0;
  for (int i = 0; i < GS_BLOCKED_MR; i++) at[i] = i * GS_W;
  int64_t groups = gs_ceil_div(count, GS_BLOCKED_MR), size = count / groups, larger = count % groups;
  int64_t OH = v->out[0], OW = v->out[1], m = v->tile;
  int step = gs_winograd_step(v), n = gs_winograd_n(step);
  int half = 2 * pair + blocks == p->blocks && gs_blocked_halved(v->O);
  // Meanwhile what is written next and a share of the next tiles' input come near.
  GsAhead ahead = {0};
  for (int64_t t = t0, run; t < t1; t += run) {
    int64_t row = t / p->across, tx = t % p->across, ty = row % p->down;
    int64_t image = row / p->down * p->blocks + 2 * pair;
    run = gs_min_i64(p->across - tx, t1 - t);
    int64_t first = (image * OH * OW + ty * m * OW + tx * m) * GS_W;
    for (int i = 0; i < 1 + (v->residual != 0); i++)
      gs_ahead_add(&ahead, (i ? v->residual : v->y) + first, blocks, OH * OW * GS_W, gs_min_i64(m, OH - ty * m),
                   OW * GS_W, gs_min_i64(run * m, OW - tx * m) * GS_W);
  }
  int64_t c0 = pair * p->inputs / p->pairs, c1 = (pair + 1) * p->inputs / p->pairs;
  int64_t next = gs_min_i64(2 * t1 - t0, upto);
  for (int64_t t = t1, run; t < next; t += run) {
    int64_t row = t / p->across, tx = t % p->across, iy = row % p->down * step - v->pad[0], ix = tx * step - v->pad[1];
    run = gs_min_i64(p->across - tx, next - t);
    int64_t y0 = gs_max_i64(0, iy), y1 = gs_min_i64(v->in[0], iy + n);
    int64_t x0 = gs_max_i64(0, ix), x1 = gs_min_i64(v->in[1], ix + (run - 1) * step + n);
    int64_t plane = v->in[0] * v->in[1] * GS_W;
    const float* from = v->x + (row / p->down * p->inputs + c0) * plane + (y0 * v->in[1] + x0) * GS_W;
    gs_ahead_add(&ahead, from, c1 - c0, plane, y1 - y0, v->in[1] * GS_W, (x1 - x0) * GS_W);
  }
  int64_t each = ahead.lines / (p->values * groups) + 1;
  const float* w = v->w + pair * 2 * GS_W * n * n * v->C;
  for (int k = 0; k < p->values; k++) {
    int64_t phases = gs_winograd_phases(step, k);
    const float* from = V + gs_winograd_first(step, k) * p->v_plane;
    for (int64_t i = 0, t = 0; i < groups; i++) {
      gs_ahead_ask(&ahead, each);
      int64_t held = size + (i < larger);
      GsBlockedTile tile = {.x = from + t * GS_W, .w = w, .ahead = w, .at = at,
                            .segments = job->segments + (phases - 1) * p->inputs, .count = {
                              phases * (v->C / GS_W), v->C % GS_W ? phases : 0}, .length = {GS_W, v->C % GS_W},
                            .y = M + k * p->m_value + t * GS_W, .y_block = p->most * GS_W};
      gs_blocked_micros[half][blocks - 1][held - 1](&tile);
      t += held;
    }
    w += blocks * GS_W * v->C * phases;
  }
  for (int64_t b = 0; b < blocks; b++) {
    const float* from = M + b * p->most * GS_W;
    gs_vf bias = gs_blocked_bias(v, 2 * pair + b);
    for (int64_t t = t0, run; t < t1; t += run, from += run * GS_W) {
      int64_t row = t / p->across, tx = t % p->across, ty = row % p->down;
      int64_t image = row / p->down * p->blocks + 2 * pair + b;
      run = gs_min_i64(p->across - tx, t1 - t);
      float* y = v->y + image * OH * OW * GS_W;
      int finite = (step == 8 ? gs_winograd_row_out_8 : step == 4 ? gs_winograd_row_out_4 : gs_winograd_row_out_2)(
        v, from, p->m_value, bias, ty, tx, run, y);
      if (!finite) gs_winograd_again(v, row / p->down, 2 * pair + b, bias, ty, tx, run, y);
      if (!v->silu && !v->epilogue) continue;
      int64_t rows = gs_min_i64(m, OH - ty * m), cols = gs_min_i64(run * m, OW - tx * m), first = ty * m * OW + tx * m;
      if (cols == OW) cols *= rows, rows = 1;
      for (int64_t i = 0; i < rows; i++, first += OW) {
        if (v->silu) gs_blocked_silu(v, y + first * GS_W, cols * GS_W);
        if (v->epilogue) v->epilogue(v->context, y + first * GS_W, GS_W, image, first, 0, cols, GS_W);
      }
    }
  }
}

GS_LOCAL void gs_winograd_own_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWinogradJob* job = arg;
  const GsWinogradPlan* p = &job->p;
  float *V = job->V + thread * p->V, *M = job->M + thread * p->M;
  int64_t parts = gs_ceil_div(end - begin, p->most), size = (end - begin) / parts, larger = (end - begin) % parts;
  for (int64_t i = 0, t = begin; i < parts; i++) {
    int64_t count = size + (i < larger);
    for (int64_t c = 0; c < p->inputs; c++) gs_winograd_input(job->v, p, c, t, t + count, V);
    for (int64_t pair = 0; pair < p->pairs; pair++) gs_winograd_pair(job, pair, t, t + count, end, V, M);
    t += count;
  }
}

GS_LOCAL void gs_winograd_input_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWinogradJob* job = arg;
  (void)thread;
  for (int64_t c = begin; c < end; c++) gs_winograd_input(job->v, &job->p, c, 0, job->p.tiles, job->V);
}

GS_LOCAL void gs_winograd_pair_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWinogradJob* job = arg;
  float* M = job->M + thread * job->p.M;
  int64_t tiles = job->p.tiles;
  for (int64_t pair = begin; pair < end; pair++) gs_winograd_pair(job, pair, 0, tiles, tiles, job->V, M);
}

GS_LOCAL void gs_blocked_winograd_f32(const GsBlocked* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0 || v->O <= 0 || v->N <= 0) return;
  if ((double)v->N * (double)v->O * (double)(v->out[0] * v->out[1]) * (double)v->C < 20000.0 * GS_W) pool = 0;
  int threads = gs_pool_size(pool);
  GsWinogradJob job = {.v = v, .p = gs_winograd_plan(v, threads)};
  int64_t *segments = (int64_t*)v->scratch, inputs = job.p.inputs, whole = v->C / GS_W, s = 0;
  for (int phases = 1; phases <= 4; phases *= 2)
    for (int64_t rest = 0; rest < 2; rest++)
      for (int phase = 0; phase < phases; phase++)
        for (int64_t c = rest ? whole : 0; c < (rest ? inputs : whole); c++)
          segments[s++] = phase * job.p.v_plane + c * job.p.most * GS_W;
  job.segments = segments;
  job.V = v->scratch + gs_winograd_tables(v);
  job.M = job.V + (job.p.shared ? 1 : threads) * job.p.V;
  if (!job.p.shared) {
    gs_parallel_for(pool, job.p.tiles, gs_winograd_own_task, &job);
    return;
  }
  gs_parallel_for(pool, inputs, gs_winograd_input_task, &job);
  gs_parallel_for(pool, job.p.pairs, gs_winograd_pair_task, &job);
}
