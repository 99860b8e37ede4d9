"""Functions of single bytes: found as tables, looked up by the kernel, and exactly what the reference says."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

import gesher
from gesher.base.dtypes import FLOAT, INT8, UINT8
from gesher.compiler.kernels import meanings
from gesher.compiler.segment import compile_exprs
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph
from gesher.primitives import Builder

SOURCE = """
#include "gs_bytes.h"
#define KERNEL(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, int64_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) { \\
    GsBytes v = {n, x, table, y}; kernel(&v, pool); }
KERNEL(plain, gs_bytes_plain)
KERNEL(fast, gs_bytes)
"""


@pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
@pytest.mark.parametrize("name", ["plain", "fast"])
def test_bytes_are_looked_up(isa, name):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, 256).astype(np.uint8)
    for n in (0, 1, 63, 64, 65, 200, 40_000, 300_000):
        x = rng.integers(0, 256, n).astype(np.uint8)
        y = guarded(np.zeros(n, np.uint8))
        call(SOURCE, isa, name, n, guarded(x), guarded(table), y, threads=2)
        assert np.array_equal(y, meanings.looked_up(x, table))


def kernels(inputs, root):
    return [s.kernel.function for s in compile_exprs(inputs, [root]).program.all_steps() if hasattr(s, "kernel")]


def test_only_costly_functions_of_one_tensor_become_tables():
    p = Builder()
    x, other = p.input("x", UINT8, (3, 50)), p.input("other", UINT8, (3, 50))
    row = p.constant(np.arange(50, dtype=np.float32))

    def counted(e):
        return p.cast(p.max(p.min(p.round(e / 0.01), 255.0), 0.0), UINT8)

    real, beside = p.cast(x, FLOAT) * 0.1, p.cast(other, FLOAT) * 0.1
    assert kernels([x], counted(p.sigmoid(real))) == ["gs_bytes"]
    assert kernels([x], counted(real * p.sigmoid(real))) == ["gs_bytes"]
    assert kernels([x], counted(p.tanh(p.exp(real)))) == ["gs_bytes"]
    # Cheap, of two tensors, of another place each, and no bytes at the end.
    assert not kernels([x], counted(real + 1.0))
    assert not kernels([x, other], counted(p.sigmoid(real) * beside))
    assert not kernels([x], counted(p.sigmoid(real) * row))
    assert not kernels([x], p.sigmoid(real))


@pytest.mark.parametrize("dtype", [UINT8, INT8], ids=lambda t: t.name)
def test_every_byte_is_what_the_reference_says(dtype):
    zero = np.array(3, dtype.numpy)
    b = Graph({"": 21, "com.microsoft": 1})
    x = b.input("x", dtype, ["n"])
    real = b.DequantizeLinear(x, np.float32(0.05), zero)
    b.output(b.QuantizeLinear(b.op("Gelu", real), np.float32(0.04), zero), "gelu")
    b.output(b.op("QLinearSigmoid", x, np.float32(0.07), zero, np.float32(1 / 256), np.array(0, dtype.numpy),
                  domain="com.microsoft"), "sigmoid")
    model = b.model()
    fed = {"x": np.arange(256).astype(np.uint8).view(dtype.numpy)}
    with gesher.session(model, "compiled", threads=1) as session:
        got, want = session.run(fed), Evaluator(model).run(fed)
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
        assert session.explain().count("gs_bytes") == 2


@pytest.mark.parametrize("dtype", [UINT8, INT8], ids=lambda t: t.name)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_counts_of_two_tensors_are_the_references(op, dtype):
    # Scales whose multiples meet halves often: a product that is rounded elsewhere shows.
    zero = np.array([5], dtype.numpy).reshape(())
    b = Graph({"": 21, "com.microsoft": 1})
    x, y = b.input("x", dtype, [256, 1]), b.input("y", dtype, [1, 256])
    b.output(b.op(op, x, np.float32(0.05), zero, y, np.float32(0.04), zero, np.float32(0.1), zero,
                  domain="com.microsoft"), "z")
    model = b.model()
    every = np.arange(256).astype(np.uint8).view(dtype.numpy)
    fed = {"x": every[:, None], "y": every[None]}
    with gesher.session(model, "compiled", threads=1) as session:
        np.testing.assert_array_equal(session.run(fed)["z"], Evaluator(model).run(fed)["z"])
