"""A captured program, whole: what it cannot say is named at once, then node by node into a graph, then its trials."""

from __future__ import annotations

import operator
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from gesher.base.errors import GesherError, ModelError, UnsupportedError
from gesher.frontends.protocol import Exported, ExportOptions, Trial
from gesher.ir import Tensor, Value
from gesher.ops.build import Builder

from .capture import Captured, evaluating
from .sizes import Sizes
from .translation import Pair, Translation, dtype_of, name_of, shape_of
from .translators import find, speaks_complex

DEFAULT_OPSET = 20

# What only states a fact that capturing has made sure of, and computes nothing.
_ASSERTIONS = {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten._assert_async.msg",
               "aten.sym_constrain_range_for_size.default", "aten.sym_constrain_range.default", "_assert",
               "aten._linalg_check_errors.default"}


def translate(captured: Captured, options: ExportOptions) -> Exported:
    """The model of a captured program, and the trials that it must pass.

    Raises:
        UnsupportedError: some operators have no translator; all are named, with how often and where they stand.
    """
    program = captured.program
    _refuse_unknown(program, captured.title)
    b = Builder({"": options.opset or DEFAULT_OPSET}, captured.title)
    ranges = {}
    for symbol, r in program.range_constraints.items():
        ranges[str(symbol)] = (_limit(r.lower) or 0, _limit(r.upper))
    t = Translation(b, Sizes(b, captured.dims, ranges))
    values: dict[Any, Any] = {}
    inputs = _inputs(t, program, values, options)
    for node in program.graph.nodes:
        if node.op == "call_function":
            _node(t, node, values)
    names, results = _outputs(t, program, values, options)
    for name, value in zip(names, results):
        b.output(value, name)
    model = b.model(producer_name="gesher", metadata={"gesher.source": f"PyTorch {torch.__version__.split('+')[0]}"})
    trials = [] if captured.module is None and not captured.args and not captured.kwargs else \
        _trials(captured, t, inputs, names)
    return Exported(model, trials)


def _limit(bound: Any) -> int | None:
    """A bound of PyTorch's ranges as an int; None where it is infinite."""
    if not getattr(bound, "is_Integer", isinstance(bound, int)):
        return None
    n = int(bound)
    return None if abs(n) >= (1 << 62) else n


def _symbolic(node: Any) -> bool:
    """True for a node that only computes a size: PyTorch has worked it out."""
    return isinstance(node.meta.get("val"), (torch.SymInt, torch.SymBool, torch.SymFloat, int, float, bool))


def _asserts(node: Any) -> bool:
    """True for a node that computes nothing that anybody uses: it only states what must hold."""
    if name_of(node.target) == "with_effects":    # in an order that PyTorch keeps by tokens
        return name_of(node.args[1]) in _ASSERTIONS
    return name_of(node.target) in _ASSERTIONS


def _refuse_unknown(program: Any, title: str) -> None:
    unknown: Counter[str] = Counter()
    lines: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        name = name_of(node.target)
        if _asserts(node) or _symbolic(node) or find(node) is not None:
            continue
        name += " of complex numbers" if speaks_complex(node) else ""
        unknown[name] += 1
        lines.setdefault(name, _source_line(node))
    if unknown:
        told = "; ".join(f"{n} ({c} times{', first at ' + lines[n] if lines[n] else ''})"
                         for n, c in unknown.most_common())
        raise UnsupportedError(f"{title} uses operators that have no way to ONNX yet: {told}", who="torch")


def _source_line(node: Any) -> str:
    """`net.py:12`, where the node was made; without folders, which are the machine's own."""
    trace = node.meta.get("stack_trace") or ""
    found = re.findall(r'File "([^"]+)", line (\d+)', trace)
    if not found:
        return ""
    path, line = found[-1]
    return "{}:{}".format(path.replace("\\", "/").rpartition("/")[2], line)


