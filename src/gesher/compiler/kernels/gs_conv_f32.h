// Convolutions in float: y[n,o,p] = bias[o] + sum over c, k of w[o,c,k] * x[n, group's c, p * stride + k * dilation -
// pad].
//
// gs_conv_f32_plain   any rank, the meaning; the tests' truth, and what rank 3 and up run.
// gs_conv2d_f32       rank 2 (rank 1 as a picture of height 1): a matrix product of the weights, as they stand, with
//                     patches of the picture that are laid out a few columns at a time in L2 and never as a whole.
// gs_depthwise2d_f32  one channel in, one or more out: vectors along a row of a padded strip. Also for pictures of one
//                     channel that few come of.
// gs_conv_transpose_f32_plain, gs_conv_transpose2d_f32: the transposed one; the quick one is a product and a scatter.
//
// Padding at the end follows from the size of the output. The epilogue is that of gs_gemm_f32 with batch = n * group
// + g, m = output channel within the group, n = place in the output picture.

#include "gs_ahead.h"
#include "gs_gemm_f32.h"

#define GS_MAX_RANK 6

typedef struct GsConv {
  int64_t rank, N, C, O, group;  // C channels in, O channels out (both over all groups)
  int64_t in[GS_MAX_RANK], out[GS_MAX_RANK], kernel[GS_MAX_RANK];
  int64_t stride[GS_MAX_RANK], dilation[GS_MAX_RANK], pad[GS_MAX_RANK];  // pad: at the beginning; may be negative
  // x (N,C,in...), w (O,C/group,kernel...) or transposed (C,O/group,kernel...), bias (O) or NULL
  const float *x, *w, *bias;
  float* y;                      // (N,O,out...)
  GsTileFn epilogue;
  void* context;
  float* scratch;                // as many floats as the kernel's _scratch says, 64-byte aligned
} GsConv;

GS_INLINE int64_t gs_product(const int64_t* sizes, int64_t rank) {
  int64_t p = 1;
  for (int64_t i = 0; i < rank; i++) p *= sizes[i];
  return p;
}

// Step to the next index of a box, the last axis quickest. False after the last one.
GS_INLINE int gs_next_index(int64_t* index, const int64_t* sizes, int64_t rank) {
  for (int64_t i = rank - 1; i >= 0; i--) {
    if (++index[i] < sizes[i]) return 1;
    index[i] = 0;
  }
  return 0;
}

GS_LOCAL void gs_conv_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsConv* v = arg;
  (void)thread;
  int64_t in = gs_product(v->in, v->rank), out = gs_product(v->out, v->rank), taps = gs_product(v->kernel, v->rank);
  int64_t Cg = v->C / v->group, Og = v->O / v->group;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = i / v->O, o = i % v->O;
    const float* x = v->x + (n * v->C + o / Og * Cg) * in;
    float* y = v->y + i * out;
    int64_t p[GS_MAX_RANK] = {0};
    for (int64_t j = 0; j < out; j++, gs_next_index(p, v->out, v->rank)) {
      double sum = v->bias ? (double)v->bias[o] : 0;
      int64_t k[GS_MAX_RANK] = {0};
      for (int64_t t = 0; t < taps; t++, gs_next_index(k, v->kernel, v->rank)) {
        int64_t at = 0, inside = 1;
        for (int64_t d = 0; d < v->rank; d++) {
          int64_t q = p[d] * v->stride[d] + k[d] * v->dilation[d] - v->pad[d];
          inside &= q >= 0 && q < v->in[d];
          at = at * v->in[d] + q;
        }
        if (inside)
          for (int64_t c = 0; c < Cg; c++) sum += (double)x[c * in + at] * (double)v->w[(o * Cg + c) * taps + t];
      }
      y[j] = (float)sum;
    }
    if (v->epilogue) v->epilogue(v->context, y, out, n * v->group + o / Og, o % Og, 0, 1, out);
  }
}

GS_LOCAL void gs_conv_f32_plain(const GsConv* v, GsPool* pool) {
  if (gs_product(v->out, v->rank) > 0) gs_parallel_for(pool, v->N * v->O, gs_conv_plain_task, (void*)v);
}

// ---- rank 2 by matrix products

// A run of output places in one row of the output: `count` from (row, column) go to columns `at` of a panel.
typedef struct GsConvRun {
  int64_t row, column, count, at;
} GsConvRun;

