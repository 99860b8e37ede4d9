"""Sessions of `precision="bf16"`: what is rounded and what is not, how far results may be off, what people are told.

A bfloat16 has 8 bits, so rounding is off by 2^-9 at the most, and a product of two rounded numbers by about 2^-8. Sums
of products whose errors do not hang together are off by less, relative to their norm: 2^-8 for each product that a
result has passed through is a bound for what is drawn at random here.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS

import gesher
from gesher.base.dtypes import FLOAT
from gesher.compiler import cpu, frozen, session, toolchain
from gesher.compiler.kernels.packing_bf16 import bf16_rounded
from gesher.compiler.segment import compile_exprs
from gesher.compiler.steps import KernelStep
from gesher.engines.compiled import compiled, optimised
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Ops
from gesher.primitives import Builder, Expr, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
A_PRODUCT = 2.0 ** -8
n = sym("n")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def off(got: np.ndarray, want: np.ndarray) -> float:
    """The relative L2 error."""
    assert got.shape == want.shape
    return float(np.linalg.norm((got - want).ravel()) / np.linalg.norm(want.ravel()))


def ran(segment) -> list[str]:
    return [s.kernel.describe() for s in segment.steps if isinstance(s, KernelStep)]


def bf16(isa, x: Expr, root: Expr, fed: np.ndarray, sizes=None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What a segment gives with rounded products, what it should, and its kernels."""
    segment = compile_exprs([x], [root], isa=isa, precision="bf16")
    return segment.run([fed], sizes or {})[0], evaluate([root], {"x": fed}, sizes or {})[0], ran(segment)


@isas
@pytest.mark.parametrize("K", [1, 7, 64, 300])
def test_products_round_what_they_multiply_and_nothing_else(isa, K):
    p = Builder()
    x, w, bias = p.input("x", FLOAT, (n, K)), numbers(K, 50), numbers(50, seed=1) / 3
    root = p.max(p.contract(x, p.constant(w), [1], [0]) + p.constant(bias), -1.0)
    for rows in (1, 9, 30):
        fed = numbers(rows, K)
        got, want, kernels = bf16(isa, x, root, fed, {n: rows})
        assert len(kernels) == 1 and "bf16" in kernels[0]
        # The bias is not rounded, so the result is that of rounded factors up to the order of a float sum.
        exact = np.maximum(bf16_rounded(fed).astype(np.float64) @ bf16_rounded(w) + bias, -1)
        np.testing.assert_allclose(got, exact, rtol=2e-6, atol=2e-6 * K ** 0.5)
        assert 0 < off(got, want) < A_PRODUCT


