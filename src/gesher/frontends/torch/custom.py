"""Translators for operators that PyTorch itself does not have: those of `torch.library`, by whoever knows them.

    @gesher.translates("mylib::swap_halves")
    def _(t, x, dim):
        first, second = t.b.Split(x, axis=dim, num_outputs=2, outputs=2)
        return t.b.Concat(second, first, axis=dim)

A translator is given a `Translation` and every argument of the operator's schema in order, defaults filled in, those
that are keyword-only by name: tensors as values of the graph, sizes as numbers or symbolic dims. `t.b` makes nodes of
any operator in the book, each checked and inferred as it is made; `t.out` is PyTorch's own description of the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gesher.base.errors import UnsupportedError

# The translators are imported so that ours are there first: none of them shall take the place of what comes here.
from . import translators  # noqa: F401
from .translation import TABLE, Translator, aten

__all__ = ["translates"]

_NAME = re.compile(r"\w+::\w+(\.\w+)?")


def translates(*operators: str, replace: bool = False) -> Callable[[Translator], Translator]:
    """Register a translator for operators by name: `library::operator`, or `library::operator.overload`.

    Args:
        replace: take the place of a translator that is there already.

    Raises:
        UnsupportedError: a name is none, or the operator has a translator and `replace` is not said.
    """
    for name in operators:
        if not _NAME.fullmatch(name):
            raise UnsupportedError(f"'{name}' is no name of an operator", who="torch",
                                   advice="a name is library::operator, or library::operator.overload")
        library, _, rest = name.partition("::")
        full = f"{library}.{rest}" + ("" if "." in rest else ".default")
        if full in TABLE and not replace:
            raise UnsupportedError(f"the operator {name} has a translator already", who="torch",
                                   advice="translates(..., replace=True) takes its place")
    return aten(*operators)
