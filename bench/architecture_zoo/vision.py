"""Networks over pictures, of transformers: (batch, 3, height, width) in; classes, boxes or masks out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .pictures import BATCH, PLANE, SMALL, config, hugging, picture

PIXELS = {"pixel_values": BATCH}
PIXELS_OF_ANY_SIZE = {"pixel_values": PLANE}


def pixels(n: int, height: int, width: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"pixel_values": picture(n, height, width)}


def _detr_config() -> Any:
    return config("DetrConfig", use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                   backbone_config=_resnet_config(), num_queries=6, d_model=32, encoder_layers=1,
                   decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=4,
                   decoder_attention_heads=4)


def _resnet_config() -> Any:
    return config("ResNetConfig", embedding_size=16, hidden_sizes=[16, 32, 32, 48], depths=[1, 1, 1, 1],
                   out_features=["stage4"])


def _swin_config(**more: Any) -> Any:
    return config("SwinConfig", image_size=64, patch_size=2, embed_dim=16, depths=[1, 2, 1, 1],
                   num_heads=[1, 2, 2, 4], window_size=4, **more)


def _mask2former_config() -> Any:
    backbone = _swin_config(out_features=["stage1", "stage2", "stage3", "stage4"])
    return config("Mask2FormerConfig", backbone_config=backbone, feature_size=32, mask_feature_size=32,
                   hidden_dim=32, encoder_feedforward_dim=64, encoder_layers=1, decoder_layers=2,
                   num_attention_heads=4, dim_feedforward=64, num_queries=6)


def _sam_config() -> Any:
    return config("SamConfig", vision_config={**SMALL, "image_size": 64, "patch_size": 16, "output_channels": 16,
                                               "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 64,
                                               "num_pos_feats": 8},
                   prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16,
                                          "mask_input_channels": 8},
                   mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2,
                                        "num_hidden_layers": 1, "iou_head_hidden_dim": 16})


hugging("ViT", "vision", "ViTForImageClassification", lambda: config("ViTConfig", image_size=32, patch_size=8, **SMALL),
        pixels(2, 32, 32), PIXELS)
hugging("DeiT", "vision", "DeiTForImageClassification",
        lambda: config("DeiTConfig", image_size=32, patch_size=8, **SMALL),
        pixels(2, 32, 32), PIXELS)
hugging("BEiT", "vision", "BeitForImageClassification",
        lambda: config("BeitConfig", image_size=32, patch_size=8, **SMALL),
        pixels(2, 32, 32), PIXELS)
hugging("DINOv2", "vision", "Dinov2Model", lambda: config("Dinov2Config", image_size=56, patch_size=14, **SMALL),
        pixels(2, 56, 84), PIXELS_OF_ANY_SIZE)
hugging("Swin", "vision", "SwinForImageClassification", _swin_config, pixels(2, 64, 64), PIXELS)
# Sizes that windows do not fill are padded, which the source branches on at every stage; for sizes without a common
# divisor torch.export does not come to an end, simplifying quotients.
hugging("Swin of any size", "vision", "SwinModel", _swin_config, pixels(2, 64, 128),
        {"pixel_values": {0: "batch", 2: "64*rows", 3: "64*columns"}})
hugging("SegFormer", "vision", "SegformerForSemanticSegmentation",
        lambda: config("SegformerConfig", hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
                        num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=32),
        pixels(2, 64, 96), PIXELS_OF_ANY_SIZE)
hugging("ConvNeXt", "vision", "ConvNextForImageClassification",
        lambda: config("ConvNextConfig", hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 2, 1]),
        pixels(2, 64, 96), PIXELS_OF_ANY_SIZE)
# Of other sizes it pads each side by what is left over, which its source branches on.
hugging("MobileNetV2", "vision", "MobileNetV2ForImageClassification",
        lambda: config("MobileNetV2Config", depth_multiplier=0.35, image_size=64),
        pixels(2, 64, 96), {"pixel_values": {0: "batch", 2: "32*rows", 3: "32*columns"}})
hugging("ResNet", "vision", "ResNetForImageClassification", _resnet_config, pixels(2, 64, 96), PIXELS_OF_ANY_SIZE)
hugging("EfficientNet", "vision", "EfficientNetForImageClassification",
        lambda: config("EfficientNetConfig", width_coefficient=0.25, depth_coefficient=0.3, image_size=64,
                        hidden_dim=320), pixels(2, 64, 96), PIXELS_OF_ANY_SIZE)
hugging("DETR", "vision", "DetrForObjectDetection", _detr_config, pixels(2, 64, 96), PIXELS_OF_ANY_SIZE)
hugging("Mask2Former", "vision", "Mask2FormerForUniversalSegmentation", _mask2former_config, pixels(2, 64, 64), PIXELS)
hugging("SAM", "vision", "SamModel", _sam_config,
        lambda: {"pixel_values": picture(2, 64, 64), "input_points": torch.rand(2, 1, 3, 2) * 64,
                 "input_labels": torch.tensor([[[1, 0, 1]], [[1, 1, 0]]])},
        {"pixel_values": {0: "batch"}, "input_points": {0: "batch", 2: "points"},
         "input_labels": {0: "batch", 2: "points"}})
