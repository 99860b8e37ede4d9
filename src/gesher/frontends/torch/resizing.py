"""Pictures in other sizes: interpolation by size and by scale, and sampling at given points."""

from __future__ import annotations

from typing import Any

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Value

from .sampling import keys_cubic, sampled
from .translation import TABLE, Translation, aten, narrow_float


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
    if t.b.opsets[""] < 18 or align:
        # Aligned corners are only a scale to PyTorch here, where ONNX moves the places too.
        _refuse_odd_scales(t, x, align, scales)
        height, width = (_weights(t, mode, align, have, want, s) for have, want, s in zip(
            t.shape(x)[2:], t.out_shape[2:], scales or (None, None)))
        height, width = t.cast(height, t.dtype(x)), t.cast(width, t.dtype(x))
        return t.b.MatMul(height, t.b.MatMul(x, t.transpose(width, [1, 0])))
    how: dict[str, Any] = {"antialias": 1, "exclude_outside": 1} | ({"cubic_coeff_a": -0.5} if mode == "cubic" else {})
    return _resize(t, x, mode, align, scales, **how)


def _weights(t: Translation, mode: str, align: bool, have: DimLike, want: DimLike, scale: float | None) -> Value:
    """What each of `have` places has in each of `want`: (want, have) in float64."""
    double = dtypes.DOUBLE

    def number(x: Any) -> Value:
        return t.value(x, double)

    def count(n: DimLike) -> Value:
        places = t.b.Range(t.constant(0, dtypes.INT64), t.value(n, dtypes.INT64), t.constant(1, dtypes.INT64))
        return t.b.Add(t.cast(places, double), number(0.5))

    if align:
        step = t.b.Div(number(have - 1), t.b.Max(number(want - 1), number(1)))
    else:
        step = t.b.Div(number(have), number(want)) if scale is None else number(1 / scale)
    away = t.b.Sub(t.unsqueeze(count(have), [0]), t.b.Mul(t.unsqueeze(count(want), [1]), step))
    d = t.b.Abs(t.b.Div(away, t.b.Max(step, number(1))))
    if mode == "linear":
        weights = t.b.Max(t.b.Sub(number(1), d), number(0))
    else:
        near, far = keys_cubic(t, d, -0.5)
        weights = t.b.Where(t.b.Less(d, number(1)), near, t.b.Where(t.b.Less(d, number(2)), far, number(0)))
    return t.b.Div(weights, t.reduce("ReduceSum", weights, [1], True))


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
    if narrow_float(t.dtype(x)):    # in which places are too coarse
        wide = TABLE[t.target](t, t.cast(x, dtypes.FLOAT), t.cast(grid, dtypes.FLOAT), mode, padding, align)
        return t.cast(wide, t.dtype(x))
    if volume and mode == 2:
        raise UnsupportedError("cubic grid_sample of volumes has no way to ONNX", who="torch")
    if opset < (20 if volume else 16):
        return sampled(t, x, grid, mode, padding, align)
    if mode == 2 and padding == 1:
        x, grid = _bordered(t, x, grid, align)
    names = ("linear", "nearest", "cubic") if opset >= 20 else ("bilinear", "nearest", "bicubic")
    return t.b.GridSample(x, t.cast(grid, t.dtype(x)), mode=names[mode], padding_mode=_PADDED[padding],
                          align_corners=int(align))
