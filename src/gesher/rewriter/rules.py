"""Rules: what is looked for, what is made of it, and why sometimes nothing is.

    Rule("mul_by_one", find=lambda x, c: x * c, make=lambda x, c: x,
         when=lambda x, c: c.is_scalar(1) or "the factor is not the scalar 1")

or, where a pattern would hide more than it tells, a function over nodes of some operators:

    @rule("drop_identity", "Identity")
    def _(work, node):
        return node.inputs[0]

A function answers with the value that takes the place of the node's output (a list for several outputs, None where one
must be unread; a dict for values of other nodes), or with the reason for doing nothing, as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

from gesher.ir import Node, Value

from .patterns import Match, Pattern, Var, as_pattern, depth, match, roots
from .terms import Known, plain
from .work import Work

Answer = dict[Value, Value] | str
"""What a rule says: values and what stands for them, or why it does nothing ("" where it does not even apply)."""


class Rewrite:
    """Anything that the driver can try on a node.

    Attributes:
        name: for people, journals and bisection.
        starts: the (domain, operator) pairs of the nodes that it is tried on; empty is any.
        reach: how many nodes upwards it looks; what changed there makes it worth another try.
        same: whether its answer is by construction the very value that it takes the place of, so that types need not
            be compared: an inference that knows little may know it differently of the two.
    """

    same: bool = False
    name: str
    starts: frozenset[tuple[str, str]]
    reach: int

    def apply(self, work: Work, node: Node) -> Answer:
        """Make what shall stand in the place of what `node` gives, and say so; else the reason."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


class Rule(Rewrite):
    """A pattern and what is made of it.

    Args:
        find: a function of variables that gives a pattern; a variable `*rest` takes all further inputs.
        make: a function of those names (and of named attributes and nodes) that gives the new value.
        when: of the same names: True, or the reason why not. It is asked for every way to match.
        shared: whether values inside the pattern may be read by others too. By default not, since the old nodes would
            then stay beside the new one.
    """

    def __init__(self, name: str, find: Callable[..., Any], make: Callable[..., Any],
                 when: Callable[..., bool | str] | None = None, *, shared: bool = False):
        self.name, self.shared = name, shared
        variables = [Var(p.name, p.kind is Parameter.VAR_POSITIONAL) for p in signature(find).parameters.values()]
        self.pattern: Pattern = as_pattern(find(*variables))
        self.starts = frozenset(roots(self.pattern))
        self.reach = depth(self.pattern)
        self._make, self._when = _by_name(make), None if when is None else _by_name(when)

    def apply(self, work: Work, node: Node) -> Answer:
        reason = ""

        def accept(m: Match) -> bool:
            nonlocal reason
            if not self.shared:
                read = _read_elsewhere(m)
                if read is not None:
                    reason = f"'{read.name}' is read elsewhere too"
                    return False
            if self._when is None:
                return True
            said = self._when(work, m.bindings)
            if said and not isinstance(said, str):
                return True
            reason = said or "its condition does not hold"
            return False

        found = match(work, self.pattern, node, accept)
        if found is None:
            return reason
        return answered(node, self._make(work, found.bindings))


class NodeRule(Rewrite):
    """A function over the nodes of some operators; see `rule`."""

    def __init__(self, name: str, starts: Sequence[str], function: Callable[[Work, Node], Any], reach: int,
                 domain: str, current: bool, same: bool):
        self.name, self.reach, self.current, self.same = name, reach, current, same
        self.starts = frozenset((domain, s) for s in starts)
        self._function = function

    def apply(self, work: Work, node: Node) -> Answer:
        if self.current and not work.is_current(node):
            return ""
        return answered(node, self._function(work, node))


def rule(name: str, *op_types: str, reach: int = 3, domain: str = "", current: bool = True, same: bool = False
         ) -> Callable[[Callable[[Work, Node], Any]], NodeRule]:
    """Make a rule of a function over nodes.

    Args:
        op_types: the operators that it looks at; none is all.
        reach: how many nodes upwards it looks.
        current: only at nodes that mean what they would in the newest opset.
        same: its answer is the very value that it takes the place of (see `Rewrite`).
    """
    def make(function: Callable[[Work, Node], Any]) -> NodeRule:
        return NodeRule(name, op_types, function, reach, domain, current, same)

    return make


def answered(node: Node, made: Any) -> Answer:
    """What a rule gave, as values and what stands for them."""
    if made is None or made is False:
        return ""
    if isinstance(made, str):
        return made
    if isinstance(made, dict):
        return {old: plain(new) for old, new in made.items()}
    if isinstance(made, Node):
        made = made.outputs
    if not isinstance(made, (list, tuple)):
        made = [made]
    pairs: dict[Value, Value] = {}
    for i, old in enumerate(node.outputs):
        new = plain(made[i]) if i < len(made) else None
        if old is None:
            continue
        if new is None:
            if old.uses:
                return f"output {i} is read, and nothing would take its place"
            continue
        pairs[old] = new
    return pairs


def _by_name(function: Callable[..., Any]) -> Callable[[Work, Mapping[str, Any]], Any]:
    """Call `function` with what its parameters' names are bound to; values come as terms, `work` as the work."""
    names = list(signature(function).parameters)

    def call(work: Work, bindings: Mapping[str, Any]) -> Any:
        def term(name: str) -> Any:
            if name == "work":
                return work
            x = bindings.get(name)
            if isinstance(x, Value):
                return Known(work, x)
            if isinstance(x, tuple) and _is_rest(x):
                return tuple(None if v is None else Known(work, v) for v in x)
            return x

        return function(*map(term, names))

    return call


def _is_rest(x: tuple[Any, ...]) -> bool:
    return all(v is None or isinstance(v, Value) for v in x)


def _read_elsewhere(m: Match) -> Value | None:
    """A value inside a match that somebody outside of it reads."""
    inside = set(m.nodes)
    for n in m.nodes:
        if n is m.root:
            continue
        for o in n.outputs:
            if o is not None and any(u not in inside for u in o.uses):
                return o
    return None


__all__ = ["Answer", "NodeRule", "Rewrite", "Rule", "answered", "rule"]
