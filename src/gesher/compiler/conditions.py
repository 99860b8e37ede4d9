"""Conditions that hang on sizes and small integers alone: found in lowering, settled by the arrays of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.evaluator.plan import Plan as GraphSteps
from gesher.ir import Value
from gesher.primitives import Expr, evaluate
from gesher.primitives.known import known_sizes
from gesher.symbolic import Dim

# Integers that a condition may hang on.
FEW = 16


def sizes_of(leaves: Mapping[Value, Expr], env: Mapping[Value, Any]) -> dict[Dim, int]:
    """The plain symbols in the shapes of leaves, by the arrays that are there."""
    sizes: dict[Dim, int] = {}
    for v, e in leaves.items():
        x = env.get(v)
        if isinstance(x, np.ndarray) and x.ndim == e.rank:
            for d, n in zip(e.shape, x.shape):
                if isinstance(d, Dim) and d.op == "sym":
                    sizes.setdefault(d, n)
    return sizes


def is_small_integer(e: Expr) -> bool:
    """Whether `e` holds so few integers or bools that a condition may hang on their values."""
    size = 1
    for d in e.shape:
        if not isinstance(d, int):
            return False
        size *= d
    return size <= FEW and (e.dtype.is_integer or e.dtype is dtypes.BOOL)


def hangs_on_sizes(e: Expr, by_expr: Mapping[Expr, Value], steps: GraphSteps) -> bool:
    """Whether a condition follows from sizes, constants, and small integers that enter the graph."""
    entering = {*steps.captures, *steps.graph.inputs}
    pending, seen = [e], set()
    while pending:
        x = pending.pop()
        if x in seen or x.builder.known(x) is not None:
            continue
        seen.add(x)
        if x.prim == "input":
            if by_expr.get(x) not in entering or not is_small_integer(x):
                return False
        elif x.prim in ("item", "parameter") or x.dtype.kind not in ("int", "uint", "bool") or len(seen) > 200:
            return False
        pending.extend(x.args)
    return True


def settle(e: Expr, by_expr: Mapping[Expr, Value], env: Mapping[Value, Any], sizes: Mapping[Dim, int]) -> Any:
    """The number that a condition is, for these arrays and sizes; None where it cannot be told."""
    values: dict[Expr, Any] = {}
    stack = [(e, False)]
    while stack:
        x, ready = stack.pop()
        if x in values:
            continue
        known = x.builder.known(x)
        if known is not None:
            if any(isinstance(d, Dim) and not d.symbols() <= sizes.keys() for d in known.reshape(-1).tolist()):
                return None
            values[x] = known_sizes(known, dict(sizes)).astype(x.dtype.numpy)
        elif x.prim == "input":
            held = env.get(by_expr[x])
            if not isinstance(held, np.ndarray) or held.ndim != x.rank:
                return None
            values[x] = held
        elif not ready:
            stack.append((x, True))
            stack.extend((a, False) for a in x.args)
        else:
            # With numbers for its operands, a step by itself is an expression that the interpreter can run.
            args = [x.builder.constant(values[a], a.dtype) for a in x.args]
            values[x] = evaluate([x.builder.make(x.prim, args, x.params, x.dtype, x.shape)])[0]
    result = values[e]
    return result.reshape(-1)[0] if result.size == 1 else None
