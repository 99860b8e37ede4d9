"""Whole layers, each one operator where the opset has it: products, convolutions, norms, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.symbolic import product

from .translation import Translation, aten, narrow_float

# Products


@aten("linear")
def _(t: Translation, x: Value, weight: Value, bias: Value | None = None) -> Value:
    rank = t.rank(x)
    if rank >= 2 and t.rank(weight) == 2 and t.dtype(x).is_float and (bias is not None or t.b.opsets[""] >= 11):
        # The weight stays as the module has it; other axes than the last are rows.
        *lead, _ = t.out_shape
        flat = x if rank == 2 else t.reshape(x, (product(lead), t.shape(weight)[1]))
        made = t.b.Gemm(flat, weight, bias, transB=1)
        return made if rank == 2 else t.reshape(made, t.out_shape)
    made = t.b.MatMul(x, t.matrix_t(weight) if t.rank(weight) == 2 else weight)
    return made if bias is None else t.b.Add(made, bias)


@aten("addmm")
def _(t: Translation, c: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    if not t.dtype(a).is_float:    # which ONNX Runtime has no Gemm for
        return _sum_and_product(t, c, a, b, beta, alpha)
    return t.b.Gemm(a, b, c, alpha=float(alpha), beta=float(beta))


@aten("baddbmm")
def _(t: Translation, c: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    return _sum_and_product(t, c, a, b, beta, alpha)


def _sum_and_product(t: Translation, c: Value, a: Value, b: Value, beta: Any, alpha: Any) -> Value:
    product = t.b.MatMul(a, b)
    product = product if alpha == 1 else t.b.Mul(product, t.scalar(alpha, product))
    if beta == 0:
        return product
    return t.b.Add(c if beta == 1 else t.b.Mul(c, t.scalar(beta, c)), product)


@aten("mm", "bmm", "matmul", "mv", "dot")
def _(t: Translation, a: Value, b: Value) -> Value:
    return t.b.MatMul(a, b)


@aten("einsum")
def _(t: Translation, equation: str, operands: Sequence[Value], path: Any = None) -> Value:
    return t.b.Einsum(*operands, equation=equation)


@aten("outer")
def _(t: Translation, a: Value, b: Value) -> Value:
    return t.b.Mul(t.unsqueeze(t.cast(a, t.out_dtype), [1]), t.cast(b, t.out_dtype))


# Convolution

def each_axis(values: Any, n: int) -> list[int]:
    """One number for each spatial axis."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * n if len(listed) == 1 else listed


def _convolve(t: Translation, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
              groups: int, transposed: bool = False, output_padding: Any = 0) -> Value:
    spatial = t.rank(weight) - 2
    single = t.rank(x) == spatial + 1    # one picture, without a batch
    if single:
        x = t.unsqueeze(x, [0])
    how: dict[str, Any] = {"strides": each_axis(stride, spatial), "dilations": each_axis(dilation, spatial),
                           "group": groups, "kernel_shape": [int(k) for k in t.shape(weight)[2:]]}    # type: ignore[arg-type]
    if isinstance(padding, str):
        low, high = [0] * spatial, [0] * spatial
        if padding == "same":
            for i, (k, d) in enumerate(zip(how["kernel_shape"], how["dilations"])):
                total = d * (k - 1)
                low[i], high[i] = total // 2, total - total // 2
        how["pads"] = [*low, *high]
    else:
        how["pads"] = each_axis(padding, spatial) * 2
    if transposed:
        how["output_padding"] = each_axis(output_padding, spatial)
        y = t.b.ConvTranspose(x, weight, bias, **how)
    else:
        y = t.b.Conv(x, weight, bias, **how)
    return t.squeeze(y, [0]) if single else y


