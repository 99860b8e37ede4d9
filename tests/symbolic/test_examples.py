"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import gesher.symbolic

MODULES = [module.name for module in pkgutil.iter_modules(gesher.symbolic.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(f"gesher.symbolic.{name}")
    names = {public: getattr(gesher.symbolic, public) for public in gesher.symbolic.__all__}
    names |= {"n": gesher.symbolic.sym("n")}
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert failed == 0


def test_there_are_examples():
    count = 0
    for name in MODULES:
        module = importlib.import_module(f"gesher.symbolic.{name}")
        count += sum(len(test.examples) for test in doctest.DocTestFinder().find(module))
    assert count >= 10
