"""Complex operators that do the same to both parts, or that are formulas of what is there: see `complexes`."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from . import complexes
from .complexes import exponential, lifted, pair, parts, product
from .translation import COMPLEX, PARTS, TABLE, Pair, Translation, aten


def _complex(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return aten(*names, table=COMPLEX)


# Both parts alike

def _real_fake(fake: Any) -> Any:
    """What PyTorch says of a complex result, said of one of its parts."""
    if isinstance(fake, (list, tuple)):
        return [_real_fake(f) for f in fake]
    if not isinstance(fake, torch.Tensor):
        return fake
    return SimpleNamespace(dtype=PARTS.get(fake.dtype, fake.dtype), shape=fake.shape, is_complex=lambda: False)


def _part(t: Translation, x: Any, which: int) -> Any:
    if isinstance(x, Pair):
        return parts(t, x)[which]
    if isinstance(x, complex):
        raise UnsupportedError("a complex number where a size or factor is asked for has no way to ONNX", who="torch")
    return [_part(t, v, which) for v in x] if isinstance(x, (list, tuple)) else x


@_complex("diag_embed", "masked_select", "take", "split_with_sizes_copy", "unbind_copy.int", "unfold_copy",
          "pixel_shuffle", "pixel_unshuffle", "scatter.src", "scatter_add", "put", "masked_scatter", "diagonal_scatter",
          "as_strided_scatter", "index_add", "lerp.Scalar")
def _(t: Translation, *arguments: Any, **keywords: Any) -> Any:
    if not all(isinstance(f, (list, tuple)) or f is None or f.is_complex() or not f.is_floating_point()
               for f in t.fakes):
        raise UnsupportedError(f"{t.target} of complex and real numbers together has no way to ONNX yet", who="torch")
    whole, t.out = t.out, _real_fake(t.out)
    try:
        made = [TABLE[t.target](t, *_part(t, arguments, which), **{k: _part(t, v, which) for k, v in keywords.items()})
                for which in (0, 1)]
    finally:
        t.out = whole
    if isinstance(made[0], (list, tuple)):
        return [pair(t, re, im) for re, im in zip(*made)]
    return pair(t, *made)


@_complex("pad")
def _(t: Translation, z: Pair, pads: Any, mode: str = "constant", value: Any = None) -> Pair:
    if isinstance(value, complex):
        raise UnsupportedError("padding with a complex number has no way to ONNX yet", who="torch")
    whole, t.out = t.out, _real_fake(t.out)
    try:
        re, im = (TABLE["aten.pad.default"](t, v, pads, mode, w)
                  for v, w in zip(parts(t, z), (value, None if value is None else 0)))
    finally:
        t.out = whole
    return pair(t, re, im)


@_complex("var.correction", "var", "var.dim", "std.correction", "std", "std.dim")
def _(t: Translation, z: Pair, *arguments: Any, **keywords: Any) -> Value:
    """How far numbers are from their mean in the plane: both parts' variances together."""
    name = t.target.replace(".std.", ".var.")
    re, im = (TABLE[name](t, v, *arguments, **keywords) for v in parts(t, z))
    total = t.b.Add(re, im)
    return t.b.Sqrt(total) if ".std." in t.target else total


@_complex("var_mean.correction")
def _(t: Translation, z: Pair, dims: Any = None, *, correction: Any = None, keepdim: bool = False
      ) -> tuple[Value, Pair]:
    re, im = (TABLE["aten.var.correction"](t, v, dims, correction=correction, keepdim=keepdim) for v in parts(t, z))
    var = t.b.Add(re, im)
    axes = range(t.rank(z.value) - 1) if not dims else [t.axis(d, t.rank(z.value) - 1) for d in dims]
    mean = Pair(t.reduce("ReduceMean", z.value, list(axes), keepdim))
    return var, mean


# Truth

def _truth(t: Translation, z: Any) -> Value:
    if not isinstance(z, Pair):
        return t.cast(t.value(z), dtypes.BOOL)
    re, im = (t.cast(v, dtypes.BOOL) for v in parts(t, z))
    return t.b.Or(re, im)


@_complex("logical_not")
def _(t: Translation, z: Pair) -> Value:
    return t.b.Not(_truth(t, z))


