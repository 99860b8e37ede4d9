// float16, bfloat16 and the float8 family to and from float, by integer arithmetic: right on every machine, no library.
// Rounding is to nearest, ties to even; NaN stays NaN. Loops over arrays become vector code.

#include "gs_math.h"

GS_INLINE float gs_f32_of_bf16(uint16_t h) { return gs_float((int32_t)((uint32_t)h << 16)); }

GS_INLINE uint16_t gs_bf16_of_f32(float x) {
  uint32_t u = (uint32_t)gs_bits(x);
  uint32_t rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16;
  // A NaN with low bits alone would round to infinity.
  return (uint16_t)(x != x ? ((u >> 16) | 0x40) : rounded);
}

#if defined(__F16C__) && defined(__clang__)
// One instruction does it, either way; a NaN keeps the bits that fit.
//
// The bits that are masked are 0. A compiler that saw a half behind the float would round doubles, computed from it, to
// half at once, by a function (__truncdfhf2) that nothing here has.
GS_INLINE float gs_f32_of_f16(uint16_t h) {
  _Float16 x;
  memcpy(&x, &h, 2);
  return gs_float((int32_t)((uint32_t)gs_bits((float)x) & 0xFFFFE000u));
}
GS_INLINE uint16_t gs_f16_of_f32(float x) {
  _Float16 h = (_Float16)x;
  uint16_t u;
  memcpy(&u, &h, 2);
  return u;
}
#else
GS_INLINE float gs_f32_of_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7FFF) << 13;
  // Exponents are rebiased by a multiplication, which makes denormals right as well; infinity and NaN are set apart.
  float x = gs_float((int32_t)rest) * 0x1p112f;
  uint32_t u = (uint32_t)gs_bits(x) | ((h & 0x7C00) == 0x7C00 ? 0x7F800000u : 0u);
  return gs_float((int32_t)(u | sign));
}

GS_INLINE uint16_t gs_f16_of_f32(float x) {
  uint32_t u = (uint32_t)gs_bits(x), sign = (u >> 16) & 0x8000;
  u &= 0x7FFFFFFF;
  uint32_t normal = (u - 0x38000000 + 0xFFF + ((u >> 13) & 1)) >> 13;
  // Below 2^-14 the last bit weighs 2^-24: adding 0.5 rounds the float there, and its bits are the answer.
  uint32_t denormal = (uint32_t)gs_bits(gs_float((int32_t)u) + 0.5f) - 0x3F000000;
  uint32_t h = u < 0x38800000 ? denormal : normal;
  h = u >= 0x477FF000 ? 0x7C00 : h;  // 65520 and more
  h = u > 0x7F800000 ? 0x7E00 : h;
  return (uint16_t)(h | sign);
}
#endif

// A float of `mbits` mantissa bits and `ebits` exponent bits with `bias`. `kind` says what its ends mean:
// 0: IEEE (largest exponent is infinity and NaN)   1: FN (all ones is NaN, no infinity)
// 2: FNUZ (the code of -0 is NaN, no infinity, no -0)   3: finite only (float4, float6)
GS_INLINE float gs_f32_of_small(uint32_t code, int ebits, int mbits, int bias, int kind) {
  uint32_t sign = code >> (ebits + mbits) & 1, exponent = code >> mbits & ((1u << ebits) - 1);
  uint32_t mantissa = code & ((1u << mbits) - 1), ones = (1u << (ebits + mbits)) - 1;
  if (kind == 2 && code == 1u << (ebits + mbits)) return __builtin_nanf("");
  if (kind == 1 && (code & ones) == ones) return __builtin_nanf("");
  if (kind == 0 && exponent == (1u << ebits) - 1)
    return mantissa ? __builtin_nanf("") : sign ? -__builtin_inff() : __builtin_inff();
  float scale = gs_float((int32_t)((exponent ? exponent : 1) + 127 - bias - mbits) << 23);
  float x = (float)(mantissa | (exponent ? 1u << mbits : 0)) * scale;
  return sign ? -x : x;
}

// The nearest code. What is too large becomes the largest finite where `saturate`, else infinity or NaN as the format
// has it; infinity counts as too large. NaN becomes NaN, and in a format of kind 3, which has none, zero.
GS_INLINE uint32_t gs_small_of_f32(float x, int ebits, int mbits, int bias, int kind, int saturate) {
  uint32_t u = (uint32_t)gs_bits(x), sign = u >> 31 << (ebits + mbits), ones = (1u << (ebits + mbits)) - 1;
  uint32_t infinity = ((1u << ebits) - 1) << mbits;
  uint32_t nan = kind == 0 ? (infinity | 1u << (mbits - 1)) | sign : kind == 1 ? ones | sign
               : kind == 2 ? 1u << (ebits + mbits) : sign;
  uint32_t largest = kind == 0 ? infinity - 1 : kind == 1 ? ones - 1 : ones;
  u &= 0x7FFFFFFF;
  if (u > 0x7F800000) return nan;
  float a = gs_float((int32_t)u), least = gs_float((int32_t)(128 - bias) << 23);  // the smallest normal number
  uint32_t code;
  if (a < least) {
    // The spacing of denormals is least / 2^mbits; adding 2^23 spacings makes the float unit round there.
    float anchor = gs_float((int32_t)(128 - bias - mbits + 23) << 23);
    code = (uint32_t)(gs_bits(a + anchor) - gs_bits(anchor));
  } else {
    int drop = 23 - mbits;
    uint32_t r = u + ((1u << (drop - 1)) - 1) + (u >> drop & 1);
    code = (r >> drop) - ((uint32_t)(127 - bias) << mbits);
  }
  if (code > largest) {
    if (saturate || kind == 3) return largest | sign;
    return kind == 0 ? infinity | sign : nan;
  }
  // There is no -0 in FNUZ: its code is NaN.
  return code == 0 && kind == 2 ? 0 : code | sign;
}

#define GS_SMALL(name, ebits, mbits, bias, kind)                                                                      \
  GS_INLINE float gs_f32_of_##name(uint8_t code) { return gs_f32_of_small(code, ebits, mbits, bias, kind); }          \
  GS_INLINE uint8_t gs_##name##_of_f32(float x, int saturate) {                                                       \
    return (uint8_t)gs_small_of_f32(x, ebits, mbits, bias, kind, saturate);                                           \
  }
GS_SMALL(f8e4m3fn, 4, 3, 7, 1)
GS_SMALL(f8e4m3fnuz, 4, 3, 8, 2)
GS_SMALL(f8e5m2, 5, 2, 15, 0)
GS_SMALL(f8e5m2fnuz, 5, 2, 16, 2)
GS_SMALL(f6e2m3, 2, 3, 1, 3)
GS_SMALL(f6e3m2, 3, 2, 3, 3)
GS_SMALL(f4e2m1, 2, 1, 1, 3)

// An exponent alone: 2^(code - 127), 255 is NaN. It has no sign and no zero.
GS_INLINE float gs_f32_of_f8e8m0(uint8_t code) {
  return code == 255 ? __builtin_nanf("") : code == 0 ? 0x1p-127f : gs_float((int32_t)code << 23);
}

// To int8 and the like the way a quantiser does: to nearest even, kept inside.
GS_INLINE int32_t gs_round_clamp(float x, int32_t low, int32_t high) {
  float r = __builtin_rintf(x);
  r = r < (float)low ? (float)low : r;  // NaN passes both and becomes `low` below
  r = r > (float)high ? (float)high : r;
  return r == r ? (int32_t)r : low;
}
