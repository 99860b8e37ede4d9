"""More networks over text than the zoo must have: encoders, decoders and translators, each a row by its names."""

from __future__ import annotations

from typing import Any

import torch

from .pictures import config, hugging, words
from .text import FREE, SIZES, masked

# What configurations call their sizes.
GPT: dict[str, Any] = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
D_MODEL: dict[str, Any] = {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
                           "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40,
                           "decoder_ffn_dim": 40, "max_position_embeddings": 64}
SPECIAL: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED: dict[str, Any] = {**SIZES, **SPECIAL, "intermediate_size": 40, "num_key_value_heads": 2}
T5_LIKE: dict[str, Any] = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4,
                           "relative_attention_num_buckets": 8, "decoder_start_token_id": 0}


def encoder(model: str, configuration: str, free: dict[int, str] = FREE, mask: bool = True, sequence: int = 7,
            more: Any = None, ranges: Any = None, **settings: Any) -> None:
    """A row: an encoder, or a decoder at its prompt."""
    def example() -> dict[str, Any]:
        given = masked(sequence=sequence) if mask else {"input_ids": words(2, sequence, 99)}
        return {**given, **(more(2, sequence) if more else {})}

    hugging(model, "further text", model, lambda: config(configuration, **settings), example,
            dict.fromkeys(example(), free), ranges=ranges)


def translator(model: str, configuration: str, **settings: Any) -> None:
    """A row: an encoder with a decoder."""
    read, written = {0: "batch", 1: "read"}, {0: "batch", 1: "written"}
    hugging(model, "further text", model, lambda: config(configuration, **settings),
            lambda: {**masked(), "decoder_input_ids": words(2, 5, 99)},
            {"input_ids": read, "attention_mask": read, "decoder_input_ids": written})


encoder("XLMRobertaModel", "XLMRobertaConfig", **SIZES)
encoder("CamembertModel", "CamembertConfig", **SIZES)
encoder("MPNetModel", "MPNetConfig", **SIZES)
encoder("LongformerModel", "LongformerConfig", attention_window=4, sequence=8, **{**SIZES, "intermediate_size": 36})
encoder("BigBirdModel", "BigBirdConfig", attention_type="original_full", **SIZES)
# Its positions are a list of Python's, range(sequence).
encoder("FunnelModel", "FunnelConfig", free={0: "batch"}, vocab_size=99, d_model=32, n_head=4, d_head=8, d_inner=40,
        block_sizes=[1, 1], num_decoder_layers=1)
encoder("LayoutLMModel", "LayoutLMConfig", more=lambda n, s: {"bbox": torch.randint(0, 50, (n, s, 4)).sort(-1).values},
        **SIZES)
encoder("XLNetModel", "XLNetConfig", vocab_size=99, d_model=32, n_layer=2, n_head=4, d_inner=40)
encoder("ConvBertModel", "ConvBertConfig", embedding_size=32, conv_kernel_size=3, **SIZES)
encoder("NystromformerModel", "NystromformerConfig", num_landmarks=4, segment_means_seq_len=16, sequence=16,
        free={0: "batch"}, mask=False, conv_kernel_size=3, **SIZES)
encoder("FNetModel", "FNetConfig", mask=False, **{k: v for k, v in SIZES.items() if k != "num_attention_heads"})
encoder("CanineModel", "CanineConfig", free={0: "batch"}, sequence=16, downsampling_rate=4, local_transformer_stride=8,
        num_hash_buckets=32, num_hash_functions=4, **{k: v for k, v in SIZES.items() if k != "vocab_size"})
encoder("Data2VecTextModel", "Data2VecTextConfig", **SIZES)
encoder("SqueezeBertModel", "SqueezeBertConfig", embedding_size=32, **{**SIZES, "intermediate_size": 40})
encoder("RoFormerModel", "RoFormerConfig", **SIZES)
encoder("RemBertModel", "RemBertConfig", input_embedding_size=16, output_embedding_size=16, **SIZES)
encoder("MegatronBertModel", "MegatronBertConfig", **SIZES)
encoder("MobileBertModel", "MobileBertConfig", embedding_size=16, true_hidden_size=16, intra_bottleneck_size=16,
        num_feedforward_networks=2, **{**SIZES, "hidden_size": 32})
