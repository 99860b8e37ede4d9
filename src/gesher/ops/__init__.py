"""The book of operators: every operator once, with its versions and rules. Family files hold them.

`find` and `operators` read the book; the family files are imported when it is first opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from .fact import Fact
from .rules import InferNode, Run, infer_node, resolve, run_node
from .schema import BOOK, Attr, Input, Operator, Output, Schema, op

__all__ = ["Attr", "Fact", "InferNode", "Input", "Operator", "Output", "Run", "Schema", "find", "infer_node", "op",
           "operators", "resolve", "run_node"]

# Packages whose modules are family files; each module there registers its operators when imported.
_SHELVES = ("gesher.ops.core", "gesher.ops.ml", "gesher.ops.training", "gesher.ops.preview", "gesher.ops.contrib",
            "gesher.ops.own")
_open = False


def _open_book() -> None:
    global _open
    if _open:
        return
    _open = True  # before the imports, for family files that look operators up while they load
    try:
        for shelf in _SHELVES:
            package = import_module(shelf)
            for module in iter_modules(package.__path__):
                import_module(f"{shelf}.{module.name}")
        from importlib.metadata import entry_points

        for point in entry_points(group="gesher.operators"):
            point.load()
    except BaseException:
        _open = False
        raise


def find(domain: str, name: str) -> Operator | None:
    """The operator of that domain ("" and "ai.onnx" are the same) and name, or None."""
    _open_book()
    return BOOK.get(("" if domain == "ai.onnx" else domain, name))


def operators() -> Iterator[Operator]:
    """Every operator, by domain and name."""
    _open_book()
    for key in sorted(BOOK):
        yield BOOK[key]
