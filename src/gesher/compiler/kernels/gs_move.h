// Moving elements without looking at them: transposition by blocks, and slices gathered along an axis.

#include "gs_conv_f32.h"

typedef struct GsTranspose {
  int64_t rank;                 // at most GS_MAX_RANK + 2
  int64_t shape[GS_MAX_RANK + 2], perm[GS_MAX_RANK + 2];  // of x; y's axis i is x's axis perm[i]
  int64_t bytes;                // of an element: 1, 2, 4, 8 or 16
  const void* x;
  void* y;
} GsTranspose;

GS_LOCAL void gs_transpose_plain(const GsTranspose* t, GsPool* pool) {
  (void)pool;
  int64_t step[GS_MAX_RANK + 2], size[GS_MAX_RANK + 2], index[GS_MAX_RANK + 2] = {0}, count = gs_product(t->shape,
      t->rank);
  for (int64_t i = t->rank - 1, s = 1; i >= 0; s *= t->shape[i--]) step[i] = s;
  for (int64_t i = 0; i < t->rank; i++) size[i] = t->shape[t->perm[i]];
  for (int64_t at = 0; at < count; at++, gs_next_index(index, size, t->rank)) {
    int64_t from = 0;
    for (int64_t i = 0; i < t->rank; i++) from += index[i] * step[t->perm[i]];
    memcpy((char*)t->y + at * t->bytes, (const char*)t->x + from * t->bytes, (size_t)t->bytes);
  }
}

typedef struct GsTransposeRun {
  // The axes of y after those that stay neighbours were joined: how many, and how far apart in x and y.
  int64_t rank, size[GS_MAX_RANK + 2], from[GS_MAX_RANK + 2], to[GS_MAX_RANK + 2];
  int64_t bytes, inner, blocks;  // inner: the axis of y that is x's last one
  const char* x;
  char* y;
} GsTransposeRun;

#define GS_MOVE_BLOCK 128

// A rectangle: rows lie side by side in x, columns side by side in y.
#define GS_MOVE(T, i0, i1, j0, j1)                                                     \
  for (int64_t i = i0; i < i1; i++)                                                    \
    for (int64_t j = j0; j < j1; j++) ((T*)y)[i * to + j] = ((const T*)x)[i + j * from]
