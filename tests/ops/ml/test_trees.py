"""Tree ensembles answer as ONNX Runtime does, in every version, mode, transform and two-class case."""

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.ops.ml.nodes import ML, by_onnxruntime, by_reference, lowering_agrees

from gesher.ir import Tensor


def random_trees(rng: np.random.Generator, trees: int, depth: int, features: int, modes: list[str],
                 targets: list[int], values: np.ndarray) -> dict[str, Any]:
    """The node and weight lists of a random forest; splits are drawn from `values` so that ties happen."""
    nodes: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes",
                                                   "truenodeids", "falsenodeids", "missing_value_tracks_true")}
    weights: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}

    def grow(tree: int, node: int, left: int, counter: Any) -> None:
        leaf = left == 0 or (left < depth and rng.random() < 0.2)
        row = {"treeids": tree, "nodeids": node, "featureids": 0 if leaf else int(rng.integers(features)),
               "values": 0.0 if leaf else float(rng.choice(values)),
               "modes": "LEAF" if leaf else str(rng.choice(modes)), "truenodeids": 0, "falsenodeids": 0,
               "missing_value_tracks_true": 0 if leaf else int(rng.integers(2))}
        if leaf:
            # Each leaf speaks of every class: ONNX Runtime never lets a class win that no leaf spoke of, where the
            # text (and argmax) would let its zero win against negative scores.
            for t in rng.permutation(targets):
                weights["treeids"].append(tree)
                weights["nodeids"].append(node)
                weights["ids"].append(int(t))
                weights["weights"].append(float(np.float32(rng.uniform(-1, 1))))
        else:
            row["truenodeids"], row["falsenodeids"] = next(counter), next(counter)
        for k, v in row.items():
            nodes[k].append(v)
        if not leaf:
            grow(tree, row["truenodeids"], left - 1, counter)
            grow(tree, row["falsenodeids"], left - 1, counter)

    for t in range(trees):
        grow(t, 0, depth, itertools.count(1))
    return {**{f"nodes_{k}": v for k, v in nodes.items()}, "weights": weights}


