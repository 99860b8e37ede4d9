"""One node at a time through every rule of its operator, and through the oracles: onnx's own cases and ONNX Runtime.

`Case` is a node with arrays. `check` holds all rules of the operator against each other and against an oracle:

- the reference rule against the expected outputs: values, dtypes and shapes;
- inference against the shapes and dtypes that came out, once with all sizes known and once with symbols in them;
- the lowering, evaluated by `primitives.evaluate`, against the reference rule, again with and without symbols.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from gesher.base import dtypes
from gesher.ir import Attribute, Kind, Node, Tensor, Value
from gesher.ops import Fact, Run, infer_node, resolve, run_node
from gesher.ops.rules import attributes_of
from gesher.primitives import Builder, CannotLower, evaluate
from gesher.symbolic import Dim, Equalities, sym
from gesher.symbolic import evaluate as number_of


@dataclass
class Case:
    """A node: operator, opset, inputs (None: left out), attributes, and how many outputs (or which: a list)."""

    op: str
    opset: int
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int | Sequence[bool] = 1
    name: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        self.inputs = [None if x is None else np.asarray(x) for x in self.inputs]
        self.wanted = [True] * self.outputs if isinstance(self.outputs, int) else list(self.outputs)

    def __str__(self) -> str:
        if self.name:
            return self.name
        shapes = ", ".join("_" if x is None else f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        return f"{self.op}-{self.opset}({shapes}) {self.attributes}"

    @property
    def opsets(self) -> dict[str, int]:
        return {"": self.opset, **({self.domain: 1} if self.domain else {})}

    def node(self) -> tuple[Node, Any, Any]:
        """The node in gesher's graph, with its operator and schema."""
        values = [None if x is None else Value(f"x{i}") for i, x in enumerate(self.inputs)]
        made = [Value(f"y{i}") if w else None for i, w in enumerate(self.wanted)]
        node = Node(self.op, values, made, {k: _written(v) for k, v in self.attributes.items()}, domain=self.domain)
        return (node, *resolve(node, self.opsets))

    def reference(self) -> list[Any]:
        """What our reference rule gives."""
        node, operator, schema = self.node()
        run = Run(node, schema, run_graph=lambda *_: [], random=np.random.default_rng(0), budget=1 << 31,
                  opsets=self.opsets)
        return run_node(node, operator, schema, self.inputs, run)

    def infer(self, symbols: dict[tuple[int, int], str] | None = None, known: Sequence[int] = ()
              ) -> tuple[list[Fact | None], Equalities]:
        """Facts of the outputs; `symbols` names axes (input, axis) of unknown size, `known` inputs are constants."""
        node, _, _ = self.node()
        equalities = Equalities()
        facts: list[Fact | None] = []
        for i, x in enumerate(self.inputs):
            if x is None:
                facts.append(None)
            elif i in known:
                facts.append(Fact.of(Tensor.of(x)))
            else:
                facts.append(Fact.tensor(dtypes.from_numpy(x.dtype), self._shape(i, symbols)))
        return infer_node(node, self.opsets, facts, equalities), equalities

    def lowered(self, symbols: dict[tuple[int, int], str] | None = None, known: Sequence[int] = ()) -> list[Any]:
        """What our lowering gives, through the numpy meaning of the primitives.

        Raises:
            CannotLower: the operator has no lowering in this form.
        """
        node, operator, schema = self.node()
        rule = operator.rule("lower", schema.version)
        if rule is None:
            raise CannotLower("no lowering is registered")
        p = Builder(outputs=len(node.outputs), version=schema.version)
        args = []
        for i, x in enumerate(self.inputs):
            if x is None:
                args.append(None)
            elif i in known:
                args.append(p.constant(x))
            else:
                args.append(p.input(f"x{i}", dtypes.from_numpy(x.dtype), self._shape(i, symbols)))
        result = rule.function(p, *args, **attributes_of(node, schema))
        exprs = [e for e, w in zip(result if isinstance(result, (tuple, list)) else [result], self.wanted) if w]
        feeds = {f"x{i}": x for i, x in enumerate(self.inputs) if x is not None and i not in known}
        sizes = {name: self.inputs[i].shape[a] for (i, a), name in (symbols or {}).items()}
        got = iter(evaluate(exprs, feeds, sizes))
        return [next(got) if w else None for w in self.wanted]

    def _shape(self, i: int, symbols: dict[tuple[int, int], str] | None) -> tuple[Any, ...]:
        return tuple(sym(symbols[i, a]) if symbols and (i, a) in symbols else d
                     for a, d in enumerate(self.inputs[i].shape))

    def model(self) -> onnx.ModelProto:
        """As a model of one node."""
        names = ["" if x is None else f"x{i}" for i, x in enumerate(self.inputs)]
        while names and not names[-1]:
            names.pop()
        made = [f"y{i}" if w else "" for i, w in enumerate(self.wanted)]
        attributes = {k: v for k, v in self.attributes.items() if v is not None}
        node = onnx.helper.make_node(self.op, names, made, domain=self.domain, **attributes)
        inputs = [onnx.helper.make_tensor_value_info(f"x{i}", _code(x), list(x.shape))
                  for i, x in enumerate(self.inputs) if x is not None]
        outputs = [onnx.helper.make_empty_tensor_value_info(m) for m in made if m]
        graph = onnx.helper.make_graph([node], "one", inputs, outputs)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(*o) for o in self.opsets.items()],
                                      ir_version=min(onnx.IR_VERSION, 10))

    def onnxruntime(self) -> list[Any]:
        """What ONNX Runtime gives, with its graph optimisations off."""
        feeds = {f"x{i}": x for i, x in enumerate(self.inputs) if x is not None}
        got = iter(session(self.model().SerializeToString()).run(None, feeds))
        return [next(got) if w else None for w in self.wanted]


