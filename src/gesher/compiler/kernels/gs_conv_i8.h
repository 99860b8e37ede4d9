// Convolutions of bytes in rank 2 (rank 1 as a picture of height 1), channels last: y[n,p,o] = sum over taps and c of
// (x[n, p * stride + tap * dilation - pad, c] - x_zero) * (w[o,c,tap] - w_zero[o]).
//
// gs_conv_i8           any groups: rows of gs_dot_i8.h are windows, read where they lie in the picture, which is copied
//                      once with its padding (zero points) around it where the window looks beyond it.
// gs_depthwise_i8      one channel in and out: taps four at a time into VNNI, or plain loops that become vectors.
// gs_window_i8         the maximum over windows.
//
// The picture may also be planar (channels first) where it has few channels, as the input of a network; each line of
// each channel is then a segment of the window. The result is a matrix of N*OH*OW places by channels; `batch` of the
// epilogue is the group, n the channel within it.

#include "gs_dot_i8.h"

typedef struct GsConvI8 {
  int64_t N, C, O, group, H, W, OH, OW, KH, KW, SH, SW, DH, DW, PH, PW;  // P: padding at the beginning
  const uint8_t* x;             // (N,H,W,C), or (N,C,H,W) where planar; int8_t where signed
  int x_signed, planar;
  int32_t x_zero;               // where x_zero_at is NULL
  const uint8_t* x_zero_at;
  const void* w;                // packed: for each group panels of its columns over the window's segments;
                                // depthwise: int8 (KH*KW, O)
  const int32_t *sums, *w_zero; // (O) sums over the packed w; (O) what is left of its zero points, or NULL
  int32_t* y;                   // (N*OH*OW, O), written where there is no epilogue
  GsTileI32Fn epilogue;
  void* context;
  uint8_t* scratch;             // 4 * gs_conv_i8_scratch bytes, 64-byte aligned
} GsConvI8;

// The meaning, over w as it stands: (O,C/group,KH,KW) of signed bytes less their zero points.
GS_LOCAL void gs_conv_i8_plain(const GsConvI8* v, GsPool* pool) {
  (void)pool;
  int64_t Cg = v->C / v->group, Og = v->O / v->group;
  int32_t p = gs_zero_of(v->x_zero, v->x_zero_at, v->x_signed);
  const int8_t* w = v->w;
  for (int64_t at = 0; at < v->N * v->OH * v->OW; at++)
    for (int64_t o = 0; o < v->O; o++) {
      int64_t n = at / (v->OH * v->OW), oh = at / v->OW % v->OH, ow = at % v->OW;
      uint32_t sum = 0;
      for (int64_t c = 0; c < Cg; c++)
        for (int64_t t = 0; t < v->KH * v->KW; t++) {
          int64_t i = oh * v->SH + t / v->KW * v->DH - v->PH, j = ow * v->SW + t % v->KW * v->DW - v->PW;
          if (i < 0 || i >= v->H || j < 0 || j >= v->W) continue;
          int64_t channel = o / Og * Cg + c;
          const uint8_t* x = v->x + (v->planar ? ((n * v->C + channel) * v->H + i) * v->W + j
                                               : ((n * v->H + i) * v->W + j) * v->C + channel);
          sum += (uint32_t)((gs_byte(x, v->x_signed) - p)
                          * (w[(o * Cg + c) * v->KH * v->KW + t] - (v->w_zero ? v->w_zero[o] : 0)));
        }
      v->y[at * v->O + o] = (int32_t)sum;
    }
  if (v->epilogue)
    for (int64_t g = 0; g < v->group; g++) {
      int32_t row[64];
      for (int64_t at = 0; at < v->N * v->OH * v->OW; at++)
        for (int64_t o = 0; o < Og; o += 64) {
          int64_t cols = gs_min_i64(64, Og - o);
          memcpy(row, v->y + at * v->O + g * Og + o, (size_t)cols * 4);
          v->epilogue(v->context, row, 64, g, at, o, 1, cols);
        }
    }
}

// ---- the picture with what stands around it

typedef struct GsFrameI8 {
  const GsConvI8* v;
  const uint8_t* from;  // the picture to read, framed or as it was
  uint8_t* to;
  int64_t H, W, C;      // of `from`
  uint8_t fill;
} GsFrameI8;

