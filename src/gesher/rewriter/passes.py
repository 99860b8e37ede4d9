"""The driver: rules tried on every node until none has anything to do.

    Pass("algebra", RULES).run(work)
    Pipeline("for the compiler", (FOLD, FUSE)).run(work)

A pass goes once over the nodes in order; a rewrite puts what it made, and what lies within the rules' reach behind it,
into line again. So a pass takes time near-linear in nodes, however many rewrites one makes possible for the next. A
pipeline runs its passes in turn until a whole round changes nothing.

What a reader would guess wrong:

- The driver trusts no rule: what takes a value's place must surely have its type and shape, else the rewrite is taken
  back. Only where it is the very same value (the branch of an If that is always taken) is this not asked.
- Nodes that nothing reads any more go at once, and what only they read.
- Rules that undo each other would run forever: a pass stops after `_MOST` rewrites a node, and tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter

from gesher.base.errors import GesherError
from gesher.base.knobs import STOP, debug
from gesher.ir import Graph, Node, TensorType, Value, print_shape

from .film import listing, told_apart
from .rules import Rewrite
from .verify import hold_values, verify
from .work import Refused, Work

# Rewrites a node after which rules are held to be running in a circle.
_MOST = 20
# Readers of one value that are looked at again when it changes; more would make long lists of readers quadratic.
_READERS = 64
_ROUNDS = 8


class Stopped(Exception):  # noqa: N818  (what was asked for, not a fault)
    """`GESHER_STOP` rewrites have been made."""


class Pass:
    """Rules that are applied together, to a fixed point."""

    def __init__(self, name: str, rules: Iterable[Rewrite]):
        self.name, self.rules = name, tuple(rules)
        self.reach = max((r.reach for r in self.rules), default=0)
        self._anywhere = tuple(r for r in self.rules if not r.starts)
        self._by_start: dict[tuple[str, str], tuple[Rewrite, ...]] = {}
        for start in {s for r in self.rules for s in r.starts}:
            self._by_start[start] = tuple(r for r in self.rules if not r.starts or start in r.starts)

    def rules_at(self, node: Node) -> Sequence[Rewrite]:
        """The rules that are tried on a node."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        return self._by_start.get((domain, node.op_type), self._anywhere)

    def run(self, work: Work) -> int:
        """Apply the rules until none applies; how many rewrites that took."""
        line: deque[Node] = deque(n for g in work.model.graphs() for n in g.nodes)
        waiting = set(line)
        left = 1000 + _MOST * len(line)
        count = 0
        while line:
            node = line.popleft()
            waiting.discard(node)
            # What nothing reads is not worth a thought.
            if node.graph is None or not any(o is not None and o.uses for o in node.outputs):
                continue
            for r in self.rules_at(node):
                touched = attempt(work, r, node)
                if touched is None:
                    continue
                count += 1
                if count >= left:
                    told = f"pass {self.name}: stopped after {count} rewrites; '{r.name}' may run in a circle"
                    if work.verify:
                        raise GesherError(told)
                    debug(1, told)
                    return count
                for n in (*work.made, *self._behind(touched)):
                    if n.graph is not None and n not in waiting:
                        waiting.add(n)
                        line.append(n)
                if node.graph is None:
                    break
        return count

    def _behind(self, values: Iterable[Value]) -> list[Node]:
        """Nodes that read `values` within the reach of the rules, and those that make them."""
        seen: dict[Node, None] = {}
        front = list(values)
        for v in front:
            if v.producer is not None:
                seen[v.producer] = None
        for _ in range(max(self.reach, 1)):
            nodes = [u for v in front for u in list(v.uses)[:_READERS] if isinstance(u, Node) and u not in seen]
            if not nodes:
                break
            seen.update(dict.fromkeys(nodes))
            front = [o for n in nodes for o in n.outputs if o is not None]
        return list(seen)


class Sweep:
    """A pass that is one function over the whole model, for what no rule at a node can see. It gives its count."""

    def __init__(self, name: str, function: Callable[[Work], int]):
        self.name, self._function = name, function

    def run(self, work: Work) -> int:
        return self._function(work)


class Pipeline:
    """Passes in turn, round after round, until a whole round changes nothing."""

    def __init__(self, name: str, passes: Sequence[Pass | Sweep]):
        self.name, self.passes = name, tuple(passes)

    def run(self, work: Work) -> int:
        """Run to the end, or to step `GESHER_STOP`; how many rewrites were made."""
        began, total = perf_counter(), 0
        nodes = sum(map(len, work.graphs()))
        if work.verify >= 1:
            verify(work, "before optimisation")
        work.stop_after = STOP.number or None
        quiet: set[str] = set()
        try:
            for _ in range(_ROUNDS):
                before = total
                for p in self.passes:
                    # Who found nothing, and nothing changed since, finds nothing again.
                    if p.name in quiet:
                        continue
                    count = _shown(p, work)
                    total += count
                    if count:
                        quiet.clear()
                    quiet.add(p.name)
                if total == before:
                    break
        except Stopped:
            debug(1, f"{self.name}: stopped after {STOP.number} rewrites, as GESHER_STOP asks")
        if work.verify >= 1:
            verify(work, "after optimisation")
        if work.debug >= 1:
            debug(1, f"{self.name}: {nodes} nodes became {sum(map(len, work.graphs()))} in {total} rewrites, "
                     f"{(perf_counter() - began) * 1e3:.0f} ms")
        return total


