"""What a caller feeds: taken where it fits, refused with the input's name where it does not."""

import ml_dtypes
import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.evaluator import Evaluator
from gesher.ir import Graph, MapType, Model, OptionalType, SequenceType, Tensor, TensorType, Type
from gesher.symbolic import sym

N = sym("n")


def passing(**inputs: Type | None) -> Evaluator:
    """A model that gives out what it is fed."""
    graph = Graph("main")
    for name, type in inputs.items():
        graph.add_output(graph.add_input(name, type))
    return Evaluator(Model(graph, opsets={"": 21}, ir_version=10))


F = dtypes.FLOAT


@pytest.mark.parametrize(("type", "value", "says"), [
    (TensorType(F, (2,)), np.zeros(2), "float64, where the model wants float"),
    (TensorType(F, (2,)), np.zeros((2, 1), np.float32), "has 2 dims"),
    (TensorType(F, (2, 3)), np.zeros((2, 4), np.float32), r"dim 1 is 4, not 3"),
    (TensorType(F, (N, N)), np.zeros((2, 4), np.float32), "'n' is 2"),
    (TensorType(F, (N, 2 * N + 1)), np.zeros((2, 4), np.float32), r"2\*n \+ 1 = 5"),
    (TensorType(dtypes.STRING, (1,)), np.zeros(1), "wants strings"),
    (TensorType(dtypes.INT8, ()), 300, "cannot be made an array of int8"),
    (TensorType(F, ()), None, "is not optional"),
    (SequenceType(TensorType(F)), np.zeros(2), "feed a list"),
    (SequenceType(TensorType(F)), [np.zeros(2)], r"'x\[0\]' is float64"),
    (MapType(dtypes.INT64, TensorType(F)), [1], "feed a dict"),
])
def test_what_does_not_fit_is_refused_by_name(type: Type, value: object, says: str) -> None:
    with pytest.raises(RunError, match=says) as e:
        passing(x=type).run({"x": value})
    assert "'x" in e.value.what


def test_missing_and_unknown_inputs_are_named_with_what_there_is() -> None:
    evaluator = passing(x=TensorType(F, (N,)), y=TensorType(F, (N,)))
    with pytest.raises(RunError, match="inputs 'x', 'y'") as e:
        evaluator.run({})
    assert "x: float(n)" in str(e.value)
    with pytest.raises(RunError, match="no input 'z'"):
        evaluator.run({"x": [1], "y": [1], "z": [1]})


def test_one_symbol_has_one_size_in_all_inputs() -> None:
    evaluator = passing(x=TensorType(F, (N,)), y=TensorType(F, (2 * N,)))
    evaluator.run({"x": [1, 2], "y": [1, 2, 3, 4]})
    with pytest.raises(RunError, match=r"'y' has size 3 in dim 0, where the model wants 2\*n = 4"):
        evaluator.run({"x": [1, 2], "y": [1, 2, 3]})


@pytest.mark.parametrize(("type", "value", "want"), [
    (TensorType(F, ()), 2, np.float32(2)),
    (TensorType(F, (2,)), [1, 2], np.array([1, 2], np.float32)),
    (TensorType(dtypes.BOOL, ()), True, np.bool_(True)),
    (TensorType(F, (sym("?"), sym("?"))), np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)),
    (TensorType(F, (0, -1)), np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)),
    (TensorType(F, None), np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)),
    (TensorType(F, (2,)), np.array([1, 2], ">f4"), np.array([1, 2], np.float32)),
    (TensorType(dtypes.BFLOAT16, (1,)), np.ones(1, ml_dtypes.bfloat16), np.ones(1, ml_dtypes.bfloat16)),
    (TensorType(dtypes.STRING, (2,)), ["a", "bc"], np.array(["a", "bc"], object)),
    (TensorType(dtypes.STRING, (2,)), np.array(["a", "bc"]), np.array(["a", "bc"], object)),
    (None, np.ones(2), np.ones(2)),
])
def test_what_fits_is_taken(type: Type, value: object, want: np.ndarray) -> None:
    got = passing(x=type).run({"x": value})["x"]
    assert got.dtype == want.dtype and got.shape == want.shape and (got == want).all()


def test_sequences_maps_and_optionals_pass() -> None:
    evaluator = passing(s=SequenceType(TensorType(F, (N,))), o=OptionalType(TensorType(F, ())),
                        m=MapType(dtypes.STRING, TensorType(F)))
    got = evaluator.run({"s": [np.ones(1, np.float32), np.ones(2, np.float32)], "o": None, "m": {"a": 1.0}})
    assert [x.shape for x in got["s"]] == [(1,), (2,)]
    assert got["o"] is None and got["m"] == {"a": 1.0}


def with_default(ir_version: int) -> Evaluator:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(F, (2,)))
    x.constant = Tensor.of(np.array([1, 2], np.float32))
    graph.initializers[x] = None
    graph.add_output(x)
    return Evaluator(Model(graph, opsets={"": 8}, ir_version=ir_version))


def test_an_input_with_an_initializer_may_be_left_out_or_overruled() -> None:
    evaluator = with_default(4)
    assert evaluator.inputs == []
    assert evaluator.run({})["x"].tolist() == [1, 2]
    assert evaluator.run({"x": [5, 6]})["x"].tolist() == [5, 6]
    assert evaluator.run({})["x"].tolist() == [1, 2]


def test_before_ir_version_4_an_initializer_is_a_constant() -> None:
    evaluator = with_default(3)
    assert evaluator.run({})["x"].tolist() == [1, 2]
    with pytest.raises(RunError, match="no input 'x'"):
        evaluator.run({"x": [5, 6]})
