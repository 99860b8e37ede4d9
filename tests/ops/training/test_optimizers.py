"""Steps of optimisers: onnx's own cases, each rule against the other, and a case by hand."""

from typing import Any

import numpy as np
import pytest
from tests.ops.single_node import Case, check

from gesher import ModelError

TRAINING = "ai.onnx.preview.training"
STATES = {"Adagrad": 1, "Adam": 2, "Momentum": 1}
WRITTEN: dict[str, dict[str, Any]] = {
    "Adagrad": {"norm_coefficient": 0.25, "decay_factor": 0.5, "epsilon": 1e-5},
    "Adam": {"alpha": 0.8, "beta": 0.95, "norm_coefficient": 0.1, "norm_coefficient_post": 0.2, "epsilon": 1e-3},
    "Momentum": {"alpha": 0.9, "beta": 0.5, "mode": "standard", "norm_coefficient": 0.125}}


def step(op: str, t: int, dtypes: list[Any], attributes: dict[str, Any], rate: Any = np.float32) -> Case:
    rng = np.random.default_rng(t)
    shapes = [(2, 3), (4,), ()][:len(dtypes)]
    # The last kind of state is a sum of squares: not negative.
    kinds = [[rng.normal(0, 1, s) for s in shapes] for _ in range(2 + STATES[op])]
    kinds[-1] = [np.abs(v) for v in kinds[-1]]
    arrays = [np.asarray(v, d) for kind in kinds for v, d in zip(kind, dtypes)]
    outputs = (1 + STATES[op]) * len(dtypes)
    return Case(op, 12, [np.asarray(0.1, rate), np.int64(t), *arrays], attributes, outputs, domain=TRAINING)


@pytest.mark.parametrize("op", list(STATES))
@pytest.mark.parametrize("t", [0, 1, 7])
@pytest.mark.parametrize("dtypes", [[np.float32], [np.float32, np.float64], [np.float64] * 3])
def test_rules_agree(op: str, t: int, dtypes: list[Any]) -> None:
    for rate in (np.float32, np.float64):
        check(step(op, t, dtypes, WRITTEN[op], rate), "nobody", rtol=1e-5, atol=1e-6)


def test_sizes_may_be_symbols() -> None:
    check(step("Adam", 3, [np.float32], WRITTEN["Adam"]), "nobody", rtol=1e-5, atol=1e-6,
          symbols={(2, 0): "n", (3, 0): "n", (4, 0): "n", (5, 0): "n"})


def test_momentum_by_hand() -> None:
    """X 1, gradient 2, momentum 4, rate 0.5: V = 0.5 * 4 + 3 * 2 = 8, X = 1 - 0.5 * 8; the first step takes beta 1."""
    a: dict[str, Any] = {"alpha": 0.5, "beta": 3.0, "norm_coefficient": 0.0, "mode": "standard"}
    one = [np.float32([v]) for v in (1, 2, 4)]

    def run(t: int, **more: Any) -> list[float]:
        case = Case("Momentum", 12, [np.float32(0.5), np.int64(t), *one], a | more, 2, domain=TRAINING)
        return [float(v[0]) for v in case.reference()]

    assert run(1) == [-3.0, 8.0]
    assert run(0) == [-1.0, 4.0]
    # Nesterov looks ahead: X = 1 - 0.5 * (2 + 0.5 * 8)
    assert run(1, mode="nesterov") == [-2.0, 8.0]


def test_adagrad_by_hand() -> None:
    """H = 7 + 3 * 3 = 16, X = 10 - (2 / (1 + 1 * 1)) * 3 / 4."""
    case = Case("Adagrad", 12, [np.float32(2), np.int64(1), np.float32([10]), np.float32([3]), np.float32([7])],
                {"decay_factor": 1.0, "epsilon": 0.0}, 2, domain=TRAINING)
    assert [float(v[0]) for v in case.reference()] == [9.25, 16.0]


def test_adam_is_what_pytorch_does() -> None:
    """Three steps from zero states, with T counted from 1 and a tiny epsilon (PyTorch adds it elsewhere)."""
    import torch

    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.1, betas=(0.9, 0.999), eps=1e-12)
    ours: list[np.ndarray] = [x.detach().numpy().copy(), np.zeros(3, np.float32), np.zeros(3, np.float32)]
    for t in range(1, 4):
        adam.zero_grad()
        (x * x).sum().backward()
        adam.step()
        case = Case("Adam", 12, [np.float32(0.1), np.int64(t), ours[0], 2 * ours[0], *ours[1:]], {"epsilon": 1e-12}, 3,
                    domain=TRAINING)
        ours = case.reference()
        np.testing.assert_allclose(ours[0], x.detach().numpy(), rtol=1e-5)


def test_what_does_not_fit_is_told() -> None:
    one = np.float32([1])
    with pytest.raises(ModelError, match="4 tensors do not part into 3 kinds"):
        Case("Adagrad", 12, [one, np.int64([1]), one, one, one, one], {}, 2, domain=TRAINING).reference()
    with pytest.raises(ModelError, match="no mode 'wild'"):
        Case("Momentum", 12, [one, np.int64([1]), one, one, one], WRITTEN["Momentum"] | {"mode": "wild"}, 2,
             domain=TRAINING).reference()
    case = Case("Adagrad", 12, [one, np.int64([1]), one, np.float32([1, 2]), one], {}, 2, domain=TRAINING)
    with pytest.raises(ModelError, match="what belongs to it"):
        case.reference()
    with pytest.raises(ModelError, match="shaped as input 2"):
        case.infer()
