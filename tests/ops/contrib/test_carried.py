"""LinearAttention, CausalConvWithState and EngramGate answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import UnsupportedError

RNG = np.random.default_rng(21)
B, T, K, V = 2, 5, 8, 6


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 0.5, shape).astype(dtype)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (4, 2)])
def test_linear_attention(heads: int, groups: int, past: bool, rule: str) -> None:
    gated, delta = rule.startswith("gated"), rule.endswith("delta")
    case = ms("LinearAttention", real(B, T, heads * K), real(B, T, groups * K), real(B, T, groups * V),
              real(B, groups, K, V) if past else None, -np.abs(real(B, T, groups)) if gated else None,
              np.abs(real(B, T, groups)) if delta else None, q_num_heads=heads, kv_num_heads=groups, update_rule=rule,
              outputs=2)
    check(case, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("last", [0, 1])
def test_causal_conv(last: int, bias: bool, activation: str, past: bool) -> None:
    x, state = real(B, 6, 5), real(B, 6, 3)
    if last:
        x, state = (np.ascontiguousarray(e.swapaxes(1, 2)) for e in (x, state))
    case = ms("CausalConvWithState", x, real(6, 1, 4), real(6) if bias else None, state if past else None,
              activation=activation, channels_last=last, outputs=2)
    check(case, rtol=1e-4, atol=1e-5, symbols={(0, 0): "b"} if not past else {(0, 0): "b", (3, 0): "b"})


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("channels", [None, (6,), (2, 3)])
def test_taps_that_stand_apart(channels: Any, dilation: int, past: bool) -> None:
    """Channels first, or last in one axis or more."""
    lead, kept = ((B, 6), 3 * dilation) if channels is None else ((B,), 3 * dilation)
    x = real(*lead, 5) if channels is None else real(*lead, 5, *channels)
    state = real(*lead, kept) if channels is None else real(*lead, kept, *channels)
    case = ms("CausalConvWithState", x, real(6, 1, 4), real(6), state if past else None, activation="silu",
              dilation=dilation, channels_last=int(channels is not None), outputs=2)
    check(case, rtol=1e-4, atol=1e-5, symbols={(0, 0): "b", (3, 0): "b"} if past else {(0, 0): "b"})


def test_windows_of_states_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="state_window"):
        ms("CausalConvWithState", real(B, 6, 5), real(6, 1, 4), state_window=2, outputs=2).reference()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("normed", [False, True])
def test_engram_gate(normed: bool, dtype: Any) -> None:
    near = 1e-4 if dtype is np.float32 else 5e-3
    check(ms("EngramGate", real(B, T, 3, 8, dtype=dtype), real(B, T, 3, 8, dtype=dtype), real(B, T, 8, dtype=dtype),
             real(3, 8, dtype=dtype), real(3, 8, dtype=dtype), real(3, 8, dtype=dtype) if normed else None,
             outputs=2 if normed else 1), rtol=near, atol=near)
