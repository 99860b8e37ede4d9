"""Gradients of primitive expressions, backward: what the sum of seeds times results changes by, for each element of x.

    gradients(p, [y], [p.full(y.shape, 1, y.dtype)], [x])     # d sum(y) / d x

The rules of single primitives are in `slopes`; here is how gradients flow between them. A reader would guess wrong:

- Composites are differentiated through their meaning. A loop runs once more forward to keep what it carried, then
  backward. The arms of a branch are differentiated inside the arms, so that the one not taken is never computed.
- What is differentiated by counts as independent, however it came to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .builder import Builder
from .expr import CannotLower, Expr
from .slopes import RULES, flipped, zeros


def gradients(p: Builder, ys: Sequence[Expr], seeds: Sequence[Expr], xs: Sequence[Expr]) -> list[Expr]:
    """For each of `xs` the gradient of sum(seed * y) over all pairs, of its type and shape; zeros where none flows.

    Each of `xs` is taken as independent: how it came to be is not looked at.

    Raises:
        CannotLower: the way from x to y leads through something that has no gradient rule.
    """
    return [zeros(p, x) if g is None else g for x, g in zip(xs, _flow(p, ys, seeds, xs))]


def _flow(p: Builder, ys: Sequence[Expr], seeds: Sequence[Expr], xs: Sequence[Expr]) -> list[Expr | None]:
    targets = dict.fromkeys(xs)
    order = _order(ys, targets)
    moving: set[Expr] = set(targets)
    for e in order:
        if (e.dtype.is_float or "types" in e.params) and any(b in moving for b in below(e, targets)):
            moving.add(e)
    flow = _Flow(p, targets, moving)
    for y, seed in zip(ys, seeds):
        flow.add(y, seed)
    for e in reversed(order):
        flow.pass_on(e)
    return [flow.at.get(x) for x in xs]


def below(e: Expr, targets: Mapping[Expr, Any]) -> Sequence[Expr]:
    """What `e` is made of, for differentiating: meanings for composites, and what bodies of loops read outside."""
    if e in targets:
        return ()
    if e.prim == "item" and e.args[0].prim == "composite":
        return (e.args[0].params["meaning"][e.params["index"]],)
    if e.prim == "loop":
        return (*e.args, *_captured(e, targets))
    if e.prim == "branch":
        return (*e.args, *e.params["then"], *e.params["other"])
    return e.args


def _order(roots: Sequence[Expr], targets: Mapping[Expr, Any]) -> list[Expr]:
    """Everything below the roots, operands before users."""
    order: dict[Expr, None] = {}
    stack = [(r, False) for r in roots]
    while stack:
        e, ready = stack.pop()
        if e in order:
            continue
        if ready:
            order[e] = None
            continue
        stack.append((e, True))
        stack.extend((b, False) for b in below(e, targets) if b not in order)
    return list(order)


def _captured(loop: Expr, targets: Mapping[Expr, Any]) -> list[Expr]:
    """What a loop's body uses that does not depend on the turn."""
    scope = loop.params["scope"]
    found: dict[Expr, None] = {}
    seen: set[Expr] = set()
    stack = [*loop.params["carried_out"], *loop.params["stacked_out"]]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if scope not in e.scopes:
            found[e] = None
        else:
            stack.extend(below(e, targets))
    return list(found)


