// The rows that differ, as ONNX's Unique has them: where each is found first, which of them every row is, how often.
//
// Rows of few columns are sorted by their last column, then by the one before, and so on, 11 bits at a time; longer ones
// are merged, for the first columns mostly tell. Equal ones keep their order.
// NaN equals nothing, itself neither, and comes behind all numbers. -0 is 0.

#include "gs_select.h"

typedef struct GsUnique {
  int64_t rows, columns;  // rows < 2^32
  int type;               // GS_KEY_...
  int sorted;             // in rising order; otherwise in the order of the places
  const void* x;          // (rows, columns)
  int64_t *first, *inverse, *counts;  // (found), (rows), (found); room for `rows` each
  uint64_t* scratch;      // 4 * rows
} GsUnique;

// Sort the rows in `order` by one column. Gives the one of the two arrays that has the result.
GS_LOCAL int64_t* gs_unique_sorted(const GsUnique* v, int64_t column, int64_t* order, int64_t* other, uint64_t* key) {
  enum { DIGITS = 2048 };
  uint64_t any = 0, all = ~0ull;
  for (int64_t i = 0; i < v->rows; i++) {
    key[i] = gs_key(v->x, i * v->columns + column, v->type);
    any |= key[i], all &= key[i];
  }
  for (int shift = 0; shift < 64; shift += 11) {
    if (((any ^ all) >> shift & (DIGITS - 1)) == 0) continue;
    int64_t place[DIGITS] = {0}, sum = 0;
    for (int64_t i = 0; i < v->rows; i++) place[key[i] >> shift & (DIGITS - 1)]++;
    for (int d = 0; d < DIGITS; d++) {
      int64_t n = place[d];
      place[d] = sum, sum += n;
    }
    for (int64_t i = 0; i < v->rows; i++) other[place[key[order[i]] >> shift & (DIGITS - 1)]++] = order[i];
    int64_t* done = other;
    other = order, order = done;
  }
  return order;
}

// Whether row b comes before row a.
GS_INLINE int gs_unique_before(const GsUnique* v, int64_t b, int64_t a) {
  for (int64_t c = 0; c < v->columns; c++) {
    uint64_t of_b = gs_key(v->x, b * v->columns + c, v->type), of_a = gs_key(v->x, a * v->columns + c, v->type);
    if (of_a != of_b) return of_b < of_a;
  }
  return 0;
}

// Sort the rows in `order` by merging runs of twice the length each time.
GS_LOCAL int64_t* gs_unique_merged(const GsUnique* v, int64_t* order, int64_t* other) {
  for (int64_t run = 1; run < v->rows; run *= 2) {
    for (int64_t start = 0; start < v->rows; start += 2 * run) {
      int64_t a = start, a_end = gs_min_i64(start + run, v->rows), b = a_end, b_end = gs_min_i64(a_end + run, v->rows);
      for (int64_t to = start; to < b_end; to++) {
        int takes_b = a == a_end || (b < b_end && gs_unique_before(v, order[b], order[a]));
        other[to] = order[takes_b ? b++ : a++];
      }
    }
    int64_t* done = other;
    other = order, order = done;
  }
  return order;
}

GS_INLINE int gs_unique_is_nan(const GsUnique* v, int64_t at) {
  switch (v->type) {
    case GS_KEY_F32: return gs_key(v->x, at, v->type) == 0xFFFFFFFF;
    case GS_KEY_F64: return gs_key(v->x, at, v->type) == ~0ull;
    case GS_KEY_F16: case GS_KEY_BF16: return gs_key(v->x, at, v->type) == 0xFFFF;
    default: return 0;
  }
}

// Whether row b is another than row a.
GS_INLINE int gs_unique_differ(const GsUnique* v, int64_t a, int64_t b) {
  for (int64_t c = 0; c < v->columns; c++) {
    int64_t at = b * v->columns + c;
    if (gs_key(v->x, a * v->columns + c, v->type) != gs_key(v->x, at, v->type) || gs_unique_is_nan(v, at)) return 1;
  }
  return 0;
}

// How many differ.
GS_LOCAL int64_t gs_unique(const GsUnique* v) {
  int64_t *order = (int64_t*)v->scratch, *other = order + v->rows, *number = other + v->rows;
  int64_t found = 0, *now = order;
  for (int64_t i = 0; i < v->rows; i++) order[i] = i, number[i] = -1;
  if (v->columns > 8) now = gs_unique_merged(v, order, other);
  for (int64_t c = v->columns <= 8 ? v->columns - 1 : -1; c >= 0; c--)
    now = gs_unique_sorted(v, c, now, now == order ? other : order, (uint64_t*)number + v->rows);
  for (int64_t i = 0; i < v->rows; i++) {
    if (i == 0 || gs_unique_differ(v, now[i - 1], now[i])) v->first[found] = now[i], v->counts[found++] = 0;
    v->inverse[now[i]] = found - 1;
    v->counts[found - 1]++;
  }
  if (v->sorted) return found;
  int64_t next = 0;
  for (int64_t i = 0; i < v->rows; i++) {
    int64_t g = v->inverse[i];
    if (number[g] < 0) number[g] = next++, order[number[g]] = i, other[number[g]] = v->counts[g];
    v->inverse[i] = number[g];
  }
  memcpy(v->first, order, (size_t)found * sizeof(int64_t));
  memcpy(v->counts, other, (size_t)found * sizeof(int64_t));
  return found;
}
