"""Operators that take elements from elsewhere, compiled as by the reference: labels, padding, repeating."""

import numpy as np
import pytest

import gesher
from gesher.evaluator import Evaluator
from gesher.ops.build import Builder as Graph


def agrees(op, fed, inputs, shapes=None, **attributes):
    b = Graph({"": 22, "ai.onnx.ml": 4})
    domain = attributes.pop("domain", "")
    shape = fed.shape if shapes is None else shapes
    x = b.input("x", gesher.base.dtypes.from_numpy(fed.dtype), shape)
    b.output(b.op(op, x, *inputs, domain=domain, **attributes), "y")
    model = b.model()
    with gesher.session(model, "compiled", threads=1) as session:
        got = session.run({"x": fed})["y"]
    np.testing.assert_array_equal(got, Evaluator(model).run({"x": fed})["y"])


@pytest.mark.parametrize("keys", [
    [3, 1, 2], [5], [7, 7, 9], [-(2**63), 2**63 - 1, 0], list(range(-400, 2600, 2)),
    [10**12 + i * i for i in range(99)]],
    ids=["few", "one", "twice", "extremes", "dense", "sparse"])
@pytest.mark.parametrize("values", ["values_int64s", "values_floats"])
def test_whole_labels(keys, values):
    rng = np.random.default_rng(0)
    fed = np.concatenate([rng.choice(np.array(keys, np.int64), 70), rng.integers(-3000, 3000, 70),
                          [-(2**63), 2**63 - 1, min(keys), max(keys)]])
    agrees("LabelEncoder", fed, [], ("n",), domain="ai.onnx.ml", keys_int64s=keys,
           **{values: [i * 3 + 1 for i in range(len(keys))]}, **(
               {"default_int64": -5} if values == "values_int64s" else {"default_float": 0.25}))


@pytest.mark.parametrize("keys", [[0.5], [np.nan], [2.5, np.nan, -1.0, np.nan, 0.0, -np.inf],
                                  [float(i) for i in range(50)]], ids=["one", "nan", "special", "many"])
def test_labels_of_floats(keys):
    fed = np.float32([[0.5, np.nan, -0.0, np.inf], [-np.inf, 2.5, 49, 1e9]])
    agrees("LabelEncoder", fed, [], domain="ai.onnx.ml", keys_floats=keys, values_int64s=list(range(len(keys))),
           default_int64=-1)


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64])
def test_padding_with_what_is_there(mode, dtype):
    rng = np.random.default_rng(1)
    for shape, pads in (((2, 3, 19, 40), (0, 0, 3, 2, 0, 0, 1, 5)), ((1, 2, 6, 9), (0, 0, -2, 8, 0, 0, 7, -1)),
                        ((4, 100), (0, 250, 0, 3)), ((1, 3, 1, 50), (0, 0, 4, 0, 0, 0, 4, 0))):
        fed = rng.integers(0, 99, shape).astype(dtype)
        agrees("Pad", fed, [np.int64(pads)], mode=mode)
        agrees("Pad", fed, [np.int64(pads)], tuple(f"d{i}" for i in range(len(shape))), mode=mode)


def test_repeating():
    rng = np.random.default_rng(2)
    for shape, repeats in (((2, 3, 28, 28), (1, 1, 2, 2)), ((3, 17), (2, 3)), ((2, 5, 3), (1, 4, 2)), ((7,), (5,)),
                           ((2, 1, 64), (1, 12, 1))):
        fed = rng.standard_normal(shape).astype(np.float32)
        agrees("Tile", fed, [np.int64(repeats)])
        agrees("Tile", fed, [np.int64(repeats)], tuple(f"d{i}" for i in range(len(shape))))


def test_means_over_edges():
    rng = np.random.default_rng(3)
    fed = rng.standard_normal((1, 3, 13, 18)).astype(np.float32)
    for more in ({"count_include_pad": 1}, {}, {"ceil_mode": 1, "strides": [2, 3]}):
        for shapes in (None, (1, 3, "h", "w")):
            b = Graph({"": 22})
            x = b.input("x", "float", fed.shape if shapes is None else shapes)
            b.output(b.op("AveragePool", x, kernel_shape=[3, 4], pads=[1, 2, 2, 1], **more), "y")
            model = b.model()
            with gesher.session(model, "compiled", threads=1) as session:
                np.testing.assert_allclose(session.run({"x": fed})["y"], Evaluator(model).run({"x": fed})["y"],
                                           rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 64, 20, 20), (1, 3, 160, 160), (2, 200, 1, 64), (1, 16, 4, 4)])
@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_transpositions_between_steps(shape, perm, dtype):
    b = Graph({"": 22})
    x = b.input("x", gesher.base.dtypes.from_numpy(np.dtype(dtype)), shape)
    moved = b.op("Transpose", b.op("Add", x, np.array(3, dtype)), perm=perm)
    b.output(b.op("Mul", moved, np.array(2, dtype)), "y")
    b.output(b.op("Slice", moved, np.int64([1]), np.int64([3]), np.int64([3])), "part")
    model = b.model()
    fed = np.random.default_rng(3).integers(0, 99, shape).astype(dtype)
    with gesher.session(model, "compiled", threads=1) as session:
        for name, value in session.run({"x": fed}).items():
            np.testing.assert_array_equal(value, Evaluator(model).run({"x": fed})[name])


def test_a_transposition_that_moves_far_is_made_in_blocks():
    def explained(channels):
        b = Graph({"": 22})
        x = b.input("x", gesher.base.dtypes.FLOAT, (1, channels, 64, 64))
        b.output(b.op("Neg", b.op("Transpose", b.op("Neg", x), perm=(0, 2, 3, 1))), "y")
        with gesher.session(b.model(), "compiled", threads=1) as session:
            return session.explain()

    assert "gs_transpose" in explained(64)
    assert "gs_transpose" not in explained(3)


@pytest.mark.parametrize("width", [3, 14, 17, 28, 56, 100, 300])
def test_dear_functions_over_short_and_long_rows(width):
    b = Graph({"": 22})
    x = b.input("x", gesher.base.dtypes.FLOAT, (5, 4, width))
    m = b.input("m", gesher.base.dtypes.FLOAT, (5, 4, 1))
    centred = b.op("Tanh", b.op("Sub", x, m))
    b.output(b.op("Sigmoid", b.op("Transpose", centred, perm=(0, 2, 1))), "moved")
    b.output(b.op("Erf", b.op("Pad", centred, np.int64([0, 0, 2, 0, 1, 1]))), "padded")
    b.output(b.op("Concat", centred, b.op("Exp", x), axis=2), "joined")
    b.output(b.op("Sigmoid", b.op("Slice", x, np.int64([0]), np.int64([999]), np.int64([2]), np.int64([2]))), "taken")
    model = b.model()
    rng = np.random.default_rng(width)
    feeds = {"x": rng.standard_normal((5, 4, width)).astype(np.float32),
             "m": rng.standard_normal((5, 4, 1)).astype(np.float32)}
    expected = Evaluator(model).run(feeds)
    with gesher.session(model, "compiled", threads=1) as session:
        for name, value in session.run(feeds).items():
            np.testing.assert_allclose(value, expected[name], 1e-6, 1e-7, err_msg=name)
