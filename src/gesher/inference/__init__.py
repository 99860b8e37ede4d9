"""What every value of a model is: types, symbolic shapes, known numbers, and why something is not known."""

from .annotate import annotate
from .driver import infer
from .facts import Facts

__all__ = ["Facts", "annotate", "infer"]
