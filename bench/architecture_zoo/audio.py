"""Networks over sound: samples or spectrograms in; and one that speaks, from characters to samples."""

from __future__ import annotations

from typing import Any

import torch

from .pictures import SMALL, config, hugging, words


def _wav2vec_config() -> Any:
    return config("Wav2Vec2Config", vocab_size=20, conv_dim=(16, 16, 16), conv_stride=(5, 2, 2),
                   conv_kernel=(10, 3, 3), num_feat_extract_layers=3, num_conv_pos_embeddings=16,
                   num_conv_pos_embedding_groups=4, do_stable_layer_norm=False, **SMALL)


def _sound(n: int, samples: int) -> torch.Tensor:
    return torch.randn((n, samples), generator=torch.Generator().manual_seed(samples))


def _vits_config() -> Any:
    return config("VitsConfig", vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64,
                   flow_size=32, spectrogram_bins=33, prior_encoder_num_flows=2, prior_encoder_num_wavenet_layers=2,
                   posterior_encoder_num_wavenet_layers=2, upsample_initial_channel=32, upsample_rates=[4, 4],
                   upsample_kernel_sizes=[8, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
                   duration_predictor_filter_channels=32, wavenet_kernel_size=3,
                   duration_predictor_num_flows=2, noise_scale=0.0, noise_scale_duration=0.0)


hugging("wav2vec 2.0", "audio", "Wav2Vec2ForCTC", _wav2vec_config, lambda: {"input_values": _sound(2, 800)},
        {"input_values": {0: "batch", 1: "samples"}})
hugging("AST", "audio", "ASTForAudioClassification",
        lambda: config("ASTConfig", max_length=64, num_mel_bins=32, **SMALL),
        lambda: {"input_values": torch.randn(2, 64, 32)}, {"input_values": {0: "batch"}})
hugging("VITS", "audio", "VitsModel", _vits_config,
        lambda: {"input_ids": words(2, 7, 30), "attention_mask": torch.ones(2, 7, dtype=torch.long)},
        {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"}})
