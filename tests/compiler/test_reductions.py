"""Folds that become loops of their own: the largest and smallest of floats in every place, with what is special."""

import numpy as np
import pytest

from gesher.base.dtypes import BOOL, DOUBLE, FLOAT, FLOAT16
from gesher.compiler import cpu
from gesher.compiler.segment import compile_exprs
from gesher.primitives import Builder

isas = pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)


@isas
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE, FLOAT16], ids=lambda t: t.name)
def test_the_largest_and_smallest_wherever_they_stand(isa, dtype):
    p = Builder()
    x = p.input("acc1_key", dtype, (40, 37))    # a name that the loops use themselves
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 37)).astype(dtype.numpy)
    for i in range(37):
        a[i, i] = [np.nan, np.inf, -np.inf, 9, -9, np.nan][i % 6]
    a[37], a[38], a[39] = -0.0, np.inf, -np.inf
    for values in (a, -a, np.copysign(a, -1)):
        for fold, truth in ((p.amax, np.max), (p.amin, np.min)):
            made = compile_exprs([x], [fold(x, 1), fold(x, (0, 1))], isa=isa)
            rows, whole = made.run([values], {})
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(rows, truth(values, 1))
                np.testing.assert_array_equal(whole, truth(values))
            finite = np.where(np.isfinite(values), values, dtype.numpy.type(0))
            np.testing.assert_array_equal(made.run([finite], {})[1], truth(finite))


def test_nothing_reshaped_is_folded_to_where_a_fold_begins():
    p = Builder()
    x = p.input("x", BOOL, (4, 2, 0))
    roots = [p.any(p.reshape(x, (0, 1)), (0,)), p.all(p.reshape(x, (0, 3)), (0,))]
    segment = compile_exprs([x], roots)
    any_, all_ = segment.run([np.zeros((4, 2, 0), bool)], {})
    assert any_.tolist() == [False] and all_.tolist() == [True] * 3
