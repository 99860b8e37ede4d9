"""The C that generated models include, and how it becomes one readable file.

A translation unit is written with `#include "gs_pool.h"`; `flatten` puts the text of our own headers in its place,
each `.h` and `.c` once, so that the compiled model is a single file that needs nothing beside a C compiler. A `.inc`
is a text that is meant to be included several times with other macros, and is put in each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import resources

from ...base.errors import CompileError

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"\s*$')
# Where an `#include "name"` is looked for: packages that hold C.
_FOLDERS = ("gesher.compiler.runtime", "gesher.compiler.kernels")


@cache
def text_of(name: str) -> str:
    """The text of one of our C files by its name.

    Raises:
        CompileError: we have no such file.
    """
    for package in _FOLDERS:
        file = resources.files(package) / name
        if "/" not in name and file.is_file():
            return file.read_text(encoding="utf-8")
    raise CompileError(f"there is no C file called {name!r} in the compiler")


@cache
def is_kernel(name: str) -> bool:
    """Whether the file `name` is one of the kernels', not of the runtime that all share."""
    return "/" not in name and not (resources.files(_FOLDERS[0]) / name).is_file()


def flatten(text: str, kernels: Callable[[str], str] | None = None) -> str:
    """`text` with each of our own headers in place of the line that includes it.

    `kernels` is what becomes of a kernel's text first; None leaves it as it is.

    >>> flatten('#include "gs_base.h"\\n#include "gs_base.h"\\n').count("typedef struct GsCall")
    1
    """
    seen: set[str] = set()

    def lines(source: str, path: tuple[str, ...]) -> list[str]:
        out: list[str] = []
        for line in source.splitlines():
            found = _INCLUDE.match(line)
            if not found:
                out.append(line)
                continue
            name = found[1]
            if name in path:
                raise CompileError(f"{name} includes itself by way of {' > '.join(path)}")
            if name not in seen or name.endswith(".inc"):
                seen.add(name)
                inner = text_of(name)
                if kernels is not None and is_kernel(name):
                    inner = kernels(inner)
                out += [f"// ---- {name}", *lines(inner, (*path, name)), ""]
        return out

    return "\n".join(lines(text, ())) + "\n"


def unit(includes: list[str], body: str) -> str:
    """One translation unit: our files `includes`, then `body`."""
    return flatten("".join(f'#include "{name}"\n' for name in includes) + body)
