"""Which engines run an operator, in which versions: what their packages tell of it themselves.

ONNX Runtime lists its kernels; an operator without one may run all the same, where ONNX defines it by others. OpenVINO
tells of whole models alone, so of it nothing is known here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from gesher.ops import Operator

COLUMNS = ("reference", "compiled", "onnxruntime", "openvino")
UNKNOWN, NONE = "?", "-"


def engines_of(operator: Operator) -> dict[str, str]:
    """For each engine the versions of an operator that it runs: `1-6 7-`, `-` for none, `?` where it does not tell.

    What the compiled engine has no code for, it runs by the reference's rule; that is told in brackets.
    """
    reference, lowered = _since(operator, "reference"), _since(operator, "lower")
    compiled = lowered if lowered != NONE or reference == NONE else f"({reference})"
    return {"reference": reference, "compiled": compiled, "onnxruntime": _onnxruntime(operator), "openvino": UNKNOWN}


def _since(operator: Operator, kind: Any) -> str:
    rules = operator.rules.get(kind, ())
    return f"{min(r.since for r in rules)}-" if rules else NONE


def _onnxruntime(operator: Operator) -> str:
    kernels = _kernels()
    if kernels is None:
        return UNKNOWN
    return " ".join(f"{a}-{'' if b is None else b}" if a != b else str(a)
                    for a, b in kernels.get((operator.domain, operator.name), ())) or NONE


@cache
def _kernels() -> dict[tuple[str, str], list[tuple[int, int | None]]] | None:
    """ONNX Runtime's CPU kernels: their ranges of versions, None for those without an end; None where it is missing."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        listed = state.get_all_opkernel_def()
    except (ImportError, AttributeError):
        return None
    found: dict[tuple[str, str], set[tuple[int, int | None]]] = {}
    for kernel in listed:
        if kernel.provider == "CPUExecutionProvider":
            first, last = kernel.version_range
            domain = "" if kernel.domain == "ai.onnx" else kernel.domain
            found.setdefault((domain, kernel.op_name), set()).add((first, None if last >= 1 << 30 else last))
    return {key: sorted(ranges, key=lambda r: r[0]) for key, ranges in found.items()}
