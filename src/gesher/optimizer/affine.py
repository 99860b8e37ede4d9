"""Factors and sums by channel go into the weights and the bias of the convolution or product beside them.

What a reader would guess wrong:

- Weights are not touched here: a rewrite writes the arithmetic on constants as nodes, and folding promises their
  numbers (`rewriter.computed`).
- A factor goes through a convolution's zero padding, a sum does not: what is added in front of a padded convolution
  stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.ir import Node, Value
from gesher.rewriter import Refused, Rewrite, Work, rule
from gesher.symbolic import product

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def _by_channel(work: Work, c: Value, rank: int, axis: int, channels: int) -> np.ndarray[Any, Any] | None:
    """A constant that broadcasts to rank `rank` along `axis` alone, as a vector of `channels`; None for any other."""
    numbers = work.constant_of(c)
    if numbers is None or not numbers.dtype.is_float or len(numbers.shape) > rank:
        return None
    shape = (1,) * (rank - len(numbers.shape)) + numbers.shape
    if any(d != 1 for i, d in enumerate(shape) if i != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(numbers.numpy().reshape(-1), (channels,))


def _finite(*arrays: np.ndarray[Any, Any]) -> None:
    """Refuse infinities and NaN: an infinite weight times 0 is not the infinite result times 0."""
    with np.errstate(all="ignore"):
        if not all(np.isfinite(a.astype(np.float64)).all() for a in arrays):
            raise Refused("a factor or sum is not finite")


def _scaled_weight(work: Work, conv: Node, factor: np.ndarray[Any, Any]) -> Any:
    """The weight of a convolution with each output channel times its factor, as nodes on constants."""
    w = conv.inputs[1]
    assert w is not None
    shape = [int(d) for d in work.shape(w) or ()]  # type: ignore[arg-type]
    group = work.attribute(conv, "group") or 1
    ones = [1] * (len(shape) - 2)
    if conv.op_type == "Conv":
        return work.op("Mul", w, factor.reshape(-1, 1, *ones))
    if group == 1:
        return work.op("Mul", w, factor.reshape(1, -1, *ones))
    # (C, M/g, ...): each group of inputs has its own outputs.
    apart = work.op("Reshape", w, [group, shape[0] // group, *shape[1:]])
    scaled = work.op("Mul", apart, factor.reshape(group, 1, shape[1], *ones))
    return work.op("Reshape", scaled, shape)


def _convolution(work: Work, y: Value | None) -> tuple[Node, int] | None:
    """The convolution with constant weights that makes `y` for one reader alone, and its output channels."""
    conv = work.producer(y, *_CONVOLUTIONS)
    if conv is None or y is None or work.only_user(y) is None or conv.inputs[1] is None:
        return None
    if work.constant_of(conv.inputs[1]) is None or (_bias(work, conv) is not None
                                                     and work.constant_of(_bias(work, conv)) is None):
        return None
    shape = work.shape(conv.inputs[1])
    if shape is None or len(shape) < 3 or not all(isinstance(d, int) for d in shape):
        return None
    group = work.attribute(conv, "group") or 1
    channels = int(shape[0]) if conv.op_type == "Conv" else int(shape[1]) * group  # type: ignore[arg-type]
    return conv, channels


def _bias(work: Work, node: Node) -> Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _refolded(work: Work, conv: Node, factor: np.ndarray[Any, Any] | None, shift: np.ndarray[Any, Any] | None) -> Node:
    """conv(x) * factor + shift, as one convolution."""
    dtype = work.dtype(conv.output).numpy
    bias = _bias(work, conv)
    weight: Any = conv.inputs[1]
    if factor is not None:
        weight = _scaled_weight(work, conv, factor.astype(dtype))
        if bias is not None:
            bias = work.op("Mul", bias, factor.astype(dtype))
    if shift is not None:
        bias = work.constant(np.ascontiguousarray(shift.astype(dtype))) if bias is None \
            else work.op("Add", bias, shift.astype(dtype))
    return work.again(conv, [conv.inputs[0], weight, bias] if bias is not None else [conv.inputs[0], weight])


def _statistics(work: Work, node: Node) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The factor and the sum that a batch normalisation is, by channel, in float64: a variance may be tiny.

    Raises:
        Refused: it trains, or not all is constant and finite.
    """
    if work.attribute(node, "training_mode"):
        raise Refused("it trains")
    constants = [None if v is None else work.constant_of(v) for v in node.inputs[1:5]]
    if None in constants:
        raise Refused("its statistics are not constant")
    scale, b, mean, var = (c.numpy().astype(np.float64) for c in constants if c is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + work.attribute(node, "epsilon"))
        shift = b - mean * factor
    _finite(factor, shift)
    return factor, shift


