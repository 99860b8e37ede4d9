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
from gesher.primitives import Builder, Expr
from gesher.symbolic import product

from .kernels.packing import ALIGNMENT, aligned_room


class Packed:
    """A constant's numbers, to be made from those of others.

    Attributes:
        how: what is done with them, with everything that it hangs on: ("panels", 48).
        sources: the constants that it is made from, as an expression holds them (arrays, tensors, or packed ones).
    """

    __slots__ = ("__weakref__", "_array", "_make", "dtype", "how", "name", "shape", "sources")

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
            made = self.made()
            if made.shape != self.shape or made.dtype != self.dtype.numpy:
                raise CompileError(f"packing {self.how} gave {made.dtype}{list(made.shape)}, "
                                   f"{self.dtype.name}{list(self.shape)} was promised")
            self._array = aligned(made)
        return self._array

    def made(self) -> np.ndarray:
        """What the packing gives, perhaps a view of its sources in any order; nothing is kept."""
        return self._make(*map(seen, self.sources)) if self._array is None else self._array

    def __repr__(self) -> str:
        return f"<packed {self.how} {self.dtype.name}{list(self.shape)}>"


def aligned(x: np.ndarray) -> np.ndarray:
    """The array C-contiguous from a multiple of 64 bytes on, itself where it is."""
    if x.flags.c_contiguous and x.ctypes.data % ALIGNMENT == 0:
        return x
    out = aligned_room(x.shape, x.dtype)
    np.copyto(out, x)
    return out


def array_of(value: Any) -> np.ndarray:
    """The numbers that a constant expression's `params["value"]` stands for."""
    return value if isinstance(value, np.ndarray) else value.numpy()


def seen(value: Any) -> np.ndarray:
    """As `array_of`, to read once: what is only moved is a view then, and not kept."""
    return value.made() if isinstance(value, Packed) and value.how[0] == _MOVED else array_of(value)


# Constants in other order or shape: `how` begins with this.
_MOVED = "moved"
# Bytes of a constant from which on moving it is put off until a kernel wants the numbers so.
_LARGE = 1 << 14


def moved(p: Builder, e: Expr) -> Expr | None:
    """A reshaped, transposed or sliced constant as a packed one, where it is large: a kernel may have it in another
    layout, and would find an order that nobody wants."""
    size = product(e.shape)
    shape = tuple(d for d in e.shape if isinstance(d, int))
    if not isinstance(size, int) or size * e.dtype.numpy.itemsize < _LARGE:
        return None
    if e.prim == "transpose":
        perm = e.params["perm"]
        return packed((_MOVED, "transpose", perm), e.args, e.dtype, shape, lambda x: x.transpose(perm))
    if e.prim == "reshape":
        return packed((_MOVED, "reshape", shape), e.args, e.dtype, shape, lambda x: x.reshape(shape))
    starts, stops, steps = (e.params[k] for k in ("starts", "stops", "steps"))
    if any(not isinstance(d, int) for part in (starts, stops, steps) for d in part):
        return None
    at = tuple(slice(a, None if s < 0 and b < 0 else b, s) for a, b, s in zip(starts, stops, steps))
    return packed((_MOVED, "slice", starts, stops, steps), e.args, e.dtype, shape, lambda x: x[at])


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
