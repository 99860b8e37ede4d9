"""GESHER_DEBUG=2: every step with its time when a session ends, and nothing of it in libraries that were not asked."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.compiler.test_session import Net, f32, n

from gesher.compiler import toolchain
from gesher.compiler.session import Options, compile

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


def product_and_softmax():
    net = Net(x=f32(n, 64))
    w = net.weight("w", np.ones((64, 32), np.float32))
    return net.model(net.add("Softmax", net.add("MatMul", net.x, w), axis=-1))


def test_steps_are_told_with_time_and_rates_when_the_session_closes(monkeypatch, capsys):
    monkeypatch.setenv("GESHER_DEBUG", "2")
    session = compile(product_and_softmax(), Options(threads=1))
    for rows in (100, 300):
        session.run({"x": np.ones((rows, 64), np.float32)})
    (profile,) = (p for g in session.graphs() for v in g.variants for p in v.module.profiles)
    steps = list(profile.program.all_steps())
    assert [profile.times[2 * i + 1] for i in range(len(steps))] == [2] * len(steps)
    # Rows of both runs count in the work.
    from gesher.compiler.profile import flops_of

    assert [profile._sum(flops_of(s)) for s in steps if flops_of(s) is not None] == [2 * 400 * 64 * 32]
    capsys.readouterr()
    session.close()
    told = capsys.readouterr().err
    assert "2 runs" in told and "GFLOP/s" in told
    row = r"^ +\d+\.\d{4} +\d+\.\d +(?:\d+\.\d|-) +\d+\.\d  (?:kernel|nest) "
    assert len(re.findall(row, told, re.M)) == len(steps)


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
