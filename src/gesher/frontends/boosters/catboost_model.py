"""CatBoost's models as its own JSON files say them, read without the library.

What a reader would guess wrong: a split asks `x > border` of a float32; a leaf of a symmetric tree has its number from
the splits' answers, the first split's being the lowest bit; NaN is below all borders or above them, as the feature
says; a category is known by the low 32 bits of the CityHash64 of its text, and a whole number's text is its decimal
digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base.errors import FormatError, UnsupportedError
from gesher.frontends.forest import LEQ, Ranges, Trees

Array = np.ndarray[Any, Any]

EXP = ("Poisson", "Tweedie")
BINARY = ("Logloss", "CrossEntropy", "Focal")
LABELS = ("MultiLogloss", "MultiCrossEntropy")
ONE_VS_ALL = "MultiClassOneVsAll"
# Categories of numbers are looked for up to here, in both directions.
_LARGEST = 100_000
_WORD, _MASK = (1 << 64) - 1, (1 << 32) - 1
_K2, _K3, _MUL = 0x9AE16A3B2F90404F, 0xC949D7C7509E6557, 0x9DDFEA08EB382D69


@dataclass(slots=True)
class CatBoostModel:
    """A model of CatBoost.

    Attributes:
        loss: the loss function's name.
        features: the columns of a row, those that the model never reads included.
        groups: values of a leaf.
        symmetric: (splits, leaves) of each symmetric tree, leaves (2^splits, groups); `grown` has the others, nested
            as in the file.
        classes: of a classification; None of all else.
        threshold: the probability above which the second of two classes is chosen.
        column: the column of each float feature, `category` of each categorical one.
        nan_above: (float features) whether NaN is above all borders.
    """

    loss: str
    features: int
    groups: int
    scale: float
    bias: Array
    names: list[str]
    column: list[int]
    category: list[int]
    nan_above: list[bool]
    symmetric: list[tuple[list[Mapping[str, Any]], Array]] = field(default_factory=list)
    grown: list[Mapping[str, Any]] = field(default_factory=list)
    classes: Array | None = None
    threshold: float = 0.5
    origin: str = "catboost model"

    @property
    def count(self) -> int:
        return len(self.symmetric) + len(self.grown)

    def forest(self, first: int, last: int) -> Trees:
        """The trees first..last - 1, scaled; `bias` is not among them."""
        numbers = whole_numbers(self.hashes())
        trees = Trees(LEQ, self.groups)
        targets = range(self.groups) if self.groups > 1 else 0
        for splits, leaves in self.symmetric[first:last]:
            depth = len(splits)
            inner = (1 << depth) - 1
            asked = [self._question(s, numbers) for s in splits]
            level = np.repeat(np.arange(depth), [1 << k for k in range(depth)])
            ids = np.arange(2 * inner + 1)
            yes = np.where(ids < inner, 2 * ids + 1, -1)
            # The path to a leaf has the first split's answer as its highest bit, the leaf's number as its lowest.
            path = np.arange(1 << depth)
            number = sum(((path >> (depth - 1 - k) & 1) << k for k in range(depth)), np.zeros_like(path))

            def over(values: list[Any], level: Array = level, leaves: int = 1 << depth) -> Array:
                return np.concatenate([np.array(values)[level] if values else np.zeros(0), np.zeros(leaves)])

            ranges = {i: question for i, k in enumerate(level.tolist()) if (question := asked[k][3]) is not None}
            weights = np.concatenate([np.zeros((inner, self.groups)), leaves[number]])
            trees.add(over([a[0] for a in asked]), over([a[1] for a in asked]), yes, np.where(yes < 0, -1, yes + 1),
                      over([a[2] for a in asked]), weights * self.scale, targets, ranges)
        for tree in self.grown[first:last]:
            self._grow(trees, tree, numbers, targets)
        return trees

    def _grow(self, trees: Trees, tree: Mapping[str, Any], numbers: Mapping[int, int], targets: Any) -> None:
        nodes: list[list[Any]] = [[], [], [], [], []]
        weights: list[Array] = []
        ranges: dict[int, Ranges] = {}
        stack: list[tuple[Mapping[str, Any], int, int]] = [(tree, -1, 0)]
        while stack:
            node, parent, side = stack.pop()
            here = len(weights)
            if parent >= 0:
                nodes[side][parent] = here
            if "split" in node:
                feature, split, missing, asked = self._question(node["split"], numbers)
                if asked is not None:
                    ranges[here] = asked
                row: tuple[Any, ...] = (feature, split, 0, 0, missing)
                weights.append(np.zeros(self.groups))
                # What is not above the border goes left.
                stack += [(node["right"], here, 3), (node["left"], here, 2)]
            else:
                row = (0, 0.0, -1, -1, False)
                weights.append(np.broadcast_to(np.asarray(node["value"], float), (self.groups,)))
            for values, value in zip(nodes, row):
                values.append(value)
        trees.add(nodes[0], nodes[1], nodes[2], nodes[3], nodes[4], np.array(weights) * self.scale, targets, ranges)

    def _question(self, split: Mapping[str, Any], numbers: Mapping[int, int]
                  ) -> tuple[int, float, bool, Ranges | None]:
        """Column, threshold, whether NaN goes to `yes` (which is the side that is not above), and what is asked if it
        is no threshold."""
        if split["split_type"] == "FloatFeature":
            feature = int(split["float_feature_index"])
            return self.column[feature], float(np.float32(split["border"])), not self.nan_above[feature], None
        number = float(numbers[int(split["value"]) & _MASK])
        only = Ranges(np.array([np.nextafter(number, -np.inf), number]), np.array([True, False, True]), True)
        return self.category[int(split["cat_feature_index"])], 0.0, True, only

    def splits(self) -> list[Mapping[str, Any]]:
        """All splits of all trees."""
        found = [s for splits, _ in self.symmetric for s in splits]
        stack = list(self.grown)
        while stack:
            node = stack.pop()
            if "split" in node:
                found.append(node["split"])
                stack += [node["left"], node["right"]]
        return found

    def hashes(self) -> set[int]:
        """The categories that are asked for."""
        return {int(s["value"]) & _MASK for s in self.splits() if s["split_type"] == "OneHotFeature"}

    def margins(self, x: Array, first: int, last: int) -> Array:
        """(rows, groups) by the plain reading of the file, row by row: what verifies an export where the library is not
        installed."""
        x = np.asarray(x, np.float32)
        out = np.zeros((len(x), self.groups))
        for r, row in enumerate(x):
            for splits, leaves in self.symmetric[first:last]:
                out[r] += leaves[sum(self._above(row, s) << k for k, s in enumerate(splits))]
            for tree in self.grown[first:last]:
                while "split" in tree:
                    tree = tree["right" if self._above(row, tree["split"]) else "left"]
                out[r] += np.asarray(tree["value"], float)
        return out * self.scale + self.bias

    def _above(self, row: Array, split: Mapping[str, Any]) -> bool:
        if split["split_type"] == "FloatFeature":
            feature = int(split["float_feature_index"])
            value = row[self.column[feature]]
            return self.nan_above[feature] if np.isnan(value) else bool(value > np.float32(split["border"]))
        value = float(row[self.category[int(split["cat_feature_index"])]])
        return value.is_integer() and city_hash(str(int(value)).encode()) & _MASK == int(split["value"]) & _MASK


def city_hash(text: bytes) -> int:
    """CityHash64 (version 1.0) of up to 16 bytes: as long as a whole number's text is.

    Source: G. Pike, J. Alakuijala, CityHash, 2011.

    Raises:
        ValueError: the text is longer.

    >>> city_hash(b"1") & 0xFFFFFFFF
    1121341681
    """
    n = len(text)
    if n > 16:
        raise ValueError("only texts of up to 16 bytes are hashed here")
    if n > 8:
        a, b = int.from_bytes(text[:8], "little"), int.from_bytes(text[-8:], "little")
        turned = (b + n) & _WORD
        return _mixed(a, (turned >> n | turned << (64 - n)) & _WORD) ^ b
    if n >= 4:
        a, b = int.from_bytes(text[:4], "little"), int.from_bytes(text[-4:], "little")
        return _mixed((n + (a << 3)) & _WORD, b)
    if n == 0:
        return _K2
    y, z = text[0] + (text[n >> 1] << 8), n + (text[-1] << 2)
    whole = (y * _K2 ^ z * _K3) & _WORD
    return (whole ^ whole >> 47) * _K2 & _WORD


def _mixed(low: int, high: int) -> int:
    a = (low ^ high) * _MUL & _WORD
    a ^= a >> 47
    b = (high ^ a) * _MUL & _WORD
    b ^= b >> 47
    return b * _MUL & _WORD


def whole_numbers(hashes: set[int]) -> dict[int, int]:
    """The whole number behind each hash, the nearest to zero first.

    Raises:
        UnsupportedError: a hash is of no such number, so it is of a string.
    """
    left, found = set(hashes), {}
    for n in range(_LARGEST):
        if not left:
            break
        for number in (n, -n):
            h = city_hash(str(number).encode()) & _MASK
            if h in left:
                left.discard(h)
                found[h] = number
    if left:
        raise UnsupportedError(f"{len(left)} categories of one-hot features are strings, of which only hashes are kept",
                               who="catboost", advice="number them before training, in columns of whole numbers")
    return found


def from_document(document: Any) -> CatBoostModel:
    """The model that a parsed JSON document says.

    Raises:
        FormatError: it is no model of CatBoost.
        UnsupportedError: it has parts that cannot cross; all are named.
    """
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise FormatError(f"it is no model of CatBoost: {type(e).__name__} {e}") from None


def _read(document: Mapping[str, Any]) -> CatBoostModel:
    features, about = document["features_info"], document["model_info"]
    floats, categories = features.get("float_features", []), features.get("categorical_features", [])
    others = {"text": features.get("text_features", []), "embedding": features.get("embedding_features", [])}
    symmetric, grown = document.get("oblivious_trees", []), document.get("trees", [])
    flat = [f for part in (floats, categories, *others.values()) for f in part]
    columns = max((int(f["flat_feature_index"]) for f in flat), default=-1) + 1
    names = {int(f["flat_feature_index"]): str(f.get("feature_id", f.get("feature_name", ""))) for f in flat}
    scale, bias = document.get("scale_and_bias", [1, [0]])
    bias = np.atleast_1d(np.asarray(bias, float))
    model = CatBoostModel(
        _loss(about), columns, 1, float(scale), bias,
        [names.get(i, "") for i in range(columns)], [int(f["flat_feature_index"]) for f in floats],
        [int(f["flat_feature_index"]) for f in categories],
        [f.get("nan_value_treatment") == "AsTrue" for f in floats], grown=list(grown))
    for t in symmetric:
        splits = list(t.get("splits") or ())
        model.symmetric.append((splits, np.asarray(t["leaf_values"], float).reshape(1 << len(splits), -1)))
    kinds = {s["split_type"] for s in model.splits()}
    problems = {"OnlineCtr": "categories by statistics of the target (CTR), whose tables are over hashes of strings",
                "EstimatedFeature": "features that are computed from text or embeddings"}
    found = [problems.get(k, f"splits of the kind {k}") for k in sorted(kinds - {"FloatFeature", "OneHotFeature"})]
    found += [f"{kind} features" for kind, held in others.items() if held]
    if found:
        raise UnsupportedError("parts of this model have no words in ONNX: " + "; ".join(found), who="catboost",
                               advice="categories have where one_hot_max_size is not below their count and they are "
                                      "whole numbers; encode text and embeddings before")
    if model.symmetric:
        model.groups = model.symmetric[0][1].shape[1]
    else:
        model.groups = max(len(bias), _width(grown[0]) if grown else 1)
    model.bias = np.broadcast_to(bias, (model.groups,)).copy()
    model.classes = _classes(about.get("class_params"), model)
    given = about.get("binclass_probability_threshold")
    model.threshold = 0.5 if given is None else float(given)
    return model


def _width(node: Mapping[str, Any]) -> int:
    while "split" in node:
        node = node["left"]
    return np.size(node["value"])


def _loss(about: Mapping[str, Any]) -> str:
    params = about["params"]
    return str(params["loss_function"]["type"])


def _classes(told: Mapping[str, Any] | None, model: CatBoostModel) -> Array | None:
    if model.loss not in (*BINARY, *LABELS, "MultiClass", ONE_VS_ALL):
        return None
    names = (told or {}).get("class_names") or list(range(max(2, model.groups)))
    return np.array(names)
