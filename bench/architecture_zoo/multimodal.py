"""Networks over text and pictures together."""

from __future__ import annotations

from typing import Any

import torch

from .pictures import SMALL, config, hugging, picture, words


def _clip_text(vocab: int) -> dict[str, Any]:
    return {"vocab_size": vocab, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 24}


def _clip_inputs() -> dict[str, Any]:
    ids = words(2, 9, 90)
    ids[:, -1] = 98
    return {"input_ids": ids, "pixel_values": picture(2, 32, 32), "attention_mask": torch.ones_like(ids)}


def _llava_config() -> Any:
    vision = config("CLIPVisionConfig", image_size=32, patch_size=8, **SMALL)
    text = config("LlamaConfig", vocab_size=100, num_key_value_heads=2, **SMALL)
    return config("LlavaConfig", vision_config=vision, text_config=text, image_token_index=99,
                   vision_feature_layer=-2)


def _llava_inputs() -> dict[str, Any]:
    ids = words(2, 24, 90)
    ids[:, 2:18] = 99
    return {"input_ids": ids, "pixel_values": picture(2, 32, 32), "attention_mask": torch.ones_like(ids)}


hugging("CLIP", "multimodal", "CLIPModel",
        lambda: config("CLIPConfig", text_config=_clip_text(99), vision_config={**SMALL, "image_size": 32,
                                                                                "patch_size": 8},
                        projection_dim=16), _clip_inputs,
        {"input_ids": {0: "texts", 1: "sequence"}, "attention_mask": {0: "texts", 1: "sequence"},
         "pixel_values": {0: "pictures"}})
hugging("SigLIP", "multimodal", "SiglipModel",
        lambda: config("SiglipConfig", text_config=_clip_text(99),
                        vision_config={**SMALL, "image_size": 32, "patch_size": 8}),
        lambda: {k: v for k, v in _clip_inputs().items() if k != "attention_mask"},
        {"input_ids": {0: "texts", 1: "sequence"}, "pixel_values": {0: "pictures"}})
hugging("LLaVA", "multimodal", "LlavaForConditionalGeneration", _llava_config, _llava_inputs,
        {"input_ids": {0: "batch"}, "attention_mask": {0: "batch"}, "pixel_values": {0: "batch"}})
