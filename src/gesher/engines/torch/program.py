"""One node's lowering, run in PyTorch.

A node is lowered for the shapes that reach it, by the same rule that the compiler lowers it with; what comes of it is
kept, so that the next run with these shapes only computes. Gradients are PyTorch's own, through the primitives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gesher.base.dtypes import DType
from gesher.base.errors import GesherError
from gesher.primitives import CannotLower, Expr
from gesher.primitives.expr import walk
from gesher.symbolic import Dim

from .carriers import NATIVE, given_out, is_narrow
from .primitives import RULES, by_numpy, leaf, shape_of
from .wholes import operands, whole


class Program:
    """Expressions of numbers of known shapes, to be computed again and again.

    Args:
        inputs: the expressions that values are given for.
        results: what to compute.
    """

    def __init__(self, inputs: Sequence[Expr], results: Sequence[Expr]):
        for e in walk(results, meanings=True):
            if _symbols(e):
                raise CannotLower("a size of the result is not known from the shapes alone")
        self.inputs, self.results = tuple(inputs), tuple(results)
        self.leaves: dict[tuple[Expr, torch.device | None], Any] = {}

    def run(self, values: Sequence[Any], device: torch.device | None) -> list[Any]:
        """The results, as nodes pass them on; `values` are carried (see `carriers`)."""
        run = _Run(self, dict(zip(self.inputs, values)), device)
        return [given_out(run.value(e), e.dtype) for e in self.results]


def _symbols(e: Expr) -> bool:
    if any(isinstance(d, Dim) for d in e.shape):
        return True
    return any(_holds_dim(v) for k, v in e.params.items() if k not in ("types", "meaning", "parameters"))


def _holds_dim(value: Any) -> bool:
    if isinstance(value, Dim):
        return True
    return isinstance(value, tuple) and any(_holds_dim(v) for v in value)


class _Run:
    """One computation. What depends on a loop's turn lives in a layer of its own, dropped with the turn."""

    def __init__(self, program: Program, values: dict[Expr, Any], device: torch.device | None):
        self.program, self.values, self.device = program, values, device
        # Composites that are done at once, and those that turned out not to be.
        self.wholes: dict[Expr, tuple[Any, ...] | None] = {}

    def value(self, root: Expr) -> Any:
        stack = [root]
        values = self.values
        while stack:
            e = stack[-1]
            if e in values:
                stack.pop()
                continue
            needs = self.needs(e)
            waiting = [a for a in needs if a not in values]
            if waiting:
                stack.extend(waiting)
                continue
            values[e] = self.apply(e)
            stack.pop()
        return values[root]

    def needs(self, e: Expr) -> Sequence[Expr]:
        if e.prim == "item" and e.args[0].prim == "composite":
            bundle = e.args[0]
            if bundle not in self.wholes:
                if whole(bundle) is not None and any(a not in self.values for a in bundle.args):
                    return bundle.args
                self.wholes[bundle] = self.at_once(bundle)
            return () if self.wholes[bundle] is not None else (bundle.params["meaning"][e.params["index"]],)
        return e.args

    def at_once(self, bundle: Expr) -> tuple[Any, ...] | None:
        function = whole(bundle)
        if function is None:
            return None
        given = operands(bundle, [self.values[a] for a in bundle.args])
        return function(*given, **dict(bundle.params["of"]))

    def apply(self, e: Expr) -> Any:
        if e.prim == "item":
            bundle, index = e.args[0], e.params["index"]
            if bundle.prim != "composite":
                return self.values[bundle][index]
            found = self.wholes[bundle]
            if found is None:
                return self.values[bundle.params["meaning"][index]]
            part = found[index]
            return (part() if callable(part) else part).reshape(shape_of(e))
        args = [self.values[a] for a in e.args]
        if e.prim == "loop":
            return self.loop(e, *args)
        if e.prim == "branch":
            return [self.value(x) for x in e.params["then" if bool(args[0]) else "other"]]
        if not args:
            return self.leaf(e)
        rule = RULES.get(e.prim)
        if rule is None or not all(map(_computed, (e.dtype, *(a.dtype for a in e.args)))):
            return by_numpy(e, args)
        return rule(e, *args)

    def leaf(self, e: Expr) -> Any:
        key = (e, self.device)
        found = self.program.leaves.get(key)
        if found is None:
            found = by_numpy(e, ()) if e.prim == "iota" and e.dtype not in NATIVE else leaf(e, self.device)
            self.program.leaves[key] = found
        return found

    def loop(self, e: Expr, count: Any, *args: Any) -> list[Any]:
        p = e.params
        carried, scanned = list(args[:p["carried"]]), args[p["carried"]:]
        piles: list[list[Any]] = [[] for _ in p["stacked_out"]]
        roots = (*p["carried_out"], *p["stacked_out"])
        for i in range(int(count)):
            if p["going"] is not None and not bool(carried[p["going"]]):
                break
            turn = _Run(self.program, _Layer(self.values), self.device)
            turn.wholes = _Layer(self.wholes)
            turn.values.update(zip(p["parameters"], [torch.tensor(i, device=self.device), *carried,
                                                     *(s[i] for s in scanned)]))
            results = [turn.value(r) for r in roots]
            carried = results[:len(carried)]
            for pile, item in zip(piles, results[len(carried):]):
                pile.append(item)
        return [*carried, *(torch.stack(pile) if pile else _nothing(s, self.device)
                            for pile, s in zip(piles, p["stacked_out"]))]


def _nothing(item: Expr, device: torch.device | None) -> torch.Tensor:
    return torch.zeros((0, *shape_of(item)), dtype=NATIVE.get(item.dtype, torch.float32), device=device)


def _computed(dtype: DType) -> bool:
    """Whether PyTorch computes with the type, or with what carries it."""
    return dtype in NATIVE or is_narrow(dtype) or dtype.code == 0


class _Layer(dict[Expr, Any]):
    """Values of one turn over those outside; what does not depend on the turn is written outside."""

    def __init__(self, outer: dict[Expr, Any]):
        super().__init__()
        self.outer = outer

    def __contains__(self, e: object) -> bool:
        return super().__contains__(e) or e in self.outer

    def __getitem__(self, e: Expr) -> Any:
        return super().__getitem__(e) if super().__contains__(e) else self.outer[e]

    def __setitem__(self, e: Expr, value: Any) -> None:
        if e.scopes:
            super().__setitem__(e, value)
        else:
            self.outer[e] = value


def lower(rule: Callable[..., Any], builder: Any, args: Sequence[Expr | None], attributes: Mapping[str, Any]
          ) -> list[Expr]:
    """A lowering's results, as a list.

    Raises:
        CannotLower: it does not take this form; faults of the node itself count as that, too: the reference rule, asked
            next, tells them better.
    """
    try:
        result = rule(builder, *args, **attributes)
    except GesherError as e:
        raise CannotLower(e.what) from e
    return list(result) if isinstance(result, (tuple, list)) else [result]
