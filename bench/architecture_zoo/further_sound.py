"""More networks over sound, and over series of numbers, than the zoo must have; each a row by its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .audio import _sound
from .pictures import SMALL, config, hugging, words

WAVES: dict[str, Any] = {"vocab_size": 20, "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2),
                         "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
                         "num_conv_pos_embedding_groups": 4, **SMALL}


def heard(model: str, configuration: str, **settings: Any) -> None:
    """A row: a network over samples."""
    hugging(model, "further sound", model, lambda: config(configuration, **{**WAVES, **settings}),
            lambda: {"input_values": _sound(2, 800)}, {"input_values": {0: "batch", 1: "samples"}})


def net(model: str, configuration: str, example: Any, free: Mapping[str, Mapping[int, str]], **settings: Any) -> None:
    """A row: a network with inputs of its own."""
    hugging(model, "further sound", model, lambda: config(configuration, **settings), example, free)


heard("HubertForCTC", "HubertConfig")
heard("WavLMForCTC", "WavLMConfig", num_buckets=8, max_bucket_distance=16)
heard("SEWForCTC", "SEWConfig", squeeze_factor=2)
heard("SEWDForCTC", "SEWDConfig", squeeze_factor=2, position_buckets=4, max_position_embeddings=64)
heard("UniSpeechForCTC", "UniSpeechConfig")
heard("UniSpeechSatForCTC", "UniSpeechSatConfig")
heard("Data2VecAudioForCTC", "Data2VecAudioConfig", num_conv_pos_embeddings=2, conv_pos_kernel_size=5)
heard("Wav2Vec2ConformerForCTC", "Wav2Vec2ConformerConfig", conv_depthwise_kernel_size=5)
heard("Wav2Vec2ForXVector", "Wav2Vec2Config", tdnn_dim=[16, 16, 32], tdnn_kernel=[3, 2, 1], tdnn_dilation=[1, 2, 1],
      xvector_output_dim=16)
net("ClapModel", "ClapConfig", lambda: {
    "input_ids": words(2, 9, 90), "attention_mask": torch.ones(2, 9, dtype=torch.long),
    "input_features": torch.randn(2, 1, 64, 16), "is_longer": torch.tensor([[False], [False]])},
    {"input_ids": {0: "texts", 1: "sequence"}, "attention_mask": {0: "texts", 1: "sequence"}},
    projection_dim=16, text_config={"vocab_size": 99, **SMALL, "max_position_embeddings": 64, "projection_dim": 16},
    audio_config={"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
                  "patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 4],
                  "num_hidden_layers": 2, "projection_dim": 16, "enable_fusion": False, "num_classes": 5})
net("SpeechT5ForSpeechToText", "SpeechT5Config", lambda: {
    "input_values": _sound(2, 800), "decoder_input_ids": words(2, 5, 20)},
    {"input_values": {0: "batch", 1: "samples"}, "decoder_input_ids": {0: "batch", 1: "written"}},
    vocab_size=20, hidden_size=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=40, conv_dim=(16, 16, 16), conv_stride=(5, 2, 2),
    conv_kernel=(10, 3, 3), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
net("Speech2TextForConditionalGeneration", "Speech2TextConfig", lambda: {
    "input_features": torch.randn(2, 24, 16), "decoder_input_ids": words(2, 5, 90)},
    {"input_features": {0: "batch", 1: "frames"}, "decoder_input_ids": {0: "batch", 1: "written"}},
    vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=40, input_feat_per_channel=16, conv_channels=16,
    max_source_positions=64, max_target_positions=64)
net("MoonshineForConditionalGeneration", "MoonshineConfig", lambda: {
    "input_values": _sound(2, 4000), "decoder_input_ids": words(2, 5, 90)},
    {"input_values": {0: "batch", 1: "samples"}, "decoder_input_ids": {0: "batch", 1: "written"}},
    vocab_size=99, hidden_size=32, intermediate_size=40, encoder_num_hidden_layers=2, decoder_num_hidden_layers=2,
    encoder_num_attention_heads=4, decoder_num_attention_heads=4, max_position_embeddings=64)
net("EncodecModel", "EncodecConfig", lambda: {"input_values": torch.randn(1, 1, 640)},
    {"input_values": {2: "samples"}}, num_filters=4, hidden_size=16, codebook_size=16, codebook_dim=16,
    num_lstm_layers=1, upsampling_ratios=[4, 2], target_bandwidths=[48.0])
net("DacModel", "DacConfig", lambda: {"input_values": torch.randn(2, 1, 640)}, {"input_values": {0: "batch"}},
    encoder_hidden_size=8, downsampling_ratios=[2, 4], decoder_hidden_size=32, n_codebooks=2, codebook_size=16,
    codebook_dim=4)
net("UnivNetModel", "UnivNetConfig", lambda: {"input_features": torch.randn(2, 8, 16),
                                              "noise_sequence": torch.randn(2, 8, 8)},
    {"input_features": {0: "batch"}, "noise_sequence": {0: "batch"}}, model_in_channels=8, model_hidden_channels=8,
    num_mel_bins=16, resblock_kernel_sizes=[3], resblock_stride_sizes=[4], resblock_dilation_sizes=[[1, 3]],
    kernel_predictor_hidden_channels=8)

net("PatchTSTForPrediction", "PatchTSTConfig", lambda: {"past_values": torch.randn(2, 32, 3)},
    {"past_values": {0: "batch"}}, num_input_channels=3, context_length=32, patch_length=8, patch_stride=8,
    d_model=16, num_attention_heads=4, num_hidden_layers=2, ffn_dim=32, prediction_length=8)
net("PatchTSMixerForPrediction", "PatchTSMixerConfig", lambda: {"past_values": torch.randn(2, 32, 3)},
    {"past_values": {0: "batch"}}, num_input_channels=3, context_length=32, patch_length=8, patch_stride=8,
    d_model=16, num_layers=2, prediction_length=8)


def _series(past: int, more: int) -> dict[str, Any]:
    return {"past_values": torch.rand(2, past), "past_time_features": torch.randn(2, past, 2),
            "past_observed_mask": torch.ones(2, past), "future_values": torch.rand(2, more),
            "future_time_features": torch.randn(2, more, 2)}


SERIES: dict[str, Any] = {"prediction_length": 6, "context_length": 12, "lags_sequence": [1, 2, 3],
                          "num_time_features": 2, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
                          "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
                          "decoder_ffn_dim": 32}
for _model in ("TimeSeriesTransformer", "Informer", "Autoformer"):
    net(f"{_model}Model", f"{_model}Config", lambda: _series(15, 6),
        {k: {0: "batch"} for k in _series(15, 6)}, **SERIES)
net("DecisionTransformerModel", "DecisionTransformerConfig", lambda: {
    "states": torch.randn(2, 5, 7), "actions": torch.randn(2, 5, 3), "rewards": torch.randn(2, 5, 1),
    "returns_to_go": torch.randn(2, 5, 1), "timesteps": torch.arange(5).repeat(2, 1),
    "attention_mask": torch.ones(2, 5)},
    {k: {0: "batch", 1: "steps"} for k in ("states", "actions", "rewards", "returns_to_go", "timesteps",
                                           "attention_mask")},
    state_dim=7, act_dim=3, hidden_size=32, max_ep_len=40, n_layer=2, n_head=4)
