"""Every translator, by the name of its operator. Importing this fills the table."""

from __future__ import annotations

from typing import Any

from . import activations, creation, elementwise, indexing, layers, recurrent, reductions, shaping
from .translation import TABLE, Translator, name_of

FAMILIES = (activations, creation, elementwise, indexing, layers, recurrent, reductions, shaping)


def find(target: Any) -> Translator | None:
    """The translator of an operator of a graph, by its full name."""
    return TABLE.get(name_of(target))
