"""What a kernel is to the compiler: operands that must lie in memory, a C struct, and a function called with it.

A kernel says which operands must lie in memory, how its struct is filled, and, where something elementwise may follow
in the same breath, which element of the result stands where in a finished tile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Sequence

from gesher.base.errors import CompileError
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike

Spell = Callable[[DimLike], str]
Point = Callable[[Expr], str]


def composite_of(e: Expr, name: str) -> Expr | None:
    """The composite of that name, where `e` is a result of one."""
    if e.prim != "item" or e.args[0].prim != "composite" or e.args[0].params["name"] != name:
        return None
    return e.args[0]


class Kernel(ABC):
    """A kernel chosen for one expression.

    Attributes:
        expr: what it computes.
        operands: the expressions that must lie in memory.
        header: the C file that has it.
        struct: the C type of its argument.
        function: what is called with the struct's address and the pool.
        scratch: the C function that tells how many numbers it needs to work in ("" for none).
        scratch_floats: how many floats such a number is.
        tiles: whether it takes an epilogue.
        columns: how many columns every tile has, where that is fixed; its rows then lie one behind the other.
        precision: what `describe` says of its products: "" for those of its type.
        can_give_half, can_take_half: whether it can write its result, and read its first operand, as bfloat16 in the
            place of float32; `gives_half` and `takes_half` then have it done.
        changes: what lies in its tiles half way, and what that becomes elementwise before it goes on; None for nothing.
        several: whether it computes all items of its bundle in one run; `also` are the others that are wanted.
        apart: whether the epilogue finds tiles in memory of the kernel's own and puts its results, of any type, where
            they belong; otherwise it works in place.
    """

    header = ""
    struct = ""
    function = ""
    scratch = ""
    scratch_floats = 1
    tiles = False
    columns: int | None = None
    several = False
    apart = False
    precision = ""
    can_give_half = False
    can_take_half = False
    changes: tuple[Expr, Expr] | None = None

    def __init__(self, expr: Expr, operands: Sequence[Expr]):
        self.expr, self.operands = expr, list(operands)
        self.also: list[Expr] = []

    @abstractmethod
    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        """The struct's fields but for the output, scratch and epilogue: names and C expressions."""

    output = "y"

    def element(self) -> str:
        """The C type of what it writes."""
        return self.expr.dtype.c

    def around(self) -> list[tuple[DimLike, dict[str, DimLike]]]:
        """Loops around the call: (extent, elements by which each pointer moves a turn)."""
        return []

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        """Which element of the result (or of `changes`) stands at row m and column n of the matrix `batch`; for kernels
        with `tiles` or `changes`."""
        raise CompileError(f"the kernel {self.function} takes no epilogue, and was asked where its tiles lie")

    def absorbs(self, end: Expr, held: Container[Expr]) -> bool:
        """Take the elementwise steps from its expression to `end` into itself, where it can; whether it did. `held` is
        what lies in memory."""
        return False

    def gives_half(self) -> None:
        """Write the result as bfloat16."""
        raise CompileError(f"the kernel {self.function} writes no bfloat16")

    def takes_half(self) -> None:
        """Read the first operand as bfloat16."""
        raise CompileError(f"the kernel {self.function} reads no bfloat16")

    def flops(self) -> DimLike | None:
        """Floating-point operations of one turn, multiplications and additions each; None where nobody counts them."""
        return None

    def describe(self) -> str:
        return self.function
