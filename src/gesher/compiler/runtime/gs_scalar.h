// Scalar arithmetic that C leaves undefined, or says otherwise than the primitives do: one function a type.
// Division and remainder by zero are 0; the lowest integer divided by -1 wraps around; shifts beyond the width give 0.

#include "gs_convert.h"
#include "gs_elementary.h"

GS_INLINE float gs_exp_f32(float x) { return gs_expf(x); }
// e^x. Error below 1.1 ulp. The method is that of gs_math.inc, with a Taylor polynomial: its first term left out is
// below 2^-57 of the result. Without branches, so that loops become vector code.
GS_INLINE double gs_exp_f64(double x) {
  double c = x > 800 ? 800 : x;  // the order keeps NaN
  c = c < -800 ? -800 : c;
  double z = c * 0x1.71547652b82fep+0 + 0x1.8p52, n = z - 0x1.8p52;
  // ln 2 in two parts; the first has so few bits that its product with n is exact.
  double r = c - n * 0x1.62e42fefa0000p-1;
  r = r - n * 0x1.cf79abc9e3b3ap-40;
  double p = r * (1 / 6227020800.0) + 1 / 479001600.0;
  p = p * r + 1 / 39916800.0;
  p = p * r + 1 / 3628800.0;
  p = p * r + 1 / 362880.0;
  p = p * r + 1 / 40320.0;
  p = p * r + 1 / 5040.0;
  p = p * r + 1 / 720.0;
  p = p * r + 1 / 120.0;
  p = p * r + 1 / 24.0;
  p = p * r + 1 / 6.0;
  p = p * r + 0.5;
  double y = r * r * p + r + 1;
  int64_t i, bits[2];
  memcpy(&i, &z, 8);
  i -= 0x4338000000000000;
  // 2^i in two factors: one alone has no room for i = 1024 or i < -1022.
  int64_t half = (int64_t)((uint64_t)(i + 4096) >> 1) - 2048;
  bits[0] = (int64_t)((uint64_t)(half + 1023) << 52), bits[1] = (int64_t)((uint64_t)(i - half + 1023) << 52);
  double factor[2];
  memcpy(factor, bits, 16);
  return y * factor[0] * factor[1];
}
GS_INLINE float gs_log_f32(float x) { return gs_logf(x); }
GS_INLINE double gs_log_f64(double x) { return log(x); }
GS_INLINE float gs_tanh_f32(float x) { return gs_tanhf(x); }
// What no loop becomes vector code with comes from libm.
GS_INLINE double gs_expm1_f64(double x) { return expm1(x); }
GS_INLINE double gs_log1p_f64(double x) { return log1p(x); }
GS_INLINE double gs_sin_f64(double x) { return sin(x); }
GS_INLINE double gs_cos_f64(double x) { return cos(x); }
GS_INLINE double gs_tan_f64(double x) { return tan(x); }
GS_INLINE double gs_asin_f64(double x) { return asin(x); }
GS_INLINE double gs_acos_f64(double x) { return acos(x); }
GS_INLINE double gs_atan_f64(double x) { return atan(x); }
GS_INLINE double gs_sinh_f64(double x) { return sinh(x); }
GS_INLINE double gs_cosh_f64(double x) { return cosh(x); }
GS_INLINE double gs_asinh_f64(double x) { return asinh(x); }
GS_INLINE double gs_acosh_f64(double x) { return acosh(x); }
GS_INLINE double gs_atanh_f64(double x) { return atanh(x); }
GS_INLINE double gs_pow_f64(double x, double y) { return pow(x, y); }
GS_INLINE float gs_erf_f32(float x) { return gs_erff(x); }
GS_INLINE double gs_erf_f64(double x) { return erf(x); }
GS_INLINE float gs_sigmoid_f32(float x) { return gs_sigmoidf(x); }
GS_INLINE double gs_sigmoid_f64(double x) {
  double e = gs_exp_f64(-fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}
GS_INLINE float gs_sign_f32(float x) { return x != x ? x : (float)((x > 0) - (x < 0)); }
GS_INLINE double gs_sign_f64(double x) { return x != x ? x : (double)((x > 0) - (x < 0)); }
GS_INLINE float gs_min_f32(float a, float b) { return gs_minf(a, b); }
GS_INLINE float gs_max_f32(float a, float b) { return gs_maxf(a, b); }
GS_INLINE double gs_min_f64(double a, double b) { return gs_min(a, b); }
GS_INLINE double gs_max_f64(double a, double b) { return gs_max(a, b); }
// As C's fmod. In doubles the quotient of two floats is exact enough to be cut off right, and what is left exact, as long
// as the quotient has 27 bits; libm goes bit by bit.
GS_NOINLINE float gs_fmodf_by_bits(float a, float b) {
  __asm__ volatile("");  // clang would compute it for all numbers and throw most away
  return fmodf(a, b);
}
GS_INLINE float gs_fmodf(float a, float b) {
  double x = (double)a, y = (double)b, q = __builtin_trunc(x / y);
  if (!(__builtin_fabs(q) < 134217728.0)) return gs_fmodf_by_bits(a, b);
  // An infinite divisor times 0 would be NaN; no branch that data choose.
  return copysignf((float)(x - q * (__builtin_fabs(y) <= 3.5e38 ? y : 0.0)), a);
}
GS_INLINE double gs_fmod(double a, double b) { return fmod(a, b); }
// The remainder with the sign of the divisor.
GS_INLINE float gs_mod_f32(float a, float b) {
  float r = gs_fmodf(a, b);
  return r != 0 ? ((r < 0) != (b < 0) ? r + b : r) : copysignf(0, b);
}
GS_INLINE double gs_mod_f64(double a, double b) {
  double r = fmod(a, b);
  return r != 0 ? ((r < 0) != (b < 0) ? r + b : r) : copysign(0, b);
}

// Whole numbers of up to 32 bits are divided as doubles, whose quotient is cut off right: there are no vectors of whole
// divisions. By 0 it gives 0, for -1 see the signed ones.
#define GS_DIVIDE_AS_DOUBLES(t, T) \
  GS_INLINE T gs_cut_##t(T a, T b) { return (T)((double)a / (double)b); }
#define GS_DIVIDE(t, T) \
  GS_INLINE T gs_cut_##t(T a, T b) { return (T)(a / b); }
GS_DIVIDE_AS_DOUBLES(u8, uint8_t)
GS_DIVIDE_AS_DOUBLES(u16, uint16_t)
GS_DIVIDE_AS_DOUBLES(u32, uint32_t)
GS_DIVIDE_AS_DOUBLES(i8, int8_t)
GS_DIVIDE_AS_DOUBLES(i16, int16_t)
GS_DIVIDE_AS_DOUBLES(i32, int32_t)
GS_DIVIDE(u64, uint64_t)
GS_DIVIDE(i64, int64_t)
#define GS_UNSIGNED(t, T, bits)                                                              \
  GS_INLINE T gs_abs_##t(T a) { return a; }                                                  \
  GS_INLINE T gs_div_##t(T a, T b) { T q = gs_cut_##t(a, b ? b : 1); return b ? q : 0; }     \
  GS_INLINE T gs_mod_##t(T a, T b) { T q = gs_cut_##t(a, b ? b : 1); return b ? (T)(a - q * b) : 0; } \
  GS_INLINE T gs_rem_##t(T a, T b) { return gs_mod_##t(a, b); }                              \
  GS_INLINE T gs_shl_##t(T a, T b) { return b < bits ? (T)((uint64_t)a << b) : 0; }          \
  GS_INLINE T gs_shr_##t(T a, T b) { return b < bits ? (T)(a >> b) : 0; }                    \
  GS_LOCAL T gs_pow_##t(T a, T b) {                                                          \
    uint64_t result = 1, base = a;                                                           \
    for (; b; b >>= 1, base *= base) if (b & 1) result *= base;                              \
    return (T)result;                                                                        \
  }
