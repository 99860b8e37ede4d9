"""From messages to text. See the package for what the syntax has no words for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from gesher.base.dtypes import BY_CODE, DType
from gesher.base.errors import ModelError
from gesher.codec import messages as m

from .names import ATTRIBUTE_TYPE_NAMES, DTYPE_NAMES, TYPE_WORDS, UNDEFINED, is_identifier

# How elements in raw data are read: as numbers, as pairs of them, or (floats narrower than 32 bits) as their bits.
_RAW = {"float": "f4", "double": "f8", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8", "uint8": "u1",
        "bool": "u1", "uint16": "u2", "float16": "u2", "bfloat16": "u2", "uint32": "u4", "uint64": "u8",
        "float8e4m3fn": "u1", "float8e4m3fnuz": "u1", "float8e5m2": "u1", "float8e5m2fnuz": "u1", "float8e8m0": "u1",
        "complex64": "f4", "complex128": "f8"}
# What stands where there are no words.
_SILENT = "..."


def to_text(message: Any) -> str:
    """The text of a model, graph, function, node, attribute, value info, tensor or type.

    >>> from gesher.codec.text import parse_node
    >>> to_text(parse_node('y = Conv <strides = [2, 2]> (x, w)')).strip()
    'y = Conv <strides: ints = [2, 2]> (x, w)'
    """
    printer = _Printer()
    rules: dict[str, Callable[[Any], str]] = {
        "ModelProto": printer.model, "GraphProto": printer.graph, "FunctionProto": printer.function,
        "NodeProto": printer.node, "AttributeProto": printer.attribute, "ValueInfoProto": printer.value_info,
        "TensorProto": printer.tensor, "TypeProto": printer.type, "TensorShapeProto": printer.shape,
    }
    rule = rules.get(message.full_name)
    if rule is None:
        raise ModelError(f"the text syntax has no words for {message.full_name}", rule="text")
    return rule(message)


class _Printer:
    def __init__(self) -> None:
        self.indent = 3

    def model(self, model: Any) -> str:
        pad = " " * self.indent
        lines = [f"{pad}ir_version: {model.ir_version or 0}", f"{pad}opset_import: {self._opsets(model, ', ')}"]
        for key in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
            value = getattr(model, key)
            if value is not None:
                lines.append(f"{pad}{key}: {value if isinstance(value, int) else quoted(value)}")
        if model.metadata_props:
            lines.append(f"{pad}metadata_props: {_entries(model.metadata_props)}")
        graph = self.graph(model.graph if model.graph is not None else m.GraphProto())
        functions = ["\n" + self.function(f) for f in model.functions]
        return "<\n" + ",\n".join(lines) + "\n>\n" + graph + "".join(functions)

    @staticmethod
    def _opsets(holder: Any, separator: str) -> str:
        return "[" + separator.join([f"{quoted(o.domain or '')} : {o.version or 0}"
                                     for o in holder.opset_import]) + "]"

    def graph(self, graph: Any) -> str:
        inputs = ", ".join(map(self.value_info, graph.input))
        outputs = ", ".join(map(self.value_info, graph.output))
        text = f"{name_of(graph.name)} ({inputs}) => ({outputs}) "
        told = [self.tensor(t, initializer=True) for t in graph.initializer]
        told += map(self.value_info, graph.value_info)
        if told:
            text += f"\n{' ' * self.indent}<{', '.join(told)}>\n"
        return text + self._nodes(graph.node)

    def function(self, f: Any) -> str:
        lines = [f"  domain: {quoted(f.domain or '')},"]
        if f.overload:
            lines.append(f"  overload: {quoted(f.overload)},")
        lines.append(f"  opset_import: {self._opsets(f, ',')}")
        text = "<\n" + "\n".join(lines) + f"\n>\n{name_of(f.name)} "
        # onnx's printer leaves the defaults out, which makes another function of it.
        attributes = [*f.attribute, *map(self.attribute, f.attribute_proto)]
        if attributes:
            text += f"<{','.join(attributes)}>"
        return text + f"({_untyped(f.input)}) => ({_untyped(f.output)})\n" + self._nodes(f.node)

    def value_info(self, info: Any) -> str:
        if info.type is None or not (text := self.type(info.type)):
            return " " + _untyped((info.name or "",))
        return f"{text} {name_of(info.name)}"

    # Nodes

    def _nodes(self, nodes: Iterable[Any]) -> str:
        closing = " " * max(3, self.indent - 3) if self.indent > 3 else ""
        return "{\n" + "".join(map(self.node, nodes)) + closing + "}"

    def node(self, node: Any) -> str:
        text = " " * self.indent
        if node.name is not None:
            text += f"[{name_of(node.name)}] "
        text += ", ".join(map(name_of, node.output)) + " = "
        if node.domain:
            text += node.domain + "."
        text += node.op_type or ""
        if node.overload:
            text += ":" + node.overload
        attributes = f" <{', '.join(map(self.attribute, node.attribute))}>" if node.attribute else ""
        inputs = f" ({', '.join(map(name_of, node.input))})"
        # Graphs are long, so they stand behind the inputs.
        has_graph = any(a.g is not None or a.graphs for a in node.attribute)
        return text + (inputs + attributes if has_graph else attributes + inputs) + "\n"

    def attribute(self, a: Any) -> str:
        kind = ATTRIBUTE_TYPE_NAMES.get(a.type or 0, UNDEFINED)
        if a.ref_attr_name is not None:
            return f"{a.name or ''}: {kind} = @{a.ref_attr_name}"
        return f"{a.name or ''}: {kind} = {self._value(a, kind)}"

    def _value(self, a: Any, kind: str) -> str:
        match kind:
            case "int":
                return str(a.i or 0)
            case "ints":
                return _joined(map(str, a.ints))
            case "float":
                return single(0.0 if a.f is None else a.f)
            case "floats":
                return _joined(singles(a.floats))
            case "string":
                return quoted(a.s or b"")
            case "strings":
                return _joined(map(quoted, a.strings))
            case "tensor":
                return self.tensor(a.t if a.t is not None else m.TensorProto())
            case "tensors":
                return _joined(map(self.tensor, a.tensors))
            case "type_proto":
                return self.type(a.tp) if a.tp is not None else ""
            case "type_protos":
                return _joined(map(self.type, a.type_protos))
            case "graph" | "graphs":
                self.indent += 3
                text = (_joined(map(self.graph, a.graphs)) if kind == "graphs"
                        else self.graph(a.g if a.g is not None else m.GraphProto()))
                self.indent -= 3
                return text
            case "sparse_tensor" | "sparse_tensors":
                return _SILENT
        return ""

    # Tensors

    def tensor(self, t: Any, initializer: bool = False) -> str:
        text = DTYPE_NAMES.get(t.data_type or 0, UNDEFINED)
        if t.dims:
            text += "[" + ",".join(map(str, t.dims)) + "]"
        if t.name:
            text += " " + name_of(t.name)
        if initializer:
            text += " = "
        if t.data_location == 1:
            return text + _entries(t.external_data)
        dtype = BY_CODE.get(t.data_type or 0)
        numbers = self._numbers(t, dtype) if dtype is not None and t.data_type else None
        if numbers is None:
            return text + _SILENT
        # onnx's printer puts a blank before numbers, and none before strings.
        if dtype is not None and dtype.kind == "string":
            return text + "{" + ", ".join(numbers) + "}"
        return text + " {" + ",".join(numbers) + "}"

    def _numbers(self, t: Any, dtype: DType) -> Iterable[str] | None:
        """The elements as their typed field holds them; None where they cannot be told."""
        if dtype.kind == "string":
            return map(quoted, t.string_data) if t.raw_data is None else None
        values = getattr(t, dtype.field) if t.raw_data is None else _of_raw(t, dtype)
        if values is None:
            return None
        if dtype.field == "float_data":
            return singles(values)
        return doubles(values) if dtype.field == "double_data" else map(str, values)

    # Types

    def type(self, t: Any) -> str:
        """A type; nothing where the file does not say."""
        if t.tensor_type is not None:
            return self._typed(t.tensor_type)
        if t.sequence_type is not None:
            return f"seq({self._maybe(t.sequence_type.elem_type)})"
        if t.map_type is not None:
            key = DTYPE_NAMES.get(t.map_type.key_type or 0, UNDEFINED)
            return f"map({key}, {self._maybe(t.map_type.value_type)})"
        if t.optional_type is not None:
            return f"optional({self._maybe(t.optional_type.elem_type)})"
        if t.sparse_tensor_type is not None:
            return f"sparse_tensor({self._typed(t.sparse_tensor_type)})"
        if t.opaque_type is not None:
            domain = f"{t.opaque_type.domain}," if t.opaque_type.domain else ""
            return f"opaque({domain}{t.opaque_type.name or ''})"
        return ""

    def _maybe(self, t: Any) -> str:
        return self.type(t) if t is not None else ""

    def _typed(self, typed: Any) -> str:
        name = DTYPE_NAMES.get(typed.elem_type or 0, UNDEFINED)
        if typed.shape is None:
            return name + "[]"
        return name + self.shape(typed.shape) if typed.shape.dim else name

    def shape(self, shape: Any) -> str:
        return "[" + ",".join([str(d.dim_value) if d.dim_value is not None
                               else name_of(d.dim_param) if d.dim_param is not None else "?"
                               for d in shape.dim]) + "]"


def name_of(name: str | None) -> str:
    """A name, in quotes where it is no identifier."""
    return name if name and is_identifier(name) else quoted(name or "")


def _untyped(names: Iterable[str]) -> str:
    """Names where a type may stand before them; one that is called like a type is put in quotes."""
    return ", ".join([quoted(n) if n in TYPE_WORDS else name_of(n) for n in names])


def quoted(text: str | bytes) -> str:
    """A string in quotes; quotes and backslashes inside get a backslash."""
    if not isinstance(text, str):
        text = bytes(text).decode("utf-8", "surrogateescape")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _joined(parts: Iterable[str]) -> str:
    return "[" + ", ".join(parts) + "]"


def _entries(entries: Iterable[Any]) -> str:
    return _joined(f"{quoted(e.key or '')}: {quoted(e.value or '')}" for e in entries)


def _of_raw(t: Any, dtype: DType) -> Any:
    """Raw data as the numbers that the typed field would hold; None where it is not as long as the dims say."""
    count = math.prod(t.dims)
    raw = bytes(t.raw_data)
    if any(d < 0 for d in t.dims) or len(raw) != dtype.file_bytes(count):
        return None
    if dtype.packed:
        return raw
    if dtype.bits == 6:
        whole = int.from_bytes(raw, "little")
        return [whole >> 6 * i & 63 for i in range(count)]
    import numpy as np

    return np.frombuffer(raw, "<" + _RAW[dtype.name]).tolist()


# Numbers as C++'s to_chars writes them: the fewest digits that read back as the same number, in the shorter of the
# plain and the scientific form, the plain one where both are as long.


def singles(values: Any) -> list[str]:
    """Floats of 32 bits.

    >>> singles([0.10000000149011612, 1e5, 16777216.0])
    ['0.1', '1e+05', '16777216']
    """
    import numpy as np

    if isinstance(values, (list, tuple)):
        values = np.array(values, np.float32)
    return [_shortest(v, text) for v, text in zip(np.asarray(values).tolist(), map(str, np.asarray(values)))]


def single(value: float) -> str:
    """A float of 32 bits."""
    return singles([value])[0]


def doubles(values: Iterable[float]) -> list[str]:
    """Floats of 64 bits."""
    return [_shortest(v, repr(v)) for v in values]


def _shortest(value: float, text: str) -> str:
    """The shorter form of a number, given as Python writes it."""
    # Between these, what Python writes is the shorter form, but for the ".0" of whole numbers.
    if 1e-3 <= value < 1e5 or -1e5 < value <= -1e-3:
        return text.removesuffix(".0")
    if value == 0 or value - value != 0:
        sign = "-" if math.copysign(1.0, value) < 0 else ""
        return sign + ("nan" if value != value else "0" if value == 0 else "inf")
    mantissa, _, exponent = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    long = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{power:+03d}"
    if power < 0:
        plain = "0." + "0" * (-power - 1) + digits
    elif power >= len(digits) - 1:
        # A whole number is written out exactly, beyond the digits that would do.
        plain = str(abs(int(value)))
    else:
        plain = digits[:power + 1] + "." + digits[power + 1:]
    return sign + (plain if len(plain) <= len(long) else long)
