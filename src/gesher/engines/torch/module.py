"""`OnnxModule`: a model as a `torch.nn.Module`, differentiable and trainable.

    module = gesher.to_torch(model)
    loss = criterion(module(x), target)
    loss.backward()

Float initializers are parameters under their own names, so that a module exported from PyTorch and taken back has the
state dict that it had. What a reader would guess wrong:

- Running statistics of batch norms, and numbers that only steer an operator (scales of a Resize, bounds of a Clip), are
  buffers: a model says how it infers, and training does not move these.
- Constants without a name of their own, which exporters put beside the weights, are buffers too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from gesher.base.errors import RunError
from gesher.evaluator import Evaluator
from gesher.ir import Graph, Model, Tensor, Value
from gesher.ir.files import from_bytes, to_bytes

from .carriers import NATIVE, Narrow, dtype_of, fed, from_array, to_array
from .running import TorchRunning

# Inputs by place that are no weights: statistics, settings, fill values, ranges.
_SETTINGS: dict[str, frozenset[int]] = {
    "BatchNormalization": frozenset((3, 4)), "Resize": frozenset((1, 2)), "Upsample": frozenset((1,)),
    "Clip": frozenset((1, 2)), "Pad": frozenset((2,)), "Dropout": frozenset((1, 2)), "Range": frozenset((0, 1, 2)),
    "OneHot": frozenset((1, 2)), "NonMaxSuppression": frozenset((3, 4)), "ThresholdedRelu": frozenset(),
}
# Integers up to so many stay on the host: they steer shapes and indices.
_HOST = 64


class OnnxModule(nn.Module):
    """A model whose nodes are computed in PyTorch, each by its lowering.

    Args:
        model: the model; it must not be edited while the module is in use.
        trainable: which float initializers are parameters, by name (default: all that are weights, see above).
        seed: of the random operators.

    Attributes:
        input_names, output_names: the model's, in order.

    `module(x, y)` takes tensors in the order of the inputs, `module(x=x, y=y)` by name; several outputs come as a
    tuple. `run(feeds)` takes and gives dictionaries.

    Raises:
        UnsupportedError: operators of the model are not in the book.
    """

    def __init__(self, model: Model, *, trainable: Callable[[str], bool] | None = None, seed: int = 0):
        super().__init__()
        self._evaluator = Evaluator(model, seed=seed)
        self.onnx_model = model
        self.input_names = [v.name for v in model.graph.inputs if v.constant is None or model.ir_version >= 4]
        self.output_names = [v.name or f"output_{i}" for i, v in enumerate(model.graph.outputs)]
        self._inputs = {v.name: v for v in model.graph.inputs}
        # Where each initializer is held: the module it hangs on, and its name there.
        self._held: dict[Value, tuple[nn.Module, str]] = {}
        self._host: dict[Value, Any] = {}
        self._memory: dict[Any, Any] = {}
        steering = _steering(self._evaluator)
        for graph in self._evaluator.graphs:
            for v in graph.initializers:
                if v.constant is not None:
                    self._hold(v, v.constant.numpy(), _trains(v, steering, model, trainable))

    def _hold(self, v: Value, array: Any, trains: bool) -> None:
        dtype = dtype_of(array)
        if dtype not in NATIVE or (not dtype.is_float and array.size <= _HOST):
            self._host[v] = array
            return
        # A copy: training must not write to the model's own file.
        tensor = from_array(np.array(array, copy=True), dtype)
        owner, name = self._place(v.name or "constant")
        if trains and dtype.is_float:
            owner.register_parameter(name, nn.Parameter(tensor))
        else:
            owner.register_buffer(name, tensor)
        self._held[v] = (owner, name)

    def _place(self, name: str) -> tuple[nn.Module, str]:
        """The module of the tree of names that `name` belongs to, made as needed, and what is left of it."""
        owner: nn.Module = self
        *folders, leaf = [part for part in name.split(".") if part] or ["constant"]
        for part in folders:
            child = owner._modules.get(part)
            if child is None:
                part = _free(owner, part)
                child = nn.Module()
                owner.add_module(part, child)
            owner = child
        return owner, _free(owner, leaf)

    def tensors(self, graph: Graph) -> dict[Value, Any]:
        """The initializers of a graph: parameters, buffers, and what stays on the host."""
        found: dict[Value, Any] = {}
        for v in graph.initializers:
            if v in self._held:
                owner, name = self._held[v]
                found[v] = getattr(owner, name)
            elif v in self._host:
                found[v] = self._host[v]
        return found

    @property
    def device(self) -> torch.device | None:
        """Where the weights are; None where there are none."""
        first = next(iter((*self.parameters(), *self.buffers())), None)
        return None if first is None else first.device

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name for the inputs by name, as tensors, and lists of them for sequences.

        Raises:
            RunError: an input is unknown, missing or of another type, or a node failed.
        """
        run = self._running()
        return dict(zip(self.output_names, map(run.out, run.values(self._taken(feeds), self.onnx_model.graph.outputs))))

    def values(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `run`, but the outputs as nodes pass them on: some are arrays (see `carriers`)."""
        results = self._running().values(self._taken(feeds), self.onnx_model.graph.outputs)
        return dict(zip(self.output_names, results))

    def _running(self) -> TorchRunning:
        return TorchRunning(self._evaluator, self, self._memory)

    def _taken(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        taken: dict[Value, Any] = {}
        for name, x in feeds.items():
            if name not in self._inputs:
                raise RunError(f"the model has no input '{name}'", advice=f"its inputs are {self._named()}")
            taken[self._inputs[name]] = self._checked(self._inputs[name], fed(x))
        missing = [n for n in self.input_names if n not in feeds and self._inputs[n].constant is None]
        if missing:
            raise RunError(f"nothing is fed for {', '.join(repr(n) for n in missing)}",
                           advice=f"the model's inputs are {self._named()}")
        return taken

    def _named(self) -> str:
        return ", ".join(f"{n}: {self._inputs[n].type or '?'}" for n in self.input_names)

    def _checked(self, v: Value, x: Any) -> Any:
        type = v.type
        if not isinstance(x, (torch.Tensor, np.ndarray, Narrow)):
            return x
        wanted, shape = getattr(type, "dtype", None), getattr(type, "shape", None)
        if wanted is not None and wanted.code and dtype_of(x) is not wanted:
            raise RunError(f"the input '{v.name}' is {dtype_of(x).name}, where the model wants {wanted.name}")
        if shape is not None and (len(shape) != len(x.shape) or any(
                isinstance(d, int) and d != n for d, n in zip(shape, x.shape))):
            raise RunError(f"the input '{v.name}' has the shape {list(x.shape)}, where the model wants {type}")
        return x

    def trained_model(self) -> Model:
        """A copy of the model with the weights as they are now."""
        copy = from_bytes(to_bytes(self.onnx_model, external=False))
        graph = self.onnx_model.graph
        now = {v.name: getattr(owner, name) for v, (owner, name) in self._held.items() if v in graph.initializers}
        for v in copy.graph.initializers:
            if v.name in now:
                v.constant = Tensor.of(to_array(now[v.name]), v.name)
        return copy

    def forward(self, *args: Any, **feeds: Any) -> Any:
        if len(args) > len(self.input_names):
            raise RunError(f"{len(args)} inputs are given", advice=f"the model's inputs are {self._named()}")
        results = tuple(self.run({**dict(zip(self.input_names, args)), **feeds}).values())
        return results[0] if len(results) == 1 else results


def _free(owner: nn.Module, name: str) -> str:
    """`name`, changed where the module has such an attribute already."""
    name = name.replace(".", "_") or "constant"
    while hasattr(owner, name):
        name += "_"
    return name


def _steering(evaluator: Evaluator) -> set[Value]:
    """Values that some node reads as a setting, and none as anything else."""
    settings: set[Value] = set()
    others: set[Value] = set()
    for graph in evaluator.graphs:
        for node in graph.nodes:
            places = _SETTINGS.get(node.op_type, frozenset()) if node.domain in ("", "ai.onnx") else frozenset()
            for i, v in enumerate(node.inputs):
                if v is not None:
                    (settings if i in places else others).add(v)
    return settings - others


def _trains(v: Value, steering: set[Value], model: Model, trainable: Callable[[str], bool] | None) -> bool:
    if trainable is not None:
        return trainable(v.name)
    # The builder calls a constant that nobody named `constant`, `constant_1` ...
    unnamed = model.producer_name == "gesher" and v.name.rstrip("0123456789").rstrip("_") == "constant"
    return v not in steering and not unnamed