// Channels whose patches are laid out at a time, and panels of places.
GS_INLINE int64_t gs_conv_channels(const GsConv* v) {
  return gs_max_i64(1, gs_min_i64(v->C / v->group, GS_GEMM_KC / gs_max_i64(1, v->kernel[0] * v->kernel[1])));
}
GS_INLINE int64_t gs_conv_panels(const GsConv* v) {
  int64_t kc = gs_conv_channels(v) * v->kernel[0] * v->kernel[1];
  return gs_max_i64(1, gs_min_i64(gs_ceil_div(v->out[0] * v->out[1], GS_GEMM_NR),
                                  GS_GEMM_L2 / gs_max_i64(1, kc) / GS_GEMM_NR));
}

// Images that go together, so that the patches of all their places fit the scratch; 1: the pictures are large enough.
GS_INLINE int64_t gs_conv_together(const GsConv* v) {
  int64_t out = v->out[0] * v->out[1], all = gs_max_i64(1, GS_GEMM_L2 / gs_max_i64(1, gs_conv_channels(v)
                                             * v->kernel[0] * v->kernel[1]) / GS_GEMM_NR) * GS_GEMM_NR;
  if (v->group != 1 || out >= 2 * GS_GEMM_NR || all < 2 * out) return 1;
  return gs_min_i64(v->N, gs_min_i64(all, 16 * GS_GEMM_NR) / gs_max_i64(1, out));
}

// Floats of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_conv2d_f32_scratch(const GsConv* v, int threads) {
  int64_t panels = gs_max_i64(gs_conv_panels(v), gs_ceil_div(gs_conv_together(v) * v->out[0] * v->out[1], GS_GEMM_NR));
  return threads * panels * GS_GEMM_NR * gs_conv_channels(v) * v->kernel[0] * v->kernel[1];
}

// Lay out the patches of channels [0, channels) of x for the places [p0, p0 + places) at the front of `columns` columns
// of a panel; the rest of these becomes 0.
GS_LOCAL void gs_conv_patches(const GsConv* v, const float* x, int64_t channels, int64_t p0, int64_t places,
                              int64_t columns, float* to) {
  int64_t H = v->in[0], W = v->in[1], KH = v->kernel[0], KW = v->kernel[1], OW = v->out[1], s = v->stride[1];
  int64_t taps = KH * KW, n_runs = 0;
  GsConvRun runs[GS_GEMM_NR];
  for (int64_t j = 0; j < places; n_runs++) {
    int64_t row = (p0 + j) / OW, column = (p0 + j) % OW, count = gs_min_i64(OW - column, places - j);
    runs[n_runs] = (GsConvRun){row, column, count, j};
    j += count;
  }
  for (int64_t ky = 0; ky < KH; ky++)
    for (int64_t kx = 0; kx < KW; kx++) {
      float* row0 = to + (ky * KW + kx) * GS_GEMM_NR;
      for (int64_t r = 0; r < n_runs; r++) {
        int64_t iy = runs[r].row * v->stride[0] + ky * v->dilation[0] - v->pad[0];
        int64_t ix = runs[r].column * s + kx * v->dilation[1] - v->pad[1];
        int64_t count = runs[r].count, low = 0, high = 0;
        if (iy >= 0 && iy < H) {
          // Of the run, [low, high) lies inside the picture.
          low = ix >= 0 ? 0 : gs_min_i64(count, gs_ceil_div(-ix, s));
          high = ix >= W ? low : gs_max_i64(low, gs_min_i64(count, gs_ceil_div(W - ix, s)));
        }
        const float* from = x + iy * W + ix;
        float* out = row0 + runs[r].at;
        if (s == 1 && count == GS_GEMM_NR && low == 0 && high == count) {
          for (int64_t c = 0; c < channels; c++, out += taps * GS_GEMM_NR, from += H * W)
#pragma GCC unroll 4
            for (int i = 0; i < GS_GEMM_NV; i++) gs_store(out + i * GS_W, gs_load(from + i * GS_W));
          continue;
        }
        if (s == 1) {
          // By vectors with the lanes that lie inside; which these are is the same for all channels.
          for (int64_t j = 0; j < count; j += GS_W) {
            int64_t lanes = gs_min_i64(GS_W, count - j);
            int64_t first = gs_min_i64(gs_max_i64(low - j, 0), lanes), end = gs_min_i64(gs_max_i64(high - j, 0), lanes);
            for (int64_t c = 0; c < channels; c++)
              gs_store_n(out + j + c * taps * GS_GEMM_NR, gs_load_range(from + j + c * H * W, first, end), lanes);
          }
          continue;
        }
        for (int64_t c = 0; c < channels; c++, out += taps * GS_GEMM_NR, from += H * W) {
          for (int64_t j = 0; j < low; j++) out[j] = 0;
          for (int64_t j = low; j < high; j++) out[j] = from[j * s];
          for (int64_t j = high; j < count; j++) out[j] = 0;
        }
      }
      if (places < columns)
        for (int64_t c = 0; c < channels; c++)
          memset(row0 + c * taps * GS_GEMM_NR + places, 0, (size_t)(columns - places) * sizeof(float));
    }
}

