"""Networks that look at pictures, written compactly in PyTorch: the layers and sizes of the originals, random weights.

Weights are drawn with their fan-in, and batch norms take the statistics of random pictures, so that what comes out
depends on what goes in and no layer saturates or dies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (as all of PyTorch's users write it)


def settle(net: nn.Module, *example: Tensor) -> nn.Module:
    """The net with random weights that let signals through, ready for inference; `example` is a batch of inputs."""
    torch.manual_seed(0)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu" if norms else "linear")
            if m.bias is not None:
                nn.init.normal_(m.bias, std=0.05)
    for m in norms:
        nn.init.uniform_(m.weight, 0.5, 1.2)
        nn.init.normal_(m.bias, std=0.1)
        m.momentum = None    # a plain average over what it sees
    if norms:
        net.train()
        with torch.no_grad():
            net(*example)
    return net.eval()


def conv_norm(c: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
              ) -> nn.Sequential:
    """Convolution, batch norm and, where given, an activation."""
    layers: list[nn.Module] = [nn.Conv2d(c, out, kernel, stride, kernel // 2, groups=groups, bias=False),
                               nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, *([act] if act is not None else []))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, and the shortcut."""

    def __init__(self, c: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(conv_norm(c, width, 1, act=nn.ReLU()), conv_norm(width, width, 3, stride,
                                                                                   act=nn.ReLU()),
                                  conv_norm(width, 4 * width, 1))
        self.shortcut = conv_norm(c, 4 * width, 1, stride) if stride > 1 or c != 4 * width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """ResNet-50 (He et al. 2015, with the stride on the 3x3): x (N,3,224,224), y (N,1000)."""
    layers: list[nn.Module] = [conv_norm(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    c = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            layers.append(Bottleneck(c, width, stride if i == 0 else 1))
            c = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 1000))


class Inverted(nn.Module):
    """MobileNet's inverted residual, with EfficientNet's squeeze and excitation where `squeeze` is given."""

    def __init__(self, c: int, out: int, kernel: int, stride: int, expand: int, act: type[nn.Module],
                 squeeze: int = 0):
        super().__init__()
        wide = c * expand
        self.expand = conv_norm(c, wide, 1, act=act()) if expand > 1 else nn.Identity()
        self.depthwise = conv_norm(wide, wide, kernel, stride, wide, act())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, squeeze, 1), nn.SiLU(),
                                     nn.Conv2d(squeeze, wide, 1), nn.Sigmoid()) if squeeze else None
        self.project = conv_norm(wide, out, 1)
        self.residual = stride == 1 and c == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        if self.squeeze is not None:
            y = y * self.squeeze(y)
        y = self.project(y)
        return x + y if self.residual else y


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018) of width 1: x (N,3,224,224), y (N,1000)."""
    layers: list[nn.Module] = [conv_norm(3, 32, 3, 2, act=nn.ReLU6())]
    c = 32
    for expand, out, blocks, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                        (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(blocks):
            layers.append(Inverted(c, out, 3, stride if i == 0 else 1, expand, nn.ReLU6))
            c = out
    return nn.Sequential(*layers, conv_norm(c, 1280, 1, act=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(1280, 1000))


def efficientnet_b0() -> nn.Module:
    """EfficientNet-B0 (Tan and Le 2019): x (N,3,224,224), y (N,1000)."""
    layers: list[nn.Module] = [conv_norm(3, 32, 3, 2, act=nn.SiLU())]
    c = 32
    for expand, out, blocks, stride, kernel in ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
                                                (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)):
        for i in range(blocks):
            layers.append(Inverted(c, out, kernel, stride if i == 0 else 1, expand, nn.SiLU, squeeze=max(1, c // 4)))
            c = out
    return nn.Sequential(*layers, conv_norm(c, 1280, 1, act=nn.SiLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(1280, 1000))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N,C,H,W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, then a perceptron over channels-last."""

    def __init__(self, c: int):
        super().__init__()
        self.depthwise = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.up, self.down = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        self.scale = nn.Parameter(torch.full((c,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext_tiny() -> nn.Module:
    """ConvNeXt-T (Liu et al. 2022): x (N,3,224,224), y (N,1000)."""
    widths, depths = (96, 192, 384, 768), (3, 3, 9, 3)
    layers: list[nn.Module] = []
    for i, (c, depth) in enumerate(zip(widths, depths)):
        layers += [nn.Conv2d(3, c, 4, 4), ChannelNorm(c, eps=1e-6)] if i == 0 else \
            [ChannelNorm(widths[i - 1], eps=1e-6), nn.Conv2d(widths[i - 1], c, 2, 2)]
        layers += [ConvNextBlock(c) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(768, eps=1e-6),
                         nn.Linear(768, 1000))


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of four levels: x (N,3,H,W), y (N,2,H,W), H and W multiples of 8."""

    def __init__(self, width: int = 32):
        super().__init__()
        widths = [width << i for i in range(4)]
        self.down = nn.ModuleList(self._pair(c, out) for c, out in zip([3, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, c // 2, 2, 2) for c in widths[:0:-1])
        self.merge = nn.ModuleList(self._pair(c, c // 2) for c in widths[:0:-1])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _pair(c: int, out: int) -> nn.Sequential:
        return nn.Sequential(conv_norm(c, out, 3, act=nn.ReLU()), conv_norm(out, out, 3, act=nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, merge, before in zip(self.up, self.merge, kept[-2::-1]):
            x = merge(torch.cat([before, up(x)], 1))
        return self.head(x)


class C2f(nn.Module):
    """YOLO's split block, its convolutions all 3x3: half goes by, half through residual pairs, all are joined."""

    def __init__(self, c: int, out: int, pairs: int):
        super().__init__()
        self.first = conv_norm(c, out, 3, act=nn.SiLU())
        half = out // 2
        self.pairs = nn.ModuleList(nn.Sequential(conv_norm(half, half, 3, act=nn.SiLU()),
                                                 conv_norm(half, half, 3, act=nn.SiLU())) for _ in range(pairs))
        self.last = conv_norm((2 + pairs) * half, out, 3, act=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for pair in self.pairs:
            parts.append(parts[-1] + pair(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """A detector like YOLO of 3x3 convolutions with SiLU: x (N,3,320,320), boxes and classes (N,84,2100)."""

    def __init__(self, width: int = 32, classes: int = 80):
        super().__init__()
        a, b, c, d = 2 * width, 4 * width, 8 * width, 8 * width

        def conv(i: int, o: int, s: int = 1) -> nn.Sequential:
            return conv_norm(i, o, 3, s, act=nn.SiLU())

        self.stem = nn.Sequential(conv(3, width, 2), conv(width, a, 2), C2f(a, a, 1))
        self.p3 = nn.Sequential(conv(a, b, 2), C2f(b, b, 2))
        self.p4 = nn.Sequential(conv(b, c, 2), C2f(c, c, 1))
        self.p5 = nn.Sequential(conv(c, d, 2), C2f(d, d, 1))
        self.join4, self.join3 = C2f(d + c, b, 1), C2f(b + b, b, 1)
        self.heads = nn.ModuleList(nn.Sequential(conv(w, 64), conv(64, 64), nn.Conv2d(64, 4 + classes, 1))
                                   for w in (b, b, d))
        steps = (8, 16, 32)
        places = [torch.stack(torch.meshgrid(torch.arange(320 // s), torch.arange(320 // s), indexing="xy"), 0)
                  .reshape(2, -1) * s + s / 2 for s in steps]
        self.register_buffer("places", torch.cat(places, 1)[None])
        self.register_buffer("steps", torch.cat([torch.full((p.shape[1],), float(s))
                                                 for p, s in zip(places, steps)])[None, None])

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.join4(torch.cat([F.interpolate(p5, scale_factor=2.0, mode="nearest"), p4], 1))
        n3 = self.join3(torch.cat([F.interpolate(n4, scale_factor=2.0, mode="nearest"), p3], 1))
        found = torch.cat([head(level).flatten(2) for head, level in zip(self.heads, (n3, n4, p5))], 2)
        centre, size, scores = found[:, :2], found[:, 2:4], found[:, 4:]
        return torch.cat([(centre.sigmoid() * 2 - 1) * self.steps + self.places, size.exp() * self.steps,
                          scores.sigmoid()], 1)
