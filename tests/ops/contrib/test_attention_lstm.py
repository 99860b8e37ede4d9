"""AttnLSTM answers as ONNX Runtime's does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import MsCase, ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(37)
T, B, X, H, ROWS, DEPTH, WIDTH, LAYER = 4, 3, 5, 6, 7, 8, 9, 10


def real(*shape: int) -> Any:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def lstm(direction: str = "forward", *, bias: bool = True, lens: bool = False, initial: bool = False,
         holes: bool = False, memory_lens: bool = False, layer: bool = False, **more: Any) -> MsCase:
    n = 2 if direction == "bidirectional" else 1
    states = (real(n, B, H), real(n, B, H)) if initial else (None, None)
    return ms("AttnLSTM", real(T, B, X), real(n, 4 * H, X + (LAYER if layer else DEPTH)), real(n, 4 * H, H),
              real(n, 8 * H) if bias else None, np.array([4, 1, 2], np.int32) if lens else None, *states,
              real(n, 3 * H) if holes else None, real(n, H, WIDTH), real(n, DEPTH, WIDTH), real(n, WIDTH),
              real(B, ROWS, DEPTH), np.array([3, 7, 1], np.int32) if memory_lens else None,
              real(n, H + DEPTH, LAYER) if layer else None, direction=direction, hidden_size=H, outputs=3, **more)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("options", [
    {}, {"bias": False}, {"lens": True}, {"initial": True}, {"holes": True}, {"memory_lens": True}, {"layer": True},
    {"lens": True, "layer": True, "memory_lens": True, "initial": True, "holes": True}, {"input_forget": 1},
    {"clip": 0.3}], ids=str)
def test_attention_beside_a_recurrence(options: dict[str, Any], direction: str) -> None:
    case = lstm(direction, **options)
    symbols = {(0, 0): "t"} if not options.get("lens") else None
    check(case, rtol=1e-4, atol=1e-5, symbols=symbols)


@pytest.mark.parametrize(("names", "alphas", "betas"), [
    (["Relu", "Softsign", "LeakyRelu"], None, None), (["HardSigmoid", "ScaledTanh", "Tanh"], [0.3, 1.5], [0.6, 0.7])])
def test_other_activations(names: Any, alphas: Any, betas: Any) -> None:
    check(lstm(activations=names, activation_alpha=alphas, activation_beta=betas), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    case = lstm()
    case.inputs = [*case.inputs[:8]]
    with pytest.raises(ModelError, match="without QW there is no attention"):
        case.infer()
    case = lstm()
    case.inputs = [case.inputs[0], real(1, 4 * H, X), *case.inputs[2:]]
    with pytest.raises(ModelError, match="the input beside the attention"):
        case.infer()
