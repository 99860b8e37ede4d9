"""A forest as flat arrays, whichever operator version wrote it down.

TreeEnsembleClassifier and -Regressor name nodes by (tree, node) pairs and hang weights on them; TreeEnsemble 5 keeps
interior nodes and leaves apart. Here a forest is one array a property, nodes first and leaves after them, where a leaf
points to itself: a walk may go on below a leaf and stays there, which makes walking branch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base.errors import ModelError
from gesher.ir import Tensor

Array = np.ndarray[Any, Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
LEAF = -1
_COMPARED = {LEQ: np.less_equal, LT: np.less, GTE: np.greater_equal, GT: np.greater, EQ: np.equal, NEQ: np.not_equal}
# Pairs of a row and a tree that are walked side by side.
_WALKED = 1 << 16


@dataclass(slots=True)
class Forest:
    """Trees over a matrix of features.

    Attributes:
        roots: (trees,) the node that each tree begins with.
        feature, split, mode, yes, no, missing_yes: (nodes,) for each node which feature it reads, what it compares with
            and how (index into MODES; LEAF for leaves), where it goes, and whether a NaN goes to `yes`.
        weight_row: (nodes,) for each leaf its row in `weights`; 0 for interior nodes.
        weights: (rows, targets) what a leaf adds; row 0 is all zeros.
        depth: the most steps from a root to a leaf.
    """

    roots: Array
    feature: Array
    split: Array
    mode: Array
    yes: Array
    no: Array
    missing_yes: Array
    weight_row: Array
    weights: Array
    depth: int

    @property
    def trees(self) -> int:
        return len(self.roots)

    def walk(self, x: Array) -> Array:
        """The leaf (rows, trees) that each row of `x` (rows, features) ends in: the reference walk."""
        out = np.empty((len(x), self.trees), np.int64)
        inner, missing = self.mode != LEAF, bool(self.missing_yes.any())
        modes = np.unique(self.mode[inner]).tolist()
        child = np.stack([self.no, self.yes], 1).ravel()
        # So many at once stay in the cache.
        block = max(1, _WALKED // max(1, self.trees))
        for begin in range(0, len(x), block):
            rows = np.ascontiguousarray(x[begin:begin + block])
            values, state = rows.ravel(), np.tile(self.roots, len(rows))
            on = np.flatnonzero(inner[state])
            at, row = state[on], on // max(1, self.trees) * rows.shape[1]
            while len(on):
                # Those that have come to a leaf are put aside every other step: until then they stay there.
                for _ in range(2):
                    value, split = values.take(row + self.feature.take(at)), self.split.take(at)
                    if len(modes) == 1:
                        yes = _COMPARED[modes[0]](value, split)
                    else:
                        mode, yes = self.mode.take(at), np.zeros(len(at), bool)
                        for code in modes:
                            yes |= (mode == code) & _COMPARED[code](value, split)
                    if missing:
                        yes |= self.missing_yes.take(at) & np.isnan(value)
                    at = child.take(2 * at + yes)
                left = inner.take(at)
                state[on[~left]] = at[~left]
                on, at, row = on[left], at[left], row[left]
            out[begin:begin + block] = state.reshape(len(rows), self.trees)
        return out


def _fail(what: str) -> ModelError:
    return ModelError(f"tree ensemble: {what}", rule="tree-ensemble")


def _depth(roots: Array, yes: Array, no: Array, mode: Array) -> int:
    """The most steps to a leaf; a cycle or a child outside the forest is refused."""
    n = len(mode)
    for name, child in (("true", yes), ("false", no)):
        bad = (child < 0) | (child >= n)
        if bad.any():
            raise _fail(f"the {name} child of node {int(np.argmax(bad))} does not exist")
    frontier, depth = np.unique(roots), 0
    while True:
        inner = frontier[mode[frontier] != LEAF]
        if not len(inner):
            return depth
        depth += 1
        if depth > n:
            raise _fail("a tree goes round in a circle")
        frontier = np.concatenate([yes[inner], no[inner]])
        # Of a tree each node is met once.
        if len(frontier) > n:
            frontier = np.unique(frontier)


class _Places:
    """Where a node stands in the lists, by its tree and its id.

    Raises:
        ModelError: two nodes of one tree have the same id.
    """

    def __init__(self, tree: Array, node: Array):
        lead = np.flatnonzero(np.concatenate([[True], tree[1:] != tree[:-1]]))
        sizes = np.diff(np.append(lead, len(tree)))
        # Mostly the trees ascend, and their nodes stand where their ids say.
        self.first: Array | None = None
        if (np.diff(tree[lead]) > 0).all() and (node == np.arange(len(node)) - np.repeat(lead, sizes)).all():
            self.trees, self.first, self.sizes = tree[lead], lead, sizes
            return
        self.trees, of_tree = np.unique(tree, return_inverse=True)
        self.nodes, of_node = np.unique(node, return_inverse=True)
        keys = of_tree * len(self.nodes) + of_node
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]
        if (self.keys[1:] == self.keys[:-1]).any():
            raise _fail("two nodes of one tree have the same id")

    def of(self, tree: Array, node: Array) -> Array:
        """The places, -1 where there is no such node."""
        t = np.minimum(np.searchsorted(self.trees, tree), len(self.trees) - 1)
        if self.first is not None:
            there = (self.trees[t] == tree) & (node >= 0) & (node < self.sizes[t])
            return np.asarray(np.where(there, self.first[t] + node, -1))
        k = np.minimum(np.searchsorted(self.nodes, node), len(self.nodes) - 1)
        key = t * len(self.nodes) + k
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        there = (self.trees[t] == tree) & (self.nodes[k] == node) & (self.keys[at] == key)
        return np.asarray(np.where(there, self.order[at], -1))


def from_pairs(a: dict[str, Any], weights_of: str, ids_of: str, targets: int, dtype: Any) -> Forest:
    """A forest from the attributes of TreeEnsembleClassifier or -Regressor.

    `weights_of` and `ids_of` name the attributes of weights (`class_weights`, `target_weights`) and of the class or
    target that each is for (`class_ids`, `target_ids`); their prefix names the node lists.
    """
    def numbers(name: str) -> Array:
        tensor = a.get(name + "_as_tensor")
        if tensor is not None:
            return np.asarray(tensor.numpy())
        return np.asarray(a.get(name) or (), np.float32)

    tree, node = np.asarray(a["nodes_treeids"] or (), np.int64), np.asarray(a["nodes_nodeids"] or (), np.int64)
    n = len(tree)
    if n == 0:
        raise _fail("it has no nodes")
    names, values = a["nodes_modes"] or (), numbers("nodes_values")
    lists = {"nodes_nodeids": node, "nodes_modes": names, "nodes_featureids": a["nodes_featureids"] or (),
             "nodes_truenodeids": a["nodes_truenodeids"] or (), "nodes_falsenodeids": a["nodes_falsenodeids"] or (),
             "nodes_values": values}
    for name, listed in lists.items():
        if len(listed) != n:
            raise _fail(f"{name} has {len(listed)} elements, nodes_treeids has {n}")
    codes = {name: i for i, name in enumerate(MODES[:6])} | {"LEAF": LEAF}
    unknown = sorted(str(m) for m in set(names) - codes.keys())
    if unknown:
        raise _fail(f"there is no node mode {unknown[0]!r}")
    mode = np.fromiter(map(codes.__getitem__, names), np.int8, n)
    places = _Places(tree, node)
    inner = np.flatnonzero(mode != LEAF)

    def children(ids: Any) -> Array:
        out, wanted = np.arange(n, dtype=np.int64), np.asarray(ids, np.int64)[inner]
        found = places.of(tree[inner], wanted)
        if (found < 0).any():
            i = int(np.argmax(found < 0))
            raise _fail(f"tree {int(tree[inner[i]])} has no node {int(wanted[i])}, which its node "
                        f"{int(node[inner[i]])} leads to")
        out[inner] = found
        return out

    yes, no = children(lists["nodes_truenodeids"]), children(lists["nodes_falsenodeids"])
    prefix = weights_of.split("_")[0]
    w_tree, w_node = a[f"{prefix}_treeids"] or (), a[f"{prefix}_nodeids"] or ()
    ids, given = np.asarray(a[ids_of] or (), np.int64), numbers(weights_of)
    if not len(w_tree) == len(w_node) == len(ids) == len(given):
        raise _fail(f"{prefix}_treeids, {prefix}_nodeids, {ids_of} and {weights_of} have different lengths")
    if len(ids) and (ids.min() < 0 or ids.max() >= targets):
        raise _fail(f"{ids_of} has {int(ids.max() if ids.max() >= targets else ids.min())}, there are {targets}")
    at = places.of(np.asarray(w_tree, np.int64), np.asarray(w_node, np.int64))
    if (at < 0).any():
        j = int(np.argmax(at < 0))
        raise _fail(f"a weight hangs on node {w_node[j]} of tree {w_tree[j]}, which does not exist")
    weight_row = np.zeros(n, np.int64)
    weight_row[at] = 1
    weighed = np.flatnonzero(weight_row)
    weight_row[weighed] = np.arange(1, len(weighed) + 1)
    row = weight_row[at] - 1
    weights = np.zeros((len(weighed) + 1, targets), dtype)
    np.add.at(weights, (row + 1, ids), given)
    # The first node of a tree in the list is its root.
    _, first = np.unique(tree, return_index=True)
    roots = np.sort(first)
    missing = a.get("nodes_missing_value_tracks_true") or ()
    missing_yes = np.zeros(n, bool) if not len(missing) else np.asarray(missing).astype(bool)
    if len(missing_yes) != n:
        raise _fail(f"nodes_missing_value_tracks_true has {len(missing_yes)} elements, there are {n} nodes")
    feature = np.where(mode == LEAF, 0, np.asarray(lists["nodes_featureids"], np.int64))
    return Forest(roots, feature, values.astype(dtype), mode, yes, no, missing_yes & (mode != LEAF),
                  weight_row, weights, _depth(roots, yes, no, mode))


def from_leaves(a: dict[str, Any], dtype: Any) -> Forest:
    """A forest from the attributes of TreeEnsemble 5; membership sets become chains of equality nodes."""
    def tensor(name: str) -> Array:
        t = a[name]
        return np.asarray(t.numpy()) if isinstance(t, Tensor) else np.zeros(0)

    modes = tensor("nodes_modes").astype(np.int64)
    n = len(modes)
    splits, leaf_weights = tensor("nodes_splits").astype(dtype), tensor("leaf_weights").astype(dtype)
    targets_of = np.asarray(a["leaf_targetids"], np.int64)
    leaves = len(leaf_weights)
    targets = a["n_targets"] if a["n_targets"] is not None else int(targets_of.max(initial=0)) + 1
    if len(targets_of) != leaves:
        raise _fail(f"leaf_targetids has {len(targets_of)} elements, leaf_weights has {leaves}")
    if leaves and (targets_of.min() < 0 or targets_of.max() >= targets):
        raise _fail(f"leaf_targetids has {int(targets_of.max())}, there are {targets} targets")
    if len(modes) and (modes.min() < 0 or modes.max() >= len(MODES)):
        raise _fail(f"there is no node mode {int(modes.max())}")
    lists = ("nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs", "nodes_falseleafs")
    arrays = {name: np.asarray(a[name], np.int64) for name in lists}
    for name, values in (*arrays.items(), ("nodes_splits", splits)):
        if len(values) != n:
            raise _fail(f"{name} has {len(values)} elements, nodes_modes has {n}")
    for name, flags in (("true", arrays["nodes_trueleafs"]), ("false", arrays["nodes_falseleafs"])):
        ids = arrays[f"nodes_{name}nodeids"]
        if len(ids) and ((ids < 0) | (ids >= np.where(flags != 0, leaves, n))).any():
            raise _fail(f"nodes_{name}nodeids leads to a node or leaf that does not exist")
    missing = a.get("nodes_missing_value_tracks_true") or ()
    missing_yes = np.asarray(missing).astype(bool) if len(missing) else np.zeros(n, bool)
    if len(missing_yes) != n:
        raise _fail(f"nodes_missing_value_tracks_true has {len(missing_yes)} elements, there are {n} nodes")
    sets = _membership(tensor("membership_values"), int((modes == MEMBER).sum()))
    extra = sum(max(len(s) - 1, 0) for s in sets)
    total = n + extra + leaves
    feature, split = np.zeros(total, np.int64), np.zeros(total, dtype)
    mode, missing_all = np.full(total, LEAF, np.int8), np.zeros(total, bool)
    yes, no = np.arange(total), np.arange(total)
    feature[:n], split[:n], mode[:n], missing_all[:n] = arrays["nodes_featureids"], splits, modes, missing_yes
    yes[:n] = np.where(arrays["nodes_trueleafs"] != 0, n + extra + arrays["nodes_truenodeids"],
                       arrays["nodes_truenodeids"])
    no[:n] = np.where(arrays["nodes_falseleafs"] != 0, n + extra + arrays["nodes_falsenodeids"],
                      arrays["nodes_falsenodeids"])
    free = n
    for at, members in zip(np.flatnonzero(modes == MEMBER).tolist(), sets):
        # x in {a, b, c} is x == a, else x == b, else x == c; the empty set always says no.
        last = no[at]
        mode[at] = EQ
        split[at] = members[0] if len(members) else 0
        if not len(members):
            yes[at] = last
            continue
        here = at
        for value in members[1:]:
            no[here] = free
            feature[free], split[free], mode[free], yes[free] = feature[at], value, EQ, yes[at]
            here, free = free, free + 1
        no[here] = last
    weight_row = np.zeros(total, np.int64)
    weight_row[n + extra:] = np.arange(1, leaves + 1)
    weights = np.zeros((leaves + 1, targets), dtype)
    weights[np.arange(1, leaves + 1), targets_of] = leaf_weights
    roots = np.asarray(a["tree_roots"], np.int64)
    if len(roots) and (roots.min() < 0 or roots.max() >= n):
        raise _fail(f"tree_roots has {int(roots.max())}, there are {n} nodes")
    return Forest(roots, feature, split, mode, yes, no, missing_all, weight_row, weights,
                  _depth(roots, yes, no, mode))


def _membership(values: Array, count: int) -> list[Array]:
    """The sets of the MEMBER nodes in order: values parted by NaN."""
    sets: list[Array] = []
    start = 0
    for end in [*np.flatnonzero(np.isnan(values)).tolist(), len(values)] if len(values) else []:
        sets.append(values[start:end])
        start = end + 1
    # The list may or may not end with a NaN.
    if len(sets) == count + 1 and not len(sets[-1]):
        sets.pop()
    if len(sets) != count:
        raise _fail(f"membership_values holds {len(sets)} sets, there are {count} BRANCH_MEMBER nodes")
    return sets


def lower_walk(p: Any, x: Any, forest: Forest, aggregate: str) -> Any:
    """The aggregated weights (N, targets) of the rows of `x` (N,F) in primitives: a walk of `depth` steps, all trees at
    once, then a sum, minimum or maximum over the trees."""
    from gesher.base import dtypes

    def walk(q: Any, x: Any, feature: Any, split: Any, mode: Any, yes: Any, no: Any, missing: Any, rows: Any,
             weights: Any, roots: Any, *, depth: int, modes: Sequence[int], aggregate: str, **_: Any) -> Any:
        n = x.shape[0]
        trees = roots.shape[0]

        def step(q: Any, i: Any, carried: Any, slices: Any) -> Any:
            state = carried[0]
            value = q.gather_along(x, q.gather(feature, state, 0), 1)
            at = q.gather(split, state, 0)
            compare = {LEQ: q.le, LT: q.lt, GTE: q.ge, GT: q.gt, EQ: q.eq, NEQ: q.ne}
            present = [m for m in modes if m != LEAF] or [LEQ]
            go = compare[present[0]](value, at)
            for m in present[1:]:
                go = q.select(q.eq(q.gather(mode, state, 0), m), compare[m](value, at), go)
            if missing is not None:
                go = q.or_(go, q.and_(q.gather(missing, state, 0), q.is_nan(value)))
            return [q.select(go, q.gather(yes, state, 0), q.gather(no, state, 0))], []

        state = q.broadcast_to(q.expand_dims(roots, (0,)), (n, trees))
        (state,), _ys = q.loop(depth, [state], step)
        votes = q.gather(weights, q.gather(rows, state, 0), 0)     # (N, trees, targets)
        reduce = {"SUM": q.sum, "AVERAGE": q.mean, "MIN": q.amin, "MAX": q.amax}[aggregate]
        return reduce(votes, (1,))

    missing = p.constant(forest.missing_yes) if forest.missing_yes.any() else None
    modes = tuple(sorted(set(forest.mode.tolist())))
    constants = [p.constant(a.astype(np.int64)) for a in (forest.yes, forest.no)]
    assert x.dtype in (dtypes.FLOAT, dtypes.DOUBLE)
    return p.composite(
        "tree_ensemble", walk, x, p.constant(forest.feature.astype(np.int64)),
        p.constant(forest.split.astype(x.dtype.numpy)), p.constant(forest.mode.astype(np.int64)), *constants, missing,
        p.constant(forest.weight_row.astype(np.int64)), p.constant(forest.weights.astype(x.dtype.numpy)),
        p.constant(forest.roots.astype(np.int64)), depth=forest.depth, modes=modes, aggregate=aggregate)
