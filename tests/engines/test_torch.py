"""PyTorch as an engine: ONNX's conformance cases, real models, gradients, training, and the way there and back."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.suites.conformance import GROUPS, Case, Engine, cases, gaps, hold
from tests.suites.real import SIZES
from tests.suites.real import cases as real_cases
from tests.suites.real import hold as hold_real
from torch import nn

import gesher
from gesher.base import dtypes
from gesher.base.dtypes import BOOL, DOUBLE, FLOAT, FLOAT8E4M3FN, INT4, INT64, UINT16
from gesher.base.errors import GesherError
from gesher.codec import encode
from gesher.codec.text.parser import parse_model
from gesher.engines.protocol import Options
from gesher.engines.torch import TorchEngine
from gesher.engines.torch.maps import MAPS as TORCH_MAPS
from gesher.ir.files import from_bytes
from gesher.ops.build import Builder
from gesher.primitives.table import MAPS, takes

GAPS = gaps(Path(__file__).parents[1] / "suites" / "gaps_torch.txt")
ENGINE = TorchEngine()
SAMPLED = 250

torch.set_num_threads(1)    # small tensors: more only wait for each other


def engine(model: Any, seed: int) -> Any:
    return ENGINE.prepare(model, Options(threads=1, seed=seed)).run


def conform(case: Case, run: Engine) -> None:
    """Hold a case to the suite, or to its line in the list of gaps."""
    if str(case) not in GAPS:
        hold(case, run)
        return
    with pytest.raises((AssertionError, GesherError)):
        hold(case, run)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_conforms(group: str, run_all: bool) -> None:
    found = [c for c in cases() if c.group == group]
    if not run_all:
        # The real models cost seconds each.
        share = 0 if group == "real" else max(20, SAMPLED * len(found) // len(cases()))
        found = random.Random(20260).sample(found, min(share, len(found)))
    failed = []
    for case in found:
        try:
            conform(case, engine)
        except (AssertionError, GesherError, pytest.fail.Exception) as e:
            failed.append(f"{case}: {str(e).strip()[:600]}")
    assert not failed, "\n".join(failed)


def test_gaps_name_cases_that_exist_and_say_why() -> None:
    assert set(GAPS) <= {str(c) for c in cases()} and all(len(why) > 10 for why in GAPS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(c.name for c in real_cases()))
def test_real_models_agree_with_onnxruntime(name: str, run_all: bool) -> None:
    case = next(c for c in real_cases() if c.name == name)
    run = engine(gesher.load(case.path), 0)
    for size in SIZES if run_all else SIZES[:1]:
        hold_real(case, size, run)


def test_every_map_has_its_pytorch() -> None:
    """The same rows as the primitives' table, and the same answers where PyTorch's own would differ."""
    assert set(TORCH_MAPS) == set(MAPS)
    edges = {"f": [0.0, -0.0, 1.5, -1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 0.25],
             "i": [0, 1, -1, 2, -7, 127, -128, 5, 3, -3]}
    for kind, names in (("f", ("float32", "float64")), ("i", ("int8", "int32", "int64", "uint8"))):
        for dtype in names:
            a, b = (g.reshape(-1) for g in np.meshgrid(*[np.array(edges[kind]).astype(dtype)] * 2))
            for name, row in MAPS.items():
                if not takes(row, dtypes.from_numpy(dtype)):
                    continue
                args = (a, b)[:row.arity]
                with np.errstate(all="ignore"):
                    want = np.asarray(row.numpy(*args))
                got = TORCH_MAPS[name](*(torch.from_numpy(x) for x in args)).numpy()
                # mod of an infinity is told differently by C libraries; nobody asks for it.
                fine = np.isfinite(a) & np.isfinite(b) if name in ("mod", "fmod") and kind == "f" else slice(None)
                np.testing.assert_allclose(got[fine].astype(want.dtype), want[fine], 1e-6, 1e-7, err_msg=name)


def double_model(make: Any, *shapes: tuple[int, ...], opset: int = 21) -> gesher.Model:
    """A model of float64 inputs `x0`, `x1` ... with the one output `y`."""
    b = Builder({"": opset})
    b.output(make(b, *(b.input(f"x{i}", DOUBLE, s) for i, s in enumerate(shapes))), "y")
    return b.model()


def mask(*kept: int) -> Any:
    return np.array(kept, bool)


GRADIENTS: dict[str, tuple[Any, tuple[tuple[int, ...], ...]]] = {
    "matmul of broadcast batches": (lambda b, x, y: b.MatMul(x, y), ((2, 1, 3, 4), (5, 4, 2))),
    "gemm": (lambda b, x, y, z: b.Gemm(x, y, z, transB=1, alpha=0.5), ((3, 4), (2, 4), (2,))),
    "convolution with uneven pads": (
        lambda b, x, w: b.Conv(x, w, pads=[0, 1, 2, 1], strides=[2, 1], group=2), ((1, 2, 4, 4), (2, 1, 3, 2))),
    "transposed convolution": (
        lambda b, x, w: b.ConvTranspose(x, w, strides=[2, 2], output_padding=[1, 0], pads=[1, 0, 0, 1]),
        ((1, 2, 2, 3), (2, 2, 3, 2))),
    "average pool": (lambda b, x: b.AveragePool(x, kernel_shape=[2, 3], pads=[1, 1, 0, 1], ceil_mode=1),
                     ((1, 2, 5, 6),)),
    "largest pool": (lambda b, x: b.MaxPool(x, kernel_shape=[2, 2], dilations=[2, 1], strides=[1, 2]), ((1, 2, 5, 6),)),
    "softmax": (lambda b, x: b.Softmax(x, axis=1), ((2, 5, 3),)),
    "layer norm": (lambda b, x, s, t: b.LayerNormalization(x, s, t, axis=-1, stash_type=11), ((4, 6), (6,), (6,))),
    "batch norm": (lambda b, x, s, t: b.BatchNormalization(x, s, t, np.full(3, 0.1), np.full(3, 2.0)),
                   ((2, 3, 4), (3,), (3,))),
    "instance norm": (lambda b, x, s, t: b.InstanceNormalization(x, s, t), ((2, 3, 5), (3,), (3,))),
    "attention": (lambda b, q, k, v: b.Attention(q, k, v, is_causal=1), ((1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 3))),
    "lstm": (lambda b, x, w, r: b.LSTM(x, w, r, hidden_size=2), ((3, 1, 4), (1, 8, 4), (1, 8, 2))),
    "gru both ways": (lambda b, x, w, r: b.GRU(x, w, r, hidden_size=2, direction="bidirectional"),
                      ((3, 1, 4), (2, 6, 4), (2, 6, 2))),
    "resize": (lambda b, x: b.Resize(x, None, [1.0, 1.0, 1.5, 2.0], mode="cubic"), ((1, 1, 4, 3),)),
    "grid sample": (lambda b, x, g: b.GridSample(x, b.Tanh(g), mode="linear"), ((1, 1, 4, 4), (1, 2, 3, 2))),
    "gather and scatter": (lambda b, x, u: b.ScatterElements(
        b.Gather(x, np.array([2, 0, 2]), axis=0), np.array([[1, 1], [0, 2], [2, 0]]), u, axis=0),
        ((3, 2), (3, 2))),
    "scatter where the last of equal places wins": (
        lambda b, x, u: b.ScatterND(x, np.array([[1], [1], [0]]), u), ((3, 2), (3, 2))),
    "scatter that multiplies": (
        lambda b, x, u: b.ScatterND(x, np.array([[1], [1], [0]]), u, reduction="mul"), ((3, 2), (3, 2))),
    "compress": (lambda b, x: b.Compress(x, mask(1, 0, 1), axis=0), ((3, 2),)),
    "top k": (lambda b, x: b.TopK(x, np.array([2]), axis=-1, outputs=2)[0], ((3, 5),)),
    "cumulative sum": (lambda b, x: b.CumSum(x, np.array(1), exclusive=1, reverse=1), ((2, 4),)),
    "products": (lambda b, x: b.ReduceProd(x, np.array([0, 1])), ((2, 3),)),
    "slices backward": (lambda b, x: b.Slice(x, np.array([4]), np.array([-9]), np.array([1]), np.array([-2])),
                        ((2, 6),)),
    "einsum": (lambda b, x, y: b.Einsum(x, y, equation="bij,bkj->bik"), ((2, 3, 4), (2, 2, 4))),
    "determinant": (lambda b, x: b.Det(x), ((2, 3, 3),)),
    "gelu": (lambda b, x: b.Gelu(x, approximate="tanh"), ((2, 3),)),
    "losses": (lambda b, x: b.SoftmaxCrossEntropyLoss(x, np.array([1, 0]), reduction="mean"), ((2, 3),)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_small_steps(name: str) -> None:
    make, shapes = GRADIENTS[name]
    module = gesher.to_torch(double_model(make, *shapes, opset=23))
    generator = torch.Generator().manual_seed(1)
    xs = tuple(torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes)
    assert torch.autograd.gradcheck(module, xs, eps=1e-6, atol=1e-4)


NESTED = """
    <ir_version: 8, opset_import: ["": 18]>
    main (double[n,3] x) => (double[3] y, seq(double[k,3]) s, double[n,3] z) {
      zero = Constant <value = int64[1] {0}> ()
      three = Constant <value_int = 3> ()
      true = Constant <value = bool {1}> ()
      start = ReduceSum <keepdims = 0> (x, zero)
      y = Loop (three, true, start) <body = turn (int64 i, bool c, double[3] a) => (bool d, double[3] b) {
        two = Constant <value_int = 2> ()
        late = Equal (i, two)
        d = Identity (c)
        b = If (late) <then_branch = yes () => (double[3] p) { p = Mul (a, start) },
                       else_branch = no () => (double[3] q) { q = Add (a, start) }>
      }>
      s = SplitToSequence <axis = 0> (x)
      last, z = Scan <num_scan_inputs = 1, body = step (double[3] h, double[3] r) => (double[3] g, double[3] o) {
        g = Add (h, r)
        o = Mul (g, g)
      }> (start, x)
    }"""


def test_gradients_pass_through_branches_loops_scans_and_sequences() -> None:
    module = gesher.to_torch(from_bytes(encode(parse_model(NESTED))))
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)

    def all_of(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = module.run({"x": x})
        return found["y"], *found["s"], found["z"]

    assert len(all_of(x)) == 6 and torch.autograd.gradcheck(all_of, (x,))
    torch.testing.assert_close(all_of(x)[0], 3 * x.sum(0) ** 2)


def test_a_way_without_gradient_is_an_error_not_a_zero() -> None:
    b = Builder({"": 21})
    x = b.input("x", FLOAT, (4,))
    b.output(b.Unique(x), "y")
    module = gesher.to_torch(b.model())
    x = torch.tensor([3.0, 1.0, 3.0, 2.0], requires_grad=True)
    y = module(x)
    assert y.tolist() == [1, 2, 3]
    with pytest.raises(gesher.UnsupportedError, match="Unique has no gradient"):
        y.sum().backward()
    with torch.no_grad():
        assert not module(x).requires_grad


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                         nn.Flatten(), nn.Linear(16, 3)).eval()


def test_fine_tuning_lowers_the_loss_and_the_trained_model_keeps_it() -> None:
    source = net()
    module = gesher.to_torch(gesher.export(source, torch.randn(8, 1, 6, 6), dynamic=True, fold=False))
    names = {n for n, _ in source.named_parameters()}
    assert {n for n, _ in module.named_parameters()} == names
    x, target = torch.randn(16, 1, 6, 6), torch.randint(0, 3, (16,))
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    model = module.trained_model()
    with gesher.session(model, "reference") as session, torch.no_grad():
        [got] = session.run({p.name: x.numpy() for p in session.inputs}).values()
        np.testing.assert_allclose(got, module(x).numpy(), rtol=1e-3, atol=1e-4)
    source.load_state_dict(module.state_dict(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(source(x), module(x), rtol=1e-3, atol=1e-4)


def test_training_the_module_does_not_write_to_the_model() -> None:
    model = gesher.export(net(), torch.randn(2, 1, 6, 6))
    module = gesher.to_torch(model)
    weight = next(v for v in model.graph.initializers if v.name == "0.weight")
    before = weight.constant.numpy().copy()
    with torch.no_grad():
        dict(module.named_parameters())["0.weight"].zero_()
    assert np.array_equal(weight.constant.numpy(), before) and before.any()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(6, 12)      # a name that our module must not need for itself
        self.norm = nn.LayerNorm(6)
        self.run = nn.Parameter(torch.full((6,), 0.5))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        q, k = self.model(self.norm(x) * self.run).chunk(2, -1)
        y = nn.functional.scaled_dot_product_attention(q, k, x)
        return {"y": y, "size": torch.full((x.shape[1],), 2)}


def test_a_module_that_crosses_both_ways_agrees_with_itself_at_every_size() -> None:
    source = Block().eval()
    module = gesher.to_torch(gesher.export(source, torch.randn(2, 3, 6), dynamic={"x": {0: "batch", 1: "time"}}))
    assert module.input_names == ["x"] and module.output_names == ["y", "size"]
    for b, t in ((2, 3), (1, 1), (4, 7)):
        x = torch.randn(b, t, 6, requires_grad=True)
        want, (got, size) = source(x), module(x=x)
        torch.testing.assert_close(got, want["y"], rtol=1e-4, atol=1e-5)
        assert torch.equal(size, want["size"])
        gradient, = torch.autograd.grad(want["y"].square().sum(), x)
        torch.testing.assert_close(torch.autograd.grad(got.square().sum(), x)[0], gradient, rtol=1e-3, atol=1e-4)
    assert {"norm.weight", "norm.bias"} <= set(module.state_dict())


def test_a_module_can_be_exported_again() -> None:
    """There, back, and there again: what PyTorch captures of our module is the model it came from."""
    source = Block().eval()
    first = gesher.export(source, torch.randn(2, 3, 6))
    again = gesher.export(gesher.to_torch(first), torch.randn(2, 3, 6))
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    with gesher.session(first, "reference") as a, gesher.session(again, "reference") as b:
        want, got = a.run({"x": x}), list(b.run({b.inputs[0].name: x}).values())
    np.testing.assert_allclose(got[0], want["y"], rtol=1e-4, atol=1e-5)


def test_which_initializers_are_trained_can_be_said() -> None:
    model = gesher.export(net(), torch.randn(2, 1, 6, 6))
    module = gesher.to_torch(model, trainable=lambda name: name.startswith("5."))
    assert {n for n, _ in module.named_parameters()} == {"5.weight", "5.bias"}
    assert "0.weight" in dict(module.named_buffers())


@pytest.mark.parametrize(("feeds", "says"), [
    ({}, "'x'"), ({"z": torch.zeros(1)}, "no input 'z'"), ({"x": torch.zeros(1, 3, dtype=torch.float64)}, "double"),
    ({"x": torch.zeros(1, 4)}, "shape"), ({"x": torch.zeros(3)}, "shape")])
def test_inputs_that_do_not_fit_are_refused(feeds: dict[str, Any], says: str) -> None:
    b = Builder({"": 21})
    b.output(b.Relu(b.input("x", FLOAT, ("n", 3))), "y")
    with pytest.raises(gesher.RunError, match=says):
        gesher.to_torch(b.model()).run(feeds)


def test_what_onnx_does_not_broadcast_is_refused() -> None:
    """A scale of one number for three channels: numpy and PyTorch would repeat it."""
    b = Builder({"": 21})
    x, s = b.input("x", FLOAT, ("n", "c", 4)), b.input("s", FLOAT, ("k",))
    b.output(b.InstanceNormalization(x, s, s), "y")
    with pytest.raises(gesher.RunError):
        gesher.to_torch(b.model())(torch.randn(2, 3, 4), torch.ones(1))


def test_types_that_pytorch_has_not_cross() -> None:
    b = Builder({"": 21})
    x = b.input("x", FLOAT, (2, 4))
    narrow = b.Cast(x, to=FLOAT8E4M3FN.code)
    b.output(b.Cast(narrow, to=FLOAT.code), "y")
    b.output(b.Cast(b.QuantizeLinear(x, np.float32(0.5), None, output_dtype=INT4.code), to=INT64.code), "q")
    b.output(b.Cast(x, to=UINT16.code), "u")
    b.output(b.Greater(x, np.float32(0)), "b")
    model = b.model()
    module = gesher.to_torch(model)
    x = torch.tensor([[0.3, 1.7, 2.9, 4.2], [0.0, 1.0, 3.0, 3.5]], requires_grad=True)
    got = module.run({"x": x})
    with gesher.session(model, "reference") as session:
        want = session.run({"x": x.detach().numpy()})
    for name, value in want.items():
        assert got[name].detach().numpy().tolist() == value.tolist(), name
    assert got["u"].dtype is torch.uint16 and got["b"].dtype is torch.bool and BOOL.kind == "bool"
    # Rounding to a narrow type counts as leaving the number as it is.
    got["y"].sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones_like(x))
