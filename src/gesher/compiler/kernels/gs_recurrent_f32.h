// RNN, GRU and LSTM in one direction, as ONNX's operators have them.
//
// The products with the input are one matrix product over all steps; each step then adds the product with the state
// to its gates, in place, and runs the cell over vectors. Where sequences differ in length, each goes alone (and
// threads take sequences); else the whole batch takes a step at a time. Gates lie as in ONNX: RNN i; GRU z r h; LSTM
// i o f c.
//
// A clip applies to what goes into the gates' activations, not to the cell's state.

#include "gs_gemm_f32.h"
#include "gs_rows_f32.h"

enum { GS_RNN, GS_GRU, GS_LSTM };
enum {
  GS_SIGMOID, GS_TANH, GS_RELU, GS_AFFINE, GS_LEAKY_RELU, GS_THRESHOLDED_RELU, GS_SCALED_TANH, GS_HARD_SIGMOID, GS_ELU,
  GS_SOFTSIGN, GS_SOFTPLUS
};

typedef struct GsRecurrent {
  int kind, reverse, linear_before_reset, input_forget;
  int64_t T, B, I, H;         // steps, batch, inputs, hidden
  const float* x;             // x[t * x_t + b * x_b + i]: (T,B,I) or (B,T,I), nothing between
  int64_t x_t, x_b;
  const float *w, *r;         // (G*H, I) and (G*H, H)
  const float *w_packed, *r_packed;  // the same as gs_recurrent_pack makes them; NULL: packed at each run
  const float *bias;          // (2*G*H): of w, then of r; NULL for none
  const float *peephole;      // LSTM (3*H): i o f; NULL for none
  const int32_t* lengths;     // (B), at most T; NULL: all T
  const float *h0, *c0;       // (B,H), rows `state` apart; NULL: zeros
  float* y;                   // y[t * y_t + b * y_b + j]; NULL where not wanted
  int64_t y_t, y_b, state;
  float *h, *c;               // the last states, rows `state` apart; NULL where not wanted
  float clip;                 // 0: none
  int activation[3];          // f g h; RNN has f, GRU f g
  float alpha[3], beta[3];
  float* scratch;             // gs_recurrent_f32_scratch floats, 64-byte aligned
} GsRecurrent;

GS_INLINE int64_t gs_recurrent_gates(const GsRecurrent* v) {
  return v->kind == GS_LSTM ? 4 : v->kind == GS_GRU ? 3 : 1;
}
// Gates whose product with the state is made at once: a GRU's last one waits for the reset gate.
GS_INLINE int64_t gs_recurrent_first(const GsRecurrent* v) { return v->kind == GS_GRU ? 2 : gs_recurrent_gates(v); }

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

GS_LOCAL void gs_recurrent_f32_plain(const GsRecurrent* v, GsPool* pool) {
  (void)pool;
  int64_t H = v->H, I = v->I, G = gs_recurrent_gates(v);
  float *h = v->scratch, *c = h + H, *next = c + H, *gates = next + H, *reset = gates + G * H;
  for (int64_t b = 0; b < v->B; b++) {
    int64_t steps = v->lengths ? v->lengths[b] : v->T;
    for (int64_t j = 0; j < H; j++) {
      h[j] = v->h0 ? v->h0[b * v->state + j] : 0;
      c[j] = v->c0 ? v->c0[b * v->state + j] : 0;
    }
    for (int64_t s = 0; s < v->T; s++) {
      int64_t t = s >= steps ? s : v->reverse ? steps - 1 - s : s;
      if (s >= steps) {
        for (int64_t j = 0; j < H && v->y; j++) v->y[t * v->y_t + b * v->y_b + j] = 0;
        continue;
      }
      const float* x = v->x + t * v->x_t + b * v->x_b;
      for (int64_t g = 0; g < G; g++)
        for (int64_t j = 0; j < H; j++) {
          int64_t row = g * H + j;
          double sum = v->bias ? (double)v->bias[row] : 0, again = v->bias ? (double)v->bias[G * H + row] : 0;
          for (int64_t i = 0; i < I; i++) sum += (double)x[i] * (double)v->w[row * I + i];
          if (v->kind == GS_GRU && g == 2) {
            for (int64_t i = 0; i < H; i++)
              again += (double)(v->linear_before_reset ? h[i] : reset[i] * h[i]) * (double)v->r[row * H + i];
            sum += v->linear_before_reset ? (double)reset[j] * again : again;
          } else {
            for (int64_t i = 0; i < H; i++) again += (double)h[i] * (double)v->r[row * H + i];
            sum += again;
          }
          // The output gate looks at the cell as it is after the step, so its peephole waits.
          if (v->peephole && g != 3 && g != 1) sum += (double)v->peephole[(g == 0 ? 0 : 2) * H + j] * (double)c[j];
          if (v->clip > 0 && !(v->peephole && g == 1)) sum = gs_min(gs_max(sum, (double)-v->clip), (double)v->clip);
          gates[row] = (float)sum;
          if (v->kind == GS_GRU && g == 1)
            reset[j] = (float)gs_activate_plain(v->activation[0], v->alpha[0], v->beta[0], sum);
        }
      for (int64_t j = 0; j < H; j++) {
#define GS_ACT(n, value) gs_activate_plain(v->activation[n], v->alpha[n], v->beta[n], value)
        if (v->kind == GS_RNN) {
          next[j] = (float)GS_ACT(0, gates[j]);
        } else if (v->kind == GS_GRU) {
          double z = GS_ACT(0, gates[j]);
          next[j] = (float)((1 - z) * GS_ACT(1, gates[2 * H + j]) + z * (double)h[j]);
        } else {
          double i = GS_ACT(0, gates[j]), f = v->input_forget ? 1 - i : GS_ACT(0, gates[2 * H + j]), o = gates[H + j];
          c[j] = (float)(f * (double)c[j] + i * GS_ACT(1, gates[3 * H + j]));
          if (v->peephole) {
            o += (double)v->peephole[H + j] * (double)c[j];
            if (v->clip > 0) o = gs_min(gs_max(o, (double)-v->clip), (double)v->clip);
          }
          next[j] = (float)(GS_ACT(0, o) * GS_ACT(2, c[j]));
        }
#undef GS_ACT
      }
      for (int64_t j = 0; j < H; j++) {
        h[j] = next[j];
        if (v->y) v->y[t * v->y_t + b * v->y_b + j] = next[j];
      }
    }
    for (int64_t j = 0; j < H; j++) {
      if (v->h) v->h[b * v->state + j] = h[j];
      if (v->c) v->c[b * v->state + j] = c[j];
    }
  }
}

