"""Estimators with arguments by chance, and data of many kinds: for `sklearn_parameters.py`."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils._param_validation import Interval, Options
from sklearn_estimators import made
from sklearn_nested import TEXTS

Array = np.ndarray[Any, Any]
# Arguments that say how to work, and nothing about the answer; and what is read from files.
_ASIDE = {"random_state", "verbose", "n_jobs", "memory", "cache_size", "copy", "copy_X", "copy_x", "warm_start",
          "input", "encoding", "decode_error", "verbose_feature_names_out", "pre_dispatch", "error_score",
          "return_train_score", "verbose_interval", "max_no_improvement", "validation_fraction", "n_iter_no_change"}
TEXT_TAKERS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
LABEL_TAKERS = ("LabelBinarizer", "LabelEncoder")
# Nothing of numbers goes in.
OTHERS = (*TEXT_TAKERS, *LABEL_TAKERS, "MultiLabelBinarizer", "DictVectorizer", "FeatureHasher", "PatchExtractor",
          "KernelCenterer")


@dataclass(slots=True)
class Data:
    """What to fit on, and rows of the same kind that nobody saw.

    Attributes:
        fresh: by name.
    """

    kind: str
    x: Any
    y: Any
    example: Any
    fresh: dict[str, Any]


def _numbers(constraint: Interval, default: Any, rng: np.random.Generator) -> Any:
    low = -np.inf if constraint.left is None else constraint.left
    high = np.inf if constraint.right is None else constraint.right
    whole = constraint.type is Integral
    tried = [low, high, 1, 2, 3, 5] if whole else [low, high, 0.05, 0.3, 0.9, 1.0, 2.5]
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        tried += [default * 2, default / 2]
    kept = [int(v) if whole else float(v) for v in tried if np.isfinite(v) and (not whole or v == int(v))
            and abs(v) <= 1000]
    kept = [v for v in kept if v in constraint]
    return rng.choice(np.array(kept, object)) if kept else default


def values(constraints: Any, default: Any, rng: np.random.Generator) -> list[Any]:
    """A value for each constraint that one can be drawn from."""
    found: list[Any] = []
    for c in constraints if isinstance(constraints, list) else []:
        if isinstance(c, Options):
            options = sorted(c.options - getattr(c, "deprecated", set()), key=str)
            if options and all(isinstance(o, (str, int, float, bool, type(None))) for o in options):
                found += [options[i] for i in rng.integers(0, len(options), 2)]
        elif isinstance(c, Interval):
            found += [_numbers(c, default, rng) for _ in range(2)]
        elif isinstance(c, str) and c == "boolean":
            found += [True, False]
        elif c is None:
            found.append(None)
    return found


def drawn(name: str, kind: Any, rng: np.random.Generator) -> Any:
    """The estimator with one to three of its arguments by chance."""
    estimator = kind() if name in TEXT_TAKERS + LABEL_TAKERS else made(name, kind)
    settings = estimator.get_params(deep=False)
    may = sorted(p for p in settings if p not in _ASIDE)
    for p in rng.permutation(may)[:rng.integers(1, 4)] if may else []:
        tried = values(getattr(kind, "_parameter_constraints", {}).get(p, []), settings[p], rng)
        if p == "ngram_range":
            tried = [(1, 2), (2, 3), (1, 3)]
        elif p == "feature_range" or p == "quantile_range":
            tried = [(-1, 2)] if p == "feature_range" else [(10.0, 80.0)]
        elif p == "hidden_layer_sizes":
            tried = [(5,), (7, 3), 6]
        if tried:
            estimator.set_params(**{p: tried[rng.integers(len(tried))]})
    if name == "KernelDensity":
        # Several leaves are bounded by differences of logarithms, which lose all digits of small densities.
        estimator.set_params(leaf_size=1000)
    for p, most in (("n_estimators", 12), ("max_iter", 60), ("n_init", 2), ("n_features", 64)):
        slow = p != "max_iter" or name.startswith(("Hist", "MLP", "NMF", "Mini", "Latent", "Dict", "Sparse"))
        now = estimator.get_params(deep=False).get(p)
        if slow and isinstance(now, int) and now > most:
            estimator.set_params(**{p: most})
    return estimator


SHAPES = {"few": (40, 3), "one column": (40, 1), "many columns": (35, 30), "middling": (90, 6)}
FORMS = ("float64", "float32", "int64", "missing", "constant column", "sparse", "frame", "positive", "whole", "bool")


def numbers(rng: np.random.Generator, form: str, rows: int, columns: int) -> Array:
    x = rng.standard_normal((rows, columns)) * 2 + rng.integers(-2, 3)
    if form == "float32":
        return x.astype(np.float32)
    if form == "int64":
        return np.round(x * 2).astype(np.int64)
    if form == "missing":
        x[rng.random(x.shape) < 0.15] = np.nan
    if form == "constant column":
        x[:, 0] = 1.5
    if form == "sparse":
        x[rng.random(x.shape) < 0.6] = 0
    if form == "positive":
        x = np.abs(x)
    if form == "whole":
        x = np.abs(np.round(x))
    if form == "bool":
        return (x > 0)
    return x


def targets(rng: np.random.Generator, estimator: Any, x: Array) -> tuple[str, Any]:
    """Labels or numbers that hang on the rows, in one of the ways that they are given."""
    base = np.nan_to_num(np.asarray(x, float))
    score = base @ rng.standard_normal(base.shape[1]) + 0.3 * rng.standard_normal(len(base))
    if is_classifier(estimator):
        how = str(rng.choice(["ints", "two", "strings", "negative", "bool", "floats", "two strings", "several labels",
                              "several outputs"], p=[0.2, 0.15, 0.15, 0.1, 0.1, 0.05, 0.1, 0.08, 0.07]))
        three = np.digitize(score, np.quantile(score, [0.3, 0.7]))
        two = (score > np.median(score)).astype(int)
        if how == "several outputs" or type(estimator).__name__ == "MultiOutputClassifier":
            return how, np.stack([three, two], 1)
        return how, {"ints": three, "two": two, "strings": np.array(["no", "yes", "Übel"])[three],
                     "negative": three - 3, "bool": two.astype(bool), "floats": three + 0.0,
                     "two strings": np.array(["b", "a"], object)[two],
                     "several labels": np.stack([two, three > 1], 1).astype(int)}[how]
    how = str(rng.choice(["numbers", "numbers", "float32", "whole", "positive", "column", "several"]))
    return how, {"numbers": score, "float32": score.astype(np.float32), "whole": np.round(score).astype(int),
                 "positive": np.abs(score) + 0.1, "column": score[:, None],
                 "several": np.stack([score, score**2], 1)}[how]


def data_for(name: str, estimator: Any, rng: np.random.Generator) -> Data:
    """Data of a kind by chance."""
    if name in TEXT_TAKERS:
        more = np.array(["", "Ünïcödé strasse… SHORT setosa", "12 3 virg Été ΣΟΦΟΣ", "  long\tsepals  vers "], object)
        return Data("texts", TEXTS[:80], None, TEXTS[:80], {"fresh": np.concatenate([TEXTS[80:], more])})
    if name in LABEL_TAKERS:
        y = [np.array(["b", "a", "c"] * 5), np.arange(15) % 4 - 2, np.arange(15) % 2 > 0, np.arange(15) % 3 + 0.5][
            rng.integers(4)]
        return Data(f"labels {y.dtype}", y, None, y, {"fresh": rng.permutation(y)})
    shape, form = str(rng.choice(list(SHAPES))), str(rng.choice(FORMS))
    rows, columns = SHAPES[shape]
    if form == "missing" and rng.random() < 0.5:
        form = "float64"
    x = numbers(rng, form, rows, columns)
    how, y = targets(rng, estimator, x)
    return with_fresh(rng, f"{shape}, {form}, {how}", form, x, y)


def with_fresh(rng: np.random.Generator, kind: str, form: str, x: Any, y: Any) -> Data:
    """The data, and rows that nobody saw: such as they are, large ones, zeros, and gaps where there are some."""
    rows = numbers(rng, form, 25, x.shape[1])
    fresh: dict[str, Any] = {"fresh": rows}
    if form not in ("bool",):
        fresh["large"] = (rows * 40).astype(rows.dtype)
    fresh["zeros"] = np.zeros_like(rows[:2])
    if rows.dtype.kind == "f":
        holes = rows.copy()
        holes[rng.random(rows.shape) < 0.2] = np.nan
        fresh["holes"] = holes
    example = x
    if form == "sparse":
        from scipy import sparse

        x = sparse.csr_matrix(x)
    if form == "frame":
        import pandas

        names = [f"col {i}" for i in range(x.shape[1])]
        x = example = pandas.DataFrame(x, columns=names)
        fresh = {k: pandas.DataFrame(v, columns=names) for k, v in fresh.items()}
    return Data(kind, x, y, example, fresh)
