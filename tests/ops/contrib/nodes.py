"""One node of com.microsoft through every rule, held against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from tests.ops.single_node import Case, check, session

MS = "com.microsoft"


@dataclass
class MsCase(Case):
    """A node of com.microsoft beside opset 17; `fixed` names the inputs that ONNX Runtime wants as initializers."""

    domain: str = MS
    fixed: Iterable[int] = ()

    def model(self) -> onnx.ModelProto:
        model = super().model()
        # Some types ONNX Runtime cannot infer, though only one is right.
        facts = [f for f, w in zip(self.infer()[0], self.wanted) if w]
        for output, fact in zip(model.graph.output, facts):
            assert fact is not None
            output.type.tensor_type.elem_type = fact.dtype.code
        for i in self.fixed:
            x = self.inputs[i]
            if x is None:
                continue
            model.graph.initializer.append(onnx.numpy_helper.from_array(x, f"x{i}"))
            model.graph.input.remove(next(v for v in model.graph.input if v.name == f"x{i}"))
        return model

    def onnxruntime(self) -> list[Any]:
        fixed = set(self.fixed)
        feeds = {f"x{i}": x for i, x in enumerate(self.inputs) if x is not None and i not in fixed}
        got = iter(session(self.model().SerializeToString()).run(None, feeds))
        return [next(got) if w else None for w in self.wanted]


def ms(op: str, *inputs: Any, outputs: int | Sequence[bool] = 1, fixed: Iterable[int] = (),
       **attributes: Any) -> MsCase:
    """The case of a node; attributes of None are not written."""
    written = {k: v for k, v in attributes.items() if v is not None}
    return MsCase(op, 17, inputs, written, outputs, fixed=fixed)


def agrees_by_counts(case: MsCase, *, rare: float = 0.02, **how: Any) -> None:
    """`check`, where results are counts: any may be off by one where rounding meets float32's error, but few are.

    At most the share `rare` of the elements may differ at all from ONNX Runtime.
    """
    check(case, rtol=0, atol=1, **how)
    for ours, theirs in zip(case.reference(), case.onnxruntime()):
        off = np.mean(ours.astype(np.int64) != theirs.astype(np.int64))
        assert off <= rare, f"{case}: {off:.1%} of the counts differ"
