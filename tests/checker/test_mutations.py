"""Faults put into models of real use, at places drawn by chance: each is found by its rule, and named by its node."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from tests.real_models import model_files

from gesher.base import dtypes
from gesher.checker import check
from gesher.inference import infer
from gesher.ir import Kind, Model, Node, RawStorage, Tensor, TensorType, Value
from gesher.ir.files import from_bytes

FILES = {p.stem: p.read_bytes() for p in model_files("rapidocr_onnxruntime", "silero_vad", "basic_pitch")
         if p.stem in ("ch_ppocr_mobile_v2.0_cls_infer", "silero_vad_16k_op15", "nmp")}

Fault = Callable[[Model, random.Random], str]
FAULTS: dict[str, Fault] = {}


def fault(rule: str) -> Callable[[Fault], Fault]:
    """Register a way to spoil a model; it gives a word that the finding must contain."""
    def keep(spoil: Fault) -> Fault:
        FAULTS[rule] = spoil
        return spoil

    return keep


def some_node(model: Model, draw: random.Random, wanted: Callable[[Node], bool]) -> Node:
    return draw.choice([n for n in model.graph.nodes if wanted(n)])


def reads(node: Node) -> bool:
    return any(v is not None and v.producer is not None for v in node.inputs)


@fault("undefined-value")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, reads)
    gone = Value("nobody")
    node.inputs = (gone, *node.inputs[1:])
    return "'nobody'"


@fault("node-order")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: reads(n) and n.next is not None)
    maker = next(v.producer for v in node.inputs if v is not None and v.producer is not None)
    model.graph._take_out(node)
    model.graph._insert_before(maker, node)
    return node.place


@fault("duplicate-name")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: n.prev is not None)
    assert node.prev is not None
    node.output.name = node.prev.output.name
    return f"'{node.output.name}'"


@fault("operator-unknown")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: True)
    node.op_type += "d"
    return node.op_type


@fault("attribute-unknown")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: bool(n.attributes))
    name = draw.choice(list(node.attributes))
    node.attributes[name + "x"] = node.attributes.pop(name)
    return f"'{name}x'"


@fault("attribute-kind")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: any(a.kind in (Kind.INT, Kind.INTS) for a in n.attributes.values()))
    name, a = draw.choice([(k, a) for k, a in node.attributes.items() if a.kind in (Kind.INT, Kind.INTS)])
    a.kind, a.value = Kind.FLOAT, 1.0
    return f"'{name}'"


@fault("input-count")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: n.op_type in ("Relu", "Sigmoid", "Mul", "Add", "Transpose", "Sqrt", "Pow"))
    node.inputs = (*node.inputs, *node.inputs)[:3]
    return node.place


@fault("tensor-data")
def _(model: Model, draw: random.Random) -> str:
    value = draw.choice([v for v in model.graph.initializers if isinstance(v.constant, Tensor) and v.constant.size > 1])
    tensor = value.constant
    assert isinstance(tensor, Tensor)
    value.constant = Tensor(tensor.dtype, tensor.shape, RawStorage(bytes(tensor.raw())[:-1]), tensor.name)
    return value.name


@fault("type-binding")
def _(model: Model, draw: random.Random) -> str:
    node = some_node(model, draw, lambda n: n.op_type in ("Add", "Mul", "Sub", "Conv", "MatMul")
                     and any(v is not None and v.is_constant for v in n.inputs)
                     and any(v is not None and v.producer is not None for v in n.inputs))
    index, value = next((i, v) for i, v in enumerate(node.inputs) if v is not None and v.is_constant)
    assert isinstance(value.constant, Tensor)
    other = Tensor.of(value.constant.numpy().astype(np.float64), "as_double")
    inputs = list(node.inputs)
    inputs[index] = model.graph.add_initializer(other)
    node.inputs = tuple(inputs)
    return node.place


@fault("type-contradiction")
def _(model: Model, draw: random.Random) -> str:
    value = draw.choice(model.graph.outputs)
    value.type = TensorType(dtypes.INT8, value.shape)
    return f"'{value.name}'"


@fault("shape-inference")
def _(model: Model, draw: random.Random) -> str:
    facts = infer(model)
    # Where the rank of the other operand is known; nothing can be said elsewhere.
    node = some_node(model, draw, lambda n: n.op_type in ("Conv", "MatMul", "Gemm")
                     and n.inputs[1] is not None and n.inputs[1].is_constant
                     and n.inputs[0] is not None and facts.shape(n.inputs[0]) is not None)
    weight = node.inputs[1]
    assert weight is not None and isinstance(weight.constant, Tensor)
    array = weight.constant.numpy()
    # Twice as many channels (or rows) as there are.
    axis = 1 if node.op_type == "Conv" else 0 if not node.attr("transB", 0) else 1
    inputs = list(node.inputs)
    inputs[1] = model.graph.add_initializer(Tensor.of(np.concatenate([array, array], axis), "doubled"))
    node.inputs = tuple(inputs)
    return node.place.removesuffix(")")


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_anywhere_is_found(rule: str) -> None:
    spoilt = 0
    for name, data in FILES.items():
        for seed in range(3):
            model = from_bytes(data)
            try:
                word = FAULTS[rule](model, random.Random(f"{rule} {name} {seed}"))
            except IndexError:
                break  # this model has no place for this fault
            report = check(model)
            found = [f for f in report.errors if f.rule == rule]
            assert found, f"{name}: {report}"
            assert any(word in f"{f.message} {f.place}" for f in found), f"{name}, {word}: {report}"
            spoilt += 1
    assert spoilt >= 6


def test_the_three_models_are_here_and_right() -> None:
    assert len(FILES) == 3
    assert all(check(from_bytes(data)).ok for data in FILES.values())
