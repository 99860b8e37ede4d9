"""Packing in numpy gives the very floats that packing in C gives."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call

from gesher.compiler.kernels import packing

SOURCE = """
#include "gs_gemm_f32.h"
#include "gs_recurrent_f32.h"
GS_EXPORT int64_t size(int64_t K, int64_t N) { return gs_gemm_f32_packed(K, N); }
GS_EXPORT void pack(int64_t K, int64_t N, const float* b, float* out) {
  gs_gemm_f32_pack(K, N, b, N, 1, out, 0, gs_ceil_div(N, GS_GEMM_NR));
}
GS_EXPORT void pack_recurrent(int64_t kind, int64_t linear, int64_t H, int64_t K, const float* m, float* out) {
  GsRecurrent v = {.kind = (int)kind, .linear_before_reset = (int)linear, .H = H};
  gs_recurrent_pack(&v, K, m, out);
}
GS_EXPORT int64_t row_recurrent(int64_t kind, int64_t linear, int64_t H) {
  GsRecurrent v = {.kind = (int)kind, .linear_before_reset = (int)linear, .H = H};
  return gs_recurrent_row(&v);
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
@pytest.mark.parametrize(("kind", "linear"), [("RNN", False), ("GRU", False), ("GRU", True), ("LSTM", False)])
def test_recurrent_weights_are_those_of_c(isa, kind, linear):
    rng, gates = np.random.default_rng(3), {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    number = ["RNN", "GRU", "LSTM"].index(kind)
    for K, H in ((3, 5), (16, 24), (7, 33), (1, 64)):
        m = rng.standard_normal((2, gates * H, K)).astype(np.float32)
        row = call(SOURCE, isa, "row_recurrent", number, int(linear), H)
        assert row == packing.recurrent_row(kind, linear, H, isa.width)
        ours = packing.pack_recurrent(kind, linear, m, isa.width)
        for way in range(2):
            out = np.full(row * K, np.nan, np.float32)
            call(SOURCE, isa, "pack_recurrent", number, int(linear), H, K, m[way], out)
            assert np.array_equal(ours[way], out)
