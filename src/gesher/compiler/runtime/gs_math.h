// exp, log, tanh, sigmoid, erf in float: gs_expf(x) for a float, gs_expv(x) for a vector gs_vf.
//
// The scalar forms have no branch and call nothing, so a loop over an array becomes vector code by itself; write such
// loops. What has no form here (sin, pow, ...) comes from libm, one number at a time.

#include "gs_base.h"

GS_INLINE int32_t gs_bits(float x) { int32_t i; memcpy(&i, &x, 4); return i; }
GS_INLINE float gs_float(int32_t i) { float x; memcpy(&x, &i, 4); return x; }

#define GS_SIGN ((int32_t)0x80000000)

// y * 2^i, for y near 1 and i from -150 to 128: rounded once. `n` is i as a float.
// In two factors, of floats or of integers in a vector: one alone has no room for i = 128 or i < -126.
#define GS_TWO_FACTORS(y, i) \
  ((y) * GS_FLOAT(GS_SHL(((i) >> 1) + 127, 23)) * GS_FLOAT(GS_SHL((i) - ((i) >> 1) + 127, 23)))

#define GS_F float
#define GS_I int32_t
#define GS_FN(name) name##f
#define GS_K(c) (c)
#define GS_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define GS_BITS(x) gs_bits(x)
#define GS_FLOAT(i) gs_float(i)
#define GS_SHL(i, n) ((int32_t)((uint32_t)(i) << (n)))
// Wraps around: -0 has the bits of the least number.
#define GS_MINUS(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)))
#define GS_LARGER(a, b) ((a) > (b) ? (a) : (b))
#define GS_ABS(x) __builtin_fabsf(x)
#if defined(__AVX512F__) && defined(__clang__) && __clang_major__ >= 20
// One instruction, also where loops become vector code.
#define GS_TIMES_2_TO(y, n, i) __builtin_ldexpf(y, i)
#else
#define GS_TIMES_2_TO(y, n, i) GS_TWO_FACTORS(y, i)
#endif
#include "gs_math.inc"
#undef GS_F
#undef GS_I
#undef GS_FN
#undef GS_K
#undef GS_SELECT
#undef GS_BITS
#undef GS_FLOAT
#undef GS_SHL
#undef GS_MINUS
#undef GS_LARGER
#undef GS_ABS
#undef GS_TIMES_2_TO

#define GS_F gs_vf
#define GS_I gs_vi
#define GS_FN(name) name##v
#define GS_K(c) gs_splat(c)
#define GS_SELECT(mask, a, b) gs_select(mask, a, b)
#define GS_BITS(x) ((gs_vi)(x))
#define GS_FLOAT(i) ((gs_vf)(i))
#define GS_SHL(i, n) ((i) << (n))
#define GS_MINUS(a, b) ((a) - (b))
#define GS_LARGER(a, b) gs_vmax(a, b)
#define GS_ABS(x) ((gs_vf)((gs_vi)(x) & 0x7FFFFFFF))
#if defined(__AVX512F__) && GS_W == 16
#define GS_TIMES_2_TO(y, n, i) GS_SCALEF_PS(y, n)
#else
#define GS_TIMES_2_TO(y, n, i) GS_TWO_FACTORS(y, i)
#endif
#include "gs_math.inc"
#undef GS_F
#undef GS_I
#undef GS_FN
#undef GS_K
#undef GS_SELECT
#undef GS_BITS
#undef GS_FLOAT
#undef GS_SHL
#undef GS_MINUS
#undef GS_LARGER
#undef GS_ABS
#undef GS_TIMES_2_TO

// max and min as ONNX's and numpy's: NaN where either is NaN. (fmaxf drops NaN.)
GS_INLINE float gs_maxf(float a, float b) { return a > b || a != a ? a : b; }
GS_INLINE float gs_minf(float a, float b) { return a < b || a != a ? a : b; }
GS_INLINE double gs_max(double a, double b) { return a > b || a != a ? a : b; }
GS_INLINE double gs_min(double a, double b) { return a < b || a != a ? a : b; }
// The machine's own keep a NaN of b; that of a is put back.
GS_INLINE gs_vf gs_maxv(gs_vf a, gs_vf b) { return gs_select(a != a, a, gs_vmax(a, b)); }
GS_INLINE gs_vf gs_minv(gs_vf a, gs_vf b) { return gs_select(a != a, a, gs_vmin(a, b)); }
