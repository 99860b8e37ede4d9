"""Custom operators cross: a user's own through the public decorator, and those of torchvision and transformers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends.torch.translators import TABLE

torch.set_num_threads(1)


def agrees(module: nn.Module, example: dict[str, torch.Tensor], **how: Any) -> gesher.Model:
    """Export, which holds the result on the reference, and hold it on ONNX Runtime too."""
    model = gesher.export(module, example, **how)
    assert gesher.check(model).ok, str(gesher.check(model))
    with torch.no_grad():
        want = torch.utils._pytree.tree_leaves(module(**example))
    with gesher.session(model, "onnxruntime", threads=1) as session:
        got = session.run({k: v.numpy() for k, v in example.items()})
    for value, answer in zip(got.values(), want):
        d = difference(value, answer.numpy())
        assert d.ok, d
    return model


@torch.library.custom_op("gesher_tests::swap_halves", mutates_args=())
def swap_halves(x: torch.Tensor, dim: int = -1, factor: float = 1.0) -> torch.Tensor:
    first, second = x.chunk(2, dim)
    return torch.cat([second, first], dim) * factor


@swap_halves.register_fake
def _(x: torch.Tensor, dim: int = -1, factor: float = 1.0) -> torch.Tensor:
    return torch.empty_like(x)


class Swapping(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return swap_halves(x.relu(), 1) + swap_halves(x, factor=0.5)


@pytest.fixture
def registered() -> Any:
    before = dict(TABLE)
    yield
    TABLE.clear()
    TABLE.update(before)


def test_a_users_operator_is_refused_by_name_until_it_has_a_translator(registered: Any) -> None:
    example = {"x": torch.randn(2, 4, 6)}
    with pytest.raises(gesher.UnsupportedError, match=r"gesher_tests.swap_halves.default \(2 times"):
        gesher.export(Swapping(), example)

    @gesher.translates("gesher_tests::swap_halves")
    def _(t: Any, x: Any, dim: int, factor: float) -> Any:
        axis = t.axis(dim, t.rank(x))
        first, second = t.b.Split(x, axis=axis, num_outputs=2, outputs=2)
        return t.b.Mul(t.b.Concat(second, first, axis=axis), t.scalar(factor, x))

    model = agrees(Swapping(), example, dynamic={"x": {0: "batch"}})
    assert [n.op_type for n in model.graph.nodes].count("Split") == 2


def test_a_wrong_translator_is_found_out(registered: Any) -> None:
    @gesher.translates("gesher_tests::swap_halves")
    def _(t: Any, x: Any, dim: int, factor: float) -> Any:
        return t.b.Identity(x)

    with pytest.raises(gesher.ModelError, match="differently"):
        gesher.export(Swapping(), {"x": torch.randn(2, 4, 6)})


def test_a_translator_is_replaced_only_where_that_is_said(registered: Any) -> None:
    for name, says in (("aten::relu", "already"), ("relu", "no name"), ("a::b::c", "no name")):
        with pytest.raises(gesher.UnsupportedError, match=says):
            gesher.translates(name)

    @gesher.translates("aten::relu", replace=True)
    def _(t: Any, x: Any) -> Any:
        return t.b.Max(x, t.scalar(0, x))

    model = agrees(nn.ReLU(), {"input": torch.randn(3, 4)})
    assert [n.op_type for n in model.graph.nodes] == ["Max"]


# torchvision: its C extension need not load. The schemas are declared, and what its operators compute is written here.


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    left, kept = scores.argsort(descending=True, stable=True), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[left, :2])
        high = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        both = (high - low).clamp(min=0).prod(1)
        left = left[both / (_areas(boxes[left]) + _areas(boxes[best][None]) - both) <= iou_threshold]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64)


def roi_align(x: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool
              ) -> torch.Tensor:
    def at(plane: torch.Tensor, y: float, x: float) -> torch.Tensor:
        h, w = plane.shape[1:]
        if y < -1 or y > h or x < -1 or x > w:
            return torch.zeros(len(plane))
        y, x = max(y, 0.0), max(x, 0.0)
        i, j = min(int(y), h - 1), min(int(x), w - 1)
        i2, j2 = min(i + 1, h - 1), min(j + 1, w - 1)
        y, x = min(y, h - 1.0), min(x, w - 1.0)
        b, a = y - i, x - j
        return (plane[:, i, j] * (1 - b) * (1 - a) + plane[:, i, j2] * (1 - b) * a + plane[:, i2, j] * b * (1 - a)
                + plane[:, i2, j2] * b * a)

    out = torch.zeros(len(rois), x.shape[1], height, width)
    for k, (n, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (c * scale - (0.5 if aligned else 0) for c in corners)
        wide, high = right - left, bottom - top
        if not aligned:
            wide, high = max(wide, 1.0), max(high, 1.0)
        rows, columns = (ratio, ratio) if ratio > 0 else (math.ceil(high / height), math.ceil(wide / width))
        for i in range(height):
            for j in range(width):
                points = [at(x[int(n)], top + (i + (p + 0.5) / rows) * high / height,
                             left + (j + (q + 0.5) / columns) * wide / width)
                          for p in range(rows) for q in range(columns)]
                out[k, :, i, j] = sum(points) / max(len(points), 1)
    return out


@pytest.fixture(scope="module")
def torchvision() -> Any:
    """torchvision's Python parts over operators that are declared by hand where its extension does not load."""
    schemas = {"nms": ("(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", nms),
               "qnms": ("(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", nms),
               "roi_align": ("(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
                             "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor", roi_align)}
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, (schema, function) in schemas.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + schema)
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{name}", "CPU"):
            library.impl(name, function, "CPU")
    if not torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::roi_align", "Meta"):
        library.impl("roi_align", lambda x, rois, scale, height, width, ratio, aligned:
                     x.new_empty((rois.size(0), x.shape[1], height, width)), "Meta")
    pytest.importorskip("torchvision")
    yield torch.ops.torchvision
    del library


