"""Forests whose votes are summed: by bits with ranks of one byte and of two, level by level, walked, and packed from
every way of asking."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import DOUBLE, FLOAT
from gesher.compiler import cpu, toolchain
from gesher.compiler.forests import RankedTrees
from gesher.compiler.matching import match
from gesher.compiler.plan import prepared
from gesher.compiler.ranked import ranked
from gesher.compiler.segment import compile_exprs
from gesher.ops.ml.forest import EQ, GT, GTE, LEAF, LEQ, LT, Forest, lower_walk
from gesher.primitives import Builder, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

n = sym("n")


def grown(rng, *, trees: int, leaves: int, features: int, targets: int, splits: int, dtype, modes=(LEQ,), missing=False,
          one_target=False) -> Forest:
    """Random trees of so many leaves; of a feature there are so many different splits at the most."""
    nodes: list[list] = []
    weights: list[np.ndarray] = [np.zeros(targets)]
    values = np.sort(rng.standard_normal(splits)).astype(dtype)
    roots = []

    def leaf() -> int:
        at = len(nodes)
        vote = rng.standard_normal(targets)
        weights.append(vote)
        nodes.append([0, 0.0, LEAF, at, at, False, len(weights) - 1])
        return at

    for tree in range(trees):
        begin = len(weights)
        roots.append(leaf())
        ends = [roots[-1]]
        for _ in range(leaves - 1):
            at = ends.pop(int(rng.integers(len(ends))))
            yes, no = leaf(), leaf()
            nodes[at] = [int(rng.integers(features)), float(rng.choice(values)), int(rng.choice(modes)), yes, no,
                         bool(missing and rng.random() < 0.5), 0]
            ends += [yes, no]
        if one_target:
            for vote in weights[begin:]:
                vote[np.arange(targets) != tree % targets] = 0
    feature, split, mode, yes, no, tracks, row = map(np.array, zip(*nodes))
    return Forest(np.array(roots), feature, split.astype(dtype), mode.astype(np.int8), yes, no, tracks, row,
                  np.array(weights).astype(dtype), leaves)


def symmetric(rng, depths, *, features: int, targets: int, splits: int, dtype, missing=False,
              one_target=False) -> Forest:
    """Random trees of which all nodes of a level ask the same."""
    values = np.append(np.sort(rng.standard_normal(splits)), [0.0, np.inf]).astype(dtype)
    nodes: list[list] = []
    weights: list[np.ndarray] = [np.zeros(targets)]
    roots = []
    for tree, depth in enumerate(depths):
        asked = [(int(rng.integers(features)), float(rng.choice(values)), bool(missing and rng.random() < 0.5))
                 for _ in range(depth)]
        base = len(nodes)
        roots.append(base)
        for i in range((2 << depth) - 1):
            level = (i + 1).bit_length() - 1
            if level < depth:
                feature, split, tracks = asked[level]
                nodes.append([feature, split, LEQ, base + 2 * i + 1, base + 2 * i + 2, tracks, 0])
                continue
            vote = rng.standard_normal(targets)
            if one_target:
                vote[np.arange(targets) != tree % targets] = 0
            nodes.append([0, 0.0, LEAF, base + i, base + i, False, len(weights)])
            weights.append(vote)
    feature, split, mode, yes, no, tracks, row = map(np.array, zip(*nodes))
    return Forest(np.array(roots), feature, split.astype(dtype), mode.astype(np.int8), yes, no, tracks, row,
                  np.array(weights).astype(dtype), max(depths))


def fed(rng, forest: Forest, rows: int, features: int, dtype) -> np.ndarray:
    """Values around the splits, on them, and the odd ones."""
    x = rng.standard_normal((rows, features)).astype(dtype)
    x = np.where(rng.random(x.shape) < 0.3, rng.choice(forest.split, x.shape), x)
    for odd in (np.nan, np.inf, -np.inf, -0.0):
        x[rng.random(x.shape) < 0.03] = odd
    return x.astype(dtype)


def check(forest: Forest, features: int, dtype, seed: int, rows=(1, 5, 33, 129, 300), aggregate: str = "SUM",
          isa: cpu.Isa | None = None, threads: int = 1) -> RankedTrees:
    rng, p = np.random.default_rng(seed), Builder()
    x = p.input("x", dtype, (n, features))
    root = lower_walk(p, x, forest, aggregate)
    segment = compile_exprs([x], [root], isa=isa, threads=threads)
    for count in rows:
        feed = fed(rng, forest, count, features, dtype.numpy)
        (want,) = evaluate([root], {"x": feed})
        (got,) = segment.run([feed], {n: count})
        # The kernel sums in double, numpy in the type of the votes.
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    (step,) = [s for s in segment.steps if hasattr(s, "kernel")]
    assert isinstance(step.kernel, RankedTrees)
    return step.kernel


isas = pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
dtypes = pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=lambda d: d.name)
ASKED = (LEQ, LT, GT, GTE)


@isas
@dtypes
def test_small_trees_by_bits(isa, dtype):
    for seed, (leaves, targets, one) in enumerate([(2, 3, False), (8, 1, False), (31, 3, True), (40, 2, True),
                                                   (60, 3, False), (100, 2, False)]):
        rng = np.random.default_rng(seed)
        forest = grown(rng, trees=7, leaves=leaves, features=6, targets=targets, splits=20, dtype=dtype.numpy,
                       modes=ASKED, missing=True, one_target=one)
        kernel = check(forest, 6, dtype, seed, isa=isa)
        assert "updates" in kernel.named and not kernel.forest.wide
        assert ("only" in kernel.named) == (one or targets == 1)


@isas
@dtypes
def test_ranks_of_two_bytes(isa, dtype):
    rng = np.random.default_rng(1)
    forest = grown(rng, trees=12, leaves=200, features=3, targets=3, splits=1200, dtype=dtype.numpy, modes=ASKED,
                   missing=True)
    kernel = check(forest, 3, dtype, 2, isa=isa, aggregate="AVERAGE")
    assert "updates" in kernel.named and kernel.forest.wide


@isas
@dtypes
def test_trees_of_levels_that_ask_one_question_each(isa, dtype):
    for seed, (depths, targets, one, splits) in enumerate([
            ([1, 3, 2], 1, False, 9), ([4, 4], 3, True, 20), ([5, 0, 5], 2, False, 70), ([6] * 5, 1, False, 40),
            ([6, 2], 3, False, 12), ([8, 7], 2, False, 300), ([6, 6], 1, False, 2000)]):
        rng = np.random.default_rng(seed)
        forest = symmetric(rng, depths * 3, features=1 + seed, targets=targets, splits=splits, dtype=dtype.numpy,
                           missing=seed % 2 == 0, one_target=one)
        kernel = check(forest, 1 + seed, dtype, seed, isa=isa)
        assert kernel.forest.levels and "level by level" in kernel.describe()


def test_a_level_with_two_questions_is_no_such_tree():
    for name, change in (("split", 0.1), ("feature", 1), ("missing_yes", True)):
        rng = np.random.default_rng(8)
        forest = symmetric(rng, [3] * 40, features=2, targets=1, splits=10, dtype=np.float32)
        getattr(forest, name)[2] += change
        if name == "feature":
            forest.feature %= 2
        assert not check(forest, 2, FLOAT, 9).forest.levels


@isas
@dtypes
def test_large_trees_are_walked(isa, dtype):
    rng = np.random.default_rng(3)
    forest = grown(rng, trees=3, leaves=1100, features=5, targets=2, splits=3000, dtype=dtype.numpy, modes=ASKED,
                   missing=True)
    assert "updates" not in check(forest, 5, dtype, 4, rows=(1, 5, 33, 129), isa=isa).named
    forest = grown(rng, trees=2, leaves=1100, features=5, targets=1, splits=3000, dtype=dtype.numpy, missing=True)
    assert "weight" not in check(forest, 5, dtype, 4, rows=(1, 700), isa=isa, threads=2).named


def test_leaves_without_nodes_are_walked():
    rng = np.random.default_rng(4)
    assert "updates" not in check(grown(rng, trees=3, leaves=1, features=2, targets=3, splits=4, dtype=np.float32), 2,
                                  FLOAT, 5).named


def test_threads_share_the_rows():
    rng = np.random.default_rng(5)
    forest = grown(rng, trees=20, leaves=31, features=9, targets=1, splits=40, dtype=np.float32)
    check(forest, 9, FLOAT, 6, rows=(1, 1000, 1300), threads=3)


@dtypes
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE"])
def test_threads_share_the_trees_of_few_rows(dtype, aggregate):
    rng = np.random.default_rng(7)
    forest = grown(rng, trees=300, leaves=21, features=9, targets=3, splits=40, dtype=dtype.numpy)
    # Called again and again: the second call finds that calls follow each other.
    check(forest, 9, dtype, 8, rows=(*[1] * 20, *range(1, 18)), aggregate=aggregate, threads=3)


@pytest.mark.parametrize("splits", [1, 7, 8, 15, 16, 17, 254, 255, 256, 257, 5000])
def test_any_number_of_splits(splits):
    rng = np.random.default_rng(splits)
    forest = grown(rng, trees=2 + splits // 400, leaves=900, features=1, targets=1, splits=splits, dtype=np.float32)
    check(forest, 1, FLOAT, splits, rows=(3, 400))


def test_what_ranks_cannot_say_is_left_to_the_walk():
    rng = np.random.default_rng(7)
    plain = {"trees": 2, "leaves": 5, "features": 2, "targets": 1, "splits": 5, "dtype": np.float32}

    def taken(forest: Forest, aggregate: str = "SUM") -> bool:
        p = Builder()
        (root,) = prepared([lower_walk(p, p.input("x", FLOAT, (n, 2)), forest, aggregate)])
        return isinstance(match(root), RankedTrees)

    assert taken(grown(rng, **plain))
    assert not taken(grown(rng, **plain), "MAX")
    assert not taken(grown(rng, **plain, modes=(EQ,)))
    nan = grown(rng, **plain)
    nan.split[nan.mode != LEAF] = np.nan
    assert not taken(nan)
    lowest = grown(rng, **plain, modes=(LT,))
    lowest.split[:] = -np.inf
    assert not taken(lowest)
    shared = grown(rng, **plain)
    shared.no[shared.mode != LEAF] = shared.yes[shared.mode != LEAF]
    assert not taken(shared)


def test_a_stump_by_hand():
    # x0 <= 1 votes 10, more votes 20; NaN fails the test.
    given = {1: np.array([0, 0, 0]), 2: np.float32([1, 0, 0]), 3: np.array([LEQ, LEAF, LEAF]), 4: np.array([1, 1, 2]),
             5: np.array([2, 1, 2]), 6: None, 7: np.array([0, 0, 1]), 8: np.float32([[10], [20]]), 9: np.array([0])}
    made = ranked(given, np.dtype(np.float32), 8)
    assert made is not None and made.shift == 7
    # The bits of 1.0 behind the sign, a step to the lesser child, column 0; leaves hold their weights, ask the column
    # behind the only one (16 keys of four bytes on), and stay.
    assert made.arrays["nodes"]["key"].tolist() == [0xBF800000, 0x41200000, 0x41A00000]
    assert made.arrays["nodes"]["word"].tolist() == [1 << 7, 64, 64]
    # A stump is a tree whose only level asks one question.
    assert made.levels and made.arrays["updates"].tolist() == [[0, 0x01010101, 0]]
    assert made.arrays["where"].tolist() == [[0, 0, 1, 0, -1]]
    assert made.arrays["tables"][:2].tolist() == [10, 20]
