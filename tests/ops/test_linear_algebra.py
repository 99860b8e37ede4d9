"""The determinant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.drawing import draw, generator, label, types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base.errors import ModelError, RunError


@pytest.mark.parametrize(("name", "schema"), versions_of("Det"), ids=label)
def test_rules_agree(name: str, schema: Any) -> None:
    near = {"double": 1e-12, "float": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
    for dtype in types_of(schema):
        for shape in ((3, 3), (2, 4, 4), (2, 3, 1, 1), (2, 2, 5, 5), (0, 0)):
            x = draw(generator(dtype.name, shape), dtype, shape, special=False)
            want = np.asarray(np.linalg.det(x.astype(np.float64))).astype(dtype.numpy)
            symbols = {(0, 0): "n"} if len(shape) > 2 else {(0, 0): "n", (0, 1): "n"}
            check(Case(name, schema.version, [x]), [want], symbols=symbols, rtol=near[dtype.name], atol=1e-3)


def test_by_hand() -> None:
    check(Case("Det", 11, [np.array([[0.0, 2], [3, 4]])]), [np.array(-6.0)])
    check(Case("Det", 11, [np.array([[1.0, 2], [2, 4]])]), [np.array(0.0)])
    check(Case("Det", 11, [np.array([[0.0, 0], [0, 0]])]), [np.array(0.0)])


def test_matrices_that_are_not_square_are_refused() -> None:
    for shape in ((2, 3), (3,)):
        with pytest.raises(ModelError):
            Case("Det", 11, [np.zeros(shape)]).infer()
        with pytest.raises(RunError, match="not square"):
            Case("Det", 11, [np.zeros(shape)]).reference()
