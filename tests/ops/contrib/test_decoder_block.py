"""A whole block of a quantised decoder, in operators of com.microsoft, answers alike on every engine."""

from __future__ import annotations

import numpy as np
import pytest

import gesher
from gesher.base.dtypes import FLOAT, INT32
from gesher.ir import Model
from gesher.ops.build import Builder

MS = "com.microsoft"
HEADS, GROUPS, SIZE, LENGTH = 4, 2, 16, 6
WIDTH = HEADS * SIZE


def block() -> Model:
    rng = np.random.default_rng(19)
    b = Builder({"": 17, MS: 1})
    x = b.input("x", FLOAT, ("batch", LENGTH, WIDTH))
    lengths = b.input("lengths", INT32, ("batch",))

    def norm(of: object) -> object:
        return b.op("SimplifiedLayerNormalization", of, np.ones(WIDTH, np.float32), epsilon=1e-5)

    def linear(of: object, inputs: int, outputs: int) -> object:
        blocks = inputs // 32
        weight = rng.integers(0, 256, (outputs, blocks, 16)).astype(np.uint8)
        scales = rng.uniform(0.005, 0.02, outputs * blocks).astype(np.float32)
        return b.op("MatMulNBits", of, weight, scales, domain=MS, K=inputs, N=outputs, bits=4, block_size=32)

    t = np.arange(16)[:, None] / 10.0 ** np.linspace(0, 2, SIZE // 2)
    made = linear(norm(x), WIDTH, (HEADS + 2 * GROUPS) * SIZE)
    seen, *_ = b.op("GroupQueryAttention", made, None, None, None, None, lengths, np.array(LENGTH, np.int32),
                    np.cos(t).astype(np.float32), np.sin(t).astype(np.float32), domain=MS, outputs=3,
                    num_heads=HEADS, kv_num_heads=GROUPS, do_rotary=1)
    y, _, _, total = b.op("SkipSimplifiedLayerNormalization", x, linear(seen, WIDTH, WIDTH),
                          np.ones(WIDTH, np.float32), domain=MS, outputs=4, epsilon=1e-5)
    inner = b.op("QuickGelu", linear(y, WIDTH, 2 * WIDTH), domain=MS, alpha=1.0)
    b.output(b.Add(total, linear(inner, 2 * WIDTH, WIDTH)), "y")
    return b.model()


@pytest.mark.parametrize("engine", ["reference", "compiled"])
def test_engines_agree_with_onnxruntime(engine: str) -> None:
    rng = np.random.default_rng(20)
    feeds = {"x": rng.normal(0, 1, (2, LENGTH, WIDTH)).astype(np.float32),
             "lengths": np.full(2, LENGTH - 1, np.int32)}
    model = block()
    with gesher.session(model, "onnxruntime") as theirs, gesher.session(model, engine) as ours:
        want, got = theirs.run(feeds)["y"], ours.run(feeds)["y"]
    # Three layers of float32 sums, added in another order.
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
