// Pooling of regions of interest, each to the same small size, where how much a bin sees follows from its region:
// RoiAlign whose samples stand at most an element apart, and MaxRoiPool.
//
// Regions are finite and their pictures are there; whoever calls has seen to that. Places are computed as the reference
// rule does, each step rounded by itself (the products in doubles, which hold them, so that none is added unrounded).
// What a reader would guess wrong: the mean over a bin is of products of weights of rows and of columns, so it is taken
// axis by axis, and each element that any sample sees is read once. The maximum is of weighted corners: it is not.

#include "gs_rows_f32.h"

typedef struct GsRegions {
  int64_t regions, channels, in[2], out[2];
  int half, largest;     // RoiAlign: coordinates are half an element less; the largest weighted corner, not the mean
  float scale;
  const float* x;        // (N, channels, in...)
  const float* region;   // (regions, 4): x1, y1, x2, y2
  const int64_t* batch;  // (regions,)
  float* y;              // (regions, channels, out...)
  float* scratch;        // gs_regions_scratch floats
  int64_t samples;       // the most of a bin along an axis: what gs_regions_samples tells
} GsRegions;

// A sample along an axis: two neighbours and their weights.
typedef struct GsSampled {
  int64_t low, high;
  double by_low, by_high;
} GsSampled;

GS_INLINE void gs_region_axis(const GsRegions* v, const float* region, int axis, float* start, float* bin,
                              int64_t* samples) {
  float scaled[2], less = v->half ? 0.5f : 0.0f;
  for (int i = 0; i < 2; i++) {
    float product = (float)((double)region[(axis ? 0 : 1) + 2 * i] * (double)v->scale);
    scaled[i] = product - less;
  }
  float extent = scaled[1] - scaled[0];
  if (!v->half) extent = gs_maxf(extent, 1.0f);
  *start = scaled[0];
  *bin = extent / (float)v->out[axis];
  *samples = (int64_t)ceilf(*bin);
}

// The most samples of any bin along an axis.
GS_LOCAL int64_t gs_regions_samples(const GsRegions* v) {
  int64_t most = 0;
  for (int64_t i = 0; i < v->regions; i++)
    for (int axis = 0; axis < 2; axis++) {
      float start, bin;
      int64_t samples;
      gs_region_axis(v, v->region + 4 * i, axis, &start, &bin, &samples);
      most = gs_max_i64(most, samples);
    }
  return most;
}

GS_INLINE GsSampled gs_region_sample(float start, float bin, int64_t k, int64_t sample, int64_t samples, int64_t size) {
  float step = (float)((double)((float)sample + 0.5f) * (double)bin) / (float)samples;
  float place = start + (float)((double)k * (double)bin);
  place += step;
  int outside = place < -1 || place > (float)size;
  place = gs_maxf(place, 0.0f);
  GsSampled s = {.low = place >= (float)(size - 1) ? size - 1 : (int64_t)place};
  int last = s.low >= size - 1;
  double rest = last ? 0 : (double)place - (double)s.low;
  s.high = last ? s.low : s.low + 1;
  s.by_low = outside ? 0 : 1 - rest;
  s.by_high = outside ? 0 : rest;
  return s;
}

// Floats: the samples of both axes; or the weights of all bins of both axes, the columns of one row of bins, and ends.
GS_LOCAL int64_t gs_regions_scratch(const GsRegions* v) {
  int64_t bins = v->out[0] + v->out[1];
  int64_t sampled = bins * v->samples * (int64_t)(sizeof(GsSampled) / sizeof(float));
  int64_t weights = v->out[0] * v->in[0] + v->out[1] * v->in[1] + v->in[1] + 2 * GS_W;
  return 64 + 2 * bins * (int64_t)(sizeof(int64_t) / sizeof(float)) + (v->largest ? sampled : weights);
}

