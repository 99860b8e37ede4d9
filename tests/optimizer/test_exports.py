"""What PyTorch's exporters and our own write of one network becomes nearly the same graph, and answers as before."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.torch_models import EXPORTERS, NETWORKS, exported

from gesher.evaluator import Evaluator
from gesher.evaluator.difference import difference
from gesher.ir import Model
from gesher.optimizer import for_compiler

# PyTorch's newer exporters take seconds a network, so one of each is the sample.
CASES = [pytest.param(n, e, id=f"{e}-{n}") for e in EXPORTERS for n in NETWORKS
         if (n, e) != ("pyramid", "gesher")
         and (e == "torchscript" or n == "ViT" or os.environ.get("GESHER_TEST_ALL") == "1")]

# Nodes that are left at the most, whoever exported the network.
MOST = {"BERT": 72, "GPT-2": 70, "GPT-2 with past": 92, "ViT": 60, "ResNet": 18, "pyramid": 40}
SIZES = ({"batch": 2, "sequence": 7, "past": 5, "height": 64, "width": 96},
         {"batch": 3, "sequence": 4, "past": 9, "height": 96, "width": 64})


def _feeds(model: Model, name: str, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    network, rng = NETWORKS[name], np.random.default_rng(sizes["sequence"])
    feeds = {}
    for v, (key, example) in zip(model.graph.inputs, network.example().items()):
        shape = list(example.shape)
        for axis, dim in network.dynamic[key].items():
            # A mask of keys has the past in front, where there is one.
            shape[axis] = sizes[dim]
        feeds[v.name] = rng.integers(0, 2, shape) if not example.is_floating_point() \
            else rng.standard_normal(shape).astype(np.float32)
    return feeds


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_exports(name: str, exporter: str) -> None:
    if exporter == "dynamo" and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("PyTorch's newer exporter needs onnxscript, which is not installed")
    model = exported(name, exporter)
    whole = for_compiler(model)
    kinds = Counter(n.op_type for n in whole.model.graph.nodes)
    assert len(whole.model.graph) <= MOST[name], kinds
    assert not kinds.keys() & {"Softmax", "BatchNormalization", "Erf", "Tanh"} - ({"Tanh"} if name == "BERT" else set())
    assert kinds["Attention"] + kinds["SoftmaxAttention"] == (2 if "T" in name else 0)
    before, after = Evaluator(model), Evaluator(whole.model, opsets=whole.opsets)
    for sizes in SIZES:
        feeds = _feeds(model, name, sizes)
        got = after.values(feeds, whole.model.graph.outputs)
        for x, want in zip(got, before.run(feeds).values()):
            d = difference(x, want, rtol=1e-4)
            assert d.ok, (d.max_abs, d.why)
