"""ONNX's conformance cases, with the tolerances that ONNX gives them, through the evaluator and through inference.

Every case whose operators the book has must pass. Those that do not are listed in `tests/suites/gaps_reference.txt`,
each with the reason; the list may only shrink, since a case on it that passes fails here.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from gesher import ops
from gesher.base import dtypes
from gesher.base.errors import GesherError
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir import TensorType
from gesher.ir.files import from_bytes

_GAPS_FILE = Path(__file__).parents[1] / "suites" / "gaps_reference.txt"


def _collect() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {c.name: c for c in collect_testcases(None)}


CASES = _collect()


def _gaps() -> dict[str, str]:
    """Cases known to fail: name and reason, a line each."""
    lines = [line.split(None, 1) for line in _GAPS_FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1] for line in lines}


GAPS = _gaps()


@cache
def _in_book(domain: str, name: str, opset: int) -> bool:
    operator = ops.find(domain, name)
    schema = operator.schema(opset) if operator is not None else None
    return operator is not None and schema is not None and operator.rule("reference", schema.version) is not None


# Two engines never draw the same numbers, so the answers of these cases are those of one of them.
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def _covered(model: onnx.ModelProto) -> bool:
    """Whether a case has one answer, and the book every operator of it, in subgraphs and functions too."""
    opsets = {o.domain: o.version for o in model.opset_import}
    functions = {(f.domain, f.name) for f in model.functions}

    def node(n: Any) -> bool:
        if n.op_type in _RANDOM or not all(graph(a.g.node) for a in n.attribute):
            return False
        return (n.domain, n.op_type) in functions or _in_book(n.domain, n.op_type, opsets.get(n.domain, 0))

    def graph(nodes: Any) -> bool:
        return all(map(node, nodes))

    return graph(model.graph.node) and all(graph(f.node) for f in model.functions)


COVERED = [name for name, case in CASES.items() if _covered(case.model)]


def _array(value: Any) -> Any:
    """A case's data as the evaluator takes and gives it."""
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    elif isinstance(value, onnx.SequenceProto):
        value = onnx.numpy_helper.to_list(value)
    elif isinstance(value, onnx.OptionalProto):
        value = onnx.numpy_helper.to_optional(value)
    elif isinstance(value, onnx.MapProto):
        value = onnx.numpy_helper.to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_array(v) for v in value]
    if value is None or isinstance(value, dict):
        return value
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _same(got: Any, want: Any, rtol: float, atol: float, what: str) -> None:
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want), what
        for i, (a, b) in enumerate(zip(got, want)):
            _same(a, b, rtol, atol, f"{what}[{i}]")
        return
    if want is None or isinstance(want, dict):
        assert got == want, what
        return
    assert isinstance(got, np.ndarray), f"{what} is a {type(got).__name__}"
    assert got.dtype == want.dtype, f"{what} is {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what} has the shape {got.shape}, not {want.shape}"
    if want.dtype == object:
        assert got.tolist() == want.tolist(), what
    else:
        if dtypes.from_numpy(want.dtype) is dtypes.BFLOAT16:
            rtol = max(rtol, 2**-6)  # two steps of bfloat16, as ONNX's own runner allows
        if dtypes.from_numpy(want.dtype).is_float and want.dtype.itemsize < 4:
            got, want = got.astype(np.float64), want.astype(np.float64)
        elif dtypes.from_numpy(want.dtype).packed:
            got, want = got.astype(np.int64), want.astype(np.int64)
        np.testing.assert_allclose(got, want, rtol, atol, err_msg=what)


def _evaluate(name: str) -> None:
    case = CASES[name]
    model = from_bytes(case.model.SerializeToString())
    facts = infer(model)
    evaluator = Evaluator(model)
    for inputs, expected in case.data_sets:
        feeds = {v.name: _array(x) for v, x in zip(model.graph.inputs, inputs)}
        results = evaluator.run(feeds)
        for value, want in zip(model.graph.outputs, map(_array, expected)):
            got = results[value.name]
            _same(got, want, case.rtol, case.atol, value.name)
            fact = facts[value]
            if isinstance(got, np.ndarray) and isinstance(fact.type, TensorType):
                told = f"{value.name}: inference says {fact.type}, it is {got.dtype}{list(got.shape)}"
                assert fact.dtype is dtypes.from_numpy(got.dtype), told
                if fact.shape is not None:
                    assert len(fact.shape) == got.ndim, told
                    assert all(d == n for d, n in zip(fact.shape, got.shape) if isinstance(d, int)), told


@pytest.mark.parametrize("name", COVERED)
def test_conformance(name: str) -> None:
    if name not in GAPS:
        _evaluate(name)
        return
    try:
        _evaluate(name)
    except (AssertionError, GesherError, ArithmeticError, LookupError, TypeError, ValueError):
        return
    pytest.fail(f"{name} passes now: take it off {_GAPS_FILE.name}")


def test_gaps_name_cases_that_exist_and_say_why() -> None:
    assert set(GAPS) <= set(COVERED)
    assert all(len(reason) > 10 for reason in GAPS.values())


def test_most_operators_are_met() -> None:
    met = {node.op_type for name in COVERED for node in CASES[name].model.graph.node}
    assert len(met) > 60
