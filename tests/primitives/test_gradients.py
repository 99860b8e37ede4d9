"""Gradients of every primitive against finite differences in double, and corners by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests import random_primitives

from gesher.base.dtypes import BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64
from gesher.primitives import MAPS, Builder, CannotLower, Expr, evaluate, walk
from gesher.primitives.gradients import gradients
from gesher.primitives.slopes import RULES
from gesher.symbolic import sym

STEP = 1e-6


def slopes(make: Callable[..., Expr], arrays: list[np.ndarray], symbols: dict[tuple[int, int], str] | None = None
           ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(gradients of a weighted sum of make(p, *inputs), the same by central differences)."""
    p = Builder()
    sizes = {name: arrays[i].shape[a] for (i, a), name in (symbols or {}).items()}
    xs = [p.input(f"x{i}", DOUBLE, [sym(symbols[i, a], min=1) if symbols and (i, a) in symbols else d
                                    for a, d in enumerate(x.shape)]) for i, x in enumerate(arrays)]
    y = make(p, *xs)
    feeds = {f"x{i}": x for i, x in enumerate(arrays)}
    shape = evaluate([y], feeds, sizes)[0].shape
    weights = np.random.default_rng(9).normal(0, 1, shape)
    w = p.input("w", DOUBLE, y.shape)
    got = evaluate(gradients(p, [y], [w], xs), {**feeds, "w": weights}, sizes)

    def value(changed: dict[str, np.ndarray]) -> float:
        return float((evaluate([y], changed, sizes)[0] * weights).sum())

    want = []
    for name, x in feeds.items():
        difference = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            here = []
            for sign in (1, -1):
                moved = x.copy()
                moved[at] += sign * STEP
                here.append(value({**feeds, name: moved}))
            difference[at] = (here[0] - here[1]) / (2 * STEP)
        want.append(difference)
    return got, want


def agree(make: Callable[..., Expr], *arrays: np.ndarray, symbols: dict[tuple[int, int], str] | None = None) -> None:
    got, want = slopes(make, list(arrays), symbols)
    for a, b, x in zip(got, want, arrays):
        assert a.shape == x.shape
        # Central differences in double: the step squared, and rounding over the step.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def draw(*shape: int, seed: int = 1, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape)


RANGES = {"log": (0.2, 3), "log1p": (-0.5, 3), "sqrt": (0.2, 3), "asin": (-0.9, 0.9), "acos": (-0.9, 0.9),
          "acosh": (1.2, 3), "atanh": (-0.9, 0.9), "tan": (-1.2, 1.2), "reciprocal": (0.3, 2), "div": (0.3, 2),
          "pow": (0.3, 2), "mod": (0.7, 2), "fmod": (0.7, 2)}


@pytest.mark.parametrize("name", [n for n, row in MAPS.items() if "f" in row.takes and row.gives == "same"])
def test_maps(name: str) -> None:
    low, high = RANGES.get(name, (-2, 2))
    arrays = [draw(3, 4, seed=i, low=low, high=high) for i in range(MAPS[name].arity)]
    agree(lambda p, *xs: p.map(name, *xs), *arrays)


def test_every_primitive_that_gives_floats_has_a_rule_or_says_that_it_has_none() -> None:
    assert {n for n, row in MAPS.items() if "f" in row.takes and row.gives == "same"} <= RULES.keys()
    p = Builder()
    x = p.input("x", FLOAT, (2,))
    # Bits are integers on the way, so nothing flows.
    y = p.bitcast(p.bitcast(x * 2.0, INT32), FLOAT)
    assert evaluate(gradients(p, [y], [x], [x]), {"x": np.ones(2, np.float32)})[0].tolist() == [0, 0]


A, B, V = draw(3, 4), draw(4, 5, seed=2), draw(4, seed=3)
T3 = draw(2, 3, 4, seed=4)
DISTINCT = np.random.default_rng(5).permutation(24).reshape(2, 3, 4) / 7.0

