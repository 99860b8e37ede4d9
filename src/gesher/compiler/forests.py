"""Tree ensembles as their kernel reads them: the forest's arrays packed once, when it is matched.

What a reader would guess wrong: for sums, weights of zero are left out; for a minimum or maximum each leaf has a weight
for each target, because a zero counts there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base.dtypes import DOUBLE, FLOAT
from gesher.primitives import Expr
from gesher.symbolic import decide_le

from . import target
from .kernel import Kernel, Point, Spell, composite_of
from .packed import aligned, array_of
from .ranked import Ranked, ranked
from .views import same_memory

_SPARSE = ("SUM", "AVERAGE")


@dataclass(frozen=True, slots=True)
class _Packed:
    """A forest's constants: operands by the names of the struct's fields."""

    operands: dict[str, Expr]
    trees: int
    targets: int
    features: int    # the highest that is read, and one


def _constants(e: Expr) -> tuple[Expr, dict[int, Any]] | None:
    """The bundle of a forest and its constants by their places, if `e` is the result of one."""
    bundle = composite_of(e, "tree_ensemble")
    if bundle is None:
        return None
    x, constants = bundle.args[0], bundle.args[1:]
    if e.dtype not in (FLOAT, DOUBLE) or x.dtype is not e.dtype or any(c.prim != "constant" for c in constants):
        return None
    return bundle, dict(zip(bundle.params["given"], (None, *(c.params["value"] for c in constants))))


class RankedTrees(Kernel):
    """A forest whose votes are summed, over whole numbers."""

    header = "gs_ranked.h"

    def __init__(self, expr: Expr, x: Expr, forest: Ranked, operands: dict[str, Expr], average: bool):
        super().__init__(expr, [same_memory(x), *operands.values()])
        self.forest, self.named, self.average = forest, operands, average
        name = "gs_ranked_f32" if expr.dtype is FLOAT else "gs_ranked_f64"
        self.struct, self.function, self.scratch = f"{name}_t", f"{name}_run", f"{name}_scratch"

    @classmethod
    def match(cls, e: Expr) -> RankedTrees | None:
        found = _constants(e)
        if found is None:
            return None
        bundle, given = found
        of, x = dict(bundle.params["of"]), bundle.args[0]
        if of["aggregate"] not in _SPARSE:
            return None
        lanes = target.current().width // (1 if e.dtype is FLOAT else 2)
        key = ("ranked", bundle.args[1:], lanes)
        if key not in e.builder.derived:
            made = ranked({i: None if v is None else array_of(v) for i, v in given.items()}, e.dtype.numpy, lanes)
            e.builder.derived[key] = made and (made, {k: e.builder.constant(_held(a)) for k, a in made.arrays.items()})
        packed = e.builder.derived[key]
        # The kernel reads features unchecked.
        if packed is None or decide_le(packed[0].features, x.shape[1]) is not True:
            return None
        return cls(e, x, packed[0], packed[1], of["aggregate"] == "AVERAGE")

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, forest = self.expr.args[0].args[0], self.forest
        node = self.struct.removesuffix("_t") + "_node"
        casts = {"nodes": f"(const {node}*)(const void*)", "updates": "(const GsRankedUpdate*)(const void*)"}
        return [("rows", spell(x.shape[0])), ("features", spell(x.shape[1])), ("targets", str(forest.targets)),
                ("trees", str(forest.trees)), ("inputs", str(forest.inputs)), ("columns", str(forest.columns)),
                ("average", str(int(self.average))), ("wide", str(int(forest.wide))), ("few", str(forest.few)),
                ("levels", str(int(forest.levels))), ("shift", str(forest.shift)), ("table", str(forest.table)),
                ("x", point(self.operands[0])),
                *((name, casts.get(name, "") + point(c)) for name, c in self.named.items())]

    def describe(self) -> str:
        how = ("walked" if "updates" not in self.named
               else ("level by level" if self.forest.levels else "by bits") + ", few rows walked")
        return f"{self.function} {self.forest.trees} trees, {len(self.forest.arrays['nodes'])} nodes, {how}"


def _held(a: np.ndarray) -> np.ndarray:
    """An array as a constant, never empty: one without elements has no memory to point at."""
    if a.dtype.names:
        a = a.view(np.int32)
    elif a.dtype == np.uint32 or a.dtype == np.int64:
        a = a.astype(np.uint32).view(np.int32)
    return aligned(a if a.size else np.zeros(1, a.dtype))


class Trees(Kernel):
    """Any forest: each row's votes taken together."""

    header = "gs_trees.h"

    def __init__(self, expr: Expr, x: Expr, packed: _Packed, aggregate: str, modes: tuple[int, ...]):
        super().__init__(expr, [same_memory(x), *packed.operands.values()])
        self.packed, self.aggregate, self.modes = packed, aggregate, modes
        name = "gs_trees_f32" if expr.dtype is FLOAT else "gs_trees_f64"
        self.node = f"{name}_node"
        self.struct, self.function, self.scratch = f"{name}_t", f"{name}_run", f"{name}_scratch"

    @classmethod
    def match(cls, e: Expr) -> Trees | None:
        found = _constants(e)
        if found is None:
            return None
        bundle, held = found
        x, of = bundle.args[0], dict(bundle.params["of"])
        modes = tuple(m for m in of["modes"] if m >= 0)
        key = ("tree_ensemble", bundle.args[1:], of["aggregate"])
        packed = e.builder.derived.get(key)
        if packed is None:
            given = {i: None if v is None else array_of(v) for i, v in held.items()}
            packed = e.builder.derived[key] = _pack(e, given, len(modes), of["aggregate"])
        # The kernel reads features unchecked.
        if not packed.trees or decide_le(packed.features, x.shape[1]) is not True:
            return None
        return cls(e, x, packed, of["aggregate"], modes)

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, packed = self.expr.args[0].args[0], self.packed
        pointers = [(name, point(c) if name != "nodes" else f"(const {self.node}*)(const void*){point(c)}")
                    for name, c in packed.operands.items()]
        return [("rows", spell(x.shape[0])), ("features", spell(x.shape[1])), ("targets", str(packed.targets)),
                ("trees", str(packed.trees)), ("x", point(self.operands[0])), *pointers,
                ("mode", str(self.modes[0] if self.modes else 0)), ("aggregate", f"GS_TREES_{self.aggregate}")]

    def describe(self) -> str:
        nodes = self.packed.operands["nodes"].shape[0]
        return f"{self.function} {self.packed.trees} trees, {nodes} nodes"


