"""From PyTorch to ONNX, through `torch.export`.

A module is captured as a graph of ATen operators (never by another way in silence), functionalised without taking big
operators apart, and translated node by node. What cannot cross is named all at once, before anything is made.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from gesher.frontends.protocol import Exported, ExportOptions, Frontend, from_framework

__all__ = ["TorchFrontend"]


class TorchFrontend(Frontend):
    """`torch.nn.Module` and `torch.export.ExportedProgram`."""

    name = "torch"

    def missing(self) -> str | None:
        return None if find_spec("torch") else "PyTorch is not installed; pip install torch"

    def takes(self, obj: Any) -> bool:
        names = {c.__name__ for c in type(obj).__mro__ if c.__module__.split(".")[0] == "torch"}
        return from_framework(obj, "torch") and bool(names & {"Module", "ExportedProgram"})

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from .capture import capture
        from .translate import translate

        return translate(capture(obj, example, options), options)
