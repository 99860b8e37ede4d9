"""Losses of classifiers: NegativeLogLikelihoodLoss, and SoftmaxCrossEntropyLoss, which takes the logarithms itself.

Scores are (N, C, d1, ..., dk), targets (N, d1, ..., dk) with a class for each place. Places whose target is
`ignore_index` count nowhere, and their target need not be a class. The mean is weighted: the sum of the losses over the
sum of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError

from ..arithmetic import wide, widen, widened
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Input, Output, op, tensors
from ..sizes import from_front, print_sizes

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

TIND = tensors("int32 int64")

NegativeLogLikelihoodLoss = (
    op("NegativeLogLikelihoodLoss", Input("input"), Input("target", "Tind"), Input("weight", optional=True),
       Output("loss"), Attr("reduction", "string", "mean"), Attr("ignore_index", "int"), since=12, T=FLOATS, Tind=TIND)
    .since(13)
    .since(22, T=FLOATS | BF16))
SoftmaxCrossEntropyLoss = (
    op("SoftmaxCrossEntropyLoss", Input("scores"), Input("labels", "Tind"), Input("weights", optional=True),
       Output("output"), Output("log_prob", optional=True), Attr("reduction", "string", "mean"),
       Attr("ignore_index", "int"), since=12, T=FLOATS, Tind=TIND)
    .since(13, T=FLOATS | BF16))


@NegativeLogLikelihoodLoss.infer
@SoftmaxCrossEntropyLoss.infer
def _(node: InferNode) -> None:
    scores, target, weight = node.shape(0), node.shape(1), node.shape(2)
    if node["reduction"] not in ("none", "sum", "mean"):
        node.fail(f"there is no reduction {node['reduction']!r}")
    if scores is not None:
        if len(scores) < 2:
            node.fail(f"the scores are (N, C, ...), not of shape {print_sizes(scores)}")
        places: tuple[Any, ...] = (scores[0], *scores[2:])
        if target is not None:
            if len(target) != len(places):
                node.fail(f"the target has the rank {len(target)}, the scores leave {len(places)} axes for it")
            places = tuple(node.unify(a, b, f"axis {i} of the target and of the places that are scored")
                           for i, (a, b) in enumerate(zip(places, target)))
        target = places
        if weight is not None:
            if len(weight) != 1:
                node.fail(f"the weights are a list, not of shape {print_sizes(weight)}")
            node.unify(scores[1], weight[0], "a weight for each class")
    node.set(0, node.dtype(0), target if node["reduction"] == "none" else (),
             why="" if target is not None else "the shape of scores and target is unknown")
    node.set(1, node.dtype(0), scores, why="the rank of the scores is unknown")


def _loss(log: Any, target: Any, weight: Any, ignore: int | None, reduction: str) -> Any:
    """The loss of logarithms of probabilities, float32 or wider."""
    counts = np.full(target.shape, True) if ignore is None else target != ignore
    classes = np.where(counts, target, 0)
    if classes.size and not 0 <= classes.min() <= classes.max() < log.shape[1]:
        raise RunError(f"a target is not within [0, {log.shape[1] - 1}]")
    picked = np.take_along_axis(log, np.expand_dims(classes, 1), 1).squeeze(1)
    weights = np.where(counts, 1 if weight is None else weight[classes], 0).astype(log.dtype)
    loss = np.where(counts, -picked * weights, 0).astype(log.dtype)
    if reduction == "none":
        return loss
    return loss.sum() / weights.sum() if reduction == "mean" else loss.sum()


@NegativeLogLikelihoodLoss.reference
def negative_log_likelihood_loss(log: Any, target: Any, weight: Any = None, *, reduction: str,
                                 ignore_index: int | None) -> Any:
    with np.errstate(all="ignore"):
        loss = _loss(widen(log), target, None if weight is None else widen(weight), ignore_index, reduction)
        return np.asarray(loss).astype(log.dtype)


@SoftmaxCrossEntropyLoss.reference
def softmax_cross_entropy_loss(scores: Any, labels: Any, weights: Any = None, *, reduction: str,
                               ignore_index: int | None) -> Any:
    with np.errstate(all="ignore"):
        x = widen(scores)
        # log(exp(x) / sum(exp(x))) without a large or a tiny number on the way
        shifted = x - x.max(1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        loss = _loss(log, labels, None if weights is None else widen(weights), ignore_index, reduction)
        return np.asarray(loss).astype(scores.dtype), log.astype(scores.dtype)


def _lower_loss(p: Builder, log: Expr, target: Expr, weight: Expr | None, ignore: int | None, reduction: str) -> Expr:
    target = p.cast(target, dtypes.INT64)
    counts = None if ignore is None else p.ne(target, ignore)
    classes = from_front(p, target if counts is None else p.select(counts, target, 0), log.shape[1])
    picked = p.squeeze(p.gather_along(log, p.expand_dims(classes, 1), 1), 1)
    weights = p.full(picked.shape, 1.0, log.dtype) if weight is None else p.gather(weight, classes)
    if counts is not None:
        weights = p.select(counts, weights, 0.0)
    loss = -(picked * weights)
    if counts is not None:
        loss = p.select(counts, loss, 0.0)
    if reduction == "none":
        return loss
    return p.sum(loss) / p.sum(weights) if reduction == "mean" else p.sum(loss)


@NegativeLogLikelihoodLoss.lower
def _(p: Builder, log: Expr, target: Expr, weight: Expr | None = None, *, reduction: str,
      ignore_index: int | None) -> Expr:
    loss = _lower_loss(p, widened(p, log), target, wide(p, weight), ignore_index, reduction)
    return p.cast(loss, log.dtype)


@SoftmaxCrossEntropyLoss.lower
def _(p: Builder, scores: Expr, labels: Expr, weights: Expr | None = None, *, reduction: str,
      ignore_index: int | None) -> tuple[Expr, Expr]:
    x = widened(p, scores)
    shifted = x - p.amax(x, 1, keepdims=True)
    log = shifted - p.log(p.sum(p.exp(shifted), 1, keepdims=True))
    loss = _lower_loss(p, log, labels, wide(p, weights), ignore_index, reduction)
    return p.cast(loss, scores.dtype), p.cast(log, scores.dtype)
