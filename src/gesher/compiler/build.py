"""From C text to a library on disk: the one place where source, compiler, processor and cache meet.

What a reader would guess wrong: the key is made from the flattened text, headers of ours included, so that an edit in
`runtime/` or `kernels/` makes new entries and no version number has to be raised by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..base import knobs
from . import cache, cpu, objects, runtime, toolchain


def build(source: str, *, isa: cpu.Isa | None = None, extra: Sequence[str] = (), own: Sequence[str] = (),
          kernels: Sequence[objects.KernelObject] = (), facts: dict[str, Any] | None = None) -> cache.Entry:
    """The cache entry of the library made from `source`, whose `#include "gs_..."` lines are resolved first.

    Args:
        isa: the instructions to build for; None: exactly those of this processor.
        extra: more flags for the compiler; `own`: yet more, for the source and not for the kernels.
        kernels: what the source calls; their headers then give types only, and their object files are linked in.
        facts: kept with the entry, JSON (`entry.facts`).

    Raises:
        CompileError: the C does not compile; UnsupportedError: there is no compiler.
    """
    text = runtime.flatten(source, objects.declared if kernels else None)
    compiler = toolchain.find()
    key = cache.key_of({
        "source": text,
        "flags": "\0".join([*compiler.flags(isa), *extra, *own]),
        "compiler": compiler.identity,
        # Code for a named instruction set is the same on every processor that has it.
        "cpu": isa.name if isa else cpu.here().key,
        "kernels": "\0".join(k.source() for k in kernels),
    })

    def make(folder: Path) -> dict[str, Any]:
        path = folder / cache.SOURCE
        path.write_text(text, encoding="utf-8")
        # The model's own file and its kernels at the same time; what the kernels lack in the cache is told.
        with ThreadPoolExecutor(1) as others:
            linked = others.submit(objects.compiled, kernels, compiler, isa, extra)
            compiler.build([path], folder / cache.LIBRARY, isa=isa, extra=[*extra, *own], linked=linked.result)
        knobs.debug(1, f"compiled {len(text.splitlines())} lines of C with {compiler.identity}")
        if knobs.DEBUG.number >= 7:
            knobs.debug(7, compiler.assembly(path, isa=isa))
        return facts or {}

    return cache.get_or_build(key, make)
