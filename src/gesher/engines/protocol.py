"""What an engine is: something that runs models behind one protocol.

An engine says whether it is there (`missing`), what it cannot run of a model (`refuses`), and prepares sessions. A
session takes and gives numpy arrays by name; sequences are lists, optionals None or a value, maps dictionaries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gesher.base.errors import UnsupportedError
from gesher.evaluator.feeds import Feeds
from gesher.evaluator.tables import layout_of
from gesher.ir import Model, TensorType, Type

from .asking import Asking

PRECISIONS = ("f32", "bf16")


@dataclass(frozen=True, slots=True)
class Options:
    """How a session shall run.

    Attributes:
        threads: how many at the most; 0 is every core that this process may use.
        precision: the arithmetic of float32 models: "f32" keeps to it on every engine; with "bf16" those that can
            (compiled, openvino) round what products multiply to bfloat16, for twice the speed and an error of about
            0.5 %, where the processor has instructions for it.
        seed: for the random operators of the engines that take one.
    """

    threads: int = 0
    precision: str = "f32"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnsupportedError(f"there is no precision {self.precision!r}", who="engines",
                                   advice="one of " + ", ".join(PRECISIONS))


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a session. `optional` inputs have a default in the model."""

    name: str
    type: Type | None
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.type or '?'}"


class Session(Asking):
    """A model made ready on one engine. `run` may be called from several threads, one call at a time each; it takes
    values by name or a pandas or polars frame. Models of tables can be asked as estimators are: `session.predict`."""

    def __init__(self, model: Model, options: Options):
        self._feeds = Feeds(model.graph, model.ir_version, layout_of(model))
        required = set(self._feeds.required)
        self.inputs = [Port(name, type, name not in required) for name, type in self._feeds.types.items()]
        self.outputs = [Port(v.name, v.type) for v in model.graph.outputs]
        self.options = options

    def fed(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The feeds by name, held against what the model asks for (see `evaluator.feeds`).

        Raises:
            RunError: a name is unknown or missing, or a type, rank or dim contradicts the model.
        """
        return {value.name: array for value, array in self._feeds.check(feeds).items()}

    @abstractmethod
    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, for the inputs by name.

        Raises:
            RunError: the inputs do not fit the model, or a kernel failed.
        """

    def made_of_file(self, opened: int) -> None:
        """Told once where the model is exactly what its file holds: what is kept may then go by the file's name.

        Args:
            opened: when the file was, in nanoseconds of `time.time_ns`, or earlier.
        """
        return

    def close(self) -> None:
        """Give back what the session holds. It cannot run afterwards."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class Engine(ABC):
    """Something that runs models."""

    name: str

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot run here, with what would help; None where it can."""

    @abstractmethod
    def version(self) -> str:
        """The version of what runs; asked only where nothing is missing."""

    @abstractmethod
    def refuses(self, model: Model) -> list[str]:
        """The reasons why it cannot run this model; empty where it can, or where only trying tells."""

    def read_back(self, model: Model | Path, options: Options) -> Session | None:
        """A session of this very model that was kept when it was prepared before; None where there is none.

        Args:
            model: or the file of one, which then need not be read.
        """
        return None

    @abstractmethod
    def prepare(self, model: Model, options: Options) -> Session:
        """Make the model ready.

        Raises:
            UnsupportedError: it cannot run this model.
        """


def only_tensors(model: Model, who: str) -> list[str]:
    """A reason for each input or output that is no tensor: for engines that pass only those."""
    return [f"{who} passes only tensors, '{v.name}' is {v.type}"
            for v in (*model.graph.inputs, *model.graph.outputs)
            if v.type is not None and not isinstance(v.type, TensorType)]