def _inputs(t: Translation, program: Any, values: dict[Any, Any], options: ExportOptions) -> list[str]:
    """Make a value for every placeholder: inputs, and weights under their own names, tied ones once."""
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    wished = list(options.names.get("inputs") or [])
    made: dict[int, Value] = {}
    names: list[str] = []
    for spec in program.graph_signature.input_specs:
        kind = spec.kind.name
        node = placeholders.get(getattr(spec.arg, "name", ""))
        if node is None:
            continue
        fake = node.meta.get("val")
        if kind == "USER_INPUT":
            if not isinstance(fake, torch.Tensor):
                values[node] = fake
                continue
            name = wished[len(names)] if len(names) < len(wished) else node.name
            names.append(name)
            values[node] = t.b.input(name, dtype_of(fake.dtype), t.sizes.shape(shape_of(fake)))
            t.sizes.learn(values[node], fake.shape)
            continue
        if kind == "TOKEN":
            continue
        if kind not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            raise UnsupportedError(f"an input of kind {kind} has no way to ONNX yet", who="torch")
        tensor = program.state_dict.get(spec.target)
        if tensor is None:
            tensor = program.constants[spec.target]
        if not node.users:
            continue
        key = tensor.data_ptr() if tensor.numel() and tensor.is_contiguous() else id(tensor)
        tied = made.get(hash((key, tuple(tensor.shape), tensor.dtype)))
        if tied is None:
            tied = t.b.constant(_tensor(tensor), spec.target)
            made[hash((key, tuple(tensor.shape), tensor.dtype))] = tied
        values[node] = tied
    for spec in program.graph_signature.output_specs:
        if spec.kind.name in ("BUFFER_MUTATION", "USER_INPUT_MUTATION"):
            raise UnsupportedError(f"the module changes its {spec.kind.name.split('_')[0].lower()} '{spec.target}' "
                                   "while it runs, which has no way to ONNX yet", who="torch",
                                   advice="return the new value and take the old one as an input")
    return names


