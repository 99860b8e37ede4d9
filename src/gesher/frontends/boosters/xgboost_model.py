"""XGBoost's models as its own files say them (JSON or UBJSON, the same document), read without the library.

What a reader would guess wrong: the base score is written as a prediction, not as a margin, for the objectives whose
link says so; trees of one class stand between those of others (`tree_info`); the leaves of multi-output trees lie in
`leaf_weights`, at the row that the right child names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base.errors import FormatError, UnsupportedError
from gesher.frontends.forest import LT, Ranges, Trees

from . import ubjson

Array = np.ndarray[Any, Any]

SIGMOID = ("binary:logistic", "reg:logistic")
EXP = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
PLAIN = ("reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
         "reg:quantileerror", "reg:expectileerror", "rank:pairwise", "rank:ndcg", "rank:map", "binary:logitraw")
OTHERS = ("binary:hinge", "multi:softmax", "multi:softprob")
# From here on the base score of binary:logitraw is a margin; in files from before it depends on their version.
_RAW_SINCE = (3, 2)
_MOST_CATEGORIES = 1 << 24


@dataclass(slots=True)
class XGBoostModel:
    """A model of XGBoost.

    Attributes:
        groups: how many margins a row has: classes, targets, quantiles; 1 for a plain score.
        base: (groups,) the margins that every row begins with.
        trees: as the file has them; `owner` says to which group each gives, `scale` what its leaves are multiplied by.
        rounds: where each boosting round's trees begin, and the end.
        weights: (features + 1, groups) of gblinear, the bias last; None for trees.
        best: the best round, where training was stopped early.
        classifier: it was saved by a classifier of the scikit-learn interface.
    """

    objective: str
    features: int
    groups: int
    classes: int
    base: Array
    version: tuple[int, ...]
    trees: list[Mapping[str, Any]] = field(default_factory=list)
    owner: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    scale: Array = field(default_factory=lambda: np.zeros(0))
    rounds: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    weights: Array | None = None
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    best: int | None = None
    classifier: bool = False
    origin: str = "xgboost file"

    def forest(self, first: int, last: int) -> Trees:
        """The trees of the rounds first..last - 1."""
        trees = Trees(LT, self.groups)
        for i in range(int(self.rounds[first]), int(self.rounds[last])):
            _add(trees, self.trees[i], int(self.owner[i]), float(self.scale[i]), self.groups)
        return trees

    def margins(self, x: Array, first: int, last: int) -> Array:
        """(rows, groups) by the plain reading of the file, row by row through each tree: what verifies an export where
        the library is not installed. NaN is missing; float32, as the library has it."""
        x = np.asarray(x, np.float32)
        if self.weights is not None:
            known = np.where(np.isnan(x), 0, x).astype(np.float64)
            return (known @ self.weights[:-1] + self.weights[-1] + self.base).astype(np.float32)
        out = np.repeat(self.base[None].astype(np.float64), len(x), 0)
        for i in range(int(self.rounds[first]), int(self.rounds[last])):
            tree = self.trees[i]
            left, right = np.asarray(tree["left_children"], int), np.asarray(tree["right_children"], int)
            feature, condition = np.asarray(tree["split_indices"], int), np.asarray(tree["split_conditions"], "f4")
            sets, default = categories(tree), np.asarray(tree["default_left"], bool)
            leaves = leaf_values(tree, left, right)
            for r, row in enumerate(x):
                at = 0
                while left[at] >= 0:
                    value = row[feature[at]]
                    if np.isnan(value):
                        goes = default[at]
                    elif at in sets:
                        # The named categories go right; what is no category at all goes left.
                        goes = not (0 <= value < _MOST_CATEGORIES and int(value) in sets[at])
                    else:
                        goes = value < condition[at]
                    at = left[at] if goes else right[at]
                if leaves.shape[1] == 1:
                    out[r, self.owner[i]] += leaves[at, 0] * self.scale[i]
                else:
                    out[r] += leaves[at] * self.scale[i]
        return out.astype(np.float32)


def categories(tree: Mapping[str, Any]) -> dict[int, set[int]]:
    """The categories that each categorical node sends to the right."""
    nodes = np.asarray(tree.get("categories_nodes", ()), int)
    starts, sizes, values = (np.asarray(tree.get(name, ()), int)
                             for name in ("categories_segments", "categories_sizes", "categories"))
    return {int(n): set(values[s:s + size].tolist()) for n, s, size in zip(nodes, starts, sizes)}


def leaf_values(tree: Mapping[str, Any], left: Array, right: Array) -> Array:
    """(nodes, targets): what each leaf says; rows of branches mean nothing."""
    width = int(tree["tree_param"]["size_leaf_vector"])
    if width <= 1:
        return np.asarray(tree["split_conditions"], np.float32)[:, None]
    if len(tree.get("leaf_weights", ())):
        held = np.asarray(tree["leaf_weights"], np.float32).reshape(-1, width)
        return held[np.where(left < 0, right, 0)]
    return np.asarray(tree["base_weights"], np.float32).reshape(len(left), width)


def _add(trees: Trees, tree: Mapping[str, Any], owner: int, scale: float, groups: int) -> None:
    left, right = np.asarray(tree["left_children"], np.int64), np.asarray(tree["right_children"], np.int64)
    leaves = leaf_values(tree, left, right).astype(np.float64) * scale
    default = np.asarray(tree["default_left"], bool)
    ranges = {node: _ranges(right_set, bool(default[node])) for node, right_set in categories(tree).items()}
    trees.add(tree["split_indices"], np.asarray(tree["split_conditions"], np.float32), left, right, default, leaves,
              range(groups) if leaves.shape[1] > 1 else owner, ranges)


def _ranges(right: set[int], default_left: bool) -> Ranges:
    """Numbers from a category up to the next are of it; those of `right` go to the no side."""
    cuts: list[float] = []
    for c in sorted(right):
        if cuts and cuts[-1] == c:
            cuts[-1] = c + 1.0
        else:
            cuts += [float(c), c + 1.0]
    return Ranges(np.array(cuts), np.arange(len(cuts) + 1) % 2 == 0, default_left)


def parse(data: bytes | bytearray) -> Any:
    """The document of a file: JSON text, or UBJSON."""
    start = bytes(data[:2])
    if start[:1] != b"{":
        raise FormatError("it is no JSON or UBJSON of XGBoost", offset=0,
                          advice="the old binary format has to be saved again as .json or .ubj")
    # A key of UBJSON begins with the type of its length, one of JSON with quotes or a space.
    if start[1:] in (b'"', b" ", b"\n", b"\r", b"\t", b"}"):
        try:
            return json.loads(data)
        except ValueError as e:
            raise FormatError(f"it is no JSON: {e}") from None
    return ubjson.parse(data)


def from_document(document: Any) -> XGBoostModel:
    """The model that a parsed document says."""
    try:
        return _from_learner(document["learner"], tuple(int(v) for v in document.get("version", ())))
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise FormatError(f"it is no model of XGBoost: {type(e).__name__} {e}") from None


def _from_learner(learner: Mapping[str, Any], version: tuple[int, ...]) -> XGBoostModel:
    parameters, objective = learner["learner_model_param"], str(learner["objective"]["name"])
    if objective not in (*SIGMOID, *EXP, *PLAIN, *OTHERS):
        raise UnsupportedError(f"the objective {objective!r} is not known, so neither is what becomes of its scores",
                               who="xgboost", advice="these are: " + ", ".join((*SIGMOID, *EXP, *PLAIN, *OTHERS)))
    classes, targets = int(parameters.get("num_class", 0)), int(parameters.get("num_target", 1))
    groups = max(classes, targets, 1)
    attributes = learner.get("attributes", {})
    saved = json.loads(attributes["scikit_learn"]) if "scikit_learn" in attributes else {}
    model = XGBoostModel(
        objective, int(parameters["num_feature"]), groups, classes,
        _base(objective, parameters["base_score"], groups, version), version,
        names=[str(n) for n in learner.get("feature_names", ())],
        types=[str(t) for t in learner.get("feature_types", ())],
        best=int(attributes["best_iteration"]) if "best_iteration" in attributes else None,
        classifier="classifier" in (saved.get("_estimator_type"), str(saved.get("type"))[-10:].lower()),
        origin="xgboost " + ".".join(map(str, version)))
    booster = learner["gradient_booster"]
    kind = booster["name"]
    if kind == "gblinear":
        model.weights = np.asarray(booster["model"]["weights"], np.float64).reshape(model.features + 1, groups)
        # The linear booster begins all groups with the first one's base score.
        model.base = np.full(groups, model.base[0])
        return model
    if kind not in ("gbtree", "dart"):
        raise UnsupportedError(f"the booster {kind!r} is not known", who="xgboost",
                               advice="gbtree, dart and gblinear are")
    held = booster["gbtree"]["model"] if kind == "dart" else booster["model"]
    model.trees, model.owner = list(held["trees"]), np.asarray(held["tree_info"], np.int64)
    count = len(model.trees)
    if kind == "dart":
        model.scale = np.asarray(booster["weight_drop"], np.float32).astype(np.float64)
    else:
        model.scale = np.ones(count)
    if len(model.scale) != count or len(model.owner) != count:
        raise FormatError(f"there are {count} trees, groups for {len(model.owner)}, weights for {len(model.scale)}")
    if "iteration_indptr" in held:
        model.rounds = np.asarray(held["iteration_indptr"], np.int64)
    else:
        wide = count and int(model.trees[0]["tree_param"]["size_leaf_vector"]) > 1
        each = max(1, int(held["gbtree_model_param"].get("num_parallel_tree", 1))) * (1 if wide else groups)
        model.rounds = np.arange(0, count + 1, each)
    return model


def _base(objective: str, written: Any, groups: int, version: tuple[int, ...]) -> Array:
    """The base score as margins (groups,)."""
    listed = json.loads(written) if isinstance(written, str) else written
    base = np.atleast_1d(np.asarray(listed, np.float32)).astype(np.float64)
    if objective == "binary:logitraw" and version[:2] < _RAW_SINCE:
        raise UnsupportedError(f"what the base score of binary:logitraw means in a file of XGBoost "
                               f"{'.'.join(map(str, version)) or 'of unknown version'} is not known", who="xgboost",
                               advice="load it with XGBoost 3.2 or newer and save it again")
    with np.errstate(divide="ignore"):
        if objective in SIGMOID:
            base = -np.log(1 / base - 1)
        elif objective in EXP:
            base = np.log(base)
    return np.broadcast_to(base.astype(np.float32).astype(np.float64), (groups,)).copy()