#define GS_SIGNED(t, T, U)                                                                   \
  GS_INLINE T gs_abs_##t(T a) { return a < 0 ? (T)(0 - (U)a) : a; }                          \
  GS_INLINE T gs_div_##t(T a, T b) {                                                         \
    T q = gs_cut_##t(a, (b == 0) | (b == -1) ? 1 : b);                                       \
    return b == 0 ? 0 : b == -1 ? (T)(0 - (U)a) : q;                                         \
  }                                                                                          \
  GS_INLINE T gs_rem_##t(T a, T b) {                                                         \
    T by = (b == 0) | (b == -1) ? 1 : b, q = gs_cut_##t(a, by);                              \
    return (T)(a - q * by);                                                                  \
  }                                                                                          \
  GS_INLINE T gs_mod_##t(T a, T b) {                                                         \
    T r = gs_rem_##t(a, b);                                                                  \
    return r != 0 && (r < 0) != (b < 0) ? (T)(r + b) : r;                                    \
  }                                                                                          \
  GS_LOCAL T gs_pow_##t(T a, T b) {                                                          \
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;                           \
    uint64_t result = 1, base = (uint64_t)a;                                                 \
    for (; b; b >>= 1, base *= base) if (b & 1) result *= base;                              \
    return (T)result;                                                                        \
  }
GS_UNSIGNED(u8, uint8_t, 8)
GS_UNSIGNED(u16, uint16_t, 16)
GS_UNSIGNED(u32, uint32_t, 32)
GS_UNSIGNED(u64, uint64_t, 64)
GS_SIGNED(i8, int8_t, uint32_t)
GS_SIGNED(i16, int16_t, uint32_t)
GS_SIGNED(i32, int32_t, uint32_t)
GS_SIGNED(i64, int64_t, uint64_t)

