"""GatedDeltaNet answers as ONNX Runtime's does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import MsCase, ms
from tests.ops.single_node import check, close

from gesher.base.errors import ModelError

RNG = np.random.default_rng(34)
B, L, G, H, K, V = 2, 5, 2, 4, 8, 6
ENDS = np.array([0, 1, 6, 10], np.int32)
# float16: the result is rounded once, decays and rates are read narrow.
NEAR = {"float32": {"rtol": 1e-3, "atol": 1e-4}, "float16": {"rtol": 5e-3, "atol": 5e-3}}


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 0.5, shape).astype(dtype)


def net(*, rule: str = "gated_delta", dtype: Any = np.float32, ragged: bool = False, batched: bool = False,
        deep: bool = False, gate: str = "none", packed: bool = False, outputs: Any = 2, norm: int = 1,
        heads: int = H, wide: bool = False, captured: Any = None, active: Any = None, deep_bias: bool = False,
        **attributes: Any) -> MsCase:
    """A node; `deep` decays each row of the state by itself, `wide` gates are of float32."""
    lead: tuple[int, ...] = (B, L) if batched else (10,)
    requests = 3 if ragged else B
    gated, delta = rule.startswith("gated"), rule.endswith("delta")
    q, k, v = real(*lead, G, K, dtype=dtype), real(*lead, G, K, dtype=dtype), real(*lead, heads, V, dtype=dtype)
    if packed:
        q, k, v = np.concatenate([x.reshape(*lead, -1) for x in (q, k, v)], -1), None, None
    narrow = np.float32 if wide else dtype
    decay = -np.abs(real(*lead, heads, *((K,) if deep else ()), dtype=narrow)) if gated else None
    made = gate != "none"
    return ms("GatedDeltaNet", q, k, v, ENDS if ragged else None, decay,
              np.abs(real(*lead, heads, dtype=narrow)) if delta else None, real(requests, heads, V, K),
              real(heads) if made else None, real(heads, *((K,) if deep_bias else ())) if made else None, captured,
              active, update_rule=rule, gate_activation=gate, qk_l2_norm=norm, outputs=outputs, **attributes)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("batched", [False, True])
def test_requests_of_one_length(batched: bool, rule: str, dtype: str) -> None:
    check(net(rule=rule, batched=batched, dtype=dtype), **NEAR[dtype])


@pytest.mark.parametrize("rule", ["linear", "gated_delta"])
@pytest.mark.parametrize("deep", [False, True])
def test_requests_of_different_lengths(deep: bool, rule: str) -> None:
    check(net(rule=rule, ragged=True, deep=deep and rule != "linear"), **NEAR["float32"], lowers=False)


@pytest.mark.parametrize("gate", ["softplus", "qwen", "sigmoid", "kda"])
@pytest.mark.parametrize(("deep", "deep_bias"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decays_that_are_made(dtype: str, deep: bool, deep_bias: bool, gate: str) -> None:
    check(net(gate=gate, deep=deep, deep_bias=deep_bias, dtype=dtype, beta_activation="sigmoid", gate_lower_bound=-3.0),
          **NEAR[dtype])


@pytest.mark.parametrize("norm", [0, 1])
@pytest.mark.parametrize("heads", [G, H])
@pytest.mark.parametrize("packed", [False, True])
def test_heads_that_share(packed: bool, heads: int, norm: int) -> None:
    check(net(heads=heads, packed=packed, norm=norm, scale=0.3, wide=True), **NEAR["float32"])


@pytest.mark.parametrize("size", [1e-1, 1e-4, 1e-6])
def test_keys_next_to_nothing_are_not_made_ones(size: float) -> None:
    k, v = np.full((2, 1, 8), size, np.float32), np.ones((2, 1, 3), np.float32)
    state = np.zeros((1, 1, 3, 8), np.float32)
    check(ms("GatedDeltaNet", k, k, v, None, None, None, state, update_rule="linear", qk_l2_norm=1, outputs=2),
          rtol=1e-4)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("active", [None, 1])
def test_transitions_that_are_shown(active: Any, deep: bool) -> None:
    """What stands behind the transitions that were asked for is anybody's."""
    counts = np.array([2, 7, 0], np.int32)
    case = net(ragged=True, deep=deep, captured=counts, state_update_capacity=3, outputs=3,
               active=None if active is None else np.array([active], np.int32))
    ours, theirs = case.reference(), case.onnxruntime()
    at = 0
    for width in (H * K if deep else H, G * K, H * V):
        for b, count in enumerate((1, 3, 0)):
            part = slice(at, at + count * width)
            close(ours[2][b, part], theirs[2][b, part], 1e-3, 1e-4, f"request {b}")
        at += 3 * width
    assert at == ours[2].shape[1]
    assert case.infer()[0][2].shape == ours[2].shape


def test_none_is_shown_where_it_is_off() -> None:
    check(net(captured=np.array([2, 1], np.int32), active=np.array([0], np.int32), state_update_capacity=3, outputs=3),
          **NEAR["float32"], lowers=False)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="update_rule cannot be 'wide'"):
        net(rule="wide").infer()
    with pytest.raises(ModelError, match="capture_count is left out"):
        net(state_update_capacity=2).infer()
    case = net()
    case.inputs = [*case.inputs[:6]]
    with pytest.raises(ModelError, match="initial_state says how many"):
        case.infer()
