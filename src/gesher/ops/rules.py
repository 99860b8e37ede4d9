"""What rules are given: `InferNode` for inference, `Run` for the reference rules; and how one node is inferred or run.

The drivers in `inference` and `evaluator` walk graphs; what one node means is settled here, so that a builder can check
and infer a node the moment it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError, UnsupportedError
from gesher.ir import DimLike, Function, Graph, Node, TensorType, Type
from gesher.symbolic import Dim, Equalities, fresh

from .fact import Fact
from .schema import BOOK, Operator, Schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def resolve(node: Node, opsets: dict[str, int]) -> tuple[Operator, Schema]:
    """The operator and schema version that `node` means under these opset imports.

    Raises:
        UnsupportedError: the book does not have the operator.
        ModelError: the domain is not imported, or the operator is newer than the import.
    """
    from . import find

    domain = "" if node.domain == "ai.onnx" else node.domain
    operator = find(domain, node.op_type)
    name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if operator is None:
        raise UnsupportedError(f"{name} is no operator that gesher knows", place=(node.place,),
                               advice="`gesher ops` lists those it knows; a model-local function can define it")
    version = opsets.get(domain, opsets.get("ai.onnx") if domain == "" else None)
    if version is None:
        raise ModelError(f"{name}: the model imports no version of the domain '{domain or 'ai.onnx'}'",
                         rule="opset-import", place=(node.place,), advice="add the domain to opset_import")
    schema = operator.schema(version)
    if schema is None:
        raise ModelError(f"{name} came with opset {operator.versions[0].version}, the model imports {version}",
                         rule="operator-version", place=(node.place,),
                         advice=f"import opset {operator.versions[0].version} or newer")
    return operator, schema


def attributes_of(node: Node, schema: Schema) -> dict[str, Any]:
    """Every attribute of the schema by name: as written, else its default, else None.

    Raises:
        ModelError: a required one is missing.
    """
    values: dict[str, Any] = {}
    for name, a in schema.attributes.items():
        written = node.attributes.get(name)
        if written is not None and not written.ref:
            values[name] = written.value
        elif a.required:
            raise ModelError(f"{node.op_type}: the attribute '{name}' is required", rule="attribute-missing",
                             place=(node.place,))
        else:
            values[name] = a.default
    return values


class InferNode:
    """One node as an inference rule sees it.

    Attributes:
        inputs: a `Fact` for each input; None for one left out. Reading past the end through `input(i)` gives None.
        outputs: to be filled by the rule; None for one left out or unknown.
        version: the version of the schema that applies.
        node: the node itself, for its place and subgraphs.
    """

    __slots__ = ("_attributes", "equalities", "infer_body", "inputs", "node", "operator", "outputs", "schema")

    def __init__(self, node: Node, operator: Operator, schema: Schema, inputs: Sequence[Fact | None],
                 equalities: Equalities | None = None,
                 infer_body: Callable[[Graph, Sequence[Fact | None]], list[Fact | None]] | None = None):
        self.node, self.operator, self.schema = node, operator, schema
        self.inputs: list[Fact | None] = list(inputs)
        self.outputs: list[Fact | None] = [None] * len(node.outputs)
        self._attributes = attributes_of(node, schema)
        self.equalities = equalities
        self.infer_body = infer_body

    @property
    def version(self) -> int:
        return self.schema.version

    def __getitem__(self, attribute: str) -> Any:
        """The value of an attribute, its default where it is not written, or None."""
        return self._attributes[attribute]

    def written(self, attribute: str) -> bool:
        """True where the node itself writes the attribute."""
        return attribute in self.node.attributes

    # Inputs

    def input(self, index: int) -> Fact | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def has(self, index: int) -> bool:
        """True where input `index` is given (known or not)."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def type(self, index: int) -> Type | None:
        f = self.input(index)
        return None if f is None else f.type

    def dtype(self, index: int) -> DType:
        f = self.input(index)
        return dtypes.UNDEFINED if f is None else f.dtype

    def shape(self, index: int) -> tuple[DimLike, ...] | None:
        """The shape of input `index` with unknown dims made fresh symbols; None where the rank is unknown."""
        f = self.input(index)
        if f is None or f.shape is None:
            return None
        return tuple(fresh(f"dim {i} of {self._input_name(index)} is unknown") if d is None else d
                     for i, d in enumerate(f.shape))

    def rank(self, index: int) -> int | None:
        f = self.input(index)
        return None if f is None else f.rank

    def value(self, index: int) -> NDArray[Any] | None:
        """The known numbers of input `index` (see `Fact.value`)."""
        f = self.input(index)
        return None if f is None else f.value

    def ints(self, index: int) -> list[DimLike] | None:
        f = self.input(index)
        return None if f is None else f.ints()

    def numbers(self, index: int) -> NDArray[Any] | None:
        f = self.input(index)
        return None if f is None else f.numbers()

    def _input_name(self, index: int) -> str:
        v = self.node.inputs[index]
        return f"'{v.name}'" if v is not None and v.name else f"input {index}"

    # Outputs

    def set(self, index: int, dtype: DType, shape: Sequence[DimLike | None] | None, value: Any = None,
            why: str = "") -> None:
        """Say what output `index` is; nothing happens where the node leaves it out."""
        if index < len(self.outputs) and self.node.outputs[index] is not None:
            self.outputs[index] = Fact.tensor(dtype, shape, value, why)

    def set_fact(self, index: int, fact: Fact | None) -> None:
        if index < len(self.outputs) and self.node.outputs[index] is not None:
            self.outputs[index] = fact

    # Symbols

    def fresh(self, reason: str) -> Dim:
        """A new unknown dim, with the reason for it."""
        return fresh(f"{self.node.op_type}: {reason}")

    def unify(self, a: DimLike | None, b: DimLike | None, what: str) -> DimLike | None:
        """One dim for two that must be equal; `what` says why they must.

        Raises:
            ModelError: they surely differ.
        """
        if a is None or b is None:
            return a if b is None else b
        if isinstance(a, int) and isinstance(b, int):
            if a != b:
                self.fail(f"{what}: {a} and {b} differ")
            return a
        if self.equalities is None:
            return a if isinstance(a, int) or (isinstance(b, Dim) and b.is_fresh) else b
        from gesher.symbolic import Contradiction

        try:
            return self.equalities.unify(a, b, f"{self.node.place}: {what}")
        except Contradiction as e:
            self.fail(f"{what}: {a} and {b} differ", str(e), "dim-contradiction")

    def fail(self, what: str, advice: str | None = None, rule: str = "shape-inference") -> NoReturn:
        """Refuse the node: a `ModelError` with its place."""
        raise ModelError(f"{self.node.op_type}: {what}", rule=rule,
                         place=(f"{self.node.place[:-1]}, opset {self.version})",), advice=advice)

    def infer_graph(self, graph: Graph, inputs: Sequence[Fact | None]) -> list[Fact | None]:
        """What the outputs of a subgraph are, given what its inputs are."""
        if self.infer_body is None:
            return [Fact(o.type, why="subgraphs are not looked into here") for o in graph.outputs]
        return self.infer_body(graph, inputs)