#if defined(__clang__) || __GNUC__ >= 12
// Squares of N elements T each way in registers of 16 bytes: N vectors whose first half is interleaved with the second,
// element by element, as often as N is halved, are N vectors of the columns.
#define GS_MOVE_SQUARES(NAME, T, N, LOW, HIGH)                                                                        \
typedef T gs_##NAME __attribute__((vector_size(16)));                                                                 \
typedef T gs_##NAME##_u __attribute__((vector_size(16), aligned(1), may_alias));                                      \
GS_INLINE void gs_move_square_##NAME(const char* x, char* y, int64_t columns, int64_t from, int64_t to) {             \
  gs_##NAME v[N], u[N];                                                                                               \
  _Pragma("GCC unroll 16") for (int64_t k = 0; k < N; k++)                                                            \
    v[k] = *(const gs_##NAME##_u*)(x + gs_min_i64(k, columns - 1) * from * (int64_t)sizeof(T));                       \
  _Pragma("GCC unroll 4") for (int half = 1; half < N; half *= 2) {                                                   \
    _Pragma("GCC unroll 16") for (int k = 0; k < N / 2; k++) {                                                        \
      u[2 * k] = __builtin_shufflevector(v[k], v[k + N / 2], LOW);                                                    \
      u[2 * k + 1] = __builtin_shufflevector(v[k], v[k + N / 2], HIGH);                                               \
    }                                                                                                                 \
    _Pragma("GCC unroll 16") for (int k = 0; k < N; k++) v[k] = u[k];                                                 \
  }                                                                                                                   \
  _Pragma("GCC unroll 16") for (int64_t k = 0; k < N; k++) *(gs_##NAME##_u*)(y + k * to * (int64_t)sizeof(T)) = v[k]; \
}                                                                                                                     \
GS_INLINE void gs_move_##NAME(const char* x, char* y, int64_t rows, int64_t columns, int64_t from, int64_t to) {      \
  const int64_t size = (int64_t)sizeof(T);                                                                            \
  if (rows >= N && columns >= N) {                                                                                    \
    /* The last squares overlap those before. */                                                                      \
    for (int64_t at = 0; at < rows; at += N)                                                                          \
      for (int64_t across = 0, i = gs_min_i64(at, rows - N); across < columns; across += N) {                         \
        int64_t j = gs_min_i64(across, columns - N);                                                                  \
        gs_move_square_##NAME(x + (i + j * from) * size, y + (i * to + j) * size, N, from, to);                       \
      }                                                                                                               \
    return;                                                                                                           \
  }                                                                                                                   \
  int64_t done = 0;                                                                                                   \
  /* Lines of few elements, one behind the other: each spills into the next, which is written later. */               \
  if (to == columns)                                                                                                  \
    for (; done + 2 * N <= rows; done += N)                                                                            \
      gs_move_square_##NAME(x + done * size, y + done * to * size, columns, from, to);                                \
  GS_MOVE(T, done, rows, 0, columns);                                                                                 \
}
#define GS_LIST(...) __VA_ARGS__
#define GS_MOVE_ORDER(NAME, T, N, LOW, HIGH) GS_MOVE_SQUARES(NAME, T, N, GS_LIST LOW, GS_LIST HIGH)
GS_MOVE_ORDER(octets, uint8_t, 16, (0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
              (8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31))
GS_MOVE_ORDER(halves, uint16_t, 8, (0, 8, 1, 9, 2, 10, 3, 11), (4, 12, 5, 13, 6, 14, 7, 15))
GS_MOVE_ORDER(words, uint32_t, 4, (0, 4, 1, 5), (2, 6, 3, 7))
GS_MOVE_ORDER(doubles, uint64_t, 2, (0, 2), (1, 3))
#else
#define GS_MOVE_SQUARES(NAME, T)                                                                                      \
GS_INLINE void gs_move_##NAME(const char* x, char* y, int64_t rows, int64_t columns, int64_t from, int64_t to) {      \
  GS_MOVE(T, 0, rows, 0, columns);                                                                                    \
}
GS_MOVE_SQUARES(octets, uint8_t)
GS_MOVE_SQUARES(halves, uint16_t)
GS_MOVE_SQUARES(words, uint32_t)
GS_MOVE_SQUARES(doubles, uint64_t)
#endif

GS_INLINE void gs_move_rectangle(const char* x, char* y, int64_t rows, int64_t columns, int64_t from, int64_t to,
                                 int64_t bytes) {
  typedef struct { uint64_t a, b; } sixteen;
  switch (bytes) {
    case 1: gs_move_octets(x, y, rows, columns, from, to); break;
    case 2: gs_move_halves(x, y, rows, columns, from, to); break;
    case 4: gs_move_words(x, y, rows, columns, from, to); break;
    case 8: gs_move_doubles(x, y, rows, columns, from, to); break;
    default: GS_MOVE(sixteen, 0, rows, 0, columns);
  }
}

GS_LOCAL void gs_transpose_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsTransposeRun* r = arg;
  (void)thread;
  int64_t last = r->rank - 1;
  for (int64_t task = begin; task < end; task++) {
    int64_t block = task % r->blocks, rest = task / r->blocks, x = 0, y = 0;
    for (int64_t i = last - 1; i >= 0; i--) {
      if (i == r->inner) continue;
      x += rest % r->size[i] * r->from[i];
      y += rest % r->size[i] * r->to[i];
      rest /= r->size[i];
    }
    if (r->inner == last) {
      memcpy(r->y + y * r->bytes, r->x + x * r->bytes, (size_t)(r->size[last] * r->bytes));
      continue;
    }
    int64_t i0 = block * GS_MOVE_BLOCK, rows = gs_min_i64(GS_MOVE_BLOCK, r->size[r->inner] - i0);
    for (int64_t j0 = 0; j0 < r->size[last]; j0 += GS_MOVE_BLOCK)
      gs_move_rectangle(r->x + (x + i0 + j0 * r->from[last]) * r->bytes,
                        r->y + (y + i0 * r->to[r->inner] + j0) * r->bytes,
                        rows, gs_min_i64(GS_MOVE_BLOCK, r->size[last] - j0), r->from[last], r->to[r->inner], r->bytes);
  }
}

