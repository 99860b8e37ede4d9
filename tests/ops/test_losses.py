"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: onnx's cases, ONNX Runtime, symbolic sizes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError

OURS = ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")


def symbols(case: Case) -> dict[tuple[int, int], str]:
    named = {(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}
    return {**named, **{(1, a): f"d{a if a == 0 else a + 1}" for a in range(case.inputs[1].ndim)}}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [pytest.param(*c, id=c[0].name) for c in onnx_cases(*OURS)])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols=symbols(case))


@pytest.mark.parametrize("op", OURS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses_agree_with_onnxruntime(op: str, reduction: str) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        classes, rest = int(rng.integers(1, 6)), [int(d) for d in rng.integers(1, 4, rng.integers(0, 3))]
        n = int(rng.integers(1, 4))
        scores = rng.normal(size=[n, classes, *rest]).astype(np.float32)
        target = rng.integers(0, classes, [n, *rest])
        attributes: dict = {"reduction": reduction}
        if rng.random() < 0.5:
            attributes["ignore_index"] = int(rng.choice([0, -1]))
            # At least one place counts; else the mean is that of nothing.
            target.reshape(-1)[1:][rng.random(target.size - 1) < 0.4] = attributes["ignore_index"]
            if attributes["ignore_index"] == 0 and classes > 1:
                target.reshape(-1)[0] = 1
            elif classes == 1:
                del attributes["ignore_index"]
                target[...] = 0
        inputs = [scores, target]
        if rng.random() < 0.5:
            inputs.append(rng.uniform(0.5, 2, classes).astype(np.float32))
        outputs = 2 if op.startswith("Softmax") and rng.random() < 0.5 else 1
        case = Case(op, int(rng.choice([12, 13])), inputs, attributes, outputs)
        check(case, symbols=symbols(case))


def test_narrow_floats_are_rounded_once() -> None:
    rng = np.random.default_rng(1)
    scores, target = rng.normal(size=(64, 10)).astype(np.float32), rng.integers(0, 10, 64)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        narrow = scores.astype(dtype)
        want = Case("SoftmaxCrossEntropyLoss", 13, [narrow.astype(np.float32), target]).reference()[0].astype(dtype)
        check(Case("SoftmaxCrossEntropyLoss", 13, [narrow, target]), [want], rtol=0, atol=0, lower_rtol=2**-7)


def test_large_scores_do_not_overflow() -> None:
    case = Case("SoftmaxCrossEntropyLoss", 13, [np.array([[1e4, 0.0]], np.float32), np.array([1])])
    check(case, [np.array(1e4, np.float32)])


@pytest.mark.parametrize(("case", "says"), [
    (Case("NegativeLogLikelihoodLoss", 13, [np.zeros((2, 3), np.float32), np.zeros(3, int)]), "axis 0 of the target"),
    (Case("NegativeLogLikelihoodLoss", 13, [np.zeros(2, np.float32), np.zeros(2, int)]), "the scores are"),
    (Case("NegativeLogLikelihoodLoss", 13, [np.zeros((2, 3), np.float32), np.zeros(2, int), np.ones(2, np.float32)]),
     "a weight for each class"),
    (Case("SoftmaxCrossEntropyLoss", 13, [np.zeros((2, 3), np.float32), np.zeros(2, int)], {"reduction": "max"}),
     "no reduction"),
])
def test_what_does_not_fit_is_refused(case: Case, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        case.infer()


def test_targets_that_are_no_classes_are_errors() -> None:
    for target in (3, -1):
        with pytest.raises(RunError, match="not within"):
            Case("NegativeLogLikelihoodLoss", 13, [np.zeros((1, 3), np.float32), np.array([target])]).reference()
