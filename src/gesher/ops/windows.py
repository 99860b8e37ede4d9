"""How windows lie over the spatial axes of a convolution or a pooling: sizes, pads and counts, exact for symbolic dims.

All rules of these operators ask here, so that inference, reference and lowering cannot disagree about a shape. What a
reader would guess wrong:

- `auto_pad` other than NOTSET overrules `pads`, and SAME_* never cuts: its pads are at least 0.
- With `ceil_mode`, a last window that would start in the padding behind the data is left out, in every version: older
  texts do not say so, but no implementation makes such a window, which would see nothing but padding.
- `ceil_mode` makes windows hang over the padded end. What they see there is no padding: an average does not count it.
  So a window larger than the padded data is one window, where less than a stride is missing.
- Data in which no window fits are refused, not answered with nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.primitives.shapes import Demanded
from gesher.symbolic import ceil_div, decide_lt, maximum, minimum


def whole(sizes: Iterable[DimLike]) -> tuple[int, ...]:
    """Sizes that are all numbers, as in a reference rule; `TypeError` for a symbolic one."""
    return tuple(map(operator.index, sizes))  # type: ignore[arg-type]


def pairs(pads: Iterable[tuple[DimLike, DimLike]]) -> list[tuple[int, int]]:
    """Pads that are all numbers."""
    return [(operator.index(low), operator.index(high)) for low, high in pads]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows over spatial axes; every field has one entry for each of them.

    Attributes:
        sizes: of the data, without padding.
        kernel: taps of a window.
        strides, dilations: distances between windows, and between taps.
        pads: what is added before and behind the data.
        counts: how many windows there are: the spatial sizes of the output.
        demands: what symbolic sizes must be for one window to fit; a lowering holds its result to them.
    """

    sizes: tuple[DimLike, ...]
    kernel: tuple[DimLike, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[DimLike, DimLike], ...]
    counts: tuple[DimLike, ...]
    demands: tuple[Demanded, ...]

    @property
    def reach(self) -> tuple[DimLike, ...]:
        """How many elements a window spans from its first tap to its last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations))

    @property
    def filled(self) -> tuple[tuple[DimLike, DimLike], ...]:
        """Pads with which the last window ends inside the padded data: behind it more than `pads` under `ceil_mode`."""
        return tuple((low, maximum((n - 1) * s + r - size - low, 0))
                     for size, (low, _), n, s, r in zip(self.sizes, self.pads, self.counts, self.strides, self.reach))

    def taps(self) -> Iterator[tuple[int, ...]]:
        """The position of every tap in the kernel, in row-major order (only where the kernel is known)."""
        return product(*map(range, whole(self.kernel)))

    def slices(self, tap: Sequence[int]) -> tuple[slice, ...]:
        """What a tap sees of the data padded as `filled` (or `pads`, without `ceil_mode`), one element a window."""
        return tuple(slice(t * d, t * d + s * (n - 1) + 1, s) if n else slice(0, 0)
                     for t, d, s, n in zip(tap, self.dilations, self.strides, whole(self.counts)))


def lay(sizes: Sequence[DimLike], kernel: Sequence[DimLike], *, strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None, pads: Sequence[int] | None = None, auto_pad: str = "NOTSET",
        ceil_mode: int = 0) -> Windows:
    """Lay windows of `kernel` taps over data of these spatial sizes, from the attributes as a node has them.

    >>> lay([224, 224], [7, 7], strides=(2, 2), pads=(3, 3, 3, 3)).counts
    (112, 112)

    Raises:
        ModelError: the attributes contradict each other, or a window is larger than the padded data.
    """
    rank = len(sizes)
    if len(kernel) != rank:
        raise ModelError(f"the kernel has {len(kernel)} spatial axes, the data {rank}", rule="windows")
    if any(isinstance(k, int) and k < 1 for k in kernel):
        raise ModelError(f"the kernel {list(kernel)} has an axis without extent", rule="windows")
    stride, dilation = per_axis("strides", strides, rank), per_axis("dilations", dilations, rank)
    if auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad cannot be {auto_pad!r}", rule="windows",
                         advice="it is NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    given = explicit_pads(pads, rank)
    laid: list[tuple[DimLike, DimLike]] = []
    counts: list[DimLike] = []
    demands: list[Demanded] = []
    for i, (size, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation)):
        reach = d * (k - 1) + 1
        if auto_pad.startswith("SAME"):
            count = ceil_div(size, s)
            low, high = split_pad(maximum((count - 1) * s + reach - size, 0), upper=auto_pad == "SAME_UPPER")
        else:
            low, high = given[i] if auto_pad != "VALID" else (0, 0)
            padded = size + low + high
            needed = reach - (s - 1) if ceil_mode else reach
            demands.append(("most", needed, padded))
            if decide_lt(padded, needed):
                raise ModelError(f"a window of {reach} does not fit into {padded} elements on spatial axis {i}",
                                 rule="windows", advice=f"the data has {size} there, padded by {low} and {high}")
            if ceil_mode:
                count = minimum(ceil_div(padded - reach, s) + 1, ceil_div(size + low, s))
            else:
                count = (padded - reach) // s + 1
        laid.append((low, high))
        counts.append(count)
    return Windows(tuple(sizes), tuple(kernel), stride, dilation, tuple(laid), tuple(counts), tuple(demands))


def split_pad(total: DimLike, *, upper: bool) -> tuple[DimLike, DimLike]:
    """A padding in two halves; where it is odd, the larger one comes behind (`upper`) or in front."""
    half = total // 2
    return (half, total - half) if upper else (total - half, half)


def per_axis(name: str, given: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """An attribute of one positive number for each spatial axis, 1 where it is not written.

    Raises:
        ModelError: too many, too few, or one below 1.
    """
    if given is None or not len(given):
        return (1,) * rank
    if len(given) != rank:
        raise ModelError(f"{name} has {len(given)} entries for {rank} spatial axes", rule="windows")
    if min(given) < 1:
        raise ModelError(f"{name} must be at least 1, not {list(given)}", rule="windows")
    return tuple(given)


def explicit_pads(pads: Sequence[int] | None, rank: int) -> tuple[tuple[int, int], ...]:
    """The attribute `pads`, all beginnings and then all ends, as pairs for each spatial axis.

    Raises:
        ModelError: not two for each axis, or a negative one.
    """
    if pads is None or not len(pads):
        return ((0, 0),) * rank
    if len(pads) != 2 * rank:
        raise ModelError(f"pads has {len(pads)} entries, {rank} spatial axes need {2 * rank}", rule="windows")
    if min(pads) < 0:
        raise ModelError(f"pads cannot be negative: {list(pads)}", rule="windows",
                         advice="cut the data with Slice before it")
    return tuple(zip(pads[:rank], pads[rank:]))


@dataclass(frozen=True, slots=True)
class Spread:
    """How a transposed convolution spreads over each spatial axis.

    Attributes:
        strides, dilations: distances between the prints of two elements, and between the taps of one.
        pads: what is cut off the full print before and behind.
        extra: what is put behind the full print, zeros.
        counts: the spatial sizes of the output.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[DimLike, DimLike], ...]
    extra: tuple[DimLike, ...]
    counts: tuple[DimLike, ...]


