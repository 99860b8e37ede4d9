"""Operators of torchvision and transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Value

from .translation import Translation, aten

# More boxes than a picture can have: none is left out for their number.
_ALL = np.iinfo(np.int32).max


@aten("torchvision::nms")
def _(t: Translation, boxes: Value, scores: Value, iou_threshold: float) -> Value:
    """Boxes (n,4) as two corners, scores (n): the indices of those kept, best first."""
    if t.dtype(boxes) is not dtypes.FLOAT:
        boxes, scores = t.cast(boxes, dtypes.FLOAT), t.cast(scores, dtypes.FLOAT)
    kept = t.b.NonMaxSuppression(t.unsqueeze(boxes, [0]), t.unsqueeze(scores, [0, 1]), t.ints([_ALL]),
                                 t.constant([iou_threshold], dtypes.FLOAT))
    return t.b.Gather(kept, t.constant(2, dtypes.INT64), axis=1)


@aten("torchvision::roi_align")
def _(t: Translation, x: Value, rois: Value, spatial_scale: float, pooled_height: DimLike, pooled_width: DimLike,
      sampling_ratio: int, aligned: bool) -> Value:
    """x (n,c,h,w), rois (k,5) of a picture's index and two corners: (k, c, pooled height, pooled width)."""
    if not isinstance(pooled_height, int) or not isinstance(pooled_width, int):
        raise UnsupportedError("roi_align to a size that is known only when running cannot be said in ONNX",
                               who="torch")
    if t.b.opsets[""] < 16 and aligned:
        raise UnsupportedError("roi_align(aligned=True) needs opset 16", who="torch")
    which = t.cast(t.squeeze(t.slice(rois, 1, 0, 1), [1]), dtypes.INT64)
    mode = {"coordinate_transformation_mode": "half_pixel" if aligned else "output_half_pixel"} \
        if t.b.opsets[""] >= 16 else {}
    return t.b.RoiAlign(x, t.slice(rois, 1, 1, 5), which, output_height=pooled_height, output_width=pooled_width,
                        spatial_scale=float(spatial_scale), sampling_ratio=max(sampling_ratio, 0), **mode)


@aten("torchvision::deform_conv2d")
def _(t: Translation, x: Value, w: Value, offset: Value, mask: Value, bias: Value, stride_h: int, stride_w: int,
      pad_h: int, pad_w: int, dilation_h: int, dilation_w: int, groups: int, offset_groups: int, use_mask: bool
      ) -> Value:
    return t.b.DeformConv(x, w, offset, bias, mask if use_mask else None, strides=[stride_h, stride_w],
                          pads=[pad_h, pad_w, pad_h, pad_w], dilations=[dilation_h, dilation_w], group=groups,
                          offset_group=offset_groups)


# Mixtures of experts


@aten("transformers::grouped_mm_fallback")
def _(t: Translation, x: Value, w: Value, ends: Value) -> Value:
    return grouped(t, x, w, ends)


@aten("_grouped_mm")
def _(t: Translation, x: Value, w: Value, ends: Value | None = None, bias: Value | None = None,
      out_dtype: Any = None) -> Value:
    if bias is not None or (ends is None and (t.rank(x), t.rank(w)) != (3, 3)) or \
            (ends is not None and (t.rank(x), t.rank(w)) != (2, 3)):
        raise UnsupportedError("grouped_mm in this form has no way to ONNX yet", who="torch",
                               advice="rows (s,k) by experts (e,k,n) with offsets, or batches (e,m,k) by (e,k,n), do")
    made = t.b.MatMul(x, w) if ends is None else grouped(t, x, w, ends)
    return t.cast(made, t.out_dtype)


def grouped(t: Translation, x: Value, w: Value, ends: Value) -> Value:
    """Rows of x (s,k), sorted by expert, each times its expert's matrix of w (e,k,n); expert i's rows end at ends[i].

    Each expert multiplies its own rows only. Rows behind the last end are zero.
    """
    experts, rows = t.shape(w)[0], t.shape(x)[0]
    if not isinstance(experts, int):
        raise UnsupportedError("a number of experts that is known only when running cannot be said in ONNX",
                               who="torch")
    ends = t.cast(ends, dtypes.INT64)
    bounds = t.b.Concat(t.ints([0]), ends, t.sizes.vector([rows]), axis=0)
    counts = t.b.Sub(t.slice(bounds, 0, 1, experts + 2), t.slice(bounds, 0, 0, experts + 1))
    pieces = t.b.Split(x, counts, axis=0, outputs=experts + 1)
    if experts == 1:
        matrices: Any = (w,)
    elif t.b.opsets[""] >= 18:
        matrices = t.b.Split(w, axis=0, num_outputs=experts, outputs=experts)
    else:
        matrices = t.b.Split(w, axis=0, outputs=experts)
    made = [t.b.MatMul(piece, matrix) for piece, matrix in zip(pieces, matrices)]
    # What no expert takes is multiplied by zeros.
    nothing = t.b.MatMul(pieces[-1], t.b.Mul(matrices[0], t.scalar(0, w)))
    return t.reshape(t.b.Concat(*made, nothing, axis=1), t.out_shape)
