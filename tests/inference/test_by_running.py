"""What inference says, held against what running shows: random nodes drawn from the schemas, and ONNX's own cases.

A draw that the reference refuses was no valid node, and is drawn again; so is one that inference refuses when it knows
everything: it may refuse what the numbers of a draw do not trip over. Each valid one is inferred three times: with its
inputs known, with their shapes known, and with a symbol for each size.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from tests.ops.drawing import draw, generator
from tests.suites.conformance import Case
from tests.suites.stripped import node_cases

from gesher.base import dtypes
from gesher.base.errors import GesherError
from gesher.checker.attribute_values import CHOICES
from gesher.evaluator.evaluator import run_node
from gesher.inference import Facts, infer
from gesher.ir import Attribute, Graph, Kind, Model, Node, OptionalType, Tensor, TensorType, Value
from gesher.ir.files import from_bytes
from gesher.ops import Fact, Operator, Schema, operators
from gesher.symbolic import Dim, evaluate, sym

WHOLE = os.environ.get("GESHER_TEST_ALL") == "1"
# Draws for each operator: of one version in the sample, of each in the whole.
LIMIT = 40
TRIES = 300 if WHOLE else 40

# Operators whose answer is another one each time.
RANDOM = frozenset(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                    "RandomUniformLike", "Dropout"))

class Drawn:
    """A node that runs, with its inputs and what they gave."""

    def __init__(self, node: Node, schema: Schema, inputs: list[Any], outputs: list[Any]):
        self.node, self.schema, self.inputs, self.outputs = node, schema, inputs, outputs

    def __str__(self) -> str:
        shown = [None if a is None else f"{a.dtype}{list(a.shape)}" for a in self.inputs]
        return f"{self.schema.name} {self.schema.version} of {shown}, " \
               f"{ {k: a.value for k, a in self.node.attributes.items()} }"


def drawn(operator: Operator, schema: Schema, attempt: int) -> Drawn | None:
    """A node of a schema; None where chance made none that runs."""
    rng = generator(operator.domain, operator.name, schema.version, attempt)
    attributes = _attributes(rng, schema)
    arrays = _inputs(rng, schema)
    if attributes is None or arrays is None:
        return None
    while arrays and arrays[-1] is None:
        arrays.pop()
    outputs = sum(1 for o in schema.outputs if not o.optional) or 1
    node = Node(operator.name, [None if a is None else Value(f"x{i}") for i, a in enumerate(arrays)], outputs,
                domain=operator.domain)
    node.attributes.update(attributes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = run_node(node, arrays, _opsets(schema), budget=1 << 20)
    except GesherError:
        return None
    except Exception:  # a reference rule may trip over what no valid node has
        return None
    return Drawn(node, schema, arrays, results)


def _opsets(schema: Schema) -> dict[str, int]:
    return {schema.domain: schema.version, **({} if schema.domain == "" else {"": 21})}


def _attributes(rng: np.random.Generator, schema: Schema) -> dict[str, Attribute] | None:
    made: dict[str, Attribute] = {}
    for name, a in schema.attributes.items():
        # The axis of the old broadcasting fits next to nothing that is drawn.
        if (not a.required and rng.random() < 0.6) or (name == "axis" and "broadcast" in schema.attributes):
            continue
        words = CHOICES.get((schema.domain, schema.name, name)) or CHOICES.get(("*", "*", name))
        value: Any
        if a.kind == "int":
            value = int(rng.integers(-1, 4)) if name not in ("to", "dtype", "output_dtype") else \
                int(rng.choice([1, 6, 7, 9, 10, 11]))
        elif a.kind == "float":
            value = float(rng.choice([0.25, 0.5, 1, 2]))
        elif a.kind == "string":
            value = str(rng.choice(sorted(map(str, words)))) if words else a.default
        elif a.kind == "ints":
            value = tuple(int(x) for x in rng.integers(0, 3, rng.integers(1, 5)))
        elif a.kind == "floats":
            value = tuple(float(x) for x in rng.integers(1, 3, rng.integers(1, 4)))
        else:
            value = None
        if not isinstance(value, (int, float, str, tuple)):
            if a.required:
                return None
            continue
        made[name] = Attribute(Kind[a.kind.upper()], value)
    return made


def _inputs(rng: np.random.Generator, schema: Schema) -> list[Any] | None:
    """Arrays whose shapes have to do with each other: equal, laid over, one axis alone, or short lists of indices."""
    first = tuple(int(d) for d in rng.choice([0, 1, 2, 3, 4, 6], rng.integers(0, 5), p=[.04, .16, .25, .25, .2, .1]))
    types: dict[str, dtypes.DType] = {}
    arrays: list[Any] = []
    formals = [f for f in schema.inputs for _ in range(int(rng.integers(1, 4)) if f.variadic else 1)]
    for i, f in enumerate(formals):
        if f.optional and rng.random() < 0.5:
            arrays.append(None)
            continue
        allowed = sorted((dtypes.BY_NAME[t[7:-1]] for t in schema.allowed(f.type) if t.startswith("tensor(")),
                         key=lambda d: d.code)
        if not allowed:
            return None
        # float and int64 are what most rules have most to say of.
        likely = [d for d in allowed if d in (dtypes.FLOAT, dtypes.INT64)] or allowed
        pool = likely if rng.random() < 0.6 else allowed
        dtype = types.setdefault(f.type, pool[int(rng.integers(0, len(pool)))])
        shape = first if i == 0 or rng.random() < 0.4 else _other(rng, first)
        arrays.append(draw(rng, dtype, shape, special=False, low=0 if dtype.is_integer and i else -3, high=3))
    return arrays


def _other(rng: np.random.Generator, first: tuple[int, ...]) -> tuple[int, ...]:
    kind = int(rng.integers(0, 6))
    if kind == 0:
        return ()
    if kind == 1:
        return (int(rng.integers(1, 5)),)
    if kind == 2 and first:
        return (int(rng.choice(first)),)
    if kind == 3 and first:
        return tuple(d if rng.random() < 0.6 else 1 for d in first)
    if kind == 4 and len(first) >= 2:
        return (*first[:-2], first[-1], int(rng.integers(1, 4)))
    return tuple(int(d) for d in rng.integers(1, 4, rng.integers(1, 5)))


# Holding


def model_of(d: Drawn, how: str) -> tuple[Model, dict[str, int]]:
    """The node in a model whose inputs are constants, of known shape, or of symbolic shape; and the symbols' sizes."""
    graph = Graph("drawn")
    sizes: dict[str, int] = {}
    inputs: list[Value | None] = []
    for i, a in enumerate(d.inputs):
        if a is None:
            inputs.append(None)
        elif how == "known":
            inputs.append(graph.add_initializer(Tensor.of(a), f"x{i}"))
        else:
            names = [f"s{i}_{k}" for k in range(a.ndim)]
            sizes.update(zip(names, a.shape))
            shape: tuple[Any, ...] = a.shape if how == "shapes" else tuple(map(sym, names))
            inputs.append(graph.add_input(f"x{i}", TensorType(dtypes.from_numpy(a.dtype), shape)))
    node = graph.append(Node(d.node.op_type, inputs, len(d.node.outputs), domain=d.node.domain))
    node.attributes.update(d.node.attributes)
    for i, o in enumerate(node.outputs):
        assert o is not None
        o.name = f"y{i}"
        graph.add_output(o)
    return Model(graph, opsets=_opsets(d.schema), ir_version=10), sizes


