"""Constants laid out anew for a kernel: the numbers are made when they are first wanted, not when they are matched.

A kernel says how (`how`, a few words that tell one layout from another) and makes an expression with `packed`; the same
constant packed in the same way is the same expression, so that two kernels share it. What a reader would guess wrong:
nothing is computed while a model is matched and planned. A session that finds its weights in the cache never asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base.dtypes import DType
from gesher.base.errors import CompileError
from gesher.primitives import Expr

ALIGNMENT = 64


class Packed:
    """A constant's numbers, to be made from those of others.

    Attributes:
        how: what is done with them, with everything that it hangs on: ("panels", 48).
        sources: the constants that it is made from, as an expression holds them (arrays, tensors, or packed ones).
    """

    __slots__ = ("_array", "_make", "dtype", "how", "name", "shape", "sources")

    def __init__(self, how: tuple[Any, ...], sources: Sequence[Any], dtype: DType, shape: tuple[int, ...],
                 make: Callable[..., np.ndarray], name: str = ""):
        self.how, self.sources, self.dtype, self.shape, self.name = how, tuple(sources), dtype, shape, name
        self._make = make
        self._array: np.ndarray | None = None

    def numpy(self) -> np.ndarray:
        """The numbers, C-contiguous and aligned to 64 bytes; made once.

        Raises:
            CompileError: what was made is not of the type or shape that was promised.
        """
        if self._array is None:
            made = aligned(self._make(*map(array_of, self.sources)))
            if made.shape != self.shape or made.dtype != self.dtype.numpy:
                raise CompileError(f"packing {self.how} gave {made.dtype}{list(made.shape)}, "
                                   f"{self.dtype.name}{list(self.shape)} was promised")
            self._array = made
        return self._array

    def __repr__(self) -> str:
        return f"<packed {self.how} {self.dtype.name}{list(self.shape)}>"


def aligned(x: np.ndarray) -> np.ndarray:
    """The array C-contiguous from a multiple of 64 bytes on, itself where it is: a vector that lies across two lines
    of the cache takes twice as long to read.
    """
    if x.flags.c_contiguous and x.ctypes.data % ALIGNMENT == 0:
        return x
    room = np.empty(x.nbytes + ALIGNMENT, np.uint8)
    at = -room.ctypes.data % ALIGNMENT
    made = room[at:at + x.nbytes].view(x.dtype).reshape(x.shape)
    made[...] = x
    return made


def array_of(value: Any) -> np.ndarray:
    """The numbers that a constant expression's `params["value"]` stands for."""
    return value if isinstance(value, np.ndarray) else value.numpy()


def packed(how: tuple[Any, ...], sources: Sequence[Expr], dtype: DType, shape: Sequence[int],
           make: Callable[..., np.ndarray]) -> Expr:
    """A constant made from other constants.

    Args:
        how: tells this packing from every other of the same sources; hashable.
        sources: constant expressions.
        dtype, shape: of what `make` gives.
        make: takes the sources' arrays.
    """
    builder = sources[0].builder
    key = ("packed", how, tuple(sources))
    found = builder.derived.get(key)
    if found is None:
        value = Packed(how, [s.params["value"] for s in sources], dtype, tuple(shape), make, sources[0].name)
        found = builder.derived[key] = builder.make("constant", (), {"value": value}, dtype, value.shape)
        found.name = found.name or sources[0].name
    made: Expr = found
    return made
