"""What a model must answer before it is given out: the example, and rows where translations go wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.frontends.boundaries import on_thresholds
from gesher.frontends.protocol import Trial
from gesher.ir import SequenceType, TensorType, Value
from gesher.ops.build import Builder

from .inputs import TEXTS as TEXT_TAKERS
from .inputs import Source, first_of
from .methods import Output, answer, as_model
from .records import Records
from .tables import Frame, Matrix, Rows

# Comparisons that a trial's rows may cost in a forest, as reckoned by `_steps`; trees that are tried at thresholds, and
# how many of each.
_BUDGET, _TREES, _OF_TREE = 600_000, 20, 50
# Where scikit-learn has its forests, whose answers are rows or lists of rows.
_FORESTS = ("sklearn.ensemble._forest", "sklearn.ensemble._gb", "sklearn.ensemble._hist", "sklearn.tree.")
# Classifiers whose label is the first of the likeliest classes.
_LIKELIEST = ("DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier",
              "GradientBoostingClassifier", "HistGradientBoostingClassifier")
# Numbers that a matrix of a trial may have.
_CELLS = 2**22


def _alone(estimator: Any) -> Any:
    return estimator.steps[-1][1] if type(estimator).__name__ == "Pipeline" and len(estimator.steps) == 1 else estimator


def _trees(estimator: Any) -> list[Any]:
    """scikit-learn's trees, where the estimator is one or has some."""
    last = _alone(estimator)
    inner = getattr(last, "estimators_", [])
    # Gradient boosting has an array of them; a list must not become one, since numpy cuts pipelines into their steps.
    held = [last] if hasattr(last, "tree_") else inner.reshape(-1) if isinstance(inner, np.ndarray) else inner
    return [e.tree_ for e in held if hasattr(getattr(e, "tree_", None), "children_left")]


def _steps(estimator: Any) -> float:
    """About how many comparisons a row costs, where that is of trees."""
    sizes = [tree.node_count for tree in _trees(estimator)] + [len(p.nodes) for p in _predictors(estimator)]
    return float(1.5 * np.log2(np.array(sizes) + 1.0).sum()) if sizes else 0.0


def _predictors(estimator: Any) -> list[Any]:
    """The trees of histogram gradient boosting, where the estimator is that."""
    stages = getattr(_alone(estimator), "_predictors", None)
    return [p for stage in stages for p in stage] if isinstance(stages, list) else []


def _says_the_likeliest(estimator: Any) -> bool:
    return type(estimator).__name__ in _LIKELIEST and type(estimator).__module__.startswith("sklearn.") \
        and np.ndim(getattr(estimator, "n_classes_", 0)) == 0


def _some(values: Any, count: int) -> Any:
    """So many of a list or an array, from the first to the last."""
    if len(values) <= count:
        return values
    at = np.linspace(0, len(values) - 1, count).astype(int)
    return values[at] if isinstance(values, np.ndarray) else [values[i] for i in at]


def _thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """(feature, threshold) of some nodes of some trees, where the estimator is one or has some."""
    for tree in _some(_trees(estimator), _TREES):
        inner = _some(np.flatnonzero(tree.children_left >= 0), _OF_TREE)
        yield from zip(tree.feature[inner].tolist(), tree.threshold[inner].tolist())
    last = _alone(estimator)
    predictors = _predictors(estimator)
    # Histogram gradient boosting reads the categorical columns first.
    given = np.asarray(getattr(last, "is_categorical_", None) is not None and last.is_categorical_, bool)
    order = np.concatenate([np.flatnonzero(given), np.flatnonzero(~given)]) if given.ndim and given.any() else None
    for predictor in _some(predictors, _TREES):
        nodes = predictor.nodes
        asked = nodes[~nodes["is_leaf"].astype(bool) & ~nodes["is_categorical"].astype(bool)]
        for node in _some(asked, _OF_TREE):
            feature, threshold = int(node["feature_idx"]), float(node["num_threshold"])
            if np.isfinite(threshold):
                yield (feature if order is None else int(order[feature])), threshold


