// Bytes through a table: y[i] = table[x[i]].

#include "gs_conv_f32.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef struct GsBytes {
  int64_t n;
  const uint8_t* x;
  const uint8_t* table;  // 256 of them
  uint8_t* y;
} GsBytes;

GS_LOCAL void gs_bytes_plain(const GsBytes* v, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < v->n; i++) v->y[i] = v->table[v->x[i]];
}

#define GS_BYTES_TASK 16384

GS_LOCAL void gs_bytes_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBytes* v = arg;
  (void)thread;
  int64_t i = begin * GS_BYTES_TASK, stop = gs_min_i64(v->n, end * GS_BYTES_TASK);
#if defined(__AVX512VBMI__) && GS_W == 16
  // Two registers hold half of the table; the highest bit of a byte tells which half.
  __m512i a = _mm512_loadu_si512(v->table), b = _mm512_loadu_si512(v->table + 64);
  __m512i c = _mm512_loadu_si512(v->table + 128), d = _mm512_loadu_si512(v->table + 192);
  for (; i + 64 <= stop; i += 64) {
    __m512i x = _mm512_loadu_si512(v->x + i);
    __m512i low = _mm512_permutex2var_epi8(a, x, b), high = _mm512_permutex2var_epi8(c, x, d);
    _mm512_storeu_si512(v->y + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
  }
#endif
  for (; i < stop; i++) v->y[i] = v->table[v->x[i]];
}

GS_LOCAL void gs_bytes(const GsBytes* v, GsPool* pool) {
  gs_parallel_for(v->n < 8 * GS_BYTES_TASK ? 0 : pool, gs_ceil_div(v->n, GS_BYTES_TASK), gs_bytes_task, (void*)v);
}
