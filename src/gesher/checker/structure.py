"""Names and order: whether every value that is read is made, once, before it is read, and within reach."""

from __future__ import annotations

from bisect import bisect_right

from gesher.ir import Function, Graph, Node, Value
from gesher.ops.training.way import read_by_name

from .context import Context


def check(context: Context) -> None:
    """Look at every graph of the model."""
    reach = _Reach(context)
    for graph in context.graphs:
        _ends(context, graph)
        _names(context, graph)
        reach.look(graph)
    _shadows(context)
    _dead(context)


def _ends(context: Context, graph: Graph) -> None:
    place = context.place(graph)
    main = graph is context.model.graph
    if not graph.name and not isinstance(graph, Function):
        context.say("graph-name", "a graph has no name", place)
    if not graph.outputs:
        context.say("no-outputs", f"{graph.place} gives nothing out", place)
    if main:
        for word, values in (("input", graph.inputs), ("output", graph.outputs)):
            for i, v in enumerate(values):
                if not v.name:
                    context.say("unnamed-value", f"{word} {i} has no name", place)
                if v.type is None:
                    context.say("input-type", f"the {word} '{v.name}' declares no type", place)
    for node in graph.nodes:
        if not node.op_type:
            context.say("no-op-type", "a node applies no operator", context.place(graph, node.place))


def _names(context: Context, graph: Graph) -> None:
    """Two values, or two nodes, of one name."""
    made: dict[str, Value] = {}

    def define(v: Value, by: str) -> None:
        if not v.name:
            return
        first = made.setdefault(v.name, v)
        if first is not v:
            context.say("duplicate-name", f"'{v.name}' is made twice: by {_maker(first, graph)} and by {by}",
                        context.place(graph, by))

    seen: set[int] = set()
    for v in graph.inputs:
        if id(v) in seen:
            context.say("duplicate-name", f"the input '{v.name}' is listed twice", context.place(graph))
        seen.add(id(v))
        define(v, f"input '{v.name}'")
    for v in graph.initializers:
        define(v, f"initializer '{v.name}'")
    nodes: set[str] = set()
    for node in graph.nodes:
        for o in node.outputs:
            if o is not None:
                if o.producer is not node:
                    context.say("duplicate-name", f"'{o.name}' is made twice: by {_maker(o, graph)} and by "
                                f"{node.place}", context.place(graph, node.place))
                define(o, node.place)
        if node.name:
            if node.name in nodes:
                context.say("duplicate-node-name", f"two nodes are named '{node.name}'",
                            context.place(graph, node.place))
            nodes.add(node.name)


def _maker(v: Value, graph: Graph) -> str:
    if v.producer is not None:
        return v.producer.place
    return f"input '{v.name}'" if any(v is i for i in graph.inputs) else f"initializer '{v.name}'"


def _shadows(context: Context) -> None:
    """Names of inner graphs that a graph around them has too."""
    names: dict[Graph, dict[str, Value]] = {}
    for graph in context.graphs:
        own: dict[str, Value] = {}
        for v in (*graph.inputs, *graph.initializers):
            if v.name:
                own.setdefault(v.name, v)
        for node in graph.nodes:
            for o in node.outputs:
                if o is not None and o.name:
                    own.setdefault(o.name, o)
        names[graph] = own
        outer = graph.parent.graph if graph.parent is not None else None
        # Deeper than any sane model, a climb for each graph would be quadratic.
        for _ in range(64):
            if outer is None or outer not in names:
                break
            known = names[outer]
            few, many = (own, known) if len(own) < len(known) else (known, own)
            for name in few:
                if name in many:
                    context.say("shadowed-name", f"'{name}' is also a name of {outer.place} around this graph",
                                context.place(graph))
            outer = outer.parent.graph if outer.parent is not None else None


