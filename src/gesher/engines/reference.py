"""The reference engine: the evaluator behind the protocol. Slow, plain, and the oracle of all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gesher
from gesher.base.errors import UnsupportedError
from gesher.evaluator import Evaluator
from gesher.evaluator.plan import make_plans
from gesher.ir import Model

from .protocol import Engine, Options, Session


class ReferenceSession(Session):
    """Runs the reference rules node by node."""

    def __init__(self, model: Model, options: Options):
        super().__init__(model, options)
        self._evaluator = Evaluator(model, seed=options.seed or 0)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return self._evaluator.run(feeds)  # it checks them itself


def without_rules(model: Model) -> list[str]:
    """A reason where operators of a model have no reference rule. Engines of ours refuse such a model."""
    try:
        make_plans(model)
    except UnsupportedError as e:
        return [f"{e.what}: {e.advice}" if e.advice else e.what]
    return []


class ReferenceEngine(Engine):
    """Always there; runs whatever the book of operators has a reference rule for."""

    name = "reference"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return gesher.__version__

    def refuses(self, model: Model) -> list[str]:
        return without_rules(model)

    def prepare(self, model: Model, options: Options) -> Session:
        return ReferenceSession(model, options)
