// Pictures seen at any places: y[b, c, p] = the sum (or maximum) over t of weights[b, t, p] * x[rows[b], c, index[b, t, p]].
//
// Which elements a place is made of is the same for all channels, so channels go into the lanes of vectors: the picture
// is laid out with a vector of channels at each element first. Few channels, or few places of a large picture, are
// gathered one channel at a time.
//
// What a reader would guess wrong: an index that is not inside the plane stands for an element that is 0, so that NaN
// at the edge of a picture stays out of what lies beyond.

#include "gs_move.h"
#include "gs_rows_f32.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef struct GsSample {
  int64_t batches, pictures, C, M, taps, places;
  const float* x;        // (pictures, C, M), M < 2^31
  const int64_t* rows;   // (batches), within the pictures; NULL: each batch is its own picture
  const int32_t* index;  // (batches, taps, places)
  const float* weights;  // (batches, taps, places)
  int largest;           // the maximum; NaN is the largest of all
  float* y;              // (batches, C, places)
  float* scratch;        // gs_sample_f32_scratch floats
} GsSample;

GS_LOCAL void gs_sample_f32_plain(const GsSample* v, GsPool* pool) {
  (void)pool;
  for (int64_t b = 0; b < v->batches; b++)
    for (int64_t c = 0; c < v->C; c++) {
      const float* x = v->x + ((v->rows ? v->rows[b] : b) * v->C + c) * v->M;
      for (int64_t p = 0; p < v->places; p++) {
        float y = 0;
        for (int64_t t = 0; t < v->taps; t++) {
          int64_t at = (b * v->taps + t) * v->places + p, i = v->index[at];
          float seen = v->weights[at] * (i >= 0 && i < v->M ? x[i] : 0.0f);
          y = t == 0 ? seen : v->largest ? gs_maxf(y, seen) : y + seen;
        }
        v->y[(b * v->C + c) * v->places + p] = y;
      }
    }
}

#define GS_SAMPLE_PLACES 64

GS_INLINE int gs_sample_is_by_channel(const GsSample* v) {
  return v->C <= GS_W / 4 || v->batches * v->taps * v->places * 4 < v->pictures * v->M;
}

GS_INLINE int64_t gs_sample_blocks(const GsSample* v) { return gs_ceil_div(v->C, GS_W); }

// The lanes of x at an index each; 0 where it is not inside.
GS_INLINE gs_vf gs_sample_gather(const float* x, gs_vi at, int64_t M) {
#if defined(__AVX512F__) && GS_W == 16
  __mmask16 inside = _mm512_cmplt_epu32_mask((__m512i)at, _mm512_set1_epi32((int)M));
  return (gs_vf)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), inside, (__m512i)at, x, 4);
#else
  gs_vf seen;
  for (int l = 0; l < GS_W; l++) seen[l] = (uint32_t)at[l] < (uint32_t)M ? x[at[l]] : 0.0f;
  return seen;
#endif
}

GS_LOCAL void gs_sample_channel_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsSample* v = arg;
  (void)thread;
  for (int64_t row = begin; row < end; row++) {
    int64_t b = row / v->C, c = row % v->C;
    const float* x = v->x + ((v->rows ? v->rows[b] : b) * v->C + c) * v->M;
    const int32_t* index = v->index + b * v->taps * v->places;
    const float* weights = v->weights + b * v->taps * v->places;
    for (int64_t p = 0; p < v->places; p += GS_W) {
      int64_t lanes = gs_min_i64(GS_W, v->places - p);
      gs_vf y = {0};
      for (int64_t t = 0; t < v->taps; t++) {
        int64_t at = t * v->places + p;
        gs_vi i;
        gs_vf raw = gs_load_some((const float*)(const void*)(index + at), lanes);
        memcpy(&i, &raw, sizeof i);
        gs_vf seen = gs_load_some(weights + at, lanes) * gs_sample_gather(x, i, v->M);
        y = t == 0 ? seen : v->largest ? gs_maxv(y, seen) : y + seen;
      }
      gs_store_some(v->y + row * v->places + p, y, lanes);
    }
  }
}