class _Flow:
    """Gradients on their way down.

    Attributes:
        at: what has arrived at each expression.
        bundles: what has arrived at each part of a loop or branch.
    """

    def __init__(self, p: Builder, targets: Mapping[Expr, Any], moving: set[Expr]):
        self.p, self.targets, self.moving = p, targets, moving
        self.at: dict[Expr, Expr] = {}
        self.bundles: dict[Expr, dict[int, Expr]] = {}

    def add(self, e: Expr, g: Expr | None) -> None:
        if g is None or e not in self.moving:
            return
        before = self.at.get(e)
        self.at[e] = g if before is None else before + g

    def pass_on(self, e: Expr) -> None:
        if e in self.targets or e not in self.moving:
            return
        if e.prim == "loop":
            if e in self.bundles:
                self._loop(e, self.bundles[e])
            return
        if e.prim == "branch":
            if e in self.bundles:
                self._branch(e, self.bundles[e])
            return
        g = self.at.get(e)
        if g is None:
            return
        if e.prim == "item":
            bundle, index = e.args[0], e.params["index"]
            if bundle.prim == "composite":
                self.add(bundle.params["meaning"][index], g)
            else:
                self.bundles.setdefault(bundle, {})[index] = g
            return
        rule = RULES.get(e.prim)
        if rule is None:
            raise CannotLower(f"the primitive {e.prim} has no gradient")
        asked = tuple(a in self.moving for a in e.args)
        for a, part in zip(e.args, rule(self.p, e, g, asked)):
            self.add(a, part)

    def _branch(self, e: Expr, arrived: dict[int, Expr]) -> None:
        p, params = self.p, e.params
        xs = [t for t in self.targets if t in self.moving]

        def arm(results: Sequence[Expr]) -> Callable[[], list[Expr]]:
            return lambda: gradients(p, [results[i] for i in arrived], list(arrived.values()), xs)

        for x, g in zip(xs, p.branch(e.args[0], arm(params["then"]), arm(params["other"]))):
            self.add(x, g)

    def _loop(self, e: Expr, arrived: dict[int, Expr]) -> None:
        p, params = self.p, e.params
        if params["going"] is not None:
            raise CannotLower("a loop that ends by a condition is not differentiated")
        n = params["carried"]
        count, initial, scanned = e.args[0], e.args[1:1 + n], e.args[1 + n:]
        turn, inside, slices = params["parameters"][0], params["parameters"][1:1 + n], params["parameters"][1 + n:]
        length = params["length"]

        def forward(p: Builder, i: Expr, carried: Any, items: Any) -> tuple[list[Expr], Sequence[Expr]]:
            made = _copied(p, params["carried_out"], dict(zip((turn, *inside, *slices), (i, *carried, *items))), e)
            return made, carried

        kept = p.loop(count, initial, forward, scanned)[1] if n else []
        floats = [j for j in range(n) if initial[j].dtype.is_float]
        swept = [j for j, s in enumerate(scanned) if s in self.moving]
        outer = [c for c in _captured(e, self.targets) if c in self.moving]
        stacked = [j for j in range(len(params["stacked_out"])) if n + j in arrived]
        back = [flipped(p, x, 0) for x in (p.iota((length,), 0), *kept, *scanned, *(arrived[n + j] for j in stacked))]

        def backward(p: Builder, _: Expr, carried: Any, items: Any) -> tuple[list[Expr], list[Expr]]:
            then, sums = carried[:len(floats)], carried[len(floats):]
            old, given = items[:1 + n + len(slices)], items[1 + n + len(slices):]
            roots = [params["carried_out"][j] for j in floats] + [params["stacked_out"][j] for j in stacked]
            made = _copied(p, roots, dict(zip((turn, *inside, *slices), old)), e)
            xs = [*(old[1 + j] for j in floats), *(old[1 + n + j] for j in swept), *outer]
            gs = gradients(p, made, [*then, *given], xs)
            a, b = len(floats), len(floats) + len(swept)
            return [*gs[:a], *(s + g for s, g in zip(sums, gs[b:]))], gs[a:b]

        start = [arrived[j] if j in arrived else zeros(p, initial[j]) for j in floats]
        start += [zeros(p, c) for c in outer]
        done, swept_back = p.loop(count, start, backward, back)
        for j, g in zip(floats, done):
            self.add(initial[j], g)
        for c, g in zip(outer, done[len(floats):]):
            self.add(c, g)
        for j, g in zip(swept, swept_back):
            self.add(scanned[j], flipped(p, g, 0))


def _copied(p: Builder, roots: Sequence[Expr], new: dict[Expr, Expr], loop: Expr) -> list[Expr]:
    """The roots of a loop's body with its parameters replaced; loops inside get parameters of their own."""
    scopes, done = {loop.params["scope"]}, dict(new)
    stack = [(r, False) for r in roots]
    while stack:
        e, ready = stack.pop()
        if e in done:
            continue
        if not scopes & e.scopes:
            done[e] = e
            continue
        needs = below(e, {}) if e.prim not in ("loop", "branch") else (*e.args, *_read_by(e))
        needs = [b for b in needs if scopes & b.scopes]
        if not ready:
            stack.append((e, True))
            stack.extend((b, False) for b in needs if b not in done)
            continue
        done[e] = _copy(p, e, done, loop)
    return [done[r] for r in roots]


def _read_by(e: Expr) -> list[Expr]:
    """What the body of a loop reads from outside it. The arms of a branch are copied inside arms."""
    return _captured(e, {}) if e.prim == "loop" else []


def _copy(p: Builder, e: Expr, done: dict[Expr, Expr], loop: Expr) -> Expr:
    args, params = [done.get(a, a) for a in e.args], e.params
    if e.prim == "item":
        if e.args[0].prim == "composite":
            means = e.args[0].params["meaning"][params["index"]]
            return done.get(means, means)
        return p.parts(args[0])[params["index"]]
    if e.prim == "branch":
        made = p.branch(args[0], lambda: _copied(p, params["then"], done, loop),
                        lambda: _copied(p, params["other"], done, loop))
        return made[0].args[0]
    if e.prim == "loop":
        n = params["carried"]

        def body(p: Builder, i: Expr, carried: Any, items: Any) -> tuple[list[Expr], list[Expr]]:
            mine = {**done, **dict(zip(params["parameters"], (i, *carried, *items)))}
            # What depends on the outer loop alone stands in `done` already; the rest hangs on the inner one too.
            made = _copied(p, (*params["carried_out"], *params["stacked_out"]), mine, e)
            return made[:n], made[n:]

        carried, stacked = p.loop(args[0], args[1:1 + n], body, args[1 + n:], params["going"])
        return (*carried, *stacked)[0].args[0]
    return p.make(e.prim, args, params, e.dtype, e.shape)
