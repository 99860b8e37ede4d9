"""Symbolic sizes: integer expressions over dimensions that are not known yet. Start at `dim`."""

# First, since the others build on it and it ends by importing those that give Dim its operators.
from . import dim  # noqa: F401  # isort: skip

from .broadcasting import bcast
from .contradiction import Contradiction
from .decide import decide_eq, decide_ge, decide_gt, decide_le, decide_lt
from .dim import OPS, Dim, DimLike, dimlike, fresh, is_symbol, sym, walk
from .division import ceil_div, exact_div, floordiv, mod, trunc_div
from .equalities import Equalities
from .evaluation import evaluate, substitute
from .extremes import maximum, minimum
from .intervals import bounds
from .parsing import parse
from .polynomial import product, total
from .printing import printable
from .shapes import broadcast, same_shape

__all__ = ["OPS", "Contradiction", "Dim", "DimLike", "Equalities", "bcast", "bounds", "broadcast", "ceil_div",
           "decide_eq", "decide_ge", "decide_gt", "decide_le", "decide_lt", "dimlike", "evaluate", "exact_div",
           "floordiv", "fresh", "is_symbol", "maximum", "minimum", "mod", "parse", "printable", "product",
           "same_shape", "substitute", "sym", "total", "trunc_div", "walk"]
