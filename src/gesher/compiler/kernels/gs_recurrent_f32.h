// RNN, GRU and LSTM in one direction or two, as ONNX's operators have them.
//
// Weights are packed so that one panel holds, for each input k, the gates of a few units side by side: a step's product
// with the state then ends with all that the cell of these units needs, and threads share a step by units. The part of
// the gates that does not wait for the state is made for many steps at once, where the batch alone would not keep the
// registers busy. Gates lie as in ONNX: RNN i; GRU z r h; LSTM i o f c.
//
// A clip applies to what goes into the gates' activations, not to the cell's state.

#include "gs_rows_f32.h"

enum { GS_RNN, GS_GRU, GS_LSTM };
enum {
  GS_SIGMOID, GS_TANH, GS_RELU, GS_AFFINE, GS_LEAKY_RELU, GS_THRESHOLDED_RELU, GS_SCALED_TANH, GS_HARD_SIGMOID, GS_ELU,
  GS_SOFTSIGN, GS_SOFTPLUS
};

typedef struct GsRecurrent {
  int kind, ways, linear_before_reset, input_forget;
  int reverse[2];             // for each way (direction) whether it goes backwards
  int64_t T, B, I, H;         // steps, batch, inputs, hidden
  const float* x;             // x[t * x_t + b * x_b + i]
  int64_t x_t, x_b;
  const float *w, *r;         // (ways, G*H, I) and (ways, G*H, H); not read where they are packed
  const float *w_packed, *r_packed;  // the same as gs_recurrent_pack makes them, way by way; NULL: packed at each run
  const float *bias;          // (ways, 2*G*H): of w, then of r; NULL for none
  const float *peephole;      // LSTM (ways, 3*H): i o f; NULL for none
  const int32_t* lengths;     // (B); above T counts as T; NULL: all T
  const float *h0, *c0;       // (ways,B,H); NULL: zeros
  float* y;                   // y[t * y_t + way * y_way + b * y_b + j]; NULL where not wanted
  int64_t y_t, y_way, y_b;
  float *h, *c;               // the last states (ways,B,H); NULL where not wanted
  float clip;                 // 0: none
  int activation[2][3];       // for each way f g h; RNN has f, GRU f g
  float alpha[2][3], beta[2][3];
  float* scratch;             // gs_recurrent_f32_scratch floats, 64-byte aligned
} GsRecurrent;

GS_INLINE int64_t gs_recurrent_gates(const GsRecurrent* v) {
  return v->kind == GS_LSTM ? 4 : v->kind == GS_GRU ? 3 : 1;
}
GS_INLINE int64_t gs_recurrent_length(const GsRecurrent* v, int64_t b) {
  return v->lengths ? gs_max_i64(0, gs_min_i64(v->lengths[b], v->T)) : v->T;
}

GS_INLINE double gs_activate_plain(int kind, float alpha, float beta, double x) {
  switch (kind) {
    case GS_SIGMOID: return 1 / (1 + exp(-x));
    case GS_TANH: return tanh(x);
    case GS_RELU: return x < 0 ? 0 : x;
    case GS_AFFINE: return (double)alpha * x + (double)beta;
    case GS_LEAKY_RELU: return x < 0 ? (double)alpha * x : x;
    case GS_THRESHOLDED_RELU: return x > (double)alpha ? x : 0;
    case GS_SCALED_TANH: return (double)alpha * tanh((double)beta * x);
    case GS_HARD_SIGMOID: return gs_min(gs_max((double)alpha * x + (double)beta, 0), 1);
    case GS_ELU: return x < 0 ? (double)alpha * expm1(x) : x;
    case GS_SOFTSIGN: return x / (1 + fabs(x));
    default: return log1p(exp(-fabs(x))) + (x > 0 ? x : 0);
  }
}

// ---- the plain version: one sequence and one unit at a time, in double

GS_LOCAL int64_t gs_recurrent_f32_scratch(const GsRecurrent* v, int threads);

