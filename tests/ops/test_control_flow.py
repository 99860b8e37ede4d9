"""If, Loop and Scan: what they give, against ONNX Runtime, and what inference says before.

onnx's own cases run in tests/suites.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.models import answers, inferred, onnxruntime, parsed, shapes

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.inference import infer
from gesher.ir.files import from_bytes
from gesher.symbolic import bounds


def agrees(text: str, feeds: list, opset: int = 21) -> list:
    """The evaluator's answers, held to ONNX Runtime's."""
    ours = answers(text, feeds, opset)
    for a, b in zip(ours, onnxruntime(text, feeds, opset)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, 1e-6)
    return ours


def complaint(text: str, opset: int = 21) -> str:
    """The first error that inference finds."""
    found = infer(from_bytes(parsed(text, opset).SerializeToString())).findings.errors
    assert found, "inference finds nothing wrong"
    return found[0].message


# If

BRANCHES = """
    i (bool c, float[n, 3] x, float[m, 3] y) => (z) {
      z = If (c) <
        then_branch = then () => (a) { a = Identity(x) },
        else_branch = other () => (b) { b = Neg(y) }
      >
    }"""


@pytest.mark.parametrize("taken", [True, False])
def test_if_runs_the_branch_that_is_asked_for(taken: bool) -> None:
    x, y = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    got = agrees(BRANCHES, [np.array(taken), x, y])
    assert got[0].tolist() == (x if taken else -y).tolist()


def test_branches_that_differ_leave_only_what_differs_open() -> None:
    assert shapes(BRANCHES) == ["float(?,3)"]
    assert shapes(BRANCHES.replace("m, 3", "n, 3")) == ["float(n,3)"]
    assert shapes(BRANCHES.replace("m, 3", "n, 3, 1")) == ["float(...)"]


def test_a_known_condition_takes_its_branch_and_spares_the_other() -> None:
    # The other branch could not run: its Reshape does not fit.
    text = """
        i (float[n, 3] x) => (z) {
          s = Shape<start = 1>(x)
          three = Constant<value_ints = [3]>()
          same = Equal(s, three)
          z = If (same) <
            then_branch = then () => (a) { a = Neg(x) },
            else_branch = other () => (b) { four = Constant<value_ints = [4, 7]>()
                                            narrow = Constant<value = float[2] {1, 2}>()
                                            b = Reshape(narrow, four) }
          >
        }"""
    assert shapes(text) == ["float(n,3)"]
    assert answers(text, [np.ones((2, 3), np.float32)])[0].tolist() == [[-1] * 3] * 2


def test_branches_of_different_types_are_refused() -> None:
    assert "different types" in complaint(BRANCHES.replace("b = Neg(y)", "b = Cast<to = 7>(y)"))


def test_sizes_demanded_in_a_branch_hold_in_it_only() -> None:
    assert shapes("""
        i (bool c, float[n] x, float[3] y) => (z, x2) {
          z = If (c) <
            then_branch = then () => (a) { a0 = Concat<axis = 0>(x, y)
                                           x1 = Unsqueeze(x, zero)
                                           y1 = Unsqueeze(y, zero)
                                           a = Concat<axis = 0>(x1, y1) },
            else_branch = other () => (b) { b = Unsqueeze(x, zero) }
          >
          x2 = Identity(x)
        }""".replace("z = If", "zero = Constant<value_ints = [0]>()\n z = If"))[1] == "float(n)"


# Loop

COUNTING = """
    l (int64 m, bool c, float[2] x) => (total, all) {
      total, all = Loop (m, c, x) <
        body = turn (int64 i, bool going, float[2] before) => (on, after, item) {
          one = Constant<value = float {1}>()
          after = Add(before, one)
          item = Mul(after, after)
          three = Constant<value_int = 3>()
          on = Less(i, three)
        }
      >
    }"""


@pytest.mark.parametrize(("most", "going"), [(0, True), (1, True), (3, True), (9, True), (5, False)])
def test_loop_stops_by_count_or_condition(most: int, going: bool) -> None:
    got = agrees(COUNTING, [np.array(most), np.array(going), np.zeros(2, np.float32)])
    turns = min(most, 4) if going else 0  # turn 3 says that it was the last
    assert got[0].tolist() == [turns, turns] and got[1].shape == (turns, 2)


def test_a_loop_that_may_stop_early_has_bounded_outputs() -> None:
    model, facts = inferred(COUNTING.replace("l (int64 m, bool c, float[2] x)", "l (float[2] x)").replace(
        "total, all = Loop", "m = Constant<value_int = 7>()\n c = Constant<value = bool {1}>()\n total, all = Loop"))
    total, everything = (facts[o].shape for o in model.graph.outputs)
    assert total == (2,) and bounds(everything[0]) == (0, 7) and everything[1] == 2


def for_loop(body: str, initial: str, before: str = "float[]", trips: str = "n = Shape<end = 1>(x)\n m = Squeeze(n)"
             ) -> str:
    """A loop over all turns: its body, the type of what it carries, and as what the body declares that."""
    return f"""
        l (float[n, 4] x, {initial} v) => (last, all) {{
          {trips}
          c = Constant<value = bool {{1}}>()
          last, all = Loop (m, c, v) <
            body = turn (int64 i, bool going, {before} before) => (on, after, item) {{
              on = Identity(going)
              {body}
            }}
          >
        }}"""


def test_a_for_loop_stacks_as_many_items_as_it_has_turns() -> None:
    text = for_loop("after = Neg(before)\n item = Gather(x, i)", "float[3]")
    assert shapes(text) == ["float(3)", "float(n,4)"]
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert agrees(text, [x, np.ones(3, np.float32)])[1].tolist() == x.tolist()


@pytest.mark.parametrize("declared", ["float[]", "float[k, 4]", "float[?, 4]", "float[n, 4]"])
def test_a_size_that_grows_by_the_same_in_each_turn_is_worked_out(declared: str) -> None:
    text = for_loop("""axes = Constant<value_ints = [0]>()
                       row = Gather(x, i)
                       row1 = Unsqueeze(row, axes)
                       after = Concat<axis = 0>(before, row1, row1)
                       item = Identity(i)""", "float[start, 4]", declared)
    assert shapes(text) == ["float(2*n + start,4)", "int64(n)"]
    got = agrees(text, [np.ones((3, 4), np.float32), np.zeros((2, 4), np.float32)])
    assert got[0].shape == (8, 4)


def test_a_size_that_grows_by_ever_more_stays_open() -> None:
    text = for_loop("after = Concat<axis = 0>(before, before)\n item = Identity(i)", "float[start, 4]")
    assert shapes(text) == ["float(?,4)", "int64(n)"]
    assert agrees(text, [np.ones((3, 4), np.float32), np.ones((1, 4), np.float32)])[0].shape == (8, 4)


def test_a_size_set_by_every_turn_is_known_where_there_is_one() -> None:
    body = """after = Identity(x)
              item = Identity(i)"""
    some = for_loop(body, "float[1, 4]", trips="m = Constant<value_int = 2>()")
    perhaps = for_loop(body, "float[1, 4]")
    assert shapes(some)[0] == "float(n,4)"
    assert shapes(perhaps)[0] == "float(?,4)"


def test_items_of_a_size_that_hangs_on_the_turn_have_no_symbol_of_the_turn() -> None:
    text = for_loop("""after = Identity(before)
                       zero = Constant<value_int = 0>()
                       one = Constant<value_int = 1>()
                       item = Range(zero, i, one)""", "float[3]")
    model, facts = inferred(text)
    shape = facts[model.graph.outputs[1]].shape
    assert shape is not None and str(shape[0]) == "n" and bounds(shape[1]) == (0, None)


def test_a_carried_value_that_no_turn_changes_is_still_known() -> None:
    text = """
        l (float[n] x, int64 m) => (y) {
          c = Constant<value = bool {1}>()
          sizes = Constant<value_ints = [-1, 1]>()
          kept = Loop (m, c, sizes) <
            body = turn (int64 i, bool going, int64[2] before) => (on, after) {
              on = Identity(going)
              after = Identity(before)
            }
          >
          y = Reshape(x, kept)
        }"""
    assert shapes(text) == ["float(n,1)"]


def test_a_loop_without_turns_gives_back_what_it_got_and_nothing() -> None:
    text = for_loop("after = Concat<axis = 0>(before, before)\n item = Identity(x)", "float[2]",
                    trips="m = Constant<value_int = 0>()")
    assert shapes(text) == ["float(2)", "float(0,n,4)"]
    got = answers(text, [np.ones((3, 4), np.float32), np.ones(2, np.float32)])
    assert got[0].shape == (2,) and got[1].shape == (0, 3, 4)


def test_without_a_condition_what_the_body_says_of_it_does_not_count() -> None:
    text = """
        l (int64 m, float[1] x) => (y) {
          y = Loop (m, , x) <
            body = turn (int64 i, bool going, float[1] before) => (on, after) {
              on = Constant<value = bool {0}>()
              after = Add(before, before)
            }
          >
        }"""
    assert answers(text, [np.array(4), np.ones(1, np.float32)])[0].tolist() == [16]


def test_a_loop_that_could_never_end_is_refused() -> None:
    text = """
        l (float[1] x) => (y) {
          y = Loop ( , , x) <
            body = turn (int64 i, bool going, float[1] before) => (on, after) {
              on = Identity(going)
              after = Identity(before)
            }
          >
        }"""
    with pytest.raises(RunError, match="never end"):
        answers(text, [np.ones(1, np.float32)])


def test_a_body_that_changes_the_type_is_refused() -> None:
    text = for_loop("after = Cast<to = 7>(before)\n item = Identity(i)", "float[3]")
    assert "changes the type of the carried value 0" in complaint(text)


def test_a_body_of_another_arity_is_refused() -> None:
    text = for_loop("after = Neg(before)\n item = Identity(i)", "float[3]").replace("=> (on, after, item)", "=> (on)")
    assert "its body gives 1 outputs, the node needs 3" in complaint(text)


def test_items_that_change_their_shape_cannot_be_stacked() -> None:
    text = for_loop("""after = Identity(before)
                       zero = Constant<value_int = 0>()
                       one = Constant<value_int = 1>()
                       item = Range(zero, i, one)""", "float[3]")
    with pytest.raises(RunError, match="change their shape"):
        answers(text, [np.ones((2, 4), np.float32), np.ones(3, np.float32)])


def test_loops_capture_and_nest() -> None:
    text = """
        l (float[2] x, int64 n, float[2] y) => (last, all) {
          c = Constant<value = bool {1}>()
          last, all = Loop (n, c, x) <
            body = outer (int64 i, bool going, float[2] v) => (on, w, item) {
              on = Identity(going)
              w, inner = Loop (n, c, v) <
                body = inside (int64 j, bool g, float[2] a) => (o, b, it) {
                  o = Identity(g)
                  b = Add(a, y)
                  k = Cast<to = 1>(i)
                  it = Mul(b, k)
                }
              >
              axes = Constant<value_ints = [0]>()
              item = ReduceSum<keepdims = 0>(inner, axes)
            }
          >
        }"""
    got = agrees(text, [np.zeros(2, np.float32), np.array(3), np.array([1, 2], np.float32)])
    assert got[0].tolist() == [9, 18]
    assert shapes(text) == ["float(2)", "float(?,2)"]


def test_loops_may_carry_sequences() -> None:
    text = """
        l (float[n, 3] x) => (y) {
          m1 = Shape<end = 1>(x)
          m = Squeeze(m1)
          c = Constant<value = bool {1}>()
          empty = SequenceEmpty()
          rows = Loop (m, c, empty) <
            body = turn (int64 i, bool going, seq(float) before) => (on, after) {
              on = Identity(going)
              row = Gather(x, i)
              after = SequenceInsert(before, row)
            }
          >
          y = ConcatFromSequence<axis = 0, new_axis = 1>(rows)
        }"""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert agrees(text, [x])[0].tolist() == x.tolist()


def test_deeply_nested_loops_are_inferred_in_bounded_time() -> None:
    # Each level asks its body twice, which would double from level to level if nobody counted.
    deepest = 24
    inner = "after0 = Concat<axis = 0>(v, v)"
    for level in range(1, deepest + 1):
        inner = f"""
            after{level} = Loop (n, c, {"v" if level < deepest else "x"}) <
              body = b{level} (int64 i{level}, bool g{level}, float[k] v) => (o{level}, after{level - 1}) {{
                o{level} = Identity(g{level})
                {inner}
              }}
            >"""
    text = f"l (float[2] x, int64 n) => (after{deepest}) {{ c = Constant<value = bool {{1}}>()\n {inner} }}"
    model = from_bytes(parsed(text).SerializeToString())
    facts = infer(model)
    assert facts.dtype(model.graph.outputs[0]) is dtypes.FLOAT


# Scan

def scan(attributes: str, inputs: str = "float[2] s, float[n, 2] x", lengths: str = "") -> str:
    return f"""
        s ({inputs}) => (last, all) {{
          last, all = Scan ({lengths}s, x) <
            body = turn (float[2] before, float[2] item) => (new, out) {{
              new = Add(before, item)
              out = Mul(item, item)
            }},
            num_scan_inputs = 1{attributes}
          >
        }}"""


SCANS = [
    ("", (3, 2)), (", scan_input_directions = [1]", (3, 2)), (", scan_input_axes = [1]", (2, 3)),
    (", scan_output_axes = [1], scan_output_directions = [1]", (3, 2))]
# Axes may be counted from the end since opset 11.
NEWER_SCANS = [
    (", scan_input_axes = [-1], scan_output_axes = [1], scan_output_directions = [1]", (2, 3)),
    (", scan_output_axes = [-1], scan_input_directions = [1], scan_output_directions = [1]", (3, 2))]


@pytest.mark.parametrize(("opset", "attributes", "shape"), [
    (opset, *case) for opset in (9, 11, 16, 21) for case in (SCANS if opset == 9 else SCANS + NEWER_SCANS)])
def test_scan_goes_along_axes_and_backward(opset: int, attributes: str, shape: tuple[int, int]) -> None:
    text = scan(attributes, inputs="float[2] s, float[a, b] x")
    x = np.arange(6, dtype=np.float32).reshape(shape)
    got = agrees(text, [np.ones(2, np.float32), x], opset)
    assert got[0].tolist() == (1 + x.sum(0 if shape == (3, 2) else 1)).tolist()


def test_scans_lengths_are_inferred() -> None:
    assert shapes(scan("")) == ["float(2)", "float(n,2)"]
    assert shapes(scan(", scan_input_axes = [1], scan_output_axes = [1]", inputs="float[2] s, float[2, n] x")) == [
        "float(2)", "float(2,n)"]


def test_what_is_scanned_together_has_one_length() -> None:
    text = """
        s (float[n, 2] x, float[5, 3] y) => (all, x2) {
          all = Scan (x, y) <
            body = turn (float[2] a, float[3] b) => (out) { out = Concat<axis = 0>(a, b) }, num_scan_inputs = 2
          >
          x2 = Identity(x)
        }"""
    assert shapes(text) == ["float(5,5)", "float(5,2)"]
    assert "length of what is scanned" in complaint(text.replace("float[n, 2]", "float[4, 2]"))


def test_scan_over_nothing() -> None:
    got = answers(scan(""), [np.ones(2, np.float32), np.zeros((0, 2), np.float32)])
    assert got[0].tolist() == [1, 1] and got[1].shape == (0, 2)


@pytest.mark.parametrize("attributes", ["", ", directions = [1]"])
@pytest.mark.parametrize("given", [False, True])
def test_scan_8_runs_each_sample_of_a_batch(attributes: str, given: bool) -> None:
    text = scan(attributes, inputs=("int64[b] lengths, " if given else "") + "float[b, 2] s, float[b, n, 2] x",
                lengths="lengths, " if given else ", ")
    assert shapes(text, 8) == ["float(b,2)", "float(b,n,2)"]
    s, x = np.ones((2, 2), np.float32), np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    lengths = [np.array([3, 2])] if given else []
    feeds = [*lengths, s, x]
    got = answers(text, feeds, 8)
    want = onnxruntime(text, feeds, 8)
    np.testing.assert_allclose(got[0], want[0])
    # Behind a sequence's end anything may stand.
    for b in range(2):
        n = 2 if given and b == 1 else 3
        np.testing.assert_allclose(got[1][b, :n], want[1][b, :n])


@pytest.mark.parametrize(("attributes", "says"), [
    (", scan_input_axes = [0, 1]", "2 elements for 1"), (", scan_input_directions = [2]", "must be 0 or 1"),
    (", scan_input_axes = [2]", "not within")])
def test_scans_that_do_not_fit_are_refused(attributes: str, says: str) -> None:
    assert says in complaint(scan(attributes))
