"""Tree ensembles over ranks, as gs_ranked.h has them: what becomes of a forest when it is packed.

A forest is taken where every node compares (equality does not), the trees are trees (no branches meet again), the votes
are summed, and no number is too large for its field. Any other is left to gs_trees.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.ops.ml.forest import GT, GTE, LEQ, LT

# Leaves of a tree up to which bits are struck out, with ranks of one byte and of two; leaves of the smallest trees.
_MOST_LEAVES, _MOST_WIDE, _SMALL = 2040, 1024, 32
# Splits of a feature that ranks of a byte tell apart.
_BYTE = 255
# Targets up to which each leaf has a weight for each.
_MOST_TARGETS = 16
_MOST_RANKS = 65534


@dataclass(frozen=True, slots=True)
class Ranked:
    """A forest over ranks: arrays by the names of the struct's fields, and its plain numbers."""

    arrays: dict[str, np.ndarray]
    trees: int
    targets: int
    inputs: int
    columns: int
    features: int    # the highest that is read, and one
    wide: bool       # whether ranks need two bytes
    few: int         # rows below which walking is cheaper than striking out


@dataclass(slots=True)
class _Nodes:
    """The nodes tree by tree, each tree level by level; siblings stand side by side, the lesser first.

    Attributes:
        tree, feature, split, low: of each node; `low` is whether NaN goes to the lesser side. Of leaves they
            mean nothing.
        inner: whether it is no leaf.
        child: the lesser child of an inner node; of a leaf itself.
        row: of a leaf its row of weights.
        level: steps from the root.
    """

    tree: np.ndarray
    feature: np.ndarray
    split: np.ndarray
    low: np.ndarray
    inner: np.ndarray
    child: np.ndarray
    row: np.ndarray
    level: np.ndarray


