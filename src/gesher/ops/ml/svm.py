"""Support vector machines of ai.onnx.ml.

A classifier of K classes holds a machine for each pair of classes; each machine votes, and the class with most votes
wins. ONNX's text leaves nearly all of this open, so it follows ONNX Runtime, for which models are made. What a reader
would guess wrong:

- Coefficients (K-1, vectors) hold, for a vector of class i, its weight against every other class j: in row j - 1 where
  j > i, in row j where j < i.
- Without `vectors_per_class` a classifier is linear: a row of coefficients a class, one `rho` for all of them. If it
  then has two classes, the second is chosen as soon as the larger score is positive (at least 0.5 where no coefficient
  is negative), even where that score is the first's.
- The scores Z are probabilities (N,K) where `prob_a` is given, else what the machines say (N, K(K-1)/2); of two
  classes the one score with its complement (0 without a post transform, else 1, minus the score) in front.
- A regressor's post transform is not applied: there is a single score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ops.rules import InferNode
from gesher.ops.schema import STRING, Attr, Input, Output, op, tensors

from .scores import logistic, lower_transform, name_of, transformed
from .trees import INPUTS, ML, class_labels

Array = np.ndarray[Any, Any]

_KERNEL = (Attr("kernel_type", "string", "LINEAR"), Attr("kernel_params", "floats"),
           Attr("post_transform", "string", "NONE"), Attr("support_vectors", "floats"), Attr("coefficients", "floats"),
           Attr("rho", "floats"))

SVMClassifier = op(
    "SVMClassifier", Input("X", "T1"), Output("Y", "T2"), Output("Z", "tensor(float)"), *_KERNEL,
    Attr("prob_a", "floats"), Attr("prob_b", "floats"), Attr("vectors_per_class", "ints"),
    Attr("classlabels_strings", "strings"), Attr("classlabels_ints", "ints"), domain=ML, T1=INPUTS,
    T2=tensors("int64") | STRING)

SVMRegressor = op("SVMRegressor", Input("X"), Output("Y", "tensor(float)"), *_KERNEL, Attr("n_supports", "int", 0),
                  Attr("one_class", "int", 0), domain=ML, T=INPUTS)

_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def _fail(what: str, advice: str | None = None) -> ModelError:
    return ModelError(f"support vector machine: {what}", rule="svm", advice=advice)


@dataclass(slots=True)
class Kernel:
    """How alike a row and a support vector are: `of(x (N,F)) -> (N,V)` against `vectors` (V,F), and in primitives."""

    kind: str
    gamma: float
    coef0: float
    degree: float
    vectors: Array

    @classmethod
    def read(cls, a: dict[str, Any], vectors: Array) -> Kernel:
        kind, params = a["kernel_type"], a["kernel_params"] or (0.0, 0.0, 0.0)
        if kind not in _KERNELS:
            raise _fail(f"there is no kernel {kind!r}", "it is one of " + ", ".join(_KERNELS))
        if len(params) < 3:
            raise _fail(f"kernel_params has {len(params)} numbers", "it holds gamma, coef0 and degree")
        gamma, coef0, degree = np.asarray(params[:3], np.float32).tolist()
        return cls(kind, gamma, coef0, degree, vectors)

    def of(self, x: Array) -> Array:
        vectors = self.vectors.astype(np.float64)
        if self.kind == "RBF":
            out = np.empty((len(x), len(vectors)))
            for i, row in enumerate(x):     # a row at a time: all differences at once would be N x V x F
                out[i] = np.exp(-self.gamma * ((row - vectors) ** 2).sum(1))
            return out
        dot = x @ vectors.T
        if self.kind == "LINEAR":
            return dot
        inner = self.gamma * dot + self.coef0
        with np.errstate(invalid="ignore"):     # a negative base has no root
            return np.tanh(inner) if self.kind == "SIGMOID" else inner ** self.degree

    def lower(self, p: Any, x: Any) -> Any:
        dot = p.matmul(x, p.constant(np.ascontiguousarray(self.vectors.T)))
        if self.kind == "LINEAR":
            return dot
        if self.kind == "RBF":
            # |x - v|^2 = |x|^2 - 2 x v + |v|^2 would cancel; the distance itself does not.
            far = p.expand_dims(x, (1,)) - p.constant(self.vectors)
            return p.exp(p.sum(far * far, (2,)) * -self.gamma)
        inner = dot * self.gamma + self.coef0
        if self.kind == "SIGMOID":
            return p.tanh(inner)
        if self.degree in (1.0, 2.0, 3.0):
            power = inner
            for _ in range(int(self.degree) - 1):
                power = power * inner
            return power
        return p.pow(inner, self.degree)


def _rows(x: Array, features: int) -> Array:
    x = x if x.ndim == 2 else x.reshape(1, -1)
    if x.shape[1] != features:
        raise _fail(f"X has {x.shape[1]} features, the machine takes {features}")
    return x.astype(np.float32).astype(np.float64)


def _lower_rows(p: Any, x: Any, features: int) -> Any:
    x = x if len(x.shape) == 2 else p.expand_dims(x, (0,))
    if isinstance(x.shape[1], int) and x.shape[1] != features:
        raise _fail(f"X has {x.shape[1]} features, the machine takes {features}")
    return p.cast(x, dtypes.FLOAT)


def _floats(a: dict[str, Any], name: str) -> Array:
    return np.asarray(a[name] or (), np.float32)


def _vectors(a: dict[str, Any], count: int) -> Array:
    flat = _floats(a, "support_vectors")
    if len(flat) % count or not len(flat):
        raise _fail(f"{len(flat)} numbers do not part into {count} support vectors")
    return flat.reshape(count, -1)


# Regression

def _regressor(a: dict[str, Any]) -> tuple[Kernel, Array, float]:
    """The kernel, a weight for each of its vectors, and what is added."""
    coefficients, rho, count = _floats(a, "coefficients"), _floats(a, "rho"), a["n_supports"]
    if not len(coefficients) or not len(rho):
        raise _fail("a regressor needs coefficients and rho")
    name_of(a["post_transform"])
    if count <= 0:      # linear: the coefficients are those of the features
        return Kernel("LINEAR", 0, 0, 0, coefficients[None]), np.ones(1, np.float32), float(rho[0])
    if len(coefficients) != count:
        raise _fail(f"{len(coefficients)} coefficients for {count} support vectors")
    return Kernel.read(a, _vectors(a, count)), coefficients, float(rho[0])


@SVMRegressor.infer
def _(node: InferNode) -> None:
    rows = _count_rows(node)
    node.set(0, dtypes.FLOAT, None if rows is None else (rows, 1))


def _count_rows(node: InferNode) -> Any:
    shape = node.shape(0)
    if shape is None:
        return None
    if len(shape) not in (1, 2):
        node.fail(f"X must be a matrix of rows and features, it has rank {len(shape)}")
    return shape[0] if len(shape) == 2 else 1


@SVMRegressor.reference
def svm_regressor(x: Array, *, one_class: int, **a: Any) -> Array:
    kernel, weights, rho = _regressor(a)
    scores = (kernel.of(_rows(x, kernel.vectors.shape[1])) @ weights.astype(np.float64) + rho)[:, None]
    return (np.where(scores > 0, 1, -1) if one_class else scores).astype(np.float32)


@SVMRegressor.lower
def _(p: Any, x: Any, *, one_class: int, **a: Any) -> Any:
    kernel, weights, rho = _regressor(a)
    likeness = kernel.lower(p, _lower_rows(p, x, kernel.vectors.shape[1]))
    scores = p.matmul(likeness, p.constant(weights[:, None])) + rho
    return p.select(scores > 0.0, p.scalar(1, dtypes.FLOAT), p.scalar(-1, dtypes.FLOAT)) if one_class else scores


# Classification

@dataclass(slots=True)
class Machines:
    """A classifier.

    Attributes:
        labels: (K,) of the classes.
        kernel: what X is held against: support vectors, or of a linear one its coefficients.
        weights: (V, pairs) what each support vector adds to each machine; None where the classifier is linear.
        rho: (pairs,) or of a linear one (1,).
        pairs: (i, j) of each machine, which says i where its score is positive.
        prob: (2, pairs) slope and offset of each machine's probability; None where there are none.
        positive: whether no coefficient is negative.
    """

    labels: Array
    kernel: Kernel
    weights: Array | None
    rho: Array
    pairs: list[tuple[int, int]]
    prob: Array | None
    positive: bool

    @property
    def columns(self) -> int:
        """Of the scores Z."""
        return len(self.labels) if self.weights is None or self.prob is not None else max(len(self.pairs), 2)


def _classifier(a: dict[str, Any]) -> Machines:
    labels = class_labels(a["classlabels_strings"], a["classlabels_ints"])
    k = len(labels)
    coefficients, rho = _floats(a, "coefficients"), _floats(a, "rho")
    prob_a, prob_b = _floats(a, "prob_a"), _floats(a, "prob_b")
    if not k or not len(coefficients) or not len(rho):
        raise _fail("a classifier needs labels, coefficients and rho")
    if len(prob_a) != len(prob_b):
        raise _fail(f"prob_a has {len(prob_a)} numbers, prob_b {len(prob_b)}")
    prob = np.stack([prob_a, prob_b]) if len(prob_a) else None
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    positive = bool((coefficients >= 0).all())
    counts = list(a["vectors_per_class"] or ())
    if not sum(counts):
        if len(coefficients) % k:
            raise _fail(f"{len(coefficients)} coefficients do not part into {k} classes")
        return Machines(labels, Kernel("LINEAR", 0, 0, 0, coefficients.reshape(k, -1)), None, rho[:1], pairs, prob,
                        positive)
    if len(counts) != k:
        raise _fail(f"vectors_per_class has {len(counts)} numbers for {k} classes")
    if k < 2:
        raise _fail("one class leaves nothing to choose")
    total = sum(counts)
    if len(coefficients) < (k - 1) * total or len(rho) < len(pairs) or (prob is not None
                                                                        and prob.shape[1] < len(pairs)):
        raise _fail(f"{k} classes with {total} vectors need {(k - 1) * total} coefficients and {len(pairs)} of rho, "
                    f"prob_a and prob_b", f"there are {len(coefficients)} and {len(rho)}")
    table = coefficients[:(k - 1) * total].reshape(k - 1, total)
    starts = np.concatenate([[0], np.cumsum(counts)])
    weights = np.zeros((total, len(pairs)), np.float32)
    for m, (i, j) in enumerate(pairs):
        of_i, of_j = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[of_i, m], weights[of_j, m] = table[j - 1, of_i], table[i, of_j]
    return Machines(labels, Kernel.read(a, _vectors(a, total)), weights, rho[:len(pairs)], pairs,
                    None if prob is None else prob[:, :len(pairs)], positive)


@SVMClassifier.infer
def _(node: InferNode) -> None:
    machines = _classifier({name: node[name] for name in node.schema.attributes})
    rows = _count_rows(node)
    node.set(0, dtypes.STRING if machines.labels.dtype == object else dtypes.INT64, None if rows is None else (rows,))
    node.set(1, dtypes.FLOAT, None if rows is None else (rows, machines.columns))


def _second_when(machines: Machines) -> float | None:
    """Of a linear classifier of two classes: above (at) what largest score the second is chosen in any case."""
    if len(machines.labels) != 2 or machines.prob is not None:
        return None
    return 0.5 if machines.positive else 0.0


@SVMClassifier.reference
def svm_classifier(x: Array, *, post_transform: str, **a: Any) -> tuple[Array, Array]:
    m, transform = _classifier(a), name_of(post_transform)
    likeness = m.kernel.of(_rows(x, m.kernel.vectors.shape[1]))
    if m.weights is None:
        scores = (likeness + m.rho[0]).astype(np.float32)
        chosen, limit = scores.argmax(1), _second_when(m)
        if limit is not None:
            top = scores.max(1)
            chosen = np.where((top >= limit) if m.positive else (top > limit), 1, chosen)
        return m.labels[chosen], transformed(scores, transform)
    exact = likeness @ m.weights.astype(np.float64) + m.rho
    votes = np.zeros((len(exact), len(m.labels)), np.int64)
    for column, (i, j) in enumerate(m.pairs):
        np.add.at(votes, (np.arange(len(exact)), np.where(exact[:, column] > 0, i, j)), 1)
    labels, scores = m.labels[votes.argmax(1)], exact.astype(np.float32)
    if m.prob is not None:
        return labels, transformed(_coupled(_pair_probabilities(scores, m)), transform)
    if len(m.pairs) > 1:
        return labels, transformed(scores, transform)
    return labels, _both(scores, transform)


def _both(score: Array, transform: str) -> Array:
    """Two columns from the score (N,1) of one machine."""
    if transform == "NONE":
        return np.concatenate([-score, score], 1)
    if transform == "PROBIT":
        raise _fail("PROBIT of the one score of two classes is not defined", "give prob_a and prob_b")
    if transform == "LOGISTIC":
        return np.concatenate([logistic(-score), logistic(score)], 1)
    return np.concatenate([1 - score, score], 1)


def _pair_probabilities(scores: Array, m: Machines) -> Array:
    """(N,K,K): how probable class i is against class j, by a logistic curve over the machine's score (Platt)."""
    assert m.prob is not None
    k = len(m.labels)
    pairwise = np.zeros((len(scores), k, k), np.float32)
    with np.errstate(over="ignore"):
        one = np.clip(1 - logistic(scores * m.prob[0] + m.prob[1]), np.float32(1e-7), np.float32(1 - 1e-7))
    for column, (i, j) in enumerate(m.pairs):
        pairwise[:, i, j], pairwise[:, j, i] = one[:, column], 1 - one[:, column]
    return pairwise


