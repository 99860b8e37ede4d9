"""Kernels as object files: each compiled by itself, once for a processor, and linked into every model that calls it.

A model's own C then has the types of the kernels that it calls and their prototypes, and compiles in a fraction of the
time. What a reader would guess wrong: a kernel's header is one text with its bodies; what a model needs of it is cut
out by `declared`, which keeps types, constants and macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache as cache_results
from pathlib import Path
from typing import Any

from gesher.base import progress

from . import cache, cpu, runtime, toolchain


@dataclass(frozen=True, slots=True)
class KernelObject:
    """One function of a kernel's header, with the one that tells its scratch ("" for none)."""

    header: str
    struct: str
    function: str
    scratch: str = ""

    def prototypes(self) -> list[str]:
        """C declarations for whoever calls it."""
        found = [f"void {self.function}(const {self.struct}*, GsPool*)"]
        if self.scratch:
            found.append(f"int64_t {self.scratch}(const {self.struct}*, int)")
        return [f"GS_HIDDEN {p};" for p in found]

    def source(self) -> str:
        """The C file of this function alone: the header, and the names under which it is called."""
        return _source(self)

    def _source(self) -> str:
        names = [self.function, *([self.scratch] if self.scratch else [])]
        lines = ["#define GS_KERNEL_ALONE"]
        lines += [f"#define {n} {n}_static" for n in names]
        lines.append(f'#include "{self.header}"')
        lines += [f"#undef {n}" for n in names]
        # Weak: two functions may share the one that tells their scratch.
        weak = "__attribute__((weak)) GS_HIDDEN"
        lines.append(f"{weak} void {self.function}(const {self.struct}* v, GsPool* pool) "
                     f"{{ {self.function}_static(v, pool); }}")
        if self.scratch:
            lines.append(f"{weak} int64_t {self.scratch}(const {self.struct}* v, int threads) "
                         f"{{ return {self.scratch}_static(v, threads); }}")
        return runtime.flatten("\n".join(lines) + "\n")


# Hundreds of kernels' texts are asked for by the keys of a session's models.
_source = cache_results(KernelObject._source)


def compiled(wanted: Iterable[KernelObject], compiler: toolchain.Toolchain, isa: cpu.Isa | None,
             extra: Sequence[str]) -> list[Path]:
    """The object files of these kernels, from the cache or made now, several at a time.

    Raises:
        CompileError: one does not compile.
    """
    names = list(dict.fromkeys(wanted))
    done = 0

    def one(kernel: KernelObject) -> Path:
        nonlocal done
        found = of(kernel)
        done += 1
        # The model's own file is one part more.
        progress.tell("compiling", done, len(names) + 1)
        return found

    def of(kernel: KernelObject) -> Path:
        source = kernel.source()
        key = cache.key_of({
            "source": source, "flags": "\0".join([*compiler.flags(isa), *extra]), "compiler": compiler.identity,
            "cpu": isa.name if isa else cpu.here().key,
        })

        def make(folder: Path) -> dict[str, Any]:
            path = folder / cache.KERNEL_SOURCE
            path.write_text(source, encoding="utf-8")
            compiler.compile(path, folder / cache.KERNEL, isa=isa, extra=extra)
            return {"function": kernel.function}

        return cache.get_or_build(key, make, cache.KERNELS).kernel

    with ThreadPoolExecutor(max(1, cpu.allowed_cores())) as pool:
        return list(pool.map(one, names))


# ---- what a caller needs of a header

_DIRECTIVE = re.compile(r"[ \t]*#")
_INVOCATION = re.compile(r"[A-Z_][A-Z0-9_]*\(.*\)\s*$")
_TYPE = re.compile(r"\s*(typedef|enum|struct|union)\b")
# Strings and characters, and comments: what is in them is no code.
_LITERAL = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_SKIPPED = re.compile(r"//[^\n]*|/\*.*?\*/|" + _LITERAL.pattern, re.DOTALL)


def declared(text: str) -> str:
    """C without its functions and variables: types, constants and preprocessor lines stay, comments go.

    >>> print(declared("typedef struct { int a; } S;  // one\\n#define N 2\\nstatic int f(S* s) { return s->a; }\\n"))
    typedef struct { int a; } S;
    #define N 2
    """
    kept: list[str] = []
    for chunk in _chunks(_SKIPPED.sub(lambda m: m[0] if m[0][0] in "\"'" else " ", text)):
        if _DIRECTIVE.match(chunk) or _TYPE.match(chunk):
            kept.append(chunk.strip())
    return "\n".join(kept)


def _chunks(text: str) -> Iterator[str]:
    """The text in directives, declarations and definitions of the outermost level."""
    chunk, depth = "", 0
    lines = iter(text.split("\n"))
    for line in lines:
        if _DIRECTIVE.match(line):
            while line.endswith("\\"):
                line += "\n" + next(lines, "")
            if depth:
                chunk += line + "\n"
            else:
                yield line
            continue
        if not depth and not chunk.strip() and _INVOCATION.match(line):
            continue    # a macro that makes functions
        start = 0
        for m in re.finditer(r"[{};]", _LITERAL.sub(lambda m: " " * len(m[0]), line)):
            if m[0] == "{":
                depth += 1
                continue
            depth -= m[0] == "}"
            piece = chunk + line[start:m.end()]
            body = m[0] == "}" and not _TYPE.match(piece) and not _is_table(piece)
            if depth == 0 and (m[0] == ";" or body):
                yield piece
                chunk, start = "", m.end()
        chunk += line[start:] + "\n"


def _is_table(piece: str) -> bool:
    """Whether a piece that ends in a brace is the value of a variable: it has a `=` before its first brace."""
    return "=" in piece.split("{", 1)[0]
