"""Batch normalisations go into the layer in front of them at export, under the layer's own names; or stay, if asked."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gesher


def ready(net: nn.Module) -> nn.Module:
    """Statistics and factors that are not those of a new module."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=g), alpha=0.2)
        for name, b in net.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=g) + (0.2 if name.endswith("var") else 0.0))
    return net.eval()


NETS = {
    "conv": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), (2, 3, 6, 6)),
    "grouped, with bias": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)), (2, 4, 6, 6)),
    "transposed in groups": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
                             (2, 4, 6, 6)),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (3, 5)),
    "no affine": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, affine=False)), (2, 3, 6)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_batch_norm_goes_into_the_layer_before_it(name: str) -> None:
    make, shape = NETS[name]
    net = ready(make())
    x = torch.randn(shape)
    model = gesher.export(net, (x,), verify=False)
    assert "BatchNormalization" not in {n.op_type for n in model.graph.nodes}
    assert {"0.weight", "0.bias"} <= {v.name for v in model.graph.initializers}
    assert gesher.check(model).ok
    with gesher.session(model, "reference") as session:
        got = next(iter(session.run({model.graph.inputs[0].name: x.numpy()}).values()))
    np.testing.assert_allclose(got, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_is_given_out_keeps_its_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.norm(self.conv(x))
            return {"normed": y, "positive": y.relu()}

    model = gesher.export(ready(Net()), (torch.randn(2, 3, 6, 6),))
    assert [v.name for v in model.graph.outputs] == ["normed", "positive"]


def test_told_not_to_fold_it_stays_with_every_number_as_the_module_has_it() -> None:
    net = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    model = gesher.export(net, (torch.randn(2, 3, 6, 6),), fold=False)
    held: dict[str, Any] = {v.name: v.constant for v in model.graph.initializers}
    assert [n.op_type for n in model.graph.nodes] == ["Conv", "BatchNormalization"]
    np.testing.assert_array_equal(held["0.weight"].numpy(), net[0].weight.detach().numpy())    # type: ignore[index]


class Shared(nn.Module):
    """One kernel behind two normalisations, one of which another reader sees through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.one(y) + y + self.two(self.conv(x * 2))


def test_what_others_read_stays() -> None:
    model = gesher.export(ready(Shared()), (torch.randn(2, 3, 4, 4),))
    assert sum(n.op_type == "BatchNormalization" for n in model.graph.nodes) == 2


class Standardised(nn.Module):
    """A kernel that is computed from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, w)


def test_arithmetic_on_a_weight_alone_is_done_ahead_under_a_name_that_says_so() -> None:
    model = gesher.export(Standardised(), (torch.randn(2, 3, 5, 5),))
    assert [n.op_type for n in model.graph.nodes] == ["Conv"]
    assert [v.name for v in model.graph.initializers] == ["weight_sub"]
