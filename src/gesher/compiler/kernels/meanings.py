"""What each kernel computes, in numpy, in float64: the truth that the tests hold the C against. Slow and plain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from .packing_bf16 import bf16_rounded

Array = np.ndarray
ALL = slice(None)


def _index(*parts: int | slice) -> Any:
    return parts


def gemm(a: Array, b: Array, bias_m: Array | None = None, bias_n: Array | None = None) -> Array:
    """a (batch,M,K) @ b (batch or 1,K,N) + bias_m (M) down the rows + bias_n (N) along the columns."""
    y = np.matmul(a.astype(np.float64), b.astype(np.float64))
    if bias_m is not None:
        y = y + bias_m.astype(np.float64)[:, None]
    return y if bias_n is None else y + bias_n.astype(np.float64)


def gemm_bf16(a: Array, b: Array) -> Array:
    """As `gemm`, of the nearest bfloat16 of each number."""
    return gemm(bf16_rounded(a), bf16_rounded(b))


def convolution_bf16(x: Array, w: Array, *more: Any) -> Array:
    """As `convolution`, of the nearest bfloat16 of each number; the bias is float32."""
    return convolution(bf16_rounded(x), bf16_rounded(w), *more)


def convolution(x: Array, w: Array, bias: Array | None, out: Sequence[int], stride: Sequence[int],
                dilation: Sequence[int], pad: Sequence[int], group: int) -> Array:
    """x (N,C,in...), w (O,C/group,kernel...) -> (N,O,out...); `pad` is what stands before the picture."""
    rank, (batch, channels), outputs = len(out), x.shape[:2], w.shape[0]
    after = [max(0, (o - 1) * s + (k - 1) * d + 1 - i - p) for o, s, k, d, i, p in
             zip(out, stride, w.shape[2:], dilation, x.shape[2:], pad)]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *((max(0, p), a) for p, a in zip(pad, after))])
    y = np.zeros((batch, outputs, *out))
    cg, og = channels // group, outputs // group
    for tap in product(*map(range, w.shape[2:])):
        begin = [t * d - min(0, p) for t, d, p in zip(tap, dilation, pad)]
        cut = tuple(slice(b, max(b, b + (o - 1) * s + 1), s) for b, o, s in zip(begin, out, stride))
        part = padded[_index(ALL, ALL, *cut)].reshape(batch, group, cg, int(np.prod(out)))
        weights = w[_index(ALL, ALL, *tap)].astype(np.float64).reshape(group, og, cg)
        y += np.einsum("ngcp,goc->ngop", part, weights).reshape(y.shape)
    return y if bias is None else y + bias.astype(np.float64).reshape(-1, *[1] * rank)


def blocked(x: Array, b: int) -> Array:
    """x (N,C,...) with its channels in blocks of b: (N,C/b rounded up,...,b), zeros beyond the last."""
    n, c, *size = x.shape
    blocks = -(-c // b)
    full = np.zeros((n, blocks * b, *size), x.dtype)
    full[:, :c] = x
    return np.ascontiguousarray(np.moveaxis(full.reshape(n, blocks, b, *size), 2, -1))


def unblocked(x: Array, channels: int) -> Array:
    """x (N,blocks,...,b) as (N,channels,...)."""
    full = np.moveaxis(x, -1, 2).reshape(len(x), x.shape[1] * x.shape[-1], *x.shape[2:-1])
    return np.ascontiguousarray(full[:, :channels])


def convolution_transposed(x: Array, w: Array, bias: Array | None, out: Sequence[int], stride: Sequence[int],
                           dilation: Sequence[int], pad: Sequence[int], group: int) -> Array:
    """x (N,C,in...), w (C,O/group,kernel...) -> (N,O,out...): each input is spread over the taps."""
    batch, channels = x.shape[:2]
    og, cg = w.shape[1], channels // group
    y = np.zeros((batch, group * og, *out))
    for place in np.ndindex(*x.shape[2:]):
        column = x[_index(ALL, ALL, *place)].astype(np.float64).reshape(batch, group, cg)
        for tap in np.ndindex(*w.shape[2:]):
            to = [i * s + t * d - p for i, s, t, d, p in zip(place, stride, tap, dilation, pad)]
            if all(0 <= t < o for t, o in zip(to, out)):
                weights = w[_index(ALL, ALL, *tap)].astype(np.float64).reshape(group, cg, og)
                y[_index(ALL, ALL, *to)] += np.einsum("ngc,gco->ngo", column, weights).reshape(batch, -1)
    return y if bias is None else y + bias.astype(np.float64).reshape(-1, *[1] * len(out))


def softmax(x: Array, log: bool) -> Array:
    """Along axis 1 of x (outer,n,inner)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        d = x.astype(np.float64) - np.max(x, axis=1, keepdims=True)
        total = np.sum(np.exp(d), axis=1, keepdims=True)
        return d - np.log(total) if log else np.exp(d) / total


