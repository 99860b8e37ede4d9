"""What this machine can do at the most: multiplications in registers, and bytes from memory. Measured, not looked up.

`here(threads)` is the answer of loops of our own, made by the compiler that makes the models: products of float32
summed into registers alone, products of bytes into int32 where the processor has an instruction for it, and reading
memory that no cache holds. Measured once for a processor and kept in the cache folder.

What a reader would guess wrong: the best of many short bursts is taken, since other work on the machine can only make
a burst slower; and a convolution done with fewer multiplications (Winograd) may show more than 100 % of this peak,
because operations are counted as the definition has them.
"""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from gesher.base import knobs

from . import cpu
from .build import build
from .library import Library
from .private import existing_folder, private_folder

_SOURCE = r"""
#include "gs_base.h"
#if defined(__AVX512VNNI__) || defined(__AVX512BF16__)
#include <immintrin.h>
#endif

typedef float lanes __attribute__((vector_size(GS_W * 4), aligned(4)));
typedef float wide __attribute__((vector_size(64), aligned(4)));

// Enough sums that none waits for the one before: latency 4 or 5, two units.
#define SUMS(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)

GS_EXPORT double gs_peak_fma(int64_t turns, float seed) {
  lanes a = (lanes){0} + seed, b = (lanes){0} + (1.0f - seed);
#define MAKE(i) lanes s##i = a + (float)i;
  SUMS(MAKE)
  for (int64_t t = 0; t < turns; t++) {
// The empty statement keeps each sum in its register and the loop from being thought away.
#define STEP(i) s##i = s##i * a + b; __asm__ volatile("" : "+" GS_PEAK_REG (s##i));
    SUMS(STEP)
  }
  lanes all = a;
#define JOIN(i) all += s##i;
  SUMS(JOIN)
  double sum = 0;
  for (int i = 0; i < GS_W; i++) sum += all[i];
  return sum;
}

// Multiplications of bytes done, 0 where there is no instruction for them.
GS_EXPORT int64_t gs_peak_i8(int64_t turns) {
#if defined(__AVX512VNNI__)
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
#define MAKE8(i) __m512i q##i = _mm512_set1_epi32(i);
#define STEP8(i) q##i = _mm512_dpbusd_epi32(q##i, a, b); __asm__ volatile("" : "+v"(q##i));
  SUMS(MAKE8)
  for (int64_t t = 0; t < turns; t++) { SUMS(STEP8) }
  return turns * 12 * 64;
#else
  return 0;
#endif
}

// Multiplications of bfloat16 done, 0 where there is no instruction for them.
GS_EXPORT int64_t gs_peak_bf16(int64_t turns) {
#if defined(__AVX512BF16__)
  __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f00), b = (__m512bh)_mm512_set1_epi16(0x3e80);
#define MAKE16(i) __m512 p##i = _mm512_set1_ps(i);
#define STEP16(i) p##i = _mm512_dpbf16_ps(p##i, a, b); __asm__ volatile("" : "+v"(p##i));
  SUMS(MAKE16)
  for (int64_t t = 0; t < turns; t++) { SUMS(STEP16) }
  return turns * 12 * 32;
#else
  return 0;
#endif
}

GS_EXPORT double gs_peak_read(const float* from, int64_t n) {
  wide a = {0}, b = {0}, c = {0}, d = {0};
  for (int64_t i = 0; i + 64 <= n; i += 64) {
    a += *(const wide*)(from + i), b += *(const wide*)(from + i + 16);
    c += *(const wide*)(from + i + 32), d += *(const wide*)(from + i + 48);
  }
  a += b + c + d;
  double sum = 0;
  for (int i = 0; i < 16; i++) sum += a[i];
  return sum;
}
"""
# The register class of a vector in an empty assembler statement.
_REGISTER = {"x86_64": '"x"', "aarch64": '"w"'}
_SUMS, _TURNS, _BURSTS = 12, 400_000, 40
_READ_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Peak:
    """Peaks of so many threads.

    Attributes:
        flops: float32 multiplications and additions a second.
        int8: multiplications and additions of bytes a second; 0 where the processor has no instruction for them.
        bytes: bytes a second read from memory.
        bf16: multiplications and additions of bfloat16 a second, summed in float32; 0 where there is no instruction.
    """

    threads: int
    flops: float
    int8: float
    bytes: float
    bf16: float = 0.0


def here(threads: int = 1) -> Peak:
    """The peak of `threads` threads on this processor: from the cache folder, or measured now (half a second)."""
    threads = max(1, min(threads, cpu.allowed_cores()))
    name = f"{cpu.here().key}-{threads}-bf16.json"
    folder = existing_folder("peaks")
    if folder is not None:
        try:
            return Peak(**json.loads((folder / name).read_text()))
        except (OSError, ValueError, TypeError):
            knobs.debug(1, f"the peaks in {folder / name} cannot be read; they are measured again")
    found = measure(threads)
    folder = private_folder("peaks")
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as out:
        json.dump(asdict(found), out)
    os.replace(out.name, folder / name)
    return found


def measure(threads: int) -> Peak:
    """The peak of `threads` threads, measured now.

    Raises:
        UnsupportedError: there is no C compiler.
    """
    register = _REGISTER.get(cpu.here().arch, '"m"')
    entry = build(f"#define GS_PEAK_REG {register}\n{_SOURCE}")
    library = Library(entry.library)
    try:
        fma = library.function("gs_peak_fma", ctypes.c_double, ctypes.c_int64, ctypes.c_float)
        product8 = library.function("gs_peak_i8", ctypes.c_int64, ctypes.c_int64)
        read = library.function("gs_peak_read", ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)
        work = np.ones(_READ_BYTES // 4, np.float32)    # larger than any cache, and its pages are there
        share = work.size // threads
        flops = 2.0 * _SUMS * cpu.here().isa.width * _TURNS
        product16 = library.function("gs_peak_bf16", ctypes.c_int64, ctypes.c_int64)
        int8, bf16 = (2.0 * f(1) * _TURNS for f in (product8, product16))
        return Peak(threads, _rate(lambda i: fma(_TURNS, 0.5), threads, flops, _BURSTS),
                    _rate(lambda i: product8(_TURNS), threads, int8, _BURSTS) if int8 else 0.0,
                    _rate(lambda i: read(work[i * share:].ctypes.data, share), threads, 4.0 * share, _BURSTS // 4),
                    _rate(lambda i: product16(_TURNS), threads, bf16, _BURSTS) if bf16 else 0.0)
    finally:
        library.close()


def _rate(burst: Callable[[int], object], threads: int, work: float, bursts: int) -> float:
    """Work a second of all threads together, each doing `work` a burst; the best burst counts."""
    best = float("inf")
    gate = threading.Barrier(threads)

    def turns(i: int) -> None:
        nonlocal best
        for _ in range(bursts):
            gate.wait()
            start = time.perf_counter()
            burst(i)
            gate.wait()
            if i == 0:
                best = min(best, time.perf_counter() - start)

    others = [threading.Thread(target=turns, args=(i,)) for i in range(1, threads)]
    for t in others:
        t.start()
    turns(0)
    for t in others:
        t.join()
    return threads * work / best
