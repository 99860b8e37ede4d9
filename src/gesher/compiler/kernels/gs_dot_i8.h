// Rows of bytes times panels of bytes, summed in 32 bits: what integer products and convolutions stand on.
//
// sum over k of (a[k] - p)(b[k] - q) = sum(ab) - p sum(b) - q sum(a) + K p q, so zero points cost nothing inside: sums
// over b are known with the weights, and q is mostly 0. Processors multiply unsigned by signed bytes (x86) or signed by
// signed (NEON); a is turned into what they want by flipping its highest bit, which moves its zero by 128, and b is
// always packed signed.
//
// A row is not one run of bytes but `segments` of them, each at its own distance from the row's pointer: the lines of a
// convolution's window, which are read where they lie in the picture. A segment is read in steps of GS_I8_STEP bytes;
// what stands behind its end meets zeros of b.
//
// GS_I8_STEP 4: AVX512-VNNI, AVX-VNNI, NEON's dot product. Elsewhere 2: bytes are widened to 16 bits, of which two
// products are added without any chance of saturation.

#include "gs_pool.h"
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

// The rectangle C[m .. m+rows, n .. n+cols] of the matrix `batch` is finished and lies at `c`, rows `ldc` apart.
typedef void (*GsTileI32Fn)(void* context, int32_t* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                            int64_t cols);

GS_INLINE int32_t gs_byte(const uint8_t* p, int is_signed) { return is_signed ? (int8_t)*p : *p; }
// A zero point: a number, or a byte in memory.
GS_INLINE int32_t gs_zero_of(int32_t number, const uint8_t* at, int is_signed) {
  return at ? gs_byte(at, is_signed) : number;
}

// gs_dot_i8(sum, a, b): each 32-bit lane gets the dot product of its part of a and b.
#if (defined(__AVX512VNNI__) && GS_W == 16) || ((defined(__AVXVNNI__) || defined(__AVX512VNNI__)) && GS_W == 8)
#define GS_I8_STEP 4
GS_INLINE gs_vi gs_dot_i8(gs_vi sum, gs_vi a, gs_vi b) {
#if GS_W == 16
  return (gs_vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVXVNNI__)
  return (gs_vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#else
  return (gs_vi)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#endif
}
#elif defined(__ARM_FEATURE_DOTPROD)
#define GS_I8_STEP 4
#define GS_I8_SIGNED 1
GS_INLINE gs_vi gs_dot_i8(gs_vi sum, gs_vi a, gs_vi b) {
  return (gs_vi)vdotq_s32((int32x4_t)sum, (int8x16_t)a, (int8x16_t)b);
}
#else
#define GS_I8_STEP 2
GS_INLINE gs_vi gs_dot_i8(gs_vi sum, gs_vi a, gs_vi b) {
#if defined(__AVX512BW__) && GS_W == 16
  return sum + (gs_vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && GS_W == 8
  return sum + (gs_vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && GS_W == 4
  return sum + (gs_vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  // The low and the high half of each lane, sign-extended.
  return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}
#endif

#ifndef GS_I8_SIGNED
#define GS_I8_SIGNED 0
#endif
#if GS_I8_STEP == 4
typedef uint8_t gs_i8_a;  // as it lies in memory; flipped on the way
typedef int8_t gs_i8_b;
#else
typedef int16_t gs_i8_a;
typedef int16_t gs_i8_b;
#endif

// What is added to a (and so to its zero point) to make it what gs_dot_i8 wants, and the same as a flip of bits.
GS_INLINE int32_t gs_i8_shift(int is_signed) { return (is_signed ? 128 : 0) - (GS_I8_SIGNED ? 128 : 0); }
GS_INLINE uint32_t gs_i8_flip(int is_signed) { return gs_i8_shift(is_signed) ? 0x80808080u : 0; }

#define GS_I8_MR 6
#if GS_W == 16 || defined(__aarch64__)
#define GS_I8_NV 4
#else
#define GS_I8_NV 2
#endif
#define GS_I8_NR (GS_I8_NV * GS_W)
// Columns of a panel of N columns in all: a width that divides them where there is one, so that no tile is cut.
GS_INLINE int64_t gs_i8_columns(int64_t N) {
  if (N < GS_I8_NR) return gs_round_up(gs_max_i64(N, 1), GS_W);
  for (int nv = GS_I8_NV; nv > 1; nv--)
    if (N % (nv * GS_W) == 0) return nv * GS_W;
  return GS_I8_NR;
}

// How the rows of one product are read.
typedef struct GsI8Walk {
  int64_t segments, length, steps;  // bytes of a segment, and steps of GS_I8_STEP that cover them
  const int64_t* offsets;           // where each segment begins, from the row's pointer
  uint32_t flip;
} GsI8Walk;

// Bytes of one panel: [segment][step][column][GS_I8_STEP].
GS_INLINE int64_t gs_i8_panel(int64_t columns, int64_t segments, int64_t length) {
  return segments * gs_ceil_div(length, GS_I8_STEP) * GS_I8_STEP * columns * (int64_t)sizeof(gs_i8_b);
}

// Rows of `out` lie `ldo` apart and are written whole vectors at a time, so that each may spill into the next.
GS_INLINE void gs_i8_micro(const int rows, const int nv, const GsI8Walk* w, const gs_i8_a* const* a, const gs_i8_b* b,
                           int64_t line, const int32_t* init, int32_t* out, int64_t ldo) {
  gs_vi sum[GS_I8_MR][GS_I8_NV];
  const gs_vi flip = gs_splat_i((int32_t)w->flip);
  const int64_t steps = w->steps;
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) sum[i][j] = *(const gs_vi_u*)(init + j * GS_W);
  for (int64_t s = 0; s < w->segments; s++) {
    const gs_i8_a* p[GS_I8_MR];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) p[i] = a[i] + w->offsets[s];
    for (int64_t k = 0; k < steps; k++, b += line) {
      gs_vi v[GS_I8_NV];
#pragma GCC unroll 4
      for (int j = 0; j < nv; j++) v[j] = *(const gs_vi_u*)(b + j * GS_W * GS_I8_STEP);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        int32_t few;
        memcpy(&few, p[i] + k * GS_I8_STEP, 4);
        gs_vi x = gs_splat_i(few);
#if GS_I8_STEP == 4
        x ^= flip;
#endif
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) sum[i][j] = gs_dot_i8(sum[i][j], x, v[j]);
      }
    }
  }
  (void)flip;
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) *(gs_vi_u*)(out + i * ldo + j * GS_W) = sum[i][j];
}

