"""The reference refuses what numpy would broadcast and ONNX does not."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT
from gesher.base.errors import RunError
from gesher.evaluator import Evaluator
from gesher.evaluator.fitting import hold_results
from gesher.ops.build import Builder
from gesher.symbolic import sym

CASES = [
    ("Conv", [(1, 2, 5, 5), (3, 2, 3, 3)], [(1, 2, 5, 5), (3, 2, 3, 2)], {"kernel_shape": [3, 3]}, "kernel_shape"),
    ("BatchNormalization", [(2, 3, 4), (3,), (3,), (3,), (3,)], [(2, 3, 4), (1,), (3,), (3,), (3,)], {}, "scale"),
    ("GridSample", [(2, 1, 4, 4), (2, 3, 3, 2)], [(2, 1, 4, 4), (1, 3, 3, 2)], {}, "differ"),
    ("Gemm", [(2, 3), (3, 4), (4,)], [(2, 3), (3, 4), (5,)], {}, "5"),
]


@pytest.mark.parametrize(("op", "good", "bad", "attributes", "told"), CASES, ids=[c[0] for c in CASES])
def test_sizes_that_numpy_would_stretch_are_refused(op, good, bad, attributes, told) -> None:
    b = Builder()
    inputs = [b.input(f"x{i}", FLOAT, tuple(sym(f"s{i}_{k}") for k in range(len(s)))) for i, s in enumerate(good)]
    b.output(b.op(op, *inputs, **attributes), "y")
    evaluator = Evaluator(b.model())

    def feed(shapes):
        return {f"x{i}": np.ones(s, np.float32) for i, s in enumerate(shapes)}

    evaluator.run(feed(good))
    with pytest.raises(RunError, match=told) as e:
        evaluator.run(feed(bad))
    assert op in str(e.value)
    evaluator.run(feed(good))


def test_small_integers_that_steer_are_known() -> None:
    from gesher.base.dtypes import INT64

    b = Builder()
    b.output(b.Reshape(b.input("x", FLOAT, (sym("n"), 2)), b.input("shape", INT64, (2,))), "y")
    evaluator = Evaluator(b.model())
    x = np.ones((3, 2), np.float32)
    assert evaluator.run({"x": x, "shape": [2, 3]})["y"].shape == (2, 3)
    with pytest.raises(RunError, match="6"):
        evaluator.run({"x": x, "shape": [2, 4]})


def test_the_two_rules_are_held_to_each_other() -> None:
    hold_results(((2, None), None), [np.zeros((2, 5)), np.zeros(3)], "Op")
    with pytest.raises(RunError, match="fault in gesher"):
        hold_results(((2, None),), [np.zeros((3, 5))], "Op")
    with pytest.raises(RunError, match="fault in gesher"):
        hold_results(((2,),), [np.zeros((2, 1))], "Op")


def test_what_grows_beyond_the_budget_is_refused_before_it_is_made() -> None:
    b = Builder()
    x = b.input("x", FLOAT, (4,))
    for _ in range(60):
        x = b.Concat(x, x, axis=0)
    b.output(x, "y")
    with pytest.raises(RunError, match="the budget is 1,048,576"):
        Evaluator(b.model(), budget=1 << 20).run({"x": np.ones(4, np.float32)})
