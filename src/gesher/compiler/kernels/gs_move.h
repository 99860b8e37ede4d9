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
#define GS_MOVE(T)                                                                     \
  for (int64_t i = 0; i < rows; i++)                                                   \
    for (int64_t j = 0; j < columns; j++) ((T*)y)[i * to + j] = ((const T*)x)[i + j * from]
#if defined(__clang__) || __GNUC__ >= 12
// Four by four elements of four bytes in registers.
typedef uint32_t gs_four __attribute__((vector_size(16)));
typedef uint32_t gs_four_u __attribute__((vector_size(16), aligned(4), may_alias));
GS_INLINE void gs_move_fours(const uint32_t* x, uint32_t* y, int64_t from, int64_t to) {
  gs_four a = *(const gs_four_u*)x, b = *(const gs_four_u*)(x + from);
  gs_four c = *(const gs_four_u*)(x + 2 * from), d = *(const gs_four_u*)(x + 3 * from);
  gs_four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  gs_four ba = __builtin_shufflevector(a, b, 2, 6, 3, 7), dc = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(gs_four_u*)y = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *(gs_four_u*)(y + to) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *(gs_four_u*)(y + 2 * to) = __builtin_shufflevector(ba, dc, 0, 1, 4, 5);
  *(gs_four_u*)(y + 3 * to) = __builtin_shufflevector(ba, dc, 2, 3, 6, 7);
}
GS_INLINE void gs_move_words(const uint32_t* x, uint32_t* y, int64_t rows, int64_t columns, int64_t from, int64_t to) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) gs_move_fours(x + i + j * from, y + i * to + j, from, to);
    for (; j < columns; j++)
      for (int64_t r = i; r < i + 4; r++) y[r * to + j] = x[r + j * from];
  }
  for (; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) y[i * to + j] = x[i + j * from];
}
#else
GS_INLINE void gs_move_words(const uint32_t* x, uint32_t* y, int64_t rows, int64_t columns, int64_t from, int64_t to) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) y[i * to + j] = x[i + j * from];
}
#endif

GS_INLINE void gs_move_rectangle(const char* x, char* y, int64_t rows, int64_t columns, int64_t from, int64_t to,
                                 int64_t bytes) {
  typedef struct { uint64_t a, b; } sixteen;
  switch (bytes) {
    case 1: GS_MOVE(uint8_t); break;
    case 2: GS_MOVE(uint16_t); break;
    case 4: gs_move_words((const uint32_t*)(const void*)x, (uint32_t*)(void*)y, rows, columns, from, to); break;
    case 8: GS_MOVE(uint64_t); break;
    default: GS_MOVE(sixteen);
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
