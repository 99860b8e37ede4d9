"""Networks over words, and transformers at large, written compactly in PyTorch: real sizes, random weights.

Attention goes through `scaled_dot_product_attention`, as the libraries that people export from write it today; the
exporters take it apart in their own ways.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (as all of PyTorch's users write it)


def settle(net: nn.Module) -> nn.Module:
    """The net with random weights, scores wide enough that attention is not flat; ready for inference."""
    torch.manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, std=m.in_features ** -0.5)
            if m.bias is not None:
                nn.init.normal_(m.bias, std=0.05)
        elif isinstance(m, nn.Embedding):
            nn.init.normal_(m.weight, std=0.5)
        elif isinstance(m, nn.LayerNorm):
            nn.init.normal_(m.weight, 1.0, 0.1)
            nn.init.normal_(m.bias, std=0.05)
    return net.eval()


class Attention(nn.Module):
    """Multi-head attention with its four projections; `mask` is added to the scores."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = F.scaled_dot_product_attention(self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x)), mask)
        return self.out(y.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


class PostNorm(nn.Module):
    """BERT's layer: norms behind the sums, GELU with erf."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention, self.norm1 = Attention(width, heads), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """BERT (Devlin et al. 2018): input_ids, attention_mask, token_type_ids (N,T) int64.

    Gives (last_hidden_state (N,T,width), pooled (N,width)), or, with `sentence`, the mean over the words that count,
    of length 1 (N,width), as sentence-transformers do.
    """

    def __init__(self, width: int = 768, layers: int = 12, heads: int = 12, vocabulary: int = 30522,
                 sentence: bool = False):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(512, width)
        self.types, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(PostNorm(width, heads) for _ in range(layers))
        self.pool = None if sentence else nn.Linear(width, width)
        self.register_buffer("numbers", torch.arange(512)[None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        x = self.words(input_ids) + self.types(token_type_ids) + self.positions(self.numbers[:, :input_ids.shape[1]])
        x = self.norm(x)
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, mask)
        if self.pool is not None:
            return x, torch.tanh(self.pool(x[:, 0]))
        counted = attention_mask[:, :, None].to(x.dtype)
        return (F.normalize((x * counted).sum(1) / counted.sum(1).clamp(min=1e-9), p=2.0, dim=1),)


class PreNorm(nn.Module):
    """The vision transformer's layer: norms before, one projection for query, key and value."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Vit(nn.Module):
    """ViT-tiny of patches of 16 (Dosovitskiy et al. 2020): x (N,3,224,224), y (N,1000)."""

    def __init__(self, width: int = 192, layers: int = 12, heads: int = 3):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.first = nn.Parameter(torch.randn(1, 1, width, generator=torch.Generator().manual_seed(1)) * 0.2)
        self.positions = nn.Parameter(torch.randn(1, 197, width, generator=torch.Generator().manual_seed(2)) * 0.2)
        self.layers = nn.Sequential(*(PreNorm(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class GptLayer(nn.Module):
    """GPT-2's layer with its past: keys and values (N,heads,P,d) go in, (N,heads,P+T,d) come out."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, key: Tensor | None, value: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        n, t, c = x.shape
        q, k, v = (y.view(n, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(c, 2))
        if key is not None and value is not None:
            k, v = torch.cat([key, k], 2), torch.cat([value, v], 2)
        # One step looks at all that was; a prompt looks back only.
        y = F.scaled_dot_product_attention(q, k, v, is_causal=key is None)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")), k, v


class Gpt2(nn.Module):
    """GPT-2 small (Radford et al. 2019): input_ids (N,T), and for a step the past, key and value of each layer.

    Gives the logits (N,T,50257) and the keys and values that the next step needs.
    """

    def __init__(self, width: int = 768, layers: int = 12, heads: int = 12, vocabulary: int = 50257):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(1024, width)
        self.layers = nn.ModuleList(GptLayer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        before = past[0].shape[2] if past else 0
        x = self.words(input_ids) + self.positions(torch.arange(before, before + input_ids.shape[1]))
        present: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, *(past[2 * i:2 * i + 2] if past else (None, None)))
            present += [k, v]
        return self.head(self.norm(x)), *present


class Tagger(nn.Module):
    """Words, two bidirectional LSTM layers, a tag for each word: ids (N,T) int64, scores (N,T,20)."""

    def __init__(self, vocabulary: int = 10000, width: int = 128, hidden: int = 256, tags: int = 20):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(ids))[0])