// ---- the quick version

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

// One sequence's step of the cell. `hidden`: what a GRU's last gate gets from the state, where that waits for the
// reset.
GS_LOCAL void gs_recurrent_cell(const GsRecurrent* v, float* gates, const float* hidden, float* h, float* c, float* y) {
  const int64_t H = v->H;
  // The usual activations get code of their own: their switch is settled when compiled.
  const int usual = v->kind == GS_LSTM && v->activation[0] == GS_SIGMOID && v->activation[1] == GS_TANH
                 && v->activation[2] == GS_TANH;
#define GS_ACT(n, x) gs_activate(v->activation[n], v->alpha[n], v->beta[n], x)
  for (int64_t j = 0; j < H; j += GS_W) {
    int64_t lanes = gs_min_i64(GS_W, H - j);
    gs_vf out, state = gs_load_some(h + j, lanes);
    if (v->kind == GS_RNN) {
      out = GS_ACT(0, gs_clipped(v->clip, gs_load_some(gates + j, lanes)));
    } else if (v->kind == GS_GRU) {
      gs_vf z = GS_ACT(0, gs_clipped(v->clip, gs_load_some(gates + j, lanes)));
      gs_vf n = gs_load_some(gates + 2 * H + j, lanes);
      // gates[H ..] holds the finished reset gate.
      if (hidden) n += gs_load_some(gates + H + j, lanes) * gs_load_some(hidden + j, lanes);
      out = (1.0f - z) * GS_ACT(1, gs_clipped(v->clip, n)) + z * state;
    } else {
      gs_vf i = gs_load_some(gates + j, lanes), o = gs_load_some(gates + H + j, lanes);
      gs_vf f = gs_load_some(gates + 2 * H + j, lanes), g = gs_load_some(gates + 3 * H + j, lanes);
      gs_vf cell = gs_load_some(c + j, lanes);
      if (v->peephole) {
        i += gs_load_some(v->peephole + j, lanes) * cell;
        f += gs_load_some(v->peephole + 2 * H + j, lanes) * cell;
      }
      i = gs_clipped(v->clip, i), f = gs_clipped(v->clip, f), g = gs_clipped(v->clip, g);
      i = usual ? gs_sigmoidv(i) : GS_ACT(0, i);
      f = v->input_forget ? 1.0f - i : usual ? gs_sigmoidv(f) : GS_ACT(0, f);
      cell = f * cell + i * (usual ? gs_tanhv(g) : GS_ACT(1, g));
      gs_store_some(c + j, cell, lanes);
      if (v->peephole) o += gs_load_some(v->peephole + H + j, lanes) * cell;
      o = gs_clipped(v->clip, o);
      out = usual ? gs_sigmoidv(o) * gs_tanhv(cell) : GS_ACT(0, o) * GS_ACT(2, cell);
    }
    gs_store_some(h + j, out, lanes);
    if (y) gs_store_some(y + j, out, lanes);
  }
#undef GS_ACT
}

