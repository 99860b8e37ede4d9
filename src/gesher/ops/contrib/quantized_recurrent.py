"""DynamicQuantizeLSTM: an LSTM with quantised weights, whose input and hidden state are quantised as they come.

What a reader would guess wrong: W is (directions, features, 4 * hidden) and R (directions, hidden, 4 * hidden), the
transposes of an LSTM's; X is quantised once for all steps, the hidden state at every step, each by the least and the
largest number in it, over the whole batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.borrowing import rule_of
from gesher.ops.core.quantization import DynamicQuantizeLinear, dynamic_quantize_linear
from gesher.ops.core.recurrent import directions_of, lstm, recurrence
from gesher.ops.gates import chosen
from gesher.ops.quantized import less_zero, less_zero_expr, real_expr, real_of
from gesher.ops.rules import InferNode
from gesher.ops.schema import Attr, Input, Output, op
from gesher.primitives import Builder, Expr

from .types import BYTES, FLOAT, INT32, MS

DynamicQuantizeLSTM = op("DynamicQuantizeLSTM", Input("X"), Input("W", "T2"), Input("R", "T2"),
                         Input("B", optional=True), Input("sequence_lens", "T1", optional=True),
                         Input("initial_h", optional=True), Input("initial_c", optional=True),
                         Input("P", optional=True), Input("W_scale"), Input("W_zero_point", "T2"), Input("R_scale"),
                         Input("R_zero_point", "T2"), Output("Y", optional=True), Output("Y_h", optional=True),
                         Output("Y_c", optional=True), Attr("input_forget", "int", 0), Attr("activations", "strings"),
                         Attr("clip", "float"), Attr("activation_beta", "floats"), Attr("activation_alpha", "floats"),
                         Attr("hidden_size", "int"), Attr("direction", "string", "forward"), domain=MS, T=FLOAT,
                         T1=INT32, T2=BYTES)

_DEFAULTS = ("sigmoid", "tanh", "tanh")


@DynamicQuantizeLSTM.infer
def _(node: InferNode) -> None:
    try:
        ways = len(directions_of(node["direction"]))
        chosen(node["activations"], node["activation_alpha"], node["activation_beta"], _DEFAULTS, ways)
    except ModelError as e:
        node.fail(e.what, e.advice)

    def dims(index: int, name: str, rank: int) -> tuple[DimLike | None, ...]:
        shape = node.shape(index)
        if shape is not None and len(shape) != rank:
            node.fail(f"{name} has {rank} axes, not {print_shape(shape)}")
        return (None,) * rank if shape is None else shape

    (steps, batch, features), w, r = dims(0, "X", 3), dims(1, "W", 3), dims(2, "R", 3)
    hidden = node.unify(r[1], node["hidden_size"], "the rows of R and hidden_size")
    gates = None if hidden is None else hidden * 4
    for matrix, name in ((w, "W"), (r, "R")):
        node.unify(matrix[0], ways, f"{name} and {ways} direction(s)")
        node.unify(matrix[2], gates, f"the columns of {name} and 4 gates")
    node.unify(w[1], features, "the rows of W and the features of X")
    batch = node.unify(batch, dims(4, "sequence_lens", 1)[0], "sequence_lens and the batch")
    for i, name in ((5, "initial_h"), (6, "initial_c")):
        state = dims(i, name, 3)
        batch = node.unify(batch, state[1], f"the batch of X and of {name}")
        hidden = node.unify(hidden, state[2], f"{name} and the hidden size")
    why = "the shape of X or of R is unknown"
    node.set(0, dtypes.FLOAT, (steps, ways, batch, hidden), why=why)
    for i in (1, 2):
        node.set(i, dtypes.FLOAT, (ways, batch, hidden), why=why)


def _weight(w: Any, scale: Any, zero: Any) -> Any:
    """A weight as an LSTM has it, from its counts; a direction has one scale, or one for each column."""
    shape = (len(w), 1, -1)
    return (less_zero(w, zero.reshape(shape)).astype(np.float32) * scale.reshape(shape)).swapaxes(1, 2)


def _coarse(x: Any) -> Any:
    """x as its quantisation shows it."""
    return real_of(*dynamic_quantize_linear(x))


@DynamicQuantizeLSTM.reference
def dynamic_quantize_lstm(x: Any, w: Any, r: Any, b: Any, sequence_lens: Any, initial_h: Any, initial_c: Any,
                          peepholes: Any, w_scale: Any, w_zero: Any, r_scale: Any, r_zero: Any,
                          **attributes: Any) -> Any:
    return lstm(_coarse(x), _weight(w, w_scale, w_zero), _weight(r, r_scale, r_zero), b, sequence_lens, initial_h,
                initial_c, peepholes, seen=_coarse, **attributes)


@DynamicQuantizeLSTM.lower
def _(p: Builder, x: Expr, w: Expr, r: Expr, b: Expr | None, lens: Expr | None, h: Expr | None, c: Expr | None,
      peepholes: Expr | None, w_scale: Expr, w_zero: Expr, r_scale: Expr, r_zero: Expr, *, direction: str,
      hidden_size: int | None, input_forget: int, activations: Any, activation_alpha: Any, activation_beta: Any,
      clip: float | None) -> tuple[Expr, ...]:
    ways = directions_of(direction)
    quantize = rule_of(DynamicQuantizeLinear, "lower", 11)

    def weight(e: Expr, scale: Expr, zero: Expr) -> Expr:
        scale, zero = (p.reshape(v, (v.shape[0], 1, v.shape[1] if v.rank > 1 else 1)) for v in (scale, zero))
        return p.transpose(p.cast(less_zero_expr(p, e, zero), dtypes.FLOAT) * scale, (0, 2, 1))

    found = recurrence(p, real_expr(p, *quantize(p, x)), weight(w, w_scale, w_zero), weight(r, r_scale, r_zero), b,
                       lens, h, c, peepholes, cell="LSTM", backwards=ways, clip=clip, input_forget=bool(input_forget),
                       activations=chosen(activations, activation_alpha, activation_beta, _DEFAULTS, len(ways)),
                       seen=lambda e: real_expr(p, *quantize(p, e)))
    return found[:p.outputs]
