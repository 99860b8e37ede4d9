"""Pad and CenterCropPad: onnx's cases, ONNX Runtime with random pads in every mode, symbolic sizes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError


def every_dim(case: Case) -> dict[tuple[int, int], str]:
    return {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("Pad", "CenterCropPad")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, symbols=every_dim(case),
          known=[i for i in (1, 3) if i < len(case.inputs)])


def drawn(rng: np.random.Generator, version: int, mode: str) -> Case:
    rank = int(rng.integers(1, 4))
    shape = [int(d) for d in rng.integers(2, 6, rank)]
    x = rng.integers(0, 99, shape).astype(np.float32)
    places = [int(a) for a in rng.permutation(rank)[:rng.integers(1, rank + 1)]] if version >= 18 else range(rank)
    low, high = [], []
    for a in places:
        lowest = -1 if mode == "constant" else 0
        highest = 4 if mode in ("constant", "edge") else shape[a]
        low.append(int(rng.integers(lowest, highest)))
        high.append(int(rng.integers(lowest, highest)))
    if version < 11:
        value = {"value": 2.5} if mode == "constant" and rng.random() < 0.5 else {}
        return Case("Pad", version, [x], {"pads" if version > 1 else "paddings": low + high, "mode": mode, **value})
    inputs = [x, np.array(low + high), np.array(2.5, np.float32) if rng.random() < 0.5 else None]
    if version >= 18:
        inputs.append(np.array([a - rank if rng.random() < 0.5 else a for a in places]))
    return Case("Pad", version, inputs, {"mode": mode} if mode != "constant" or rng.random() < 0.5 else {})


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("version", [2, 11, 13, 18, 19, 21, 23])
def test_pad_agrees_with_onnxruntime(version: int, mode: str) -> None:
    if mode == "wrap" and version < 19:
        with pytest.raises(ModelError, match="no mode 'wrap'"):
            drawn(np.random.default_rng(0), version, mode).infer()
        return
    for seed in range(10):
        case = drawn(np.random.default_rng([seed, version]), version, mode)
        check(case, symbols=every_dim(case), known=[i for i in (1, 3) if i < len(case.inputs)])


def test_pad_1_calls_them_paddings() -> None:
    x = np.arange(4, dtype=np.float32)
    want = np.array([9, 0, 1, 2, 3], np.float32)
    check(Case("Pad", 1, [x], {"paddings": [1, 0], "value": 9.0}), [want], symbols={(0, 0): "n"})


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "constant"])
def test_negative_pads_cut_before_anything_is_added(mode: str) -> None:
    x = np.arange(5)
    left = x[2:]
    want = np.pad(left, (0, 2), mode)  # type: ignore[call-overload]
    check(Case("Pad", 21, [x, np.array([-2, 2])], {"mode": mode}), [want], symbols={(0, 0): "n"}, known=[1])


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_pads_beyond_the_input_go_on_walking(mode: str) -> None:
    for size in (1, 2, 3, 4):
        x = np.arange(size)
        want = np.pad(x, (7, 9), mode)  # type: ignore[call-overload]
        check(Case("Pad", 21, [x, np.array([7, 9])], {"mode": mode}), [want], symbols={(0, 0): "n"}, known=[1])


def test_strings_and_truth_values_are_padded_with_nothing() -> None:
    check(Case("Pad", 13, [np.array(["a"], object), np.array([1, 0])]), [np.array(["", "a"], object)], known=[1],
          lowers=False)
    check(Case("Pad", 13, [np.array([True]), np.array([1, 0])]), [np.array([False, True])], known=[1])


@pytest.mark.parametrize(("case", "says"), [
    (Case("Pad", 13, [np.zeros(3), np.array([1, 1, 1])]), "3 pads for 1 axes"),
    (Case("Pad", 13, [np.zeros(3), np.array([-2, -2])]), "take more than all"),
])
def test_pads_that_do_not_fit_are_refused(case: Case, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        case.infer(known=[1])
    with pytest.raises(RunError, match=says):
        case.reference()


def test_pytorchs_pads_are_built_of_sizes() -> None:
    # Pad to a multiple of 8: (8 - n % 8) % 8 behind.
    assert shapes("""
        p (float[1, n] x) => (y) {
          n = Shape<start = 1>(x)
          eight = Constant<value_ints = [8]>()
          over = Mod(n, eight)
          missing = Sub(eight, over)
          more = Mod(missing, eight)
          nothing = Constant<value_ints = [0, 0, 0]>()
          pads = Concat<axis = 0>(nothing, more)
          y = Pad(x, pads)
        }""") == ["float(1,n + 7*n % 8)"]


def test_unknown_pads_of_known_axes_spare_the_others() -> None:
    assert shapes("""
        p (float[a, b] x, int64[2] pads) => (y) {
          axes = Constant<value_ints = [-1]>()
          y = Pad(x, pads, , axes)
        }""") == ["float(a,?)"]


@pytest.mark.parametrize("seed", range(12))
def test_center_crop_pad_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    x = rng.integers(1, 9, rng.integers(1, 7, rank)).astype(np.float32)
    axes = [int(a) for a in rng.permutation(rank)[:rng.integers(1, rank + 1)]]
    given = rng.random() < 0.7
    wanted = rng.integers(1, 7, len(axes) if given else rank)
    case = Case("CenterCropPad", 18, [x, wanted], {"axes": axes} if given else {})
    check(case, symbols=every_dim(case), known=[1])
