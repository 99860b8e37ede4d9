"""What a frontend is: something that turns a framework's trained object into a model that is the same function."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gesher.ir import Model


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How an object shall cross.

    Attributes:
        opset: of ai.onnx; None is the frontend's default.
        dynamic: which dims of the example are free: `{"x": {0: "batch"}}`, True for the first dim of every input,
            False for none, None for what the frontend does by itself.
        verify: hold the result against the framework before it is given out.
        names: names for inputs and outputs where the framework has none: `{"inputs": [...], "outputs": [...]}`.
        settings: what only one frontend knows (see there).
    """

    opset: int | None = None
    dynamic: Mapping[str, Mapping[int, str]] | bool | None = None
    verify: bool = True
    names: Mapping[str, list[str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assumption:
    """A condition over sizes under which a model is the same function as its source, and the line that asked for it."""

    condition: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.condition} ({self.where})" if self.where else self.condition


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of inputs, and what the framework itself answers to them, both by the model's names.

    Attributes:
        sizes: of the free dims, where there are any.
        broken: assumptions that do not hold at these sizes; where the answers agree all the same, they were harmless.
    """

    name: str
    feeds: dict[str, Any]
    answers: dict[str, Any]
    sizes: Mapping[str, int] = field(default_factory=dict)
    broken: tuple[Assumption, ...] = ()
    # Allowed differences by output, where the frontend knows better than the defaults of `evaluator.difference`.
    rtol: Mapping[str, float] = field(default_factory=dict)
    atol: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Exported:
    """A model as a frontend makes it, and the trials that it must pass.

    Attributes:
        assumptions: under which it is the same function as its source.
        locate: told a trial that fails, says in a sentence which part differs first.
        ambiguous: why the framework's answer may be one of several right ones, where it is; "" else.
    """

    model: Model
    trials: list[Trial]
    assumptions: list[Assumption] = field(default_factory=list)
    locate: Callable[[Trial], str] | None = None
    ambiguous: str = ""


def declare(model: Model, assumptions: Iterable[Assumption]) -> None:
    """Write what a model takes for granted into its metadata, as a list of conditions and lines; nothing where it is
    right at every size."""
    listed = [{"condition": a.condition, "where": a.where} for a in assumptions]
    if listed:
        model.metadata["gesher.preconditions"] = json.dumps(listed)
    else:
        model.metadata.pop("gesher.preconditions", None)


class Frontend(ABC):
    """One framework's way in."""

    name: str

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot work here; None where it can."""

    @abstractmethod
    def takes(self, obj: Any) -> bool:
        """True where `obj` is of this framework. Must not import the framework to say no."""

    @abstractmethod
    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        """Translate `obj`; `example` is what it would be called with.

        Raises:
            UnsupportedError: parts of it cannot cross; the error names all of them at once.
        """


def from_framework(obj: Any, *modules: str) -> bool:
    """True where a class that `obj` is of comes from one of these top-level modules."""
    return any(c.__module__.split(".")[0] in modules for c in type(obj).__mro__)
