"""The graph: values, nodes, graphs, functions, and the model around them.

Identity is by object; names are assigned on saving, and two values may share a name until then. Nodes stand in a linked
list, so that a walk survives edits: a node that is taken out keeps its neighbours' addresses, and a walk that stands on
it goes on behind it.

Everything here may be read by anyone. To write, use `ir.Edit` (which keeps a journal), or, while a graph is first put
together, `Graph.append` and the constructors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Union

from gesher.base.dtypes import DType

from .attributes import Attribute, attribute
from .types import Shape, SparseTensorType, TensorType, Type, print_shape

if TYPE_CHECKING:
    from pathlib import Path

    from .tensor import SparseTensor, Tensor


class Value:
    """What flows: an input, an initializer, or what a node makes.

    Attributes:
        name: as the file wrote it; "" gets a fresh name on saving.
        type: a `Type`, or None where it is unknown.
        constant: the tensor of an initializer. A graph input that has one may be fed another: see `is_constant`.
        producer: the node that makes it, or None for inputs and initializers.
        owner: the graph that it is an input or initializer of, or None for what a node makes.
        uses: who reads it, and in how many places: nodes, and graphs whose output it is.
    """

    __slots__ = ("constant", "doc", "kept", "metadata", "name", "owner", "producer", "type", "uses")

    def __init__(self, name: str = "", type: Type | None = None, *, constant: Tensor | SparseTensor | None = None):
        self.name = name
        self.type = type
        self.constant = constant
        self.producer: Node | None = None
        self.owner: Graph | None = None
        self.uses: dict[Node | Graph, int] = {}
        self.doc = ""
        self.metadata: dict[str, str] | None = None
        self.kept: Any = None

    @property
    def dtype(self) -> DType | None:
        """The data type of a tensor; None for anything else or where it is unknown."""
        t = self.type
        return t.dtype if isinstance(t, (TensorType, SparseTensorType)) else None

    @property
    def shape(self) -> Shape | None:
        """The shape of a tensor; None for anything else or where the rank is unknown."""
        t = self.type
        return t.shape if isinstance(t, (TensorType, SparseTensorType)) else None

    @property
    def graph(self) -> Graph | None:
        """The graph that it lives in."""
        return self.producer.graph if self.producer is not None else self.owner

    @property
    def is_input(self) -> bool:
        return self.producer is None and self.owner is not None and any(v is self for v in self.owner.inputs)

    @property
    def is_output(self) -> bool:
        """True where some graph gives it out."""
        return any(isinstance(u, Graph) for u in self.uses)

    @property
    def is_constant(self) -> bool:
        """True for an initializer that no caller can overrule."""
        return self.constant is not None and not self.is_input

    def users(self) -> list[Node]:
        """The nodes that read it, in no promised order."""
        return [u for u in self.uses if isinstance(u, Node)]

    def _used_by(self, user: Node | Graph) -> None:
        self.uses[user] = self.uses.get(user, 0) + 1

    def _unused_by(self, user: Node | Graph) -> None:
        left = self.uses[user] - 1
        if left:
            self.uses[user] = left
        else:
            del self.uses[user]

    def __repr__(self) -> str:
        if isinstance(self.type, TensorType):
            return f"%{self.name or '?'}: {self.type.dtype.name}{print_shape(self.type.shape)}"
        return f"%{self.name or '?'}" + (f": {self.type}" if self.type is not None else "")


class Node:
    """One application of an operator.

    `inputs` and `outputs` are tuples in the operator's order; None stands for an optional one left out.

    >>> x = Value("x")
    >>> relu = Node("Relu", [x])
    >>> relu.output.producer is relu, x.users() == [relu]
    (True, True)
    """

    __slots__ = ("attributes", "doc", "domain", "graph", "inputs", "kept", "metadata", "name", "next", "op_type",
                 "outputs", "overload", "prev")

    def __init__(self, op_type: str, inputs: Sequence[Value | None] = (), outputs: int | Sequence[Value | None] = 1,
                 attributes: dict[str, Any] | None = None, *, domain: str = "", overload: str = "", name: str = ""):
        self.op_type, self.domain, self.overload, self.name = op_type, domain, overload, name
        self.attributes: dict[str, Attribute] = (
            {} if not attributes else {k: attribute(v) for k, v in attributes.items()})
        self.doc = ""
        self.metadata: dict[str, str] | None = None
        self.kept: Any = None
        self.graph: Graph | None = None
        self.prev: Node | None = None
        self.next: Node | None = None
        self.inputs: tuple[Value | None, ...] = tuple(inputs)
        self.outputs: tuple[Value | None, ...] = (
            tuple(Value() for _ in range(outputs)) if isinstance(outputs, int) else tuple(outputs))
        for v in self.inputs:
            if v is not None:
                v._used_by(self)
        for o in self.outputs:
            if o is not None:
                o.producer = self
        for a in self.attributes.values():
            for g in _graphs_of(a):
                g.parent = self

    @property
    def output(self) -> Value:
        """The first output, which every caller of this knows to exist."""
        out = self.outputs[0]
        assert out is not None, f"{self} leaves out its first output"
        return out

    def attr(self, name: str, default: Any = None) -> Any:
        """The plain value of an attribute, or `default` where it is not written."""
        a = self.attributes.get(name)
        return default if a is None else a.value

    def subgraphs(self) -> Iterator[Graph]:
        """The graphs in its attributes, in their order."""
        for a in self.attributes.values():
            yield from _graphs_of(a)

    @property
    def place(self) -> str:
        """How errors name it: `node 'conv_7' (Conv)`; without a name, by its first output."""
        op = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        if self.name:
            return f"node '{self.name}' ({op})"
        made = next((o.name for o in self.outputs if o is not None and o.name), "")
        return f"node that makes '{made}' ({op})" if made else f"a node ({op})"

    def __repr__(self) -> str:
        def names(values: Iterable[Value | None]) -> str:
            return ", ".join("_" if v is None else f"%{v.name or '?'}" for v in values)

        attributes = "".join(f" {k}={v!r}" for k, v in self.attributes.items())
        op = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return f"{names(self.outputs)} = {op}({names(self.inputs)}){attributes}"


def _graphs_of(a: Attribute) -> Iterable[Graph]:
    from .attributes import Kind

    if a.kind == Kind.GRAPH:
        return (a.value,) if a.value is not None else ()
    if a.kind == Kind.GRAPHS:
        return a.value or ()
    return ()


class Graph:
    """Nodes in order, from inputs and initializers to outputs.

    `initializers` is an ordered set (a dict without values) of the values that carry a `constant`. `parent` is the node
    whose attribute holds this graph; a value of an outer graph that is used inside is captured just by being used.
    """

    __slots__ = ("_count", "doc", "first", "initializers", "inputs", "kept", "last", "metadata", "name", "outputs",
                 "parent", "quantization")

    def __init__(self, name: str = "", inputs: Sequence[Value] = (), outputs: Sequence[Value] = (),
                 nodes: Iterable[Node] = (), initializers: Iterable[Value] = ()):
        self.name = name
        self.inputs: list[Value] = list(inputs)
        self.outputs: list[Value] = list(outputs)
        self.initializers: dict[Value, None] = dict.fromkeys(initializers)
        self.first: Node | None = None
        self.last: Node | None = None
        self._count = 0
        self.parent: Node | None = None
        self.doc = ""
        self.metadata: dict[str, str] | None = None
        # Pairs of (tensor name, {key: tensor name}): ONNX's quantization annotations.
        self.quantization: list[tuple[str, dict[str, str]]] = []
        self.kept: Any = None
        for v in self.inputs:
            v.owner = self
        for v in self.initializers:
            v.owner = self
        for v in self.outputs:
            v._used_by(self)
        for n in nodes:
            self.append(n)

    # Reading

    @property
    def nodes(self) -> NodeList:
        """The nodes in order; safe to walk while the graph is edited."""
        return NodeList(self)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return True

    @property
    def place(self) -> str:
        return f"graph '{self.name}'"

    # Writing: for builders; a graph that is in use is written through ir.Edit

    def append(self, node: Node) -> Node:
        """Put `node` behind the last one."""
        node.graph, node.prev, node.next = self, self.last, None
        if self.last is None:
            self.first = node
        else:
            self.last.next = node
        self.last = node
        self._count += 1
        return node

    def _insert_before(self, mark: Node, node: Node) -> None:
        node.graph, node.prev, node.next = self, mark.prev, mark
        if mark.prev is None:
            self.first = node
        else:
            mark.prev.next = node
        mark.prev = node
        self._count += 1

    def _take_out(self, node: Node) -> None:
        # node.next stays, so that a walk standing here can go on.
        if node.prev is None:
            self.first = node.next
        else:
            node.prev.next = node.next
        if node.next is None:
            self.last = node.prev
        else:
            node.next.prev = node.prev
        node.graph = None
        self._count -= 1

    def add_input(self, name: str = "", type: Type | None = None) -> Value:
        """A new input behind the others."""
        v = Value(name, type)
        v.owner = self
        self.inputs.append(v)
        return v

    def add_initializer(self, tensor: Tensor, name: str = "") -> Value:
        """A new initializer holding `tensor`."""
        v = Value(name or tensor.name, TensorType(tensor.dtype, tensor.shape), constant=tensor)
        v.owner = self
        self.initializers[v] = None
        return v

    def add_output(self, value: Value) -> None:
        """Give `value` out, behind the other outputs."""
        self.outputs.append(value)
        value._used_by(self)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self)} nodes)"


class NodeList:
    """A view of a graph's nodes: iterable both ways, sized, safe under edits."""

    __slots__ = ("_graph",)

    def __init__(self, graph: Graph):
        self._graph = graph

    def __iter__(self) -> Iterator[Node]:
        graph = self._graph
        node = graph.first
        while node is not None:
            yield node
            node = node.next
            while node is not None and node.graph is not graph:
                node = node.next

    def __reversed__(self) -> Iterator[Node]:
        graph = self._graph
        node = graph.last
        while node is not None:
            yield node
            node = node.prev
            while node is not None and node.graph is not graph:
                node = node.prev

    def __len__(self) -> int:
        return len(self._graph)

    def __getitem__(self, index: int) -> Node:
        """The node at `index`, counted from either end: for tests and people, linear in time."""
        walk = self if index >= 0 else reversed(self)
        for i, node in enumerate(walk, 0 if index >= 0 else 1):
            if i == abs(index):
                return node
        raise IndexError(f"the graph has {len(self)} nodes, there is none at {index}")