GS_LOCAL void gs_recurrent_way_plain(const GsRecurrent* v, int way) {
  int64_t H = v->H, I = v->I, B = v->B, G = gs_recurrent_gates(v);
  const float *w = v->w + way * G * H * I, *r = v->r + way * G * H * H;
  const float *bias = v->bias ? v->bias + way * 2 * G * H : 0, *peephole = v->peephole ? v->peephole + way * 3 * H : 0;
  float *h = v->scratch, *c = h + H, *next = c + H, *gates = next + H, *reset = gates + G * H;
#define GS_ACT(n, value) gs_activate_plain(v->activation[way][n], v->alpha[way][n], v->beta[way][n], value)
#define GS_CUT(value) (v->clip > 0 ? gs_min(gs_max(value, (double)-v->clip), (double)v->clip) : (value))
  for (int64_t b = 0; b < B; b++) {
    int64_t steps = gs_recurrent_length(v, b);
    for (int64_t j = 0; j < H; j++) {
      h[j] = v->h0 ? v->h0[(way * B + b) * H + j] : 0;
      c[j] = v->c0 ? v->c0[(way * B + b) * H + j] : 0;
    }
    for (int64_t s = 0; s < v->T; s++) {
      int64_t t = s >= steps ? s : v->reverse[way] ? steps - 1 - s : s;
      float* y = v->y ? v->y + t * v->y_t + way * v->y_way + b * v->y_b : 0;
      if (s >= steps) {
        for (int64_t j = 0; j < H && y; j++) y[j] = 0;
        continue;
      }
      const float* x = v->x + t * v->x_t + b * v->x_b;
      for (int64_t g = 0; g < G; g++)
        for (int64_t j = 0; j < H; j++) {
          int64_t row = g * H + j;
          double sum = bias ? (double)bias[row] : 0, again = bias ? (double)bias[G * H + row] : 0;
          for (int64_t i = 0; i < I; i++) sum += (double)x[i] * (double)w[row * I + i];
          if (v->kind == GS_GRU && g == 2) {
            for (int64_t i = 0; i < H; i++)
              again += (double)(v->linear_before_reset ? h[i] : reset[i] * h[i]) * (double)r[row * H + i];
            sum += v->linear_before_reset ? (double)reset[j] * again : again;
          } else {
            for (int64_t i = 0; i < H; i++) again += (double)h[i] * (double)r[row * H + i];
            sum += again;
          }
          // The output gate looks at the cell as it is after the step, so its peephole waits.
          if (peephole && g != 3 && g != 1) sum += (double)peephole[(g == 0 ? 0 : 2) * H + j] * (double)c[j];
          if (!(peephole && g == 1)) sum = GS_CUT(sum);
          gates[row] = (float)sum;
          if (v->kind == GS_GRU && g == 1) reset[j] = (float)GS_ACT(0, sum);
        }
      for (int64_t j = 0; j < H; j++) {
        if (v->kind == GS_RNN) {
          next[j] = (float)GS_ACT(0, gates[j]);
        } else if (v->kind == GS_GRU) {
          double z = GS_ACT(0, gates[j]);
          next[j] = (float)((1 - z) * GS_ACT(1, gates[2 * H + j]) + z * (double)h[j]);
        } else {
          double i = GS_ACT(0, gates[j]), f = v->input_forget ? 1 - i : GS_ACT(0, gates[2 * H + j]), o = gates[H + j];
          c[j] = (float)(f * (double)c[j] + i * GS_ACT(1, gates[3 * H + j]));
          if (peephole) o = GS_CUT(o + (double)peephole[H + j] * (double)c[j]);
          next[j] = (float)(GS_ACT(0, o) * GS_ACT(2, c[j]));
        }
      }
      for (int64_t j = 0; j < H; j++) {
        h[j] = next[j];
        if (y) y[j] = next[j];
      }
    }
    for (int64_t j = 0; j < H; j++) {
      if (v->h) v->h[(way * B + b) * H + j] = h[j];
      if (v->c) v->c[(way * B + b) * H + j] = c[j];
    }
  }
#undef GS_CUT
#undef GS_ACT
}

GS_LOCAL void gs_recurrent_f32_plain(const GsRecurrent* v, GsPool* pool) {
  (void)pool;
  for (int way = 0; way < v->ways; way++) gs_recurrent_way_plain(v, way);
}

// ---- packed weights

// What is computed at once: some gates of some units. A GRU's last gate waits for the reset gate of all units, unless
// that scales only after the product.
typedef struct GsSection {
  int64_t first, gates, groups;  // gates from `first` on, of `groups` vectors of units
  int64_t vectors, units;        // gates * groups; groups * GS_W: units of a panel
  int64_t panels;
} GsSection;

