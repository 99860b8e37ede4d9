// What every generated model stands on: types, the struct of a call, vectors by the compiler's vector extensions.
//
// GS_W is the number of float lanes of a vector: 16 with AVX-512, 8 with AVX2, else 4. All code is written for any
// GS_W. Loads and stores are unaligned; an aligned address makes them as quick as aligned ones.

#include <math.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

#ifdef GS_KERNEL_ALONE
// A kernel compiled by itself: the model that it is linked into exports the runtime's functions.
#define GS_EXPORT static __attribute__((unused))
#else
#define GS_EXPORT __attribute__((visibility("default")))
#endif
// Seen by the other object files of the library, and by nobody else.
#define GS_HIDDEN __attribute__((visibility("hidden")))
#define GS_INLINE static inline __attribute__((always_inline, unused))
#define GS_LOCAL static __attribute__((unused))
#define GS_NOINLINE static __attribute__((noinline, unused))
#define GS_LIKELY(x) __builtin_expect(!!(x), 1)

typedef struct GsPool GsPool;

// One run of a model; the Python side of it is compiler/library.py. Filled once per session and reused.
typedef struct GsCall {
  void* const* inputs;     // one per model input, C-contiguous
  void* const* outputs;    // one per model output, C-contiguous, large enough
  const uint8_t* weights;  // packed weights, 64-byte aligned
  uint8_t* arena;          // working memory, 64-byte aligned; its contents mean nothing between runs
  int64_t* dims;           // values of the symbolic dims
  GsPool* pool;            // threads; NULL: the caller's alone
  int64_t* times;          // nanoseconds and turns are added here, two numbers a step; NULL: not measured
  char* message;           // why the result is not 0
  int64_t message_bytes;
} GsCall;

// Leave a text for the caller and return `code`, so that a step can say `return gs_fail(call, 3, "...")`.
GS_LOCAL int gs_fail(const GsCall* call, int code, const char* text) {
  int64_t n = (int64_t)strlen(text);
  if (call->message && call->message_bytes > 0) {
    if (n > call->message_bytes - 1) n = call->message_bytes - 1;
    memcpy(call->message, text, (size_t)n);
    call->message[n] = 0;
  }
  return code;
}

// Around each step of a run. Without GS_TIMED nothing stands there.
#ifdef GS_TIMED
#define GS_BEGIN clock = call->times ? gs_now_ns() : 0;
#define GS_END(step) if (call->times) call->times[2 * step] += gs_now_ns() - clock, call->times[2 * step + 1]++;
#else
#define GS_BEGIN
#define GS_END(step)
#endif

GS_INLINE int64_t gs_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
GS_INLINE int64_t gs_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
// The size of what two sizes broadcast to, which fit each other: one of them is 1, or they are the same.
GS_INLINE int64_t gs_broadcast_i64(int64_t a, int64_t b) { return a == 1 ? b : a; }
GS_INLINE int64_t gs_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
GS_INLINE int64_t gs_round_up(int64_t a, int64_t b) { return gs_ceil_div(a, b) * b; }

// Floor division and its remainder, as Python has them; C's own round towards zero.
GS_INLINE int64_t gs_floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q - ((a % b != 0) & ((a < 0) != (b < 0)));
}
GS_INLINE int64_t gs_floor_mod(int64_t a, int64_t b) {
  int64_t r = a % b;
  return r + ((r != 0) & ((r < 0) != (b < 0))) * b;
}

#ifndef GS_W
#if defined(__AVX512F__)
#define GS_W 16
#elif defined(__AVX2__)
#define GS_W 8
#else
#define GS_W 4
#endif
#endif

typedef float gs_vf __attribute__((vector_size(GS_W * 4)));
typedef int32_t gs_vi __attribute__((vector_size(GS_W * 4)));
typedef double gs_vd __attribute__((vector_size(GS_W * 4)));  // GS_W / 2 lanes
typedef float gs_vf_u __attribute__((vector_size(GS_W * 4), aligned(4), may_alias));
typedef int32_t gs_vi_u __attribute__((vector_size(GS_W * 4), aligned(4), may_alias));
typedef double gs_vd_u __attribute__((vector_size(GS_W * 4), aligned(8), may_alias));

