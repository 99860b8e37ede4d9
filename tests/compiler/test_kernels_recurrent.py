"""RNN, GRU and LSTM: sizes around a vector's, both layouts and directions, lengths, every activation, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded, scratch

from gesher.compiler.kernels import meanings, packing

KINDS = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
SOURCE = """
#include "gs_recurrent_f32.h"
#define ARGS GsPool* pool, const int64_t* how, const float* numbers, const float* x, const float* w, const float* r, \\
  const float* bias, const float* peephole, const int32_t* lengths, const float* h0, const float* c0, float* y, \\
  float* h, float* c, const float* w_packed, const float* r_packed, float* scratch
static GsRecurrent fill(ARGS) {
  int64_t T = how[4], B = how[5], I = how[6], H = how[7], by_batch = how[8], ways = how[12];
  (void)pool;
  GsRecurrent v = {.kind = (int)how[0], .ways = (int)ways, .linear_before_reset = (int)how[2],
    .input_forget = (int)how[3], .T = T, .B = B, .I = I, .H = H, .x = x, .x_t = by_batch ? I : B * I,
    .x_b = by_batch ? T * I : I, .w = w, .r = r, .bias = bias, .peephole = peephole, .lengths = lengths, .h0 = h0,
    .c0 = c0, .y = y, .y_t = by_batch ? ways * H : ways * B * H, .y_way = by_batch ? H : B * H,
    .y_b = by_batch ? T * ways * H : H, .h = h, .c = c, .clip = numbers[0],
    .w_packed = w_packed, .r_packed = r_packed, .scratch = scratch};
  for (int way = 0; way < ways; way++) {
    v.reverse[way] = way ? !how[1] : how[1];
    for (int i = 0; i < 3; i++) {
      v.activation[way][i] = (int)how[9 + i];
      v.alpha[way][i] = numbers[1 + i];
      v.beta[way][i] = numbers[4 + i];
    }
  }
  return v;
}
#define FILL fill(pool, how, numbers, x, w, r, bias, peephole, lengths, h0, c0, y, h, c, w_packed, r_packed, scratch)
GS_EXPORT int64_t need(ARGS) { GsRecurrent v = FILL; return gs_recurrent_f32_scratch(&v, gs_pool_size(pool)); }
GS_EXPORT void plain(ARGS) { GsRecurrent v = FILL; gs_recurrent_f32_plain(&v, pool); }
GS_EXPORT void fast(ARGS) { GsRecurrent v = FILL; gs_recurrent_f32(&v, pool); }
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def check(isa, name, kind, seed, *, T=4, B=3, I=5, H=7, bias=True, start=True, peephole=False, lengths=None,
          reverse=False, clip=0.0, linear_before_reset=False, input_forget=False, activations=None, by_batch=False,
          packed=False, threads=1, ways=1):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    gates = KINDS[kind]
    x, w, r = draw(T, B, I), draw(ways, gates * H, I) / 2, draw(ways, gates * H, H) / H**0.5
    b = draw(ways, 2 * gates * H) if bias else None
    h0, c0 = (draw(ways, B, H) if start else None for _ in range(2))
    p = draw(ways, 3 * H) if peephole else None
    length = None if lengths is None else np.array(lengths, np.int32)
    acts = activations or [(a, 0.0, 0.0) for a in USUAL[kind]]

    def of(a, way):
        return None if a is None else a[way]

    each = [meanings.recurrent(kind, x, w[d], r[d], of(b, d), h0=of(h0, d), c0=of(c0, d), peephole=of(p, d),
                               lengths=length, reverse=reverse != bool(d), clip=clip,
                               linear_before_reset=linear_before_reset, input_forget=input_forget, activations=acts)
            for d in range(ways)]
    expected = [np.stack([e[0] for e in each], 1), *(np.stack([e[i] for e in each]) for i in (1, 2))]
    padded = list(acts) + [acts[-1]] * (3 - len(acts))
    names = list(meanings.ACTIVATIONS)
    how = np.array([list(KINDS).index(kind), reverse, linear_before_reset, input_forget, T, B, I, H, by_batch,
                    *[names.index(a[0]) for a in padded], ways], np.int64)
    numbers = np.float32([clip, *[a[1] for a in padded], *[a[2] for a in padded]])
    y, h, c = (guarded(np.full(s, np.nan, np.float32)) for s in ((T, ways, B, H), (ways, B, H), (ways, B, H)))
    if by_batch:
        y = guarded(np.full((B, T, ways, H), np.nan, np.float32))
        x = x.transpose(1, 0, 2)
    forms = [guarded(packing.pack_recurrent(kind, linear_before_reset, m, isa.width)) if packed else None
             for m in (w, r)]
    # What is packed is not read in its other form.
    weights = [None if packed and name != "plain" else m for m in (w, r)]
    arguments = [how, numbers, *map(guarded, (x, *weights, b, p, length, h0, c0)), y, h, c]
    floats = call(SOURCE, isa, "need", *arguments, *forms, None, threads=threads)
    call(SOURCE, isa, name, *arguments, *forms, scratch(floats), threads=threads)
    if by_batch:
        y = y.transpose(1, 2, 0, 3)
    # Rounding of a step goes into the next one; the states stay below one, so a few units of 2^-23 a step remain.
    for actual, wanted in ((y, expected[0]), (h, expected[1]), *([(c, expected[2])] if kind == "LSTM" else [])):
        assert np.allclose(actual, wanted, rtol=2e-5, atol=2e-6 * (T + 2)), (np.abs(actual - wanted).max(), kind)


