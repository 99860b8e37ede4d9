"""The names that values get on saving.

In the graph identity is by object; in a file a name is all there is. A value keeps its name wherever that name, read
back by the rules of scope, means this value. Where it would mean another (two nodes that make the same name, an inner
value that hides one captured from outside) or where there is none, a new name is made. The inputs and outputs of the
model and of its functions, and the names of initializers of the main graph, are promises to the outside and stay as
they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from .graph import Function, Graph, Model, Value


def assign_names(model: Model) -> tuple[dict[Value, str], bool]:
    """A name for every value of a model, by value; and whether any of them is a new one."""
    graphs = list(model.graphs())
    namer = _Namer({v.name for g in graphs for v in _all_values(g)})
    for g in graphs:
        if g.parent is not None:
            namer.note_captured(g)
    for g in graphs:
        namer.name_graph(g)
    return namer.names, namer.made_new


def names_as_they_are(model: Model) -> dict[Value, str]:
    """The names that values have now, as a file had them; in a wrong model two may be alike."""
    return {v: v.name for g in model.graphs() for v in _all_values(g)}


def _all_values(graph: Graph) -> Iterable[Value]:
    yield from graph.inputs
    yield from graph.initializers
    for n in graph.nodes:
        for o in n.outputs:
            if o is not None:
                yield o
        for i in n.inputs:
            if i is not None and i.producer is None and i.owner is None:
                yield i
    yield from graph.outputs


class _Namer:
    def __init__(self, taken: set[str]):
        self.names: dict[Value, str] = {}
        self._taken = taken
        self._counts: dict[str, int] = {}
        self.made_new = False
        # For a nested graph, the values that it or what is nested in it takes from outside.
        self._captured: dict[Graph, dict[Value, None]] = {}

    def note_captured(self, graph: Graph) -> None:
        for v in self._read_by(graph):
            home = v.graph
            g: Graph | None = graph
            while g is not None and g is not home and g.parent is not None:
                self._captured.setdefault(g, {})[v] = None
                g = g.parent.graph

    @staticmethod
    def _read_by(graph: Graph) -> Iterable[Value]:
        for n in graph.nodes:
            for v in n.inputs:
                if v is not None and v.graph is not graph:
                    yield v
        for v in graph.outputs:
            if v.graph is not graph:
                yield v

    def name_graph(self, graph: Graph) -> None:
        """Name what `graph` owns; the graphs around it are named already."""
        local: dict[str, Value] = {}
        names = self.names
        for v in self._captured.get(graph, ()):
            local[names[v] if v in names else self._give(v, v.name, "value")] = v
        # The formal names of a nested graph are nobody's business outside.
        promised = graph.parent is None or isinstance(graph, Function)
        for v in (*graph.inputs, *graph.initializers):
            self._claim(v, local, promised, "value")
        for v in graph.outputs:
            if v.graph is graph:
                self._claim(v, local, promised, v.producer.op_type if v.producer is not None else "value")
        for n in graph.nodes:
            for o in n.outputs:
                if o is not None and o not in names:
                    self._claim(o, local, False, n.op_type)
            for i in n.inputs:
                if i is not None and i not in names and i.graph is None:
                    self._give(i, i.name, "undefined")
        for v in graph.outputs:
            if v not in names:
                self._give(v, v.name, "undefined")

    def _claim(self, v: Value, local: dict[str, Value], promised: bool, hint: str) -> None:
        if v in self.names:
            return
        name = v.name
        if not promised and local.get(name, v) is not v:
            name = self._fresh(name)
        local.setdefault(self._give(v, name, hint), v)

    def _give(self, v: Value, name: str, hint: str) -> str:
        self.names[v] = name = name or self._fresh(hint.lower() or "value")
        return name

    def _fresh(self, stem: str) -> str:
        """A name that nothing in the model has."""
        self.made_new = True
        while True:
            number = self._counts[stem] = self._counts.get(stem, -1) + 1
            name = f"{stem}_{number}"
            if name not in self._taken:
                self._taken.add(name)
                return name
