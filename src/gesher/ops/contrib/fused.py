"""Products and convolutions with what follows them fused in: an activation, a sum, a transposition.

What a reader would guess wrong: `transBatchA` moves A's *first* axis behind the batch axes, before `transA` swaps the
last two; and FusedConv adds Z before its activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base.errors import ModelError
from gesher.ir import DimLike, TensorType
from gesher.ops.arithmetic import computed, lowered
from gesher.ops.borrowing import rule_of
from gesher.ops.broadcasting import broadcast_into
from gesher.ops.core.convolution import Conv, conv
from gesher.ops.core.products import Gemm, gemm_7, infer_matmul
from gesher.ops.fact import Fact
from gesher.ops.gates import ACTIVATIONS
from gesher.ops.rules import InferNode
from gesher.ops.schema import BF16, FLOATS, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, Expr

from .types import MS

_TRANS = (Attr("transA", "int", 0), Attr("transB", "int", 0), Attr("alpha", "float", 1.0))

FusedMatMul = op("FusedMatMul", Input("A"), Input("B"), Output("Y"), *_TRANS, Attr("transBatchA", "int", 0),
                 Attr("transBatchB", "int", 0), domain=MS, T=FLOATS | BF16)
TransposeMatMul = op("TransposeMatMul", Input("A"), Input("B"), Output("Y"), *_TRANS, domain=MS, T=FLOATS | BF16)

FusedGemm = op("FusedGemm", Input("A"), Input("B"), Input("C", optional=True), Output("Y"), *_TRANS,
               Attr("beta", "float", 1.0), Attr("activation", "string"), Attr("activation_alpha", "float"),
               Attr("activation_beta", "float"), Attr("activation_gamma", "float"), domain=MS,
               T=FLOATS | tensors("int32 int64 uint32 uint64"))

FusedConv = op("FusedConv", Input("X"), Input("W"), Input("B", optional=True), Input("Z", optional=True), Output("Y"),
               Attr("auto_pad", "string", "NOTSET"), Attr("kernel_shape", "ints"), Attr("dilations", "ints"),
               Attr("strides", "ints"), Attr("pads", "ints"), Attr("group", "int", 1), Attr("activation", "string"),
               Attr("activation_params", "floats"), domain=MS, T=FLOATS)


# The activations that may be fused

_PARAMETERS = {"relu": 0, "tanh": 0, "sigmoid": 0, "softplus": 0, "softsign": 0, "leakyrelu": 1, "elu": 1,
               "thresholdedrelu": 1, "hardsigmoid": 2, "scaledtanh": 2, "clip": 2}


def _activation(name: str | None, parameters: Sequence[float | None]) -> tuple[str, float, float] | None:
    """The activation as (name, alpha, beta); None where none is written.

    Raises:
        ModelError: it is unknown, or lacks a parameter.
    """
    if not name:
        return None
    plain = name.lower()
    if plain not in _PARAMETERS:
        raise ModelError(f"the activation cannot be '{name}'", rule="activation",
                         advice="it is one of " + ", ".join(_PARAMETERS))
    need = _PARAMETERS[plain]
    given = [v for v in parameters[:need] if v is not None]
    if len(given) < need:
        raise ModelError(f"the activation {name} needs {need} parameters, {len(given)} are written", rule="activation")
    alpha, beta = [*given, 0.0, 0.0][:2]
    return plain, alpha, beta


def _activate(x: Any, which: tuple[str, float, float] | None) -> Any:
    if which is None:
        return x
    name, alpha, beta = which
    if name == "clip":
        return np.clip(x, x.dtype.type(alpha), x.dtype.type(beta))
    return ACTIVATIONS[name].compute(x, alpha, beta).astype(x.dtype)


def _activate_expr(p: Builder, x: Expr, which: tuple[str, float, float] | None) -> Expr:
    if which is None:
        return x
    name, alpha, beta = which
    if name == "clip":
        return p.min(p.max(x, float(alpha)), float(beta))
    return ACTIVATIONS[name].lower(p, x, float(alpha), float(beta))


def _check_activation(node: InferNode, parameters: Sequence[float | None]) -> None:
    try:
        _activation(node["activation"], parameters)
    except ModelError as e:
        node.fail(e.what, e.advice)


# FusedMatMul and TransposeMatMul

def _order(rank: int, trans: int, batch: int) -> tuple[int, ...]:
    """How a factor's axes are put in order; a vector has none to move."""
    order = list(range(rank))
    if rank > 1 and batch:
        order = [*order[1:-1], 0, rank - 1]
    if rank > 1 and trans:
        order[-2:] = order[:-3:-1]
    return tuple(order)


