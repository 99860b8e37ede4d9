"""RNN, GRU, LSTM: onnx's cases, ONNX Runtime on random attributes, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.symbolic import sym

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
EACH = {"RNN": 1, "GRU": 2, "LSTM": 3}
ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"]


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("RNN", "GRU", "LSTM")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    names = {(0, 0): "t", (0, 1): "n"}
    if len(case.inputs) > 5 and case.inputs[5] is not None:
        names = {(0, 0): "t"}
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols=names)


def drawn(op: str, rng: np.random.Generator, direction: str, layout: int = 0, dtype: type = np.float32) -> list:
    """All inputs of a node; sequences of 4 steps, a batch of 3, 2 features, 2 hidden."""
    gates, ways, steps, batch = GATES[op], 2 if direction == "bidirectional" else 1, 4, 3

    def reals(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.7).astype(dtype)

    x, state = reals(steps, batch, 2), [reals(ways, batch, 2) for _ in range(2)]
    if layout:
        x, state = x.swapaxes(0, 1), [s.swapaxes(0, 1) for s in state]
    inputs = [x, reals(ways, 2 * gates, 2), reals(ways, 2 * gates, 2), reals(ways, 4 * gates),
              rng.integers(1, steps + 1, batch).astype(np.int32), state[0]]
    return [*inputs, state[1], reals(ways, 6)] if op == "LSTM" else inputs


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("seed", range(24))
def test_agrees_with_onnxruntime(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction = ["forward", "reverse", "bidirectional"][seed % 3]
    ways = 2 if direction == "bidirectional" else 1
    inputs = drawn(op, rng, direction)
    for i in range(3, len(inputs)):
        if rng.random() < 0.3:
            inputs[i] = None
    attributes: dict = {"direction": direction, "hidden_size": 2}
    if rng.random() < 0.5:
        # The defaults of Affine, ScaledTanh and ThresholdedRelu are not told in ONNX Runtime as they are in ONNX.
        attributes["activations"] = [str(a) for a in rng.choice(ACTIVATIONS, EACH[op] * ways)]
        if rng.random() < 0.5:
            with_alpha = sum(a in ("LeakyRelu", "HardSigmoid", "Elu") for a in attributes["activations"])
            with_beta = attributes["activations"].count("HardSigmoid")
            if with_alpha:
                attributes["activation_alpha"] = [float(np.float32(v)) for v in rng.uniform(0.1, 0.6, with_alpha)]
            if with_beta:
                attributes["activation_beta"] = [float(np.float32(v)) for v in rng.uniform(0.1, 0.6, with_beta)]
    if rng.random() < 0.4:
        attributes["clip"] = 0.4
    if op == "LSTM" and rng.random() < 0.3:
        attributes["input_forget"] = 1
    if op == "GRU" and rng.random() < 0.5:
        attributes["linear_before_reset"] = 1
    outputs = [True] * (3 if op == "LSTM" else 2)
    outputs[int(rng.integers(len(outputs)))] = bool(rng.random() < 0.7)
    if not any(outputs[1:]):
        outputs = [True] + [False] * (len(outputs) - 1)
    names = {(0, 0): "t", (0, 1): "n"}
    names |= {(i, 0 if i == 4 else 1): "n" for i in (4, 5, 6) if i < len(inputs) and inputs[i] is not None}
    check(Case(op, int(rng.choice([7, 14])), inputs, attributes, outputs), symbols=names)


@pytest.mark.parametrize(("name", "alpha", "beta", "function"), [
    ("Affine", 0.5, 0.3, lambda x: np.float32(0.5) * x + np.float32(0.3)),
    ("ScaledTanh", 0.5, 0.3, lambda x: np.float32(0.5) * np.tanh(np.float32(0.3) * x)),
    ("ThresholdedRelu", 0.4, None, lambda x: np.where(x >= 0.4, x, 0)),
    ("ThresholdedRelu", None, None, lambda x: np.where(x >= 1, x, 0)),
    ("LeakyRelu", None, None, lambda x: np.where(x >= 0, x, np.float32(0.01) * x)),
])
def test_an_activation_is_what_its_name_says(name: str, alpha: float, beta: float, function: object) -> None:
    x = np.linspace(-2, 2, 9, dtype=np.float32).reshape(1, 9, 1)
    one = np.ones((1, 1, 1), np.float32)
    attributes = {"activations": [name.lower()], "hidden_size": 1}
    attributes |= {} if alpha is None else {"activation_alpha": [alpha]}
    attributes |= {} if beta is None else {"activation_beta": [beta]}
    check(Case("RNN", 22, [x, one, one], attributes), [function(x)[:, None]])  # type: ignore[operator]


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layout_1_swaps_batch_and_time(op: str, direction: str) -> None:
    outputs = 3 if op == "LSTM" else 2
    plain = Case(op, 14, drawn(op, np.random.default_rng(0), direction), {"direction": direction, "hidden_size": 2},
                 outputs).onnxruntime()
    case = Case(op, 14, drawn(op, np.random.default_rng(0), direction, layout=1),
                {"direction": direction, "hidden_size": 2, "layout": 1}, outputs)
    check(case, [plain[0].transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in plain[1:])],
          symbols={(0, 1): "t", (0, 0): "n", (4, 0): "n", (5, 0): "n", **({(6, 0): "n"} if op == "LSTM" else {})})


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_version_1_is_the_same_recurrence(op: str) -> None:
    inputs = drawn(op, np.random.default_rng(1), "forward")
    outputs = 3 if op == "LSTM" else 2
    want = Case(op, 7, inputs, {"hidden_size": 2}, outputs).onnxruntime()
    # The misspelt default direction of GRU 1 is not written here, so that it is the one that holds.
    check(Case(op, 1, inputs, {"hidden_size": 2, "output_sequence": 1}, outputs), want)
    check(Case(op, 1, inputs, {"hidden_size": 2}, [False, True]), [None, want[1]])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_are_rounded_once(dtype: str) -> None:
    kind = np.dtype(dtype)
    inputs = [v if v is None or v.dtype == np.int32 else v.astype(kind) for v in drawn(
        "LSTM", np.random.default_rng(2), "bidirectional")]
    wide = [v if v.dtype == np.int32 else v.astype(np.float64) for v in inputs]
    attributes = {"direction": "bidirectional", "hidden_size": 2}
    want = Case("LSTM", 22, wide, attributes, 3).reference()
    step = 2**-10 if dtype == "float16" else 1e-12
    check(Case("LSTM", 22, inputs, attributes, 3), [w.astype(kind) for w in want], rtol=step, atol=step)


def test_behind_its_end_a_sequence_is_zero_and_its_last_state_stays() -> None:
    one = np.ones((1, 1, 1), np.float32)
    x = np.ones((3, 2, 1), np.float32)
    for direction, want in (("forward", [[1, 2, 3], [1, 0, 0]]), ("reverse", [[3, 2, 1], [1, 0, 0]])):
        case = Case("RNN", 22, [x, one, one, None, np.int32([3, 1])],
                    {"direction": direction, "activations": ["Affine"], "hidden_size": 1}, 2)
        check(case, [np.float32(want).T.reshape(3, 1, 2, 1), np.float32([[[3], [1]]])])


def test_symbolic_sizes_stay_exact_and_meet() -> None:
    inputs = drawn("LSTM", np.random.default_rng(3), "bidirectional")
    facts, known = Case("LSTM", 14, inputs, {"direction": "bidirectional"}, 3).infer(
        {(0, 0): "t", (0, 1): "n", (0, 2): "f", (5, 1): "m"})
    t, n = sym("t"), known.resolve(sym("n"))
    assert [tuple(known.resolve(d) for d in f.shape) for f in facts] == [(t, 2, n, 2), (2, n, 2), (2, n, 2)]
    assert known.resolve(sym("f")) == 2
    assert n == known.resolve(sym("m")) == 3  # initial_c tells it


@pytest.mark.parametrize(("change", "attributes", "what"), [
    ({}, {"direction": "backward"}, "direction cannot be 'backward'"),
    ({}, {"activations": ["Tanh"]}, "3 activations are needed, 1 are written"),
    ({}, {"activations": ["Tanh", "Swish", "Tanh"]}, "there is no activation 'Swish'"),
    ({1: (1, 8, 3)}, {}, "the features of W and of X: 3 and 2 differ"),
    ({1: (1, 6, 2)}, {}, "the rows of W and 4 gates"),
    ({2: (2, 8, 2)}, {}, "R and 1 direction"),
    ({3: (1, 8)}, {}, "the columns of B"),
    ({0: (4, 2)}, {}, "X has 3 axes"),
    ({5: (1, 2, 2)}, {}, "the batch of X and of initial_h"),
    ({}, {"hidden_size": 3}, "R and hidden_size"),
])
def test_shapes_that_do_not_fit_are_refused(change: dict, attributes: dict, what: str) -> None:
    inputs = drawn("LSTM", np.random.default_rng(4), "forward")
    inputs[4] = None
    for i, shape in change.items():
        inputs[i] = np.zeros(shape, np.float32)
    with pytest.raises(ModelError, match=what):
        Case("LSTM", 14, inputs, attributes, 3).infer()
