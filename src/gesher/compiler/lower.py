"""From a graph to segments: runs of nodes lowered to primitives, and between them the nodes that are not.

Every node is tried in order with one builder, so that a segment spans as much of the graph as can be: a node joins the
earliest segment behind the last fallback that it depends on. A fallback node runs by its reference rule in the same
session; why it was not lowered is kept with it.

What a reader would guess wrong:

- Shapes inside a segment come from the primitives, not from inference. Inference says what enters it, types of inputs
  and of what fallback nodes make, and values that it knows better.
- An If whose condition hangs on sizes alone, or on small integer inputs, is settled when the graph is lowered, with the
  arrays of a run as the oracle: its branch is put in place, and the condition becomes a guard of this lowering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError
from gesher.evaluator.plan import Plan as GraphSteps
from gesher.evaluator.plan import Step as NodeStep
from gesher.inference import Facts
from gesher.ir import Graph, Node, SparseTensor, Tensor, TensorType, Value
from gesher.ops import Fact
from gesher.ops.rules import Site, attributes_of
from gesher.ops.schema import Operator, Schema
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import Dim, DimLike, fresh

from . import control
from .conditions import FEW, hangs_on_sizes, settle, sizes_of
from .lowered import Fallback, Lowered, NeedsOracle, Stage, captured_by
from .plan import check_types

# Integers up to which the builder is told what inference knows.
_LEARNED = 64


class LoweringFault(CannotLower):
    """A lowering raised what it should not. The model still runs, by the reference rule; the fault is told."""


class Lowering:
    """Lowers one graph.

    Args:
        steps: the graph's nodes, resolved.
        facts: what inference knows.
        opsets: the imports that hold in the graph.
        given: types to take for inputs and captured values instead of what inference says.
        trusting: whether small integer tensors may be taken for sizes that are not negative. A session tries that
            first, and does without where the numbers then are others.
        bodies: the nested graphs, resolved.
        oracle: arrays of a run, by which conditions on sizes are settled; None leaves such conditions open, unless
            `asks`, which raises `NeedsOracle` at the first.
    """

    def __init__(self, steps: GraphSteps, facts: Facts, given: dict[Value, TensorType] | None = None,
                 trusting: bool = True, bodies: Mapping[Graph, GraphSteps] | None = None,
                 oracle: Mapping[Value, Any] | None = None, asks: bool = False):
        self.steps, self.facts, self.trusting = steps, facts, trusting
        self.bodies, self.oracle, self.asks = bodies or {}, oracle, asks
        self.guards: list[tuple[Expr, bool]] = []
        self.same: dict[Value, Value] = {}
        self.given = given or {}
        self.builder = Builder()
        self.exprs: dict[Value, Expr] = {}
        self.stage_of: dict[Value, int] = {}
        self.made_by_fallback: set[Value] = set()
        self.stages: list[Stage] = []
        self.leaves: dict[Value, Expr] = {}
        self.refused: dict[Value, str] = {}
        self.symbols: set[Dim] = set()
        self.learned: dict[Value, list[Dim]] = {}
        self.names: dict[str, int] = {}
        self.checked: set[Expr] = set()
        self.meanings: dict[Node, tuple[Operator, Schema]] = {}

    def run(self) -> Lowered:
        graph = self.steps.graph
        entering = [*self.steps.captures, *(v for v in graph.inputs if v not in self.exprs)]
        # Plain symbols first: sums of them are checked against what they then are.
        for v in entering:
            self._note_symbols(v)
        for step in self.steps.steps:
            self._node(step)
        return self._cut()

    # Values

    def _fact(self, v: Value) -> Fact:
        if v in self.given:
            return Fact(self.given[v])
        return self.facts[v]

    def _note_symbols(self, v: Value) -> None:
        if v in self.learned or isinstance(v.constant, (Tensor, SparseTensor)):
            return
        fact = self._fact(v)
        # What never enters a segment tells no sizes there.
        if fact.dtype is dtypes.STRING or fact.dtype.kind == "complex":
            return
        for d in fact.shape or ():
            if isinstance(d, Dim) and d.op == "sym":
                self.symbols.add(d)

    def _unique(self, v: Value) -> str:
        name = v.name or "value"
        n = self.names[name] = self.names.get(name, 0) + 1
        return name if n == 1 else f"{name}#{n}"

    def source(self, v: Value) -> Value:
        """The value that `v` is only another name of."""
        while v in self.same:
            v = self.same[v]
        return v

    def expr(self, v: Value) -> Expr:
        """The expression of a value.

        Raises:
            CannotLower: it is no tensor, or its type or rank is not known.
        """
        v = self.source(v)
        found = self.exprs.get(v)
        if found is not None:
            return found
        if v in self.refused:
            raise CannotLower(self.refused[v])
        constant = self._constant(v)
        if constant is not None:
            if constant.dtype is dtypes.STRING:
                raise CannotLower(f"'{v.name}' holds strings")
            made = self.builder.constant(constant)
        else:
            made = self._leaf(v)
        self.exprs[v] = made
        return made

    def _constant(self, v: Value) -> Tensor | None:
        if v in self.given:
            return None
        if v.constant is not None and v.producer is None and not (v.is_input and self._overridable(v)):
            held = v.constant
            return held if isinstance(held, Tensor) else Tensor.of(held.numpy(), v.name)
        return None

    def _overridable(self, v: Value) -> bool:
        return self.facts.model.ir_version >= 4

    def _leaf(self, v: Value) -> Expr:
        """What comes from outside the segments, as an input of its type."""
        fact = self._fact(v)
        if not isinstance(fact.type, TensorType) or fact.dtype is dtypes.UNDEFINED:
            raise CannotLower(f"what '{v.name}' is, is not known before running" if fact.type is None
                              else f"'{v.name}' is {fact.type}, no tensor of a known type")
        if fact.dtype is dtypes.STRING or fact.dtype.kind == "complex":
            raise CannotLower(f"'{v.name}' is {fact.type}")
        if fact.shape is None:
            raise CannotLower(f"the rank of '{v.name}' is not known before running")
        shape: list[DimLike] = []
        for d in fact.shape:
            if d is None or (isinstance(d, Dim) and d.op != "sym" and not d.symbols() <= self.symbols):
                d = fresh(f"a size of '{v.name}'")
            if isinstance(d, Dim) and d.op == "sym":
                self.symbols.add(d)
            shape.append(d)
        made = self.builder.input(self._unique(v), fact.dtype, shape)
        made.name = v.name
        self.leaves[v] = made
        self._learn_fact(made, fact)
        return made

    def _learn_fact(self, e: Expr, fact: Fact) -> None:
        """Let the builder know what inference knows."""
        if not (e.dtype.is_integer or e.dtype is dtypes.BOOL) or e.prim == "constant":
            return
        value = fact.value
        if value is None or value.size > _LEARNED or self.builder.known(e) is not None:
            return
        if value.dtype == object:
            for x in value.reshape(-1):
                if isinstance(x, Dim) and not x.symbols() <= self.symbols:
                    return
        if value.shape == e.shape:
            self.builder.learn(e, value)

    # Nodes

    def _node(self, step: NodeStep) -> None:
        node = step.node
        if node.op_type == "If" and node.domain in ("", "ai.onnx") and self._settled_if(step):
            return
        try:
            results = self.lowered(step)
        except CannotLower as e:
            self._fall_back(step, e.reason, isinstance(e, LoweringFault))
            return
        stage = max((self._behind(v) for v in control.reads(step)), default=0)
        self._stage(stage).nodes.append(node)
        for v, made in zip(node.outputs, results):
            if v is not None:
                self.exprs[v] = made
                self.stage_of[v] = stage
                if made.prim not in ("input", "constant", "parameter"):
                    made.name = made.name or v.name
                self._learn_fact(made, self.facts[v])

    def _behind(self, v: Value) -> int:
        """The first stage whose segment can read `v`."""
        v = self.source(v)
        if v in self.made_by_fallback:
            return self.stage_of[v] + 1
        return self.stage_of.get(v, 0)

    def outcome(self, step: NodeStep) -> bool | None:
        """How the condition of an If comes out, where that can be told; it is then one of the guards."""
        condition = step.inputs[0] if step.inputs else None
        if condition is None:
            return None
        try:
            e = self.expr(condition)
        except CannotLower:
            return None
        known = self.builder.known(e)
        if known is not None and known.dtype != object and known.size == 1:
            return bool(known.reshape(-1)[0])
        if e.scopes or not hangs_on_sizes(e, {x: v for v, x in self.leaves.items()}, self.steps):
            return None
        if self.oracle is None:
            if self.asks:
                raise NeedsOracle(step.node.place)
            return None
        value = settle(e, {x: v for v, x in self.leaves.items()}, self.oracle, self._sizes_of_oracle())
        if value is None:
            return None
        self.guards.append((e, bool(value)))
        return bool(value)

    def _settled_if(self, step: NodeStep) -> bool:
        """Put the branch of an If in place whose condition can be told; whether it was done."""
        outcome = self.outcome(step)
        if outcome is None:
            return False
        attributes = step.attributes if step.attributes is not None else {}
        branch = attributes.get("then_branch" if outcome else "else_branch")
        if branch is None or branch not in self.bodies or len(branch.outputs) < len(step.node.outputs):
            return False
        for inner_step in self.bodies[branch].steps:
            self._node(inner_step)
        for outer, inner_value in zip(step.node.outputs, branch.outputs):
            if outer is not None:
                self.same[outer] = inner_value
        return True

    def _sizes_of_oracle(self) -> dict[Dim, int]:
        assert self.oracle is not None
        return sizes_of(self.leaves, self.oracle)

    def _stage(self, index: int) -> Stage:
        while len(self.stages) <= index:
            self.stages.append(Stage())
        return self.stages[index]

    def _fall_back(self, step: NodeStep, reason: str, fault: bool = False) -> None:
        if fault:
            knobs.debug(1, f"a fault in gesher: {step.node.place} runs by its reference rule: {reason}")
        reads = [self.source(v) for v in step.inputs if v is not None]
        reads += [self.source(v) for g in step.node.subgraphs() for v in captured_by(g)]
        stage = max((self.stage_of.get(v, 0) for v in reads), default=0)
        self._stage(stage).fallbacks.append(Fallback(step, reason, fault))
        for v in step.node.outputs:
            if v is not None:
                self.stage_of[v] = stage
                self.made_by_fallback.add(v)

    def lowered(self, step: NodeStep) -> list[Expr]:
        """The expressions of a node's outputs.

        Raises:
            CannotLower: with the reason.
        """
        assert step.operator is not None and step.schema is not None
        rule = step.operator.rule("lower", step.schema.version)
        if rule is None and not control.is_control_flow(step.node):
            raise CannotLower("the operator has no lowering for this version")
        args = [None if v is None else self.expr(v) for v in step.inputs]
        for again in (True, True, False):
            try:
                return self._controlled(step) if rule is None else self._applied(step, rule.function, args)
            except CannotLower:
                # Perhaps it lacks only numbers that will be known when the segment starts.
                if not again or not self._learn_numbers(args):
                    raise
        raise AssertionError

    def _controlled(self, step: NodeStep) -> list[Expr]:
        try:
            results = control.lower(self, step)
        except GesherError as e:
            raise CannotLower(e.what) from e
        return self._checked(step, results)

    def _applied(self, step: NodeStep, function: Any, args: Sequence[Expr | None]) -> list[Expr]:
        assert step.schema is not None
        builder = self.builder
        builder.outputs, builder.version = len(step.node.outputs), step.schema.version
        builder.site = Site(step.node, self._meaning)
        attributes = step.attributes if step.attributes is not None else attributes_of(step.node, step.schema)
        try:
            result = function(builder, *args, **attributes)
        except GesherError as e:
            raise CannotLower(e.what) from e
        except (CannotLower, AssertionError):
            raise
        except Exception as e:
            if knobs.VERIFY.number:
                raise
            raise LoweringFault(f"its lowering failed: {type(e).__name__}: {e}") from e
        return self._checked(step, list(result) if isinstance(result, (tuple, list)) else [result])

    def _checked(self, step: NodeStep, results: list[Expr]) -> list[Expr]:
        wanted = step.node.outputs
        if len(results) < len(wanted) or any(v is not None and not isinstance(e, Expr)
                                             for v, e in zip(wanted, results)):
            raise CannotLower("its lowering does not give all outputs")
        for v, made in zip(wanted, results):
            if v is not None and made not in self.checked:
                check_types([made], self.checked)
                self._check_shape(made)
        return results

    def _meaning(self, node: Node) -> tuple[Operator, Schema]:
        """The operator and schema of another node of this graph, or of one nested in it."""
        if not self.meanings:
            plans = [self.steps, *self.bodies.values()]
            self.meanings = {s.node: (s.operator, s.schema) for plan in plans for s in plan.steps
                             if s.operator is not None and s.schema is not None}
        if node not in self.meanings:
            raise CannotLower(f"{node.place} stands outside of what is lowered")
        return self.meanings[node]

    def _check_shape(self, e: Expr) -> None:
        loose = {s for d in e.shape if isinstance(d, Dim) for s in d.symbols()} - self.symbols
        if loose:
            s = min(loose, key=str)
            raise CannotLower(f"a size of the result is not known when it starts: {s.reason or s}")

    def _learn_numbers(self, args: Sequence[Expr | None]) -> bool:
        """Bind the elements of small integer tensors that `args` hang on to symbols; whether any was new."""
        if not self.trusting:
            return False
        found = False
        by_expr = {e: v for v, e in self.leaves.items()}
        pending = [a for a in args if a is not None and a.dtype is dtypes.INT64 and self.builder.known(a) is None]
        seen: set[Expr] = set()
        while pending:
            e = pending.pop()
            if e in seen:
                continue
            seen.add(e)
            v = by_expr.get(e)
            if v is None:
                pending.extend(e.args)
                continue
            size = 1
            for d in e.shape:
                size = size * d if isinstance(d, int) else FEW + 1
            if e.dtype not in (dtypes.INT64, dtypes.INT32) or size > FEW or v in self.learned:
                continue
            symbols = [fresh(f"element {i} of '{v.name}'") for i in range(size)]
            value = np.empty(size, object)
            for i, s in enumerate(symbols):
                value[i] = s
            value = value.reshape([int(d) for d in e.shape if isinstance(d, int)])
            self.symbols.update(symbols)
            self.learned[v] = symbols
            # What was looked at before and not known, may be now.
            self.builder.forget_unknown()
            self.builder.learn(e, value)
            found = True
        return found

    # Cutting

    def _cut(self) -> Lowered:
        graph = self.steps.graph
        aliases: dict[Value, Value | np.ndarray] = {}
        by_expr = {e: v for v, e in self.leaves.items()}
        wanted: dict[Value, None] = dict.fromkeys(map(self.source, graph.outputs))
        for here, stage in enumerate(self.stages):
            for f in stage.fallbacks:
                for v in f.step.inputs:
                    if v is not None:
                        wanted[self.source(v)] = None
                for g in f.node.subgraphs():
                    wanted.update(dict.fromkeys(map(self.source, captured_by(g))))
            for node in stage.nodes:
                for named in (*node.inputs, *(v for g in node.subgraphs() for v in captured_by(g))):
                    v = None if named is None else self.source(named)
                    if v is not None and v in self.exprs and v not in self.made_by_fallback \
                            and self.stage_of.get(v, here) < here:
                        wanted[v] = None
        held: dict[Expr, Value] = {}
        # Bodies hand on what they give out; of the model itself it is copied anyway, by the segment in the least time.
        given_out = set(map(self.source, graph.outputs)) if graph is self.facts.model.graph else ()
        for v in wanted:
            if v in self.made_by_fallback or v not in self.stage_of:
                constant = self._constant(v) if v not in self.stage_of else None
                if constant is not None:
                    aliases[v] = constant.numpy()
                continue
            e = self.exprs[v]
            if v in given_out:
                self.stages[self.stage_of[v]].outputs[v] = e
                held.setdefault(e, v)
            elif e in by_expr:
                aliases[v] = by_expr[e]
            elif e.prim == "constant":
                value = e.params["value"]
                aliases[v] = value if isinstance(value, np.ndarray) else value.numpy()
            elif e in held:
                aliases[v] = held[e]
            else:
                held[e] = v
                self.stages[self.stage_of[v]].outputs[v] = e
        aliases.update(self.same)
        stages = [s for s in self.stages if s.outputs or s.fallbacks]
        return Lowered(graph, stages, self.leaves, aliases, self.learned, self.guards, self.symbols)
