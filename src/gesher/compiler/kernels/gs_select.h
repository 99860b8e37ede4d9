// The k largest or smallest along an axis, in order, with their places; with k = n a sort.
//
// Equal elements keep their order (the lower place comes first), -0 equals +0, and NaN counts as larger than every
// number. Elements become whole numbers that order alike, so one heap serves all types.

#include "gs_rows_f32.h"

typedef struct GsSelect {
  int64_t outer, n, inner, k;  // x (outer, n, inner); k <= n
  int type;                    // GS_KEY_...
  const void* x;
  void* values;                // (outer, k, inner), the type of x; NULL where not wanted
  int64_t* places;             // (outer, k, inner); NULL where not wanted
  int largest;
  uint64_t* scratch;           // gs_select_scratch of them
} GsSelect;

enum {
  GS_KEY_F32, GS_KEY_F64, GS_KEY_I8, GS_KEY_U8, GS_KEY_I16, GS_KEY_U16, GS_KEY_I32, GS_KEY_U32, GS_KEY_I64, GS_KEY_U64,
  GS_KEY_F16, GS_KEY_BF16
};

GS_INLINE int64_t gs_key_bytes(int type) {
  switch (type) {
    case GS_KEY_I8: case GS_KEY_U8: return 1;
    case GS_KEY_I16: case GS_KEY_U16: case GS_KEY_F16: case GS_KEY_BF16: return 2;
    case GS_KEY_F64: case GS_KEY_I64: case GS_KEY_U64: return 8;
    default: return 4;
  }
}

// A float's bits order like the numbers once negative ones are turned over.
GS_INLINE uint64_t gs_key_of_bits(uint64_t u, int bits, uint64_t infinity) {
  uint64_t sign = 1ull << (bits - 1), rest = u & (sign - 1);
  if (rest > infinity) return ~0ull >> (64 - bits);
  if (rest == 0) return sign;
  return u & sign ? sign - rest : sign | rest;
}

GS_INLINE uint64_t gs_key(const void* x, int64_t i, int type) {
  const uint64_t middle = 1ull << 63;
  switch (type) {
    case GS_KEY_F32: return gs_key_of_bits(((const uint32_t*)x)[i], 32, 0x7F800000);
    case GS_KEY_F64: return gs_key_of_bits(((const uint64_t*)x)[i], 64, 0x7FF0000000000000);
    case GS_KEY_F16: return gs_key_of_bits(((const uint16_t*)x)[i], 16, 0x7C00);
    case GS_KEY_BF16: return gs_key_of_bits(((const uint16_t*)x)[i], 16, 0x7F80);
    case GS_KEY_I8: return middle + (uint64_t)(int64_t)((const int8_t*)x)[i];
    case GS_KEY_U8: return ((const uint8_t*)x)[i];
    case GS_KEY_I16: return middle + (uint64_t)(int64_t)((const int16_t*)x)[i];
    case GS_KEY_U16: return ((const uint16_t*)x)[i];
    case GS_KEY_I32: return middle + (uint64_t)(int64_t)((const int32_t*)x)[i];
    case GS_KEY_U32: return ((const uint32_t*)x)[i];
    case GS_KEY_I64: return middle + (uint64_t)((const int64_t*)x)[i];
    default: return ((const uint64_t*)x)[i];
  }
}

// What comes first has the smaller key.
GS_INLINE uint64_t gs_select_key(const GsSelect* s, int64_t at) {
  uint64_t key = gs_key(s->x, at, s->type);
  return s->largest ? ~key : key;
}

GS_LOCAL void gs_select_store(const GsSelect* s, int64_t row, int64_t j, int64_t place) {
  int64_t o = row / s->inner, i = row % s->inner, to = (o * s->k + j) * s->inner + i, bytes = gs_key_bytes(s->type);
  int64_t from = (o * s->n + place) * s->inner + i;
  if (s->values) memcpy((char*)s->values + to * bytes, (const char*)s->x + from * bytes, (size_t)bytes);
  if (s->places) s->places[to] = place;
}

// For each element: how many come before it says where it goes.
GS_LOCAL void gs_select_plain(const GsSelect* s, GsPool* pool) {
  (void)pool;
  for (int64_t row = 0; row < s->outer * s->inner; row++) {
    int64_t base = row / s->inner * s->n * s->inner + row % s->inner;
    for (int64_t a = 0; a < s->n; a++) {
      uint64_t key = gs_select_key(s, base + a * s->inner);
      int64_t before = 0;
      for (int64_t b = 0; b < s->n; b++) {
        uint64_t other = gs_select_key(s, base + b * s->inner);
        before += other < key || (other == key && b < a);
      }
      if (before < s->k) gs_select_store(s, row, before, a);
    }
  }
}

