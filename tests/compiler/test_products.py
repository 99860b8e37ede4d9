"""Matrix products as the compiler finds them: weights in every order, packed once; few rows, few columns."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS

from gesher.base.dtypes import DOUBLE, FLOAT
from gesher.compiler import toolchain
from gesher.compiler.packed import Packed
from gesher.compiler.plan import prepared
from gesher.compiler.segment import compile_exprs
from gesher.compiler.steps import KernelStep
from gesher.primitives import Builder, Expr, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

n = sym("n")
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def holds(x: Expr, root: Expr, isa, rows=(1, 2, 5, 9, 40)) -> list[str]:
    """Hold a product of x (n, ...) to its numpy meaning for several n; the kernels that ran, described."""
    segment = compile_exprs([x], [root], isa=isa)
    for m in rows:
        fed = numbers(m, *x.shape[1:])
        want = evaluate([root], {"x": fed}, {n: m})[0]
        got = segment.run([fed], {n: m})[0]
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    return [s.kernel.describe() for s in segment.steps if isinstance(s, KernelStep)]


@isas
@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 17, 48, 49, 130])
@pytest.mark.parametrize("K", [3, 70])
def test_weights_in_any_order_are_packed(isa, N, K):
    p = Builder()
    x, bias = p.input("x", FLOAT, (n, K)), p.constant(numbers(N))
    stored = {
        "rows": p.constant(numbers(K, N)),
        "columns": p.transpose(p.constant(numbers(N, K)), (1, 0)),
        "a part": p.slice(p.constant(numbers(2 * K + 1, N + 3)), (1, 2), (2 * K, N + 2), (2, 1)),
        "axes apart": p.transpose(p.reshape(p.constant(numbers(N * K)), (N, K)), (1, 0)),
    }
    for how, w in stored.items():
        ran = holds(x, p.max(p.contract(x, w, [1], [0]) + bias, 0.0), isa)
        assert len(ran) == 1, (how, ran)
        assert ("in panels" in ran[0]) is (N > 4 or K < 64), (how, ran)


@isas
def test_batches_of_weights(isa):
    p = Builder()
    x, w = p.input("x", FLOAT, (n, 3, 20)), p.constant(numbers(3, 20, 30))
    (ran,) = holds(x, p.contract(x, w, [2], [1], [1], [0]), isa)
    assert "in panels" in ran
    # One weight for all of a batch is packed once.
    wide = p.broadcast_to(p.constant(numbers(20, 30)), (4, 20, 30))
    y = p.input("x", FLOAT, (n, 4, 20))
    segment = compile_exprs([y], [p.contract(y, wide, [2], [1], [1], [0])], isa=isa)
    assert max(w.size for w in segment.weights) < 2 * 20 * 64
    holds(y, p.contract(y, wide, [2], [1], [1], [0]), isa)


@isas
def test_weights_on_the_left(isa):
    p = Builder()
    x = p.input("x", FLOAT, (n, 90))
    for w in (p.constant(numbers(50, 90)), p.transpose(p.constant(numbers(90, 50)), (1, 0))):
        holds(x, p.contract(w, x, [1], [1]), isa)


def test_nothing_is_packed_or_moved_while_matching():
    p = Builder()
    x, w = p.input("x", FLOAT, (n, 300)), p.constant(numbers(200, 300))
    (root,) = prepared([p.contract(x, p.transpose(w, (1, 0)), [1], [0])])
    held = root.args[1].params["value"] if root.args[1].prim == "constant" else root.args[1].args[0].params["value"]
    if isinstance(held, Packed):
        assert held._array is None
    segment = compile_exprs([x], [root])
    sizes = [v.size for v in segment.weights]
    assert len(sizes) == 1 and isinstance(segment.program.values[0], Packed)
    # The moved weight itself was only looked at on the way.
    assert not isinstance(held, Packed) or held._array is None


def test_a_weight_that_two_products_share_is_packed_once():
    p = Builder()
    x, w = p.input("x", FLOAT, (n, 64)), p.constant(numbers(64, 64))
    segment = compile_exprs([x], [p.contract(p.exp(p.contract(x, w, [1], [0])), w, [1], [0])])
    assert len(segment.weights) == 1


def test_one_row_reads_a_weight_of_columns_where_it_lies():
    p, w = Builder(), numbers(200, 300)
    x = p.input("x", FLOAT, (1, 300))
    segment = compile_exprs([x], [p.contract(x, p.constant(w), [1], [1])])
    assert any(np.shares_memory(v, w) for v in segment.weights)
    fed = numbers(1, 300)
    np.testing.assert_allclose(segment.run([fed], {})[0], fed @ w.T, rtol=1e-4, atol=1e-4)


@isas
def test_doubles_are_packed_and_followed_alike(isa):
    p = Builder()
    x = p.input("x", DOUBLE, (n, 70))
    draw = np.random.default_rng(5).standard_normal
    for N in (1, 3, 24, 50):
        root = p.max(p.contract(x, p.constant(draw((N, 70))), [1], [1]) + p.constant(draw(N)), 0.0)
        segment = compile_exprs([x], [root], isa=isa)
        steps = [s for s in segment.steps if isinstance(s, KernelStep)]
        assert [s.kernel.function for s in steps] == ["gs_gemm_f64"] and steps[0].tile is not None
        assert ("in panels" in steps[0].kernel.describe()) is (N > 4)
        for m in (1, 5, 33):
            fed = draw((m, 70))
            np.testing.assert_allclose(segment.run([fed], {n: m})[0], evaluate([root], {"x": fed}, {n: m})[0],
                                       rtol=1e-12, atol=1e-12)
