"""Constants against what they are used for: indices within their axis, weights that fit each other, sensible numbers.

Inference refuses shapes that cannot be; here is what it has no reason to look at. Only numbers that inference carries
anyway are read, and constants of up to `_LARGEST` elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gesher.base.errors import GesherError
from gesher.ir import DimLike, Graph, Node, Shape
from gesher.ops import Fact
from gesher.ops.schema import Schema
from gesher.symbolic import Dim, bounds

from .context import Context

_LARGEST = 1 << 20

Numbers = NDArray[Any]


class _Use:
    """A node whose constants are looked at."""

    def __init__(self, context: Context, graph: Graph, node: Node, schema: Schema):
        self.context, self.graph, self.node, self.schema = context, graph, node, schema

    def fact(self, index: int) -> Fact | None:
        v = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if v is None or self.context.facts is None else self.context.facts.get(v)

    def shape(self, index: int) -> Shape | None:
        fact = self.fact(index)
        return None if fact is None else fact.shape

    def numbers(self, index: int) -> Numbers | None:
        """The constant numbers of an input; None where a run decides them, or they are many."""
        fact = self.fact(index)
        if fact is None or (fact._value is None and (fact.constant is None or fact.constant.size > _LARGEST)):
            return None
        try:
            found = fact.numbers()
        except GesherError:
            return None  # `tensors` tells what is wrong with its data
        return found if found is not None and found.size and found.dtype != object else None

    def attribute(self, name: str) -> Any:
        a = self.schema.attributes.get(name)
        return self.node.attr(name, a.default if a is not None else None)

    def say(self, rule: str, message: str) -> None:
        self.context.say(rule, f"{self.node.op_type}: {message}",
                         self.context.place(self.graph, self.node.place))


def check(context: Context) -> None:
    """Look at every node of ONNX's own domain that reads constants."""
    if context.facts is None:
        return
    for graph in context.graphs:
        for node in graph.nodes:
            look = _LOOKS.get(node.op_type)
            if look is None or node.domain not in ("", "ai.onnx"):
                continue
            schema = context.schema(node, graph)
            if schema is not None:
                look(_Use(context, graph, node, schema))


# Indices. Gather's own rule of inference refuses what is out of range.


def _along_axis(use: _Use) -> None:
    shape, axis = use.shape(0), use.attribute("axis")
    if shape and isinstance(axis, int) and -len(shape) <= axis < len(shape):
        _within(use, use.numbers(1), shape[axis], f"axis {axis}")


def _tuples(use: _Use) -> None:
    shape, indices = use.shape(0), use.numbers(1)
    first = use.attribute("batch_dims") or 0
    if shape is None or indices is None or not indices.ndim or first + indices.shape[-1] > len(shape):
        return
    for i in range(indices.shape[-1]):
        _within(use, indices[..., i], shape[first + i], f"axis {first + i}")


def _lengths(use: _Use) -> None:
    shape, axis = use.shape(0), use.attribute("time_axis")
    lengths = use.numbers(1)
    if not shape or lengths is None or not isinstance(axis, int) or not 0 <= axis < len(shape):
        return
    most = _most(shape[axis])
    if int(lengths.min()) < 0 or (most is not None and int(lengths.max()) > most):
        use.say("index-range", f"the lengths go from {int(lengths.min())} to {int(lengths.max())}, the time axis has "
                f"{shape[axis]}")


def _within(use: _Use, indices: Numbers | None, size: DimLike | None, what: str) -> None:
    most = _most(size)
    if indices is None or most is None or indices.dtype.kind not in "iu" or not indices.size:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < -most or high >= most:
        use.say("index-range", f"the index {high if high >= most else low} is out of range: {what} has {size}")


def _most(size: DimLike | None) -> int | None:
    """The most that a size can be; None where there is no end."""
    return bounds(size)[1] if isinstance(size, Dim) else size


# Weights that belong together


def _quantized_convolution(use: _Use) -> None:
    weight = 3 if use.node.op_type == "QLinearConv" else 1
    shape = use.shape(weight)
    if not shape or not isinstance(shape[0], int):
        return
    channels = shape[0]
    parts = ((4, "scale"), (5, "zero point"), (8, "bias")) if weight == 3 else ((3, "zero point"),)
    for index, name in parts:
        own = use.shape(index)
        if own is None or not all(isinstance(d, int) for d in own):
            continue
        # One number may stand for all channels, except of the bias.
        if own not in (((channels,),) if name == "bias" else ((), (1,), (channels,))):
            use.say("weights-contradict", f"the weight has {channels} output channels, its {name} is of shape "
                    f"{list(own)}")
    if weight == 3:
        _scales(use)


# Numbers


def _scales(use: _Use) -> None:
    for index in _SCALES[use.node.op_type]:
        scale = use.numbers(index)
        if scale is None or scale.dtype.kind in "iub":
            continue
        plain = scale.astype(np.float64)
        # Weights that are all zero are often written with the scale 0, and to multiply with it harms nobody.
        wrong = ~np.isfinite(plain) | ((plain < 0) if use.node.op_type == "DequantizeLinear" else (plain <= 0))
        if wrong.any():
            use.say("constant-doubt", f"the scale {plain[wrong].flat[0]} in input {index} is no positive number")


def _variance(use: _Use) -> None:
    variance = use.numbers(4)
    if variance is not None and bool((variance.astype(np.float64) < 0).any()):
        use.say("constant-doubt", f"a variance is {float(variance.astype(np.float64).min())}, its root is no number")


def _order(use: _Use) -> None:
    if len(use.node.inputs) > 1:
        low, high = use.numbers(1), use.numbers(2)
    else:
        low, high = (None if (x := use.attribute(n)) is None else np.asarray(x) for n in ("min", "max"))
    if low is not None and high is not None and low.size == high.size == 1 and low.item() > high.item():
        use.say("constant-doubt", f"the least is {low.item()}, the most is {high.item()}; every element becomes the "
                "most")


def _ratio(use: _Use) -> None:
    given = use.numbers(1) if len(use.node.inputs) > 1 else None
    ratio = float(given.reshape(-1)[0]) if given is not None and given.size == 1 else use.attribute("ratio")
    if isinstance(ratio, float) and not 0 <= ratio < 1:
        use.say("constant-doubt", f"the ratio is {ratio:g}, it is a probability below 1")


def _divisor(use: _Use) -> None:
    divisor = use.numbers(1)
    if divisor is not None and divisor.dtype.kind in "iu" and not divisor.all():
        use.say("constant-doubt", "a divisor is the integer 0")


_SCALES = {"QuantizeLinear": (1,), "DequantizeLinear": (1,), "QLinearConv": (1, 4, 6), "QLinearMatMul": (1, 4, 6)}
_LOOKS: dict[str, Callable[[_Use], None]] = {
    "GatherElements": _along_axis, "ScatterElements": _along_axis, "Scatter": _along_axis,
    "GatherND": _tuples, "ScatterND": _tuples, "ReverseSequence": _lengths,
    "QLinearConv": _quantized_convolution, "ConvInteger": _quantized_convolution,
    "QuantizeLinear": _scales, "DequantizeLinear": _scales, "QLinearMatMul": _scales,
    "BatchNormalization": _variance, "Clip": _order, "Dropout": _ratio, "Div": _divisor, "Mod": _divisor,
}

