"""A captured program, whole: node by node into a graph, everything that it cannot say named at once; then its trials.

What cannot cross does not stop the walk: the result of such a node becomes an input that nobody sees, so that the error
at the end names all of them, with how often and where they stand. Then the graph is thrown away.
"""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gesher.base.errors import GesherError, ModelError, UnsupportedError
from gesher.frontends.older import OlderBuilder
from gesher.frontends.protocol import Exported, ExportOptions, declare
from gesher.ir import Model, Value
from gesher.optimizer import for_export
from gesher.symbolic import Dim, substitute, sym

from .capture import Captured, capturing
from .functionalising import changed_with, mutated, traced_again
from .opsets import DEFAULT_OPSET, fitting
from .preconditions import relation
from .sizes import Sizes
from .translation import Pair, Translation, dtype_of, name_of, shape_of
from .translators import find, speaks_complex
from .trials import Located, locate, trials
from .weights import as_tensor

# What only states a fact that capturing has made sure of, and computes nothing.
_ASSERTIONS = {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten._assert_async.msg",
               "aten._assert_async.default", "aten.sym_constrain_range_for_size.default",
               "aten.sym_constrain_range.default", "_assert", "aten._linalg_check_errors.default"}
_ITEMS = ("aten.item.default", "aten._local_scalar_dense.default")
# Names of nodes say the module, in so many bytes at the most; the longest operator's name and a number follow.
_PATH_BYTES = 64


def translate(captured: Captured, options: ExportOptions) -> Exported:
    """The model of a captured program, and the trials that it must pass.

    Raises:
        UnsupportedError: some operators have no way to ONNX; all are named, with how often and where they stand.
    """
    opset = options.opset or DEFAULT_OPSET
    try:
        walk, model = _walked(captured, options, opset)
    except UnsupportedError:
        with capturing():
            traced = traced_again(captured.program)
        if traced is captured.program:
            raise
        # Taken apart by PyTorch, what has no way whole may have one.
        captured.program = traced
        walk, model = _walked(captured, options, opset)
    if options.opset is None and (older := fitting(model)) < DEFAULT_OPSET:
        walk, model = _walked(captured, options, older)
    for_export(model, walk.parameters, fold=bool(options.settings.get("fold", True)))
    assumptions = [c.assumption for c in captured.conditions]
    declare(model, assumptions)
    made = trials(captured, walk.inputs, walk.kept, walk.states) if options.verify else []
    drawn = _drawn(model)
    if drawn:
        # Two runs of PyTorch itself do not agree in these: their types and shapes are all that can be held.
        made = [replace(trial, atol={**trial.atol, **dict.fromkeys(drawn, math.inf)}) for trial in made]
    return Exported(model, made, assumptions, lambda trial: locate(captured, walk.located, model, trial),
                    _ambiguous(captured.program.graph))


def _walked(captured: Captured, options: ExportOptions, opset: int) -> tuple[_Walk, Model]:
    """The program walked, and the model that came of it, in one opset."""
    b = OlderBuilder({"": opset}, captured.title)
    # Within the sizes that were asked for, more is known of them: that none is 0, above all.
    within = {sym(n): sym(n, min=low, max=high) for n, (low, high) in captured.asked.ranges.items()}
    equal = [(substitute(x, within), substitute(y, within)) for x, y in
             (c.equal for c in captured.conditions if c.equal is not None) if _simpler(x, y)]
    t = Translation(b, Sizes(b, {s: substitute(d, within) for s, d in captured.dims.items()}, equal))
    walk = _Walk(t, captured, options)
    return walk, walk.model()


_DRAW = ("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike", "Bernoulli", "Multinomial")


def _drawn(model: Model) -> list[str]:
    """The outputs that hang on numbers drawn anew at every run."""
    tainted: set[Value] = set()

    def walk(graph: Any) -> bool:
        some = False
        for node in graph.nodes:
            inner = [walk(g) for g in node.subgraphs()]
            draws = node.op_type in _DRAW or (node.op_type == "Dropout" and len(node.inputs) > 2)
            if draws or any(inner) or any(v in tainted for v in node.inputs if v is not None):
                tainted.update(o for o in node.outputs if o is not None)
                some = True
        return some

    walk(model.graph)
    return [v.name for v in model.graph.outputs if v in tainted]


