"""Rows for ai.onnx.ml: features, linear models, support vectors, trees; see `every_version`."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.ops.every_version import ML, Row, drawn, f32, i64, words

_X = f32([1, 2], [3, -4])


def _scores(x: np.ndarray) -> np.ndarray:
    """Of three classes with the coefficients 1, 0; 0, 1; 1, 1 and the intercepts 0, 1, 2."""
    return (x @ f32([1, 0, 1], [0, 1, 1]) + f32(0, 1, 2)).astype(np.float32)


# Two stumps on feature 0 at 2: the first gives 1 or 3, the second 10 or 30.
_STUMPS: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0, 1, 1, 1], "nodes_nodeids": [0, 1, 2] * 2, "nodes_featureids": [0, 0, 0] * 2,
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2, "nodes_values": [2.0, 0.0, 0.0] * 2,
    "nodes_truenodeids": [1, 0, 0] * 2, "nodes_falsenodeids": [2, 0, 0] * 2}


def _ends(name: str) -> dict[str, Any]:
    return {f"{name}_treeids": [0, 0, 1, 1], f"{name}_nodeids": [1, 2, 1, 2], f"{name}_ids": [0, 1, 0, 1],
            f"{name}_weights": [1.0, 3.0, 10.0, 30.0]}


_MACHINE: dict[str, Any] = {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0],
                            "support_vectors": drawn(4, 2).reshape(-1).tolist()}

ROWS = [
    Row("CategoryMapper", [words("b", "x")], {"cats_strings": ["a", "b"], "cats_int64s": [3, 4], "default_int64": -7},
        domain=ML, want=lambda x: i64(4, -7)),
    Row("FeatureVectorizer", [_X, f32([5], [6])], {"inputdimensions": [2, 1]}, domain=ML,
        want=lambda a, b: np.concatenate([a, b], 1)),
    Row("Imputer", [f32([np.nan, 2], [3, np.nan])],
        {"imputed_value_floats": [8.0, 9.0], "replaced_value_float": np.nan}, domain=ML,
        want=lambda x: f32([8, 2], [3, 9])),
    Row("LabelEncoder", [words("b", "x")], {"classes_strings": ["a", "b"], "default_int64": -7}, until=1, domain=ML,
        want=lambda x: i64(1, -7)),
    Row("LabelEncoder", [words("b", "x")], {"keys_strings": ["a", "b"], "values_int64s": [3, 4], "default_int64": -7},
        since=2, domain=ML, want=lambda x: i64(4, -7)),
    Row("LinearClassifier", [_X], {"coefficients": [1.0, 0, 0, 1, 1, 1], "intercepts": [0.0, 1, 2],
                                   "classlabels_ints": [5, 6, 7]}, outputs=2, domain=ML,
        want=lambda x: (i64(7, 5), _scores(x))),
    Row("LinearRegressor", [_X], {"coefficients": [2.0, 3.0], "intercepts": [1.0]}, domain=ML,
        want=lambda x: f32([9], [-5])),
    Row("Normalizer", [f32([3, 4], [0, 2])], {"norm": "L2"}, domain=ML, want=lambda x: f32([0.6, 0.8], [0, 1])),
    Row("OneHotEncoder", [i64(2, 9)], {"cats_int64s": [1, 2, 3], "zeros": 1}, domain=ML,
        want=lambda x: f32([0, 1, 0], [0, 0, 0])),
    Row("Scaler", [_X], {"offset": [1.0, 2.0], "scale": [2.0, 0.5]}, domain=ML, want=lambda x: f32([0, 0], [4, -3])),
    Row("ArrayFeatureExtractor", [_X, i64(1)], domain=ML, want=lambda x, i: f32([2], [-4])),
    Row("Binarizer", [_X], {"threshold": 1.5}, domain=ML, want=lambda x: f32([0, 1], [1, 0])),
    Row("SVMRegressor", [_X], {**_MACHINE, "coefficients": [1.0, -0.5, 0.25, 2.0], "n_supports": 4, "rho": [0.5]},
        domain=ML),
    Row("SVMClassifier", [_X], {**_MACHINE, "coefficients": [1.0, 0.5, -0.25, -2.0], "vectors_per_class": [2, 2],
                                "rho": [0.5], "classlabels_ints": [4, 6]}, outputs=2, domain=ML),
    Row("TreeEnsembleRegressor", [_X], {**_STUMPS, **{k: [0] * 4 if k == "target_ids" else v
                                                      for k, v in _ends("target").items()}, "n_targets": 1},
        domain=ML, want=lambda x: f32([11], [33])),
    Row("TreeEnsembleClassifier", [_X], {**_STUMPS, **_ends("class"), "classlabels_int64s": [7, 8]}, outputs=2,
        domain=ML, want=lambda x: (i64(7, 8), f32([11, 0], [0, 33]))),
]
