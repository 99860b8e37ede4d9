"""Changes in place cross whether a value is the changer's own or shared, and only the latter is traced again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gesher
from gesher.frontends.protocol import ExportOptions
from gesher.frontends.torch.capture import capture


class Changing(torch.nn.Module):
    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change(x)


def _own(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.add_(1)
    return y.relu_() * y


def _siblings(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    first = y.add_(1)
    second = y.mul_(3)
    return first - second + y


def _before_and_after(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    before = y.exp()
    y.clamp_(min=0)
    return before + y


def _through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[0].fill_(7)
    return y


def _under_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    view = y.transpose(0, 1)
    y.add_(1)
    return view


def _maybe_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    same = y.reshape(-1)
    same.add_(1)
    return y


def _whole_numbers(x: torch.Tensor) -> torch.Tensor:
    y = x.to(torch.int32).clone()
    y.add_(torch.ones((), dtype=torch.int64))
    return y


@pytest.mark.parametrize(("change", "traced"), [
    (_own, False), (_before_and_after, False), (_whole_numbers, False),
    (_siblings, False), (_through_a_view, True), (_under_a_view, True), (_maybe_a_view, True)])
def test_changes_in_place_cross(change: Callable[[torch.Tensor], torch.Tensor], traced: bool) -> None:
    module, x = Changing(change), torch.randn(3, 4)
    program = capture(module, (x,), ExportOptions()).program
    assert any(n.op == "call_function" and getattr(n.target, "_schema", None) is not None
               and n.target._schema.is_mutable for n in program.graph.nodes) is not traced
    model = gesher.export(module, (x,))
    with gesher.session(model, "reference") as session:
        got = session.run({model.graph.inputs[0].name: x.numpy()})
    np.testing.assert_allclose(next(iter(got.values())), change(x.clone()).numpy(), rtol=1e-6)


def test_an_input_that_is_changed_comes_out_again() -> None:
    class Counter(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.add_(1)
            return x * 2

    model = gesher.export(Counter(), (torch.randn(3),))
    assert [v.name for v in model.graph.outputs] == ["output", "x_out"]


def test_int_of_a_size_stays_free() -> None:
    class Padded(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = int(x.shape[0])
            half = int(rows / 2)
            assert isinstance(rows, int) or rows > 0
            return torch.nn.functional.pad(x, (0, half))[:, :rows] + len(x)

    model = gesher.export(Padded(), (torch.randn(4, 6),), dynamic={"x": {0: "rows"}})
    assert isinstance(int("3"), int) and type(int("3")) is int
    with gesher.session(model, "reference") as session:
        assert next(iter(session.run({"x": np.ones((5, 6), np.float32)}).values())).shape == (5, 5)


def test_what_a_module_remembers_is_as_before() -> None:
    class Remembering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.known, self.seen = torch.nn.Parameter(torch.randn(3)), {}, []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if "double" not in self.known:
                self.known["double"] = self.weight * 2
                self.seen.append(x.shape)
            return x + self.known["double"]

    module = Remembering().eval()
    gesher.export(module, (torch.randn(2, 3),))
    assert not any("Fake" in type(v).__name__ for v in module.known.values())


def test_a_list_of_rows_that_are_joined_again_is_not_counted() -> None:
    class Apart(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            rows = list(x)
            return {"joined": torch.cat(rows, dim=0), "wide": torch.cat(rows, -1), "stacked": torch.stack(rows, 1),
                    "rows": rows}

    module = Apart()
    model = gesher.export(module, (torch.randn(4, 2, 3),), dynamic={"x": {0: "rows"}})
    x = torch.randn(5, 2, 3)
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"x": x.numpy()})
    for name, want in module(x).items():
        np.testing.assert_array_equal(got[name], torch.stack(want) if name == "rows" else want)


def test_a_list_of_rows_that_are_counted_fixes_how_many_there_are() -> None:
    class Counted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([row * i for i, row in enumerate(list(x))])

    with pytest.raises(gesher.UnsupportedError, match=r"'rows' has one size only|is always 4"):
        gesher.export(Counted(), (torch.randn(4, 3),), dynamic={"x": {0: "rows"}})


def test_weights_that_are_scaled_at_the_first_call_are_as_after_it() -> None:
    class Scaling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.scaled = torch.nn.Linear(3, 4), False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.scaled:
                with torch.no_grad():
                    self.linear.weight.div_(2)
                self.scaled = True
            self.linear = self.linear.to(torch.float32)
            return self.linear(x)

    module = Scaling()
    model = gesher.export(module, (torch.randn(2, 3),), dynamic={"x": {0: "batch"}})
    x = torch.randn(5, 3)
    with gesher.session(model, "reference") as session:
        got = next(iter(session.run({"x": x.numpy()}).values()))
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_symbol_of_one_or_more_is_read_off_its_multiples() -> None:
    class Windows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, h = x.shape
            return x.view(n, h // 4, 4).transpose(1, 2).reshape(n * 4, h // 4)

    model = gesher.export(Windows(), (torch.randn(2, 8),), dynamic={"x": {0: "batch", 1: "4*blocks"}},
                          ranges={"blocks": (1, None)})
    x = torch.randn(3, 20)
    with gesher.session(model, "reference") as session:
        got = next(iter(session.run({"x": x.numpy()}).values()))
    np.testing.assert_array_equal(got, Windows()(x))


def test_len_of_what_the_data_tell_stays_a_symbol() -> None:
    class Found(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = x[x > 0]
            return torch.zeros(len(kept) + 1, int(x.shape[0])) + kept.sum()

    model = gesher.export(Found(), (torch.randn(4),))
    with gesher.session(model, "reference") as session:
        for x in (torch.tensor([1., -1, 2, -2]), torch.tensor([-1., -1, -2, -2]), torch.ones(4)):
            got = next(iter(session.run({"x": x.numpy()}).values()))
            np.testing.assert_allclose(got, Found()(x).numpy())


def test_an_encoder_that_is_given_no_mask_has_none() -> None:
    transformers = pytest.importorskip("transformers", reason="its encoders make masks of ones under capture")
    try:
        from bench.architecture_zoo import torchvision_schemas  # noqa: F401 (transformers imports torchvision)

        module = transformers.BertModel(transformers.BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    except ImportError as e:
        pytest.skip(f"BERT cannot be built here: {e}")
    model = gesher.export(module.eval(), {"input_ids": torch.arange(6).reshape(2, 3)},
                          dynamic={"input_ids": {0: "batch", 1: "sequence"}}, verify=False)
    attention = [n for n in model.graph.nodes if n.op_type == "Attention"]
    assert [len(n.inputs) for n in attention] == [3]
