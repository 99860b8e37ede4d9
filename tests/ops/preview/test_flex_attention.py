"""FlexAttention: against Attention where they are the same, and with graphs in it."""

from typing import Any

import numpy as np
import onnx.parser
import pytest
from tests.ops.single_node import Case, check, close

from gesher import ModelError
from gesher.base import dtypes
from gesher.engines import Options, engine
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir.files import from_bytes

PREVIEW = "ai.onnx.preview"


def qkv(heads: int = 4, shared: int = 2, dtype: Any = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = (2, heads, 5, 8), (2, shared, 6, 8), (2, shared, 6, 3)
    return [rng.normal(0, 1, s).astype(dtype) for s in shapes]


def flex(arrays: list[np.ndarray], **attributes: Any) -> Case:
    return Case("FlexAttention", 26, arrays, attributes, 1, domain=PREVIEW)


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, dtypes.BFLOAT16.numpy])
def test_without_graphs_it_is_attention(heads: int, shared: int, scale: float | None, dtype: Any) -> None:
    arrays = qkv(heads, shared, dtype)
    a = {} if scale is None else {"scale": scale}
    [want] = Case("Attention", 25, arrays, {**a, "softmax_precision": 1}, 1).reference()
    # Attention rounds its scores to Q's type once more; a step of the type there is a few in the result.
    step = {2: 2e-3 if dtype is np.float16 else 2e-2}.get(np.dtype(dtype).itemsize, 1e-5)
    got = flex(arrays, **a)
    check(got, "nobody", rtol=step, atol=step, symbols={(0, 0): "b", (1, 0): "b", (2, 0): "b", (0, 2): "n"})
    close(got.reference()[0], want, step, step, "Attention")


@pytest.mark.parametrize("precision", [1, 10, 11, 16])
def test_the_softmax_may_be_computed_in_any_float(precision: int) -> None:
    exact = flex(qkv()).reference()[0]
    step = {1: 1e-6, 11: 1e-6, 10: 2e-3, 16: 2e-2}[precision]
    got = flex(qkv(), softmax_precision=precision)
    check(got, "nobody", rtol=step, atol=step)
    np.testing.assert_allclose(got.reference()[0], exact, step, step)
    with pytest.raises(ModelError, match="is no float type"):
        flex(qkv(), softmax_precision=7).reference()


def modified(body: str, attribute: str = "score_mod", kind: str = "float") -> Any:
    text = f'''<ir_version: 10, opset_import: ["" : 21, "{PREVIEW}" : 1]>
      g (float[2,4,5,8] q, float[2,4,6,8] k, float[2,4,6,3] v, float bias) => (float[B,H,L,E] y) {{
        y = {PREVIEW}.FlexAttention <{attribute} = m ({kind}[b,h,l,s] scores) => ({kind}[b,h,l,s] out) {{ {body} }}>
            (q, k, v)
      }}'''
    return from_bytes(onnx.parser.parse_model(text).SerializeToString())


def test_a_graph_may_capture_from_around_it() -> None:
    model = modified("out = Mul (scores, bias)")
    q, k, v = qkv(4, 4)
    [y] = Evaluator(model).run({"q": q, "k": k, "v": v, "bias": np.float32(0.5)}).values()
    want = flex([q, k, v], scale=float(0.5 / np.sqrt(8))).reference()[0]
    np.testing.assert_allclose(y, want, 1e-5, 1e-6)
    assert infer(model)[model.graph.outputs[0]].shape == (2, 4, 5, 3)


def test_probabilities_pass_through_their_graph() -> None:
    model = modified("out = Add (scores, scores)", "prob_mod")
    q, k, v = qkv(4, 4)
    [y] = Evaluator(model).run({"q": q, "k": k, "v": v, "bias": np.float32(0)}).values()
    np.testing.assert_allclose(y, 2 * flex([q, k, v]).reference()[0], 1e-5, 1e-6)


@pytest.mark.parametrize("attribute", ["score_mod", "prob_mod"])
def test_graphs_that_capture_nothing_are_compiled(attribute: str) -> None:
    """A causal mask (of probabilities too, where it is zeros): the compiled engine runs no node by its reference."""
    fill = "-inf" if attribute == "score_mod" else "0"
    model = modified(f"""s = Shape (scores) l = Constant <value_ints = [2]> () c = Gather (s, l) z = Constant
        <value = int64 {{0}}> () o = Constant <value = int64 {{1}}> () cs = Squeeze (c) r = Range (z, cs, o)
        k = Constant <value_ints = [0, 1, 2, 3, 4, 5]> () col = Constant <value_ints = [-1, 1]> ()
        q = Reshape (r, col) m = GreaterOrEqual (q, k) f = Constant <value = float {{{fill}}}> ()
        out = Where (m, scores, f)""", attribute)
    feeds = dict(zip("qkv", qkv(4, 4))) | {"bias": np.float32(0)}
    session: Any = engine("compiled").prepare(model, Options())
    np.testing.assert_allclose(session.run(feeds)["y"], Evaluator(model).run(feeds)["y"], 1e-5, 1e-6)
    assert ", 0 by reference rules" in session.explain()


def test_a_graph_that_changes_the_scores_shape_or_type_is_refused() -> None:
    feeds = dict(zip("qkv", qkv(4, 4))) | {"bias": np.float32(0)}
    with pytest.raises(ModelError, match=r"score_mod makes"):
        Evaluator(modified("c = Constant <value_int = 1> () out = ArgMax (scores)")).run(feeds)


def test_heads_must_divide_and_axes_be_four() -> None:
    with pytest.raises(ModelError, match="evenly"):
        flex(qkv(3, 2)).reference()
    with pytest.raises(ModelError, match="evenly"):
        flex(qkv(3, 2)).infer()
    with pytest.raises(ModelError, match="4 axes"):
        flex([q[0] for q in qkv()]).infer()
