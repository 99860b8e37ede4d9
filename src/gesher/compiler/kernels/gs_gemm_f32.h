// Matrix products in float: C[m,n] = sum over k of A[m,k] * B[k,n], + bias, then whatever follows, for a batch of
// matrices.
//
// How it runs. A tile of MR rows by NR columns of C stays in registers while k runs; per k that costs MR broadcasts
// of A and NV loads of B for MR * NV multiplications, so the multipliers are the limit and not the loads. B comes in
// panels of NR columns, each row of a panel side by side: from constant weights packed at compile time, else packed
// on the way. KC rows of a few panels fit L2, MR rows of A fit L1. A is read where it stands, for its rows are read
// in order; only a transposed A is copied.
//
// What follows a product (activation, residual, ...) is a function that is called with each finished rectangle of C
// while that is still in L1: plain loops over it cost next to nothing, so nothing has to be spliced into the kernel.

#include "gs_pool.h"

// Registers decide the tile: 24 sums + 3 of B + 1 of A of 32 registers, or 12 + 2 + 1 of 16.
#ifndef GS_GEMM_MR
#if defined(__AVX512F__) || defined(__aarch64__)
#define GS_GEMM_MR 8
#define GS_GEMM_NV 3
#else
#define GS_GEMM_MR 6
#define GS_GEMM_NV 2
#endif
#endif
#define GS_GEMM_NR (GS_GEMM_NV * GS_W)
// Rows of B per pass, and floats of B that stay in L2 meanwhile.
#ifndef GS_GEMM_KC
#define GS_GEMM_KC 768
#define GS_GEMM_L2 (80 * 1024)
#endif
// A pass may be somewhat longer where that spares one: each reads and writes C. Floats of A that stay in L2.
#define GS_GEMM_KC_MOST (GS_GEMM_KC + GS_GEMM_KC / 2)
#define GS_GEMM_L2_A (128 * 1024)

#if defined(__clang__) || __GNUC__ >= 12
#define GS_GEMM_PACK_FOURS 1
typedef float gs_v4 __attribute__((vector_size(16)));
typedef float gs_v4_u __attribute__((vector_size(16), aligned(4), may_alias));

// Four columns of B, each side by side along k, as rows of a panel: 4 x 4 numbers at a time change their places.
GS_INLINE void gs_gemm_pack_four(int64_t K, const float* b, int64_t b_col, float* to) {
  int64_t k = 0;
  for (; k + 4 <= K; k += 4) {
    gs_v4 a0 = *(const gs_v4_u*)(b + k), a1 = *(const gs_v4_u*)(b + b_col + k);
    gs_v4 a2 = *(const gs_v4_u*)(b + 2 * b_col + k), a3 = *(const gs_v4_u*)(b + 3 * b_col + k);
    gs_v4 low01 = __builtin_shufflevector(a0, a1, 0, 4, 1, 5), high01 = __builtin_shufflevector(a0, a1, 2, 6, 3, 7);
    gs_v4 low23 = __builtin_shufflevector(a2, a3, 0, 4, 1, 5), high23 = __builtin_shufflevector(a2, a3, 2, 6, 3, 7);
    *(gs_v4_u*)(to + k * GS_GEMM_NR) = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    *(gs_v4_u*)(to + (k + 1) * GS_GEMM_NR) = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    *(gs_v4_u*)(to + (k + 2) * GS_GEMM_NR) = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    *(gs_v4_u*)(to + (k + 3) * GS_GEMM_NR) = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
  }
  for (; k < K; k++)
    for (int j = 0; j < 4; j++) to[k * GS_GEMM_NR + j] = b[k + j * b_col];
}
#endif

#define GS_X float
#define GS_V gs_vf
#define GS_LANES GS_W
#define GS_V_LOAD gs_load
#define GS_V_STORE gs_store
#define GS_V_SPLAT gs_splat
#define GS_V_SUM_LANES gs_sum_lanes
#define GS_NR GS_GEMM_NR
#define GS_KC_MOST GS_GEMM_KC_MOST
#define GS_L2 GS_GEMM_L2
#define GS_L2_A GS_GEMM_L2_A
#define GS_GEMM GsGemm
#define GS_GEMM_TILE GsGemmTile
#define GS_GEMM_RUN GsGemmRun
#define GS_TILE_FN GsTileFn
#define GS_GEMM_ENTRY gs_gemm_f32
#define GS_GEMM_T(name) gs_gemm_f32##name
#define GS_GEMM_SIZED(rows, nv) gs_gemm_f32_micro_##rows##x##nv
#define GS_GEMM_FEW(cols) gs_gemm_f32_narrow_##cols
#ifdef GS_GEMM_PACK_FOURS
#define GS_PACK_FOUR gs_gemm_pack_four
#endif
#include "gs_gemm.inc"