STRUCTURE: dict[str, tuple[Any, ...]] = {
    "broadcast": (lambda p, x, v: x * v, A, V),
    "broadcast of ones": (lambda p, x: p.broadcast_to(x, (2, 3, 4)), draw(3, 1)),
    "reshape": (lambda p, x: p.reshape(x, (2, 6)) * p.reshape(x, (2, 6)), A),
    "transpose": (lambda p, x: p.exp(p.transpose(x, [2, 0, 1])), T3),
    "slice": (lambda p, x: p.slice(x, (0, 1), (3, 3)), A),
    "slice with steps": (lambda p, x: p.slice(x, (0, 1), (3, 4), (2, 2)), A),
    "slice backward": (lambda p, x: p.slice(x, (2, 3), (-1, 0), (-1, -2)), A),
    "slice of nothing": (lambda p, x: p.slice(x, (1, 0), (1, 4)), A),
    "pad": (lambda p, x: p.pad(x, (1, 0), (0, 2), 1.5), A),
    "pad with a value": (lambda p, x, v: p.pad(x, (1, 0), (0, 2), v), A, draw()),
    "concat": (lambda p, x, v: p.concat([x, p.exp(x), v], 1), A, draw(3, 2)),
    "select": (lambda p, x, y: p.select(x > 0.5, x * y, y), A, draw(3, 4, seed=8)),
    "cast": (lambda p, x: p.cast(p.cast(x, DOUBLE), DOUBLE) * p.cast(p.cast(x, INT64), DOUBLE), A),
    "gather": (lambda p, x: p.gather(x, p.constant(np.array([[2, 0], [-1, 2]])), 1), T3),
    "gather along": (lambda p, x: p.gather_along(x, p.constant(np.array([[2, 0, 2, 1]])), 0), A),
    "gather nd": (lambda p, x: p.gather_nd(x, p.constant(np.array([[0, 1], [1, 2], [0, 1]]))), T3),
    "gather nd with a batch": (lambda p, x: p.gather_nd(x, p.constant(np.array([[[0], [2]], [[1], [1]]])), 1), T3),
    "matmul": (lambda p, x, y: p.matmul(x, y), A, B),
    "matmul with a batch": (lambda p, x, y: p.matmul(x, y), T3, draw(2, 4, 2)),
    "contract": (lambda p, x, y: p.contract(x, y, [2, 0], [0, 3], [1], [2]), T3, draw(4, 2, 3, 2)),
    "contract over all": (lambda p, x, y: p.contract(x, y, [0, 1], [1, 0]), A, draw(4, 3)),
    "sum": (lambda p, x: p.exp(p.sum(x, [0, 2])), T3),
    "mean": (lambda p, x: p.mean(x, [1], keepdims=True) * x, T3),
    "prod": (lambda p, x: p.prod(x, [0, 2]), T3),
    "amax": (lambda p, x: p.amax(x, [0, 2]), DISTINCT),
    "amin": (lambda p, x: p.amin(x, [1], keepdims=True), DISTINCT),
    "softmax": (lambda p, x: p.exp(x - p.amax(x, [1], keepdims=True)) / p.sum(p.exp(
        x - p.amax(x, [1], keepdims=True)), [1], keepdims=True), A),
    "sort": (lambda p, x: p.sort(x, 1, True)[0] * p.constant(np.arange(12.0).reshape(3, 4)), A),
    "top k": (lambda p, x: p.top_k(x, 2, 1)[0], A),
}


@pytest.mark.parametrize("case", list(STRUCTURE))
def test_structure(case: str) -> None:
    agree(*STRUCTURE[case])


