// Functions of floats that are computed in doubles: straight line code, so that loops over arrays become vector code.
//
// Error of each below 0.51 units in the last place, for the doubles' own error is some hundred times less and is rounded
// once; special values are C's (Annex F). What a reader would guess wrong: this is no slower than doing it in floats
// with two parts of everything, and much shorter. Polynomials are minimax in the relative error (Remez's exchange, at 60
// digits).

#include "gs_base.h"

GS_INLINE int64_t gs_bits_d(double x) { int64_t i; memcpy(&i, &x, 8); return i; }
GS_INLINE double gs_of_bits_d(int64_t i) { double x; memcpy(&x, &i, 8); return x; }

// e^x, to 2^-37. Held between e^-250 and e^250, which are 0 and infinite as floats.
GS_INLINE double gs_exp_d(double x) {
  double c = x > 250 ? 250 : x;  // the order keeps NaN
  c = c < -250 ? -250 : c;
  double z = c * 0x1.71547652b82fep+0 + 0x1.8p52, n = z - 0x1.8p52;
  double r = c - n * 0x1.62e42fefa39efp-1;
  double p = 0x1.a06d006de2479p-16 * r + 0x1.a151c3d85918ep-13;
  p = p * r + 0x1.6c16fd893a971p-10;
  p = p * r + 0x1.1110c61776c49p-7;
  p = p * r + 0x1.55555531363a8p-5;
  p = p * r + 0x1.5555556757ea6p-3;
  p = p * r + 0x1.0000000004a0cp-1;
  return (r * r * p + r + 1) * gs_of_bits_d((int64_t)((uint64_t)(gs_bits_d(z) - 0x4338000000000000 + 1023) << 52));
}

// The natural logarithm, to 2^-45, of a positive double that is not denormal; -infinity of 0, NaN of what is below.
GS_INLINE double gs_log_d(double x) {
  int64_t e = (gs_bits_d(x) - 0x3FE6A09E667F3BCD) >> 52;  // mantissas go from sqrt(1/2) to sqrt(2)
  double f = gs_of_bits_d(gs_bits_d(x) - (int64_t)((uint64_t)e << 52)) - 1;
  double n = gs_of_bits_d(e + 0x4338000000000000) - 0x1.8p52, s = f / (2 + f), t = s * s;
  double p = 0x1.919a907c6abf4p-3 * t + 0x1.c620629d4842ap-3;
  p = p * t + 0x1.249439dc3de7ep-2;
  p = p * t + 0x1.9999962781b2ap-2;
  p = p * t + 0x1.5555555673553p-1;
  p = p * t + 0x1.fffffffffff10p+0;
  double y = n * 0x1.62e42fefa39efp-1 + s * p;
  y = x < INFINITY ? y : x;  // infinity and NaN
  return x > 0 || x != x ? y : x == 0 ? -INFINITY : NAN;
}

// log(1 + t): what 1 + t loses is the correction of Kahan (HP-15C Advanced Functions Handbook, 1982).
GS_INLINE double gs_log1p_d(double t) {
  double u = 1 + t, y = gs_log_d(u) + (t - (u - 1)) / u;
  return u > 0 && u < INFINITY ? (t == 0 ? t : y) : gs_log_d(u);
}

GS_INLINE float gs_expm1_f32(float x) {
  double d = x, small = d * (1 + d * (0.5 + d * (1 / 6.0)));
  return (float)(fabs(d) < 0x1p-10 ? small : gs_exp_d(d) - 1);
}
GS_INLINE float gs_log1p_f32(float x) { return (float)gs_log1p_d(x); }
GS_INLINE float gs_sinh_f32(float x) {
  double d = x, e = gs_exp_d(d), small = d * (1 + d * d * (1 / 6.0));
  return (float)(fabs(d) < 0x1p-7 ? small : 0.5 * (e - 1 / e));
}
GS_INLINE float gs_cosh_f32(float x) {
  double e = gs_exp_d(x);
  return (float)(0.5 * (e + 1 / e));
}
GS_INLINE float gs_asinh_f32(float x) {
  double a = fabs((double)x), s = a * a;
  return copysignf((float)(a < INFINITY ? gs_log1p_d(a + s / (1 + sqrt(1 + s))) : a), x);
}
GS_INLINE float gs_acosh_f32(float x) {
  double t = (double)x - 1;
  return (float)gs_log1p_d(t >= 0 ? t + sqrt(t * (t + 2)) : NAN);
}
GS_INLINE float gs_atanh_f32(float x) {
  double d = x;
  return (float)(d == 0 ? d : 0.5 * gs_log1p_d(2 * d / (1 - d)));
}