GS_LOCAL int gs_recurrent_sections(const GsRecurrent* v, GsSection* s) {
  int n = 1;
  if (v->kind == GS_LSTM) s[0] = (GsSection){.first = 0, .gates = 4, .groups = 1};
  else if (v->kind == GS_RNN) s[0] = (GsSection){.first = 0, .gates = 1, .groups = 4};
  else if (v->linear_before_reset) s[0] = (GsSection){.first = 0, .gates = 3, .groups = 1};
  else s[0] = (GsSection){.first = 0, .gates = 2, .groups = 2}, s[n++] = (GsSection){.first = 2, .gates = 1, .groups = 4};
  for (int i = 0; i < n; i++) {
    s[i].vectors = s[i].gates * s[i].groups, s[i].units = s[i].groups * GS_W;
    s[i].panels = gs_ceil_div(v->H, s[i].units);
  }
  return n;
}

// Floats of a panel row of all gates, the last units filled up: a packed matrix of K inputs has K times as many.
GS_LOCAL int64_t gs_recurrent_row(const GsRecurrent* v) {
  GsSection s[2];
  int n = gs_recurrent_sections(v, s);
  int64_t total = 0;
  for (int i = 0; i < n; i++) total += s[i].panels * s[i].vectors * GS_W;
  return total;
}

// m (G*H, K) as panels: out[panel][k][gate][unit], section after section.
GS_LOCAL void gs_recurrent_pack(const GsRecurrent* v, int64_t K, const float* m, float* out) {
  GsSection s[2];
  int n = gs_recurrent_sections(v, s);
  for (int i = 0; i < n; i++)
    for (int64_t p = 0; p < s[i].panels; p++)
      for (int64_t k = 0; k < K; k++)
        for (int64_t g = s[i].first; g < s[i].first + s[i].gates; g++)
          for (int64_t u = p * s[i].units; u < (p + 1) * s[i].units; u++)
            *out++ = u < v->H ? m[(g * v->H + u) * K + k] : 0;
}

// ---- the quick version

// Rows of the batch that go through a panel at once: their sums fill the registers.
#if GS_W == 16
#define GS_RECURRENT_ROWS 6
#else
#define GS_RECURRENT_ROWS 3
#endif
// Rows for which the input's part of the gates is made at once, and multiplications below which threads do not pay.
#define GS_RECURRENT_AHEAD 96
#define GS_RECURRENT_ALONE 200000

GS_INLINE gs_vf gs_activate(int kind, float alpha, float beta, gs_vf x) {
  gs_vf zero = {0};
  switch (kind) {
    case GS_SIGMOID: return gs_sigmoidv(x);
    case GS_TANH: return gs_tanhv(x);
    case GS_RELU: return gs_select(x < zero, zero, x);
    case GS_AFFINE: return alpha * x + beta;
    case GS_LEAKY_RELU: return gs_select(x < zero, alpha * x, x);
    case GS_THRESHOLDED_RELU: return gs_select(x > gs_splat(alpha), x, zero);
    case GS_SCALED_TANH: return alpha * gs_tanhv(beta * x);
    case GS_HARD_SIGMOID: return gs_minv(gs_maxv(alpha * x + beta, zero), gs_splat(1));
    default: {
      for (int l = 0; l < GS_W; l++) x[l] = (float)gs_activate_plain(kind, alpha, beta, x[l]);
      return x;
    }
  }
}

GS_INLINE gs_vf gs_clipped(float clip, gs_vf x) {
  return clip > 0 ? gs_minv(gs_maxv(x, gs_splat(-clip)), gs_splat(clip)) : x;
}


// One way of a run.
typedef struct GsRecurrentRun {
  const GsRecurrent* v;
  int way;
  GsSection sections[2];
  const float *w, *r;       // packed
  const float *peephole;
  int64_t row, room;        // floats of a row of gates; of a row of a state
  float *bias, *late;       // panels of both biases together; of that which a reset gate scales
  float *h[2], *c;          // (B, room); h in turns
  float *update, *reset;    // (B, room), of a GRU whose last gate waits: z, and r * h
  float *gates;             // of some steps ahead: (steps, B, row); NULL: made with the step
  int32_t* who;             // the sequences that are not at their end
  int64_t active, step, ahead;  // how many; the step; the first of those in `gates`
  int section;
} GsRecurrentRun;

GS_INLINE int64_t gs_recurrent_time(const GsRecurrentRun* q, int64_t b, int64_t s) {
  return q->v->reverse[q->way] ? gs_recurrent_length(q->v, b) - 1 - s : s;
}

