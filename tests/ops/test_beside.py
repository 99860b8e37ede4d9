"""Scales, zero points and biases of a shape that the text forbids are refused, by inference and by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import MS
from tests.ops.ml.nodes import ML
from tests.ops.single_node import Case

from gesher.base.errors import GesherError, ModelError
from gesher.ops import beside
from gesher.symbolic import sym

F, I8 = np.float32, np.int8
A, B = np.zeros((2, 3), I8), np.zeros((3, 4), I8)
X = np.zeros((2, 6), F)
STREAMS = np.zeros((1, 2, 3, 8), F)


def ones(*shape: int, dtype: Any = F) -> Any:
    return np.ones(shape, dtype)


ROWS: list[tuple[str, str, list[Any], dict[str, Any], str]] = [
    ("", "MatMulInteger", [A, B, ones(3, dtype=I8)], {}, "each row of the left"),
    ("", "MatMulInteger", [A, B, None, ones(2, dtype=I8)], {}, "each column of the right"),
    ("", "MatMulInteger", [A, B, ones(2, 3, dtype=I8)], {}, "each row of the left"),
    ("", "QLinearMatMul", [A, ones(4), ones(dtype=I8), B, ones(), ones(dtype=I8), ones(), ones(dtype=I8)], {},
     "each row of the left"),
    ("", "QLinearMatMul", [A, ones(), ones(dtype=I8), B, ones(3), ones(dtype=I8), ones(), ones(dtype=I8)], {},
     "each column of the right"),
    ("", "ConvInteger", [ones(1, 2, 5, dtype=I8), ones(4, 2, 3, dtype=I8), ones(2, dtype=I8)], {}, "one number"),
    ("", "ConvInteger", [ones(1, 2, 5, dtype=I8), ones(4, 2, 3, dtype=I8), None, ones(2, dtype=I8)], {},
     "each output channel"),
    ("", "PRelu", [X, ones(1, 1, 1)], {}, "has more axes|do not fit"),
    ("", "MelWeightMatrix", [np.array([8, 8]), np.array(16), np.array(8000), np.array(0, F), np.array(4000, F)], {},
     "one number"),
    ("", "MelWeightMatrix", [np.array(0), np.array(16), np.array(8000), np.array(0, F), np.array(4000, F)], {},
     "0 mel bins"),
    (MS, "DynamicQuantizeMatMul", [A.astype(F), B, ones(3)], {}, "each column of B"),
    (MS, "DynamicQuantizeMatMul", [A.astype(F), B, ones(), None, ones(3)], {}, "each column of B"),
    (MS, "MatMulIntegerToFloat", [A, B, ones(2), ones()], {}, "one number"),
    (MS, "MatMulIntegerToFloat", [A, B, ones(), ones(), None, None, ones(1, 4)], {}, "a list of one number"),
    (MS, "BiasGelu", [X, ones(1)], {}, "bias"),
    (MS, "FastGelu", [X, ones(2, 6)], {}, "vector along the last axis"),
    (MS, "GatedRMSNorm", [X, ones(3), ones(1, 6)], {}, "of the shape of X"),
    (MS, "HyperConnectionPreMix", [STREAMS, ones(1, 2, 3, 4)], {}, "a gate for each branch"),
    (MS, "EngramGate", [STREAMS, STREAMS, STREAMS[:, :, 0], ones(8), ones(3, 8)], {}, "number for each"),
    (MS, "BifurcationDetector", [np.array([[1]]), np.array([1]), np.array(-1)], {}, "a list"),
    (MS, "BifurcationDetector", [np.array([1]), np.array([1]), np.array([1, 2])], {}, "one number"),
    (ML, "Scaler", [ones()], {"scale": [1.0]}, "has no features"),
    (ML, "Scaler", [X], {"offset": [1.0, 2.0]}, "features"),
    (ML, "Imputer", [ones()], {"imputed_value_floats": [1.0]}, "has no features"),
    (ML, "Imputer", [X], {"imputed_value_floats": [1.0, 2.0]}, "features"),
]


@pytest.mark.parametrize(("domain", "op", "inputs", "attributes", "what"), ROWS, ids=lambda v: v if isinstance(v, str)
                         else "")
def test_what_the_text_forbids_is_refused(domain: str, op: str, inputs: list[Any], attributes: dict[str, Any],
                                          what: str) -> None:
    case = Case(op, 21, inputs, attributes, 2 if op == "BifurcationDetector" else 1, domain=domain)
    with pytest.raises(ModelError, match=what):
        case.infer(known=[i for i, x in enumerate(inputs) if x is not None])
    with pytest.raises(GesherError, match=what):
        case.reference()


def test_questions_of_symbols_stay_open() -> None:
    n = sym("n")
    assert beside.of_rows((n,), (5, 3)) is None
    assert beside.of_rows((n,), (n, 3)) is True
    assert beside.of_columns((2, 1, 4), (2, 3, 4)) is True
    assert beside.of_columns((2, 4), (2, 3, 4)) is False
    assert beside.of_columns((2, 4), (2, 3, 4), listed=True) is True
    assert beside.of_columns((3,), (3,)) is False
    assert beside.is_list((), n) is True


def test_a_category_that_is_listed_twice_counts_once() -> None:
    case = Case("OneHotEncoder", 21, [np.array([0, 1, 2])], {"cats_int64s": [0, 0, 1]}, domain=ML)
    assert case.reference()[0].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert case.lowered()[0].tolist() == case.reference()[0].tolist()
