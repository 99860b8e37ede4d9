"""Branches and loops cross as If, Loop and Scan, with free dims too; ONNX Runtime runs them and agrees."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.experimental.control_flow import map as map_over
from torch import nn
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

import gesher
from gesher.evaluator.difference import difference


class Branch(nn.Module):
    """Weights on both sides, captured by the branches."""

    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, flag: torch.Tensor) -> torch.Tensor:
        return torch.cond(flag.sum() > 0, lambda x: self.yes(x).relu(), lambda x: self.no(x) * 2, (x,))


class BranchOnSize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.shape[0] > 3, lambda x: x + 1, lambda x: x - 1, (x,))


class BranchInBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        def inner(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.cond(x.max() > 1, lambda x: (x * 2, x + 1), lambda x: (x * 3, x + 2), (x,))

        return torch.cond(x.sum() > 0, inner, lambda x: (x - 1, x * 0), (x,))


class Halving(nn.Module):
    """A loop whose count hangs on the data."""

    def forward(self, n: torch.Tensor, x: torch.Tensor) -> Any:
        start = torch.zeros((), dtype=torch.long)
        return while_loop(lambda i, x: i < n.sum(), lambda i, x: (i + 1, x / 2 + i), (start, x))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)

    def forward(self, start: torch.Tensor, xs: torch.Tensor) -> Any:
        def step(state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.tanh(self.cell(x) + state)
            return y, y * 2

        return scan(step, start, xs, dim=0)


class Mapped(nn.Module):
    def forward(self, xs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return map_over(lambda x, y: x.sin() + y, xs, y)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...], Any, str]] = {
    "cond": (Branch, (torch.randn(2, 3), torch.ones(2)), {"x": {0: "batch"}}, "If"),
    "cond, the other side": (Branch, (torch.randn(2, 3), -torch.ones(2)), {"x": {0: "batch"}}, "If"),
    "cond on a size": (BranchOnSize, (torch.randn(5, 3),), {"x": {0: "batch"}}, "If"),
    "cond within cond": (BranchInBranch, (torch.rand(2, 3) * 2,), {"x": {0: "batch"}}, "If"),
    "while_loop": (Halving, (torch.tensor([2, 3]), torch.randn(3)), None, "Loop"),
    "scan": (Recurrence, (torch.randn(2, 4), torch.randn(5, 2, 4)),
             {"start": {0: "batch"}, "xs": {0: "time", 1: "batch"}}, "Scan"),
    "map": (Mapped, (torch.randn(5, 2, 4), torch.randn(4)), {"xs": {0: "time", 1: "batch"}}, "Scan"),
}


@pytest.mark.parametrize("name", CASES)
def test_control_flow_crosses(name: str) -> None:
    torch.manual_seed(0)
    make, example, dynamic, op = CASES[name]
    module = make().eval()
    model = gesher.export(module, example, dynamic=dynamic)
    assert op in {n.op_type for n in model.graph.nodes}
    assert gesher.check(model).ok
    with torch.no_grad():
        want = torch.utils._pytree.tree_leaves(module(*example))
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({p.name: x.numpy() for p, x in zip(session.inputs, example)})
    for value, answer in zip(got.values(), want):
        assert difference(value, answer.numpy()).ok
