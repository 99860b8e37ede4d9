"""ONNX's node cases with the types of their outputs taken away: nearly all are found exactly, none wrongly."""

from collections import Counter

import onnx
import pytest
from tests.suites.stripped import VERDICTS, node_cases, stripped, types_of, verdict

from gesher.checker import check
from gesher.inference import annotate, infer
from gesher.ir.files import from_bytes, to_bytes

LEAST_EXACT = 1395  # of 1404; may only grow


def test_the_types_of_outputs_are_found() -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for case in node_cases():
        model = from_bytes(stripped(case).SerializeToString())
        annotate(model, infer(model))
        found = verdict(case, types_of(onnx.load_from_string(to_bytes(model))))
        counts[found] += 1
        if found == "wrong":
            wrong.append(case.name)
    assert not wrong
    assert counts["exact"] >= LEAST_EXACT, counts


def test_the_judge_tells_right_from_wrong() -> None:
    case = next(c for c in node_cases() if c.name == "test_softmax_example")
    name = case.proto().graph.output[0].name
    right = case.proto().graph.output[0].type
    wrong, open_, bare = onnx.TypeProto(), onnx.TypeProto(), onnx.TypeProto()
    for t in (wrong, open_, bare):
        t.CopyFrom(right)
    wrong.tensor_type.shape.dim[0].dim_value = 7
    open_.tensor_type.shape.dim[0].dim_param = "N"
    bare.tensor_type.ClearField("shape")
    assert [verdict(case, {name: t}) for t in (right, open_, bare, wrong)] == list(VERDICTS)
    assert verdict(case, {}) == "unknown"


@pytest.mark.parametrize("name", ["test_loop16_seq_none", "test_identity_sequence", "test_nonzero_example"])
def test_right_models_are_not_refused(name: str) -> None:
    case = next(c for c in node_cases() if c.name == name)
    assert check(case.opened()).ok
