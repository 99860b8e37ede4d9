"""Between flattened products, what works row by row is done on flat rows; where that saves nothing, nothing moves."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import gesher


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.down, self.last = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = x + self.down(nn.functional.gelu(self.up(x)))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        x = x - self.down(torch.tanh(self.up(x)))
        return self.last(x).softmax(-1)


class Positions(nn.Module):
    """The table is added by place, not by row."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.table = nn.Linear(6, 6), nn.Parameter(torch.randn(1, 3, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.linear(x) + self.table)


def answers(model: gesher.Model, x: np.ndarray) -> np.ndarray:
    with gesher.session(model, "reference") as session:
        return next(iter(session.run({"x": x}).values()))


@pytest.mark.parametrize("dynamic", [None, {"x": {0: "batch", 1: "time"}}], ids=["fixed", "free"])
@pytest.mark.parametrize("opset", [13, 20])
def test_a_stream_of_rows_is_flattened_once(dynamic: dict[str, dict[int, str]] | None, opset: int) -> None:
    net = Block().eval()
    model = gesher.export(net, (torch.randn(2, 3, 6),), dynamic=dynamic, opset=opset)
    assert Counter(n.op_type for n in model.graph.nodes)["Reshape"] == 2
    assert gesher.check(model).ok
    for sizes in ((2, 3), (1, 1), (4, 5)) if dynamic else ((2, 3),):
        x = torch.randn(*sizes, 6)
        np.testing.assert_allclose(answers(model, x.numpy()), net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_is_added_by_place_keeps_its_axes() -> None:
    net = Positions().eval()
    x = torch.randn(2, 3, 6)
    model = gesher.export(net, (x,))
    np.testing.assert_allclose(answers(model, x.numpy()), net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert Counter(n.op_type for n in model.graph.nodes)["Reshape"] == 4
