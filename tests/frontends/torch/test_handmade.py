"""Functions by hand, one for each promise: they cross verified, ONNX Runtime agrees, and free dims stay free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.frontends.torch.cases import BATCH, CASES, NO_ENGINE, TIME, Called, randn
from torch import nn
from torch.nn import functional as F  # noqa: N812

import gesher
from gesher.evaluator.difference import difference


def run(module: nn.Module, example: tuple[torch.Tensor, ...], free: Any, engine: bool = True) -> gesher.Model:
    model = gesher.export(module.eval(), example, dynamic=free)
    if not engine:
        return model
    feeds = {v.name: x.numpy() for v, x in zip(model.graph.inputs, example)}
    with torch.no_grad():
        answer = module(*(x.clone() for x in example))
    flat = [x for x in torch.utils._pytree.tree_leaves(answer) if isinstance(x, torch.Tensor)]
    with gesher.session(model, "onnxruntime") as session:
        got = session.run(feeds)
    for v, want in zip(model.graph.outputs, flat):
        if want.dtype is torch.bfloat16:
            continue    # ONNX Runtime hands these out as bits; the reference has held them
        d = difference(got[v.name], want.numpy())
        assert d.ok, f"{v.name}: {d}"
    return model


@pytest.mark.parametrize("name", CASES)
def test_a_function_crosses(name: str) -> None:
    module, example, free = CASES[name]
    model = run(module, example, free, name not in NO_ENGINE)
    for v in model.graph.inputs:
        for axis, wish in (free or {}).get(v.name, {}).items():
            assert str(v.shape[axis]) == wish
    assert "gesher.verified" in model.metadata


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "projected", "cells"])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_cross(kind: str, both: bool) -> None:
    made = {"lstm": lambda: nn.LSTM(3, 4, 2, bidirectional=both, batch_first=True),
            "gru": lambda: nn.GRU(3, 4, bidirectional=both, batch_first=True),
            "rnn": lambda: nn.RNN(3, 4, bidirectional=both, nonlinearity="relu", batch_first=True),
            "projected": lambda: nn.LSTM(3, 5, proj_size=2, bidirectional=both, batch_first=True),
            "cells": lambda: nn.LSTMCell(3, 4) if both else nn.GRUCell(3, 4)}[kind]()

    def cells(cell: nn.Module, x: torch.Tensor) -> torch.Tensor:
        state: Any = None
        for step in x.unbind(1):
            state = cell(step, state)
        return state[0] if both else state

    module = Called(cells if kind == "cells" else lambda layer, x: layer(x), made)
    run(module, (randn(2, 6, 3),), {"a": {0: "batch"}} if kind == "cells" else TIME)


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float", "heads", "padding", "both"])
def test_attention_crosses_with_every_mask(mask: str) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    n = 5
    square = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    forms: dict[str, dict[str, Any]] = {
        "none": {}, "causal": {"attn_mask": square, "is_causal": True, "need_weights": False},
        "bool": {"attn_mask": square}, "float": {"attn_mask": torch.zeros(n, n).masked_fill(square, -1e4)},
        "heads": {"attn_mask": square.expand(4, n, n)}, "padding": {"key_padding_mask": padded},
        "both": {"attn_mask": square, "key_padding_mask": padded, "average_attn_weights": False}}
    how = forms[mask]
    module = Called(lambda m, x: m(x, x, x, **how), layer)
    run(module, (randn(2, n, 8),), BATCH if mask in ("none", "bool", "float") else None)


def test_batch_statistics_cross() -> None:
    """Normalising by the batch's own statistics, in training as written."""
    run(Called(lambda x: F.batch_norm(x, None, None, training=True)), (randn(4, 3, 5),), BATCH)
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    run(Called(lambda m, x: m(x), layer), (randn(4, 3, 5),), BATCH)


def test_dropout_is_nothing_unless_it_is_asked_for() -> None:
    x = randn(64, 32)
    still = gesher.export(Called(lambda x: F.dropout(x, 0.5, training=False)), (x,))
    assert not [n for n in still.graph.nodes if n.op_type == "Dropout"]
    drawn = gesher.export(Called(lambda x: F.dropout(x, 0.5, training=True)), (x,), dynamic=BATCH)
    with gesher.session(drawn, "onnxruntime") as session:
        y = next(iter(session.run({"a": x.numpy()}).values()))
    kept = y != 0
    assert 0.4 < kept.mean() < 0.6 and np.allclose(y[kept], 2 * x.numpy()[kept])


@pytest.mark.parametrize("draw", [lambda x: torch.rand_like(x), lambda x: torch.randn_like(x) * 0.1 + 0.5,
                                  lambda x: torch.bernoulli(x.sigmoid()), lambda x: torch.rand(64, 32)])
def test_drawn_numbers_are_of_the_same_distribution(draw: Callable[..., Any]) -> None:
    x = torch.zeros(64, 32)
    model = gesher.export(Called(lambda x: draw(x) + 0 * x), (x,))
    with gesher.session(model, "onnxruntime") as session:
        y = next(iter(session.run({"a": x.numpy()}).values()))
    torch.manual_seed(0)
    want = draw(x).numpy()
    # 2048 numbers: the mean of uniform ones is within 0.03 in all but one of 10^5 draws.
    assert abs(y.mean() - want.mean()) < 0.06 and abs(y.std() - want.std()) < 0.06


@pytest.mark.parametrize("factored", [torch.linalg.svd, lambda x: torch.linalg.eigh(x + x.mT)])
def test_vectors_that_have_no_one_right_answer_are_refused_with_that_reason(factored: Callable[..., Any]) -> None:
    """What does not hang on the choice crosses; the values alone do too."""
    # Numbers of its own: of some matrices all signs are LAPACK's by chance.
    x = torch.diag(torch.arange(1.0, 6)) + torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    with pytest.raises(gesher.UnsupportedError, match="up to their signs"):
        gesher.export(Called(lambda x: factored(x)), (x,))
    gesher.export(Called(lambda x: [v.abs() for v in factored(x)]), (x,))
    free = gesher.export(Called(lambda x: tuple(factored(x))), (x,), verify=False)
    got = gesher.session(free, "reference").run({"a": x.numpy()})
    u, v = list(got.values())[0 if len(got) == 3 else 1], list(got.values())[-1]
    assert np.allclose(u.T @ u, np.eye(5), atol=1e-4) and np.allclose(v @ v.T, np.eye(5), atol=1e-4)


@pytest.mark.parametrize("opset", [13, 24])
def test_zeros_around_a_picture_are_those_of_the_window(opset: int) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.AvgPool2d(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.pool(F.pad(self.conv(F.pad(x, (0, 1, 0, 1))), (1, 1, 1, 1)))
            return made

    model = gesher.export(Padded(), (torch.randn(2, 3, 9, 9),), opset=opset,
                          dynamic={"x": {0: "batch", 2: "height", 3: "width"}}, ranges={"height": (8, None),
                                                                                       "width": (8, None)})
    assert [n.op_type for n in model.graph.nodes] == ["Conv", "AveragePool"]
