"""torchvision without its C extension: what it registers meanings for must have been declared before it is imported.

Importing this module declares the schemas (as torchvision's own C++ does), once, and only where torchvision's extension
does not load. transformers and timm import torchvision too.
"""

from __future__ import annotations

from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)

_LIBRARY: list[torch.library.Library] = []    # the declarations last as long as this


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Which boxes stay, best first: each takes away those behind it that it overlaps by more than the threshold."""
    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while order:
        best, *rest = order
        kept.append(best)
        low, high = boxes[rest, :2].maximum(boxes[best, :2]), boxes[rest, 2:].minimum(boxes[best, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        overlap = shared / (area[rest] + area[best] - shared)
        # Boxes without area overlap by 0/0, which is above nothing: they stay, as in torchvision.
        order = [i for i, o in zip(rest, overlap.tolist()) if not o > iou_threshold]
    return torch.tensor(kept, dtype=torch.int64)


def _roi_align(*args: Any) -> torch.Tensor:
    from torchvision.ops.roi_align import _roi_align as in_python

    return in_python(*args)


def complete() -> None:
    """Tell torchvision that its operators are there, once it is imported."""
    from torchvision import extension

    extension._has_ops = lambda: True


def declare() -> None:
    """Declare what is missing."""
    if _LIBRARY or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    for name in ("nms", "qnms"):
        library.impl(name, _nms, "CPU")
    library.impl("roi_align", _roi_align, "CPU")
    _LIBRARY.append(library)


declare()
