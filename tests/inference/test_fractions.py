"""Sizes that pass through floats: what is told of them holds for every size, and what could be wrong is not told."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.inference import infer
from gesher.inference.fractions import LONGEST
from gesher.ir import Value
from gesher.ops.build import Builder
from gesher.symbolic import Dim, evaluate

# (operator, constant): what exporters do to sizes, and what must not be believed.
STEPS: list[tuple[str, float | None]] = [
    ("Mul", 0.5), ("Mul", 1.5), ("Mul", 2.0), ("Mul", -1.0), ("Mul", 0.1), ("Mul", 0.7), ("Div", 2.0), ("Div", 3.0),
    ("Div", 7.0), ("Div", -5.0), ("Div", 0.75), ("Div", 0.1), ("Add", 1.0), ("Add", 0.5), ("Sub", 3.0),
    ("Add", 0.1), ("Floor", None), ("Ceil", None), ("Neg", None), ("Round", None),
]
MEANING: dict[str, Callable[..., Any]] = {"Mul": np.multiply, "Div": np.divide, "Add": np.add, "Sub": np.subtract,
                                          "Floor": np.floor, "Ceil": np.ceil, "Neg": np.negative, "Round": np.rint}


def chain(steps: list[tuple[str, float | None]], dtype: dtypes.DType) -> Any:
    """The known value of `int64(steps(float(h)))`, or None."""
    b = Builder({"": 21}, "sizes")
    x = b.Cast(b.Shape(b.input("x", dtypes.FLOAT, ("h",))), to=dtype.code)
    for name, constant in steps:
        x = getattr(b, name)(x, *([] if constant is None else [b.constant(np.array([constant], dtype.numpy))]))
    b.output(b.Cast(x, to=dtypes.INT64.code), "y")
    model = b.model()
    value = infer(model)[model.graph.outputs[0]].value
    return None if value is None else value.reshape(-1)[0]


@pytest.mark.parametrize("dtype", [dtypes.FLOAT, dtypes.DOUBLE], ids=str)
@pytest.mark.parametrize("seed", range(60))
def test_what_is_told_holds_for_every_size(seed: int, dtype: dtypes.DType) -> None:
    draw = random.Random(seed)
    steps = [draw.choice(STEPS) for _ in range(draw.randint(1, 4))]
    found = chain(steps, dtype)
    if found is None:
        return
    sizes = np.unique(np.concatenate([np.arange(300), np.arange(LONGEST - 100, LONGEST + 1),
                                      np.random.default_rng(seed).integers(0, LONGEST, 300)]))
    run = sizes.astype(dtype.numpy)
    for name, constant in steps:
        run = MEANING[name](run, *([] if constant is None else [dtype.numpy.type(constant)]))
    told = [evaluate(found, {"h": int(n)}) for n in sizes]
    assert told == run.astype(np.int64).tolist(), (steps, found)


def test_the_test_of_sizes_is_not_idle() -> None:
    found = [chain([draw.choice(STEPS) for _ in range(draw.randint(1, 4))], dtypes.FLOAT)
             for draw in map(random.Random, range(60))]
    assert sum(f is not None for f in found) >= 20


@pytest.mark.parametrize(("steps", "wanted"), [
    ([("Mul", 0.5), ("Floor", None)], "h//2"),
    ([("Mul", 2.0)], "2*h"),
    ([("Div", 3.0), ("Ceil", None)], "(h + 2)//3"),
    ([("Mul", 1.5)], "h + h//2"),
    ([("Add", 1.0), ("Div", 2.0), ("Floor", None), ("Mul", 4.0)], "4*((h + 1)//2)"),
])
def test_sizes_come_back_from_floats(steps: list[tuple[str, float | None]], wanted: str) -> None:
    assert str(chain(steps, dtypes.FLOAT)) == wanted


@pytest.mark.parametrize("steps", [
    [("Mul", 0.1)],                    # float32 holds no tenth
    [("Mul", 0.7), ("Floor", None)],   # 10 * 0.7 is 7 in float32, and 6.99... of the number that it holds
    [("Div", 3.0), ("Mul", 3.0)],      # rounded twice
    [("Div", 3.0), ("Add", 1.0)],
    [("Mul", 0.5), ("Round", None)],   # to even, which no expression says
])
def test_what_floats_round_is_lost(steps: list[tuple[str, float | None]]) -> None:
    assert chain(steps, dtypes.FLOAT) is None


def _area(dtype: dtypes.DType) -> tuple[Any, Value, Any]:
    b = Builder({"": 21}, "area")
    sizes = b.Cast(b.Shape(b.input("x", dtypes.FLOAT, ("h", "w"))), to=dtype.code)
    h, w = (b.Gather(sizes, b.constant(np.array([i]))) for i in range(2))
    half = b.Mul(b.Concat(b.Mul(h, w), h, axis=0), b.constant(np.array([0.5, 2], dtype.numpy)))
    b.output(b.Cast(b.Reshape(half, b.constant(np.array([1, 2]))), to=dtypes.INT64.code), "y")
    model = b.model()
    value = model.graph.outputs[0]
    return model, value, infer(model)[value].value


def test_a_product_of_sizes_fits_a_double_but_no_float() -> None:
    assert _area(dtypes.FLOAT)[2] is None
    value = _area(dtypes.DOUBLE)[2]
    assert value.shape == (1, 2) and [str(x) for x in value.reshape(-1)] == ["h*w//2", "2*h"]
    assert all(isinstance(x, Dim) for x in value.reshape(-1))


def test_known_numbers_are_run_not_followed() -> None:
    b = Builder({"": 21}, "known")
    x = b.Cast(b.Shape(b.input("x", dtypes.FLOAT, (10,))), to=dtypes.FLOAT.code)
    b.output(b.Cast(b.Mul(x, b.constant(np.array([0.7], np.float32))), to=dtypes.INT64.code), "y")
    model = b.model()
    assert infer(model)[model.graph.outputs[0]].value.tolist() == [7]


def test_sizes_that_hang_on_constant_data_are_known() -> None:
    b = Builder({"": 21}, "data")
    found = b.NonZero(b.constant(np.array([0, 3, 0, 4, 5])))
    b.output(found, "y")
    model = b.model()
    fact = infer(model)[model.graph.outputs[0]]
    assert fact.shape == (1, 3) and fact.value.tolist() == [[1, 3, 4]]
