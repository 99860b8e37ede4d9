"""What an export is after its clean-up: small, in its own opset, with every weight as the module has it."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gesher

torch.set_num_threads(1)


def kinds(model: gesher.Model) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.nodes)


class Mixer(nn.Module):
    """Linear layers over three axes, with a gate between them, and two weights of the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(6, 8), nn.Linear(6, 8, bias=False), nn.Linear(8, 6)
        self.one, self.two = nn.LayerNorm(6), nn.LayerNorm(6)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        y = self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return self.two(x + y) * self.scale


FREE = {"x": {0: "batch", 1: "time"}}


@pytest.mark.parametrize("dynamic", [None, FREE], ids=["fixed", "free"])
def test_rows_stay_flat_between_linear_layers(dynamic: Any) -> None:
    model = gesher.export(Mixer().eval(), torch.randn(2, 3, 6), dynamic=dynamic)
    found = kinds(model)
    assert found["Gemm"] == 3 and found["MatMul"] == found["Transpose"] == 0
    assert found["Reshape"] == 2, found    # to rows, and back
    with gesher.session(model, "onnxruntime", threads=1) as session:
        for b, t in ((2, 3), (1, 1), (4, 5)) if dynamic else ((2, 3),):
            x = np.random.default_rng(b).normal(size=(b, t, 6)).astype(np.float32)
            with gesher.session(model, "reference") as oracle:
                np.testing.assert_allclose(session.run({"x": x})["output"], oracle.run({"x": x})["output"],
                                           rtol=1e-4, atol=1e-5)


def test_no_weight_is_folded_merged_or_moved() -> None:
    source = Mixer().eval()
    model = gesher.export(source, torch.randn(2, 3, 6))
    held = {v.name: v.constant.numpy() for v in model.graph.initializers}
    for name, p in source.named_parameters():
        assert np.array_equal(held[name], p.detach().numpy()), name


@pytest.mark.parametrize("opset", [13, 17, 20, 23])
def test_what_is_made_is_of_the_models_own_opset(opset: int) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            z = 0.5 * y * (1 + torch.tanh(0.7978845608 * (y + 0.044715 * y * y * y)))
            return z.reshape(-1, 2, 4).transpose(1, 2).transpose(1, 2).reshape(x.shape)

    model = gesher.export(Net().eval(), torch.randn(2, 3, 4), opset=opset)
    assert gesher.check(model).ok and model.opsets[""] == opset
    # One operator says it since opset 20; and what was moved there and back has not moved.
    assert (kinds(model)["Gelu"] == 1) == (opset >= 20) and kinds(model)["Transpose"] == 0
    gesher.session(model, "onnxruntime").close()


def test_masks_of_numbers_are_worked_out_ahead_and_nodes_say_their_module() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (p.unflatten(-1, (2, 4)).transpose(1, 2) for p in self.qkv(x).chunk(3, -1))
            mask = torch.ones(5, 5).tril().bool()
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    model = gesher.export(Causal().eval(), torch.randn(1, 5, 8))
    assert not {"Trilu", "ConstantOfShape", "Not", "Range", "Expand"} & set(kinds(model)), kinds(model)
    assert any((n.metadata or {}).get("module") == "qkv" for n in model.graph.nodes if n.op_type == "Gemm")