@aten("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def _(t: Translation, x: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
      dilation: Any = 1, groups: int = 1) -> Value:
    return _convolve(t, x, weight, bias, stride, padding, dilation, groups)


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def _(t: Translation, x: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
      output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Value:
    return _convolve(t, x, weight, bias, stride, padding, dilation, groups, True, output_padding)


@aten("convolution")
def _(t: Translation, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
      transposed: bool, output_padding: Any, groups: int) -> Value:
    return _convolve(t, x, weight, bias, stride, padding, dilation, groups, transposed, output_padding)


# Norms

@aten("layer_norm")
def _(t: Translation, x: Value, shape: Sequence[int], weight: Value | None = None, bias: Value | None = None,
      eps: float = 1e-5, *_: Any) -> Value:
    axes = list(range(t.rank(x) - len(shape), t.rank(x)))
    if t.b.opsets[""] >= 17:
        scale = weight if weight is not None else t.constant(np.ones([int(s) for s in shape]), t.dtype(x))
        return t.b.LayerNormalization(x, scale, bias, axis=axes[0], epsilon=eps)
    # In narrow floats each step would be rounded.
    wide = x if t.dtype(x).bits >= 32 else t.cast(x, dtypes.FLOAT)
    gap = t.b.Sub(wide, t.reduce("ReduceMean", wide, axes, True))
    var = t.reduce("ReduceMean", t.b.Mul(gap, gap), axes, True)
    y = t.b.Div(gap, t.b.Sqrt(t.b.Add(var, t.scalar(eps, gap))))
    y = y if weight is None else t.b.Mul(y, t.cast(weight, t.dtype(y)))
    return t.cast(y if bias is None else t.b.Add(y, t.cast(bias, t.dtype(y))), t.dtype(x))


@aten("rms_norm")
def _(t: Translation, x: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None) -> Value:
    axes = list(range(t.rank(x) - len(shape), t.rank(x)))
    small = float(np.finfo(t.dtype(x).numpy).eps) if eps is None else eps
    wide = x if t.dtype(x).bits >= 32 else t.cast(x, dtypes.FLOAT)
    mean = t.reduce("ReduceMean", t.b.Mul(wide, wide), axes, True)
    y = t.b.Div(wide, t.b.Sqrt(t.b.Add(mean, t.scalar(small, wide))))
    return t.cast(y if weight is None else t.b.Mul(y, t.cast(weight, t.dtype(y))), t.dtype(x))


@aten("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm")
def _(t: Translation, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None,
      *rest: Any) -> Any:
    training = rest[0] if isinstance(rest[0], bool) else False
    if training or mean is None or var is None:
        raise UnsupportedError("batch normalisation by the batch's own statistics has no way to ONNX yet", who="torch",
                               advice="call eval(), and keep track_running_stats=True")
    eps = next(r for r in reversed(rest) if isinstance(r, float))
    channels = int(t.shape(mean)[0])    # type: ignore[arg-type]
    dtype = t.dtype(x)
    scale = weight if weight is not None else t.constant(np.ones(channels), dtype)
    shift = bias if bias is not None else t.constant(np.zeros(channels), dtype)
    y = t.b.BatchNormalization(x, scale, shift, mean, var, epsilon=eps)
    if isinstance(t.out, (tuple, list)):
        empty = t.constant(np.zeros(0), dtype)
        return (y, *[empty] * (len(t.out) - 1))
    return y


@aten("group_norm")
def _(t: Translation, x: Value, groups: int, weight: Value | None = None, bias: Value | None = None,
      eps: float = 1e-5, *_: Any) -> Value:
    shape = t.shape(x)
    if 0 in shape:
        return x
    # Each group as one channel of an instance norm, whose own scale and shift are left out.
    flat = t.b.Reshape(x, t.ints([0, groups, -1]))
    ones, zeros = t.constant(np.ones(groups), t.dtype(x)), t.constant(np.zeros(groups), t.dtype(x))
    y = t.reshape(t.b.InstanceNormalization(flat, ones, zeros, epsilon=eps), shape)
    return _channelwise(t, y, weight, bias)


def _channelwise(t: Translation, y: Value, weight: Value | None, bias: Value | None) -> Value:
    after = range(1, t.rank(y) - 1)
    if weight is not None:
        y = t.b.Mul(y, t.unsqueeze(weight, after))
    return y if bias is None else t.b.Add(y, t.unsqueeze(bias, after))


@aten("instance_norm")
def _(t: Translation, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None,
      use_input_stats: bool, momentum: float, eps: float, *_: Any) -> Value:
    channels = int(t.shape(x)[1])    # type: ignore[arg-type]
    dtype = t.dtype(x)
    scale = weight if weight is not None else t.constant(np.ones(channels), dtype)
    shift = bias if bias is not None else t.constant(np.zeros(channels), dtype)
    if not use_input_stats:
        return t.b.BatchNormalization(x, scale, shift, mean, var, epsilon=eps)
    return t.b.InstanceNormalization(x, scale, shift, epsilon=eps)


# Attention

@aten("scaled_dot_product_attention")
def _(t: Translation, q: Value, k: Value, v: Value, mask: Value | None = None, dropout: float = 0.0,
      causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False) -> Value:
    if dropout > 0:
        raise UnsupportedError("attention with dropout is random, which an exported model is not", who="torch",
                               advice="call the module's eval()")
    depth = t.shape(q)[-1]
    if scale is None and not isinstance(depth, int):
        raise UnsupportedError(f"attention over heads of the free size '{depth}' has no way to ONNX yet", who="torch")
    if _whole(t, q, k, v, mask, enable_gqa):
        if mask is not None:
            # ONNX Runtime wants a row for each query, and a key beyond a narrower mask is one that nobody sees.
            wanted = (*t.shape(mask)[:-2], t.shape(q)[-2], t.shape(k)[-2])
            mask = t.expand(mask, wanted)
        return t.b.Attention(q, k, v, mask, is_causal=1 if causal else None, scale=scale)
    dtype = t.dtype(q)
    if narrow_float(dtype):
        # Scores are kept in float32: a rounded one is off by more than a weight may be.
        q, k, v = (t.cast(x, dtypes.FLOAT) for x in (q, k, v))
    if enable_gqa:
        k, v = _repeat_heads(t, q, k), _repeat_heads(t, q, v)
    factor = scale if scale is not None else 1 / math.sqrt(depth)    # type: ignore[arg-type]
    rank = t.rank(k)
    turned = t.transpose(k, [*range(rank - 2), rank - 1, rank - 2])
    # The root of the scale on each side, as PyTorch does it, keeps float16 products in range.
    root = math.sqrt(abs(factor))
    left = t.b.Mul(q, t.scalar(math.copysign(root, factor), q))
    scores = t.b.MatMul(left, t.b.Mul(turned, t.scalar(root, turned)))
    if causal:
        rows, columns = t.shape(q)[-2], t.shape(k)[-2]
        below = t.b.LessOrEqual(
            t.unsqueeze(t.b.Range(t.constant(0, dtypes.INT64), t.value(columns, dtypes.INT64),
                                  t.constant(1, dtypes.INT64)), [0]),
            t.unsqueeze(t.b.Range(t.constant(0, dtypes.INT64), t.value(rows, dtypes.INT64),
                                  t.constant(1, dtypes.INT64)), [1]))
        scores = t.b.Where(below, scores, t.scalar(-math.inf, scores))
    empty_rows = None
    if mask is not None:
        # A row that may look at nothing is zero in PyTorch, where softmax alone would say NaN.
        if t.dtype(mask) is dtypes.BOOL:
            scores = t.b.Where(mask, scores, t.scalar(-math.inf, scores))
            empty_rows = t.b.Not(t.cast(t.reduce("ReduceMax", t.cast(mask, dtypes.INT32), [-1], True), dtypes.BOOL))
        else:
            mask = t.cast(mask, t.dtype(scores))
            scores = t.b.Add(scores, mask)
            empty_rows = t.b.Equal(t.reduce("ReduceMax", mask, [-1], True), t.scalar(-math.inf, mask))
    weights = t.b.Softmax(scores, axis=t.rank(scores) - 1)
    if empty_rows is not None:
        weights = t.b.Where(empty_rows, t.scalar(0, weights), weights)
    return t.cast(t.b.MatMul(weights, v), dtype)


def _whole(t: Translation, q: Value, k: Value, v: Value, mask: Value | None, grouped: bool) -> bool:
    """Whether ONNX's Attention says it: since opset 23, of four axes, and of equal batches and heads.

    ONNX Runtime takes the scores of a row whose numbers in a mask are all the lowest for none at all, where PyTorch
    takes their mean: what adds numbers to scores stays in pieces. So do doubles, which it works out in float32.
    """
    if t.b.opsets[""] < 23 or any(t.rank(x) != 4 for x in (q, k, v)) or t.dtype(q) is dtypes.DOUBLE:
        return False
    if mask is not None and (t.dtype(mask) is not dtypes.BOOL or t.rank(mask) not in (2, 3, 4)):
        return False
    (batch, heads, *_), (batch_k, heads_k, *_), (batch_v, heads_v, *_) = (t.shape(x) for x in (q, k, v))
    shared = heads == heads_k if not grouped else isinstance(heads, int) and isinstance(heads_k, int)
    return batch == batch_k == batch_v and heads_k == heads_v and shared


def _repeat_heads(t: Translation, q: Value, k: Value) -> Value:
    """Each head of `k` as often as there are query heads for it."""
    wanted, have = t.shape(q)[-3], t.shape(k)[-3]
    if wanted == have:
        return k
    times = wanted // have
    rank = t.rank(k)
    wide = t.unsqueeze(k, [rank - 2])
    shape = t.shape(k)
    repeated = t.expand(wide, (*shape[:-2], times, *shape[-2:]))
    return t.reshape(repeated, (*shape[:-3], have * times, *shape[-2:]))