// The arc tangent, to 2^-34.
GS_INLINE double gs_atan_d(double x) {
  double a = fabs(x), t = a > 1 ? 1 / a : a, s = t * t;
  double p = -0x1.6706814bf3a6fp-11 * s + 0x1.3de899c54bc7ap-8;
  p = p * s - 0x1.07f8ef99ea913p-6;
  p = p * s + 0x1.183e7fad4f1bdp-5;
  p = p * s - 0x1.bca750921fe8bp-5;
  p = p * s + 0x1.28c8cc3683ddap-4;
  p = p * s - 0x1.6fd49b5e603c4p-4;
  p = p * s + 0x1.c6610f351d26dp-4;
  p = p * s - 0x1.2489325510afbp-3;
  p = p * s + 0x1.9999238ca5654p-3;
  p = p * s - 0x1.5555542693e6ep-2;
  p = p * s + 0x1.ffffffff7ec95p-1;
  double y = t * p;
  return copysign(a > 1 ? 0x1.921fb54442d18p+0 - y : y, x);
}
GS_INLINE float gs_atan_f32(float x) { return (float)gs_atan_d(x); }
// The arc sine of a in 0 ... 1/2, or of sqrt((1 - a) / 2) in 1/2 ... 1, which is half the arc cosine of a; to 2^-35.
GS_INLINE double gs_asin_half_d(double a) {
  double z = a > 0.5 ? 0.5 - 0.5 * a : a * a, s = a > 0.5 ? sqrt(z) : a;
  double p = 0x1.1e52b71ada0a0p-5 * z + 0x1.d96bb9ae0120dp-8;
  p = p * z + 0x1.94dfba29d8c5ep-6;
  p = p * z + 0x1.ed07df42c6462p-6;
  p = p * z + 0x1.6ddf13c7f30c1p-5;
  p = p * z + 0x1.33328d4dba350p-4;
  p = p * z + 0x1.55555658c040dp-3;
  p = p * z + 0x1.ffffffffdecd7p-1;
  return s * p;
}
GS_INLINE float gs_asin_f32(float x) {
  double a = fabs((double)x), y = gs_asin_half_d(a);
  return copysignf((float)(a > 0.5 ? 0x1.921fb54442d18p+0 - 2 * y : y), x);
}
GS_INLINE float gs_acos_f32(float x) {
  double d = x, a = fabs(d), y = gs_asin_half_d(a);
  double near = d > 0 ? 2 * y : 0x1.921fb54442d18p+1 - 2 * y;
  return (float)(a > 0.5 ? near : 0x1.921fb54442d18p+0 - (d > 0 ? y : -y));
}

