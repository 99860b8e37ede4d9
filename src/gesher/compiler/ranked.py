"""Tree ensembles as gs_ranked.h has them, which compares whole numbers: what becomes of a forest when it is packed.

A forest is taken where every node compares (equality does not), the trees are trees (no branches meet again), the votes
are summed, and no number is too large for its field. Any other is left to gs_trees.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.ops.ml.forest import GT, GTE, LEQ, LT

# Leaves of a tree up to which bits are struck out, with ranks of one byte and of two; of trees whose levels ask one
# question each; and of those that fit registers.
_MOST_LEAVES, _MOST_WIDE, _MOST_LEVELS, _MOST_TABLE = 2040, 1024, 256, 64
# Splits of a feature that ranks of a byte tell apart, and that ranks tell apart at all.
_BYTE, _MOST_RANKS = 255, 65534
# Targets up to which each leaf has a weight for each.
_MOST_TARGETS = 16
# Rows, or trees, that are walked side by side (GS_RANKED_LANES); rows of a block of bits on the widest processor: a
# forest for which walking so many is cheaper is always walked.
_LANES, _BLOCK = 16, 128


@dataclass(frozen=True, slots=True)
class Ranked:
    """A forest over whole numbers: arrays by the names of the struct's fields, and its plain numbers."""

    arrays: dict[str, np.ndarray]
    trees: int
    targets: int
    inputs: int
    columns: int
    features: int    # the highest that is read, and one
    shift: int       # bits of a node's column
    wide: bool = False       # whether ranks need two bytes
    levels: bool = False     # whether all nodes of a level ask the same, in every tree
    few: int = 0             # rows below which walking is cheaper
    table: int = 0           # leaves that a tree has in `tables`


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
    """The arrays of `lower_walk` (ops/ml/forest.py), by their places there; None where that cannot be.

    Args:
        dtype: of the values.
        lanes: of a vector of values.
    """
    nodes = _ordered(given)
    weights = np.asarray(given[8])
    if nodes is None:
        return None
    trees, targets = len(given[9]), weights.shape[1]
    lead = np.flatnonzero(np.concatenate([[True], nodes.tree[1:] != nodes.tree[:-1]]))
    where, column, columns = _columns(nodes)
    start, count = _leaves(nodes)
    per_tree = np.bincount(nodes.tree[~nodes.inner], minlength=trees)
    first_leaf = np.cumsum(per_tree) - per_tree
    leaf = np.where(nodes.inner, 0, first_leaf[nodes.tree] + start)
    votes = np.zeros((int(per_tree.sum()), targets), dtype)
    votes[leaf[~nodes.inner]] = weights[nodes.row[~nodes.inner]]
    tree_of = np.repeat(np.arange(trees), per_tree)
    only = _only(votes, tree_of, trees)
    if only is None and targets > _MOST_TARGETS:
        return None
    depth = np.maximum.reduceat(nodes.level, lead).astype(np.int32)
    held = votes if only is None else np.take_along_axis(votes, only[tree_of][:, None], 1)
    kind = np.dtype(f"u{dtype.itemsize}")
    walk = _walk(nodes, column, columns, leaf if only is None else held.view(kind)[leaf, 0], dtype)
    if walk is None:
        return None
    arrays = {"nodes": walk[0], "root": lead, "depth": depth, "where": where}
    arrays["weight" if only is None else "only"] = held if only is None else only
    features = int(nodes.feature[nodes.inner].max(initial=-1)) + 1
    plain = {"trees": trees, "targets": targets, "inputs": len(where), "columns": max(columns, 1),
             "features": max(features, 1), "shift": walk[1]}
    found = _ranks(nodes, where, dtype, lanes) if per_tree.max() <= _MOST_LEAVES else None
    if found is None:
        return Ranked(arrays, **plain)
    splits, where, rank, most = found
    wide = most > _BYTE
    spread = 0x00010001 if wide else 0x01010101
    levels = per_tree.max() <= _MOST_LEVELS and _symmetric(nodes, rank, column, depth, lead)
    if levels:
        more = _level_updates(nodes, rank, column, depth, lead, spread)
    elif per_tree.max() <= (_MOST_WIDE if wide else _MOST_LEAVES):
        more = _planes(nodes, rank, column, start, count, per_tree, spread)
    else:
        return Ranked(arrays, **plain)
    # In turns of the processor, about, for a block of rows; and for each step of a row that is walked.
    block = len(more["updates"]) * (9 if wide else 5) + len(more["plane"]) * 8 + trees * 60
    few = -(-block // max(3 * int(depth.sum()), 1))
    if few > _BLOCK:
        return Ranked(arrays, **plain)
    arrays |= {**more, "splits": splits, "where": where, "first_leaf": first_leaf, "weight": held}
    table = 0
    if per_tree.max() <= _MOST_TABLE and dtype == np.float32:
        table = next(n for n in (16, 32, _MOST_TABLE) if n >= per_tree.max())
        tables = np.zeros((trees, held.shape[1], table), np.float32)
        tables[tree_of, :, np.arange(len(votes)) - first_leaf[tree_of]] = held
        arrays["tables"] = tables.ravel()
    return Ranked(arrays, **plain, wide=wide, levels=levels, few=few, table=table)


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


def _columns(nodes: _Nodes) -> tuple[np.ndarray, np.ndarray, int]:
    """(inputs, 5) `where` without splits, the column that each node reads, and how many columns there are.

    A feature has a column where NaN is high and one where it is low, as its nodes want them.
    """
    pair = np.where(nodes.inner, 2 * nodes.feature + nodes.low, -1)
    asked = np.unique(pair)
    asked = asked[asked >= 0]
    column = np.where(nodes.inner, np.searchsorted(asked, pair), 0)
    used = np.unique(asked >> 1)
    where = np.zeros((len(used), 5), np.int32)
    where[:, 0] = used
    for side in (0, 1):
        at = np.minimum(np.searchsorted(asked, 2 * used + side), max(len(asked) - 1, 0))
        where[:, 3 + side] = np.where(asked[at] == 2 * used + side, at, -1) if len(asked) else -1
    return where, column, len(asked)


def keys_of(values: np.ndarray) -> np.ndarray:
    """Numbers as whole ones in the same order, -0.0 as 0.0.

    >>> [hex(k) for k in keys_of(np.float32([-1, -0.0, 0, 1])).tolist()]
    ['0x407fffff', '0x80000000', '0x80000000', '0xbf800000']
    """
    kind = np.dtype(f"u{values.dtype.itemsize}")
    bits, top = (values + values.dtype.type(0)).view(kind), kind.type(1 << (8 * kind.itemsize - 1))
    return np.where(bits & top, ~bits, bits | top)


def _walk(nodes: _Nodes, column: np.ndarray, columns: int, leaves: np.ndarray, dtype: np.dtype[Any]
          ) -> tuple[np.ndarray, int] | None:
    """The nodes as the C has them, and the bits of a column; None where steps or columns are too many for a word.

    Args:
        leaves: (nodes,) what the keys of leaves are.
    """
    wide = _LANES * dtype.itemsize
    shift = ((columns + 1) * wide - 1).bit_length()
    step = np.where(nodes.inner, nodes.child - np.arange(len(nodes.child)), 0)
    if shift > 30 or int(step.max(initial=0)) >= 1 << (32 - shift):
        return None
    made = np.zeros(len(step), np.dtype([("key", f"<u{dtype.itemsize}"), ("word", "<u4"),
                                         *([("room", "<u4")] if dtype.itemsize == 8 else [])]))
    keys = keys_of(nodes.split.astype(dtype))
    made["key"] = np.where(nodes.inner, keys, leaves.astype(keys.dtype))
    # A leaf asks the column behind all others.
    made["word"] = step << shift | np.where(nodes.inner, column, columns) * wide
    return made, shift


def _ranks(nodes: _Nodes, where: np.ndarray, dtype: np.dtype[Any], lanes: int
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
    """How values are ranked: the splits, `where` with their places, each node's rank, the most splits of a feature."""
    rank = np.zeros(len(nodes.tree), np.int64)
    where = where.copy()
    parts, at, most = [np.zeros(0, dtype)], 0, 0
    order = np.flatnonzero(nodes.inner)
    order = order[np.argsort(nodes.feature[order], kind="stable")]
    _, begin = np.unique(nodes.feature[order], return_index=True)
    for row, mine in zip(where, np.split(order, begin[1:]) if len(order) else []):
        splits = np.unique(nodes.split[mine])
        most = max(most, len(splits))
        if most > _MOST_RANKS:
            return None
        rank[mine] = np.searchsorted(splits, nodes.split[mine])
        # The last block always ends in infinity, so that nothing is above it.
        blocks = len(splits) // lanes + 1
        whole = np.full(blocks * lanes, np.inf, dtype)
        whole[:len(splits)] = splits
        heads = np.full(-(-blocks // lanes) * lanes, np.inf, dtype)
        heads[:blocks] = whole[lanes - 1::lanes]
        row[1:3] = at, blocks
        parts += [heads, whole]
        at += len(heads) + len(whole)
    return (np.concatenate(parts), where, rank, most) if at < 1 << 31 else None


def _symmetric(nodes: _Nodes, rank: np.ndarray, column: np.ndarray, depth: np.ndarray, lead: np.ndarray) -> bool:
    """True where every tree is whole and all nodes of each of its levels ask the same question."""
    sizes = np.diff(np.append(lead, len(nodes.tree)))
    if (sizes != (2 << depth.astype(np.int64)) - 1).any():
        return False
    # The first node of the level, of each node.
    first = lead[nodes.tree] + (1 << nodes.level) - 1
    asked = rank << 32 | column
    return bool((nodes.inner == (nodes.level < depth[nodes.tree])).all()
                and (asked == asked[first])[nodes.inner].all())


def _level_updates(nodes: _Nodes, rank: np.ndarray, column: np.ndarray, depth: np.ndarray, lead: np.ndarray,
                   spread: int) -> dict[str, np.ndarray]:
    """A step for each level of each tree; its answer is a bit of the number of the leaf, the root's the highest."""
    first = np.flatnonzero(nodes.inner & (np.arange(len(nodes.tree)) == lead[nodes.tree] + (1 << nodes.level) - 1))
    bit = 1 << (depth[nodes.tree[first]] - 1 - nodes.level[first])
    updates = np.stack([rank[first] * spread, bit * 0x01010101, column[first]], 1).astype(np.uint32)
    return {"updates": updates, "plane": np.append(0, np.cumsum(depth))}


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