# Which of their results are vectors.
_BASES = {"aten._linalg_eigh.default": (1,), "aten.linalg_eigh.default": (1,), "aten._linalg_svd.default": (0, 2),
          "aten.linalg_svd.default": (0, 2)}


def _ambiguous(graph: Any) -> str:
    """Where a graph goes on with vectors that have no one right answer."""
    for node in graph.nodes:
        places = _BASES.get(name_of(node.target), ()) if node.op == "call_function" else ()
        if any(user.target is operator.getitem and user.args[1] in places and user.users for user in node.users):
            at = source_line(node)
            return (f"it hangs on the vectors of {name_of(node.target)}{f' ({at})' if at else ''}, which are fixed up "
                    "to their signs only, and up to a rotation where values are equal; the exported model's are right "
                    "ones, but not those that PyTorch's LAPACK picks")
    return ""


def _simpler(a: Any, b: Any) -> bool:
    """True where `b` is the lesser expression of the two."""
    return len(str(b)) < len(str(a))


class _Walk:
    """The walk over one program, and what it found."""

    def __init__(self, t: Translation, captured: Captured, options: ExportOptions):
        self.t, self.captured, self.program = t, captured, captured.program
        self.inputs = list(options.names.get("inputs") or captured.inputs)
        self.outputs = list(options.names.get("outputs") or captured.outputs)
        if len(self.inputs) != len(captured.inputs):
            raise UnsupportedError(f"{len(self.inputs)} names for {len(captured.inputs)} inputs", who="torch",
                                   advice="the inputs are " + ", ".join(captured.inputs))
        if len(self.outputs) != len(captured.outputs):
            raise UnsupportedError(f"{len(self.outputs)} names for {len(captured.outputs)} outputs", who="torch",
                                   advice="the outputs are " + ", ".join(captured.outputs))
        # What the module changes while it runs: (name of the input or "", name of the output, where it is kept).
        self.states: list[tuple[str, str, str]] = []
        self.kept: list[tuple[str, str]] = []
        self.located: list[Located] = []
        self.parameters: list[Value] = []
        self.refused: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.line = ""
        t.body, t.assume = self._body, self._assume

    def model(self) -> Model:
        values: dict[Any, Any] = {}
        self._placeholders(values)
        try:
            self._nodes(self.t, self.program.graph, values)
        except GesherError:
            if not self.refused:    # else it may only follow from what stands in for what was refused
                raise
        if self.refused:
            told = "; ".join(f"{n} ({c} times{self.reasons[n]})" for n, c in self.refused.most_common())
            raise UnsupportedError(f"{self.captured.title} uses operators that have no way to ONNX yet: {told}",
                                   who="torch")
        self._results(values)
        return self.t.b.model(producer_name="gesher",
                              metadata={"gesher.source": f"PyTorch {torch.__version__.split('+')[0]}"})

    # Inputs and weights

    def _placeholders(self, values: dict[Any, Any]) -> None:
        """A value for every placeholder: inputs first, then weights under their own names, tied ones once."""
        placeholders = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        specs = [(s, placeholders.get(getattr(s.arg, "name", ""))) for s in self.program.graph_signature.input_specs]
        names = iter(self.inputs)
        for spec, node in specs:
            if spec.kind.name == "USER_INPUT" and node is not None:
                fake = node.meta.get("val")
                values[node] = self._input(next(names), fake) if isinstance(fake, torch.Tensor) else fake
        mutated = {s.target: s for s in self.program.graph_signature.output_specs if s.kind.name == "BUFFER_MUTATION"}
        reserved = {*self.outputs}
        tied: dict[Any, Value] = {}
        for spec, node in specs:
            kind = spec.kind.name
            if kind in ("USER_INPUT", "TOKEN") or node is None or (not node.users and spec.target not in mutated):
                continue
            if kind not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                raise UnsupportedError(f"an input of kind {kind} has no way to ONNX yet", who="torch")
            name = _qualified(spec.target)
            name = f"{name}.weight" if name in reserved else name
            if spec.target in mutated:
                values[node] = self._input(name, node.meta["val"])
                self.states.append((name, f"{name}_out", name))
                continue
            tensor = self.program.state_dict.get(spec.target)
            values[node] = self._weight(self.program.constants[spec.target] if tensor is None else tensor, name, tied)
            if kind == "PARAMETER":
                self.parameters.append(values[node])

    def _input(self, name: str, fake: Any) -> Value:
        v = self.t.b.input(name, dtype_of(fake.dtype), self.t.sizes.shape(shape_of(fake)))
        self.t.sizes.learn(v, fake.shape)
        return v

    def _weight(self, tensor: Any, name: str, tied: dict[Any, Value]) -> Value:
        place = tensor.data_ptr() if tensor.numel() and tensor.is_contiguous() else id(tensor)
        key = (place, tuple(tensor.shape), tensor.dtype)
        if key not in tied:
            tied[key] = self.t.b.constant(as_tensor(tensor), name)
        return tied[key]

    # Nodes

    def _nodes(self, t: Translation, graph: Any, values: dict[Any, Any]) -> None:
        live = _live(graph)
        for node in graph.nodes:
            if node.op == "call_function" and node in live:
                self._node(t, node, values)
            elif node.op == "get_attr":
                values[node] = _attribute(graph.owning_module, node.target)
                if isinstance(values[node], torch.Tensor):
                    values[node] = t.b.constant(as_tensor(values[node]), str(node.target).rpartition(".")[2])

    def _node(self, t: Translation, node: Any, values: dict[Any, Any]) -> None:
        name = name_of(node.target)
        if node.target is operator.getitem:
            of = values.get(node.args[0])
            values[node] = of[node.args[1]] if of is not None else node.meta.get("val")
            return
        if _asserts(node):
            return
        fake = node.meta.get("val")
        if isinstance(fake, (torch.SymInt, torch.SymBool, torch.SymFloat, int, float, bool)):
            # A size: PyTorch has worked it out.
            if name in _ITEMS and isinstance(values.get(node.args[0]), Value):
                t.sizes.learn_number(values[node.args[0]], fake)
            values[node] = fake
            return
        path = _module_path(node)
        t.b.scope = path.encode()[-_PATH_BYTES:].decode("utf-8", "ignore")
        before, self.line = t.b.graph.last, source_line(node)
        try:
            made = self._translated(t, node, name, values)
        except UnsupportedError as e:
            unknown = isinstance(e, _UnknownError)
            self._refuse(node, e.what if unknown else name, "" if unknown else e.what)
            made = self._stand_in(t, fake)
        except GesherError as e:
            raise e.within(*(p for p in (path, name, source_line(node)) if p)) from None
        finally:
            t.b.scope = ""
        if isinstance(made, Value):
            for changed in changed_with(node):
                made = values[changed] = t.cast(made, t.dtype(values[changed]))
        _say_module(t, before, path)
        values[node] = made
        fakes = fake if isinstance(fake, (list, tuple)) else [fake]
        for v, f in zip(made if isinstance(made, (list, tuple)) else [made], fakes):
            if isinstance(v, Value) and isinstance(f, torch.Tensor):
                _agree(t, v, f, name)
                t.sizes.learn(v, f.shape)
        if t is self.t:
            self.located.append(Located(node, made, path, name, source_line(node)))

    def _translated(self, t: Translation, node: Any, name: str, values: dict[Any, Any]) -> Any:
        changes = mutated(node)
        name = changes[0] if changes is not None else name
        translator = find(node, name)
        if translator is None:
            raise _UnknownError(name + (" of complex numbers" if speaks_complex(node) else ""))
        pairs = speaks_complex(node)
        t.fakes = []
        positional, keywords = self._arguments(t, node, values, pairs)
        t.out, t.target = node.meta.get("val"), name
        made = translator(t, *positional, **keywords)
        if pairs:
            made = made.value if isinstance(made, Pair) else [v.value if isinstance(v, Pair) else v for v in made] \
                if isinstance(made, (list, tuple)) else made
        return made

    def _arguments(self, t: Translation, node: Any, values: dict[Any, Any], pairs: bool
                   ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as translators take them, defaults filled in."""
        def argument(x: Any) -> Any:
            if isinstance(x, torch.fx.Node):
                told = x.meta.get("val")
                t.fakes.append(told)
                x = values[x]
                if x is None and isinstance(told, torch.Tensor):
                    raise UnsupportedError("it takes a result that ONNX's operator does not give", who="torch")
                if pairs and isinstance(told, torch.Tensor) and told.is_complex():
                    return Pair(x)
            if isinstance(x, torch.SymInt):
                return t.sizes.dim(x)
            if isinstance(x, torch.SymFloat):
                return t.b.Squeeze(t.b.Cast(t.sizes.number(x.node.expr), to=1), t.ints([0]))
            return [argument(v) for v in x] if isinstance(x, (list, tuple)) else x

        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return [argument(a) for a in node.args], {k: argument(a) for k, a in node.kwargs.items()}
        positional, keywords = [], {}
        for i, a in enumerate(node.target._schema.arguments):
            given = i < len(node.args) or a.name in node.kwargs
            raw = node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
            if not a.kwarg_only:
                positional.append(argument(raw))
            elif given:
                keywords[a.name] = argument(raw)
        return positional, keywords

    def _body(self, t: Translation, graph: Any, operands: Sequence[Any]) -> list[Any]:
        """Translate an inner graph of PyTorch's around these operands; what it gives."""
        values: dict[Any, Any] = {}
        for node, operand in zip((n for n in graph.graph.nodes if n.op == "placeholder"), operands):
            values[node] = operand
            fake = node.meta.get("val")
            if isinstance(operand, Value) and isinstance(fake, torch.Tensor):
                t.sizes.learn(operand, fake.shape)
        out, target, fakes, scope = t.out, t.target, t.fakes, t.b.scope
        self._nodes(t, graph.graph, values)
        t.out, t.target, t.fakes, t.b.scope = out, target, fakes, scope
        output = next(n for n in graph.graph.nodes if n.op == "output").args[0]
        return [values[x] if isinstance(x, torch.fx.Node) else x
                for x in (output if isinstance(output, (list, tuple)) else [output])]

    def _assume(self, op: str, a: Any, b: Any) -> None:
        # As guards have it, whose sizes have no bounds.
        a, b = ((substitute(x, {s: sym(s.name) for s in x.symbols()}) if isinstance(x, Dim) else x) for x in (a, b))
        made = relation(op, a, b, self.line)
        known = [c.text for c in self.captured.conditions]
        if made is not None and made.text not in known and not (op == "!=" and f"{a} > {b}" in known):
            self.captured.conditions.append(made)

    def _refuse(self, node: Any, name: str, why: str) -> None:
        line = source_line(node)
        self.refused[name] += 1
        if name not in self.reasons:
            self.reasons[name] = (f", first at {line}" if line else "") + (f": {why}" if why else "")

    def _stand_in(self, t: Translation, fake: Any) -> Any:
        if isinstance(fake, (list, tuple)):
            return [self._stand_in(t, f) for f in fake]
        if not isinstance(fake, torch.Tensor):
            return fake
        # An inner graph cannot have inputs of its own here; the outermost is thrown away as well.
        return self.t.b.input(f"refused_{self.refused.total()}_{len(self.t.b.graph.inputs)}", dtype_of(fake.dtype),
                              t.sizes.shape(shape_of(fake)))

    # Results

    def _results(self, values: dict[Any, Any]) -> None:
        t, nodes = self.t, {n.name: n for n in self.program.graph.nodes}
        users = {s.arg.name: name for s, name in zip(
            (s for s in self.program.graph_signature.input_specs
             if s.kind.name == "USER_INPUT" and isinstance(nodes[s.arg.name].meta.get("val"), torch.Tensor)),
            self.inputs)}
        names = iter(zip(self.captured.outputs, self.outputs))
        states: list[tuple[Any, str]] = []
        for spec in self.program.graph_signature.output_specs:
            value = values.get(nodes.get(getattr(spec.arg, "name", None)))
            if spec.kind.name == "USER_OUTPUT":
                own, name = next(names)
                if isinstance(value, torch.SymInt):
                    value = t.value(t.sizes.dim(value))
                if isinstance(value, Value):
                    t.b.output(value, name)
                    self.kept.append((own, name))
                elif value is None and isinstance(nodes[spec.arg.name].meta.get("val"), torch.Tensor):
                    raise UnsupportedError(f"the output '{name}' is a result that ONNX's operator does not give",
                                           who="torch")
            elif spec.kind.name == "BUFFER_MUTATION":
                states.append((value, f"{_qualified(spec.target)}_out"))
            elif spec.kind.name == "USER_INPUT_MUTATION":
                name = users[spec.target]
                states.append((value, f"{name}_out"))
                self.states.append((name, f"{name}_out", ""))
            elif spec.kind.name != "TOKEN":
                raise UnsupportedError(f"an output of kind {spec.kind.name} has no way to ONNX yet", who="torch")
        for value, name in states:
            t.b.output(value, name)
        if not self.kept and not states:
            raise UnsupportedError(f"{self.captured.title} gives out no tensor", who="torch")


class _UnknownError(UnsupportedError):
    """An operator without a translator: its name says it all."""


def _live(graph: Any) -> set[Any]:
    """The nodes that the results of a graph hang on, those that change or state something included."""
    live: set[Any] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in live or (node.op == "call_function" and node.is_impure()):
            live.add(node)
            live.update(node.all_input_nodes)
    return live


def _asserts(node: Any) -> bool:
    """True for a node that computes nothing that anybody uses: it only states what must hold."""
    if name_of(node.target) == "higher_order.with_effects":    # in an order that PyTorch keeps by tokens
        return name_of(node.args[1]) in _ASSERTIONS
    return name_of(node.target) in _ASSERTIONS


def _qualified(target: str) -> str:
    """The module's own name of a weight: what is captured is a shell around the module."""
    return target.removeprefix("module.")


def _attribute(module: Any, target: str) -> Any:
    for part in target.split("."):
        module = getattr(module, part)
    return module


def source_line(node: Any) -> str:
    """`net.py:12`, where the node was made; without folders, which are the machine's own."""
    trace = node.meta.get("stack_trace") or ""
    found = re.findall(r'File "([^"]+)", line (\d+)', trace)
    if not found:
        return ""
    path, line = found[-1]
    return "{}:{}".format(path.replace("\\", "/").rpartition("/")[2], line)


_OURS = "this is a fault of the export; please report it"


def _agree(t: Translation, v: Value, fake: Any, name: str) -> None:
    """Our inference must not contradict what PyTorch says of the same value."""
    dtype, shape = t.dtype(v), t.b.shape(v)
    if dtype is not dtype_of(fake.dtype):
        raise ModelError(f"{name} gives {dtype.name} where PyTorch gives {dtype_of(fake.dtype).name}",
                         rule="export-differs", place=(v.name,), advice=_OURS)
    if shape is None:
        return
    told = shape_of(fake)
    wrong = len(shape) != len(told) or any(isinstance(a, int) and isinstance(b, int) and a != b
                                           for a, b in zip(shape, told))
    if wrong:
        raise ModelError(f"{name} gives the shape {tuple(map(str, shape))} where PyTorch gives {tuple(fake.shape)}",
                         rule="export-differs", place=(v.name,), advice=_OURS)


def _module_path(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    entries = [path for path, _ in stack.values() if isinstance(path, str) and not path.startswith("_empty")]
    path = re.sub(r"^L\['self'\]\.?", "", entries[-1] if entries else "")
    return re.sub(r"^(_modules\[')?module('\])?(\.|$)", "", path)


def _say_module(t: Translation, before: Any, path: str) -> None:
    """Say in each new node which module it came from, in at most 100 bytes."""
    new = t.b.graph.first if before is None else before.next
    while new is not None:
        if path:
            new.metadata = {"module": path.encode()[-100:].decode("utf-8", "ignore")}
        new = new.next

