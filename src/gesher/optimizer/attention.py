"""Attention recognised from its pieces, as PyTorch's two exporters, tf2onnx and Paddle write them.

    softmax((q * a) @ (k * b)' * c + mask) @ v

What is found is where the scores come from (`_Scores`): the product is followed down from the softmax through scalar
factors, sums with a mask, choices by a mask, and casts that do nothing. Keys may come transposed in one step with the
heads being put apart; a transpose of the last two axes is written, and cancelled with that one.

What a reader would guess wrong:

- Queries that see nothing: a softmax of -inf alone is NaN, ONNX's Attention gives zeros. Where a mask is not known to
  leave every row something, our own `SoftmaxAttention` is made, which keeps the NaN. Exporters that put zeros in the
  place of NaN behind the softmax, or of rows that a mask hides whole, say that they want the zeros.
- A choice by a mask with a finite number (-1e9) keeps the differences of the scores nowhere, a sum does. Both are the
  same where the number is so low that scores vanish beside it, or where a weight of exp(number) is 0 and every row
  sees something.
- Three axes, (batch * heads, length, size), are four with a batch of 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Node, Value
from gesher.rewriter import Rewrite, Work, rule

# Scores above a few of these are none: beside it in float32 they vanish.
_SWALLOWS = -1e30
# exp(x) is 0 in float32 below about -104; scores of a size of thousands are none either.
_VANISHES = -9999.0


@dataclass
class _Scores:
    """Where scores come from.

    Attributes:
        q, k: queries (..., S, D) and keys transposed (..., D, T).
        scale: the product of all scalar factors.
        sums: what is added to the scores, in their order.
        choices: (condition, seen where true, number elsewhere).
        inside: values that nobody else may read.
    """

    q: Value
    k: Value
    scale: float = 1.0
    sums: list[Value] = field(default_factory=list)
    choices: list[tuple[Value, bool, float]] = field(default_factory=list)
    inside: list[Value] = field(default_factory=list)


def _scores(work: Work, v: Value | None, depth: int = 8) -> _Scores | None:
    """How `v` is made of a product of queries and keys; None where it is not."""
    node = None if v is None else v.producer
    if v is None or node is None or depth == 0 or node.domain not in ("", "ai.onnx") or not work.is_current(node):
        return None
    found: _Scores | None = None
    if node.op_type == "MatMul":
        q, k = node.inputs
        if q is None or k is None or work.constant_of(k) is not None:
            return None
        found = _Scores(q, k)
    elif node.op_type in ("Mul", "Div"):
        found = _scaled(work, node, depth)
    elif node.op_type == "Add":
        a, b = node.inputs
        for x, m in ((a, b), (b, a)):
            found = _scores(work, x, depth - 1)
            if found is not None and m is not None:
                found.sums.append(m)
                break
    elif node.op_type == "Where":
        c, a, b = node.inputs
        for x, other, seen in ((a, b, True), (b, a, False)):
            number = None if other is None else work.scalar(other)
            if number is None or c is None:
                continue
            found = _scores(work, x, depth - 1)
            if found is not None:
                found.choices.append((c, seen, float(number)))
                break
    if found is not None:
        found.inside.append(v)
    return found


def _scaled(work: Work, node: Node, depth: int) -> _Scores | None:
    a, b = node.inputs
    for x, c in ((a, b), (b, a)) if node.op_type == "Mul" else ((a, b),):
        factor = None if c is None else work.scalar(c)
        if factor is None or not factor or not isfinite(factor):
            continue
        found = _scores(work, x, depth - 1)
        # A factor behind the mask scales the mask, too.
        if found is None or found.sums or found.choices:
            return None
        found.scale = found.scale / factor if node.op_type == "Div" else found.scale * factor
        return found
    return None


def _unscaled(work: Work, v: Value, inside: list[Value]) -> tuple[Value, float]:
    """A value without the scalar factor that is its last step, and that factor."""
    node = work.producer(v, "Mul", "Div")
    if node is None or work.only_user(v) is None:
        return v, 1.0
    a, b = node.inputs
    for x, c in ((a, b), (b, a)) if node.op_type == "Mul" else ((a, b),):
        factor = None if c is None else work.scalar(c)
        if factor and isfinite(factor) and x is not None and work.same_shape(work.shape(x), work.shape(v)):
            return x, 1 / factor if node.op_type == "Div" else factor
    return v, 1.0


@rule("attention", "MatMul", reach=12)
def _attention(work: Work, node: Node) -> Any:
    p, v = node.inputs
    if p is None or v is None or work.constant_of(v) is not None:
        return None
    softmax, zeros, inside = _softmax(work, p)
    hidden: Value | None = None
    if softmax is None:
        softmax, hidden, inside = _unhidden(work, p)
        if softmax is None:
            return None
    rank = len(work.shape(p) or ())
    if rank not in (3, 4) or work.attribute(softmax, "axis") not in (-1, rank - 1):
        return "the softmax does not run along the keys"
    s = _scores(work, softmax.inputs[0])
    if s is None:
        return "the scores are no product of queries and keys"
    read = next((x for x in (*inside, *s.inside) if len({*x.uses}) > (2 if zeros and x is inside[-1] else 1)), None)
    if read is not None:
        return f"'{read.name}' is read elsewhere too"
    if work.dtype(p) not in (dtypes.FLOAT, dtypes.DOUBLE):
        return "in narrow floats each step is rounded"
    if hidden is not None:
        if hidden not in ([c for c, seen, _ in s.choices if seen] or s.sums) or len(s.choices) + len(s.sums) > 1:
            return "rows are hidden by another mask than the scores"
        zeros = True
    q, by_q = _unscaled(work, s.q, s.inside)
    k, by_k = _unscaled(work, s.k, s.inside)
    scale = s.scale * by_q * by_k
    if not scale > 0:
        return "the scale has no square root"
    shapes = [work.shape(x) for x in (q, k, v, p)]
    if any(x is None or len(x) != rank for x in shapes):
        return "queries, keys and values are not of one rank"
    causal = _causal(work, s, shapes[3])  # type: ignore[arg-type]
    mask = (None, True) if causal else _mask(work, s, shapes[3])  # type: ignore[arg-type]
    if isinstance(mask, str):
        return mask
    if not _transposed(work, k):
        return "the keys lie as the product wants them; to turn them around would cost more than it gains"
    perm = [*range(rank - 2), rank - 1, rank - 2]
    k = work.op("Transpose", k, perm=perm)
    if rank == 3:
        q, k, v = (work.op("Unsqueeze", x, [0]) for x in (q, k, v))
    value, sees = mask
    made: dict[str, Any] = {"scale": scale, "is_causal": 1 if causal else None}
    # A choice takes nothing of the scores that it hides, a sum would take their NaN and infinities along.
    if zeros or (sees and not s.choices):
        y = work.op("Attention", q, k, v, value, **made)
    else:
        y = work.op("SoftmaxAttention", q, k, v, value, domain="gesher", **made)
    return work.op("Squeeze", y, [0]) if rank == 3 else y


def _softmax(work: Work, p: Value) -> tuple[Node | None, bool, list[Value]]:
    """The softmax whose weights `p` are; whether NaN among them become zeros; the values between."""
    node = work.producer(p, "Where")
    if node is None:
        return work.producer(p, "Softmax"), False, [p]
    c, a, b = node.inputs
    test = work.producer(c, "IsNaN")
    if test is None or a is None or b is None or c is None or work.scalar(a) != 0 or test.inputs[0] is not b:
        return None, False, []
    return work.producer(b, "Softmax"), True, [p, c, b]


def _unhidden(work: Work, p: Value) -> tuple[Node | None, Value | None, list[Value]]:
    """The softmax whose weights `p` are, with zeros in the rows that a mask hides whole, and that mask."""
    node = work.producer(p, "Where")
    c, a, b = node.inputs if node is not None else (None, None, None)
    softmax = work.producer(b, "Softmax")
    if softmax is None or c is None or a is None or b is None or work.scalar(a) != 0:
        return None, None, []
    rows = work.producer(c, "Equal")
    most = None
    if rows is not None and (bound := rows.inputs[1]) is not None and work.scalar(bound) == -np.inf:
        most = rows.inputs[0]
    elif (rows := work.producer(c, "Not")) is not None and (truth := work.producer(rows.inputs[0], "Cast")) is not None:
        most = truth.inputs[0]
    found = work.producer(most, "ReduceMax")
    if rows is None or found is None or found.inputs[0] is None or not work.attribute(found, "keepdims"):
        return None, None, []
    rank = len(work.shape(found.inputs[0]) or ())
    axes = work.ints(found.inputs[1]) if len(found.inputs) > 1 else work.attribute(found, "axes")
    if axes is None or [d % rank for d in axes] != [rank - 1]:
        return None, None, []
    mask: Value | None = found.inputs[0]
    if rows.op_type == "Not":
        numbers = work.producer(mask, "Cast")
        mask = None if numbers is None else numbers.inputs[0]
        if mask is None or work.dtype(mask) is not dtypes.BOOL:
            return None, None, []
    return softmax, mask, [p, b]


def _transposed(work: Work, k: Value) -> bool:
    """Whether keys come from a transpose that swaps their last two axes, which then goes or joins another."""
    return work.producer(k, "Transpose") is not None


def _causal(work: Work, s: _Scores, scores: tuple[Any, ...]) -> bool:
    """Whether the only mask lets query i see the keys 0 to i: a triangle, or the upper left corner of one."""
    if len(s.sums) + len(s.choices) != 1:
        return False
    if s.choices:
        value, seen, number = s.choices[0]
        if number > _VANISHES:
            return False
    else:
        value, seen = s.sums[0], True
    shape = work.shape(value)
    if shape is None or not work.same_shape(shape, [1] * (len(shape) - 2) + list(scores[-2:])):
        return False
    # Cutting rows and columns behind the first ones off leaves the corner.
    node = work.producer(value, "Slice")
    while node is not None and node.inputs[0] is not None:
        starts, axes = work.ints(node.inputs[1]), work.ints(node.inputs[3]) if len(node.inputs) > 3 else None
        steps = work.ints(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
        if starts is None or axes is None or steps is None or any(starts) or any(d != 1 for d in steps):
            return False
        value = node.inputs[0]
        node = work.producer(value, "Slice")
    known = work.constant_of(value)
    if known is None or len(known.shape) < 2 or any(d != 1 for d in known.shape[:-2]):
        return False
    numbers = known.numpy().reshape(known.shape[-2:])
    triangle = np.tri(*numbers.shape, dtype=np.bool_)
    if s.choices:
        return numbers.dtype == np.bool_ and bool((numbers == (triangle if seen else ~triangle)).all())
    return bool((numbers[triangle] == 0).all() and (numbers[~triangle] <= _SWALLOWS).all())


def _mask(work: Work, s: _Scores, scores: tuple[Any, ...]) -> tuple[Value | None, bool] | str:
    """One mask for all that is added to scores of shape `scores` or chooses among them, and whether it surely leaves
    every row something to see."""
    parts: list[Value] = []
    if len(s.choices) > 1 or (s.choices and s.sums):
        return "several masks"
    for m in s.sums:
        parts.append(m)
    mask: Value | None = None
    sees = False
    if parts:
        mask = parts[0]
        for m in parts[1:]:
            mask = work.op("Add", mask, m)
        known = work.constant_of(mask)
        finite = known is not None and bool((known.numpy() > -np.inf).any(-1).all())
        sees = finite or _never_blind(work, mask)
    if s.choices:
        c, seen, number = s.choices[0]
        known = work.constant_of(c)
        sees = known is not None and bool((known.numpy() == seen).any(-1).all())
        if number == -np.inf or (number <= _VANISHES and sees):
            mask = c if seen else work.op("Not", c)
        elif number <= _SWALLOWS:
            low, none = np.float32(number), np.float32(0)
            if work.dtype(s.inside[0]) is dtypes.DOUBLE:
                return "in float64 the scores do not vanish beside it"
            mask = work.op("Where", c, none, low) if seen else work.op("Where", c, low, none)
            sees = True    # it is finite
        else:
            return f"{number} is not surely so low that a score is nothing beside it"
    if mask is None:
        return None, True
    return _fitted(work, mask, scores, sees)


def _never_blind(work: Work, mask: Value) -> bool:
    """Whether a mask is surely finite: a choice of finite numbers."""
    node = work.producer(mask, "Where")
    return node is not None and all(
        x is not None and work.scalar(x) is not None and isfinite(work.scalar(x)) for x in node.inputs[1:])


def _fitted(work: Work, mask: Value, scores: tuple[Any, ...], sees: bool) -> tuple[Value, bool] | str:
    """The mask with a column for each key, and with four axes where the scores have three."""
    shape = work.shape(mask)
    if shape is None or len(shape) > len(scores):
        return "the mask has more axes than the scores"
    behind = scores[len(scores) - len(shape):]
    if any(d != 1 and not work.equal(d, n) for d, n in zip(shape, behind)):
        return "the mask may be larger than the scores"
    if not shape or not work.equal(shape[-1], scores[-1]):
        # Each key has a column of its own in ONNX's operator; a missing one would be a key that nobody sees.
        return "the mask has no column for each key"
    if len(scores) == 3 and len(shape) == 3:
        mask = work.op("Unsqueeze", mask, [0])
    return mask, sees


RULES: tuple[Rewrite, ...] = (_attention,)
