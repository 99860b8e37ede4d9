"""Functions and layers by hand, a name for each: what must cross from PyTorch at every size and in every opset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

# name: (module, example tensors, free dims of the inputs or None)
Case = tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, dict[int, str]] | None]
CASES: dict[str, Case] = {}
# What ONNX Runtime's CPU build has no kernels for: these run on the reference alone.
NO_ENGINE: set[str] = set()
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
    module = Called(lambda m, *given: m(*given), f) if isinstance(f, nn.Module) else Called(f)
    CASES[name] = (module, example, free)


BATCH: dict[str, dict[int, str]] = {"a": {0: "batch"}}
PICTURE: dict[str, dict[int, str]] = {"a": {0: "batch", 2: "height", 3: "width"}}
ROWS: dict[str, dict[int, str]] = {"a": {0: "batch", 1: "time"}, "b": {0: "batch"}}
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

# Norms
case("layer norm", nn.LayerNorm((3, 4)), randn(2, 5, 3, 4), free=BATCH)
case("rms norm", nn.RMSNorm(4), randn(2, 3, 4), free=TIME)
case("group norm", nn.GroupNorm(2, 6), randn(2, 6, 4, 5), free=PICTURE)
case("instance norm", nn.InstanceNorm2d(3, affine=True), randn(2, 3, 4, 5), free=PICTURE)
case("instance norm that tracks", nn.InstanceNorm1d(3, track_running_stats=True), randn(2, 3, 5), free=BATCH)
case("batch norm", nn.Sequential(nn.BatchNorm2d(3)), randn(2, 3, 4, 5), free=PICTURE)
case("batch norm in training", lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3), training=True),
     randn(4, 3, 5), free=BATCH)
case("local response norm", lambda x: F.local_response_norm(x, 3), randn(2, 5, 4, 4), free=BATCH)
case("normalised rows", lambda x: (F.normalize(x, dim=1), F.cosine_similarity(x, x.flip(0), 1),
                                   torch.renorm(x, 2, 0, 1.0)), randn(3, 5))

# Activations
case("activations", lambda x: (F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.mish(x), F.hardswish(x),
                               F.hardsigmoid(x), F.elu(x, 0.7), F.selu(x), F.celu(x, 1.3), F.relu6(x),
                               F.leaky_relu(x, 0.2), F.softplus(x, 2, 3), F.softsign(x), F.tanhshrink(x),
                               F.hardshrink(x), F.softshrink(x, 0.3), F.logsigmoid(x), F.threshold(x, 0.1, 20)),
     randn(3, 6) * 3, free=BATCH)
case("activations with weights", lambda x, w: (F.prelu(x, w), F.glu(x, 1)), randn(2, 4, 3), randn(4), free=BATCH)
case("softmaxes", lambda x: (x.softmax(1), x.log_softmax(-1), F.softmin(x, 2)), randn(2, 3, 4))

# Convolutions, pools, pads
case("convolutions", lambda x, w: (F.conv2d(x, w, stride=2, padding=1), F.conv2d(x, w, padding="same", dilation=2),
                                   F.conv_transpose2d(x, w, stride=2, output_padding=1)), randn(2, 4, 6, 7),
     randn(4, 4, 3, 3), free=BATCH)
case("grouped convolutions", nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.ConvTranspose1d(6, 4, 3, groups=2)),
     randn(2, 4, 9), free=BATCH)
case("pools", lambda x: (F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.lp_pool2d(x.abs(), 3, 2)), randn(2, 3, 7, 8),
     free=PICTURE)
case("pooled and unpooled", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), randn(2, 3, 6, 8))
case("pads", lambda x: (F.pad(x, (1, 2, 0, 1)), F.pad(x, (1, 2), mode="reflect"), F.pad(x, (2, 1), mode="replicate"),
                        F.pad(x, (2, 1), mode="circular"), F.pad(x, (-1, -1), value=3.0)), randn(2, 4, 6), free=BATCH)
case("shuffled pixels", lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.channel_shuffle(x, 2)),
     randn(2, 8, 4, 6), free=BATCH)

# Attention
for mask in ("none", "causal", "bool", "float", "blind"):
    case(f"attention, mask {mask}", lambda q, k, m=mask: F.scaled_dot_product_attention(
        q, k, k, {"bool": q[:, :1, :, :1] > k[:, :1, :, 0].unsqueeze(-2), "float": q[:, :1, :, :1] * k[:, :1, :, 0]
                  .unsqueeze(-2), "blind": torch.zeros(3, 5).index_fill(0, torch.tensor([1]), -torch.inf)}.get(m),
        is_causal=m == "causal"), randn(2, 4, 3, 8), randn(2, 4, 5, 8), free={"a": {0: "batch"}, "b": {0: "batch"}})
case("attention of groups", lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True, scale=0.3),
     randn(2, 4, 3, 8), randn(2, 2, 5, 8), free={"a": {0: "batch"}, "b": {0: "batch"}})

# Recurrent
case("lstm", nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), randn(2, 6, 3), free=TIME)
case("lstm, projected", nn.LSTM(3, 5, proj_size=2, batch_first=True), randn(2, 6, 3), free=TIME)
case("gru", nn.GRU(3, 4, bidirectional=True, batch_first=True), randn(2, 6, 3), free=TIME)
case("rnn", nn.RNN(3, 4, 2, nonlinearity="relu", batch_first=True), randn(2, 6, 3), free=TIME)

# Control flow
case("branch", lambda x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,)), randn(3, 4))
case("loop", lambda x: torch.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, y * 1.5),
                                        (torch.tensor(0), x))[1], randn(3, 4))

# Types and bits
NO_ENGINE.add("bfloat16 arithmetic")
case("bfloat16 arithmetic", lambda x: (lambda h: (h.softmax(1) @ h.mT + F.gelu(h).sum(1, keepdim=True)).cumsum(0).relu()
                                       )(x.to(torch.bfloat16)).float(), randn(3, 4))
case("float16 arithmetic", lambda x: (lambda h: F.layer_norm(h, (4,)).clamp(-1, 1).where(h > 0, h.sin()))(
    x.half()).float(), randn(3, 4))
case("narrow integers", lambda x: (lambda a: (a + a * 2 - a // 3, a.abs().clamp(0, 9), a.sort(1)[0], a.cumsum(1),
                                              (a % 3).where(a > 0, a), a.sum(), a.max(1), a.argmin(1)))(
    x.to(torch.int8)), ints(40, 3, 4))
case("signed bits", lambda x, y: ((x - 50) & (y - 50), (x - 50) | (y - 50), (x - 50) ^ (y - 50), ~(x - 50),
                                  x.to(torch.uint8) & 15, ~x.to(torch.uint8), (x - 50).int() ^ 7),
     ints(100, 5), ints(100, 5))
case("bool arithmetic", lambda x: (lambda b: (b.any(1), b.all(), b.sum(1), b.cumsum(0), b & ~b.flip(1), b.sort(1)[0],
                                              torch.tril(b), b.float().mean()))(x > 0), randn(3, 4))

# Shapes and numbers
case("made", lambda x: (torch.arange(x.shape[0] * 2), torch.linspace(0, 1, 5), torch.eye(3), torch.full_like(x, 2),
                        torch.ones(x.shape[0], 2), F.one_hot(torch.tensor([0, 2]), 4)), randn(3, 4), free=BATCH)
case("arranged", lambda x: (x.roll(1, 1), x.flip(0), x.tril(-1), x.rot90(1, (1, 2)), torch.cartesian_prod(x[0, 0],
                            x[0, 1]), x.repeat(2, 1, 3), x.repeat_interleave(2, 1), torch.block_diag(x[0], x[1]),
                            *torch.meshgrid(x[0, 0], x[0, 1], indexing="ij")), randn(2, 3, 4))
case("products", lambda a, b: (torch.kron(a, b), torch.linalg.cross(a[:, :3], b[:, :3]), torch.outer(a[0], b[0]),
                               torch.tensordot(a, b.mT, 1), torch.addmm(a[:, :3], a, b.mT)), randn(3, 4), randn(3, 4))
case("float parts", lambda x: (x.frac(), x.trunc(), x.round(), x.round(decimals=1), x.sign(), x.log1p().nan_to_num(),
                               x.expm1(), x.exp2(), x.erf(), x.clamp(min=-0.5), torch.atan2(x, x.flip(0)),
                               torch.lerp(x, x.flip(0), 0.3), x.remainder(0.7), x.fmod(0.7), x.isnan(), x.isinf()),
     randn(3, 4) * 2, free=BATCH)
case("put in ranges", lambda x: (x.slice_scatter(x[:, :2] * 2, 1, 1, 3), x.select_scatter(x[:, 0], 1, 2),
                                 x.diagonal_scatter(x[:3, 0]), x.index_fill(1, torch.tensor([0, 2]), 5.0),
                                 x.index_add(0, torch.tensor([0, 0, 2]), x)), randn(3, 4))

# Packed sequences
LENGTHS = torch.tensor([3, 6, 1])


class Packed(nn.Module):
    """A recurrent layer over rows that end at different times."""

    def __init__(self, layer: nn.Module, batch_first: bool = True, enforce_sorted: bool = False, **pad: Any):
        super().__init__()
        self.layer, self.first, self.sorted, self.pad = layer, batch_first, enforce_sorted, pad

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, self.first, self.sorted)
        y, states = self.layer(packed)
        return (*pad_packed_sequence(y, self.first, **self.pad), states)


for kind, layer in (("lstm", nn.LSTM(3, 4, 2, bidirectional=True)), ("gru", nn.GRU(3, 4, 2)),
                    ("rnn", nn.RNN(3, 4, bidirectional=True)), ("projected", nn.LSTM(3, 5, proj_size=2,
                                                                                      bidirectional=True))):
    case(f"packed {kind}", Packed(layer), randn(3, 6, 3), LENGTHS, free=ROWS)
case("packed and sorted", Packed(nn.LSTM(3, 4, batch_first=True), False, True, padding_value=-1.0, total_length=8),
     randn(6, 3, 3), torch.tensor([6, 3, 1]))
case("packed data by itself", lambda x, n: (lambda p: pad_packed_sequence(
    PackedSequence(p.data.relu() * 2, p.batch_sizes, p.sorted_indices, p.unsorted_indices), True))(
    pack_padded_sequence(x, n, True, False)), randn(3, 6, 2), LENGTHS, free=ROWS)

# Sampling at points: every mode with every border, pictures and volumes, beyond the border too
for align in (False, True):
    for padding in ("zeros", "border", "reflection"):
        case(f"grid, {padding}, {'aligned' if align else 'by halves'}", lambda x, g, a=align, p=padding: tuple(
            F.grid_sample(x, g, m, p, a) for m in ("bilinear", "nearest", "bicubic")), randn(2, 3, 4, 5),
            randn(2, 3, 4, 2) * 1.7, free={"a": {0: "batch"}, "b": {0: "batch"}})
        case(f"volume grid, {padding}, {'aligned' if align else 'by halves'}", lambda x, g, a=align, p=padding: tuple(
            F.grid_sample(x, g, m, p, a) for m in ("bilinear", "nearest")), randn(2, 2, 3, 4, 5),
            randn(2, 3, 2, 4, 3) * 1.7, free={"a": {0: "batch"}, "b": {0: "batch"}})

# Putting, with and without what is there
for reduce in ("sum", "prod", "mean", "amax", "amin"):
    case(f"scatter {reduce} into what is there", lambda x, i, s, r=reduce: (
        x.scatter_reduce(0, i, s, r), x.index_reduce(0, i[0, :2], s[:, :5].expand(2, 5), r) if r != "sum" else x),
        randn(3, 5), ints(3, 2, 5), randn(1, 5).expand(2, 5))
case("put in all ways", lambda x, v: (
    x.index_put((torch.tensor([[0, 1], [2, 0]]), torch.tensor([1])), v[0, 0], accumulate=True),
    x.index_put((x > 0.5,), torch.tensor(2.0), accumulate=True),
    x.index_put((torch.tensor([True, False, True]),), v[:2]), x.put(torch.tensor([3, 3, 0]), v[0, :3], accumulate=True),
    x.scatter(1, torch.tensor([[1], [0], [1]]), 7.0),
    x.scatter_add(0, torch.tensor([[0, 0, 2, 2]]), v[:1]), x[:, [2, 0]], x[torch.tensor([2, 0]), :, None]),
     randn(3, 4), randn(3, 4))

# Bags
for mode in ("sum", "mean", "max"):
    case(f"bags, {mode}", lambda w, i, o, m=mode: (
        F.embedding_bag(i, w, o, mode=m, padding_idx=2), F.embedding_bag(i.reshape(2, 4), w, mode=m)),
        randn(6, 3), ints(6, 8), torch.tensor([0, 3, 3, 5]))
case("bags with weights", lambda w, i, o: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=w[i, 0],
                                                          padding_idx=1, include_last_offset=True),
     randn(6, 3), ints(6, 8), torch.tensor([0, 2, 5, 8]))
case("embedding", lambda w, i: F.embedding(i, w, padding_idx=0), randn(6, 3), ints(6, 2, 4))

# Losses, every option
for reduction in ("mean", "sum", "none"):
    case(f"losses of classes, {reduction}", lambda x, y, r=reduction: (
        F.nll_loss(x, y, torch.arange(1.0, 5), ignore_index=1, reduction=r), F.cross_entropy(x, y, reduction=r),
        F.multi_margin_loss(x, y, p=2, margin=0.7, weight=torch.arange(1.0, 5), reduction=r),
        F.multilabel_margin_loss(x, y.unsqueeze(1).expand(6, 4) * 0 - 1 + (torch.arange(4) < 1) * (y[:, None] + 1),
                                 reduction=r),
        F.cross_entropy(x, y, torch.arange(1.0, 5), label_smoothing=0.3, reduction=r)), randn(6, 4), ints(4, 6))
    case(f"losses of numbers, {reduction}", lambda a, b, r=reduction: (
        F.mse_loss(a, b, reduction=r), F.l1_loss(a, b, reduction=r), F.huber_loss(a, b, delta=0.3, reduction=r),
        F.smooth_l1_loss(a, b, beta=0.2, reduction=r), F.soft_margin_loss(a, b.sign(), reduction=r),
        F.hinge_embedding_loss(a, b.sign(), 0.6, reduction=r), F.poisson_nll_loss(a, b.abs(), False, True, reduction=r),
        F.kl_div(a, b.softmax(1), reduction=r), F.margin_ranking_loss(a, b, b.sign(), 0.2, reduction=r),
        F.multilabel_soft_margin_loss(a, (b > 0).float(), torch.arange(1.0, 5), reduction=r),
        F.triplet_margin_loss(a, b, a.flip(0), 0.7, 1.5, swap=True, reduction=r)), randn(3, 4), randn(3, 4))
    case(f"losses of chances, {reduction}", lambda a, b, r=reduction: (
        F.binary_cross_entropy(a.sigmoid(), b.sigmoid(), b.abs(), reduction=r),
        F.binary_cross_entropy_with_logits(a, b.sigmoid(), b.abs(), reduction=r, pos_weight=torch.arange(1.0, 5)),
        F.cosine_embedding_loss(a, b, torch.tensor([1.0, -1.0, 1.0]), 0.1, reduction=r)),
        randn(3, 4), randn(3, 4))

# Bools chosen and put, and scalars that count as vectors
case("bools by choice", lambda x: (lambda b: (torch.where(b, b.flip(1), ~b), b.masked_fill(x > 1, True),
                                              b.select_scatter(b[:, 1], 1, 0), b.scatter_reduce(
    1, torch.tensor([[0, 0], [1, 1], [2, 0]]), b[:, :2], "amax"), torch.square(b)))(x > 0), randn(3, 4))
case("scalars by index", lambda x: (torch.gather(x.sum(), 0, torch.tensor([0])), x.sum().index_select(
    0, torch.tensor([0])), *torch.std_mean(x[:0], 0)), randn(3, 4))

# Functions of PyTorch that look into their tensors first
LENGTHS: dict[str, dict[int, str]] = {"a": {0: "time", 1: "batch"}, "b": {0: "batch"}, "c": {0: "batch"}}
for reduction in ("none", "mean", "sum"):
    case(f"losses that ask, {reduction}", lambda a, b, r=reduction: (
        F.gaussian_nll_loss(a, b, b.exp(), full=True, reduction=r),
        F.gaussian_nll_loss(a, b, b.exp()[:, 0], reduction=r),
        nn.GaussianNLLLoss(eps=0.1, reduction=r)(a, b, (b * 0.1) ** 2),
        F.ctc_loss(a.T[:, None].log_softmax(2), torch.tensor([[1, 2]]), [4], [2], reduction=r)),
        randn(3, 4), randn(3, 4))
    case(f"ctc loss, {reduction}", lambda a, b, c, r=reduction: (
        F.ctc_loss(a.log_softmax(2), b, c, (b > 0).sum(1), reduction=r, zero_infinity=True),
        F.ctc_loss(a.log_softmax(2), b[b > 0], c, (b > 0).sum(1), blank=0, reduction=r)),
        randn(7, 4, 5), torch.tensor([[1, 2, 2], [4, 1, 0], [0, 0, 0], [3, 3, 3]]), torch.tensor([7, 3, 4, 6]),
        free=LENGTHS)
case("covariances", lambda a, b: (torch.cov(a), torch.cov(a, correction=0, fweights=b, aweights=b * 0.5 + 1),
                                  torch.corrcoef(a), torch.cov(a[0]), a.corrcoef()), randn(3, 5), ints(4, 5) + 1,
     free={"a": {1: "n"}, "b": {0: "n"}})
case("least squares", lambda a, b: (
    torch.linalg.lstsq(a, b).solution, *torch.linalg.lstsq(a, b, driver="gels")[:2],
    torch.linalg.lstsq(a.mT, b[:, :3])[0], torch.linalg.lstsq(a, b, driver="gelsd")[2:]),
     randn(2, 5, 3), randn(2, 5, 2), free={"a": {0: "batch"}, "b": {0: "batch"}})
case("segments", lambda a, b: tuple(torch.segment_reduce(a, r, lengths=b, unsafe=True, initial=i)
                                    for r in ("sum", "mean", "max", "min", "prod") for i in (None, 0.5)),
     randn(6, 3), torch.tensor([2, 0, 3, 1]), free={"a": {1: "features"}})
case("histograms", lambda a, b: (torch.histogram(a, 5),
                                 torch.histogram(a, 4, range=(-1.0, 1.5), weight=b, density=True),
                                 torch.histogram(a, torch.tensor([-1.0, 0.0, 0.3, 2.0])),
                                 torch.histogramdd(a, [2, 3, 2], weight=b[:, 0])),
     randn(9, 3), randn(9, 3).abs())    # torch.export has no shapes of them for free dims

# Narrow floats, in which sums, powers and places of others' would overflow or be too coarse
case("float16 that would overflow", lambda a, b: (lambda x, y: (
    x.var(1), torch.linalg.vector_norm(x, 6, 1), torch.zeros(3, dtype=torch.float16).index_add(0, b, x[:, 0]),
    torch.zeros(3, 4, dtype=torch.float16).scatter_reduce(0, b[:, None].expand(5, 4), x, "mean"),
    F.grid_sample(x[None, None], y[None, None].clamp(-1, 1), align_corners=False),
    F.scaled_dot_product_attention(x, x * 0.1, x)))((a * 300).half(), a[:, :2].half()),
    randn(5, 4), ints(3, 5))
case("divisors", lambda a, b: (torch.gcd(a, b), torch.lcm(a - 20, b), torch.gcd(a.int(), b[0].int())), ints(60, 3, 5),
     ints(60, 3, 5), free={"a": {0: "rows"}, "b": {0: "rows"}})
case("complex functions", lambda a, b: (lambda z: (
    *(torch.view_as_real(v) for v in (
        z.tanh(), z.tan(), z.log1p(), z.expm1(), z.exp2(), F.silu(z), z.diag_embed(), F.pad(z, (1, 2)),
        torch.outer(z[0], z[1]), z[z.real > 0], z.mean(0), torch.addmm(z @ z.mT, z, z.mT, alpha=2), torch.cov(z),
        torch.zeros_like(z), z.roll(1, 1), torch.scatter(z, 1, torch.tensor([[1], [0], [2]]), z[:, :1]))),
    z.var(1), z.std(), z.any(1)))(torch.complex(a, b)), randn(3, 4), randn(3, 4))
