"""Random numbers: normal, uniform, Bernoulli, multinomial.

Without `seed` they come from the generator of the run; with it a node gives the same numbers each time. No two engines
draw the same numbers, so tests can only look at how they are distributed. Nothing here lowers: the engine draws by the
reference rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.ir import DimLike

from ..arithmetic import widen
from ..rules import InferNode, Run
from ..schema import ALL, BF16, BOOL, FLOATS, NUMBERS, REQUIRED, Attr, Input, Operator, Output, op, tensors

_SEED = Attr("seed", "float")
_DTYPE = Attr("dtype", "int")
_SHAPED = (Attr("shape", "ints", REQUIRED), Attr("dtype", "int", dtypes.FLOAT.code), _SEED)
_NORMAL = (Attr("mean", "float", 0.0), Attr("scale", "float", 1.0))
_UNIFORM = (Attr("low", "float", 0.0), Attr("high", "float", 1.0))

RandomNormal = op("RandomNormal", Output("output"), *_SHAPED, *_NORMAL, T=FLOATS).since(22, T=FLOATS | BF16)
RandomUniform = op("RandomUniform", Output("output"), *_SHAPED, *_UNIFORM, T=FLOATS).since(22, T=FLOATS | BF16)
RandomNormalLike = (op("RandomNormalLike", Input("input", "T1"), Output("output", "T2"), _DTYPE, _SEED, *_NORMAL,
                       T1=ALL, T2=FLOATS)
                    .since(22, T1=ALL | BF16, T2=FLOATS | BF16))
RandomUniformLike = (op("RandomUniformLike", Input("input", "T1"), Output("output", "T2"), _DTYPE, _SEED, *_UNIFORM,
                        T1=ALL, T2=FLOATS)
                     .since(22, T1=ALL | BF16, T2=FLOATS | BF16))
Bernoulli = (op("Bernoulli", Input("input", "T1"), Output("output", "T2"), _DTYPE, _SEED, since=15, T1=FLOATS,
                T2=NUMBERS | BF16 | BOOL)
             .since(22, T1=FLOATS | BF16))
Multinomial = (op("Multinomial", Input("input", "T1"), Output("output", "T2"), Attr("sample_size", "int", 1),
                  Attr("dtype", "int", dtypes.INT32.code), _SEED, since=7, T1=FLOATS, T2=tensors("int32 int64"))
               .since(22, T1=FLOATS | BF16))


def _infer(node: InferNode, shape: Sequence[DimLike | None] | None, dtype: DType) -> None:
    """The output's type, where the attribute `dtype` or else `dtype` names one that the schema gives."""
    if node["dtype"] is not None:
        found = dtypes.BY_CODE.get(node["dtype"])
        if found is None:
            node.fail(f"dtype is {node['dtype']}, which names no data type")
        dtype = found
    allowed = node.schema.allowed(node.schema.outputs[0].type)
    if dtype is not dtypes.UNDEFINED and f"tensor({dtype.name})" not in allowed:
        node.fail(f"it gives no {dtype.name}", "say one of its types by the attribute dtype")
    node.set(0, dtype, shape)


def _generator(seed: float | None, run: Run) -> np.random.Generator:
    return run.random if seed is None else np.random.default_rng(int(np.float32(seed).view(np.uint32)))


def _numpy(code: int) -> Any:
    return dtypes.by_code(code).numpy


def _give_rules(shaped: Operator, like: Operator, draw: Any) -> None:
    """`draw(generator, shape, **parameters)` gives doubles."""

    @shaped.infer
    def _(node: InferNode) -> None:
        if any(d < 0 for d in node["shape"]):
            node.fail(f"shape {list(node['shape'])} has a negative size")
        _infer(node, node["shape"], dtypes.UNDEFINED)

    @like.infer
    def _(node: InferNode) -> None:
        _infer(node, None if (fact := node.input(0)) is None else fact.shape, node.dtype(0))

    @shaped.reference
    def _(*, shape: Sequence[int], dtype: int, seed: float | None, run: Run, **parameters: float) -> Any:
        run.allow(shape, np.float64)
        return np.asarray(draw(_generator(seed, run), tuple(shape), **parameters)).astype(_numpy(dtype))

    @like.reference
    def _(x: Any, *, dtype: int | None, seed: float | None, run: Run, **parameters: float) -> Any:
        numbers = np.asarray(draw(_generator(seed, run), x.shape, **parameters))
        return numbers.astype(x.dtype if dtype is None else _numpy(dtype))


def _normal(generator: np.random.Generator, shape: tuple[int, ...], *, mean: float, scale: float) -> Any:
    return generator.standard_normal(shape) * scale + mean


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], *, low: float, high: float) -> Any:
    return generator.random(shape) * (high - low) + low


_give_rules(RandomNormal, RandomNormalLike, _normal)
_give_rules(RandomUniform, RandomUniformLike, _uniform)


@Bernoulli.infer
def _(node: InferNode) -> None:
    _infer(node, None if (fact := node.input(0)) is None else fact.shape, node.dtype(0))


@Bernoulli.reference
def _(x: Any, *, dtype: int | None, seed: float | None, run: Run) -> Any:
    drawn = _generator(seed, run).random(x.shape) < widen(x)
    return np.asarray(drawn).astype(x.dtype if dtype is None else _numpy(dtype))


@Multinomial.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is not None and len(shape) != 2:
        node.fail(f"the scores have {len(shape)} axes, they should be of shape (batch, classes)")
    _infer(node, (None if shape is None else shape[0], node["sample_size"]), dtypes.INT32)


@Multinomial.reference
def _(x: Any, *, sample_size: int, dtype: int, seed: float | None, run: Run) -> Any:
    # x (batch, classes): logarithms of probabilities, not normalised.
    if x.ndim != 2 or not x.shape[1]:
        raise RunError(f"Multinomial: the scores have the shape {x.shape}, they should be (batch, classes)")
    run.allow((x.shape[0], sample_size), np.float64)
    scores = x.astype(np.float64)
    weights = np.cumsum(np.exp(scores - scores.max(1, keepdims=True)), 1)
    points = _generator(seed, run).random((x.shape[0], sample_size)) * weights[:, -1:]
    rows = [np.searchsorted(w, p, side="right") for w, p in zip(weights, points)]
    return np.array(rows, dtype=_numpy(dtype)).reshape(x.shape[0], sample_size)
