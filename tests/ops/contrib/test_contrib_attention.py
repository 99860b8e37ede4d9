"""The attentions of com.microsoft answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(9)
B, S, N, H = 2, 4, 3, 8
D = N * H


def real(*shape: int) -> Any:
    return RNG.normal(0, 0.7, shape).astype(np.float32)


def mask(kind: str, keys: int) -> Any:
    ends = np.array([keys, keys - 2], np.int32)
    zeros_and_ones = (np.arange(keys) < ends[:, None]).astype(np.int32)
    return {"": None, "ends": ends, "ends starts": np.array([keys, keys - 1, 0, 1], np.int32), "keys": zeros_and_ones,
            "rows": np.maximum(RNG.integers(0, 2, (B, S, keys)), np.eye(S, keys)).astype(np.int32)}[kind]


@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("kind", ["", "ends", "ends starts", "keys", "rows"])
def test_attention(kind: str, unidirectional: int, past: int) -> None:
    case = ms("Attention", real(B, S, 10), real(10, 3 * D), real(3 * D), mask(kind, past + S),
              real(2, B, N, past, H) if past else None, num_heads=N, unidirectional=unidirectional, outputs=2)
    check(case, symbols={(0, 1): "s"} if kind in ("", "ends") else None)


@pytest.mark.parametrize("heads", [(1, 1), (B, N), (1, N)])
def test_attention_with_a_bias_of_the_scores(heads: Any) -> None:
    check(ms("Attention", real(B, S, 10), real(10, 3 * D), real(3 * D), None, None, real(*heads, S, S), num_heads=N,
             scale=0.3))


def test_attention_with_values_of_another_size() -> None:
    check(ms("Attention", real(B, S, 10), real(10, 2 * D + 2 * N), real(2 * D + 2 * N), mask("keys", S), num_heads=N,
             qkv_hidden_sizes=[D, D, 2 * N], mask_filter_value=-1000.0))


def test_a_query_whose_keys_are_all_masked_sees_them_alike() -> None:
    hidden = np.zeros((B, S), np.int32)
    check(ms("Attention", real(B, S, 10), real(10, 3 * D), real(3 * D), hidden, num_heads=N), atol=1e-3)


def test_what_only_gpus_do_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="do rotary"):
        ms("Attention", real(B, S, 10), real(10, 3 * D), num_heads=N, do_rotary=1).reference()


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="5 lengths"):
        ms("Attention", real(B, S, 10), real(10, 3 * D), None, np.zeros(5, np.int32), num_heads=N).infer()


@pytest.mark.parametrize("w_type", ["int8", "uint8"])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize(("kind", "unidirectional", "past"), [("", 0, 0), ("ends", 0, 0), ("keys", 1, 3), ("", 1, 0)])
def test_qattention(kind: str, unidirectional: int, past: int, by_column: bool, w_type: str) -> None:
    x = RNG.integers(0, 256, (B, S, 10)).astype(np.uint8)
    w = RNG.integers(-50 if w_type == "int8" else 70, 180 if w_type == "uint8" else 50, (10, 3 * D)).astype(w_type)
    size = (3 * D,) if by_column else ()
    case = ms("QAttention", x, w, real(3 * D), np.float32(0.01), RNG.uniform(0.005, 0.02, size).astype(np.float32),
              mask(kind, past + S), np.uint8(120), np.full(size, 0 if w_type == "int8" else 128, w_type),
              real(2, B, N, past, H) if past else None, num_heads=N, unidirectional=unidirectional, outputs=2)
    check(case, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["flat", "apart", "past", "cross"])
def test_multi_head_attention(form: str, bias: bool, unidirectional: int) -> None:
    if form == "cross" and unidirectional:
        pytest.skip("ONNX Runtime's CPU build does not hide keys of another sequence")
    length = 6 if form == "cross" else S
    query, key, value = real(B, S, D), real(B, length, D), real(B, length, D)
    past = (None, None)
    if form == "apart":
        key, value = real(B, N, S, H), real(B, N, S, H)
    elif form == "past":
        past = (real(B, N, 3, H), real(B, N, 3, H))
    case = ms("MultiHeadAttention", query, key, value, real(3 * D) if bias else None, None, None, *past, num_heads=N,
              unidirectional=unidirectional, outputs=3 if form in ("past", "flat") else 1)
    check(case)


@pytest.mark.parametrize("unidirectional", [0, 1])
def test_packed_inputs_are_the_same_as_others(unidirectional: int) -> None:
    # ONNX Runtime's CPU build takes none packed.
    q, k, v = (real(B, S, N, H) for _ in range(3))
    flat = ms("MultiHeadAttention", *(x.reshape(B, S, D) for x in (q, k, v)), num_heads=N,
              unidirectional=unidirectional)
    want = flat.onnxruntime()
    check(ms("MultiHeadAttention", np.stack([q, k, v], 3), num_heads=N, unidirectional=unidirectional), want)
    check(ms("MultiHeadAttention", q.reshape(B, S, D), np.stack([k, v], 3), num_heads=N,
             unidirectional=unidirectional), want)


@pytest.mark.parametrize("kind", ["ends", "keys", "rows"])
@pytest.mark.parametrize("heads", [None, (1, 1), (B, N)])
def test_multi_head_attention_with_masks(kind: str, heads: Any) -> None:
    check(ms("MultiHeadAttention", real(B, S, D), real(B, 6, D), real(B, 6, D), None, mask(kind, 6),
             None if heads is None else real(*heads, S, 6), num_heads=N, scale=0.25, mask_filter_value=-500.0))


def test_values_may_have_another_size() -> None:
    check(ms("MultiHeadAttention", real(B, S, D), real(B, 6, D), real(B, 6, 2 * N), num_heads=N),
          symbols={(0, 1): "s", (1, 1): "t", (2, 1): "t"})


def test_the_scores_come_out() -> None:
    check(ms("MultiHeadAttention", real(B, S, D), real(B, 6, D), real(B, 6, D), None, mask("keys", 6), num_heads=N,
             outputs=4), rtol=1e-4, atol=2e-3)


def test_a_query_alone_is_refused() -> None:
    with pytest.raises(ModelError, match="needs a key"):
        ms("MultiHeadAttention", real(B, S, D), num_heads=N).infer()
