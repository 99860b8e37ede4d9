"""Models in the opset that is asked for: what one lacks is said by others, and by default every engine runs it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.frontends.torch.cases import CASES, NO_ENGINE
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._pytree import tree_leaves

import gesher
from gesher.engines import engine
from gesher.engines.protocol import Options
from gesher.evaluator.difference import difference
from gesher.frontends import Exported, ExportOptions, verify
from gesher.frontends.torch.capture import capture
from gesher.frontends.torch.opsets import DEFAULT_OPSET
from gesher.frontends.torch.translate import translate


class Block(nn.Module):
    """Attention, RMS norm and a gated feed-forward layer, as language models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.up, self.down = nn.Linear(16, 48), nn.Linear(16, 64), nn.Linear(32, 16)
        self.norm = nn.RMSNorm(16)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        x = x + F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        gate, up = self.up(x).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def kinds(model: gesher.Model) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.nodes)


def test_every_engine_runs_a_model_of_the_default_opset() -> None:
    module, x = Block().eval(), torch.randn(2, 5, 16)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[0, 0, 3] = False    # a query that sees nothing
    model = gesher.export(module, (x, mask), dynamic={"x": {0: "batch", 1: "time"},
                                                      "mask": {0: "batch", 2: "time", 3: "time"}})
    assert model.opsets[""] == DEFAULT_OPSET == 24 and model.ir_version == 12
    assert kinds(model)["Attention"] == kinds(model)["RMSNormalization"] == 1 and not kinds(model)["Swish"]
    with torch.no_grad():
        want = module(x, mask).numpy()
    for name in ("reference", "compiled", "onnxruntime", "openvino"):
        there = engine(name)
        if there.missing():
            continue
        with there.prepare(model, Options(threads=1)) as session:
            d = difference(session.run({"x": x.numpy(), "mask": mask.numpy()})["output"], want)
        assert d.ok, f"{name}: {d}"


def test_a_model_with_an_operator_that_engines_know_in_an_older_version_is_of_that_opset() -> None:
    class Drawn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    model = gesher.export(Drawn(), (torch.randn(3, 4),))
    assert model.opsets[""] == 21 and model.ir_version == 10
    assert gesher.export(Drawn(), (torch.randn(3, 4),), opset=23).opsets[""] == 23


@pytest.mark.parametrize("opset", [13, 20, 23, 24, 28])
@pytest.mark.parametrize("kind", ["bool", "float", "blind", "grouped", "causal", "three axes"])
def test_attention_is_one_operator_where_the_opset_has_it(kind: str, opset: int) -> None:
    """Rows that see nothing are zeros, as in PyTorch, whatever says so; numbers in a mask stay a sum."""
    how: dict[str, Any] = {}
    q, k = torch.randn(2, 4, 3, 8), torch.randn(2, 2 if kind == "grouped" else 4, 5, 8)
    mask = torch.rand(2, 1, 3, 5) > 0.4
    mask[1, 0, 1] = False
    if kind == "grouped":
        how["enable_gqa"] = True
    elif kind == "causal":
        how["is_causal"] = True
    elif kind != "three axes":
        how["attn_mask"] = {"bool": mask, "float": torch.randn(3, 5),
                            "blind": torch.zeros(2, 1, 3, 5).masked_fill(~mask, -torch.inf)}[kind]
    if kind == "three axes":
        q, k = q[0], k[0]

    class Attends(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(q, k, k, **how)

    model = gesher.export(Attends(), (q, k), dynamic={"q": {1: "queries"}, "k": {1: "keys"}} if q.ndim == 3 else None,
                          opset=opset)
    whole = opset >= 23 and kind in ("bool", "grouped", "causal")
    assert kinds(model)["Attention"] == whole and kinds(model)["Softmax"] == (not whole)
    with gesher.session(model, "onnxruntime") as session:
        d = difference(session.run({"q": q.numpy(), "k": k.numpy()})["output"],
                       F.scaled_dot_product_attention(q, k, k, **how).numpy())
    assert d.ok, str(d)


OPSETS = range(13, 29)
# By case: the first opset that can say it, and no older one by any detour.
FIRST = {"cast to float8 and back": 19}


def test_every_function_crosses_in_every_opset(run_all: bool) -> None:
    """Verified, sound by the checker, and right on ONNX Runtime; or refused with the opset that it takes."""
    names = list(CASES) if run_all else random.Random(3).sample(list(CASES), 12)
    faults: list[str] = []
    for name in names:
        module, example, free = CASES[name]
        module.eval()    # as it is captured
        with torch.no_grad():
            answer = [x for x in tree_leaves(module(*(x.clone() for x in example))) if isinstance(x, torch.Tensor)]
        options = ExportOptions(dynamic=free)
        captured = capture(module, example, options)
        for opset in OPSETS if run_all else (13, 16, 28):
            try:
                made = translate(captured, replace(options, opset=opset))
            except gesher.UnsupportedError as e:
                if opset >= FIRST.get(name, 0) or f"needs opset {FIRST[name]}" not in str(e):
                    faults.append(f"{name}, {opset}: {e}")
                continue
            if opset < FIRST.get(name, 0):
                faults.append(f"{name}, {opset}: it crosses, which nobody expects")
            faults += [f"{name}, {opset}: {why}" for why in differences(made, example, answer, name not in NO_ENGINE)]
    assert not faults, "\n".join(faults)


def differences(made: Exported, example: Sequence[torch.Tensor], answer: Sequence[torch.Tensor], ort: bool
                ) -> Iterator[str]:
    """What is wrong with an export, by the checker, the reference and ONNX Runtime."""
    model = made.model
    yield from map(str, gesher.check(model).errors)
    try:
        verify(made)
    except gesher.GesherError as e:
        yield str(e)
        return
    if not ort:
        return
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({v.name: x.numpy() for v, x in zip(model.graph.inputs, example)})
    for v, want in zip(model.graph.outputs, answer):
        # ONNX Runtime hands bfloat16 out as bits.
        if want.dtype is not torch.bfloat16 and not (d := difference(got[v.name], want.numpy())).ok:
            yield f"onnxruntime: {v.name}: {d}"
