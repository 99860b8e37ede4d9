// Memory that will be wanted soon, asked for a little at a time while products run.

#include "gs_base.h"

typedef struct GsBox {
  const float* from;
  int64_t planes, rows, lines, plane, row;  // lines of 64 bytes of a row; floats between planes and rows
} GsBox;

typedef struct GsAhead {
  int64_t boxes, lines;             // all of them
  int64_t box, plane, row, line;    // the next
  GsBox list[12];
} GsAhead;

// What does not fit the list is not asked for.
GS_INLINE void gs_ahead_add(GsAhead* a, const float* from, int64_t planes, int64_t plane, int64_t rows, int64_t row,
                            int64_t floats) {
  if (a->boxes == 12 || planes <= 0 || rows <= 0 || floats <= 0) return;
  int64_t lines = gs_ceil_div(floats, 16);
  a->list[a->boxes++] = (GsBox){from, planes, rows, lines, plane, row};
  a->lines += planes * rows * lines;
}

GS_INLINE void gs_ahead_ask(GsAhead* a, int64_t lines) {
  while (lines > 0 && a->box < a->boxes) {
    const GsBox* b = &a->list[a->box];
    const float* from = b->from + a->plane * b->plane + a->row * b->row;
    int64_t end = gs_min_i64(a->line + lines, b->lines);
    lines -= end - a->line;
    for (; a->line < end; a->line++) __builtin_prefetch(from + a->line * 16);
    if (end < b->lines) return;
    a->line = 0;
    if (++a->row < b->rows) continue;
    a->row = 0;
    if (++a->plane < b->planes) continue;
    a->plane = 0;
    a->box++;
  }
}
