"""LightGBM's models as its own text files say them, read without the library.

What a reader would guess wrong:

- Rows reach the trees with every number within 1e-35 of zero as zero, so a threshold there means the edge of that zone.
- A node says by itself what is missing to it: nothing (NaN counts as zero), NaN, or NaN and zero.
- Categories are cut towards zero, so that -0.5 is category 0; what is missing is in no set.
- A leaf of a linear tree falls back to its constant where one of its own features is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from gesher.base.errors import FormatError, UnsupportedError
from gesher.frontends.forest import LEQ, Ranges, Trees

Array = np.ndarray[Any, Any]

SIGMOID = ("binary", "cross_entropy", "xentropy", "multiclassova")
EXP = ("poisson", "gamma", "tweedie")
PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "")
OTHERS = ("multiclass", "cross_entropy_lambda", "xentlambda")
CLASSES = ("binary", "multiclass", "multiclassova")
# The library's own constant, a float32.
ZERO = float(np.float32(1e-35))
_BELOW_ZERO = float(np.nextafter(-ZERO, -np.inf))
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_NOTHING, _ZERO, _NAN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class LightGBMTree:
    """One tree: nodes with numbers from 0, leaves as their complements (~0 is leaf 0).

    Attributes:
        sets: (categorical splits) the categories of each, which go left.
        constant, used, coefficients: of linear trees, for each leaf what it begins with, the features that it weighs,
            and their weights; None of others.
    """

    feature: Array
    threshold: Array
    kind: Array
    left: Array
    right: Array
    leaves: Array
    sets: list[Array]
    constant: Array | None = None
    used: list[Array] = field(default_factory=list)
    coefficients: list[Array] = field(default_factory=list)

    def leaf_of(self, row: Array) -> int:
        """The leaf of one row of float64, by the plain reading of the file."""
        at = 0 if len(self.feature) else -1
        while at >= 0:
            value, kind = float(row[self.feature[at]]), int(self.kind[at])
            if kind & _CATEGORICAL:
                category = -1 if np.isnan(value) or abs(value) > 2e9 else int(value)
                left = category >= 0 and category in self.sets[int(self.threshold[at])]
            else:
                missing = kind >> 2 & 3
                value = 0.0 if abs(value) <= ZERO or (np.isnan(value) and missing != _NAN) else value
                if (missing == _ZERO and value == 0) or (missing == _NAN and np.isnan(value)):
                    left = bool(kind & _DEFAULT_LEFT)
                else:
                    left = value <= self.threshold[at]
            at = int(self.left[at] if left else self.right[at])
        return ~at


@dataclass(slots=True)
class LightGBMModel:
    """A model of LightGBM.

    Attributes:
        objective: its name, "" where it was trained by a function of the user's.
        settings: what stands behind the name: `{"sigmoid": "1"}`, `{"sqrt": ""}`.
        groups: margins of a row, and trees of an iteration.
        average: margins are the mean of the iterations, not their sum.
    """

    objective: str
    settings: Mapping[str, str]
    features: int
    groups: int
    average: bool
    trees: list[LightGBMTree]
    names: list[str]
    origin: str = "lightgbm file"

    @property
    def iterations(self) -> int:
        return len(self.trees) // self.groups

    @property
    def linear(self) -> bool:
        return any(t.constant is not None for t in self.trees)

    @property
    def sigmoid(self) -> float:
        return float(self.settings.get("sigmoid", 1))

    def weighed(self, first: int, last: int) -> list[int]:
        """The features that leaves of linear trees weigh, ascending."""
        return sorted({int(f) for t in self.trees[first * self.groups:last * self.groups] for u in t.used for f in u})

    def forest(self, first: int, last: int, averaged: bool) -> Trees:
        """The trees of the iterations first..last - 1.

        The first `groups` targets are the margins; of linear trees, for each group a target for each feature that is
        weighed comes after them, the sum of its weights, and then one for the sum of their sizes: where that is larger,
        trees pull an infinite feature both ways.
        """
        weighed = self.weighed(first, last)
        trees = Trees(LEQ, self.groups * (1 + 2 * len(weighed)), float32_features=False)
        scale = 1 / (last - first) if averaged and last > first else 1.0
        for i in range(first * self.groups, last * self.groups):
            group = i % self.groups
            first_of = self.groups + 2 * group * len(weighed)
            place = {f: (first_of + j, first_of + len(weighed) + j) for j, f in enumerate(weighed)}
            _add(trees, self.trees[i], group, place, scale)
        return trees

    def margins(self, x: Array, first: int, last: int, averaged: bool) -> Array:
        """(rows, groups) by the plain reading of the file, row by row: what verifies an export where the library is not
        installed."""
        x = np.asarray(x, np.float64)
        out = np.zeros((len(x), self.groups))
        for i in range(first * self.groups, last * self.groups):
            tree = self.trees[i]
            for r, row in enumerate(x):
                leaf = tree.leaf_of(row)
                value = tree.leaves[leaf]
                if tree.constant is not None:
                    known = row[tree.used[leaf]]
                    if not np.isnan(known).any():
                        value = tree.constant[leaf] + float(known @ tree.coefficients[leaf])
                out[r, i % self.groups] += value
        return out / (last - first) if averaged and last > first else out


def _add(trees: Trees, tree: LightGBMTree, group: int, place: Mapping[int, tuple[int, int]], scale: float) -> None:
    """One tree; nodes keep their numbers, leaves come behind them."""
    n, leaves = len(tree.feature), len(tree.leaves)
    size = n + leaves
    ranges: dict[int, Ranges] = {}
    if n == 0:
        feature, split, yes, no = (np.zeros(1, np.int64), np.zeros(1), np.full(1, -1), np.full(1, -1))
        missing = np.zeros(1, bool)
    else:
        feature = np.concatenate([tree.feature, np.zeros(leaves, np.int64)])
        yes, no = (np.concatenate([np.where(c >= 0, c, n + ~c), np.full(leaves, -1)]) for c in (tree.left, tree.right))
        split, missing, ranges = _questions(tree, size)
    weights = np.concatenate([np.zeros(n), tree.leaves])
    if tree.constant is None:
        trees.add(feature, split, yes, no, missing, weights * scale, group, ranges)
        return
    used = sorted({int(f) for u in tree.used for f in u})
    table = np.zeros((size, 1 + 2 * len(used)))
    table[:, 0] = weights
    grown = _Chains([feature.tolist(), split.tolist(), yes.tolist(), no.tolist(), missing.tolist()], [])
    for leaf in range(leaves):
        row = np.zeros(1 + 2 * len(used))
        row[0] = tree.constant[leaf]
        for f, c in zip(tree.used[leaf].tolist(), tree.coefficients[leaf].tolist()):
            row[1 + used.index(f)] += c
            row[1 + len(used) + used.index(f)] += abs(c)
        fallback = np.append(tree.leaves[leaf], np.zeros(2 * len(used)))
        table[n + leaf] = grown.hang(n + leaf, tree.used[leaf].tolist(), row, fallback)
    nodes = [np.array(values) for values in grown.nodes]
    held = np.concatenate([table, *(r[None] for r in grown.rows)])
    trees.add(nodes[0], nodes[1], nodes[2], nodes[3], nodes[4], held * scale,
              [group, *(place[f][0] for f in used), *(place[f][1] for f in used)],
              ranges)


@dataclass(slots=True)
class _Chains:
    """Nodes that grow below the leaves of a linear tree.

    Attributes:
        nodes: five lists over nodes, as `Trees.add` takes them.
        rows: the weights of those that were added.
    """

    nodes: list[list[Any]]
    rows: list[Array]

    def hang(self, at: int, used: list[int], row: Array, fallback: Array) -> Array:
        """Ask at a leaf for each feature that it uses whether it is a number: who passes them all comes to `row`,
        others to `fallback`. Gives what then stands at the leaf's own place."""
        if not used:
            return row
        here = at
        for j, f in enumerate(used):
            end = len(self.nodes[0])
            for values, value in zip(self.nodes, (f, np.inf, end + 1, end, False)):
                values[here] = value
            for weights in (fallback, row if j == len(used) - 1 else np.zeros_like(row)):
                for values, value in zip(self.nodes, (0, 0.0, -1, -1, False)):
                    values.append(value)
                self.rows.append(weights)
            here = end + 1
        return np.zeros_like(row)


