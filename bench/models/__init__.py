"""The models that the engines are raced on, one row each: how each is built, what it is fed, what is asked of it.

    for model in MODELS:
        model.path(), model.feeds()

A model is built when its path is first asked for, and then lies in the cache (see `store`). Seeds are fixed: the same
sources build the same model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from . import language, operators, quantised, real, store, trees, vision
from .store import Build, Feeds


@dataclass(frozen=True)
class BenchModel:
    """One model of the race.

    Attributes:
        name: what `--models` is matched with.
        kind: "fp32", "int8", "trees" or "small".
        group: under which its ratio is averaged; the goals hang on it (`racing/goals.py`).
        source: the module whose text decides whether what was built before still holds, with the text `extra`.
        file: under which name it is built, where two rows share a model.
        also: other kinds that it belongs to.
    """

    name: str
    kind: str
    group: str
    build: Build
    feeds: Callable[[], Feeds]
    source: Any
    extra: str = ""
    file: str = ""
    also: tuple[str, ...] = ()

    def path(self) -> Path:
        """The file, built where it is not in the cache yet."""
        return store.built(self.file or self.name, self.build, store.version_of(self.source, self.extra))


def picture(*shape: int) -> Feeds:
    return {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def words(n: int, t: int, vocabulary: int = 30522) -> Feeds:
    """Sentences of `t` words, the last eighth of the second and later ones filled up."""
    rng = np.random.default_rng(0)
    mask = np.ones((n, t), np.int64)
    mask[1:, t - t // 8:] = 0
    return {"input_ids": rng.integers(0, vocabulary, (n, t)), "attention_mask": mask,
            "token_type_ids": np.zeros((n, t), np.int64)}


def step(past: int) -> Feeds:
    """One word for GPT-2 and what it has seen."""
    rng = np.random.default_rng(0)
    return {"input_ids": rng.integers(0, 50257, (1, 1)),
            **{f"past_{i}_{part}": rng.standard_normal((1, 12, past, 64)).astype(np.float32)
               for i in range(12) for part in ("key", "value")}}


def _torch(make: Callable[[], Any], settle: Callable[..., Any], feeds: Callable[[], Feeds], outputs: list[str],
           dynamo: bool, dynamic: dict[str, dict[int, str]] | None = None) -> Build:
    def build(path: Path) -> None:
        import torch

        example = {k: torch.from_numpy(v) for k, v in feeds().items()}
        shown = [torch.cat([x, torch.randn(x.shape, generator=torch.Generator().manual_seed(7))])
                 for x in example.values() if x.dtype is torch.float32]
        torch.manual_seed(0)
        net = make()
        net = settle(net, *shown) if settle is vision.settle else settle(net)
        store.export_torch(path, net, example, outputs, dynamo=dynamo, dynamic=dynamic)
    return build


def _vision(name: str, group: str, make: Callable[[], Any], *shape: int, dynamo: bool = True,
            dynamic: dict[str, dict[int, str]] | None = None) -> BenchModel:
    def feeds() -> Feeds:
        return picture(*shape)
    return BenchModel(name, "fp32", group, _torch(make, vision.settle, feeds, ["y"], dynamo, dynamic), feeds,
                      sys.modules[make.__module__], f"{shape}{dynamo}{dynamic}")


def _language(name: str, group: str, make: Callable[[], Any], feeds: Callable[[], Feeds], outputs: list[str],
              dynamo: bool = True, dynamic: dict[str, dict[int, str]] | None = None) -> BenchModel:
    return BenchModel(name, "fp32", group, _torch(make, language.settle, feeds, outputs, dynamo, dynamic), feeds,
                      language, f"{dynamo}{dynamic}{ {k: v.shape for k, v in feeds().items()} }")


def _minilm() -> Any:
    return language.Bert(384, 6, 12, sentence=True)


_PRESENT = [f"present_{i}_{part}" for i in range(12) for part in ("key", "value")]
_SEQUENCE = {k: {0: "batch", 1: "sequence"} for k in ("input_ids", "attention_mask", "token_type_ids")}

_FP32 = (
    _vision("resnet50", "conv3x3", vision.resnet50, 1, 3, 224, 224),
    _vision("mobilenet_v2", "vision", vision.mobilenet_v2, 1, 3, 224, 224, dynamo=False),
    _vision("efficientnet_b0", "vision", vision.efficientnet_b0, 1, 3, 224, 224),
    _vision("convnext_tiny", "vision", vision.convnext_tiny, 1, 3, 224, 224),
    _vision("vit_tiny", "transformer", language.Vit, 1, 3, 224, 224),
    _vision("unet", "vision", vision.UNet, 1, 3, 256, 256, dynamo=False),
    _vision("yolo_silu", "yolo", vision.Yolo, 1, 3, 320, 320),
    _language("bert_base_128", "transformer", language.Bert, lambda: words(1, 128), ["hidden", "pooled"]),
    _language("minilm_32", "transformer", _minilm, lambda: words(1, 32), ["sentence"], dynamo=False),
    _language("minilm_128", "transformer", _minilm, lambda: words(1, 128), ["sentence"]),
    _language("gpt2_prefill_128", "transformer", language.Gpt2,
              lambda: {"input_ids": words(1, 128)["input_ids"]}, ["logits", *_PRESENT]),
    _language("gpt2_decode_512", "transformer", language.Gpt2, lambda: step(512), ["logits", *_PRESENT], dynamo=False),
    _language("lstm_tagger", "recurrent", language.Tagger, lambda: {"ids": words(1, 64, 10000)["input_ids"]},
              ["scores"], dynamo=False),
    BenchModel("ppocr_det_640", "fp32", "conv3x3", store.copied("rapidocr_onnxruntime", "models/*v4_det*.onnx"),
               lambda: {"x": real.page(640, 640)}, "real"),
    BenchModel("ppocr_rec_320", "fp32", "vision", store.copied("rapidocr_onnxruntime", "models/*v4_rec*.onnx"),
               lambda: {"x": real.page(48, 320)}, "real"),
    BenchModel("ppocr_cls", "fp32", "vision", store.copied("rapidocr_onnxruntime", "models/*_cls_*.onnx"),
               lambda: {"x": real.page(48, 192)}, "real"),
    BenchModel("silero_vad", "fp32", "recurrent", store.copied("silero_vad", "data/silero_vad.onnx"), real.silero,
               "real", also=("small",)),
    BenchModel("basic_pitch", "fp32", "vision", store.copied("basic_pitch", "**/nmp.onnx"), real.basic_pitch, "real"),
    BenchModel("gemm_1024", "fp32", "peak", operators.gemm(1024, 1024, 1024), lambda: operators.x(1024, 1024),
               operators, "1024"),
    BenchModel("conv1x1_256_56", "fp32", "peak", operators.pointwise(256, 256, 56), lambda: operators.x(1, 256, 56, 56),
               operators, "256 56"),
)

_SMALL = (
    BenchModel("add", "small", "small", operators.add, lambda: operators.x(1, 64), operators),
    BenchModel("gemm_softmax", "small", "small", operators.pair, lambda: operators.x(1, 16), operators),
)


def _rows(name: str, kind: str, count: int) -> BenchModel:
    def feeds() -> Feeds:
        return trees.rows(count)
    return BenchModel(f"{name}_{count}", "trees", "trees" if kind in ("forest", "boosting") else "tables",
                      trees.fitted(kind), feeds, trees, kind, file=name)


_TREES = tuple(_rows(name, kind, count) for name, kind in
               (("random_forest", "forest"), ("hist_boosting", "boosting"), ("mlp", "mlp"), ("pipeline", "pipeline"))
               for count in (1, 10_000))


def _quantised() -> tuple[BenchModel, ...]:
    named = {m.name: m for m in _FP32}
    made = []
    for name in ("resnet50", "mobilenet_v2", "bert_base_128"):
        source = named[name]
        for form, build in (("qdq", quantised.static(source, "qdq")),
                            ("qoperator", quantised.static(source, "qoperator")),
                            ("dynamic", quantised.dynamic(source))):
            made.append(BenchModel(f"{name}_{form}", "int8", "int8", build, source.feeds, quantised,
                                   store.version_of(source.source, source.extra)))
    return tuple(made)


MODELS: tuple[BenchModel, ...] = (*_FP32, *_SMALL, *_TREES, *_quantised())


@dataclass(frozen=True)
class Free:
    """A model with free dims, and the sizes at which it is held against a session specialised to them."""

    model: BenchModel
    sizes: tuple[Callable[[], Feeds], ...]


FREE: tuple[Free, ...] = (
    Free(_vision("resnet50_free", "dynamic", vision.resnet50, 2, 3, 224, 224, dynamic={"x": {0: "batch"}}),
         (lambda: picture(1, 3, 224, 224), lambda: picture(3, 3, 224, 224))),
    Free(_language("bert_base_free", "dynamic", language.Bert, lambda: words(2, 48), ["hidden", "pooled"],
                   dynamic=_SEQUENCE),
         (lambda: words(1, 128), lambda: words(2, 40))),
    Free(next(m for m in _FP32 if m.name == "ppocr_rec_320"),
         (lambda: {"x": real.page(48, 320)}, lambda: {"x": real.page(48, 480, 2)})),
)


def chosen(pattern: str = "*", kinds: tuple[str, ...] = ()) -> list[BenchModel]:
    """The models whose name fits one of the comma-separated patterns, of those kinds (all where empty)."""
    return [m for m in MODELS if any(fnmatch(m.name, p) for p in pattern.split(","))
            and (not kinds or m.kind in kinds or set(m.also) & set(kinds))]
