"""An export is held against its source, and a difference says where it starts."""

import json

import pytest
import torch
from torch import nn

import gesher
from gesher.frontends.torch.translation import TABLE


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_a_wrong_translator_is_found_out_with_its_module_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "aten.sigmoid.default", lambda t, x: t.b.Tanh(x))
    with pytest.raises(gesher.ModelError, match=r"first operator that differs is second\.1 › aten\.sigmoid\.default"):
        gesher.export(Two().eval(), torch.randn(2, 3), dynamic=True)


def test_a_small_difference_is_one() -> None:
    """Far above the rounding of float32, and below what a careless tolerance would let through."""
    original = TABLE["aten.tanh.default"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLE, "aten.tanh.default", lambda t, x: t.b.Mul(original(t, x), t.scalar(1.005, x)))
        with pytest.raises(gesher.ModelError, match="differs in"):
            gesher.export(Two().eval(), torch.randn(2, 3))


def test_unverified_is_possible_and_said() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLE, "aten.sigmoid.default", lambda t, x: t.b.Tanh(x))
        model = gesher.export(Two().eval(), torch.randn(2, 3), verify=False)
    assert "gesher.verified" not in model.metadata


def test_the_outcome_is_in_the_metadata() -> None:
    model = gesher.export(Two().eval(), torch.randn(2, 3), dynamic=True)
    told = json.loads(model.metadata["gesher.verified"])
    assert told["engine"] == "reference" and told["sizes"] == [{"batch": 2}, {"batch": 1}, {"batch": 5}]
    assert 0 <= told["max_abs"]["output"] < 1e-5


def test_refusals_of_translators_are_told_with_those_that_are_missing() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x).real + torch.linalg.eigvals(x.T).real + x.sum()

    with pytest.raises(gesher.UnsupportedError, match=r"linalg_eig.* \(2 times, first at test_verifying.py:\d+"):
        gesher.export(Odd(), torch.randn(3, 3))


def test_nothing_names_the_machine() -> None:
    from gesher.ir.files import to_bytes

    stored = to_bytes(gesher.export(Two().eval(), torch.randn(2, 3), dynamic=True))
    assert b"/home" not in stored and b".py" not in stored and b"site-packages" not in stored
