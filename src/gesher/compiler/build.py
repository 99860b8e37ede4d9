"""From C text to a library on disk: the one place where source, compiler, processor and cache meet.

What a reader would guess wrong: the key is made from the flattened text, headers of ours included, so that an edit in
`runtime/` or `kernels/` makes new entries and no version number has to be raised by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..base import knobs
from . import cache, cpu, objects, runtime, toolchain


def build(source: str, *, isa: cpu.Isa | None = None, extra: Sequence[str] = (),
          kernels: Sequence[objects.KernelObject] = (),
          weights: Callable[[BinaryIO], None] | None = None, weights_key: str = "",
          facts: dict[str, Any] | None = None, progress: toolchain.Progress | None = None) -> cache.Entry:
    """The cache entry of the library made from `source`, whose `#include "gs_..."` lines are resolved first.

    Args:
        isa: the instructions to build for; None: exactly those of this processor.
        extra: more flags for the compiler.
        kernels: what the source calls; their headers then give types only, and their object files are linked in.
        weights: writes the packed weights to an open file; called only when the entry is made.
        weights_key: a digest of what `weights` will write (for example the model's weights and the way of packing).
        facts: kept with the entry, JSON (`entry.facts`).

    Raises:
        CompileError: the C does not compile; UnsupportedError: there is no compiler.
    """
    text = runtime.flatten(source, objects.declared if kernels else None)
    compiler = toolchain.find()
    key = cache.key_of({
        "source": text,
        "flags": "\0".join([*compiler.flags(isa), *extra]),
        "compiler": compiler.identity,
        # Code for a named instruction set is the same on every processor that has it.
        "cpu": isa.name if isa else cpu.here().key,
        "weights": weights_key,
        "kernels": "\0".join(k.source() for k in kernels),
    })

    def make(folder: Path) -> dict[str, Any]:
        path = folder / cache.SOURCE
        path.write_text(text, encoding="utf-8")
        if weights is not None:
            with open(folder / cache.WEIGHTS, "wb") as out:
                weights(out)
        linked = objects.compiled(kernels, compiler, isa, extra)
        compiler.build([path], folder / cache.LIBRARY, isa=isa, extra=extra, progress=progress, linked=linked)
        knobs.debug(1, f"compiled {len(text.splitlines())} lines of C with {compiler.identity}")
        if knobs.DEBUG.number >= 7:
            knobs.debug(7, compiler.assembly(path, isa=isa))
        return facts or {}

    return cache.get_or_build(key, make)