GS_INLINE int64_t gs_reach(int64_t out, int64_t stride, int64_t kernel, int64_t dilation) {
  return (out - 1) * stride + (kernel - 1) * dilation + 1;
}
// The bytes that a step may read behind the last element.
#define GS_I8_SLACK 64

// Whether the window looks beyond the picture, or segments do not come in whole steps.
GS_INLINE int gs_framed_i8(const GsConvI8* v, int64_t length) {
  return v->PH > 0 || v->PW > 0 || gs_reach(v->OH, v->SH, v->KH, v->DH) - v->PH > v->H
      || gs_reach(v->OW, v->SW, v->KW, v->DW) - v->PW > v->W || length % GS_I8_STEP != 0;
}

GS_LOCAL void gs_frame_i8_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsFrameI8* f = arg;
  const GsConvI8* v = f->v;
  (void)thread;
  // One line of a picture, or of one plane of it.
  int64_t wide = v->planar ? 1 : v->C;
  int64_t left = gs_min_i64(gs_max_i64(v->PW, 0), f->W), skip = gs_max_i64(-v->PW, 0);
  int64_t inside = gs_max_i64(gs_min_i64(v->W - skip, f->W - left), 0);
  for (int64_t i = begin; i < end; i++) {
    int64_t plane = i / f->H, line = i % f->H - v->PH;
    uint8_t* to = f->to + i * f->W * wide;
    if (line < 0 || line >= v->H) {
      memset(to, f->fill, (size_t)(f->W * wide));
      continue;
    }
    memset(to, f->fill, (size_t)(left * wide));
    memcpy(to + left * wide, v->x + ((plane * v->H + line) * v->W + skip) * wide, (size_t)(inside * wide));
    memset(to + (left + inside) * wide, f->fill, (size_t)((f->W - left - inside) * wide));
  }
}

GS_INLINE int64_t gs_frame_i8_bytes(const GsConvI8* v) {
  return gs_round_up(v->N * gs_reach(v->OH, v->SH, v->KH, v->DH) * gs_reach(v->OW, v->SW, v->KW, v->DW) * v->C
                     + GS_I8_SLACK, 64);
}

GS_INLINE GsFrameI8 gs_frame_i8(const GsConvI8* v, int64_t length, uint8_t* room, GsPool* pool) {
  GsFrameI8 f = {.v = v, .from = v->x, .H = v->H, .W = v->W, .C = v->C,
                 .fill = (uint8_t)gs_zero_of(v->x_zero, v->x_zero_at, v->x_signed)};
  if (!gs_framed_i8(v, length)) {
    // Negative padding is a picture that begins later.
    f.from += v->planar ? -v->PH * v->W - v->PW : (-v->PH * v->W - v->PW) * v->C;
    return f;
  }
  f.H = gs_reach(v->OH, v->SH, v->KH, v->DH), f.W = gs_reach(v->OW, v->SW, v->KW, v->DW);
  f.from = f.to = room;
  int64_t lines = v->N * (v->planar ? v->C : 1) * f.H;
  memset(room + lines * f.W * (v->planar ? 1 : v->C), 0, GS_I8_SLACK);
  gs_parallel_for(lines * f.W * (v->planar ? 1 : v->C) < 100000 ? 0 : pool, lines, gs_frame_i8_task, &f);
  return f;
}

// ---- any groups

// The segments of a window: the lines of its planes, its lines, or its taps.
GS_INLINE int64_t gs_conv_i8_segments(const GsConvI8* v, int64_t* length) {
  if (v->planar) return *length = v->KW, v->C * v->KH;
  if (v->group == 1 && v->DW == 1) return *length = v->KW * v->C, v->KH;
  return *length = v->C / v->group, v->KH * v->KW;
}

typedef struct GsConvI8Run {
  const GsConvI8* v;
  GsI8Rows rows;
  GsFrameI8 frame;
  int64_t segments, length, block, m_parts, n_parts, n_step, work_bytes;
  int64_t* offsets;
  int32_t* init;
  uint8_t* work;
} GsConvI8Run;