def _spread(estimator: Any, features: int) -> tuple[Any, Any]:
    """Mean and scale of the features, where a scaler that stands first knows them."""
    first = estimator.steps[0][1] if type(estimator).__name__ == "Pipeline" else estimator
    mean, scale = getattr(first, "mean_", None), getattr(first, "scale_", None)
    thresholds = list(_thresholds(estimator))
    if thresholds:
        values = np.array([v for _, v in thresholds])
        return float(values.mean()), float(values.std() + 1)
    usable = scale is not None and np.shape(scale) == (features,) and mean is not None
    return (mean, scale) if usable else (0.0, 1.0)


TEXTS = ("", " ", "a", "The quick brown fox, the LAZY dog!", "Ünïcödé ÀÉÎ straße İstanbul ΣΟΦΟΣ",
         "x-y_z 12 3.5\t\n  end", "e\u0301 ﬁ ½ 東京 😀 ok", "don't  can't   won't")


def _rows(estimator: Any, most: int) -> int:
    """Up to so many rows, or as many as a large forest leaves time for."""
    return int(min(most, max(_BUDGET // max(_steps(estimator), 1), 60)))


def _widest(b: Builder) -> int:
    """The number of columns of the widest matrix of rows: words by their hashes have a million of them."""
    shapes = [b.shape(o) or () for node in b.graph.nodes for o in node.outputs
              if o is not None and isinstance(o.type, TensorType)]
    return max((s[1] for s in shapes if len(s) == 2 and not isinstance(s[0], int) and isinstance(s[1], int) and s[1]),
               default=1)


def _boundaries(source: Source, estimator: Any, rng: np.random.Generator) -> Iterator[tuple[str, Rows]]:
    """Rows at the edges: on thresholds, of values that training has not seen."""
    rows = source.rows
    if isinstance(rows, Matrix) and rows.array.dtype.kind == "f":
        by_feature: dict[int, list[float]] = {}
        for feature, threshold in _thresholds(estimator):
            by_feature.setdefault(feature, []).append(threshold)
        if by_feature and len(rows):
            most = _rows(estimator, min(240, 8 * sum(map(len, by_feature.values()))))
            thresholds = {f: np.array(found) for f, found in by_feature.items()}
            yield "rows on thresholds", Matrix(rows.name, on_thresholds(rows.array, thresholds, most, rng))
            holes = np.resize(rows.array, (min(most, 100), rows.array.shape[1])).copy()
            holes[rng.random(holes.shape) < 0.3] = np.nan
            yield "missing values", Matrix(rows.name, holes)
    elif isinstance(rows, Matrix) and rows.array.dtype == object and len(rows):
        if rows.array.ndim == 1 and type(first_of(estimator)).__name__ not in TEXT_TAKERS:
            return
        if rows.array.ndim == 1:
            yield "odd texts", Matrix(rows.name, np.array(TEXTS, object))
            # Words of the example in another order, so that n-grams are met that none of its texts has.
            words = " ".join(map(str, rows.array[:50])).split()
            made = [" ".join(rng.choice(words, 12)) for _ in range(20)] if words else []
            if made:
                yield "words shuffled", Matrix(rows.name, np.array(made, object))
        else:
            unseen = rows.array[:4].copy()
            unseen[::2, 0] = "?unseen?"
            yield "unseen values", Matrix(rows.name, unseen)
    elif isinstance(rows, (Frame, Records)) and len(rows):
        strange = rows.strange() if isinstance(rows, Records) else _strange(rows)
        if strange is not None:
            yield "unseen values", strange


def _strange(rows: Frame) -> Frame | None:
    """A few rows with strings that training has not seen."""
    words = [c for c, k in rows.kinds.items() if k is dtypes.STRING]
    if not words or type(rows.frame).__module__.split(".")[0] != "pandas":
        return None
    few = rows.take(np.arange(min(len(rows), 6)))
    frame = few.frame.copy()
    for i, c in enumerate(words):
        values = frame[c].astype(object)
        values.iloc[i % len(values)] = "?unseen?"
        frame[c] = values
    return Frame(frame, rows.names, rows.kinds, rows.plain)


def trials_of(b: Builder, estimator: Any, source: Source, outputs: list[Output], names: list[str],
              in_float64: bool = False, extra: dict[str, Any] | None = None) -> list[Trial]:
    """The example's rows, single rows, random rows of the same spread, and rows at the edges.

    Rows that scikit-learn refuses (values that it does not know) are left out.
    """
    rng = np.random.default_rng(0)
    sets: dict[str, Rows] = {}
    given = source.rows
    most = max(_CELLS // _widest(b), 4)
    if given is not None and len(given):
        sets["example"] = given.take(np.arange(min(len(given), _rows(estimator, 2000))))
        sets["one row"] = given.take(np.arange(1))
        sets["columns shuffled"] = given.mixed(rng, min(200, 20 * len(given)))
    else:
        source.rows = invented(estimator, source, rng)
        sets["random rows" if source.shape else "odd texts"] = source.rows
        if source.shape:
            sets["one row"] = source.rows.take(np.arange(1))
    must = set(sets) - {"columns shuffled"}
    sets.update(_boundaries(source, estimator, rng))
    sets = {title: rows if len(rows) <= most else rows.take(np.arange(most)) for title, rows in sets.items()}
    heard: dict[str, dict[str, Any]] = {}
    trials = []
    for title, rows, answers in answered(b, estimator, sets, must, outputs, names, in_float64, heard):
        said = heard.get(title, {})
        logs = [n for o, n in zip(outputs, names) if o.kind == "log_probabilities" and answers[n].shape[1] == 2]
        told = list(_exact_logs(rows, {n: answers.pop(n) for n in logs}))
        # What was said to all rows is not what is said to some.
        trials += [_without_ties(f"{title}, logarithms", at, some, estimator, outputs, {}) for at, some in told]
        # A model of logarithms that nobody can tell still has to run.
        if answers or not told:
            trials.append(_without_ties(title, rows, answers, estimator, outputs, said))
    return trials


def invented(estimator: Any, source: Source, rng: np.random.Generator) -> Rows:
    """Rows for an estimator that came without an example."""
    (name,) = source.names.values()
    if not source.shape:
        return Matrix(name, np.array(TEXTS, object))
    features = source.shape[0]
    mean, scale = _spread(estimator, features)
    return Matrix(name, (rng.standard_normal((200, features)) * scale + mean).astype(dtypes.FLOAT.numpy))


def answered(b: Builder, estimator: Any, sets: dict[str, Rows], must: Collection[str], outputs: list[Output],
             names: list[str], in_float64: bool, heard: dict[str, dict[str, Any]] | None = None
             ) -> Iterator[tuple[str, Rows, dict[str, Any]]]:
    """The sets of rows by title, and what the estimator itself answers for each output.

    Those that it refuses are left out. What its methods said to the rows of a title, before anything was made of it,
    goes into `heard`.

    Raises:
        UnsupportedError: it refuses what has one of the titles that `must` lists.
    """
    if in_float64:
        estimator = _widened(estimator)
    together = _heard_together(estimator, sets, dict.fromkeys(o.method for o in outputs), in_float64)
    for title, rows in sets.items():
        answers = {}
        once = _Heard(estimator, together.get(title))
        try:
            for output, name in zip(outputs, names):
                kind, rank = held_by(b, output.value)
                said = answer(once, output, rows.given(in_float64), rank)
                answers[name] = as_model(output, said, kind, rank)
        except (ValueError, TypeError, IndexError) as e:
            # The example must work; what was made up may be what scikit-learn raises an error for.
            if title in must:
                raise UnsupportedError(f"{type(estimator).__name__} itself cannot answer for the {title}: {e}",
                                       who="sklearn") from e
            continue
        if heard is not None and not in_float64:
            heard[title] = once.said
        yield title, rows, answers


def held_by(b: Builder, value: Value) -> tuple[DType, int]:
    """The data type and the rank of a tensor, or of those in a sequence."""
    kind = value.type
    if isinstance(kind, SequenceType) and isinstance(kind.element, TensorType):
        return kind.element.dtype, 1
    return b.dtype(value), len(b.shape(value) or ())


def _exact_logs(rows: Rows, logs: dict[str, Any]) -> Iterator[tuple[Rows, dict[str, Any]]]:
    """The rows whose logarithms of two probabilities are more than rounding: that of 1 - p is not, where p is nearly 1,
    and engines differ in the last digit of p."""
    for name, values in logs.items():
        with np.errstate(invalid="ignore"):
            sure = (values > np.log(1e3 * np.finfo(values.dtype).eps)).all(1)
        if sure.any():
            yield rows.take(np.flatnonzero(sure)), {name: values[sure]}


def _widened(estimator: Any) -> Any:
    """A copy that computes in float64 with what it found in float32."""
    made = copy(estimator)
    for name, value in vars(estimator).items():
        if isinstance(value, (np.ndarray, np.floating)) and value.dtype == np.float32:
            setattr(made, name, value.astype(np.float64))
    if type(estimator).__name__ == "Pipeline":
        made.steps = [(name, step if step is None or isinstance(step, str) else _widened(step))
                      for name, step in estimator.steps]
    return made


class _Heard:
    """An estimator that is asked for one set of rows, each method once.

    Args:
        said: what is known already, by method.
    """

    def __init__(self, estimator: Any, said: dict[str, Any] | None = None):
        self.estimator, self.said = estimator, said if said is not None else dict[str, Any]()

    def __getattr__(self, method: str) -> Callable[[Any], Any]:
        def asked(x: Any) -> Any:
            if method not in self.said:
                if method == "predict" and _says_the_likeliest(self.estimator):
                    # What the method does, without walking the trees again.
                    shares = self.predict_proba(x)
                    self.said[method] = self.estimator.classes_.take(shares.argmax(1))
                else:
                    self.said[method] = getattr(self.estimator, method)(x)
            return self.said[method]

        return asked


def _heard_together(estimator: Any, sets: Mapping[str, Rows], methods: Collection[str], in_float64: bool
                    ) -> dict[str, dict[str, Any]]:
    """What forests say to the sets of numbers without gaps, by title and method; asked at once, since a forest takes
    its time before the first row. Nothing of other estimators, and where it raises an error."""
    if not type(estimator).__module__.startswith(_FORESTS):
        return {}
    whole = {title: rows for title, rows in sets.items()
             if isinstance(rows, Matrix) and rows.array.dtype.kind == "f" and not np.isnan(rows.array).any()}
    if len(whole) < 2 or len({(r.array.shape[1:], r.array.dtype) for r in whole.values()}) > 1:
        return {}
    first = next(iter(whole.values()))
    rows = Matrix(first.name, np.concatenate([r.array for r in whole.values()])).given(in_float64)
    once = _Heard(estimator)
    try:
        said = {m: getattr(once, m)(rows) for m in methods}
    except (ValueError, TypeError, IndexError):
        # Set by set it becomes clear which rows it refuses.
        return {}
    said |= once.said
    out: dict[str, dict[str, Any]] = {}
    end = 0
    for title, some in whole.items():
        part = slice(end, end + len(some))
        end = part.stop
        out[title] = {m: [v[part] for v in said_] if isinstance(said_, list) else said_[part]
                      for m, said_ in said.items()}
    return out


def _clearly_near(estimator: Any, x: Any) -> np.ndarray[Any, Any]:
    """True for the rows whose k nearest neighbours are told from the next, and apart, by more than rounding.

    Of points equally far scikit-learn takes whichever its search meets first, which no other search can know.
    """
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    if type(estimator).__name__ == "Pipeline" and len(estimator.steps) > 1 and not isinstance(estimator[-1], str):
        last = estimator[-1]
        while hasattr(last, "best_estimator_"):
            last = last.best_estimator_
        if hasattr(last, "kneighbors") or type(last).__name__ == "Pipeline":
            return _clearly_near(last, estimator[:-1].transform(x))
    if type(estimator).__name__ == "KNNImputer":
        return _clearly_imputed(estimator, np.asarray(x, float))
    if type(estimator).__name__ in ("LocallyLinearEmbedding", "Isomap"):
        estimator = estimator.nbrs_
    if getattr(estimator, "kernel", None) == "knn" and hasattr(estimator, "nn_fit"):
        estimator = estimator.nn_fit
    k = getattr(estimator, "n_neighbors", None)
    if not hasattr(estimator, "kneighbors") or not isinstance(k, (int, np.integer)):
        return np.ones(len(x), bool)
    distances = np.asarray(estimator.kneighbors(x, min(k + 2, estimator.n_samples_fit_))[0], float)
    clear: np.ndarray[Any, Any] = (np.diff(distances, axis=1) > 1e-6 * distances.max(initial=1e-30)).all(1)
    return clear


def _clearly_imputed(model: Any, x: Any) -> np.ndarray[Any, Any]:
    """As `_clearly_near`, for each gap's donors: at the border between the last that counts and the next."""
    from sklearn.metrics.pairwise import nan_euclidean_distances

    points, clear = np.asarray(model._fit_X, float), np.ones(len(x), bool)
    far = nan_euclidean_distances(x, points)
    for j in range(x.shape[1]):
        donors = np.flatnonzero(~np.isnan(points[:, j]))
        k = min(int(model.n_neighbors), len(donors))
        if k < len(donors):
            ordered = np.sort(far[:, donors], 1)
            close = ordered[:, k] - ordered[:, k - 1] <= 1e-6 * np.nanmax(ordered, initial=1e-30)
            clear &= ~(np.isnan(x[:, j]) & close)
        if model.weights == "distance":
            # What should be no distance at all is scikit-learn's rounding there, by whose inverse it weighs.
            clear &= ~(far < 1e-4 * np.nanmax(far, initial=1e-30)).any(1)
    return clear


def _kept(title: str, rows: Rows, answers: dict[str, Any], keep: np.ndarray[Any, Any]) -> tuple[Rows, dict[str, Any]]:
    at = np.flatnonzero(keep)
    # A vote that is not flattened has an answer (estimators, rows, classes).
    return rows.take(at), {k: v[:, at] if v.ndim == 3 else v[at] for k, v in answers.items()}


def _largest(scores: Any) -> float:
    """The largest size among the scores that are numbers, and 1 at the least."""
    return float(np.abs(scores[np.isfinite(scores)]).max(initial=1))


def _without_ties(title: str, rows: Rows, answers: dict[str, Any], estimator: Any, outputs: list[Output],
                  heard: Mapping[str, Any]) -> Trial:
    """The trial without the rows whose best two classes are nearer than rounding can tell: their label is a toss-up.

    Args:
        heard: what methods of the estimator said to these rows.
    """
    near, count, own = _clearly_near(estimator, rows.given()), len(rows), estimator
    if not near.all() and near.any():
        rows, answers = _kept(title, rows, answers, near)
    elif not near.any():
        # Rows that are all toss-ups still have to run.
        return Trial(title, rows.feeds(), {})
    if getattr(estimator, "multi_class", None) == "one_vs_one" and getattr(estimator, "n_classes_", 2) > 2:
        # A Gaussian process of pairs has no probabilities; those who vote inside it tell how near it was.
        estimator = getattr(estimator, "base_estimator_", estimator)
    likeliest = "predict_proba" in heard and _says_the_likeliest(estimator)
    method = "decision_function" if hasattr(estimator, "decision_function") and not likeliest else "predict_proba"
    if not any(o.kind == "label" for o in outputs) or not hasattr(estimator, method):
        return Trial(title, rows.feeds(), answers)
    try:
        same = len(rows) == count and estimator is own and method in heard
        said = heard[method] if same else getattr(estimator, method)(rows.given())
    except (AttributeError, IndexError):
        # It has the method, and what it holds cannot answer: a chain of classifiers without probabilities.
        return Trial(title, rows.feeds(), answers)
    keep = np.ones(len(rows), bool)
    for scores in (said if isinstance(said, list) else [said]):
        scores = np.asarray(scores, float)
        if scores.ndim == 1:
            gap, size = np.abs(scores), _largest(scores)
        elif scores.ndim == 2 and scores.shape[1] > 1:
            best = np.sort(scores, 1)
            gap, size = best[:, -1] - best[:, -2], _largest(scores)
        else:
            continue
        keep &= ~(gap <= 1e-5 * size)
    if keep.any() and not keep.all():
        rows, answers = _kept(title, rows, answers, keep)
    return Trial(title, rows.feeds(), answers)


