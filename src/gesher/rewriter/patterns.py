"""Patterns over nodes and values, and how they are matched.

    x * (op.Erf(x / 1.4142135) + 1) * 0.5        operators commute where mathematics lets them
    either(op.Relu(x), op.Clip(x, 0.0, None))    alternatives
    maybe(op.Cast, x, to=ANY)                    an operator that may be missing
    op.Concat(x, rest)                           `*rest` among the rule's variables takes all that follow
    op.Softmax(x, axis=attr("axis"))             an attribute that the rule will ask for
    op.Conv(x, w, ...)                           further inputs, and attributes, of any kind
    op.Conv(x, w, b).named("conv")               gives the node itself

What a reader would guess wrong:

- An attribute that a pattern does not speak of must have its default, or be missing.
- A number matches a constant of one element within the rounding of its type (`TOLERANCE`), of any rank. That a rank
  of 4 may show in the result is for the driver, which never lets a shape change.
- A variable that stands twice must be the same value, or constants of the same numbers.
- Matching tries every way in which operands commute until `accept` agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.ir import Node, Value

from .terms import Term
from .work import Work

COMMUTES = frozenset(("Add", "Mul", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal"))
"""Operators of two operands that may be swapped. Min and Max are not: which NaN or zero they give hangs on order."""

TOLERANCE: dict[DType, float] = {dtypes.DOUBLE: 1e-7, dtypes.FLOAT: 1e-6, dtypes.FLOAT16: 1e-3, dtypes.BFLOAT16: 8e-3}
"""How far, relatively, a constant may lie from a pattern's number: a few roundings of its type."""


class Pattern(Term):
    """What a value must be."""

    __slots__ = ()


class Var(Pattern):
    """Any value; `rest` takes all inputs that follow."""

    __slots__ = ("name", "rest")

    def __init__(self, name: str, rest: bool = False):
        self.name, self.rest = name, rest

    def __repr__(self) -> str:
        return self.name


class Number(Pattern):
    """A constant of one element near `number`."""

    __slots__ = ("number",)

    def __init__(self, number: float):
        self.number = number

    def __repr__(self) -> str:
        return repr(self.number)


class Apply(Pattern):
    """What a node gives: one of some operators, on patterns."""

    __slots__ = ("attributes", "domain", "index", "inputs", "name", "op_types", "open")

    def __init__(self, op_types: tuple[str, ...], domain: str, inputs: Sequence[Any], attributes: dict[str, Any],
                 index: int = 0, name: str = "", open_: bool | None = None):
        self.open = bool(inputs) and inputs[-1] is ... if open_ is None else open_
        self.inputs: tuple[Pattern | None, ...] = tuple(as_pattern(x) for x in inputs if x is not ...)
        self.op_types, self.domain, self.attributes, self.index, self.name = op_types, domain, attributes, index, name

    def named(self, name: str) -> Apply:
        """The same, and the node is bound to `name`."""
        return Apply(self.op_types, self.domain, self.inputs, self.attributes, self.index, name, self.open)

    def __getitem__(self, index: int) -> Apply:
        """Output `index` of the node."""
        return Apply(self.op_types, self.domain, self.inputs, self.attributes, index, self.name, self.open)

    def __repr__(self) -> str:
        return f"{'|'.join(self.op_types)}({', '.join(map(repr, self.inputs))})"


class Either(Pattern):
    """One of several patterns, tried in order."""

    __slots__ = ("choices",)

    def __init__(self, choices: Sequence[Any]):
        self.choices = tuple(as_pattern(c) for c in choices)

    def __repr__(self) -> str:
        return f"either({', '.join(map(repr, self.choices))})"


class _Anything:
    def __repr__(self) -> str:
        return "ANY"


ANY = _Anything()
"""An attribute of any value, written or not."""


class Asked:
    """An attribute whose value the rule asks for, by `name`."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


def attr(name: str) -> Asked:
    """An attribute that `when` and `make` get under `name`."""
    return Asked(name)


def either(*choices: Any) -> Either:
    """One of several patterns."""
    return Either(choices)


def maybe(make: Callable[..., Any], x: Any, *more: Any, **attributes: Any) -> Either:
    """`make(x, ...)`, or `x` alone."""
    return Either((make(x, *more, **attributes), x))


def one_of(*op_types: str, domain: str = "") -> Callable[..., Apply]:
    """A node of any of these operators."""
    def apply(*inputs: Any, **attributes: Any) -> Apply:
        return Apply(op_types, domain, inputs, attributes)

    return apply


def as_pattern(x: Any) -> Any:
    """A pattern from what stands in a rule: a number stands for a constant of one element, None for nothing."""
    if x is None or isinstance(x, Pattern):
        return x
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        return Number(x)
    raise TypeError(f"no pattern: {x!r}")


def depth(p: Any) -> int:
    """How many nodes a match goes up at the most."""
    if isinstance(p, Apply):
        return 1 + max((depth(x) for x in p.inputs), default=0)
    if isinstance(p, Either):
        return max(depth(c) for c in p.choices)
    return 0


def roots(p: Pattern) -> set[tuple[str, str]]:
    """The (domain, operator) of the nodes at which a match can begin."""
    if isinstance(p, Apply):
        return {(p.domain, t) for t in p.op_types}
    if isinstance(p, Either):
        return set().union(*(roots(c) for c in p.choices))
    raise TypeError(f"a rule must begin at a node, not at {p!r}")


class Match:
    """What a pattern's names stand for, and the nodes that it took."""

    __slots__ = ("bindings", "nodes", "root")

    def __init__(self, root: Node, bindings: dict[str, Any] | None = None, nodes: list[Node] | None = None):
        self.root = root
        self.bindings: dict[str, Any] = {} if bindings is None else bindings
        self.nodes: list[Node] = [] if nodes is None else nodes

    def copy(self) -> Match:
        return Match(self.root, dict(self.bindings), list(self.nodes))


