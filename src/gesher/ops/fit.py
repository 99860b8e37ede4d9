"""Whether a node fits the schema of its operator: how many inputs and outputs, which attributes, which types.

Checker, builder and inference all ask here, so that they agree. Each question yields every misfit it finds, named by
the rule that is broken; an empty answer means that the node fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gesher.base.dtypes import DType
from gesher.ir import (
    Kind,
    MapType,
    Node,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

from .schema import Input, Schema

# How many inputs and outputs a schema asks for. Schemas live as long as the book, but for those of tests.
_COUNTS: dict[int, tuple[Schema, int, int, int, int]] = {}
_ANY = 1 << 62


@dataclass(frozen=True, slots=True)
class Misfit:
    """One way in which a node does not fit: the rule's kebab-case name, what is wrong, what to do."""

    rule: str
    message: str
    advice: str | None = None


def arity(node: Node, schema: Schema) -> Iterator[Misfit]:
    """Too many or too few inputs and outputs, and required ones left out."""
    counts = _COUNTS.get(id(schema))
    if counts is None or counts[0] is not schema:
        most_in, most_out = schema.max_inputs, schema.max_outputs
        counts = _COUNTS[id(schema)] = (
            schema, schema.min_inputs, _ANY if most_in is None else most_in,
            schema.min_outputs, _ANY if most_out is None else most_out)
    # Nearly every node fits, so that is decided first and fast.
    _, least_in, most_in, least_out, most_out = counts
    if least_in <= len(node.inputs) <= most_in and least_out <= len(node.outputs) <= most_out \
            and None not in node.inputs:
        return
    for word, values, formals, least, most in (
            ("inputs", node.inputs, schema.inputs, schema.min_inputs, schema.max_inputs),
            ("outputs", node.outputs, schema.outputs, schema.min_outputs, schema.max_outputs)):
        count = len(values)
        if (most is not None and count > most) or count < least:
            yield Misfit(f"{word[:-1]}-count", f"{node.op_type} {'takes' if word == 'inputs' else 'makes'} "
                         f"{_range(least, most)} {word if most != 1 else word[:-1]}, here are {count}",
                         f"opset {schema.version} declares: {', '.join(_formal(f) for f in formals) or 'none'}")
        for value, formal in zip(values, formals):
            # A required output that nobody wants may be left out: nothing reads it.
            if value is None and word == "inputs" and not formal.optional and not formal.variadic:
                yield Misfit("input-missing", f"{node.op_type} cannot do without its input '{formal.name}'",
                             "only inputs declared optional may be left out")


def attributes(node: Node, schema: Schema) -> Iterator[Misfit]:
    """Attributes that the schema does not know or that have another kind, and required ones that are missing."""
    for name, a in node.attributes.items():
        formal = schema.attributes.get(name)
        if formal is None:
            near = _nearest(name, schema.attributes)
            yield Misfit("attribute-unknown",
                         f"{node.op_type} of opset {schema.version} has no attribute '{name}'",
                         f"did you mean '{near}'?" if near else
                         f"it has: {', '.join(schema.attributes) or 'none'}")
        elif a.kind != formal.kind_code:
            yield Misfit("attribute-kind",
                         f"{node.op_type}: the attribute '{name}' is {_kind(a.kind)}, it must be "
                         f"{_kind(formal.kind_code)}")
        elif not a.ref and a.value is None:
            yield Misfit("attribute-kind", f"{node.op_type}: the attribute '{name}' has no value")
    for name, formal in schema.attributes.items():
        if formal.required and name not in node.attributes:
            yield Misfit("attribute-missing", f"{node.op_type}: the attribute '{name}' is required",
                         f"it is {_kind(formal.kind_code)}")


def types(node: Node, schema: Schema, inputs: Sequence[Type | None], outputs: Sequence[Type | None] = ()
          ) -> Iterator[Misfit]:
    """Types that a type constraint does not allow, and type variables that would have to be two types at once.

    A type that is unknown (None, or in part) is not judged.
    """
    bound: dict[str, tuple[str, str]] = {}
    for word, values, formals in (("input", inputs, schema.inputs), ("output", outputs, schema.outputs)):
        if not formals:
            continue
        last = len(formals) - 1
        for i, t in enumerate(values):
            if t is None:
                continue
            said = spelled(t)
            if said is None:
                continue
            formal = formals[i if i < last else last]
            where = f"{word} {i} '{formal.name}'"
            allowed = schema.types.get(formal.type)
            if said not in (allowed if allowed is not None else (formal.type,)) and \
                    not _allows(allowed if allowed is not None else frozenset((formal.type,)), said):
                yield Misfit("type-constraint", f"{node.op_type}: {where} is {said}, which opset {schema.version} "
                             "does not allow", f"allowed: {', '.join(sorted(schema.allowed(formal.type)))}")
            elif allowed is not None and (formal.homogeneous or not formal.variadic):
                first = bound.setdefault(formal.type, (said, where))
                if first[0] != said:
                    yield Misfit("type-binding", f"{node.op_type}: {where} is {said}, but {first[1]} is {first[0]}, "
                                 "and both must be the same type", "insert a Cast")


_TENSOR: dict[DType, str] = {}


def spelled(type: Type | None) -> str | None:
    """A type as schemas spell it, `tensor(float)` or `seq(map(int64,float))`; None where any part is unknown."""
    if isinstance(type, TensorType):
        text = _TENSOR.get(type.dtype)
        if text is None:
            if type.dtype.kind == "none":
                return None
            text = _TENSOR[type.dtype] = f"tensor({type.dtype.name})"
        return text
    if isinstance(type, SparseTensorType):
        return f"sparse_tensor({type.dtype.name})" if type.dtype.kind != "none" else None
    if isinstance(type, (SequenceType, OptionalType)):
        inner = spelled(type.element)
        return inner and f"{'seq' if isinstance(type, SequenceType) else 'optional'}({inner})"
    if isinstance(type, MapType):
        # Schemas write the scalar of a map without `tensor(...)`.
        inner = type.value.dtype.name if isinstance(type.value, TensorType) else spelled(type.value)
        return inner and f"map({type.key.name},{inner})"
    return None


def _allows(allowed: frozenset[str], said: str) -> bool:
    """As `said in allowed`, over the ways in which schemas write maps."""
    if "map(" not in said:
        return False
    return any(said == a.replace(" ", "").replace("tensor(", "").replace("))", ")") or said == a.replace(" ", "")
               for a in allowed)


def _range(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return str(least) if least == most else f"{least} to {most}"


def counted(n: int, noun: str) -> str:
    """`1 input`, `2 inputs`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _formal(f: Input) -> str:
    return f"{f.name}{'...' if f.variadic else '?' if f.optional else ''}"


def _kind(kind: Kind) -> str:
    name = kind.name.lower()
    if kind.is_list:
        return f"a list of {name[:-1] if name != 'undefined' else name}s"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), 1, 0.75)
    return found[0] if found else None
