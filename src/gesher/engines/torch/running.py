"""One run of a model in PyTorch: node by node, each by what its lowering means for the shapes that reach it.

What nodes pass on are tensors, arrays where numbers stay on the host (shapes, types that PyTorch has not), lists for
sequences. What a reader would guess wrong:

- A node whose inputs are all on the host runs by its reference rule, there; so sizes are worked out without tensors.
- A node is lowered without looking at numbers first. Where that cannot be, small inputs are read (of a tensor: brought
  to the host), and what comes of it is kept under their values.
- What cannot be lowered at all runs by its reference rule; asking for a gradient through it is an error then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gesher.base import knobs
from gesher.base.errors import UnsupportedError
from gesher.evaluator import Evaluator
from gesher.evaluator.evaluator import Frame, Running
from gesher.evaluator.plan import Plan, Step
from gesher.ir import Graph, Node, Value
from gesher.ops.calls import bind
from gesher.ops.rules import Site, attributes_of
from gesher.ops.schema import Operator, Schema
from gesher.primitives import Builder, CannotLower, Expr

from .carriers import NATIVE, Narrow, carried, dtype_of, from_array, to_array
from .control import CONTROL
from .program import Program, lower

if TYPE_CHECKING:
    from .module import OnnxModule

# Elements up to which an input may be read for its numbers, and a result stays on the host.
FEW = 64
# Sets of shapes that are remembered for a node.
_REMEMBERED = 64
_WITH_NUMBERS = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


class TorchRunning(Running):
    """See the module; `memory` outlives the run and holds what nodes were lowered to."""

    def __init__(self, evaluator: Evaluator, module: OnnxModule, memory: dict[Any, Any]):
        super().__init__(evaluator, None)
        self.module, self.memory, self.device = module, memory, module.device
        # Whether a reference rule is waiting for what its nested graphs give: arrays.
        self.asked_by_reference = False
        self._resolved: dict[Node, tuple[Operator, Schema]] = {}

    def values(self, feeds: Mapping[Value, Any], wanted: Sequence[Value]) -> list[Any]:
        """The `wanted` values of the main graph, as nodes pass them on."""
        if self.device is None:
            self.device = next((x.device for x in feeds.values() if isinstance(x, torch.Tensor)), None)
        return self.run(self.plans[self.evaluator.model.graph], dict(feeds), wanted)

    def out(self, value: Any) -> Any:
        """A value as PyTorch's users have it: a tensor where PyTorch can hold its type, else an array."""
        if isinstance(value, np.ndarray):
            kind = getattr(torch, value.dtype.name, None)
            if dtype_of(value) not in NATIVE and isinstance(kind, torch.dtype):
                return torch.from_numpy(value.copy())
            return from_array(value, dtype_of(value), self.device)
        if isinstance(value, Narrow):
            kind = getattr(torch, value.dtype.numpy_name, None)
            return to_array(value) if kind is None else value.tensor.to(kind)
        return [self.out(v) for v in value] if isinstance(value, list) else value

    def constants(self, plan: Plan) -> Mapping[Value, Any]:
        return self.module.tensors(plan.graph)

    def applied(self, step: Step, inputs: list[Any], frame: Frame) -> list[Any]:
        assert step.schema is not None and step.operator is not None
        node, schema = step.node, step.schema
        control = CONTROL.get((schema.domain, schema.name))
        attributes = step.attributes
        if attributes is None:
            node = bind(node, frame.bindings)
            attributes = attributes_of(node, schema)
        if control is not None:
            made = control(self, node, inputs, frame, attributes)
            if made is not None:
                return made
        if any(isinstance(x, (list, dict)) for x in inputs) or any(True for _ in node.subgraphs()):
            return self._by_reference(step, inputs, frame)
        remember = step.attributes is not None
        if all(x is None or (isinstance(x, np.ndarray) and x.size <= FEW) for x in inputs):
            return self._on_host(step, inputs, frame, remember)
        rule = step.operator.rule("lower", schema.version)
        if rule is None:
            return self._by_reference(step, inputs, frame)
        key: Any = (step, tuple(None if x is None else (dtype_of(x), tuple(x.shape)) for x in inputs))
        found = self.memory.get(key) if remember else None
        if found is None:
            found = self._lowered(step, node, rule.function, attributes, inputs, False)
            if remember:
                self._keep(key, found)
        if found == "numbers":
            key = (*key, tuple(_numbers(x) for x in inputs))
            found = self.memory.get(key) if remember else None
            if found is None:
                found = self._lowered(step, node, rule.function, attributes, inputs, True)
                if remember:
                    self._keep(key, found)
        if not isinstance(found, Program):
            return self._by_reference(step, inputs, frame)
        values = [carried(x, self.device) for x in inputs if x is not None]
        return found.run(values, self.device)

    def _keep(self, key: Any, found: Any) -> None:
        kept = self.memory.setdefault(("keys", key[0], len(key)), [])
        if len(kept) >= _REMEMBERED:
            for old in kept:
                self.memory.pop(old, None)
            kept.clear()
        kept.append(key)
        self.memory[key] = found

    def _lowered(self, step: Step, node: Node, rule: Any, attributes: Mapping[str, Any], inputs: Sequence[Any],
                 numbers: bool) -> Program | str:
        """A node's program; "numbers" where it must know numbers of its inputs, "reference" where there is none."""
        assert step.schema is not None and step.fitting is not None
        if not numbers:
            step.fitting.hold(node, [_stand_in(x) for x in inputs], self.budget, step.attributes is not None)
        p = Builder(outputs=len(node.outputs), version=step.schema.version)
        p.site = Site(step.node, self._meaning)
        args: list[Expr | None] = []
        for i, x in enumerate(inputs):
            if x is None:
                args.append(None)
                continue
            e = p.input(f"x{i}", dtype_of(x), tuple(x.shape))
            if numbers and (known := _read(x)) is not None:
                p.learn(e, known)
            args.append(e)
        try:
            results = lower(rule, p, args, attributes)
            if len(results) < len(node.outputs):
                raise CannotLower("its lowering does not give all outputs")
            return Program([a for a in args if a is not None], results[:len(node.outputs)])
        except CannotLower as e:
            if not numbers:
                return "numbers"
            knobs.debug(1, f"{node.place} runs by its reference rule: {e.reason}")
            return "reference"

    def _meaning(self, node: Node) -> tuple[Operator, Schema]:
        if not self._resolved:
            self._resolved = {s.node: (s.operator, s.schema) for plan in self.plans.values() for s in plan.steps
                              if s.operator is not None and s.schema is not None}
        return self._resolved[node]

    def _on_host(self, step: Step, inputs: list[Any], frame: Frame, remember: bool) -> list[Any]:
        assert step.rule is not None
        remember = remember and not step.rule.takes_run
        key = (step, "host", tuple(_numbers(x) for x in inputs))
        found = self.memory.get(key) if remember else None
        if found is None:
            found = [self._settled(x) for x in super().applied(step, inputs, frame)]
            if remember:
                self._keep(key, found)
        return list(found)

    def _settled(self, x: Any) -> Any:
        """A result of a reference rule: small integers stay on the host, as all that PyTorch has no type for."""
        if isinstance(x, list):
            return [self._settled(v) for v in x]
        if not isinstance(x, np.ndarray) or dtype_of(x) not in NATIVE:
            return x
        return x if x.size <= FEW else from_array(x, dtype_of(x), self.device)

    def body(self, graph: Graph, inputs: Sequence[Any], outer: Frame) -> list[Any]:
        results = super().body(graph, inputs, outer)
        return [_plain(x) for x in results] if self.asked_by_reference else results

    def _by_reference(self, step: Step, inputs: list[Any], frame: Frame) -> list[Any]:
        plain = [_plain(x) for x in inputs]
        before, self.asked_by_reference = self.asked_by_reference, True
        try:
            results = [self._settled(x) for x in super().applied(step, plain, frame)]
        finally:
            self.asked_by_reference = before
        moving = [x for x in _tensors(inputs) if x.requires_grad]
        if not moving or not torch.is_grad_enabled():
            return results
        return [_barred(x, step.node.op_type, moving, self.device) for x in results]


