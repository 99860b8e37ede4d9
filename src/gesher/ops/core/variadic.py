"""Maps of any number of tensors: Max, Min, Sum, Mean. From opset 8 on they broadcast; NaN wins in Max and Min."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from gesher.symbolic import maximum, minimum

from ..elementwise import variadic
from ..schema import BF16, FLOATS, NUMBERS

_EXTREMES = {1: FLOATS, 6: FLOATS, 8: FLOATS, 12: NUMBERS, 13: NUMBERS | BF16}
_SUMS = {1: FLOATS, 6: FLOATS, 8: FLOATS, 13: FLOATS | BF16}


def _mean(*xs: Any) -> Any:
    return reduce(np.add, xs) / xs[0].dtype.type(len(xs))


for row in (
    # name   output  types       numpy                                primitives
    ("Max",  "max",  _EXTREMES, lambda *xs: reduce(np.maximum, xs), lambda p, *xs: reduce(p.max, xs)),
    ("Min",  "min",  _EXTREMES, lambda *xs: reduce(np.minimum, xs), lambda p, *xs: reduce(p.min, xs)),
    ("Sum",  "sum",  _SUMS,     lambda *xs: reduce(np.add, xs),     lambda p, *xs: reduce(p.add, xs)),
    ("Mean", "mean", _SUMS,     _mean,                              lambda p, *xs: reduce(p.add, xs) / len(xs)),
):
    variadic(*row, symbolic={"Max": maximum, "Min": minimum}.get(row[0]))