// What the patches of places [p0, p1) of `channels` channels from x on are read from: asked for while others are made.
GS_LOCAL void gs_conv_ahead(const GsConv* v, GsAhead* ahead, const float* x, int64_t channels, int64_t p0, int64_t p1) {
  int64_t H = v->in[0], W = v->in[1], OW = v->out[1];
  *ahead = (GsAhead){0};
  if (p0 >= p1) return;
  if (v->kernel[0] * v->kernel[1] == 1 && v->stride[0] * v->stride[1] == 1 && OW == W && v->out[0] == H
      && v->pad[0] == 0 && v->pad[1] == 0) {
    gs_ahead_add(ahead, x + p0, 1, 0, channels, H * W, p1 - p0);
    return;
  }
  int64_t first = gs_max_i64(0, p0 / OW * v->stride[0] - v->pad[0]);
  int64_t end = gs_min_i64(H, (p1 - 1) / OW * v->stride[0] + (v->kernel[0] - 1) * v->dilation[0] - v->pad[0] + 1);
  gs_ahead_add(ahead, x + first * W, channels, H * W, 1, 0, (end - first) * W);
}

typedef struct GsConvJob {
  const GsConv* v;
  int64_t panels, blocks, m_step, m_parts, scratch_floats;
} GsConvJob;

GS_LOCAL void gs_conv_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsConvJob* job = arg;
  const GsConv* v = job->v;
  float edge[GS_GEMM_MR * GS_GEMM_NR];
  float* patches = v->scratch + thread * job->scratch_floats;
  int64_t in = v->in[0] * v->in[1], out = v->out[0] * v->out[1], taps = v->kernel[0] * v->kernel[1];
  int64_t Cg = v->C / v->group, Og = v->O / v->group, K = Cg * taps, channels = gs_conv_channels(v);
  for (int64_t task = begin; task < end; task++) {
    int64_t part = task % job->m_parts, block = task / job->m_parts % job->blocks;
    int64_t image = task / job->m_parts / job->blocks;
    int64_t n = image / v->group, g = image % v->group;
    int64_t m0 = part * job->m_step, m1 = gs_min_i64(m0 + job->m_step, Og);
    int64_t p0 = block * job->panels * GS_GEMM_NR, p1 = gs_min_i64(p0 + job->panels * GS_GEMM_NR, out);
    const float* x = v->x + (n * v->C + g * Cg) * in;
    const float* w = v->w + g * Og * K;
    float* y = v->y + (n * v->O + g * Og) * out;
    for (int64_t c0 = 0; c0 == 0 || c0 < Cg; c0 += channels) {
      int64_t count = gs_min_i64(channels, Cg - c0), kc = count * taps;
      int last = c0 + channels >= Cg;
      for (int64_t p = p0; p < p1; p += GS_GEMM_NR)
        gs_conv_patches(v, x + c0 * in, count, p, gs_min_i64(GS_GEMM_NR, p1 - p), GS_GEMM_NR,
                        patches + (p - p0) * kc);
      GsAhead ahead;
      if (!last) gs_conv_ahead(v, &ahead, x + (c0 + channels) * in, gs_min_i64(channels, Cg - c0 - channels), p0, p1);
      else gs_conv_ahead(v, &ahead, x, gs_min_i64(channels, Cg), p1, gs_min_i64(p1 + job->panels * GS_GEMM_NR, out));
      int64_t lines = ahead.lines / gs_max_i64(1, gs_ceil_div(m1 - m0, GS_GEMM_MR) * gs_ceil_div(p1 - p0, GS_GEMM_NR))
                    + 1;
      for (int64_t m = m0; m < m1; m += GS_GEMM_MR) {
        int64_t rows = gs_min_i64(GS_GEMM_MR, m1 - m);
        GsGemmTile t = {.K = kc, .a = w + m * K + c0 * taps, .a_row = K, .b_row = GS_GEMM_NR, .first = c0 == 0,
                        .bias_m = c0 == 0 && v->bias ? v->bias + g * Og + m : 0};
        for (int64_t p = p0; p < p1; p += GS_GEMM_NR) {
          int64_t cols = gs_min_i64(GS_GEMM_NR, p1 - p), nv = gs_ceil_div(cols, GS_W);
          gs_ahead_ask(&ahead, lines);
          t.b = patches + (p - p0) * kc;
          t.c = y + m * out + p;
          t.c_row = out;
          if (cols == nv * GS_W) {
            gs_gemm_f32_micros[nv - 1][rows - 1](&t);
            continue;
          }
          t.c = edge;
          t.c_row = GS_GEMM_NR;
          if (!t.first)
            for (int64_t i = 0; i < rows; i++)
              memcpy(edge + i * GS_GEMM_NR, y + (m + i) * out + p, (size_t)cols * sizeof(float));
          gs_gemm_f32_micros[nv - 1][rows - 1](&t);
          for (int64_t i = 0; i < rows; i++)
            memcpy(y + (m + i) * out + p, edge + i * GS_GEMM_NR, (size_t)cols * sizeof(float));
        }
        if (last && v->epilogue) v->epilogue(v->context, y + m * out + p0, out, image, m, p0, rows, p1 - p0);
      }
    }
  }
}

