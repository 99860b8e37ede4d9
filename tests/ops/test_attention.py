"""Attention and RotaryEmbedding: onnx's cases, ONNX Runtime on random attributes, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.symbolic import sym

FLOAT, DOUBLE = 1, 11


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("Attention", "RotaryEmbedding")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    # onnx's own runner allows two steps of bfloat16.
    coarse = any(w is not None and w.dtype.name == "bfloat16" for w in want)
    check(case, want, rtol=max(rtol, 2**-6) if coarse else rtol, atol=max(atol, 1e-6))


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(48))
def test_attention_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [23, 24][seed % 2]
    groups, each = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    batch, queries, keys, size, width = 2, *(int(d) for d in rng.integers(1, 6, 4))
    heads, past = groups * each, int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
    attributes: dict = {"is_causal": int(rng.integers(0, 2))}
    if rng.random() < 0.5:
        q, k, v = reals(rng, batch, heads, queries, size), reals(rng, batch, groups, keys, size), reals(
            rng, batch, groups, keys, width)
        names = {(0, 0): "n", (1, 0): "n", (2, 0): "n", (0, 2): "s", (1, 2): "t", (2, 2): "t"}
    else:
        q, k, v = reals(rng, batch, queries, heads * size), reals(rng, batch, keys, groups * size), reals(
            rng, batch, keys, groups * width)
        attributes |= {"q_num_heads": heads, "kv_num_heads": groups}
        names = {(0, 0): "n", (1, 0): "n", (2, 0): "n", (0, 1): "s", (1, 1): "t", (2, 1): "t"}
    inputs: list = [q, k, v, None]
    outputs: list = [True]
    if rng.random() < 0.5:
        shape = [(queries, past + keys), (batch, 1, queries, past + keys), (batch, heads, queries, past + keys)][
            int(rng.integers(3))]
        # A first key that all may see: ONNX Runtime has another idea of queries that see none.
        inputs[3] = rng.random(shape) < 0.6 if rng.random() < 0.5 else reals(rng, *shape)
        if inputs[3].dtype == bool:
            inputs[3][..., 0] = True
        names = {(0, 0): "n", (1, 0): "n", (2, 0): "n"}
        if len(shape) > 2:
            names[3, 0] = "n"
    if past:
        # A single query behind a cache sees all keys in ONNX Runtime, as if it came behind them all.
        attributes["is_causal"] *= queries > 1
        inputs += [reals(rng, batch, groups, past, size), reals(rng, batch, groups, past, width)]
        outputs = [True, True, True]
        names |= {(4, 0): "n", (5, 0): "n"}
    if rng.random() < 0.4:
        attributes["scale"] = 0.3
    if rng.random() < 0.4:
        attributes["softcap"] = 1.5
    if rng.random() < 0.4:
        outputs = [*outputs, *[True] * (4 - len(outputs))] if past else [True, False, False, True]
        # ONNX Runtime counts these modes differently beside the softmax and the mask.
        attributes["qk_matmul_output_mode"] = int(rng.choice([0, 3]))
        attributes.pop("softcap", None)
    check(Case("Attention", version, inputs, attributes, outputs), symbols=names)


def test_each_mode_shows_the_scores_of_its_stage() -> None:
    rng = np.random.default_rng(1)
    q, k, v, mask = reals(rng, 1, 1, 2, 4), reals(rng, 1, 1, 3, 4), reals(rng, 1, 1, 3, 4), reals(rng, 2, 3)
    raw = q @ k.swapaxes(2, 3) / np.float32(2)
    capped = np.tanh(raw / 2) * 2
    e = np.exp(capped + mask)
    for mode, want in enumerate((raw, capped, capped + mask, e / e.sum(-1, keepdims=True))):
        case = Case("Attention", 24, [q, k, v, mask], {"softcap": 2.0, "qk_matmul_output_mode": mode},
                    [True, False, False, True])
        check(case, [e / e.sum(-1, keepdims=True) @ v, None, None, want])


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    rng = np.random.default_rng(2)
    q, k, v = reals(rng, 1, 2, 3, 4), reals(rng, 1, 2, 3, 4), reals(rng, 1, 2, 3, 4)
    hidden = np.array([[True, False, True], [False, False, False], [True, True, True]])
    for mask in (hidden, np.where(hidden, np.float32(0), np.float32(-np.inf))):
        case = Case("Attention", 24, [q, k, v, mask], {"qk_matmul_output_mode": 3}, [True, False, False, True])
        y, _, _, weights = case.reference()
        assert np.isfinite(y).all()
        assert not y[:, :, 1].any()
        assert not weights[:, :, 1].any()
        check(case, "nobody")


def test_a_mask_may_end_before_the_keys_do() -> None:
    rng = np.random.default_rng(3)
    q, k, v = reals(rng, 1, 1, 2, 4), reals(rng, 1, 1, 5, 4), reals(rng, 1, 1, 5, 4)
    for mask in (reals(rng, 2, 3), rng.random((2, 3)) < 2):
        want = Case("Attention", 24, [q, k[:, :, :3], v[:, :, :3], mask]).onnxruntime()
        check(Case("Attention", 24, [q, k, v, mask]), want)


def test_windows_hold_the_keys_around_a_query() -> None:
    rng = np.random.default_rng(4)
    q, k, v = reals(rng, 1, 1, 4, 4), reals(rng, 1, 1, 2, 4), reals(rng, 1, 1, 2, 4)
    past = [reals(rng, 1, 1, 3, 4), reals(rng, 1, 1, 3, 4)]
    place, key = np.arange(4)[:, None] + 3, np.arange(5)
    seen = (key >= place - 2) & (key <= place + 1)
    want = Case("Attention", 24, [q, k, v, seen, *past], {}, 3).reference()
    check(Case("Attention", 25, [q, k, v, None, *past], {"left_window_size": 2, "right_window_size": 1}, 3), want)


def test_a_cache_outside_tells_how_many_keys_count_in_each_sample() -> None:
    rng = np.random.default_rng(5)
    q, k, v = reals(rng, 2, 1, 2, 4), reals(rng, 2, 1, 6, 4), reals(rng, 2, 1, 6, 4)
    case = Case("Attention", 24, [q, k, v, None, None, None, np.array([3, 5])], {"is_causal": 1})
    want = np.concatenate([Case("Attention", 24, [q[i:i + 1], k[i:i + 1, :, n - 2:n], v[i:i + 1, :, n - 2:n], None,
                                                  k[i:i + 1, :, :n - 2], v[i:i + 1, :, :n - 2]],
                                {"is_causal": 1}, 3).onnxruntime()[0] for i, n in enumerate((3, 5))])
    check(case, [want], symbols={(0, 0): "n", (1, 0): "n", (2, 0): "n", (6, 0): "n", (1, 2): "t", (2, 2): "t"})


@pytest.mark.parametrize("precision", [FLOAT, DOUBLE, 10, 16])
def test_the_softmax_has_a_precision_of_its_own(precision: int) -> None:
    rng = np.random.default_rng(6)
    inputs = [reals(rng, 1, 2, 3, 4).astype(np.float16) for _ in range(3)]
    case = Case("Attention", 24, inputs, {"softmax_precision": precision})
    exact = Case("Attention", 24, [x.astype(np.float64) for x in inputs]).reference()[0]
    step = {FLOAT: 2**-9, DOUBLE: 2**-9, 10: 2**-8, 16: 2**-6}[precision]
    np.testing.assert_allclose(case.reference()[0].astype(np.float64), exact, step, step)
    assert case.reference()[0].dtype == np.float16
    check(case, "nobody", rtol=step, atol=step)


def test_values_of_another_type_keep_it_in_the_cache() -> None:
    rng = np.random.default_rng(7)
    q, k = (reals(rng, 1, 2, 3, 4).astype(np.float16) for _ in range(2))
    case = Case("Attention", 24, [q, k, reals(rng, 1, 2, 3, 5)], {}, 3)
    assert [o.dtype.name for o in case.reference()] == ["float16", "float16", "float32"]
    check(case, "nobody", rtol=2**-9, atol=2**-10)


def test_symbolic_lengths_of_cache_and_keys_add_up() -> None:
    q, k, past = (np.zeros((2, 3, length, 8), np.float32) for length in (4, 6, 5))
    facts, known = Case("Attention", 23, [q, k, k, None, past, past], {}, 4).infer(
        {(0, 0): "n", (0, 2): "s", (1, 2): "t", (4, 2): "p", (5, 2): "p"})
    n, s, t, p = (known.resolve(sym(x)) for x in "nstp")
    assert [tuple(known.resolve(d) for d in f.shape) for f in facts] == [
        (n, 3, s, 8), (n, 3, t + p, 8), (n, 3, t + p, 8), (n, 3, s, t + p)]
    assert t == 6  # the values tell it


@pytest.mark.parametrize(("shapes", "attributes", "what"), [
    ([(2, 4, 24), (2, 6, 24), (2, 6, 24)], {}, "q_num_heads must be written"),
    ([(2, 4, 24), (2, 6, 24), (2, 6, 24)], {"q_num_heads": 5, "kv_num_heads": 3}, "24 features of Q do not divide"),
    ([(2, 3, 4, 8), (2, 2, 6, 8), (2, 2, 6, 8)], {}, "3 heads of queries do not share 2"),
    ([(2, 3, 4, 8), (2, 3, 6, 9), (2, 3, 6, 8)], {}, "the head sizes of Q and K"),
    ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 5, 8)], {}, "the lengths of K and V"),
    ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8), (5, 6)], {}, "attn_mask (5,6)"),
    ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8), None, (2, 3, 2, 8)], {}, "come together"),
])
def test_shapes_that_do_not_fit_are_refused(shapes: list, attributes: dict, what: str) -> None:
    with pytest.raises(ModelError) as refused:
        Case("Attention", 23, [None if s is None else np.zeros(s, np.float32) for s in shapes], attributes).infer()
    assert what in refused.value.what


@pytest.mark.parametrize("seed", range(16))
def test_rotary_embedding_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, length, heads, size = 2, 3, int(rng.integers(1, 4)), 2 * int(rng.integers(2, 5))
    attributes: dict = {"interleaved": int(rng.integers(0, 2))}
    if rng.random() < 0.5:
        x = reals(rng, batch, heads, length, size)
        names = {(0, 0): "n", (0, 1): "h"}
    else:
        x = reals(rng, batch, length, heads * size)
        attributes["num_heads"] = heads
        names = {(0, 0): "n"}
    half = size // 2
    # ONNX Runtime turns a part only where heads are side by side or apart as it likes; whole heads everywhere.
    if rng.random() < 0.3 and size > 4 and x.ndim == 4:
        half = size // 4
        attributes |= {"rotary_embedding_dim": 2 * half, "num_heads": heads}
    if rng.random() < 0.6:
        inputs = [x, reals(rng, 9, half), reals(rng, 9, half), rng.integers(0, 9, (batch, length))]
        names[3, 0] = "n"
    else:
        inputs = [x, reals(rng, batch, length, half), reals(rng, batch, length, half)]
        names |= {(1, 0): "n", (2, 0): "n"}
    check(Case("RotaryEmbedding", 23, inputs, attributes), symbols=names)


def test_rotary_embedding_in_narrow_floats() -> None:
    rng = np.random.default_rng(9)
    inputs = [reals(rng, 1, 2, 3, 8).astype(np.float16), *(reals(rng, 1, 3, 4).astype(np.float16) for _ in range(2))]
    want = Case("RotaryEmbedding", 23, [x.astype(np.float32) for x in inputs]).reference()[0].astype(np.float16)
    check(Case("RotaryEmbedding", 23, inputs), [want], rtol=2**-8, atol=2**-9, lower_rtol=0, lower_atol=0)


@pytest.mark.parametrize(("shapes", "attributes", "what"), [
    ([(2, 3, 32), (9, 4), (9, 4), (2, 3)], {}, "num_heads must be written"),
    ([(2, 4, 3, 8), (9, 3), (9, 4), (2, 3)], {}, "the angles of cos_cache"),
    ([(2, 4, 3, 8), (9, 4), (9, 4)], {}, "cos_cache has 3 axes without position_ids"),
    ([(2, 4, 3, 8), (9, 4), (9, 4), (2, 4)], {}, "the length of X and of position_ids"),
])
def test_caches_that_do_not_fit_are_refused(shapes: list, attributes: dict, what: str) -> None:
    inputs = [np.zeros(s, np.int64 if i == 3 else np.float32) for i, s in enumerate(shapes)]
    with pytest.raises(ModelError) as refused:
        Case("RotaryEmbedding", 23, inputs, attributes).infer()
    assert what in refused.value.what
