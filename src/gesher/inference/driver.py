"""The walk: every node once, in order, each operator's inference rule given the facts of its inputs.

What a reader would guess wrong:

- Bodies of If, Loop and Scan are inferred when their operator's rule asks, with what it says their inputs are. A rule
  may ask more than once; what the last asking found is what stays.
- A body may never run, so sizes that it demands to be equal are equal inside it only.
- A model-local function is inferred anew for each kind of call (types, known values, attributes), and calls of the same
  kind share one answer. Else functions that call each other twice, 26 deep, would take 2**26 steps.
- Calls go over a stack of our own, so a chain of ten thousand functions costs no recursion. Nested graphs do recurse
  through the rules, and are refused beyond `DEEPEST`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gesher.base import dtypes
from gesher.base.errors import FormatError, GesherError, ModelError, RunError, UnsupportedError
from gesher.base.knobs import DEBUG, debug
from gesher.base.report import Finding, Report
from gesher.ir import (
    Attribute,
    Function,
    Graph,
    Kind,
    Model,
    Node,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    Value,
)
from gesher.ir.bridge import no_collection
from gesher.ops import Fact, infer_node, resolve
from gesher.ops.calls import bind, bindings_of, called, function_table
from gesher.ops.fact import VALUE_LIMIT
from gesher.ops.fit import arity, attributes, counted
from gesher.ops.schema import Operator, Schema
from gesher.symbolic import Dim, Equalities

from .answers import another_time, attribute_signature, signature, symbols_of
from .declared import Declarations, refine
from .facts import Facts, resolved
from .folding import Folder
from .fractions import Fractions

DEEPEST = 64
"""Graphs nested deeper than this are refused."""

# Nodes that may be inferred beyond each once: for bodies asked about again, and functions called in many ways.
_EXTRA_WORK = 20_000


def infer(model: Model, *, dims: Mapping[str, int] | None = None, values: Mapping[str, Any] | None = None,
          strict: bool = False, opsets: Mapping[Node, dict[str, int]] | None = None,
          unread: Collection[Value] = ()) -> Facts:
    """Infer the types, shapes and known values of a whole model. Nothing is written into the model.

    Args:
        dims: sizes for symbols of the inputs, by name.
        values: the numbers of inputs that are known beforehand, by name.
        strict: raise at the first contradiction or unknown operator, instead of noting a finding and going on with
            what is known.
        opsets: imports of single nodes, where those of the graph they stand in do not hold for them.
        unread: initializers whose numbers count as unknown, for they may be trained.

    Raises:
        ModelError: functions call each other in a circle, graphs nest too deep, `dims` or `values` name what is not
            there; with `strict`, whatever does not fit.
        UnsupportedError: with `strict`, an operator that gesher does not know.

    >>> from gesher.base.dtypes import FLOAT
    >>> from gesher.ir import Graph, TensorType
    >>> from gesher.symbolic import sym
    >>> graph = Graph("main")
    >>> x = graph.add_input("x", TensorType(FLOAT, (sym("batch"), 3)))
    >>> infer(Model(graph, opsets={"": 21}))[x].type.__str__()
    'float(batch,3)'
    """
    return _Walk(model, dims or {}, values or {}, strict, opsets or {}, unread).run()


class _Frame:
    """A graph being walked: where the walk stands, and what its values are."""

    __slots__ = ("asked", "bindings", "call", "closures", "cursor", "env", "equalities", "fractions", "function",
                 "graph", "opsets", "place", "signature")

    def __init__(self, graph: Graph, env: dict[Value, Fact], opsets: dict[str, int],
                 bindings: Mapping[str, Attribute] | None, place: tuple[str, ...], equalities: Equalities):
        self.graph, self.env, self.opsets, self.bindings, self.place = graph, env, opsets, bindings, place
        self.equalities = equalities
        self.cursor: Node | None = graph.first
        # Numbers that a fact has no place for; a body shares those of the graph around it.
        self.fractions = Fractions()
        # Graphs that a call hands to a function as attributes: they capture from the caller.
        self.closures: dict[Graph, _Frame] = {}
        # Of a function's frame: the node that calls it, and what was asked of it.
        self.call: Node | None = None
        self.function: Function | None = None
        self.signature: Any = None
        self.asked: list[Fact | None] = []


class _Walk:
    def __init__(self, model: Model, dims: Mapping[str, int], values: Mapping[str, Any], strict: bool,
                 opsets: Mapping[Node, dict[str, int]], unread: Collection[Value]):
        self.model, self.values, self.strict, self.opsets, self.unread = model, values, strict, opsets, unread
        self.declarations = Declarations(dict(dims))
        self.functions = function_table(model.functions.values())
        self.facts: dict[Value, Fact] = {}
        self.equalities = Equalities()
        # By what each finding is about, so that a body that is inferred again says its last word only.
        self.found: dict[Node | Value, dict[Finding, None]] = {}
        self.input_symbols: frozenset[Dim] = frozenset()
        self.folder = Folder()
        self.answers: dict[Any, tuple[list[Fact | None], list[Fact | None]]] = {}
        self.active: set[Function] = set()
        self.depth = 0
        self.work = _EXTRA_WORK + 10 * sum(len(g) for g in (model.graph, *model.functions.values()))
        self.resolutions: dict[tuple[int, str, str], tuple[Operator, Schema] | GesherError] = {}

    def run(self) -> Facts:
        model = self.model
        frame = _Frame(model.graph, self.facts, model.opsets, None, (model.place, model.graph.place), self.equalities)
        with no_collection():
            self._inputs(frame)
            self._initializers(frame)
            self._walk(frame)
        self._outputs(frame)
        self._check_given()
        report = Report([f for found in self.found.values() for f in found])
        if DEBUG.number >= 1:
            debug(1, f"infer: {len(self.facts)} values, {len(report)} findings")
        return Facts(model, self.facts, self.equalities, report, self.input_symbols)

    # What a graph begins with

    def _inputs(self, frame: _Frame) -> None:
        """The main graph's inputs, as the file declares them."""
        symbols: set[Dim] = set()
        for value in frame.graph.inputs:
            def warn(what: str, advice: str, value: Value = value) -> None:
                self._note(value, Finding("warning", "input-dims", what, frame.place, advice))

            declared = self.declarations.of_input(value.type, value.name, warn)
            fact = Fact(declared, why="" if declared is not None else f"the input '{value.name}' declares no type")
            symbols.update(symbols_of(declared))
            if value.name in self.values:
                fact = self._given(value, fact, frame)
            frame.env[value] = fact
        self.input_symbols = frozenset(symbols)

    def _given(self, value: Value, fact: Fact, frame: _Frame) -> Fact:
        """The fact of an input whose numbers the caller tells."""
        tensor = Tensor.of(self.values[value.name], value.name, fact.dtype if fact.dtype.kind != "none" else None)
        known = Fact.of(tensor)
        if fact.type is not None:
            _, complaint = refine(known, fact.type, frame.equalities, frozenset(),
                                  f"the value given for '{value.name}'")
            if complaint:
                raise ModelError(f"the value given for '{value.name}' does not fit: {complaint}", rule="given-value",
                                 place=frame.place)
        return known

    def _initializers(self, frame: _Frame) -> None:
        env = frame.env
        # Before IR version 4 every initializer had to be listed among the inputs, and was a constant all the same.
        overridable = set(frame.graph.inputs) if self.model.ir_version >= 4 else ()
        for value in frame.graph.initializers:
            constant = value.constant
            if constant is None or (overridable and value in overridable and frame.graph is self.model.graph):
                if constant is not None:
                    env[value] = self._merge(env.get(value, Fact(None)), TensorType(_dtype(constant), constant.shape),
                                             value, frame)
                continue
            if value.name in self.values and frame.graph is self.model.graph:
                continue
            env[value] = _constant_fact(constant) if value not in self.unread else Fact(
                TensorType(_dtype(constant), constant.shape), why="its numbers may change")
            if value.type is not None and not (isinstance(value.type, TensorType) and value.type.shape is not None
                                               and value.type.dtype is _dtype(constant)
                                               and value.type.shape == constant.shape):
                env[value] = self._merge(env[value], self.declarations.of_value(value.type), value, frame)

    def _check_given(self) -> None:
        names = {v.name for v in self.model.graph.inputs}
        for name in self.values:
            if name not in names:
                raise ModelError(f"a value is given for '{name}', which is no input", rule="given-value",
                                 place=(self.model.place,), advice=f"the inputs: {', '.join(sorted(names)) or 'none'}")
        for name in self.declarations.given:
            if name not in self.declarations.used:
                symbols = sorted(s.name for s in self.input_symbols if not s.is_fresh)
                raise ModelError(f"a size is given for '{name}', which no shape of the model names", rule="given-dim",
                                 place=(self.model.place,), advice=f"the inputs name: {', '.join(symbols) or 'none'}")

    def _outputs(self, frame: _Frame) -> None:
        for value in frame.graph.outputs:
            if value not in frame.env:
                self._problem(value, ModelError(f"nothing makes the output '{value.name}'", rule="undefined-value"),
                              frame, "warning")

    # The walk

    def _walk(self, first: _Frame) -> None:
        """Walk a graph to its end, and the functions that it calls, and those that they call."""
        stack = [first]
        while stack:
            frame = stack[-1]
            callee = self._advance(frame)
            if callee is not None:
                stack.append(callee)
                continue
            stack.pop()
            if frame.function is not None:
                self._return(frame, stack[-1])

    def _advance(self, frame: _Frame) -> _Frame | None:
        """Infer nodes until one calls a function, whose frame is given, or the graph ends."""
        env = frame.env
        node = frame.cursor
        while node is not None:
            frame.cursor = node.next
            if frame.bindings is None and node in self.found:
                del self.found[node]
            bound = bind(node, frame.bindings)
            inputs: list[Fact | None] = []
            for v in node.inputs:
                if v is None:
                    inputs.append(None)
                    continue
                fact = env.get(v)
                if fact is None:
                    fact = self._unmade(v, node, frame)
                inputs.append(resolved(fact, frame.equalities))
            function = called(bound, self.functions)
            if function is None:
                self._infer(node, bound, inputs, frame)
            else:
                callee = self._call(node, bound, function, inputs, frame)
                if callee is not None:
                    return callee
            node = frame.cursor
        return None

    def _unmade(self, value: Value, node: Node, frame: _Frame) -> Fact:
        if self.strict:
            raise ModelError(f"it reads '{value.name}' before anything has made it", rule="node-order",
                             place=(*frame.place, node.place))
        return Fact(None, why=f"'{value.name}' is read before anything has made it")

    def _infer(self, node: Node, bound: Node, inputs: list[Fact | None], frame: _Frame) -> None:
        """One application of an operator."""
        why = ""
        outputs: list[Fact | None] = []
        opsets = self.opsets.get(node, frame.opsets)
        try:
            operator, schema = self._resolve(bound, opsets)
            misfit = next(arity(bound, schema), None) or next(attributes(bound, schema), None)
            if misfit is not None:
                raise ModelError(misfit.message, rule=misfit.rule, place=(node.place,), advice=misfit.advice)
            outputs = self._by_rule(bound, inputs, opsets, frame)
            failed = self.folder.fold(bound, operator, schema, inputs, outputs)
            frame.fractions.follow(bound, operator, schema, inputs, outputs, frame.equalities)
            if failed is not None:
                self._problem(node, ModelError(f"{node.op_type} fails on its known inputs: {failed}",
                                               rule="constant-fails", place=(node.place,)), frame, "warning")
        except UnsupportedError as e:
            why = e.what
            self._problem(node, e, frame, "warning")
        except (ModelError, FormatError) as e:
            why = e.what
            self._problem(node, e, frame, "error")
        except RunError as e:
            # A rule ran the node on its known inputs, and that failed.
            why = e.what
            self._problem(node, ModelError(f"{node.op_type} fails on its known inputs: {e.what}", rule="constant-fails",
                                           place=(node.place,), advice=e.advice), frame, "warning")
        self._store(node, outputs, why, frame)

    def _resolve(self, node: Node, opsets: dict[str, int]) -> tuple[Operator, Schema]:
        key = (id(opsets), node.domain, node.op_type)
        found = self.resolutions.get(key)
        if found is None:
            # An error names its node, so errors are not kept.
            found = self.resolutions[key] = resolve(node, opsets)
        return found  # type: ignore[return-value]

    def _by_rule(self, bound: Node, inputs: list[Fact | None], opsets: dict[str, int], frame: _Frame
                 ) -> list[Fact | None]:
        has_graphs = any(True for _ in bound.subgraphs()) if bound.attributes else False

        def body(graph: Graph, facts: Sequence[Fact | None]) -> list[Fact | None]:
            return self._body(graph, facts, frame)

        try:
            return infer_node(bound, opsets, inputs, frame.equalities, body if has_graphs else None)
        except GesherError:
            raise
        except RecursionError:
            raise ModelError("graphs are nested too deep", rule="nesting-depth", place=(bound.place,)) from None
        except Exception as e:
            # A rule may trust a model that fits its schema; what it trips over beyond that is told with its cause.
            raise ModelError(f"{bound.op_type}: its inference rule failed: {type(e).__name__}: {e}",
                             rule="inference-rule", place=(bound.place,),
                             advice="if the model is right, this is a fault in gesher") from e

    def _store(self, node: Node, outputs: Sequence[Fact | None], why: str, frame: _Frame) -> None:
        for i, value in enumerate(node.outputs):
            if value is None:
                continue
            fact = outputs[i] if i < len(outputs) else None
            if fact is None:
                fact = Fact(None, why=why or f"{node.op_type} does not tell its output {i}")
            if value.type is not None:
                fact = self._merge(fact, self.declarations.of_value(value.type), value, frame)
            frame.env[value] = fact.with_sizes(value.name)

    def _merge(self, fact: Fact, declared: Type | None, value: Value, frame: _Frame) -> Fact:
        if declared is None:
            return fact
        fact, complaint = refine(fact, declared, frame.equalities, self.input_symbols,
                                 f"the declared type of '{value.name}'")
        if complaint is not None:
            made = value.producer
            place = (*frame.place, made.place) if made is not None else (*frame.place, f"value '{value.name}'")
            e = ModelError(f"'{value.name}': {complaint}", rule="type-contradiction",
                           place=place, advice="what inference finds is taken; correct or remove the declaration")
            self._problem(value, e, frame, "error", placed=True)
        return fact

    # Findings

    def _note(self, about: Node | Value, finding: Finding) -> None:
        self.found.setdefault(about, {})[finding] = None

    def _problem(self, about: Node | Value, error: GesherError, frame: _Frame, severity: Any,
                 placed: bool = False) -> None:
        """Raise `error` when strict, else note it."""
        if not placed:
            error.within(*frame.place)
        if self.strict:
            raise error
        rule = error.rule if isinstance(error, ModelError) else \
            "operator-unknown" if isinstance(error, UnsupportedError) else "tensor-data"
        self._note(about, Finding(severity, rule or "shape-inference", error.what, error.place, error.advice))

    # Bodies

    def _body(self, graph: Graph, facts: Sequence[Fact | None], outer: _Frame) -> list[Fact | None]:
        """What a nested graph gives out when its inputs are `facts`."""
        if self.depth >= DEEPEST:
            raise ModelError(f"graphs are nested deeper than {DEEPEST} levels", rule="nesting-depth",
                             place=(graph.place,))
        self.work -= len(graph)
        if self.work < 0:
            return [Fact(o.type, why="the model asks for too much inference") for o in graph.outputs]
        outer = outer.closures.get(graph, outer)
        frame = _Frame(graph, outer.env, outer.opsets, outer.bindings, (*outer.place, graph.place),
                       outer.equalities.copy())
        frame.closures, frame.fractions = outer.closures, outer.fractions
        for i, value in enumerate(graph.inputs):
            fact = facts[i] if i < len(facts) else None
            if fact is None:
                fact = Fact(None, why=f"nobody tells what the input '{value.name}' of {graph.place} is")
            fact = self._merge(fact, self.declarations.of_value(value.type), value, frame)
            frame.env[value] = fact.with_sizes(value.name)
        self._initializers(frame)
        self.depth += 1
        try:
            self._walk(frame)
        finally:
            self.depth -= 1
        outputs: list[Fact | None] = []
        for o in graph.outputs:
            fact = frame.env.get(o)
            outputs.append(None if fact is None else resolved(fact, frame.equalities))
        return outputs

    # Functions

    def _call(self, node: Node, bound: Node, function: Function, inputs: list[Fact | None], frame: _Frame
              ) -> _Frame | None:
        """The frame of a call that is to be walked; None where its answer is known already."""
        if function in self.active:
            raise ModelError(f"{function.place} calls itself", rule="function-recursion",
                             place=(*frame.place, node.place), advice="a model's functions must not be recursive")
        if len(inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
            self._problem(node, ModelError(
                f"{function.place} has {counted(len(function.inputs), 'input')} and "
                f"{counted(len(function.outputs), 'output')}, the call gives {len(inputs)} and takes "
                f"{len(node.outputs)}", rule="function-arity", place=(node.place,)),
                frame, "error")
            self._store(node, [], "the call does not fit the function", frame)
            return None
        bindings = bindings_of(bound, function)
        # Answers hold what is equal where they were found, and inside a body more is equal than outside.
        asked = (function, frame.equalities, tuple(signature(f) for f in inputs),
                 tuple((k, attribute_signature(a)) for k, a in sorted(bindings.items())))
        closures = {g: frame.closures.get(g, frame) for a in bindings.values() if a.kind in (Kind.GRAPH, Kind.GRAPHS)
                    for g in (a.value if a.kind == Kind.GRAPHS else (a.value,))}
        # What a graph captures is no part of the signature, so calls that hand one over share no answers.
        known = None if closures else self.answers.get(asked)
        if known is not None:
            self._store(node, another_time(*known), "", frame)
            return None
        self.work -= len(function)
        if self.work < 0:
            self._store(node, [], "the model asks for too much inference", frame)
            return None
        callee = _Frame(function, {}, function.opsets, bindings, (self.model.place, function.place), frame.equalities)
        callee.call, callee.function, callee.signature, callee.asked = node, function, asked, inputs
        callee.closures = closures
        for i, value in enumerate(function.inputs):
            fact = inputs[i] if i < len(inputs) else None
            callee.env[value] = fact if fact is not None else Fact(None, why="the call leaves this input out")
        self._initializers(callee)
        self.active.add(function)
        return callee

    def _return(self, callee: _Frame, caller: _Frame) -> None:
        assert callee.function is not None and callee.call is not None
        self.active.discard(callee.function)
        outputs: list[Fact | None] = []
        for o in callee.graph.outputs:
            fact = callee.env.get(o)
            outputs.append(None if fact is None else resolved(fact, callee.equalities))
        self.answers[callee.signature] = (callee.asked, outputs)
        self._store(callee.call, outputs, f"{callee.function.place} does not tell", caller)


def _dtype(constant: Tensor | SparseTensor) -> dtypes.DType:
    return constant.values.dtype if isinstance(constant, SparseTensor) else constant.dtype


def _constant_fact(constant: Tensor | SparseTensor) -> Fact:
    if isinstance(constant, Tensor):
        return Fact.of(constant)
    # Operators read a sparse initializer as the dense tensor that it stands for.
    size = 1
    for d in constant.shape:
        size *= d
    try:
        dense = constant.numpy() if 0 <= size <= VALUE_LIMIT else None
    except GesherError as e:
        # Its type stands all the same; the checker tells what is wrong with the numbers.
        return Fact(TensorType(constant.values.dtype, constant.shape), why=e.what)
    return Fact(TensorType(constant.values.dtype, constant.shape), dense)