typedef struct GsKeyed {
  uint64_t key;
  int64_t place;
} GsKeyed;

GS_INLINE int gs_keyed_after(GsKeyed a, GsKeyed b) { return a.key > b.key || (a.key == b.key && a.place > b.place); }

// Let `item` sink from the top of a heap of n whose top comes last in order.
GS_INLINE void gs_sink(GsKeyed* heap, int64_t n, int64_t at, GsKeyed item) {
  for (int64_t child; (child = 2 * at + 1) < n; at = child) {
    child += child + 1 < n && gs_keyed_after(heap[child + 1], heap[child]);
    if (!gs_keyed_after(heap[child], item)) break;
    heap[at] = heap[child];
  }
  heap[at] = item;
}

// From `a` on the first place of a row that may come before the one at the heap's top, or n. NaN may: it is neither
// larger nor smaller. A block of 64 bytes times 4 at a time, as vectors by the compiler.
#define GS_SELECT_NEXT(T, name)                                                                         \
  GS_INLINE int64_t name(const T* x, int64_t a, int64_t n, T top, const int largest) {                  \
    enum { BLOCK = 256 / sizeof(T) };                                                                   \
    for (; a + BLOCK <= n; a += BLOCK) {                                                                \
      int any = 0;                                                                                      \
      for (int l = 0; l < BLOCK; l++) any |= largest ? !(x[a + l] <= top) : !(x[a + l] >= top);         \
      if (any) break;                                                                                   \
    }                                                                                                   \
    while (a < n && (largest ? x[a] <= top : x[a] >= top)) a++;                                         \
    return a;                                                                                           \
  }
GS_SELECT_NEXT(double, gs_select_next_f64)
GS_SELECT_NEXT(int64_t, gs_select_next_i64)
GS_SELECT_NEXT(int32_t, gs_select_next_i32)
GS_INLINE int64_t gs_select_next_f32(const float* x, int64_t a, int64_t n, float top, const int largest) {
  const gs_vf t = gs_splat(top);
  for (; a + 4 * GS_W <= n; a += 4 * GS_W) {
    gs_vi out = {0};
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      gs_vf now = gs_load(x + a + v * GS_W);
      out |= largest ? ~(now <= t) : ~(now >= t);
    }
    int any = 0;
    for (int l = 0; l < GS_W; l++) any |= out[l];
    if (any) break;
  }
  while (a < n && (largest ? x[a] <= top : x[a] >= top)) a++;
  return a;
}

// The types whose rows are looked through by vectors.
GS_INLINE int gs_select_is_quick(int type) {
  return type == GS_KEY_F32 || type == GS_KEY_F64 || type == GS_KEY_I64 || type == GS_KEY_I32;
}
GS_INLINE int64_t gs_select_next(const GsSelect* s, const void* row, int64_t a, int64_t top) {
#define GS_SELECT_IN(T, name)                                                       \
  return s->largest ? name((const T*)row, a, s->n, ((const T*)row)[top], 1)         \
                    : name((const T*)row, a, s->n, ((const T*)row)[top], 0)
  switch (s->type) {
    case GS_KEY_F64: GS_SELECT_IN(double, gs_select_next_f64);
    case GS_KEY_I64: GS_SELECT_IN(int64_t, gs_select_next_i64);
    case GS_KEY_I32: GS_SELECT_IN(int32_t, gs_select_next_i32);
    default: GS_SELECT_IN(float, gs_select_next_f32);
  }
#undef GS_SELECT_IN
}

// Many of a row of numbers of 32 bits at the most: a count of the leading bits tells which can be among the first k; these are sorted, 11 bits
// at a time, the last ones first, so that equal elements keep their order. `a` and `b` have room for n each.
GS_LOCAL void gs_select_many(const GsSelect* s, int64_t row, int64_t base, uint64_t* a, uint64_t* b) {
  enum { DIGITS = 2048 };
  int64_t place[DIGITS] = {0}, m = 0;
  // Of signed numbers the lower half of a key does not tell the sign.
  const uint32_t turned = s->type == GS_KEY_I8 || s->type == GS_KEY_I16 || s->type == GS_KEY_I32 ? 0x80000000u : 0;
  for (int64_t i = 0; i < s->n; i++) {
    uint32_t key = (uint32_t)gs_select_key(s, base + i * s->inner) ^ turned;
    a[i] = (uint64_t)key << 32 | (uint64_t)i;
    place[key >> 21]++;
  }
  uint64_t last = 0;
  for (int64_t sum = place[0]; sum < s->k; sum += place[last]) last++;
  for (int64_t i = 0; i < s->n; i++) {
    b[m] = a[i];
    m += a[i] >> 53 <= last;
  }
  for (int shift = 32; shift < 64; shift += 11) {
    memset(place, 0, sizeof place);
    for (int64_t i = 0; i < m; i++) place[b[i] >> shift & (DIGITS - 1)]++;
    int64_t sum = 0;
    for (int d = 0; d < DIGITS; d++) {
      int64_t n = place[d];
      place[d] = sum, sum += n;
    }
    for (int64_t i = 0; i < m; i++) a[place[b[i] >> shift & (DIGITS - 1)]++] = b[i];
    uint64_t* other = a;
    a = b, b = other;
  }
  for (int64_t j = 0; j < s->k; j++) gs_select_store(s, row, j, (int64_t)(uint32_t)b[j]);
}