@rule("batch_norm_into_convolution", "BatchNormalization", reach=2)
def _batch_norm(work: Work, node: Node) -> Any:
    found = _convolution(work, node.inputs[0])
    if found is None:
        return "no convolution with constant weights makes its data for it alone"
    return _refolded(work, found[0], *_statistics(work, node)).output


@rule("batch_norm_as_affine", "BatchNormalization", reach=2)
def _batch_norm_as_affine(work: Work, node: Node) -> Any:
    """Where no convolution takes it, it is a factor and a sum, which products and convolutions beside it may take."""
    shape, dtype = None if node.inputs[0] is None else work.shape(node.inputs[0]), work.dtype(node.output)
    if shape is None or len(shape) < 2 or any(work.dtype(v) is not dtype for v in node.inputs[1:5] if v is not None):
        return "its rank is not known, or its statistics are of several types"
    if _convolution(work, node.inputs[0]) is not None:
        return "the convolution in front of it takes it"
    if dtype.bits < 32:
        return "in narrow floats each step is rounded"
    ones = [1] * (len(shape) - 2)
    factor, shift = (v.astype(dtype.numpy).reshape(-1, *ones) for v in _statistics(work, node))
    return work.op("Add", work.op("Mul", node.inputs[0], factor), shift)


def _beside_convolution(work: Work, node: Node) -> tuple[Node, np.ndarray[Any, Any]] | None:
    """The convolution that makes one operand, and the other operand by its channels, in float64.

    Raises:
        Refused: the other operand is no such constant.
    """
    for y, c in _operands(node):
        found = _convolution(work, y)
        if found is None or y is None or c is None:
            continue
        numbers = _by_channel(work, c, len(work.shape(y) or ()), 1, found[1])
        if numbers is None:
            raise Refused("the other operand is no constant by channel")
        return found[0], numbers.astype(np.float64)
    return None


