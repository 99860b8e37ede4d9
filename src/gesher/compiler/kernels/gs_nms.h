// Non-maximum suppression as ONNX has it: of each picture and class the best boxes that do not overlap better ones.
//
// Boxes are taken in the order of their scores and held against those that stay, many at a time. The arithmetic is that
// of the reference rule to the last bit, so that a box on the edge of the threshold goes the same way.

#include "gs_math.h"

typedef struct GsNms {
  int64_t images, classes, boxes, most;  // `most`: of each image and class at the most
  const float* box;                      // (images, boxes, 4)
  const float* score;                    // (images, classes, boxes)
  int centred, limited;                  // boxes are x y w h; `least` holds
  float overlap, least;                  // boxes overlap above; scores count above
  int64_t* y;                            // (found, 3): image, class, box
  uint8_t* scratch;                      // gs_nms_scratch bytes, 64-byte aligned
} GsNms;

GS_LOCAL int64_t gs_nms_scratch(const GsNms* v) {
  int64_t kept = gs_round_up(gs_min_i64(v->most, v->boxes), 16);
  return 5 * kept * 4 + 4 * gs_round_up(v->boxes, 16) * 4 + 64;
}

// Whether a box overlaps any of those that stay: low y, low x, high y, high x, area, each `room` apart.
GS_INLINE int gs_nms_overlaps(const float* kept, int64_t room, int64_t count, const float* box, float most) {
  for (int64_t k = 0; k < count; k += 16) {
    float shared[16];
    for (int l = 0; l < 16; l++) {
      const float* at = kept + k + l;
      float height = gs_minf(at[2 * room], box[2]) - gs_maxf(at[0], box[0]);
      float width = gs_minf(at[3 * room], box[3]) - gs_maxf(at[room], box[1]);
      shared[l] = (height > 0) & (width > 0) ? height * width : 0;
    }
    // The product is rounded before it is taken off: in one step with that the sum would be another.
    __asm__ volatile("" ::: "memory");
    int any = 0;
    for (int l = 0; l < 16; l++) {
      float area = kept[k + l + 4 * room], all = area + box[4] - shared[l];
      any |= (area > 0) & (shared[l] > 0) & (shared[l] / all > most);
    }
    if (any && box[4] > 0) return 1;
  }
  return 0;
}

// Numbers 0 .. count by rising keys; equal ones stay in order. Gives the array of the two that holds them.
GS_LOCAL uint32_t* gs_nms_sorted(uint32_t* key, uint32_t* number, uint32_t* key2, uint32_t* number2, int64_t count) {
  for (int shift = 0; shift < 33; shift += 11) {
    int64_t place[2048] = {0}, sum = 0;
    for (int64_t i = 0; i < count; i++) place[key[i] >> shift & 2047]++;
    for (int d = 0; d < 2048; d++) {
      int64_t n = place[d];
      place[d] = sum, sum += n;
    }
    for (int64_t i = 0; i < count; i++) {
      int64_t to = place[key[i] >> shift & 2047]++;
      key2[to] = key[i], number2[to] = number[i];
    }
    uint32_t* other = key;
    key = key2, key2 = other;
    other = number, number = number2, number2 = other;
  }
  return number;
}

// The corners of a box in rising order, and its area.
GS_INLINE void gs_nms_corners(const float* b, int centred, float* to) {
  float y0 = b[0], x0 = b[1], y1 = b[2], x1 = b[3];
  if (centred) {
    float h = b[3] / 2, w = b[2] / 2;
    y0 = b[1] - h, x0 = b[0] - w, y1 = b[1] + h, x1 = b[0] + w;
  }
  to[0] = gs_minf(y0, y1), to[1] = gs_minf(x0, x1), to[2] = gs_maxf(y0, y1), to[3] = gs_maxf(x0, x1);
  to[4] = (to[2] - to[0]) * (to[3] - to[1]);
}

// A heap of keys with their boxes in the lower half, the least on top: let what stands at `at` sink.
GS_INLINE void gs_nms_sink(uint64_t* heap, int64_t count, int64_t at) {
  uint64_t item = heap[at];
  for (int64_t child; (child = 2 * at + 1) < count; at = child) {
    child += child + 1 < count && heap[child + 1] < heap[child];
    if (heap[child] >= item) break;
    heap[at] = heap[child];
  }
  heap[at] = item;
}

// How many were found.
GS_LOCAL int64_t gs_nms(const GsNms* v) {
  const int64_t N = v->boxes, row = gs_round_up(N, 16), room = gs_round_up(gs_min_i64(v->most, N), 16);
  float* kept = (float*)v->scratch;
  uint32_t *key = (uint32_t*)(kept + 5 * room), *number = key + row, *key2 = number + row, *number2 = key2 + row;
  int64_t found = 0;
  for (int64_t image = 0; image < v->images; image++) {
    for (int64_t class = 0; class < v->classes; class++) {
      const float* score = v->score + (image * v->classes + class) * N;
      int64_t waiting = 0, stay = 0;
      for (int64_t i = 0; i < N; i++) {
        float s = score[i] + 0.0f;  // -0 is 0
        uint32_t bits = (uint32_t)gs_bits(s);
        // Falling scores are rising keys, NaN the last.
        key[waiting] = s != s ? ~0u : bits >> 31 ? bits : ~(bits | 0x80000000u);
        number[waiting] = (uint32_t)i;
        waiting += !v->limited || s > v->least;
      }
      memset(kept, 0, (size_t)(5 * room) * sizeof(float));
      // Where few boxes may stay, few of the others are asked for, and the rest needs no order.
      const int few = v->most < waiting / 8;
      uint64_t* heap = (uint64_t*)(void*)key2;
      const uint32_t* order = few ? 0 : gs_nms_sorted(key, number, key2, number2, waiting);
      if (few) {
        for (int64_t i = 0; i < waiting; i++) heap[i] = (uint64_t)key[i] << 32 | number[i];
        for (int64_t i = waiting / 2 - 1; i >= 0; i--) gs_nms_sink(heap, waiting, i);
      }
      for (int64_t i = 0; i < waiting && stay < v->most; i++) {
        int64_t at;
        if (few) {
          at = (uint32_t)heap[0];
          heap[0] = heap[waiting - 1 - i];
          gs_nms_sink(heap, waiting - 1 - i, 0);
        } else {
          at = order[i];
        }
        float box[5];
        gs_nms_corners(v->box + (image * N + at) * 4, v->centred, box);
        if (gs_nms_overlaps(kept, room, stay, box, v->overlap)) continue;
        for (int c = 0; c < 5; c++) kept[c * room + stay] = box[c];
        stay++;
        int64_t* y = v->y + 3 * found++;
        y[0] = image, y[1] = class, y[2] = at;
      }
    }
  }
  return found;
}
