"""A builder for models of any opset: what an older one does not have is said by what it has.

    b = OlderBuilder({"": 13}, "net")
    b.Trilu(x)    # came with opset 14: here a choice among rows and columns

Three things may be missing: an operator, one of its attributes, or a type that it takes. For the first two there are
rules here (`in_opset`), for the third the inputs are cast to the next wider type that the operator takes, and its
results back. What no rule can say is refused with the opset that could.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError, UnsupportedError
from gesher.ir import Tensor, Value
from gesher.ops import find
from gesher.ops.build import Builder
from gesher.ops.schema import Operator, Schema

# The next wider types that hold every number of a type.
_WIDER: dict[DType, tuple[DType, ...]] = {
    dtypes.BOOL: (dtypes.UINT8, dtypes.INT32, dtypes.INT64, dtypes.FLOAT),
    dtypes.INT8: (dtypes.INT16, dtypes.INT32, dtypes.INT64),
    dtypes.UINT8: (dtypes.INT16, dtypes.INT32, dtypes.INT64),
    dtypes.INT16: (dtypes.INT32, dtypes.INT64), dtypes.UINT16: (dtypes.INT32, dtypes.INT64),
    dtypes.INT32: (dtypes.INT64, dtypes.DOUBLE), dtypes.UINT32: (dtypes.INT64, dtypes.DOUBLE),
    dtypes.FLOAT16: (dtypes.FLOAT, dtypes.DOUBLE), dtypes.BFLOAT16: (dtypes.FLOAT, dtypes.DOUBLE),
    dtypes.FLOAT: (dtypes.DOUBLE,)}

Rule = Callable[..., Any]
# By operator: the opset that says it itself, whether these attributes need the rule, and the rule.
_RULES: dict[str, list[tuple[int, Callable[[dict[str, Any]], bool], Rule]]] = {}


def in_opset(operator: str, since: int, when: Callable[[dict[str, Any]], bool] = lambda written: True
             ) -> Callable[[Rule], Rule]:
    """Register how an operator is said before opset `since`: a function of the builder, the inputs and attributes."""
    def keep(f: Rule) -> Rule:
        _RULES.setdefault(operator, []).append((since, when, f))
        return f

    return keep


class OlderBuilder(Builder):
    """Builds graphs of an opset that may lack what is asked for."""

    def op(self, op_type: str, *inputs: Any, domain: str = "", outputs: int | Sequence[str | None] = 1,
           name: str = "", overload: str = "", **written: Any) -> Any:
        """As `Builder.op`, whatever the opset.

        Raises:
            UnsupportedError: it takes a newer opset, which the error names.
        """
        if domain:
            return super().op(op_type, *inputs, domain=domain, outputs=outputs, name=name, overload=overload, **written)
        for since, when, rule in _RULES.get(op_type, ()):
            if self.opsets[""] < since and when(written):
                return rule(self, *inputs, **written)
        if op_type == "Cast":
            self._can_cast(written["to"])
        try:
            return super().op(op_type, *inputs, outputs=outputs, name=name, **written)
        except ModelError as e:
            operator = find("", op_type)
            schema = None if operator is None else operator.schema(self.opsets[""])
            if operator is None or e.rule not in ("operator-version", "attribute-unknown", "type-constraint"):
                raise
            if schema is None:
                raise _newer(f"ONNX's {op_type}", operator.versions[0].version) from e
            if e.rule == "attribute-unknown":
                new = next(a for a in written if a not in schema.attributes)
                raise _newer(f"the attribute '{new}' of ONNX's {op_type}", next(
                    (s.version for s in operator.versions if new in s.attributes), None)) from e
            return self._widened(operator, schema, inputs, outputs, name, written)

    def _can_cast(self, to: Any) -> None:
        operator = find("", "Cast")
        schema = None if operator is None else operator.schema(self.opsets[""])
        said = f"tensor({(to if isinstance(to, DType) else dtypes.BY_CODE[to]).name})"
        if operator is not None and schema is not None and said not in schema.allowed(schema.output(0).type):
            raise _newer(f"a cast to {said[7:-1]}", _version_with(operator, said))

    def _widened(self, operator: Operator, schema: Schema, inputs: Sequence[Any],
                 outputs: int | Sequence[str | None], name: str, written: dict[str, Any]) -> Any:
        """The operator over wider types, its results cast back."""
        wide: dict[str, tuple[DType, DType]] = {}
        for i, v in enumerate(inputs):
            formal = schema.input(i).type
            if isinstance(v, Value) and formal not in wide:
                dtype, allowed = self.dtype(v), schema.allowed(formal)
                said = f"tensor({dtype.name})"
                if said not in allowed:
                    found = next((w for w in _WIDER.get(dtype, ()) if f"tensor({w.name})" in allowed), None)
                    if found is None:
                        raise _newer(f"ONNX's {operator.name} of {dtype.name}", _version_with(operator, said, i))
                    wide[formal] = dtype, found
        given = [self.Cast(v, to=wide[schema.input(i).type][1].code)
                 if isinstance(v, Value) and schema.input(i).type in wide else v for i, v in enumerate(inputs)]
        made = self.op(operator.name, *given, outputs=outputs, name=name, **written)
        several = made if isinstance(made, tuple) else (made,)
        back = tuple(v if v is None or (kind := schema.output(i).type) not in wide
                     else self.Cast(v, to=wide[kind][0].code) for i, v in enumerate(several))
        return back if isinstance(made, tuple) else back[0]


def _version_with(operator: Operator, said: str, index: int | None = None) -> int | None:
    """The first version of an operator that takes (or, without an index, gives) a type."""
    return next((s.version for s in operator.versions if not s.deprecated and said in s.allowed(
        (s.output(0) if index is None else s.input(index)).type)), None)


def _newer(what: str, version: int | None) -> UnsupportedError:
    if version is None:
        return UnsupportedError(f"there is no {what}", who="torch")
    return UnsupportedError(f"{what} needs opset {version}", who="torch",
                            advice=f"export with opset={version} or newer")


# Operators that came later

@in_opset("Trilu", 14)
def _(b: Builder, x: Value, k: Any = None, *, upper: int = 1) -> Value:
    """A choice among rows and columns by where the diagonal runs."""
    shape = b.Shape(x)
    place = [b.Range(0, b.Squeeze(b.Slice(shape, [i], [i + 1 or np.iinfo(np.int64).max]), [0]), 1) for i in (-2, -1)]
    rows = b.Add(b.Unsqueeze(place[0], [1]), b.Reshape(k, [1, 1]) if isinstance(k, Value) else np.int64(k or 0))
    columns = b.Unsqueeze(place[1], [0])
    kept = b.GreaterOrEqual(columns, rows) if upper else b.LessOrEqual(columns, rows)
    return b.Where(kept, x, b.constant(Tensor.of(np.zeros((), np.float32).astype(b.dtype(x).numpy), dtype=b.dtype(x))))


def _bits(b: Builder, x: Value) -> Value:
    """The bits of integers along a new last axis, the lowest first, as int64."""
    count = b.dtype(x).bits
    wide = b.Unsqueeze(b.Cast(x, to=dtypes.INT64.code), [-1])
    # The power of bit 63 has no number; it is the sign.
    powers = np.array([1 << i for i in range(min(count, 63))], np.int64)
    low = b.Mod(b.Div(b.Sub(wide, b.Mod(wide, powers)), powers), np.int64(2))
    return low if count < 64 else b.Concat(low, b.Cast(b.Less(wide, np.int64(0)), to=dtypes.INT64.code), axis=-1)


def _summed(b: Builder, bits: Value, count: int, negative: bool) -> Value:
    """The number that bits along the last axis make; the highest may count as negative."""
    weights = [1 << i for i in range(count)]
    weights[-1] = -weights[-1] if negative else weights[-1]
    total: Value = b.ReduceSum(b.Mul(bits, np.array(weights, np.int64)), [-1], keepdims=0)
    return total


def _bitwise(combine: Callable[[Builder, Value, Value], Value]) -> Rule:
    def rule(b: Builder, x: Value, y: Any) -> Value:
        dtype = b.dtype(x)
        y = y if isinstance(y, Value) else b.constant(Tensor.of(np.asarray(y, dtype.numpy)))
        made = combine(b, _bits(b, x), _bits(b, y))
        negative = dtype.bits == 64 or dtype.kind == "int"
        if dtype.bits < 64:
            return b.Cast(_summed(b, made, dtype.bits, negative), to=dtype.code)
        # ONNX Runtime 1.32 sums integers in float64, which holds 53 bits.
        low, high = b.Split(made, [32, 32], axis=-1, outputs=2)
        total = b.Add(b.Mul(_summed(b, high, 32, negative), np.int64(1 << 32)), _summed(b, low, 32, False))
        return b.Cast(total, to=dtype.code)

    return rule


in_opset("BitwiseAnd", 18)(_bitwise(lambda b, x, y: b.Mul(x, y)))
in_opset("BitwiseOr", 18)(_bitwise(lambda b, x, y: b.Max(x, y)))
in_opset("BitwiseXor", 18)(_bitwise(lambda b, x, y: b.Mod(b.Add(x, y), np.int64(2))))


@in_opset("BitwiseNot", 18)
def _(b: Builder, x: Value) -> Value:
    dtype = b.dtype(x)
    # All bits set are the largest of unsigned numbers, and -1 of signed ones.
    full = np.iinfo(dtype.numpy).max if dtype.kind == "uint" else -1
    return b.Sub(b.constant(Tensor.of(np.asarray(full, dtype.numpy))), x)


# Attributes that came later, or were attributes once

def _axes_written(name: str) -> Rule:
    def rule(b: Builder, x: Value, axes: Any = None, **written: Any) -> Value:
        numbers = axes.constant.numpy() if isinstance(axes, Value) and isinstance(axes.constant, Tensor) else axes
        if isinstance(numbers, Value):
            raise _newer(f"{name} over axes that are computed", 18)
        return b.op(name, x, axes=None if numbers is None else [int(a) for a in numbers], **written)

    return rule


for _name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"):
    in_opset(f"Reduce{_name}", 18, lambda written: "axes" not in written)(_axes_written(f"Reduce{_name}"))


_MERGES = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


def _reduces(*kinds: str) -> Callable[[dict[str, Any]], bool]:
    return lambda written: written.get("reduction") in kinds


def _merged(b: Builder, kind: str, x: Value, y: Value) -> Value:
    return b.op(_MERGES[kind], x, y)


@in_opset("ScatterElements", 18, _reduces("max", "min"))
@in_opset("ScatterElements", 16, _reduces("add", "mul"))
def _(b: Builder, x: Value, index: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> Value:
    """In turns along the axis: the elements of one turn lie in different places, so none meets another."""
    shapes = [b.shape(v) for v in (x, index)]
    assert shapes[0] is not None and shapes[1] is not None
    axis %= len(shapes[1])
    rest = [s for i, s in enumerate(shapes[1]) if i != axis]
    body = b.subgraph("scattered", [("data", b.dtype(x), shapes[0]), ("index", b.dtype(index), rest),
                                    ("update", b.dtype(updates), rest)])
    data, at, update = body.graph.inputs
    at, update = body.Unsqueeze(at, [axis]), body.Unsqueeze(update, [axis])
    # What the index does not cover of the other axes is left alone by both.
    new = _merged(body, reduction, body.GatherElements(data, at, axis=axis), update)
    body.output(body.ScatterElements(data, at, new, axis=axis))
    return b.op("Scan", x, index, updates, body=body, num_scan_inputs=2, scan_input_axes=[axis, axis])


@in_opset("ScatterND", 18, _reduces("max", "min"))
@in_opset("ScatterND", 16, _reduces("add", "mul"))
def _(b: Builder, x: Value, index: Value, updates: Value, *, reduction: str = "none") -> Value:
    """In turns, one row of indices at a time."""
    shape, places, given = b.shape(x), b.shape(index), b.shape(updates)
    assert shape is not None and places is not None and given is not None
    depth = places[-1]
    assert isinstance(depth, int)
    behind = b.Slice(b.Shape(updates), [len(places) - 1], [len(given)], [0]) if len(given) >= len(places) else None
    rows = b.Reshape(index, [-1, depth])
    flat = b.Reshape(updates, [-1] if behind is None else b.Concat(np.array([-1]), behind, axis=0))
    body = b.subgraph("scattered", [("data", b.dtype(x), shape), ("index", b.dtype(index), [depth]),
                                    ("update", b.dtype(updates), shape[depth:])])
    data, at, update = body.graph.inputs
    row = body.Unsqueeze(at, [0])
    new = _merged(body, reduction, body.GatherND(data, row), body.Unsqueeze(update, [0]))
    body.output(body.ScatterND(data, row, new))
    return b.op("Scan", x, rows, flat, body=body, num_scan_inputs=2)