def _plain(x: Any) -> Any:
    return [_plain(v) for v in x] if isinstance(x, list) else to_array(x)


def _tensors(values: Sequence[Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for x in values:
        x = x.tensor if isinstance(x, Narrow) else x
        found += _tensors(x) if isinstance(x, list) else [x] if isinstance(x, torch.Tensor) else []
    return found


def _stand_in(x: Any) -> Any:
    """An array of the type and shape of an input, with its numbers where it is small, for checks that look at these."""
    if x is None or isinstance(x, np.ndarray):
        return x
    known = _read(x)
    shape = tuple(x.shape)
    return known if known is not None else np.broadcast_to(np.zeros((), dtype_of(x).numpy), shape)


def _numbers(x: Any) -> Any:
    known = None if x is None else _read(x)
    return None if known is None else (known.dtype, known.shape, known.tobytes())


def _read(x: Any) -> np.ndarray[Any, Any] | None:
    """The numbers of a small input; None where it is large."""
    if isinstance(x, np.ndarray):
        return x if x.size <= FEW and x.dtype != object else None
    # A tensor of a subclass stands in for numbers that are not there yet, while PyTorch traces.
    if isinstance(x, Narrow) or type(x) not in _WITH_NUMBERS or x.numel() > FEW or dtype_of(x).kind == "complex":
        return None
    array: np.ndarray[Any, Any] = to_array(x)
    return array


class _Barrier(torch.autograd.Function):
    """Numbers that came by a way without gradients, of inputs that have some."""

    @staticmethod
    def forward(ctx: Any, made: torch.Tensor, op_type: str, *moving: torch.Tensor) -> torch.Tensor:
        ctx.op_type = op_type
        return made.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise UnsupportedError(f"{ctx.op_type} has no gradient here: it runs by its reference rule", who="torch",
                               advice="detach its input, or freeze what stands before it")


def _barred(x: Any, op_type: str, moving: Sequence[torch.Tensor], device: torch.device | None) -> Any:
    if isinstance(x, list):
        return [_barred(v, op_type, moving, device) for v in x]
    x = carried(x, device) if isinstance(x, np.ndarray) and dtype_of(x).is_float else x
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        return _Barrier.apply(x, op_type, *moving)
    return x


