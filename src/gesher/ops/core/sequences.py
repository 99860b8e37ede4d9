"""Sequences: lists of tensors of one data type, whose shapes may differ.

The element of a sequence's type has `None` for a dim that is not the same in all elements, or not known to be: a symbol
there would claim that they share it. Sequences stay with the reference rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import DimLike, Graph, SequenceType, TensorType, Type
from gesher.symbolic import Dim, fresh

from ..axes import axis_of
from ..bodies import ask, names_declared_in, shape_of, symbols_in
from ..fact import Fact
from ..merging import Unlike, merge_types
from ..rules import InferNode, Run
from ..schema import ALL, REQUIRED, Attr, Input, Output, every, op, sequences, tensors
from ..sizes import numbers_of

TIND = tensors("int32 int64")
SEQUENCES = sequences(ALL)


def _element(node: InferNode, index: int) -> Type | None:
    """The type of the elements of the sequence at input `index`; None where it is unknown."""
    t = node.type(index)
    if t is None:
        return None
    if not isinstance(t, SequenceType):
        node.fail(f"input {index} is {t}, not a sequence")
    return t.element


def _joined(node: InferNode, types: Sequence[Type | None]) -> Type | None:
    """The type of elements that have one of `types`."""
    merged = types[0]
    for t in types[1:]:
        try:
            merged = merge_types(merged, t, lambda axis: None)
        except Unlike as e:
            node.fail(f"the elements of a sequence have one type: {e}")
    return merged


def _set_sequence(node: InferNode, index: int, element: Type | None) -> None:
    node.set_fact(index, Fact(SequenceType(element)))


def _set_element(node: InferNode, index: int, element: Type | None, reason: str) -> None:
    """Output `index` is an element, so each of its unknown sizes is one size from here on."""
    if isinstance(element, TensorType) and element.shape is not None:
        element = TensorType(element.dtype, tuple(node.fresh(f"{reason}, on axis {i}") if d is None else d
                                                  for i, d in enumerate(element.shape)))
    node.set_fact(index, Fact(element, why="" if element is not None else "the type of the elements is unknown"))


def position(given: Any, length: int, name: str, last: int) -> int:
    """A place in a sequence of `length` elements, from the front; `last` is the greatest that is allowed.

    Raises:
        RunError: there is no such place.
    """
    if given.size != 1:
        raise RunError(f"{name}: the position holds {given.size} numbers, it must hold one")
    at = int(given.reshape(-1)[0])
    if not -length <= at <= last:
        raise RunError(f"{name}: there is no position {at} in a sequence of {length}")
    return at + length if at < 0 else at


# Making

SequenceConstruct = op("SequenceConstruct", Input("inputs", variadic=True), Output("output_sequence", "S"), since=11,
                       T=ALL, S=SEQUENCES)
SequenceEmpty = op("SequenceEmpty", Output("output", "S"), Attr("dtype", "int"), since=11, S=SEQUENCES)


@SequenceConstruct.infer
def _(node: InferNode) -> None:
    _set_sequence(node, 0, _joined(node, [node.type(i) for i in range(len(node.inputs))]))


@SequenceConstruct.reference
def sequence_construct(*inputs: Any) -> list[Any]:
    return list(inputs)


@SequenceEmpty.infer
def _(node: InferNode) -> None:
    dtype = dtypes.BY_CODE.get(dtypes.FLOAT.code if node["dtype"] is None else node["dtype"])
    if dtype is None:
        node.fail(f"there is no data type {node['dtype']}")
    _set_sequence(node, 0, TensorType(dtype))


@SequenceEmpty.reference
def sequence_empty(*, dtype: int | None) -> list[Any]:
    return []


# Changing

SequenceInsert = op("SequenceInsert", Input("input_sequence", "S"), Input("tensor"),
                    Input("position", "I", optional=True), Output("output_sequence", "S"), since=11, T=ALL,
                    S=SEQUENCES, I=TIND)
SequenceErase = op("SequenceErase", Input("input_sequence", "S"), Input("position", "I", optional=True),
                   Output("output_sequence", "S"), since=11, S=SEQUENCES, I=TIND)


@SequenceInsert.infer
def _(node: InferNode) -> None:
    _set_sequence(node, 0, _joined(node, [_element(node, 0), node.type(1)]))


@SequenceInsert.reference
def sequence_insert(items: list[Any], tensor: Any, at: Any = None) -> list[Any]:
    place = len(items) if at is None else position(at, len(items), "SequenceInsert", len(items))
    return [*items[:place], tensor, *items[place:]]


@SequenceErase.infer
def _(node: InferNode) -> None:
    _set_sequence(node, 0, _element(node, 0))


@SequenceErase.reference
def sequence_erase(items: list[Any], at: Any = None) -> list[Any]:
    if not items:
        raise RunError("SequenceErase: the sequence is empty")
    place = len(items) - 1 if at is None else position(at, len(items), "SequenceErase", len(items) - 1)
    return [*items[:place], *items[place + 1:]]


# Asking

SequenceAt = op("SequenceAt", Input("input_sequence", "S"), Input("position", "I"), Output("tensor"), since=11,
                S=SEQUENCES, T=ALL, I=TIND)
SequenceLength = op("SequenceLength", Input("input_sequence", "S"), Output("length", "I"), since=11, S=SEQUENCES,
                    I=tensors("int64"))


@SequenceAt.infer
def _(node: InferNode) -> None:
    _set_element(node, 0, _element(node, 0), "the elements of the sequence need not be alike")


@SequenceAt.reference
def sequence_at(items: list[Any], at: Any) -> Any:
    return items[position(at, len(items), "SequenceAt", len(items) - 1)]


@SequenceLength.infer
def _(node: InferNode) -> None:
    node.set(0, dtypes.INT64, (), node.fresh("the length of the sequence is not known"))


@SequenceLength.reference
def sequence_length(items: list[Any]) -> Any:
    return np.array(len(items), np.int64)


# Splitting and joining

SplitToSequence = (op("SplitToSequence", Input("input"), Input("split", "I", optional=True),
                      Output("output_sequence", "S"), Attr("axis", "int", 0), Attr("keepdims", "int", 1), since=11,
                      T=ALL, I=TIND, S=SEQUENCES)
                   .since(24, T=every(13), S=sequences(every(13))))
ConcatFromSequence = op("ConcatFromSequence", Input("input_sequence", "S"), Output("concat_result"),
                        Attr("axis", "int", REQUIRED), Attr("new_axis", "int", 0), since=11, S=SEQUENCES, T=ALL)


@SplitToSequence.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is None:
        _set_sequence(node, 0, TensorType(node.dtype(0)))
        return
    axis = axis_of(node["axis"], len(shape), node)
    if not node.has(1) and not node["keepdims"]:
        _set_sequence(node, 0, TensorType(node.dtype(0), (*shape[:axis], *shape[axis + 1:])))
        return
    part: DimLike | None = 1
    if node.has(1):
        sizes, kind = numbers_of(node, 1), node.shape(1)
        part = None
        if sizes and kind is not None:
            if min(sizes) < 0 or (not kind and not sizes[0]):
                node.fail(f"a part cannot have the size {min(sizes)}")
            size = shape[axis]
            even = isinstance(size, int) and size % sizes[0] == 0 if not kind else len(set(sizes)) == 1
            part = sizes[0] if even else None
    _set_sequence(node, 0, TensorType(node.dtype(0), (*shape[:axis], part, *shape[axis + 1:])))


@SplitToSequence.reference
def split_to_sequence(x: Any, split: Any = None, *, axis: int, keepdims: int) -> list[Any]:
    axis = axis_of(axis, x.ndim)
    size = x.shape[axis]
    if split is None:
        return [x.take([i] if keepdims else i, axis) for i in range(size)]
    if split.ndim == 0:
        step = int(split)
        if step < 1:
            raise RunError(f"SplitToSequence: a part cannot have the size {step}")
        ends = [*range(step, size, step), size] if size else []
    else:
        ends = np.cumsum(split).tolist()
        if (split < 0).any() or (ends[-1] if ends else 0) != size:
            raise RunError(f"SplitToSequence: the parts {split.tolist()} do not fill an axis of {size}")
    return [x.take(np.arange(start, end), axis) for start, end in zip([0, *ends], ends)]


@ConcatFromSequence.infer
def _(node: InferNode) -> None:
    element = _element(node, 0)
    if not isinstance(element, TensorType) or element.shape is None:
        node.set(0, dtypes.UNDEFINED if not isinstance(element, TensorType) else element.dtype, None,
                 why="the rank of the elements is unknown")
        return
    # What is joined is alike beside the axis, so an unknown size there is one size.
    sizes: list[DimLike] = [node.fresh(f"axis {i} of the elements is unknown") if d is None else d
                            for i, d in enumerate(element.shape)]
    joined = node.fresh("how much the sequence holds is not known")
    if node["new_axis"]:
        axis = axis_of(node["axis"], len(sizes) + 1, node)
        sizes.insert(axis, joined)
    else:
        axis = axis_of(node["axis"], len(sizes), node)
        sizes[axis] = joined
    node.set(0, element.dtype, sizes)


@ConcatFromSequence.reference
def concat_from_sequence(items: list[Any], *, axis: int, new_axis: int) -> Any:
    if not items:
        raise RunError("ConcatFromSequence: the sequence is empty")
    return np.stack(items, axis) if new_axis else np.concatenate(items, axis)


# SequenceMap

SequenceMap = op("SequenceMap", Input("input_sequence", "S"),
                 Input("additional_inputs", "V", variadic=True, homogeneous=False, least=0),
                 Output("out_sequence", "S", variadic=True, homogeneous=False), Attr("body", "graph", REQUIRED),
                 since=17, S=SEQUENCES, V=ALL | SEQUENCES)


@SequenceMap.infer
def _(node: InferNode) -> None:
    body = node["body"]
    if len(body.inputs) != len(node.node.inputs) or len(body.outputs) != len(node.outputs):
        node.fail(f"its body takes {len(body.inputs)} inputs and gives {len(body.outputs)} outputs, the node has "
                  f"{len(node.node.inputs)} and {len(node.outputs)}")
    _element(node, 0)
    # Symbols made from here on stand for something else in each element.
    before = fresh("SequenceMap")
    inputs: list[Fact | None] = []
    for i, fact in enumerate(node.inputs):
        t = None if fact is None else fact.type
        if isinstance(t, SequenceType):
            element = t.element
            if isinstance(element, TensorType) and element.shape is not None:
                element = TensorType(element.dtype, tuple(
                    node.fresh(f"axis {a} of each element of input {i}") if d is None else d
                    for a, d in enumerate(element.shape)))
            fact = Fact(element)
        inputs.append(fact)
    known = symbols_in(d for f in inputs if f is not None for d in shape_of(f.type) or ())
    named_inside = names_declared_in(body) - known
    for i, fact in enumerate(ask(node, body, inputs)):
        element = None if fact is None else fact.type
        if isinstance(element, TensorType) and element.shape is not None:
            element = TensorType(element.dtype, tuple(
                None if any(s in named_inside or _is_younger(s, before) for s in symbols_in([d])) else d
                for d in element.shape))
        _set_sequence(node, i, element)


def _is_younger(symbol: Dim, mark: Dim) -> bool:
    """Whether an anonymous symbol was made after another one; such are numbered in the order of their making."""
    return symbol.is_fresh and int(symbol.name[1:]) > int(mark.name[1:])


@SequenceMap.reference
def sequence_map(items: list[Any], *others: Any, body: Graph, run: Run) -> Any:
    for i, x in enumerate(others):
        if isinstance(x, list) and len(x) != len(items):
            raise RunError(f"SequenceMap: input {i + 1} is a sequence of {len(x)}, the first is one of {len(items)}")
    outputs: list[list[Any]] = [[] for _ in body.outputs]
    for k, item in enumerate(items):
        results = run.run_graph(body, [item, *(x[k] if isinstance(x, list) else x for x in others)])
        for pile, result in zip(outputs, results):
            pile.append(result)
    return tuple(outputs)
