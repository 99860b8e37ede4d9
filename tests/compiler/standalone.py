"""A compiled segment as a program of its own: no Python around it, so that sanitizers and emulators can watch it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gesher.compiler import runtime
from gesher.compiler.emit import unit
from gesher.compiler.packed import array_of
from gesher.compiler.steps import Program
from gesher.symbolic import Dim, evaluate

MAIN = r"""
#include <stdio.h>
static void* read_all(FILE* f, int64_t bytes) {
  void* p = 0;
  // Exactly as many bytes as there are: a sanitizer sees one too many.
  if (posix_memalign(&p, 64, bytes ? (size_t)bytes : 1) || fread(p, 1, (size_t)bytes, f) != (size_t)bytes) exit(3);
  return p;
}
static int64_t number(FILE* f) { int64_t n; if (fread(&n, 8, 1, f) != 1) exit(3); return n; }
int main(int argc, char** argv) {
  FILE* f = fopen(argv[1], "rb");
  if (argc != 3 || !f) return 3;
  int64_t threads = number(f), n_dims = number(f), n_in = number(f), n_out = number(f), dims[64], bytes[64];
  void *inputs[1024], *outputs[64];
  for (int64_t i = 0; i < n_dims; i++) dims[i] = number(f);
  for (int64_t i = 0; i < n_in; i++) { int64_t n = number(f); inputs[i] = read_all(f, n); }
  for (int64_t i = 0; i < n_out; i++) {
    bytes[i] = number(f);
    if (posix_memalign(&outputs[i], 64, bytes[i] ? (size_t)bytes[i] : 1)) return 3;
  }
  char message[512] = "";
  GsCall call = {.inputs = inputs, .outputs = outputs, .dims = dims, .message = message, .message_bytes = 512};
  call.pool = threads > 1 ? gs_pool_create((int)threads, 50) : 0;
  int64_t arena = gs_arena_0(&call);
  void* room = 0;
  if (posix_memalign(&room, 64, arena ? (size_t)arena : 1)) return 3;
  call.arena = room;
  for (int turn = 0; turn < 2; turn++)
    if (gs_run_0(&call)) { fprintf(stderr, "%s\n", message); return 4; }
  FILE* out = fopen(argv[2], "wb");
  for (int64_t i = 0; i < n_out; i++) fwrite(outputs[i], 1, (size_t)bytes[i], out);
  fclose(out);
  gs_pool_destroy(call.pool);
  for (int64_t i = 0; i < n_in; i++) free(inputs[i]);
  for (int64_t i = 0; i < n_out; i++) free(outputs[i]);
  free(room);
  return 0;
}
"""


def source_of(program: Program) -> str:
    """The C of a program with all kernels in it, and a `main` that runs it."""
    lines = unit([program], "standalone").text.split("\n")
    # The prototypes of kernels that would be linked in: here their bodies are in the same file.
    whole = "\n".join(line for line in lines if not line.startswith("GS_HIDDEN "))
    return runtime.flatten(whole) + MAIN


def run(command: Sequence[str], folder: Path, program: Program, feeds: Sequence[np.ndarray], sizes: Mapping[Dim, int],
        threads: int, environment: Mapping[str, str] | None = None) -> list[np.ndarray]:
    """The outputs that the program gives; `command` starts it (an emulator first, perhaps)."""
    told = [threads, len(program.symbols), len(feeds) + len(program.values), len(program.outputs)]
    told += [sizes[s] for s in program.symbols]
    shapes = [tuple(evaluate(d, sizes) for d in b.shape) for b in program.outputs]
    with open(folder / "in", "wb") as out:
        out.write(np.array(told, np.int64).tobytes())
        for x in (*feeds, *(np.ascontiguousarray(array_of(v)) for v in program.values)):
            out.write(np.array([x.nbytes], np.int64).tobytes() + x.tobytes())
        for b, shape in zip(program.outputs, shapes):
            out.write(np.array([int(np.prod(shape)) * b.dtype.numpy.itemsize], np.int64).tobytes())
    done = subprocess.run([*command, str(folder / "in"), str(folder / "out")], capture_output=True, text=True,
                          env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    made, at, results = (folder / "out").read_bytes(), 0, []
    for b, shape in zip(program.outputs, shapes):
        n = int(np.prod(shape))
        results.append(np.frombuffer(made, b.dtype.numpy, n, offset=at).reshape(shape))
        at += n * b.dtype.numpy.itemsize
    return results
