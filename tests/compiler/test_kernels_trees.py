"""Tree ensembles: every test and aggregate, missing values, one row and many, lopsided trees, threads."""

import numpy as np
import pytest
from tests.compiler.kernel_calls import ISAS, call, guarded, scratch

from gesher.compiler.kernels import meanings

AGGREGATES = list(meanings.AGGREGATES)
SOURCE = """
#include "gs_trees.h"
#define KERNEL(name, X) \\
  static name##_t name##_fill(const int64_t* how, const X* x, X* y, const void* nodes, const int32_t* root, \\
      const int32_t* depth, const uint8_t* modes, const uint8_t* missing, const int32_t* begin, \\
          const int32_t* target, \\
      const X* weight, const X* base, float* scratch) { \\
    return (name##_t){.rows = how[0], .features = how[1], .targets = how[2], .trees = how[3], .mode = (int)how[4], \\
      .aggregate = (int)how[5], .x = x, .y = y, .nodes = nodes, .root = root, .depth = depth, .modes = modes, \\
      .missing_yes = missing, .begin = begin, .target = target, .weight = weight, .base = base, \\
          .scratch = scratch}; } \\
  CALL(void, name, run, X) CALL(void, name, plain, X) \\
  GS_EXPORT int64_t name##_need(GsPool* pool, const int64_t* how) { \\
    name##_t f = name##_fill(how, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); \\
    return name##_scratch(&f, gs_pool_size(pool)); }
#define CALL(T, name, what, X) \\
  GS_EXPORT T call_##name##_##what(GsPool* pool, const int64_t* how, const X* x, X* y, const void* nodes, \\
      const int32_t* root, const int32_t* depth, const uint8_t* modes, const uint8_t* missing, const int32_t* begin, \\
      const int32_t* target, const X* weight, const X* base, float* scratch) { \\
    name##_t f = name##_fill(how, x, y, nodes, root, depth, modes, missing, begin, target, weight, base, scratch); \\
    name##_##what(&f, pool); }
KERNEL(gs_trees_f32, float)
KERNEL(gs_trees_f64, double)
"""
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda i: i.name)


def grow(rng, depth, features, targets, tests, values, missing):
    """A random tree; lopsided, because every other branch may end early."""
    if depth == 0 or rng.random() < 0.15:
        return {int(t): float(np.float32(rng.standard_normal())) for t in rng.choice(targets, rng.integers(0,
            3) % (targets + 1),
                                                                                     replace=False)}
    parts = [grow(rng, depth - 1, features, targets, tests, values, missing) for _ in range(2)]
    return (str(rng.choice(tests)), int(rng.integers(features)), float(rng.choice(values)), *parts,
            bool(missing and rng.random() < .5))


def flatten(roots, dtype):
    """The arrays of the C struct from nested trees."""
    node_type = np.dtype([("value", dtype), ("feature", "i4"), ("yes", "i4"), ("no", "i4")], align=True)
    nodes, modes, missing, begin, target, weight, root, depth = [], [], [], [0], [], [], [], []

    def add(tree):
        at = len(nodes)
        if isinstance(tree, dict):
            nodes.append((0, 0, at, at))
            modes.append(0)
            missing.append(0)
            target.extend(tree)
            weight.extend(tree.values())
            begin.append(len(target))
            return at, 0
        test, feature, value, yes, no, missing_yes = tree
        nodes.append(None)
        modes.append(list(meanings.TREE_TESTS).index(test))
        missing.append(int(missing_yes))
        begin.append(len(target))
        (yes_at, yes_depth), (no_at, no_depth) = add(yes), add(no)
        nodes[at] = (value, feature, yes_at, no_at)
        return at, 1 + max(yes_depth, no_depth)

    for tree in roots:
        at, deep = add(tree)
        root.append(at)
        depth.append(deep)
    i4 = [np.array(v, np.int32) for v in (root, depth, begin, target)]
    return np.array(nodes, node_type), np.array(modes, np.uint8), np.array(missing, np.uint8), *i4, np.array(weight,
        dtype)