// One block of channels of a picture, a vector an element.
GS_LOCAL void gs_sample_lay_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsSample* v = arg;
  (void)thread;
  for (int64_t task = begin; task < end; task++) {
    int64_t picture = task / gs_sample_blocks(v), c = task % gs_sample_blocks(v) * GS_W;
    int64_t lanes = gs_min_i64(GS_W, v->C - c);
    const float* x = v->x + (picture * v->C + c) * v->M;
    float* to = v->scratch + task * v->M * GS_W;
    // Lanes of no channel are never given out, but what lies there must not be slow.
    if (lanes < GS_W) memset(to, 0, (size_t)(v->M * GS_W) * sizeof(float));
    gs_move_words((const char*)x, (char*)to, v->M, lanes, v->M, GS_W);
  }
}

GS_INLINE void gs_sample_places(const GsSample* v, const float* x, int64_t b, int64_t p0, int64_t count, float* tile,
                                const int64_t taps, const int largest) {
  static const float nothing[GS_W];
  int64_t n = taps ? taps : v->taps;
  const int32_t* index = v->index + b * n * v->places + p0;
  const float* weights = v->weights + b * n * v->places + p0;
  for (int64_t p = 0; p < count; p++) {
    gs_vf y = {0};
    for (int64_t t = 0; t < n; t++) {
      int32_t i = index[t * v->places + p];
      const float* from = (uint32_t)i < (uint32_t)v->M ? x + (int64_t)i * GS_W : nothing;
      gs_vf seen = weights[t * v->places + p] * gs_load(from);
      y = t == 0 ? seen : largest ? gs_maxv(y, seen) : y + seen;
    }
    gs_store(tile + p * GS_W, y);
  }
}

GS_LOCAL void gs_sample_block_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsSample* v = arg;
  (void)thread;
  int64_t chunks = gs_ceil_div(v->places, GS_SAMPLE_PLACES), blocks = gs_sample_blocks(v);
  float tile[GS_SAMPLE_PLACES * GS_W];
  for (int64_t task = begin; task < end; task++) {
    int64_t p0 = task % chunks * GS_SAMPLE_PLACES, block = task / chunks % blocks, b = task / chunks / blocks;
    int64_t count = gs_min_i64(GS_SAMPLE_PLACES, v->places - p0), lanes = gs_min_i64(GS_W, v->C - block * GS_W);
    const float* x = v->scratch + ((v->rows ? v->rows[b] : b) * blocks + block) * v->M * GS_W;
    if (v->largest) gs_sample_places(v, x, b, p0, count, tile, 0, 1);
    else if (v->taps == 4) gs_sample_places(v, x, b, p0, count, tile, 4, 0);
    else gs_sample_places(v, x, b, p0, count, tile, 0, 0);
    float* y = v->y + (b * v->C + block * GS_W) * v->places + p0;
    gs_move_words((const char*)tile, (char*)y, lanes, count, GS_W, v->places);
  }
}

GS_LOCAL int64_t gs_sample_f32_scratch(const GsSample* v, int threads) {
  (void)threads;
  return gs_sample_is_by_channel(v) ? 0 : v->pictures * gs_sample_blocks(v) * v->M * GS_W;
}

GS_LOCAL void gs_sample_f32(const GsSample* v, GsPool* pool) {
  if (v->batches * v->C * v->places <= 0) return;
  GsPool* used = v->batches * v->C * v->places * v->taps < 2 * GS_ROWS_ALONE ? 0 : pool;
  if (gs_sample_is_by_channel(v)) {
    gs_parallel_for(used, v->batches * v->C, gs_sample_channel_task, (void*)v);
    return;
  }
  gs_parallel_for(used, v->pictures * gs_sample_blocks(v), gs_sample_lay_task, (void*)v);
  gs_parallel_for(used, v->batches * gs_sample_blocks(v) * gs_ceil_div(v->places, GS_SAMPLE_PLACES),
                  gs_sample_block_task, (void*)v);
}