// Small pictures: the places of several images stand side by side, so that panels are full. One group.

GS_LOCAL void gs_conv_small_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsConvJob* job = arg;
  const GsConv* v = job->v;
  float tile[GS_GEMM_MR * GS_GEMM_NR];
  float* patches = v->scratch + thread * job->scratch_floats;
  int64_t in = v->in[0] * v->in[1], out = v->out[0] * v->out[1], taps = v->kernel[0] * v->kernel[1];
  int64_t K = v->C * taps, channels = gs_conv_channels(v);
  for (int64_t task = begin; task < end; task++) {
    int64_t first = task * job->panels, images = gs_min_i64(job->panels, v->N - first), places = images * out;
    float* y = v->y + first * v->O * out;
    for (int64_t c0 = 0; c0 == 0 || c0 < v->C; c0 += channels) {
      int64_t count = gs_min_i64(channels, v->C - c0), kc = count * taps;
      int last = c0 + channels >= v->C;
      for (int64_t p = 0; p < places; p += GS_GEMM_NR) {
        int64_t cols = gs_min_i64(GS_GEMM_NR, places - p), taken;
        for (int64_t j = 0; j < cols; j += taken) {
          // The run of one image's places; the last run owns the rest of the panel.
          int64_t image = (p + j) / out, at = (p + j) % out;
          taken = gs_min_i64(out - at, cols - j);
          gs_conv_patches(v, v->x + ((first + image) * v->C + c0) * in, count, at, taken,
                          j + taken == cols ? GS_GEMM_NR - j : taken, patches + p * kc + j);
        }
      }
      for (int64_t m = 0; m < v->O; m += GS_GEMM_MR) {
        int64_t rows = gs_min_i64(GS_GEMM_MR, v->O - m);
        GsGemmTile t = {.K = kc, .a = v->w + m * K + c0 * taps, .a_row = K, .b_row = GS_GEMM_NR, .first = c0 == 0,
                        .bias_m = c0 == 0 && v->bias ? v->bias + m : 0, .c = tile, .c_row = GS_GEMM_NR};
        for (int64_t p = 0; p < places; p += GS_GEMM_NR) {
          int64_t cols = gs_min_i64(GS_GEMM_NR, places - p), taken;
          t.b = patches + p * kc;
          for (int64_t j = 0; j < cols && !t.first; j += taken) {
            int64_t image = (p + j) / out, at = (p + j) % out;
            taken = gs_min_i64(out - at, cols - j);
            for (int64_t i = 0; i < rows; i++)
              memcpy(tile + i * GS_GEMM_NR + j, y + (image * v->O + m + i) * out + at, (size_t)taken * sizeof(float));
          }
          gs_gemm_f32_micros[gs_ceil_div(cols, GS_W) - 1][rows - 1](&t);
          for (int64_t j = 0; j < cols; j += taken) {
            int64_t image = (p + j) / out, at = (p + j) % out;
            taken = gs_min_i64(out - at, cols - j);
            for (int64_t i = 0; i < rows; i++)
              memcpy(y + (image * v->O + m + i) * out + at, tile + i * GS_GEMM_NR + j, (size_t)taken * sizeof(float));
          }
        }
      }
      for (int64_t i = 0; i < images && last && v->epilogue; i++)
        v->epilogue(v->context, y + i * v->O * out, out, first + i, 0, 0, v->O, out);
    }
  }
}

