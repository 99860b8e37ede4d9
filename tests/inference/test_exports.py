"""Exports with free dims: every size follows from the inputs, and is what running the model shows."""

import importlib.util
import os
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.real_models import model_files, short  # noqa: E402
from tests.torch_models import EXPORTERS, NETWORKS, exported, without_types  # noqa: E402

import gesher  # noqa: E402
from gesher.evaluator import Evaluator  # noqa: E402
from gesher.inference import infer  # noqa: E402
from gesher.ir import Model  # noqa: E402
from gesher.symbolic import Dim, evaluate  # noqa: E402

# PyTorch's newer exporters take seconds a network, so one of each is the sample.
CASES = [pytest.param(n, e, id=f"{e}-{n}") for e in EXPORTERS for n in NETWORKS
         if (n, e) != ("pyramid", "gesher")
         and (e == "torchscript" or n == "GPT-2 with past" or os.environ.get("GESHER_TEST_ALL") == "1")]


def all_known(model: Model) -> None:
    facts = infer(without_types(model))
    assert not facts.findings
    assert not facts.reasons()


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_every_size_of_an_export_is_known(name: str, exporter: str) -> None:
    if exporter == "dynamo" and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("PyTorch's newer exporter needs onnxscript, which is not installed")
    all_known(exported(name, exporter))


@pytest.mark.parametrize("path", model_files("rapidocr_onnxruntime"), ids=short)
def test_every_size_of_the_ocr_models_is_known(path: Any) -> None:
    all_known(gesher.load(path))


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_what_running_shows(name: str) -> None:
    model = without_types(exported(name, "torchscript"))
    facts = infer(model)
    example = {k: v.numpy() for k, v in NETWORKS[name].example().items()}
    sizes = {d.name: n for v in model.graph.inputs for d, n in zip(facts.shape(v) or (), example[v.name].shape)
             if isinstance(d, Dim)}
    values = [v for n in model.graph.nodes for v in n.outputs if v is not None]
    model.graph.outputs[:] = values
    for value, array in zip(values, Evaluator(model).run(example).values()):
        shape = facts.shape(value)
        assert shape is not None
        assert tuple(evaluate(d, sizes) for d in shape) == np.shape(array), value.name
        known = facts[value].value
        if known is not None and known.dtype == object:
            told = [evaluate(x, sizes) for x in known.reshape(-1)]
            assert told == np.asarray(array).reshape(-1).tolist(), value.name
