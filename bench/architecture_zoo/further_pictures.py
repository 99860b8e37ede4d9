"""More networks over pictures, and over pictures with text, than the zoo must have; each a row by its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .multimodal import _clip_text
from .pictures import BATCH, PLANE, SMALL, config, hugging, picture, words


def net(model: str, configuration: str, size: tuple[int, int] = (64, 64), free: Mapping[int, str] = BATCH,
        argument: str = "pixel_values", video: int = 0, channels: int = 3, **settings: Any) -> None:
    """A row: a network over one picture, or over so many of a film."""
    def example() -> dict[str, Any]:
        return {argument: torch.randn(2, video, channels, *size) if video else
                picture(2, *size) if channels == 3 else torch.randn(2, channels, *size)}

    hugging(model, "further pictures", model, lambda: config(configuration, **settings), example, {argument: free})


VIT = {"image_size": 64, "patch_size": 16, **SMALL}

net("DPTForDepthEstimation", "DPTConfig", backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16],
    fusion_hidden_size=16, is_hybrid=False, **{**VIT, "num_hidden_layers": 4})
net("GLPNForDepthEstimation", "GLPNConfig", (64, 96), PLANE, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16)
net("YolosForObjectDetection", "YolosConfig", num_detection_tokens=5, **{**VIT, "image_size": [64, 64]})
net("Data2VecVisionForImageClassification", "Data2VecVisionConfig", **VIT)
net("LevitForImageClassification", "LevitConfig", image_size=64, hidden_sizes=[16, 24, 32], depths=[1, 1, 1],
    num_attention_heads=[2, 2, 2], key_dim=[8, 8, 8])
net("PoolFormerForImageClassification", "PoolFormerConfig", (64, 96), PLANE, hidden_sizes=[8, 16, 16, 32],
    depths=[1, 1, 1, 1])
net("ConvNextV2ForImageClassification", "ConvNextV2Config", (64, 96), PLANE, hidden_sizes=[8, 16, 16, 32],
    depths=[1, 1, 2, 1])
net("RegNetForImageClassification", "RegNetConfig", (64, 96), PLANE, hidden_sizes=[16, 16, 32, 32],
    depths=[1, 1, 1, 1], groups_width=8, embedding_size=16)
net("CvtForImageClassification", "CvtConfig", (64, 96), PLANE, embed_dim=[8, 16, 32], num_heads=[1, 2, 4],
    depth=[1, 2, 3])
net("MobileViTForImageClassification", "MobileViTConfig", image_size=64, hidden_sizes=[16, 24, 32],
    neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64])
net("MobileViTV2ForImageClassification", "MobileViTV2Config", image_size=64, width_multiplier=0.25)
net("PvtForImageClassification", "PvtConfig", image_size=64, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 2, 4])
net("PvtV2ForImageClassification", "PvtV2Config", (64, 96), PLANE, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 2, 4])
net("TimesformerForVideoClassification", "TimesformerConfig", num_frames=2, video=2, **VIT)
net("VideoMAEForVideoClassification", "VideoMAEConfig", num_frames=4, tubelet_size=2, video=4, **VIT)
net("VivitForVideoClassification", "VivitConfig", num_frames=4, tubelet_size=[2, 16, 16], video=4,
    **{k: v for k, v in VIT.items() if k != "patch_size"})
net("Swinv2ForImageClassification", "Swinv2Config", image_size=64, patch_size=2, embed_dim=16, depths=[1, 2],
    num_heads=[2, 4], window_size=4)
net("Swin2SRForImageSuperResolution", "Swin2SRConfig", (16, 16), image_size=16, embed_dim=16, depths=[2],
    num_heads=[2], window_size=4, upscale=2)
net("DonutSwinModel", "DonutSwinConfig", image_size=64, patch_size=2, embed_dim=16, depths=[1, 2], num_heads=[2, 4],
    window_size=4)
net("FocalNetForImageClassification", "FocalNetConfig", image_size=64, embed_dim=16, depths=[1, 1, 1, 1],
    hidden_sizes=[16, 16, 32, 32], focal_levels=[2, 2, 2, 2], focal_windows=[3, 3, 3, 3])
net("BitForImageClassification", "BitConfig", (64, 96), PLANE, embedding_size=16, hidden_sizes=[32, 32, 64, 64],
    depths=[1, 1, 1, 1], num_groups=4)
net("MobileNetV1ForImageClassification", "MobileNetV1Config", image_size=64, depth_multiplier=0.25, min_depth=8)
net("HieraForImageClassification", "HieraConfig", image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1],
    num_heads=[1, 2, 2, 4], query_stride=[2, 2], num_query_pool=2, masked_unit_size=[8, 8], patch_stride=[4, 4])
net("DINOv3ViTModel", "DINOv3ViTConfig", (64, 96), PLANE, num_register_tokens=2, **VIT)
net("DINOv3ConvNextModel", "DINOv3ConvNextConfig", (64, 96), PLANE, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1])
net("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", (64, 96), PLANE, num_register_tokens=2, **VIT)
net("IJepaModel", "IJepaConfig", **VIT)
net("ViTMSNForImageClassification", "ViTMSNConfig", **VIT)
net("VitDetModel", "VitDetConfig", image_size=64, patch_size=16, hidden_size=32, num_hidden_layers=2,
    num_attention_heads=4, window_size=2, window_block_indices=[0])
net("SwiftFormerForImageClassification", "SwiftFormerConfig", depths=[1, 1, 1, 1], embed_dims=[8, 16, 16, 32],
    image_size=64)
net("TextNetForImageClassification", "TextNetConfig", (64, 96), PLANE)
net("SuperPointForKeypointDetection", "SuperPointConfig", encoder_hidden_sizes=[8, 8, 16, 16],
    decoder_hidden_size=16, keypoint_decoder_dim=65, descriptor_decoder_dim=16)
net("DepthAnythingForDepthEstimation", "DepthAnythingConfig", (56, 56), backbone_config=None, backbone=None)
net("ConditionalDetrForObjectDetection", "ConditionalDetrConfig", (64, 96), PLANE, use_timm_backbone=False,
    use_pretrained_backbone=False, backbone=None, num_queries=6, d_model=32, encoder_layers=1, decoder_layers=1,
    encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4,
    backbone_config={"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 32, 48],
                     "depths": [1, 1, 1, 1], "out_features": ["stage4"]})
net("DeformableDetrForObjectDetection", "DeformableDetrConfig", (64, 64), BATCH, use_timm_backbone=False,
    use_pretrained_backbone=False, backbone=None, num_queries=6, d_model=32, encoder_layers=1, decoder_layers=2,
    encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4,
    num_feature_levels=3, backbone_config={
        "model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 32, 48], "depths": [1, 1, 1, 1],
        "out_features": ["stage2", "stage3", "stage4"]})
net("RTDetrForObjectDetection", "RTDetrConfig", (64, 64), BATCH, d_model=32, encoder_hidden_dim=32,
    encoder_in_channels=[32, 32, 48], feat_strides=[8, 16, 32], encoder_ffn_dim=64, encoder_attention_heads=4,
    decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64, decoder_attention_heads=4, decoder_layers=2, num_queries=10,
    num_denoising=0, backbone_config={
        "model_type": "rt_detr_resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 32, 48],
        "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"]})
net("UperNetForSemanticSegmentation", "UperNetConfig", (64, 96), PLANE, hidden_size=16, pool_scales=[1, 2],
    use_auxiliary_head=False, backbone=None, backbone_config={
        "model_type": "convnext", "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3", "stage4"]})


def both(model: str, configuration: str, settings: Any, example: Any, free: Mapping[str, Mapping[int, str]]) -> None:
    """A row: a network over text and pictures."""
    hugging(model, "further pictures", model, lambda: config(configuration, **settings()), example, free)


def _pairs() -> dict[str, Any]:
    ids = words(2, 9, 90)
    ids[:, -1] = 98
    return {"input_ids": ids, "pixel_values": picture(2, 32, 32), "attention_mask": torch.ones_like(ids)}


VISION = {"image_size": 32, "patch_size": 8, **SMALL}
TEXTS = {"input_ids": {0: "texts", 1: "sequence"}, "attention_mask": {0: "texts", 1: "sequence"},
         "pixel_values": {0: "pictures"}}
TOGETHER = {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"},
            "pixel_values": {0: "batch"}}

both("ChineseCLIPModel", "ChineseCLIPConfig", lambda: {
    "text_config": {"vocab_size": 99, **SMALL, "max_position_embeddings": 64}, "vision_config": VISION,
    "projection_dim": 16}, _pairs, TEXTS)
both("AltCLIPModel", "AltCLIPConfig", lambda: {
    "text_config": {"vocab_size": 99, **SMALL, "max_position_embeddings": 64, "project_dim": 16},
    "vision_config": VISION, "projection_dim": 16}, _pairs, TEXTS)
both("OwlViTModel", "OwlViTConfig", lambda: {"text_config": _clip_text(99), "vision_config": VISION,
                                             "projection_dim": 16}, _pairs, {"input_ids": {0: "texts"},
     "attention_mask": {0: "texts"}, "pixel_values": {0: "pictures"}})
both("GroupViTModel", "GroupViTConfig", lambda: {
    "text_config": _clip_text(99), "projection_dim": 16, "projection_intermediate_dim": 32,
    "vision_config": {**VISION, "num_hidden_layers": 3, "depths": [1, 1, 1], "num_group_tokens": [8, 4, 0],
                      "num_output_groups": [8, 4, 0]}}, _pairs, TEXTS)
both("CLIPSegForImageSegmentation", "CLIPSegConfig", lambda: {
    "text_config": _clip_text(99), "vision_config": VISION, "projection_dim": 16, "extract_layers": [0, 1],
    "reduce_dim": 16, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}, _pairs, {
        "input_ids": {0: "batch"}, "attention_mask": {0: "batch"}, "pixel_values": {0: "batch"}})
both("BlipForConditionalGeneration", "BlipConfig", lambda: {
    "text_config": {**_clip_text(99), "bos_token_id": 1, "encoder_hidden_size": 32}, "vision_config": VISION,
    "projection_dim": 16}, _pairs, TOGETHER)
both("ViltModel", "ViltConfig", lambda: {"vocab_size": 99, "max_position_embeddings": 40, **VISION,
                                         "max_image_length": -1}, lambda: {
    **_pairs(), "pixel_mask": torch.ones(2, 32, 32, dtype=torch.long)}, {
        "input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"}})
both("AlignModel", "AlignConfig", lambda: {
    "text_config": {"vocab_size": 99, **SMALL, "max_position_embeddings": 64},
    "vision_config": {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 80},
    "projection_dim": 80}, lambda: {**_pairs(), "pixel_values": picture(2, 64, 64)}, TEXTS)
both("GitForCausalLM", "GitConfig", lambda: {"vocab_size": 99, **SMALL, "max_position_embeddings": 64,
                                             "vision_config": VISION, "use_cache": False}, _pairs, TOGETHER)
both("Blip2ForConditionalGeneration", "Blip2Config", lambda: {
    "vision_config": {**VISION}, "qformer_config": {"vocab_size": 99, **SMALL, "encoder_hidden_size": 32},
    "text_config": {"model_type": "opt", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "ffn_dim": 40, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "num_query_tokens": 4, "image_token_index": 99}, lambda: {
        "pixel_values": picture(2, 32, 32), "input_ids": _with_pictures(2, 9, 4), "attention_mask": torch.ones(
            2, 9, dtype=torch.long)}, {})


def _with_pictures(n: int, length: int, tokens: int) -> torch.Tensor:
    ids = words(n, length, 90)
    ids[:, 1:1 + tokens] = 99
    return ids
