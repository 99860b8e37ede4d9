// A tile of outputs over blocked channels, b = GS_W in a vector: what convolutions and Winograd's products stand on.
//
// A tile of up to MR output places, any that follow each other, by two blocks of outputs stays in registers; per input
// channel and tap that costs two loads of weights and a broadcast a place. Where the places' inputs lie is a table, so
// that a tile may run over the ends of rows, and small or odd pictures cost nothing more.

#include "gs_base.h"

// Of a number and a NaN, gs_vmax and gs_vmin give their second.
GS_INLINE gs_vf gs_blocked_clamped(gs_vf x, gs_vf low, gs_vf high) { return gs_vmin(high, gs_vmax(low, x)); }

// Registers decide: 28 sums + 2 of w + 1 of x of 32, or 12 + 2 + 1 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
#define GS_BLOCKED_MR 14
#else
#define GS_BLOCKED_MR 6
#endif

typedef struct GsBlockedTile {
  const float *x, *w;
  gs_vf bias[2];              // what the sums of both blocks begin with
  const float* begun;         // sums of whole blocks that are added to that, or NULL; from a block to the next
  int64_t begun_block;        //   begun_block floats
  const int64_t* at;          // where each place's input begins, from x
  const int64_t* segments;    // runs of x that w's rows go with, from there: first count[0] of length[0], then [1]
  int64_t count[2], length[2];
  const float* residual;      // of y's form: what is added to outputs, or NULL
  const gs_vf* bounds;        // low and high, between which outputs are kept; NULL for none
  float* y;                   // places of a block stand side by side
  int64_t y_block;            // from a block to the next, in floats
  // What is asked for while products run, a line with each row of w, `ahead_step` floats apart. Not NULL: that costs
  // more than any line that is there.
  const float* ahead;
  int64_t ahead_step;
} GsBlockedTile;

