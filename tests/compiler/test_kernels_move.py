"""Transposition of every permutation and element size; slices gathered; products of whole numbers."""

from itertools import permutations

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded

from gesher.compiler.kernels import meanings

SOURCE = """
#include "gs_move.h"
#include "gs_gemm_tiled.h"
#define MOVE(name, kernel) \\
  GS_EXPORT void name(GsPool* pool, int64_t rank, const int64_t* shape, const int64_t* perm, int64_t bytes, \\
                      const void* x, void* y) { \\
    GsTranspose t = {.rank = rank, .bytes = bytes, .x = x, .y = y}; \\
    memcpy(t.shape, shape, (size_t)rank * 8); memcpy(t.perm, perm, (size_t)rank * 8); kernel(&t, pool); }
MOVE(transpose_plain, gs_transpose_plain)
MOVE(transpose, gs_transpose)
#define GATHER(name, kernel) \\
  GS_EXPORT int64_t name(GsPool* pool, int64_t outer, int64_t n, int64_t count, int64_t bytes, const void* x, \\
                         const int64_t* index, void* y) { \\
    GsGather g = {outer, n, count, bytes, x, index, y}; return kernel(&g, pool); }
GATHER(gather_plain, gs_gather_plain)
GATHER(gather, gs_gather)
#define GEMM(name, X) \\
  GS_EXPORT void name(GsPool* pool, const int64_t* s, const X* a, const X* b, const X* bias_m, const X* bias_n, \\
      X* c) { \\
    gs_##name##_t g = {s[0], s[1], s[2], s[3], a, b, s[4], s[5], s[6], s[7], s[8], s[9], bias_m, bias_n, c, \\
                       s[0] * s[1], s[1]}; \\
    if (s[10]) gs_##name##_plain(&g, pool); else gs_##name##_run(&g, pool); }
GEMM(gemm_u32, uint32_t)
GEMM(gemm_u64, uint64_t)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def transpose(isa, name, x, perm, threads=1):
    y = guarded(np.zeros([x.shape[p] for p in perm], x.dtype))
    shape, order = np.array(x.shape, np.int64), np.array(perm, np.int64)
    call(SOURCE, isa, name, x.ndim, shape, order, x.itemsize, guarded(x), y, threads=threads)
    assert np.array_equal(y, meanings.transpose(x, perm)), (x.shape, perm)


@isas
@pytest.mark.parametrize("name", ["transpose_plain", "transpose"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int64, np.complex128], ids=lambda t: t.__name__)
def test_every_permutation(isa, name, dtype):
    for shape in ((), (5,), (1, 7), (3, 40), (33, 65), (2, 3, 4), (1, 5, 1), (3, 1, 50), (2, 3, 4, 5), (2, 1, 3, 1, 2)):
        x = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
        for perm in permutations(range(len(shape))):
            transpose(isa, name, x, perm)


@isas
def test_threads_share_a_transposition(isa):
    x = np.arange(8 * 70 * 9 * 50, dtype=np.float32).reshape(8, 70, 9, 50)
    for perm in ((0, 3, 1, 2), (3, 2, 1, 0), (0, 2, 1, 3), (0, 1, 3, 2)):
        for threads in (2, 3):
            transpose(isa, "transpose", x, perm, threads)


@isas
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_long_and_narrow_rectangles(isa, dtype):
    for shape in ((3, 300), (300, 3), (1, 5, 200), (15, 40), (31, 33), (2, 7, 129)):
        x = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
        for threads in (1, 2):
            transpose(isa, "transpose", x, (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2), threads)


@isas
def test_an_empty_tensor_has_nothing_to_move(isa):
    transpose(isa, "transpose", np.zeros((3, 0, 2), np.float32), (2, 0, 1))


@isas
@pytest.mark.parametrize("name", ["gather_plain", "gather"])
@pytest.mark.parametrize("width", [1, 3, 4, 8, 100])
def test_gathered_slices(isa, name, width):
    rng = np.random.default_rng(width)
    x = rng.integers(0, 256, (3, 11, width), dtype=np.uint8)
    for index in (rng.integers(-11, 11, 30), np.array([], np.int64), np.array([-11, 10])):
        y = guarded(np.zeros((3, len(index), width), np.uint8))
        for threads in (1, 2):
            assert call(SOURCE, isa, name, 3, 11, len(index), width, guarded(x), guarded(index.astype(np.int64)), y,
                        threads=threads) == 0
            assert np.array_equal(y, meanings.gather(x, index))


@isas
@pytest.mark.parametrize("bad", [11, -12, 2**62, -(2**63)])
def test_an_index_out_of_range_is_told_and_nothing_written(isa, bad):
    for name in ("gather_plain", "gather"):
        y = np.full((1, 3, 4), 7, np.uint8)
        index = np.array([0, bad, 1], np.int64)
        assert call(SOURCE, isa, name, 1, 11, 3, 4, np.zeros((1, 11, 4), np.uint8), index, y, threads=1) == -1
        assert np.all(y == 7)


@isas
@pytest.mark.parametrize("name", ["gemm_u32", "gemm_u64"])
@pytest.mark.parametrize("plain", [0, 1])
def test_products_of_whole_numbers(isa, name, plain):
    rng = np.random.default_rng(4)
    dtype = {"u32": np.int32, "u64": np.int64}[name[-3:]]
    for seed in range(25):
        M, N, K = (int(2 ** rng.uniform(0, 5 if plain else 7.2)) for _ in range(3))
        K = 0 if seed == 7 else K
        batch, threads, layout = int(rng.integers(1, 4)), int(rng.integers(1, 4)), str(rng.choice(["nn", "nt", "tn"]))

        def draw(*shape):
            info = np.iinfo(dtype)
            return rng.integers(info.min, info.max, shape, dtype, endpoint=True)

        a, b, bias_m, bias_n = draw(batch, M, K), draw(batch, K, N), draw(M), draw(N)
        stored = [guarded(v if layout[i] == "n" else v.transpose(0, 2, 1)) for i, v in enumerate((a, b))]
        rows = [(K, 1) if layout[0] == "n" else (1, M), (N, 1) if layout[1] == "n" else (1, K)]
        s = np.array([M, N, K, batch, M * K, *rows[0], K * N, *rows[1], plain], np.int64)
        c = guarded(np.zeros((batch, M, N), dtype))
        call(SOURCE, isa, name, s, *stored, guarded(bias_m), guarded(bias_n), c, threads=threads)
        with np.errstate(over="ignore"):
            expected = a @ b + bias_m[:, None] + bias_n
        assert np.array_equal(c, expected), "whole numbers wrap around alike"