GS_LOCAL void gs_conv_i8_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsConvI8Run* r = arg;
  const GsConvI8* v = r->v;
  int64_t Cg = v->C / v->group, Og = v->O / v->group, places = v->OH * v->OW, all = v->N * places;
  int64_t columns = gs_i8_columns(Og), panels = gs_ceil_div(Og, columns);
  int64_t panel = gs_i8_panel(columns, r->segments, r->length);
  int64_t wide = v->planar ? 1 : v->C;
  const uint8_t* rows[GS_I8_BLOCK];
  for (int64_t i = begin; i < end; i++) {
    int64_t group = i / (r->m_parts * r->n_parts), part = i % (r->m_parts * r->n_parts);
    int64_t m0 = part % r->m_parts * r->block, count = gs_min_i64(r->block, all - m0);
    int64_t n0 = part / r->m_parts * r->n_step, n1 = gs_min_i64(n0 + r->n_step, Og);
    int64_t n = m0 / places, oh = m0 / v->OW % v->OH, ow = m0 % v->OW;
    for (int64_t j = 0; j < count; j++) {
      rows[j] = r->frame.from + ((n * (v->planar ? v->C : 1) * r->frame.H + oh * v->SH) * r->frame.W + ow * v->SW) * wide
              + group * Cg;
      if (++ow == v->OW) {
        ow = 0;
        if (++oh == v->OH) oh = 0, n++;
      }
    }
    GsI8Rows now = r->rows;
    now.b = (const gs_i8_b*)((const uint8_t*)v->w + group * panels * panel);
    now.init = r->init + group * Og;
    now.q = v->w_zero ? v->w_zero + group * Og : 0;
    now.c = v->y + group * Og;
    gs_i8_rows(&now, group, m0, count, rows, n0, n1, r->work + thread * r->work_bytes);
  }
}

// Places whose windows go through the panels together: what they read stays in half of L2, as do their wide copies.
GS_INLINE int64_t gs_conv_i8_block(const GsConvI8* v) {
  int64_t each = GS_I8_STEP == 4 ? v->C * v->SH * v->SW : v->C / v->group * v->KH * v->KW * 2;
  int64_t fit = 200000 / gs_max_i64(each, 1) / GS_I8_MR * GS_I8_MR;
  return gs_min_i64(gs_max_i64(fit, GS_I8_MR), GS_I8_BLOCK);
}

GS_INLINE int64_t gs_conv_i8_work(const GsConvI8* v) {
  int64_t length, segments = gs_conv_i8_segments(v, &length);
  return gs_round_up(gs_i8_block_bytes(gs_conv_i8_block(v), segments, length), 64);
}

// 32-bit numbers of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_conv_i8_scratch(const GsConvI8* v, int threads) {
  int64_t length, segments = gs_conv_i8_segments(v, &length);
  return (threads * gs_conv_i8_work(v) + gs_round_up(v->O * 4, 64) + gs_round_up(segments * 8, 64)
          + (gs_framed_i8(v, length) ? gs_frame_i8_bytes(v) : 0)) / 4;
}

GS_LOCAL void gs_conv_i8(const GsConvI8* v, GsPool* pool) {
  int64_t all = v->N * v->OH * v->OW, Og = v->O / v->group;
  if (all <= 0 || v->O <= 0) return;
  GsConvI8Run r = {.v = v, .work_bytes = gs_conv_i8_work(v), .block = gs_conv_i8_block(v)};
  r.segments = gs_conv_i8_segments(v, &r.length);
  int64_t K = r.segments * r.length;
  if ((double)all * (double)v->O * (double)(K + 64) < 100000.0 * GS_W) pool = 0;
  int threads = gs_pool_size(pool);
  r.work = v->scratch;
  r.init = (int32_t*)(v->scratch + threads * r.work_bytes);
  r.offsets = (int64_t*)((uint8_t*)r.init + gs_round_up(v->O * 4, 64));
  r.frame = gs_frame_i8(v, r.length, (uint8_t*)r.offsets + gs_round_up(r.segments * 8, 64), pool);
  for (int64_t s = 0; s < r.segments; s++) {
    if (v->planar) r.offsets[s] = (s / v->KH * r.frame.H + s % v->KH * v->DH) * r.frame.W;
    else if (v->group == 1 && v->DW == 1) r.offsets[s] = s * v->DH * r.frame.W * v->C;
    else r.offsets[s] = (s / v->KW * v->DH * r.frame.W + s % v->KW * v->DW) * v->C;
  }
  int32_t p = gs_zero_of(v->x_zero, v->x_zero_at, v->x_signed) + gs_i8_shift(v->x_signed);
  gs_i8_start(r.init, v->O, K, p, v->sums, v->w_zero, 1);
  r.rows = (GsI8Rows){.walk = {r.segments, r.length, gs_ceil_div(r.length, GS_I8_STEP), r.offsets,
                               gs_i8_flip(v->x_signed)},
                      .q_step = 1, .N = Og, .ldc = v->O, .epilogue = v->epilogue, .context = v->context};
  int64_t panels = gs_ceil_div(Og, gs_i8_columns(Og)), wanted = gs_ceil_div(threads, v->group);
  r.block = gs_min_i64(r.block, gs_round_up(all, GS_I8_MR));
  r.m_parts = gs_ceil_div(all, r.block);
  r.n_parts = 1;
  if (wanted > 1 && all >= 4 * GS_I8_MR * wanted) {
    r.m_parts = gs_round_up(r.m_parts, wanted);
    r.block = gs_round_up(gs_ceil_div(all, r.m_parts), GS_I8_MR);
    r.m_parts = gs_ceil_div(all, r.block);
  } else {
    r.n_parts = gs_min_i64(panels, wanted);
  }
  r.n_step = gs_ceil_div(panels, r.n_parts) * gs_i8_columns(Og);
  r.n_parts = gs_ceil_div(Og, r.n_step);
  gs_parallel_for(pool, v->group * r.m_parts * r.n_parts, gs_conv_i8_task, &r);
}

