"""`Work`: a model being rewritten, and everything that a rule may ask about it or make in it.

What a reader would guess wrong:

- What a rule makes speaks the newest opsets, whatever the model imports: `Work.opsets` says so for each node made, as
  it does for nodes whose function imported other versions. A model that has been worked on is thus for those who are
  handed that table too; it is no file.
- A rule sees a node only where the node means what it would mean in the newest opset (`current`). Older spellings are
  for the rules that bring them up to date, which ask for `version`.
- Facts of old values stay true, for a rewrite changes no value's meaning; facts of new ones are inferred when made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import GesherError
from gesher.base.knobs import DEBUG, VERIFY
from gesher.inference import Facts, infer
from gesher.inference.folding import Folder
from gesher.ir import DimLike, Edit, Graph, Kind, Model, Node, Tensor, TensorType, Value
from gesher.ops import Fact, find, infer_node, resolve
from gesher.ops.fact import VALUE_LIMIT
from gesher.ops.fit import types
from gesher.ops.releases import ML, NEWEST
from gesher.ops.schema import Operator, Schema
from gesher.ops.writing import as_attribute
from gesher.symbolic import Contradiction, Dim, decide_eq

NEWEST_OPSETS: dict[str, int] = {"": NEWEST.opset, ML: NEWEST.ml, "com.microsoft": 1, "gesher": 1}
"""What nodes made by rules import."""

# Constants up to this many bytes are made once.
_SHARED_BYTES = 1024

# Operators that give another answer each time they run; Dropout is one only in training.
RANDOM = frozenset(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                    "RandomUniformLike"))


class Refused(Exception):  # noqa: N818  (an answer, not a fault)
    """A rule found that it cannot do what it set out to; what it has made so far is taken back."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Work:
    """One model being rewritten in place.

    Args:
        model: the model; it should be a private copy.
        opsets: imports of single nodes, where the model's do not hold for them. It grows.
        kept: initializers that stay what they are, for they may be trained: no rule knows their numbers.
        own: whether what rules make must speak the model's own opsets, so that the model stays a file.

    Attributes:
        edit: the journal.
        at: the node in front of which new ones are put.
        made: nodes made since the current rule began.
        rewrites: how many there were, `fired` by rule.
        stop_after: the rewrite after which the driver stops, or None.
        debug, verify: `GESHER_DEBUG` and `GESHER_VERIFY`.
    """

    def __init__(self, model: Model, opsets: dict[Node, dict[str, int]] | None = None,
                 kept: Collection[Value] = (), own: bool = False):
        self.model, self.kept, self.own = model, frozenset(kept), own
        self.opsets: dict[Node, dict[str, int]] = {} if opsets is None else opsets
        self.edit = Edit(model)
        self.facts: Facts = infer(model, opsets=self.opsets, unread=self.kept)
        self.equalities = self.facts.equalities
        learn_from_broadcasts(model.graph, self.facts)
        self.at: Node | None = None
        self.made: list[Node] = []
        self.rewrites, self.fired = 0, Counter[str]()
        self.stop_after: int | None = None
        self.debug, self.verify = DEBUG.number, VERIFY.number
        self._new: dict[Value, Fact] = {}
        self._folder = Folder()
        self._shared: dict[tuple[DType, tuple[int, ...], bytes], Value] = {}
        self._meanings: dict[tuple[int, str, str], tuple[Operator, Schema, bool] | None] = {}

    # What values are

    def fact(self, value: Value) -> Fact:
        """What is known of a value, old or new."""
        found = self._new.get(value)
        return self.facts[value] if found is None else found

    def dtype(self, value: Value) -> DType:
        return self.fact(value).dtype

    def shape(self, value: Value) -> tuple[DimLike, ...] | None:
        """The shape; unknown sizes are symbols that equal no other. None where the rank is unknown."""
        return self.fact(value).shape  # type: ignore[return-value]

    def constant_of(self, value: Value | None) -> Tensor | None:
        """The tensor of a value that is the same in every run; its numbers may be large and not made yet."""
        if value is None:
            return None
        fact = self.fact(value)
        if fact.constant is not None:
            return fact.constant
        known = fact.numbers() if fact._value is not None and isinstance(fact.type, TensorType) else None
        return None if known is None else Tensor.of(known, dtype=fact.dtype)

    def numbers(self, value: Value) -> np.ndarray[Any, Any] | None:
        """The numbers of a small constant (up to `VALUE_LIMIT` elements); None for all else."""
        fact = self.fact(value)
        if fact.constant is not None and fact.constant.size > VALUE_LIMIT:
            return None
        return fact.numbers()

    def scalar(self, value: Value) -> Any:
        """The one number of a constant of one element, as Python has it; None for all else."""
        found = self.numbers(value)
        return found.reshape(-1)[0].item() if found is not None and found.size == 1 and found.dtype != object else None

    def ints(self, value: Value | None) -> list[int] | None:
        """The numbers of a small integer constant as a flat list; None for all else."""
        found = None if value is None else self.numbers(value)
        return None if found is None or found.dtype.kind not in "iu" else [int(x) for x in found.reshape(-1)]

    def same(self, a: Value | None, b: Value | None) -> bool:
        """Whether two values surely hold the same: one value, or small constants of the same bytes."""
        if a is b:
            return True
        if a is None or b is None or self.dtype(a) is not self.dtype(b):
            return False
        x, y = self.numbers(a), self.numbers(b)
        return x is not None and y is not None and x.shape == y.shape and x.dtype != object \
            and x.tobytes() == y.tobytes()

    def equal(self, a: DimLike | None, b: DimLike | None) -> bool:
        """Whether two sizes are surely equal."""
        if a is None or b is None:
            return False
        return a is b or decide_eq(self.equalities.resolve(a), self.equalities.resolve(b)) is True

    def same_shape(self, a: Sequence[DimLike | None] | None, b: Sequence[DimLike | None] | None) -> bool:
        """Whether two shapes are surely the same."""
        return a is not None and b is not None and len(a) == len(b) and all(map(self.equal, a, b))

    # What nodes are

    def imports(self, node: Node) -> dict[str, int]:
        """The opset imports that hold for a node."""
        found = self.opsets.get(node)
        return self.model.opsets if found is None else found

    def meaning(self, node: Node) -> tuple[Operator, Schema, bool] | None:
        """The operator and schema of a node, and whether it means what it would in the newest opset."""
        imports = self.imports(node)
        key = (id(imports), node.domain, node.op_type)
        if key not in self._meanings:
            try:
                operator, schema = resolve(node, imports)
            except GesherError:
                self._meanings[key] = None
            else:
                newest = operator.schema(NEWEST_OPSETS.get(operator.domain, schema.version)) or schema
                current = not newest.deprecated and operator.widens(schema.version, newest.version)
                self._meanings[key] = (operator, schema, current)
        return self._meanings[key]

    def is_current(self, node: Node) -> bool:
        """Whether a node means what it would in the newest opset."""
        found = self.meaning(node)
        return found is not None and found[2]

    def version(self, node: Node) -> int:
        """The version of the schema that applies to a node; 0 where there is none."""
        found = self.meaning(node)
        return 0 if found is None else found[1].version

    def attribute(self, node: Node, name: str) -> Any:
        """An attribute of a node: as written, else its default, else None."""
        written = node.attributes.get(name)
        if written is not None:
            return written.value
        found = self.meaning(node)
        formal = None if found is None else found[1].attributes.get(name)
        return None if formal is None or formal.required else formal.default

    def producer(self, value: Value | None, *op_types: str, domain: str = "") -> Node | None:
        """The node that makes `value` as its first output, where it is one of these operators, and current."""
        node = None if value is None else value.producer
        if node is None or node.op_type not in op_types or node.outputs[0] is not value \
                or ("" if node.domain == "ai.onnx" else node.domain) != domain or not self.is_current(node):
            return None
        return node

    def only_user(self, value: Value) -> Node | None:
        """The one node that reads `value`, once, where nobody else does."""
        if len(value.uses) != 1:
            return None
        user, times = next(iter(value.uses.items()))
        return user if isinstance(user, Node) and times == 1 else None

    def repeatable(self, node: Node) -> bool:
        """Whether a node gives the same answer whenever it is given the same inputs."""
        if node.op_type in RANDOM:
            return False
        if node.op_type == "Dropout":
            if self.version(node) < 7:
                return bool(node.attr("is_test", 0))
            training = node.inputs[2] if len(node.inputs) > 2 else None
            return training is None or self.scalar(training) is False
        return all(self.repeatable(n) for g in node.subgraphs() for n in g.nodes)

    # Making

    def constant(self, values: Any, dtype: DType | None = None) -> Value:
        """A constant of the main graph, from an array or a tensor. Small ones are made once."""
        tensor = values if isinstance(values, Tensor) else Tensor.of(values, dtype=dtype)
        key = None
        if tensor.dtype is not dtypes.STRING and tensor.nbytes <= _SHARED_BYTES:
            key = (tensor.dtype, tensor.shape, tensor.numpy().tobytes())
            found = self._shared.get(key)
            if found is not None and found.owner is self.model.graph:
                return found
        made = self.edit.add_initializer(self.model.graph, tensor)
        self._new[made] = Fact.of(tensor)
        if key is not None:
            self._shared[key] = made
        return made

    def op(self, op_type: str, *inputs: Any, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """A new node in front of the one that the rule looks at; its output, or a tuple where there are more.

        Inputs may be values, None for one left out, arrays, lists of integers (an int64 vector), or Python numbers,
        which take the type of the first input that is a value. Attributes that are None are not written.

        Raises:
            Refused: the node does not fit.
        """
        from .terms import plain

        given = [plain(x) for x in inputs]
        while given and given[-1] is None:
            given.pop()
        first = next((x for x in given if isinstance(x, Value)), None)
        values = [x if x is None or isinstance(x, Value) else self._operand(x, first) for x in given]
        operator = find(domain, op_type)
        assert operator is not None, f"a rule makes {domain}.{op_type}, which is no operator"
        schema = operator.schema(NEWEST_OPSETS.get(domain, 1 << 30))
        assert schema is not None
        if self.own:
            schema = self._own_schema(operator, schema, attributes)
        written = {}
        for name, value in attributes.items():
            if value is not None:
                formal = schema.attributes.get(name)
                assert formal is not None, f"{op_type} has no attribute {name}"
                written[name] = as_attribute(value, formal.kind_code)
        node = Node(op_type, (), outputs, written, domain=domain)
        if not self.own:
            self.opsets[node] = NEWEST_OPSETS
        self._put(node, values)
        return node.outputs[0] if outputs == 1 else node.outputs

    def _own_schema(self, operator: Operator, newest: Schema, attributes: Mapping[str, Any]) -> Schema:
        """The operator as the model's own opset has it, where that means the same as the newest.

        Raises:
            Refused: it does not, or it is not there.
        """
        schema = operator.schema(self.model.opsets.get(operator.domain, 0))
        if schema is None or not operator.widens(schema.version, newest.version) or \
                any(v is not None and k not in schema.attributes for k, v in attributes.items()):
            raise Refused(f"{operator.name} cannot be said so in the model's opset")
        return schema

    def again(self, node: Node, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None) -> Node:
        """A copy of a node of the same version on other inputs, `attributes` written over its own, put as `op` does."""
        assert not any(True for _ in node.subgraphs())
        copy = Node(node.op_type, (), [None if o is None else Value() for o in node.outputs],
                    {**node.attributes, **(attributes or {})}, domain=node.domain, overload=node.overload)
        if node in self.opsets:
            self.opsets[copy] = self.opsets[node]
        self._put(copy, inputs)
        return copy

    def _put(self, node: Node, inputs: Sequence[Value | None]) -> None:
        assert self.at is not None
        if self.at.metadata and not node.metadata:
            node.metadata = dict(self.at.metadata)
        self.edit.insert(node, before=self.at)
        # A step of its own: taking back an insertion alone would leave the node among its inputs' readers.
        self.edit.set_inputs(node, inputs)
        self.made.append(node)
        self._infer(node)

    def _operand(self, x: Any, like: Value | None) -> Value:
        if isinstance(x, (np.ndarray, np.generic, Tensor)):
            return self.constant(x)
        if isinstance(x, (list, tuple)):
            return self.constant(np.array(x, np.int64))
        assert isinstance(x, (int, float)), f"no operand: {x!r}"
        dtype = dtypes.FLOAT if like is None else self.dtype(like)
        return self.constant(np.asarray(x).astype(dtype.numpy), dtype)

    def _infer(self, node: Node) -> None:
        facts = [None if v is None else self.fact(v) for v in node.inputs]
        found = self.meaning(node)
        if found is None:
            raise Refused(f"{node.op_type} cannot be made here")
        try:
            outputs = infer_node(node, self.imports(node), facts, self.equalities.copy())
            self._folder.fold(node, found[0], found[1], facts, outputs)
        except GesherError as e:
            raise Refused(f"{node.op_type} does not fit: {e.what}") from None
        if self.own:
            misfit = next(types(node, found[1], [None if f is None else f.type for f in facts]), None)
            if misfit is not None:
                raise Refused(misfit.message)
        for value, fact in zip(node.outputs, outputs):
            if value is not None:
                self._new[value] = (fact or Fact(None, why="inference does not tell")).with_sizes(value.name)

    def learn(self, new: Value, old: Value) -> None:
        """`new` stands for `old` from now on: what is known of either is known of it."""
        a, b = self.fact(new), self.fact(old)
        if a.constant is None and (a._value is None or a._value.dtype == object) \
                and (b.constant is not None or b._value is not None or a.type is None):
            self._new[new] = b
        if new.type is None and old.type is not None and new.producer is not None:
            self.edit.set_type(new, old.type)

    def count(self, rule: str) -> None:
        """Note that a rule was applied."""
        self.rewrites += 1
        self.fired[rule] += 1

    def graphs(self) -> list[Graph]:
        return list(self.model.graphs())


def learn_from_broadcasts(graph: Graph, facts: Facts) -> None:
    """Let inference know what sizes must be where a run goes well.

    A table of 64 positions, cut to min(n, 64) rows and added to n rows of data, says that n is at most 64: for more
    rows the sum fails. So min(n, 64) is n wherever something comes out.
    """
    seen: set[Dim] = set()
    for node in graph.nodes:
        for o in node.outputs:
            fact = None if o is None else facts.first_found(o)
            for d in (fact.shape or ()) if fact is not None else ():
                if not isinstance(d, Dim) or d.op != "bcast" or d in seen:
                    continue
                seen.add(d)
                for m in d.args:
                    if isinstance(m, Dim) and m.op == "min" and len(m.args) == 2:
                        size, most = sorted(m.args, key=lambda x: isinstance(x, int))
                        if isinstance(most, int) and most >= 2 and size in d.args:
                            with suppress(Contradiction):
                                facts.equalities.unify(m, size, f"{node.place}: what is broadcast fits")


__all__ = ["NEWEST_OPSETS", "RANDOM", "Kind", "Refused", "Work"]
