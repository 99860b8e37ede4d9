"""The schemas of com.microsoft are those that ONNX Runtime has: every operator of the book, zero differences."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state
from tests.ops.test_schemas import ours

from gesher import ops

MS = "com.microsoft"
_AMONG_ONNX = "SimplifiedLayerNormalization"
_HAS = {s.name: s for s in state.get_all_operator_schema() if s.domain == MS or s.name == _AMONG_ONNX}
_BOOK = {o.name: o for o in ops.operators() if o.domain == MS or o.name == _AMONG_ONNX}
_MOST = 2**31 - 1


def theirs(s: Any) -> dict[str, Any]:
    """A schema of ONNX Runtime as the same plain data as `ours` gives."""
    used = {f.typeStr for f in (*s.inputs, *s.outputs)}
    return {
        "inputs": [_formal(f) for f in s.inputs],
        "outputs": [_formal(f) for f in s.outputs],
        "attributes": {a.name: (a.type.name, a.required, _default(a)) for a in s.attributes.values()},
        "types": {c.type_param_str: sorted(c.allowed_type_strs) for c in s.type_constraints},
        "deprecated": s.deprecated,
        "unused type variables": sorted({c.type_param_str for c in s.type_constraints} - used),
        "least and most": (s.min_input, None if s.max_input == _MOST else s.max_input,
                           s.min_output, None if s.max_output == _MOST else s.max_output),
    }


def _formal(f: Any) -> tuple[Any, ...]:
    # ONNX Runtime does not tell how many a variadic input must have beyond the one that all have.
    return f.name, f.typeStr, f.option.name.lower(), f.isHomogeneous, 1


def _default(a: Any) -> Any:
    written = onnx.AttributeProto.FromString(a._default_value)
    if not written.type:
        return None
    value = onnx.helper.get_attribute_value(written)
    return value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(_BOOK))
def test_schemas_equal_those_of_onnxruntime(name: str) -> None:
    assert [s.version for s in _BOOK[name].versions] == [_HAS[name].since_version]
    assert ours(_BOOK[name].versions[0]) == theirs(_HAS[name])


_RUN_ON_CPU = {k.op_name for k in state.get_all_opkernel_def()
               if k.domain == MS and k.provider == "CPUExecutionProvider"}


def test_all_that_onnxruntime_runs_on_a_cpu_is_in_the_book() -> None:
    assert set(_BOOK) >= _RUN_ON_CPU
