"""Networks of timm: convolutional ones at any height and width, others at the size they are made for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from . import Case, architecture, varied
from .pictures import BATCH, PLANE, picture


def net(name: str, size: tuple[int, int] = (64, 96), free: Mapping[int, str] = PLANE, gain: float = 1.0,
        **settings: Any) -> None:
    """A row: a network of timm by its name, with the size of its picture."""
    def make() -> Case:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import timm

            model = timm.create_model(name, pretrained=False, num_classes=7, **settings)
        return Case(varied(model, gain=gain), {"x": picture(2, *size)}, {"x": dict(free)})

    architecture(f"timm {name}", "timm", needs=("timm",))(make)


net("resnet10t")
net("resnest14d")
net("res2net50_14w_8s")
net("legacy_seresnet18")
net("efficientnet_lite0")
net("tf_efficientnet_b0")
net("mobilenetv4_conv_small")
net("ghostnet_050")
net("repvgg_a0")
net("hrnet_w18_small")
net("dla34")
net("vovnet39a")
net("rexnet_100")
net("tinynet_e")
net("nfnet_l0")
net("convnextv2_atto")
net("convmixer_768_32")
net("edgenext_xx_small")
net("mobileone_s0")
net("fastvit_t8")
net("mobilevit_xxs", (64, 64), BATCH)
net("vit_tiny_patch16_224", (64, 64), BATCH, img_size=64)
net("vit_small_patch14_dinov2", (56, 56), BATCH, img_size=56, depth=2)
net("deit3_small_patch16_224", (64, 64), BATCH, img_size=64, depth=2)
net("eva02_tiny_patch14_224", (56, 56), BATCH, img_size=56, depth=2)
net("beit_base_patch16_224", (64, 64), BATCH, img_size=64, depth=2)
net("swin_tiny_patch4_window7_224", (64, 64), BATCH, img_size=64, window_size=4)
net("swinv2_tiny_window8_256", (64, 64), BATCH, img_size=64, window_size=4)
net("maxvit_tiny_tf_224", (64, 64), BATCH, img_size=64)
net("coatnet_0_224", (64, 64), BATCH, img_size=64)
net("mixer_s32_224", (64, 64), BATCH, img_size=64)
net("gmlp_s16_224", (64, 64), BATCH, img_size=64)
net("resmlp_12_224", (64, 64), BATCH, img_size=64)
net("levit_128s", (64, 64), BATCH, img_size=64)
net("pit_ti_224", (64, 64), BATCH, img_size=64)
net("cait_xxs24_224", (64, 64), BATCH, img_size=64, depth=2)
net("xcit_nano_12_p16_224", (64, 64), BATCH, depth=2)
net("poolformer_s12")
net("pvt_v2_b0")
net("twins_pcpvt_small", (64, 64), BATCH, img_size=64)
net("volo_d1_224", (64, 64), BATCH, img_size=64)
net("crossvit_tiny_240", (240, 240), BATCH)
net("efficientformerv2_s0", (224, 224), BATCH)
net("inception_next_tiny")
net("focalnet_tiny_srf")
net("davit_tiny", (64, 64), BATCH)
net("hiera_tiny_224", (64, 64), BATCH, img_size=64)
net("repghostnet_050")
net("efficientvit_b0")
# It multiplies features with one another: with larger weights its own float32 is far from its float64.
net("starnet_s1", gain=0.5)
net("mambaout_femto")
net("vit_base_patch16_siglip_224", (64, 64), BATCH, img_size=64, depth=2)
net("naflexvit_base_patch16_gap", (64, 64), BATCH, depth=2)
