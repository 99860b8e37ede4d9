"""Composites with a kernel of their own, against their meaning in primitives."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.base.dtypes import DOUBLE, FLOAT
from gesher.compiler import toolchain
from gesher.compiler.plan import prepared
from gesher.compiler.segment import compile_exprs
from gesher.ops import find
from gesher.ops.ml.forest import EQ, GT, GTE, LEAF, LEQ, LT, NEQ, Forest, lower_walk
from gesher.primitives import Builder, Expr, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

n = sym("n")


def kernels(segment) -> list[str]:
    from gesher.compiler.steps import KernelStep

    return [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]


def holds(inputs: list[Expr], roots: list[Expr], feeds: list[np.ndarray], sizes, tolerance: float = 1e-5,
          segment=None) -> list[str]:
    """Hold the compiled roots to their numpy meaning; the kernels that ran."""
    segment = segment or compile_exprs(inputs, roots)
    fed = {e.params["name"]: x for e, x in zip(inputs, feeds)}
    want = evaluate(roots, fed)
    got = segment.run(feeds, sizes)
    for a, b in zip(got, want):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    return kernels(segment)


def lowered(p: Builder, name: str, *inputs: Expr | None, outputs: int = 1, **attributes) -> list[Expr]:
    operator = find("", name)
    assert operator is not None
    version = max(s.version for s in operator.versions)
    rule = operator.rule("lower", version)
    assert rule is not None
    p.outputs, p.version = outputs, version
    result = rule.function(p, *inputs, **attributes)
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("shape", [(3, 1), (2, 5), (7, 16), (1, 33), (2, 3, 100), (4, 257)])
@pytest.mark.parametrize(("name", "arguments"), [("LayerNormalization", 1), ("LayerNormalization", 2),
                                                 ("RMSNormalization", 1)])
def test_norms_of_rows(shape, name, arguments):
    rng = np.random.default_rng(1)
    p = Builder()
    x = p.input("x", FLOAT, (n, *shape))
    rows = [p.input(f"w{i}", FLOAT, shape[1:]) for i in range(arguments)]
    roots = lowered(p, name, x, *rows, axis=2, epsilon=1e-5, stash_type=1)
    feeds = [rng.standard_normal((5, *shape)) * 3 + 10, *(rng.standard_normal(shape[1:]) for _ in rows)]
    assert holds([x, *rows], roots, [f.astype(np.float32) for f in feeds], {n: 5}, 1e-4) == ["gs_layer_norm_f32"]


def test_a_layer_norm_may_give_its_statistics_too():
    rng = np.random.default_rng(2)
    p = Builder()
    x, w = p.input("x", FLOAT, (n, 9)), p.input("w", FLOAT, (9,))
    roots = lowered(p, "LayerNormalization", x, w, None, outputs=3, axis=-1, epsilon=1e-5, stash_type=1)
    assert len(roots) == 3
    holds([x, w], roots, [rng.standard_normal((4, 9)).astype(np.float32), np.ones(9, np.float32)], {n: 4}, 1e-4)


@pytest.mark.parametrize("shape", [(1,), (4, 6), (4, 1)])
def test_a_scale_that_is_no_row_goes_by_the_meaning(shape):
    p = Builder()
    x, w = p.input("x", FLOAT, (n, 4, 6)), p.input("w", FLOAT, shape)
    roots = lowered(p, "LayerNormalization", x, w, None, axis=2, epsilon=1e-5, stash_type=1)
    rng = np.random.default_rng(3)
    ran = holds([x, w], roots, [rng.standard_normal((3, 4, 6)).astype(np.float32),
                                rng.standard_normal(shape).astype(np.float32)], {n: 3}, 1e-4)
    assert "gs_layer_norm_f32" not in ran


def grown(rng, trees: int, depth: int, features: int, targets: int, modes, dtype, missing: bool) -> Forest:
    """Random lopsided trees."""
    nodes: list[tuple[int, float, int, int, int, bool, int]] = []
    weights: list[np.ndarray] = [np.zeros(targets)]

    def grow(left: int) -> int:
        at = len(nodes)
        nodes.append((0, 0.0, LEAF, at, at, False, 0))
        if left == 0 or rng.random() < 0.2:
            weights.append(rng.integers(-3, 4, targets).astype(np.float64))
            nodes[at] = (0, 0.0, LEAF, at, at, False, len(weights) - 1)
            return at
        yes, no = grow(left - 1), grow(left - 1)
        nodes[at] = (int(rng.integers(features)), float(rng.integers(-2, 3)), int(rng.choice(modes)), yes, no,
                     missing and bool(rng.random() < 0.5), 0)
        return at

    roots = np.array([grow(depth) for _ in range(trees)])
    feature, split, mode, yes, no, tracks, row = map(np.array, zip(*nodes))
    return Forest(roots, feature, split.astype(dtype), mode.astype(np.int8), yes, no, tracks, row,
                  np.array(weights).astype(dtype), depth)


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=lambda d: d.name)
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize(("trees", "depth", "features", "targets", "modes", "missing"), [
    (1, 0, 1, 1, [LEQ], False), (1, 3, 2, 1, [LEQ], False), (9, 5, 7, 3, [LT], True),
    (17, 4, 3, 2, [LEQ, LT, GTE, GT, EQ, NEQ], True), (30, 6, 5, 1, [GT], False)])
def test_forests(dtype, aggregate, trees, depth, features, targets, modes, missing):
    rng = np.random.default_rng(trees)
    forest = grown(rng, trees, depth, features, targets, modes, dtype.numpy, missing)
    p = Builder()
    x = p.input("x", dtype, (n, features))
    root = lower_walk(p, x, forest, aggregate)
    segment = compile_exprs([x], [root])
    for rows in (1, 3, 8, 131):
        fed = rng.integers(-2, 3, (rows, features)).astype(dtype.numpy)
        fed[rng.random(fed.shape) < 0.1] = np.nan
        suffix = "f32" if dtype is FLOAT else "f64"
        summed = aggregate in ("SUM", "AVERAGE") and not {EQ, NEQ} & set(forest.mode[forest.mode != LEAF].tolist())
        assert holds([x], [root], [fed], {n: rows}, segment=segment) == [
            f"gs_{'ranked' if summed else 'trees'}_{suffix}_run"]


def test_a_forest_that_reads_beyond_the_features_is_not_given_to_the_kernel():
    forest = grown(np.random.default_rng(8), 3, 3, 4, 1, [LEQ], np.float32, False)
    p = Builder()
    root = lower_walk(p, p.input("x", FLOAT, (n, 2)), forest, "SUM")
    (ready,) = prepared([root])
    assert ready.prim != "item"


def test_types_without_a_kernel_keep_their_meaning():
    p = Builder()
    x, w = p.input("x", DOUBLE, (n, 6)), p.input("w", DOUBLE, (6,))
    roots = lowered(p, "LayerNormalization", x, w, None, axis=1, epsilon=1e-5, stash_type=dtypes.DOUBLE.code)
    assert holds([x, w], roots, [np.random.default_rng(0).standard_normal((3, 6)), np.ones(6)], {n: 3}) != [
        "gs_layer_norm_f32"]


@pytest.mark.parametrize(("size", "stride", "inner"), [((2, 2), (2, 2), (8, 8)), ((3, 2), (1, 1), (6, 5)),
                                                       ((2, 2), (2, 2), (40, 40)), ((3,), (2,), (9,))])
def test_windows_narrow_and_wide(size, stride, inner):
    p = Builder()
    x = p.input("x", FLOAT, (n, 3, *inner))
    pads = [(0, 0)] * len(size)
    fed = np.random.default_rng(5).standard_normal((2, 3, *inner)).astype(np.float32)
    fed.reshape(-1)[7] = np.nan
    for op in ("max", "sum"):
        holds([x], [p.window(x, op, size, stride, pads)], [fed], {n: 2})


@pytest.mark.parametrize(("shape", "perm"), [((7, 33), (1, 0)), ((2, 5, 9, 4), (0, 2, 3, 1)),
                                               ((3, 1, 40, 6), (3, 1, 0, 2))])
def test_a_transposition_that_gets_memory_goes_by_blocks(shape, perm):
    x = np.random.default_rng(4).standard_normal((3, *shape)).astype(np.float32)
    p = Builder()
    e = p.input("x", FLOAT, (n, *shape))
    moved = p.transpose(e, (0, *(a + 1 for a in perm)))
    assert holds([e], [moved], [x], {n: 3}) == ["gs_transpose"]
    # What is done to the elements on the way takes it along.
    assert holds([e], [p.neg(moved)], [x], {n: 3}) == []
    for count in (0, 1):
        holds([e], [moved], [x[:count]], {n: count})