@isas
def test_products_of_what_is_no_weight(isa):
    p = Builder()
    x = p.input("x", FLOAT, (n, 3, 40, 70))
    got, want, kernels = bf16(isa, x, p.contract(x, x, [3], [3], [0, 1], [0, 1]), numbers(2, 3, 40, 70), {n: 2})
    assert "bf16" in kernels[0] and 0 < off(got, want) < A_PRODUCT
    # Two columns leave most of a panel empty: these stay as they are.
    y = p.input("x", FLOAT, (n, 70))
    got, want, kernels = bf16(isa, y, p.contract(y, p.constant(numbers(70, 2)), [1], [0]), numbers(5, 70), {n: 5})
    assert "bf16" not in kernels[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@isas
def test_a_net_of_convolutions(isa):
    p = Builder()
    x = p.input("x", FLOAT, (1, 3, 20, 23))

    def convolve(x: Expr, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Expr:
        pad = kernel // 2
        channels = x.shape[1]
        assert isinstance(channels, int)
        w = numbers(out, channels // groups, kernel, kernel) / (channels // groups * kernel ** 2) ** 0.5
        return p.convolve(x, p.constant(w), [stride] * 2, [(pad, pad)] * 2, [1, 1], groups)

    stem = p.max(convolve(x, 40, 5, 2), 0.0)
    wide = p.max(convolve(stem, 70, 1) + p.constant(numbers(70, 1, 1)), 0.0)
    deep = p.min(p.max(convolve(wide, 70, 3, groups=70), 0.0), 6.0)
    root = convolve(deep, 40, 1) + stem
    got, want, kernels = bf16(isa, x, root, numbers(1, 3, 20, 23))
    assert sum("bf16" in k for k in kernels) == 3, kernels
    assert not any("bf16" in k for k in kernels if k.startswith("depthwise"))
    assert 0 < off(got, want) < 4 * A_PRODUCT
    # What rounded products alone read is kept so, the stem, which is added at the end as well, is not.
    kept = compile_exprs([x], [root], isa=isa, precision="bf16").program.buffers
    assert [b.dtype.name for b in kept if b.shape[2:-1] == (10, 12)][:3] == ["float", "bfloat16", "bfloat16"]


def test_a_convolution_by_itself_is_put_in_blocks_where_rounding_pays():
    isa = next((i for i in ISAS if i.name == "avx512"), None)
    if isa is None or "avx512_bf16" not in cpu.here().features:
        pytest.skip("this processor has no AVX512-BF16")
    p = Builder()
    x = p.input("x", FLOAT, (1, 96, 9, 9))
    for out, rounded in ((200, True), (20, False)):
        root = p.convolve(x, p.constant(numbers(out, 96, 1, 1)), [1, 1], [(0, 0)] * 2, [1, 1], 1)
        got, want, kernels = bf16(None, x, root, numbers(1, 96, 9, 9))
        assert any("bf16" in k for k in kernels) is rounded, kernels
        assert off(got, want) < A_PRODUCT


def attending(heads: int = 2, size: int = 24) -> gesher.Model:
    """Self-attention over a free number of words, with a residual and a norm."""
    b = Ops({"": 17})
    x = b.input("x", FLOAT, ("batch", "words", heads * size))
    w = {k: b.constant(numbers(heads * size, heads * size, seed=i) / (heads * size) ** 0.5, k)
         for i, k in enumerate("qkvo")}

    def split(y, order):
        return b.Transpose(b.Reshape(y, b.constant(np.int64([0, 0, heads, size]))), perm=order)

    q, k, v = (split(b.MatMul(x, w[c]), order) for c, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]),
                                                               ("v", [0, 2, 1, 3])))
    scores = b.Mul(b.MatMul(q, k), b.constant(np.float32(size ** -0.5)))
    mixed = b.Transpose(b.MatMul(b.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    joined = b.MatMul(b.Reshape(mixed, b.constant(np.int64([0, 0, heads * size]))), w["o"])
    b.output(b.Add(x, joined), "y")
    return b.model()


@pytest.mark.parametrize("isa", [i.name for i in ISAS])
def test_attention(isa):
    model = attending()
    made = compiled(model, threads=2, isa=isa, precision="bf16")
    for batch, words in ((1, 40), (2, 17), (1, 3)):
        x = numbers(batch, words, 48)
        want = Evaluator(model).run({"x": x})["y"]
        assert off(made.run({"x": x})["y"], want) < 3 * A_PRODUCT
    told = made.explain()
    made.close()
    assert "attention" in told and "bf16" in told
    here = "bf16 by float32: no instruction for it here" in told
    assert here is not (isa == "avx512" and "avx512_bf16" in cpu.isa(isa).needs)


def test_the_default_is_float32_and_is_kept_apart():
    model = attending()
    x = numbers(1, 20, 48)
    want = Evaluator(model).run({"x": x})["y"]
    with gesher.session(model, "compiled", threads=1) as exact, \
            gesher.session(model, "compiled", threads=1, precision="bf16") as rounded:
        assert off(exact.run({"x": x})["y"], want) < 1e-6 < off(rounded.run({"x": x})["y"], want)
        assert "bf16" not in exact.explain() and "bf16" in rounded.explain()
    # A second load finds what was kept of each.
    keys = {frozen.key_for(model, frozen.told(optimised.__qualname__, "", precision)) for precision in ("f32", "bf16")}
    assert len(keys) == 2
    for precision in ("f32", "bf16"):
        options = session.Options(threads=1, precision=precision, kept=True)
        found = session.read_back(model, options, optimised)
        assert found is not None
        assert (off(found.run({"x": x})["y"], want) < 1e-6) is (precision == "f32")
        found.close()


def test_an_unknown_precision_is_refused():
    with pytest.raises(gesher.UnsupportedError, match="no precision 'int3'"):
        gesher.session(attending(), "compiled", precision="int3")
    with pytest.raises(gesher.UnsupportedError, match="no precision 'int3'"):
        compiled(attending(), precision="int3")
