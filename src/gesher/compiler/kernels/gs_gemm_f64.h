// Matrix products in double: the text of gs_gemm_f32.h for vectors of half as many numbers.

#include "gs_gemm_f32.h"

GS_INLINE double gs_sum_lanes_d(gs_vd v) {
  double s[GS_W / 2];
  memcpy(s, &v, sizeof s);
  for (int w = GS_W / 4; w > 0; w /= 2)
    for (int i = 0; i < w; i++) s[i] += s[i + w];
  return s[0];
}

#define GS_X double
#define GS_V gs_vd
#define GS_LANES (GS_W / 2)
#define GS_V_LOAD gs_load_d
#define GS_V_STORE gs_store_d
#define GS_V_SPLAT gs_splat_d
#define GS_V_SUM_LANES gs_sum_lanes_d
#define GS_NR (GS_GEMM_NR / 2)
#define GS_KC_MOST (GS_GEMM_KC_MOST / 2)
#define GS_L2 (GS_GEMM_L2 / 2)
#define GS_L2_A (GS_GEMM_L2_A / 2)
#define GS_GEMM GsGemmF64
#define GS_GEMM_TILE GsGemmTileF64
#define GS_GEMM_RUN GsGemmRunF64
#define GS_TILE_FN GsTileFnF64
#define GS_GEMM_ENTRY gs_gemm_f64
#define GS_GEMM_T(name) gs_gemm_f64##name
#define GS_GEMM_SIZED(rows, nv) gs_gemm_f64_micro_##rows##x##nv
#define GS_GEMM_FEW(cols) gs_gemm_f64_narrow_##cols
#include "gs_gemm.inc"
