"""FlexAttention: attention whose scores and probabilities pass through graphs of the model's own.

Queries (batch, heads, length, head size) share keys and values in groups where there are more of them. What a reader
would guess wrong: the scale is split, and both factors multiplied by its root in the inputs' type; from the scores on,
everything is computed in `softmax_precision` (float32 where it is not written, double for double), and only the result
is rounded back. A row whose scores are all -inf gives NaN, as Softmax does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError
from gesher.ir import Graph
from gesher.symbolic import decide_eq

from ..bodies import ask
from ..fact import Fact
from ..rules import InferNode, Run
from ..schema import BF16, FLOATS, Attr, Input, Output, op
from ..training.way import Forward, Held, captured

PREVIEW = "ai.onnx.preview"
Array = np.ndarray[Any, Any]

FlexAttention = op("FlexAttention", Input("Q", "T1"), Input("K", "T1"), Input("V", "T1"), Output("Y", "T1"),
                   Attr("score_mod", "graph"), Attr("prob_mod", "graph"), Attr("softmax_precision", "int"),
                   Attr("scale", "float"), domain=PREVIEW, T1=FLOATS | BF16)


def _precision(dtype: DType, asked: int | None) -> DType:
    """In what type the softmax is computed."""
    if asked is None:
        return dtypes.DOUBLE if dtype is dtypes.DOUBLE else dtypes.FLOAT
    allowed = (dtypes.FLOAT, dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.DOUBLE)
    for d in allowed:
        if d.code == asked:
            return d
    raise ModelError(f"FlexAttention: softmax_precision {asked} is no float type", rule="attribute-value",
                     advice="it is one of " + ", ".join(f"{d.code} ({d.name})" for d in allowed))


@FlexAttention.infer
def _(node: InferNode) -> None:
    shapes = [node.shape(i) for i in range(3)]
    for name, shape in zip("QKV", shapes):
        if shape is not None and len(shape) != 4:
            node.fail(f"{name} has 4 axes, not {len(shape)}")
    q, k, v = shapes
    precision = _precision(node.dtype(0), node["softmax_precision"]) if node.dtype(0).is_float else dtypes.UNDEFINED
    if q is None or k is None or v is None:
        node.set(0, node.dtype(0), None)
        return
    batch = node.unify(node.unify(q[0], k[0], "the batches of Q and K"), v[0], "the batches of Q and V")
    heads = node.unify(k[1], v[1], "the heads of K and V")
    keys = node.unify(k[2], v[2], "the lengths of K and V")
    node.unify(q[3], k[3], "the head sizes of Q and K")
    if isinstance(heads, int) and (heads == 0 or decide_eq(q[1] % heads, 0) is False):
        node.fail(f"{q[1]} heads of Q do not share {heads} heads of K evenly")
    for name in ("score_mod", "prob_mod"):
        graph = node[name]
        if graph is None:
            continue
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            node.fail(f"{name} takes {len(graph.inputs)} values and gives {len(graph.outputs)}, not one each")
        scores = (batch, q[1], q[2], keys)
        [answer] = ask(node, graph, [Fact.tensor(precision, scores)])
        if answer is not None and answer.shape is not None:
            if len(answer.shape) != 4:
                node.fail(f"{name} makes rank {len(answer.shape)} of rank 4")
            for a, b in zip(answer.shape, scores):
                node.unify(a, b, f"{name} keeps the shape of the scores")
    node.set(0, node.dtype(0), (batch, q[1], q[2], v[3]))


def _root(scale: float | None, size: Any) -> float:
    return float(np.sqrt(np.float32(1 / np.sqrt(size) if scale is None else scale)))


def _product(a: Array, b: Array) -> Array:
    """Summed in float32 where the type is narrower, rounded once."""
    if a.dtype.itemsize >= 4:
        return np.matmul(a, b)
    return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)


def _modified(run: Run, name: str, graph: Graph | None, scores: Array) -> Array:
    if graph is None:
        return scores
    [result] = run.run_graph(graph, [scores])
    if result.shape != scores.shape or result.dtype != scores.dtype:
        raise ModelError(f"FlexAttention: {name} makes {result.dtype}{list(result.shape)} of "
                         f"{scores.dtype}{list(scores.shape)}", rule="subgraph-type",
                         advice="it must keep type and shape; softmax_precision tells the type")
    return np.asarray(result)


@FlexAttention.reference
def flex_attention(q: Array, k: Array, v: Array, *, scale: float | None, softmax_precision: int | None,
                   score_mod: Graph | None, prob_mod: Graph | None, run: Run) -> Array:
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ModelError(f"FlexAttention: {q.shape[1]} heads of Q do not share {k.shape[1]} heads of K evenly",
                         rule="shape")
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    precision = _precision(dtypes.from_numpy(q.dtype), softmax_precision).numpy
    root = np.asarray(_root(scale, q.shape[3])).astype(q.dtype)
    run.allow((*q.shape[:3], k.shape[2]), precision)
    scores = _product(q * root, np.swapaxes(k * root, 2, 3)).astype(precision)
    scores = _modified(run, "score_mod", score_mod, scores)
    e = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
    probabilities = _modified(run, "prob_mod", prob_mod, e / e.sum(-1, keepdims=True))
    return _product(probabilities, v.astype(precision)).astype(q.dtype)


@FlexAttention.lower
def _(p: Any, q: Any, k: Any, v: Any, *, scale: float | None, softmax_precision: int | None,
      score_mod: Graph | None, prob_mod: Graph | None) -> Any:
    from gesher.primitives import CannotLower

    if not isinstance(q.shape[1], int) or not isinstance(k.shape[1], int) or not isinstance(q.shape[3], int):
        raise CannotLower("the heads or their size are not known before the run")
    batch, heads, length, size = q.shape
    shared = k.shape[1]
    if not shared or heads % shared:
        raise ModelError(f"FlexAttention: {heads} heads of Q do not share {shared} heads of K evenly", rule="shape")
    precision, root = _precision(q.dtype, softmax_precision), _root(scale, size)
    # The queries of one group side by side: no key is repeated.
    grouped = p.reshape(q * root, (batch, shared, heads // shared * length, size))
    scores = p.cast(p.contract(grouped, k * root, [3], [3], [0, 1], [0, 1]), precision)
    scores = _lower_modified(p, "score_mod", score_mod, scores, heads, length)
    e = p.exp(scores - p.amax(scores, (3,), keepdims=True))
    weights = _lower_modified(p, "prob_mod", prob_mod, e / p.sum(e, (3,), keepdims=True), heads, length)
    mixed = p.contract(weights, p.cast(v, precision), [3], [2], [0, 1], [0, 1])
    return p.cast(p.reshape(mixed, (batch, heads, length, v.shape[3])), q.dtype)


def _lower_modified(p: Any, name: str, graph: Graph | None, grouped: Any, heads: int,
                    length: Any) -> Any:
    """Scores (batch, shared heads, queries of a group, keys) through a graph that sees all heads apart."""
    from gesher.primitives import CannotLower

    if graph is None:
        return grouped
    if p.site is None or captured(p.site.node):
        raise CannotLower(f"{name} reads values around it")
    scores = p.reshape(grouped, (grouped.shape[0], heads, length, grouped.shape[3]))
    [made] = Forward(p, p.site.resolve).through(graph, [Held(expr=scores)])
    if made.expr is None or made.expr.dtype is not scores.dtype or len(made.expr.shape) != 4 or not all(
            decide_eq(a, b) for a, b in zip(made.expr.shape, scores.shape)):
        raise CannotLower(f"{name} may change the shape or type of the scores")
    return p.reshape(made.expr, grouped.shape)