def _questions(tree: LightGBMTree, size: int) -> tuple[Array, Array, dict[int, Ranges]]:
    """What the nodes ask: thresholds, where NaN goes, and the questions that are more than a comparison."""
    n = len(tree.feature)
    split, missing = np.zeros(size), np.zeros(size, bool)
    categorical = tree.kind & _CATEGORICAL != 0
    default = tree.kind & _DEFAULT_LEFT != 0
    holes = tree.kind >> 2 & 3
    # Numbers near zero are zero.
    t = np.where((tree.threshold >= -ZERO) & (tree.threshold < 0), _BELOW_ZERO, tree.threshold)
    t = np.where((t >= 0) & (t < ZERO), ZERO, t)
    split[:n] = np.where(categorical, 0, t)
    missing[:n] = np.where(holes == _NAN, default, tree.threshold >= 0)
    ranges: dict[int, Ranges] = {}
    for i in np.flatnonzero(categorical | (holes == _ZERO)).tolist():
        if categorical[i]:
            ranges[i] = _of_set(tree.sets[int(tree.threshold[i])])
            continue
        missing[i] = default[i]
        below, above = t[i] <= _BELOW_ZERO, t[i] >= ZERO
        if tree.threshold[i] >= -ZERO and tree.threshold[i] < ZERO:
            # Between zero's edges only zero itself is, and that is missing.
            split[i] = ZERO if default[i] else _BELOW_ZERO
        elif above and not default[i]:
            ranges[i] = _merged([_BELOW_ZERO, ZERO, t[i]], [True, False, True, False], False)
        elif below and default[i]:
            ranges[i] = _merged([t[i], _BELOW_ZERO, ZERO], [True, False, True, False], True)
    return split, missing, ranges


