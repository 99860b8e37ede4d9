"""The models of real use on the oracle: answers as ONNX Runtime's, and nothing that inference says is untrue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.suites.real import SIZES, Case, cases, hold, truth

from gesher.base import dtypes
from gesher.checker import check
from gesher.evaluator import Evaluator
from gesher.inference import Facts, infer
from gesher.ir import Model, Node, TensorType, Value
from gesher.ir.files import load
from gesher.ops import Fact
from gesher.ops.fact import VALUE_LIMIT
from gesher.symbolic import Dim, evaluate

CASES = pytest.mark.parametrize("case", cases(), ids=str)
SIZED = pytest.mark.parametrize("size", SIZES)

# How many of a model's intermediate values have types that follow from its inputs alone: type, rank and every size an
# integer or an expression of the inputs' symbols. What is missing hangs on a rank that only a run can tell: exporters
# write `squeeze` of an axis of unknown size as an If whose branches have different ranks.
EXACT = {
    "ch_PP-OCRv4_det_infer": (673, 673), "ch_PP-OCRv4_rec_infer": (861, 861),
    "ch_ppocr_mobile_v2.0_cls_infer": (567, 567), "silero_vad": (393, 481), "silero_vad_16k_op15": (224, 262),
    "silero_vad_16k_sequence": (82, 82), "silero_vad_half": (199, 236), "silero_vad_op18_ifless": (145, 145),
    "silero_vad_openvino_16k": (171, 171), "nmp": (351, 351),
}


@cache
def opened(case: Case) -> Model:
    return load(case.path)


def test_all_ten_models_are_here() -> None:
    assert [c.name for c in cases()] == list(EXACT), "the test dependencies that carry the models are not installed"


@CASES
@SIZED
def test_the_evaluator_answers_as_onnx_runtime(case: Case, size: int) -> None:
    hold(case, size, Evaluator(opened(case)).run)


@CASES
def test_a_wrong_answer_would_be_seen(case: Case) -> None:
    right = truth(case, 0)
    spoilt = {k: v + np.float32(0.02) for k, v in right.items()}
    with pytest.raises(AssertionError):
        hold(case, 0, lambda feeds: spoilt)


@CASES
def test_nothing_is_found_wrong(case: Case) -> None:
    assert check(opened(case)).ok
    assert not infer(opened(case)).findings.errors


@CASES
def test_what_follows_from_the_inputs_is_known(case: Case) -> None:
    facts = infer(opened(case))
    exact = sum(facts.is_exact(v) for v in facts)
    assert (exact, len(facts)) == EXACT[case.name]
    assert len(facts.reasons()) == len(facts) - exact and all(facts.reasons().values())


@dataclass(frozen=True)
class Seen:
    """What a value was in a run: its type and shape, and its numbers where they are few."""

    dtype: dtypes.DType
    shape: tuple[int, ...]
    numbers: np.ndarray | None


@cache
def ran(case: Case, size: int) -> list[tuple[Value, Seen]]:
    """Every tensor that a node makes in a run, in order; inside loops several times."""
    seen: list[tuple[Value, Seen]] = []

    def keep(node: Node, index: int, result: Any) -> None:
        value = node.outputs[index]
        if value is not None and isinstance(result, np.ndarray):
            seen.append((value, Seen(dtypes.from_numpy(result.dtype), result.shape,
                                     result.copy() if result.size <= VALUE_LIMIT else None)))

    Evaluator(opened(case)).run(case.feeds(size), on_value=keep)
    return seen


def untrue(facts: Facts, case: Case, size: int) -> list[str]:
    """What inference says of a model's values that a run shows to be otherwise."""
    model, feeds = facts.model, case.feeds(size)
    sizes: dict[Dim, int] = {}
    for v in model.graph.inputs:
        if v.name in feeds:
            for d, n in zip(facts.shape(v) or (), feeds[v.name].shape):
                if isinstance(d, Dim) and d.op == "sym":
                    assert sizes.setdefault(d, n) == n
    wrong = []
    for value, seen in ran(case, size):
        said = facts[value]
        if isinstance(said.type, TensorType):
            wrong += [f"{value}: {what}" for what in _untrue(said, seen, sizes)]
    return wrong