// ---- each channel by itself

// Taps are taken four at a time, as the dot product wants them: four lines of one column of the window, or of flat
// windows two lines of two columns or one line of four. Such a group is the same for every window that it lies in, so
// the bytes of a line's groups are put side by side once, and windows beside each other share them.

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && GS_W == 16
#define GS_I8_FOURS 1
#define GS_I8_CHANNELS 64
#else
#define GS_I8_FOURS 0
#define GS_I8_CHANNELS 32
#endif
#define GS_I8_PLACES 8   // places in a row of the picture that go to the epilogue together
#define GS_I8_TAPS 64    // taps at the most
#define GS_I8_GROUPS 64  // groups of a line that are kept: more than the 24 into which 64 taps fall at the most

typedef struct GsDepthwiseI8Run {
  const GsConvI8* v;
  int32_t* init;
  uint8_t* fill;           // a line of the picture that is all padding
  uint8_t* weights;        // of blocks of channels: [down][across][vector][channel][tap]
  int64_t high, wide;      // lines and columns of a group: 4 and 1, 2 and 2, 1 and 4
  int64_t down, across;    // groups of a window
} GsDepthwiseI8Run;

GS_INLINE GsDepthwiseI8Run gs_depthwise_i8_of(const GsConvI8* v) {
  GsDepthwiseI8Run r = {.v = v, .high = v->KH > 2 ? 4 : v->KH};
  r.wide = 4 / r.high;
  r.down = gs_ceil_div(v->KH, r.high), r.across = gs_ceil_div(v->KW, r.wide);
  return r;
}

#if GS_I8_FOURS

