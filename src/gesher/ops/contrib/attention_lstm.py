"""AttnLSTM: an LSTM that reads, beside its input, what it attended to in a memory a step before.

After each step the hidden state asks the memory (Bahdanau et al., 2015): a key of the memory weighs
V * tanh(memory * MW + hidden * QW), and the softmax of these weighs the memory's rows. What comes of it, or that beside
the hidden state through one more layer (`AW`), goes into the next step behind the input. It begins as zeros.

What a reader would guess wrong: W is as wide as the input and the attention together; the rows of AW are those of the
hidden state first, then those of the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.core.recurrent import (
    dims_of,
    directions_of,
    lstm_cell,
    lstm_step,
    recurrent_weights,
    reversed_steps,
    run_directions,
)
from gesher.ops.gates import chosen
from gesher.ops.rules import InferNode
from gesher.ops.schema import Attr, Input, Output, op, tensors
from gesher.primitives import Builder, Expr

from .attending import softmax
from .types import INT32, MS

_OPTIONAL = [Input(name, "T1" if name.endswith("lens") else "T", optional=True) for name in (
    "B", "sequence_lens", "initial_h", "initial_c", "P", "QW", "MW", "V", "M", "memory_seq_lens", "AW")]
AttnLSTM = op("AttnLSTM", Input("X"), Input("W"), Input("R"), *_OPTIONAL, Output("Y", optional=True),
              Output("Y_h", optional=True), Output("Y_c", optional=True), Attr("activations", "strings"),
              Attr("activation_alpha", "floats"), Attr("activation_beta", "floats"), Attr("clip", "float"),
              Attr("input_forget", "int", 0), Attr("hidden_size", "int"), Attr("direction", "string", "forward"),
              domain=MS, T=tensors("float double"), T1=INT32)

_ACTIVATIONS = ("sigmoid", "tanh", "tanh")


@AttnLSTM.infer
def _(node: InferNode) -> None:
    try:
        ways = len(directions_of(node["direction"]))
        chosen(node["activations"], node["activation_alpha"], node["activation_beta"], _ACTIVATIONS, ways)
    except ModelError as e:
        node.fail(e.what, e.advice)
    for i, name in ((8, "QW"), (9, "MW"), (10, "V"), (11, "M")):
        if not node.has(i):
            node.fail(f"without {name} there is no attention", "an LSTM without one is ONNX's own")
    steps, batch, features = dims_of(node, 0, "X", 3)
    r, w = dims_of(node, 2, "R", 3), dims_of(node, 1, "W", 3)
    hidden: DimLike | None = node.unify(node["hidden_size"], r[2], "R and hidden_size")
    keys, memory = dims_of(node, 9, "MW", 3), dims_of(node, 11, "M", 3)
    depth = node.unify(keys[1], memory[2], "the rows of MW and the width of M")
    batch = node.unify(batch, memory[0], "the batch of X and of M")
    query, v = dims_of(node, 8, "QW", 3), dims_of(node, 10, "V", 2)
    hidden = node.unify(hidden, query[1], "the hidden size and the rows of QW")
    for other, name in ((query[2], "QW"), (v[1], "V")):
        node.unify(keys[2], other, f"the width of the attention in MW and in {name}")
    attended = depth
    if node.has(13):
        layer = dims_of(node, 13, "AW", 3)
        rows = None if hidden is None or depth is None else hidden + depth
        node.unify(layer[1], rows, "the rows of AW, and the hidden state beside the memory")
        attended = layer[2]
    wide = None if features is None or attended is None else features + attended
    node.unify(w[2], wide, "the columns of W, and the input beside the attention")
    gates = None if hidden is None else hidden * 4
    for index, name, shape in ((1, "W", w), (2, "R", r), (8, "QW", query), (9, "MW", keys), (10, "V", v)):
        node.unify(shape[0], ways, f"{name} and {ways} direction(s)")
        if index < 3:
            node.unify(shape[1], gates, f"the rows of {name} and four gates")
    for i, name, count in ((3, "B", 8), (7, "P", 3)):
        shape = dims_of(node, i, name, 2)
        node.unify(shape[0], ways, f"{name} and {ways} direction(s)")
        node.unify(shape[1], None if hidden is None else hidden * count, f"the columns of {name}")
    for i, name in ((4, "sequence_lens"), (12, "memory_seq_lens")):
        batch = node.unify(batch, dims_of(node, i, name, 1)[0], f"the batch and {name}")
    for i, name in ((5, "initial_h"), (6, "initial_c")):
        shape = dims_of(node, i, name, 3)
        for a, b, what in zip(shape, (ways, batch, hidden), ("directions", "batch", "hidden size")):
            node.unify(a, b, f"the {what} and {name}")
    node.set(0, node.dtype(0), (steps, ways, batch, hidden), why="a shape is unknown")
    for i in (1, 2):
        node.set(i, node.dtype(0), (ways, batch, hidden), why="a shape is unknown")


@AttnLSTM.reference
def attn_lstm(x: Any, w: Any, r: Any, b: Any = None, lens: Any = None, initial_h: Any = None, initial_c: Any = None,
              peepholes: Any = None, qw: Any = None, mw: Any = None, v: Any = None, memory: Any = None,
              memory_lens: Any = None, aw: Any = None, *, activations: Any, activation_alpha: Any,
              activation_beta: Any, clip: float | None, input_forget: int, hidden_size: int | None,
              direction: str) -> Any:
    attended = memory.shape[2] if aw is None else aw.shape[2]
    if w.shape[2] != x.shape[2] + attended:
        raise RunError(f"W {print_shape(w.shape)} does not fit inputs of {x.shape[2]} beside {attended} of attention")
    w, r, b, acts = recurrent_weights("LSTM", w, r, b, clip, activations, activation_alpha, activation_beta)
    p = np.zeros((len(w), 3 * r.shape[2]), w.dtype) if peepholes is None else peepholes
    batch, rows = memory.shape[:2]
    there = np.arange(rows) < (np.full(batch, rows) if memory_lens is None else memory_lens)[:, None]

    def step_of(d: int) -> Any:
        cell, keys = lstm_step(w[d], r[d], b[d], p[d], acts[d], clip, input_forget, lambda h: h), memory @ mw[d]

        def step(x: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
            h, c = cell(np.concatenate([x, states[2]], 1), states[:2])
            scores = np.tanh(keys + (h @ qw[d])[:, None]) @ v[d]
            weights = softmax(np.where(there, scores, -np.inf))
            context = (weights[:, None] @ memory)[:, 0]
            return h, c, context if aw is None else np.concatenate([h, context], 1) @ aw[d]

        return step

    nothing = np.zeros((len(w), batch, attended), x.dtype)
    return run_directions("AttnLSTM", x, w, r, b, lens, [initial_h, initial_c, nothing], direction, 0, step_of)[:3]


@AttnLSTM.lower
def _(p: Builder, x: Expr, w: Expr, r: Expr, *rest: Expr | None, activations: Any, activation_alpha: Any,
      activation_beta: Any, clip: float | None, input_forget: int, hidden_size: int | None, direction: str
      ) -> tuple[Expr, ...]:
    given: list[Expr | None] = [*rest, *[None] * (11 - len(rest))]
    bias, lens, initial_h, initial_c, peepholes, qw, mw, v, memory, memory_lens, aw = given
    assert qw is not None and mw is not None and v is not None and memory is not None
    ways = directions_of(direction)
    acts = chosen(activations, activation_alpha, activation_beta, _ACTIVATIONS, len(ways))
    (steps, batch, features), hidden, (_, rows, depth) = x.shape, r.shape[2], memory.shape
    attended = depth if aw is None else aw.shape[2]
    there = None if memory_lens is None else p.lt(p.iota((1, rows), 1, dtypes.INT32), p.expand_dims(memory_lens, [1]))
    ys, lasts = [], []
    for d, back in enumerate(ways):
        def of(e: Expr | None, d: int = d) -> Any:
            return None if e is None else p.squeeze(p.take(e, 0, d, d + 1), [0])

        wx, wa = p.split(of(w), [features, attended], 1)
        xw = p.contract(x, wx, [2], [1])
        recurrent_bias = p.full((r.shape[1],), 0, x.dtype)
        if bias is not None:
            own, recurrent_bias = p.split(of(bias), [r.shape[1]] * 2, 0)
            xw = xw + own
        if back:
            xw = reversed_steps(p, xw)
        keys = p.contract(memory, of(mw), [2], [0])  # (batch, rows, width)
        nothing = p.full((batch, hidden), 0, x.dtype)
        initial = [nothing if s is None else of(s) for s in (initial_h, initial_c)]

        own_weights = of(r), wa, recurrent_bias, of(qw), of(v), of(aw), of(peepholes)

        def body(p: Builder, i: Expr, carried: tuple[Expr, ...], slices: tuple[Expr, ...], keys: Expr = keys,
                 weights: tuple[Any, ...] = own_weights, back: bool = back, d: int = d) -> Any:
            *states, seen = carried
            rd, wa, rb, q, vd, layer, holes = weights
            new = lstm_cell(p, slices[0] + p.contract(seen, wa, [1], [1]), states, rd, rb, acts[d], clip,
                            bool(input_forget), holes, None)
            asked = p.expand_dims(p.contract(new[0], q, [1], [0]), [1])
            scores = p.contract(p.tanh(keys + asked), vd, [2], [0])
            scores = scores if there is None else p.select(there, scores, float("-inf"))
            e = p.exp(scores - p.amax(scores, [1], keepdims=True))
            found = p.contract(e / p.sum(e, [1], keepdims=True), memory, [1], [1], [0], [0])
            if layer is not None:
                found = p.contract(p.concat([new[0], found], 1), layer, [1], [0])
            new = [*new, found]
            if lens is None:
                return new, [new[0]]
            t = p.size(steps) - 1 - i if back else i
            inside = p.expand_dims(p.lt(t, p.cast(lens, dtypes.INT64)), [1])
            return [p.select(inside, a, b) for a, b in zip(new, carried)], [p.select(inside, new[0], 0.0)]

        last, (y,) = p.loop(steps, [*initial, p.full((batch, attended), 0, x.dtype)], body, [xw])
        ys.append(p.expand_dims(reversed_steps(p, y) if back else y, [1]))
        lasts.append(last[:2])
    finals = [p.concat([p.expand_dims(s, [0]) for s in parts], 0) for parts in zip(*lasts)]
    return (p.concat(ys, 1), *finals)[:p.outputs]
