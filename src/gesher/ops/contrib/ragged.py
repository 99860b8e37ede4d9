"""Requests of different lengths, one behind the other without padding; and VarlenCausalConvWithState, which walks them.

`cumulative_sequence_length` holds where each request begins, and where the last one ends: a request has at least one
token. The convolution sees, before a request's first token, the state that it was left with.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError, UnsupportedError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.rules import InferNode
from gesher.ops.schema import Attr, Input, Output, op
from gesher.primitives import Builder, CannotLower, Expr

from .types import INT32, MS, REALS

VarlenCausalConvWithState = op("VarlenCausalConvWithState", Input("input"), Input("weight"),
                               Input("cumulative_sequence_length", "M"), Input("bias", optional=True),
                               Input("initial_state"), Input("capture_count", "M", optional=True),
                               Input("kernel_delta", optional=True), Input("previous_mask", optional=True),
                               Output("output"), Output("final_state"), Output("state_update", optional=True),
                               Attr("activation", "string", "none"), Attr("dilation", "int", 1),
                               Attr("state_update_capacity", "int", 0), Attr("group_size", "int", 1),
                               Attr("delta_offset", "int", 0), domain=MS, T=REALS, M=INT32)

_MOST_CAPTURED = 8


# What operators on requests share

def check_capacity(node: InferNode, counted: bool) -> int:
    """How many transitions of a request are shown; they must be counted where there are any, and only there."""
    capacity: int = node["state_update_capacity"]
    if not 0 <= capacity <= _MOST_CAPTURED:
        node.fail(f"state_update_capacity is {capacity}", f"it is 0 to {_MOST_CAPTURED}")
    if counted != (capacity > 0):
        node.fail(f"capture_count is {'given' if counted else 'left out'}, and state_update_capacity is {capacity}",
                  "they come together or not at all")
    return capacity


def requests_of(node: InferNode, index: int) -> DimLike | None:
    """How many requests the places in input `index` tell apart."""
    shape = node.shape(index)
    if shape is None:
        return None
    if len(shape) != 1:
        node.fail(f"the places of the requests are a list, not {print_shape(shape)}")
    return shape[0] - 1


def ends_of(ends: Any, total: int) -> list[tuple[int, int]]:
    """(start, stop) of each request.

    Raises:
        RunError: the places do not cut all tokens into requests that have one at least.
    """
    places = [int(e) for e in ends]
    if not places or places[0] != 0 or places[-1] != total or any(a >= b for a, b in pairwise(places)):
        raise RunError(f"the places {places} do not cut {total} tokens into requests",
                       advice="they begin with 0, grow, and end with the number of tokens")
    return list(pairwise(places))


def places_of(p: Builder, ends: Expr, total: DimLike) -> tuple[Expr, Expr]:
    """The request of each token, and where that begins; int64, (tokens)."""
    batch = ends.shape[0] - 1
    stops = p.cast(p.take(ends, 0, 1, batch + 1), dtypes.INT64)
    behind = p.ge(p.iota((total, 1), 0), p.expand_dims(stops, [0]))
    request = p.sum(p.cast(behind, dtypes.INT64), [1])
    return request, p.cast(p.gather(ends, request, 0), dtypes.INT64)


# VarlenCausalConvWithState

@VarlenCausalConvWithState.infer
def _(node: InferNode) -> None:
    x, w, state = node.shape(0), node.shape(1), node.shape(4)
    capacity = check_capacity(node, node.has(5))
    if node["activation"] not in ("none", "silu", "swish"):
        node.fail(f"activation cannot be '{node['activation']}'", "it is none, silu or swish")
    if node["dilation"] < 1:
        node.fail(f"dilation is {node['dilation']}", "it is at least 1")
    if node.has(6) != node.has(7):
        node.fail("kernel_delta and previous_mask come together or not at all")
    for name, shape, rank in (("input", x, 2), ("weight", w, 3), ("initial_state", state, 3)):
        if shape is not None and len(shape) != rank:
            node.fail(f"the {name} has {rank} axes, not {print_shape(shape)}")
    channels = None if x is None else x[1]
    kept: DimLike | None = None
    if w is not None:
        channels = node.unify(channels, w[0], "the channels of the input and of the weight")
        node.unify(w[1], 1, "the middle axis of the weight")
        kept = (w[2] - 1) * node["dilation"]
    if (bias := node.shape(3)) is not None:
        if len(bias) != 1:
            node.fail(f"the bias is a list, not {print_shape(bias)}")
        channels = node.unify(channels, bias[0], "the channels of the input and of the bias")
    batch = requests_of(node, 2)
    if state is not None:
        batch = node.unify(batch, state[0], "the requests and those of initial_state")
        channels = node.unify(channels, state[1], "the channels of the input and of initial_state")
        kept = node.unify(kept, state[2], "the elements kept, and what the taps reach back")
    if (counts := node.shape(5)) is not None:
        if len(counts) != 1:
            node.fail(f"capture_count is a list, not {print_shape(counts)}")
        batch = node.unify(batch, counts[0], "the requests and capture_count")
    why = "a shape is unknown"
    node.set(0, node.dtype(0), (None if x is None else x[0], channels), why=why)
    node.set(1, node.dtype(0), (batch, channels, kept), why=why)
    node.set(2, node.dtype(0), (batch, capacity, channels), why=why)


def _refuse(delta: Any) -> None:
    if delta is not None:
        raise UnsupportedError("VarlenCausalConvWithState with kernel_delta", who="reference",
                               advice="ONNX Runtime has it for GPUs only")


@VarlenCausalConvWithState.reference
def varlen_causal_conv_with_state(x: Any, weight: Any, ends: Any, bias: Any, state: Any, captured: Any = None,
                                  delta: Any = None, mask: Any = None, *, activation: str, dilation: int,
                                  state_update_capacity: int, group_size: int, delta_offset: int) -> Any:
    _refuse(delta)
    taps, dtype = weight.shape[2], x.dtype
    y, final = np.empty_like(x), np.empty_like(state)
    update = np.zeros((len(state), state_update_capacity, x.shape[1]), dtype)
    kept = (taps - 1) * dilation
    for b, (start, stop) in enumerate(ends_of(ends, len(x))):
        whole = np.concatenate([state[b].T, x[start:stop]])  # (kept + tokens, channels)
        length = stop - start
        found = sum(widen(whole[i * dilation:i * dilation + length]) * widen(weight)[:, 0, i] for i in range(taps))
        found = found if bias is None else found + widen(bias)
        with np.errstate(over="ignore"):
            y[start:stop] = (found if activation == "none" else found / (1 + np.exp(-found))).astype(dtype)
        final[b] = whole[len(whole) - kept:].T
        count = 0 if captured is None else max(0, min(int(captured[b]), state_update_capacity, length))
        update[b, :count] = x[start:start + count]
    return y, final, update


@VarlenCausalConvWithState.lower
def _(p: Builder, x: Expr, weight: Expr, ends: Expr, bias: Expr | None, state: Expr, captured: Expr | None = None,
      delta: Expr | None = None, mask: Expr | None = None, *, activation: str, dilation: int,
      state_update_capacity: int, group_size: int, delta_offset: int) -> tuple[Expr, ...]:
    taps = weight.shape[2]
    if delta is not None or not isinstance(taps, int):
        raise CannotLower("kernels that change from token to token, or whose taps are not known")
    (total, channels), batch, kept = x.shape, state.shape[0], (taps - 1) * dilation
    request, start = places_of(p, ends, total)
    # (requests * kept, channels): what stood before each request
    before = p.reshape(p.transpose(state, (0, 2, 1)), (batch * kept, channels))

    def seen(row: Expr, first: Expr, place: Expr) -> Expr:
        """Tokens at places, or of the request's state where they lie before its first; a new last axis of channels."""
        new = p.gather(x, p.max(place, 0), 0)
        if not kept:
            return new
        older = p.gather(before, row * kept + p.min(p.max(place - first + kept, 0), kept - 1), 0)
        return p.select(p.expand_dims(p.ge(place, first), [place.rank]), new, older)

    here = p.iota((total,), 0)
    terms = [widened(p, seen(request, start, here - (taps - 1 - i) * dilation) if i < taps - 1 else x)
             * p.reshape(widened(p, p.take(weight, 2, i, i + 1)), (channels,)) for i in range(taps)]
    y = terms[0]
    for term in terms[1:]:
        y = y + term
    y = y if bias is None else y + widened(p, bias)
    y = p.cast(y if activation == "none" else y * p.sigmoid(y), x.dtype)
    starts, stops = (p.expand_dims(p.cast(p.take(ends, 0, i, batch + i), dtypes.INT64), [1]) for i in (0, 1))
    if kept:
        tail = seen(p.iota((batch, 1), 0), starts, stops - kept + p.iota((1, kept), 1))
        final = p.transpose(tail, (0, 2, 1))
    else:
        final = state
    results = [y, final]
    if p.outputs > 2:
        slots = p.iota((1, state_update_capacity), 1)
        count = p.full((batch, 1), 0, dtypes.INT64) if captured is None else \
            p.expand_dims(p.cast(captured, dtypes.INT64), [1])
        taken = p.lt(slots, p.min(count, stops - starts))
        rows = p.gather(x, p.min(starts + slots, p.size(total) - 1), 0)
        results.append(p.select(p.expand_dims(taken, [2]), rows, 0.0))
    return tuple(results[:p.outputs])
