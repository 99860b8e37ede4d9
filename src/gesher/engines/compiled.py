"""The compiled engine behind the protocol: C for exactly this model on this machine. Here optimizer meets compiler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gesher
from gesher.ir import Model

from .protocol import Engine, Options, Session
from .reference import without_rules

if TYPE_CHECKING:
    from gesher.compiler import session as compiler
    from gesher.rewriter.inline import Inlined


class CompiledSession(Session):
    """One model as native code; see `compiler.session`."""

    def __init__(self, model: Model, options: Options, session: compiler.CompiledSession):
        super().__init__(model, options)
        self._session = session

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return self._session.run(feeds)    # it checks them itself

    def explain(self) -> str:
        """What is compiled, and what runs by the reference rules and why."""
        return self._session.explain()

    def made_of_file(self, opened: int) -> None:
        self._session.keep_face(opened)

    def close(self) -> None:
        self._session.close()


class CompiledEngine(Engine):
    """Ours. Needs a C compiler on the machine, or the package `ziglang`, which is one."""

    name = "compiled"

    def missing(self) -> str | None:
        from gesher.compiler import toolchain

        return toolchain.missing()

    def version(self) -> str:
        from gesher.compiler import toolchain

        found = toolchain.find()
        return f"{gesher.__version__} ({found.kind} {found.version})"

    def refuses(self, model: Model) -> list[str]:
        return without_rules(model)    # what does not compile is run by them

    def read_back(self, model: Model | Path, options: Options) -> Session | None:
        from gesher.compiler import session as compiler

        found = compiler.read_back(model, compiler.Options(**_told(options)), optimised)
        return None if found is None else CompiledSession(found.model, options, found)

    def prepare(self, model: Model, options: Options) -> Session:
        return CompiledSession(model, options, compiled(model, **_told(options)))


def _told(options: Options) -> dict[str, Any]:
    return {"threads": options.threads, "seed": options.seed or 0, "precision": options.precision, "kept": True}


def compiled(model: Model, **options: Any) -> compiler.CompiledSession:
    """The optimised model, compiled; the caller closes it. Options are those of `compiler.session.Options`."""
    from gesher.compiler import session as compiler

    return compiler.compile(model, compiler.Options(**options), optimised)


def optimised(model: Model) -> Inlined:
    """What is compiled in a model's place. The optimiser is imported when it is needed: not for a kept session."""
    from gesher.optimizer import for_compiler

    return for_compiler(model)
