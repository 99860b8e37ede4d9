"""Gradient: the derivative of a value of the graph, named `y`, by values named in `xs`, at the values of its inputs.

The node's inputs are not what is differentiated: they say where. The nodes between are found by the names, run forward
from the inputs once more, and differentiated as expressions of primitives (`gesher.primitives.gradients`). What ONNX's
text leaves open is settled so:

- Of a y that is no scalar, the sum is differentiated: the seed is one everywhere.
- An x that y does not hang on has a gradient of zeros.
- If y hangs on an input of the graph that is in neither xs nor zs, the node is refused, since y is then no function of
  them. Constants need no naming; an initializer that is an input too does.
- Random numbers on the way are refused unless they are seeded: the node would draw others than y was made with.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.ops.rules import InferNode, Run
from gesher.ops.rules import resolve as resolve_node
from gesher.ops.schema import ALL, FLOATS, REQUIRED, Attr, Input, Output, op

from .optimizers import TRAINING
from .way import Forward, Held, find_way

Array = np.ndarray[Any, Any]

Gradient = op("Gradient", Input("Inputs", "T1", variadic=True, homogeneous=False),
              Output("Outputs", "T2", variadic=True, homogeneous=False), Attr("xs", "strings", REQUIRED),
              Attr("zs", "strings"), Attr("y", "string", REQUIRED), domain=TRAINING, T1=ALL, T2=FLOATS)


@Gradient.infer
def _(node: InferNode) -> None:
    xs, names = node["xs"], [*node["xs"], *(node["zs"] or ())]
    if len(node.node.inputs) != len(names):
        node.fail(f"xs and zs name {len(names)} values, {len(node.node.inputs)} are given")
    if len(node.outputs) > len(xs):
        node.fail(f"it has {len(node.outputs)} outputs for {len(xs)} names in xs")
    if node.node.graph is not None:
        find_way(node.node, names, node["y"])
    for i, value in enumerate(node.node.outputs):
        dtype = node.dtype(i)
        if value is not None and dtype is not dtypes.UNDEFINED and not dtype.is_float:
            node.fail(f"'{xs[i]}' is {dtype.name}, by which nothing is differentiated")
        node.set(i, dtype, node.shape(i))


def _split(names: Any, inputs: Any, outputs: int, xs: Any) -> None:
    if len(names) != len(inputs) or outputs > len(xs):
        raise ModelError(f"Gradient: {len(inputs)} inputs and {outputs} outputs for {len(xs)} names in xs and "
                         f"{len(names) - len(xs)} in zs", rule="gradient")


@Gradient.reference
def gradient(*inputs: Any, xs: Any, zs: Any, y: str, run: Run) -> Any:
    from gesher.primitives import Builder, CannotLower, evaluate
    from gesher.primitives.gradients import gradients

    names = [*xs, *(zs or ())]
    _split(names, inputs, len(run.wanted), xs)
    way = find_way(run.node, names, y)
    p = Builder()
    held, asked, feeds = [Held(x) for x in inputs], [], {}
    for i, wanted in enumerate(run.wanted):
        if wanted:
            dtype = dtypes.from_numpy(inputs[i].dtype)
            if not dtype.is_float:
                raise ModelError(f"Gradient: '{xs[i]}' is {dtype.name}, by which nothing is differentiated",
                                 rule="gradient")
            asked.append(p.input(f"x{i}", dtype, inputs[i].shape))
            held[i].expr, feeds[f"x{i}"] = asked[-1], inputs[i]
    try:
        made = Forward(p, lambda n: resolve_node(n, run.opsets), run).go(way, held)
        _check_float(y, made)
        roots = [] if made.expr is None else [made.expr]
        results = evaluate(gradients(p, roots, [p.full(r.shape, 1, r.dtype) for r in roots], asked), feeds)
    except CannotLower as e:
        raise UnsupportedError(f"Gradient: '{y}' cannot be differentiated: {e.reason}", who="reference",
                               place=(run.node.place,)) from e
    given = iter(results)
    return tuple(np.array(next(given)) if wanted else None for wanted in run.wanted)


def _check_float(y: str, made: Held) -> None:
    dtype = made.expr.dtype if made.expr is not None else \
        dtypes.from_numpy(made.numbers.dtype) if isinstance(made.numbers, np.ndarray) else dtypes.UNDEFINED
    if not dtype.is_float:
        raise ModelError(f"Gradient: '{y}' holds no floats, so it has no gradient", rule="gradient")


_numbers = itertools.count(1)


@Gradient.lower
def _(p: Any, *inputs: Any, xs: Any, zs: Any, y: str) -> Any:
    from gesher.primitives import CannotLower
    from gesher.primitives.gradients import gradients
    from gesher.primitives.simplify import replace

    if p.site is None:
        raise CannotLower("where the node stands is not known")
    names = [*xs, *(zs or ())]
    _split(names, inputs, p.outputs, xs)
    # Inputs of its own while it is differentiated: what is given may be the same for two names, a constant that stands
    # elsewhere too, or made from another input, and nothing may flow there.
    own = []
    for i, given in enumerate(inputs):
        own.append(p.input(f"independent value {next(_numbers)} of a gradient", given.dtype, given.shape))
        known = p.known(given)
        if known is not None and i >= len(xs):
            p.learn(own[-1], known)
    made = Forward(p, p.site.resolve).go(find_way(p.site.node, names, y), [Held(expr=e) for e in own])
    _check_float(y, made)
    assert made.expr is not None
    results = gradients(p, [made.expr], [p.full(made.expr.shape, 1, made.expr.dtype)], own[:p.outputs])
    return tuple(replace(results, dict(zip(own, inputs))))
