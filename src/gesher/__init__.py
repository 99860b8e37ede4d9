"""Gesher: machine-learning models cross from any framework to any machine in one language, ONNX.

    import gesher

    model = gesher.load("model.onnx")
    gesher.check(model).raise_errors()
    session = gesher.session(model)                  # the fastest engine at hand
    answers = session.run({"x": x})

Importing this imports no framework, no engine and no compiler; each comes when a verb first needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gesher.api import check, compare, export, infer, load, save, session, to_torch
    from gesher.base.errors import (
        CompileError,
        FormatError,
        GesherError,
        ModelError,
        RunError,
        UnsupportedError,
    )
    from gesher.base.report import Finding, Report
    from gesher.frontends.torch.custom import translates
    from gesher.ir import Model

__version__ = "0.1.0"

# Where each public name lives; looked up when it is first asked for.
_HOMES = {
    **dict.fromkeys(("check", "compare", "export", "infer", "load", "save", "session", "to_torch"),
                    "gesher.api"),
    "translates": "gesher.frontends.torch.custom",
    **dict.fromkeys(("CompileError", "FormatError", "GesherError", "ModelError", "RunError", "UnsupportedError"),
                    "gesher.base.errors"),
    **dict.fromkeys(("Finding", "Report"), "gesher.base.report"),
    "Model": "gesher.ir",
}

__all__ = [
    "CompileError", "Finding", "FormatError", "GesherError", "Model", "ModelError", "Report", "RunError",
    "UnsupportedError", "__version__", "check", "compare", "export", "infer", "load", "save", "session", "to_torch",
    "translates",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gesher' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