def infer_node(node: Node, opsets: dict[str, int], inputs: Sequence[Fact | None],
               equalities: Equalities | None = None,
               infer_body: Callable[[Graph, Sequence[Fact | None]], list[Fact | None]] | None = None,
               ) -> list[Fact | None]:
    """The facts of a node's outputs. Where the operator has no rule, the types that the schema fixes.

    Raises:
        UnsupportedError, ModelError: see `resolve`; or the rule found that the inputs do not fit.
    """
    operator, schema = resolve(node, opsets)
    seen = InferNode(node, operator, schema, inputs, equalities, infer_body)
    rule = operator.rule("infer", schema.version)
    if rule is not None:
        rule.function(seen)
    for i, out in enumerate(node.outputs):
        if out is not None and seen.outputs[i] is None:
            seen.outputs[i] = Fact(_type_by_schema(seen, i), why=f"{node.op_type} does not tell its output {i}")
    return seen.outputs


def _type_by_schema(seen: InferNode, index: int) -> Type | None:
    """The type of output `index` as far as type constraints alone settle it: shared with an input, or only one."""
    if not seen.schema.outputs:
        return None
    formal = seen.schema.output(index)
    for i, fact in enumerate(seen.inputs):
        if fact is not None and isinstance(fact.type, TensorType) and seen.schema.input(i).type == formal.type:
            return TensorType(fact.type.dtype)
    allowed = seen.schema.allowed(formal.type)
    if len(allowed) == 1 and next(iter(allowed)).startswith("tensor("):
        return TensorType(dtypes.BY_NAME[next(iter(allowed))[7:-1]])
    return None