GS_LOCAL void gs_roi_largest(const GsRegions* v, const float* x, float* y, const GsSampled* rows,
                             const GsSampled* columns, int64_t down, int64_t along) {
  int64_t W = v->in[1];
  for (int64_t ph = 0; ph < v->out[0]; ph++)
    for (int64_t pw = 0; pw < v->out[1]; pw++) {
      float most = -__builtin_inff();
      for (int64_t i = 0; i < down; i++)
        for (int64_t j = 0; j < along; j++) {
          const GsSampled *r = rows + ph * down + i, *c = columns + pw * along + j;
          const float *a = x + r->low * W, *b = x + r->high * W;
          most = gs_maxf(most, a[c->low] * (float)(r->by_low * c->by_low));
          most = gs_maxf(most, a[c->high] * (float)(r->by_low * c->by_high));
          most = gs_maxf(most, b[c->low] * (float)(r->by_high * c->by_low));
          most = gs_maxf(most, b[c->high] * (float)(r->by_high * c->by_high));
        }
      y[ph * v->out[1] + pw] = most;
    }
}

// row[w] for w in [w0, w1): the sum of rows [h0, h1), each times its weight.
GS_INLINE void gs_roi_down(const float* x, int64_t W, const float* weight, int64_t h0, int64_t h1, int64_t w0,
                           int64_t w1, float* row) {
  for (int64_t w = w0; w < w1; w += GS_W) {
    int64_t lanes = gs_min_i64(GS_W, w1 - w);
    gs_vf sum = {0};
    for (int64_t h = h0; h < h1; h++) sum += gs_load_some(x + h * W + w, lanes) * weight[h];
    gs_store(row + w, sum);
  }
}

GS_LOCAL int64_t gs_roi_align(const GsRegions* v) {
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1];
  int64_t* ends = (int64_t*)(void*)v->scratch;  // of each bin: the first element that it sees, and behind the last
  float* room = v->scratch + 2 * (OH + OW) * (int64_t)(sizeof(int64_t) / sizeof(float));
  for (int64_t i = 0; i < v->regions; i++) {
    const float* x = v->x + v->batch[i] * v->channels * H * W;
    float *y = v->y + i * v->channels * OH * OW, start[2], bin[2];
    int64_t samples[2];
    for (int axis = 0; axis < 2; axis++)
      gs_region_axis(v, v->region + 4 * i, axis, start + axis, bin + axis, samples + axis);
    if (samples[0] <= 0 || samples[1] <= 0) {
      memset(y, 0, (size_t)(v->channels * OH * OW) * sizeof(float));
      continue;
    }
    float* weights[2] = {room, room + OH * H};
    GsSampled* sampled[2] = {(GsSampled*)(void*)room, (GsSampled*)(void*)room + OH * v->samples};
    if (!v->largest) memset(room, 0, (size_t)(OH * H + OW * W) * sizeof(float));
    for (int axis = 0; axis < 2; axis++)
      for (int64_t k = 0; k < v->out[axis]; k++) {
        int64_t* end = ends + 2 * (k + axis * OH);
        float* weight = weights[axis] + k * v->in[axis];
        end[0] = v->in[axis], end[1] = 0;
        for (int64_t s = 0; s < samples[axis]; s++) {
          GsSampled one = gs_region_sample(start[axis], bin[axis], k, s, samples[axis], v->in[axis]);
          if (v->largest) {
            sampled[axis][k * samples[axis] + s] = one;
            continue;
          }
          end[0] = gs_min_i64(end[0], one.low), end[1] = gs_max_i64(end[1], one.high + 1);
          weight[one.low] += (float)one.by_low, weight[one.high] += (float)one.by_high;
        }
      }
    float* row = weights[1] + OW * W;
    int64_t w0 = W, w1 = 0;
    for (int64_t pw = 0; !v->largest && pw < OW; pw++)
      w0 = gs_min_i64(w0, ends[2 * (OH + pw)]), w1 = gs_max_i64(w1, ends[2 * (OH + pw) + 1]);
    float count = (float)(samples[0] * samples[1]);
    for (int64_t c = 0; c < v->channels; c++, x += H * W, y += OH * OW) {
      if (v->largest) {
        gs_roi_largest(v, x, y, sampled[0], sampled[1], samples[0], samples[1]);
        continue;
      }
      for (int64_t ph = 0; ph < OH; ph++) {
        gs_roi_down(x, W, weights[0] + ph * H, ends[2 * ph], ends[2 * ph + 1], w0, w1, row);
        for (int64_t pw = 0; pw < OW; pw++) {
          const float* weight = weights[1] + pw * W;
          const int64_t* end = ends + 2 * (OH + pw);
          float sum = 0;
          for (int64_t w = end[0]; w < end[1]; w++) sum += weight[w] * row[w];
          y[ph * OW + pw] = sum / count;
        }
      }
    }
  }
  return 0;
}