@_complex("logical_and", "logical_or", "logical_xor")
def _(t: Translation, x: Any, y: Any) -> Value:
    name = {"and": "And", "or": "Or", "xor": "Xor"}[t.target.split(".")[1].removeprefix("logical_")]
    return t.b.op(name, _truth(t, x), _truth(t, y))


@_complex("any", "any.dim", "any.dims", "all", "all.dim", "all.dims", "nonzero")
def _(t: Translation, z: Pair, *arguments: Any, **keywords: Any) -> Value:
    made: Value = TABLE[t.target](t, _truth(t, z), *arguments, **keywords)
    return made


# Formulas

def _tanh(t: Translation, a: Value, b: Value) -> tuple[Value, Value]:
    """Of a + i b, by the parts' own tangents, which overflow nowhere."""
    high, turn = t.b.Tanh(a), t.b.Div(t.b.Sin(b), t.b.Cos(b))
    one = t.scalar(1, a)
    high2, turn2 = t.b.Mul(high, high), t.b.Mul(turn, turn)
    below = t.b.Add(one, t.b.Mul(high2, turn2))
    return (t.b.Div(t.b.Mul(high, t.b.Add(one, turn2)), below),
            t.b.Div(t.b.Mul(turn, t.b.Sub(one, high2)), below))


@_complex("tanh")
def _(t: Translation, z: Pair) -> Pair:
    return pair(t, *_tanh(t, *parts(t, z)))


@_complex("tan")
def _(t: Translation, z: Pair) -> Pair:
    """-i tanh(i z)"""
    a, b = parts(t, z)
    re, im = _tanh(t, t.b.Neg(b), a)
    return pair(t, im, t.b.Neg(re))


@_complex("log1p")
def _(t: Translation, z: Pair) -> Pair:
    a, b = parts(t, z)
    two = t.scalar(2, a)
    beside = t.b.Add(t.b.Mul(a, t.b.Add(a, two)), t.b.Mul(b, b))
    whole, t.out = t.out, _real_fake(t.out)
    try:
        size = t.b.Div(TABLE["aten.log1p.default"](t, beside), two)
    finally:
        t.out = whole
    return pair(t, size, complexes.arctangent(t, b, t.b.Add(a, t.scalar(1, a))))


@_complex("expm1")
def _(t: Translation, z: Pair) -> Pair:
    """e^a cos b - 1 = (e^a - 1) cos b - 2 sin(b / 2)^2, without a difference of near numbers."""
    a, b = parts(t, z)
    two = t.scalar(2, a)
    half = t.b.Div(a, two)
    less = t.b.Mul(t.b.Mul(two, t.b.Sinh(half)), t.b.Exp(half))
    turn = t.b.Sin(t.b.Div(b, two))
    re = t.b.Sub(t.b.Mul(less, t.b.Cos(b)), t.b.Mul(two, t.b.Mul(turn, turn)))
    return pair(t, re, t.b.Mul(t.b.Exp(a), t.b.Sin(b)))


@_complex("exp2")
def _(t: Translation, z: Pair) -> Pair:
    return exponential(t, Pair(t.b.Mul(z.value, t.scalar(math.log(2), z.value))))


@_complex("silu")
def _(t: Translation, z: Pair) -> Pair:
    return product(t, z, COMPLEX["aten.sigmoid.default"](t, z))


# Products and sums

@_complex("outer", "ger")
def _(t: Translation, x: Any, y: Any) -> Pair:
    def standing(v: Any) -> Any:
        return Pair(t.unsqueeze(v.value, [1])) if isinstance(v, Pair) else t.unsqueeze(v, [1])

    return product(t, standing(x), y)


@_complex("addmm", "baddbmm", "addmv", "addbmm")
def _(t: Translation, c: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> Pair:
    made: Pair = COMPLEX["aten.matmul.default"](t, x, y)
    if ".addbmm." in t.target:
        made = Pair(t.reduce("ReduceSum", made.value, [0], False))
    made = made if alpha == 1 else product(t, made, alpha)
    c = c if beta == 1 else product(t, c, beta)
    return made if beta == 0 else Pair(t.b.Add(made.value, lifted(t, c)))


@_complex("addcdiv")
def _(t: Translation, c: Any, x: Any, y: Any, *, value: Any = 1) -> Pair:
    made = complexes.quotient(t, x, y)
    return Pair(t.b.Add(lifted(t, c), (made if value == 1 else product(t, made, value)).value))
