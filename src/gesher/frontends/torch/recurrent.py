"""Recurrent layers: kept whole while they are captured, each one LSTM, GRU or RNN of ONNX.

What torch.export would do is otherwise: to learn the shapes it walks PyTorch's own decomposition step by step, which
ties the count of steps to that of the example. So while a module is captured, its calls go to operators of our own,
`gesher::lstm` and its sisters: the same computation, with shapes that are said rather than found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gesher.base import dtypes
from gesher.ir import Value

from .translation import Translation, aten

# Kept whole

_SCHEMA = ("(Tensor x, {states} states, Tensor[] params, bool has_biases, int layers, float dropout, bool train, "
           "bool bidirectional, bool batch_first) -> ({results})")


def _keep_whole(name: str) -> Any:
    """Make the operator `gesher::NAME`: what `torch.NAME` computes, with its shapes stated."""
    layer = getattr(torch, name)
    several = name == "lstm"    # it alone has two states, and takes them as a list

    def run(x: Tensor, states: Any, *rest: Any) -> tuple[Tensor, ...]:
        return tuple(layer(x, states, *rest))

    def shapes(x: Tensor, states: Any, params: Any, has_biases: bool, layers: int, dropout: float, train: bool,
               bidirectional: bool, batch_first: bool) -> tuple[Tensor, ...]:
        ends = tuple(states) if several else (states,)
        y = x.new_empty((x.shape[0], x.shape[1], (2 if bidirectional else 1) * ends[0].shape[2]))
        return (y, *map(torch.empty_like, ends))

    return whole_operator(name, _SCHEMA, several, run, shapes)


def whole_operator(name: str, schema: str, several: bool, run: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    """Make the operator `gesher::NAME` of a recurrent layer, of which `several` says whether it has two states."""
    made = torch.library.custom_op(f"gesher::{name}", run, mutates_args=(), schema=schema.format(
        states="Tensor[]" if several else "Tensor", results=", ".join(["Tensor"] * (3 if several else 2))))
    made.register_fake(shapes)
    return made


LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_WHOLE = {getattr(torch, name): _keep_whole(name) for name in LAYERS}


class RecurrencesWhole(TorchFunctionMode):
    """While this is entered, recurrent layers call our operators. Packed sequences are `packed`'s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # With packed sequences the weights come one place later.
        if func in _WHOLE and not kwargs and isinstance(args[2], (list, tuple)):
            return _WHOLE[func](*args)
        return func(*args, **(kwargs or {}))


# Translated

def _gates(t: Translation, w: Value, order: Sequence[int], hidden: int) -> Value:
    """The gates' rows in ONNX's order."""
    if list(order) == list(range(len(order))):
        return w
    index = np.concatenate([np.arange(g * hidden, (g + 1) * hidden) for g in order])
    return t.b.Gather(w, t.constant(index, dtypes.INT64), axis=0)


# PyTorch's gates in ONNX's order, and what ONNX must be told to mean the same. Of LSTM: input, forget, cell, output;
# here input, output, forget, cell. Of GRU: reset, update, new; here update, reset, hidden.
_LAYERS: dict[str, tuple[str, list[int], dict[str, Any]]] = {
    "lstm": ("LSTM", [0, 3, 1, 2], {}), "gru": ("GRU", [1, 0, 2], {"linear_before_reset": 1}),
    "rnn_tanh": ("RNN", [0], {"activations": ["Tanh"]}), "rnn_relu": ("RNN", [0], {"activations": ["Relu"]})}


def recurrent(t: Translation, kind: str, x: Value, states: Sequence[Value], params: Sequence[Value], has_biases: bool,
              layers: int, bidirectional: bool, batch_first: bool, within: tuple[Value, Value] | None = None
              ) -> tuple[Value, ...]:
    """Stacked layers, each one LSTM, GRU or RNN of ONNX: the outputs of the last, and each final state.

    Args:
        within: the length of each row (int32) and the mask (time, batch) that says the same, where rows end apart.
    """
    op, order, how = _LAYERS[kind]
    directions = 2 if bidirectional else 1
    how = {k: v * directions if k == "activations" else v for k, v in how.items()}
    per = 4 if has_biases else 2
    lengths, mask = within or (None, None)
    if len(params) != layers * directions * per:
        return _projected(t, x, states, params, has_biases, layers, directions, batch_first, mask)
    hidden = int(t.shape(params[1])[1])    # type: ignore[arg-type]
    y = t.b.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    finals: list[list[Value]] = [[] for _ in states]
    for layer in range(layers):
        ws, rs, bs = [], [], []
        for d in range(directions):
            p = params[(layer * directions + d) * per:][:per]
            ws.append(t.unsqueeze(_gates(t, p[0], order, hidden), [0]))
            rs.append(t.unsqueeze(_gates(t, p[1], order, hidden), [0]))
            if has_biases:
                both = [_gates(t, b, order, hidden) for b in p[2:]]
                bs.append(t.unsqueeze(t.b.Concat(*both, axis=0), [0]))

        def joined(parts: list[Value]) -> Value:
            return parts[0] if len(parts) == 1 else t.b.Concat(*parts, axis=0)

        first = [t.slice(s, 0, layer * directions, (layer + 1) * directions) if layers > 1 else s for s in states]
        made = t.b.op(op, y, joined(ws), joined(rs), joined(bs) if bs else None, lengths, *first, hidden_size=hidden,
                      direction="bidirectional" if bidirectional else "forward", outputs=1 + len(states), **how)
        # (time, directions, batch, hidden) to (time, batch, directions * hidden)
        y = t.squeeze(made[0], [1]) if directions == 1 else t.b.Reshape(
            t.b.Transpose(made[0], perm=[0, 2, 1, 3]), t.ints([0, 0, -1]))
        for i, f in enumerate(made[1:]):
            finals[i].append(f)
    ends = [f[0] if len(f) == 1 else t.b.Concat(*f, axis=0) for f in finals]
    return (t.b.Transpose(y, perm=[1, 0, 2]) if batch_first else y, *ends)