// 2^k 2/pi less its multiples of 4, as a double of 29 bits and the rest: times 24 bits, the first is exact. The last row is
// for infinity and NaN.
static const double gs_quarters[106][2] = {
    {0x1.45f306d000000p-1, 0x1.9391054a7f09dp-30}, {0x1.45f306d000000p+0, 0x1.9391054a7f09dp-29},
    {0x1.45f306d000000p+1, 0x1.9391054a7f09dp-28}, {0x1.17cc1b7000000p+0, 0x1.391054a7f09d6p-31},
    {0x1.17cc1b7000000p+1, 0x1.391054a7f09d6p-30}, {0x1.7cc1b72000000p-2, 0x1.c882a53f84eb0p-32},
    {0x1.7cc1b72000000p-1, 0x1.c882a53f84eb0p-31}, {0x1.7cc1b72000000p+0, 0x1.c882a53f84eb0p-30},
    {0x1.7cc1b72000000p+1, 0x1.c882a53f84eb0p-29}, {0x1.f306dc9000000p+0, 0x1.91054a7f09d5fp-29},
    {0x1.f306dc9000000p+1, 0x1.91054a7f09d5fp-28}, {0x1.e60db93000000p+1, 0x1.220a94fe13abfp-28},
    {0x1.cc1b727000000p+1, 0x1.1054a7f09d5f4p-30}, {0x1.9836e4e000000p+1, 0x1.1054a7f09d5f4p-29},
    {0x1.306dc9c000000p+1, 0x1.1054a7f09d5f4p-28}, {0x1.836e4e4000000p-1, 0x1.054a7f09d5f48p-31},
    {0x1.836e4e4000000p+0, 0x1.054a7f09d5f48p-30}, {0x1.836e4e4000000p+1, 0x1.054a7f09d5f48p-29},
    {0x1.06dc9c8000000p+1, 0x1.054a7f09d5f48p-28}, {0x1.b727220000000p-4, 0x1.529fc2757d1f5p-33},
    {0x1.b727220000000p-3, 0x1.529fc2757d1f5p-32}, {0x1.b727220000000p-2, 0x1.529fc2757d1f5p-31},
    {0x1.b727220000000p-1, 0x1.529fc2757d1f5p-30}, {0x1.b727220000000p+0, 0x1.529fc2757d1f5p-29},
    {0x1.b727220000000p+1, 0x1.529fc2757d1f5p-28}, {0x1.6e4e441000000p+1, 0x1.4a7f09d5f47d5p-29},
    {0x1.b939105000000p+0, 0x1.29fc2757d1f53p-30}, {0x1.b939105000000p+1, 0x1.29fc2757d1f53p-29},
    {0x1.727220a000000p+1, 0x1.29fc2757d1f53p-28}, {0x1.c9c882a000000p+0, 0x1.4fe13abe8fa9ap-30},
    {0x1.c9c882a000000p+1, 0x1.4fe13abe8fa9ap-29}, {0x1.9391054000000p+1, 0x1.4fe13abe8fa9ap-28},
    {0x1.27220a9000000p+1, 0x1.3f84eafa3ea6ap-29}, {0x1.391054a000000p-1, 0x1.fc2757d1f534ep-31},
    {0x1.391054a000000p+0, 0x1.fc2757d1f534ep-30}, {0x1.391054a000000p+1, 0x1.fc2757d1f534ep-29},
    {0x1.c882a53000000p-1, 0x1.f09d5f47d4d37p-30}, {0x1.c882a53000000p+0, 0x1.f09d5f47d4d37p-29},
    {0x1.c882a53000000p+1, 0x1.f09d5f47d4d37p-28}, {0x1.91054a7000000p+1, 0x1.e13abe8fa9a6fp-28},
    {0x1.220a94f000000p+1, 0x1.c2757d1f534dep-28}, {0x1.1054a7f000000p-1, 0x1.3abe8fa9a6ee0p-34},
    {0x1.1054a7f000000p+0, 0x1.3abe8fa9a6ee0p-33}, {0x1.1054a7f000000p+1, 0x1.3abe8fa9a6ee0p-32},
    {0x1.054a7f0000000p-2, 0x1.3abe8fa9a6ee0p-31}, {0x1.054a7f0000000p-1, 0x1.3abe8fa9a6ee0p-30},
    {0x1.054a7f0000000p+0, 0x1.3abe8fa9a6ee0p-29}, {0x1.054a7f0000000p+1, 0x1.3abe8fa9a6ee0p-28},
    {0x1.529fc27000000p-4, 0x1.5f47d4d377037p-34}, {0x1.529fc27000000p-3, 0x1.5f47d4d377037p-33},
    {0x1.529fc27000000p-2, 0x1.5f47d4d377037p-32}, {0x1.529fc27000000p-1, 0x1.5f47d4d377037p-31},
    {0x1.529fc27000000p+0, 0x1.5f47d4d377037p-30}, {0x1.529fc27000000p+1, 0x1.5f47d4d377037p-29},
    {0x1.4a7f09d000000p+0, 0x1.7d1f534ddc0dbp-30}, {0x1.4a7f09d000000p+1, 0x1.7d1f534ddc0dbp-29},
    {0x1.29fc275000000p+0, 0x1.f47d4d377036ep-30}, {0x1.29fc275000000p+1, 0x1.f47d4d377036ep-29},
    {0x1.4fe13ab000000p-1, 0x1.d1f534ddc0db6p-30}, {0x1.4fe13ab000000p+0, 0x1.d1f534ddc0db6p-29},
    {0x1.4fe13ab000000p+1, 0x1.d1f534ddc0db6p-28}, {0x1.3f84eaf000000p+0, 0x1.47d4d377036d9p-29},
    {0x1.3f84eaf000000p+1, 0x1.47d4d377036d9p-28}, {0x1.fc2757d000000p-1, 0x1.f534ddc0db629p-33},
    {0x1.fc2757d000000p+0, 0x1.f534ddc0db629p-32}, {0x1.fc2757d000000p+1, 0x1.f534ddc0db629p-31},
    {0x1.f84eafa000000p+1, 0x1.f534ddc0db629p-30}, {0x1.f09d5f4000000p+1, 0x1.f534ddc0db629p-29},
    {0x1.e13abe8000000p+1, 0x1.f534ddc0db629p-28}, {0x1.c2757d1000000p+1, 0x1.ea69bb81b6c53p-28},
    {0x1.84eafa3000000p+1, 0x1.d4d377036d8a5p-28}, {0x1.09d5f47000000p+1, 0x1.a9a6ee06db14bp-28},
    {0x1.3abe8fa000000p-3, 0x1.34ddc0db6295ap-32}, {0x1.3abe8fa000000p-2, 0x1.34ddc0db6295ap-31},
    {0x1.3abe8fa000000p-1, 0x1.34ddc0db6295ap-30}, {0x1.3abe8fa000000p+0, 0x1.34ddc0db6295ap-29},
    {0x1.3abe8fa000000p+1, 0x1.34ddc0db6295ap-28}, {0x1.d5f47d4000000p-1, 0x1.a6ee06db14acdp-30},
    {0x1.d5f47d4000000p+0, 0x1.a6ee06db14acdp-29}, {0x1.d5f47d4000000p+1, 0x1.a6ee06db14acdp-28},
    {0x1.abe8fa9000000p+1, 0x1.4ddc0db629599p-28}, {0x1.57d1f53000000p+1, 0x1.377036d8a5665p-29},
    {0x1.5f47d4d000000p+0, 0x1.bb81b6c52b328p-31}, {0x1.5f47d4d000000p+1, 0x1.bb81b6c52b328p-30},
    {0x1.7d1f534000000p+0, 0x1.bb81b6c52b328p-29}, {0x1.7d1f534000000p+1, 0x1.bb81b6c52b328p-28},
    {0x1.f47d4d3000000p+0, 0x1.dc0db6295993cp-30}, {0x1.f47d4d3000000p+1, 0x1.dc0db6295993cp-29},
    {0x1.e8fa9a6000000p+1, 0x1.dc0db6295993cp-28}, {0x1.d1f534d000000p+1, 0x1.b81b6c52b3279p-28},
    {0x1.a3ea69b000000p+1, 0x1.7036d8a5664f1p-28}, {0x1.47d4d37000000p+1, 0x1.c0db6295993c4p-29},
    {0x1.1f534dd000000p+0, 0x1.81b6c52b32788p-29}, {0x1.1f534dd000000p+1, 0x1.81b6c52b32788p-28},
    {0x1.f534ddc000000p-2, 0x1.b6c52b3278872p-35}, {0x1.f534ddc000000p-1, 0x1.b6c52b3278872p-34},
    {0x1.f534ddc000000p+0, 0x1.b6c52b3278872p-33}, {0x1.f534ddc000000p+1, 0x1.b6c52b3278872p-32},
    {0x1.ea69bb8000000p+1, 0x1.b6c52b3278872p-31}, {0x1.d4d3770000000p+1, 0x1.b6c52b3278872p-30},
    {0x1.a9a6ee0000000p+1, 0x1.b6c52b3278872p-29}, {0x1.534ddc0000000p+1, 0x1.b6c52b3278872p-28},
    {0x1.4d37703000000p+0, 0x1.b6295993c4390p-30}, {0x1.4d37703000000p+1, 0x1.b6295993c4390p-29},
    {0x1.34ddc0d000000p+0, 0x1.6c52b32788721p-29}, {NAN, NAN}};

