"""MoEGroupRouter: experts stand in groups, and a token may only go to experts of the groups that suit it best.

The score of an expert is the sigmoid of its logit. With its bias added it competes: a group by the sum of its
`group_topk` best, an expert among those of the `topk_group` best groups. What comes out is the logarithm of the score,
without the bias, where an expert is chosen, and `router_sentinel` elsewhere. Equal ones go to the lower number.

Or scores come out whole, with and without the bias, for others to choose from; then logits may be made here, from
activations and a `projection_weight`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.gates import ACTIVATIONS
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq, product

from .types import FLOAT, MS, REALS

MoEGroupRouter = op("MoEGroupRouter", Input("logits"), Input("expert_bias", "TF"),
                    Input("projection_weight", optional=True), Output("router_probs", optional=True),
                    Output("selection_scores", "TF", optional=True), Output("router_weights", "TF", optional=True),
                    Attr("top_k", "int", REQUIRED), Attr("n_group", "int", 1), Attr("topk_group", "int", 1),
                    Attr("group_topk", "int", 2), Attr("router_sentinel", "float", -10000.0), domain=MS, T=REALS,
                    TF=FLOAT)

# The least score that has a logarithm of its own.
_LEAST = 1e-20


def _wanted(node: InferNode, index: int) -> bool:
    return index < len(node.outputs) and node.node.outputs[index] is not None


def _check(experts: DimLike | None, attributes: Any) -> None:
    """Raises ModelError where groups, or what is chosen of them, do not fit the experts."""
    groups, kept, k = attributes["n_group"], attributes["topk_group"], attributes["top_k"]
    if min(groups, kept, k, attributes["group_topk"]) < 1 or kept > groups:
        raise ModelError(f"{kept} of {groups} groups and {k} experts of them, by the best {attributes['group_topk']} "
                         "of each group, are no choice", rule="router")
    if experts is None:
        return
    if decide_eq(experts % groups, 0) is False:
        raise ModelError(f"{experts} experts do not divide into {groups} groups", rule="router")
    if isinstance(experts, int) and k > experts // groups * kept:
        raise ModelError(f"{k} experts are asked for of {kept} groups of {experts // groups}", rule="router")


@MoEGroupRouter.infer
def _(node: InferNode) -> None:
    logits, bias, weight = node.shape(0), node.shape(1), node.shape(2) if node.has(2) else None
    dense, full = _wanted(node, 0), (_wanted(node, 1), _wanted(node, 2))
    if dense == any(full) or full[0] != full[1]:
        node.fail("the outputs are router_probs, or selection_scores and router_weights")
    if any(full) and (node["n_group"], node["topk_group"]) != (1, 1):
        node.fail("whole scores know no groups", "n_group and topk_group are 1")
    if node.has(2) and not any(full):
        node.fail("a projection goes with selection_scores and router_weights")
    if bias is not None and len(bias) != 1:
        node.fail(f"the bias is a list, not {print_shape(bias)}")
    experts = None if bias is None else bias[0]
    rows: DimLike | None = None
    if logits is not None:
        if not logits or (node.has(2) and len(logits) != 2):
            node.fail(f"{print_shape(logits)} are no logits, or no activations of tokens")
        rows = product(logits[:-1])
        if not node.has(2):
            experts = node.unify(experts, logits[-1], "the experts of the logits and of the bias")
    if weight is not None:
        if len(weight) != 2:
            node.fail(f"projection_weight is (experts, width), not {print_shape(weight)}")
        experts = node.unify(experts, weight[0], "the experts of the projection and of the bias")
        if logits is not None:
            node.unify(logits[1], weight[1], "the widths of the activations and of the projection")
    try:
        _check(experts, {name: node[name] for name in ("n_group", "topk_group", "top_k", "group_topk")})
    except ModelError as e:
        node.fail(e.what, e.advice)
    why = "a shape is unknown"
    node.set(0, node.dtype(0), (rows, experts), why=why)
    for i in (1, 2):
        node.set(i, dtypes.FLOAT, (rows, experts), why=why)


def _best(x: Any, k: int) -> Any:
    return np.argsort(-x, -1, kind="stable")[..., :k]


@MoEGroupRouter.reference
def moe_group_router(logits: Any, bias: Any, weight: Any = None, *, top_k: int, n_group: int, topk_group: int,
                     group_topk: int, router_sentinel: float, run: Run) -> Any:
    _check(len(bias), {"n_group": n_group, "topk_group": topk_group, "top_k": top_k, "group_topk": group_topk})
    x = widen(logits).reshape(-1, logits.shape[-1])
    if weight is not None:
        x = x @ widen(weight).T
    scores = ACTIVATIONS["sigmoid"].compute(x, 0.0, 0.0).astype(np.float32)
    biased = scores + bias
    probs = np.full(scores.shape, router_sentinel, np.float32)
    size = len(bias) // n_group
    for row, (score, rank) in enumerate(zip(scores, biased)):
        groups = rank.reshape(n_group, size)
        strength = np.take_along_axis(groups, _best(groups, group_topk), 1).sum(1)
        allowed = np.isin(np.arange(len(bias)) // size, _best(strength, topk_group))
        chosen = _best(np.where(allowed, rank, -np.inf), top_k)
        probs[row, chosen] = np.log(np.maximum(score[chosen], np.float32(_LEAST)))
    return probs.astype(logits.dtype), biased, scores


@MoEGroupRouter.lower
def _(p: Builder, logits: Expr, bias: Expr, weight: Expr | None = None, *, top_k: int, n_group: int, topk_group: int,
      group_topk: int, router_sentinel: float) -> tuple[Expr, ...]:
    x = p.reshape(widened(p, logits), (product(logits.shape[:-1]), logits.shape[-1]))
    if weight is not None:
        x = p.contract(x, widened(p, weight), [1], [1])
    scores = p.sigmoid(x)
    biased = scores + bias
    rows, experts = scores.shape
    if not isinstance(experts, int):
        raise CannotLower("the number of experts is not known")
    _check(experts, {"n_group": n_group, "topk_group": topk_group, "top_k": top_k, "group_topk": group_topk})
    size = experts // n_group
    ranked = biased
    if topk_group < n_group:
        groups = p.reshape(biased, (rows, n_group, size))
        strength = p.sum(p.top_k(groups, min(group_topk, size), 2)[0], [2])
        _, open_groups = p.top_k(strength, topk_group, 1)
        marks = p.scatter_along(p.full((rows, n_group), 0.0, dtypes.FLOAT), open_groups,
                                p.full((rows, topk_group), 1.0, dtypes.FLOAT), 1)
        ranked = p.reshape(p.select(p.gt(p.expand_dims(marks, [2]), 0.0), groups, float("-inf")), (rows, experts))
    _, chosen = p.top_k(ranked, top_k, 1)
    found = p.log(p.max(p.gather_along(scores, chosen, 1), _LEAST))
    probs = p.scatter_along(p.full((rows, experts), router_sentinel, dtypes.FLOAT), chosen, found, 1)
    return (p.cast(probs, logits.dtype), biased, scores)[:p.outputs]
