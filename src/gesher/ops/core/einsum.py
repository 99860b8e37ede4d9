"""Einsum: products of any number of tensors, summed over the letters that the result does not name.

An ellipsis stands for axes that broadcast; they are labelled here by their distance from the right (0 is the last), so
that letters and ellipsis axes are one kind of thing: labels. As in numpy and ONNX Runtime, a letter's axis of size 1
goes along with any other size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.primitives import Builder, Expr
from gesher.symbolic import broadcast

from ..arithmetic import computed, lowered
from ..rules import InferNode
from ..schema import BF16, NUMBERS, REQUIRED, Attr, Input, Output, op

Einsum = (op("Einsum", Input("Inputs", variadic=True), Output("Output"), Attr("equation", "string", REQUIRED), since=12,
             T=NUMBERS)
          .since(28, T=NUMBERS | BF16))

Label = str | int


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[list[Label]], list[Label]]:
    """The labels of each operand's axes, and those of the result.

    >>> parse("b...i,ij", [3, 2])
    ([['b', 0, 'i'], ['i', 'j']], [0, 'b', 'j'])

    Raises:
        ModelError: the equation is not well formed, or does not fit the ranks.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        _refuse(equation, f"it has {len(terms)} operands, the node gives {len(ranks)}")
    labels = [_labels(equation, term, rank) for term, rank in zip(terms, ranks)]
    widest = max((len([x for x in found if isinstance(x, int)]) for found in labels), default=0)
    around: list[Label] = list(range(widest - 1, -1, -1))
    seen = Counter(x for found in labels for x in found if isinstance(x, str))
    if not arrow:
        return labels, [*around, *sorted(x for x, n in seen.items() if n == 1)]
    head, dots, tail = right.partition("...")
    if "." in head + tail:
        _refuse(equation, "an ellipsis is three dots")
    result: list[Label] = [*head, *(around if dots else ()), *tail]
    for x in (*head, *tail):
        if x not in seen:
            _refuse(equation, f"the result names '{x}', no operand does")
    if len(set(result)) != len(result):
        _refuse(equation, "the result names a letter twice")
    if around and not dots:
        _refuse(equation, "the operands' ellipsis is missing in the result")
    return labels, result


def _labels(equation: str, term: str, rank: int) -> list[Label]:
    head, dots, tail = term.partition("...")
    letters = head + tail
    if any(not (x.isascii() and x.isalpha()) for x in letters):
        _refuse(equation, f"'{term}' holds something else than letters and one ellipsis")
    extra = rank - len(letters)
    if extra < 0 or (extra and not dots):
        _refuse(equation, f"'{term}' names {len(letters)} axes of an operand that has {rank}")
    return [*head, *range(extra - 1, -1, -1), *tail]


def _refuse(equation: str, why: str) -> None:
    raise ModelError(f"Einsum: {why}", rule="einsum-equation", advice=f"the equation is '{equation}'")


@Einsum.infer
def _(node: InferNode) -> None:
    shapes = [node.shape(i) for i in range(len(node.node.inputs))]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        node.set(0, node.dtype(0), None, why="the rank of an operand is unknown")
        return
    try:
        labels, result = parse(node["equation"], [len(s) for s in known])
    except ModelError as e:
        node.fail(e.what.removeprefix("Einsum: "), e.advice)
    sizes: dict[Label, DimLike] = {}
    for found, shape in zip(labels, known):
        for x, d in zip(found, shape):
            have = sizes.get(x, 1)
            if 1 in (have, d):
                sizes[x] = have if d == 1 else d
            elif isinstance(x, int):
                sizes[x] = broadcast(have, d, node.equalities, f"{node.node.place}: the ellipsis of its operands")
            else:
                one = node.unify(have, d, f"the axes named '{x}' in '{node['equation']}'")
                sizes[x] = d if one is None else one
    node.set(0, node.dtype(0), [sizes[x] for x in result])


@Einsum.reference
@computed
def einsum(*operands: Any, equation: str) -> Any:
    parse(equation, [x.ndim for x in operands])
    return np.einsum(equation.replace(" ", ""), *operands, optimize=True)


@Einsum.lower
@lowered
def _(p: Builder, *operands: Expr, equation: str) -> Expr:
    labels, result = parse(equation, [x.rank for x in operands])
    sizes: dict[Label, DimLike] = {}
    for found, x in zip(labels, operands):
        for label, d in zip(found, x.shape):
            sizes[label] = d if sizes.get(label, 1) == 1 else sizes[label]
    terms = [_simple(p, x, found, sizes) for x, found in zip(operands, labels)]
    left, names = terms[0]
    for i, (right, other) in enumerate(terms[1:], 1):
        needed = {*result, *(x for _, later in terms[i + 1:] for x in later)}
        left, names = _sum_out(p, left, names, needed | set(other))
        right, other = _sum_out(p, right, other, needed | set(names))
        batch = [x for x in names if x in other and x in needed]
        inner = [x for x in names if x in other and x not in needed]
        left = p.contract(left, right, [names.index(x) for x in inner], [other.index(x) for x in inner],
                          [names.index(x) for x in batch], [other.index(x) for x in batch])
        names = [*batch, *(x for x in names if x not in other), *(x for x in other if x not in names)]
    left, names = _sum_out(p, left, names, set(result))
    # Labels that were 1 everywhere, or only at the ends of a broadcast, come back here.
    present = [x for x in result if x in names]
    left = p.transpose(left, [names.index(x) for x in present])
    left = p.expand_dims(left, [i for i, x in enumerate(result) if x not in names])
    return p.broadcast_to(left, [sizes[x] for x in result])


def _simple(p: Builder, x: Expr, labels: list[Label], sizes: dict[Label, DimLike]) -> tuple[Expr, list[Label]]:
    """An operand that names each of its labels once, without the axes of size 1 that go along with larger ones."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            again = labels.index(label, first + 1)
            # Axes of size 1 need no diagonal.
            if 1 in (drop := {again: x.shape[again], first: x.shape[first]}).values():
                at = next(a for a, d in drop.items() if d == 1)
                x = p.squeeze(x, [at])
            else:
                at = again
                on = p.eq(p.iota(x.shape, first), p.iota(x.shape, again))
                x = p.sum(p.select(on, x, 0), [again])
            labels = [y for i, y in enumerate(labels) if i != at]
    along = [i for i, y in enumerate(labels) if x.shape[i] == 1 and sizes[y] != 1]
    return p.squeeze(x, along), [y for i, y in enumerate(labels) if i not in along]


def _sum_out(p: Builder, x: Expr, labels: list[Label], needed: set[Label]) -> tuple[Expr, list[Label]]:
    gone = [i for i, y in enumerate(labels) if y not in needed]
    return (p.sum(x, gone) if gone else x), [y for y in labels if y in needed]
