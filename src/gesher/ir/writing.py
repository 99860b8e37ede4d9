"""From the graph to messages: objects become names, and every element says where in a file it came from.

The messages say what the graph knows and nothing else. What the file said beside that (fields nobody knows, order,
explicit defaults) is not here: `codec.faithful` takes it from the file itself, by the `origin` that each message
carries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gesher.base.dtypes import STRING, UNDEFINED, DType
from gesher.base.errors import GesherError, ModelError
from gesher.codec import messages as m
from gesher.codec.external import DataFile
from gesher.symbolic import Dim, printable

from .attributes import Attribute, Kind
from .graph import Function, Graph, Model, Node, Value
from .reading import FIELD_OF, TYPED_FIELDS, KeptGraph
from .storages import ExternalStorage, RefusedStorage
from .tensor import RawStorage, SparseTensor, Tensor, TypedStorage
from .types import MapType, OpaqueType, OptionalType, SequenceType, SparseTensorType, TensorType, Type

# From this opset of ai.onnx on, this IR version. Never below 4: before, an initializer had to be an input too.
_IR_OF_OPSET = ((28, 14), (25, 13), (24, 12), (23, 11), (21, 10), (19, 9), (15, 8), (12, 7), (11, 6), (10, 5), (0, 4))
# Data types by the first IR version that has them.
_IR_OF_DTYPE = {"float8e4m3fn": 9, "float8e4m3fnuz": 9, "float8e5m2": 9, "float8e5m2fnuz": 9, "uint4": 10, "int4": 10,
                "float4e2m1": 11, "float8e8m0": 12, "uint2": 13, "int2": 13, "float6e2m3": 14, "float6e3m2": 14}


class Writer:
    """Writes one model as messages.

    Args:
        names: the name of every value, see `naming`.
        data: a data file that the large initializers are laid out in; None leaves every tensor where it is.
        threshold: initializers of at least so many bytes go into `data`.
        inline: bring what lies in data files into the message.
    """

    def __init__(self, model: Model, names: dict[Value, str], *, data: DataFile | None = None, threshold: int = 1024,
                 inline: bool = False):
        self._model = model
        self._data = data
        self._threshold = threshold
        self._inline = inline or data is not None
        self._names = names
        self._newest_type = 0

    def model(self) -> Any:
        model = self._model
        out = m.ModelProto()
        out.graph = self.graph(model.graph)
        out.functions = [self.function(f) for f in model.functions.values()]
        out.ir_version = model.ir_version or self._needed_ir_version()
        out.opset_import = _opsets(model.opsets)
        out.producer_name = model.producer_name or None
        out.producer_version = model.producer_version or None
        out.domain = model.domain or None
        out.model_version = model.model_version or None
        out.doc_string = model.doc or None
        out.metadata_props = _entries(model.metadata)
        out.training_info = list(model.training)
        out.origin = model.kept
        return out

    def _needed_ir_version(self) -> int:
        """The oldest IR version that has all that the model uses, for a model that does not say."""
        opset = max(self._model.opsets.get("", 0), 0)
        version = max(next(ir for first, ir in _IR_OF_OPSET if opset >= first), self._newest_type)
        for f in self._model.functions.values():
            version = max(version, 10 if f.overload else 9 if f.defaults else 8)
        return version

    def graph(self, graph: Graph) -> Any:
        out = m.GraphProto()
        try:
            self._graph(graph, out)
        except GesherError as e:
            raise e.within(graph.place) from None
        return out

    def _graph(self, graph: Graph, out: Any) -> None:
        kept = graph.kept if isinstance(graph.kept, KeptGraph) else None
        out.name = graph.name or "main"
        out.doc_string = graph.doc or None
        out.metadata_props = _entries(graph.metadata)
        out.input = [self._info(v, kept, kept.inputs if kept else {}) for v in graph.inputs]
        out.output = [self._info(v, kept, kept.outputs if kept else {}) for v in graph.outputs]
        dense, sparse = [], []
        for v in graph.initializers:
            t = v.constant
            if isinstance(t, Tensor):
                dense.append(self.tensor(t, self._names[v], initializer=True))
            elif t is not None:
                sparse.append(self.sparse_tensor(t, self._names[v]))
        out.initializer, out.sparse_initializer = dense, sparse
        out.node = [self.node(n) for n in graph.nodes]
        silent = {*graph.inputs, *graph.outputs, *graph.initializers}
        out.value_info = self._infos(graph, kept, silent)
        out.quantization_annotation = [m.TensorAnnotation(tensor_name=name or None,
                                                          quant_parameter_tensor_names=_entries(parameters))
                                       for name, parameters in graph.quantization]
        out.origin = (kept.source, kept.at) if kept else None

    def function(self, f: Function) -> Any:
        kept = f.kept if isinstance(f.kept, KeptGraph) else None
        out = m.FunctionProto()
        try:
            out.name, out.domain = f.name, f.domain
            out.overload, out.doc_string = f.overload or None, f.doc or None
            out.metadata_props = _entries(f.metadata)
            out.input = [self._names[v] for v in f.inputs]
            out.output = [self._names[v] for v in f.outputs]
            out.attribute = list(f.attributes)
            out.attribute_proto = [self.attribute(name, a) for name, a in f.defaults.items()]
            out.opset_import = _opsets(f.opsets)
            out.node = [self.node(n) for n in f.nodes]
            out.value_info = self._infos(f, kept, set())
            out.origin = (kept.source, kept.at) if kept else None
        except GesherError as e:
            raise e.within(f.place) from None
        return out

    # Values

    def _info(self, v: Value, kept: KeptGraph | None, places: dict[Value, int]) -> Any:
        info = self._value_info(v)
        if kept is not None and v in places:
            info.origin = (kept.source, places[v])
        return info

    def _value_info(self, v: Value) -> Any:
        return m.ValueInfoProto(name=self._names[v], type=None if v.type is None else self.type(v.type),
                                doc_string=v.doc or None, metadata_props=_entries(v.metadata))

    def _infos(self, graph: Graph, kept: KeptGraph | None, silent: set[Value]) -> list[Any]:
        """Value infos of what is not described elsewhere, and of what the file describes twice."""
        out = []

        def tell(v: Value) -> None:
            if v.kept is None and (v in silent or not (v.type is not None or v.doc or v.metadata)):
                return
            info = self._value_info(v)
            info.origin = v.kept
            out.append(info)

        for v in dict.fromkeys((*graph.inputs, *graph.initializers)):
            tell(v)
        for n in graph.nodes:
            for o in n.outputs:
                if o is not None:
                    tell(o)
        if kept is not None and kept.loose:
            used = {self._names[v] for v in (*graph.inputs, *graph.initializers)}
            used.update(self._names[o] for n in graph.nodes for o in n.outputs if o is not None)
            for info in kept.loose:
                # It spoke of nothing; it must not begin to speak of a value that was added since.
                if (info.name or "") not in used:
                    again = _copy(info)
                    again.origin = (kept.source, info.at)
                    out.append(again)
        return out

    # Nodes

    def node(self, n: Node) -> Any:
        names = self._names
        out = m.NodeProto()
        out.input = ["" if v is None else names[v] for v in n.inputs]
        out.output = ["" if v is None else names[v] for v in n.outputs]
        out.op_type = n.op_type
        out.name = n.name or None
        out.domain = n.domain or None
        out.overload = n.overload or None
        out.doc_string = n.doc or None
        if n.metadata:
            out.metadata_props = _entries(n.metadata)
        out.origin = n.kept
        if n.attributes:
            try:
                out.attribute = [self.attribute(name, a) for name, a in n.attributes.items()]
            except GesherError as e:
                raise e.within(n.place) from None
        return out

    def attribute(self, name: str, a: Attribute) -> Any:
        out = m.AttributeProto(name=name, type=int(a.kind) or None, doc_string=a.doc or None,
                               ref_attr_name=a.ref or None)
        out.origin = a.kept
        if not a.ref and a.kind is not Kind.UNDEFINED:
            try:
                if a.kind is Kind.INTS or a.kind is Kind.FLOATS:
                    value: Any = list(a.value)
                elif a.kind.is_list:
                    value = [self._plain(v) for v in a.value]
                else:
                    value = self._plain(a.value)
                setattr(out, FIELD_OF[a.kind], value)
            except GesherError as e:
                raise e.within(f"attribute '{name}'") from None
        return out

    def _plain(self, value: Any) -> Any:
        if isinstance(value, (int, float, bytes)):
            return value
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, Tensor):
            return self.tensor(value, value.name)
        if isinstance(value, Graph):
            return self.graph(value)
        if isinstance(value, SparseTensor):
            return self.sparse_tensor(value, value.name)
        if hasattr(value, "item"):
            return value.item()  # one of numpy's numbers
        return m.TypeProto() if value is None else self.type(value)

    # Tensors

    def tensor(self, t: Tensor, name: str, *, initializer: bool = False) -> Any:
        out = m.TensorProto(dims=list(t.shape), data_type=t.dtype.code or None, name=name or None,
                            doc_string=t.doc or None, metadata_props=_entries(t.metadata))
        out.origin = t.kept
        self._meet(t.dtype)
        storage = t.storage
        try:
            if isinstance(storage, RefusedStorage):
                for field in (*TYPED_FIELDS, "raw_data", "segment"):
                    setattr(out, field, getattr(storage.message, field))
            elif isinstance(storage, ExternalStorage) and not self._inline:
                _external(out, storage.data.entries)
            elif self._data is not None and initializer and t.dtype is not STRING and t.nbytes >= self._threshold:
                _external(out, self._data.add(t.raw()))
            elif isinstance(storage, RawStorage):
                # Not t.raw(), which refuses what contradicts the dims: a wrong model is written as it is.
                out.raw_data = storage.view
            elif isinstance(storage, TypedStorage):
                setattr(out, t.dtype.field, storage.values)
            elif t.dtype is STRING:
                out.string_data = [s if isinstance(s, bytes) else str(s).encode("utf-8", "surrogateescape")
                                   for s in t.numpy().reshape(-1)]
            else:
                out.raw_data = t.raw()
        except GesherError as e:
            raise e if e.place else e.within(f"tensor '{name}'") from None
        return out

    def sparse_tensor(self, s: SparseTensor, name: str) -> Any:
        out = m.SparseTensorProto(values=self.tensor(s.values, name),
                                  indices=self.tensor(s.indices, s.indices.name), dims=list(s.shape))
        out.origin = s.kept
        return out

    # Types

    def type(self, t: Type) -> Any:
        match t:
            case TensorType():
                return m.TypeProto(tensor_type=self._typed(m.TypeProtoTensor, t))
            case SparseTensorType():
                return m.TypeProto(sparse_tensor_type=self._typed(m.TypeProtoSparseTensor, t))
            case SequenceType():
                return m.TypeProto(sequence_type=m.TypeProtoSequence(elem_type=self._maybe(t.element)))
            case OptionalType():
                return m.TypeProto(optional_type=m.TypeProtoOptional(elem_type=self._maybe(t.element)))
            case MapType():
                return m.TypeProto(map_type=m.TypeProtoMap(key_type=t.key.code or None,
                                                           value_type=self._maybe(t.value)))
            case OpaqueType():
                return m.TypeProto(opaque_type=m.TypeProtoOpaque(domain=t.domain or None, name=t.name or None))
        raise ModelError(f"{t!r} is no type that ONNX has", rule="value-type")

    def _maybe(self, t: Type | None) -> Any:
        return None if t is None else self.type(t)

    def _typed(self, cls: Any, t: TensorType | SparseTensorType) -> Any:
        self._meet(t.dtype)
        shape = None
        if t.shape is not None:
            shape = m.TensorShapeProto(dim=[_dim(d) for d in t.shape])
        return cls(elem_type=None if t.dtype is UNDEFINED else t.dtype.code, shape=shape)

    def _meet(self, dtype: DType) -> None:
        newest = _IR_OF_DTYPE.get(dtype.name, 0)
        self._newest_type = max(self._newest_type, newest)


def _dim(d: Any) -> Any:
    if isinstance(d, Dim):
        # A symbol that nobody named is an unknown size; a name would be read as the same size elsewhere.
        told = printable(d) and not any(s.is_fresh for s in d.symbols())
        return m.TensorShapeProtoDimension(dim_param=str(d) if told else None)
    return m.TensorShapeProtoDimension(dim_value=None if d is None else int(d))


def _external(out: Any, entries: Iterable[tuple[str, str]]) -> None:
    out.data_location = 1
    out.external_data = [m.StringStringEntryProto(key=k, value=v) for k, v in entries]


def _entries(pairs: dict[str, str] | None) -> list[Any]:
    return [m.StringStringEntryProto(key=k, value=v) for k, v in pairs.items()] if pairs else []


def _opsets(opsets: dict[str, int]) -> list[Any]:
    return [m.OperatorSetIdProto(domain=d, version=v) for d, v in opsets.items()]


def _copy(message: Any) -> Any:
    again = type(message)()
    for f in message.fields:
        setattr(again, f.name, getattr(message, f.name))
    return again
