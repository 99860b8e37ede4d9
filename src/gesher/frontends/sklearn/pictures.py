"""Patches of pictures: a picture becomes as many rows as it has places for a patch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .translation import Outputs, Translation, columnwise, refuse, translates

columnwise("feature_extraction.PatchExtractor")


@translates("feature_extraction.PatchExtractor")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    """(pictures, height, width[, channels]) as (pictures * patches, height, width[, channels])."""
    if model.max_patches:
        raise refuse(model, f"(max_patches={model.max_patches})",
                     "which patches it takes of each picture is drawn at random; max_patches=None has")
    if not isinstance(x, Value):
        raise refuse(model, " on columns", "give pictures as one array (pictures, height, width)")
    _, height, width, *channels = t.b.shape(x) or ()
    depth = channels[0] if channels else 1
    assert isinstance(height, int) and isinstance(width, int) and isinstance(depth, int)
    tall, wide = model.patch_size or (height // 10, width // 10)
    if tall > height or wide > width:
        raise refuse(model, f" of patches of {tall} x {wide} on pictures of {height} x {width}")
    i, j = np.arange(height - tall + 1), np.arange(width - wide + 1)
    rows = i[:, None, None, None] + np.arange(tall)[:, None]    # (down, 1, tall, 1)
    columns = j[:, None, None] + np.arange(wide)    # (across, 1, wide)
    places = (rows * width + columns).reshape(-1)
    points = t.b.Reshape(t.number(x), t.axes(0, height * width, depth))
    picked = t.b.Gather(points, t.b.constant(places), axis=1)
    shape = (-1, tall, wide, depth) if depth > 1 else (-1, tall, wide)
    return Outputs(transformed=t.b.Reshape(picked, t.axes(*shape)))
