"""Every translator, by the name of its operator. Importing this fills the table."""

from __future__ import annotations

from typing import Any

import torch

from . import (  # noqa: F401
    activations,
    bessel,
    bits,
    complex_parts,
    complexes,
    control,
    creation,
    distances,
    elementwise,
    foreign,
    histograms,
    indexing,
    layers,
    linalg,
    losses,
    ordering,
    packed,
    pooling,
    randomness,
    recurrent,
    reductions,
    resizing,
    shaping,
    special,
    strides,
)
from .translation import COMPLEX, TABLE, Translator, name_of


def speaks_complex(node: Any) -> bool:
    """True where a node of a graph takes or gives complex numbers."""
    def complex_in(x: Any) -> bool:
        if isinstance(x, torch.fx.Node):
            return complex_in(x.meta.get("val"))
        if isinstance(x, (list, tuple)):
            return any(complex_in(v) for v in x)
        return isinstance(x, torch.Tensor) and x.is_complex()

    return complex_in(node.meta.get("val")) or complex_in(node.args) or complex_in(list(node.kwargs.values()))


def find(node: Any, name: str = "") -> Translator | None:
    """The translator of a node of a graph, by its operator's full name, or by another's that does its work."""
    return (COMPLEX if speaks_complex(node) else TABLE).get(name or name_of(node.target))
