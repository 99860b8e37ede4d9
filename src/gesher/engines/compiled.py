"""The compiled engine behind the protocol: C for exactly this model on this machine. Here optimizer meets compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gesher
from gesher.ir import Model

from .protocol import Engine, Options, Session
from .reference import without_rules


class CompiledSession(Session):
    """One model as native code; see `compiler.session`."""

    def __init__(self, model: Model, options: Options):
        from gesher.compiler import session as compiler
        from gesher.optimizer import for_compiler

        super().__init__(model, options)
        self._session = compiler.compile(model, compiler.Options(threads=options.threads, seed=options.seed or 0),
                                         for_compiler(model))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return self._session.run(feeds)    # it checks them itself

    def explain(self) -> str:
        """What is compiled, and what runs by the reference rules and why."""
        return self._session.explain()

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

    def prepare(self, model: Model, options: Options) -> Session:
        return CompiledSession(model, options)


def explain(model: Model) -> str:
    """What the compiler makes of a model, as text for people."""
    with CompiledSession(model, Options()) as session:
        return session.explain()
