"""The notation of operators: the first version in full, later versions as differences, every rule on the operator.

    Softmax = (op("Softmax", Input("input"), Output("output"), Attr("axis", "int", 1), T=FLOATS)
               .since(11)
               .since(13, Attr("axis", "int", -1), T=FLOATS | BF16, behaviour="one axis instead of a matrix cut"))

One law picks a rule everywhere: the newest that is not newer than the node's version. An `Input`, `Output` or `Attr` in
`since` replaces the one of its name or, with a new name, comes behind; `Drop("name")` takes one away; `Inputs(...)` and
`Outputs(...)` replace the whole list. Type constraints are merged by name, and None takes one away.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from struct import pack, unpack
from typing import Any, Literal, TypeVar, overload

from gesher.base.errors import GesherError
from gesher.ir import Kind

F = TypeVar("F", bound=Callable[..., Any])


class _Required(Enum):
    REQUIRED = "required"

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required.REQUIRED

_KINDS: dict[str, Kind] = {
    "int": Kind.INT, "float": Kind.FLOAT, "string": Kind.STRING, "tensor": Kind.TENSOR, "graph": Kind.GRAPH,
    "ints": Kind.INTS, "floats": Kind.FLOATS, "strings": Kind.STRINGS, "tensors": Kind.TENSORS,
    "graphs": Kind.GRAPHS, "sparse_tensor": Kind.SPARSE_TENSOR, "sparse_tensors": Kind.SPARSE_TENSORS,
    "type": Kind.TYPE, "types": Kind.TYPES,
}


@dataclass(frozen=True, slots=True)
class Input:
    """An input: its name, its type (the name of a constraint, or a type as `tensor(int64)`), and how often it comes.

    A variadic input takes all that follow; `homogeneous=False` lets each have a type of its own; `least` is how many
    a variadic one must get.
    """

    name: str
    type: str = "T"
    optional: bool = False
    variadic: bool = False
    homogeneous: bool = True
    least: int = 1
    differentiable: bool | None = None


class Output(Input):
    """An output; as `Input`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Attr:
    """An attribute: its kind as a word (`int`, `floats`, `graph`...) and its default, None for none, or REQUIRED."""

    name: str
    kind: str
    default: Any = None

    def __post_init__(self) -> None:
        # A file holds floats as float32; a default must be the number that writing it out would give.
        if self.kind == "float" and isinstance(self.default, float):
            object.__setattr__(self, "default", unpack("f", pack("f", self.default))[0])

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def kind_code(self) -> Kind:
        return _KINDS[self.kind]


@dataclass(frozen=True, slots=True)
class Drop:
    """Takes away the input, output or attribute of that name."""

    name: str


class Inputs(tuple[Input, ...]):
    """The whole list of inputs of a version: `Inputs(Input("X"), Input("W"))`."""

    __slots__ = ()

    def __new__(cls, *inputs: Input) -> Inputs:
        return super().__new__(cls, inputs)


class Outputs(tuple[Output, ...]):
    """The whole list of outputs of a version."""

    __slots__ = ()

    def __new__(cls, *outputs: Output) -> Outputs:
        return super().__new__(cls, outputs)


Types = frozenset[str]
Change = Input | Attr | Drop | Inputs | Outputs


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of an operator, as the file format sees it."""

    domain: str
    name: str
    version: int
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    attributes: dict[str, Attr]
    types: dict[str, Types]
    deprecated: bool = False
    behaviour: str = ""
    note: str = ""

    @property
    def min_inputs(self) -> int:
        return _least(self.inputs)

    @property
    def max_inputs(self) -> int | None:
        """None: as many as one likes."""
        return None if self.inputs and self.inputs[-1].variadic else len(self.inputs)

    @property
    def min_outputs(self) -> int:
        return _least(self.outputs)

    @property
    def max_outputs(self) -> int | None:
        return None if self.outputs and self.outputs[-1].variadic else len(self.outputs)

    def input(self, index: int) -> Input:
        """The declaration of input `index`; the variadic one stands for all behind it."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def output(self, index: int) -> Output:
        return self.outputs[min(index, len(self.outputs) - 1)]

    def allowed(self, type: str) -> Types:
        """The types that a declaration's `type` stands for."""
        return self.types.get(type) or frozenset((type,))


