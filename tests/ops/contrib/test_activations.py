"""com.microsoft's activations answer as ONNX Runtime does."""

from typing import Any

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import FLOAT
from gesher.ops.build import Builder
from gesher.primitives import Builder as Primitives
from gesher.primitives import evaluate

MS = "com.microsoft"
X = np.random.default_rng(0).normal(0, 3, (4, 6)).astype(np.float32)
BIAS = np.linspace(-1, 1, 6, dtype=np.float32)


@pytest.mark.parametrize(("op", "bias", "attributes"), [
    ("Gelu", False, {}), ("FastGelu", False, {}), ("FastGelu", True, {}), ("BiasGelu", True, {}),
    ("QuickGelu", False, {}), ("QuickGelu", False, {"alpha": 1.0})])
def test_all_rules_agree_with_onnxruntime(op: str, bias: bool, attributes: dict[str, Any]) -> None:
    b = Builder({"": 17, MS: 1})
    x = b.input("x", FLOAT, ("n", 6))
    y = b.op(op, x, *([BIAS] if bias else []), domain=MS, **attributes)
    assert [str(d) for d in b.shape(y) or ()] == ["n", "6"]
    b.output(y, "y")
    model = b.model()
    with gesher.session(model, "onnxruntime") as theirs, gesher.session(model, "reference") as ours:
        want, got = theirs.run({"x": X})["y"], ours.run({"x": X})["y"]
    # exp and erf of another library, in float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

    from gesher.ops import find

    operator = find(MS, op)
    assert operator is not None
    rule = operator.rule("lower", 1)
    assert rule is not None
    p = Primitives()
    lowered = rule.function(p, p.input("x", FLOAT, X.shape), *([p.constant(BIAS)] if bias else []),
                            **({"alpha": attributes.get("alpha", 1.702)} if op == "QuickGelu" else {}))
    np.testing.assert_allclose(evaluate([lowered], {"x": X})[0], got, rtol=1e-5, atol=1e-6)


def test_quick_gelu_by_hand() -> None:
    from gesher.ops.contrib.activations import quick_gelu

    assert quick_gelu(np.array([0.0, -1e30, 1e30]), alpha=1.702).tolist() == [0, 0, 1e30]


def test_a_bias_of_another_size_is_refused() -> None:
    b = Builder({"": 17, MS: 1})
    with pytest.raises(gesher.ModelError, match="bias"):
        b.op("BiasGelu", b.input("x", FLOAT, (2, 5)), BIAS, domain=MS)
