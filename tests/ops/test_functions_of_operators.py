"""Operators that ONNX defines as functions of others mean the same: every body, of every version that has one.

A case is a node of the operator: ONNX's own ones, taken back to each older version whose schema allows them, and the
rows of `every_version`. The node runs by our rule; its body, made by ONNX for just that node, runs as a function of the
model. Inference must say the same of both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.defs
import pytest
from tests.inference.test_by_running import held
from tests.ops.single_node import Case
from tests.ops.test_every_version import ROWS
from tests.suites.conformance import cases as conformance_cases

from gesher.base.errors import GesherError
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir.files import from_bytes
from gesher.primitives import CannotLower

WHOLE = os.environ.get("GESHER_TEST_ALL") == "1"
# Nodes of each body in the sample.
SAMPLE = 5

# Bodies that do not mean what the operator's text says: this one gives 1 where the text gives 0, and draws at random.
EXCEPTED = frozenset(("Bernoulli",))

Body = tuple[str, str, int, int]
"""An operator's domain and name, its version, and the opset that its body is written in."""


@cache
def bodies() -> dict[Body, Any]:
    """Every body that ONNX publishes, with its schema."""
    found = {}
    for s in onnx.defs.get_all_schemas_with_history():
        for opset in {*(s.function_opset_versions if s.has_function else ()),
                      *(s.context_dependent_function_opset_versions if s.has_context_dependent_function else ())}:
            found[s.domain, s.name, s.since_version, opset] = s
    return found


def _last_opset(schema: Any) -> int:
    """The newest opset in which this version of the operator is the one that counts."""
    later = [s.since_version for s in onnx.defs.get_all_schemas_with_history()
             if (s.domain, s.name) == (schema.domain, schema.name) and s.since_version > schema.since_version]
    newest: int = onnx.defs.onnx_opset_version() if not schema.domain else schema.since_version
    return min(later) - 1 if later else newest


Node = tuple[str, onnx.ModelProto, dict[str, Any], Case | None]
"""A model of one node with what is fed to it, and the case that it is, where it is one."""


@cache
def _single() -> dict[tuple[str, str], list[tuple[str, onnx.ModelProto, dict[str, Any]]]]:
    """ONNX's own cases of one node, by operator."""
    found: dict[tuple[str, str], list[Any]] = {}
    for case in conformance_cases():
        if case.group == "node" and len((proto := case.proto()).graph.node) == 1:
            node = proto.graph.node[0]
            found.setdefault((node.domain, node.op_type), []).append((case.name, proto, case.data()[0][0]))
    return found


def _nodes(schema: Any, opset: int) -> Iterator[Node]:
    """Nodes of an operator in one opset: where its version allows a case, in types, attributes and inputs."""
    for name, proto, feeds in _single().get((schema.domain, schema.name), ()):
        node, graph = proto.graph.node[0], proto.graph
        types = {v.name: v.type for v in graph.input}
        if len(node.input) > schema.max_input or len(node.output) > schema.max_output or any(
                a.name not in schema.attributes for a in node.attribute):
            continue
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        formals = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(len(node.input))]
        if any(n and _spelled(types[n]) not in allowed.get(f.type_str, {f.type_str})
               for n, f in zip(node.input, formals)):
            continue
        moved = onnx.ModelProto()
        moved.CopyFrom(proto)
        for o in moved.opset_import:
            if o.domain == "":
                o.version = opset
        yield name, moved, feeds, None
    for row in ROWS:
        if (row.domain, row.op) == (schema.domain, schema.name) and schema.since_version in row.versions():
            case = replace(row.case(schema.since_version), opset=opset)
            yield str(case), case.model(), {f"x{i}": x for i, x in enumerate(case.inputs) if x is not None}, case


def _spelled(type: onnx.TypeProto) -> str:
    kind = type.WhichOneof("value")
    if kind == "tensor_type":
        name: str = onnx.TensorProto.DataType.Name(type.tensor_type.elem_type).lower()
        return f"tensor({name})"
    if kind == "sequence_type":
        return f"seq({_spelled(type.sequence_type.elem_type)})"
    return f"optional({_spelled(type.optional_type.elem_type)})" if kind == "optional_type" else ""


