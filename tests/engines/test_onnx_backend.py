"""ONNX's own runner drives our engines through the interface that it defines, and sees what is wrong."""

from __future__ import annotations

import random
import unittest
import warnings
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, helper
from onnx.backend.base import Backend
from onnx.backend.test import BackendTest
from tests.suites.conformance import RANDOM

from gesher import engines
from gesher.base.errors import UnsupportedError
from gesher.engines.onnx_backend import backend

SAMPLED = {"reference": 200, "compiled": 12}
MODEL = '<ir_version: 10, opset_import: ["" : 21]> agraph (float[2] a, float[2] b) => (float[2] y) { y = Sub (a, b) }'
A, B = np.array([5, 7], np.float32), np.array([1, 9], np.float32)


def _here(engine: str) -> type[Backend]:
    why = engines.engine(engine).missing()
    if why:
        pytest.skip(why)
    return backend(engine)


def _ran(under_test: type[Backend], names: set[str] | None, monkeypatch: pytest.MonkeyPatch, folder: Any,
         count: int = 0) -> unittest.TestResult:
    """The result of some cases of ONNX's runner: those named, or `count` drawn ones, the same in every run."""
    # The runner writes the data of the real models there.
    monkeypatch.setenv("ONNX_HOME", str(folder))
    monkeypatch.delenv("ONNX_MODELS", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = BackendTest(under_test, __name__).test_suite
    tests: list[Any] = sorted(suite, key=lambda t: t.id())
    chosen = [t for t in tests if t.id().endswith("_cpu") and t.id().split(".")[-1][:-4] not in RANDOM]
    if names is None:
        chosen = random.Random(7).sample(chosen, count)
    else:
        chosen = [t for t in chosen if t.id().split(".")[-1] in names]
        assert len(chosen) == len(names)
    result = unittest.TestResult()
    unittest.TestSuite(chosen).run(result)
    assert result.testsRun == len(chosen)
    return result


@pytest.mark.parametrize("engine", SAMPLED)
def test_the_runner_of_onnx_passes_a_sample(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    result = _ran(_here(engine), None, monkeypatch, tmp_path, SAMPLED[engine])
    wrong = [f"{test.id()}: {text[-400:]}" for test, text in (*result.failures, *result.errors)]
    # Refused is what the book lacks; that is counted elsewhere.
    assert not [w for w in wrong if "is no operator that gesher knows" not in w], wrong
    assert len(wrong) < 0.05 * SAMPLED[engine] and not result.skipped


def test_kinds_of_cases_that_a_sample_might_miss(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """One alone that is a sequence, an optional, strings, a real model, a folder of data, no input at all."""
    names = {"test_identity_sequence_cpu", "test_optional_get_element_sequence_cpu", "test_string_split_basic_cpu",
             "test_squeezenet_cpu", "test_sequence_model3_cpu", "test_constant_cpu", "test_optional_has_element_empty_"
             "optional_input_cpu", "test_Conv2d_cpu", "test_operator_chunk_cpu", "test_identity_opt_cpu"}
    result = _ran(_here("reference"), names, monkeypatch, tmp_path)
    assert result.wasSuccessful(), [text for _, text in (*result.failures, *result.errors)]


def test_the_runner_sees_a_wrong_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    right = backend("reference")

    class Wrong(right):    # type: ignore[misc, valid-type]
        @classmethod
        def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Any:
            prepared = super().prepare(model, device, **kwargs)
            monkeypatch.setattr(prepared, "run", lambda xs, run=prepared.run: tuple(y + 1 for y in run(xs)))
            return prepared

    result = _ran(Wrong, {"test_add_cpu", "test_matmul_2d_cpu"}, monkeypatch, tmp_path)
    assert len(result.failures) == 2


def test_prepared_models_run_again_and_again() -> None:
    prepared = backend("reference").prepare(onnx.parser.parse_model(MODEL))
    for a in (A, B):
        y, = prepared.run([a, B])
        assert y.tolist() == (a - B).tolist()


@pytest.mark.parametrize("engine", engines.names())
def test_models_run_on_every_engine(engine: str) -> None:
    y, = _here(engine).run_model(onnx.parser.parse_model(MODEL), [A, B])
    assert y.tolist() == [4, -2]


def test_nodes_run_in_the_opset_that_is_told() -> None:
    softmax = helper.make_node("Softmax", ["x"], ["y"])
    x = np.log(np.array([[[1, 3], [4, 8]]], np.float32))
    run = backend("reference").run_node
    # The newest runs along the last axis; before 13 all axes from the second on are one row.
    np.testing.assert_allclose(run(softmax, x)[0], [[[1 / 4, 3 / 4], [1 / 3, 2 / 3]]], rtol=1e-6)
    np.testing.assert_allclose(run(softmax, [x], opset_version=11)[0], [[[1 / 16, 3 / 16], [1 / 4, 1 / 2]]], rtol=1e-6)


def test_nodes_of_other_domains_and_with_left_out_inputs_run() -> None:
    run = backend("reference").run_node
    binarize = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=2.0)
    assert run(binarize, [np.array([[1, 3]], np.float32)])[0].tolist() == [[0, 1]]
    clip = helper.make_node("Clip", ["x", "", "most"], ["y"])
    assert run(clip, [np.array([1, 3], np.float32), np.float32(2)])[0].tolist() == [1, 2]


def test_only_the_processor_is_a_device() -> None:
    reference = backend("reference")
    assert reference.supports_device("CPU") and reference.supports_device("CPU:0")
    assert not reference.supports_device("CUDA") and not reference.supports_device("CUDA:0")


def test_a_model_that_the_engine_refuses_is_not_compatible() -> None:
    unknown = onnx.parser.parse_model(MODEL.replace("Sub", "Subtract"))
    assert backend("reference").is_compatible(onnx.parser.parse_model(MODEL))
    assert not backend("reference").is_compatible(onnx.parser.parse_model(MODEL), "CUDA")
    assert not backend("reference").is_compatible(unknown)
    with pytest.raises(UnsupportedError):
        backend("reference").prepare(unknown)


def test_an_engine_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="nosuch"):
        backend("nosuch")
