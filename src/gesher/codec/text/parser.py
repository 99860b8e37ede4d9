"""From text to messages. Each method reads what its name says and leaves the scanner behind it.

The grammar, roughly, with what is optional in brackets:

    model     [<key: value, ...>] graph function...
    graph     name [(inputs)] => (outputs) [<initializers and value infos>] { node... }
    function  [<key: value, ...>] name [<attributes>] (inputs) => (outputs) [<value infos>] { node... }
    node      [[name]] outputs = [domain.]operator[:overload] [<attributes>] (inputs) [<attributes>]
    attribute name[: type] = value | [value, ...] | @name
    tensor    type [name] [=] {number, ...} | type [name] [=] ["location": "file", ...]
    type      float[2,N,?] | float (a scalar) | float[] (of any rank) | seq(type) | optional(type) | map(type, type)
              | sparse_tensor(type) | opaque([domain,]name)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gesher.base.dtypes import BY_CODE
from gesher.codec import messages as m
from gesher.codec.wire import DEPTH_LIMIT

from .names import ATTRIBUTE_TYPE_NAMES, ATTRIBUTE_TYPES, DTYPE_CODES, TYPE_WORDS
from .scanner import RANGES, Scanner

T = TypeVar("T")

_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _TYPE = 1, 2, 3, 4, 5, 13
# The list type of each type that a list can hold, with the field of the single value and that of the list.
_LISTS = {_FLOAT: (6, "f", "floats"), _INT: (7, "i", "ints"), _STRING: (8, "s", "strings"),
          _TENSOR: (9, "t", "tensors"), _GRAPH: (10, "g", "graphs"), _TYPE: (14, "tp", "type_protos")}
_SINGLE_OF = {6: _FLOAT, 7: _INT, 8: _STRING, 9: _TENSOR, 10: _GRAPH, 12: 11, 14: _TYPE}


def parse_model(text: str | bytes) -> Any:
    """The `ModelProto` of a text.

    Raises:
        FormatError: with line and column.

    >>> parse_model("agraph (float[N] x) => (float[N] y) { y = Relu(x) }").graph.node
    [NodeProto(input=['x'], output=['y'], op_type='Relu', domain='')]
    """
    return _whole(text, _Parser.model)


def parse_graph(text: str | bytes) -> Any:
    """The `GraphProto` of a text; see `parse_model`."""
    return _whole(text, _Parser.graph)


def parse_function(text: str | bytes) -> Any:
    """The `FunctionProto` of a text; see `parse_model`."""
    return _whole(text, _Parser.function)


def parse_node(text: str | bytes) -> Any:
    """The `NodeProto` of a text; see `parse_model`."""
    return _whole(text, _Parser.node)


def _whole(text: str | bytes, rule: Callable[[_Parser], T]) -> T:
    parser = _Parser(text)
    found = rule(parser)
    if not parser.scan.at_end():
        parser.scan.fail("there is more text than one of these takes")
    return found


class _Parser:
    def __init__(self, text: str | bytes):
        self.scan = Scanner(text)
        self.depth = 0

    def _deeper(self, levels: int, rule: Callable[[], T]) -> T:
        """Read something nested; `levels` is what it adds to the nesting of messages."""
        self.depth += levels
        if self.depth > DEPTH_LIMIT:
            self.scan.fail(f"this is nested more than {DEPTH_LIMIT} messages deep")
        found = rule()
        self.depth -= levels
        return found

    def _list(self, rule: Callable[[], T]) -> list[T]:
        """One or more, with commas between."""
        found = [rule()]
        while self.scan.take(","):
            found.append(rule())
        return found

    def _enclosed(self, opening: str, rule: Callable[[], T], closing: str) -> list[T]:
        """None or more in brackets, which must come."""
        self.scan.expect(opening)
        if self.scan.take(closing):
            return []
        found = self._list(rule)
        self.scan.expect(closing)
        return found

    # Models, graphs, functions

    def model(self) -> Any:
        model = m.ModelProto()

        def header() -> None:
            at, key = self._key()
            match key:
                case "ir_version" | "model_version":
                    setattr(model, key, self.scan.integer())
                case "producer_name" | "producer_version" | "domain" | "doc_string":
                    setattr(model, key, self.scan.string())
                case "opset_import":
                    model.opset_import = [*model.opset_import, *self._enclosed("[", self._opset, "]")]
                case "metadata_props":
                    model.metadata_props = [*model.metadata_props, *self._enclosed("[", self._entry, "]")]
                case _:
                    self.scan.fail(f"a model has no '{key}'", at)

        if self.scan.take("<"):
            self._list(header)
            self.scan.expect(">")
        model.graph = self.graph()
        functions = []
        while not self.scan.at_end():
            functions.append(self.function())
        model.functions = functions
        return model

    def _key(self) -> tuple[int, str]:
        self.scan.skip()
        at, key = self.scan.pos, self.scan.identifier("a keyword such as ir_version")
        self.scan.expect(":")
        return at, key

    def _opset(self) -> Any:
        domain = self.scan.string()
        self.scan.expect(":")
        return m.OperatorSetIdProto(domain=domain, version=self.scan.integer())

    def _entry(self) -> Any:
        key = self.scan.string()
        self.scan.expect(":")
        return m.StringStringEntryProto(key=key, value=self.scan.string())

    def graph(self) -> Any:
        graph = m.GraphProto(name=self.scan.quotable("the name of a graph"))
        initializers: list[Any] = []
        infos: list[Any] = []

        def input_() -> Any:
            info = self._value_info()
            if self.scan.take("="):
                initializers.append(self._named_tensor(info))
            return info

        def told() -> None:
            info = self._value_info()
            if self.scan.take("="):
                initializers.append(self._named_tensor(info))
            else:
                infos.append(info)

        if self.scan.next() == "(":
            graph.input = self._enclosed("(", input_, ")")
        self.scan.expect("=>")
        graph.output = self._enclosed("(", self._value_info, ")")
        if self.scan.next() == "<":
            self._enclosed("<", told, ">")
        graph.initializer, graph.value_info = initializers, infos
        graph.node = self._nodes()
        return graph

    def function(self) -> Any:
        function = m.FunctionProto()

        def header() -> None:
            at, key = self._key()
            match key:
                case "opset_import":
                    function.opset_import = [*function.opset_import, *self._enclosed("[", self._opset, "]")]
                case "domain" | "doc_string" | "overload":
                    setattr(function, key, self.scan.string())
                case _:
                    self.scan.fail(f"a function has no '{key}'", at)

        if self.scan.take("<"):
            self._list(header)
            self.scan.expect(">")
        function.name = self.scan.quotable("the name of a function")
        names: list[str] = []
        defaults: list[Any] = []

        def attribute() -> None:
            name = self.scan.quotable("the name of an attribute")
            if self.scan.next() in (":", "="):
                defaults.append(self._attribute_of(name))
            else:
                names.append(name)

        if self.scan.take("<"):
            self._list(attribute)
            self.scan.expect(">")
        function.attribute, function.attribute_proto = names, defaults
        infos: list[Any] = []

        def operand() -> str:
            kind = self.type() if self._is_type() else None
            name: str = self.scan.quotable()
            if kind is not None:
                infos.append(m.ValueInfoProto(name=name, type=kind))
            return name

        function.input = self._enclosed("(", operand, ")")
        self.scan.expect("=>")
        function.output = self._enclosed("(", operand, ")")
        if self.scan.next() == "<":
            infos += self._enclosed("<", self._value_info, ">")
        function.value_info = infos
        function.node = self._nodes()
        return function

    def _value_info(self) -> Any:
        kind = self.type() if self._is_type() else None
        return m.ValueInfoProto(name=self.scan.quotable("the name of a value"), type=kind)

    # Nodes

    def _nodes(self) -> list[Any]:
        self.scan.expect("{")
        nodes = []
        while not self.scan.take("}"):
            nodes.append(self.node())
        return nodes

    def node(self) -> Any:
        node = m.NodeProto()
        if self.scan.take("["):
            node.name = self.scan.optional_quotable()
            self.scan.expect("]")
        node.output = self._operands()
        self.scan.expect("=")
        words = [self.scan.identifier("an operator")]
        while self.scan.take("."):
            words.append(self.scan.identifier("an operator"))
        node.domain, node.op_type = ".".join(words[:-1]), words[-1]
        if self.scan.take(":"):
            node.overload = self.scan.identifier("the overload of a function")
        node.attribute = self._attributes()
        self.scan.expect("(")
        node.input = self._operands()
        self.scan.expect(")")
        if not node.attribute:
            node.attribute = self._attributes()
        return node

    def _operands(self) -> list[str]:
        """Names with commas between. An empty one is `""`, or nothing before a comma; a last comma adds none."""
        names = []
        while True:
            if self.scan.next() == '"':
                names.append(self.scan.string())
            else:
                name = self.scan.optional_identifier()
                if not name and self.scan.next() != ",":
                    return names
                names.append(name)
            if not self.scan.take(","):
                return names

    # Attributes

    def _attributes(self) -> list[Any]:
        if not self.scan.take("<"):
            return []
        found = self._list(lambda: self._attribute_of(self.scan.identifier("the name of an attribute")))
        self.scan.expect(">")
        return found

    def _attribute_of(self, name: str) -> Any:
        """The rest of an attribute behind its name."""
        attribute = m.AttributeProto(name=name)
        declared = 0
        if self.scan.take(":"):
            self.scan.skip()
            at, word = self.scan.pos, self.scan.identifier("the type of an attribute")
            if word not in ATTRIBUTE_TYPES:
                self.scan.fail(f"'{word}' is no type of attribute", at)
            attribute.type = declared = ATTRIBUTE_TYPES[word]
        self.scan.expect("=")
        self.scan.skip()
        at = self.scan.pos
        if not self.scan.take("["):
            if self.scan.take("@"):
                attribute.ref_attr_name = self.scan.quotable("the name of an attribute")
            else:
                attribute.type, value = self._value(declared)
                setattr(attribute, _LISTS[attribute.type][1], value)
            return attribute
        if declared and declared not in _SINGLE_OF:
            self.scan.fail(f"the type {ATTRIBUTE_TYPE_NAMES[declared]} takes one value, not a list", at)
        if self.scan.take("]"):
            if not declared:
                self.scan.fail("an empty list does not tell its type; write 'name: ints = []' or the like", at)
            return attribute
        kind = _SINGLE_OF.get(declared, 0)
        values = []
        while True:
            kind, value = self._value(kind)
            values.append(value)
            if not self.scan.take(","):
                break
        self.scan.expect("]")
        attribute.type, _, field = _LISTS[kind]
        setattr(attribute, field, values)
        return attribute

    def _value(self, expected: int) -> tuple[int, Any]:
        """One value, with its type; `expected` is the type that was declared, or 0."""
        self.scan.skip()
        at = self.scan.pos
        kind, value = self._any_value(expected)
        if expected and kind != expected:
            self.scan.fail(f"expected a value of type {ATTRIBUTE_TYPE_NAMES[expected]}, but this is of type "
                           f"{ATTRIBUTE_TYPE_NAMES[kind]}", at)
        return kind, value

    def _any_value(self, expected: int) -> tuple[int, Any]:
        at = self.scan.pos
        if self.scan.peek_identifier() and not (self.scan.special_float() and not self._is_type()):
            if not self._is_type():
                return _GRAPH, self._deeper(3, self.graph)
            kind = self.type(of_tensor=True)
            # What follows a type makes it the type of a tensor: its name, or its numbers.
            if self.scan.next() not in tuple('{="[') and not self.scan.peek_identifier():
                return _TYPE, kind
            name = self.scan.optional_quotable()
            self.scan.take("=")
            return _TENSOR, self._tensor(name, kind, at)
        token = self.scan.literal()
        if token.kind == "string":
            return _STRING, token.text.encode("utf-8", "surrogateescape")
        if token.kind == "float" or expected == _FLOAT:
            return _FLOAT, self.scan.single_of(token, at)
        return _INT, self.scan.integer_of(token, at)

    # Tensors

    def _named_tensor(self, info: Any) -> Any:
        """The initializer that a value info announces."""
        self.scan.skip()
        at = self.scan.pos
        if info.type is None:
            self.scan.fail(f"the initializer '{info.name}' needs a type", at)
        return self._tensor(info.name, info.type, at)

    def _tensor(self, name: str, kind: Any, at: int) -> Any:
        typed = kind.tensor_type
        if typed is None or typed.shape is None or any(d.dim_value is None for d in typed.shape.dim):
            self.scan.fail("a tensor needs a type with all its dims, such as float[2,3]", at)
        tensor = m.TensorProto(name=name, data_type=typed.elem_type, dims=[d.dim_value for d in typed.shape.dim])
        if self.scan.next() == "{":
            dtype = BY_CODE[typed.elem_type]
            setattr(tensor, dtype.field, self._elements(dtype.field))
        elif self.scan.next() == "[":
            tensor.data_location = 1
            tensor.external_data = self._enclosed("[", self._entry, "]")
        return tensor

    def _elements(self, field: str) -> list[Any]:
        """The elements of a tensor, as its typed field holds them."""
        scan = self.scan
        scan.expect("{")
        values = scan.numbers(field) if field != "string_data" else None
        if values is None:
            rules: dict[str, Callable[[], Any]] = {
                "float_data": scan.single, "double_data": scan.double,
                "string_data": lambda: scan.string().encode("utf-8", "surrogateescape")}
            rule = rules.get(field, lambda: scan.integer(*RANGES[field]))
            values = [] if scan.next() == "}" else self._list(rule)
        scan.expect("}")
        return values

    # Types

    def _is_type(self) -> bool:
        return self.scan.peek_identifier() in TYPE_WORDS

    def type(self, of_tensor: bool = False) -> Any:
        """A type. Behind that of a tensor in an attribute, brackets may also hold where its data lies."""
        self.scan.skip()
        at, word = self.scan.pos, self.scan.identifier("a type")
        if word in DTYPE_CODES:
            return m.TypeProto(tensor_type=self._typed(m.TypeProtoTensor, word, of_tensor))
        if word not in TYPE_WORDS:
            self.scan.fail(f"'{word}' is no type", at)
        self.scan.expect("(")
        match word:
            case "seq":
                found = m.TypeProto(sequence_type=m.TypeProtoSequence(elem_type=self._deeper(2, self.type)))
            case "optional":
                found = m.TypeProto(optional_type=m.TypeProtoOptional(elem_type=self._deeper(2, self.type)))
            case "map":
                key = self._dtype()
                self.scan.expect(",")
                found = m.TypeProto(map_type=m.TypeProtoMap(key_type=DTYPE_CODES[key],
                                                            value_type=self._deeper(2, self.type)))
            case "sparse_tensor":
                found = m.TypeProto(sparse_tensor_type=self._typed(m.TypeProtoSparseTensor, self._dtype()))
            case _:
                found = m.TypeProto(opaque_type=self._opaque())
        self.scan.expect(")")
        return found

    def _dtype(self) -> str:
        self.scan.skip()
        at, word = self.scan.pos, self.scan.identifier("a data type")
        if word not in DTYPE_CODES:
            self.scan.fail(f"'{word}' is no data type", at)
        return word

    def _typed(self, cls: Any, word: str, of_tensor: bool = False) -> Any:
        typed = cls(elem_type=DTYPE_CODES[word])
        before = self.scan.pos
        if not self.scan.take("["):
            typed.shape = m.TensorShapeProto()
            return typed
        if self.scan.take("]"):
            return typed
        if of_tensor and self.scan.next() == '"':
            self.scan.string()
            external = self.scan.next() == ":"
            self.scan.pos = before
            if external:
                typed.shape = m.TensorShapeProto()
                return typed
            self.scan.take("[")
        typed.shape = m.TensorShapeProto(dim=self._list(self._dim))
        self.scan.expect("]")
        return typed

    def _dim(self) -> Any:
        if self.scan.take("?"):
            return m.TensorShapeProtoDimension()
        if self.scan.next() == '"' or self.scan.peek_identifier():
            return m.TensorShapeProtoDimension(dim_param=self.scan.quotable())
        return m.TensorShapeProtoDimension(dim_value=self.scan.integer())

    def _opaque(self) -> Any:
        if self.scan.next() == ")":
            return m.TypeProtoOpaque()
        words = [self.scan.identifier("a name")]
        while self.scan.take("."):
            words.append(self.scan.identifier("a name"))
        if self.scan.take(","):
            return m.TypeProtoOpaque(domain=".".join(words), name=self.scan.identifier("a name"))
        return m.TypeProtoOpaque(name=".".join(words))
