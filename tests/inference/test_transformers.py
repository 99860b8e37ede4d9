"""Exports of the real architectures, from their configurations with few layers and random weights: every size is known.

`tests/torch_models.py` writes the same architectures out small; here their own code is exported, where the package
`transformers` is installed (it is no requirement of ours: `pip install transformers`).
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tests.torchvision_schemas  # noqa: E402, F401    before transformers, which imports torchvision where there is one

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from tests.torch_models import without_types  # noqa: E402

from gesher.inference import infer  # noqa: E402
from gesher.ir import Model  # noqa: E402
from gesher.ir.files import from_bytes  # noqa: E402

Called = tuple[Any, dict[str, Any], dict[str, dict[int, str]]]
TEXT = {0: "batch", 1: "sequence"}


class WithPast(torch.nn.Module):
    """A decoder whose past keys and values are inputs, a pair a layer, and whose new ones are outputs."""

    def __init__(self, decoder: Any):
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: Any, attention_mask: Any, *past: Any) -> Any:
        cache = transformers.DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        out = self.decoder(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        return (out.logits, *(x for layer in out.past_key_values.layers for x in (layer.keys, layer.values)))


class Hidden(torch.nn.Module):
    """An encoder called by position, as TorchScript's exporter does."""

    def __init__(self, encoder: Any):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Pixels(torch.nn.Module):
    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, pixels: Any) -> Any:
        return self.network(pixel_values=pixels).last_hidden_state


def _text(length: int, mask: int) -> dict[str, Any]:
    return {"input_ids": torch.randint(0, 100, (2, length)), "attention_mask": torch.ones(2, mask, dtype=torch.long)}


def bert(attention: str) -> Called:
    made = transformers.BertModel(transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100,
        attn_implementation=attention))
    return Hidden(made), _text(7, 7), {"input_ids": TEXT, "attention_mask": TEXT}


def vit(attention: str) -> Called:
    made = transformers.ViTModel(transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8,
        attn_implementation=attention))
    return Pixels(made), {"pixels": torch.randn(2, 3, 32, 32)}, {"pixels": {0: "batch"}}


def resnet(attention: str) -> Called:
    made = transformers.ResNetModel(transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    return Pixels(made), {"pixels": torch.randn(2, 3, 64, 64)}, {"pixels": {0: "batch"}}


def _decoder(made: Any, heads: int) -> Called:
    past = {f"past_{i}_{kind}": torch.randn(2, heads, 5, 8) for i in range(2) for kind in ("key", "value")}
    free = {"input_ids": TEXT, "attention_mask": {0: "batch", 1: "total"}, **{n: {0: "batch", 2: "past"} for n in past}}
    return WithPast(made), {**_text(3, 8), **past}, free


def gpt2(attention: str) -> Called:
    return _decoder(transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, attn_implementation=attention)), 4)


def llama(attention: str) -> Called:
    return _decoder(transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=100, max_position_embeddings=64, attn_implementation=attention)), 2)


def exported(called: Called, exporter: str) -> Model:
    module, example, free = called
    file: Any = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), \
            contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            torch.onnx.export(module.eval(), tuple(example.values()), file, dynamo=False, opset_version=17,
                              input_names=list(example), dynamic_axes=free)
        else:
            dims = [dict.fromkeys(free[n], torch.export.Dim.DYNAMIC) for n in example]
            shapes = (*dims[:2], tuple(dims[2:])) if len(dims) > 2 else tuple(dims)
            made = torch.onnx.export(module.eval(), tuple(example.values()), dynamo=True, dynamic_shapes=shapes,
                                     verbose=False)
            made.save(file)
    return from_bytes(file.getvalue())


NETWORKS: list[Callable[[str], Called]] = [bert, gpt2, vit, resnet, llama]
CASES = [(n, a, e) for n in NETWORKS for a in ("eager", "sdpa") for e in ("torchscript", "dynamo")
         if os.environ.get("GESHER_TEST_ALL") == "1" or (a == "sdpa" and (e == "torchscript" or n is llama))]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "attention", "exporter"), CASES,
                         ids=[f"{n.__name__}-{a}-{e}" for n, a, e in CASES])
def test_every_size_of_a_real_architecture_is_known(network: Any, attention: str, exporter: str) -> None:
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")
    torch.manual_seed(0)
    facts = infer(without_types(exported(network(attention), exporter)))
    assert not facts.findings
    assert not facts.reasons()
