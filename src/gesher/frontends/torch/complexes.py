"""Complex numbers, as pairs of reals along a last axis of two.

Translators here stand in a table of their own: a node that takes or gives complex numbers is looked up there alone, so
that no real operator ever takes a pair for a plain tensor. They are given `Pair`s where PyTorch has complex tensors.
Broadcasting runs from the last axis, so pairs of different rank meet as complex tensors would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from . import creation, elementwise, indexing, shaping  # noqa: F401    their translators are borrowed below
from .elementwise import arctangent
from .strides import diagonal
from .translation import COMPLEX, TABLE, Pair, Translation, aten


def parts(t: Translation, z: Any) -> tuple[Any, Any]:
    """Real and imaginary part; of a real value or number the imaginary one is None, of a complex number a number."""
    if isinstance(z, Pair):
        return tuple(t.b.Gather(z.value, t.constant(i, dtypes.INT64), axis=-1) for i in (0, 1))
    if isinstance(z, complex):
        return z.real, z.imag
    return z, None


def pair(t: Translation, re: Value, im: Value) -> Pair:
    rank = t.rank(re)
    return Pair(t.b.Concat(t.unsqueeze(re, [rank]), t.unsqueeze(im, [rank]), axis=rank))


def lifted(t: Translation, z: Any) -> Value:
    """A pair of whatever takes part: complex, real, or a number, in the type of the result's parts."""
    if isinstance(z, Pair):
        return t.cast(z.value, t.out_dtype)
    if isinstance(z, Value):
        x = t.cast(z, t.out_dtype)
        return pair(t, x, t.b.Mul(x, t.scalar(0, x))).value if t.dtype(x).is_float else x
    return t.constant([complex(z).real, complex(z).imag], t.out_dtype)


def _typed(t: Translation, x: Any) -> Value:
    return t.value(x, t.out_dtype)


def product(t: Translation, x: Any, y: Any) -> Pair:
    """x y, where either may be real or a number."""
    (a, b), (c, d) = parts(t, x), parts(t, y)
    if b is None and d is None:
        return Pair(lifted(t, t.b.Mul(_typed(t, a), _typed(t, c))))
    if b is None or d is None:
        whole, real = (y, a) if b is None else (x, c)
        real = _typed(t, real)
        return Pair(t.b.Mul(lifted(t, whole), t.unsqueeze(real, [t.rank(real)])))
    a, b, c, d = (_typed(t, v) for v in (a, b, c, d))
    return pair(t, t.b.Sub(t.b.Mul(a, c), t.b.Mul(b, d)), t.b.Add(t.b.Mul(a, d), t.b.Mul(b, c)))


def quotient(t: Translation, x: Any, y: Any) -> Pair:
    """x / y, the divisor scaled by its larger part, so that squares neither overflow nor vanish."""
    c, d = parts(t, y)
    if d is None:
        real = _typed(t, c)
        return Pair(t.b.Div(lifted(t, x), t.unsqueeze(real, [t.rank(real)])))
    c, d = _typed(t, c), _typed(t, d)
    size = t.b.Max(t.b.Abs(c), t.b.Abs(d))
    c, d = t.b.Div(c, size), t.b.Div(d, size)
    total = t.b.Mul(size, t.b.Add(t.b.Mul(c, c), t.b.Mul(d, d)))
    turned = product(t, x, pair(t, c, t.b.Neg(d))).value
    return Pair(t.b.Div(turned, t.unsqueeze(total, [t.rank(total)])))


def magnitude(t: Translation, z: Pair, keepdim: bool = False) -> Value:
    return t.reduce("ReduceL2", z.value, [t.rank(z.value) - 1], keepdim)


def exponential(t: Translation, z: Pair) -> Pair:
    a, b = parts(t, z)
    r = t.b.Exp(a)
    return pair(t, t.b.Mul(r, t.b.Cos(b)), t.b.Mul(r, t.b.Sin(b)))


