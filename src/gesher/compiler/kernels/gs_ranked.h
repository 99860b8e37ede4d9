// Ensembles of decision trees whose votes are summed: gs_ranked_f32_run over floats, gs_ranked_f64_run over doubles.
//
// Every test is made "greater than" when the forest is packed, whatever a node asked (<=, <, >=, >) and wherever it sends
// NaN: a feature has one column where NaN is above everything and one where it is below, as its nodes want them.
//
// Few rows, and large trees, are walked: several trees or rows side by side, over keys, which are the bits of the values
// as whole numbers in the same order.
//
// Many rows go through small trees without walking. A value is compared with the splits of its feature only, so its rank
// among them decides as well, and fits a byte. Where all nodes of a level ask the same (CatBoost's trees), the answers
// are the bits of the leaf's number. Else number a tree's leaves from left to right, a bit each: a node that sends a row
// to the right strikes out the leaves on its left, whether the row ever comes to that node or not, and the first leaf
// that is left is the row's (Lucchese et al., QuickScorer, SIGIR 2015). A bit of a byte of a vector of rows is a leaf.
// Either way a node is one comparison for a whole vector of rows.
//
// Sums are made in double whatever the type, so the order of trees does not show.

#include "gs_pool.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Rows of a vector of bytes, and of a block; rows, or trees of one row, that are walked side by side.
#define GS_BYTES (GS_W * 4)
#define GS_RANKED_ROWS (2 * GS_BYTES)
#define GS_RANKED_LANES 16

typedef uint8_t gs_vb __attribute__((vector_size(GS_BYTES)));
typedef uint16_t gs_vh __attribute__((vector_size(GS_BYTES)));
typedef uint32_t gs_vu __attribute__((vector_size(GS_BYTES)));

enum { GS_RANKED_FEATURE, GS_RANKED_SPLITS, GS_RANKED_BLOCKS, GS_RANKED_HIGH, GS_RANKED_LOW, GS_RANKED_WHERE };

// A step of a plane of leaves: where the column is greater, the bits are struck out; of a level, they are set.
typedef struct GsRankedUpdate {
  uint32_t rank, bits;   // a byte four times; a rank of two bytes twice
  int32_t column;
} GsRankedUpdate;

GS_INLINE gs_vb gs_bytes_of(uint32_t four) { return (gs_vb)((gs_vu){0} + four); }

// Where the ranks of a column are greater, a vector of bytes; and where a row's rank stands among those of a vector.
GS_INLINE gs_vb gs_greater_bytes(const void* column, uint32_t rank) {
  return (gs_vb)(*(const gs_vb*)column > gs_bytes_of(rank));
}
#if defined(__AVX512BW__) && GS_W == 16
GS_INLINE gs_vb gs_greater_words(const void* column, uint32_t rank) {
  __m512i t = _mm512_set1_epi32((int)rank);
  __mmask32 low = _mm512_cmpgt_epu16_mask(_mm512_load_si512(column), t);
  __mmask32 high = _mm512_cmpgt_epu16_mask(_mm512_load_si512((const char*)column + GS_BYTES), t);
  return (gs_vb)_mm512_movm_epi8(_mm512_kunpackd(high, low));
}
GS_INLINE int64_t gs_word_of(int64_t row) { return row; }
#elif defined(__AVX2__) && GS_W == 8
// Packing takes eight words of each in turn.
GS_INLINE gs_vb gs_greater_words(const void* column, uint32_t rank) {
  const gs_vh t = (gs_vh)gs_bytes_of(rank), *words = column;
  return (gs_vb)_mm256_packs_epi16((__m256i)(words[0] > t), (__m256i)(words[1] > t));
}
GS_INLINE int64_t gs_word_of(int64_t row) { return (row & ~24) | (row & 8) << 1 | (row & 16) >> 1; }
#else
GS_INLINE gs_vb gs_greater_words(const void* column, uint32_t rank) {
  const uint16_t* words = column;
  uint8_t found[GS_BYTES];
  for (int i = 0; i < GS_BYTES; i++) found[i] = words[i] > (uint16_t)rank ? 255 : 0;
  gs_vb v;
  memcpy(&v, found, sizeof v);
  return v;
}
GS_INLINE int64_t gs_word_of(int64_t row) { return row; }
#endif

#if defined(__AVX512F__) && GS_W == 16
#define GS_BELOW_f32(v, x) __builtin_popcount(_mm512_cmp_ps_mask(_mm512_loadu_ps(v), _mm512_set1_ps(x), _CMP_LT_OQ))
#define GS_BELOW_f64(v, x) __builtin_popcount(_mm512_cmp_pd_mask(_mm512_loadu_pd(v), _mm512_set1_pd(x), _CMP_LT_OQ))
#elif defined(__AVX2__) && GS_W == 8
#define GS_BELOW_f32(v, x) \
  __builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(v), _mm256_set1_ps(x), _CMP_LT_OQ)))
#define GS_BELOW_f64(v, x) \
  __builtin_popcount((unsigned)_mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(v), _mm256_set1_pd(x), _CMP_LT_OQ)))
#else
GS_INLINE int gs_below_f32(const float* v, float x) {
  int n = 0;
  for (int i = 0; i < GS_W; i++) n += v[i] < x;
  return n;
}
GS_INLINE int gs_below_f64(const double* v, double x) {
  int n = 0;
  for (int i = 0; i < GS_W / 2; i++) n += v[i] < x;
  return n;
}
#define GS_BELOW_f32(v, x) gs_below_f32(v, x)
#define GS_BELOW_f64(v, x) gs_below_f64(v, x)
#endif

#define GS_X float
#define GS_KEY uint32_t
#define GS_XW GS_W
#define GS_BELOW GS_BELOW_f32
#define GS_RANKED(name) gs_ranked_f32##name
#include "gs_ranked.inc"
#undef GS_X
#undef GS_KEY
#undef GS_XW
#undef GS_BELOW
#undef GS_RANKED
#define GS_X double
#define GS_KEY uint64_t
#define GS_XW (GS_W / 2)
#define GS_BELOW GS_BELOW_f64
#define GS_RANKED(name) gs_ranked_f64##name
#include "gs_ranked.inc"
#undef GS_X
#undef GS_KEY
#undef GS_XW
#undef GS_BELOW
#undef GS_RANKED
