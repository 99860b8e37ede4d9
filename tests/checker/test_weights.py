"""The numbers of weights: what is read by default, what is read when asked for, and what stays unsaid."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.checker.broken_models import Parts

from gesher import load, save
from gesher.base import dtypes
from gesher.checker import check
from gesher.ir import Model, Tensor


def with_weights(*arrays: np.ndarray) -> Model:
    p = Parts()
    for i, a in enumerate(arrays):
        p.append("Neg", [p.graph.add_initializer(Tensor.of(a), f"t{i}")]).output.name = f"n{i}"
    return p.model


def rules(model: Model, **how: bool) -> list[str]:
    return [f.rule for f in check(model, **how) if f.rule.startswith("weight")]


def test_large_weights_are_read_when_asked_for() -> None:
    large = np.zeros(5 << 20, np.float32)
    large[-1] = np.nan
    model = with_weights(large)
    assert rules(model) == [] and rules(model, weights=True) == ["weight-not-finite"]
    assert "1 NaN" in check(model, weights=True).findings[0].message


def test_small_weights_are_read_before_large_ones() -> None:
    small, large = np.array([1, np.nan], np.float32), np.zeros(4_100_000, np.float32)
    assert rules(with_weights(large, small)) == ["weight-not-finite"]
    assert rules(with_weights(large, small), weights=False) == []


@pytest.mark.parametrize("dtype", [d for d in dtypes.all_dtypes() if d.is_float and d.bits >= 8], ids=str)
def test_every_float_type_is_read_by_its_bits(dtype: dtypes.DType) -> None:
    with np.errstate(all="ignore"):
        values = np.array([1, 2, np.nan, np.inf, -np.inf, 0.5], np.float32).astype(dtype.numpy)
    nans = int(np.isnan(values.astype(np.float32)).sum())
    infinite = int(np.isinf(values.astype(np.float32)).sum())
    [finding] = [f for f in check(with_weights(values)) if f.rule == "weight-not-finite"]
    assert (f"{nans} NaN" in finding.message) == (nans > 0)
    assert (f"{infinite} infinite" in finding.message) == (infinite > 0)


@pytest.mark.parametrize(("dtype", "told"), [(np.float32, True), (np.float64, True), (np.float16, False)])
def test_subnormals_of_wide_types_are_told(dtype: type, told: bool) -> None:
    values = np.full(64, np.finfo(dtype).smallest_subnormal, dtype)
    assert rules(with_weights(values)) == (["weight-subnormal"] if told else [])
    # A few among many slow nothing down, and zeros are no subnormals.
    assert rules(with_weights(np.concatenate([values, np.ones(6400, dtype)]))) == []
    assert rules(with_weights(np.zeros(64, dtype))) == []


def test_a_lone_infinity_is_a_bound() -> None:
    assert rules(with_weights(np.array(-np.inf, np.float32))) == []


def test_weights_differing_in_the_middle_are_no_duplicates() -> None:
    a = np.arange(16384, dtype=np.float32)
    b = a.copy()
    b[8000] = -1
    assert rules(with_weights(a, b)) == []
    assert rules(with_weights(a, b, a.copy())) == ["weight-duplicate"]
    assert rules(with_weights(a[:1000], a[:1000].copy())) == []


def test_one_array_under_two_names_is_no_duplicate() -> None:
    a = np.arange(16384, dtype=np.float32)
    assert rules(with_weights(a, a)) == []


MEASURED = r"""
import re, sys, gesher
def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
gesher.check(sys.argv[1])
before = peak()
report = gesher.check(sys.argv[2], weights=sys.argv[3] == "all" or None)
print((peak() - before) // 1024, *{f.rule for f in report})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
@pytest.mark.parametrize("which", ["small", "all"])
def test_memory_stays_small_however_large_the_weights(tmp_path: Path, which: str) -> None:
    save(with_weights(np.ones(4, np.float32)), tmp_path / "small.onnx")
    arrays = [np.full(25 << 20, i, np.float32) for i in range(2)]
    arrays[1][-1] = np.nan
    save(with_weights(*arrays), tmp_path / "large.onnx", external=True)
    assert load(tmp_path / "large.onnx")
    done = subprocess.run([sys.executable, "-c", MEASURED, tmp_path / "small.onnx", tmp_path / "large.onnx", which],
                          capture_output=True, text=True, check=True)
    megabytes, *found = done.stdout.split()
    assert int(megabytes) < 80, done.stdout  # 200 MB of weights, 32 MB mapped at once
    assert found == (["weight-not-finite"] if which == "all" else [])
