// Between plain activations (N, C, places) and blocked ones (N, C / b rounded up, places, b), b = GS_W.
//
// gs_blocked_from_plain fills lanes beyond the last channel with zeros; gs_blocked_to_plain does not look at them. The
// quick ones turn b x b squares in registers.

#include "gs_pool.h"

typedef struct GsBlockedMove {
  int64_t N, C, places;
  const float* x;
  float* y;
} GsBlockedMove;

GS_LOCAL void gs_blocked_from_plain_plain(const GsBlockedMove* v, GsPool* pool) {
  (void)pool;
  int64_t blocks = gs_ceil_div(v->C, GS_W);
  for (int64_t n = 0; n < v->N; n++)
    for (int64_t c = 0; c < blocks * GS_W; c++)
      for (int64_t p = 0; p < v->places; p++)
        v->y[((n * blocks + c / GS_W) * v->places + p) * GS_W + c % GS_W] =
          c < v->C ? v->x[(n * v->C + c) * v->places + p] : 0;
}

GS_LOCAL void gs_blocked_to_plain_plain(const GsBlockedMove* v, GsPool* pool) {
  (void)pool;
  int64_t blocks = gs_ceil_div(v->C, GS_W);
  for (int64_t n = 0; n < v->N; n++)
    for (int64_t c = 0; c < v->C; c++)
      for (int64_t p = 0; p < v->places; p++)
        v->y[(n * v->C + c) * v->places + p] = v->x[((n * blocks + c / GS_W) * v->places + p) * GS_W + c % GS_W];
}

// Swap the odd runs of `s` lanes of every even run of s rows with the even runs of the odd rows; after s = 1, 2, 4 ..
// the square is turned.
#define GS_TURN(s, low, high) \
  _Pragma("GCC unroll 16") for (int i = 0; i < GS_W; i++) if (!(i & s)) { \
    gs_vf a = r[i], b = r[i + s]; \
    r[i] = GS_SHUFFLE(a, b, GS_LANES low); \
    r[i + s] = GS_SHUFFLE(a, b, GS_LANES high); \
  }
#define GS_LANES(...) __VA_ARGS__

GS_INLINE void gs_turn(gs_vf* r) {
#if GS_W == 16
  GS_TURN(1, (0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
             (1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
  GS_TURN(2, (0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
             (2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  GS_TURN(4, (0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
             (4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  GS_TURN(8, (0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
             (8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#elif GS_W == 8
  GS_TURN(1, (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
  GS_TURN(2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
  GS_TURN(4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
#else
  GS_TURN(1, (0, 4, 2, 6), (1, 5, 3, 7))
  GS_TURN(2, (0, 1, 4, 5), (2, 3, 6, 7))
#endif
}

// Places a task turns at a time.
#define GS_MOVE_PLACES 256

GS_LOCAL void gs_blocked_from_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedMove* v = arg;
  (void)thread;
  int64_t blocks = gs_ceil_div(v->C, GS_W), parts = gs_ceil_div(v->places, GS_MOVE_PLACES);
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / parts, n = image / blocks, c = image % blocks * GS_W, held = gs_min_i64(GS_W, v->C - c);
    int64_t p1 = gs_min_i64(v->places, (i % parts + 1) * GS_MOVE_PLACES);
    const float* x = v->x + (n * v->C + c) * v->places;
    float* y = v->y + image * v->places * GS_W;
    for (int64_t p = i % parts * GS_MOVE_PLACES; p < p1; p += GS_W) {
      gs_vf r[GS_W];
      int64_t lanes = gs_min_i64(GS_W, p1 - p);
      if (held == GS_W && lanes == GS_W) {
#pragma GCC unroll 16
        for (int j = 0; j < GS_W; j++) r[j] = gs_load(x + j * v->places + p);
        gs_turn(r);
#pragma GCC unroll 16
        for (int j = 0; j < GS_W; j++) gs_store(y + (p + j) * GS_W, r[j]);
        continue;
      }
      for (int j = 0; j < GS_W; j++) r[j] = j < held ? gs_load_n(x + j * v->places + p, lanes) : (gs_vf){0};
      gs_turn(r);
      for (int j = 0; j < lanes; j++) gs_store(y + (p + j) * GS_W, r[j]);
    }
  }
}

GS_LOCAL void gs_blocked_to_plain_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsBlockedMove* v = arg;
  (void)thread;
  int64_t blocks = gs_ceil_div(v->C, GS_W), parts = gs_ceil_div(v->places, GS_MOVE_PLACES);
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / parts, n = image / blocks, c = image % blocks * GS_W, held = gs_min_i64(GS_W, v->C - c);
    int64_t p1 = gs_min_i64(v->places, (i % parts + 1) * GS_MOVE_PLACES);
    const float* x = v->x + image * v->places * GS_W;
    float* y = v->y + (n * v->C + c) * v->places;
    for (int64_t p = i % parts * GS_MOVE_PLACES; p < p1; p += GS_W) {
      gs_vf r[GS_W];
      int64_t lanes = gs_min_i64(GS_W, p1 - p);
      if (held == GS_W && lanes == GS_W) {
#pragma GCC unroll 16
        for (int j = 0; j < GS_W; j++) r[j] = gs_load(x + (p + j) * GS_W);
        gs_turn(r);
#pragma GCC unroll 16
        for (int j = 0; j < GS_W; j++) gs_store(y + j * v->places + p, r[j]);
        continue;
      }
      for (int j = 0; j < GS_W; j++) r[j] = j < lanes ? gs_load(x + (p + j) * GS_W) : (gs_vf){0};
      gs_turn(r);
      for (int j = 0; j < held; j++) gs_store_n(y + j * v->places + p, r[j], lanes);
    }
  }
}

GS_INLINE void gs_blocked_move(const GsBlockedMove* v, GsPool* pool, GsRangeFn task) {
  if (v->C <= 0 || v->places <= 0) return;
  int64_t blocks = gs_ceil_div(v->C, GS_W), parts = gs_ceil_div(v->places, GS_MOVE_PLACES);
  gs_parallel_for(v->N * v->C * v->places < 32768 ? 0 : pool, v->N * blocks * parts, task, (void*)v);
}

GS_LOCAL void gs_blocked_from_plain(const GsBlockedMove* v, GsPool* pool) {
  gs_blocked_move(v, pool, gs_blocked_from_plain_task);
}
GS_LOCAL void gs_blocked_to_plain(const GsBlockedMove* v, GsPool* pool) {
  gs_blocked_move(v, pool, gs_blocked_to_plain_task);
}