def _pack(e: Expr, given: dict[int, Any], modes: int, aggregate: str) -> _Packed:
    """The arrays of `lower_walk` (ops/ml/forest.py), by their places there, as gs_trees.inc has them."""
    feature, split, mode, yes, no, rows, weights, roots = (given[i] for i in (1, 2, 3, 4, 5, 7, 8, 9))
    missing = given.get(6)
    n, wide = len(mode), e.dtype.numpy.itemsize
    layout = np.dtype([("value", e.dtype.numpy), ("feature", "<i4"), ("yes", "<i4"), ("no", "<i4"),
                       *([("room", "<i4")] if wide == 8 else [])])
    nodes = np.zeros(n, layout)
    inner = mode >= 0
    # A leaf must stay where it is, and what it reads must be there.
    nodes["value"], nodes["feature"] = split, np.where(inner, feature, 0)
    nodes["yes"], nodes["no"] = np.where(inner, yes, np.arange(n)), np.where(inner, no, np.arange(n))
    held = weights[np.where(inner, 0, rows)]
    taken = held != 0 if aggregate in _SPARSE else np.ones_like(held, bool)
    taken &= ~inner[:, None]
    counts = taken.sum(1)
    targets = np.broadcast_to(np.arange(weights.shape[1]), held.shape)
    constant = e.builder.constant
    operands = {
        "nodes": constant(nodes.view(np.int32).reshape(n, -1)),
        "root": constant(roots.astype(np.int32)),
        "depth": constant(_depths(roots, nodes["yes"], nodes["no"], inner)),
        "begin": constant(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
        # Never empty: a constant without elements has no memory to point at.
        "target": constant(np.append(targets[taken], 0).astype(np.int32)),
        "weight": constant(np.append(held[taken], 0).astype(e.dtype.numpy)),
    }
    if modes > 1:
        operands["modes"] = constant(np.where(inner, mode, 0).astype(np.uint8))
    if missing is not None:
        operands["missing_yes"] = constant(missing.astype(np.uint8))
    features = int(feature[inner].max(initial=-1)) + 1
    return _Packed(operands, len(roots), weights.shape[1], max(features, 1))


def _depths(roots: np.ndarray, yes: np.ndarray, no: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """For each tree the steps to its farthest leaf: all trees walked side by side, a level at a time."""
    depth = np.zeros(len(roots), np.int32)
    tree, at = np.arange(len(roots)), roots.astype(np.int64)
    level = 0
    while True:
        on = inner[at]
        tree, at = tree[on], at[on]
        if not len(at):
            return depth
        level += 1
        depth[tree] = level
        # Branches may meet again; each node is walked once a level.
        both = np.unique(np.stack([np.tile(tree, 2), np.concatenate([yes[at], no[at]])], 1), axis=0)
        tree, at = both[:, 0], both[:, 1]