# Goals are a chain of pairs, so that choice points share what is left to do.
_Goals = Any


def match(work: Work, pattern: Pattern, node: Node, accept: Callable[[Match], bool]) -> Match | None:
    """The first way in which `pattern` matches what `node` gives and `accept` agrees."""
    output = next((o for o in node.outputs if o is not None), None)
    if output is None:
        return None
    return _solve(work, ((pattern, output), None), Match(node), accept)


def _solve(work: Work, goals: _Goals, m: Match, accept: Callable[[Match], bool]) -> Match | None:
    while goals is not None:
        (p, v), goals = goals
        if p is None:
            if v is not None:
                return None
        elif v is None:
            return None
        elif isinstance(p, Var):
            bound = m.bindings.get(p.name)
            if bound is None:
                m.bindings[p.name] = v
            elif not work.same(bound, v):
                return None
        elif isinstance(p, Number):
            if not is_near(work, v, p.number):
                return None
        elif isinstance(p, Either):
            for choice in p.choices:
                found = _solve(work, ((choice, v), goals), m.copy(), accept)
                if found is not None:
                    return found
            return None
        else:
            assert isinstance(p, Apply)
            node = v.producer
            if node is None or not _is_it(work, p, node, v, m):
                return None
            m.nodes.append(node)
            if p.name:
                m.bindings[p.name] = node
            if len(p.inputs) == 2 and node.op_type in COMMUTES and len(node.inputs) == 2:
                a, b = node.inputs
                found = _solve(work, ((p.inputs[0], a), ((p.inputs[1], b), goals)), m.copy(), accept)
                if found is not None or a is b:
                    return found
                goals = ((p.inputs[0], b), ((p.inputs[1], a), goals))
                continue
            given: list[Value | None] = list(node.inputs)
            wanted: list[Any] = list(p.inputs)
            if wanted and isinstance(wanted[-1], Var) and wanted[-1].rest:
                rest = wanted.pop()
                m.bindings[rest.name] = tuple(given[len(wanted):])
                given = given[:len(wanted)]
            if len(given) > len(wanted):
                if not p.open and any(x is not None for x in given[len(wanted):]):
                    return None
                given = given[:len(wanted)]
            given += [None] * (len(wanted) - len(given))
            for pair in reversed(list(zip(wanted, given))):
                goals = (pair, goals)
    return m if accept(m) else None


def _is_it(work: Work, p: Apply, node: Node, v: Value, m: Match) -> bool:
    """Whether a node is the operator that `p` asks for, with its attributes."""
    if node.op_type not in p.op_types or ("" if node.domain == "ai.onnx" else node.domain) != p.domain:
        return False
    # What stands in an outer graph runs once, what is made here would run each time.
    if node.graph is not m.root.graph or p.index >= len(node.outputs) or node.outputs[p.index] is not v:
        return False
    found = work.meaning(node)
    if found is None or not found[2]:
        return False
    if p.open:
        return all(_attribute_fits(work, node, k, w, m) for k, w in p.attributes.items())
    formals = found[1].attributes
    for name, a in node.attributes.items():
        if name not in p.attributes and name in formals and a.value != formals[name].default:
            return False
    return all(_attribute_fits(work, node, k, w, m) for k, w in p.attributes.items())


def _attribute_fits(work: Work, node: Node, name: str, wanted: Any, m: Match) -> bool:
    if wanted is ANY:
        return True
    value = work.attribute(node, name)
    if isinstance(wanted, Asked):
        if wanted.name in m.bindings:
            return bool(m.bindings[wanted.name] == value)
        m.bindings[wanted.name] = value
        return True
    if callable(wanted):
        return bool(wanted(value))
    return bool(value == (tuple(wanted) if isinstance(wanted, list) else wanted))


def is_near(work: Work, value: Value, number: float) -> bool:
    """Whether a value is a constant of one element within a few roundings of `number`."""
    x = work.scalar(value)
    if x is None or isinstance(x, (str, bytes, complex)):
        return False
    if x == number:
        return True
    return abs(x - number) <= TOLERANCE.get(work.dtype(value), 0.0) * abs(number)