GS_LOCAL void gs_conv2d_f32(const GsConv* v, GsPool* pool) {
  int64_t out = v->out[0] * v->out[1], Og = v->O / v->group, images = v->N * v->group;
  if (out <= 0 || Og <= 0 || images <= 0) return;
  int threads = gs_pool_size(pool);
  GsConvJob job = {.v = v, .panels = gs_conv_panels(v)};
  job.scratch_floats = gs_conv2d_f32_scratch(v, 1);
  double work = (double)v->N * (double)v->O * (double)out * (double)(v->C / v->group * v->kernel[0] * v->kernel[1]);
  if (work < 25000.0 * GS_W) pool = 0, threads = 1;
  int64_t together = gs_min_i64(gs_conv_together(v), gs_ceil_div(v->N, threads));
  if (together > 1) {
    job.panels = together;
    gs_parallel_for(pool, gs_ceil_div(v->N, together), gs_conv_small_task, &job);
    return;
  }
  // Blocks of places go to threads: somewhat smaller ones where that leaves no thread waiting for another. Where there
  // are fewer blocks than threads, parts of the channels too.
  int64_t all = gs_ceil_div(out, GS_GEMM_NR), least = INT64_MAX;
  for (int64_t panels = job.panels, fewest = threads > 1 ? 1 + (panels - 1) / 4 : panels; panels >= fewest; panels--) {
    int64_t longest = gs_ceil_div(images * gs_ceil_div(all, panels), threads) * panels;
    if (longest < least) least = longest, job.panels = panels;
  }
  if (images < threads)
    job.panels = gs_max_i64(1, gs_min_i64(job.panels, gs_ceil_div(all, gs_ceil_div(threads, images))));
  job.blocks = gs_ceil_div(all, job.panels);
  int64_t tiles = gs_ceil_div(Og, GS_GEMM_MR), wanted = gs_ceil_div(threads, images * job.blocks);
  job.m_step = gs_ceil_div(tiles, gs_min_i64(tiles, wanted)) * GS_GEMM_MR;
  job.m_parts = gs_ceil_div(Og, job.m_step);
  gs_parallel_for(pool, images * job.blocks * job.m_parts, gs_conv_task, &job);
}

// ---- depthwise: C = group

// Outputs that are made of one padded strip of a channel, which stays in L1 or L2.
#define GS_DEPTHWISE_ROWS 8
#define GS_DEPTHWISE_COLS 2048
// Taps of a row, for all its outputs, from which on a strip with a stride has its columns sorted: then each tap reads
// vectors as they stand.
#define GS_DEPTHWISE_SORTED 8

typedef struct GsDepthwisePlan {
  int64_t down, across, Q;      // strips; columns of outputs of one
  int64_t step;                 // from an output's column to the next in the strip
  int64_t phases, phase, row;   // columns stand sorted by their remainder by `phases`; floats of these, and of a row
} GsDepthwisePlan;

GS_INLINE GsDepthwisePlan gs_depthwise_plan(const GsConv* v) {
  int64_t KW = v->kernel[1], s = v->stride[1], dx = v->dilation[1];
  GsDepthwisePlan p = {.down = gs_ceil_div(v->out[0], GS_DEPTHWISE_ROWS), .step = s, .phases = 1};
  p.across = gs_ceil_div(v->out[1], GS_DEPTHWISE_COLS);
  p.Q = gs_ceil_div(v->out[1], p.across);
  if (s > 1 && dx == 1 && KW * (v->O / v->group) >= GS_DEPTHWISE_SORTED) p.phases = s, p.step = 1;
  // Vectors may read over the end.
  p.phase = (p.Q + GS_W) * p.step + (KW - 1) / p.phases * dx + 1;
  p.row = p.phases * p.phase;
  return p;
}

GS_LOCAL int64_t gs_depthwise2d_f32_scratch(const GsConv* v, int threads) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return 0;
  int64_t rows = (GS_DEPTHWISE_ROWS - 1) * v->stride[0] + (v->kernel[0] - 1) * v->dilation[0] + 1;
  return threads * gs_round_up(rows * gs_depthwise_plan(v).row, 16);
}

