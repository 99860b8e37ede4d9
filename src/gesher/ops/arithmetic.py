"""How rules compute: quietly, narrow floats in float32, and rounded once at the end.

ONNX gives float16, bfloat16 and the 8-bit floats no arithmetic of their own, so a rule computes them in float32 and
rounds its result; numpy would round after every step. Infinities and NaN are answers, not faults, and warn nobody.

`consumed_inputs` of opset 1 never had a meaning; both decorators take it away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gesher.primitives import Expr


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether a numpy dtype is a float of less than 32 bits."""
    if dtype.kind in "biuOc" or dtype.itemsize > 2:
        return False
    found = dtypes.from_numpy(dtype)
    return found.is_float and found.bits < 32


def widen(x: Any) -> Any:
    """An array of narrow floats as float32; anything else as it is."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) and is_narrow(x.dtype) else x


def computed(function: Callable[..., Any], gives: Any = None) -> Callable[..., NDArray[Any]]:
    """A reference rule from a numpy function on arrays of float32 or wider.

    Args:
        function: `function(*arrays, **attributes) -> array`; a left-out input comes as None.
        gives: the numpy dtype of the result; None for the dtype of the first input.

    The rule raises RunError where numpy says that shapes do not fit.
    """

    @wraps(function)
    def rule(*inputs: Any, **attributes: Any) -> NDArray[Any]:
        attributes.pop("consumed_inputs", None)
        with np.errstate(all="ignore"):
            try:
                result = function(*map(widen, inputs), **attributes)
            except ValueError as e:
                shapes = " and ".join(str(np.shape(x)) for x in inputs if x is not None)
                raise RunError(f"inputs of shape {shapes} do not fit: {e}") from e
            return np.asarray(result).astype(inputs[0].dtype if gives is None else gives, copy=False)

    return rule


def lowered(function: Callable[..., Expr]) -> Callable[..., Expr]:
    """A lowering from one on float32 or wider: narrow floats are cast before and back after, to round once.

    A single map needs no such care, since a primitive rounds once by itself.
    """

    @wraps(function)
    def rule(p: Any, /, *inputs: Expr | None, **attributes: Any) -> Expr:
        attributes.pop("consumed_inputs", None)
        first = inputs[0]
        assert first is not None
        result = function(p, *(wide(p, x) for x in inputs), **attributes)
        narrow = first.dtype.is_float and first.dtype.bits < 32
        return p.cast(result, first.dtype) if narrow and result.dtype is dtypes.FLOAT else result

    return rule


def wide(p: Any, x: Expr | None) -> Expr | None:
    """A narrow float expression as float32; anything else as it is."""
    return p.cast(x, dtypes.FLOAT) if x is not None and x.dtype.is_float and x.dtype.bits < 32 else x


def widened(p: Any, x: Expr) -> Expr:
    """As `wide`, of an input that is given."""
    return p.cast(x, dtypes.FLOAT) if x.dtype.is_float and x.dtype.bits < 32 else x
