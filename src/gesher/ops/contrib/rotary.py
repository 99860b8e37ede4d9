"""RotaryEmbedding of com.microsoft: ONNX's own, with the inputs in another order; MRotaryEmbedding: of three positions.

A token of a picture has a position in time, height and width, and `mrope_section` says how many angles each of them
has: one after the other (`mrope_layout` 0), or in turn (1), where time takes what is left.

Positions may be one number: then a sequence begins there. Where `num_heads` is not written, the caches tell how long a
head is. ONNX Runtime's CPU build does nothing with `scale` and `is_packed_batching`, and neither do these rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.ops.borrowing import rule_of
from gesher.ops.core.attention import RotaryEmbedding as Rotary
from gesher.ops.core.attention import rotary_embedding
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, CannotLower, Expr

from .types import MS, REALS

RotaryEmbedding = op("RotaryEmbedding", Input("input"), Input("position_ids", "M"), Input("cos_cache"),
                     Input("sin_cache"), Output("output"), Attr("scale", "float"), Attr("interleaved", "int"),
                     Attr("rotary_embedding_dim", "int"), Attr("num_heads", "int"), Attr("is_packed_batching", "int"),
                     domain=MS, T=REALS, M=tensors("int64"))


@RotaryEmbedding.infer
def _(node: InferNode) -> None:
    x, positions, cos, sin = (node.shape(i) for i in range(4))
    if x is not None and len(x) not in (3, 4):
        node.fail(f"the input is (batch, length, features) or (batch, heads, length, size), not {print_shape(x)}")
    if positions is not None and x is not None:
        if len(positions) == 2:
            node.unify(positions[0], x[0], "the batches of the input and of position_ids")
            node.unify(positions[1], x[-2], "the lengths of the input and of position_ids")
        elif len(positions) != 1:
            node.fail(f"position_ids is (1) or (batch, length), not {print_shape(positions)}")
    if cos is not None and sin is not None:
        for i, (a, b) in enumerate(zip(cos, sin)):
            node.unify(a, b, f"axis {i} of the caches of cosines and sines")
    if node["rotary_embedding_dim"] and not node["num_heads"]:
        node.fail("with rotary_embedding_dim, num_heads must be written")
    node.set(0, node.dtype(0), x)


def _heads(shape: Any, cache: Any, num_heads: int | None) -> int | None:
    """How many heads stand side by side; None where they are apart."""
    if len(shape) == 4:
        return None
    if num_heads:
        return num_heads
    size = cache[1] * 2
    if not isinstance(size, int) or not isinstance(shape[2], int):
        raise CannotLower("heads whose number depends on symbolic sizes")
    if shape[2] % size:
        raise ModelError(f"RotaryEmbedding: heads of {size} do not divide {shape[2]} features", rule="rotary-embedding")
    return shape[2] // size


@RotaryEmbedding.reference
def rotary_embedding_ms(x: Any, position_ids: Any, cos_cache: Any, sin_cache: Any, *, scale: float | None,
                        interleaved: int | None, rotary_embedding_dim: int | None, num_heads: int | None,
                        is_packed_batching: int | None) -> Any:
    length = x.shape[-2]
    positions = position_ids
    if position_ids.ndim == 1:
        positions = np.broadcast_to(position_ids[0] + np.arange(length), (x.shape[0], length))
    return rotary_embedding(x, cos_cache, sin_cache, positions, interleaved=interleaved or 0,
                            rotary_embedding_dim=rotary_embedding_dim or 0,
                            num_heads=_heads(x.shape, cos_cache.shape, num_heads))


@RotaryEmbedding.lower
def _(p: Builder, x: Expr, position_ids: Expr, cos_cache: Expr, sin_cache: Expr, *, scale: float | None,
      interleaved: int | None, rotary_embedding_dim: int | None, num_heads: int | None,
      is_packed_batching: int | None) -> Expr:
    positions = position_ids
    if position_ids.rank == 1:
        length = x.shape[-2]
        positions = p.broadcast_to(p.iota((1, length), 1, dtypes.INT64) + p.reshape(position_ids, (1, 1)),
                                   (x.shape[0], length))
    result: Expr = rule_of(Rotary, "lower", 23)(
        p, x, cos_cache, sin_cache, positions, interleaved=interleaved or 0,
        rotary_embedding_dim=rotary_embedding_dim or 0, num_heads=_heads(x.shape, cos_cache.shape, num_heads))
    return result


# MRotaryEmbedding

MRotaryEmbedding = op("MRotaryEmbedding", Input("input"), Input("position_ids", "M"), Input("cos_cache"),
                      Input("sin_cache"), Output("output"), Attr("scale", "float"), Attr("interleaved", "int"),
                      Attr("rotary_embedding_dim", "int"), Attr("num_heads", "int"),
                      Attr("is_packed_batching", "int"), Attr("mrope_section", "ints", REQUIRED),
                      Attr("mrope_layout", "int"), domain=MS, T=REALS, M=tensors("int64"))


@MRotaryEmbedding.infer
def _(node: InferNode) -> None:
    x, positions, cos = (node.shape(i) for i in range(3))
    sections = node["mrope_section"]
    if len(sections) != 3 or min(sections) < 0:
        node.fail(f"mrope_section holds three counts, not {list(sections)}")
    if node["mrope_layout"] not in (None, 0, 1):
        node.fail(f"mrope_layout is {node['mrope_layout']}", "it is 0 or 1")
    if cos is not None:
        node.unify(cos[1], sum(sections), "the angles of the caches and of mrope_section")
    if positions is not None:
        if len(positions) != 3:
            node.fail(f"position_ids is (3, batch, length), not {print_shape(positions)}")
        node.unify(positions[0], 3, "the rows of position_ids")
        if x is not None:
            node.unify(positions[1], x[0], "the batches of the input and of position_ids")
            node.unify(positions[2], x[-2], "the lengths of the input and of position_ids")
    node.set(0, node.dtype(0), x)


def _streams(sections: Any, layout: int | None) -> Any:
    """For each angle, which of the three positions it turns by."""
    if not layout:
        return np.repeat(np.arange(3), sections)
    streams = np.zeros(sum(sections), np.int64)
    for stream in (1, 2):
        streams[stream:sections[stream] * 3:3] = stream
    return streams


@MRotaryEmbedding.reference
def mrotary_embedding(x: Any, position_ids: Any, cos_cache: Any, sin_cache: Any, *, mrope_section: Any,
                      mrope_layout: int | None, interleaved: int | None, rotary_embedding_dim: int | None,
                      num_heads: int | None, scale: float | None, is_packed_batching: int | None) -> Any:
    streams = _streams(mrope_section, mrope_layout)
    # (batch, length, angles): each angle of the row that its own position names
    cos, sin = (c[position_ids[streams].transpose(1, 2, 0), np.arange(len(streams))] for c in (cos_cache, sin_cache))
    return rotary_embedding(x, cos, sin, interleaved=interleaved or 0, rotary_embedding_dim=rotary_embedding_dim or 0,
                            num_heads=_heads(x.shape, cos_cache.shape, num_heads))


@MRotaryEmbedding.lower
def _(p: Builder, x: Expr, position_ids: Expr, cos_cache: Expr, sin_cache: Expr, *, mrope_section: Any,
      mrope_layout: int | None, interleaved: int | None, rotary_embedding_dim: int | None, num_heads: int | None,
      scale: float | None, is_packed_batching: int | None) -> Expr:
    streams = _streams(mrope_section, mrope_layout)

    def turned(cache: Expr) -> Expr:
        rows = p.gather(cache, position_ids, 0)  # (3, batch, length, angles)
        parts = [p.squeeze(p.take(rows, 0, i, i + 1), [0]) for i in range(3)]
        found = parts[0]
        for i in (1, 2):
            found = p.select(p.constant((streams == i).reshape(1, 1, -1)), parts[i], found)
        return found

    result: Expr = rule_of(Rotary, "lower", 23)(
        p, x, turned(cos_cache), turned(sin_cache), None, interleaved=interleaved or 0,
        rotary_embedding_dim=rotary_embedding_dim or 0, num_heads=_heads(x.shape, cos_cache.shape, num_heads))
    return result
