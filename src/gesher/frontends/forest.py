"""Trees of any library, gathered and written as one operator of ai.onnx.ml.

From version 5 that is TreeEnsemble, before it TreeEnsembleRegressor; the answers are sums of leaves either way, and
what follows (a sigmoid, a vote) is up to the frontend.

What a reader would guess wrong:

- All nodes ask the same question, `x < split` or `x <= split`, because engines walk such forests fastest. A question
  that is another one (is x one of these categories, is it nearly zero) is written as a small search among intervals
  (`Ranges`), never as equality or membership.
- Thresholds that the model's type cannot hold are rounded in the direction that decides every number of that type as
  the exact threshold does: down for `<=`, up for `<`.
- A constant that is added to all answers goes into the leaves of the first tree, so that it costs no node.
- TreeEnsembleRegressor answers in float32 whatever it is fed. Where its sums shall be those of float64 (`tallies`, and
  every model of float64 that has no TreeEnsemble), leaves are cut into parts of few bits, a target each: their sums are
  exact in float32, in whatever order an engine takes them, and are put together in float64 behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Attribute, Kind, Tensor, Value
from gesher.ops.build import Builder
from gesher.ops.ml.forest import LEQ, LT, MODES
from gesher.ops.releases import companion

from .ranges import Columns, Ranges, Tree, resolved

Array = np.ndarray[Any, Any]

__all__ = ["LEQ", "LT", "ML", "WIDE", "Ranges", "Trees", "ml_version", "round_down", "round_up"]

ML = "ai.onnx.ml"
# From here on there is TreeEnsemble, which sums float64 in float64; what was before it answers in float32.
WIDE = 5
# From here on thresholds may be float64.
_TENSORS = 3


def round_down(threshold: Array) -> Array:
    """The largest float32 that is not above each float64."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
        return np.where(near.astype(np.float64) > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def round_up(threshold: Array) -> Array:
    """The smallest float32 that is not below each float64."""
    return -round_down(-threshold)


def ml_version(opset: int, wide: bool, shared: bool, who: str) -> int:
    """The version of ai.onnx.ml to write a forest in.

    Args:
        wide: features are float64.
        shared: leaves give to several targets, for which TreeEnsemble has no word: it would need each tree once for
            every target, so that float32 models keep to its forerunner.

    Raises:
        UnsupportedError: the opset is from before thresholds in float64.
    """
    version = min(companion(ML, opset), WIDE)
    if wide and version < _TENSORS:
        raise UnsupportedError(f"trees over float64 features need ai.onnx.ml {_TENSORS}, opset {opset} came with "
                               f"{version}", who=who, advice="give a float32 example, or a newer opset")
    return _TENSORS if shared and not wide and version > _TENSORS else version


@dataclass(slots=True)
class Trees:
    """A forest that grows tree by tree.

    Attributes:
        mode: LT or LEQ, the question of all nodes; whoever passes it goes to `yes`.
        targets: how many sums the forest gives.
        float32_features: the library rounds features to float32 before it compares them.
    """

    mode: int
    targets: int
    float32_features: bool = True
    _trees: list[Tree] = field(default_factory=list)

    def add(self, feature: Any, split: Any, yes: Any, no: Any, missing_yes: Any, weights: Any, targets: Any = 0,
            ranges: Mapping[int, Ranges] | None = None) -> None:
        """Add a tree by its arrays over nodes, the root first.

        Args:
            yes, no: the children; negative for leaves.
            missing_yes: whether NaN goes to `yes`.
            weights: (nodes,) what a leaf adds to the target, or (nodes, n) for n `targets`.
            ranges: the nodes that do not compare with their `split`, and what they ask instead.
        """
        yes, no = np.asarray(yes, np.int64), np.asarray(no, np.int64)
        leaf = yes < 0
        weights = np.asarray(weights, np.float64).reshape(len(yes), -1)
        tree = Tree(np.where(leaf, 0, np.asarray(feature, np.int64)), np.where(leaf, 0, np.asarray(split, np.float64)),
                    yes, np.where(leaf, -1, no), np.asarray(missing_yes, bool) & ~leaf, weights,
                    np.atleast_1d(np.asarray(targets, np.int64)), ranges or {})
        self._trees.append(tree)

    @property
    def shared(self) -> bool:
        """True where leaves give to several targets."""
        return any(len(t.targets) > 1 for t in self._trees)

    @property
    def steps(self) -> int:
        """About how many comparisons one row costs."""
        return sum(max(1, int(np.log2(len(t.yes) + 1) * 1.5)) for t in self._trees)

    def thresholds(self) -> Iterator[tuple[int, Array]]:
        """Each feature that is read, and the distinct numbers that it is compared with."""
        if not self._trees:
            return
        asked = [(t.feature[n], r.cuts) for t in self._trees for n, r in t.ranges.items()]
        inner = [~t.leaf for t in self._trees]
        for compares, t in zip(inner, self._trees):
            compares[list(t.ranges)] = False
        compared = np.concatenate(inner)
        features = np.concatenate([t.feature for t in self._trees])[compared]
        splits = np.concatenate([t.split for t in self._trees])[compared]
        if asked:
            features = np.concatenate([features, np.repeat([f for f, _ in asked], [len(c) for _, c in asked])])
            splits = np.concatenate([splits, *(c for _, c in asked)])
        for f in np.unique(features):
            yield int(f), np.unique(splits[features == f])

    def votes(self, b: Builder, x: Value, base: Any = 0.0) -> Value:
        """The sums (rows, targets) for `x` (rows, features), plus `base` (a number, or one a target).

        `x` has the type that the answer shall have; features are rounded to float32 here where that is due.
        """
        trees = _with_base(self._trees, np.broadcast_to(np.asarray(base, np.float64), (self.targets,)))
        columns = Columns(_width(b, x))
        trees = [resolved(t, columns) for t in trees]
        wide = b.dtype(x) is dtypes.DOUBLE
        if wide and self.float32_features:
            x = b.Cast(b.Cast(x, to=dtypes.FLOAT.code), to=dtypes.DOUBLE.code)
        x = columns.beside(b, x, self.mode == LT, lambda cuts: self._splits(cuts, wide))
        if b.opsets.setdefault(ML, min(companion(ML, b.opsets[""]), WIDE)) >= WIDE:
            return self._as_ensemble(b, x, trees, wide)
        return self._in_parts(b, x, trees, wide) if wide else self._as_regressor(b, x, trees, wide)

    def tallies(self, b: Builder, x: Value) -> Value:
        """The sums (rows, targets) for leaves that are counts or shares, as exactly as float64 has them.

        Where float32 sums them exactly (counts), they come in the type of `x`; else in float64.
        """
        columns = Columns(_width(b, x))
        trees = [resolved(t, columns) for t in self._trees]
        wide = b.dtype(x) is dtypes.DOUBLE
        narrow = wide and self.float32_features
        if narrow:
            x = b.Cast(x, to=dtypes.FLOAT.code)
        x = columns.beside(b, x, self.mode == LT, lambda cuts: self._splits(cuts, wide and not narrow))
        b.opsets.setdefault(ML, min(companion(ML, b.opsets[""]), _TENSORS))
        votes = self._in_parts(b, x, trees, wide and not narrow)
        return b.Cast(votes, to=dtypes.DOUBLE.code) if wide and b.dtype(votes) is not dtypes.DOUBLE else votes

    def _in_parts(self, b: Builder, x: Value, trees: Sequence[Tree], wide: bool) -> Value:
        """The sums by TreeEnsembleRegressor: in float32 where that has them exactly, else in float64."""
        trees, scales = _split_leaves(trees, self.targets)
        parts = Trees(self.mode, self.targets * len(scales), self.float32_features)
        votes = parts._as_regressor(b, x, trees, wide)
        if len(scales) == 1 and scales[0] == 1:
            return votes
        whole = np.kron(scales[:, None], np.eye(self.targets))
        return b.MatMul(b.Cast(votes, to=dtypes.DOUBLE.code), b.constant(whole))

    def _splits(self, exact: Array, wide: bool) -> Array:
        if wide and not self.float32_features:
            return exact
        rounded = round_down(exact) if self.mode == LEQ else round_up(exact)
        return rounded.astype(np.float64 if wide else np.float32)

    def _as_ensemble(self, b: Builder, x: Value, trees: Sequence[Tree], wide: bool) -> Value:
        # A leaf has one target here, so a tree of several is written once for each.
        flat = [(t, j) for t in trees for j in range(len(t.targets))]
        sizes = np.array([len(t.yes) for t, _ in flat])
        start = np.repeat(np.cumsum(sizes) - sizes, sizes)
        feature, split, missing, leaf, yes, no = (
            np.concatenate([getattr(t, name) for t, _ in flat])
            for name in ("feature", "split", "missing", "leaf", "yes", "no"))
        number = np.where(leaf, np.cumsum(leaf) - 1, np.cumsum(~leaf) - 1)
        weights = np.concatenate([t.weights[t.leaf, j] for t, j in flat])
        targets = np.concatenate([np.full(int(t.leaf.sum()), t.targets[j]) for t, j in flat])
        inner = ~leaf
        to_yes, to_no = (yes + start)[inner], (no + start)[inner]
        first = np.cumsum(sizes) - sizes
        roots = number[first]
        columns = {"featureids": feature[inner], "truenodeids": number[to_yes], "trueleafs": leaf[to_yes],
                   "falsenodeids": number[to_no], "falseleafs": leaf[to_no],
                   "missing_value_tracks_true": missing[inner]}
        splits = self._splits(split[inner], wide)
        # A tree that is a leaf alone still needs a node, both of whose sides are that leaf.
        alone = np.flatnonzero(leaf[first])
        if len(alone):
            only = roots[alone]
            roots[alone] = len(splits) + np.arange(len(alone))
            splits = np.append(splits, np.zeros(len(alone), splits.dtype))
            fill = {"truenodeids": only, "falsenodeids": only, "trueleafs": np.ones_like(only),
                    "falseleafs": np.ones_like(only)}
            columns = {k: np.append(v, fill.get(k, np.zeros_like(only))) for k, v in columns.items()}
        if not missing.any():
            del columns["missing_value_tracks_true"]
        kind = np.float64 if wide else np.float32
        written: dict[str, Any] = {f"nodes_{k}": _ints(v) for k, v in columns.items()}
        return b.op("TreeEnsemble", x, domain=ML, **written, nodes_splits=Tensor.of(splits),
                    nodes_modes=Tensor.of(np.full(len(splits), self.mode, np.uint8)), tree_roots=_ints(roots),
                    leaf_targetids=_ints(targets), leaf_weights=Tensor.of(weights.astype(kind)),
                    n_targets=self.targets, aggregate_function=1, post_transform=0)

    def _as_regressor(self, b: Builder, x: Value, trees: Sequence[Tree], wide: bool) -> Value:
        sizes = [len(t.yes) for t in trees]
        feature, split, missing, leaf, yes, no = (
            np.concatenate([getattr(t, name) for t in trees])
            for name in ("feature", "split", "missing", "leaf", "yes", "no"))
        ids = np.concatenate([np.arange(n) for n in sizes])
        of_tree = np.repeat(np.arange(len(trees)), sizes)
        a: dict[str, Any] = {
            "nodes_treeids": _ints(of_tree), "nodes_nodeids": _ints(ids), "nodes_featureids": _ints(feature),
            "nodes_modes": Attribute(Kind.STRINGS, tuple(np.where(leaf, "LEAF", MODES[self.mode]).tolist())),
            "nodes_truenodeids": _ints(np.where(leaf, 0, yes)), "nodes_falsenodeids": _ints(np.where(leaf, 0, no))}
        if missing.any():
            a["nodes_missing_value_tracks_true"] = _ints(missing)
        given: dict[str, list[Array]] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
        for k, t in enumerate(trees):
            at = np.flatnonzero(t.leaf)
            # Nothing needs to be said of what a leaf does not add; the first target is, so that each leaf is named.
            held = t.weights[at] != 0
            held[:, 0] = True
            rows, columns = np.nonzero(held)
            given["treeids"].append(np.full(len(rows), k))
            given["nodeids"].append(at[rows])
            given["ids"].append(t.targets[columns])
            given["weights"].append(t.weights[at[rows], columns])
        leaves = {k: np.concatenate(v) for k, v in given.items()}
        a |= {f"target_{k}": _ints(v) for k, v in leaves.items() if k != "weights"}
        splits = self._splits(np.where(leaf, 0, split), wide)
        if wide:
            if b.opsets[ML] < _TENSORS:
                raise UnsupportedError(f"trees over float64 features need ai.onnx.ml {_TENSORS}", who="trees",
                                       advice="give a float32 example, or a newer opset")
            a["nodes_values_as_tensor"] = Tensor.of(splits.astype(np.float64))
            a["target_weights_as_tensor"] = Tensor.of(leaves["weights"])
        else:
            a["nodes_values"] = _floats(splits)
            a["target_weights"] = _floats(leaves["weights"].astype(np.float32))
        return b.op("TreeEnsembleRegressor", x, domain=ML, **a, n_targets=self.targets, aggregate_function="SUM",
                    post_transform="NONE")


def _split_leaves(trees: Sequence[Tree], targets: int) -> tuple[list[Tree], Array]:
    """The trees with leaves in parts, the part `p` of target `t` for the target `p * targets + t`, and their scales.

    A part is a whole number, small enough that the sums over all trees are below 2**24. Parts go on for as long as
    something is left, to about the last digit of float64 in all.
    """
    bits = 24 - max(int(np.ceil(np.log2(max(len(trees), 1)))), 0)
    largest = max((float(np.abs(t.weights[t.leaf]).max(initial=0)) for t in trees), default=0.0)
    weights = [np.where(t.leaf[:, None], t.weights, 0) for t in trees]
    if all((w == np.round(w)).all() for w in weights) and largest <= 2.0 ** bits:
        return list(trees), np.ones(1)
    unit = 2.0 ** (int(np.floor(np.log2(largest or 1.0))) + 2 - bits)
    scales: list[float] = []
    found: list[list[Array]] = [[] for _ in trees]
    while not scales or (len(scales) * bits < 60 and any(w.any() for w in weights)):
        scales.append(unit)
        for k, w in enumerate(weights):
            part = np.round(w / unit)
            found[k].append(part)
            weights[k] = w - part * unit
        unit /= 2.0 ** (bits - 2)
    out = [Tree(t.feature, t.split, t.yes, t.no, t.missing, np.concatenate(parts, 1),
                np.concatenate([p * targets + t.targets for p in range(len(parts))]), t.ranges)
           for t, parts in zip(trees, found)]
    return out, np.array(scales)


def _width(b: Builder, x: Value) -> int:
    """How many features a row has."""
    shape = b.shape(x)
    assert shape is not None and isinstance(shape[1], int), "a forest reads a matrix of known width"
    return shape[1]


def _ints(values: Array) -> Attribute:
    return Attribute(Kind.INTS, tuple(values.astype(np.int64).tolist()))


def _floats(values: Array) -> Attribute:
    return Attribute(Kind.FLOATS, tuple(values.tolist()))


def _with_base(trees: Sequence[Tree], base: Array) -> list[Tree]:
    """The trees with `base` in the leaves of the first that gives to each target."""
    out, left = list(trees), dict(enumerate(base.tolist()))
    if not trees:
        left = dict.fromkeys(range(len(base)), 0.0) | left
    for i, t in enumerate(out):
        mine = [left.pop(int(k), 0.0) for k in t.targets]
        if any(mine):
            out[i] = Tree(t.feature, t.split, t.yes, t.no, t.missing,
                          t.weights + np.where(t.leaf[:, None], np.array(mine), 0), t.targets, t.ranges)
        if not left:
            break
    nothing = np.zeros(1, np.int64)
    for k, value in left.items():
        if value or not out:
            out.append(Tree(nothing, np.zeros(1), nothing - 1, nothing - 1, nothing.astype(bool),
                            np.array([[value]]), np.array([k])))
    return out
