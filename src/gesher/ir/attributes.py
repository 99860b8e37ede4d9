"""Attributes of nodes: a kind and a value.

The kind stays beside the value because an empty list does not tell whether it holds ints or floats, and because
`axis: 1` and `axis: 1.0` are different attributes. A `REF` attribute inside a function body stands for the attribute
of the calling node that its value names.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


class Kind(IntEnum):
    """`AttributeProto.AttributeType`, with ONNX's numbers."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE = 13
    TYPES = 14

    @property
    def is_list(self) -> bool:
        return self.name.endswith("S")


class Attribute:
    """One attribute.

    Attributes:
        kind: what the value is.
        value: float, int, str (bytes where the file's string is not UTF-8), Tensor, Graph, SparseTensor, Type, or a
            tuple of those for the list kinds.
        ref: the name of the calling node's attribute that this one stands for, or "" (only inside functions).
        doc: the doc string.
        kept: what the file said that the IR has no word for; rules never read it.
    """

    __slots__ = ("doc", "kept", "kind", "ref", "value")

    def __init__(self, kind: Kind, value: Any, *, ref: str = "", doc: str = "", kept: Any = None):
        self.kind, self.value, self.ref, self.doc, self.kept = kind, value, ref, doc, kept

    def __repr__(self) -> str:
        return f"@{self.ref}" if self.ref else repr(self.value)


AttributeValue = "float | int | str | bytes | Tensor | Graph | SparseTensor | Type | tuple[Any, ...]"


def attribute(value: Any) -> Attribute:
    """Make an attribute from a plain Python value, guessing its kind.

    Numpy arrays become tensors; an empty list has no kind to guess and is refused (`Attribute(Kind.INTS, ())`).

    >>> attribute([1, 2]).kind.name, attribute(0.5).kind.name, attribute("same").kind.name
    ('INTS', 'FLOAT', 'STRING')
    """
    from .graph import Graph
    from .tensor import SparseTensor, Tensor
    from .types import MapType, OpaqueType, OptionalType, SequenceType, SparseTensorType, TensorType

    if isinstance(value, Attribute):
        return value

    def one(v: Any) -> tuple[Kind, Any]:
        if isinstance(v, (bool, int)):
            return Kind.INT, int(v)
        if isinstance(v, float):
            return Kind.FLOAT, v
        if isinstance(v, (str, bytes)):
            return Kind.STRING, v
        if isinstance(v, Tensor):
            return Kind.TENSOR, v
        if isinstance(v, Graph):
            return Kind.GRAPH, v
        if isinstance(v, SparseTensor):
            return Kind.SPARSE_TENSOR, v
        if isinstance(v, (TensorType, SparseTensorType, SequenceType, OptionalType, MapType, OpaqueType)):
            return Kind.TYPE, v
        import numpy as np

        if isinstance(v, np.generic):
            return one(v.item())
        if isinstance(v, np.ndarray):
            return Kind.TENSOR, Tensor.of(v)
        raise TypeError(f"an attribute cannot hold a {type(v).__name__}")

    if isinstance(value, (list, tuple)):
        if not value:
            raise TypeError("an empty list does not tell its kind; write Attribute(Kind.INTS, ()) or the like")
        pairs = [one(v) for v in value]
        kinds = {k for k, _ in pairs}
        if kinds == {Kind.INT, Kind.FLOAT}:
            kinds = {Kind.FLOAT}
            pairs = [(Kind.FLOAT, float(v)) for _, v in pairs]
        if len(kinds) != 1:
            raise TypeError(f"a list attribute holds one kind, not {sorted(k.name for k in kinds)}")
        return Attribute(_LIST_OF[kinds.pop()], tuple(v for _, v in pairs))
    return Attribute(*one(value))


_LIST_OF: dict[Kind, Kind] = {
    Kind.FLOAT: Kind.FLOATS, Kind.INT: Kind.INTS, Kind.STRING: Kind.STRINGS, Kind.TENSOR: Kind.TENSORS,
    Kind.GRAPH: Kind.GRAPHS, Kind.SPARSE_TENSOR: Kind.SPARSE_TENSORS, Kind.TYPE: Kind.TYPES,
}
