"""What a module takes and gives crosses as flat tensors under the module's own names, whatever it is packed in."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends.torch.arguments import leaves, rebuilt, result_names


@dataclass
class Boxes:
    corners: torch.Tensor
    scores: tuple[torch.Tensor, torch.Tensor]
    title: str = "boxes"


Pair = namedtuple("Pair", ["left", "right"])


class Layer:
    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values, self.window = keys, values, 4


class Cache:
    """As transformers' caches are: layers with keys and values."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers


def names(inputs: bool, model: gesher.Model) -> list[str]:
    return [v.name for v in (model.graph.inputs if inputs else model.graph.outputs)]


def test_names_follow_the_structure() -> None:
    x = torch.zeros(1)
    packed = {"a": x, "b": (x, [x]), "c": Boxes(x, (x, x)), "d": Pair(x, x), "past_key_values": ((x, x), (x, x))}
    assert [n for n, _ in leaves(packed)] == [
        "a", "b.0", "b.1.0", "c.corners", "c.scores.0", "c.scores.1", "d.left", "d.right", "past_key_values.0.key",
        "past_key_values.0.value", "past_key_values.1.key", "past_key_values.1.value"]


def test_what_is_rebuilt_is_the_same_around_other_tensors() -> None:
    cache = Cache([Layer(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))])
    packed = {"cache": cache, "boxes": Boxes(torch.zeros(2), (torch.zeros(1), torch.zeros(1)))}
    count = len(leaves(packed))
    made = rebuilt(packed, iter([torch.full((1,), float(i)) for i in range(count)]))
    assert [float(x) for _, x in leaves(made)] == list(map(float, range(count)))
    assert made["cache"] is not cache and made["cache"].layers[0].window == 4 and made["boxes"].title == "boxes"
    assert cache.layers[0].keys.shape == (1, 2, 3, 4)


def test_caches_that_are_given_back_are_present() -> None:
    x = torch.zeros(1, 1, 1, 1)
    cache = Cache([Layer(x, x)])
    assert [n for n, _ in result_names({"logits": x, "past_key_values": cache})] == [
        "logits", "present.0.key", "present.0.value"]
    assert [n for n, _ in result_names((x, cache))] == ["output_0", "present.0.key", "present.0.value"]
    assert [n for n, _ in result_names(x)] == ["output"]
    assert [n for n, _ in result_names((x,))] == ["output"]


class Packed(nn.Module):
    def forward(self, boxes: Boxes, more: dict[str, Any], flip: bool = False) -> Any:
        y = boxes.corners + boxes.scores[0]
        return {"boxes": Boxes(-y if flip else y, (more["m"] * 2, y.sum(-1))), "rest": [y, None, Pair(y * 3, y)]}


def test_dataclasses_dictionaries_and_named_tuples_cross() -> None:
    box = Boxes(torch.randn(2, 3), (torch.randn(2, 3), torch.randn(1)))
    model = gesher.export(Packed(), {"boxes": box, "more": {"m": torch.randn(4)}, "flip": True},
                          dynamic={"boxes.corners": {0: "batch"}, "boxes.scores.0": {0: "batch"}})
    assert names(True, model) == ["boxes.corners", "boxes.scores.0", "boxes.scores.1", "more.m"]
    assert names(False, model) == ["boxes.corners_out", "boxes.scores.0_out", "boxes.scores.1_out", "rest.0",
                                   "rest.2.left", "rest.2.right"]


class Attending(nn.Module):
    """Appends to a cache, and gives it back."""

    def forward(self, x: torch.Tensor, past_key_values: Cache) -> Any:
        for layer in past_key_values.layers:
            layer.keys = torch.cat([layer.keys, x], 2)
            layer.values = torch.cat([layer.values, x * 2], 2)
        return {"logits": past_key_values.layers[0].keys.sum(2), "past_key_values": past_key_values}


def test_a_cache_crosses_with_any_past() -> None:
    cache = Cache([Layer(torch.randn(2, 1, 5, 4), torch.randn(2, 1, 5, 4)) for _ in range(2)])
    model = gesher.export(Attending(), {"x": torch.randn(2, 1, 3, 4), "past_key_values": cache},
                          dynamic={"x": {0: "batch", 2: "time"}, "past_key_values": {0: "batch", 2: "past"}})
    assert names(True, model) == ["x", *(f"past_key_values.{i}.{k}" for i in (0, 1) for k in ("key", "value"))]
    assert names(False, model) == ["logits", *(f"present.{i}.{k}" for i in (0, 1) for k in ("key", "value"))]
    assert str(model.graph.inputs[1].type) == "float(batch,1,past,4)"
    assert cache.layers[0].keys.shape == (2, 1, 5, 4)    # the example is as it was


class Counting(nn.Module):
    """Changes a buffer each time it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x.sum(0))
        return x * self.total


def test_a_buffer_that_changes_is_an_input_and_an_output() -> None:
    module = Counting()
    model = gesher.export(module, torch.randn(2, 3), dynamic=True)
    assert names(True, model) == ["x", "total"] and names(False, model) == ["output", "total_out"]
    assert not module.total.any()    # exporting has not run it for good
    x, total = torch.randn(4, 3), torch.randn(3)
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"x": x.numpy(), "total": total.numpy()})
    assert difference(got["total_out"], (total + x.sum(0)).numpy()).ok
    assert difference(got["output"], (x * (total + x.sum(0))).numpy()).ok


def test_an_argument_that_changes_is_given_back() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            x.add_(y)
            return x * 2

    model = gesher.export(InPlace(), (torch.randn(2, 3), torch.randn(2, 3)), dynamic=True)
    assert names(False, model) == ["output", "x_out"]


def test_names_of_the_callers_own_choice_are_counted() -> None:
    model = gesher.export(nn.Linear(3, 2), torch.randn(1, 3), names={"inputs": ["rows"], "outputs": ["scores"]})
    assert names(True, model) == ["rows"] and names(False, model) == ["scores"]
    with pytest.raises(gesher.UnsupportedError, match="2 names for 1 outputs"):
        gesher.export(nn.Linear(3, 2), torch.randn(1, 3), names={"outputs": ["a", "b"]})


def test_nodes_are_named_after_their_modules() -> None:
    long = nn.Linear(3, 3)
    for _ in range(40):
        long = nn.Sequential(long)    # type: ignore[assignment]
    model = gesher.export(nn.Sequential(long, nn.ReLU()), torch.randn(1, 3))
    assert "1/Relu" in {n.name for n in model.graph.nodes}
    assert all(len(n.name.encode()) <= 100 and len(n.metadata["module"].encode()) <= 100 for n in model.graph.nodes)
