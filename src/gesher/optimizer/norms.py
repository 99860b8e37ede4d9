"""Normalizations recognised from their pieces: first the bare one, then its scale, then its bias.

What a reader would guess wrong: exporters write the same norm in a dozen ways, but what differs is only how the
quotient is spelled (`_over`); scale and bias come behind it one at a time, so each is a rule of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike, Node, Value
from gesher.rewriter import Known, Refused, Rewrite, Rule, Work, attr, either, op, rule


def _mean(x: Any, axes: Any) -> Any:
    return op.ReduceMean(x, axes)


def _squares(d: Any) -> Any:
    return either(d * d, d ** 2.0)


def _over(x: Any, spread: Any) -> Any:
    """x over the root of a variance, however that is written."""
    root = op.Sqrt(spread)
    return either(x / root, x * op.Reciprocal(root), x * (1.0 / root), x * spread ** -0.5, x / spread ** 0.5)


def _layer(x: Any, axes: Any, eps: Any) -> Any:
    d = x - _mean(x, axes)
    return _over(d, _mean(_squares(d), axes) + eps)


def _rms(x: Any, axes: Any, eps: Any) -> Any:
    return _over(x, _mean(_squares(x), axes) + eps)


def _keras(x: Any, axes: Any, eps: Any, g: Any, b: Any) -> Any:
    """As Keras writes it: x * s + (b - mean * s), where s is the scale over the deviation."""
    mean = _mean(x, axes)
    root = op.Sqrt(_mean(_squares(x - mean), axes) + eps)
    scaled = either(op.Reciprocal(root), 1.0 / root) * g
    return x * scaled + (b - mean * scaled)


def _last_axes(x: Known, axes: Known) -> Sequence[DimLike] | str:
    """The sizes of the normalized axes, where those are the last ones and all known."""
    if x.shape is None or axes.numbers is None:
        return "the rank or the axes are not known"
    rank = len(x.shape)
    found = sorted(int(a) % rank for a in axes.numbers.reshape(-1))
    if not found or found != list(range(found[0], rank)):
        return "the axes are not the last ones"
    sizes = x.shape[found[0]:]
    return sizes if all(isinstance(d, int) and d > 0 for d in sizes) else "a normalized axis has no known size"


def _can_be(x: Known, axes: Known, eps: Known) -> bool | str:
    # In float64 the norms of ONNX work in float32, in narrow floats they round less than the pieces do.
    if x.dtype is not dtypes.FLOAT:
        return "only in float32 do pieces and whole work in the same precision"
    if eps.scalar is None or eps.scalar < 0:
        return "epsilon is no constant"
    sizes = _last_axes(x, axes)
    return sizes if isinstance(sizes, str) else True


def _ones(x: Known, axes: Known) -> tuple[np.ndarray, int]:
    sizes = _last_axes(x, axes)
    assert not isinstance(sizes, str)
    return np.ones([int(d) for d in sizes], np.float32), -len(sizes)  # type: ignore[arg-type]


def _make_layer(x: Known, axes: Known, eps: Known) -> Any:
    ones, axis = _ones(x, axes)
    return op.LayerNormalization(x, ones, axis=axis, epsilon=eps.scalar)


def _make_rms(x: Known, axes: Known, eps: Known) -> Any:
    ones, axis = _ones(x, axes)
    return op.RMSNormalization(x, ones, axis=axis, epsilon=eps.scalar)


def _make_keras(x: Known, axes: Known, eps: Known, g: Known, b: Known) -> Any:
    sizes = _last_axes(x, axes)
    assert not isinstance(sizes, str)
    scale, bias = (_fitting(x.work, v.value, sizes) for v in (g, b))
    if scale is None or bias is None:
        raise Refused("scale or bias have not the shape of the normalized axes")
    return op.LayerNormalization(x, Known(x.work, scale), Known(x.work, bias), axis=-len(sizes), epsilon=eps.scalar)


def _each_channel(x: Known, axes: Known, eps: Known) -> bool | str:
    """Whether it is an instance norm: over all places of each channel of pictures."""
    if x.dtype is not dtypes.FLOAT or eps.scalar is None or eps.scalar < 0:
        return "it is not of float32, or epsilon is no constant"
    if x.shape is None or axes.numbers is None or len(x.shape) < 4 or not isinstance(x.shape[1], int):
        return "the rank, the axes or the channels are not known"
    found = sorted(int(a) % len(x.shape) for a in axes.numbers.reshape(-1))
    return found == list(range(2, len(x.shape))) or "the axes are not those of the places"


def _make_instance(x: Known, eps: Known) -> Any:
    assert x.shape is not None
    channels = int(x.shape[1])  # type: ignore[arg-type]
    return op.InstanceNormalization(x, np.ones(channels, np.float32), np.zeros(channels, np.float32),
                                    epsilon=eps.scalar)


def _is_ones(work: Work, v: Value | None) -> bool:
    numbers = None if v is None else work.constant_of(v)
    return numbers is not None and bool((numbers.numpy() == 1).all())


@rule("scale_of_norm", "Mul", reach=2)
def _scale(work: Work, node: Node) -> Any:
    """A norm with scale 1 and no bias takes the factor behind it."""
    a, b = node.inputs
    for y, c in ((a, b), (b, a)):
        norm = work.producer(y, "LayerNormalization", "RMSNormalization")
        if norm is None or y is None or c is None or work.only_user(y) is None or not _is_ones(work, norm.inputs[1]):
            continue
        if len(norm.inputs) > 2 and norm.inputs[2] is not None:
            return "a bias stands between"
        fitting = _fitting(work, c, work.shape(norm.inputs[1]))  # type: ignore[arg-type]
        if fitting is None:
            return "the factor has not the shape of the normalized axes"
        return work.again(norm, [norm.inputs[0], fitting]).output
    return None


@rule("bias_of_norm", "Add", reach=2)
def _bias(work: Work, node: Node) -> Any:
    """A layer norm without a bias takes what is added behind it."""
    a, b = node.inputs
    for y, c in ((a, b), (b, a)):
        norm = work.producer(y, "LayerNormalization")
        if norm is None or y is None or c is None or work.only_user(y) is None \
                or (len(norm.inputs) > 2 and norm.inputs[2] is not None):
            continue
        fitting = _fitting(work, c, work.shape(norm.inputs[1]))  # type: ignore[arg-type]
        if fitting is None:
            return "the sum has not the shape of the normalized axes"
        return work.again(norm, [*norm.inputs[:2], fitting]).output
    return None


def _fitting(work: Work, c: Value, wanted: Sequence[DimLike] | None) -> Value | None:
    """`c` with the shape of a scale: leading ones cut off, one number spread; None where it cannot be."""
    shape = work.shape(c)
    if shape is None or wanted is None:
        return None
    if work.same_shape(shape, wanted):
        return c
    constant = work.constant_of(c)
    if constant is None or (len(shape) < len(wanted) and constant.size != 1):
        return None
    if constant.size == 1:
        return work.op("Expand", work.op("Reshape", c, [1] * len(wanted)), list(wanted)) \
            if len(shape) <= len(wanted) else None
    extra = len(shape) - len(wanted)
    if any(d != 1 for d in shape[:extra]) or not work.same_shape(shape[extra:], wanted):
        return None
    return work.op("Reshape", c, list(wanted))


# Instance and group norms

@rule("group_norm", "Reshape", reach=4)
def _group(work: Work, node: Node) -> Any:
    """Groups of channels as channels of an instance norm: Reshape (N,G,-1), InstanceNormalization, Reshape back."""
    norm = work.producer(node.inputs[0], "InstanceNormalization")
    front = None if norm is None else work.producer(norm.inputs[0], "Reshape")
    if norm is None or front is None or front.inputs[0] is None or norm.inputs[0] is None:
        return None
    x = front.inputs[0]
    shape, grouped = work.shape(x), work.shape(norm.inputs[0])
    if shape is None or grouped is None or len(grouped) != 3 or len(shape) < 3 \
            or not work.same_shape(shape, work.shape(node.output)) or not work.equal(shape[0], grouped[0]):
        return "it is not put into groups and back"
    channels, groups = shape[1], grouped[1]
    if not isinstance(channels, int) or not isinstance(groups, int) or channels % groups:
        return "the channels or groups are not known"
    if work.dtype(x) is not dtypes.FLOAT or work.only_user(norm.output) is None:
        return "the grouped data is read by others, or not float32"
    if not _is_ones(work, norm.inputs[1]) or not _is_zeros(work, norm.inputs[2]):
        return "each group has a scale or bias of its own"
    return work.op("GroupNormalization", x, np.ones(channels, np.float32), np.zeros(channels, np.float32),
                   num_groups=groups, epsilon=work.attribute(norm, "epsilon"))


def _is_zeros(work: Work, v: Value | None) -> bool:
    numbers = None if v is None else work.constant_of(v)
    return numbers is not None and not numbers.numpy().any()


@rule("scale_of_channel_norm", "Mul", "Add", reach=2)
def _channel_scale(work: Work, node: Node) -> Any:
    """What is by channel behind an instance or group norm goes into its own scale and bias."""
    a, b = node.inputs
    for y, c in ((a, b), (b, a)):
        norm = work.producer(y, "InstanceNormalization", "GroupNormalization")
        if norm is None or y is None or c is None or work.only_user(y) is None:
            continue
        shape, constant = work.shape(y), work.constant_of(c)
        scale, bias = (None if v is None else work.constant_of(v) for v in norm.inputs[1:3])
        if shape is None or constant is None or scale is None or bias is None or len(constant.shape) > len(shape):
            return "they are not constant"
        given = (1,) * (len(shape) - len(constant.shape)) + constant.shape
        if given[1] not in (1, scale.shape[0]) or any(d != 1 for i, d in enumerate(given) if i != 1):
            return "it is not by channel"
        each = np.broadcast_to(constant.numpy().reshape(-1), scale.shape)
        if not np.isfinite(each).all():
            return "it is not finite"
        if node.op_type == "Add":
            parts = [scale.numpy(), bias.numpy() + each]
        else:
            parts = [scale.numpy() * each, bias.numpy() * each]
        return work.again(norm, [norm.inputs[0], *map(work.constant, parts)]).output
    return None


RULES: tuple[Rewrite, ...] = (
    # First, for two axes of places are the last axes, too, but have one scale a channel.
    Rule("instance_norm", find=lambda x, axes, eps: _layer(x, axes, eps), make=_make_instance, when=_each_channel),
    Rule("keras_layer_norm", find=_keras, make=_make_keras, when=_can_be),
    Rule("layer_norm", find=lambda x, axes, eps: _layer(x, axes, eps), make=_make_layer, when=_can_be),
    Rule("rms_norm", find=lambda x, axes, eps: _rms(x, axes, eps), make=_make_rms, when=_can_be),
    _scale, _bias, _group, _channel_scale,
    Rule("euclidean_norm", find=lambda x, axes: op.Sqrt(op.ReduceSum(_squares(x), axes, keepdims=attr("keep"))),
         make=lambda x, axes, keep: op.ReduceL2(x, axes, keepdims=keep),
         when=lambda x: x.dtype is dtypes.FLOAT or "in narrow floats the squares may overflow"),
)
