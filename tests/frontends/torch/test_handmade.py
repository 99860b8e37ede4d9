"""Functions by hand, one for each promise: they cross verified, ONNX Runtime agrees, and free dims stay free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import gesher
from gesher.evaluator.difference import difference

# name: (function, example tensors, free dims of the inputs or None)
Case = tuple[Callable[..., Any], tuple[torch.Tensor, ...], dict[str, dict[int, str]] | None]
CASES: dict[str, Case] = {}
R = torch.Generator().manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=R)


def ints(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=R)


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, f: Callable[..., Any], parts: nn.Module | None = None):
        super().__init__()
        self.f, self.parts = f, parts

    def forward(self, a: torch.Tensor, b: torch.Tensor | None = None, c: torch.Tensor | None = None) -> Any:
        given = [x for x in (a, b, c) if x is not None]
        return self.f(self.parts, *given) if self.parts is not None else self.f(*given)


def case(name: str, f: Callable[..., Any], *example: torch.Tensor,
         free: dict[str, dict[int, str]] | None = None) -> None:
    assert name not in CASES
    CASES[name] = (f, example, free)


BATCH: dict[str, dict[int, str]] = {"a": {0: "batch"}}
PICTURE: dict[str, dict[int, str]] = {"a": {0: "batch", 2: "height", 3: "width"}}
TIME: dict[str, dict[int, str]] = {"a": {0: "batch", 1: "time"}}

# Resizing: by size and by scale, every mode, with free height and width
for mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
    case(f"resize {mode} to size", lambda x, m=mode: F.interpolate(x, (7, 9), mode=m), randn(2, 3, 5, 6), free=PICTURE)
    case(f"resize {mode} by scale", lambda x, m=mode: F.interpolate(x, scale_factor=2.0, mode=m), randn(2, 3, 5, 6),
         free=PICTURE)
    case(f"resize {mode} by odd scale", lambda x, m=mode: F.interpolate(x, scale_factor=(1.7, 0.6), mode=m),
         randn(1, 2, 7, 8))
for mode in ("bilinear", "bicubic"):
    case(f"resize {mode} aligned", lambda x, m=mode: F.interpolate(x, (7, 9), mode=m, align_corners=True),
         randn(2, 3, 5, 6), free=PICTURE)
    case(f"resize {mode} antialiased", lambda x, m=mode: F.interpolate(x, (4, 3), mode=m, antialias=True),
         randn(2, 3, 9, 8), free=BATCH)
case("resize linear", lambda x: F.interpolate(x, scale_factor=1.5, mode="linear"), randn(2, 3, 8), free=BATCH)
case("resize trilinear", lambda x: F.interpolate(x, (3, 5, 4), mode="trilinear"), randn(1, 2, 4, 4, 4), free=BATCH)
case("resize area", lambda x: F.interpolate(x, (3, 4), mode="area"), randn(2, 3, 7, 8), free=BATCH)

# Pools
case("adaptive average of free sizes", lambda x: F.adaptive_avg_pool2d(x, 3), randn(2, 3, 8, 7), free=PICTURE)
case("adaptive average, one size", lambda x: F.adaptive_avg_pool2d(x, (None, 2)), randn(2, 3, 6, 7), free=BATCH)
case("adaptive maximum of free sizes", lambda x: F.adaptive_max_pool2d(x, (2, 3)), randn(2, 3, 8, 7), free=PICTURE)
case("adaptive maximum with places", lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True), randn(2, 3, 8, 7))
case("average with a divisor", lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), randn(2, 3, 7, 8), free=PICTURE)
case("average, ceiled", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
     randn(2, 3, 8, 8), free=PICTURE)
case("maximum, ceiled, with places", lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True),
     randn(2, 3, 8, 8), free=BATCH)
case("grid of a picture", lambda x, g: F.grid_sample(x, g, padding_mode="reflection", align_corners=False),
     randn(2, 3, 6, 5), randn(2, 4, 3, 2), free={"a": {0: "batch"}, "b": {0: "batch"}})
case("grid of a volume", lambda x, g: F.grid_sample(x, g, align_corners=True), randn(1, 2, 4, 5, 3),
     randn(1, 2, 3, 2, 3))
case("grid from an affine map", lambda x, m: F.grid_sample(x, F.affine_grid(m, (2, 3, 4, 4), align_corners=False),
                                                           align_corners=False),
     randn(2, 3, 5, 5), randn(2, 2, 3))

# Fourier and complex numbers
case("fft", lambda x: torch.view_as_real(torch.fft.fft(x)), randn(2, 12), free=BATCH)
case("fft of a free length", lambda x: torch.fft.rfft(x, dim=1).abs(), randn(2, 12), free=TIME)
case("fft and back", lambda x: torch.fft.irfft(torch.fft.rfft(x) * 2, n=11), randn(2, 11), free=BATCH)
case("fft of pictures", lambda x: torch.fft.ifft2(torch.fft.fft2(x, norm="ortho")).real, randn(2, 3, 6, 5), free=BATCH)
case("stft", lambda x: torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True).abs(), randn(2, 80),
     free=BATCH)
case("stft and back", lambda x: torch.istft(torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True), 16,
                                            4, window=torch.hann_window(16), length=80), randn(2, 80), free=BATCH)
case("complex arithmetic", lambda a, b: torch.view_as_real(
    torch.exp(torch.complex(a, b)) / torch.polar(a.abs() + 1, b)), randn(3, 4), randn(3, 4))
case("complex product", lambda a, b: (torch.complex(a, b) @ torch.complex(b, a).mT).angle(), randn(2, 3, 4),
     randn(2, 3, 4))
case("rotary by complex numbers", lambda x, f: torch.view_as_real(
    torch.view_as_complex(x.reshape(2, 5, 4, 2)) * torch.polar(torch.ones_like(f), f)).flatten(2), randn(2, 5, 8),
    randn(5, 4))

# Indices
case("einsum", lambda a, b: torch.einsum("bij,bkj->bik", a, b), randn(2, 3, 4), randn(2, 5, 4))
case("einsum with an ellipsis", lambda a, b: torch.einsum("...ij,jk->...ik", a, b), randn(2, 3, 4), randn(4, 5))
case("put by indices", lambda x, v: x.index_put((torch.tensor([0, 2]), torch.tensor([1, 1])), v), randn(3, 4), randn(2))
case("put and add", lambda x, v: x.index_put((torch.tensor([1, 1, 0]),), v, accumulate=True), randn(3, 4), randn(3, 4))
case("put behind a slice", lambda x, v: torch.index_copy(x, 1, torch.tensor([2, 0]), v), randn(3, 4), randn(3, 2))
case("put by a mask", lambda x: x.masked_fill(x > 0, 5.0).index_put((x < -1,), torch.tensor(0.0)), randn(3, 4),
     free=BATCH)
case("put values by a mask", lambda x: x.masked_scatter(x > 0, torch.arange(12.0)), randn(3, 4))
for reduce in ("sum", "prod", "mean", "amax", "amin"):
    case(f"scatter {reduce}", lambda x, i, s, r=reduce: x.scatter_reduce(1, i, s, r, include_self=False), randn(3, 5),
         ints(5, 3, 4), randn(3, 4))
case("selected by a mask", lambda x: x[x > 0], randn(4, 5), free=BATCH)
case("rows by a mask", lambda x: x[x[:, 0] > 0], randn(6, 3), free=BATCH)
case("a mask of several axes behind a slice", lambda x, m: x[:, m > 0], randn(3, 4, 2), randn(4, 2))
case("nonzero", lambda x: torch.nonzero(x > 0), randn(4, 5), free=BATCH)
case("unique", lambda x: torch.unique(x, return_inverse=True, return_counts=True), ints(5, 12))
case("sorted", lambda x: torch.sort(x, 1, descending=True), randn(3, 5), free=BATCH)
case("top", lambda x: x.topk(3, 1), randn(3, 5), free=BATCH)
case("diagonals", lambda x: (torch.diagonal(x, 1, 1, 2), torch.diag_embed(x[:, 0], 1), torch.triu(x, -1)),
     randn(2, 4, 5), free=BATCH)
case("windows", lambda x: x.unfold(1, 4, 2), randn(2, 11), free=BATCH)
case("columns and back", lambda x: F.fold(F.unfold(x, 3, padding=1), (6, 5), 3, padding=1), randn(2, 3, 6, 5),
     free=BATCH)

# Running, statistics
case("running", lambda x: (x.cumsum(1), x.cumprod(1), x.logcumsumexp(1)), randn(3, 5), free=TIME)
case("running extremes", lambda x: (x.cummax(1), x.cummin(0)), randn(3, 5), free=TIME)
case("statistics", lambda x: (x.std(1), *torch.var_mean(x, 0, correction=0), x.median(1), x.quantile(0.3, 1)),
     randn(4, 6))
case("histogram and places", lambda x: (torch.histc(x, 5, -2, 2), torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]))),
     randn(20))
# No two rows are equal: where the distance is 0, PyTorch's own product for many rows leaves its rounding.
case("distances", lambda x: torch.cdist(x, x.flip(0) * 0.5 + 9), randn(5, 3), free=BATCH)

# Matrices
SQUARE = randn(2, 4, 4) + 4 * torch.eye(4)
case("inverse", lambda x: (torch.linalg.inv(x), torch.linalg.det(x), *torch.linalg.slogdet(x)), SQUARE, free=BATCH)
case("solved", torch.linalg.solve, SQUARE, randn(2, 4, 3))
case("cholesky", lambda x: torch.linalg.cholesky(x @ x.mT), SQUARE, free=BATCH)
case("qr", lambda x: torch.linalg.qr(x), randn(2, 5, 3), free=BATCH)
case("lu", lambda x: torch.linalg.lu(x), randn(2, 4, 3))
case("singular values", lambda x: (torch.linalg.svdvals(x), torch.linalg.pinv(x)), randn(2, 5, 3), free=BATCH)
case("low rank", lambda x: (lambda u, s, v: u[:, :2] * s[:2] @ v[:2])(*torch.linalg.svd(x, full_matrices=False)),
     randn(5, 4))
case("eigenvalues", lambda x: torch.linalg.eigvalsh(x + x.mT), randn(2, 5, 5), free=BATCH)
case("exponential of a matrix", torch.linalg.matrix_exp, randn(3, 3))

# Losses
for reduction in ("mean", "sum", "none"):
    case(f"cross entropy, {reduction}", lambda x, y, r=reduction: F.cross_entropy(
        x, y, torch.tensor([1.0, 2.0, 0.5, 1.5]), ignore_index=2, label_smoothing=0.1, reduction=r), randn(6, 4),
        ints(4, 6), free={"a": {0: "batch"}, "b": {0: "batch"}})
case("cross entropy of pictures", lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2), randn(2, 4, 3, 3),
     ints(4, 2, 3, 3))
case("cross entropy by chances", lambda x, y: F.cross_entropy(x, y.softmax(1), label_smoothing=0.2), randn(5, 4),
     randn(5, 4))
case("other losses", lambda a, b: (F.binary_cross_entropy_with_logits(a, b.sigmoid(), pos_weight=torch.ones(4) * 2),
                                   F.huber_loss(a, b), F.smooth_l1_loss(a, b, beta=0.5),
                                   F.kl_div(a, b, log_target=True, reduction="batchmean"),
                                   F.cosine_embedding_loss(a, b, torch.tensor([1.0, -1.0, 1.0])),
                                   F.triplet_margin_loss(a, b, a.flip(0)), F.poisson_nll_loss(a, b, full=True)),
     randn(3, 4), randn(3, 4).abs())

# Types
for dtype in (torch.float16, torch.bfloat16, torch.float64):
    case(f"cast to {str(dtype)[6:]}", lambda x, d=dtype: x.to(d), randn(3, 4) * 100, free=BATCH)
case("cast to float8 and back", lambda x: x.to(torch.float8_e4m3fn).to(torch.float32), randn(3, 4) * 10, free=BATCH)
case("bits", lambda x, y: (x & y, x | y, x ^ y, ~x, x << 2, x >> 1), ints(100, 5), ints(100, 5))


def run(module: nn.Module, example: tuple[torch.Tensor, ...], free: Any) -> gesher.Model:
    model = gesher.export(module.eval(), example, dynamic=free)
    feeds = {v.name: x.numpy() for v, x in zip(model.graph.inputs, example)}
    with torch.no_grad():
        answer = module(*(x.clone() for x in example))
    flat = [x for x in torch.utils._pytree.tree_leaves(answer) if isinstance(x, torch.Tensor)]
    with gesher.session(model, "onnxruntime") as session:
        got = session.run(feeds)
    for v, want in zip(model.graph.outputs, flat):
        if want.dtype is torch.bfloat16:
            continue    # ONNX Runtime hands these out as bits; the reference has held them
        d = difference(got[v.name], want.numpy())
        assert d.ok, f"{v.name}: {d}"
    return model


@pytest.mark.parametrize("name", CASES)
def test_a_function_crosses(name: str) -> None:
    f, example, free = CASES[name]
    model = run(Called(f), example, free)
    for v in model.graph.inputs:
        for axis, wish in (free or {}).get(v.name, {}).items():
            assert str(v.shape[axis]) == wish
    assert "gesher.verified" in model.metadata


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "projected", "cells"])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_cross(kind: str, both: bool) -> None:
    made = {"lstm": lambda: nn.LSTM(3, 4, 2, bidirectional=both, batch_first=True),
            "gru": lambda: nn.GRU(3, 4, bidirectional=both, batch_first=True),
            "rnn": lambda: nn.RNN(3, 4, bidirectional=both, nonlinearity="relu", batch_first=True),
            "projected": lambda: nn.LSTM(3, 5, proj_size=2, bidirectional=both, batch_first=True),
            "cells": lambda: nn.LSTMCell(3, 4) if both else nn.GRUCell(3, 4)}[kind]()

    def cells(cell: nn.Module, x: torch.Tensor) -> torch.Tensor:
        state: Any = None
        for step in x.unbind(1):
            state = cell(step, state)
        return state[0] if both else state

    module = Called(cells if kind == "cells" else lambda layer, x: layer(x), made)
    run(module, (randn(2, 6, 3),), {"a": {0: "batch"}} if kind == "cells" else TIME)


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float", "heads", "padding", "both"])
def test_attention_crosses_with_every_mask(mask: str) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    n = 5
    square = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    forms: dict[str, dict[str, Any]] = {
        "none": {}, "causal": {"attn_mask": square, "is_causal": True, "need_weights": False},
        "bool": {"attn_mask": square}, "float": {"attn_mask": torch.zeros(n, n).masked_fill(square, -1e4)},
        "heads": {"attn_mask": square.expand(4, n, n)}, "padding": {"key_padding_mask": padded},
        "both": {"attn_mask": square, "key_padding_mask": padded, "average_attn_weights": False}}
    how = forms[mask]
    module = Called(lambda m, x: m(x, x, x, **how), layer)
    run(module, (randn(2, n, 8),), BATCH if mask in ("none", "bool", "float") else None)


def test_batch_statistics_cross() -> None:
    """Normalising by the batch's own statistics, in training as written."""
    run(Called(lambda x: F.batch_norm(x, None, None, training=True)), (randn(4, 3, 5),), BATCH)
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    run(Called(lambda m, x: m(x), layer), (randn(4, 3, 5),), BATCH)


