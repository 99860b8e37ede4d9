"""Comparisons, which give booleans, and the logic of booleans.

Until opset 9 only floats could be ordered and only booleans and integers be equal.
"""

from __future__ import annotations

import numpy as np

from gesher.symbolic import decide_eq, decide_ge, decide_gt, decide_le, decide_lt

from ..elementwise import binary
from ..schema import BF16, BOOL, FLOATS, NUMBERS, STRING, tensors

_ORDERED = {1: FLOATS, 7: FLOATS, 9: NUMBERS, 13: NUMBERS | BF16}
_OR_EQUAL = {12: NUMBERS, 16: NUMBERS | BF16}
_EQUAL_INTS = BOOL | tensors("int32 int64")

for row in (
    # name              types                                    numpy              primitive
    ("Greater",        _ORDERED,                                np.greater,        "gt"),
    ("GreaterOrEqual", _OR_EQUAL,                               np.greater_equal,  "ge"),
    ("Less",           _ORDERED,                                np.less,           "lt"),
    ("LessOrEqual",    _OR_EQUAL,                               np.less_equal,     "le"),
    ("Equal",          {1: _EQUAL_INTS, 7: _EQUAL_INTS, 11: NUMBERS | BOOL, 13: NUMBERS | BF16 | BOOL,
                        19: NUMBERS | BF16 | BOOL | STRING},    np.equal,          "eq"),
    ("And",            {1: BOOL, 7: BOOL},                      np.logical_and,    "and_"),
    ("Or",             {1: BOOL, 7: BOOL},                      np.logical_or,     "or_"),
    ("Xor",            {1: BOOL, 7: BOOL},                      np.logical_xor,    "xor"),
):
    binary(*row, gives=BOOL, symbolic={"Greater": decide_gt, "GreaterOrEqual": decide_ge, "Less": decide_lt,
                                       "LessOrEqual": decide_le, "Equal": decide_eq}.get(row[0]))