def test_a_product_with_zeros_among_its_factors() -> None:
    """Of one zero only that factor's slope is left, of two none."""
    p = Builder()
    x = p.input("x", DOUBLE, (2, 3))
    [g] = evaluate(gradients(p, [p.prod(x, [1])], [p.full((2,), 1, DOUBLE)], [x]),
                   {"x": np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]])})
    assert g.tolist() == [[0, 6, 0], [0, 0, 0]]


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_folds(op: str, exclusive: bool, reverse: bool) -> None:
    def make(p: Builder, x: Expr) -> Expr:
        made = p.cumulate(x, 1, op, exclusive, reverse)
        # An exclusive running maximum begins with -inf.
        return p.select(p.is_inf(made), p.scalar(0, DOUBLE), made)

    agree(make, DISTINCT)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scattering(reduction: str) -> None:
    rows = np.array([[0, 2, 1, 0], [0, 1, 1, 2]])
    updates = draw(2, 4, seed=7)
    agree(lambda p, x, u: p.scatter_along(x, p.constant(rows), u, 0, reduction), A, updates)
    places = np.array([[0, 1], [2, 3], [0, 1]])
    agree(lambda p, x, u: p.scatter_nd(x, p.constant(places), u, reduction), A, draw(3, seed=8))
    if reduction == "mul":
        p = Builder()
        x, u = p.input("x", DOUBLE, (1,)), p.input("u", DOUBLE, (2,))
        y = p.scatter_along(x, p.constant(np.array([0, 0])), u, 0, "mul")
        got = evaluate(gradients(p, [y], [p.full((1,), 1, DOUBLE)], [x, u]), {
            "x": np.array([3.0]), "u": np.array([0.0, 5.0])})
        assert [g.tolist() for g in got] == [[0.0], [15.0, 0.0]]


CONVOLUTIONS = [  # strides, pads, dilations, groups
    ((1, 1), ((0, 0), (0, 0)), (1, 1), 1), ((2, 1), ((1, 2), (0, 1)), (1, 2), 1), ((2, 3), ((1, 1), (2, 0)), (2, 1), 2),
    ((3, 2), ((0, 0), (1, 1)), (1, 1), 4)]