// `vectors` of outputs that follow each other: sums over the taps, s floats apart in the strip.
GS_INLINE void gs_depthwise_taps(const int vectors, const float* x, int64_t row, const float* w, int64_t KH, int64_t KW,
                                 int64_t dy, int64_t dx, int64_t s, int64_t phases, int64_t phase, gs_vf* sum) {
#pragma GCC unroll 5
  for (int64_t ky = 0; ky < KH; ky++)
    for (int64_t first = 0; first < phases; first++)
#pragma GCC unroll 5
      for (int64_t kx = first; kx < KW; kx += phases) {
        const float* p = x + ky * dy * row + first * phase + (phases == 1 ? kx * dx : kx / phases);
        gs_vf tap = gs_splat(w[ky * KW + kx]);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++, p += GS_W * s) {
          gs_vf v;
          if (s == 1) v = gs_load(p);
          else if (s == 2) v = gs_load_even(p);
          else
            for (int i = 0; i < GS_W; i++) v[i] = p[i * s];
          sum[j] += v * tap;
        }
      }
}

// Outputs [0, rows) x [0, cols) of a strip that lies padded at x. Constant arguments make loops without counters; where
// there are many taps, several vectors at a time do not wait for each other's sums.
GS_INLINE void gs_depthwise_strip(const int vectors, const float* x, const GsDepthwisePlan* p, int64_t phases,
                                  const float* w, float bias, float* y, int64_t OW, int64_t rows, int64_t cols,
                                  int64_t KH, int64_t KW, int64_t dy, int64_t dx, int64_t sy, int64_t s) {
  for (int64_t r = 0; r < rows; r++, x += sy * p->row, y += OW) {
    int64_t ox = 0;
    for (; vectors > 1 && ox + vectors * GS_W <= cols; ox += vectors * GS_W) {
      gs_vf sum[4] = {gs_splat(bias), gs_splat(bias), gs_splat(bias), gs_splat(bias)};
      gs_depthwise_taps(vectors, x + ox * s, p->row, w, KH, KW, dy, dx, s, phases, p->phase, sum);
#pragma GCC unroll 4
      for (int j = 0; j < vectors; j++) gs_store(y + ox + j * GS_W, sum[j]);
    }
    for (; ox < cols; ox += GS_W) {
      gs_vf sum = gs_splat(bias);
      gs_depthwise_taps(1, x + ox * s, p->row, w, KH, KW, dy, dx, s, phases, p->phase, &sum);
      if (ox + GS_W <= cols) gs_store(y + ox, sum);
      else gs_store_n(y + ox, sum, cols - ox);
    }
  }
}

typedef struct GsDepthwiseJob {
  const GsConv* v;
  GsDepthwisePlan p;
  int64_t scratch_floats;
} GsDepthwiseJob;