#define GS_I8_ROWS(nv)                                                         \
  switch (rows) {                                                              \
    case 1: gs_i8_micro(1, nv, w, a, b, line, init, out, ldo); break;          \
    case 2: gs_i8_micro(2, nv, w, a, b, line, init, out, ldo); break;          \
    case 3: case 4: gs_i8_micro(4, nv, w, a, b, line, init, out, ldo); break;  \
    default: gs_i8_micro(GS_I8_MR, nv, w, a, b, line, init, out, ldo);         \
  }

// `rows` rows (GS_I8_MR pointers, the ones too many being copies of another) times the first `cols` columns of a panel
// whose steps lie `line` numbers apart; `out` has room for GS_I8_TILE.
#define GS_I8_TILE (GS_I8_MR * GS_I8_NR + GS_W)
GS_NOINLINE void gs_i8_tile(int64_t rows, int64_t cols, const GsI8Walk* w, const gs_i8_a* const* a, const gs_i8_b* b,
                            int64_t line, const int32_t* init, int32_t* out, int64_t ldo) {
  switch ((cols + GS_W - 1) / GS_W) {
    case 1: GS_I8_ROWS(1) break;
#if GS_I8_NV == 4
    case 2: GS_I8_ROWS(2) break;
    case 3: GS_I8_ROWS(3) break;
#endif
    default: GS_I8_ROWS(GS_I8_NV)
  }
}

// The sum of a row's bytes, flipped, without what stands behind its segments.
GS_INLINE int32_t gs_i8_row_sum(const GsI8Walk* w, const uint8_t* row) {
  int32_t sum = 0;
  const uint8_t flip = (uint8_t)w->flip;
  for (int64_t s = 0; s < w->segments; s++) {
    const uint8_t* p = row + w->offsets[s];
#if GS_I8_SIGNED
    for (int64_t k = 0; k < w->length; k++) sum += (int8_t)(p[k] ^ flip);
#else
    for (int64_t k = 0; k < w->length; k++) sum += (uint8_t)(p[k] ^ flip);
#endif
  }
  return sum;
}

// What sums start from: -p sum(b) + K p q for each column. `sums` are over the packed b.
GS_LOCAL void gs_i8_start(int32_t* init, int64_t N, int64_t K, int32_t p, const int32_t* sums, const int32_t* q,
                          int64_t q_step) {
  for (int64_t n = 0; n < N; n++)
    // Unsigned, because it may wrap around on the way and comes back.
    init[n] = (int32_t)((uint32_t)K * (uint32_t)p * (uint32_t)(q ? q[n * q_step] : 0) - (uint32_t)p * (uint32_t)sums[n]);
}