class Function(Graph):
    """A model-local function: a graph called by (domain, name, overload), with attributes of its own.

    `attributes` are the names that a call must give; `defaults` those that it may.
    """

    __slots__ = ("attributes", "defaults", "domain", "opsets", "overload")

    def __init__(self, domain: str, name: str, inputs: Sequence[Value] = (), outputs: Sequence[Value] = (),
                 nodes: Iterable[Node] = (), *, overload: str = "", attributes: Sequence[str] = (),
                 defaults: dict[str, Attribute] | None = None, opsets: dict[str, int] | None = None):
        super().__init__(name, inputs, outputs, nodes)
        self.domain, self.overload = domain, overload
        self.attributes: list[str] = list(attributes)
        self.defaults: dict[str, Attribute] = dict(defaults or {})
        self.opsets: dict[str, int] = dict(opsets or {})

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.domain, self.name, self.overload)

    @property
    def place(self) -> str:
        return f"function '{self.domain}.{self.name}{':' + self.overload if self.overload else ''}'"


class Model:
    """A whole model: the main graph, its functions, and what the file says of itself.

    `opsets` maps a domain ("" is ai.onnx) to its version. `path` is where it was loaded from, if anywhere.
    `training` holds the training information of the file as messages, untouched.
    """

    __slots__ = ("doc", "domain", "functions", "graph", "ir_version", "kept", "metadata", "model_version", "opsets",
                 "path", "producer_name", "producer_version", "training")

    def __init__(self, graph: Graph, *, opsets: dict[str, int], ir_version: int = 0,
                 functions: Iterable[Function] = (), producer_name: str = "", producer_version: str = "",
                 domain: str = "", model_version: int = 0, doc: str = "", metadata: dict[str, str] | None = None,
                 path: Path | None = None):
        self.graph = graph
        self.opsets = dict(opsets)
        self.ir_version = ir_version
        self.functions: dict[tuple[str, str, str], Function] = {f.key: f for f in functions}
        self.producer_name, self.producer_version = producer_name, producer_version
        self.domain, self.model_version, self.doc = domain, model_version, doc
        self.metadata: dict[str, str] = dict(metadata or {})
        self.path = path
        self.training: list[Any] = []
        self.kept: Any = None

    @property
    def place(self) -> str:
        return self.path.name if self.path is not None else "model"

    def graphs(self) -> Iterator[Graph]:
        """The main graph, the functions, and every graph nested in them, outer before inner. No recursion."""
        pending: list[Graph] = [*reversed(self.functions.values()), self.graph]
        while pending:
            graph = pending.pop()
            yield graph
            inner = [g for n in graph.nodes for g in n.subgraphs()]
            pending.extend(reversed(inner))

    def opsets_of(self, graph: Graph) -> dict[str, int]:
        """The opset imports that hold inside `graph`: a function's own, else the model's."""
        while graph.parent is not None and graph.parent.graph is not None:
            graph = graph.parent.graph
        return graph.opsets if isinstance(graph, Function) else self.opsets

    def __repr__(self) -> str:
        return f"Model({self.place}, opsets {self.opsets}, {len(self.graph)} nodes)"


User = Union[Node, Graph]  # noqa: UP007
