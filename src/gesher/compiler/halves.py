"""Pictures that rounded products alone read, kept as bfloat16: half the bytes, and the same numbers as rounding later.

A pass over the steps of a program, after everything else is decided. What a reader would guess wrong: only what each
and every reader rounds is kept so; a residual that is also added stays float32.
"""

from __future__ import annotations

from gesher.base.dtypes import BFLOAT16, FLOAT

from . import target
from .kernel import Kernel
from .loops import Buffer
from .steps import KernelStep, Program, Step


def keep_halves(program: Program) -> None:
    """Make the buffers bfloat16 that their kernels can write so and that nobody reads otherwise, where precision says
    so."""
    if not target.bf16():
        return
    writers: dict[Buffer, list[Step]] = {}
    readers: dict[Buffer, list[Step]] = {}
    shared = {b for p in program.pointers for b in p.over}
    for step in program.all_steps():
        for b in step.writes:
            writers.setdefault(b, []).append(step)
        for b in step.reads:
            readers.setdefault(b, []).append(step)
    for b in program.buffers:
        made, read = writers.get(b, []), readers.get(b, [])
        if b.dtype is FLOAT and b.place == "arena" and b not in shared and len(made) == 1 and read \
                and _gives(made[0], b) and all(_taker(step, b) is not None for step in read):
            b.dtype = BFLOAT16
            for step in made:
                assert isinstance(step, KernelStep)
                step.kernel.gives_half()
            for step in read:
                taker = _taker(step, b)
                assert taker is not None
                taker.takes_half()


def _gives(step: Step, b: Buffer) -> bool:
    return isinstance(step, KernelStep) and step.result is b and step.tile is None and step.kernel.can_give_half \
        and b not in step.reads


def _taker(step: Step, b: Buffer) -> Kernel | None:
    """The kernel of a step that reads `b` as what it takes halves of, and as nothing else."""
    if not isinstance(step, KernelStep) or (step.tile is not None and b in step.reads - set(step.pointers.values())):
        return None
    as_operand = [e for e, p in step.pointers.items() if p is b]
    kernel = step.kernel
    return kernel if kernel.can_take_half and as_operand == kernel.operands[:1] \
        and kernel.operands.count(as_operand[0]) == 1 else None
