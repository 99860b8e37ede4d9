"""Encoders with decoders: what is read, and what was written so far, in; scores of what comes next, out."""

from __future__ import annotations

from typing import Any

import torch

from . import Case, architecture, varied
from .text import masked

READ = {0: "batch", 1: "read"}
WRITTEN = {0: "batch", 1: "written"}


def translator(model: Any) -> Case:
    example = {**masked(), "decoder_input_ids": torch.randint(3, 99, (2, 5))}
    return Case(varied(model), example, {"input_ids": READ, "attention_mask": READ, "decoder_input_ids": WRITTEN})


@architecture("T5", "seq2seq")
def _() -> Case:
    from transformers import T5Config, T5ForConditionalGeneration

    return translator(T5ForConditionalGeneration(T5Config(
        vocab_size=99, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        decoder_start_token_id=0)))


@architecture("BART", "seq2seq")
def _() -> Case:
    from transformers import BartConfig, BartForConditionalGeneration

    return translator(BartForConditionalGeneration(BartConfig(
        vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37, max_position_embeddings=64)))


@architecture("Whisper", "seq2seq")
def _() -> Case:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration(WhisperConfig(
        vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37, num_mel_bins=16, max_source_positions=20,
        max_target_positions=24, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1))
    # Whisper reads windows of one length: the encoder's positions are a table that is added whole.
    example = {"input_features": torch.randn(2, 16, 40), "decoder_input_ids": torch.randint(3, 99, (2, 5))}
    return Case(varied(model), example, {"input_features": {0: "batch"}, "decoder_input_ids": WRITTEN})
