"""What an engine is: something that runs models behind one protocol.

An engine says whether it is there (`missing`), what it cannot run of a model (`refuses`), and prepares sessions. A
session takes and gives numpy arrays by name; sequences are lists, optionals None or a value, maps dictionaries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import Model, TensorType, Type


@dataclass(frozen=True, slots=True)
class Options:
    """How a session shall run.

    Attributes:
        threads: how many at the most; 0 is every core that this process may use.
        precision: the arithmetic of float32 models: "f32" keeps to it on every engine.
        seed: for the random operators of the engines that take one.
    """

    threads: int = 0
    precision: str = "f32"
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a session. `optional` inputs have a default in the model."""

    name: str
    type: Type | None
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.type or '?'}"


class Session(ABC):
    """A model made ready on one engine. `run` may be called from several threads, one call at a time each."""

    def __init__(self, model: Model, options: Options):
        self.inputs, self.outputs = ports(model)
        self.options = options

    @abstractmethod
    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, for the inputs by name.

        Raises:
            RunError: the inputs do not fit the model, or a kernel failed.
        """

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

    @abstractmethod
    def prepare(self, model: Model, options: Options) -> Session:
        """Make the model ready.

        Raises:
            UnsupportedError: it cannot run this model.
        """


def ports(model: Model) -> tuple[list[Port], list[Port]]:
    """The inputs and outputs of a model. An initializer of the same name makes an input optional."""
    graph = model.graph
    inputs = [Port(v.name, v.type, v.constant is not None) for v in graph.inputs]
    return inputs, [Port(v.name, v.type) for v in graph.outputs]


def check_feeds(inputs: Sequence[Port], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds as arrays of the declared types, in the order of the inputs.

    Plain numbers and lists become arrays of the declared type where nothing is lost; an array of another type is
    refused, not converted.

    Raises:
        RunError: a name is unknown or missing, or a type, rank or dim contradicts the model.
    """
    known = {p.name for p in inputs}
    for name in feeds:
        if name not in known:
            raise RunError(f"the model has no input '{name}'",
                           advice="its inputs are " + "; ".join(map(str, inputs)) if inputs else "it takes no inputs")
    fed: dict[str, Any] = {}
    symbols: dict[Any, tuple[int, str]] = {}
    for port in inputs:
        if port.name not in feeds:
            if port.optional:
                continue
            raise RunError(f"the input '{port.name}' is missing", advice=f"it takes {port.type or 'any value'}")
        value = feeds[port.name]
        fed[port.name] = _fit(port, value, symbols) if isinstance(port.type, TensorType) else value
    return fed


def _fit(port: Port, value: Any, symbols: dict[Any, tuple[int, str]]) -> np.ndarray[Any, Any]:
    assert isinstance(port.type, TensorType)
    want = port.type.dtype
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__array__") or want is dtypes.UNDEFINED:
            value = np.asarray(value)
        else:
            exact = np.asarray(value)
            value = exact.astype(want.numpy)
            if exact.size and exact.dtype.kind in "iufb" and want.kind in ("int", "uint", "bool") \
                    and not np.array_equal(value.astype(exact.dtype), exact):
                raise RunError(f"the input '{port.name}' takes {want.name}, the numbers given do not fit it")
    if want is not dtypes.UNDEFINED:
        try:
            have = dtypes.from_numpy(value.dtype)
        except TypeError as e:
            raise RunError(f"the input '{port.name}' takes {port.type}: {e}") from None
        if have is not want:
            raise RunError(f"the input '{port.name}' takes {want.name}, the array given is {have.name}",
                           advice=f"convert it: array.astype('{want.numpy}')")
        if want is dtypes.STRING and value.dtype.kind != "O":
            value = value.astype(object)
    shape = port.type.shape
    if shape is not None:
        if len(shape) != value.ndim:
            raise RunError(f"the input '{port.name}' takes {port.type} of rank {len(shape)}, the array given has the "
                           f"shape {value.shape}")
        for axis, (dim, size) in enumerate(zip(shape, value.shape)):
            if isinstance(dim, int):
                if dim != size:
                    raise RunError(f"the input '{port.name}' takes {port.type}, the array given has the shape "
                                   f"{value.shape}: dim {axis} must be {dim}")
            elif dim is not None and not dim.is_fresh:
                before = symbols.setdefault(dim, (size, f"dim {axis} of '{port.name}'"))
                if before[0] != size:
                    raise RunError(f"'{dim}' is {before[0]} by {before[1]}, but {size} by dim {axis} of "
                                   f"'{port.name}'", advice=f"'{port.name}' takes {port.type}")
    return value


def only_tensors(model: Model, who: str) -> list[str]:
    """A reason for each input or output that is no tensor: for engines that pass only those."""
    return [f"{who} passes only tensors, '{v.name}' is {v.type}"
            for v in (*model.graph.inputs, *model.graph.outputs)
            if v.type is not None and not isinstance(v.type, TensorType)]

