"""Arithmetic on sizes that inference has done already: what is left of it are constants with 0 and -1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gesher.ir import DimLike, Node
from gesher.rewriter import Rewrite, Work, rule
from gesher.symbolic import Dim, bounds

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def spelled(work: Work, given: Sequence[DimLike], wanted: Sequence[DimLike], open_: Sequence[int] = ()
            ) -> list[int] | str:
    """The constant that makes Reshape give `wanted` of something of shape `given`; or why there is none.

    A 0 takes the size of the same axis. One size may be -1: where no other can be 0 in a run, or among `open_`, the
    axes where -1 stands already.
    """
    made: list[int] = []
    for i, d in enumerate(wanted):
        if isinstance(d, int):
            made.append(d)
        elif i < len(given) and work.equal(given[i], d):
            made.append(0)
        else:
            made.append(-1)
    if made.count(-1) > 1:
        return "more than one size is not known before running"
    if any(d == 0 for d in wanted if isinstance(d, int)):
        return "a size is 0"
    if -1 in made and made.index(-1) not in open_:
        for d, m in zip(wanted, made):
            if m == 0 and not _surely_positive(d):
                return f"-1 says nothing where {d} is 0"
    return made


def _surely_positive(d: DimLike) -> bool:
    if isinstance(d, int):
        return d > 0
    low, _ = bounds(d)
    return low is not None and low >= 1


@rule("reshape_by_numbers", "Reshape", reach=2)
def _by_numbers(work: Work, node: Node) -> Any:
    x, shape = node.inputs
    if x is None or shape is None or work.numbers(shape) is not None:
        return None
    given, wanted = work.shape(x), work.shape(node.output)
    if given is None or wanted is None:
        return "the rank is not known"
    # Whether inference knows the sizes from the numbers themselves; else they are symbols that a run gives.
    known = work.fact(shape).ints()
    if known is None or len(known) != len(wanted) or not all(isinstance(k, Dim) or k >= -1 for k in known):
        return "that the sizes come out so is not known"
    found = spelled(work, given, wanted, [i for i, k in enumerate(known) if isinstance(k, int) and k == -1])
    return found if isinstance(found, str) else work.op("Reshape", x, found)


@rule("reshape_of_reshape", *_RESHAPES, reach=2)
def _of_reshape(work: Work, node: Node) -> Any:
    """Only the last of several reshapes counts."""
    middle = node.inputs[0]
    first = work.producer(middle, *_RESHAPES)
    if first is None or middle is None:
        return None
    x = first.inputs[0]
    if x is None:
        return None
    given, wanted = work.shape(x), work.shape(node.output)
    if given is None or wanted is None:
        return "a rank is not known"
    if work.same_shape(given, wanted):
        return x
    if work.only_user(middle) is None:
        return f"'{middle.name}' is read elsewhere too"
    found = spelled(work, given, wanted)
    return found if isinstance(found, str) else work.op("Reshape", x, found)


@rule("expand_of_expand", "Expand", reach=2)
def _of_expand(work: Work, node: Node) -> Any:
    x, shape = node.inputs
    if x is None or shape is None:
        return None
    first = work.producer(x, "Expand")
    if first is None or work.shape(x) is None or work.shape(node.output) is None:
        return None
    a, b = work.fact(first.inputs[1]).ints() if first.inputs[1] is not None else None, work.fact(shape).ints()
    if a is None or b is None or len(a) > len(b) or any(x != 1 and not work.equal(x, y)
                                                        for x, y in zip(reversed(a), reversed(b))):
        return None
    return work.op("Expand", first.inputs[0], shape)


RULES: tuple[Rewrite, ...] = (_by_numbers, _of_reshape, _of_expand)
