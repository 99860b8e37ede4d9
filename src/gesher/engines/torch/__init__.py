"""PyTorch as an engine: every model as a `torch.nn.Module`, behind the protocol too.

The module computes each node as its lowering says, in PyTorch's own tensors, so that gradients flow through whatever
the book of operators can lower. See `module.OnnxModule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gesher.engines.protocol import Engine, Options, Session
from gesher.engines.reference import without_rules
from gesher.ir import Model

if TYPE_CHECKING:
    from .module import OnnxModule

__all__ = ["TorchEngine", "TorchSession"]


class TorchSession(Session):
    """One model as a module, run without recording gradients."""

    def __init__(self, model: Model, options: Options):
        from .module import OnnxModule

        super().__init__(model, options)
        self.module: OnnxModule | None = OnnxModule(model, seed=options.seed or 0)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        from .serving import answers

        return answers(self.module, self.fed(feeds), self.options.threads)

    def close(self) -> None:
        self.module = None


class TorchEngine(Engine):
    """PyTorch on the processor. How many threads it takes is PyTorch's own setting unless the options say it."""

    name = "torch"

    def missing(self) -> str | None:
        return None if find_spec("torch") else "PyTorch is not installed; pip install torch"

    def version(self) -> str:
        from importlib.metadata import version

        return version("torch")

    def refuses(self, model: Model) -> list[str]:
        return without_rules(model)

    def prepare(self, model: Model, options: Options) -> Session:
        return TorchSession(model, options)
