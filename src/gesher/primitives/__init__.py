"""The primitives: ~40 operations on whole tensors, their builder, and their meaning in numpy. Start at `expr`."""

from .builder import Builder
from .expr import CannotLower, Expr, inner, print_exprs, print_type, walk
from .interpret import evaluate
from .table import MAPS, REDUCTIONS, Map

__all__ = ["MAPS", "REDUCTIONS", "Builder", "CannotLower", "Expr", "Map", "evaluate", "inner", "print_exprs",
           "print_type", "walk"]