def features(rng: np.random.Generator, dtype: Any, n: int = 200, f: int = 5) -> np.ndarray:
    x = rng.integers(-3, 4, (n, f)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x += rng.choice([0, 0.25, 0.5], x.shape).astype(dtype)
        x[rng.random(x.shape) < 0.05] = np.nan
    return x


SPLITS = np.array([-2, -1.5, -1, 0, 0.25, 0.5, 1, 2], np.float32)
ORDERED = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]
ANY_MODE = [*ORDERED, "BRANCH_EQ", "BRANCH_NEQ"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("labels", ["two, one id", "two, one id, positive", "two, both ids", "three", "strings"])
def test_classifier_answers_as_onnxruntime(dtype: Any, transform: str, labels: str) -> None:
    rng = np.random.default_rng(7)
    targets = {"two, one id": [0], "two, one id, positive": [0], "two, both ids": [0, 1]}.get(labels, [0, 1, 2])
    a = random_trees(rng, 7, 4, 5, ANY_MODE, targets, SPLITS)
    w = a.pop("weights")
    if labels == "two, one id, positive":
        w["weights"] = [abs(v) / 7 for v in w["weights"]]
    a |= {"class_treeids": w["treeids"], "class_nodeids": w["nodeids"], "class_ids": w["ids"],
          "class_weights": w["weights"], "post_transform": transform}
    if labels == "strings":
        a["classlabels_strings"] = ["a", "b", "c"]
    else:
        a["classlabels_int64s"] = [4, 7] if labels.startswith("two") else [4, 7, 9]
    x = features(rng, dtype)
    kind = TensorProto.STRING if labels == "strings" else TensorProto.INT64
    want = by_onnxruntime("TreeEnsembleClassifier", x, [("y", kind), ("z", TensorProto.FLOAT)], 3, a)
    got = by_reference("TreeEnsembleClassifier", x, 2, 3, a)
    lowering_agrees("TreeEnsembleClassifier", x, got, 3, a)
    # float32 sums of seven weights in another order
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-6)
    assert got[1].dtype == np.float32
    if labels == "two, both ids":
        # ONNX Runtime answers 0 or 1 here whatever the labels are; ours are those of the larger score.
        assert got[0].tolist() == np.array([4, 7])[got[1].argmax(1)].tolist() or transform == "SOFTMAX_ZERO"
    else:
        assert got[0].tolist() == want[0].tolist()


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("base", [[], [0.5, -1.0]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regressor_answers_as_onnxruntime(aggregate: str, base: list[float], dtype: Any) -> None:
    rng = np.random.default_rng(8)
    a = random_trees(rng, 6, 4, 5, ORDERED, [0, 1], SPLITS)
    w = a.pop("weights")
    if aggregate in ("MIN", "MAX"):
        # Where a leaf says nothing of a target, runtimes part ways over MIN and MAX: let each speak of both.
        pairs = {(t, n) for t, n in zip(w["treeids"], w["nodeids"])}
        w = {"treeids": [t for t, _ in sorted(pairs) for _ in range(2)],
             "nodeids": [n for _, n in sorted(pairs) for _ in range(2)], "ids": [0, 1] * len(pairs),
             "weights": [float(np.float32(v)) for v in rng.uniform(-1, 1, 2 * len(pairs))]}
    a |= {"target_treeids": w["treeids"], "target_nodeids": w["nodeids"], "target_ids": w["ids"],
          "target_weights": w["weights"], "n_targets": 2, "aggregate_function": aggregate}
    if base:
        a["base_values"] = base
    x = features(rng, dtype)
    want = by_onnxruntime("TreeEnsembleRegressor", x, [("y", TensorProto.FLOAT)], 3, a)
    got = by_reference("TreeEnsembleRegressor", x, 1, 3, a)
    lowering_agrees("TreeEnsembleRegressor", x, got, 3, a)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)


def leaves_of(a: dict[str, Any], dtype: Any, members: bool) -> dict[str, Any]:
    """The same trees as TreeEnsemble 5 writes them; with `members`, some equality nodes become sets."""
    w = a["weights"]
    leaf_of: dict[tuple[int, int], int] = {}
    targets, values = [], []
    for t, n, i, v in zip(w["treeids"], w["nodeids"], w["ids"], w["weights"]):
        if (t, n) not in leaf_of:
            leaf_of[t, n] = len(values)
            targets.append(i)
            values.append(v)
    rows = list(zip(a["nodes_treeids"], a["nodes_nodeids"], a["nodes_modes"]))
    inner = {(t, n): i for i, (t, n) in enumerate((t, n) for t, n, m in rows if m != "LEAF")}
    made: dict[str, list[Any]] = {k: [] for k in ("featureids", "truenodeids", "falsenodeids", "trueleafs",
                                                  "falseleafs", "missing_value_tracks_true")}
    modes, splits, sets = [], [], []
    for j, (t, _n, m) in enumerate(rows):
        if m == "LEAF":
            continue
        made["featureids"].append(a["nodes_featureids"][j])
        made["missing_value_tracks_true"].append(a["nodes_missing_value_tracks_true"][j])
        for side in ("true", "false"):
            child = (t, a[f"nodes_{side}nodeids"][j])
            made[f"{side}leafs"].append(int(child in leaf_of))
            made[f"{side}nodeids"].append(leaf_of[child] if child in leaf_of else inner[child])
        if m == "BRANCH_EQ" and members:
            modes.append(6)
            splits.append(0.0)
            sets += [a["nodes_values"][j], 3.0, -2.0, np.nan]
        else:
            modes.append(ANY_MODE.index(m) if m in ANY_MODE else 0)
            splits.append(a["nodes_values"][j])
    order = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    assert order == ANY_MODE
    roots = [inner[t, 0] for t in sorted(set(a["nodes_treeids"]))]
    out = {"tree_roots": roots, **{f"nodes_{k}": v for k, v in made.items()},
           "nodes_modes": Tensor.of(np.array(modes, np.uint8)), "nodes_splits": Tensor.of(np.array(splits, dtype)),
           "leaf_targetids": targets, "leaf_weights": Tensor.of(np.array(values, dtype)), "n_targets": 3}
    if sets:
        out["membership_values"] = Tensor.of(np.array(sets, dtype))
    return out


@pytest.mark.parametrize("members", [False, True])
@pytest.mark.parametrize("aggregate", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tree_ensemble_5_answers_as_onnxruntime(members: bool, aggregate: int, dtype: Any) -> None:
    rng = np.random.default_rng(9)
    # ONNX Runtime takes integers only as members of sets.
    trees = random_trees(rng, 5, 4, 5, ["BRANCH_EQ", "BRANCH_LEQ"] if members else ORDERED,
                         [0, 1, 2], np.array([-1, 0, 1, 2], np.float32) if members else SPLITS)
    # Every tree needs an interior root: TreeEnsemble 5 has no tree that is a leaf.
    a = {**leaves_of(trees, dtype, members), "aggregate_function": aggregate}
    x = features(rng, dtype)
    x[np.isnan(x)] = 0
    if members:
        x = np.floor(x)     # ONNX Runtime cuts a fraction off before it looks a value up in a set
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    want = by_onnxruntime("TreeEnsemble", x, [("y", code)], 5, a)
    got = by_reference("TreeEnsemble", x, 1, 5, a)
    lowering_agrees("TreeEnsemble", x, got, 5, a)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)
    assert got[0].dtype == dtype


def test_a_tree_that_goes_round_in_a_circle_is_refused() -> None:
    a = {"tree_roots": [0], "nodes_featureids": [0, 0], "nodes_truenodeids": [1, 0], "nodes_falsenodeids": [0, 0],
         "nodes_trueleafs": [0, 0], "nodes_falseleafs": [1, 1], "nodes_modes": Tensor.of(np.zeros(2, np.uint8)),
         "nodes_splits": Tensor.of(np.zeros(2, np.float32)), "leaf_targetids": [0],
         "leaf_weights": Tensor.of(np.ones(1, np.float32))}
    with pytest.raises(Exception, match="circle"):
        by_reference("TreeEnsemble", np.zeros((1, 1), np.float32), 1, 5, a)


def test_a_stump_by_hand() -> None:
    # x0 <= 1 ? 10 : 20
    a = {"tree_roots": [0], "nodes_featureids": [0], "nodes_truenodeids": [0], "nodes_falsenodeids": [1],
         "nodes_trueleafs": [1], "nodes_falseleafs": [1], "nodes_modes": Tensor.of(np.zeros(1, np.uint8)),
         "nodes_splits": Tensor.of(np.ones(1, np.float32)), "leaf_targetids": [0, 0],
         "leaf_weights": Tensor.of(np.array([10, 20], np.float32))}
    got = by_reference("TreeEnsemble", np.array([[1], [1.5], [np.nan]], np.float32), 1, 5, a)
    assert got[0].tolist() == [[10], [20], [20]]
    assert onnx.defs.has("TreeEnsemble", 5, ML)
