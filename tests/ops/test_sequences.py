"""Sequences: what they hold, against ONNX Runtime, and what inference may say of their elements.

onnx's own cases run in tests/suites.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.models import answers, inferred, onnxruntime, parsed, shapes

from gesher.base.errors import RunError
from gesher.inference import infer
from gesher.ir.files import from_bytes


def agrees(text: str, feeds: list, opset: int = 21) -> list:
    """The evaluator's answers, held to ONNX Runtime's."""
    ours = answers(text, feeds, opset)
    for a, b in zip(ours, onnxruntime(text, feeds, opset)):
        same(a, b)
    return ours


def same(a: Any, b: Any) -> None:
    if isinstance(b, list):
        assert isinstance(a, list) and len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
        return
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tolist() == b.tolist()


A, B, C = (np.full((n, 2), n, np.float32) for n in (1, 2, 3))


@pytest.mark.parametrize("position", [None, 0, 1, 2, -1, -2])
def test_insert_and_erase_count_from_either_end(position: int | None) -> None:
    at = "" if position is None else ", at"
    text = f"""
        s (float[a, 2] x, float[b, 2] y, float[c, 2] z, int64 at) => (more, fewer) {{
          two = SequenceConstruct(x, y)
          more = SequenceInsert(two, z{at})
          fewer = SequenceErase(more{at})
        }}"""
    got = agrees(text, [A, B, C, np.array(position or 0)])
    assert len(got[0]) == 3 and len(got[1]) == 2
    assert [len(x) for x in got[0]].index(3) == {None: 2, -1: 1, -2: 0}.get(position, position)


@pytest.mark.parametrize("position", [0, 1, -1, -2])
def test_at_and_length(position: int) -> None:
    text = """
        s (float[a, 2] x, float[b, 2] y, int64 at) => (z, n) {
          two = SequenceConstruct(x, y)
          z = SequenceAt(two, at)
          n = SequenceLength(two)
        }"""
    got = agrees(text, [A, B, np.array(position)])
    assert got[0].tolist() == (A, B)[position].tolist() and got[1] == 2


def test_places_that_are_not_there_are_errors() -> None:
    text = """
        s (float[a, 2] x, int64 at) => (z) {
          one = SequenceConstruct(x)
          z = SequenceAt(one, at)
        }"""
    for at in (1, -2):
        with pytest.raises(RunError, match="no position"):
            answers(text, [A, np.array(at)])
    with pytest.raises(RunError, match="no position 2"):
        answers(text.replace("SequenceAt(one, at)", "SequenceInsert(one, x, at)"), [A, np.array(2)])
    with pytest.raises(RunError, match="the sequence is empty"):
        answers("s (float[1] x) => (z) { e = SequenceEmpty()\n z = SequenceErase(e) }", [np.ones(1, np.float32)])


@pytest.mark.parametrize(("split", "axis", "keepdims"), [
    (None, 0, 1), (None, 1, 0), (None, -1, 1), (2, 0, 1), (3, 1, 1), (5, 0, 1), ([1, 3, 0], 0, 1), ([2, 1], 1, 1)])
def test_split_to_sequence_cuts_as_asked(split: Any, axis: int, keepdims: int) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    kind = "int64" if np.ndim(split) == 0 else f"int64[{len(split)}]"
    text = f"""
        s (float[4, 3] x, {kind} k) => (y) {{
          y = SplitToSequence<axis = {axis}, keepdims = {keepdims}>(x{"" if split is None else ", k"})
        }}"""
    agrees(text, [x, np.array(0 if split is None else split)])


def test_given_sizes_keep_their_axis() -> None:
    text = "s (float[4] x) => (y) { k = Constant<value_int = 1>()\n y = SplitToSequence<keepdims = 0>(x, k) }"
    assert [p.shape for p in answers(text, [np.ones(4, np.float32)])[0]] == [(1,)] * 4


def test_parts_must_fill_the_axis() -> None:
    text = "s (float[4] x, int64[2] k) => (y) { y = SplitToSequence(x, k) }"
    with pytest.raises(RunError, match="do not fill"):
        answers(text, [np.ones(4, np.float32), np.array([1, 2])])


@pytest.mark.parametrize(("axis", "new"), [(0, 0), (-1, 0), (0, 1), (1, 1), (-1, 1)])
def test_concat_from_sequence_joins_or_stacks(axis: int, new: int) -> None:
    text = f"""
        s (float[2, 3] x, float[2, 3] y) => (z) {{
          two = SequenceConstruct(x, y)
          z = ConcatFromSequence<axis = {axis}, new_axis = {new}>(two)
        }}"""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    agrees(text, [x, -x])


def test_elements_share_only_the_dims_that_are_alike() -> None:
    text = """
        s (float[n, 2, k] x, float[m, 2, k] y) => (two, one, other, joined) {
          two = SequenceConstruct(x, y)
          zero = Constant<value_int = 0>()
          last = Constant<value_int = -1>()
          one = SequenceAt(two, zero)
          other = SequenceAt(two, last)
          joined = ConcatFromSequence<axis = 0>(two)
        }"""
    assert shapes(text) == ["seq(float(?,2,k))", "float(?,2,k)", "float(?,2,k)", "float(?,2,k)"]
    model, facts = inferred(text)
    _, one, other, _ = (facts[o].shape for o in model.graph.outputs)
    assert one[0] != other[0], "two elements of a sequence need not be of one size"


@pytest.mark.parametrize(("text", "element"), [
    ("y = SplitToSequence<axis = 1>(x)", "seq(float(n,1))"),
    ("y = SplitToSequence<axis = 1, keepdims = 0>(x)", "seq(float(n))"),
    ("k = Constant<value_int = 2>()\n y = SplitToSequence<axis = 1>(x, k)", "seq(float(n,2))"),
    ("k = Constant<value_int = 4>()\n y = SplitToSequence<axis = 1>(x, k)", "seq(float(n,?))"),
    ("k = Constant<value_int = 2>()\n y = SplitToSequence<axis = 0>(x, k)", "seq(float(?,6))"),
    ("k = Constant<value_ints = [3, 3]>()\n y = SplitToSequence<axis = 1>(x, k)", "seq(float(n,3))"),
    ("k = Constant<value_ints = [1, 5]>()\n y = SplitToSequence<axis = 1>(x, k)", "seq(float(n,?))"),
    ("y = SequenceEmpty<dtype = 7>()", "seq(int64(...))"),
    ("e = SequenceEmpty()\n y = SequenceInsert(e, x)", "seq(float(...))"),
])
def test_element_types(text: str, element: str) -> None:
    assert shapes(f"s (float[n, 6] x) => (y) {{ {text} }}") == [element]


def test_a_sequence_of_two_types_is_refused() -> None:
    text = "s (float[2] x, int64[2] y) => (z) { z = SequenceConstruct(x, y) }"
    found = infer(from_bytes(parsed(text).SerializeToString())).findings.errors
    assert found and "one type" in found[0].message


def test_the_length_of_a_sequence_can_be_a_size() -> None:
    assert shapes("""
        s (float[n] x, float[1] one) => (y) {
          parts = SplitToSequence(x)
          n = SequenceLength(parts)
          axes = Constant<value_ints = [0]>()
          n1 = Unsqueeze(n, axes)
          two = Constant<value_ints = [2]>()
          wanted = Concat<axis = 0>(n1, two)
          y = Expand(one, wanted)
        }""") == ["float(?,2)"]


def test_sequence_map_takes_sequences_apart_and_tensors_whole() -> None:
    text = """
        s (float[a, 2] x, float[b, 2] y, float[2] shift) => (sums, counts) {
          two = SequenceConstruct(x, y)
          sums, counts = SequenceMap (two, shift) <
            body = each (float[k, 2] item, float[2] by) => (float[k, 2] moved, int64[2] count) {
              moved = Add(item, by)
              count = Shape(item)
            }
          >
        }"""
    assert shapes(text) == ["seq(float(?,2))", "seq(int64(2))"]
    got = agrees(text, [A, B, np.array([1, 2], np.float32)])
    assert [c.tolist() for c in got[1]] == [[1, 2], [2, 2]]


def test_sizes_that_a_body_finds_differ_from_element_to_element() -> None:
    text = """
        s (float[4, 2] x) => (found) {
          rows = SplitToSequence(x)
          found = SequenceMap (rows) <
            body = each (float[1, 2] item) => (places) { places = NonZero(item) }
          >
        }"""
    model, facts = inferred(text)
    assert facts[model.graph.outputs[0]].type.element.shape == (2, None)


def test_sequences_mapped_together_have_one_length() -> None:
    text = """
        s (float[a] x, float[b] y) => (z) {
          k = Constant<value_int = 1>()
          xs = SplitToSequence(x, k)
          ys = SplitToSequence(y, k)
          z = SequenceMap (xs, ys) < body = each (float[1] p, float[1] q) => (r) { r = Add(p, q) } >
        }"""
    assert len(answers(text, [np.ones(2, np.float32), np.ones(2, np.float32)])[0]) == 2
    with pytest.raises(RunError, match="a sequence of 3"):
        answers(text, [np.ones(2, np.float32), np.ones(3, np.float32)])
