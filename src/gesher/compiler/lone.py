"""Whether a convolution that no other one hands pictures to, or takes them from, is better off in blocked channels.

It pays for two changes of layout by itself. What it gains is measured on Zen 4 against the product with patches of
gs_conv_f32.h: Winograd's products for 3 x 3 taps, patches that need not be gathered where places lie apart (strides),
whole vectors where each channel is by itself.
"""

from __future__ import annotations

import math

from gesher.primitives import Expr
from gesher.symbolic import product

from . import target

# Outputs that few vectors of channels make (GS_FEW_MOST).
_FEW = 4
# Of single taps: multiplications for each element that changes its layout, and the most places of a picture, and where
# so many channels and outputs make seven products of eight. Larger pictures are as quick in the plain layout.
_PER_ELEMENT, _SMALL_PICTURE = 100, 256
_WIDE, _WIDE_PICTURE = 256, 1024
# Of few input channels, which are read where they lie: products of an output, without and with strides.
_DEEP, _DEEP_APART = 48, 18
# The weights that such an output needs come anew for every strip: these many stay near.
_NEAR_BYTES = 1 << 20


def gains(e: Expr, depthwise: bool) -> bool:
    """Whether the convolution `e`, for which there is a blocked kernel, gains by it; `depthwise`: each channel goes to
    one output by itself."""
    if e.prim == "convolve_transposed":
        return _phases_gain(e)
    out, channels, *kernel = (int(d) for d in e.args[1].shape if isinstance(d, int))
    lanes, taps, p = target.current().width, math.prod(kernel), e.params
    if depthwise:
        return taps >= 3 and 2 * out >= _filled(out, lanes)
    if p["groups"] > 1:
        return taps >= 9
    apart = max(p["strides"]) > 1
    if channels < lanes:
        return channels * taps >= (_DEEP_APART if apart else _DEEP) and 2 * out >= _filled(out, lanes) \
            and 4 * out * channels * taps <= _NEAR_BYTES
    if taps == 1:
        places = product(e.shape[2:])
        most = _WIDE_PICTURE if min(out, channels) >= _WIDE else _SMALL_PICTURE
        return isinstance(places, int) and places <= most and out * channels >= _PER_ELEMENT * (out + channels)
    winograd = kernel == [3, 3] and set(p["dilations"]) == {1}
    return apart or winograd or out <= _FEW or 10 * out >= 9 * _filled(out, lanes)


def _phases_gain(e: Expr) -> bool:
    """Of a transposed convolution: phases with whole blocks of outputs, and few taps of zero among theirs."""
    channels, out, *kernel = (int(d) for d in e.args[1].shape if isinstance(d, int))
    lanes, strides = target.current().width, e.params["strides"]
    taps = [-(-k // s) for k, s in zip(kernel, strides)]
    done = math.prod(taps) * math.prod(strides)
    return channels >= lanes and 10 * out >= 9 * _filled(out, lanes) \
        and (taps == [3, 3] or 5 * done <= 6 * math.prod(kernel))


def _filled(channels: int, lanes: int) -> int:
    """Channels with those that fill up the last block."""
    return -(-channels // lanes) * lanes
