"""What has no translator of its own, taken apart by PyTorch: by its implicit compositions, decompositions, references.

An operator that has a translator is never taken apart, so big ones stay whole; the table holds all others that PyTorch
knows how to say in smaller ones. What these smaller ones are is PyTorch's business: they need translators as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from . import unasking
from .translation import name_of
from .translators import TABLE

# Taken apart by PyTorch these are worse than refused: they draw numbers, or ask a tensor for its values.
_KEPT = {"aten.rand.default", "aten.randn.default", "aten.item.default", "aten._local_scalar_dense.default"}


@cache
def _known() -> dict[Any, Callable[..., Any]]:
    """Every operator that PyTorch can take apart, and how."""
    # Importing these fills the table.
    import torch._refs
    import torch._refs.linalg
    import torch._refs.nn.functional
    import torch._refs.special
    from torch._decomp import decomposition_table

    known: dict[Any, Callable[..., Any]] = {op: f for op, f in decomposition_table.items()
                                            if isinstance(op, torch._ops.OpOverload)}
    # The core table comes last: where both have one, it is the one that exporting is tested with.
    known.update(torch.export.default_decompositions().items())
    known.update(_ours())
    return known


def _ours() -> dict[Any, Callable[..., Any]]:
    """Operators of Python's side of PyTorch that it takes apart nowhere; older versions do not have them."""
    try:
        from torch.nn.modules import linear_cross_entropy  # noqa: F401 (it registers them)
    except ImportError:
        return {}

    def chunked(x: Any, matrix: Any, target: Any, bias: Any, weight: Any, reduction: str, ignore: int, smoothing: float,
                chunk: int, policy: str, wide: torch.dtype, *_: Any) -> tuple[torch.Tensor, ...]:
        # The gradients that it gives beside the loss are empty where nobody wants them, as here.
        loss = unasking.linear_cross_entropy(x, matrix, target, bias, weight, reduction, ignore, smoothing, wide)
        return loss, *(loss.new_empty(shape) for shape in ((0, 0), (0, 0), (0,)))

    def not_reduced(x: Any, matrix: Any, target: Any, bias: Any, weight: Any, ignore: int, chunk: int, policy: str,
                    wide: torch.dtype) -> torch.Tensor:
        return unasking.linear_cross_entropy(x, matrix, target, bias, weight, "none", ignore, 0.0, wide)

    found: dict[str, Callable[..., Any]] = {"_linear_cross_entropy_batch_chunked": chunked,
                                            "_linear_cross_entropy_batch_chunked_no_reduction": not_reduced}
    there = torch.ops.torch_nn
    return {getattr(there, name).default: f for name, f in found.items() if hasattr(there, name)}


def fallbacks() -> dict[Any, Callable[..., Any]]:
    """For `ExportedProgram.run_decompositions`: whatever has no translator and can be taken apart.

    Made anew each time, since translators may be registered at any time.
    """
    return {op: f for op, f in _known().items() if (name := name_of(op)) not in TABLE and name not in _KEPT}
