"""LinearAttention and CausalConvWithState: operators that carry a state from call to call, made for decoding.

LinearAttention keeps, for each head of keys, a matrix S of (key size, value size): a memory that every token first
fades (`decay` is the logarithm of how much stays), then corrects ("delta": it writes what is missing, not the value
itself), then writes to; the query reads it. CausalConvWithState keeps the last k - 1 elements of each channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq

from ..arithmetic import widen, widened
from ..rules import InferNode
from ..schema import BF16, REQUIRED, Attr, Input, Output, op, tensors

_REALS = tensors("float float16") | BF16

LinearAttention = op("LinearAttention", Input("query"), Input("key"), Input("value"),
                     Input("past_state", "S", optional=True), Input("decay", optional=True),
                     Input("beta", optional=True), Output("output"), Output("present_state", "S"),
                     Attr("update_rule", "string", "gated_delta"), Attr("scale", "float", 0.0),
                     Attr("q_num_heads", "int", REQUIRED), Attr("kv_num_heads", "int", REQUIRED),
                     Attr("chunk_size", "int", 64), since=27, T=_REALS, S=_REALS)

CausalConvWithState = op("CausalConvWithState", Input("input"), Input("weight"), Input("bias", optional=True),
                         Input("past_state", optional=True), Output("output"), Output("present_state"),
                         Attr("activation", "string", "none"), since=27, T=_REALS)

RULES = ("linear", "gated", "delta", "gated_delta")


# LinearAttention

def _check_rule(rule: str, q_heads: int, kv_heads: int, has_decay: bool, has_beta: bool) -> tuple[bool, bool]:
    """Whether the state fades, and whether it is corrected.

    Raises:
        ModelError: the rule is unknown, what it needs is missing, or the heads do not divide.
    """
    if rule not in RULES:
        raise ModelError(f"update_rule cannot be '{rule}'", rule="linear-attention", advice="it is " + ", ".join(RULES))
    if q_heads < 1 or kv_heads < 1 or q_heads % kv_heads:
        raise ModelError(f"{q_heads} heads of queries do not share {kv_heads} heads of keys evenly",
                         rule="linear-attention")
    fades, corrects = rule.startswith("gated"), rule.endswith("delta")
    for name, given, needed in (("decay", has_decay, fades), ("beta", has_beta, corrects)):
        if given != needed:
            raise ModelError(f"update_rule '{rule}' {'needs' if needed else 'has no use for'} the input {name}",
                             rule="linear-attention")
    return fades, corrects


@LinearAttention.infer
def _(node: InferNode) -> None:
    q_heads, kv_heads = node["q_num_heads"], node["kv_num_heads"]
    try:
        _check_rule(node["update_rule"], q_heads, kv_heads, node.has(4), node.has(5))
    except ModelError as e:
        node.fail(e.what, e.advice)
    shapes = [node.shape(i) for i in range(3)]
    for name, shape in zip(("query", "key", "value"), shapes):
        if shape is not None and len(shape) != 3:
            node.fail(f"the {name} has 3 axes, not {print_shape(shape)}")
    q, k, v = shapes
    known = q or k or v
    batch = None if known is None else known[0]
    length = None if known is None else known[1]
    for other, name in ((k, "key"), (v, "value"), (node.shape(4), "decay"), (node.shape(5), "beta")):
        if other is not None:
            batch = node.unify(batch, other[0], f"the batches of the query and of the {name}")
            length = node.unify(length, other[1], f"the lengths of the query and of the {name}")
    size = _part(node, q, q_heads, "query")
    size = node.unify(size, _part(node, k, kv_heads, "key"), "the sizes of a head of the query and of the key")
    width = _part(node, v, kv_heads, "value")
    if (past := node.shape(3)) is not None:
        if len(past) != 4:
            node.fail(f"past_state has 4 axes, not {print_shape(past)}")
        for i, (want, have) in enumerate(zip((batch, kv_heads, size, width), past)):
            node.unify(want, have, f"axis {i} of past_state {print_shape(past)}")
    why = "a shape is unknown"
    node.set(0, node.dtype(0), (batch, length, None if width is None else width * q_heads), why=why)
    node.set(1, node.dtype(3) if node.has(3) else node.dtype(0), (batch, kv_heads, size, width), why=why)


def _part(node: InferNode, shape: tuple[DimLike, ...] | None, heads: int, name: str) -> DimLike | None:
    if shape is None:
        return None
    if decide_eq(shape[2] % heads, 0) is False:
        node.fail(f"{shape[2]} features of the {name} do not divide into {heads} heads")
    return shape[2] // heads


@LinearAttention.reference
def linear_attention(query: Any, key: Any, value: Any, past_state: Any = None, decay: Any = None, beta: Any = None, *,
                     update_rule: str, scale: float, q_num_heads: int, kv_num_heads: int, chunk_size: int) -> Any:
    fades, corrects = _check_rule(update_rule, q_num_heads, kv_num_heads, decay is not None, beta is not None)
    batch, length, _ = query.shape
    q = widen(query).reshape(batch, length, q_num_heads, -1)
    k, v = (widen(x).reshape(batch, length, kv_num_heads, -1) for x in (key, value))
    groups = q_num_heads // kv_num_heads
    factor = np.float32(scale or 1 / np.sqrt(q.shape[3]))
    nothing = np.zeros((batch, kv_num_heads, k.shape[3], v.shape[3]), q.dtype)
    state = nothing if past_state is None else widen(past_state)
    y = np.zeros((batch, length, q_num_heads, v.shape[3]), q.dtype)
    with np.errstate(all="ignore"):
        for t in range(length):
            new = v[:, t]
            if fades:
                # One number for a head, or one for each row of its state.
                state = state * np.exp(widen(decay[:, t]).reshape(batch, kv_num_heads, -1, 1))
            if corrects:
                new = widen(beta[:, t])[..., None] * (new - np.einsum("bhkv,bhk->bhv", state, k[:, t]))
            state = state + k[:, t][..., None] * new[:, :, None]
            y[:, t] = factor * np.einsum("bhk,bhkv->bhv", q[:, t], state.repeat(groups, 1))
    kept = query.dtype if past_state is None else past_state.dtype
    return y.reshape(batch, length, -1).astype(query.dtype), state.astype(kept)


def recurrence(p: Builder, q: Expr, k: Expr, v: Expr, state: Expr, decay: Expr | None, beta: Expr | None, *,
                scale: float) -> tuple[Expr, Expr]:
    """Token by token, time first: q (T,B,H,K), k (T,B,G,K), v (T,B,G,V), state (B,G,K,V), decay (T,B,G,1 or K),
    beta (T,B,1 or G,1) give y (T,B,H,V) and the last state."""
    each = q.shape[2] // k.shape[2]
    extra = [e for e in (decay, beta) if e is not None]

    def body(p: Builder, i: Expr, carried: tuple[Expr, ...], slices: tuple[Expr, ...]) -> Any:
        (s,), (qt, kt, new, *rest) = carried, slices
        if decay is not None:
            s = s * p.expand_dims(p.exp(rest.pop(0)), [3])
        if beta is not None:
            new = rest.pop(0) * (new - p.contract(s, kt, [2], [2], [0, 1], [0, 1]))
        s = s + p.expand_dims(kt, [3]) * p.expand_dims(new, [2])
        rows = p.reshape(qt, (qt.shape[0], kt.shape[1], each, qt.shape[2]))
        read = p.contract(rows, s, [3], [2], [0, 1], [0, 1])
        return [s], [p.reshape(read, (qt.shape[0], qt.shape[1], s.shape[3])) * scale]

    (state,), (y,) = p.loop(q.shape[0], [state], body, [q, k, v, *extra])
    return y, state


@LinearAttention.lower
def _(p: Builder, query: Expr, key: Expr, value: Expr, past_state: Expr | None = None, decay: Expr | None = None,
      beta: Expr | None = None, *, update_rule: str, scale: float, q_num_heads: int, kv_num_heads: int,
      chunk_size: int) -> tuple[Expr, ...]:
    _check_rule(update_rule, q_num_heads, kv_num_heads, decay is not None, beta is not None)
    batch, length, _ = query.shape

    def apart(x: Expr, heads: int) -> Expr:
        """(T,B,heads,size), wide."""
        x = p.reshape(widened(p, x), (batch, length, heads, x.shape[2] // heads))
        return p.transpose(x, (1, 0, 2, 3))

    q, k, v = apart(query, q_num_heads), apart(key, kv_num_heads), apart(value, kv_num_heads)
    size = q.shape[3]
    state = p.full((batch, kv_num_heads, size, v.shape[3]), 0, q.dtype) if past_state is None else \
        widened(p, past_state)
    fading = None if decay is None else apart(decay, kv_num_heads)
    rate = None if beta is None else apart(beta, 1 if decide_eq(beta.shape[2], 1) else kv_num_heads)
    if not scale:
        if not isinstance(size, int):
            q, scale = q / p.sqrt(p.size(size, q.dtype)), 1.0
        else:
            scale = float(np.float32(1 / np.sqrt(size)))
    y, last = p.composite("linear_attention", recurrence, q, k, v, state, fading, rate, scale=scale)
    y = p.reshape(p.transpose(y, (1, 0, 2, 3)), (batch, length, v.shape[3] * q_num_heads))
    kept = query.dtype if past_state is None else past_state.dtype
    return (p.cast(y, query.dtype), p.cast(last, kept))[:p.outputs]


# CausalConvWithState

@CausalConvWithState.infer
def _(node: InferNode) -> None:
    x, w, past = node.shape(0), node.shape(1), node.shape(3)
    if node["activation"] not in ("none", "silu", "swish"):
        node.fail(f"activation cannot be '{node['activation']}'", "it is none, silu or swish")
    for name, shape in (("input", x), ("weight", w), ("past_state", past)):
        if shape is not None and len(shape) != 3:
            node.fail(f"the {name} has 3 axes, not {print_shape(shape)}")
    channels = None if x is None else x[1]
    if w is not None:
        channels = node.unify(channels, w[0], "the channels of the input and of the weight")
        node.unify(w[1], 1, "the middle axis of the weight")
    if (bias := node.shape(2)) is not None:
        if len(bias) != 1:
            node.fail(f"the bias is a list, not {print_shape(bias)}")
        channels = node.unify(channels, bias[0], "the channels of the input and of the bias")
    # Of com.microsoft, taps may stand apart.
    apart = node["dilation"] if "dilation" in node.schema.attributes else 1
    if apart < 1:
        node.fail(f"dilation is {apart}", "it is at least 1")
    batch, kept = None if x is None else x[0], None if w is None else (w[2] - 1) * apart
    if past is not None:
        batch = node.unify(batch, past[0], "the batches of the input and of past_state")
        channels = node.unify(channels, past[1], "the channels of the input and of past_state")
        kept = node.unify(kept, past[2], "the elements kept, and how far back the kernel reaches")
    why = "a shape is unknown"
    node.set(0, node.dtype(0), (batch, channels, None if x is None else x[2]), why=why)
    node.set(1, node.dtype(0), (batch, channels, kept), why=why)


@CausalConvWithState.reference
def causal_conv_with_state(x: Any, weight: Any, bias: Any = None, past_state: Any = None, *, activation: str,
                           dilation: int = 1) -> Any:
    taps, length, dtype = weight.shape[2], x.shape[2], x.dtype
    kept = (taps - 1) * dilation
    before = np.zeros((*x.shape[:2], kept), dtype) if past_state is None else past_state
    whole = np.concatenate([before, x], 2)
    with np.errstate(all="ignore"):
        y = sum(widen(whole[:, :, i * dilation:i * dilation + length]) * widen(weight)[:, :, i] for i in range(taps))
        y = y if bias is None else y + widen(bias)[:, None]
        if activation != "none":
            # The sum is rounded before it is activated.
            y = widen(y.astype(dtype))
            y = y / (1 + np.exp(-y))
    return y.astype(dtype), whole[:, :, whole.shape[2] - kept:]


@CausalConvWithState.lower
def _(p: Builder, x: Expr, weight: Expr, bias: Expr | None = None, past_state: Expr | None = None, *,
      activation: str, dilation: int = 1) -> tuple[Expr, ...]:
    channels, kept = x.shape[1], (weight.shape[2] - 1) * dilation
    if past_state is None:
        joined = p.pad(x, [0, 0, kept], [0, 0, 0])
    else:
        joined = p.concat([past_state, x], 2)
    y = p.convolve(widened(p, joined), widened(p, weight), [1], [(0, 0)], [dilation], _whole(channels))
    if bias is not None:
        y = y + p.reshape(widened(p, bias), (channels, 1))
    y = p.cast(y, x.dtype)
    if activation != "none":
        y = p.cast(widened(p, y) * p.sigmoid(widened(p, y)), x.dtype)
    return (p.reshape(y, x.shape), p.take(joined, 2, joined.shape[2] - kept, joined.shape[2]))[:p.outputs]


def _whole(channels: DimLike) -> int:
    if not isinstance(channels, int):
        raise CannotLower("the number of channels is not known")
    return channels
