"""Branches and loops: `torch.cond`, `while_loop`, `scan`, `map` and `associative_scan` as If, Loop and Scan.

PyTorch hands a branch or body as a graph whose inputs are its operands; ONNX's inner graphs capture what they use. So
operands that do not change are simply used from within, and only what is carried or cut into slices becomes an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.ops.build import Builder

from .sizes import said
from .translation import Translation, aten, dtype_of


def _flat(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def truth(t: Translation, x: Any) -> Value:
    """A condition as a scalar bool: a tensor of one element, a bool, or a relation of sizes."""
    if isinstance(x, Value):
        return t.b.Reshape(t.cast(x, dtypes.BOOL), t.ints([])) if t.rank(x) else t.cast(x, dtypes.BOOL)
    if isinstance(x, torch.SymBool):
        return t.b.Squeeze(_relation(t, x.node.expr), t.ints([0]))
    return t.constant(bool(x), dtypes.BOOL)


def _relation(t: Translation, e: Any) -> Value:
    kind = type(e).__name__
    if kind == "Not":
        return t.b.Not(_relation(t, e.args[0]))
    if kind in ("And", "Or"):
        made = _relation(t, e.args[0])
        for a in e.args[1:]:
            made = t.b.op(kind, made, _relation(t, a))
        return made
    operators: dict[str, Callable[[Value, Value], Value]] = {
        "Equality": t.b.Equal, "Unequality": lambda a, b: t.b.Not(t.b.Equal(a, b)), "StrictLessThan": t.b.Less,
        "StrictGreaterThan": t.b.Greater, "LessThan": lambda a, b: t.b.Not(t.b.Greater(a, b)),
        "GreaterThan": lambda a, b: t.b.Not(t.b.Less(a, b))}
    if kind not in operators:
        raise UnsupportedError(f"the condition {e} has no way to ONNX", who="torch")
    return operators[kind](*(t.sizes.value(said(a, t.sizes.symbol)) for a in e.args))


def _subgraph(t: Translation, name: str, inputs: Sequence[Any]) -> tuple[Translation, list[Value]]:
    """An inner graph with inputs as these fakes are, and those inputs."""
    b: Builder = t.b.subgraph(name, [(f"{name}_{i}", dtype_of(f.dtype), t.sizes.shape(f.shape))
                                     for i, f in enumerate(inputs)])
    inner = t.within(b)
    for v, f in zip(b.graph.inputs, inputs):
        inner.sizes.learn(v, f.shape)
    return inner, list(b.graph.inputs)


def _fakes(graph: Any) -> list[Any]:
    """What PyTorch says of each input of an inner graph."""
    return [n.meta.get("val") for n in graph.graph.nodes if n.op == "placeholder"]


def _results(graph: Any) -> list[Any]:
    """What PyTorch says of each result of an inner graph."""
    output = next(n for n in graph.graph.nodes if n.op == "output")
    return [n.meta.get("val") if isinstance(n, torch.fx.Node) else n for n in _flat(output.args[0])]


@aten("higher_order::cond")
def _(t: Translation, condition: Any, yes: Any, no: Any, operands: Sequence[Any] = ()) -> Any:
    outs = _flat(t.out)
    branches = []
    for name, graph in (("then", yes), ("else", no)):
        inner, _ = _subgraph(t, name, [])
        for value, fake in zip(inner.body(inner, graph, operands), outs):
            inner.b.output(inner.value(value, dtype_of(fake.dtype)))
        branches.append(inner.b)
    made = t.b.If(truth(t, condition), then_branch=branches[0], else_branch=branches[1], outputs=len(outs))
    return (made,) if len(outs) == 1 else made


@aten("higher_order::while_loop")
def _(t: Translation, condition: Any, body: Any, carried: Sequence[Any], more: Sequence[Any] = ()) -> Any:
    start = [t.value(c) for c in carried]
    first = truth(t, t.body(t, condition, [*start, *more])[0])
    shapes = _fakes(body)[:len(start)]
    inner, inputs = _subgraph(t, "loop", [torch.empty((), dtype=torch.int64, device="meta"),
                                          torch.empty((), dtype=torch.bool, device="meta"), *shapes])
    now = [inner.value(v, t.dtype(s)) for v, s in zip(inner.body(inner, body, [*inputs[2:], *more]), start)]
    inner.b.output(truth(inner, inner.body(inner, condition, [*now, *more])[0]))
    for v in now:
        inner.b.output(v)
    made = t.b.Loop(None, first, *start, body=inner.b, outputs=len(start))
    return (made,) if len(start) == 1 else made


def _scanned(t: Translation, body: Any, states: Sequence[Value], xs: Sequence[Value], more: Sequence[Any],
             count: int) -> tuple[Value, ...]:
    """A Scan over the first axis of `xs`; `count` is how many results the body has, states among them."""
    inner, inputs = _subgraph(t, "scan", _fakes(body)[:len(states) + len(xs)])
    for i, v in enumerate(inner.body(inner, body, [*inputs, *more])):
        inner.b.output(inner.value(v, t.dtype(states[i]) if i < len(states) else None))
    made = t.b.Scan(*states, *xs, body=inner.b, num_scan_inputs=len(xs), outputs=count)
    return (made,) if count == 1 else made


@aten("higher_order::scan")
def _(t: Translation, body: Any, init: Sequence[Any], xs: Sequence[Any], more: Sequence[Any] = ()) -> Any:
    return _scanned(t, body, [t.value(v) for v in init], list(xs), more, len(_results(body)))


@aten("higher_order::map_impl")
def _(t: Translation, body: Any, xs: Sequence[Any], more: Sequence[Any] = ()) -> Any:
    return _scanned(t, body, [], list(xs), more, len(_results(body)))


@aten("higher_order::associative_scan")
def _(t: Translation, combine: Any, xs: Sequence[Value], more: Sequence[Any] = ()) -> Any:
    # One after the other: what is combined so far is the state, and is what each step gives out.
    fakes = _fakes(combine)[:2 * len(xs)]
    first = [t.slice(x, 0, 0, 1) for x in xs]
    inner, inputs = _subgraph(t, "scan", fakes)
    now = inner.body(inner, combine, [*inputs, *more])
    for v in [*now, *now]:
        inner.b.output(inner.value(v))
    made = t.b.Scan(*(t.squeeze(f, [0]) for f in first), *(t.slice(x, 0, 1, (1 << 63) - 1) for x in xs), body=inner.b,
                    num_scan_inputs=len(xs), outputs=2 * len(xs))
    return tuple(t.b.Concat(f, rest, axis=0) for f, rest in zip(first, made[len(xs):]))


# Graphs that are only wrapped, whose wrapping means nothing for a model that infers

@aten("higher_order::wrap_with_set_grad_enabled")
def _(t: Translation, enabled: Any, graph: Any, *operands: Any) -> Any:
    return tuple(t.body(t, graph, operands))


@aten("higher_order::wrap_with_autocast")
def _(t: Translation, device: Any, dtype: Any, enabled: Any, cache: Any, graph: Any, *operands: Any) -> Any:
    # Under capture the casts are operators of the graph already.
    return tuple(t.body(t, graph, operands))


@aten("higher_order::invoke_subgraph")
def _(t: Translation, graph: Any, identifier: Any, *operands: Any) -> Any:
    return tuple(t.body(t, graph, operands))


@aten("higher_order::tag_activation_checkpoint", "higher_order::wrap_activation_checkpoint")
def _(t: Translation, graph: Any, *operands: Any, **_how: Any) -> Any:
    return tuple(t.body(t, graph, operands))
