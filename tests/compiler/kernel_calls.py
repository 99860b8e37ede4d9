"""How the kernel tests reach C: flat functions over numpy arrays, in memory that ends where the array ends."""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache

import numpy as np

from gesher.compiler import cpu
from gesher.compiler.build import build
from gesher.compiler.library import Library, Pool

ISAS = cpu.here().isas()
# More flags for the compiler, to run all kernels' tests under a sanitizer that stops at the first finding:
# GESHER_CC=gcc GESHER_TEST_CFLAGS="-fsanitize=undefined -fsanitize-undefined-trap-on-error"
FLAGS = tuple(os.environ.get("GESHER_TEST_CFLAGS", "").split())
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None)

# What may follow a product: marks each element with its place, so that a rectangle left out or visited twice shows.
FOLLOW = """
static void follow(void* context, float* c, int64_t ldc, int64_t batch, int64_t m, int64_t n, int64_t rows,
                   int64_t cols) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      c[i * ldc + j] = c[i * ldc + j] * 2 + (float)(batch * 100 + (m + i) * 10 + n + j);
}
"""


@cache
def library(source: str, isa: cpu.Isa) -> Library:
    return Library(build(source, isa=isa, extra=FLAGS).library)


@cache
def pool(source: str, isa: cpu.Isa, threads: int) -> Pool:
    return Pool(library(source, isa), threads)


def guarded(array):
    """A copy of `array` that ends at a page which may not be touched: reading one element too far ends the process.

    None stays None.
    """
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    pages = (array.nbytes + _PAGE - 1) // _PAGE + 1
    memory = mmap.mmap(-1, pages * _PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.mprotect(ctypes.c_void_p(base + (pages - 1) * _PAGE), ctypes.c_size_t(_PAGE), 0):
        raise OSError("a page cannot be protected on this system")
    start = (pages - 1) * _PAGE - array.nbytes
    out = np.frombuffer(memory, array.dtype, array.size, offset=start).reshape(array.shape)
    out[...] = array
    return out


def call(source: str, isa: cpu.Isa, name: str, *arguments, threads: int = 0, result=ctypes.c_int64):
    """Call `name`: arrays go as pointers (None: NULL), ints as int64_t, floats as float; first a pool if `threads`."""
    values = [ctypes.c_void_p(pool(source, isa, threads).address)] if threads else []
    for a in arguments:
        if a is None:
            values.append(ctypes.c_void_p(None))
        elif isinstance(a, np.ndarray):
            assert a.flags.c_contiguous
            values.append(ctypes.c_void_p(a.ctypes.data))
        elif isinstance(a, float):
            values.append(ctypes.c_float(a))
        else:
            values.append(ctypes.c_int64(a))
    return library(source, isa).function(name, result, *[type(v) for v in values])(*values)


def scratch(count: int) -> np.ndarray:
    """`count` floats, 64-byte aligned, ending (up to alignment) at a forbidden page, filled with NaN."""
    return guarded(np.full((max(count, 1) + 15) // 16 * 16, np.nan, np.float32))


def close(actual: np.ndarray, expected: np.ndarray, terms: int) -> None:
    """Assert float sums of `terms` products equal up to rounding: sqrt(terms) units of the largest, not per element."""
    scale = max(float(np.max(np.abs(expected), initial=0)), 1e-30)
    worst = float(np.max(np.abs(actual - expected), initial=0)) / scale
    assert np.all(np.isfinite(actual)) and worst <= 6e-7 * max(terms, 1) ** 0.5, (worst, terms, actual.shape)
