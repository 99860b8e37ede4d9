"""SoftmaxAttention is what its pieces are, in ONNX Runtime's hands, down to the NaN of rows that see nothing."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.single_node import Case, check

R = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


def by_hand(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, scale: float) -> np.ndarray:
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = np.einsum("bhsd,bhtd->bhst", q.astype(np.float64), k) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    with np.errstate(invalid="ignore"):
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("bhst,bhte->bhse", e / e.sum(-1, keepdims=True), v).astype(np.float32)


Q, K, V = floats(2, 4, 5, 8), floats(2, 4, 7, 8), floats(2, 4, 7, 6)
BLIND = np.where(R.random((2, 1, 5, 7)) < 0.5, np.float32(-np.inf), np.float32(0))
BLIND[0, 0, 2] = -np.inf


@pytest.mark.parametrize("mask", [None, floats(5, 7), floats(2, 1, 1, 7), BLIND, np.isfinite(BLIND)],
                         ids=["none", "rows", "keys", "blind row", "blind row of bools"])
def test_it_is_what_its_pieces_are(mask: np.ndarray | None) -> None:
    case = Case("SoftmaxAttention", 1, [Q, K, V, mask], {"scale": 0.3}, domain="gesher")
    expected = by_hand(Q, K, V, mask, 0.3)
    assert np.isnan(expected).any() == (mask is BLIND or (mask is not None and mask.dtype == bool))
    check(case, [expected], atol=1e-5)


def test_groups_of_queries_share_keys() -> None:
    k, v = K[:, :2], V[:, :2]
    check(Case("SoftmaxAttention", 1, [Q, k, v], {"scale": 0.3}, domain="gesher"), [by_hand(Q, k, v, None, 0.3)],
          atol=1e-5)


def test_causal_queries_see_no_later_keys() -> None:
    causal = np.tri(5, 7, dtype=bool)
    check(Case("SoftmaxAttention", 1, [Q, K, V], {"scale": 0.3, "is_causal": 1}, domain="gesher"),
          [by_hand(Q, K, V, causal, 0.3)], atol=1e-5)
