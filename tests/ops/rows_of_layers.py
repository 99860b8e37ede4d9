"""Rows for the layers of networks: products, windows, norms, losses, recurrences; see `every_version`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.ops.every_version import Row, drawn, exactly, f32, i64

_PICTURE = drawn(2, 4, 7, 6)
_AT = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
_NORM = [f32(1, 2), f32(0.5, -1), f32(0.25, 0.5), f32(4, 1)]    # scale, bias, mean, variance
_NEAR: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def _normal(x: np.ndarray, s: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
    s, b, m, v = (a[:, None, None] for a in (s, b, m, v))
    return s * (x - m) / np.sqrt(v + 1e-5) + b


def _lp(x: np.ndarray) -> np.ndarray:
    """Of windows of 2 by 2 in steps of 2: the cube root of the sum of cubes of magnitudes."""
    n, c, h, w = x.shape
    cells = np.abs(x).reshape(n, c, h // 2, 2, w // 2, 2)
    return np.cbrt((cells ** 3).sum((3, 5)))


_EVEN, _SEEN = drawn(1, 2, 4, 6), drawn(2, 2, 3, 3)
_POOLS = {"kernel_shape": [2, 2], "strides": [2, 2]}

LAYERS: list[Row] = [
    Row("Conv", [_PICTURE, drawn(6, 2, 3, 2), drawn(6)], {**_AT, "group": 2, "dilations": [1, 2]}, **_NEAR),
    Row("ConvTranspose", [_PICTURE, drawn(4, 3, 3, 2), drawn(3)], {**_AT, "output_padding": [1, 0]}, **_NEAR),
    Row("AveragePool", [_PICTURE], _AT, **_NEAR),
    Row("AveragePool", [_PICTURE], {**_AT, "count_include_pad": 1, "ceil_mode": 1}, since=10, **_NEAR),
    Row("MaxPool", [_PICTURE], _AT),
    Row("MaxPool", [_PICTURE], {**_AT, "storage_order": 1}, since=8, outputs=2),
    Row("MaxPool", [_PICTURE], {**_AT, "ceil_mode": 1, "dilations": [2, 1]}, since=10),
    Row("LpPool", [_EVEN], {**_POOLS, "p": 3.0}, until=1, want=exactly(_lp)),
    Row("LpPool", [_EVEN], {**_POOLS, "p": 3}, since=2, want=exactly(_lp)),
    Row("GlobalLpPool", [_EVEN], {"p": 3.0}, until=1,
        want=exactly(lambda x: np.cbrt((np.abs(x) ** 3).sum((2, 3), keepdims=True)))),
    Row("GlobalLpPool", [_EVEN], {"p": 3}, since=2,
        want=exactly(lambda x: np.cbrt((np.abs(x) ** 3).sum((2, 3), keepdims=True)))),
    Row("GlobalMaxPool", [_EVEN], want=lambda x: x.max((2, 3), keepdims=True)),
    Row("GlobalAveragePool", [_EVEN], want=exactly(lambda x: x.mean((2, 3), keepdims=True))),
    # The largest numbers of each cell go back where they came from: places count through the whole tensor.
    Row("MaxUnpool", [f32([[[5, 6], [7, 8]]])[None][0], i64([[[0, 3], [9, 14]]])[None][0]], _POOLS,
        want=lambda x, i: f32([[[5, 0, 0, 6], [0, 0, 0, 0], [0, 7, 0, 0], [0, 0, 8, 0]]])),
    Row("MaxRoiPool", [_PICTURE, f32([0, 0, 0, 3, 3], [1, 1, 2, 5, 6])], {"pooled_shape": [2, 2]}),
    Row("RoiAlign", [_PICTURE, f32([0, 0, 3, 3], [1, 2, 5, 6]), i64(0, 1)],
        {"output_height": 2, "output_width": 3, "sampling_ratio": 2}, **_NEAR),
    Row("DeformConv", [drawn(1, 2, 4, 4), drawn(3, 2, 2, 2), drawn(1, 8, 3, 3, low=-1, high=1)], **_NEAR),
    Row("GridSample", [drawn(1, 2, 3, 4), drawn(1, 2, 2, 2, low=-1, high=1)],
        {"mode": "bilinear", "padding_mode": "border"}, until=19, **_NEAR),
    Row("GridSample", [drawn(1, 2, 3, 4), drawn(1, 2, 2, 2, low=-1, high=1)], {"mode": "cubic"}, since=20, **_NEAR),
    Row("Gemm", [drawn(3, 2), drawn(3, 4), drawn(4)],
        {"transA": 1, "alpha": 0.5, "beta": 2.0, "broadcast": 1}, want=exactly(lambda a, b, c: 0.5 * a.T @ b + 2 * c)),
    Row("Einsum", [drawn(2, 3, 4), drawn(2, 4, 5)], {"equation": "bij,bjk->bki"},
        want=exactly(lambda a, b: (a @ b).swapaxes(1, 2))),
    # is_test told inference; then one output did, then training_mode.
    Row("BatchNormalization", [_SEEN, *_NORM], {"is_test": 1, "consumed_inputs": [0] * 5}, want=exactly(_normal)),
    Row("BatchNormalization", [_SEEN, *_NORM], {"training_mode": 1, "momentum": 0.75}, since=14, outputs=3, **_NEAR,
        want=lambda x, s, b, m, v: (exactly(_normal)(x, s, b, x.mean((0, 2, 3)), x.var((0, 2, 3))),
                                    m * np.float32(0.75) + x.mean((0, 2, 3)) * np.float32(0.25),
                                    v * np.float32(0.75) + x.var((0, 2, 3)) * np.float32(0.25))),
    Row("InstanceNormalization", [_SEEN, *_NORM[:2]], {"consumed_inputs": [0] * 3}, **_NEAR, want=exactly(
        lambda x, s, b: _normal((x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5), s,
                                b, 0 * s, 0 * s + 1 - 1e-5))),
    # Two groups of two channels: one scale a group, later one a channel.
    Row("GroupNormalization", [drawn(1, 4, 3), f32(1, 2), f32(0, 1)], {"num_groups": 2}, until=18, **_NEAR,
        want=exactly(lambda x, s, b: _in_groups(x) * np.repeat(s, 2)[:, None] + np.repeat(b, 2)[:, None])),
    Row("GroupNormalization", [drawn(1, 4, 3), f32(1, 2, 3, 4), f32(0, 1, 0, 1)], {"num_groups": 2}, since=21, **_NEAR,
        want=exactly(lambda x, s, b: _in_groups(x) * s[:, None] + b[:, None])),
    Row("Dropout", [_SEEN], {"is_test": 1, "consumed_inputs": [0]}, want=lambda x: x),
    Row("Dropout", [_SEEN], since=7, until=9, outputs=2, want=lambda x: (x, np.ones_like(x))),
    Row("Dropout", [_SEEN], since=10, outputs=2, want=lambda x: (x, np.ones(x.shape, bool))),
    Row("Dropout", [_SEEN, np.float32(0.5), np.array(False)], since=12, want=lambda x, *_: x),
    Row("NegativeLogLikelihoodLoss", [-f32([1, 2, 3], [4, 5, 6]), i64(2, 0), f32(1, 1, 3)],
        want=lambda *_: np.float32((3 * 3 + 4) / 4)),
    Row("NegativeLogLikelihoodLoss", [-f32([1, 2, 3], [4, 5, 6]), i64(2, 0)], {"ignore_index": 2, "reduction": "none"},
        want=lambda *_: f32(0, 4)),
    Row("SoftmaxCrossEntropyLoss", [np.log(f32([1, 2, 5], [2, 4, 2])), i64(2, 1)], {"reduction": "sum"},
        want=lambda *_: np.float32(-np.log(5 / 8) - np.log(4 / 8))),
]


def _in_groups(x: np.ndarray) -> np.ndarray:
    cut = x.reshape(1, 2, -1)
    return ((cut - cut.mean(2, keepdims=True)) / np.sqrt(cut.var(2, keepdims=True) + 1e-5)).reshape(x.shape)


_CORNERS = f32([[1, 2], [3, 4]])[None]
_TWICE = f32(1, 1, 2, 2)
_NOTHING = np.zeros(0, np.float32)

RESIZED = [
    Row("Upsample", [_CORNERS], {"height_scale": 2.0, "width_scale": 3.0}, until=1,
        want=lambda x: x.repeat(2, 2).repeat(3, 3)),
    Row("Upsample", [_CORNERS], {"scales": [1.0, 1.0, 2.0, 3.0]}, since=7, until=8,
        want=lambda x: x.repeat(2, 2).repeat(3, 3)),
    Row("Upsample", [_CORNERS], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}, since=7, until=8, **_NEAR),
    Row("Upsample", [_CORNERS, f32(1, 1, 2, 3)], since=9, want=lambda x, s: x.repeat(2, 2).repeat(3, 3)),
    Row("Resize", [_CORNERS, _TWICE], until=10, want=lambda x, s: x.repeat(2, 2).repeat(2, 3)),
    Row("Resize", [_CORNERS, _NOTHING, _TWICE], {"mode": "linear"}, since=11, **_NEAR),
    Row("Resize", [_CORNERS, None, None, i64(1, 1, 3, 5)], {"mode": "cubic"}, since=13, **_NEAR),
    Row("Resize", [_CORNERS, None, _TWICE], {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        since=13, want=lambda x, *_: exactly(_aligned)(x)),
]


def _aligned(x: np.ndarray) -> np.ndarray:
    """Corners stay where they are, and between them lie thirds."""
    third = np.array([[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]])
    return third @ x @ third.T


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _recurrent(step: Callable[..., Any]) -> Callable[..., Any]:
    """All hidden states, and the last, of one direction: x (T,N,I), w (1,gH,I), r (1,gH,H), b (1,2gH)."""

    def run(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = c = np.zeros((x.shape[1], r.shape[2]))
        states = []
        for t in x.astype(np.float64):
            h, c = step(t, h, c, w[0], r[0], b[0])
            states.append(h[None])
        return np.stack(states).astype(x.dtype), h[None].astype(x.dtype)

    return run


def _rnn(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any) -> Any:
    return np.tanh(x @ w.T + h @ r.T + b[:2] + b[2:]), c


def _lstm(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any) -> Any:
    i, o, f, g = np.split(x @ w.T + h @ r.T + b[:8] + b[8:], 4, 1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any) -> Any:
    z, reset, new = np.split(x @ w.T + b[:6] + b[6:], 3, 1)
    z, reset = _sigmoid(z + h @ r[:2].T), _sigmoid(reset + h @ r[2:4].T)
    new = np.tanh(new + (reset * h) @ r[4:].T)
    return (1 - z) * new + z * h, c


RECURRENT = [row for op, gates, step in (("RNN", 1, _rnn), ("LSTM", 4, _lstm), ("GRU", 3, _gru))
             for arrays in [[drawn(4, 3, 5), drawn(1, 2 * gates, 5), drawn(1, 2 * gates, 2), drawn(1, 4 * gates)]]
             for row in (
                 # Y came only when asked for.
                 Row(op, arrays, {"hidden_size": 2, "output_sequence": 1}, until=6, outputs=2, want=_recurrent(step)),
                 Row(op, arrays, {"hidden_size": 2}, since=7, outputs=2, want=_recurrent(step)))]

ROWS = [*LAYERS, *RESIZED, *RECURRENT]
