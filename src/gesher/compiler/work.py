"""What one step of a compiled segment is and asks for: its shapes, its arithmetic, its bytes; for people and profiles.

What a reader would guess wrong:

- Bytes are those of the operands and results, each counted once; of a table that is looked up, what is read. What a
  kernel reads again from the cache, or an epilogue finds in registers, is not in them, so GB/s may lie above or below
  what a memory counter says.
- Operations of a product are those of its definition; a kernel that does with fewer (Winograd) shows more than the
  peak. Those of a loop nest are its elementwise steps on floats, an exponential counted as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gesher.symbolic import Dim, DimLike, bounds, evaluate

from .loops import Apply, Buffer, For, If, Index, Load, Nest, scalars
from .steps import BranchStep, KernelStep, LoopStep, NestStep, Program, Step


@dataclass(frozen=True, slots=True)
class Work:
    """A step told.

    Attributes:
        step: it.
        depth: in how many loops and branches it stands.
        kind: "kernel", "nest", "loop" or "branch".
        what: the kernel with its variant and sizes, the nest's name, or the loop's count.
        comment: what of the model it computes.
        reads, writes: the buffers, in an order that is the same in every process.
        flops: operations of one turn; None where nobody counts them.
        bytes: of one turn.
    """

    step: Step
    depth: int
    kind: str
    what: str
    comment: str
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    flops: DimLike | None
    bytes: DimLike

    def text(self, sizes: Mapping[Dim, int] | None = None) -> str:
        """One line: `kernel gemm 1 x (n,64) x (64,32): MatMul  (n,64) (64,32) -> (n,32)  [4096*n FLOP, ...]`."""
        if self.kind in ("loop", "branch"):
            return self.what
        head = f"{self.kind} {self.what}: {self.comment}"
        flops = "" if self.flops is None else f"{amount(self.flops, 'FLOP', sizes)}, "
        return f"{head}  {self.shapes(sizes)}  [{flops}{amount(self.bytes, 'B', sizes)}]"

    def shapes(self, sizes: Mapping[Dim, int] | None = None) -> str:
        """The shapes of what it reads and writes, float32 unless said."""
        return f"{' '.join(shape_text(b, sizes) for b in self.reads)} -> " \
               f"{' '.join(shape_text(b, sizes) for b in self.writes)}"


def works(program: Program) -> list[Work]:
    """Every step of a program, in the order of `program.all_steps()`."""
    return list(_works(program.steps, 0))


def _works(steps: Iterable[Step], depth: int) -> Iterator[Work]:
    for step in steps:
        yield work_of(step, depth)
        if isinstance(step, LoopStep):
            yield from _works(step.body, depth + 1)
        elif isinstance(step, BranchStep):
            yield from _works([*step.then, *step.other], depth + 1)


def work_of(step: Step, depth: int = 0) -> Work:
    """A step told."""
    reads, writes = (tuple(sorted(found, key=_order)) for found in (step.reads - step.writes, step.writes))
    flops: DimLike | None = None
    if isinstance(step, KernelStep):
        kind, what = "kernel", step.kernel.describe()
        comment = step.comment + (f", {step.tile.comment}" if step.tile is not None else "")
        flops = step.kernel.flops()
    elif isinstance(step, NestStep):
        kind, what, comment = "nest", step.nest.name, step.nest.comment
        flops = nest_flops(step.nest)
    elif isinstance(step, LoopStep):
        kind, what, comment = "loop", f"loop {step.count} times", ""
    else:
        kind, what, comment = "branch", "branch", ""
    looked_up = _looked_up(step.nest) if isinstance(step, NestStep) else {}
    moved: DimLike = 0
    for b in (*reads, *writes):
        moved = moved + looked_up.get(b, b.size) * b.dtype.numpy.itemsize
    return Work(step, depth, kind, what, without_types(comment), reads, writes, flops, moved)


_PLACES = {"input": 0, "arena": 1, "slice": 2, "weight": 3, "output": 4}


def _order(b: Buffer) -> tuple[int, int, str]:
    return _PLACES[b.place], b.slot, b.name


def _turns(nest: Nest) -> Iterator[tuple[object, DimLike]]:
    """Each statement of a nest with how often it runs, as far as loops tell; a loop that hangs on an outer one counts
    as the longest that it can be where that is a number, else once."""
    pending: list[tuple[Iterable[object], DimLike, frozenset[Dim]]] = [(nest.body, 1, frozenset())]
    while pending:
        body, turns, inside = pending.pop()
        for s in body:
            yield s, turns
            if isinstance(s, For):
                extent: DimLike = s.extent
                if isinstance(extent, Dim) and extent.symbols() & inside:
                    high = bounds(extent)[1]
                    extent = 1 if high is None else high
                pending.append((s.body, turns * extent, inside | {s.symbol}))
            elif isinstance(s, If):
                pending += [(s.then, turns, inside), (s.other, turns, inside)]


def nest_flops(nest: Nest) -> DimLike | None:
    """Elementwise steps on floats of one run of a nest; None where it has none."""
    total: DimLike = 0
    for s, turns in _turns(nest):
        total = total + turns * sum(1 for x in scalars(s) if isinstance(x, Apply) and x.dtype.is_float
                                    and x.op not in ("select", "cast", "bitcast"))
    return None if isinstance(total, int) and not total else total


def _looked_up(nest: Nest) -> dict[Buffer, DimLike]:
    """The buffers whose elements are picked by data, with how many are read: a table of words is not read whole."""
    picked: set[Dim] = set()
    found: dict[Buffer, DimLike] = {}
    statements = list(_turns(nest))
    for s, _ in statements:
        if isinstance(s, Index):
            picked.add(s.symbol)
    for s, turns in statements:
        for x in scalars(s):
            if isinstance(x, Load) and isinstance(x.index, Dim) and x.index.symbols() & picked:
                found[x.buffer] = found.get(x.buffer, 0) + turns
    return found


def number_of(size: DimLike | None, sizes: Mapping[Dim, int] | None) -> int | None:
    """A size as a number, None where it is not known."""
    if size is None or isinstance(size, int):
        return size
    if sizes is None or not size.symbols() <= sizes.keys():
        return None
    return evaluate(size, dict(sizes))


_TYPE = re.compile(r" [a-z][a-z0-9]*\(")


def without_types(comment: str) -> str:
    """A comment without the types in it, which stand behind it with all other shapes.

    >>> without_types("y = mul float(?1,(?2 + 3)//4), then z = max float(2,3)")
    'y = mul, then z = max'
    """
    out, at = "", 0
    while found := _TYPE.search(comment, at):
        end, open_ = found.end(), 1
        while open_ and end < len(comment):
            open_ += {"(": 1, ")": -1}.get(comment[end], 0)
            end += 1
        out += comment[at:found.start()]
        at = end
    return out + comment[at:]


def shape_text(b: Buffer, sizes: Mapping[Dim, int] | None = None) -> str:
    """A buffer's shape, its type before it where that is not float32.

    >>> from gesher.base.dtypes import FLOAT, INT64
    >>> shape_text(Buffer("x", FLOAT, (2, 3))), shape_text(Buffer("i", INT64, (4,)))
    ('(2,3)', 'int64(4)')
    """
    shown = [number_of(d, sizes) for d in b.shape]
    dims = ",".join(str(d if n is None else n) for d, n in zip(b.shape, shown))
    return f"{'' if b.dtype.name == 'float' else b.dtype.name}({dims})"


def amount(size: DimLike, unit: str, sizes: Mapping[Dim, int] | None = None) -> str:
    """A count with its unit in thousands, or as an expression where it is not known.

    >>> amount(1_234_567, "FLOP"), amount(12, "B")
    ('1.23 MFLOP', '12 B')
    """
    n = number_of(size, sizes)
    if n is None:
        return f"{size} {unit}"
    for scale, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= scale:
            return f"{n / scale:.3g} {prefix}{unit}"
    return f"{n} {unit}"
