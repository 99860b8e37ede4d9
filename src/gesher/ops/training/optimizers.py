"""One step of Adagrad, Adam or Momentum for any number of tensors.

All take the learning rate R, the count T of steps done, and then the tensors by kind: all X, all their gradients G, all
their states (one kind, or two for Adam). They give the new X, then the new states, by kind again. R and T are single
numbers, of rank 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Operator, Output, op, tensors

Array = np.ndarray[Any, Any]
TRAINING = "ai.onnx.preview.training"

_REALS = tensors("float double")


def _step(name: str, *attributes: Attr) -> Operator:
    return op(name, Input("R", "T1"), Input("T", "T2"), Input("inputs", "T3", variadic=True, homogeneous=False),
              Output("outputs", "T3", variadic=True, homogeneous=False), *attributes, domain=TRAINING,
              T1=_REALS, T2=tensors("int64"), T3=_REALS)


Adagrad = _step("Adagrad", Attr("norm_coefficient", "float", 0.0), Attr("decay_factor", "float", 0.0),
                Attr("epsilon", "float", 1e-6))
Adam = _step("Adam", Attr("alpha", "float", 0.9), Attr("beta", "float", 0.999), Attr("norm_coefficient", "float", 0.0),
             Attr("norm_coefficient_post", "float", 0.0), Attr("epsilon", "float", 1e-6))
Momentum = _step("Momentum", Attr("alpha", "float", REQUIRED), Attr("beta", "float", REQUIRED),
                 Attr("mode", "string", REQUIRED), Attr("norm_coefficient", "float", REQUIRED))

# How many tensors of state each operator keeps for an X.
_STATES = {"Adagrad": 1, "Adam": 2, "Momentum": 1}


def _groups(name: str, tensors: Any) -> list[list[Any]]:
    """For each X a list of it, its gradient, its states."""
    kinds = 2 + _STATES[name]
    if not tensors or len(tensors) % kinds:
        raise ModelError(f"{name}: {len(tensors)} tensors do not part into {kinds} kinds", rule="input-count",
                         advice="give R, T, then every X, every gradient, and every state, kind by kind")
    n = len(tensors) // kinds
    return [list(tensors[i::n]) for i in range(n)]


@Adagrad.infer
@Adam.infer
@Momentum.infer
def _(node: InferNode) -> None:
    inputs = range(2, len(node.node.inputs))
    groups = _groups(node.operator.name, list(inputs))
    for i, (x, *others) in enumerate(groups):
        shape: Sequence[DimLike | None] | None = node.shape(x)
        for other in others:
            theirs = node.shape(other)
            if shape is None or theirs is None:
                continue
            if len(theirs) != len(shape):
                node.fail(f"input {other} has rank {len(theirs)}, the tensor that it belongs to {len(shape)}")
            shape = tuple(node.unify(a, b, f"input {other} is shaped as input {x}") for a, b in zip(shape, theirs))
        for kind, source in enumerate([x, *others[1:]]):
            node.set(i + kind * len(groups), node.dtype(source), shape)


def _regathered(groups: list[list[Any]]) -> tuple[Any, ...]:
    return tuple(group[kind] for kind in range(len(groups[0])) for group in groups)


Rule = Callable[..., list[Any]]


def _reference(name: str, rule: Rule) -> Any:
    def run(r: Array, t: Array, *tensors: Array, **a: Any) -> tuple[Array, ...]:
        rate, count = float(r.reshape(())), int(t.reshape(()))
        made = []
        for x, g, *states in _groups(name, tensors):
            if any(other.shape != x.shape for other in (g, *states)):
                raise ModelError(f"{name}: X is {x.shape}, what belongs to it "
                                 f"{', '.join(str(other.shape) for other in (g, *states))}", rule="shape")
            # In float64, rounded once.
            results = rule(rate, count, *(v.astype(np.float64) for v in (x, g, *states)), **a)
            made.append([y.astype(like.dtype) for y, like in zip(results, [x, *states])])
        return _regathered(made)

    return run


def _adagrad(r: float, t: int, x: Array, g: Array, h: Array, *, norm_coefficient: float, decay_factor: float,
             epsilon: float) -> list[Array]:
    g = norm_coefficient * x + g
    h = h + g * g
    return [x - r / (1 + t * decay_factor) * g / (np.sqrt(h) + epsilon), h]


def _adam(r: float, t: int, x: Array, g: Array, v: Array, h: Array, *, alpha: float, beta: float, epsilon: float,
          norm_coefficient: float, norm_coefficient_post: float) -> list[Array]:
    g = norm_coefficient * x + g
    v = alpha * v + (1 - alpha) * g
    h = beta * h + (1 - beta) * g * g
    if t > 0:
        # The averages begin at zero, which this makes good for.
        r = r * np.sqrt(1 - beta**t) / (1 - alpha**t)
    return [(1 - norm_coefficient_post) * (x - r * v / (np.sqrt(h) + epsilon)), v, h]


def _momentum(r: float, t: int, x: Array, g: Array, v: Array, *, alpha: float, beta: float, mode: str,
              norm_coefficient: float) -> list[Array]:
    _check_mode(mode)
    g = norm_coefficient * x + g
    v = alpha * v + (beta if t > 0 else 1) * g
    return [x - r * (v if mode == "standard" else g + alpha * v), v]


def _check_mode(mode: str) -> None:
    if mode not in ("standard", "nesterov"):
        raise ModelError(f"Momentum: there is no mode {mode!r}", rule="attribute-value",
                         advice="it is standard or nesterov")


Adagrad.reference(_reference("Adagrad", _adagrad))
Adam.reference(_reference("Adam", _adam))
Momentum.reference(_reference("Momentum", _momentum))


def _lowering(name: str, rule: Rule) -> Any:
    def lower(p: Any, r: Any, t: Any, *tensors: Any, **a: Any) -> tuple[Any, ...]:
        r, t = p.reshape(r, ()), p.reshape(t, ())
        made = []
        for x, g, *states in _groups(name, tensors):
            kind = x.dtype
            results = rule(p, p.cast(r, kind), t, x, *(p.cast(v, kind) for v in (g, *states)), **a)
            made.append([p.cast(y, like.dtype) for y, like in zip(results, [x, *states])])
        return _regathered(made)

    return lower


def _lower_adagrad(p: Any, r: Any, t: Any, x: Any, g: Any, h: Any, *, norm_coefficient: float, decay_factor: float,
                   epsilon: float) -> list[Any]:
    g = x * norm_coefficient + g
    h = h + g * g
    rate = r / (p.cast(t, x.dtype) * decay_factor + 1.0)
    return [x - g * rate / (p.sqrt(h) + epsilon), h]


def _lower_adam(p: Any, r: Any, t: Any, x: Any, g: Any, v: Any, h: Any, *, alpha: float, beta: float, epsilon: float,
                norm_coefficient: float, norm_coefficient_post: float) -> list[Any]:
    g = x * norm_coefficient + g
    v = v * alpha + g * (1 - alpha)
    h = h * beta + g * g * (1 - beta)
    # In double: 1 - 0.999**t loses half of float32's digits at the first steps.
    count = p.cast(t, dtypes.DOUBLE)
    left = [p.pow(p.scalar(base, dtypes.DOUBLE), count) * -1.0 + 1.0 for base in (alpha, beta)]
    adjusted = p.cast(p.cast(r, dtypes.DOUBLE) * p.sqrt(left[1]) / left[0], x.dtype)
    rate = p.select(t > 0, adjusted, r)
    return [(x - v * rate / (p.sqrt(h) + epsilon)) * (1 - norm_coefficient_post), v, h]


def _lower_momentum(p: Any, r: Any, t: Any, x: Any, g: Any, v: Any, *, alpha: float, beta: float, mode: str,
                    norm_coefficient: float) -> list[Any]:
    _check_mode(mode)
    g = x * norm_coefficient + g
    v = v * alpha + g * p.select(t > 0, p.scalar(beta, x.dtype), p.scalar(1, x.dtype))
    return [x - r * (v if mode == "standard" else v * alpha + g), v]


Adagrad.lower(_lowering("Adagrad", _lower_adagrad))
Adam.lower(_lowering("Adam", _lower_adam))
Momentum.lower(_lowering("Momentum", _lower_momentum))
