"""Shape, Reshape and their sisters: onnx's cases, ONNX Runtime on random nodes, and chains as exporters write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.models import inferred, shapes
from tests.ops.single_node import Case, check, onnx_cases

from gesher import ops
from gesher.base.errors import ModelError
from gesher.ops import Fact, infer_node

# Inputs that must be constants for an exact shape.
KNOWN = {"Reshape": (1,), "Squeeze": (1,), "Unsqueeze": (1,), "Expand": (1,)}


def every_dim(case: Case, index: int = 0) -> dict[tuple[int, int], str]:
    return {(index, a): f"d{a}" for a in range(case.inputs[index].ndim)}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name)
    for c in onnx_cases("Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    known = [i for i in KNOWN.get(case.op, ()) if i < len(case.inputs)]
    check(case, want, rtol=rtol, atol=atol, symbols=every_dim(case), known=known)


def array(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.integers(-9, 9, shape).astype(rng.choice([np.float32, np.int64, np.uint8]))


def drawn(rng: np.random.Generator, op: str, version: int) -> Case:
    """A node that fits its operator and version, over a random tensor."""
    shape = tuple(int(d) for d in rng.integers(1, 4, rng.integers(1, 5)))
    rank = len(shape)
    x = array(rng, shape)
    if op in ("Reshape", "Flatten") and version < 9:
        x = x.astype(np.float32)
    if op == "Shape":
        ends = {} if version < 15 or rng.random() < 0.3 else {
            "start": int(rng.integers(-rank - 1, rank + 2)), "end": int(rng.integers(-rank - 1, rank + 2))}
        return Case(op, version, [x], ends)
    if op == "Flatten":
        return Case(op, version, [x], {"axis": int(rng.integers(-rank if version >= 11 else 0, rank + 1))})
    if op == "Reshape":
        # A random regrouping, one place of which is left to be worked out, and one copied where it can be.
        sizes = list(rng.permutation(shape)) + [1] * int(rng.integers(0, 2))
        if len(sizes) > 1 and rng.random() < 0.5:
            sizes = [sizes[0] * sizes[1], *sizes[2:]]
        wanted = [int(s) for s in sizes]
        copied = [i for i in range(min(rank, len(wanted))) if wanted[i] == shape[i]]
        if copied and rng.random() < 0.5:
            wanted[int(rng.choice(copied))] = 0
        if rng.random() < 0.7:
            wanted[int(rng.integers(len(wanted)))] = -1
        return Case(op, version, [x, np.array(wanted, np.int64)])
    if op == "Expand":
        wanted = [int(d if d > 1 or rng.random() < 0.5 else rng.integers(1, 4)) for d in shape]
        wanted = wanted[int(rng.integers(0, rank)):] if rng.random() < 0.3 else [2] * int(rng.integers(0, 2)) + wanted
        return Case(op, version, [x, np.array(wanted, np.int64)])
    if op == "Size":
        return Case(op, version, [x])
    places = sorted({int(a) for a in rng.integers(0, rank, 2)})
    if op == "Squeeze":
        x = array(rng, tuple(1 if i in places else d for i, d in enumerate(shape)))
        if rng.random() < 0.3:
            return Case(op, version, [x])
    else:
        rank += len(places)
    axes = [p - rank if version >= 11 and rng.random() < 0.5 else p for p in places]
    if version < 13:
        return Case(op, version, [x], {"axes": axes})
    return Case(op, version, [x, np.array(axes, np.int64)])


VERSIONS = {"Shape": [1, 13, 15, 19], "Size": [1, 13, 19], "Reshape": [5, 13, 14, 19], "Flatten": [1, 9, 11, 13],
            "Squeeze": [1, 11, 13], "Unsqueeze": [1, 11, 13], "Expand": [8, 13]}


@pytest.mark.parametrize(("op", "version"), [(op, v) for op, versions in VERSIONS.items() for v in versions])
def test_random_nodes_agree_with_onnxruntime(op: str, version: int) -> None:
    for seed in range(6):
        case = drawn(np.random.default_rng([seed, version, *op.encode()]), op, version)
        known = range(1, len(case.inputs))
        # Which dims Squeeze takes away must be known where nobody says so.
        named = None if op == "Squeeze" and len(case.inputs) == 1 and "axes" not in case.attributes else every_dim(case)
        check(case, symbols=named, known=known)


def test_reshape_1_takes_its_shape_from_an_attribute() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    check(Case("Reshape", 1, [x], {"shape": [0, -1]}), [x.reshape(2, 12)], symbols={(0, 0): "n"})


def test_allowzero_means_an_empty_axis() -> None:
    x = np.zeros((0, 3), np.float32)
    check(Case("Reshape", 14, [x, np.array([3, 0])], {"allowzero": 1}), [x.reshape(3, 0)], known=[1])
    check(Case("Reshape", 14, [x, np.array([0, 3])]), [x], known=[1])


@pytest.mark.parametrize(("op", "inputs", "attributes", "says"), [
    ("Reshape", [(2, 3), [4, 2]], {}, "6 elements"),
    ("Reshape", [(2, 3), [4, -1]], {}, "do not divide"),
    ("Reshape", [(2, 3), [-1, -1]], {}, "more than one -1"),
    ("Reshape", [(2, 3), [6, 1, 0]], {}, "copies dim 2"),
    ("Squeeze", [(2, 1), [0]], {}, "squeezed away"),
    ("Unsqueeze", [(2, 1), [0, 0]], {}, "twice"),
    ("Unsqueeze", [(2, 1), [4]], {}, r"not within \[-3, 2\]"),
    ("Expand", [(2, 3), [4, 3]], {}, "do not broadcast"),
    ("Flatten", [(2, 3)], {"axis": 3}, "does not cut"),
])
def test_what_does_not_fit_is_refused(op: str, inputs: list, attributes: dict, says: str) -> None:
    arrays = [np.zeros(i, np.float32) if isinstance(i, tuple) else np.array(i, np.int64) for i in inputs]
    with pytest.raises(ModelError, match=says):
        Case(op, 21, arrays, attributes).infer(known=[1])


# Chains as exporters write them

def test_pytorch_view_of_a_batch() -> None:
    # x.view(x.size(0), -1)
    assert shapes("""
        view (float[batch, 512, 7, 7] x) => (y) {
          shape = Shape(x)
          zero = Constant<value_int = 0>()
          n = Gather(shape, zero)
          axes = Constant<value_ints = [0]>()
          n1 = Unsqueeze(n, axes)
          rest = Constant<value_ints = [-1]>()
          wanted = Concat<axis = 0>(n1, rest)
          y = Reshape(x, wanted)
        }""") == ["float(batch,25088)"]


def test_attention_heads_are_split_and_joined_exactly() -> None:
    # x.view(b, s, 12, -1).transpose(1, 2), then back to (b, s, hidden)
    assert shapes("""
        heads (float[batch, seq, 768] x) => (y, z) {
          b = Shape<start = 0, end = 1>(x)
          s = Shape<start = 1, end = 2>(x)
          twelve = Constant<value_ints = [12]>()
          rest = Constant<value_ints = [-1]>()
          split = Concat<axis = 0>(b, s, twelve, rest)
          h = Reshape(x, split)
          y = Transpose<perm = [0, 2, 1, 3]>(h)
          back = Transpose<perm = [0, 2, 1, 3]>(y)
          hidden = Constant<value_ints = [768]>()
          joined = Concat<axis = 0>(b, s, hidden)
          z = Reshape(back, joined)
        }""") == ["float(batch,12,seq,64)", "float(batch,seq,768)"]


def test_sizes_survive_arithmetic_and_casts() -> None:
    # The head count and the halves of a rotary embedding: (n * 2 - n) / 2 through int32 and back.
    assert shapes("""
        arithmetic (float[n, 64] x, float[1] one) => (y) {
          n = Shape<end = 1>(x)
          n32 = Cast<to = 6>(n)
          two = Constant<value = int32[1] {2}>()
          doubled = Mul(n32, two)
          back = Cast<to = 7>(doubled)
          plus = Add(back, n)
          y = Expand(one, plus)
        }""") == ["float(3*n)"]


def test_paddle_shape_slices() -> None:
    # Paddle slices Shape with int32 ends and concatenates casts of the pieces.
    assert shapes("""
        paddle (float[n, 3, h, w] x) => (y) {
          shape = Shape(x)
          s = Constant<value = int32[1] {0}>()
          e = Constant<value = int32[1] {1}>()
          axes = Constant<value = int32[1] {0}>()
          n = Slice(shape, s, e, axes)
          n32 = Cast<to = 6>(n)
          flat = Constant<value = int32[1] {-1}>()
          both = Concat<axis = 0>(n32, flat)
          wanted = Cast<to = 7>(both)
          y = Reshape(x, wanted)
        }""") == ["float(n,3*h*w)"]


def test_an_expand_with_a_where_over_ones() -> None:
    # torch's expand(-1, s): Where(Equal(shape, -1), ones, shape)
    assert shapes("""
        expand (float[1, n] x, float[s] like) => (y) {
          minus = Constant<value_ints = [-1]>()
          s = Shape(like)
          wanted = Concat<axis = 0>(s, minus)
          one = Constant<value_ints = [1]>()
          two = Constant<value_ints = [2]>()
          ones = Expand(one, two)
          gone = Equal(wanted, minus)
          put = Where(gone, ones, wanted)
          y = Expand(x, put)
        }""") == ["float(s,n)"]


def test_one_unknown_size_among_known_ones_is_worked_out() -> None:
    # k is not known, but what a Reshape must leave for it is.
    assert shapes("""
        one (float[n, 12] x, int64[1] k) => (y) {
          n = Shape<end = 1>(x)
          four = Constant<value_ints = [4]>()
          wanted = Concat<axis = 0>(n, four, k)
          y = Reshape(x, wanted)
        }""") == ["float(n,4,3)"]


def test_two_unknown_sizes_leave_the_others_known() -> None:
    assert shapes("""
        two (float[n, 12] x, int64[2] k) => (y) {
          n = Shape<end = 1>(x)
          wanted = Concat<axis = 0>(n, k)
          y = Reshape(x, wanted)
        }""") == ["float(n,?,?)"]


def test_an_unknown_shape_of_known_length_still_gives_the_rank() -> None:
    assert shapes("r (float[n, 12] x, int64[3] shape) => (y) { y = Reshape(x, shape) }") == ["float(?,?,?)"]
    assert shapes("r (float[12] x, int64[3] shape) => (y) { y = Expand(x, shape) }") == ["float(?,?,?)"]


def test_size_counts_symbolically() -> None:
    model, facts = inferred("s (float[n, 3, m] x) => (y) { y = Size(x) }")
    assert str(facts[model.graph.outputs[0]].value) == "3*m*n"


def test_squeeze_without_axes_needs_to_know_which_dims_are_one() -> None:
    assert shapes("s (float[n, 1] x) => (y) { y = Squeeze(x) }") == ["float(...)"]
    assert shapes("s (float[3, 1] x) => (y) { y = Squeeze(x) }") == ["float(3)"]


def test_a_squeezed_symbol_is_one_from_then_on() -> None:
    model, facts = inferred("""
        s (float[n, 3] x) => (y, x2) {
          axes = Constant<value_ints = [0]>()
          y = Squeeze(x, axes)
          x2 = Identity(x)
        }""")
    assert [str(facts[o].type) for o in model.graph.outputs] == ["float(3)", "float(1,3)"]


def test_a_reshape_of_a_known_value_is_known() -> None:
    case = Case("Reshape", 21, [np.arange(6), np.array([3, 2])])
    facts, _ = case.infer(known=[0, 1])
    assert facts[0] is not None and facts[0].value is not None
    assert facts[0].value.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_large_values_are_not_carried_along() -> None:
    operator = ops.find("", "Expand")
    assert operator is not None
    node, _, _ = Case("Expand", 13, [np.array([1]), np.array([1 << 40])]).node()
    facts = [Fact.tensor(ops.fact.dtypes.INT64, (1,), [1]), Fact.tensor(ops.fact.dtypes.INT64, (1,), [1 << 40])]
    out = infer_node(node, {"": 13}, facts)[0]
    assert out is not None and out.shape == (1 << 40,) and out.value is None
