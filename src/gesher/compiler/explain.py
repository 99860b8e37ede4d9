"""What became of a model: which nodes are compiled into which kernels and loop nests, and which are not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gesher.symbolic import Dim

from .lowered import Fallback
from .steps import Program
from .work import works

if TYPE_CHECKING:
    from .session import CompiledSession, GraphSession
    from .variant import Variant


def explain(session: CompiledSession) -> str:
    """What has been compiled so far, graph by graph, as text. Sizes are expressions, numbers once there was a run."""
    lines: list[str] = []
    for g in session.graphs():
        lines += _graph(g)
    settled = sum(len(v.lowered.guards) for v in session.graphs()[0].variants)
    if settled:
        lines.append(f"{settled} conditions on sizes were settled; other outcomes are compiled when they come")
    return "\n".join([*lines, *bodies_to_come(session)])


def segments(session: CompiledSession) -> Iterator[tuple[str, Program, dict[Dim, int]]]:
    """Every segment that was compiled so far: its title, what it does, and the sizes of its newest run."""
    for g in session.graphs():
        for i, v in enumerate(g.variants):
            for ready in v.stages:
                if ready.number >= 0:
                    variant = f", variant {i}" if len(g.variants) > 1 else ""
                    yield (f"{g.graph.place}{variant}, segment {ready.number}", v.programs[ready.number],
                           ready.segment.sizes() if ready.segment is not None else {})


def left(session: CompiledSession) -> list[str]:
    """The nodes that run by their reference rules, each with its reason; then the bodies not compiled yet."""
    return [_fallback(f) for g in session.graphs() for v in g.variants for s in v.lowered.stages
            for f in s.fallbacks] + bodies_to_come(session)


def bodies_to_come(session: CompiledSession) -> list[str]:
    """The bodies of control flow that are compiled when they first run."""
    ready = {g.graph for g in session.graphs()}
    return [f"{inner.place} of {f.node.place}: compiled when it first runs"
            for g in session.graphs() for v in g.variants for s in v.lowered.stages for f in s.fallbacks
            for inner in f.node.subgraphs() if inner not in ready]


def _graph(g: GraphSession) -> list[str]:
    if not g.variants:
        return [f"{g.graph.place}: compiled when it first runs, since conditions hang on sizes"]
    return [line for v in g.variants for line in _variant(v)]


def _variant(v: Variant) -> list[str]:
    """What became of each node, stage by stage."""
    nodes = sum(len(s.nodes) for s in v.lowered.stages)
    fallbacks = sum(len(s.fallbacks) for s in v.lowered.stages)
    lines = [f"{v.graph.place}: {nodes} nodes compiled into {len(v.programs)} segments, "
             f"{fallbacks} by reference rules"]
    for ready in v.stages:
        if ready.number >= 0:
            program = v.programs[ready.number]
            sizes = ready.segment.sizes() if ready.segment is not None else {}
            lines.append(f"  segment {ready.number}: {len(ready.stage.nodes)} nodes, "
                         f"{sum(1 for _ in program.all_steps())} steps, {len(program.weights)} weights")
            lines += [f"    {'  ' * w.depth}{w.text(sizes)}" for w in works(program)]
        lines += [f"  {_fallback(f)}" for f in ready.stage.fallbacks]
    return lines


def _fallback(f: Fallback) -> str:
    what = "fault in a lowering, by the reference rule" if f.fault else "reference"
    return f"{what}: {f.node.place}: {f.reason}"