_TURNS = 100


def _quadratic(r: Array) -> Array:
    """Q (N,K,K) of the coupling: Q_ii = sum of r_ji^2 over j, Q_ij = -r_ji r_ij."""
    q = -np.swapaxes(r, 1, 2) * r
    k = r.shape[1]
    q[:, range(k), range(k)] = (r * r).sum(1)
    return q


def _coupled(r: Array) -> Array:
    """Probabilities of classes from those of pairs: Wu, Lin and Weng (2004), the second approach, as LIBSVM iterates.

    In float32, since the iteration ends at a coarse tolerance: another precision would end it elsewhere.
    """
    n, k = r.shape[:2]
    q, p = _quadratic(r), np.full((n, k), 1 / k, np.float32)
    going, tolerance = np.ones(n, bool), np.float32(0.005 / k)
    for _ in range(_TURNS):
        qp = (q * p[:, None]).sum(2)
        pqp = (p * qp).sum(1)
        going &= np.abs(qp - pqp[:, None]).max(1, initial=0) >= tolerance
        if not going.any():
            break
        new = p.copy()
        for i in range(k):
            own = q[:, i, i]
            step = (pqp - qp[:, i]) / own
            new[:, i] += step
            pqp = (pqp + step * (step * own + 2 * qp[:, i])) / (1 + step) / (1 + step)
            qp = (qp + step[:, None] * q[:, i]) / (1 + step)[:, None]
            new = new / (1 + step)[:, None]
        p = np.where(going[:, None], new, p)
    return p