def _shown(p: Pass | Sweep, work: Work) -> int:
    """Run one pass; tell what it did where that is asked for."""
    level = work.debug
    before = listing(work.model) if level >= 5 else []
    began = perf_counter()
    count = p.run(work)
    if level >= 3:
        debug(3, f"pass {p.name}: {count} rewrites, {(perf_counter() - began) * 1e3:.1f} ms")
    if level >= 5 and count:
        debug(5, told_apart(before, listing(work.model)))
    if work.verify >= 2:
        verify(work, f"after pass {p.name}")
    return count


def attempt(work: Work, r: Rewrite, node: Node) -> list[Value] | None:
    """Try one rule on one node; the values that changed where it applied, else None."""
    edit, mark = work.edit, len(work.edit.steps)
    work.at, work.made = node, []
    place = node.place if work.debug >= 3 or work.verify >= 3 else ""
    with edit.rule(r.name):
        try:
            answer = r.apply(work, node)
            if not isinstance(answer, str):
                touched = put_in_place(work, answer, r.same)
        except Refused as e:
            answer = e.reason
        if isinstance(answer, str) or not answer:
            edit.undo(mark)
            work.made = []
            if answer and work.debug >= 3:
                debug(3, f"  {r.name} not at {place}: {answer}")
            return None
    work.count(r.name)
    if place:
        debug(3, f"  {r.name} at {place}")
        if work.verify >= 3:
            verify(work, f"after rule {r.name} at {place}")
    if work.stop_after is not None and work.rewrites >= work.stop_after:
        raise Stopped
    return touched


def put_in_place(work: Work, pairs: dict[Value, Value], same: bool = False) -> list[Value]:
    """Let everyone who reads the old values read the new ones; nodes that are read no more go.

    `same` says that they are the very same values, whose types need not be compared.

    Raises:
        Refused: a new value is not surely of the old one's type.
    """
    pairs = {old: new for old, new in pairs.items() if old is not new}
    if not pairs:
        raise Refused("nothing would change")
    if not same:
        for old, new in pairs.items():
            _hold_types(work, old, new)
    if work.verify >= 4:
        hold_values(work, pairs)
    touched: list[Value] = []
    for old, new in pairs.items():
        work.learn(new, old)
        if not new.name and new.producer is not None:
            # So that explanations, profiles and the C speak of what the model's people know.
            work.edit.rename(new, old.name)
        maker = old.producer
        if any(isinstance(u, Graph) for u in old.uses) and not _can_be_given_out(old, new):
            # An output keeps its name, so something must make it.
            if maker is None or maker.op_type == "Identity":
                raise Refused("an output keeps its name")
            new = work.op("Identity", new)
            work.learn(new, old)
        work.edit.replace(old, new)
        touched.append(new)
        if maker is not None:
            touched += drop_unread(work, maker)
    for n in list(work.made):
        if n.graph is not None:
            drop_unread(work, n)
    return touched


def _can_be_given_out(old: Value, new: Value) -> bool:
    return new.producer is not None and new.graph is old.graph and not new.is_output


def _hold_types(work: Work, old: Value, new: Value) -> None:
    a, b = work.fact(old).type, work.fact(new).type
    if a == b and a is not None and not (isinstance(a, TensorType) and a.shape is None):
        return
    if not isinstance(a, TensorType) or not isinstance(b, TensorType):
        raise Refused(f"{b} would take the place of {a}")
    if a.dtype is not b.dtype:
        raise Refused(f"{b.dtype} would take the place of {a.dtype}")
    if not work.same_shape(a.shape, b.shape):
        raise Refused(f"{print_shape(b.shape)} is not surely the shape {print_shape(a.shape)}")


def drop_unread(work: Work, node: Node) -> list[Value]:
    """Take a node out that nothing reads, then those that only it read; the values that have one reader left."""
    lost: list[Value] = []
    pending = [node]
    while pending:
        n = pending.pop()
        if n.graph is None or any(o is not None and o.uses for o in n.outputs) or not work.repeatable(n):
            continue
        read = [v for v in n.inputs if v is not None]
        read += [v for g in n.subgraphs() for inner in g.nodes for v in inner.inputs if v is not None]
        work.edit.drop(n)
        for v in dict.fromkeys(read):
            if v.uses:
                # One reader that is left alone may do what it could not before; of many, nobody can.
                if len(v.uses) == 1 and v.producer is not None:
                    lost.append(v)
            elif v.producer is not None and v.producer.graph is not None:
                pending.append(v.producer)
    return lost
