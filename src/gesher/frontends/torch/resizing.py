"""Pictures in other sizes: interpolation by size and by scale, and sampling at given points."""

from __future__ import annotations

from typing import Any

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .translation import Translation, aten


def _resize(t: Translation, x: Value, mode: str, align: bool, scales: Any, **how: Any) -> Value:
    """By scales where PyTorch was given them (then it does not round them to sizes), else by sizes."""
    spatial = t.rank(x) - 2
    how |= {"mode": mode, "coordinate_transformation_mode": "align_corners" if align else "half_pixel"}
    if scales is not None and all(s is not None for s in scales) and not align and len(scales) == spatial:
        return t.b.Resize(x, None, t.constant([1.0, 1.0, *scales], dtypes.FLOAT), None, **how)
    return t.b.Resize(x, None, None, t.sizes.vector(t.out_shape), **how)


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def _(t: Translation, x: Value, size: Any, scales: Any = None) -> Value:
    spatial = t.rank(x) - 2
    given = scales if scales is not None and len(scales) == spatial else None
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if given is not None:
        return t.b.Resize(x, None, t.constant([1.0, 1.0, *given], dtypes.FLOAT), None, **how)
    return t.b.Resize(x, None, None, t.sizes.vector(t.out_shape), **how)


@aten("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def _(t: Translation, x: Value, size: Any, align: bool, scales: Any = None) -> Value:
    return _resize(t, x, "linear", align, scales)


@aten("upsample_bicubic2d.vec")
def _(t: Translation, x: Value, size: Any, align: bool, scales: Any = None) -> Value:
    return _resize(t, x, "cubic", align, scales, cubic_coeff_a=-0.75)


def _antialiased(t: Translation, x: Value, mode: str, align: bool, scales: Any) -> Value:
    """Shrunk pictures are weighted over all that falls into a place, as Pillow does it; its cubic is of a = -1/2."""
    if t.b.opsets[""] < 18:
        raise UnsupportedError("antialiased resizing needs opset 18", who="torch")
    how: dict[str, Any] = {"mode": mode, "antialias": 1, "exclude_outside": 1,
                           "coordinate_transformation_mode": "align_corners" if align else "half_pixel"}
    if mode == "cubic":
        how["cubic_coeff_a"] = -0.5
    return _resize(t, x, mode, align, scales, **{k: v for k, v in how.items()
                                                 if k not in ("mode", "coordinate_transformation_mode")})


@aten("_upsample_bilinear2d_aa.vec")
def _(t: Translation, x: Value, size: Any, align: bool, scales: Any = None) -> Value:
    return _antialiased(t, x, "linear", align, scales)


@aten("_upsample_bicubic2d_aa.vec")
def _(t: Translation, x: Value, size: Any, align: bool, scales: Any = None) -> Value:
    return _antialiased(t, x, "cubic", align, scales)


@aten("_upsample_bilinear2d_aa")
def _(t: Translation, x: Value, size: Any, align: bool, height: Any = None, width: Any = None) -> Value:
    return _antialiased(t, x, "linear", align, None if height is None else [height, width])


@aten("_upsample_bicubic2d_aa")
def _(t: Translation, x: Value, size: Any, align: bool, height: Any = None, width: Any = None) -> Value:
    return _antialiased(t, x, "cubic", align, None if height is None else [height, width])


_PADDED = ("zeros", "border", "reflection")


@aten("grid_sampler_2d", "grid_sampler_3d", "grid_sampler")
def _(t: Translation, x: Value, grid: Value, mode: int, padding: int, align: bool) -> Value:
    opset, volume = t.b.opsets[""], t.rank(x) == 5
    if opset < (20 if volume else 16):
        raise UnsupportedError(f"grid_sample of {'volumes' if volume else 'pictures'} needs opset "
                               f"{20 if volume else 16}", who="torch")
    if volume and mode == 2:
        raise UnsupportedError("cubic grid_sample of volumes has no way to ONNX", who="torch")
    names = ("linear", "nearest", "cubic") if opset >= 20 else ("bilinear", "nearest", "bicubic")
    return t.b.GridSample(x, t.cast(grid, t.dtype(x)), mode=names[mode], padding_mode=_PADDED[padding],
                          align_corners=int(align))
