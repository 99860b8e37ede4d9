"""Packing in numpy gives the very floats that packing in C gives."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call

from gesher.compiler.kernels import packing

SOURCE = """
#include "gs_recurrent_f32.h"
GS_EXPORT int64_t size(int64_t K, int64_t N) { return gs_gemm_f32_packed(K, N); }
GS_EXPORT void pack(int64_t K, int64_t N, const float* b, float* out) {
  gs_gemm_f32_pack(K, N, b, N, 1, out, 0, gs_ceil_div(N, GS_GEMM_NR));
}
GS_EXPORT void pack_recurrent(int64_t kind, int64_t I, int64_t H, const float* w, const float* r, float* w_out,
                              float* r_out, int64_t* sizes) {
  GsRecurrent v = {.kind = (int)kind, .I = I, .H = H, .w = w, .r = r};
  sizes[0] = gs_recurrent_w_packed(&v);
  sizes[1] = gs_recurrent_r_packed(&v);
  if (w_out) gs_recurrent_pack(&v, w_out, r_out);
}
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


@isas
def test_panels_are_those_of_c(isa):
    rng = np.random.default_rng(1)
    for K, N in ((1, 1), (3, 50), (7, 48), (5, 97), (4, 16), (0, 5)):
        b = rng.standard_normal((K, N)).astype(np.float32)
        out = np.full(call(SOURCE, isa, "size", K, N), np.nan, np.float32)
        call(SOURCE, isa, "pack", K, N, b, out)
        assert np.array_equal(packing.pack_panels(b, packing.panel_columns(isa)).ravel(), out)


@isas
def test_a_batch_is_packed_matrix_by_matrix(isa):
    b = np.random.default_rng(2).standard_normal((2, 3, 5, 50)).astype(np.float32)
    columns = packing.panel_columns(isa)
    packed = packing.pack_panels(b, columns)
    assert all(np.array_equal(packed[i, j], packing.pack_panels(b[i, j], columns)) for i in range(2) for j in range(3))


@isas
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_weights_are_those_of_c(isa, kind):
    rng, gates = np.random.default_rng(3), {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    for I, H in ((3, 5), (16, 24), (7, 33)):
        w, r = (rng.standard_normal((gates * H, n)).astype(np.float32) for n in (I, H))
        number, sizes = ["RNN", "GRU", "LSTM"].index(kind), np.zeros(2, np.int64)
        call(SOURCE, isa, "pack_recurrent", number, I, H, w, r, None, None, sizes)
        outs = [np.full(n, np.nan, np.float32) for n in sizes]
        call(SOURCE, isa, "pack_recurrent", number, I, H, w, r, *outs, sizes)
        ours = packing.pack_recurrent(kind, w, r, packing.panel_columns(isa))
        assert all(np.array_equal(a, b) for a, b in zip(ours, outs))