// Where bin k of an axis begins and ends.
GS_INLINE void gs_roi_span(float from, float to, int64_t bins, int64_t size, int64_t k, int64_t* end) {
  int64_t first = (int64_t)trunc((double)from + copysign(0.5, (double)from));
  int64_t last = (int64_t)trunc((double)to + copysign(0.5, (double)to));
  float bin = (float)gs_max_i64(last - first + 1, 1) / (float)bins;
  end[0] = gs_min_i64(gs_max_i64((int64_t)floorf((float)k * bin) + first, 0), size);
  end[1] = gs_min_i64(gs_max_i64((int64_t)ceilf((float)(k + 1) * bin) + first, 0), size);
}

GS_LOCAL int64_t gs_max_roi_pool(const GsRegions* v) {
  int64_t H = v->in[0], W = v->in[1], OH = v->out[0], OW = v->out[1];
  int64_t* ends = (int64_t*)(void*)v->scratch;
  float* row = v->scratch + 2 * (OH + OW) * (int64_t)(sizeof(int64_t) / sizeof(float));
  for (int64_t i = 0; i < v->regions; i++) {
    const float *x = v->x + v->batch[i] * v->channels * H * W, *r = v->region + 4 * i;
    float* y = v->y + i * v->channels * OH * OW;
    int64_t w0 = W, w1 = 0;
    for (int64_t k = 0; k < OH; k++) gs_roi_span(r[1] * v->scale, r[3] * v->scale, OH, H, k, ends + 2 * k);
    for (int64_t k = 0; k < OW; k++) {
      int64_t* end = ends + 2 * (OH + k);
      gs_roi_span(r[0] * v->scale, r[2] * v->scale, OW, W, k, end);
      w0 = gs_min_i64(w0, end[0]), w1 = gs_max_i64(w1, end[1]);
    }
    for (int64_t c = 0; c < v->channels; c++, x += H * W, y += OH * OW)
      for (int64_t ph = 0; ph < OH; ph++) {
        int64_t h0 = ends[2 * ph], h1 = ends[2 * ph + 1];
        for (int64_t w = w0; h0 < h1 && w < w1; w += GS_W) {
          int64_t lanes = gs_min_i64(GS_W, w1 - w);
          gs_vf most = gs_load_some(x + h0 * W + w, lanes);
          for (int64_t h = h0 + 1; h < h1; h++) most = gs_maxv(most, gs_load_some(x + h * W + w, lanes));
          gs_store(row + w, most);
        }
        for (int64_t pw = 0; pw < OW; pw++) {
          const int64_t* end = ends + 2 * (OH + pw);
          // A bin that sees nothing is 0.
          float most = h0 < h1 && end[0] < end[1] ? row[end[0]] : 0;
          for (int64_t w = end[0] + 1; h0 < h1 && w < end[1]; w++) most = gs_maxf(most, row[w]);
          y[ph * OW + pw] = most;
        }
      }
  }
  return 0;
}
