"""What networks of pictures and sound share: examples, free dims, and rows made from configurations by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from . import Case, architecture, varied

BATCH: dict[int, str] = {0: "batch"}
PLANE: dict[int, str] = {0: "batch", 2: "height", 3: "width"}

# A transformer of two layers.
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def picture(n: int, height: int, width: int) -> torch.Tensor:
    """(n,3,height,width) f32, standard normal."""
    return torch.randn((n, 3, height, width), generator=torch.Generator().manual_seed(height * width + n))


def words(n: int, length: int, most: int) -> torch.Tensor:
    """(n, length) int64, from 3 to below `most`."""
    return torch.randint(3, most, (n, length), generator=torch.Generator().manual_seed(length))


def config(name: str, **settings: Any) -> Any:
    """A configuration of transformers."""
    return getattr(importlib.import_module("transformers"), name)(**settings)


def hugging(name: str, kind: str, model: str, configured: Callable[[], Any], example: Callable[[], dict[str, Any]],
            free: Mapping[str, Mapping[int, str]], static_only: str = "",
            ranges: Mapping[str, tuple[int, int | None]] | None = None) -> None:
    """A row: a model of transformers with its configuration, inputs by name, and which of their dims are free."""
    def make() -> Case:
        made = getattr(importlib.import_module("transformers"), model)(configured())
        return Case(varied(made), example(), {k: dict(v) for k, v in free.items()} or None,
                    {"settings": {"ranges": dict(ranges)}} if ranges else {})

    architecture(name, kind, static_only=static_only)(make)