@isas
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_all_options(isa, kind, name):
    plain = {"T": 4, "B": 3, "I": 5, "H": 7}
    check(isa, name, kind, 1, **plain)
    check(isa, name, kind, 2, **plain, bias=False, start=False)
    check(isa, name, kind, 3, **plain, reverse=True)
    check(isa, name, kind, 4, **plain, by_batch=True, clip=0.4)
    check(isa, name, kind, 5, **plain, lengths=[4, 0, 2])
    check(isa, name, kind, 6, **plain, lengths=[1, 3, 4], reverse=True, by_batch=True)
    check(isa, name, kind, 7, **plain, lengths=[2, 2, 2], reverse=True)
    check(isa, name, kind, 8, **plain, peephole=kind == "LSTM", clip=0.5, reverse=True)
    check(isa, name, kind, 9, **plain, input_forget=kind == "LSTM", peephole=kind == "LSTM")
    check(isa, name, kind, 10, **plain, linear_before_reset=kind == "GRU", clip=0.6)
    check(isa, name, kind, 12, **plain, ways=2)
    check(isa, name, kind, 13, **plain, ways=2, by_batch=True, lengths=[4, 0, 2], peephole=kind == "LSTM")
    check(isa, name, kind, 14, **plain, ways=2, lengths=[3, 9, 4], linear_before_reset=True)
    check(isa, name, kind, 11, **plain, linear_before_reset=kind == "GRU", lengths=[4, 3, 1], bias=False)


@isas
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_around_vectors(isa, kind):
    for seed, (T, B, I, H) in enumerate([(1, 1, 1, 1), (3, 1, 16, 16), (2, 2, 17, 33), (5, 9, 3, 48), (2, 1, 40, 100),
                                         (1, 20, 8, 31), (6, 1, 200, 15), (110, 1, 3, 20), (60, 2, 3, 20)]):
        for packed in (False, True):
            for linear in (False, True) if kind == "GRU" else (False,):
                check(isa, "fast", kind, seed, T=T, B=B, I=I, H=H, packed=packed, linear_before_reset=linear)


@isas
@pytest.mark.parametrize("activation", meanings.ACTIVATIONS)
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_every_activation(isa, name, activation):
    # Bounded gates keep the states of unbounded activations from growing.
    check(isa, name, "RNN", 1, activations=[(activation, 0.3, 0.2)], T=2)
    check(isa, name, "GRU", 2, activations=[("Sigmoid", 0.0, 0.0), (activation, 0.3, 0.2)], T=2)
    check(isa, name, "LSTM", 3, T=2, activations=[("HardSigmoid", 0.2, 0.5), (activation, 0.3, 0.2),
                                                  (activation, 0.3, 0.2)])


@isas
@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_the_work(isa, kind):
    check(isa, "fast", kind, 1, T=6, B=8, I=70, H=130, threads=3, packed=True)
    check(isa, "fast", kind, 2, T=6, B=8, I=70, H=130, threads=3, lengths=[6, 5, 4, 3, 2, 1, 0, 6])
    check(isa, "fast", kind, 3, T=3, B=1, I=300, H=500, threads=2)
    check(isa, "fast", kind, 4, T=3, B=2, I=60, H=200, threads=2, ways=2, packed=True)
    check(isa, "fast", kind, 5, T=3, B=2, I=300, H=200, threads=4, ways=2, linear_before_reset=True)


@isas
def test_no_steps_leave_the_first_state(isa):
    for kind in KINDS:
        for name in ("plain", "fast"):
            check(isa, name, kind, 1, T=0)
