"""A node for operators in every version that ONNX's own cases leave out, and who says what it must give.

The tables lie in `rows_of_*.py`. A row: operator, its arrays, its attributes, the versions in which the row holds
(all, unless told), and the answer: a function of the arrays where a few lines of numpy say it, else ONNX Runtime's.

What a reader would guess wrong: ONNX Runtime begins at opset 7, and lacks some old versions. It is then asked for the
nearest version whose meaning is marked in the book as unchanged, without attributes that mean nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.ops.single_node import Case

from gesher import ops
from gesher.ops import Operator

ML = "ai.onnx.ml"
FIRST_OF_ONNXRUNTIME = 7
Want = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """One line of the table. `since` and `until` bound the versions; `atol` is for sums in another order."""

    op: str
    inputs: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    since: int = 1
    until: int = 1000
    want: Want | None = None
    outputs: int | list[bool] = 1
    domain: str = ""
    rtol: float = 1e-5
    atol: float = 1e-6

    @property
    def operator(self) -> Operator:
        found = ops.find(self.domain, self.op)
        assert found is not None, self.op
        return found

    def versions(self) -> list[int]:
        """The versions that the row holds in."""
        return [s.version for s in self.operator.versions if self.since <= s.version <= self.until]

    def case(self, version: int) -> Versioned:
        """The node in one version."""
        attributes = {k: v for k, v in self.attributes.items() if k in self._schema(version).attributes}
        return Versioned(self.op, version, self.inputs, attributes, self.outputs, domain=self.domain)

    def _schema(self, version: int) -> Any:
        return next(s for s in self.operator.versions if s.version == version)

    def answers(self, version: int) -> list[Any]:
        """What the node must give in this version.

        Raises:
            LookupError: nobody can say it: the row needs a `want`.
        """
        if self.want is not None:
            made = self.want(*self.case(version).inputs)
            return list(made) if isinstance(made, tuple) else [made]
        why = []
        for opset in self._askable(version):
            try:
                return self.case(version).at(opset).onnxruntime()
            except Exception as e:    # it has no kernel for that version; the last reason is told
                why.append(f"opset {opset}: {e}")
        raise LookupError(f"{self.op} in version {version} needs a `want`: {why or 'before opset 7 only'}")

    def _askable(self, version: int) -> Iterator[int]:
        """Opsets of ONNX Runtime in which the node means the same: the version's own, later ones, earlier ones."""
        versions = self.operator.versions
        at = next(i for i, s in enumerate(versions) if s.version == version)
        same = [at]
        for i in range(at + 1, len(versions)):
            if versions[i].behaviour:
                break
            same.append(i)
        for i in range(at, 0, -1):
            if versions[i].behaviour:
                break
            same.append(i - 1)
        for i in same:
            first = 1 if self.domain else FIRST_OF_ONNXRUNTIME
            if i + 1 == len(versions) or versions[i + 1].version > first:
                yield max(versions[i].version, first)


@dataclass
class Versioned(Case):
    """A case whose `opset` is that of its own domain."""

    @property
    def opsets(self) -> dict[str, int]:
        return {"": 17, self.domain: self.opset} if self.domain else {"": self.opset}

    def at(self, opset: int) -> Case:
        """The same node in another opset, without attributes that are unknown there."""
        operator = ops.find(self.domain, self.op)
        schema = operator.schema(opset) if operator is not None else None
        assert schema is not None
        attributes = {k: v for k, v in self.attributes.items() if k in schema.attributes}
        return Versioned(self.op, opset, self.inputs, attributes, self.outputs, domain=self.domain)


def f32(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def i64(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def words(*values: str) -> np.ndarray:
    return np.array(values, object)


def drawn(*shape: int, low: float = -2, high: float = 2) -> np.ndarray:
    """Numbers in float32, the same for the same shape and bounds."""
    return np.random.default_rng([*shape, int(low + 100)]).uniform(low, high, shape).astype(np.float32)


def exactly(f: Want) -> Want:
    """A function of numpy computed in float64 and rounded once."""
    return lambda *xs: np.asarray(f(*(x.astype(np.float64) for x in xs))).astype(xs[0].dtype)
