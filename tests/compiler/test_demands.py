"""Sizes that do not fit each other end a run with an error that tells them, before anything is read."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.test_session import Net, agrees, f32, m, n

from gesher.base.dtypes import INT64
from gesher.base.errors import GesherError, RunError
from gesher.compiler import toolchain
from gesher.compiler.demands import Demand, Misfit, demands
from gesher.compiler.session import Options, compile
from gesher.evaluator import Evaluator
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


FED = [
    # An axis of 3 stays 3 whatever it is repeated to, so only the demand tells that 7 does not fit.
    ("Expand", {"x": (3, 1)}, {"shape": [2, 3, 4]}, [{"shape": [2, 7, 4]}, {"shape": [2, 3, -1]}, {"x": (2, 1)}], {}),
    ("Reshape", {"x": (n, 4)}, {"shape": [2, 6]}, [{"shape": [2, 5]}, {"x": (2, 4)}], {}),
    ("Tile", {"x": (n, 2)}, {"repeats": [2, 2]}, [{"repeats": [2, -1]}], {}),
    ("Split", {"x": (n,)}, {"sizes": [1, 2]}, [{"sizes": [1, 1]}, {"sizes": [2, 4]}, {"x": (2,)}, {"sizes": [4, -1]}],
     {"axis": 0, "outputs": 2}),
    ("Pad", {"x": (n, 2)}, {"pads": [1, 0, 0, 1]}, [{"pads": [-4, 0, 0, 0]}], {"mode": "constant"}),
    ("Slice", {"x": (n, 2)}, {"starts": [1], "ends": [9], "axes": [0], "steps": [1]}, [{"steps": [0]}], {}),
    ("TopK", {"x": (2, n)}, {"k": [2]}, [{"k": [9]}, {"k": [-1]}], {"outputs": 2}),
    ("MaxPool", {"x": (1, 1, n, 4)}, {}, [{"x": (1, 1, 2, 4)}], {"kernel_shape": [3, 3]}),
    ("ArgMax", {"x": (n, 2)}, {}, [{"x": (0, 2)}], {"axis": 0}),
    ("GlobalMaxPool", {"x": (1, 1, n, m)}, {}, [{"x": (1, 1, 0, 3)}], {}),
    ("ReverseSequence", {"x": (3, n)}, {"lens": [3, 1, 2]}, [{"lens": [3, -1, 2]}, {"lens": [4, 1, 2]}],
     {"batch_axis": 1, "time_axis": 0}),
]


@pytest.mark.parametrize(("op", "tensors", "numbers", "misfits", "more"), FED, ids=[row[0] for row in FED])
def test_what_is_fed_and_does_not_fit_is_refused_and_harms_no_other_run(op, tensors, numbers, misfits, more):
    outputs, attributes = more.get("outputs", 1), {k: v for k, v in more.items() if k != "outputs"}
    net = Net(**{k: f32(*s) for k, s in tensors.items()},
              **{k: TensorType(INT64, (len(v),)) for k, v in numbers.items()})
    made = net.add(op, *net.values.values(), outputs=outputs, **attributes)
    model = net.model(*(made if isinstance(made, (list, tuple)) else [made]))

    def feed(shapes, given):
        drawn = {k: np.random.default_rng(0).standard_normal(s).astype(np.float32) for k, s in shapes.items()}
        return {**drawn, **{k: np.int64(v) for k, v in given.items()}}

    sizes = {k: tuple(d if isinstance(d, int) else 3 for d in s) for k, s in tensors.items()}
    sizes = {k: tuple(4 if d is m else e for d, e in zip(tensors[k], s)) for k, s in sizes.items()}
    session = agrees(model, feed(sizes, numbers))
    oracle = Evaluator(model)
    for misfit in misfits:
        fed = feed({k: misfit.get(k, s) for k, s in sizes.items()}, {k: misfit.get(k, v) for k, v in numbers.items()})
        with pytest.raises(GesherError):
            oracle.run(fed)
        with pytest.raises(RunError):
            session.run(fed)
    good = feed(sizes, numbers)
    for name, want in oracle.run(good).items():
        np.testing.assert_allclose(session.run(good)[name], want)


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
