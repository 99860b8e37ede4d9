"""LinearAttention and CausalConvWithState: onnx's cases, the formulas by hand, and what a state promises."""

import ml_dtypes
import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.symbolic import sym


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("LinearAttention", "CausalConvWithState")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    coarse = any(w is not None and w.dtype.name == "bfloat16" for w in want)
    names = {(i, 0): "n" for i, x in enumerate(case.inputs) if x is not None and x.ndim > 1}
    if case.op == "CausalConvWithState":
        names = {(i, 0): "n" for i in (0, 3) if i < len(case.inputs) and case.inputs[i] is not None}
    check(case, want, rtol=max(rtol, 2**-6) if coarse else rtol, atol=max(atol, 1e-6), symbols=names)


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def drawn(rng: np.random.Generator, rule: str, length: int, *, heads: int = 4, groups: int = 2, size: int = 3,
          width: int = 5, wide_decay: bool = False, state: bool = True) -> tuple[list, dict]:
    inputs = [reals(rng, 2, length, heads * size), reals(rng, 2, length, groups * size),
              reals(rng, 2, length, groups * width), reals(rng, 2, groups, size, width) if state else None,
              -np.abs(reals(rng, 2, length, groups * size if wide_decay else groups)) if "gated" in rule else None,
              rng.random((2, length, groups)).astype(np.float32) if "delta" in rule else None]
    return inputs, {"update_rule": rule, "q_num_heads": heads, "kv_num_heads": groups}


def by_formula(inputs: list, heads: int, groups: int, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """The recurrences of the standard, one head and one token at a time, in double precision."""
    q, k, v, state, decay, beta = (None if x is None else x.astype(np.float64) for x in inputs)
    batch, length, size, width = *q.shape[:2], q.shape[2] // heads, v.shape[2] // groups
    state = np.zeros((batch, groups, size, width)) if state is None else state.copy()
    y = np.zeros((batch, length, heads * width))
    for b, t, h in np.ndindex(batch, length, groups):
        kt, vt = k[b, t, h * size:(h + 1) * size], v[b, t, h * width:(h + 1) * width]
        if decay is not None:
            row = decay.shape[2] // groups
            state[b, h] *= np.exp(decay[b, t, h * row:(h + 1) * row])[:, None]
        if beta is not None:
            vt = beta[b, t, h if beta.shape[2] > 1 else 0] * (vt - state[b, h].T @ kt)
        state[b, h] += np.outer(kt, vt)
        for each in range(heads // groups):
            head = h * (heads // groups) + each
            y[b, t, head * width:(head + 1) * width] = state[b, h].T @ q[b, t, head * size:(head + 1) * size]
    return y / np.sqrt(size), state


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("wide_decay", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_linear_attention_is_its_recurrence(rule: str, wide_decay: bool, state: bool) -> None:
    inputs, attributes = drawn(np.random.default_rng(0), rule, 4, wide_decay=wide_decay, state=state)
    y, last = by_formula(inputs, 4, 2, rule)
    names = {(i, 0): "n" for i, x in enumerate(inputs) if x is not None}
    names |= {(i, 1): "t" for i, x in enumerate(inputs) if x is not None and i != 3}
    check(Case("LinearAttention", 27, inputs, attributes, 2), [y.astype(np.float32), last.astype(np.float32)],
          symbols=names)


def test_a_sequence_cut_in_two_gives_the_same_through_its_state() -> None:
    inputs, attributes = drawn(np.random.default_rng(1), "gated_delta", 6)
    whole, last = Case("LinearAttention", 27, inputs, attributes, 2).reference()
    head = [x if x is None or x.ndim == 4 else x[:, :2] for x in inputs]
    first, state = Case("LinearAttention", 27, head, attributes, 2).reference()
    tail = [state if i == 3 else x[:, 2:] for i, x in enumerate(inputs)]
    rest, end = Case("LinearAttention", 27, tail, attributes, 2).reference()
    np.testing.assert_allclose(np.concatenate([first, rest], 1), whole, 1e-5, 1e-6)
    np.testing.assert_allclose(end, last, 1e-5, 1e-6)


def test_the_state_keeps_its_own_type_and_a_scale_holds() -> None:
    inputs, attributes = drawn(np.random.default_rng(2), "delta", 3)
    inputs = [x if x is None or i == 3 else x.astype(ml_dtypes.bfloat16) for i, x in enumerate(inputs)]
    case = Case("LinearAttention", 27, inputs, {**attributes, "scale": 2.0}, 2)
    y, state = case.reference()
    assert (y.dtype.name, state.dtype.name) == ("bfloat16", "float32")
    half = Case("LinearAttention", 27, inputs, {**attributes, "scale": 1.0}, 2).reference()[0]
    np.testing.assert_allclose(y.astype(np.float32), 2 * half.astype(np.float32), 2**-7)
    check(case, "nobody", rtol=2**-6, atol=2**-7)


@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("length", [1, 2, 6])
def test_causal_conv_is_the_three_operators_it_replaces(length: int, activation: str) -> None:
    rng = np.random.default_rng(length)
    x, w, b, past = reals(rng, 2, 3, length), reals(rng, 3, 1, 4), reals(rng, 3), reals(rng, 2, 3, 3)
    joined = np.concatenate([past, x], 2)
    want = Case("Conv", 22, [joined, w, b], {"group": 3}).onnxruntime()[0]
    want = want if activation == "none" else want / (1 + np.exp(-want))
    check(Case("CausalConvWithState", 27, [x, w, b, past], {"activation": activation}, 2), [want, joined[:, :, -3:]],
          symbols={(0, 0): "n", (3, 0): "n", (0, 2): "t"})
    check(Case("CausalConvWithState", 27, [x, w, None, None], {"activation": activation}, 2),
          Case("CausalConvWithState", 27, [x, w, None, np.zeros_like(past)], {"activation": activation}, 2).reference())


def test_a_kernel_of_one_keeps_nothing() -> None:
    x, w = np.ones((1, 2, 3), np.float32), np.full((2, 1, 1), 3, np.float32)
    check(Case("CausalConvWithState", 27, [x, w], {}, 2), [3 * x, np.zeros((1, 2, 0), np.float32)])


def test_symbolic_sizes_meet() -> None:
    inputs, attributes = drawn(np.random.default_rng(3), "linear", 4)
    facts, known = Case("LinearAttention", 27, inputs, attributes, 2).infer({(0, 0): "n", (0, 1): "t"})
    assert [tuple(known.resolve(d) for d in f.shape) for f in facts] == [(2, 4, 20), (2, 2, 3, 5)]
    assert known.resolve(sym("t")) == 4


@pytest.mark.parametrize(("rule", "change", "what"), [
    ("gated", {4: None}, "needs the input decay"), ("linear", {5: (2, 3, 2)}, "has no use for the input beta"),
    ("delta", {1: (2, 3, 7)}, "7 features of the key do not divide"),
    ("linear", {3: (2, 2, 4, 5)}, "axis 2 of past_state"),
    ("other", {}, "update_rule cannot be 'other'"), ("linear", {0: (2, 4, 12)}, "the lengths of the query"),
])
def test_shapes_that_do_not_fit_are_refused(rule: str, change: dict, what: str) -> None:
    inputs, attributes = drawn(np.random.default_rng(4), rule, 3)
    for i, shape in change.items():
        inputs[i] = None if shape is None else np.zeros(shape, np.float32)
    with pytest.raises(ModelError, match=what):
        Case("LinearAttention", 27, inputs, attributes, 2).infer()