def run(isa, name, x, roots, targets, aggregate="SUM", base=None, threads=1):
    dtype = x.dtype
    kernel = "gs_trees_f32" if dtype == np.float32 else "gs_trees_f64"
    nodes, modes, missing, root, depth, begin, target, weight = flatten(roots, dtype)
    inner = modes[nodes["yes"] != np.arange(len(nodes))]
    mixed = len(set(inner.tolist())) > 1
    how = np.array([*x.shape, targets, len(roots), inner[0] if len(inner) else 0, AGGREGATES.index(aggregate)],
                   np.int64)
    y = guarded(np.full((len(x), targets), 7, dtype))
    floats = call(SOURCE, isa, kernel + "_need", how, threads=threads)
    call(SOURCE, isa, f"call_{kernel}_{name}", how, guarded(x), y, guarded(nodes), guarded(root), guarded(depth),
         guarded(modes) if mixed else None, guarded(missing) if missing.any() else None, guarded(begin),
         guarded(target),
         guarded(weight), None if base is None else guarded(base.astype(dtype)), scratch(floats), threads=threads)
    return y


@isas
@pytest.mark.parametrize("name", ["plain", "run"])
def test_a_tree_a_person_can_check(isa, name):
    tree = ("LEQ", 0, 2.0, {0: 1.0}, ("GT", 1, 0.0, {0: 10.0, 1: 5.0}, {1: 7.0}, True), False)
    x = np.float32([[2, 0], [3, 1], [3, 0], [np.nan, np.nan]])
    assert run(isa, name, x, [tree], 2).tolist() == [[1, 0], [10, 5], [0, 7], [10, 5]]


@isas
@pytest.mark.parametrize("name", ["plain", "run"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tests", [["LEQ"], ["LT"], ["GTE"], ["GT"], ["EQ"], ["NEQ"], list(meanings.TREE_TESTS)],
                         ids=lambda t: "+".join(t))
def test_random_forests(isa, name, dtype, tests):
    rng = np.random.default_rng(len(tests) + ord(tests[0][0]))
    # Few distinct values, so that equality happens.
    values = (np.arange(-4, 5) / 2).astype(dtype)
    for rows, trees, targets, missing in ((1, 1, 1, False), (1, 11, 3, True), (7, 8, 1, False), (8, 3, 2, True),
                                          (70, 9, 2, False), (200, 5, 1, True)):
        roots = [grow(rng, int(rng.integers(0, 8)), 5, targets, tests, values, missing) for _ in range(trees)]
        x = rng.choice(values, (rows, 5)).astype(dtype)
        x[rng.random(x.shape) < 0.1] = np.nan
        base = rng.standard_normal(targets).astype(dtype) if rows % 2 else None
        for aggregate in AGGREGATES:
            y = run(isa, name, x, roots, targets, aggregate, base, threads=1 + rows % 3)
            assert np.allclose(y, meanings.trees(x, roots, targets, aggregate, base), rtol=1e-6, atol=1e-6)


@isas
def test_a_chain_is_walked_to_its_end(isa):
    tree = {0: 1.0}
    for i in range(300):
        tree = ("LEQ", 0, float(i), {0: float(-i)}, tree, False)
    x = np.float32([[-1], [150], [299], [300]])
    assert run(isa, "run", x, [tree], 1).ravel().tolist() == [-299, -299, -299, 1]


@isas
def test_threads_share_the_rows(isa):
    rng = np.random.default_rng(3)
    roots = [grow(rng, 6, 4, 2, ["LEQ"], np.linspace(-1, 1, 50), False) for _ in range(20)]
    x = rng.standard_normal((1000, 4)).astype(np.float32)
    assert np.array_equal(run(isa, "run", x, roots, 2), run(isa, "run", x, roots, 2, threads=3))
    assert run(isa, "run", x[:0], roots, 2, threads=2).shape == (0, 2)