def _merged(cuts: list[float], yes: list[bool], missing_yes: bool) -> Ranges:
    """Ranges without empty intervals."""
    kept = [(c, y) for c, y, following in zip(cuts, yes, [*cuts[1:], None]) if c != following]
    return Ranges(np.array([c for c, _ in kept]), np.array([*(y for _, y in kept), yes[-1]]), missing_yes)


def _of_set(categories: Array) -> Ranges:
    """Numbers are cut towards zero: a category's are from itself up to the next, and 0 has those above -1."""
    cuts: list[float] = []
    for c in categories.tolist():
        low = -1.0 if c == 0 else float(np.nextafter(c, -np.inf))
        if cuts and cuts[-1] == low:
            cuts.pop()
        else:
            cuts.append(low)
        cuts.append(float(np.nextafter(c + 1.0, -np.inf)))
    return Ranges(np.array(cuts), np.arange(len(cuts) + 1) % 2 == 1, False)


def parse(text: str) -> LightGBMModel:
    """The model that a text file says.

    Raises:
        FormatError: it is no model of LightGBM.
        UnsupportedError: its objective is not known.
    """
    if text[:5].strip() != "tree":
        raise FormatError("it is no text file of LightGBM: it does not begin with 'tree'", offset=0)
    head, _, rest = text.partition("\nTree=")
    said = _lines(head)
    try:
        words = said.get("objective", "").split()
        objective, settings = (words[0] if words else ""), dict(w.partition(":")[::2] for w in words[1:])
        if objective not in (*SIGMOID, *EXP, *PLAIN, *OTHERS):
            known = ", ".join(o for o in (*SIGMOID, *EXP, *PLAIN, *OTHERS) if o)
            raise UnsupportedError(f"the objective {objective!r} is not known, nor what becomes of its scores",
                                   who="lightgbm", advice=f"these are: {known}")
        blocks = rest.partition("\nend of trees")[0].split("\nTree=") if rest else []
        groups = int(said.get("num_tree_per_iteration", said.get("num_class", "1")))
        model = LightGBMModel(objective, settings, int(said["max_feature_idx"]) + 1, groups,
                              "average_output" in said, [_tree(_lines(b)) for b in blocks],
                              said.get("feature_names", "").split(),
                              f"lightgbm model {said.get('version', 'of unknown version')}")
    except (KeyError, ValueError, IndexError) as e:
        raise FormatError(f"it is no model of LightGBM: {type(e).__name__} {e}") from None
    if len(model.trees) % groups:
        raise FormatError(f"there are {len(model.trees)} trees, which {groups} a round do not divide")
    return model


def _lines(block: str) -> dict[str, str]:
    return {k: v for k, _, v in (line.strip().partition("=") for line in block.split("\n")) if k}


def _tree(said: Mapping[str, str]) -> LightGBMTree:
    leaves = int(said["num_leaves"])

    def numbers(name: str, dtype: Any, count: int) -> Array:
        found = np.fromstring(said.get(name, ""), dtype, sep=" ")
        if len(found) != count:
            raise ValueError(f"{name} has {len(found)} numbers instead of {count}")
        return found

    inner = leaves - 1
    sets = []
    if int(said.get("num_cat", "0")):
        bounds, words = (np.array(said[name].split(), np.int64) for name in ("cat_boundaries", "cat_threshold"))
        for low, high in pairwise(bounds):
            bits = np.unpackbits(words[low:high].astype("<u4").view(np.uint8), bitorder="little")
            sets.append(np.flatnonzero(bits))
    tree = LightGBMTree(numbers("split_feature", np.int64, inner), numbers("threshold", np.float64, inner),
                        numbers("decision_type", np.int64, inner), numbers("left_child", np.int64, inner),
                        numbers("right_child", np.int64, inner), numbers("leaf_value", np.float64, leaves), sets)
    if said.get("is_linear", "0").strip() != "1":
        return tree
    counts = numbers("num_features", np.int64, leaves)
    ends = np.cumsum(counts)[:-1]
    used = np.split(numbers("leaf_features", np.int64, int(counts.sum())), ends)
    weights = np.split(numbers("leaf_coeff", np.float64, int(counts.sum())), ends)
    return LightGBMTree(tree.feature, tree.threshold, tree.kind, tree.left, tree.right, tree.leaves, sets,
                        numbers("leaf_const", np.float64, leaves), used, weights)