GS_INLINE gs_vf gs_load(const float* p) { return *(const gs_vf_u*)p; }
GS_INLINE void gs_store(float* p, gs_vf v) { *(gs_vf_u*)p = v; }
GS_INLINE gs_vd gs_load_d(const double* p) { return *(const gs_vd_u*)p; }
GS_INLINE void gs_store_d(double* p, gs_vd v) { *(gs_vd_u*)p = v; }
// Subtracting +0 is what leaves every value as it is; adding it would turn -0 into +0.
GS_INLINE gs_vf gs_splat(float x) { return x - (gs_vf){0}; }
GS_INLINE gs_vd gs_splat_d(double x) { return x - (gs_vd){0}; }
GS_INLINE gs_vi gs_splat_i(int32_t x) { return x - (gs_vi){0}; }

// Instructions that C has no words for, by the names that the compilers themselves use: <immintrin.h> takes a compiler
// longer to read (0.3 s) than most kernels to compile. Where one has no such name, the header is read after all.
#if defined(__has_builtin)
#define GS_HAS(name) __has_builtin(__builtin_ia32_##name)
#else
#define GS_HAS(name) 0
#endif
#if defined(__AVX512F__) && GS_W == 16
#if GS_HAS(loadups512_mask) && GS_HAS(storeups512_mask) && GS_HAS(scalefps512_mask) && GS_HAS(maxps512) \
  && GS_HAS(minps512)
#define GS_MAX_PS(a, b) __builtin_ia32_maxps512(a, b, 4)
#define GS_MIN_PS(a, b) __builtin_ia32_minps512(a, b, 4)
#elif GS_HAS(loadups512_mask) && GS_HAS(storeups512_mask) && GS_HAS(scalefps512_mask) && GS_HAS(maxps512_mask) \
  && GS_HAS(minps512_mask)
#define GS_MAX_PS(a, b) __builtin_ia32_maxps512_mask(a, b, a, 0xFFFF, 4)
#define GS_MIN_PS(a, b) __builtin_ia32_minps512_mask(a, b, a, 0xFFFF, 4)
#else
#include <immintrin.h>
#define GS_MAX_PS(a, b) ((gs_vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define GS_MIN_PS(a, b) ((gs_vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define GS_SCALEF_PS(a, b) ((gs_vf)_mm512_scalef_ps((__m512)(a), (__m512)(b)))
#define GS_LOAD_MASKED(p, mask) ((gs_vf)_mm512_maskz_loadu_ps((__mmask16)(mask), p))
#define GS_STORE_MASKED(p, mask, v) _mm512_mask_storeu_ps(p, (__mmask16)(mask), (__m512)(v))
#endif
#ifndef GS_SCALEF_PS
#define GS_SCALEF_PS(a, b) __builtin_ia32_scalefps512_mask(a, b, a, 0xFFFF, 4)
#define GS_LOAD_MASKED(p, mask) __builtin_ia32_loadups512_mask(p, (gs_vf){0}, (unsigned short)(mask))
#define GS_STORE_MASKED(p, mask, v) __builtin_ia32_storeups512_mask(p, v, (unsigned short)(mask))
#endif
#elif defined(__AVX2__) && GS_W == 8
#if GS_HAS(maskloadps256) && GS_HAS(maskstoreps256)
#define GS_LOAD_MASKED(p, mask) __builtin_ia32_maskloadps256((const gs_vf*)(p), mask)
#define GS_STORE_MASKED(p, mask, v) __builtin_ia32_maskstoreps256((gs_vf*)(p), mask, v)
#else
#include <immintrin.h>
#define GS_LOAD_MASKED(p, mask) ((gs_vf)_mm256_maskload_ps(p, (__m256i)(mask)))
#define GS_STORE_MASKED(p, mask, v) _mm256_maskstore_ps(p, (__m256i)(mask), (__m256)(v))
#endif
#endif