encoder("EsmModel", "EsmConfig", position_embedding_type="rotary", pad_token_id=0, mask_token_id=1, **SIZES)
encoder("ErnieModel", "ErnieConfig", **SIZES)
encoder("SplinterModel", "SplinterConfig", **SIZES)
encoder("FlaubertModel", "FlaubertConfig", vocab_size=99, emb_dim=32, n_layers=2, n_heads=4)
encoder("XLMModel", "XLMConfig", vocab_size=99, emb_dim=32, n_layers=2, n_heads=4)
encoder("YosoModel", "YosoConfig", **SIZES)
encoder("MraModel", "MraConfig", free={0: "batch"}, sequence=32, num_block_per_row=1, **SIZES)
encoder("IBertModel", "IBertConfig", **SIZES)
encoder("DebertaModel", "DebertaConfig", relative_attention=True, max_relative_positions=8,
        pos_att_type=["p2c", "c2p"], **SIZES)
encoder("PerceiverForMaskedLM", "PerceiverConfig", d_latents=32, d_model=32, num_latents=8, num_blocks=1,
        num_self_attends_per_block=2, num_self_attention_heads=4, num_cross_attention_heads=4, vocab_size=99,
        max_position_embeddings=16, mask=False, sequence=16, free={0: "batch"}, qk_channels=32, v_channels=32)

encoder("GPTNeoForCausalLM", "GPTNeoConfig", vocab_size=99, hidden_size=32, num_layers=2, num_heads=4,
        attention_types=[[["global", "local"], 1]], window_size=4, max_position_embeddings=64)
encoder("GPTJForCausalLM", "GPTJConfig", rotary_dim=4, **GPT)
encoder("CodeGenForCausalLM", "CodeGenConfig", rotary_dim=4, **GPT)
encoder("GPTBigCodeForCausalLM", "GPTBigCodeConfig", **GPT)
encoder("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", **GPT)
encoder("CTRLLMHeadModel", "CTRLConfig", dff=40, **GPT)
encoder("FalconForCausalLM", "FalconConfig", **{**SIZES, **SPECIAL})
encoder("GemmaForCausalLM", "GemmaConfig", head_dim=8, **GROUPED)
encoder("Starcoder2ForCausalLM", "Starcoder2Config", **GROUPED)
encoder("OlmoForCausalLM", "OlmoConfig", **GROUPED)
encoder("Olmo2ForCausalLM", "Olmo2Config", **GROUPED)
encoder("GraniteForCausalLM", "GraniteConfig", **GROUPED)
encoder("GraniteMoeForCausalLM", "GraniteMoeConfig", num_local_experts=4, num_experts_per_tok=2, **GROUPED)
encoder("OlmoeForCausalLM", "OlmoeConfig", num_experts=4, num_experts_per_tok=2, **GROUPED)
encoder("JetMoeForCausalLM", "JetMoeConfig", num_local_experts=4, num_experts_per_tok=2, kv_channels=8,
        **{**GROUPED, "num_key_value_heads": 2, "num_attention_heads": 4})
encoder("CohereForCausalLM", "CohereConfig", **GROUPED)
encoder("Cohere2ForCausalLM", "Cohere2Config", sliding_window=4, **GROUPED)
encoder("StableLmForCausalLM", "StableLmConfig", **GROUPED)
encoder("PhiForCausalLM", "PhiConfig", **GROUPED)
encoder("PersimmonForCausalLM", "PersimmonConfig", **{**SIZES, **SPECIAL})
encoder("MptForCausalLM", "MptConfig", d_model=32, n_heads=4, n_layers=2, max_seq_len=64, vocab_size=99)
encoder("BioGptForCausalLM", "BioGptConfig", **{**SIZES, **SPECIAL})
encoder("XGLMForCausalLM", "XGLMConfig", vocab_size=99, d_model=32, ffn_dim=40, num_layers=2, attention_heads=4,
        max_position_embeddings=64)
