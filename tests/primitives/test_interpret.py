"""What primitives mean, held against numpy and against small cases by hand."""

import math

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.dtypes import FLOAT, INT64
from gesher.base.errors import RunError
from gesher.primitives import Builder, evaluate
from gesher.symbolic import sym


def run(make, **feeds):
    p = Builder()
    xs = {k: p.input(k, dtypes.from_numpy(np.asarray(v).dtype), np.shape(v)) for k, v in feeds.items()}
    made = make(p, **xs)
    results = evaluate(made if isinstance(made, (list, tuple)) else [made], feeds)
    return results if isinstance(made, (list, tuple)) else results[0]


def test_integer_division_truncates_and_by_zero_gives_zero():
    a, b = np.int32([7, -7, 7, -7, 5, -2**31]), np.int32([2, 2, -2, -2, 0, -1])
    assert run(lambda p, a, b: p.div(a, b), a=a, b=b).tolist() == [3, -3, -3, 3, 0, -2**31]
    assert run(lambda p, a, b: p.mod(a, b), a=a[:5], b=b[:5]).tolist() == [1, 1, -1, -1, 0]
    assert run(lambda p, a, b: p.fmod(a, b), a=a[:5], b=b[:5]).tolist() == [1, -1, 1, -1, 0]


def test_integer_powers():
    a, b = np.int64([2, -2, 3, 1, -1, -1, 5]), np.int64([10, 3, 0, -4, -3, -2, -1])
    assert run(lambda p, a, b: p.pow(a, b), a=a, b=b).tolist() == [1024, -8, 1, 1, -1, 1, 0]


def test_casts_that_do_not_fit_are_defined():
    x = np.float32([1e30, -1e30, np.nan, 3.9, -3.9, 300])
    assert run(lambda p, x: p.cast(x, dtypes.INT32), x=x).tolist() == [-2**31, -2**31, -2**31, 3, -3, 300]
    assert run(lambda p, x: p.cast(x, dtypes.UINT8), x=x).tolist() == [0, 0, 0, 3, 253, 44]
    assert run(lambda p, x: p.cast(x, INT64), x=x).tolist() == [-2**63, -2**63, -2**63, 3, -3, 300]
    assert run(lambda p, x: p.cast(x, dtypes.UINT64), x=np.float64([1e19, 5, -1])).tolist() == [
        10**19, 5, 2**64 - 1]


def test_min_and_max_keep_nan():
    x, y = np.float32([np.nan, 1]), np.float32([1, np.nan])
    assert np.isnan(run(lambda p, x, y: p.max(x, y), x=x, y=y)).all()
    assert np.isnan(run(lambda p, x, y: p.min(x, y), x=x, y=y)).all()


def test_narrow_floats_are_rounded_once_a_step():
    x = np.float16([1, 2049])
    assert run(lambda p, x: p.sum(x), x=np.full(4096, 1, np.float16)) == 4096
    assert run(lambda p, x: x + x, x=x).dtype == np.float16


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_sums(axis, exclusive, reverse):
    x = np.arange(12, dtype=np.float64).reshape(3, 4)
    want = np.flip(x, axis) if reverse else x
    want = np.cumsum(want, axis) - (want if exclusive else 0)
    want = np.flip(want, axis) if reverse else want
    got = run(lambda p, x: p.cumulate(x, axis, "sum", exclusive, reverse), x=x)
    assert np.array_equal(got, want)


def test_indices_count_from_the_end_and_must_be_inside():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    got = run(lambda p, x, i: p.gather(x, i, 1), x=x, i=np.int64([[-1, 0], [2, -4]]))
    assert np.array_equal(got, x[:, [[3, 0], [2, 0]]])
    with pytest.raises(RunError, match="outside"):
        run(lambda p, x, i: p.gather(x, i, 1), x=x, i=np.int64([4]))
    with pytest.raises(RunError, match="outside"):
        run(lambda p, x, i: p.gather_along(x, i, 0), x=x, i=np.int64([[3, 0, 0, 0]]))