def logarithm(t: Translation, z: Pair) -> Pair:
    a, b = parts(t, z)
    return pair(t, t.b.Log(magnitude(t, z)), arctangent(t, b, a))


def _complex(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return aten(*names, table=COMPLEX)


# Between real and complex

@_complex("view_as_complex", "view_as_complex_copy")
def _(t: Translation, x: Value) -> Pair:
    return Pair(x)


@_complex("view_as_real", "view_as_real_copy")
def _(t: Translation, z: Pair) -> Value:
    return z.value


@_complex("complex")
def _(t: Translation, re: Value, im: Value) -> Pair:
    shape = t.out_shape[:-1]
    return pair(t, t.expand(re, shape), t.expand(im, shape))


@_complex("polar")
def _(t: Translation, size: Value, angle: Value) -> Pair:
    return pair(t, t.b.Mul(size, t.b.Cos(angle)), t.b.Mul(size, t.b.Sin(angle)))


@_complex("real")
def _(t: Translation, z: Pair) -> Any:
    return parts(t, z)[0]


@_complex("imag")
def _(t: Translation, z: Pair) -> Any:
    return parts(t, z)[1]


@_complex("angle")
def _(t: Translation, z: Pair) -> Value:
    a, b = parts(t, z)
    return arctangent(t, b, a)


@_complex("abs")
def _(t: Translation, z: Pair) -> Value:
    return magnitude(t, z)


@_complex("_conj", "_conj_copy", "conj", "conj_physical", "_conj_physical")
def _(t: Translation, z: Any) -> Pair:
    return Pair(t.b.Mul(z.value, t.constant([1, -1], t.dtype(z.value))))


@_complex("_to_copy", "to.dtype", "to.dtype_layout", "to.device", "type_as")
def _(t: Translation, z: Any, *_: Any, **_kw: Any) -> Any:
    if not t.out.is_complex():
        return t.cast(parts(t, z)[0], t.out_dtype)
    return Pair(lifted(t, z))


@_complex("isreal", "isnan", "isinf", "isfinite")
def _(t: Translation, z: Pair) -> Value:
    kind = t.target.split(".")[1]
    a, b = parts(t, z)
    if kind == "isreal":
        return t.b.Equal(b, t.scalar(0, b))
    nan, inf = (t.b.Or(t.b.op(op, a), t.b.op(op, b)) for op in ("IsNaN", "IsInf"))
    return {"isnan": nan, "isinf": inf}.get(kind) or t.b.Not(t.b.Or(nan, inf))


# Arithmetic

@_complex("add.Tensor", "add.Scalar")
def _(t: Translation, x: Any, y: Any, alpha: Any = 1) -> Pair:
    scaled = y if alpha == 1 else product(t, y, alpha)
    return Pair(t.b.Add(lifted(t, x), lifted(t, scaled)))


@_complex("sub.Tensor", "sub.Scalar")
def _(t: Translation, x: Any, y: Any, alpha: Any = 1) -> Pair:
    scaled = y if alpha == 1 else product(t, y, alpha)
    return Pair(t.b.Sub(lifted(t, x), lifted(t, scaled)))


@_complex("rsub.Tensor", "rsub.Scalar")
def _(t: Translation, x: Any, y: Any, alpha: Any = 1) -> Pair:
    scaled = x if alpha == 1 else product(t, x, alpha)
    return Pair(t.b.Sub(lifted(t, y), lifted(t, scaled)))


@_complex("mul.Tensor", "mul.Scalar")
def _(t: Translation, x: Any, y: Any) -> Pair:
    return product(t, x, y)


@_complex("div.Tensor", "div.Scalar", "true_divide.Tensor")
def _(t: Translation, x: Any, y: Any) -> Pair:
    return quotient(t, x, y)


@_complex("addcmul")
def _(t: Translation, x: Any, a: Any, b: Any, *, value: Any = 1) -> Pair:
    return Pair(t.b.Add(lifted(t, x), lifted(t, product(t, product(t, a, b), value))))


@_complex("neg")
def _(t: Translation, z: Pair) -> Pair:
    return Pair(t.b.Neg(z.value))


@_complex("reciprocal")
def _(t: Translation, z: Pair) -> Pair:
    return quotient(t, 1.0 + 0j, z)


@_complex("square")
def _(t: Translation, z: Pair) -> Pair:
    return product(t, z, z)


@_complex("sgn")
def _(t: Translation, z: Pair) -> Pair:
    size = magnitude(t, z, True)
    zero = t.scalar(0, size)
    return Pair(t.b.Where(t.b.Equal(size, zero), zero, t.b.Div(z.value, size)))


@_complex("exp")
def _(t: Translation, z: Pair) -> Pair:
    return exponential(t, z)


@_complex("log")
def _(t: Translation, z: Pair) -> Pair:
    return logarithm(t, z)


@_complex("log2", "log10")
def _(t: Translation, z: Pair) -> Pair:
    base = 2 if "log2" in t.target else 10
    made = logarithm(t, z).value
    return Pair(t.b.Mul(made, t.scalar(1 / math.log(base), made)))


@_complex("sqrt", "rsqrt")
def _(t: Translation, z: Pair) -> Pair:
    # The larger part first, by a sum of like signs; the other follows from their product, which is half of `b`.
    a, b = parts(t, z)
    half, zero = t.scalar(0.5, a), t.scalar(0, a)
    large = t.b.Sqrt(t.b.Mul(half, t.b.Add(magnitude(t, z), t.b.Abs(a))))
    none = t.b.Equal(large, zero)
    small = t.b.Where(none, zero, t.b.Div(t.b.Mul(half, b), t.b.Where(none, t.scalar(1, a), large)))
    left = t.b.Less(a, zero)
    signed = t.b.Where(t.b.Less(b, zero), t.b.Neg(large), large)
    root = pair(t, t.b.Where(left, t.b.Abs(small), large), t.b.Where(left, signed, small))
    return root if "rsqrt" not in t.target else quotient(t, 1.0 + 0j, root)


@_complex("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _(t: Translation, x: Any, y: Any) -> Pair:
    if isinstance(y, (int, float)) and y == int(y) and 0 < abs(y) <= 16:
        made, n, square = None, abs(int(y)), x
        while n:
            if n & 1:
                made = square if made is None else product(t, made, square)
            n >>= 1
            square = product(t, square, square) if n else square
        return made if y > 0 else quotient(t, 1.0 + 0j, made)    # type: ignore[return-value]
    base = Pair(lifted(t, x))
    made = exponential(t, product(t, logarithm(t, base), y))
    # 0 to any power of positive real part is 0; the logarithm of 0 says NaN.
    size = magnitude(t, base, True)
    c = parts(t, y)[0]
    c = _typed(t, c)
    zero = t.scalar(0, size)
    one = t.constant([1, 0], t.out_dtype)
    rest = t.b.Where(t.b.Greater(t.unsqueeze(c, [t.rank(c)]), zero), zero, one)
    return Pair(t.b.Where(t.b.Equal(size, zero), rest, made.value))


def _waves(t: Translation, z: Pair) -> tuple[Value, ...]:
    a, b = parts(t, z)
    return t.b.Sin(a), t.b.Cos(a), t.b.Sinh(b), t.b.Cosh(b)


@_complex("sin")
def _(t: Translation, z: Pair) -> Pair:
    sin, cos, sinh, cosh = _waves(t, z)
    return pair(t, t.b.Mul(sin, cosh), t.b.Mul(cos, sinh))


@_complex("cos")
def _(t: Translation, z: Pair) -> Pair:
    sin, cos, sinh, cosh = _waves(t, z)
    return pair(t, t.b.Mul(cos, cosh), t.b.Neg(t.b.Mul(sin, sinh)))


def _turned(t: Translation, z: Pair) -> tuple[Value, ...]:
    a, b = parts(t, z)
    return t.b.Sin(b), t.b.Cos(b), t.b.Sinh(a), t.b.Cosh(a)


@_complex("sinh")
def _(t: Translation, z: Pair) -> Pair:
    sin, cos, sinh, cosh = _turned(t, z)
    return pair(t, t.b.Mul(sinh, cos), t.b.Mul(cosh, sin))


@_complex("cosh")
def _(t: Translation, z: Pair) -> Pair:
    sin, cos, sinh, cosh = _turned(t, z)
    return pair(t, t.b.Mul(cosh, cos), t.b.Mul(sinh, sin))


@_complex("sigmoid")
def _(t: Translation, z: Pair) -> Pair:
    return quotient(t, 1.0 + 0j, Pair(t.b.Add(exponential(t, Pair(t.b.Neg(z.value))).value,
                                              t.constant([1, 0], t.out_dtype))))


@_complex("eq.Tensor", "eq.Scalar", "ne.Tensor", "ne.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    known = next(v for v in (x, y) if isinstance(v, Pair))
    dtype = t.dtype(known.value)

    def whole(v: Any) -> Value:
        if isinstance(v, Pair):
            return v.value
        if isinstance(v, Value):
            real = t.cast(v, dtype)
            return pair(t, real, t.b.Mul(real, t.scalar(0, real))).value
        return t.constant([complex(v).real, complex(v).imag], dtype)

    same = t.cast(t.b.Equal(whole(x), whole(y)), dtypes.INT32)
    both = t.cast(t.reduce("ReduceMin", same, [t.rank(same) - 1], False), dtypes.BOOL)
    return both if ".eq." in t.target else t.b.Not(both)


# Products

@_complex("mm", "bmm", "matmul", "mv", "dot", "vdot")
def _(t: Translation, x: Any, y: Any) -> Pair:
    (a, b), (c, d) = parts(t, x), parts(t, y)
    if t.target.startswith("aten.vdot") and b is not None:
        b = t.b.Neg(b)

    def times(u: Value | None, v: Value | None) -> Value | None:
        return None if u is None or v is None else t.b.MatMul(u, v)

    ac, bd, ad, bc = times(a, c), times(b, d), times(a, d), times(b, c)
    re = ac if bd is None else t.b.Sub(ac, bd)
    im = ad if bc is None else bc if ad is None else t.b.Add(ad, bc)
    assert re is not None and im is not None
    return pair(t, re, im)


@_complex("linear")
def _(t: Translation, x: Any, weight: Any, bias: Any = None) -> Pair:
    turned = weight
    if isinstance(weight, Pair):
        turned = Pair(t.transpose(weight.value, [1, 0, 2]))
    else:
        turned = t.matrix_t(weight)
    made: Pair = COMPLEX["aten.matmul.default"](t, x, turned)
    return made if bias is None else Pair(t.b.Add(made.value, lifted(t, bias)))


@_complex("einsum")
def _(t: Translation, equation: str, operands: Sequence[Any], path: Any = None) -> Pair:
    # Linear in every operand: expand the product of sums, one real einsum for each choice of parts.
    split = [parts(t, z) for z in operands]
    if len(operands) > 3:
        raise UnsupportedError("einsum of more than three complex operands has no way to ONNX yet", who="torch")
    sums: dict[bool, list[tuple[int, Value]]] = {False: [], True: []}
    for choice in range(1 << len(split)):
        picked = [s[choice >> i & 1] for i, s in enumerate(split)]
        if any(p is None for p in picked):
            continue
        turns = bin(choice).count("1")
        made = TABLE["aten.einsum.default"](t, equation, picked)
        sums[turns % 2 == 1].append((-1 if turns in (2, 3) else 1, made))

    def total(terms: list[tuple[int, Value]]) -> Value:
        terms = sorted(terms, key=lambda s: -s[0])
        sign, value = terms[0]
        value = value if sign > 0 else t.b.Neg(value)
        for sign, v in terms[1:]:
            value = t.b.Add(value, v) if sign > 0 else t.b.Sub(value, v)
        return value

    return pair(t, total(sums[False]), total(sums[True]))


# Creation, choice

@_complex("full", "full_like", "new_full", "fill.Scalar", "fill.Tensor", "scalar_tensor")
def _(t: Translation, *arguments: Any, **_kw: Any) -> Pair:
    value = arguments[{"scalar_tensor": 0, "new_full": 2}.get(t.target.split(".")[1], 1)]
    return Pair(t.expand(lifted(t, value), t.out_shape))


@_complex("zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty", "empty_strided",
          "new_empty_strided", "empty_permuted")
def _(t: Translation, *_: Any, **_kw: Any) -> Pair:
    return Pair(t.expand(t.constant([0, 0], t.out_dtype), t.out_shape))


@_complex("ones", "ones_like", "new_ones")
def _(t: Translation, *_: Any, **_kw: Any) -> Pair:
    return Pair(t.expand(t.constant([1, 0], t.out_dtype), t.out_shape))


@_complex("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _(t: Translation, condition: Value, x: Any, y: Any) -> Pair:
    chosen = t.unsqueeze(t.cast(condition, dtypes.BOOL), [t.rank(condition)])
    return Pair(t.b.Where(chosen, lifted(t, x), lifted(t, y)))


@_complex("masked_fill.Scalar", "masked_fill.Tensor")
def _(t: Translation, z: Pair, mask: Value, value: Any) -> Pair:
    return Pair(t.b.Where(t.unsqueeze(mask, [t.rank(mask)]), lifted(t, value), z.value))


@_complex("tril", "triu", "gather", "as_strided", "as_strided_copy", "unfold")
def _(t: Translation, z: Pair, *arguments: Any, **keywords: Any) -> Pair:
    return pair(t, *(TABLE[t.target](t, v, *arguments, **keywords) for v in parts(t, z)))


@_complex("diagonal", "diagonal_copy")
def _(t: Translation, z: Pair, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Pair:
    made = [diagonal(t, v, offset, dim1, dim2, t.out_shape[-2]) for v in parts(t, z)]
    return pair(t, *made)


@_complex("sum", "sum.dim_IntList", "mean", "mean.dim")
def _(t: Translation, z: Any, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Pair:
    x = lifted(t, z)
    rank = t.rank(x) - 1
    listed = list(range(rank)) if dims is None or not len(dims) else [t.axis(d, rank) for d in dims]
    return Pair(t.reduce("ReduceMean" if ".mean." in t.target else "ReduceSum", x, listed, keepdim) if listed else x)


@_complex("cumsum")
def _(t: Translation, z: Any, dim: int, *, dtype: Any = None) -> Pair:
    x = lifted(t, z)
    return Pair(x if t.rank(x) == 1 else t.b.CumSum(x, t.constant(t.axis(dim, t.rank(x) - 1), dtypes.INT64)))


@_complex("linalg_vector_norm")
def _(t: Translation, z: Pair, order: Any = 2, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    made: Value = TABLE["aten.linalg_vector_norm.default"](t, magnitude(t, z), order, dims, keepdim)
    return made


# Structure: the pairs are carried along, on an axis that no dim may mean

def _bare(x: Any) -> Any:
    if isinstance(x, Pair):
        return x.value
    return [_bare(v) for v in x] if isinstance(x, (list, tuple)) else x


def _carried(name: str, *places: int, added: int = 0) -> None:
    """Let the real translator of `name` move pairs; the arguments at `places` are dims, counted from the front first.

    `added` is how many axes the result has more (for the dims of unsqueeze and stack).
    """
    borrowed = TABLE[name]

    def translate(t: Translation, *arguments: Any, **keywords: Any) -> Any:
        first = arguments[0][0] if isinstance(arguments[0], (list, tuple)) else arguments[0]
        rank = t.rank(first.value if isinstance(first, Pair) else first) - (1 if isinstance(first, Pair) else 0) + added
        given = [_bare(a) for a in arguments]
        for p in places:
            if p < len(given) and given[p] is not None:
                given[p] = [d % max(rank, 1) for d in given[p]] if isinstance(given[p], (list, tuple)) \
                    else given[p] % max(rank, 1)
        made = borrowed(t, *given, **keywords)
        return [Pair(v) for v in made] if isinstance(made, (list, tuple)) else Pair(made)

    COMPLEX[name] = translate


for _name in ("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int",
              "expand.default", "broadcast_to.default", "clone.default", "alias.default", "detach.default",
              "contiguous.default", "lift_fresh_copy.default", "resolve_conj.default", "resolve_neg.default",
              "positive.default", "index.Tensor", "_unsafe_index.Tensor"):
    _carried(f"aten.{_name}")
for _name, _places in {"transpose.int": (1, 2), "swapaxes.default": (1, 2), "movedim.int": (1, 2),
                       "movedim.intlist": (1, 2), "cat.default": (1,), "select.int": (1,), "slice.Tensor": (1,),
                       "split.Tensor": (2,), "split_with_sizes.default": (2,), "chunk.default": (2,),
                       "unbind.int": (1,), "flip.default": (1,), "roll.default": (2,), "index_select.default": (1,),
                       "narrow.default": (1,), "slice_scatter.default": (2,), "select_scatter.default": (2,),
                       "squeeze.dim": (1,), "squeeze.dims": (1,)}.items():
    _carried(f"aten.{_name}", *_places)
_carried("aten.unsqueeze.default", 1, added=1)
_carried("aten.stack.default", 1, added=1)


@_complex("squeeze")
def _(t: Translation, z: Pair) -> Pair:
    shape = t.shape(z.value)
    return Pair(t.squeeze(z.value, [i for i, s in enumerate(shape[:-1]) if s == 1]))


@_complex("permute", "t", "numpy_T")
def _(t: Translation, z: Pair, dims: Any = None) -> Pair:
    rank = t.rank(z.value) - 1
    perm = [d % rank for d in dims] if dims is not None else list(reversed(range(rank)))
    return Pair(t.transpose(z.value, [*perm, rank]))


@_complex("repeat", "tile")
def _(t: Translation, z: Pair, repeats: Sequence[Any]) -> Pair:
    return Pair(TABLE["aten.repeat.default"](t, z.value, [*repeats, 1]))


@_complex("constant_pad_nd")
def _(t: Translation, z: Pair, pads: Sequence[Any], value: Any = 0) -> Pair:
    if value != 0:
        raise UnsupportedError("padding complex numbers with another than 0 has no way to ONNX yet", who="torch")
    return Pair(TABLE["aten.constant_pad_nd.default"](t, z.value, [0, 0, *pads], 0))


@_complex("copy")
def _(t: Translation, z: Any, source: Any, non_blocking: bool = False) -> Any:
    if not t.out.is_complex():
        return t.expand(t.cast(parts(t, source)[0], t.out_dtype), t.out_shape)
    return Pair(t.expand(lifted(t, source), t.out_shape))


@_complex("index_put", "_unsafe_index_put")
def _(t: Translation, z: Pair, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Pair:
    return Pair(TABLE["aten.index_put.default"](t, z.value, indices, lifted(t, values), accumulate))


# Fourier

_LARGEST_MATRIX = 1 << 22
"""Up to so many elements a transform of fixed length is one product with a constant matrix, which every engine has."""


def _moved(t: Translation, x: Value, axis: int, behind: int) -> Value:
    """`axis` as the last of the axes before the last `behind`."""
    rank = t.rank(x)
    perm = [i for i in range(rank - behind) if i != axis] + [axis] + list(range(rank - behind, rank))
    return t.transpose(x, perm)


def _returned(t: Translation, x: Value, axis: int, behind: int) -> Value:
    rank = t.rank(x)
    order = [i for i in range(rank - behind) if i != axis] + [axis] + list(range(rank - behind, rank))
    return t.transpose(x, [order.index(i) for i in range(rank)])


def _matrix(n: int, kind: str, forward: bool, bins: int) -> np.ndarray[Any, Any]:
    """The transform of length n as a matrix over pairs laid flat: c2c (2n,2n), r2c (n,2 bins), c2r (2 bins,n)."""
    sign = -1 if forward else 1
    # The product of indices modulo n first: angles of many turns would lose digits.
    w = np.exp(sign * 2j * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n)
    if kind == "r2c":
        w = w[:, :bins]
        return np.stack([w.real, w.imag], -1).reshape(n, 2 * bins)
    if kind == "c2r":
        # Each bin stands for itself and its mirror image, but for the first and, in even lengths, the last.
        weight = np.full(bins, 2.0)
        weight[0] = 1
        if n % 2 == 0 and bins == n // 2 + 1:
            weight[-1] = 1
        w = w[:bins] * weight[:, None]
        return np.stack([w.real, -w.imag], 1).reshape(2 * bins, n)
    rows = np.stack([np.stack([w.real, w.imag], -1), np.stack([-w.imag, w.real], -1)], 1)
    return rows.reshape(2 * n, 2 * n)


def _scaled(t: Translation, x: Value, lengths: Sequence[Any], normalization: int) -> Value:
    """Divided by the root of all lengths (1) or by all (2)."""
    if normalization == 0:
        return x
    total: Any = 1
    for n in lengths:
        total = total * n
    if isinstance(total, int):
        return t.b.Mul(x, t.scalar(total ** (-0.5 if normalization == 1 else -1.0), x))
    count = t.value(total, t.dtype(x))
    return t.b.Div(x, t.b.Sqrt(count) if normalization == 1 else count)


def _transform(t: Translation, x: Value, axis: int, kind: str, forward: bool, n: Any, bins: Any) -> Value:
    """One axis of length n; `x` is real for r2c, pairs otherwise. Without any scale."""
    behind = 0 if kind == "r2c" else 1
    if isinstance(n, int) and isinstance(bins, int):
        matrix = _matrix(n, kind, forward, bins)
        if matrix.size <= _LARGEST_MATRIX:
            x = _moved(t, x, axis, behind)
            lead = t.shape(x)[:t.rank(x) - 1 - behind]
            flat = t.reshape(x, (*lead, matrix.shape[0])) if behind else x
            y = t.b.MatMul(flat, t.constant(matrix, t.dtype(x)))
            if kind != "c2r":
                y = t.reshape(y, (*lead, matrix.shape[1] // 2, 2))
            return _returned(t, y, axis, 0 if kind == "c2r" else 1)
    if kind == "c2r":
        # The other half of the spectrum is this one, mirrored and conjugated.
        tail = t.slice(x, axis, 1, n - bins + 1)
        far = t.b.Slice(tail, t.ints([-1]), t.ints([-(1 << 63) + 1]), t.ints([axis]), t.ints([-1]))
        x = t.b.Concat(x, t.b.Mul(far, t.constant([1, -1], t.dtype(x))), axis=axis)
    if t.b.opsets[""] < 17:
        y = _by_waves(t, x, axis, kind == "r2c", forward, n, bins if kind == "r2c" else n)
        return t.b.Gather(y, t.constant(0, dtypes.INT64), axis=-1) if kind == "c2r" else y
    if kind == "r2c":
        x = t.unsqueeze(x, [t.rank(x)])
    how: dict[str, Any] = {"inverse": int(not forward), "onesided": int(kind == "r2c" and not _same_size(n, bins))}
    y = t.b.DFT(x, None, t.constant(axis, dtypes.INT64), **how) if t.b.opsets[""] >= 20 else \
        t.b.DFT(x, axis=axis, **how)
    if not forward:
        y = t.b.Mul(y, t.value(n, t.dtype(y)))    # ONNX divides by the length
    return t.b.Gather(y, t.constant(0, dtypes.INT64), axis=-1) if kind == "c2r" else y


def _by_waves(t: Translation, x: Value, axis: int, real: bool, forward: bool, n: Any, bins: Any) -> Value:
    """One axis as products with cosines and sines, whose number is known when running: for opsets without DFT."""
    def count(size: Any) -> Value:
        return t.b.Range(t.constant(0, dtypes.INT64), t.value(size, dtypes.INT64), t.constant(1, dtypes.INT64))

    turns = t.b.Mul(t.unsqueeze(count(n), [1]), t.unsqueeze(count(bins), [0]))
    part = t.b.Div(t.cast(t.b.Mod(turns, t.value(n, dtypes.INT64)), dtypes.DOUBLE), t.value(n, dtypes.DOUBLE))
    angle = t.b.Mul(part, t.constant(2 * math.pi, dtypes.DOUBLE))
    cosines, sines = t.cast(t.b.Cos(angle), t.dtype(x)), t.cast(t.b.Sin(angle), t.dtype(x))
    sines = t.b.Neg(sines) if forward else sines
    x = _moved(t, x, axis, 0 if real else 1)
    if real:
        parts = [t.b.MatMul(x, cosines), t.b.MatMul(x, sines)]
    else:
        re, im = (t.b.Gather(x, t.constant(i, dtypes.INT64), axis=-1) for i in (0, 1))
        parts = [t.b.Sub(t.b.MatMul(re, cosines), t.b.MatMul(im, sines)),
                 t.b.Add(t.b.MatMul(im, cosines), t.b.MatMul(re, sines))]
    rank = t.rank(parts[0])
    return _returned(t, t.b.Concat(*(t.unsqueeze(p, [rank]) for p in parts), axis=rank), axis, 1)


def _same_size(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


@_complex("_fft_c2c")
def _(t: Translation, z: Pair, dims: Sequence[int], normalization: int, forward: bool) -> Pair:
    x = z.value
    shape = t.shape(x)[:-1]
    axes = [d % len(shape) for d in dims]
    for axis in axes:
        x = _transform(t, x, axis, "c2c", forward, shape[axis], shape[axis])
    return Pair(_scaled(t, x, [shape[a] for a in axes], normalization))


@_complex("_fft_r2c")
def _(t: Translation, x: Value, dims: Sequence[int], normalization: int, onesided: bool) -> Pair:
    shape = t.shape(x)
    axes = [d % len(shape) for d in dims]
    last = axes[-1]
    bins = t.out_shape[last] if onesided else shape[last]
    y = _transform(t, x, last, "r2c", True, shape[last], bins)
    for axis in axes[:-1]:
        y = _transform(t, y, axis, "c2c", True, shape[axis], shape[axis])
    return Pair(_scaled(t, y, [shape[a] for a in axes], normalization))


@_complex("_fft_c2r")
def _(t: Translation, z: Pair, dims: Sequence[int], normalization: int, last_size: Any) -> Value:
    x = z.value
    shape = t.shape(x)[:-1]
    axes = [d % len(shape) for d in dims]
    for axis in axes[:-1]:
        x = _transform(t, x, axis, "c2c", False, shape[axis], shape[axis])
    last = axes[-1]
    y = _transform(t, x, last, "c2r", False, last_size, shape[last])
    return _scaled(t, y, [*(shape[a] for a in axes[:-1]), last_size], normalization)