def _as_factor(node: Node, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What Mul or Div by these numbers multiplies by, in float64.

    Raises:
        Refused: it is not finite.
    """
    factor = numbers.astype(np.float64)
    with np.errstate(all="ignore"):
        factor = 1 / factor if node.op_type == "Div" else factor
    _finite(factor)
    return factor


@rule("factor_into_convolution", "Mul", "Div", reach=2)
def _factor(work: Work, node: Node) -> Any:
    found = _beside_convolution(work, node)
    return None if found is None else _refolded(work, found[0], _as_factor(node, found[1]), None).output


@rule("sum_into_convolution", "Add", "Sub", reach=2)
def _sum(work: Work, node: Node) -> Any:
    found = _beside_convolution(work, node)
    if found is None:
        return None
    conv, shift = found
    _finite(shift)
    return _refolded(work, conv, None, -shift if node.op_type == "Sub" else shift).output


def _operands(node: Node) -> Sequence[tuple[Value | None, Value | None]]:
    """The two operands, and swapped where that is the same."""
    a, b = node.inputs
    return ((a, b), (b, a)) if node.op_type in ("Add", "Mul") else ((a, b),)


# Matrix products

def _product(work: Work, y: Value | None) -> Node | None:
    """The MatMul or Gemm with a constant matrix on its right that makes `y` for one reader alone."""
    node = work.producer(y, "MatMul", "Gemm")
    if node is None or y is None or work.only_user(y) is None or node.inputs[1] is None:
        return None
    w = work.constant_of(node.inputs[1])
    if w is None or len(w.shape) != 2 or not w.dtype.is_float or work.constant_of(node.inputs[0]) is not None:
        return None
    return node


@rule("factor_into_product", "Mul", "Div", reach=2)
def _factor_into_product(work: Work, node: Node) -> Any:
    """(x @ w) * c is x @ (w * c) where c has one number for each column, or one for all."""
    for y, c in _operands(node):
        product = _product(work, y)
        if product is None or y is None or c is None:
            continue
        by_row = product.op_type == "Gemm" and work.attribute(product, "transB")
        w, shape = product.inputs[1], work.shape(y)
        assert w is not None
        columns = work.shape(w)[0 if by_row else 1]  # type: ignore[index]
        if shape is None or not isinstance(columns, int):
            return None
        factor = _by_channel(work, c, len(shape), len(shape) - 1, columns)
        if factor is None:
            return "the factor is no constant by column"
        bias = _bias(work, product)
        if bias is not None and (work.constant_of(bias) is None):
            return "what is added between is not constant"
        dtype = work.dtype(w).numpy
        factor = _as_factor(node, factor).astype(dtype)
        weight = work.op("Mul", w, factor.reshape(-1, 1) if by_row else factor)
        return work.again(product, [product.inputs[0], weight,
                                    *([] if bias is None else [work.op("Mul", bias, factor)])]).output
    return None


@rule("factor_through_product", "MatMul", reach=2)
def _factor_through_product(work: Work, node: Node) -> Any:
    """(x * c) @ w is x @ (c * w) where c has one number for each row of w, or one for all."""
    y, w = node.inputs
    scaled = work.producer(y, "Mul")
    if scaled is None or y is None or w is None or work.only_user(y) is None:
        return None
    t, shape = work.constant_of(w), work.shape(y)
    if t is None or len(t.shape) != 2 or not t.dtype.is_float or shape is None:
        return "the matrix is not constant"
    for x, c in _operands(scaled):
        if x is None or c is None or work.constant_of(x) is not None:
            continue
        factor = _by_channel(work, c, len(shape), len(shape) - 1, t.shape[0])
        if factor is None or not work.same_shape(work.shape(x), shape):
            continue
        _finite(factor)
        return work.op("MatMul", x, work.op("Mul", w, factor.astype(t.dtype.numpy).reshape(-1, 1)))
    return None


@rule("factor_through_bias", "Mul", "Div", reach=3)
def _factor_through_bias(work: Work, node: Node) -> Any:
    """(x @ w + b) * s is (x @ w) * s + b * s, where the product then takes its factor: one number, or one a column."""
    for y, c in _operands(node):
        added = work.producer(y, "Add")
        if added is None or y is None or c is None or work.only_user(y) is None:
            continue
        shape, s = work.shape(y), work.constant_of(c)
        if shape is None or s is None or not s.dtype.is_float or not isinstance(shape[-1], int):
            continue
        factor = _by_channel(work, c, len(shape), len(shape) - 1, shape[-1])
        if factor is None:
            return "the factor is no constant by column"
        _finite(factor)
        if not factor.all():
            return "a column would be divided by 0, or be 0 where its data is infinite"
        for inner, b in _operands(added):
            if _product(work, inner) is not None and b is not None and work.constant_of(b) is not None:
                return work.op("Add", work.op(node.op_type, inner, c), work.op(node.op_type, b, c))
    return None


@rule("sum_into_gemm", "Add", reach=2)
def _sum_into_gemm(work: Work, node: Node) -> Any:
    """Gemm without a bias, or with a constant one, takes a constant row that is added to it."""
    for y, c in _operands(node):
        gemm = work.producer(y, "Gemm")
        if gemm is None or y is None or c is None or work.only_user(y) is None:
            continue
        bias, t, shape = _bias(work, gemm), work.constant_of(c), work.shape(y)
        if t is None or shape is None or len(t.shape) > 2 or work.attribute(gemm, "beta") != 1 \
                or (bias is not None and work.constant_of(bias) is None):
            return "what is added is not constant, or scaled"
        return work.again(gemm, [*gemm.inputs[:2], c if bias is None else work.op("Add", bias, c)]).output
    return None


@rule("gemm_of_rows", "Reshape", reach=3)
def _gemm_of_rows(work: Work, node: Node) -> Any:
    """A product over flattened rows, put back into their shape, is a product over the last axis."""
    gemm = work.producer(node.inputs[0], "Gemm", "MatMul")
    flat = None if gemm is None else work.producer(gemm.inputs[0], "Reshape")
    if gemm is None or flat is None or flat.inputs[0] is None or node.inputs[0] is None \
            or work.only_user(node.inputs[0]) is None:
        return None
    x = flat.inputs[0]
    given, rows, wanted = work.shape(x), work.shape(flat.output), work.shape(node.output)
    if given is None or rows is None or wanted is None or len(rows) != 2 or len(wanted) < 3:
        return None
    lead = len(wanted) - 1
    if len(given) <= lead or not work.same_shape(given[:lead], wanted[:lead]) \
            or not work.equal(product(given[lead:]), rows[-1]) or not isinstance(rows[-1], int):
        return "it does not put the same rows back"
    if len(given) > lead + 1:
        # Heads side by side are one axis.
        x = work.op("Reshape", x, [*[0] * lead, rows[-1]])
    w, c = gemm.inputs[1], _bias(work, gemm)
    if w is None or work.constant_of(w) is None or (
            gemm.op_type == "Gemm" and (any(work.attribute(gemm, k) != 1 for k in ("alpha", "beta"))
                                        or work.attribute(gemm, "transA"))):
        return "it is scaled, or turned around"
    if c is not None and len(work.shape(c) or (1, 1)) > 1:
        return "what is added differs from row to row"
    if gemm.op_type == "Gemm" and work.attribute(gemm, "transB"):
        w = work.op("Transpose", w, perm=[1, 0])
    y = work.op("MatMul", x, w)
    return y if c is None else work.op("Add", y, c)


# In front of a convolution

def _through(work: Work, node: Node, op_type: str) -> tuple[Value, np.ndarray[Any, Any]] | None:
    """What a convolution reads without the factor or sum in front of it, and that by input channel, as its weight
    stands."""
    y, w = node.inputs[:2]
    front = work.producer(y, op_type)
    if front is None or y is None or w is None or work.only_user(y) is None or work.constant_of(w) is None:
        return None
    shape, weight = work.shape(y), work.shape(w)
    if shape is None or weight is None or len(shape) < 3 or not isinstance(shape[1], int):
        return None
    group, rank = work.attribute(node, "group") or 1, len(weight)
    for x, c in _operands(front):
        if x is None or c is None or not work.same_shape(work.shape(x), shape):
            continue
        each = _by_channel(work, c, rank, 1, shape[1])
        if each is None:
            continue
        _finite(each)
        each = each.astype(work.dtype(w).numpy)
        if group == 1:
            return x, each.reshape(1, -1, *[1] * (rank - 2))
        if weight[1] == 1 and weight[0] == shape[1]:
            return x, each.reshape(-1, *[1] * (rank - 1))
        if (each == each[0]).all():
            return x, each[:1].reshape([1] * rank)
    return None


@rule("factor_through_convolution", "Conv", reach=2)
def _factor_through_convolution(work: Work, node: Node) -> Any:
    """conv(x * c, w) is conv(x, c * w), for zeros around the data stay zeros."""
    found = _through(work, node, "Mul")
    if found is None:
        return None
    x, factor = found
    return work.again(node, [x, work.op("Mul", node.inputs[1], factor), *node.inputs[2:]]).output


@rule("sum_through_convolution", "Conv", reach=2)
def _sum_through_convolution(work: Work, node: Node) -> Any:
    """conv(x + c, w) has c * w, summed, in its bias, where no zeros stand around the data."""
    if any(work.attribute(node, "pads") or ()) or work.attribute(node, "auto_pad") not in ("NOTSET", "VALID"):
        return "there are zeros around the data, to which nothing is added"
    found = _through(work, node, "Add")
    bias, w = _bias(work, node), node.inputs[1]
    if found is None or w is None or (bias is not None and work.constant_of(bias) is None):
        return None
    x, each = found
    rank = len(work.shape(w) or ())
    more = work.op("ReduceSum", work.op("Mul", w, each), list(range(1, rank)), keepdims=0)
    return work.again(node, [x, w, more if bias is None else work.op("Add", bias, more)]).output


# Padding

@rule("padding_into_window", "Conv", "AveragePool", reach=2)
def _padding(work: Work, node: Node) -> Any:
    """Zeros around the data that are added in front are those that the window adds itself."""
    pad = work.producer(node.inputs[0], "Pad")
    if pad is None or node.inputs[0] is None or work.only_user(node.inputs[0]) is None:
        return None
    if work.attribute(pad, "mode") != "constant" or work.attribute(node, "auto_pad") not in ("NOTSET", "VALID"):
        return "the borders are not zeros of a known width"
    x, value = pad.inputs[0], pad.inputs[2] if len(pad.inputs) > 2 else None
    shape = None if x is None else work.shape(x)
    given = work.ints(pad.inputs[1])
    if shape is None or given is None or (value is not None and work.scalar(value) != 0):
        return "the borders are not zeros of a known width"
    rank = len(shape)
    axes = work.ints(pad.inputs[3]) if len(pad.inputs) > 3 and pad.inputs[3] is not None else list(range(rank))
    if axes is None:
        return "which axes are padded is not known"
    widths = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        widths[axis % rank], widths[axis % rank + rank] = given[i], given[i + len(axes)]
    if any(w < 0 for w in widths) or any(widths[i] or widths[i + rank] for i in (0, 1)):
        return "it cuts, or pads batch or channels"
    n = rank - 2
    own = list(work.attribute(node, "pads") or [0] * (2 * n))
    # A mean over a border that is data counts it.
    if node.op_type == "AveragePool" and (any(own) or work.attribute(node, "ceil_mode")):
        return "the pool has a border of its own"
    widths = [a + b for a, b in zip(own, [*widths[2:rank], *widths[rank + 2:]])]
    made = work.again(node, [x, *node.inputs[1:]], {
        "pads": widths, "auto_pad": "NOTSET",
        **({"count_include_pad": 1} if node.op_type == "AveragePool" else {})})
    return made.output


RULES: tuple[Rewrite, ...] = (_batch_norm, _batch_norm_as_affine, _factor, _sum, _factor_into_product,
                              _factor_through_product, _factor_through_bias, _sum_into_gemm, _gemm_of_rows,
                              _factor_through_convolution, _sum_through_convolution, _padding)
WINDOWS: tuple[Rewrite, ...] = (_padding,)
"""Those that look at no number of a weight."""
