"""RNN, GRU and LSTM: a state goes through a sequence, in one direction or both.

All three share the walk along the sequence; an operator adds its step. Inside, time is the first axis and the batch the
second (`layout` 1 swaps them outside). What a reader would guess wrong:

- Sequences may be shorter than the tensor (`sequence_lens`). Behind its end a sequence gives zeros, and its last state
  is the one at its end: of an empty one, the initial state. Backwards it begins at its own end, not at the tensor's.
- Gates stand in the order i o f c (LSTM) and z r h (GRU), the peepholes in i o f.
- `clip` holds for what goes into the gates' activations. ONNX's text could mean the cell state on its way out too, but
  no implementation clips that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr

from ..arithmetic import wide, widen
from ..gates import ACTIVATIONS, Chosen, chosen
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Drop, Input, Operator, Output, op, tensors

# Schemas

_AT = (Attr("hidden_size", "int"), Attr("activation_alpha", "floats"), Attr("activation_beta", "floats"),
       Attr("clip", "float"), Attr("output_sequence", "int", 0))
_FORWARD = Attr("direction", "string", "forward")
_INPUTS = (Input("X"), Input("W"), Input("R"), Input("B", optional=True), Input("sequence_lens", "T1", optional=True),
           Input("initial_h", optional=True))
_Y, _LAST = Output("Y", optional=True), Output("Y_h", optional=True)


def _later(operator: Operator) -> Operator:
    return (operator.since(7, Drop("output_sequence"), behaviour="Y no longer waits for output_sequence")
            .since(14, Attr("layout", "int", 0))
            .since(22, T=FLOATS | BF16))


_INT32 = tensors("int32")

RNN = _later(op("RNN", *_INPUTS, _Y, _LAST, *_AT, _FORWARD, Attr("activations", "strings", ("Tanh", "Tanh")),
                T=FLOATS, T1=_INT32))

# The default direction of GRU 1 is misspelt in the standard, and means forward all the same.
GRU = _later(op("GRU", *_INPUTS, _Y, Output("Y_h"), *_AT, Attr("direction", "string", "foward"),
                Attr("activations", "strings"), T=FLOATS, T1=_INT32)
             .since(3, _LAST, _FORWARD, Attr("linear_before_reset", "int", 0)))

LSTM = _later(op("LSTM", *_INPUTS, Input("initial_c", optional=True), Input("P", optional=True), _Y, _LAST,
                 Output("Y_c", optional=True), *_AT, _FORWARD, Attr("activations", "strings"),
                 Attr("input_forget", "int", 0), T=FLOATS, T1=_INT32))


@dataclass(frozen=True, slots=True)
class Cell:
    """What tells the three operators apart: gates, states, default activations."""

    gates: int
    states: int
    activations: tuple[str, ...]


_CELLS = {"RNN": Cell(1, 1, ("tanh",)), "GRU": Cell(3, 1, ("sigmoid", "tanh")),
          "LSTM": Cell(4, 2, ("sigmoid", "tanh", "tanh"))}


def directions_of(direction: str) -> list[bool]:
    """For each direction, whether it goes backwards.

    Raises:
        ModelError: there is no such direction.
    """
    ways = {"forward": [False], "foward": [False], "reverse": [True], "bidirectional": [False, True]}
    if direction.lower() not in ways:
        raise ModelError(f"direction cannot be '{direction}'", rule="recurrent",
                         advice="it is forward, reverse or bidirectional")
    return ways[direction.lower()]


# Inference

def _infer(node: InferNode) -> None:
    name = node.operator.name
    cell = _CELLS[name]
    written = node.schema.attributes
    try:
        ways = len(directions_of(node["direction"]))
        chosen(node["activations"], node["activation_alpha"], node["activation_beta"], cell.activations, ways)
    except ModelError as e:
        node.fail(e.what, e.advice)
    by_batch = "layout" in written and bool(node["layout"])
    steps, batch, features = dims_of(node, 0, "X", 3)
    steps, batch = (batch, steps) if by_batch else (steps, batch)
    w, r = dims_of(node, 1, "W", 3), dims_of(node, 2, "R", 3)
    hidden: DimLike | None = node["hidden_size"]
    hidden = _one(node, r[2], hidden, "R and hidden_size")
    gates = None if hidden is None else hidden * cell.gates
    for dims, what in ((w, "W"), (r, "R")):
        _one(node, dims[0], ways, f"{what} and {ways} direction(s)")
        _one(node, dims[1], gates, f"the rows of {what} and {cell.gates} gates")
    _one(node, w[2], features, "the features of W and of X")
    (bias,) = dims_of(node, 3, "B", 2)[1:]
    _one(node, bias, None if gates is None else gates * 2, "the columns of B and two biases for each gate")
    _one(node, dims_of(node, 4, "sequence_lens", 1)[0], batch, "sequence_lens and the batch")
    for i, what in ((5, "initial_h"), (6, "initial_c"))[:cell.states]:
        state = dims_of(node, i, what, 3)
        d, b = (state[1], state[0]) if by_batch else state[:2]
        _one(node, d, ways, f"{what} and {ways} direction(s)")
        batch = _one(node, batch, b, f"the batch of X and of {what}")
        hidden = _one(node, hidden, state[2], f"{what} and the hidden size")
    _one(node, dims_of(node, 7, "P", 2)[1] if name == "LSTM" else None, None if hidden is None else hidden * 3,
         "the columns of P and three peepholes")
    dtype, why = node.dtype(0), "the shape of X is unknown"
    node.set(0, dtype, (batch, steps, ways, hidden) if by_batch else (steps, ways, batch, hidden), why=why)
    for i in range(cell.states):
        node.set(1 + i, dtype, (batch, ways, hidden) if by_batch else (ways, batch, hidden), why=why)


def dims_of(node: InferNode, index: int, name: str, rank: int) -> tuple[DimLike | None, ...]:
    shape = node.shape(index)
    if shape is None:
        return (None,) * rank
    if len(shape) != rank:
        node.fail(f"{name} has {rank} axes, not {print_shape(shape)}")
    return shape


def _one(node: InferNode, a: DimLike | None, b: DimLike | None, what: str) -> DimLike | None:
    return node.unify(a, b, what)


for _operator in (RNN, GRU, LSTM):
    _operator.infer(_infer)


# Reference

States = tuple[Any, ...]


def _walk(x: Any, states: States, lens: Any, backwards: bool, step: Callable[[Any, States], States]
          ) -> tuple[Any, States]:
    """The hidden state after every step, and the states at the end. x (T,B,I)."""
    y = np.zeros((len(x), *states[0].shape), x.dtype)
    for t in range(len(x))[::-1 if backwards else 1]:
        new = step(x[t], states)
        inside = (t < lens)[:, None]
        states = tuple(np.where(inside, a, b) for a, b in zip(new, states))
        y[t] = np.where(inside, new[0], 0)
    return y, states


def _activate(row: Chosen, x: Any, clip: float | None) -> Any:
    name, alpha, beta = row
    return ACTIVATIONS[name].compute(x if clip is None else np.clip(x, -clip, clip), alpha, beta)


def _rnn_step(w: Any, r: Any, b: Any, acts: list[Chosen], clip: float | None) -> Callable[[Any, States], States]:
    (f,), bias = acts, b.reshape(2, -1).sum(0)
    return lambda x, states: (_activate(f, x @ w.T + states[0] @ r.T + bias, clip),)


def _gru_step(w: Any, r: Any, b: Any, acts: list[Chosen], clip: float | None, linear_before_reset: int
              ) -> Callable[[Any, States], States]:
    f, g = acts
    wz, wr, wh = np.split(w, 3)
    rz, rr, rh = np.split(r, 3)
    bz, br, bh, cz, cr, ch = np.split(b, 6)

    def step(x: Any, states: States) -> States:
        h = states[0]
        update = _activate(f, x @ wz.T + h @ rz.T + bz + cz, clip)
        reset = _activate(f, x @ wr.T + h @ rr.T + br + cr, clip)
        recurrent = reset * (h @ rh.T + ch) if linear_before_reset else (reset * h) @ rh.T + ch
        return ((1 - update) * _activate(g, x @ wh.T + recurrent + bh, clip) + update * h,)

    return step


def lstm_step(w: Any, r: Any, b: Any, peepholes: Any, acts: list[Chosen], clip: float | None, input_forget: int,
               seen: Callable[[Any], Any]) -> Callable[[Any, States], States]:
    f, g, h_of = acts
    bias = b.reshape(2, -1).sum(0)
    pi, po, pf = np.split(peepholes, 3)

    def step(x: Any, states: States) -> States:
        h, c = states
        i, o, forget, new = np.split(x @ w.T + seen(h) @ r.T + bias, 4, 1)
        i = _activate(f, i + pi * c, clip)
        forget = 1 - i if input_forget else _activate(f, forget + pf * c, clip)
        c = forget * c + i * _activate(g, new, clip)
        return _activate(f, o + po * c, clip) * _activate(h_of, c, None), c

    return step


def run_directions(name: str, x: Any, w: Any, r: Any, b: Any, lens: Any, initial: list[Any], direction: str,
                   layout: int, step_of: Callable[[int], Callable[[Any, States], States]]) -> tuple[Any, ...]:
    """All directions of a recurrent operator: Y and the last states, in the type of x."""
    dtype = x.dtype
    x = widen(x.swapaxes(0, 1) if layout else x)
    ways = directions_of(direction)
    if w.shape[0] != len(ways):
        raise ModelError(f"{name}: W is for {w.shape[0]} direction(s), not {len(ways)}", rule="recurrent")
    (steps, batch, _), hidden = x.shape, r.shape[2]
    lens = np.full(batch, steps) if lens is None else lens
    initial = [np.zeros((len(ways), batch, hidden), x.dtype) if s is None else widen(s.swapaxes(0, 1) if layout else s)
               for s in initial]
    with np.errstate(all="ignore"):
        walked = [_walk(x, tuple(s[d] for s in initial), lens, backwards, step_of(d))
                  for d, backwards in enumerate(ways)]
    y = np.stack([out for out, _ in walked], 1)
    last = [np.stack(parts) for parts in zip(*(states for _, states in walked))]
    if layout:
        y, last = y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in last]
    return tuple(o.astype(dtype) for o in (y, *last))


def recurrent_weights(name: str, w: Any, r: Any, b: Any, clip: float | None, activations: Any, alphas: Any, betas: Any
                      ) -> tuple[Any, Any, Any, list[list[Chosen]]]:
    w, r = widen(w), widen(r)
    b = np.zeros((len(w), 2 * w.shape[1]), w.dtype) if b is None else widen(b)
    return w, r, b, chosen(activations, alphas, betas, _CELLS[name].activations, len(w))


@RNN.reference
def rnn(x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, *, activations: Any,
        activation_alpha: Any, activation_beta: Any, clip: float | None, direction: str, hidden_size: int | None,
        layout: int = 0, output_sequence: int = 0) -> Any:
    w, r, b, acts = recurrent_weights("RNN", w, r, b, clip, activations, activation_alpha, activation_beta)
    return run_directions("RNN", x, w, r, b, sequence_lens, [initial_h], direction, layout,
                          lambda d: _rnn_step(w[d], r[d], b[d], acts[d], clip))


@GRU.reference
def gru(x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, *, activations: Any,
        activation_alpha: Any, activation_beta: Any, clip: float | None, direction: str, hidden_size: int | None,
        layout: int = 0, linear_before_reset: int = 0, output_sequence: int = 0) -> Any:
    w, r, b, acts = recurrent_weights("GRU", w, r, b, clip, activations, activation_alpha, activation_beta)
    return run_directions("GRU", x, w, r, b, sequence_lens, [initial_h], direction, layout,
                          lambda d: _gru_step(w[d], r[d], b[d], acts[d], clip, linear_before_reset))


@LSTM.reference
def lstm(x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, initial_c: Any = None,
         peepholes: Any = None, *, activations: Any, activation_alpha: Any, activation_beta: Any, clip: float | None,
         direction: str, hidden_size: int | None, input_forget: int, layout: int = 0, output_sequence: int = 0,
         seen: Callable[[Any], Any] = lambda h: h) -> Any:
    """`seen` is the hidden state as its product sees it; a quantised LSTM sees less than there is."""
    w, r, b, acts = recurrent_weights("LSTM", w, r, b, clip, activations, activation_alpha, activation_beta)
    p = np.zeros((len(w), 3 * r.shape[2]), w.dtype) if peepholes is None else widen(peepholes)
    return run_directions("LSTM", x, w, r, b, sequence_lens, [initial_h, initial_c], direction, layout,
                          lambda d: lstm_step(w[d], r[d], b[d], p[d], acts[d], clip, input_forget, seen))


# Lowering

Meaning = Callable[..., tuple[Expr, ...]]


def _activate_expr(p: Builder, row: Chosen, x: Expr, clip: float | None) -> Expr:
    name, alpha, beta = row
    if clip is not None:
        x = p.min(p.max(x, -clip), clip)
    return ACTIVATIONS[name].lower(p, x, alpha, beta)


def _rnn_cell(p: Builder, x: Expr, states: Sequence[Expr], r: Expr, rb: Expr, acts: Sequence[Chosen],
              clip: float | None) -> list[Expr]:
    return [_activate_expr(p, acts[0], x + p.contract(states[0], r, [1], [1]) + rb, clip)]


def _gru_cell(p: Builder, x: Expr, states: Sequence[Expr], r: Expr, rb: Expr, acts: Sequence[Chosen],
              clip: float | None, linear_before_reset: bool) -> list[Expr]:
    (h,), hidden = states, r.shape[1]
    gates_r, new_r = p.split(r, [2 * hidden, hidden], 0)
    gates_b, new_b = p.split(rb, [2 * hidden, hidden], 0)
    gates_x, new_x = p.split(x, [2 * hidden, hidden], 1)
    gates = _activate_expr(p, acts[0], gates_x + p.contract(h, gates_r, [1], [1]) + gates_b, clip)
    update, reset = p.split(gates, [hidden, hidden], 1)
    if linear_before_reset:
        recurrent = reset * (p.contract(h, new_r, [1], [1]) + new_b)
    else:
        recurrent = p.contract(reset * h, new_r, [1], [1]) + new_b
    new = _activate_expr(p, acts[1], new_x + recurrent, clip)
    return [new + update * (h - new)]


def lstm_cell(p: Builder, x: Expr, states: Sequence[Expr], r: Expr, rb: Expr, acts: Sequence[Chosen],
               clip: float | None, input_forget: bool, peepholes: Expr | None, seen: Callable[[Expr], Expr] | None
               ) -> list[Expr]:
    (h, c), hidden = states, r.shape[1]
    f, g, h_of = acts
    i, o, forget, new = p.split(x + p.contract(seen(h) if seen else h, r, [1], [1]) + rb, [hidden] * 4, 1)
    pi, po, pf = (None,) * 3 if peepholes is None else p.split(peepholes, [hidden] * 3, 0)
    i = _activate_expr(p, f, i if pi is None else i + pi * c, clip)
    forget = 1.0 - i if input_forget else _activate_expr(p, f, forget if pf is None else forget + pf * c, clip)
    c = forget * c + i * _activate_expr(p, g, new, clip)
    o = _activate_expr(p, f, o if po is None else o + po * c, clip)
    return [o * _activate_expr(p, h_of, c, None), c]


def recurrence(p: Builder, x: Expr, w: Expr, r: Expr, b: Expr | None, lens: Expr | None, *rest: Expr | None, cell: str,
             backwards: Sequence[bool], activations: Sequence[Sequence[Chosen]], clip: float | None,
             linear_before_reset: bool = False, input_forget: bool = False,
               seen: Callable[[Expr], Expr] | None = None) -> tuple[Expr, ...]:
    """A whole recurrent operator, time first. `rest`: the initial states, then the peepholes of an LSTM; `seen` is the
    hidden state as an LSTM's product sees it.

    The part of the gates that does not wait for a state is one product for all steps.
    """
    states = _CELLS[cell].states
    (steps, batch, _), hidden = x.shape, r.shape[2]
    ys, lasts = [], []
    for d, back in enumerate(backwards):
        def of(e: Expr | None, d: int = d) -> Expr | None:
            return None if e is None else p.squeeze(p.take(e, 0, d, d + 1), [0])

        wd, rd, bd = of(w), of(r), of(b)
        assert wd is not None and rd is not None
        xw = p.contract(x, wd, [2], [1])  # (T,B,gates*H)
        rb = p.full((r.shape[1],), 0, x.dtype)
        if bd is not None:
            wb, rb = p.split(bd, [r.shape[1]] * 2, 0)
            xw = xw + wb
        if back:
            xw = reversed_steps(p, xw)
        initial = [s if (s := of(rest[i])) is not None else p.full((batch, hidden), 0, x.dtype) for i in range(states)]
        peepholes = of(rest[states]) if len(rest) > states else None

        def body(p: Builder, i: Expr, carried: tuple[Expr, ...], slices: tuple[Expr, ...], rd: Expr = rd, rb: Expr = rb,
                 acts: Sequence[Chosen] = activations[d], peepholes: Expr | None = peepholes, back: bool = back
                 ) -> tuple[Sequence[Expr], Sequence[Expr]]:
            if cell == "LSTM":
                new = lstm_cell(p, slices[0], carried, rd, rb, acts, clip, input_forget, peepholes, seen)
            elif cell == "GRU":
                new = _gru_cell(p, slices[0], carried, rd, rb, acts, clip, linear_before_reset)
            else:
                new = _rnn_cell(p, slices[0], carried, rd, rb, acts, clip)
            if lens is None:
                return new, [new[0]]
            t = p.size(steps) - 1 - i if back else i
            inside = p.expand_dims(p.lt(t, p.cast(lens, dtypes.INT64)), [1])
            return [p.select(inside, a, b) for a, b in zip(new, carried)], [p.select(inside, new[0], 0.0)]

        last, (y,) = p.loop(steps, initial, body, [xw])
        ys.append(p.expand_dims(reversed_steps(p, y) if back else y, [1]))
        lasts.append(last)
    finals = [p.concat([p.expand_dims(s, [0]) for s in parts], 0) for parts in zip(*lasts)]
    return p.concat(ys, 1), *finals


def reversed_steps(p: Builder, x: Expr) -> Expr:
    return p.take(x, 0, x.shape[0] - 1, -1, -1)


def _lower(name: str, p: Builder, args: Sequence[Expr | None], attributes: dict[str, Any], layout: int, **variant: bool
           ) -> tuple[Expr, ...]:
    x = args[0]
    assert x is not None
    dtype = x.dtype
    # W, R, B and P have no batch axis; the rest swaps its first two.
    swapped = [p.transpose(a, (1, 0, 2)) if layout and a is not None and i in (0, 5, 6) else a
               for i, a in enumerate(args)]
    inputs = [a if i == 4 else wide(p, a) for i, a in enumerate(swapped)]
    ways = directions_of(attributes["direction"])
    acts = chosen(attributes["activations"], attributes["activation_alpha"], attributes["activation_beta"],
                  _CELLS[name].activations, len(ways))
    found = p.composite(name.lower(), recurrence, *inputs, cell=name, backwards=tuple(ways),
                        activations=tuple(map(tuple, acts)), clip=attributes["clip"], **variant)
    y, *last = (p.cast(e, dtype) for e in found)
    if layout:
        y, last = p.transpose(y, (2, 0, 1, 3)), [p.transpose(s, (1, 0, 2)) for s in last]
    return (y, *last)[:p.outputs]


@RNN.lower
def _(p: Builder, *inputs: Expr | None, layout: int = 0, **attributes: Any) -> tuple[Expr, ...]:
    return _lower("RNN", p, [*inputs, *[None] * (6 - len(inputs))], attributes, layout)


@GRU.lower
def _(p: Builder, *inputs: Expr | None, layout: int = 0, linear_before_reset: int = 0, **attributes: Any
      ) -> tuple[Expr, ...]:
    return _lower("GRU", p, [*inputs, *[None] * (6 - len(inputs))], attributes, layout,
                  linear_before_reset=bool(linear_before_reset))


@LSTM.lower
def _(p: Builder, *inputs: Expr | None, layout: int = 0, input_forget: int, **attributes: Any) -> tuple[Expr, ...]:
    return _lower("LSTM", p, [*inputs, *[None] * (8 - len(inputs))], attributes, layout,
                  input_forget=bool(input_forget))
