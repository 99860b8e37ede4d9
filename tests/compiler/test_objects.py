"""Kernels compiled by themselves: what a model needs of a header, and that object files are made once."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.compiler import cache, cpu, objects, runtime, toolchain
from gesher.compiler.kernels import KERNELS
from gesher.compiler.objects import KernelObject, declared

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def test_functions_and_variables_go_and_types_stay():
    text = """
// typedef struct { int a; } in_a_comment;
#define TWICE(x) \\
  ((x) * 2)
typedef struct Pair { int64_t a, b; char sign; } Pair;
enum { RED, GREEN };
GS_MAKE(Pair)
static const char* const brace = "}{";
static int (*const table[2])(Pair*) = {first, second};
GS_INLINE int first(Pair* p) {
#ifdef WIDE
  if (p->a) { return '{'; }
#endif
  return TWICE(p->b);
}
typedef void (*Then)(void* context);
"""
    assert declared(text).split("\n") == [
        "#define TWICE(x) \\", "  ((x) * 2)", "typedef struct Pair { int64_t a, b; char sign; } Pair;",
        "enum { RED, GREEN };", "typedef void (*Then)(void* context);"]


def test_every_header_gives_its_types_alone(tmp_path):
    # One file with all headers' types and none of their bodies.
    text = "".join(f'#include "{h}"\n' for h in dict.fromkeys(k.file for k in KERNELS))
    whole, types = runtime.flatten(text), runtime.flatten(text, declared)
    assert len(types) < 0.6 * len(whole)
    structs = set(__import__("re").findall(r"^\} (Gs\w+);", whole, __import__("re").MULTILINE))
    sizes = "".join(f"_Static_assert(sizeof({s}) > 0, \"\");\n" for s in sorted(structs))
    (tmp_path / "types.c").write_text(types + sizes)
    toolchain.find().compile(tmp_path / "types.c", tmp_path / "types.o", extra=["-fopenmp-simd"])


def test_an_object_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv("GESHER_CACHE", str(tmp_path / "cache"))
    kernel = KernelObject("gs_move.h", "GsTranspose", "gs_transpose")
    compiler = toolchain.find()
    first = objects.compiled([kernel, kernel], compiler, None, [])
    assert len(first) == 1 and first[0].name == cache.KERNEL
    monkeypatch.setattr(toolchain.Toolchain, "compile", lambda *a, **k: pytest.fail("compiled again"))
    assert objects.compiled([kernel], compiler, None, []) == first
    assert np.frombuffer(first[0].read_bytes()[:4], np.uint8).size == 4 and cpu.here().isa
