"""Convolutions over volumes are those over pictures, whatever their strides, dilations, pads and groups."""

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT
from gesher.compiler.segment import compile_exprs
from gesher.compiler.volumes import as_pictures
from gesher.primitives import Builder, evaluate, walk
from gesher.symbolic import sym


@pytest.mark.parametrize(("kernel", "strides", "pads", "dilations", "groups"), [
    ((3, 3, 3), (1, 1, 1), ((1, 1), (1, 1), (1, 1)), (1, 1, 1), 1),
    ((2, 3, 1), (2, 1, 2), ((0, 1), (2, 0), (0, 0)), (1, 1, 1), 2),
    ((3, 1, 1), (1, 1, 1), ((2, 2), (0, 0), (0, 0)), (2, 1, 1), 1),
    ((1, 3, 3), (3, 2, 1), ((0, 0), (1, 1), (0, 2)), (1, 2, 1), 4)])
@pytest.mark.parametrize("free", [False, True])
def test_a_volume_is_convolved_as_pictures(kernel, strides, pads, dilations, groups, free):
    p = Builder()
    sizes = {"n": 2, "d": 7}
    x = p.input("x", FLOAT, (sym("n") if free else 2, 4, sym("d") if free else 7, 9, 8))
    rng = np.random.default_rng(0)
    w = p.constant(rng.standard_normal((8, 4 // groups, *kernel)).astype(np.float32))
    y = p.convolve(x, w, strides, pads, dilations, groups)
    made, = as_pictures([y])
    assert [e.rank for e in walk([made]) if e.prim == "convolve"] == [4] and made.shape == y.shape
    fed = rng.standard_normal((2, 4, 7, 9, 8)).astype(np.float32)
    want, = evaluate([y], {"x": fed})
    got, = compile_exprs([x], [y]).run([fed], {sym(k): v for k, v in sizes.items()} if free else {})
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
