"""Encoders of text: (batch, sequence) of ids and a mask of what is padding, in; a vector a token, out."""

from __future__ import annotations

from typing import Any

import torch

from . import Case, architecture, varied

SIZES: dict[str, Any] = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                         "intermediate_size": 37, "max_position_embeddings": 64}


def masked(batch: int = 2, sequence: int = 7, words: int = 99, first: int = 3) -> dict[str, torch.Tensor]:
    """Random ids, the last of each row but the first's being padding."""
    ids = torch.randint(first, words, (batch, sequence))
    mask = torch.ones(batch, sequence, dtype=torch.long)
    mask[1:, -2:] = 0
    return {"input_ids": ids, "attention_mask": mask}


FREE = {0: "batch", 1: "sequence"}


def encoder(model: Any, **example: Any) -> Case:
    given = example or masked()
    return Case(varied(model), given, dict.fromkeys(given, FREE))


@architecture("BERT", "text")
def _() -> Case:
    from transformers import BertConfig, BertModel

    return encoder(BertModel(BertConfig(**SIZES)))


@architecture("RoBERTa", "text")
def _() -> Case:
    from transformers import RobertaConfig, RobertaModel

    return encoder(RobertaModel(RobertaConfig(**SIZES)))


@architecture("ALBERT", "text")
def _() -> Case:
    from transformers import AlbertConfig, AlbertModel

    return encoder(AlbertModel(AlbertConfig(**SIZES, embedding_size=16)))


@architecture("ELECTRA", "text")
def _() -> Case:
    from transformers import ElectraConfig, ElectraModel

    return encoder(ElectraModel(ElectraConfig(**SIZES, embedding_size=16)))


@architecture("DeBERTa-v2", "text")
def _() -> Case:
    from transformers import DebertaV2Config, DebertaV2Model

    return encoder(DebertaV2Model(DebertaV2Config(
        **SIZES, relative_attention=True, max_relative_positions=-1, position_buckets=8, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False)))


@architecture("ModernBERT", "text")
def _() -> Case:
    from transformers import ModernBertConfig, ModernBertModel

    return encoder(ModernBertModel(ModernBertConfig(**SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                                    cls_token_id=1, sep_token_id=2, local_attention=4)))


@architecture("DistilBERT", "text")
def _() -> Case:
    from transformers import DistilBertConfig, DistilBertModel

    return encoder(DistilBertModel(DistilBertConfig(
        vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=37, max_position_embeddings=64)))