// Whether a heap of the first k may turn out the slower way, so that a count of bits must be able to take over.
GS_INLINE int gs_select_may_count(const GsSelect* s) {
  return gs_key_bytes(s->type) <= 4 && s->n >= 256 && s->n < (int64_t)1 << 32;
}
// Whether so many are wanted that they are counted from the start.
GS_INLINE int gs_select_is_many(const GsSelect* s) { return gs_select_may_count(s) && s->k > 64 && s->k > s->n / 64; }

// Columns that are taken side by side out of memory, so that each has its elements in a row.
#define GS_SELECT_COLUMNS 16
GS_INLINE int gs_select_copies(const GsSelect* s) { return s->type == GS_KEY_F32 && s->inner > 1; }

// Words of scratch of one thread.
GS_INLINE int64_t gs_select_words(const GsSelect* s) {
  int64_t words = gs_select_may_count(s) ? 2 * s->n + 1 : 0;
  return gs_max_i64(words, 2 * gs_max_i64(s->k, 1)) + (gs_select_copies(s) ? s->n * GS_SELECT_COLUMNS / 2 : 0);
}

// A heap of the first k, and what it holds at the end as the row's results.
GS_INLINE void gs_select_begin(const GsSelect* s, int64_t base, GsKeyed* heap) {
  for (int64_t a = 0; a < s->k; a++) heap[a] = (GsKeyed){gs_select_key(s, base + a * s->inner), a};
  for (int64_t a = s->k / 2 - 1; a >= 0; a--) gs_sink(heap, s->k, a, heap[a]);
}
GS_INLINE void gs_select_end(const GsSelect* s, int64_t row, GsKeyed* heap) {
  for (int64_t left = s->k; left > 0; left--) {
    gs_select_store(s, row, left - 1, heap[0].place);
    gs_sink(heap, left - 1, 0, heap[left - 1]);
  }
}

// One row whose elements lie side by side at `x`: 0 where too many would go through the heap.
GS_LOCAL int gs_select_quick(const GsSelect* s, int64_t row, int64_t base, const void* x, GsKeyed* heap) {
  int64_t k = s->k;
  gs_select_begin(s, base, heap);
  // Of n in no order k * log(n / k) go through. In rising order all do.
  int64_t left = gs_select_may_count(s) ? 8 * k + s->n / 16 : s->n;
  for (int64_t a = k; a < s->n; a++) {
    a = gs_select_next(s, x, a, heap[0].place);
    if (a == s->n) break;
    if (left-- == 0) return 0;
    uint64_t key = gs_select_key(s, base + a * s->inner);
    if (key < heap[0].key) gs_sink(heap, k, 0, (GsKeyed){key, a});
  }
  gs_select_end(s, row, heap);
  return 1;
}

// `side`: the row's elements where they lie side by side, of a type that vectors look through; NULL otherwise.
GS_LOCAL void gs_select_row(const GsSelect* s, int64_t row, const void* side, uint64_t* room) {
  int64_t k = s->k, base = row / s->inner * s->n * s->inner + row % s->inner;
  GsKeyed* heap = (GsKeyed*)room;
  if (!gs_select_is_many(s)) {
    if (side) {
      if (gs_select_quick(s, row, base, side, heap)) return;
    } else {
      gs_select_begin(s, base, heap);
      // The heap holds the k first so far; a later place never goes before an equal one.
      for (int64_t a = k; a < s->n; a++) {
        uint64_t key = gs_select_key(s, base + a * s->inner);
        if (key < heap[0].key) gs_sink(heap, k, 0, (GsKeyed){key, a});
      }
      gs_select_end(s, row, heap);
      return;
    }
  }
  gs_select_many(s, row, base, room, room + s->n);
}

// Few of columns of floats side by side: each lane of a vector is a column, and the best so far are a list of vectors,
// into which a row goes from the top. Keys are numbers that are larger the earlier they come.
#define GS_SELECT_FEW 16
GS_INLINE int gs_select_is_columns(const GsSelect* s) {
  return s->type == GS_KEY_F32 && s->inner >= GS_W / 2 && s->k <= GS_SELECT_FEW && s->n < (int64_t)1 << 31;
}