def _written(value: Any) -> Any:
    """An attribute's value, given as our graph or onnx's has it, for our graph."""
    if isinstance(value, onnx.TensorProto):
        return Tensor.of(onnx.numpy_helper.to_array(value))
    if isinstance(value, (list, tuple)) and not value:
        return Attribute(Kind.INTS, ())
    return value


def session(model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, ["CPUExecutionProvider"])


def _code(x: np.ndarray) -> int:
    return dtypes.from_numpy(x.dtype).code


def close(got: Any, want: Any, rtol: float, atol: float, what: str) -> None:
    """Equal dtypes and shapes, and values within the tolerance (quantised and other integers: exact if both are 0)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: the dtype is {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what}: the shape is {got.shape}, not {want.shape}"
    if got.dtype == object:
        assert got.tolist() == want.tolist(), what
        return
    if got.dtype.kind not in "fciub" or got.dtype.itemsize < 4:
        got, want = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol, atol, err_msg=what)


def check(case: Case, want: Sequence[Any] | str = "onnxruntime", *, rtol: float = 1e-4, atol: float = 1e-5,
          symbols: dict[tuple[int, int], str] | None = None, known: Sequence[int] = (), lowers: bool = True,
          exact: bool = True, lower_rtol: float | None = None, lower_atol: float | None = None) -> None:
    """Hold every rule of the operator to `want` and to each other; see the module.

    Args:
        want: the expected outputs, or "onnxruntime", or "nobody": then the reference rule is not judged here.
        symbols: which axes of which inputs get a symbol, by (input, axis); those of one name are of one size.
        known: inputs that are constants, in inference and lowering.
        lowers: False where the operator has no lowering in this form (then it must say so).
        exact: every output dim must come out as a number or an expression over `symbols`, none as unknown.
    """
    ours = case.reference()
    if want == "onnxruntime":
        want = case.onnxruntime()
    if want != "nobody":
        for i, (a, b) in enumerate(zip(ours, want)):
            if case.wanted[i]:
                close(a, b, rtol, atol, f"{case}: output {i} of the reference rule")
    for use in [None, symbols] if symbols else [None]:
        facts, equalities = case.infer(use, known)
        for i, fact in enumerate(facts):
            if case.wanted[i]:
                _check_fact(case, fact, ours[i], use, equalities, exact, f"{case}: output {i}, inferred")
        try:
            lowered = case.lowered(use, known)
        except CannotLower as e:
            assert not lowers, f"{case} does not lower: {e}"
            continue
        assert lowers, f"{case} lowers, against what the test says"
        for i, (a, b) in enumerate(zip(lowered, ours)):
            if case.wanted[i]:
                close(a, b, rtol if lower_rtol is None else lower_rtol, atol if lower_atol is None else lower_atol,
                      f"{case}: output {i} of the lowering")


def _check_fact(case: Case, fact: Fact | None, want: np.ndarray, symbols: dict[tuple[int, int], str] | None,
                equalities: Equalities, exact: bool, what: str) -> None:
    assert fact is not None, what
    assert fact.dtype is dtypes.from_numpy(want.dtype), f"{what}: the dtype is {fact.dtype}, not {want.dtype}"
    assert fact.shape is not None, f"{what}: no shape"
    assert len(fact.shape) == want.ndim, f"{what}: {fact.shape} is not {want.shape}"
    values: dict[str, int] = {}
    for (i, a), name in (symbols or {}).items():
        assert values.setdefault(name, case.inputs[i].shape[a]) == case.inputs[i].shape[a], "one name, two sizes"
    for d, n in zip(fact.shape, want.shape):
        d = equalities.resolve(d) if isinstance(d, Dim) else d
        if d is None or (isinstance(d, Dim) and any(s.is_fresh for s in d.symbols())):
            assert not exact, f"{what}: {fact.shape} leaves a dim of {want.shape} unknown"
            continue
        assert (number_of(d, values) if isinstance(d, Dim) else d) == n, f"{what}: {fact.shape} is not {want.shape}"


# onnx's own cases

@cache
def _onnx_cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases
        return collect_testcases(None)


def onnx_cases(*operators: str) -> Iterator[tuple[Case, list[Any], float, float]]:
    """onnx's conformance cases of one node of these operators: (case, expected outputs, rtol, atol)."""
    for found in _onnx_cases():
        graph = found.model.graph
        node = graph.node[0]
        if len(graph.node) != 1 or node.op_type not in operators or node.domain not in ("", "ai.onnx"):
            continue
        inputs, expected = found.data_sets[0]
        by_name = dict(zip([i.name for i in graph.input], map(_array, inputs)))
        by_output = dict(zip([o.name for o in graph.output], map(_array, expected)))
        attributes = {a.name: _attribute(a) for a in node.attribute}
        case = Case(node.op_type, found.model.opset_import[0].version, [by_name[n] if n else None for n in node.input],
                    attributes, [bool(n) for n in node.output], found.name)
        yield case, [by_output.get(n) for n in node.output], found.rtol, found.atol


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _attribute(a: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [v.decode() if isinstance(v, bytes) else v for v in value]
    return value
