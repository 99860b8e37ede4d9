"""ONNX's node cases as questions to shape inference: what do the outputs look like, where the model does not say?

A case's tensors become initializers, so that a `shape` that Reshape reads is as known as it is in a real model; inputs
that are sequences or optionals stay inputs. The declared types of the outputs are taken away, and what a tool finds is
held against the expected outputs themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from tests.suites.conformance import Case, cases

Verdict = Literal["exact", "rank-only", "unknown", "wrong"]
# From best to worst; a case is as good as the worst of its outputs.
VERDICTS: tuple[Verdict, ...] = ("exact", "rank-only", "unknown", "wrong")


def node_cases() -> list[Case]:
    """The cases of single operators."""
    return [c for c in cases() if c.group == "node"]


def stripped(case: Case) -> onnx.ModelProto:
    """The case's model with its tensors inside, and nothing said of its outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.proto())
    graph = model.graph
    given = dict(zip([v.name for v in graph.input], case.source.data_sets[0][0]))
    left = []
    for v in graph.input:
        value = given.get(v.name)
        if v.type.HasField("tensor_type") and value is not None:
            tensor = value if isinstance(value, onnx.TensorProto) else \
                onnx.numpy_helper.from_array(np.asarray(value), v.name)
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = v.name
        else:
            left.append(onnx.ValueInfoProto.FromString(v.SerializeToString()))
    del graph.input[:]
    graph.input.extend(left)
    del graph.value_info[:]
    for o in graph.output:
        o.ClearField("type")
    return model


def verdict(case: Case, found: Mapping[str, onnx.TypeProto | None]) -> Verdict:
    """How right the types are that a tool found for the outputs, by name."""
    wanted = case.data()[0][1]
    verdicts = [_judged(o.type, found.get(o.name), wanted[o.name]) for o in case.proto().graph.output]
    return max(verdicts, key=VERDICTS.index)


def types_of(model: onnx.ModelProto) -> dict[str, onnx.TypeProto | None]:
    """The types of a model's outputs; None where a tool left one empty."""
    return {o.name: o.type if o.HasField("type") and o.type.WhichOneof("value") else None for o in model.graph.output}


def _judged(declared: onnx.TypeProto, found: onnx.TypeProto | None, value: Any) -> Verdict:
    if found is None:
        return "unknown"
    kind = declared.WhichOneof("value")
    if found.WhichOneof("value") != kind:
        return "wrong"
    if kind == "optional_type":
        return _judged(declared.optional_type.elem_type, found.optional_type.elem_type, value)
    if kind == "sequence_type":
        inner = found.sequence_type.elem_type
        return _tensor(declared.sequence_type.elem_type, inner if inner.WhichOneof("value") else None, value or ())
    return _tensor(declared, found, () if value is None else (value,))


def _tensor(declared: onnx.TypeProto, found: onnx.TypeProto | None, values: Sequence[Any]) -> Verdict:
    """`found` must hold for all `values`; it is exact where it says all that they have in common."""
    if found is None or not found.tensor_type.elem_type:
        return "unknown"
    if found.tensor_type.elem_type != declared.tensor_type.elem_type:
        return "wrong"
    shapes = [np.shape(v) for v in values]
    if not shapes:
        return "exact"
    if not found.tensor_type.HasField("shape"):
        return "unknown" if len({len(s) for s in shapes}) == 1 else "exact"
    dims = [d.dim_value if d.HasField("dim_value") else None for d in found.tensor_type.shape.dim]
    if any(len(s) != len(dims) for s in shapes):
        return "wrong"
    sizes = [set(axis) for axis in zip(*shapes)]
    if any(d is not None and {d} != s for d, s in zip(dims, sizes)):
        return "wrong"
    return "exact" if all(d is not None or len(s) > 1 for d, s in zip(dims, sizes)) else "rank-only"