def _least(formals: Sequence[Input]) -> int:
    # The last one that must be there decides, as ONNX counts it; variadic ones ask for `least`.
    need = 0
    for i, f in enumerate(formals):
        if f.variadic:
            need = max(need, i + f.least)
        elif not f.optional:
            need = i + 1
    return need


RuleKind = Literal["infer", "reference", "lower", "upgrade", "downgrade"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an operator, valid from version `since` on."""

    kind: RuleKind
    since: int
    function: Callable[..., Any]
    takes_run: bool = False     # a reference rule with a parameter `run` gets the Run context


class Operator:
    """An operator: its versions and its rules. Made by `op(...)`, widened by `.since(...)`.

    `family` is the module that it is written in; "" where no family file made it.
    """

    def __init__(self, first: Schema, family: str = ""):
        self.domain, self.name, self.family = first.domain, first.name, family
        self.versions: list[Schema] = [first]
        self.rules: dict[RuleKind, list[Rule]] = {}

    # Versions

    def since(self, version: int, *changes: Change, behaviour: str = "", note: str = "", deprecated: bool = False,
              **types: Types | None) -> Operator:
        """Add the next version as its difference to the newest.

        `behaviour` says in a few words what moved in the meaning, where schemas alone do not tell it; `note` what is
        allowed beside what was, where they do not tell that.
        """
        last = self.versions[-1]
        if version <= last.version:
            raise GesherError(f"{self.name}: version {version} must come after {last.version}")
        inputs, outputs, attributes = list(last.inputs), list(last.outputs), dict(last.attributes)
        for c in changes:
            if isinstance(c, Inputs):
                inputs = list(c)
            elif isinstance(c, Outputs):
                outputs = list(c)
            elif isinstance(c, Drop):
                before = len(inputs) + len(outputs) + len(attributes)
                inputs = [i for i in inputs if i.name != c.name]
                outputs = [o for o in outputs if o.name != c.name]
                attributes.pop(c.name, None)
                if len(inputs) + len(outputs) + len(attributes) == before:
                    raise GesherError(f"{self.name} {version}: there is no {c.name!r} to drop")
            elif isinstance(c, Attr):
                attributes[c.name] = c
            elif isinstance(c, Output):
                _put_formal(outputs, c)
            else:
                _put_formal(inputs, c)
        merged: dict[str, Types] = {k: t for k, t in {**last.types, **types}.items() if t is not None}
        self.versions.append(Schema(self.domain, self.name, version, tuple(inputs), tuple(outputs), attributes,
                                    merged, deprecated, behaviour, note))
        return self

    def schema(self, version: int) -> Schema | None:
        """The schema that a model importing `version` of the domain gets; None where the operator is newer."""
        found = None
        for s in self.versions:
            if s.version > version:
                break
            found = s
        return found

    def widens(self, old: int, new: int) -> bool:
        """True where everything valid at version `old` is valid at `new` with the same meaning."""
        return not any(s.behaviour for s in self.versions if old < s.version <= new)

    # Rules

    def rule(self, kind: RuleKind, version: int) -> Rule | None:
        """The newest rule of a kind that is not newer than `version`."""
        found = None
        for r in self.rules.get(kind, ()):
            if r.since <= version and (found is None or r.since >= found.since):
                found = r
        return found

    def _register(self, kind: RuleKind, function: Any, since: int | None) -> Any:
        def keep(f: F) -> F:
            code = getattr(f, "__code__", None)
            takes_run = code is not None and "run" in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
            at = self.versions[0].version if since is None else since
            if any(r.since == at for r in self.rules.get(kind, ())):
                raise GesherError(f"{self.name}: a {kind} rule since {at} is there already")
            self.rules.setdefault(kind, []).append(Rule(kind, at, f, takes_run))
            return f

        return keep if function is None else keep(function)

    @overload
    def infer(self, function: F) -> F: ...
    @overload
    def infer(self, *, since: int | None = None) -> Callable[[F], F]: ...
    def infer(self, function: Any = None, *, since: int | None = None) -> Any:
        """Register an inference rule, `rule(node: InferNode) -> None`."""
        return self._register("infer", function, since)

    @overload
    def reference(self, function: F) -> F: ...
    @overload
    def reference(self, *, since: int | None = None) -> Callable[[F], F]: ...
    def reference(self, function: Any = None, *, since: int | None = None) -> Any:
        """Register a reference rule, `rule(*inputs, **attributes) -> array | tuple`, in plain numpy."""
        return self._register("reference", function, since)

    @overload
    def lower(self, function: F) -> F: ...
    @overload
    def lower(self, *, since: int | None = None) -> Callable[[F], F]: ...
    def lower(self, function: Any = None, *, since: int | None = None) -> Any:
        """Register a lowering, `rule(p: Builder, *inputs, **attributes) -> Expr | tuple`."""
        return self._register("lower", function, since)

    def upgrade(self, *, since: int) -> Callable[[F], F]:
        """Register how a node of the version before `since` is said from `since` on."""
        return self._register("upgrade", None, since)

    def downgrade(self, *, since: int) -> Callable[[F], F]:
        """Register how a node of version `since` is said in the version before."""
        return self._register("downgrade", None, since)

    def __repr__(self) -> str:
        versions = ",".join(str(s.version) for s in self.versions)
        return f"Operator({self.domain + '.' if self.domain else ''}{self.name} {versions})"


def _put_formal(formals: list[Any], new: Input) -> None:
    for i, f in enumerate(formals):
        if f.name == new.name:
            formals[i] = new
            return
    formals.append(new)


BOOK: dict[tuple[str, str], Operator] = {}
"""Every operator by (domain, name). Read it through `ops.find` and `ops.operators`, which fill it first."""


def op(name: str, *parts: Input | Output | Attr, domain: str = "", since: int = 1, deprecated: bool = False,
       **types: Types) -> Operator:
    """Write an operator's first version in full, and put it into the book."""
    inputs = tuple(p for p in parts if isinstance(p, Input) and not isinstance(p, Output))
    outputs = tuple(p for p in parts if isinstance(p, Output))
    attributes = {p.name: p for p in parts if isinstance(p, Attr)}
    operator = Operator(Schema(domain, name, since, inputs, outputs, attributes, dict(types), deprecated), _family())
    if (domain, name) in BOOK:
        raise GesherError(f"{domain}.{name} is in the book already")
    BOOK[domain, name] = operator
    return operator


def _family() -> str:
    """The family file that is being read: the nearest caller on a shelf, for others may put its tables in."""
    frame = sys._getframe(2)
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        if module.startswith("gesher.ops.") and module.count(".") == 3:
            return module
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def tensors(names: str | Iterable[str]) -> Types:
    """A set of tensor types from dtype names: `tensors("float double")`."""
    return frozenset(f"tensor({n})" for n in (names.split() if isinstance(names, str) else names))


# The sets that schemas use most, by the words of this book. `|` and `-` combine them.
FLOATS: Types = tensors("float16 float double")
BF16: Types = tensors("bfloat16")
INTS: Types = tensors("int8 int16 int32 int64")
UINTS: Types = tensors("uint8 uint16 uint32 uint64")
NUMBERS: Types = FLOATS | INTS | UINTS
BOOL: Types = tensors("bool")
STRING: Types = tensors("string")
COMPLEX: Types = tensors("complex64 complex128")
ALL: Types = NUMBERS | BOOL | STRING | COMPLEX
"""Every tensor type of the first opsets."""
FLOAT8: Types = tensors("float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz")
INT4: Types = tensors("int4 uint4")
FLOAT4: Types = tensors("float4e2m1")
E8M0: Types = tensors("float8e8m0")
INT2: Types = tensors("int2 uint2")
FLOAT6: Types = tensors("float6e2m3 float6e3m2")


def sequences(types: Types) -> Types:
    """`seq(...)` of each type."""
    return frozenset(f"seq({t})" for t in types)


def optionals(types: Types) -> Types:
    """`optional(...)` of each type."""
    return frozenset(f"optional({t})" for t in types)


# What each opset added to the types that tensors may have.
_ADDED: tuple[tuple[int, Types], ...] = (
    (13, BF16), (19, FLOAT8), (21, INT4), (23, FLOAT4), (24, E8M0), (25, INT2), (28, FLOAT6))


def every(version: int) -> Types:
    """Every tensor type of an opset: what operators take that only move data.

    >>> sorted(every(19) - every(13))[0]
    'tensor(float8e4m3fn)'
    """
    return ALL.union(*(types for since, types in _ADDED if since <= version))
