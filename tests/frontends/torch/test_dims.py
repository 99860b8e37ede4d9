"""Free dims cross as widely as they can; what a program takes for granted of them is declared, tried, and told."""

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends.torch.dims import asked, resized

HW = {"x": {0: "batch", 2: "height", 3: "width"}}


def runs_as(module: nn.Module, model: gesher.Model, *shapes: tuple[int, ...]) -> bool:
    with gesher.session(model, "onnxruntime") as session, torch.no_grad():
        for shape in shapes:
            x = torch.randn(shape)
            got = session.run({session.inputs[0].name: x.numpy()})
            assert difference(next(iter(got.values())), module(x.clone()).numpy()).ok, shape
    return True


def declared(model: gesher.Model) -> list[dict[str, str]]:
    return json.loads(model.metadata.get("gesher.preconditions", "[]"))


class Strided(nn.Module):
    """What PyTorch guards against sizes of 1: strided convolutions, pools, slices."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(x))[:, :, ::2, 1:].flatten(2).softmax(-1)


def test_strides_do_not_keep_height_and_width_from_being_free() -> None:
    module = Strided().eval()
    model = gesher.export(module, torch.randn(2, 3, 17, 19), dynamic=HW)
    assert str(model.graph.inputs[0].type) == "float(batch,3,height,width)"
    assert runs_as(module, model, (1, 3, 9, 10), (3, 3, 32, 33), (1, 3, 2, 64))


def test_an_example_of_one_is_no_reason_to_fix_a_dim() -> None:
    module = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU()).eval()
    model = gesher.export(module, torch.randn(1, 3, 1), dynamic={"input": {0: "batch", 2: "time"}})
    assert runs_as(module, model, (1, 3, 1), (2, 3, 1), (1, 3, 7))


class Padded(nn.Module):
    """Branches on whether a size is a multiple of 4."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % 4 != 0:
            x = F.pad(x, (0, 4 - x.shape[-1] % 4))
        return x.unflatten(-1, (-1, 4)).sum(-1)


def test_a_branch_on_a_size_is_an_error_that_names_the_line() -> None:
    with pytest.raises(gesher.UnsupportedError, match=r"time % 4 == 0 \(test_dims.py:\d+\)"):
        gesher.export(Padded(), torch.randn(2, 8), dynamic={"x": {0: "batch", 1: "time"}})


def test_an_expression_keeps_to_one_side_of_a_branch() -> None:
    model = gesher.export(Padded(), torch.randn(2, 8), dynamic={"x": {0: "batch", 1: "4*blocks"}})
    assert str(model.graph.inputs[0].type) == "float(batch,4*blocks)"
    assert runs_as(Padded(), model, (1, 4), (3, 40))


def test_a_range_keeps_to_one_side_of_a_branch() -> None:
    class Short(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.shape[1] <= 6 else x[:, :6] * 3

    example = torch.randn(2, 5)
    dynamic = {"x": {0: "batch", 1: "time"}}
    with pytest.raises(gesher.UnsupportedError, match="time <= 6"):
        gesher.export(Short(), example, dynamic=dynamic)
    model = gesher.export(Short(), example, dynamic=dynamic, ranges={"time": (1, 6)})
    assert [p["condition"] for p in declared(model)] == ["time <= 6"]
    assert runs_as(Short(), model, (1, 1), (4, 6))
    same = gesher.export(Short(), example, dynamic={"x": {1: torch.export.Dim("time", min=1, max=6)}})
    assert str(same.graph.inputs[0].type) == "float(2,time)"


def test_a_limit_that_the_module_has_itself_is_declared() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Parameter(torch.randn(16, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.places[:x.shape[1]]

    model = gesher.export(Table(), torch.randn(2, 5, 3), dynamic={"x": {0: "batch", 1: "time"}})
    assert any("16" in p["condition"] and p["where"].startswith("test_dims.py:") for p in declared(model))


def test_a_guard_that_does_no_harm_is_dropped() -> None:
    class Polite(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1, keepdim=True) if x.shape[1] > 1 else x

    model = gesher.export(Polite(), torch.randn(2, 5), dynamic={"x": {1: "time"}})
    assert not declared(model)
    assert runs_as(Polite(), model, (2, 1), (2, 9))


def test_a_squeeze_of_a_free_dim_is_tried_where_it_would_drop_it() -> None:
    class Squeezed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 1:-1].squeeze(1) * 2

    with pytest.raises(gesher.UnsupportedError, match="!= 1"):
        gesher.export(Squeezed(), torch.randn(2, 5, 3), dynamic={"x": {1: "time"}})


def test_a_dim_that_has_one_size_only_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(4)

    with pytest.raises(gesher.UnsupportedError, match=r"fixes a dim .*'time'.*test_dims.py:\d+"):
        gesher.export(Fixed(), torch.randn(2, 4), dynamic={"x": {1: "time"}})


def test_dims_of_one_size_by_chance_stay_apart() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x @ y.T if x.shape[0] != y.shape[0] else (y @ x.T).T

    model = gesher.export(Two(), (torch.randn(4, 3), torch.randn(4, 3)), dynamic={"x": {0: "a"}, "y": {0: "b"}})
    assert [str(v.type) for v in model.graph.inputs] == ["float(a,3)", "float(b,3)"]


def test_sizes_that_go_through_fractions_are_computed() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x * x.shape[1] ** -0.5 + x.shape[0] / 3, x.shape[1]

    model = gesher.export(Scaled(), torch.randn(2, 3), dynamic={"x": {0: "batch", 1: "time"}})
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"x": torch.ones(4, 9).numpy()})
    assert difference(got["output_0"], (torch.ones(4, 9) / 3 + 4 / 3).numpy()).ok and int(got["output_1"]) == 9


