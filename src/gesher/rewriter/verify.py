"""Whether a graph that has been rewritten is still a right one, and whether it still means the same.

`GESHER_VERIFY` says how often that is asked: 1 at both ends, 2 after each pass, 3 after each rule, 4 also by running
the old value and the new one side by side on the reference before one takes the other's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gesher.base.errors import GesherError
from gesher.base.knobs import debug
from gesher.evaluator import Evaluator
from gesher.evaluator.difference import difference
from gesher.evaluator.random_feeds import random_feeds
from gesher.inference import infer
from gesher.ir import Graph, Model, Node, TensorType, Value
from gesher.symbolic import Dim

from .work import Work

# The size that symbolic dims get where the reference is run.
_SIZE = 3


def verify(work: Work, when: str) -> None:
    """Hold a model against what every graph promises, and against inference.

    Raises:
        GesherError: naming what is broken, and `when`.
    """
    for fault in (*_structure(work.model), *_types(work)):
        raise GesherError(f"{when}: {fault}", place=(work.model.place,), advice="this is a fault in gesher")


def _structure(model: Model) -> Iterator[str]:
    """Faults in use lists, order and ownership."""
    uses: dict[Value, dict[Node | Graph, int]] = {}
    made: set[Value] = set()
    for graph in model.graphs():
        for v in (*graph.inputs, *graph.initializers):
            made.add(v)
            if v.owner is not graph:
                yield f"'{v.name}' says that it does not belong to {graph.place}"
        for n in graph.nodes:
            if n.graph is not graph:
                yield f"{n.place} says that it does not stand in {graph.place}"
            for i in n.inputs:
                if i is not None:
                    uses.setdefault(i, {}).setdefault(n, 0)
                    uses[i][n] += 1
            for o in n.outputs:
                if o is not None and o.producer is not n:
                    yield f"an output of {n.place} says that another node makes it"
        for v in graph.outputs:
            uses.setdefault(v, {}).setdefault(graph, 0)
            uses[v][graph] += 1
    yield from _order(model.graph, made)
    for v, by in uses.items():
        if v.uses != by:
            yield f"'{v.name}' ({v.producer.place if v.producer else 'a leaf'}) has the wrong readers"


def _order(graph: Graph, made: set[Value]) -> Iterator[str]:
    """Values that are read before they are made, at any depth."""
    for n in graph.nodes:
        for v in n.inputs:
            if v is not None and v not in made:
                yield f"{n.place} reads '{v.name}' before it is made"
        for inner in n.subgraphs():
            yield from _order(inner, made)
        made.update(o for o in n.outputs if o is not None)
    for v in graph.outputs:
        if v not in made:
            yield f"{graph.place} gives out '{v.name}', which nothing makes"


def _types(work: Work) -> Iterator[str]:
    """What inference now finds wrong that it did not before."""
    before = {(f.rule, f.message) for f in work.facts.findings.findings}
    for f in infer(work.model, opsets=work.opsets).findings.errors:
        if (f.rule, f.message) not in before:
            yield str(f)


def hold_values(work: Work, pairs: dict[Value, Value]) -> None:
    """Run old and new values on the reference, on random inputs. Only those of the main graph can be asked for.

    Raises:
        GesherError: they differ.
    """
    pairs = {old: new for old, new in pairs.items() if old.graph is work.model.graph and new.graph is work.model.graph}
    if not pairs:
        return
    feeds = _feeds(work.model)
    wanted = [*pairs, *pairs.values()]
    rule = work.edit.steps[-1].rule if work.edit.steps else ""
    try:
        results = Evaluator(work.model, opsets=work.opsets).values(feeds, wanted)
    except GesherError as e:
        debug(1, f"rule {rule} is not held against the reference, which fails here: {e.what}")
        return
    for i, (old, new) in enumerate(pairs.items()):
        d = difference(results[len(pairs) + i], results[i])
        if not d.ok:
            raise GesherError(f"rule '{rule}' changes '{old.name}' by {d.max_abs:.3g}: {d.why or d.mismatches}",
                              place=(work.model.place, old.producer.place if old.producer else old.name or new.name),
                              advice="this is a fault in gesher")


def _feeds(model: Model) -> dict[str, Any]:
    dims = {s.name: _SIZE for v in model.graph.inputs if isinstance(v.type, TensorType) for d in v.type.shape or ()
            if isinstance(d, Dim) for s in d.symbols() if not s.is_fresh}
    return random_feeds(model, dims=dims)
