"""Questions that a plain comparison cannot ask: is it one of these categories, is it nearly zero.

Whatever a tree asks of one number, it is answered by the interval that the number lies in. Where little hangs on such a
node, it becomes a search among its intervals, in the tree and with the tree's own comparison, so that all nodes go on
asking alike; what is below is written once for each interval that leads there. Where that would be much, the answer
becomes a column of its own, which is looked up before the trees are walked.
(Paths that meet again would be smaller, but ONNX Runtime takes trees only.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value
from gesher.ops.build import Builder

Array = np.ndarray[Any, Any]

# Nodes that a search may cost more than a column of its own.
_GROWTH = 6


@dataclass(frozen=True, slots=True)
class Ranges:
    """A question about a number that is answered by the interval that it lies in.

    Attributes:
        cuts: (n,) ascending, where intervals meet. With `<` a cut belongs to the interval above it, with `<=` to the
            one below.
        yes: (n + 1,) whether the numbers of each interval go to the yes side.
        missing_yes: whether NaN does.
    """

    cuts: Array
    yes: Array
    missing_yes: bool

    def reaching_missing(self) -> tuple[list[float], list[bool], int]:
        """Cuts and sides among which NaN finds its side too, and the interval to send it to."""
        cuts, sides = [float(c) for c in self.cuts], [bool(s) for s in self.yes]
        if self.missing_yes not in sides:
            # No number goes where NaN goes; above this cut nothing is.
            cuts, sides = [*cuts, np.inf], [*sides, self.missing_yes]
        return cuts, sides, sides.index(self.missing_yes)


@dataclass(slots=True)
class Tree:
    """One tree's arrays over its nodes, the root first; `yes` is -1 for leaves.

    Attributes:
        missing: whether NaN goes to `yes`.
        weights: (nodes, targets) what leaves add.
        targets: which sums they add it to.
        ranges: the nodes that ask something else than `split` says.
    """

    feature: Array
    split: Array
    yes: Array
    no: Array
    missing: Array
    weights: Array
    targets: Array
    ranges: Mapping[int, Ranges] = field(default_factory=dict)

    @property
    def leaf(self) -> Array:
        return self.yes < 0


@dataclass(slots=True)
class Columns:
    """The answers that are looked up before the trees are walked: columns behind the features.

    Attributes:
        features: how many columns there are before.
    """

    features: int
    _asked: dict[tuple[int, bytes, bytes, bool], tuple[int, Ranges]] = field(default_factory=dict)

    def index(self, feature: int, asked: Ranges) -> int:
        """The column of a question; it is 0 for yes and 1 for no."""
        key = (feature, asked.cuts.tobytes(), asked.yes.tobytes(), asked.missing_yes)
        found = self._asked.setdefault(key, (len(self._asked), asked))
        return self.features + found[0]

    def beside(self, b: Builder, x: Value, strict: bool, rounded: Callable[[Array], Array]) -> Value:
        """`x` (rows, features) with the columns behind it.

        Args:
            strict: the trees compare with `<`.
            rounded: cuts in the type of `x`, on the side that decides alike.
        """
        if not self._asked:
            return x
        # Columns stand in the order of their questions; those of one feature are looked up together.
        by_feature: dict[int, list[tuple[int, Ranges]]] = {}
        for (feature, *_), (place, asked) in self._asked.items():
            by_feature.setdefault(feature, []).append((place, asked))
        parts, places = [x], list(range(self.features))
        order: list[int] = []
        for feature, questions in by_feature.items():
            cuts = np.unique(np.concatenate([q.cuts for _, q in questions]))
            table = np.empty((len(cuts) + 2, len(questions)))
            for j, (place, q) in enumerate(questions):
                # The interval k of all cuts lies within this one of the question's own.
                inside = np.searchsorted(q.cuts, np.append(cuts, np.inf), "left")
                table[:-1, j], table[-1, j] = ~q.yes[inside], not q.missing_yes
                order.append(place)
            column = b.Gather(x, b.constant(np.array([feature], np.int64)), axis=1)
            limits = b.constant(rounded(cuts))
            above = b.Not(b.Less(column, limits)) if strict else b.Greater(column, limits)
            at = b.Cast(_total(b, b.Cast(above, to=dtypes.INT32.code)), to=dtypes.INT64.code)
            at = b.Where(_flat(b, b.IsNaN(column)), b.constant(np.array(len(cuts) + 1, np.int64)), at)
            parts.append(b.Gather(b.constant(table.astype(b.dtype(x).numpy)), at, axis=0))
        joined = b.Concat(*parts, axis=1)
        wanted = places + [self.features + i for i in np.argsort(order).tolist()]
        if wanted == list(range(len(wanted))):
            return joined
        return b.Gather(joined, b.constant(np.array(wanted, np.int64)), axis=1)


def _total(b: Builder, x: Value) -> Value:
    """The sums of rows."""
    if b.opsets[""] >= 13:
        return b.ReduceSum(x, b.constant(np.array([1], np.int64)), keepdims=0)
    return b.ReduceSum(x, axes=[1], keepdims=0)


def _flat(b: Builder, x: Value) -> Value:
    """(rows, 1) as (rows,)."""
    return b.Reshape(x, b.constant(np.array([-1], np.int64)))


def resolved(tree: Tree, columns: Columns) -> Tree:
    """The tree with plain comparisons only."""
    if not tree.ranges:
        return tree
    searched = _searched(tree)
    feature: list[int] = []
    split: list[float] = []
    missing: list[bool] = []
    yes: list[int] = []
    no: list[int] = []
    old: list[int] = []
    # What is to be written: a node, or (node, intervals from .. to); and where it is led to from.
    stack: list[tuple[int, int, int, int, bool]] = [(0, -1, -1, -1, True)]
    asked: dict[int, tuple[list[float], list[bool], int]] = {n: tree.ranges[n].reaching_missing() for n in searched}
    while stack:
        node, low, high, parent, side = stack.pop()
        while True:
            if low < 0 and node in searched:
                low, high = 0, len(asked[node][0])
            if low != high or low < 0:
                break
            # A single interval is left, so there is nothing to ask: go on to where it leads.
            node, low, high = int((tree.yes if asked[node][1][low] else tree.no)[node]), -1, -1
        here = len(yes)
        if parent >= 0:
            (yes if side else no)[parent] = here
        old.append(node)
        if low >= 0:
            cuts, _, goal = asked[node]
            middle = (low + high) // 2
            feature.append(int(tree.feature[node]))
            split.append(cuts[middle])
            missing.append(low <= goal <= middle)
            stack += [(node, middle + 1, high, here, False), (node, low, middle, here, True)]
        elif node in tree.ranges:
            feature.append(columns.index(int(tree.feature[node]), tree.ranges[node]))
            split.append(0.5)
            missing.append(False)
            stack += [(int(tree.no[node]), -1, -1, here, False), (int(tree.yes[node]), -1, -1, here, True)]
        else:
            feature.append(int(tree.feature[node]))
            split.append(float(tree.split[node]))
            missing.append(bool(tree.missing[node]))
            if tree.yes[node] >= 0:
                stack += [(int(tree.no[node]), -1, -1, here, False), (int(tree.yes[node]), -1, -1, here, True)]
        yes.append(-1)
        no.append(-1)
    return Tree(np.array(feature), np.array(split, np.float64), np.array(yes), np.array(no), np.array(missing, bool),
                tree.weights[np.array(old)] * (np.array(yes) < 0)[:, None], tree.targets)


def _searched(tree: Tree) -> set[int]:
    """The nodes of ranges that become a search among their intervals."""
    order, stack = [], [0]
    while stack:
        node = stack.pop()
        order.append(node)
        if tree.yes[node] >= 0:
            stack += [int(tree.yes[node]), int(tree.no[node])]
    size: dict[int, int] = {}
    chosen = set()
    for node in reversed(order):
        if tree.yes[node] < 0:
            size[node] = 1
            continue
        to_yes, to_no = size[int(tree.yes[node])], size[int(tree.no[node])]
        size[node] = 1 + to_yes + to_no
        if node in tree.ranges:
            cuts, sides, _ = tree.ranges[node].reaching_missing()
            cost = len(cuts) + sum(to_yes if s else to_no for s in sides)
            if cost <= size[node] + _GROWTH:
                chosen.add(node)
                size[node] = cost
    return chosen
