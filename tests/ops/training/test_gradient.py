"""Gradient: onnx's cases, finite differences over many operators, what is unrolled, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx.backend.test.case.model import collect_testcases

from gesher import ModelError, RunError, UnsupportedError
from gesher.checker import check
from gesher.engines import Options, engine
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir import Model
from gesher.ir.files import from_bytes

TRAINING = "ai.onnx.preview.training"
STEP = 1e-6


def parse(text: str) -> Model:
    return from_bytes(onnx.parser.parse_model(text).SerializeToString())


def model_of(body: str, inputs: dict[str, np.ndarray], xs: list[str], zs: Any = (), *, opset: int = 21,
             extra: str = "") -> Model:
    """A model whose nodes `body` make y, with its gradients by xs as the outputs d_x."""
    def listed(names: Any) -> str:
        return "[" + ", ".join(f'"{n}"' for n in names) + "]"

    kinds = {np.float64: "double", np.int64: "int64", np.bool_: "bool", np.float32: "float", np.float16: "float16"}
    formals = ", ".join(f"{kinds[x.dtype.type]}[{', '.join(map(str, x.shape))}] {n}" for n, x in inputs.items())
    made = ", ".join(f"{kinds[inputs[x].dtype.type]}[{', '.join(map(str, inputs[x].shape))}] d_{x}" for x in xs)
    kind = next(kinds[x.dtype.type] for x in inputs.values() if x.dtype.kind == "f")
    zs_text = f", zs = {listed(zs)}" if zs else ""
    return parse(f'''<ir_version: 10, opset_import: ["" : {opset}, "{TRAINING}" : 1, "f" : 1]>
      g ({formals}) => ({kind}[] total, {made}) {{
        {body}
        total = ReduceSum <keepdims = 0> (y)
        {", ".join(f"d_{x}" for x in xs)} = {TRAINING}.Gradient <xs = {listed(xs)}, y = "y"{zs_text}>
            ({", ".join([*xs, *zs])})
      }} {extra}''')


def agree(body: str, inputs: dict[str, np.ndarray], xs: list[str] | None = None, zs: Any = (), *, opset: int = 21,
          extra: str = "") -> None:
    """Gradients of sum(y) by `xs` (default: all floats) are what central differences say."""
    xs = [n for n, x in inputs.items() if x.dtype.kind == "f" and n not in zs] if xs is None else xs
    zs = [n for n in inputs if n not in xs]
    model = model_of(body, inputs, xs, zs, opset=opset, extra=extra)
    assert not infer(model).findings.errors
    evaluator = Evaluator(model)
    got = evaluator.run(inputs)
    for name in xs:
        x = inputs[name]
        want = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[at] += sign * STEP
                ends.append(float(evaluator.run({**inputs, name: moved}, ["total"])["total"]))
            want[at] = (ends[0] - ends[1]) / (2 * STEP)
        assert got[f"d_{name}"].dtype == x.dtype and got[f"d_{name}"].shape == x.shape
        np.testing.assert_allclose(got[f"d_{name}"], want, rtol=1e-5, atol=1e-6, err_msg=f"d y / d {name}: {body}")


def draw(*shape: int, seed: int = 1, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape)


@pytest.mark.parametrize("case", [c for c in collect_testcases() if "gradient" in c.name], ids=lambda c: c.name)
def test_onnx_cases(case: Any) -> None:
    model = from_bytes(case.model.SerializeToString())
    [(inputs, expected)] = case.data_sets
    feeds = {v.name: x for v, x in zip(model.graph.inputs, inputs)}
    for got, want in zip(Evaluator(model).run(feeds).values(), expected):
        assert got.dtype == want.dtype and np.array_equal(got, want)
    session = engine("compiled").prepare(model, Options())
    for got, want in zip(session.run(feeds).values(), expected):
        assert got.dtype == want.dtype and np.array_equal(got, want)


A, B, I4 = draw(3, 4), draw(4, 2, seed=2), np.eye(4)
IMAGE = draw(2, 4, 6, 5, seed=3)

OPERATORS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "Gemm": ("y = Gemm <alpha = 0.5, transB = 1> (a, b, c)", {"a": A, "b": draw(2, 4), "c": draw(2)}),
    "MatMul": ("y = MatMul (a, b)", {"a": draw(2, 3, 4), "b": B}),
    "Einsum": ('y = Einsum <equation = "ij,jk,k->ik"> (a, b, c)', {"a": A, "b": B, "c": draw(2)}),
    "Conv": ("y = Conv <strides = [2, 1], pads = [1, 0, 0, 1], group = 2> (x, w, b)",
             {"x": IMAGE, "w": draw(4, 2, 3, 2), "b": draw(4)}),
    "ConvTranspose": ("y = ConvTranspose <strides = [2, 1], group = 2> (x, w)",
                      {"x": IMAGE[:1], "w": draw(4, 2, 2, 2)}),
    "MaxPool": ("y = MaxPool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1]> (x)", {"x": IMAGE}),
    "AveragePool": ("y = AveragePool <kernel_shape = [3, 2], pads = [1, 0, 1, 1]> (x)", {"x": IMAGE}),
    "GlobalMaxPool": ("y = GlobalMaxPool (x)", {"x": IMAGE}),
    "BatchNormalization": ("y = BatchNormalization (x, s, b, m, v)", {
        "x": IMAGE, "s": draw(4), "b": draw(4), "m": draw(4), "v": draw(4, low=0.5, high=2)}),
    "LayerNormalization": ("h = LayerNormalization <stash_type = 11> (x, s, b) y = Mul (h, h)",
                           {"x": A, "s": draw(4), "b": draw(4)}),
    "InstanceNormalization": ("h = InstanceNormalization (x, s, b) y = Mul (h, x)",
                              {"x": IMAGE, "s": draw(4), "b": draw(4)}),
    "LRN": ("y = LRN <size = 3, alpha = 0.5> (x)", {"x": IMAGE[:, :, :2, :2]}),
    "Softmax": ("h = Softmax (x) y = Mul (h, w)", {"x": A, "w": draw(3, 4, seed=7)}),
    "LogSoftmax": ("h = LogSoftmax <axis = 0> (x) y = Mul (h, w)", {"x": A, "w": draw(3, 4, seed=7)}),
    "Gelu": ("y = Gelu (x)", {"x": A}), "Elu": ("y = Elu (x)", {"x": A}), "Selu": ("y = Selu (x)", {"x": A}),
    "Mish": ("y = Mish (x)", {"x": A}), "HardSwish": ("y = HardSwish (x)", {"x": A}),
    "Softplus": ("y = Softplus (x)", {"x": A}), "LeakyRelu": ("y = LeakyRelu (x)", {"x": A}),
    "PRelu": ("y = PRelu (x, s)", {"x": A, "s": draw(4)}), "Celu": ("y = HardSigmoid (x)", {"x": A}),
    "Relu": ("y = Relu (x)", {"x": A}), "Tanh": ("y = Tanh (x)", {"x": A}), "Erf": ("y = Erf (x)", {"x": A}),
    "Clip": ("l = Constant <value = double {-0.5}> () h = Constant <value = double {0.5}> () y = Clip (x, l, h)",
             {"x": A}),
    "Pow": ("y = Pow (x, e)", {"x": draw(3, low=0.5, high=2), "e": draw(3, seed=5)}),
    "Div": ("y = Div (a, b)", {"a": A, "b": draw(4, low=0.5)}),
    "Where": ("c = Less (a, b) y = Where (c, a, b)", {"a": A, "b": draw(3, 4, seed=5)}),
    "Max": ("y = Max (a, b, c)", {"a": A, "b": draw(3, 4, seed=5), "c": draw(3, 4, seed=6)}),
    "ReduceMean": ("h = ReduceMean <keepdims = 1> (x) y = Mul (h, x)", {"x": A}),
    "ReduceL2": ("y = ReduceL2 (x)", {"x": A}), "ReduceProd": ("y = ReduceProd (x)", {"x": A}),
    "ReduceLogSumExp": ("y = ReduceLogSumExp (x)", {"x": A}), "ReduceMax": ("y = ReduceMax (x)", {"x": A}),
    "CumSum": ("i = Constant <value = int64 {1}> () h = CumSum <exclusive = 1> (x, i) y = Mul (h, x)", {"x": A}),
    "Concat": ("h = Concat <axis = 0> (a, b) y = Mul (h, h)", {"a": A, "b": draw(2, 4)}),
    "Split": ("h, r = Split <axis = 1, num_outputs = 2> (x) y = Mul (h, r)", {"x": A}),
    "Transpose": ("h = Transpose (a) y = MatMul (h, a)", {"a": A}),
    "Reshape": ("s = Constant <value_ints = [2, -1]> () h = Reshape (x, s) y = Mul (h, h)", {"x": A}),
    "Reshape by a shape": ("s = Shape (b) h = Reshape (x, s) y = MatMul (h, h)", {"x": A[:, :3], "b": draw(3, 3)}),
    "Expand": ("s = Constant <value_ints = [2, 3, 4]> () h = Expand (x, s) y = Mul (h, h)", {"x": draw(3, 1)}),
    "Tile": ("s = Constant <value_ints = [2, 3]> () h = Tile (x, s) y = Mul (h, h)", {"x": A}),
    "Pad": ("p = Constant <value_ints = [1, 0, 0, 2]> () h = Pad <mode = \"reflect\"> (x, p) y = Mul (h, h)", {"x": A}),
    "Slice": ("s = Constant <value_ints = [-1, 0]> () e = Constant <value_ints = [-10, 4]> () "
              "a = Constant <value_ints = [0, 1]> () t = Constant <value_ints = [-2, 3]> () "
              "h = Slice (x, s, e, a, t) y = Mul (h, h)", {"x": A}),
    "Gather": ("h = Gather <axis = 1> (x, i) y = Mul (h, h)", {"x": A, "i": np.array([[3, 0], [0, -1]])}),
    "GatherElements": ("h = GatherElements <axis = 0> (x, i) y = Mul (h, h)", {"x": A, "i": np.array([[2, 0, 1, 2]])}),
    "GatherND": ("h = GatherND (x, i) y = Mul (h, h)", {"x": A, "i": np.array([[0, 1], [2, 3], [0, 1]])}),
    "ScatterElements": ("h = ScatterElements <axis = 1, reduction = \"add\"> (x, i, u) y = Mul (h, h)",
                        {"x": A, "i": np.array([[0, 0], [3, 1]]), "u": draw(2, 2)}),
    "ScatterND": ("h = ScatterND (x, i, u) y = Mul (h, h)", {"x": A, "i": np.array([[0], [2]]), "u": draw(2, 4)}),
    "TopK": ("k = Constant <value_ints = [2]> () h, i = TopK (x, k) y = Mul (h, h)", {"x": A}),
    "Resize": ("s = Constant <value = float[4] {1, 1, 2, 1.5}> () h = Resize <mode = \"linear\"> (x, , s) "
               "y = Mul (h, h)", {"x": IMAGE[:1, :1]}),
    "DepthToSpace": ("h = DepthToSpace <blocksize = 2> (x) y = Mul (h, h)", {"x": IMAGE}),
    "LSTM": ("h = LSTM <hidden_size = 2> (x, w, r, b) y = Mul (h, h)", {
        "x": draw(3, 1, 2), "w": draw(1, 8, 2, seed=2), "r": draw(1, 8, 2, seed=3), "b": draw(1, 16, seed=4)}),
    "GRU": ("h = GRU <hidden_size = 2, linear_before_reset = 1> (x, w, r) y = Mul (h, h)", {
        "x": draw(3, 1, 2), "w": draw(1, 6, 2, seed=2), "r": draw(1, 6, 2, seed=3)}),
    "SoftmaxCrossEntropyLoss": ("y = SoftmaxCrossEntropyLoss (x, t)", {"x": A, "t": np.array([3, 0, 1])}),
    "Det": ("y = Det (x)", {"x": draw(2, 3, 3, seed=12)}),
    "Trilu": ("h = Trilu (x) y = Mul (h, h)", {"x": A}),
    "NonZero beside": ("n = NonZero (m) h = Gather (x, n) y = Mul (h, h)", {"x": draw(4), "m": np.array([1, 0, 1, 1])}),
    "Cast": ("f = Cast <to = 11> (n) y = Mul (x, f)", {"x": draw(3), "n": np.array([1, 2, 3])}),
}


@pytest.mark.parametrize("operator", list(OPERATORS))
def test_operators_against_differences(operator: str) -> None:
    body, inputs = OPERATORS[operator]
    agree(body, inputs)


def test_attention_and_rotary_embedding() -> None:
    agree("y = Attention (q, k, v)", {"q": draw(1, 2, 3, 2), "k": draw(1, 2, 4, 2, seed=2),
                                      "v": draw(1, 2, 4, 2, seed=3)}, opset=23)


# Graphs in nodes

@pytest.mark.parametrize("taken", [True, False])
def test_an_if_is_followed_into_the_branch_that_is_taken(taken: bool) -> None:
    agree('''y = If (c) <then_branch = t () => (double[] p) { p = Mul (x, x) },
                         else_branch = e () => (double[] q) { h = Exp (x) q = Mul (h, w) }>''',
          {"x": draw(3), "w": draw(3, seed=2), "c": np.array(taken)})


def test_a_condition_may_hang_on_x() -> None:
    body = '''s = ReduceSum <keepdims = 0> (x) z = Constant <value = double {0}> () c = Less (s, z)
              y = If (c) <then_branch = t () => (double[] p) { p = Mul (x, x) },
                          else_branch = e () => (double[] q) { q = Exp (x) }>'''
    for sign in (1.0, -1.0):
        agree(body, {"x": sign * np.abs(draw(3))})


LOOP = '''a, y = Loop (m, c, x) <body = b (int64 i, bool go, double[3] s) => (bool on, double[3] n, double[3] o) {
              f = Cast <to = 11> (i) h = Mul (s, w) n = Sin (h) o = Mul (n, f) t = ReduceSum <keepdims = 0> (n)
              on = Greater (t, low) }>'''


@pytest.mark.parametrize(("turns", "low"), [(3, -100.0), (1, -100.0), (5, 0.4)])
def test_loops_are_unrolled_by_count_and_by_condition(turns: int, low: float) -> None:
    agree(LOOP, {"x": np.array([0.5, 0.8, 0.9]), "w": np.array([1.1, 0.7, 0.9]), "m": np.array(turns),
                 "c": np.array(True), "low": np.array(low)}, zs=("low",))


def test_a_loop_without_a_turn_lets_nothing_through_its_stack() -> None:
    agree(LOOP, {"x": draw(3), "w": draw(3), "m": np.array(0), "c": np.array(True), "low": np.array(0.0)}, zs=("low",))


def test_scans_are_unrolled() -> None:
    agree('''a, b = Scan <num_scan_inputs = 2, scan_input_directions = [0, 1], scan_input_axes = [0, 1],
                          scan_output_axes = [1], scan_output_directions = [1],
                          body = g (double[2] s, double[2] p, double[2] q) => (double[2] n, double[2] o) {
                h = Mul (s, w) k = Mul (p, q) n = Add (h, k) o = Tanh (n) }> (x, u, v)
             e = Expand (a, shape) z = Transpose (b) y = Mul (z, e)''',
          {"x": draw(2), "u": draw(3, 2, seed=2), "v": draw(2, 3, seed=3), "w": draw(2, seed=4),
           "shape": np.array([3, 2])})


def test_an_if_within_a_loop_within_a_scan() -> None:
    """In each turn another branch may be taken; both read what lies outside of all three."""
    agree('''a, b = Scan <num_scan_inputs = 1, body = g (double[2] s, double[2] p) => (double[2] n, double[2] o) {
                  n = Loop (m, c, s) <body = l (int64 i, bool go, double[2] r) => (bool on, double[2] e) {
                      h = Add (r, p) t = ReduceSum <keepdims = 0> (h) high = Greater (t, low)
                      e = If (high) <then_branch = f () => (double[] x1) { x1 = Mul (h, w) },
                                     else_branch = k () => (double[] x2) { x3 = Mul (w, w) x2 = Sub (h, x3) }>
                      on = Identity (go) }>
                  o = Mul (n, w) }> (x, u)
             z = ReduceSum <keepdims = 0> (b) y = Mul (a, z)''',
          {"x": np.array([0.3, -0.2]), "u": np.array([[0.5, 0.1], [-0.9, -0.4], [0.2, 0.7]]),
           "w": np.array([0.8, -0.6]), "m": np.array(3), "c": np.array(True), "low": np.array(0.1)}, zs=("low",))


def test_functions_are_followed_with_their_attributes() -> None:
    agree("h = f.scaled <by = 3> (x, w) k = f.scaled (h, w) y = Mul (k, x)", {"x": draw(3), "w": draw(3, seed=2)},
          extra='''<domain: "f", opset_import: ["" : 21]> scaled <by: int = 2> (a, b) => (c) {
                     n = Constant <value_int: int = @by> () f = Cast <to = 11> (n) s = Mul (a, b) c = Pow (s, f) }''')


# What the text says

def test_intermediate_values_may_be_independent_and_get_values_of_their_own() -> None:
    """y = h w with h = x + 1; at h = 10 and w = 3, whatever x is: dy/dh = 3, dy/dw = 10."""
    model = parse(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (float x, float w, float at) => (float y, float dh, float dw) {{
        one = Constant <value = float {{1}}> () h = Add (x, one) y = Mul (h, w)
        dh, dw = {TRAINING}.Gradient <xs = ["h", "w"], y = "y"> (at, w) }}''')
    y, dh, dw = (float(v) for v in Evaluator(model).run({"x": 1.0, "w": 3.0, "at": 10.0}).values())
    assert (y, dh, dw) == (6.0, 3.0, 10.0)


SECOND = f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (double[2] w, double[2] x) => (double[2] first, double[2] second, double[2] mixed) {{
        p = Mul (w, x) y = Mul (p, p) o = Mul (y, w)
        first = {TRAINING}.Gradient <xs = ["w"], zs = ["x"], y = "o"> (w, x)
        second, mixed = {TRAINING}.Gradient <xs = ["w", "x"], y = "first"> (w, x) }}'''


def test_gradients_of_gradients() -> None:
    """o = w^3 x^2: 3 w^2 x^2, then 6 w x^2 and 6 w^2 x, on both engines."""
    w, x = np.array([2.0, -1.0]), np.array([3.0, 0.5])
    model = parse(SECOND)
    for got in (Evaluator(model).run({"w": w, "x": x}),
                engine("compiled").prepare(model, Options()).run({"w": w, "x": x})):
        np.testing.assert_allclose(got["first"], 3 * w**2 * x**2)
        np.testing.assert_allclose(got["second"], 6 * w * x**2)
        np.testing.assert_allclose(got["mixed"], 6 * w**2 * x)


def test_outputs_may_be_left_out_and_what_y_hangs_not_on_has_zeros() -> None:
    proto = onnx.parser.parse_model(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (int64[2] a, float[2] b, float[3] c) => (float[2] db, float[3] dc) {{
        f = Cast <to = 1> (a) y = Mul (f, b)
        none, db, dc = {TRAINING}.Gradient <xs = ["a", "b", "c"], y = "y"> (a, b, c) }}''')
    proto.graph.node[-1].output[0] = ""
    got = Evaluator(from_bytes(proto.SerializeToString())).run({
        "a": np.array([1, 2]), "b": np.float32([3, 4]), "c": np.zeros(3, np.float32)})
    assert got["db"].tolist() == [1, 2] and got["dc"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type(dtype: Any) -> None:
    x = np.array([0.5, 2.0], dtype)
    model = model_of("y = Mul (x, x)", {"x": x}, ["x"])
    got = Evaluator(model).run({"x": x})["d_x"]
    assert got.dtype == dtype and got.tolist() == [1.0, 4.0]


# The compiled engine

COMPILED = ["Gemm", "Conv", "MaxPool", "LayerNormalization", "Softmax", "Gather", "LSTM", "Slice", "Reshape by a shape"]


@pytest.mark.parametrize("operator", COMPILED)
def test_compiled_gradients_are_those_of_the_reference(operator: str) -> None:
    body, inputs = OPERATORS[operator]
    xs = [n for n, x in inputs.items() if x.dtype.kind == "f"]
    model = model_of(body, inputs, xs, [n for n in inputs if n not in xs])
    session: Any = engine("compiled").prepare(model, Options())
    got, want = session.run(inputs), Evaluator(model).run(inputs)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-10, atol=1e-12)
    assert "Gradient" not in session.explain(), "it ran by the reference rule"


@pytest.mark.parametrize(("feeds", "xs", "inputs"), [
    ("a, a", '"a", "b"', "float[2] a, float[2] b"), ("a, k", '"a", "b"', "float[2] a, float[2] b")])
def test_inputs_that_are_the_same_stay_apart(feeds: str, xs: str, inputs: str) -> None:
    """y = a^2 b at a = b: dy/da = 2 a b and dy/db = a^2, though one value (or a constant) is given for both."""
    model = parse(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g ({inputs}) => (float[2] da, float[2] db) {{
        k = Constant <value = float[2] {{3, 3}}> () s = Mul (a, a) t = Mul (s, b) u = Mul (t, k) y = Div (u, k)
        da, db = {TRAINING}.Gradient <xs = [{xs}], y = "y"> ({feeds}) }}''')
    a = np.float32([3, 3])
    for got in (Evaluator(model).run({"a": a, "b": a}),
                engine("compiled").prepare(model, Options()).run({"a": a, "b": a})):
        assert got["da"].tolist() == [18, 18] and got["db"].tolist() == [9, 9]


# What is refused

def refused(body: str, attributes: str, given: str, error: Any, match: str, made: str = "d") -> None:
    model = parse(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (float[2] a, float[2] b, int64[2] n) => (float[2] d) {{
        {body} {made} = {TRAINING}.Gradient <{attributes}> ({given}) }}''')
    feeds = {"a": np.float32([1, 2]), "b": np.float32([3, 4]), "n": np.array([0, 1])}
    with pytest.raises(error, match=match):
        Evaluator(model).run(feeds)


@pytest.mark.parametrize(("attributes", "given", "match"), [
    ('xs = ["a"], y = "y"', "a", "hangs on 'b'"), ('xs = ["a", "b"], y = "q"', "a, b", "no value 'q'"),
    ('xs = ["a", "a"], y = "y"', "a, a", "comes twice"), ('xs = ["a", "b"], y = "d"', "a, b", "the gradient itself"),
    ('xs = ["a"], zs = ["b"], y = "y"', "a", "name 2 values, 1 are given"),
    ('xs = ["n"], zs = ["a", "b"], y = "y"', "n, a, b", "'n' is int64"),
    ('xs = ["a"], zs = ["b"], y = "i"', "a, b", "holds no floats")])
def test_attributes_that_make_no_sense_are_refused(attributes: str, given: str, match: str) -> None:
    refused("y = Mul (a, b) i = ArgMax <keepdims = 0> (y)", attributes, given, (ModelError, RunError), match)


def test_inference_tells_before_anything_runs() -> None:
    model = parse(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (float[2] a, float[2] b) => (float[2] d) {{
        y = Mul (a, b) d = {TRAINING}.Gradient <xs = ["a"], y = "y"> (a) }}''')
    [finding] = infer(model).findings.errors
    assert "hangs on 'b', which is neither in xs nor in zs" in finding.message


def test_what_y_needs_is_not_called_dead() -> None:
    model = parse(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (float[2] a, float[2] b) => (float[2] d) {{
        h = Mul (a, b) y = Mul (h, a) idle = Add (a, b)
        d = {TRAINING}.Gradient <xs = ["a"], zs = ["b"], y = "y"> (a, b) }}''')
    assert [f.message for f in check(model)] == ["nothing that node that makes 'idle' (Add) makes leads to an output"]


def test_what_has_no_gradient_is_told() -> None:
    refused("s = SequenceConstruct (a) z = Constant <value = int64 {0}> () y = SequenceAt (s, z)",
            'xs = ["a"], y = "y"', "a", UnsupportedError, "SequenceConstruct is no expression")
    refused("r = RandomNormalLike (a) y = Mul (a, r)", 'xs = ["a"], y = "y"', "a", UnsupportedError, "random numbers")


def test_seeded_random_numbers_are_the_same_again() -> None:
    model = parse(f'''<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
      g (float[4] a) => (float[4] r, float[4] d) {{
        r = RandomNormalLike <seed = 3.0> (a) y = Mul (a, r)
        d = {TRAINING}.Gradient <xs = ["a"], y = "y"> (a) }}''')
    got = Evaluator(model).run({"a": np.ones(4, np.float32)})
    assert got["d"].tolist() == got["r"].tolist()