def layer_norm(x: Array, scale: Array | None, shift: Array | None, epsilon: float,
               centred: bool) -> tuple[Array, Array, Array]:
    """Along axis 1 of x (rows,n): the result, what was subtracted, what was multiplied."""
    x = x.astype(np.float64)
    mean = x.mean(1, keepdims=True) if centred else np.zeros((len(x), 1))
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + epsilon)
    y = (x - mean) * inverse * (1 if scale is None else scale) + (0 if shift is None else shift)
    return y, mean[:, 0], inverse[:, 0]


REDUCTIONS: dict[str, Any] = {
    # In the order of the enum in gs_reduce_f32.h.
    "GS_SUM": lambda x: x.sum(1), "GS_MEAN": lambda x: x.sum(1) / x.shape[1],
    "GS_MAX": lambda x: x.max(1, initial=-np.inf), "GS_MIN": lambda x: x.min(1, initial=np.inf),
    "GS_PROD": lambda x: x.prod(1), "GS_L1": lambda x: abs(x).sum(1), "GS_L2": lambda x: np.sqrt((x * x).sum(1)),
    "GS_SUM_SQUARE": lambda x: (x * x).sum(1),
}


def reduction(op: str, x: Array) -> Array:
    """Along axis 1 of x (outer,n,inner)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(REDUCTIONS[op](x.astype(np.float64)))


def pooling(x: Array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pad: Sequence[int],
            pad_end: Sequence[int], out: Sequence[int], mean: bool, count_pad: bool) -> tuple[Array, Array]:
    """x (planes,in...) -> (planes,out...): the maximum or mean of each window, and the index of the maximum in x."""
    planes, size = x.shape[0], x.shape[1:]
    y, indices = np.zeros((planes, *out)), np.full((planes, *out), -1, np.int64)
    numbers = np.arange(x.size).reshape(x.shape)
    for place in np.ndindex(*out):
        axes = [[p * s + k * d - b for k in range(n)] for p, s, n, d, b in zip(place, stride, kernel, dilation, pad)]
        inside = [[q for q in axis if 0 <= q < n] for axis, n in zip(axes, size)]
        counted = [[q for q in axis if -b <= q < n + e] for axis, n, b, e in zip(axes, size, pad, pad_end)]
        window = np.ix_(range(planes), *inside)
        values = x[window].astype(np.float64).reshape(planes, -1)
        at = _index(ALL, *place)
        if mean:
            count = int(np.prod([len(c) for c in (counted if count_pad else inside)]))
            y[at] = values.sum(1) / count if count else np.nan
        elif values.shape[1]:
            best = values.argmax(1)
            y[at] = values[range(planes), best]
            indices[at] = numbers[window].reshape(planes, -1)[range(planes), best]
        else:
            y[at] = -np.inf
    return y, indices


ACTIVATIONS: dict[str, Callable[[Array, float, float], Array]] = {
    # In the order of the enum in gs_recurrent_f32.h.
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)), "Tanh": lambda x, a, b: np.tanh(x),
    "Relu": lambda x, a, b: np.maximum(x, 0), "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x < 0, a * x, x), "ThresholdedRelu": lambda x, a, b: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x), "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x < 0, a * np.expm1(x), x), "Softsign": lambda x, a, b: x / (1 + abs(x)),
    "Softplus": lambda x, a, b: np.logaddexp(0, x),
}


def recurrent(kind: str, x: Array, w: Array, r: Array, bias: Array | None = None, *, h0: Array | None = None,
              c0: Array | None = None, peephole: Array | None = None, lengths: Array | None = None,
              reverse: bool = False, clip: float = 0, linear_before_reset: bool = False, input_forget: bool = False,
              activations: Sequence[tuple[str, float, float]] = ()) -> tuple[Array, Array, Array]:
    """One direction of RNN, GRU or LSTM over x (T,B,I): all states (T,B,H), the last one and the last cell (B,H)."""
    (steps, batch, _), hidden = x.shape, r.shape[1]
    gates = r.shape[0] // hidden
    wb, rb = (np.zeros(gates * hidden),) * 2 if bias is None else np.split(bias.astype(np.float64), 2)
    x, w, r = x.astype(np.float64), w.astype(np.float64), r.astype(np.float64)
    def act(n: int, v: Array) -> Array:
        name, alpha, beta = activations[min(n, len(activations) - 1)]
        return ACTIVATIONS[name](v, alpha, beta)

    def cut(v: Array) -> Array:
        return np.clip(v, -clip, clip) if clip else v

    peep = np.zeros((3, hidden)) if peephole is None else peephole.astype(np.float64).reshape(3, hidden)
    y = np.zeros((steps, batch, hidden))
    last = [np.zeros((batch, hidden)) if s is None else s.astype(np.float64) for s in (h0, c0)]
    for b in range(batch):
        length = steps if lengths is None else min(int(lengths[b]), steps)
        h, c = last[0][b], last[1][b]
        for t in reversed(range(length)) if reverse else range(length):
            xs = np.split(w @ x[t, b] + wb, gates)
            hs = np.split(r @ h + rb, gates)
            if kind == "RNN":
                h = act(0, cut(xs[0] + hs[0]))
            elif kind == "GRU":
                z, reset = act(0, cut(xs[0] + hs[0])), act(0, cut(xs[1] + hs[1]))
                again = reset * hs[2] if linear_before_reset else r[2 * hidden:] @ (reset * h) + rb[2 * hidden:]
                h = (1 - z) * act(1, cut(xs[2] + again)) + z * h
            else:
                i = act(0, cut(xs[0] + hs[0] + peep[0] * c))
                forget = 1 - i if input_forget else act(0, cut(xs[2] + hs[2] + peep[2] * c))
                c = forget * c + i * act(1, cut(xs[3] + hs[3]))
                h = act(0, cut(xs[1] + hs[1] + peep[1] * c)) * act(2, c)
            y[t, b] = h
        last[0][b], last[1][b] = h, c
    return y, last[0], last[1]


def extreme(x: Array, *, smallest: bool = False, last: bool = False) -> Array:
    """Where the largest or smallest of x (outer,n,inner) stands along axis 1; NaN beats all."""
    v = x[:, ::-1] if last else x
    found = (np.argmin if smallest else np.argmax)(v, axis=1)
    return x.shape[1] - 1 - found if last else found


def running_sum(x: Array, *, exclusive: bool = False, reverse: bool = False) -> Array:
    """Sums of x (outer,n,inner) along axis 1 up to each element."""
    v = x[:, ::-1] if reverse else x
    y = np.cumsum(v, axis=1, dtype=np.float64)
    y = y - v if exclusive else y
    return y[:, ::-1] if reverse else y


TREE_TESTS: dict[str, Callable[[Array, float], Array]] = {
    # In the order of the enum in gs_trees.h.
    "LEQ": lambda x, v: x <= v, "LT": lambda x, v: x < v, "GTE": lambda x, v: x >= v, "GT": lambda x, v: x > v,
    "EQ": lambda x, v: x == v, "NEQ": lambda x, v: x != v,
}

AGGREGATES: dict[str, Callable[[list[float], int], float]] = {
    "SUM": lambda w, n: sum(w), "AVERAGE": lambda w, n: sum(w) / n, "MIN": lambda w, n: min(w),
    "MAX": lambda w, n: max(w),
}


def trees(x: Array, roots: Sequence[Any], targets: int, aggregate: str = "SUM", base: Array | None = None) -> Array:
    """x (rows,features) through trees of `(test, feature, value, yes, no, missing_yes)`; a leaf is {target: weight}."""
    y = np.zeros((len(x), targets))
    for i, row in enumerate(x):
        said: list[dict[int, float]] = []
        for node in roots:
            while not isinstance(node, dict):
                test, feature, value, yes, no, missing_yes = node
                holds = bool(TREE_TESTS[test](row[feature], value)) or (missing_yes and bool(np.isnan(row[feature])))
                node = yes if holds else no
            said.append(node)
        for target in range(targets):
            weights = [leaf[target] for leaf in said if target in leaf]
            if weights:
                y[i, target] = AGGREGATES[aggregate](weights, len(roots))
    return y if base is None else y + base


def integer_gemm(a: Array, b: Array, a_zero: Array | int = 0, b_zero: Array | int = 0) -> Array:
    """(a (batch,M,K) - a_zero) @ (b (batch,K,N) - b_zero) in integers; a_zero of (M,1), b_zero of (N) or scalars."""
    return np.matmul(a.astype(np.int64) - a_zero, b.astype(np.int64) - b_zero).astype(np.int32)


def extent(x: Array) -> Array:
    """The least and the largest number of x, 0 among them; NaN where there is one."""
    return np.array([np.min(x, initial=0), np.max(x, initial=0)])


def select(x: Array, k: int, largest: bool) -> tuple[Array, Array]:
    """The first k along axis 1 of x (outer,n,inner) and their places: ties by place, NaN above every number."""
    rank = np.zeros(x.shape, np.int64)
    for row in np.ndindex(x.shape[0], x.shape[2]):
        values = x[row[0], :, row[1]]
        distinct = np.unique(values)  # ascending, NaN last
        order = np.searchsorted(distinct, values)
        rank[row[0], :, row[1]] = -order if largest else order
    places = np.argsort(rank, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(x, places, axis=1), places


def transpose(x: Array, perm: Sequence[int]) -> Array:
    return np.ascontiguousarray(np.transpose(x, perm))


def looked_up(x: Array, table: Array) -> Array:
    """Bytes x through a table of 256."""
    return table[x.view(np.uint8)]


def dft(x: Array, n: int, inverse: bool = False, onesided: bool = False) -> Array:
    """The transform of x (outer, size, inner, parts) along axis 1, cut or filled to n; the last axis has the parts."""
    z = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]
    if onesided and inverse:
        return np.fft.irfft(z, n, axis=1)[..., None]
    y = np.fft.ifft(z, n, axis=1) if inverse else np.fft.fft(z, n, axis=1)
    return np.stack([y.real, y.imag], -1)[:, :n // 2 + 1 if onesided else n]


def inverse(x: Array) -> Array:
    """The inverses of x (batch,n,n); NaN where there is none."""
    y = np.full_like(x, np.nan)
    for i, matrix in enumerate(x):
        with contextlib.suppress(np.linalg.LinAlgError):
            y[i] = np.linalg.inv(matrix)
    return y


def put_back(x: Array, out: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
             ) -> Array:
    """Windows x (planes,kh,kw,*windows) added up in pictures (planes,*out); what is outside is lost."""
    y = np.zeros((len(x), *out), np.float64)
    for tap in np.ndindex(*x.shape[1:3]):
        for at in np.ndindex(*x.shape[3:]):
            r, c = (i * s + k * d - p for i, s, k, d, p in zip(at, strides, tap, dilations, pads))
            if 0 <= r < out[0] and 0 <= c < out[1]:
                y[:, r, c] += x[(slice(None), *tap, *at)]
    return y.astype(x.dtype)


def nearest(x: Array, rows: Array | None, columns: Array | None) -> Array:
    """x (outer, H, W, inner), taken by rows and columns."""
    y = x if rows is None else x[:, rows]
    return y if columns is None else y[:, :, columns]


def mixed(x: Array, index: Array, weights: Array) -> Array:
    """Sums of the elements index (count,taps) of x (outer,n,inner), weighted."""
    return np.einsum("oitj,it->oij", x[:, index].astype(np.float64), weights.astype(np.float64))


def sampled(x: Array, rows: Any, index: Array, weights: Array, largest: bool = False) -> Array:
    """x (N,C,M) at the places index (B,taps,places), weighted; nothing where an index is outside."""
    picture = (np.arange(len(index)) if rows is None else rows)[:, None, None]
    inside = (index >= 0) & (index < x.shape[2])
    seen = np.moveaxis(x, 1, 2)[picture, np.where(inside, index, 0)]
    seen = np.where(inside[..., None], seen, np.float32(0)) * weights[..., None]
    return np.moveaxis(seen.max(1) if largest else seen.astype(np.float64).sum(1), 1, 2)


def gather(x: Array, index: Array) -> Array:
    """Slices of x (outer,n,...) at index along axis 1."""
    return np.take(x, index, axis=1)


def attention(q: Any, k: Any, v: Any, scale: float, seen: Any = True, blind: bool = False) -> Any:
    """softmax(scale * q k^T) v for q (...,S,D), k (...,T,D), v (...,T,E), over the keys that `seen` (...,S,T) is true
    for; a query that sees nothing gives NaN, or 0 with `blind`."""
    with np.errstate(all="ignore"):
        x = np.where(seen, scale * (q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2)), -np.inf)
        e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf)) * np.where(seen, 1.0, 0.0)
        y = (e / e.sum(-1, keepdims=True)) @ v.astype(np.float64)
    return _unhidden(x, y, seen, k, blind)


def attention_bf16(q: Any, k: Any, v: Any, scale: float, seen: Any = True, blind: bool = False) -> Any:
    """As `attention`, of the nearest bfloat16 of scaled queries, keys, values and of what a row's largest weight, 1, is
    multiplied with."""
    with np.errstate(all="ignore"):
        x = gemm_bf16(q * np.float32(scale), k.swapaxes(-1, -2))
        x = np.where(seen, x, -np.inf)
        e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf)) * np.where(seen, 1.0, 0.0)
        y = gemm_bf16(e.astype(np.float32), v) / e.sum(-1, keepdims=True)
    return _unhidden(x, y, seen, k, blind)


def _unhidden(x: Any, y: Any, seen: Any, k: Any, blind: bool) -> Any:
    """The results y, set right for queries that see nothing."""
    hidden = ~np.broadcast_to(seen, x.shape).any(-1, keepdims=True)
    return np.where(hidden, 0.0 if blind or not k.shape[-2] else np.nan, y)
