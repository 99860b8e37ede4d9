"""The C of whole nets under sanitizers, and for another processor under an emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.compiler import standalone
from tests.compiler.test_integer import convolved, counted, some
from tests.compiler.test_layout import a_net, h, n

from gesher.base.dtypes import INT8, INT64, UINT8
from gesher.compiler import cpu, target, toolchain
from gesher.compiler.segment import plan_exprs
from gesher.ops.quantized import matmul_integers
from gesher.primitives import Builder, Expr, evaluate
from gesher.symbolic import sym

m = sym("m")
WHOLE = bool(os.environ.get("GESHER_TEST_ALL"))
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc, whose sanitizers are used")
needs_emulator = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None and shutil.which("qemu-aarch64-static") is None,
    reason="no qemu-aarch64 (Debian: qemu-user)")
pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def pictures():
    x, roots = a_net(3)
    return [x], roots, [np.random.default_rng(0).standard_normal((2, 3, 17, 19)).astype(np.float32)], {n: 2, h: 17}


def words():
    """Embedding, attention, norm, products of odd sizes, top-k."""
    p, rng = Builder(), np.random.default_rng(1)

    def weight(*shape: int) -> Expr:
        return p.constant((rng.standard_normal(shape) / 5).astype(np.float32))

    ids = p.input("ids", INT64, (n, m))
    x = p.gather(weight(50, 33), ids)
    q, k, v = (p.matmul(x, weight(33, 40)) for _ in range(3))
    heads = [p.transpose(p.reshape(e, (n, m, 5, 8)), (0, 2, 1, 3)) for e in (q, k, v)]
    scores = p.matmul(heads[0], p.transpose(heads[1], (0, 1, 3, 2))) / 8 ** 0.5
    scores = p.exp(scores - p.amax(scores, 3, True))
    mixed = p.matmul(scores / p.sum(scores, 3, True), heads[2])
    y = p.matmul(p.reshape(p.transpose(mixed, (0, 2, 1, 3)), (n, m, 40)), weight(40, 33)) + x
    y = y - p.mean(y, 2, True)
    y = y / p.sqrt(p.mean(y * y, 2, True) + 1e-5)
    values, places = p.top_k(p.matmul(p.max(p.matmul(y, weight(33, 70)), 0.0), weight(70, 13)), 4)
    return [ids], [values, places, p.cumulate(y, 1)], [rng.integers(0, 50, (3, 11))], {n: 3, m: 11}


def bytes_():
    """Integer convolutions (plain, of groups, of each channel by itself) and products, with and without zero points."""
    p, rng = Builder(), np.random.default_rng(2)
    x = p.input("x", UINT8, (n, 12, h, 11))
    made = [counted(p, rng, convolved(p, rng, x, o, k, stride, groups, w_zero=zero)) for o, k, stride, groups, zero in
            ((70, 3, 1, 1, False), (8, 3, 2, 4, True), (12, 3, 1, 12, False), (12, 5, 2, 12, True))]
    a = p.input("a", INT8, (n, 5, 33))
    w, zero = p.constant(some(rng, (33, 70), INT8)), p.constant(some(rng, (70,), INT8))
    made += [matmul_integers(p, a, None, w, zero), matmul_integers(p, a, p.constant(np.int8(-7)), w, None)]
    return [x, a], made, [some(rng, (2, 12, 9, 11), UINT8), some(rng, (2, 5, 33), INT8)], {n: 2, h: 9}


NETS = {"pictures": pictures, "words": words, "bytes": bytes_}
# Processors to emulate: what the code may use, and how the compiler is told so.
DOT = replace(cpu.isa("neon"), name="neon-dot", needs=cpu.isa("neon").needs | {"asimddp"}, zig="-mcpu=generic+dotprod")
EMULATED = {"neon": cpu.isa("neon"), "neon-dot": DOT}
SANITIZERS = {
    "memory": (1, ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment"]),
    "threads": (3, ["-fsanitize=thread"]),
}


@cache
def ready(net: str, isa: cpu.Isa):
    inputs, roots, feeds, sizes = NETS[net]()
    with target.building_for(isa):
        program = plan_exprs(inputs, roots)
    want = evaluate(roots, {e.params["name"]: x for e, x in zip(inputs, feeds)})
    return program, feeds, sizes, want


def hold(got, want) -> None:
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize(("net", "watched"), [(a, b) for a in NETS for b in SANITIZERS] if WHOLE else
                         [("pictures", "memory"), ("words", "threads")])
def test_sanitizers_find_nothing(net, watched, tmp_path):
    threads, flags = SANITIZERS[watched]
    isa = cpu.isa("avx2") if cpu.isa("avx2").runs_on(cpu.here()) else cpu.here().isas()[-1]
    program, feeds, sizes, want = ready(net, isa)
    (tmp_path / "model.c").write_text(standalone.source_of(program))
    done = subprocess.run(["gcc", "-std=gnu11", "-O1", "-g", "-w", "-ffp-contract=fast", "-fopenmp-simd", isa.march,
                           *flags, str(tmp_path / "model.c"), "-o", str(tmp_path / "model"), "-lm", "-pthread"],
                          capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:
        pytest.skip(f"gcc lacks its sanitizers' runtimes: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr[:2000]
    hold(standalone.run([str(tmp_path / "model")], tmp_path, program, feeds, sizes, threads,
                        {"TSAN_OPTIONS": "halt_on_error=1"}), want)


@needs_emulator
@pytest.mark.slow
@pytest.mark.parametrize(("net", "isa"), [(net, isa) for net in NETS for isa in EMULATED] if WHOLE else
                         [("words", "neon"), ("bytes", "neon-dot")])
def test_another_processor_gives_the_same(net, isa, tmp_path):
    compiler = toolchain.find()
    if compiler.kind != "zig":
        pytest.skip("only zig compiles for another processor with nothing else installed")
    program, feeds, sizes, want = ready(net, EMULATED[isa])
    (tmp_path / "model.c").write_text(standalone.source_of(program))
    done = subprocess.run([*compiler.command, "-target", "aarch64-linux-musl", "-static", EMULATED[isa].zig,
                           "-std=gnu11", "-O2", "-w", "-ffp-contract=fast", "-fopenmp-simd",
                           str(tmp_path / "model.c"), "-o", str(tmp_path / "model"), "-lm"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    assert emulator is not None
    hold(standalone.run([emulator, str(tmp_path / "model")], tmp_path, program, feeds, sizes, 2), want)