def _tensor(tensor: Any) -> Tensor:
    """A weight without a copy, where numpy knows its type; complex numbers as pairs."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    tensor = tensor.resolve_neg()
    dtype = dtype_of(tensor.dtype)
    if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz,
                        torch.float8_e5m2fnuz):
        bits = torch.int16 if tensor.dtype is torch.bfloat16 else torch.int8
        return Tensor.of(tensor.contiguous().view(bits).numpy().view(dtype.numpy))
    return Tensor.of(tensor.cpu().numpy())


def _node(t: Translation, node: Any, values: dict[Any, Any]) -> None:
    if node.target is operator.getitem:
        values[node] = values[node.args[0]][node.args[1]] if node.args[0] in values else None
        return
    name = name_of(node.target)
    if _asserts(node):
        return
    fake = node.meta.get("val")
    if _symbolic(node):
        if name in ("aten.item.default", "aten._local_scalar_dense.default") and not isinstance(fake, (int, float)):
            t.sizes.learn_number(values[node.args[0]], fake)
        values[node] = fake
        return

    pairs = speaks_complex(node)
    t.fakes = []

    def argument(x: Any) -> Any:
        if isinstance(x, torch.fx.Node):
            told = x.meta.get("val")
            t.fakes.append(told)
            x = values[x]
            if pairs and isinstance(told, torch.Tensor) and told.is_complex():
                return Pair(x)
        if isinstance(x, torch.SymInt):
            return t.sizes.dim(x)
        if isinstance(x, (torch.SymFloat, torch.SymBool)):
            raise UnsupportedError(f"{name} takes a number that is known only when running", who="torch",
                                   place=(_source_line(node),) if _source_line(node) else ())
        return [argument(v) for v in x] if isinstance(x, (list, tuple)) else x

    positional, keywords = [], {}
    for i, a in enumerate(node.target._schema.arguments):
        given = i < len(node.args) or a.name in node.kwargs
        raw = node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
        if a.kwarg_only:
            if given:
                keywords[a.name] = argument(raw)
        else:
            positional.append(argument(raw))
    t.out, t.target = fake, name
    before = t.b.graph.last
    translator = find(node)
    assert translator is not None, name
    try:
        made = translator(t, *positional, **keywords)
    except GesherError as e:
        where = _module_path(node)
        raise e.within(*(p for p in (where, name, _source_line(node)) if p)) from None
    _name_new_nodes(t, before, node)
    if pairs:
        made = made.value if isinstance(made, Pair) else [v.value if isinstance(v, Pair) else v for v in made] \
            if isinstance(made, (list, tuple)) else made
    values[node] = made
    fakes = fake if isinstance(fake, (list, tuple)) else [fake]
    for v, f in zip(made if isinstance(made, (list, tuple)) else [made], fakes):
        if isinstance(v, Value) and isinstance(f, torch.Tensor):
            _agree(t, v, f, name)
            t.sizes.learn(v, f.shape)


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
    path = entries[-1] if entries else ""
    return re.sub(r"^L\['self'\]\.?", "", path)


def _name_new_nodes(t: Translation, before: Any, node: Any) -> None:
    """Say in each new node which module it came from, in at most 100 bytes."""
    path = _module_path(node)
    new = t.b.graph.first if before is None else before.next
    while new is not None:
        if path:
            new.metadata = {"module": path.encode()[-100:].decode("utf-8", "ignore")}
        new = new.next


def _outputs(t: Translation, program: Any, values: dict[Any, Any], options: ExportOptions
             ) -> tuple[list[str], list[Value]]:
    """What the program gives out, named after the fields that the module returns."""
    specs = [s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    nodes = {n.name: n for n in program.graph.nodes}
    results: list[Value] = []
    kept: list[int] = []
    for i, spec in enumerate(specs):
        node = nodes.get(getattr(spec.arg, "name", None))
        value = values.get(node) if node is not None else None
        if isinstance(value, torch.SymInt):
            value = t.value(t.sizes.dim(value))
        if isinstance(value, Value):
            results.append(value)
            kept.append(i)
    wished = options.names.get("outputs")
    if wished:
        if len(wished) != len(results):
            raise UnsupportedError(f"{len(wished)} names for {len(results)} outputs", who="torch")
        return list(wished), results
    spec = program.call_spec.out_spec
    paths = [p for p, _ in pytree.tree_flatten_with_path(pytree.tree_unflatten(list(range(len(specs))), spec))[0]]
    taken = {v.name for v in t.b.graph.inputs}
    names = []
    for i in kept:
        parts = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in paths[i]]
        named = [p for p in parts if not p.isdigit()]
        name = ".".join(parts) if named else "output" if len(kept) == 1 else f"output_{'_'.join(parts)}"
        while name in taken:
            name += "_out"
        taken.add(name)
        names.append(name)
    return names, results


# Trials

def _trials(captured: Captured, t: Translation, inputs: list[str], outputs: list[str]) -> list[Trial]:
    """The example itself, and where dims are free, a batch of one and another size, drawn to look like the example."""
    flat = pytree.tree_leaves((captured.args, captured.kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    trials = [_trial("example", captured, tensors, inputs, outputs)]
    symbols = sorted({s for _, _, s in captured.free})
    if not symbols or captured.module is None:
        return trials
    users = [i for i, x in enumerate(flat) if isinstance(x, torch.Tensor)]
    for title, size_of in (("every free dim 1", lambda n: 1), ("larger", lambda n: n + 3)):
        sizes: dict[str, int] = {}
        for i, axis, symbol in captured.free:
            low, high = t.sizes.ranges.get(symbol, (0, None))
            wanted = max(size_of(int(flat[i].shape[axis])), low)
            sizes.setdefault(symbol, wanted if high is None else min(wanted, high))
        grown = list(tensors)
        for i, axis, symbol in captured.free:
            j = users.index(i)
            grown[j] = _resized(grown[j], axis, sizes[symbol])
        try:
            trials.append(_trial(title, captured, grown, inputs, outputs))
        except Exception as e:
            # The module itself may not take such a size (a pool that leaves nothing of a picture of one pixel).
            warnings.warn(f"the trial '{title}' is left out: the module does not take these sizes "
                          f"({type(e).__name__}: {str(e).splitlines()[0][:120]})", stacklevel=2)
    return trials


def _resized(x: Any, axis: int, size: int) -> Any:
    """`x` with one axis longer or shorter, filled with shuffled pieces of itself so that its values stay plausible."""
    generator = torch.Generator().manual_seed(size)
    index = torch.randint(0, max(x.shape[axis], 1), (size,), generator=generator) if x.shape[axis] else \
        torch.zeros(0, dtype=torch.long)
    return x.index_select(axis, index)


def _trial(title: str, captured: Captured, tensors: list[Any], inputs: list[str], outputs: list[str]) -> Trial:
    leaves, spec = pytree.tree_flatten((captured.args, captured.kwargs))
    replaced = iter(tensors)
    args, kwargs = pytree.tree_unflatten([next(replaced) if isinstance(x, torch.Tensor) else x for x in leaves], spec)
    feeds = {name: _array(x) for name, x in zip(inputs, tensors)}
    with torch.no_grad(), _plain_attention():
        if captured.module is None:
            answer = captured.program.module()(*args, **kwargs)
        else:
            with evaluating(captured.module):
                # Copies: a module that writes to its inputs must not change what we feed.
                args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
                answer = captured.module(*args, **kwargs)
    flat = [x for x in pytree.tree_leaves(answer) if isinstance(x, torch.Tensor)]
    return Trial(title, feeds, {name: _array(x) for name, x in zip(outputs, flat)})


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without PyTorch's fast path for encoders, which torch.export does not capture.

    It leaves zeros in padded places, where the plain path computes numbers that nobody shall read.
    """
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def _array(x: Any) -> np.ndarray[Any, Any]:
    return np.asarray(_tensor(x).numpy())