def test_a_program_of_pytorchs_names_its_free_dims_or_takes_names() -> None:
    batch = torch.export.Dim("batch", min=1, max=9)
    program = torch.export.export(nn.Linear(3, 2).eval(), (torch.randn(2, 3),), dynamic_shapes=({0: batch},))
    assert str(gesher.export(program).graph.inputs[0].type) == "float(input_dim_0,3)"
    assert str(gesher.export(program, dynamic={"input": {0: "rows"}}).graph.inputs[0].type) == "float(rows,3)"
    with pytest.raises(gesher.UnsupportedError, match="always 3"):
        gesher.export(program, dynamic={"input": {1: "columns"}})


LEAVES = [("x", torch.zeros(2, 8)), ("cache.0.key", torch.zeros(2, 5)), ("cache.0.value", torch.zeros(2, 5))]


@pytest.mark.parametrize("dynamic, sizes", [
    (True, {(0, 0): "batch", (1, 0): "batch", (2, 0): "batch"}),
    ({"x": ("batch", None)}, {(0, 0): "batch"}),
    ({"x": {-1: "time"}}, {(0, 1): "time"}),
    ({"cache": {1: "past"}}, {(1, 1): "past", (2, 1): "past"}),
    ({"cache": {1: "past"}, "cache.0.value": {1: None}}, {(1, 1): "past"}),
    ({"cache": [{"key": {1: "past"}}]}, {(1, 1): "past"}),
    ({"x": {1: "3 + past"}, "cache": {1: "past"}}, {(0, 1): "past + 3", (1, 1): "past", (2, 1): "past"}),
])
def test_ways_to_ask_for_free_dims(dynamic: Any, sizes: dict[tuple[int, int], str]) -> None:
    assert {place: str(d) for place, d in asked(LEAVES, dynamic).sizes.items()} == sizes


@pytest.mark.parametrize("dynamic, why", [
    ({"y": {0: "batch"}}, "no argument 'y'"),
    ({"x": {2: "batch"}}, "no dim 2"),
    ({"x": {0: "n", 1: "n"}}, "n is"),
    ({"x": {1: "a + b"}}, "are the size of no dim"),
    ({"x": "batch"}, "no mapping"),
    ({"x": {0: 3}}, "no name"),
])
def test_what_cannot_be_asked_for(dynamic: Any, why: str) -> None:
    with pytest.raises(gesher.UnsupportedError, match=why):
        asked(LEAVES, dynamic)


def test_examples_of_other_sizes_keep_what_they_have() -> None:
    wished = asked(LEAVES, {"x": {1: "3 + past"}, "cache": {1: "past"}})
    assert wished.example == {"past": 5}
    made = resized([("x", torch.arange(16).view(2, 8)), *LEAVES[1:]], wished, {"past": 9})
    assert made[0].shape == (2, 12) and made[1].shape == (2, 9)
    assert torch.equal(made[0][:, :8], torch.arange(16).view(2, 8))
