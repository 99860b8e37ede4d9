"""Nodes that only move or retype data, where two make one or none."""

from __future__ import annotations

from typing import Any

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.ir import DimLike, Node
from gesher.rewriter import Rewrite, Work, rule


@rule("transpose_of_transpose", "Transpose", reach=2)
def _transposes(work: Work, node: Node) -> Any:
    first = work.producer(node.inputs[0], "Transpose")
    if first is None:
        return None
    x = first.inputs[0]
    outer, inner = node.attr("perm"), first.attr("perm")
    shape = None if x is None else work.shape(x)
    if outer is None or inner is None:
        if shape is None:
            return "the rank is not known"
        back = tuple(reversed(range(len(shape))))
        outer, inner = outer or back, inner or back
    perm = [inner[i] for i in outer]
    return x if perm == list(range(len(perm))) else work.op("Transpose", x, perm=perm)


@rule("transpose_between_reshapes", "Reshape", reach=3)
def _between_reshapes(work: Work, node: Node) -> Any:
    """Axes put together, moved, and taken apart again are moved one by one."""
    moved = work.producer(node.inputs[0], "Transpose")
    first = None if moved is None else work.producer(moved.inputs[0], "Reshape")
    if moved is None or first is None or first.inputs[0] is None or node.inputs[0] is None \
            or work.only_user(node.inputs[0]) is None:
        return None
    x, perm = first.inputs[0], moved.attr("perm")
    shapes = [work.shape(v) for v in (x, first.output, node.output)]
    if perm is None or any(s is None for s in shapes):
        return None
    given, together, wanted = (list(s or ()) for s in shapes)
    # Axes of size 1 may stand anywhere, so they are set aside, and put where the result has them.
    extra = sum(d == 1 for d in given) - sum(d == 1 for d in wanted)
    if extra > 0:
        x = work.op("Squeeze", x, [i for i, d in enumerate(given) if d == 1][:extra])
    elif extra < 0:
        x = work.op("Unsqueeze", x, list(range(-extra)))
    given = list(work.shape(x) or ())
    ones = [i for i, d in enumerate(given) if d == 1]
    apart = [i for i, d in enumerate(given) if d != 1]
    groups = _groups(work, [given[i] for i in apart], together)
    if groups is None:
        return "the first reshape does not only put axes together"
    order = [apart[i] for p in perm for i in groups[p]]
    for i, d in enumerate(wanted):
        if d == 1:
            order.insert(i, ones.pop(0))
    if not work.same_shape([given[i] for i in order], wanted):
        return "the second reshape does not take apart what the first put together"
    return work.op("Transpose", x, perm=order)


def _groups(work: Work, given: list[DimLike], together: list[DimLike]) -> list[list[int]] | None:
    """Which neighbouring axes of `given` make each axis of `together`; None where they do not."""
    groups: list[list[int]] = []
    at = 0
    for d in together:
        group: list[int] = []
        size: DimLike = 1
        while not work.equal(size, d):
            if at == len(given):
                return None
            size = size * given[at]
            group.append(at)
            at += 1
        groups.append(group)
    return groups if at == len(given) else None


@rule("transpose_of_ones", "Transpose", reach=1)
def _of_ones(work: Work, node: Node) -> Any:
    """Axes of size 1 may stand anywhere: where only they move, the elements stay in order."""
    x, perm = node.inputs[0], node.attr("perm")
    shape = None if x is None else work.shape(x)
    if shape is None or perm is None:
        return None
    moved = [i for i in perm if shape[i] != 1]
    if moved != sorted(moved) or list(perm) == sorted(perm):
        return None
    from .shapes import spelled

    wanted = [shape[i] for i in perm]
    found = spelled(work, shape, wanted)
    return found if isinstance(found, str) else work.op("Reshape", x, found)


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide`, so that a cast there loses nothing."""
    if wide is narrow or narrow is dtypes.BOOL:
        return wide is narrow or wide not in (dtypes.STRING, dtypes.BOOL)
    kinds = (wide.kind, narrow.kind)
    if wide.is_float and narrow.is_float:
        return (narrow.name, wide.name) in _WIDENING
    if wide.is_integer and narrow.is_integer:
        if kinds == ("int", "int") or kinds == ("uint", "uint"):
            return wide.bits >= narrow.bits
        return kinds == ("int", "uint") and wide.bits > narrow.bits
    digits = {"double": 53, "float": 24, "float16": 11, "bfloat16": 8}.get(wide.name, 0)
    return wide.is_float and narrow.is_integer and narrow.bits <= digits and wide.name != "float16"


_WIDENING = frozenset((("float16", "float"), ("float16", "double"), ("bfloat16", "float"), ("bfloat16", "double"),
                       ("float", "double")))


@rule("cast_of_cast", "Cast", current=False, reach=2)
def _casts(work: Work, node: Node) -> Any:
    """A first cast that loses nothing can be left out."""
    x = node.inputs[0]
    first = None if x is None else x.producer
    if x is None or first is None or first.op_type != "Cast" or first.domain not in ("", "ai.onnx") \
            or first.inputs[0] is None or work.version(first) < 6 or work.version(node) < 6:
        return None
    source, middle, last = work.dtype(first.inputs[0]), work.dtype(x), work.dtype(node.output)
    if dtypes.UNDEFINED in (source, middle, last) or not holds(middle, source):
        return "the first cast may lose something"
    if source is last:
        return first.inputs[0]
    # How out of range numbers come out hangs on the type that is cast from.
    counts = all(t.is_integer or t is dtypes.BOOL for t in (source, middle))
    if not (counts or holds(last, source) or (source.is_float and middle.is_float and last.is_float)):
        return "from another type, numbers out of range may come out differently"
    return work.op("Cast", first.inputs[0], to=last, saturate=node.attr("saturate"), round_mode=node.attr("round_mode"))


RULES: tuple[Rewrite, ...] = (_transposes, _between_reshapes, _of_ones, _casts)