def ranked(given: dict[int, Any], dtype: np.dtype[Any], lanes: int) -> Ranked | None:
    """The arrays of `lower_walk` (ops/ml/forest.py), by their places there, over ranks; None where that cannot be.

    Args:
        dtype: of the values.
        lanes: of a vector of values.
    """
    nodes = _ordered(given)
    weights = np.asarray(given[8], np.float64)
    if nodes is None:
        return None
    trees, targets = len(given[9]), weights.shape[1]
    found = _inputs(nodes, dtype, lanes)
    if found is None:
        return None
    arrays, rank, column, columns, splits = found
    start, count = _leaves(nodes)
    per_tree = np.bincount(nodes.tree[~nodes.inner], minlength=trees)
    first_leaf = np.cumsum(per_tree) - per_tree
    leaf = np.where(nodes.inner, -1, first_leaf[nodes.tree] + start)
    votes = np.zeros((int(per_tree.sum()), targets))
    votes[leaf[~nodes.inner]] = weights[nodes.row[~nodes.inner]]
    only = _only(votes, np.repeat(np.arange(trees), per_tree), trees)
    if only is None and targets > _MOST_TARGETS:
        return None
    lead = np.concatenate([[True], nodes.tree[1:] != nodes.tree[:-1]])
    depth = np.zeros(trees, np.int32)
    np.maximum.at(depth, nodes.tree, nodes.level)
    words = np.where(nodes.inner, rank | column << 16, 0xFFFF).astype(np.uint64) | nodes.child.astype(np.uint64) << 32
    arrays |= {"nodes": words, "root": np.flatnonzero(lead), "depth": depth, "leaf": leaf,
               "weight": votes if only is None else np.take_along_axis(
                   votes, only[np.repeat(np.arange(trees), per_tree)][:, None], 1).ravel()}
    if only is not None:
        arrays["only"] = only
    wide, few = splits > _BYTE, 0
    if per_tree.max() <= (_MOST_WIDE if wide else _MOST_LEAVES):
        arrays |= _planes(nodes, rank, column, start, count, per_tree, 0x00010001 if wide else 0x01010101)
        # In turns of the processor, about, for a block of rows; and for each step of a row that is walked.
        block = len(arrays["updates"]) * (9 if wide else 5) + len(arrays["plane"]) * 8 + trees * 60
        few = -(-block // max(4 * int(depth.sum()), 1))
        arrays["first_leaf"] = first_leaf
        if only is not None and per_tree.max() <= _SMALL and dtype == np.float32:
            small = np.zeros((trees, _SMALL), np.float32)
            tree_of = np.repeat(np.arange(trees), per_tree)
            small[tree_of, np.arange(len(votes)) - first_leaf[tree_of]] = arrays["weight"]
            arrays["small"] = small
    features = int(nodes.feature[nodes.inner].max(initial=-1)) + 1
    return Ranked(arrays, trees, targets, len(arrays["where"]), max(columns, 1), max(features, 1), wide, few)


def _ordered(given: dict[int, Any]) -> _Nodes | None:
    feature, split, mode, yes, no, rows, roots = (np.asarray(given[i]) for i in (1, 2, 3, 4, 5, 7, 9))
    inner = mode >= 0
    if not len(roots) or not np.isin(mode[inner], (LEQ, LT, GT, GTE)).all() or np.isnan(split[inner]).any():
        return None
    # x > t asks for the greater side, x <= t for the lesser; x < t is x <= the number before t.
    greater, strict = np.isin(mode, (GT, GTE)), np.isin(mode, (LT, GTE))
    lesser, more = np.where(greater, no, yes), np.where(greater, yes, no)
    if (inner & strict & (split == -np.inf)).any():
        return None    # there is none before
    split = np.where(strict, np.nextafter(split, split.dtype.type(-np.inf)), split)
    missing = np.zeros(len(mode), bool) if given.get(6) is None else np.asarray(given[6]).astype(bool)
    # NaN fails the test unless the node says otherwise.
    low = np.where(greater, ~missing, missing)
    at, tree = roots.astype(np.int64), np.arange(len(roots))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    total = 0
    while len(at):
        parts.append((at, tree))
        total += len(at)
        if total > len(mode):
            return None    # branches meet again
        on = inner[at]
        at, tree = np.stack([lesser[at[on]], more[at[on]]], 1).ravel(), np.repeat(tree[on], 2)
    old, tree = np.concatenate([a for a, _ in parts]), np.concatenate([t for _, t in parts])
    level = np.repeat(np.arange(len(parts)), [len(a) for a, _ in parts])
    order = np.argsort(tree, kind="stable")
    old, tree, level = old[order], tree[order], level[order]
    place = np.full(len(mode), -1)
    place[old] = np.arange(len(old))
    if len(np.unique(old)) != len(old):
        return None
    child = np.where(inner[old], place[np.where(inner[old], lesser[old], old)], np.arange(len(old)))
    return _Nodes(tree, feature[old].astype(np.int64), split[old], low[old], inner[old], child, rows[old], level)


def _inputs(nodes: _Nodes, dtype: np.dtype[Any], lanes: int
            ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, int, int] | None:
    """How values are ranked: arrays; of each node its rank and column; columns; the most splits of a feature."""
    rank, column = np.zeros(len(nodes.tree), np.int64), np.zeros(len(nodes.tree), np.int64)
    where, parts, at, columns, most = [], [np.zeros(0, dtype)], 0, 0, 0
    order = np.flatnonzero(nodes.inner)
    order = order[np.argsort(nodes.feature[order], kind="stable")]
    used, begin = np.unique(nodes.feature[order], return_index=True)
    for feature, mine in zip(used.tolist(), np.split(order, begin[1:]) if len(used) else []):
        splits = np.unique(nodes.split[mine])
        most = max(most, len(splits))
        if most > _MOST_RANKS:
            return None
        rank[mine] = np.searchsorted(splits, nodes.split[mine])
        sides = []
        for low in (False, True):
            side = mine[nodes.low[mine] == low]
            sides.append(columns if len(side) else -1)
            column[side] = columns
            columns += bool(len(side))
        # The last block always ends in infinity, so that nothing is above it.
        blocks = len(splits) // lanes + 1
        whole = np.full(blocks * lanes, np.inf, dtype)
        whole[:len(splits)] = splits
        heads = np.full(-(-blocks // lanes) * lanes, np.inf, dtype)
        heads[:blocks] = whole[lanes - 1::lanes]
        where.append((feature, at, blocks, *sides))
        parts += [heads, whole]
        at += len(heads) + len(whole)
    if columns > _MOST_RANKS or at >= 1 << 31:
        return None
    arrays = {"where": np.array(where, np.int32).reshape(-1, 5), "splits": np.concatenate(parts)}
    return arrays, rank, column, columns, most


def _leaves(nodes: _Nodes) -> tuple[np.ndarray, np.ndarray]:
    """Of each node the first leaf under it, counted from the left of its tree, and how many there are."""
    count, start = np.ones(len(nodes.tree), np.int64), np.zeros(len(nodes.tree), np.int64)
    levels = [np.flatnonzero(nodes.inner & (nodes.level == n)) for n in range(int(nodes.level.max()) + 1)]
    for at in reversed(levels):
        count[at] = count[nodes.child[at]] + count[nodes.child[at] + 1]
    for at in levels:
        start[nodes.child[at]] = start[at]
        start[nodes.child[at] + 1] = start[at] + count[nodes.child[at]]
    return start, count


def _only(votes: np.ndarray, tree: np.ndarray, trees: int) -> np.ndarray | None:
    """The one target that the leaves of each tree vote for, where every tree has one."""
    voted = np.zeros((trees, votes.shape[1]), bool)
    leaf, target = np.nonzero(votes)
    voted[tree[leaf], target] = True
    return voted.argmax(1) if (voted.sum(1) <= 1).all() else None


def _planes(nodes: _Nodes, rank: np.ndarray, column: np.ndarray, start: np.ndarray, count: np.ndarray,
            per_tree: np.ndarray, spread: int) -> dict[str, np.ndarray]:
    """For each plane of eight leaves the nodes with leaves in it on their lesser side."""
    planes = -(-per_tree // 8)
    first_plane = np.concatenate([[0], np.cumsum(planes)])
    at = np.flatnonzero(nodes.inner)
    a, b = start[at], start[at] + count[nodes.child[at]]
    each = (b - 1 >> 3) - (a >> 3) + 1
    node = np.repeat(np.arange(len(at)), each)
    plane = (a >> 3)[node] + np.arange(len(node)) - np.repeat(np.cumsum(each) - each, each)
    bits = (1 << np.minimum(8, b[node] - 8 * plane)) - (1 << np.maximum(0, a[node] - 8 * plane))
    where = first_plane[nodes.tree[at[node]]] + plane
    order = np.argsort(where, kind="stable")
    updates = np.stack([rank[at[node]] * spread, bits * 0x01010101, column[at[node]]], 1)[order].astype(np.uint32)
    begin = np.concatenate([[0], np.cumsum(np.bincount(where, minlength=int(first_plane[-1])))])
    return {"updates": updates, "plane": begin, "first_plane": first_plane}
