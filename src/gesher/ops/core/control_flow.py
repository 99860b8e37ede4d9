"""If, Loop and Scan: operators with graphs inside.

Inference runs the graphs on facts. What a Loop carries may change shape from turn to turn, so its body is asked again
with the dims that moved replaced by symbols, until nothing moves any more; a dim that only grows by the same amount in
every turn is worked out from the trip count.

All three stay with their reference rules: the engine runs what is inside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import GesherError, RunError
from gesher.ir import DimLike, Graph, OptionalType, SequenceType, SparseTensorType, TensorType, Type
from gesher.symbolic import Dim, bounds, fresh, maximum

from ..axes import axis_of
from ..bodies import ask, shape_of, symbols_in, with_shape
from ..fact import Fact
from ..merging import Unlike, merge_facts
from ..rules import InferNode, Run
from ..schema import (
    ALL,
    BF16,
    BOOL,
    REQUIRED,
    Attr,
    Drop,
    Input,
    Inputs,
    Operator,
    Output,
    Types,
    every,
    op,
    optionals,
    sequences,
    tensors,
)
from ..sizes import scalar_of

INT64 = tensors("int64")


def _anything(version: int) -> Types:
    """What may pass through If and Loop: tensors, sequences of them, optionals of either."""
    of = every(version)
    # Optionals of sequences stayed with the types of opset 13.
    return of | sequences(of) | optionals(of) | optionals(sequences(ALL | BF16))


def _widen(operator: Operator) -> None:
    operator.since(13, V=ALL | sequences(ALL))
    for version in (16, 19, 21, 23, 24, 25):
        operator.since(version, V=_anything(version))


# If

If = op("If", Input("cond", "B"), Output("outputs", "V", variadic=True, homogeneous=False),
        Attr("then_branch", "graph", REQUIRED), Attr("else_branch", "graph", REQUIRED), V=ALL, B=BOOL)
If.since(11, note="the branches may give different shapes")
_widen(If)


@If.infer
def _(node: InferNode) -> None:
    branches = [node["then_branch"], node["else_branch"]]
    for what, branch in zip(("then_branch", "else_branch"), branches):
        if len(branch.outputs) != len(node.outputs):
            node.fail(f"its {what} gives {len(branch.outputs)} outputs, the node has {len(node.outputs)}")
    known = node.numbers(0)
    if known is not None and known.size == 1:
        # The other branch never runs, and often could not.
        for i, fact in enumerate(node.infer_graph(branches[0 if known.reshape(-1)[0] else 1], [])):
            node.set_fact(i, fact)
        return
    then, other = (node.infer_graph(branch, []) for branch in branches)
    for i, (a, b) in enumerate(zip(then, other)):
        try:
            node.set_fact(i, merge_facts(a, b, lambda axis, i=i: node.fresh(  # type: ignore[misc]
                f"the branches give output {i} different sizes on axis {axis}")))
        except Unlike as e:
            node.fail(f"the branches give output {i} different types: {e}")


@If.reference
def if_(cond: Any, *, then_branch: Graph, else_branch: Graph, run: Run) -> Any:
    if cond.size != 1:
        raise RunError(f"If: the condition holds {cond.size} elements, it must hold one")
    return tuple(run.run_graph(then_branch if cond.reshape(-1)[0] else else_branch, []))


# What Loop and Scan share: values carried from turn to turn


class _Carried:
    """What a body carries: the facts that hold in every turn, and in the end."""

    def __init__(self, node: InferNode, initial: Sequence[Fact | None]):
        self.node = node
        self.initial = [Fact(None) if f is None else f for f in initial]
        self.facts = list(self.initial)
        self.moving: dict[tuple[int, int], Dim] = {}

    def settle(self, body: Callable[[Sequence[Fact]], list[Fact | None]]) -> list[Fact | None]:
        """Ask `body` until what it is given holds for what it gives back; its last answer.

        Each asking takes something away (a value, a dim, a rank), so this ends.
        """
        while True:
            answers = body(self.facts)
            merged = [self._merged(i, before, answers[i] if i < len(answers) else None)
                      for i, before in enumerate(self.facts)]
            if not any(_knows_less(after, before) for after, before in zip(merged, self.facts)):
                return answers
            self.facts = merged

    def _merged(self, index: int, before: Fact, after: Fact | None) -> Fact:
        if before.type is None:
            return before
        if after is None or after.type is None:
            # Only the data type cannot change.
            return Fact(_without_shape(before.type), why="the body does not tell what it gives back")

        def moved(axis: int) -> Dim:
            if (index, axis) not in self.moving:
                self.moving[index, axis] = fresh(f"{self.node.node.op_type}: the carried value {index} changes its "
                                                 f"size on axis {axis} from turn to turn")
            return self.moving[index, axis]

        if isinstance(before.type, OptionalType) and not isinstance(after.type, OptionalType):
            # A loop may begin with an optional and go on with what it may hold.
            after = Fact(OptionalType(after.type), why=after.why)
        try:
            return merge_facts(before, after, moved)
        except Unlike as e:
            self.node.fail(f"the body changes the type of the carried value {index}: {e}")

    def final(self, answers: Sequence[Fact | None], turns: DimLike | None, others: Iterable[Dim]) -> list[Fact]:
        """What is carried in the end, after `turns` turns (None: unknown how many).

        `others` are more symbols that stand for something else in each turn.
        """
        if turns == 0:
            return self.initial
        changing = frozenset((*self.moving.values(), *others))
        at_least_once = turns is not None and (bounds(turns)[0] or 0) >= 1
        results = []
        for i, fact in enumerate(self.facts):
            last = answers[i] if i < len(answers) else None
            sizes = shape_of(fact.type)
            if sizes is None:
                fills = isinstance(fact.type, OptionalType) and last is not None and \
                    last.type is not None and not isinstance(last.type, OptionalType)
                results.append(Fact(last.type, why=fact.why) if fills and last is not None else fact)
                continue
            out: list[DimLike | None] = []
            for axis, d in enumerate(sizes):
                if isinstance(d, Dim) and d in changing:
                    d = self._final_dim(i, axis, d, last, turns, at_least_once, changing)
                out.append(d)
            value = fact.value
            if value is None and at_least_once and last is not None and last.value is not None and \
                    not symbols_in(last.value.reshape(-1).tolist()) & changing:
                value = last.value
            results.append(Fact(with_shape(fact.type, out), value, why=fact.why))
        return results

    def _final_dim(self, index: int, axis: int, moving: Dim, last: Fact | None, turns: DimLike | None,
                   at_least_once: bool, changing: frozenset[Dim]) -> DimLike:
        first, after = shape_of(self.initial[index].type), shape_of(None if last is None else last.type)
        why = f"the carried value {index} changes its size on axis {axis}"
        if first is None or after is None or first[axis] is None or after[axis] is None:
            return self.node.fresh(why)
        start, end = first[axis], after[axis]
        assert start is not None and end is not None
        if at_least_once and not symbols_in([end]) & changing:
            return end
        growth = end - moving
        if turns is not None and not symbols_in([growth]) & changing:
            return start + turns * growth
        return self.node.fresh(why)


def _knows_less(after: Fact, before: Fact) -> bool:
    return after.type != before.type or (after.value is None and before.value is not None)


def _without_shape(type: Type) -> Type | None:
    if isinstance(type, (TensorType, SparseTensorType)):
        return type.__class__(type.dtype)
    if isinstance(type, (SequenceType, OptionalType)):
        return type.__class__(None if type.element is None else _without_shape(type.element))
    return type


def _stacked(node: InferNode, fact: Fact | None, length: DimLike | None, axis: int, changing: frozenset[Dim],
             what: str) -> Fact:
    """The fact of items put side by side along a new axis."""
    if fact is None or not isinstance(fact.type, TensorType):
        return Fact(None, why=f"the body does not tell what it gives for {what}")
    item = fact.type.shape
    if item is None:
        return Fact(fact.type, why=f"the rank of the items of {what} is unknown")
    # All items have one shape, so a size that would change from turn to turn is one that nobody knows.
    sizes: list[DimLike | None] = [node.fresh(f"dim {i} of the items of {what} hangs on the turn")
                                   if symbols_in([d]) & changing else d for i, d in enumerate(item)]
    axis = axis_of(axis, len(sizes) + 1, node)
    return Fact(TensorType(fact.type.dtype, (*sizes[:axis], length, *sizes[axis:])), why=fact.why)


# Loop

Loop = op("Loop", Input("M", "I", optional=True), Input("cond", "B", optional=True),
          Input("v_initial", "V", variadic=True, homogeneous=False),
          Output("v_final_and_scan_outputs", "V", variadic=True, homogeneous=False), Attr("body", "graph", REQUIRED),
          V=ALL, I=INT64, B=BOOL)
Loop.since(11, Input("v_initial", "V", variadic=True, homogeneous=False, least=0))
_widen(Loop)


def _check_body(node: InferNode, body: Graph, inputs: int, outputs: int) -> None:
    if len(body.inputs) != inputs:
        node.fail(f"its body takes {len(body.inputs)} inputs, the node gives it {inputs}")
    if len(body.outputs) != outputs:
        node.fail(f"its body gives {len(body.outputs)} outputs, the node needs {outputs}")


@Loop.infer
def _(node: InferNode) -> None:
    body = node["body"]
    count = max(len(node.node.inputs) - 2, 0)
    _check_body(node, body, 2 + count, 1 + len(node.outputs))
    most, condition = scalar_of(node, 0) if node.has(0) else None, node.numbers(1)
    begins = not node.has(1) or (condition is not None and bool(condition.reshape(-1)[0]))
    # Negative counts mean no turn at all.
    limit = None if most is None else maximum(most, 0)
    highest = None if limit is None else bounds(limit)[1]
    turn = fresh("Loop: the number of the turn", max=None if highest is None else max(highest - 1, 0))
    # Whoever is inside got past the condition.
    fixed = [Fact.tensor(dtypes.INT64, (), turn), Fact.tensor(dtypes.BOOL, (), np.array(True))]
    carried = _Carried(node, node.inputs[2:2 + count])
    answers: list[Fact | None] = []

    def take_turn(facts: Sequence[Fact]) -> list[Fact | None]:
        nonlocal answers
        answers = ask(node, body, [*fixed, *facts])
        return answers[1:]

    last = carried.settle(take_turn)
    again = answers[0] if answers else None
    if again is not None and again.dtype not in (dtypes.BOOL, dtypes.UNDEFINED):
        node.fail(f"its body gives {again.dtype.name} for whether to go on, it must be bool")
    goes_on = again.numbers() if again is not None else None
    if node.has(1) and condition is not None and not condition.reshape(-1)[0]:
        turns: DimLike | None = 0
    elif begins and (not node.has(1) or (goes_on is not None and bool(goes_on.reshape(-1)[0]))):
        turns = limit
    else:
        turns = None
    length = turns if turns is not None else fresh("Loop: how often it runs is not known", max=highest)
    for i, fact in enumerate(carried.final(last, turns, (turn,))):
        node.set_fact(i, fact)
    changing = frozenset((*carried.moving.values(), turn))
    for i in range(count, len(node.outputs)):
        item = last[i] if i < len(last) else None
        node.set_fact(i, _stacked(node, item, length, 0, changing, f"output {i}"))


@Loop.reference
def loop(count: Any = None, cond: Any = None, *initial: Any, body: Graph, run: Run) -> Any:
    limit = None if count is None else int(count.reshape(-1)[0])
    if limit is None and cond is None:
        raise RunError("Loop: with neither a trip count nor a condition it would never end")
    carried = list(initial)
    items: list[list[Any]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    goes_on, turn = cond is None or bool(cond.reshape(-1)[0]), 0
    while goes_on and (limit is None or turn < limit):
        results = run.run_graph(body, [np.array(turn, np.int64), np.array(True), *carried])
        carried = results[1:1 + len(carried)]
        for pile, item in zip(items, results[1 + len(carried):]):
            pile.append(item)
        # Where no condition comes in, what the body says of it does not count.
        goes_on = cond is None or bool(results[0].reshape(-1)[0])
        turn += 1
    first = [np.array(0, np.int64), np.array(True), *initial]
    stacked = [_stack(pile, body, 1 + len(carried) + i, first, 0, run) for i, pile in enumerate(items)]
    return (*carried, *stacked)


def _stack(items: Sequence[Any], body: Graph, output: int, first: Sequence[Any], axis: int, run: Run) -> Any:
    """Items side by side along a new axis; where there are none, as many of what the body would give."""
    if items:
        shape = items[0].shape
        if any(item.shape != shape for item in items):
            raise RunError(f"{run.node.op_type}: the items of output {output} change their shape from turn to turn: "
                           f"{', '.join(str(list(s)) for s in dict.fromkeys(item.shape for item in items))}")
        return np.stack(items, axis)
    declared = body.outputs[output].type
    if isinstance(declared, TensorType) and declared.dtype is not dtypes.UNDEFINED and declared.shape is not None:
        item = np.empty([d if isinstance(d, int) else 0 for d in declared.shape], declared.dtype.numpy)
    else:
        # Nobody says what an item is, but a turn that nobody counts does.
        try:
            item = run.run_graph(body, first)[output]
        except GesherError as e:
            raise RunError(f"{run.node.op_type}: without a turn, the type of output {output} is not known",
                           advice=f"declare the type of the body's output '{body.outputs[output].name}'") from e
    return np.stack([item], axis).take(np.zeros(0, np.int64), axis)


# Scan

Scan = (op("Scan", Input("sequence_lens", "I", optional=True),
           Input("initial_state_and_scan_inputs", "V", variadic=True, homogeneous=False),
           Output("final_state_and_scan_outputs", "V", variadic=True, homogeneous=False),
           Attr("body", "graph", REQUIRED), Attr("num_scan_inputs", "int", REQUIRED), Attr("directions", "ints"),
           since=8, I=INT64, V=ALL)
        .since(9, Drop("directions"),
               Inputs(Input("initial_state_and_scan_inputs", "V", variadic=True, homogeneous=False)),
               Attr("scan_input_axes", "ints"), Attr("scan_input_directions", "ints"),
               Attr("scan_output_axes", "ints"), Attr("scan_output_directions", "ints"), I=None,
               behaviour="there is no batch axis and no list of lengths, but axes and directions of one's own")
        .since(11))
for _v in (16, 19, 21, 23, 24, 25):
    Scan.since(_v, V=every(_v))


def _infer_scan(node: InferNode, first: int, lead: int, input_axes: Sequence[int], output_axes: Sequence[int]) -> None:
    """Infer a Scan whose states begin at input `first`; `lead` is 1 where all values have a batch axis in front."""
    body, scanned = node["body"], node["num_scan_inputs"]
    count = len(node.node.inputs) - first
    states = count - scanned
    if scanned < 1 or states < 0:
        node.fail(f"num_scan_inputs is {scanned}, of {count} inputs")
    _check_body(node, body, count, len(node.outputs))
    length: DimLike | None = None
    batch: DimLike | None = None
    slices: list[Fact] = []
    initial: list[Fact] = []
    for i in range(count):
        fact, shape = node.input(first + i), node.shape(first + i)
        if shape is not None and lead:
            if not shape:
                node.fail(f"input {first + i} is a scalar, it has no batch axis")
            batch = shape[0] if batch is None else node.unify(batch, shape[0], "the batch axis of what is scanned")
            shape = shape[1:]
        if i < states:
            initial.append(Fact(None if fact is None else fact.type) if not lead and shape is None
                           else Fact.tensor(node.dtype(first + i), shape))
            continue
        if shape is not None:
            axis = axis_of(input_axes[i - states], len(shape), node)
            length = shape[axis] if length is None else node.unify(length, shape[axis], "the length of what is scanned")
            shape = (*shape[:axis], *shape[axis + 1:])
        slices.append(Fact.tensor(node.dtype(first + i), shape))
    carried = _Carried(node, initial)
    last = carried.settle(lambda facts: ask(node, body, [*facts, *slices]))
    final = carried.final(last, length, ())
    if length is None:
        length = node.fresh("the length of what is scanned is not known")
    for i, fact in enumerate(final):
        node.set_fact(i, _batched(fact, batch) if lead else fact)
    changing = frozenset(carried.moving.values())
    for i in range(states, len(node.outputs)):
        item = last[i] if i < len(last) else None
        stacked = _stacked(node, item, length, output_axes[i - states], changing, f"output {i}")
        node.set_fact(i, _batched(stacked, batch) if lead else stacked)


def _batched(fact: Fact, batch: DimLike | None) -> Fact:
    shape = shape_of(fact.type)
    return fact if shape is None else Fact(with_shape(fact.type, (batch, *shape)), why=fact.why)


def _flags(node: InferNode, name: str, count: int, allowed: Sequence[int] | None) -> Sequence[int]:
    """An attribute with a number for each scanned input or output, 0 where it is not written."""
    given = node[name]
    if given is None:
        return [0] * count
    if len(given) != count:
        node.fail(f"{name} has {len(given)} elements for {count} values")
    if allowed is not None and any(x not in allowed for x in given):
        node.fail(f"{name} is {list(given)}, its elements must be 0 or 1")
    return given


@Scan.infer
def _(node: InferNode) -> None:
    scanned, outputs = node["num_scan_inputs"], len(node.outputs)
    _flags(node, "directions", scanned, (0, 1))
    _infer_scan(node, 1, 1, [0] * max(scanned, 0), [0] * outputs)


@Scan.infer(since=9)
def _(node: InferNode) -> None:
    scanned = node["num_scan_inputs"]
    outputs = max(len(node.outputs) - (len(node.node.inputs) - scanned), 0)
    _flags(node, "scan_input_directions", scanned, (0, 1))
    _flags(node, "scan_output_directions", outputs, (0, 1))
    _infer_scan(node, 0, 0, _flags(node, "scan_input_axes", scanned, None),
                _flags(node, "scan_output_axes", outputs, None))


def _scan(states: Sequence[Any], scanned: Sequence[Any], length: int, backward: Sequence[int], body: Graph, run: Run,
          ) -> tuple[list[Any], list[list[Any]]]:
    """Run a body over slices of the first axis of each of `scanned`: the last states, and what is to be stacked."""
    states = list(states)
    items: list[list[Any]] = [[] for _ in range(len(body.outputs) - len(states))]
    for t in range(length):
        slices = [x[length - 1 - t if back else t, ...] for x, back in zip(scanned, backward)]
        results = run.run_graph(body, [*states, *slices])
        states = results[:len(states)]
        for pile, item in zip(items, results[len(states):]):
            pile.append(item)
    return states, items


def _an_empty_turn(states: Sequence[Any], scanned: Sequence[Any]) -> list[Any]:
    """Inputs for a turn over nothing, to see what it would give."""
    return [*states, *(np.zeros(x.shape[1:], x.dtype) for x in scanned)]


@Scan.reference
def scan_8(lengths: Any, *values: Any, body: Graph, num_scan_inputs: int, directions: Sequence[int] | None,
           run: Run) -> Any:
    count = len(values) - num_scan_inputs
    initial, scanned = values[:count], values[count:]
    batch, longest = scanned[0].shape[:2]
    backward = directions or [0] * num_scan_inputs
    outputs: list[list[Any]] = [[] for _ in body.outputs]
    for b in range(batch):
        length = longest if lengths is None else int(lengths[b])
        if not 0 <= length <= longest:
            raise RunError(f"Scan: sequence {b} has the length {length}, there are {longest} steps")
        # A shorter sequence read backward begins at its own end.
        rows = [x[b, :length] for x in scanned]
        states, items = _scan([x[b] for x in initial], rows, length, backward, body, run)
        turn = _an_empty_turn([x[b] for x in initial], rows)
        for pile, state in zip(outputs, states):
            pile.append(state)
        for i, pile in enumerate(items):
            full = _stack(pile, body, count + i, turn, 0, run)
            # What lies behind the end of a sequence has no meaning; zeros have the least.
            fill = np.zeros((longest - length, *full.shape[1:]), full.dtype)
            outputs[count + i].append(np.concatenate([full, fill]))
    return tuple(np.stack(pile) for pile in outputs)


@Scan.reference(since=9)
def scan_9(*values: Any, body: Graph, num_scan_inputs: int, scan_input_axes: Sequence[int] | None,
           scan_input_directions: Sequence[int] | None, scan_output_axes: Sequence[int] | None,
           scan_output_directions: Sequence[int] | None, run: Run) -> Any:
    count = len(values) - num_scan_inputs
    axes = scan_input_axes or [0] * num_scan_inputs
    scanned = [np.moveaxis(x, axis, 0) for x, axis in zip(values[count:], axes)]
    lengths = {len(x) for x in scanned}
    if len(lengths) != 1:
        raise RunError(f"Scan: what is scanned has different lengths, {', '.join(map(str, sorted(lengths)))}")
    states, items = _scan(values[:count], scanned, lengths.pop(), scan_input_directions or [0] * num_scan_inputs, body,
                          run)
    turn = _an_empty_turn(values[:count], scanned)
    out_axes, out_back = scan_output_axes or [0] * len(items), scan_output_directions or [0] * len(items)
    stacked = [_stack(pile[::-1] if back else pile, body, count + i, turn, axis, run)
               for i, (pile, axis, back) in enumerate(zip(items, out_axes, out_back))]
    return (*states, *stacked)