def _turned(fact: Fact | None, trans: int, batch: int) -> Fact | None:
    if fact is None or fact.shape is None:
        return fact
    shape: tuple[DimLike | None, ...] = fact.shape
    return Fact(TensorType(fact.dtype, tuple(shape[i] for i in _order(len(shape), trans, batch))), why=fact.why)


@FusedMatMul.infer
@TransposeMatMul.infer
def _(node: InferNode) -> None:
    batched = "transBatchA" in node.schema.attributes
    ba, bb = (node["transBatchA"], node["transBatchB"]) if batched else (0, 0)
    facts = [_turned(node.input(0), node["transA"], ba), _turned(node.input(1), node["transB"], bb)]
    seen = InferNode(node.node, node.operator, node.schema, facts, node.equalities)
    infer_matmul(seen, 0, 1, node.dtype(0))
    node.outputs = seen.outputs


@FusedMatMul.reference
@TransposeMatMul.reference
@computed
def fused_matmul(a: Any, b: Any, *, transA: int, transB: int, alpha: float, transBatchA: int = 0,
                 transBatchB: int = 0) -> Any:
    y = np.matmul(a.transpose(_order(a.ndim, transA, transBatchA)), b.transpose(_order(b.ndim, transB, transBatchB)))
    return y * y.dtype.type(alpha)


@FusedMatMul.lower
@TransposeMatMul.lower
@lowered
def _(p: Builder, a: Expr, b: Expr, *, transA: int, transB: int, alpha: float, transBatchA: int = 0,
      transBatchB: int = 0) -> Expr:
    y = p.matmul(p.transpose(a, _order(a.rank, transA, transBatchA)),
                 p.transpose(b, _order(b.rank, transB, transBatchB)))
    return y if alpha == 1 else y * float(alpha)


# FusedGemm

@FusedGemm.infer
def _(node: InferNode) -> None:
    _check_activation(node, (node["activation_alpha"], node["activation_beta"]))
    # Gemm's rule of today; its version decides nothing but an attribute that this operator never had.
    seen = InferNode(node.node, node.operator, Gemm.versions[-1], node.inputs, node.equalities)
    rule_of(Gemm, "infer", 13)(seen)
    node.outputs = seen.outputs


@FusedGemm.reference
def fused_gemm(a: Any, b: Any, c: Any = None, *, activation: str | None, activation_alpha: float | None,
               activation_beta: float | None, activation_gamma: float | None, **attributes: Any) -> Any:
    return _activate(gemm_7(a, b, c, **attributes), _activation(activation, (activation_alpha, activation_beta)))


@FusedGemm.lower
def _(p: Builder, a: Expr, b: Expr, c: Expr | None = None, *, activation: str | None, activation_alpha: float | None,
      activation_beta: float | None, activation_gamma: float | None, **attributes: Any) -> Expr:
    y = rule_of(Gemm, "lower", 13)(p, a, b, c, **attributes)
    return _activate_expr(p, y, _activation(activation, (activation_alpha, activation_beta)))


# FusedConv

@FusedConv.infer
def _(node: InferNode) -> None:
    _check_activation(node, node["activation_params"] or ())
    rule_of(Conv, "infer", 11)(node)
    fact = node.outputs[0]
    if fact is not None and node.has(3):
        broadcast_into(node, fact.shape, node.shape(3), "Z")


@FusedConv.reference
@computed
def fused_conv(x: Any, w: Any, b: Any = None, z: Any = None, *, activation: str | None, activation_params: Any,
               **at: Any) -> Any:
    y = conv(x, w, b, **at)
    return _activate(y if z is None else y + z, _activation(activation, activation_params or ()))


@FusedConv.lower
@lowered
def _(p: Builder, x: Expr, w: Expr, b: Expr | None = None, z: Expr | None = None, *, activation: str | None,
      activation_params: Any, **at: Any) -> Expr:
    y = rule_of(Conv, "lower", 11)(p, x, w, b, **at)
    return _activate_expr(p, y if z is None else y + z, _activation(activation, activation_params or ()))