#if GS_I8_STEP == 2
// A row widened to 16 bits, its segments one behind the other.
GS_INLINE void gs_i8_widen(const GsI8Walk* w, const uint8_t* row, int16_t* to) {
  const uint8_t flip = (uint8_t)w->flip;
  for (int64_t s = 0; s < w->segments; s++, to += w->steps * 2) {
    const uint8_t* p = row + w->offsets[s];
    for (int64_t k = 0; k < w->length; k++) to[k] = (uint8_t)(p[k] ^ flip);
    if (w->length % 2) to[w->length] = 0;
  }
}
#endif

// A product whose rows are pointers: C[m, n] = start[n] + row(m) . panel column n - q[n] * (sum of row m).
typedef struct GsI8Rows {
  GsI8Walk walk;
  const gs_i8_b* b;
  const int32_t *init, *q;    // q: NULL where it is 0
  int64_t q_step, N, ldc;
  int32_t* c;                 // where there is no epilogue: C[0, 0]
  GsTileI32Fn epilogue;
  void* context;
} GsI8Rows;

// 16-bit numbers of scratch that a block of rows needs.
GS_INLINE int64_t gs_i8_block_bytes(int64_t rows, int64_t segments, int64_t length) {
  return GS_I8_STEP == 4 ? 0 : gs_round_up(rows, GS_I8_MR) * segments * gs_round_up(length, 2) * 2;
}

// The rows m0 .. m0 + count (at most GS_I8_BLOCK) at `rows`, columns n0 .. n1 (n0 where a panel begins). Tiles are as
// wide as a panel, or what is left, and their rows lie one behind the other.
#define GS_I8_BLOCK 192
GS_LOCAL void gs_i8_rows(const GsI8Rows* r, int64_t batch, int64_t m0, int64_t count, const uint8_t* const* rows,
                         int64_t n0, int64_t n1, uint8_t* scratch) {
  int32_t tile[GS_I8_TILE] __attribute__((aligned(64))), init[GS_I8_NR], sums[GS_I8_BLOCK];
  const gs_i8_a* at[GS_I8_BLOCK + GS_I8_MR];
  const GsI8Walk* w = &r->walk;
#if GS_I8_STEP == 2
  GsI8Walk flat = {1, w->segments * w->steps * 2, w->segments * w->steps, (const int64_t[]){0}, 0};
  int16_t* flat_rows = (int16_t*)scratch;
  for (int64_t i = 0; i < count; i++) {
    gs_i8_widen(w, rows[i], flat_rows + i * flat.length);
    at[i] = flat_rows + i * flat.length;
  }
#else
  (void)scratch;
  for (int64_t i = 0; i < count; i++) at[i] = rows[i];
#endif
  for (int64_t i = count; i < count + GS_I8_MR; i++) at[i] = at[count - 1];
  if (r->q) for (int64_t i = 0; i < count; i++) sums[i] = gs_i8_row_sum(w, rows[i]);
#if GS_I8_STEP == 2
  w = &flat;
#endif
  int64_t wide = gs_i8_columns(r->N), line = wide * GS_I8_STEP;
  int64_t panel = gs_i8_panel(wide, r->walk.segments, r->walk.length) / (int64_t)sizeof(gs_i8_b);
  for (int64_t n = n0; n < n1; n += wide) {
    int64_t cols = gs_min_i64(wide, n1 - n);
    const int32_t* start = r->init + n;
    if (cols % GS_W) {
      memcpy(init, start, (size_t)cols * 4);
      memset(init + cols, 0, (size_t)(GS_I8_NR - cols) * 4);
      start = init;
    }
    for (int64_t i = 0; i < count; i += GS_I8_MR) {
      int64_t few = gs_min_i64(GS_I8_MR, count - i);
      gs_i8_tile(few, cols, w, at + i, r->b + n / wide * panel, line, start, tile, cols);
      if (r->q)
        for (int64_t j = 0; j < few; j++)
          for (int64_t l = 0; l < cols; l++)
            tile[j * cols + l] =
                (int32_t)((uint32_t)tile[j * cols + l] - (uint32_t)r->q[(n + l) * r->q_step] * (uint32_t)sums[i + j]);
      if (r->epilogue) r->epilogue(r->context, tile, cols, batch, m0 + i, n, few, cols);
      else
        for (int64_t j = 0; j < few; j++)
          memcpy(r->c + (m0 + i + j) * r->ldc + n, tile + j * cols, (size_t)cols * 4);
    }
  }
}
