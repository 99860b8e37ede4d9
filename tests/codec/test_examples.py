"""The examples in docstrings run."""

import doctest
import importlib

import pytest

MODULES = ["codec.decode", "codec.encode", "codec.wire", "codec.text.parser", "codec.text.printer",
           "codec.text.scanner", "ir.files"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_do_what_they_say(name):
    failed, tried = doctest.testmod(importlib.import_module(f"gesher.{name}"))
    assert tried and not failed