GS_LOCAL void gs_transpose(const GsTranspose* t, GsPool* pool) {
  int64_t count = gs_product(t->shape, t->rank), step[GS_MAX_RANK + 2];
  if (count == 0) return;
  GsTransposeRun r = {.bytes = t->bytes, .x = t->x, .y = t->y, .blocks = 1};
  for (int64_t i = t->rank - 1, s = 1; i >= 0; s *= t->shape[i--]) step[i] = s;
  for (int64_t i = 0; i < t->rank; i++) {
    int64_t size = t->shape[t->perm[i]], from = step[t->perm[i]];
    if (size == 1) continue;
    if (r.rank && r.from[r.rank - 1] == size * from) {
      r.size[r.rank - 1] *= size;  // follows its neighbour in x as well: one axis
      r.from[r.rank - 1] = from;
    } else {
      r.size[r.rank] = size;
      r.from[r.rank++] = from;
    }
  }
  if (r.rank == 0) r.size[r.rank] = 1, r.from[r.rank++] = 1;
  for (int64_t i = r.rank - 1, s = 1; i >= 0; s *= r.size[i--]) r.to[i] = s;
  // After joining, exactly one axis steps by one in x.
  for (r.inner = r.rank - 1; r.from[r.inner] != 1; r.inner--) {}
  int64_t tasks = count / r.size[r.rank - 1];
  if (r.inner != r.rank - 1) {
    r.blocks = gs_ceil_div(r.size[r.inner], GS_MOVE_BLOCK);
    tasks = tasks / r.size[r.inner] * r.blocks;
  }
  gs_parallel_for(count * t->bytes < 65536 ? 0 : pool, tasks, gs_transpose_task, &r);
}

// y[o, i, ...] = x[o, index[i], ...] for slices of `bytes` bytes: x (outer, n, bytes), y (outer, count, bytes).
// Negative indices count from the end. Nothing is copied and -1 returned where one is out of range, else 0.
typedef struct GsGather {
  int64_t outer, n, count, bytes;
  const void* x;
  const int64_t* index;
  void* y;
} GsGather;

GS_LOCAL void gs_gather_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsGather* g = arg;
  (void)thread;
  for (int64_t i = begin; i < end; i++) {
    int64_t at = g->index[i % g->count];
    at = i / g->count * g->n + (at < 0 ? at + g->n : at);
    const char* from = (const char*)g->x + at * g->bytes;
    char* to = (char*)g->y + i * g->bytes;
    // The sizes of single elements: a call of memcpy would cost more than the copy.
    if (g->bytes == 4) memcpy(to, from, 4);
    else if (g->bytes == 8) memcpy(to, from, 8);
    else memcpy(to, from, (size_t)g->bytes);
  }
}

GS_LOCAL int gs_gather_plain(const GsGather* g, GsPool* pool) {
  (void)pool;
  for (int64_t i = 0; i < g->count; i++)
    if (g->index[i] < -g->n || g->index[i] >= g->n) return -1;
  for (int64_t o = 0; o < g->outer; o++)
    for (int64_t i = 0; i < g->count; i++)
      for (int64_t b = 0; b < g->bytes; b++) {
        int64_t at = g->index[i] < 0 ? g->index[i] + g->n : g->index[i];
        ((char*)g->y)[(o * g->count + i) * g->bytes + b] = ((const char*)g->x)[(o * g->n + at) * g->bytes + b];
      }
  return 0;
}

GS_LOCAL int gs_gather(const GsGather* g, GsPool* pool) {
  for (int64_t i = 0; i < g->count; i++)
    if (g->index[i] < -g->n || g->index[i] >= g->n) return -1;
  gs_parallel_for(g->outer * g->count * g->bytes < 65536 ? 0 : pool, g->outer * g->count, gs_gather_task, (void*)g);
  return 0;
}