typedef struct { double sine, cosine; } GsAngle;

// Sine and cosine, to 2^-34 of any float: the angle in quarters of a circle is x 2/pi, of which whole circles are left out
// before they are multiplied (Payne and Hanek, SIGNUM Newsletter 18, 1983).
GS_INLINE GsAngle gs_angle(float x) {
  int32_t bits, k;
  memcpy(&bits, &x, 4);
  k = ((bits >> 23) & 255) - (127 + 23);
  k = k > 0 ? k : 0;
  bits -= (int32_t)((uint32_t)k << 23);
  float m;
  memcpy(&m, &bits, 4);
  double d = m, y = d * gs_quarters[k][0], rest = d * gs_quarters[k][1];
  double z = y + rest + 0x1.8p52;
  double r = (y - (z - 0x1.8p52) + rest) * 0x1.921fb54442d18p+0, t = r * r;
  int64_t q = gs_bits_d(z);
  double s = 0x1.6cb0654601576p-19 * t - 0x1.a00ec5f609959p-13;
  s = s * t + 0x1.11110716eacf7p-7;
  s = s * t - 0x1.55555548e0c9bp-3;
  s = s * t + 0x1.fffffffff5fc3p-1;
  s = s * r;
  double c = 0x1.98e77cea431fap-16 * t - 0x1.6c06e9c543dd6p-10;
  c = c * t + 0x1.555538a10921bp-5;
  c = c * t - 0x1.ffffffb655678p-2;
  c = c * t + 0x1.ffffffff84972p-1;
  GsAngle a;
  a.sine = q & 1 ? c : s, a.cosine = q & 1 ? s : c;
  a.sine = q & 2 ? -a.sine : a.sine, a.cosine = (q + 1) & 2 ? -a.cosine : a.cosine;
  return a;
}
GS_INLINE float gs_sin_f32(float x) { return x == 0 ? x : (float)gs_angle(x).sine; }
GS_INLINE float gs_cos_f32(float x) { return (float)gs_angle(x).cosine; }
GS_INLINE float gs_tan_f32(float x) {
  GsAngle a = gs_angle(x);
  return x == 0 ? x : (float)(a.sine / a.cosine);
}