def test_dropout_is_nothing_unless_it_is_asked_for() -> None:
    x = randn(64, 32)
    still = gesher.export(Called(lambda x: F.dropout(x, 0.5, training=False)), (x,))
    assert not [n for n in still.graph.nodes if n.op_type == "Dropout"]
    drawn = gesher.export(Called(lambda x: F.dropout(x, 0.5, training=True)), (x,), dynamic=BATCH)
    with gesher.session(drawn, "onnxruntime") as session:
        y = next(iter(session.run({"a": x.numpy()}).values()))
    kept = y != 0
    assert 0.4 < kept.mean() < 0.6 and np.allclose(y[kept], 2 * x.numpy()[kept])


@pytest.mark.parametrize("draw", [lambda x: torch.rand_like(x), lambda x: torch.randn_like(x) * 0.1 + 0.5,
                                  lambda x: torch.bernoulli(x.sigmoid()), lambda x: torch.rand(64, 32)])
def test_drawn_numbers_are_of_the_same_distribution(draw: Callable[..., Any]) -> None:
    x = torch.zeros(64, 32)
    model = gesher.export(Called(lambda x: draw(x) + 0 * x), (x,))
    with gesher.session(model, "onnxruntime") as session:
        y = next(iter(session.run({"a": x.numpy()}).values()))
    torch.manual_seed(0)
    want = draw(x).numpy()
    # 2048 numbers: the mean of uniform ones is within 0.03 in all but one of 10^5 draws.
    assert abs(y.mean() - want.mean()) < 0.06 and abs(y.std() - want.std()) < 0.06