def _untrue(said: Fact, seen: Seen, sizes: dict[Dim, int]) -> Iterator[str]:
    def number(d: Any) -> Any:
        return evaluate(d, sizes) if isinstance(d, Dim) and d.symbols() <= sizes.keys() else d

    if said.dtype is not dtypes.UNDEFINED and said.dtype is not seen.dtype:
        yield f"{said.type} for {seen.dtype}"
    if said.shape is None:
        return
    if len(said.shape) != len(seen.shape):
        yield f"{said.type} for {seen.shape}"
        return
    for d, n in zip(said.shape, seen.shape):
        if isinstance(number(d), int) and number(d) != n:
            yield f"{d} = {number(d)} for {seen.shape}"
    if said.value is not None and seen.numbers is not None:
        for told, n in zip(said.value.reshape(-1).tolist(), seen.numbers.reshape(-1).tolist()):
            told = number(told)
            if not isinstance(told, Dim) and told != n and not (told != told and n != n):
                yield f"the value {told} for {n}"


@CASES
@SIZED
def test_nothing_that_is_inferred_is_untrue(case: Case, size: int) -> None:
    assert not untrue(infer(opened(case)), case, size)


@CASES
@SIZED
def test_nothing_is_untrue_either_when_sizes_and_values_are_given(case: Case, size: int) -> None:
    feeds = case.feeds(size)
    symbols = infer(opened(case))
    dims = {d.name: n for v in opened(case).graph.inputs if v.name in feeds
            for d, n in zip(symbols.shape(v) or (), feeds[v.name].shape)
            if isinstance(d, Dim) and d.op == "sym" and not d.is_fresh}
    rate = {"sr": feeds["sr"]} if "sr" in feeds else {}
    facts = infer(opened(case), dims=dims, values=rate)
    assert not untrue(facts, case, size)
    # With every size given, nothing that runs is left unknown, unless the file gives the size no name.
    if all(d is None or isinstance(d, int) or not d.is_fresh for v in opened(case).graph.inputs if v.name in feeds
           for d in symbols.shape(v) or ()):
        unknown = [v for v, _ in ran(case, size) if not facts.is_exact(v)]
        assert not unknown, [(v, facts[v]) for v in unknown[:5]]


def spoil(facts: Facts, change: Callable[[Fact], Fact | None]) -> Facts:
    """The same facts with the first changed that `change` can change, among values that nodes make."""
    spoilt = dict(facts._facts)
    for v in spoilt:
        if v.producer is not None and v.producer.graph is facts.model.graph:
            new = change(facts[v])
            if new is not None:
                spoilt[v] = new
                return Facts(facts.model, spoilt, facts.equalities, facts.findings, facts.input_symbols)
    raise AssertionError("there was nothing to spoil")


@pytest.mark.parametrize("change", [
    lambda f: Fact.tensor(dtypes.INT8, f.shape) if f.dtype is dtypes.FLOAT else None,
    lambda f: Fact.tensor(f.dtype, (*f.shape, 1)) if f.shape else None,
    lambda f: Fact.tensor(f.dtype, tuple(d + 1 for d in f.shape)) if f.shape and len(f.shape) == 3 else None,
    lambda f: Fact.tensor(f.dtype, f.shape, f.value + 1) if f.ints() else None,
], ids=["type", "rank", "sizes", "value"])
def test_an_untruth_would_be_seen(change: Callable[[Fact], Fact | None]) -> None:
    case = next(c for c in cases() if c.name == "silero_vad_16k_op15")
    facts = infer(opened(case))
    assert not untrue(facts, case, 0)
    assert untrue(spoil(facts, change), case, 0)
