"""Any engine of ours behind ONNX's own backend interface, so that its conformance suite runs against it.

    from onnx.backend.test import BackendTest
    from gesher.engines.onnx_backend import backend

    tests = BackendTest(backend("compiled"), __name__)

This is the one module that meets the `onnx` package; it is imported only by who has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper
from onnx.backend.base import Backend, BackendRep

from gesher.base.errors import UnsupportedError
from gesher.ir import OptionalType, SequenceType, Type
from gesher.ir.files import from_bytes
from gesher.ops import operators

from . import engine as engine_of
from . import prepare
from .protocol import Options, Session


class Prepared(BackendRep):
    """A session behind the interface: inputs and outputs by position."""

    def __init__(self, session: Session):
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, for inputs in the model's order (or one alone)."""
        ports = self.session.inputs
        if not isinstance(inputs, (list, tuple)) or (len(ports) == 1 and isinstance(ports[0].type, SequenceType)
                                                     and not _wrapped(inputs)):
            inputs = [inputs]
        feeds = {p.name: _as_fed(x, p.type) for p, x in zip(ports, inputs)}
        return tuple(self.session.run(feeds).values())


def _wrapped(inputs: Sequence[Any]) -> bool:
    """True where a list of inputs holds one sequence, rather than being it."""
    return len(inputs) == 1 and isinstance(inputs[0], (list, tuple))


def _as_fed(x: Any, type: Type | None) -> Any:
    if isinstance(type, OptionalType):
        return None if x is None else _as_fed(x, type.element)
    if isinstance(type, SequenceType):
        return [_as_fed(v, type.element) for v in x]
    return x if isinstance(x, dict) else np.asarray(x)


def _newest(domain: str) -> int:
    """The newest version of a domain that the book knows; 1 where it knows nothing of it."""
    return max((o.versions[-1].version for o in operators() if o.domain == domain), default=1)


def backend(engine: str) -> type[Backend]:
    """The backend class of one engine.

    Raises:
        UnsupportedError: the engine is not known, or not here.
    """
    why = engine_of(engine).missing()
    if why:
        raise UnsupportedError(f"the engine '{engine}' cannot run here: {why}", who=engine)

    class EngineBackend(Backend):
        """ONNX's backend interface over one engine."""

        name = engine

        @classmethod
        def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
            return cls.supports_device(device) and not engine_of(engine).refuses(
                from_bytes(model.SerializeToString()))

        @classmethod
        def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
            return Prepared(prepare(from_bytes(model.SerializeToString()), engine, Options()))

        @classmethod
        def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
            return cls.prepare(model, device, **kwargs).run(inputs)

        @classmethod
        def run_node(cls, node: NodeProto, inputs: Any, device: str = "CPU",
                     outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
                     **kwargs: Any) -> tuple[Any, ...]:
            """Run one node; `opset_version` (by keyword) is that of the node's domain, the newest by default."""
            arrays = [np.asarray(x) for x in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
            given = [n for n in node.input if n]
            graph = helper.make_graph(
                [node], "node",
                [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                 for n, a in zip(given, arrays)],
                [helper.make_empty_tensor_value_info(n) for n in node.output if n])
            opsets = {"": _newest("")}
            opsets[node.domain] = kwargs.get("opset_version") or _newest(node.domain)
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets.items()])
            return cls.run_model(model, arrays, device)

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return device.split(":")[0] == "CPU"

    return EngineBackend
