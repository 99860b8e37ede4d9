"""Building models by hand: every node is checked against its schema and inferred the moment it is made.

    b = Builder({"": 21}, "classifier")
    x = b.input("x", FLOAT, ("batch", 4))
    scores = b.Add(b.MatMul(x, weights), [0.1, 0.2, 0.3])
    b.output(b.Softmax(scores, axis=-1), "probabilities")
    model = b.model()

What a reader would guess wrong:

- Python numbers and lists become constants of the type that the operator wants there: that of the other operand where
  they share a type. numpy arrays keep theirs, since a cast that nobody wrote would hide a mistake.
- A node that does not fit is refused before it is in the graph, so one may catch the error and go on.
- The same small constant is made once, in the outermost graph, and captured by inner ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import GesherError, ModelError
from gesher.ir import (
    Attribute,
    DimLike,
    Function,
    Graph,
    Model,
    Node,
    Shape,
    SparseTensorType,
    Tensor,
    TensorType,
    Type,
    Value,
)
from gesher.symbolic import Equalities, fresh, parse

from .calls import FunctionTable, bind, bindings_of, called, function_table, plain_domain
from .fact import Fact, sayable
from .fit import Misfit, arity, attributes, counted, types
from .releases import FUNCTION_DEFAULTS, FUNCTIONS, INITIALIZERS_APART, OVERLOADS, companion, ir_for
from .rules import infer_node, resolve
from .schema import Input, Schema
from .writing import as_attribute

DEFAULT_OPSET = 21
"""The opset of a builder that is told none: what every engine of today reads."""

# Constants up to this many bytes are looked up among those made before.
_SHARED_BYTES = 1024
# Calls of functions within functions beyond this are not looked into; recursion among them ends here too.
_DEEPEST = 32


class _Shared:
    """What a builder and the builders of its inner graphs have in common."""

    def __init__(self, root: Graph, opsets: dict[str, int], functions: Iterable[Function]):
        self.root, self.opsets = root, opsets
        self.functions: list[Function] = list(functions)
        self.table: FunctionTable = function_table(self.functions)
        self.facts: dict[Value, Fact] = {}
        self.constants: dict[tuple[DType, tuple[int, ...], bytes], Value] = {}
        self.names: set[str] = set()
        self.node_names: set[str] = set()
        self.counts: dict[tuple[int, str], int] = {}
        self.scope = ""

    def name(self, wish: str, taken: set[str] | None = None) -> str:
        """`wish`, or with a number behind it where it is taken (among values, unless another set is given)."""
        names = self.names if taken is None else taken
        name, counted = wish, (id(names), wish)
        while not name or name in names:
            self.counts[counted] = self.counts.get(counted, 0) + 1
            name = f"{wish}_{self.counts[counted]}"
        names.add(name)
        return name


class Builder:
    """Builds one graph, and the model around it.

    Args:
        opsets: the version of each imported domain, or a number for ai.onnx alone. A domain that is not imported yet is
            imported when it is first used, in the version that was published with the opset.
        graph: the name of the graph, or a graph to go on with (a `Function` too).
        functions: model-local functions that nodes may call.

    Operators are methods: `b.Conv(x, w, strides=[2, 2])`, `b.Split(x, outputs=3)`; see `op`.

    >>> from gesher.base.dtypes import FLOAT
    >>> b = Builder()
    >>> y = b.Add(b.input("x", FLOAT, ("n", 3)), 1.0)
    >>> b.output(y, "y")
    >>> b.shape(y), b.model().ir_version
    ((Dim('n'), 3), 10)
    """

    def __init__(self, opsets: dict[str, int] | int | None = None, graph: str | Graph = "main", *,
                 functions: Iterable[Function] = ()):
        target = Graph(graph) if isinstance(graph, str) else graph
        known = {"": opsets} if isinstance(opsets, int) else dict(opsets) if opsets is not None \
            else dict(target.opsets) if isinstance(target, Function) and target.opsets else {"": DEFAULT_OPSET}
        self.graph: Graph = target
        self.equalities = Equalities()
        self._shared = _Shared(target, known, functions)
        for v in (*target.inputs, *target.initializers):
            self._know(v)
        for n in target.nodes:
            self._shared.node_names.add(n.name)
            facts = self._inferred(n)
            for o, f in zip(n.outputs, facts):
                if o is not None:
                    self._settle(o, f, o.name)

    @classmethod
    def _inner(cls, outer: Builder, name: str) -> Builder:
        b = object.__new__(cls)
        b.graph, b._shared = Graph(name), outer._shared
        b.equalities = outer.equalities.copy()
        return b

    @property
    def opsets(self) -> dict[str, int]:
        """The version of each imported domain."""
        return self._shared.opsets

    @property
    def scope(self) -> str:
        """Where nodes come from: what is made without a name is named `scope/Operator`. Inner graphs share it."""
        return self._shared.scope

    @scope.setter
    def scope(self, scope: str) -> None:
        self._shared.scope = scope

    # What is known

    def fact(self, value: Value) -> Fact:
        """What is known of a value made by this builder."""
        found = self._shared.facts.get(value)
        if found is None:
            raise ModelError(f"'{value.name}' was not made by this builder", rule="builder-value",
                             place=(self.graph.place,))
        return found

    def dtype(self, value: Value) -> DType:
        """The data type of a tensor; UNDEFINED where it is unknown."""
        return self.fact(value).dtype

    def shape(self, value: Value) -> Shape | None:
        """The shape of a tensor, with what was learnt since it was made; None where its rank is unknown."""
        shape = self.fact(value).shape
        return None if shape is None else tuple(None if d is None else self.equalities.resolve(d) for d in shape)

    def _know(self, v: Value) -> None:
        if v.name:
            self._shared.names.add(v.name)
        self._shared.facts[v] = Fact.of(v.constant) if isinstance(v.constant, Tensor) and v.is_constant \
            else Fact(v.type, why=f"'{v.name}' is an input").with_sizes(v.name)

    # Leaves

    def input(self, name: str, dtype: DType | np.dtype[Any] | type | Type,
              shape: Sequence[DimLike | str | None] | None = None) -> Value:
        """A new input: a tensor of `dtype` and `shape` (names are symbols, expressions are read), or any `Type`."""
        if isinstance(dtype, (DType, np.dtype, type)) or dtype is None:
            kind = dtype if isinstance(dtype, DType) else dtypes.from_numpy(dtype)
            dims = None if shape is None else tuple(
                (parse(d) if d else fresh(f"dim {i} of the input '{name}' has no name")) if isinstance(d, str) else d
                for i, d in enumerate(shape))
            t: Type = TensorType(kind, dims)
        else:
            t = dtype
        if name in self._shared.names:
            raise ModelError(f"the name '{name}' is taken", rule="duplicate-name", place=(self.graph.place,))
        value = self.graph.add_input(name, t)
        self._know(value)
        value.type = sayable(t) or t
        return value

    def constant(self, values: Any, name: str = "", dtype: DType | None = None) -> Value:
        """A constant. Unnamed small ones are made once for all who ask for the same numbers."""
        tensor = values if isinstance(values, Tensor) else Tensor.of(values, dtype=dtype)
        key = None
        if tensor.dtype is not dtypes.STRING and tensor.nbytes <= _SHARED_BYTES:
            key = (tensor.dtype, tensor.shape, bytes(tensor.raw()))
            if not name and key in self._shared.constants:
                return self._shared.constants[key]
        root = self._shared.root
        given = self._shared.name(name or tensor.name or "constant")
        if isinstance(root, Function):
            # A function has no initializers, and captures nothing: its constants are nodes, in front of all others.
            node = Node("Constant", (), 1, {"value": tensor})
            if root.first is None:
                root.append(node)
            else:
                root._insert_before(root.first, node)
            value = node.output
            value.name, value.type = given, TensorType(tensor.dtype, tensor.shape)
        else:
            value = root.add_initializer(tensor, given)
        self._shared.facts[value] = Fact.of(tensor)
        if key is not None:
            self._shared.constants.setdefault(key, value)
        return value

    # Nodes

    def op(self, op_type: str, *inputs: Any, domain: str = "", outputs: int | Sequence[str | None] = 1,
           name: str = "", overload: str = "", **written: Any) -> Any:
        """Apply an operator, or call a function.

        Args:
            inputs: values; None for one left out; numbers, lists and arrays become constants.
            outputs: how many outputs, or their names (None for one left out).
            name: of the node, and of its output where there is one.
            written: the attributes; those that are None are not written. A `DType` is written as its number, a builder
                of an inner graph as its graph.

        Returns the value, or a tuple of them where `outputs` asks for more than one (None for those left out).

        Raises:
            ModelError: the node does not fit its schema, or inference finds that its inputs do not fit each other.
            UnsupportedError: there is no such operator.
        """
        node = Node(op_type, (), (), {}, domain=domain, overload=overload, name=name)
        function = called(node, self._shared.table)
        schema = None
        if function is None:
            if plain_domain(domain) not in self.opsets:
                self.opsets[plain_domain(domain)] = companion(plain_domain(domain), self.opsets.get("", DEFAULT_OPSET))
            schema = resolve(node, self.opsets)[1]
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        name = name or (f"{self.scope}/{op_type}" if self.scope else "")
        names = self._output_names(op_type, name, outputs, schema)
        node.name = name or op_type
        for key, value in written.items():
            if value is not None:
                self._write(node, key, value, schema)
        made = tuple(None if n is None else Value() for n in names)
        node.outputs = made
        values = self._operands(node, given, schema, function)
        node.inputs = values
        if schema is not None:
            self._refuse_misfits(node, schema)
        elif function is not None and (len(values) > len(function.inputs) or len(made) > len(function.outputs)):
            raise ModelError(f"{function.place} takes {counted(len(function.inputs), 'input')} and gives "
                             f"{counted(len(function.outputs), 'output')}, here are {len(values)} and {len(made)}",
                             rule="function-arity")
        self._put(node, names, self._inferred(node))
        return made[0] if len(made) == 1 else made

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[:1].isupper():
            raise AttributeError(f"'Builder' object has no attribute '{op_type}'")

        def apply(*inputs: Any, **written: Any) -> Any:
            return self.op(op_type, *inputs, **written)

        return apply

    def _put(self, node: Node, names: Sequence[str | None], facts: Sequence[Fact | None]) -> None:
        """The node fits: let it into the graph."""
        node.name = self._shared.name(node.name, self._shared.node_names)
        for v in node.inputs:
            if v is not None:
                v._used_by(node)
        for g in node.subgraphs():
            g.parent = node
        self.graph.append(node)
        for o, wish, fact in zip(node.outputs, names, facts):
            if o is not None:
                o.producer = node
                self._settle(o, fact, wish or "")

    def _settle(self, value: Value, fact: Fact | None, wish: str) -> None:
        value.name = value.name or self._shared.name(wish)
        known = Fact(None, why="inference does not tell") if fact is None else fact
        self._shared.facts[value] = known = known.with_sizes(value.name)
        value.type = sayable(known.type)

    def _output_names(self, op_type: str, name: str, outputs: int | Sequence[str | None], schema: Schema | None
                      ) -> list[str | None]:
        if not isinstance(outputs, int):
            return list(outputs)
        if outputs == 1:
            return [f"{name or op_type}"]
        formals = [schema.output(i).name if schema is not None and schema.outputs else str(i) for i in range(outputs)]
        return [f"{name or op_type}_{f}" for f in formals]

    def _refuse_misfits(self, node: Node, schema: Schema) -> None:
        misfit: Misfit | None = next(arity(node, schema), None) or next(attributes(node, schema), None) or next(
            types(node, schema, [None if v is None else self._shared.facts[v].type for v in node.inputs]), None)
        if misfit is not None:
            raise ModelError(misfit.message, rule=misfit.rule, place=(self.graph.place, node.place),
                             advice=misfit.advice)

    def _inferred(self, node: Node) -> list[Fact | None]:
        try:
            return self._of_node(node, self._shared.facts, self.opsets, None, self.equalities, 0)
        except GesherError as e:
            e.within(self.graph.place)
            raise

    def _of_node(self, node: Node, env: dict[Value, Fact], opsets: dict[str, int],
                 bindings: Mapping[str, Attribute] | None, equalities: Equalities, depth: int) -> list[Fact | None]:
        """What a node gives, through the functions that it calls and the graphs that it holds."""
        node = bind(node, bindings)
        facts = [None if v is None else env[v] for v in node.inputs]
        function = called(node, self._shared.table)
        if function is not None:
            if depth >= _DEEPEST:
                return [Fact(None, why="functions call each other too deep")] * len(node.outputs)
            own: dict[Value, Fact] = {}
            for i, v in enumerate(function.inputs):
                given = facts[i] if i < len(facts) else None
                own[v] = given if given is not None else Fact(None, why="the call leaves it out")
            return self._of_graph(function, own, function.opsets, bindings_of(node, function), equalities, depth + 1)

        def body(graph: Graph, inputs: Sequence[Fact | None]) -> list[Fact | None]:
            for v, fact in zip(graph.inputs, inputs):
                if fact is not None and fact.type is not None:
                    env[v] = fact.with_sizes(v.name)
                else:
                    env.setdefault(v, Fact(v.type, why="nobody tells what it is").with_sizes(v.name))
            for v in graph.initializers:
                if isinstance(v.constant, Tensor):
                    env[v] = Fact.of(v.constant)
            # What is equal inside a body that may never run is equal there only.
            return self._of_graph(graph, env, opsets, bindings, equalities.copy(), depth)

        return infer_node(node, opsets, facts, equalities, body)

    def _of_graph(self, graph: Graph, env: dict[Value, Fact], opsets: dict[str, int],
                  bindings: Mapping[str, Attribute] | None, equalities: Equalities, depth: int) -> list[Fact | None]:
        for node in graph.nodes:
            for o, fact in zip(node.outputs, self._of_node(node, env, opsets, bindings, equalities, depth)):
                if o is not None:
                    env[o] = (fact or Fact(None)).with_sizes(o.name)
        return [env.get(o) for o in graph.outputs]

    # Operands and attributes

    def _operands(self, node: Node, given: Sequence[Any], schema: Schema | None, function: Function | None
                  ) -> tuple[Value | None, ...]:
        """Values for what was given; plain numbers take the type that the schema and the other operands leave them."""
        values: list[Value | None] = [None] * len(given)
        late: list[int] = []
        for i, x in enumerate(given):
            if isinstance(x, Value):
                self.fact(x)
                values[i] = x
            elif isinstance(x, (Tensor, np.ndarray, np.generic)):
                values[i] = self.constant(x)
            elif x is not None:
                late.append(i)
        for i in late:
            wanted = self._wanted_type(node, i, values, schema) if schema is not None and schema.inputs else None
            values[i] = self._plain_constant(node, i, given[i], wanted)
        return tuple(values)

    def _wanted_type(self, node: Node, index: int, values: Sequence[Value | None], schema: Schema) -> DType | None:
        formal: Input = schema.input(index)
        if formal.homogeneous or not formal.variadic:
            for i, v in enumerate(values):
                if v is not None and schema.input(i).type == formal.type and self.dtype(v) is not dtypes.UNDEFINED:
                    return self.dtype(v)
        allowed = schema.allowed(formal.type)
        if len(allowed) == 1:
            only = next(iter(allowed))
            if only.startswith("tensor("):
                return dtypes.BY_NAME[only[7:-1]]
        return None

    def _plain_constant(self, node: Node, index: int, x: Any, wanted: DType | None) -> Value:
        array = np.asarray(x)
        if wanted is None:
            # Of Python's own numbers, fractions are float32 here as nearly everywhere in models.
            wanted = dtypes.FLOAT if array.dtype == np.float64 else dtypes.from_numpy(array.dtype)
        try:
            with np.errstate(invalid="ignore"):  # nan is no integer, which is seen below
                cast = np.asarray(x, wanted.numpy) if not array.size or array.dtype.kind in "OUST" \
                    else array.astype(wanted.numpy)
        except (TypeError, ValueError, OverflowError) as e:
            raise ModelError(f"{node.op_type}: input {index}, {x!r}, is no constant of {wanted.name}: {e}",
                             rule="builder-constant", place=(self.graph.place,)) from e
        exact = wanted.is_float or wanted.kind in ("complex", "string") or array.dtype.kind in "OUST"
        if not exact and array.size and not np.array_equal(cast.astype(array.dtype), array):
            raise ModelError(f"{node.op_type}: input {index}, {x!r}, is no constant of {wanted.name}",
                             rule="builder-constant", place=(self.graph.place,),
                             advice="it would be changed by the conversion; give an array of the type that you mean")
        return self.constant(Tensor.of(cast, dtype=wanted))

    def _write(self, node: Node, name: str, value: Any, schema: Schema | None) -> None:
        formal = schema.attributes.get(name) if schema is not None else None
        try:
            plain = value.graph if isinstance(value, Builder) else value
            node.attributes[name] = as_attribute(plain, None if formal is None else formal.kind_code)
        except (TypeError, ValueError) as e:
            raise ModelError(f"{node.op_type}: the attribute '{name}' cannot be {value!r}: {e}", rule="attribute-kind",
                             place=(self.graph.place,)) from e

    # Graphs and models

    def subgraph(self, name: str, inputs: Sequence[tuple[str, DType | Type, Sequence[DimLike | str | None] | None]] = ()
                 ) -> Builder:
        """A builder of an inner graph, to be given as an attribute of If, Loop or Scan.

        >>> from gesher.base.dtypes import BOOL, FLOAT
        >>> b = Builder()
        >>> x, c = b.input("x", FLOAT, ("n",)), b.input("c", BOOL, ())
        >>> yes, no = b.subgraph("yes"), b.subgraph("no")
        >>> yes.output(yes.Neg(x)), no.output(no.Abs(x))
        (None, None)
        >>> b.shape(b.If(c, then_branch=yes, else_branch=no))
        (Dim('n'),)
        """
        inner = type(self)._inner(self, self._shared.name(name))
        for given, dtype, shape in inputs:
            free = self._shared.name(given)
            self._shared.names.discard(free)    # it is taken when the input is made
            inner.input(free, dtype, shape)
        return inner

    def output(self, value: Value, name: str = "") -> None:
        """Give `value` out, by `name` where one is given.

        An Identity stands between where the value itself cannot take the name: it is an input, a constant, an output
        already, or belongs to an outer graph.
        """
        self.fact(value)
        own = value.producer is not None and value.producer.graph is self.graph and not value.is_output
        if name and name in self._shared.names and not (own and value.name == name):
            raise ModelError(f"the name '{name}' is taken", rule="duplicate-name", place=(self.graph.place,))
        if not own:
            value = self.op("Identity", value, name=name)
        elif name and value.name != name:
            self._shared.names.discard(value.name)
            self._shared.names.add(name)
            value.name = name
        self.graph.add_output(value)

    def add_function(self, function: Function) -> None:
        """Let nodes call `function`; the model will carry it."""
        self._shared.functions.append(function)
        self._shared.table = function_table(self._shared.functions)

    def model(self, *, ir_version: int | None = None, producer_name: str = "", producer_version: str = "",
              doc: str = "", metadata: dict[str, str] | None = None) -> Model:
        """The model around the graph, of the lowest IR version that has all it uses.

        Raises:
            ModelError: the graph gives nothing out, or belongs inside another one.
        """
        if self.graph is not self._shared.root or isinstance(self.graph, Function):
            raise ModelError(f"{self.graph.place} is no main graph", rule="builder-model")
        if not self.graph.outputs:
            raise ModelError(f"{self.graph.place} gives nothing out", rule="builder-model",
                             advice="name what it gives: b.output(value, 'y')")
        # Constants of nodes that were refused.
        for v in [v for v in self._shared.constants.values() if not v.uses]:
            self.graph.initializers.pop(v, None)
        functions = self._shared.functions
        model = Model(self.graph, opsets=self.opsets, functions=functions, producer_name=producer_name,
                      producer_version=producer_version, doc=doc, metadata=metadata)
        model.ir_version = ir_version if ir_version is not None else self._lowest_ir(model)
        return model

    def _lowest_ir(self, model: Model) -> int:
        least = INITIALIZERS_APART if self.graph.initializers else 3
        for f in model.functions.values():
            least = max(least, FUNCTIONS, FUNCTION_DEFAULTS if f.defaults else 0, OVERLOADS if f.overload else 0)
        used = {f.type.dtype for f in self._shared.facts.values() if isinstance(f.type, (TensorType, SparseTensorType))}
        imports = dict(self.opsets)
        for f in model.functions.values():
            for domain, version in f.opsets.items():
                imports[domain] = max(version, imports.get(domain, 0))
        return ir_for(imports, used, at_least=least)