// For vectors V of 64, 32 and 16 bytes, as many channels as the block needs and no more:
//   four    bytes of four taps side by side: vector j holds, in lane L and place d, the taps of channel 16 L + 4 j + d
//   lanes   of sums in that order the channels' own
//   groups  the groups at the columns `column` + i * `step` (i < count), one behind the other
//   sums    of a group's dot products, for places whose first groups lie `step` groups apart
#define GS_I8_WIDE(NAME, V, P, SI)                                                                                    \
GS_INLINE void gs_i8_four_##NAME(const V x[4], V out[4]) {                                                            \
  V a = P##_unpacklo_epi8(x[0], x[1]), b = P##_unpackhi_epi8(x[0], x[1]);                                             \
  V c = P##_unpacklo_epi8(x[2], x[3]), d = P##_unpackhi_epi8(x[2], x[3]);                                             \
  out[0] = P##_unpacklo_epi16(a, c), out[1] = P##_unpackhi_epi16(a, c);                                               \
  out[2] = P##_unpacklo_epi16(b, d), out[3] = P##_unpackhi_epi16(b, d);                                               \
}                                                                                                                     \
GS_INLINE void gs_i8_groups_##NAME(const GsDepthwiseI8Run* r, const uint8_t* const* lines, uint64_t mask,             \
                                   int64_t column, int64_t step, int64_t count, V* out) {                             \
  const GsConvI8* v = r->v;                                                                                           \
  const V flip = P##_set1_epi32((int)gs_i8_flip(v->x_signed));                                                        \
  for (int64_t i = 0; i < count; i++, column += step)                                                                 \
    for (int64_t g = 0; g < r->down; g++, out += 4) {                                                                 \
      V x[4];                                                                                                         \
      if (r->wide == 1) {                                                                                             \
        int out_of_it = column < 0 || column >= v->W;                                                                 \
        for (int t = 0; t < 4; t++)                                                                                   \
          x[t] = P##_maskz_loadu_epi8(mask, out_of_it ? r->fill : lines[g * 4 + t] + column * v->C);                  \
      } else {                                                                                                        \
        for (int64_t t = 0; t < 4; t++) {                                                                             \
          int64_t w = column + t % r->wide * v->DW;                                                                   \
          x[t] = P##_maskz_loadu_epi8(mask, w < 0 || w >= v->W ? r->fill                                              \
                                                               : lines[g * r->high + t / r->wide] + w * v->C);        \
        }                                                                                                             \
      }                                                                                                               \
      for (int t = 0; t < 4; t++) x[t] = P##_xor_##SI(x[t], flip);                                                    \
      gs_i8_four_##NAME(x, out);                                                                                      \
    }                                                                                                                 \
}                                                                                                                     \
GS_INLINE void gs_i8_sums_##NAME(const int groups, const V* from, const int64_t* where, int64_t step, const V* w,     \
                                 const int32_t* init, int64_t count, int32_t* tile, int64_t ldt) {                    \
  V start[4];                                                                                                         \
  for (int j = 0; j < 4; j++) start[j] = P##_loadu_##SI((const void*)(init + j * (int)(sizeof(V) / 4)));              \
  gs_i8_unlanes_##NAME(start);                                                                                        \
  for (int64_t i = 0; i < count; i++, from += step) {                                                                 \
    V sum[4] = {start[0], start[1], start[2], start[3]};                                                              \
    _Pragma("GCC unroll 4") for (int g = 0; g < groups; g++)                                                          \
      for (int j = 0; j < 4; j++) sum[j] = P##_dpbusd_epi32(sum[j], from[where[g] + j], w[4 * g + j]);                \
    gs_i8_lanes_##NAME(sum);                                                                                          \
    for (int j = 0; j < 4; j++) P##_storeu_##SI((void*)(tile + i * ldt + j * (int)(sizeof(V) / 4)), sum[j]);          \
  }                                                                                                                   \
}

GS_INLINE void gs_i8_lanes_64(__m512i v[4]) {
  __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xEE);
  __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xEE);
  v[0] = _mm512_shuffle_i32x4(a, c, 0x88), v[1] = _mm512_shuffle_i32x4(a, c, 0xDD);
  v[2] = _mm512_shuffle_i32x4(b, d, 0x88), v[3] = _mm512_shuffle_i32x4(b, d, 0xDD);
}
// Its own inverse.
GS_INLINE void gs_i8_unlanes_64(__m512i v[4]) { gs_i8_lanes_64(v); }
GS_INLINE void gs_i8_lanes_32(__m256i v[4]) {
  __m256i a = v[0], b = v[1], c = v[2], d = v[3];
  v[0] = _mm256_permute2x128_si256(a, b, 0x20), v[1] = _mm256_permute2x128_si256(c, d, 0x20);
  v[2] = _mm256_permute2x128_si256(a, b, 0x31), v[3] = _mm256_permute2x128_si256(c, d, 0x31);
}
GS_INLINE void gs_i8_unlanes_32(__m256i v[4]) {
  __m256i a = v[0], b = v[1], c = v[2], d = v[3];
  v[0] = _mm256_permute2x128_si256(a, c, 0x20), v[1] = _mm256_permute2x128_si256(a, c, 0x31);
  v[2] = _mm256_permute2x128_si256(b, d, 0x20), v[3] = _mm256_permute2x128_si256(b, d, 0x31);
}
GS_INLINE void gs_i8_lanes_16(__m128i v[4]) { (void)v; }
GS_INLINE void gs_i8_unlanes_16(__m128i v[4]) { (void)v; }

GS_I8_WIDE(64, __m512i, _mm512, si512)
GS_I8_WIDE(32, __m256i, _mm256, si256)
GS_I8_WIDE(16, __m128i, _mm, si128)

// Bytes of the vectors for that many channels.
GS_INLINE int64_t gs_i8_vector(int64_t channels) { return channels > 32 ? 64 : channels > 16 ? 32 : 16; }