def boxes(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 10
    return torch.cat([corner, corner + 1 + torch.rand(n, 2, generator=generator) * 6], 1)


class Suppressing(nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = torch.ops.torchvision.nms(boxes, scores, 0.3)
        return kept, boxes[kept] * 2


def test_nms_crosses_with_as_many_boxes_as_are_left(torchvision: Any) -> None:
    example = {"boxes": boxes(12, 0), "scores": torch.rand(12, generator=torch.Generator().manual_seed(1))}
    model = agrees(Suppressing(), example, dynamic={"boxes": {0: "n"}, "scores": {0: "n"}})
    with gesher.session(model, "compiled") as session:
        for n in (1, 5, 40):
            b, s = boxes(n, n), torch.rand(n, generator=torch.Generator().manual_seed(n))
            kept, doubled = session.run({"boxes": b.numpy(), "scores": s.numpy()}).values()
            assert kept.tolist() == nms(b, s, 0.3).tolist() and doubled.shape == (len(kept), 4)


def test_boxes_of_several_classes_cross_however_many_are_left(torchvision: Any, monkeypatch: pytest.MonkeyPatch
                                                              ) -> None:
    from torchvision import extension
    from torchvision.ops import boxes as source

    monkeypatch.setattr(extension, "_has_ops", lambda: True)

    class Kept(nn.Module):
        def forward(self, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            likely = torch.where(scores > 0.4)[0]
            return likely[source.batched_nms(boxes[likely], scores[likely], labels[likely], 0.3)]

    made = [boxes(30, 0), torch.rand(30, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 3]
    names = ("boxes", "scores", "labels")
    model = gesher.export(Kept(), dict(zip(names, made)))
    with gesher.session(model, "onnxruntime") as session:
        for scores in (made[1], made[1] * 0.3, made[1] * 0.2 + 0.5):
            got = session.run(dict(zip(names, (made[0].numpy(), scores.numpy(), made[2].numpy()))))
            assert next(iter(got.values())).tolist() == Kept()(made[0], scores, made[2]).tolist()


@pytest.mark.parametrize(("ratio", "aligned"), [(2, True), (2, False), (0, True)])
def test_roi_align_crosses(torchvision: Any, ratio: int, aligned: bool) -> None:
    class Aligning(nn.Module):
        def forward(self, x: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
            return torch.ops.torchvision.roi_align(x, rois, 0.5, 2, 3, ratio, aligned)

    rois = torch.cat([torch.tensor([[0.0], [1.0], [1.0]]), boxes(3, 4)], 1)
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(5))
    agrees(Aligning(), {"x": x, "rois": rois}, dynamic={"rois": {0: "k"}})


def test_experts_multiply_their_own_rows() -> None:
    """transformers' grouped matrix product: rows sorted by expert, one expert without any, some rows of no expert."""
    pytest.importorskip("transformers.integrations.moe")

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(6)))

        def forward(self, x: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
            return torch.ops.transformers.grouped_mm_fallback(x, self.weight, ends)

    module = Experts()
    example = {"x": torch.randn(9, 5), "ends": torch.tensor([3, 3, 7, 8])}
    model = agrees(module, example)
    with gesher.session(model, "compiled") as session, torch.no_grad():
        for ends in ([0, 0, 0, 0], [9, 9, 9, 9], [1, 2, 3, 9]):
            example["ends"] = torch.tensor(ends)
            [got] = session.run({k: v.numpy() for k, v in example.items()}).values()
            np.testing.assert_allclose(got, module(**example).numpy(), rtol=1e-4, atol=1e-5)


def test_a_mixture_of_experts_crosses_by_grouped_products() -> None:
    """A sparse block as transformers writes it: rows sorted by expert, each group times its matrix."""
    pytest.importorskip("transformers.integrations.moe")

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            g = torch.Generator().manual_seed(7)
            self.gate = nn.Parameter(torch.randn(6, 4, generator=g))
            self.up = nn.Parameter(torch.randn(4, 6, 5, generator=g))
            self.down = nn.Parameter(torch.randn(4, 5, 6, generator=g))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights, experts = (x @ self.gate).softmax(-1).topk(2, -1)
            flat = experts.reshape(-1)
            order = flat.argsort(stable=True)
            ends = (flat[:, None] <= torch.arange(4)).sum(0).to(torch.int32)
            rows = x.index_select(0, order // 2)
            grouped = torch.ops.transformers.grouped_mm_fallback
            y = grouped(grouped(rows, self.up, ends).relu(), self.down, ends) * weights.reshape(-1)[order].unsqueeze(1)
            return torch.zeros_like(x).index_add(0, order // 2, y)

    agrees(Mixture(), {"x": torch.randn(5, 6, generator=torch.Generator().manual_seed(8))},
           dynamic={"x": {0: "rows"}})