// tile[r][v] += sum over k of a[r][k] * b[k][v], for `rows` rows and `vectors` vectors; a row of the tile has 4.
GS_INLINE void gs_recurrent_dots(const int rows, const int vectors, int64_t K, const float* const* a, const float* b,
                                 float* tile) {
  gs_vf sum[GS_RECURRENT_ROWS][4], odd[4];
#pragma GCC unroll 6
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[r][v] = gs_load(tile + (r * 4 + v) * GS_W);
  int64_t k = 0;
  if (rows == 1) {
    // Two chains of additions for each vector, or each would wait for the one before.
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) odd[v] = gs_splat(0);
    for (; k + 2 <= K; k += 2, b += 2 * vectors * GS_W)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        sum[0][v] += a[0][k] * gs_load(b + v * GS_W);
        odd[v] += a[0][k + 1] * gs_load(b + (vectors + v) * GS_W);
      }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[0][v] += odd[v];
  }
  for (; k < K; k++, b += vectors * GS_W)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      gs_vf w = gs_load(b + v * GS_W);
#pragma GCC unroll 6
      for (int r = 0; r < rows; r++) sum[r][v] += a[r][k] * w;
    }
#pragma GCC unroll 6
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) gs_store(tile + (r * 4 + v) * GS_W, sum[r][v]);
}

// The most rows up to `left` that there is code for.
GS_INLINE int gs_recurrent_rows(int64_t left) {
#if GS_W == 16
  return left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
#else
  return left >= 3 ? 3 : left >= 2 ? 2 : 1;
#endif
}

GS_NOINLINE void gs_recurrent_multiply(int rows, int64_t vectors, int64_t K, const float* const* a, const float* b,
                                       float* tile) {
#define GS_CASE(n) case n: if (vectors == 4) gs_recurrent_dots(n, 4, K, a, b, tile); \
                           else gs_recurrent_dots(n, 3, K, a, b, tile); break;
  switch (rows) {
    GS_CASE(1)
    GS_CASE(2)
#if GS_W == 16
    GS_CASE(4)
    GS_CASE(6)
#else
    GS_CASE(3)
#endif
  }
#undef GS_CASE
}

// The cells of the units of panel `p` for the sequences `who`: the tile holds the gates before their activations.
GS_LOCAL void gs_recurrent_cell(const GsRecurrentRun* q, int64_t p, int rows, const int32_t* who, const float* tile) {
  const GsRecurrent* v = q->v;
  const GsSection* section = q->sections + q->section;
  const int way = q->way, usual = v->activation[way][0] == GS_SIGMOID && v->activation[way][1] == GS_TANH
                               && v->activation[way][2] == GS_TANH;
  const int64_t H = v->H, from = p * section->units;
  // The usual activations get code of their own: their switch is settled when compiled.
#define GS_ACT(n, x) gs_activate(v->activation[way][n], v->alpha[way][n], v->beta[way][n], gs_clipped(v->clip, x))
#define GS_AT(gate, group) gs_load(at + (gate * section->groups + group) * GS_W)
  for (int r = 0; r < rows; r++)
    for (int64_t group = 0; group < section->groups; group++) {
      const float* at = tile + r * 4 * GS_W;
      int64_t b = who[r], j = from + group * GS_W, lanes = gs_min_i64(GS_W, H - j), here = b * q->room + j;
      if (lanes <= 0) break;
      gs_vf out, state = gs_load(q->h[q->step & 1] + here);
      if (v->kind == GS_RNN) {
        out = GS_ACT(0, GS_AT(0, group));
      } else if (v->kind == GS_GRU && section->gates == 2) {
        gs_store(q->update + here, GS_ACT(0, GS_AT(0, group)));
        gs_store(q->reset + here, GS_ACT(0, GS_AT(1, group)) * state);
        continue;
      } else if (v->kind == GS_GRU) {
        gs_vf z, n;
        if (section->gates == 1) {
          z = gs_load(q->update + here), n = GS_AT(0, group);
        } else {
          // The fourth vector holds the input's part of the last gate.
          z = GS_ACT(0, GS_AT(0, 0)), n = GS_AT(3, 0) + GS_ACT(0, GS_AT(1, 0)) * GS_AT(2, 0);
        }
        out = (1.0f - z) * GS_ACT(1, n) + z * state;
      } else {
        gs_vf i = GS_AT(0, 0), o = GS_AT(1, 0), f = GS_AT(2, 0), g = GS_AT(3, 0), cell = gs_load(q->c + here);
        if (q->peephole) {
          i += gs_load_some(q->peephole + j, lanes) * cell;
          f += gs_load_some(q->peephole + 2 * H + j, lanes) * cell;
        }
        if (usual) {
          i = gs_sigmoidv(gs_clipped(v->clip, i)), g = gs_tanhv(gs_clipped(v->clip, g));
          f = v->input_forget ? 1.0f - i : gs_sigmoidv(gs_clipped(v->clip, f));
        } else {
          i = GS_ACT(0, i), g = GS_ACT(1, g);
          f = v->input_forget ? 1.0f - i : GS_ACT(0, f);
        }
        cell = f * cell + i * g;
        gs_store(q->c + here, cell);
        if (q->peephole) o += gs_load_some(q->peephole + H + j, lanes) * cell;
        o = gs_clipped(v->clip, o);
        out = usual ? gs_sigmoidv(o) * gs_tanhv(cell)
            : gs_activate(v->activation[way][0], v->alpha[way][0], v->beta[way][0], o)
            * gs_activate(v->activation[way][2], v->alpha[way][2], v->beta[way][2], cell);
      }
      gs_store(q->h[~q->step & 1] + here, out);
      if (v->y) {
        int64_t t = gs_recurrent_time(q, b, q->step);
        gs_store_some(v->y + t * v->y_t + way * v->y_way + b * v->y_b + j, out, lanes);
      }
    }
#undef GS_AT
#undef GS_ACT
}