def held(facts: Facts, values: Sequence[Value], arrays: Sequence[Any], sizes: Mapping[str, int]) -> list[str]:
    """Where facts say something else than arrays show."""
    wrong = [f"refused: {f.message}" for f in facts.findings if f.severity == "error" or f.rule == "constant-fails"]
    for i, (value, array) in enumerate(zip(values, arrays)):
        fact = facts[value]
        if not isinstance(array, np.ndarray) or fact.type is None:
            continue
        if isinstance(fact.type, OptionalType):
            fact = Fact(fact.type.element)
        if not isinstance(fact.type, TensorType):
            wrong.append(f"output {i} is {fact.type}, not a tensor")
            continue
        if fact.dtype not in (dtypes.UNDEFINED, dtypes.from_numpy(array.dtype)):
            wrong.append(f"output {i} is {array.dtype}, not {fact.type}")
        if fact.shape is not None and (len(fact.shape) != array.ndim or any(
                (n := _size(d, sizes)) is not None and n != m for d, m in zip(fact.shape, array.shape))):
            wrong.append(f"output {i} is of shape {array.shape}, not {fact.type} with {dict(sizes)}")
        elif fact.value is not None and fact.dtype.is_integer:
            told = [_size(x, sizes) for x in fact.value.reshape(-1).tolist()]
            shown = [int(x) for x in array.reshape(-1).tolist()]
            if len(told) != len(shown) or any(t is not None and t != s for t, s in zip(told, shown)):
                wrong.append(f"output {i} holds {shown}, not {told}")
    return wrong