// The lower half of a vector by itself, where that is half the work: for a last block of few outputs.
#if GS_W == 16 && (defined(__clang__) || __GNUC__ >= 12)
#define GS_BLOCKED_HALVES 1
typedef float gs_blocked_lower __attribute__((vector_size(GS_W * 2)));
GS_INLINE gs_blocked_lower gs_blocked_lower_of(gs_vf x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
}
GS_INLINE gs_vf gs_blocked_widened(gs_blocked_lower x) {
  return __builtin_shufflevector(x, (gs_blocked_lower){0}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#else
#define GS_BLOCKED_HALVES 0
typedef gs_vf gs_blocked_lower;
GS_INLINE gs_blocked_lower gs_blocked_lower_of(gs_vf x) { return x; }
GS_INLINE gs_vf gs_blocked_widened(gs_blocked_lower x) { return x; }
#endif
// Whether the last of `outputs` (of a group) lie in the lower half of their block.
GS_INLINE int gs_blocked_halved(int64_t outputs) {
  return GS_BLOCKED_HALVES && outputs % GS_W > 0 && outputs % GS_W <= GS_W / 2;
}

// `half`: the upper half of the last block holds no outputs, and becomes 0 or anything.
GS_INLINE void gs_blocked_micro(const int places, const int blocks, const int half, const GsBlockedTile* t) {
  gs_vf sum[GS_BLOCKED_MR][2];
  gs_blocked_lower part[GS_BLOCKED_MR];
  int64_t at[GS_BLOCKED_MR];
  const int full = blocks - half;
#pragma GCC unroll 16
  for (int i = 0; i < places; i++) {
    at[i] = t->at[i];
    part[i] = gs_blocked_lower_of(t->bias[blocks - 1]);
#pragma GCC unroll 2
    for (int j = 0; j < full; j++) sum[i][j] = t->bias[j];
  }
  if (!half && t->begun) {
#pragma GCC unroll 16
    for (int i = 0; i < places; i++)
#pragma GCC unroll 2
      for (int j = 0; j < full; j++) sum[i][j] += gs_load(t->begun + j * t->begun_block + i * GS_W);
  }
  const float* w = t->w;
  float* const y = t->y;
  const int64_t y_block = t->y_block;
  const int64_t* segment = t->segments;
  const float* ahead = t->ahead;
  const int64_t ahead_step = t->ahead_step;
  for (int piece = 0; piece < 2; piece++)
    for (int64_t s = t->count[piece]; s > 0; s--) {
      const float* p = t->x + *segment++;
      for (const float* end = p + t->length[piece]; p < end; p++, w += blocks * GS_W, ahead += ahead_step) {
        gs_vf u[2];
        __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 2
        for (int j = 0; j < blocks; j++) u[j] = gs_load(w + j * GS_W);
        const gs_blocked_lower last = gs_blocked_lower_of(u[blocks - 1]);
#pragma GCC unroll 16
        for (int i = 0; i < places; i++) {
          gs_vf a = gs_splat(p[at[i]]);
#if GS_BLOCKED_HALVES
          // One load for both: left alone, clang repeats the number anew for the whole vector.
          if (half) __asm__("" : "+v"(a));
#endif
#pragma GCC unroll 2
          for (int j = 0; j < full; j++) sum[i][j] += a * u[j];
          if (half) part[i] += gs_blocked_lower_of(a) * last;
        }
      }
    }
#pragma GCC unroll 16
  for (int i = 0; i < places; i++)
    if (half) sum[i][blocks - 1] = gs_blocked_widened(part[i]);
  if (t->residual) {
#pragma GCC unroll 16
    for (int i = 0; i < places; i++)
#pragma GCC unroll 2
      for (int j = 0; j < blocks; j++) sum[i][j] += gs_load(t->residual + j * y_block + i * GS_W);
  }
  if (t->bounds) {
    const gs_vf low = t->bounds[0], high = t->bounds[1];
#pragma GCC unroll 16
    for (int i = 0; i < places; i++)
#pragma GCC unroll 2
      for (int j = 0; j < blocks; j++) sum[i][j] = gs_blocked_clamped(sum[i][j], low, high);
  }
#pragma GCC unroll 16
  for (int i = 0; i < places; i++)
#pragma GCC unroll 2
    for (int j = 0; j < blocks; j++) gs_store(y + j * y_block + i * GS_W, sum[i][j]);
}

// One function for each number of places, blocks, and whether the last is half empty.
#define GS_BLOCKED_MICRO(places, blocks, half) \
  GS_NOINLINE void gs_blocked_micro_##places##x##blocks##_##half(const GsBlockedTile* t) { \
    gs_blocked_micro(places, blocks, half, t); }
#define GS_BLOCKED_NAME(places, blocks, half) gs_blocked_micro_##places##x##blocks##_##half,
#define GS_BLOCKED_6(X, ...) \
  X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__)
#if GS_BLOCKED_MR == 14
#define GS_BLOCKED_ALL(X, ...) \
  GS_BLOCKED_6(X, __VA_ARGS__) X(7, __VA_ARGS__) X(8, __VA_ARGS__) X(9, __VA_ARGS__) X(10, __VA_ARGS__) \
  X(11, __VA_ARGS__) X(12, __VA_ARGS__) X(13, __VA_ARGS__) X(14, __VA_ARGS__)
#else
#define GS_BLOCKED_ALL GS_BLOCKED_6
#endif
GS_BLOCKED_ALL(GS_BLOCKED_MICRO, 1, 0)
GS_BLOCKED_ALL(GS_BLOCKED_MICRO, 2, 0)
#if GS_BLOCKED_HALVES
GS_BLOCKED_ALL(GS_BLOCKED_MICRO, 1, 1)
GS_BLOCKED_ALL(GS_BLOCKED_MICRO, 2, 1)
#endif
// [whether the last block is half empty][blocks - 1][places - 1]
static void (*const gs_blocked_micros[1 + GS_BLOCKED_HALVES][2][GS_BLOCKED_MR])(const GsBlockedTile*)
  __attribute__((unused)) = {
    {{GS_BLOCKED_ALL(GS_BLOCKED_NAME, 1, 0)}, {GS_BLOCKED_ALL(GS_BLOCKED_NAME, 2, 0)}},
#if GS_BLOCKED_HALVES
    {{GS_BLOCKED_ALL(GS_BLOCKED_NAME, 1, 1)}, {GS_BLOCKED_ALL(GS_BLOCKED_NAME, 2, 1)}},
#endif
};