@pytest.mark.parametrize(("strides", "pads", "dilations", "groups"), CONVOLUTIONS)
def test_convolutions(strides: Any, pads: Any, dilations: Any, groups: int) -> None:
    x = draw(2, 4, 7, 6)
    agree(lambda p, x, w: p.convolve(x, w, strides, pads, dilations, groups), x, draw(4, 4 // groups, 3, 2, seed=6))
    small = draw(2, 4, 3, 4)
    w = draw(4, 2, 3, 2, seed=6)
    agree(lambda p, x, w: p.convolve_transposed(x, w, strides, ((1, 0), (0, 1)), dilations, groups, (1, 0)), small, w)


@pytest.mark.parametrize("op", ["sum", "max", "min"])
@pytest.mark.parametrize(("strides", "pads", "dilations"), [c[:3] for c in CONVOLUTIONS])
def test_windows(op: str, strides: Any, pads: Any, dilations: Any) -> None:
    x = np.random.default_rng(6).permutation(2 * 7 * 6).reshape(2, 7, 6) / 9.0

    def make(p: Builder, x: Expr) -> Expr:
        made = p.window(x, op, (3, 2), strides, pads, dilations)
        return p.select(p.is_inf(made), p.scalar(0, DOUBLE), made)

    agree(make, x)


def test_sizes_may_be_symbols() -> None:
    agree(lambda p, x, y: p.matmul(p.exp(x), y) / p.size(x.shape[0], DOUBLE), A, B, symbols={
        (0, 0): "n", (0, 1): "k", (1, 0): "k"})
    agree(lambda p, x: p.sum(p.pad(p.take(x, 0, 1, x.shape[0]), (2, 0), (0, 1)), [0]), A, symbols={(0, 0): "n"})


# Control

def test_a_loop_that_carries_scans_stacks_and_reads_from_outside() -> None:
    def make(p: Builder, start: Expr, steps: Expr, w: Expr) -> Expr:
        def body(p: Builder, i: Expr, carried: Any, items: Any) -> Any:
            state = p.tanh(p.matmul(carried[0], w) + items[0] * p.cast(i + 1, DOUBLE))
            return [state, carried[1] + 1], [p.exp(state), items[0]]

        (last, count), stacked = p.loop(4, [start, p.scalar(0, INT64)], body, [steps])
        return p.concat([p.expand_dims(last * p.cast(count, DOUBLE), [0]), *stacked], 0)

    agree(make, draw(3), draw(4, 3, seed=2), draw(3, 3, seed=3))


def test_loops_in_loops_and_branches_in_them() -> None:
    def make(p: Builder, x: Expr, w: Expr) -> Expr:
        def outer(p: Builder, i: Expr, carried: Any, items: Any) -> Any:
            scaled = w * carried[0]

            def inner(p: Builder, j: Expr, state: Any, rows: Any) -> Any:
                then = p.branch(i > j, lambda: [p.sin(state[0]) * scaled], lambda: [state[0] + rows[0] * w])
                return then, [then[0] * items[0]]

            [state], [stacked] = p.loop(3, [carried[0]], inner, [x])
            return [state * 0.5 + p.sum(stacked, [0])], [state]

        [last], [stacked] = p.loop(2, [p.take(x, 0, 0, 1)], lambda p, i, c, s: (
            [p.expand_dims(v, [0]) for v in outer(p, i, [p.squeeze(c[0], [0])], s)[0]],
            outer(p, i, [p.squeeze(c[0], [0])], s)[1]), [p.take(x, 0, 1, 3)])
        return p.concat([last, stacked], 0)

    agree(make, draw(3, 2, low=-1, high=1), draw(2, seed=4, low=-1, high=1))


def test_the_arm_that_is_not_taken_is_never_computed() -> None:
    """Its index is outside."""
    p = Builder()
    x, i = p.input("x", DOUBLE, (3,)), p.input("i", INT64, ())
    [y] = p.branch(i < 3, lambda: [p.gather(x, i, 0) * 2.0], lambda: [p.sum(x * x)])
    [g] = gradients(p, [y], [p.scalar(1, DOUBLE)], [x])
    feeds: dict[str, Any] = {"x": np.array([1.0, 2.0, 3.0]), "i": np.int64(1)}
    assert evaluate([g], feeds)[0].tolist() == [0, 2, 0]
    assert evaluate([g], feeds | {"i": np.int64(7)})[0].tolist() == [2, 4, 6]


def test_composites_are_differentiated_through_their_meaning() -> None:
    def meaning(p: Builder, x: Expr, *, power: float) -> tuple[Expr, Expr]:
        return x**power, p.sum(x)

    def make(p: Builder, x: Expr) -> Expr:
        a, b = p.composite("powers", meaning, x, power=3.0)
        return a * b

    agree(make, draw(3, 4, low=0.5))


def test_gradients_of_gradients() -> None:
    """(x^3 w)'' = 6 x w, by the gradient of a gradient."""
    p = Builder()
    x, w = p.input("x", DOUBLE, (2,)), p.input("w", DOUBLE, (2,))
    [first] = gradients(p, [x * x * x * w], [p.full((2,), 1, DOUBLE)], [x])
    got = evaluate(gradients(p, [first], [p.full((2,), 1, DOUBLE)], [x, w]), {
        "x": np.array([2.0, 3.0]), "w": np.array([1.0, 10.0])})
    assert [g.tolist() for g in got] == [[12, 180], [12, 27]]


def test_independent_means_not_looked_behind() -> None:
    p = Builder()
    x = p.input("x", DOUBLE, ())
    h = x * x
    gs = gradients(p, [h * x], [p.scalar(1, DOUBLE)], [h, x, p.input("z", DOUBLE, (2,))])
    assert [g.tolist() for g in evaluate(gs, {"x": np.float64(3), "z": np.zeros(2)})] == [3.0, 9.0, [0.0, 0.0]]


@pytest.mark.parametrize(("make", "want"), [
    (lambda p, x: p.max(x, 0.0), [0, 0, 1]), (lambda p, x: p.abs(x), [-1, 0, 1]),
    (lambda p, x: p.max(x, p.neg(x)), [-1, 0, 1]), (lambda p, x: x**0.0, [0, 0, 0]),
    (lambda p, x: p.floor(x), [0, 0, 0]), (lambda p, x: p.amax(p.abs(x), [0], keepdims=True), [-0.5, 0, 0.5])])
def test_corners(make: Any, want: list[float]) -> None:
    p = Builder()
    x = p.input("x", DOUBLE, (3,))
    y = make(p, x)
    [g] = evaluate(gradients(p, [y], [p.full(y.shape, 1, DOUBLE)], [x]), {"x": np.array([-1.0, 0.0, 1.0])})
    assert g.tolist() == want


def test_narrow_floats_keep_their_type() -> None:
    p = Builder()
    x = p.input("x", FLOAT16, (2,))
    [g] = gradients(p, [p.cast(p.exp(p.cast(x, FLOAT)), FLOAT16)], [p.full((2,), 1, FLOAT16)], [x])
    assert g.dtype is FLOAT16
    assert evaluate([g], {"x": np.zeros(2, np.float16)})[0].tolist() == [1, 1]


def test_what_has_no_gradient_says_so() -> None:
    p = Builder()
    x = p.input("x", DOUBLE, (3,))
    with pytest.raises(CannotLower, match="has no gradient"):
        gradients(p, [p.window(p.broadcast_to(x, (2000, 3)), "max", (1100,), (1,), ((1000, 1000),))], [x], [x])
    assert BOOL not in {g.dtype for g in gradients(p, [x * 2.0], [x], [x])}


def _random_graphs(seeds: range, monkeypatch: pytest.MonkeyPatch) -> int:
    """Gradients along a random direction against differences along it; how many graphs there were that are smooth."""
    monkeypatch.setattr(random_primitives, "FLOATS", (DOUBLE,) * 6)
    smooth = poles = 0
    for seed in seeds:
        drawn, rng = random_primitives.draw(seed), np.random.default_rng(seed)
        roots = [r for r in drawn.roots if r.dtype is DOUBLE]
        xs = [x for x in drawn.inputs if x.dtype is DOUBLE]
        narrow = any(e.dtype.is_float and e.dtype is not DOUBLE for e in walk(drawn.roots, meanings=True))
        if not roots or not xs or narrow:
            continue
        feeds = {k: rng.uniform(0.3, 1.7, v.shape) if v.dtype == np.float64 else v for k, v in drawn.feeds(rng).items()}
        weights = [rng.normal(0, 1, y.shape) for y in evaluate(roots, feeds, drawn.sizes)]
        seeded = [drawn.builder.input(f"weight {i}", DOUBLE, r.shape) for i, r in enumerate(roots)]
        got = evaluate(gradients(drawn.builder, roots, seeded, xs),
                       feeds | {f"weight {i}": w for i, w in enumerate(weights)}, drawn.sizes)
        way = [rng.normal(0, 1, g.shape) for g in got]

        def along(h: float) -> float:
            moved = feeds | {x.params["name"]: feeds[x.params["name"]] + h * d for x, d in zip(xs, way)}  # noqa: B023
            with np.errstate(all="ignore"):
                return sum(float((y * w).sum()) for y, w in zip(
                    evaluate(roots, moved, drawn.sizes), weights))  # noqa: B023

        at = along(0.0)
        want, finer = ((along(h) - along(-h)) / (2 * h) for h in (1e-5, 1e-6))
        sides = [(along(h) - at) / h for h in (1e-6, -1e-6)]
        size = max(abs(want), abs(finer), 1e-3)
        # A corner, a step or a pole is near, or the sum is so large that it swallows steps: differences tell nothing.
        rough = abs(want - finer) > 1e-3 * size or abs(sides[0] - sides[1]) > 1e-2 * size
        if not np.isfinite(want) or abs(at) > 1e5 * size or rough:
            continue
        slope = sum(float((g * d).sum()) for g, d in zip(got, way))
        if np.isnan(slope):     # an infinite slope, of the root of a sum of padding say, times zero
            poles += 1
            continue
        smooth += 1
        assert min(abs(slope - want), abs(slope - finer)) <= 1e-3 * size, f"seed {seed}: {slope} is not {want}"
    assert poles <= len(seeds) // 2000
    return smooth


def test_random_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _random_graphs(range(400), monkeypatch) > 150


@pytest.mark.slow
def test_many_random_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _random_graphs(range(400, 20_000), monkeypatch) > 8000
