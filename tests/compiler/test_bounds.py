"""No element outside a tensor is touched: inputs, weights and outputs end right before a page that nobody may read.

A read beyond ends the process, so the graphs run in one of their own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from gesher.compiler import toolchain

pytestmark = [
    pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are protected by Linux' mprotect"),
]

_SCRIPT = r"""
import ctypes, mmap, sys
import numpy as np
from gesher.compiler.plan import build, prepared
from gesher.compiler.segment import Module
from tests.random_primitives import draw

libc = ctypes.CDLL(None, use_errno=True)
kept = []

def fenced(array, before):
    # The array in pages of its own, its end (or its beginning) at a page that may not be touched.
    size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for fence in (base, base + mmap.PAGESIZE + size):
        assert libc.mprotect(ctypes.c_void_p(fence), mmap.PAGESIZE, 0) == 0
    at = mmap.PAGESIZE if before else mmap.PAGESIZE + size - array.nbytes
    made = np.frombuffer(pages, array.dtype, array.size, at).reshape(array.shape)
    made[...] = array
    kept.append(pages)
    return made

first, last = int(sys.argv[1]), int(sys.argv[2])
drawn, programs, taken = [], [], set()
for seed in range(first, last):
    graph = draw(seed)
    programs.append(build(f"seed {seed}", graph.inputs, prepared(graph.roots), taken=taken))
    drawn.append(graph)
module = Module(programs, "fenced graphs", 1, ["-O1"])
empty = np.empty
for before in (False, True):
    # Whatever the segments make room for is fenced too: outputs and the arena.
    np.empty = lambda shape, dtype=float: fenced(empty(shape, dtype), before)
    for seed, graph, segment in zip(range(first, last), drawn, module.segments):
        module._arena_bytes = 0
        segment._shapes.clear()
        print(seed, flush=True)
        feeds = graph.feeds(np.random.default_rng(seed))
        for i, w in enumerate(segment.weights, len(segment.program.inputs)):
            kept.append(fenced(w, before))
            segment.call.inputs[i] = kept[-1].ctypes.data
        segment.run([fenced(feeds[e.params["name"]], before) for e in graph.inputs], graph.sizes)
    np.empty = empty
print("done")
"""


@pytest.mark.parametrize("first", [0, 4000])
def test_random_graphs_stay_inside_their_tensors(first):
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(first), str(first + 60)], capture_output=True, text=True,
                          timeout=300, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and done.stdout.endswith("done\n"), \
        f"stopped at seed {done.stdout.split()[-1:]} with {done.returncode}: {done.stderr[-2000:]}"
