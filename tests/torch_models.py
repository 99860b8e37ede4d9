"""Small networks with the sizes' arithmetic of large ones: what exporters write for them is what inference must follow.

Written as the well-known models are: positions sliced from buffers, causal masks cut to the length of keys, views of
`x.size()`, projections over flattened rows, past keys and values in front of new ones.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import gesher
from gesher.ir import Model, TensorType
from gesher.ir.files import from_bytes
from gesher.symbolic import Dim, sym

WIDTH, HEADS, WORDS, LONGEST = 32, 4, 100, 64


class BertAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dense, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.size()[:-1], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS) + mask
        y = torch.matmul(nn.functional.softmax(scores, -1), v).permute(0, 2, 1, 3).contiguous()
        return self.norm(self.dense(y.view(*y.size()[:-2], WIDTH)) + x)


class Bert(nn.Module):
    """Embeddings of words, kinds and places; two layers; a pooled first word. (B,T) ids, (B,T) mask."""

    position_ids: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(2, WIDTH), \
            nn.Embedding(LONGEST, WIDTH)
        self.register_buffer("position_ids", torch.arange(LONGEST).expand((1, -1)))
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = nn.ModuleList(BertAttention() for _ in range(2))
        self.up, self.down = (nn.ModuleList(nn.Linear(a, b) for _ in range(2))
                              for a, b in ((WIDTH, 64), (64, WIDTH)))
        self.pooler = nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        length = input_ids.size(1)
        kinds = torch.zeros_like(input_ids)
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min
        x = self.norm(self.words(input_ids) + self.kinds(kinds) + self.places(self.position_ids[:, :length]))
        for attention, up, down in zip(self.attention, self.up, self.down):
            x = attention(x, mask)
            x = x + down(F.gelu(up(x)))
        return x, torch.tanh(self.pooler(x[:, 0]))


class Rows(nn.Module):
    """A projection over flattened rows, as GPT-2 has it."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.out = out
        self.weight, self.bias = nn.Parameter(torch.randn(width, out) * 0.02), nn.Parameter(torch.zeros(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.size()[:-1], self.out)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class Gpt2Block(nn.Module):
    causal: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = Rows(WIDTH, 3 * WIDTH), Rows(WIDTH, WIDTH)
        self.up, self.down = Rows(WIDTH, 64), Rows(64, WIDTH)
        self.register_buffer("causal", torch.tril(torch.ones(LONGEST, LONGEST, dtype=torch.bool))[None, None])

    def forward(self, x: torch.Tensor, past: tuple[torch.Tensor, torch.Tensor] | None
                ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        q, k, v = (t.view(*t.size()[:-1], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)
                   for t in self.qkv(self.ln1(x)).split(WIDTH, 2))
        if past is not None:
            k, v = torch.cat((past[0], k), -2), torch.cat((past[1], v), -2)
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS)
        asked, known = q.size(-2), k.size(-2)
        mask = self.causal[:, :, known - asked:known, :known]
        scores = torch.where(mask, scores, torch.full([], torch.finfo(torch.float32).min))
        y = torch.matmul(F.softmax(scores, -1), v).permute(0, 2, 1, 3).contiguous()
        x = x + self.out(y.view(*y.size()[:-2], WIDTH))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh")), (k, v)


class Gpt2(nn.Module):
    """(B,T) ids and a mask (B,P+T), past keys and values (B,H,P,D) for each layer where `past`; logits, new ones."""

    def __init__(self, past: bool) -> None:
        super().__init__()
        self.past = past
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Gpt2Block() for _ in range(2)), nn.LayerNorm(WIDTH)

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        before = past[0].size(-2) if self.past else 0
        places = torch.arange(before, input_ids.size(-1) + before, dtype=torch.long).unsqueeze(0)
        x = self.words(input_ids) + self.places(places)
        present: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            x, new = block(x, (past[2 * i], past[2 * i + 1]) if self.past else None)
            present += new
        return (torch.matmul(self.norm(x), self.words.weight.t()), *present)


