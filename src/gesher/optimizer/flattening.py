"""Reshapes behind products of flattened rows: below what goes element by element, until two of them meet and make one.

PyTorch's linear layers take any number of leading axes. Flattened to a matrix each is one Gemm on the weight as the
module has it; between two of them the axes are put back and flattened again for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import DimLike, Node, Value
from gesher.rewriter import Rewrite, Work, rule

_UNARY = ("Abs", "Cast", "Celu", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish",
          "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu")
_BINARY = ("Add", "Div", "Mul", "Sub")


def _reshaped(work: Work, value: Value | None, readers: int) -> Node | None:
    """The Reshape that makes `value`, where it is read so often and no more."""
    made = work.producer(value, "Reshape")
    if made is None or value is None or made.inputs[0] is None or made.inputs[1] is None:
        return None
    return made if sum(value.uses.values()) == readers and not value.is_output else None


@rule("unary_before_reshape", *_UNARY, reach=2, current=False)
def _unary(work: Work, node: Node) -> Any:
    first = _reshaped(work, node.inputs[0], 1)
    if first is None:
        return None
    made = work.again(node, [first.inputs[0]]).output
    return work.op("Reshape", made, first.inputs[1], allowzero=first.attr("allowzero"))


@rule("gate_before_reshape", "Mul", reach=3)
def _gate(work: Work, node: Node) -> Any:
    """x * Sigmoid(x), where x is a Reshape that these two alone read."""
    for x, y in (node.inputs, node.inputs[::-1]):
        gate = work.producer(y, "Sigmoid")
        first = _reshaped(work, x, 2)
        if gate is None or first is None or gate.inputs[0] is not x or y is None or work.only_user(y) is not node:
            continue
        source = first.inputs[0]
        return work.op("Reshape", work.op("Mul", source, work.op("Sigmoid", source)), first.inputs[1],
                       allowzero=first.attr("allowzero"))
    return None


@rule("binary_before_reshape", *_BINARY, reach=2)
def _binary(work: Work, node: Node) -> Any:
    """Two that were reshaped alike, or one and a single number."""
    a, b = node.inputs
    left, right = _reshaped(work, a, 1), _reshaped(work, b, 1)
    if a is None or b is None or (left is None and right is None):
        return None
    if left is not None and right is not None:
        x, y = left.inputs[0], right.inputs[0]
        alike = x is not None and y is not None and work.same_shape(work.shape(x), work.shape(y)) \
            and work.same_shape(work.shape(a), work.shape(b))
        if not alike:
            return "the two are not reshaped alike"
        made = work.op(node.op_type, x, y)
        return work.op("Reshape", made, left.inputs[1], allowzero=left.attr("allowzero"))
    first, number = (left, b) if left is not None else (right, a)
    numbers = work.numbers(number)
    assert first is not None and first.inputs[0] is not None
    rank = work.shape(first.inputs[0])
    if numbers is None or numbers.size != 1 or rank is None or numbers.ndim > len(rank):
        return None
    operands = [first.inputs[0] if v is node.inputs[0 if left is not None else 1] else v for v in (a, b)]
    made = work.op(node.op_type, *operands)
    return work.op("Reshape", made, first.inputs[1], allowzero=first.attr("allowzero"))


@rule("reshape_once", "Reshape", reach=2)
def _once(work: Work, node: Node) -> Any:
    """A second Reshape takes sizes over from what the first was told, where no numbers can say them all."""
    first = _reshaped(work, node.inputs[0], 1)
    if first is None or node.inputs[0] is None:
        return None
    between, wanted = work.shape(node.inputs[0]), work.shape(node.output)
    told = first.inputs[1]
    if between is None or wanted is None or told is None or any(d == 0 for d in wanted if isinstance(d, int)):
        return None
    parts = _parts(work, told, len(between))
    if parts is None:
        return "the sizes of the first are not told one by one"
    pieces: list[Value | list[int]] = []
    for d in wanted:
        if isinstance(d, int):
            if pieces and isinstance(pieces[-1], list):
                pieces[-1].append(d)
            else:
                pieces.append([d])
            continue
        at = next((i for i, e in enumerate(between) if work.equal(d, e) and isinstance(parts[i], Value)), None)
        if at is None:
            return f"the first Reshape is not told {d}"
        pieces.append(parts[at])  # type: ignore[arg-type]
    if all(isinstance(p, list) for p in pieces):
        return None
    sizes = [work.constant(np.array(p, np.int64)) if isinstance(p, list) else p for p in pieces]
    return work.op("Reshape", first.inputs[0], sizes[0] if len(sizes) == 1 else work.op("Concat", *sizes, axis=0))


def _parts(work: Work, told: Value, rank: int) -> list[Value | DimLike] | None:
    """For each size of a vector the value of one element that holds it, or its number."""
    joined = work.producer(told, "Concat")
    made: list[Value | DimLike] = []
    for v in (told,) if joined is None else joined.inputs:
        numbers = None if v is None else work.ints(v)
        if v is None:
            return None
        if numbers is not None:
            made += numbers
        elif work.shape(v) == (1,):
            made.append(v)
        else:
            return None
    return made if len(made) == rank else None


RULES: tuple[Rewrite, ...] = (_unary, _gate, _binary, _once)
