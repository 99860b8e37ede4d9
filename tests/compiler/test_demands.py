"""Sizes that do not fit each other end a run with an error that tells them, before anything is read."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.test_session import Net, agrees, f32, m, n

from gesher.base.dtypes import INT64
from gesher.base.errors import RunError
from gesher.compiler import toolchain
from gesher.compiler.demands import Demand, Misfit, demands
from gesher.compiler.session import Options, compile
from gesher.ir import TensorType
from gesher.primitives import Builder
from gesher.symbolic import sym

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")


@pytest.mark.parametrize(("op", "shapes", "good", "bad", "attributes"), [
    ("Add", ((3,), (n,)), ((3,), (1,)), ((3,), (4,)), {}),
    ("Where", ((n,), (3,), (m,)), ((3,), (3,), (1,)), ((3,), (3,), (2,)), {}),
    ("MatMul", ((2, n), (m, 3)), ((2, 4), (4, 3)), ((2, 400), (4, 3)), {}),
    ("MatMul", ((n, 2, 3), (m, 3, 2)), ((5, 2, 3), (5, 3, 2)), ((5, 2, 3), (4, 3, 2)), {}),
    ("Concat", ((n, 2), (m, 3)), ((4, 2), (4, 3)), ((4, 2), (5, 3)), {"axis": 1}),
    ("Conv", ((1, n, 5, 5), (3, m, 3, 3)), ((1, 2, 5, 5), (3, 2, 3, 3)), ((1, 2, 5, 5), (3, 9, 3, 3)), {}),
])
def test_sizes_that_do_not_fit_are_refused(op, shapes, good, bad, attributes):
    def feed(sizes):
        rng = np.random.default_rng(0)
        fed = {f"x{i}": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(sizes)}
        return {**fed, "x0": fed["x0"] > 0} if op == "Where" else fed

    from gesher.base.dtypes import BOOL, FLOAT

    kinds = [BOOL if op == "Where" and i == 0 else FLOAT for i in range(len(shapes))]
    net = Net(**{f"x{i}": TensorType(k, s) for i, (k, s) in enumerate(zip(kinds, shapes))})
    model = net.model(net.add(op, *net.values.values(), **attributes))
    session = compile(model, Options(threads=1))
    session.run(feed(good))
    with pytest.raises(RunError, match=r"size|broadcast"):
        session.run(feed(bad))
    agrees(model, feed(good))


def test_a_reshape_into_more_elements_than_there_are_is_refused():
    net = Net(x=f32(n, 4), shape=TensorType(INT64, (2,)))
    session = agrees(net.model(net.add("Reshape", net.x, net.shape)),
                     {"x": np.ones((3, 4), np.float32), "shape": np.int64([2, 6])})
    with pytest.raises(RunError):
        session.run({"x": np.ones((3, 4), np.float32), "shape": np.int64([200, 600])})


def test_what_always_holds_is_no_demand():
    p, k = Builder(), sym("k")
    from gesher.base.dtypes import FLOAT

    x, y = p.input("x", FLOAT, (k, 3)), p.input("y", FLOAT, (k, 1))
    assert not demands([p.matmul(p.transpose(x * y, (1, 0)), x)], {k})
    z = p.input("z", FLOAT, (m, 3))
    assert [d.kind for d in demands([x + z], {k, m})] == ["repeats", "repeats"]


def test_a_body_that_never_runs_demands_nothing():
    k, turns = sym("k"), sym("turns")
    demand = Demand("same", k, 3, "it", (turns,))
    demand.check({k: 4, turns: 0})
    with pytest.raises(Misfit, match="4 meets one of 3"):
        demand.check({k: 4, turns: 1})