// A row of the strip: the picture's row from column `left` on, zeros around it; `from` is NULL outside the picture.
GS_LOCAL void gs_depthwise_row(const GsDepthwisePlan* p, const float* from, int64_t W, int64_t left, float* to) {
  if (!from) {
    memset(to, 0, (size_t)p->row * sizeof(float));
    return;
  }
  if (p->phases == 1) {
    int64_t first = gs_max_i64(0, gs_min_i64(p->row, -left)), end = gs_max_i64(first, gs_min_i64(p->row, W - left));
    memset(to, 0, (size_t)first * sizeof(float));
    memcpy(to + first, from + left + first, (size_t)(end - first) * sizeof(float));
    memset(to + end, 0, (size_t)(p->row - end) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < p->phases; i++, to += p->phase) {
    // The columns i, i + phases, .. of which [first, end) are picture.
    int64_t first = gs_max_i64(0, gs_min_i64(p->phase, gs_ceil_div(gs_max_i64(0, -left - i), p->phases)));
    int64_t end = gs_max_i64(first, gs_min_i64(p->phase, gs_ceil_div(gs_max_i64(0, W - left - i), p->phases)));
    const float* column = from + left + i;
    int64_t c = first;
    memset(to, 0, (size_t)first * sizeof(float));
    if (p->phases == 2)
      for (; c + GS_W < end; c += GS_W) gs_store(to + c, gs_load_even(column + 2 * c));
    for (; c < end; c++) to[c] = column[c * p->phases];
    memset(to + end, 0, (size_t)(p->phase - end) * sizeof(float));
  }
}

GS_LOCAL void gs_depthwise_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsDepthwiseJob* job = arg;
  const GsConv* v = job->v;
  const GsDepthwisePlan* p = &job->p;
  float* padded = v->scratch + thread * job->scratch_floats;
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], KH = v->kernel[0], KW = v->kernel[1];
  int64_t sy = v->stride[0], sx = v->stride[1], dy = v->dilation[0], dx = v->dilation[1], per = v->O / v->group;
  for (int64_t i = begin; i < end; i++) {
    int64_t plane = i / (p->down * p->across), strip = i % (p->down * p->across);
    int64_t oy = strip / p->across * GS_DEPTHWISE_ROWS, ox = strip % p->across * p->Q;
    int64_t rows = gs_min_i64(GS_DEPTHWISE_ROWS, OH - oy), cols = gs_min_i64(p->Q, OW - ox);
    const float* x = v->x + plane * H * W;
    for (int64_t r = 0; r < (rows - 1) * sy + (KH - 1) * dy + 1; r++) {
      int64_t iy = oy * sy + r - v->pad[0];
      gs_depthwise_row(p, iy >= 0 && iy < H ? x + iy * W : 0, W, ox * sx - v->pad[1], padded + r * p->row);
    }
    int64_t channel = plane % v->C, image = plane / v->C;
    for (int64_t j = 0; j < per; j++) {
      int64_t o = channel * per + j;
      const float* w = v->w + o * KH * KW;
      float bias = v->bias ? v->bias[o] : 0;
      float* y = v->y + ((image * v->O + o) * OH + oy) * OW + ox;
#define GS_STRIP(vectors, phases, KH, KW, dy, dx, s) \
  gs_depthwise_strip(vectors, padded, p, phases, w, bias, y, OW, rows, cols, KH, KW, dy, dx, sy, s)
      int near = dx == 1 && dy == 1 && KH == KW;
      if (p->phases > 1) GS_STRIP(4, p->phases, KH, KW, dy, 1, 1);
      else if (near && KH == 3 && sx == 1) GS_STRIP(1, 1, 3, 3, 1, 1, 1);
      else if (near && KH == 3 && sx == 2) GS_STRIP(1, 1, 3, 3, 1, 1, 2);
      else if (near && KH == 5 && sx == 1) GS_STRIP(1, 1, 5, 5, 1, 1, 1);
      else if (near && KH == 5 && sx == 2) GS_STRIP(1, 1, 5, 5, 1, 1, 2);
      else if (sx == 1) GS_STRIP(4, 1, KH, KW, dy, dx, 1);
      else if (sx == 2) GS_STRIP(4, 1, KH, KW, dy, dx, 2);
      else GS_STRIP(1, 1, KH, KW, dy, dx, sx);
      if (!v->epilogue) continue;
      // The places of several rows follow each other where a strip has all columns.
      int64_t runs = p->across > 1 ? rows : 1, each = p->across > 1 ? cols : rows * OW;
      for (int64_t r = 0; r < runs; r++)
        v->epilogue(v->context, y + r * OW, OH * OW, image * v->group + channel, j, (oy + r) * OW + ox, 1, each);
    }
  }
}

// C = group: each channel by itself, O / C outputs from it.
GS_LOCAL void gs_depthwise2d_f32(const GsConv* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return;
  GsDepthwiseJob job = {v, gs_depthwise_plan(v), gs_depthwise2d_f32_scratch(v, 1)};
  double work = (double)v->N * (double)v->O * (double)(v->out[0] * v->out[1] * v->kernel[0] * v->kernel[1]);
  gs_parallel_for(work < 10000.0 * GS_W ? 0 : pool, v->N * v->C * job.p.down * job.p.across, gs_depthwise_task, &job);
}

// ---- transposed: y gets w[c,o,k] * x[n,c,p] added at p * stride + k * dilation - pad

GS_LOCAL void gs_conv_transpose_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsConv* v = arg;
  (void)thread;
  int64_t in = gs_product(v->in, v->rank), out = gs_product(v->out, v->rank), taps = gs_product(v->kernel, v->rank);
  int64_t Cg = v->C / v->group, Og = v->O / v->group;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = i / v->O, o = i % v->O, g = o / Og;
    float* y = v->y + i * out;
    int64_t p[GS_MAX_RANK] = {0};
    for (int64_t j = 0; j < out; j++, gs_next_index(p, v->out, v->rank)) {
      double sum = v->bias ? (double)v->bias[o] : 0;
      int64_t k[GS_MAX_RANK] = {0};
      for (int64_t t = 0; t < taps; t++, gs_next_index(k, v->kernel, v->rank)) {
        int64_t at = 0, inside = 1;
        for (int64_t d = 0; d < v->rank; d++) {
          int64_t q = p[d] + v->pad[d] - k[d] * v->dilation[d];
          inside &= q >= 0 && q % v->stride[d] == 0 && q / v->stride[d] < v->in[d];
          at = at * v->in[d] + q / v->stride[d];
        }
        if (inside)
          for (int64_t c = g * Cg; c < (g + 1) * Cg; c++)
            sum += (double)v->x[(n * v->C + c) * in + at] * (double)v->w[(c * Og + o % Og) * taps + t];
      }
      y[j] = (float)sum;
    }
    if (v->epilogue) v->epilogue(v->context, y, out, n * v->group + g, o % Og, 0, 1, out);
  }
}