// Floats of w packed, and of r.
GS_LOCAL int64_t gs_recurrent_w_packed(const GsRecurrent* v) {
  return gs_gemm_f32_packed(v->I, gs_recurrent_gates(v) * v->H);
}
GS_LOCAL int64_t gs_recurrent_r_packed(const GsRecurrent* v) {
  int64_t first = gs_recurrent_first(v), rest = gs_recurrent_gates(v) - first;
  return gs_gemm_f32_packed(v->H, first * v->H) + gs_gemm_f32_packed(v->H, rest * v->H);
}

// Pack w and r as panels: B[k,n] = w[n,k]. A GRU's last gate of r is a matrix of its own behind the others.
GS_LOCAL void gs_recurrent_pack_r(const GsRecurrent* v, float* out) {
  int64_t H = v->H, first = gs_recurrent_first(v) * H, rest = gs_recurrent_gates(v) * H - first;
  gs_gemm_f32_pack(H, first, v->r, 1, H, out, 0, gs_ceil_div(first, GS_GEMM_NR));
  gs_gemm_f32_pack(H, rest, v->r + first * H, 1, H, out + gs_gemm_f32_packed(H, first), 0,
                   gs_ceil_div(rest, GS_GEMM_NR));
}
GS_LOCAL void gs_recurrent_pack(const GsRecurrent* v, float* w_packed, float* r_packed) {
  int64_t n = gs_recurrent_gates(v) * v->H;
  gs_gemm_f32_pack(v->I, n, v->w, 1, v->I, w_packed, 0, gs_ceil_div(n, GS_GEMM_NR));
  gs_recurrent_pack_r(v, r_packed);
}

typedef struct GsRecurrentRun {
  const GsRecurrent* v;
  GsPool* pool;
  const float* r_packed;
  float *gates, *h, *c, *hidden;  // gates[t * gates_t + b * gates_b + ...]; h, c, hidden (B,H)
  int64_t gates_t, gates_b;
} GsRecurrentRun;

GS_INLINE GsGemm gs_recurrent_product(const GsRecurrent* v) {
  int64_t n = gs_recurrent_gates(v) * v->H;
  return (GsGemm){.M = v->T * v->B, .N = n, .K = v->I, .batch = 1, .a = v->x,
                  .a_row = v->x_t == v->B * v->x_b ? v->x_b : v->x_t,
                  .a_col = 1, .b = v->w_packed ? v->w_packed : v->w, .b_row = 1, .b_col = v->I,
                  .b_packed = v->w_packed != 0,
                  .c_row = n};
}

// Floats of scratch for a pool of `threads`; the plain version's fit in it too.
GS_LOCAL int64_t gs_recurrent_f32_scratch(const GsRecurrent* v, int threads) {
  int64_t n = gs_recurrent_gates(v) * v->H;
  GsGemm g = gs_recurrent_product(v);
  return gs_round_up(v->T * v->B * n, 16) + 3 * gs_round_up(gs_max_i64(1, v->B) * v->H, 16) + 2 * gs_round_up(n, 16)
       + gs_round_up(v->H, 16) + (v->r_packed ? 0 : gs_round_up(gs_recurrent_r_packed(v), 16))
       + gs_gemm_f32_scratch(&g, threads) + n + 4 * v->H;
}

// Step `s` of `steps` of the sequences [b0, b1), all of that length.
GS_LOCAL void gs_recurrent_step(const GsRecurrentRun* r, int64_t b0, int64_t b1, int64_t s, int64_t steps,
                                GsPool* pool) {
  const GsRecurrent* v = r->v;
  int64_t H = v->H, G = gs_recurrent_gates(v), first = gs_recurrent_first(v), t = v->reverse ? steps - 1 - s : s;
  float* gates = r->gates + t * r->gates_t + b0 * r->gates_b;
  GsGemm g = {.M = b1 - b0, .N = first * H, .K = H, .batch = 1, .a = r->h + b0 * H, .a_row = H, .a_col = 1,
              .b = r->r_packed, .b_packed = 1, .c = gates, .c_row = r->gates_b, .accumulate = 1};
  gs_gemm_f32(&g, pool);
  float* hidden = 0;
  if (v->kind == GS_GRU) {
    hidden = r->hidden + b0 * H;
    for (int64_t b = 0; b < b1 - b0; b++)
      for (int64_t j = 0; j < H; j += GS_W) {
        int64_t lanes = gs_min_i64(GS_W, H - j);
        float* at = gates + b * r->gates_b + H + j;
        gs_vf reset = gs_clipped(v->clip, gs_load_some(at, lanes));
        reset = gs_activate(v->activation[0], v->alpha[0], v->beta[0], reset);
        gs_store_some(at, reset, lanes);
        if (!v->linear_before_reset)
          gs_store_some(hidden + b * H + j, reset * gs_load_some(r->h + (b0 + b) * H + j, lanes), lanes);
      }
    GsGemm last = {.M = b1 - b0, .N = H, .K = H, .batch = 1, .a_row = H, .a_col = 1, .b_packed = 1,
                   .b = r->r_packed + gs_gemm_f32_packed(H, first * H)};
    if (v->linear_before_reset) {
      last.a = r->h + b0 * H, last.c = hidden, last.c_row = H, last.bias_n = v->bias ? v->bias + G * H + 2 * H : 0;
    } else {
      last.a = hidden, last.c = gates + 2 * H, last.c_row = r->gates_b, last.accumulate = 1;
    }
    gs_gemm_f32(&last, pool);
    if (!v->linear_before_reset) hidden = 0;
  }
  for (int64_t b = b0; b < b1; b++)
    gs_recurrent_cell(v, gates + (b - b0) * r->gates_b, hidden ? hidden + (b - b0) * H : 0, r->h + b * H, r->c + b * H,
                      v->y ? v->y + t * v->y_t + b * v->y_b : 0);
}

