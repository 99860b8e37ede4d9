"""The least and the largest of floats, with threads, tails, NaN and infinities."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded, scratch

from gesher.compiler.kernels import meanings

SOURCE = """
#include "gs_range_f32.h"
GS_EXPORT int64_t need(GsPool* pool, int64_t n) {
  GsRange r = {.n = n};
  return gs_range_f32_scratch(&r, gs_pool_size(pool));
}
GS_EXPORT void both(GsPool* pool, int64_t plain, int64_t n, const float* x, float* y, float* scratch) {
  GsRange r = {.n = n, .x = x, .y = y, .scratch = scratch};
  if (plain) gs_range_f32_plain(&r, pool); else gs_range_f32(&r, pool);
}
"""


@pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)
def test_least_and_largest(isa):
    rng = np.random.default_rng(0)
    for n in (0, 1, 3, 16, 63, 64, 65, 1000, 16384, 70001):
        for shift in (0, 9, -9):
            x = rng.standard_normal(n).astype(np.float32) + np.float32(shift)
            for odd in (None, np.inf, -np.inf, np.nan):
                if odd is not None and n:
                    x[rng.integers(n)] = odd
                for plain in (0, 1):
                    y = guarded(np.zeros(2, np.float32))
                    room = scratch(call(SOURCE, isa, "need", n, threads=2))
                    call(SOURCE, isa, "both", plain, n, guarded(x), y, room, threads=2)
                    np.testing.assert_array_equal(y, meanings.extent(x))