@dataclass(frozen=True, slots=True)
class Site:
    """Where a node that is being lowered stands, for lowerings that refer to other nodes: the builder's `site`.

    Attributes:
        node: the node.
        resolve: the operator and schema that a node around it means.
    """

    node: Node
    resolve: Callable[[Node], tuple[Operator, Schema]]


class Run:
    """What a reference rule may ask beside its inputs: it gets one by naming a parameter `run`.

    Attributes:
        version: of the schema that applies.
        node: the node being run.
        wanted: for each output of the node, whether anyone can read it (False: left out).
        run_graph: runs a subgraph on a list of inputs and gives its outputs; captured values are bound by the driver.
        random: the generator of this run.
        budget: the largest tensor, in bytes, that a rule may make.
        functions: the functions of the model.
        kept: what the rule made of the node's attributes alone, for its next run; empty again where they may change.
    """

    __slots__ = ("budget", "functions", "kept", "node", "opsets", "random", "run_graph", "schema", "version", "wanted")

    def __init__(self, node: Node, schema: Schema, *, run_graph: Callable[[Graph, Sequence[Any]], list[Any]],
                 random: np.random.Generator, budget: int, opsets: dict[str, int],
                 functions: dict[tuple[str, str, str], Function] | None = None, kept: dict[Any, Any] | None = None):
        self.node, self.schema, self.version = node, schema, schema.version
        self.kept = {} if kept is None else kept
        self.wanted = [o is not None for o in node.outputs]
        self.run_graph, self.random, self.budget, self.opsets = run_graph, random, budget, opsets
        self.functions = functions or {}

    def allow(self, shape: Sequence[int], dtype: np.dtype[Any] | Any) -> None:
        """Refuse to make a tensor above the budget.

        Raises:
            RunError: it would be too large.
        """
        allow(self.node, shape, dtype, self.budget)


def allow(node: Node, shape: Sequence[int], dtype: np.dtype[Any] | Any, budget: int) -> None:
    """Refuse to make a tensor above the budget, in bytes.

    Raises:
        RunError: it would be too large.
    """
    import numpy as np

    from gesher.base.errors import RunError

    size = np.dtype(dtype).itemsize
    for d in shape:
        size *= int(d)
    if size > budget:
        raise RunError(f"{node.op_type} would make a tensor of {size:,} bytes, the budget is {budget:,}",
                       place=(node.place,), advice="raise GESHER_BUDGET_MB if the machine has the memory")


def run_node(node: Node, operator: Operator, schema: Schema, inputs: Sequence[Any], run: Run) -> list[Any]:
    """The outputs of one node by its reference rule: numpy arrays, lists for sequences, None for empty optionals.

    Raises:
        UnsupportedError: the operator has no reference rule for this version.
    """
    rule = operator.rule("reference", schema.version)
    if rule is None:
        raise UnsupportedError(f"{schema.name} of opset {schema.version} has no reference rule", who="reference",
                               place=(node.place,))
    attributes = attributes_of(node, schema)
    if rule.takes_run:
        attributes["run"] = run
    result = rule.function(*inputs, **attributes)
    outputs = list(result) if isinstance(result, tuple) else [result]
    return outputs[:len(node.outputs)]


__all__ = ["BOOK", "InferNode", "Run", "Site", "attributes_of", "infer_node", "resolve", "run_node"]
