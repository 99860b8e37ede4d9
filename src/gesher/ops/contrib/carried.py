"""LinearAttention, CausalConvWithState and EngramGate of com.microsoft: what decoders with a state of their own use.

The first two are ONNX's own with more attributes; those that only GPUs run, windows of states among them, are refused.
With `channels_last` a convolution's data and state are (batch, length, channels), the channels in as many axes as one
likes; `dilation` spaces its taps apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import TensorType
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.beside import check, require, same
from gesher.ops.borrowing import rule_of
from gesher.ops.core.linear_attention import CausalConvWithState as Causal
from gesher.ops.core.linear_attention import LinearAttention as Linear
from gesher.ops.fact import Fact
from gesher.ops.gates import ACTIVATIONS
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import product

from .types import MS, REALS

LinearAttention = op("LinearAttention", Input("query"), Input("key"), Input("value"),
                     Input("past_state", "S", optional=True), Input("decay", optional=True),
                     Input("beta", optional=True), Output("output"), Output("present_state", "S"),
                     Attr("update_rule", "string", "gated_delta"), Attr("scale", "float", 0.0),
                     Attr("q_num_heads", "int", REQUIRED), Attr("kv_num_heads", "int", REQUIRED),
                     Attr("chunk_size", "int", 64), Attr("state_window", "int", 0), domain=MS, T=REALS, S=REALS)

CausalConvWithState = op("CausalConvWithState", Input("input"), Input("weight"), Input("bias", optional=True),
                         Input("past_state", optional=True), Output("output"), Output("present_state"),
                         Output("state_update", optional=True), Attr("activation", "string", "none"),
                         Attr("ndim", "int", 1), Attr("dilation", "int", 1), Attr("channels_last", "int", 0),
                         Attr("state_window", "int", 0), Attr("state_length", "int", 0),
                         Attr("state_channels_last", "int", -1), Attr("state_update_capacity", "int", 0),
                         Attr("input_channels", "int", 0), Attr("input_channel_offset", "int", 0), domain=MS, T=REALS)

EngramGate = op("EngramGate", Input("key"), Input("query"), Input("value"), Input("key_norm_scale"),
                Input("query_norm_scale"), Input("conv_norm_scale", optional=True), Output("output"),
                Output("gated_value_normed", optional=True), Attr("epsilon", "float", 1e-5), domain=MS, T=REALS)

# The value of each attribute that means that nothing is asked for.
_PLAIN = {"ndim": 1, "state_window": 0, "state_length": 0, "state_channels_last": -1,
          "state_update_capacity": 0, "input_channels": 0, "input_channel_offset": 0}


def _unusual(attributes: dict[str, Any]) -> str:
    """The attributes that ask for what is not here."""
    return " and ".join(name for name, value in attributes.items() if value != _PLAIN[name])


def _refuse(name: str, attributes: dict[str, Any]) -> None:
    if unusual := _unusual(attributes):
        raise UnsupportedError(f"{name} with {unusual}", who="reference")


# LinearAttention

@LinearAttention.infer
def _(node: InferNode) -> None:
    if node["state_window"]:
        node.set(0, node.dtype(0), (None,) * 3, why="windows of states are not looked into")
        return
    rule_of(Linear, "infer", 27)(node)


@LinearAttention.reference
def linear_attention_ms(*inputs: Any, state_window: int, **attributes: Any) -> Any:
    _refuse("LinearAttention", {"state_window": state_window})
    return rule_of(Linear, "reference", 27)(*inputs, **attributes)


@LinearAttention.lower
def _(p: Builder, *inputs: Expr | None, state_window: int, **attributes: Any) -> Any:
    if state_window:
        raise CannotLower("windows of states")
    return rule_of(Linear, "lower", 27)(p, *inputs, **attributes)


# CausalConvWithState

def _first(fact: Fact | None) -> Fact | None:
    """(batch, channels, length) of a value whose channels come last."""
    if fact is None or fact.shape is None or len(fact.shape) < 3:
        return fact
    batch, length, *channels = fact.shape
    return Fact(TensorType(fact.dtype, (batch, None if None in channels else product(channels), length)),  # type: ignore[arg-type]
                why=fact.why)


@CausalConvWithState.infer
def _(node: InferNode) -> None:
    if _unusual({name: node[name] for name in _PLAIN}):
        node.set(0, node.dtype(0), node.shape(0) if not node["input_channels"] else None)
        return
    last, x = node["channels_last"], node.shape(0)
    if last and x is not None and len(x) < 3:
        node.fail(f"the input is (batch, length, channels...), not {print_shape(x)}")
    facts = [_first(f) if last and i in (0, 3) else f for i, f in enumerate(node.inputs)]
    seen = InferNode(node.node, node.operator, node.schema, facts, node.equalities)
    rule_of(Causal, "infer", 27)(seen)
    node.outputs = seen.outputs
    if last:
        kept = None if seen.outputs[1] is None or seen.outputs[1].shape is None else seen.outputs[1].shape[2]
        why = "the shape of the input is unknown"
        node.set(0, node.dtype(0), x, why=why)
        node.set(1, node.dtype(0), None if x is None else (x[0], kept, *x[2:]), why=why)


@CausalConvWithState.reference
def causal_conv_with_state_ms(x: Any, weight: Any, bias: Any = None, past_state: Any = None, *, activation: str,
                              channels_last: int, dilation: int, **attributes: Any) -> Any:
    _refuse("CausalConvWithState", attributes)
    rule = rule_of(Causal, "reference", 27)
    if not channels_last:
        return rule(x, weight, bias, past_state, activation=activation, dilation=dilation)
    batch, length, *channels = x.shape
    flat = x.reshape(batch, length, -1).swapaxes(1, 2)
    past = None if past_state is None else past_state.reshape(batch, past_state.shape[1], -1).swapaxes(1, 2)
    y, state = (v.swapaxes(1, 2) for v in rule(flat, weight, bias, past, activation=activation, dilation=dilation))
    return y.reshape(x.shape), state.reshape(batch, state.shape[1], *channels)


@CausalConvWithState.lower
def _(p: Builder, x: Expr, weight: Expr, bias: Expr | None = None, past_state: Expr | None = None, *,
      activation: str, channels_last: int, dilation: int, **attributes: Any) -> Any:
    if _unusual(attributes):
        raise CannotLower(_unusual(attributes))
    rule, channels = rule_of(Causal, "lower", 27), x.shape[2:]
    if not channels_last:
        return rule(p, x, weight, bias, past_state, activation=activation, dilation=dilation)

    def first(e: Expr | None) -> Expr | None:
        return None if e is None else p.transpose(p.reshape(e, (*e.shape[:2], product(channels))), (0, 2, 1))

    found = rule(p, first(x), weight, bias, first(past_state), activation=activation, dilation=dilation)
    return tuple(p.reshape(p.transpose(e, (0, 2, 1)), (e.shape[0], e.shape[2], *channels)) for e in found)


# EngramGate: sigmoid(sign(d) * sqrt(|d|)) of the product d of normalized key and query

@EngramGate.infer
def _(node: InferNode) -> None:
    key, query, value = node.shape(0), node.shape(1), node.shape(2)
    if key is not None:
        if len(key) != 4:
            node.fail(f"the key is (batch, length, streams, features), not {print_shape(key)}")
        for other, name, axes in ((query, "query", (0, 1, 2, 3)), (value, "value", (0, 1, 3))):
            if other is not None:
                for have, axis in zip(other, axes):
                    node.unify(key[axis], have, f"axis {axis} of the key and of the {name}")
        for i in (3, 4, 5):
            scale = node.shape(i) if node.has(i) else None
            if scale is not None:
                check(node, i, same(scale, key[2:]), f"a number for each stream and feature, {print_shape(key[2:])}")
    node.set(0, node.dtype(0), key)
    node.set(1, node.dtype(0), key)


def _normed(x: Any, scale: Any, epsilon: float) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(epsilon)) * widen(scale)


@EngramGate.reference
def engram_gate(key: Any, query: Any, value: Any, key_scale: Any, query_scale: Any, conv_scale: Any = None, *,
                epsilon: float) -> Any:
    streams = key.shape[2:]
    require("the query", query.shape, query.shape == key.shape, f"of the shape of the key, {print_shape(key.shape)}")
    require("the value", value.shape, value.shape == (*key.shape[:2], key.shape[3]), "the key's without its streams")
    for name, scale in (("key_norm_scale", key_scale), ("query_norm_scale", query_scale),
                        ("conv_norm_scale", conv_scale)):
        if scale is not None:
            require(name, scale.shape, scale.shape == streams, f"a number for each of {print_shape(streams)}")
    both = _normed(widen(key), key_scale, epsilon) * _normed(widen(query), query_scale, epsilon)
    product = both.sum(-1, keepdims=True) / np.float32(np.sqrt(key.shape[3]))
    gate = ACTIVATIONS["sigmoid"].compute(np.sign(product) * np.sqrt(np.maximum(np.abs(product), 1e-6)), 0.0, 0.0)
    y = gate.astype(np.float32) * widen(value)[:, :, None]
    if conv_scale is None:
        return y.astype(key.dtype)
    return y.astype(key.dtype), _normed(y, conv_scale, epsilon).astype(key.dtype)


@EngramGate.lower
def _(p: Builder, key: Expr, query: Expr, value: Expr, key_scale: Expr, query_scale: Expr,
      conv_scale: Expr | None = None, *, epsilon: float) -> tuple[Expr, ...]:
    def normed(x: Expr, scale: Expr) -> Expr:
        return x / p.sqrt(p.mean(x * x, [3], keepdims=True) + float(epsilon)) * widened(p, scale)

    size = p.size(key.shape[3], dtypes.FLOAT)
    both = normed(widened(p, key), key_scale) * normed(widened(p, query), query_scale)
    product = p.sum(both, [3], keepdims=True) / p.sqrt(size)
    gate = p.sigmoid(p.sign(product) * p.sqrt(p.max(p.abs(product), 1e-6)))
    y = gate * p.expand_dims(widened(p, value), [2])
    if conv_scale is None or p.outputs < 2:
        return (p.cast(y, key.dtype),)
    return p.cast(y, key.dtype), p.cast(normed(y, conv_scale), key.dtype)