encoder("GlmForCausalLM", "GlmConfig", head_dim=8, **GROUPED)
encoder("Glm4ForCausalLM", "Glm4Config", head_dim=8, **GROUPED)
encoder("NemotronForCausalLM", "NemotronConfig", **GROUPED)
encoder("SmolLM3ForCausalLM", "SmolLM3Config", **GROUPED)
encoder("HeliumForCausalLM", "HeliumConfig", head_dim=8, **GROUPED)
encoder("Ernie4_5ForCausalLM", "Ernie4_5Config", head_dim=8, **GROUPED)
encoder("Exaone4ForCausalLM", "Exaone4Config", sliding_window=4, **GROUPED)
encoder("BitNetForCausalLM", "BitNetConfig", **GROUPED)
encoder("DiffLlamaForCausalLM", "DiffLlamaConfig", head_dim=8, **GROUPED)
# One token is a step of decoding to it; its convolutions keep the last three.
encoder("Lfm2ForCausalLM", "Lfm2Config", ranges={"sequence": (3, None)}, layer_types=["conv", "full_attention"],
        **GROUPED)
encoder("MiniMaxForCausalLM", "MiniMaxConfig", num_local_experts=4, num_experts_per_tok=2, head_dim=8, block_size=8,
        layer_types=["linear_attention", "full_attention"], free={0: "batch"}, **GROUPED)
encoder("GPTNeoXJapaneseForCausalLM", "GPTNeoXJapaneseConfig", **{k: v for k, v in SIZES.items()
                                                                  if k != "intermediate_size"})
encoder("Mamba2ForCausalLM", "Mamba2Config", mask=False, free={0: "batch"}, vocab_size=99, hidden_size=32, head_dim=16,
        num_heads=4, state_size=8, num_hidden_layers=2, n_groups=1, chunk_size=4, use_cache=False)
encoder("RwkvForCausalLM", "RwkvConfig", mask=False, free={0: "batch"}, vocab_size=99, hidden_size=32,
        attention_hidden_size=32, num_hidden_layers=2, context_length=32, use_cache=False)
encoder("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", free={0: "batch"}, lru_width=32,
        attention_window_size=16, block_types=["recurrent", "attention"], use_cache=False,
        **{**GROUPED, "num_key_value_heads": 1})
encoder("FalconH1ForCausalLM", "FalconH1Config", free={0: "batch"}, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8,
        mamba_d_state=8, mamba_chunk_size=4, use_cache=False, **GROUPED)
encoder("Qwen3NextForCausalLM", "Qwen3NextConfig", free={0: "batch"}, head_dim=8, linear_num_value_heads=4,
        linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=16, shared_expert_intermediate_size=16, use_cache=False,
        layer_types=["linear_attention", "full_attention"], **GROUPED)

translator("MT5ForConditionalGeneration", "MT5Config", **T5_LIKE)
translator("UMT5ForConditionalGeneration", "UMT5Config", **T5_LIKE)
translator("LongT5ForConditionalGeneration", "LongT5Config", local_radius=3, **T5_LIKE)
translator("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", num_experts=4, **T5_LIKE)
translator("PegasusForConditionalGeneration", "PegasusConfig", **D_MODEL)
translator("MBartForConditionalGeneration", "MBartConfig", **D_MODEL)
translator("MarianMTModel", "MarianConfig", **SPECIAL, decoder_start_token_id=1, **D_MODEL)
translator("BlenderbotForConditionalGeneration", "BlenderbotConfig", **D_MODEL)
translator("M2M100ForConditionalGeneration", "M2M100Config", **D_MODEL)
translator("LEDForConditionalGeneration", "LEDConfig", max_encoder_position_embeddings=64,
           max_decoder_position_embeddings=64, attention_window=4,
           **{k: v for k, v in D_MODEL.items() if k != "max_position_embeddings"})
translator("ProphetNetForConditionalGeneration", "ProphetNetConfig", vocab_size=99, hidden_size=32,
           num_encoder_layers=2, num_decoder_layers=2, num_encoder_attention_heads=4, num_decoder_attention_heads=4,
           encoder_ffn_dim=40, decoder_ffn_dim=40, max_position_embeddings=64, ngram=2, num_buckets=8,
           relative_max_distance=16)
translator("FSMTForConditionalGeneration", "FSMTConfig", langs=["en", "de"], src_vocab_size=99, tgt_vocab_size=99,
           **{k: v for k, v in D_MODEL.items() if k != "vocab_size"})
translator("NllbMoeForConditionalGeneration", "NllbMoeConfig", num_experts=4, encoder_sparse_step=2,
           decoder_sparse_step=2, **D_MODEL)
