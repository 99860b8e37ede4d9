"""PyTorch's modules cross: verified at the example's size and others, and ONNX Runtime answers the same."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import gesher
from gesher.evaluator.difference import difference


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


class SelfAttention(nn.Module):
    """A transformer block around nn.MultiheadAttention."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 32))
        self.weights = weights

    def forward(self, x: torch.Tensor) -> Any:
        h = self.norm1(x)
        h, w = self.attention(h, h, h, need_weights=self.weights)
        x = x + h
        y = x + self.mlp(self.norm2(x))
        return {"hidden": y, "weights": w} if self.weights else y


class Causal(nn.Module):
    """Attention written with scaled_dot_product_attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        q, k, v = (p.view(b, t, 4, 8).transpose(1, 2) for p in self.qkv(x).split(c, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class Language(nn.Module):
    """Embeddings, an encoder under a mask, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 16), nn.Embedding(64, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.words.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        t = input_ids.shape[1]
        x = self.words(input_ids) + self.places(torch.arange(t))
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        return self.head(self.encoder(x, mask=mask, is_causal=True))


class Shapes(nn.Module):
    """Views and indices that need computed sizes."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        b, t = x.shape[0], x.shape[1]
        flat = x.reshape(b * t, 3)
        ramp = torch.arange(t).unsqueeze(0).expand(b, t)
        both = torch.cat([x, y.unsqueeze(-1)], -1).flip(1)
        return flat, ramp + y.long(), both[:, :, ::2]


def batch(example: torch.Tensor) -> dict[str, Any]:
    return {"dynamic": True, "example": (example,)}


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "cnn": (cnn, batch(torch.randn(3, 1, 8, 8))),
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), batch(torch.randn(3, 4))),
    "multihead attention": (lambda: SelfAttention(False), batch(torch.randn(2, 5, 32))),
    "multihead attention with weights": (lambda: SelfAttention(True), batch(torch.randn(2, 5, 32))),
    "causal attention": (Causal, {"example": (torch.randn(2, 5, 32),), "dynamic": {"x": {0: "batch", 1: "time"}}}),
    "language": (Language, {"example": (torch.randint(0, 50, (2, 7)),),
                            "dynamic": {"input_ids": {0: "batch", 1: "time"}}}),
    "shapes": (Shapes, {"example": (torch.randn(2, 6, 3), torch.randn(2, 6)),
                        "dynamic": {"x": {0: "batch", 1: "time"}, "y": {0: "batch", 1: "time"}}}),
    "lstm": (lambda: nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True), {"example": (torch.randn(2, 5, 8),)}),
    "gru": (lambda: nn.GRU(8, 6), {"example": (torch.randn(5, 2, 8),)}),
    "lstm of any batch and time": (lambda: nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True),
                                   {"example": (torch.randn(2, 5, 8),),
                                    "dynamic": {"input": {0: "batch", 1: "time"}}}),
    "gru of any batch and time": (lambda: nn.GRU(8, 6, bias=False),
                                  {"example": (torch.randn(5, 2, 8), torch.randn(1, 2, 6)),
                                   "dynamic": {"input": {0: "time", 1: "batch"}, "hx": {1: "batch"}}}),
    "rnn of any batch and time": (lambda: nn.RNN(8, 6, nonlinearity="relu"),
                                  {"example": (torch.randn(1, 1, 8),),
                                   "dynamic": {"input": {0: "time", 1: "batch"}}}),
    "grouped and transposed convolutions": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, groups=2), nn.GroupNorm(2, 8), nn.SiLU(),
                              nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(4)),
        batch(torch.randn(2, 4, 9, 9))),
    "reflected borders": (lambda: nn.ReflectionPad1d((3, 1)), {"example": (torch.randn(2, 3, 9),),
                                                               "dynamic": {"input": {0: "batch", 2: "time"}}}),
    "upsampling": (lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 2, 1),
                                         nn.Upsample(scale_factor=2)), batch(torch.randn(1, 3, 5, 6))),
}


def exported(name: str, **more: Any) -> tuple[Any, tuple[Any, ...], gesher.Model]:
    torch.manual_seed(0)
    make, how = CASES[name]
    module = make().eval()
    return module, how["example"], gesher.export(module, how["example"], **{
        **{k: v for k, v in how.items() if k != "example"}, **more})


@pytest.mark.parametrize("name", CASES)
def test_modules_cross_and_onnxruntime_agrees(name: str) -> None:
    module, example, model = exported(name)
    assert gesher.check(model).ok, str(gesher.check(model))
    assert '"engine": "reference"' in model.metadata["gesher.verified"]
    with torch.no_grad():
        want = module(*(x.clone() for x in example))
    flat = torch.utils._pytree.tree_leaves(want)
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({p.name: x.numpy() for p, x in zip(session.inputs, example)})
    for value, answer in zip(got.values(), flat):
        d = difference(value, answer.numpy())
        assert d.ok, d


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 21])
@pytest.mark.parametrize("name", ["cnn", "multihead attention", "causal attention"])
def test_older_and_newer_opsets(name: str, opset: int) -> None:
    _, _, model = exported(name, opset=opset)
    assert model.opsets[""] == opset


def test_names_are_the_modules_own() -> None:
    _, _, model = exported("multihead attention with weights")
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert [v.name for v in model.graph.outputs] == ["hidden", "weights"]
    weights = {v.name for v in model.graph.initializers}
    assert {"attention.in_proj_weight", "mlp.0.weight", "norm1.bias"} <= weights
    paths = {n.metadata["module"] for n in model.graph.nodes if n.metadata}
    assert {"attention", "mlp.0", "norm1"} <= paths


def test_tied_weights_are_stored_once() -> None:
    module, _, model = exported("language")
    stored = [v for v in model.graph.initializers if v.constant is not None and v.constant.shape == (50, 16)]
    assert len(stored) == 1
    assert np.shares_memory(stored[0].constant.numpy(), module.words.weight.detach().numpy())


def test_free_dims_are_named_and_run_at_any_size() -> None:
    module, _, model = exported("causal attention")
    assert str(model.graph.inputs[0].type) == "float(batch,time,32)"
    with gesher.session(model, "reference") as session:
        for shape in ((1, 1, 32), (3, 11, 32)):
            x = torch.randn(shape)
            got = session.run({"x": x.numpy()})["output"]
            assert difference(got, module(x).detach().numpy()).ok


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_recurrent_layers_take_any_batch_and_time(name: str) -> None:
    module, example, model = exported(f"{name} of any batch and time")
    assert {"batch", "time"} <= {str(d) for d in model.graph.inputs[0].type.shape}    # type: ignore[union-attr]
    for sizes in ({2: 1, 5: 9, 1: 4}, {5: 1, 2: 3, 1: 1}):
        fed = [torch.randn([sizes.get(n, n) for n in x.shape[:-1]] + [x.shape[-1]]) for x in example]
        if len(fed) == 2:
            fed[1] = torch.randn(1, fed[0].shape[1], 6)
        want = module(*fed)[0].detach().numpy()
        with gesher.session(model, "reference") as session:
            got = session.run({p.name: x.numpy() for p, x in zip(session.inputs, fed)})
        assert difference(next(iter(got.values())), want).ok


def test_recurrent_layers_outside_an_export_stay_pytorchs_own() -> None:
    exported("lstm of any batch and time")
    program = torch.export.export(nn.LSTM(8, 6).eval(), (torch.randn(5, 2, 8),))
    assert any("aten.lstm" in str(n.target) for n in program.graph.nodes)


def test_free_dims_may_have_a_least_size() -> None:
    module, _, model = exported("reflected borders")
    assert str(model.graph.inputs[0].type) == "float(batch,3,time)"
    with gesher.session(model, "reference") as session:
        for time in (4, 5, 40):
            x = torch.randn(1, 3, time)
            assert difference(session.run({"input": x.numpy()})["output"], module(x).numpy()).ok


def test_a_dim_that_counts_only_where_it_is_not_1_is_no_silent_guess() -> None:
    class Squeezed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 1:-1].squeeze(1).sum(-1)

    with pytest.raises(gesher.GesherError):
        gesher.export(Squeezed(), (torch.randn(2, 5, 3),), dynamic={"x": {1: "time"}})


def test_padded_places_of_an_encoder_are_no_difference() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)

        def forward(self, x: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
            return self.encoder(x, src_key_padding_mask=padded)

    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    model = gesher.export(Padded(), (torch.randn(2, 5, 16), padded), dynamic=True)
    assert "gesher.verified" in model.metadata and torch.backends.mha.get_fastpath_enabled()


def test_a_fixed_dim_stays_fixed() -> None:
    _, _, model = exported("cnn", dynamic=None)
    assert str(model.graph.inputs[0].type) == "float(3,1,8,8)"


def test_a_dim_that_the_module_fixes_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(3, 4) * 2

    with pytest.raises(gesher.UnsupportedError, match="fixes a dim"):
        gesher.export(Fixed(), (torch.randn(3, 4),), dynamic=True)


def test_what_cannot_cross_is_named_all_at_once() -> None:
    library = torch.library.Library("untranslated", "DEF")
    for name in ("odd", "even"):
        library.define(f"{name}(Tensor x) -> Tensor")
        library.impl(name, torch.sin, "CompositeExplicitAutograd")
        library.impl(name, torch.empty_like, "Meta")
    ours = torch.ops.untranslated

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ours.odd(ours.even(x)) + ours.odd(x).T

    with pytest.raises(gesher.UnsupportedError, match=r"untranslated\.odd") as e:
        gesher.export(Odd(), (torch.randn(3, 3),))
    assert "2 times" in str(e.value) and "untranslated.even" in str(e.value)
    assert "/" not in str(e.value).replace("n/a", "")


def test_training_mode_is_put_back() -> None:
    module = cnn().train()
    module[2].eval()
    gesher.export(module, (torch.randn(2, 1, 8, 8),))
    assert module.training and module[1].training and not module[2].training


def test_an_exported_program_crosses(tmp_path: Any) -> None:
    x = torch.randn(2, 4)
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)).eval()
    program = torch.export.export(module, (x,))
    model = gesher.export(program)
    with gesher.session(model, "reference") as session:
        got = session.run({session.inputs[0].name: x.numpy()})
    assert difference(next(iter(got.values())), module(x).detach().numpy()).ok


OPERATORS: dict[str, tuple[Any, tuple[torch.Tensor, ...]]] = {
    "arithmetic": (lambda a, b: (a + 2 * b - 1) / (b.abs() + 1) ** 2 + torch.sub(a, b, alpha=3), (2,)),
    "floor division": (lambda a, b: torch.div(a * 7, b + 0.1, rounding_mode="floor") + a // 0.3, (2,)),
    "remainder": (lambda a, b: torch.remainder(a, b) + torch.fmod(a, b) + a % -0.7, (2,)),
    "clamp": (lambda a, b: a.clamp(-0.5, 0.5) + b.clamp(min=0.1) + torch.minimum(a, b), (2,)),
    "logic": (lambda a, b: ((a > 0) & (b <= 0)) | ~(a == b), (2,)),
    "promotion": (lambda a, b: (a > 0) * b + (b > 0).long() + torch.arange(4), (2,)),
    "exp and log": (lambda a, b: torch.expm1(a * 0.01) + torch.log1p(b.abs() * 0.01) + torch.log2(a.abs() + 1), (2,)),
    "atan2": (lambda a, b: torch.atan2(a, b), (2,)),
    "softmax": (lambda a, b: a.softmax(-1) + b.log_softmax(0) + F.softplus(a) + F.mish(b) + F.hardswish(a), (2,)),
    "variance": (lambda a, b: a.var(-1) + b.std(dim=-1, correction=0) + a.norm(dim=-1) + a.norm(1, -1), (2,)),
    "reductions": (lambda a, b: (a.sum(), a.mean(0), b.amax(1), b.min(dim=1)[1], a.argmax(), (a > 0).any(1)), (2,)),
    "order": (lambda a, b: (a.sort(descending=True)[0], b.topk(2)[0], a.argsort(), a.cumsum(1)), (2,)),
    "index": (lambda a, b: (a[:, [0, 2]], a[[1, 0], [2, 3]], a[:, 1:3], a[..., -1], b[1]), (2,)),
    "gather and scatter": (lambda a, b: (a.gather(1, (b > 0).long()), a.scatter(1, (b > 0).long(), b),
                                         torch.zeros(3, 4).scatter_add(0, (a > 0).long(), b)), (2,)),
    "where": (lambda a, b: torch.where(a > 0, a, 0.5) + a.masked_fill(b > 0, -1.0), (2,)),
    "pads": (lambda a, b: (F.pad(a, (1, 2)), F.pad(a[None], (1, 2), mode="reflect"),
                           F.pad(a[None], (1, 1), mode="circular"), F.pad(a[None], (1, 1), mode="replicate")), (2,)),
    "joins": (lambda a, b: (torch.stack([a, b], 1), torch.cat([a, b, a], 0), *a.split(3, 1), *b.unbind(0)), (2,)),
    "rolling": (lambda a, b: torch.roll(a, 1, 1) + torch.roll(b, (1, -2), (0, 1)) + torch.roll(a, 3), (2,)),
    "triangles": (lambda a, b: a.tril() + b.triu(1) + torch.eye(3, 4), (2,)),
    "einsum": (lambda a, b: torch.einsum("ij,kj->ik", a, b) + a @ b.T, (2,)),
    "adaptive pooling": (lambda a, b: F.adaptive_avg_pool1d(a[None], 3) + F.adaptive_avg_pool1d(b[None], 1), (2,)),
    "divisor override": (lambda a, b: F.avg_pool2d(a[None], 2, divisor_override=3), (2,)),
    "in place": (lambda a, b: _in_place(a, b), (2,)),
}


def _in_place(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    c = a.clone()
    c[:, 1] = b[:, 0]
    c[1:, 2:] += 1
    c.mul_(2)
    return c


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_cross(name: str) -> None:
    function, _ = OPERATORS[name]

    class Wrap(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> Any:
            return function(a, b)

    torch.manual_seed(1)
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    model = gesher.export(Wrap(), (a, b))
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"a": a.numpy(), "b": b.numpy()})
    want = torch.utils._pytree.tree_leaves(Wrap()(a.clone(), b.clone()))
    for value, answer in zip(got.values(), want):
        d = difference(value, answer.detach().numpy())
        assert d.ok, d