// gs_load_range: the lanes [first, end) from memory, the others 0; nothing but these is touched.
// The first n lanes (0 < n <= GS_W) from memory, the others 0 / to memory, the others untouched. Nothing beyond is
// touched.
#if defined(__AVX512F__) && GS_W == 16
GS_INLINE gs_vf gs_load_n(const float* p, int64_t n) { return GS_LOAD_MASKED(p, 0xFFFFu >> (16 - n)); }
GS_INLINE void gs_store_n(float* p, gs_vf v, int64_t n) { GS_STORE_MASKED(p, 0xFFFFu >> (16 - n), v); }
GS_INLINE gs_vf gs_load_range(const float* p, int64_t first, int64_t end) {
  return GS_LOAD_MASKED(p, (1u << end) - (1u << gs_min_i64(first, end)));
}
#elif defined(__AVX2__) && GS_W == 8
GS_INLINE gs_vi gs_first_n(int64_t n) {
  return (gs_vi){0, 1, 2, 3, 4, 5, 6, 7} < gs_splat_i((int32_t)n);
}
GS_INLINE gs_vf gs_load_n(const float* p, int64_t n) { return GS_LOAD_MASKED(p, gs_first_n(n)); }
GS_INLINE void gs_store_n(float* p, gs_vf v, int64_t n) { GS_STORE_MASKED(p, gs_first_n(n), v); }
GS_INLINE gs_vf gs_load_range(const float* p, int64_t first, int64_t end) {
  return GS_LOAD_MASKED(p, gs_first_n(end) & ~gs_first_n(first));
}
#else
GS_INLINE gs_vf gs_load_n(const float* p, int64_t n) {
  float lanes[GS_W] = {0};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[i];
  return gs_load(lanes);
}
GS_INLINE void gs_store_n(float* p, gs_vf v, int64_t n) {
  float lanes[GS_W];
  gs_store(lanes, v);
  for (int64_t i = 0; i < n; i++) p[i] = lanes[i];
}
GS_INLINE gs_vf gs_load_range(const float* p, int64_t first, int64_t end) {
  float lanes[GS_W] = {0};
  for (int64_t i = first; i < end; i++) lanes[i] = p[i];
  return gs_load(lanes);
}
#endif

// Every second of 2 * GS_W floats, from the first on. (gcc has had __builtin_shufflevector since 12 only.)
#if defined(__clang__) || __GNUC__ >= 12
#define GS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define GS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (gs_vi){__VA_ARGS__})
#endif
GS_INLINE gs_vf gs_load_even(const float* p) {
  gs_vf a = gs_load(p), b = gs_load(p + GS_W);
#if GS_W == 16
  return GS_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif GS_W == 8
  return GS_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
  return GS_SHUFFLE(a, b, 0, 2, 4, 6);
#endif
}

// mask ? a : b, lane by lane; a lane of a mask is -1 or 0.
GS_INLINE gs_vf gs_select(gs_vi mask, gs_vf a, gs_vf b) {
  return (gs_vf)((mask & (gs_vi)a) | (~mask & (gs_vi)b));
}
GS_INLINE gs_vi gs_select_i(gs_vi mask, gs_vi a, gs_vi b) { return (mask & a) | (~mask & b); }
// The larger / smaller, b where either is NaN: what one machine instruction does. For NaN that must be kept, see
// gs_maxf.
#if defined(__AVX512F__) && GS_W == 16
// By name: clang takes the comparison apart and makes three instructions of it where it knows more of an operand.
GS_INLINE gs_vf gs_vmax(gs_vf a, gs_vf b) { return GS_MAX_PS(a, b); }
GS_INLINE gs_vf gs_vmin(gs_vf a, gs_vf b) { return GS_MIN_PS(a, b); }
#else
GS_INLINE gs_vf gs_vmax(gs_vf a, gs_vf b) { return gs_select(a > b, a, b); }
GS_INLINE gs_vf gs_vmin(gs_vf a, gs_vf b) { return gs_select(a < b, a, b); }
#endif

GS_INLINE float gs_sum_lanes(gs_vf v) {
  float s[GS_W];
  memcpy(s, &v, sizeof s);
  // Pairwise, as far as possible from one long chain: shorter and more exact.
  for (int w = GS_W / 2; w > 0; w /= 2)
    for (int i = 0; i < w; i++) s[i] += s[i + w];
  return s[0];
}
GS_INLINE float gs_max_lanes(gs_vf v) {
  float s[GS_W];
  memcpy(s, &v, sizeof s);
  for (int w = GS_W / 2; w > 0; w /= 2)
    for (int i = 0; i < w; i++) s[i] = s[i] > s[i + w] ? s[i] : s[i + w];
  return s[0];
}