@SVMClassifier.lower
def _(p: Any, x: Any, *, post_transform: str, **a: Any) -> Any:
    from gesher.primitives import CannotLower

    m, transform = _classifier(a), name_of(post_transform)
    if m.labels.dtype == object:
        raise CannotLower("string labels")
    labels = p.constant(m.labels)
    likeness = m.kernel.lower(p, _lower_rows(p, x, m.kernel.vectors.shape[1]))
    if m.weights is None:
        scores = likeness + float(m.rho[0])
        chosen, limit = p.argmax(scores, 1), _second_when(m)
        if limit is not None:
            top = p.amax(scores, (1,))
            chosen = p.select(top >= limit if m.positive else top > limit, p.scalar(1, dtypes.INT64), chosen)
        return p.gather(labels, chosen, 0), lower_transform(p, scores, transform)
    scores = p.matmul(likeness, p.constant(m.weights)) + p.constant(m.rho)
    # A vote is a one in the column of who wins: scores > 0 times `first`, the others times `second`.
    first, second = np.zeros((2, len(m.pairs), len(m.labels)), np.float32)
    for column, (i, j) in enumerate(m.pairs):
        first[column, i], second[column, j] = 1, 1
    said = p.cast(scores > 0.0, dtypes.FLOAT)
    votes = p.matmul(said, p.constant(first)) + p.matmul(said * -1.0 + 1.0, p.constant(second))
    chosen = p.gather(labels, p.argmax(votes, 1), 0)
    if m.prob is not None:
        return chosen, lower_transform(p, _lower_coupled(p, scores, m), transform)
    if len(m.pairs) > 1:
        return chosen, lower_transform(p, scores, transform)
    if transform == "PROBIT":
        raise CannotLower("PROBIT of the one score of two classes is not defined")
    if transform == "LOGISTIC":
        return chosen, p.concat([p.sigmoid(p.neg(scores)), p.sigmoid(scores)], 1)
    return chosen, p.concat([p.neg(scores) if transform == "NONE" else scores * -1.0 + 1.0, scores], 1)


