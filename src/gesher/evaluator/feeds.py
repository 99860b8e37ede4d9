"""Whether what a caller feeds is what the model asks for: names, types, ranks, sizes.

Python numbers and lists take the declared type; an array must have it already, for a silent cast would hide a mistake.
Symbols must have one size in all inputs that name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.inference.declared import Declarations
from gesher.ir import (
    DimLike,
    Graph,
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
    Value,
    print_shape,
)
from gesher.symbolic import Dim, evaluate

from .plan import read_only
from .tables import NO_LAYOUT, Layout, feeds_of, is_table


class Feeds:
    """Checks what is fed to one graph.

    Args:
        layout: what the model tells about the frames that may be fed (`tables.layout_of`).
    """

    def __init__(self, graph: Graph, ir_version: int, layout: Layout = NO_LAYOUT):
        self.layout = layout
        declarations = Declarations()
        self.types: dict[str, Type | None] = {}
        self.required: list[str] = []
        self.values: dict[str, Value] = {}
        for value in graph.inputs:
            # Before IR version 4 initializers had to be listed as inputs, and were constants all the same.
            if value.constant is not None and ir_version < 4:
                continue
            self.values[value.name] = value
            self.types[value.name] = declarations.of_input(value.type, value.name, lambda what, advice: None)
            if value.constant is None:
                self.required.append(value.name)

    def check(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        """What to run on: arrays that rules cannot write to, lists, None for an empty optional.

        Args:
            feeds: values by name, or a pandas or polars frame whose columns are taken by name.

        Raises:
            RunError: naming the input, what was expected and what was given.
        """
        if is_table(feeds):
            feeds = feeds_of(feeds, self.types, self.required, self.layout)
        for name in feeds:
            if name not in self.values:
                raise RunError(f"the model has no input '{name}'", advice=self._inputs())
        missing = [n for n in self.required if n not in feeds]
        if missing:
            raise RunError(f"nothing is fed for the input{'s' if len(missing) > 1 else ''} "
                           f"{', '.join(repr(n) for n in missing)}", advice=self._inputs())
        sizes: dict[Dim, tuple[int, str]] = {}
        late: list[tuple[str, int, int, Dim]] = []
        taken = {self.values[name]: self._taken(name, self.types[name], value, sizes, late)
                 for name, value in feeds.items()}
        known = {s: n for s, (n, _) in sizes.items()}
        for name, axis, size, dim in late:
            if dim.symbols() <= known.keys() and evaluate(dim, known) != size:
                raise RunError(f"the input '{name}' has size {size} in dim {axis}, where the model wants {dim} = "
                               f"{evaluate(dim, known)}", advice=self._inputs())
        return taken

    def _inputs(self) -> str:
        listed = ", ".join(f"{n}: {t if t is not None else '?'}" for n, t in self.types.items())
        return f"the model's inputs are {listed}" if listed else "the model has no inputs"

    def _taken(self, name: str, type: Type | None, value: Any, sizes: dict[Dim, tuple[int, str]],
               late: list[tuple[str, int, int, Dim]]) -> Any:
        if isinstance(type, OptionalType):
            return None if value is None else self._taken(name, type.element, value, sizes, late)
        if value is None:
            raise RunError(f"the input '{name}' is fed None, and it is not optional", advice=self._inputs())
        if isinstance(type, SequenceType):
            if not isinstance(value, (list, tuple)):
                raise RunError(f"the input '{name}' is a sequence: feed a list, not a {_class(value)}")
            # Each element of a sequence may have a shape of its own.
            return [self._taken(f"{name}[{i}]", type.element, v, {}, []) for i, v in enumerate(value)]
        if isinstance(type, MapType):
            if not isinstance(value, dict):
                raise RunError(f"the input '{name}' is a map: feed a dict, not a {_class(value)}")
            return value
        dtype, shape = (type.dtype, type.shape) if isinstance(type, (TensorType, SparseTensorType)) else (None, None)
        if type is None and isinstance(value, (list, dict)):
            return value
        array = self._array(name, dtype, value)
        if shape is None:
            return read_only(array)
        if array.ndim != len(shape):
            raise RunError(f"the input '{name}' has {array.ndim} dims, {print_shape(array.shape)}, where the model "
                           f"wants {len(shape)}, {print_shape(shape)}")
        for axis, (size, dim) in enumerate(zip(array.shape, shape)):
            self._check_size(name, axis, size, dim, array, shape, sizes, late)
        return read_only(array)

    def _check_size(self, name: str, axis: int, size: int, dim: DimLike | None, array: np.ndarray[Any, Any],
                    shape: Sequence[DimLike | None], sizes: dict[Dim, tuple[int, str]],
                    late: list[tuple[str, int, int, Dim]]) -> None:
        if dim is None:
            return
        if isinstance(dim, int):
            if dim != size:
                raise RunError(f"the input '{name}' has the shape {print_shape(array.shape)}, where the model wants "
                               f"{print_shape(tuple(shape))}: dim {axis} is {size}, not {dim}")
        elif dim.op == "sym":
            known = sizes.setdefault(dim, (size, f"dim {axis} of '{name}'"))
            if known[0] != size:
                raise RunError(f"the input '{name}' has size {size} in dim {axis}, but '{dim}' is {known[0]} by "
                               f"{known[1]}", advice="sizes of one name must agree in all inputs")
        else:
            late.append((name, axis, size, dim))

    def _array(self, name: str, dtype: DType | None, value: Any) -> np.ndarray[Any, Any]:
        if dtype is None or dtype is dtypes.UNDEFINED:
            return _strings(np.asarray(value))
        if dtype is dtypes.STRING:
            array = _strings(np.asarray(value))
            if array.dtype != object:
                raise RunError(f"the input '{name}' is {array.dtype}, where the model wants strings")
            return array
        plain = not hasattr(value, "dtype")
        try:
            array = np.asarray(value, dtype.numpy) if plain else np.asarray(value)
        except (TypeError, ValueError, OverflowError) as e:
            raise RunError(f"the input '{name}' cannot be made an array of {dtype.name}: {e}") from e
        if array.dtype.newbyteorder("=") != dtype.numpy:
            raise RunError(f"the input '{name}' is {array.dtype}, where the model wants {dtype.name}",
                           advice=f"convert it first: {name}.astype('{dtype.numpy_name}')")
        return array if array.dtype.isnative else array.astype(dtype.numpy)


def _strings(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(object) if array.dtype.kind in "UST" else array


def _class(value: Any) -> str:
    return value.__class__.__name__


def unknown_names(names: Iterable[str], known: Mapping[str, Any]) -> list[str]:
    """Those of `names` that are not known, each once."""
    return [n for n in dict.fromkeys(names) if n not in known]