// The weights of the channels from c0 on, or (`ones`) a 1 for every tap, in the order of the groups.
GS_LOCAL void gs_depthwise_i8_pack(const GsDepthwiseI8Run* r, int64_t c0, int ones, uint8_t* out) {
  const GsConvI8* v = r->v;
  int64_t channels = gs_min_i64(GS_I8_CHANNELS, v->O - c0), vector = gs_i8_vector(channels);
  uint64_t mask = ~0ull >> (64 - channels);
  for (int64_t g = 0; g < r->down * r->across; g++, out += 4 * vector) {
    __m512i x[4];
    for (int64_t t = 0; t < 4; t++) {
      int64_t kh = g / r->across * r->high + t / r->wide, kw = g % r->across * r->wide + t % r->wide;
      x[t] = kh >= v->KH || kw >= v->KW ? _mm512_setzero_si512() : ones ? _mm512_set1_epi8(1)
           : _mm512_maskz_loadu_epi8(mask, (const int8_t*)v->w + (kh * v->KW + kw) * v->O + c0);
    }
#define GS_I8_PACK(NAME, V, CAST)                                              \
  {                                                                            \
    V few[4] = {CAST(x[0]), CAST(x[1]), CAST(x[2]), CAST(x[3])};               \
    gs_i8_four_##NAME(few, (V*)(void*)out);                                    \
  }
    if (vector == 64) gs_i8_four_64(x, (__m512i*)(void*)out);
    else if (vector == 32) GS_I8_PACK(32, __m256i, _mm512_castsi512_si256)
    else GS_I8_PACK(16, __m128i, _mm512_castsi512_si128)
#undef GS_I8_PACK
  }
}

#endif

// Bytes of the weights of all blocks of channels; none where they are read as they are.
GS_INLINE int64_t gs_depthwise_i8_packed(const GsDepthwiseI8Run* r) {
  return GS_I8_FOURS ? gs_ceil_div(r->v->O, GS_I8_CHANNELS) * r->down * r->across * 256 : 0;
}

// `count` places of a line, GS_I8_PLACES at the most, for the channels from c0 on: the sums into rows of `tile`, which
// are written whole vectors at a time, and (`seen`, not NULL) of what the windows hold.
GS_INLINE void gs_depthwise_i8_places(const GsDepthwiseI8Run* r, const uint8_t* const* lines, int64_t c0, int64_t ow,
                                      int64_t count, int32_t* tile, int32_t* seen) {
  const GsConvI8* v = r->v;
  int64_t cols = gs_min_i64(GS_I8_CHANNELS, v->O - c0);
#if GS_I8_FOURS
  // Columns of the picture that the windows read; where few of them are wanted, those of one window after the other.
  int64_t span = (r->across - 1) * r->wide * v->DW + 1, columns = (count - 1) * v->SW + span, few = count;
  int64_t groups = r->down * r->across, apart = 1, between = r->wide * v->DW;
  if (columns * r->down > GS_I8_GROUPS || columns > count * r->across)
    few = 1, columns = r->across, apart = between, between = 1;
  uint64_t mask = ~0ull >> (64 - cols);
  int64_t where[GS_I8_TAPS];
  for (int64_t g = 0; g < groups; g++) where[g] = (g % r->across * between * r->down + g / r->across) * 4;
  int32_t init[GS_I8_CHANNELS] = {0}, none[GS_I8_CHANNELS] = {0};
  memcpy(init, r->init + c0, (size_t)cols * 4);
  _Alignas(64) uint8_t room[GS_I8_GROUPS * 256], ones[GS_I8_TAPS * 256];
  const uint8_t* weights = r->weights + c0 / GS_I8_CHANNELS * groups * 256;
  if (seen) gs_depthwise_i8_pack(r, c0, 1, ones);
#define GS_I8_RUN(NAME, V)                                                                                            \
  for (int64_t i = 0; i < count; i += few) {                                                                          \
    V* from = (V*)(void*)room;                                                                                        \
    gs_i8_groups_##NAME(r, lines, mask, (ow + i) * v->SW - v->PW, apart, columns, from);                              \
    if (groups == 3) gs_i8_sums_##NAME(3, from, where, v->SW * r->down * 4, (const V*)(const void*)weights, init, few,\
                                       tile + i * cols, cols);                                                        \
    else gs_i8_sums_##NAME((int)groups, from, where, v->SW * r->down * 4, (const V*)(const void*)weights, init, few,  \
                           tile + i * cols, cols);                                                                    \
    if (seen) gs_i8_sums_##NAME((int)groups, from, where, v->SW * r->down * 4, (const V*)(const void*)ones, none,     \
                                few, seen + i * cols, cols);                                                          \
  }
  if (gs_i8_vector(cols) == 64) { GS_I8_RUN(64, __m512i) }
  else if (gs_i8_vector(cols) == 32) { GS_I8_RUN(32, __m256i) }
  else { GS_I8_RUN(16, __m128i) }
