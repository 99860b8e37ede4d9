"""If, Loop and Scan lowered: what is inside them becomes part of the segment, so that no turn passes through Python.

That takes shapes that are the same in every turn, and in both arms of an If; a number of turns that is known when the
segment starts, or a bound of it where a condition ends the loop sooner. Items that are gathered need the number itself.
Anything else stays with the reference rules, whose bodies are compiled by themselves.

What a reader would guess wrong: a value that a body hands on as it got it is not carried, but captured; a condition
that a body hands on so, or that is always true, is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gesher.base.dtypes import BOOL
from gesher.evaluator.plan import Step as NodeStep
from gesher.ir import Graph, Node, Value
from gesher.primitives import Builder, CannotLower, Expr
from gesher.primitives.slopes import flipped
from gesher.symbolic import DimLike, decide_eq, maximum, product

from .lowered import captured_by

if TYPE_CHECKING:
    from .lower import Lowering

# Turns of a loop that only a condition ends.
_ENDLESS = (1 << 63) - 1


def is_control_flow(node: Node) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in _KINDS


def reads(step: NodeStep) -> list[Value]:
    """What a node reads, and what the graphs inside it do."""
    return [*(v for v in step.inputs if v is not None), *(v for g in step.node.subgraphs() for v in captured_by(g))]


def lower(lowering: Lowering, step: NodeStep) -> list[Expr]:
    """The results of an If, Loop or Scan.

    Raises:
        CannotLower: with the reason.
    """
    if step.attributes is None or step.schema is None:
        raise CannotLower("its attributes hang on the node that calls")
    if any(g not in lowering.bodies for g in step.node.subgraphs()):
        raise CannotLower("what is inside is not known")
    return _KINDS[step.node.op_type](lowering, step)


def _if(lowering: Lowering, step: NodeStep) -> list[Expr]:
    branches = [step.attributes[name] for name in ("then_branch", "else_branch")]  # type: ignore[index]
    outcome = lowering.outcome(step)
    if outcome is not None:
        return _body(lowering, branches[0 if outcome else 1], [])
    cond = _flag(lowering, step.inputs[0])
    return lowering.builder.branch(cond, *(lambda b=b: _body(lowering, b, []) for b in branches))


def _loop(lowering: Lowering, step: NodeStep) -> list[Expr]:
    p, body = lowering.builder, step.attributes["body"]  # type: ignore[index]
    inputs = [*step.inputs, None, None][:max(len(step.inputs), 2)]
    first = None if inputs[1] is None else _flag(lowering, inputs[1])
    count: DimLike = _ENDLESS
    if inputs[0] is not None:
        known = p.known(lowering.expr(inputs[0]))
        if known is None or known.size != 1:
            raise CannotLower("how often a loop runs is not known before running")
        count = maximum(known.reshape(-1).tolist()[0], 0)
    elif first is None:
        raise CannotLower("a loop with neither a trip count nor a condition would never end")
    initial = [lowering.expr(v) for v in inputs[2:] if v is not None]
    if len(initial) != len(inputs) - 2 or len(body.inputs) != 2 + len(initial):
        raise CannotLower("the body takes other inputs than the loop has")
    constant = None if first is None else _truth(p, first)
    if constant is False:
        count = 0
    ends = first is not None and constant is not False and not _always(lowering, body, inputs[1])
    true = p.constant(True, BOOL)

    def turn(i: Expr, held: Sequence[Expr], _: Sequence[Expr]) -> tuple[Expr, list[Expr]]:
        again, *made = _body(lowering, body, [i, true, *held])
        return p.reshape(again, ()) if ends else again, made

    carried, stacked = _turns(lowering, body, 2, 1, count, initial, (), turn, first if ends else None)
    return [*carried, *stacked]


def _scan(lowering: Lowering, step: NodeStep) -> list[Expr]:
    p, attributes = lowering.builder, step.attributes
    assert step.schema is not None and attributes is not None
    if step.schema.version < 9:
        raise CannotLower("a Scan of opset 8 goes over the sequences of a batch")
    body, scans = attributes["body"], attributes["num_scan_inputs"]
    given = [lowering.expr(v) for v in step.inputs if v is not None]
    count = len(given) - scans
    if len(given) != len(step.inputs) or count < 0 or len(body.inputs) != len(given) or len(body.outputs) < count:
        raise CannotLower("the body takes other inputs than the scan has")
    if not scans:
        raise CannotLower("a scan of nothing")

    def per(name: str, n: int) -> list[int]:
        return list(attributes[name] or [0] * n)

    scanned = []
    for x, axis, back in zip(given[count:], per("scan_input_axes", scans), per("scan_input_directions", scans)):
        rows = _to_front(p, x, axis)
        scanned.append(flipped(p, rows, 0) if back else rows)
    length = scanned[0].shape[0]
    if any(decide_eq(x.shape[0], length) is not True for x in scanned):
        raise CannotLower("whether what is scanned has one length is not known")

    def turn(_: Expr, held: Sequence[Expr], rows: Sequence[Expr]) -> tuple[None, list[Expr]]:
        return None, _body(lowering, body, [*held, *rows])

    carried, items = _turns(lowering, body, 0, 0, length, given[:count], scanned, turn, None)
    piles = len(body.outputs) - count
    stacked = []
    for x, axis, back in zip(items, per("scan_output_axes", piles), per("scan_output_directions", piles)):
        rows = flipped(p, x, 0) if back else x
        axis = axis + rows.rank if axis < 0 else axis
        order = list(range(1, rows.rank))
        order.insert(axis, 0)
        stacked.append(p.transpose(rows, order))
    return [*carried, *stacked]


_KINDS: dict[str, Any] = {"If": _if, "Loop": _loop, "Scan": _scan}


def _body(lowering: Lowering, graph: Graph, given: Sequence[Expr]) -> list[Expr]:
    """What a nested graph gives for these inputs."""
    lowering.exprs.update(zip(graph.inputs, given))
    for step in lowering.bodies[graph].steps:
        for v, made in zip(step.node.outputs, lowering.lowered(step)):
            if v is not None:
                lowering.exprs[v] = made
    return [lowering.expr(v) for v in graph.outputs]


def _turns(lowering: Lowering, body: Graph, before_in: int, before_out: int, count: DimLike, initial: Sequence[Expr],
           scanned: Sequence[Expr], turn: Any, first: Expr | None) -> tuple[list[Expr], list[Expr]]:
    """What is carried in the end, and what was gathered.

    Args:
        before_in, before_out: inputs and outputs of the body before those that are carried.
        turn: gives (whether to go on, the body's other outputs) for the number of the turn, what is carried, rows.
        first: whether there is a first turn; None where only `count` ends the loop.
    """
    p, n = lowering.builder, len(initial)
    inside, outside = body.inputs[before_in:before_in + n], body.outputs[before_out:before_out + n]
    # Handed on as it came: the same in all turns.
    kept = [_original(lowering, out) is held for held, out in zip(inside, outside)]
    moving = [i for i in range(n) if not kept[i]]
    start = [initial[i] for i in moving] + ([first] if first is not None else [])

    def round_(q: Builder, i: Expr, held: Sequence[Expr], rows: Sequence[Expr]) -> tuple[list[Expr], list[Expr]]:
        whole = list(initial)
        for at, x in zip(moving, held):
            whole[at] = x
        again, results = turn(i, whole, rows)
        for x, made in zip(held, (results[at] for at in moving)):
            if x.dtype is not made.dtype or x.rank != made.rank \
                    or any(decide_eq(a, b) is not True for a, b in zip(x.shape, made.shape)):
                raise CannotLower("what is carried does not surely keep its shape")
        return [results[at] for at in moving] + ([again] if first is not None else []), results[n:]

    if first is not None and len(body.outputs) - before_out > n:
        raise CannotLower("how many items a loop gathers that a condition ends is not known")
    carried, stacked = p.loop(count, start, round_, scanned, len(moving) if first is not None else None)
    results = list(initial)
    for at, x in zip(moving, carried):
        results[at] = x
    return results, stacked


def _flag(lowering: Lowering, v: Value | None) -> Expr:
    """A bool of one element as a scalar."""
    if v is None:
        raise CannotLower("there is no condition")
    e = lowering.expr(v)
    if e.dtype is not BOOL or decide_eq(product(e.shape), 1) is not True:
        raise CannotLower("the condition is not surely one bool")
    return lowering.builder.reshape(e, ())


def _truth(p: Builder, e: Expr) -> bool | None:
    known = p.known(e)
    return bool(known.reshape(-1)[0]) if known is not None and known.dtype != object else None


def _always(lowering: Lowering, body: Graph, condition: Value | None) -> bool:
    """Whether a loop goes on until its count ends it, once it began: it begins surely, and its body says nothing else
    than that it goes on."""
    if condition is None or _truth(lowering.builder, lowering.expr(condition)) is not True:
        return False
    if _original(lowering, body.outputs[0]) is body.inputs[1]:
        return True
    held = lowering.facts[body.outputs[0]].numbers()
    return held is not None and held.size == 1 and bool(held.reshape(-1)[0])


def _original(lowering: Lowering, v: Value) -> Value:
    """The value that `v` is, through Identity nodes: exporters put them before the outputs of bodies."""
    v = lowering.source(v)
    while v.producer is not None and v.producer.op_type == "Identity" and v.producer.inputs[0] is not None:
        v = lowering.source(v.producer.inputs[0])
    return v


def _to_front(p: Builder, x: Expr, axis: int) -> Expr:
    if not -x.rank <= axis < x.rank:
        raise CannotLower(f"there is no axis {axis} to scan")
    axis %= x.rank
    return p.transpose(x, [axis, *(i for i in range(x.rank) if i != axis)])


__all__ = ["is_control_flow", "lower", "reads"]
