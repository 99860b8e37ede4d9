"""Real architectures with small sizes and random weights, to be exported: a file a kind, a function an architecture.

    @architecture("BERT", "text")
    def _() -> Case:
        return Case(model, {"input_ids": ids}, {"input_ids": {0: "batch", 1: "sequence"}})

Weights are drawn so that outputs vary from place to place (`varied`): a network whose output is nearly constant would
agree with anything.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from . import torchvision_schemas  # noqa: F401 (transformers imports torchvision, which wants its schemas declared)


@dataclass(slots=True)
class Case:
    """One architecture, ready to be exported.

    Attributes:
        module: in evaluation mode.
        example: its arguments: a dictionary of keyword arguments, or a tuple.
        dynamic: the free dims of the dynamic export, as `gesher.export` takes them; empty where there are none.
        settings: more options of `gesher.export` (names, opset).
        rtol, atol: allowed differences where the defaults of `evaluator.difference` do not fit; said why beside it.
    """

    module: torch.nn.Module
    example: Any
    dynamic: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    rtol: float | None = None
    atol: float | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A row of the table.

    Attributes:
        needs: packages that it is built with, beside torch.
        static_only: why its dims cannot be free, where PyTorch itself refuses; "" where they can.
    """

    name: str
    kind: str
    make: Callable[[], Case]
    needs: tuple[str, ...] = ("transformers",)
    static_only: str = ""

    def case(self) -> Case:
        """Build it, always with the same weights and example."""
        torch.manual_seed(0)
        case = self.make()
        case.module.eval()
        return case


_ROWS: dict[str, Architecture] = {}


def architecture(name: str, kind: str, needs: tuple[str, ...] = ("transformers",), static_only: str = ""
                 ) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Put an architecture into the zoo."""
    def keep(make: Callable[[], Case]) -> Callable[[], Case]:
        assert name not in _ROWS, f"two architectures are called {name}"
        _ROWS[name] = Architecture(name, kind, make, needs, static_only)
        return make

    return keep


@cache
def architectures() -> dict[str, Architecture]:
    """All rows, by name, in the order of the files' names."""
    for m in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{m}")
    return dict(_ROWS)


def varied(module: torch.nn.Module, seed: int = 0, gain: float = 1.0) -> torch.nn.Module:
    """Draw the weights anew, so that what the module gives varies.

    Matrices and kernels get a deviation of `gain` over the root of what each of their rows sums over; vectors (scales,
    biases) keep their values, with a tenth added at random; running variances stay positive.
    """
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if not p.is_floating_point():
                continue
            noise = torch.randn(p.shape, generator=g, dtype=torch.float32).to(p.dtype)
            if p.ndim < 2:
                p.add_(noise, alpha=0.1)
            elif "embed" in name or "wte" in name or "relative" in name:
                p.copy_(noise)
            else:
                # Weights of experts are (experts, in, out) and kernels (out, in, kh, kw): what a row sums over is told
                # by neither place alone, and the larger guess only makes the values smaller.
                fan = math.prod(p.shape[1:]) if p.ndim != 3 else p.shape[1]
                p.copy_(noise * (gain / math.sqrt(max(fan, 1))))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.add_(torch.randn(b.shape, generator=g), alpha=0.1)
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=g))
    return module.eval()
