"""The builder: what fits is made, once; what surely does not fit is refused."""

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.dtypes import BOOL, FLOAT, INT64
from gesher.base.errors import ModelError
from gesher.primitives import Builder, CannotLower, evaluate, print_exprs
from gesher.symbolic import sym

n, m = sym("n"), sym("m")


def test_equal_expressions_are_one_object():
    p = Builder()
    x = p.input("x", FLOAT, (n, 4))
    assert p.exp(x) + 1.0 is p.exp(x) + 1.0
    assert p.constant(np.float32([1, 2])) is p.constant(np.float32([1, 2]))
    assert p.scalar(0.0, FLOAT) is not p.scalar(-0.0, FLOAT)
    assert p.constant(np.float32([1, 2])) is not p.constant(np.int32([1, 2]))


def test_python_numbers_take_the_other_operands_type():
    p = Builder()
    x = p.input("x", dtypes.INT8, (3,))
    assert (x + 1).dtype is dtypes.INT8
    assert (1 - x).dtype is dtypes.INT8
    with pytest.raises(ModelError, match=r"1\.5 is no number of type int8"):
        _ = x * 1.5


def test_types_do_not_mix():
    p = Builder()
    with pytest.raises(ModelError, match="cast one"):
        p.input("x", FLOAT, (3,)) + p.input("y", dtypes.DOUBLE, (3,))


@pytest.mark.parametrize("make", [
    lambda p, x: p.reshape(x, (5,)), lambda p, x: p.transpose(x, (0, 0)), lambda p, x: p.slice(x, (0, 0), (3, 9)),
    lambda p, x: p.concat([x, p.input("y", FLOAT, (3, 5))], 0), lambda p, x: p.sum(x, 2),
    lambda p, x: p.matmul(x, p.input("y", FLOAT, (3, 2))), lambda p, x: x + p.input("y", FLOAT, (3,)),
    lambda p, x: p.gather(x, x, 0), lambda p, x: p.and_(x, x), lambda p, x: p.pad(x, (-1, 0), (0, 0)),
    lambda p, x: p.broadcast_to(x, (2, 5)), lambda p, x: p.squeeze(x, 0), lambda p, x: p.top_k(x, 9),
    lambda p, x: p.convolve(x, x, [], [], [], 1) if False else p.window(x, "max", (5,), (1,), [(0, 0)]),
], ids=["reshape", "transpose", "slice", "concat", "axis", "matmul", "broadcast", "index type", "kind", "pad",
        "broadcast_to", "squeeze", "top_k", "window"])
def test_what_surely_does_not_fit_is_refused(make):
    p = Builder()
    with pytest.raises(ModelError):
        make(p, p.input("x", FLOAT, (2, 4)))


def test_symbolic_shapes_follow():
    p = Builder()
    x = p.input("x", FLOAT, (n, 4))
    assert p.flatten(x, 0).shape == (1, 4 * n)
    assert p.matmul(x, p.input("w", FLOAT, (4, m))).shape == (n, m)
    assert p.concat([x, x], 0).shape == (2 * n, 4)
    assert p.take(x, 0, 1, n).shape[0] is not None
    image = p.input("i", FLOAT, (1, 3, n, n))
    weights = p.input("w2", FLOAT, (8, 3, 3, 3))
    assert p.convolve(image, weights, (2, 2), [(1, 1), (1, 1)], (1, 1)).shape[2] == (n + 1) // 2


def test_shape_arithmetic_is_known():
    p = Builder()
    shape = p.concat([p.reshape(p.size(n), (1,)), p.constant(np.array([3]))], 0)
    assert p.known(shape).tolist() == [n, 3]
    assert p.known(p.gather(shape, p.constant(np.int64(-2)), 0) * 2 - 1).item() == 2 * n - 1
    assert p.known(p.prod(shape)).item() == 3 * n
    assert p.known(p.div(p.size(4 * n), p.scalar(2, INT64))).item() == 2 * n
    assert p.known(p.gt(p.size(n) + 1, 0)).item() is True
    assert p.known(p.eq(p.size(n), 3)) is None
    assert p.known(p.input("x", INT64, (2,))) is None


def test_known_integers_wrap_around_as_their_type_does():
    p = Builder()
    assert p.known(p.scalar(200, dtypes.UINT8) + 100).item() == 44


def test_strings_and_complex_numbers_have_no_lowering():
    p = Builder()
    with pytest.raises(CannotLower):
        p.neg(p.input("s", dtypes.COMPLEX64, (2,)))
    with pytest.raises(CannotLower):
        p.cast(p.input("s", dtypes.STRING, (2,)), FLOAT)


def test_a_composite_means_what_its_parts_mean():
    p = Builder()
    x = p.input("x", FLOAT, (2, 3))
    whole = p.composite("double", lambda q, a, *, by: a * by, x, by=2.0)
    assert whole.shape == (2, 3)
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(evaluate([whole], {"x": data})[0], data * 2)


def test_a_loop_must_not_change_what_it_carries():
    p = Builder()
    with pytest.raises(ModelError, match="changes the types"):
        p.loop(3, [p.input("h", FLOAT, (2,))], lambda q, i, c, s: ([q.cast(c[0], dtypes.DOUBLE)], []))


def test_expressions_print_one_to_a_line():
    p = Builder()
    text = print_exprs([p.exp(p.input("x", FLOAT, (n, 3))) + 1.0])
    assert text.splitlines()[0] == "%0 = input name=x : float(n,3)"
    assert text.splitlines()[1] == "%1 = exp %0 : float(n,3)"


def test_an_expression_has_no_truth_value():
    p = Builder()
    with pytest.raises(TypeError, match="no truth value"):
        bool(p.input("x", BOOL, ()))