def as_call(proto: onnx.ModelProto, schema: Any, opset: int) -> onnx.ModelProto:
    """The model with its one node made a call of its body.

    Raises:
        LookupError: ONNX gives no body for just this node.
    """
    node, graph = proto.graph.node[0], proto.graph
    types = {v.name: v.type for v in graph.input}
    if schema.has_context_dependent_function:
        given = [types[n].SerializeToString() if n else b"" for n in node.input]
        made = schema.get_context_dependent_function_with_opset_version(opset, node.SerializeToString(), given)
        function = onnx.FunctionProto.FromString(made) if made else None
    else:
        made = schema.get_function_with_opset_version(opset)
        function = onnx.FunctionProto.FromString(made) if isinstance(made, bytes) else made
    if function is None or not function.node:
        raise LookupError
    call = onnx.ModelProto()
    call.CopyFrom(proto)
    function.domain, function.name = "test.bodies", schema.name
    if not any(o.domain == "" for o in function.opset_import):
        function.opset_import.append(onnx.helper.make_opsetid("", next(
            o.version for o in proto.opset_import if o.domain == "")))
    call.opset_import.append(onnx.helper.make_opsetid("test.bodies", 1))
    calling = call.graph.node[0]
    calling.domain = "test.bodies"
    # A body for a node that leaves an output out does not make it.
    made_there = {n for inner in function.node for n in inner.output}
    pairs = [(o, function.output[i]) for i, o in enumerate(node.output) if function.output[i] in made_there]
    assert [o for o, _ in pairs] == [o for o in node.output if o]
    for outputs, names in ((calling.output, [o for o, _ in pairs]), (function.output, [f for _, f in pairs])):
        del outputs[:]
        outputs.extend(names)
    written = {a.name for a in calling.attribute}
    # A function knows no defaults of the operator's schema.
    for name, a in schema.attributes.items():
        if name not in written and a.default_value.type:
            calling.attribute.append(a.default_value)
    wanted = {*function.attribute, *(a.name for a in function.attribute_proto)}
    kept = [a for a in calling.attribute if a.name in wanted]
    del calling.attribute[:]
    calling.attribute.extend(kept)
    call.functions.append(function)
    call.ir_version = max(call.ir_version, 10)
    return call


def _agree(a: Any, b: Any, what: str) -> None:
    if isinstance(a, list):
        assert len(a) == len(b), what
        for x, y in zip(a, b):
            _agree(x, y, what)
        return
    assert a.dtype == b.dtype, f"{what}: {a.dtype} by the rule, {b.dtype} by the body"
    assert a.shape == b.shape, f"{what}: {a.shape} by the rule, {b.shape} by the body"
    if a.dtype == object or a.dtype.kind in "biu":
        # Quantised numbers right between two are rounded by the last bit of a sum.
        assert np.array_equal(a, b) if a.dtype != np.uint8 else np.abs(a.astype(int) - b.astype(int)).max(initial=0) < 2
        return
    # A body rounds after each of its operators: narrow floats after each of them.
    near = {2: 3e-2, 1: 0.26}.get(a.dtype.itemsize, 1e-3)
    np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), near, near / 10, err_msg=what)


@pytest.mark.slow
@pytest.mark.parametrize("body", sorted(b for b in bodies() if b[1] not in EXCEPTED),
                         ids=lambda b: f"{b[1]}-{b[2]}-{b[3]}")
def test_a_body_means_what_its_operator_does(body: Body) -> None:
    domain, name, version, opset = body
    schema = bodies()[body]
    within = max(version, opset) if not domain else 27
    assert domain or within <= _last_opset(schema), f"no opset has {name} {version} and a body of {opset}"
    nodes = list(_nodes(schema, within))
    if not WHOLE:
        order = np.random.default_rng([len(nodes), version, opset]).permutation(len(nodes))
        nodes = [nodes[i] for i in order]
    held_up = 0
    for told, proto, feeds, case in nodes:
        if held_up == SAMPLE and not WHOLE:
            break
        try:
            call = as_call(proto, schema, opset)
        except LookupError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                want = Evaluator(from_bytes(proto.SerializeToString())).run(feeds)
            except GesherError:
                continue    # what a newer version allows
            made = from_bytes(call.SerializeToString())
            got = Evaluator(made).run(feeds)
        what = f"{name} {version}, body of opset {opset}, {told}"
        for a, b in zip(want.values(), got.values(), strict=True):
            _agree(a, b, what)
        wrong = held(infer(made), made.graph.outputs, list(want.values()), {})
        assert not wrong, f"{what}: {wrong}"
        if case is not None:
            _lowers_alike(case, what)
        held_up += 1
    assert held_up, f"no node holds {name} {version} against its body"


def _lowers_alike(case: Case, what: str) -> None:
    known = [i for i, x in enumerate(case.inputs) if i and x is not None and x.dtype.kind in "iu" and x.size < 64]
    try:
        lowered = case.lowered(known=known)
    except CannotLower:
        return
    for a, b in zip(case.reference(), lowered):
        _agree(a, b, f"{what}, lowered")


def test_all_bodies_are_there() -> None:
    assert len(bodies()) == 80
    assert {b[1] for b in bodies()} >= EXCEPTED