def test_of_equal_places_the_last_update_wins():
    x, i, u = np.zeros(3, np.float32), np.int64([1, 1, 0]), np.float32([5, 6, 7])
    assert run(lambda p, x, i, u: p.scatter_along(x, i, u, 0), x=x, i=i, u=u).tolist() == [7, 6, 0]
    assert run(lambda p, x, i, u: p.scatter_along(x, i, u, 0, "add"), x=x, i=i, u=u).tolist() == [7, 11, 0]


def test_contraction_is_einsum():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((5, 2, 6, 3))
    got = run(lambda p, a, b: p.contract(a, b, [1, 3], [3, 0], [0], [1]), a=a, b=b)
    np.testing.assert_allclose(got, np.einsum("bicj,jbdi->bcd", a, b), rtol=1e-12)


def test_convolution_by_hand():
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    w = np.float32([[[1, 10]]])
    got = run(lambda p, x, w: p.convolve(x, w, [2], [(1, 0)], [2]), x=x, w=w)
    # Places 0, 2, 4 of [0, 0,1,2,3,4] with taps two apart: 1 + ..., and so on.
    assert got.tolist() == [[[10, 31]]]


def test_transposed_convolution_is_the_gradient_of_convolution():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 2, 3, 2))
    args = ([2, 1], [(1, 2), (0, 1)], [1, 2], 2)
    y = run(lambda p, x, w: p.convolve(x, w, *args), x=x, w=w)
    g = rng.standard_normal(y.shape)
    # Seven rows and six give the same y for a stride of 2: the output padding says which it was.
    back = run(lambda p, g, w: p.convolve_transposed(g, w, *args, [1, 0]), g=g, w=w)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.sum(y * g), np.sum(x * back), rtol=1e-10)


def test_sorting_keeps_equals_in_their_order_and_puts_nan_last():
    x = np.float32([3, np.nan, 1, 3, 2])
    values, order = run(lambda p, x: list(p.sort(x, 0)), x=x)
    assert order.tolist() == [2, 4, 0, 3, 1] and math.isnan(values[-1])
    assert run(lambda p, x: p.sort_order(x, 0, True), x=x).tolist() == [1, 0, 3, 4, 2]


def test_the_first_of_equals_is_found_or_the_last():
    x = np.float32([[1, 5, 5], [np.nan, 2, np.nan]])
    assert run(lambda p, x: p.argmax(x, 1), x=x).tolist() == [1, 0]
    assert run(lambda p, x: p.argmax(x, 1, last=True), x=x).tolist() == [2, 2]


def test_empty_folds_give_the_identity():
    x = np.zeros((2, 0), np.float32)
    assert run(lambda p, x: p.sum(x, 1), x=x).tolist() == [0, 0]
    assert run(lambda p, x: p.amax(x, 1), x=x).tolist() == [-math.inf, -math.inf]
    assert run(lambda p, x: p.amin(x, 1), x=np.zeros((1, 0), np.int8)).tolist() == [127]


def test_a_loop_carries_and_stacks():
    p = Builder()
    n = sym("n")
    x = p.input("x", FLOAT, (n, 2))
    (last,), (rows,) = p.loop(n, [p.full((2,), 1, FLOAT)],
                              lambda q, i, c, s: ([c[0] + s[0]], [q.cast(i, FLOAT) + q.sum(x)]), [x])
    data = np.float32([[1, 2], [3, 4], [5, 6]])
    got = evaluate([last, rows], {"x": data})
    assert got[0].tolist() == [10, 13] and got[1].tolist() == [21, 22, 23]
    assert [a.shape for a in evaluate([last, rows], {"x": data[:0]})] == [(2,), (0,)]


def test_sizes_that_contradict_each_other_are_refused():
    p = Builder()
    n = sym("n")
    both = p.input("x", FLOAT, (n,)) + p.input("y", FLOAT, (n,))
    with pytest.raises(RunError, match="has a size 3 where n is 2"):
        evaluate([both], {"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)})
