"""Attention as one kernel: found as the composite that ONNX's operators lower to, and in pieces, whoever wrote them.

The pieces are a product, whatever is done to its elements (scale, mask, bias, cap), a softmax along the last axis, and
a product with that. What is done to the scores is compiled as what follows other products: a function that the kernel
calls with each finished block of scores. So any mask will do. What a reader would guess wrong: the result may be a
transposed product; then the kernel writes it in that order, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import FLOAT, INT64
from gesher.primitives import MAPS, Builder, Expr
from gesher.symbolic import Dim, DimLike, decide_eq, product

from . import target
from .indexing import unravel
from .kernel import Kernel, Point, Spell
from .packed import array_of
from .views import View, contiguous, view_of

_ELEMENTWISE = frozenset(("select", "is_inf", *MAPS))
_MOVES = frozenset(("broadcast", "reshape", "transpose", "slice"))


@dataclass(slots=True)
class Parts:
    """An attention taken apart. Axes of q, k and v: batch axes, then rows, then columns.

    Attributes:
        q, k, v: with batch axes of equal sizes.
        scores: what stands for the scaled scores, (batch axes, queries, keys).
        changed: what becomes of them before the softmax; `scores` itself where nothing does.
        limits: how far a query sees; see `GsAttention`.
        lengths: the number of keys of each sample, int64.
        blind: whether a query that sees nothing gives zeros.
    """

    q: View
    k: View
    v: View
    scores: Expr
    changed: Expr
    scale: float
    limits: dict[str, DimLike] = field(default_factory=dict)
    lengths: Expr | None = None
    blind: bool = False


class Attention(Kernel):
    """Attention of floats over up to three batch axes."""

    header, struct, function, scratch = ("gs_attention_f32.h", "GsAttention", "gs_attention_f32",
                                         "gs_attention_f32_scratch")

    def __init__(self, expr: Expr, parts: Parts, sizes: list[DimLike], walks: dict[str, list[DimLike]]):
        more = [] if parts.lengths is None else [parts.lengths]
        super().__init__(expr, [parts.q.base, parts.k.base, parts.v.base, *more, *_beside(parts)])
        self.parts, self.sizes, self.walks = parts, sizes, walks
        if target.bf16():
            self.precision = target.told_bf16()
            self.header, self.function, self.scratch = ("gs_attention_bf16.h", "gs_attention_bf16",
                                                        "gs_attention_bf16_scratch")
        self.changes = None if parts.changed is parts.scores else (parts.scores, parts.changed)

    @classmethod
    def match(cls, e: Expr) -> Attention | None:
        if e.dtype is not FLOAT or not 2 <= e.rank <= 5:
            return None
        result, perm = e, tuple(range(e.rank))
        if e.prim == "transpose":
            result, perm = e.args[0], e.params["perm"]
        if perm[-1] != e.rank - 1:
            return None
        parts = {"item": _of_composite, "contract": _of_pieces}.get(result.prim, lambda e: None)(result)
        if parts is None:
            return None
        y: list[DimLike] = [0] * e.rank
        for axis, stride in zip(perm, contiguous(e.shape)):
            y[axis] = stride
        if len(parts.q.shape) > e.rank:  # heads in groups
            y = [y[0], y[1] * parts.q.shape[2], *y[1:]]
        walks = {"q": list(parts.q.strides), "k": list(parts.k.strides), "v": list(parts.v.strides), "y": y}
        sizes = _grouped([*parts.q.shape[:-2]], walks)
        return None if sizes is None else cls(e, parts, sizes, walks)

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        p = self.parts
        limits: dict[str, DimLike] = {"past": 0, "left": -1, "right": -1, **p.limits}
        found = [("scale", f"{p.scale!r}f"), ("blind", str(int(p.blind))),
                 *((name, spell(d)) for name, d in zip(("batch", "groups", "each"), self.sizes)),
                 *((name, spell(d)) for name, d in zip("SDTE", (*p.q.shape[-2:], p.k.shape[-2], p.v.shape[-1]))),
                 *((name, spell(d)) for name, d in limits.items())]
        for name, view in (("q", p.q), ("k", p.k), ("v", p.v)):
            found.append((name, point(view.base) + (f" + {spell(view.offset)}" if view.offset != 0 else "")))
        for name, walk in self.walks.items():
            steps = dict(zip(("batch", "group", "each", "row", "col"), walk))
            left_out = {"y": "col", "k": "each", "v": "each"}.get(name)
            found += [(f"{name}_{axis}", spell(d)) for axis, d in steps.items() if axis != left_out]
        if p.lengths is not None:
            found.append(("lengths", point(p.lengths)))
        return found

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        return (*unravel(self.parts.scores.shape[:-2], batch), m, n)

    def flops(self) -> DimLike | None:
        p = self.parts
        return 2 * product(p.scores.shape) * (p.q.shape[-1] + p.v.shape[-1])

    def describe(self) -> str:
        p = self.parts
        sizes = " x ".join(map(str, (*p.scores.shape[:-2], f"({p.scores.shape[-2]},{p.q.shape[-1]})",
                                     f"({p.scores.shape[-1]},{p.v.shape[-1]})")))
        return f"attention {sizes}{self.precision}"


def _grouped(sizes: list[DimLike], walks: dict[str, list[DimLike]]) -> list[DimLike] | None:
    """The batch axes as (batch, group, of a group), heads of a group sharing their keys; `walks` are made to follow.
    None where three axes cannot be seen so."""
    def shared(axis: int) -> bool:
        return bool(decide_eq(sizes[axis], 1)) or all(decide_eq(walks[x][axis], 0) for x in "kv")

    while len(sizes) < 3:
        at = 0
        if len(sizes) == 2:
            at = 1 if shared(1) else 2
        sizes.insert(at, 1)
        for walk in walks.values():
            walk.insert(at, 0)
    return sizes if shared(2) else None


def _beside(parts: Parts) -> list[Expr]:
    """What is read besides the scores on the way to what becomes of them: it must lie in memory, as small as it is."""
    found: dict[Expr, None] = {}
    for node in _path(parts.changed, parts.scores):
        for a in node.args:
            if a is parts.scores or _depends(a, parts.scores):
                continue
            while a.prim in _MOVES:
                a = a.args[0]
            if a.prim not in ("size", "iota") and not _is_scalar(a):
                found[a] = None
    return list(found)


def _path(changed: Expr, scores: Expr) -> list[Expr]:
    """The elementwise steps from the scores to what becomes of them."""
    found: list[Expr] = []
    pending = [] if changed is scores else [changed]
    while pending:
        e = pending.pop()
        if e not in found:
            found.append(e)
            pending += [a for a in e.args if a is not scores and _depends(a, scores)]
    return found


def _depends(e: Expr, scores: Expr) -> bool:
    """Whether the scores are reached from `e` by elementwise steps of their shape."""
    seen: set[Expr] = set()
    pending = [e]
    while pending:
        e = pending.pop()
        if e is scores:
            return True
        if e not in seen and e.prim in _ELEMENTWISE and e.shape == scores.shape:
            seen.add(e)
            pending += e.args
    return False


def _is_scalar(e: Expr) -> bool:
    return e.prim == "constant" and decide_eq(product(e.shape), 1) is True


def _factor(e: Expr) -> float | None:
    """The number that `e` is everywhere, where it can be a scale."""
    while e.prim in ("broadcast", "reshape"):
        e = e.args[0]
    if not _is_scalar(e):
        return None
    number = float(np.asarray(array_of(e.params["value"])).reshape(-1)[0])
    return number if np.isfinite(number) and number != 0 else None


def _unscaled(e: Expr) -> tuple[Expr, float]:
    """`e` as an expression times a number."""
    if e.prim in ("mul", "div"):
        a, b = e.args
        number = _factor(b)
        if number is not None:
            return a, number if e.prim == "mul" else 1 / number
        number = _factor(a)
        if number is not None and e.prim == "mul":
            return b, number
    return e, 1.0


# In pieces

def _of_pieces(e: Expr) -> Parts | None:
    """softmax(... q k^T ...) v as contractions."""
    weights, v = e.args
    p, nb = e.params, e.rank - 2
    batch = tuple(range(nb))
    if weights.prim != "item" or weights.rank != e.rank or v.rank != e.rank or weights.args[0].prim != "composite":
        return None
    bundle = weights.args[0]
    if bundle.params["name"] != "softmax" or p["a_batch"] != batch or p["a_axes"] != (nb + 1,):
        return None
    changed = bundle.args[0]
    if changed.dtype is not FLOAT or dict(bundle.params["of"])["axis"] % changed.rank != nb + 1:
        return None
    scores = _product_below(changed)
    if scores is None:
        return None
    q, q_scale = _unscaled(scores.args[0])
    k, k_scale = _unscaled(scores.args[1])
    s = scores.params
    # A scale right behind the product is left to the kernel.
    root, scale = scores, q_scale * k_scale
    readers = [x for x in _path(changed, scores) if scores in x.args]
    if len(readers) == 1 and readers[0].args.count(scores) == 1:
        inner, factor = _unscaled(readers[0])
        if inner is scores:
            root, scale = readers[0], scale * factor
    if not np.isfinite(np.float32(scale)):
        return None
    whole_k, whole_v = _arranged(k, s["b_batch"], s["b_axes"][0]), _arranged(v, p["b_batch"], None, p["b_axes"][0])
    whole_q = _arranged(q, s["a_batch"], s["a_axes"][0])
    shared = _shared_heads(k, s["b_batch"], s["b_axes"][0], None), _shared_heads(v, p["b_batch"], None, p["b_axes"][0])
    if shared[0] is not None and shared[1] is not None and shared[0].shape[2] == shared[1].shape[2]:
        each = shared[0].shape[2]
        whole_k, whole_v, of_q = shared[0], shared[1], whole_q
        whole_q = View(of_q.base, (of_q.shape[0], shared[0].shape[1], each, *of_q.shape[2:]),
                       (of_q.strides[0], of_q.strides[1] * each, *of_q.strides[1:]), of_q.offset)
    return Parts(whole_q, whole_k, whole_v, root, changed, scale)


def _product_below(e: Expr) -> Expr | None:
    """The first contraction of the shape of `e` from which elementwise steps lead to it."""
    seen: set[Expr] = set()
    pending = [e]
    while pending:
        x = pending.pop(0)
        if x in seen or x.shape != e.shape:
            continue
        seen.add(x)
        if x.prim == "contract" and x.dtype is FLOAT and len(x.params["a_batch"]) == e.rank - 2 \
                and len(x.params["a_axes"]) == 1 and x.args[0].rank == x.args[1].rank == e.rank:
            return x
        if x.prim in _ELEMENTWISE and x.dtype is FLOAT:
            pending += x.args
    return None


def _arranged(x: Expr, batch: Sequence[int], column: int | None, row: int | None = None) -> View:
    """A view with the batch axes first, then rows, then columns; one of the two is told, the other is what is left."""
    left = next(i for i in range(x.rank) if i not in batch and i != (row if column is None else column))
    row, column = (left, column) if column is not None else (row, left)
    assert row is not None
    v = view_of(x)
    axes = (*batch, row, column)
    return View(v.base, tuple(x.shape[i] for i in axes), tuple(v.strides[i] for i in axes), v.offset)


def _shared_heads(x: Expr, batch: Sequence[int], column: int | None, row: int | None) -> View | None:
    """Keys or values (batch, heads, rows, columns) whose heads are those of another tensor, each several times one
    behind the other, as (batch, groups, heads of a group, rows, columns) of that; None for all others."""
    perm = list(range(x.rank))
    if x.prim == "transpose":
        perm, x = list(x.params["perm"]), x.args[0]
    if x.rank != 4 or len(batch) != 2 or x.prim != "reshape" or x.args[0].prim != "broadcast":
        return None
    wide = x.args[0]
    below = wide.args[0]
    b, h = (perm[a] for a in batch)
    rest = [i for i in range(4) if i not in (b, h)]
    if wide.rank != 5 or below.rank != 5 or (b, h) != (0, 1) or wide.shape[3:] != x.shape[2:] \
            or not decide_eq(wide.shape[0], x.shape[0]) or not decide_eq(below.shape[2], 1) \
            or any(not decide_eq(below.shape[i], wide.shape[i]) for i in (0, 1, 3, 4)):
        return None
    told = perm[row if column is None else column]  # type: ignore[index]
    left = next(i for i in rest if i != told)
    rows, columns = (told, left) if column is None else (left, told)
    v = view_of(below)
    axes = (0, 1, 2, rows + 1, columns + 1)
    strides = tuple(0 if i == 2 else v.strides[i] for i in axes)
    return View(v.base, tuple(wide.shape[i] for i in axes), strides, v.offset)


# The composite

def _of_composite(e: Expr) -> Parts | None:
    """The result of the composite `attention`, see `gesher.ops.core.attention.attention_meaning`."""
    bundle = e.args[0]
    if bundle.prim != "composite" or bundle.params["name"] != "attention" or e.params["index"] != 0:
        return None
    of: dict[str, Any] = dict(bundle.params["of"])
    given = dict(zip(bundle.params["given"], bundle.args))
    q, k, v = (given[i] for i in range(3))
    mask, lengths = given.get(3), given.get(4)
    if any(x.dtype is not FLOAT for x in (q, k, v)) or of["precision"] not in (None, 0, dtypes.FLOAT.code):
        return None
    if (mask is not None and mask.dtype not in (FLOAT, dtypes.BOOL)) \
            or (lengths is not None and lengths.dtype is not INT64):
        return None
    (batch, heads, queries, size), (_, groups, keys, _) = q.shape, k.shape
    if of["scale"] is None and not isinstance(size, int):
        return None
    scale = float(1 / np.sqrt(size)) if of["scale"] is None else float(of["scale"])
    if not np.isfinite(scale) or scale <= 0:
        return None
    p: Builder = e.builder
    # It only stands for the scores, and is never computed.
    each = heads // groups
    rows = p.reshape(q, (batch, groups, each, queries, size))
    scores = p.reshape(p.contract(rows, k, [4], [3], [0, 1], [0, 1]), (batch, heads, queries, keys))
    changed = scores if of["softcap"] <= 0 else p.tanh(scores / of["softcap"]) * of["softcap"]
    if mask is not None:
        if decide_eq(mask.shape[-1], keys) is not True:
            high: list[DimLike] = [0] * (mask.rank - 1)
            mask = p.pad(mask, [0] * mask.rank, [*high, keys - mask.shape[-1]],
                         False if mask.dtype is dtypes.BOOL else float("-inf"))
        # It repeats itself over the scores and never the other way round, whether or not its sizes can be told apart.
        mask = p.broadcast_to(mask, scores.shape)
        changed = p.select(mask, changed, float("-inf")) if mask.dtype is dtypes.BOOL else changed + mask
    right = of["right"]
    if of["causal"]:
        right = 0 if right < 0 else min(right, 0)
    limits = {"past": of["past"], "left": max(of["left"], -1), "right": max(right, -1)}
    seen_q = view_of(rows)
    seen_k, seen_v = (_of_groups(view_of(x), each) for x in (k, v))
    return Parts(seen_q, seen_k, seen_v, scores, changed, scale, limits, lengths, not of.get("blind_is_nan", False))


def _of_groups(x: View, each: DimLike) -> View:
    """(batch, groups, rows, columns) as (batch, groups, heads of a group, rows, columns): they share all."""
    return View(x.base, (*x.shape[:2], each, *x.shape[2:]), (*x.strides[:2], 0, *x.strides[2:]), x.offset)