GS_INLINE gs_vi gs_select_keys(gs_vf x, const int largest) {
  gs_vi bits = (gs_vi)(x + 0.0f);  // -0 is 0
  gs_vi key = bits ^ ((bits >> 31) & 0x7FFFFFFF);
  key = gs_select_i(x != x, gs_splat_i(0x7FFFFFFF), key);
  return largest ? key : ~key;
}

GS_INLINE void gs_select_columns(const GsSelect* s, const float* x, int64_t* places, int64_t lanes, const int largest) {
  gs_vi best[GS_SELECT_FEW], where[GS_SELECT_FEW];
  const int k = (int)s->k;
  for (int j = 0; j < k; j++) best[j] = where[j] = gs_splat_i(0);
  for (int64_t a = 0; a < s->n; a++) {
    const float* row = x + a * s->inner;
    gs_vi key = gs_select_keys(lanes == GS_W ? gs_load(row) : gs_load_n(row, lanes), largest);
    if (a >= k) {
      gs_vi out = key > best[k - 1];
      int any = 0;
      for (int l = 0; l < GS_W; l++) any |= out[l];
      if (!any) continue;
    }
    gs_vi place = gs_splat_i((int32_t)a), goes = {0};
    for (int j = 0; j < k; j++) {
      // From where it goes in, all behind it move on; places that are not filled yet take anything.
      goes |= j >= a ? ~(gs_vi){0} : key > best[j];
      gs_vi out = best[j], out_place = where[j];
      best[j] = gs_select_i(goes, key, out);
      where[j] = gs_select_i(goes, place, out_place);
      key = gs_select_i(goes, out, key);
      place = gs_select_i(goes, out_place, place);
    }
  }
  for (int j = 0; j < k; j++)
    for (int64_t l = 0; l < lanes; l++) places[j * s->inner + l] = where[j][l];
}

GS_LOCAL void gs_select_columns_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsSelect* s = arg;
  (void)thread;
  int64_t across = gs_ceil_div(s->inner, GS_W);
  for (int64_t task = begin; task < end; task++) {
    int64_t o = task / across, i = task % across * GS_W, lanes = gs_min_i64(GS_W, s->inner - i);
    const float* x = (const float*)s->x + o * s->n * s->inner + i;
    int64_t* places = s->places + o * s->k * s->inner + i;
    if (s->largest) gs_select_columns(s, x, places, lanes, 1);
    else gs_select_columns(s, x, places, lanes, 0);
    for (int64_t j = 0; j < s->k && s->values; j++)
      for (int64_t l = 0; l < lanes; l++)
        ((float*)s->values)[(o * s->k + j) * s->inner + i + l] = x[places[j * s->inner + l] * s->inner + l];
  }
}

GS_LOCAL void gs_select_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsSelect* s = arg;
  uint64_t* room = s->scratch + thread * gs_select_words(s);
  const float* x = s->x;
  if (!gs_select_copies(s)) {
    int side = s->inner == 1 && gs_select_is_quick(s->type);
    for (int64_t row = begin; row < end; row++)
      gs_select_row(s, row, side ? (const char*)s->x + row * s->n * gs_key_bytes(s->type) : 0, room);
    return;
  }
  float* columns = (float*)(void*)(room + gs_select_words(s) - s->n * GS_SELECT_COLUMNS / 2);
  for (int64_t row = begin; row < end;) {
    int64_t o = row / s->inner, i = row % s->inner;
    int64_t count = gs_min_i64(gs_min_i64(GS_SELECT_COLUMNS, s->inner - i), end - row);
    const float* from = x + o * s->n * s->inner + i;
    for (int64_t a = 0; a < s->n; a++)
      for (int64_t c = 0; c < count; c++) columns[c * s->n + a] = from[a * s->inner + c];
    for (int64_t c = 0; c < count; c++) gs_select_row(s, row + c, columns + c * s->n, room);
    row += count;
  }
}

// 64-bit words of scratch for a pool of `threads`.
GS_LOCAL int64_t gs_select_scratch(const GsSelect* s, int threads) { return threads * gs_select_words(s); }

GS_LOCAL void gs_select_run(const GsSelect* s, GsPool* pool) {
  if (s->k <= 0) return;
  if (s->outer * s->n * s->inner < 10000) pool = 0;
  if (s->places && gs_select_is_columns(s)) {
    gs_parallel_for(pool, s->outer * gs_ceil_div(s->inner, GS_W), gs_select_columns_task, (void*)s);
    return;
  }
  gs_parallel_for(pool, s->outer * s->inner, gs_select_task, (void*)s);
}