class _Reach:
    """Where each value may be read: behind its maker, in the same graph or one inside it."""

    def __init__(self, context: Context):
        self.context = context
        self.rank: dict[Node, int] = {}
        for graph in context.graphs:
            for i, node in enumerate(graph.nodes):
                self.rank[node] = i
        self.starts: dict[Graph, set[Value]] = {g: {*g.inputs, *g.initializers} for g in context.graphs}
        # Graphs stand outer before inner, each with all that it holds right behind it: so "is inside" is a comparison,
        # and who holds what is a search. Climbing would be quadratic where graphs nest deep.
        self.enter: dict[Graph, int] = {g: i for i, g in enumerate(context.graphs)}
        self.exit: dict[Graph, int] = dict(self.enter)
        self.holders: dict[Graph, list[tuple[int, Node]]] = {}
        for g in reversed(context.graphs):
            outer = g.parent.graph if g.parent is not None else None
            if g.parent is not None and outer is not None and outer in self.enter:
                self.exit[outer] = max(self.exit[outer], self.exit[g])
                self.holders.setdefault(outer, []).append((self.enter[g], g.parent))
        for held in self.holders.values():
            held.reverse()

    def look(self, graph: Graph) -> None:
        late: list[tuple[Node, Value]] = []
        for node in graph.nodes:
            for v in node.inputs:
                if v is not None and self._misplaced(v, node, graph, node.place):
                    late.append((node, v))
        for v in graph.outputs:
            self._misplaced(v, None, graph, f"output '{v.name}'")
        if late:
            self._late(graph, late)

    def _misplaced(self, v: Value, reader: Node | None, graph: Graph, who: str) -> bool:
        """Report a value out of reach; True where its maker stands in the same graph, but not before the reader."""
        context = self.context
        home = v.graph
        if v in self.starts[graph]:
            return False
        if home is graph and v.producer is not None and v.producer in self.rank:
            return reader is not None and self.rank[v.producer] >= self.rank[reader]
        if home is None or (v.producer is None and home in self.starts and v not in self.starts[home]):
            context.say("undefined-value", f"{who} reads '{v.name}', which nothing makes" if reader is not None else
                        f"nothing makes the {who}", context.place(graph, *([who] if reader is not None else [])))
            return False
        # Captured: the graph that makes it must be around this one, and make it before the node that holds this one.
        holder = self._holder(home, graph)
        if holder is None:
            word = "function-initializers" if isinstance(_root(graph), Function) else "undefined-value"
            context.say(word, f"{who} reads '{v.name}', which belongs to {home.place}, out of reach",
                        context.place(graph, who))
        elif v.producer is not None and \
                self.rank.get(v.producer, -1) >= self.rank.get(holder, 0):
            context.say("node-order", f"{who} reads '{v.name}', which {v.producer.place} makes only later",
                        context.place(graph, who))
        return False

    def _holder(self, outer: Graph, inner: Graph) -> Node | None:
        """The node of `outer` inside which `inner` stands; None where it does not."""
        at = self.enter[inner]
        if outer not in self.enter or not self.enter[outer] < at <= self.exit[outer]:
            return None
        held = self.holders[outer]
        return held[bisect_right(held, at, key=lambda h: h[0]) - 1][1]

    def _late(self, graph: Graph, late: list[tuple[Node, Value]]) -> None:
        """Nodes that read what is made behind them: out of order, or in a circle."""
        circle = _circle(graph)
        if circle:
            shown = " → ".join(n.place for n in circle[:6]) + (" → ..." if len(circle) > 6 else "")
            self.context.say("cycle", f"{len(circle)} node{'s' if len(circle) > 1 else ''} read in a circle: {shown}",
                             self.context.place(graph, circle[0].place))
        inside = set(circle)
        for node, v in late:
            if node not in inside or v.producer not in inside:
                assert v.producer is not None
                self.context.say("node-order", f"{node.place} reads '{v.name}', which {v.producer.place} makes only "
                                 "later", self.context.place(graph, node.place))


def _root(graph: Graph) -> Graph:
    while graph.parent is not None and graph.parent.graph is not None:
        graph = graph.parent.graph
    return graph


def _circle(graph: Graph) -> list[Node]:
    """The nodes of one circle, in order; empty where the graph can be sorted."""
    waiting: dict[Node, int] = {}
    readers: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        makers = {v.producer for v in node.inputs if v is not None and v.producer is not None
                  and v.producer.graph is graph}
        waiting[node] = len(makers)
        for m in makers:
            readers.setdefault(m, []).append(node)
    ready = [n for n, k in waiting.items() if not k]
    while ready:
        node = ready.pop()
        del waiting[node]
        for r in readers.get(node, ()):
            waiting[r] -= 1
            if not waiting[r]:
                ready.append(r)
    if not waiting:
        return []
    # Whoever is left waits for someone who is left: walking backwards meets itself.
    node = next(iter(waiting))
    path: dict[Node, int] = {}
    walk: list[Node] = []
    while node not in path:
        path[node] = len(walk)
        walk.append(node)
        node = next(v.producer for v in node.inputs if v is not None and v.producer in waiting)
    return list(reversed(walk[path[node]:]))


def _dead(context: Context) -> None:
    """Nodes and initializers of which nothing reaches an output."""
    live: set[Node] = set()
    needed: set[Value] = set()
    pending: list[Value] = []
    for root in (context.model.graph, *context.model.functions.values()):
        pending.extend(root.outputs)
    while pending:
        v = pending.pop()
        if v in needed:
            continue
        needed.add(v)
        node = v.producer
        if node is None or node in live:
            continue
        live.add(node)
        pending.extend(i for i in node.inputs if i is not None)
        pending.extend(read_by_name(node))
        # A node that is needed needs what its graphs give out, and they what they capture.
        pending.extend(o for g in node.subgraphs() for o in g.outputs)
    for graph in context.graphs:
        # Inside a dead node everything is dead, which need not be said again.
        if graph.parent is not None and graph.parent not in live:
            continue
        for node in graph.nodes:
            if node not in live and any(o is not None for o in node.outputs):
                context.say("dead-node", f"nothing that {node.place} makes leads to an output",
                            context.place(graph, node.place))
        for v in graph.initializers:
            if not v.uses:
                context.say("unused-initializer", f"nothing reads the initializer '{v.name}'", context.place(graph))