// Where the gates of a section begin in a row of them, and its weights for K inputs.
GS_INLINE int64_t gs_recurrent_place(const GsRecurrentRun* q, int section) {
  return section ? q->sections[0].panels * q->sections[0].vectors * GS_W : 0;
}

// The panels [begin, end) of one step of one section.
GS_LOCAL void gs_recurrent_step(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRecurrentRun* q = arg;
  const GsRecurrent* v = q->v;
  const GsSection* section = q->sections + q->section;
  (void)thread;
  const int64_t width = section->vectors * GS_W, place = gs_recurrent_place(q, q->section);
  const int apart = v->kind == GS_GRU && section->gates == 3, waits = v->kind == GS_GRU && section->gates == 1;
  const float* state = waits ? q->reset : q->h[q->step & 1];
  _Alignas(64) float tile[GS_RECURRENT_ROWS * 4 * GS_W];
  const float *x[GS_RECURRENT_ROWS], *h[GS_RECURRENT_ROWS];
  for (int64_t i = begin; i < end; i++) {
    // Every second step goes through the panels backwards: those read last are still in the cache.
    int64_t p = q->step & 1 ? end - 1 - (i - begin) : i, at = place + p * width;
    int rows;
    for (int64_t done = 0; done < q->active; done += rows) {
      const int32_t* who = q->who + done;
      rows = gs_recurrent_rows(q->active - done);
      for (int r = 0; r < rows; r++) {
        h[r] = state + who[r] * q->room;
        const float* first = q->gates ? q->gates + ((q->step - q->ahead) * v->B + who[r]) * q->row + at : q->bias + at;
        memcpy(tile + r * 4 * GS_W, first, (size_t)width * sizeof(float));
        if (!q->gates) x[r] = v->x + gs_recurrent_time(q, who[r], q->step) * v->x_t + who[r] * v->x_b;
      }
      if (!q->gates) gs_recurrent_multiply(rows, section->vectors, v->I, x, q->w + at * v->I, tile);
      if (apart)
        for (int r = 0; r < rows; r++) {
          memcpy(tile + (r * 4 + 3) * GS_W, tile + (r * 4 + 2) * GS_W, GS_W * sizeof(float));
          memcpy(tile + (r * 4 + 2) * GS_W, q->late + p * GS_W, GS_W * sizeof(float));
        }
      gs_recurrent_multiply(rows, section->vectors, v->H, h, q->r + at * v->H, tile);
      gs_recurrent_cell(q, p, rows, who, tile);
    }
  }
}