def _projected(t: Translation, x: Value, states: Sequence[Value], params: Sequence[Value], has_biases: bool,
               layers: int, directions: int, batch_first: bool, mask: Value | None = None) -> tuple[Value, ...]:
    """LSTMs whose outputs are projected before they come back (Sak et al. 2014). ONNX has none: each is a Scan."""
    per = 5 if has_biases else 3
    y = t.b.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    ends: list[list[Value]] = [[], []]
    for layer in range(layers):
        outputs = []
        for d in range(directions):
            at = layer * directions + d
            p = params[at * per:][:per]
            start = [t.squeeze(t.slice(s, 0, at, at + 1), [0]) for s in states]
            made = _projected_direction(t, y, start, p, d == 1, mask)
            outputs.append(made[2])
            for kept, end in zip(ends, made):
                kept.append(t.unsqueeze(end, [0]))
        y = outputs[0] if directions == 1 else t.b.Concat(*outputs, axis=2)
    last = [f[0] if len(f) == 1 else t.b.Concat(*f, axis=0) for f in ends]
    return (t.b.Transpose(y, perm=[1, 0, 2]) if batch_first else y, *last)


def _projected_direction(t: Translation, y: Value, start: Sequence[Value], p: Sequence[Value], reverse: bool,
                         mask: Value | None) -> tuple[Value, Value, Value]:
    """y (time, batch, in) to the last h (batch, projected), the last c (batch, hidden) and every h in turn.

    Where the mask (time, batch) is false, the states stay as they are.
    """
    gates = t.b.MatMul(y, t.matrix_t(p[0]))
    for bias in p[2:-1]:
        gates = t.b.Add(gates, bias)
    shapes = [t.shape(s) for s in start]
    taken = [gates] if mask is None else [gates, t.unsqueeze(mask, [2])]
    body = t.b.subgraph("projected", [("h", t.dtype(y), shapes[0]), ("c", t.dtype(y), shapes[1]),
                                      *((n, t.dtype(v), t.shape(v)[1:]) for n, v in zip(("gates", "there"), taken))])
    h, c, given, *there = body.graph.inputs
    whole = body.Add(given, body.MatMul(h, t.matrix_t(p[1])))
    cut = {"num_outputs": 4} if t.b.opsets[""] >= 18 else {}
    into, forget, cell, out = body.Split(whole, axis=1, outputs=4, **cut)
    new_c = body.Add(body.Mul(body.Sigmoid(forget), c), body.Mul(body.Sigmoid(into), body.Tanh(cell)))
    new_h = body.MatMul(body.Mul(body.Sigmoid(out), body.Tanh(new_c)), t.matrix_t(p[-1]))
    if there:
        new_h, new_c = body.Where(there[0], new_h, h), body.Where(there[0], new_c, c)
    for v in (new_h, new_c, body.Identity(new_h)):
        body.output(v)
    made: tuple[Value, Value, Value] = t.b.op("Scan", *start, *taken, body=body, num_scan_inputs=len(taken),
                                              scan_input_directions=[int(reverse)] * len(taken),
                                              scan_output_directions=[int(reverse)], outputs=3)
    return made


@aten("lstm.input", "gesher::lstm")
def _(t: Translation, x: Value, states: Sequence[Value], params: Sequence[Value], has_biases: bool, layers: int,
      dropout: float, train: bool, bidirectional: bool, batch_first: bool) -> tuple[Value, ...]:
    return recurrent(t, "lstm", x, states, params, has_biases, layers, bidirectional, batch_first)


@aten("gru.input", "rnn_tanh.input", "rnn_relu.input", "gesher::gru", "gesher::rnn_tanh", "gesher::rnn_relu")
def _(t: Translation, x: Value, state: Value, params: Sequence[Value], has_biases: bool, layers: int, dropout: float,
      train: bool, bidirectional: bool, batch_first: bool) -> tuple[Value, ...]:
    kind = t.target.split(".")[1]
    return recurrent(t, kind, x, [state], params, has_biases, layers, bidirectional, batch_first)
