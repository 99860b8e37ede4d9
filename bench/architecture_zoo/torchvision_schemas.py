"""torchvision without its C extension: what it registers meanings for must have been declared before it is imported.

Importing this module declares the schemas (as torchvision's own C++ does), once, and only where torchvision's extension
does not load. transformers and timm import torchvision too.
"""

from __future__ import annotations

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)

_LIBRARY: list[torch.library.Library] = []    # the declarations last as long as this


def declare() -> None:
    """Declare what is missing."""
    if _LIBRARY or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    _LIBRARY.append(library)


declare()