// x^y with C's special values.
GS_INLINE float gs_pow_f32(float x, float y) {
  double a = fabs((double)x), d = y, half = 0.5 * d, r = gs_exp_d(d * gs_log_d(a));
  int whole = d == rint(d), odd = whole && half != rint(half);
  r = odd && signbit(x) ? -r : r;
  r = x < 0 && x > -INFINITY && !whole ? NAN : r;
  return (float)(x == 1 || y == 0 || (x == -1 && fabs(d) == INFINITY) ? 1 : r);
}

// Doubles.

// e^x - 1 for x at most 0. Error below 2 ulp: the powers of two and the polynomial are added apart.
GS_INLINE double gs_expm1_down_f64(double x) {
  double c = x < -60 ? -60 : x;
  double z = c * 0x1.71547652b82fep+0 + 0x1.8p52, n = z - 0x1.8p52;
  double r = c - n * 0x1.62e42fefa0000p-1;
  r = r - n * 0x1.cf79abc9e3b3ap-40;
  double p = r * (1 / 87178291200.0) + 1 / 6227020800.0;
  p = p * r + 1 / 479001600.0;
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
  double two = gs_of_bits_d((int64_t)((uint64_t)(gs_bits_d(z) - 0x4338000000000000 + 1023) << 52));
  return two * (r * r * p + r) + (two - 1);
}
// Error below 4 ulp.
GS_INLINE double gs_tanh_f64(double x) {
  double e = gs_expm1_down_f64(-2 * fabs(x)), y = -e / (e + 2);
  return x == 0 || x != x ? x : copysign(y, x);
}
