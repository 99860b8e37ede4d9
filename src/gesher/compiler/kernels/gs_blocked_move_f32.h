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

// Rows of a square that is to be turned: how many there are, floats from one to the next, lanes of each.
typedef struct GsTurnedRows {
  int64_t count, apart, lanes;
} GsTurnedRows;

GS_INLINE void gs_turn_square(const int whole, const float* x, GsTurnedRows in, float* y, GsTurnedRows out) {
  gs_vf r[GS_W];
#pragma GCC unroll 16
  for (int j = 0; j < GS_W; j++)
    r[j] = whole ? gs_load(x + j * in.apart) : j < in.count ? gs_load_n(x + j * in.apart, in.lanes) : (gs_vf){0};
  gs_turn(r);
#pragma GCC unroll 16
  for (int j = 0; j < GS_W; j++) {
    if (whole) gs_store(y + j * out.apart, r[j]);
    else if (j < out.count) gs_store_n(y + j * out.apart, r[j], out.lanes);
  }
}

// Places a task turns at a time.
#define GS_MOVE_PLACES 256

typedef struct GsMoveJob {
  const GsBlockedMove* v;
  int to_blocks;
} GsMoveJob;

GS_LOCAL void gs_blocked_move_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsMoveJob* job = arg;
  const GsBlockedMove* v = job->v;
  (void)thread;
  int64_t blocks = gs_ceil_div(v->C, GS_W), parts = gs_ceil_div(v->places, GS_MOVE_PLACES);
  for (int64_t i = begin; i < end; i++) {
    int64_t image = i / parts, n = image / blocks, c = image % blocks * GS_W, channels = gs_min_i64(GS_W, v->C - c);
    int64_t p1 = gs_min_i64(v->places, (i % parts + 1) * GS_MOVE_PLACES);
    for (int64_t p = i % parts * GS_MOVE_PLACES; p < p1; p += GS_W) {
      int64_t plain = (n * v->C + c) * v->places + p, blocked = (image * v->places + p) * GS_W;
      int64_t places = gs_min_i64(GS_W, p1 - p);
      // A row of the plain layout is a channel, one of the blocks a place.
      GsTurnedRows by_channel = {channels, v->places, places}, by_place = {places, GS_W, GS_W};
      const float* x = v->x + (job->to_blocks ? plain : blocked);
      float* y = v->y + (job->to_blocks ? blocked : plain);
      GsTurnedRows in = job->to_blocks ? by_channel : by_place, out = job->to_blocks ? by_place : by_channel;
      if (channels == GS_W && places == GS_W) gs_turn_square(1, x, in, y, out);
      else gs_turn_square(0, x, in, y, out);
    }
  }
}

GS_INLINE void gs_blocked_move(const GsBlockedMove* v, GsPool* pool, int to_blocks) {
  if (v->C <= 0 || v->places <= 0) return;
  int64_t blocks = gs_ceil_div(v->C, GS_W), parts = gs_ceil_div(v->places, GS_MOVE_PLACES);
  GsMoveJob job = {v, to_blocks};
  gs_parallel_for(v->N * v->C * v->places < 32768 ? 0 : pool, v->N * blocks * parts, gs_blocked_move_task, &job);
}

GS_LOCAL void gs_blocked_from_plain(const GsBlockedMove* v, GsPool* pool) { gs_blocked_move(v, pool, 1); }
GS_LOCAL void gs_blocked_to_plain(const GsBlockedMove* v, GsPool* pool) { gs_blocked_move(v, pool, 0); }
