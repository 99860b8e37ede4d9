"""GatedDeltaNet: linear attention of requests one behind the other, with a state from call to call.

It is LinearAttention (`core/linear_attention.py`) laid out otherwise. What a reader would guess wrong:

- How many heads there are comes from shapes: queries and keys have as many, values a multiple; each head of keys serves
  neighbouring heads of values, and the state, (requests, value heads, value size, key size), has its values in front.
- `decay` is a logarithm. `gate_activation` makes it: "softplus" (or "qwen") from `a_log` and `dt_bias`, "sigmoid" (or
  "kda") from those and a lower bound.
- Queries, keys and values may stand side by side in the query; only the state then tells their sizes.
- Without `cu_seqlens` all requests are of one length, and the state says how many they are.
- `state_update` holds, for the first tokens of each request, first all decays, then all keys, then all deltas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.core.linear_attention import RULES, recurrence
from gesher.ops.gates import ACTIVATIONS
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import Attr, Input, Output, op
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq

from .ragged import check_capacity, ends_of
from .types import FLOAT, INT32, MS, REALS

GatedDeltaNet = op("GatedDeltaNet", Input("query"), Input("key", optional=True), Input("value", optional=True),
                   Input("cu_seqlens", "TI", optional=True), Input("decay", "TG", optional=True),
                   Input("beta", "TG", optional=True), Input("initial_state", "TS", optional=True),
                   Input("a_log", "TS", optional=True), Input("dt_bias", "TS", optional=True),
                   Input("capture_count", "TI", optional=True), Input("state_update_active", "TI", optional=True),
                   Output("output"), Output("final_state", "TS", optional=True),
                   Output("state_update", "TS", optional=True), Attr("update_rule", "string", "gated_delta"),
                   Attr("scale", "float", 0.0), Attr("gate_activation", "string", "none"),
                   Attr("gate_lower_bound", "float", -5.0), Attr("beta_activation", "string", "none"),
                   Attr("qk_l2_norm", "int", 0), Attr("chunk_size", "int", 64), Attr("state_update_capacity", "int", 0),
                   domain=MS, T=REALS, TS=FLOAT, TG=REALS, TI=INT32)

_GATES = {"none": "none", "softplus": "softplus", "qwen": "softplus", "sigmoid": "sigmoid", "kda": "sigmoid"}
_L2_EPSILON = 1e-12


def _check(attributes: Any, has: dict[str, bool]) -> tuple[bool, bool]:
    """Whether the state fades, and whether it is corrected.

    Raises:
        ModelError: an attribute is none of its words, or what it needs is missing.
    """
    rule = attributes["update_rule"]
    if rule not in RULES:
        raise ModelError(f"update_rule cannot be '{rule}'", rule="linear-attention", advice="it is " + ", ".join(RULES))
    if attributes["gate_activation"] not in _GATES or attributes["beta_activation"] not in ("none", "sigmoid"):
        raise ModelError(f"the gates cannot be '{attributes['gate_activation']}' and "
                         f"'{attributes['beta_activation']}'", rule="linear-attention",
                         advice="that of the decay is " + ", ".join(_GATES) + "; that of beta none or sigmoid")
    fades, corrects = rule.startswith("gated"), rule.endswith("delta")
    if fades and not has["decay"]:
        raise ModelError(f"update_rule '{rule}' needs the input decay", rule="linear-attention")
    if corrects and not has["beta"]:
        raise ModelError(f"update_rule '{rule}' needs the input beta", rule="linear-attention")
    if _GATES[attributes["gate_activation"]] != "none" and not (has["a_log"] and has["dt_bias"]):
        raise ModelError(f"gate_activation '{attributes['gate_activation']}' needs a_log and dt_bias",
                         rule="linear-attention")
    if has["key"] != has["value"] or not (has["key"] or has["initial_state"]):
        raise ModelError("key and value are given both, or neither and initial_state instead", rule="linear-attention")
    if not has["cu_seqlens"] and not has["initial_state"]:
        raise ModelError("without cu_seqlens, initial_state says how many requests there are", rule="linear-attention")
    return fades, corrects


_NAMES = ("query", "key", "value", "cu_seqlens", "decay", "beta", "initial_state", "a_log", "dt_bias", "capture_count")


# Inference

@dataclass(slots=True)
class _Sizes:
    """Heads of keys (and of queries), their size, heads of values, and theirs; as far as known."""

    key_heads: DimLike | None
    key_size: DimLike | None
    value_heads: DimLike | None
    value_size: DimLike | None


def _sizes(node: InferNode, lead: int) -> _Sizes:
    """The sizes by what is given; `lead` axes stand in front of the heads."""
    state = node.shape(6) if node.has(6) else None
    if state is not None and len(state) != 4:
        node.fail(f"initial_state has 4 axes, not {print_shape(state)}")
    sizes = _Sizes(None, None, *(state[1:3] if state is not None else (None, None)))
    if state is not None:
        sizes.key_size = state[3]
    if not node.has(1):
        q = node.shape(0)
        if state is not None and q is not None:
            _, heads, width, size = state
            rest = q[-1] - heads * width
            if decide_eq(rest % (size * 2), 0) is False:
                node.fail(f"of {q[-1]} features, {heads * width} are values; {rest} are no keys and queries of {size}")
            sizes.key_heads = rest // (size * 2)
        return sizes
    for i, name in ((0, "query"), (1, "key")):
        if (shape := node.shape(i)) is not None:
            sizes.key_heads = node.unify(sizes.key_heads, shape[lead], f"the heads of the query and of the {name}")
            sizes.key_size = node.unify(sizes.key_size, shape[lead + 1], f"the size of a head of the {name}")
    if (v := node.shape(2)) is not None:
        sizes.value_heads = node.unify(sizes.value_heads, v[lead], "the heads of the value and of the state")
        sizes.value_size = node.unify(sizes.value_size, v[lead + 1], "the sizes of the value and of the state")
    return sizes


@GatedDeltaNet.infer
def _(node: InferNode) -> None:
    try:
        _check({name: node[name] for name in ("update_rule", "gate_activation", "beta_activation")},
               {name: node.has(i) for i, name in enumerate(_NAMES)})
    except ModelError as e:
        node.fail(e.what, e.advice)
    capacity = check_capacity(node, node.has(9))
    q, packed = node.shape(0), not node.has(1)
    flat, batched = (2, 3) if packed else (3, 4)
    if q is None:
        node.set(0, node.dtype(0), None, why="the shape of the query is unknown")
        node.set(1, dtypes.FLOAT, node.shape(6) if node.has(6) else None)
        node.set(2, dtypes.FLOAT, (None, None))
        return
    if len(q) not in (flat, batched):
        node.fail(f"the query has {flat} or {batched} axes, not {print_shape(q)}")
    lead = 1 if len(q) == flat else 2
    if lead == 2 and node.has(3):
        node.fail("with cu_seqlens there is one axis of tokens")
    for i, name in ((1, "key"), (2, "value"), (4, "decay"), (5, "beta")):
        shape = node.shape(i) if node.has(i) else None
        if shape is not None:
            if len(shape) < lead + 1:
                node.fail(f"the {name} {print_shape(shape)} has no heads of tokens")
            for axis in range(lead):
                node.unify(q[axis], shape[axis], f"axis {axis} of the query and of the {name}")
    sizes = _sizes(node, lead)
    heads, values = sizes.key_heads, sizes.value_heads
    if heads is not None and values is not None and decide_eq(values % heads, 0) is False:
        node.fail(f"{values} heads of values do not share {heads} heads of keys evenly")
    batch: DimLike | None = q[0] if lead == 2 else None
    if (ends := node.shape(3) if node.has(3) else None) is not None:
        batch = node.unify(batch, ends[0] - 1, "the requests of cu_seqlens")
    if (state := node.shape(6) if node.has(6) else None) is not None:
        batch = node.unify(batch, state[0], "the requests of the tokens and of initial_state")
    why = "a shape is unknown"
    node.set(0, node.dtype(0), (*q[:lead], values, sizes.value_size), why=why)
    node.set(1, dtypes.FLOAT, (batch, values, sizes.value_size, sizes.key_size), why=why)
    decay = node.shape(4) if node.has(4) else None
    key_size, value_size, width = sizes.key_size, sizes.value_size, None
    if heads is not None and values is not None and key_size is not None and value_size is not None:
        each = values * key_size if decay is not None and len(decay) == lead + 2 else values
        width = (each + heads * key_size + values * value_size) * capacity
    node.set(2, dtypes.FLOAT, (batch, width), why=why)


# Reference

def _norm(x: Any) -> Any:
    return x / np.sqrt((x * x).sum(-1, keepdims=True) + np.float32(_L2_EPSILON))


def _gate(decay: Any, a_log: Any, bias: Any, activation: str, bound: float, heads: int) -> Any:
    """The decay of each head, (tokens, heads, 1 or key size), as a factor."""
    g = widen(decay).reshape(-1, heads, 1 if decay.shape[-1] == heads and decay.ndim < 3 else decay.shape[-1])
    kind = _GATES[activation]
    if kind != "none":
        g = g + bias.reshape(heads, -1)
        rate = np.exp(a_log.reshape(heads, 1))
        g = -rate * ACTIVATIONS["softplus"].compute(g, 0.0, 0.0) if kind == "softplus" else \
            np.float32(bound) * ACTIVATIONS["sigmoid"].compute(rate * g, 0.0, 0.0)
    return np.exp(g)


@GatedDeltaNet.reference
def gated_delta_net(query: Any, key: Any = None, value: Any = None, ends: Any = None, decay: Any = None,
                    beta: Any = None, initial: Any = None, a_log: Any = None, bias: Any = None, captured: Any = None,
                    active: Any = None, *, scale: float, gate_activation: str, gate_lower_bound: float,
                    beta_activation: str, qk_l2_norm: int, chunk_size: int, state_update_capacity: int,
                    update_rule: str, run: Run) -> Any:
    given = dict(zip(_NAMES, (query, key, value, ends, decay, beta, initial, a_log, bias, captured)))
    fades, corrects = _check({"update_rule": update_rule, "gate_activation": gate_activation,
                              "beta_activation": beta_activation}, {n: x is not None for n, x in given.items()})
    if key is None:
        lead = query.shape[:-1]
        _, heads, width, size = initial.shape
        rest = query.shape[-1] - heads * width
        query, key, value = np.split(query, [rest // 2, rest], -1)
        query, key = (x.reshape(*lead, -1, size) for x in (query, key))
        value = value.reshape(*lead, heads, width)
    lead, dtype = query.shape[:-2], query.dtype
    q, k, v = (widen(x).reshape(-1, *x.shape[-2:]) for x in (query, key, value))
    tokens, groups, size = k.shape
    heads, width = v.shape[1:]
    if heads % groups or q.shape[1] != groups:
        raise RunError(f"{q.shape[1]} heads of queries, {groups} of keys and {heads} of values do not go together")
    if ends is None:
        if tokens % len(initial):
            raise RunError(f"{tokens} tokens do not divide into {len(initial)} requests of one length")
        each = tokens // len(initial)
        spans = [(b * each, (b + 1) * each) for b in range(len(initial))]
    else:
        spans = ends_of(ends, tokens)
    if qk_l2_norm:
        q, k = _norm(q), _norm(k)
    factor = np.float32(scale or 1 / np.sqrt(size))
    flat_decay = None if decay is None else decay.reshape(tokens, *decay.shape[len(lead):])
    fading = np.ones((tokens, heads, 1), np.float32) if not fades else \
        _gate(flat_decay, a_log, bias, gate_activation, gate_lower_bound, heads)
    rate = np.ones((tokens, heads), np.float32) if not corrects else widen(beta).reshape(tokens, heads)
    if corrects and beta_activation == "sigmoid":
        rate = ACTIVATIONS["sigmoid"].compute(rate, 0.0, 0.0)
    y = np.zeros((tokens, heads, width), np.float32)
    final = np.zeros((len(spans), heads, width, size), np.float32)
    parts = [np.zeros((len(spans), state_update_capacity, n), np.float32)
             for n in (heads * fading.shape[2], groups * size, heads * width)]
    shown = state_update_capacity and (active is None or int(active.reshape(-1)[0]) != 0)
    for b, (start, stop) in enumerate(spans):
        state = np.zeros((heads, size, width), np.float32) if initial is None else initial[b].swapaxes(1, 2)
        for t in range(start, stop):
            kt = k[t].repeat(heads // groups, 0)
            state = state * fading[t][:, :, None]
            delta = v[t]
            if corrects:
                delta = rate[t][:, None] * (delta - np.einsum("hkv,hk->hv", state, kt))
            state = state + kt[:, :, None] * delta[:, None]
            y[t] = factor * np.einsum("hkv,hk->hv", state, q[t].repeat(heads // groups, 0))
            if shown and t - start < min(state_update_capacity, int(captured[b])):
                for part, now in zip(parts, (fading[t], k[t], delta)):
                    part[b, t - start] = now.reshape(-1)
        final[b] = state.swapaxes(1, 2)
    update = np.concatenate([part.reshape(len(spans), -1) for part in parts], 1)
    return y.reshape(*lead, heads, width).astype(dtype), final, update


# Lowering: requests of one length, through the recurrence of LinearAttention

@GatedDeltaNet.lower
def _(p: Builder, query: Expr, key: Expr | None = None, value: Expr | None = None, ends: Expr | None = None,
      decay: Expr | None = None, beta: Expr | None = None, initial: Expr | None = None, a_log: Expr | None = None,
      bias: Expr | None = None, captured: Expr | None = None, active: Expr | None = None, *, update_rule: str,
      scale: float, gate_activation: str, gate_lower_bound: float, beta_activation: str, qk_l2_norm: int,
      chunk_size: int, state_update_capacity: int) -> tuple[Expr, ...]:
    if ends is not None or initial is None:
        raise CannotLower("requests of different lengths")
    if p.outputs > 2:
        raise CannotLower("transitions that are shown")
    fades, corrects = update_rule.startswith("gated"), update_rule.endswith("delta")
    batch, heads, width, size = initial.shape
    if key is None or value is None:
        lead, features = query.shape[:-1], query.shape[-1]
        groups = (features - heads * width) // (size * 2)
        query, key, value = p.split(query, [groups * size, groups * size, heads * width], query.rank - 1)
    else:
        lead, groups = query.shape[:-2], key.shape[-2]
    length = lead[1] if len(lead) == 2 else lead[0] // batch

    def apart(x: Expr, heads: DimLike, size: DimLike) -> Expr:
        """(length, batch, heads, size), wide."""
        return p.transpose(p.reshape(widened(p, x), (batch, length, heads, size)), (1, 0, 2, 3))

    def norm(x: Expr) -> Expr:
        return x / p.sqrt(p.sum(x * x, [3], keepdims=True) + _L2_EPSILON)

    q, k, v = apart(query, groups, size), apart(key, groups, size), apart(value, heads, width)
    if qk_l2_norm:
        q, k = norm(q), norm(k)
    if decide_eq(groups, heads) is not True:
        if not isinstance(groups, int) or not isinstance(heads, int):
            raise CannotLower("the numbers of heads are not known")
        each = heads // groups
        q, k = (p.reshape(p.broadcast_to(p.expand_dims(x, [3]), (length, batch, groups, each, size)),
                          (length, batch, heads, size)) for x in (q, k))
    fading = None
    if fades:
        assert decay is not None
        deep = decay.rank - len(lead) == 2
        fading = apart(decay, heads, size if deep else 1)
        if (kind := _GATES[gate_activation]) != "none":
            assert a_log is not None and bias is not None
            by_row = bias.rank == 2 or (deep and decide_eq(bias.shape[0], heads) is not True)
            fading = fading + p.reshape(bias, (heads, size if by_row else 1))
            rate = p.exp(p.reshape(a_log, (heads, 1)))
            fading = -(rate * ACTIVATIONS["softplus"].lower(p, fading, 0.0, 0.0)) if kind == "softplus" else \
                p.sigmoid(rate * fading) * float(gate_lower_bound)
    speed = None
    if corrects:
        assert beta is not None
        speed = apart(beta, heads, 1)
        speed = p.sigmoid(speed) if beta_activation == "sigmoid" else speed
    state = p.transpose(initial, (0, 1, 3, 2))
    if not scale:
        if not isinstance(size, int):
            q, scale = q / p.sqrt(p.size(size, q.dtype)), 1.0
        else:
            scale = float(np.float32(1 / np.sqrt(size)))
    y, last = p.composite("linear_attention", recurrence, q, k, v, state, fading, speed, scale=scale)
    y = p.reshape(p.transpose(y, (1, 0, 2, 3)), (*lead, heads, width))
    return (p.cast(y, query.dtype), p.transpose(last, (0, 1, 3, 2)))[:p.outputs]


