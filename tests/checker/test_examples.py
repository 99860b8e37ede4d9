"""The examples in the docstrings of checker, inference, evaluator and builder run."""

import doctest
from importlib import import_module

import pytest

MODULES = [
    "gesher.checker.check", "gesher.evaluator.evaluator", "gesher.inference.annotate", "gesher.inference.driver",
    "gesher.inference.facts", "gesher.ops.build", "gesher.ops.releases", "gesher.ops.writing",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed
