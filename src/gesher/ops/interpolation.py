"""Sampling along axes: where an output element lies in the input, and which input elements weigh how much in it.

Coordinates are computed in float32, step by step as written here, in the reference and in compiled code alike: a
nearest neighbour hangs on the last bit, and this is also what ONNX Runtime does.

What a reader would guess wrong: `align_corners` and `half_pixel_symmetric` use the width `scale * size`, with its
fraction, where scales were given; everything else uses the whole size of the output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.primitives import Builder, Expr


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one axis is resampled.

    Attributes:
        axis: which one.
        size, count: of the axis before and after.
        scale: as it was given (a float32), or None where it is count / size.
    """

    axis: int
    size: DimLike
    count: DimLike
    scale: float | None = None

    @property
    def is_identity(self) -> bool:
        """True where nothing changes along the axis (unless a region of interest is cut out)."""
        return self.size == self.count and self.scale in (None, 1.0)


@dataclass(frozen=True, slots=True)
class At:
    """The numbers of a coordinate transformation, float32 in numpy or as expressions: see `COORDINATES`."""

    x: Any
    size: Any
    scale: Any
    width: Any
    count: Any
    start: Any
    end: Any
    # unless_one(n, a, b): a, but b where n is 1.
    unless_one: Callable[[Any, Any, Any], Any]


def _symmetric(at: At) -> Any:
    return at.size / 2 * (1 - at.count / at.width) + (at.x + 0.5) / at.scale - 0.5


def _crop(at: At) -> Any:
    last = at.size - 1
    spread = at.start * last + at.x * (at.end - at.start) * last / (at.count - 1)
    return at.unless_one(at.count, spread, at.x + (at.start + at.end) * 0.5 * last)


COORDINATES: dict[str, Callable[[At], Any]] = {
    "half_pixel":           lambda at: (at.x + 0.5) / at.scale - 0.5,
    "pytorch_half_pixel":   lambda at: at.unless_one(at.count, (at.x + 0.5) / at.scale - 0.5, at.x * 0),
    "align_corners":        lambda at: at.unless_one(at.width, at.x * (at.size - 1) / (at.width - 1), at.x * 0),
    "asymmetric":           lambda at: at.x / at.scale,
    "tf_half_pixel_for_nn": lambda at: (at.x + 0.5) / at.scale,
    "half_pixel_symmetric": _symmetric,
    "tf_crop_and_resize":   _crop,
}
"""Where an output element lies in the input, by `coordinate_transformation_mode`."""

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
"""The nearest modes; `simple` is what Upsample and Resize 10 do: down, but up where the axis shrinks."""


@dataclass(frozen=True, slots=True)
class Method:
    """How elements between others come about; fields as Resize's attributes.

    Raises:
        ModelError: a mode is unknown, or modes contradict each other.
    """

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0

    def __post_init__(self) -> None:
        for name, value, known in (("mode", self.mode, ("nearest", "linear", "cubic")),
                                   ("coordinate_transformation_mode", self.coordinates, tuple(COORDINATES)),
                                   ("nearest_mode", self.nearest, NEAREST)):
            if value not in known:
                raise ModelError(f"{name} cannot be '{value}'", rule="resize", advice="it is " + ", ".join(known))
        if self.antialias and self.mode == "nearest":
            raise ModelError("antialias needs the mode linear or cubic", rule="resize")

    @property
    def crops(self) -> bool:
        return self.coordinates == "tf_crop_and_resize"


# In numpy

def coordinates(s: Sampling, method: Method, roi: tuple[Any, Any] = (0, 1)) -> Any:
    """The place of every output element along the axis, float32 (count,)."""
    f32 = np.float32
    size, count = f32(s.size), f32(s.count)  # type: ignore[arg-type]
    scale = count / size if s.scale is None else f32(s.scale)
    at = At(np.arange(s.count, dtype=f32), size, scale, count if s.scale is None else scale * size,  # type: ignore[arg-type]
            count, f32(roi[0]), f32(roi[1]), lambda n, a, b: b if n == 1 else a)
    with np.errstate(all="ignore"):
        return COORDINATES[method.coordinates](at)


def taps(s: Sampling, x: Any, method: Method) -> tuple[Any, Any]:
    """Which elements weigh how much at the places `x`: indices (count, taps) int64 and weights of that shape, or None
    for the weights where each place takes one element."""
    size = int(s.size)  # type: ignore[arg-type]
    if method.mode == "nearest":
        return np.clip(_nearest(x, method.nearest, s), 0, size - 1).astype(np.int64)[:, None], None
    shrink = np.float32(min(_scale(s), 1)) if method.antialias else np.float32(1)
    reach = np.float32(1 if method.mode == "linear" else 2) / shrink
    # From the first element that a filter of this reach sees.
    first = np.floor(x - reach) + 1
    index = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1, dtype=np.float32)
    weights = filter_of((index - x[:, None]) * shrink, method)
    # Plain linear weights outside would count for the element at the edge, which is then left alone: the same.
    excludes = method.exclude_outside and (method.antialias or method.mode == "cubic")
    if excludes:
        weights = np.where((index >= 0) & (index < size), weights, np.float32(0))
    if excludes or method.antialias:
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, np.float32(1), total)
    return np.clip(index, 0, size - 1).astype(np.int64), weights


