"""The oracle: models run by the reference rules of their operators, slowly and plainly."""

from .evaluator import Evaluator, run_node

__all__ = ["Evaluator", "run_node"]
