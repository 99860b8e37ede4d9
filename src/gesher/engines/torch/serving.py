"""A module behind an engine's session: arrays in, arrays out, nothing recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gesher.base.errors import RunError

from .carriers import to_array
from .module import OnnxModule


def answers(module: OnnxModule | None, feeds: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The outputs as arrays.

    Raises:
        RunError: the session is closed, or a node failed.
    """
    if module is None:
        raise RunError("this session is closed")
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            return {name: _array(x) for name, x in module.values(feeds).items()}
    finally:
        if threads:
            torch.set_num_threads(before)


def _array(x: Any) -> Any:
    return [_array(v) for v in x] if isinstance(x, list) else to_array(x)
