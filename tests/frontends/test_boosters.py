"""Boosted trees cross: every configuration of the zoo answers as its library does, on and beside the thresholds too."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from bench.booster_zoo import Configuration, configurations

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends import frontend_for, verify
from gesher.frontends.protocol import ExportOptions

WHOLE = os.environ.get("GESHER_TEST_ALL") == "1"
ZOO = configurations()


@pytest.mark.parametrize("configuration", [c for i, c in enumerate(ZOO) if WHOLE or i % 2 == 0], ids=str)
def test_every_configuration_answers_as_its_library(configuration: Configuration) -> None:
    booster, rows = configuration.make()
    made = frontend_for(booster).export(booster, rows, ExportOptions(settings=configuration.settings))
    verify(made)
    assert gesher.check(made.model).ok
    # A linear booster has no thresholds to stand on.
    assert {t.name for t in made.trials} >= {"example", "one row", "columns shuffled", "missing values"}
    with gesher.session(made.model, "onnxruntime") as session:
        for trial in made.trials:
            got = session.run(trial.feeds)
            for output, answer in trial.answers.items():
                d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                assert d.ok, (trial.name, d)


@pytest.mark.parametrize("configuration", [c for i, c in enumerate(ZOO) if WHOLE or i % 9 == 1], ids=str)
@pytest.mark.parametrize("opset", [12, 15, 20] if WHOLE else [15])
def test_older_targets_get_the_older_operators(configuration: Configuration, opset: int) -> None:
    booster, rows = configuration.make()
    if rows.dtype == np.float64 and opset < 16 and configuration.library != "xgboost":
        with pytest.raises(gesher.UnsupportedError, match="float64 features need"):
            gesher.export(booster, rows, opset=opset)
        return
    model = gesher.export(booster, rows, opset=opset, **configuration.settings)
    assert not any(n.op_type == "TreeEnsemble" for n in model.graph.nodes)


def leaves_apart(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A target that gives every leaf a number of its own, so that no wrong branch hides."""
    rng = np.random.default_rng(1)
    return np.asarray(np.nan_to_num(x) @ rng.normal(size=x.shape[1]) + rng.normal(size=len(x)))


def boundary_rows(model: gesher.Model, x: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """Rows with a feature exactly on a threshold of the forest, or a rounding beside it."""
    rng = np.random.default_rng(2)
    (node,) = [n for n in model.graph.nodes if n.op_type == "TreeEnsemble"]
    features = np.array(node.attributes["nodes_featureids"].value)
    splits = node.attributes["nodes_splits"].value.numpy()
    base = x[rng.integers(0, len(x), rows)].copy()
    at = rng.integers(0, len(features), rows)
    on = splits[at].astype(x.dtype)
    side = rng.integers(-1, 2, rows)
    beside = np.where(side < 0, np.nextafter(on, x.dtype.type(-np.inf)), np.nextafter(on, x.dtype.type(np.inf)))
    base[np.arange(rows), features[at]] = np.where(side == 0, on, beside)
    return base