// Floats to integers: cut toward zero; what does not fit is the lowest integer.
GS_INLINE int32_t gs_i32_of_f32(float x) { return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)x : INT32_MIN; }
// a / b to the last bit, of b and its correctly rounded inverse: what the first product is off is what b times it
// leaves of a, times the inverse (P. Markstein, IBM J. Res. Dev. 34, 1990). Infinite quotients have no such rest.
GS_INLINE float gs_quotient_f32(float a, float b, float inverse) {
#if defined(__FMA__) || defined(__aarch64__)
  float q = a * inverse, better = __builtin_fmaf(__builtin_fmaf(-q, b, a), inverse, q);
  return fabsf(q) < 0x1p100f ? better : q;
#else
  (void)inverse;
  return a / b;
#endif
}
// Clipped first; NaN becomes `low`.
GS_INLINE int32_t gs_clip_i32(float x, float low, float high) {
  x = x > low ? x : low;
  return (int32_t)(x < high ? x : high);
}
// Kept between whole numbers of less than 2^21 and rounded half to even, as a number and as a float; NaN becomes `low`.
// What is added leaves no room for a fraction.
GS_INLINE int32_t gs_count_i32(float x, float low, float high) {
  x = x > low ? x : low;
  x = x < high ? x : high;
  return gs_bits(x + 0x1.8p23f) - 0x4B400000;
}
GS_INLINE float gs_rounded_f32(float x, float low, float high) {
  x = x > low ? x : low;
  x = x < high ? x : high;
  return (x + 0x1.8p23f) - 0x1.8p23f;
}
GS_INLINE int32_t gs_i32_of_f64(double x) { return x > -2147483649.0 && x < 2147483648.0 ? (int32_t)x : INT32_MIN; }
GS_INLINE int64_t gs_i64_of_f64(double x) {
  return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (int64_t)x : INT64_MIN;
}
GS_INLINE uint64_t gs_u64_of_f64(double x) {
  return x >= 9223372036854775808.0 && x < 18446744073709551616.0 ? (uint64_t)(int64_t)(x - 9223372036854775808.0) + (1ull << 63)
                                                                  : (uint64_t)gs_i64_of_f64(x);
}

// A float16 or bfloat16 result is rounded after each step, as its type asks.
GS_INLINE float gs_round_f16(float x) { return gs_f32_of_f16(gs_f16_of_f32(x)); }
GS_INLINE float gs_round_bf16(float x) { return gs_f32_of_bf16(gs_bf16_of_f32(x)); }

GS_INLINE uint32_t gs_bits_of_f32(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
GS_INLINE uint64_t gs_bits_of_f64(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
GS_INLINE float gs_f32_of_bits(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
GS_INLINE double gs_f64_of_bits(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }

// A float from which rounding further gives what rounding the double would: inexact results get an odd last bit.
GS_INLINE float gs_f32_odd_of_f64(double x) {
  float y = (float)x;
  if ((double)y == x || x != x || y - y != 0) return y;
  uint32_t u = gs_bits_of_f32(y);
  if (fabs((double)y) > fabs(x)) u--;
  return gs_f32_of_bits(u | 1);
}

// Floor division and remainder that are defined for 0 below, as sizes that are never used may ask.
GS_INLINE int64_t gs_quotient(int64_t a, int64_t b) { return b ? gs_floor_div(a, b) : 0; }
GS_INLINE int64_t gs_remainder(int64_t a, int64_t b) { return b ? gs_floor_mod(a, b) : 0; }

// Floats as whole numbers in the same order, so that the largest of many is found in vectors: the bits of a negative one
// are turned around. NaN is above all where the largest is looked for, and below all where the smallest is.
#define GS_KEYS(t, F, I, U, bits, top)                                                                       \
  GS_INLINE I gs_key_##t(F x) { I i = (I)gs_bits_of_##t(x); return i ^ (I)((U)(i >> (bits - 1)) >> 1); }    \
  GS_INLINE I gs_max_key_of_##t(F x) { return x != x ? top : gs_key_##t(x); }                              \
  GS_INLINE I gs_min_key_of_##t(F x) { return x != x ? -top - 1 : gs_key_##t(x); }                         \
  GS_INLINE I gs_max_key_##t(I k, F x) { I i = gs_max_key_of_##t(x); return i > k ? i : k; }               \
  GS_INLINE I gs_min_key_##t(I k, F x) { I i = gs_min_key_of_##t(x); return i < k ? i : k; }               \
  GS_INLINE F gs_##t##_of_key(I k) { return gs_##t##_of_bits((U)(k ^ (I)((U)(k >> (bits - 1)) >> 1))); }
GS_KEYS(f32, float, int32_t, uint32_t, 32, INT32_MAX)
GS_KEYS(f64, double, int64_t, uint64_t, 64, INT64_MAX)
