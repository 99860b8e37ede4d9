// Products of floats rounded to bfloat16, two at a time, summed in float: what the bf16 kernels stand on.
//
// A bfloat16 is the upper half of a float. Rounding is to the nearest, ties to even; NaN stays NaN, what is beyond the
// largest becomes infinite. A product of two is exact in float, so only the order of sums tells processors with an
// instruction for it (AVX512-BF16, NEON's) from the others, and that these take numbers below 2^-126 for 0.
//
// Numbers lie in pairs that share a product's lane: an int32_t holds neighbours of k, the first in its lower half.

#include "gs_pool.h"
#include "gs_convert.h"
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>
#endif

typedef uint32_t gs_bf16_u __attribute__((vector_size(GS_W * 4)));
typedef uint16_t gs_bf16_h __attribute__((vector_size(GS_W * 2)));
typedef uint16_t gs_bf16_h_u __attribute__((vector_size(GS_W * 2), aligned(2), may_alias));

#if defined(__AVX512BF16__) && GS_W == 16
#define GS_BF16 1
#else
#define GS_BF16 0
#endif

// Each lane of `sum` plus the two products of its pairs.
GS_INLINE gs_vf gs_bf16_dot(gs_vf sum, gs_vi a, gs_vi b) {
#if GS_BF16
  return (gs_vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && GS_W == 4
  return (gs_vf)vbfdotq_f32((float32x4_t)sum, (bfloat16x8_t)a, (bfloat16x8_t)b);
#else
  sum += (gs_vf)((gs_bf16_u)a & 0xffff0000u) * (gs_vf)((gs_bf16_u)b & 0xffff0000u);
  return sum + (gs_vf)((gs_bf16_u)a << 16) * (gs_vf)((gs_bf16_u)b << 16);
#endif
}

// Floats with the bits of the nearest bfloat16 in their upper halves, anything in their lower ones.
GS_INLINE gs_bf16_u gs_bf16_rounded(gs_vf x) {
  gs_bf16_u u = (gs_bf16_u)x, even = (u >> 16) & 1;
  gs_bf16_u nan = (gs_bf16_u)(x != x);  // carrying over would make an infinity of it, or a number
  return (nan & (u | 0x00400000u)) | (~nan & (u + 0x7fffu + even));
}

// GS_W floats as GS_W neighbours in memory.
GS_INLINE gs_bf16_h gs_bf16_of(gs_vf x) {
#if GS_BF16
  return (gs_bf16_h)_mm512_cvtneps_pbh((__m512)x);
#else
  return __builtin_convertvector(gs_bf16_rounded(x) >> 16, gs_bf16_h);
#endif
}
GS_INLINE void gs_bf16_store(uint16_t* to, gs_vf x) { *(gs_bf16_h_u*)to = gs_bf16_of(x); }

// Lane by lane the pair of x and the y behind it.
GS_INLINE gs_vi gs_bf16_pairs(gs_vf x, gs_vf y) {
#if GS_BF16
  const __m512i places = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                          23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (gs_vi)_mm512_permutexvar_epi16(places, (__m512i)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x));
#else
  return (gs_vi)((gs_bf16_rounded(x) >> 16) | (gs_bf16_rounded(y) & 0xffff0000u));
#endif
}
GS_INLINE int32_t gs_bf16_pair(float x, float y) {
  return (int32_t)((uint32_t)gs_bf16_of_f32(x) | (uint32_t)gs_bf16_of_f32(y) << 16);
}

// n numbers, `step` apart, times `scale`, as pairs side by side, the last filled up with 0.
GS_INLINE void gs_bf16_row(const float* x, int64_t step, int64_t n, float scale, int32_t* to) {
  int64_t k = 0;
  if (step == 1) {
    for (; k + GS_W <= n; k += GS_W) gs_bf16_store((uint16_t*)to + k, gs_load(x + k) * scale);
    // A vector beyond the end is 0 there, and so is what fills up the last pair.
    if (k < n) {
      gs_vf rest = gs_load_n(x + k, n - k) * scale;
      uint16_t lanes[GS_W];
      gs_bf16_store(lanes, rest);
      memcpy((uint16_t*)to + k, lanes, (size_t)gs_round_up(n - k, 2) * sizeof(uint16_t));
    }
    return;
  }
  for (; k + 2 <= n; k += 2) to[k / 2] = gs_bf16_pair(x[k * step] * scale, x[(k + 1) * step] * scale);
  if (k < n) to[k / 2] = gs_bf16_pair(x[k * step] * scale, 0);
}

GS_INLINE float gs_bf16_once(float x) { return gs_f32_of_bf16(gs_bf16_of_f32(x)); }
