"""Streams of rows that stay matrices: what goes row by row between flattened products is done on the flat rows.

    y = Reshape(Gemm(Reshape(x, rows)), shape)          h = Gemm(rows)
    z = LayerNormalization(x + y)                   =>  z = LayerNormalization(rows + h)
    Gemm(Reshape(z, rows))                              Gemm(z)

A local rule cannot see that: one Reshape moves below a sum only where the other operand has one too, and a residual has
not until the block before it was done. So this looks at whole regions of operators that work row by row, counts the
Reshapes at their borders both ways, and does those that then have fewer.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from gesher.ir import DimLike, Graph, Node, Value
from gesher.rewriter import Refused, Work
from gesher.symbolic import bounds

_EACH = frozenset((
    "Abs", "Add", "And", "Cast", "Celu", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mish",
    "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub",
    "Tanh", "ThresholdedRelu", "Where"))
_ALONG_LAST = frozenset(("LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax"))
_REDUCED = frozenset(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"))
_WORKERS = _EACH | _ALONG_LAST | _REDUCED


@dataclass(slots=True)
class _Region:
    """Operators that hang together row by row, in order, and the values that they take and give."""

    workers: list[Node] = field(default_factory=list)
    values: dict[Value, None] = field(default_factory=dict)


def keep_rows_flat(work: Work) -> int:
    """Do every region that then has fewer Reshapes; how many there were."""
    before = work.rewrites
    for region in _regions(work):
        mark = len(work.edit.steps)
        work.made = []
        try:
            with work.edit.rule("keep_rows_flat"):
                done = _flattened(work, region)
        except Refused:
            done = False
        if done:
            work.count("keep_rows_flat")
        else:
            work.edit.undo(mark)
    return work.rewrites - before


def _regions(work: Work) -> list[_Region]:
    """Connected workers of the outermost graph that have a Reshape from or to rows at their border."""
    leader: dict[Value, Value] = {}

    def find(v: Value) -> Value:
        while leader.setdefault(v, v) is not v:
            leader[v] = leader[leader[v]]
            v = leader[v]
        return v

    workers: list[tuple[Node, list[Value]]] = []
    for node in work.model.graph.nodes:
        streams = _streams(work, node)
        if streams:
            workers.append((node, streams))
            for v in streams[1:]:
                leader[find(v)] = find(streams[0])
    found: dict[Value, _Region] = defaultdict(_Region)
    for node, streams in workers:
        region = found[find(streams[0])]
        region.workers.append(node)
        region.values.update(dict.fromkeys(streams))
    return [r for r in found.values() if any(_rows_of(work, v) is not None or any(True for _ in _flat_readers(work, v))
                                             for v in r.values)]


def _streams(work: Work, node: Node) -> list[Value]:
    """The values of a worker that are rows of one count, its output first; [] where it does not work row by row."""
    if node.op_type not in _WORKERS or node.domain not in ("", "ai.onnx") or not node.inputs \
            or node.outputs[0] is None or any(o is not None and o.uses for o in node.outputs[1:]):
        return []
    out = node.outputs[0]
    shape = work.shape(out)
    if shape is None or len(shape) < 3:
        return []
    lead = shape[:-1]

    def stream(v: Value) -> bool:
        own = work.shape(v)
        return own is not None and len(own) == len(shape) and work.same_shape(own[:-1], lead)

    def narrow(v: Value) -> bool:
        own = work.shape(v)
        return own is not None and len(own) <= 1

    first = node.inputs[0]
    if node.op_type in _EACH:
        given = [v for v in node.inputs if v is not None]
        taken = [v for v in given if stream(v)]
        return [out, *taken] if taken and all(stream(v) or narrow(v) for v in given) else []
    last = (-1, len(shape) - 1)
    if first is None or not stream(first):
        return []
    if node.op_type in _ALONG_LAST:
        return [out, first] if work.attribute(node, "axis") in last else []
    axes = work.ints(node.inputs[1]) if len(node.inputs) > 1 else work.attribute(node, "axes")
    return [out, first] if axes is not None and len(axes) == 1 and axes[0] in last \
        and work.attribute(node, "keepdims") == 1 else []


def _rows_of(work: Work, v: Value) -> Value | None:
    """The matrix that a value is, where a Reshape makes it of one with rows of the same length."""
    node = work.producer(v, "Reshape")
    source = None if node is None else node.inputs[0]
    flat, own = (None if source is None else work.shape(source)), work.shape(v)
    return source if flat is not None and own is not None and len(flat) == 2 and work.equal(flat[1], own[-1]) else None


def _flat_readers(work: Work, v: Value) -> list[Node]:
    """Reshapes of a value to a matrix of its rows."""
    own = work.shape(v)
    found = []
    for user in v.uses:
        if isinstance(user, Node) and user.op_type == "Reshape" and user.inputs[0] is v and own is not None \
                and user.graph is work.model.graph:
            flat = work.shape(user.output)
            if flat is not None and len(flat) == 2 and work.equal(flat[1], own[-1]):
                found.append(user)
    return found


def _flattened(work: Work, region: _Region) -> bool:
    """Put flat workers beside those of a region, and let others read those; False where nothing is gained."""
    place = {n: i for i, n in enumerate(work.model.graph.nodes)}
    inside = set(region.workers)
    made_here = {n.outputs[0] for n in region.workers}
    flat: dict[Value, Value] = {}
    gain = 0
    whole: list[Value] = []    # those that others read with all their axes
    for v in region.values:
        readers = _flat_readers(work, v)
        others = v.is_output or any(isinstance(u, Graph) or (u not in inside and u not in readers) for u in v.uses)
        if v in made_here:
            gain += len(readers) - int(others)
            if others:
                whole.append(v)
            continue
        rows = _rows_of(work, v)
        if rows is not None:
            flat[v] = rows
            gain += len(readers) + int(not others)
        elif not readers:
            gain -= 1
    if gain <= 0:
        return False
    # How the axes are put back, by the length of a row: as the Reshapes at the border do it.
    shapes: list[tuple[DimLike | None, Node]] = []
    for v in region.values:
        node = v.producer
        if v in flat and node is not None:
            shapes.append((work.shape(v)[-1], node))    # type: ignore[index]
    for v in region.values:
        if v not in made_here and v not in flat:
            near = {*_flat_readers(work, v), *inside}
            work.at = min((u for u in v.uses if isinstance(u, Node) and u in near), key=lambda u: place[u])
            sizes = work.shape(v)
            if sizes is None or not isinstance(sizes[-1], int) or not all(_positive(d) for d in sizes):
                return False
            flat[v] = work.op("Reshape", v, [-1, sizes[-1]])
    for node in region.workers:
        work.at = node
        out = node.outputs[0]
        assert out is not None
        inputs = [v if v is None or v not in flat else flat[v] for v in node.inputs]
        told: dict[str, object] = {}
        if node.op_type in _ALONG_LAST:
            told["axis"] = -1
        elif node.op_type in _REDUCED:
            if len(inputs) > 1:
                inputs[1] = work.constant(np.array([-1], np.int64))
            else:
                told["axes"] = [-1]
        flat[out] = work.again(node, inputs, told).outputs[0]    # type: ignore[assignment]
        if out in whole:
            back = next((n for last, n in shapes if work.equal(last, work.shape(out)[-1])    # type: ignore[index]
                         and place[n] < place[node]), None)
            if back is None:
                return False
            put = work.op("Reshape", flat[out], back.inputs[1], allowzero=back.attr("allowzero"))
            if not work.same_shape(work.shape(put), work.shape(out)):
                return False
            work.learn(put, out)
            _let_read(work, out, put, inside)
    for v in region.values:
        for reader in _flat_readers(work, v):
            if reader.output is flat[v]:
                continue
            if reader.output.is_output or not work.same_shape(work.shape(reader.output), work.shape(flat[v])):
                return False
            work.learn(flat[v], reader.output)
            work.edit.replace(reader.output, flat[v])
    return True


def _let_read(work: Work, old: Value, new: Value, inside: set[Node]) -> None:
    """Let all read the new value; workers of the region are read by nobody soon, and flat readers are next."""
    readers = _flat_readers(work, old)
    work.edit.replace(old, new)
    for reader in readers:
        work.edit.set_input(reader, 0, old)


def _positive(size: DimLike | None) -> bool:
    low = size if isinstance(size, int) else None if size is None else bounds(size)[0]
    return low is not None and low > 0