# Elements of an axis of which an enlargement is tried out.
_TRIED = 4096


def whole_enlargement(s: Sampling, method: Method) -> int | None:
    """k, where to the nearest means that each element comes k times in a row, whatever the size of the axis.

    >>> whole_enlargement(Sampling(2, 40, 80, 2.0), Method("nearest", "asymmetric", "floor"))
    2
    """
    if method.crops or s.scale is None or not 2 <= s.scale <= 64 or s.scale != int(s.scale) \
            or s.count != s.size * int(s.scale) or (isinstance(s.size, int) and s.size > 1 << 16):
        return None
    k, n = int(s.scale), _TRIED if not isinstance(s.size, int) else max(s.size, 1)
    tried = Sampling(s.axis, n, n * k, s.scale)
    index, _ = taps(tried, coordinates(tried, method), method)
    return k if bool((index[:, 0] == np.arange(n * k) // k).all()) else None


def _scale(s: Sampling) -> Any:
    return np.float32(s.count) / np.float32(s.size) if s.scale is None else np.float32(s.scale)  # type: ignore[arg-type]


def _nearest(x: Any, mode: str, s: Sampling) -> Any:
    low = np.floor(x)
    if mode == "simple":
        mode = "ceil" if _scale(s) < 1 else "floor"
    if mode in ("floor", "ceil"):
        return low if mode == "floor" else np.ceil(x)
    # x - low is exact, x + 0.5 is not.
    return np.where(x - low <= 0.5, low, low + 1) if mode == "round_prefer_floor" else np.where(
        x - low < 0.5, low, low + 1)


def filter_of(t: Any, method: Method) -> Any:
    """The weight of an element at distance t."""
    t, a = np.abs(t), np.float32(method.cubic)
    if method.mode == "linear":
        return np.maximum(1 - t, 0)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, np.float32(0)))


def outside(s: Sampling, x: Any) -> Any:
    """Which places lie outside the data."""
    return (x < 0) | (x > np.float32(s.size) - 1)  # type: ignore[arg-type]


# As expressions

def coordinates_expr(p: Builder, s: Sampling, method: Method, roi: tuple[Any, Any] = (0.0, 1.0)) -> Expr:
    """As `coordinates`."""
    x = p.iota((s.count,), 0, dtypes.FLOAT)
    size, count = p.size(s.size, dtypes.FLOAT), p.size(s.count, dtypes.FLOAT)
    scale = scale_expr(p, s)
    width = count if s.scale is None else scale * size
    start, end = (p.operand(r, dtypes.FLOAT) for r in roi)
    places = COORDINATES[method.coordinates](At(x, size, scale, width, count, start, end,
                                                lambda n, a, b: p.select(p.eq(n, 1.0), b, a)))
    # The one transformation that moves an axis although it keeps its size, which `is_identity` leaves alone.
    return p.select(p.eq(scale, 1.0), x, places) if method.coordinates == "tf_half_pixel_for_nn" else places


def scale_expr(p: Builder, s: Sampling) -> Expr:
    if s.scale is not None:
        return p.scalar(s.scale, dtypes.FLOAT)
    return p.size(s.count, dtypes.FLOAT) / p.size(s.size, dtypes.FLOAT)


def index_expr(p: Builder, s: Sampling, index: Expr) -> Expr:
    """Float indices, moved to the nearest that the axis has."""
    last = p.size(s.size, dtypes.FLOAT) - 1.0
    return p.cast(p.max(p.min(index, last), 0.0), dtypes.INT64)


def nearest_expr(p: Builder, s: Sampling, x: Expr, mode: str) -> Expr:
    """Which element each place takes."""
    low = p.floor(x)
    if mode == "simple":
        shrinks = scale_expr(p, s) < 1.0
        return index_expr(p, s, p.select(shrinks, p.ceil(x), low))
    if mode in ("floor", "ceil"):
        return index_expr(p, s, low if mode == "floor" else p.ceil(x))
    rest = x - low
    return index_expr(p, s, p.select(rest <= 0.5 if mode == "round_prefer_floor" else rest < 0.5, low, low + 1.0))


def filter_expr(p: Builder, t: Expr, method: Method) -> Expr:
    """As `filter_of`."""
    t, a = p.abs(t), float(np.float32(method.cubic))
    if method.mode == "linear":
        return p.max(1.0 - t, 0.0)
    near = (t * (a + 2) - (a + 3)) * t * t + 1.0
    far = ((t * a - 5 * a) * t + 8 * a) * t - 4 * a
    return p.select(t <= 1.0, near, p.select(t < 2.0, far, 0.0))
