// Matrix products of whole numbers. One panel of B in L1, four rows of
// sums in registers, vectors by the compiler. Signed numbers are multiplied as unsigned ones: the bits are the same,
// and wrap around.
//
// gs_gemm_u32_run over gs_gemm_u32_t, gs_gemm_u64_run; ..._plain is their meaning.

#include "gs_pool.h"

#define GS_TILED_M 128
#define GS_TILED_N 16
#define GS_TILED_K 128
#define GS_TILED_FEW_N 32

#define GS_X uint32_t
#define GS_GEMM_T(name) gs_gemm_u32##name
#include "gs_gemm_tiled.inc"
#undef GS_X
#undef GS_GEMM_T
#define GS_X uint64_t
#define GS_GEMM_T(name) gs_gemm_u64##name
#include "gs_gemm_tiled.inc"
#undef GS_X
#undef GS_GEMM_T
