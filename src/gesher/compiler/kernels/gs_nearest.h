// Pictures enlarged or shrunk by taking elements: y[o, i, j] = x[o, rows[i], columns[j]].
//
// What a reader would guess wrong: a row that is the one before again is copied from it, and rows in which every element
// comes twice are interleaved; those are the enlargements that networks do.

#include "gs_conv_f32.h"

typedef struct GsNearest {
  int64_t outer, H, W, OH, OW, bytes;  // bytes of an element, which may be several numbers
  const int64_t *rows, *columns;       // (OH) and (OW), all within H and W; NULL: each as it is
  const void* x;                       // (outer, H, W)
  void* y;                             // (outer, OH, OW)
  GsTileFn epilogue;                   // called with each plane of floats as a tile, where not NULL
  void* context;
} GsNearest;

GS_LOCAL void gs_nearest_plain(const GsNearest* v, GsPool* pool) {
  (void)pool;
  for (int64_t o = 0; o < v->outer; o++)
    for (int64_t i = 0; i < v->OH; i++)
      for (int64_t j = 0; j < v->OW; j++) {
        int64_t from = (o * v->H + (v->rows ? v->rows[i] : i)) * v->W + (v->columns ? v->columns[j] : j);
        memcpy((char*)v->y + ((o * v->OH + i) * v->OW + j) * v->bytes, (const char*)v->x + from * v->bytes,
               (size_t)v->bytes);
      }
  for (int64_t o = 0; o < v->outer && v->epilogue; o++)
    v->epilogue(v->context, (float*)v->y + o * v->OH * v->OW, v->OW, o, 0, 0, v->OH, v->OW);
}

typedef struct GsNearestRun {
  const GsNearest* v;
  int twice;  // every element of a row comes twice
  int64_t first, end;  // these elements of a row lie side by side in x
} GsNearestRun;

#define GS_NEAREST_TAKE(T)                                                                    \
  for (int64_t j = 0; j < r->first; j++) ((T*)y)[j] = ((const T*)x)[v->columns[j]];           \
  for (int64_t j = r->end; j < v->OW; j++) ((T*)y)[j] = ((const T*)x)[v->columns[j]]
#define GS_NEAREST_TWICE(T) \
  for (int64_t j = 0; j < v->OW / 2; j++) ((T*)y)[2 * j] = ((T*)y)[2 * j + 1] = ((const T*)x)[j]
#define GS_NEAREST_BY_SIZE(WAY)            \
  switch (v->bytes) {                      \
    case 1: WAY(uint8_t); return;          \
    case 2: WAY(uint16_t); return;         \
    case 4: WAY(uint32_t); return;         \
    case 8: WAY(uint64_t); return;         \
    default: break;                        \
  }

GS_LOCAL void gs_nearest_row(const GsNearestRun* r, const char* restrict x, char* restrict y) {
  const GsNearest* v = r->v;
  if (!v->columns) {
    memcpy(y, x, (size_t)(v->OW * v->bytes));
    return;
  }
  if (r->first < r->end)
    memcpy(y + r->first * v->bytes, x + v->columns[r->first] * v->bytes, (size_t)((r->end - r->first) * v->bytes));
  if (r->twice) {
    GS_NEAREST_BY_SIZE(GS_NEAREST_TWICE)
  } else {
    GS_NEAREST_BY_SIZE(GS_NEAREST_TAKE)
  }
  if (v->bytes == 4 * GS_W) {  // a block of channels
    for (int64_t j = 0; j < v->OW; j++) gs_store((float*)(void*)y + j * GS_W, gs_load((const float*)(const void*)x +
                                                                                      v->columns[j] * GS_W));
    return;
  }
  for (int64_t j = 0; j < v->OW; j++) memcpy(y + j * v->bytes, x + v->columns[j] * v->bytes, (size_t)v->bytes);
}

GS_LOCAL void gs_nearest_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsNearestRun* r = arg;
  const GsNearest* v = r->v;
  (void)thread;
  int64_t width = v->OW * v->bytes;
  for (int64_t o = begin; o < end; o++) {
    const char* x = (const char*)v->x + o * v->H * v->W * v->bytes;
    char* y = (char*)v->y + o * v->OH * width;
    for (int64_t i = 0; i < v->OH; i++) {
      int64_t from = v->rows ? v->rows[i] : i;
      if (i && v->rows && v->rows[i - 1] == from) memcpy(y + i * width, y + (i - 1) * width, (size_t)width);
      else gs_nearest_row(r, x + from * v->W * v->bytes, y + i * width);
    }
    if (v->epilogue) v->epilogue(v->context, (float*)(void*)y, v->OW, o, 0, 0, v->OH, v->OW);
  }
}

GS_LOCAL void gs_nearest(const GsNearest* v, GsPool* pool) {
  GsNearestRun r = {v, v->columns && v->OW == 2 * v->W, 0, 0};
  for (int64_t j = 0; j < v->OW && r.twice; j++) r.twice = v->columns[j] == j / 2;
  // Padding leaves the most of a row as it is.
  for (int64_t j = 0, start = 0; v->columns && !r.twice && j < v->OW; j++) {
    if (j && v->columns[j] != v->columns[j - 1] + 1) start = j;
    if (j + 1 - start > gs_max_i64(r.end - r.first, 8)) r.first = start, r.end = j + 1;
  }
  gs_parallel_for(v->outer * v->OH * v->OW * v->bytes < 65536 ? 0 : pool, v->outer, gs_nearest_task, &r);
}
