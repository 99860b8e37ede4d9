"""From messages to the graph: names become objects, use lists are filled, bytes stay where they are.

A name means what stands under it at the point of reading: in the own graph first, then in the graphs around it. A wrong
model is read as far as a graph can show it, so that the checker can tell all that is wrong at once: a name that nothing
makes is a `Value` without producer and owner, one that is made twice is two values, nodes may stand in any order. What
a graph cannot show (two attributes of one name, an attribute that contradicts its type) is refused here.

Every element keeps the place in the file that it came from (`kept`), which is how saving finds the file's own bytes.
This is the hot path of opening a model, so it writes objects' slots itself instead of calling their constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gesher.base.dtypes import BY_CODE, STRING, UNDEFINED, DType
from gesher.base.errors import ModelError
from gesher.codec.external import ExternalData, Folder
from gesher.codec.messages import Message
from gesher.codec.wire import Source
from gesher.symbolic import parse

from .attributes import Attribute, Kind
from .graph import Function, Graph, Model, Node, Value
from .storages import ExternalStorage, RefusedStorage
from .tensor import RawStorage, SparseTensor, Storage, Tensor, TypedStorage
from .types import (
    DimLike,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

_new = object.__new__

# The field of AttributeProto that holds a kind's value.
FIELD_OF: dict[Kind, str] = {
    Kind.FLOAT: "f", Kind.INT: "i", Kind.STRING: "s", Kind.TENSOR: "t", Kind.GRAPH: "g",
    Kind.SPARSE_TENSOR: "sparse_tensor", Kind.TYPE: "tp", Kind.FLOATS: "floats", Kind.INTS: "ints",
    Kind.STRINGS: "strings", Kind.TENSORS: "tensors", Kind.GRAPHS: "graphs",
    Kind.SPARSE_TENSORS: "sparse_tensors", Kind.TYPES: "type_protos",
}
_KINDS: dict[int | None, Kind] = {int(k): k for k in Kind if k}
TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_EXTERNAL = 1  # TensorProto.DataLocation
# The domain of ONNX's own operators has two names, and none is the third.
_PLAIN_DOMAIN: dict[str | None, str] = {None: "", "ai.onnx": ""}


class KeptGraph:
    """What a graph keeps of its file.

    Attributes:
        source, at: where its message lies.
        inputs, outputs: where the value infos of its inputs and outputs lie, by value.
        loose: value infos for names that no value has.
    """

    __slots__ = ("at", "inputs", "loose", "outputs", "source")

    def __init__(self, source: Source | None, at: int):
        self.source, self.at = source, at
        self.inputs: dict[Value, int] = {}
        self.outputs: dict[Value, int] = {}
        self.loose: list[Message] = []


class _Scope:
    """The names of one graph. `pending` are those that were read before anything made them."""

    __slots__ = ("infos", "names", "outer", "pending")

    def __init__(self, outer: _Scope | None, infos: Iterable[Any]):
        self.names: dict[str, Value] = {}
        self.pending: dict[str, Value] = {}
        self.outer = outer
        self.infos: dict[str, Any] = {v.name or "": v for v in infos}

    def find(self, name: str) -> Value | None:
        """The value of a name, waiting for one where there is none yet; None for the empty name."""
        if not name:
            return None
        scope: _Scope | None = self
        while scope is not None:
            found = scope.names.get(name) or scope.pending.get(name)
            if found is not None:
                return found
            scope = scope.outer
        made = self.pending[name] = Value(name)
        return made

    def close(self) -> None:
        """Whatever is still waited for may come from the graph around this one."""
        if self.outer is not None:
            self.outer.pending.update(self.pending)


class Reader:
    """Reads the messages of one source (None: made in memory) into a graph; external data lies in `folder`."""

    def __init__(self, source: Source | None, folder: Folder | None):
        self.source = source
        self.folder = folder
        self._types: dict[Any, TensorType | SparseTensorType] = {}
        # Value infos of equal types share one message, see codec.decode.
        self._type_of: dict[Message, Type | None] = {}

    def model(self, m: Any, path: Path | None) -> Model:
        graph = Graph()
        if m.graph is not None:
            self.graph(m.graph, None, graph)
        functions: dict[tuple[str, str, str], Function] = {}
        for f in m.functions:
            function = self.function(f)
            if function.key in functions:
                raise ModelError(f"the model defines {function.place} twice", rule="duplicate-function")
            functions[function.key] = function
        model = Model(graph, opsets=_opsets(m.opset_import), ir_version=m.ir_version or 0,
                      functions=functions.values(), producer_name=m.producer_name or "",
                      producer_version=m.producer_version or "", domain=m.domain or "",
                      model_version=m.model_version or 0, doc=m.doc_string or "",
                      metadata=_metadata(m.metadata_props), path=path)
        model.training = list(m.training_info)
        model.kept = (self.source, m.at)
        return model

    def graph(self, g: Any, outer: _Scope | None, graph: Graph) -> Graph:
        """Read `g` into `graph`, which is empty."""
        graph.name, graph.doc, graph.metadata = g.name or "", g.doc_string or "", _metadata(g.metadata_props)
        try:
            self._graph(g, outer, graph)
        except ModelError as e:
            raise e.within(graph.place) from None
        return graph

    def _graph(self, g: Any, outer: _Scope | None, graph: Graph) -> None:
        kept = graph.kept = KeptGraph(self.source, g.at)
        scope = _Scope(outer, g.value_info)
        for info in g.input:
            v = self._value(info.name or "", scope)
            self._take_info(v, info)
            kept.inputs[v] = info.at
            v.owner = graph
            graph.inputs.append(v)
        for t in g.initializer:
            self._initializer(self.tensor(t), graph, scope)
        for t in g.sparse_initializer:
            self._initializer(self.sparse_tensor(t), graph, scope)
        self._nodes(g.node, graph, scope)
        for info in g.output:
            found = scope.find(info.name or "") or Value()
            if found.graph is graph or found.type is None:
                self._take_info(found, info)
            kept.outputs.setdefault(found, info.at)
            graph.add_output(found)
        for a in g.quantization_annotation:
            graph.quantization.append((a.tensor_name or "", _metadata(a.quant_parameter_tensor_names) or {}))
        kept.loose = list(scope.infos.values())
        scope.close()

    def function(self, f: Any) -> Function:
        function = Function(f.domain or "", f.name or "", overload=f.overload or "", attributes=f.attribute)
        function.doc, function.metadata = f.doc_string or "", _metadata(f.metadata_props)
        try:
            function.opsets = _opsets(f.opset_import)
            kept = function.kept = KeptGraph(self.source, f.at)
            scope = _Scope(None, f.value_info)
            function.defaults = self.attributes(f.attribute_proto, scope, None)
            for name in f.input:
                v = self._value(name, scope)
                v.owner = function
                function.inputs.append(v)
            self._nodes(f.node, function, scope)
            for name in f.output:
                function.add_output(scope.find(name) or Value())
            kept.loose = list(scope.infos.values())
        except ModelError as e:
            raise e.within(function.place) from None
        return function

    # Values

    def _value(self, name: str, scope: _Scope) -> Value:
        """A new value, or the one that was waited for, known under its name from now on."""
        v = (scope.pending.pop(name, None) if scope.pending else None) or Value(name)
        if scope.infos:
            info = scope.infos.pop(name, None)
            if info is not None:
                self._take_info(v, info)
                v.kept = (self.source, info.at)
        if name:
            scope.names[name] = v
        return v

    def _take_info(self, v: Value, info: Any) -> None:
        if info.type is not None:
            if info.type in self._type_of:
                v.type = self._type_of[info.type] or v.type
            else:
                found = self._type_of[info.type] = self.type(info.type)
                v.type = found or v.type
        if info.doc_string:
            v.doc = info.doc_string
        if info.metadata_props:
            v.metadata = _metadata(info.metadata_props)

    def _initializer(self, t: Tensor | SparseTensor, graph: Graph, scope: _Scope) -> None:
        name = t.name
        v = scope.names.get(name) if name else None
        # A default of an input is that input's constant; a second initializer of a name is a value of its own.
        if v is None or v.constant is not None:
            v = self._value(name, scope)
            v.owner = graph
            v.type = None
        v.constant = t
        if v.type is None:
            dense = isinstance(t, Tensor)
            v.type = self._tensor_type(dense, t.dtype if isinstance(t, Tensor) else t.values.dtype, t.shape)
        graph.initializers[v] = None

    # Nodes

    def _nodes(self, protos: Iterable[Any], graph: Graph, scope: _Scope) -> None:
        source, names, pending, infos = self.source, scope.names, scope.pending, scope.infos
        get, find = names.get, scope.find
        last = graph.last
        count = 0
        p: Any = None
        try:
            for p in protos:
                n = _new(Node)
                n.op_type = p.op_type or ""
                domain = p.domain
                n.domain = _PLAIN_DOMAIN.get(domain, domain) if domain != "" else ""
                n.overload = p.overload or ""
                n.name = p.name or ""
                n.doc = p.doc_string or ""
                n.metadata = _metadata(p.metadata_props) if p.metadata_props else None
                n.kept = (source, p.at)
                inputs = []
                for name in p.input:
                    v = get(name)
                    if v is None:
                        v = find(name)
                    inputs.append(v)
                    if v is not None:
                        uses = v.uses
                        uses[n] = uses[n] + 1 if n in uses else 1
                n.inputs = tuple(inputs)
                n.attributes = self.attributes(p.attribute, scope, n) if p.attribute else {}
                outputs: list[Value | None] = []
                for name in p.output:
                    if not name:
                        outputs.append(None)
                        continue
                    if pending or infos:
                        v = self._value(name, scope)
                    else:
                        v = _new(Value)
                        v.name = name
                        v.type = v.constant = v.owner = v.metadata = v.kept = None
                        v.doc = ""
                        v.uses = {}
                        names[name] = v
                    v.producer = n
                    outputs.append(v)
                n.outputs = tuple(outputs)
                n.graph = graph
                n.prev = last
                n.next = None
                if last is None:
                    graph.first = n
                else:
                    last.next = n
                last = n
                count += 1
        except ModelError as e:
            op = f"{p.domain}.{p.op_type}" if p.domain else p.op_type
            made = f"node '{p.name}'" if p.name else f"node that makes '{', '.join(p.output)}'"
            raise e.within(f"{made} ({op})") from None
        graph.last = last
        graph._count += count

    def attributes(self, protos: Sequence[Any], scope: _Scope, node: Node | None) -> dict[str, Attribute]:
        """The attributes of a node (or the defaults of a function), by name."""
        found: dict[str, Attribute] = {}
        source = self.source
        for p in protos:
            a = _new(Attribute)
            a.ref = p.ref_attr_name or ""
            a.doc = p.doc_string or ""
            a.kept = (source, p.at)
            kind = _KINDS.get(p.type)
            if kind is Kind.INTS and not a.ref and p.ints:
                a.kind, a.value = kind, tuple(p.ints)
            elif kind is Kind.INT and not a.ref and p.i is not None:
                a.kind, a.value = kind, p.i
            else:
                try:
                    a.kind, a.value = self._attribute(p, kind, a.ref, scope, node)
                except ModelError as e:
                    raise e.within(f"attribute '{p.name or ''}'") from None
            name = p.name or ""
            if name in found:
                raise ModelError(f"the attribute '{name}' is written twice", rule="duplicate-attribute")
            found[name] = a
        return found

    def _attribute(self, p: Any, kind: Kind | None, ref: str, scope: _Scope, node: Node | None) -> tuple[Kind, Any]:
        if kind is None:
            if p.type:
                raise ModelError(f"{p.type} is no type of attribute that ONNX has", rule="attribute-type")
            # Before IR version 2 the type was not written; the value tells.
            present = [k for k, field in FIELD_OF.items() if getattr(p, field) not in (None, ())]
            if len(present) > 1:
                raise ModelError("it has values of several types and does not say which", rule="attribute-type")
            if ref or not present:
                return Kind.UNDEFINED, None
            kind = present[0]
        if ref:
            return kind, None
        raw = getattr(p, FIELD_OF[kind])
        if raw is None or (kind.is_list and not raw):
            others = [field for k, field in FIELD_OF.items() if k is not kind and getattr(p, field) not in (None, ())]
            if others:
                raise ModelError(f"its type is {kind.name}, but its value is in '{others[0]}'", rule="attribute-type")
        match kind:
            case Kind.INT:
                return kind, raw or 0
            case Kind.FLOAT:
                # A writer may leave out a zero; a written -0.0 stays.
                return kind, 0.0 if raw is None else raw
            case Kind.STRING:
                return kind, _text(raw or b"")
            case Kind.INTS | Kind.FLOATS:
                return kind, tuple(raw)
            case Kind.STRINGS:
                texts = {s: _text(s) for s in set(raw)}
                return kind, tuple([texts[s] for s in raw])
        if raw is None:
            raise ModelError(f"its type is {kind.name}, but it has no value", rule="attribute-type")
        make: Callable[[Any], Any]
        match kind:
            case Kind.TENSOR | Kind.TENSORS:
                make = self.tensor
            case Kind.SPARSE_TENSOR | Kind.SPARSE_TENSORS:
                make = self.sparse_tensor
            case Kind.TYPE | Kind.TYPES:
                make = self.type
            case _:
                def make(g: Any) -> Graph:
                    return self._subgraph(g, scope, node)
        return kind, tuple([make(x) for x in raw]) if kind.is_list else make(raw)

    def _subgraph(self, g: Any, scope: _Scope, node: Node | None) -> Graph:
        graph = self.graph(g, scope, Graph())
        graph.parent = node
        return graph

    # Tensors

    def tensor(self, t: Any) -> Tensor:
        """A tensor over the bytes where they lie."""
        shape = tuple(t.dims)
        try:
            dtype = _dtype(t.data_type)
            storage = self._storage(t, dtype, shape)
        except ModelError as e:
            raise e if e.place else e.within(f"tensor '{t.name or ''}'") from None
        tensor = Tensor(dtype, shape, storage, t.name or "", kept=(self.source, t.at))
        if t.doc_string:
            tensor.doc = t.doc_string
        if t.metadata_props:
            tensor.metadata = _metadata(t.metadata_props)
        return tensor

    def _storage(self, t: Any, dtype: DType, shape: tuple[int, ...]) -> Storage:
        if t.data_location == _EXTERNAL:
            needed = 1
            for d in shape:
                needed = -1 if d < 0 or needed < 0 else needed * d
            return ExternalStorage(ExternalData([(e.key or "", e.value or "") for e in t.external_data], self.folder,
                                                t.name or "", dtype.file_bytes(needed) if needed >= 0 else -1))
        raw = t.raw_data
        typed = [name for name in TYPED_FIELDS if getattr(t, name)]
        why = ""
        if dtype is UNDEFINED:
            why = "it has no data type"
        elif len(typed) > 1 or (typed and raw):
            why = f"its data is in several fields: {', '.join([*typed, *(['raw_data'] if raw else [])])}"
        elif typed and typed[0] != dtype.field:
            why = f"its data is in {typed[0]}, but elements of type {dtype.name} belong into {dtype.field}"
        elif raw and dtype is STRING:
            why = "its strings are in raw_data"
        elif t.segment is not None:
            why = "it is a segment of a larger one, which ONNX has never said how to read"
        if why:
            return RefusedStorage(why, t)
        if raw is not None and not typed and dtype is not STRING:
            return RawStorage(raw)
        return TypedStorage(getattr(t, dtype.field))

    def sparse_tensor(self, s: Any) -> SparseTensor:
        """A sparse tensor; its name is that of its values."""
        if s.values is None or s.indices is None:
            raise ModelError("a sparse tensor lacks its values or its indices", rule="sparse-tensor")
        return SparseTensor(self.tensor(s.values), self.tensor(s.indices), s.dims, kept=(self.source, s.at))

    # Types

    def type(self, t: Any) -> Type | None:
        """The type of a value; None where the file does not say."""
        if (x := t.tensor_type) is not None:
            return self._typed(True, x)
        if (x := t.sparse_tensor_type) is not None:
            return self._typed(False, x)
        if (x := t.sequence_type) is not None:
            return SequenceType(self.type(x.elem_type) if x.elem_type is not None else None)
        if (x := t.optional_type) is not None:
            return OptionalType(self.type(x.elem_type) if x.elem_type is not None else None)
        if (x := t.map_type) is not None:
            return MapType(_dtype(x.key_type), self.type(x.value_type) if x.value_type is not None else None)
        if (x := t.opaque_type) is not None:
            return OpaqueType(x.domain or "", x.name or "")
        return None

    def _typed(self, dense: bool, x: Any) -> Type:
        dims = None if x.shape is None else tuple([
            d.dim_value if d.dim_value is not None else d.dim_param for d in x.shape.dim])
        return self._tensor_type(dense, _dtype(x.elem_type), dims)

    def _tensor_type(self, dense: bool, dtype: DType, dims: tuple[int | str | None, ...] | None) -> Type:
        """The type of these dims; models repeat few types often, so each is made once."""
        key = (dense, dtype, dims)
        found = self._types.get(key)
        if found is None:
            shape = None if dims is None else tuple([_dim(d) for d in dims])
            found = self._types[key] = TensorType(dtype, shape) if dense else SparseTensorType(dtype, shape)
        return found


def _dim(d: int | str | None) -> DimLike | None:
    if isinstance(d, str):
        return parse(d) if d else None
    # Some exporters write -1 for a size that they do not know, which is how runtimes read it.
    return d if d is not None and d >= 0 else None


def _dtype(code: int | None) -> DType:
    found = BY_CODE.get(code or 0)
    if found is None:
        raise ModelError(f"{code} is no data type that ONNX has", rule="data-type",
                         advice="the file is damaged, or of a version that is newer than this program")
    return found


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _metadata(entries: Iterable[Any]) -> dict[str, str] | None:
    return {e.key or "": e.value or "" for e in entries} or None


def _opsets(imports: Iterable[Any]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for o in imports:
        domain = _PLAIN_DOMAIN.get(o.domain, o.domain)
        version = o.version or 0
        if opsets.setdefault(domain, version) != version:
            raise ModelError(f"the domain '{domain or 'ai.onnx'}' is imported in the versions {opsets[domain]} and "
                             f"{version}", rule="opset-import")
    return opsets