def _lower_coupled(p: Any, scores: Any, m: Machines) -> Any:
    """`_coupled` in primitives: columns (N,1) for the elements of Q, a loop for the turns."""
    from gesher.primitives import CannotLower

    assert m.prob is not None
    k = len(m.labels)
    if k > 8:
        raise CannotLower(f"probabilities of {k} classes from those of {len(m.pairs)} pairs")
    raw = p.sigmoid(p.neg(scores * p.constant(m.prob[0]) + p.constant(m.prob[1])))
    one = p.min(p.max(raw, 1e-7), float(np.float32(1 - 1e-7)))
    r: dict[tuple[int, int], Any] = {}
    for column, (i, j) in enumerate(m.pairs):
        r[i, j] = p.take(one, 1, column, column + 1)
        r[j, i] = r[i, j] * -1.0 + 1.0
    q = [[_total([r[o, i] * r[o, i] for o in range(k) if o != i]) if i == j else p.neg(r[j, i] * r[i, j])
          for j in range(k)] for i in range(k)]

    def turn(p: Any, _turn: Any, carried: Any, _slices: Any) -> Any:
        now, going = carried
        old = [p.take(now, 1, i, i + 1) for i in range(k)]
        qp = [_total([q[i][j] * old[j] for j in range(k)]) for i in range(k)]
        pqp = _total([old[i] * qp[i] for i in range(k)])
        error = p.amax(p.concat([p.abs(x - pqp) for x in qp], 1), (1,), keepdims=True)
        going = p.and_(going, error >= 0.005 / k)
        new = list(old)
        for i in range(k):
            step = (pqp - qp[i]) / q[i][i]
            scale = step + 1.0
            new[i] = new[i] + step
            pqp = (pqp + step * (step * q[i][i] + qp[i] * 2.0)) / scale / scale
            qp = [(qp[j] + step * q[i][j]) / scale for j in range(k)]
            new = [x / scale for x in new]
        return [p.select(going, p.concat(new, 1), now), going], []

    n = scores.shape[0]
    start = [p.full((n, k), 1 / k, dtypes.FLOAT), p.full((n, 1), True, dtypes.BOOL)]
    (result, _going), _ = p.loop(_TURNS, start, turn)
    return result


def _total(terms: list[Any]) -> Any:
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


