"""Rewriting graphs: patterns, rules and the driver that applies them. The rules themselves are in `optimizer`."""

from .passes import Pass, Pipeline, Sweep
from .patterns import ANY, attr, either, maybe, one_of
from .rules import NodeRule, Rewrite, Rule, rule
from .terms import Known, ms, op, own
from .work import Refused, Work

__all__ = ["ANY", "Known", "NodeRule", "Pass", "Pipeline", "Refused", "Rewrite", "Rule", "Sweep", "Work", "attr",
           "either", "maybe", "ms", "one_of", "op", "own", "rule"]
