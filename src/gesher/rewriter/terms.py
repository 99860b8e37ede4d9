"""The words that rules are written in: terms on either side of a rewrite read as algebra.

    op.Erf(x / 1.4142135)      in `find` a pattern, in `make` new nodes

A term of a pattern says what a value must be made by; a `Known` term stands for a value that is there, and operators
on it make nodes. `op` is ai.onnx, `ms` com.microsoft, `own` our own (`ops/own`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gesher.base.dtypes import DType
from gesher.ir import DimLike, Value

if TYPE_CHECKING:
    import numpy as np

    from .work import Work


class Term:
    """What both sides share: arithmetic."""

    __slots__ = ()

    def _apply(self, op_type: str, *operands: Any) -> Any:
        return getattr(op, op_type)(*operands)

    def __add__(self, other: Any) -> Any:
        return self._apply("Add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._apply("Add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._apply("Sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._apply("Sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._apply("Mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._apply("Mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._apply("Div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._apply("Div", other, self)

    def __pow__(self, other: Any) -> Any:
        return self._apply("Pow", self, other)

    def __matmul__(self, other: Any) -> Any:
        return self._apply("MatMul", self, other)

    def __neg__(self) -> Any:
        return self._apply("Neg", self)


class Known(Term):
    """A value of the model, as `when` and `make` see it."""

    __slots__ = ("value", "work")

    def __init__(self, work: Work, value: Value):
        self.work, self.value = work, value

    @property
    def dtype(self) -> DType:
        return self.work.dtype(self.value)

    @property
    def shape(self) -> tuple[DimLike, ...] | None:
        return self.work.shape(self.value)

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_constant(self) -> bool:
        """Whether it is the same in every run."""
        return self.work.constant_of(self.value) is not None

    @property
    def numbers(self) -> np.ndarray[Any, Any] | None:
        """The numbers of a small constant, else None."""
        return self.work.numbers(self.value)

    @property
    def scalar(self) -> Any:
        """The one number of a constant of one element, else None."""
        return self.work.scalar(self.value)

    def is_scalar(self, number: float) -> bool:
        """Whether it is a constant of one element, exactly this one (0.0 is not -0.0)."""
        x = self.scalar
        return x is not None and x == number and (x != 0 or str(x)[0] == "-" == str(number)[0] or
                                                  (str(x)[0] != "-" and str(number)[0] != "-"))

    def __repr__(self) -> str:
        return repr(self.value)


def plain(x: Any) -> Any:
    """A term's value; anything else as it is."""
    return x.value if isinstance(x, Known) else x


class Namespace:
    """The operators of a domain as functions."""

    def __init__(self, domain: str):
        self._domain = domain

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[:1].isupper():
            raise AttributeError(op_type)
        domain = self._domain

        def apply(*operands: Any, outputs: int = 1, **attributes: Any) -> Any:
            known = next((x for x in operands if isinstance(x, Known)), None)
            if known is None:
                from .patterns import Apply

                return Apply((op_type,), domain, operands, attributes)
            made = known.work.op(op_type, *operands, domain=domain, outputs=outputs, **attributes)
            return Known(known.work, made) if outputs == 1 else tuple(Known(known.work, v) for v in made)

        return apply


op = Namespace("")
ms = Namespace("com.microsoft")
own = Namespace("gesher")
