"""Compiled primitives against their meaning: random graphs, many to a library, under the undefined-behaviour sanitizer.

Floats are held to a tolerance: sums run in another order, and exp and its like differ in the last bits.
"""

import numpy as np
import pytest
from tests.random_primitives import draw

from gesher.compiler import toolchain
from gesher.compiler.plan import build, check_types, prepared
from gesher.compiler.segment import Module
from gesher.primitives import evaluate

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

# A trap instead of a message: then nothing of the sanitizer has to be linked.
_CHECKED = ("-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined")
_RTOL = {"float16": 2e-2, "bfloat16": 6e-2}


def close(got: np.ndarray, want: np.ndarray) -> bool:
    if got.dtype != want.dtype or got.shape != want.shape:
        return False
    if want.dtype.kind in "biu":
        return bool(np.array_equal(got, want))
    with np.errstate(all="ignore"):
        x, y = got.astype(np.float64), want.astype(np.float64)
        rtol = _RTOL.get(want.dtype.name, 2e-3)
        scale = np.max(np.abs(np.where(np.isfinite(y), y, 0)), initial=0)
        return bool(np.all((x == y) | (np.isnan(x) & np.isnan(y))
                           | (np.abs(x - y) <= rtol * (np.abs(y) + 0.01 * scale) + 1e-6)))


def check(seeds: range, flags: tuple[str, ...], threads: int) -> None:
    drawn, programs, taken = [], [], set()
    for seed in seeds:
        graph = draw(seed)
        roots = prepared(graph.roots)
        check_types(roots)
        programs.append(build(f"seed {seed}", graph.inputs, roots, taken=taken))
        drawn.append(graph)
    module = Module(programs, "random graphs", threads, flags)
    for seed, graph, segment in zip(seeds, drawn, module.segments):
        feeds = graph.feeds(np.random.default_rng(seed))
        want = evaluate(graph.roots, feeds, graph.sizes)
        got = segment.run([np.ascontiguousarray(feeds[e.params["name"]]) for e in graph.inputs], graph.sizes)
        assert all(close(g, w) for g, w in zip(got, want)), f"seed {seed}"
    module.close()


@pytest.mark.parametrize("block", range(2))
def test_random_graphs_compute_what_they_mean_without_undefined_behaviour(block):
    check(range(block * 60, block * 60 + 60), _CHECKED, threads=1)


def test_random_graphs_compute_the_same_on_two_threads():
    check(range(1000, 1050), ("-O1",), threads=2)


@pytest.mark.slow
def test_many_random_graphs(run_all):
    if not run_all:
        pytest.skip("a thousand graphs run in ./dev test --all")
    for first in range(2000, 3000, 100):
        check(range(first, first + 100), _CHECKED, threads=2)
