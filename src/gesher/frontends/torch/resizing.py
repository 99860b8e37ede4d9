"""Pictures in other sizes: interpolation by size and by scale, and sampling at given points."""

from __future__ import annotations

from typing import Any

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .translation import Translation, aten


def _refuse_odd_scales(t: Translation, x: Value, align: bool, scales: Any) -> None:
    """ONNX takes scales or sizes, where PyTorch may be given both, at odds with each other."""
    if scales is None or align:
        return
    for scale, have, want in zip(scales, t.shape(x)[2:], t.out_shape[2:]):
        if scale is not None and isinstance(have, int) and isinstance(want, int) and int(have * scale) != want:
            raise UnsupportedError(f"resizing {have} to {want} by the scale {scale} has no way to ONNX", who="torch",
                                   advice="give the size or the scale")


def _resize(t: Translation, x: Value, mode: str, align: bool, scales: Any, **how: Any) -> Value:
    """By scales where PyTorch was given them (then it does not round them to sizes), else by sizes."""
    spatial = t.rank(x) - 2
    _refuse_odd_scales(t, x, align, scales)
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
    if align:
        raise UnsupportedError("antialiased resizing with align_corners is another function in ONNX", who="torch",
                               advice="align_corners=False has a way")
    how: dict[str, Any] = {"antialias": 1, "exclude_outside": 1} | ({"cubic_coeff_a": -0.5} if mode == "cubic" else {})
    return _resize(t, x, mode, align, scales, **how)


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


def _bordered(t: Translation, x: Value, grid: Value, align: bool) -> tuple[Value, Value]:
    """A wider picture, its border repeated, and the same points in it.

    PyTorch's cubic weights reach over the border, where ONNX moves points onto it first: in the wider picture no point
    is beyond it. Three places out all that is reached is the border itself, so points need not lie further.
    """
    around = 5
    wide = t.b.Pad(x, t.ints([0, 0, around, around, 0, 0, around, around]), mode="edge")
    one, half = t.scalar(1, grid), t.scalar(0.5, grid)
    sizes = [t.value(s, t.dtype(grid)) for s in reversed(t.shape(x)[2:])]    # (width, height), as points have them
    size = t.b.Concat(*(t.unsqueeze(s, [0]) for s in sizes), axis=0)
    larger = t.b.Add(size, t.scalar(2 * around, grid))
    if align:
        size, larger = t.b.Sub(size, one), t.b.Sub(larger, one)
    place = t.b.Mul(t.b.Mul(t.b.Add(grid, one), half), size)
    place = place if align else t.b.Sub(place, half)
    last = size if align else t.b.Sub(size, one)
    place = t.b.Max(t.b.Min(place, t.b.Add(last, t.scalar(3, grid))), t.scalar(-3, grid))
    place = t.b.Add(place, t.scalar(around if align else around + 0.5, grid))
    return wide, t.b.Sub(t.b.Mul(t.b.Div(place, larger), t.scalar(2, grid)), one)


@aten("grid_sampler_2d", "grid_sampler_3d", "grid_sampler")
def _(t: Translation, x: Value, grid: Value, mode: int, padding: int, align: bool) -> Value:
    opset, volume = t.b.opsets[""], t.rank(x) == 5
    if opset < (20 if volume else 16):
        raise UnsupportedError(f"grid_sample of {'volumes' if volume else 'pictures'} needs opset "
                               f"{20 if volume else 16}", who="torch")
    if volume and mode == 2:
        raise UnsupportedError("cubic grid_sample of volumes has no way to ONNX", who="torch")
    if mode == 2 and padding == 1:
        x, grid = _bordered(t, x, grid, align)
    names = ("linear", "nearest", "cubic") if opset >= 20 else ("bilinear", "nearest", "bicubic")
    return t.b.GridSample(x, t.cast(grid, t.dtype(x)), mode=names[mode], padding_mode=_PADDED[padding],
                          align_corners=int(align))
