"""Recurrent operators through the compiler: one run of the kernel for all states that are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import DOUBLE, FLOAT, INT32
from gesher.compiler import cpu, toolchain
from gesher.compiler.segment import Segment, compile_exprs
from gesher.compiler.steps import KernelStep
from gesher.ops import find
from gesher.primitives import Builder, Expr, evaluate
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
T, B = sym("T"), sym("B")


def kernels(segment: Segment) -> list[str]:
    return [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]


def lowered(p: Builder, kind: str, inputs: list[Expr | None], outputs: int, **attributes) -> list[Expr]:
    rule = find("", kind).rule("lower", 22)
    p.outputs, p.version = outputs, 22
    written = {"activations": None, "activation_alpha": None, "activation_beta": None, "clip": None,
               "direction": "forward", "hidden_size": None, "layout": 0,
               **({"linear_before_reset": 0} if kind == "GRU" else {}),
               **({"input_forget": 0} if kind == "LSTM" else {})}
    return list(rule.function(p, *inputs, **{**written, **attributes}))


def check(kind: str, seed: int, *, hidden: int = 9, features: int = 5, direction: str = "forward", bias: bool = True,
          lengths: bool = False, start: bool = False, peephole: bool = False, constant: bool = True,
          want: tuple[int, ...] = (), sizes: tuple[tuple[int, int], ...] = ((4, 3), (1, 1)), isa: cpu.Isa | None = None,
          dtype=FLOAT, **attributes) -> list[str]:
    """The kernels that ran; the results are held to the meaning in primitives, evaluated in numpy."""
    rng, p = np.random.default_rng(seed), Builder()
    ways, gates = 2 if direction == "bidirectional" else 1, GATES[kind]
    by_batch = attributes.get("layout", 0)
    states = 2 if kind == "LSTM" else 1
    kept: list[tuple[Expr, np.ndarray]] = []

    def held(name: str, *shape: int) -> Expr:
        # Small enough for the states to forget: rounding of a step does not grow in the next ones.
        numbers = (rng.standard_normal(shape) / (2 * shape[-1] ** 0.5)).astype(dtype.numpy)
        if constant:
            return p.constant(numbers)
        e = p.input(name, dtype, shape)
        kept.append((e, numbers))
        return e

    x = p.input("x", dtype, (B, T, features) if by_batch else (T, B, features))
    w, r = held("w", ways, gates * hidden, features), held("r", ways, gates * hidden, hidden)
    b = held("b", ways, 2 * gates * hidden) if bias else None
    lens = p.input("lens", INT32, (B,)) if lengths else None
    begin = [p.input(f"s{i}", dtype, (B, ways, hidden) if by_batch else (ways, B, hidden)) if start else None
             for i in range(states)]
    peep = [held("p", ways, 3 * hidden) if peephole else None] if kind == "LSTM" else []
    found = lowered(p, kind, [x, w, r, b, lens, *begin, *peep], 1 + states, direction=direction, hidden_size=hidden,
                    **attributes)
    roots = [found[i] for i in want or range(1 + states)]
    inputs = [e for e in (x, lens, *begin) if e is not None] + [e for e, _ in kept]
    segment = compile_exprs(inputs, roots, isa=isa, threads=2)
    for steps, batch in sizes:
        feeds = []
        for e in inputs:
            shape = [{T: steps, B: batch}.get(d, d) for d in e.shape]
            feeds.append(rng.integers(0, steps + 1, shape).astype(np.int32) if e is lens
                         else next((a for k, a in kept if k is e), None))
            if feeds[-1] is None:
                feeds[-1] = rng.standard_normal(shape).astype(dtype.numpy)
        expected = evaluate(roots, {e.params["name"]: f for e, f in zip(inputs, feeds)})
        for a, wanted in zip(segment.run(feeds, {T: steps, B: batch}), expected):
            assert a.shape == wanted.shape and a.dtype == wanted.dtype
            np.testing.assert_allclose(a, wanted, rtol=1e-5, atol=1e-5)
    return kernels(segment)


@pytest.mark.parametrize("kind", GATES)
def test_one_run_gives_every_state(kind):
    assert check(kind, 1) == ["gs_recurrent_f32"]
    assert check(kind, 2, direction="bidirectional", lengths=True, start=True) == ["gs_recurrent_f32"]
    assert check(kind, 3, direction="reverse", lengths=True, bias=False) == ["gs_recurrent_f32"]
    for want in ((0,), (1,), (1, 0)):
        assert check(kind, 4, want=want, direction="bidirectional") == ["gs_recurrent_f32"]


@pytest.mark.parametrize("kind", GATES)
def test_the_batch_first(kind):
    assert check(kind, 5, layout=1, direction="bidirectional", start=True, lengths=True) == ["gs_recurrent_f32"]


@pytest.mark.parametrize("kind", GATES)
def test_weights_that_are_computed(kind):
    assert check(kind, 6, constant=False, direction="bidirectional") == ["gs_recurrent_f32"]


@pytest.mark.parametrize("isa", cpu.here().isas(), ids=lambda i: i.name)
@pytest.mark.parametrize("kind", GATES)
def test_each_instruction_set_has_its_own_packing(kind, isa):
    assert check(kind, 7, hidden=37, features=12, isa=isa, sizes=((7, 1), (2, 8), (130, 2))) == ["gs_recurrent_f32"]


def test_options_of_the_cells():
    assert check("GRU", 8, linear_before_reset=1, clip=0.4, direction="bidirectional") == ["gs_recurrent_f32"]
    assert check("LSTM", 9, input_forget=1, peephole=True, clip=0.5, start=True) == ["gs_recurrent_f32"]
    acts = ["HardSigmoid", "ScaledTanh", "Softsign", "Sigmoid", "Tanh", "Elu"]
    assert check("LSTM", 10, activations=acts, activation_alpha=[0.3, 0.9, 0.7], activation_beta=[0.4, 0.8],
                 direction="bidirectional") == ["gs_recurrent_f32"]


def test_doubles_and_odd_clips_go_by_the_meaning():
    assert "gs_recurrent_f32" not in check("LSTM", 11, dtype=DOUBLE)
    assert "gs_recurrent_f32" not in check("RNN", 12, clip=0.0)


def test_sequences_of_no_steps_and_batches_of_none():
    assert check("GRU", 13, start=True, sizes=((0, 2), (3, 0), (2, 2))) == ["gs_recurrent_f32"]
