"""GESHER_DEBUG=2: every step with its time when a session ends, and nothing of it in libraries that were not asked."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.compiler.test_session import Net, f32, n

from gesher.base.dtypes import INT64
from gesher.compiler import peak, toolchain
from gesher.compiler.explain import segments
from gesher.compiler.peak import Peak
from gesher.compiler.profile import by_kernel
from gesher.compiler.session import Options, compile
from gesher.compiler.work import works
from gesher.ir import TensorType

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def product_and_softmax():
    net = Net(x=f32(n, 64))
    w = net.weight("w", np.ones((64, 32), np.float32))
    return net.model(net.add("Softmax", net.add("MatMul", net.x, w), axis=-1))


def test_steps_are_told_with_time_and_rates_when_the_session_closes(monkeypatch, capsys):
    monkeypatch.setenv("GESHER_DEBUG", "2")
    monkeypatch.setattr(peak, "here", lambda threads: Peak(threads, 100e9, 0.0, 10e9))
    session = compile(product_and_softmax(), Options(threads=1))
    for rows in (100, 300):
        session.run({"x": np.ones((rows, 64), np.float32)})
    (profile,) = session.profiles()
    steps = list(profile.program.all_steps())
    assert [profile.times[2 * i + 1] for i in range(len(steps))] == [2] * len(steps)
    # Rows of both runs count in the work.
    assert 2 * 400 * 64 * 32 in [profile.sum(w.flops) for w in works(profile.program)]
    capsys.readouterr()
    session.close()
    told = capsys.readouterr().err
    assert "2 runs" in told and "peaks of 1 thread: 100.0 GFLOP/s, 10.0 GB/s" in told
    rate = r" +(?:\d+\.\d|-) +(?:\d+|-)"
    row = rf"^ +\d+\.\d{{4}} +\d+\.\d{rate}{rate}  (?:kernel|nest) "
    assert len(re.findall(row, told, re.M)) == len(steps)


def test_samples_make_a_step_cost_what_it_costs_undisturbed():
    session = compile(product_and_softmax(), Options(threads=1, timed=True))
    (profile,) = session.profiles()
    for _ in range(3):
        session.run({"x": np.ones((100, 64), np.float32)})
        profile.sample()
    steps = profile.steps()
    assert len(profile.samples) == 3 and len(steps) == len(list(profile.program.all_steps()))
    profile.samples[:] = [[1000] * len(steps), *[[30] * len(steps)] * 19, [10] * len(steps)]
    assert [t.seconds for t in profile.steps()] == [30e-9] * len(steps)
    product = next(t for t in profile.steps() if t.flops == 2 * 100 * 64 * 32)
    assert product.gflops == pytest.approx(2 * 100 * 64 * 32 / 30)
    assert product.of_peak(Peak(1, 1e9, 0.0, 1e9))[0] == pytest.approx(product.gflops)
    assert sum(row[2] for row in by_kernel(profile.steps())) == pytest.approx(30e-9 * len(steps))
    profile.reset()
    assert profile.steps() == [] and profile.text() == ""
    session.close()


def test_explain_gives_free_sizes_as_expressions_and_numbers_after_a_run():
    session = compile(product_and_softmax(), Options(threads=1))
    product = next(line for line in session.explain().splitlines() if "MatMul" in line or "gemm" in line)
    assert "n,64)" in product and "*n FLOP" in product
    session.run({"x": np.ones((100, 64), np.float32)})
    product = next(line for line in session.explain().splitlines() if "gemm" in line)
    assert "(100,64)" in product and "410 kFLOP" in product
    session.close()


def test_a_nest_counts_what_it_does_to_floats():
    net = Net(x=f32(4, 8))
    session = compile(net.model(net.add("Mul", net.add("Exp", net.x), net.x)), Options(threads=1))
    (work,) = works(next(iter(segments(session)))[1])
    assert (work.kind, work.flops, work.bytes) == ("nest", 2 * 32, 2 * 32 * 4)
    session.close()


def test_a_table_that_is_looked_up_is_not_read_whole():
    net = Net(i=TensorType(INT64, (3,)))
    table = net.weight("table", np.ones((1000, 8), np.float32))
    session = compile(net.model(net.add("Exp", net.add("Gather", table, net.i))), Options(threads=1))
    (work,) = works(next(iter(segments(session)))[1])
    assert work.bytes == 3 * 8 + 2 * 3 * 8 * 4
    session.close()


def test_nothing_is_timed_unless_asked(monkeypatch, capsys):
    monkeypatch.delenv("GESHER_DEBUG", raising=False)
    plain = compile(product_and_softmax(), Options(threads=1))
    monkeypatch.setenv("GESHER_DEBUG", "2")
    timed = compile(product_and_softmax(), Options(threads=1))
    entries = [s._main.variants[0].module.entry.folder for s in (plain, timed)]
    assert entries[0] != entries[1]
    capsys.readouterr()
    plain.run({"x": np.ones((3, 64), np.float32)})
    plain.close()
    assert capsys.readouterr().err == ""


def test_a_lowering_that_trips_is_told_as_a_fault(monkeypatch, capsys):
    from gesher.ops import BOOK
    from gesher.ops.schema import Operator

    def trips(p, x):
        raise KeyError("lost")

    rule_of = Operator.rule

    def rule(self, kind, version):
        found = rule_of(self, kind, version)
        if kind == "lower" and self.name == "Softplus":
            import dataclasses

            return dataclasses.replace(found, function=trips)
        return found

    assert BOOK is not None
    monkeypatch.setattr(Operator, "rule", rule)
    net = Net(x=f32(n))
    model = net.model(net.add("Softplus", net.x))
    with pytest.raises(KeyError):
        compile(model, Options(threads=1))
    monkeypatch.setenv("GESHER_VERIFY", "0")
    monkeypatch.setenv("GESHER_DEBUG", "1")
    session = compile(model, Options(threads=1))
    assert "fault in gesher" in capsys.readouterr().err
    assert "fault in a lowering" in session.explain() and "KeyError" in session.explain()
    assert np.allclose(session.run({"x": np.float32([0])})["Softplus_0_0"], np.log(2))
