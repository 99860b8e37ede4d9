"""Fourier transforms: DFT along one axis, STFT over frames that slide along a signal.

Complex numbers are pairs in the last axis, (real, imaginary); a last axis of 1 holds real numbers. A one-sided spectrum
keeps the bins up to the middle, since those of a real signal mirror; its inverse gives real numbers back, and as many
as `dft_length` says, else 2 * (bins - 1).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq, decide_lt, minimum

from ..arithmetic import widen
from ..axes import axis_of
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Drop, Input, Output, op, tensors

_INTS = tensors("int32 int64")

DFT = (op("DFT", Input("input", "T1"), Input("dft_length", "T2", optional=True), Output("output", "T1"),
          Attr("inverse", "int", 0), Attr("onesided", "int", 0), Attr("axis", "int", 1), since=17,
          T1=FLOATS | BF16, T2=_INTS)
       .since(20, Drop("axis"), Input("axis", "tensor(int64)", optional=True),
              behaviour="the axis is an input, and the last of the signal unless told"))

STFT = op("STFT", Input("signal", "T1"), Input("frame_step", "T2"), Input("window", "T1", optional=True),
          Input("frame_length", "T2", optional=True), Output("output", "T1"), Attr("onesided", "int", 1), since=17,
          T1=FLOATS | BF16, T2=_INTS)


def _check_dft(shape: tuple[DimLike, ...], axis: int, inverse: bool, onesided: bool) -> int:
    """The axis of the transform counted from the front.

    Raises:
        ModelError: the axis is none of the signal's, or the numbers are real or complex where they may not be.
    """
    if len(shape) < 2:
        raise ModelError(f"the signal has an axis in time and one of real or complex parts, not {print_shape(shape)}",
                         rule="dft")
    if decide_eq(shape[-1], 1) is False and decide_eq(shape[-1], 2) is False:
        raise ModelError(f"the last axis holds 1 real or 2 complex parts, not {shape[-1]}", rule="dft")
    at = axis_of(axis, len(shape))
    if at == len(shape) - 1:
        raise ModelError("the last axis holds the parts of numbers and cannot be transformed", rule="dft")
    if onesided and decide_eq(shape[-1], 2 if inverse else 1) is False:
        raise ModelError(f"a one-sided {'inverse takes complex' if inverse else 'transform takes real'} numbers",
                         rule="dft", advice=f"the signal is {print_shape(shape)}")
    return at


def _length(size: DimLike, given: DimLike | None, inverse: bool, onesided: bool) -> DimLike:
    """How long the transformed signal is."""
    if given is not None:
        return given
    return 2 * (size - 1) if inverse and onesided else size


def _bins(length: DimLike, inverse: bool, onesided: bool) -> DimLike:
    return length // 2 + 1 if onesided and not inverse else length


# Inference

@DFT.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is None:
        node.set(0, node.dtype(0), None, why="the rank of the input is unknown")
        return
    inverse, onesided = bool(node["inverse"]), bool(node["onesided"])
    parts = 1 if inverse and onesided else 2
    axis: Any = node["axis"] if node.version < 20 else -2
    if node.version >= 20 and node.has(2):
        axis = None if (known := node.ints(2)) is None else known[0]
    if not isinstance(axis, int):
        node.set(0, node.dtype(0), (*(None,) * (len(x) - 1), parts), why="the axis is not known")
        return
    try:
        at = _check_dft(x, axis, inverse, onesided)
    except ModelError as e:
        node.fail(e.what, e.advice)
    if node.has(1):
        known = node.ints(1)
        length = node.fresh("dft_length is not known") if known is None else known[0]
    else:
        length = _length(x[at], None, inverse, onesided)
    if decide_lt(length, 1):
        node.fail(f"dft_length is {length}")
    node.set(0, node.dtype(0), (*x[:at], _bins(length, inverse, onesided), *x[at + 1:-1], parts))


def _frame_length(node: InferNode, signal: tuple[DimLike, ...]) -> DimLike | None:
    window = node.shape(2) if node.has(2) else None
    if window is not None and len(window) != 1:
        node.fail(f"the window is a list, not {print_shape(window)}")
    if node.has(3):
        known = node.ints(3)
        if known is None:
            return None if window is None else window[0]
        if window is not None:
            node.unify(window[0], known[0], "the length of the window and frame_length")
        return known[0]
    if node.has(2):
        return None if window is None else window[0]
    return signal[1]


@STFT.infer
def _(node: InferNode) -> None:
    signal, step = node.shape(0), node.ints(1)
    onesided = bool(node["onesided"])
    if signal is None:
        node.set(0, node.dtype(0), (None, None, None, 2), why="the shape of the signal is unknown")
        return
    if len(signal) != 3:
        node.fail(f"the signal has 3 axes, not {print_shape(signal)}")
    try:
        _check_dft(signal, 1, False, onesided)
    except ModelError as e:
        node.fail(e.what, e.advice)
    length = _frame_length(node, signal)
    if length is None:
        length = node.fresh("frame_length is not known")
    if decide_lt(signal[1], length):
        node.fail(f"a frame of {length} does not fit into a signal of {signal[1]}")
    if step is not None and decide_lt(step[0], 1):
        node.fail(f"frame_step is {step[0]}")
    frames = node.fresh("frame_step is not known") if step is None else (signal[1] - length) // step[0] + 1
    node.set(0, node.dtype(0), (signal[0], frames, _bins(length, False, onesided), 2))


# Reference

def _complex(x: Any) -> Any:
    """The numbers that the last axis holds the parts of."""
    x = widen(x)
    return x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]


def _dft(x: Any, length: int, axis: int, inverse: bool, onesided: bool) -> Any:
    """The transform of numbers along an axis, with the axis of parts behind."""
    if onesided:
        if inverse:
            return np.fft.irfft(x, length, axis)[..., None]
        y = np.fft.rfft(x, length, axis)
    else:
        y = (np.fft.ifft if inverse else np.fft.fft)(x, length, axis)
    return np.stack([y.real, y.imag], -1)


@DFT.reference
def dft_17(x: Any, dft_length: Any = None, *, axis: int, inverse: int, onesided: int) -> Any:
    at = _check_dft(x.shape, axis, bool(inverse), bool(onesided))
    given = None if dft_length is None else int(dft_length.reshape(-1)[0])
    length = _length(x.shape[at], given, bool(inverse), bool(onesided))
    assert isinstance(length, int)
    return _dft(_complex(x), length, at, bool(inverse), bool(onesided)).astype(x.dtype)


@DFT.reference(since=20)
def dft_20(x: Any, dft_length: Any = None, axis: Any = None, *, inverse: int, onesided: int) -> Any:
    at = -2 if axis is None else int(axis.reshape(-1)[0])
    return dft_17(x, dft_length, axis=at, inverse=inverse, onesided=onesided)


@STFT.reference
def stft(signal: Any, frame_step: Any, window: Any = None, frame_length: Any = None, *, onesided: int) -> Any:
    _check_dft(signal.shape, 1, False, bool(onesided))
    length = int(frame_length.reshape(-1)[0]) if frame_length is not None else (
        signal.shape[1] if window is None else len(window))
    if length > signal.shape[1]:
        raise ModelError(f"STFT: a frame of {length} does not fit into a signal of {signal.shape[1]}", rule="dft")
    starts = np.arange(0, signal.shape[1] - length + 1, int(frame_step.reshape(-1)[0]))
    frames = _complex(signal)[:, starts[:, None] + np.arange(length)]
    frames = frames if window is None else frames * widen(window)
    return _dft(frames, length, 2, False, bool(onesided)).astype(signal.dtype)


# Lowering

def _waves(p: Builder, times: DimLike, bins: DimLike, length: DimLike, dtype: dtypes.DType) -> tuple[Expr, Expr]:
    """cos and sin of 2π t k / length, (times, bins); the product is reduced as an integer, where it is exact."""
    shape = (times, bins)
    turn = p.mod(p.iota(shape, 0) * p.iota(shape, 1), p.size(length))
    angle = p.cast(turn, dtype) * (2 * math.pi / p.size(length, dtype))
    return p.cos(angle), p.sin(angle)


def _along(p: Builder, x: Expr, matrix: Expr, axis: int) -> Expr:
    """x times a matrix along an axis, which stays in its place."""
    y = p.contract(x, matrix, [axis], [0])
    return p.transpose(y, [*range(axis), y.rank - 1, *range(axis, y.rank - 1)])


def _transform(p: Builder, x: Expr, *, axis: int, length: DimLike, inverse: bool, onesided: bool) -> Expr:
    """A DFT as products with the cosines and sines; x has its parts in the last axis."""
    size, parts = x.shape[axis], x.shape[-1]
    last = x.rank - 1
    taken = minimum(size, length // 2 + 1 if inverse and onesided else length)
    x = p.take(x, axis, 0, taken)
    real = p.squeeze(p.take(x, last, 0, 1), [last])
    imaginary = p.squeeze(p.take(x, last, 1, 2), [last]) if parts == 2 else None
    cos, sin = _waves(p, taken, _bins(length, inverse, onesided), length, x.dtype)
    if inverse and onesided:
        assert imaginary is not None
        # The bins that are left out mirror those between the first and the middle one.
        k = p.iota((taken, 1), 0)
        alone = p.or_(p.eq(k, 0), p.eq(k * 2, p.size(length)))
        weight = p.select(alone, 1.0, p.full((taken, 1), 2, x.dtype))
        y = _along(p, real, cos * weight, axis) - _along(p, imaginary, sin * weight, axis)
        return p.expand_dims(y / p.size(length, x.dtype), [last])
    # e^(-iθ) forwards, e^(iθ) back.
    sin = p.neg(sin) if inverse else sin
    out_real, out_imaginary = _along(p, real, cos, axis), p.neg(_along(p, real, sin, axis))
    if imaginary is not None:
        out_real = out_real + _along(p, imaginary, sin, axis)
        out_imaginary = out_imaginary + _along(p, imaginary, cos, axis)
    y = p.concat([p.expand_dims(e, [last]) for e in (out_real, out_imaginary)], last)
    return y / p.size(length, x.dtype) if inverse else y


def _known(p: Builder, x: Expr | None, what: str) -> Any:
    if x is None:
        return None
    value = p.known(x)
    if value is None:
        raise CannotLower(f"{what} is not known before running")
    return value.reshape(-1).tolist()[0]


def _lower_dft(p: Builder, x: Expr, given: Any, axis: int, inverse: int, onesided: int) -> Expr:
    if not isinstance(x.shape[-1], int):
        raise CannotLower("whether the numbers are real or complex is not known")
    at = _check_dft(x.shape, axis, bool(inverse), bool(onesided))
    length = _length(x.shape[at], given, bool(inverse), bool(onesided))
    # In double precision: sums of many terms that cancel are all that some bins are.
    y = p.composite("dft", _transform, p.cast(x, dtypes.DOUBLE), axis=at, length=length,
                    inverse=bool(inverse), onesided=bool(onesided))
    return p.cast(y, x.dtype)


@DFT.lower
def _(p: Builder, x: Expr, dft_length: Expr | None = None, *, axis: int, inverse: int, onesided: int) -> Expr:
    return _lower_dft(p, x, _known(p, dft_length, "dft_length"), axis, inverse, onesided)


@DFT.lower(since=20)
def _(p: Builder, x: Expr, dft_length: Expr | None = None, axis: Expr | None = None, *, inverse: int,
      onesided: int) -> Expr:
    at = _known(p, axis, "the axis")
    return _lower_dft(p, x, _known(p, dft_length, "dft_length"), -2 if at is None else at, inverse, onesided)


@STFT.lower
def _(p: Builder, signal: Expr, frame_step: Expr, window: Expr | None = None, frame_length: Expr | None = None, *,
      onesided: int) -> Expr:
    step = _known(p, frame_step, "frame_step")
    length = _known(p, frame_length, "frame_length")
    if length is None:
        length = signal.shape[1] if window is None else window.shape[0]
    frames = (signal.shape[1] - length) // step + 1
    place = p.iota((frames, length), 0) * p.size(step) + p.iota((frames, length), 1)
    x = p.gather(p.cast(signal, dtypes.DOUBLE), place, 1)  # (batch, frames, length, parts)
    if window is not None:
        x = x * p.cast(p.reshape(window, (length, 1)), x.dtype)
    return p.cast(_lower_dft(p, x, length, 2, 0, onesided), signal.dtype)
