"""Operators that are not arithmetic: branches, loops, sequences, optionals, and what looks at values to tell a size.

Each row takes the run, the node, its inputs, the frame it stands in and its attributes, and gives the outputs, or None
where the common way (lowering, or the reference rule) shall do it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gesher.base.errors import RunError
from gesher.ir import Node

from .carriers import Narrow, carried

if TYPE_CHECKING:
    from gesher.evaluator.evaluator import Frame

    from .running import TorchRunning

# (run, node, inputs, frame, attributes) -> outputs, or None
Row = Callable[..., "list[Any] | None"]


def _truth(x: Any) -> bool:
    size = x.size if isinstance(x, np.ndarray) else x.numel()
    if size != 1:
        raise RunError(f"the condition holds {size} elements, it must hold one")
    return bool(x.reshape(-1)[0])


def _if(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]) -> list[Any]:
    return run.body(attributes["then_branch" if _truth(inputs[0]) else "else_branch"], [], frame)


def joined(items: Sequence[Any], axis: int, join: Callable[..., Any], device: torch.device | None) -> Any:
    """Items side by side: `join` is the name-alike of numpy and PyTorch, stack or concatenate."""
    if all(isinstance(x, np.ndarray) for x in items):
        return join(np)(items, axis)
    if any(isinstance(x, Narrow) for x in items):
        dtype = next(x.dtype for x in items if isinstance(x, Narrow))
        return Narrow(join(torch)([carried(x, device) for x in items], axis), dtype)
    return join(torch)([carried(x, device) for x in items], axis)


def _stack(library: Any) -> Any:
    return library.stack


def _concatenate(library: Any) -> Any:
    return library.concatenate


def _loop(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
          ) -> list[Any] | None:
    body = attributes["body"]
    count, cond, carried_in = _at(inputs, 0), _at(inputs, 1), list(inputs[2:])
    limit = None if count is None else int(count.reshape(-1)[0])
    if limit is None and cond is None:
        raise RunError("Loop: with neither a trip count nor a condition it would never end")
    values = carried_in
    piles: list[list[Any]] = [[] for _ in range(len(body.outputs) - 1 - len(values))]
    goes_on, turn = cond is None or _truth(cond), 0
    while goes_on and (limit is None or turn < limit):
        results = run.body(body, [np.array(turn, np.int64), np.array(True), *values], frame)
        values = results[1:1 + len(values)]
        for pile, item in zip(piles, results[1 + len(values):]):
            pile.append(item)
        goes_on = cond is None or _truth(results[0])
        turn += 1
    if not turn and piles:
        return None    # what an item would be like, the reference rule finds out
    return [*values, *(joined(pile, 0, _stack, run.device) for pile in piles)]


def _scan(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
          ) -> list[Any] | None:
    if "directions" in attributes:
        return None    # the first version, with its batches of lengths
    body, scanned = attributes["body"], attributes["num_scan_inputs"]
    n = len(inputs) - scanned
    states = list(inputs[:n])
    xs = [carried(x, run.device) if isinstance(x, np.ndarray) else x for x in inputs[n:]]
    if any(not isinstance(x, torch.Tensor) for x in xs):
        return None
    axes = attributes["scan_input_axes"] or [0] * scanned
    backward = attributes["scan_input_directions"] or [0] * scanned
    lengths = {x.shape[a] for x, a in zip(xs, axes)}
    if len(lengths) != 1:
        raise RunError(f"Scan: what is scanned has different lengths, {', '.join(map(str, sorted(lengths)))}")
    length = lengths.pop()
    if not length:
        return None
    piles: list[list[Any]] = [[] for _ in range(len(body.outputs) - n)]
    for t in range(length):
        slices = [x.select(a, length - 1 - t if back else t) for x, a, back in zip(xs, axes, backward)]
        results = run.body(body, [*states, *slices], frame)
        states = results[:n]
        for pile, item in zip(piles, results[n:]):
            pile.append(item)
    out_axes = attributes["scan_output_axes"] or [0] * len(piles)
    out_back = attributes["scan_output_directions"] or [0] * len(piles)
    return [*states, *(joined(pile[::-1] if back else pile, axis, _stack, run.device)
                       for pile, axis, back in zip(piles, out_axes, out_back))]


def _sequence_map(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
                  ) -> list[Any]:
    items, others = inputs[0], inputs[1:]
    for i, x in enumerate(others):
        if isinstance(x, list) and len(x) != len(items):
            raise RunError(f"SequenceMap: input {i + 1} is a sequence of {len(x)}, the first is one of {len(items)}")
    body = attributes["body"]
    rows = [run.body(body, [item, *(x[k] if isinstance(x, list) else x for x in others)], frame)
            for k, item in enumerate(items)]
    return [[row[i] for row in rows] for i in range(len(body.outputs))]


# Sequences and optionals


def _at(values: Sequence[Any], i: int) -> Any:
    return values[i] if i < len(values) else None


def _position(x: Any, length: int, op: str, highest: int) -> int:
    at = int(x.reshape(-1)[0])
    if not -length <= at <= highest:
        raise RunError(f"{op}: there is no position {at} in a sequence of {length}")
    return at + length if at < 0 else at


def _construct(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    return [list(inputs)]


def _insert(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    items, x, at = inputs[0], inputs[1], _at(inputs, 2)
    place = len(items) if at is None else _position(at, len(items), "SequenceInsert", len(items))
    return [[*items[:place], x, *items[place:]]]


def _erase(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    items, at = inputs[0], _at(inputs, 1)
    if not items:
        raise RunError("SequenceErase: the sequence is empty")
    place = len(items) - 1 if at is None else _position(at, len(items), "SequenceErase", len(items) - 1)
    return [[*items[:place], *items[place + 1:]]]


def _sequence_at(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    return [inputs[0][_position(inputs[1], len(inputs[0]), "SequenceAt", len(inputs[0]) - 1)]]


def _length(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    return [np.array(len(inputs[0]), np.int64)]


def _join(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]) -> list[Any]:
    if not inputs[0]:
        raise RunError("ConcatFromSequence: the sequence is empty")
    return [joined(inputs[0], attributes["axis"], _stack if attributes["new_axis"] else _concatenate, run.device)]


def _split(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
           ) -> list[Any] | None:
    x, split = inputs[0], _at(inputs, 1)
    if not isinstance(x, torch.Tensor) or not -x.ndim <= attributes["axis"] < x.ndim:
        return None
    axis = attributes["axis"]
    size = x.shape[axis]
    if split is None:
        return [[x.narrow(axis, i, 1) if attributes["keepdims"] else x.select(axis, i) for i in range(size)]]
    if split.ndim == 0:
        if int(split) < 1:
            raise RunError(f"SplitToSequence: a part cannot have the size {int(split)}")
        return [list(torch.split(x, int(split), axis))] if size else [[]]
    sizes = [int(s) for s in split]
    return [list(torch.split(x, sizes, axis))] if sum(sizes) == size and min(sizes, default=0) >= 0 else None


def _same(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any] | None:
    # Optional() of nothing, and what only passes its input on; of a sequence, too.
    return None if _at(inputs, 0) is None else [inputs[0]]


def _is_there(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    return [np.array(_at(inputs, 0) is not None)]


# Sizes that hang on values


def _shape(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
           ) -> list[Any] | None:
    rank = len(inputs[0].shape)
    start, end = attributes.get("start") or 0, attributes.get("end")
    start = min(max(start + rank if start < 0 else start, 0), rank)
    end = rank if end is None else min(max(end + rank if end < 0 else end, 0), rank)
    return [np.array(tuple(inputs[0].shape)[start:end], np.int64)]


def _size(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any]:
    return [np.array(int(np.prod(tuple(inputs[0].shape), dtype=np.int64)), np.int64)]


def _compress(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
              ) -> list[Any] | None:
    x, condition = inputs
    if not isinstance(x, torch.Tensor):
        return None
    axis = attributes["axis"]
    x = x.reshape(-1) if axis is None else x
    at = 0 if axis is None else axis
    places = torch.nonzero(carried(condition, run.device)).reshape(-1)
    if not -x.ndim <= at < x.ndim or len(condition) > x.shape[at]:
        return None
    return [x.index_select(at, places)]


def _non_zero(run: TorchRunning, node: Node, inputs: list[Any], *_: Any) -> list[Any] | None:
    x = inputs[0]
    if not isinstance(x, torch.Tensor) or not x.ndim:
        return None
    return [torch.nonzero(x).T.contiguous()]


def _dropout(run: TorchRunning, node: Node, inputs: list[Any], frame: Frame, attributes: Mapping[str, Any]
             ) -> list[Any] | None:
    """In training: zeros where a random number lies below the ratio, others scaled up; drawn as the reference does."""
    x, ratio, training = inputs[0], _at(inputs, 1), _at(inputs, 2)
    if "seed" not in attributes or not isinstance(x, torch.Tensor) or training is None or not _truth(training):
        return None
    portion = 0.5 if ratio is None else float(ratio.reshape(-1)[0])
    seed = attributes["seed"]
    random = run.random if seed is None else np.random.default_rng(int(seed))
    kept = torch.from_numpy(random.random(tuple(x.shape)) >= portion).to(x.device)
    scaled = x / (1 - portion) if portion < 1 else torch.zeros_like(x)
    return [torch.where(kept, scaled, torch.zeros_like(x)), kept][:len(node.outputs)]


_ROWS: dict[str, Row] = {
    "If": _if, "Loop": _loop, "Scan": _scan, "SequenceMap": _sequence_map, "SequenceConstruct": _construct,
    "SequenceInsert": _insert, "SequenceErase": _erase, "SequenceAt": _sequence_at, "SequenceLength": _length,
    "ConcatFromSequence": _join, "SplitToSequence": _split, "Optional": _same, "OptionalGetElement": _same,
    "OptionalHasElement": _is_there, "Shape": _shape, "Size": _size, "Compress": _compress, "NonZero": _non_zero,
    "Dropout": _dropout}

CONTROL: dict[tuple[str, str], Row] = {("", name): row for name, row in _ROWS.items()}
