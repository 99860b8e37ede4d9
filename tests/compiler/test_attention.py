"""Attention found by the compiler: in pieces, however they are written, and as the composite of ONNX's operators."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import BOOL, FLOAT, INT64
from gesher.compiler import toolchain
from gesher.compiler.segment import compile_exprs
from gesher.compiler.steps import KernelStep, NestStep
from gesher.ops.core.attention import attention_meaning
from gesher.ops.core.softmax import softmax_meaning
from gesher.primitives import Builder, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

B, S, T = sym("B"), sym("S"), sym("T")
R = sym("R")  # as large as S, which nothing tells
H, D = 3, 20
SIZES = ((1, 1, 1), (2, 5, 7), (1, 33, 130))


def holds(inputs, root, draw, sizes=SIZES, tolerance=2e-5):
    """Hold a root to its numpy meaning at several sizes; its steps. `draw(rng, b, s, t)` gives the feeds."""
    segment = compile_exprs(inputs, [root])
    rng = np.random.default_rng(0)
    for b, s, t in sizes:
        feeds = draw(rng, b, s, t)
        known = {B: b, S: s, T: t, R: s}
        want = evaluate([root], {e.params["name"]: x for e, x in zip(inputs, feeds)}, known)[0]
        got = segment.run(feeds, known)[0]
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    return segment.steps


def kernels(steps) -> list[str]:
    return [s.kernel.function for s in steps if isinstance(s, KernelStep)]


def f32(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


class Heads:
    """Queries, keys and values as projections leave them: heads side by side."""

    def __init__(self):
        p = self.p = Builder()
        self.inputs = [p.input("q", FLOAT, (B, S, H * D)), p.input("k", FLOAT, (B, T, H * D)),
                       p.input("v", FLOAT, (B, T, H * D))]
        self.q, self.k, self.v = (p.transpose(p.reshape(x, (x.shape[0], x.shape[1], H, D)), (0, 2, 1, 3))
                                  for x in self.inputs)

    def feeds(self, rng, b, s, t):
        return [f32(rng, b, s, H * D), f32(rng, b, t, H * D), f32(rng, b, t, H * D)]

    def softmax(self, x):
        return self.p.composite("softmax", softmax_meaning, x, axis=x.rank - 1)

    def scores(self):
        return self.p.contract(self.q, self.k, [3], [3], [0, 1], [0, 1])

    def values(self, x):
        return self.p.contract(self.softmax(x), self.v, [3], [2], [0, 1], [0, 1])


def causal(p):
    shape = (1, 1, S, T)
    return p.iota(shape, 3) <= p.iota(shape, 2) + (p.size(T) - p.size(S))


# What is done to scores (B,H,S,T): named, with the shape and type of a mask where one is fed.
CHANGES = {
    "nothing": (lambda p, x, m: x, None),
    "divided": (lambda p, x, m: x / 4.5, None),
    "scaled and masked": (lambda p, x, m: x * 0.2 + p.broadcast_to(m, x.shape), ("B", 1, 1, "T")),
    "bias of heads": (lambda p, x, m: p.broadcast_to(m, x.shape) + x, (1, H, "S", "T")),
    "where": (lambda p, x, m: p.select(p.broadcast_to(m, x.shape), x * 0.3, -3.4e38), ("B", 1, "S", "T", BOOL)),
    "where not": (lambda p, x, m: p.select(p.broadcast_to(m, x.shape), -1e4, x), ("B", 1, 1, "T", BOOL)),
    "a mask of numbers": (lambda p, x, m: x + p.broadcast_to((1.0 - p.cast(m, FLOAT)) * -1e4, x.shape),
                          ("B", 1, 1, "T", INT64)),
    "causal": (lambda p, x, m: p.select(p.broadcast_to(causal(p), x.shape), x / 8.0, float("-inf")), None),
    "capped twice": (lambda p, x, m: p.tanh(x / 5.0) * 5.0 + x * 0.01, None),
    "negative": (lambda p, x, m: -0.5 * x, None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_done_to_the_scores(name):
    change, mask = CHANGES[name]
    h = Heads()
    m = None
    if mask is not None:
        *shape, dtype = mask if isinstance(mask[-1], type(FLOAT)) else (*mask, FLOAT)
        symbols = {"B": B, "S": S, "T": T}
        m = h.p.input("m", dtype, [symbols.get(d, d) for d in shape])

    def draw(rng, b, s, t):
        if m is None:
            return h.feeds(rng, b, s, t)
        sizes = [{"B": b, "S": s, "T": t}.get(d, d) for d in shape]
        fed = f32(rng, *sizes) if dtype is FLOAT else (rng.random(sizes) < 0.7).astype(dtype.numpy)
        return [*h.feeds(rng, b, s, t), fed]

    y = h.p.transpose(h.values(change(h.p, h.scores(), m)), (0, 2, 1, 3))
    sizes = tuple((b, min(s, t), t) for b, s, t in SIZES) if name == "causal" else SIZES
    steps = holds([*h.inputs, *([] if m is None else [m])], y, draw, sizes)
    assert kernels(steps) == ["gs_attention_f32"]
    # Nothing of the size of the scores is computed beside it.
    assert not any(len(s.nest.body) and H in [d for b in s.writes for d in b.shape][:2] and name != "bias of heads"
                   for s in steps if isinstance(s, NestStep))


def test_scales_on_queries_and_keys():
    h = Heads()
    scores = h.p.contract(h.q * 0.5, h.k * 0.7, [3], [3], [0, 1], [0, 1])
    assert kernels(holds(h.inputs, h.values(scores), h.feeds)) == ["gs_attention_f32"]


def test_keys_that_were_transposed_before():
    h = Heads()
    scores = h.p.contract(h.q, h.p.transpose(h.k, (0, 1, 3, 2)), [3], [2], [0, 1], [0, 1])
    assert kernels(holds(h.inputs, h.values(scores), h.feeds)) == ["gs_attention_f32"]


def test_heads_merged_with_the_batch():
    p = Builder()
    q, k, v = (p.input(x, FLOAT, (B, n, D)) for x, n in (("q", S), ("k", T), ("v", T)))
    w = p.composite("softmax", softmax_meaning, p.contract(q, k, [2], [2], [0], [0]) / 4.0, axis=2)
    steps = holds([q, k, v], p.contract(w, v, [2], [1], [0], [0]),
                  lambda rng, b, s, t: [f32(rng, b, n, D) for n in (s, t, t)])
    assert kernels(steps) == ["gs_attention_f32"]


@pytest.mark.parametrize("turned", [False, True])
def test_heads_that_share_keys_by_repeating_them(turned):
    p = Builder()
    q, k, v = (p.input(x, FLOAT, (B, n, heads * D)) for x, n, heads in (("q", S, 6), ("k", T, 2), ("v", T, 2)))

    def apart(x, heads):
        return p.transpose(p.reshape(x, (x.shape[0], x.shape[1], heads, D)), (0, 2, 1, 3))

    def repeated(x):
        y = apart(x, 2)
        wide = p.broadcast_to(p.reshape(y, (B, 2, 1, *y.shape[2:])), (B, 2, 3, *y.shape[2:]))
        return p.reshape(wide, (B, 6, *y.shape[2:]))

    keys = repeated(k)
    if turned:
        scores = p.contract(apart(q, 6), p.transpose(keys, (0, 1, 3, 2)), [3], [2], [0, 1], [0, 1])
    else:
        scores = p.contract(apart(q, 6), keys, [3], [3], [0, 1], [0, 1])
    w = p.composite("softmax", softmax_meaning, scores * 0.3, axis=3)
    y = p.transpose(p.contract(w, repeated(v), [3], [2], [0, 1], [0, 1]), (0, 2, 1, 3))
    steps = holds([q, k, v], y, lambda rng, b, s, t: [f32(rng, b, n, h * D) for n, h in ((s, 6), (t, 2), (t, 2))])
    # Nothing is repeated: the kernel reads the keys where they lie.
    assert len(steps) == 1 and kernels(steps) == ["gs_attention_f32"]


def test_a_row_of_minus_infinity_is_nan_as_softmax_says():
    h = Heads()
    m = h.p.input("m", FLOAT, (B, 1, S, T))

    def draw(rng, b, s, t):
        mask = np.zeros((b, 1, s, t), np.float32)
        mask[:, :, s // 2] = -np.inf
        return [*h.feeds(rng, b, s, t), mask]

    scores = h.scores()
    y = h.values(scores + h.p.broadcast_to(m, scores.shape))
    assert kernels(holds([*h.inputs, m], y, draw)) == ["gs_attention_f32"]


def test_weights_that_are_asked_for_are_computed_besides():
    h = Heads()
    w = h.softmax(h.scores() / 4.0)
    y = h.p.contract(w, h.v, [3], [2], [0, 1], [0, 1])
    segment = compile_exprs(h.inputs, [w, y])
    feeds = h.feeds(np.random.default_rng(0), 2, 5, 7)
    known = {B: 2, S: 5, T: 7}
    for got, want in zip(segment.run(feeds, known), evaluate([w, y], dict(zip("qkv", feeds)), known)):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


PLAIN = {"scale": None, "softcap": 0.0, "causal": False, "past": 0, "left": -1, "right": -1, "precision": None,
         "shows": -1}


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize(("mask", "options"), [
    (None, {}), (None, {"causal": True}), (None, {"causal": True, "past": 4}), (None, {"left": 2, "right": 1}),
    (None, {"softcap": 3.0, "scale": 0.4}), ((B, 1, S, T), {}), ((S, T, BOOL), {"causal": True}),
    ((B, 3, 1, 4, BOOL), {}), ((1, 1, S, 4), {}), ((1, 1, R, T, BOOL), {}), ((R, T), {}),
    ((B, 1, S, T), {"blind_is_nan": True}),
    ((B, 1, S, T, BOOL), {"blind_is_nan": True, "scale": 0.3}), ("lengths", {}), ("lengths", {"causal": True}),
], ids=str)
def test_the_composite(each, mask, options):
    p = Builder()
    q, k, v = (p.input("q", FLOAT, (B, 3, S, D)), p.input("k", FLOAT, (B, 3 // each, T, D)),
               p.input("v", FLOAT, (B, 3 // each, T, 9)))
    inputs, m, lengths = [q, k, v], None, None
    if mask == "lengths":
        lengths = p.input("lengths", INT64, (B,))
        inputs.append(lengths)
    elif mask is not None:
        *shape, dtype = mask if mask[-1] is BOOL else (*mask, FLOAT)
        m = p.input("m", dtype, shape)
        inputs.append(m)

    def draw(rng, b, s, t):
        fed = [f32(rng, b, 3, s, D), f32(rng, b, k.shape[1], t, D), f32(rng, b, v.shape[1], t, 9)]
        if lengths is not None:
            return [*fed, rng.integers(0, t + 1, b).astype(lengths.dtype.numpy)]
        if m is None:
            return fed
        sizes = [{B: b, S: s, T: t, R: s}.get(d, d) for d in shape]
        if dtype is BOOL:
            return [*fed, rng.random(sizes) < 0.5]
        numbers = f32(rng, *sizes)
        numbers[rng.random(sizes) < 0.4] = -np.inf
        return [*fed, numbers]

    y = p.composite("attention", attention_meaning, q, k, v, m, lengths, **{**PLAIN, **options})
    sizes = [(b, s, max(t, 4)) for b, s, t in SIZES]
    assert kernels(holds(inputs, p.transpose(y, (0, 2, 1, 3)), draw, sizes)) == ["gs_attention_f32"]
