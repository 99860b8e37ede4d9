"""Transpose, DepthToSpace, SpaceToDepth, ReverseSequence, Trilu: onnx's cases, ONNX Runtime, symbolic sizes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError


def every_dim(case: Case) -> dict[tuple[int, int], str]:
    return {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name)
    for c in onnx_cases("Transpose", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Trilu")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, symbols=every_dim(case))


@pytest.mark.parametrize("version", [1, 13, 21])
def test_transpose_agrees_with_onnxruntime(version: int) -> None:
    for seed in range(6):
        rng = np.random.default_rng([seed, version])
        rank = int(rng.integers(1, 6))
        x = rng.integers(0, 9, rng.integers(1, 4, rank)).astype(rng.choice([np.float32, np.int64, np.uint8]))
        case = Case("Transpose", version, [x], {} if seed == 0 else {"perm": [int(a) for a in rng.permutation(rank)]})
        check(case, symbols=every_dim(case))


def test_transpose_orders_known_values() -> None:
    facts, _ = Case("Transpose", 13, [np.array([[1, 2], [3, 4]])]).infer(known=[0])
    assert facts[0] is not None and facts[0].value is not None and facts[0].value.tolist() == [[1, 3], [2, 4]]


def test_a_perm_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="does not order"):
        Case("Transpose", 13, [np.zeros((2, 3))], {"perm": [0]}).infer()
    with pytest.raises(ModelError, match="twice"):
        Case("Transpose", 13, [np.zeros((2, 3))], {"perm": [1, 1]}).infer()


@pytest.mark.parametrize(("op", "version", "mode"), [
    ("DepthToSpace", 1, None), ("DepthToSpace", 11, "DCR"), ("DepthToSpace", 13, "CRD"), ("SpaceToDepth", 1, None),
    ("SpaceToDepth", 13, None)])
def test_blocks_agree_with_onnxruntime(op: str, version: int, mode: str | None) -> None:
    for seed in range(4):
        rng = np.random.default_rng([seed, version])
        block = int(rng.integers(1, 4))
        n, c, h, w = (int(d) for d in rng.integers(1, 4, 4))
        shape = (n, c * block**2, h, w) if op == "DepthToSpace" else (n, c, h * block, w * block)
        x = rng.normal(size=shape).astype(np.float32)
        case = Case(op, version, [x], {"blocksize": block, **({"mode": mode} if mode else {})})
        check(case, symbols={(0, 0): "n", (0, 2): "h", (0, 3): "w"})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth_28_undoes_depth_to_space(mode: str) -> None:
    x = np.arange(2 * 12 * 3 * 2).reshape(2, 12, 3, 2).astype(np.float32)
    there = Case("DepthToSpace", 28, [x], {"blocksize": 2, "mode": mode}).reference()[0]
    check(Case("SpaceToDepth", 28, [there], {"blocksize": 2, "mode": mode}), [x], symbols={(0, 0): "n"})


def test_blocks_of_symbolic_pictures_come_out_even() -> None:
    assert shapes("""
        d (float[n, 12, h, w] x) => (y, z) {
          y = DepthToSpace<blocksize = 2>(x)
          z = SpaceToDepth<blocksize = 2>(y)
        }""") == ["float(n,3,2*h,2*w)", "float(n,12,h,w)"]


def test_pictures_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ModelError, match="3 channels do not divide"):
        Case("DepthToSpace", 13, [np.zeros((1, 3, 2, 2))], {"blocksize": 2}).infer()
    with pytest.raises(ModelError, match="does not divide into blocks"):
        Case("SpaceToDepth", 13, [np.zeros((1, 3, 2, 3))], {"blocksize": 2}).infer()


@pytest.mark.parametrize("seed", range(8))
def test_reverse_sequence_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch_axis = int(rng.integers(2))
    x = rng.integers(0, 99, rng.integers(1, 5, int(rng.integers(2, 5)))).astype(np.float32)
    # ONNX Runtime asks for at least one element of each sequence.
    lengths = rng.integers(1, x.shape[1 - batch_axis] + 1, x.shape[batch_axis])
    case = Case("ReverseSequence", 10, [x, lengths], {"batch_axis": batch_axis, "time_axis": 1 - batch_axis})
    check(case, symbols=every_dim(case))


def test_lengths_beyond_the_time_axis_are_refused() -> None:
    with pytest.raises(RunError, match="not within"):
        Case("ReverseSequence", 10, [np.zeros((2, 1)), np.array([3])]).reference()
    with pytest.raises(ModelError, match="a length for each"):
        Case("ReverseSequence", 10, [np.zeros((2, 1)), np.array([1, 1])]).infer()


@pytest.mark.parametrize("seed", range(16))
def test_trilu_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 9, rng.integers(1, 5, int(rng.integers(2, 5)))).astype(rng.choice([np.float32, np.int64]))
    k = [np.array(int(rng.integers(-6, 7)))] if rng.random() < 0.8 else []
    case = Case("Trilu", 14, [x, *k], {"upper": int(rng.integers(2))} if rng.random() < 0.7 else {})
    check(case, symbols=every_dim(case))


def test_trilu_shifted_beyond_everything() -> None:
    x = np.ones((2, 3), np.int64)
    for k, upper, want in ((2**62, 1, 0), (-2**62, 1, 1), (2**62, 0, 1), (-2**62, 0, 0)):
        check(Case("Trilu", 14, [x, np.array(k)], {"upper": upper}), [x * want])