GS_LOCAL void gs_recurrent_sequences(void* arg, int64_t begin, int64_t end, int thread) {
  const GsRecurrentRun* r = arg;
  const GsRecurrent* v = r->v;
  (void)thread;
  for (int64_t b = begin; b < end; b++) {
    int64_t steps = v->lengths ? v->lengths[b] : v->T;
    for (int64_t s = 0; s < steps; s++) gs_recurrent_step(r, b, b + 1, s, steps, 0);
    for (int64_t t = steps; t < v->T && v->y; t++)
      memset(v->y + t * v->y_t + b * v->y_b, 0, (size_t)v->H * sizeof(float));
  }
}

GS_LOCAL void gs_recurrent_f32(const GsRecurrent* v, GsPool* pool) {
  int64_t H = v->H, G = gs_recurrent_gates(v), n = G * H, T = v->T, B = v->B;
  if (B <= 0 || H <= 0) return;
  float* next = v->scratch;
#define GS_TAKE(count) (next += gs_round_up(count, 16), next - gs_round_up(count, 16))
  GsRecurrentRun r = {.v = v, .pool = pool, .gates = GS_TAKE(T * B * n)};
  r.h = GS_TAKE(B * H);
  r.c = GS_TAKE(B * H);
  r.hidden = GS_TAKE(B * H);
  float* bias = GS_TAKE(n);
  int uniform = 1;
  for (int64_t b = 0; b < B; b++) {
    uniform &= !v->lengths || v->lengths[b] == v->lengths[0];
    for (int64_t j = 0; j < H; j++) {
      r.h[b * H + j] = v->h0 ? v->h0[b * v->state + j] : 0;
      r.c[b * H + j] = v->c0 ? v->c0[b * v->state + j] : 0;
    }
  }
  // Both biases of a gate are added at once, but for that which a reset gate will scale.
  for (int64_t j = 0; j < n && v->bias; j++)
    bias[j] = v->bias[j] + (v->linear_before_reset && v->kind == GS_GRU && j >= 2 * H ? 0 : v->bias[n + j]);
  r.r_packed = v->r_packed;
  if (!r.r_packed) {
    float* packed = GS_TAKE(gs_recurrent_r_packed(v));
    gs_recurrent_pack_r(v, packed);
    r.r_packed = packed;
  }
  GsGemm g = gs_recurrent_product(v);
  g.c = r.gates;
  g.bias_n = v->bias ? bias : 0;
  g.scratch = next;
  gs_gemm_f32(&g, pool);
#undef GS_TAKE
  int steps_outside = v->x_t == B * v->x_b;
  r.gates_t = steps_outside ? B * n : n;
  r.gates_b = steps_outside ? n : T * n;
  if (uniform) {
    int64_t steps = v->lengths ? v->lengths[0] : T;
    for (int64_t s = 0; s < steps; s++) gs_recurrent_step(&r, 0, B, s, steps, pool);
    for (int64_t t = steps; t < T && v->y; t++)
      for (int64_t b = 0; b < B; b++) memset(v->y + t * v->y_t + b * v->y_b, 0, (size_t)H * sizeof(float));
  } else {
    gs_parallel_for(pool, B, gs_recurrent_sequences, &r);
  }
  for (int64_t b = 0; b < B; b++) {
    if (v->h) memcpy(v->h + b * v->state, r.h + b * H, (size_t)H * sizeof(float));
    if (v->c) memcpy(v->c + b * v->state, r.c + b * H, (size_t)H * sizeof(float));
  }
}
