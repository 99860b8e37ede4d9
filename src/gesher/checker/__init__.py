"""Whether a model is right: everything that is wrong with it, found in one pass, each with place, rule and advice."""

from .check import check
from .rules import RULES, Rule, table

__all__ = ["RULES", "Rule", "check", "table"]