def _size(d: Any, sizes: Mapping[str, int]) -> int | None:
    """The number that a dim stands for; None where it hangs on a symbol that inference made."""
    if not isinstance(d, Dim):
        return None if d is None else int(d)
    return evaluate(d, sizes) if all(s.name in sizes for s in d.symbols()) else None


OPERATORS = [o for o in operators() if o.name not in RANDOM and o.rules.get("reference")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy warns of means of nothing
def test_random_nodes_are_inferred_as_they_run() -> None:
    wrong: list[str] = []
    covered: set[str] = set()
    for operator in OPERATORS:
        for schema in operator.versions if WHOLE else operator.versions[-1:]:
            if schema.deprecated:
                continue
            valid = 0
            for attempt in range(TRIES):
                d = drawn(operator, schema, attempt)
                if d is None:
                    continue
                for how in ("known", "shapes", "symbols"):
                    model, sizes = model_of(d, how)
                    facts = infer(model)
                    if how == "known" and any(f.severity == "error" for f in facts.findings):
                        break
                    wrong += [f"{d}, {how}: {w}" for w in held(facts, model.graph.outputs, d.outputs, sizes)]
                else:
                    covered.add(f"{operator.domain}.{operator.name}")
                    valid += 1
                if valid >= (30 if WHOLE else 4):
                    break
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:LIMIT])
    # Recurrent cells, attention and the like need inputs that chance does not draw; their own tests draw them.
    assert len(covered) >= 0.6 * len(OPERATORS), sorted({f"{o.domain}.{o.name}" for o in OPERATORS} - covered)


def symbolic(case: Case) -> tuple[Model, dict[str, int]]:
    """A case whose inputs have a symbol for each size, and the sizes; what is known of its outputs is taken away."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto())
    for o in proto.graph.output:
        o.ClearField("type")
    model = from_bytes(proto.SerializeToString())
    sizes: dict[str, int] = {}
    for i, v in enumerate(model.graph.inputs):
        if isinstance(v.type, TensorType) and v.type.shape is not None:
            known = {f"s{i}_{k}": d for k, d in enumerate(v.type.shape) if isinstance(d, int)}
            sizes.update(known)
            v.type = TensorType(v.type.dtype, tuple(
                sym(f"s{i}_{k}") if isinstance(d, int) else d for k, d in enumerate(v.type.shape)))
    return model, sizes


def test_cases_with_a_symbol_for_each_size_are_inferred_as_they_run() -> None:
    wrong: list[str] = []
    named = 0
    for case in node_cases():
        model, sizes = symbolic(case)
        facts = infer(model)
        wanted = case.data()[0][1]
        wrong += [f"{case}: {w}" for w in held(facts, model.graph.outputs,
                                               [wanted[o.name] for o in model.graph.outputs], sizes)]
        named += all(facts.is_exact(o) for o in model.graph.outputs)
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:LIMIT])
    assert named >= 900, named