GS_LOCAL void gs_conv_transpose_f32_plain(const GsConv* v, GsPool* pool) {
  if (gs_product(v->out, v->rank) > 0) gs_parallel_for(pool, v->N * v->O, gs_conv_transpose_plain_task, (void*)v);
}

GS_INLINE GsGemm gs_conv_transpose_product(const GsConv* v) {
  int64_t in = v->in[0] * v->in[1], taps = v->kernel[0] * v->kernel[1], Og = v->O / v->group;
  return (GsGemm){.M = Og * taps, .N = in, .K = v->C / v->group, .batch = 1, .a_row = 1, .a_col = Og * taps,
                  .b_row = in, .b_col = 1, .c_row = in};
}

// Floats of scratch for a pool of `threads`: the product of one image and group, and what the product needs.
GS_LOCAL int64_t gs_conv_transpose2d_f32_scratch(const GsConv* v, int threads) {
  GsGemm g = gs_conv_transpose_product(v);
  return gs_round_up(g.M * g.N, 16) + gs_gemm_f32_scratch(&g, threads);
}

typedef struct GsScatterJob {
  const GsConv* v;
  const float* columns;  // [output channel][tap][input place]
  int64_t image;
} GsScatterJob;

GS_LOCAL void gs_conv_transpose_scatter(void* arg, int64_t begin, int64_t end, int thread) {
  const GsScatterJob* job = arg;
  const GsConv* v = job->v;
  (void)thread;
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1], KH = v->kernel[0], KW = v->kernel[1];
  int64_t Og = v->O / v->group, s = v->stride[1];
  for (int64_t o = begin; o < end; o++) {
    float* y = v->y + (job->image * Og + o) * OH * OW;
    float bias = v->bias ? v->bias[job->image % v->group * Og + o] : 0;
    for (int64_t i = 0; i < OH * OW; i++) y[i] = bias;
    for (int64_t ky = 0; ky < KH; ky++)
      for (int64_t kx = 0; kx < KW; kx++) {
        const float* from = job->columns + ((o * KH + ky) * KW + kx) * H * W;
        int64_t ox = kx * v->dilation[1] - v->pad[1];
        int64_t low = ox >= 0 ? 0 : gs_min_i64(W, gs_ceil_div(-ox, s));
        int64_t high = ox >= OW ? low : gs_max_i64(low, gs_min_i64(W, gs_ceil_div(OW - ox, s)));
        for (int64_t iy = 0; iy < H; iy++) {
          int64_t oy = iy * v->stride[0] + ky * v->dilation[0] - v->pad[0];
          if (oy < 0 || oy >= OH) continue;
          float* to = y + oy * OW + ox;
          if (s == 1) for (int64_t ix = low; ix < high; ix++) to[ix] += from[iy * W + ix];
          else for (int64_t ix = low; ix < high; ix++) to[ix * s] += from[iy * W + ix];
        }
      }
    if (v->epilogue) v->epilogue(v->context, y, OH * OW, job->image, o, 0, 1, OH * OW);
  }
}

GS_LOCAL void gs_conv_transpose2d_f32(const GsConv* v, GsPool* pool) {
  if (v->out[0] <= 0 || v->out[1] <= 0) return;
  GsGemm g = gs_conv_transpose_product(v);
  g.c = v->scratch;
  g.scratch = v->scratch + gs_round_up(g.M * g.N, 16);
  int64_t Cg = v->C / v->group, Og = v->O / v->group, taps = v->kernel[0] * v->kernel[1];
  for (int64_t image = 0; image < v->N * v->group; image++) {
    g.a = v->w + image % v->group * Cg * Og * taps;
    g.b = v->x + image * Cg * g.N;
    gs_gemm_f32(&g, pool);
    GsScatterJob job = {v, g.c, image};
    gs_parallel_for(pool, Og, gs_conv_transpose_scatter, &job);
  }
}
