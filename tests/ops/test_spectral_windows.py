"""HannWindow and its sisters, MelWeightMatrix: onnx's cases, ONNX Runtime, symbolic sizes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.ops.models import shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base import dtypes
from gesher.base.errors import ModelError

WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases(*WINDOWS, "MelWeightMatrix")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), known=[0, 1])


@pytest.mark.parametrize("op", WINDOWS)
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_agree_with_onnxruntime(op: str, periodic: int) -> None:
    for size in (2, 3, 10, 513):
        for dtype in (np.float32, np.float64):
            code = dtypes.from_numpy(dtype).code
            case = Case(op, 17, [np.array(size)], {"periodic": periodic, "output_datatype": code})
            check(case, known=[0], atol=1e-6)


@pytest.mark.parametrize("op", WINDOWS)
@pytest.mark.parametrize("periodic", [0, 1])
def test_the_shortest_windows(op: str, periodic: int) -> None:
    check(Case(op, 17, [np.array(0)], {"periodic": periodic}), [np.zeros(0, np.float32)], known=[0])
    first = {"HannWindow": 0, "HammingWindow": 2 / 23, "BlackmanWindow": 0}[op] if periodic else 1
    check(Case(op, 17, [np.array(1)], {"periodic": periodic}), [np.array([first], np.float32)], known=[0], atol=1e-6)


def test_windows_in_narrow_and_whole_numbers() -> None:
    for dtype in (ml_dtypes.bfloat16, np.int32):
        case = Case("HammingWindow", 17, [np.array(8)], {"output_datatype": dtypes.from_numpy(dtype).code})
        want = Case("HammingWindow", 17, [np.array(8)], {}).reference()[0].astype(dtype)
        check(case, [want], known=[0])


@pytest.mark.parametrize("periodic", [0, 1])
def test_a_window_as_long_as_a_signal(periodic: int) -> None:
    assert shapes(f"""
        w (float[n] x) => (y) {{
          n1 = Shape(x)
          n = Squeeze(n1)
          w = HannWindow<periodic = {periodic}>(n)
          y = Mul(x, w)
        }}""") == ["float(n)"]


def test_a_window_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot have -1"):
        Case("HannWindow", 17, [np.array(-1)]).infer(known=[0])


@pytest.mark.parametrize("seed", range(8))
def test_mel_weights_agree_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([8000, 16000, 44100]))
    low, high = sorted(rng.uniform(0, rate / 2.5, 2))
    inputs = [np.array(int(rng.integers(2, 41))), np.array(int(rng.choice([64, 256, 512]))), np.array(rate),
              np.array(low, np.float32), np.array(high, np.float32)]
    # An edge that falls right between two bins may be rounded to either; a drawn one never does.
    check(Case("MelWeightMatrix", 17, inputs), known=[0, 1])
