"""DFT and STFT: onnx's cases, ONNX Runtime, and numpy's transforms."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.ir.types import print_shape


def known(case: Case) -> list[int]:
    return [i for i in range(1, len(case.inputs)) if case.inputs[i] is not None and case.inputs[i].dtype.kind == "i"]


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("DFT", "STFT")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-4), known=known(case), symbols={(0, 0): "n"})


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(32))
def test_dft_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [17, 20][seed % 2]
    onesided = int(rng.integers(0, 2))
    inverse = 0 if onesided else int(rng.integers(0, 2))
    parts = 1 if onesided else int(rng.choice([1, 2]))
    x = reals(rng, 2, *rng.integers(2, 10, 2), parts)
    axis = int(rng.choice([1, 2, -2, -3]))
    attributes: dict = {"inverse": inverse, "onesided": onesided}
    inputs: list = [x, np.array(int(rng.integers(1, 14))) if rng.random() < 0.5 else None]
    if version == 17:
        attributes["axis"] = axis
    else:
        inputs.append(np.array(axis))
    case = Case("DFT", version, inputs, attributes)
    check(case, rtol=1e-3, atol=1e-4, known=known(case), symbols={(0, 0): "n", (0, 1): "h", (0, 2): "w"})


@pytest.mark.parametrize("length", [None, 6, 7, 9, 4])
def test_the_inverse_of_a_onesided_spectrum_is_real(length: int | None) -> None:
    x = reals(np.random.default_rng(0), 2, 5, 2)
    want = np.fft.irfft(x[..., 0] + 1j * x[..., 1], length, 1)[..., None].astype(np.float32)
    case = Case("DFT", 20, [x, *([] if length is None else [np.array(length)])], {"inverse": 1, "onesided": 1})
    check(case, [want], rtol=1e-4, atol=1e-5, known=known(case), symbols={(0, 0): "n", (0, 1): "k"})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_are_rounded_once(dtype: str) -> None:
    x = reals(np.random.default_rng(1), 1, 16, 1).astype(dtype)
    want = np.fft.fft(x[..., 0].astype(np.float64), axis=1)
    step = 2**-9 if dtype == "float16" else 1e-12
    check(Case("DFT", 20, [x]), [np.stack([want.real, want.imag], -1).astype(dtype)], rtol=step, atol=step * 10)


@pytest.mark.parametrize("seed", range(16))
def test_stft_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    onesided, length = int(rng.integers(0, 2)), int(rng.integers(2, 9))
    signal = reals(rng, 2, length + int(rng.integers(0, 20)), 1)
    how = rng.choice(["window", "length", "both"])
    inputs = [signal, np.array(int(rng.integers(1, 5))), None if how == "length" else reals(rng, length),
              None if how == "window" else np.array(length)]
    case = Case("STFT", 17, inputs if how != "window" else inputs[:3], {"onesided": onesided})
    check(case, rtol=1e-3, atol=1e-4, known=known(case), symbols={(0, 0): "n", (0, 1): "t"})


def test_a_frame_is_the_whole_signal_unless_told() -> None:
    x = reals(np.random.default_rng(2), 1, 6, 2)
    bins = np.fft.fft(x[..., 0] + 1j * x[..., 1], axis=1)[:, None]
    want = np.stack([bins.real, bins.imag], -1).astype(np.float32)
    check(Case("STFT", 17, [x, np.array(3)], {"onesided": 0}), [want], rtol=1e-4, atol=1e-5, known=[1])


def test_sizes_stay_exact() -> None:
    x = np.zeros((2, 16, 1), np.float32)
    facts, _ = Case("DFT", 20, [x], {"onesided": 1}).infer({(0, 0): "n", (0, 1): "t"})
    assert print_shape(facts[0].shape) == "(n,t//2 + 1,2)"
    facts, _ = Case("STFT", 17, [x, np.array(4), None, np.array(8)]).infer({(0, 1): "t"}, known=[1, 3])
    assert print_shape(facts[0].shape) == "(2,t//4 - 1,5,2)"


@pytest.mark.parametrize(("op", "inputs", "attributes", "what"), [
    ("DFT", [np.zeros((2, 5, 3), np.float32)], {}, "1 real or 2 complex parts, not 3"),
    ("DFT", [np.zeros((2, 5, 1), np.float32), None, np.array(2)], {}, "cannot be transformed"),
    ("DFT", [np.zeros((2, 5, 1), np.float32), None, np.array(4)], {}, "not within"),
    ("DFT", [np.zeros((2, 5, 2), np.float32)], {"onesided": 1}, "takes real numbers"),
    ("DFT", [np.zeros((2, 5, 1), np.float32)], {"onesided": 1, "inverse": 1}, "takes complex numbers"),
    ("STFT", [np.zeros((2, 5, 2), np.float32), np.array(1)], {}, "takes real numbers"),
    ("STFT", [np.zeros((2, 5, 1), np.float32), np.array(1), None, np.array(6)], {}, "a frame of 6 does not fit"),
])
def test_signals_that_do_not_fit_are_refused(op: str, inputs: list, attributes: dict, what: str) -> None:
    case = Case(op, 20, inputs, attributes)
    with pytest.raises(ModelError, match=what):
        case.infer(known=known(case))
    with pytest.raises(ModelError, match=what):
        case.reference()