class Vit(nn.Module):
    """Patches of a picture (B,3,32,32), a word of class in front, two layers of PyTorch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.head_word = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, 17, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(VitBlock() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        batch = pixels.shape[0]
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat((self.head_word.expand(batch, -1, -1), x), 1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class VitBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        x = x + self.out(y)
        return x + self.mlp(self.norm2(x))


class Resnet(nn.Module):
    """A stem, two residual stages, a global mean; height and width are free, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.MaxPool2d(3, 2, 1))
        self.one, self.two = self.stage(8, 8, 1), self.stage(8, 16, 2)
        self.short = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        self.pool, self.head = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(16, 10)

    @staticmethod
    def stage(a: int, b: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
                             nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.stem(pixels)
        x = F.relu(self.one(x) + x)
        x = F.relu(self.two(x) + self.short(x))
        return self.head(torch.flatten(self.pool(x), 1))


class Pyramid(nn.Module):
    """Down and up again, to the size of another layer and by factors: sizes go through float arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.side, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.down1(pixels)
        b = self.down2(a)
        x = self.side(a) + F.interpolate(b, size=a.shape[-2:], mode="nearest")
        x = F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False)
        half = F.interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
        return self.last(x), half


@dataclass(frozen=True)
class Network:
    """A module and how it is called: example inputs by name, which of their dims are free, names of its outputs."""

    make: Callable[[], nn.Module]
    example: Callable[[], dict[str, torch.Tensor]]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make().eval()


def _ids(length: int) -> torch.Tensor:
    return torch.randint(0, WORDS, (2, length))


_TEXT = {0: "batch", 1: "sequence"}
_PICTURE = {0: "batch", 2: "height", 3: "width"}
_PAST = [f"past_{i}_{kind}" for i in range(2) for kind in ("key", "value")]
_PRESENT = tuple(n.replace("past", "present") for n in _PAST)

NETWORKS: dict[str, Network] = {
    "BERT": Network(Bert, lambda: {"input_ids": _ids(7), "attention_mask": torch.ones(2, 7, dtype=torch.long)},
                    {"input_ids": _TEXT, "attention_mask": _TEXT}, ("hidden", "pooled")),
    "GPT-2": Network(lambda: Gpt2(False), lambda: {"input_ids": _ids(7)}, {"input_ids": _TEXT},
                     ("logits", *_PRESENT)),
    "GPT-2 with past": Network(
        lambda: Gpt2(True), lambda: {"input_ids": _ids(3), **{n: torch.randn(2, HEADS, 5, WIDTH // HEADS)
                                                               for n in _PAST}},
        {"input_ids": _TEXT, **{n: {0: "batch", 2: "past"} for n in _PAST}}, ("logits", *_PRESENT)),
    "ViT": Network(Vit, lambda: {"pixels": torch.randn(2, 3, 32, 32)}, {"pixels": {0: "batch"}}, ("logits",)),
    "ResNet": Network(Resnet, lambda: {"pixels": torch.randn(2, 3, 64, 96)}, {"pixels": _PICTURE}, ("logits",)),
    "pyramid": Network(Pyramid, lambda: {"pixels": torch.randn(2, 3, 64, 96)}, {"pixels": _PICTURE},
                       ("whole", "half")),
}

EXPORTERS = ("gesher", "torchscript", "dynamo")


def exported(name: str, exporter: str) -> Model:
    """A network as an exporter writes it; the outputs' declared shapes are its own.

    Raises:
        ModuleNotFoundError: PyTorch's newer exporter lacks its package onnxscript.
    """
    network = NETWORKS[name]
    module, example = network.module(), network.example()
    arguments = tuple(example.values())
    # Annotated as taking paths alone, they take files as well.
    file: Any = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), \
            contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "gesher":
            # A program, since only there PyTorch may narrow a free dim: positions end at LONGEST.
            program = torch.export.export(module, arguments, dynamic_shapes=_free(network, example), strict=False)
            return gesher.export(program, verify=False)
        if exporter == "torchscript":
            axes = {**network.dynamic, **{n: {0: "batch"} for n in network.outputs}}
            torch.onnx.export(module, arguments, file, dynamo=False, opset_version=17, input_names=list(example),
                              output_names=list(network.outputs), dynamic_axes=axes)
        else:
            made = torch.onnx.export(module, arguments, dynamo=True, dynamic_shapes=_free(network, example),
                                     verbose=False)
            assert made is not None
            made.save(file)
    return from_bytes(file.getvalue())


def _free(network: Network, example: Mapping[str, torch.Tensor]) -> Any:
    """The free dims as torch.export takes them: in the shape of the arguments of `forward`."""
    dims = [dict.fromkeys(network.dynamic[n], torch.export.Dim.DYNAMIC) for n in example]
    # `*past` is one argument.
    return (dims[0], tuple(dims[1:])) if len(dims) > 2 else tuple(dims)


def without_types(model: Model) -> Model:
    """`model` without what its exporter says of any value but the inputs; sizes of inputs that have no name get one."""
    graph = model.graph
    for g in model.graphs():
        for node in g.nodes:
            for o in node.outputs:
                if o is not None:
                    o.type = None
    for v in graph.inputs:
        if isinstance(v.type, TensorType) and v.type.shape is not None:
            v.type = TensorType(v.type.dtype, tuple(
                sym(f"{v.name}_{i}") if d is None or (isinstance(d, Dim) and (d.is_fresh or not d.name.isidentifier()))
                or (isinstance(d, int) and d <= 0) else d for i, d in enumerate(v.type.shape)))
    return model