#undef GS_I8_RUN
#else
  const uint8_t flip = (uint8_t)gs_i8_flip(v->x_signed);
  for (int64_t i = 0; i < count; i++) {
    int32_t *restrict sum = tile + i * cols, *restrict all = seen + i * cols;
    for (int64_t c = 0; c < cols; c++) sum[c] = r->init[c0 + c];
    if (seen) memset(all, 0, (size_t)cols * 4);
    for (int64_t kh = 0; kh < v->KH; kh++)
      for (int64_t kw = 0; kw < v->KW; kw++) {
        int64_t at = (ow + i) * v->SW - v->PW + kw * v->DW;
        const uint8_t* restrict x = at < 0 || at >= v->W ? r->fill : lines[kh] + at * v->C;
        const int8_t* restrict f = (const int8_t*)v->w + (kh * v->KW + kw) * v->O + c0;
#if GS_I8_SIGNED
        for (int64_t c = 0; c < cols; c++) sum[c] += (int8_t)(x[c] ^ flip) * f[c];
        if (seen) for (int64_t c = 0; c < cols; c++) all[c] += (int8_t)(x[c] ^ flip);
#else
        for (int64_t c = 0; c < cols; c++) sum[c] += (uint8_t)(x[c] ^ flip) * f[c];
        if (seen) for (int64_t c = 0; c < cols; c++) all[c] += (uint8_t)(x[c] ^ flip);
#endif
      }
  }
#endif
}

// One line of the result for one block of channels.
GS_LOCAL void gs_depthwise_i8_line(const GsDepthwiseI8Run* r, int64_t n, int64_t oh, int64_t c0) {
  const GsConvI8* v = r->v;
  int64_t cols = gs_min_i64(GS_I8_CHANNELS, v->O - c0);
  // Rows one behind the other.
  int32_t tile[GS_I8_PLACES * GS_I8_CHANNELS + GS_I8_CHANNELS] __attribute__((aligned(64)));
  int32_t seen[GS_I8_PLACES * GS_I8_CHANNELS + GS_I8_CHANNELS] __attribute__((aligned(64)));
  const uint8_t* lines[GS_I8_TAPS + 4];
  for (int64_t kh = 0; kh < r->down * r->high; kh++) {
    int64_t h = oh * v->SH - v->PH + kh * v->DH;
    lines[kh] = (kh >= v->KH || h < 0 || h >= v->H ? r->fill : v->x + (n * v->H + h) * v->W * v->C) + c0;
  }
  for (int64_t ow = 0; ow < v->OW; ow += GS_I8_PLACES) {
    int64_t count = gs_min_i64(GS_I8_PLACES, v->OW - ow), m = (n * v->OH + oh) * v->OW + ow;
    gs_depthwise_i8_places(r, lines, c0, ow, count, tile, v->w_zero ? seen : 0);
    if (v->w_zero)
      for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < cols; c++) tile[i * cols + c] -= v->w_zero[c0 + c] * seen[i * cols + c];
    if (v->epilogue) v->epilogue(v->context, tile, cols, 0, m, c0, count, cols);
    else
      for (int64_t i = 0; i < count; i++)
        memcpy(v->y + (m + i) * v->O + c0, tile + i * cols, (size_t)cols * 4);
  }
}

GS_LOCAL void gs_depthwise_i8_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsDepthwiseI8Run* r = arg;
  int64_t blocks = gs_ceil_div(r->v->O, GS_I8_CHANNELS);
  (void)thread;
  for (int64_t i = begin; i < end; i++)
    gs_depthwise_i8_line(r, i / blocks / r->v->OH, i / blocks % r->v->OH, i % blocks * GS_I8_CHANNELS);
}

GS_LOCAL int64_t gs_depthwise_i8_scratch(const GsConvI8* v, int threads) {
  GsDepthwiseI8Run r = gs_depthwise_i8_of(v);
  (void)threads;
  return (gs_round_up(v->O * 4, 64) + gs_depthwise_i8_packed(&r) + gs_round_up(v->W * v->C, 64)) / 4;
}