def spread(sizes: Sequence[DimLike], kernel: Sequence[DimLike], *, strides: Sequence[int] | None = None,
           dilations: Sequence[int] | None = None, pads: Sequence[int] | None = None, auto_pad: str = "NOTSET",
           output_padding: Sequence[int] | None = None, output_shape: Sequence[int] | None = None) -> Spread:
    """Where the output of a transposed convolution lies in its full print, which spans (size - 1) * stride + reach.

    `output_shape` (spatial sizes; batch and channels before them are let pass) and SAME_* settle the size and cut the
    rest off on both sides; where there is nothing to cut, zeros come behind. SAME_* makes size * stride, as the text
    says and TensorFlow does, even where the prints are smaller than the stride (ONNX Runtime then makes less).

    Raises:
        ModelError: the attributes contradict each other.
    """
    rank = len(sizes)
    if len(kernel) != rank:
        raise ModelError(f"the kernel has {len(kernel)} spatial axes, the data {rank}", rule="windows")
    stride, dilation = per_axis("strides", strides, rank), per_axis("dilations", dilations, rank)
    more = tuple(output_padding or (0,) * rank)
    wanted = tuple(output_shape or ())
    if len(more) != rank or min(more, default=0) < 0:
        raise ModelError(f"output_padding must be {rank} numbers of at least 0, not {list(more)}", rule="windows")
    if len(wanted) not in (0, rank, rank + 2):
        raise ModelError(f"output_shape has {len(wanted)} entries for {rank} spatial axes", rule="windows")
    if auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad cannot be {auto_pad!r}", rule="windows",
                         advice="it is NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    wanted = wanted[-rank:] if wanted else ()
    given = explicit_pads(pads, rank)
    cut: list[tuple[DimLike, DimLike]] = []
    extra: list[DimLike] = []
    counts: list[DimLike] = []
    for i, (size, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation)):
        full = (size - 1) * s + d * (k - 1) + 1
        if wanted or auto_pad.startswith("SAME"):
            count = wanted[i] if wanted else size * s
            low, _ = split_pad(maximum(full + more[i] - count, 0), upper=auto_pad == "SAME_UPPER")
        else:
            low, high = given[i] if auto_pad != "VALID" else (0, 0)
            count = full + more[i] - low - high
        # Of what stands behind, either some is cut or some is missing.
        cut.append((low, maximum(full - low - count, 0)))
        extra.append(maximum(count - full + low, 0))
        counts.append(count)
    return Spread(stride, dilation, tuple(cut), tuple(extra), tuple(counts))
