"""One-node models for `bench/operators.py`: a row an operator and size, at sizes that networks have.

An input is written as type and shape ("f4 1,64,56,56": normal numbers), with bounds for whole numbers
("i8 64 0..30522"); an array is a constant, None is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Model
from gesher.ops.build import Builder


@dataclass(frozen=True)
class Row:
    """One model: the operator, its inputs, its attributes.

    Attributes:
        note: tells rows of one operator apart.
        outputs: how many the node gives.
        opset, version: of ai.onnx, and of `domain`.
    """

    op: str
    inputs: tuple[Any, ...]
    note: str = ""
    domain: str = ""
    outputs: int = 1
    opset: int = 21
    version: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        shapes = " ".join(_short(x) for x in self.inputs if isinstance(x, str))
        return " ".join(filter(None, (self.op, self.note, shapes)))

    def model(self) -> Model:
        b = Builder({"": self.opset, **({self.domain: self.version} if self.domain else {})}, self.op)
        given: list[Any] = []
        for i, x in enumerate(self.inputs):
            if isinstance(x, str):
                a = drawn(x, i)
                given.append(b.input(f"x{i}", dtypes.from_numpy(a.dtype), a.shape))
            else:
                given.append(x if x is None else b.constant(np.asarray(x)))
        made = b.op(self.op, *given, domain=self.domain, outputs=self.outputs, **self.attributes)
        for i, y in enumerate(made if isinstance(made, (list, tuple)) else [made]):
            b.output(y, f"y{i}")
        return b.model()

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{i}": drawn(x, i) for i, x in enumerate(self.inputs) if isinstance(x, str)}


def _short(text: str) -> str:
    kind, shape = text.split()[:2]
    return ("" if kind == "f4" else kind + ":") + shape.replace(",", "x")


def drawn(text: str, seed: int = 0) -> np.ndarray:
    """An array as a row writes it: "f4 2,3" normal numbers, "f4+ 2,3" positive ones, "i8 4 0..10" whole ones."""
    kind, dims, *bounds = text.split()
    shape = () if dims == "()" else tuple(int(d) for d in dims.split(","))
    rng = np.random.default_rng(seed)
    if kind == "b1":
        return rng.random(shape) < 0.5
    dtype = np.dtype(kind.rstrip("+"))
    if dtype.kind == "f":
        x = rng.standard_normal(shape)
        if bounds:
            low, high = map(float, bounds[0].split(".."))
            x = rng.uniform(low, high, shape)
        return (np.abs(x) + 0.1 if kind.endswith("+") else x).astype(dtype)
    low, high = map(int, (bounds[0] if bounds else "0..100").split(".."))
    return rng.integers(low, high, shape).astype(dtype)


def row(op: str, *inputs: Any, note: str = "", domain: str = "", outputs: int = 1, opset: int = 21,
        version: int = 1, more: dict[str, Any] | None = None, **attributes: Any) -> Row:
    """A row with its attributes by keyword; `more` holds those whose names mean something else here."""
    return Row(op, inputs, note, domain, outputs, opset, version, {**attributes, **(more or {})})


from .rows import ROWS as _ROWS  # noqa: E402  (they are made of `row`)
from .types import TYPED  # noqa: E402

ROWS: tuple[Row, ...] = (*_ROWS, *TYPED)

__all__ = ["ROWS", "Row", "drawn", "row"]