// At most GS_I8_TAPS taps.
GS_LOCAL void gs_depthwise_i8(const GsConvI8* v, GsPool* pool) {
  if (v->N * v->OH * v->OW <= 0 || v->O <= 0) return;
  if ((double)v->N * (double)(v->OH * v->OW * v->O) * (double)(v->KH * v->KW) < 12000.0 * GS_W) pool = 0;
  GsDepthwiseI8Run r = gs_depthwise_i8_of(v);
  r.init = (int32_t*)v->scratch;
  r.weights = v->scratch + gs_round_up(v->O * 4, 64);
  r.fill = r.weights + gs_depthwise_i8_packed(&r);
  memset(r.fill, gs_zero_of(v->x_zero, v->x_zero_at, v->x_signed), (size_t)(v->W * v->C));
  int32_t p = gs_zero_of(v->x_zero, v->x_zero_at, v->x_signed) + gs_i8_shift(v->x_signed);
  gs_i8_start(r.init, v->O, v->KH * v->KW, p, v->sums, v->w_zero, 1);
#if GS_I8_FOURS
  for (int64_t c0 = 0; c0 < v->O; c0 += GS_I8_CHANNELS)
    gs_depthwise_i8_pack(&r, c0, 0, r.weights + c0 / GS_I8_CHANNELS * r.down * r.across * 256);
#endif
  gs_parallel_for(pool, v->N * v->OH * gs_ceil_div(v->O, GS_I8_CHANNELS), gs_depthwise_i8_task, &r);
}

// ---- the maximum over windows

typedef struct GsWindowI8 {
  int64_t N, C, H, W, OH, OW, KH, KW, SH, SW, DH, DW, PH, PW;
  const uint8_t* x;  // (N,H,W,C)
  int x_signed;
  uint8_t* y;        // (N,OH,OW,C); a window without an element gives the least number
} GsWindowI8;

GS_LOCAL void gs_window_i8_plain(const GsWindowI8* v, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < v->N * v->OH * v->OW * v->C; i++) {
    int64_t c = i % v->C, ow = i / v->C % v->OW, oh = i / v->C / v->OW % v->OH, n = i / v->C / v->OW / v->OH;
    int32_t best = v->x_signed ? -128 : 0;
    for (int64_t t = 0; t < v->KH * v->KW; t++) {
      int64_t h = oh * v->SH + t / v->KW * v->DH - v->PH, w = ow * v->SW + t % v->KW * v->DW - v->PW;
      if (h < 0 || h >= v->H || w < 0 || w >= v->W) continue;
      int32_t x = gs_byte(v->x + ((n * v->H + h) * v->W + w) * v->C + c, v->x_signed);
      if (x > best) best = x;
    }
    v->y[i] = (uint8_t)best;
  }
}

GS_INLINE void gs_larger_i8(uint8_t* restrict y, const uint8_t* restrict x, int64_t n, int is_signed) {
  if (is_signed) for (int64_t i = 0; i < n; i++) y[i] = (int8_t)x[i] > (int8_t)y[i] ? x[i] : y[i];
  else for (int64_t i = 0; i < n; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

GS_LOCAL void gs_window_i8_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsWindowI8* v = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = i / v->OH, oh = i % v->OH;
    for (int64_t ow = 0; ow < v->OW; ow++) {
      uint8_t* y = v->y + (i * v->OW + ow) * v->C;
      memset(y, v->x_signed ? 0x80 : 0, (size_t)v->C);
      for (int64_t kh = 0; kh < v->KH; kh++) {
        int64_t h = oh * v->SH + kh * v->DH - v->PH;
        if (h < 0 || h >= v->H) continue;
        for (int64_t kw = 0; kw < v->KW; kw++) {
          int64_t w = ow * v->SW + kw * v->DW - v->PW;
          if (w >= 0 && w < v->W) gs_larger_i8(y, v->x + ((n * v->H + h) * v->W + w) * v->C, v->C, v->x_signed);
        }
      }
    }
  }
}

GS_LOCAL void gs_window_i8(const GsWindowI8* v, GsPool* pool) {
  if (v->N * v->OH * v->OW * v->C <= 0) return;
  gs_parallel_for(v->N * v->OH * v->OW * v->C * v->KH * v->KW < 200000 ? 0 : pool, v->N * v->OH, gs_window_i8_task,
                  (void*)v);
}
