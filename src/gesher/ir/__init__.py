"""The graph level: values, nodes, graphs, tensors, types, attributes, and the one place that edits them."""

from .attributes import Attribute, Kind, attribute
from .edit import Edit, Step
from .graph import Function, Graph, Model, Node, Value
from .tensor import ArrayStorage, LazyStorage, RawStorage, SparseTensor, Storage, Tensor, TypedStorage
from .types import (
    DimLike,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
    print_shape,
)

__all__ = [
    "ArrayStorage", "Attribute", "DimLike", "Edit", "Function", "Graph", "Kind", "LazyStorage", "MapType", "Model",
    "Node", "OpaqueType", "OptionalType", "RawStorage", "SequenceType", "Shape", "SparseTensor", "SparseTensorType",
    "Step", "Storage", "Tensor", "TensorType", "Type", "TypedStorage", "Value", "attribute", "print_shape",
]
