"""Decoders that predict the next token: as prefill (a whole prompt at once), and with keys and values of what went
before (`DynamicCache`)."""

from __future__ import annotations

from typing import Any

import torch

from . import Case, architecture, varied
from .text import FREE, masked

SIZES: dict[str, Any] = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                         "intermediate_size": 40, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
                         "pad_token_id": 0}
GROUPED = {**SIZES, "num_key_value_heads": 2}


def prefill(model: Any) -> Case:
    """Ids and mask in, scores and the keys and values of every layer out."""
    return Case(varied(model), masked(), {"input_ids": FREE, "attention_mask": FREE})


def with_past(model: Any, past: int = 5, sequence: int = 3, batch: int = 2) -> Case:
    """Ids of new tokens, a mask over old and new, keys and values of the old."""
    from transformers import DynamicCache

    model = varied(model)
    config = model.config.get_text_config()
    cache = DynamicCache(config=config)
    with torch.no_grad():
        old = torch.randint(3, 99, (batch, past))
        model(input_ids=old, past_key_values=cache, use_cache=True)
    example = {"input_ids": torch.randint(3, 99, (batch, sequence)),
               "attention_mask": torch.ones(batch, past + sequence, dtype=torch.long), "past_key_values": cache}
    example["attention_mask"][1, 0] = 0
    return Case(model, example, {"input_ids": {0: "batch", 1: "sequence"},
                                 "attention_mask": {0: "batch", 1: "past + sequence"},
                                 "past_key_values": {0: "batch", 2: "past"}})


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
                                      eos_token_id=2))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**GROUPED))


def qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**GROUPED, head_dim=8))


def gemma3() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(Gemma3TextConfig(
        **GROUPED, head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=8))


@architecture("GPT-2", "language")
def _() -> Case:
    return prefill(gpt2())


@architecture("GPT-NeoX", "language")
def _() -> Case:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return prefill(GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)))


@architecture("OPT", "language")
def _() -> Case:
    from transformers import OPTConfig, OPTForCausalLM

    return prefill(OPTForCausalLM(OPTConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=37, word_embed_proj_dim=32,
        max_position_embeddings=64)))


@architecture("BLOOM", "language")
def _() -> Case:
    from transformers import BloomConfig, BloomForCausalLM

    return prefill(BloomForCausalLM(BloomConfig(vocab_size=99, hidden_size=32, n_layer=2, n_head=4)))


@architecture("Llama", "language")
def _() -> Case:
    return prefill(llama())


@architecture("Mistral", "language")
def _() -> Case:
    from transformers import MistralConfig, MistralForCausalLM

    return prefill(MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=4)))


@architecture("Mixtral", "language")
def _() -> Case:
    from transformers import MixtralConfig, MixtralForCausalLM

    return prefill(MixtralForCausalLM(MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)))


@architecture("Qwen2", "language")
def _() -> Case:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return prefill(Qwen2ForCausalLM(Qwen2Config(**GROUPED)))


@architecture("Qwen3", "language")
def _() -> Case:
    return prefill(qwen3())


@architecture("Qwen3-MoE", "language")
def _() -> Case:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return prefill(Qwen3MoeForCausalLM(Qwen3MoeConfig(
        **GROUPED, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True)))


@architecture("Gemma 2", "language")
def _() -> Case:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return prefill(Gemma2ForCausalLM(Gemma2Config(**GROUPED, head_dim=8, sliding_window=4, query_pre_attn_scalar=8)))


@architecture("Gemma 3", "language")
def _() -> Case:
    return prefill(gemma3())


@architecture("Phi-3", "language")
def _() -> Case:
    from transformers import Phi3Config, Phi3ForCausalLM

    return prefill(Phi3ForCausalLM(Phi3Config(**GROUPED)))


@architecture("DeepSeek-V3", "language")
def _() -> Case:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    return prefill(DeepseekV3ForCausalLM(DeepseekV3Config(
        **{**SIZES, "num_key_value_heads": 4}, moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=1,
        num_experts_per_tok=2, n_group=2, topk_group=1, first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=16,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8)))


@architecture("gpt-oss", "language")
def _() -> Case:
    from transformers import GptOssConfig, GptOssForCausalLM

    return prefill(GptOssForCausalLM(GptOssConfig(
        **GROUPED, head_dim=8, sliding_window=4, num_local_experts=4, num_experts_per_tok=2)))


@architecture("Mamba", "language")
def _() -> Case:
    from transformers import MambaConfig, MambaForCausalLM

    ids = {"input_ids": torch.randint(3, 99, (2, 6))}
    return Case(varied(MambaForCausalLM(MambaConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, state_size=4,
                                                    use_cache=False))),
                ids, {"input_ids": {0: "batch"}})    # the sequence is walked in Python, step by step


@architecture("Llama with past", "language")
def _() -> Case:
    return with_past(llama())


@architecture("Qwen3 with past", "language")
def _() -> Case:
    return with_past(qwen3())


@architecture("GPT-2 with past", "language")
def _() -> Case:
    return with_past(gpt2())


@architecture("Gemma 3 with past", "language")
def _() -> Case:
    # The layer with a window of 4 keeps the last 3 of the past, once there are as many: then its keys are 3 long.
    case = with_past(gemma3())
    case.dynamic["past_key_values"] = {0: "batch"}
    case.dynamic["past_key_values.1"] = {2: "past"}
    case.settings["settings"] = {"ranges": {"past": (4, None)}}
    return case