// The input's part of the gates of the steps from q->ahead on, as many as `gates` holds: panels [begin, end) of a section.
GS_LOCAL void gs_recurrent_inputs(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRecurrentRun* q = arg;
  const GsRecurrent* v = q->v;
  const GsSection* section = q->sections + q->section;
  (void)thread;
  const int64_t width = section->vectors * GS_W, place = gs_recurrent_place(q, q->section);
  int64_t steps = gs_min_i64(v->T - q->ahead, gs_ceil_div(GS_RECURRENT_AHEAD, v->B)), total = steps * v->B;
  _Alignas(64) float tile[GS_RECURRENT_ROWS * 4 * GS_W];
  const float* x[GS_RECURRENT_ROWS];
  for (int64_t p = begin; p < end; p++) {
    int64_t at = place + p * width;
    int rows;
    for (int64_t done = 0; done < total; done += rows) {
      rows = gs_recurrent_rows(total - done);
      for (int r = 0; r < rows; r++) {
        int64_t s = q->ahead + (done + r) / v->B, b = (done + r) % v->B;
        // Behind a sequence's end the gates are not looked at; what is read must be there.
        int64_t t = s < gs_recurrent_length(v, b) ? gs_recurrent_time(q, b, s) : s;
        x[r] = v->x + t * v->x_t + b * v->x_b;
        memcpy(tile + r * 4 * GS_W, q->bias + at, (size_t)width * sizeof(float));
      }
      gs_recurrent_multiply(rows, section->vectors, v->I, x, q->w + at * v->I, tile);
      for (int r = 0; r < rows; r++)
        memcpy(q->gates + (done + r) * q->row + at, tile + r * 4 * GS_W, (size_t)width * sizeof(float));
    }
  }
}

// Whether the input's part is made ahead: with a batch that fills the registers nothing is gained.
GS_INLINE int gs_recurrent_goes_ahead(const GsRecurrent* v) { return v->T > 1 && v->B < GS_RECURRENT_ROWS; }

// Floats of scratch of one way; the plain version's fit in it too.
GS_LOCAL int64_t gs_recurrent_way_scratch(const GsRecurrent* v) {
  int64_t row = gs_recurrent_row(v), room = gs_round_up(v->H, 4 * GS_W), B = gs_max_i64(v->B, 1);
  int64_t ahead = gs_recurrent_goes_ahead(v) ? gs_min_i64(v->T, gs_ceil_div(GS_RECURRENT_AHEAD, B)) * B * row : 0;
  return row + room + 5 * B * room + gs_round_up(B, 16) + ahead + (v->w_packed ? 0 : gs_round_up(v->I * row, 16))
       + (v->r_packed ? 0 : gs_round_up(v->H * row, 16)) + 4 * v->H;
}

GS_LOCAL int64_t gs_recurrent_f32_scratch(const GsRecurrent* v, int threads) {
  (void)threads;
  return v->ways * gs_round_up(gs_recurrent_way_scratch(v), 16);
}

// Gates to panels, as weights of one input: (G*H) numbers of a bias, to which those of a second one are added.
GS_LOCAL void gs_recurrent_biases(const GsRecurrentRun* q) {
  const GsRecurrent* v = q->v;
  int64_t n = gs_recurrent_gates(v) * v->H;
  memset(q->bias, 0, (size_t)q->row * sizeof(float));
  memset(q->late, 0, (size_t)q->room * sizeof(float));
  if (!v->bias) return;
  const float *w = v->bias + q->way * 2 * n, *r = w + n;
  gs_recurrent_pack(v, 1, w, q->bias);
  const int apart = v->kind == GS_GRU && v->linear_before_reset;
  int64_t k = 0;
  for (int i = 0; i < (v->kind == GS_GRU && !apart ? 2 : 1); i++) {
    const GsSection* s = q->sections + i;
    for (int64_t p = 0; p < s->panels; p++)
      for (int64_t g = s->first; g < s->first + s->gates; g++)
        for (int64_t u = p * s->units; u < (p + 1) * s->units; u++, k++) {
          if (u >= v->H) continue;
          if (apart && g == 2) q->late[u] = r[2 * v->H + u];
          else q->bias[k] += r[g * v->H + u];
        }
  }
}

