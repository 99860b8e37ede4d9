"""Networks of torchvision, most at any height and width; detectors with and without what follows the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from . import Case, architecture, varied
from .pictures import BATCH, PLANE, picture
from .torchvision_schemas import complete


class Detector(torch.nn.Module):
    """A detector over one picture, which torchvision takes in a list: boxes, scores and labels."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        return self.model([x])[0]


class Heads(torch.nn.Module):
    """A single-shot detector without what comes after the network: scores and offsets of every anchor."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def net(name: str, size: tuple[int, int] = (64, 96), free: Mapping[int, str] = PLANE, argument: str = "x",
        video: bool = False, **settings: Any) -> None:
    """A row: a network of torchvision by its name, with the size of its picture."""
    def make() -> Case:
        from torchvision.models import get_model

        model = get_model(name, weights=None, **settings)
        x = torch.randn(2, 3, 4, *size) if video else picture(2, *size)
        return Case(varied(model), {argument: x}, {argument: dict(free)})

    architecture(f"torchvision {name}", "torchvision", needs=("torchvision",))(make)


SEGMENTS: dict[str, Any] = {"weights_backbone": None, "num_classes": 5}

net("resnet18")
net("densenet121")
net("alexnet", (96, 96))
net("vgg11_bn")
net("squeezenet1_1")
net("googlenet", init_weights=False)
net("inception_v3", (128, 160), init_weights=False)
net("mobilenet_v2")
net("mobilenet_v3_small")
net("shufflenet_v2_x0_5")
net("mnasnet0_5")
net("regnet_y_400mf")
net("efficientnet_b0")
net("efficientnet_v2_s")
net("convnext_tiny")
# Windows pad what does not fill them, which the source branches on: other sizes than the example's are refused.
net("swin_t", free=BATCH)
net("swin_v2_t", free=BATCH)
net("vit_b_32", (64, 64), BATCH, image_size=64)
net("deeplabv3_resnet50", **SEGMENTS)
net("fcn_resnet50", **SEGMENTS)
net("lraspp_mobilenet_v3_large", argument="input", **SEGMENTS)
net("r3d_18", (32, 48), {0: "batch", 2: "frames", 3: "height", 4: "width"}, video=True)


@architecture("torchvision MaxViT", "torchvision", needs=("torchvision",))
def _() -> Case:
    from torchvision.models.maxvit import MaxVit

    model = MaxVit(input_size=(64, 64), stem_channels=16, partition_size=2, block_channels=[16, 16, 32, 32],
                   block_layers=[1, 1, 2, 1], head_dim=8, stochastic_depth_prob=0.0, num_classes=5)
    return Case(varied(model), {"x": picture(2, 64, 64)}, {"x": dict(BATCH)})


def _ssdlite() -> Any:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    return varied(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5))


@architecture("torchvision SSDlite heads", "torchvision", needs=("torchvision",))
def _() -> Case:
    return Case(Heads(_ssdlite()).eval(), {"x": picture(2, 320, 320)}, {"x": dict(BATCH)})


def detector(name: str, net: str, free: Mapping[int, str] | None = None, **settings: Any) -> None:
    """A row: a whole detector, from a picture to the boxes that are left; its picture's size is one that it keeps."""
    def make() -> Case:
        from torchvision.models import get_model

        complete()
        model = varied(get_model(net, weights=None, weights_backbone=None, num_classes=5, **settings))
        return Case(Detector(model).eval(), {"x": torch.rand(3, 64, 96)}, {"x": dict(free)} if free else None)

    architecture(name, "torchvision", needs=("torchvision",))(make)


SMALL: dict[str, Any] = {"min_size": 64, "max_size": 96}

detector("torchvision SSDlite", "ssdlite320_mobilenet_v3_large")
detector("torchvision RetinaNet", "retinanet_resnet50_fpn", **SMALL)
detector("torchvision FCOS", "fcos_resnet50_fpn", **SMALL)
detector("torchvision Faster R-CNN", "fasterrcnn_mobilenet_v3_large_320_fpn", **SMALL)
detector("torchvision Mask R-CNN", "maskrcnn_resnet50_fpn", **SMALL)
