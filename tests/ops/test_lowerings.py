"""Lowerings mean what reference rules do: ONNX's cases of one node through both, for every operator of the book.

An input's numbers are told to the lowering only where it asks for them: the fewer it needs, the more models compile.
What has no lowering is listed in `tests/suites/gaps_lowering.txt`, operators and single cases, each with the reason;
the list may only shrink.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.ops.single_node import Case, close

from gesher import ops
from gesher.primitives import CannotLower

_GAPS_FILE = Path(__file__).parents[1] / "suites" / "gaps_lowering.txt"
_LINES = [line.split(None, 1) for line in _GAPS_FILE.read_text().splitlines() if line and not line.startswith("#")]
GAPS = {line[0]: line[1] for line in _LINES}


def _collect() -> dict[str, tuple[Case, float, float]]:
    """Cases of one node of the book that takes and gives arrays and has no subgraphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    cases = {}
    for c in found:
        [node], graph = c.model.graph.node[:1], c.model.graph
        operator = ops.find("", node.op_type)
        tensors = all(v.type.HasField("tensor_type") for v in (*graph.input, *graph.output))
        if len(graph.node) > 1 or node.domain or operator is None or not tensors or any(
                a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            continue
        opset = c.model.opset_import[0].version
        schema = operator.schema(opset)
        if schema is None or operator.rule("reference", schema.version) is None:
            continue
        by_name = dict(zip([i.name for i in graph.input], map(_array, c.data_sets[0][0])))
        attributes = {a.name: _attribute(a) for a in node.attribute}
        case = Case(node.op_type, opset, [by_name[n] if n else None for n in node.input], attributes,
                    [bool(n) for n in node.output], c.name)
        cases[c.name] = case, c.rtol, c.atol
    return cases


def _array(value: Any) -> Any:
    array = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _attribute(a: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value


CASES = _collect()


def _lowered(case: Case) -> list[Any]:
    """By the lowering, with as few inputs known as it can do with.

    Raises:
        CannotLower: it cannot do even with all known.
    """
    given = [i for i, x in enumerate(case.inputs) if x is not None]
    small = [i for i in given if case.inputs[i].dtype.kind in "iub" and case.inputs[i].size <= 4096]
    for known in ((), small, given[1:]):
        try:
            return case.lowered(known=known)
        except CannotLower:
            continue
    return case.lowered(known=given)


@pytest.mark.parametrize("name", CASES)
def test_lowering_means_what_the_reference_does(name: str) -> None:
    case, rtol, atol = CASES[name]
    gap = name in GAPS or case.op in GAPS
    if gap:
        with pytest.raises(CannotLower):
            _lowered(case)
        return
    for i, (got, want) in enumerate(zip(_lowered(case), case.reference())):
        if case.wanted[i]:
            # Two steps of bfloat16; float32 sums in another order differ in the sixth digit.
            near = max(rtol, 2**-6) if want.dtype.name == "bfloat16" else rtol
            close(got, want, near, max(atol, 1e-6), f"{name}: output {i}")


def test_gaps_exist_and_say_why() -> None:
    assert set(GAPS) <= {*CASES, *(case.op for case, _, _ in CASES.values())}
    assert all(len(reason) > 10 for reason in GAPS.values())