GS_LOCAL void gs_recurrent_way(const GsRecurrent* v, int way, GsPool* pool) {
  const int64_t H = v->H, B = v->B, row = gs_recurrent_row(v), room = gs_round_up(H, 4 * GS_W);
  float* next = v->scratch + way * gs_round_up(gs_recurrent_way_scratch(v), 16);
#define GS_TAKE(count) (next += gs_round_up(count, 16), next - gs_round_up(count, 16))
  GsRecurrentRun run = {.v = v, .way = way, .row = row, .room = room, .bias = GS_TAKE(row), .late = GS_TAKE(room)};
  GsRecurrentRun* q = &run;
  const int sections = gs_recurrent_sections(v, q->sections);
  q->h[0] = GS_TAKE(B * room), q->h[1] = GS_TAKE(B * room), q->c = GS_TAKE(B * room);
  q->update = GS_TAKE(B * room), q->reset = GS_TAKE(B * room);
  q->who = (int32_t*)GS_TAKE(B);
  q->peephole = v->peephole ? v->peephole + way * 3 * H : 0;
  if (gs_recurrent_goes_ahead(v)) q->gates = GS_TAKE(gs_min_i64(v->T, gs_ceil_div(GS_RECURRENT_AHEAD, B)) * B * row);
  q->w = v->w_packed ? v->w_packed + way * v->I * row : 0;
  q->r = v->r_packed ? v->r_packed + way * H * row : 0;
  if (!q->w) {
    float* packed = GS_TAKE(v->I * row);
    gs_recurrent_pack(v, v->I, v->w + way * gs_recurrent_gates(v) * H * v->I, packed);
    q->w = packed;
  }
  if (!q->r) {
    float* packed = GS_TAKE(H * row);
    gs_recurrent_pack(v, H, v->r + way * gs_recurrent_gates(v) * H * H, packed);
    q->r = packed;
  }
#undef GS_TAKE
  gs_recurrent_biases(q);
  for (int64_t b = 0; b < B; b++)
    for (int64_t j = 0; j < room; j++) {
      q->h[0][b * room + j] = v->h0 && j < H ? v->h0[(way * B + b) * H + j] : 0;
      q->c[b * room + j] = v->c0 && j < H ? v->c0[(way * B + b) * H + j] : 0;
    }
  for (q->step = 0; q->step < v->T; q->step++) {
    if (q->gates && q->step % gs_ceil_div(GS_RECURRENT_AHEAD, B) == 0) {
      q->ahead = q->step;
      int64_t work = gs_min_i64(v->T - q->step, gs_ceil_div(GS_RECURRENT_AHEAD, B)) * B * row * v->I;
      for (q->section = 0; q->section < sections; q->section++)
        gs_parallel_for(work < GS_RECURRENT_ALONE ? 0 : pool, q->sections[q->section].panels, gs_recurrent_inputs, q);
    }
    q->active = 0;
    for (int64_t b = 0; b < B; b++) {
      if (q->step < gs_recurrent_length(v, b)) {
        q->who[q->active++] = (int32_t)b;
        continue;
      }
      memcpy(q->h[~q->step & 1] + b * room, q->h[q->step & 1] + b * room, (size_t)H * sizeof(float));
      if (v->y) memset(v->y + q->step * v->y_t + way * v->y_way + b * v->y_b, 0, (size_t)H * sizeof(float));
    }
    int64_t work = q->active * row * (H + (q->gates ? 0 : v->I));
    for (q->section = 0; q->section < sections; q->section++)
      gs_parallel_for(work < GS_RECURRENT_ALONE ? 0 : pool, q->sections[q->section].panels, gs_recurrent_step, q);
  }
  for (int64_t b = 0; b < B; b++) {
    if (v->h) memcpy(v->h + (way * B + b) * H, q->h[v->T & 1] + b * room, (size_t)H * sizeof(float));
    if (v->c) memcpy(v->c + (way * B + b) * H, q->c + b * room, (size_t)H * sizeof(float));
  }
}

GS_LOCAL void gs_recurrent_ways(void* arg, int64_t begin, int64_t end, int thread) {
  (void)thread;
  for (int64_t way = begin; way < end; way++) gs_recurrent_way(arg, (int)way, 0);
}

GS_LOCAL void gs_recurrent_f32(const GsRecurrent* v, GsPool* pool) {
  if (v->B <= 0 || v->H <= 0) return;
  // Two ways on two threads need not wait for each other; with more threads each step is shared.
  int64_t work = v->T * v->B * gs_recurrent_row(v) * (v->H + v->I);
  if (v->ways > 1 && gs_pool_size(pool) < 4)
    gs_parallel_for(work < GS_RECURRENT_ALONE ? 0 : pool, v->ways, gs_recurrent_ways, (void*)v);
  else
    for (int way = 0; way < v->ways; way++) gs_recurrent_way(v, way, pool);
}
